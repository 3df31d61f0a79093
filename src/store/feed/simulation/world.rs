//! A small world in one thread: virtual time, processes that can be stopped, a network that delays and loses, and
//! one source of chance for all of it. The same seed gives the same course of events.

use std::{
    any::Any,
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    future::Future,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use parking_lot::Mutex;

use crate::base::clock::{Monotonic, Ticks};

pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
type Event = Box<dyn FnOnce() + Send>;

/// A running program. It dies by losing its tasks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Process(pub u64);

/// Chance: SplitMix64.
pub(super) struct Chance(AtomicU64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub fn next(&self) -> u64 {
        let mut z =
            self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 … `below` - 1
    pub fn below(&self, below: u64) -> u64 {
        self.next() % below.max(1)
    }

    /// In so many of a thousand cases.
    pub fn often(&self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// Mostly near `least`, seldom up to `most`.
    pub fn time(&self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from(most.saturating_sub(least).as_nanos()).unwrap();
        let (a, b) = (self.below(span), self.below(span));
        least + Duration::from_nanos(if self.often(700) { a.min(b) / 4 } else { a })
    }
}

/// The world.
pub(super) struct World {
    pub chance: Chance,
    now: AtomicU64,
    queue: Mutex<Queue>,
    woken: Arc<Mutex<Vec<u64>>>,
    /// What is never answered is kept here, so that nobody sees it dropped.
    lost: Mutex<Vec<Box<dyn Any + Send>>>,
}

#[derive(Default)]
struct Queue {
    order: u64,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    what: BTreeMap<u64, Event>,
    tasks: BTreeMap<u64, (Process, Option<Task>)>,
    stopped: Vec<Process>,
    ready: Vec<u64>,
}

struct Waking {
    task: u64,
    woken: Arc<Mutex<Vec<u64>>>,
}

impl Wake for Waking {
    fn wake(self: Arc<Self>) {
        self.woken.lock().push(self.task);
    }
}

impl World {
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            chance: Chance::new(seed),
            now: AtomicU64::new(1_000_000_000),
            queue: Mutex::default(),
            woken: Arc::default(),
            lost: Mutex::default(),
        })
    }

    /// True time, in nanoseconds.
    pub fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// Lets `event` happen after `time`.
    pub fn after(&self, time: Duration, event: impl FnOnce() + Send + 'static) {
        let at = self.now() + u64::try_from(time.as_nanos()).unwrap();
        let mut queue = self.queue.lock();
        queue.order += 1;
        let order = queue.order;
        queue.events.push(Reverse((at, order)));
        queue.what.insert(order, Box::new(event));
    }

    /// Runs `task` in `process`.
    pub fn spawn(&self, process: Process, task: impl Future<Output = ()> + Send + 'static) {
        let mut queue = self.queue.lock();
        queue.order += 1;
        let id = queue.order;
        queue.tasks.insert(id, (process, Some(Box::pin(task))));
        queue.ready.push(id);
    }

    /// SIGSTOP: its clock goes on, its code does not.
    pub fn stop(&self, process: Process) {
        self.queue.lock().stopped.push(process);
    }

    /// SIGCONT
    pub fn go_on(&self, process: Process) {
        self.queue.lock().stopped.retain(|p| *p != process);
    }

    /// SIGKILL
    pub fn kill(&self, process: Process) {
        let dead: Vec<_> = {
            let mut queue = self.queue.lock();
            queue.stopped.retain(|p| *p != process);
            let ids: Vec<u64> =
                queue.tasks.iter().filter(|(_, (p, _))| *p == process).map(|(id, _)| *id).collect();
            ids.iter().filter_map(|id| queue.tasks.remove(id)).collect()
        };
        drop(dead);
    }

    /// Nobody will ever hear of this.
    pub fn lose(&self, what: impl Any + Send) {
        self.lost.lock().push(Box::new(what));
    }

    /// Runs until `end` (true time).
    pub fn run_until(&self, end: u64) {
        loop {
            if let Some((id, mut task)) = self.take_ready() {
                let waker = Waker::from(Arc::new(Waking { task: id, woken: Arc::clone(&self.woken) }));
                let polled = task.as_mut().poll(&mut Context::from_waker(&waker));
                let mut queue = self.queue.lock();
                match polled {
                    Poll::Ready(()) => drop(queue.tasks.remove(&id)),
                    Poll::Pending => {
                        if let Some((_, place)) = queue.tasks.get_mut(&id) {
                            *place = Some(task);
                        }
                    }
                }
                continue;
            }
            let event = {
                let mut queue = self.queue.lock();
                match queue.events.peek() {
                    Some(Reverse((at, _))) if *at <= end => {
                        let Reverse((at, order)) = queue.events.pop().unwrap();
                        self.now.store(at.max(self.now()), Ordering::Relaxed);
                        queue.what.remove(&order)
                    }
                    _ => break,
                }
            };
            if let Some(event) = event {
                event();
            }
        }
        self.now.store(end.max(self.now()), Ordering::Relaxed);
    }

    /// Any one of those that can go on.
    fn take_ready(&self) -> Option<(u64, Task)> {
        let mut queue = self.queue.lock();
        let queue = &mut *queue;
        queue.ready.append(&mut self.woken.lock());
        // Some parts wake in an order of their own chance.
        queue.ready.sort_unstable();
        queue.ready.dedup();
        queue.ready.retain(|id| queue.tasks.contains_key(id));
        let able: Vec<usize> = (0..queue.ready.len())
            .filter(|place| {
                let (process, task) = &queue.tasks[&queue.ready[*place]];
                task.is_some() && !queue.stopped.contains(process)
            })
            .collect();
        let chosen = *able.get(usize::try_from(self.chance.below(able.len() as u64)).unwrap())?;
        let id = queue.ready[chosen];
        queue.ready.retain(|other| *other != id);
        let task = queue.tasks.get_mut(&id)?.1.take()?;
        Some((id, task))
    }
}

/// A process's own clock: it starts anywhere and goes a little too fast or too slow.
pub(super) struct OwnClock {
    pub world: Weak<World>,
    pub offset: u64,
    /// In thousandths of true time.
    pub rate: u64,
}

impl Monotonic for OwnClock {
    fn ticks(&self) -> Ticks {
        let now = self.world.upgrade().map_or(0, |world| world.now());
        Ticks(self.offset + now / 1000 * self.rate)
    }

    fn sleep(&self, time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let world = self.world.upgrade();
        let time = Duration::from_nanos(u64::try_from(time.as_nanos()).unwrap() / self.rate * 1000);
        Box::pin(async move {
            let Some(world) = world else { return };
            let (wake, woken) = tokio::sync::oneshot::channel();
            world.after(time, move || {
                let _ = wake.send(());
            });
            drop(world);
            let _ = woken.await;
        })
    }
}

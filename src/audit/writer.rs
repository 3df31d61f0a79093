//! The one thread that writes: it owns sink and chain.
//!
//! A line is written at once, and a file brought to the disk before anybody who waits for that is answered: all that
//! wait at the same time share one `fdatasync`. What nobody waits for is on the disk within a second.
//!
//! When the sink fails, events go to the program's own log and are counted. The sink is tried again at the next event
//! and every second; the first line that it takes then says how many are missing from the chain, and since when.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    Meters,
    chain::Chain,
    event::{Entry, Own, own_entry},
    file,
    line::LineKey,
    resume::Leftover,
    sink::Sink,
};
use crate::base::{
    clock::{SharedClock, Stopwatch, UnixMillis},
    keyring::Keyring,
};

/// Who waits for a line.
pub(super) enum Ack {
    /// Nobody.
    None,
    /// Until it is written: the end of this process cannot lose it.
    Written(oneshot::Sender<()>),
    /// Until it is on the disk: the end of the machine cannot lose it.
    Durable(oneshot::Sender<()>),
}

/// What the writer is asked to do.
pub(super) enum Job {
    Line {
        entry: Entry,
        urgent: bool,
        ack: Ack,
    },
    Flush(SyncSender<()>),
    /// Something else has changed: look.
    Look,
    Rekey(Box<LineKey>),
    End,
}

/// What callers and writer both see.
#[derive(Default)]
pub(super) struct State {
    /// The sink does not work.
    pub failing: AtomicBool,
    /// Events that are in no line and have not been told of yet.
    pub lost: AtomicU64,
    /// The file has perhaps another name.
    pub reopen: AtomicBool,
}

/// What has to be written before any event.
pub(super) enum Step {
    Own(Own),
    Rekey(Box<LineKey>),
}

pub(super) struct Writer {
    sink: Sink,
    chain: Chain,
    clock: SharedClock,
    meters: Meters,
    state: Arc<State>,
    todo: VecDeque<Step>,
    leftover: Option<Leftover>,
    lost_since: UnixMillis,
    /// Written, but perhaps not on the disk.
    unsynced: bool,
    waiting: Vec<oneshot::Sender<()>>,
    tried_at: Stopwatch,
    checkpoint_at: Stopwatch,
    tidied_at: Option<Stopwatch>,
}

impl Writer {
    /// A writer of a chain that goes on with `todo`.
    pub fn new(
        (sink, chain): (Sink, Chain),
        todo: Vec<Step>,
        leftover: Option<Leftover>,
        clock: SharedClock,
        meters: Meters,
        state: Arc<State>,
    ) -> Self {
        Self {
            sink,
            chain,
            todo: todo.into(),
            leftover,
            lost_since: clock.now(),
            clock,
            meters,
            state,
            unsynced: false,
            waiting: Vec::new(),
            tried_at: Stopwatch::start(),
            checkpoint_at: Stopwatch::start(),
            tidied_at: None,
        }
    }

    /// Writes what a start has to say. A sink that does not take it is tried again later.
    pub fn begin(&mut self) {
        self.meters.failing.set(0);
        self.prepare();
        self.tidy();
        self.sync();
    }

    /// Works until it is told to end.
    pub fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let hurried = self.unsynced || self.is_failing();
            match jobs.recv_timeout(if hurried { SYNC_EVERY } else { LOOK_EVERY }) {
                Ok(job) => {
                    let mut job = Some(job);
                    let mut count: usize = 0;
                    while let Some(next) = job {
                        if !self.obey(next) {
                            return;
                        }
                        count = count.saturating_add(1);
                        job = if count < TOGETHER { jobs.try_recv().ok() } else { None };
                    }
                    if !self.waiting.is_empty() {
                        self.sync();
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.idle(),
                Err(RecvTimeoutError::Disconnected) => {
                    self.end();
                    return;
                }
            }
        }
    }

    /// Whether to go on.
    fn obey(&mut self, job: Job) -> bool {
        match job {
            Job::Line { entry, urgent, ack } => {
                if self.line(&entry) {
                    match ack {
                        Ack::None => {}
                        Ack::Written(told) => {
                            let _ = told.send(());
                        }
                        Ack::Durable(told) => self.waiting.push(told),
                    }
                    if urgent {
                        self.sync();
                    }
                }
            }
            Job::Flush(done) => {
                self.sync();
                let _ = done.send(());
            }
            Job::Look => {
                self.prepare();
            }
            Job::Rekey(key) => {
                self.change_key(key);
                self.prepare();
                self.sync();
            }
            Job::End => {
                self.end();
                return false;
            }
        }
        true
    }

    fn idle(&mut self) {
        self.sync();
        let is_open = self.chain.open() > 0 && self.checkpoint_at.elapsed() >= CHECKPOINT_EVERY;
        if is_open {
            self.checkpoint("time");
        }
        self.prepare();
        self.tidy();
        self.sync();
    }

    fn end(&mut self) {
        if self.prepare() {
            self.checkpoint("stopping");
            self.prepare();
        }
        self.sync();
    }

    /// One event. `false` when it was not written.
    fn line(&mut self, entry: &Entry) -> bool {
        if !self.prepare() {
            self.lose(entry, "the sink does not work");
            return false;
        }
        if let Err(error) = self.write(entry) {
            self.fail(&error);
            self.lose(entry, &error.to_string());
            return false;
        }
        if self.chain.open() >= CHECKPOINT_LINES {
            self.checkpoint("lines");
            self.prepare();
        }
        true
    }

    /// Makes the sink ready for the next event: rotates, tells of what has happened to it. `false` when it does not
    /// work.
    fn prepare(&mut self) -> bool {
        if self.is_failing() {
            if self.tried_at.elapsed() < TRY_EVERY {
                return false;
            }
            self.tried_at = Stopwatch::start();
        }
        self.look_at_file();
        let lost = self.state.lost.load(Ordering::Relaxed);
        let is_news = lost > 0 || self.is_failing();
        let at_start = self.chain.seq() == 0;
        if is_news && !at_start && !self.todo.iter().any(|s| matches!(s, Step::Own(Own::EventsLost { .. }))) {
            // After the first line of a new file: that one must be the first.
            let at = self
                .todo
                .iter()
                .take_while(|s| matches!(s, Step::Own(Own::FileOpened(_) | Own::ChainResumed)));
            let at = at.count();
            self.todo.insert(at, Step::Own(Own::EventsLost { lost: 0, since: self.lost_since }));
        }
        while let Some(step) = self.todo.pop_front() {
            match step {
                Step::Rekey(key) => self.chain.rekey(*key),
                Step::Own(own) => {
                    if let Err(error) = self.write_own(own) {
                        self.fail(&error);
                        return false;
                    }
                }
            }
        }
        if self.is_failing() {
            // What was taken may still not have reached the disk.
            if let Err(error) = self.sink.sync() {
                self.fail(&error);
                return false;
            }
            self.unsynced = false;
            self.state.failing.store(false, Ordering::Release);
            self.meters.failing.set(0);
            tracing::info!(seq = self.chain.seq(), "the audit sink works again");
        }
        true
    }

    /// Writes a line about the log itself; puts it back when it cannot be written.
    fn write_own(&mut self, own: Own) -> io::Result<()> {
        let told = match &own {
            Own::EventsLost { since, .. } => {
                let lost = self.state.lost.load(Ordering::Relaxed);
                Own::EventsLost { lost, since: *since }
            }
            other => other.clone(),
        };
        let torn = self.leftover.as_ref().and_then(Leftover::told);
        let entry = own_entry(&told, torn.as_ref(), self.clock.now());
        if let Err(error) = self.write(&entry) {
            self.todo.push_front(Step::Own(own));
            return Err(error);
        }
        match told {
            Own::EventsLost { lost, .. } => {
                self.state.lost.fetch_sub(lost, Ordering::Relaxed);
                self.lost_since = self.clock.now();
            }
            Own::Checkpoint(why) => {
                self.checkpoint_at = Stopwatch::start();
                self.sync();
                self.meters.checkpoint.set(i64::try_from(self.chain.seq()).unwrap_or(i64::MAX));
                // For a place that whoever can write the file cannot write: `audit verify --checkpoints` reads it.
                tracing::info!(checkpoint = self.chain.head(), why, "audit checkpoint");
            }
            _ => {}
        }
        Ok(())
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let next = self.chain.seal(entry);
        let closes = self.leftover.as_ref().is_some_and(|l| l.is_open);
        match self.sink.put(entry, &next.text, closes) {
            Ok(()) => {
                self.leftover = None;
                self.unsynced = true;
                self.chain.accept(&next);
                self.meters.sequence.set(i64::try_from(self.chain.seq()).unwrap_or(i64::MAX));
                Ok(())
            }
            Err(broken) => {
                let text = [if closes { "\n" } else { "" }, &next.text, "\n"].concat();
                if let Some(left) = text.as_bytes().get(..broken.left).filter(|left| !left.is_empty()) {
                    let left = left.strip_prefix(b"\n").filter(|_| closes).unwrap_or(left);
                    self.leftover.get_or_insert_default().add(left);
                }
                Err(broken.error)
            }
        }
    }

    fn checkpoint(&mut self, why: &'static str) {
        self.todo.push_back(Step::Own(Own::Checkpoint(why)));
    }

    fn change_key(&mut self, key: Box<LineKey>) {
        if key.id() == self.chain.key().id() {
            return;
        }
        self.todo.extend(key_change(&self.chain, key));
    }

    /// Rotates when it is time, follows a rotation by others, and sees what was done to the file.
    fn look_at_file(&mut self) {
        let Sink::File(file, _) = &mut self.sink else { return };
        match file.event() {
            Some(file::Event::Truncated) => {
                tracing::error!("the audit file was truncated: lines that nobody copied before are gone");
                file.forgive();
                self.leftover = None;
                self.todo.push_front(Step::Own(Own::FileOpened("truncated")));
            }
            Some(file::Event::Removed) => {
                tracing::error!("the audit file was deleted");
                self.opened("removed");
            }
            None => {}
        }
        let Sink::File(file, _) = &self.sink else { return };
        if self.state.reopen.swap(false, Ordering::AcqRel) && file.is_renamed() {
            self.close_file();
            self.opened("reopened");
        }
        let Sink::File(file, _) = &self.sink else { return };
        if file.is_due() && !self.is_failing() {
            let number = self.chain.seq().saturating_add(1);
            match file.rename(number) {
                Ok(()) => {
                    self.close_file();
                    self.opened("rotation");
                    self.tidied_at = None;
                }
                Err(error) => tracing::error!(%error, "the audit file could not be rotated"),
            }
        }
    }

    /// The last line of a file that has been renamed.
    fn close_file(&mut self) {
        if let Err(error) = self.write_own(Own::Checkpoint("rotation")) {
            self.todo.pop_front();
            tracing::error!(%error, "a rotated audit file has no last checkpoint");
        }
    }

    /// Opens the file of our name anew.
    fn opened(&mut self, why: &'static str) {
        let Sink::File(file, _) = &mut self.sink else { return };
        match file.reopen() {
            Ok(()) => {
                self.leftover = None;
                // A chain that has not begun yet begins there.
                if self.chain.seq() > 0 {
                    self.todo.push_front(Step::Own(Own::FileOpened(why)));
                }
            }
            // The old one is still open: nothing is lost, but nobody looks there.
            Err(error) => tracing::error!(%error, "the audit file could not be opened again"),
        }
    }

    /// Deletes what retention lets go of.
    fn tidy(&mut self) {
        if self.is_failing() || self.tidied_at.is_some_and(|at| at.elapsed() < TIDY_EVERY) {
            return;
        }
        self.tidied_at = Some(Stopwatch::start());
        let Sink::File(file, _) = &self.sink else { return };
        for (path, last_seq) in file.outlived() {
            match std::fs::remove_file(&path) {
                Ok(()) => {
                    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    self.todo.push_back(Step::Own(Own::FileRemoved { file, last_seq }));
                }
                Err(error) => tracing::error!(%error, path = %path.display(), "a rotated audit file stays"),
            }
        }
        self.prepare();
    }

    fn sync(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        if self.unsynced {
            self.unsynced = false;
            if let Err(error) = self.sink.sync() {
                // Whoever waits is told by the drop of what they wait for.
                self.fail(&error);
                return;
            }
        }
        for told in waiting {
            let _ = told.send(());
        }
    }

    fn is_failing(&self) -> bool {
        self.state.failing.load(Ordering::Acquire)
    }

    fn fail(&mut self, error: &io::Error) {
        self.tried_at = Stopwatch::start();
        self.waiting.clear();
        if !self.state.failing.swap(true, Ordering::AcqRel) {
            if self.state.lost.load(Ordering::Relaxed) == 0 {
                self.lost_since = self.clock.now();
            }
            self.meters.failing.set(1);
            tracing::error!(%error, "the audit sink does not work");
        }
    }

    fn lose(&mut self, entry: &Entry, why: &str) {
        self.meters.lose(&self.state, entry, why);
    }
}

/// The steps from one key to the next: a checkpoint under each, so that who has one of them only can check its part.
pub(super) fn key_change(chain: &Chain, key: Box<LineKey>) -> [Step; 4] {
    let previous = super::line::hex(&chain.key().id());
    [
        Step::Own(Own::Checkpoint("key")),
        Step::Rekey(key),
        Step::Own(Own::KeyChanged(previous)),
        Step::Own(Own::Checkpoint("key")),
    ]
}

/// The current key of a ring, for lines.
pub(super) fn current_key(ring: &Keyring) -> io::Result<LineKey> {
    LineKey::of(ring, ring.current()).ok_or_else(|| io::Error::other("no key for the audit log"))
}

/// Lines between two checkpoints at most.
const CHECKPOINT_LINES: u64 = 1000;
/// Longest time between a line and the next checkpoint.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(600);
/// Events that share one trip to the disk.
const TOGETHER: usize = 512;
/// Longest time that an event may be in memory of the kernel only.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How often an idle writer looks around.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Shortest time between two tries of a sink that fails.
const TRY_EVERY: Duration = Duration::from_millis(200);
/// How often files are looked for that have been kept long enough.
const TIDY_EVERY: Duration = Duration::from_secs(3600);

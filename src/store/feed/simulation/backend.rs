//! One shard of a backend as [`Shard`] demands it, behind a network that delays, loses and cuts. It can be stopped, killed,
//! and come back without its newest writes.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::world::World;
use crate::{
    base::clock::{SharedMonotonic, UnixMillis},
    model::{Revocation, SessionId},
    store::{
        StoreError, StoreResult,
        feed::{Beat, Entry, Loaded, Mark, Position, Progress, Read, ReplicaId, Seq, Shard, within},
    },
};

/// What a backend keeps, and may lose the newest part of.
#[derive(Clone, Default)]
struct Kept {
    head: Position,
    /// So many entries of the log are trimmed.
    trimmed: usize,
    leases: BTreeMap<ReplicaId, (Seq, u64)>,
    /// The run that wrote last, when that run was first noticed, and the longest lease ever given.
    run: u64,
    noticed: u64,
    longest: u64,
}

type Answer = Box<dyn FnOnce(StoreResult<Read>) + Send>;

#[derive(Default)]
struct State {
    kept: Kept,
    /// All that was ever announced in this history, up to the head; also what the stream has trimmed.
    log: Vec<Entry>,
    /// Earlier states, the newest last.
    earlier: VecDeque<Kept>,
    run: u64,
    waiting: Vec<(u64, Seq, Answer)>,
    /// Ready from then on; what comes before waits (stopped) or is refused (down).
    back_at: u64,
    refuses: bool,
    keep: usize,
    asked: u64,
}

/// A shard's backend.
pub(super) struct Backend {
    pub world: Arc<World>,
    state: Mutex<State>,
    /// In thousandths of true time.
    rate: u64,
    /// Whether it does what [`Shard::progress`] says about a restart; switched off to see the simulation fail.
    quiet: bool,
}

impl Backend {
    pub fn new(world: &Arc<World>, rate: u64, quiet: bool) -> Arc<Self> {
        let state = State { keep: 10_000, ..State::default() };
        Arc::new(Self { world: Arc::clone(world), state: Mutex::new(state), rate, quiet })
    }

    /// Its own clock, in nanoseconds.
    fn now(&self) -> u64 {
        self.world.now() / 1000 * self.rate
    }

    /// Stops for `time` (SIGSTOP): what is asked is answered afterwards.
    pub fn stall(&self, time: Duration) {
        let mut state = self.state.lock();
        state.back_at = self.world.now() + u64::try_from(time.as_nanos()).unwrap();
        state.refuses = false;
    }

    /// Dies, and comes back after `time` without its newest `forgotten` writes. Answers what is lost.
    pub fn crash(&self, time: Duration, forgotten: usize) -> Vec<[u8; 16]> {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.back_at = self.world.now() + u64::try_from(time.as_nanos()).unwrap();
        state.refuses = true;
        state.run += 1;
        for _ in 0..forgotten {
            if let Some(earlier) = state.earlier.pop_back() {
                state.kept = earlier;
            }
        }
        for (_, _, answer) in state.waiting.drain(..) {
            if self.world.chance.often(500) {
                answer(Err(StoreError("connection reset".to_owned())));
            } else {
                self.world.lose(answer);
            }
        }
        let lost = state.log.split_off(usize::try_from(state.kept.head.seq.0).unwrap());
        lost.iter().map(|entry| id_of(&entry.revocation)).collect()
    }

    /// Whether it knows this.
    pub fn has(&self, id: &[u8; 16]) -> bool {
        self.state.lock().log.iter().rev().any(|entry| id_of(&entry.revocation) == *id)
    }

    /// Keeps only so many entries from now on.
    pub fn trim(&self, keep: usize) {
        let mut state = self.state.lock();
        state.keep = keep;
        state.trim();
    }
}

impl State {
    fn remember(&mut self) {
        self.earlier.push_back(self.kept.clone());
        if self.earlier.len() > 40 {
            self.earlier.pop_front();
        }
    }

    /// Each verb looks whether this is the run that wrote last.
    fn look(&mut self, now: u64) {
        if self.kept.run != self.run {
            self.kept.run = self.run;
            self.kept.noticed = now;
        }
    }

    fn read(&self, after: Seq) -> Option<Read> {
        let kept = &self.kept;
        if after > kept.head.seq {
            return Some(Read::Gap);
        }
        if after == kept.head.seq {
            return None;
        }
        let after = usize::try_from(after.0).unwrap();
        if after < kept.trimmed {
            return Some(Read::Gap);
        }
        Some(Read::Entries(self.log[after..].to_vec()))
    }

    fn trim(&mut self) {
        self.kept.trimmed = self.kept.trimmed.max(self.log.len().saturating_sub(self.keep));
    }

    fn append(&mut self, id: [u8; 16], mark: Mark) -> Position {
        self.remember();
        let at = Position { seq: self.kept.head.seq.next(), mark };
        let revocation = revocation(id);
        self.log.push(Entry { at, previous: self.kept.head.mark, revocation });
        self.kept.head = at;
        self.trim();
        let (told, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|w| w.1 < at.seq);
        self.waiting = waiting;
        for (_, after, answer) in told {
            let read = self.read(after).unwrap();
            answer(Ok(read));
        }
        at
    }

    fn beat(&mut self, replica: ReplicaId, applied: Position, lease: Duration, now: u64) -> Beat {
        let kept = &self.kept;
        let place = usize::try_from(applied.seq.0).unwrap().checked_sub(1);
        let known = place.filter(|place| *place >= kept.trimmed).and_then(|place| self.log.get(place));
        let known = applied == kept.head || known.is_some_and(|entry| entry.at == applied);
        if !known {
            return Beat::Gap;
        }
        self.remember();
        let lease = u64::try_from(lease.as_nanos()).unwrap();
        let kept = &mut self.kept;
        kept.longest = kept.longest.max(lease);
        let old = kept.leases.get(&replica).map_or(Seq(0), |(seq, _)| *seq);
        kept.leases.insert(replica, (old.max(applied.seq), now + lease));
        Beat::Renewed { head: kept.head.seq }
    }

    fn progress(&mut self, now: u64, quiet: bool) -> Progress {
        self.kept.leases.retain(|_, (_, until)| *until > now);
        let head = self.kept.head.seq;
        let everybody = self.kept.leases.values().map(|(seq, _)| *seq).min().unwrap_or(head);
        let forgot = quiet && self.kept.run > 0 && now < self.kept.noticed + self.kept.longest;
        Progress {
            everybody: if forgot { Seq(0) } else { everybody },
            behind: self.kept.leases.values().filter(|(seq, _)| *seq < head).count(),
            at_most: Duration::ZERO,
        }
    }
}

pub(super) fn revocation(id: [u8; 16]) -> Revocation {
    Revocation::Session { id: SessionId(id), until: UnixMillis(u64::MAX) }
}

pub(super) fn id_of(revocation: &Revocation) -> [u8; 16] {
    match revocation {
        Revocation::Session { id, .. } => id.0,
        _ => [0; 16],
    }
}

/// How a replica reaches the backends.
#[derive(Clone, Copy)]
pub(super) struct Link {
    pub up: bool,
    /// What is read does not arrive; all else does.
    pub deaf: bool,
    pub loses_per_mille: u64,
    pub slowest: Duration,
}

/// For so long a piece of a load may take.
const PIECE: Duration = Duration::from_millis(500);

/// One replica's way to one shard.
pub(super) struct Remote {
    pub backend: Arc<Backend>,
    pub link: Arc<Mutex<Link>>,
    pub clock: SharedMonotonic,
}

impl Remote {
    fn delay(&self) -> Duration {
        self.backend.world.chance.time(Duration::from_micros(100), self.link.lock().slowest)
    }

    fn is_lost(&self) -> bool {
        let link = *self.link.lock();
        !link.up || self.backend.world.chance.often(link.loses_per_mille)
    }

    /// Nobody answers: known at once (a reset), or never.
    fn fail<T: Send + 'static>(world: &World, reply: oneshot::Sender<StoreResult<T>>) {
        if world.chance.often(500) {
            let _ = reply.send(Err(StoreError("connection reset".to_owned())));
        } else {
            world.lose(reply);
        }
    }

    /// The answer on its way back.
    fn respond<T: Send + 'static>(
        self: &Arc<Self>,
        reply: oneshot::Sender<StoreResult<T>>,
        answer: StoreResult<T>,
    ) {
        let this = Arc::clone(self);
        self.backend.world.after(self.delay(), move || {
            if this.is_lost() {
                Self::fail(&this.backend.world, reply);
            } else {
                let _ = reply.send(answer);
            }
        });
    }

    /// The request has arrived, perhaps long after its sender gave up.
    fn arrive<T: Send + 'static>(
        self: Arc<Self>,
        reply: oneshot::Sender<StoreResult<T>>,
        verb: impl FnOnce(
            &mut State,
            u64,
            oneshot::Sender<StoreResult<T>>,
        ) -> Option<(oneshot::Sender<StoreResult<T>>, T)>
        + Send
        + 'static,
    ) {
        let (world, now) = (Arc::clone(&self.backend.world), self.backend.world.now());
        let mut state = self.backend.state.lock();
        if self.is_lost() || (now < state.back_at && state.refuses) {
            return Self::fail(&world, reply);
        }
        if now < state.back_at {
            let rest = Duration::from_nanos(state.back_at - now) + self.delay();
            drop(state);
            return world.after(rest, move || self.arrive(reply, verb));
        }
        state.asked += 1;
        let now = self.backend.now();
        state.look(now);
        let answer = verb(&mut state, now, reply);
        drop(state);
        if let Some((reply, answer)) = answer {
            self.respond(reply, Ok(answer));
        }
    }

    async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        verb: impl FnOnce(&mut State, u64) -> T + Send + 'static,
    ) -> StoreResult<T> {
        self.ask(move |state, now, reply| Some((reply, verb(state, now)))).await
    }

    async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        verb: impl FnOnce(
            &mut State,
            u64,
            oneshot::Sender<StoreResult<T>>,
        ) -> Option<(oneshot::Sender<StoreResult<T>>, T)>
        + Send
        + 'static,
    ) -> StoreResult<T> {
        let (reply, answer) = oneshot::channel();
        let this = Arc::clone(self);
        self.backend.world.after(self.delay(), move || this.arrive(reply, verb));
        answer.await.unwrap_or_else(|_| Err(StoreError("gone".to_owned())))
    }

    /// Announces that a session has ended.
    pub async fn announce(self: &Arc<Self>, id: [u8; 16], mark: Mark) -> StoreResult<Position> {
        self.call(move |state, _| state.append(id, mark)).await
    }
}

#[async_trait]
impl Shard for Arc<Remote> {
    /// In two steps with time in between, as a real one in pages.
    async fn load(&self, _: UnixMillis) -> StoreResult<Loaded> {
        let head = within(&self.clock, PIECE, self.call(|state, _| state.kept.head)).await?;
        let present = within(
            &self.clock,
            PIECE,
            self.call(|state, _| state.log.iter().map(|e| e.revocation.clone()).collect()),
        )
        .await?;
        Ok(Loaded { head, present })
    }

    async fn read(&self, after: Seq, wait: Duration) -> StoreResult<Read> {
        if self.link.lock().deaf {
            self.clock.sleep(self.delay()).await;
            return Err(StoreError("an entry that cannot be read".to_owned()));
        }
        let this = Arc::clone(self);
        self.ask(move |state, _, reply| {
            if let Some(read) = state.read(after) {
                return Some((reply, read));
            }
            let number = this.backend.world.chance.next();
            let answering = Arc::clone(&this);
            let answer: Answer = Box::new(move |read| answering.respond(reply, read));
            state.waiting.push((number, after, answer));
            let ending = Arc::clone(&this);
            this.backend.world.after(wait, move || {
                let mut state = ending.backend.state.lock();
                let Some(place) = state.waiting.iter().position(|w| w.0 == number) else { return };
                let (_, _, answer) = state.waiting.remove(place);
                drop(state);
                answer(Ok(Read::Entries(Vec::new())));
            });
            None
        })
        .await
    }

    async fn beat(&self, replica: ReplicaId, applied: Position, lease: Duration) -> StoreResult<Beat> {
        self.call(move |state, now| state.beat(replica, applied, lease, now)).await
    }

    async fn progress(&self) -> StoreResult<Progress> {
        let quiet = self.backend.quiet;
        self.call(move |state, now| state.progress(now, quiet)).await
    }

    async fn leave(&self, replica: ReplicaId) -> StoreResult<()> {
        self.call(move |state, _| {
            state.remember();
            state.kept.leases.remove(&replica);
        })
        .await
    }
}

//! Follows one shard: load, then read, apply, acknowledge, for ever.
//!
//! # When a replica may say that it knows everything
//! A heartbeat that was sent at `t` holds a lease until `t` + lease at the earliest, by the backend's clock. This replica
//! believes in it until `t` + 7/8 of that, by its own: an eighth is more than any two clocks go apart in a lease. For
//! as long as the backend's lease holds, nothing is complete that is not acknowledged here. But what was announced
//! *before* the lease began may be complete without it. So a heartbeat prolongs an unbroken lease; one that begins a
//! lease counts only from when all is applied that was announced when it arrived.
//!
//! A replica that is told of announcements and does not get them (the backend takes its heartbeats, but reading fails) must
//! not hold everybody up, nor see clear for ever: what was announced when a heartbeat arrived must be applied within a
//! lease, or the lease is not renewed until it is.
//!
//! # When the shard is loaded again
//! When something is missing between what was applied and what is read, or the backend refuses the place that this
//! replica says to be at: it has forgotten its newest writes, or this replica was away for too long. Until it is
//! loaded no lease is renewed. Whatever was applied stays applied: loading only adds.

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

use super::{
    Timing,
    lane::Lane,
    lookout::Horizon,
    shard::{Beat, Loaded, Position, Read, ReplicaId, Seq, Shard},
    within,
};
use crate::{
    base::clock::{SharedClock, SharedMonotonic, Ticks},
    metrics::{FeedLoad, Metrics},
    model::Revocation,
    store::{RevocationSink, StoreError, StoreResult},
};

/// The first pause after a failure; each further one is twice as long, up to a quarter of the lease.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// So many are applied at a time before others have their turn on the runtime.
const AT_A_TIME: usize = 1024;

/// Somebody who wants to be told from now on.
pub(super) struct Join {
    pub sink: Arc<dyn RevocationSink>,
    /// Hears when all that is present was applied.
    pub done: oneshot::Sender<()>,
}

/// Follows one shard.
pub(super) struct Follower {
    pub index: usize,
    pub shard: Arc<dyn Shard>,
    pub replica: ReplicaId,
    pub timing: Timing,
    pub clock: SharedMonotonic,
    pub wall: SharedClock,
    pub horizon: Arc<Horizon>,
    pub lane: Arc<Lane>,
    pub joins: mpsc::UnboundedReceiver<Join>,
    pub metrics: Arc<Metrics>,
    pub state: State,
}

/// Where a follower is.
#[derive(Default)]
pub(super) struct State {
    sinks: Vec<Arc<dyn RevocationSink>>,
    /// Who has not been told everything that is present yet.
    waiting: Vec<oneshot::Sender<()>>,
    applied: Position,
    /// A lease that begins to count once all up to there is applied.
    begun: Option<(Ticks, Seq)>,
    /// What this replica's belief in its lease lasts until.
    lease_until: Ticks,
    /// Since when it is known that there is more than what is applied, and up to where.
    behind: Option<(Ticks, Seq)>,
    failures: u32,
}

/// Load again, and why.
struct Reload(FeedLoad);

impl Follower {
    /// Follows until nobody can ask for anything any more.
    pub async fn run(mut self) {
        let Some(first) = self.joins.recv().await else { return };
        self.admit(first);
        let mut why = FeedLoad::Start;
        loop {
            while let Ok(join) = self.joins.try_recv() {
                self.admit(join);
            }
            let loaded = self.load(why).await;
            let sinks = self.state.sinks.clone();
            self.apply_all(&sinks, &loaded.present).await;
            self.state.applied = loaded.head;
            self.state.begun = None;
            self.state.behind = None;
            self.lane.begin(loaded.head);
            self.answer();
            Reload(why) = self.follow().await;
            tracing::warn!(shard = self.index, why = ?why, "the feed is loaded again");
        }
    }

    fn admit(&mut self, join: Join) {
        self.state.sinks.push(join.sink);
        self.state.waiting.push(join.done);
    }

    fn answer(&mut self) {
        for done in self.state.waiting.drain(..) {
            // Whoever asked may be gone.
            let _ = done.send(());
        }
    }

    /// Loads the shard, however often it takes.
    async fn load(&mut self, why: FeedLoad) -> Loaded {
        self.metrics.feed.loads.count(why);
        let mut attempt = 0;
        loop {
            let loading = self.shard.load(self.wall.now());
            match within(&self.clock, self.timing.load(attempt), loading).await {
                Ok(loaded) => return loaded,
                Err(error) => self.failed("load", &error).await,
            }
            attempt += 1;
        }
    }

    /// Goes on from what was loaded until it must be loaded again.
    async fn follow(&mut self) -> Reload {
        loop {
            if let Err(reload) = self.step(self.timing.quarter).await {
                return reload;
            }
            if let Ok(join) = self.joins.try_recv()
                && let Err(reload) = self.join(join).await
            {
                return reload;
            }
        }
    }

    /// One heartbeat, which acknowledges what is applied; then what is new, for which it waits up to `wait`.
    async fn step(&mut self, wait: Duration) -> Result<(), Reload> {
        let beaten = if self.is_stuck() {
            Err(StoreError("what was announced a lease ago has not come".to_owned()))
        } else {
            self.beat().await
        };
        let read = match &beaten {
            Ok(Some(())) => self.read(wait).await,
            Ok(None) => return Err(Reload(FeedLoad::Refused)),
            // What is told is heard also when the backend takes no heartbeat.
            Err(_) => {
                self.horizon.backend_is_away(self.index);
                self.read(Duration::ZERO).await
            }
        };
        match (beaten, read) {
            (_, Ok(None)) => Err(Reload(FeedLoad::Gap)),
            (Ok(_), Ok(Some(()))) => {
                if self.state.failures > 0 {
                    tracing::info!(shard = self.index, "the feed is back");
                }
                self.state.failures = 0;
                Ok(())
            }
            (Err(error), _) => {
                self.failed("heartbeat", &error).await;
                Ok(())
            }
            (_, Err(error)) => {
                self.failed("read", &error).await;
                Ok(())
            }
        }
    }

    /// `None`: the place is not in the backend's history.
    async fn beat(&mut self) -> StoreResult<Option<()>> {
        // Before the backend is asked: its lease cannot begin earlier.
        let sent = self.clock.ticks();
        let applied = self.state.applied;
        let beat = self.shard.beat(self.replica, applied, self.timing.lease);
        let Beat::Renewed { head } = within(&self.clock, self.timing.quarter, beat).await? else {
            return Ok(None);
        };
        let until = sent.plus(self.timing.believed);
        if applied.seq >= head || self.clock.ticks() < self.state.lease_until {
            self.believe(until);
        } else {
            self.state.begun = Some((until, head));
        }
        self.lane.acknowledged(applied.seq, head);
        if applied.seq < head {
            self.state.behind.get_or_insert((sent, head));
        }
        Ok(Some(()))
    }

    /// Whether what was announced a lease ago is still not applied.
    fn is_stuck(&mut self) -> bool {
        let applied = self.state.applied.seq;
        self.state.behind = self.state.behind.filter(|(_, head)| applied < *head);
        self.state.behind.is_some_and(|(since, _)| self.clock.ticks().since(since) > self.timing.lease)
    }

    /// `None`: something is missing.
    async fn read(&mut self, wait: Duration) -> StoreResult<Option<()>> {
        let read = self.shard.read(self.state.applied.seq, wait);
        let entries = match within(&self.clock, wait + self.timing.quarter, read).await? {
            Read::Entries(entries) => entries,
            Read::Gap => return Ok(None),
        };
        for entry in entries {
            let applied = self.state.applied;
            if entry.at.seq != applied.seq.next() || entry.previous != applied.mark {
                return Ok(None);
            }
            for sink in &self.state.sinks {
                sink.apply(&entry.revocation);
            }
            self.state.applied = entry.at;
            self.lane.applied(entry.at);
        }
        if let Some((until, head)) = self.state.begun
            && self.state.applied.seq >= head
        {
            self.believe(until);
        }
        Ok(Some(()))
    }

    /// All that is complete is known, and will be until then.
    fn believe(&mut self, until: Ticks) {
        self.state.begun = None;
        self.state.lease_until = self.state.lease_until.max(until);
        self.horizon.clear(self.index, until);
    }

    /// Takes one more in, and goes on following meanwhile.
    async fn join(&mut self, join: Join) -> Result<(), Reload> {
        // From now on it is told what is new; what is present comes after. Applying is monotone, so that is all one.
        let sink = [Arc::clone(&join.sink)];
        self.admit(join);
        self.metrics.feed.loads.count(FeedLoad::Joined);
        let mut attempt = 0;
        loop {
            let (shard, now) = (Arc::clone(&self.shard), self.wall.now());
            let clock = Arc::clone(&self.clock);
            let patience = self.timing.load(attempt);
            let mut loading = Box::pin(async move { within(&clock, patience, shard.load(now)).await });
            let loaded = loop {
                let pause = self.clock.sleep(FIRST_PAUSE);
                tokio::select! {
                    biased;
                    loaded = &mut loading => break loaded,
                    () = pause => self.step(Duration::ZERO).await?,
                }
            };
            match loaded {
                Ok(loaded) => {
                    for present in loaded.present.chunks(AT_A_TIME) {
                        self.apply_all(&sink, present).await;
                        self.step(Duration::ZERO).await?;
                    }
                    self.answer();
                    return Ok(());
                }
                Err(error) => self.failed("load", &error).await,
            }
            attempt += 1;
        }
    }

    async fn apply_all(&self, sinks: &[Arc<dyn RevocationSink>], present: &[Revocation]) {
        for some in present.chunks(AT_A_TIME) {
            for revocation in some {
                sinks.iter().for_each(|sink| sink.apply(revocation));
            }
            tokio::task::yield_now().await;
        }
    }

    /// Says so, once in a row, and waits a little.
    async fn failed(&mut self, what: &'static str, error: &StoreError) {
        self.horizon.backend_is_away(self.index);
        let state = &mut self.state;
        if state.failures == 0 {
            tracing::warn!(shard = self.index, what, %error, "the feed does not get on");
        }
        let pause = FIRST_PAUSE.saturating_mul(1_u32.checked_shl(state.failures).unwrap_or(u32::MAX));
        state.failures = state.failures.saturating_add(1).min(16);
        self.clock.sleep(pause.min(self.timing.quarter)).await;
    }
}

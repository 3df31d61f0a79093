//! All shards together.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::{
    Completion, Settings, Timing,
    follower::{Follower, Join, State},
    lane::{Lag, Lane},
    lookout::{Horizon, Lookout, Sight},
    shard::{Position, ReplicaId, Shard},
};
use crate::{
    base::clock::{SharedClock, SharedMonotonic},
    metrics::{FeedSight, Metrics, Went},
    store::{RevocationSink, StoreError, StoreResult},
};

/// What the feed runs with.
#[derive(Clone)]
pub struct Surroundings {
    /// Leases are counted in it.
    pub clock: SharedMonotonic,
    /// Revocations end by it.
    pub wall: SharedClock,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
}

/// The feed of one replica. Dropping it ends its tasks; the leases then run out by themselves.
pub struct Feed {
    replica: ReplicaId,
    shards: Vec<Arc<dyn Shard>>,
    lanes: Vec<Arc<Lane>>,
    joins: Vec<mpsc::UnboundedSender<Join>>,
    horizon: Arc<Horizon>,
    timing: Timing,
    surroundings: Surroundings,
    tasks: Vec<JoinHandle<()>>,
}

impl Feed {
    /// Follows `shards` on `runtime` as soon as there is somebody to tell. Blind until everything is loaded.
    pub fn start(
        shards: Vec<Arc<dyn Shard>>,
        replica: ReplicaId,
        settings: Settings,
        surroundings: Surroundings,
        runtime: &Handle,
    ) -> Self {
        let (mut feed, followers) = Self::assemble(shards, replica, settings, surroundings);
        feed.tasks = followers.into_iter().map(|follower| runtime.spawn(follower.run())).collect();
        let watch = Watch {
            lanes: feed.lanes.clone(),
            horizon: Arc::clone(&feed.horizon),
            surroundings: feed.surroundings.clone(),
        };
        feed.tasks.push(runtime.spawn(watch.run()));
        feed
    }

    /// The feed, and what must run for it.
    pub(super) fn assemble(
        shards: Vec<Arc<dyn Shard>>,
        replica: ReplicaId,
        settings: Settings,
        surroundings: Surroundings,
    ) -> (Self, Vec<Follower>) {
        let timing = Timing::of(settings.lease);
        let horizon = Horizon::new(shards.len(), settings.grace, Arc::clone(&surroundings.clock));
        let (mut lanes, mut joins, mut followers) = (Vec::new(), Vec::new(), Vec::new());
        for (index, shard) in shards.iter().enumerate() {
            let lane = Lane::new(
                index,
                Arc::clone(shard),
                Arc::clone(&surroundings.clock),
                Arc::clone(&horizon),
                settings.lease,
            );
            let (join, receiver) = mpsc::unbounded_channel();
            followers.push(Follower {
                index,
                shard: Arc::clone(shard),
                replica,
                timing,
                clock: Arc::clone(&surroundings.clock),
                wall: Arc::clone(&surroundings.wall),
                horizon: Arc::clone(&horizon),
                lane: Arc::clone(&lane),
                joins: receiver,
                metrics: Arc::clone(&surroundings.metrics),
                state: State::default(),
            });
            lanes.push(lane);
            joins.push(join);
        }
        let feed = Self { replica, shards, lanes, joins, horizon, timing, surroundings, tasks: Vec::new() };
        (feed, followers)
    }

    /// What a request asks.
    pub fn lookout(&self) -> Lookout {
        self.horizon.lookout()
    }

    /// Makes `sink` see all revocations that still matter, and then every new one. Answers when all that is present in all
    /// shards was applied. An announcement may be applied more than once.
    ///
    /// # Errors
    /// When the feed has ended.
    pub async fn follow(&self, sink: Arc<dyn RevocationSink>) -> StoreResult<()> {
        let ended = || StoreError("the feed has ended".to_owned());
        let mut all = Vec::new();
        for join in &self.joins {
            let (done, loaded) = oneshot::channel();
            join.send(Join { sink: Arc::clone(&sink), done }).map_err(|_| ended())?;
            all.push(loaded);
        }
        for loaded in all {
            loaded.await.map_err(|_| ended())?;
        }
        Ok(())
    }

    /// Gives the leases up, so that nobody waits for this replica. It is blind from then on: call it when nothing is
    /// served any more.
    pub async fn leave(&self) {
        self.horizon.leave();
        self.tasks.iter().for_each(JoinHandle::abort);
        for shard in &self.shards {
            // Else they run out.
            if let Err(error) =
                super::within(&self.surroundings.clock, self.timing.quarter, shard.leave(self.replica)).await
            {
                tracing::info!(%error, "a lease could not be given up: it runs out");
            }
        }
    }
}

#[async_trait]
impl Completion for Feed {
    async fn complete(&self, shard: usize, announcement: Position) -> StoreResult<()> {
        let lane = self.lanes.get(shard).ok_or_else(|| StoreError(format!("there is no shard {shard}")))?;
        let (clock, metrics) = (&self.surroundings.clock, &self.surroundings.metrics.feed);
        let began = clock.ticks();
        let answer = lane.complete(announcement).await;
        metrics.completions.count(if answer.is_ok() { Went::Ok } else { Went::Failed });
        metrics.completion_seconds.observe(clock.ticks().since(began).as_secs_f64());
        answer
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Keeps the series up to date.
struct Watch {
    lanes: Vec<Arc<Lane>>,
    horizon: Arc<Horizon>,
    surroundings: Surroundings,
}

impl Watch {
    async fn run(self) {
        let Surroundings { clock, metrics, .. } = &self.surroundings;
        let lookout = self.horizon.lookout();
        let (mut last, mut before) = (clock.ticks(), Sight::Blind);
        loop {
            clock.sleep(WATCH_EVERY).await;
            let (now, sight) = (clock.ticks(), lookout.sight());
            let passed = now.since(last);
            last = now;
            metrics.feed.seen(label(sight), passed.as_secs_f64());
            metrics.feed.lease_rest.set(self.horizon.rest().as_secs_f64());
            let lags = self.lanes.iter().map(|lane| lane.lag());
            let lag = lags.fold(Lag::default(), |all, one| Lag {
                entries: all.entries.saturating_add(one.entries),
                time: all.time.max(one.time),
            });
            metrics.feed.lag_entries.set(i64::try_from(lag.entries).unwrap_or(i64::MAX));
            metrics.feed.lag_seconds.set(lag.time.as_secs_f64());
            if sight != before {
                match sight {
                    Sight::Clear => tracing::info!("this replica knows of every revocation"),
                    Sight::Grace => {
                        tracing::warn!("the store is away: running sessions go on, nobody logs in")
                    }
                    Sight::Blind => {
                        tracing::error!("this replica may have missed revocations: nobody passes")
                    }
                }
                before = sight;
            }
        }
    }
}

const fn label(sight: Sight) -> FeedSight {
    match sight {
        Sight::Clear => FeedSight::Clear,
        Sight::Grace => FeedSight::Grace,
        Sight::Blind => FeedSight::Blind,
    }
}

/// How often the series are brought up to date.
const WATCH_EVERY: Duration = Duration::from_millis(250);

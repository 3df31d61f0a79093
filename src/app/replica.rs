//! The store that this replica serves from, and its part in the feed when the store is shared.

use std::sync::Arc;

use super::{open_redis, open_store};
use crate::{
    base::{
        clock::{SharedClock, SystemMonotonic},
        random::{self, SystemRandom},
    },
    config::{Config, StoreConfig},
    metrics::Metrics,
    store::{
        SharedStore,
        feed::{Feed, Lookout, ReplicaId, Settings, Surroundings},
        metered::metered,
    },
};

/// This process among those that share a store; alone with an embedded one.
#[derive(Default)]
pub(super) struct Replica {
    feed: Option<Arc<Feed>>,
}

impl Replica {
    /// What it knows of revocations.
    pub fn lookout(&self) -> Lookout {
        self.feed.as_ref().map(|feed| feed.lookout()).unwrap_or_default()
    }

    /// Gives the leases up, so that nobody waits for it. Nothing may be served any more.
    pub async fn leave(&self) {
        if let Some(feed) = &self.feed {
            feed.leave().await;
        }
    }
}

/// Opens the store that the configuration names, to serve from it.
pub(super) fn open(
    config: &Config,
    clock: &SharedClock,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(SharedStore, Replica)> {
    let StoreConfig::Redis(redis) = &config.store else {
        return Ok((metered(open_store(config)?, Arc::clone(metrics)), Replica::default()));
    };
    let opened = open_redis(config, redis, metrics.redis.clone())?;
    let surroundings = Surroundings {
        clock: Arc::new(SystemMonotonic::default()),
        wall: Arc::clone(clock),
        metrics: Arc::clone(metrics),
    };
    let settings = Settings { lease: config.revocation.lease, grace: config.revocation.grace };
    let id = ReplicaId(random::bytes(&SystemRandom)?);
    let feed = Feed::start(opened.shards(), id, settings, surroundings, &opened.runtime());
    let feed = Arc::new(feed);
    let store = opened.with_feed(Arc::clone(&feed) as _);
    Ok((metered(store, Arc::clone(metrics)), Replica { feed: Some(feed) }))
}

//! The store that this replica serves from, and its part in the feed when the store is shared.

use std::sync::Arc;

use super::open_store;
use crate::{
    base::clock::SharedClock,
    config::Config,
    metrics::Metrics,
    store::{
        SharedStore,
        feed::{Feed, Lookout},
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
    _clock: &SharedClock,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(SharedStore, Replica)> {
    let (store, replica) = (open_store(config)?, Replica::default());
    Ok((metered(store, Arc::clone(metrics)), replica))
}

//! The shared store: Redis (stand-alone, Sentinel or Cluster), for several replicas.
//!
//! Promises: every verb is atomic, since what must be atomic is one script on one slot; a change of a sealed record is
//! "replace if still the same", in one step with its announcement, and the verb that announces answers when
//! every replica has applied it (I3); a record that was changed, moved or taken from elsewhere is an error, never "absent", and so
//! is a Redis that was flushed or holds another data set (I9); names of keys are keyed hashes and values are sealed, so whoever
//! reads Redis learns how much there is, and nothing else.
//!
//! Must never trust Redis with more than keeping: it can lose, delay or bring back old records as a whole (see
//! SECURITY.md), not read or make one. Must never wait without a limit.
//!
//! Where is what: `data_set` the marker, names and sealing, `record` what is inside the boxes, `scripts` and `lua/` the
//! atomic steps, `backend` read and replace, `users`, `devices` and `care` the verbs, `names` the search, `shard` what the
//! feed needs, `link` connections, `failure` what it means when
//! there is no answer, `routes` who is the master, `sentinels` what
//! they say of it, `dial` one connection, `checks` what is looked at at the start.

mod backend;
mod care;
mod checks;
mod data_set;
mod devices;
mod dial;
mod documents;
mod failure;
mod link;
mod names;
mod portable;
mod record;
mod routes;
mod scripts;
mod sentinels;
mod shard;
mod slot;
#[cfg(test)]
mod tests;
mod users;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;

use self::{backend::Backend, link::Link, names::Names, shard::RedisShard};
use super::{
    RevocationSink, SharedStore, StoreError, StoreResult,
    feed::{Completion, Feed, Position, Shard},
    portable::Portable,
};
use crate::{
    base::{
        clock::{Stopwatch, UnixMillis},
        keyring::Keyring,
        random::SharedRandom,
    },
    config::shared::RedisConfig,
    metrics::RedisMetrics,
    model::Revocation,
};

/// Why a Redis could not be opened as a store. Each text says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It does not answer, or says no.
    #[error("Redis: {0}")]
    Server(String),
    /// It throws records away when memory is short.
    #[error(
        "Redis has maxmemory-policy {policy}: it would forget used codes, lock-outs and revocations when memory is short; \
         set `maxmemory-policy noeviction`"
    )]
    Evicts {
        /// The policy.
        policy: String,
    },
    /// It lacks what is needed.
    #[error("Redis {found} is too old: at least {oldest} is needed")]
    Old {
        /// Its version.
        found: String,
        /// What is needed.
        oldest: String,
    },
    /// There is nothing, and nothing may be made.
    #[error(
        "this Redis has no data set under the prefix {prefix:?}, and store.redis.initialise is false: is it the right Redis, \
         and has it lost its data? Restore it, or set initialise: true once to begin with an empty one"
    )]
    NoDataSet {
        /// The configured prefix.
        prefix: String,
    },
    /// Another version wrote it.
    #[error(
        "the data set in Redis has format {found}, and this version of Sluis knows {known}: run the version that wrote it"
    )]
    Format {
        /// Its format.
        found: String,
        /// Ours.
        known: u32,
    },
    /// It was cut into another number of shards.
    #[error(
        "the data set in Redis has {found} shards, and store.redis.shards is {typed}: the number is fixed for the life of a \
         data set; set it to {found}, or copy the data set to a new one"
    )]
    Shards {
        /// As it is.
        found: String,
        /// As configured.
        typed: usize,
    },
    /// None of the keys opens it.
    #[error(
        "the data set in Redis was made with a key that is not in the configuration: put that key back behind the new ones"
    )]
    WrongKey,
    /// A part of it is gone.
    #[error(
        "shard {shard} of the data set in Redis is gone while others are there: restore it from a backup of Redis"
    )]
    Lost {
        /// Which one.
        shard: usize,
    },
    /// A part of it is of another data set.
    #[error(
        "shard {shard} in Redis belongs to another data set: two installations with one prefix, or a mixed backup"
    )]
    Mixed {
        /// Which one.
        shard: usize,
    },
    /// A copy into it was cut off.
    #[error(
        "the data set in Redis is half a copy: run the same `sluis store copy` again, it goes on where it was"
    )]
    Unfinished,
    /// No thread could be started.
    #[error("could not start a thread: {0}")]
    Thread(std::io::Error),
}

/// A data set that was found and opened. It becomes a store with somebody who knows when announcements are complete.
pub struct Opened {
    backend: Arc<Backend>,
    shards: Vec<Arc<dyn Shard>>,
    keyring: Arc<Keyring>,
}

/// Connects, looks at the servers, and finds or makes the data set; one that is half a copy is refused.
///
/// # Errors
/// See [`OpenError`].
pub fn open(
    config: RedisConfig,
    keyring: Arc<Keyring>,
    random: SharedRandom,
    metrics: RedisMetrics,
) -> Result<Opened, OpenError> {
    let opened = open_any(config, keyring, random, metrics)?;
    let (handle, work) = (opened.runtime(), portable::is_unfinished(&opened.backend));
    let unfinished = std::thread::scope(|scope| scope.spawn(|| handle.block_on(work)).join())
        .map_err(|_| OpenError::Server("the start was cut short".to_owned()))?
        .map_err(|error| OpenError::Server(error.0))?;
    if unfinished { Err(OpenError::Unfinished) } else { Ok(opened) }
}

/// Opens the data set as one end of a copy, also when it is half a copy.
///
/// # Errors
/// See [`OpenError`].
pub fn open_portable(
    config: RedisConfig,
    keyring: Arc<Keyring>,
    random: SharedRandom,
) -> Result<Arc<dyn Portable>, OpenError> {
    let opened = open_any(config, keyring, random, RedisMetrics::unseen())?;
    Ok(Arc::new(portable::Ends(opened.backend)))
}

fn open_any(
    config: RedisConfig,
    keyring: Arc<Keyring>,
    random: SharedRandom,
    metrics: RedisMetrics,
) -> Result<Opened, OpenError> {
    let slots = (0..config.shards).map(|shard| slot::slot_of(&data_set::tag(shard))).collect();
    let link = Link::start(config.clone(), slots, metrics).map_err(OpenError::Thread)?;
    let work = async {
        checks::look(&link, &config).await?;
        data_set::open(&link, &config, &keyring, random).await
    };
    // Whoever opens may be on a runtime, where nobody may wait; the connections are on a thread of their own.
    let set = std::thread::scope(|scope| scope.spawn(|| link.handle().block_on(work)).join())
        .map_err(|_| OpenError::Server("the start was cut short".to_owned()))??;
    let backend = Backend::new(link, set, config);
    let shard = |index| Arc::new(RedisShard::new(Arc::clone(&backend), index)) as Arc<dyn Shard>;
    let shards = (0..backend.set.shards()).map(shard).collect();
    Ok(Opened { backend, shards, keyring })
}

impl Opened {
    /// What the feed follows.
    pub fn shards(&self) -> Vec<Arc<dyn Shard>> {
        self.shards.clone()
    }

    /// The runtime of the connections; the feed may run there.
    pub fn runtime(&self) -> tokio::runtime::Handle {
        self.backend.link.handle().clone()
    }

    /// The store of a replica that lets people pass: it follows the feed.
    pub fn with_feed(self, feed: Arc<dyn Follow>) -> SharedStore {
        Arc::new(Redis {
            backend: self.backend,
            feed,
            names: Names::default(),
            keyring: Mutex::new(self.keyring),
        })
    }

    /// The store of somebody who lets nobody pass (a command on the command line): others are waited for, nothing is
    /// followed.
    pub fn without_feed(self) -> SharedStore {
        let patience = self.backend.config.timeout.saturating_add(LONGEST_LEASE);
        let feed = Arc::new(Onlooker { shards: self.shards, patience });
        Arc::new(Redis {
            backend: self.backend,
            feed,
            names: Names::default(),
            keyring: Mutex::new(self.keyring),
        })
    }
}

/// No lease is longer than the configuration allows; whoever is gone by then is waited for no longer.
const LONGEST_LEASE: Duration = Duration::from_secs(30);
/// Between two looks at how far the others are.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The feed of this replica.
#[async_trait]
pub trait Follow: Completion {
    /// Makes `sink` see all that still matters, and then every new announcement.
    async fn follow(&self, sink: Arc<dyn RevocationSink>) -> StoreResult<()>;
}

#[async_trait]
impl Follow for Feed {
    async fn follow(&self, sink: Arc<dyn RevocationSink>) -> StoreResult<()> {
        Self::follow(self, sink).await
    }
}

/// Waits for others, without being one of them.
struct Onlooker {
    shards: Vec<Arc<dyn Shard>>,
    patience: Duration,
}

#[async_trait]
impl Completion for Onlooker {
    async fn complete(&self, shard: usize, announcement: Position) -> StoreResult<()> {
        let shard = self.shards.get(shard).ok_or_else(|| StoreError(format!("there is no shard {shard}")))?;
        let begun = Stopwatch::start();
        loop {
            if shard.progress().await?.everybody >= announcement.seq {
                return Ok(());
            }
            if begun.elapsed() > self.patience {
                return Err(StoreError(
                    "not every replica has applied it in time: it stands all the same".to_owned(),
                ));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

#[async_trait]
impl Follow for Onlooker {
    async fn follow(&self, _sink: Arc<dyn RevocationSink>) -> StoreResult<()> {
        Err(StoreError("this process does not follow the feed".to_owned()))
    }
}

/// The store. Dropping it ends its thread and connections.
struct Redis {
    backend: Arc<Backend>,
    feed: Arc<dyn Follow>,
    names: Names,
    /// Under which the data set's secret is.
    keyring: Mutex<Arc<Keyring>>,
}

impl Redis {
    /// Waits until an announcement has arrived everywhere.
    async fn complete(&self, announced: Option<(usize, Position)>) -> StoreResult<()> {
        match announced {
            Some((shard, position)) => self.feed.complete(shard, position).await,
            None => Ok(()),
        }
    }

    async fn follow_feed(&self, sink: Arc<dyn RevocationSink>, now: UnixMillis) -> StoreResult<()> {
        self.feed.follow(Arc::new(Still { sink, now })).await
    }
}

/// Tells what still matters at the moment from which somebody follows.
struct Still {
    sink: Arc<dyn RevocationSink>,
    now: UnixMillis,
}

impl RevocationSink for Still {
    fn apply(&self, revocation: &Revocation) {
        if shard::matters(revocation, self.now) {
            self.sink.apply(revocation);
        }
    }
}

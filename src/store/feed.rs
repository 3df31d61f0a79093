//! The revocation feed between replicas, over any backend that several replicas share.
//!
//! Records and the feed are cut into *shards*: everything of one user, and everything of one device or session, lives in one
//! shard, so that a change and its announcement are one atomic step of the backend. Each shard numbers its
//! announcements without gaps ([`Seq`]); a reader that sees a gap, or a head that went back, knows that it
//! missed something and loads the shard again.
//!
//! A replica holds a *lease* in each shard. It renews the lease together with the number up to which it has applied the
//! announcements; the backend's clock judges leases for others, the replica's own monotonic clock, counted from before it asked,
//! judges its own, so a replica always knows that it is blind before anybody else stops waiting for it.
//! An announcement is *complete* when every replica with a lease has applied it.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreResult;
use crate::{base::clock::UnixMillis, model::Revocation};

/// Number of an announcement in its shard: 1, 2, 3, … without gaps; 0 = before the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Seq(pub u64);

/// One running replica: random at each start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReplicaId(pub [u8; 8]);

/// One announcement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its number.
    pub seq: Seq,
    /// What is revoked.
    pub revocation: Revocation,
}

/// What is after a position.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Read {
    /// The next ones, without a gap; none when none came in time.
    Entries(Vec<Entry>),
    /// The next one is not there any more, or the backend has fewer than were seen: load again.
    Gap,
}

/// Everything in a shard that still matters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loaded {
    /// The head *before* the loading began: what was announced meanwhile may be in `present`, and is read again.
    pub head: Seq,
    /// All that matters, in no order.
    pub present: Vec<Revocation>,
}

/// Who has not yet applied an announcement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiting {
    /// Nobody with a lease: it is complete.
    Nobody,
    /// So many, whose leases run out after this time at the latest, if they are not renewed.
    For {
        /// Replicas.
        replicas: usize,
        /// The longest rest of their leases.
        at_most: Duration,
    },
}

/// One shard of a shared backend, as the feed's protocol needs it. Each verb is one atomic step of the backend.
/// A backend whose data was replaced under a running replica (flushed, another data set) answers every verb with an error.
#[async_trait]
pub trait Shard: Send + Sync {
    /// Everything that matters at `now`.
    async fn load(&self, now: UnixMillis) -> StoreResult<Loaded>;

    /// What comes after `after`; waits up to `wait` for the first.
    async fn read(&self, after: Seq, wait: Duration) -> StoreResult<Read>;

    /// Renews the lease for `lease` from now (by the backend's clock) and says that all up to `applied` is applied. Answers
    /// the head of the shard.
    async fn beat(&self, replica: ReplicaId, applied: Seq, lease: Duration) -> StoreResult<Seq>;

    /// Who still has to apply `seq`. Leases that have run out are dropped.
    async fn waiting(&self, seq: Seq) -> StoreResult<Waiting>;

    /// Gives the lease up (shutdown).
    async fn leave(&self, replica: ReplicaId) -> StoreResult<()>;
}

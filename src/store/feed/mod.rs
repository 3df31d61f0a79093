//! The revocation feed between replicas, over any backend that several replicas share.
//!
//! Records and the feed are cut into *shards*: everything of one user, and everything of one device or session, lives in one
//! shard, so that a change and its announcement are one atomic step of the backend. Each shard numbers its
//! announcements without gaps ([`Seq`]) and marks each one ([`Mark`]); a reader that sees a gap, or finds that its own
//! place is not in the backend's history, knows that it missed something and loads the shard again.
//!
//! A replica holds a *lease* in each shard. It renews the lease together with the place up to which it has applied the
//! announcements; the backend's clock judges leases for others, the replica's own monotonic clock, counted from before it asked,
//! judges its own, so a replica always knows that it is blind before anybody else stops waiting for it.
//! An announcement is *complete* when every replica with a lease has applied it ([`Completion`]).
//!
//! What is promised (I3): after [`Completion::complete`] has answered, no replica whose [`Sight`] is clear does not
//! know of the announcement. What is asked of the machines: no two clocks go apart by more than an eighth in the time of
//! a lease, and the backend's clock is not set forward. A whole machine that is put to sleep and woken does not see the time
//! that it slept; do not do that to a replica.
//!
//! Where is what: `shard` what a backend must do, `follower` the protocol of one shard, `lane` who waits for
//! what, `lookout` what a request asks, `replica` all shards together.

mod follower;
mod lane;
mod lookout;
mod replica;
mod shard;
#[cfg(test)]
mod simulation;

use std::{future::Future, time::Duration};

use async_trait::async_trait;

pub use lookout::{Glance, Lookout, Sight};
pub use replica::{Feed, Surroundings};
pub use shard::{Beat, Entry, Loaded, Mark, Position, Progress, Read, ReplicaId, Seq, Shard};

use super::{StoreError, StoreResult};
use crate::base::clock::SharedMonotonic;
/// How the feed keeps time.
pub use crate::config::Revocation as Settings;

/// Waits until an announcement has arrived everywhere.
#[async_trait]
pub trait Completion: Send + Sync {
    /// Answers when every replica that may let somebody pass has applied the announcement, this one included.
    ///
    /// # Errors
    /// When that is not known within the time that it may take: the announcement stands all the same, but
    /// whoever made it must not be told that it is complete.
    async fn complete(&self, shard: usize, announcement: Position) -> StoreResult<()>;
}

/// The times that follow from a lease.
#[derive(Clone, Copy)]
struct Timing {
    /// As the backend gives it.
    lease: Duration,
    /// For so long this replica believes in it.
    believed: Duration,
    /// Between two heartbeats at most; an answer that takes longer is none.
    quarter: Duration,
}

impl Timing {
    fn of(lease: Duration) -> Self {
        Self { lease, believed: lease - lease / 8, quarter: lease / 4 }
    }
}

impl Timing {
    /// For so long one attempt to load a shard may take. A shard of millions takes seconds, and an answer that never
    /// comes must not take minutes to be noticed: so each attempt gets twice the time of the one before.
    fn load(&self, attempt: u32) -> Duration {
        self.lease.saturating_mul(4_u32.saturating_mul(1 << attempt.min(8))).min(LONGEST_LOAD)
    }
}

/// More than any shard takes.
const LONGEST_LOAD: Duration = Duration::from_secs(120);

/// Waits for an answer, but not longer than `limit`.
async fn within<T>(
    clock: &SharedMonotonic,
    limit: Duration,
    work: impl Future<Output = StoreResult<T>>,
) -> StoreResult<T> {
    tokio::select! {
        biased;
        answer = work => answer,
        () = clock.sleep(limit) => Err(StoreError(format!("no answer in {} ms", limit.as_millis()))),
    }
}

//! What the feed's protocol needs of one shard of a shared backend.

use std::time::Duration;

use async_trait::async_trait;

use crate::{base::clock::UnixMillis, model::Revocation, store::StoreResult};

/// Number of an announcement in its shard: 1, 2, 3, … without gaps; 0 = before the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// What tells two announcements apart that carry the same number: random, drawn for each announcement by whoever makes
/// it. A backend that forgot its newest writes (a failover without `WAIT`, a crash with a lazy log) gives their
/// numbers out again; the mark is how a replica notices that its number 5 is not the backend's number 5.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Mark(pub u64);

/// A place in a shard's history: one certain announcement. The default is the place before the first one (mark 0).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Position {
    /// Its number.
    pub seq: Seq,
    /// Which of all that ever had this number.
    pub mark: Mark,
}

/// One running replica: random at each start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReplicaId(pub [u8; 8]);

/// One announcement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its place.
    pub at: Position,
    /// The mark of the one before it (0 before the first), written with it: whoever reads on from a place sees whether it
    /// is the same history.
    pub previous: Mark,
    /// What is revoked.
    pub revocation: Revocation,
}

/// What is after a position.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Read {
    /// The next ones, without a gap; none when none came in time.
    Entries(Vec<Entry>),
    /// The next one is not there any more, or the backend's history is not the one in which the position lies: load
    /// again.
    Gap,
}

/// Everything in a shard that still matters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loaded {
    /// The head *before* the loading began: what was announced meanwhile may be in `present`, and is read again.
    pub head: Position,
    /// All that matters, in no order. Also who is *not* blocked any more, as far as that is kept: a replica that
    /// missed the announcement learns it here.
    pub present: Vec<Revocation>,
}

/// What became of a heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Beat {
    /// The lease is renewed.
    Renewed {
        /// The head of the shard at that moment.
        head: Seq,
    },
    /// The position does not lie in the backend's history, or is no longer known there: nothing was renewed, load
    /// again.
    Gap,
}

/// How far all replicas are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Everybody with a lease has applied all up to here; the head when nobody has a lease. While it may be that the
    /// backend has forgotten a lease (see [`Shard::progress`]): 0.
    pub everybody: Seq,
    /// How many are behind the head.
    pub behind: usize,
    /// The longest rest of their leases.
    pub at_most: Duration,
}

/// One shard of a shared backend. Each verb is one atomic step of the backend.
///
/// A backend whose data was replaced under a running replica (flushed, another data set) answers every verb with an error.
#[async_trait]
pub trait Shard: Send + Sync {
    /// Everything that matters at `now`. It may take long, but not stand still: when a piece of it does not come in about
    /// a second, it fails.
    async fn load(&self, now: UnixMillis) -> StoreResult<Loaded>;

    /// What comes after `after`; waits up to `wait` for the first. Whether the one at `after` is the one that the
    /// reader knows is seen by [`Entry::previous`].
    async fn read(&self, after: Seq, wait: Duration) -> StoreResult<Read>;

    /// Renews the lease for `lease` from now (by the backend's clock) and says that all up to `applied` is applied.
    ///
    /// In the same step it is checked that `applied` lies in the backend's history: it is the head (whose mark is always
    /// known, also 0 at the very beginning), or an announcement that is still there has this number and this mark.
    /// What is trimmed can no longer be compared, so it is refused.
    /// What a replica has once said to have applied never goes back, whatever order its beats arrive in.
    ///
    /// A backend that is asked to wait for its own replicas (`durability`) waits here, too: a lease that a failover
    /// forgets is one that nobody waits for.
    async fn beat(&self, replica: ReplicaId, applied: Position, lease: Duration) -> StoreResult<Beat>;

    /// Who has applied what. Leases that have run out are dropped.
    ///
    /// A backend that was restarted or has failed over may have forgotten leases in which their holders still
    /// believe. So from the moment when that is first noticed (each verb looks, by the run's id), until the longest
    /// lease that it gives out has passed, this answers `everybody: 0`.
    async fn progress(&self) -> StoreResult<Progress>;

    /// Gives the lease up (shutdown).
    async fn leave(&self, replica: ReplicaId) -> StoreResult<()>;
}

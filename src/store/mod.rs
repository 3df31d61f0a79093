//! What is kept, as small traits by need. Verbs are atomic: there is no check-then-save anywhere above.
//!
//! Every backend passes the same `contract` suite. What a verb acknowledged survives `kill -9` and power
//! loss (I10). A backend that cannot answer says [`StoreError`]; that is never "absent" (I9).
//! Nothing of this is on the way of a verified request: revocations are pushed into memory, not looked up.

#[cfg(test)]
pub(crate) mod contract;
pub mod copy;
pub mod documents;
pub mod feed;
pub mod memory;
pub mod metered;
pub mod portable;
pub mod redis;
pub mod sqlite;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

pub use documents::{Collection, Document, Documents};

use crate::{
    base::{
        clock::{SharedClock, UnixMillis},
        keyring::Keyring,
    },
    model::{
        AppId, Authenticator, AuthenticatorId, DeviceId, Epoch, LoginId, MethodSet, Revocation, SessionId,
        UserKey,
    },
};

/// The store could not answer. What was asked is unknown: not done, or perhaps done.
/// The text is for the log, never for a visitor.
#[derive(Debug, Clone, thiserror::Error)]
#[error("store unavailable: {0}")]
pub struct StoreError(pub String);

/// What a store verb returns.
pub type StoreResult<T> = Result<T, StoreError>;

/// A confirmed authenticator to be kept.
pub struct NewAuthenticator {
    /// The authenticator; `last_step` is the step of the code that confirmed it, so that code is spent.
    pub authenticator: Authenticator,
    /// How many the user may have in all, this one included.
    pub at_most: usize,
    /// When the login, or the proof, began on which this enrolment rests.
    pub begun: UnixMillis,
}

/// What became of [`Enrolments::add`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Added {
    /// Kept, durably.
    Kept,
    /// The user has as many as allowed already; nothing was kept.
    TooMany,
    /// One with this id is there already; nothing was changed. So one enrolment is confirmed once.
    Known,
    /// The user is blocked, or was reset after [`NewAuthenticator::begun`]; nothing was kept.
    Void,
}

/// What became of [`Enrolments::remove_spare`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spare {
    /// Removed, durably.
    Removed,
    /// No other one of those methods would be left; nothing was changed.
    Last,
    /// There is none with this id.
    Unknown,
}

/// What becomes of removing `id` from these ([`Enrolments::remove_spare`]), for backends that hold them together.
fn spare(all: &[Authenticator], id: AuthenticatorId, counting: MethodSet) -> Spare {
    if all.iter().all(|a| a.id != id) {
        return Spare::Unknown;
    }
    let stays = all.iter().any(|a| a.id != id && counting.contains(a.method));
    if stays { Spare::Removed } else { Spare::Last }
}

/// Users' confirmed authenticators.
#[async_trait]
pub trait Enrolments: Send + Sync {
    /// All confirmed authenticators of a user, oldest first.
    async fn authenticators(&self, user: &UserKey) -> StoreResult<Vec<Authenticator>>;

    /// Keeps one more, if the user is not blocked, was not reset since the enrolment began, and has fewer than
    /// allowed; looking and inserting are one step, so that a reset is never overtaken.
    async fn add(&self, user: &UserKey, new: NewAuthenticator) -> StoreResult<Added>;

    /// Moves `last_step` to `step` only if `step` is larger: true exactly once for each step (I4).
    /// Keeps the learned drift and the time of use with it.
    async fn advance_step(
        &self,
        user: &UserKey,
        id: AuthenticatorId,
        step: u64,
        drift_steps: i8,
        now: UnixMillis,
    ) -> StoreResult<bool>;

    /// Gives one another name; false when there is none.
    async fn rename(&self, user: &UserKey, id: AuthenticatorId, name: &str) -> StoreResult<bool>;

    /// Removes one; false when there was none.
    async fn remove(&self, user: &UserKey, id: AuthenticatorId) -> StoreResult<bool>;

    /// Removes one if another one of a method in `counting` stays; looking and removing are one step, so that two
    /// removals at once never leave nothing.
    async fn remove_spare(
        &self,
        user: &UserKey,
        id: AuthenticatorId,
        counting: MethodSet,
    ) -> StoreResult<Spare>;
}

/// What is known of a user beside authenticators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// Who.
    pub user: UserKey,
    /// May not pass.
    pub blocked: bool,
    /// First completed first factor, or when an administrator first named them.
    pub first_seen_at: UnixMillis,
    /// Last completed login.
    pub last_login_at: Option<UnixMillis>,
    /// How many confirmed authenticators.
    pub authenticators: usize,
    /// Wrong answers and locks.
    pub attempts: AttemptState,
}

/// The users that Sluis has met.
#[async_trait]
pub trait Users: Send + Sync {
    /// Notes a first factor (`login` false) or a completed login (`login` true).
    async fn note_seen(&self, user: &UserKey, login: bool, now: UnixMillis) -> StoreResult<()>;

    /// One user; `None` when never met, enrolled or blocked.
    async fn user(&self, user: &UserKey) -> StoreResult<Option<UserRecord>>;

    /// A page of users in order of (realm, name) after `after`, whose name contains `part`.
    async fn list(&self, part: &str, after: Option<&UserKey>, limit: usize) -> StoreResult<Vec<UserRecord>>;

    /// Removes every authenticator, the attempt counter and publishes `Revocation::User{before: now}`, in
    /// one step. Answers how many authenticators were removed. Works for a user never met, too.
    async fn reset(&self, user: &UserKey, now: UnixMillis, until: UnixMillis) -> StoreResult<usize>;

    /// Publishes `Revocation::User{before: now}`, in one step: every session and trust of the user is void, the
    /// authenticators stay. Works for a user never met, too.
    async fn sign_out(&self, user: &UserKey, now: UnixMillis, until: UnixMillis) -> StoreResult<()>;

    /// Blocks or unblocks and publishes it, in one step. Works for a user never met, too. The announced version is
    /// `now` in milliseconds, or the one before plus 1 if that is more.
    async fn set_blocked(&self, user: &UserKey, blocked: bool, now: UnixMillis) -> StoreResult<()>;
}

/// Things that happen once.
#[async_trait]
pub trait OneTime: Send + Sync {
    /// True for the first caller, false for every later one, under any concurrency (I2). The mark is
    /// kept until `until`.
    async fn consume(&self, login: LoginId, until: UnixMillis) -> StoreResult<bool>;
}

/// Wrong answers of a user in a row, over all devices, addresses and replicas (I8).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AttemptState {
    /// Attempts charged since the last success.
    pub failures: u32,
    /// No attempt is taken before this moment.
    pub wait_until: UnixMillis,
}

/// The counters behind lock-out. What they mean is `throttle`'s: this keeps them.
#[async_trait]
pub trait Attempts: Send + Sync {
    /// The present state; the default when there is none.
    async fn attempts(&self, user: &UserKey) -> StoreResult<AttemptState>;

    /// Replaces `expected` by `new` if it still is what is kept; false when somebody was faster.
    async fn swap_attempts(
        &self,
        user: &UserKey,
        expected: AttemptState,
        new: AttemptState,
    ) -> StoreResult<bool>;
}

/// What [`Devices::own`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ownership {
    /// The epoch that counts from now on; the new owner's tokens carry it.
    pub epoch: Epoch,
    /// Who owned the device before, when it was somebody else: a takeover.
    pub taken_from: Option<UserKey>,
}

/// Who completed the last login on a device.
#[async_trait]
pub trait Devices: Send + Sync {
    /// Makes `user` the owner. If somebody else was, the epoch is incremented, kept, and
    /// `Revocation::Device` published before this answers, in one step (I3). `until` is from when on no token
    /// that is made for this owner can be alive; the revocation lasts as long as the earlier owner's could.
    async fn own(&self, device: DeviceId, user: &UserKey, until: UnixMillis) -> StoreResult<Ownership>;
}

/// Takes what is announced; called in the order of the feed, before the announcing verb answers.
pub trait RevocationSink: Send + Sync {
    /// Applies one announcement.
    fn apply(&self, revocation: &Revocation);
}

/// The feed of revocations.
#[async_trait]
pub trait Revocations: Send + Sync {
    /// Ends a session: durable, and applied by every live replica before this answers.
    async fn end_session(&self, id: SessionId, until: UnixMillis) -> StoreResult<()>;

    /// Makes `sink` see all revocations that still matter, and then every new one. Answers when the
    /// present ones have been applied. A backend within this process tells each exactly once; one that replicas share, at
    /// least once.
    async fn follow(&self, sink: Arc<dyn RevocationSink>, now: UnixMillis) -> StoreResult<()>;
}

/// Names of the apps' cookies that have been seen `HttpOnly`, and so are sealed from then on.
#[async_trait]
pub trait SealedNames: Send + Sync {
    /// Remembers one; durable when this answers.
    async fn learn_sealed_name(&self, app: &AppId, name: &str) -> StoreResult<()>;

    /// All that are known.
    async fn sealed_names(&self) -> StoreResult<Vec<(AppId, String)>>;
}

/// How many secrets at rest stand under which keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SealedCount {
    /// Under the first key of the ring.
    pub first: usize,
    /// Under another key of the ring.
    pub older: usize,
    /// Under a key that is not in the ring: they do not open.
    pub unknown: usize,
}

/// What became of [`Upkeep::rekey`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rekeyed {
    /// The ring is in use; so many secrets were put under its first key.
    Done {
        /// How many.
        renewed: usize,
    },
    /// So many secrets are under keys that only the present ring has. Nothing was changed.
    Needed {
        /// How many would be lost.
        secrets: usize,
    },
}

/// Care of the store itself.
#[async_trait]
pub trait Upkeep: Send + Sync {
    /// Whether the store answers, and how long it took.
    async fn ping(&self) -> StoreResult<Duration>;

    /// How far the clock of the backend is ahead of `clock` (+) or behind it (−), in milliseconds; of several servers the one
    /// that is off most. `None` for a backend in this process: it has no other clock.
    async fn clock_ahead(&self, _clock: &SharedClock) -> StoreResult<Option<i64>> {
        Ok(None)
    }

    /// Forgets what can no longer matter at `now`; answers how many rows.
    async fn prune(&self, now: UnixMillis) -> StoreResult<usize>;

    /// Writes a consistent copy to `to` (must not exist yet) while running.
    async fn backup(&self, to: std::path::PathBuf) -> StoreResult<()>;

    /// How the secrets at rest stand to the ring in use.
    async fn sealed(&self) -> StoreResult<SealedCount> {
        Err(StoreError("this store does not count its secrets".to_owned()))
    }

    /// Seals and opens with this ring from now on, and puts all secrets under its first key: unless secrets would be
    /// lost by that.
    async fn rekey(&self, _keyring: Arc<Keyring>) -> StoreResult<Rekeyed> {
        Err(StoreError("this store takes other keys at its start only".to_owned()))
    }
}

/// Everything that one backend offers.
pub trait Store:
    Enrolments + Users + Documents + OneTime + Attempts + Devices + Revocations + SealedNames + Upkeep
{
}

impl<T> Store for T where
    T: Enrolments + Users + Documents + OneTime + Attempts + Devices + Revocations + SealedNames + Upkeep
{
}

/// A store as parts hold it.
pub type SharedStore = Arc<dyn Store>;

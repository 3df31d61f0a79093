//! What ends before its time.

use super::{AppId, DeviceId, Epoch, SessionId, UserKey};
use crate::base::clock::UnixMillis;

/// One announcement on the revocation feed. Every replica holds all that still matter in memory.
///
/// Applying is monotone: in whatever order the same announcements arrive, and however often, the result is the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Revocation {
    /// A session has ended (logout, a new login on the same browser).
    Session {
        /// Which one.
        id: SessionId,
        /// From when on no token of it can be alive anyway.
        until: UnixMillis,
    },
    /// A device has a new owner: tokens of an earlier epoch are void (I3).
    Device {
        /// Which one.
        device: DeviceId,
        /// The epoch that counts from now on.
        epoch: Epoch,
        /// From when on no token of an earlier epoch can be alive anyway.
        until: UnixMillis,
    },
    /// All that a user proved before `before` is void (reset, sign out everywhere).
    User {
        /// Who.
        user: UserKey,
        /// Sessions started and factors proved earlier do not count.
        before: UnixMillis,
        /// From when on no such token can be alive anyway.
        until: UnixMillis,
    },
    /// A user may not pass at all, or may again.
    Blocked {
        /// Who.
        user: UserKey,
        /// Whether the block is on.
        blocked: bool,
        /// Of two announcements about one user the one with the higher version counts (of two with the same, the
        /// block): the moment of the change in milliseconds since 1970, or the version before plus 1 if
        /// that is more.
        version: u64,
    },
    /// A cookie of an app is sealed from now on, wherever a plain value of it may still be.
    SealedName {
        /// Whose.
        app: AppId,
        /// The cookie's name.
        name: String,
    },
}

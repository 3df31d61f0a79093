//! The revocations that still matter, in memory: what a verified request is held against without any look-up
//! in a store. A counter changes with each new revocation, so that a session checked under the same count
//! needs no second check.

use super::token::{Session, Trust};
use crate::{
    base::clock::UnixMillis,
    model::{Revocation, UserKey},
    store::RevocationSink,
};

/// The live set.
#[derive(Default)]
pub struct Live {}

impl Live {
    /// Changes with every new revocation.
    pub fn generation(&self) -> u64 {
        todo!()
    }

    /// Whether nothing has revoked this session.
    pub fn session_lives(&self, _session: &Session) -> bool {
        todo!()
    }

    /// Whether nothing has revoked this trust.
    pub fn trust_lives(&self, _trust: &Trust) -> bool {
        todo!()
    }

    /// Whether nothing that `user` proved at `at` has been voided since (reset, sign-out everywhere).
    pub fn proof_lives(&self, _user: &UserKey, _at: UnixMillis) -> bool {
        todo!()
    }

    /// Whether the user is blocked.
    pub fn is_blocked(&self, _user: &UserKey) -> bool {
        todo!()
    }

    /// Drops what can no longer matter.
    pub fn prune(&self, _now: UnixMillis) {
        todo!()
    }
}

impl RevocationSink for Live {
    fn apply(&self, _revocation: &Revocation) {
        todo!()
    }
}

//! How a user proves more than a password.
//!
//! A [`Proof`] can be made only here, after an answer was charged (`throttle`), checked, and consumed (I4).

pub mod drift;
pub mod shown_once;
pub mod totp;

use crate::{
    base::clock::UnixMillis,
    model::{Method, UserKey},
    throttle::Next,
};

/// The proof that a user has just passed a second factor. Only this module makes one; `session` demands it.
#[derive(Debug)]
pub struct Proof {
    user: UserKey,
    method: Method,
    at: UnixMillis,
}

impl Proof {
    /// Who proved it.
    pub fn user(&self) -> &UserKey {
        &self.user
    }

    /// How.
    pub fn method(&self) -> Method {
        self.method
    }

    /// When.
    pub fn at(&self) -> UnixMillis {
        self.at
    }
}

/// The proof that a user has just spent an emergency code. Only [`shown_once`] makes one. It is no [`Proof`]: whoever has it
/// gets in once, for a while.
#[derive(Debug)]
pub struct EmergencyProof {
    user: UserKey,
}

impl EmergencyProof {
    /// Whose code it was.
    pub fn user(&self) -> &UserKey {
        &self.user
    }
}

#[cfg(test)]
impl Proof {
    /// What a verifier would have made, for tests of what follows from it.
    pub(crate) fn for_test(user: UserKey, method: Method, at: UnixMillis) -> Self {
        Self { user, method, at }
    }
}

#[cfg(test)]
impl EmergencyProof {
    /// The same.
    pub(crate) fn for_test(user: UserKey) -> Self {
        Self { user }
    }
}

/// Why a code was wrong, as far as that helps an honest user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hint {
    /// Not the form of a code (six digits).
    Malformed,
    /// No authenticator gives this code now.
    Mismatch,
    /// It was right, and has been used already: wait for the next one.
    AlreadyUsed,
    /// It would be right on a clock that is this many seconds ahead (+) or behind (-): too much to accept.
    ClockOff {
        /// Seconds, a multiple of 30.
        secs: i64,
    },
}

/// What became of an answer.
#[derive(Debug)]
pub enum Verdict {
    /// Right, and spent.
    Proved(Proof),
    /// Wrong, and counted.
    Wrong {
        /// What may help an honest user.
        hint: Hint,
        /// Wrong answers in a row, this one included.
        failures: u32,
        /// What the user may do next: a `Wait` or `Locked` here has begun with this answer.
        next: Next,
    },
    /// Not looked at: too many wrong ones lately.
    Wait {
        /// When the next one is taken.
        until: UnixMillis,
    },
    /// Not looked at: locked until an administrator acts.
    Locked,
    /// The user has no authenticator of this kind.
    NotEnrolled,
}

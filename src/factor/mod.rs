//! How a user proves more than a password.
//!
//! A [`Proof`] can be made only here, after an answer was charged (`throttle`), checked, and consumed (I4).
//!
//! Each way is a [`Factor`] in its own file; [`Factors`] has all of them. What the pages know of a way is its
//! [`Method`] and what it says to the person.

mod attempt;
pub mod drift;
pub mod recovery;
pub mod shown_once;
pub mod totp;

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    base::clock::UnixMillis,
    deliver::notices::Scene,
    model::{LoginId, Method, MethodSet, UserKey},
    store::StoreResult,
    throttle::Next,
};

/// Who is to prove something, and in which login: an answer to one login is none to another.
pub struct Ask<'a> {
    /// Who.
    pub user: &'a UserKey,
    /// In which pending login.
    pub login: LoginId,
    /// Where that is, for messages.
    pub scene: Scene,
}

/// One way to prove a second factor.
#[async_trait]
pub trait Factor: Send + Sync {
    /// Which one it is.
    fn method(&self) -> Method;

    /// Whether this user has what it takes.
    ///
    /// # Errors
    /// When the store fails: that is never "no" (I9).
    async fn ready(&self, user: &UserKey) -> StoreResult<bool>;

    /// Gets ready for an answer, where there is something to do. Called each time the page is shown, so it does at
    /// most once for a login what a person would notice, unless they ask for it `again`.
    ///
    /// # Errors
    /// When the store fails.
    async fn begin(&self, _ask: &Ask<'_>, _again: bool) -> StoreResult<Begun> {
        Ok(Begun::Ready)
    }

    /// Judges an answer: counts it, checks it, consumes it, in this order.
    ///
    /// # Errors
    /// When the store fails: then nothing was proved.
    async fn verify(&self, ask: &Ask<'_>, answer: &str) -> StoreResult<Verdict>;
}

/// What came of [`Factor::begin`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Begun {
    /// The person can answer.
    Ready,
}

/// All ways that there are.
pub struct Factors(Vec<Arc<dyn Factor>>);

impl Factors {
    /// These, in the order in which they are offered.
    pub fn new(all: Vec<Arc<dyn Factor>>) -> Self {
        Self(all)
    }

    /// One of them.
    pub fn get(&self, method: Method) -> Option<&dyn Factor> {
        self.0.iter().find(|factor| factor.method() == method).map(AsRef::as_ref)
    }

    /// Those of a set for which this user has what it takes, in order.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn ready(&self, user: &UserKey, among: MethodSet) -> StoreResult<Vec<Method>> {
        let mut found = Vec::new();
        for factor in self.0.iter().filter(|factor| among.contains(factor.method())) {
            if factor.ready(user).await? {
                found.push(factor.method());
            }
        }
        Ok(found)
    }
}

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

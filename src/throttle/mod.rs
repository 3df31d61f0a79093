//! Lock-out (I8): a pure function of what was counted and the time, and the loop that keeps it.

use crate::{
    base::clock::UnixMillis,
    model::UserKey,
    store::{Attempts, StoreResult},
};

/// Whether an attempt may be checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Counted; check it now. `failures_before` wrong ones came before it.
    Go {
        /// Wrong answers in a row before this one.
        failures_before: u32,
        /// What follows if this one is wrong too.
        if_wrong: Next,
    },
    /// Not before this moment; nothing was counted.
    Wait {
        /// When the next attempt is taken.
        until: UnixMillis,
    },
    /// Until an administrator or a recovery acts.
    Locked,
}

/// What follows a wrong answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Another attempt, at once.
    Again,
    /// Another attempt, not before this moment.
    Wait {
        /// When the next attempt is taken.
        until: UnixMillis,
    },
    /// None until an administrator or a recovery acts.
    Locked,
}

/// Counts an attempt before it is checked.
///
/// # Errors
/// When the store fails: then nothing may be checked.
pub async fn charge(_store: &dyn Attempts, _user: &UserKey, _now: UnixMillis) -> StoreResult<Verdict> {
    todo!()
}

/// Forgets what was counted, after a right answer.
///
/// # Errors
/// When the store fails.
pub async fn succeeded(_store: &dyn Attempts, _user: &UserKey) -> StoreResult<()> {
    todo!()
}

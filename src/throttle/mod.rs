//! Lock-out (I8): a pure function of what was counted and the time, and the loop that keeps it.
//!
//! ```text
//!   attempt   1   2   3   4   5      6      7      8       9       10         …   49       50
//!   then      -   -   -   -   30 s   60 s   2 min  4 min   8 min   15 min     …   15 min   locked
//!
//!        ┌────────┐  attempt, the 5th in a row or later   ┌─────────┐
//!        │  free  │ ────────────────────────────────────► │ waiting │──┐ attempt: refused, not counted,
//!        │        │ ◄──────────────────────────────────── │         │◄─┘ not checked
//!        └────────┘  time passes                          └─────────┘
//!          ▲    │ the 50th                                   │ the 50th ends here as well
//!   right  │    ▼                                            ▼
//!   answer │  ┌────────────────────────────────────────────────┐
//!   (from ─┘  │ locked: nothing is checked until a reset       │
//!    free)    └────────────────────────────────────────────────┘
//! ```
//!
//! Decides whether an answer may be looked at. Promises: an attempt is counted before it is checked, with one
//! atomic swap, so that any number of attempts at once, over all devices, addresses and replicas, gets no more
//! than the table gives; a right answer starts the count anew; at most 50 in a row are ever checked
//! (NIST SP 800-63B-4, section 3.2.2, allows 100). RFC 4226, section 7.3, asks for the growing delay.
//! Must never count by device or address (an attacker has many), and never let an error pass as [`Verdict::Go`].
//! Nothing here is on the way of a verified request.

pub mod allowance;

use std::time::Duration;

use crate::{
    base::clock::UnixMillis,
    model::UserKey,
    store::{AttemptState, Attempts, StoreError, StoreResult},
};

/// Attempts in a row that are taken without a wait.
pub const FREE_ATTEMPTS: u32 = 5;
/// After so many attempts without success nothing is taken any more.
pub const LOCK_AFTER: u32 = 50;
/// The first wait.
pub const FIRST_WAIT: Duration = Duration::from_secs(30);
/// The longest wait.
pub const LONGEST_WAIT: Duration = Duration::from_mins(15);

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

/// What a state says about now, for a page or an administrator; nothing is counted.
pub fn standing(state: AttemptState, now: UnixMillis) -> Next {
    match next(state, now).0 {
        Verdict::Go { .. } => Next::Again,
        Verdict::Wait { until } => Next::Wait { until },
        Verdict::Locked => Next::Locked,
    }
}

/// Judges one attempt at `now`: the verdict, and the state to keep *before* the attempt is checked.
pub fn next(state: AttemptState, now: UnixMillis) -> (Verdict, AttemptState) {
    if state.failures >= LOCK_AFTER {
        return (Verdict::Locked, state);
    }
    if now < state.wait_until {
        // A clock that stood wrong when the wait was set must not lock somebody out for years.
        let until = state.wait_until.min(now.plus(LONGEST_WAIT));
        return (Verdict::Wait { until }, AttemptState { wait_until: until, ..state });
    }
    let failures = state.failures.saturating_add(1);
    let (if_wrong, wait_until) = if failures >= LOCK_AFTER {
        (Next::Locked, UnixMillis::default())
    } else if failures < FREE_ATTEMPTS {
        (Next::Again, UnixMillis::default())
    } else {
        let until = now.plus(wait_after(failures));
        (Next::Wait { until }, until)
    };
    let verdict = Verdict::Go { failures_before: state.failures, if_wrong };
    (verdict, AttemptState { failures, wait_until })
}

/// Counts an attempt before it is checked.
///
/// # Errors
/// When the store fails: then nothing may be checked.
pub async fn charge(store: &dyn Attempts, user: &UserKey, now: UnixMillis) -> StoreResult<Verdict> {
    for _ in 0..MOST_SWAPS {
        let state = store.attempts(user).await?;
        let (verdict, new) = next(state, now);
        if new == state || store.swap_attempts(user, state, new).await? {
            return Ok(verdict);
        }
    }
    Err(contended())
}

/// Forgets what was counted, after a right answer.
///
/// # Errors
/// When the store fails.
pub async fn succeeded(store: &dyn Attempts, user: &UserKey) -> StoreResult<()> {
    for _ in 0..MOST_SWAPS {
        let state = store.attempts(user).await?;
        if state == AttemptState::default() || store.swap_attempts(user, state, <_>::default()).await? {
            return Ok(());
        }
    }
    Err(contended())
}

/// How long to wait after the `failures`-th wrong answer in a row (from the fifth on).
fn wait_after(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(FREE_ATTEMPTS);
    let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
    FIRST_WAIT.saturating_mul(factor).min(LONGEST_WAIT)
}

fn contended() -> StoreError {
    StoreError("the attempt counter changed under every swap".to_owned())
}

/// Each lost swap means that somebody else was counted, and after five of those everybody waits; so this is
/// reached by a broken backend only.
const MOST_SWAPS: usize = 256;

#[cfg(test)]
mod tests;

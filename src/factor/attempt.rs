//! What every way of proving has in common: an answer is counted before it is looked at (I8), over all ways together, and
//! this is the one place where a [`Proof`] is made.

use super::{Hint, Proof, Verdict};
use crate::{
    base::clock::UnixMillis,
    model::{Method, UserKey},
    store::{SharedStore, StoreResult},
    throttle::{self, Next},
};

/// An attempt that was counted.
pub(super) struct Charged {
    failures: u32,
    if_wrong: Next,
}

/// Counts an attempt: what it was charged, or why it is not looked at.
pub(super) async fn charge(
    store: &SharedStore,
    user: &UserKey,
    now: UnixMillis,
) -> StoreResult<Result<Charged, Verdict>> {
    Ok(match throttle::charge(store.as_ref(), user, now).await? {
        throttle::Verdict::Go { failures_before, if_wrong } => {
            Ok(Charged { failures: failures_before.saturating_add(1), if_wrong })
        }
        throttle::Verdict::Wait { until } => Err(Verdict::Wait { until }),
        throttle::Verdict::Locked => Err(Verdict::Locked),
    })
}

impl Charged {
    /// The answer was wrong.
    pub fn wrong(self, hint: Hint) -> Verdict {
        Verdict::Wrong { hint, failures: self.failures, next: self.if_wrong }
    }
}

/// The answer was right, and is spent.
pub(super) async fn prove(
    store: &SharedStore,
    user: &UserKey,
    method: Method,
    at: UnixMillis,
) -> StoreResult<Verdict> {
    throttle::succeeded(store.as_ref(), user).await?;
    Ok(Verdict::Proved(Proof { user: user.clone(), method, at }))
}

//! How many sessions of one user may end before their time. Each end is a revocation, which every replica holds in memory
//! until the session could not be alive any more; whoever can begin sessions without a second factor (trust, exemption)
//! could fill that memory by logging in and out in a loop.
//!
//! Decides whether a user may begin another session now. Promises a bound: a burst, and then one in each interval.
//! Counts in this process only and forgets at a restart, since it bounds this process' memory and guards no secret.
//! Must never keep anybody from *ending* a session: an end is charged, a beginning is refused.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;

use crate::{base::clock::UnixMillis, model::UserKey};

/// So many at once: many screens of one shared account may log in again at the same time.
const BURST: u64 = 300;
/// Then one in so many seconds.
const INTERVAL: Duration = Duration::from_secs(30);
/// The list of users is looked through when it has grown beyond this and doubled since.
const SMALL: usize = 1024;

/// Who has used up how much.
#[derive(Default)]
pub struct Allowances(Mutex<State>);

#[derive(Default)]
struct State {
    /// When everything charged so far will have been paid off.
    paid: HashMap<UserKey, UnixMillis, ahash::RandomState>,
    look_at: usize,
}

impl Allowances {
    /// Charges the end of a session of `user`.
    pub fn charge(&self, user: &UserKey, now: UnixMillis) {
        let mut state = self.0.lock();
        if state.paid.len() >= state.look_at.max(SMALL) {
            state.paid.retain(|_, paid| *paid > now);
            state.look_at = state.paid.len().saturating_mul(2);
        }
        let paid = state.paid.entry(user.clone()).or_default();
        *paid = (*paid).max(now).plus(INTERVAL);
    }

    /// Whether `user` has used it up; then no session begins without a second factor.
    pub fn is_used_up(&self, user: &UserKey, now: UnixMillis) -> bool {
        let paid = self.0.lock().paid.get(user).copied().unwrap_or_default();
        paid.since(now).as_secs() > BURST.saturating_mul(INTERVAL.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Realm, UserName};

    fn user(name: &str) -> UserKey {
        UserKey { realm: Realm::new("care"), name: UserName::canonical(name) }
    }

    #[test]
    fn a_burst_and_then_one_in_each_interval_and_each_user_for_themselves() {
        let (all, start) = (Allowances::default(), UnixMillis::from_secs(1_800_000_000));
        let mut charged = 0;
        while !all.is_used_up(&user("anna"), start) {
            all.charge(&user("anna"), start);
            charged += 1;
        }
        assert_eq!(charged, BURST + 1);
        assert!(!all.is_used_up(&user("bram"), start));
        let later = start.plus(INTERVAL);
        assert!(!all.is_used_up(&user("anna"), later), "one more");
        all.charge(&user("anna"), later);
        assert!(all.is_used_up(&user("anna"), later), "and no two");
    }

    #[test]
    fn users_who_have_paid_are_forgotten() {
        let (all, start) = (Allowances::default(), UnixMillis::from_secs(1_800_000_000));
        for n in 0..20_000_u64 {
            all.charge(&user(&n.to_string()), start.plus(INTERVAL * u32::try_from(n).unwrap()));
        }
        assert!(all.0.lock().paid.len() <= SMALL + 1);
    }
}

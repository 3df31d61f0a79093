//! How far phones' clocks are from ours, seen over users: when the codes of most of them are off alike, it is not
//! the phones but the server's clock that is wrong (requirements, row E8).
//!
//! Kept in memory only, and only of codes that are truly an authenticator's own: nobody without the secrets of
//! several users can raise a false alarm. It decides nothing.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::model::UserKey;

/// The latest codes that were right on somebody's clock.
#[derive(Default)]
pub struct Drifts {
    recent: Mutex<VecDeque<(UserKey, i64)>>,
}

impl Drifts {
    /// A code of this user was right, on a clock so many seconds ahead (+) of ours or behind (-) it.
    pub(super) fn note(&self, user: &UserKey, secs: i64) {
        let mut recent = self.recent.lock();
        if recent.len() >= REMEMBERED {
            recent.pop_front();
        }
        recent.push_back((user.clone(), secs));
    }

    /// The median over users of how many seconds phones are ahead (+) of our clock or behind (-) it, each with the
    /// latest code; of two middle ones the smaller. `None` while too few users have been seen.
    pub fn median_secs(&self) -> Option<i64> {
        let mut latest: Vec<(UserKey, i64)> = Vec::new();
        for (user, secs) in self.recent.lock().iter().rev() {
            if latest.iter().all(|(seen, _)| seen != user) {
                latest.push((user.clone(), *secs));
            }
        }
        if latest.len() < USERS {
            return None;
        }
        latest.sort_unstable_by_key(|(_, secs)| *secs);
        let middle = [latest.len().saturating_sub(1) / 2, latest.len() / 2];
        middle.iter().filter_map(|at| latest.get(*at)).map(|(_, secs)| *secs).min_by_key(|s| s.unsigned_abs())
    }
}

/// Codes that are remembered.
const REMEMBERED: usize = 20;
/// Fewer users than this tell nothing about our clock.
const USERS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Realm, UserName};

    fn user(name: &str) -> UserKey {
        UserKey { realm: Realm::new("ecd"), name: UserName::canonical(name) }
    }

    /// [E8]
    #[test]
    fn the_median_is_of_users_not_of_codes() {
        let drifts = Drifts::default();
        for name in ["a", "b", "c", "d"] {
            drifts.note(&user(name), -60);
        }
        assert_eq!(drifts.median_secs(), None, "four users");
        for _ in 0..10 {
            drifts.note(&user("e"), 0);
        }
        assert_eq!(drifts.median_secs(), Some(-60), "the fifth, many times");
        for name in ["a", "b", "c"] {
            drifts.note(&user(name), 0);
        }
        assert_eq!(drifts.median_secs(), Some(0), "the latest of each counts");
    }

    /// [E8] One phone that is far off is no fault of the server, and old codes are forgotten.
    #[test]
    fn one_phone_and_old_codes_do_not_count() {
        let drifts = Drifts::default();
        for (name, secs) in [("a", 300), ("b", 0), ("c", 0), ("d", -30), ("e", 0), ("f", 0)] {
            drifts.note(&user(name), secs);
        }
        assert_eq!(drifts.median_secs(), Some(0));
        for _ in 0..REMEMBERED {
            drifts.note(&user("a"), 300);
        }
        assert_eq!(drifts.median_secs(), None, "one user is left");
    }
}

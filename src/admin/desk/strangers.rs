//! Wrong passwords for names that nobody has: counted like everybody's, so that nobody can tell the two apart. Kept in memory
//! only, and no more of them than could be flooded away before the longest wait is over.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::{
    base::clock::UnixMillis,
    store::AttemptState,
    throttle::{self, Verdict},
};

#[derive(Default)]
pub(super) struct Strangers(Mutex<HashMap<String, (AttemptState, UnixMillis), ahash::RandomState>>);

impl Strangers {
    /// Counts an attempt on `name`.
    pub fn charge(&self, name: &str, now: UnixMillis) -> Verdict {
        let mut kept = self.0.lock();
        if kept.len() >= AT_MOST && !kept.contains_key(name) {
            // The older half goes.
            let mut times: Vec<UnixMillis> = kept.values().map(|(_, at)| *at).collect();
            let middle = times.len() / 2;
            let (_, median, _) = times.select_nth_unstable(middle);
            let median = *median;
            kept.retain(|_, (_, at)| *at > median);
        }
        let (state, at) = kept.entry(name.chars().take(LONGEST).collect()).or_default();
        let (verdict, new) = throttle::next(*state, now);
        (*state, *at) = (new, now);
        verdict
    }
}

/// Two passwords are checked at a time, some fifty in a second: so many take longer than the longest wait.
const AT_MOST: usize = 100_000;
const LONGEST: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i8_strangers_wait_like_everybody_and_cannot_fill_the_memory() {
        let (all, now) = (Strangers::default(), UnixMillis::from_secs(1_900_000_000));
        for _ in 0..throttle::FREE_ATTEMPTS {
            assert!(matches!(all.charge("nobody", now), Verdict::Go { .. }));
        }
        assert!(matches!(all.charge("nobody", now), Verdict::Wait { .. }));
        assert!(matches!(all.charge("another", now), Verdict::Go { .. }));
        for n in 0..AT_MOST as u64 + 10 {
            all.charge(&n.to_string(), UnixMillis(now.0 + n));
        }
        assert!(all.0.lock().len() <= AT_MOST);
        let last = (AT_MOST as u64 + 9).to_string();
        assert!(all.0.lock().contains_key(&last), "the newest stay");
    }
}

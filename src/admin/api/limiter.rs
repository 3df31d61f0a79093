//! How often one token, or one address, may do something: a rate, and so much at once (GCRA).
//!
//! Counts in this process only, and forgets at a restart: it bounds work and guards no secret.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;

use crate::base::clock::UnixMillis;

/// Counts the requests of each `K`.
pub(super) struct Limiter<K> {
    /// Nanoseconds between two.
    interval: AtomicU64,
    at_once: Duration,
    state: Mutex<State<K>>,
}

struct State<K> {
    /// When everything charged so far will have been paid off.
    paid: HashMap<K, Duration, ahash::RandomState>,
    look_at: usize,
}

impl<K: Eq + Hash> Limiter<K> {
    /// So many requests a minute, and a quarter of a minute's worth of them at once.
    pub fn new(rate: u32) -> Self {
        Self::of(interval(rate), AT_ONCE)
    }

    /// So many from now on.
    pub fn set(&self, rate: u32) {
        self.interval.store(nanos(interval(rate)), Ordering::Relaxed);
    }

    /// Once in each of these.
    pub fn every(interval: Duration) -> Self {
        Self::of(interval, interval)
    }

    fn of(interval: Duration, at_once: Duration) -> Self {
        Self {
            interval: AtomicU64::new(nanos(interval)),
            at_once,
            state: Mutex::new(State { paid: HashMap::default(), look_at: SMALL }),
        }
    }

    /// Charges one request.
    ///
    /// # Errors
    /// When it is too early: so long is to be waited.
    pub fn charge(&self, key: K, now: UnixMillis) -> Result<(), Duration> {
        let now = Duration::from_millis(now.0);
        let mut state = self.state.lock();
        if state.paid.len() >= state.look_at {
            state.paid.retain(|_, paid| *paid > now);
            state.look_at = state.paid.len().saturating_mul(2).max(SMALL);
        }
        let latest = now.saturating_add(self.at_once);
        // A clock that was set back must not lock anybody out for long.
        let paid = state.paid.get(&key).map_or(now, |paid| (*paid).clamp(now, latest));
        let interval = Duration::from_nanos(self.interval.load(Ordering::Relaxed));
        let next = paid.saturating_add(interval);
        if next > latest {
            return Err(next.saturating_sub(latest));
        }
        state.paid.insert(key, next);
        Ok(())
    }
}

fn interval(rate: u32) -> Duration {
    MINUTE.checked_div(rate).unwrap_or(MINUTE)
}

fn nanos(interval: Duration) -> u64 {
    u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX)
}

const MINUTE: Duration = Duration::from_secs(60);
/// What was not used for so long can be used at once.
const AT_ONCE: Duration = Duration::from_secs(15);
/// The list is looked through when it has grown beyond this and doubled since.
const SMALL: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const START: UnixMillis = UnixMillis::from_secs(1_800_000_000);

    #[test]
    fn a_quarter_at_once_and_then_by_the_rate() {
        let limiter = Limiter::new(60);
        let mut at_once = 0;
        while limiter.charge("anna", START).is_ok() {
            at_once += 1;
        }
        assert_eq!(at_once, 15);
        assert!(limiter.charge("bram", START).is_ok(), "each for themselves");
        let wait = limiter.charge("anna", START).unwrap_err();
        assert_eq!(wait, Duration::from_secs(1));
        assert!(limiter.charge("anna", START.plus(Duration::from_millis(999))).is_err());
        assert!(limiter.charge("anna", START.plus(wait)).is_ok());
        assert!(limiter.charge("anna", START.plus(wait)).is_err());
    }

    #[test]
    fn another_rate_counts_at_once() {
        let limiter = Limiter::new(60);
        while limiter.charge("anna", START).is_ok() {}
        limiter.set(600);
        assert!(limiter.charge("anna", START.plus(Duration::from_millis(99))).is_err());
        assert!(limiter.charge("anna", START.plus(Duration::from_millis(100))).is_ok());
        assert!(limiter.charge("anna", START.plus(Duration::from_millis(100))).is_err());
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_out_for_long() {
        let limiter = Limiter::new(60);
        assert!(limiter.charge("anna", START).is_ok());
        let before = UnixMillis::from_secs(1_700_000_000);
        assert!(limiter.charge("anna", before).unwrap_err() <= Duration::from_secs(1));
    }

    #[test]
    fn those_who_have_paid_are_forgotten() {
        let limiter = Limiter::new(60);
        for n in 0..20_000_u64 {
            assert!(limiter.charge(n, START.plus(Duration::from_secs(n))).is_ok());
        }
        assert!(limiter.state.lock().paid.len() <= SMALL + 1);
    }
}

//! What a replica knows of the feed, as the way of a request asks it: two numbers and one look at the clock.
//!
//! Within its lease a replica knows everything that is complete: [`Sight::Clear`]. A lease that runs out is not
//! told to anybody; it is a moment that passes. So also a process that was stopped (SIGSTOP, a frozen container) and goes on
//! sees by its first look at the clock that it may have missed something.
//!
//! **Grace** is for a backend that is away: [`Sight::Grace`] needs the follower to have found, while the lease
//! still held, that the backend does not answer. A replica that was itself away gets none: it is
//! [`Sight::Blind`] from the end of its lease until it has caught up, a few milliseconds mostly. What grace costs is said
//! plainly: a replica that *alone* is cut off from the backend, while others reach it, may accept a revoked session until
//! its grace has run out. When the backend is away from everybody this cannot happen, for then no takeover can complete either.
//! `grace: 0s` is strict.
//!
//! Must never take a lock, allocate or wait on the way of a request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use crate::base::clock::{SharedMonotonic, Ticks};

/// What a replica knows of what has been revoked elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sight {
    /// All that is complete.
    Clear,
    /// Perhaps not all, because the backend does not answer: running sessions go on for a while, nothing new begins.
    Grace,
    /// Perhaps not all: whatever needs a session waits.
    Blind,
}

/// Tells the [`Sight`]. The default is always clear: a store of one replica, where every revocation is applied in process.
#[derive(Clone, Default)]
pub struct Lookout(Option<Arc<Horizon>>);

/// The state of the leases at one moment. Take it *before* looking at what has been revoked, and ask it after: what it
/// then says holds for all the time between.
pub struct Glance<'a> {
    horizon: Option<&'a Horizon>,
    clear_until: Ticks,
    sessions_until: Ticks,
}

impl Lookout {
    /// The leases as they are now.
    pub fn glance(&self) -> Glance<'_> {
        match self.0.as_deref() {
            None => Glance { horizon: None, clear_until: Ticks(0), sessions_until: Ticks(0) },
            Some(horizon) => Glance {
                clear_until: Ticks(horizon.clear_until.load(Ordering::Acquire)),
                sessions_until: Ticks(horizon.sessions_until.load(Ordering::Acquire)),
                horizon: Some(horizon),
            },
        }
    }

    /// The sight now, for whoever has looked at nothing before.
    pub fn sight(&self) -> Sight {
        self.glance().sight()
    }

    /// Whether it is always clear, because there is nobody else.
    pub const fn is_alone(&self) -> bool {
        self.0.is_none()
    }
}

impl Glance<'_> {
    /// Reads the clock: the sight that has held since the glance was taken.
    pub fn sight(&self) -> Sight {
        let Some(horizon) = self.horizon else { return Sight::Clear };
        let now = horizon.clock.ticks();
        if now < self.clear_until {
            Sight::Clear
        } else if now < self.sessions_until {
            Sight::Grace
        } else {
            Sight::Blind
        }
    }
}

/// The leases of all shards, and what follows from them for all.
pub(super) struct Horizon {
    clock: SharedMonotonic,
    grace: Duration,
    /// The least of all shards: everything is known.
    clear_until: AtomicU64,
    /// The least of all shards: running sessions go on.
    sessions_until: AtomicU64,
    shards: Mutex<Shards>,
}

struct Shards {
    leases: Vec<Lease>,
    left: bool,
}

#[derive(Clone, Copy, Default)]
struct Lease {
    until: Ticks,
    /// Set while the backend is known to be away.
    grace_until: Ticks,
}

impl Horizon {
    /// Blind in all `shards` shards.
    pub fn new(shards: usize, grace: Duration, clock: SharedMonotonic) -> Arc<Self> {
        let shards = Shards { leases: vec![Lease::default(); shards], left: false };
        Arc::new(Self {
            clock,
            grace,
            clear_until: AtomicU64::new(0),
            sessions_until: AtomicU64::new(0),
            shards: Mutex::new(shards),
        })
    }

    pub fn lookout(self: &Arc<Self>) -> Lookout {
        Lookout(Some(Arc::clone(self)))
    }

    /// All that is complete in this shard is known, and will be until then.
    pub fn clear(&self, shard: usize, until: Ticks) {
        self.change(shard, |lease| *lease = Lease { until: lease.until.max(until), grace_until: Ticks(0) });
    }

    /// The backend does not answer. That counts only when it is found before the lease has run out: a replica
    /// that was away itself could have missed a word that others have heard.
    pub fn backend_is_away(&self, shard: usize) {
        let (now, grace) = (self.clock.ticks(), self.grace);
        self.change(shard, |lease| {
            if now < lease.until && lease.grace_until == Ticks(0) {
                lease.grace_until = lease.until.plus(grace);
            }
        });
    }

    /// Whether all is known in this shard now.
    pub fn is_clear(&self, shard: usize) -> bool {
        self.shards.lock().leases.get(shard).is_some_and(|lease| self.clock.ticks() < lease.until)
    }

    /// How long all is known everywhere; zero when it is not.
    pub fn rest(&self) -> Duration {
        Ticks(self.clear_until.load(Ordering::Acquire)).since(self.clock.ticks())
    }

    /// Blind for good: the leases are given up.
    pub fn leave(&self) {
        let mut shards = self.shards.lock();
        shards.left = true;
        self.clear_until.store(0, Ordering::Release);
        self.sessions_until.store(0, Ordering::Release);
    }

    fn change(&self, shard: usize, change: impl FnOnce(&mut Lease)) {
        // Under the lock, so that of two changes the later one has the last word about the least.
        let mut shards = self.shards.lock();
        if shards.left {
            return;
        }
        if let Some(lease) = shards.leases.get_mut(shard) {
            change(lease);
        }
        let least = |of: fn(&Lease) -> Ticks| shards.leases.iter().map(of).min().unwrap_or_default();
        self.sessions_until.store(least(|l| l.until.max(l.grace_until)).0, Ordering::Release);
        self.clear_until.store(least(|l| l.until).0, Ordering::Release);
    }
}

#[cfg(test)]
impl Lookout {
    /// One that is asked so many times before it goes blind.
    pub(crate) fn clear_for(looks: u64) -> Self {
        struct Counting(AtomicU64);
        impl crate::base::clock::Monotonic for Counting {
            fn ticks(&self) -> Ticks {
                Ticks(self.0.fetch_add(1, Ordering::SeqCst))
            }
            fn sleep(&self, _: Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
                Box::pin(std::future::pending())
            }
        }
        let horizon = Horizon::new(1, Duration::ZERO, Arc::new(Counting(AtomicU64::new(0))));
        horizon.clear_until.store(looks, Ordering::Release);
        Self(Some(horizon))
    }

    /// One that always sees the same.
    pub(crate) fn showing(sight: Sight) -> Self {
        struct Still;
        impl crate::base::clock::Monotonic for Still {
            fn ticks(&self) -> Ticks {
                Ticks(10)
            }
            fn sleep(&self, _: Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
                Box::pin(std::future::pending())
            }
        }
        let horizon = Horizon::new(1, Duration::ZERO, Arc::new(Still));
        let (clear, sessions) = match sight {
            Sight::Clear => (20, 20),
            Sight::Grace => (5, 20),
            Sight::Blind => (5, 5),
        };
        horizon.clear_until.store(clear, Ordering::Release);
        horizon.sessions_until.store(sessions, Ordering::Release);
        Self(Some(horizon))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use super::*;
    use crate::base::clock::Monotonic;

    struct Hand(AtomicU64);

    impl Monotonic for Hand {
        fn ticks(&self) -> Ticks {
            Ticks(self.0.load(Ordering::SeqCst))
        }

        fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(std::future::pending())
        }
    }

    fn two_shards(grace: u64) -> (Arc<Hand>, Arc<Horizon>, Lookout) {
        let hand = Arc::new(Hand(AtomicU64::new(100)));
        let horizon = Horizon::new(2, Duration::from_nanos(grace), Arc::clone(&hand) as _);
        let lookout = horizon.lookout();
        (hand, horizon, lookout)
    }

    fn at(hand: &Hand, now: u64, lookout: &Lookout) -> Sight {
        hand.0.store(now, Ordering::SeqCst);
        lookout.sight()
    }

    #[test]
    fn alone_is_always_clear() {
        assert!(Lookout::default().is_alone());
        assert_eq!(Lookout::default().sight(), Sight::Clear);
    }

    #[test]
    fn the_least_of_all_shards_counts() {
        let (hand, horizon, lookout) = two_shards(1000);
        assert_eq!(lookout.sight(), Sight::Blind, "nothing is loaded");
        horizon.clear(0, Ticks(200));
        assert_eq!(lookout.sight(), Sight::Blind, "not everything is");
        horizon.clear(1, Ticks(300));
        assert_eq!(at(&hand, 199, &lookout), Sight::Clear);
        assert_eq!(at(&hand, 200, &lookout), Sight::Blind, "by the clock alone");
        horizon.clear(0, Ticks(150));
        assert_eq!(lookout.sight(), Sight::Blind, "an older word shortens nothing and prolongs nothing");
    }

    #[test]
    fn i3_grace_is_for_a_backend_that_is_away_not_for_a_replica_that_was() {
        let (hand, horizon, lookout) = two_shards(1000);
        horizon.clear(0, Ticks(200));
        horizon.clear(1, Ticks(200));
        hand.0.store(150, Ordering::SeqCst);
        horizon.backend_is_away(0);
        horizon.backend_is_away(1);
        assert_eq!(at(&hand, 199, &lookout), Sight::Clear);
        assert_eq!(at(&hand, 1199, &lookout), Sight::Grace);
        assert_eq!(at(&hand, 1200, &lookout), Sight::Blind);
        horizon.clear(0, Ticks(1400));
        horizon.clear(1, Ticks(1400));
        assert_eq!(at(&hand, 1399, &lookout), Sight::Clear);
        hand.0.store(1500, Ordering::SeqCst);
        horizon.backend_is_away(0);
        horizon.backend_is_away(1);
        assert_eq!(lookout.sight(), Sight::Blind, "found after the lease had run out");
    }

    #[test]
    fn no_grace_is_strict_and_who_has_left_is_blind_for_good() {
        let (hand, horizon, lookout) = two_shards(0);
        horizon.clear(0, Ticks(200));
        horizon.clear(1, Ticks(200));
        horizon.backend_is_away(0);
        assert_eq!(at(&hand, 200, &lookout), Sight::Blind);
        horizon.leave();
        horizon.clear(0, Ticks(900));
        horizon.clear(1, Ticks(900));
        assert_eq!(lookout.sight(), Sight::Blind);
    }

    /// A look at the maps between glance and judgement is covered by the lease as it was before the look.
    #[test]
    fn i3_a_lease_regained_in_between_does_not_count() {
        let (hand, horizon, lookout) = two_shards(0);
        horizon.clear(0, Ticks(200));
        horizon.clear(1, Ticks(200));
        let glance = lookout.glance();
        hand.0.store(250, Ordering::SeqCst);
        horizon.clear(0, Ticks(400));
        horizon.clear(1, Ticks(400));
        assert_eq!(lookout.sight(), Sight::Clear);
        assert_eq!(glance.sight(), Sight::Blind);
    }
}

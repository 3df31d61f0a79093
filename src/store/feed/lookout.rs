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

//! One server, and what is known of how well it is.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use pingora::upstreams::peer::HttpPeer;

use crate::base::clock::Stopwatch;

/// One server.
pub(super) struct Backend {
    /// Told apart from every other one, also from one that had the same address before.
    pub(super) id: u64,
    pub(super) address: SocketAddr,
    pub(super) peer: HttpPeer,
    /// Set by active checks.
    unwell: AtomicBool,
    /// Failed checks in a row.
    checks_failed: AtomicU32,
    /// Failed connections in a row.
    failures: AtomicU32,
    /// Milliseconds since [`Backend::made`] before which it counts as down; 0 = it does not.
    down_until: AtomicU64,
    made: Stopwatch,
}

impl Backend {
    pub(super) fn new(address: SocketAddr, template: &HttpPeer) -> Self {
        let mut peer = template.clone();
        peer._address = pingora::protocols::l4::socket::SocketAddr::Inet(address);
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            id: NEXT.fetch_add(1, Relaxed),
            address,
            peer,
            unwell: AtomicBool::new(false),
            checks_failed: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            down_until: AtomicU64::new(0),
            made: Stopwatch::start(),
        }
    }

    /// What is known of the same server under another configuration.
    pub(super) fn take_over(&self, known: &Self, checked: bool) {
        self.failures.store(known.failures.load(Relaxed), Relaxed);
        let left = known.down_until.load(Relaxed).saturating_sub(known.age());
        self.down_until.store(if left == 0 { 0 } else { self.age() + left }, Relaxed);
        if checked {
            self.checks_failed.store(known.checks_failed.load(Relaxed), Relaxed);
            self.unwell.store(known.unwell.load(Relaxed), Relaxed);
        }
    }

    pub(super) fn is_usable(&self) -> bool {
        if self.unwell.load(Relaxed) {
            return false;
        }
        let until = self.down_until.load(Relaxed);
        until == 0 || self.age() >= until
    }

    pub(super) fn fail(&self) {
        let before = self.failures.fetch_add(1, Relaxed);
        let pause = PAUSE.saturating_mul(1 << before.min(3));
        self.down_until.store(self.age() + millis(pause), Relaxed);
    }

    /// Takes the result of an active check; true when the server's state has changed.
    pub(super) fn checked(&self, well: bool) -> bool {
        if well {
            self.checks_failed.store(0, Relaxed);
            self.failures.store(0, Relaxed);
            self.down_until.store(0, Relaxed);
            return self.unwell.swap(false, Relaxed);
        }
        self.checks_failed.fetch_add(1, Relaxed) + 1 >= CHECKS_TO_FAIL && !self.unwell.swap(true, Relaxed)
    }

    /// A connection to it came about.
    pub(super) fn succeed(&self) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
            self.down_until.store(0, Relaxed);
        }
    }

    fn age(&self) -> u64 {
        millis(self.made.elapsed())
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// How long a server is left alone after a connection to it failed; doubled up to eight times that.
const PAUSE: Duration = Duration::from_secs(5);
const CHECKS_TO_FAIL: u32 = 2;

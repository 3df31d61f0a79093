//! The clocks of one worker's connections: a tick a few times per second, at which each is looked at.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{SharedSettings, connection::Connection};
use crate::config::Limits;

/// The coarse clock of one worker: ticks since its start, from 1 on.
pub(super) struct Ticker {
    now: AtomicU32,
    tick: Duration,
}

impl Ticker {
    pub(super) fn now(&self) -> u32 {
        self.now.load(Relaxed)
    }

    /// So much time, in ticks.
    pub(super) fn ticks(&self, d: Duration) -> u32 {
        ticks(d, self.tick)
    }
}

fn ticks(d: Duration, tick: Duration) -> u32 {
    // 64 bits of nanoseconds are 584 years; a division of 128 bits would be slow.
    let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
    u32::try_from(nanos(d).div_ceil(nanos(tick).max(1))).unwrap_or(u32::MAX)
}

/// Limits, in ticks. 0 = none.
pub(super) struct Rules {
    pub(super) header: u32,
    pub(super) keepalive: u32,
    pub(super) idle: u32,
    pub(super) stopping: u32,
    /// Over how long the rate of a body is taken, and what must have come of it by then.
    pub(super) window: u32,
    pub(super) window_bytes: u64,
}

impl Rules {
    pub(super) fn new(limits: &Limits, tick: Duration) -> Self {
        let ticks = |d: Duration| ticks(d, tick);
        let window = BODY_WINDOW;
        Self {
            header: ticks(limits.header_timeout),
            keepalive: ticks(limits.keepalive_timeout),
            idle: ticks(limits.client_idle_timeout),
            stopping: ticks(STOPPING_GRACE),
            window: ticks(window).max(1),
            window_bytes: u64::try_from(u128::from(limits.min_body_rate) * window.as_millis() / 1000)
                .unwrap_or(u64::MAX),
        }
    }
}

/// Ends the connections of one worker that are too slow.
pub(super) struct Sweeper {
    ticker: Arc<Ticker>,
    settings: SharedSettings,
    connections: Mutex<Vec<Arc<Connection>>>,
}

impl Sweeper {
    /// The tick stays as the first limits want it: it is short against any that are allowed.
    pub(super) fn new(settings: SharedSettings) -> Self {
        let limits = settings.load().limits.clone();
        let shortest = [limits.header_timeout, limits.keepalive_timeout, limits.client_idle_timeout]
            .into_iter()
            .filter(|d| !d.is_zero())
            .min()
            .unwrap_or(LONGEST_TICK);
        let tick = (shortest / 20).clamp(SHORTEST_TICK, LONGEST_TICK);
        Self {
            ticker: Arc::new(Ticker { now: AtomicU32::new(1), tick }),
            settings: settings.clone(),
            connections: Mutex::default(),
        }
    }

    pub(super) fn ticker(&self) -> &Arc<Ticker> {
        &self.ticker
    }

    pub(super) fn watch(&self, connection: &Arc<Connection>) {
        self.connections.lock().push(Arc::clone(connection));
    }

    /// Runs for ever.
    pub(super) async fn run(&self, stopping: impl Fn() -> bool) {
        let mut interval = tokio::time::interval(self.ticker.tick);
        loop {
            interval.tick().await;
            self.ticker.now.fetch_add(1, Relaxed);
            self.sweep(stopping());
        }
    }

    fn sweep(&self, stopping: bool) {
        let rules = Rules::new(&self.settings.load().limits, self.ticker.tick);
        // Only our own reference is left of those that are gone.
        self.connections.lock().retain(|connection| {
            let end = connection.judge(&rules, stopping);
            if let Some(end) = end {
                connection.end_for(end);
            }
            let cutting = || connection.streams().is_some_and(|streams| streams.can_cut());
            if end.is_some() || connection.app_is_late() || cutting() {
                connection.wake();
            }
            Arc::strong_count(connection) > 1
        });
    }
}

/// Over how long the rate of a body is taken.
const BODY_WINDOW: Duration = Duration::from_secs(10);
/// How long an idle HTTP/1 connection is left open when the server stops accepting.
const STOPPING_GRACE: Duration = Duration::from_secs(1);
const LONGEST_TICK: Duration = Duration::from_millis(250);
const SHORTEST_TICK: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::{
        super::connection::{End, Phase},
        *,
    };

    fn limits() -> Limits {
        Limits {
            header_timeout: Duration::from_secs(10),
            header_bytes: 16 << 10,
            header_fields: 100,
            min_body_rate: 100,
            keepalive_timeout: Duration::from_secs(75),
            client_idle_timeout: Duration::from_secs(60),
            login_body_bytes: 64 << 10,
            body_bytes: 0,
            connections: 0,
        }
    }

    fn settings() -> SharedSettings {
        let shutdown = crate::config::Shutdown { delay: Duration::ZERO, drain: Duration::ZERO };
        SharedSettings::new(super::super::Settings {
            limits: limits(),
            shutdown,
            trusted_proxies: vec![],
            max_connections: 0,
        })
    }

    struct Clocked(Sweeper, Arc<Connection>);

    impl Clocked {
        fn new(http2: bool) -> Self {
            let sweeper = Sweeper::new(settings());
            let any = "127.0.0.1:1".parse().unwrap();
            let connection = Arc::new(Connection::new(any, any, false, http2, Arc::clone(sweeper.ticker())));
            sweeper.watch(&connection);
            Self(sweeper, connection)
        }

        /// Lets so many seconds pass, four ticks each.
        fn pass(&self, seconds: u32, each: impl Fn(&Connection)) -> Option<End> {
            for _ in 0..seconds * 4 {
                each(&self.1);
                self.0.ticker.now.fetch_add(1, Relaxed);
                self.0.sweep(false);
            }
            self.1.ended()
        }
    }

    fn waiting(connection: &Connection) {
        connection.waits_to_read(Waker::noop());
    }

    #[test]
    fn d20_a_header_has_one_deadline_however_it_drips() {
        let at = Clocked::new(false);
        at.1.enter(Phase::Header);
        let drip = |c: &Connection| {
            c.received(1);
            waiting(c);
        };
        assert_eq!(at.pass(10, drip), None);
        assert_eq!(at.pass(1, drip), Some(End::SlowHeader));
    }

    /// A reload counts for connections that are open already.
    #[test]
    fn d20_new_limits_count_at_once() {
        let at = Clocked::new(false);
        assert_eq!(at.pass(20, waiting), None);
        let shorter = Limits { keepalive_timeout: Duration::from_secs(10), ..limits() };
        let present = super::super::Settings::clone(&at.0.settings.load());
        at.0.settings.replace(super::super::Settings { limits: shorter, ..present });
        assert_eq!(at.pass(1, waiting), Some(End::Idle));
    }

    #[test]
    fn d20_between_requests_the_keepalive_limit_counts() {
        let at = Clocked::new(false);
        assert_eq!(at.pass(75, waiting), None);
        assert_eq!(at.pass(1, waiting), Some(End::Idle));
    }

    #[test]
    fn d20_a_body_must_keep_its_rate_only_while_it_is_waited_for() {
        let at = Clocked::new(false);
        at.1.enter(Phase::Exchange);
        assert_eq!(at.pass(300, waiting), None, "the app may think: no body is missing");
        at.1.body_begun();
        let fast = |c: &Connection| {
            c.received(30);
            waiting(c);
        };
        assert_eq!(at.pass(60, fast), None);
        assert_eq!(at.pass(60, |c| c.received(0)), None, "the app is slow to take it");
        at.1.body_ended();
        assert_eq!(at.pass(60, waiting), None, "all has come");
        at.1.body_begun();
        let slow = |c: &Connection| {
            c.received(20);
            waiting(c);
        };
        assert_eq!(at.pass(20, slow), Some(End::SlowBody));
    }

    #[test]
    fn d20_a_client_that_does_not_read_ends() {
        for http2 in [false, true] {
            let at = Clocked::new(http2);
            match at.1.streams() {
                Some(mut streams) => _ = streams.received(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 1),
                None => at.1.enter(Phase::Exchange),
            }
            let write = |c: &Connection| c.waits_to_write(Waker::noop());
            assert_eq!(at.pass(59, write), None);
            at.1.sent();
            assert_eq!(at.pass(60, write), None, "it went on");
            assert_eq!(at.pass(2, write), Some(End::Stalled));
        }
    }

    #[test]
    fn a_silent_app_wakes_whoever_waits_for_it() {
        struct Woken(std::sync::atomic::AtomicBool);
        impl std::task::Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Relaxed);
            }
        }
        let at = Clocked::new(false);
        at.1.enter(Phase::Exchange);
        at.1.awaits_app(Duration::from_secs(5));
        let woken = Arc::new(Woken(false.into()));
        assert!(at.1.poll_app_late(&Waker::from(Arc::clone(&woken))).is_pending());
        assert_eq!(at.pass(5, |_| ()), None);
        assert!(!woken.0.load(Relaxed));
        assert_eq!(at.pass(1, |_| ()), None, "its connection goes on: there is an answer to give");
        assert!(woken.0.load(Relaxed) && at.1.poll_app_late(Waker::noop()).is_ready());
        at.1.hears_app();
        assert!(at.1.poll_app_late(Waker::noop()).is_pending());
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let Clocked(sweeper, connection) = Clocked::new(false);
        drop(connection);
        sweeper.sweep(false);
        assert!(sweeper.connections.lock().is_empty());
    }
}

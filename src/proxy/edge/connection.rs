//! What is known of one client connection, and the clocks that run on it.
//!
//! A connection's task writes plain counters here; the worker's [`Sweeper`] reads them a few times per second and
//! ends what is too slow. So deadlines cost no timer per request (threats D20).
//!
//! The request phases get at it with [`of`].

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use pingora::protocols::http::ServerSession;

use super::{SharedSettings, stream::ClientStream};
use crate::config::Limits;

/// One client connection.
pub struct Connection {
    peer: SocketAddr,
    client: SocketAddr,
    tls: bool,
    http2: bool,
    ticker: Arc<Ticker>,
    phase: AtomicU8,
    /// When the phase began.
    since: AtomicU32,
    /// When a byte last came or went.
    moved: AtomicU32,
    /// Since when a write waits for the client; 0 = none does.
    stalled: AtomicU32,
    /// Whether a read waits for the client.
    reading: AtomicU8,
    /// Request bodies that are still coming in.
    bodies: AtomicU32,
    /// When the app has been silent for too long; 0 = nobody waits for it. HTTP/1 only.
    app_due: AtomicU32,
    /// Ticks spent waiting for a body in the present window, and bytes that came in it.
    window: AtomicU32,
    window_bytes: AtomicU64,
    end: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

/// The connection on which a request came; `None` only for sessions that were not made by the edge.
pub fn of(session: &ServerSession) -> Option<&Connection> {
    arc_of(session).map(|connection| &**connection)
}

/// The same, to be held while the session is at work.
pub fn shared_of(session: &ServerSession) -> Option<Arc<Connection>> {
    arc_of(session).cloned()
}

fn arc_of(session: &ServerSession) -> Option<&Arc<Connection>> {
    if let Some(stream) = session.stream() {
        return stream.as_any().downcast_ref::<ClientStream>().map(ClientStream::connection);
    }
    let proxy = session.digest()?.proxy_digest.as_ref()?;
    proxy.user_data.as_ref()?.downcast_ref::<Arc<Connection>>()
}

/// What a connection is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Phase {
    /// Nothing: no byte of a request has come.
    Idle = 0,
    /// A request header is coming.
    Header = 1,
    /// A request is being answered.
    Exchange = 2,
    /// HTTP/2: any number of requests.
    Multiplexed = 3,
    /// A tunnel, which keeps its own time.
    Tunnel = 4,
}

/// Why the edge ended a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum End {
    /// The header was not complete in time: 408.
    SlowHeader = 1,
    /// No request for too long.
    Idle = 2,
    /// A body came too slowly.
    SlowBody = 3,
    /// The client stopped sending in mid-body, or stopped reading.
    Stalled = 4,
    /// The server stops, and nothing was going on.
    Stopping = 5,
}

impl Connection {
    pub(super) fn new(
        peer: SocketAddr,
        client: SocketAddr,
        tls: bool,
        http2: bool,
        ticker: Arc<Ticker>,
    ) -> Self {
        let now = ticker.now();
        let phase = if http2 { Phase::Multiplexed } else { Phase::Idle };
        Self {
            peer,
            client,
            tls,
            http2,
            ticker,
            phase: AtomicU8::new(phase as u8),
            since: AtomicU32::new(now),
            moved: AtomicU32::new(now),
            stalled: AtomicU32::new(0),
            reading: AtomicU8::new(0),
            bodies: AtomicU32::new(0),
            app_due: AtomicU32::new(0),
            window: AtomicU32::new(0),
            window_bytes: AtomicU64::new(0),
            end: AtomicU8::new(0),
            waker: Mutex::new(None),
        }
    }

    /// Who is at the other end of the socket: judge by this one whether `X-Forwarded-For` is to be believed.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whom a trusted PROXY header names (it was checked that the peer may send one); else the peer.
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// Whether the client speaks TLS with us.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether it is HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.http2
    }

    /// A request on this connection has a body that is still to come: from now on the minimum rate counts. Each
    /// call needs one of [`Self::body_ended`], except on HTTP/1, where the next request starts anew.
    pub fn body_begun(&self) {
        self.window.store(0, Relaxed);
        self.window_bytes.store(0, Relaxed);
        self.moved.store(self.ticker.now(), Relaxed);
        self.bodies.fetch_add(1, Relaxed);
    }

    /// That body has come in whole, or will not be read any further.
    pub fn body_ended(&self) {
        let _ = self.bodies.fetch_update(Relaxed, Relaxed, |bodies| bodies.checked_sub(1));
    }

    /// HTTP/1: from now on the app may be silent for so long, and at most two ticks longer.
    pub fn awaits_app(&self, limit: Duration) {
        let ticks = ticks(limit, self.ticker.tick).saturating_add(1);
        self.app_due.store(self.ticker.now().saturating_add(ticks), Relaxed);
    }

    /// It has said something.
    pub fn hears_app(&self) {
        self.app_due.store(0, Relaxed);
    }

    /// Ready when that time is over. It is the connection's one task that asks, so there is one waker for all that it
    /// waits for.
    pub fn poll_app_late(&self, waker: &Waker) -> Poll<()> {
        if self.app_is_late() {
            return Poll::Ready(());
        }
        self.park(waker);
        Poll::Pending
    }

    fn app_is_late(&self) -> bool {
        let due = self.app_due.load(Relaxed);
        due != 0 && self.ticker.now() >= due
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
        self.since.store(self.ticker.now(), Relaxed);
        if phase == Phase::Idle {
            self.bodies.store(0, Relaxed);
        }
    }

    pub(super) fn is_in(&self, phase: Phase) -> bool {
        self.phase.load(Relaxed) == phase as u8
    }

    /// `bytes` came in.
    pub(super) fn received(&self, bytes: usize) {
        self.reading.store(0, Relaxed);
        self.moved.store(self.ticker.now(), Relaxed);
        if self.bodies.load(Relaxed) > 0 {
            self.window_bytes.fetch_add(bytes as u64, Relaxed);
        }
    }

    /// Bytes went out.
    pub(super) fn sent(&self) {
        self.stalled.store(0, Relaxed);
        self.moved.store(self.ticker.now(), Relaxed);
    }

    /// A read waits for the client.
    pub(super) fn waits_to_read(&self, waker: &Waker) {
        self.reading.store(1, Relaxed);
        self.park(waker);
    }

    /// A write waits for the client.
    pub(super) fn waits_to_write(&self, waker: &Waker) {
        let _ = self.stalled.compare_exchange(0, self.ticker.now(), Relaxed, Relaxed);
        self.park(waker);
    }

    fn park(&self, waker: &Waker) {
        let mut slot = self.waker.lock();
        match &mut *slot {
            Some(present) => present.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }

    /// Why it has to end, if it has to.
    pub(super) fn ended(&self) -> Option<End> {
        match self.end.load(Relaxed) {
            1 => Some(End::SlowHeader),
            2 => Some(End::Idle),
            3 => Some(End::SlowBody),
            4 => Some(End::Stalled),
            5 => Some(End::Stopping),
            _ => None,
        }
    }

    fn judge(&self, rules: &Rules, stopping: bool) -> Option<End> {
        let now = self.ticker.now();
        let longer_than = |since: u32, limit: u32| limit > 0 && now.wrapping_sub(since) > limit;
        let phase = self.phase.load(Relaxed);
        if phase == Phase::Tunnel as u8 {
            return None;
        }
        let stalled = self.stalled.load(Relaxed);
        if stalled > 0 && longer_than(stalled, rules.idle) {
            return Some(End::Stalled);
        }
        let since = self.since.load(Relaxed);
        if phase == Phase::Idle as u8 {
            // A client in the middle of its work sends its next request within moments and is answered with
            // `Connection: close`: closing under its hands would lose that request.
            if stopping && longer_than(since, rules.stopping) {
                return Some(End::Stopping);
            }
            return longer_than(since, rules.keepalive).then_some(End::Idle);
        }
        if phase == Phase::Header as u8 {
            return longer_than(since, rules.header).then_some(End::SlowHeader);
        }
        if self.bodies.load(Relaxed) == 0 || self.reading.load(Relaxed) == 0 {
            return None; // it is the app that we wait for, and that has its own limits
        }
        if longer_than(self.moved.load(Relaxed), rules.idle) {
            return Some(End::Stalled);
        }
        // Not on HTTP/2: there a client may have to wait for us to open its window.
        if phase == Phase::Exchange as u8
            && rules.window_bytes > 0
            && self.window.fetch_add(1, Relaxed) >= rules.window
        {
            self.window.store(0, Relaxed);
            if self.window_bytes.swap(0, Relaxed) < rules.window_bytes {
                return Some(End::SlowBody);
            }
        }
        None
    }
}

/// The coarse clock of one worker: ticks since its start, from 1 on.
pub(super) struct Ticker {
    now: AtomicU32,
    tick: Duration,
}

impl Ticker {
    pub(super) fn now(&self) -> u32 {
        self.now.load(Relaxed)
    }
}

fn ticks(d: Duration, tick: Duration) -> u32 {
    // 64 bits of nanoseconds are 584 years; a division of 128 bits would be slow.
    let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
    u32::try_from(nanos(d).div_ceil(nanos(tick).max(1))).unwrap_or(u32::MAX)
}

/// Limits, in ticks. 0 = none.
struct Rules {
    header: u32,
    keepalive: u32,
    idle: u32,
    stopping: u32,
    window: u32,
    window_bytes: u64,
}

impl Rules {
    fn new(limits: &Limits, tick: Duration) -> Self {
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
                connection.end.store(end as u8, Relaxed);
            }
            if (end.is_some() || connection.app_is_late())
                && let Some(waker) = connection.waker.lock().take()
            {
                waker.wake();
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
    use super::*;

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
            if !http2 {
                at.1.enter(Phase::Exchange);
            }
            let write = |c: &Connection| c.waits_to_write(Waker::noop());
            assert_eq!(at.pass(59, write), None);
            at.1.sent();
            assert_eq!(at.pass(60, write), None, "it went on");
            assert_eq!(at.pass(2, write), Some(End::Stalled));
        }
    }

    #[test]
    fn d20_a_body_that_stands_still_ends_on_http2_too() {
        let at = Clocked::new(true);
        assert_eq!(at.pass(300, waiting), None);
        at.1.body_begun();
        assert_eq!(at.pass(62, waiting), Some(End::Stalled));
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

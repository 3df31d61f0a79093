//! What is known of one client connection.
//!
//! A connection's task writes plain counters here; the worker's [`Sweeper`](super::sweeper::Sweeper) reads them a few
//! times per second and ends what is too slow. So deadlines cost no timer per request (threats D20). On HTTP/2 it is
//! [`Streams`] that counts.
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

use parking_lot::{Mutex, MutexGuard};
use pingora::protocols::http::ServerSession;

use super::{
    stream::ClientStream,
    streams::Streams,
    sweeper::{Rules, Ticker},
};

/// One client connection.
pub struct Connection {
    peer: SocketAddr,
    client: SocketAddr,
    tls: bool,
    /// HTTP/2 only. Held for moments; all who take it are on one thread.
    streams: Option<Mutex<Streams>>,
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
    /// Request bodies that are still coming in. HTTP/1 only, as what follows.
    bodies: AtomicU32,
    /// When the app has been silent for too long; 0 = nobody waits for it.
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
            streams: http2.then(|| Mutex::new(Streams::new(now))),
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
        self.streams.is_some()
    }

    pub(super) fn streams(&self) -> Option<MutexGuard<'_, Streams>> {
        self.streams.as_ref().map(Mutex::lock)
    }

    pub(super) fn now(&self) -> u32 {
        self.ticker.now()
    }

    /// HTTP/1: the request has a body that is still to come: from now on the minimum rate counts. The next request
    /// starts anew. (HTTP/2 has several at a time, which [`Streams`] tells apart by itself.)
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
        let ticks = self.ticker.ticks(limit).saturating_add(1);
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

    pub(super) fn app_is_late(&self) -> bool {
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

    /// One tick: why it has to end, if it has to.
    pub(super) fn judge(&self, rules: &Rules, stopping: bool) -> Option<End> {
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
        if let Some(mut streams) = self.streams() {
            return streams.judge(now, rules);
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
        if rules.window_bytes > 0 && self.window.fetch_add(1, Relaxed) >= rules.window {
            self.window.store(0, Relaxed);
            if self.window_bytes.swap(0, Relaxed) < rules.window_bytes {
                return Some(End::SlowBody);
            }
        }
        None
    }

    /// It ends for this reason as soon as its task looks.
    pub(super) fn end_for(&self, end: End) {
        self.end.store(end as u8, Relaxed);
    }

    /// Its task is to look.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
    }
}

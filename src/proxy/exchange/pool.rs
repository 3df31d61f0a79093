//! Idle connections to the apps' servers, of one worker.
//!
//! A connection waits here between two requests: at most for the app's `idle_timeout`, and only as long as the
//! server neither closes it nor says anything, which nobody asked for. That is looked at once a second, and the latter
//! when it is taken too. It costs no task and no timer for each of them.

use std::{
    fmt, io,
    io::IoSlice,
    os::fd::AsRawFd,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use ahash::AHashMap;
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType, raw_connect::ProxyDigest,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::super::edge::Transport;
use crate::base::clock::Stopwatch;

/// The idle connections.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    by_server: AHashMap<u64, Vec<Parked>>,
    count: usize,
    /// A task looks after them.
    swept: bool,
}

struct Parked {
    wire: Box<Wire>,
    since: Stopwatch,
    /// How long it may be kept; `None` = as long as the server keeps it.
    lives: Option<Duration>,
}

impl Pool {
    /// The connection to this server that was used last and can still be used.
    pub fn take(&self, server: u64) -> Option<Box<Wire>> {
        let mut idle = self.idle.lock();
        let idle = &mut *idle;
        let parked = idle.by_server.get_mut(&server)?;
        while let Some(Parked { mut wire, .. }) = parked.pop() {
            idle.count = idle.count.saturating_sub(1);
            if wire.is_silent() {
                return Some(wire);
            }
        }
        None
    }

    /// Keeps a connection for the next request to this server; `lives` `None` = as long as the server does.
    pub fn put(self: &Arc<Self>, server: u64, mut wire: Box<Wire>, lives: Option<Duration>) {
        if !wire.is_silent() {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.count >= MOST_IDLE {
            return;
        }
        idle.count += 1;
        let parked = Parked { wire, since: Stopwatch::start(), lives };
        idle.by_server.entry(server).or_default().push(parked);
        if !std::mem::replace(&mut idle.swept, true) {
            tokio::spawn(sweep_again(Arc::downgrade(self)));
        }
    }

    /// Drops what cannot be used any more; whether anything is left.
    fn sweep(&self) -> bool {
        let mut idle = self.idle.lock();
        idle.by_server.retain(|_, parked| {
            parked.retain_mut(|parked| {
                parked.lives.is_none_or(|lives| parked.since.elapsed() < lives) && parked.wire.is_silent()
            });
            !parked.is_empty()
        });
        idle.count = idle.by_server.values().map(Vec::len).sum();
        idle.swept = idle.count > 0;
        idle.swept
    }
}

async fn sweep_again(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        match pool.upgrade() {
            Some(pool) if pool.sweep() => {}
            _ => return,
        }
    }
}

/// A connection to a server, as pingora's HTTP client takes it.
pub(super) struct Wire(Transport);

impl Wire {
    pub fn new(transport: Transport) -> Box<Self> {
        Box::new(Self(transport))
    }

    /// Neither closed nor broken, and nothing has come that nobody asked for.
    fn is_silent(&mut self) -> bool {
        let mut byte = [0];
        let mut buf = ReadBuf::new(&mut byte);
        Pin::new(&mut self.0).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf).is_pending()
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

#[async_trait]
impl Shutdown for Wire {
    async fn shutdown(&mut self) {
        let _ = AsyncWriteExt::shutdown(self).await; // whoever is gone needs no farewell
    }
}

impl UniqueID for Wire {
    fn id(&self) -> UniqueIDType {
        self.0.socket().as_raw_fd()
    }
}

// Nobody asks for digests of these connections.
impl Ssl for Wire {}

impl GetTimingDigest for Wire {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Wire {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Wire {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl Peek for Wire {}

/// Idle connections of one worker, over all apps.
const MOST_IDLE: usize = 512;
const SWEEP: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair(listener: &TcpListener) -> (Box<Wire>, TcpStream) {
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        (Wire::new(Transport::Plain(ours)), theirs)
    }

    /// Waits until the socket of a wire has something to say.
    async fn hears(wire: &Wire) {
        wire.0.socket().readable().await.unwrap();
    }

    #[tokio::test]
    async fn the_newest_is_taken_and_each_server_has_its_own() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pool = Arc::new(Pool::default());
        let (a, _a) = pair(&listener).await;
        let (b, _b) = pair(&listener).await;
        let (first, second) = (a.id(), b.id());
        pool.put(1, a, None);
        pool.put(1, b, None);
        assert!(pool.take(2).is_none());
        assert_eq!(pool.take(1).map(|wire| wire.id()), Some(second));
        assert_eq!(pool.take(1).map(|wire| wire.id()), Some(first));
        assert!(pool.take(1).is_none());
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_or_says_something_unasked_is_not_used() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pool = Arc::new(Pool::default());
        let (closed, theirs) = pair(&listener).await;
        drop(theirs);
        hears(&closed).await;
        pool.put(1, closed, None);
        assert!(pool.take(1).is_none(), "not even kept");

        let (talks, mut theirs) = pair(&listener).await;
        pool.put(1, talks, None);
        theirs.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        while pool.idle.lock().by_server.get_mut(&1).unwrap()[0].wire.is_silent() {
            tokio::task::yield_now().await;
        }
        assert!(pool.take(1).is_none());
    }

    #[tokio::test]
    async fn what_waits_too_long_or_was_closed_is_dropped() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pool = Arc::new(Pool::default());
        let (old, _old) = pair(&listener).await;
        let (good, _good) = pair(&listener).await;
        pool.put(1, old, Some(Duration::ZERO));
        pool.put(2, good, Some(Duration::from_secs(60)));
        assert!(pool.sweep());
        assert!(pool.take(1).is_none());
        assert!(pool.take(2).is_some());
        assert!(!pool.sweep(), "nothing is left to look after");
    }

    #[tokio::test]
    async fn it_does_not_grow_without_bounds() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pool = Arc::new(Pool::default());
        pool.idle.lock().count = MOST_IDLE;
        let (one_too_many, _theirs) = pair(&listener).await;
        pool.put(1, one_too_many, None);
        assert!(pool.take(1).is_none());
    }
}

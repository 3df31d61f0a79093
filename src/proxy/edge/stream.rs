//! The bytes of one client connection as pingora reads and writes them.
//!
//! It counts what comes and goes for the [`Connection`]'s clocks, refuses headers that are too large (431) or too
//! slow (408), gathers small writes, and can be taken away from pingora for a tunnel. It never changes a byte; on
//! HTTP/2 it ends streams that are too slow, between two frames ([`Streams`](super::streams::Streams)).

use std::{
    fmt,
    io::{self, IoSlice},
    os::fd::AsRawFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType, raw_connect::ProxyDigest, tls::SslDigest,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::{
    connection::{Connection, End, Phase},
    head::{HeadScanner, Scanned},
    shutdown::InFlight,
    transport::{Transport, Wire},
};

/// What a connection consists of when it is made.
pub(super) struct Parts {
    pub(super) transport: Transport,
    pub(super) connection: Arc<Connection>,
    pub(super) header_bytes: usize,
    pub(super) held: InFlight,
}

/// One client connection, as pingora sees it.
pub struct ClientStream {
    connection: Arc<Connection>,
    /// `None` once a tunnel has taken it. The lock is never waited for: there is one owner at a time.
    wire: Mutex<Option<Wire>>,
    scanner: HeadScanner,
    header_bytes: usize,
    /// For HTTP/2, where pingora shows the digests only.
    digest: Option<Arc<ProxyDigest>>,
    /// HTTP/2: what pingora reads before anything else.
    ahead: Vec<u8>,
    /// The client has sent its end.
    end_of_stream: bool,
    held: Option<InFlight>,
}

impl ClientStream {
    pub(super) fn new(parts: Parts) -> Box<Self> {
        let Parts { transport, connection, header_bytes, held } = parts;
        let digest = connection.is_http2().then(|| {
            let nothing = pingora::http::ResponseHeader::build(200, Some(0)).ok()?;
            Some(Arc::new(ProxyDigest::new(Box::new(nothing), Some(Box::new(Arc::clone(&connection))))))
        });
        Box::new(Self {
            connection,
            wire: Mutex::new(Some(Wire::new(transport))),
            scanner: HeadScanner::default(),
            header_bytes,
            digest: digest.flatten(),
            ahead: Vec::new(),
            end_of_stream: false,
            held: Some(held),
        })
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The next request may come.
    pub(super) fn next_request(&mut self) {
        self.connection.enter(Phase::Idle);
        self.scanner = HeadScanner::default();
        if let Some(wire) = self.wire.get_mut()
            && wire.out.is_empty()
        {
            wire.out = Vec::new(); // an idle connection keeps no buffer
        }
    }

    /// Takes the socket away from pingora, which then sees an end of stream: for a tunnel, after everything has
    /// been flushed. `None` when it is gone already or something is still to be written.
    pub(in crate::proxy) fn take(&self) -> Option<Transport> {
        let mut wire = self.wire.lock();
        if wire.as_ref().is_some_and(|wire| wire.out.is_empty()) {
            self.connection.enter(Phase::Tunnel);
            return wire.take().map(|wire| wire.transport);
        }
        None
    }

    /// Counts bytes of HTTP/1 and follows where in a request they stand.
    fn follow(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if self.connection.is_in(Phase::Idle) {
            self.connection.enter(Phase::Header);
        }
        if self.connection.is_in(Phase::Header) {
            match self.scanner.feed(bytes, self.header_bytes) {
                Scanned::More => {}
                Scanned::Complete => self.connection.enter(Phase::Exchange),
                Scanned::TooLarge => return Err(Refusal::TooLarge),
            }
        }
        Ok(())
    }

    /// Answers in place of pingora, as far as the socket takes it at once: nothing else has been written of an
    /// answer to this request. Then the connection is over.
    fn refuse(&mut self, refusal: Refusal, cx: &mut Context<'_>) -> io::Error {
        if let Some(wire) = self.wire.get_mut() {
            let _ = Pin::new(&mut wire.transport).poll_write(cx, refusal.answer());
            let _ = Pin::new(&mut wire.transport).poll_flush(cx);
        }
        io::Error::new(io::ErrorKind::InvalidData, refusal.text())
    }

    fn end(&mut self, end: End, cx: &mut Context<'_>) -> io::Error {
        tracing::debug!(client = %self.connection.client(), reason = ?end, "connection ended");
        match end {
            End::SlowHeader if !self.connection.is_http2() => self.refuse(Refusal::TooSlow, cx),
            _ => io::Error::new(io::ErrorKind::TimedOut, "the client was too slow"),
        }
    }

    fn wire(&mut self) -> io::Result<&mut Wire> {
        self.wire.get_mut().as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

/// Answers that the edge gives itself.
#[derive(Clone, Copy)]
enum Refusal {
    TooLarge,
    TooSlow,
}

impl Refusal {
    fn answer(self) -> &'static [u8] {
        match self {
            Self::TooLarge => {
                b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            }
            Self::TooSlow => {
                b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            }
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::TooLarge => "the request header is too large",
            Self::TooSlow => "the request header took too long",
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.connection.streams().is_some_and(|streams| streams.can_cut()) {
            this.end_slow_streams();
        }
        if this.give_ahead(buf) {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let Some(wire) = this.wire.get_mut() else {
            return Poll::Ready(Ok(())); // taken: an end of stream
        };
        match Pin::new(&mut wire.transport).poll_read(cx, buf) {
            Poll::Pending => {
                if let Some(end) = this.connection.ended() {
                    return match end {
                        // Nothing was going on: not an error, an end.
                        End::Idle | End::Stopping if this.connection.is_in(Phase::Idle) => {
                            Poll::Ready(Ok(()))
                        }
                        end => Poll::Ready(Err(this.end(end, cx))),
                    };
                }
                // Whoever waits for the client has given it all that it is to get for now.
                if !wire.out.is_empty() && wire.poll_drain(cx)?.is_ready() {
                    let _ = Pin::new(&mut wire.transport).poll_flush(cx)?;
                    this.connection.sent();
                }
                this.connection.waits_to_read(cx.waker());
                Poll::Pending
            }
            Poll::Ready(Ok(())) => {
                let bytes = buf.filled().get(before..).unwrap_or_default();
                if bytes.is_empty() {
                    this.end_of_stream |= buf.remaining() > 0;
                    return Poll::Ready(Ok(()));
                }
                this.connection.received(bytes.len());
                if this.connection.is_http2() {
                    this.follow_frames(buf, before);
                } else if let Err(refusal) = this.follow(bytes) {
                    buf.set_filled(before);
                    return Poll::Ready(Err(this.refuse(refusal, cx)));
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                this.end_of_stream = true;
                Poll::Ready(Err(error))
            }
        }
    }
}

/// HTTP/2.
impl ClientStream {
    /// Ends the streams whose bodies are too slow. What pingora has been given so far, and is about to be given, ends
    /// with a frame.
    fn end_slow_streams(&mut self) {
        let Some(mut streams) = self.connection.streams() else { return };
        self.ahead.append(&mut streams.cut());
        let owed = streams.take_owed();
        drop(streams);
        tracing::debug!(client = %self.connection.client(), reason = ?End::SlowBody, "streams ended");
        if let Some(wire) = self.wire.get_mut() {
            wire.out.extend_from_slice(&owed);
        }
    }

    /// Follows what has been read. What comes after the end of a slow stream waits.
    fn follow_frames(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let bytes = buf.filled().get(before..).unwrap_or_default();
        let now = self.connection.now();
        let cut = self.connection.streams().and_then(|mut streams| streams.received(bytes, now));
        let Some(at) = cut else { return };
        let later = bytes.get(at..).unwrap_or_default().to_vec();
        buf.set_filled(before + at);
        self.end_slow_streams();
        self.ahead.extend_from_slice(&later);
        self.give_ahead(buf);
    }

    /// Gives pingora what is ahead of the socket.
    fn give_ahead(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let n = self.ahead.len().min(buf.remaining());
        buf.put_slice(self.ahead.drain(..n).as_slice());
        n > 0
    }

    /// Follows what has been written of some slices, and adds what the client is still to get.
    fn follow_sent(&mut self, slices: &[IoSlice<'_>], poll: &Poll<io::Result<usize>>) {
        let (Poll::Ready(Ok(n)), Some(mut streams)) = (poll, self.connection.streams()) else { return };
        let mut left = *n;
        for slice in slices {
            let (written, _) = slice.split_at(left.min(slice.len()));
            streams.sent(written);
            left -= written.len();
        }
        let owed = streams.take_owed();
        drop(streams);
        if let Some(wire) = self.wire.get_mut() {
            wire.out.extend_from_slice(&owed);
        }
    }

    /// Writes frames of pingora's, after what is still to go before them.
    fn poll_write_frames(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let wire = self.wire()?;
        let poll = match wire.poll_drain(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut wire.transport).poll_write_vectored(cx, slices),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        };
        self.follow_sent(slices, &poll);
        self.after_write(poll, cx)
    }
}

impl ClientStream {
    /// Notes progress or waiting, and ends what has to end.
    fn after_write<T>(&mut self, poll: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        match &poll {
            Poll::Ready(Ok(_)) => self.connection.sent(),
            Poll::Ready(Err(_)) => self.end_of_stream = true,
            Poll::Pending => {
                if let Some(end) = self.connection.ended() {
                    self.end_of_stream = true; // it does not read: no use to linger
                    return Poll::Ready(Err(self.end(end, cx)));
                }
                self.connection.waits_to_write(cx.waker());
            }
        }
        poll
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.connection.is_http2() {
            return this.poll_write_frames(cx, &[IoSlice::new(buf)]); // it gathers by itself
        }
        let wire = this.wire()?;
        if wire.out.len() + buf.len() <= GATHER {
            if wire.out.capacity() == 0 {
                wire.out.reserve(FIRST_GATHER);
            }
            wire.out.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        // What does not fit goes out together with what was gathered.
        let poll = loop {
            let rest = wire.out.get(wire.written..).unwrap_or_default();
            if rest.is_empty() {
                wire.out.clear();
                wire.written = 0;
                break Pin::new(&mut wire.transport).poll_write(cx, buf);
            }
            let both = [IoSlice::new(rest), IoSlice::new(buf)];
            match Pin::new(&mut wire.transport).poll_write_vectored(cx, &both) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => {
                    let gathered = rest.len();
                    wire.written += n.min(gathered);
                    if n > gathered {
                        wire.out.clear();
                        wire.written = 0;
                        break Poll::Ready(Ok(n - gathered));
                    }
                }
                other => break other,
            }
        };
        this.after_write(poll, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.connection.is_http2() {
            return self.get_mut().poll_write_frames(cx, bufs);
        }
        let first = bufs.iter().find(|buf| !buf.is_empty());
        self.poll_write(cx, first.map_or(&[], |buf| buf))
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_http2()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(wire) = this.wire.get_mut() else {
            return Poll::Ready(Ok(()));
        };
        let poll = match wire.poll_drain(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut wire.transport).poll_flush(cx),
            other => other,
        };
        this.after_write(poll, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(wire) = this.wire.get_mut() else {
            return Poll::Ready(Ok(()));
        };
        let poll = match wire.poll_drain(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut wire.transport).poll_shutdown(cx),
            other => other,
        };
        this.after_write(poll, cx)
    }
}

impl Drop for ClientStream {
    /// Closing a socket while the client still sends would reset it, and the answer under way with it (RFC 9112
    /// section 9.6): so our side is closed first and the rest thrown away, for a short time.
    fn drop(&mut self) {
        let Some(wire) = self.wire.get_mut().take() else { return };
        if self.end_of_stream || self.connection.is_http2() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let held = self.held.take();
        let mut socket = wire.transport.into_socket();
        runtime.spawn(async move {
            let _held = held;
            let _ = socket.shutdown().await;
            let mut waste = [0; 4096];
            let mut left = LINGER_BYTES;
            let _ = tokio::time::timeout(LINGER, async {
                while left > 0 {
                    match socket.read(&mut waste).await {
                        Ok(0) | Err(_) => break,
                        Ok(n) => left = left.saturating_sub(n),
                    }
                }
            })
            .await;
        });
    }
}

impl fmt::Debug for ClientStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientStream").field("client", &self.connection.client()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    async fn shutdown(&mut self) {
        if let Err(error) = AsyncWriteExt::shutdown(self).await {
            tracing::debug!(%error, "closing a connection");
        }
    }
}

impl UniqueID for ClientStream {
    fn id(&self) -> UniqueIDType {
        self.wire.lock().as_ref().map_or(-1, |wire| wire.transport.socket().as_raw_fd())
    }
}

impl Ssl for ClientStream {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        None // nobody asks: the connection knows whether it has TLS
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.connection.is_http2().then_some(ALPN::H2)
    }
}

impl GetTimingDigest for ClientStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.digest.clone()
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl Peek for ClientStream {}

/// Up to here writes are gathered until a flush.
const GATHER: usize = 8 << 10;
/// Most answers with a small body fit into this.
const FIRST_GATHER: usize = 2 << 10;
/// How long and how much of a client's remaining bytes is thrown away after our last one.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

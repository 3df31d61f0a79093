//! One worker: a thread with its own runtime that serves the connections it is given, from the first byte to the
//! last.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
};

use pingora::{
    apps::{HttpServerApp, ServerApp},
    protocols::http::ServerSession,
};
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tokio_rustls::TlsAcceptor;

use super::{
    Common, Load, Queue, Shutdown, Stage, Transport,
    connection::Connection,
    proxy_header,
    shutdown::InFlight,
    stream::{ClientStream, Parts},
    sweeper::Sweeper,
};
use crate::{
    config::ProxyProtocol,
    metrics::{Listener, Metrics},
};

/// How connections of one listener are treated.
pub(super) struct Door {
    pub(super) proxy_protocol: ProxyProtocol,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) listener: Listener,
}

/// A connection that has just been accepted.
pub(super) struct Accepted {
    pub(super) stream: std::net::TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) door: Arc<Door>,
    pub(super) held: InFlight,
}

/// The front's end of a worker.
pub(super) struct Worker {
    pub(super) load: Load,
    pub(super) queue: Queue,
}

/// What all connections of a worker share.
struct Shared<A> {
    app: Arc<A>,
    common: Arc<Common>,
    shutdown: Shutdown,
    sweeper: Arc<Sweeper>,
    load: Load,
}

/// Starts a worker.
///
/// # Errors
/// When the runtime or the thread cannot be made.
pub(super) fn start<A>(
    index: usize,
    app: Arc<A>,
    common: Arc<Common>,
    shutdown: Shutdown,
) -> io::Result<(Worker, JoinHandle<()>)>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let (queue, mut waiting) = mpsc::unbounded_channel();
    let load = Load::default();
    let worker = Worker { load: Arc::clone(&load), queue };
    let sweeper = Arc::new(Sweeper::new(common.settings.clone()));
    let shared = Arc::new(Shared { app, common, shutdown, sweeper, load });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        runtime.block_on(async {
            let stopping = shared.shutdown.clone();
            let sweeper = Arc::clone(&shared.sweeper);
            tokio::spawn(async move { sweeper.run(|| stopping.stage() >= Stage::Draining).await });
            while let Some(accepted) = waiting.recv().await {
                tokio::spawn(serve(Arc::clone(&shared), accepted));
            }
            shared.shutdown.reached(Stage::Ended).await;
        });
        // What is still running here is cut with the runtime: the limit of time was reached.
    })?;
    Ok((worker, thread))
}

/// Counts a connection as long as it lives, also when its task panics.
struct Counted<'a> {
    load: &'a Load,
    metrics: &'a Metrics,
    listener: Listener,
}

impl<'a> Counted<'a> {
    fn new(load: &'a Load, metrics: &'a Metrics, listener: Listener) -> Self {
        if let Some(open) = metrics.connections.get(listener) {
            open.inc();
        }
        Self { load, metrics, listener }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
        if let Some(open) = self.metrics.connections.get(self.listener) {
            open.dec();
        }
    }
}

async fn serve<A>(shared: Arc<Shared<A>>, accepted: Accepted)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let _counted = Counted::new(&shared.load, &shared.common.metrics, accepted.door.listener);
    let peer = accepted.peer;
    let stream = match open(&shared, accepted).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%peer, %error, "connection refused");
            return;
        }
    };
    if stream.connection().is_http2() {
        shared.app.process_new(stream, &shared.shutdown.go_away()).await;
    } else {
        serve_http1(&shared, stream).await;
    }
}

/// PROXY header and TLS handshake, each within the time for a request header.
async fn open<A>(shared: &Shared<A>, accepted: Accepted) -> io::Result<Box<ClientStream>> {
    let Accepted { stream, peer, door, held } = accepted;
    let settings = Arc::clone(&shared.common.settings.load());
    stream.set_nonblocking(true)?;
    let mut socket = TcpStream::from_std(stream)?;
    socket.set_nodelay(true)?;
    let deadline = settings.limits.header_timeout;
    let client = match door.proxy_protocol {
        ProxyProtocol::Off => peer,
        ProxyProtocol::Required => {
            // An IPv4 peer on a dual-stack socket is still the IPv4 address of the list.
            let address = peer.ip().to_canonical();
            if !settings.trusted_proxies.iter().any(|network| network.contains(&address)) {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "not a trusted proxy"));
            }
            timeout(deadline, proxy_header::read(&mut socket)).await??.unwrap_or(peer)
        }
    };
    let mut http2 = false;
    let transport = match &door.tls {
        None => Transport::Plain(socket),
        Some(acceptor) => {
            let tls = timeout(deadline, acceptor.accept(socket)).await??;
            http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
            Transport::Tls(Box::new(tls.into()))
        }
    };
    let ticker = Arc::clone(shared.sweeper.ticker());
    let connection = Arc::new(Connection::new(peer, client, door.tls.is_some(), http2, ticker));
    shared.sweeper.watch(&connection);
    let header_bytes = settings.limits.header_bytes;
    Ok(ClientStream::new(Parts { transport, connection, header_bytes, held }))
}

/// One request after the other. pingora's own loop is not used, since the stream must know where one ends and the
/// next begins.
async fn serve_http1<A>(shared: &Shared<A>, stream: Box<ClientStream>)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let shutdown = shared.shutdown.last_answer();
    let idle = shared.common.settings.load().limits.client_idle_timeout;
    let mut session = ServerSession::new_http1(stream);
    session.set_keepalive(Some(0)); // time is kept by the sweeper
    loop {
        session.set_read_timeout((!idle.is_zero()).then_some(idle));
        let Some(reused) = shared.app.process_new_http(session, &shutdown).await else { return };
        let (stream, settings) = reused.consume();
        let Ok(mut stream) = stream.into_any().downcast::<ClientStream>() else { return };
        stream.next_request();
        session = ServerSession::new_http1(stream);
        if let Some(settings) = settings {
            settings.apply_to_session(&mut session);
        }
    }
}

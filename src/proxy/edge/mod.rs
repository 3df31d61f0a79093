//! The edge: where clients connect.
//!
//! It listens, speaks TLS and the PROXY protocol, keeps slow and oversized clients in bounds, and stops without
//! cutting anything. It hands each connection to pingora's HTTP proxy as a library; pingora's own `Server` is not
//! used (it cannot drain, reload or bound a header). It knows nothing about users, apps or policy.
//!
//! ```text
//! front thread: accept ─┬─► worker 0: PROXY header → TLS → ClientStream → HttpProxy
//!   signals, reload,    ├─► worker 1 …   (one thread, one runtime, one pool of upstream connections each;
//!   background tasks    └─► worker n …    a connection goes to the worker with the fewest)
//! ```
//!
//! For the request phases: [`of`]`(&session)` gives the [`Connection`] of a request: the socket's peer, the address
//! that a trusted PROXY header named, whether it is TLS. Phases tell it when a request body begins and ends
//! ([`Connection::body_begun`], [`Connection::body_ended`]) so that the minimum body rate can be kept. HTTP/2 bodies are
//! told apart by their frames (`streams`).

mod connection;
mod frames;
mod head;
mod proxy_header;
mod shutdown;
mod stream;
mod streams;
mod sweeper;
#[cfg(test)]
pub(in crate::proxy) mod tests;
mod transport;
mod worker;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use pingora::{
    apps::{HttpServerApp, HttpServerOptions},
    protocols::http::v2::server::default_h2_options,
    proxy::HttpProxy,
};
use tokio::{
    runtime::{Handle, Runtime},
    sync::mpsc,
};

use self::worker::{Accepted, Door, Worker};
pub use self::{
    connection::{Connection, of, shared_of},
    shutdown::{InFlight, Shutdown, Stage, follow_signals},
    stream::ClientStream,
    transport::Transport,
};
use crate::{
    base::clock::SharedClock,
    config::{Limits, Listen, ProxyProtocol, Shutdown as ShutdownConfig},
    metrics::{Listener, Metrics},
    tls::{self, Certificates},
};

/// What the edge needs to know beside its addresses.
pub struct Options {
    /// Worker threads; 0 = one for each core.
    pub threads: usize,
    /// What may change while it runs.
    pub settings: Settings,
    /// Where connections, reloads and expiry are counted.
    pub metrics: Arc<Metrics>,
}

/// What may change while the edge runs: new connections go by it, and the clocks of those that are open.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Deadlines and sizes.
    pub limits: Limits,
    /// How a stop goes.
    pub shutdown: ShutdownConfig,
    /// Who may send a PROXY header.
    pub trusted_proxies: Vec<IpNet>,
    /// More connections than this wait in the kernel's queue; 0 = no limit.
    pub max_connections: usize,
}

/// The settings of a running edge; clones are the same.
#[derive(Clone)]
pub struct SharedSettings(Arc<ArcSwap<Settings>>);

impl SharedSettings {
    fn new(settings: Settings) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(settings)))
    }

    /// Those of this moment: hold them no longer than a decision takes.
    fn load(&self) -> impl Deref<Target = Arc<Settings>> + use<> {
        self.0.load()
    }

    /// From now on these.
    pub fn replace(&self, settings: Settings) {
        self.0.store(Arc::new(settings));
    }
}

/// What workers and front share.
struct Common {
    settings: SharedSettings,
    metrics: Arc<Metrics>,
}

/// Listeners that are bound: from here on clients can connect, though nobody answers yet.
pub struct Bound {
    http: Option<(TcpListener, ProxyProtocol)>,
    https: Option<(TcpListener, ProxyProtocol, bool)>,
    certificates: Option<Arc<Certificates>>,
}

/// Binds what is configured and loads the certificate.
///
/// # Errors
/// With a text for the operator: which address or file, and what is wrong with it.
pub fn bind(listen: &Listen, clock: &SharedClock) -> io::Result<Bound> {
    let mut bound = Bound { http: None, https: None, certificates: None };
    if let Some(http) = &listen.http {
        bound.http = Some((listen_on(http.address)?, http.proxy_protocol));
    }
    if let Some(https) = &listen.https {
        let certificates = Certificates::load(&https.certificate_file, &https.key_file, Arc::clone(clock))?;
        bound.certificates = Some(Arc::new(certificates));
        bound.https = Some((listen_on(https.address)?, https.proxy_protocol, https.http2));
    }
    Ok(bound)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Connections of an earlier run that are still closing do not block the port; a live listener does.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    open().map_err(|error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => ": another process listens there",
            io::ErrorKind::PermissionDenied => {
                ": ports below 1024 need CAP_NET_BIND_SERVICE, or take a higher port"
            }
            io::ErrorKind::AddrNotAvailable => ": this machine does not have that address",
            _ => "",
        };
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}{hint}"))
    })
}

/// Sets the limits that pingora does keep by itself: call it on each proxy before it serves.
pub fn limit<SV>(proxy: &mut HttpProxy<SV>, limits: &Limits) {
    let mut options = HttpServerOptions::default();
    if !limits.keepalive_timeout.is_zero() {
        options.h2_idle_timeout = Some(limits.keepalive_timeout);
    }
    proxy.server_options = Some(options);
    let mut http2 = default_h2_options();
    http2
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(100)
        .max_concurrent_reset_streams(50)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(Some(64))
        .initial_window_size(streams::STREAM_WINDOW)
        .initial_connection_window_size(1 << 20)
        .max_send_buffer_size(256 << 10);
    proxy.h2_options = Some(http2);
}

impl Bound {
    /// Where plain HTTP is served.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref()?.0.local_addr().ok()
    }

    /// Where HTTPS is served.
    pub fn https_address(&self) -> Option<SocketAddr> {
        self.https.as_ref()?.0.local_addr().ok()
    }

    /// The certificate in use.
    pub fn certificates(&self) -> Option<&Arc<Certificates>> {
        self.certificates.as_ref()
    }

    /// Serves until `shutdown` has run its course. `make` builds one app per worker, so that workers share no pool
    /// of upstream connections.
    ///
    /// # Errors
    /// When threads, runtimes or TLS cannot be set up.
    pub fn serve<A>(
        self,
        options: Options,
        shutdown: Shutdown,
        mut make: impl FnMut(usize) -> A,
    ) -> io::Result<Served>
    where
        A: HttpServerApp + Send + Sync + 'static,
    {
        let count = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let settings = SharedSettings::new(options.settings);
        let common = Arc::new(Common { settings: settings.clone(), metrics: options.metrics });
        let mut workers = Vec::with_capacity(count);
        let mut threads = Vec::with_capacity(count + 1);
        for index in 0..count {
            let (worker, thread) =
                worker::start(index, Arc::new(make(index)), Arc::clone(&common), shutdown.clone())?;
            workers.push(worker);
            threads.push(thread);
        }
        let mut doors = Vec::new();
        if let Some((socket, proxy_protocol)) = self.http {
            doors.push((socket, Door { proxy_protocol, tls: None, listener: Listener::Http }));
        }
        if let (Some((socket, proxy_protocol, http2)), Some(certificates)) = (self.https, &self.certificates)
        {
            let tls = Some(tls::acceptor(Arc::clone(certificates), http2)?);
            doors.push((socket, Door { proxy_protocol, tls, listener: Listener::Https }));
        }
        let front = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = front.handle().clone();
        let thread = std::thread::Builder::new().name("front".into()).spawn({
            let certificates = self.certificates.clone();
            let shutdown = shutdown.clone();
            move || run_front(&front, doors, Arc::new(workers), certificates, &common, &shutdown)
        })?;
        threads.push(thread);
        Ok(Served { threads, handle, certificates: self.certificates, settings, shutdown })
    }
}

/// A server that runs.
pub struct Served {
    threads: Vec<JoinHandle<()>>,
    handle: Handle,
    certificates: Option<Arc<Certificates>>,
    settings: SharedSettings,
    shutdown: Shutdown,
}

impl Served {
    /// What may change while it runs.
    pub fn settings(&self) -> &SharedSettings {
        &self.settings
    }

    /// The runtime of the front thread, for background tasks: it runs as long as the server.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The certificate in use.
    pub fn certificates(&self) -> Option<&Arc<Certificates>> {
        self.certificates.as_ref()
    }

    /// The stop of this server.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Waits until the server has stopped.
    pub fn wait(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the edge panicked");
            }
        }
    }
}

fn run_front(
    front: &Runtime,
    doors: Vec<(TcpListener, Door)>,
    workers: Arc<Vec<Worker>>,
    certificates: Option<Arc<Certificates>>,
    common: &Arc<Common>,
    shutdown: &Shutdown,
) {
    front.block_on(async {
        if let Some(certificates) = certificates {
            tokio::spawn(tls::follow(certificates, Listener::Https, Arc::clone(&common.metrics)));
        }
        let accepting: Vec<_> = doors
            .into_iter()
            .map(|(socket, door)| {
                let door = Arc::new(door);
                tokio::spawn(accept(
                    socket,
                    door,
                    Arc::clone(&workers),
                    common.settings.clone(),
                    shutdown.clone(),
                ))
            })
            .collect();
        drop(workers);

        shutdown.reached(Stage::Leaving).await;
        tokio::select! {
            () = tokio::time::sleep(common.settings.load().shutdown.delay) => shutdown.advance(Stage::Draining),
            () = shutdown.reached(Stage::Ended) => {}
        }
        for task in accepting {
            let _ = task.await;
        }
        let drain = common.settings.load().shutdown.drain;
        let drained = async {
            while shutdown.in_flight() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = drained => {}
            () = tokio::time::sleep(drain) => {
                tracing::warn!(connections = shutdown.in_flight(), "ended before all had finished");
            }
            () = shutdown.reached(Stage::Ended) => {}
        }
        shutdown.advance(Stage::Ended);
    });
}

/// Accepts on one socket until the stop, then takes what the kernel still holds for it.
async fn accept(
    socket: TcpListener,
    door: Arc<Door>,
    workers: Arc<Vec<Worker>>,
    settings: SharedSettings,
    shutdown: Shutdown,
) {
    let socket = match tokio::net::TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%error, "cannot accept connections");
            return;
        }
    };
    let hand_over = |(stream, peer)| {
        let accepted = Accepted { stream, peer, door: Arc::clone(&door), held: shutdown.hold() };
        if let Some(worker) = workers.iter().min_by_key(|worker| worker.load.load(Ordering::Relaxed)) {
            worker.load.fetch_add(1, Ordering::Relaxed);
            let _ = worker.queue.send(accepted);
        }
    };
    let mut stopping = std::pin::pin!(shutdown.reached(Stage::Draining));
    loop {
        let most = settings.load().max_connections;
        if most > 0 && shutdown.in_flight() >= most {
            tokio::select! {
                () = &mut stopping => break,
                () = tokio::time::sleep(Duration::from_millis(20)) => continue,
            }
        }
        let next = tokio::select! {
            biased;
            () = &mut stopping => break,
            next = socket.accept() => next.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))),
        };
        match next {
            Ok(accepted) => hand_over(accepted),
            // Of the client that went away again, not of ours.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "accepting connections");
                tokio::time::sleep(Duration::from_millis(50)).await; // out of descriptors: wait for some
            }
        }
    }
    if let Ok(socket) = socket.into_std() {
        while let Ok(accepted) = socket.accept() {
            hand_over(accepted);
        }
    }
}

const BACKLOG: i32 = 4096;

/// How many connections a worker has.
type Load = Arc<AtomicUsize>;
/// Hands connections to a worker.
type Queue = mpsc::UnboundedSender<Accepted>;

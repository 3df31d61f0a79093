//! The administrators' listener: TCP, with TLS where others could listen in, and one [`Router`] behind it.
//!
//! Promises: connections, header and body are bounded in number, size and time, before anything looks at them; each request
//! carries an [`Arrival`] that it did not name itself. An act that has begun is not cut: neither by a client that hangs up
//! nor by a stop, which waits for it.
//!
//! It believes no `X-Forwarded-For`: administrators come to it directly, and what stands in the audit log is the peer.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    response::{IntoResponse, Response},
};
use data_encoding::HEXLOWER;
use http::{HeaderValue, Request};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::{
    http::answered,
    probes::stopped,
    problem::{Kind, Problem},
};
use crate::{
    base::{
        clock::SharedClock,
        random::{self, SharedRandom},
    },
    config::AdminListen,
    metrics::{Listener, Metrics},
    model::RequestId,
    tls::{self, Certificates},
};

/// A listener that is bound: clients can connect, though nobody answers yet.
pub struct Bound {
    socket: TcpListener,
    certificates: Option<Arc<Certificates>>,
}

impl Bound {
    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The certificate in use; `None` for plain HTTP.
    pub fn certificates(&self) -> Option<&Arc<Certificates>> {
        self.certificates.as_ref()
    }
}

/// How a request came.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// From which address.
    pub client: IpAddr,
    /// Its name in logs and answers.
    pub request_id: RequestId,
    /// Whether it came by TLS.
    pub encrypted: bool,
}

/// What the listener works with.
pub struct Parts<H> {
    /// What answers.
    pub router: Router,
    /// Names requests.
    pub random: SharedRandom,
    /// Where connections are counted.
    pub metrics: Arc<Metrics>,
    /// Makes what keeps a stop waiting as long as it is held.
    pub hold: Arc<dyn Fn() -> H + Send + Sync>,
}

impl<H> Clone for Parts<H> {
    fn clone(&self) -> Self {
        Self {
            router: self.router.clone(),
            random: Arc::clone(&self.random),
            metrics: Arc::clone(&self.metrics),
            hold: Arc::clone(&self.hold),
        }
    }
}

/// Binds what is configured and loads the certificate.
///
/// # Errors
/// With a text for the operator: which address or file, and what is wrong with it.
pub fn bind(listen: &AdminListen, clock: &SharedClock) -> io::Result<Bound> {
    let certificates = match &listen.tls {
        None => None,
        Some(tls) => {
            let loaded = Certificates::load(&tls.certificate_file, &tls.key_file, Arc::clone(clock))?;
            Some(Arc::new(loaded))
        }
    };
    let address = listen.address;
    let socket = TcpListener::bind(address)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
    Ok(Bound { socket, certificates })
}

/// Serves until `stop` becomes true or its sender is gone; connections end with what is in flight on them.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve<H: Send + 'static>(
    bound: Bound,
    parts: Parts<H>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    bound.socket.set_nonblocking(true)?;
    let socket = tokio::net::TcpListener::from_std(bound.socket)?;
    let acceptor = bound.certificates.map(|certificates| tls::acceptor(certificates, false)).transpose()?;
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return Ok(()) };
        let (stream, peer) = tokio::select! {
            accepted = socket.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // out of descriptors, mostly: let some close first
                    tracing::warn!(%error, "the administrators' listener cannot accept");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
            () = stopped(&mut stop) => return Ok(()),
        };
        let door = Door { parts: parts.clone(), acceptor: acceptor.clone(), stop: stop.clone() };
        tokio::spawn(door.open(stream, peer.ip().to_canonical(), place));
    }
}

/// One connection.
struct Door<H> {
    parts: Parts<H>,
    acceptor: Option<TlsAcceptor>,
    stop: watch::Receiver<bool>,
}

impl<H: Send + 'static> Door<H> {
    async fn open(self, stream: TcpStream, client: IpAddr, _place: OwnedSemaphorePermit) {
        let Self { parts, acceptor, mut stop } = self;
        let _held = (parts.hold)();
        let open = parts.metrics.connections.get(Listener::Admin).cloned();
        if let Some(open) = &open {
            open.inc();
        }
        let encrypted = acceptor.is_some();
        let answer = move |request| answer(request, parts.clone(), client, encrypted);
        let ended = async move { stopped(&mut stop).await };
        match acceptor {
            None => answered(stream, answer, ended).await,
            Some(acceptor) => match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => answered(stream, answer, ended).await,
                Ok(Err(error)) => tracing::debug!(%error, "no TLS with an administrator"),
                Err(_) => tracing::debug!("no TLS with an administrator in time"),
            },
        }
        if let Some(open) = &open {
            open.dec();
        }
    }
}

async fn answer<H: Send + 'static>(
    request: Request<Incoming>,
    parts: Parts<H>,
    client: IpAddr,
    encrypted: bool,
) -> Response {
    let arrival = Arrival { client, request_id: request_id(&parts.random), encrypted };
    let refused = |kind| Problem::new(kind).at(&arrival).into_response();
    let (head, body) = request.into_parts();
    let whole = match timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return refused(Kind::TooLarge),
        Ok(Err(_)) => return refused(Kind::BadRequest),
        Err(_) => return refused(Kind::TooSlow),
    };
    let mut request = Request::from_parts(head, Body::from(whole));
    request.extensions_mut().insert(arrival.clone());
    // In a task of its own, so that a client that hangs up cuts no act in half.
    let held = (parts.hold)();
    let task = tokio::spawn(async move {
        let answer = parts.router.oneshot(request).await.unwrap_or_else(|never| match never {});
        drop(held);
        answer
    });
    let mut answer = match task.await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::error!(%error, request_id = %arrival.request_id, "a request of an administrator failed");
            refused(Kind::Internal)
        }
    };
    if let Ok(id) = HeaderValue::from_str(arrival.request_id.as_str()) {
        answer.headers_mut().insert("x-request-id", id);
    }
    answer
}

fn request_id(random: &SharedRandom) -> RequestId {
    let drawn = random::bytes::<16>(random.as_ref()).ok();
    drawn.and_then(|bytes| RequestId::new(&HEXLOWER.encode(&bytes))).unwrap_or_else(RequestId::unknown)
}

/// Administrators are few.
const MOST_CONNECTIONS: usize = 256;
/// After a failed accept.
const PAUSE: Duration = Duration::from_millis(100);
/// A client that takes longer for TLS is hung up on.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest wait for the rest of a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest body: a list of users to import.
const BODY_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::routing::post;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::{Notify, mpsc},
    };

    use super::*;
    use crate::base::{clock::SystemClock, random::SystemRandom};

    struct Held(Arc<AtomicUsize>);

    impl Drop for Held {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// A route that says when it has begun, waits until it may go on, and says when it is done.
    struct House {
        address: SocketAddr,
        go_on: Arc<Notify>,
        said: mpsc::UnboundedReceiver<&'static str>,
        held: Arc<AtomicUsize>,
        stop: watch::Sender<bool>,
        server: tokio::task::JoinHandle<io::Result<()>>,
    }

    fn start() -> House {
        let (say, said) = mpsc::unbounded_channel();
        let (go_on, held) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let waiting = Arc::clone(&go_on);
        let act = move || {
            let (say, waiting) = (say.clone(), Arc::clone(&waiting));
            async move {
                say.send("begun").unwrap();
                waiting.notified().await;
                say.send("done").unwrap();
                "done"
            }
        };
        let listen = AdminListen { address: "127.0.0.1:0".parse().unwrap(), tls: None };
        let clock: SharedClock = Arc::new(SystemClock);
        let bound = bind(&listen, &clock).unwrap();
        let address = bound.address().unwrap();
        let counted = Arc::clone(&held);
        let parts = Parts {
            router: Router::new().route("/act", post(act)),
            random: Arc::new(SystemRandom),
            metrics: Arc::new(Metrics::new(&[])),
            hold: Arc::new(move || {
                counted.fetch_add(1, Ordering::SeqCst);
                Held(Arc::clone(&counted))
            }),
        };
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(serve(bound, parts, stopped));
        House { address, go_on, said, held, stop, server }
    }

    const ACT: &str = "POST /act HTTP/1.1\r\nHost: sluis\r\nContent-Length: 0\r\n\r\n";

    #[tokio::test]
    async fn a_client_that_hangs_up_cuts_no_act_in_half() {
        let mut house = start();
        let mut client = TcpStream::connect(house.address).await.unwrap();
        client.write_all(ACT.as_bytes()).await.unwrap();
        assert_eq!(house.said.recv().await, Some("begun"));
        drop(client);
        // Once its connection is gone, only the act itself is held.
        while house.held.load(Ordering::SeqCst) > 1 {
            tokio::task::yield_now().await;
        }
        house.go_on.notify_one();
        assert_eq!(house.said.recv().await, Some("done"));
    }

    #[tokio::test]
    async fn a_stop_takes_nobody_new_and_answers_what_has_begun() {
        let mut house = start();
        let mut client = TcpStream::connect(house.address).await.unwrap();
        client.write_all(ACT.as_bytes()).await.unwrap();
        assert_eq!(house.said.recv().await, Some("begun"));
        house.stop.send(true).unwrap();
        house.server.await.unwrap().unwrap();
        assert!(TcpStream::connect(house.address).await.is_err());
        assert!(house.held.load(Ordering::SeqCst) > 0, "a stop waits for it");
        house.go_on.notify_one();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
        while house.held.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused_before_anything_looks_at_it() {
        let mut house = start();
        let ask = async |head: String, body: usize| {
            let mut client = TcpStream::connect(house.address).await.unwrap();
            client.write_all(head.as_bytes()).await.unwrap();
            // It may have been hung up on in the middle.
            let _ = client.write_all(&vec![b'x'; body]).await;
            let mut answer = vec![0; 12];
            client.read_exact(&mut answer).await.unwrap();
            String::from_utf8(answer).unwrap()
        };
        let large =
            format!("POST /act HTTP/1.1\r\nHost: sluis\r\nContent-Length: {}\r\n\r\n", BODY_BYTES + 1);
        assert_eq!(ask(large, BODY_BYTES + 1).await, "HTTP/1.1 413");
        let chunked =
            "POST /act HTTP/1.1\r\nHost: sluis\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n".to_owned();
        assert_eq!(ask(chunked, BODY_BYTES + 1).await, "HTTP/1.1 413");
        let header = format!("POST /act HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20 << 10));
        assert_eq!(ask(header, 0).await, "HTTP/1.1 431");
        assert!(house.said.try_recv().is_err());
    }
}

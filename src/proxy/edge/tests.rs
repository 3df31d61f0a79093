//! The edge with real sockets: a small app behind it, clients in front of it, nothing else.

use std::{
    convert::Infallible,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU32},
};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use pingora::{
    http::ResponseHeader,
    proxy::{ProxyHttp, Session, http_proxy},
    server::configuration::ServerConf,
    upstreams::peer::HttpPeer,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::*;
use crate::{
    base::clock::{ManualClock, Stopwatch},
    config::{HttpListen, HttpsListen},
    tls::tests::write_pair,
};

/// Forwards everything, but for two paths: `/own` answers at once without reading a body, `/who` says what is
/// known of the connection.
struct Pass(SocketAddr);

#[async_trait]
impl ProxyHttp for Pass {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn request_filter(&self, session: &mut Session, (): &mut ()) -> pingora::Result<bool> {
        let connection = of(session).unwrap();
        let text = match session.req_header().uri.path() {
            "/own" => String::from("own"),
            "/who" => format!("{} {} {}", connection.client(), connection.is_tls(), connection.is_http2()),
            _ => {
                if !session.is_body_empty() {
                    of(session).unwrap().body_begun();
                }
                return Ok(false);
            }
        };
        let mut header = ResponseHeader::build(200, None)?;
        header.insert_header("content-length", text.len())?;
        session.write_response_header(Box::new(header), false).await?;
        session.write_response_body(Some(text.into()), true).await?;
        Ok(true)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        _body: &mut Option<Bytes>,
        end: bool,
        (): &mut (),
    ) -> pingora::Result<()> {
        if end {
            of(session).unwrap().body_ended();
        }
        Ok(())
    }

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }
}

/// An app: `/slow` takes 50 ms, `/large` answers 64 MiB, everything else the length of the body it got.
async fn upstream() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let answer =
                hyper::service::service_fn(async |request: hyper::Request<hyper::body::Incoming>| {
                    let body = match request.uri().path() {
                        "/slow" => {
                            tokio::time::sleep(Duration::from_millis(50)).await;
                            Bytes::from_static(b"slow")
                        }
                        "/large" => Bytes::from(vec![b'x'; 64 << 20]),
                        _ => request.into_body().collect().await.map_or_else(
                            |_| Bytes::from_static(b"broken"),
                            |body| body.to_bytes().len().to_string().into(),
                        ),
                    };
                    Ok::<_, Infallible>(hyper::Response::new(Full::new(body)))
                });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), answer),
            );
        }
    });
    address
}

struct Edge {
    http: SocketAddr,
    https: Option<SocketAddr>,
    served: Served,
    metrics: Arc<Metrics>,
}

pub(in crate::proxy) struct Setup {
    limits: Limits,
    shutdown: ShutdownConfig,
    proxy_protocol: ProxyProtocol,
    trusted: Vec<IpNet>,
}

impl Default for Setup {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            limits: Limits {
                header_timeout: seconds(10),
                header_bytes: 16 << 10,
                header_fields: 100,
                min_body_rate: 100,
                keepalive_timeout: seconds(75),
                client_idle_timeout: seconds(60),
                login_body_bytes: 64 << 10,
                body_bytes: 0,
                connections: 0,
            },
            shutdown: ShutdownConfig { delay: Duration::ZERO, drain: seconds(5) },
            proxy_protocol: ProxyProtocol::Off,
            trusted: vec!["127.0.0.0/8".parse().unwrap()],
        }
    }
}

impl Setup {
    /// Serves plain HTTP with these apps.
    pub(in crate::proxy) fn serve<A>(self, make: impl FnMut(usize) -> A) -> (SocketAddr, Served)
    where
        A: HttpServerApp + Send + Sync + 'static,
    {
        let (bound, options) = self.bind(None);
        let http = bound.http_address().unwrap();
        (http, bound.serve(options, Shutdown::new(), make).unwrap())
    }

    fn bind(self, pair: Option<&Path>) -> (Bound, Options) {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let proxy_protocol = self.proxy_protocol;
        let listen = Listen {
            http: Some(HttpListen { address: any, proxy_protocol }),
            https: pair.map(|directory| HttpsListen {
                address: any,
                proxy_protocol,
                certificate_file: directory.join("cert.pem"),
                key_file: directory.join("key.pem"),
                http2: true,
            }),
            operations: None,
            admin: None,
            control: None,
        };
        let clock: SharedClock = ManualClock::at(tls::tests::NOW);
        let options = Options {
            threads: 2,
            settings: Settings {
                limits: self.limits,
                shutdown: self.shutdown,
                trusted_proxies: self.trusted,
                max_connections: 0,
            },
            metrics: Arc::new(Metrics::new(&[])),
        };
        (bind(&listen, &clock).unwrap(), options)
    }

    async fn start(self, pair: Option<&Path>) -> Edge {
        let (bound, options) = self.bind(pair);
        let (http, https) = (bound.http_address().unwrap(), bound.https_address());
        let app = upstream().await;
        let (metrics, limits) = (Arc::clone(&options.metrics), options.settings.limits.clone());
        let conf = Arc::new(ServerConf::default());
        let served = bound
            .serve(options, Shutdown::new(), |_| {
                let mut proxy = http_proxy(&conf, Pass(app));
                limit(&mut proxy, &limits);
                proxy
            })
            .unwrap();
        Edge { http, https, served, metrics }
    }
}

impl Edge {
    async fn connect(&self) -> BufReader<TcpStream> {
        BufReader::new(TcpStream::connect(self.http).await.unwrap())
    }

    async fn stop(self) {
        self.served.shutdown().begin();
        tokio::task::spawn_blocking(|| self.served.wait()).await.unwrap();
    }
}

/// Reads one answer: its head and as much body as it announces.
async fn answer(client: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if client.read_line(&mut head).await.unwrap_or(0) == 0 {
            return None;
        }
    }
    let lower = head.to_ascii_lowercase();
    let length = lower
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    client.read_exact(&mut body).await.ok()?;
    Some((head, String::from_utf8(body).unwrap()))
}

async fn get(client: &mut BufReader<TcpStream>, path: &str) -> Option<(String, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: app.example\r\n\r\n");
    client.write_all(request.as_bytes()).await.ok()?;
    answer(client).await
}

async fn rest(client: &mut BufReader<TcpStream>) -> String {
    let mut text = Vec::new();
    let _ = client.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

/// Waits for something that no event tells.
async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

#[tokio::test]
async fn f1_requests_follow_each_other_on_one_connection() {
    let edge = Setup::default().start(None).await;
    let mut client = edge.connect().await;
    for _ in 0..3 {
        let (head, body) = get(&mut client, "/").await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("keep-alive"), "{head}");
        assert_eq!(body, "0");
        let post = b"POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: 5\r\n\r\nhello";
        client.write_all(post).await.unwrap();
        assert_eq!(answer(&mut client).await.unwrap().1, "5");
    }
    let (_, who) = get(&mut client, "/who").await.unwrap();
    assert_eq!(who, format!("{} false false", client.get_ref().local_addr().unwrap()));
    assert!(edge.metrics.render().contains(r#"sluis_connections{listener="http"} 1"#));
    drop(client);
    edge.stop().await;
}

#[tokio::test]
async fn d20_a_slow_header_is_answered_408_and_a_silent_connection_is_closed() {
    let mut setup = Setup::default();
    setup.limits.header_timeout = Duration::from_millis(300);
    setup.limits.keepalive_timeout = Duration::from_millis(600);
    let edge = setup.start(None).await;

    let (mut silent, mut client) = (edge.connect().await, edge.connect().await);
    get(&mut silent, "/").await.unwrap();
    client.write_all(b"\r\n\r\nGET / HTTP/1.1\r\nHost: app.example\r\n").await.unwrap();
    let (mut read, mut write) = tokio::io::split(client);
    let drip = async {
        while write.write_all(b"X-A: 1\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut text = String::new();
    tokio::select! {
        () = drip => {}
        read = read.read_to_string(&mut text) => { read.unwrap(); }
    }
    assert!(text.starts_with("HTTP/1.1 408"), "{text}");
    assert_eq!(rest(&mut silent).await, "", "no answer without a request");
    edge.stop().await;
}

#[tokio::test]
async fn d20_a_header_of_more_than_16_kib_is_answered_431() {
    let edge = Setup::default().start(None).await;
    for size in [16 << 10, 200 << 10] {
        let mut client = edge.connect().await;
        let request = format!("GET / HTTP/1.1\r\nHost: app.example\r\nX-A: {}\r\n\r\n", "a".repeat(size));
        client.write_all(request.as_bytes()).await.unwrap();
        assert!(rest(&mut client).await.starts_with("HTTP/1.1 431"));
    }
    let mut client = edge.connect().await;
    let (head, _) = {
        let request = format!("GET / HTTP/1.1\r\nHost: app.example\r\nX-A: {}\r\n\r\n", "a".repeat(15 << 10));
        client.write_all(request.as_bytes()).await.unwrap();
        answer(&mut client).await.unwrap()
    };
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    edge.stop().await;
}

#[tokio::test]
async fn d20_a_body_that_stands_still_and_a_client_that_does_not_read_are_cut() {
    let mut setup = Setup::default();
    setup.limits.client_idle_timeout = Duration::from_millis(300);
    let edge = setup.start(None).await;
    let mut client = edge.connect().await;
    let post = b"POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: 500\r\n\r\nhello";
    client.write_all(post).await.unwrap();
    rest(&mut client).await;

    let mut deaf = edge.connect().await;
    deaf.write_all(b"GET /large HTTP/1.1\r\nHost: app.example\r\n\r\n").await.unwrap();
    let mut line = String::new();
    deaf.read_line(&mut line).await.unwrap(); // the answer has begun
    until("a client that does not read holds its connection", || {
        edge.metrics.render().contains(r#"sluis_connections{listener="http"} 0"#)
    })
    .await;
    let got = rest(&mut deaf).await;
    assert!(got.len() < 64 << 20);

    // A slow app is not the client's fault.
    let mut patient = edge.connect().await;
    for _ in 0..10 {
        assert_eq!(get(&mut patient, "/slow").await.unwrap().1, "slow");
    }
    edge.stop().await;
}

#[tokio::test]
async fn f1_a_download_streams_at_full_speed() {
    let edge = Setup::default().start(None).await;
    let mut client = edge.connect().await;
    let started = Stopwatch::start();
    let (_, body) = get(&mut client, "/large").await.unwrap();
    assert_eq!(body.len(), 64 << 20);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    drop(client);
    edge.stop().await;
}

#[tokio::test]
async fn an_early_answer_arrives_although_the_body_was_not_read() {
    let edge = Setup::default().start(None).await;
    for _ in 0..20 {
        let mut client = edge.connect().await;
        let head =
            format!("POST /own HTTP/1.1\r\nHost: app.example\r\nContent-Length: {}\r\n\r\n", 512 << 10);
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&vec![b'x'; 512 << 10]).await.unwrap();
        assert!(rest(&mut client).await.ends_with("own"));
    }
    edge.stop().await;
}

fn https_client(root: &str, edge: &Edge) -> reqwest::Client {
    reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(root.as_bytes()).unwrap()])
        .resolve("localhost", edge.https.unwrap())
        .timeout(Duration::from_secs(10))
        .build()
        .unwrap()
}

#[tokio::test]
async fn f1_http2_over_tls_and_a_certificate_replaced_while_running() {
    let directory = tempfile::tempdir().unwrap();
    let first = write_pair(directory.path(), 90);
    let edge = Setup::default().start(Some(directory.path())).await;
    let url = format!("https://localhost:{}", edge.https.unwrap().port());
    let client = https_client(&first, &edge);
    let response = client.get(format!("{url}/who")).send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    assert!(response.text().await.unwrap().ends_with("true true"));
    let posts = (0..50).map(|n| client.post(&url).body("x".repeat(n * 1000)).send());
    for (n, response) in futures_all(posts).await.into_iter().enumerate() {
        assert_eq!(response.unwrap().text().await.unwrap(), (n * 1000).to_string());
    }
    let large = client.get(&url).header("x-a", "a".repeat(20 << 10)).send().await;
    assert!(large.map_or(true, |r| r.status() == 431), "a header list beyond the limit");

    let second = write_pair(directory.path(), 400);
    let expiry = |edge: &Edge| {
        let text = edge.metrics.render();
        text.lines().find(|l| l.starts_with("sluis_certificate_expiry_seconds")).unwrap().to_owned()
    };
    let before = expiry(&edge);
    tls::reload(edge.served.certificates().unwrap(), Listener::Https, &edge.metrics);
    assert_ne!(expiry(&edge), before);
    assert!(client.get(&url).send().await.is_ok(), "the connection lives on");
    assert!(https_client(&first, &edge).get(&url).send().await.is_err());
    assert!(https_client(&second, &edge).get(&url).send().await.is_ok());

    std::fs::write(directory.path().join("key.pem"), "rubbish").unwrap();
    tls::reload(edge.served.certificates().unwrap(), Listener::Https, &edge.metrics);
    assert!(https_client(&second, &edge).get(&url).send().await.is_ok(), "the old pair stays");
    assert!(
        edge.metrics.render().contains(r#"sluis_reloads_total{outcome="refused",what="certificate"} 1"#),
        "{}",
        edge.metrics.render()
    );
    edge.stop().await;
}

/// All futures at once, their results in order.
async fn futures_all<F>(futures: impl Iterator<Item = F>) -> Vec<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let tasks: Vec<_> = futures.map(tokio::spawn).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

#[tokio::test]
async fn f1_the_proxy_header_names_the_client() {
    let v2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\x12\x67\x01\xbb";
    let edge = Setup { proxy_protocol: ProxyProtocol::Required, ..Setup::default() }.start(None).await;
    for header in [b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n".as_slice(), v2] {
        let mut client = edge.connect().await;
        client.write_all(header).await.unwrap();
        assert_eq!(get(&mut client, "/who").await.unwrap().1, "203.0.113.7:4711 false false");
        assert_eq!(get(&mut client, "/who").await.unwrap().1, "203.0.113.7:4711 false false");
    }
    let mut without = edge.connect().await;
    assert!(get(&mut without, "/who").await.is_none(), "it is required");
    edge.stop().await;

    let setup = Setup { proxy_protocol: ProxyProtocol::Required, trusted: Vec::new(), ..Setup::default() };
    let edge = setup.start(None).await;
    let mut stranger = edge.connect().await;
    stranger.write_all(v2).await.unwrap();
    assert!(get(&mut stranger, "/who").await.is_none(), "nobody is trusted");
    edge.stop().await;

    let edge = Setup::default().start(None).await;
    let mut forged = edge.connect().await;
    forged.write_all(b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n").await.unwrap();
    let (head, _) = get(&mut forged, "/who").await.unwrap();
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    edge.stop().await;
}

#[tokio::test]
async fn f1_the_proxy_header_stands_before_tls() {
    let directory = tempfile::tempdir().unwrap();
    let root = write_pair(directory.path(), 90);
    let edge = Setup { proxy_protocol: ProxyProtocol::Required, ..Setup::default() }
        .start(Some(directory.path()))
        .await;
    let mut socket = TcpStream::connect(edge.https.unwrap()).await.unwrap();
    socket.write_all(b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n").await.unwrap();
    use rustls_pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls_pki_types::CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tls = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect("localhost".try_into().unwrap(), socket)
        .await
        .unwrap();
    tls.write_all(b"GET /who HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    tls.read_to_string(&mut text).await.unwrap();
    assert!(text.ends_with("203.0.113.7:4711 true false"), "{text}");
    drop(tls);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f5_a_stop_under_load_fails_no_request() {
    let shutdown = ShutdownConfig { delay: Duration::from_millis(300), drain: Duration::from_secs(10) };
    let edge = Setup { shutdown, ..Setup::default() }.start(None).await;
    let (http, answered, failed) = (edge.http, Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let stopped = Arc::new(AtomicBool::new(false));
    let client = |n: usize| {
        let (answered, failed, stopped) = (Arc::clone(&answered), Arc::clone(&failed), Arc::clone(&stopped));
        async move {
            // A refused connection is no failed request: by then the endpoint has been withdrawn.
            while let Ok(socket) = TcpStream::connect(http).await {
                let mut client = BufReader::new(socket);
                loop {
                    let path = if n.is_multiple_of(2) { "/slow" } else { "/" };
                    match get(&mut client, path).await {
                        Some((head, _)) => {
                            answered.fetch_add(1, Ordering::SeqCst);
                            if head.to_ascii_lowercase().contains("connection: close") {
                                break;
                            }
                            assert!(!stopped.load(Ordering::SeqCst), "answers go on after the end");
                        }
                        None => {
                            failed.fetch_add(1, Ordering::SeqCst);
                            break;
                        }
                    }
                }
            }
        }
    };
    let clients: Vec<_> = (0..32).map(|n| tokio::spawn(client(n))).collect();
    let mut idle = edge.connect().await;
    get(&mut idle, "/").await.unwrap();
    until("load", || answered.load(Ordering::SeqCst) > 500).await;

    let started = Stopwatch::start();
    edge.served.shutdown().begin();
    assert!(edge.served.shutdown().is_stopping(), "not ready at once");
    let mut late = edge.connect().await;
    let (head, _) = get(&mut late, "/").await.unwrap();
    assert!(head.to_ascii_lowercase().contains("connection: close"), "served while it leaves: {head}");
    edge.stop_wait().await;
    stopped.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(failed.load(Ordering::SeqCst), 0, "of {}", answered.load(Ordering::SeqCst));
    assert_eq!(rest(&mut idle).await, "", "idle connections do not hold it up");
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

impl Edge {
    async fn stop_wait(self) {
        tokio::task::spawn_blocking(|| self.served.wait()).await.unwrap();
    }
}

#[tokio::test]
async fn f5_a_stop_ends_http2_connections_after_their_requests() {
    let directory = tempfile::tempdir().unwrap();
    let root = write_pair(directory.path(), 90);
    let edge = Setup::default().start(Some(directory.path())).await;
    let client = https_client(&root, &edge);
    let url = format!("https://localhost:{}/slow", edge.https.unwrap().port());
    client.get(&url).send().await.unwrap();
    let under_way = (0..20).map(|_| client.get(&url).send()).collect::<Vec<_>>();
    let answers = tokio::spawn(futures_all(under_way.into_iter()));
    tokio::time::sleep(Duration::from_millis(20)).await;
    let started = Stopwatch::start();
    edge.stop().await;
    for answer in answers.await.unwrap() {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[tokio::test]
async fn f5_the_second_signal_ends_at_once() {
    let shutdown = ShutdownConfig { delay: Duration::from_secs(60), drain: Duration::from_secs(60) };
    let edge = Setup { shutdown, ..Setup::default() }.start(None).await;
    let mut client = edge.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: app.exa").await.unwrap();
    until("the connection", || edge.served.shutdown().in_flight() == 1).await;
    edge.served.shutdown().begin();
    edge.served.shutdown().begin();
    edge.stop_wait().await;
}

#[test]
fn a_port_in_use_is_said_clearly() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let listen = Listen {
        http: Some(HttpListen { address, proxy_protocol: ProxyProtocol::Off }),
        https: None,
        operations: None,
        admin: None,
        control: None,
    };
    let clock: SharedClock = ManualClock::at(tls::tests::NOW);
    let error = bind(&listen, &clock).err().unwrap().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("another process"), "{error}");
}

//! The phases through pingora itself: a client that writes bytes, an app that shows what it got.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use pingora::{
    apps::HttpServerApp as _, protocols::http::ServerSession, proxy::HttpProxy,
    server::configuration::ServerConf,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};

use super::{Current, Parts, Proxy, testing, tunnel::Registry, upstreams::Upstreams};
use crate::{
    audit::Auditor,
    base::{
        clock::{SharedClock, SystemClock},
        keyring::Keyring,
        random::SystemRandom,
        secret::SecretBytes,
    },
    config::{App, app},
    gate::Gate,
    metrics::Metrics,
    session::{
        admission::Admissions, cookie::Names, live::Live, standing::Standings,
        upstream_cookies::UpstreamCookies,
    },
    store,
};

/// An app of which each answer is written down beforehand, and which tells what it got.
pub(super) struct TestApp {
    pub address: SocketAddr,
    got: mpsc::UnboundedReceiver<String>,
}

impl TestApp {
    /// Answers each request with what `answer` makes of its head; reads bodies by `Content-Length` or to the last
    /// chunk.
    pub async fn start(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, got) = mpsc::unbounded_channel();
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (tell, answer) = (tell.clone(), Arc::clone(&answer));
                tokio::spawn(async move {
                    while let Some(request) = read_request(&mut stream).await {
                        let reply = answer(&request);
                        let _ = tell.send(request);
                        if reply.is_empty() || stream.write_all(reply.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, got }
    }

    pub async fn next(&mut self) -> String {
        tokio::time::timeout(Duration::from_secs(5), self.got.recv())
            .await
            .expect("the app was asked")
            .unwrap()
    }

    fn nothing_more(&mut self) {
        assert!(self.got.try_recv().is_err(), "the app was asked");
    }
}

pub(super) async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse::<usize>().unwrap());
            let whole = match head.contains("transfer-encoding: chunked") {
                true => body.ends_with("0\r\n\r\n") || body.contains("\r\n0\r\n"),
                false => body.len() >= length,
            };
            if whole {
                return Some(text);
            }
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
        }
    }
}

/// The proxy on a port of its own.
pub(super) struct Running {
    pub address: SocketAddr,
    metrics: Arc<Metrics>,
}

pub(super) async fn run(apps: Vec<App>, store: store::SharedStore) -> Running {
    let clock: SharedClock = Arc::new(SystemClock);
    let random = Arc::new(SystemRandom);
    let keyring = Arc::new(Keyring::new(&[SecretBytes::new(vec![7; 32])], random.clone()).unwrap());
    let live = Arc::new(Live::default());
    store.follow(live.clone(), clock.now()).await.unwrap();
    let names = Names::new(false);
    let standings = Arc::new(Standings::new(keyring.clone(), live.clone()));
    let admissions = Arc::new(Admissions::new(
        store.clone(),
        keyring.clone(),
        live.clone(),
        names.clone(),
        clock.clone(),
        random.clone(),
    ));
    let gate = Arc::new(Gate::new(standings, admissions.clone(), clock.clone(), "/.sluis".to_owned()));
    let sealer = UpstreamCookies::load(keyring, store, names.clone(), clock.clone()).await.unwrap();
    let metrics = Arc::new(Metrics::new(&[]));
    let mut limits = testing::limits();
    limits.body_bytes = 100_000;
    limits.login_body_bytes = 1000;
    let parts = Parts {
        upstreams: Arc::new(Upstreams::new(apps.iter()).unwrap()),
        apps: apps.into_iter().map(Arc::new).collect(),
        limits,
        trusted_proxies: vec![],
        prefix: "/.sluis".into(),
        names,
        gate,
        admissions,
        sealer: Arc::new(sealer),
        tunnels: Registry::new(),
        pages: axum::Router::new().fallback(|| async { "a page of ours" }),
        clock,
        metrics: metrics.clone(),
        auditor: Arc::new(Auditor::discarding()),
    };
    let proxy = Proxy::new(parts, &SystemRandom).unwrap();
    let mut proxy = HttpProxy::new(Current::new(proxy), Arc::new(ServerConf::default()));
    proxy.handle_init_modules();
    let proxy = Arc::new(proxy);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_stop, stopping) = watch::channel(false);
    tokio::spawn(async move {
        let _stop = _stop;
        while let Ok((stream, _)) = listener.accept().await {
            let (proxy, stopping) = (proxy.clone(), stopping.clone());
            tokio::spawn(async move {
                let stream = pingora::protocols::l4::stream::Stream::from(stream);
                let mut session = ServerSession::new_http1(Box::new(stream));
                session.set_keepalive(Some(0));
                proxy.process_new_http(session, &stopping).await;
            });
        }
    });
    Running { address, metrics }
}

impl Running {
    /// Sends bytes, reads to the end of the connection or for as long as something comes.
    pub async fn send(&self, request: &str) -> Reply {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes))
            .await
            .expect("an answer and the end of the connection")
            .unwrap();
        Reply(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub async fn get(&self, path: &str, lines: &str) -> Reply {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: ecd.example\r\nConnection: close\r\n{lines}\r\n"))
            .await
    }

    async fn post(&self, path: &str, lines: &str, body: &str) -> Reply {
        let length = body.len();
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: ecd.example\r\nConnection: close\r\nContent-Type: \
             application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n{lines}\r\n{body}"
        ))
        .await
    }
}

pub(super) struct Reply(pub String);

impl Reply {
    pub fn status(&self) -> u16 {
        self.0
            .get(9..12)
            .and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("no answer: {:?}", self.0))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head().lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn head(&self) -> &str {
        self.0.split("\r\n\r\n").next().unwrap()
    }

    pub fn body(&self) -> &str {
        self.0.split_once("\r\n\r\n").unwrap().1
    }

    /// The cookies that it sets, as a browser would send them.
    fn cookies(&self) -> HashMap<String, String> {
        self.head()
            .lines()
            .filter_map(|line| {
                let (key, value) = line.split_once(':')?;
                let (name, value) = value.split(';').next()?.trim().split_once('=')?;
                key.eq_ignore_ascii_case("set-cookie").then(|| (name.to_owned(), value.to_owned()))
            })
            .filter(|(_, value)| !value.is_empty())
            .collect()
    }
}

fn cookie_line(cookies: &HashMap<String, String>) -> String {
    let pairs: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("Cookie: {}\r\n", pairs.join("; "))
}

fn has(request: &str, line: &str) -> bool {
    request.lines().any(|l| l.eq_ignore_ascii_case(line))
}

pub(super) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// `anna` may pass without second factor, everybody else may not.
pub(super) fn app_at(address: SocketAddr) -> App {
    let mut app = testing::app("ecd", &["ecd.example"]);
    app.upstreams[0].addresses = vec![address];
    app.upstreams[0].port = address.port();
    let exempt = app::Rule {
        users: vec!["anna".to_owned()],
        networks: vec![],
        then: app::Then::Exempt { reason: "test".to_owned() },
    };
    app.policy.insert(0, exempt);
    app.anonymous.push(app::PathPattern::Exact("/open".to_owned()));
    app
}

/// Answers logins of `anna` and `bram` with a redirect and a session cookie.
fn care_app(request: &str) -> String {
    let login = request.starts_with("POST /login ");
    if login && request.contains("password=right") {
        return "HTTP/1.1 302 Found\r\nLocation: /home\r\nSet-Cookie: sid=fresh; Path=/; HttpOnly\r\n\
                Content-Length: 6\r\n\r\nsecret"
            .to_owned();
    }
    if login {
        return "HTTP/1.1 200 OK\r\nSet-Cookie: pre=1; HttpOnly\r\nContent-Length: 5\r\n\r\nwrong".to_owned();
    }
    ok("protected")
}

async fn care() -> (Running, TestApp) {
    let app = TestApp::start(care_app).await;
    (run(vec![app_at(app.address)], store::memory::open()).await, app)
}

#[tokio::test]
async fn i1_without_a_session_nothing_of_the_app_is_seen() {
    let (proxy, mut app) = care().await;
    let page = proxy.get("/", "Accept: text/html\r\n").await;
    assert_eq!((page.status(), page.header("location")), (303, Some("/login")));
    let script = proxy.get("/", "Accept: text/html\r\nSec-Fetch-Mode: cors\r\n").await;
    assert_eq!((script.status(), script.header("content-type")), (401, Some("application/problem+json")));
    assert!(script.body().contains("\"challenge_url\":\"/login\""), "{}", script.body());
    let socket = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n";
    let upgrade = format!("GET / HTTP/1.1\r\nHost: ecd.example\r\nConnection: Upgrade\r\n{socket}\r\n");
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 401");
    app.nothing_more();
}

#[tokio::test]
async fn i6_an_anonymous_request_goes_up_without_what_it_forged() {
    let (proxy, mut app) = care().await;
    let forged = "Remote-User: evil\r\nremote_user: evil\r\nX.Forwarded.For: 6.6.6.6\r\nX-Sluis-Methods: totp\r\n\
                  Forwarded: for=6.6.6.6\r\nX-Original-URL: /admin\r\nCookie: a=b; __Host-sluis-trust=x\r\n";
    assert_eq!(proxy.get("/login?next=%2Fx", forged).await.status(), 200);
    let request = app.next().await;
    assert!(request.starts_with("GET /login?next=%2Fx HTTP/1.1\r\n"), "{request}");
    assert!(
        !request.contains("evil") && !request.contains("6.6.6.6") && !request.contains("admin"),
        "{request}"
    );
    for line in [
        "Host: ecd.example",
        "X-Forwarded-For: 0.0.0.0",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Host: ecd.example",
        "Cookie: a=b",
    ] {
        assert!(has(&request, line), "{line} is missing in {request}");
    }
    assert!(request.to_ascii_lowercase().contains("\r\ntraceparent: 00-"), "{request}");
    assert!(request.to_ascii_lowercase().contains("\r\nx-request-id: "), "{request}");
}

/// [I6] Trailers of a client go nowhere: pingora reads over them, and the app gets none.
#[tokio::test]
async fn i6_trailers_are_not_forwarded() {
    let (proxy, mut app) = care().await;
    let request = "PUT /open HTTP/1.1\r\nHost: ecd.example\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\
                   Trailer: Remote-User\r\n\r\n3\r\nabc\r\n0\r\nRemote-User: evil\r\nX-Sluis-Methods: totp\r\n\r\n";
    assert_eq!(proxy.send(request).await.status(), 200);
    let request = app.next().await;
    assert!(request.contains("abc"), "{request}");
    assert!(!request.contains("evil") && !request.to_ascii_lowercase().contains("trailer"), "{request}");
}

#[tokio::test]
async fn what_cannot_be_read_in_one_way_never_reaches_the_app() {
    let (proxy, mut app) = care().await;
    for (request, status) in [
        ("GET /login HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        ("GET /login HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n", 421),
        ("GET /login/../x HTTP/1.1\r\nHost: ecd.example\r\n\r\n", 400),
        ("GET /login#/../x HTTP/1.1\r\nHost: ecd.example\r\n\r\n", 400),
        ("GET /login HTTP/1.1\nHost: ecd.example\r\n\r\n", 400),
        ("TRACE /login HTTP/1.1\r\nHost: ecd.example\r\nConnection: close\r\n\r\n", 405),
        (
            "POST /x HTTP/1.1\r\nHost: ecd.example\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("POST /x HTTP/1.1\r\nHost: ecd.example\r\nContent-Length: 100001\r\n\r\n", 413),
        ("GET /login HTTP/1.1\r\nHost: ecd.example\r\nConnection: x-forwarded-for\r\n\r\n", 400),
        ("GET /login HTTP/1.1\r\nHost: ecd.example\r\nConnection: close\r\nExpect: something\r\n\r\n", 417),
    ] {
        let reply = proxy.send(request).await;
        assert_eq!(reply.status(), status, "{request}");
        let problem = reply.header("content-type") == Some("application/problem+json");
        // (What pingora refuses before the phases run has no body.)
        assert!(problem || reply.body().is_empty(), "{}", reply.0);
    }
    app.nothing_more();
}

#[tokio::test]
async fn a_refused_login_is_the_apps_own_affair() {
    let (proxy, mut app) = care().await;
    let reply = proxy.post("/login", "", "user=bram&password=wrong").await;
    assert_eq!((reply.status(), reply.body()), (200, "wrong"));
    let cookies = reply.cookies();
    assert!(cookies.contains_key("__Host-sluis-device"), "sealing needs a device: {}", reply.head());
    assert_ne!(cookies["pre"], "1", "sealed to the device");
    assert!(app.next().await.ends_with("\r\n\r\nuser=bram&password=wrong"));
    // The box opens again on the next request of the same browser.
    proxy.get("/login", &cookie_line(&cookies)).await;
    assert!(has(&app.next().await, "Cookie: pre=1"));
}

/// [A1] Nothing of the app's answer is seen before the second factor; its cookies are useless until then.
#[tokio::test]
async fn i1_a_login_waits_for_its_second_factor() {
    let (proxy, mut app) = care().await;
    let reply = proxy
        .post("/login", "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\n", "user=bram&password=right")
        .await;
    assert_eq!((reply.status(), reply.header("location")), (303, Some("/.sluis/challenge")));
    assert_eq!((reply.header("content-length"), reply.body()), (Some("0"), ""));
    let cookies = reply.cookies();
    assert!(cookies.contains_key("__Host-sluis-login") && !cookies.contains_key("__Host-sluis-session"));
    assert!(!reply.0.contains("fresh") && !reply.0.contains("secret"), "{}", reply.0);
    let request = app.next().await;
    assert!(has(&request, "Accept-Encoding: identity"), "{request}");

    let page = proxy.get("/", &(cookie_line(&cookies) + "Accept: text/html\r\n")).await;
    assert_eq!((page.status(), page.header("location")), (303, Some("/.sluis/challenge")));
    app.nothing_more();

    // A script that logs in gets no redirect, but the place to go.
    let script = proxy.post("/login", "Sec-Fetch-Mode: cors\r\n", "user=bram&password=right").await;
    assert_eq!(script.status(), 401);
    assert!(script.body().contains("/.sluis/challenge"));
}

#[tokio::test]
async fn an_exempt_user_notices_nothing_and_logs_out() {
    let (proxy, mut app) = care().await;
    let reply = proxy.post("/login", "Accept: text/html\r\n", "user=+Anna&password=right").await;
    assert_eq!((reply.status(), reply.header("location"), reply.body()), (302, Some("/home"), "secret"));
    app.next().await;
    let cookies = reply.cookies();
    assert!(cookies.contains_key("__Host-sluis-session") && cookies["sid"] != "fresh");

    // Behind the gate: the app's cookie is open, ours are gone, and the app is told who it is.
    let page = proxy.get("/home", &cookie_line(&cookies)).await;
    assert_eq!((page.status(), page.body()), (200, "protected"));
    assert_eq!(page.header("cache-control"), Some("private"));
    let request = app.next().await;
    assert!(has(&request, "Cookie: sid=fresh") && has(&request, "Remote-User: anna"), "{request}");
    assert!(has(&request, "X-Sluis-Methods: exempt") && !request.contains("sluis-session"), "{request}");

    // A session cookie alone, without its device, is nothing.
    let mut stolen = cookies.clone();
    stolen.remove("__Host-sluis-device");
    assert_eq!(proxy.get("/home", &cookie_line(&stolen)).await.status(), 401);

    let reply = proxy.get("/logout", &cookie_line(&cookies)).await;
    assert_eq!(reply.status(), 200);
    assert!(reply.head().contains("__Host-sluis-session=;"), "{}", reply.head());
    app.next().await;
    assert_eq!(proxy.get("/home", &cookie_line(&cookies)).await.status(), 401);
    app.nothing_more();
    assert!(proxy.metrics.render().contains(r#"sluis_sessions_ended_total{app="ecd"} 1"#));
}

#[tokio::test]
async fn a_login_form_that_can_be_read_in_two_ways_is_refused() {
    let (proxy, mut app) = care().await;
    for body in ["user=anna&user=bram&password=right", "password=right"] {
        assert_eq!(proxy.post("/login", "", body).await.status(), 400, "{body}");
    }
    let large = format!("user=anna&x={}", "a".repeat(2000));
    assert_eq!(proxy.post("/login", "", &large).await.status(), 413);
    let chunked = format!(
        "POST /login HTTP/1.1\r\nHost: ecd.example\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n{}\r\n0\r\n\r\n",
        "a".repeat(2000)
    );
    assert_eq!(proxy.send(&chunked).await.status(), 413);
    app.nothing_more();
}

/// A request on a watched path that is no login: its body was read, and arrives all the same.
#[tokio::test]
async fn what_turns_out_to_be_no_login_goes_on_with_its_body() {
    let mut upstream = TestApp::start(care_app).await;
    let mut app = app_at(upstream.address);
    app.login.watch[0].with = Some(("do".to_owned(), "login".to_owned()));
    let proxy = run(vec![app], store::memory::open()).await;
    let reply = proxy.post("/login", "Accept: text/html\r\n", "user=anna&password=right&do=login").await;
    assert_eq!(reply.status(), 302);
    upstream.next().await;
    let line = cookie_line(&reply.cookies());
    let reply = proxy.post("/login", &line, "do=save&text=hello").await;
    assert_eq!(reply.status(), 200);
    let request = upstream.next().await;
    assert!(
        request.ends_with("\r\n\r\ndo=save&text=hello") && has(&request, "Remote-User: anna"),
        "{request}"
    );
}

/// [D9] A second login on a running session ends it, whatever becomes of the answer.
#[tokio::test]
async fn a_login_that_breaks_off_ends_the_running_session() {
    let mut upstream = TestApp::start(|request: &str| match request.contains("user=bram") {
        true => String::new(),
        false => care_app(request),
    })
    .await;
    let proxy = run(vec![app_at(upstream.address)], store::memory::open()).await;
    let reply = proxy.post("/login", "", "user=anna&password=right").await;
    let line = cookie_line(&reply.cookies());
    upstream.next().await;
    assert_eq!(proxy.get("/home", &line).await.status(), 200);
    upstream.next().await;
    assert_eq!(proxy.post("/login", &line, "user=bram&password=right").await.status(), 502);
    upstream.next().await;
    assert_eq!(proxy.get("/home", &line).await.status(), 401);
}

#[tokio::test]
async fn a_failing_upstream_gives_a_clean_answer() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = run(vec![app_at(free)], store::memory::open()).await;
    let reply = proxy.get("/login", "").await;
    assert_eq!((reply.status(), reply.header("content-type")), (502, Some("application/problem+json")));
    assert!(!reply.0.contains("refused") && !reply.0.contains(&free.port().to_string()), "{}", reply.0);
    assert_eq!(proxy.post("/login", "", "user=anna&password=right").await.status(), 502);
    let silent = TestApp::start(|_| String::new()).await;
    let proxy = run(vec![app_at(silent.address)], store::memory::open()).await;
    assert_eq!(proxy.get("/login", "Accept: text/html\r\n").await.status(), 502);
}

#[tokio::test]
async fn our_pages_are_answered_in_process() {
    let (proxy, mut app) = care().await;
    let reply = proxy.get("/.sluis/challenge", "").await;
    assert_eq!((reply.status(), reply.body()), (200, "a page of ours"));
    let head = "HEAD /.sluis/challenge HTTP/1.1\r\nHost: ecd.example\r\nConnection: close\r\n\r\n";
    assert_eq!(proxy.send(head).await.body(), "");
    app.nothing_more();
}

/// The body of an ordinary request is not limited to what a login may have, and what is too large is cut off.
#[tokio::test]
async fn bodies_of_ordinary_requests_stream() {
    let (proxy, mut app) = care().await;
    let reply = proxy.post("/login", "", "user=anna&password=right").await;
    app.next().await;
    let line = cookie_line(&reply.cookies());
    let body = "x".repeat(90_000);
    assert_eq!(proxy.post("/upload", &line, &body).await.status(), 200);
    assert!(app.next().await.ends_with(&body));
    let chunk = format!("{:x}\r\n{}\r\n", 60_000, "y".repeat(60_000));
    let request = format!(
        "POST /upload HTTP/1.1\r\nHost: ecd.example\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n{line}\r\n{chunk}{chunk}0\r\n\r\n"
    );
    assert_eq!(proxy.send(&request).await.status(), 413);
}

/// A refusal arrives although the body was not read, and a small one does not cost the connection.
#[tokio::test]
async fn a_refusal_arrives_although_the_body_was_not_wanted() {
    let (proxy, mut app) = care().await;
    for bytes in [10, 60_000, 99_000] {
        let reply = proxy.post("/upload", "", &"x".repeat(bytes)).await;
        assert_eq!(reply.status(), 401, "{bytes}");
    }
    app.nothing_more();
}

//! Traffic: large bodies, websockets, stops, TLS, other people's proxies.

use std::time::Duration;

use reqwest::{Method, StatusCode, header::COOKIE};

use crate::support::{Browser, Demo, Sluis, raw, sluis::care_records};

const MIB: u64 = 1 << 20;

async fn anna_inside(more: &str) -> (Demo, Sluis, Browser) {
    let app = Demo::start();
    let sluis = Sluis::start(&format!("{}{more}", care_records(app.address)));
    let mut browser = sluis.browser();
    let pending = sluis.password(&mut browser, "anna").await;
    let (_, entered) = sluis.enrol(&mut browser, &pending).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
    (app, sluis, browser)
}

fn cookies(browser: &Browser) -> String {
    browser.jar.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("; ")
}

/// Resident memory of a process, in bytes, at its highest so far.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// [F1] 1 GiB up and 1 GiB down arrive whole, and nothing of them is kept in memory.
#[tokio::test]
async fn large_bodies_stream_in_constant_memory() {
    let (_app, sluis, browser) = anna_inside("").await;
    let before = peak_memory(sluis.process.id());
    let size = 1024 * MIB;

    let piece = bytes::Bytes::from(vec![0_u8; 1 << 18]);
    let pieces = (0..size / (1 << 18)).map(move |_| Ok::<_, std::io::Error>(piece.clone()));
    let up = browser
        .request(Method::POST, "/upload")
        .header("content-type", "application/octet-stream")
        .body(reqwest::Body::wrap_stream(Pieces(pieces)))
        .send()
        .await
        .unwrap();
    assert_eq!(up.status(), StatusCode::OK);
    let answer: serde_json::Value = up.json().await.unwrap();
    assert_eq!(answer["bytes"], size);

    let mut down = browser.request(Method::GET, &format!("/download?bytes={size}")).send().await.unwrap();
    let mut got = 0;
    while let Some(chunk) = down.chunk().await.unwrap() {
        got += chunk.len() as u64;
    }
    assert_eq!(got, size);
    let grown = peak_memory(sluis.process.id()).saturating_sub(before);
    assert!(grown < 64 * MIB, "grew by {} MiB", grown / MIB);
}

struct Pieces<I>(I);

impl<I: Iterator + Unpin> futures_util::Stream for Pieces<I> {
    type Item = I::Item;
    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<I::Item>> {
        std::task::Poll::Ready(self.0.next())
    }
}

async fn live(sluis: &Sluis, cookies: &str) -> Result<Socket, tokio_tungstenite::tungstenite::Error> {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let mut request = format!("ws://localhost:{}/live", sluis.address.port()).into_client_request().unwrap();
    request.headers_mut().insert("cookie", cookies.parse().unwrap());
    request.headers_mut().insert("origin", sluis.origin().parse().unwrap());
    tokio_tungstenite::connect_async(request).await.map(|(socket, _)| socket)
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn next_text(socket: &mut Socket) -> Option<String> {
    use futures_util::StreamExt;
    match tokio::time::timeout(Duration::from_secs(30), socket.next()).await.expect("a frame or the end") {
        Some(Ok(message)) => message.into_text().ok().map(|t| t.to_string()),
        _ => None,
    }
}

/// [F1 I1] A websocket needs a session, passes both ways, and ends at once when its session does.
#[tokio::test]
async fn websockets_pass_and_end_with_their_session() {
    use futures_util::SinkExt;
    let (_app, sluis, mut browser) = anna_inside("").await;
    let refused = live(&sluis, "sluis-session=forged").await;
    match refused {
        Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => assert_eq!(answer.status(), 401),
        other => panic!("no websocket without a session: {other:?}"),
    }
    let mut socket = live(&sluis, &cookies(&browser)).await.unwrap();
    assert_eq!(next_text(&mut socket).await.as_deref(), Some("hello anna"));
    socket.send("still there?".into()).await.unwrap();
    assert_eq!(next_text(&mut socket).await.as_deref(), Some("still there?"));

    browser.visit("/logout").await;
    while next_text(&mut socket).await.is_some() {}
    assert!(live(&sluis, &cookies(&browser)).await.is_err());
}

/// [B3] Where proofs are judged on every request, a websocket ends when its proof is too old.
#[tokio::test]
async fn b3_a_websocket_outlives_no_proof_under_continuous() {
    let app = Demo::start();
    let config = care_records(app.address).replace("validity: 12h", "validity: 5s, judged: continuous");
    let sluis = Sluis::start(&config);
    let mut browser = sluis.browser();
    let pending = sluis.password(&mut browser, "anna").await;
    let (_, entered) = sluis.enrol(&mut browser, &pending).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
    let mut socket = live(&sluis, &cookies(&browser)).await.unwrap();
    while next_text(&mut socket).await.is_some() {}
    assert_eq!(browser.get("/").await.location(), "/.sluis/challenge", "as for any other request");
}

/// [F1] SIGTERM under load: not one request that was begun is lost, and the process ends by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_cuts_nothing() {
    let (_app, mut sluis, browser) = anna_inside("").await;
    let slow = (0..32).map(|i| {
        let request = browser.request(Method::GET, &format!("/slow?ms={}", 500 + i * 20));
        tokio::spawn(async move { request.send().await.unwrap().text().await.unwrap() })
    });
    let slow: Vec<_> = slow.collect();
    // All of them have arrived once the app has been asked 32 times more than before.
    loop {
        let metrics = sluis.metrics().await;
        let forwarded = metrics
            .lines()
            .filter(|l| l.starts_with("sluis_decisions_total") || l.starts_with("sluis_requests_total"))
            .filter(|l| l.contains("forward") || l.contains("session"))
            .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .fold(0.0, f64::max);
        if forwarded >= 32.0 || slow.iter().all(tokio::task::JoinHandle::is_finished) {
            break;
        }
        tokio::task::yield_now().await;
    }
    sluis.process.signal("TERM");
    for answer in slow {
        assert_eq!(answer.await.unwrap(), "at last\n");
    }
    assert!(sluis.process.wait().success());
}

/// [F1] Requests that cannot be read in one way only are refused, and nothing of them reaches the app.
#[tokio::test]
async fn ambiguous_requests_are_refused() {
    let (_app, sluis, browser) = anna_inside("").await;
    let cookie = format!("Cookie: {}\r\n", cookies(&browser));
    let cases: &[(&str, &str)] = &[
        (
            "two lengths",
            "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n{c}\r\nabcd",
        ),
        (
            "equal lengths",
            "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 3\r\n{c}\r\nabc",
        ),
        (
            "length and chunked",
            "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n{c}\r\n0\r\n\r\n",
        ),
        (
            "gzip, chunked",
            "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n{c}\r\n0\r\n\r\n",
        ),
        ("no host", "GET /echo HTTP/1.1\r\n{c}\r\n"),
        ("two hosts", "GET /echo HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n{c}\r\n"),
        ("foreign absolute form", "GET http://evil/echo HTTP/1.1\r\nHost: localhost\r\n{c}\r\n"),
        ("nominated cookie", "GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close, cookie\r\n{c}\r\n"),
        ("session twice", "GET /echo HTTP/1.1\r\nHost: localhost\r\n{c}Cookie: sluis-session=x\r\n\r\n"),
        ("trace", "TRACE /echo HTTP/1.1\r\nHost: localhost\r\n{c}\r\n"),
        ("connect", "CONNECT localhost:22 HTTP/1.1\r\nHost: localhost:22\r\n{c}\r\n"),
        ("space in name", "GET /echo HTTP/1.1\r\nHost: localhost\r\nRemote-User : x\r\n{c}\r\n"),
        ("folded line", "GET /echo HTTP/1.1\r\nHost: localhost\r\nX-A: 1\r\n Remote-User: x\r\n{c}\r\n"),
    ];
    for (what, request) in cases {
        let answer = raw::send_until_answered(sluis.address, request.replace("{c}", &cookie).as_bytes());
        let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
        assert!(["400", "405", "501"].contains(&status.as_str()) || answer.is_empty(), "{what}: {answer}");
    }
}

/// [F4] What the app sees of the client's address comes from trusted proxies only.
#[tokio::test]
async fn forwarded_addresses_are_believed_from_trusted_proxies_only() {
    let (_app, sluis, browser) = anna_inside("").await;
    let head = format!(
        "Cookie: {}\r\nX-Forwarded-For: 203.0.113.9\r\nX-Real-IP: 203.0.113.9\r\n",
        cookies(&browser)
    );
    let answer = raw::get(sluis.address, b"/headers", &head);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!answer.contains("203.0.113.9"), "no trusted proxy is configured: {answer}");

    let app = Demo::start();
    let trusting = Sluis::start(&format!("trusted_proxies: [127.0.0.0/8]\n{}", care_records(app.address)));
    let mut browser = trusting.browser();
    let pending = trusting.password(&mut browser, "anna").await;
    trusting.enrol(&mut browser, &pending).await;
    let head = format!("Cookie: {}\r\nX-Forwarded-For: 198.51.100.7, 203.0.113.9\r\n", cookies(&browser));
    let answer = raw::get(trusting.address, b"/headers", &head);
    assert!(answer.contains("203.0.113.9"), "{answer}");
}

/// [F6] Metrics can be read by Prometheus' own tool, count what happened, and name no user.
#[tokio::test]
async fn f6_metrics_count_and_name_nobody() {
    let (_app, sluis, _browser) = anna_inside("").await;
    let metrics = sluis.metrics().await;
    assert!(!metrics.contains("anna"), "{metrics}");
    let value = |series: &str| -> f64 {
        metrics
            .lines()
            .find(|l| l.starts_with(series))
            .and_then(|l| l.rsplit(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("no {series} in\n{metrics}"))
    };
    assert!(value("sluis_enrolments_total{method=\"totp\",outcome=\"confirmed\"}") >= 1.0);
    let live = reqwest::get(format!("http://{}/livez", sluis.operations)).await.unwrap();
    assert_eq!(live.status(), StatusCode::OK);
    let ready = reqwest::get(format!("http://{}/readyz?verbose", sluis.operations)).await.unwrap();
    assert_eq!(ready.status(), StatusCode::OK);
    assert!(ready.text().await.unwrap().contains("store"));
}

/// [I1] Our own cookies never reach the app, and the app cannot set them.
#[tokio::test]
async fn the_app_cannot_set_our_cookies() {
    let (_app, sluis, mut browser) = anna_inside("").await;
    let before = browser.jar.clone();
    let answer = browser.get("/cookies?set=sluis-session%3Dforged%3B+Path%3D%2F&set=plain%3D1").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(browser.jar.get("sluis-session"), before.get("sluis-session"));
    assert_eq!(browser.jar["plain"], "1", "a cookie that scripts may read passes as it is");
    let request = browser.request(Method::GET, "/headers").header(COOKIE, "x=1");
    let _ = sluis;
    let text = browser.send(request).await.body;
    // (Our headers are named so as well; a cookie of ours has a value.)
    assert!(!text.contains("sluis-session") && !text.contains("sluis-device"), "{text}");
}

/// [F1] What an app sends bit by bit arrives bit by bit: the header before there is a body, each event when it comes.
#[tokio::test]
async fn events_are_passed_on_as_they_come() {
    use std::io::{Read, Write};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let sluis = Sluis::start(&care_records(listener.local_addr().unwrap()));
    let mut client = std::net::TcpStream::connect(sluis.address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    client.write_all(b"GET /static/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let (mut app, _) = listener.accept().unwrap();
    assert!(app.read(&mut [0; 8192]).unwrap() > 0);

    let mut got = Vec::new();
    for (sent, awaited) in [
        ("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n", ""),
        ("Transfer-Encoding: chunked\r\n\r\n", "\r\n\r\n"),
        ("9\r\ndata: 1\n\n\r\n", "data: 1\n\n\r\n"),
        ("9\r\ndata: 2\n\n\r\n", "data: 2\n\n\r\n"),
        ("0\r\n\r\n", "0\r\n\r\n"),
    ] {
        app.write_all(sent.as_bytes()).unwrap();
        let mut piece = [0; 4096];
        while !got.ends_with(awaited.as_bytes()) {
            let read = client.read(&mut piece).unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&got));
            got.extend_from_slice(&piece[..read]);
        }
    }
}

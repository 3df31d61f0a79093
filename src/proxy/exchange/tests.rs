//! The short way beside the long one: an app must not be able to tell them apart, nor a client.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::{
    config::{App, app::PathPattern},
    proxy::tests::{Running, TestApp, app_at, ok, read_request, run},
    store,
};

/// What each connection answers to each of its requests, one after the other; then it is closed.
type Script<'a> = &'a [&'a [&'static str]];

/// An app that follows a script, and tells on which connection it was asked what.
async fn scripted(script: Script<'_>) -> (SocketAddr, mpsc::UnboundedReceiver<(usize, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, asked) = mpsc::unbounded_channel();
    let script: Vec<Vec<&str>> = script.iter().map(|answers| answers.to_vec()).collect();
    tokio::spawn(async move {
        for (number, answers) in script.into_iter().enumerate() {
            let (mut stream, _) = listener.accept().await.unwrap();
            let tell = tell.clone();
            tokio::spawn(async move {
                for answer in answers {
                    let Some(request) = read_request(&mut stream).await else { return };
                    let _ = tell.send((number, request));
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
        std::future::pending::<()>().await;
    });
    (address, asked)
}

fn open_app(address: SocketAddr) -> App {
    let mut app = app_at(address);
    app.anonymous = vec![PathPattern::Below("/".to_owned())];
    app
}

async fn front(app: App) -> Running {
    run(vec![app], store::memory::open()).await
}

/// What the app was told, without what is new each time.
fn told(request: &str) -> Vec<String> {
    let (first, lines) = request.split_once("\r\n").unwrap();
    let mut lines: Vec<String> = lines
        .lines()
        .filter(|line| {
            let line = line.to_ascii_lowercase();
            !line.is_empty() && !line.starts_with("x-request-id: ") && !line.starts_with("traceparent: ")
        })
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines.insert(0, first.to_owned());
    lines
}

/// [I6, D5, D9] Whatever the client sends, both ways tell the app the same.
#[tokio::test]
async fn i6_both_ways_tell_the_app_the_same() {
    let mut app = TestApp::start(|_| ok("fine")).await;
    for own_name in [true, false] {
        let mut config = open_app(app.address);
        config.transport.preserve_host = !own_name;
        let proxy = front(config).await;
        for lines in [
            "",
            "Accept: text/html\r\nX-ODD-Case: Kept\r\naccept-LANGUAGE: nl\r\n",
            "Cookie: a=b; __Host-sluis-session=x\r\nCookie: sid=plain; c=d\r\n",
            "Cookie: __Host-sluis-session=x\r\n",
            "Authorization: Basic YTpi\r\n",
            "Authorization: Bearer t\r\n",
            "Authorization: Bearer t\r\nAuthorization: Basic YTpi\r\n",
            "TE: trailers\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nProxy-Authorization: x\r\nTrailer: x\r\n",
            "Remote-User: evil\r\nremote.user: evil\r\nX-Forwarded-For: 6.6.6.6\r\nX-Request-Id: evil\r\n",
            "Content-Length: 0\r\nX-Twice: 1\r\nx-twice: 2\r\n",
            "traceparent: nonsense\r\ntracestate: a=b\r\n",
            "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\ntracestate: a=b\r\n",
        ] {
            let mut both = Vec::new();
            // Naming a field makes a request an unusual one.
            for connection in ["close", "close, x-nothing"] {
                let request = format!(
                    "GET /a%20b?c=%2F HTTP/1.1\r\nHost: ECD.example\r\nConnection: {connection}\r\n{lines}\r\n"
                );
                let reply = proxy.send(&request).await;
                assert_eq!((reply.status(), reply.body()), (200, "fine"), "{lines}");
                both.push(app.next().await);
            }
            assert_eq!(told(&both[0]), told(&both[1]), "{lines}");
            let traced = |request: &str| request.contains("00-4bf92f3577b34da6a3ce929d0e0e4736-");
            assert_eq!(traced(&both[0]), traced(&both[1]), "{lines}");
            assert!(!both[0].contains("evil") && !both[0].contains("sluis-session"), "{}", both[0]);
        }
    }
}

const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    let (address, mut asked) = scripted(&[&[FINE, FINE, FINE]]).await;
    let proxy = front(open_app(address)).await;
    for _ in 0..3 {
        assert_eq!(proxy.get("/", "").await.body(), "fine");
        assert_eq!(asked.recv().await.unwrap().0, 0);
    }
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_costs_nobody_an_error() {
    // The second request is read by a server that then closes: only a second connection can answer it.
    let (address, mut asked) = scripted(&[&[FINE, ""], &[FINE]]).await;
    let proxy = front(open_app(address)).await;
    assert_eq!(proxy.get("/", "").await.body(), "fine");
    assert_eq!(proxy.get("/again", "").await.body(), "fine");
    let mut numbers = Vec::new();
    for _ in 0..3 {
        numbers.push(asked.recv().await.unwrap().0);
    }
    assert_eq!(numbers, [0, 0, 1]);
}

#[tokio::test]
async fn a_new_connection_that_is_closed_is_an_error_and_nothing_is_sent_twice() {
    let (address, mut asked) = scripted(&[&[""], &[FINE]]).await;
    let proxy = front(open_app(address)).await;
    assert_eq!(proxy.get("/", "").await.status(), 502);
    assert_eq!(asked.recv().await.unwrap().0, 0);
    assert!(asked.try_recv().is_err());
}

#[tokio::test]
async fn answers_end_where_the_app_ends_them() {
    for (answer, status, body) in [
        ("HTTP/1.0 200 OK\r\n\r\nto the end", 200, "A\r\nto the end\r\n0\r\n\r\n"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n",
            200,
            "3\r\nabc\r\n0\r\n\r\n",
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: \"x\"\r\n\r\n", 304, ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab and what nobody asked for", 200, "ab"),
    ] {
        let (address, _asked) = scripted(&[&[answer]]).await;
        let reply = front(open_app(address)).await.get("/", "").await;
        assert_eq!((reply.status(), reply.body()), (status, body), "{answer}");
        assert_eq!(reply.header("cache-control"), None, "from an anonymous path");
    }
}

#[tokio::test]
async fn hints_pass_and_a_change_of_protocols_does_not() {
    let (address, _asked) = scripted(&[&[concat!(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
    )]])
    .await;
    let reply = front(open_app(address)).await.get("/", "").await;
    assert!(reply.0.starts_with("HTTP/1.1 103 ") && reply.0.ends_with("\r\n\r\nfine"), "{}", reply.0);

    // [I5, D6] It sets no cookie, on neither way: none would be sealed, and ours are not the app's to set.
    const HINT: &str = concat!(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nSet-Cookie: sid=clear; HttpOnly\r\n",
        "Set-Cookie: __Host-sluis-session=x\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
    );
    for method in ["GET", "PUT"] {
        let (address, _asked) = scripted(&[&[HINT]]).await;
        let request = format!(
            "{method} / HTTP/1.1\r\nHost: ecd.example\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        let reply = front(open_app(address)).await.send(&request).await;
        assert!(reply.0.contains("Link: </a.css>") && reply.0.ends_with("fine"), "{method}: {}", reply.0);
        let all = reply.0.to_ascii_lowercase();
        for gone in ["sid=clear", "sluis-session", "x-hop", "keep-alive"] {
            assert!(!all.contains(gone), "{method}: {gone}: {}", reply.0);
        }
    }

    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nbytes";
    let (address, _asked) = scripted(&[&[switch]]).await;
    let reply = front(open_app(address)).await.get("/", "").await;
    assert_eq!(reply.status(), 502);
    assert!(!reply.0.contains("bytes"), "{}", reply.0);
}

/// A client must see that something is missing.
#[tokio::test]
async fn an_answer_that_breaks_off_is_not_ended_well() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let (address, _asked) = scripted(&[&[answer]]).await;
        let reply = front(open_app(address)).await.get("/", "").await;
        assert_eq!(reply.status(), 200, "{}", reply.0);
        assert!(!reply.0.ends_with("0\r\n\r\n") && reply.body().len() < 10, "{}", reply.0);
    }
}

#[tokio::test]
async fn a_silent_app_is_not_waited_for_for_ever() {
    let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = open_app(app.local_addr().unwrap());
    config.transport.read_timeout = Duration::from_millis(100);
    let proxy = front(config).await;
    assert_eq!(proxy.get("/", "Accept: text/html\r\n").await.status(), 504);
}

#[tokio::test]
async fn another_server_is_tried_when_one_cannot_be_connected_to() {
    let (address, _asked) = scripted(&[&[FINE, FINE, FINE, FINE]]).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = free.local_addr().unwrap();
    drop(free);
    let mut config = open_app(address);
    config.upstreams[0].addresses = vec![dead, address];
    let proxy = front(config).await;
    for _ in 0..4 {
        assert_eq!(proxy.get("/", "").await.body(), "fine");
    }
    let proxy = front(open_app(dead)).await;
    assert_eq!(proxy.get("/", "").await.status(), 502);
}

/// [D19] What authenticates a connection is not shared.
#[tokio::test]
async fn d19_a_connection_that_stands_for_a_user_is_not_kept_here() {
    let asks = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n";
    let (address, mut asked) = scripted(&[&[asks, FINE], &[FINE], &[FINE]]).await;
    let proxy = front(open_app(address)).await;
    assert_eq!(proxy.get("/", "").await.status(), 401);
    for number in [1, 2] {
        assert_eq!(proxy.get("/", "").await.status(), 200);
        assert_eq!(asked.recv().await.unwrap().0, number - 1);
    }
    assert_eq!(asked.recv().await.unwrap().0, 2, "each client has a connection of its own");
}

/// [D19] Nor when the credentials for it stand behind others, and the answer says nothing about them.
#[tokio::test]
async fn d19_credentials_for_a_connection_are_found_in_any_line() {
    let (address, mut asked) = scripted(&[&[FINE, FINE], &[FINE]]).await;
    let mut config = open_app(address);
    config.headers.pass_authorization = true;
    let proxy = front(config).await;
    let lines = "Authorization: Bearer t\r\nAuthorization: Negotiate oRQw\r\n";
    assert_eq!(proxy.get("/", lines).await.body(), "fine");
    assert_eq!(asked.recv().await.unwrap().0, 0);
    assert_eq!(proxy.get("/", "").await.body(), "fine");
    assert_eq!(asked.recv().await.unwrap().0, 1, "somebody else has a connection of their own");
}

#[tokio::test]
async fn a_client_that_goes_away_is_not_worked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = front(open_app(listener.local_addr().unwrap())).await;
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: ecd.example\r\n\r\n").await.unwrap();
    let (mut app, _) = listener.accept().await.unwrap();
    assert!(read_request(&mut app).await.is_some());
    drop(client);
    let end = tokio::time::timeout(Duration::from_secs(5), app.read(&mut [0])).await;
    assert!(matches!(end, Ok(Ok(0) | Err(_))), "the request is given up");
}

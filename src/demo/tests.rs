//! That the app behaves like the apps it stands for.

use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;
use crate::base::{
    clock::{ManualClock, UnixMillis},
    random::SystemRandom,
};

fn app(keep_cookie: bool) -> Router {
    let clock = ManualClock::at(UnixMillis(1_790_000_000_000));
    router(Arc::new(Records::new(Options { keep_cookie, any_user: false }, clock, Arc::new(SystemRandom))))
}

async fn send(app: &Router, request: Request<Body>) -> (Response<()>, String) {
    let (parts, body) = app.clone().oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (Response::from_parts(parts, ()), String::from_utf8_lossy(&body).into_owned())
}

fn get(path: &str, cookie: &str) -> Request<Body> {
    Request::get(path).header("cookie", cookie).body(Body::empty()).unwrap()
}

fn post(path: &str, cookie: &str, body: &str) -> Request<Body> {
    Request::post(path)
        .header("cookie", cookie)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(body.to_owned()))
        .unwrap()
}

fn session(answer: &Response<()>) -> Option<String> {
    let line = answer.headers().get("set-cookie")?.to_str().ok()?;
    line.split(';').next().map(str::to_owned)
}

#[tokio::test]
async fn a_password_opens_the_records_and_logging_out_closes_them() {
    let app = app(false);
    let (answer, _) = send(&app, get("/", "")).await;
    assert_eq!(
        (answer.status(), &answer.headers()["location"]),
        (StatusCode::FOUND, &"/login".parse().unwrap())
    );

    let (answer, page) = send(&app, post("/login", "", "username=%3Cb%3E&password=no")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(page.contains("wrong password") && !page.contains("<b>") && session(&answer).is_none());

    let (answer, _) = send(&app, post("/login", "", "username=Anna&password=anna-secret")).await;
    assert_eq!((answer.status(), &answer.headers()["location"]), (StatusCode::FOUND, &"/".parse().unwrap()));
    let cookie = session(&answer).unwrap();
    let (_, page) = send(&app, get("/", &cookie)).await;
    assert!(page.contains("de Boer") && page.contains(">anna<"));

    let (answer, _) = send(&app, post("/clients/2/notes", &cookie, "note=%3Ci%3Equiet%3C%2Fi%3E")).await;
    assert_eq!(answer.status(), StatusCode::FOUND);
    let (_, page) = send(&app, get("/clients/2", &cookie)).await;
    assert!(page.contains("quiet") && !page.contains("<i>"));

    send(&app, post("/logout", &cookie, "")).await;
    assert_eq!(send(&app, get("/", &cookie)).await.0.status(), StatusCode::FOUND);
    assert_eq!(send(&app, get("/api/clients", &cookie)).await.0.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn it_takes_json_and_multipart_logins() {
    let app = app(false);
    let json = Request::post("/api/login")
        .header("content-type", "application/json")
        .body(Body::from(r#"{"account":{"name":"bram"},"password":"bram-secret"}"#))
        .unwrap();
    let (answer, _) = send(&app, json).await;
    let (_, who) = send(&app, get("/whoami", &session(&answer).unwrap())).await;
    assert_eq!(who, r#"{"user":"bram"}"#);

    let part = |name: &str, value: &str| {
        format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let multipart = Request::post("/login")
        .header("content-type", "multipart/form-data; boundary=x")
        .body(Body::from(format!("{}{}--x--\r\n", part("username", "anna"), part("password", "anna-secret"))))
        .unwrap();
    assert_eq!(send(&app, multipart).await.0.status(), StatusCode::FOUND);
}

#[tokio::test]
async fn a_careless_app_keeps_its_cookie_when_somebody_else_logs_in() {
    let app = app(true);
    let (answer, _) = send(&app, get("/login", "")).await;
    let cookie = session(&answer).unwrap();
    let (answer, _) = send(&app, post("/login", &cookie, "username=anna&password=anna-secret")).await;
    assert!(session(&answer).is_none());
    send(&app, post("/login", &cookie, "username=bram&password=bram-secret")).await;
    assert_eq!(send(&app, get("/whoami", &cookie)).await.1, r#"{"user":"bram"}"#);
}

#[tokio::test]
async fn it_shows_what_reached_it() {
    let app = app(false);
    let request =
        Request::put("/echo/a%2Fb?x=1").header("remote-user", "anna").body(Body::from("typed")).unwrap();
    let echoed: serde_json::Value = serde_json::from_str(&send(&app, request).await.1).unwrap();
    assert_eq!(echoed["target"], "/echo/a%2Fb?x=1");
    assert_eq!(echoed["headers"], serde_json::json!([["remote-user", "anna"]]));
    assert_eq!(echoed["body"], "typed");

    let (answer, _) = send(&app, get("/cookies?set=a%3D1%3B+HttpOnly&set=b%3D2", "")).await;
    assert_eq!(answer.headers().get_all("set-cookie").iter().count(), 2);

    let (answer, body) = send(&app, get("/download?bytes=100000", "")).await;
    assert_eq!((answer.headers()["content-length"].to_str().unwrap(), body.len()), ("100000", 100_000));
    let upload = Request::post("/upload").body(Body::from("abc")).unwrap();
    let (_, told) = send(&app, upload).await;
    assert!(told.contains("ba7816bf8f01cfea") && told.contains("\"bytes\":3"), "{told}");
}

#[tokio::test]
async fn its_websocket_says_hello_and_repeats() {
    use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

    let app = app(false);
    let (answer, _) = send(&app, post("/login", "", "username=anna&password=anna-secret")).await;
    let cookie = session(&answer).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let mut request = format!("ws://{address}/live").into_client_request().unwrap();
    request.headers_mut().insert("cookie", cookie.parse().unwrap());
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    let long = "lang ".repeat(20_000);
    assert_eq!(next(&mut socket).await, Message::text("hello anna"));
    for text in ["kort", &"m".repeat(300), &long] {
        put(&mut socket, Message::text(text)).await;
        assert_eq!(next(&mut socket).await, Message::text(text));
    }
    server.abort();
}

type Socket = tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>;

async fn next(socket: &mut Socket) -> tokio_tungstenite::tungstenite::Message {
    use futures_util::StreamExt;
    socket.next().await.unwrap().unwrap()
}

async fn put(socket: &mut Socket, message: tokio_tungstenite::tungstenite::Message) {
    use futures_util::SinkExt;
    socket.send(message).await.unwrap();
}

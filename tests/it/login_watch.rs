//! The watched login against apps that make it hard: those that send whoever is logged in away from their login form
//! without a look at the password, that keep an anti-forgery token in their session, that log in by a header.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Form, Router,
    extract::State,
    http::{HeaderMap, StatusCode as Status, header},
    response::{IntoResponse, Response},
    routing::get,
};
use reqwest::{Method, StatusCode};

use crate::support::{Authenticator, Browser, Sluis, jar::Answer};

/// An app with guest middleware: sessions by number, each with a user or none.
#[derive(Clone, Default)]
struct Guest(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    sessions: BTreeMap<String, Option<String>>,
    answers: usize,
    /// Login forms that it was sent, whatever came of them.
    logins: usize,
    /// Asks for a token that belongs to its session.
    checks_token: bool,
}

impl Guest {
    fn checking_tokens(self) -> Self {
        self.0.lock().unwrap().checks_token = true;
        self
    }

    /// Its sessions are over, as after some time without a request.
    fn forget(&self) {
        self.0.lock().unwrap().sessions.clear();
    }

    fn logins(&self) -> usize {
        self.0.lock().unwrap().logins
    }

    async fn serve(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/", get(home))
            .route("/login", get(form).post(submit))
            .route("/reset", get(reset))
            .route("/open", get(open))
            .route("/logout", get(no_logout))
            .route("/whoami", get(whoami))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    /// The session of a request: its number, when it is known, and its user.
    fn of(&self, headers: &HeaderMap) -> (Option<String>, Option<String>) {
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        // The value is another one with every answer, as where it is encrypted.
        let number = lines
            .flat_map(|line| line.split("; "))
            .find_map(|pair| Some(pair.strip_prefix("sid=")?.split('.').next()?.to_owned()));
        let kept = self.0.lock().unwrap();
        let known = number.filter(|number| kept.sessions.contains_key(number));
        let user = known.as_ref().and_then(|number| kept.sessions[number].clone());
        (known, user)
    }

    fn new_session(&self, user: Option<&str>) -> String {
        let mut kept = self.0.lock().unwrap();
        kept.answers += 1;
        let number = format!("n{}", kept.answers);
        kept.sessions.insert(number.clone(), user.map(ToOwned::to_owned));
        number
    }

    fn answer(&self, status: Status, location: &str, session: &str, body: String) -> Response {
        let mut kept = self.0.lock().unwrap();
        kept.answers += 1;
        let cookie = format!("sid={session}.{}; Path=/; HttpOnly", kept.answers);
        (status, [(header::LOCATION, location.to_owned()), (header::SET_COOKIE, cookie)], body)
            .into_response()
    }

    fn show_form(&self, status: Status, session: &str, words: &str) -> Response {
        let page = format!(r#"{words}<input type="hidden" name="token" value="t-{session}">"#);
        self.answer(status, "", session, page)
    }
}

async fn home(State(app): State<Guest>, headers: HeaderMap) -> Response {
    match app.of(&headers) {
        (Some(session), Some(user)) => app.answer(Status::OK, "", &session, format!("the records of {user}")),
        (session, _) => {
            let session = session.unwrap_or_else(|| app.new_session(None));
            app.answer(Status::FOUND, "/login", &session, String::new())
        }
    }
}

async fn form(State(app): State<Guest>, headers: HeaderMap) -> Response {
    match app.of(&headers) {
        (Some(session), Some(_)) => app.answer(Status::FOUND, "/", &session, String::new()),
        (session, _) => {
            let session = session.unwrap_or_else(|| app.new_session(None));
            app.show_form(Status::OK, &session, "log in")
        }
    }
}

async fn submit(
    State(app): State<Guest>,
    headers: HeaderMap,
    Form(fields): Form<BTreeMap<String, String>>,
) -> Response {
    app.0.lock().unwrap().logins += 1;
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    let (session, user) = app.of(&headers);
    if let (Some(session), Some(_)) = (&session, user) {
        // Guest middleware: the password is not looked at.
        return app.answer(Status::FOUND, "/", session, String::new());
    }
    let checks = app.0.lock().unwrap().checks_token;
    let token = session.as_ref().map(|session| format!("t-{session}"));
    if checks && token.as_deref() != Some(field("token")) {
        return (Status::from_u16(419).unwrap(), "page expired").into_response();
    }
    let (name, password) = (field("username"), field("password"));
    if !name.is_empty() && password == format!("{name}-secret") {
        let session = app.new_session(Some(name));
        if name == "dora" {
            // She is in, but shall choose a new password first.
            return app.answer(Status::FOUND, "/password", &session, String::new());
        }
        return app.answer(Status::FOUND, "/", &session, String::new());
    }
    let session = app.new_session(None);
    app.show_form(Status::OK, &session, "wrong password")
}

/// A link from a mail that logs Anna in by itself.
async fn reset(State(app): State<Guest>) -> Response {
    let session = app.new_session(Some("anna"));
    app.answer(Status::OK, "", &session, "welcome back".to_owned())
}

/// Wants a POST for that, but its session cookie comes with this answer as with every other.
async fn no_logout(State(app): State<Guest>, headers: HeaderMap) -> Response {
    let session = app.of(&headers).0.unwrap_or_else(|| app.new_session(None));
    app.answer(Status::METHOD_NOT_ALLOWED, "", &session, String::new())
}

async fn open(headers: HeaderMap) -> String {
    format!("authorization: {:?}", headers.get_all(header::AUTHORIZATION).iter().collect::<Vec<_>>())
}

async fn whoami(State(app): State<Guest>, headers: HeaderMap) -> Response {
    match app.of(&headers).1 {
        Some(user) => axum::Json(serde_json::json!({ "user": user })).into_response(),
        None => Status::UNAUTHORIZED.into_response(),
    }
}

/// The configuration in front of it; `login` and `more` are further lines of `login` and of the app.
fn config(address: SocketAddr, login: &str, more: &str) -> String {
    format!(
        r#"
apps:
  - id: guest
    hosts: ["*"]
    upstreams: ["http://{address}"]
    login:
      page: /login
      watch: [{{ path: /login, user_field: username }}]
      success: {{ status: 302, location: "^/$", cookie: sid }}
      {login}
    logout: [/logout]
    anonymous: [/login, /reset, /open]
    {more}
    policy:
      - match: {{ users: [carla] }}
        exempt: sees nothing of importance
      - require: {{ methods: [totp], validity: 12h }}
"#
    )
}

async fn log_in(browser: &mut Browser, user: &str, password: &str, token: &str) -> Answer {
    browser.post("/login", &[("username", user), ("password", password), ("token", token)]).await
}

/// A browser in which Anna is inside, by password and code.
async fn anna_inside(sluis: &Sluis) -> (Browser, Authenticator) {
    let mut browser = sluis.browser();
    let form = browser.get("/login").await;
    let pending = log_in(&mut browser, "anna", "anna-secret", &form.field("token")).await;
    assert_eq!(pending.location(), "/.sluis/challenge", "{pending:?}");
    let (authenticator, entered) = sluis.enrol(&mut browser, &pending).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
    assert_eq!(browser.get("/").await.body, "the records of anna");
    (browser, authenticator)
}

/// [I2 D9] The app would redirect Anna's browser from its login form whatever the password: nobody else gets a login of
/// their own by that, not one who would need a code and not one who is exempt.
#[tokio::test]
async fn d9_a_wrong_password_beside_another_session_is_no_login() {
    for login in ["", "whoami: { path: /whoami, json: /user }"] {
        for user in ["bram", "carla"] {
            let app = Guest::default();
            let sluis = Sluis::start(&config(app.serve().await, login, ""));
            let (mut browser, _) = anna_inside(&sluis).await;
            let answer = log_in(&mut browser, user, "not-the-password", "").await;
            assert_eq!(answer.status, StatusCode::OK, "{user}, {login:?}: {answer:?}");
            assert!(answer.body.starts_with("wrong password"), "the app's own answer: {answer:?}");
            // Somebody else is at this browser: Anna's session is over, and theirs has not begun.
            for path in ["/", "/.sluis/challenge"] {
                let after = browser.get(path).await;
                assert_ne!(after.status, StatusCode::OK, "{user}, {path}: {after:?}");
            }
            // The form that came with the refusal works: its cookie is the device's, not the ended session's.
            let entered = log_in(&mut browser, user, &format!("{user}-secret"), &answer.field("token")).await;
            let to = if user == "carla" { "/" } else { "/.sluis/challenge" };
            assert_eq!(entered.location(), to, "{user}: {entered:?}");
        }
    }
}

/// [I3 D9] The right password of somebody else takes over, as ever.
#[tokio::test]
async fn d9_the_right_password_beside_another_session_takes_over() {
    for login in ["", "whoami: { path: /whoami, json: /user }"] {
        let app = Guest::default();
        let sluis = Sluis::start(&config(app.serve().await, login, ""));
        let (mut browser, _) = anna_inside(&sluis).await;
        let pending = log_in(&mut browser, "bram", "bram-secret", "").await;
        assert_eq!(pending.location(), "/.sluis/challenge", "{pending:?}");
        let (_, entered) = sluis.enrol(&mut browser, &pending).await;
        assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
        assert_eq!(browser.get("/").await.body, "the records of bram");
    }
}

/// [I2 D9] The same user again, with any password: the session goes on and is not renewed by it.
#[tokio::test]
async fn d9_a_login_that_proves_no_password_renews_no_session() {
    for login in ["", "whoami: { path: /whoami, json: /user }"] {
        let app = Guest::default();
        let address = app.serve().await;
        let mut sluis = Sluis::start(&config(address, login, "session: { idle: 2h, max: 2h }"));
        let (mut browser, _) = anna_inside(&sluis).await;
        sluis.clock.advance(Duration::from_secs(3600));
        let answer = log_in(&mut browser, "Anna ", "not-the-password", "").await;
        assert_eq!((answer.status, answer.location()), (StatusCode::FOUND, "/"), "{answer:?}");
        assert_eq!(browser.get("/").await.body, "the records of anna");
        sluis.clock.advance(Duration::from_secs(3600 + 1));
        let over = browser.get("/").await;
        assert_eq!(over.status, StatusCode::SEE_OTHER, "two hours are over: {over:?}");
    }
}

/// [B3] A code at every login: also at one beside the user's own session.
#[tokio::test]
async fn b3_a_second_login_of_the_same_user_is_asked_where_policy_asks() {
    let app = Guest::default();
    let config = config(app.serve().await, "", "").replace("validity: 12h", "validity: 0s");
    let sluis = Sluis::start(&config);
    let (mut browser, _) = anna_inside(&sluis).await;
    app.forget();
    let answer = log_in(&mut browser, "anna", "anna-secret", "").await;
    assert_eq!(answer.location(), "/.sluis/challenge", "{answer:?}");
    assert_ne!(browser.get("/").await.status, StatusCode::OK);
}

/// [F1] The app's session is over before ours, and its form wants a token that belongs to its session: the same user
/// gets in again at once, somebody else at the second try.
#[tokio::test]
async fn a_form_with_a_token_works_beside_a_running_session() {
    let app = Guest::default().checking_tokens();
    let sluis = Sluis::start(&config(app.serve().await, "", ""));
    let (mut browser, _) = anna_inside(&sluis).await;
    app.forget();
    let form = browser.visit("/").await;
    let again = log_in(&mut browser, "anna", "anna-secret", &form.field("token")).await;
    assert_eq!(again.location(), "/", "{again:?}");
    assert_eq!(browser.get("/").await.body, "the records of anna");

    app.forget();
    let form = browser.visit("/").await;
    let refused = log_in(&mut browser, "bram", "bram-secret", &form.field("token")).await;
    assert_eq!(refused.status.as_u16(), 419, "{refused:?}");
    let form = browser.visit("/login").await;
    let pending = log_in(&mut browser, "bram", "bram-secret", &form.field("token")).await;
    assert_eq!(pending.location(), "/.sluis/challenge", "{pending:?}");
}

/// [D9] A session that the app gave on an anonymous path (a reset link) lends itself to no login: `whoami` sees it.
#[tokio::test]
async fn d9_whoami_sees_a_session_of_the_device() {
    let app = Guest::default();
    let login = "whoami: { path: /whoami, json: /user }";
    let sluis = Sluis::start(&config(app.serve().await, login, ""));
    for user in ["anna", "bram", "carla"] {
        let mut browser = sluis.browser();
        assert_eq!(browser.get("/reset").await.body, "welcome back");
        let answer = log_in(&mut browser, user, "not-the-password", "").await;
        assert!(answer.body.starts_with("wrong password"), "{user}: {answer:?}");
        assert_eq!(browser.get("/").await.status, StatusCode::SEE_OTHER);
        let entered = log_in(&mut browser, user, &format!("{user}-secret"), "").await;
        assert!(entered.status.is_redirection(), "{user}: {entered:?}");
    }
}

/// [I5 D9] An app that does not log out leaves nothing of its session to the device: somebody else's login would stand on
/// it.
#[tokio::test]
async fn d9_a_logout_that_the_app_refuses_leaves_no_session_behind() {
    let app = Guest::default();
    let sluis = Sluis::start(&config(app.serve().await, "", ""));
    let (mut browser, _) = anna_inside(&sluis).await;
    assert_eq!(browser.get("/logout").await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(browser.get("/").await.status, StatusCode::SEE_OTHER);
    let answer = log_in(&mut browser, "carla", "not-the-password", "").await;
    assert!(answer.body.starts_with("wrong password"), "{answer:?}");
    let entered = log_in(&mut browser, "carla", "carla-secret", "").await;
    assert_eq!(entered.location(), "/", "{entered:?}");
    assert_eq!(browser.get("/").await.body, "the records of carla");
}

/// [D9] What an app may take for a login in `Authorization` does not reach it; a bearer token does; both when configured.
#[tokio::test]
async fn d9_credentials_in_a_header_do_not_arrive() {
    let app = Guest::default();
    let address = app.serve().await;
    let sluis = Sluis::start(&config(address, "", ""));
    let passing = Sluis::start(&config(address, "", "headers: { pass_authorization: true }"));
    for (value, arrives) in [("Basic YW5uYTphbm5hLXNlY3JldA==", false), ("Bearer abc", true)] {
        for (sluis, arrives) in [(&sluis, arrives), (&passing, true)] {
            let mut browser = sluis.browser();
            let request = browser.request(Method::GET, "/open").header("authorization", value);
            let body = browser.send(request).await.body;
            assert_eq!(body.contains(value), arrives, "{body}");
        }
    }
}

/// [D10] A spelling that a database may take for another user is refused before the app sees it, with clear words.
#[tokio::test]
async fn d10_a_name_of_another_form_is_refused_before_the_app_sees_it() {
    let app = Guest::default();
    let address = app.serve().await;
    let sluis = Sluis::start(&config(address, "", ""));
    let strict = Sluis::start(&config(address, r#"name: { allowed: "[a-z]+" }"#, ""));
    let any = Sluis::start(&config(address, r#"name: { allowed: ".+" }"#, ""));
    for (sluis, name, taken) in [
        (&sluis, "ánna", false),
        (&sluis, "а\u{43d}\u{43d}а", false),
        (&sluis, "anna_", true),
        (&sluis, "anna@care.example", true),
        (&sluis, "12345", true),
        (&strict, "anna_", false),
        (&strict, "Anna", true),
        (&any, "ánna", true),
    ] {
        let before = app.logins();
        let answer = log_in(&mut sluis.browser(), name, "x", "").await;
        assert_eq!(app.logins() - before, usize::from(taken), "{name}: {answer:?}");
        if !taken {
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{name}");
            assert!(answer.body.contains("user name"), "{}", answer.body);
        }
    }
}

/// What is too large to be looked for a login says by which limit.
#[tokio::test]
async fn a_login_that_is_too_large_names_the_limit() {
    let app = Guest::default();
    let mut sluis = Sluis::start(&config(app.serve().await, "", ""));
    let mut browser = sluis.browser();
    let answer = log_in(&mut browser, "anna", &"x".repeat(70_000), "").await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(answer.body.contains("limits.login_body_bytes"), "{}", answer.body);
    sluis
        .process
        .await_line("log of the limit", |line| line.contains("limits.login_body_bytes").then_some(()));
    assert_eq!(app.logins(), 0);
}

/// [I2 D9] The app let Dora in where the rule sees no success. Her session does not come along with the next login on this
/// device, which the app would then answer for her and not for its password.
#[tokio::test]
async fn d9_a_refused_login_leaves_no_session_of_the_app_behind() {
    let app = Guest::default();
    let sluis = Sluis::start(&config(app.serve().await, "", ""));
    let mut browser = sluis.browser();
    let answer = log_in(&mut browser, "dora", "dora-secret", "").await;
    assert_eq!((answer.status, answer.location()), (StatusCode::FOUND, "/password"), "her app's own answer");
    assert!(!browser.jar.contains_key("sid"), "{:?}", browser.jar);
    // Carla is exempt: without a look at her password she would be inside.
    let answer = log_in(&mut browser, "carla", "not-the-password", "").await;
    assert!(answer.body.starts_with("wrong password"), "{answer:?}");
    assert_eq!(browser.get("/").await.status, StatusCode::SEE_OTHER);
    let entered = log_in(&mut browser, "carla", "carla-secret", "").await;
    assert_eq!(entered.location(), "/", "{entered:?}");
}

/// [D20] An app that drips its answer to a login holds it no longer than one read may take.
#[tokio::test]
async fn d20_an_answer_that_drips_is_given_up() {
    async fn drip() -> Response {
        let pieces = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            Some((Ok::<_, std::convert::Infallible>("."), ()))
        });
        axum::body::Body::from_stream(pieces).into_response()
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/login", get(drip).post(drip));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let config = config(address, "", "transport: { read_timeout: 1s }")
        .replace("cookie: sid", r#"cookie: sid, body: "welcome""#);
    let sluis = Sluis::start(&config);
    let mut browser = sluis.browser();
    let answer = tokio::time::timeout(Duration::from_secs(30), log_in(&mut browser, "anna", "x", "")).await;
    assert_eq!(answer.expect("an end").status, StatusCode::GATEWAY_TIMEOUT);
}

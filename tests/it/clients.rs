//! Clients that are no browsers, several apps behind one Sluis, upstreams in trouble, and ids that can be followed.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode};

use crate::support::{Browser, Demo, Sluis, apps::free_address, sluis::care_records};

/// Both ways to log in at the shipped app.
fn with_json_login(app: &Demo) -> String {
    care_records(app.address)
        .replace(
            "user_field: username }",
            "user_field: username }\n        - { path: /api/login, user_json: /account/name }",
        )
        .replace("success: { status: [302, 303], cookie: ZORGSESSIE }", "success: { cookie: ZORGSESSIE }")
}

/// Logs in as a mobile client does.
async fn json_login(browser: &mut Browser, user: &str, password: &str) -> crate::support::jar::Answer {
    let body = serde_json::json!({ "account": { "name": user }, "password": password });
    let request = browser.fetch(Method::POST, "/api/login").header("origin", browser.origin()).json(&body);
    browser.send(request).await
}

/// [E7] A mobile client: JSON in, problem documents out; a page is opened for the second factor only.
#[tokio::test]
async fn e7_a_client_that_speaks_json() {
    let app = Demo::start();
    let sluis = Sluis::start(&with_json_login(&app));
    let mut client = sluis.browser();

    let wrong = json_login(&mut client, "anna", "wrong").await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert!(wrong.body.contains("\"ok\":false"), "the app's own answer: {wrong:?}");

    let pending = json_login(&mut client, "anna", "anna-secret").await;
    assert_eq!(pending.status, StatusCode::UNAUTHORIZED, "{pending:?}");
    assert_eq!(pending.headers["content-type"], "application/problem+json");
    let problem: serde_json::Value = serde_json::from_str(&pending.body).unwrap();
    assert_eq!(problem["challenge_url"], "/.sluis/challenge", "{problem}");
    assert!(!pending.body.contains("\"ok\":true"), "nothing of the app's answer");

    let request = client.fetch(Method::GET, "/api/clients");
    let refused = client.send(request).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let problem: serde_json::Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!(problem["challenge_url"], "/.sluis/challenge", "{problem}");
    assert_eq!(problem["status"], 401);

    // The challenge opens in a web view with the same cookies.
    let page = client.visit("/.sluis/challenge").await;
    let phone = crate::support::Authenticator::from_page(&page.body);
    let code = phone.code_at(sluis.clock.now_secs());
    let fields = [("token", page.field("token")), ("name", "Tablet".into()), ("code", code)];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let entered = client.post("/.sluis/enrol", &fields).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");

    let request = client.fetch(Method::GET, "/api/clients");
    let clients = client.send(request).await;
    assert_eq!(clients.status, StatusCode::OK, "{clients:?}");
    assert!(serde_json::from_str::<serde_json::Value>(&clients.body).is_ok());

    // A7: the next login is the app's own answer.
    client.visit("/logout").await;
    let again = json_login(&mut client, "anna", "anna-secret").await;
    assert_eq!(again.status, StatusCode::OK, "{again:?}");
    assert!(again.body.contains("\"ok\":true"), "{again:?}");
    let request = client.fetch(Method::GET, "/api/clients");
    assert_eq!(client.send(request).await.status, StatusCode::OK);
}

/// [E7 A1] A script without cookies, with a password in every header it knows, gets a problem document.
#[tokio::test]
async fn e7_a_script_without_a_session_gets_a_problem_document() {
    let app = Demo::start();
    let sluis = Sluis::start(&care_records(app.address));
    let script = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
    for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
        let answer = script
            .request(method.clone(), format!("{}/api/clients", sluis.origin()))
            .basic_auth("anna", Some("anna-secret"))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{method}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let problem: serde_json::Value = answer.json().await.unwrap();
        assert!(problem["challenge_url"].as_str().unwrap().starts_with("/login"), "{problem}");
    }
}

/// [E7 A1] A multipart login form is watched as well.
#[tokio::test]
async fn e7_a_multipart_login() {
    let app = Demo::start();
    let sluis = Sluis::start(&care_records(app.address));
    let mut browser = sluis.browser();
    let form = |password: &str| {
        reqwest::multipart::Form::new().text("username", "anna").text("password", password.to_owned())
    };
    let request =
        browser.request(Method::POST, "/login").header("origin", browser.origin()).multipart(form("wrong"));
    let wrong = browser.send(request).await;
    assert_eq!(wrong.status, StatusCode::OK, "the app's own refusal: {wrong:?}");
    let request = browser
        .request(Method::POST, "/login")
        .header("origin", browser.origin())
        .multipart(form("anna-secret"));
    let pending = browser.send(request).await;
    assert_eq!(pending.location(), "/.sluis/challenge", "{pending:?}");
    let (_, entered) = sluis.enrol(&mut browser, &pending).await;
    assert!(browser.follow(&entered).await.body.contains("anna"));
}

/// A browser for a host name that leads to this Sluis.
fn at_host(sluis: &Sluis, host: &str) -> Browser {
    let client = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .resolve(host, sluis.address)
        .build()
        .unwrap();
    Browser::with_client(client, &format!("http://{host}:{}", sluis.address.port()))
}

/// [F1 F2] Two apps behind one Sluis: a session of one is worth nothing at the other, nor are its app's cookies; an
/// unknown host reaches none.
#[tokio::test]
async fn two_apps_share_nothing() {
    let (first, second) = (Demo::start(), Demo::start());
    let apps = care_records(first.address).replace("[\"*\"]", "[ecd.test]");
    let other = care_records(second.address)
        .replace("[\"*\"]", "[rooster.test]")
        .replace("id: ecd", "id: rooster")
        .replace("\napps:\n", "");
    let sluis = Sluis::start(&format!("{apps}{other}"));
    let mut ecd = at_host(&sluis, "ecd.test");
    let pending = sluis.password(&mut ecd, "anna").await;
    let (_, entered) = sluis.enrol(&mut ecd, &pending).await;
    assert_eq!(ecd.follow(&entered).await.status, StatusCode::OK);

    let mut rooster = at_host(&sluis, "rooster.test");
    rooster.jar = ecd.jar.clone();
    let refused = rooster.get("/").await;
    assert_eq!(refused.status, StatusCode::SEE_OTHER, "{refused:?}");
    assert!(refused.location().starts_with("/login"), "{refused:?}");
    // With the device and the trust alone (a login ends whatever session comes with it).
    rooster.jar.remove("sluis-session");
    let pending = sluis.password(&mut rooster, "anna").await;
    assert_eq!(pending.location(), "/.sluis/challenge", "its trust neither: another realm: {pending:?}");
    assert!(rooster.visit("/.sluis/challenge").await.body.contains("otpauth://"), "users of another realm");
    assert_eq!(ecd.get("/").await.status, StatusCode::OK, "and the first goes on");

    let mut nowhere = at_host(&sluis, "evil.test");
    assert_eq!(nowhere.get("/login").await.status, StatusCode::MISDIRECTED_REQUEST);
}

/// [F1] Of several upstreams one is down, later another dies: no request fails.
#[tokio::test]
async fn an_upstream_that_is_down_costs_no_request() {
    let (first, mut second) = (Demo::start(), Demo::start());
    let down = free_address();
    let apps = care_records(first.address).replace("/static/*]", "/static/*, /headers]").replace(
        &format!("[\"http://{}\"]", first.address),
        &format!("[\"http://{down}\", \"http://{}\", \"http://{}\"]", first.address, second.address),
    );
    let sluis = Sluis::start(&apps);
    let mut browser = sluis.browser();
    for i in 0..60 {
        let answer = browser.get("/headers").await;
        assert_eq!(answer.status, StatusCode::OK, "request {i}: {answer:?}");
    }
    for i in 0..12 {
        let login = sluis.password(&mut sluis.browser(), "anna").await;
        assert_eq!(login.location(), "/.sluis/challenge", "login {i}: {login:?}");
    }
    second.process.kill();
    for i in 0..60 {
        let answer = browser.get("/headers").await;
        assert_eq!(answer.status, StatusCode::OK, "after the death, request {i}: {answer:?}");
    }
    let metrics = sluis.metrics().await;
    assert!(metrics.contains("sluis_upstream_errors_total{app=\"ecd\",kind="), "{metrics}");
}

/// [F1] An upstream that is too slow is a 504, one that is gone a 502: with the request's id and no internal message.
#[tokio::test]
async fn trouble_upstream_is_told_without_details() {
    let mut app = Demo::start();
    let apps = care_records(app.address)
        .replace("/static/*]", "/static/*, /slow]")
        .replace("    login:\n", "    transport: { read_timeout: 1s }\n    login:\n");
    let mut sluis = Sluis::start(&apps);
    let mut browser = sluis.browser();

    let slow = browser.get("/slow?ms=20000").await;
    assert_eq!(slow.status, StatusCode::GATEWAY_TIMEOUT, "{slow:?}");
    let script = browser.fetch(Method::GET, "/slow?ms=20000").send().await.unwrap();
    assert_eq!(script.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(script.headers()["content-type"], "application/problem+json");

    app.process.kill();
    let gone = browser.get("/login").await;
    assert_eq!(gone.status, StatusCode::BAD_GATEWAY, "{gone:?}");
    let login = sluis.password(&mut browser, "anna").await;
    assert_eq!(login.status, StatusCode::BAD_GATEWAY, "{login:?}");
    let port = app.address.port().to_string();
    for answer in [&slow, &gone, &login] {
        for word in ["pingora", "127.0.0.1", "refused", "Connect", "Timedout", "tcp", &port] {
            assert!(!answer.body.contains(word), "{word}: {}", answer.body);
        }
        let id = shown_id(&answer.body);
        sluis.process.await_line("line of the log with the id", |line| line.contains(&id).then_some(()));
    }
}

/// The request id that a page shows: 32 hexadecimal digits.
fn shown_id(page: &str) -> String {
    page.split(|c: char| !c.is_ascii_hexdigit())
        .find(|word| word.len() == 32)
        .unwrap_or_else(|| panic!("no request id on the page:\n{page}"))
        .to_owned()
}

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// [F6] A trace goes through; the id of a request comes from a trusted proxy only; and it is the same upstream, on
/// the page, in the log and in the audit log.
#[tokio::test]
async fn a_request_can_be_followed() {
    let mut app = Demo::start();
    let apps = care_records(app.address).replace("/static/*]", "/static/*, /headers]");
    let plain = Sluis::start(&apps);
    let mut trusting = Sluis::start(&format!("trusted_proxies: [127.0.0.0/8]\n{apps}"));

    let ask = async |sluis: &Sluis, trace: &str| {
        let request = sluis.browser().fetch(Method::GET, "/headers");
        let request = request.header("x-request-id", "from-outside-1").header("traceparent", trace);
        request.send().await.unwrap().text().await.unwrap()
    };
    let seen = ask(&plain, TRACE).await;
    assert!(seen.contains(TRACE), "{seen}");
    assert!(!seen.contains("from-outside-1") && seen.contains("x-request-id: "), "{seen}");
    let made = ask(&plain, "00-nonsense").await;
    assert!(!made.contains("nonsense") && made.contains("traceparent: 00-"), "{made}");
    let seen = ask(&trusting, TRACE).await;
    assert!(seen.contains("x-request-id: from-outside-1") && seen.contains(TRACE), "{seen}");

    // A login: audit.
    let mut browser = trusting.browser();
    let body = "username=anna&password=anna-secret";
    let request = browser
        .request(Method::POST, "/login")
        .header("origin", browser.origin())
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-request-id", "login-id-7")
        .body(body);
    let pending = browser.send(request).await;
    assert_eq!(pending.status, StatusCode::SEE_OTHER, "{pending:?}");
    // Trouble: page, log.
    app.process.kill();
    let request = browser.request(Method::GET, "/login").header("x-request-id", "page-id-8");
    let gone = browser.send(request).await;
    assert_eq!(gone.status, StatusCode::BAD_GATEWAY);
    assert!(gone.body.contains("page-id-8"), "{}", gone.body);
    trusting.process.await_line("the id in the log", |line| line.contains("page-id-8").then_some(()));
    // Both: a blocked user's login is refused with a page, and is in the audit log.
    trusting.process.signal("TERM");
    trusting.process.wait();
    let audit = trusting.audit();
    assert!(
        audit.iter().any(|e| e["event"] == "first_factor_passed" && e["request_id"] == "login-id-7"),
        "{audit:?}"
    );
}

/// [F6] One request, three places: the page that refuses a blocked user, the audit event, the log.
#[tokio::test]
async fn one_id_on_page_in_audit_and_in_log() {
    let app = Demo::start();
    let mut sluis = Sluis::start(&care_records(app.address));
    let blocked = sluis.cli(&["user", "block", "anna"]);
    assert!(blocked.status.success(), "{}", String::from_utf8_lossy(&blocked.stderr));
    let refused = sluis.password(&mut sluis.browser(), "anna").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    let id = shown_id(&refused.body);
    sluis.process.await_line("the id in the log", |line| line.contains(&id).then_some(()));
    let waiting = async {
        while !sluis.audit().iter().any(|e| e["request_id"] == id.as_str()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::support::process::PATIENCE, waiting).await.expect("the id in the audit log");
}

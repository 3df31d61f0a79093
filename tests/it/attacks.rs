//! What somebody tries who has a stolen password, a stolen cookie, or an account of their own.

use reqwest::StatusCode;

use crate::support::{Authenticator, Browser, Demo, Sluis, raw, sluis::care_records};

/// Sluis before the shipped app, and a browser in which Anna has just linked an authenticator.
async fn anna_inside() -> (Demo, Sluis, Browser, Authenticator) {
    let app = Demo::start();
    let sluis = Sluis::start(&care_records(app.address));
    let mut browser = sluis.browser();
    let pending = sluis.password(&mut browser, "anna").await;
    let (authenticator, entered) = sluis.enrol(&mut browser, &pending).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
    (app, sluis, browser, authenticator)
}

fn cookies(browser: &Browser) -> String {
    browser.jar.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("; ")
}

/// The head of the answer to a websocket upgrade.
fn upgrade(sluis: &Sluis, browser: &Browser, more: &str) -> String {
    let head = format!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: {}\r\n{more}",
        cookies(browser)
    );
    let request = format!("GET /live HTTP/1.1\r\nHost: localhost:{}\r\n{head}\r\n", sluis.address.port());
    let mut stream = std::net::TcpStream::connect(sluis.address).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stream), &mut line).unwrap();
    line
}

/// [ASVS 4.4.2] A page of somebody else in the victim's browser: the browser sends the cookies along, and says whose
/// page it is.
#[tokio::test]
async fn a_websocket_of_a_foreign_page_is_refused() {
    let (_app, sluis, anna, _) = anna_inside().await;
    let own = format!("Origin: {}\r\n", sluis.origin());
    assert!(upgrade(&sluis, &anna, &own).contains(" 101 "));
    assert!(upgrade(&sluis, &anna, "").contains(" 101 "), "no browser");
    for origin in ["https://evil.example", "null", "http://localhost", "http://sub.localhost:1"] {
        let line = upgrade(&sluis, &anna, &format!("Origin: {origin}\r\n"));
        assert!(line.contains(" 403 "), "{origin}: {line}");
    }
}

/// [I3] A websocket cannot be had past the list of those that end with their session, by dressing the wish up.
#[tokio::test]
async fn i3_no_other_upgrade_reaches_the_app() {
    let (_app, sluis, anna, _) = anna_inside().await;
    let own = format!("Origin: {}\r\n", sluis.origin());
    for more in
        ["Content-Length: 00\r\n", "Upgrade: h2c\r\n", "Connection: keep-alive\r\nContent-Length: 00\r\n"]
    {
        let line = upgrade(&sluis, &anna, &format!("{own}{more}"));
        assert!(!line.contains(" 101 "), "{more:?}: {line}");
    }
}

/// [I2] A pending login is worth nothing on another device, nor with another login's form.
#[tokio::test]
async fn i2_a_pending_login_of_another_browser_is_worth_nothing() {
    let (_app, mut sluis, _, authenticator) = anna_inside().await;
    sluis.clock.advance(std::time::Duration::from_secs(60));
    let mut victim = sluis.browser();
    sluis.password(&mut victim, "anna").await;
    // The thief's own account, on the thief's own device.
    let mut thief = sluis.browser();
    let pending = sluis.password(&mut thief, "bram").await;
    sluis.enrol(&mut thief, &pending).await;
    thief.jar.insert("sluis-login".into(), victim.jar["sluis-login"].clone());
    let page = thief.get("/.sluis/challenge").await;
    assert!(!page.body.contains("anna"), "{page:?}");
    let token = victim.get("/.sluis/challenge").await.field("token");
    let code = authenticator.code_at(sluis.clock.now_secs());
    thief.post("/.sluis/challenge", &[("token", &token), ("code", &code)]).await;
    assert!(!thief.get("/").await.body.contains("anna"));
    // The code was not looked at: she can still use it.
    let entered = victim.post("/.sluis/challenge", &[("token", &token), ("code", &code)]).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
}

/// Forms of other pages do nothing, whichever of the two headers the browser sends; the same form from our own page
/// does.
#[tokio::test]
async fn forms_of_foreign_pages_change_nothing() {
    let (_app, sluis, mut anna, _) = anna_inside().await;
    let body = format!("token={}&code=123456", anna.get("/.sluis/logout").await.field("token"));
    let post = |path: &str, from: &str| {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\nCookie: {}\r\n{from}\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            sluis.address.port(),
            cookies(&anna),
            body.len(),
        );
        raw::send_until_answered(sluis.address, request.as_bytes())
    };
    for path in ["/.sluis/logout", "/.sluis/challenge", "/.sluis/enrol"] {
        for from in [
            "Sec-Fetch-Site: cross-site\r\n",
            "Sec-Fetch-Site: same-site\r\n",
            "Origin: https://evil.example\r\n",
            "Origin: null\r\n",
            "",
            // A script inside the app (D17).
            "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n",
        ] {
            let answer = post(path, from);
            assert!(answer.starts_with("HTTP/1.1 403"), "{path} {from:?}: {answer}");
        }
    }
    assert_eq!(anna.clone().get("/").await.status, StatusCode::OK, "still inside");
    let answer = post("/.sluis/logout", &format!("Origin: {}\r\n", sluis.origin()));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_ne!(anna.clone().get("/").await.status, StatusCode::OK, "logged out");
}

/// [D7] Two cookies of one kind, in one line or several, are refused: neither is believed.
#[tokio::test]
async fn two_cookies_of_ours_are_refused() {
    let (_app, sluis, anna, _) = anna_inside().await;
    for second in ["sluis-session=x", "sluis-device=x", "sluis-session="] {
        for glue in ["; ", "\r\nCookie: "] {
            let head = format!("Cookie: {}{glue}{second}\r\n", cookies(&anna));
            let answer = raw::get(sluis.address, b"/", &head);
            assert!(answer.starts_with("HTTP/1.1 400"), "{second} {glue:?}: {answer}");
        }
    }
}

/// No password, code, key or cookie in the audit log.
#[tokio::test]
async fn the_audit_log_has_no_secrets() {
    let (_app, sluis, mut anna, authenticator) = anna_inside().await;
    let wrong = [("username", "anna"), ("password", "wr0ng-secret")];
    sluis.browser().post("/login", &wrong).await;
    let code = authenticator.code_at(sluis.clock.now_secs());
    anna.get("/?token=in-the-query").await;
    let mut events = sluis.audit();
    // Six digits in a row are in any hash, now and then.
    for line in &mut events {
        for hash in ["prev", "mac", "signature", "public_key"] {
            line.as_object_mut().unwrap().remove(hash);
        }
    }
    let log = serde_json::Value::from(events).to_string();
    assert!(log.contains("first_factor"), "{log}");
    let secrets = ["anna-secret", "wr0ng-secret", "in-the-query", &code, authenticator.key()];
    for secret in secrets.into_iter().chain(anna.jar.values().map(String::as_str)) {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

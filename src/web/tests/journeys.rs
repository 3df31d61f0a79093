//! What a person goes through, page by page.

use std::time::Duration;

use axum::http::{Method, StatusCode, header};

use super::house::{Browser, HOST, House};
use crate::config::{
    app::{Enrol, Rule, Then},
    sample,
};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// [B5 B8 D2 A2] From the password over the QR code into the app, and what is counted and recorded on the way.
#[tokio::test]
async fn d2_linking_needs_a_first_right_code_and_then_leads_to_the_kept_target() {
    let house = House::new().await;
    let mut anna = Browser::default();
    house.password(&mut anna, "anna", "/patients?id=7").await;

    let challenge = anna.get(&house, "/.sluis/challenge").await;
    assert_eq!((challenge.status, challenge.location()), (StatusCode::SEE_OTHER, "/.sluis/enrol"));
    let page = anna.get(&house, "/.sluis/enrol").await;
    assert_eq!(page.status, StatusCode::OK);
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("form-action 'self' https: http:;"), "the app may redirect from there: {policy}");
    assert!(page.body.contains("<svg") && page.body.contains("otpauth://totp/"), "B5: QR and link");
    let key = page.setup_key();
    assert!(page.body.contains("anna") && page.body.contains("Care"), "B8: who, and of what");
    let reloaded = anna.get(&house, "/.sluis/enrol").await;
    assert_eq!(reloaded.setup_key(), key, "a reload shows the same");

    let name = ("name", "Work phone".to_owned());
    let wrong = [("token", page.token()), ("code", "000000".to_owned()), name.clone()];
    let wrong = anna.post(&house, "/.sluis/enrol", &wrong).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(wrong.setup_key(), key, "still the same QR");
    assert!(wrong.body.contains("id=\"code-error\"") && wrong.body.contains("Work phone"));

    let code = house.code(&key);
    let (first, second) = code.split_at(3);
    let spaced = format!(" {first} {second}\u{a0}");
    let done = anna.post(&house, "/.sluis/enrol", &[("token", page.token()), ("code", spaced), name]).await;
    assert_eq!((done.status, done.location()), (StatusCode::SEE_OTHER, "/patients?id=7"), "{}", done.body);
    assert!(anna.jar.contains_key("__Host-sluis-session"));
    assert!(!anna.jar.contains_key("__Host-sluis-login"));

    let kept = house.store.authenticators(&house.user("anna")).await.unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].name, "Work phone");
    assert_eq!(house.metric(r#"sluis_enrolments_total{method="totp",outcome="confirmed"}"#), 1.0);
    assert_eq!(house.metric(r#"sluis_sessions_started_total{app="care",ground="factor"}"#), 1.0);
    drop(anna);
    let events = house.events();
    assert_eq!(
        events,
        ["second_factor_refused", "authenticator_enrolled", "second_factor_passed", "session_started"]
    );
}

/// [A1 A2 B7] A later login: wrong, then right; the code is spent and the login completed once.
#[tokio::test]
async fn a1_a_later_login_asks_for_a_code() {
    let house = House::new().await;
    let (_, key) = house.verified("anna").await;
    house.next_code();

    let mut other = Browser::default();
    house.password(&mut other, "anna", "/today").await;
    let page = other.get(&house, "/.sluis/challenge").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(!page.body.contains("data-copy"), "the secret is shown no more");
    let wrong = [("token", page.token()), ("code", "000000".to_owned())];
    let wrong = other.post(&house, "/.sluis/challenge", &wrong).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    for check in ["newest code", "your own user name", "date and time"] {
        assert!(wrong.body.contains(check), "B7: {check}");
    }
    let copy = other.clone();
    let right = [("token", wrong.token()), ("code", house.code(&key))];
    let done = other.post(&house, "/.sluis/challenge", &right).await;
    assert_eq!((done.status, done.location()), (StatusCode::SEE_OTHER, "/today"));

    // The same once more, from a copy of the browser: the code is spent, and with the next one the login is.
    let mut again = copy.clone();
    let used = again.post(&house, "/.sluis/challenge", &right).await;
    assert_eq!(used.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(used.body.contains("used already"), "{}", used.body);
    house.next_code();
    let next = [("token", wrong.token()), ("code", house.code(&key))];
    let void = again.post(&house, "/.sluis/challenge", &next).await;
    assert_eq!(void.status, StatusCode::FORBIDDEN);
    assert!(void.body.contains("Log in again"), "I2: a pending login is completed once");
    assert!(!again.jar.contains_key("__Host-sluis-session"));
    assert_eq!(house.metric(r#"sluis_challenges_total{method="totp",outcome="already_used"}"#), 1.0);
    assert_eq!(house.metric(r#"sluis_challenges_total{method="totp",outcome="wrong"}"#), 1.0);
}

/// [B14] A phone whose clock is minutes off is told so, in words.
#[tokio::test]
async fn b14_a_clock_that_is_too_far_off_is_explained() {
    let house = House::new().await;
    let (_, key) = house.verified("anna").await;
    house.next_code();
    let mut other = Browser::default();
    house.password(&mut other, "anna", "/").await;
    let page = other.get(&house, "/.sluis/challenge").await;
    let late = [("token", page.token()), ("code", house.code_off(&key, 180))];
    let off = other.post(&house, "/.sluis/challenge", &late).await;
    assert_eq!(off.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(off.body.contains("about 3 minutes ahead"), "{}", off.body);
    other.headers.push(("accept-language", "nl-NL,nl;q=0.9,en;q=0.8"));
    let off = other.post(&house, "/.sluis/challenge", &late).await;
    assert!(off.body.contains("ongeveer 3 minuten voor"), "{}", off.body);
}

/// [B7] Wrong answers are bounded: the page says until when, and at last that an administrator must help.
#[tokio::test]
async fn i8_too_many_wrong_codes_wait_and_then_lock() {
    let house = House::new().await;
    let (_, key) = house.verified("anna").await;
    house.next_code();
    let mut other = Browser::default();
    house.password(&mut other, "anna", "/").await;
    let token = other.get(&house, "/.sluis/challenge").await.token();
    let guess = [("token", token.clone()), ("code", "000000".to_owned())];
    let mut answer = other.post(&house, "/.sluis/challenge", &guess).await;
    for _ in 1..5 {
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        answer = other.post(&house, "/.sluis/challenge", &guess).await;
    }
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.body.contains("in 30 seconds"), "the fifth says what follows: {}", answer.body);

    let right = [("token", token.clone()), ("code", house.code(&key))];
    let wait = other.post(&house, "/.sluis/challenge", &right).await;
    assert_eq!(wait.status, StatusCode::TOO_MANY_REQUESTS, "also a right code waits");
    assert_eq!(wait.headers[header::RETRY_AFTER], "30");
    assert!(wait.body.contains("30 seconds"));

    // An attacker with patience: up to the hard stop, over fresh logins.
    let mut tries = 5;
    let locked = loop {
        house.clock.advance(Duration::from_secs(901));
        house.password(&mut other, "anna", "/").await;
        let token = other.get(&house, "/.sluis/challenge").await.token();
        let guess = [("token", token), ("code", "000000".to_owned())];
        let answer = other.post(&house, "/.sluis/challenge", &guess).await;
        tries += 1;
        if answer.status != StatusCode::UNPROCESSABLE_ENTITY {
            break answer;
        }
        assert!(tries < 100, "NIST SP 800-63B-4: at most 100");
    };
    assert_eq!(locked.status, StatusCode::FORBIDDEN);
    assert!(locked.body.contains("Ask your administrator"), "{}", locked.body);
    assert_eq!(house.metric(r#"sluis_lockouts_total{kind="hard"}"#), 1.0);
    assert!(house.metric(r#"sluis_lockouts_total{kind="soft"}"#) >= 1.0);
}

/// [B6] An abandoned linking leaves nothing: a new secret at the next login, the old code is wrong.
#[tokio::test]
async fn i7_an_abandoned_linking_is_worth_nothing() {
    let house = House::new().await;
    let mut anna = Browser::default();
    house.password(&mut anna, "anna", "/").await;
    let old = anna.get(&house, "/.sluis/enrol").await.setup_key();
    house.password(&mut anna, "anna", "/").await;
    let page = anna.get(&house, "/.sluis/enrol").await;
    assert_ne!(page.setup_key(), old);
    assert!(page.body.contains("first delete"), "B6: the advice");
    let stale = [("token", page.token()), ("code", house.code(&old))];
    assert_eq!(anna.post(&house, "/.sluis/enrol", &stale).await.status, StatusCode::UNPROCESSABLE_ENTITY);
}

/// [E6] Threats D11: the password alone never shows a secret, nor adds one, once there is an authenticator.
#[tokio::test]
async fn e6_whoever_has_only_the_password_gets_no_qr_once_there_is_an_authenticator() {
    let house = House::new().await;
    let mut thief = Browser::default();
    house.password(&mut thief, "anna", "/").await;
    // The thief opens the page before Anna has linked her app, and posts after.
    let page = thief.get(&house, "/.sluis/enrol").await;
    let key = page.setup_key();
    let (_, annas) = house.verified("anna").await;
    assert_ne!(annas, key);
    house.next_code();
    let answer = thief.get(&house, "/.sluis/enrol").await;
    assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/.sluis/challenge"));
    let own = [("token", page.token()), ("code", house.code(&key)), ("name", "x".to_owned())];
    let answer = thief.post(&house, "/.sluis/enrol", &own).await;
    assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/.sluis/challenge"));
    assert_eq!(house.store.authenticators(&house.user("anna")).await.unwrap().len(), 1);
}

/// [threats D17] A script inside the app shares the origin of our pages, and cannot make a browser say that it is a
/// person who navigates.
#[tokio::test]
async fn a_script_of_the_app_neither_reads_a_setup_key_nor_links_an_authenticator() {
    let house = House::new().await;
    let (mut anna, _) = house.verified("anna").await;
    let page = anna.get(&house, "/.sluis/enrol").await;
    let key = page.setup_key();
    for script in [
        &[("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")][..],
        &[("sec-fetch-mode", "same-origin"), ("sec-fetch-dest", "empty")],
        &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
        &[("sec-fetch-mode", "navigate"), ("sec-fetch-mode", "navigate")],
    ] {
        anna.headers = script.to_vec();
        let read = anna.get(&house, "/.sluis/enrol").await;
        assert_eq!(read.status, StatusCode::FORBIDDEN, "{script:?}");
        assert!(!read.body.contains(&key));
        let fields = [("token", page.token()), ("code", house.code(&key)), ("name", "x".to_owned())];
        assert_eq!(anna.post(&house, "/.sluis/enrol", &fields).await.status, StatusCode::FORBIDDEN);
    }
    anna.headers = vec![("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    assert_eq!(anna.get(&house, "/.sluis/enrol").await.setup_key(), key);
    assert_eq!(house.store.authenticators(&house.user("anna")).await.unwrap().len(), 1);
}

/// One more authenticator: with a fresh proof at once, with an old one after a new proof.
#[tokio::test]
async fn another_authenticator_needs_a_fresh_second_factor() {
    let house = House::new().await;
    let (mut anna, first) = house.verified("anna").await;
    let page = anna.get(&house, "/.sluis/enrol").await;
    assert_eq!(page.status, StatusCode::OK);
    let second = page.setup_key();
    assert_ne!(second, first, "a secret is never shown twice");
    let fields = [("token", page.token()), ("code", house.code(&second)), ("name", "Tablet".to_owned())];
    let done = anna.post(&house, "/.sluis/enrol", &fields).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.body);
    assert_eq!(house.store.authenticators(&house.user("anna")).await.unwrap().len(), 2);

    house.clock.advance(Duration::from_secs(6 * 60));
    let mut linked = anna.clone();
    let cross =
        linked.send(&house, Method::GET, "/.sluis/enrol", &[("sec-fetch-site", "cross-site")], String::new());
    let cross = cross.await;
    assert_eq!((cross.status, cross.location()), (StatusCode::SEE_OTHER, "/"), "no link from elsewhere");
    assert!(!linked.jar.contains_key("__Host-sluis-login"));
    let answer = anna.get(&house, "/.sluis/enrol").await;
    assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/.sluis/challenge"));
    let page = anna.get(&house, "/.sluis/challenge").await;
    let fields = [("token", page.token()), ("code", house.code(&second))];
    let proved = anna.post(&house, "/.sluis/challenge", &fields).await;
    assert_eq!((proved.status, proved.location()), (StatusCode::SEE_OTHER, "/.sluis/enrol"));
    assert_eq!(anna.get(&house, "/.sluis/enrol").await.status, StatusCode::OK);
}

/// Where policy closes enrolment, nobody gets a QR, whatever they ask for.
#[tokio::test]
async fn enrolment_is_closed_where_policy_says_so() {
    for enrol in [Enrol::Closed, Enrol::Networks(vec!["198.51.100.0/24".parse().unwrap()])] {
        let mut app = sample::app();
        let mut requirement = sample::requirement(Duration::ZERO, false);
        requirement.enrol = enrol.clone();
        app.policy = vec![Rule { users: vec![], networks: vec![], then: Then::Require(requirement) }];
        let house = House::of(app).await;
        let mut anna = Browser::default();
        house.password(&mut anna, "anna", "/").await;
        for path in ["/.sluis/challenge", "/.sluis/enrol"] {
            let answer = anna.get(&house, path).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} {enrol:?}");
            assert!(answer.body.contains("administrator"), "{path}");
            assert!(!answer.body.contains("otpauth"), "{path}");
        }
        let answer = anna.post(&house, "/.sluis/enrol", &[("code", "123456".to_owned())]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        if matches!(enrol, Enrol::Networks(_)) {
            anna.client = "198.51.100.9".parse().unwrap();
            assert_eq!(anna.get(&house, "/.sluis/enrol").await.status, StatusCode::OK);
        }
    }
}

/// Design 4.7: logging out ends the session, the trust stays.
#[tokio::test]
async fn logging_out_asks_first_and_ends_the_session() {
    let mut app = sample::app();
    let requirement = sample::requirement(Duration::from_secs(12 * 3600), false);
    app.policy = vec![Rule { users: vec![], networks: vec![], then: Then::Require(requirement) }];
    let house = House::of(app).await;
    let (mut anna, _) = house.verified("anna").await;
    let page = anna.get(&house, "/.sluis/logout").await;
    assert!(
        page.body.contains("anna") && anna.jar.contains_key("__Host-sluis-session"),
        "a GET ends nothing"
    );
    let copy = anna.clone();

    let foreign = anna.post(&house, "/.sluis/logout", &[("token", "AAAA".to_owned())]).await;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN);
    assert!(anna.jar.contains_key("__Host-sluis-session"));

    let out = anna.post(&house, "/.sluis/logout", &[("token", page.token())]).await;
    assert_eq!(out.status, StatusCode::OK);
    assert!(out.body.contains("You are logged out"));
    assert!(!anna.jar.contains_key("__Host-sluis-session"));
    assert!(anna.jar.contains_key("__Host-sluis-trust"));
    let page = copy.clone().get(&house, "/.sluis/logout").await;
    assert!(page.body.contains("You are logged out"), "a copy of the session is dead");

    // The trust lets the next login in without a code.
    house.password(&mut anna, "anna", "/").await;
    assert!(anna.jar.contains_key("__Host-sluis-session"));
    let token = anna.get(&house, "/.sluis/logout").await.token();
    let again = anna.post(&house, "/.sluis/logout", &[("token", token)]).await;
    assert_eq!(again.status, StatusCode::OK);
    let twice = anna.post(&house, "/.sluis/logout", &[]).await;
    assert_eq!(twice.status, StatusCode::OK, "logging out twice harms nobody");
    assert_eq!(house.metric(r#"sluis_sessions_ended_total{app="care"}"#), 2.0);
}

/// [A10] Somebody else on the same browser: counted and recorded as a takeover.
#[tokio::test]
async fn a10_a_takeover_is_recorded() {
    let house = House::new().await;
    let (mut browser, _) = house.verified("anna").await;
    house.password(&mut browser, "bram", "/").await;
    let page = browser.get(&house, "/.sluis/enrol").await;
    let key = page.setup_key();
    let fields = [("token", page.token()), ("code", house.code(&key)), ("name", String::new())];
    let done = browser.post(&house, "/.sluis/enrol", &fields).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    let kept = house.store.authenticators(&house.user("bram")).await.unwrap();
    assert_eq!(kept[0].name, "My phone", "an empty name is filled in");
    assert_eq!(house.metric(r#"sluis_takeovers_total{app="care"}"#), 1.0);
    drop(browser);
    assert!(house.events().contains(&"device_taken_over".to_owned()));
}

/// A form counts only from our own page and for this very login.
#[tokio::test]
async fn forms_of_others_are_refused() {
    let house = House::new().await;
    let (_, key) = house.verified("anna").await;
    house.next_code();
    let mut browser = Browser::default();
    house.password(&mut browser, "anna", "/").await;
    let mut elsewhere = Browser::default();
    house.password(&mut elsewhere, "anna", "/").await;
    let foreign_token = elsewhere.get(&house, "/.sluis/challenge").await.token();
    let token = browser.get(&house, "/.sluis/challenge").await.token();
    let code = house.code(&key);
    let body = |token: &str| format!("token={token}&code={code}");

    let origin = format!("https://{HOST}");
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let cases: &[(Headers<'_>, String, StatusCode)] = &[
        (&[FORM, ("sec-fetch-site", "cross-site")], body(&token), StatusCode::FORBIDDEN),
        (&[FORM, ("sec-fetch-site", "same-site")], body(&token), StatusCode::FORBIDDEN),
        (&[FORM, ("origin", "https://evil.example")], body(&token), StatusCode::FORBIDDEN),
        (&[FORM, ("origin", "null")], body(&token), StatusCode::FORBIDDEN),
        (&[FORM], body(&token), StatusCode::FORBIDDEN),
        (&[FORM, ("origin", &origin)], body(&foreign_token), StatusCode::FORBIDDEN),
        (&[FORM, ("origin", &origin)], body(""), StatusCode::FORBIDDEN),
        (&[FORM, ("origin", &origin)], format!("{}&code=1", body(&token)), StatusCode::BAD_REQUEST),
        (&[FORM, ("origin", &origin)], "x".repeat(5000), StatusCode::PAYLOAD_TOO_LARGE),
        (&[("content-type", "text/plain"), ("origin", &origin)], body(&token), StatusCode::BAD_REQUEST),
        (&[("origin", &origin)], body(&token), StatusCode::BAD_REQUEST),
    ];
    for (headers, body, expected) in cases {
        let answer = browser.send(&house, Method::POST, "/.sluis/challenge", headers, body.clone()).await;
        assert_eq!(answer.status, *expected, "{headers:?} {body}");
        assert!(!browser.jar.contains_key("__Host-sluis-session"), "{headers:?}");
    }
    let empty = browser.post(&house, "/.sluis/challenge", &[("token", token.clone())]).await;
    assert_eq!(empty.status, StatusCode::UNPROCESSABLE_ENTITY);
    let waited = house.metric(r#"sluis_challenges_total{method="totp",outcome="wrong"}"#);
    assert_eq!(waited, 0.0, "none of this was an attempt");
    let good = [FORM, ("origin", origin.as_str())];
    let done = browser.send(&house, Method::POST, "/.sluis/challenge", &good, body(&token)).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
}

#[tokio::test]
async fn a_language_is_chosen_and_remembered() {
    let house = House::new().await;
    let mut anna = Browser { headers: vec![("accept-language", "de, en;q=0.5")], ..Browser::default() };
    house.password(&mut anna, "anna", "/").await;
    assert!(anna.get(&house, "/.sluis/enrol").await.body.contains("<html lang=\"en\">"));
    let chosen = anna.get(&house, "/.sluis/enrol?lang=nl").await;
    assert!(chosen.body.contains("<html lang=\"nl\">"));
    let cookie = chosen.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.contains("Path=/.sluis;"), "the app never sees it: {cookie}");
    assert!(anna.get(&house, "/.sluis/enrol").await.body.contains("<html lang=\"nl\">"));
    let unknown = anna.get(&house, "/.sluis/enrol?lang=xx").await;
    assert!(unknown.body.contains("<html lang=\"nl\">") && !unknown.headers.contains_key(header::SET_COOKIE));
}

/// [I2 D11] A session that rests on an exemption enrols nothing where policy asks a second factor: whoever has its cookies
/// there has shown no password. It ends, and after a new login the user may enrol.
#[tokio::test]
async fn a_first_authenticator_needs_a_fresh_login() {
    let mut app = sample::app();
    let exempt = Rule {
        users: Vec::new(),
        networks: vec!["192.0.2.0/24".parse().unwrap()],
        then: Then::Exempt { reason: "the ward".to_owned() },
    };
    for rule in &mut app.policy {
        if let Then::Require(requirement) = &mut rule.then {
            requirement.enrol = Enrol::Open;
        }
    }
    app.policy.insert(0, exempt);
    let house = House::of(app).await;
    let mut browser = Browser::default();
    house.password(&mut browser, "anna", "/").await;
    assert!(browser.jar.contains_key("__Host-sluis-session"), "exempt on the ward");
    let copy = browser.clone();

    browser.client = "203.0.113.9".parse().unwrap();
    let asked = browser.get(&house, "/.sluis/enrol").await;
    assert_eq!((asked.status, asked.location()), (StatusCode::SEE_OTHER, "/.sluis/challenge"));
    let challenge = browser.get(&house, "/.sluis/challenge").await;
    assert_eq!((challenge.status, challenge.location()), (StatusCode::SEE_OTHER, "/.sluis/enrol"));
    let refused = browser.get(&house, "/.sluis/enrol").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.body);
    assert!(
        refused.body.contains("Log in again") && !refused.body.contains("otpauth://"),
        "{}",
        refused.body
    );
    for kind in ["session", "login"] {
        assert!(!browser.jar.contains_key(&format!("__Host-sluis-{kind}")), "{kind}");
    }
    let mut saved = copy;
    let page = saved.get(&house, "/.sluis/logout").await;
    assert!(!page.body.contains("anna"), "the session is over for a saved copy as well: {}", page.body);
    assert!(house.store.authenticators(&house.user("anna")).await.unwrap().is_empty());

    house.password(&mut browser, "anna", "/").await;
    let page = browser.get(&house, "/.sluis/enrol").await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    let fields = [("token", page.token()), ("code", house.code(&page.setup_key()))];
    let done = browser.post(&house, "/.sluis/enrol", &fields).await;
    assert_eq!((done.status, done.location()), (StatusCode::SEE_OTHER, "/"), "{}", done.body);
}

/// [D17] No page or asset of ours is given to a browser as a service worker.
#[tokio::test]
async fn nothing_of_ours_is_a_service_worker() {
    let house = House::new().await;
    let mut browser = Browser::default();
    house.password(&mut browser, "anna", "/").await;
    let page = browser.get(&house, "/.sluis/enrol").await;
    let script = page.body.split("src=\"").nth(1).and_then(|s| s.split('"').next()).unwrap().to_owned();
    for path in ["/.sluis/enrol", "/.sluis/nothing", script.as_str()] {
        let allowed = browser.get(&house, path).await;
        assert!(allowed.status != StatusCode::FORBIDDEN, "{path}");
        assert!(!allowed.headers.contains_key("service-worker-allowed"), "{path}");
        let worker = [("service-worker", "script"), ("sec-fetch-dest", "serviceworker")];
        let refused = browser.send(&house, Method::GET, path, &worker, String::new()).await;
        assert_eq!((refused.status, refused.body.as_str()), (StatusCode::FORBIDDEN, ""), "{path}");
    }
}

//! How long a proof counts, where, and what ends it.

use std::time::Duration;

use reqwest::StatusCode;

use crate::support::{Authenticator, Browser, Demo, Sluis, sluis::care_records};

const HOUR: Duration = Duration::from_secs(3600);

/// Sluis with this requirement and these session limits, and a browser in which Anna is inside.
async fn anna_under(require: &str, session: &str) -> (Demo, Sluis, Browser, Authenticator) {
    let app = Demo::start();
    let config = care_records(app.address)
        .replace("{ methods: [totp], validity: 12h }", require)
        .replace("    logout:", &format!("    session: {session}\n    logout:"));
    let sluis = Sluis::start(&config);
    let mut browser = sluis.browser();
    let pending = sluis.password(&mut browser, "anna").await;
    let (authenticator, entered) = sluis.enrol(&mut browser, &pending).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
    assert_eq!(browser.get("/").await.status, StatusCode::OK);
    (app, sluis, browser, authenticator)
}

/// Logs out and in again with the password; whether a code is asked.
async fn asked_again(sluis: &Sluis, browser: &mut Browser) -> bool {
    browser.visit("/logout").await;
    let answer = sluis.password(browser, "anna").await;
    let asked = answer.location().contains("/.sluis/challenge");
    let inside = browser.get("/").await.status == StatusCode::OK;
    assert_eq!(inside, !asked, "asked or inside, not both: {answer:?}");
    asked
}

/// [A7 A8 A9] A code is good for 12 hours: for a new login, on the same device, while its cookies are there.
#[tokio::test]
async fn a7_to_a9_a_code_is_good_for_hours_on_this_device_with_its_cookies() {
    let (_app, mut sluis, mut browser, _) =
        anna_under("{ methods: [totp], validity: 12h }", "{ idle: 20h, max: 20h }").await;
    assert!(!asked_again(&sluis, &mut browser).await, "A7: at once");
    sluis.clock.advance(11 * HOUR);
    assert!(!asked_again(&sluis, &mut browser).await, "A7: after 11 hours");

    let mut forgetful = browser.clone();
    forgetful.jar.remove("sluis-trust");
    assert!(asked_again(&sluis, &mut forgetful).await, "A8: the cookie was removed");
    let mut elsewhere = sluis.browser();
    assert!(asked_again(&sluis, &mut elsewhere).await, "A9: another device");
    let mut half_copied = sluis.browser();
    half_copied.get("/login").await;
    half_copied.jar.insert("sluis-trust".into(), browser.jar["sluis-trust"].clone());
    assert!(asked_again(&sluis, &mut half_copied).await, "A9: the trust of another device");

    sluis.clock.advance(HOUR + Duration::from_secs(1));
    assert!(asked_again(&sluis, &mut browser).await, "A7: after 12 hours");
}

/// [A7 B3] A session that runs when the 12 hours are over goes on: validity is judged at login.
#[tokio::test]
async fn a7_validity_is_judged_at_login() {
    let (_app, mut sluis, mut browser, _) =
        anna_under("{ methods: [totp], validity: 12h }", "{ idle: 20h, max: 20h }").await;
    sluis.clock.advance(13 * HOUR);
    assert_eq!(browser.get("/").await.status, StatusCode::OK);
}

/// [B3] Validity 0: a code at every login, and no trust cookie at all.
#[tokio::test]
async fn b3_validity_zero_asks_at_every_login() {
    let (_app, sluis, mut browser, _) =
        anna_under("{ methods: [totp], validity: 0s }", "{ idle: 1h, max: 12h }").await;
    assert!(!browser.jar.contains_key("sluis-trust"));
    assert!(asked_again(&sluis, &mut browser).await);
}

/// [B3] Out of range is refused with a clear message, before anything is served.
#[test]
fn b3_validity_out_of_range_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.yaml");
    std::fs::write(dir.path().join("k"), "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=").unwrap();
    let apps = care_records("127.0.0.1:1".parse().unwrap()).replace("validity: 12h", "validity: 25h");
    std::fs::write(
        &file,
        format!(
            "listen: {{ http: {{ address: '127.0.0.1:0' }} }}\nkeys: [{{ file: '{}' }}]\nstore: {{ sqlite: {{ path: '{}' }} }}\n{apps}",
            dir.path().join("k").display(),
            dir.path().join("s.db").display()
        ),
    )
    .unwrap();
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_sluis"))
        .arg("check")
        .arg("--config")
        .arg(&file)
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("validity") && said.contains("25h") && said.contains("24"), "{said}");
    assert!(said.contains("config.yaml:"), "says where: {said}");
}

/// [B3] `continuous`: the next navigation after N hours is challenged, and goes on where it was.
#[tokio::test]
async fn continuous_validity_steps_up_and_goes_on() {
    let (_app, mut sluis, mut browser, authenticator) =
        anna_under("{ methods: [totp], validity: 2h, judged: continuous }", "{ idle: 20h, max: 20h }").await;
    sluis.clock.advance(HOUR);
    assert_eq!(browser.get("/headers").await.status, StatusCode::OK);
    sluis.clock.advance(HOUR + Duration::from_secs(60));
    let app_cookie = browser.jar["ZORGSESSIE"].clone();
    let stopped = browser.get("/headers?x=1").await;
    assert_eq!(
        (stopped.status, stopped.location()),
        (StatusCode::SEE_OTHER, "/.sluis/challenge"),
        "{stopped:?}"
    );
    let code = authenticator.code_at(sluis.clock.now_secs());
    let entered = sluis.answer(&mut browser, &code).await;
    assert_eq!(entered.location(), "/headers?x=1", "{entered:?}");
    let page = browser.follow(&entered).await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(browser.jar["ZORGSESSIE"], app_cookie, "the same session of the app");
    assert!(page.body.to_lowercase().contains("anna"), "{page:?}");
}

/// A session ends after `idle` without a request, is kept alive by requests, and ends after `max` in any case.
#[tokio::test]
async fn sessions_end_by_idle_and_max() {
    let (_app, mut sluis, mut browser, _) =
        anna_under("{ methods: [totp], validity: 12h }", "{ idle: 30m, max: 3h }").await;
    for _ in 0..5 {
        sluis.clock.advance(Duration::from_secs(20 * 60));
        assert_eq!(browser.get("/").await.status, StatusCode::OK, "kept alive by requests");
    }
    let mut idle = browser.clone();
    sluis.clock.advance(Duration::from_secs(31 * 60));
    assert_eq!(idle.get("/").await.status, StatusCode::SEE_OTHER, "idle too long");
    let (_app, mut sluis, mut browser, _) =
        anna_under("{ methods: [totp], validity: 12h }", "{ idle: 30m, max: 1h }").await;
    for _ in 0..3 {
        sluis.clock.advance(Duration::from_secs(19 * 60));
        assert_eq!(browser.get("/").await.status, StatusCode::OK);
    }
    sluis.clock.advance(Duration::from_secs(4 * 60));
    assert_eq!(browser.get("/").await.status, StatusCode::SEE_OTHER, "longer than max");
}

/// Logout ends the session, also for a copy saved before; trust stays.
#[tokio::test]
async fn logout_ends_the_session_everywhere() {
    let (_app, sluis, mut browser, _) =
        anna_under("{ methods: [totp], validity: 12h }", "{ idle: 1h, max: 12h }").await;
    let mut copy = browser.clone();
    assert_eq!(copy.get("/").await.status, StatusCode::OK);
    browser.visit("/logout").await;
    assert_eq!(copy.get("/").await.status, StatusCode::SEE_OTHER, "the copy is dead too");
    assert!(!asked_again(&sluis, &mut browser).await);
}

/// [A10 I3] Every saved copy of Anna's session is dead once Bram's login is complete: 500 requests with it, over both
/// workers, right after his answer.
#[tokio::test]
async fn i3_a_takeover_voids_every_saved_copy_at_once() {
    let (_app, sluis, mut browser, _) =
        anna_under("{ methods: [totp], validity: 12h }", "{ idle: 1h, max: 12h }").await;
    let copy = browser.clone();
    let pending = sluis.password(&mut browser, "bram").await;
    let (_, entered) = sluis.enrol(&mut browser, &pending).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER);
    for _ in 0..500 {
        // A new connection each time, so that every worker is met.
        let mut fresh = sluis.browser();
        fresh.jar = copy.jar.clone();
        assert_eq!(fresh.get("/").await.status, StatusCode::SEE_OTHER);
    }
    let mut anna = copy.clone();
    let asked = sluis.password(&mut anna, "anna").await;
    assert!(asked.location().contains("/.sluis/challenge"), "her trust is void: {asked:?}");
}

/// [A10] The same user on the same device again is no takeover.
#[tokio::test]
async fn the_same_user_again_keeps_the_trust() {
    let (_app, sluis, mut browser, _) =
        anna_under("{ methods: [totp], validity: 12h }", "{ idle: 1h, max: 12h }").await;
    for spelling in ["anna", "Anna", " ANNA "] {
        browser.visit("/logout").await;
        let answer = browser.post("/login", &[("username", spelling), ("password", "anna-secret")]).await;
        assert!(!answer.location().contains("/.sluis/"), "{spelling:?}: {answer:?}");
    }
    let _ = sluis;
}

/// [B11 B12] Block and reset by the CLI take effect on running sessions at once.
#[tokio::test]
async fn b12_block_and_reset_take_effect_at_once() {
    let (_app, sluis, mut browser, _) =
        anna_under("{ methods: [totp], validity: 12h }", "{ idle: 1h, max: 12h }").await;
    let run = |arguments: &[&str]| {
        let out = sluis.cli(arguments);
        assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    assert!(run(&["user", "list"]).contains("anna"));
    run(&["user", "block", "anna"]);
    assert_ne!(browser.get("/").await.status, StatusCode::OK, "blocked at once");
    let again = sluis.password(&mut browser, "anna").await;
    assert_eq!(again.status, StatusCode::FORBIDDEN, "{again:?}");
    run(&["user", "unblock", "anna"]);
    assert!(!asked_again(&sluis, &mut browser).await, "as before");
    run(&["user", "reset", "anna"]);
    assert_ne!(browser.get("/").await.status, StatusCode::OK, "reset ends what was proved");
    let pending = sluis.password(&mut browser, "anna").await;
    let (_, entered) = sluis.enrol(&mut browser, &pending).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "the QR again");
    let shown = run(&["user", "show", "anna"]);
    assert!(shown.contains("My phone") || shown.contains("totp"), "{shown}");
    let events: Vec<_> =
        sluis.audit().into_iter().map(|e| e["event"].as_str().unwrap_or_default().to_owned()).collect();
    assert!(
        events.iter().any(|e| e.contains("reset")) && events.iter().any(|e| e.contains("block")),
        "{events:?}"
    );
}

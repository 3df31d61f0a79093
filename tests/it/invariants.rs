//! One story (or more) for each invariant that the design promises.

use std::time::Duration;

use reqwest::{Method, StatusCode, header::COOKIE};

use crate::support::{Authenticator, Browser, Demo, Sluis, sluis::care_records};

/// Sluis before the shipped app, and a browser in which Anna has just linked an authenticator.
async fn anna_inside() -> (Demo, Sluis, Browser, Authenticator) {
    let app = Demo::start();
    let sluis = Sluis::start(&care_records(app.address));
    let mut browser = sluis.browser();
    let pending = sluis.password(&mut browser, "anna").await;
    let (authenticator, entered) = sluis.enrol(&mut browser, &pending).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
    assert_eq!(browser.get("/").await.status, StatusCode::OK);
    (app, sluis, browser, authenticator)
}

/// [I1] No spelling of a protected path gives anything of the app to a client without a session.
#[tokio::test]
async fn i1_no_byte_without_a_session() {
    let app = Demo::start();
    let sluis = Sluis::start(&care_records(app.address));
    let paths = include_str!("../corpus/paths.txt");
    let mut tried = 0;
    for line in paths.lines().filter(|l| !l.is_empty() && !l.starts_with("# ")) {
        let Some(path) = line.splitn(3, ' ').nth(2) else { continue };
        let answer = crate::support::raw::get(sluis.address, &unescaped(path), "Accept: text/html\r\n");
        assert!(!answer.contains("ZORGDOSSIER"), "{path:?} leaked:\n{answer}");
        let status: u16 = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        assert!(
            [303, 400, 401, 404, 405, 414].contains(&status)
                || path.starts_with("/login")
                || path.starts_with("/static"),
            "{path:?}: {answer}"
        );
        tried += 1;
    }
    assert!(tried > 20, "the corpus is there");
    let script = sluis.browser();
    let refused = script.fetch(Method::GET, "/api/clients").send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    let problem: serde_json::Value = refused.json().await.unwrap();
    assert!(problem["challenge_url"].as_str().unwrap().starts_with("/login"), "{problem}");
}

/// [I2] A pending login is completed at most once, also when the same answer is sent twice.
#[tokio::test]
async fn i2_a_pending_login_is_completed_once() {
    let (_app, mut sluis, _, authenticator) = anna_inside().await;
    sluis.clock.advance(Duration::from_secs(60));
    let mut elsewhere = sluis.browser();
    sluis.password(&mut elsewhere, "anna").await;
    let page = elsewhere.get("/.sluis/challenge").await;
    let token = page.field("token");
    let mut copy = elsewhere.clone();

    let code = authenticator.code_at(sluis.clock.now_secs());
    let entered = elsewhere.post("/.sluis/challenge", &[("token", &token), ("code", &code)]).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER);
    assert_eq!(elsewhere.get("/").await.status, StatusCode::OK);

    sluis.clock.advance(Duration::from_secs(30));
    let code = authenticator.code_at(sluis.clock.now_secs());
    let second = copy.post("/.sluis/challenge", &[("token", &token), ("code", &code)]).await;
    assert_ne!(second.status, StatusCode::SEE_OTHER, "the same pending login again: {second:?}");
    assert_ne!(copy.get("/").await.status, StatusCode::OK);
}

/// [I4] 16 browsers send the same code at the same moment, 200 times: one is let in each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_a_code_is_accepted_once_under_concurrency() {
    let (_app, mut sluis, _, authenticator) = anna_inside().await;
    for round in 0..200 {
        // Past every wait that the wrong ones of the round before have earned.
        sluis.clock.advance(Duration::from_secs(20 * 60));
        let mut browsers = Vec::new();
        for _ in 0..16 {
            let mut browser = sluis.browser();
            sluis.password(&mut browser, "anna").await;
            let page = browser.get("/.sluis/challenge").await;
            browsers.push((page.field("token"), browser));
        }
        let code = authenticator.code_at(sluis.clock.now_secs());
        let answers = browsers.into_iter().map(|(token, mut browser)| {
            let code = code.clone();
            tokio::spawn(async move {
                let answer = browser.post("/.sluis/challenge", &[("token", &token), ("code", &code)]).await;
                (answer.status == StatusCode::SEE_OTHER && answer.location() == "/", browser)
            })
        });
        let mut inside = 0;
        for answer in answers.collect::<Vec<_>>() {
            let (said_so, mut browser) = answer.await.unwrap();
            let is_in = browser.get("/").await.status == StatusCode::OK;
            assert_eq!(said_so, is_in, "what is said is what is done");
            inside += usize::from(is_in);
        }
        assert_eq!(inside, 1, "round {round}");
    }
}

/// [I5] The app's session cookie is usable only with the session it was sealed to: not beside another session, not at
/// the app itself, and a plain one beside a session is dropped.
#[tokio::test]
async fn i5_an_app_cookie_without_its_session_is_worth_nothing() {
    let (app, sluis, anna, _) = anna_inside().await;
    let mut bram = sluis.browser();
    let pending = sluis.password(&mut bram, "bram").await;
    sluis.enrol(&mut bram, &pending).await;
    assert!(bram.get("/").await.body.contains("bram"));

    // Anna's sealed cookie beside Bram's session: the app sees nobody.
    let mut thief = bram.clone();
    thief.jar.insert("ZORGSESSIE".into(), anna.jar["ZORGSESSIE"].clone());
    let answer = thief.get("/").await;
    assert!(!answer.body.contains("anna"), "{answer:?}");

    // Her plain cookie, taken at the app's back door, beside Bram's session: dropped as well.
    let mut back_door = Browser::new(&format!("http://{}", app.address));
    back_door.post("/login", &[("username", "anna"), ("password", "anna-secret")]).await;
    assert!(back_door.get("/").await.body.contains("anna"), "the app knows her there");
    thief.jar.insert("ZORGSESSIE".into(), back_door.jar["ZORGSESSIE"].clone());
    let answer = thief.get("/").await;
    assert!(!answer.body.contains("anna"), "{answer:?}");

    // And the sealed one at the app itself.
    back_door.jar.clear();
    back_door.jar.insert("ZORGSESSIE".into(), anna.jar["ZORGSESSIE"].clone());
    assert_ne!(back_door.get("/").await.status, StatusCode::OK);
}

/// [I5] An app that keeps its session cookie over a login: the old box is dead, the new one works.
#[tokio::test]
async fn i5_an_app_that_keeps_its_cookie_is_sealed_again() {
    let app = Demo::start_with(&["--keep-cookie"]);
    // This app sets no cookie when it logs somebody in: its redirect has to tell.
    let sluis = Sluis::start(&care_records(app.address).replace(", cookie: ZORGSESSIE", ""));
    let mut browser = sluis.browser();
    browser.get("/login").await;
    let before = browser.jar.get("ZORGSESSIE").cloned().expect("the app gives a session before the login");
    let pending = sluis.password(&mut browser, "anna").await;
    assert_ne!(browser.jar["ZORGSESSIE"], before, "sealed to the session now");
    sluis.enrol(&mut browser, &pending).await;
    assert_eq!(browser.get("/").await.status, StatusCode::OK);

    let mut fixed = browser.clone();
    fixed.jar.insert("ZORGSESSIE".into(), before);
    assert!(!fixed.get("/").await.body.contains("anna"), "the box of before the login opens nothing");
}

/// [I6 F4] Identity headers from outside never arrive, in no spelling; the true ones do.
#[tokio::test]
async fn i6_forged_identity_headers_never_arrive() {
    let (_app, sluis, browser, _) = anna_inside().await;
    let cookies = browser.jar.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("; ");
    for name in [
        "Remote-User",
        "remote-user",
        "REMOTE_USER",
        "Remote.User",
        "remote_User",
        "Remote~User",
        "Remote-Email",
        "Remote_Groups",
        "X-Sluis-Methods",
        "x_sluis_methods",
        "X.Sluis.Proved.At",
        "X-Sluis-Anything",
    ] {
        for connection in ["", "Connection: Remote-User\r\n", "Connection: close, x-sluis-methods\r\n"] {
            let head =
                format!("Cookie: {cookies}\r\n{name}: admin-forged\r\n{name}: twice-forged\r\n{connection}");
            let answer = crate::support::raw::get(sluis.address, b"/headers", &head);
            assert!(!answer.contains("forged"), "{name} arrived:\n{answer}");
            if answer.starts_with("HTTP/1.1 200") {
                let lower = answer.to_ascii_lowercase();
                assert!(lower.contains("remote-user: anna"), "{answer}");
                assert!(lower.contains("x-sluis-methods: totp"), "{answer}");
            } else {
                assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
                assert!(!connection.is_empty(), "{name} alone is removed, not refused: {answer}");
            }
        }
    }
    // The cookies of Sluis do not arrive either.
    let answer = crate::support::raw::get(sluis.address, b"/headers", &format!("Cookie: {cookies}\r\n"));
    assert!(!answer.contains("sluis-session"), "{answer}");
}

/// [I7 B6] An abandoned enrolment verifies nothing: the next login shows another QR, and codes of the first are wrong.
#[tokio::test]
async fn i7_an_abandoned_enrolment_verifies_nothing() {
    let app = Demo::start();
    let mut sluis = Sluis::start(&care_records(app.address));
    let mut browser = sluis.browser();
    sluis.password(&mut browser, "anna").await;
    let first = Authenticator::from_page(&browser.visit("/.sluis/enrol").await.body);
    assert_eq!(
        first.key(),
        Authenticator::from_page(&browser.visit("/.sluis/enrol").await.body).key(),
        "a reload"
    );

    let mut later = sluis.browser();
    let pending = sluis.password(&mut later, "anna").await;
    assert_eq!(pending.location(), "/.sluis/challenge");
    let page = later.visit("/.sluis/enrol").await;
    let second = Authenticator::from_page(&page.body);
    assert_ne!(first.key(), second.key(), "a new login shows a new secret");
    let stale = first.code_at(sluis.clock.now_secs());
    let wrong = later
        .post("/.sluis/enrol", &[("token", &page.field("token")), ("name", "x"), ("code", &stale)])
        .await;
    assert_ne!(wrong.status, StatusCode::SEE_OTHER);
    assert_ne!(later.get("/").await.status, StatusCode::OK);

    // Once the second is confirmed, the first, still open in the other browser, links nothing and opens nothing.
    let code = second.code_at(sluis.clock.now_secs());
    let entered =
        later.post("/.sluis/enrol", &[("token", &page.field("token")), ("name", "x"), ("code", &code)]).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
    sluis.clock.advance(Duration::from_secs(60));
    let stale = first.code_at(sluis.clock.now_secs());
    let token = browser.visit("/.sluis/challenge").await.field("token");
    for path in ["/.sluis/enrol", "/.sluis/challenge"] {
        let answer = browser.post(path, &[("token", &token), ("name", "x"), ("code", &stale)]).await;
        assert!(answer.location() != "/", "{path}: {answer:?}");
        assert_ne!(browser.get("/").await.status, StatusCode::OK);
    }
}

/// [I8 B7 B11] Five wrong answers in a row, from whatever browser: a wait. Fifty: locked until an administrator acts.
#[tokio::test]
async fn i8_wrong_answers_are_bounded_over_all_browsers() {
    let (_app, mut sluis, _, authenticator) = anna_inside().await;
    sluis.clock.advance(Duration::from_secs(60));
    let mut wrong = 0;
    let mut statuses = Vec::new();
    while wrong < 50 {
        let mut browser = sluis.browser();
        sluis.password(&mut browser, "anna").await;
        let answer = sluis.answer(&mut browser, "000000").await;
        statuses.push(answer.status.as_u16());
        match answer.status {
            StatusCode::UNPROCESSABLE_ENTITY => wrong += 1,
            // The fiftieth says at once that it was the last.
            StatusCode::FORBIDDEN => break,
            _ => {
                // Waiting: not even the right code is looked at.
                let code = authenticator.code_at(sluis.clock.now_secs());
                let mut right = sluis.browser();
                sluis.password(&mut right, "anna").await;
                let page = right.get("/.sluis/challenge").await;
                if page.body.contains("name=\"token\"") {
                    let answer = right
                        .post("/.sluis/challenge", &[("token", &page.field("token")), ("code", &code)])
                        .await;
                    assert_ne!(answer.status, StatusCode::SEE_OTHER, "{answer:?}");
                }
                assert_ne!(right.get("/").await.status, StatusCode::OK);
                sluis.clock.advance(Duration::from_secs(15 * 60 + 1));
            }
        }
        assert!(statuses.len() < 200, "{statuses:?}");
    }
    assert_eq!(wrong, 49, "{statuses:?}");
    assert_eq!(&statuses[..5], &[422; 5]);
    assert_eq!(statuses[5], 429, "the sixth waits: {statuses:?}");

    // Locked now: no time helps, a reset by an administrator does.
    sluis.clock.advance(Duration::from_secs(24 * 3600));
    let mut browser = sluis.browser();
    let pending = sluis.password(&mut browser, "anna").await;
    let page = browser.follow(&pending).await;
    let code = authenticator.code_at(sluis.clock.now_secs());
    if page.body.contains("name=\"token\"") {
        let answer =
            browser.post("/.sluis/challenge", &[("token", &page.field("token")), ("code", &code)]).await;
        assert_ne!(answer.status, StatusCode::SEE_OTHER, "{answer:?}");
    }
    assert_ne!(browser.get("/").await.status, StatusCode::OK);

    let reset = sluis.cli(&["user", "reset", "anna"]);
    assert!(reset.status.success(), "{}", String::from_utf8_lossy(&reset.stderr));
    let mut browser = sluis.browser();
    let pending = sluis.password(&mut browser, "anna").await;
    let (_, entered) = sluis.enrol(&mut browser, &pending).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "B11: after a reset the QR again: {entered:?}");
}

/// [I9] A store that does not answer lets nobody in; who is in goes on.
#[tokio::test]
async fn i9_a_lost_store_opens_nothing() {
    let (_app, sluis, mut inside, _) = anna_inside().await;
    let thief = rusqlite::Connection::open(sluis.file("sluis.db")).unwrap();
    thief.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mut browser = sluis.browser();
    let answer = sluis.password(&mut browser, "bram").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert!(!browser.jar.contains_key("ZORGSESSIE"), "nothing of the app's answer");
    assert!(!answer.body.to_lowercase().contains("sqlite"), "no internal message: {}", answer.body);
    assert_ne!(browser.get("/").await.status, StatusCode::OK);
    assert_eq!(inside.get("/").await.status, StatusCode::OK, "a verified request needs no store");
    thief.execute_batch("ROLLBACK").unwrap();
    let answer = sluis.password(&mut browser, "bram").await;
    assert_eq!(answer.location(), "/.sluis/challenge", "{answer:?}");
}

/// [I9] A broken upstream or a cookie that cannot be read never opens anything.
#[tokio::test]
async fn i9_trouble_upstream_and_broken_cookies() {
    let (mut app, sluis, mut inside, _) = anna_inside().await;
    for junk in ["", "x", "AAAA", "====", &"A".repeat(3000), "..%00", "\u{e9}"] {
        for name in ["sluis-session", "sluis-login", "sluis-trust", "sluis-device"] {
            let mut request = sluis.browser().request(Method::GET, "/");
            request = request.header(COOKIE, format!("{name}={junk}").as_bytes());
            let status = request.send().await.unwrap().status();
            assert!(
                status == StatusCode::SEE_OTHER || status == StatusCode::BAD_REQUEST,
                "{name}={junk:?}: {status}"
            );
        }
    }
    app.process.kill();
    let gone = inside.get("/").await;
    assert_eq!(gone.status, StatusCode::BAD_GATEWAY, "{gone:?}");
    let mut browser = sluis.browser();
    let login = sluis.password(&mut browser, "anna").await;
    assert_eq!(login.status, StatusCode::BAD_GATEWAY);
    assert!(!gone.body.contains("pingora") && !gone.body.contains("127.0.0.1"), "{}", gone.body);
}

/// [I10] What was acknowledged survives `kill -9`: 50 kills around enrolments and logins.
#[tokio::test]
async fn i10_acknowledged_enrolments_survive_kill_9() {
    let app = Demo::start_with(&["--any-user"]);
    let mut sluis = Sluis::start(&care_records(app.address));
    let mut linked: Vec<(String, Authenticator)> = Vec::new();
    for round in 0..50_u64 {
        let user = format!("user{round}");
        let mut browser = sluis.browser();
        let pending = sluis.password(&mut browser, &user).await;
        let page = {
            let mut page = browser.follow(&pending).await;
            while page.status.is_redirection() {
                page = browser.follow(&page).await;
            }
            page
        };
        let authenticator = Authenticator::from_page(&page.body);
        let code = authenticator.code_at(sluis.clock.now_secs());
        let token = page.field("token");
        let pid = sluis.process.id();
        // The kill comes at a moment that differs each round, from before to after the answer.
        // Close together at first, then up to a tenth of a second: also where a disk takes its time.
        let delay = Duration::from_micros(round * round * 40);
        let killer = std::thread::spawn(move || {
            std::thread::park_timeout(delay);
            let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        });
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("token", &token), ("name", &user), ("code", &code)])
            .finish();
        let sent = browser
            .request(Method::POST, "/.sluis/enrol")
            .header("origin", browser.origin())
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await;
        if sent.is_ok_and(|answer| answer.status() == StatusCode::SEE_OTHER) {
            linked.push((user, authenticator));
        }
        killer.join().unwrap();
        sluis.restart();
    }
    assert!(!linked.is_empty() && linked.len() < 50, "kills came before and after: {}", linked.len());
    sluis.clock.advance(Duration::from_secs(60));
    for (user, authenticator) in &linked {
        let mut browser = sluis.browser();
        sluis.password(&mut browser, user).await;
        let code = authenticator.code_at(sluis.clock.now_secs());
        let entered = sluis.answer(&mut browser, &code).await;
        assert_eq!(
            entered.status,
            StatusCode::SEE_OTHER,
            "{user}'s enrolment was acknowledged and is lost: {entered:?}"
        );
    }
}

/// `\xNN` in the corpus is that byte.
fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\x") {
        out.extend_from_slice(before.as_bytes());
        out.push(u8::from_str_radix(&after[..2], 16).expect("two hexadecimal digits"));
        rest = &after[2..];
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

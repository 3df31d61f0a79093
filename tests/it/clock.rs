//! Clocks that are not right: the phone's, and the server's own.

use std::time::Duration;

use reqwest::{Method, StatusCode};

use crate::support::{Authenticator, Demo, Sluis, jar::Answer, process::PATIENCE, sluis::care_records};

/// Goes on to the beginning of another step, so that no step ends while a code is on its way.
fn another_step(sluis: &mut Sluis) {
    sluis.clock.advance(Duration::from_secs(121 - sluis.clock.now_secs() % 30));
}

/// Anna logs in on a new browser and types the code of a phone that is so far off.
async fn typed(sluis: &mut Sluis, user: &str, phone: &Authenticator, off: i64, language: &str) -> Answer {
    another_step(sluis);
    let mut browser = sluis.browser();
    sluis.password(&mut browser, user).await;
    let token = browser.get("/.sluis/challenge").await.field("token");
    let code = phone.code_at(sluis.clock.now_secs().checked_add_signed(off).unwrap());
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("token", token.as_str()), ("code", &code)])
        .finish();
    let request = browser
        .request(Method::POST, "/.sluis/challenge")
        .header("origin", browser.origin())
        .header("accept-language", language)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body);
    browser.send(request).await
}

async fn linked(sluis: &mut Sluis, user: &str) -> Authenticator {
    another_step(sluis);
    let mut browser = sluis.browser();
    let pending = sluis.password(&mut browser, user).await;
    let (phone, entered) = sluis.enrol(&mut browser, &pending).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
    phone
}

/// [B14] A phone that drifts away slowly is followed to 60 s and a little more; one that is 5 minutes off is told so,
/// in minutes, in the visitor's language.
#[tokio::test]
async fn b14_a_little_drift_is_learned_and_a_large_one_explained() {
    let app = Demo::start();
    let mut sluis = Sluis::start(&care_records(app.address));
    let phone = linked(&mut sluis, "anna").await;
    for off in [-30, -60, -60, -90, -30, 0] {
        let answer = typed(&mut sluis, "anna", &phone, off, "en").await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{off} s: {answer:?}");
    }

    // Bram's has not been learned: 60 s at once is too much, and explained.
    let phone = linked(&mut sluis, "bram").await;
    for (off, language, words) in [
        (-60, "en", ["60 seconds", "behind"]),
        (-300, "en", ["5 minutes", "behind"]),
        (-300, "nl", ["5 minuten", "achter"]),
        (90, "nl", ["2 minuten", "voor"]),
    ] {
        let answer = typed(&mut sluis, "bram", &phone, off, language).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{off} s: {answer:?}");
        for word in words {
            assert!(answer.body.contains(word), "{off} s, {language}: no {word:?} in {}", answer.body);
        }
    }
    let right = typed(&mut sluis, "bram", &phone, 0, "en").await;
    assert_eq!(right.status, StatusCode::SEE_OTHER, "the phone's clock was put right: {right:?}");
}

async fn metric(sluis: &Sluis, name: &str) -> i64 {
    let metrics = sluis.metrics().await;
    let line =
        metrics.lines().find(|l| l.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("no {name}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

async fn awaited(sluis: &Sluis, name: &str, wanted: impl Fn(i64) -> bool) {
    let waiting = async {
        while !wanted(metric(sluis, name).await) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{name} does not come"));
}

async fn ready(sluis: &Sluis) -> (StatusCode, String) {
    let answer = reqwest::get(format!("http://{}/readyz?verbose", sluis.operations)).await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

/// [E8] The server's clock runs 30 s ahead of everybody's phone: the fifth user makes it known, and nobody is kept out.
#[tokio::test]
async fn e8_a_server_clock_that_is_off_is_reported() {
    let app = Demo::start_with(&["--any-user"]);
    let mut sluis = Sluis::start(&care_records(app.address));
    for user in ["u1", "u2", "u3", "u4", "u5"] {
        assert_eq!(metric(&sluis, "sluis_code_drift_seconds").await, 0, "before {user}");
        another_step(&mut sluis);
        let mut browser = sluis.browser();
        sluis.password(&mut browser, user).await;
        let page = browser.visit("/.sluis/enrol").await;
        let code = Authenticator::from_page(&page.body).code_at(sluis.clock.now_secs() - 30);
        let fields = [("token", page.field("token")), ("name", "x".into()), ("code", code)];
        let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let entered = browser.post("/.sluis/enrol", &fields).await;
        assert_eq!(entered.status, StatusCode::SEE_OTHER, "{user}: {entered:?}");
    }
    awaited(&sluis, "sluis_code_drift_seconds", |secs| secs == -30).await;
    sluis.process.await_line("a warning", |line| {
        (line.contains("is the clock of this server right") && line.contains("-30")).then_some(())
    });
    let (status, text) = ready(&sluis).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert!(text.contains("[!]clock doubtful: the codes of most users are off by -30 s"), "{text}");
}

/// [E8] Also when it is so far off that no code is right any more.
#[tokio::test]
async fn e8_a_server_clock_that_is_far_off_is_reported() {
    let app = Demo::start_with(&["--any-user"]);
    let mut sluis = Sluis::start(&care_records(app.address));
    let mut phones = Vec::new();
    for user in ["u1", "u2", "u3", "u4", "u5"] {
        phones.push((user, linked(&mut sluis, user).await));
    }
    for (user, phone) in &phones {
        let refused = typed(&mut sluis, user, phone, -120, "en").await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{refused:?}");
    }
    awaited(&sluis, "sluis_code_drift_seconds", |secs| secs == -120).await;
}

/// [E8] A clock that is set by hand while Sluis runs is noticed.
#[tokio::test]
async fn e8_a_jump_of_the_clock_is_counted() {
    let app = Demo::start();
    let mut sluis = Sluis::start(&care_records(app.address));
    assert_eq!(metric(&sluis, "sluis_clock_jumps_total").await, 0);
    let (_, text) = ready(&sluis).await;
    assert!(text.contains("[+]clock ok"), "{text}");
    sluis.clock.advance(Duration::from_secs(3600));
    awaited(&sluis, "sluis_clock_jumps_total", |jumps| jumps == 1).await;
    sluis
        .process
        .await_line("a warning", |line| line.contains("the clock of this server jumped").then_some(()));
    let (status, text) = ready(&sluis).await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains("[!]clock doubtful: it jumped by 3"), "{text}");
}

//! Recovery codes through the real binary.

use std::time::Duration;

use reqwest::StatusCode;

use crate::support::{
    Browser,
    fleet::{Fleet, on_redis},
    jar::Answer,
    redis::Redis,
};

async fn recover(browser: &mut Browser, code: &str) -> Answer {
    browser.post("/login", &[("username", "anna"), ("password", "anna-secret")]).await;
    let token = browser.get("/.sluis/challenge?method=recovery").await.field("token");
    browser.post("/.sluis/challenge", &[("token", &token), ("method", "recovery"), ("code", code)]).await
}

/// [A11 I4] Two replicas on Redis: of one code at both at once one lets in, each used one is used everywhere, also after a
/// `kill -9`, and a reset ends the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a11_i4_a_recovery_code_is_good_once_over_replicas() {
    let redis = Redis::start();
    let mut fleet = Fleet::start(2, |_| on_redis(redis.address()), "");
    let (here, _) = fleet.enrolled(0, "anna").await;
    for sluis in &mut fleet.replicas {
        sluis.restart_with("methods: [totp]", "methods: [totp, recovery]");
    }
    let mut here_again = fleet.at(0, &here);
    let page = here_again.get("/.sluis/recovery").await;
    let token = page.field("token");
    let made = here_again.post("/.sluis/recovery", &[("token", &token)]).await;
    assert_eq!(made.status, StatusCode::OK, "{made:?}");
    let codes: Vec<String> = made
        .body
        .split("<code translate=\"no\">")
        .skip(1)
        .map(|rest| rest.split('<').next().unwrap().to_owned())
        .collect();
    assert_eq!(codes.len(), 10);
    for code in &codes[..4] {
        let (mut one, mut two) = (fleet.browser(0), fleet.browser(1));
        let answers = tokio::join!(recover(&mut one, code), recover(&mut two, code));
        let inside = [answers.0.status, answers.1.status].iter().filter(|s| **s == StatusCode::OK).count();
        assert_eq!(inside, 1, "{answers:?}");
        let in_app = [one.get("/").await.status, two.get("/").await.status];
        assert_eq!(in_app.iter().filter(|s| **s == StatusCode::OK).count(), 1);
    }
    fleet.replicas[1].restart();
    let mut late = fleet.browser(1);
    assert_eq!(recover(&mut late, &codes[0]).await.status, StatusCode::UNPROCESSABLE_ENTITY);

    fleet.later(Duration::from_secs(60));
    assert!(fleet.replicas[0].cli(&["user", "reset", "anna", "--yes"]).status.success());
    let mut after = fleet.browser(1);
    after.post("/login", &[("username", "anna"), ("password", "anna-secret")]).await;
    let page = after.get("/.sluis/challenge?method=recovery").await;
    assert!(page.location().ends_with("/.sluis/enrol"), "{page:?}");
}

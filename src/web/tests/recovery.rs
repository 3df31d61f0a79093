//! Recovery codes: shown once, each for one login, bounded like all codes, and gone with the authenticators.

use std::time::Duration;

use axum::http::StatusCode;
use regex::Regex;

use super::house::{Answer, Browser, House};
use crate::{
    base::clock::Clock,
    config::{
        App,
        app::{Requirement, Rule, Then},
        sample,
    },
    model::{Method, MethodSet},
};

const RECOVERY: &str = "/.sluis/recovery";
const CHALLENGE: &str = "/.sluis/challenge";

fn with_recovery() -> App {
    let mut app = sample::app();
    let hours = sample::requirement(Duration::from_secs(12 * 3600), false);
    let methods = MethodSet::of(Method::Totp).with(Method::Recovery);
    let requirement = Requirement { methods, ..hours };
    app.policy = vec![Rule { users: vec![], networks: vec![], then: Then::Require(requirement) }];
    app
}

/// Anna, who has linked an app on the first page and is in.
async fn linked(house: &House) -> Browser {
    let mut anna = Browser::default();
    house.password(&mut anna, "anna", "/patients").await;
    let page = anna.get(house, "/.sluis/enrol").await;
    let code = house.code(&page.setup_key());
    let fields = [("token", page.token()), ("code", code), ("name", "Phone".to_owned())];
    let done = anna.post(house, "/.sluis/enrol", &fields).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.body);
    assert!(done.body.contains("href=\"/.sluis/recovery\"") && done.body.contains("href=\"/patients\""));
    anna
}

async fn make(house: &House, browser: &mut Browser) -> Vec<String> {
    let page = browser.get(house, RECOVERY).await;
    let made = browser.post(house, RECOVERY, &[("token", page.token())]).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.body);
    let code = Regex::new("<code translate=\"no\">([A-Z2-7-]{29})</code>").unwrap();
    let codes: Vec<String> = code.captures_iter(&made.body).map(|c| c[1].to_owned()).collect();
    assert_eq!(codes.len(), 10);
    assert_eq!(made.headers["cache-control"], "no-store");
    codes
}

/// Somebody who knows Anna's password, on another browser.
async fn elsewhere(house: &House) -> Browser {
    let mut other = Browser::default();
    house.password(&mut other, "anna", "/").await;
    other
}

async fn recover(house: &House, browser: &mut Browser, code: &str) -> Answer {
    let page = browser.get(house, &format!("{CHALLENGE}?method=recovery")).await;
    let method = ("method", "recovery".to_owned());
    browser.post(house, CHALLENGE, &[("token", page.token()), method, ("code", code.to_owned())]).await
}

/// [A11 I4] In by another way, once; it is not remembered on the device, and the user is told how many are left.
#[tokio::test]
async fn a11_i4_a_recovery_code_lets_in_once_and_is_not_remembered() {
    let house = House::of(with_recovery()).await;
    let mut anna = linked(&house).await;
    let codes = make(&house, &mut anna).await;
    let again = anna.get(&house, RECOVERY).await;
    assert!(codes.iter().all(|code| !again.body.contains(code.as_str())), "shown once");

    let mut other = elsewhere(&house).await;
    let page = other.get(&house, CHALLENGE).await;
    assert!(page.body.contains("href=\"/.sluis/challenge?method=recovery\""), "another way is offered");
    let typed = codes[3].to_lowercase().replace('-', " ");
    let entered = recover(&house, &mut other, &typed).await;
    assert_eq!(entered.status, StatusCode::OK, "{}", entered.body);
    assert!(entered.body.contains("9 codes are left"), "{}", entered.body);
    assert!(other.jar.contains_key("__Host-sluis-session") && !other.jar.contains_key("__Host-sluis-trust"));

    let mut third = elsewhere(&house).await;
    let used = recover(&house, &mut third, &codes[3]).await;
    assert_eq!(used.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(used.body.contains("used already"), "{}", used.body);
    assert!(anna.get(&house, RECOVERY).await.body.contains("9 codes are left"), "used ones are seen");
    assert_eq!(house.metric(r#"sluis_challenges_total{method="recovery",outcome="passed"}"#), 1.0);
    let lines = house.lines();
    assert!(lines.iter().any(|l| l["event"] == "recovery_codes_made"));
    assert!(lines.iter().any(|l| l["event"] == "second_factor_passed" && l["method"] == "recovery"));
}

/// [I4] One code sent by sixteen browsers at once lets one in.
#[tokio::test]
async fn i4_one_recovery_code_in_many_browsers_lets_one_in() {
    let house = House::of(with_recovery()).await;
    let mut anna = linked(&house).await;
    let codes = make(&house, &mut anna).await;
    let (mut one, mut two) = (elsewhere(&house).await, elsewhere(&house).await);
    let answers = tokio::join!(recover(&house, &mut one, &codes[0]), recover(&house, &mut two, &codes[0]));
    let inside = [answers.0.status, answers.1.status].iter().filter(|s| **s == StatusCode::OK).count();
    assert_eq!(inside, 1);
}

/// [I8] Guesses of all kinds are counted together; a right code has to wait like any other.
#[tokio::test]
async fn i8_wrong_recovery_codes_count_with_wrong_app_codes() {
    let house = House::of(with_recovery()).await;
    let mut anna = linked(&house).await;
    let codes = make(&house, &mut anna).await;
    let mut other = elsewhere(&house).await;
    for number in 0..5 {
        let answer = if number % 2 == 0 {
            recover(&house, &mut other, "AAAA-AAAA-AAAA-AAAA-AAAA-AAAA").await
        } else {
            let token = other.get(&house, CHALLENGE).await.token();
            other.post(&house, CHALLENGE, &[("token", token), ("code", "000000".to_owned())]).await
        };
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{number}");
    }
    assert_eq!(recover(&house, &mut other, &codes[0]).await.status, StatusCode::TOO_MANY_REQUESTS);
    house.clock.advance(Duration::from_secs(31));
    assert_eq!(recover(&house, &mut other, &codes[0]).await.status, StatusCode::OK, "it was not spent");
}

/// New codes end older ones; a reset ends all, also for whoever links an authenticator again; and nobody else's codes count.
#[tokio::test]
async fn recovery_codes_end_with_newer_ones_and_with_their_authenticators() {
    let house = House::of(with_recovery()).await;
    let mut anna = linked(&house).await;
    let old = make(&house, &mut anna).await;
    let new = make(&house, &mut anna).await;
    let mut other = elsewhere(&house).await;
    assert_eq!(recover(&house, &mut other, &old[0]).await.status, StatusCode::UNPROCESSABLE_ENTITY);

    let now = house.clock.now();
    let removed = house.store.reset(&house.user("anna"), now, now.plus(Duration::from_secs(86_400))).await;
    assert_eq!(removed.unwrap(), 1);
    house.clock.advance(Duration::from_secs(60));
    let mut after = elsewhere(&house).await;
    let page = after.get(&house, CHALLENGE).await;
    assert_eq!(page.location(), "/.sluis/enrol", "no way is open");
    let mut again = linked(&house).await;
    let mut thief = elsewhere(&house).await;
    let page = thief.get(&house, CHALLENGE).await;
    assert!(!page.body.contains("method=recovery"), "those of before do not come back: {}", page.body);
    let fields = [("token", page.token()), ("method", "recovery".to_owned()), ("code", new[0].clone())];
    let refused = thief.post(&house, CHALLENGE, &fields).await;
    assert_eq!(refused.location(), "/.sluis/challenge", "{}", refused.body);
    assert!(!thief.jar.contains_key("__Host-sluis-session"));
    assert!(again.get(&house, RECOVERY).await.body.contains("Make recovery codes"));
}

/// Where policy does not name them they do not count, and cannot be made; with a proof that is not fresh, they cannot either.
#[tokio::test]
async fn recovery_codes_count_by_policy_and_are_made_with_a_fresh_factor() {
    let house = House::of(with_recovery()).await;
    let mut anna = linked(&house).await;
    let codes = make(&house, &mut anna).await;
    let token = anna.get(&house, RECOVERY).await.token();
    house.clock.advance(Duration::from_secs(6 * 60));
    let late = anna.post(&house, RECOVERY, &[("token", token)]).await;
    assert_eq!((late.status, late.location()), (StatusCode::SEE_OTHER, "/.sluis/challenge"));

    let strict = House::with(sample::app(), house.store.clone()).await;
    strict.clock.advance(Duration::from_secs(6 * 60));
    let mut other = elsewhere(&strict).await;
    let page = other.get(&strict, &format!("{CHALLENGE}?method=recovery")).await;
    assert!(!page.body.contains("value=\"recovery\"") && !page.body.contains("method=recovery"));
    let fields = [("token", page.token()), ("method", "recovery".to_owned()), ("code", codes[0].clone())];
    assert_eq!(other.post(&strict, CHALLENGE, &fields).await.status, StatusCode::FORBIDDEN);
    let fields = [("token", page.token()), ("method", "push".to_owned()), ("code", codes[0].clone())];
    assert_eq!(other.post(&strict, CHALLENGE, &fields).await.status, StatusCode::BAD_REQUEST);
}

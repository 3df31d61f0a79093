//! Emergency access: in at once, for a while, once for each code, and never without a trace.

use std::time::Duration;

use axum::http::StatusCode;

use super::house::{Answer, Browser, House};
use crate::{
    base::{clock::Clock, random::SystemRandom},
    config::{
        App,
        app::{BreakGlass, Rule, Then},
        sample,
    },
    factor::shown_once,
    model::{Profile, Sealed},
    store::documents,
};

const EMERGENCY: &str = "/.sluis/emergency";
const REASON: &str = "No phone, patient in shock";

fn with_break_glass() -> App {
    let mut app = sample::app();
    // Whatever is proved is remembered, and judged again each time: nothing of that helps or harms here.
    let requirement = sample::requirement(Duration::from_secs(12 * 3600), true);
    app.policy = vec![Rule { users: vec![], networks: vec![], then: Then::Require(requirement) }];
    app.break_glass = Some(BreakGlass { reason_required: true, max: Duration::from_secs(1800) });
    app
}

/// An administrator prepares codes that live for a day.
async fn prepare(house: &House, user: &str, count: usize) -> Vec<String> {
    let made = house.clock.now();
    let until = made.plus(Duration::from_secs(24 * 3600));
    let shown: Vec<_> = (0..count).map(|_| shown_once::draw(&SystemRandom).unwrap()).collect();
    documents::change_profile(house.store.as_ref(), &house.user(user), |kept| {
        let emergency = shown.iter().map(|s| Sealed { hash: s.hash.clone(), made, until }).collect();
        (Some(Profile { emergency, ..kept.clone() }), ())
    })
    .await
    .unwrap();
    shown.into_iter().map(|shown| shown.code).collect()
}

async fn get_in(house: &House, browser: &mut Browser, code: &str, reason: &str) -> Answer {
    let token = browser.get(house, EMERGENCY).await.token();
    let fields = [("token", token), ("emergency", code.to_owned()), ("reason", reason.to_owned())];
    browser.post(house, EMERGENCY, &fields).await
}

async fn is_in(house: &House, browser: &Browser) -> bool {
    browser.clone().get(house, "/.sluis/me").await.status == StatusCode::OK
}

/// The reason is in the log before the session exists; the session ends by itself, and leaves no trust.
#[tokio::test]
async fn a_code_and_a_reason_get_in_for_a_while() {
    let house = House::of(with_break_glass()).await;
    house.verified("anna").await;
    let codes = prepare(&house, "anna", 2).await;
    let mut anna = Browser::default();
    house.password(&mut anna, "anna", "/patients?id=7").await;
    assert!(anna.get(&house, "/.sluis/challenge").await.body.contains("href=\"/.sluis/emergency\""));

    let short = get_in(&house, &mut anna, &codes[0], "too  short").await;
    assert_eq!(short.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(short.body.contains("Say why") && short.body.contains("too  short"), "{}", short.body);
    let wrong = get_in(&house, &mut anna, "AAAA-BBBB", REASON).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.body.contains(REASON), "what was typed is not lost");
    let done = get_in(&house, &mut anna, &codes[0], REASON).await;
    assert_eq!((done.status, done.location()), (StatusCode::SEE_OTHER, "/patients?id=7"), "{}", done.body);
    assert_eq!(anna.jar.keys().collect::<Vec<_>>(), ["__Host-sluis-device", "__Host-sluis-session"]);
    let origin = house.pages.names.find(std::iter::once(anna.cookie_line().as_bytes())).map(|own| {
        let live = house.pages.standings.session(&house.app, &own, house.clock.now()).unwrap();
        (live.session().emergency_until, live.session().proved_at, live.session().methods)
    });
    let (until, proved_at, methods) = origin.unwrap();
    assert_eq!(until, Some(house.clock.now().plus(Duration::from_secs(1800))));
    assert!(proved_at.is_none() && methods.is_empty(), "it proves nothing");

    // What outlasts it needs more than that.
    let remove = anna.clone().get(&house, "/.sluis/enrol").await;
    assert_eq!(remove.location(), "/.sluis/challenge");
    house.clock.advance(Duration::from_secs(1799));
    assert!(is_in(&house, &anna).await);
    house.clock.advance(Duration::from_secs(1));
    let over = anna.get(&house, "/.sluis/me").await;
    assert_eq!(over.status, StatusCode::FORBIDDEN, "it ends, and is no step-up");
    assert!(over.body.contains("Log in again"), "{}", over.body);
    house.password(&mut anna, "anna", "/").await;
    assert!(!anna.jar.contains_key("__Host-sluis-session"), "nothing is remembered");

    assert_eq!(get_in(&house, &mut anna, &codes[0], REASON).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(get_in(&house, &mut anna, &codes[1], REASON).await.status, StatusCode::SEE_OTHER);
    assert_eq!(house.metric(r#"sluis_sessions_started_total{app="care",ground="emergency"}"#), 2.0);
    let lines = house.lines();
    let at = |event: &str| lines.iter().position(|line| line["event"] == event).unwrap();
    assert!(at("emergency_refused") < at("emergency_used"));
    let used = &lines[at("emergency_used")];
    assert_eq!((&used["reason"], &used["user"]), (&REASON.into(), &"anna".into()));
    let begun = &lines[at("emergency_used") + 1];
    assert_eq!((&begun["event"], &begun["detail"]), (&"session_started".into(), &"emergency".into()));
}

/// [A10 I3] Who gets in on somebody's browser takes it over, by this way as by any other.
#[tokio::test]
async fn i3_emergency_access_takes_the_device() {
    let house = House::of(with_break_glass()).await;
    let (mut browser, _) = house.verified("anna").await;
    let annas = browser.clone();
    let codes = prepare(&house, "bram", 1).await;
    house.password(&mut browser, "bram", "/").await;
    assert_eq!(get_in(&house, &mut browser, &codes[0], REASON).await.status, StatusCode::SEE_OTHER);
    assert!(!is_in(&house, &annas).await);
    assert_eq!(house.metric(r#"sluis_takeovers_total{app="care"}"#), 1.0);
}

/// [I8 I4] Counted like all codes; and of one code in two browsers, one gets in.
#[tokio::test]
async fn i8_emergency_codes_are_bounded_and_single() {
    let house = House::of(with_break_glass()).await;
    let codes = prepare(&house, "anna", 1).await;
    let brams = prepare(&house, "bram", 1).await;
    let mut anna = Browser::default();
    house.password(&mut anna, "anna", "/").await;
    for _ in 0..5 {
        let wrong = get_in(&house, &mut anna, &brams[0], REASON).await;
        assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY, "another's is none");
    }
    let wait = get_in(&house, &mut anna, &codes[0], REASON).await;
    assert_eq!(wait.status, StatusCode::TOO_MANY_REQUESTS);
    house.clock.advance(Duration::from_secs(31));
    let mut other = Browser::default();
    house.password(&mut other, "anna", "/").await;
    let answers = tokio::join!(
        get_in(&house, &mut anna, &codes[0], REASON),
        get_in(&house, &mut other, &codes[0], REASON)
    );
    let inside = [answers.0.status, answers.1.status].iter().filter(|s| **s == StatusCode::SEE_OTHER).count();
    assert_eq!(inside, 1);
}

/// Nobody learns whether there are codes; where the app has none of this there is no such page; and a running session
/// proves more, never less.
#[tokio::test]
async fn the_way_is_shown_to_everybody_or_to_nobody() {
    let house = House::of(with_break_glass()).await;
    let (mut anna, _) = house.verified("anna").await;
    let mut other = Browser::default();
    house.password(&mut other, "anna", "/").await;
    assert!(other.get(&house, "/.sluis/challenge").await.body.contains("Emergency access"), "without codes");
    assert_eq!(other.get(&house, EMERGENCY).await.status, StatusCode::OK);

    house.clock.advance(Duration::from_secs(6 * 60));
    anna.get(&house, "/.sluis/enrol").await;
    let page = anna.get(&house, "/.sluis/challenge").await;
    assert!(
        page.body.contains("Confirm that it is you") && !page.body.contains("Emergency"),
        "{}",
        page.body
    );
    assert_eq!(anna.get(&house, EMERGENCY).await.location(), "/.sluis/challenge");

    let house = House::new().await;
    house.verified("anna").await;
    let mut other = Browser::default();
    house.password(&mut other, "anna", "/").await;
    let page = other.get(&house, "/.sluis/challenge").await;
    assert!(!page.body.contains("Emergency"));
    assert_eq!(other.get(&house, EMERGENCY).await.status, StatusCode::NOT_FOUND);
    assert_eq!(other.post(&house, EMERGENCY, &[]).await.status, StatusCode::NOT_FOUND);
}

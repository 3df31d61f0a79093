//! Linking a first authenticator where policy asks an administrator's invitation.

use std::time::Duration;

use axum::http::StatusCode;

use super::house::{Answer, Browser, House};
use crate::{
    base::{clock::Clock, random::SystemRandom},
    config::{
        App,
        app::{Enrol, Then},
        sample,
    },
    factor::shown_once,
    model::{Invite, Profile},
    store::documents,
};

const INVITATION: &str = "/.sluis/invitation";
const ENROL: &str = "/.sluis/enrol";

fn by_invitation() -> App {
    let mut app = sample::app();
    for rule in &mut app.policy {
        if let Then::Require(requirement) = &mut rule.then {
            requirement.enrol = Enrol::Invite;
        }
    }
    app
}

/// An administrator makes an invitation that lives for a day.
async fn invite(house: &House, user: &str) -> String {
    let shown = shown_once::draw(&SystemRandom).unwrap();
    let until = house.clock.now().plus(Duration::from_secs(24 * 3600));
    documents::change_profile(house.store.as_ref(), &house.user(user), |kept| {
        let invite = Some(Invite { hash: shown.hash.clone(), until });
        (Some(Profile { invite, ..kept.clone() }), ())
    })
    .await
    .unwrap();
    shown.code
}

async fn show(house: &House, browser: &mut Browser, code: &str) -> Answer {
    let token = browser.get(house, INVITATION).await.token();
    browser.post(house, INVITATION, &[("token", token), ("activation", code.to_owned())]).await
}

async fn link(house: &House, browser: &mut Browser) -> Answer {
    let page = browser.get(house, ENROL).await;
    let fields = [("token", page.token()), ("code", house.code(&page.setup_key()))];
    browser.post(house, ENROL, &fields).await
}

async fn linked(house: &House, user: &str) -> usize {
    house.store.authenticators(&house.user(user)).await.unwrap().len()
}

/// [D11] From the password over the activation code to the QR code; who does not get to the end keeps the code.
#[tokio::test]
async fn an_invitation_links_one_authenticator_and_is_not_lost_on_the_way() {
    let house = House::of(by_invitation()).await;
    let code = invite(&house, "anna").await;
    let mut anna = Browser::default();
    house.password(&mut anna, "anna", "/patients?id=7").await;
    assert_eq!(anna.get(&house, "/.sluis/challenge").await.location(), ENROL);
    let answer = anna.get(&house, ENROL).await;
    assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, INVITATION));
    let page = anna.get(&house, INVITATION).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(!page.body.contains("otpauth"), "nothing to scan before the code");

    let empty = show(&house, &mut anna, " ").await;
    assert_eq!(empty.status, StatusCode::UNPROCESSABLE_ENTITY);
    let wrong = show(&house, &mut anna, "AAAA-BBBB-CCCC-DDDD-EEEE-FFFF").await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.body.contains("This activation code is not valid"), "{}", wrong.body);
    let right = show(&house, &mut anna, &code.to_lowercase().replace('-', " ")).await;
    assert_eq!((right.status, right.location()), (StatusCode::SEE_OTHER, ENROL), "{}", right.body);
    assert!(anna.get(&house, ENROL).await.body.contains("otpauth://"));

    // The phone is empty; tomorrow is another login.
    house.clock.advance(Duration::from_secs(3600));
    house.password(&mut anna, "anna", "/patients?id=7").await;
    assert_eq!(anna.get(&house, ENROL).await.location(), INVITATION, "each login shows it");
    assert_eq!(show(&house, &mut anna, &code).await.location(), ENROL, "it was not lost");
    let page = anna.get(&house, ENROL).await;
    let wrong = [("token", page.token()), ("code", "000000".to_owned())];
    assert_eq!(anna.post(&house, ENROL, &wrong).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    let done = link(&house, &mut anna).await;
    assert_eq!((done.status, done.location()), (StatusCode::SEE_OTHER, "/patients?id=7"), "{}", done.body);
    let profile = documents::profile(house.store.as_ref(), &house.user("anna")).await.unwrap();
    assert_eq!(profile.invite, None, "it is spent");
    assert_eq!(anna.get(&house, ENROL).await.status, StatusCode::OK, "one more needs the fresh proof alone");
    assert_eq!(house.metric(r#"sluis_enrolments_total{method="totp",outcome="not_invited"}"#), 1.0);
    assert_eq!(
        house.events(),
        [
            "invitation_refused",
            "second_factor_refused",
            "invitation_used",
            "authenticator_enrolled",
            "second_factor_passed",
            "session_started"
        ]
    );
}

/// [I4] Two browsers have shown one code before either has linked; the second finds it spent, also when the first one's
/// authenticator has gone again.
#[tokio::test]
async fn i4_one_invitation_makes_one_enrolment() {
    let house = House::of(by_invitation()).await;
    let code = invite(&house, "anna").await;
    let mut both = [Browser::default(), Browser::default()];
    for browser in &mut both {
        house.password(browser, "anna", "/").await;
        assert_eq!(show(&house, browser, &code).await.location(), ENROL);
    }
    let [first, second] = &mut both;
    let page = second.get(&house, ENROL).await;
    assert_eq!(link(&house, first).await.location(), "/");
    let kept = house.store.authenticators(&house.user("anna")).await.unwrap();
    house.store.remove(&house.user("anna"), kept[0].id).await.unwrap();
    let fields = [("token", page.token()), ("code", house.code(&page.setup_key()))];
    let late = second.post(&house, ENROL, &fields).await;
    assert_eq!((late.status, late.location()), (StatusCode::SEE_OTHER, INVITATION), "{}", late.body);
    assert!(!second.jar.contains_key("__Host-sluis-session"));
    assert_eq!(linked(&house, "anna").await, 0);
    assert_eq!(show(&house, second, &code).await.status, StatusCode::UNPROCESSABLE_ENTITY, "used");
}

#[tokio::test]
async fn an_invitation_that_was_replaced_or_has_ended_links_nothing() {
    let house = House::of(by_invitation()).await;
    let old = invite(&house, "anna").await;
    let mut anna = Browser::default();
    house.password(&mut anna, "anna", "/").await;
    assert_eq!(show(&house, &mut anna, &old).await.location(), ENROL);
    let new = invite(&house, "anna").await;
    assert_eq!(link(&house, &mut anna).await.location(), INVITATION, "replaced");
    house.next_code();
    assert_eq!(show(&house, &mut anna, &new).await.location(), ENROL);
    house.clock.advance(Duration::from_secs(24 * 3600));
    house.password(&mut anna, "anna", "/").await;
    assert_eq!(show(&house, &mut anna, &new).await.status, StatusCode::UNPROCESSABLE_ENTITY, "ended");
    assert_eq!(linked(&house, "anna").await, 0);
    // Nor does another's.
    let brams = invite(&house, "bram").await;
    assert_eq!(show(&house, &mut anna, &brams).await.status, StatusCode::UNPROCESSABLE_ENTITY);
}

/// [I8] Activation codes are counted like all others; then a right one waits as well.
#[tokio::test]
async fn i8_wrong_activation_codes_are_bounded() {
    let house = House::of(by_invitation()).await;
    let code = invite(&house, "anna").await;
    let mut anna = Browser::default();
    house.password(&mut anna, "anna", "/").await;
    for _ in 0..5 {
        assert_eq!(show(&house, &mut anna, "wrong").await.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(show(&house, &mut anna, &code).await.status, StatusCode::TOO_MANY_REQUESTS);
    house.clock.advance(Duration::from_secs(31));
    assert_eq!(show(&house, &mut anna, &code).await.location(), ENROL);
    assert_eq!(house.metric(r#"sluis_lockouts_total{kind="soft"}"#), 1.0);
}

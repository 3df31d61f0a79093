//! What a user does at `me`, and what nobody else can do there.

use std::time::Duration;

use axum::http::{Method, StatusCode, header};

use super::house::{Answer, Browser, House};
use crate::{
    config::{
        app::{Rule, Then},
        sample,
    },
    model::AuthenticatorId,
    store::documents,
};

const FIREFOX: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0";
const ME: &str = "/.sluis/me";
const REMOVE: &str = "/.sluis/me/remove";

/// Another browser of the same user, on Firefox at another address.
async fn elsewhere(house: &House, user: &str, key: &str) -> Browser {
    house.next_code();
    let client = "198.51.100.9".parse().unwrap();
    let mut browser = Browser { client, headers: vec![("user-agent", FIREFOX)], ..Browser::default() };
    house.password(&mut browser, user, "/").await;
    prove(house, &mut browser, key).await;
    browser
}

/// Passes the challenge that is pending; where it leads.
async fn prove(house: &House, browser: &mut Browser, key: &str) -> String {
    let page = browser.get(house, "/.sluis/challenge").await;
    let fields = [("token", page.token()), ("code", house.code(key))];
    let done = browser.post(house, "/.sluis/challenge", &fields).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    done.location().to_owned()
}

/// One more authenticator, right after the first.
async fn add(house: &House, browser: &mut Browser, name: &str) -> String {
    let page = browser.get(house, "/.sluis/enrol").await;
    let key = page.setup_key();
    let fields = [("token", page.token()), ("code", house.code(&key)), ("name", name.to_owned())];
    assert_eq!(browser.post(house, "/.sluis/enrol", &fields).await.status, StatusCode::OK);
    key
}

/// Presses a button of the page.
async fn press(house: &House, browser: &mut Browser, fields: &[(&str, &str)]) -> Answer {
    let token = browser.get(house, ME).await.token();
    let fields: Vec<_> = [("token", token.as_str())].iter().chain(fields).copied().collect();
    let fields: Vec<_> = fields.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
    browser.post(house, ME, &fields).await
}

async fn is_in(house: &House, browser: &Browser) -> bool {
    browser.clone().get(house, ME).await.status == StatusCode::OK
}

/// The values of a hidden or radio field, in their order.
fn values(answer: &Answer, name: &str) -> Vec<String> {
    let pattern = regex::Regex::new(&format!(r#"name="{name}" value="([^"]+)""#)).unwrap();
    pattern.captures_iter(&answer.body).map(|found| found[1].to_owned()).collect()
}

async fn ids(house: &House, user: &str) -> Vec<AuthenticatorId> {
    house.store.authenticators(&house.user(user)).await.unwrap().iter().map(|a| a.id).collect()
}

async fn sessions(house: &House, user: &str) -> usize {
    house.pages.admissions.sessions_of(&house.user(user)).await.unwrap().len()
}

#[tokio::test]
async fn a_user_sees_own_authenticators_and_sessions_and_no_others() {
    let house = House::new().await;
    let (mut anna, key) = house.verified("anna").await;
    add(&house, &mut anna, "Tablet").await;
    let _other = elsewhere(&house, "anna", &key).await;
    let (mut bram, _) = house.verified("bram").await;
    let page = anna.get(&house, ME).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    for shown in ["Phone", "Tablet", "Firefox, Windows", "198.51.100.9", "192.0.2.7", "this device", "Care"] {
        assert!(page.body.contains(shown), "{shown} in {}", page.body);
    }
    assert_eq!(values(&page, "session").len(), 1, "no button for this one");
    assert!(!page.body.contains("name=\"preferred\""), "of one method there is nothing to choose");
    assert_eq!(page.headers[header::CACHE_CONTROL], "no-store");
    let page = bram.get(&house, ME).await;
    assert!(!page.body.contains("Tablet") && !page.body.contains("Firefox"), "{}", page.body);
    assert!(!page.body.contains("me/remove"), "of one there is none to remove");
}

/// [C7] Others end, this one goes on; nobody ends another's session by naming it.
#[tokio::test]
async fn one_session_or_all_others_are_signed_out() {
    let house = House::new().await;
    let (mut anna, key) = house.verified("anna").await;
    let other = elsewhere(&house, "anna", &key).await;
    let third = elsewhere(&house, "anna", &key).await;
    let (bram, _) = house.verified("bram").await;
    let brams = house.pages.admissions.sessions_of(&house.user("bram")).await.unwrap()[0].id.to_string();
    let page = anna.get(&house, ME).await;
    let listed = values(&page, "session");
    assert_eq!(listed.len(), 2, "the newest first");

    let answer = press(&house, &mut anna, &[("do", "sign-out"), ("session", &listed[0])]).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    let done = anna.get(&house, answer.location()).await;
    assert!(done.body.contains("That device has been logged out"), "{}", done.body);
    assert!(!is_in(&house, &third).await && is_in(&house, &other).await && is_in(&house, &anna).await);

    for id in [brams.as_str(), &listed[0]] {
        let answer = press(&house, &mut anna, &[("do", "sign-out"), ("session", id)]).await;
        assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, ME), "nothing was done");
    }
    assert!(is_in(&house, &bram).await, "not hers to end");
    let own = anna.get(&house, ME).await;
    assert_eq!(values(&own, "session"), listed[1..]);
    for wrong in ["", "x", &"0".repeat(31)] {
        let answer = press(&house, &mut anna, &[("do", "sign-out"), ("session", wrong)]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}");
    }

    let fourth = elsewhere(&house, "anna", &key).await;
    let answer = press(&house, &mut anna, &[("do", "sign-out-others")]).await;
    assert!(anna.get(&house, answer.location()).await.body.contains("everywhere else"));
    assert!(!is_in(&house, &other).await && !is_in(&house, &fourth).await && is_in(&house, &anna).await);
    assert_eq!(sessions(&house, "anna").await, 1);
    assert_eq!(house.metric(r#"sluis_sessions_ended_total{app="care"}"#), 3.0);
    let events = house.events();
    assert_eq!(events.iter().filter(|e| *e == "session_ended").count(), 3);
}

#[tokio::test]
async fn everywhere_is_here_too_and_forgets_the_devices() {
    let mut app = sample::app();
    let requirement = sample::requirement(Duration::from_secs(12 * 3600), false);
    app.policy = vec![Rule { users: vec![], networks: vec![], then: Then::Require(requirement) }];
    let house = House::of(app).await;
    let (mut anna, key) = house.verified("anna").await;
    let mut other = elsewhere(&house, "anna", &key).await;
    let copy = anna.clone();
    let answer = press(&house, &mut anna, &[("do", "sign-out-everywhere")]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert!(answer.body.contains("You are logged out everywhere"));
    assert_eq!(anna.jar.keys().collect::<Vec<_>>(), ["__Host-sluis-device"]);
    for browser in [&copy, &other] {
        assert!(!is_in(&house, browser).await);
    }
    house.clock.advance(Duration::from_secs(1));
    house.password(&mut other, "anna", "/").await;
    assert!(!other.jar.contains_key("__Host-sluis-session"), "the trust is void");
    assert!(house.events().contains(&"user_signed_out".to_owned()));
}

#[tokio::test]
async fn an_authenticator_gets_a_name_that_is_fit_to_be_shown() {
    let house = House::new().await;
    let (mut anna, _) = house.verified("anna").await;
    house.verified("bram").await;
    let annas = ids(&house, "anna").await[0].to_string();
    let brams = ids(&house, "bram").await[0].to_string();
    let rename = |id: &str, name: &str| {
        [("do", "rename"), ("authenticator", id), ("name", name)].map(|(n, v)| (n, v.to_owned()))
    };
    for (id, typed, location_is_me) in
        [(&annas, "Work\u{202e} <b>phone</b>\n", false), (&annas, "  ", true), (&brams, "mine", true)]
    {
        let fields = rename(id, typed);
        let fields: Vec<_> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let answer = press(&house, &mut anna, &fields).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        assert_eq!(answer.location() == ME, location_is_me, "{typed:?}: {}", answer.location());
    }
    let page = anna.get(&house, ME).await;
    assert!(page.body.contains("Work &#60;b&#62;phone"), "{}", page.body);
    let kept = house.store.authenticators(&house.user("bram")).await.unwrap();
    assert_eq!(kept[0].name, "Phone", "not hers");
    assert_eq!(house.events().iter().filter(|e| *e == "authenticator_renamed").count(), 1);
}

/// [D11] Removing needs a second factor of the last minutes; a stolen session and an hour are not enough.
#[tokio::test]
async fn a_stolen_session_neither_removes_nor_adds_an_authenticator() {
    let house = House::new().await;
    let (mut anna, key) = house.verified("anna").await;
    add(&house, &mut anna, "Tablet").await;
    let mut thief = anna.clone();
    let token = thief.get(&house, REMOVE).await.token();
    let id = ids(&house, "anna").await[0].to_string();
    house.clock.advance(Duration::from_secs(6 * 60));
    // The owner proves herself again; the copy of her cookies has no part in that.
    assert_eq!(anna.get(&house, REMOVE).await.location(), "/.sluis/challenge");
    assert_eq!(prove(&house, &mut anna, &key).await, REMOVE, "and is back where she was");
    assert_eq!(anna.get(&house, REMOVE).await.status, StatusCode::OK);
    for _ in 0..2 {
        let fields = [("token", token.clone()), ("authenticator", id.clone())];
        let answer = thief.post(&house, REMOVE, &fields).await;
        assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/.sluis/challenge"));
        for page in [REMOVE, "/.sluis/enrol"] {
            thief.jar.remove("__Host-sluis-login");
            let answer = thief.get(&house, page).await;
            assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/.sluis/challenge"));
        }
        thief.jar.remove("__Host-sluis-login");
    }
    assert_eq!(ids(&house, "anna").await.len(), 2);
}

/// [C7] What rests on a removed authenticator is void everywhere: sessions, trusts, and this very session.
#[tokio::test]
async fn removing_an_authenticator_voids_all_that_may_rest_on_it() {
    let mut app = sample::app();
    let requirement = sample::requirement(Duration::from_secs(12 * 3600), false);
    app.policy = vec![Rule { users: vec![], networks: vec![], then: Then::Require(requirement) }];
    let house = House::of(app).await;
    let (mut anna, lost) = house.verified("anna").await;
    let tablet = add(&house, &mut anna, "Tablet").await;
    let mut other = elsewhere(&house, "anna", &lost).await;
    let copy = anna.clone();
    let page = anna.get(&house, REMOVE).await;
    assert!(page.body.contains("Phone") && page.body.contains("Tablet"), "{}", page.body);
    let chosen = values(&page, "authenticator");
    let none = anna.post(&house, REMOVE, &[("token", page.token())]).await;
    assert_eq!((none.status, none.location()), (StatusCode::SEE_OTHER, REMOVE), "nothing was chosen");
    let fields = [("token", page.token()), ("authenticator", chosen[0].clone())];
    let done = anna.post(&house, REMOVE, &fields).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.body);
    assert!(done.body.contains("The authenticator has been removed"), "{}", done.body);
    let left = house.store.authenticators(&house.user("anna")).await.unwrap();
    assert_eq!(left.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["Tablet"]);
    for browser in [&anna, &copy, &other] {
        assert!(!is_in(&house, browser).await);
    }
    house.next_code();
    house.password(&mut other, "anna", "/").await;
    assert!(!other.jar.contains_key("__Host-sluis-session"), "the trust is void");
    let page = other.get(&house, "/.sluis/challenge").await;
    let stale = [("token", page.token()), ("code", house.code(&lost))];
    assert_eq!(
        other.post(&house, "/.sluis/challenge", &stale).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    prove(&house, &mut other, &tablet).await;
    assert!(is_in(&house, &other).await, "with the other one she is in");
    assert!(house.events().contains(&"authenticator_removed".to_owned()));
}

#[tokio::test]
async fn the_last_authenticator_stays() {
    let house = House::new().await;
    let (mut anna, _) = house.verified("anna").await;
    let page = anna.get(&house, REMOVE).await;
    assert!(page.body.contains("You need this authenticator"), "{}", page.body);
    // A form from when there were two.
    add(&house, &mut anna, "Tablet").await;
    let token = anna.get(&house, REMOVE).await.token();
    let all = ids(&house, "anna").await;
    house.store.remove(&house.user("anna"), all[0]).await.unwrap();
    let fields = [("token", token), ("authenticator", all[1].to_string())];
    assert_eq!(anna.post(&house, REMOVE, &fields).await.status, StatusCode::CONFLICT);
    assert_eq!(ids(&house, "anna").await, all[1..]);
    assert!(is_in(&house, &anna).await, "and nothing has ended for it");
}

/// [D17] A script in the app shares our origin, and neither reads this page nor presses its buttons.
#[tokio::test]
async fn a_script_of_the_app_neither_reads_nor_changes_anything() {
    let house = House::new().await;
    let (mut anna, _) = house.verified("anna").await;
    add(&house, &mut anna, "Tablet").await;
    let token = anna.get(&house, ME).await.token();
    let remove = anna.get(&house, REMOVE).await.token();
    let id = ids(&house, "anna").await[0].to_string();
    anna.headers = vec![("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")];
    for page in [ME, REMOVE] {
        let read = anna.get(&house, page).await;
        assert_eq!(read.status, StatusCode::FORBIDDEN);
        assert!(!read.body.contains("Tablet"));
    }
    let fields = [("token", token), ("do", "sign-out-everywhere".to_owned())];
    assert_eq!(anna.post(&house, ME, &fields).await.status, StatusCode::FORBIDDEN);
    let fields = [("token", remove), ("authenticator", id)];
    assert_eq!(anna.post(&house, REMOVE, &fields).await.status, StatusCode::FORBIDDEN);
    anna.headers.clear();
    assert!(is_in(&house, &anna).await);
    assert_eq!(ids(&house, "anna").await.len(), 2);
}

#[tokio::test]
async fn the_language_of_messages_is_chosen() {
    let house = House::new().await;
    let (mut anna, _) = house.verified("anna").await;
    let language = async |house: &House| {
        documents::profile(house.store.as_ref(), &house.user("anna")).await.unwrap().language
    };
    let answer = press(&house, &mut anna, &[("do", "language"), ("language", "nl")]).await;
    let page = anna.get(&house, answer.location()).await;
    assert!(page.body.contains("<option value=\"nl\" selected>") && page.body.contains("has been saved"));
    assert_eq!(language(&house).await.as_deref(), Some("nl"));
    for (what, value) in [("language", "xx"), ("preferred", "email"), ("format-the-disk", "")] {
        let fields = [("do", what), ("language", value), ("preferred", value)];
        assert_eq!(press(&house, &mut anna, &fields).await.status, StatusCode::BAD_REQUEST, "{what}");
    }
    press(&house, &mut anna, &[("do", "language"), ("language", "")]).await;
    assert_eq!(language(&house).await, None);
    assert_eq!(house.events().iter().filter(|e| *e == "user_changed").count(), 2);
}

/// An address that somebody sends round says nothing in our name.
#[tokio::test]
async fn no_link_claims_that_something_was_done() {
    let house = House::new().await;
    let (mut anna, _) = house.verified("anna").await;
    let (mut bram, _) = house.verified("bram").await;
    let brams = press(&house, &mut bram, &[("do", "sign-out-others")]).await.location().to_owned();
    assert!(bram.get(&house, &brams).await.body.contains("role=\"status\""));
    for claim in [brams.as_str(), "/.sluis/me?done=me/saved", "/.sluis/me?done="] {
        assert!(!anna.get(&house, claim).await.body.contains("role=\"status\""), "{claim}");
    }
}

/// [I2] A session that is worth less than policy asks here proves itself first, as at the app.
#[tokio::test]
async fn a_session_begun_where_nothing_was_asked_must_prove_itself_elsewhere() {
    let mut app = sample::app();
    let exempt = Rule {
        users: Vec::new(),
        networks: vec!["192.0.2.0/24".parse().unwrap()],
        then: Then::Exempt { reason: "the ward".to_owned() },
    };
    app.policy.insert(0, exempt);
    let house = House::of(app).await;
    let mut anna = Browser::default();
    house.password(&mut anna, "anna", "/").await;
    assert_eq!(anna.get(&house, ME).await.status, StatusCode::OK, "on the ward");
    anna.client = "203.0.113.9".parse().unwrap();
    let answer = anna.get(&house, ME).await;
    assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/.sluis/challenge"));
    anna.jar.remove("__Host-sluis-login");
    let cross = [("sec-fetch-site", "cross-site")];
    let answer = anna.send(&house, Method::GET, ME, &cross, String::new()).await;
    assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/"), "no link from elsewhere");
}

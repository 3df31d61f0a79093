//! What users do themselves: authenticators, sessions, activation codes, emergency access.

use std::time::Duration;

use reqwest::StatusCode;

use crate::support::{
    Authenticator, Browser, Demo, Sluis,
    chromium::{Chromium, Look},
    fleet::{Fleet, on_redis},
    jar::Answer,
    redis::Redis,
    sluis::care_records,
};

const ME: &str = "/.sluis/me";
const SUBMIT: &str = "main form button:not([type=button])";

/// The values of a hidden field, in their order.
fn values(page: &Answer, name: &str) -> Vec<String> {
    let marker = format!("name=\"{name}\" value=\"");
    page.body.split(&marker).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

/// [C7] Two replicas: when the answer to "sign out" is there, the other session is dead at the other one too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_session_is_signed_out_everywhere_before_the_answer() {
    let redis = Redis::start();
    let fleet = Fleet::start(2, |_| on_redis(redis.address()), "");
    let (mut here, authenticator) = fleet.enrolled(0, "anna").await;
    for round in 0..20 {
        fleet.later(Duration::from_secs(61));
        let mut other = fleet.browser(1);
        fleet.log_in(&mut other, "anna", &authenticator).await;
        assert_eq!(other.get("/").await.status, StatusCode::OK, "round {round}");
        let page = here.get(ME).await;
        let sessions = values(&page, "session");
        assert_eq!(sessions.len(), 1, "round {round}: {}", page.body);
        let token = page.field("token");
        let act = if round % 2 == 0 { "sign-out" } else { "sign-out-others" };
        let done = here.post(ME, &[("token", &token), ("do", act), ("session", &sessions[0])]).await;
        let after = other.get("/").await;
        assert_eq!(done.status, StatusCode::SEE_OTHER, "{done:?}");
        assert_eq!((after.status, after.location()), (StatusCode::SEE_OTHER, "/login"), "round {round}");
        assert_eq!(here.get("/").await.status, StatusCode::OK, "and this one goes on");
    }
}

/// What rests on a removed authenticator is dead at every replica, and after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_authenticator_is_gone_everywhere() {
    let redis = Redis::start();
    let mut fleet = Fleet::start(2, |_| on_redis(redis.address()), "");
    let (mut here, lost) = fleet.enrolled(0, "anna").await;
    let page = here.get("/.sluis/enrol").await;
    let tablet = Authenticator::from_page(&page.body);
    let code = tablet.code_at(fleet.clock.now_secs());
    let token = page.field("token");
    let added = here.post("/.sluis/enrol", &[("token", &token), ("name", "Tablet"), ("code", &code)]).await;
    assert_eq!(added.status, StatusCode::OK, "{added:?}");
    fleet.later(Duration::from_secs(61));
    let mut other = fleet.browser(1);
    fleet.log_in(&mut other, "anna", &lost).await;
    let page = here.get("/.sluis/me/remove").await;
    let first = values(&page, "authenticator").remove(0);
    let token = page.field("token");
    let removed = here.post("/.sluis/me/remove", &[("token", &token), ("authenticator", &first)]).await;
    let after = other.get("/").await;
    assert_eq!(removed.status, StatusCode::OK, "{removed:?}");
    assert_eq!(after.location(), "/login", "dead at the other replica");
    fleet.replicas[1].restart();
    fleet.later(Duration::from_secs(61));
    let mut again = fleet.browser(1);
    let refused = fleet.log_in(&mut again, "anna", &lost).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "its codes are worth nothing");
    let entered = fleet.log_in(&mut again, "anna", &tablet).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
}

async fn password(chromium: &Chromium, sluis: &Sluis, user: &str) {
    chromium.driver.goto(format!("{}/login", sluis.origin())).await.unwrap();
    chromium.fill("input[name=username]", user).await;
    chromium.fill("input[name=password]", &format!("{user}-secret")).await;
    chromium.press(SUBMIT).await;
}

/// Links what the page of the browser shows, under a name.
async fn link(chromium: &Chromium, sluis: &Sluis, name: &str) -> Authenticator {
    let authenticator = Authenticator::from_page(&chromium.source().await);
    chromium.fill("input[name=name]", name).await;
    chromium.fill("input[name=code]", &authenticator.code_at(sluis.clock.now_secs())).await;
    chromium.press(SUBMIT).await;
    authenticator
}

async fn sound(chromium: &Chromium, look: Look) {
    if look.scripts {
        let path = chromium.path().await;
        assert_eq!(chromium.accessibility_faults().await, Vec::<String>::new(), "{path}");
    }
}

/// A whole life of an account: an activation code, two authenticators, a name, a language, one of them removed, and an
/// emergency; every page on the way is accessible.
async fn life(look: Look, words: [&str; 4]) {
    let app = Demo::start();
    let apps = care_records(app.address)
        .replace("validity: 12h", "validity: 12h, enrol: invite")
        .replace("    policy:", "    break_glass: { max: 15m }\n    policy:");
    let mut sluis = Sluis::start(&apps);
    let made = sluis.cli(&["user", "invite", "anna", "--days", "2", "--json"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();

    let chromium = Chromium::open(look).await;
    password(&chromium, &sluis, "anna").await;
    assert_eq!(chromium.path().await, "/.sluis/invitation");
    sound(&chromium, look).await;
    chromium.fill("input[name=activation]", "AAAA BBBB").await;
    chromium.press(SUBMIT).await;
    assert!(chromium.text().await.contains(words[0]), "{}", chromium.text().await);
    sound(&chromium, look).await;
    chromium.fill("input[name=activation]", &made["code"].as_str().unwrap().to_lowercase()).await;
    chromium.press(SUBMIT).await;
    assert_eq!(chromium.path().await, "/.sluis/enrol");
    link(&chromium, &sluis, "Phone").await;
    assert_eq!(chromium.path().await, "/");

    let me = format!("{}{ME}", sluis.origin());
    chromium.driver.goto(&me).await.unwrap();
    sound(&chromium, look).await;
    chromium.press("a[href='/.sluis/enrol']").await;
    let tablet = link(&chromium, &sluis, "Tablet").await;
    sound(&chromium, look).await;
    chromium.press("a[href='/.sluis/me']").await;
    let text = chromium.text().await;
    for shown in ["Phone", "Tablet", "Chrome", "Linux", "127.0.0.1", words[1]] {
        assert!(text.contains(shown), "{shown} in {text}");
    }
    chromium.driver.find(thirtyfour::By::Css("details summary")).await.unwrap().click().await.unwrap();
    sound(&chromium, look).await;
    chromium.fill("input[name=name]", "Old phone").await;
    chromium.press("details[open] button").await;
    assert!(chromium.text().await.contains("Old phone"));
    sound(&chromium, look).await;

    sluis.clock.advance(Duration::from_secs(6 * 60));
    chromium.press("a[href='/.sluis/me/remove']").await;
    assert_eq!(chromium.path().await, "/.sluis/challenge", "not without a fresh code");
    chromium.fill("input[name=code]", &tablet.code_at(sluis.clock.now_secs())).await;
    chromium.press(SUBMIT).await;
    assert_eq!(chromium.path().await, "/.sluis/me/remove");
    sound(&chromium, look).await;
    chromium.driver.find(thirtyfour::By::Css("input[type=radio]")).await.unwrap().click().await.unwrap();
    chromium.press(SUBMIT).await;
    assert!(chromium.text().await.contains(words[2]), "{}", chromium.text().await);
    sound(&chromium, look).await;

    // The tablet is at home.
    let made = sluis.cli(&["user", "emergency-codes", "anna", "--count", "1", "--days", "30", "--json"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    password(&chromium, &sluis, "anna").await;
    assert_eq!(chromium.path().await, "/.sluis/challenge");
    sound(&chromium, look).await;
    chromium.press("a[href='/.sluis/emergency']").await;
    sound(&chromium, look).await;
    chromium.fill("input[name=emergency]", made["codes"][0].as_str().unwrap()).await;
    chromium.fill("textarea", "short").await;
    chromium.press(SUBMIT).await;
    assert!(chromium.text().await.contains(words[3]), "{}", chromium.text().await);
    sound(&chromium, look).await;
    chromium.fill("input[name=emergency]", made["codes"][0].as_str().unwrap()).await;
    chromium.fill("textarea", "Tablet at home, client is ill").await;
    chromium.press(SUBMIT).await;
    assert_eq!(chromium.path().await, "/", "{}", chromium.text().await);
    sluis.clock.advance(Duration::from_secs(15 * 60));
    chromium.driver.goto(sluis.origin()).await.unwrap();
    assert_eq!(chromium.path().await, "/login", "and it is over");
    chromium.close().await;

    let audit = sluis.audit();
    let used = audit.iter().find(|line| line["event"] == "emergency_used").expect("recorded");
    assert_eq!(used["reason"], "Tablet at home, client is ill");
    for event in ["user_invited", "invitation_refused", "invitation_used", "authenticator_removed"] {
        assert!(audit.iter().any(|line| line["event"] == event), "{event}");
    }
    assert!(sluis.process.said().contains("emergency access was used"));
}

#[tokio::test]
async fn a_life_in_english_on_a_desktop() {
    let words = ["This activation code is not valid", "this device", "has been removed", "Say why"];
    life(Look::default(), words).await;
}

#[tokio::test]
async fn a_life_in_dutch_on_a_phone() {
    let words = ["Deze activeringscode is niet geldig", "dit apparaat", "is verwijderd", "Vertel waarom"];
    life(Look { language: "nl", width: 500, ..Look::default() }, words).await;
}

#[tokio::test]
async fn a_life_without_scripts() {
    let words = ["This activation code is not valid", "this device", "has been removed", "Say why"];
    life(Look { scripts: false, ..Look::default() }, words).await;
}

/// The app can tell: `X-Sluis-Methods: emergency`. The codes end with their use, also by `kill -9` right after.
#[tokio::test]
async fn the_app_is_told_of_an_emergency_and_a_code_stays_used() {
    let app = Demo::start();
    let apps = care_records(app.address).replace("    policy:", "    break_glass: {}\n    policy:");
    let mut sluis = Sluis::start(&apps);
    let mut anna = sluis.browser();
    let pending = sluis.password(&mut anna, "anna").await;
    sluis.enrol(&mut anna, &pending).await;
    let made = sluis.cli(&["user", "emergency-codes", "anna", "--count", "2"]);
    let text = String::from_utf8(made.stdout).unwrap();
    let codes: Vec<&str> = text.lines().map(str::trim).filter(|line| line.len() == 29).collect();
    assert_eq!(codes.len(), 2, "{text}");
    let enter = async |browser: &mut Browser, code: &str| {
        let token = browser.get("/.sluis/emergency").await.field("token");
        let reason = ("reason", "No phone here tonight");
        browser.post("/.sluis/emergency", &[("token", &token), ("emergency", code), reason]).await
    };
    let mut other = sluis.browser();
    sluis.password(&mut other, "anna").await;
    let entered = enter(&mut other, codes[0]).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
    let echo = other.get("/headers").await;
    assert_eq!(echo.status, StatusCode::OK);
    let told = echo.body.to_lowercase();
    assert!(told.contains("emergency") && !told.contains("exempt") && !told.contains("totp"), "{told}");
    sluis.restart();
    let mut again = Browser::new(&sluis.origin());
    sluis.password(&mut again, "anna").await;
    assert_eq!(enter(&mut again, codes[0]).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(enter(&mut again, codes[1]).await.status, StatusCode::SEE_OTHER);
}

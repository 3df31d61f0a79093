//! The administrators' pages in a real Chromium: from the invitation on the server to a reset with a reason.
//!
//! `SLUIS_TEST_SHOTS=DIR` keeps pictures of the pages in `DIR`.

use std::{net::SocketAddr, time::Duration};

use crate::support::{
    Authenticator, Demo, Sluis,
    admin::{ADMIN, Api},
    chromium::{Chromium, Look},
    sluis::{Setup, care_records},
};

const SUBMIT: &str = "main form button:not([type=button])";
const PASSWORD: &str = "zes gele fietsen";

struct House {
    sluis: Sluis,
    _app: Demo,
    desk: SocketAddr,
}

impl House {
    /// With a user, Anna, who has an authenticator.
    async fn open() -> Self {
        let app = Demo::start();
        let more = format!("insecure_cookies: true\n{}", care_records(app.address));
        let mut sluis = Setup { listener: ADMIN, ..Setup::plain(&more) }.start();
        let mut browser = sluis.browser();
        let pending = sluis.password(&mut browser, "anna").await;
        sluis.enrol(&mut browser, &pending).await;
        let desk = Api::at(&mut sluis, "").address();
        Self { sluis, _app: app, desk }
    }

    fn invite(&self, name: &str, role: &str) -> String {
        let made = self.sluis.cli(&["admin", "invite", name, "--role", role, "--json"]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
        made["code"].as_str().unwrap().to_owned()
    }

    /// From the invitation into the list of users.
    async fn enter(&self, look: Look, name: &str, role: &str) -> (Desk, Authenticator) {
        let code = self.invite(name, role);
        let desk = Desk { chromium: Chromium::open(look).await, address: self.desk, look };
        desk.go("/").await;
        assert_eq!(desk.chromium.path().await, "/login");
        desk.seen("login").await;
        desk.chromium.press("main .actions a").await;
        desk.seen("invitation").await;
        desk.chromium.fill("#name", name).await;
        desk.chromium.fill("#code", &code).await;
        desk.chromium.fill("#password", "Welkom123456!").await;
        desk.chromium.fill("#again", "Welkom123456!").await;
        desk.chromium.press(SUBMIT).await;
        desk.seen("invitation-weak").await;
        for (field, text) in [("#code", code.as_str()), ("#password", PASSWORD), ("#again", PASSWORD)] {
            desk.chromium.fill(field, text).await;
        }
        desk.chromium.press(SUBMIT).await;
        assert_eq!(desk.chromium.path().await, "/.sluis/enrol", "{}", desk.chromium.text().await);
        desk.seen("enrol").await;
        let authenticator = Authenticator::from_page(&desk.chromium.source().await);
        desk.chromium.fill("#code", &authenticator.code_at(self.sluis.clock.now_secs())).await;
        desk.chromium.press(SUBMIT).await;
        assert_eq!(desk.chromium.path().await, "/", "{}", desk.chromium.text().await);
        (desk, authenticator)
    }
}

struct Desk {
    chromium: Chromium,
    address: SocketAddr,
    look: Look,
}

impl Desk {
    async fn go(&self, path: &str) {
        self.chromium.driver.goto(format!("http://{}{path}", self.address)).await.unwrap();
    }

    /// The page is accessible; a picture is kept when one is wanted.
    async fn seen(&self, name: &str) {
        if self.look.scripts {
            assert_eq!(self.chromium.accessibility_faults().await, Vec::<String>::new(), "{name}");
        }
        if let Some(dir) = std::env::var_os("SLUIS_TEST_SHOTS") {
            let file = format!("{name}.{}.{}.png", self.look.language, self.look.width);
            let body = self.chromium.driver.find(thirtyfour::By::Tag("html")).await.unwrap();
            body.screenshot(&std::path::Path::new(&dir).join(file)).await.unwrap();
        }
    }
}

/// [B11 E6] Invited on the server, a helpdesk person sets a password, links an app, searches a user and resets her with a
/// reason; the user links anew. Blocking is not theirs, and their own account is not either.
async fn story(look: Look, words: [&str; 4]) {
    let [lang, reason_missing, not_yours, own] = words;
    let mut house = House::open().await;
    let (desk, authenticator) = house.enter(look, "hanna", "helpdesk").await;
    desk.seen("users").await;
    assert!(desk.chromium.source().await.contains(&format!("lang=\"{lang}\"")));
    desk.chromium.fill("#q", "ann").await;
    desk.chromium.press("form.search button").await;
    desk.chromium.press("table.rows a").await;
    desk.seen("user").await;
    let page = desk.chromium.source().await;
    assert!(page.contains("My phone") && !page.contains("otpauth"), "E6");

    // What is dangerous asks a fresh second factor, and what was typed is still there.
    house.sluis.clock.advance(Duration::from_secs(6 * 60));
    desk.chromium.press("a[href^='/user/reset']").await;
    desk.seen("reset").await;
    desk.chromium.press(SUBMIT).await;
    assert!(desk.chromium.text().await.contains(reason_missing), "{}", desk.chromium.text().await);
    desk.seen("reset-no-reason").await;
    desk.chromium.fill("#reason", "call 4711").await;
    desk.chromium.press(SUBMIT).await;
    assert_eq!(desk.chromium.path().await, "/.sluis/challenge");
    desk.chromium.fill("#code", &authenticator.code_at(house.sluis.clock.now_secs())).await;
    desk.chromium.press(SUBMIT).await;
    assert!(desk.chromium.source().await.contains("call 4711"), "{}", desk.chromium.text().await);
    desk.chromium.press(SUBMIT).await;
    assert!(desk.chromium.path().await.ends_with("&done=reset"), "{}", desk.chromium.text().await);
    desk.seen("reset-done").await;
    let lines = house.sluis.audit();
    let line = lines.iter().find(|line| line["event"] == "user_reset").unwrap();
    assert_eq!((&line["actor"], &line["reason"]), (&"admin:hanna".into(), &"call 4711".into()), "{line}");
    let mut browser = house.sluis.browser();
    let again = house.sluis.password(&mut browser, "anna").await;
    house.sluis.enrol(&mut browser, &again).await;

    desk.chromium.press("a[href^='/user/invite']").await;
    desk.seen("invite").await;
    desk.chromium.fill("#reason", "call 4711").await;
    desk.chromium.press(SUBMIT).await;
    desk.seen("letter").await;
    let realm = "realm=ecd&name=anna";
    let realm =
        page.split("/user/reset?").nth(1).map_or(realm, |rest| rest.split(['"', '\'']).next().unwrap());
    let query = realm.replace("&amp;", "&");
    desk.go(&format!("/user/block?{query}")).await;
    assert!(desk.chromium.text().await.contains(not_yours), "{}", desk.chromium.text().await);
    desk.seen("not-yours").await;
    for path in ["/administrators", "/tokens", "/account", "/account/password"] {
        desk.go(path).await;
        desk.seen(&path.replace('/', "-")).await;
    }
    desk.chromium.close().await;

    let (admin, _) = house.enter(look, "bea", "admin").await;
    for path in ["settings", "block", "exempt", "emergency"] {
        admin.go(&format!("/user/{path}?{query}")).await;
        admin.seen(path).await;
    }
    admin.go("/administrators").await;
    admin.seen("administrators-admin").await;
    admin.go("/administrators/new").await;
    admin.seen("administrators-new").await;
    admin.go("/user?realm=sluis-admin&name=bea").await;
    assert!(admin.chromium.text().await.contains(own));
    admin.seen("own").await;
    admin.go("/user/reset?realm=sluis-admin&name=bea").await;
    assert!(admin.chromium.text().await.contains(own), "{}", admin.chromium.text().await);
    admin.chromium.close().await;
}

/// [B11 E6]
#[tokio::test]
async fn b11_a_reset_in_english_on_a_desktop() {
    let words = ["en", "Give a reason", "Your role does not allow this", "Nobody changes their own account"];
    story(Look::default(), words).await;
}

/// [B11 E6]
#[tokio::test]
async fn b11_a_reset_in_dutch_on_a_phone() {
    let words = ["nl", "Geef een reden", "Dit mag niet met uw rol", "Niemand wijzigt hier het eigen account"];
    story(Look { language: "nl", width: 500, ..Look::default() }, words).await;
}

/// [B11] Everything works without scripts.
#[tokio::test]
async fn b11_a_reset_without_scripts() {
    let words = ["en", "Give a reason", "Your role does not allow this", "Nobody changes their own account"];
    story(Look { scripts: false, ..Look::default() }, words).await;
}

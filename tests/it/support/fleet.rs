//! Several replicas of Sluis with the same keys on one shared store, in front of one app.

use std::time::Duration;

use reqwest::{Client, StatusCode};

use super::{
    Authenticator, Browser, Demo, Sluis,
    admin::ADMIN,
    clock::HeldClock,
    jar::Answer,
    sluis::{Setup, care_records},
};

/// The replicas and what they share.
pub struct Fleet {
    /// The app behind all of them; it knows everybody whose password is the name and `-secret`.
    pub app: Demo,
    /// Each on a port of its own.
    pub replicas: Vec<Sluis>,
    /// The clock of all of them.
    pub clock: HeldClock,
    client: Client,
    // Has the file of the clock.
    _dir: tempfile::TempDir,
}

impl Fleet {
    /// So many replicas, each with the store that `store` names for it (the value of `store:`), and more lines of
    /// configuration.
    pub fn start(count: usize, store: impl Fn(usize) -> String, more: &str) -> Self {
        let app = Demo::start_with(&["--any-user"]);
        let dir = tempfile::tempdir().unwrap();
        let clock = HeldClock::new(dir.path());
        let apps = format!("insecure_cookies: true\n{more}\n{}", care_records(app.address));
        let replicas = (0..count)
            .map(|number| {
                let store = store(number);
                Setup {
                    listener: ADMIN,
                    store: Some(&store),
                    clock: Some(clock.clone()),
                    ..Setup::plain(&apps)
                }
                .start()
            })
            .collect();
        let client =
            Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
        Self { app, replicas, clock, client, _dir: dir }
    }

    /// A fresh browser profile in front of one replica.
    pub fn browser(&self, replica: usize) -> Browser {
        Browser::with_client(self.client.clone(), &self.replicas[replica].origin())
    }

    /// The same profile, its jar as it is now, in front of a replica.
    pub fn at(&self, replica: usize, browser: &Browser) -> Browser {
        let mut there = self.browser(replica);
        there.jar.clone_from(&browser.jar);
        there
    }

    /// Moves the clock of all.
    pub fn later(&self, by: Duration) {
        self.clock.clone().advance(by);
    }

    /// Logs somebody in for the first time, links an authenticator, and sees that the app is there.
    pub async fn enrolled(&self, replica: usize, user: &str) -> (Browser, Authenticator) {
        let sluis = &self.replicas[replica];
        let mut browser = self.browser(replica);
        let pending = sluis.password(&mut browser, user).await;
        let (authenticator, entered) = sluis.enrol(&mut browser, &pending).await;
        assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
        assert_eq!(browser.get("/").await.status, StatusCode::OK);
        (browser, authenticator)
    }

    /// Password and code in this browser, on the replica that it talks to. Where the device is still trusted no code is
    /// asked, and the answer to the password is what comes back.
    pub async fn log_in(&self, browser: &mut Browser, user: &str, authenticator: &Authenticator) -> Answer {
        let answer =
            browser.post("/login", &[("username", user), ("password", &format!("{user}-secret"))]).await;
        if !answer.location().ends_with("/.sluis/challenge") {
            return answer;
        }
        let token = browser.get("/.sluis/challenge").await.field("token");
        let code = authenticator.code_at(self.clock.now_secs());
        browser.post("/.sluis/challenge", &[("token", &token), ("code", &code)]).await
    }
}

/// The value of `store:` for this Redis.
pub fn on_redis(address: std::net::SocketAddr) -> String {
    format!("{{ redis: {{ url: \"redis://{address}\" }} }}")
}

/// How many rounds a long test runs: as many as it says, or `SLUIS_TEST_ROUNDS` per cent of them.
pub fn rounds(full: usize) -> usize {
    let percent = std::env::var("SLUIS_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    (full * percent / 100).max(1)
}

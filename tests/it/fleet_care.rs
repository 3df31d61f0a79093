//! What operators do to replicas while people work: restart them one after the other, and rotate keys.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use reqwest::{Client, StatusCode};
use tokio::task::block_in_place;

use crate::support::{
    Authenticator, Browser,
    balancer::Balancer,
    clock::HeldClock,
    fleet::{Fleet, on_redis, rounds},
    redis::Redis,
};

/// People in front of the balancer. Any other answer than the right one ends the test.
#[derive(Clone)]
struct Crowd {
    origin: String,
    clock: HeldClock,
    stop: Arc<AtomicBool>,
    /// Requests answered as they should be.
    served: Arc<AtomicUsize>,
    /// Names somebody new.
    number: Arc<AtomicUsize>,
}

impl Crowd {
    fn new(balancer: &Balancer, clock: HeldClock) -> Self {
        Self {
            origin: format!("http://localhost:{}", balancer.address.port()),
            clock,
            stop: Arc::default(),
            served: Arc::default(),
            number: Arc::default(),
        }
    }

    /// On a connection of its own.
    fn browser(&self) -> Browser {
        let client =
            Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
        Browser::with_client(client, &self.origin)
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn served(&self, requests: usize) {
        self.served.fetch_add(requests, Ordering::Relaxed);
    }

    /// A first login, with an authenticator linked.
    async fn arrives(&self) -> (String, Browser) {
        let user = format!("user{}", self.number.fetch_add(1, Ordering::Relaxed));
        let mut browser = self.browser();
        let answer = self.password(&mut browser, &user).await;
        assert_eq!(answer, "/.sluis/challenge");
        let page = browser.get("/.sluis/enrol").await;
        assert_eq!(page.status, StatusCode::OK, "{page:?}");
        let code = Authenticator::from_page(&page.body).code_at(self.clock.now_secs());
        let fields = [("token", &*page.field("token")), ("name", "phone"), ("code", &code)];
        let answer = browser.post("/.sluis/enrol", &fields).await;
        assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/"), "{answer:?}");
        self.works(&mut browser).await;
        self.served(3);
        (user, browser)
    }

    /// Where the password leads.
    async fn password(&self, browser: &mut Browser, user: &str) -> String {
        let answer =
            browser.post("/login", &[("username", user), ("password", &format!("{user}-secret"))]).await;
        assert!(answer.status.is_redirection(), "{answer:?}");
        answer.location().to_owned()
    }

    /// The app is there.
    async fn works(&self, browser: &mut Browser) {
        let page = browser.get("/clients/1").await;
        assert_eq!(page.status, StatusCode::OK, "{page:?}");
        self.served(1);
    }

    /// Is inside, and goes on.
    async fn stays(self, mut browser: Browser) {
        while self.goes_on() {
            self.works(&mut browser).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Somebody new, again and again.
    async fn newcomers(self) {
        while self.goes_on() {
            self.arrives().await;
        }
    }

    /// Come and go on a device that is trusted, so no code is asked; not so often that it would be too often.
    async fn come_and_go(self) {
        while self.goes_on() {
            let (user, browser) = self.arrives().await;
            self.comes_and_goes(user, browser, 50).await;
        }
    }

    async fn comes_and_goes(&self, user: String, mut browser: Browser, times: usize) {
        for _ in 0..times {
            if !self.goes_on() {
                return;
            }
            assert_eq!(self.password(&mut browser, &user).await, "/");
            self.works(&mut browser).await;
            let copy = browser.clone();
            let answer = browser.get("/logout").await;
            assert!(answer.status.is_redirection(), "{answer:?}");
            // Whatever replica it goes to.
            let answer = copy.clone().get("/clients/1").await;
            assert_ne!(answer.status, StatusCode::OK, "the session has ended");
            self.served(3);
        }
    }
}

/// [F5 F7 I3 I10] Replicas are restarted one after the other by SIGTERM, as a roll-out does, under load: not one request fails,
/// no session is lost, and what has ended stays so.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f5_a_rolling_restart_is_not_noticed() {
    let redis = Redis::durable();
    let mut fleet = Fleet::start(3, |_| on_redis(redis.address()), "shutdown: { delay: 1s, drain: 20s }");
    let balancer = Balancer::start(&fleet.replicas);
    let crowd = Crowd::new(&balancer, fleet.clock.clone());
    let mut inside = Vec::new();
    for _ in 0..3 {
        inside.push(crowd.arrives().await.1);
    }
    let mut people: Vec<_> = inside.iter().map(|b| tokio::spawn(crowd.clone().stays(b.clone()))).collect();
    people.extend((0..2).map(|_| tokio::spawn(crowd.clone().newcomers())));
    people.extend((0..2).map(|_| tokio::spawn(crowd.clone().come_and_go())));
    for round in 0..rounds(2) {
        for number in 0..3 {
            balancer.await_turns().await;
            let before = crowd.served.load(Ordering::Relaxed);
            block_in_place(|| fleet.replicas[number].restart_gently());
            balancer.moved(number, &fleet.replicas[number]);
            assert!(crowd.served.load(Ordering::Relaxed) > before, "round {round}: the others served");
            assert!(people.iter().all(|one| !one.is_finished()), "round {round}: somebody met a failure");
        }
    }
    balancer.await_turns().await;
    crowd.stop.store(true, Ordering::Relaxed);
    for one in people {
        one.await.unwrap();
    }
    for replica in 0..3 {
        for browser in &inside {
            let page = fleet.at(replica, browser).get("/clients/1").await;
            assert_eq!(
                page.status,
                StatusCode::OK,
                "replica {replica} knows the sessions of before: {page:?}"
            );
        }
    }
    eprintln!(
        "{} requests, {} people enrolled, connections by replica {:?}: none failed",
        crowd.served.load(Ordering::Relaxed),
        crowd.number.load(Ordering::Relaxed),
        balancer.connections()
    );
}

/// Two replicas, whose list of keys changes one replica at a time, and who is inside.
struct Rotation {
    fleet: Fleet,
    inside: Vec<(String, Browser)>,
}

impl Rotation {
    /// Whoever is inside is inside at both, the app's own session included; somebody new from either replica, too.
    async fn nobody_is_logged_out(&mut self, step: &str) {
        for replica in 0..2 {
            let user = format!("{}-{replica}", step.replace(' ', "-"));
            let browser = self.fleet.enrolled(replica, &user).await.0;
            self.inside.push((user, browser));
        }
        for replica in 0..2 {
            for (user, browser) in &self.inside {
                let page = self.fleet.at(replica, browser).get("/").await;
                assert_eq!(page.status, StatusCode::OK, "{step}: {user} at replica {replica}: {page:?}");
                assert!(page.body.contains(user), "{step}: the app's own session of {user}: {page:?}");
            }
        }
    }

    /// One replica gets this list, and it counts.
    async fn keys(&mut self, replica: usize, old: &str, new: &str) {
        let sluis = &mut self.fleet.replicas[replica];
        sluis.reload(old, new).await;
        assert_eq!(sluis.metric("sluis_configuration_differs").await, 0.0);
    }
}

/// [F3 F7] Keys are rotated over two replicas as docs/keys.md says, in every order in which replicas can follow: at no step
/// is anybody logged out. Afterwards the new key signs, and what only the old one signed is worth nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_keys_rotate_over_replicas_without_logging_anybody_out() {
    let redis = Redis::start();
    let fleet = Fleet::start(2, |_| on_redis(redis.address()), "");
    let new = fleet.replicas[0].file("new.key");
    let made = fleet.replicas[0].cli_without_config(&["keys", "generate", "--out", new.to_str().unwrap()]);
    assert!(made.status.success());
    let only_new = format!("- file: \"{}\"", new.display());
    let only_old: Vec<String> =
        fleet.replicas.iter().map(|s| format!("- file: \"{}\"", s.file("master.key").display())).collect();
    let second = |replica: usize| format!("{}\n  {only_new}", only_old[replica]);
    let first = |replica: usize| format!("{only_new}\n  {}", only_old[replica]);

    let (anna, authenticator) = fleet.enrolled(0, "anna").await;
    let mut rotation = Rotation { fleet, inside: vec![("anna".to_owned(), anna.clone())] };
    rotation.nobody_is_logged_out("before").await;
    for replica in [0, 1] {
        rotation.keys(replica, &only_old[replica], &second(replica)).await;
        rotation.nobody_is_logged_out(&format!("second at {replica}")).await;
    }
    for replica in [1, 0] {
        rotation.keys(replica, &second(replica), &first(replica)).await;
        rotation.nobody_is_logged_out(&format!("first at {replica}")).await;
    }
    // A day later whoever works has logged in since.
    rotation.fleet.later(Duration::from_secs(25 * 3600));
    rotation.inside.clear();
    rotation.nobody_is_logged_out("a day later").await;
    for replica in [0, 1] {
        rotation.keys(replica, &first(replica), &only_new).await;
        rotation.nobody_is_logged_out(&format!("dropped at {replica}")).await;
    }

    // The data set opens with the new key alone, and so does what it holds.
    let mut fleet = rotation.fleet;
    block_in_place(|| fleet.replicas[0].restart_gently());
    let mut again = fleet.browser(0);
    let entered = fleet.log_in(&mut again, "anna", &authenticator).await;
    assert_eq!((entered.status, entered.location()), (StatusCode::SEE_OTHER, "/"), "{entered:?}");
    assert_eq!(fleet.at(1, &again).get("/").await.status, StatusCode::OK);
    // Of what the old key signed nothing is left: not even the device, so a trust that was valid for long is none.
    let mut old = fleet.at(1, &anna);
    assert_ne!(old.get("/").await.status, StatusCode::OK);
    let doctor = fleet.replicas[0].cli(&["doctor", "--json"]);
    let found = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(found.contains("under the first key"), "{found}");
}

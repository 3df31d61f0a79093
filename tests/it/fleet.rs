//! Several replicas on one Redis: what one of them has decided holds at all of them, before anybody sees the answer.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode};

use crate::support::{
    Authenticator, Browser,
    faults::{Fault, FaultProxy},
    fleet::{Fleet, on_redis, rounds},
    redis::Redis,
};

/// A blind replica lets nobody in at all.
const STRICT: &str = "revocation: { lease: 2s, grace: 0s }";
/// Longer than a step of the codes, and than the wait that five wrong ones earn.
const NEXT_ROUND: Duration = Duration::from_secs(61);

/// [I4] 16 browsers at two replicas send the same code at the same moment, 1,000 times: one is let in each time.
///
/// One user has one counter of attempts, so that of the 16 no more than five are looked at before the first one has
/// succeeded; a login that was refused waits for the next round.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_a_code_is_accepted_once_over_replicas() {
    let redis = Redis::start();
    let fleet = Fleet::start(2, |_| on_redis(redis.address()), "");
    let (_, authenticator) = fleet.enrolled(0, "anna").await;
    let mut waiting: Vec<(usize, String, Browser)> = Vec::new();
    let (rounds, mut looked_at) = (rounds(1000), 0);
    let begun = Instant::now();
    for round in 0..rounds {
        fleet.later(NEXT_ROUND);
        // A pending login lives for ten minutes.
        waiting.retain(|(made, ..)| round - made < 8);
        while waiting.len() < 16 {
            let mut browser = fleet.browser(waiting.len() % 2);
            browser.post("/login", &[("username", "anna"), ("password", "anna-secret")]).await;
            let token = browser.get("/.sluis/challenge").await.field("token");
            waiting.push((round, token, browser));
        }
        let code = authenticator.code_at(fleet.clock.now_secs());
        let answers: Vec<_> = waiting
            .drain(..)
            .map(|(made, token, mut browser)| {
                let code = code.clone();
                tokio::spawn(async move {
                    let answer =
                        browser.post("/.sluis/challenge", &[("token", &token), ("code", &code)]).await;
                    (answer, made, token, browser)
                })
            })
            .collect();
        let mut inside = 0;
        for answer in answers {
            let (answer, made, token, mut browser) = answer.await.unwrap();
            let has_session = browser.jar.contains_key("sluis-session");
            match answer.status {
                StatusCode::SEE_OTHER if has_session => {
                    inside += 1;
                    looked_at += 1;
                    assert_eq!(browser.get("/").await.status, StatusCode::OK);
                    continue;
                }
                StatusCode::UNPROCESSABLE_ENTITY => looked_at += 1,
                StatusCode::TOO_MANY_REQUESTS => {}
                _ => panic!("round {round}: {answer:?}"),
            }
            assert!(!has_session, "round {round}: {answer:?}");
            waiting.push((made, token, browser));
        }
        assert_eq!(inside, 1, "round {round}");
    }
    assert!(looked_at > 2 * rounds, "only {looked_at} answers were looked at: no race");
    eprintln!("{rounds} rounds of 16 in {:?}: {looked_at} looked at, {rounds} accepted", begun.elapsed());
}

/// Two people who use one browser in turn, and a thief who saves its cookies each time.
struct Shared {
    fleet: Fleet,
    browser: Browser,
    people: [(&'static str, Authenticator); 2],
    /// Who is inside.
    inside: usize,
}

impl Shared {
    async fn new(fleet: Fleet) -> Self {
        let (_, anna) = fleet.enrolled(0, "anna").await;
        let (_, bram) = fleet.enrolled(1, "bram").await;
        fleet.later(NEXT_ROUND);
        let mut browser = fleet.browser(0);
        let entered = fleet.log_in(&mut browser, "anna", &anna).await;
        assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
        Self { fleet, browser, people: [("anna", anna), ("bram", bram)], inside: 0 }
    }

    /// The cookies as a thief has saved them; they work at every replica that can be asked.
    async fn saved(&self, replicas: &[usize]) -> Browser {
        for replica in replicas {
            let answer = self.fleet.at(*replica, &self.browser).get("/").await;
            assert_eq!(answer.status, StatusCode::OK, "alive at {replica}: {answer:?}");
        }
        self.browser.clone()
    }

    /// The other one opens the browser (which forgot its session when it was closed), and gives the password at this
    /// replica; what is left is to send the code.
    async fn next_one(&mut self, replica: usize) -> (String, String) {
        self.fleet.later(NEXT_ROUND);
        self.inside = 1 - self.inside;
        let (name, authenticator) = &self.people[self.inside];
        self.browser = self.fleet.at(replica, &self.browser);
        self.browser.jar.remove("sluis-session");
        self.browser.post("/login", &[("username", name), ("password", &format!("{name}-secret"))]).await;
        let token = self.browser.get("/.sluis/challenge").await.field("token");
        (token, authenticator.code_at(self.fleet.clock.now_secs()))
    }

    /// The code: the takeover is complete when this answers. How long that took.
    async fn completes(&mut self, (token, code): (String, String)) -> Duration {
        let begun = Instant::now();
        let answer = self.browser.post("/.sluis/challenge", &[("token", &token), ("code", &code)]).await;
        let took = begun.elapsed();
        assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/"), "{answer:?}");
        took
    }
}

/// Sends so many requests with saved cookies to this replica, several at once; how many were let through.
async fn thefts(fleet: &Fleet, replica: usize, saved: &Browser, count: usize) -> usize {
    let let_through = AtomicUsize::new(0);
    let thief = fleet.at(replica, saved);
    let one = async |number: usize| {
        let path = if number.is_multiple_of(2) { "/" } else { "/clients/1" };
        let answer = thief.request(Method::GET, path).send().await.expect("an answer");
        let passed = answer.status() == StatusCode::OK && !answer.url().path().starts_with("/login");
        let_through.fetch_add(usize::from(passed), Ordering::Relaxed);
    };
    for begin in (0..count).step_by(25) {
        futures_util::future::join_all((begin..count.min(begin + 25)).map(one)).await;
    }
    let_through.into_inner()
}

/// [I3] 200 takeovers at three replicas; with the saved cookies of the one before, 10,000 requests in all go to the
/// other replicas the moment the completing answer is there: none passes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_takeover_is_everywhere_before_its_answer() {
    let redis = Redis::start();
    let fleet = Fleet::start(3, |_| on_redis(redis.address()), "");
    let mut shared = Shared::new(fleet).await;
    let (mut sent, mut took) = (0, Vec::new());
    for round in 0..rounds(200) {
        let at = round % 3;
        let saved = shared.saved(&[0, 1, 2]).await;
        let code = shared.next_one(at).await;
        // Up to the last moment they work.
        assert_eq!(shared.fleet.at((at + 1) % 3, &saved).get("/").await.status, StatusCode::OK);
        took.push(shared.completes(code).await);
        let (one, other) = ((at + 1) % 3, (at + 2) % 3);
        let passed =
            tokio::join!(thefts(&shared.fleet, one, &saved, 25), thefts(&shared.fleet, other, &saved, 25));
        assert_eq!(passed, (0, 0), "round {round}");
        sent += 50;
        if round.is_multiple_of(20) {
            // Nor does the saved trust.
            let mut thief = shared.fleet.at(one, &saved);
            thief.jar.remove("sluis-session");
            let owner = shared.people[1 - shared.inside].0;
            let asked =
                thief.post("/login", &[("username", owner), ("password", &format!("{owner}-secret"))]).await;
            assert_eq!(asked.location(), "/.sluis/challenge", "{asked:?}");
        }
    }
    took.sort();
    eprintln!("{sent} requests, none passed; a takeover took {:?} (median)", took[took.len() / 2]);
}

/// [I3] A replica that stood still during the takeover lets nothing pass when it goes on, not even what was sent to it
/// meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_replica_that_stood_still_lets_nothing_pass() {
    let redis = Redis::start();
    let fleet = Fleet::start(2, |_| on_redis(redis.address()), STRICT);
    let mut shared = Shared::new(fleet).await;
    for round in 0..3 {
        let saved = shared.saved(&[0, 1]).await;
        let code = shared.next_one(0).await;
        shared.fleet.replicas[1].process.signal("STOP");
        let took = shared.completes(code).await;
        // They arrive at a replica that has not yet gone on. That they did nobody says, since it stands still: the time
        // is for them to get into the kernel's queue, and with less of it the test only judges fewer.
        let thief = shared.fleet.at(1, &saved);
        let early: Vec<_> = (0..200).map(|_| tokio::spawn(thief.request(Method::GET, "/").send())).collect();
        tokio::time::sleep(Duration::from_millis(50)).await;
        shared.fleet.replicas[1].process.signal("CONT");
        let late = thefts(&shared.fleet, 1, &saved, 800).await;
        let mut passed = late;
        for answer in early {
            passed += usize::from(answer.await.unwrap().unwrap().status() == StatusCode::OK);
        }
        assert_eq!(passed, 0, "round {round}");
        let back = awaits_inside(&shared.fleet.at(1, &shared.browser)).await;
        eprintln!("round {round}: the takeover waited {took:?} for the lease; back after {back:?}");
    }
}

/// [I3] A replica whose line to Redis is cut knows that it is blind before the takeover's answer is given, and recovers
/// by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_blind_replica_lets_nothing_pass() {
    let redis = Redis::start();
    let line = FaultProxy::start(redis.address());
    let store = |number| on_redis(if number == 1 { line.address } else { redis.address() });
    let mut shared = Shared::new(Fleet::start(2, store, STRICT)).await;
    for fault in [Fault::BlackHole, Fault::Cut, Fault::Slow(Duration::from_secs(5))] {
        let saved = shared.saved(&[0, 1]).await;
        let code = shared.next_one(0).await;
        line.set(fault);
        let took = shared.completes(code).await;
        assert_eq!(thefts(&shared.fleet, 1, &saved, 1000).await, 0, "{fault:?}");
        line.set(Fault::None);
        assert_eq!(thefts(&shared.fleet, 1, &saved, 1000).await, 0, "{fault:?} is over");
        let back = awaits_inside(&shared.fleet.at(1, &shared.browser)).await;
        assert!(back < Duration::from_secs(5), "{fault:?}: {back:?}");
        assert_eq!(thefts(&shared.fleet, 1, &saved, 100).await, 0, "{fault:?}: and it has not forgotten");
        eprintln!("{fault:?}: the takeover took {took:?}, the replica was back after {back:?}");
    }
}

/// [I3 I10] A replica that starts has everything before it is ready: a saved copy is dead there with the first request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_replica_that_starts_knows_all_before_it_is_ready() {
    let redis = Redis::start();
    let mut shared = Shared::new(Fleet::start(2, |_| on_redis(redis.address()), "")).await;
    let mut copies = Vec::new();
    for _ in 0..10 {
        copies.push(shared.saved(&[0, 1]).await);
        let code = shared.next_one(0).await;
        shared.completes(code).await;
    }
    for _ in 0..3 {
        shared.fleet.replicas[1].restart();
        for saved in &copies {
            assert_eq!(thefts(&shared.fleet, 1, saved, 10).await, 0);
        }
        assert_eq!(shared.fleet.at(1, &shared.browser).get("/").await.status, StatusCode::OK);
    }
}

/// [I3] A replica that was cut off for longer than the feed remembers reads everything again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_replica_behind_the_feed_reads_everything_again() {
    let redis = Redis::start();
    let line = FaultProxy::start(redis.address());
    let store = |number| {
        let address = if number == 1 { line.address } else { redis.address() };
        on_redis(address).replace("redis: {", "redis: { feed_length: 1000, ")
    };
    let mut shared = Shared::new(Fleet::start(2, store, "revocation: { lease: 1s, grace: 60s }")).await;
    let saved = shared.saved(&[0, 1]).await;
    line.set(Fault::BlackHole);
    let code = shared.next_one(0).await;
    shared.completes(code).await;
    // More than the feed keeps: people who log out, and in again on a trusted device.
    let ended = AtomicUsize::new(0);
    let leaver = async |number: usize| {
        let user = format!("leaver{number}");
        let (mut browser, _) = shared.fleet.enrolled(0, &user).await;
        while ended.fetch_add(1, Ordering::Relaxed) < 2000 {
            assert!(browser.get("/logout").await.status.is_redirection());
            browser.post("/login", &[("username", &user), ("password", &format!("{user}-secret"))]).await;
        }
    };
    futures_util::future::join_all((0..16).map(leaver)).await;
    line.set(Fault::None);
    let begun = Instant::now();
    while thefts(&shared.fleet, 1, &saved, 1).await > 0 {
        assert!(begun.elapsed() < Duration::from_secs(5), "the copy lives on");
    }
    assert_eq!(thefts(&shared.fleet, 1, &saved, 200).await, 0);
    eprintln!("the copy was dead {:?} after the line was back", begun.elapsed());
}

/// Waits until this browser is let in; how long that took.
async fn awaits_inside(browser: &Browser) -> Duration {
    let begun = Instant::now();
    loop {
        let answer = browser.request(Method::GET, "/").send().await;
        if answer.is_ok_and(|answer| answer.status() == StatusCode::OK) {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "not let in again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// [I8] 10,000 guesses in 32 browsers at two replicas: five are looked at, one after each wait, fifty in all; and the
/// device on which she proved herself before works on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i8_guesses_are_bounded_over_replicas() {
    let redis = Redis::start();
    let fleet = Fleet::start(2, |_| on_redis(redis.address()), "");
    let (mut anna, authenticator) = fleet.enrolled(0, "anna").await;
    let (mut sent, mut looked_at, mut wave) = (0, 0, 0);
    let total = rounds(10_000);
    while sent < total {
        let guessers: Vec<_> = futures_util::future::join_all((0..32).map(|number| {
            let mut browser = fleet.browser(number % 2);
            async move {
                browser.post("/login", &[("username", "anna"), ("password", "anna-secret")]).await;
                let page = browser.get("/.sluis/challenge").await;
                // One who is locked out gets no form; the token of a form is what the guesses need.
                let token = page.body.contains("name=\"token\"").then(|| page.field("token"));
                (browser, token.unwrap_or_default())
            }
        }))
        .await;
        // The first wave shows that five are free, the last one that nothing helps after the fiftieth.
        let each = if wave == 0 || looked_at == 50 { 1024 } else { 96 } / guessers.len();
        let counts = guessers.into_iter().enumerate().map(|(number, (mut browser, token))| {
            tokio::spawn(async move {
                let mut looked_at = 0;
                for guess in 0..each {
                    // Never right: not made of digits of one code, but as long.
                    let code = format!("{:06}", (number * 7919 + guess * 104_729) % 1_000_000);
                    let answer =
                        browser.post("/.sluis/challenge", &[("token", &token), ("code", &code)]).await;
                    match answer.status {
                        StatusCode::UNPROCESSABLE_ENTITY => looked_at += 1,
                        // The fiftieth says that it was the last; those after it say the same, and are told apart
                        // by the audit log.
                        StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {}
                        status => panic!("{status}: {answer:?}"),
                    }
                }
                looked_at
            })
        });
        let mut this_wave = 0;
        for count in counts.collect::<Vec<_>>() {
            this_wave += count.await.unwrap();
        }
        sent += each * 32;
        let allowed = if wave == 0 { 5 } else { 1 };
        assert!(this_wave <= allowed, "wave {wave}: {this_wave} were looked at");
        looked_at += this_wave;
        // The one that locks is answered as locked, not as wrong.
        if looked_at == 49 && this_wave == 0 {
            looked_at = 50;
        }
        // Beyond the longest wait; she is never idle for so long that her session would end by itself.
        for _ in 0..2 {
            anna = fleet.at(wave % 2, &anna);
            assert_eq!(anna.get("/").await.status, StatusCode::OK, "she works on in wave {wave}");
            if looked_at < 50 {
                fleet.later(Duration::from_secs(15 * 60 / 2 + 1));
            }
        }
        wave += 1;
    }
    // From the fifth on each that was looked at locks her out for a while, and the fiftieth for good.
    let locked: usize = fleet.replicas.iter().map(|sluis| count_locked(&sluis.audit())).sum();
    assert_eq!(locked + 4, looked_at, "as the audit logs of both replicas have it");
    assert!(total < 10_000 || looked_at == 50, "{looked_at}");
    if looked_at == 50 {
        let mut right = fleet.browser(1);
        let refused = fleet.log_in(&mut right, "anna", &authenticator).await;
        assert_ne!(
            right.get("/").await.status,
            StatusCode::OK,
            "locked: not even the right one: {refused:?}"
        );
    }
    eprintln!("{sent} guesses, {looked_at} looked at, in {wave} waves");
}

fn count_locked(audit: &[serde_json::Value]) -> usize {
    audit.iter().filter(|event| event["event"] == "locked_out").count()
}

/// [Design 3] A verified request asks no store: the commands that Redis runs do not grow with the requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verified_request_asks_no_store() {
    let redis = Redis::start();
    let fleet = Fleet::start(2, |_| on_redis(redis.address()), "");
    let (anna, _) = fleet.enrolled(0, "anna").await;
    for replica in 0..2 {
        assert_eq!(fleet.at(replica, &anna).get("/").await.status, StatusCode::OK);
    }
    let span = Duration::from_secs(4);
    let count = || redis.commands().values().sum::<u64>();
    let before = count();
    // What runs without any request is counted over this time: nothing is waited for.
    tokio::time::sleep(span).await;
    let idle = count() - before;

    let before = redis.commands();
    let begun = Instant::now();
    let served = AtomicUsize::new(0);
    let client = async |number: usize| {
        let browser = fleet.at(number % 2, &anna);
        while begun.elapsed() < span {
            let answer = browser.request(Method::GET, "/clients/1").send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            served.fetch_add(1, Ordering::Relaxed);
        }
    };
    futures_util::future::join_all((0..16).map(client)).await;
    let after = redis.commands();
    let loaded: u64 = after.values().sum::<u64>() - before.values().sum::<u64>();
    let served = served.into_inner();
    eprintln!("commands in {span:?}: {idle} idle, {loaded} while {served} requests were served");
    assert!(served > 1000, "only {served} requests were served");
    // Time passes for heartbeats in both; a machine under load may stretch the span a little.
    assert!(
        loaded <= idle + idle / 2 + 20,
        "{idle} idle, {loaded} with {served} requests: {before:?} {after:?}"
    );
}

//! Redis fails in every way it can while two replicas serve. Each time: nobody passes who should not, whoever is inside
//! goes on, what was acknowledged is still there afterwards, and both replicas are back within 5 s of the store, by
//! themselves. The store is back when it acknowledges writes again to whoever asks it directly: behind sentinels and in a Cluster
//! as many times as `durability` asks for, which a probe finds out. How long a failover itself takes is theirs.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode};
use tokio::task::{JoinHandle, block_in_place};

use crate::support::{
    Authenticator, Browser,
    faults::{Fault, FaultProxy},
    fleet::{Fleet, on_redis},
    probe::Probe,
    process::PATIENCE,
    redis::{Cluster, Redis, SentinelSet, eventually},
};

/// So soon after the store both replicas must be back by themselves: a promise to whoever runs them, not a matter of speed.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// How long each fault lasts: longer than any lease and any time-out.
const LASTS: Duration = Duration::from_secs(4);

/// Who uses the replicas while the store fails, and what was promised to them.
struct Siege {
    fleet: Arc<Fleet>,
    /// Says since when the store acknowledges, where it takes its own time for that.
    probe: Option<Probe>,
    /// A session that goes on.
    anna: Browser,
    /// Sessions that have ended, by logout, takeover and block.
    dead: Vec<Browser>,
    /// Enrolments that were confirmed to a user.
    enrolled: Arc<Mutex<Vec<String>>>,
    /// Sessions whose logout was confirmed.
    left: Arc<Mutex<Vec<Browser>>>,
    /// Makes names.
    number: Arc<AtomicUsize>,
}

/// What was seen.
#[derive(Default)]
struct Seen {
    served: AtomicUsize,
    refused_inside: AtomicUsize,
    passed: AtomicUsize,
    tried: AtomicUsize,
    logins: AtomicUsize,
    unavailable: AtomicUsize,
}

impl Siege {
    async fn begin(fleet: Fleet) -> Self {
        let (anna, _) = fleet.enrolled(0, "anna").await;
        let mut dead = Vec::new();
        let (mut bram, _) = fleet.enrolled(1, "bram").await;
        dead.push(bram.clone());
        bram.visit("/logout").await;
        let (mut shared, _) = fleet.enrolled(0, "chris").await;
        dead.push(shared.clone());
        // The browser was closed; its next user takes it over.
        shared.jar.remove("sluis-session");
        let pending = fleet.replicas[0].password(&mut shared, "dora").await;
        fleet.replicas[0].enrol(&mut shared, &pending).await;
        let (eve, _) = fleet.enrolled(0, "eve").await;
        dead.push(eve);
        let blocked = fleet.replicas[1].cli(&["user", "block", "eve"]);
        assert!(blocked.status.success(), "{}", String::from_utf8_lossy(&blocked.stderr));
        let siege = Self {
            fleet: Arc::new(fleet),
            probe: None,
            anna,
            dead,
            enrolled: Arc::default(),
            left: Arc::default(),
            number: Arc::default(),
        };
        for replica in 0..2 {
            assert_eq!(siege.fleet.at(replica, &siege.anna).get("/").await.status, StatusCode::OK);
        }
        siege
    }

    /// Serves under load while `inflict` breaks the store and `mend` mends it; then looks whether all is well.
    async fn under(&self, fault: &str, inflict: impl FnOnce(), mend: impl FnOnce()) {
        let seen = Arc::new(Seen::default());
        let stop = Arc::new(AtomicBool::new(false));
        // What is confirmed later may reach a replica that is blind within its time of grace: looked at afterwards.
        let dead: Vec<Browser> = self.dead.iter().cloned().chain(self.left.lock().unwrap().clone()).collect();
        let mut load: Vec<JoinHandle<()>> = Vec::new();
        for replica in 0..2 {
            load.push(self.inside(replica, &seen, &stop));
            load.push(self.thieves(replica, &dead, &seen, &stop));
            load.push(self.newcomers(replica, &seen, &stop));
        }
        load.push(self.leavers(&stop));
        tokio::time::sleep(Duration::from_millis(700)).await;
        block_in_place(inflict);
        tokio::time::sleep(LASTS).await;
        block_in_place(mend);
        let mended = Instant::now();
        let mut back = [Duration::ZERO; 2];
        for (replica, back) in back.iter_mut().enumerate() {
            *back = self.await_login(replica, mended).await;
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
        stop.store(true, Ordering::Relaxed);
        for task in load {
            task.await.unwrap();
        }
        let count = |n: &AtomicUsize| n.load(Ordering::Relaxed);
        eprintln!(
            "{fault}: {} forbidden requests, {} passed; {} served inside, {} refused; {} logins asked, {} \
             unavailable; back {:?} and {:?} after the store, which failed {} times; confirmed so far: {} \
             enrolments, {} logouts",
            count(&seen.tried),
            count(&seen.passed),
            count(&seen.served),
            count(&seen.refused_inside),
            count(&seen.logins),
            count(&seen.unavailable),
            back[0],
            back[1],
            self.probe.as_ref().map_or(1, Probe::breaks),
            self.enrolled.lock().unwrap().len(),
            self.left.lock().unwrap().len(),
        );
        assert_eq!(count(&seen.passed), 0, "{fault}: somebody passed who should not");
        assert!(count(&seen.tried) > 50, "{fault}: it was tried");
        assert_eq!(
            count(&seen.refused_inside),
            0,
            "{fault}: whoever is inside goes on within the time of grace"
        );
        assert!(back.iter().all(|back| *back <= BACK_WITHIN), "{fault}: back after {back:?}");
        self.all_is_there(fault).await;
    }

    /// [I10] What was confirmed to somebody holds at both replicas.
    async fn all_is_there(&self, fault: &str) {
        let enrolled = self.enrolled.lock().unwrap().clone();
        // The newest are those at stake; those of earlier faults were looked at.
        for (number, user) in enrolled.iter().rev().take(40).enumerate() {
            let mut browser = self.fleet.browser(number % 2);
            let answer =
                browser.post("/login", &[("username", user), ("password", &format!("{user}-secret"))]).await;
            assert_eq!(answer.location(), "/.sluis/challenge", "{fault}: {user}: {answer:?}");
            let page = browser.get("/.sluis/challenge").await;
            assert_eq!(
                page.status,
                StatusCode::OK,
                "{fault}: {user} is asked for a code, not to enrol: {page:?}"
            );
        }
        let left = self.left.lock().unwrap().clone();
        for (number, browser) in self.dead.iter().chain(left.iter().rev().take(40)).enumerate() {
            for replica in 0..2 {
                let answer = self.fleet.at(replica, browser).get("/").await;
                assert_ne!(answer.status, StatusCode::OK, "{fault}: ended session {number} at {replica}");
            }
        }
    }

    /// Until a login is answered at this replica: read, counted, and completed by a code. How long that took from when the
    /// store was back.
    async fn await_login(&self, replica: usize, mended: Instant) -> Duration {
        let begun = Instant::now();
        loop {
            let mut browser = self.fleet.browser(replica);
            let answer = browser.post("/login", &[("username", "anna"), ("password", "anna-secret")]).await;
            if answer.location() == "/.sluis/challenge"
                && browser.get("/.sluis/challenge").await.status == StatusCode::OK
                && self.newcomer(replica).await == Some(true)
            {
                let since = self.probe.as_ref().map_or(Some(mended), Probe::able_since);
                // One that fails again was not back.
                if let Some(since) = since {
                    return since.elapsed();
                }
            }
            assert!(begun.elapsed() < PATIENCE, "replica {replica} does not come back: {answer:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Somebody inside: counted when the app did not answer.
    fn inside(&self, replica: usize, seen: &Arc<Seen>, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
        let (browser, seen, stop) = (self.fleet.at(replica, &self.anna), Arc::clone(seen), Arc::clone(stop));
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let status = browser.request(Method::GET, "/clients/1").send().await.unwrap().status();
                let count = if status == StatusCode::OK { &seen.served } else { &seen.refused_inside };
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
    }

    /// Those who must not pass: without a session, with an ended one, with the password alone.
    fn thieves(
        &self,
        replica: usize,
        dead: &[Browser],
        seen: &Arc<Seen>,
        stop: &Arc<AtomicBool>,
    ) -> JoinHandle<()> {
        let (fleet, seen, stop) = (Arc::clone(&self.fleet), Arc::clone(seen), Arc::clone(stop));
        let dead = dead.to_vec();
        tokio::spawn(async move {
            let passes = |passed: bool| {
                seen.tried.fetch_add(1, Ordering::Relaxed);
                seen.passed.fetch_add(usize::from(passed), Ordering::Relaxed);
            };
            while !stop.load(Ordering::Relaxed) {
                for browser in dead.iter().rev().take(20).chain(dead.iter().take(3)) {
                    let thief = fleet.at(replica, browser);
                    let answer = thief.request(Method::GET, "/").send().await.unwrap();
                    passes(answer.status() == StatusCode::OK);
                }
                let nobody = fleet.browser(replica).get("/").await;
                passes(nobody.status == StatusCode::OK);
                let mut again = fleet.browser(replica);
                again.post("/login", &[("username", "anna"), ("password", "anna-secret")]).await;
                passes(again.get("/").await.status == StatusCode::OK);
                // An enrolment beside an existing one, with the password alone.
                let page = again.get("/.sluis/enrol").await;
                passes(page.body.contains("secret="));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    }

    /// A first login with enrolment: `Some(true)` when it was confirmed, `None` when the store was said to be away.
    async fn newcomer(&self, replica: usize) -> Option<bool> {
        newcomer(&self.fleet, replica, &self.number, &self.enrolled).await
    }

    fn newcomers(&self, replica: usize, seen: &Arc<Seen>, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
        let (fleet, seen, stop) = (Arc::clone(&self.fleet), Arc::clone(seen), Arc::clone(stop));
        let (number, enrolled) = (Arc::clone(&self.number), Arc::clone(&self.enrolled));
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                seen.logins.fetch_add(1, Ordering::Relaxed);
                if newcomer(&fleet, replica, &number, &enrolled).await.is_none() {
                    seen.unavailable.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        })
    }

    /// Somebody who logs in and out on a trusted device again and again.
    fn leavers(&self, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
        let (fleet, stop, left) = (Arc::clone(&self.fleet), Arc::clone(stop), Arc::clone(&self.left));
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let user = format!("leaver{number}");
            let (mut browser, _) = fleet.enrolled(number % 2, &user).await;
            while !stop.load(Ordering::Relaxed) {
                browser.post("/login", &[("username", &user), ("password", &format!("{user}-secret"))]).await;
                let copy = browser.clone();
                if browser.get("/").await.status == StatusCode::OK {
                    let answer = browser.get("/logout").await;
                    if answer.status.is_redirection() {
                        left.lock().unwrap().push(copy);
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    }
}

async fn newcomer(
    fleet: &Fleet,
    replica: usize,
    number: &AtomicUsize,
    enrolled: &Mutex<Vec<String>>,
) -> Option<bool> {
    let user = format!("user{}", number.fetch_add(1, Ordering::Relaxed));
    let mut browser = fleet.browser(replica);
    let answer =
        browser.post("/login", &[("username", &user), ("password", &format!("{user}-secret"))]).await;
    if answer.location() != "/.sluis/challenge" {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
        return None;
    }
    let page = browser.get("/.sluis/enrol").await;
    if !page.body.contains("secret=") {
        assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE, "{page:?}");
        return None;
    }
    let code = Authenticator::from_page(&page.body).code_at(fleet.clock.now_secs());
    let token = page.field("token");
    let answer =
        browser.post("/.sluis/enrol", &[("token", &token), ("name", "phone"), ("code", &code)]).await;
    let confirmed = answer.status == StatusCode::SEE_OTHER && answer.location() == "/";
    if confirmed {
        enrolled.lock().unwrap().push(user);
    }
    Some(confirmed)
}

/// Two replicas on a line each to one Redis that keeps what it acknowledges.
async fn besieged() -> (Redis, Vec<FaultProxy>, Siege) {
    let redis = Redis::durable();
    let lines: Vec<FaultProxy> = (0..2).map(|_| FaultProxy::start(redis.address())).collect();
    let fleet = Fleet::start(2, |number| on_redis(lines[number].address), "");
    let siege = Siege::begin(fleet).await;
    (redis, lines, siege)
}

/// [I9 I10] The line to Redis is cut, reset, slow, breaks in the middle of an answer, or swallows everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_a_bad_line_opens_nothing() {
    let (_redis, lines, siege) = besieged().await;
    let all = |fault| lines.iter().for_each(|line| line.set(fault));
    for fault in
        [Fault::Cut, Fault::Reset, Fault::Slow(Duration::from_secs(5)), Fault::HalfReply, Fault::BlackHole]
    {
        siege.under(&format!("{fault:?}"), || all(fault), || all(Fault::None)).await;
    }
}

/// [I9 I10] The server is killed and started again, or stands still.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_i10_a_killed_or_paused_server_opens_and_loses_nothing() {
    let (mut redis, _lines, siege) = besieged().await;
    let server = Mutex::new(&mut redis);
    siege.under("killed", || server.lock().unwrap().kill(), || server.lock().unwrap().start_again()).await;
    siege.under("stopped", || server.lock().unwrap().pause(), || server.lock().unwrap().resume()).await;
    // LOADING: so many keys, each slow to load.
    let loading = || {
        let mut server = server.lock().unwrap();
        let mut pipe = redis::pipe();
        for number in 0..20_000 {
            pipe.cmd("SET").arg(format!("filler:{number}")).arg("x".repeat(100)).ignore();
        }
        pipe.query::<()>(&mut server.connection().unwrap()).unwrap();
        server.command(&["BGREWRITEAOF"]);
        server.await_info("persistence", "aof_rewrite_in_progress:0");
        server.kill();
        server.append_config("key-load-delay 300\nloading-process-events-interval-bytes 1024\n");
        server.start_again_without_waiting();
        eventually("LOADING", || {
            server.try_command(&["GET", "x"]).is_err_and(|error| error.to_string().contains("oading"))
        });
    };
    siege.under("loading", loading, || server.lock().unwrap().await_up()).await;
}

/// [I9 I10] The server answers with errors: it takes no writes, has no memory left, holds something else under our
/// names, or asks for another password.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_a_server_that_answers_with_errors_opens_nothing() {
    let (redis, _lines, siege) = besieged().await;
    let read_only = || drop(redis.command(&["REPLICAOF", "127.0.0.1", "1"]));
    siege.under("READONLY", read_only, || drop(redis.command(&["REPLICAOF", "NO", "ONE"]))).await;
    let full = || drop(redis.command(&["CONFIG", "SET", "maxmemory", "1"]));
    siege.under("OOM", full, || drop(redis.command(&["CONFIG", "SET", "maxmemory", "0"]))).await;
    // In one step each, so that no replica makes one of them anew meanwhile.
    let wrong_type = || {
        let script = "for _, key in ipairs(redis.call('KEYS', 'sluis:*')) do
                redis.call('RENAME', key, 'kept:' .. key)
                if redis.call('TYPE', 'kept:' .. key).ok == 'hash' then redis.call('RPUSH', key, 'else')
                else redis.call('HSET', key, 'what', 'else') end
            end";
        redis.command(&["EVAL", script, "0"]);
    };
    let right_type = || {
        let script = "for _, key in ipairs(redis.call('KEYS', 'kept:*')) do
                redis.call('RENAME', key, string.sub(key, 6))
            end";
        redis.command(&["EVAL", script, "0"]);
    };
    siege.under("wrong type", wrong_type, right_type).await;
}

/// [I9] Everything is gone, or is another data set: as long as what was kept is not back, nobody gets in, and nobody is
/// asked to enrol anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_a_flushed_server_opens_nothing() {
    let (mut redis, _lines, siege) = besieged().await;
    let server = Mutex::new(&mut redis);
    let kept = Mutex::new(Vec::new());
    // A copy of the files, as a backup would have them: taken while nobody writes.
    let flush = || {
        let mut server = server.lock().unwrap();
        server.kill();
        *kept.lock().unwrap() = files(server.dir());
        server.start_again();
        server.command(&["FLUSHALL"]);
    };
    let restore = || {
        let mut server = server.lock().unwrap();
        server.kill();
        let dir = server.dir().join("appendonlydir");
        std::fs::remove_dir_all(&dir).unwrap();
        std::fs::create_dir(&dir).unwrap();
        for (name, bytes) in kept.lock().unwrap().iter() {
            std::fs::write(dir.join(name), bytes).unwrap();
        }
        server.start_again();
    };
    siege.under("flushed", flush, restore).await;
}

fn files(dir: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let all = std::fs::read_dir(dir.join("appendonlydir")).unwrap().map(Result::unwrap);
    all.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
}

/// [I9 I10] The password is changed at the server and then in the file: no restart is needed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_a_changed_password_needs_no_restart() {
    let redis = Mutex::new(Redis::with_password("first"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("redis.password");
    std::fs::write(&file, "first\n").unwrap();
    let address = redis.lock().unwrap().address();
    let store = on_redis(address)
        .replace("redis: {", &format!("redis: {{ password: {{ file: \"{}\" }}, ", file.display()));
    let siege = Siege::begin(Fleet::start(2, |_| store.clone(), "")).await;
    let change = || {
        let mut redis = redis.lock().unwrap();
        redis.command(&["CONFIG", "SET", "requirepass", "second"]);
        redis.log_in_as("default", "second");
        redis.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    };
    siege.under("password changed", change, || std::fs::write(&file, "second\n").unwrap()).await;
}

/// [I9 I10] Sentinel makes a replica the master: what was acknowledged is there, since it waited for a replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_i10_a_failover_by_sentinel_loses_nothing() {
    let set = Mutex::new(SentinelSet::start());
    let store = {
        let set = set.lock().unwrap();
        let nodes: Vec<String> =
            set.sentinels.iter().map(|sentinel| format!("\"{}\"", sentinel.address())).collect();
        format!(
            "{{ redis: {{ sentinel: {{ nodes: [{}], service: {} }}, durability: 1 }} }}",
            nodes.join(", "),
            SentinelSet::NAME
        )
    };
    let mut siege = Siege::begin(Fleet::start(2, |_| store.clone(), "")).await;
    siege.probe = Some(Probe::start(set.lock().unwrap().acknowledges()));
    let old = Mutex::new(0);
    let lose = || {
        let mut set = set.lock().unwrap();
        let master = set.master();
        *old.lock().unwrap() = master;
        set.servers[master].kill();
    };
    // From when on there is another one; the probe says when it can acknowledge.
    let replaced = || {
        set.lock().unwrap().await_failover(*old.lock().unwrap());
    };
    siege.under("failover by Sentinel", lose, replaced).await;
}

/// [I9 I10] A node of the Cluster is lost, and its replica takes over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_i10_a_failover_in_a_cluster_loses_nothing() {
    let cluster = Mutex::new(Cluster::start(1));
    let store = {
        let cluster = cluster.lock().unwrap();
        let nodes: Vec<String> =
            cluster.nodes.iter().take(3).map(|node| format!("\"{}\"", node.address())).collect();
        format!("{{ redis: {{ cluster: {{ nodes: [{}] }}, durability: 1 }} }}", nodes.join(", "))
    };
    let mut siege = Siege::begin(Fleet::start(2, |_| store.clone(), "")).await;
    siege.probe = Some(Probe::start(cluster.lock().unwrap().acknowledges()));
    let lose = || cluster.lock().unwrap().nodes[0].kill();
    // The one that took over has no replica of its own until the lost node is back as that, and `durability` asks for one.
    let whole = || {
        let mut cluster = cluster.lock().unwrap();
        eventually("the replica to take over", || cluster.nodes[3].is_master());
        cluster.nodes[0].start_again();
        cluster.await_whole();
        cluster.nodes[0].await_info("replication", "master_link_status:up");
    };
    siege.under("failover in a Cluster", lose, whole).await;
}

//! Redis as operators run it: it asks for the client's own certificate, and moves slots between the nodes of a Cluster.

use std::{
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use reqwest::StatusCode;
use tokio::task::block_in_place;

use crate::support::{
    Authenticator, Demo, Sluis,
    fleet::{Fleet, on_redis, rounds},
    process::PATIENCE,
    redis::{Cluster, Redis, eventually},
    sluis::{Setup, care_records},
};

/// Who signs certificates.
struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    /// A new one; its certificate is written to `root`.
    fn new(root: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Else it has the same name as those that it signs, and OpenSSL takes them for their own issuers.
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let key = KeyPair::generate().unwrap();
        std::fs::write(root, params.self_signed(&key).unwrap().pem()).unwrap();
        Self(Issuer::new(params, key))
    }

    /// A certificate and its key, as `NAME.crt` and `NAME.key`.
    fn write(&self, dir: &Path, name: &str) {
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        std::fs::write(dir.join(format!("{name}.crt")), certificate.pem()).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// Whether somebody new can log in and link an authenticator.
async fn takes(sluis: &Sluis, user: &str) -> bool {
    let mut browser = sluis.browser();
    let answer = sluis.password(&mut browser, user).await;
    if answer.status == StatusCode::SERVICE_UNAVAILABLE {
        return false;
    }
    let (_, entered) = sluis.enrol(&mut browser, &answer).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
    true
}

/// [F7] A Redis with `tls-auth-clients yes` is served with Sluis' own certificate and with nothing less; a renewed one counts
/// without a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f7_redis_gets_the_certificate_that_it_asks_for() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let authority = Authority::new(&dir.path().join("root.crt"));
    let stranger = Authority::new(&dir.path().join("other-root.crt"));
    authority.write(dir.path(), "server");
    authority.write(dir.path(), "client");
    stranger.write(dir.path(), "stranger");
    let mut redis = Redis::with_tls(&at("server.crt"), &at("server.key"), &at("root.crt"));
    let store = |client: &str| {
        format!(
            "{{ redis: {{ url: \"rediss://localhost:{}/0\", tls: {{ ca_file: \"{}\"{client} }} }} }}",
            redis.port(),
            at("root.crt")
        )
    };
    let with = |name: &str| {
        let file = |end: &str| at(&format!("{name}.{end}"));
        store(&format!(", certificate_file: \"{}\", key_file: \"{}\"", file("crt"), file("key")))
    };
    let app = Demo::start_with(&["--any-user"]);
    let apps = format!("insecure_cookies: true\n{}", care_records(app.address));
    let sluis = Setup { store: Some(&with("client")), ..Setup::plain(&apps) }.start();
    assert!(takes(&sluis, "anna").await);
    let config = std::fs::read_to_string(sluis.file("config.yaml")).unwrap();
    for (what, other) in [("no certificate", store("")), ("a stranger's", with("stranger"))] {
        let file = sluis.file("refused.yaml");
        let beside = config.replace("control.sock", "refused.sock").replace("audit.jsonl", "refused.jsonl");
        std::fs::write(&file, beside.replace(&with("client"), &other)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluis"));
        let out = command.args(["serve", "--config"]).arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success(), "{what}: {said}");
        assert!(said.contains("the store cannot be opened"), "{what}: {said}");
    }
    // What is in the files counts from the next connection on.
    for name in ["crt", "key"] {
        std::fs::copy(at(&format!("stranger.{name}")), at(&format!("client.{name}"))).unwrap();
    }
    redis.kill();
    redis.start_again_without_waiting();
    assert!(!takes(&sluis, "bram").await, "a stranger's certificate");
    authority.write(dir.path(), "client");
    let back = async {
        while !takes(&sluis, "chris").await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("it is back by itself");
}

/// Moves a slot, as `redis-cli --cluster reshard` does: two keys at a time, so that what belongs together is here and there.
fn move_slot(cluster: &Cluster, slot: u16, from: usize, to: usize) {
    let slot = slot.to_string();
    let id = |node: usize| -> String {
        redis::from_redis_value(cluster.nodes[node].command(&["CLUSTER", "MYID"])).unwrap()
    };
    let (source, target) = (&cluster.nodes[from], &cluster.nodes[to]);
    let (source_id, target_id) = (id(from), id(to));
    target.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id]);
    source.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id]);
    loop {
        let keys: Vec<String> =
            redis::from_redis_value(source.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "2"])).unwrap();
        if keys.is_empty() {
            break;
        }
        let port = target.port().to_string();
        let mut words = vec!["MIGRATE", "127.0.0.1", &*port, "", "0", "5000", "KEYS"];
        words.extend(keys.iter().map(String::as_str));
        source.command(&words);
    }
    // The target first: else both could believe for a moment that it is the other's.
    for node in [to, from, 3 - to - from] {
        cluster.nodes[node].command(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]);
    }
}

/// [F7 I9] Slots of a Cluster move from node to node while people log in: not one login is refused, and everything is there
/// afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f7_slots_move_while_people_log_in() {
    let cluster = Cluster::start(0);
    let nodes: Vec<String> = cluster.nodes.iter().map(|node| format!("\"{}\"", node.address())).collect();
    let store = format!("{{ redis: {{ cluster: {{ nodes: [{}] }}, shards: 3 }} }}", nodes.join(", "));
    let fleet = Arc::new(Fleet::start(2, |_| store.clone(), ""));
    let (stop, logins) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let people: Vec<_> = (0..4)
        .map(|one| {
            let (fleet, stop, logins) = (Arc::clone(&fleet), Arc::clone(&stop), Arc::clone(&logins));
            tokio::spawn(async move {
                let mut known: Vec<(String, Authenticator)> = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let user = format!("user{one}-{}", known.len());
                    let (mut browser, authenticator) = fleet.enrolled(one % 2, &user).await;
                    // A logout is announced to both replicas.
                    assert!(browser.get("/logout").await.status.is_redirection());
                    known.push((user, authenticator));
                    logins.fetch_add(1, Ordering::Relaxed);
                }
                known
            })
        })
        .collect();
    let slots: Vec<u16> = (0..3)
        .map(|shard| {
            let tag = format!("{{{shard:02}}}");
            redis::from_redis_value(cluster.nodes[0].command(&["CLUSTER", "KEYSLOT", &tag])).unwrap()
        })
        .collect();
    let owner = |slot: u16| match slot {
        0..=5460 => 0,
        5461..=10922 => 1,
        _ => 2,
    };
    let (mut moved, before) = (0, logins.load(Ordering::Relaxed));
    for round in 0..rounds(12) {
        for slot in &slots {
            let (from, to) = ((owner(*slot) + round) % 3, (owner(*slot) + round + 1) % 3);
            block_in_place(|| move_slot(&cluster, *slot, from, to));
            moved += 1;
            assert!(people.iter().all(|one| !one.is_finished()), "somebody met a failure in round {round}");
        }
        let so_far = logins.load(Ordering::Relaxed);
        block_in_place(|| eventually("more logins", || logins.load(Ordering::Relaxed) > so_far + 2));
    }
    stop.store(true, Ordering::Relaxed);
    let mut redirects = std::collections::BTreeMap::new();
    for sluis in &fleet.replicas {
        for kind in ["moved", "ask", "midway", "elsewhere"] {
            let series = format!("sluis_redis_redirects_total{{kind=\"{kind}\"}}");
            *redirects.entry(kind).or_insert(0.0) += sluis.metric(&series).await;
        }
    }
    assert!(redirects["moved"] > 0.0, "{redirects:?}");
    fleet.later(Duration::from_secs(60));
    let mut all = 0;
    for one in people {
        for (user, authenticator) in one.await.unwrap() {
            let mut browser = fleet.browser(all % 2);
            let answer = fleet.log_in(&mut browser, &user, &authenticator).await;
            assert_eq!(
                (answer.status, answer.location()),
                (StatusCode::SEE_OTHER, "/"),
                "{user}: {answer:?}"
            );
            all += 1;
        }
    }
    eprintln!(
        "{moved} moves of slots, {} logins meanwhile, none refused, all {all} users are there; asked again: {redirects:?}",
        logins.load(Ordering::Relaxed) - before
    );
}

/// Waits until a series is as it should be.
async fn await_series(sluis: &Sluis, series: &str, right: impl Fn(f64) -> bool) {
    let waiting = async {
        while !right(sluis.metric(series).await) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "{series} is {}", sluis.metric(series).await);
}

/// [F6] What operators see of the connections: how many are open, that they were made anew, and that they cannot be made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f6_connections_to_redis_are_counted() {
    let mut redis = Redis::durable();
    let fleet = Fleet::start(1, |_| on_redis(redis.address()), "");
    let sluis = &fleet.replicas[0];
    let (open, made) = ("sluis_redis_connections ", "sluis_redis_connects_total{outcome=\"ok\"}");
    let failed = "sluis_redis_connects_total{outcome=\"failed\"}";
    // The one that all share, and the one that waits for news.
    await_series(sluis, open, |open| open == 2.0).await;
    assert_eq!(sluis.metric(failed).await, 0.0);
    let before = sluis.metric(made).await;
    redis.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    await_series(sluis, made, |made| made >= before + 2.0).await;
    await_series(sluis, open, |open| open == 2.0).await;
    redis.pause();
    let mut browser = sluis.browser();
    let (answer, ()) = tokio::join!(
        sluis.password(&mut browser, "anna"),
        await_series(sluis, "sluis_redis_commands_in_flight", |asked| asked > 0.0)
    );
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    redis.resume();
    redis.kill();
    await_series(sluis, failed, |failed| failed > 0.0).await;
    await_series(sluis, open, |open| open == 0.0).await;
    assert_eq!(sluis.metric("sluis_redis_waiting").await, 0.0);
}

//! Against real servers, each test with its own: the contract, and what only a shared backend can get wrong.

mod copying;
mod server;

use std::{sync::Arc, time::Duration};

use self::server::Server;
use super::{OpenError, open};
use crate::{
    base::{
        clock::{SystemClock, SystemMonotonic},
        keyring::Keyring,
        random::SystemRandom,
        secret::{SecretBytes, SecretString},
    },
    config::shared::{Password, RedisConfig},
    metrics::Metrics,
    model::{AppId, AuthenticatorId, DeviceId, LoginId, Revocation, SessionId},
    store::{
        AttemptState, NewAuthenticator, Rekeyed, SealedCount, SharedStore, StoreResult,
        contract::{self, NOW, Recorder, authenticator, enrol, run_contract, user},
        feed::{Feed, ReplicaId, Settings, Surroundings},
    },
};

fn ring(fills: &[u8]) -> Arc<Keyring> {
    let masters: Vec<_> = fills.iter().map(|fill| SecretBytes::new(vec![*fill; 32])).collect();
    Arc::new(Keyring::new(&masters, Arc::new(SystemRandom)).unwrap())
}

/// A replica of Sluis on this data set.
fn replica(config: RedisConfig, keyring: &Arc<Keyring>) -> Result<SharedStore, OpenError> {
    let opened = open(config, Arc::clone(keyring), Arc::new(SystemRandom))?;
    let settings = Settings { lease: Duration::from_secs(2), grace: Duration::ZERO };
    let surroundings = Surroundings {
        clock: Arc::new(SystemMonotonic::default()),
        wall: Arc::new(SystemClock),
        metrics: Arc::new(Metrics::new(&[])),
    };
    let id = ReplicaId(crate::base::random::bytes(&SystemRandom).unwrap());
    let feed = Feed::start(opened.shards(), id, settings, surroundings, &opened.runtime());
    Ok(opened.with_feed(Arc::new(feed)))
}

/// Follows the feed from the start, as every replica does.
fn begun(store: SharedStore) -> SharedStore {
    tokio::task::block_in_place(|| {
        tokio::runtime::Handle::current().block_on(Recorder::following(&store, NOW));
    });
    store
}

async fn following(store: &SharedStore) -> Arc<Recorder> {
    Recorder::following(store, NOW).await
}

fn refused(config: RedisConfig, keyring: &Arc<Keyring>) -> OpenError {
    replica(config, keyring).map(|_| ()).unwrap_err()
}

fn later(secs: u64) -> crate::base::clock::UnixMillis {
    NOW.plus(Duration::from_secs(secs))
}

mod one_shard {
    use super::*;

    fn fresh() -> (SharedStore, Server) {
        let server = Server::start(&[]);
        (begun(replica(server.config(), &ring(&[1])).unwrap()), server)
    }

    run_contract!(fresh);
}

mod several_shards {
    use super::*;

    fn fresh() -> (SharedStore, Server) {
        let server = Server::start(&[]);
        (begun(replica(RedisConfig { shards: 5, ..server.config() }, &ring(&[1])).unwrap()), server)
    }

    run_contract!(fresh);
}

/// One of everything.
async fn fill(store: &SharedStore) {
    let (anna, until) = (user("anna"), later(1000));
    enrol(store, &anna, 1).await;
    store.note_seen(&anna, true, NOW).await.unwrap();
    assert!(store.advance_step(&anna, AuthenticatorId([1; 16]), 500, 1, NOW).await.unwrap());
    assert!(store.consume(LoginId([0xb1; 16]), until).await.unwrap());
    let locked = AttemptState { failures: 50, wait_until: NOW };
    assert!(store.swap_attempts(&anna, AttemptState::default(), locked).await.unwrap());
    store.own(DeviceId([0xb2; 16]), &anna, until).await.unwrap();
    store.own(DeviceId([0xb2; 16]), &user("bram"), until).await.unwrap();
    store.end_session(SessionId([0xb3; 16]), until).await.unwrap();
    store.set_blocked(&user("eve"), true, NOW).await.unwrap();
    store.reset(&user("carl"), NOW, until).await.unwrap();
    store.learn_sealed_name(&AppId::new("records"), "JSESSIONID").await.unwrap();
}

/// What `fill` put there is there.
async fn holds_all(store: &SharedStore) {
    let anna = user("anna");
    let kept = store.authenticators(&anna).await.unwrap().remove(0);
    assert_eq!((kept.secret.expose(), kept.last_step, kept.drift_steps), ([1; 20].as_slice(), 500, 1));
    assert!(!store.advance_step(&anna, kept.id, 500, 1, NOW).await.unwrap(), "I4");
    assert!(!store.consume(LoginId([0xb1; 16]), later(1000)).await.unwrap(), "I2");
    assert_eq!(store.attempts(&anna).await.unwrap().failures, 50, "I8");
    assert_eq!(store.sealed_names().await.unwrap().len(), 1);
    let present = following(store).await.take();
    assert!(present.contains(&Revocation::Session { id: SessionId([0xb3; 16]), until: later(1000) }));
    for kind in ["Device", "User", "Blocked"] {
        assert!(present.iter().any(|told| format!("{told:?}").starts_with(kind)), "{kind}: {present:?}");
    }
}

/// What every verb answers, by name.
async fn all_verbs(store: &SharedStore) -> Vec<(&'static str, StoreResult<()>)> {
    let (anna, id, until) = (user("anna"), AuthenticatorId([1; 16]), later(1000));
    let new = NewAuthenticator { authenticator: authenticator(9), at_most: 9, begun: NOW };
    let none = AttemptState::default();
    vec![
        ("authenticators", store.authenticators(&anna).await.map(drop)),
        ("add", store.add(&anna, new).await.map(drop)),
        ("advance_step", store.advance_step(&anna, id, 900, 0, NOW).await.map(drop)),
        ("remove", store.remove(&anna, id).await.map(drop)),
        ("note_seen", store.note_seen(&anna, true, later(5)).await),
        ("user", store.user(&anna).await.map(drop)),
        ("list", store.list("", None, 9).await.map(drop)),
        ("reset", store.reset(&anna, NOW, until).await.map(drop)),
        ("set_blocked", store.set_blocked(&anna, true, NOW).await),
        ("consume", store.consume(LoginId([7; 16]), until).await.map(drop)),
        ("attempts", store.attempts(&anna).await.map(drop)),
        ("swap_attempts", store.swap_attempts(&anna, none, none).await.map(drop)),
        ("own", store.own(DeviceId([7; 16]), &anna, until).await.map(drop)),
        ("end_session", store.end_session(SessionId([7; 16]), until).await),
        ("learn_sealed_name", store.learn_sealed_name(&AppId::new("x"), "y").await),
        ("sealed_names", store.sealed_names().await.map(drop)),
        ("ping", store.ping().await.map(drop)),
        ("prune", store.prune(NOW).await.map(drop)),
    ]
}

/// [F7] Whoever reads Redis learns nothing of whom, what or with which secret.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_redis_tells_nothing() {
    let server = Server::start(&["--rdbcompression", "no"]);
    let store = replica(server.config(), &ring(&[1])).unwrap();
    let _follower = following(&store).await;
    fill(&store).await;
    server.command(&["SAVE"]);
    let dump = std::fs::read(server.directory().join("dump.rdb")).unwrap();
    assert!(dump.len() > 1000 && find(&dump, b"sluis:{00}:users"), "the dump is one");
    for clear in
        [b"anna".as_slice(), b"bram", b"eve", b"carl", b"care", b"phone", b"totp", b"JSESSIONID", b"records"]
    {
        assert!(!find(&dump, clear), "{}", clear.escape_ascii());
    }
    for bytes in [[1_u8; 16], [0xb1; 16], [0xb2; 16], [0xb3; 16]] {
        assert!(!find(&dump, &bytes), "{bytes:?}");
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// I9: a record that was changed or moved is an error, never "not enrolled".
#[tokio::test(flavor = "multi_thread")]
async fn i9_a_record_that_was_changed_or_moved_is_an_error() {
    let server = Server::start(&[]);
    let store = replica(server.config(), &ring(&[1])).unwrap();
    let (anna, bram) = (user("anna"), user("bram"));
    enrol(&store, &anna, 1).await;
    let fields = |server: &Server| server.hash("sluis:{00}:users");
    let annas = fields(&server).remove(0);
    enrol(&store, &bram, 2).await;
    let brams = fields(&server).into_iter().find(|(field, _)| *field != annas.0).unwrap();
    // Bram's authenticator in the place of Anna's.
    server.set_hash("sluis:{00}:users", &annas.0, &brams.1);
    for (verb, answer) in [
        ("authenticators", store.authenticators(&anna).await.map(drop)),
        ("user", store.user(&anna).await.map(drop)),
        ("attempts", store.attempts(&anna).await.map(drop)),
        ("list", store.list("", None, 9).await.map(drop)),
        ("reset", store.reset(&anna, NOW, later(9)).await.map(drop)),
    ] {
        let error = answer.map_err(|error| error.0).unwrap_err();
        assert!(error.contains("does not open"), "{verb}: {error}");
    }
    assert_eq!(store.authenticators(&bram).await.unwrap().len(), 1, "nobody else is touched");
    let mut changed = annas.1.clone();
    *changed.last_mut().unwrap() ^= 1;
    for damaged in [changed, annas.1[..12].to_vec(), b"x".to_vec()] {
        server.set_hash("sluis:{00}:users", &annas.0, &damaged);
        assert!(store.authenticators(&anna).await.is_err());
    }
    server.set_hash("sluis:{00}:users", &annas.0, &annas.1);
    assert_eq!(store.authenticators(&anna).await.unwrap().len(), 1);
}

/// I9: a Redis that was flushed, or holds another data set, answers nothing.
#[tokio::test(flavor = "multi_thread")]
async fn i9_a_flushed_redis_answers_nothing_and_neither_does_another_data_set() {
    let server = Server::start(&[]);
    let store = replica(server.config(), &ring(&[1])).unwrap();
    let _follower = following(&store).await;
    enrol(&store, &user("anna"), 1).await;
    server.command(&["FLUSHALL"]);
    for (verb, answer) in all_verbs(&store).await {
        let error = answer.map_err(|error| error.0).unwrap_err();
        assert!(error.contains("DATASET"), "{verb}: {error}");
    }
    let config = RedisConfig { initialise: false, ..server.config() };
    assert!(matches!(refused(config, &ring(&[1])), OpenError::NoDataSet { .. }));
    // Another replica starts and makes an empty one: the first one must not take it for its own.
    let second = replica(server.config(), &ring(&[1])).unwrap();
    assert!(second.authenticators(&user("anna")).await.unwrap().is_empty());
    for (verb, answer) in all_verbs(&store).await {
        assert!(answer.is_err(), "{verb}");
    }
    // What is left without its marker is no empty Redis.
    enrol(&second, &user("anna"), 1).await;
    server.command(&["DEL", "sluis:{00}:marker"]);
    assert!(refused(server.config(), &ring(&[1])).to_string().contains("records are there"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_evicts_is_refused() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    assert!(
        matches!(refused(server.config(), &ring(&[1])), OpenError::Evicts { policy } if policy == "allkeys-lru")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_shards_and_the_keys_must_be_those_of_the_data_set() {
    let server = Server::start(&[]);
    drop(replica(RedisConfig { shards: 3, ..server.config() }, &ring(&[1])).unwrap());
    let error = refused(server.config(), &ring(&[1]));
    assert!(matches!(&error, OpenError::Shards { found, typed: 1 } if found == "3"), "{error}");
    let three = RedisConfig { shards: 3, ..server.config() };
    assert!(matches!(refused(three.clone(), &ring(&[2])), OpenError::WrongKey));
    server.command(&["DEL", "sluis:{02}:marker", "sluis:{02}:head"]);
    assert!(matches!(refused(three, &ring(&[1])), OpenError::Lost { shard: 2 }));
}

/// Rotation touches one box; an old key can be dropped when the new one has been in front.
#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_and_an_old_one_can_be_dropped() {
    let server = Server::start(&[]);
    let first = replica(server.config(), &ring(&[1])).unwrap();
    let _follower = following(&first).await;
    fill(&first).await;
    drop(replica(server.config(), &ring(&[2, 1])).unwrap());
    let second = replica(server.config(), &ring(&[2])).unwrap();
    holds_all(&second).await;
    assert!(matches!(refused(server.config(), &ring(&[1])), OpenError::WrongKey));
    // While it runs, too: a ring that does not open it is refused, one that does puts its first key in front.
    assert_eq!(second.rekey(ring(&[3])).await.unwrap(), Rekeyed::Needed { secrets: 1 });
    assert_eq!(second.rekey(ring(&[3, 2])).await.unwrap(), Rekeyed::Done { renewed: 1 });
    assert_eq!(second.sealed().await.unwrap(), SealedCount { first: 1, ..SealedCount::default() });
    drop(replica(server.config(), &ring(&[3])).unwrap());
    // Who runs since before goes on: no record was touched.
    enrol(&first, &user("bram"), 2).await;
    assert_eq!(second.authenticators(&user("bram")).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_at_once_agree_on_one_data_set() {
    let server = Server::start(&[]);
    let start = |_| {
        let config = RedisConfig { shards: 4, ..server.config() };
        tokio::task::spawn_blocking(move || replica(config, &ring(&[1])).unwrap())
    };
    let starting: Vec<_> = (0..6).map(start).collect();
    let mut stores = Vec::new();
    for store in starting {
        stores.push(store.await.unwrap());
    }
    enrol(&stores[0], &user("anna"), 1).await;
    for store in &stores {
        assert_eq!(store.authenticators(&user("anna")).await.unwrap().len(), 1);
    }
}

/// I3: what one replica announces, every other one knows before it answers.
#[tokio::test(flavor = "multi_thread")]
async fn i3_a_takeover_is_known_to_every_replica_before_the_answer() {
    let server = Server::start(&[]);
    let stores: Vec<_> = (0..3).map(|_| replica(server.config(), &ring(&[1])).unwrap()).collect();
    let mut followers = Vec::new();
    for store in &stores {
        followers.push(following(store).await);
    }
    for round in 0..100_u8 {
        let (device, by) = (DeviceId([round; 16]), &stores[usize::from(round) % 3]);
        by.own(device, &user("anna"), later(9)).await.unwrap();
        let taken = by.own(device, &user("bram"), later(9)).await.unwrap();
        let told = Revocation::Device { device, epoch: taken.epoch, until: later(9) };
        for follower in &followers {
            assert_eq!(follower.take(), std::slice::from_ref(&told), "round {round}");
        }
        // Whoever lost the connection before the answer asks again, as the owner: it is complete then, too.
        let again = stores[(usize::from(round) + 1) % 3].own(device, &user("bram"), later(9)).await.unwrap();
        assert_eq!((again.epoch, again.taken_from), (taken.epoch, None));
        followers.iter().for_each(|follower| assert_eq!(follower.take().len(), 1));
    }
    stores[0].learn_sealed_name(&AppId::new("records"), "sid").await.unwrap();
    let told = Revocation::SealedName { app: AppId::new("records"), name: "sid".to_owned() };
    followers.iter().for_each(|follower| assert_eq!(follower.take(), std::slice::from_ref(&told)));
}

/// [I9] An announcement that cannot be read stands among what still matters, too: nobody stays without it, and the feed goes
/// on.
#[tokio::test(flavor = "multi_thread")]
async fn i9_a_damaged_announcement_holds_nothing_up() {
    let server = Server::start(&[]);
    let store = replica(server.config(), &ring(&[1])).unwrap();
    let follower = following(&store).await;
    store.set_blocked(&user("anna"), true, NOW).await.unwrap();
    follower.take();
    // The next one, changed on its way.
    let damage = "local e = redis.call('XADD', KEYS[1], '2-0', 'm', 'markmark', 'p', redis.call('HGET', KEYS[2], 'mark'), \
                  'e', 'rubbish'); redis.call('HSET', KEYS[2], 'seq', '2', 'mark', 'markmark'); return e";
    server.command(&["EVAL", damage, "2", "sluis:{00}:feed", "sluis:{00}:head"]);
    let bram = user("bram");
    store.set_blocked(&bram, true, NOW).await.unwrap();
    let told = follower.take();
    assert!(told.iter().any(|told| matches!(told, Revocation::Blocked { user, .. } if *user == bram)));
}

/// I10: what was acknowledged survives `kill -9` of the server, and the store comes back by itself.
#[tokio::test(flavor = "multi_thread")]
async fn i10_what_was_acknowledged_survives_a_killed_server_and_the_store_recovers() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = replica(server.config(), &ring(&[1])).unwrap();
    let _follower = following(&store).await;
    fill(&store).await;
    server.kill();
    let begun = std::time::Instant::now();
    let error = store.authenticators(&user("anna")).await.map(drop).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(1), "who is down is known at once: {error}");
    server.start_again();
    let begun = std::time::Instant::now();
    while store.authenticators(&user("anna")).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "back after {:?}", begun.elapsed());
    holds_all(&store).await;
}

/// A server that stops answers nothing, not even late; and what hangs ends in time.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_an_error_in_time() {
    let server = Server::start(&[]);
    let config = RedisConfig { timeout: Duration::from_millis(200), ..server.config() };
    let store = replica(config, &ring(&[1])).unwrap();
    enrol(&store, &user("anna"), 1).await;
    server.stop();
    let begun = std::time::Instant::now();
    assert!(store.authenticators(&user("anna")).await.is_err());
    assert!(store.consume(LoginId([1; 16]), later(9)).await.is_err());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    server.go_on();
    let begun = std::time::Instant::now();
    while store.authenticators(&user("anna")).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "back after {:?}", begun.elapsed());
}

/// `durability`: acknowledged is what the replicas have.
#[tokio::test(flavor = "multi_thread")]
async fn what_too_few_replicas_have_is_not_acknowledged() {
    let master = Server::start_on_port(&[]);
    let mut copy = Server::replica_of(&master);
    let config = RedisConfig { durability: 1, timeout: Duration::from_millis(300), ..master.config() };
    let store = replica(config, &ring(&[1])).unwrap();
    let _follower = following(&store).await;
    fill(&store).await;
    let masters = master.hash("sluis:{00}:users");
    let mut copied = copy.hash("sluis:{00}:users");
    copied.sort();
    assert_eq!(
        copied,
        {
            let mut all = masters;
            all.sort();
            all
        },
        "the replica has it when it is acknowledged"
    );
    copy.kill();
    let new = NewAuthenticator { authenticator: authenticator(9), at_most: 9, begun: NOW };
    let error = store.add(&user("zoë"), new).await.map(drop).unwrap_err();
    assert!(error.0.contains("only 0 of 1 replicas"), "{error}");
    assert!(store.authenticators(&user("anna")).await.is_ok(), "reading needs no replica");
}

/// An ACL user with no more than the example says; its password comes from a file and can be changed.
#[tokio::test(flavor = "multi_thread")]
async fn an_acl_user_with_few_rights_is_enough_and_its_password_can_be_changed() {
    let server = Server::start(&[]);
    let rights =
        ["~sluis:*", "resetchannels", "-@all", "+@read", "+@write", "+@scripting", "+wait", "+info", "+time"];
    let set = |password: &str| {
        let mut words = vec!["ACL", "SETUSER", "sluis", "on", "reset", "on", password];
        words.extend(rights);
        words.push("-@dangerous");
        words.push("+info");
        server.command(&words);
    };
    set(">first");
    let file = server.directory().join("password");
    std::fs::write(&file, "first\n").unwrap();
    let config = RedisConfig {
        username: Some("sluis".to_owned()),
        password: Some(Password::File(file.clone())),
        ..server.config()
    };
    let store = replica(config, &ring(&[1])).unwrap();
    let _follower = following(&store).await;
    fill(&store).await;
    holds_all(&store).await;

    let wrong = Some(Password::Fixed(SecretString::new("wrong".to_owned())));
    let error = refused(
        RedisConfig { username: Some("sluis".to_owned()), password: wrong, ..server.config() },
        &ring(&[1]),
    );
    assert!(!error.to_string().contains("\"wrong\""), "{error}");

    set(">second");
    server.command(&["CLIENT", "KILL", "USER", "sluis"]);
    assert!(store.authenticators(&user("anna")).await.is_err(), "the old password is refused");
    std::fs::write(&file, "second\n").unwrap();
    let begun = std::time::Instant::now();
    while store.authenticators(&user("anna")).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "back after {:?}", begun.elapsed());
}

/// A dead connection is replaced without anybody noticing.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_cut_is_replaced_without_an_error() {
    let server = Server::start(&[]);
    let store = replica(server.config(), &ring(&[1])).unwrap();
    enrol(&store, &user("anna"), 1).await;
    for round in 0..20 {
        server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
        let answer = store.advance_step(&user("anna"), AuthenticatorId([1; 16]), 200 + round, 0, NOW).await;
        assert!(answer.unwrap(), "round {round}");
        server.command(&["SCRIPT", "FLUSH"]);
        assert!(store.consume(LoginId([round as u8; 16]), later(9)).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_speaks_tls_and_trusts_no_other_root() {
    let (server, config) = Server::with_tls();
    let store = replica(config.clone(), &ring(&[1])).unwrap();
    enrol(&store, &user("anna"), 1).await;
    let tls = config.tls.clone().unwrap();
    let other = server.directory().join("other.crt");
    let foreign = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&other, foreign.cert.pem()).unwrap();
    let wrong =
        RedisConfig { tls: Some(crate::config::shared::RedisTls { ca_file: Some(other), ..tls }), ..config };
    assert!(matches!(refused(wrong, &ring(&[1])), OpenError::Server(_)));
}

/// [F7] Three masters: every verb finds its node.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_the_contract() {
    let (nodes, config) = Server::cluster();
    let fresh = |name: &str| {
        begun(replica(RedisConfig { prefix: name.to_owned(), ..config.clone() }, &ring(&[1])).unwrap())
    };
    contract::authenticators_are_kept_whole_and_in_order(fresh("a")).await;
    contract::users_are_listed_in_pages(fresh("b")).await;
    contract::reset_leaves_nothing_and_is_announced(fresh("c")).await;
    contract::i3_a_takeover_raises_the_epoch_and_is_announced_before_the_answer(fresh("d")).await;
    contract::whoever_follows_gets_what_still_matters_and_then_the_rest(fresh("e")).await;
    contract::pruning_forgets_only_what_is_over(fresh("f")).await;
    let store = fresh("g");
    let _follower = following(&store).await;
    fill(&store).await;
    holds_all(&store).await;
    let used = nodes.iter().filter(|node| !node.keys("g:*").is_empty()).count();
    assert_eq!(used, 3, "the shards are on all masters");
}

/// [F7] The sentinels say who is the master, and go on saying so after a failover.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_by_sentinels_is_followed() {
    let (mut set, config) = Server::sentinels();
    let store = replica(RedisConfig { durability: 1, ..config }, &ring(&[1])).unwrap();
    let _follower = following(&store).await;
    fill(&store).await;
    set.master.kill();
    let begun = std::time::Instant::now();
    while store.authenticators(&user("anna")).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "no new master");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    holds_all(&store).await;
}

//! Redis as one end of a copy.

use std::sync::Arc;

use super::{replica, ring, server::Server};
use crate::{
    base::{clock::ManualClock, random::SystemRandom},
    config::shared::RedisConfig,
    model::{DeviceId, LoginId},
    store::{
        contract::{NOW, authenticator, user},
        copy::{
            CopyError, Side, copy,
            tests::{all, fill, later, same},
        },
        portable::{Content, Portable},
        redis::{OpenError, open_portable},
        sqlite,
    },
};

fn end(config: RedisConfig, fill: u8) -> Arc<dyn Portable> {
    open_portable(config, ring(&[fill]), Arc::new(SystemRandom)).unwrap()
}

async fn run(source: &dyn Portable, target: &dyn Portable) -> Result<crate::store::copy::Report, CopyError> {
    copy(source, target, &(ManualClock::at(NOW) as _), false, &mut |_| {}).await
}

/// [F7] SQLite → Redis → SQLite is what it was, and Redis serves it: used stays used, dead stays dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f7_there_and_back_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let store = sqlite::open(&at("a.db"), ring(&[1])).unwrap();
    fill(&store, 200).await;
    drop(store);
    let first = sqlite::open_portable(&at("a.db"), ring(&[1])).unwrap();
    let server = Server::start(&[]);
    let between = end(server.config(), 2);
    assert_eq!(between.content().await.unwrap(), Content::Nothing);
    let report = run(first.as_ref(), between.as_ref()).await.unwrap();
    assert_eq!(report.kinds[1].1.compared, 202);
    assert_eq!(between.content().await.unwrap(), Content::Data);
    let back = sqlite::open_portable(&at("b.db"), ring(&[3])).unwrap();
    run(between.as_ref(), back.as_ref()).await.unwrap();
    let (before, after) = (all(first.as_ref(), NOW).await, all(back.as_ref(), NOW).await);
    assert!(before.len() > 600, "{}", before.len());
    assert!(same(&before, &after));
    assert!(back.epoch_floor().await.unwrap() > 1_700_000_000_000, "above all that Redis has given out");
    drop(between);

    let store = super::begun(replica(server.config(), &ring(&[2])).unwrap());
    assert!(!store.advance_step(&user("anna"), authenticator(201).id, 4711, 0, NOW).await.unwrap());
    assert_eq!(store.attempts(&user("anna")).await.unwrap().failures, 50);
    assert!(!store.consume(LoginId([5; 16]), later(600)).await.unwrap());
    let told = super::following(&store).await.take();
    assert!(told.len() >= 4, "an ended session, a takeover, a reset, a block: {told:?}");
    let own = store.own(DeviceId([251; 16]), &user("anna"), later(700)).await.unwrap();
    assert_eq!(own.taken_from, Some(user("bram")));
    // A replica is there: neither from nor to this one.
    let (ends, empty) = (end(server.config(), 2), Server::start(&[]));
    let error = run(ends.as_ref(), end(empty.config(), 2).as_ref()).await.unwrap_err();
    assert!(matches!(error, CopyError::InUse(Side::Source)), "{error}");
}

/// Half a copy is refused by every replica, until it is complete.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_copy_serves_nobody() {
    let server = Server::start(&[]);
    let half = end(server.config(), 1);
    half.begin_import(true).await.unwrap();
    assert!(matches!(replica(server.config(), &ring(&[1])), Err(OpenError::Unfinished)));
    assert_eq!(half.content().await.unwrap(), Content::Unfinished { alone: true });
    half.finish_import().await.unwrap();
    assert!(replica(server.config(), &ring(&[1])).is_ok());
}

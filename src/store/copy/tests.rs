use std::{
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;

use super::*;
use crate::{
    base::{
        clock::{ManualClock, UnixMillis},
        keyring::Keyring,
        random::SystemRandom,
        secret::SecretBytes,
    },
    model::{DeviceId, LoginId, SessionId},
    store::{
        AttemptState, SharedStore, StoreResult,
        contract::{NOW, authenticator, enrol, user},
        memory,
        portable::{Page, Person, Void},
        sqlite,
    },
};

fn clock() -> SharedClock {
    ManualClock::at(NOW)
}

pub(crate) fn later(secs: u64) -> UnixMillis {
    NOW.plus(std::time::Duration::from_secs(secs))
}

fn ring(fill: u8) -> Arc<Keyring> {
    Arc::new(Keyring::new(&[SecretBytes::new(vec![fill; 32])], Arc::new(SystemRandom)).unwrap())
}

/// A bit of everything, made by the verbs that servers use.
pub(crate) async fn fill(store: &SharedStore, users: u8) {
    for number in 0..users {
        let who = user(&format!("user {number}"));
        store.note_seen(&who, true, later(u64::from(number))).await.unwrap();
        enrol(store, &who, number).await;
        store.consume(LoginId([number; 16]), later(600)).await.unwrap();
        store.own(DeviceId([number; 16]), &who, later(900)).await.unwrap();
    }
    let (anna, bram) = (user("anna"), user("bram"));
    enrol(store, &anna, 200).await;
    enrol(store, &anna, 201).await;
    let id = authenticator(201).id;
    assert!(store.advance_step(&anna, id, 4711, -2, later(7)).await.unwrap());
    let locked = AttemptState { failures: 50, wait_until: later(3) };
    store.swap_attempts(&anna, AttemptState::default(), locked).await.unwrap();
    store.reset(&bram, NOW, later(800)).await.unwrap();
    store.set_blocked(&user("eve"), true, NOW).await.unwrap();
    store.own(DeviceId([251; 16]), &anna, later(700)).await.unwrap();
    store.own(DeviceId([251; 16]), &bram, later(700)).await.unwrap();
    store.end_session(SessionId([1; 16]), later(500)).await.unwrap();
    store.learn_sealed_name(&crate::model::AppId::new("records"), "sid").await.unwrap();
    store.learn_sealed_name(&crate::model::AppId::new("records"), "sid 2").await.unwrap();
    // What is over does not travel, but its epoch must not come again.
    store.own(DeviceId([252; 16]), &anna, NOW).await.unwrap();
    for owner in ["bram", "anna", "bram"] {
        store.own(DeviceId([252; 16]), &user(owner), NOW).await.unwrap();
    }
    store.consume(LoginId([252; 16]), NOW).await.unwrap();
}

pub(crate) async fn all(store: &dyn Portable, now: UnixMillis) -> Vec<Record> {
    let mut found = Vec::new();
    for kind in Kind::ALL {
        let mut after = None;
        loop {
            let page = store.export(kind, after.as_ref(), 7).await.unwrap();
            found.extend(page.records.into_iter().filter_map(|r| r.at(now)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    found
}

/// Same records, whatever their order.
pub(crate) fn same(a: &[Record], b: &[Record]) -> bool {
    a.len() == b.len() && a.iter().all(|r| b.contains(r))
}

async fn run(source: &dyn Portable, target: &dyn Portable) -> Result<Report, CopyError> {
    copy(source, target, &clock(), false, &mut |_| {}).await
}

/// [F7] There and back again: nothing is lost, nothing added; secrets are sealed under each side's own key.
#[tokio::test]
async fn a_copy_and_a_copy_back_are_equal() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let store = sqlite::open(&at("a.db"), ring(1)).unwrap();
    fill(&store, 40).await;
    drop(store);
    let first = sqlite::open_portable(&at("a.db"), ring(1)).unwrap();
    let (_, between) = memory::open_both();
    let report = run(first.as_ref(), between.as_ref()).await.unwrap();
    assert!(!report.resumed);
    let (_, devices) = report.kinds[1];
    assert_eq!(devices, Count { compared: 42, written: 41 }, "one of them is over");
    let back = sqlite::open_portable(&at("b.db"), ring(2)).unwrap();
    run(between.as_ref(), back.as_ref()).await.unwrap();
    let (before, after) = (all(first.as_ref(), NOW).await, all(back.as_ref(), NOW).await);
    assert_eq!(before.len(), 127);
    assert!(same(&before, &after));
    assert_eq!(back.epoch_floor().await.unwrap(), 4, "above the epoch 3 of the device that is over");

    // And it serves: a used code stays used, a lock stays, a takeover goes on counting.
    drop(back);
    let store = sqlite::open(&at("b.db"), ring(2)).unwrap();
    assert!(!store.advance_step(&user("anna"), authenticator(201).id, 4711, 0, NOW).await.unwrap());
    assert_eq!(store.attempts(&user("anna")).await.unwrap().failures, 50);
    assert!(!store.consume(LoginId([5; 16]), later(600)).await.unwrap());
    let own = store.own(DeviceId([251; 16]), &user("anna"), later(700)).await.unwrap();
    assert_eq!((own.epoch.0, own.taken_from), (2, Some(user("bram"))));
    assert_eq!(store.own(DeviceId([252; 16]), &user("anna"), later(700)).await.unwrap().epoch.0, 4);
}

/// Fails after so many writes, as when the process is killed.
struct Failing(Arc<dyn Portable>, AtomicUsize);

#[async_trait]
impl Portable for Failing {
    async fn content(&self) -> StoreResult<Content> {
        self.0.content().await
    }
    async fn begin_import(&self, alone: bool) -> StoreResult<()> {
        self.0.begin_import(alone).await
    }
    async fn finish_import(&self) -> StoreResult<()> {
        self.0.finish_import().await
    }
    async fn export(&self, kind: Kind, after: Option<&Cursor>, limit: usize) -> StoreResult<Page> {
        self.0.export(kind, after, limit).await
    }
    async fn lookup(&self, keys: &[Key]) -> StoreResult<Vec<Option<Record>>> {
        self.0.lookup(keys).await
    }
    async fn put(&self, records: Vec<Record>) -> StoreResult<()> {
        let left = self.1.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        left.map_err(|_| StoreError("cut off".to_owned()))?;
        self.0.put(records).await
    }
    async fn epoch_floor(&self) -> StoreResult<u64> {
        self.0.epoch_floor().await
    }
    async fn raise_epoch_floor(&self, floor: u64) -> StoreResult<()> {
        self.0.raise_epoch_floor(floor).await
    }
}

/// A copy that was cut off after any of its steps opens no door, and is completed by starting it again.
#[tokio::test]
async fn a_copy_that_was_cut_off_serves_nobody_and_is_completed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, source) = memory::open_both();
    fill(&store, 30).await;
    let path = dir.path().join("target.db");
    // Each time one kind of records is there already, and one more is written.
    for step in 0..5 {
        let target = Failing(sqlite::open_portable(&path, ring(1)).unwrap(), AtomicUsize::new(step.min(1)));
        let error = run(source.as_ref(), &target).await.unwrap_err();
        assert!(matches!(error, CopyError::Store { side: Side::Target, .. }), "{step}: {error}");
        drop(target);
        assert!(matches!(sqlite::open(&path, ring(1)), Err(sqlite::OpenError::Unfinished { .. })));
    }
    let target = sqlite::open_portable(&path, ring(1)).unwrap();
    let half = run(target.as_ref(), memory::open_both().1.as_ref()).await.unwrap_err();
    assert!(matches!(half, CopyError::SourceUnfinished), "half a copy is no source: {half}");
    let report = run(source.as_ref(), target.as_ref()).await.unwrap();
    assert!(report.resumed);
    assert!(same(&all(source.as_ref(), NOW).await, &all(target.as_ref(), NOW).await));
    drop(target);
    assert!(sqlite::open(&path, ring(1)).is_ok());
}

/// A target with data of its own is refused, unless both are to be one: then whatever either forbids stays forbidden.
#[tokio::test]
async fn i3_i4_i8_merging_takes_no_refusal_back() {
    let ((old, source), (new, target)) = (memory::open_both(), memory::open_both());
    let (anna, device) = (user("anna"), DeviceId([1; 16]));
    for store in [&old, &new] {
        enrol(store, &anna, 1).await;
        store.own(device, &anna, later(100)).await.unwrap();
    }
    // The old one knows less of the code, the new one less of the owners.
    new.advance_step(&anna, authenticator(1).id, 5000, 0, later(5)).await.unwrap();
    for owner in ["bram", "chris"] {
        old.own(device, &user(owner), later(100)).await.unwrap();
    }
    enrol(&old, &user("bram"), 2).await;
    new.reset(&user("bram"), later(1), later(900)).await.unwrap();
    old.set_blocked(&user("eve"), true, NOW).await.unwrap();
    let wrong = AttemptState { failures: 49, wait_until: later(60) };
    old.swap_attempts(&anna, AttemptState::default(), wrong).await.unwrap();
    assert!(matches!(run(source.as_ref(), target.as_ref()).await, Err(CopyError::TargetHasData)));
    copy(source.as_ref(), target.as_ref(), &clock(), true, &mut |_| {}).await.unwrap();
    assert!(
        !new.advance_step(&anna, authenticator(1).id, 5000, 0, later(6)).await.unwrap(),
        "used stays used"
    );
    assert_eq!(
        new.own(device, &user("chris"), later(100)).await.unwrap().epoch.0,
        2,
        "the epoch does not go back"
    );
    assert!(new.authenticators(&user("bram")).await.unwrap().is_empty(), "reset stays reset");
    assert!(new.user(&user("eve")).await.unwrap().unwrap().blocked);
    assert_eq!(new.attempts(&anna).await.unwrap(), wrong);
    // Once more changes nothing.
    let again = copy(source.as_ref(), target.as_ref(), &clock(), true, &mut |_| {}).await.unwrap();
    assert!(again.kinds.iter().all(|(_, count)| count.written == 0), "{again:?}");
}

/// Two people under one epoch, each on one side: the tokens of both die.
#[test]
fn i3_one_epoch_for_two_owners_is_void_for_both() {
    let device = |owner, until| crate::store::portable::Device {
        id: DeviceId([1; 16]),
        owner: user(owner),
        epoch: 3,
        until: later(until),
        revoked_until: UnixMillis::default(),
    };
    let merged = Record::Device(device("anna", 10)).merged(&Record::Device(device("bram", 20)));
    let Record::Device(merged) = merged else { panic!("a device") };
    assert_eq!((merged.epoch, merged.until, merged.revoked_until), (4, later(20), later(20)));
}

/// Merging is the same in both directions for all that forbids, and doing it twice changes nothing.
#[test]
fn merging_forbids_alike_in_both_directions() {
    let person = |step, failures, blocked, void: Option<u64>| {
        let mut a = authenticator(1);
        a.last_step = step;
        Record::User(Box::new(Person {
            user: user("anna"),
            first_seen_at: Some(NOW),
            last_login_at: None,
            blocked,
            block_version: u64::from(blocked),
            attempts: AttemptState { failures, wait_until: NOW },
            void: void.map(|secs| Void { before: later(secs), until: later(900) }),
            authenticators: vec![a],
        }))
    };
    let (a, b) = (person(7, 3, true, None), person(9, 1, false, Some(5)));
    let one = a.clone().merged(&b);
    assert!(one == b.clone().merged(&a));
    assert!(one.clone().merged(&a) == one && one.clone().merged(&b) == one);
    let Record::User(one) = one else { panic!("a user") };
    assert_eq!((one.authenticators[0].last_step, one.attempts.failures, one.blocked), (9, 3, true));
    assert!(one.void.is_some());
}

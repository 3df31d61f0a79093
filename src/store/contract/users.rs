//! What every backend must do with users: met, listed, reset, signed out, blocked.

use super::*;

pub(crate) async fn users_are_met_once_and_counted(store: SharedStore) {
    let anna = user("anna");
    assert_eq!(store.user(&anna).await.unwrap(), None);
    store.swap_attempts(&anna, AttemptState::default(), AttemptState::default()).await.unwrap();
    assert_eq!(store.user(&anna).await.unwrap(), None, "counted is not met");
    store.note_seen(&anna, false, NOW).await.unwrap();
    let met = store.user(&anna).await.unwrap().unwrap();
    assert_eq!((met.first_seen_at, met.last_login_at, met.blocked), (NOW, None, false));
    store.note_seen(&anna, true, later(60)).await.unwrap();
    store.note_seen(&anna, true, later(30)).await.unwrap();
    enrol(&store, &anna, 1).await;
    let attempts = AttemptState { failures: 3, wait_until: later(5) };
    assert!(store.swap_attempts(&anna, AttemptState::default(), attempts).await.unwrap());
    let met = store.user(&anna).await.unwrap().unwrap();
    assert_eq!((met.first_seen_at, met.last_login_at), (NOW, Some(later(60))), "first stays, last grows");
    assert_eq!((met.authenticators, met.attempts, met.user), (1, attempts, anna));
}

pub(crate) async fn users_are_listed_in_pages(store: SharedStore) {
    for name in ["zoë", "anna", "hanna", "bram", "100%", "a_b"] {
        store.note_seen(&user(name), false, NOW).await.unwrap();
    }
    let elsewhere = UserKey { realm: Realm::new("a-first"), name: UserName::canonical("zzz") };
    store.note_seen(&elsewhere, false, NOW).await.unwrap();
    let names = |records: Vec<UserRecord>| -> Vec<String> {
        records.into_iter().map(|r| r.user.name.as_str().to_owned()).collect()
    };
    let all = store.list("", None, 100).await.unwrap();
    assert_eq!(names(all), ["zzz", "100%", "a_b", "anna", "bram", "hanna", "zoë"]);
    assert_eq!(names(store.list("ann", None, 100).await.unwrap()), ["anna", "hanna"]);
    assert_eq!(names(store.list("%", None, 100).await.unwrap()), ["100%"], "no wildcards");
    assert_eq!(names(store.list("_", None, 100).await.unwrap()), ["a_b"]);
    for (part, found) in
        [("na", &["anna", "hanna"][..]), ("oë", &["zoë"][..]), ("hanna", &["hanna"][..]), ("annas", &[][..])]
    {
        assert_eq!(names(store.list(part, None, 100).await.unwrap()), found, "{part}");
    }
    assert_eq!(names(store.list("n", Some(&user("anna")), 1).await.unwrap()), ["hanna"]);
    let page = store.list("", Some(&user("anna")), 2).await.unwrap();
    assert_eq!(names(page), ["bram", "hanna"]);
    assert!(store.list("", Some(&user("zoë")), 2).await.unwrap().is_empty());
}

pub(crate) async fn reset_leaves_nothing_and_is_announced(store: SharedStore) {
    let (anna, bram) = (user("anna"), user("bram"));
    for (who, id) in [(&anna, 1), (&anna, 2), (&bram, 3)] {
        enrol(&store, who, id).await;
    }
    let locked = AttemptState { failures: 50, wait_until: UnixMillis::default() };
    store.swap_attempts(&anna, AttemptState::default(), locked).await.unwrap();
    let recorder = Recorder::following(&store, NOW).await;
    assert_eq!(store.reset(&anna, NOW, later(99)).await.unwrap(), 2);
    let told = Revocation::User { user: anna.clone(), before: NOW, until: later(99) };
    assert_eq!(recorder.take(), [told]);
    assert!(store.authenticators(&anna).await.unwrap().is_empty());
    assert_eq!(store.attempts(&anna).await.unwrap(), AttemptState::default());
    assert_eq!(store.authenticators(&bram).await.unwrap().len(), 1, "nobody else is touched");
    // A second reset with a clock that stepped back takes nothing back.
    assert_eq!(store.reset(&anna, UnixMillis(NOW.0 - 5), later(1)).await.unwrap(), 0);
    let told = Revocation::User { user: anna, before: NOW, until: later(99) };
    assert_eq!(recorder.take(), [told]);
    assert_eq!(store.reset(&user("never met"), NOW, later(99)).await.unwrap(), 0);
    assert_eq!(recorder.take().len(), 1);
    assert_eq!(store.user(&user("never met")).await.unwrap(), None);
}

pub(crate) async fn signing_out_is_announced_and_keeps_authenticators(store: SharedStore) {
    let anna = user("anna");
    enrol(&store, &anna, 1).await;
    let failed = AttemptState { failures: 3, wait_until: UnixMillis::default() };
    store.swap_attempts(&anna, AttemptState::default(), failed).await.unwrap();
    let recorder = Recorder::following(&store, NOW).await;
    store.sign_out(&anna, NOW, later(99)).await.unwrap();
    let told = Revocation::User { user: anna.clone(), before: NOW, until: later(99) };
    assert_eq!(recorder.take(), std::slice::from_ref(&told));
    assert_eq!(Recorder::following(&store, NOW).await.take(), [told], "and is found after a restart");
    assert_eq!(store.authenticators(&anna).await.unwrap().len(), 1);
    assert_eq!(store.attempts(&anna).await.unwrap(), failed, "nobody gets new guesses by it");
}

pub(crate) async fn blocking_is_announced_also_for_one_never_met(store: SharedStore) {
    let recorder = Recorder::following(&store, NOW).await;
    let eve = user("eve");
    store.set_blocked(&eve, true, NOW).await.unwrap();
    assert_eq!(recorder.take(), [Revocation::Blocked { user: eve.clone(), blocked: true, version: NOW.0 }]);
    assert!(store.user(&eve).await.unwrap().unwrap().blocked);
    assert_eq!(store.list("eve", None, 9).await.unwrap().len(), 1, "an administrator sees the block");
    assert_eq!(Recorder::following(&store, later(1 << 40)).await.take().len(), 1, "a block does not end");
    store.set_blocked(&eve, false, NOW).await.unwrap();
    assert_eq!(
        recorder.take(),
        [Revocation::Blocked { user: eve.clone(), blocked: false, version: NOW.0 + 1 }]
    );
    assert!(!store.user(&eve).await.unwrap().unwrap().blocked);
    let in_force = |told: &Revocation| matches!(told, Revocation::Blocked { blocked: true, .. });
    assert!(!Recorder::following(&store, NOW).await.take().iter().any(in_force));
}

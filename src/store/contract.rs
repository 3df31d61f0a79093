//! What every backend must do, as one suite: `run_contract!(fresh)` makes a test of each function below, with
//! a fresh, empty store for each. Names say which invariant is at stake.

mod documents;
mod users;

use std::{future::Future, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Barrier;

use super::*;
use crate::{
    base::secret::SecretBytes,
    model::{Method, Realm, UserName},
};

pub(crate) use documents::*;
pub(crate) use users::*;

macro_rules! run_contract {
    ($fresh:path) => {
        $crate::store::contract::run_contract!($fresh;
            authenticators_are_kept_whole_and_in_order,
            a_limit_holds_under_concurrency,
            one_enrolment_is_kept_once,
            no_enrolment_overtakes_a_reset_or_a_block,
            i4_a_step_is_accepted_once_under_concurrency,
            i4_steps_only_grow_and_only_for_the_owner,
            an_authenticator_can_be_removed_by_its_owner_only,
            an_authenticator_is_renamed_by_its_owner_only,
            i8_the_last_authenticator_is_never_a_spare_one,
            users_are_met_once_and_counted,
            users_are_listed_in_pages,
            reset_leaves_nothing_and_is_announced,
            signing_out_is_announced_and_keeps_authenticators,
            a_document_is_kept_whole_and_listed_in_order,
            i4_a_document_is_swapped_once_under_concurrency,
            blocking_is_announced_also_for_one_never_met,
            i2_a_login_is_consumed_once_under_concurrency,
            i8_attempts_are_swapped_once_under_concurrency,
            i3_a_takeover_raises_the_epoch_and_is_announced_before_the_answer,
            i3_takeovers_at_once_each_get_an_epoch_of_their_own,
            i3_a_takeover_outlasts_the_earlier_owners_tokens,
            i3_epochs_never_come_again_after_pruning,
            whoever_follows_gets_what_still_matters_and_then_the_rest,
            no_revocation_is_lost_between_loading_and_following,
            pruning_forgets_only_what_is_over,
            sealed_names_are_learned_once,
            it_answers_a_ping,
        );
    };
    ($fresh:path; $($name:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                let (store, _guard) = $fresh();
                $crate::store::contract::$name(store).await;
            }
        )+
    };
}
pub(crate) use run_contract;

pub(crate) const NOW: UnixMillis = UnixMillis::from_secs(1_800_000_000);

pub(crate) fn user(name: &str) -> UserKey {
    UserKey { realm: Realm::new("care"), name: UserName::canonical(name) }
}

pub(crate) fn authenticator(id: u8) -> Authenticator {
    Authenticator {
        id: AuthenticatorId([id; 16]),
        method: Method::Totp,
        name: format!("phone {id}"),
        confirmed_at: NOW,
        last_used_at: None,
        secret: SecretBytes::new(vec![id; 20]),
        last_step: 100,
        drift_steps: 0,
    }
}

pub(crate) async fn enrol(store: &SharedStore, user: &UserKey, id: u8) {
    let new = NewAuthenticator { authenticator: authenticator(id), at_most: 10, begun: NOW };
    assert_eq!(store.add(user, new).await.unwrap(), Added::Kept);
}

/// Remembers all that it is told.
#[derive(Default)]
pub(crate) struct Recorder(Mutex<Vec<Revocation>>);

impl Recorder {
    pub(crate) async fn following(store: &SharedStore, now: UnixMillis) -> Arc<Self> {
        let recorder = Arc::new(Self::default());
        store.follow(recorder.clone(), now).await.unwrap();
        recorder
    }

    pub(crate) fn take(&self) -> Vec<Revocation> {
        std::mem::take(&mut self.0.lock())
    }
}

impl RevocationSink for Recorder {
    fn apply(&self, revocation: &Revocation) {
        self.0.lock().push(revocation.clone());
    }
}

fn later(secs: u64) -> UnixMillis {
    NOW.plus(Duration::from_secs(secs))
}

/// Sixteen of `work` that begin together; what each of them answered.
async fn sixteen<T, F>(store: &SharedStore, work: impl Fn(u8, SharedStore) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let barrier = Arc::new(Barrier::new(16));
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let (barrier, work) = (barrier.clone(), work(number, store.clone()));
            tokio::spawn(async move {
                barrier.wait().await;
                work.await
            })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

pub(crate) async fn authenticators_are_kept_whole_and_in_order(store: SharedStore) {
    let anna = user("anna");
    assert!(store.authenticators(&anna).await.unwrap().is_empty());
    for id in [7, 3, 5] {
        enrol(&store, &anna, id).await;
    }
    enrol(&store, &user("bram"), 9).await;
    let all = store.authenticators(&anna).await.unwrap();
    assert_eq!(all.iter().map(|a| a.id.0[0]).collect::<Vec<_>>(), [7, 3, 5], "oldest first");
    for kept in all {
        let put = authenticator(kept.id.0[0]);
        assert_eq!(kept.secret.expose(), put.secret.expose());
        assert_eq!((kept.name, kept.method, kept.confirmed_at), (put.name, put.method, put.confirmed_at));
        assert_eq!((kept.last_step, kept.drift_steps, kept.last_used_at), (100, 0, None));
    }
    let other_realm = UserKey { realm: Realm::new("hr"), ..anna };
    assert!(store.authenticators(&other_realm).await.unwrap().is_empty(), "realms are apart");
}

pub(crate) async fn a_limit_holds_under_concurrency(store: SharedStore) {
    let answers = sixteen(&store, |number, store| async move {
        let new = NewAuthenticator { authenticator: authenticator(number), at_most: 3, begun: NOW };
        store.add(&user("anna"), new).await.unwrap()
    })
    .await;
    assert_eq!(answers.iter().filter(|a| **a == Added::Kept).count(), 3);
    assert_eq!(answers.iter().filter(|a| **a == Added::TooMany).count(), 13);
    assert_eq!(store.authenticators(&user("anna")).await.unwrap().len(), 3);
}

pub(crate) async fn one_enrolment_is_kept_once(store: SharedStore) {
    let answers = sixteen(&store, |_, store| async move {
        let new = NewAuthenticator { authenticator: authenticator(1), at_most: 10, begun: NOW };
        store.add(&user("anna"), new).await.unwrap()
    })
    .await;
    assert_eq!(answers.iter().filter(|a| **a == Added::Kept).count(), 1);
    assert_eq!(answers.iter().filter(|a| **a == Added::Known).count(), 15);
    assert_eq!(store.authenticators(&user("anna")).await.unwrap().len(), 1);
}

pub(crate) async fn no_enrolment_overtakes_a_reset_or_a_block(store: SharedStore) {
    let anna = user("anna");
    let add = |id, begun| {
        let new = NewAuthenticator { authenticator: authenticator(id), at_most: 10, begun };
        store.add(&anna, new)
    };
    store.reset(&anna, later(10), later(1000)).await.unwrap();
    assert_eq!(add(1, later(9)).await.unwrap(), Added::Void, "begun before the reset");
    assert!(store.authenticators(&anna).await.unwrap().is_empty());
    assert_eq!(add(1, later(10)).await.unwrap(), Added::Kept, "begun after it");
    store.set_blocked(&anna, true, later(20)).await.unwrap();
    assert_eq!(add(2, later(30)).await.unwrap(), Added::Void, "blocked");
    store.set_blocked(&anna, false, later(40)).await.unwrap();
    assert_eq!(add(2, later(30)).await.unwrap(), Added::Kept);

    // In a race either the reset removes it, or it is not kept: nothing is left in any order.
    let bram = user("bram");
    for round in 0..20 {
        let at = later(100 + round);
        let before = UnixMillis(at.0 - 1);
        sixteen(&store, |number, store| {
            let bram = bram.clone();
            async move {
                if number == 7 {
                    store.reset(&bram, at, later(1000)).await.unwrap();
                } else {
                    let authenticator = authenticator(100 + number);
                    let new = NewAuthenticator { authenticator, at_most: 20, begun: before };
                    store.add(&bram, new).await.unwrap();
                }
            }
        })
        .await;
        assert!(store.authenticators(&bram).await.unwrap().is_empty(), "round {round}");
    }
}

pub(crate) async fn i4_a_step_is_accepted_once_under_concurrency(store: SharedStore) {
    enrol(&store, &user("anna"), 1).await;
    for step in 101..301 {
        let answers = sixteen(&store, move |_, store| async move {
            let id = AuthenticatorId([1; 16]);
            store.advance_step(&user("anna"), id, step, 0, NOW).await.unwrap()
        })
        .await;
        assert_eq!(answers.into_iter().filter(|yes| *yes).count(), 1, "step {step}");
    }
}

pub(crate) async fn i4_steps_only_grow_and_only_for_the_owner(store: SharedStore) {
    let (anna, id) = (user("anna"), AuthenticatorId([1; 16]));
    enrol(&store, &anna, 1).await;
    let advance = |who: &'static str, step, drift| {
        let store = store.clone();
        async move { store.advance_step(&user(who), id, step, drift, later(9)).await.unwrap() }
    };
    assert!(!advance("anna", 100, 0).await, "the confirming step is spent");
    assert!(!advance("anna", 99, 0).await);
    assert!(!advance("bram", 101, 0).await, "not his");
    assert!(advance("anna", 103, -2).await);
    assert!(!advance("anna", 102, 0).await, "a skipped step is not accepted afterwards");
    let kept = store.authenticators(&anna).await.unwrap().remove(0);
    assert_eq!((kept.last_step, kept.drift_steps, kept.last_used_at), (103, -2, Some(later(9))));
    let nobody = AuthenticatorId([2; 16]);
    assert!(!store.advance_step(&anna, nobody, 200, 0, NOW).await.unwrap());
}

pub(crate) async fn an_authenticator_can_be_removed_by_its_owner_only(store: SharedStore) {
    let (anna, id) = (user("anna"), AuthenticatorId([1; 16]));
    enrol(&store, &anna, 1).await;
    enrol(&store, &anna, 2).await;
    assert!(!store.remove(&user("bram"), id).await.unwrap());
    assert!(store.remove(&anna, id).await.unwrap());
    assert!(!store.remove(&anna, id).await.unwrap());
    assert!(!store.advance_step(&anna, id, 999, 0, NOW).await.unwrap());
    assert_eq!(store.authenticators(&anna).await.unwrap().len(), 1);
}

pub(crate) async fn an_authenticator_is_renamed_by_its_owner_only(store: SharedStore) {
    let (anna, id) = (user("anna"), AuthenticatorId([1; 16]));
    enrol(&store, &anna, 1).await;
    assert!(!store.rename(&user("bram"), id, "his").await.unwrap());
    assert!(store.rename(&anna, id, "Werktelefoon é").await.unwrap());
    assert!(!store.rename(&anna, AuthenticatorId([2; 16]), "nothing").await.unwrap());
    let kept = store.authenticators(&anna).await.unwrap();
    assert_eq!((kept.len(), kept[0].name.as_str()), (1, "Werktelefoon é"));
    assert!(store.advance_step(&anna, id, 999, 0, NOW).await.unwrap(), "the rest of it is as it was");
}

/// Two removals at once, of two different ones, by whatever number of callers: one always stays.
pub(crate) async fn i8_the_last_authenticator_is_never_a_spare_one(store: SharedStore) {
    let (anna, all) = (user("anna"), MethodSet::of(Method::Totp));
    let id = |n| AuthenticatorId([n; 16]);
    enrol(&store, &anna, 1).await;
    assert_eq!(store.remove_spare(&anna, id(1), all).await.unwrap(), Spare::Last);
    assert_eq!(store.remove_spare(&anna, id(9), all).await.unwrap(), Spare::Unknown);
    assert_eq!(store.remove_spare(&user("bram"), id(1), all).await.unwrap(), Spare::Unknown);
    enrol(&store, &anna, 2).await;
    let none = MethodSet::EMPTY;
    assert_eq!(store.remove_spare(&anna, id(1), none).await.unwrap(), Spare::Last, "no other one counts");
    for round in 3..23_u8 {
        let answers = sixteen(&store, move |caller, store| async move {
            let kept = store.authenticators(&user("anna")).await.unwrap();
            let Some(one) = kept.get(usize::from(caller % 2)) else { return Spare::Unknown };
            store.remove_spare(&user("anna"), one.id, all).await.unwrap()
        })
        .await;
        assert_eq!(answers.into_iter().filter(|a| *a == Spare::Removed).count(), 1, "round {round}");
        assert_eq!(store.authenticators(&anna).await.unwrap().len(), 1, "round {round}");
        enrol(&store, &anna, round).await;
    }
}

pub(crate) async fn i2_a_login_is_consumed_once_under_concurrency(store: SharedStore) {
    for round in 0..200 {
        let answers = sixteen(&store, move |_, store| async move {
            store.consume(LoginId([round; 16]), later(600)).await.unwrap()
        })
        .await;
        assert_eq!(answers.into_iter().filter(|yes| *yes).count(), 1, "round {round}");
    }
}

pub(crate) async fn i8_attempts_are_swapped_once_under_concurrency(store: SharedStore) {
    let anna = user("anna");
    assert_eq!(store.attempts(&anna).await.unwrap(), AttemptState::default());
    for round in 0..50 {
        let answers = sixteen(&store, move |number, store| async move {
            let state = store.attempts(&user("anna")).await.unwrap();
            let wait_until = later(u64::from(number));
            let new = AttemptState { failures: round + 1, wait_until };
            let expected = AttemptState { failures: round, ..state };
            (new, store.swap_attempts(&user("anna"), expected, new).await.unwrap())
        })
        .await;
        let won: Vec<_> = answers.into_iter().filter(|(_, yes)| *yes).collect();
        assert_eq!(won.len(), 1, "round {round}");
        assert_eq!(store.attempts(&anna).await.unwrap(), won[0].0);
    }
    let state = store.attempts(&anna).await.unwrap();
    let other_wait = AttemptState { wait_until: UnixMillis(state.wait_until.0 + 1), ..state };
    assert!(!store.swap_attempts(&anna, other_wait, AttemptState::default()).await.unwrap());
    assert!(store.swap_attempts(&anna, state, AttemptState::default()).await.unwrap());
}

pub(crate) async fn i3_a_takeover_raises_the_epoch_and_is_announced_before_the_answer(store: SharedStore) {
    let recorder = Recorder::following(&store, NOW).await;
    let (device, anna, bram) = (DeviceId([1; 16]), user("anna"), user("bram"));
    let first = store.own(device, &anna, later(10)).await.unwrap();
    assert_eq!(first.taken_from, None);
    assert_eq!(store.own(device, &anna, later(20)).await.unwrap(), first, "the same owner again");
    assert!(recorder.take().is_empty(), "nothing was taken");
    let second = store.own(device, &bram, later(30)).await.unwrap();
    assert_eq!(second.taken_from, Some(anna.clone()));
    assert!(second.epoch > first.epoch);
    let told = Revocation::Device { device, epoch: second.epoch, until: later(30) };
    assert_eq!(recorder.take(), [told]);
    let third = store.own(device, &anna, later(40)).await.unwrap();
    assert_eq!(third.taken_from, Some(bram));
    assert!(third.epoch > second.epoch, "coming back is a takeover too");
    assert_eq!(recorder.take().len(), 1);
    store.own(DeviceId([2; 16]), &anna, later(10)).await.unwrap();
    assert!(recorder.take().is_empty(), "another device is another matter");
}

pub(crate) async fn i3_takeovers_at_once_each_get_an_epoch_of_their_own(store: SharedStore) {
    let device = DeviceId([1; 16]);
    store.own(device, &user("anna"), later(10)).await.unwrap();
    let recorder = Recorder::following(&store, NOW).await;
    let answers = sixteen(&store, move |number, store| async move {
        store.own(device, &user(&format!("user {number}")), later(10)).await.unwrap()
    })
    .await;
    let mut epochs: Vec<_> = answers.iter().map(|o| o.epoch).collect();
    epochs.sort();
    epochs.dedup();
    assert_eq!(epochs.len(), 16);
    let told = recorder.take().into_iter().map(|r| match r {
        Revocation::Device { epoch, .. } => epoch,
        other => panic!("{other:?}"),
    });
    assert_eq!(told.collect::<Vec<_>>(), epochs, "announced in order, each once");
}

pub(crate) async fn i3_a_takeover_outlasts_the_earlier_owners_tokens(store: SharedStore) {
    let device = DeviceId([1; 16]);
    store.own(device, &user("anna"), later(5000)).await.unwrap();
    let recorder = Recorder::following(&store, NOW).await;
    let bram = store.own(device, &user("bram"), later(10)).await.unwrap();
    let told = Revocation::Device { device, epoch: bram.epoch, until: later(5000) };
    assert_eq!(recorder.take(), std::slice::from_ref(&told));
    store.own(device, &user("bram"), later(20)).await.unwrap();
    store.prune(later(4999)).await.unwrap();
    assert_eq!(Recorder::following(&store, later(4999)).await.take(), [told], "and is found after a restart");
}

pub(crate) async fn i3_epochs_never_come_again_after_pruning(store: SharedStore) {
    let device = DeviceId([1; 16]);
    store.own(device, &user("anna"), later(10)).await.unwrap();
    let bram = store.own(device, &user("bram"), later(10)).await.unwrap();
    assert_eq!(store.prune(later(10)).await.unwrap(), 1);
    let anna = store.own(device, &user("anna"), later(99)).await.unwrap();
    assert_eq!(anna.taken_from, None, "all that was bram's is dead by now");
    assert!(anna.epoch > bram.epoch);
}

pub(crate) async fn whoever_follows_gets_what_still_matters_and_then_the_rest(store: SharedStore) {
    let (old, new) = (SessionId([1; 16]), SessionId([2; 16]));
    store.end_session(old, later(10)).await.unwrap();
    store.end_session(new, later(100)).await.unwrap();
    store.end_session(new, later(50)).await.unwrap();
    store.reset(&user("anna"), NOW, later(100)).await.unwrap();
    store.set_blocked(&user("eve"), true, NOW).await.unwrap();
    store.own(DeviceId([1; 16]), &user("anna"), later(100)).await.unwrap();
    let taken = store.own(DeviceId([1; 16]), &user("bram"), later(100)).await.unwrap();
    store.own(DeviceId([2; 16]), &user("bram"), later(100)).await.unwrap();

    let recorder = Recorder::following(&store, later(10)).await;
    let present = recorder.take();
    let expected = [
        Revocation::Session { id: new, until: later(100) },
        Revocation::Device { device: DeviceId([1; 16]), epoch: taken.epoch, until: later(100) },
        Revocation::User { user: user("anna"), before: NOW, until: later(100) },
        Revocation::Blocked { user: user("eve"), blocked: true, version: NOW.0 },
    ];
    assert_eq!(present.len(), expected.len(), "{present:?}");
    assert!(expected.iter().all(|e| present.contains(e)), "{present:?}");

    let second = Recorder::following(&store, later(10)).await;
    second.take();
    let more = SessionId([3; 16]);
    store.end_session(more, later(100)).await.unwrap();
    for follower in [recorder, second] {
        assert_eq!(follower.take(), [Revocation::Session { id: more, until: later(100) }]);
    }
}

pub(crate) async fn no_revocation_is_lost_between_loading_and_following(store: SharedStore) {
    follow_while_sessions_end(store, |told, ended| {
        let told = told.iter().map(|told| format!("{told:?}")).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(told.len(), ended, "none lost");
    })
    .await;
}

/// For a backend within this process only: one that replicas share may tell something a second time.
pub(crate) async fn no_revocation_is_told_twice_between_loading_and_following(store: SharedStore) {
    follow_while_sessions_end(store, |told, ended| assert_eq!(told.len(), ended, "none told twice")).await;
}

/// Sessions end while others begin to follow; `judge` gets what each of them was told, and how many have ended by then.
async fn follow_while_sessions_end(store: SharedStore, judge: impl Fn(&[Revocation], usize)) {
    for round in 0..16_u8 {
        let followers = sixteen(&store, move |number, store| async move {
            if number % 2 == 0 {
                store.end_session(SessionId([round * 16 + number; 16]), later(100)).await.unwrap();
                None
            } else {
                Some(Recorder::following(&store, NOW).await)
            }
        })
        .await;
        for follower in followers.into_iter().flatten() {
            judge(&follower.take(), 8 * (usize::from(round) + 1));
        }
    }
}

pub(crate) async fn pruning_forgets_only_what_is_over(store: SharedStore) {
    store.consume(LoginId([1; 16]), later(10)).await.unwrap();
    store.consume(LoginId([2; 16]), later(11)).await.unwrap();
    store.end_session(SessionId([1; 16]), later(10)).await.unwrap();
    store.end_session(SessionId([2; 16]), later(11)).await.unwrap();
    store.reset(&user("anna"), NOW, later(10)).await.unwrap();
    store.reset(&user("bram"), NOW, later(11)).await.unwrap();
    store.own(DeviceId([1; 16]), &user("anna"), later(10)).await.unwrap();
    store.own(DeviceId([2; 16]), &user("bram"), later(11)).await.unwrap();
    enrol(&store, &user("anna"), 1).await;
    store.set_blocked(&user("eve"), true, NOW).await.unwrap();
    assert_eq!(store.prune(later(10)).await.unwrap(), 4);
    assert_eq!(store.prune(later(10)).await.unwrap(), 0);
    assert!(!store.consume(LoginId([2; 16]), later(11)).await.unwrap(), "still consumed");
    assert_eq!(Recorder::following(&store, NOW).await.take().len(), 3, "session 2, bram, eve");
    assert_eq!(store.authenticators(&user("anna")).await.unwrap().len(), 1);
    assert_eq!(store.prune(later(1 << 30)).await.unwrap(), 4);
    assert_eq!(Recorder::following(&store, NOW).await.take().len(), 1, "a block stays");
}

pub(crate) async fn sealed_names_are_learned_once(store: SharedStore) {
    let (records, payroll) = (AppId::new("records"), AppId::new("payroll"));
    for (app, name) in [(&records, "sid"), (&records, "sid"), (&payroll, "sid"), (&records, "JSESSIONID")] {
        store.learn_sealed_name(app, name).await.unwrap();
    }
    let mut names = store.sealed_names().await.unwrap();
    names.sort();
    let pair = |app: &AppId, name: &str| (app.clone(), name.to_owned());
    assert_eq!(names, [pair(&payroll, "sid"), pair(&records, "JSESSIONID"), pair(&records, "sid")]);
}

pub(crate) async fn it_answers_a_ping(store: SharedStore) {
    assert!(store.ping().await.unwrap() < Duration::from_secs(5));
}

use std::sync::Arc;

use async_trait::async_trait;
use proptest::prelude::*;

use super::*;
use crate::{
    model::{Realm, UserName},
    store::memory,
};

const START: UnixMillis = UnixMillis::from_secs(1_800_000_000);

fn anna() -> UserKey {
    UserKey { realm: Realm::new("care"), name: UserName::canonical("anna") }
}

/// Wrong answers as fast as they are taken: the waits between them, in seconds, and the end.
fn waits() -> Vec<u64> {
    let (mut state, mut now, mut waits) = (AttemptState::default(), START, Vec::new());
    loop {
        match next(state, now) {
            (Verdict::Go { if_wrong, .. }, new) => {
                state = new;
                match if_wrong {
                    Next::Again => waits.push(0),
                    Next::Wait { until } => {
                        waits.push(until.since(now).as_secs());
                        now = until;
                    }
                    Next::Locked => return waits,
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn i8_waits_begin_at_the_fifth_double_to_fifteen_minutes_and_end_at_the_fiftieth() {
    let waits = waits();
    assert_eq!(waits.len(), 49, "the fiftieth wrong answer locks");
    assert_eq!(waits[..11], [0, 0, 0, 0, 30, 60, 120, 240, 480, 900, 900]);
    assert!(waits[9..].iter().all(|w| *w == 900));
}

#[test]
fn i8_an_attempt_while_waiting_is_neither_counted_nor_checked() {
    let until = START.plus(Duration::from_secs(30));
    let state = AttemptState { failures: 5, wait_until: until };
    assert_eq!(next(state, START), (Verdict::Wait { until }, state));
    let just_before = UnixMillis(until.0 - 1);
    assert_eq!(next(state, just_before), (Verdict::Wait { until }, state));
    assert!(matches!(next(state, until).0, Verdict::Go { failures_before: 5, .. }));
}

#[test]
fn i8_locked_stays_locked_however_long_one_waits() {
    let state = AttemptState { failures: 50, wait_until: UnixMillis::default() };
    assert_eq!(next(state, START.plus(Duration::from_hours(24 * 365))), (Verdict::Locked, state));
}

#[test]
fn a_wait_set_by_a_wrong_clock_is_cut_to_the_longest_wait() {
    let state = AttemptState { failures: 7, wait_until: START.plus(Duration::from_hours(1_000_000)) };
    let until = START.plus(LONGEST_WAIT);
    assert_eq!(
        next(state, START),
        (Verdict::Wait { until }, AttemptState { failures: 7, wait_until: until })
    );
}

proptest! {
    #[test]
    fn i8_no_schedule_of_attempts_beats_the_table(gaps in prop::collection::vec(0_u64..2_000, 1..300)) {
        let (mut state, mut now, mut checked_at) = (AttemptState::default(), START, Vec::new());
        for gap in gaps {
            now = now.plus(Duration::from_secs(gap));
            let (verdict, new) = next(state, now);
            if let Verdict::Go { failures_before, .. } = verdict {
                prop_assert_eq!(failures_before as usize, checked_at.len());
                checked_at.push(now);
            }
            state = new;
        }
        prop_assert!(checked_at.len() <= 50);
        let table = waits();
        for (index, pair) in checked_at.windows(2).enumerate() {
            prop_assert!(pair[1].since(pair[0]).as_secs() >= table[index]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn i8_sixteen_attempts_at_once_get_five_checks() {
    for _ in 0..100 {
        let store = memory::open();
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { charge(store.as_ref(), &anna(), START).await.unwrap() })
            })
            .collect();
        let mut checked = 0;
        for task in tasks {
            checked += usize::from(matches!(task.await.unwrap(), Verdict::Go { .. }));
        }
        assert_eq!(checked, 5);
        assert_eq!(store.attempts(&anna()).await.unwrap().failures, 5);
    }
}

#[tokio::test]
async fn a_right_answer_starts_the_count_anew_for_that_user_only() {
    let store = memory::open();
    let bram = UserKey { name: UserName::canonical("bram"), ..anna() };
    for _ in 0..4 {
        charge(store.as_ref(), &anna(), START).await.unwrap();
        charge(store.as_ref(), &bram, START).await.unwrap();
    }
    succeeded(store.as_ref(), &anna()).await.unwrap();
    let verdict = charge(store.as_ref(), &anna(), START).await.unwrap();
    assert_eq!(verdict, Verdict::Go { failures_before: 0, if_wrong: Next::Again });
    let verdict = charge(store.as_ref(), &bram, START).await.unwrap();
    let until = START.plus(FIRST_WAIT);
    assert_eq!(verdict, Verdict::Go { failures_before: 4, if_wrong: Next::Wait { until } });
    let state = store.attempts(&bram).await.unwrap();
    assert_eq!(standing(state, START), Next::Wait { until });
}

/// Answers reads, and fails where a count would be kept.
struct Failing;

#[async_trait]
impl Attempts for Failing {
    async fn attempts(&self, _: &UserKey) -> StoreResult<AttemptState> {
        Ok(AttemptState::default())
    }

    async fn swap_attempts(&self, _: &UserKey, _: AttemptState, _: AttemptState) -> StoreResult<bool> {
        Err(StoreError("disk full".to_owned()))
    }
}

#[tokio::test]
async fn i9_what_cannot_be_counted_is_not_checked() {
    assert!(charge(&Failing, &anna(), START).await.is_err());
}

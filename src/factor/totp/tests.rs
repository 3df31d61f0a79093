use std::time::Duration;

use super::*;
use crate::{
    base::{
        clock::{Clock, ManualClock},
        random::SystemRandom,
    },
    model::{Realm, UserName},
    store::memory,
    throttle::{self, Next},
};

const START: UnixMillis = UnixMillis::from_secs(1_800_000_000);
const KEY: &[u8; 20] = b"12345678901234567890";

/// A user's phone: makes codes from what the page showed.
struct Phone(totp_rs::Totp);

impl Phone {
    fn scan(offer: &Offer) -> Self {
        Self(totp_rs::Totp::from_url(offer.url.expose()).unwrap())
    }

    fn holding(secret: &[u8]) -> Self {
        Self(totp_rs::Builder::new().with_secret(secret).build().unwrap())
    }

    fn code(&self, at: UnixMillis) -> String {
        self.0.generate(at.secs()).to_string()
    }
}

struct World {
    totp: Arc<Totp>,
    store: SharedStore,
    clock: Arc<ManualClock>,
}

impl World {
    fn new() -> Self {
        Self::at(START)
    }

    fn at(now: UnixMillis) -> Self {
        let (store, clock) = (memory::open(), ManualClock::at(now));
        let ring = Keyring::new(&[SecretBytes::new(vec![1; 32])], Arc::new(SystemRandom)).unwrap();
        let totp = Arc::new(Totp::new(store.clone(), Arc::new(ring), clock.clone()));
        Self { totp, store, clock }
    }

    /// With Anna, who holds `KEY` since long ago.
    async fn with_anna() -> (Self, Phone) {
        let world = Self::new();
        world.give(&anna(), 1, KEY).await;
        (world, Phone::holding(KEY))
    }

    async fn give(&self, user: &UserKey, id: u8, secret: &[u8]) {
        let authenticator = Authenticator {
            id: AuthenticatorId([id; 16]),
            method: Method::Totp,
            name: "phone".to_owned(),
            confirmed_at: UnixMillis::from_secs(1),
            last_used_at: None,
            secret: SecretBytes::new(secret.to_vec()),
            last_step: 0,
            drift_steps: 0,
        };
        let new = NewAuthenticator { authenticator, at_most: 9, begun: self.now() };
        assert_eq!(self.store.add(user, new).await.unwrap(), Added::Kept);
    }

    fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    fn pass(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }

    async fn verify(&self, code: &str) -> Verdict {
        self.totp.verify(&anna(), code).await.unwrap()
    }

    async fn confirm(&self, login: u8, room: Room, code: &str) -> Confirmed {
        self.totp.confirm(LoginId([login; 16]), &anna(), "My phone", room, self.now(), code).await.unwrap()
    }

    fn offer(&self, login: u8) -> Offer {
        self.totp.offer(LoginId([login; 16]), &anna(), "Care").unwrap()
    }

    async fn failures(&self) -> u32 {
        self.store.attempts(&anna()).await.unwrap().failures
    }
}

fn anna() -> UserKey {
    UserKey { realm: Realm::new("care"), name: UserName::canonical("anna") }
}

fn is_proved(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Proved(_))
}

fn hint(verdict: &Verdict) -> Hint {
    match verdict {
        Verdict::Wrong { hint, .. } => *hint,
        other => panic!("{other:?}"),
    }
}

fn confirmed(verdict: Confirmed) -> Verdict {
    match verdict {
        Confirmed::Verdict(verdict) => verdict,
        Confirmed::TooMany | Confirmed::Void | Confirmed::NotInvited => panic!("too many"),
    }
}

#[tokio::test]
async fn rfc_6238_codes_pass_the_whole_way_once() {
    let file = include_str!("../../../tests/corpus/otp/rfc6238.tsv");
    let mut tried = 0;
    for row in file.lines().map(|line| line.split('\t').collect::<Vec<_>>()) {
        let [time, "SHA1", code] = row[..] else { continue };
        let world = World::at(UnixMillis::from_secs(time.parse().unwrap()));
        world.give(&anna(), 1, KEY).await;
        let six = code.get(2..).unwrap();
        match world.verify(six).await {
            Verdict::Proved(proof) => {
                assert_eq!((proof.user(), proof.method(), proof.at()), (&anna(), Method::Totp, world.now()));
            }
            other => panic!("{row:?}: {other:?}"),
        }
        assert_eq!(hint(&world.verify(six).await), Hint::AlreadyUsed);
        tried += 1;
    }
    assert_eq!(tried, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn i4_sixteen_submissions_of_one_code_prove_once() {
    for _ in 0..50 {
        let (world, phone) = World::with_anna().await;
        // The same secret twice, as after an import: still one code, one proof.
        world.give(&anna(), 2, KEY).await;
        let code = phone.code(START);
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let (totp, code) = (world.totp.clone(), code.clone());
                tokio::spawn(async move { totp.verify(&anna(), &code).await.unwrap() })
            })
            .collect();
        let mut proved = 0;
        for task in tasks {
            proved += usize::from(is_proved(&task.await.unwrap()));
        }
        assert_eq!(proved, 1);
        assert!(!is_proved(&world.verify(&code).await), "nor afterwards");
    }
}

#[tokio::test]
async fn i4_an_older_code_is_worth_nothing_after_a_newer_one() {
    let (world, phone) = World::with_anna().await;
    let older = phone.code(world.now());
    world.pass(30);
    assert!(is_proved(&world.verify(&phone.code(world.now())).await));
    assert_eq!(hint(&world.verify(&older).await), Hint::AlreadyUsed);
}

#[tokio::test]
async fn b6_i7_an_abandoned_pending_secret_verifies_nothing() {
    let world = World::new();
    let abandoned = Phone::scan(&world.offer(1));
    assert!(matches!(world.verify(&abandoned.code(START)).await, Verdict::NotEnrolled));
    assert_eq!(world.failures().await, 0, "nothing was checked, nothing is counted");

    let phone = Phone::scan(&world.offer(2));
    assert_ne!(abandoned.code(START), phone.code(START), "a new login, a new secret");
    let wrong = confirmed(world.confirm(2, Room::First, &abandoned.code(START)).await);
    assert_eq!(hint(&wrong), Hint::Mismatch, "the old secret does not confirm the new one");
    assert!(!world.totp.enrolled(&anna()).await.unwrap());
    assert!(is_proved(&confirmed(world.confirm(2, Room::First, &phone.code(START)).await)));
    assert!(world.totp.enrolled(&anna()).await.unwrap());
    world.pass(60);
    assert_eq!(hint(&world.verify(&abandoned.code(world.now())).await), Hint::Mismatch);
    assert!(is_proved(&world.verify(&phone.code(world.now())).await));
}

#[tokio::test]
async fn b5_a_reload_shows_the_same_offer_to_the_same_user_only() {
    let world = World::new();
    let (first, again) = (world.offer(1), world.offer(1));
    assert_eq!(first.url.expose(), again.url.expose());
    assert_eq!(first.svg.expose(), again.svg.expose());
    let bram = UserKey { name: UserName::canonical("bram"), ..anna() };
    let hers = world.totp.offer(LoginId([1; 16]), &bram, "Care").unwrap();
    assert_ne!(hers.groups.expose(), first.groups.expose());
    assert_eq!(first.groups.expose().replace(' ', "").len(), 32, "160 bits");
}

#[tokio::test]
async fn the_confirming_code_is_spent_and_the_authenticator_kept_whole() {
    let world = World::new();
    let phone = Phone::scan(&world.offer(1));
    // The phone is one step ahead.
    let code = phone.code(world.now().plus(Duration::from_secs(30)));
    assert!(is_proved(&confirmed(world.confirm(1, Room::First, &code).await)));
    assert_eq!(hint(&world.verify(&code).await), Hint::AlreadyUsed);
    let kept = world.store.authenticators(&anna()).await.unwrap().remove(0);
    assert_eq!((kept.name.as_str(), kept.drift_steps), ("My phone", 1));
    assert_eq!(kept.last_step, START.secs() / 30 + 1);
    assert_eq!((kept.confirmed_at, kept.last_used_at), (START, Some(START)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_enrolment_is_confirmed_once() {
    for _ in 0..50 {
        let world = World::new();
        let code = Phone::scan(&world.offer(1)).code(START);
        let room = Room::Another { at_most: 5 };
        let tasks: Vec<_> = (0..5)
            .map(|_| {
                let (totp, code) = (world.totp.clone(), code.clone());
                tokio::spawn(async move {
                    totp.confirm(LoginId([1; 16]), &anna(), "", room, START, &code).await.unwrap()
                })
            })
            .collect();
        let mut proved = 0;
        for task in tasks {
            proved += usize::from(is_proved(&confirmed(task.await.unwrap())));
        }
        assert_eq!(proved, 1);
        assert_eq!(world.store.authenticators(&anna()).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn d11_a_pending_login_adds_no_authenticator_beside_an_existing_one() {
    let (world, phone) = World::with_anna().await;
    for _ in 0..3 {
        assert_eq!(hint(&world.verify("000000").await), Hint::Mismatch);
    }
    let intruder = Phone::scan(&world.offer(9));
    assert!(matches!(world.confirm(9, Room::First, &intruder.code(START)).await, Confirmed::TooMany));
    assert_eq!(world.failures().await, 3, "and the count of wrong answers stands");
    assert_eq!(hint(&world.verify(&intruder.code(START)).await), Hint::Mismatch);
    // With a second factor proved there may be more, up to the limit.
    let second = Phone::scan(&world.offer(2));
    let more = world.confirm(2, Room::Another { at_most: 2 }, &second.code(START)).await;
    assert!(is_proved(&confirmed(more)));
    assert!(matches!(world.confirm(3, Room::Another { at_most: 2 }, "123456").await, Confirmed::TooMany));
    world.pass(60);
    assert!(is_proved(&world.verify(&phone.code(world.now())).await), "either phone will do");
    assert!(is_proved(&world.verify(&second.code(world.now())).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d11_of_two_first_enrolments_at_once_one_is_kept() {
    for _ in 0..50 {
        let world = World::new();
        let tasks: Vec<_> = (1..=2_u8)
            .map(|login| {
                let (totp, code) = (world.totp.clone(), Phone::scan(&world.offer(login)).code(START));
                tokio::spawn(async move {
                    let login = LoginId([login; 16]);
                    totp.confirm(login, &anna(), "", Room::First, START, &code).await.unwrap()
                })
            })
            .collect();
        let mut kept = 0;
        for task in tasks {
            kept += usize::from(matches!(task.await.unwrap(), Confirmed::Verdict(Verdict::Proved(_))));
        }
        assert_eq!(kept, 1);
        assert_eq!(world.store.authenticators(&anna()).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn b7_a_wrong_code_says_what_may_help() {
    let (world, phone) = World::with_anna().await;
    assert_eq!(hint(&world.verify("12345").await), Hint::Malformed);
    assert_eq!(hint(&world.verify("000000").await), Hint::Mismatch);
    let minutes_ago = UnixMillis::from_secs(START.secs() - 180);
    assert_eq!(hint(&world.verify(&phone.code(minutes_ago)).await), Hint::ClockOff { secs: -180 });
    let wrong = world.verify("000000").await;
    assert!(matches!(wrong, Verdict::Wrong { failures: 4, next: Next::Again, .. }), "{wrong:?}");
}

#[tokio::test]
async fn what_was_called_wrong_is_not_accepted_when_its_time_comes() {
    let (world, phone) = World::with_anna().await;
    let ahead = phone.code(START.plus(Duration::from_secs(120)));
    assert_eq!(hint(&world.verify(&ahead).await), Hint::ClockOff { secs: 120 });
    world.pass(120);
    assert_eq!(hint(&world.verify(&ahead).await), Hint::AlreadyUsed);
    world.pass(30);
    assert!(is_proved(&world.verify(&phone.code(world.now())).await), "the next one is");
    let pending = Phone::scan(&world.offer(1)).code(world.now().plus(Duration::from_secs(90)));
    let off = confirmed(world.confirm(1, Room::Another { at_most: 2 }, &pending).await);
    assert_eq!(hint(&off), Hint::ClockOff { secs: 90 });
}

#[tokio::test]
async fn drift_is_learned_step_by_step_and_forgotten_when_the_clock_is_put_right() {
    let (world, phone) = World::with_anna().await;
    let slow = |steps: u64, now: UnixMillis| phone.code(UnixMillis::from_secs(now.secs() - steps * 30));
    assert_eq!(hint(&world.verify(&slow(2, world.now())).await), Hint::ClockOff { secs: -60 });
    for (steps, learned) in [(1, -1), (2, -2), (3, -2), (0, 0)] {
        world.pass(300);
        assert!(is_proved(&world.verify(&slow(steps, world.now())).await), "{steps} behind");
        assert_eq!(world.store.authenticators(&anna()).await.unwrap()[0].drift_steps, learned);
    }
    world.pass(300);
    assert_eq!(hint(&world.verify(&slow(2, world.now())).await), Hint::ClockOff { secs: -60 });
}

#[tokio::test]
async fn i8_the_fifth_wrong_answer_begins_a_wait_in_which_nothing_is_looked_at() {
    let (world, phone) = World::with_anna().await;
    for _ in 0..4 {
        world.verify("000000").await;
    }
    let until = START.plus(throttle::FIRST_WAIT);
    match world.verify("000000").await {
        Verdict::Wrong { failures: 5, next: Next::Wait { until: told }, .. } => assert_eq!(told, until),
        other => panic!("{other:?}"),
    }
    let right = phone.code(world.now());
    assert!(matches!(world.verify(&right).await, Verdict::Wait { until: told } if told == until));
    let step = world.store.authenticators(&anna()).await.unwrap()[0].last_step;
    assert_eq!(step, 0, "the right code was not spent either");
    let waiting = confirmed(world.confirm(1, Room::Another { at_most: 2 }, "000000").await);
    assert!(matches!(waiting, Verdict::Wait { .. }), "enrolment counts with it");
    world.pass(30);
    assert!(is_proved(&world.verify(&phone.code(world.now())).await));
    assert_eq!(world.failures().await, 0);
}

#[tokio::test]
async fn i8_the_fiftieth_wrong_answer_locks_until_a_reset() {
    let (world, phone) = World::with_anna().await;
    let mut last = None;
    for _ in 0..50 {
        last = Some(world.verify("not a code").await);
        world.pass(900);
    }
    assert!(matches!(last, Some(Verdict::Wrong { failures: 50, next: Next::Locked, .. })));
    assert!(matches!(world.verify(&phone.code(world.now())).await, Verdict::Locked));
    world.store.reset(&anna(), world.now(), world.now()).await.unwrap();
    assert!(matches!(world.verify("000000").await, Verdict::NotEnrolled));
    let fresh = Phone::scan(&world.offer(1));
    assert!(is_proved(&confirmed(world.confirm(1, Room::First, &fresh.code(world.now())).await)));
}

#[tokio::test]
async fn a_code_counts_for_its_owner_only() {
    let (world, phone) = World::with_anna().await;
    let bram = UserKey { name: UserName::canonical("bram"), ..anna() };
    world.give(&bram, 2, b"another twenty bytes").await;
    let his = Phone::holding(b"another twenty bytes");
    assert_eq!(hint(&world.verify(&his.code(START)).await), Hint::Mismatch);
    assert_eq!(hint(&world.totp.verify(&bram, &phone.code(START)).await.unwrap()), Hint::Mismatch);
    assert!(is_proved(&world.totp.verify(&bram, &his.code(START)).await.unwrap()));
}

/// [I10] A reset that comes while an enrolment is being confirmed wins: nothing is kept, nothing proved.
#[tokio::test]
async fn i10_a_reset_is_not_overtaken_by_an_enrolment() {
    let world = World::new();
    let phone = Phone::scan(&world.offer(1));
    let begun = world.now();
    world.pass(1);
    world.store.reset(&anna(), world.now(), UnixMillis(u64::MAX / 2)).await.unwrap();
    let (login, code) = (LoginId([1; 16]), phone.code(world.now()));
    let confirmed = world.totp.confirm(login, &anna(), "My phone", Room::First, begun, &code).await.unwrap();
    assert!(matches!(confirmed, Confirmed::Void), "{confirmed:?}");
    assert!(!world.totp.enrolled(&anna()).await.unwrap());
}

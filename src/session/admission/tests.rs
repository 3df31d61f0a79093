mod meanwhile;

use super::{super::testing::*, cookies::DEVICE_RENEWED_AFTER, *};
use crate::{
    config::app::Then,
    model::{Method, PersonalExemption, Profile, Realm, SessionRecord},
    session::{standing::Standings, token::verify},
    store::memory,
};

fn is_pending(first: &FirstFactor) -> bool {
    matches!(first, FirstFactor::Pending { .. })
}

fn admitted(first: FirstFactor) -> Admission {
    match first {
        FirstFactor::Admitted(admission) => admission,
        FirstFactor::Pending { .. } => panic!("pending"),
        FirstFactor::Blocked => panic!("blocked"),
        FirstFactor::Elsewhere => panic!("elsewhere"),
        FirstFactor::TooMany => panic!("too many"),
    }
}

fn proof(pending: &Pending, at: UnixMillis) -> Proof {
    Proof::for_test(pending.user.clone(), Method::Totp, at)
}

// --- how long, where, and what ends it

#[tokio::test]
async fn a7_a_login_within_the_validity_asks_no_code_and_a_later_one_does() {
    let (world, app) = (World::new().await, app(HOUR * 12));
    let mut anna = Browser::default();
    assert!(is_pending(&world.password(&app, &mut anna, "anna").await));
    assert!(!world.passes(&app, &anna), "a password alone opens nothing");
    let first = world.code(&app, &mut anna).await.unwrap();
    assert_eq!((first.ground, first.target.as_str()), (Ground::Factor, "/clients"));
    assert!(world.passes(&app, &anna));
    let proved_at = world.session(&anna).proved_at.unwrap();

    world.clock.advance(HOUR * 12 - Duration::from_millis(1));
    let again = admitted(world.password(&app, &mut anna, "anna").await);
    assert_eq!(again.ground, Ground::Trust);
    assert_eq!(world.session(&anna).proved_at, Some(proved_at), "the proof is as old as it is");
    assert!(world.passes(&app, &anna));

    world.clock.advance(Duration::from_millis(1));
    assert!(is_pending(&world.password(&app, &mut anna, "anna").await), "twelve hours after the code");
}

#[tokio::test]
async fn a7_b3_the_trust_cookie_lasts_as_long_as_is_left_of_the_validity() {
    let (world, app) = (World::new().await, app(HOUR * 12));
    let mut anna = Browser::default();
    world.password(&app, &mut anna, "anna").await;
    let pending = world.pending(&app, &anna).unwrap();
    let proof = proof(&pending, world.now());
    world.clock.advance(Duration::from_secs(100));
    let Completion::Admitted(done) = world.admissions.complete(&app, pending, proof, BARE).await.unwrap()
    else {
        panic!("void");
    };
    let trust = done.cookies.iter().map(|c| c.to_str().unwrap()).find(|c| c.contains("-trust=")).unwrap();
    assert!(trust.contains("; Max-Age=43100;"), "{trust}");
}

#[tokio::test]
async fn b3_validity_zero_asks_at_every_login_and_takes_an_older_trust_away() {
    let world = World::new().await;
    let (generous, strict) = (app(HOUR), app(Duration::ZERO));
    let mut anna = Browser::default();
    world.login(&generous, &mut anna, "anna").await;
    assert!(anna.trust.is_some());
    assert!(is_pending(&world.password(&strict, &mut anna, "anna").await));
    world.code(&strict, &mut anna).await.unwrap();
    assert!(world.passes(&strict, &anna) && anna.trust.is_none());
    assert!(is_pending(&world.password(&strict, &mut anna, "anna").await));
}

#[tokio::test]
async fn a8_without_the_cookies_a_code_is_asked_again() {
    let (world, app) = (World::new().await, app(HOUR * 12));
    let mut anna = Browser::default();
    world.login(&app, &mut anna, "anna").await;
    let full = anna.clone();
    for mut lost in [
        Browser::default(),
        Browser { trust: None, ..full.clone() },
        Browser { device: None, ..full.clone() },
    ] {
        assert!(is_pending(&world.password(&app, &mut lost, "anna").await), "{lost:?}");
    }
    assert!(!is_pending(&world.password(&app, &mut anna, "anna").await));
}

#[tokio::test]
async fn a9_trust_holds_on_the_device_of_the_proof_only() {
    let (world, app) = (World::new().await, app(HOUR * 12));
    let (mut office, mut home) = (Browser::default(), Browser::default());
    world.login(&app, &mut office, "anna").await;
    assert!(is_pending(&world.password(&app, &mut home, "anna").await));
    home.trust = office.trust.clone();
    assert!(is_pending(&world.password(&app, &mut home, "anna").await), "a trust cookie carried over");
    assert!(
        !is_pending(&world.password(&app, &mut office, "anna").await),
        "still trusted where it was proved"
    );
}

#[tokio::test]
async fn a10_i3_another_user_voids_trust_and_session_also_saved_copies_other_replicas_and_after_restart() {
    let (world, app) = (World::new().await, app(HOUR * 12));
    let other_replica = world.again().await;
    let mut browser = Browser::default();
    world.login(&app, &mut browser, "anna").await;
    let saved = browser.clone();
    assert!(world.passes(&app, &saved) && other_replica.passes(&app, &saved));

    assert!(is_pending(&world.password(&app, &mut browser, "bram").await), "Anna's trust is not Bram's");
    assert!(world.standings.trust(&saved.own(), world.now()).is_some(), "Bram has not completed his login");
    let taken = world.code(&app, &mut browser).await.unwrap();
    assert_eq!(taken.taken_from, Some(key(&app, "anna")));

    let restarted = world.again().await;
    for (name, replica) in [("this", &world), ("another", &other_replica), ("a restarted", &restarted)] {
        assert!(!replica.passes(&app, &saved), "Anna's saved session on {name} replica");
        assert!(replica.passes(&app, &browser), "Bram's session on {name} replica");
        assert!(
            replica.standings.trust(&saved.own(), replica.now()).is_none(),
            "Anna's trust, {name} replica"
        );
        let mut copy = saved.clone();
        assert!(is_pending(&replica.password(&app, &mut copy, "anna").await), "{name} replica");
    }
    // Bram's own trust is of the new epoch. He comes back without a code, Anna does not.
    assert_eq!(admitted(world.password(&app, &mut browser, "bram").await).ground, Ground::Trust);
    assert!(is_pending(&world.password(&app, &mut browser, "anna").await));
}

#[tokio::test]
async fn a10_an_exempt_user_takes_a_device_as_well() {
    let (world, mut app) = (World::new().await, app(HOUR * 12));
    exempting(&mut app, "bram");
    let mut browser = Browser::default();
    world.login(&app, &mut browser, "anna").await;
    let saved = browser.clone();
    let bram = admitted(world.password(&app, &mut browser, "bram").await);
    assert_eq!((bram.ground, bram.taken_from), (Ground::Exempt, Some(key(&app, "anna"))));
    assert!(!world.passes(&app, &saved));
    assert!(browser.trust.is_none(), "nothing is proved, nothing is trusted, and Anna's is void");
    assert_eq!(world.session(&browser).proved_at, None);
    let mut copy = Browser { session: None, ..saved };
    assert!(is_pending(&world.password(&app, &mut copy, "anna").await));
}

#[tokio::test]
async fn a10_a_trusted_user_takes_nothing_from_themselves() {
    let (world, app) = (World::new().await, app(HOUR * 12));
    let mut anna = Browser::default();
    assert_eq!(world.login(&app, &mut anna, "anna").await.taken_from, None);
    let epoch = world.session(&anna).epoch;
    assert_eq!(world.login(&app, &mut anna, "anna").await.taken_from, None);
    assert_eq!(world.session(&anna).epoch, epoch);
}

/// A replica that has not heard of a takeover (its feed is behind) must not admit by a void trust.
#[tokio::test]
async fn i3_a_void_trust_admits_nobody_even_where_the_takeover_is_not_known_yet() {
    let (world, app) = (World::new().await, app(HOUR * 12));
    let mut browser = Browser::default();
    world.login(&app, &mut browser, "anna").await;
    let mut saved = Browser { session: None, ..browser.clone() };
    world.login(&app, &mut browser, "bram").await;
    let deaf = Arc::new(Live::default());
    let random: SharedRandom = Arc::new(crate::base::random::SystemRandom);
    let admissions = Admissions::new(
        world.store.clone(),
        world.keyring.clone(),
        deaf.clone(),
        NAMES,
        world.clock.clone(),
        random,
    );
    let standings = Standings::new(world.keyring.clone(), deaf);
    assert!(standings.trust(&saved.own(), world.now()).is_some(), "it looks alive from here");
    let origin = saved.clone();
    let origin = Origin { cookies: origin.own(), client: CLIENT, agent: "test" };
    let first = admissions.first_factor(&app, UserName::canonical("anna"), origin, "/").await.unwrap();
    let FirstFactor::Pending { cookies, .. } = &first else { panic!("admitted") };
    saved.take(cookies);
    assert!(saved.session.is_none());
}

#[tokio::test]
async fn a_method_that_no_longer_counts_is_no_trust_and_no_completion() {
    let (world, mut app) = (World::new().await, app(HOUR * 12));
    let mut anna = Browser::default();
    world.login(&app, &mut anna, "anna").await;
    if let Then::Require(required) = &mut app.policy[0].then {
        required.methods = MethodSet::EMPTY;
    }
    assert!(is_pending(&world.password(&app, &mut anna, "anna").await));
    assert!(world.code(&app, &mut anna).await.is_none());
    assert!(!world.passes(&app, &anna));
}

#[tokio::test]
async fn a_reset_voids_trust_session_and_pending_login() {
    let (world, app) = (World::new().await, app(HOUR * 12));
    let mut anna = Browser::default();
    world.login(&app, &mut anna, "anna").await;
    let mut elsewhere = Browser::default();
    world.password(&app, &mut elsewhere, "anna").await;
    world.clock.advance(Duration::from_millis(1));
    let until = world.now().plus(HOUR * 100);
    world.store.reset(&key(&app, "anna"), world.now(), until).await.unwrap();
    assert!(!world.passes(&app, &anna));
    assert!(world.code(&app, &mut elsewhere).await.is_none());
    assert!(is_pending(&world.password(&app, &mut anna, "anna").await));
    assert!(world.code(&app, &mut anna).await.is_some(), "and begins anew");
}

// --- a session and nothing less (I2)

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn i2_a_pending_login_is_completed_once_under_any_concurrency() {
    let (world, app) = (Arc::new(World::new().await), Arc::new(app(HOUR)));
    for _ in 0..50 {
        let mut anna = Browser::default();
        world.password(&app, &mut anna, "anna").await;
        let pending = world.pending(&app, &anna).unwrap();
        let tries = (0..16).map(|_| {
            let (world, app, pending) = (world.clone(), app.clone(), pending.clone());
            tokio::spawn(async move {
                let proof = proof(&pending, world.now());
                let done = world.admissions.complete(&app, pending, proof, BARE).await.unwrap();
                matches!(done, Completion::Admitted(_))
            })
        });
        let mut admitted = 0;
        for one in tries.collect::<Vec<_>>() {
            admitted += usize::from(one.await.unwrap());
        }
        assert_eq!(admitted, 1);
    }
}

#[tokio::test]
async fn i2_a_login_played_again_neither_admits_nor_takes_the_device() {
    let (world, app) = (World::new().await, app(HOUR));
    let mut browser = Browser::default();
    world.password(&app, &mut browser, "anna").await;
    let mut replay = browser.clone();
    world.code(&app, &mut browser).await.unwrap();
    world.login(&app, &mut browser, "bram").await;
    assert!(world.code(&app, &mut replay).await.is_none());
    assert!(world.passes(&app, &browser), "Bram was not disturbed");
}

#[tokio::test]
async fn i2_the_proof_of_another_user_completes_nothing() {
    let (world, app) = (World::new().await, app(HOUR));
    let mut anna = Browser::default();
    world.password(&app, &mut anna, "anna").await;
    let pending = world.pending(&app, &anna).unwrap();
    let bram = Proof::for_test(key(&app, "bram"), Method::Totp, world.now());
    let done = world.admissions.complete(&app, pending.clone(), bram, BARE).await.unwrap();
    assert!(matches!(done, Completion::Void));
    let elsewhere = UserKey { realm: Realm::new("elsewhere"), ..key(&app, "anna") };
    let namesake = Proof::for_test(elsewhere, Method::Totp, world.now());
    let done = world.admissions.complete(&app, pending, namesake, BARE).await.unwrap();
    assert!(matches!(done, Completion::Void));
    assert!(world.code(&app, &mut anna).await.is_some(), "her own still does");
}

#[tokio::test]
async fn i2_a_pending_login_dies_with_age_block_and_another_app() {
    let (world, app) = (World::new().await, app(HOUR));
    let mut anna = Browser::default();
    world.password(&app, &mut anna, "anna").await;
    let pending = world.pending(&app, &anna).unwrap();
    let complete = async |pending: &Pending, app: &App| {
        let proof = proof(pending, world.now());
        let done = world.admissions.complete(app, pending.clone(), proof, BARE).await.unwrap();
        matches!(done, Completion::Admitted(_))
    };
    let mut other = super::super::testing::app(HOUR);
    other.id = crate::model::AppId::new("planning");
    assert!(!complete(&pending, &other).await, "another app");
    world.store.set_blocked(&key(&app, "anna"), true, world.now()).await.unwrap();
    assert!(!complete(&pending, &app).await, "blocked");
    let mut browser = anna.clone();
    assert!(matches!(world.password(&app, &mut browser, "anna").await, FirstFactor::Blocked));
    world.store.set_blocked(&key(&app, "anna"), false, world.now()).await.unwrap();
    world.clock.advance(PENDING_LIVES);
    assert!(!complete(&pending, &app).await, "ten minutes");
}

/// [B13] Somebody with a list of addresses gets in from those only; nobody else is concerned.
#[tokio::test]
async fn b13_a_login_from_elsewhere_begins_nothing_and_its_list_goes_with_the_session() {
    let (world, app) = (World::new().await, app(HOUR));
    let anna = key(&app, "anna");
    let set = async |networks: &[&str]| {
        let networks = networks.iter().map(|n| n.parse().unwrap()).collect();
        let profile = Profile { networks, ..Profile::default() };
        documents::change_profile(world.store.as_ref(), &anna, |_| (Some(profile.clone()), ()))
            .await
            .unwrap();
    };
    set(&["198.51.100.0/24"]).await;
    let mut browser = Browser::default();
    assert!(matches!(world.password(&app, &mut browser, "anna").await, FirstFactor::Elsewhere));
    assert!(world.pending(&app, &browser).is_none());
    world.login(&app, &mut Browser::default(), "bram").await;
    set(&["198.51.100.0/24", "192.0.2.7/32"]).await;
    world.password(&app, &mut browser, "anna").await;
    let pending = world.pending(&app, &browser).unwrap();
    // Who takes the pending login to another address completes nothing there.
    let done = world.admissions.complete(
        &app,
        pending.clone(),
        proof(&pending, world.now()),
        Origin { client: [203, 0, 113, 9].into(), ..BARE },
    );
    assert!(matches!(done.await.unwrap(), Completion::Void));
    world.code(&app, &mut browser).await.unwrap();
    assert_eq!(world.session(&browser).terms.networks.len(), 2);
}

/// An exemption for one person needs no second factor, ends when it ends, and is written in the session.
#[tokio::test]
async fn i2_a_personal_exemption_ends_with_its_time() {
    let (world, app) = (World::new().await, app(HOUR));
    let until = world.now().plus(HOUR);
    let exemption = Some(PersonalExemption { until, reason: "phone is broken".to_owned() });
    let profile = Profile { exemption, ..Profile::default() };
    documents::change_profile(world.store.as_ref(), &key(&app, "anna"), |_| (Some(profile.clone()), ()))
        .await
        .unwrap();
    let mut browser = Browser::default();
    assert!(matches!(world.password(&app, &mut browser, "anna").await, FirstFactor::Admitted(_)));
    assert_eq!(world.session(&browser).terms.exempt_until, Some(until));
    assert!(is_pending(&world.password(&app, &mut Browser::default(), "bram").await));
    world.clock.advance(HOUR);
    assert!(is_pending(&world.password(&app, &mut Browser::default(), "anna").await));
}

/// The user's own list of sessions: what has begun, from where, with what; not what has ended.
#[tokio::test]
async fn sessions_are_listed_while_they_may_live() {
    let (world, app) = (World::new().await, app(HOUR));
    let (mut one, mut two) = (Browser::default(), Browser::default());
    world.login(&app, &mut one, "anna").await;
    world.login(&app, &mut two, "anna").await;
    let listed = async || {
        let presence = documents::presence(world.store.as_ref(), &key(&app, "anna")).await.unwrap();
        let stands = |s: &SessionRecord| world.live.record_stands(&key(&app, "anna"), s);
        presence.sessions.into_iter().filter(stands).map(|s| s.id).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, [world.session(&one).id, world.session(&two).id]);
    let live = world.standings.session(&app, &one.own(), world.now()).unwrap();
    world.admissions.end(&live).await.unwrap();
    assert_eq!(listed().await, [world.session(&two).id]);
    world.login(&app, &mut two, "bram").await;
    assert!(listed().await.is_empty(), "a takeover ends it, too");
}

/// Whichever store verb fails, nobody is admitted; and however often one tries again, nobody is admitted twice.
#[tokio::test]
async fn i2_i9_trouble_at_any_step_admits_nobody_and_leaves_nothing_half() {
    for calls in 0..9 {
        let store = Failing::after(memory::open(), usize::MAX);
        let clock = crate::base::clock::ManualClock::at(UnixMillis::from_secs(1_800_000_000));
        let world = World::over(store.clone(), clock).await;
        let mut app = app(HOUR);
        exempting(&mut app, "extern");
        let mut anna = Browser::default();
        world.password(&app, &mut anna, "anna").await;

        let pending = world.pending(&app, &anna).unwrap();
        store.heal(calls);
        let first =
            world.admissions.complete(&app, pending.clone(), proof(&pending, world.now()), BARE).await;
        store.heal(usize::MAX);
        let again =
            world.admissions.complete(&app, pending.clone(), proof(&pending, world.now()), BARE).await;
        let got = [&first, &again].into_iter().filter(|r| matches!(r, Ok(Completion::Admitted(_)))).count();
        assert!(got <= 1, "{calls} calls went well");
        assert_eq!(first.is_err(), calls < 6, "profile, consume, note, own, presence: {calls}");

        let mut browser = anna.clone();
        store.heal(calls);
        let origin = Origin { cookies: anna.own(), client: CLIENT, agent: "test" };
        let exempt = world.admissions.first_factor(&app, UserName::canonical("extern"), origin, "/").await;
        assert_eq!(exempt.is_err(), calls < 6, "note, profile, note, own, presence: {calls}");
        if let Ok(FirstFactor::Admitted(admission)) = exempt {
            store.heal(usize::MAX);
            browser.take(&admission.cookies);
            assert!(world.passes(&app, &browser));
        }
    }
}

// --- what ends

#[tokio::test]
async fn a_running_session_ends_at_the_first_factor_whoever_passes_it() {
    for (user, blocked) in [("bram", false), ("anna", false), ("bram", true)] {
        let (world, app) = (World::new().await, app(HOUR));
        let replica = world.again().await;
        let mut browser = Browser::default();
        world.login(&app, &mut browser, "anna").await;
        let saved = browser.clone();
        assert!(replica.passes(&app, &saved));
        world.store.set_blocked(&key(&app, user), blocked, world.now()).await.unwrap();
        let first = world.password(&app, &mut browser, user).await;
        assert_eq!(matches!(first, FirstFactor::Blocked), blocked);
        assert!(!world.passes(&app, &saved) && !replica.passes(&app, &saved), "{user}, blocked: {blocked}");
    }
}

#[tokio::test]
async fn i9_when_the_end_of_a_running_session_cannot_be_kept_nobody_logs_in_and_it_is_over_here() {
    let store = Failing::after(memory::open(), usize::MAX);
    let clock = crate::base::clock::ManualClock::at(UnixMillis::from_secs(1_800_000_000));
    let world = World::over(store.clone(), clock).await;
    let app = app(HOUR);
    let mut browser = Browser::default();
    world.login(&app, &mut browser, "anna").await;
    store.heal(0);
    let origin = Origin { cookies: browser.own(), client: CLIENT, agent: "test" };
    assert!(world.admissions.first_factor(&app, UserName::canonical("bram"), origin, "/").await.is_err());
    assert!(!world.passes(&app, &browser));
}

#[tokio::test]
async fn logout_ends_the_session_also_a_copy_and_leaves_the_trust() {
    let (world, app) = (World::new().await, app(HOUR));
    let mut anna = Browser::default();
    world.login(&app, &mut anna, "anna").await;
    let saved = anna.clone();
    let live = world.standings.session(&app, &anna.own(), world.now()).unwrap();
    anna.take(&world.admissions.end(&live).await.unwrap());
    assert!(anna.session.is_none() && anna.trust.is_some());
    assert!(!world.passes(&app, &saved) && !world.again().await.passes(&app, &saved));
    assert!(world.admissions.renew(&live, world.now().plus(HOUR)).is_some_and(|renewed| {
        let mut copy = saved.clone();
        copy.take(&[renewed]);
        !world.passes(&app, &copy)
    }));
    assert_eq!(admitted(world.password(&app, &mut anna, "anna").await).ground, Ground::Trust);
}

// --- step-up

fn step_up(world: &World, app: &App, browser: &mut Browser) {
    let live = world.standings.session(app, &browser.own(), world.now()).unwrap();
    browser.take(&world.admissions.step_up(&live, "/reports?y=1").unwrap());
}

#[tokio::test]
async fn a_step_up_goes_on_with_the_same_session() {
    let (world, app) = (World::new().await, app(HOUR));
    let mut anna = Browser::default();
    world.login(&app, &mut anna, "anna").await;
    let before = world.session(&anna);
    world.clock.advance(HOUR / 2);
    step_up(&world, &app, &mut anna);
    let done = world.code(&app, &mut anna).await.unwrap();
    assert_eq!((done.session, done.target.as_str(), done.taken_from), (before.id, "/reports?y=1", None));
    let after = world.session(&anna);
    assert_eq!((after.started, after.epoch, after.device), (before.started, before.epoch, before.device));
    assert_eq!((after.proved_at, after.seen), (Some(world.now()), world.now()));
    assert!(world.passes(&app, &anna) && anna.login.is_none());
    let trust = world.standings.trust(&anna.own(), world.now()).unwrap();
    assert_eq!(trust.proved_at, world.now(), "the trust is as fresh as the proof");
}

#[tokio::test]
async fn i2_a_step_up_brings_no_dead_session_back() {
    let app = app(HOUR);
    for end in ["logout", "takeover", "max"] {
        let world = World::new().await;
        let mut anna = Browser::default();
        world.login(&app, &mut anna, "anna").await;
        step_up(&world, &app, &mut anna);
        let mut saved = anna.clone();
        let live = world.standings.session(&app, &anna.own(), world.now()).unwrap();
        match end {
            "logout" => drop(world.admissions.end(&live).await.unwrap()),
            "takeover" => {
                let mut without = Browser { device: anna.device.clone(), ..Browser::default() };
                world.login(&app, &mut without, "bram").await;
                assert!(world.passes(&app, &without));
            }
            _ => {
                world.clock.advance(app.session.max - Duration::from_secs(1));
                let mut late = Browser { device: anna.device.clone(), ..anna.clone() };
                let pending = Pending {
                    started: world.now(),
                    ..verify(&world.keyring, anna.login.as_ref().unwrap()).unwrap()
                };
                late.login = Some(issue(&world.keyring, &pending));
                world.clock.advance(Duration::from_secs(1));
                saved = late;
            }
        }
        assert!(world.code(&app, &mut saved).await.is_none(), "{end}");
        assert!(!world.passes(&app, &saved), "{end}");
    }
}

// --- cookies

#[tokio::test]
async fn a_session_is_renewed_once_a_minute_or_a_quarter_of_idle() {
    let (world, mut app) = (World::new().await, app(HOUR));
    for (idle, every) in [(HOUR, 60), (Duration::from_secs(120), 30)] {
        app.session.idle = idle;
        let mut anna = Browser::default();
        world.login(&app, &mut anna, "anna").await;
        let renew = |browser: &Browser| {
            let live = world.standings.session(&app, &browser.own(), world.now()).unwrap();
            world.admissions.renew(&live, world.now())
        };
        assert!(renew(&anna).is_none());
        world.clock.advance(Duration::from_secs(every - 1));
        assert!(renew(&anna).is_none());
        world.clock.advance(Duration::from_secs(1));
        let old = anna.clone();
        anna.take(&[renew(&anna).unwrap()]);
        assert!(renew(&old).is_none(), "one answer of many carries it");
        assert!(renew(&anna).is_none());
        assert!(
            world.passes(&app, &anna) && world.passes(&app, &old),
            "requests on their way are not cut off"
        );
        let (new, old) = (world.session(&anna), world.session(&old));
        assert_eq!(new, Session { seen: world.now(), ..old });
    }
}

#[tokio::test]
async fn a_device_cookie_is_renewed_after_thirty_days_and_stays_the_same_device() {
    let (world, app) = (World::new().await, app(HOUR));
    let mut anna = Browser::default();
    world.login(&app, &mut anna, "anna").await;
    let (device, cookie) = (world.standings.device(&anna.own()), anna.device.clone());
    world.clock.advance(DEVICE_RENEWED_AFTER);
    world.login(&app, &mut anna, "anna").await;
    assert_eq!(anna.device, cookie);
    world.clock.advance(Duration::from_millis(1));
    world.login(&app, &mut anna, "anna").await;
    assert_ne!(anna.device, cookie);
    assert_eq!(world.standings.device(&anna.own()), device);
    assert!(world.passes(&app, &anna));
    assert!(world.passes(&app, &Browser { device: cookie, ..anna }), "the former cookie of the same device");
}

#[tokio::test]
async fn the_largest_tokens_still_fit_into_a_cookie() {
    let (world, mut app) = (World::new().await, app(HOUR));
    app.id = crate::model::AppId::new("a".repeat(40));
    app.realm = Realm::new("r".repeat(40));
    let user = UserName::canonical("u".repeat(UserName::MAX_BYTES));
    let target = format!("/{}", "t".repeat(target::MAX_BYTES - 1));
    let origin = Origin { cookies: OwnCookies::default(), client: CLIENT, agent: "test" };
    let first = world.admissions.first_factor(&app, user, origin, &target).await.unwrap();
    let FirstFactor::Pending { cookies, .. } = first else { panic!("admitted") };
    let mut browser = Browser::default();
    browser.take(&cookies);
    assert_eq!(world.pending(&app, &browser).unwrap().target, target);
    world.code(&app, &mut browser).await.unwrap();
    assert!(world.passes(&app, &browser));
}

#[tokio::test]
async fn a_hostile_target_becomes_the_root_wherever_it_comes_in() {
    let (world, app) = (World::new().await, app(HOUR));
    let admissions = &world.admissions;
    for hostile in ["//example.org", "/\\example.org", "https://example.org", "/.sluis/logout"] {
        let mut anna = Browser::default();
        let origin = Origin { cookies: OwnCookies::default(), client: CLIENT, agent: "test" };
        let first =
            admissions.first_factor(&app, UserName::canonical("anna"), origin, hostile).await.unwrap();
        let FirstFactor::Pending { cookies, .. } = first else { panic!("admitted") };
        anna.take(&cookies);
        assert_eq!(world.code(&app, &mut anna).await.unwrap().target, "/", "{hostile}");
        let live = world.standings.session(&app, &anna.own(), world.now()).unwrap();
        anna.take(&admissions.step_up(&live, hostile).unwrap());
        assert_eq!(world.pending(&app, &anna).unwrap().target, "/", "{hostile}");
    }
}

#[tokio::test]
async fn users_are_noted_when_met_and_when_they_log_in() {
    let (world, app) = (World::new().await, app(HOUR));
    let mut anna = Browser::default();
    world.password(&app, &mut anna, "anna").await;
    let known = async || world.store.user(&key(&app, "anna")).await.unwrap().unwrap();
    assert_eq!(known().await.last_login_at, None);
    world.code(&app, &mut anna).await.unwrap();
    assert_eq!(known().await.last_login_at, Some(world.now()));
}

/// Each end of a session is kept in memory by every replica: logging in and out in a loop does not fill it.
#[tokio::test]
async fn sessions_that_begin_and_end_in_a_loop_are_bounded() {
    let (world, app) = (World::new().await, app(HOUR * 12));
    let mut anna = Browser::default();
    world.login(&app, &mut anna, "anna").await;
    let mut rounds = 0;
    while let FirstFactor::Admitted(_) = world.password(&app, &mut anna, "anna").await {
        rounds += 1;
        assert!(rounds < 1000, "no bound");
    }
    assert!(rounds >= 200, "an honest user never meets it: {rounds}");
    assert!(!world.passes(&app, &anna), "what was running has ended");
    let held = world.live.len();
    for _ in 0..100 {
        assert!(matches!(world.password(&app, &mut anna, "anna").await, FirstFactor::TooMany));
    }
    assert_eq!(world.live.len(), held, "nothing more is kept");
    let mut bram = Browser::default();
    world.login(&app, &mut bram, "bram").await;
    assert_eq!(
        admitted(world.password(&app, &mut bram, "bram").await).ground,
        Ground::Trust,
        "others log in"
    );
    world.clock.advance(HOUR);
    assert_eq!(admitted(world.password(&app, &mut anna, "anna").await).ground, Ground::Trust, "it passes");
}

/// A step-up leads back to those of our own pages that ask for it, and to no other, however it is written.
#[tokio::test]
async fn a_step_up_leads_back_to_the_pages_that_ask_for_it_only() {
    let world = World::new().await;
    let app = app(Duration::ZERO);
    let mut anna = Browser::default();
    world.login(&app, &mut anna, "anna").await;
    for (target, expected) in [
        ("/clients?id=7", "/clients?id=7"),
        ("/.sluis/enrol", "/.sluis/enrol"),
        ("/.sluis/me", "/.sluis/me"),
        ("/.sluis/me/remove", "/.sluis/me/remove"),
        ("/.sluis/me/", "/"),
        ("/.sluis/me?do=sign-out-everywhere", "/"),
        ("/.sluis/me/remove?authenticator=1", "/"),
        ("/.sluis/ME", "/"),
        ("/.sluis/logout", "/"),
        ("/.sluis/emergency", "/"),
        ("/.sluis/invitation", "/"),
        ("/.sluis/challenge", "/"),
        ("//evil.example/.sluis/me", "/"),
    ] {
        let live = world.standings.session(&app, &anna.own(), world.now()).unwrap();
        let cookies = world.admissions.step_up(&live, target).unwrap();
        anna.take(&cookies);
        assert_eq!(world.pending(&app, &anna).unwrap().target, expected, "{target}");
        let admission = world.code(&app, &mut anna).await.unwrap();
        assert_eq!(admission.target, expected, "{target}");
    }
}

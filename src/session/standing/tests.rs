use std::sync::atomic::AtomicBool;

use super::{super::testing::*, *};
use crate::{
    base::keyring::Keyring,
    model::{AppId, Revocation},
    session::token::issue,
    store::RevocationSink,
};

fn reissue(keyring: &Keyring, session: &Session) -> Option<String> {
    Some(issue(keyring, session))
}

#[tokio::test]
async fn a_session_cookie_is_worth_nothing_without_its_device() {
    let (world, app) = (World::new().await, app(HOUR));
    let (mut anna, mut thief) = (Browser::default(), Browser::default());
    world.login(&app, &mut anna, "anna").await;
    world.login(&app, &mut thief, "thief").await;
    let own = thief.session.clone();
    thief.session = anna.session.clone();
    for cached in [false, true] {
        assert!(!world.passes(&app, &thief), "with the cookie of another device; cached: {cached}");
        let alone = Browser { session: anna.session.clone(), ..Browser::default() };
        assert!(!world.passes(&app, &alone), "without device cookie; cached: {cached}");
        assert!(world.passes(&app, &anna));
    }
    thief.session = own;
    assert!(world.passes(&app, &thief));
}

#[tokio::test]
async fn a_token_of_one_kind_stands_for_no_other() {
    let (world, app) = (World::new().await, app(HOUR));
    let mut anna = Browser::default();
    world.password(&app, &mut anna, "anna").await;
    let pending = anna.clone();
    world.code(&app, &mut anna).await.unwrap();
    for wrong in [&pending.login, &anna.trust, &anna.device] {
        assert!(!world.passes(&app, &Browser { session: wrong.clone(), ..anna.clone() }));
    }
    let as_login = Browser { login: anna.session.clone(), ..anna.clone() };
    assert!(world.pending(&app, &as_login).is_none());
    let as_trust = Browser { trust: anna.session.clone(), ..anna.clone() };
    assert!(world.standings.trust(&as_trust.own(), world.now()).is_none());
    let as_device = Browser { device: anna.trust.clone(), ..anna.clone() };
    assert!(world.standings.device(&as_device.own()).is_none() && !world.passes(&app, &as_device));
}

#[tokio::test]
async fn age_and_idleness_are_judged_on_every_request_cached_or_not() {
    let (world, mut app) = (World::new().await, app(HOUR));
    app.session = crate::config::app::SessionLimits { idle: HOUR, max: HOUR * 2 };
    let mut anna = Browser::default();
    world.login(&app, &mut anna, "anna").await;
    assert!(world.passes(&app, &anna));
    world.clock.advance(HOUR - Duration::from_millis(1));
    assert!(world.passes(&app, &anna));
    let live = world.standings.session(&app, &anna.own(), world.now()).unwrap();
    let saved = anna.clone();
    anna.take(&[world.admissions.renew(&live, world.now()).unwrap()]);
    world.clock.advance(Duration::from_millis(1));
    assert!(!world.passes(&app, &saved), "idle for an hour");
    assert!(world.passes(&app, &anna), "seen a moment ago");
    // Kept busy to the end, it ends all the same.
    while world.now().since(world.session(&anna).started) < app.session.max {
        assert!(world.passes(&app, &anna));
        let live = world.standings.session(&app, &anna.own(), world.now()).unwrap();
        anna.take(world.admissions.renew(&live, world.now()).as_slice());
        world.clock.advance(HOUR / 4);
    }
    assert!(!world.passes(&app, &anna), "max");
}

#[tokio::test]
async fn a_session_is_of_one_app() {
    let (world, app) = (World::new().await, app(HOUR));
    let mut other = super::super::testing::app(HOUR);
    other.id = AppId::new("planning");
    let mut anna = Browser::default();
    world.password(&app, &mut anna, "anna").await;
    assert!(world.pending(&other, &anna).is_none());
    world.code(&app, &mut anna).await.unwrap();
    assert!(world.passes(&app, &anna));
    assert!(!world.passes(&other, &anna), "although it is cached");
    assert!(world.passes(&app, &anna));
}

#[tokio::test]
async fn a_revocation_is_seen_by_the_next_request_also_behind_the_cache() {
    let app = app(HOUR);
    let kinds: [fn(&Session) -> Revocation; 4] = [
        |s| Revocation::Session { id: s.id, until: s.started.plus(HOUR) },
        |s| Revocation::Device {
            device: s.device,
            epoch: crate::model::Epoch(s.epoch.0 + 1),
            until: s.started.plus(HOUR),
        },
        |s| Revocation::User {
            user: s.user.clone(),
            before: s.started.plus(Duration::from_millis(1)),
            until: s.started.plus(HOUR),
        },
        |s| Revocation::Blocked { user: s.user.clone(), blocked: true, version: 1 },
    ];
    for kind in kinds {
        let world = World::new().await;
        let (mut anna, mut bram) = (Browser::default(), Browser::default());
        world.login(&app, &mut anna, "anna").await;
        world.login(&app, &mut bram, "bram").await;
        assert!(world.passes(&app, &anna) && world.passes(&app, &anna));
        let revocation = kind(&world.session(&anna));
        world.live.apply(&revocation);
        assert!(!world.passes(&app, &anna), "{revocation:?}");
        assert!(!world.passes(&app, &anna), "{revocation:?}, asked again");
        assert!(world.passes(&app, &bram), "nobody else");
    }
}

#[tokio::test]
async fn a_blocked_user_has_no_session_and_is_known_as_blocked() {
    let (world, app) = (World::new().await, app(HOUR));
    let mut anna = Browser::default();
    world.login(&app, &mut anna, "anna").await;
    let blocked = |browser: &Browser| world.standings.is_blocked(&app, &browser.own(), world.now());
    assert!(!blocked(&anna));
    world.store.set_blocked(&key(&app, "anna"), true, world.now()).await.unwrap();
    assert!(!world.passes(&app, &anna) && blocked(&anna));
    assert!(world.standings.trust(&anna.own(), world.now()).is_none());
    assert!(!blocked(&Browser { device: None, ..anna.clone() }), "says nothing to a copy without its device");
    world.store.set_blocked(&key(&app, "anna"), false, world.now()).await.unwrap();
    assert!(world.passes(&app, &anna) && !blocked(&anna));
}

#[tokio::test]
async fn a_pending_login_waits_ten_minutes_on_its_device_for_its_user() {
    let (world, app) = (World::new().await, app(HOUR));
    let mut anna = Browser::default();
    world.password(&app, &mut anna, "anna").await;
    let mut other = Browser::default();
    world.password(&app, &mut other, "other").await;
    assert!(world.pending(&app, &Browser { login: anna.login.clone(), ..other }).is_none(), "another device");
    assert!(world.pending(&app, &Browser { device: None, ..anna.clone() }).is_none());
    world.store.set_blocked(&key(&app, "anna"), true, world.now()).await.unwrap();
    assert!(world.pending(&app, &anna).is_none(), "blocked");
    world.store.set_blocked(&key(&app, "anna"), false, world.now()).await.unwrap();
    world.clock.advance(PENDING_LIVES - Duration::from_millis(1));
    assert!(world.pending(&app, &anna).is_some());
    world.clock.advance(Duration::from_millis(1));
    assert!(world.pending(&app, &anna).is_none(), "ten minutes");

    world.password(&app, &mut anna, "anna").await;
    world.clock.advance(Duration::from_secs(1));
    world.store.reset(&key(&app, "anna"), world.now(), world.now().plus(HOUR)).await.unwrap();
    assert!(world.pending(&app, &anna).is_none(), "reset since");
}

#[tokio::test]
async fn a_token_from_the_future_counts_for_nothing() {
    let (world, app) = (World::new().await, app(HOUR));
    let mut anna = Browser::default();
    world.login(&app, &mut anna, "anna").await;
    let session = world.session(&anna);
    for (ahead, lives) in [(CLOCK_SKEW, true), (CLOCK_SKEW + Duration::from_secs(1), false)] {
        let at = world.now().plus(ahead);
        for token in [Session { seen: at, ..session.clone() }, Session { started: at, ..session.clone() }] {
            let browser = Browser { session: reissue(&world.keyring, &token), ..anna.clone() };
            assert_eq!(world.passes(&app, &browser), lives, "{ahead:?}");
        }
        let trust = Trust { proved_at: at, ..world.standings.trust(&anna.own(), world.now()).unwrap() };
        let browser = Browser { trust: Some(issue(&world.keyring, &trust)), ..anna.clone() };
        assert_eq!(world.standings.trust(&browser.own(), world.now()).is_some(), lives, "{ahead:?}");
    }
}

#[tokio::test]
async fn what_was_rendered_is_kept_with_the_session_and_its_configuration() {
    let (world, app) = (World::new().await, app(HOUR));
    let mut anna = Browser::default();
    world.login(&app, &mut anna, "anna").await;
    let find = || world.standings.session(&app, &anna.own(), world.now()).unwrap();
    find().rendered.set(Vec::new()).unwrap();
    assert!(find().rendered.get().is_some());
    // Another configuration may have other headers: it has standings of its own.
    let next = Standings::new(world.keyring.clone(), world.live.clone());
    assert!(next.session(&app, &anna.own(), world.now()).unwrap().rendered.get().is_none());
}

/// Once a revocation is announced, no request that begins afterwards may pass, however many look at the same time.
#[tokio::test]
async fn i3_no_concurrent_reader_overtakes_a_revocation() {
    let (world, app) = (World::new().await, app(HOUR));
    for _ in 0..200 {
        let mut anna = Browser::default();
        world.login(&app, &mut anna, "anna").await;
        let session = world.session(&anna);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    loop {
                        let announced = over.load(Ordering::SeqCst);
                        let passes = world.passes(&app, &anna);
                        if announced {
                            assert!(!passes, "passed after the announcement");
                            break;
                        }
                    }
                });
            }
            // Another revocation in between moves the count, so that readers are in the middle of a second look.
            world
                .live
                .apply(&Revocation::Session { id: crate::model::SessionId([0; 16]), until: world.now() });
            world.live.apply(&Revocation::Session { id: session.id, until: world.now().plus(HOUR) });
            over.store(true, Ordering::SeqCst);
        });
    }
}

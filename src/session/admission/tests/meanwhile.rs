//! What changes while the store works: the answer of a verb is not the last word.

use super::*;
use crate::{config::sample, factor::EmergencyProof, store::feed::Lookout};

/// Hears of a takeover and, before that is answered, of something else.
struct Meanwhile {
    live: Arc<Live>,
    then: Revocation,
}

impl RevocationSink for Meanwhile {
    fn apply(&self, revocation: &Revocation) {
        if matches!(revocation, Revocation::Device { .. }) {
            self.live.apply(&self.then);
        }
    }
}

/// Anna's device; nobody has a session there. What `then` makes is heard of in the middle of the next takeover.
async fn a_takeover_with(app: &App, then: impl FnOnce(&World) -> Revocation) -> (World, Browser) {
    let world = World::new().await;
    let mut browser = Browser::default();
    world.login(app, &mut browser, "anna").await;
    world.clock.advance(Duration::from_secs(1));
    let sink = Meanwhile { live: Arc::clone(&world.live), then: then(&world) };
    world.store.follow(Arc::new(sink), world.now()).await.unwrap();
    browser.session = None;
    (world, browser)
}

fn block(app: &App) -> Revocation {
    Revocation::Blocked { user: key(app, "bram"), blocked: true, version: 1 }
}

/// [I2] Whoever is blocked or reset while the device changes hands gets no session out of it.
#[tokio::test]
async fn i2_a_block_or_reset_during_a_takeover_is_not_overtaken() {
    let mut app = app(HOUR);
    let reset = |world: &World| Revocation::User {
        user: key(&sample::app(), "bram"),
        before: world.now().plus(Duration::from_millis(1)),
        until: world.now().plus(HOUR),
    };
    let (world, mut browser) = a_takeover_with(&app, |_| block(&app)).await;
    assert!(is_pending(&world.password(&app, &mut browser, "bram").await));
    assert!(world.code(&app, &mut browser).await.is_none(), "blocked");
    let (world, mut browser) = a_takeover_with(&app, reset).await;
    assert!(is_pending(&world.password(&app, &mut browser, "bram").await));
    assert!(world.code(&app, &mut browser).await.is_none(), "reset");
    for reset_it in [false, true] {
        let then = |world: &World| if reset_it { reset(world) } else { block(&app) };
        let (world, mut browser) = a_takeover_with(&app, then).await;
        assert!(is_pending(&world.password(&app, &mut browser, "bram").await));
        let pending = world.pending(&app, &browser).unwrap();
        let proof = EmergencyProof::for_test(pending.user.clone());
        let done = world.admissions.complete_in_emergency(&app, pending, proof, HOUR, BARE).await.unwrap();
        assert!(matches!(done, Completion::Void), "an emergency code, reset: {reset_it}");
    }

    exempting(&mut app, "bram");
    let (world, mut browser) = a_takeover_with(&app, |_| block(&app)).await;
    assert!(matches!(world.password(&app, &mut browser, "bram").await, FirstFactor::Blocked));
}

/// [I3, I9] A replica that goes blind while the store works lets nobody in: what it would have heard since could be that
/// the session is void.
#[tokio::test]
async fn i3_nobody_begins_where_sight_is_lost_meanwhile() {
    for (looks, admits) in [(0, false), (1, false), (2, true)] {
        let (world, mut app) = (World::new().await, app(HOUR));
        exempting(&mut app, "extern");
        let admissions = || {
            let random: SharedRandom = Arc::new(crate::base::random::SystemRandom);
            let (store, keyring) = (Arc::clone(&world.store), Arc::clone(&world.keyring));
            Admissions::new(store, keyring, Arc::clone(&world.live), NAMES, world.clock.clone(), random)
                .with_lookout(Lookout::clear_for(looks))
        };
        let mut browser = Browser::default();
        world.password(&app, &mut browser, "anna").await;
        let pending = world.pending(&app, &browser).unwrap();
        let done = admissions().complete(&app, pending.clone(), proof(&pending, world.now()), BARE).await;
        assert_eq!(matches!(done, Ok(Completion::Admitted(_))), admits, "a code, {looks} looks");
        assert_eq!(done.is_err(), !admits);
        world.password(&app, &mut browser, "anna").await;
        let pending = world.pending(&app, &browser).unwrap();
        let code = EmergencyProof::for_test(pending.user.clone());
        let done = admissions().complete_in_emergency(&app, pending, code, HOUR, BARE).await;
        assert_eq!(matches!(done, Ok(Completion::Admitted(_))), admits, "an emergency code, {looks} looks");
        assert_eq!(done.is_err(), !admits);
        let first = admissions().first_factor(&app, UserName::canonical("extern"), BARE, "/").await;
        assert_eq!(matches!(first, Ok(FirstFactor::Admitted(_))), admits, "exempt, {looks} looks");
        assert_eq!(first.is_err(), !admits);
    }
}

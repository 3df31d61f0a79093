//! The main job: a legacy app gets a second factor without being touched.

use std::time::Duration;

use reqwest::StatusCode;

use crate::support::{Demo, Sluis, sluis::care_records};

/// [A1 A2 A7 A10 B5 F1 F2 F3] Anna links an authenticator and works; logs out and in and is not asked; Bram logs in on
/// the same browser, and Anna's cookies, and a copy of them saved earlier, are dead.
#[tokio::test]
async fn anna_then_bram_on_one_browser() {
    let app = Demo::start();
    let mut sluis = Sluis::start(&care_records(app.address));
    let mut browser = sluis.browser();

    // A1, F2: nothing of the app without a login.
    let refused = browser.get("/").await;
    assert_eq!(refused.status, StatusCode::SEE_OTHER);
    assert!(refused.location().starts_with("/login"), "{refused:?}");

    // The password alone opens nothing.
    let pending = sluis.password(&mut browser, "anna").await;
    assert_eq!(pending.status, StatusCode::SEE_OTHER, "{pending:?}");
    assert!(pending.location().starts_with("/.sluis/"), "{pending:?}");
    assert!(pending.body.is_empty());
    let still = browser.get("/").await;
    assert_eq!(still.location(), "/.sluis/challenge", "{still:?}");

    // Linking (B5) and the first code let her in.
    let (authenticator, entered) = sluis.enrol(&mut browser, &pending).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
    let records = browser.follow(&entered).await;
    assert_eq!(records.status, StatusCode::OK, "{records:?}");

    // A7: out and in again on this device asks no code.
    browser.visit("/logout").await;
    assert_eq!(browser.get("/").await.status, StatusCode::SEE_OTHER);
    let again = sluis.password(&mut browser, "anna").await;
    assert!(!again.location().contains("/.sluis/"), "{again:?}");
    assert_eq!(browser.get("/").await.status, StatusCode::OK);

    // A10, I3: Bram completes a login on the same browser.
    let saved = browser.clone();
    let bram = sluis.password(&mut browser, "bram").await;
    let (_, entered) = sluis.enrol(&mut browser, &bram).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
    assert_eq!(browser.get("/").await.status, StatusCode::OK);

    let mut copy = saved.clone();
    assert_eq!(copy.get("/").await.status, StatusCode::SEE_OTHER, "a saved copy of Anna's session is dead");
    let anna = sluis.password(&mut copy, "anna").await;
    assert!(anna.location().contains("/.sluis/challenge"), "her saved trust is dead: {anna:?}");

    // …also after a restart.
    sluis.restart();
    let mut copy = saved.clone();
    let mut moved = sluis.browser();
    moved.jar = copy.jar.clone();
    copy = moved;
    assert_eq!(copy.get("/").await.status, StatusCode::SEE_OTHER);
    let anna = sluis.password(&mut copy, "anna").await;
    assert!(anna.location().contains("/.sluis/challenge"), "{anna:?}");

    // She still has her authenticator.
    sluis.clock.advance(Duration::from_secs(60));
    let code = authenticator.code_at(sluis.clock.now_secs());
    let entered = sluis.answer(&mut copy, &code).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
    assert_eq!(copy.get("/").await.status, StatusCode::OK);
}

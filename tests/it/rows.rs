//! Rows of the requirements that no longer story tells.

use std::{os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

use reqwest::StatusCode;

use crate::support::{Authenticator, Browser, Demo, Sluis, sluis::care_records};

async fn post_enrol(browser: &mut Browser, token: &str, code: &str) -> StatusCode {
    browser.post("/.sluis/enrol", &[("token", token), ("name", "My phone"), ("code", code)]).await.status
}

/// [A12 D1 D2 E6 B6] Linking is the employee's own act at the next login: with links to get an app, a QR that is nobody
/// else's, and it counts only once a first code was right.
#[tokio::test]
async fn a12_d2_e6_linking_by_the_employee() {
    let app = Demo::start();
    let mut sluis = Sluis::start(&care_records(app.address));
    let mut anna = sluis.browser();
    sluis.password(&mut anna, "anna").await;
    // D1: forced, whatever page is asked for.
    let forced = anna.visit("/").await;
    assert!(forced.body.contains("otpauth://"), "{forced:?}");
    for store in ["https://apps.apple.com/", "https://play.google.com/"] {
        assert!(forced.body.contains(store), "D1: no link to {store}");
    }
    let annas = Authenticator::from_page(&forced.body);

    // E6: Bram, at the same moment, sees another; and nobody else sees either.
    let mut bram = sluis.browser();
    sluis.password(&mut bram, "bram").await;
    let page = bram.visit("/").await;
    assert_ne!(Authenticator::from_page(&page.body).key(), annas.key());
    assert!(!page.body.contains(annas.key()));
    let mut nobody = sluis.browser();
    assert!(!nobody.visit("/.sluis/enrol").await.body.contains("otpauth://"));

    // D2: wrong codes link nothing, nor does the code of somebody else's QR.
    let now = sluis.clock.now_secs();
    let token = forced.field("token");
    let brams = Authenticator::from_page(&page.body).code_at(now);
    for wrong in ["000000", "", &brams] {
        assert_ne!(post_enrol(&mut anna, &token, wrong).await, StatusCode::SEE_OTHER, "{wrong:?}");
        assert_ne!(anna.get("/").await.status, StatusCode::OK);
    }
    let listed = sluis.cli(&["user", "show", "anna"]);
    assert!(!String::from_utf8_lossy(&listed.stdout).contains("My phone"), "not linked yet");
    let code = annas.code_at(sluis.clock.now_secs());
    assert_eq!(post_enrol(&mut anna, &token, &code).await, StatusCode::SEE_OTHER);
    assert_eq!(anna.get("/").await.status, StatusCode::OK);
    let listed = sluis.cli(&["user", "show", "anna"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("My phone"), "linked");

    // E6: the QR of a linked authenticator is never shown again, not to herself and not to an administrator.
    for place in ["/.sluis/challenge", "/.sluis/enrol", "/"] {
        assert!(!anna.visit(place).await.body.contains(annas.key()), "{place}");
    }
    let said = [&listed.stdout[..], &listed.stderr].concat();
    assert!(!String::from_utf8_lossy(&said).contains(annas.key()));
    assert!(!sluis.process.said().contains(annas.key()), "nor is it in the log");

    // Her password on another browser asks the code, and does not offer to link.
    sluis.clock.advance(Duration::from_secs(60));
    let mut thief = sluis.browser();
    sluis.password(&mut thief, "anna").await;
    assert!(!thief.visit("/.sluis/enrol").await.body.contains("otpauth://"));
}

/// [B9] Two phones that scanned one QR: codes of both are accepted, but one step only once.
#[tokio::test]
async fn b9_two_phones_share_one_qr() {
    let app = Demo::start();
    let mut sluis = Sluis::start(&care_records(app.address));
    let mut browser = sluis.browser();
    let pending = sluis.password(&mut browser, "anna").await;
    let page = browser.visit(pending.location()).await;
    let (hers, colleagues) = (Authenticator::from_page(&page.body), Authenticator::from_page(&page.body));
    let code = hers.code_at(sluis.clock.now_secs());
    assert_eq!(post_enrol(&mut browser, &page.field("token"), &code).await, StatusCode::SEE_OTHER);

    for phone in [&colleagues, &hers, &colleagues] {
        sluis.clock.advance(Duration::from_secs(61 + 30 - sluis.clock.now_secs() % 30));
        let code = phone.code_at(sluis.clock.now_secs());
        let mut first = sluis.browser();
        sluis.password(&mut first, "anna").await;
        let mut second = sluis.browser();
        sluis.password(&mut second, "anna").await;
        assert_eq!(sluis.answer(&mut first, &code).await.status, StatusCode::SEE_OTHER);
        assert_eq!(first.get("/").await.status, StatusCode::OK);
        // I4: the other phone shows the same code; it is spent.
        assert_eq!(hers.code_at(sluis.clock.now_secs()), code);
        let again = sluis.answer(&mut second, &code).await;
        assert_eq!(again.status, StatusCode::UNPROCESSABLE_ENTITY, "{again:?}");
        assert_ne!(second.get("/").await.status, StatusCode::OK);
    }
}

/// [F8] The example file is accepted as it is by the real `sluis check`, and a key of ours that it does not have is none.
#[test]
fn f8_the_example_file_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.yaml");
    let text = std::fs::read_to_string(example).unwrap();
    let check = |name: &str, text: &str| {
        let file = dir.path().join(name);
        std::fs::write(&file, text).unwrap();
        let out = Command::new(env!("CARGO_BIN_EXE_sluis"))
            .arg("check")
            .arg("--config")
            .arg(&file)
            .env("SLUIS_KEY", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
            .output()
            .unwrap();
        let said = [&out.stdout[..], &out.stderr].concat();
        (out.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let (code, said) = check("good.yaml", &text);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("MDEyMzQ1Njc4"), "no secret is printed: {said}");
    let (code, said) = check("bad.yaml", &text.replace("trusted_proxies:", "trusted_proxy:"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("trusted_proxy") && said.contains("bad.yaml:"), "{said}");
}

/// [F7] The embedded store needs nothing beside it: one file for nobody else's eyes, in which no secret can be read,
/// and what was linked is there after a restart.
#[tokio::test]
async fn f7_the_embedded_store_needs_nothing_else() {
    let app = Demo::start();
    let mut sluis = Sluis::start(&care_records(app.address));
    let mut browser = sluis.browser();
    let pending = sluis.password(&mut browser, "anna").await;
    let (phone, entered) = sluis.enrol(&mut browser, &pending).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER);
    let secret = data_encoding::BASE32_NOPAD.decode(phone.key().as_bytes()).unwrap();
    for name in ["sluis.db", "sluis.db-wal", "sluis.db-shm"] {
        let Ok(meta) = std::fs::metadata(sluis.file(name)) else { continue };
        assert_eq!(meta.permissions().mode() & 0o777, 0o600, "{name}");
        let bytes = std::fs::read(sluis.file(name)).unwrap();
        assert!(!bytes.windows(secret.len()).any(|w| w == secret), "{name} has the secret");
        assert!(!bytes.windows(32).any(|w| w == phone.key().as_bytes()), "{name} has the setup key");
    }
    sluis.restart();
    sluis.clock.advance(Duration::from_secs(60));
    let mut elsewhere = sluis.browser();
    sluis.password(&mut elsewhere, "anna").await;
    let code = phone.code_at(sluis.clock.now_secs());
    assert_eq!(sluis.answer(&mut elsewhere, &code).await.status, StatusCode::SEE_OTHER);
}

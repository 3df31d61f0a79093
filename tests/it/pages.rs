//! Our pages in a real Chromium: as people see, read, type and hear them.

use std::time::Duration;

use crate::support::{
    Authenticator, Demo, Sluis,
    chromium::{Chromium, Look},
    sluis::care_records,
};

/// The button that sends a page's own form.
const SUBMIT: &str = "main form button:not([type=button])";

async fn log_in(chromium: &Chromium, sluis: &Sluis, user: &str) {
    chromium.driver.goto(format!("{}/login", sluis.origin())).await.unwrap();
    chromium.fill("input[name=username]", user).await;
    chromium.fill("input[name=password]", &format!("{user}-secret")).await;
    chromium.press(SUBMIT).await;
}

/// [B5 B7 B10 D1] Links an authenticator and logs in again, with a wrong code in between; each page is accessible.
async fn story(look: Look, lang: &str, words: &[&str]) {
    let app = Demo::start();
    let mut sluis = Sluis::start(&care_records(app.address));
    let chromium = Chromium::open(look).await;
    log_in(&chromium, &sluis, "anna").await;
    assert_eq!(chromium.path().await, "/.sluis/enrol");
    let page = chromium.source().await;
    assert!(page.contains(&format!("lang=\"{lang}\"")), "the page is in {lang}");
    assert!(page.contains("<svg"), "B5: the QR code");
    let text = chromium.text().await;
    for word in words {
        assert!(text.contains(word), "{word:?} in:\n{text}");
    }
    if look.scripts {
        assert_eq!(chromium.accessibility_faults().await, Vec::<String>::new());
    }

    // A wrong code first: the same QR stays, and the page says what to check.
    let authenticator = Authenticator::from_page(&page);
    chromium.fill("input[name=code]", "000000").await;
    chromium.press(SUBMIT).await;
    let again = chromium.source().await;
    assert_eq!(Authenticator::from_page(&again).key(), authenticator.key());
    if look.scripts {
        assert_eq!(chromium.accessibility_faults().await, Vec::<String>::new());
    }

    // The setup key as people copy it: in groups, with spaces.
    let code = authenticator.code_at(sluis.clock.now_secs());
    let (first, second) = code.split_at(3);
    chromium.fill("input[name=code]", &format!("{first} {second}")).await;
    chromium.press(SUBMIT).await;
    assert_eq!(chromium.path().await, "/", "she is in: {}", chromium.text().await);
    assert!(chromium.text().await.to_lowercase().contains("anna"));

    // On another profile: the challenge, wrong and right.
    let other = Chromium::open(look).await;
    log_in(&other, &sluis, "anna").await;
    assert_eq!(other.path().await, "/.sluis/challenge");
    let page = other.source().await;
    for attribute in ["autocomplete=\"one-time-code\"", "inputmode=\"numeric\""] {
        assert!(page.contains(attribute), "B10: {attribute}");
    }
    if look.scripts {
        assert_eq!(other.accessibility_faults().await, Vec::<String>::new());
    }
    other.fill("input[name=code]", "111111").await;
    other.press(SUBMIT).await;
    assert_eq!(other.path().await, "/.sluis/challenge", "B7: a clear page, not a dead end");
    if look.scripts {
        assert_eq!(other.accessibility_faults().await, Vec::<String>::new());
    }
    sluis.clock.advance(Duration::from_secs(60));
    let code = authenticator.code_at(sluis.clock.now_secs());
    other.fill("input[name=code]", &code).await;
    other.press(SUBMIT).await;
    assert_eq!(other.path().await, "/");
    other.close().await;
    chromium.close().await;
}

/// [B5 B7 B10]
#[tokio::test]
async fn english_on_a_desktop() {
    story(Look::default(), "en", &["authenticator", "code"]).await;
}

/// [B5 B7 B10]
#[tokio::test]
async fn dutch_on_a_phone() {
    story(
        Look { language: "nl", width: 500, ..Look::default() },
        "nl",
        &["authenticator", "code", "telefoon"],
    )
    .await;
}

/// [B5 B10] Everything works without scripts.
#[tokio::test]
async fn without_scripts() {
    story(Look { scripts: false, ..Look::default() }, "en", &["authenticator"]).await;
}

/// [B5 B8] The QR code on the page is what an authenticator app reads: zbarimg decodes a screenshot of it.
#[tokio::test]
async fn b5_the_qr_code_can_be_scanned() {
    let app = Demo::start();
    let sluis = Sluis::start(&care_records(app.address));
    let chromium = Chromium::open(Look::default()).await;
    log_in(&chromium, &sluis, "anna").await;
    let page = chromium.source().await;
    let authenticator = Authenticator::from_page(&page);
    let picture = sluis.file("qr.png");
    let qr = chromium.driver.find(thirtyfour::By::Css(".qr")).await.unwrap();
    qr.screenshot(&picture).await.unwrap();
    let out =
        std::process::Command::new("zbarimg").args(["--raw", "-q"]).arg(&picture).output().expect("zbarimg");
    let read = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(read.starts_with("otpauth://totp/"), "{read:?}");
    assert!(read.contains(&format!("secret={}", authenticator.key())), "{read}");
    assert!(
        read.contains("issuer=") && read.to_lowercase().contains("anna"),
        "B8: issuer and account: {read}"
    );
    chromium.close().await;
}

/// [B10] The clipboard's text arrives whole when it is pasted, with the spaces that apps put in.
#[tokio::test]
async fn b10_a_pasted_code_is_taken() {
    let app = Demo::start();
    let mut sluis = Sluis::start(&care_records(app.address));
    let mut browser = sluis.browser();
    let pending = sluis.password(&mut browser, "anna").await;
    let (authenticator, _) = sluis.enrol(&mut browser, &pending).await;
    sluis.clock.advance(Duration::from_secs(60));

    let chromium = Chromium::open(Look::default()).await;
    log_in(&chromium, &sluis, "anna").await;
    let code = authenticator.code_at(sluis.clock.now_secs());
    let (first, second) = code.split_at(3);
    chromium
        .driver
        .execute(
            "const f = document.querySelector('input[name=code]'); f.focus();\
             const d = new DataTransfer(); d.setData('text/plain', arguments[0]);\
             const e = new ClipboardEvent('paste', {clipboardData: d, bubbles: true, cancelable: true});\
             if (f.dispatchEvent(e)) { f.value = arguments[0]; f.dispatchEvent(new Event('input', {bubbles: true})); }",
            vec![format!(" {first} {second}\n").into()],
        )
        .await
        .unwrap();
    chromium.press(SUBMIT).await;
    assert_eq!(chromium.path().await, "/", "{}", chromium.text().await);
    chromium.close().await;
}

//! Mail through the real binary, to a mail server that is not ours: what happens to an account is told, and nothing that
//! people do ever waits for it.

use std::{net::SocketAddr, time::Duration};

use reqwest::StatusCode;
use serde_json::{Value, json};
use sluis::{
    model::{Profile, Realm, UserKey, UserName},
    store::documents,
};

use crate::support::{Demo, Sluis, mail::Server, process::PATIENCE, sluis::care_records};

fn with_mail(app: SocketAddr, port: u64, more: &str) -> String {
    format!(
        "mail: {{ smtp: \"smtp://127.0.0.1:{port}\", starttls: none, from: \"Sluis <sluis@example.nl>\", \
         time_zone: Europe/Amsterdam{more} }}\n{}",
        care_records(app)
    )
}

/// What administrators set for a user, as it is kept; the server starts anew on it.
async fn known(sluis: &mut Sluis, name: &str, email: &str, language: &str) {
    sluis.process.kill();
    let config = sluis::config::load(&sluis.file("config.yaml"), &|_| None).unwrap().config;
    let store = sluis::app::open_store(&config).unwrap();
    let user = UserKey { realm: Realm::new("ecd"), name: UserName::canonical(name) };
    let profile =
        Profile { email: Some(email.to_owned()), language: Some(language.to_owned()), ..Profile::default() };
    documents::change_profile(store.as_ref(), &user, |_| (Some(profile.clone()), ())).await.unwrap();
    drop(store);
    // Its threads let go of the file in their own time.
    std::fs::File::open(sluis.file("sluis.db.lock")).unwrap().lock().unwrap();
    sluis.restart();
}

fn subject(came: &Value) -> &str {
    came["headers"]["subject"].as_str().unwrap()
}

async fn until(sluis: &Sluis, series: &str, wanted: f64) {
    let waiting = async {
        while (sluis.metric(series).await - wanted).abs() > 0.1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "{series} is {}, not {wanted}", sluis.metric(series).await);
}

/// A new authenticator, a login on a second device and a reset: each is told in the user's language, with where and when.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_to_an_account_is_told_in_its_language() {
    let (app, server) = (Demo::start(), Server::start(&json!({})));
    let mut sluis = Sluis::start(&with_mail(app.address, server.port, ""));
    known(&mut sluis, "anna", "anna@example.nl", "nl").await;

    let mut browser = sluis.browser();
    let pending = sluis.password(&mut browser, "anna").await;
    let (authenticator, entered) = sluis.enrol(&mut browser, &pending).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
    let came = server.message();
    assert_eq!(subject(&came), "Er is een nieuwe authenticator gekoppeld – Care records");
    assert_eq!((&came["from"], &came["to"]), (&json!("sluis@example.nl"), &json!(["anna@example.nl"])));
    assert_eq!(came["headers"]["auto-submitted"], "auto-generated");
    let text = came["text"].as_str().unwrap();
    for part in ["Account: anna\n", "Vanaf adres: 127.0.0.1\n", "Soort: authenticator-app\n", " UTC+0"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("My phone"), "what she called it is hers");
    assert_eq!(came["defects"], json!([]));

    sluis.clock.advance(Duration::from_secs(60));
    let mut second = sluis.browser();
    for (browser, is_new) in [(&mut browser, false), (&mut second, true)] {
        sluis.password(browser, "anna").await;
        if is_new {
            let code = authenticator.code_at(sluis.clock.now_secs());
            let entered = sluis.answer(browser, &code).await;
            assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
            assert_eq!(subject(&server.message()), "Er is ingelogd op een nieuw apparaat – Care records");
        }
    }

    let token = second.get("/.sluis/me").await.field("token");
    let out = second.post("/.sluis/me", &[("token", &token), ("do", "sign-out-everywhere")]).await;
    assert_eq!(out.status, StatusCode::OK, "{out:?}");
    let came = server.message();
    assert_eq!(subject(&came), "U bent overal uitgelogd – Care records");
    assert!(came["text"].as_str().unwrap().contains("Door: u, toen u was ingelogd\n"), "{came}");

    assert!(sluis.cli(&["user", "reset", "anna", "--yes"]).status.success());
    let came = server.message();
    assert_eq!(subject(&came), "Uw tweede factor is gereset – Care records");
    assert!(came["text"].as_str().unwrap().contains("Door: een beheerder\n"), "{came}");
    until(&sluis, "sluis_mail_total{outcome=\"sent\"}", 4.0).await;
    assert!(!sluis.process.said().contains("anna@example.nl"), "no address in the log");
}

/// An address that a list changes is told at the former one, too; who is new by it is told nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_list_changes_is_told_at_both_addresses() {
    let (app, server) = (Demo::start(), Server::start(&json!({})));
    let mut sluis = Sluis::start(&with_mail(app.address, server.port, ""));
    known(&mut sluis, "anna", "anna@example.nl", "en").await;
    assert!(sluis.cli(&["user", "set", "anna", "--language", "en"]).status.success(), "known by now");
    let list = sluis.file("list.csv");
    std::fs::write(&list, "name,email\nbram,bram@example.nl\nanna,new@example.nl\n").unwrap();
    let out = sluis.cli(&["user", "import", list.to_str().unwrap()]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let mut told: Vec<String> = (0..2).map(|_| server.message()["to"].to_string()).collect();
    told.sort();
    assert_eq!(told, ["[\"anna@example.nl\"]", "[\"new@example.nl\"]"]);
    until(&sluis, "sluis_mail_total{outcome=\"sent\"}", 2.0).await;
}

/// Whoever types wrong codes after a right password is reported to the account's owner, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_codes_are_told_to_the_owner_of_the_account() {
    let (app, server) = (Demo::start(), Server::start(&json!({})));
    let mut sluis = Sluis::start(&with_mail(app.address, server.port, ""));
    known(&mut sluis, "anna", "anna@example.nl", "en").await;
    let mut browser = sluis.browser();
    let pending = sluis.password(&mut browser, "anna").await;
    sluis.enrol(&mut browser, &pending).await;
    assert_eq!(subject(&server.message()), "A new authenticator was linked – Care records");
    let mut other = sluis.browser();
    sluis.password(&mut other, "anna").await;
    for _ in 0..5 {
        sluis.answer(&mut other, "000000").await;
    }
    assert_eq!(subject(&server.message()), "Wrong codes were typed – Care records");
}

/// [I9] No mail server: people log in as ever, and the metric says so. What waits goes out when there is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_mail_server_keeps_nobody_out() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let app = Demo::start();
    let mut sluis = Sluis::start(&with_mail(app.address, dead.into(), ""));
    known(&mut sluis, "anna", "anna@example.nl", "nl").await;
    let mut browser = sluis.browser();
    let pending = sluis.password(&mut browser, "anna").await;
    let (_, entered) = sluis.enrol(&mut browser, &pending).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
    assert_eq!(browser.get("/").await.status, StatusCode::OK);
    until(&sluis, "sluis_mail_failing", 1.0).await;
    assert_eq!(sluis.metric("sluis_mail_queue").await, 1.0);

    let server = Server::start(&json!({}));
    sluis.reload(&format!("127.0.0.1:{dead}"), &format!("127.0.0.1:{}", server.port)).await;
    assert_eq!(subject(&server.message()), "Er is een nieuwe authenticator gekoppeld – Care records");
    until(&sluis, "sluis_mail_total{outcome=\"sent\"}", 1.0).await;
    until(&sluis, "sluis_mail_failing", 0.0).await;
}

/// [F7] The doctor looks whether the server is there and lets Sluis log in; `mail test` sends one message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_and_mail_test_tell_what_is_wrong() {
    let server =
        Server::start(&json!({ "user": "sluis", "password": "right horse", "script": ["ok", "550@rcpt"] }));
    let app = Demo::start();
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    std::fs::write(&password, "right horse\n").unwrap();
    let login = format!(", username: sluis, password: {{ file: \"{}\" }}", password.display());
    let sluis = Sluis::start(&with_mail(app.address, server.port, &login));
    let doctor = || {
        let out = sluis.cli(&["doctor"]);
        (out.status.success(), String::from_utf8(out.stdout).unwrap())
    };
    let (well, said) = doctor();
    assert!(well && said.contains("answers in the clear, and lets Sluis log in"), "{said}");

    let test = |address| {
        let out = sluis.cli(&["mail", "test", address]);
        (out.status.success(), String::from_utf8([out.stdout, out.stderr].concat()).unwrap())
    };
    let (sent, said) = test("bram@example.nl");
    assert!(sent && said.contains("has taken a message to bram@example.nl"), "{said}");
    let came = server.message();
    assert_eq!((subject(&came), &came["to"]), ("Test message", &json!(["bram@example.nl"])));
    let (sent, said) = test("nobody@example.nl");
    assert!(!sent && said.contains("550"), "{said}");
    let (sent, said) = test("a@b.nl, c@d.nl");
    assert!(!sent && said.contains("is no address"), "{said}");

    // Read again for each connection.
    std::fs::write(&password, "wrong horse\n").unwrap();
    let (well, said) = doctor();
    assert!(!well && said.contains("does not let Sluis log in") && !said.contains("horse"), "{said}");
}

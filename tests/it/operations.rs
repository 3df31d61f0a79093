//! What operators do: back up, rotate keys, look after users, and make mistakes.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use reqwest::StatusCode;

use crate::support::{Authenticator, Browser, Demo, Sluis, sluis::care_records};

async fn anna_inside() -> (Demo, Sluis, Browser, Authenticator) {
    let app = Demo::start();
    let sluis = Sluis::start(&care_records(app.address));
    let mut browser = sluis.browser();
    let pending = sluis.password(&mut browser, "anna").await;
    let (authenticator, entered) = sluis.enrol(&mut browser, &pending).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
    (app, sluis, browser, authenticator)
}

/// [F7] A backup made while the server runs is whole: a server on it knows Anna's authenticator.
#[tokio::test]
async fn a_backup_of_a_running_server_is_whole() {
    let (_app, mut sluis, mut browser, authenticator) = anna_inside().await;
    let copy = sluis.file("copy.db");
    let out = sluis.cli(&["backup", copy.to_str().unwrap()]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    let again = sluis.cli(&["backup", copy.to_str().unwrap()]);
    assert!(!again.status.success(), "an existing file is never overwritten");
    assert_eq!(browser.get("/").await.status, StatusCode::OK, "the server went on");

    let (old, new) = (sluis.file("sluis.db"), copy.clone());
    sluis.restart_with(old.to_str().unwrap(), new.to_str().unwrap());
    sluis.clock.advance(Duration::from_secs(60));
    let mut elsewhere = sluis.browser();
    sluis.password(&mut elsewhere, "anna").await;
    let code = authenticator.code_at(sluis.clock.now_secs());
    let entered = sluis.answer(&mut elsewhere, &code).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
}

/// [F7] The store's files are closed to others, and hold no secret in the clear.
#[tokio::test]
async fn the_store_is_closed_and_its_secrets_are_sealed() {
    let (_app, sluis, _browser, authenticator) = anna_inside().await;
    let secret = data_encoding::BASE32.decode(authenticator.key().as_bytes()).unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(sluis.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_string_lossy().starts_with("sluis.db") {
            continue;
        }
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(secret.len()).any(|w| w == secret), "{}", path.display());
        let key = authenticator.key().as_bytes();
        assert!(!bytes.windows(key.len()).any(|w| w == key), "{}", path.display());
        seen += 1;
    }
    assert!(seen > 0);
    // Nor do log and audit.
    let said = format!("{}{:?}", sluis.process.said(), sluis.audit());
    assert!(!said.contains(authenticator.key()) && !said.contains("anna-secret"), "{said}");
}

/// [F3] A new key in front of the old one logs nobody out; without the old one its tokens are worth nothing.
#[tokio::test]
async fn keys_rotate_without_logging_anybody_out() {
    let (_app, mut sluis, browser, _) = anna_inside().await;
    let key = sluis.file("master.key");
    let new = sluis.file("new.key");
    let made = sluis.cli_without_config(&["keys", "generate", "--out", new.to_str().unwrap()]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert_eq!(std::fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o600);
    let one = format!("- file: \"{}\"", key.display());
    let two = format!("- file: \"{}\"\n  - file: \"{}\"", new.display(), key.display());
    sluis.restart_with(&one, &two);
    let at = |sluis: &Sluis| {
        let mut moved = sluis.browser();
        moved.jar = browser.jar.clone();
        moved
    };
    let mut moved = at(&sluis);
    let page = moved.get("/").await;
    assert_eq!(page.status, StatusCode::OK, "{page:?}");
    assert!(page.body.contains("anna"), "her app session too");

    let one = format!("- file: \"{}\"", new.display());
    sluis.restart_with(&two, &one);
    assert_eq!(at(&sluis).get("/").await.status, StatusCode::SEE_OTHER);
}

/// Without a server `sluis user` works on the store itself; two servers never share one.
#[tokio::test]
async fn the_store_has_one_owner() {
    let (_app, mut sluis, _browser, _) = anna_inside().await;
    let mut second = std::process::Command::new(env!("CARGO_BIN_EXE_sluis"));
    second.args(["serve", "--config"]).arg(sluis.file("config.yaml"));
    let out = second.output().unwrap();
    assert!(!out.status.success());
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("in use") || said.contains("another server answers"), "{said}");

    sluis.process.signal("TERM");
    assert!(sluis.process.wait().success());
    let out = sluis.cli(&["user", "list", "--json"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let list: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert!(list.to_string().contains("anna"), "{list}");
    assert!(sluis.cli(&["user", "block", "anna"]).status.success());
    sluis.restart();
    let mut browser = sluis.browser();
    assert_eq!(sluis.password(&mut browser, "anna").await.status, StatusCode::FORBIDDEN);
}

/// A port in use is told at once, and names the address.
#[test]
fn a_port_in_use_is_told_at_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("k"), "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=").unwrap();
    let file = dir.path().join("config.yaml");
    std::fs::write(
        &file,
        format!(
            "listen: {{ http: {{ address: '{address}' }} }}\nkeys: [{{ file: k }}]\nstore: memory\n{}",
            care_records("127.0.0.1:1".parse().unwrap())
        ),
    )
    .unwrap();
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_sluis"))
        .arg("serve")
        .arg("--config")
        .arg(&file)
        .output()
        .unwrap();
    assert!(!out.status.success());
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains(&address.to_string()) && said.contains("another process listens there"), "{said}");
}

/// [F8] The real `check` accepts the shipped example, and `schema` describes it.
#[test]
fn f8_the_example_is_accepted() {
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.yaml");
    let run = |arguments: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_sluis"))
            .args(arguments)
            .env("SLUIS_KEY", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
            .output()
            .unwrap()
    };
    let out = run(&["check", "--config", example.to_str().unwrap()]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let schema: serde_json::Value = serde_json::from_slice(&run(&["schema"]).stdout).unwrap();
    for key in ["listen", "keys", "store", "apps"] {
        assert!(schema["properties"].get(key).is_some(), "{key}");
    }
}

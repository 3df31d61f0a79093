//! The administrators' API through the running binary, as a program sees it.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use regex::Regex;
use reqwest::{Certificate, Client, Method, StatusCode};
use serde_json::json;

use crate::support::{
    Demo, Sluis,
    admin::{ADMIN, Api},
    fleet::{Fleet, on_redis},
    redis::Redis,
    sluis::{Setup, care_records},
};

/// Fast enough for whatever a test does.
const UNBOUND: &str = "insecure_cookies: true\nadmin: { rate: 1000000 }\n";

fn with_admin(app: &Demo) -> Sluis {
    Setup { listener: ADMIN, ..Setup::plain(&format!("{UNBOUND}{}", care_records(app.address))) }.start()
}

/// [B11 B12] A program with a token looks after users: what it does takes effect at once, and is in the audit log under the
/// token's name; the token itself is nowhere.
#[tokio::test]
async fn b12_a_block_through_the_api_ends_a_running_session_at_once() {
    let app = Demo::start();
    let mut sluis = with_admin(&app);
    let mut browser = sluis.browser();
    let pending = sluis.password(&mut browser, "anna").await;
    sluis.enrol(&mut browser, &pending).await;
    assert_eq!(browser.get("/").await.status, StatusCode::OK);

    let made = sluis.cli(&["token", "create", "hr-sync", "--scope", "admin", "--days", "30"]);
    let token = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    assert!(
        Regex::new("^sluis_[a-z2-7]{10}_[a-z2-7]{38}$").unwrap().is_match(&token),
        "{made:?}",
        made = made.stderr
    );
    let reader = Api::of(&mut sluis, &["read"]);
    let api = reader.with(&token);
    assert_eq!(reader.with("").get("/users").await.0, StatusCode::UNAUTHORIZED);

    let (status, page) = reader.get("/users").await;
    assert_eq!((status, &page["users"][0]["name"]), (StatusCode::OK, &json!("anna")));
    let realm = page["users"][0]["realm"].as_str().unwrap().to_owned();
    let anna = format!("/users/{realm}/anna");
    let (_, details) = reader.get(&anna).await;
    assert_eq!(details["authenticators"][0]["name"], "My phone", "{details}");
    assert!(details["authenticators"][0].get("secret").is_none());
    let (_, sessions) = reader.get(&format!("{anna}/sessions")).await;
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 1, "{sessions}");
    assert_eq!(
        reader.post(&format!("{anna}/block"), &json!({ "reason": "left" })).await.0,
        StatusCode::FORBIDDEN
    );
    assert_eq!(browser.get("/").await.status, StatusCode::OK);

    let (status, row) = api.post(&format!("{anna}/block"), &json!({ "reason": "left" })).await;
    assert_eq!((status, &row["state"]), (StatusCode::OK, &json!("blocked")), "{row}");
    assert_ne!(browser.get("/").await.status, StatusCode::OK);
    let (_, sessions) = reader.get(&format!("{anna}/sessions")).await;
    assert_eq!(sessions["sessions"], json!([]));
    let event = sluis.audit().into_iter().find(|event| event["event"] == "user_blocked").unwrap();
    let id = token.split('_').nth(1).unwrap();
    assert_eq!(event["actor"], json!(format!("token:hr-sync:{id}")));
    assert_eq!((&event["reason"], &event["address"]), (&json!("left"), &json!("127.0.0.1")));
    assert_eq!(event["request_id"].as_str().unwrap().len(), 32);

    // I10: a revoked token stays so, and the other one stays worth something.
    let revoked = sluis.cli(&["token", "revoke", id]);
    assert!(revoked.status.success(), "{}", String::from_utf8_lossy(&revoked.stderr));
    assert_eq!(api.get("/users").await.0, StatusCode::UNAUTHORIZED);
    let (reader, api) = (reader.token().to_owned(), api.token().to_owned());
    sluis.restart();
    let reader = Api::at(&mut sluis, &reader);
    assert_eq!(reader.get("/users").await.0, StatusCode::OK);
    assert_eq!(reader.with(&api).get("/users").await.0, StatusCode::UNAUTHORIZED);

    let list = sluis.cli(&["token", "list"]);
    let list = String::from_utf8(list.stdout).unwrap();
    assert!(list.contains("hr-sync") && list.contains("revoked") && list.contains("active"), "{list}");
    let secret = token.rsplit('_').next().unwrap();
    for entry in std::fs::read_dir(sluis.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{}", path.display());
    }
    assert!(!sluis.process.said().contains(secret));
    let events: Vec<_> = sluis.audit().iter().map(|e| e["event"].as_str().unwrap().to_owned()).collect();
    assert!(
        events.iter().any(|e| e == "token_made") && events.iter().any(|e| e == "token_revoked"),
        "{events:?}"
    );
}

/// [B12 I3] With two replicas, a block at one holds at the other before it is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b12_a_block_at_one_replica_holds_at_the_other_before_it_is_answered() {
    let redis = Redis::start();
    let mut fleet = Fleet::start(2, |_| on_redis(redis.address()), "admin: { rate: 1000000 }");
    let api = Api::of(&mut fleet.replicas[0], &["admin"]);
    let other = Api::at(&mut fleet.replicas[1], api.token());
    for user in ["anna", "bram", "eva"] {
        let (mut there, _) = fleet.enrolled(1, user).await;
        let (_, found) = other.get(&format!("/users?search={user}")).await;
        let realm = found["users"][0]["realm"].as_str().unwrap().to_owned();
        let (status, answer) =
            api.post(&format!("/users/{realm}/{user}/block"), &json!({ "reason": "lost laptop" })).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_ne!(there.get("/").await.status, StatusCode::OK, "{user}");
    }
    // The same of a token: it is worth nothing anywhere.
    let id = api.token().split('_').nth(1).unwrap();
    assert_eq!(other.post(&format!("/tokens/{id}/revoke"), &json!({})).await.0, StatusCode::OK);
    assert_eq!(api.get("/users").await.0, StatusCode::UNAUTHORIZED);
}

/// A code that is shown once is answered again to who asks with the same key, at another replica, and stands nowhere in the
/// clear.
#[tokio::test]
async fn an_invitation_is_made_once_for_a_key() {
    let redis = Redis::start();
    let mut fleet = Fleet::start(2, |_| on_redis(redis.address()), "admin: { rate: 1000000 }");
    let api = Api::of(&mut fleet.replicas[0], &["helpdesk"]);
    let other = Api::at(&mut fleet.replicas[1], api.token());
    let target = "/users/ecd/nora/invite";
    let ask = async |api: &Api| {
        api.send(Method::POST, target, Some(&json!({})), &[("Idempotency-Key", "a-1")]).await
    };
    let (status, first) = ask(&api).await;
    assert_eq!(status, StatusCode::OK, "{first}");
    assert_eq!(ask(&other).await, (StatusCode::OK, first.clone()));
    let events = fleet.replicas.iter().flat_map(Sluis::audit);
    assert_eq!(events.filter(|event| event["event"] == "user_invited").count(), 1);
    assert_ne!(api.post(target, &json!({})).await.1["code"], first["code"], "without the key it is another");
}

/// TLS, with a certificate that is replaced while it runs.
#[tokio::test]
async fn administrators_come_by_tls() {
    let app = Demo::start();
    let dir = tempfile::tempdir().unwrap();
    let root = |dir: &Path| {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(dir.join("tls.key"), pair.signing_key.serialize_pem()).unwrap();
        std::fs::write(dir.join("tls.crt"), pair.cert.pem()).unwrap();
        Certificate::from_pem(pair.cert.pem().as_bytes()).unwrap()
    };
    let first = root(dir.path());
    let listener = "http: { address: \"127.0.0.1:0\" }\n  \
                    admin: { address: \"127.0.0.1:0\", certificate_file: tls.crt, key_file: tls.key }";
    let more = format!("{UNBOUND}{}", care_records(app.address));
    let mut sluis = Setup { dir, listener, ..Setup::plain(&more) }.start();
    let api = Api::of(&mut sluis, &["read"]);
    let url = format!("https://localhost:{}/api/v1/store", api.address().port());
    let ask = async |root: &Certificate| {
        let client = Client::builder().tls_certs_only([root.clone()]).no_proxy().build().unwrap();
        client.get(&url).bearer_auth(api.token()).send().await.map(|answer| answer.status())
    };
    assert_eq!(ask(&first).await.unwrap(), StatusCode::OK);
    assert!(api.plain("/store").await.is_err(), "no plain HTTP there");
    let second = root(sluis.dir.path());
    let done = sluis.metric("sluis_reloads_total{outcome=\"done\",what=\"certificate\"}").await;
    sluis.process.signal("HUP");
    while sluis.metric("sluis_reloads_total{outcome=\"done\",what=\"certificate\"}").await <= done {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(ask(&second).await.unwrap(), StatusCode::OK);
    assert!(ask(&first).await.is_err());
    assert!(sluis.metric("sluis_certificate_expiry_seconds{listener=\"admin\"}").await > 0.0);
}

/// What the document says is what is served: whatever a fuzzer makes of it is answered as described, and never by a fault.
/// Once for names that it invents, and once for somebody who is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fuzzer_finds_no_fault_and_no_difference_to_the_document() {
    let app = Demo::start();
    let mut sluis = with_admin(&app);
    let mut browser = sluis.browser();
    let pending = sluis.password(&mut browser, "anna").await;
    sluis.enrol(&mut browser, &pending).await;
    let api = Api::of(&mut sluis, &["admin"]);
    let (_, page) = api.get("/users").await;
    let realm = page["users"][0]["realm"].as_str().unwrap();
    let anna = format!("[parameters]\n\"path.realm\" = \"{realm}\"\n\"path.name\" = \"anna\"\n");
    for (settings, examples) in [(String::new(), 10), (anna, 20)] {
        let (address, token) = (api.address(), api.token().to_owned());
        let ran =
            tokio::task::spawn_blocking(move || fuzz(address, &token, &settings, examples)).await.unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{said}");
        let (_, document) = api.whole("/openapi.json").await;
        let paths = document["paths"].as_object().unwrap();
        let all: usize = paths.values().map(|item| item.as_object().unwrap().len()).sum();
        assert!(said.contains(&format!("Tested: {}", all - 1)), "all but one: {said}");
    }
    // It is still there, and its log has no fault of its own.
    assert_eq!(api.get("/store").await.0, StatusCode::OK);
    assert!(!sluis.process.said().contains("\"level\":\"ERROR\""), "{}", sluis.process.said());
}

fn fuzz(address: SocketAddr, token: &str, settings: &str, examples: usize) -> Output {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.cache/venv/bin/schemathesis");
    assert!(program.exists(), "{} is missing: run scripts/install-test.sh", program.display());
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("schemathesis.toml"), settings).unwrap();
    Command::new(program)
        .args([
            "run",
            &format!("http://{address}/openapi.json"),
            "--url",
            &format!("http://{address}/api/v1"),
        ])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        // It learns ids from lists, and would revoke its own token.
        .args(["--exclude-path", "/tokens/{id}/revoke"])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", &examples.to_string()])
        .args([
            "--checks",
            CHECKS,
            "--suppress-health-check",
            "all",
            "--seed",
            "1",
            "--no-shrink",
            "--no-color",
        ])
        .env("HOME", home.path())
        .current_dir(home.path())
        .output()
        .unwrap()
}

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,unsupported_method,allow_header_conformance,ignored_auth";

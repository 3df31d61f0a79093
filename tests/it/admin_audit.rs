//! What the audit log has of the administrators' API, and what it gives out by it.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    Demo, Sluis,
    admin::{ADMIN, Api},
    sluis::{Setup, care_records},
};

fn with_admin(more: &str) -> Sluis {
    let app = "127.0.0.1:9".parse().unwrap();
    Setup { listener: ADMIN, ..Setup::plain(&format!("insecure_cookies: true\n{more}{}", care_records(app))) }
        .start()
}

fn of<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

async fn calls(sluis: &Sluis, outcome: &str) -> f64 {
    sluis.metric(&format!("sluis_admin_calls_total{{outcome=\"{outcome}\"}}")).await
}

/// Refused calls are in the audit log with token, address and request, and counted; who was let in stands there as well.
#[tokio::test]
async fn refused_calls_are_in_the_audit_log() {
    let mut sluis = with_admin("admin: { rate: 1000000 }\n");
    let read = Api::of(&mut sluis, &["read"]);
    let revoked = Api::of(&mut sluis, &["admin"]);
    let id = |api: &Api| api.token().split('_').nth(1).unwrap().to_owned();
    assert!(sluis.cli(&["token", "revoke", &id(&revoked)]).status.success());
    let made = sluis.cli(&["token", "create", "short", "--scope", "read", "--days", "1"]);
    let expired = read.with(String::from_utf8(made.stdout).unwrap().trim());
    assert_eq!(expired.get("/users").await.0, StatusCode::OK);
    sluis.clock.advance(Duration::from_hours(24));

    assert_eq!(read.get("/users").await.0, StatusCode::OK);
    assert_eq!(read.get("/users").await.0, StatusCode::OK);
    let mut asked = Vec::new();
    for (api, path, status, detail, who) in [
        (read.with(""), "/users", StatusCode::UNAUTHORIZED, "no_token", None),
        (read.with("sluis_nobody"), "/users", StatusCode::UNAUTHORIZED, "unknown_token", None),
        (expired.with(expired.token()), "/users", StatusCode::UNAUTHORIZED, "expired_token", Some("short")),
        (revoked.with(revoked.token()), "/users", StatusCode::UNAUTHORIZED, "revoked_token", Some("test")),
        (read.with(read.token()), "/users/ecd/anna/unlock", StatusCode::FORBIDDEN, "scope", Some("test")),
    ] {
        let (got, problem) =
            if detail == "scope" { api.post(path, &json!({})).await } else { api.get(path).await };
        assert_eq!(got, status, "{detail}: {problem}");
        let actor = who.map(|name| format!("token:{name}:{}", id(&api)));
        asked.push((problem["request_id"].clone(), detail, actor));
        assert_eq!(calls(&sluis, detail).await, 1.0, "{detail}");
    }
    assert_eq!(calls(&sluis, "admitted").await, 4.0, "one of them had not the scope");

    let events = sluis.audit();
    let refused = of(&events, "api_refused");
    assert_eq!(refused.len(), asked.len(), "{refused:?}");
    for (event, (request, detail, actor)) in refused.iter().zip(&asked) {
        assert_eq!((&event["detail"], &event["request_id"]), (&json!(detail), request), "{event}");
        assert_eq!((&event["outcome"], &event["address"]), (&json!("failure"), &json!("127.0.0.1")));
        assert_eq!(event["actor"], json!(actor), "{event}");
    }
    // Once an hour for each token and address: `short` in its day, `test` after it.
    let used = of(&events, "api_used");
    assert_eq!(used.len(), 2, "{used:?}");
    assert_eq!(used[1]["actor"], json!(format!("token:test:{}", id(&read))));
    sluis.clock.advance(Duration::from_hours(1));
    assert_eq!(read.get("/users").await.0, StatusCode::OK);
    assert_eq!(of(&sluis.audit(), "api_used").len(), 3);
    let secret = revoked.token().rsplit('_').next().unwrap();
    assert!(!std::fs::read_to_string(sluis.file("audit.jsonl")).unwrap().contains(secret));
}

/// A flood of refused calls is counted whole, but writes a few lines only; what was left out is told. A token that somebody
/// floods with takes nothing from the others.
#[tokio::test]
async fn a_flood_of_refused_calls_does_not_fill_the_log() {
    let mut sluis = with_admin("admin: { rate: 1000000 }\n");
    let read = Api::of(&mut sluis, &["read"]);
    let nobody = read.with("");
    let before = std::fs::metadata(sluis.file("audit.jsonl")).unwrap().len();
    for _ in 0..300 {
        assert_eq!(nobody.get("/users").await.0, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(calls(&sluis, "no_token").await, 300.0);
    let written = of(&sluis.audit(), "api_refused").len();
    assert!((1..=8).contains(&written), "{written}: the clock is held, so nothing comes free");
    let grown = std::fs::metadata(sluis.file("audit.jsonl")).unwrap().len() - before;
    assert!(grown < 10_000, "{grown}");
    assert_eq!(read.post("/users/ecd/anna/unlock", &json!({})).await.0, StatusCode::FORBIDDEN);
    assert_eq!(of(&sluis.audit(), "api_refused").last().unwrap()["detail"], "scope", "not drowned");
    sluis.clock.advance(Duration::from_mins(1));
    nobody.get("/users").await;
    let events = sluis.audit();
    let last = *of(&events, "api_refused").last().unwrap();
    assert_eq!(last["left_out"], json!(300 - written), "{last}");
}

/// What comes beyond the rate is counted, and not written.
#[tokio::test]
async fn calls_beyond_the_rate_are_counted_only() {
    let mut sluis = with_admin("admin: { rate: 10 }\n");
    let read = Api::of(&mut sluis, &["read"]);
    let nobody = read.with("");
    let mut refused = 0.0;
    for _ in 0..40 {
        refused += f64::from(u8::from(nobody.get("/users").await.0 == StatusCode::TOO_MANY_REQUESTS));
    }
    assert!(refused >= 38.0, "{refused}");
    assert_eq!(calls(&sluis, "too_many").await, refused);
    assert_eq!(calls(&sluis, "no_token").await, 40.0 - refused);
    assert_eq!(of(&sluis.audit(), "api_refused").len() as f64, 40.0 - refused);
}

/// Who gave the list of users out, and how many there were: with and without a server.
#[tokio::test]
async fn an_export_leaves_its_trace() {
    let app = Demo::start();
    let mut sluis = Sluis::start(&care_records(app.address));
    for user in ["anna", "bram", "eva"] {
        assert!(sluis.cli(&["user", "block", user]).status.success());
    }
    assert!(sluis.cli(&["user", "export"]).status.success());
    sluis.process.signal("TERM");
    assert!(sluis.process.wait().success());
    assert!(sluis.cli(&["user", "export"]).status.success());
    let events = sluis.audit();
    let exports = of(&events, "users_exported");
    let details: Vec<_> = exports.iter().map(|event| event["detail"].as_str().unwrap()).collect();
    assert_eq!(details, ["begun", "users=3", "begun", "users=3"]);
    for event in exports {
        assert!(event["actor"].as_str().unwrap().starts_with("cli:"), "{event}");
        assert_eq!(event["outcome"], "success");
    }
    assert!(!sluis.cli(&["user", "export", "--realm", "nowhere"]).status.success());
    assert_eq!(of(&sluis.audit(), "users_exported").len(), 4, "nothing was given");
}

//! What the audit log has of the administrators' API, and what it gives out by it.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    Demo, Sluis,
    admin::{ADMIN, Api},
    process::PATIENCE,
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

/// All events, once they are as they should be: nobody waits for those of calls.
async fn until(sluis: &Sluis, right: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let waiting = async {
        loop {
            let events = sluis.audit();
            if right(&events) {
                return events;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let events = tokio::time::timeout(PATIENCE, waiting).await;
    events.unwrap_or_else(|_| panic!("waited in vain; there are {:?}", sluis.audit()))
}

async fn awaited(sluis: &Sluis, name: &str, count: usize) -> Vec<Value> {
    until(sluis, |events| of(events, name).len() >= count).await
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

    let events = awaited(&sluis, "api_refused", asked.len()).await;
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
    assert_eq!(of(&awaited(&sluis, "api_used", 3).await, "api_used").len(), 3);
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
    assert_eq!(read.post("/users/ecd/anna/unlock", &json!({})).await.0, StatusCode::FORBIDDEN);
    // What is written, is written in order: those of nobody are all there when this one is.
    let is_scope = |event: &Value| event["event"] == "api_refused" && event["detail"] == "scope";
    let events = until(&sluis, |events| events.iter().any(is_scope)).await;
    let written = of(&events, "api_refused").len() - 1;
    assert!((1..=8).contains(&written), "{written}: the clock is held, so nothing comes free");
    let grown = std::fs::metadata(sluis.file("audit.jsonl")).unwrap().len() - before;
    assert!(grown < 10_000, "{grown}");
    sluis.clock.advance(Duration::from_mins(1));
    nobody.get("/users").await;
    let events = awaited(&sluis, "api_refused", written + 2).await;
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
    let written = 40 - refused as usize;
    let events = awaited(&sluis, "api_refused", written).await;
    assert_eq!(of(&events, "api_refused").len(), written);
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

/// A program searches the log page by page, with the filters of the command line, while it is rotated: nothing is missing
/// and nothing comes twice. It needs a scope of its own, and leaves its trace.
#[tokio::test]
async fn the_log_is_searched_through_a_rotation() {
    let mut sluis = with_admin("admin: { rate: 1000000 }\n");
    let admin = Api::of(&mut sluis, &["admin"]);
    let audit = Api::of(&mut sluis, &["audit"]);
    let others = Api::of(&mut sluis, &["read", "helpdesk"]);
    assert_eq!(others.get("/audit").await.0, StatusCode::FORBIDDEN);
    assert_eq!(audit.get("/users").await.0, StatusCode::FORBIDDEN);
    let block = async |user: &str, reason: usize| {
        let body = json!({ "reason": reason.to_string() });
        assert_eq!(admin.post(&format!("/users/ecd/{user}/block"), &body).await.0, StatusCode::OK);
    };
    for n in 0..10 {
        block("anna", n).await;
        block("bram", n).await;
    }
    let wanted = "/audit?user=anna&event=user_blocked,user_reset&outcome=success&limit=3";
    let reasons = |page: &Value| -> Vec<usize> {
        let events = page["events"].as_array().unwrap();
        events.iter().map(|event| event["reason"].as_str().unwrap().parse().unwrap()).collect()
    };
    let (status, mut page) = audit.get(wanted).await;
    assert_eq!((status, reasons(&page)), (StatusCode::OK, vec![9, 8, 7]), "{page}");
    assert!(page["events"][0]["mac"].is_string(), "as it was written");

    let path = sluis.file("audit.jsonl");
    std::fs::rename(&path, sluis.file("audit.jsonl.1")).unwrap();
    sluis.process.signal("HUP");
    while !path.exists() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    block("anna", 10).await;
    let mut rest = Vec::new();
    while let Some(next) = page["next"].as_str().map(str::to_owned) {
        let (status, following) = audit.get(&format!("{wanted}&cursor={next}")).await;
        assert_eq!(status, StatusCode::OK, "{following}");
        rest.extend(reasons(&following));
        page = following;
    }
    assert_eq!(rest, [6, 5, 4, 3, 2, 1, 0]);
    assert_eq!(reasons(&audit.get(wanted).await.1), [10, 9, 8], "over both files");

    // The same as the command line finds.
    for (query, arguments) in [
        ("user=bram", vec!["--user", "bram"]),
        ("event=token_made,user_blocked", vec!["--event", "token_made", "--event", "user_blocked"]),
        ("outcome=failure", vec!["--outcome", "failure"]),
        (
            "address=127.0.0.0/8&event=user_blocked",
            vec!["--address", "127.0.0.0/8", "--event", "user_blocked"],
        ),
        ("until=2020-01-01", vec!["--until", "2020-01-01"]),
        ("event=user_blocked&since=2020-01-01", vec!["--event", "user_blocked", "--since", "2020-01-01"]),
    ] {
        let (status, found) = audit.get(&format!("/audit?{query}&limit=1000")).await;
        assert_eq!(status, StatusCode::OK, "{found}");
        let out = sluis.cli(&[&["audit", "search", "--json"][..], &arguments[..]].concat());
        let out = String::from_utf8(out.stdout).unwrap();
        let lines: Vec<Value> = out.lines().rev().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(found["events"].as_array().unwrap(), &lines, "{query}");
    }
    let who = json!(format!("token:test:{}", audit.token().split('_').nth(1).unwrap()));
    let events = sluis.audit();
    let searched = of(&events, "audit_searched");
    assert!(searched.len() >= 7 && searched.iter().all(|event| event["actor"] == who), "{searched:?}");
}

/// A log that is not a file is not searched here, and the answer says so.
#[tokio::test]
async fn a_log_that_is_no_file_is_not_searched() {
    let mut sluis = with_admin("");
    let token = Api::of(&mut sluis, &["audit"]).token().to_owned();
    let old = format!("audit: {{ file: \"{}\" }}", sluis.file("audit.jsonl").display());
    sluis.restart_with(&old, "audit: stdout");
    let (status, problem) = Api::at(&mut sluis, &token).get("/audit").await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{problem}");
    assert!(problem["title"].as_str().unwrap().contains("no file"), "{problem}");
}

/// [F3] The limit of the API changes by a reload, down and up.
#[tokio::test]
async fn f3_another_limit_of_the_api_counts_at_once() {
    let mut sluis = with_admin("admin: { rate: 1000000 }\n");
    let read = Api::of(&mut sluis, &["read"]);
    let asked = async || {
        let mut let_in = 0;
        for _ in 0..30 {
            let_in += usize::from(read.get("/store").await.0 == StatusCode::OK);
        }
        let_in
    };
    assert_eq!(asked().await, 30);
    sluis.reload("rate: 1000000", "rate: 10").await;
    let few = asked().await;
    assert!(few <= 2, "a quarter of ten: {few}");
    assert_eq!(sluis.metric("sluis_configuration_differs").await, 0.0);
    sluis.reload("rate: 10 ", "rate: 1000000 ").await;
    assert_eq!(asked().await, 30);
}

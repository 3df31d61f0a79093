//! The API in process: every route × every caller, and what holds for all of them.

use std::{collections::BTreeSet, time::Duration};

use axum::{body::Body, response::Response};
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::{
    admin::{listener::Arrival, operations::By},
    audit::Auditor,
    base::{
        clock::{ManualClock, UnixMillis},
        random::SystemRandom,
    },
    config::{App, sample},
    model::{AppId, Profile, Realm, RequestId, Role, UserKey, UserName},
    store::{documents, memory},
};

const NOW: UnixMillis = UnixMillis(1_790_000_000_000);
const DAY: Duration = Duration::from_hours(24);

struct House {
    api: Arc<Api>,
    router: Router,
    clock: Arc<ManualClock>,
    store: SharedStore,
    _dir: tempfile::TempDir,
}

impl House {
    fn new(rate: u32) -> Self {
        let (store, clock) = (memory::open(), ManualClock::at(NOW));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("audit.jsonl"), "").unwrap();
        let auditor = Arc::new(Auditor::discarding());
        let app = App { id: AppId::new("ecd"), realm: Realm::new("zorg"), ..sample::app() };
        let operations = Operations::new(
            store.clone(),
            vec![Arc::new(app)],
            Arc::clone(&auditor),
            clock.clone(),
            Arc::new(SystemRandom),
        );
        let parts = Parts {
            operations: Arc::new(operations),
            live: Arc::default(),
            store: store.clone(),
            clock: clock.clone(),
            auditor,
            metrics: Arc::new(Metrics::new(&[])),
            audit_file: Some(dir.path().join("audit.jsonl")),
        };
        let api = Api::new(parts, &config::Admin { rate });
        let router = crate::admin::router(router(&api), Router::new());
        Self { api, router, clock, store, _dir: dir }
    }

    async fn token(&self, scopes: &[Scope]) -> String {
        let by = By { actor: "cli:root", ..By::default() };
        self.api.operations.make_token("test", scopes, DAY, &by).await.unwrap().token
    }

    async fn send(&self, request: Request<Body>) -> (Response, Value) {
        self.send_from("192.0.2.1", request).await
    }

    async fn send_from(&self, client: &str, mut request: Request<Body>) -> (Response, Value) {
        request.extensions_mut().insert(Arrival {
            client: client.parse().unwrap(),
            request_id: RequestId::new("request-1").unwrap(),
            encrypted: false,
        });
        let (head, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (Response::from_parts(head, Body::empty()), serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn ask(&self, token: &str, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let (answer, body) = self.send(request(token, method, path, body)).await;
        (answer.status().as_u16(), body)
    }
}

fn request(token: &str, method: &str, path: &str, body: Option<&Value>) -> Request<Body> {
    let builder = Request::builder().method(method).uri(format!("/api/v1{path}"));
    let builder =
        if token.is_empty() { builder } else { builder.header("Authorization", format!("Bearer {token}")) };
    match body {
        None => builder.body(Body::empty()).unwrap(),
        Some(json) => {
            builder.header("Content-Type", "application/json").body(Body::from(json.to_string())).unwrap()
        }
    }
}

fn id_of(token: &str) -> &str {
    token.split('_').nth(1).unwrap()
}

fn key(name: &str) -> UserKey {
    UserKey { realm: Realm::new("zorg"), name: UserName::canonical(name) }
}

/// Method, path, a body that is fine, and what a token with `read`, `helpdesk`, `admin`, `audit` gets.
const ROUTES: &[(&str, &str, &str, [u16; 4])] = &[
    ("get", "/users", "", [200, 403, 200, 403]),
    ("get", "/users/{realm}/{name}", "", [200, 403, 200, 403]),
    ("get", "/users/{realm}/{name}/sessions", "", [200, 403, 200, 403]),
    ("get", "/tokens", "", [200, 403, 200, 403]),
    ("get", "/audit", "", [403, 403, 200, 200]),
    ("get", "/store", "", [200, 403, 200, 403]),
    ("post", "/users/{realm}/{name}/reset", r#"{"reason":"x"}"#, [403, 200, 200, 403]),
    ("post", "/users/{realm}/{name}/unlock", "{}", [403, 200, 200, 403]),
    ("post", "/users/{realm}/{name}/sign-out", "{}", [403, 200, 200, 403]),
    ("post", "/users/{realm}/{name}/invite", "{}", [403, 200, 200, 403]),
    ("patch", "/users/{realm}/{name}", r#"{"settings":{"language":"nl"}}"#, [403, 403, 200, 403]),
    ("post", "/users/{realm}/{name}/block", r#"{"reason":"x"}"#, [403, 403, 200, 403]),
    ("post", "/users/{realm}/{name}/unblock", "{}", [403, 403, 200, 403]),
    ("post", "/users/{realm}/{name}/emergency-codes", r#"{"reason":"x"}"#, [403, 403, 200, 403]),
    // There is no such authenticator, and no such token: past the guard is past the guard.
    ("post", "/users/{realm}/{name}/authenticators/{id}/remove", r#"{"reason":"x"}"#, [403, 403, 404, 403]),
    ("post", "/tokens/{id}/revoke", "{}", [403, 403, 404, 403]),
];

/// Each route is for the callers that the table names; a route without a row fails, and so does a row without a route.
#[tokio::test]
async fn every_route_is_for_the_callers_that_the_table_names() {
    let house = House::new(1_000_000);
    let by = By { actor: "cli:root", ..By::default() };
    house.store.note_seen(&key("anna"), false, NOW).await.unwrap();
    let revoked = house.token(&[Scope::Admin]).await;
    house.api.operations.revoke_token(id_of(&revoked), &by).await.unwrap();
    let ended = house.token(&[Scope::Admin]).await;
    house.clock.advance(DAY);
    let mut garbage = house.token(&[Scope::Admin]).await;
    let other = if garbage.as_bytes()[20] == b'a' { "b" } else { "a" };
    garbage.replace_range(20..21, other);
    let never_made = crate::admin::tokens::draw(&SystemRandom).unwrap().token;
    let mut scoped = Vec::new();
    for scope in Scope::ALL {
        scoped.push(house.token(&[scope]).await);
    }

    let (document, _) = house.document().await;
    let mut served = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            served.insert((method.clone(), path.clone()));
        }
    }
    let listed: BTreeSet<_> = ROUTES.iter().map(|(m, p, ..)| ((*m).to_owned(), (*p).to_owned())).collect();
    assert_eq!(served, listed);

    for (method, path, body, expected) in ROUTES {
        let target =
            path.replace("{realm}", "zorg").replace("{name}", "anna").replace("{id}", &"0".repeat(32));
        let body: Option<Value> = serde_json::from_str(body).ok();
        let ask = async |token: &str| house.ask(token, &method.to_uppercase(), &target, body.as_ref()).await;
        for (nobody, token) in [
            ("no token", ""),
            ("garbage", &garbage),
            ("never made", &never_made),
            ("ended", &ended),
            ("revoked", &revoked),
        ] {
            let (status, problem) = ask(token).await;
            assert_eq!(status, 401, "{method} {path}, {nobody}");
            assert_eq!(problem["request_id"], "request-1", "{problem}");
        }
        for ((scope, token), expected) in Scope::ALL.iter().zip(&scoped).zip(expected) {
            let (status, answer) = ask(token).await;
            assert_eq!(status, *expected, "{method} {path}, {scope:?}: {answer}");
        }
        let written = &document["paths"][path][method]["security"][0]["token"][0];
        let needed = Scope::parse(written.as_str().unwrap()).unwrap();
        assert!(expected[Scope::ALL.iter().position(|s| *s == needed).unwrap()] != 403, "{method} {path}");
    }
    let elsewhere = house.ask("", "GET", "/nowhere", None).await;
    assert_eq!(elsewhere.0, 401, "who may not call learns nothing about what is there");
    assert_eq!(house.ask(&scoped[2], "GET", "/nowhere", None).await.0, 404);
    assert_eq!(house.ask(&scoped[2], "PUT", "/users", None).await.0, 405);
}

impl House {
    async fn document(&self) -> (Value, String) {
        let request = Request::builder().uri("/openapi.json").body(Body::empty()).unwrap();
        let (answer, document) = self.send(request).await;
        assert_eq!(answer.status(), 200);
        let text = document.to_string();
        (document, text)
    }
}

#[tokio::test]
async fn the_document_is_openapi_3_1_and_every_operation_tells_how_it_can_fail() {
    let house = House::new(600);
    let (document, text) = house.document().await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            for status in ["200", "401", "403", "429", "503", "default"] {
                assert!(operation["responses"].get(status).is_some(), "{method} {path}: {status}");
            }
            let done = &operation["responses"]["200"]["description"];
            assert!(done.as_str().is_some_and(|text| !text.is_empty()), "{method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|s| !s.is_empty()), "{method} {path}");
        }
    }
    // Every reference leads somewhere.
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}

/// RFC 6750, section 3; RFC 9457.
#[tokio::test]
async fn a_refusal_says_how_to_do_better() {
    let house = House::new(600);
    let (answer, problem) = house.send(request("", "GET", "/users", None)).await;
    assert_eq!(answer.headers()["www-authenticate"], "Bearer realm=\"sluis\"");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!((&problem["status"], problem["hint"].as_str().is_some()), (&json!(401), true));
    let (answer, _) = house.send(request("sluis_x", "GET", "/users", None)).await;
    assert!(answer.headers()["www-authenticate"].to_str().unwrap().contains("invalid_token"));
    let read = house.token(&[Scope::Read]).await;
    let (answer, _) = house.send(request(&read, "POST", "/users/zorg/anna/unlock", None)).await;
    let told = answer.headers()["www-authenticate"].to_str().unwrap().to_owned();
    assert!(told.contains("insufficient_scope") && told.contains("helpdesk"), "{told}");
    let (answer, _) = house.send(request(&read, "DELETE", "/users", None)).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["allow"]),
        (405, &HeaderValue::from_static("GET,HEAD"))
    );
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_changes_nothing() {
    let house = House::new(1_000_000);
    house.store.note_seen(&key("anna"), false, NOW).await.unwrap();
    let admin = house.token(&[Scope::Admin]).await;
    let long = "x".repeat(501);
    for (method, path, body, expected) in [
        ("GET", "/users?limit=0", None, 422),
        ("GET", "/users?limit=1001", None, 422),
        ("GET", "/users?limit=x", None, 422),
        ("GET", "/users?serach=anna", None, 422),
        ("GET", "/users?cursor=anna", None, 422),
        ("GET", "/audit?cursor=anna", None, 422),
        ("GET", "/audit?limit=0", None, 422),
        ("GET", "/audit?outcome=well", None, 422),
        ("GET", "/audit?address=here", None, 422),
        ("GET", "/audit?since=yesterday", None, 422),
        ("GET", "/audit?users=anna", None, 422),
        ("GET", "/users/zorg/nobody", None, 404),
        ("GET", "/users/nowhere/anna", None, 404),
        ("GET", "/users/zorg/%ff", None, 400),
        ("POST", "/users/zorg/anna/reset", None, 422),
        ("POST", "/users/zorg/anna/reset", Some(json!({ "reason": " " })), 422),
        ("POST", "/users/zorg/anna/reset", Some(json!({ "reason": long })), 422),
        ("POST", "/users/zorg/anna/reset", Some(json!({ "reason": "x", "force": true })), 422),
        ("POST", "/users/zorg/anna/reset", Some(json!([])), 422),
        ("POST", "/users/zorg/anna/block", None, 422),
        ("POST", "/users/zorg/%20/block", Some(json!({ "reason": "x" })), 422),
        ("POST", "/users/zorg/anna/authenticators/x/remove", Some(json!({ "reason": "x" })), 404),
        ("POST", "/users/zorg/anna/invite", Some(json!({ "valid_hours": 0 })), 422),
        ("POST", "/users/zorg/anna/invite", Some(json!({ "valid_hours": 721 })), 422),
        ("POST", "/users/zorg/anna/emergency-codes", Some(json!({ "reason": "x", "count": 11 })), 422),
        ("PATCH", "/users/zorg/anna", Some(json!({ "settings": { "email": "no" } })), 422),
        ("PATCH", "/users/zorg/anna", Some(json!({ "settings": { "role": "admin" } })), 422),
        ("PATCH", "/users/zorg/anna", Some(json!({ "settings": { "mail": "a@b.nl" } })), 422),
        ("POST", "/tokens/nothing/revoke", None, 404),
    ] {
        let (status, problem) = house.ask(&admin, method, path, body.as_ref()).await;
        assert_eq!(status, expected, "{method} {path} {body:?}: {problem}");
        assert!(problem["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{problem}");
    }
    let mut wrong = request(&admin, "POST", "/users/zorg/anna/block", Some(&json!({ "reason": "x" })));
    wrong.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    assert_eq!(house.send(wrong).await.0.status(), 415);
    let broken = request(&admin, "POST", "/users/zorg/anna/block", None).map(|_| Body::from("{"));
    let (mut head, body) = broken.into_parts();
    head.headers.insert("content-type", "application/json".parse().unwrap());
    assert_eq!(house.send(Request::from_parts(head, body)).await.0.status(), 400);
    let (_, anna) = house.ask(&admin, "GET", "/users/zorg/anna", None).await;
    assert_eq!((&anna["user"]["state"], &anna["settings"]["role"]), (&json!("not_enrolled"), &Value::Null));
}

/// Whoever resets or invites an administrator could take their place.
#[tokio::test]
async fn the_helpdesk_does_nothing_to_administrators() {
    let house = House::new(600);
    house.store.note_seen(&key("root"), false, NOW).await.unwrap();
    let profile = Profile { role: Some(Role::Auditor), ..Profile::default() };
    documents::change_profile(house.store.as_ref(), &key("root"), |_| (Some(profile.clone()), ()))
        .await
        .unwrap();
    let (helpdesk, admin) =
        (house.token(&[Scope::Helpdesk, Scope::Read]).await, house.token(&[Scope::Admin]).await);
    for (_, path, body, _) in
        ROUTES.iter().filter(|(_, _, _, expected)| expected[0] == 403 && expected[1] == 200)
    {
        let target = path.replace("{realm}", "zorg").replace("{name}", "root");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(house.ask(&helpdesk, "POST", &target, Some(&body)).await.0, 403, "{path}");
        assert_eq!(house.ask(&admin, "POST", &target, Some(&body)).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn a_list_is_paged_by_cursors_that_only_lead_on() {
    let house = House::new(600);
    for name in ["anna", "bram/2", "hanna", "sam"] {
        house.store.note_seen(&key(name), false, NOW).await.unwrap();
    }
    let read = house.token(&[Scope::Read]).await;
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let (_, page) = house.ask(&read, "GET", &format!("/users?limit=2{cursor}"), None).await;
        names
            .extend(page["users"].as_array().unwrap().iter().map(|u| u["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(names, ["anna", "bram/2", "hanna", "sam"]);
    let (_, found) = house.ask(&read, "GET", "/users?search=nna", None).await;
    assert_eq!((found["users"].as_array().unwrap().len(), &found["next"]), (2, &Value::Null));
    assert_eq!(house.ask(&read, "GET", "/users/zorg/bram%2F2", None).await.0, 200);
}

#[tokio::test]
async fn the_same_key_acts_once_and_is_answered_the_same() {
    let house = House::new(1_000_000);
    let (admin, other) = (house.token(&[Scope::Admin]).await, house.token(&[Scope::Admin]).await);
    let ask = async |token: &str, key: &str, path: &str, body: &Value| {
        let mut request = request(token, "POST", path, Some(body));
        request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        let (answer, body) = house.send(request).await;
        (answer.status().as_u16(), answer.headers().contains_key("idempotency-replayed"), body)
    };
    let path = "/users/zorg/anna/invite";
    let (status, replayed, first) = ask(&admin, "k1", path, &json!({})).await;
    assert_eq!((status, replayed), (200, false));
    let again = ask(&admin, "k1", path, &json!({})).await;
    assert_eq!(again, (200, true, first.clone()));
    assert_eq!(ask(&admin, "k1", path, &json!({ "valid_hours": 1 })).await.0, 422, "another body");
    assert_eq!(ask(&admin, "k1", "/users/zorg/bram/invite", &json!({})).await.0, 422, "another user");
    let elsewhere = ask(&other, "k1", path, &json!({})).await;
    assert!(!elsewhere.1 && elsewhere.2["code"] != first["code"], "a key is its token's own");
    // What went wrong for good is answered the same as well, and names the request of now.
    assert!(!ask(&admin, "k2", "/users/zorg/nobody/unlock", &json!({})).await.1);
    let (status, replayed, problem) = ask(&admin, "k2", "/users/zorg/nobody/unlock", &json!({})).await;
    assert_eq!((status, replayed, &problem["request_id"]), (404, true, &json!("request-1")));
    assert_eq!(ask(&admin, "k é", path, &json!({})).await.0, 400);
    house.clock.advance(DAY - Duration::from_secs(1));
    let fresh = house.token(&[Scope::Admin]).await;
    assert!(ask(&admin, "k1", path, &json!({})).await.1, "for a day");
    house.clock.advance(Duration::from_secs(1));
    assert_eq!(ask(&admin, "k1", path, &json!({})).await.0, 401, "and then the token of this test has ended");
    assert!(!ask(&fresh, "k1", path, &json!({})).await.1);
    // Sixteen at once: one acts, the others hear of it or are told to wait.
    let nothing = json!({});
    let racers = (0..16).map(|_| ask(&fresh, "race", path, &nothing));
    let answers = futures_util::future::join_all(racers).await;
    assert_eq!(answers.iter().filter(|(status, replayed, _)| *status == 200 && !replayed).count(), 1);
    assert!(answers.iter().all(|(status, ..)| [200, 409].contains(status)), "{answers:?}");
}

#[tokio::test]
async fn too_many_requests_are_told_when_to_come_back() {
    let house = House::new(60);
    let token = house.token(&[Scope::Admin]).await;
    let ask = async |client: &str, token: &str| {
        let (answer, _) = house.send_from(client, request(token, "GET", "/store", None)).await;
        let wait = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        (answer.status().as_u16(), wait)
    };
    for _ in 0..15 {
        assert_eq!(ask("192.0.2.1", "").await.0, 401);
    }
    assert_eq!(
        ask("192.0.2.1", &token).await,
        (429, Some("2".to_owned())),
        "an address, before its token is looked at"
    );
    for n in 0..15 {
        assert_eq!(ask(&format!("198.51.100.{n}"), &token).await.0, 200);
    }
    assert_eq!(ask("198.51.100.99", &token).await.0, 429, "a token, from anywhere");
    let other = house.token(&[Scope::Read]).await;
    assert_eq!(ask("198.51.100.99", &other).await.0, 200);
    house.clock.advance(Duration::from_secs(2));
    assert_eq!(ask("192.0.2.1", &token).await.0, 200);
}

/// At most one write an hour, and none that brings a revoked token back.
#[tokio::test]
async fn the_last_use_is_noted_coarsely() {
    let house = House::new(600);
    let token = house.token(&[Scope::Admin]).await;
    let used = async || house.api.operations.tokens().await.unwrap().remove(0).last_used_at;
    assert_eq!(used().await, None);
    assert_eq!(house.ask(&token, "GET", "/store", None).await.0, 200);
    let first = used().await;
    assert!(first.is_some());
    house.clock.advance(Duration::from_mins(59));
    house.ask(&token, "GET", "/store", None).await;
    assert_eq!(used().await, first);
    house.clock.advance(Duration::from_mins(1));
    house.ask(&token, "GET", "/store", None).await;
    assert_ne!(used().await, first);
    assert_eq!(house.ask(&token, "POST", &format!("/tokens/{}/revoke", id_of(&token)), None).await.0, 200);
    assert_eq!(house.ask(&token, "GET", "/store", None).await.0, 401);
}

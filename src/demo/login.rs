//! The app's own login: a name, a password, a cookie.

use std::sync::Arc;

use askama::Template;
use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{
    cookie, page, redirect,
    state::{COOKIE, Records, Shared, USERS},
};

#[derive(Template)]
#[template(path = "demo/login.html")]
struct LoginPage<'a> {
    name: &'a str,
    wrong: bool,
    users: &'a [(&'a str, &'a str)],
}

/// Who is logged in.
pub fn user(records: &Records, headers: &HeaderMap) -> Option<Arc<str>> {
    cookie(headers, COOKIE).and_then(|id| records.session(id)).flatten()
}

/// `GET /login`
pub async fn form(State(records): State<Shared>, headers: HeaderMap) -> Response {
    let mut answer = page(&LoginPage { name: "", wrong: false, users: USERS });
    let known = cookie(&headers, COOKIE).is_some_and(|id| records.session(id).is_some());
    if records.options.keep_cookie && !known {
        start(&records, None, &mut answer);
    }
    answer
}

/// `POST /login`, urlencoded or multipart: 302 to `/` with a cookie, or 200 with an error.
pub async fn submit(State(records): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let fields = fields(&headers, body).await;
    let field = |name: &str| fields.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str());
    let name = field("username");
    match records.user_of(name, field("password")) {
        Some(user) => welcome(&records, &headers, user, redirect("/")),
        None => page(&LoginPage { name, wrong: true, users: USERS }),
    }
}

/// `POST /api/login` with `{"account": {"name": …}, "password": …}`: 200 with a cookie, or 401.
pub async fn submit_json(
    State(records): State<Shared>,
    headers: HeaderMap,
    Json(body): Json<serde_json::Value>,
) -> Response {
    let text = |pointer: &str| body.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default();
    match records.user_of(text("/account/name"), text("/password")) {
        Some(user) => {
            let answer = Json(serde_json::json!({ "ok": true, "user": &*user })).into_response();
            welcome(&records, &headers, user, answer)
        }
        None => (StatusCode::UNAUTHORIZED, Json(serde_json::json!({ "ok": false }))).into_response(),
    }
}

/// `GET` and `POST /logout`
pub async fn logout(State(records): State<Shared>, headers: HeaderMap) -> Response {
    if let Some(id) = cookie(&headers, COOKIE) {
        records.end_session(id);
    }
    let mut answer = redirect("/login");
    set_cookie(&mut answer, &format!("{COOKIE}=; Path=/; Max-Age=0; HttpOnly"));
    answer
}

/// `GET /whoami`: `{"user": "anna"}`, or 401.
pub async fn whoami(State(records): State<Shared>, headers: HeaderMap) -> Response {
    match user(&records, &headers) {
        Some(user) => Json(serde_json::json!({ "user": &*user })).into_response(),
        None => (StatusCode::UNAUTHORIZED, Json(serde_json::json!({ "user": null }))).into_response(),
    }
}

fn welcome(records: &Records, headers: &HeaderMap, user: Arc<str>, mut answer: Response) -> Response {
    let kept = records.options.keep_cookie
        && cookie(headers, COOKIE).is_some_and(|id| records.give_session(id, user.clone()));
    if !kept {
        start(records, Some(user), &mut answer);
    }
    answer
}

fn start(records: &Records, user: Option<Arc<str>>, answer: &mut Response) {
    match records.start_session(user) {
        Some(id) => set_cookie(answer, &format!("{COOKIE}={id}; Path=/; HttpOnly")),
        None => *answer = StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn set_cookie(answer: &mut Response, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        answer.headers_mut().append(header::SET_COOKIE, value);
    }
}

async fn fields(headers: &HeaderMap, body: Bytes) -> Vec<(String, String)> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let Ok(boundary) = multer::parse_boundary(content_type) else {
        return form_urlencoded::parse(&body).into_owned().collect();
    };
    let mut form = multer::Multipart::new(whole(body), boundary);
    let mut fields = Vec::new();
    while let Ok(Some(field)) = form.next_field().await {
        let name = field.name().unwrap_or_default().to_owned();
        fields.push((name, field.text().await.unwrap_or_default()));
    }
    fields
}

/// A body that is there already, as the stream that multer reads.
pub fn whole(body: Bytes) -> axum::body::BodyDataStream {
    axum::body::Body::from(body).into_data_stream()
}

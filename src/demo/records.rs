//! Clients, their records, notes and documents. Every page needs the app's own session.

use askama::Template;
use axum::{
    Json,
    body::Bytes,
    extract::{Form, Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{
    login::{user, whole},
    page, redirect,
    state::{Client, Document, Note, Shared},
};

#[derive(Template)]
#[template(path = "demo/clients.html")]
struct ListPage<'a> {
    user: &'a str,
    clients: &'a [Client],
}

#[derive(Template)]
#[template(path = "demo/client.html")]
struct RecordPage<'a> {
    user: &'a str,
    client: &'a Client,
}

/// `GET /`
pub async fn list(State(records): State<Shared>, headers: HeaderMap) -> Response {
    match user(&records, &headers) {
        Some(user) => page(&ListPage { user: &user, clients: &records.clients() }),
        None => redirect("/login"),
    }
}

/// `GET /clients/{id}`; also sets a cookie that scripts may read (`LAATSTE`).
pub async fn show(State(records): State<Shared>, Path(id): Path<usize>, headers: HeaderMap) -> Response {
    let Some(user) = user(&records, &headers) else { return redirect("/login") };
    let Some(client) = records.client(id) else { return StatusCode::NOT_FOUND.into_response() };
    let mut answer = page(&RecordPage { user: &user, client: &client });
    if let Ok(last) = HeaderValue::from_str(&format!("LAATSTE={id}; Path=/")) {
        answer.headers_mut().append(header::SET_COOKIE, last);
    }
    answer
}

/// What the note form sends.
#[derive(serde::Deserialize)]
pub struct NewNote {
    note: String,
}

/// `POST /clients/{id}/notes`
pub async fn add_note(
    State(records): State<Shared>,
    Path(id): Path<usize>,
    headers: HeaderMap,
    Form(new): Form<NewNote>,
) -> Response {
    let Some(user) = user(&records, &headers) else { return redirect("/login") };
    let note = Note { at: records.now(), by: user.to_string(), text: new.note };
    if records.change(id, |client| client.notes.insert(0, note)) {
        redirect(&format!("/clients/{id}"))
    } else {
        StatusCode::NOT_FOUND.into_response()
    }
}

/// `POST /clients/{id}/documents`, multipart with a file in `document`.
pub async fn add_document(
    State(records): State<Shared>,
    Path(id): Path<usize>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if user(&records, &headers).is_none() {
        return redirect("/login");
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let Ok(boundary) = multer::parse_boundary(content_type) else {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    };
    let mut form = multer::Multipart::new(whole(body), boundary);
    while let Ok(Some(field)) = form.next_field().await {
        let name = field.file_name().unwrap_or_default().to_owned();
        if field.name() == Some("document")
            && !name.is_empty()
            && let Ok(bytes) = field.bytes().await
        {
            records.change(id, |client| client.documents.push(Document { name, bytes }));
        }
    }
    redirect(&format!("/clients/{id}"))
}

/// `GET /clients/{id}/documents/{position}`
pub async fn document(
    State(records): State<Shared>,
    Path((id, position)): Path<(usize, usize)>,
    headers: HeaderMap,
) -> Response {
    if user(&records, &headers).is_none() {
        return redirect("/login");
    }
    let found = records.client(id).and_then(|client| client.documents.get(position).cloned());
    let Some(document) = found else { return StatusCode::NOT_FOUND.into_response() };
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, "attachment"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, document.bytes).into_response()
}

/// `GET /api/clients`: JSON, 401 without a session.
pub async fn json(State(records): State<Shared>, headers: HeaderMap) -> Response {
    if user(&records, &headers).is_none() {
        return (StatusCode::UNAUTHORIZED, Json(serde_json::json!({ "error": "log in first" })))
            .into_response();
    }
    let clients = records.clients();
    let rows =
        clients.iter().map(|c| serde_json::json!({ "id": c.id, "name": c.name, "notes": c.notes.len() }));
    Json(rows.collect::<Vec<_>>()).into_response()
}

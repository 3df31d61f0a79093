//! What reached the app, and answers made to order: for tests and the curious.

use std::time::Duration;

use askama::Template;
use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Query, RawQuery, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};

use super::{login::user, page, state::Shared};

#[derive(Template)]
#[template(path = "demo/headers.html")]
struct HeadersPage<'a> {
    user: &'a str,
    headers: &'a [(String, String)],
}

fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// `GET /headers`: a page for browsers, else a line for each; `[[name, value], …]` for `?json`.
pub async fn headers(
    State(records): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let pairs = pairs(&headers);
    if query.as_deref() == Some("json") {
        return Json(pairs).into_response();
    }
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !accept.contains("text/html") {
        let lines: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        return lines.concat().into_response();
    }
    page(&HeadersPage { user: &user(&records, &headers).unwrap_or_default(), headers: &pairs })
}

/// `/echo…`, any method: the request as it came, as JSON.
pub async fn echo(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    Json(serde_json::json!({
        "method": parts.method.as_str(),
        "target": parts.uri.path_and_query().map_or("", |t| t.as_str()),
        "version": format!("{:?}", parts.version),
        "headers": pairs(&parts.headers),
        "body": String::from_utf8_lossy(&body),
    }))
    .into_response()
}

/// `GET /cookies?set=…&set=…`: each `set` becomes one `Set-Cookie` line as it is.
pub async fn cookies(RawQuery(query): RawQuery) -> Response {
    let mut answer = "set\n".into_response();
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if name == "set"
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            answer.headers_mut().append(header::SET_COOKIE, value);
        }
    }
    answer
}

/// `POST /upload`: reads the body as it comes and answers its size and SHA-256.
pub async fn upload(body: Body) -> Response {
    let (mut body, mut hash, mut size) = (body, Sha256::new(), 0_u64);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return StatusCode::BAD_REQUEST.into_response() };
        if let Ok(data) = frame.into_data() {
            size = size.saturating_add(data.len() as u64);
            hash.update(&data);
        }
    }
    let sha256 = data_encoding::HEXLOWER.encode(&hash.finalize());
    Json(serde_json::json!({ "bytes": size, "sha256": sha256 })).into_response()
}

/// How much.
#[derive(serde::Deserialize)]
pub struct Amount {
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    ms: u64,
}

/// `GET /download?bytes=N`: N bytes, made as they go, with `Content-Length`.
pub async fn download(Query(amount): Query<Amount>) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/octet-stream")];
    (headers, Body::new(Zeros { left: amount.bytes })).into_response()
}

/// `GET /slow?ms=N`: answers after a while.
pub async fn slow(Query(amount): Query<Amount>) -> &'static str {
    tokio::time::sleep(Duration::from_millis(amount.ms.min(120_000))).await;
    "at last\n"
}

struct Zeros {
    left: u64,
}

static PIECE: [u8; 64 * 1024] = [0; 64 * 1024];

impl hyper::body::Body for Zeros {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        let size = usize::try_from(self.left).unwrap_or(usize::MAX).min(PIECE.len());
        self.left = self.left.saturating_sub(size as u64);
        let piece = PIECE.get(..size).filter(|piece| !piece.is_empty());
        std::task::Poll::Ready(piece.map(|piece| Ok(hyper::body::Frame::data(Bytes::from_static(piece)))))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.left)
    }
}

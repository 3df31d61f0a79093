//! Who asks twice with one `Idempotency-Key` is answered twice and acted for once.
//!
//! The answer is kept for a day, for that token and key, in the store and so for every replica; documents are sealed at
//! rest, which a code that is shown once needs. Order: the key is taken, the act is done, its answer is kept. A replica that
//! dies in between leaves a key that is taken: after [`ABANDONED_AFTER`] whoever asks again acts again. Nothing is kept of
//! what may go better the next time (429, 5xx), nor of what only says that the caller may not.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use data_encoding::HEXLOWER;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Api;
use crate::{
    admin::{
        problem::{self, Kind, Problem},
        tokens::Caller,
    },
    base::clock::UnixMillis,
    store::{
        Collection, StoreResult,
        documents::{self, New},
    },
};

/// Acts once for each key; without a key, each time.
pub(super) async fn once(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let mut keys = request.headers().get_all(&KEY).iter();
    let key = match (keys.next(), keys.next()) {
        (None, _) => return next.run(request).await,
        (Some(only), None) => only.as_bytes(),
        _ => return bad_key(),
    };
    if !(1..=LONGEST_KEY).contains(&key.len()) || !key.iter().all(u8::is_ascii_graphic) {
        return bad_key();
    }
    let Some(caller) = request.extensions().get::<Caller>() else {
        return Problem::new(Kind::Internal).into_response();
    };
    let name = format!("{}/{}", caller.id(), fingerprint(&[key]));
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MOST_BYTES).await else {
        return Problem::new(Kind::TooLarge).into_response();
    };
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    let asked = fingerprint(&[head.method.as_str().as_bytes(), target.as_bytes(), &body]);
    let begun = api.clock.now();
    match begin(&api, &name, &asked, begun).await {
        Ok(Found::Nothing) => {}
        Ok(Found::Answer(kept)) => return kept.replayed(),
        Ok(Found::OtherRequest) => {
            let title = "this Idempotency-Key was used for another request";
            return Problem::of(StatusCode::UNPROCESSABLE_ENTITY, title, "take a new key for each request")
                .into_response();
        }
        Ok(Found::Running) => {
            let title = "the request with this Idempotency-Key has not been answered yet";
            return Problem::of(StatusCode::CONFLICT, title, "ask again in a while, with the same key")
                .into_response();
        }
        Err(error) => return Problem::unavailable(&error).into_response(),
    }
    let answer = next.run(Request::from_parts(head, Body::from(body))).await;
    let (head, body) = answer.into_parts();
    let Ok(body) = to_bytes(Body::new(body), usize::MAX).await else {
        return Problem::new(Kind::Internal).into_response();
    };
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kept = is_final(head.status).then(|| Kept {
        status: head.status.as_u16(),
        content_type: kind.to_owned(),
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    if let Err(error) = end(&api, &name, &asked, begun, kept).await {
        // It was done, and whoever did it is to know.
        tracing::warn!(%error, "an answer could not be kept for its Idempotency-Key");
    }
    Response::from_parts(head, Body::from(body))
}

/// What is kept under a key.
#[derive(Clone, Serialize, Deserialize)]
struct Receipt {
    /// Of which request.
    asked: String,
    /// When it began.
    begun: UnixMillis,
    /// `None` until it was answered.
    answer: Option<Kept>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    status: u16,
    content_type: String,
    body: String,
}

impl Kept {
    fn replayed(self) -> Response {
        let told =
            (self.content_type == problem::CONTENT_TYPE).then(|| serde_json::from_str::<Problem>(&self.body));
        let mut answer = match told {
            // It names the request of now.
            Some(Ok(problem)) => problem.into_response(),
            _ => {
                let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let mut answer = (status, self.body).into_response();
                if let Ok(kind) = HeaderValue::from_str(&self.content_type) {
                    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
                }
                answer
            }
        };
        answer.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        answer
    }
}

enum Found {
    /// The key is taken for this request from now on.
    Nothing,
    /// It was answered.
    Answer(Kept),
    /// It is being done.
    Running,
    /// The key belongs to something else.
    OtherRequest,
}

async fn begin(api: &Api, name: &str, asked: &str, now: UnixMillis) -> StoreResult<Found> {
    documents::change(api.store.as_ref(), Collection::Receipts, name, |kept: Option<Receipt>| {
        let receipt = Receipt { asked: asked.to_owned(), begun: now, answer: None };
        let taken = Some(New::Kept { document: receipt, until: Some(now.plus(KEPT_FOR)) });
        match kept {
            Some(kept) if now.since(kept.begun) >= KEPT_FOR => (taken, Found::Nothing),
            Some(kept) if kept.asked != asked => (None, Found::OtherRequest),
            Some(Receipt { answer: Some(answer), .. }) => (None, Found::Answer(answer)),
            Some(kept) if now.since(kept.begun) < ABANDONED_AFTER => (None, Found::Running),
            Some(_) | None => (taken, Found::Nothing),
        }
    })
    .await
}

/// Keeps the answer, or lets the key go; unless somebody else has taken it since.
async fn end(api: &Api, name: &str, asked: &str, begun: UnixMillis, answer: Option<Kept>) -> StoreResult<()> {
    documents::change(api.store.as_ref(), Collection::Receipts, name, |kept: Option<Receipt>| {
        let is_ours = kept
            .as_ref()
            .is_some_and(|kept| kept.asked == asked && kept.begun == begun && kept.answer.is_none());
        let new = match &answer {
            _ if !is_ours => None,
            None => Some(New::Nothing),
            Some(_) => Some(New::Kept {
                document: Receipt { asked: asked.to_owned(), begun, answer: answer.clone() },
                until: Some(begun.plus(KEPT_FOR)),
            }),
        };
        (new, ())
    })
    .await
}

/// Whether the same request could only be answered in the same way.
fn is_final(status: StatusCode) -> bool {
    let may_not = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS];
    !status.is_server_error() && !may_not.contains(&status)
}

fn bad_key() -> Response {
    let title = "the Idempotency-Key cannot be one";
    Problem::of(StatusCode::BAD_REQUEST, title, "send one, of 1 to 128 visible ASCII characters")
        .into_response()
}

/// A name that no other parts have.
fn fingerprint(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    HEXLOWER.encode(&hash.finalize())
}

/// As long as a client may ask again.
const KEPT_FOR: Duration = Duration::from_hours(24);
/// No act takes so long: whoever began it is gone.
const ABANDONED_AFTER: Duration = Duration::from_mins(5);
const LONGEST_KEY: usize = 128;
const MOST_BYTES: usize = 64 * 1024;
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

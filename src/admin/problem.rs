//! What an administrator or a program is told when something did not come about: RFC 9457, with a hint.

use std::time::Duration;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{listener::Arrival, operations::Failure, tokens::Scope};
use crate::store::StoreError;

/// Why a request was refused before anything was done. A closed list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Not HTTP as it should be.
    BadRequest,
    /// No token.
    NoToken,
    /// A token that is worth nothing: which of the reasons it is, the caller is not told.
    BadToken,
    /// A token without this scope.
    Scope(Scope),
    /// Nothing is served there.
    NotFound,
    /// The body came in too slowly.
    TooSlow,
    /// The body is too large.
    TooLarge,
    /// A fault of this server.
    Internal,
}

impl Kind {
    /// Status, title, what to do next.
    const fn row(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadRequest => (StatusCode::BAD_REQUEST, "the request cannot be read", "see /openapi.json"),
            Self::NoToken => {
                (StatusCode::UNAUTHORIZED, "a token is needed", "send `Authorization: Bearer sluis_…`, once")
            }
            Self::BadToken => (
                StatusCode::UNAUTHORIZED,
                "this token is worth nothing",
                "it is unknown, has ended or was revoked: `sluis token list` shows; `sluis token create` makes another",
            ),
            Self::Scope(_) => (
                StatusCode::FORBIDDEN,
                "this token may not do that",
                "`WWW-Authenticate` names the scope that is needed; `sluis token create` makes another token",
            ),
            Self::NotFound => (StatusCode::NOT_FOUND, "nothing is served here", "see /openapi.json"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "the body came in too slowly", "try again"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large", "send less at a time"),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "a fault of Sluis itself",
                "the server's log has more under this request_id",
            ),
        }
    }

    /// RFC 6750, section 3.
    fn challenge(self) -> Option<String> {
        match self {
            Self::NoToken => Some("Bearer realm=\"sluis\"".to_owned()),
            Self::BadToken => Some("Bearer realm=\"sluis\", error=\"invalid_token\"".to_owned()),
            Self::Scope(scope) => Some(format!(
                "Bearer realm=\"sluis\", error=\"insufficient_scope\", scope=\"{}\"",
                scope.name()
            )),
            _ => None,
        }
    }
}

/// A problem document (RFC 9457, section 3). `type` is left out, which means `about:blank`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What happened, in one line.
    pub title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What to do next.
    pub hint: String,
    /// Under which the server's log and the audit log have more.
    pub request_id: String,
    #[serde(skip)]
    challenge: Option<String>,
    #[serde(skip)]
    retry_after: Option<Duration>,
}

impl Problem {
    /// A refusal.
    pub fn new(kind: Kind) -> Self {
        let (status, title, hint) = kind.row();
        Self { challenge: kind.challenge(), ..Self::of(status, title, hint) }
    }

    /// Any problem.
    pub fn of(status: StatusCode, title: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            status: status.as_u16(),
            hint: hint.into(),
            request_id: String::new(),
            challenge: None,
            retry_after: None,
        }
    }

    /// What was sent can be read, but cannot be.
    pub fn unfit(title: impl Into<String>) -> Self {
        Self::of(StatusCode::UNPROCESSABLE_ENTITY, title, "nothing was changed; see /openapi.json")
    }

    /// Too many requests: so long is to be waited.
    pub fn too_many(wait: Duration) -> Self {
        let problem = Self::of(
            StatusCode::TOO_MANY_REQUESTS,
            "too many requests",
            "wait as long as `Retry-After` says",
        );
        Self { retry_after: Some(wait), ..problem }
    }

    /// The store failed; how is for the log.
    pub fn unavailable(error: &StoreError) -> Self {
        tracing::error!(%error, "the store failed an administrator");
        let hint =
            "whether it was done is not known; try again when the store is back, the server's log says more";
        let problem = Self::of(StatusCode::SERVICE_UNAVAILABLE, "the store does not answer", hint);
        Self { retry_after: Some(RETRY_AFTER), ..problem }
    }

    /// In this request.
    #[must_use]
    pub fn at(self, arrival: &Arrival) -> Self {
        Self { request_id: arrival.request_id.to_string(), ..self }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let status = match &failure {
            Failure::NoRealm(_) | Failure::NoUser { .. } | Failure::NoAuthenticator | Failure::NoToken => {
                StatusCode::NOT_FOUND
            }
            Failure::OwnAccount | Failure::Administrator => StatusCode::FORBIDDEN,
            Failure::WhichRealm(_)
            | Failure::BadName(..)
            | Failure::BadList(_)
            | Failure::BadSetting { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Failure::Audit(_) | Failure::Abandoned => StatusCode::SERVICE_UNAVAILABLE,
            Failure::Store(error) => return Self::unavailable(error),
        };
        let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER);
        Self { retry_after, ..Self::of(status, failure.to_string(), failure.hint()) }
    }
}

/// It stands in the extensions of the answer as well, for whoever knows the request.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = (status, Json(&self)).into_response();
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(value) = self.challenge.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
            headers.insert(header::WWW_AUTHENTICATE, value);
        }
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().saturating_add(1)));
        }
        answer.extensions_mut().insert(self);
        answer
    }
}

/// The media type of problem documents.
pub const CONTENT_TYPE: &str = "application/problem+json";
/// When something may work again.
const RETRY_AFTER: Duration = Duration::from_secs(4);

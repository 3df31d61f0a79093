//! What comes in: bodies, paths and queries, read strictly, and who acts.

use axum::{
    extract::{FromRequest, FromRequestParts, Path, Query, Request, rejection::PathRejection},
    http::request::Parts,
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::error::Category;
use utoipa::{IntoParams, ToSchema};

use crate::admin::{
    listener::Arrival,
    operations::By,
    problem::{Kind, Problem},
    tokens::Caller,
};

/// A JSON body; none at all is `{}`.
pub(super) struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let is_json = is_json(request.headers());
        let body = Bytes::from_request(request, state).await.map_err(|_| Problem::new(Kind::BadRequest))?;
        if body.is_empty() {
            return read(b"{}");
        }
        if !is_json {
            let title = "the body is not said to be JSON";
            return Err(Problem::of(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                title,
                "send Content-Type: application/json",
            ));
        }
        read(&body)
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<Json<T>, Problem> {
    serde_json::from_slice(body).map(Json).map_err(|error| match error.classify() {
        Category::Data => Problem::unfit(error.to_string()),
        _ => Problem::of(
            StatusCode::BAD_REQUEST,
            format!("the body is not JSON: {error}"),
            "send a JSON object",
        ),
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(kind)) = headers.get(header::CONTENT_TYPE).map(|value| value.to_str()) else { return false };
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind == "application/merge-patch+json"
}

/// A query without unknown keys.
pub(super) struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let asked = Query::from_request_parts(parts, state).await;
        asked.map(|Query(asked)| Self(asked)).map_err(|error| Problem::unfit(error.body_text()))
    }
}

/// The user that a path names.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct User {
    /// Name space, as listed.
    pub realm: String,
    /// Name, as listed or as typed at the login.
    pub name: String,
}

impl<S: Send + Sync> FromRequestParts<S> for User {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        in_path(parts, state).await
    }
}

/// An authenticator of a user.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OneAuthenticator {
    /// Name space, as listed.
    pub realm: String,
    /// Name, as listed or as typed at the login.
    pub name: String,
    /// The authenticator's id, as shown.
    pub id: String,
}

impl<S: Send + Sync> FromRequestParts<S> for OneAuthenticator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        in_path(parts, state).await
    }
}

/// A token that a path names.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OneToken {
    /// Its id, as listed.
    pub id: String,
}

impl<S: Send + Sync> FromRequestParts<S> for OneToken {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        in_path(parts, state).await
    }
}

async fn in_path<T: DeserializeOwned + Send, S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
) -> Result<T, Problem> {
    let read: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, state).await;
    read.map(|Path(read)| read).map_err(|_| Problem::new(Kind::BadRequest))
}

/// A reason, if there is one.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Why {
    /// Why, for the audit log: at most 500 characters.
    #[schema(max_length = 500)]
    pub reason: Option<String>,
}

/// A reason, without which this is not done.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Because {
    /// Why, for the audit log: 1 to 500 characters.
    #[schema(min_length = 1, max_length = 500)]
    pub reason: String,
}

/// On whose word something is done.
pub(super) struct Actor {
    caller: Caller,
    arrival: Arrival,
}

impl Actor {
    /// The same for the acts, with a reason that may be missing.
    pub fn by<'a>(&'a self, reason: Option<&'a str>) -> Result<By<'a>, Problem> {
        let reason = reason.map(str::trim).filter(|reason| !reason.is_empty());
        if reason.is_some_and(|reason| reason.chars().count() > LONGEST_REASON) {
            return Err(Problem::unfit("reason: at most 500 characters"));
        }
        Ok(By {
            actor: self.caller.actor(),
            own: None,
            is_helpdesk: !self.caller.is_admin(),
            reason,
            client: Some(self.arrival.client),
            request_id: Some(&self.arrival.request_id),
        })
    }

    /// The same, with a reason that must be there.
    pub fn because<'a>(&'a self, reason: Option<&'a str>) -> Result<By<'a>, Problem> {
        let by = self.by(reason)?;
        if by.reason.is_none() {
            return Err(Problem::unfit("reason: must be given for this, for the audit log"));
        }
        Ok(by)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Actor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let (caller, arrival) = (parts.extensions.get::<Caller>(), parts.extensions.get::<Arrival>());
        match (caller, arrival) {
            (Some(caller), Some(arrival)) => Ok(Self { caller: caller.clone(), arrival: arrival.clone() }),
            _ => Err(Problem::new(Kind::Internal)),
        }
    }
}

const LONGEST_REASON: usize = 500;

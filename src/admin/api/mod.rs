//! The administrators' API, for programs: REST and JSON under `/api/v1`, described by `/openapi.json`.
//!
//! Every request has a token that is looked up in the store, and each group of routes one scope that the token must have:
//! a route without a group cannot be written. Acts are those of [`Operations`], as on the command line. Answers are
//! never cached; what goes wrong is a problem document (RFC 9457) with a hint.

mod acts;
mod audit;
mod body;
mod document;
mod guard;
mod limiter;
mod receipts;
mod register;
mod things;
mod users;

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use axum::{Router, middleware, routing::get};
use http::{HeaderValue, StatusCode, header};
use tokio::sync::Semaphore;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{limiter::Limiter, register::Register};
use super::{
    operations::Operations,
    problem::{Kind, Problem},
    tokens::Scope,
};
use crate::{
    audit::Auditor, base::clock::SharedClock, config, metrics::Metrics, session::live::Live,
    store::SharedStore,
};

/// What the API works with.
pub struct Api {
    operations: Arc<Operations>,
    live: Arc<Live>,
    store: SharedStore,
    clock: SharedClock,
    register: Register,
    audit_file: Option<PathBuf>,
    searches: Semaphore,
    of_addresses: Limiter<IpAddr>,
    of_tokens: Limiter<String>,
}

/// What an [`Api`] is made of.
pub struct Parts {
    /// What administrators do.
    pub operations: Arc<Operations>,
    /// Who is logged in.
    pub live: Arc<Live>,
    /// Where receipts are kept.
    pub store: SharedStore,
    /// Now.
    pub clock: SharedClock,
    /// Who called, and who was refused.
    pub auditor: Arc<Auditor>,
    /// And how many.
    pub metrics: Arc<Metrics>,
    /// The audit log, where it is a file.
    pub audit_file: Option<PathBuf>,
}

impl Api {
    /// Puts it together.
    pub fn new(parts: Parts, settings: &config::Admin) -> Arc<Self> {
        let Parts { operations, live, store, clock, auditor, metrics, audit_file } = parts;
        Arc::new(Self {
            operations,
            live,
            store,
            register: Register::new(auditor, metrics, Arc::clone(&clock)),
            clock,
            audit_file,
            searches: Semaphore::new(SEARCHES),
            of_addresses: Limiter::new(settings.rate),
            of_tokens: Limiter::new(settings.rate),
        })
    }

    /// The configuration says this from now on.
    pub fn set(&self, settings: &config::Admin) {
        self.of_addresses.set(settings.rate);
        self.of_tokens.set(settings.rate);
    }
}

/// Everything under `/api/v1`, and `/openapi.json`.
pub fn router(api: &Arc<Api>) -> Router {
    let (routes, document) = routes(api).split_for_parts();
    let routes = routes
        .fallback(async || Problem::new(Kind::NotFound))
        .method_not_allowed_fallback(async || {
            Problem::of(
                StatusCode::METHOD_NOT_ALLOWED,
                "not with this method",
                "see `Allow`, or /openapi.json",
            )
        })
        .layer(middleware::from_fn_with_state(Arc::clone(api), guard::admit))
        .with_state(Arc::clone(api));
    let document: bytes::Bytes = document::finished(&document).into();
    let show = move || {
        let document = document.clone();
        async move { ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], document) }
    };
    Router::new().nest(PREFIX, routes).route("/openapi.json", get(show))
}

/// Each route stands in the group of the scope that it needs.
fn routes(api: &Arc<Api>) -> OpenApiRouter<Arc<Api>> {
    let read = OpenApiRouter::new()
        .routes(routes!(users::list))
        .routes(routes!(users::show))
        .routes(routes!(users::sessions))
        .routes(routes!(things::tokens))
        .routes(routes!(things::store));
    let helpdesk = OpenApiRouter::new()
        .routes(routes!(acts::reset))
        .routes(routes!(acts::unlock))
        .routes(routes!(acts::sign_out))
        .routes(routes!(acts::invite));
    let admin = OpenApiRouter::new()
        .routes(routes!(acts::change))
        .routes(routes!(acts::block))
        .routes(routes!(acts::unblock))
        .routes(routes!(acts::emergency_codes))
        .routes(routes!(acts::remove_authenticator))
        .routes(routes!(things::revoke_token));
    let audit = OpenApiRouter::new().routes(routes!(audit::find));
    let writes = |group| once(group, api);
    OpenApiRouter::with_openapi(document::head())
        .merge(needs(Scope::Read, read, api))
        .merge(needs(Scope::Helpdesk, writes(helpdesk), api))
        .merge(needs(Scope::Admin, writes(admin), api))
        .merge(needs(Scope::Audit, audit, api))
}

/// These routes are for tokens with this scope.
fn needs(scope: Scope, mut group: OpenApiRouter<Arc<Api>>, api: &Arc<Api>) -> OpenApiRouter<Arc<Api>> {
    document::needs(group.get_openapi_mut(), scope);
    group.layer(middleware::from_fn_with_state((Arc::clone(api), scope), guard::scoped))
}

/// These routes act once for each `Idempotency-Key`.
fn once(group: OpenApiRouter<Arc<Api>>, api: &Arc<Api>) -> OpenApiRouter<Arc<Api>> {
    group.layer(middleware::from_fn_with_state(Arc::clone(api), receipts::once))
}

/// Searches of the audit log at a time.
const SEARCHES: usize = 2;
/// Where it is served.
const PREFIX: &str = "/api/v1";

#[cfg(test)]
mod tests;

//! Our own pages and endpoints: an axum `Router`, http in and http out. Knows no pingora and no socket.
//!
//! It asks what cookies prove (`session::standing`), has codes checked (`factor`) and logins completed
//! (`session::admission`), and says to a person what came of it. It decides nothing about passing: a page
//! never makes a session by itself, and never shows anything of the app.
//!
//! What every answer here promises: state changes by same-origin POST with a form token only; nothing is cached,
//! framed, or loaded from elsewhere; redirects stay on the host; every page works without JavaScript.
//!
//! | path below the prefix | GET | POST |
//! |---|---|---|
//! | `challenge` | asks for a code | checks it, completes the login |
//! | `enrol` | shows QR and setup key | checks the first code, keeps the authenticator, completes the login |
//! | `invitation` | asks for an activation code | checks it, goes on to `enrol` |
//! | `emergency` | asks for an emergency code and a reason | checks them, completes the login for a while |
//! | `me` | own authenticators, sessions, language | changes them |
//! | `me/remove` | which authenticator is to go | removes it, ends every session |
//! | `recovery` | how many recovery codes are left | makes new ones, shows them once |
//! | `logout` | asks | ends the session |
//! | `login` | to the app's login page | – |
//! | `static/{file}` | style, script, icon | – |
//!
//! `?lang=nl` on any of the pages chooses the language and remembers it.

mod admit;
mod assets;
mod challenge;
mod emergency;
mod enrol;
mod errors;
pub(crate) mod forms;
mod invite;
mod logout;
pub(crate) mod me;
mod methods;
mod recovery;
pub(crate) mod reply;
pub(crate) mod view;
pub(crate) mod visitor;

use std::{net::IpAddr, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::StatusCode,
    middleware::{self, Next},
    response::Response,
    routing::get,
};

pub use errors::{Refusal, error_page, problem};

use crate::{
    audit::Auditor,
    base::{clock::SharedClock, keyring::Keyring},
    config::App,
    deliver::notices::Notices,
    factor::{Factors, recovery::Recovery, totp::Totp},
    metrics::Metrics,
    model::RequestId,
    session::{admission::Admissions, cookie::Names, standing::Standings},
    store::SharedStore,
};
use reply::Fault;
use visitor::Visitor;

/// What the proxy knows of a request to our pages; it stands in the request's extensions.
#[derive(Clone)]
pub struct Visit {
    /// The app on whose host the page is.
    pub app: Arc<App>,
    /// The client's address.
    pub client: IpAddr,
    /// The request's id.
    pub request_id: RequestId,
    /// The host as the browser knows it, with port if it has one: for `Origin`.
    pub authority: String,
}

/// What the pages work with.
#[derive(Clone)]
pub struct Pages {
    /// Where our pages live (`/.sluis`).
    pub prefix: Arc<str>,
    /// What cookies prove.
    pub standings: Arc<Standings>,
    /// Begins and ends sessions.
    pub admissions: Arc<Admissions>,
    /// What is kept.
    pub store: SharedStore,
    /// Every way to prove a second factor.
    pub factors: Arc<Factors>,
    /// Links authenticator apps.
    pub totp: Arc<Totp>,
    /// Makes recovery codes.
    pub recovery: Arc<Recovery>,
    /// Cookie names.
    pub names: Names,
    /// For form tokens.
    pub keyring: Arc<Keyring>,
    /// The time.
    pub clock: SharedClock,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Events.
    pub auditor: Arc<Auditor>,
    /// Tells users what happens to their accounts.
    pub notices: Arc<Notices>,
}

/// The router. It answers whole paths (`/.sluis/challenge`); whatever else it is asked gets a 404 page.
/// Every request must carry a [`Visit`].
pub fn router(pages: Pages) -> Router {
    let prefix = pages.prefix.clone();
    let own = Router::new()
        .route("/challenge", get(challenge::show).post(challenge::answer))
        .route("/enrol", get(enrol::show).post(enrol::confirm))
        .route("/invitation", get(invite::show).post(invite::answer))
        .route("/emergency", get(emergency::show).post(emergency::answer))
        .route("/me", get(me::show).post(me::act))
        .route("/me/remove", get(me::ask_remove).post(me::remove))
        .route("/recovery", get(recovery::show).post(recovery::make))
        .route("/logout", get(logout::ask).post(logout::end))
        .route("/login", get(logout::to_login))
        .route("/static/{file}", get(assets::serve))
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_this_method);
    Router::new()
        .nest(&prefix, own)
        .fallback(nothing_here)
        .layer(middleware::from_fn(no_service_worker))
        .with_state(Arc::new(pages))
}

/// Nothing of ours is a service worker: a browser that asks for one (Service Workers, section 4.2) does so on behalf of a
/// script of the app that would like to stand between a user and our pages.
async fn no_service_worker(request: Request, next: Next) -> Response {
    if request.headers().contains_key("service-worker") {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::FORBIDDEN;
        reply::harden(response.headers_mut(), false);
        return response;
    }
    next.run(request).await
}

async fn nothing_here(visitor: Visitor) -> Response {
    visitor.reply(Err(Fault::Status(StatusCode::NOT_FOUND)))
}

async fn not_this_method(visitor: Visitor) -> Response {
    visitor.reply(Err(Fault::Status(StatusCode::METHOD_NOT_ALLOWED)))
}

#[cfg(test)]
mod tests;

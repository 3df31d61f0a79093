//! Our own pages and endpoints: an axum `Router`, http in and http out. Knows no pingora and no socket.

use std::{net::IpAddr, sync::Arc};

use crate::{
    audit::Auditor,
    base::{clock::SharedClock, keyring::Keyring},
    config::App,
    factor::totp::Totp,
    metrics::Metrics,
    model::RequestId,
    session::{admission::Admissions, cookie::Names, standing::Standings},
};

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
    /// Codes.
    pub totp: Arc<Totp>,
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
}

/// The router, with paths below the prefix.
pub fn router(_pages: Pages) -> axum::Router {
    todo!()
}

/// A page that says why a request was not answered (403, 404, 413, 502, 503, 504 …), in the visitor's language.
/// Never an internal message.
pub fn error_page(
    _status: http::StatusCode,
    _request_id: &RequestId,
    _accept_language: Option<&str>,
    _prefix: &str,
) -> http::Response<String> {
    todo!()
}

//! What a request's cookies prove, now. On the way of a verified request: no I/O, no lock, hardly an allocation.

use std::sync::{Arc, OnceLock};

use http::{HeaderName, HeaderValue};

use super::{
    live::Live,
    token::{Pending, Session, Trust},
};
use crate::{
    base::{clock::UnixMillis, keyring::Keyring},
    config::App,
    model::{DeviceId, OwnCookies},
};

/// A session that is alive: signed, of this app, not expired, not idle too long, not revoked.
/// Made only here; kept in a small cache keyed by the cookie's whole bytes.
pub struct LiveSession {
    session: Session,
    /// Room for the headers that tell the app about this session: rendered once, by whoever sends them.
    pub rendered: OnceLock<Vec<(HeaderName, HeaderValue)>>,
}

impl LiveSession {
    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }
}

/// Reads standings.
pub struct Standings {
    _keyring: Arc<Keyring>,
    _live: Arc<Live>,
}

impl Standings {
    /// Puts it together.
    pub fn new(keyring: Arc<Keyring>, live: Arc<Live>) -> Self {
        Self { _keyring: keyring, _live: live }
    }

    /// The live session, if there is one for this app.
    pub fn session(
        &self,
        _app: &App,
        _cookies: &OwnCookies<'_>,
        _now: UnixMillis,
    ) -> Option<Arc<LiveSession>> {
        todo!()
    }

    /// The device, if the browser has a genuine device cookie.
    pub fn device(&self, _cookies: &OwnCookies<'_>) -> Option<DeviceId> {
        todo!()
    }

    /// The pending login of this app and device, if it is not older than 10 minutes, its user not
    /// blocked, and nothing has revoked it.
    pub fn pending(&self, _app: &App, _cookies: &OwnCookies<'_>, _now: UnixMillis) -> Option<Pending> {
        todo!()
    }

    /// The trust on this device that nothing has revoked; its age is judged by whoever knows the policy.
    pub fn trust(&self, _cookies: &OwnCookies<'_>, _now: UnixMillis) -> Option<Trust> {
        todo!()
    }
}

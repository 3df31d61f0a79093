//! The app's own cookies, sealed to the session they belong to (I5; design, section 5).
//!
//! On the way down every `HttpOnly` cookie of the app, and every one named in the configuration, becomes a box
//! bound to app, cookie name and scope. On the way up a box is opened and put back; one that does not open, and a
//! plain value under a sealed name, is dropped: the app sees an anonymous user.

use std::sync::Arc;

use http::HeaderValue;

use crate::{
    base::keyring::Keyring,
    config::App,
    model::{DeviceId, SessionId},
    session::cookie::Names,
    store::{SharedStore, StoreError},
};

/// To what a box is bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Before login.
    Device(DeviceId),
    /// A session, or the pending login that will become it.
    Session(SessionId),
}

/// One cookie of the request that was opened, with what is needed to seal it again.
pub struct Opened {
    /// Its name.
    pub name: String,
    /// The app's value.
    pub value: crate::base::secret::SecretBytes,
    /// The attributes with which the app set it (`; Path=/; HttpOnly…`).
    pub attributes: String,
}

/// What one `Set-Cookie` of the app becomes.
pub enum Down {
    /// Goes on as it is (not sealed, or a deletion).
    Plain,
    /// Replaced by this.
    Sealed(HeaderValue),
    /// Removed: it has a name of ours, or cannot be sealed safely. The text is for the log.
    Dropped(&'static str),
}

/// Seals and opens the app's cookies.
pub struct UpstreamCookies {
    _keyring: Arc<Keyring>,
    _store: SharedStore,
    _names: Names,
}

impl UpstreamCookies {
    /// Puts it together; loads the names that are known to be sealed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn load(keyring: Arc<Keyring>, store: SharedStore, names: Names) -> Result<Self, StoreError> {
        Ok(Self { _keyring: keyring, _store: store, _names: names })
    }

    /// Writes the `Cookie` header for upstream into `out` (empty = send none): ours removed, boxes of one of
    /// `scopes` opened, other boxes and plain values under sealed names dropped, the rest as it came.
    pub fn up<'a>(
        &self,
        _app: &App,
        _lines: impl Iterator<Item = &'a [u8]>,
        _scopes: &[Scope],
        _out: &mut Vec<u8>,
    ) {
        todo!()
    }

    /// The boxes of the request that open under one of `scopes`: what a login must seal again when the app keeps
    /// its cookie value.
    pub fn opened<'a>(
        &self,
        _app: &App,
        _lines: impl Iterator<Item = &'a [u8]>,
        _scopes: &[Scope],
    ) -> Vec<Opened> {
        todo!()
    }

    /// Whether this `Set-Cookie` of the app needs a scope to be sealed to.
    pub fn needs_seal(&self, _app: &App, _set_cookie: &HeaderValue) -> bool {
        todo!()
    }

    /// Seals one `Set-Cookie` of the app to `scope`. A name that is sealed for the first time is kept in the store
    /// before this answers.
    ///
    /// # Errors
    /// When the store fails; the answer must then not go out.
    pub async fn down(
        &self,
        _app: &App,
        _set_cookie: &HeaderValue,
        _scope: Scope,
    ) -> Result<Down, StoreError> {
        todo!()
    }

    /// Seals an opened cookie again, to another scope: a `Set-Cookie` value.
    ///
    /// # Errors
    /// When no nonce can be drawn.
    pub fn reseal(&self, _app: &App, _opened: &Opened, _scope: Scope) -> Result<HeaderValue, StoreError> {
        todo!()
    }
}

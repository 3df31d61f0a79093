//! Our cookies on the wire: their names, attributes, and how they are found in a request.

use http::HeaderValue;

use crate::model::OwnCookies;

/// The kinds of our cookies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Device id, 400 days.
    Device,
    /// Trust, until proof + N.
    Trust,
    /// Pending login, 10 minutes.
    Login,
    /// Session, until the browser closes.
    Session,
}

/// A `Cookie` header that cannot be read in one way only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a cookie of ours is there twice")]
pub struct Ambiguous;

/// The names in use: `__Host-sluis-…`, or `sluis-…` with insecure cookies.
#[derive(Clone, Debug)]
pub struct Names {
    insecure: bool,
}

impl Names {
    /// The names for this configuration.
    pub const fn new(insecure: bool) -> Self {
        Self { insecure }
    }

    /// The full name of one.
    pub const fn name(&self, kind: Kind) -> &'static str {
        match (self.insecure, kind) {
            (false, Kind::Device) => "__Host-sluis-device",
            (false, Kind::Trust) => "__Host-sluis-trust",
            (false, Kind::Login) => "__Host-sluis-login",
            (false, Kind::Session) => "__Host-sluis-session",
            (true, Kind::Device) => "sluis-device",
            (true, Kind::Trust) => "sluis-trust",
            (true, Kind::Login) => "sluis-login",
            (true, Kind::Session) => "sluis-session",
        }
    }

    /// Whether a cookie name is ours, in either form: such a one never goes upstream and is never taken from there.
    pub fn is_ours(&self, _name: &[u8]) -> bool {
        todo!()
    }

    /// Finds our cookies in all `Cookie` lines of a request (HTTP/2 sends several). Byte-exact names.
    ///
    /// # Errors
    /// When one of ours is there twice.
    pub fn find<'a>(&self, _lines: impl Iterator<Item = &'a [u8]>) -> Result<OwnCookies<'a>, Ambiguous> {
        todo!()
    }

    /// A `Set-Cookie` value. `max_age_secs` `None` = until the browser closes.
    pub fn set(&self, _kind: Kind, _value: &str, _max_age_secs: Option<u64>) -> HeaderValue {
        todo!()
    }

    /// A `Set-Cookie` value that removes one.
    pub fn clear(&self, _kind: Kind) -> HeaderValue {
        todo!()
    }
}

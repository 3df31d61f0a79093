//! Who somebody is, and what they have enrolled.

use std::{fmt, sync::Arc};

use super::{AuthenticatorId, Method, Realm};
use crate::base::{clock::UnixMillis, secret::SecretBytes};

/// The canonical name of a user: what is left after the app's normalisation, made in one place
/// (`identity::name`). Look-up, lock-out, tokens, logs and "is it somebody else?" all use this form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct UserName(Arc<str>);

impl UserName {
    /// Longest name that is accepted, in bytes.
    pub const MAX_BYTES: usize = 200;

    /// Wraps a name that is canonical already: from `identity::name`, a token or the store.
    pub fn canonical(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// A user inside a realm: the key of everything that is kept about a person.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UserKey {
    /// The name space.
    pub realm: Realm,
    /// The canonical name in it.
    pub name: UserName,
}

impl fmt::Display for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.realm, self.name)
    }
}

/// A confirmed authenticator. (A pending one is never kept: see `factor::totp`.)
#[derive(Clone)]
pub struct Authenticator {
    /// Its id.
    pub id: AuthenticatorId,
    /// How it proves.
    pub method: Method,
    /// The name the user gave it ("My phone").
    pub name: String,
    /// When its enrolment was confirmed.
    pub confirmed_at: UnixMillis,
    /// When it last proved something.
    pub last_used_at: Option<UnixMillis>,
    /// What it shares with the user; for TOTP the key bytes.
    pub secret: SecretBytes,
    /// The last accepted step of a time-based authenticator (I4).
    pub last_step: u64,
    /// How many steps the user's clock runs ahead (+) or behind (-), as learned from accepted codes.
    pub drift_steps: i8,
}

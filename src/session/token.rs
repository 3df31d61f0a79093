//! Signed tokens: a versioned binary body and HMAC-SHA-256, base64url without padding; the kind of
//! cookie is the signature's domain (design, section 6).

use crate::{
    base::{clock::UnixMillis, keyring::Keyring},
    model::{AppId, DeviceId, Epoch, LoginId, MethodSet, SessionId, UserKey},
};

/// "User U proved a second factor on device D at time T by these methods."
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trust {
    /// U
    pub user: UserKey,
    /// D
    pub device: DeviceId,
    /// The epoch of D in which it was made.
    pub epoch: Epoch,
    /// T
    pub proved_at: UnixMillis,
    /// How.
    pub methods: MethodSet,
}

/// Why a challenge is pending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A login: passing it starts the session.
    Login,
    /// A running session needs a fresh proof: passing it goes on with the same session.
    StepUp {
        /// When that session started; its `max` counts from there.
        started: UnixMillis,
    },
}

/// A pending login: the first factor is done, the second is not. Opens nothing (threats D11).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pending {
    /// Completed at most once.
    pub login: LoginId,
    /// The session that it will become; the app's fresh cookies are sealed to it already.
    pub session: SessionId,
    /// Which app.
    pub app: AppId,
    /// Who.
    pub user: UserKey,
    /// On which device.
    pub device: DeviceId,
    /// Where the browser goes afterwards: a path and query of the same app.
    pub target: String,
    /// When the first factor was passed; it is void 10 minutes later.
    pub started: UnixMillis,
    /// Why.
    pub purpose: Purpose,
}

/// A session: the only thing that lets a request through.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// S
    pub id: SessionId,
    /// Which app.
    pub app: AppId,
    /// Who.
    pub user: UserKey,
    /// On which device.
    pub device: DeviceId,
    /// The epoch of the device in which it was made.
    pub epoch: Epoch,
    /// When it began.
    pub started: UnixMillis,
    /// When it was last seen (renewed at most once a minute).
    pub seen: UnixMillis,
    /// The last proof of a second factor; `None` = exempt.
    pub proved_at: Option<UnixMillis>,
    /// By which methods.
    pub methods: MethodSet,
}

/// A body that can be signed under its own domain.
pub trait Token: Sized {
    /// The signature's domain: the kind of cookie.
    const DOMAIN: &'static str;
    /// Writes the versioned body.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads it; `None` for anything that [`Self::encode`] does not write.
    fn decode(body: &[u8]) -> Option<Self>;
}

/// Signs a token: the value of its cookie.
pub fn issue<T: Token>(_keyring: &Keyring, _token: &T) -> String {
    todo!()
}

/// Reads and verifies a cookie's value; says nothing about expiry or revocation.
pub fn verify<T: Token>(_keyring: &Keyring, _value: &str) -> Option<T> {
    todo!()
}

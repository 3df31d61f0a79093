//! From a first factor to a session: the one place where a session, a trust or a pending login is made (I2),
//! where a device changes hands (I3) and where a session ends.

use std::{net::IpAddr, sync::Arc};

use http::HeaderValue;

use super::{live::Live, standing::LiveSession, token::Pending};
use crate::{
    base::{
        clock::{SharedClock, UnixMillis},
        keyring::Keyring,
        random::SharedRandom,
    },
    config::App,
    factor::Proof,
    model::{OwnCookies, SessionId, UserKey, UserName},
    store::{SharedStore, StoreError},
};

/// Where a login comes from.
#[derive(Clone, Copy)]
pub struct Origin<'a> {
    /// The browser's cookies of ours.
    pub cookies: OwnCookies<'a>,
    /// The client's address.
    pub client: IpAddr,
}

/// Why a session was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ground {
    /// Policy asks no second factor.
    Exempt,
    /// Proved on this device, not long ago.
    Trust,
    /// Proved just now.
    Factor,
}

/// A session has begun (or goes on after a step-up).
pub struct Admission {
    /// S
    pub session: SessionId,
    /// Who.
    pub user: UserKey,
    /// Why.
    pub ground: Ground,
    /// Who owned the device before, when it was somebody else.
    pub taken_from: Option<UserKey>,
    /// `Set-Cookie` values for the browser.
    pub cookies: Vec<HeaderValue>,
    /// Where the browser wanted to go (for a login that was not pending: as handed in).
    pub target: String,
}

/// What follows a first factor.
pub enum FirstFactor {
    /// The session has begun; the app's own answer may go through, its cookies sealed to `session`.
    Admitted(Admission),
    /// A second factor is needed: send the browser to the challenge with these cookies. The app's fresh
    /// cookies are sealed to `session`.
    Pending {
        /// S
        session: SessionId,
        /// `Set-Cookie` values for the browser.
        cookies: Vec<HeaderValue>,
    },
    /// The user is blocked.
    Blocked,
}

/// What became of a completion.
pub enum Completion {
    /// The session has begun.
    Admitted(Admission),
    /// This pending login was completed before, is too old, revoked, or of somebody else: log in again.
    Void,
}

/// Makes and ends sessions.
pub struct Admissions {
    _store: SharedStore,
    _keyring: Arc<Keyring>,
    _live: Arc<Live>,
    _clock: SharedClock,
    _random: SharedRandom,
}

impl Admissions {
    /// Puts it together.
    pub fn new(
        store: SharedStore,
        keyring: Arc<Keyring>,
        live: Arc<Live>,
        names: super::cookie::Names,
        clock: SharedClock,
        random: SharedRandom,
    ) -> Self {
        let _ = names;
        Self { _store: store, _keyring: keyring, _live: live, _clock: clock, _random: random }
    }

    /// `user` has passed the first factor at `app`. Ends the session that was running on this browser,
    /// asks the policy, and looks for a valid trust.
    ///
    /// # Errors
    /// When the store fails: nobody is admitted (I9).
    pub async fn first_factor(
        &self,
        _app: &App,
        _user: UserName,
        _origin: Origin<'_>,
        _target: &str,
    ) -> Result<FirstFactor, StoreError> {
        todo!()
    }

    /// The pending user has proved a second factor. Consumes the login, takes the device, makes session and
    /// trust. By then every copy of somebody else's tokens on this device is dead everywhere.
    ///
    /// # Errors
    /// When the store fails: nobody is admitted.
    pub async fn complete(
        &self,
        _app: &App,
        _pending: Pending,
        _proof: Proof,
        _client: IpAddr,
    ) -> Result<Completion, StoreError> {
        todo!()
    }

    /// A running session must prove a second factor again before it goes on: the cookies that make it pending.
    ///
    /// # Errors
    /// When the machine gives no random bytes.
    pub fn step_up(&self, _live: &LiveSession, _target: &str) -> Result<Vec<HeaderValue>, StoreError> {
        todo!()
    }

    /// Ends a session everywhere: the cookies that clear it in this browser. Trust stays.
    ///
    /// # Errors
    /// When the store fails: then it has not ended.
    pub async fn end(&self, _session: &LiveSession) -> Result<Vec<HeaderValue>, StoreError> {
        todo!()
    }

    /// The renewed session cookie when the present one was last renewed a while ago, so that `idle` counts from
    /// the last request. `None` mostly.
    pub fn renew(&self, _session: &LiveSession, _now: UnixMillis) -> Option<HeaderValue> {
        todo!()
    }

    /// A device cookie for a browser that has none, and the device in it.
    ///
    /// # Errors
    /// When the machine gives no random bytes.
    pub fn new_device(&self) -> Result<(crate::model::DeviceId, HeaderValue), StoreError> {
        todo!()
    }
}

//! Codes from an authenticator app (RFC 6238 over RFC 4226; SHA-1, six digits, 30 seconds).
//!
//! An enrolment is pending until its first right code. A pending secret is kept nowhere: it is derived
//! from the key ring, the pending login and the user, so a reload shows the same QR, a new login a new
//! one, and an abandoned one is worth nothing (I7).

use std::sync::Arc;

use super::Verdict;
use crate::{
    base::{clock::SharedClock, keyring::Keyring, secret::SecretString},
    model::{LoginId, UserKey},
    store::{SharedStore, StoreResult},
};

/// What the enrolment page shows.
pub struct Offer {
    /// `otpauth://totp/…`, for a link on the same phone.
    pub url: SecretString,
    /// The setup key (base32) in groups of four.
    pub groups: SecretString,
    /// The QR code as an SVG element, without style or script.
    pub svg: SecretString,
}

/// What became of a first code.
pub enum Confirmed {
    /// As for any answer; `Proved` means that the authenticator is kept.
    Verdict(Verdict),
    /// There is no room for one more ([`Room`]); nothing was kept, nothing proved.
    TooMany,
}

/// Whether there is room for one more authenticator; what the user has proved decides it (threats D11).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// The user has passed the first factor only: this must be their very first authenticator. Whoever holds
    /// just the password can then never put an authenticator of their own beside an existing one, not even in
    /// a race with the user.
    First,
    /// The user has proved a second factor in this session and may have so many in all, this one included.
    Another {
        /// The limit.
        at_most: usize,
    },
}

/// The TOTP factor.
pub struct Totp {
    _store: SharedStore,
    _keyring: Arc<Keyring>,
    _clock: SharedClock,
}

impl Totp {
    /// Puts it together.
    pub fn new(store: SharedStore, keyring: Arc<Keyring>, clock: SharedClock) -> Self {
        Self { _store: store, _keyring: keyring, _clock: clock }
    }

    /// The secret of this pending login, ready to show. `account` and `issuer` label it in the app.
    ///
    /// # Errors
    /// When the QR code cannot be drawn (a label too long).
    pub fn offer(&self, _login: LoginId, _user: &UserKey, _issuer: &str) -> Result<Offer, String> {
        todo!()
    }

    /// Confirms the pending secret of this login with its first code, and keeps it.
    ///
    /// # Errors
    /// When the store fails: then nothing was enrolled.
    pub async fn confirm(
        &self,
        _login: LoginId,
        _user: &UserKey,
        _name: &str,
        _room: Room,
        _code: &str,
    ) -> StoreResult<Confirmed> {
        todo!()
    }

    /// Checks a code against every authenticator of the user: charge, check, consume.
    ///
    /// # Errors
    /// When the store fails: then nothing was proved.
    pub async fn verify(&self, _user: &UserKey, _code: &str) -> StoreResult<Verdict> {
        todo!()
    }

    /// Whether the user has one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn enrolled(&self, _user: &UserKey) -> StoreResult<bool> {
        todo!()
    }
}

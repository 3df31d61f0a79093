//! Codes from an authenticator app (RFC 6238 over RFC 4226; SHA-1, six digits, 30 seconds).
//!
//! An enrolment is pending until its first right code. A pending secret is kept nowhere: it is derived
//! from the key ring, the pending login and the user, so a reload shows the same QR, a new login a new
//! one, and an abandoned one is worth nothing (I7). Its id is derived too, so one enrolment is confirmed once,
//! however often its first code is sent.
//!
//! Decides whether a typed code is right now for one of the user's authenticators. Promises: counted before it is
//! looked at (I8), all authenticators looked at alike, spent in one atomic step before anybody hears that it was
//! right (I4; RFC 6238, section 5.2). Must never tell a secret, keep a pending one, or accept what it has once
//! called wrong. `window` says which steps count, `typed` reads what people type, `offer` draws what is shown.

mod offer;
#[cfg(test)]
mod tests;
mod typed;
mod window;

use std::sync::Arc;

use async_trait::async_trait;

pub use self::typed::authenticator_name;
use self::{
    typed::Code,
    window::{Codes, Found, STEP_SECS},
};
use super::{Ask, Factor, Hint, Verdict, attempt, drift::Drifts, shown_once};
use crate::{
    base::{
        clock::{SharedClock, UnixMillis},
        keyring::Keyring,
        secret::{SecretBytes, SecretString},
    },
    model::{Authenticator, AuthenticatorId, CodeHash, LoginId, Method, UserKey},
    store::{Added, NewAuthenticator, SharedStore, StoreError, StoreResult},
};

/// What the enrolment page shows.
pub struct Offer {
    /// `otpauth://totp/…`, for a link on the same phone.
    pub url: SecretString,
    /// The setup key (base32) in groups of four.
    pub groups: SecretString,
    /// The QR code as an SVG element, without style or script; the page gives it size and a name.
    pub svg: SecretString,
}

/// What became of a first code.
#[derive(Debug)]
pub enum Confirmed {
    /// As for any answer; `Proved` means that the authenticator is kept.
    Verdict(Verdict),
    /// There is no room for one more ([`Room`]); nothing was kept, nothing proved.
    TooMany,
    /// The user was reset since this enrolment began, or is blocked; nothing was kept, nothing proved.
    Void,
    /// The code was right, but the invitation was used meanwhile, or has ended; nothing was kept, nothing proved.
    NotInvited,
}

/// Whether there is room for one more authenticator; what the user has proved decides it (threats D11).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// The user has passed the first factor only: this must be their very first authenticator. Whoever holds
    /// just the password can then never put an authenticator of their own beside an existing one, not even in
    /// a race with the user.
    First,
    /// The same, where policy asks an invitation: it is taken before the authenticator is kept, in this order, so that
    /// neither a race nor a crash makes two of one invitation. Cut short in between, it is spent, and an administrator
    /// makes another one.
    Invited {
        /// The invitation whose code was shown.
        by: CodeHash,
    },
    /// The user has proved a second factor in this session and may have so many in all, this one included.
    Another {
        /// The limit.
        at_most: usize,
    },
}

/// The TOTP factor.
pub struct Totp {
    store: SharedStore,
    keyring: Arc<Keyring>,
    clock: SharedClock,
    drifts: Arc<Drifts>,
}

impl Totp {
    /// Puts it together.
    pub fn new(store: SharedStore, keyring: Arc<Keyring>, clock: SharedClock) -> Self {
        Self { store, keyring, clock, drifts: Arc::default() }
    }

    /// The same, going on with what others have learned about clocks.
    #[must_use]
    pub fn with_drifts(self, drifts: Arc<Drifts>) -> Self {
        Self { drifts, ..self }
    }

    /// How far the clocks of phones are from ours.
    pub fn drifts(&self) -> Arc<Drifts> {
        Arc::clone(&self.drifts)
    }

    /// The secret of this pending login, ready to show. `account` and `issuer` label it in the app.
    ///
    /// # Errors
    /// When the QR code cannot be drawn (a label too long).
    pub fn offer(&self, login: LoginId, user: &UserKey, issuer: &str) -> Result<Offer, String> {
        offer::make(&self.pending_secret(login, user), issuer, user.name.as_str())
    }

    /// Confirms the pending secret of this login with its first code, and keeps it under `name`. The code is
    /// spent with that. `begun` is when that began on which this rests: a reset after it wins.
    ///
    /// # Errors
    /// When the store fails: then nothing was proved, and mostly nothing enrolled.
    pub async fn confirm(
        &self,
        login: LoginId,
        user: &UserKey,
        name: &str,
        room: Room,
        begun: UnixMillis,
        code: &str,
    ) -> StoreResult<Confirmed> {
        let now = self.clock.now();
        let (id, at_most) = (self.pending_id(login, user), room.at_most());
        let enrolled = self.store.authenticators(user).await?;
        if enrolled.len() >= at_most && enrolled.iter().all(|a| a.id != id) {
            return Ok(Confirmed::TooMany);
        }
        let charged = match attempt::charge(&self.store, user, now).await? {
            Ok(charged) => charged,
            Err(refused) => return Ok(Confirmed::Verdict(refused)),
        };
        let secret = self.pending_secret(login, user);
        let found = Code::read(code)
            .map(|code| Ok::<_, StoreError>(codes_of(&secret)?.find(code.as_str(), now.secs(), 0, 0)))
            .transpose()?;
        let (step, drift_steps) = match found {
            Some(Found::Right { step, drift_steps }) => (step, drift_steps),
            Some(Found::Off { step, steps }) => {
                self.note_drift(user, step, now);
                return Ok(Confirmed::Verdict(charged.wrong(clock_off(steps))));
            }
            Some(Found::Used | Found::Nothing) => {
                return Ok(Confirmed::Verdict(charged.wrong(Hint::Mismatch)));
            }
            None => return Ok(Confirmed::Verdict(charged.wrong(Hint::Malformed))),
        };
        let authenticator = Authenticator {
            id,
            method: Method::Totp,
            name: authenticator_name(name),
            confirmed_at: now,
            last_used_at: Some(now),
            secret,
            last_step: step,
            drift_steps,
        };
        if let Room::Invited { by } = room
            && !shown_once::take_invitation(&self.store, user, by, now).await?
        {
            return Ok(Confirmed::NotInvited);
        }
        // The limit is judged again here, in one step with keeping it.
        Ok(match self.store.add(user, NewAuthenticator { authenticator, at_most, begun }).await? {
            Added::Kept => {
                self.note_drift(user, step, now);
                Confirmed::Verdict(self.prove(user, now).await?)
            }
            Added::Known => Confirmed::Verdict(charged.wrong(Hint::AlreadyUsed)),
            // Not `prove`: whoever is refused here must not get the count of wrong answers back to zero.
            Added::TooMany => Confirmed::TooMany,
            Added::Void => Confirmed::Void,
        })
    }

    /// Checks a code against every authenticator of the user: charge, check, consume.
    ///
    /// # Errors
    /// When the store fails: then nothing was proved.
    pub async fn verify(&self, user: &UserKey, code: &str) -> StoreResult<Verdict> {
        let now = self.clock.now();
        let enrolled = self.of(user).await?;
        if enrolled.is_empty() {
            return Ok(Verdict::NotEnrolled);
        }
        let charged = match attempt::charge(&self.store, user, now).await? {
            Ok(charged) => charged,
            Err(refused) => return Ok(refused),
        };
        let Some(code) = Code::read(code) else { return Ok(charged.wrong(Hint::Malformed)) };
        match self.consume(user, &enrolled, &code, now).await? {
            None => self.prove(user, now).await,
            Some(hint) => Ok(charged.wrong(hint)),
        }
    }

    /// Whether the user has one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn enrolled(&self, user: &UserKey) -> StoreResult<bool> {
        Ok(!self.of(user).await?.is_empty())
    }

    async fn of(&self, user: &UserKey) -> StoreResult<Vec<Authenticator>> {
        let mut all = self.store.authenticators(user).await?;
        all.retain(|a| a.method == Method::Totp);
        Ok(all)
    }

    /// Looks the code up and spends it: `None` when it was right and this was its first use.
    async fn consume(
        &self,
        user: &UserKey,
        enrolled: &[Authenticator],
        code: &Code,
        now: UnixMillis,
    ) -> StoreResult<Option<Hint>> {
        let mut found = Vec::with_capacity(enrolled.len());
        for a in enrolled {
            let codes = codes_of(&a.secret)?;
            found.push((a, codes.find(code.as_str(), now.secs(), a.last_step, a.drift_steps)));
        }
        // Two authenticators may hold one secret. The code is spent for all of them, and the first of them decides
        // and is spent last: so of two uses at once, whichever they saw, one is accepted at most.
        let mut spent = None;
        let mut right = None;
        for (a, f) in found.iter().rev() {
            if let Found::Right { step, drift_steps } = *f {
                right = Some(step);
                spent = Some(self.store.advance_step(user, a.id, step, drift_steps, now).await?);
            }
        }
        match spent {
            Some(true) => {
                if let Some(step) = right {
                    self.note_drift(user, step, now);
                }
                return Ok(None);
            }
            Some(false) => return Ok(Some(Hint::AlreadyUsed)),
            None if found.iter().any(|(_, f)| *f == Found::Used) => return Ok(Some(Hint::AlreadyUsed)),
            None => {}
        }
        // Telling that a code of the near future is right would help to guess it: it is spent with that. (Codes of
        // the past are never accepted again anyway.) Whoever sets the phone's clock right waits until then.
        for (a, f) in &found {
            if let Found::Off { step, steps: 1.. } = *f {
                let used_at = a.last_used_at.unwrap_or(a.confirmed_at);
                self.store.advance_step(user, a.id, step, a.drift_steps, used_at).await?;
            }
        }
        let off = found.iter().filter_map(|(_, f)| {
            if let Found::Off { step, steps } = f { Some((*step, *steps)) } else { None }
        });
        let Some((step, steps)) = off.min_by_key(|(_, steps)| steps.unsigned_abs()) else {
            return Ok(Some(Hint::Mismatch));
        };
        self.note_drift(user, step, now);
        Ok(Some(clock_off(steps)))
    }

    /// A code was right on a clock that shows `step`, accepted or not: a server whose clock is so far off that it
    /// accepts none must notice, too.
    fn note_drift(&self, user: &UserKey, step: u64, now: UnixMillis) {
        let signed = |steps: u64| i64::try_from(steps).unwrap_or(i64::MAX);
        let steps = signed(step).saturating_sub(signed(now.secs() / STEP_SECS));
        self.drifts.note(user, steps.saturating_mul(STEP_SECS.cast_signed()));
    }

    /// The answer was right, and is spent.
    async fn prove(&self, user: &UserKey, at: UnixMillis) -> StoreResult<Verdict> {
        attempt::prove(&self.store, user, Method::Totp, at).await
    }

    /// 160 bits, as RFC 4226, section 4, R6 recommends.
    fn pending_secret(&self, login: LoginId, user: &UserKey) -> SecretBytes {
        self.keyring.derive::<20>("totp-enrolment", &parts(&login, user))
    }

    fn pending_id(&self, login: LoginId, user: &UserKey) -> AuthenticatorId {
        let derived = self.keyring.derive::<16>("totp-authenticator-id", &parts(&login, user));
        AuthenticatorId(std::array::from_fn(|i| derived.expose().get(i).copied().unwrap_or_default()))
    }
}

#[async_trait]
impl Factor for Totp {
    fn method(&self) -> Method {
        Method::Totp
    }

    async fn ready(&self, user: &UserKey) -> StoreResult<bool> {
        self.enrolled(user).await
    }

    async fn verify(&self, ask: &Ask<'_>, answer: &str) -> StoreResult<Verdict> {
        Totp::verify(self, ask.user, answer).await
    }
}

impl Room {
    fn at_most(self) -> usize {
        match self {
            Self::First | Self::Invited { .. } => 1,
            Self::Another { at_most } => at_most,
        }
    }
}

fn parts<'a>(login: &'a LoginId, user: &'a UserKey) -> [&'a [u8]; 3] {
    [&login.0, user.realm.as_str().as_bytes(), user.name.as_str().as_bytes()]
}

fn codes_of(secret: &SecretBytes) -> StoreResult<Codes> {
    Codes::of(secret.expose()).ok_or_else(|| StoreError("a kept secret is too short".to_owned()))
}

fn clock_off(steps: i64) -> Hint {
    Hint::ClockOff { secs: steps.saturating_mul(STEP_SECS.cast_signed()) }
}

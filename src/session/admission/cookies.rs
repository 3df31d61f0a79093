//! The cookies that follow from a login: device, pending login, trust. Made for [`super`] only, which says when.

use std::time::Duration;

use http::HeaderValue;

use super::{Admissions, PENDING_LIVES, no_randomness};
use crate::{
    base::clock::UnixMillis,
    config::app::Requirement,
    factor::Proof,
    model::{DeviceId, Epoch, MethodSet, OwnCookies},
    policy,
    session::{
        cookie::{self, Kind},
        standing,
        token::{Device, Pending, Trust, issue},
    },
    store::StoreError,
};

/// A device cookie older than this is made anew.
pub(super) const DEVICE_RENEWED_AFTER: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl Admissions {
    /// A device cookie for a browser that has none, and the device in it.
    ///
    /// # Errors
    /// When the machine gives no random bytes.
    pub fn new_device(&self) -> Result<(DeviceId, HeaderValue), StoreError> {
        let id = DeviceId::draw(self.random.as_ref()).map_err(no_randomness)?;
        Ok((id, self.device_cookie(id, self.clock.now())))
    }

    /// The device of this browser; `cookies` gets its cookie when it is new or getting old.
    pub(super) fn device_of(
        &self,
        own: &OwnCookies<'_>,
        now: UnixMillis,
        cookies: &mut Vec<HeaderValue>,
    ) -> Result<DeviceId, StoreError> {
        match standing::device(&self.keyring, own) {
            Some(Device { id, issued }) => {
                if now.since(issued) > DEVICE_RENEWED_AFTER {
                    cookies.push(self.device_cookie(id, now));
                }
                Ok(id)
            }
            None => {
                let (id, cookie) = self.new_device()?;
                cookies.push(cookie);
                Ok(id)
            }
        }
    }

    fn device_cookie(&self, id: DeviceId, issued: UnixMillis) -> HeaderValue {
        let value = issue(&self.keyring, &Device { id, issued });
        self.names.set(Kind::Device, &value, Some(cookie::DEVICE_MAX_AGE_SECS))
    }

    pub(super) fn login_cookie(&self, pending: &Pending) -> HeaderValue {
        self.names.set(Kind::Login, &issue(&self.keyring, pending), Some(PENDING_LIVES.as_secs()))
    }

    /// The trust that follows from a proof, or what removes an older one when nothing is to be remembered.
    pub(super) fn trust_cookie(
        &self,
        required: &Requirement,
        pending: &Pending,
        proof: &Proof,
        epoch: Epoch,
        now: UnixMillis,
    ) -> HeaderValue {
        let left = policy::validity(required, proof.method()).saturating_sub(now.since(proof.at())).as_secs();
        if left == 0 {
            return self.names.clear(Kind::Trust);
        }
        let trust = Trust {
            user: pending.user.clone(),
            device: pending.device,
            epoch,
            proved_at: proof.at(),
            methods: MethodSet::of(proof.method()),
        };
        self.names.set(Kind::Trust, &issue(&self.keyring, &trust), Some(left))
    }
}

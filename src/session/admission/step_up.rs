//! A pending login that is more than a first factor: a running session that must prove itself again, and a login with an
//! invitation shown.

use http::HeaderValue;

use super::{Admissions, no_randomness, target};
use crate::{
    model::{CodeHash, LoginId},
    session::{
        standing::LiveSession,
        token::{Pending, Purpose},
    },
    store::StoreError,
};

/// Those of our own pages that may ask for a fresh second factor, below the prefix: adding an authenticator, the user's
/// own things, removing an authenticator, recovery codes.
const ASK_FOR_PROOF: [&str; 4] = ["/enrol", "/me", "/me/remove", "/recovery"];

impl Admissions {
    /// A running session must prove a second factor again before it goes on: the cookies that make it pending.
    ///
    /// # Errors
    /// When the machine gives no random bytes.
    pub fn step_up(&self, live: &LiveSession, target: &str) -> Result<Vec<HeaderValue>, StoreError> {
        let session = live.session();
        let pending = Pending {
            login: LoginId::draw(self.random.as_ref()).map_err(no_randomness)?,
            session: session.id,
            app: session.app.clone(),
            user: session.user.clone(),
            device: session.device,
            target: self.step_up_target(target).to_owned(),
            started: self.clock.now(),
            purpose: Purpose::StepUp { started: session.started, epoch: session.epoch },
            invited: None,
        };
        Ok(vec![self.login_cookie(&pending)])
    }

    /// The same pending login, with the invitation whose code was shown: the cookie that carries it.
    pub fn with_invitation(&self, pending: Pending, invitation: CodeHash) -> Vec<HeaderValue> {
        vec![self.login_cookie(&Pending { invited: Some(invitation), ..pending })]
    }

    /// A step-up may lead back to the pages of ours that ask for it, written exactly so.
    pub(super) fn step_up_target<'a>(&self, target: &'a str) -> &'a str {
        if target.strip_prefix(self.prefix.as_str()).is_some_and(|page| ASK_FOR_PROOF.contains(&page)) {
            target
        } else {
            target::clean(target, &self.prefix)
        }
    }
}

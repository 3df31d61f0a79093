//! Reset, block, unlock, sign out: what takes effect at once, everywhere.

use super::{By, Failure, Operations, ResetDone, UserRow, view};
use crate::{
    audit::Event,
    base::clock::UnixMillis,
    deliver::notices::{Notice, Who},
    model::{AuthenticatorId, UserKey},
    store::{AttemptState, documents},
};

impl Operations {
    /// Removes every authenticator and what was counted, and ends every session: the user links anew at the next
    /// login (row B11).
    ///
    /// # Errors
    /// When there is no such user, it is the administrator's own account, or the store fails.
    pub async fn reset(&self, typed: &str, realm: Option<&str>, by: &By<'_>) -> Result<ResetDone, Failure> {
        let user = self.begin(typed, realm, by).await?;
        self.met(&user).await?;
        let now = self.clock.now();
        let removed = self.store.reset(&user, now, now.plus(self.longest_proof())).await?;
        self.forget_sessions(&user, now).await;
        self.record(&Event::UserReset, Some(&user), by).await?;
        self.tell(&user, Notice::Reset);
        Ok(ResetDone { realm: user.realm.as_str().to_owned(), name: user.name.as_str().to_owned(), removed })
    }

    /// Removes one authenticator, and ends every session: one of them may rest on it.
    ///
    /// # Errors
    /// When there is no such user or authenticator, it is the administrator's own account, or the store fails.
    pub async fn remove_authenticator(
        &self,
        typed: &str,
        realm: Option<&str>,
        id: AuthenticatorId,
        by: &By<'_>,
    ) -> Result<(), Failure> {
        let user = self.begin(typed, realm, by).await?;
        let all = self.store.authenticators(&user).await?;
        let method = all.iter().find(|a| a.id == id).ok_or(Failure::NoAuthenticator)?.method;
        if !self.store.remove(&user, id).await? {
            return Err(Failure::NoAuthenticator);
        }
        self.void(&user).await?;
        self.record(&Event::AuthenticatorRemoved { method }, Some(&user), by).await?;
        self.tell(&user, Notice::AuthenticatorRemoved { method, by: Who::Administrator });
        Ok(())
    }

    /// Blocks a user: nothing passes any more, also in running sessions; or lifts the block (row B12). A user who has
    /// not been met can be blocked before the first login.
    ///
    /// # Errors
    /// When the name is none, it is the administrator's own account, or the store fails.
    pub async fn set_blocked(
        &self,
        typed: &str,
        realm: Option<&str>,
        blocked: bool,
        by: &By<'_>,
    ) -> Result<UserRow, Failure> {
        let user = self.begin(typed, realm, by).await?;
        self.store.set_blocked(&user, blocked, self.clock.now()).await?;
        self.record(&Event::UserBlocked { blocked }, Some(&user), by).await?;
        Ok(view::row(&self.met(&user).await?, self.clock.now()))
    }

    /// Takes the wrong answers of a user off, so that they may try again (I8: "until an administrator acts").
    ///
    /// # Errors
    /// When there is no such user, it is the administrator's own account, or the store fails.
    pub async fn unlock(&self, typed: &str, realm: Option<&str>, by: &By<'_>) -> Result<UserRow, Failure> {
        let user = self.begin(typed, realm, by).await?;
        self.met(&user).await?;
        // Whoever guesses at the same moment is counted from here on.
        loop {
            let kept = self.store.attempts(&user).await?;
            if kept == AttemptState::default()
                || self.store.swap_attempts(&user, kept, AttemptState::default()).await?
            {
                break;
            }
        }
        self.record(&Event::UserUnlocked, Some(&user), by).await?;
        Ok(view::row(&self.met(&user).await?, self.clock.now()))
    }

    /// Ends every session of a user, and forgets their devices: everywhere, before this answers.
    ///
    /// # Errors
    /// When there is no such user, or the store fails.
    pub async fn sign_out(&self, typed: &str, realm: Option<&str>, by: &By<'_>) -> Result<UserRow, Failure> {
        self.auditor.ready()?;
        let user = self.find(typed, realm).await?;
        self.met(&user).await?;
        self.check_rank(&user, by).await?;
        self.void(&user).await?;
        self.record(&Event::UserSignedOut, Some(&user), by).await?;
        self.tell(&user, Notice::SignedOut { by: Who::Administrator });
        Ok(view::row(&self.met(&user).await?, self.clock.now()))
    }

    /// Every session and trust of a user is void.
    pub(super) async fn void(&self, user: &UserKey) -> Result<(), Failure> {
        let now = self.clock.now();
        self.store.sign_out(user, now, now.plus(self.longest_proof())).await?;
        self.forget_sessions(user, now).await;
        Ok(())
    }

    /// The list of sessions only tells: what was ended is, whatever stands there.
    async fn forget_sessions(&self, user: &UserKey, now: UnixMillis) {
        let forgotten = documents::change_presence(self.store.as_ref(), user, |presence| {
            presence.sessions.retain(|session| session.started >= now);
        });
        if let Err(error) = forgotten.await {
            tracing::warn!(%error, "sessions that were ended stay in their user's list");
        }
    }

    /// Whom an act is about: not the administrator, and not without the audit log.
    pub(super) async fn begin(
        &self,
        typed: &str,
        realm: Option<&str>,
        by: &By<'_>,
    ) -> Result<UserKey, Failure> {
        self.auditor.ready()?;
        let user = self.find(typed, realm).await?;
        if by.own == Some(&user) {
            return Err(Failure::OwnAccount);
        }
        self.check_rank(&user, by).await?;
        Ok(user)
    }

    /// Who resets and invites an administrator could link an authenticator in their place.
    async fn check_rank(&self, user: &UserKey, by: &By<'_>) -> Result<(), Failure> {
        if by.is_helpdesk && documents::profile(self.store.as_ref(), user).await?.role.is_some() {
            return Err(Failure::Administrator);
        }
        Ok(())
    }
}

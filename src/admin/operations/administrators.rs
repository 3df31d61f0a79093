//! Accounts of administrators: users of a realm of their own, that no app has. Who looks after users cannot reach them by
//! any act on users; an [`Operations`] for them is another one.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{By, Failure, Invitation, Operations, State, view};
use crate::{
    audit::Event,
    base::clock::UnixMillis,
    config::administrators::{self, REALM},
    factor::shown_once::{self, Shown},
    model::{Invite, Profile, Realm, Role, UserKey, UserName},
    store::documents,
};

/// An administrator as others see one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdministratorRow {
    /// The name of the account.
    pub name: String,
    /// What they may do.
    pub role: String,
    /// Whether they can log in.
    pub state: State,
    /// Confirmed authenticators.
    pub authenticators: usize,
    /// Until when an invitation can be used.
    pub invited_until: Option<String>,
    /// Last completed login.
    pub last_login_at: Option<String>,
}

impl Operations {
    /// The acts on accounts of administrators instead of on users.
    #[must_use]
    pub fn for_administrators(&self) -> Self {
        Self::new(
            Arc::clone(&self.store),
            vec![Arc::new(administrators::app())],
            Arc::clone(&self.auditor),
            Arc::clone(&self.clock),
            Arc::clone(&self.random),
        )
        .with_notices(Arc::clone(&self.notices))
    }

    /// All accounts of administrators, by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn administrators(&self) -> Result<Vec<AdministratorRow>, Failure> {
        let mut after = UserKey { realm: Realm::new(REALM), name: UserName::canonical("") };
        let (mut rows, now) = (Vec::new(), self.clock.now());
        loop {
            let page = self.store.list("", Some(&after), PAGE).await?;
            let is_last = page.len() < PAGE || page.last().is_some_and(|last| last.user.realm != after.realm);
            for record in page.iter().filter(|record| record.user.realm == after.realm) {
                let profile = documents::profile(self.store.as_ref(), &record.user).await?;
                // One that was removed is known by name only.
                let Some(role) = profile.role else { continue };
                let (user, settings) = (view::row(record, now), view::settings(&profile, now));
                rows.push(AdministratorRow {
                    name: user.name,
                    role: role.name().to_owned(),
                    state: user.state,
                    authenticators: user.authenticators,
                    invited_until: settings.invited_until,
                    last_login_at: user.last_login_at,
                });
            }
            match page.last() {
                Some(last) if !is_last => after = last.user.clone(),
                _ => return Ok(rows),
            }
        }
    }

    /// Makes an account, or a new way into one: a code by which a password is set, once. The role is this from now on.
    ///
    /// # Errors
    /// When the name is none, it is the administrator's own account, or the store fails.
    pub async fn invite_administrator(
        &self,
        typed: &str,
        role: Role,
        by: &By<'_>,
    ) -> Result<Invitation, Failure> {
        let user = self.begin(typed, Some(REALM), by).await?;
        let now = self.clock.now();
        let Shown { code, hash } = shown_once::draw(self.random.as_ref())?;
        let until = now.plus(INVITATION_LIVES);
        self.store.note_seen(&user, false, now).await?;
        let differs = documents::change_profile(self.store.as_ref(), &user, |kept| {
            let invite = Some(Invite { hash: hash.clone(), until });
            let new = Profile { invite, role: Some(role), ..unlocked(kept) };
            (Some(new), kept.role.is_some_and(|old| old != role))
        })
        .await?;
        if differs {
            self.void(&user).await?;
            self.record(&Event::UserChanged { what: "role" }, Some(&user), by).await?;
        }
        self.record(&Event::UserInvited, Some(&user), by).await?;
        let (realm, name) = (user.realm.as_str().to_owned(), user.name.as_str().to_owned());
        Ok(Invitation { realm, name, code, until: until.rfc3339(), email: None })
    }

    /// Takes an account away: role, password, invitation and authenticators, and every session.
    ///
    /// # Errors
    /// When there is no such account, it is the administrator's own, or the store fails.
    pub async fn remove_administrator(&self, typed: &str, by: &By<'_>) -> Result<(), Failure> {
        let user = self.begin(typed, Some(REALM), by).await?;
        let was_one = documents::change_profile(self.store.as_ref(), &user, |kept| {
            (Some(Profile::default()), kept.role.is_some())
        })
        .await?;
        if !was_one {
            return Err(Failure::NoUser { realm: REALM.to_owned(), name: user.name.as_str().to_owned() });
        }
        let now = self.clock.now();
        self.store.reset(&user, now, now.plus(self.longest_proof())).await?;
        self.record(&Event::UserChanged { what: "role" }, Some(&user), by).await?;
        self.record(&Event::UserReset, Some(&user), by).await?;
        Ok(())
    }

    /// Takes wrong passwords and wrong codes off an account.
    ///
    /// # Errors
    /// As [`Self::unlock`].
    pub async fn unlock_administrator(&self, typed: &str, by: &By<'_>) -> Result<(), Failure> {
        let user = self.begin(typed, Some(REALM), by).await?;
        self.met(&user).await?;
        documents::change_profile(self.store.as_ref(), &user, |kept| (Some(unlocked(kept)), ())).await?;
        self.unlock(typed, Some(REALM), by).await?;
        Ok(())
    }
}

/// Without wrong passwords.
fn unlocked(kept: &Profile) -> Profile {
    Profile { password_failures: 0, password_wait_until: UnixMillis::default(), ..kept.clone() }
}

const PAGE: usize = 200;
/// From the invitation to the password.
const INVITATION_LIVES: Duration = Duration::from_hours(72);

//! Codes that are shown once: invitations and emergency codes. Only their hashes are kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{By, Failure, Operations};
use crate::{
    audit::Event,
    base::secret::SecretString,
    deliver::notices::Notice,
    factor::shown_once::{self, Shown},
    model::{Invite, Profile, Sealed},
    store::documents,
};

/// An invitation, as it is shown once. It is not printed by accident: it has no `Debug`.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct Invitation {
    /// Name space.
    pub realm: String,
    /// For whom.
    pub name: String,
    /// The code, in groups to read and type.
    pub code: String,
    /// When it ends, RFC 3339.
    pub until: String,
    /// Where it can be sent.
    pub email: Option<String>,
}

/// Emergency codes, as they are shown once. No `Debug` either.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct EmergencyCodes {
    /// Name space.
    pub realm: String,
    /// For whom.
    pub name: String,
    /// The codes; each gets in once.
    pub codes: Vec<String>,
    /// When they end, RFC 3339.
    pub until: String,
}

impl Operations {
    /// Makes a one-time code by which a user may link a first authenticator; an earlier one is void. A user who has not
    /// been met becomes known by it.
    ///
    /// # Errors
    /// When the name is none, it is the administrator's own account, `lives` is too short or too long, or the store
    /// fails.
    pub async fn invite(
        &self,
        typed: &str,
        realm: Option<&str>,
        lives: Duration,
        by: &By<'_>,
    ) -> Result<Invitation, Failure> {
        between("valid for", lives, Duration::from_secs(60), LONGEST_INVITATION, "1 minute to 30 days")?;
        let user = self.begin(typed, realm, by).await?;
        let now = self.clock.now();
        let Shown { code, hash } = shown_once::draw(self.random.as_ref())?;
        let until = now.plus(lives);
        self.store.note_seen(&user, false, now).await?;
        let email = documents::change_profile(self.store.as_ref(), &user, |kept| {
            let invite = Some(Invite { hash: hash.clone(), until });
            (Some(Profile { invite, ..kept.clone() }), kept.email.clone())
        })
        .await?;
        self.record(&Event::UserInvited, Some(&user), by).await?;
        self.tell(&user, Notice::Invitation { code: SecretString::new(code.clone()), until });
        Ok(Invitation {
            realm: user.realm.as_str().to_owned(),
            name: user.name.as_str().to_owned(),
            code,
            until: until.rfc3339(),
            email,
        })
    }

    /// Makes emergency codes for a user, each of which gets in once; earlier ones are void.
    ///
    /// # Errors
    /// When there is no such user, it is the administrator's own account, `lives` or `count` is out of range, or the
    /// store fails.
    pub async fn make_emergency_codes(
        &self,
        typed: &str,
        realm: Option<&str>,
        count: usize,
        lives: Duration,
        by: &By<'_>,
    ) -> Result<EmergencyCodes, Failure> {
        between("valid for", lives, Duration::from_secs(60), LONGEST_EMERGENCY, "1 minute to 366 days")?;
        if !(1..=MOST_EMERGENCY_CODES).contains(&count) {
            let why = "allowed are 1 to 10";
            return Err(Failure::BadSetting { field: "codes", why, found: count.to_string() });
        }
        let user = self.begin(typed, realm, by).await?;
        let now = self.clock.now();
        let until = now.plus(lives);
        let drawn =
            (0..count).map(|_| shown_once::draw(self.random.as_ref())).collect::<Result<Vec<_>, _>>()?;
        self.store.note_seen(&user, false, now).await?;
        documents::change_profile(self.store.as_ref(), &user, |kept| {
            let seal = |hash: &String| Sealed { hash: hash.clone(), made: now, until };
            let emergency = drawn.iter().map(|shown| seal(&shown.hash)).collect();
            (Some(Profile { emergency, ..kept.clone() }), ())
        })
        .await?;
        self.record(&Event::EmergencyCodesMade, Some(&user), by).await?;
        Ok(EmergencyCodes {
            realm: user.realm.as_str().to_owned(),
            name: user.name.as_str().to_owned(),
            codes: drawn.into_iter().map(|shown| shown.code).collect(),
            until: until.rfc3339(),
        })
    }
}

fn between(
    field: &'static str,
    typed: Duration,
    least: Duration,
    most: Duration,
    why: &'static str,
) -> Result<(), Failure> {
    if (least..=most).contains(&typed) {
        return Ok(());
    }
    Err(Failure::BadSetting { field, why, found: format!("{typed:?}") })
}

const LONGEST_INVITATION: Duration = Duration::from_hours(30 * 24);
const LONGEST_EMERGENCY: Duration = Duration::from_hours(366 * 24);
const MOST_EMERGENCY_CODES: usize = 10;

//! What administrators get to see.

use serde::{Deserialize, Serialize};

use crate::{
    base::clock::UnixMillis,
    model::{Authenticator, Method, Profile, Role, SessionRecord},
    store::UserRecord,
    throttle::{self, Next},
};

/// A user as administrators see one. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRow {
    /// Name space.
    pub realm: String,
    /// Canonical name.
    pub name: String,
    /// Whether and why the user can or cannot log in.
    pub state: State,
    /// Confirmed authenticators.
    pub authenticators: usize,
    /// Wrong answers since the last right one.
    pub failures: u32,
    /// No answer is taken before this moment.
    pub wait_until: Option<String>,
    /// First completed first factor; `None` for a user never met.
    pub first_seen_at: Option<String>,
    /// Last completed login.
    pub last_login_at: Option<String>,
}

/// Whether a user can log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Yes.
    Active,
    /// Yes, and links an authenticator at the next login.
    NotEnrolled,
    /// Not for a while: too many wrong answers.
    Waiting,
    /// Not before a reset: far too many wrong answers.
    Locked,
    /// Not before somebody unblocks.
    Blocked,
}

impl State {
    /// In words, for people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::NotEnrolled => "not enrolled",
            Self::Waiting => "waiting",
            Self::Locked => "locked",
            Self::Blocked => "blocked",
        }
    }
}

/// An authenticator as administrators see one: never its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthenticatorRow {
    /// Its id.
    pub id: String,
    /// `totp`
    pub method: String,
    /// As the user named it.
    pub name: String,
    /// When its enrolment was confirmed.
    pub confirmed_at: String,
    /// When it last proved something.
    pub last_used_at: Option<String>,
    /// How far the phone's clock runs ahead (+) or behind (-), in seconds, as learned.
    pub clock_off_secs: i32,
}

/// One user, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserDetails {
    /// The user.
    pub user: UserRow,
    /// Authenticators, oldest first.
    pub authenticators: Vec<AuthenticatorRow>,
    /// What is set for them.
    pub settings: SettingsRow,
}

/// What is set for a user, as administrators see it: no hash of anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SettingsRow {
    /// Where messages go.
    pub email: Option<String>,
    /// The authentication number, E.164.
    pub number: Option<String>,
    /// The language of messages.
    pub language: Option<String>,
    /// Addresses from which the user may come; empty: from anywhere.
    pub networks: Vec<String>,
    /// The method that is offered first.
    pub preferred: Option<String>,
    /// Until when no second factor is asked.
    pub exempt_until: Option<String>,
    /// Why not.
    pub exempt_reason: Option<String>,
    /// Until when an invitation can be used.
    pub invited_until: Option<String>,
    /// How many emergency codes can be used.
    pub emergency_codes: usize,
    /// What they may do as an administrator.
    pub role: Option<String>,
}

/// A session that may still be alive, as administrators see it: nothing by which one could take its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// At which app.
    pub app: String,
    /// The first digits of the device's id: enough to see which are the same.
    pub device: String,
    /// When it began.
    pub started_at: String,
    /// When it ends in any case.
    pub ends_at: String,
    /// From which address.
    pub address: String,
    /// With what, as the browser said.
    pub agent: String,
}

/// A page of users in order of realm and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserPage {
    /// The users.
    pub users: Vec<UserRow>,
    /// There are more after the last one.
    pub more: bool,
}

/// What a reset did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetDone {
    /// Whom it was done to.
    pub realm: String,
    /// Whom it was done to.
    pub name: String,
    /// How many authenticators were removed.
    pub removed: usize,
}

/// How the store is, for `sluis doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreState {
    /// The version of Sluis that answers.
    pub version: String,
    /// How long the store took to answer, in microseconds.
    pub ping_micros: u64,
    /// How far the store's own clock is ahead of the server's (+) or behind (−), in milliseconds, when it has one.
    #[serde(default)]
    pub clock_ahead_millis: Option<i64>,
    /// Authenticators under the first key.
    pub first: usize,
    /// Authenticators under other keys of the ring.
    pub older: usize,
    /// Authenticators under keys that are not in the ring.
    pub unknown: usize,
}

/// A user as a row.
pub(super) fn row(record: &UserRecord, now: UnixMillis) -> UserRow {
    let (state, wait_until) = match throttle::standing(record.attempts, now) {
        _ if record.blocked => (State::Blocked, None),
        Next::Locked => (State::Locked, None),
        Next::Wait { until } => (State::Waiting, Some(until)),
        Next::Again if record.authenticators == 0 => (State::NotEnrolled, None),
        Next::Again => (State::Active, None),
    };
    UserRow {
        realm: record.user.realm.as_str().to_owned(),
        name: record.user.name.as_str().to_owned(),
        state,
        authenticators: record.authenticators,
        failures: record.attempts.failures,
        wait_until: wait_until.map(UnixMillis::rfc3339),
        first_seen_at: (record.first_seen_at > UnixMillis(0)).then(|| record.first_seen_at.rfc3339()),
        last_login_at: record.last_login_at.map(UnixMillis::rfc3339),
    }
}

/// An authenticator as a row.
pub(super) fn authenticator(a: &Authenticator) -> AuthenticatorRow {
    AuthenticatorRow {
        id: a.id.to_string(),
        method: a.method.name().to_owned(),
        name: a.name.clone(),
        confirmed_at: a.confirmed_at.rfc3339(),
        last_used_at: a.last_used_at.map(UnixMillis::rfc3339),
        clock_off_secs: i32::from(a.drift_steps).saturating_mul(TOTP_STEP_SECS),
    }
}

/// A session as a row.
pub(super) fn session(session: &SessionRecord) -> SessionRow {
    SessionRow {
        app: session.app.as_str().to_owned(),
        device: session.device.to_string().chars().take(DEVICE_DIGITS).collect(),
        started_at: session.started.rfc3339(),
        ends_at: session.until.rfc3339(),
        address: session.address.to_string(),
        agent: session.agent.clone(),
    }
}

/// What is set for a user, without what is over.
pub(super) fn settings(profile: &Profile, now: UnixMillis) -> SettingsRow {
    let exemption = profile.exemption.as_ref().filter(|e| e.until > now);
    SettingsRow {
        email: profile.email.clone(),
        number: profile.number.clone(),
        language: profile.language.clone(),
        networks: profile.networks.iter().map(ToString::to_string).collect(),
        preferred: profile.preferred.map(Method::name).map(str::to_owned),
        exempt_until: exemption.map(|e| e.until.rfc3339()),
        exempt_reason: exemption.map(|e| e.reason.clone()),
        invited_until: profile.invite.as_ref().map(|i| i.until).filter(|u| *u > now).map(UnixMillis::rfc3339),
        emergency_codes: profile.emergency.iter().filter(|code| code.until > now).count(),
        role: profile.role.map(Role::name).map(str::to_owned),
    }
}

/// One step of RFC 6238.
const TOTP_STEP_SECS: i32 = 30;
/// So much of a device's id is shown.
const DEVICE_DIGITS: usize = 8;

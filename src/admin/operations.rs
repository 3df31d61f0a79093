//! What administrators do: list, show, reset, block and unblock users, copy the store.
//!
//! Whoever calls must have made sure who `actor` is. Each act is in the audit log before it is acknowledged, and takes
//! effect at once: the store announces it to every part that holds sessions. Secrets never leave: an authenticator is
//! shown by its name and times only (nobody sees another's QR code, row E6).

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use crate::{
    audit::{Auditor, Event, Subject, Unwritten},
    base::clock::{SharedClock, UnixMillis},
    config::{App, app::Then},
    identity::name,
    model::{Realm, UserKey, UserName},
    store::{SharedStore, StoreError, UserRecord},
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

/// Why an act did not come about. The text is for the administrator.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Several realms, and none was named.
    #[error("there are several realms, and none was named")]
    WhichRealm(Vec<String>),
    /// No app has this realm.
    #[error("no app has the realm `{0}`")]
    NoRealm(String),
    /// Not a user name.
    #[error("`{0}` cannot be a user name: {1}")]
    BadName(String, name::BadName),
    /// Never met.
    #[error("`{name}` has not been seen in realm `{realm}`")]
    NoUser {
        /// Where.
        realm: String,
        /// The canonical name.
        name: String,
    },
    /// The store could not answer; the act has perhaps not come about.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log cannot be written, and `audit.on_failure` is `deny`.
    #[error(transparent)]
    Audit(#[from] Unwritten),
}

impl Failure {
    /// What the administrator can do next.
    pub fn hint(&self) -> String {
        match self {
            Self::WhichRealm(realms) => format!("add `--realm` with one of: {}", realms.join(", ")),
            Self::NoRealm(_) => "`sluis check` shows the realms of the configuration".to_owned(),
            Self::BadName(..) => "give the name as it is typed at the login".to_owned(),
            Self::NoUser { .. } => "`sluis user list PART` searches the users that have been seen".to_owned(),
            Self::Store(_) => "the server's log says more; try again when the store is back".to_owned(),
            Self::Audit(_) => {
                "make room for it: nothing is changed without it (`audit.on_failure: deny`)".to_owned()
            }
        }
    }
}

/// Administrators' acts on a store.
pub struct Operations {
    store: SharedStore,
    apps: ArcSwap<Vec<Arc<App>>>,
    auditor: Arc<Auditor>,
    clock: SharedClock,
}

impl Operations {
    /// Puts it together. `apps` tell the realms and how their names are made canonical.
    pub fn new(store: SharedStore, apps: Vec<Arc<App>>, auditor: Arc<Auditor>, clock: SharedClock) -> Self {
        Self { store, apps: ArcSwap::from_pointee(apps), auditor, clock }
    }

    /// The configuration has other apps from now on.
    pub fn set_apps(&self, apps: Vec<Arc<App>>) {
        self.apps.store(Arc::new(apps));
    }

    /// A page of at most `limit` users whose name contains `part`, after `after`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, part: &str, after: Option<&UserKey>, limit: usize) -> Result<UserPage, Failure> {
        let limit = limit.clamp(1, MOST_PER_PAGE);
        let mut records = self.store.list(part, after, limit.saturating_add(1)).await?;
        let more = records.len() > limit;
        records.truncate(limit);
        let now = self.clock.now();
        Ok(UserPage { users: records.iter().map(|record| row(record, now)).collect(), more })
    }

    /// One user with authenticators.
    ///
    /// # Errors
    /// When there is no such user, or the store fails.
    pub async fn show(&self, typed: &str, realm: Option<&str>) -> Result<UserDetails, Failure> {
        let user = self.find(typed, realm).await?;
        let record = self.met(&user).await?;
        let authenticators = self.store.authenticators(&user).await?;
        let authenticators = authenticators.iter().map(|a| AuthenticatorRow {
            id: a.id.to_string(),
            method: a.method.name().to_owned(),
            name: a.name.clone(),
            confirmed_at: a.confirmed_at.rfc3339(),
            last_used_at: a.last_used_at.map(UnixMillis::rfc3339),
            clock_off_secs: i32::from(a.drift_steps).saturating_mul(TOTP_STEP_SECS),
        });
        Ok(UserDetails { user: row(&record, self.clock.now()), authenticators: authenticators.collect() })
    }

    /// Removes every authenticator and what was counted, and ends every session: the user links anew at the next
    /// login (row B11).
    ///
    /// # Errors
    /// When there is no such user, or the store fails.
    pub async fn reset(&self, typed: &str, realm: Option<&str>, actor: &str) -> Result<ResetDone, Failure> {
        self.auditor.ready()?;
        let user = self.find(typed, realm).await?;
        self.met(&user).await?;
        let now = self.clock.now();
        let removed = self.store.reset(&user, now, now.plus(self.longest_proof())).await?;
        self.record(&Event::UserReset, Some(&user), actor).await?;
        Ok(ResetDone { realm: user.realm.as_str().to_owned(), name: user.name.as_str().to_owned(), removed })
    }

    /// Blocks a user: nothing passes any more, also in running sessions; or lifts the block (row B12). A user who has
    /// not been met can be blocked before the first login.
    ///
    /// # Errors
    /// When the name is none, or the store fails.
    pub async fn set_blocked(
        &self,
        typed: &str,
        realm: Option<&str>,
        blocked: bool,
        actor: &str,
    ) -> Result<UserRow, Failure> {
        self.auditor.ready()?;
        let user = self.find(typed, realm).await?;
        self.store.set_blocked(&user, blocked, self.clock.now()).await?;
        self.record(&Event::UserBlocked { blocked }, Some(&user), actor).await?;
        Ok(row(&self.met(&user).await?, self.clock.now()))
    }

    /// How the store is.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn state(&self) -> Result<StoreState, Failure> {
        let ping = self.store.ping().await?;
        let clock_ahead_millis = self.store.clock_ahead(&self.clock).await?;
        // Not every store counts.
        let sealed = self.store.sealed().await.unwrap_or_default();
        Ok(StoreState {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ping_micros: u64::try_from(ping.as_micros()).unwrap_or(u64::MAX),
            clock_ahead_millis,
            first: sealed.first,
            older: sealed.older,
            unknown: sealed.unknown,
        })
    }

    /// Writes a consistent copy of the store to a new file.
    ///
    /// # Errors
    /// When the file exists, cannot be written, or the store fails.
    pub async fn backup(&self, to: PathBuf, actor: &str) -> Result<(), Failure> {
        self.auditor.ready()?;
        self.store.backup(to).await?;
        self.record(&Event::StoreCopied, None, actor).await?;
        Ok(())
    }

    /// The user that an administrator means: a name as listed, else as typed at the login.
    async fn find(&self, typed: &str, realm: Option<&str>) -> Result<UserKey, Failure> {
        let app = self.app_of(realm)?;
        let listed = UserKey { realm: app.realm.clone(), name: UserName::canonical(typed) };
        if self.store.user(&listed).await?.is_some() {
            return Ok(listed);
        }
        let name =
            name::canonical(&app.login.name, typed).map_err(|why| Failure::BadName(typed.to_owned(), why))?;
        Ok(UserKey { realm: app.realm.clone(), name })
    }

    fn app_of(&self, realm: Option<&str>) -> Result<Arc<App>, Failure> {
        let apps = self.apps.load();
        let mut realms: Vec<&str> = apps.iter().map(|app| app.realm.as_str()).collect();
        realms.sort_unstable();
        realms.dedup();
        let wanted = match (realm, realms.as_slice()) {
            (Some(named), _) => named,
            (None, [only]) => only,
            (None, _) => return Err(Failure::WhichRealm(realms.into_iter().map(str::to_owned).collect())),
        };
        let found = apps.iter().find(|app| app.realm == Realm::new(wanted)).cloned();
        found.ok_or_else(|| Failure::NoRealm(wanted.to_owned()))
    }

    async fn met(&self, user: &UserKey) -> Result<UserRecord, Failure> {
        self.store.user(user).await?.ok_or_else(|| Failure::NoUser {
            realm: user.realm.as_str().to_owned(),
            name: user.name.as_str().to_owned(),
        })
    }

    /// For how long a token made now can be alive: so long its revocation must be remembered.
    fn longest_proof(&self) -> Duration {
        let apps = self.apps.load();
        let limits = apps.iter().map(|app| {
            let validity = app.policy.iter().filter_map(|rule| match &rule.then {
                Then::Require(requirement) => Some(requirement.validity),
                Then::Exempt { .. } => None,
            });
            validity.chain([app.session.max]).max().unwrap_or_default()
        });
        limits.max().unwrap_or_default().max(SHORTEST_MEMORY).saturating_add(MARGIN)
    }

    /// The event is on the disk when this answers, unless the sink fails and `audit.on_failure` lets that be.
    async fn record(&self, event: &Event, user: Option<&UserKey>, actor: &str) -> Result<(), Unwritten> {
        let subject = Subject { user: user.cloned(), actor: Some(actor.to_owned()), ..Subject::default() };
        self.auditor.grant(event, &subject).await
    }
}

fn row(record: &UserRecord, now: UnixMillis) -> UserRow {
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

/// Users on one page at most.
const MOST_PER_PAGE: usize = 1000;
/// One step of RFC 6238.
const TOTP_STEP_SECS: i32 = 30;
/// A revocation is remembered at least for this, whatever the configuration was when a token was made.
const SHORTEST_MEMORY: Duration = Duration::from_hours(24);
/// On top, for clocks that differ and settings that were longer before.
const MARGIN: Duration = Duration::from_hours(24);

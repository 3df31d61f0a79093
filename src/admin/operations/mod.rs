//! What administrators do: list, show, reset, block and unblock users, copy the store.
//!
//! Whoever calls must have made sure who `actor` is. Each act is in the audit log before it is acknowledged, and takes
//! effect at once: the store announces it to every part that holds sessions. Secrets never leave: an authenticator is
//! shown by its name and times only (nobody sees another's QR code, row E6).

mod acts;
mod administrators;
mod codes;
mod export;
mod import;
mod presence;
mod settings;
mod tokens;
mod view;

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;

pub use self::{
    administrators::AdministratorRow,
    codes::{EmergencyCodes, Invitation},
    import::{BadCell, Imported, Importing, Told},
    presence::SessionRow,
    settings::{ExemptionTyped, Settings},
    tokens::{NewToken, TokenRow, TokenState},
    view::{AuthenticatorRow, ResetDone, SettingsRow, State, StoreState, UserDetails, UserPage, UserRow},
};
use crate::{
    audit::{Auditor, Event, Subject, Unwritten},
    base::clock::SharedClock,
    base::random::SharedRandom,
    config::{App, administrators::REALM, app::Then},
    deliver::notices::{Notice, Notices, Scene},
    identity::name,
    model::{Realm, RequestId, UserKey, UserName},
    store::{SharedStore, StoreError, UserRecord, documents},
};

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
    /// Nobody resets, blocks or changes their own account: another administrator does.
    #[error("this is your own account: another administrator must do that")]
    OwnAccount,
    /// What was typed for a setting cannot be.
    #[error("{field}: {why}; found `{found}`")]
    BadSetting {
        /// Which setting.
        field: &'static str,
        /// What is allowed.
        why: &'static str,
        /// What was typed.
        found: String,
    },
    /// What was given is no list of users.
    #[error("the list cannot be read: {0}")]
    BadList(String),
    /// Nobody listens any more to what becomes of it.
    #[error("the rest was not done: whoever asked is gone")]
    Abandoned,
    /// There is no such authenticator.
    #[error("this user has no authenticator with that id")]
    NoAuthenticator,
    /// There is no such token.
    #[error("there is no token with that id")]
    NoToken,
    /// The helpdesk does nothing to administrators: it could become one by it.
    #[error("this user is an administrator, and the helpdesk may not act on one")]
    Administrator,
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
            Self::OwnAccount => "ask another administrator".to_owned(),
            Self::BadSetting { .. } => "nothing was changed".to_owned(),
            Self::BadList(_) => "nothing was changed; docs/import.md shows what a list looks like".to_owned(),
            Self::Abandoned => "the same list again goes on where it was".to_owned(),
            Self::NoAuthenticator => "`sluis user show NAME` lists them".to_owned(),
            Self::NoToken => "`sluis token list` shows them".to_owned(),
            Self::Administrator => "ask somebody with the right `admin`".to_owned(),
            Self::NoUser { .. } => "`sluis user list PART` searches the users that have been seen".to_owned(),
            Self::Store(_) => "the server's log says more; try again when the store is back".to_owned(),
            Self::Audit(_) => {
                "make room for it: nothing is changed without it (`audit.on_failure: deny`)".to_owned()
            }
        }
    }
}

/// On whose word something is done, for the audit log.
#[derive(Clone, Copy, Default)]
pub struct By<'a> {
    /// `cli:root`, `token:name`, or an administrator's name.
    pub actor: &'a str,
    /// The administrator's own account, where there is one: nobody acts on that.
    pub own: Option<&'a UserKey>,
    /// With the helpdesk's right only: administrators are not theirs to act on.
    pub is_helpdesk: bool,
    /// Why, as typed.
    pub reason: Option<&'a str>,
    /// From where.
    pub client: Option<IpAddr>,
    /// In which request.
    pub request_id: Option<&'a RequestId>,
}

/// Administrators' acts on a store.
pub struct Operations {
    store: SharedStore,
    apps: ArcSwap<Vec<Arc<App>>>,
    auditor: Arc<Auditor>,
    clock: SharedClock,
    random: SharedRandom,
    notices: Arc<Notices>,
}

impl Operations {
    /// Puts it together. `apps` tell the realms and how their names are made canonical.
    pub fn new(
        store: SharedStore,
        apps: Vec<Arc<App>>,
        auditor: Arc<Auditor>,
        clock: SharedClock,
        random: SharedRandom,
    ) -> Self {
        let notices = Notices::off();
        Self { store, apps: ArcSwap::from_pointee(apps), auditor, clock, random, notices }
    }

    /// The same, telling users what is done to their accounts.
    #[must_use]
    pub fn with_notices(self, notices: Arc<Notices>) -> Self {
        Self { notices, ..self }
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
        let (mut records, mut after) = (Vec::new(), after.cloned());
        // Accounts of administrators stand in the same store, and are no users.
        loop {
            let wanted = limit.saturating_add(1).saturating_sub(records.len());
            let page = self.store.list(part, after.as_ref(), wanted).await?;
            let is_last = page.len() < wanted;
            after = page.last().map(|last| last.user.clone());
            records.extend(page.into_iter().filter(|r| r.user.realm.as_str() != REALM));
            if is_last || records.len() > limit {
                break;
            }
        }
        let more = records.len() > limit;
        records.truncate(limit);
        let now = self.clock.now();
        Ok(UserPage { users: records.iter().map(|record| view::row(record, now)).collect(), more })
    }

    /// One user with authenticators.
    ///
    /// # Errors
    /// When there is no such user, or the store fails.
    pub async fn show(&self, typed: &str, realm: Option<&str>) -> Result<UserDetails, Failure> {
        let user = self.find(typed, realm).await?;
        let record = self.met(&user).await?;
        let (authenticators, profile) = tokio::try_join!(
            self.store.authenticators(&user),
            documents::profile(self.store.as_ref(), &user)
        )?;
        let now = self.clock.now();
        Ok(UserDetails {
            user: view::row(&record, now),
            authenticators: authenticators.iter().map(view::authenticator).collect(),
            settings: view::settings(&profile, now),
        })
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
    pub async fn backup(&self, to: PathBuf, by: &By<'_>) -> Result<(), Failure> {
        self.auditor.ready()?;
        self.store.backup(to).await?;
        self.record(&Event::StoreCopied, None, by).await?;
        Ok(())
    }

    /// Puts something into the audit log that changes nothing, before it is given out.
    ///
    /// # Errors
    /// When the audit log cannot be written, and `audit.on_failure` is `deny`.
    pub async fn note(&self, event: &Event, by: &By<'_>) -> Result<(), Failure> {
        Ok(self.record(event, None, by).await?)
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

    /// Tells a user what was done. From which address is an administrator's own matter.
    fn tell(&self, user: &UserKey, notice: Notice) {
        self.notices.tell(user, notice, self.scene(user));
    }

    fn scene(&self, user: &UserKey) -> Scene {
        let apps = self.apps.load();
        apps.iter().find(|app| app.realm == user.realm).map(|app| Scene::at(app)).unwrap_or_default()
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
    async fn record(&self, event: &Event, user: Option<&UserKey>, by: &By<'_>) -> Result<(), Unwritten> {
        let subject = Subject {
            user: user.cloned(),
            actor: Some(by.actor.to_owned()),
            reason: by.reason.map(str::to_owned),
            client: by.client,
            request_id: by.request_id.cloned(),
            ..Subject::default()
        };
        self.auditor.grant(event, &subject).await
    }
}

/// Users on one page at most.
const MOST_PER_PAGE: usize = 1000;
/// A revocation is remembered at least for this, whatever the configuration was when a token was made.
const SHORTEST_MEMORY: Duration = Duration::from_hours(24);
/// On top, for clocks that differ and settings that were longer before.
const MARGIN: Duration = Duration::from_hours(24);

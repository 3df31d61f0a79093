//! What is kept, as records that can move from one store to another.
//!
//! A copy reads pages of [`Record`]s, merges each with what the target has under the same [`Key`], and writes it; so it can
//! be cut off anywhere and started again. [`Record::merged`] promises: a used code stays used, an epoch never goes back, a
//! revocation, block or lock never vanishes, and an authenticator that one side has voided does not come back from the other.
//! As long as a target is incomplete it is marked, and no server may open it.
//!
//! Secrets travel open, between two backends in one process: each seals them under the key ring it was opened with. A record
//! must never be printed or written anywhere else; it has no `Debug`.

use async_trait::async_trait;

use super::{AttemptState, Collection, Document, StoreResult};
use crate::{
    base::clock::UnixMillis,
    model::{AppId, Authenticator, DeviceId, LoginId, SessionId, UserKey},
};

/// A sort of records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Users, with authenticators, locks and blocks.
    Users,
    /// Devices: owners and epochs.
    Devices,
    /// Sessions that have ended before their time.
    EndedSessions,
    /// Logins that were completed.
    ConsumedLogins,
    /// Names of the apps' cookies that are sealed.
    SealedNames,
    /// Documents: what is set for users, where they are logged in, tokens.
    Documents,
}

impl Kind {
    /// All, in the order in which they are copied.
    pub const ALL: [Self; 6] = [
        Self::Users,
        Self::Devices,
        Self::EndedSessions,
        Self::ConsumedLogins,
        Self::SealedNames,
        Self::Documents,
    ];

    /// As people read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Devices => "devices",
            Self::EndedSessions => "ended sessions",
            Self::ConsumedLogins => "completed logins",
            Self::SealedNames => "names of sealed cookies",
            Self::Documents => "documents",
        }
    }
}

/// What a record is kept under.
#[derive(Clone, PartialEq, Eq)]
pub enum Key {
    /// A user.
    User(UserKey),
    /// A device.
    Device(DeviceId),
    /// An ended session.
    Session(SessionId),
    /// A completed login.
    Login(LoginId),
    /// A name of a sealed cookie.
    SealedName(AppId, String),
    /// A document.
    Document(Collection, String),
}

/// One thing that is kept.
#[derive(Clone, PartialEq)]
pub enum Record {
    /// A user.
    User(Box<Person>),
    /// A device.
    Device(Device),
    /// A session that has ended.
    Session {
        /// Which one.
        id: SessionId,
        /// From when on this no longer matters.
        until: UnixMillis,
    },
    /// A login that was completed.
    Login {
        /// Which one.
        id: LoginId,
        /// From when on this no longer matters.
        until: UnixMillis,
    },
    /// A name of a cookie that is sealed.
    SealedName {
        /// Of which app.
        app: AppId,
        /// The name.
        name: String,
    },
    /// A document.
    Document {
        /// Of which sort.
        of: Collection,
        /// Its name.
        name: String,
        /// What it says. Of two with one name the one that is copied counts.
        document: Document,
    },
}

/// A user as kept.
#[derive(Clone)]
pub struct Person {
    /// Who.
    pub user: UserKey,
    /// First seen; `None` for one who was only counted or reset.
    pub first_seen_at: Option<UnixMillis>,
    /// Last completed login.
    pub last_login_at: Option<UnixMillis>,
    /// May not pass.
    pub blocked: bool,
    /// Of the last change of that, as [`crate::model::Revocation::Blocked`] has it.
    pub block_version: u64,
    /// Wrong answers and locks.
    pub attempts: AttemptState,
    /// What was proved earlier does not count.
    pub void: Option<Void>,
    /// Confirmed authenticators, oldest first.
    pub authenticators: Vec<Authenticator>,
}

/// All that was proved before `before` is void.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Void {
    /// The moment.
    pub before: UnixMillis,
    /// From when on this no longer matters.
    pub until: UnixMillis,
}

/// A device as kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Device {
    /// Which one.
    pub id: DeviceId,
    /// Who completed the last login on it.
    pub owner: UserKey,
    /// The epoch that counts.
    pub epoch: u64,
    /// From when on no token of this owner can be alive.
    pub until: UnixMillis,
    /// From when on no token of an earlier owner can be alive; 0 when there was none.
    pub revoked_until: UnixMillis,
}

impl Record {
    /// What it is kept under.
    pub fn key(&self) -> Key {
        match self {
            Self::User(person) => Key::User(person.user.clone()),
            Self::Device(device) => Key::Device(device.id),
            Self::Session { id, .. } => Key::Session(*id),
            Self::Login { id, .. } => Key::Login(*id),
            Self::SealedName { app, name } => Key::SealedName(app.clone(), name.clone()),
            Self::Document { of, name, .. } => Key::Document(*of, name.clone()),
        }
    }

    /// Without what no longer matters at `now`; `None` when nothing is left.
    pub fn at(mut self, now: UnixMillis) -> Option<Self> {
        match &mut self {
            Self::User(person) => {
                person.void = person.void.filter(|void| void.until > now);
                if person.is_blank() {
                    return None;
                }
            }
            Self::Device(Device { until, .. }) | Self::Session { until, .. } | Self::Login { until, .. } => {
                if *until <= now {
                    return None;
                }
            }
            Self::Document { document, .. } => {
                if document.until.is_some_and(|until| until <= now) {
                    return None;
                }
            }
            Self::SealedName { .. } => {}
        }
        Some(self)
    }

    /// Both in one: whatever either forbids stays forbidden. Records of different keys are not merged: the other is
    /// ignored.
    #[must_use]
    pub fn merged(self, other: &Self) -> Self {
        match (self, other) {
            (Self::User(a), Self::User(b)) if a.user == b.user => Self::User(Box::new(a.merged(b))),
            (Self::Device(a), Self::Device(b)) if a.id == b.id => Self::Device(a.merged(b)),
            (Self::Session { id, until }, Self::Session { id: other, until: later }) if id == *other => {
                Self::Session { id, until: until.max(*later) }
            }
            (Self::Login { id, until }, Self::Login { id: other, until: later }) if id == *other => {
                Self::Login { id, until: until.max(*later) }
            }
            (own, _) => own,
        }
    }
}

impl Person {
    /// Nothing is known of this user: a row that only something else points at.
    fn is_blank(&self) -> bool {
        self.first_seen_at.or(self.last_login_at).is_none()
            && !self.blocked
            && self.attempts == AttemptState::default()
            && self.void.is_none()
            && self.authenticators.is_empty()
    }

    fn merged(mut self, other: &Self) -> Self {
        let voided = |void: Option<Void>, a: &Authenticator| void.is_some_and(|v| a.confirmed_at < v.before);
        let (own_void, other_void) = (self.void, other.void);
        // Only one side has it: the other may have removed it by a reset.
        self.authenticators
            .retain(|a| other.authenticators.iter().any(|b| b.id == a.id) || !voided(other_void, a));
        for theirs in &other.authenticators {
            match self.authenticators.iter_mut().find(|a| a.id == theirs.id) {
                Some(own) => {
                    if theirs.last_used_at > own.last_used_at {
                        own.last_used_at = theirs.last_used_at;
                        own.drift_steps = theirs.drift_steps;
                    }
                    own.last_step = own.last_step.max(theirs.last_step);
                }
                None if voided(own_void, theirs) => {}
                None => self.authenticators.push(theirs.clone()),
            }
        }
        // `None` is less than any moment.
        self.last_login_at = self.last_login_at.max(other.last_login_at);
        self.first_seen_at = match (self.first_seen_at, other.first_seen_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.blocked |= other.blocked;
        self.block_version = self.block_version.max(other.block_version);
        self.attempts = AttemptState {
            failures: self.attempts.failures.max(other.attempts.failures),
            wait_until: self.attempts.wait_until.max(other.attempts.wait_until),
        };
        self.void = match (own_void, other_void) {
            (Some(a), Some(b)) => Some(Void { before: a.before.max(b.before), until: a.until.max(b.until) }),
            (a, b) => a.or(b),
        };
        self
    }
}

impl PartialEq for Person {
    fn eq(&self, other: &Self) -> bool {
        let same = |a: &Authenticator, b: &Authenticator| {
            a.id == b.id
                && a.method == b.method
                && a.name == b.name
                && a.confirmed_at == b.confirmed_at
                && a.last_used_at == b.last_used_at
                && a.secret.expose() == b.secret.expose()
                && a.last_step == b.last_step
                && a.drift_steps == b.drift_steps
        };
        self.user == other.user
            && self.first_seen_at == other.first_seen_at
            && self.last_login_at == other.last_login_at
            && self.blocked == other.blocked
            && self.block_version == other.block_version
            && self.attempts == other.attempts
            && self.void == other.void
            && self.authenticators.len() == other.authenticators.len()
            && self.authenticators.iter().zip(&other.authenticators).all(|(a, b)| same(a, b))
    }
}

impl Device {
    fn merged(self, other: &Self) -> Self {
        if self == *other {
            return self;
        }
        let until = self.until.max(other.until);
        let revoked_until = self.revoked_until.max(other.revoked_until);
        let (newer, older) = if self.epoch >= other.epoch { (&self, other) } else { (other, &self) };
        if newer.epoch == older.epoch && newer.owner == older.owner {
            return Self { until, revoked_until, ..self };
        }
        // Tokens of the older side are to die; where both sides gave the same epoch to two people, those of both.
        let epoch = if newer.epoch == older.epoch { newer.epoch.saturating_add(1) } else { newer.epoch };
        Self { id: self.id, owner: newer.owner.clone(), epoch, until, revoked_until: until }
    }
}

/// Where a page ended: opaque, of the backend that made it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cursor(pub Vec<u8>);

/// A piece of what is kept.
pub struct Page {
    /// The records, each at least once over all pages.
    pub records: Vec<Record>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Cursor>,
}

/// What a store has, before something is copied into it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// Nothing.
    Nothing,
    /// The beginning of a copy that was cut off, into a store that had nothing (`alone`) or something before.
    Unfinished {
        /// Nothing else was there.
        alone: bool,
    },
    /// Data of its own.
    Data,
}

/// A store out of which and into which things are copied. Only while no server uses it.
#[async_trait]
pub trait Portable: Send + Sync {
    /// What is there.
    async fn content(&self) -> StoreResult<Content>;

    /// Whether a server uses it, as far as the backend can tell; one that locks its data is not opened at all then.
    async fn in_use(&self) -> StoreResult<bool> {
        Ok(false)
    }

    /// Marks it as incomplete: from now on no server may open it. `alone`: nothing was there before.
    async fn begin_import(&self, alone: bool) -> StoreResult<()>;

    /// Takes the mark off.
    async fn finish_import(&self) -> StoreResult<()>;

    /// The next page of one kind, of about `limit` records.
    async fn export(&self, kind: Kind, after: Option<&Cursor>, limit: usize) -> StoreResult<Page>;

    /// What is kept under these keys, in their order.
    async fn lookup(&self, keys: &[Key]) -> StoreResult<Vec<Option<Record>>>;

    /// Writes these, durably, in place of what is kept under the same keys.
    async fn put(&self, records: Vec<Record>) -> StoreResult<()>;

    /// No device that is met anew starts below this epoch.
    async fn epoch_floor(&self) -> StoreResult<u64>;

    /// Raises it; never lowers it.
    async fn raise_epoch_floor(&self, floor: u64) -> StoreResult<()>;
}

//! What people are told by mail: a closed list.
//!
//! Whoever does something calls [`Notices::tell`] and goes on: it waits for nothing and cannot fail. A [`Courier`] finds out
//! where the person can be reached and in which language, writes the message and puts it in the outbox. A person without
//! an address is told nothing, which is counted.
//!
//! What a message must never have: a secret other than the activation code it is for, a name that its user or a visitor
//! made up (of an authenticator, of a browser), an address made from what a request said.

mod words;

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use tokio::sync::mpsc;

pub use words::write;

use super::{letter::Letter, mail::Mailer, outbox::Outbox};
use crate::{
    base::{
        clock::{SharedClock, UnixMillis},
        random::SharedRandom,
        secret::SecretString,
    },
    config::{App, Mail},
    i18n::Language,
    metrics::{MailOutcome, Metrics},
    model::{Method, Profile, Role, UserKey, agent},
    store::{SharedStore, StoreResult, documents},
};

/// What has happened.
#[derive(Clone)]
pub enum Notice {
    /// An authenticator was linked.
    AuthenticatorAdded {
        /// Of which kind.
        method: Method,
    },
    /// One was removed.
    AuthenticatorRemoved {
        /// Of which kind.
        method: Method,
        /// By whom.
        by: Who,
    },
    /// Recovery codes were made.
    RecoveryCodesMade,
    /// One of them was used.
    RecoveryCodeUsed,
    /// All were removed.
    Reset,
    /// Every session has ended.
    SignedOut {
        /// By whom.
        by: Who,
    },
    /// Wrong codes, after a right password.
    LockedOut {
        /// Until somebody helps, and not for a while only.
        hard: bool,
    },
    /// A code by which a first authenticator can be linked.
    Invitation {
        /// The code.
        code: SecretString,
        /// When it ends.
        until: UnixMillis,
    },
    /// Where the user can be reached has changed; also the former address is told.
    ContactChanged {
        /// The address.
        email: bool,
        /// The telephone number.
        number: bool,
    },
    /// A login on a device on which the user never was.
    NewDevice,
    /// Somebody got in with an emergency code: for administrators.
    EmergencyAccess {
        /// Who.
        user: UserKey,
    },
    /// Nothing: somebody wants to see whether mail arrives.
    Test,
}

/// By whom something was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// The user.
    User,
    /// An administrator.
    Administrator,
}

/// Where it happened.
#[derive(Clone, Default)]
pub struct Scene {
    /// The app's name.
    app: Option<String>,
    /// Its address, as configured: never what a request said.
    link: Option<String>,
    client: Option<IpAddr>,
    browser: Option<String>,
}

impl Scene {
    /// At this app.
    pub fn at(app: &App) -> Self {
        let host = app.hosts.iter().find(|host| !host.contains('*'));
        Self {
            app: Some(app.name.clone()),
            link: host.map(|host| format!("https://{host}/")),
            ..Self::default()
        }
    }

    /// From this address.
    #[must_use]
    pub fn from(self, client: impl Into<Option<IpAddr>>) -> Self {
        Self { client: client.into().map(|client| client.to_canonical()), ..self }
    }

    /// With this `User-Agent`, of which only the well-known is told.
    #[must_use]
    pub fn with(self, user_agent: &str) -> Self {
        Self { browser: agent::named(user_agent), ..self }
    }
}

/// Tells people. Cheap to hold; [`Notices::off`] tells nobody.
pub struct Notices(Option<Desk>);

/// Where notices are handed in.
struct Desk {
    queue: mpsc::Sender<Told>,
    outbox: Arc<Outbox>,
    clock: SharedClock,
    metrics: Arc<Metrics>,
}

/// What a courier has to do.
struct Told {
    to: To,
    notice: Notice,
    scene: Scene,
    at: UnixMillis,
}

enum To {
    /// Where the profile says.
    User(UserKey),
    /// Where the profile said before.
    Formerly(UserKey, String),
    Administrators,
}

impl Notices {
    /// Tells nobody.
    pub fn off() -> Arc<Self> {
        Arc::new(Self(None))
    }

    /// Tells by this mailer, as soon as the courier runs; by none, nobody, until there is one.
    pub fn new(
        mailer: Option<Mailer>,
        store: SharedStore,
        clock: SharedClock,
        random: SharedRandom,
        metrics: Arc<Metrics>,
    ) -> (Arc<Self>, Courier) {
        let (queue, told) = mpsc::channel(WAITING);
        let outbox = Outbox::new(mailer, Arc::clone(&metrics));
        let courier = Courier {
            told,
            outbox: Arc::clone(&outbox),
            store,
            random,
            metrics: Arc::clone(&metrics),
            warned: HashMap::new(),
        };
        (Arc::new(Self(Some(Desk { queue, outbox, clock, metrics }))), courier)
    }

    /// From now on by this one.
    pub fn replace(&self, mailer: Option<Mailer>) {
        if let Some(desk) = &self.0 {
            desk.outbox.replace(mailer);
        }
    }

    /// Tells a user what has happened.
    pub fn tell(&self, user: &UserKey, notice: Notice, scene: Scene) {
        self.queue(To::User(user.clone()), notice, scene);
    }

    /// Tells a user at an address that was theirs.
    pub fn tell_formerly(&self, user: &UserKey, address: &str, notice: Notice, scene: Scene) {
        self.queue(To::Formerly(user.clone(), address.to_owned()), notice, scene);
    }

    /// Tells the administrators.
    pub fn tell_administrators(&self, notice: Notice, scene: Scene) {
        self.queue(To::Administrators, notice, scene);
    }

    fn queue(&self, to: To, notice: Notice, scene: Scene) {
        let Some(desk) = self.0.as_ref().filter(|desk| desk.outbox.mailer().is_some()) else { return };
        let told = Told { to, notice, scene, at: desk.clock.now() };
        if desk.queue.try_send(told).is_err() {
            desk.metrics.mail.outcomes.count(MailOutcome::Full);
            tracing::warn!(waiting = WAITING, "a notice was dropped: too many wait already");
        }
    }
}

/// Writes what is to be told, and sends it.
pub struct Courier {
    told: mpsc::Receiver<Told>,
    outbox: Arc<Outbox>,
    store: SharedStore,
    random: SharedRandom,
    metrics: Arc<Metrics>,
    /// Whom it told of wrong codes, and when: an attacker must not fill anybody's mailbox.
    warned: HashMap<UserKey, UnixMillis>,
}

impl Courier {
    /// Runs until nobody can tell it anything.
    pub async fn run(mut self) {
        while let Some(told) = self.told.recv().await {
            let Some(mailer) = self.outbox.mailer() else { continue };
            if self.is_too_soon(&told) {
                self.metrics.mail.outcomes.count(MailOutcome::TooSoon);
                continue;
            }
            let people = match self.people(&told.to, mailer.config()).await {
                Ok(people) => people,
                Err(error) => {
                    self.metrics.mail.outcomes.count(MailOutcome::Failed);
                    tracing::error!(%error, "nobody was told: where people can be reached is not known");
                    continue;
                }
            };
            if people.is_empty() {
                self.metrics.mail.outcomes.count(MailOutcome::NoAddress);
                tracing::debug!("nobody was told: no address is known");
            }
            for person in people {
                self.send(mailer.config(), &told, &person);
            }
        }
    }

    fn send(&self, mail: &Mail, told: &Told, person: &Person) {
        let content = write(&told.notice, &told.scene, told.at, person, &mail.time_zone);
        let letter = content.map_err(|error| error.to_string()).and_then(|content| {
            Letter::new(mail, &person.address, content, told.at, self.random.as_ref())
                .map_err(|error| error.to_string())
        });
        match letter {
            Ok(letter) => self.outbox.put(letter),
            Err(error) => {
                self.metrics.mail.outcomes.count(MailOutcome::Failed);
                tracing::error!(error, "a notice could not be written");
            }
        }
    }

    async fn people(&self, to: &To, mail: &Mail) -> StoreResult<Vec<Person>> {
        let language = |profile: &Profile| {
            profile.language.as_deref().and_then(Language::parse).unwrap_or(mail.language)
        };
        let user = match to {
            To::Administrators if mail.administrators.is_empty() => return self.administrators(mail).await,
            To::Administrators => {
                let people = mail.administrators.iter().map(|address| Person {
                    address: address.clone(),
                    name: None,
                    language: mail.language,
                });
                return Ok(people.collect());
            }
            To::User(user) | To::Formerly(user, _) => user,
        };
        let profile = documents::profile(self.store.as_ref(), user).await?;
        let address = match to {
            To::Formerly(_, address) => Some(address.clone()),
            _ => profile.email.clone(),
        };
        let person = |address| Person {
            address,
            name: Some(user.name.as_str().to_owned()),
            language: language(&profile),
        };
        Ok(address.map(person).into_iter().collect())
    }

    /// Every account with the role and an address.
    async fn administrators(&self, mail: &Mail) -> StoreResult<Vec<Person>> {
        let of = documents::Collection::Profiles;
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.store.documents(of, after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(found) };
            let last = last.clone();
            for (name, document) in &page {
                let profile: Profile = documents::read(of, document)?;
                let Some(address) = profile.email.filter(|_| profile.role == Some(Role::Admin)) else {
                    continue;
                };
                found.push(Person {
                    address,
                    name: name.split_once('/').map(|(_, name)| name.to_owned()),
                    language: profile.language.as_deref().and_then(Language::parse).unwrap_or(mail.language),
                });
            }
            after = Some(last);
        }
    }

    fn is_too_soon(&mut self, told: &Told) -> bool {
        let (To::User(user), Notice::LockedOut { hard: false }) = (&told.to, &told.notice) else {
            return false;
        };
        self.warned.retain(|_, at| told.at.since(*at) < WARNED_AGAIN);
        if self.warned.contains_key(user) {
            return true;
        }
        if self.warned.len() < MOST_WARNED {
            self.warned.insert(user.clone(), told.at);
        }
        false
    }
}

/// Who is told.
pub struct Person {
    /// Where.
    pub address: String,
    /// The user name.
    pub name: Option<String>,
    /// How.
    pub language: Language,
}

/// Notices that wait for the courier.
const WAITING: usize = 1000;
/// Profiles read at once.
const PAGE: usize = 500;
/// How often at most somebody is told of wrong codes.
const WARNED_AGAIN: Duration = Duration::from_secs(3600);
const MOST_WARNED: usize = 100_000;

#[cfg(test)]
mod tests;

//! A small world for the tests of this module: a store, a clock in the hand, and browsers with a cookie jar.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use http::HeaderValue;

use super::{
    admission::{Admission, Admissions, Completion, FirstFactor, Origin},
    cookie::{Kind, Names},
    live::Live,
    standing::Standings,
    token::{Pending, Session, verify},
};
use crate::{
    base::{
        clock::{ManualClock, UnixMillis},
        keyring::Keyring,
        random::SystemRandom,
        secret::SecretBytes,
    },
    config::{App, sample},
    factor::Proof,
    model::{
        AppId, Authenticator, AuthenticatorId, DeviceId, LoginId, Method, MethodSet, OwnCookies, SessionId,
        UserKey, UserName,
    },
    store::{
        Added, AttemptState, Attempts, Collection, Devices, Document, Documents, Enrolments,
        NewAuthenticator, OneTime, Ownership, RevocationSink, Revocations, SealedNames, SharedStore, Spare,
        StoreError, StoreResult, Upkeep, UserRecord, Users, memory,
    },
};

pub(super) const CLIENT: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));
/// Where a login is completed from, where the cookies do not matter.
pub(super) const BARE: Origin<'static> = Origin {
    cookies: OwnCookies { device: None, trust: None, login: None, session: None },
    client: CLIENT,
    agent: "test",
};
pub(super) const NAMES: Names = Names::new(false);
pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// One replica over a store.
pub(super) struct World {
    pub store: SharedStore,
    pub keyring: Arc<Keyring>,
    pub live: Arc<Live>,
    pub clock: Arc<ManualClock>,
    pub admissions: Admissions,
    pub standings: Standings,
}

impl World {
    pub async fn new() -> Self {
        Self::over(memory::open(), ManualClock::at(UnixMillis::from_secs(1_800_000_000))).await
    }

    /// Another replica, or the same one after a restart: same keys, same store, nothing in memory.
    pub async fn again(&self) -> Self {
        Self::over(Arc::clone(&self.store), Arc::clone(&self.clock)).await
    }

    pub async fn over(store: SharedStore, clock: Arc<ManualClock>) -> Self {
        let random: Arc<SystemRandom> = Arc::new(SystemRandom);
        let keyring = Arc::new(Keyring::new(&[SecretBytes::new(vec![7; 32])], random.clone()).unwrap());
        let live = Arc::new(Live::default());
        store.follow(live.clone(), clock_now(&clock)).await.unwrap();
        let admissions =
            Admissions::new(store.clone(), keyring.clone(), live.clone(), NAMES, clock.clone(), random);
        let standings = Standings::new(keyring.clone(), live.clone());
        Self { store, keyring, live, clock, admissions, standings }
    }

    pub fn now(&self) -> UnixMillis {
        clock_now(&self.clock)
    }

    /// The app accepted this user's password.
    pub async fn password(&self, app: &App, browser: &mut Browser, user: &str) -> FirstFactor {
        let before = browser.clone();
        let origin = Origin { cookies: before.own(), client: CLIENT, agent: "test" };
        let result =
            self.admissions.first_factor(app, UserName::canonical(user), origin, "/clients").await.unwrap();
        match &result {
            FirstFactor::Admitted(admission) => browser.take(&admission.cookies),
            FirstFactor::Pending { cookies, .. } => browser.take(cookies),
            FirstFactor::Blocked | FirstFactor::Elsewhere | FirstFactor::TooMany => {}
        }
        result
    }

    /// The pending user of this browser typed a right code.
    pub async fn code(&self, app: &App, browser: &mut Browser) -> Option<Admission> {
        let pending = self.pending(app, browser)?;
        let proof = Proof::for_test(pending.user.clone(), Method::Totp, self.now());
        match self.admissions.complete(app, pending, proof, BARE).await.unwrap() {
            Completion::Admitted(admission) => {
                browser.take(&admission.cookies);
                Some(admission)
            }
            Completion::Void => None,
        }
    }

    /// Password and code.
    pub async fn login(&self, app: &App, browser: &mut Browser, user: &str) -> Admission {
        match self.password(app, browser, user).await {
            FirstFactor::Admitted(admission) => admission,
            FirstFactor::Pending { .. } => self.code(app, browser).await.expect("a right code"),
            FirstFactor::Blocked | FirstFactor::Elsewhere | FirstFactor::TooMany => {
                panic!("{user} may not log in")
            }
        }
    }

    pub fn pending(&self, app: &App, browser: &Browser) -> Option<Pending> {
        self.standings.pending(app, &browser.own(), self.now())
    }

    pub fn passes(&self, app: &App, browser: &Browser) -> bool {
        self.standings.session(app, &browser.own(), self.now()).is_some()
    }

    /// What is written in a browser's session cookie, alive or not.
    pub fn session(&self, browser: &Browser) -> Session {
        verify(&self.keyring, browser.session.as_ref().unwrap()).unwrap()
    }
}

fn clock_now(clock: &ManualClock) -> UnixMillis {
    crate::base::clock::Clock::now(clock)
}

/// An app whose proofs are remembered for so long.
pub(super) fn app(validity: Duration) -> App {
    let mut app = sample::app();
    app.policy[0].then = crate::config::app::Then::Require(sample::requirement(validity, false));
    app
}

pub(super) fn exempting(app: &mut App, user: &str) {
    let rule = crate::config::app::Rule {
        users: vec![user.to_owned()],
        networks: Vec::new(),
        then: crate::config::app::Then::Exempt { reason: "a test".to_owned() },
    };
    app.policy.insert(0, rule);
}

pub(super) fn key(app: &App, user: &str) -> UserKey {
    UserKey { realm: app.realm.clone(), name: UserName::canonical(user) }
}

/// Whose `Set-Cookie` are kept as a browser would. A clone is a saved copy of all its cookies.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Browser {
    pub device: Option<String>,
    pub trust: Option<String>,
    pub login: Option<String>,
    pub session: Option<String>,
}

impl Browser {
    pub fn own(&self) -> OwnCookies<'_> {
        OwnCookies {
            device: self.device.as_deref(),
            trust: self.trust.as_deref(),
            login: self.login.as_deref(),
            session: self.session.as_deref(),
        }
    }

    pub fn take(&mut self, cookies: &[HeaderValue]) {
        for cookie in cookies {
            let text = cookie.to_str().unwrap();
            assert!(text.len() <= super::cookie::MAX_BYTES, "a browser would drop it");
            let (pair, attributes) = text.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            let kind = Kind::ALL.iter().find(|kind| NAMES.name(**kind) == name).unwrap();
            let place = match kind {
                Kind::Device => &mut self.device,
                Kind::Trust => &mut self.trust,
                Kind::Login => &mut self.login,
                Kind::Session => &mut self.session,
            };
            *place = (!attributes.contains("Max-Age=0;")).then(|| value.to_owned());
        }
    }
}

/// A store whose verbs fail from the n-th call on (counted from 0); until then it is the one inside.
pub(super) struct Failing {
    pub inner: SharedStore,
    left: AtomicUsize,
}

impl Failing {
    pub fn after(inner: SharedStore, calls: usize) -> Arc<Self> {
        Arc::new(Self { inner, left: AtomicUsize::new(calls) })
    }

    /// Healthy for so many calls from now on.
    pub fn heal(&self, calls: usize) {
        self.left.store(calls, Ordering::SeqCst);
    }

    fn step(&self) -> StoreResult<()> {
        self.left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            .map(|_| ())
            .map_err(|_| StoreError("out of order".to_owned()))
    }
}

#[async_trait]
impl Enrolments for Failing {
    async fn authenticators(&self, user: &UserKey) -> StoreResult<Vec<Authenticator>> {
        self.step()?;
        self.inner.authenticators(user).await
    }

    async fn add(&self, user: &UserKey, new: NewAuthenticator) -> StoreResult<Added> {
        self.step()?;
        self.inner.add(user, new).await
    }

    async fn advance_step(
        &self,
        user: &UserKey,
        id: AuthenticatorId,
        step: u64,
        drift_steps: i8,
        now: UnixMillis,
    ) -> StoreResult<bool> {
        self.step()?;
        self.inner.advance_step(user, id, step, drift_steps, now).await
    }

    async fn rename(&self, user: &UserKey, id: AuthenticatorId, name: &str) -> StoreResult<bool> {
        self.step()?;
        self.inner.rename(user, id, name).await
    }

    async fn remove_spare(
        &self,
        user: &UserKey,
        id: AuthenticatorId,
        counting: MethodSet,
    ) -> StoreResult<Spare> {
        self.step()?;
        self.inner.remove_spare(user, id, counting).await
    }

    async fn remove(&self, user: &UserKey, id: AuthenticatorId) -> StoreResult<bool> {
        self.step()?;
        self.inner.remove(user, id).await
    }
}

#[async_trait]
impl Users for Failing {
    async fn note_seen(&self, user: &UserKey, login: bool, now: UnixMillis) -> StoreResult<()> {
        self.step()?;
        self.inner.note_seen(user, login, now).await
    }

    async fn user(&self, user: &UserKey) -> StoreResult<Option<UserRecord>> {
        self.step()?;
        self.inner.user(user).await
    }

    async fn list(&self, part: &str, after: Option<&UserKey>, limit: usize) -> StoreResult<Vec<UserRecord>> {
        self.step()?;
        self.inner.list(part, after, limit).await
    }

    async fn reset(&self, user: &UserKey, now: UnixMillis, until: UnixMillis) -> StoreResult<usize> {
        self.step()?;
        self.inner.reset(user, now, until).await
    }

    async fn sign_out(&self, user: &UserKey, now: UnixMillis, until: UnixMillis) -> StoreResult<()> {
        self.step()?;
        self.inner.sign_out(user, now, until).await
    }

    async fn set_blocked(&self, user: &UserKey, blocked: bool, now: UnixMillis) -> StoreResult<()> {
        self.step()?;
        self.inner.set_blocked(user, blocked, now).await
    }
}

#[async_trait]
impl Documents for Failing {
    async fn document(&self, of: Collection, name: &str) -> StoreResult<Option<Document>> {
        self.step()?;
        self.inner.document(of, name).await
    }

    async fn swap_document(
        &self,
        of: Collection,
        name: &str,
        expected: Option<Document>,
        new: Option<Document>,
    ) -> StoreResult<bool> {
        self.step()?;
        self.inner.swap_document(of, name, expected, new).await
    }

    async fn documents(
        &self,
        of: Collection,
        after: Option<&str>,
        limit: usize,
    ) -> StoreResult<Vec<(String, Document)>> {
        self.step()?;
        self.inner.documents(of, after, limit).await
    }
}

#[async_trait]
impl OneTime for Failing {
    async fn consume(&self, login: LoginId, until: UnixMillis) -> StoreResult<bool> {
        self.step()?;
        self.inner.consume(login, until).await
    }
}

#[async_trait]
impl Attempts for Failing {
    async fn attempts(&self, user: &UserKey) -> StoreResult<AttemptState> {
        self.step()?;
        self.inner.attempts(user).await
    }

    async fn swap_attempts(&self, user: &UserKey, old: AttemptState, new: AttemptState) -> StoreResult<bool> {
        self.step()?;
        self.inner.swap_attempts(user, old, new).await
    }
}

#[async_trait]
impl Devices for Failing {
    async fn own(&self, device: DeviceId, user: &UserKey, until: UnixMillis) -> StoreResult<Ownership> {
        self.step()?;
        self.inner.own(device, user, until).await
    }
}

#[async_trait]
impl Revocations for Failing {
    async fn end_session(&self, id: SessionId, until: UnixMillis) -> StoreResult<()> {
        self.step()?;
        self.inner.end_session(id, until).await
    }

    async fn follow(&self, sink: Arc<dyn RevocationSink>, now: UnixMillis) -> StoreResult<()> {
        self.step()?;
        self.inner.follow(sink, now).await
    }
}

#[async_trait]
impl SealedNames for Failing {
    async fn learn_sealed_name(&self, app: &AppId, name: &str) -> StoreResult<()> {
        self.step()?;
        self.inner.learn_sealed_name(app, name).await
    }

    async fn sealed_names(&self) -> StoreResult<Vec<(AppId, String)>> {
        self.step()?;
        self.inner.sealed_names().await
    }
}

#[async_trait]
impl Upkeep for Failing {
    async fn ping(&self) -> StoreResult<Duration> {
        self.step()?;
        self.inner.ping().await
    }

    async fn prune(&self, now: UnixMillis) -> StoreResult<usize> {
        self.step()?;
        self.inner.prune(now).await
    }

    async fn backup(&self, to: std::path::PathBuf) -> StoreResult<()> {
        self.step()?;
        self.inner.backup(to).await
    }
}

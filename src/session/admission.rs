//! From a first factor to a session: the one place where a session, a trust or a pending login is made (I2),
//! where a device changes hands (I3) and where a session ends.
//!
//! The order of what is kept matters. A running session ends before anything else is asked. A pending login is
//! consumed before the device is taken: trouble in between costs the user a second login, never anybody a session,
//! and a login played again takes no device. The device is taken last: when its answer is there, everything of
//! anybody else on it is dead everywhere, and only then are tokens made, in its epoch.

mod cookies;
mod emergency;
mod listed;
mod own;
mod step_up;

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::HeaderValue;

use super::{
    cookie::{Kind, Names},
    live::Live,
    standing::{self, LiveSession, PENDING_LIVES},
    target,
    token::{self, Pending, Purpose, Session, Trust, issue},
};
use crate::{
    base::{
        clock::{SharedClock, UnixMillis},
        keyring::Keyring,
        random::{NoRandomness, SharedRandom},
    },
    config::{App, app::Requirement},
    deliver::notices::Notices,
    factor::Proof,
    model::{DeviceId, Epoch, LoginId, MethodSet, OwnCookies, Revocation, SessionId, UserKey, UserName},
    policy::{self, Decision, Facts},
    store::{
        RevocationSink, SharedStore, StoreError, documents,
        feed::{Glance, Lookout, Sight},
    },
    throttle::allowance::Allowances,
};

/// Above every validity that a configuration allows: for so long a voided trust must be remembered as void.
const LONGEST_TRUST: Duration = Duration::from_secs(91 * 24 * 60 * 60);
/// Kept longer than seems needed, since limits may grow with a new configuration.
const MARGIN: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a login comes from.
#[derive(Clone, Copy)]
pub struct Origin<'a> {
    /// The browser's cookies of ours.
    pub cookies: OwnCookies<'a>,
    /// The client's address.
    pub client: IpAddr,
    /// What the browser says it is.
    pub agent: &'a str,
}

/// Why a session was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ground {
    /// Policy asks no second factor.
    Exempt,
    /// Proved on this device, not long ago.
    Trust,
    /// Proved just now.
    Factor,
    /// With an emergency code.
    Emergency,
}

/// A session has begun (or goes on after a step-up).
pub struct Admission {
    /// S
    pub session: SessionId,
    /// Who.
    pub user: UserKey,
    /// On which device.
    pub device: DeviceId,
    /// Why.
    pub ground: Ground,
    /// Who owned the device before, when it was somebody else.
    pub taken_from: Option<UserKey>,
    /// `Set-Cookie` values for the browser.
    pub cookies: Vec<HeaderValue>,
    /// Where the browser wanted to go: a path and query of the app that is safe to redirect to.
    pub target: String,
}

/// What follows a first factor.
pub enum FirstFactor {
    /// The session has begun; the app's own answer may go through, its cookies sealed to `session`.
    Admitted(Admission),
    /// A second factor is needed: send the browser to the challenge with these cookies. The app's fresh
    /// cookies are sealed to `session`.
    Pending {
        /// S
        session: SessionId,
        /// `Set-Cookie` values for the browser.
        cookies: Vec<HeaderValue>,
        /// What the cookie of the pending login says.
        pending: Box<Pending>,
    },
    /// The user is blocked.
    Blocked,
    /// The user may not come from this address.
    Elsewhere,
    /// So many sessions of this user have ended lately that no other one begins now without a second factor. The one
    /// that was running on this browser has ended.
    TooMany,
}

/// What became of a completion.
pub enum Completion {
    /// The session has begun.
    Admitted(Admission),
    /// This pending login was completed before, is too old, revoked, or of somebody else, or the policy does not
    /// take this method: log in again.
    Void,
}

/// Makes and ends sessions.
pub struct Admissions {
    store: SharedStore,
    keyring: Arc<Keyring>,
    live: Arc<Live>,
    names: Names,
    clock: SharedClock,
    random: SharedRandom,
    prefix: String,
    allowances: Arc<Allowances>,
    lookout: Lookout,
    notices: Arc<Notices>,
}

impl Admissions {
    /// Puts it together. Our own pages are taken to live under `/.sluis`; else see [`Self::with_prefix`].
    pub fn new(
        store: SharedStore,
        keyring: Arc<Keyring>,
        live: Arc<Live>,
        names: Names,
        clock: SharedClock,
        random: SharedRandom,
    ) -> Self {
        Self {
            store,
            keyring,
            live,
            names,
            clock,
            random,
            prefix: "/.sluis".to_owned(),
            allowances: Arc::default(),
            lookout: Lookout::default(),
            notices: Notices::off(),
        }
    }

    /// The same, with our own pages under `prefix`: no login leads back to one of those.
    #[must_use]
    pub fn with_prefix(self, prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), ..self }
    }

    /// The same, going on with what others have counted.
    #[must_use]
    pub fn with_allowances(self, allowances: Arc<Allowances>) -> Self {
        Self { allowances, ..self }
    }

    /// The same, for a replica among others: nothing begins unless it knows of every revocation.
    #[must_use]
    pub fn with_lookout(self, lookout: Lookout) -> Self {
        Self { lookout, ..self }
    }

    /// The same, telling users of logins on devices where they never were.
    #[must_use]
    pub fn with_notices(self, notices: Arc<Notices>) -> Self {
        Self { notices, ..self }
    }

    /// What this replica knows of revocations. Take a glance *before* looking at what is revoked.
    pub const fn lookout(&self) -> &Lookout {
        &self.lookout
    }

    /// Whether a login may begin or go on here now.
    ///
    /// # Errors
    /// When this replica may have missed a revocation.
    pub fn may_begin(&self) -> Result<(), StoreError> {
        demand_clear(&self.lookout.glance())
    }

    /// `user` has passed the first factor at `app`. Ends the session that was running on this browser,
    /// asks the policy, and looks for a valid trust.
    ///
    /// # Errors
    /// When the store fails: nobody is admitted (I9).
    pub async fn first_factor(
        &self,
        app: &App,
        user: UserName,
        origin: Origin<'_>,
        target: &str,
    ) -> Result<FirstFactor, StoreError> {
        let now = self.clock.now();
        let user = UserKey { realm: app.realm.clone(), name: user };
        // First of all, also when this user may not pass: the app may have switched to them already.
        self.end_running(app, &origin.cookies).await?;
        self.may_begin()?;
        if self.live.is_blocked(&user) {
            return Ok(FirstFactor::Blocked);
        }
        self.store.note_seen(&user, false, now).await?;
        // After the moment at which the session starts: a change that comes later voids it.
        let terms = documents::profile(self.store.as_ref(), &user).await?.terms(now);

        let mut cookies = Vec::new();
        let device = self.device_of(&origin.cookies, now, &mut cookies)?;
        let session = SessionId::draw(self.random.as_ref()).map_err(no_randomness)?;
        let target = target::clean(target, &self.prefix).to_owned();
        let trust = standing::trust(&self.keyring, &self.live, &origin.cookies, device, now)
            .filter(|trust| trust.user == user);

        let facts = Facts { user: &user.name, client: origin.client, terms: &terms, now };
        let begin = match policy::decide(app, &facts) {
            Decision::Elsewhere => return Ok(FirstFactor::Elsewhere),
            Decision::Exempt(_) => Some(Begin { ground: Ground::Exempt, proof: None, epoch: None }),
            Decision::Require(required) => {
                trust.as_ref().filter(|t| suffices(t, required, now)).map(|trust| {
                    let proof = Some((trust.proved_at, trust.methods));
                    Begin { ground: Ground::Trust, proof, epoch: Some(trust.epoch) }
                })
            }
        };
        if begin.is_some() && self.allowances.is_used_up(&user, now) {
            return Ok(FirstFactor::TooMany);
        }
        if let Some(begin) = begin {
            self.store.note_seen(&user, true, now).await?;
            let owned = self.store.own(device, &user, horizon(app, now)).await?;
            // Once more: a reset or block that came while the store worked must not be overtaken.
            let glance = self.lookout.glance();
            if self.live.is_blocked(&user) {
                return Ok(FirstFactor::Blocked);
            }
            let proof_lives = begin.proof.is_none_or(|(at, _)| self.live.proof_lives(&user, at));
            demand_clear(&glance)?;
            // A trust of another epoch than the present one is void, whatever this replica has heard of it.
            if proof_lives && begin.epoch.is_none_or(|epoch| epoch == owned.epoch) {
                let (proved_at, methods) = begin.proof.unzip();
                let token = Session {
                    id: session,
                    app: app.id.clone(),
                    user: user.clone(),
                    device,
                    epoch: owned.epoch,
                    started: now,
                    seen: now,
                    proved_at,
                    methods: methods.unwrap_or(MethodSet::EMPTY),
                    terms,
                    emergency_until: None,
                };
                self.note_begun(app, &token, &origin).await?;
                cookies.push(self.names.set(Kind::Session, &issue(&self.keyring, &token), None));
                if origin.cookies.login.is_some() {
                    cookies.push(self.names.clear(Kind::Login));
                }
                if origin.cookies.trust.is_some() && trust.is_none() {
                    cookies.push(self.names.clear(Kind::Trust));
                }
                let (ground, taken_from) = (begin.ground, owned.taken_from);
                let admission = Admission { session, user, device, ground, taken_from, cookies, target };
                return Ok(FirstFactor::Admitted(admission));
            }
        }
        let pending = Pending {
            login: LoginId::draw(self.random.as_ref()).map_err(no_randomness)?,
            session,
            app: app.id.clone(),
            user,
            device,
            target,
            started: now,
            purpose: Purpose::Login,
            invited: None,
        };
        cookies.push(self.login_cookie(&pending));
        if origin.cookies.session.is_some() {
            cookies.push(self.names.clear(Kind::Session));
        }
        Ok(FirstFactor::Pending { session, cookies, pending: Box::new(pending) })
    }

    /// Whether the user of this running session would be asked for a second factor at a login now. Begins and ends
    /// nothing.
    pub fn would_ask(&self, app: &App, live: &LiveSession, origin: &Origin<'_>) -> bool {
        let (now, session) = (self.clock.now(), live.session());
        let facts = Facts { user: &session.user.name, client: origin.client, terms: &session.terms, now };
        match policy::decide(app, &facts) {
            Decision::Elsewhere => true,
            Decision::Exempt(_) => false,
            Decision::Require(required) => {
                standing::trust(&self.keyring, &self.live, &origin.cookies, session.device, now)
                    .filter(|trust| trust.user == session.user)
                    .is_none_or(|trust| !suffices(&trust, required, now))
            }
        }
    }

    /// The pending user has proved a second factor. Consumes the login, takes the device, makes session and
    /// trust. By then every copy of somebody else's tokens on this device is dead everywhere.
    ///
    /// # Errors
    /// When the store fails: nobody is admitted.
    pub async fn complete(
        &self,
        app: &App,
        pending: Pending,
        proof: Proof,
        origin: Origin<'_>,
    ) -> Result<Completion, StoreError> {
        let now = self.clock.now();
        let profile = documents::profile(self.store.as_ref(), &pending.user).await?;
        let terms = profile.terms(now);
        let lives = || standing::pending_lives(&self.live, app, &pending, now);
        let facts = Facts { user: &pending.user.name, client: origin.client, terms: &terms, now };
        let required = match policy::decide(app, &facts) {
            Decision::Elsewhere => return Ok(Completion::Void),
            Decision::Exempt(_) => None,
            Decision::Require(required) => Some(required),
        };
        let method_counts = required.is_none_or(|r| policy::methods(r).contains(proof.method()));
        if *proof.user() != pending.user || !method_counts || !lives() {
            return Ok(Completion::Void);
        }
        self.may_begin()?;
        // The mark outlives the pending login, whatever the clocks of two replicas say.
        let until = pending.started.plus(PENDING_LIVES * 2);
        if !self.store.consume(pending.login, until).await? {
            return Ok(Completion::Void);
        }
        let (started, epoch, taken_from) = match pending.purpose {
            Purpose::Login => {
                self.store.note_seen(&pending.user, true, now).await?;
                let owned = self.store.own(pending.device, &pending.user, horizon(app, now)).await?;
                (now, owned.epoch, owned.taken_from)
            }
            // The session goes on in the epoch in which it was made; if the device changes hands meanwhile, that
            // epoch is void, and the session with it.
            Purpose::StepUp { started, epoch } => (started, epoch, None),
        };
        // Once more: a reset or block that came while the store worked must not be overtaken.
        let glance = self.lookout.glance();
        if !lives() {
            return Ok(Completion::Void);
        }
        demand_clear(&glance)?;
        let methods = MethodSet::of(proof.method());
        let token = Session {
            id: pending.session,
            app: pending.app.clone(),
            user: pending.user.clone(),
            device: pending.device,
            epoch,
            started,
            seen: now,
            proved_at: Some(proof.at()),
            methods,
            terms,
            emergency_until: None,
        };
        if pending.purpose == Purpose::Login {
            self.note_begun(app, &token, &origin).await?;
        }
        let mut cookies = vec![
            self.names.set(Kind::Session, &issue(&self.keyring, &token), None),
            self.names.clear(Kind::Login),
        ];
        if let Some(required) = required {
            cookies.push(self.trust_cookie(required, &pending, &proof, epoch, now));
        }
        Ok(Completion::Admitted(Admission {
            session: pending.session,
            user: pending.user,
            device: pending.device,
            ground: Ground::Factor,
            taken_from,
            cookies,
            target: match pending.purpose {
                Purpose::Login => target::clean(&pending.target, &self.prefix).to_owned(),
                Purpose::StepUp { .. } => self.step_up_target(&pending.target).to_owned(),
            },
        }))
    }

    /// Ends a session everywhere: the cookies that clear it in this browser. Trust stays.
    ///
    /// # Errors
    /// When the store fails: then nobody else has been told. Here at least it has ended.
    pub async fn end(&self, session: &LiveSession) -> Result<Vec<HeaderValue>, StoreError> {
        let (id, until) = (session.session().id, session.ends().plus(MARGIN));
        if let Err(error) = self.store.end_session(id, until).await {
            self.live.apply(&Revocation::Session { id, until });
            return Err(error);
        }
        self.allowances.charge(&session.session().user, self.clock.now());
        self.note_ended(&session.session().user, id).await;
        Ok(vec![self.names.clear(Kind::Session)])
    }

    /// The renewed session cookie when the present one was last renewed a while ago, so that `idle` counts from
    /// the last request. `None` mostly.
    pub fn renew(&self, session: &LiveSession, now: UnixMillis) -> Option<HeaderValue> {
        if !session.take_renewal(now) {
            return None;
        }
        let token = Session { seen: now, ..session.session().clone() };
        Some(self.names.set(Kind::Session, &issue(&self.keyring, &token), None))
    }

    /// Ends the session whose cookie this browser holds, of whomever and however old it is.
    async fn end_running(&self, app: &App, own: &OwnCookies<'_>) -> Result<(), StoreError> {
        let Some(running) = own.session.and_then(|value| token::verify::<Session>(&self.keyring, value))
        else {
            return Ok(());
        };
        if !self.live.has_ended(running.id) {
            self.allowances.charge(&running.user, self.clock.now());
        }
        let until = running.started.plus(app.session.max).plus(MARGIN);
        let ended = self.store.end_session(running.id, until).await;
        if ended.is_err() {
            // Nobody else can be told. Here at least it is over: the app may show it somebody else's data.
            self.live.apply(&Revocation::Session { id: running.id, until });
        }
        ended
    }
}

/// On what a session begins without a challenge.
struct Begin {
    ground: Ground,
    proof: Option<(UnixMillis, MethodSet)>,
    /// The epoch in which the ground holds.
    epoch: Option<Epoch>,
}

/// Whether a trust spares its user the challenge now: a method that counts, and not too long ago [A7].
fn suffices(trust: &Trust, required: &Requirement, now: UnixMillis) -> bool {
    trust.methods.bits() & policy::methods(required).bits() != 0
        && now.since(trust.proved_at) < required.validity
}

/// Until when a takeover that happens now must be remembered.
fn horizon(app: &App, now: UnixMillis) -> UnixMillis {
    now.plus(LONGEST_TRUST.max(app.session.max.saturating_add(MARGIN)))
}

/// Whether everything that was revoked has been known since the glance.
fn demand_clear(glance: &Glance<'_>) -> Result<(), StoreError> {
    match glance.sight() {
        Sight::Clear => Ok(()),
        Sight::Grace | Sight::Blind => Err(StoreError(
            "this replica may have missed a revocation: nothing begins before it has caught up".to_owned(),
        )),
    }
}

fn no_randomness(error: NoRandomness) -> StoreError {
    StoreError(error.to_string())
}

#[cfg(test)]
mod tests;

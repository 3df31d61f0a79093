//! What a request's cookies prove, now. On the way of a verified request: no I/O, no lock, hardly an allocation.
//!
//! A session cookie counts only together with the device cookie of the same device: copied alone it is worth
//! nothing. Nothing here asks a store; what has been revoked is in [`Live`].

use std::{
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderName, HeaderValue};

use super::{
    cache::Cache,
    live::Live,
    token::{Device, Pending, Purpose, Session, Trust, signed_by, verify},
};
use crate::{
    base::{
        clock::UnixMillis,
        keyring::{KeyId, Keyring},
    },
    config::{App, app::Requirement},
    model::{DeviceId, OwnCookies},
    policy::{self, Decision, Facts},
};

/// How long a pending login waits for its second factor.
pub const PENDING_LIVES: Duration = Duration::from_secs(10 * 60);
/// A token from further ahead than this is from a wrong clock, and counts for nothing (threats D15).
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// A session that is alive: signed, of this app, of this device, not expired, not idle too long, not revoked.
/// Made only here; kept in a small cache keyed by the cookies' whole bytes.
pub struct LiveSession {
    session: Session,
    session_cookie: Box<str>,
    device_cookie: Box<str>,
    /// The generation of [`Live`] under which it was last found alive.
    checked: AtomicU64,
    /// When its cookie was last renewed from here, in milliseconds.
    renewed: AtomicU64,
    limits: (Duration, Duration),
    /// Room for the headers that tell the app about this session: rendered once, by whoever sends them.
    pub rendered: OnceLock<Vec<(HeaderName, HeaderValue)>>,
}

impl LiveSession {
    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// When it ends in any case.
    pub fn ends(&self) -> UnixMillis {
        self.session.ends(self.limits.1)
    }

    /// The key that signed it.
    pub fn signed_by(&self) -> KeyId {
        signed_by(&self.session_cookie).unwrap_or_default()
    }

    pub(super) fn session_cookie(&self) -> &str {
        &self.session_cookie
    }

    /// Whether it was made from these two cookies.
    pub(super) fn is_of(&self, session_cookie: &str, device_cookie: &str) -> bool {
        *self.session_cookie == *session_cookie && *self.device_cookie == *device_cookie
    }

    /// True once in each stretch of time in which the cookie should be renewed, for one of all concurrent requests.
    pub(super) fn take_renewal(&self, now: UnixMillis) -> bool {
        let (idle, _) = self.limits;
        // Often enough that a user who works never runs into `idle`, and at most once a minute.
        let every = Duration::from_secs(60).min(idle / 4);
        let last = self.renewed.load(Ordering::Relaxed);
        now.since(UnixMillis(last)) >= every
            && self.renewed.compare_exchange(last, now.0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn is_within(&self, app: &App, now: UnixMillis) -> bool {
        let session = &self.session;
        session.app == app.id
            && now < session.ends(app.session.max)
            && now.since(session.seen) < app.session.idle
    }
}

/// What a running session is worth where it is used now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Worth {
    /// All that policy asks.
    Enough,
    /// Less: a second factor must be proved again first.
    TooLittle,
    /// Its user may not come from this address.
    Elsewhere,
}

impl Worth {
    /// What this session is worth at this address.
    pub fn of(session: &Session, app: &App, client: IpAddr, now: UnixMillis) -> Self {
        let facts = Facts { user: &session.user.name, client, terms: &session.terms, now };
        match policy::decide(app, &facts) {
            Decision::Exempt(_) => Self::Enough,
            Decision::Require(requirement) if suffices(session, requirement, now) => Self::Enough,
            Decision::Require(_) => Self::TooLittle,
            Decision::Elsewhere => Self::Elsewhere,
        }
    }
}

/// Whether what a running session has proved still suffices.
///
/// The *age* of a proof is judged on every request only under `continuous`; `at_login` never interrupts. A session
/// without any proof rests on an exemption alone, and lives as long as the exemption: one begun inside the office
/// network must not go on from elsewhere when policy asks a second factor there (I2).
fn suffices(session: &Session, requirement: &Requirement, now: UnixMillis) -> bool {
    let Some(proved_at) = session.proved_at else { return false };
    !requirement.continuous
        || (now.since(proved_at) <= requirement.validity
            && session.methods.bits() & policy::methods(requirement).bits() != 0)
}

/// Reads standings.
pub struct Standings {
    keyring: Arc<Keyring>,
    live: Arc<Live>,
    cache: Cache,
}

impl Standings {
    /// Puts it together.
    pub fn new(keyring: Arc<Keyring>, live: Arc<Live>) -> Self {
        Self { keyring, live, cache: Cache::new() }
    }

    /// The live session, if there is one for this app. A blocked user has none: see [`Self::is_blocked`].
    pub fn session(&self, app: &App, cookies: &OwnCookies<'_>, now: UnixMillis) -> Option<Arc<LiveSession>> {
        let (session, device) = (cookies.session?, cookies.device?);
        match self.cache.get(session, device) {
            Some(live) => self.still_alive(live, app, now),
            None => self.first_time(app, session, device, now),
        }
    }

    /// Whether the request has a session that would be alive, were its user not blocked. Not cached: ask only when
    /// there is no [`Self::session`].
    pub fn is_blocked(&self, app: &App, cookies: &OwnCookies<'_>, now: UnixMillis) -> bool {
        let (Some(session), Some(device)) = (cookies.session, cookies.device) else { return false };
        self.read(app, session, device, now).is_some_and(|live| {
            self.live.session_stands(&live.session) && self.live.is_blocked(&live.session.user)
        })
    }

    /// The device, if the browser has a genuine device cookie.
    pub fn device(&self, cookies: &OwnCookies<'_>) -> Option<DeviceId> {
        device(&self.keyring, cookies).map(|device| device.id)
    }

    /// The pending login of this app and device, if it is not older than 10 minutes, its user not
    /// blocked, and nothing has revoked it.
    pub fn pending(&self, app: &App, cookies: &OwnCookies<'_>, now: UnixMillis) -> Option<Pending> {
        let pending: Pending = verify(&self.keyring, cookies.login?)?;
        let device = self.device(cookies)?;
        (pending.device == device && pending_lives(&self.live, app, &pending, now)).then_some(pending)
    }

    /// The trust on this device that nothing has revoked; its age is judged by whoever knows the policy.
    pub fn trust(&self, cookies: &OwnCookies<'_>, now: UnixMillis) -> Option<Trust> {
        let device = self.device(cookies)?;
        trust(&self.keyring, &self.live, cookies, device, now)
    }

    /// Whether nothing has revoked a session since it was found alive, and its user is not blocked: for what goes on
    /// longer than the look at its cookies. Says nothing about its age.
    pub fn stands(&self, live: &LiveSession) -> bool {
        // First the count, then the maps: a revocation that comes in between leaves the older count behind, and the
        // next one who asks looks again.
        let generation = self.live.generation();
        if live.checked.load(Ordering::Acquire) == generation {
            return true;
        }
        let lives = self.live.session_lives(&live.session);
        if lives {
            live.checked.store(generation, Ordering::Release);
        }
        lives
    }

    fn still_alive(&self, live: Arc<LiveSession>, app: &App, now: UnixMillis) -> Option<Arc<LiveSession>> {
        if live.is_within(app, now) && self.stands(&live) {
            return Some(live);
        }
        self.cache.remove(&live);
        None
    }

    fn first_time(
        &self,
        app: &App,
        session: &str,
        device: &str,
        now: UnixMillis,
    ) -> Option<Arc<LiveSession>> {
        let generation = self.live.generation();
        let live = self.read(app, session, device, now)?;
        if !self.live.session_lives(&live.session) {
            return None;
        }
        live.checked.store(generation, Ordering::Release);
        let live = Arc::new(live);
        self.cache.put(&live);
        Some(live)
    }

    /// Signature, device, app, age; says nothing about revocation.
    fn read(&self, app: &App, session: &str, device: &str, now: UnixMillis) -> Option<LiveSession> {
        let token: Session = verify(&self.keyring, session)?;
        let genuine: Device = verify(&self.keyring, device)?;
        if genuine.id != token.device || is_ahead(token.started, now) || is_ahead(token.seen, now) {
            return None;
        }
        let live = LiveSession {
            session_cookie: session.into(),
            device_cookie: device.into(),
            checked: AtomicU64::new(0),
            renewed: AtomicU64::new(token.seen.0),
            limits: (app.session.idle, app.session.max),
            rendered: OnceLock::new(),
            session: token,
        };
        live.is_within(app, now).then_some(live)
    }
}

/// The genuine device token of a request.
pub(super) fn device(keyring: &Keyring, cookies: &OwnCookies<'_>) -> Option<Device> {
    verify(keyring, cookies.device?)
}

/// The trust of a request on this device, not revoked.
pub(super) fn trust(
    keyring: &Keyring,
    live: &Live,
    cookies: &OwnCookies<'_>,
    device: DeviceId,
    now: UnixMillis,
) -> Option<Trust> {
    let trust: Trust = verify(keyring, cookies.trust?)?;
    let counts = trust.device == device && !is_ahead(trust.proved_at, now) && live.trust_lives(&trust);
    counts.then_some(trust)
}

/// Whether a pending login (or step-up) of this app may still be completed, as far as memory tells.
pub(super) fn pending_lives(live: &Live, app: &App, pending: &Pending, now: UnixMillis) -> bool {
    let purpose_lives = match pending.purpose {
        Purpose::Login => true,
        Purpose::StepUp { started, epoch } => {
            now.since(started) < app.session.max
                && live.epoch_lives(pending.device, epoch)
                && live.proof_lives(&pending.user, started)
        }
    };
    pending.app == app.id
        && now.since(pending.started) < PENDING_LIVES
        && !is_ahead(pending.started, now)
        && !live.is_blocked(&pending.user)
        && live.proof_lives(&pending.user, pending.started)
        && !live.has_ended(pending.session)
        && purpose_lives
}

fn is_ahead(at: UnixMillis, now: UnixMillis) -> bool {
    at > now.plus(CLOCK_SKEW)
}

#[cfg(test)]
impl LiveSession {
    /// Something to keep in a cache.
    pub(super) fn for_cache_test(session_cookie: &str, device_cookie: &str) -> Arc<Self> {
        use crate::model::{AppId, Epoch, MethodSet, Realm, SessionId, Terms, UserKey, UserName};
        let user = UserKey { realm: Realm::new("care"), name: UserName::canonical("anna") };
        Arc::new(Self {
            session: Session {
                id: SessionId([1; 16]),
                app: AppId::new("care"),
                user,
                device: DeviceId([1; 16]),
                epoch: Epoch(0),
                started: UnixMillis(0),
                seen: UnixMillis(0),
                proved_at: None,
                methods: MethodSet::EMPTY,
                terms: Terms::default(),
                emergency_until: None,
            },
            session_cookie: session_cookie.into(),
            device_cookie: device_cookie.into(),
            checked: AtomicU64::new(0),
            renewed: AtomicU64::new(0),
            limits: (Duration::from_secs(60), Duration::from_secs(600)),
            rendered: OnceLock::new(),
        })
    }
}

#[cfg(test)]
mod tests;

//! May this request pass? Assessed once for each request; only an [`Outcome::Forward`] reaches the app, and only
//! this module makes a [`Permit`].
//!
//! The order of the questions (design, sections 3, 4, 8, 9):
//!
//! 1. Is it for our own pages? → [`Outcome::Own`]
//! 2. Could it be a watched login, in any spelling, with or without a session? → [`Outcome::Login`]; when its body
//!    turns out to be no login, [`Gate::assess_ordinary`] goes on with question 3. Only a session that question 3
//!    would forward goes along.
//! 3. Is there a live session? Its user may be blocked → [`Outcome::Blocked`]; the policy may want a fresh proof →
//!    [`Outcome::Challenge`]; else [`Outcome::Forward`].
//! 4. Is the path anonymous, and written in one way only? → [`Outcome::Forward`] without a session.
//! 5. Has the browser passed the first factor? → to the challenge; else → to the login page.
//!
//! Promises that no other way leads to a [`Permit`] (I1), and that the way of a verified request touches no store,
//! waits for nothing and allocates nothing. It must never look at what the app answers.
//!
//! # Several replicas
//! A replica that may have missed a revocation ([`Sight::Blind`]) lets no session pass: [`Outcome::Blind`]. What anybody may
//! see goes on.
//!
//! # Step-up
//! A session whose proof no longer suffices is not ended: the user's work would be lost. The browser gets a
//! *pending* token of purpose `StepUp` beside its session cookie. That token names the same session, so completing the
//! challenge renews the proof in place and the app's sealed cookies stay usable; while it is pending the session opens
//! nothing, because the question "is the proof fresh?" is asked again for each request. The token itself
//! opens nothing either (threats D11). A script that polls in the background gets no new token while one is
//! pending, or it would take the challenge away from the person who is answering it.

mod permit;
pub mod watch;

use std::{net::IpAddr, sync::Arc};

use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

pub use permit::{LoginPermit, Permit};

use crate::{
    base::clock::{SharedClock, UnixMillis},
    config::App,
    model::{RequestView, Wants},
    policy::{self, Decision, Facts},
    session::{
        admission::Admissions,
        standing::{LiveSession, Standings, Worth},
        token::{Pending, Purpose, Session},
    },
    store::feed::Sight,
};

/// Why a client must do something first. A closed list: it drives answer, log and metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChallengeReason {
    /// Nobody has logged in.
    NoSession,
    /// The first factor is done, the second is not.
    Pending,
    /// The proof of a running session is too old, or the exemption that it rests on has ended.
    ProofTooOld,
}

impl ChallengeReason {
    /// All of them, for metrics.
    pub const ALL: &[Self] = &[Self::NoSession, Self::Pending, Self::ProofTooOld];

    /// The name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoSession => "no_session",
            Self::Pending => "pending",
            Self::ProofTooOld => "proof_too_old",
        }
    }
}

impl From<ChallengeReason> for crate::metrics::Reason {
    fn from(reason: ChallengeReason) -> Self {
        match reason {
            ChallengeReason::NoSession => Self::NoSession,
            ChallengeReason::Pending => Self::Pending,
            ChallengeReason::ProofTooOld => Self::ProofTooOld,
        }
    }
}

/// What happens to a request.
pub enum Outcome {
    /// It is for our own pages.
    Own,
    /// It goes to the app.
    Forward(Permit),
    /// It may be a watched login: its body is read (`identity::form::read`), then it goes to the app by an own
    /// round trip and its answer is judged; or it is none, and [`Gate::assess_ordinary`] decides.
    Login(LoginPermit),
    /// Not before the client has done something: 303 for a page, 401 with `challenge_url` for the rest.
    Challenge {
        /// Why.
        reason: ChallengeReason,
        /// Path and query of the page that does it.
        url: String,
        /// `Set-Cookie` values to go with the answer.
        cookies: Vec<HeaderValue>,
    },
    /// The session's user is blocked: 403.
    Blocked,
    /// The session's user may not come from this address: 403.
    Elsewhere,
    /// The decision could not be made: 503.
    Unavailable,
    /// This replica may have missed that the session was revoked: 503 until it has caught up.
    Blind,
}

/// What follows from a request's path, for one app.
pub struct Gate {
    standings: Arc<Standings>,
    admissions: Arc<Admissions>,
    clock: SharedClock,
    prefix: String,
}

impl Gate {
    /// Puts it together. `prefix` is where our own pages live (`/.sluis`).
    pub fn new(
        standings: Arc<Standings>,
        admissions: Arc<Admissions>,
        clock: SharedClock,
        prefix: String,
    ) -> Self {
        Self { standings, admissions, clock, prefix }
    }

    /// Decides. No I/O, no waiting.
    pub fn assess(&self, app: &Arc<App>, view: &RequestView<'_>) -> Outcome {
        if self.is_own(view.path) {
            return Outcome::Own;
        }
        let candidates = watch::candidates(app, view.method, view.path, view.query);
        if candidates.is_empty() {
            return self.assess_ordinary(app, view);
        }
        // A blocked user has no session; somebody else may log in on this browser. Nor does a session go along that
        // must prove itself again first: what the app answers to a login that fails is passed on.
        let now = self.clock.now();
        let glance = self.admissions.lookout().glance();
        let session = self
            .standings
            .session(app, &view.cookies, now)
            .filter(|live| Worth::of(live.session(), app, view.client, now) == Worth::Enough);
        if session.is_some() && glance.sight() == Sight::Blind {
            return Outcome::Blind;
        }
        Outcome::Login(LoginPermit { permit: self.permit(app, view, session), candidates })
    }

    /// Decides on a request of which it is known that it is no login.
    pub fn assess_ordinary(&self, app: &Arc<App>, view: &RequestView<'_>) -> Outcome {
        let now = self.clock.now();
        // Before the session is looked at, and asked after: a process that is stopped in between and goes on sees that
        // its time is over.
        let glance = self.admissions.lookout().glance();
        match self.standings.session(app, &view.cookies, now) {
            Some(_) if glance.sight() == Sight::Blind => {
                if is_anonymous(app, view) {
                    self.assess_stranger(app, view, now)
                } else {
                    Outcome::Blind
                }
            }
            Some(live) => self.assess_session(app, view, live, now),
            // What anybody may see, the blocked may see too, but as anybody: else nobody could log in on this
            // browser.
            None if !is_anonymous(app, view) && self.standings.is_blocked(app, &view.cookies, now) => {
                Outcome::Blocked
            }
            None => self.assess_stranger(app, view, now),
        }
    }

    /// Until when this session may be used from this address without a further look: what stays open longer must end
    /// by then. Its own end, or, where proofs are judged on every request, the moment at which its proof is too old.
    pub fn stands_until(&self, app: &App, session: &Session, client: IpAddr) -> UnixMillis {
        let end = session.ends(app.session.max);
        let facts = Facts { user: &session.user.name, client, terms: &session.terms, now: self.clock.now() };
        match policy::decide(app, &facts) {
            Decision::Require(requirement) if requirement.continuous => {
                let proved_at = session.proved_at.unwrap_or_default();
                end.min(proved_at.plus(requirement.validity))
            }
            // Their exemption ends, and a proof they have not.
            Decision::Exempt(_) if session.proved_at.is_none() => {
                session.terms.exempt_until.map_or(end, |until| end.min(until))
            }
            _ => end,
        }
    }

    /// Whether a request that was let pass might go on: its session has neither been revoked nor come to its end since.
    /// An app may take its time with an answer, or never come to its end; so this is asked for each piece of it (I1, I3).
    /// A request that logs out ends its session itself.
    pub fn still_permits(&self, permit: &Permit) -> bool {
        let Some(live) = permit.session().filter(|_| !permit.is_logout()) else { return true };
        let glance = self.admissions.lookout().glance();
        self.standings.stands(live) && self.clock.now() < live.ends() && glance.sight() != Sight::Blind
    }

    /// The pending login of a request, for whoever must know it.
    pub fn pending(&self, app: &App, view: &RequestView<'_>) -> Option<Pending> {
        self.standings.pending(app, &view.cookies, self.clock.now())
    }

    fn assess_session(
        &self,
        app: &Arc<App>,
        view: &RequestView<'_>,
        live: Arc<LiveSession>,
        now: UnixMillis,
    ) -> Outcome {
        match Worth::of(live.session(), app, view.client, now) {
            Worth::Enough => {}
            Worth::TooLittle => return self.step_up(app, view, &live, now),
            // What anybody may see goes to them, too, but as to anybody.
            Worth::Elsewhere if is_anonymous(app, view) => return self.assess_stranger(app, view, now),
            Worth::Elsewhere => return Outcome::Elsewhere,
        }
        let logout = watch::is_logout(app, view.path, view.query);
        let mut permit = self.permit(app, view, Some(live));
        permit.logout = logout;
        Outcome::Forward(permit)
    }

    fn assess_stranger(&self, app: &Arc<App>, view: &RequestView<'_>, now: UnixMillis) -> Outcome {
        let pending = self.standings.pending(app, &view.cookies, now);
        if is_anonymous(app, view) {
            let mut permit = self.permit(app, view, None);
            permit.withholds_cookies = pending.is_some() && view.wants != Wants::Page;
            return Outcome::Forward(permit);
        }
        let (reason, url) = match pending {
            Some(_) => (ChallengeReason::Pending, self.challenge_url()),
            None => (ChallengeReason::NoSession, login_url(app, &landing(view))),
        };
        Outcome::Challenge { reason, url, cookies: Vec::new() }
    }

    fn step_up(
        &self,
        app: &App,
        view: &RequestView<'_>,
        live: &Arc<LiveSession>,
        now: UnixMillis,
    ) -> Outcome {
        let target = landing(view);
        let waiting = self.standings.pending(app, &view.cookies, now).filter(|pending| {
            pending.session == live.session().id && matches!(pending.purpose, Purpose::StepUp { .. })
        });
        let keep = waiting.is_some_and(|pending| view.wants != Wants::Page || pending.target == target);
        let cookies = if keep { Ok(Vec::new()) } else { self.admissions.step_up(live, &target) };
        match cookies {
            Ok(cookies) => Outcome::Challenge {
                reason: ChallengeReason::ProofTooOld,
                url: self.challenge_url(),
                cookies,
            },
            Err(error) => {
                tracing::error!(%error, request = %view.id, "no step-up could be made");
                Outcome::Unavailable
            }
        }
    }

    fn permit(&self, app: &Arc<App>, view: &RequestView<'_>, session: Option<Arc<LiveSession>>) -> Permit {
        let device = match &session {
            Some(live) => Some(live.session().device),
            None => self.standings.device(&view.cookies),
        };
        Permit { app: Arc::clone(app), session, device, logout: false, withholds_cookies: false }
    }

    fn is_own(&self, path: &str) -> bool {
        path.strip_prefix(self.prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn challenge_url(&self) -> String {
        format!("{}/challenge", self.prefix)
    }
}

/// Only what can be read in one way is anonymous.
fn is_anonymous(app: &App, view: &RequestView<'_>) -> bool {
    !view.ambiguous && app.anonymous.iter().any(|pattern| pattern.matches(view.path, view.query))
}

/// Where a browser goes back to: what it asked for when that was a page, else the beginning of the app, since the
/// answer to a script or a form cannot be fetched again by a navigation.
fn landing(view: &RequestView<'_>) -> String {
    const LONGEST: usize = 2048;
    let query = view.query.unwrap_or_default();
    let elsewhere = view.path.starts_with("//");
    if view.wants != Wants::Page
        || !view.method.is_safe()
        || elsewhere
        || view.path.len() + query.len() > LONGEST
    {
        return "/".to_owned();
    }
    match view.query {
        Some(query) => format!("{}?{query}", view.path),
        None => view.path.to_owned(),
    }
}

fn login_url(app: &App, target: &str) -> String {
    app.login.page.replace("{target}", &utf8_percent_encode(target, IN_QUERY).to_string())
}

/// All but the unreserved characters of RFC 3986, section 2.3.
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests;

//! May this request pass? Assessed once for each request; only an [`Outcome::Forward`] reaches the app, and only
//! this module makes a [`Permit`].

mod permit;
pub mod watch;

use std::sync::Arc;

use http::HeaderValue;

pub use permit::Permit;

use crate::{
    base::clock::SharedClock,
    config::App,
    model::RequestView,
    session::{admission::Admissions, live::Live, standing::Standings, token::Pending},
};

/// Why a client must do something first. A closed list: it drives answer, log and metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChallengeReason {
    /// Nobody has logged in.
    NoSession,
    /// The first factor is done, the second is not.
    Pending,
    /// The proof of a running session is too old.
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
    /// It is a watched login: goes to the app by an own round trip, and its answer is judged.
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
    /// The decision could not be made: 503.
    Unavailable,
}

/// A watched login may be sent to the app; whatever comes back stays inside until it has been judged.
pub struct LoginPermit {
    /// What may go with it: the cookies of the running session or of the device.
    pub permit: Permit,
    /// Which of the app's `login.watch`.
    pub watch: usize,
}

/// What follows from a request's path, for one app.
pub struct Gate {
    _standings: Arc<Standings>,
    _admissions: Arc<Admissions>,
    _live: Arc<Live>,
    _clock: SharedClock,
    _prefix: String,
}

impl Gate {
    /// Puts it together. `prefix` is where our own pages live (`/.sluis`).
    pub fn new(
        standings: Arc<Standings>,
        admissions: Arc<Admissions>,
        live: Arc<Live>,
        clock: SharedClock,
        prefix: String,
    ) -> Self {
        Self { _standings: standings, _admissions: admissions, _live: live, _clock: clock, _prefix: prefix }
    }

    /// Decides. No I/O, no waiting.
    pub fn assess(&self, _app: &Arc<App>, _view: &RequestView<'_>) -> Outcome {
        todo!()
    }

    /// The pending login of a request, for whoever must know it.
    pub fn pending(&self, app: &App, view: &RequestView<'_>) -> Option<Pending> {
        self._standings.pending(app, &view.cookies, self._clock.now())
    }
}

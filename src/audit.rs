//! The closed list of events that an auditor may rely on, and their one writer: JSON lines.

use std::net::IpAddr;

use crate::model::{AppId, DeviceId, Method, RequestId, UserKey};

/// What happened. A closed list.
#[derive(Clone, Debug)]
pub enum Event {
    /// The app accepted the first factor.
    FirstFactorPassed,
    /// The app refused the first factor (the typed name is kept as typed in `user`).
    FirstFactorRefused,
    /// A second factor was passed.
    SecondFactorPassed {
        /// How.
        method: Method,
    },
    /// A wrong answer.
    SecondFactorRefused {
        /// How.
        method: Method,
    },
    /// Too many wrong answers.
    LockedOut {
        /// Until an administrator acts (true), or for a while.
        hard: bool,
    },
    /// A session began.
    SessionStarted {
        /// `exempt`, `trust` or `factor`.
        ground: &'static str,
    },
    /// A session ended by logout or by a new login on the same browser.
    SessionEnded,
    /// An authenticator was confirmed.
    AuthenticatorEnrolled {
        /// Which kind.
        method: Method,
    },
    /// A device changed hands.
    DeviceTakenOver {
        /// Who had it.
        from: UserKey,
    },
    /// An administrator removed all authenticators.
    UserReset,
    /// An administrator blocked or unblocked.
    UserBlocked {
        /// Which.
        blocked: bool,
    },
    /// A blocked user tried to log in.
    BlockedLogin,
    /// The server started, stopped, or reloaded.
    Server {
        /// `started`, `stopping`, `reloaded`, `reload_refused`.
        what: &'static str,
    },
}

/// Who, from where, on which request.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// Which app.
    pub app: Option<AppId>,
    /// Whom it is about.
    pub user: Option<UserKey>,
    /// On which device.
    pub device: Option<DeviceId>,
    /// From where.
    pub client: Option<IpAddr>,
    /// On which request.
    pub request_id: Option<RequestId>,
    /// Who acted, when it was an administrator (`cli:root`).
    pub actor: Option<String>,
}

/// Writes events.
pub struct Auditor {}

impl Auditor {
    /// Writes one line. Never blocks the caller for long; a failing sink is logged and counted.
    pub fn record(&self, _event: &Event, _subject: &Subject) {
        todo!()
    }
}

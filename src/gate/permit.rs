//! The value without which nothing is forwarded.

use std::sync::Arc;

use crate::{
    config::App,
    identity::form::Candidate,
    model::DeviceId,
    session::{standing::LiveSession, upstream_cookies::Scope},
};

/// A request may go to the app. Made only by `gate`; it says on whose behalf.
pub struct Permit {
    pub(super) app: Arc<App>,
    pub(super) session: Option<Arc<LiveSession>>,
    pub(super) device: Option<DeviceId>,
    pub(super) logout: bool,
    pub(super) withholds_cookies: bool,
}

impl Permit {
    /// The app.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// The session; `None` on an anonymous path.
    pub fn session(&self) -> Option<&Arc<LiveSession>> {
        self.session.as_ref()
    }

    /// The device, when the browser has one.
    pub fn device(&self) -> Option<DeviceId> {
        self.device
    }

    /// To what the app's cookies in this request and its answer are sealed: the session, else the device. `None`
    /// when the browser has neither yet; the first answer that needs one makes it.
    pub fn scope(&self) -> Option<Scope> {
        match (&self.session, self.device) {
            (Some(live), _) => Some(Scope::Session(live.session().id)),
            (None, Some(device)) => Some(Scope::Device(device)),
            (None, None) => None,
        }
    }

    /// Whether this request logs out: the session ends with its answer.
    pub fn is_logout(&self) -> bool {
        self.logout
    }

    /// The app's `Set-Cookie` lines must not reach the browser: it has a login pending, the app sees an anonymous
    /// user in this request, and an asset of the login page (or the favicon) would replace the cookies that wait
    /// for the second factor. Never on for a page, so that one can go back and log in as somebody else.
    pub fn withholds_cookies(&self) -> bool {
        self.withholds_cookies
    }
}

/// A watched login may be sent to the app; whatever comes back stays inside until it has been judged.
pub struct LoginPermit {
    /// What may go with it: the cookies of the running session or of the device.
    pub permit: Permit,
    /// Which of the app's `login.watch` it can be: for `identity::form::read`. When that says
    /// `Claim::Other`, the request is an ordinary one: `Gate::assess_ordinary` decides on it.
    pub candidates: Vec<Candidate>,
}

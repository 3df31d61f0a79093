//! The value without which nothing is forwarded.

use std::sync::Arc;

use crate::{
    config::App,
    model::DeviceId,
    session::{standing::LiveSession, upstream_cookies::Scope},
};

/// A request may go to the app. Made only by `gate`; it says on whose behalf.
pub struct Permit {
    pub(super) app: Arc<App>,
    pub(super) session: Option<Arc<LiveSession>>,
    pub(super) device: Option<DeviceId>,
    pub(super) logout: bool,
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
}

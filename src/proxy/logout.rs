//! A request that logs out: the session ends before the app hears of it, so that it has ended even when the app
//! does not answer.

use http::HeaderValue;

use super::{Proxy, arrival::Arrival, failure::Cause, site::Site};
use crate::{
    audit::{Event, Subject},
    session::standing::LiveSession,
};

impl Proxy {
    /// Ends a session everywhere; the cookies that clear it in this browser.
    ///
    /// # Errors
    /// When the store fails: then other replicas do not know, and the browser must not be told that all is done.
    pub(super) async fn end(
        &self,
        site: &Site,
        arrival: &Arrival,
        live: &LiveSession,
    ) -> Result<Vec<HeaderValue>, Cause> {
        let ended = self.parts.admissions.end(live).await;
        let cookies = ended.map_err(|error| {
            tracing::error!(app = %site.app.id, request_id = %arrival.id, %error, "a session could not be ended");
            Cause::Store
        })?;
        let session = live.session();
        site.metrics.sessions_ended.inc();
        let subject = Subject {
            app: Some(site.app.id.clone()),
            user: Some(session.user.clone()),
            device: Some(session.device),
            client: Some(arrival.client),
            request_id: Some(arrival.id.clone()),
            ..Subject::default()
        };
        self.parts.auditor.record(&Event::SessionEnded, &subject);
        Ok(cookies)
    }
}

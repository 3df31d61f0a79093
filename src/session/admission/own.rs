//! What a user does with sessions of their own: see them, end one, end all of them.

use std::time::Duration;

use http::HeaderValue;

use super::{Admissions, MARGIN, horizon};
use crate::{
    config::App,
    model::{Revocation, SessionRecord, UserKey},
    session::cookie::Kind,
    store::{RevocationSink, StoreError, documents},
};

impl Admissions {
    /// The sessions of a user that may still be alive, the newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sessions_of(&self, user: &UserKey) -> Result<Vec<SessionRecord>, StoreError> {
        let now = self.clock.now();
        let mut sessions = documents::presence(self.store.as_ref(), user).await?.sessions;
        sessions.retain(|record| record.until > now && self.live.record_stands(user, record));
        sessions.reverse();
        Ok(sessions)
    }

    /// Ends one of them everywhere, before this answers.
    ///
    /// # Errors
    /// When the store fails: then nobody else has been told. Here at least it has ended.
    pub async fn end_recorded(&self, user: &UserKey, record: &SessionRecord) -> Result<(), StoreError> {
        let (id, until) = (record.id, record.until.plus(MARGIN));
        if let Err(error) = self.store.end_session(id, until).await {
            self.live.apply(&Revocation::Session { id, until });
            return Err(error);
        }
        self.allowances.charge(user, self.clock.now());
        self.note_ended(user, id).await;
        Ok(())
    }

    /// Ends every session and voids every trust of a user everywhere, before this answers: the cookies that clear them in
    /// this browser.
    ///
    /// # Errors
    /// When the store fails: perhaps nobody has been told.
    pub async fn end_everything(&self, app: &App, user: &UserKey) -> Result<Vec<HeaderValue>, StoreError> {
        // What began in this very millisecond is void as well.
        let before = self.clock.now().plus(Duration::from_millis(1));
        self.store.sign_out(user, before, horizon(app, before)).await?;
        Ok([Kind::Session, Kind::Trust, Kind::Login].map(|kind| self.names.clear(kind)).into())
    }
}

//! The list of a user's own sessions: for people to look at. It decides nothing.

use super::{Admissions, Origin};
use crate::{
    config::App,
    deliver::notices::{Notice, Scene},
    model::{Encounter, SessionId, SessionRecord, UserKey},
    session::token::Session,
    store::{StoreError, documents},
};

impl Admissions {
    /// A session begins.
    pub(super) async fn note_begun(
        &self,
        app: &App,
        token: &Session,
        origin: &Origin<'_>,
    ) -> Result<(), StoreError> {
        let mut agent: String = origin.agent.chars().filter(|c| !c.is_control()).collect();
        agent.truncate(agent.floor_char_boundary(SessionRecord::AGENT_BYTES));
        let record = SessionRecord {
            id: token.id,
            app: token.app.clone(),
            device: token.device,
            epoch: token.epoch,
            started: token.started,
            until: token.ends(app.session.max),
            address: origin.client.to_canonical(),
            agent,
        };
        let mut encounter = Encounter::Known;
        documents::change_presence(self.store.as_ref(), &token.user, |presence| {
            encounter = presence.begin(record.clone(), token.started);
        })
        .await?;
        if encounter == Encounter::NewDevice {
            let scene = Scene::at(app).from(origin.client).with(origin.agent);
            self.notices.tell(&token.user, Notice::NewDevice, scene);
        }
        Ok(())
    }

    /// It has ended. The list only tells: one that ended is not shown as alive, whatever stands there.
    pub(super) async fn note_ended(&self, user: &UserKey, id: SessionId) {
        let noted = documents::change_presence(self.store.as_ref(), user, |presence| presence.end(id)).await;
        if let Err(error) = noted {
            tracing::warn!(%error, "a session that ended stays in its user's list");
        }
    }
}

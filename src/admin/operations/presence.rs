//! Where a user is logged in.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Failure, Operations};
use crate::{session::live::Live, store::documents};

/// A session that has begun and may be alive: it ends before `ends_at` when nothing is asked for a while, or the user logs
/// out in another way than Sluis can see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionRow {
    /// At which app.
    pub app: String,
    /// On which device, as in the audit log.
    pub device: String,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// When it ends in any case.
    pub ends_at: String,
    /// From which address it began.
    pub address: String,
    /// With what, as the browser said.
    pub agent: String,
}

impl Operations {
    /// Where a user is logged in, oldest first. `live` knows what has been revoked; without it,
    /// one that a takeover ended may be among them.
    ///
    /// # Errors
    /// When there is no such user, or the store fails.
    pub async fn sessions(
        &self,
        typed: &str,
        realm: Option<&str>,
        live: Option<&Live>,
    ) -> Result<Vec<SessionRow>, Failure> {
        let user = self.find(typed, realm).await?;
        self.met(&user).await?;
        let now = self.clock.now();
        let presence = documents::presence(self.store.as_ref(), &user).await?;
        let standing = presence
            .sessions
            .into_iter()
            .filter(|record| record.until > now && live.is_none_or(|live| live.record_stands(&user, record)));
        let row = |record: crate::model::SessionRecord| SessionRow {
            app: record.app.to_string(),
            device: record.device.to_string(),
            started_at: record.started.rfc3339(),
            ends_at: record.until.rfc3339(),
            address: record.address.to_string(),
            agent: record.agent,
        };
        Ok(standing.map(row).collect())
    }
}

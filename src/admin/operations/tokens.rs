//! Tokens of the administrators' API: made, listed, revoked, and proved.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{By, Failure, Operations};
use crate::{
    admin::tokens::{self, Caller, Kept, Scope, Worthless},
    audit::Event,
    base::clock::UnixMillis,
    store::{
        Collection, StoreError, StoreResult,
        documents::{self, New},
    },
};

/// A token as it is shown once. No `Debug`.
#[derive(Clone, Serialize, Deserialize)]
pub struct NewToken {
    /// The whole.
    pub token: String,
    /// What is shown of it later.
    pub shown: TokenRow,
}

/// A token as administrators see it: nothing of its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenRow {
    /// Its id, which is also a part of the token.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Whether it is worth something.
    pub state: TokenState,
    /// When it was made, RFC 3339.
    pub made_at: String,
    /// By whom.
    pub made_by: String,
    /// When it ends.
    pub expires_at: String,
    /// When it was last used, to about an hour.
    pub last_used_at: Option<String>,
    /// When it was revoked.
    pub revoked_at: Option<String>,
}

/// Whether a token is worth something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenState {
    /// Yes.
    Active,
    /// No more.
    Expired,
    /// Somebody has revoked it.
    Revoked,
}

impl TokenState {
    /// In words, for people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl Operations {
    /// Makes a token. It is shown here and never again.
    ///
    /// # Errors
    /// When the name is none, no scope is given, `lives` is too short or too long, or the store fails.
    pub async fn make_token(
        &self,
        name: &str,
        scopes: &[Scope],
        lives: Duration,
        by: &By<'_>,
    ) -> Result<NewToken, Failure> {
        let bad = |field, why, found: &str| Failure::BadSetting {
            field,
            why,
            found: found.chars().take(100).collect(),
        };
        if !tokens::is_name(name) {
            return Err(bad("name", "1 to 64 of a-z, A-Z, 0-9 and . _ -", name));
        }
        if scopes.is_empty() {
            return Err(bad("scope", "at least one of read, helpdesk, admin, audit", ""));
        }
        if lives < SHORTEST || lives > LONGEST {
            return Err(bad("days", "1 to 366", &(lives.as_secs() / 86_400).to_string()));
        }
        self.auditor.ready()?;
        let now = self.clock.now();
        let drawn = tokens::draw(self.random.as_ref()).map_err(|error| StoreError(error.to_string()))?;
        let mut scopes = scopes.to_vec();
        scopes.sort_unstable();
        scopes.dedup();
        let kept = Kept {
            name: name.to_owned(),
            scopes,
            hash: drawn.hash,
            made: now,
            by: by.actor.to_owned(),
            expires: now.plus(lives),
            used: None,
            revoked: None,
        };
        documents::change(self.store.as_ref(), Collection::Tokens, &drawn.id, |there: Option<Kept>| {
            // An id that is taken already is left alone; drawn again it will be another.
            if there.is_some() { (None, Err(())) } else { (Some(lasting(kept.clone())), Ok(())) }
        })
        .await?
        .map_err(|()| StoreError("a token with this id is there already; try again".to_owned()))?;
        self.record(&Event::TokenMade { name: detail(name, &drawn.id) }, None, by).await?;
        Ok(NewToken { token: drawn.token, shown: row(drawn.id, &kept, now) })
    }

    /// All tokens, in no order that means anything; those that ended stay for a while.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn tokens(&self) -> Result<Vec<TokenRow>, Failure> {
        let now = self.clock.now();
        let (mut rows, mut after): (Vec<TokenRow>, Option<String>) = (Vec::new(), None);
        loop {
            let page = self.store.documents(Collection::Tokens, after.as_deref(), PAGE).await?;
            for (id, document) in &page {
                let kept: Kept = documents::read(Collection::Tokens, document)?;
                rows.push(row(id.clone(), &kept, now));
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => after = Some(last.clone()),
                _ => return Ok(rows),
            }
        }
    }

    /// Revokes a token: the next request with it is refused, at every replica.
    ///
    /// # Errors
    /// When there is no such token, or the store fails.
    pub async fn revoke_token(&self, id: &str, by: &By<'_>) -> Result<TokenRow, Failure> {
        self.auditor.ready()?;
        let now = self.clock.now();
        let revoked = documents::change(self.store.as_ref(), Collection::Tokens, id, |kept: Option<Kept>| {
            let Some(kept) = kept else { return (None, None) };
            if kept.revoked.is_some() {
                return (None, Some(kept));
            }
            let revoked = Kept { revoked: Some(now), ..kept };
            (Some(lasting(revoked.clone())), Some(revoked))
        });
        let kept = revoked.await?.ok_or(Failure::NoToken)?;
        self.record(&Event::TokenRevoked { name: detail(&kept.name, id) }, None, by).await?;
        Ok(row(id.to_owned(), &kept, now))
    }

    /// Who presents this, or why it is worth nothing. It is looked up in the store each time: so a revoked one is worth
    /// nothing from the moment on when that was answered.
    ///
    /// # Errors
    /// When the store fails: that is never "nobody", and never somebody.
    pub async fn caller(&self, presented: &str) -> StoreResult<Result<Caller, Worthless>> {
        let Some(presented) = tokens::read(presented) else { return Ok(Err(Worthless::Unknown)) };
        let Some(document) = self.store.document(Collection::Tokens, &presented.id).await? else {
            return Ok(Err(Worthless::Unknown));
        };
        let kept: Kept = documents::read(Collection::Tokens, &document)?;
        let now = self.clock.now();
        if let Err(why) = kept.admits(&presented, now) {
            return Ok(Err(why));
        }
        if kept.used.is_none_or(|used| now.since(used) >= USE_NOTED_EVERY) {
            self.note_use(&presented.id, now).await;
        }
        let actor = tokens::actor(&kept.name, &presented.id);
        Ok(Ok(Caller { id: presented.id, actor, scopes: kept.scopes }))
    }

    /// It tells people something, and decides nothing.
    async fn note_use(&self, id: &str, now: UnixMillis) {
        let noted = documents::change(self.store.as_ref(), Collection::Tokens, id, |kept: Option<Kept>| {
            (kept.map(|kept| lasting(Kept { used: Some(now), ..kept })), ())
        });
        if let Err(error) = noted.await {
            tracing::warn!(%error, token = id, "the use of a token could not be noted");
        }
    }
}

fn lasting(kept: Kept) -> New<Kept> {
    let until = Some(kept.expires.plus(SHOWN_AFTER_END));
    New::Kept { document: kept, until }
}

/// Names need not be unique; with the id they are.
fn detail(name: &str, id: &str) -> String {
    format!("{name}:{id}")
}

fn row(id: String, kept: &Kept, now: UnixMillis) -> TokenRow {
    let state = match kept.revoked {
        Some(_) => TokenState::Revoked,
        None if kept.expires <= now => TokenState::Expired,
        None => TokenState::Active,
    };
    TokenRow {
        id,
        name: kept.name.clone(),
        scopes: kept.scopes.clone(),
        state,
        made_at: kept.made.rfc3339(),
        made_by: kept.by.clone(),
        expires_at: kept.expires.rfc3339(),
        last_used_at: kept.used.map(UnixMillis::rfc3339),
        revoked_at: kept.revoked.map(UnixMillis::rfc3339),
    }
}

const SHORTEST: Duration = Duration::from_hours(24);
const LONGEST: Duration = Duration::from_hours(366 * 24);
/// What has ended is shown for so long.
const SHOWN_AFTER_END: Duration = Duration::from_hours(90 * 24);
/// One write an hour.
const USE_NOTED_EVERY: Duration = Duration::from_hours(1);
const PAGE: usize = 200;

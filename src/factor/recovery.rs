//! Recovery codes: ten of them, shown once, to be kept on paper, each good for one login (NIST SP 800-63B-4, section 4.2.1.1).
//!
//! They are drawn and kept as all codes that are shown once (`shown_once`): 120 bits, of which only the hash is kept. They hang
//! on the authenticators that the user had when they were made: when none of those is left, for whatever reason, they are
//! worth nothing. So a reset, which removes all authenticators in one step, ends them in the same step.
//!
//! Promises: counted before it is looked at (I8), right once over all replicas (I4: one atomic swap of the document in which
//! they are). Must never show a code twice.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{
    Ask, Factor, Hint, Verdict, attempt,
    shown_once::{self, Shown},
};
use crate::{
    base::{
        clock::{SharedClock, UnixMillis},
        random::SharedRandom,
        secret::SecretString,
    },
    model::{AuthenticatorId, Method, UserKey},
    store::{Collection, SharedStore, StoreResult, documents},
};

/// So many are made at once.
pub const CODES: usize = 10;
/// With so many left, or fewer, the user is told to make new ones.
pub const FEW: usize = 3;

/// What is left of a user's codes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stock {
    /// When they were made.
    pub made: UnixMillis,
    /// How many can still be used.
    pub left: usize,
    /// When the others were, in that order.
    pub used: Vec<UnixMillis>,
}

/// The recovery codes.
pub struct Recovery {
    store: SharedStore,
    clock: SharedClock,
    random: SharedRandom,
}

impl Recovery {
    /// Puts it together.
    pub fn new(store: SharedStore, clock: SharedClock, random: SharedRandom) -> Self {
        Self { store, clock, random }
    }

    /// Makes new ones in the place of all that there were: the codes, to be shown now and never again. `None` for a user
    /// without an authenticator on which they could hang.
    ///
    /// # Errors
    /// When the store fails or the machine gives no random bytes.
    pub async fn make(&self, user: &UserKey) -> StoreResult<Option<Vec<SecretString>>> {
        let beside = self.authenticators(user).await?;
        if beside.is_empty() {
            return Ok(None);
        }
        let drawn = (0..CODES).map(|_| shown_once::draw(self.random.as_ref()));
        let drawn: Vec<Shown> = drawn.collect::<StoreResult<_>>()?;
        let codes = drawn.iter().map(|shown| Code { hash: shown.hash.clone(), used: None }).collect();
        let kept = Kept { made: self.clock.now(), beside, codes };
        let name = documents::name_of(user);
        documents::change(self.store.as_ref(), Collection::Recovery, &name, |_: Option<Kept>| {
            (Some(documents::New::lasting(kept.clone())), ())
        })
        .await?;
        Ok(Some(drawn.into_iter().map(|shown| SecretString::new(shown.code)).collect()))
    }

    /// What is left; `None` when there are none that count.
    ///
    /// # Errors
    /// When the store fails, or what is kept cannot be read.
    pub async fn stock(&self, user: &UserKey) -> StoreResult<Option<Stock>> {
        let document = self.store.document(Collection::Recovery, &documents::name_of(user)).await?;
        let Some(document) = document else { return Ok(None) };
        let kept: Kept = documents::read(Collection::Recovery, &document)?;
        if !kept.hangs_on(&self.authenticators(user).await?) {
            return Ok(None);
        }
        let mut used: Vec<UnixMillis> = kept.codes.iter().filter_map(|code| code.used).collect();
        used.sort_unstable();
        Ok(Some(Stock { made: kept.made, left: kept.codes.len().saturating_sub(used.len()), used }))
    }

    async fn authenticators(&self, user: &UserKey) -> StoreResult<Vec<AuthenticatorId>> {
        Ok(self.store.authenticators(user).await?.into_iter().map(|a| a.id).collect())
    }

    /// Spends a code: `None` when it was right, and this was its first use.
    async fn consume(&self, user: &UserKey, typed: &str, now: UnixMillis) -> StoreResult<Option<Hint>> {
        let enrolled = self.authenticators(user).await?;
        let (hash, name) = (shown_once::hash(typed).to_string(), documents::name_of(user));
        documents::change(self.store.as_ref(), Collection::Recovery, &name, |kept: Option<Kept>| {
            let Some(mut kept) = kept.filter(|kept| kept.hangs_on(&enrolled)) else {
                return (None, Some(Hint::Mismatch));
            };
            // All of them are compared, whichever it is.
            let mut found = None;
            for code in &mut kept.codes {
                if shown_once::same(&code.hash, &hash) {
                    found = Some(code);
                }
            }
            match found {
                None => (None, Some(Hint::Mismatch)),
                Some(Code { used: Some(_), .. }) => (None, Some(Hint::AlreadyUsed)),
                Some(code) => {
                    code.used = Some(now);
                    (Some(documents::New::lasting(kept)), None)
                }
            }
        })
        .await
    }
}

#[async_trait]
impl Factor for Recovery {
    fn method(&self) -> Method {
        Method::Recovery
    }

    async fn ready(&self, user: &UserKey) -> StoreResult<bool> {
        Ok(self.stock(user).await?.is_some_and(|stock| stock.left > 0))
    }

    async fn verify(&self, ask: &Ask<'_>, answer: &str) -> StoreResult<Verdict> {
        let now = self.clock.now();
        if self.stock(ask.user).await?.is_none() {
            return Ok(Verdict::NotEnrolled);
        }
        let charged = match attempt::charge(&self.store, ask.user, now).await? {
            Ok(charged) => charged,
            Err(refused) => return Ok(refused),
        };
        match self.consume(ask.user, answer, now).await? {
            None => attempt::prove(&self.store, ask.user, Method::Recovery, now).await,
            Some(hint) => Ok(charged.wrong(hint)),
        }
    }
}

/// What is kept.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    made: UnixMillis,
    /// On which authenticators they hang.
    beside: Vec<AuthenticatorId>,
    codes: Vec<Code>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Code {
    /// SHA-256, in hexadecimal digits.
    hash: String,
    used: Option<UnixMillis>,
}

impl Kept {
    fn hangs_on(&self, enrolled: &[AuthenticatorId]) -> bool {
        self.beside.iter().any(|id| enrolled.contains(id))
    }
}

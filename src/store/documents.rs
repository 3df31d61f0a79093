//! Small documents that only the layers above can read: what administrators set for a user, where a user is logged in,
//! tokens of the API. A backend keeps bytes under a name, and replaces them only if they still are what the caller
//! saw: one atomic verb, from which everything else here follows.
//!
//! A document is JSON, so that a later version can add a field; at rest it is sealed to its place like every secret.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};

use super::{StoreError, StoreResult};
use crate::{
    base::{clock::UnixMillis, secret::SecretBytes},
    model::{Presence, Profile, UserKey},
};

/// A sort of documents.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Collection {
    /// [`Profile`]s of users.
    Profiles,
    /// [`Presence`]s of users.
    Presence,
    /// Tokens of the administrators' API.
    Tokens,
    /// Answers to writes of the administrators' API, for those who ask twice.
    Receipts,
    /// Recovery codes of users.
    Recovery,
}

impl Collection {
    /// All.
    pub const ALL: [Self; 5] = [Self::Profiles, Self::Presence, Self::Tokens, Self::Receipts, Self::Recovery];

    /// The name it is kept under: never to be changed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Profiles => "profiles",
            Self::Presence => "presence",
            Self::Tokens => "tokens",
            Self::Receipts => "receipts",
            Self::Recovery => "recovery",
        }
    }

    /// Reads what [`Self::name`] gave.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|collection| collection.name() == name)
    }
}

/// A document as kept.
#[derive(Clone)]
pub struct Document {
    /// What it says.
    pub body: SecretBytes,
    /// From when on it can be forgotten; `None`: never.
    pub until: Option<UnixMillis>,
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        self.until == other.until && self.body.expose() == other.body.expose()
    }
}

/// Keeps documents.
#[async_trait]
pub trait Documents: Send + Sync {
    /// One document.
    async fn document(&self, of: Collection, name: &str) -> StoreResult<Option<Document>>;

    /// Puts `new` in the place of `expected` (`None`: nothing is there), durably; false, and nothing is changed, when
    /// something else is there by now.
    async fn swap_document(
        &self,
        of: Collection,
        name: &str,
        expected: Option<Document>,
        new: Option<Document>,
    ) -> StoreResult<bool>;

    /// Up to `limit` documents in the order of their names, after `after`.
    async fn documents(
        &self,
        of: Collection,
        after: Option<&str>,
        limit: usize,
    ) -> StoreResult<Vec<(String, Document)>>;
}

/// What is made of the document of one name, again and again until nobody came in between. `None` from `change` leaves
/// it as it is.
///
/// # Errors
/// When the store fails, what is kept cannot be read, or others change it all the time.
pub async fn change<D, T>(
    store: &(impl Documents + ?Sized),
    of: Collection,
    name: &str,
    mut change: impl FnMut(Option<D>) -> (Option<New<D>>, T),
) -> StoreResult<T>
where
    D: Serialize + DeserializeOwned,
{
    for _ in 0..ATTEMPTS {
        let kept = store.document(of, name).await?;
        let (new, answer) = change(kept.as_ref().map(|kept| read(of, kept)).transpose()?);
        let new = match new {
            None => return Ok(answer),
            Some(New::Nothing) => None,
            Some(New::Kept { document, until }) => Some(Document { body: write(&document)?, until }),
        };
        if store.swap_document(of, name, kept, new).await? {
            return Ok(answer);
        }
    }
    Err(StoreError(format!("a document in {} was changed by others {ATTEMPTS} times in a row", of.name())))
}

/// What [`change`] puts in the place of a document.
pub enum New<D> {
    /// Nothing: it goes.
    Nothing,
    /// This.
    Kept {
        /// What it says.
        document: D,
        /// From when on it can be forgotten.
        until: Option<UnixMillis>,
    },
}

impl<D> New<D> {
    /// A document for ever.
    pub const fn lasting(document: D) -> Self {
        Self::Kept { document, until: None }
    }
}

/// What an administrator has set for a user; the default when nothing was.
///
/// # Errors
/// When the store fails, or what is kept cannot be read.
pub async fn profile(store: &(impl Documents + ?Sized), user: &UserKey) -> StoreResult<Profile> {
    let kept = store.document(Collection::Profiles, &name_of(user)).await?;
    Ok(kept.map(|kept| read(Collection::Profiles, &kept)).transpose()?.unwrap_or_default())
}

/// Changes what is set for a user, in one step; `None` from `edit` leaves it as it is.
///
/// # Errors
/// As [`change`].
pub async fn change_profile<T>(
    store: &(impl Documents + ?Sized),
    user: &UserKey,
    mut edit: impl FnMut(&Profile) -> (Option<Profile>, T),
) -> StoreResult<T> {
    change(store, Collection::Profiles, &name_of(user), |kept: Option<Profile>| {
        let (new, answer) = edit(&kept.unwrap_or_default());
        (new.map(|new| if new == Profile::default() { New::Nothing } else { New::lasting(new) }), answer)
    })
    .await
}

/// Where a user is logged in.
///
/// # Errors
/// When the store fails, or what is kept cannot be read.
pub async fn presence(store: &(impl Documents + ?Sized), user: &UserKey) -> StoreResult<Presence> {
    let kept = store.document(Collection::Presence, &name_of(user)).await?;
    Ok(kept.map(|kept| read(Collection::Presence, &kept)).transpose()?.unwrap_or_default())
}

/// Changes where a user is logged in, in one step.
///
/// # Errors
/// As [`change`].
pub async fn change_presence(
    store: &(impl Documents + ?Sized),
    user: &UserKey,
    mut edit: impl FnMut(&mut Presence),
) -> StoreResult<()> {
    change(store, Collection::Presence, &name_of(user), |kept: Option<Presence>| {
        let old = kept.unwrap_or_default();
        let mut new = old.clone();
        edit(&mut new);
        let until = new.until();
        let new = (new != old).then_some(match until {
            None => New::Nothing,
            until => New::Kept { document: new, until },
        });
        (new, ())
    })
    .await
}

/// The name of a user's document. Realms have no `/`.
pub fn name_of(user: &UserKey) -> String {
    format!("{}/{}", user.realm, user.name)
}

/// Reads a document.
///
/// # Errors
/// When it is none of this sort: that is never "not there" (I9).
pub fn read<D: DeserializeOwned>(of: Collection, kept: &Document) -> StoreResult<D> {
    // The text of the error could tell what is in it.
    serde_json::from_slice(kept.body.expose()).map_err(|error| {
        StoreError(format!("a document in {} cannot be read ({:?})", of.name(), error.classify()))
    })
}

/// Writes a document.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn write<D: Serialize>(document: &D) -> StoreResult<SecretBytes> {
    serde_json::to_vec(document)
        .map(SecretBytes::new)
        .map_err(|_| StoreError("a document cannot be written".to_owned()))
}

/// What the backend without a disk keeps.
pub(super) type Shelves = BTreeMap<(Collection, String), Document>;

const ATTEMPTS: usize = 100;

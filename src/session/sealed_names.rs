//! The names of the apps' cookies that have been seen `HttpOnly`: kept in the store, read from memory without a
//! lock. Such a cookie is sealed from then on, also when the app once forgets the attribute, and a plain value
//! under its name never goes up.

use std::collections::{HashMap, HashSet};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use crate::{
    model::{AppId, Revocation},
    store::{RevocationSink, SharedStore, StoreError},
};

/// How many names of one app are kept: an app that makes names up as it goes must not fill the store.
const AT_MOST: usize = 64;

type ByApp = HashMap<AppId, Vec<Box<[u8]>>, ahash::RandomState>;

/// The learned names of all apps.
pub(super) struct SealedNames {
    store: SharedStore,
    by_app: ArcSwap<ByApp>,
    /// Apps of which the log has said that they set too many.
    overflowing: Mutex<HashSet<AppId>>,
}

/// The names at one moment; hold it no longer than a request's header takes.
pub(super) struct Snapshot(Guard<std::sync::Arc<ByApp>>);

impl Snapshot {
    /// Those of one app.
    pub fn of(&self, app: &AppId) -> &[Box<[u8]>] {
        self.0.get(app).map_or(&[], Vec::as_slice)
    }
}

impl SealedNames {
    /// Loads what is known.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn load(store: SharedStore) -> Result<Self, StoreError> {
        let mut by_app = ByApp::default();
        for (app, name) in store.sealed_names().await? {
            by_app.entry(app).or_default().push(name.into_bytes().into());
        }
        Ok(Self { store, by_app: ArcSwap::from_pointee(by_app), overflowing: Mutex::default() })
    }

    /// What is known now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.by_app.load())
    }

    /// Remembers a name, durably when this answers.
    ///
    /// # Errors
    /// When the store fails: then it is not remembered.
    pub async fn learn(&self, app: &AppId, name: &[u8]) -> Result<(), StoreError> {
        let known = self.by_app.load_full();
        let names = known.get(app).map_or(&[][..], Vec::as_slice);
        if contains(names, name) {
            return Ok(());
        }
        let (Ok(text), true) = (std::str::from_utf8(name), names.len() < AT_MOST) else {
            if self.overflowing.lock().insert(app.clone()) {
                tracing::warn!(
                    app = %app,
                    cookie = %name.escape_ascii(),
                    at_most = AT_MOST,
                    "the app sets more HttpOnly cookies than are remembered: sealed, but plain values go up"
                );
            }
            return Ok(());
        };
        self.store.learn_sealed_name(app, text).await?;
        tracing::info!(app = %app, cookie = text, "sealing this cookie from now on");
        self.note(app, name);
        Ok(())
    }

    /// Knows a name that is kept already: another replica has learned it.
    pub fn note(&self, app: &AppId, name: &[u8]) {
        if self.by_app.load().get(app).is_some_and(|names| contains(names, name)) {
            return;
        }
        self.by_app.rcu(|old| {
            let mut new = ByApp::clone(old);
            let names = new.entry(app.clone()).or_default();
            if !contains(names, name) {
                names.push(name.into());
            }
            new
        });
    }
}

/// A name that another replica has learned is sealed here as well.
impl RevocationSink for SealedNames {
    fn apply(&self, revocation: &Revocation) {
        if let Revocation::SealedName { app, name } = revocation {
            self.note(app, name.as_bytes());
        }
    }
}

/// Byte for byte, as browsers compare names.
pub(super) fn contains(names: &[Box<[u8]>], name: &[u8]) -> bool {
    names.iter().any(|known| **known == *name)
}

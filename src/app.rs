//! The composition root: a configuration becomes parts, and parts become running servers. The only place that names
//! concrete stores.

use std::sync::Arc;

use anyhow::Context;

use crate::{
    base::{keyring::Keyring, random::SystemRandom},
    config::{Config, StoreConfig},
    store::{self, SharedStore},
};

/// Serves until the process is told to stop.
///
/// # Errors
/// When a part cannot be made or a listener cannot be opened.
pub fn run(_config: Config) -> anyhow::Result<()> {
    todo!()
}

/// The key ring of a configuration.
///
/// # Errors
/// When a key is too short, stands there twice, or there is none.
pub fn keyring(config: &Config) -> anyhow::Result<Arc<Keyring>> {
    Ok(Arc::new(Keyring::new(&config.keys, Arc::new(SystemRandom))?))
}

/// Opens the store that the configuration names; no other process may serve it.
///
/// # Errors
/// When it cannot be opened, or somebody else uses it.
pub fn open_store(config: &Config) -> anyhow::Result<SharedStore> {
    match &config.store {
        StoreConfig::Sqlite { path } => {
            store::sqlite::open(path, keyring(config)?).context("the store cannot be opened")
        }
        StoreConfig::Memory => Ok(store::memory::open()),
    }
}

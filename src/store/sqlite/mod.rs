//! The embedded store: one SQLite file, for a single replica.
//!
//! Promises: what a verb acknowledged is on disk (WAL, `synchronous=FULL`: the commit is synced before the
//! answer, I10); verbs are atomic, since one thread writes and each verb runs in one transaction of its; a
//! revocation is applied by every follower in this process before the verb that announces it answers (I3);
//! secrets are sealed to realm, user, authenticator and kind, so a row copied to another user does not open;
//! one process at a time serves a file ([`OpenError::InUse`]); the file and what SQLite puts beside it have
//! mode 0600. A row that cannot be read is an error, never "absent" (I9).
//!
//! Must never hand out a connection, block a caller's runtime, or write a secret in the clear.
//! Where is what: `lock` the claim on the file, `schema` pragmas and migrations, `worker` the threads and the
//! group commit, `sealed` secrets at rest, `enrolments`, `users`, `feed` and `care` the verbs, `names` the search,
//! `portable` the way in and out for a copy.

mod care;
mod documents;
mod enrolments;
mod feed;
mod lock;
mod names;
mod portable;
mod schema;
mod sealed;
#[cfg(test)]
mod tests;
mod users;
mod worker;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rusqlite::Connection;

use self::{
    feed::Feed,
    worker::{Reader, Writer},
};
use super::{SharedStore, StoreError, StoreResult, portable::Portable};
use crate::base::{clock::UnixMillis, keyring::Keyring};

/// Why a file could not be opened as a store. Each text says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process serves it.
    #[error("{} is already in use by {}: stop that one first, or talk to it through its control socket",
        .path.display(), .pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")))]
    InUse {
        /// The file.
        path: PathBuf,
        /// Who, when they wrote it down.
        pid: Option<u32>,
    },
    /// A later Sluis wrote it.
    #[error(
        "{} has schema {found}, and this version of Sluis knows up to {known}: run the newer version again, \
         or restore a backup made before the upgrade", .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest known here.
        known: i64,
    },
    /// It is something else.
    #[error("{} is not a store of Sluis: {why}", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// How that shows.
        why: String,
    },
    /// None of the keys opens it.
    #[error(
        "{} was sealed with a key that is not in the configuration ({secrets} secrets would be lost): put \
         that key back behind the new ones", .path.display()
    )]
    WrongKey {
        /// The file.
        path: PathBuf,
        /// How many secrets stand under keys that are not in the ring.
        secrets: usize,
    },
    /// A copy into it was cut off.
    #[error("{} is half a copy: run the same `sluis store copy` again, it goes on where it was", .path.display())]
    Unfinished {
        /// The file.
        path: PathBuf,
    },
    /// The file system said no.
    #[error("{}: {what}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// SQLite said no.
    #[error("{}: {why}", .path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// Opens the file, or makes it; brings its schema up to date and its secrets under the first key.
///
/// # Errors
/// See [`OpenError`]; then nothing in the file was changed, except when a migration was completed before.
pub fn open(path: &Path, keyring: Arc<Keyring>) -> Result<SharedStore, OpenError> {
    let (store, unfinished) = open_any(path, keyring)?;
    if unfinished { Err(OpenError::Unfinished { path: store.path }) } else { Ok(Arc::new(store)) }
}

/// Opens the file as one end of a copy, also when it is half a copy; makes it like [`open`].
///
/// # Errors
/// See [`OpenError`]; a server that uses the file is one.
pub fn open_portable(path: &Path, keyring: Arc<Keyring>) -> Result<Arc<dyn Portable>, OpenError> {
    Ok(Arc::new(open_any(path, keyring)?.0))
}

/// Opens it; and whether it is half a copy.
fn open_any(path: &Path, keyring: Arc<Keyring>) -> Result<(Sqlite, bool), OpenError> {
    let real = lock::real_path(path)?;
    let lock = lock::FileLock::take(&real)?;
    lock::make_private(&real)?;
    let mut connection = schema::connect(&real)?;
    sealed::prepare(&mut connection, &keyring, &real)?;
    let unfinished = portable::unfinished(&connection).map_err(|e| schema::trouble(&real, &e))?.is_some();
    let reading = schema::connect_to_read(&real)?;
    let fail = |source| OpenError::File { path: real.clone(), what: "could not start a thread", source };
    let writer = Writer::start(connection, lock).map_err(fail)?;
    let reader = Reader::start(reading).map_err(fail)?;
    let ring = Arc::new(ArcSwap::new(keyring));
    Ok((Sqlite { reader, writer, ring, path: real }, unfinished))
}

/// The store. Dropping it ends the threads and gives the file free.
struct Sqlite {
    // Dropped in this order: the writer's connection is the last one and tidies the WAL up.
    reader: Reader,
    writer: Writer,
    ring: Ring,
    path: PathBuf,
}

/// The keys in use. Look at them inside a command, never before: then what is written after a change of keys is
/// sealed by the new ones.
type Ring = Arc<ArcSwap<Keyring>>;

impl Sqlite {
    /// Runs `work` in a transaction and answers after its commit.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &mut Feed) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        self.writer.run(work).await
    }

    /// Runs `work` on one snapshot; sees all that was acknowledged.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        self.reader.run(work).await
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}

/// SQLite has no unsigned numbers; the end of time is good enough for what lies beyond.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number as kept; none of ours is negative.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn millis(number: i64) -> UnixMillis {
    UnixMillis(unsigned(number))
}

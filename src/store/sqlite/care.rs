//! Care of the file: is it there, what can be forgotten, a copy while running; and learned cookie names.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use rusqlite::{
    Connection, OpenFlags,
    backup::{Backup, StepResult},
};
use tokio::sync::oneshot;

use super::{Sqlite, StoreError, StoreResult, feed::prune_devices, lock::PRIVATE, schema, sealed, signed};
use crate::{
    base::{
        clock::{Stopwatch, UnixMillis},
        keyring::Keyring,
    },
    model::AppId,
    store::{Rekeyed, SealedCount, SealedNames, Upkeep},
};

#[async_trait]
impl SealedNames for Sqlite {
    async fn learn_sealed_name(&self, app: &AppId, name: &str) -> StoreResult<()> {
        let (app, name) = (app.clone(), name.to_owned());
        self.write(move |db, _| {
            db.prepare_cached("INSERT INTO sealed_names VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
                .execute([app.as_str(), &name])?;
            Ok(())
        })
        .await
    }

    async fn sealed_names(&self) -> StoreResult<Vec<(AppId, String)>> {
        self.read(|db| {
            let mut select = db.prepare("SELECT app, name FROM sealed_names ORDER BY app, name")?;
            let rows = select.query_map([], |row| Ok((AppId::new(row.get::<_, String>(0)?), row.get(1)?)))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }
}

#[async_trait]
impl Upkeep for Sqlite {
    /// Through both threads, so that a stalled one shows.
    async fn ping(&self) -> StoreResult<Duration> {
        let begun = Stopwatch::start();
        let alive = |db: &Connection| Ok(db.prepare_cached("SELECT 1")?.exists([])?);
        self.write(move |db, _| alive(db)).await?;
        self.read(alive).await?;
        Ok(begun.elapsed())
    }

    async fn sealed(&self) -> StoreResult<SealedCount> {
        let ring = self.ring.clone();
        self.read(move |db| sealed::count(db, &ring.load())).await
    }

    async fn rekey(&self, keyring: Arc<Keyring>) -> StoreResult<Rekeyed> {
        let ring = self.ring.clone();
        self.write(move |db, _| {
            let outcome = sealed::rekey(db, &ring.load(), &keyring)?;
            if let Rekeyed::Done { .. } = outcome {
                // Before the commit: whoever sees a row under the new key has the new ring, and the new ring opens
                // all that the commit would have changed, if it fails.
                ring.store(keyring);
            }
            Ok(outcome)
        })
        .await
    }

    async fn prune(&self, now: UnixMillis) -> StoreResult<usize> {
        self.write(move |db, _| {
            let mut gone = prune_devices(db, now)?;
            for statement in [
                "DELETE FROM documents WHERE until <= ?1",
                "DELETE FROM consumed_logins WHERE until <= ?1",
                "DELETE FROM ended_sessions WHERE until <= ?1",
                "UPDATE users SET void_before = NULL, void_until = NULL WHERE void_until <= ?1",
            ] {
                gone = gone.saturating_add(db.execute(statement, [signed(now.0)])?);
            }
            Ok(gone)
        })
        .await
    }

    async fn backup(&self, to: PathBuf) -> StoreResult<()> {
        // A thread of its own: a large copy must not hold up readers. Readers and the copy do not hold up
        // the writer either: that is what the write-ahead log is for.
        let (reply, answer) = oneshot::channel();
        let path = self.path.clone();
        std::thread::Builder::new()
            .name("store-backup".to_owned())
            .spawn(move || {
                let _ = reply.send(copy(&path, &to));
            })
            .map_err(|error| StoreError(format!("could not start a thread: {error}")))?;
        answer.await.unwrap_or_else(|_| Err(StoreError("the backup was cut short".to_owned())))
    }
}

/// Copies under a name beside `to`, checks the copy, and gives it its name in one step that never overwrites.
fn copy(from: &Path, to: &Path) -> StoreResult<()> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        StoreError(format!("backup to {}: {what}: {error}", to.display()))
    };
    if fs::symlink_metadata(to).is_ok() {
        return Err(failed("not written", &"there is a file of that name already"));
    }
    let mut name = to.as_os_str().to_owned();
    name.push(format!(".partial-{}", std::process::id()));
    let partial = PathBuf::from(name);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE)
        .open(&partial)
        .map_err(|error| failed("could not be made", &error))?;
    let done = fill(from, &partial)
        .map_err(|error| failed("could not be written", &error))
        .and_then(|()| place(&partial, to).map_err(|error| failed("could not be named", &error)));
    if done.is_err() {
        // The reason above is what matters; the rest of a copy is only in the way.
        let _ = fs::remove_file(&partial);
    }
    done
}

fn fill(from: &Path, to: &Path) -> StoreResult<()> {
    let source = schema::connect_to_read(from).map_err(|error| StoreError(error.to_string()))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut target = Connection::open_with_flags(to, flags)?;
    // All pages in one step are one snapshot; in smaller steps each write in between starts it anew.
    if Backup::new(&source, &mut target)?.step(-1)? != StepResult::Done {
        return Err(StoreError("the source was locked".to_owned()));
    }
    // One file that stands by itself, without a log beside it.
    target.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    let verdict: String = target.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(StoreError(format!("the copy is damaged: {verdict}")));
    }
    target.close().map_err(|(_, error)| error)?;
    fs::File::open(to).and_then(|file| file.sync_all()).map_err(|error| StoreError(error.to_string()))
}

fn place(partial: &Path, to: &Path) -> io::Result<()> {
    use rustix::{
        fs::{CWD, RenameFlags, renameat_with},
        io::Errno,
    };
    match renameat_with(CWD, partial, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        // Not every file system has that (NFS); a link does not overwrite either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::hard_link(partial, to)?;
            fs::remove_file(partial)?;
        }
        Err(error) => return Err(error.into()),
    }
    let directory = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(directory)?.sync_all()
}

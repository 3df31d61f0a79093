//! Pragmas and migrations. `user_version` counts the migrations that were applied.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::OpenError;

/// Each step once, in order, each in a transaction with its number. Never edit one that was released.
const MIGRATIONS: &[&str] = &[
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
];

/// Marks the file as ours: "SLUI".
const APPLICATION_ID: i64 = 0x534c_5549;

/// How long a statement waits for another tool's lock (a shell, a copy) before it fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that writes: checked, brought up to date.
pub(super) fn connect(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(|e| trouble(path, &e))?;
    let version = version_of_ours(&connection, path)?;
    set_up(&connection, path)?;
    migrate(&mut connection, version).map_err(|e| trouble(path, &e))?;
    Ok(connection)
}

/// A connection that only reads.
pub(super) fn connect_to_read(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| trouble(path, &e))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|e| trouble(path, &e))?;
    Ok(connection)
}

/// The schema version, after a look at whether the file is ours to touch; nothing is written before.
fn version_of_ours(connection: &Connection, path: &Path) -> Result<i64, OpenError> {
    let number = |pragma: &str| {
        connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0)).map_err(|error| {
            match error.sqlite_error_code() {
                Some(ErrorCode::NotADatabase) => foreign(path, "it is no SQLite database"),
                _ => trouble(path, &error),
            }
        })
    };
    let (version, application, schema) =
        (number("user_version")?, number("application_id")?, number("schema_version")?);
    let known = newest();
    if schema == 0 {
        Ok(0)
    } else if application != APPLICATION_ID {
        Err(foreign(path, "it is the database of another program"))
    } else if version > known {
        Err(OpenError::Newer { path: path.to_owned(), found: version, known })
    } else {
        Ok(version)
    }
}

fn set_up(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|e| trouble(path, &e))?;
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(|e| trouble(path, &e))?;
    if mode != "wal" {
        let why = format!("this file system cannot hold a write-ahead log (journal mode stays {mode})");
        return Err(OpenError::Database { path: path.to_owned(), why });
    }
    // FULL: a commit is on disk before it is acknowledged (I10).
    let pragmas = "PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA trusted_schema = OFF;
         PRAGMA secure_delete = FAST;
         PRAGMA temp_store = MEMORY;
         PRAGMA journal_size_limit = 16777216;";
    connection.execute_batch(pragmas).map_err(|e| trouble(path, &e))
}

fn migrate(connection: &mut Connection, version: i64) -> rusqlite::Result<()> {
    for (step, sql) in (1_i64..).zip(MIGRATIONS) {
        if step <= version {
            continue;
        }
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(sql)?;
        tx.pragma_update(None, "user_version", step)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.commit()?;
    }
    Ok(())
}

/// The newest schema that this version knows.
pub(super) fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

pub(super) fn trouble(path: &Path, error: &rusqlite::Error) -> OpenError {
    OpenError::Database { path: path.to_owned(), why: error.to_string() }
}

fn foreign(path: &Path, why: &str) -> OpenError {
    OpenError::Foreign { path: path.to_owned(), why: why.to_owned() }
}

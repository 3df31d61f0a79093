//! Users: met, counted, blocked, reset.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    Sqlite, StoreResult,
    feed::Feed,
    millis,
    names::{self, COLUMNS},
    signed, unsigned,
};
use crate::{
    base::clock::UnixMillis,
    model::{Realm, Revocation, UserKey, UserName},
    store::{AttemptState, UserRecord, Users},
};

#[async_trait]
impl Users for Sqlite {
    async fn note_seen(&self, user: &UserKey, login: bool, now: UnixMillis) -> StoreResult<()> {
        let user = user.clone();
        self.write(move |db, _| {
            let login_at = login.then(|| signed(now.0));
            db.prepare_cached(
                "UPDATE users SET first_seen_at = coalesce(first_seen_at, ?2),
                        last_login_at = coalesce(max(last_login_at, ?3), last_login_at, ?3)
                  WHERE id = ?1",
            )?
            .execute(params![make_id_of(db, &user)?, signed(now.0), login_at])?;
            Ok(())
        })
        .await
    }

    async fn user(&self, user: &UserKey) -> StoreResult<Option<UserRecord>> {
        let user = user.clone();
        self.read(move |db| {
            let found = db
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM users WHERE first_seen_at IS NOT NULL AND realm = ?1 AND name = ?2"
                ))?
                .query_row([user.realm.as_str(), user.name.as_str()], record)
                .optional()?;
            Ok(found)
        })
        .await
    }

    async fn list(&self, part: &str, after: Option<&UserKey>, limit: usize) -> StoreResult<Vec<UserRecord>> {
        let (part, after) = (part.to_owned(), after.cloned());
        self.read(move |db| names::list(db, &part, after.as_ref(), limit)).await
    }

    async fn reset(&self, user: &UserKey, now: UnixMillis, until: UnixMillis) -> StoreResult<usize> {
        let user = user.clone();
        self.write(move |db, feed| {
            let id = make_id_of(db, &user)?;
            let removed = db.prepare_cached("DELETE FROM authenticators WHERE user = ?1")?.execute([id])?;
            db.prepare_cached("UPDATE users SET failures = 0, wait_until = 0 WHERE id = ?1")?
                .execute([id])?;
            void(db, feed, user, now, until)?;
            Ok(removed)
        })
        .await
    }

    async fn sign_out(&self, user: &UserKey, now: UnixMillis, until: UnixMillis) -> StoreResult<()> {
        let user = user.clone();
        self.write(move |db, feed| void(db, feed, user, now, until)).await
    }

    async fn set_blocked(&self, user: &UserKey, blocked: bool, now: UnixMillis) -> StoreResult<()> {
        let user = user.clone();
        self.write(move |db, feed| {
            let version = db
                .prepare_cached(
                    "UPDATE users SET blocked = ?2, first_seen_at = coalesce(first_seen_at, ?3),
                            block_version = max(block_version + 1, ?3)
                      WHERE id = ?1 RETURNING block_version",
                )?
                .query_row(params![make_id_of(db, &user)?, blocked, signed(now.0)], |row| row.get(0))?;
            feed.announce(Revocation::Blocked { user, blocked, version: unsigned(version) });
            Ok(())
        })
        .await
    }
}

/// All that was proved before `now` is void.
fn void(
    db: &Connection,
    feed: &mut Feed,
    user: UserKey,
    now: UnixMillis,
    until: UnixMillis,
) -> StoreResult<()> {
    let (before, until) = db
        .prepare_cached(
            "UPDATE users SET void_before = max(coalesce(void_before, 0), ?2),
                    void_until = max(coalesce(void_until, 0), ?3)
              WHERE id = ?1 RETURNING void_before, void_until",
        )?
        .query_row(params![make_id_of(db, &user)?, signed(now.0), signed(until.0)], |row| {
            Ok((millis(row.get(0)?), millis(row.get(1)?)))
        })?;
    feed.announce(Revocation::User { user, before, until });
    Ok(())
}

/// The row of a user, if there is one.
pub(super) fn id_of(db: &Connection, user: &UserKey) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT id FROM users WHERE realm = ?1 AND name = ?2")?
        .query_row([user.realm.as_str(), user.name.as_str()], |row| row.get(0))
        .optional()
}

/// The row of a user, made if need be.
pub(super) fn make_id_of(db: &Connection, user: &UserKey) -> rusqlite::Result<i64> {
    if let Some(id) = id_of(db, user)? {
        return Ok(id);
    }
    db.prepare_cached("INSERT INTO users (realm, name) VALUES (?1, ?2)")?
        .execute([user.realm.as_str(), user.name.as_str()])?;
    let id = db.last_insert_rowid();
    names::add(db, id, user.name.as_str())?;
    Ok(id)
}

/// A user's key from two columns.
pub(super) fn key(row: &Row<'_>, realm: usize, name: usize) -> rusqlite::Result<UserKey> {
    let (realm, name): (String, String) = (row.get(realm)?, row.get(name)?);
    Ok(UserKey { realm: Realm::new(realm), name: UserName::canonical(name) })
}

/// A record from [`COLUMNS`].
pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<UserRecord> {
    Ok(UserRecord {
        user: key(row, 0, 1)?,
        blocked: row.get(2)?,
        first_seen_at: millis(row.get(3)?),
        last_login_at: row.get::<_, Option<i64>>(4)?.map(millis),
        attempts: AttemptState { failures: row.get(5)?, wait_until: millis(row.get(6)?) },
        authenticators: usize::try_from(unsigned(row.get(7)?)).unwrap_or(usize::MAX),
    })
}

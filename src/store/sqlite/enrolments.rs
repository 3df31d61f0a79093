//! Authenticators, and things that happen once.

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Row, params};

use super::{
    Sqlite, StoreError, StoreResult, millis,
    sealed::{self, Place},
    signed, unsigned,
    users::{id_of, make_id_of},
};
use crate::{
    base::{clock::UnixMillis, keyring::Keyring, secret::SecretBytes},
    model::{Authenticator, AuthenticatorId, LoginId, Method, MethodSet, UserKey},
    store::{Added, AttemptState, Attempts, Enrolments, NewAuthenticator, OneTime, Spare},
};

#[async_trait]
impl Enrolments for Sqlite {
    async fn authenticators(&self, user: &UserKey) -> StoreResult<Vec<Authenticator>> {
        let (user, ring) = (user.clone(), self.ring.clone());
        self.read(move |db| {
            let mut select = db.prepare_cached(
                "SELECT a.id, a.method, a.name, a.confirmed_at, a.last_used_at, a.secret, a.last_step,
                        a.drift_steps
                   FROM authenticators a JOIN users u ON u.id = a.user
                  WHERE u.realm = ?1 AND u.name = ?2 ORDER BY a.seq",
            )?;
            let mut rows = select.query([user.realm.as_str(), user.name.as_str()])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                // Not before the row is there: whatever key it is under is in the ring by then.
                all.push(authenticator(row, &user, &ring.load())?);
            }
            Ok(all)
        })
        .await
    }

    async fn add(&self, user: &UserKey, new: NewAuthenticator) -> StoreResult<Added> {
        let (user, ring) = (user.clone(), self.ring.clone());
        self.write(move |db, _| {
            let NewAuthenticator { authenticator: a, at_most, begun } = new;
            let known = db
                .prepare_cached("SELECT 1 FROM authenticators WHERE id = ?1")?
                .exists([a.id.0.as_slice()])?;
            if known {
                return Ok(Added::Known);
            }
            let owner = make_id_of(db, &user)?;
            let void = db
                .prepare_cached("SELECT blocked OR coalesce(void_before > ?2, 0) FROM users WHERE id = ?1")?
                .query_row(params![owner, signed(begun.0)], |row| row.get(0))?;
            if void {
                return Ok(Added::Void);
            }
            let have: i64 = db
                .prepare_cached("SELECT count(*) FROM authenticators WHERE user = ?1")?
                .query_row([owner], |row| row.get(0))?;
            if unsigned(have) >= at_most as u64 {
                return Ok(Added::TooMany);
            }
            let method = a.method.name();
            let secret = sealed::seal(&ring.load(), &Place::of(&user, &a.id, method), &a.secret)?;
            db.prepare_cached(
                "INSERT INTO authenticators
                   (id, user, method, name, confirmed_at, last_used_at, secret, last_step, drift_steps)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                a.id.0.as_slice(),
                owner,
                method,
                a.name,
                signed(a.confirmed_at.0),
                a.last_used_at.map(|t| signed(t.0)),
                secret,
                signed(a.last_step),
                a.drift_steps
            ])?;
            db.prepare_cached("UPDATE users SET first_seen_at = coalesce(first_seen_at, ?2) WHERE id = ?1")?
                .execute(params![owner, signed(a.confirmed_at.0)])?;
            Ok(Added::Kept)
        })
        .await
    }

    async fn advance_step(
        &self,
        user: &UserKey,
        id: AuthenticatorId,
        step: u64,
        drift_steps: i8,
        now: UnixMillis,
    ) -> StoreResult<bool> {
        let user = user.clone();
        self.write(move |db, _| {
            let Some(owner) = id_of(db, &user)? else { return Ok(false) };
            // The comparison and the change are one statement: a step is accepted once (I4).
            let changed = db
                .prepare_cached(
                    "UPDATE authenticators SET last_step = ?3, drift_steps = ?4, last_used_at = ?5
                      WHERE id = ?1 AND user = ?2 AND last_step < ?3",
                )?
                .execute(params![id.0.as_slice(), owner, signed(step), drift_steps, signed(now.0)])?;
            Ok(changed == 1)
        })
        .await
    }

    async fn rename(&self, user: &UserKey, id: AuthenticatorId, name: &str) -> StoreResult<bool> {
        let (user, name) = (user.clone(), name.to_owned());
        self.write(move |db, _| {
            let Some(owner) = id_of(db, &user)? else { return Ok(false) };
            let renamed = db
                .prepare_cached("UPDATE authenticators SET name = ?3 WHERE id = ?1 AND user = ?2")?
                .execute(params![id.0.as_slice(), owner, name])?;
            Ok(renamed == 1)
        })
        .await
    }

    async fn remove_spare(
        &self,
        user: &UserKey,
        id: AuthenticatorId,
        counting: MethodSet,
    ) -> StoreResult<Spare> {
        let user = user.clone();
        self.write(move |db, _| {
            let Some(owner) = id_of(db, &user)? else { return Ok(Spare::Unknown) };
            let (mut found, mut stays) = (false, false);
            let mut select = db.prepare_cached("SELECT id, method FROM authenticators WHERE user = ?1")?;
            let mut rows = select.query([owner])?;
            while let Some(row) = rows.next()? {
                if row.get::<_, [u8; 16]>(0)? == id.0 {
                    found = true;
                } else {
                    let method: String = row.get(1)?;
                    stays |= Method::parse(&method).is_some_and(|method| counting.contains(method));
                }
            }
            if !(found && stays) {
                return Ok(if found { Spare::Last } else { Spare::Unknown });
            }
            db.prepare_cached("DELETE FROM authenticators WHERE id = ?1 AND user = ?2")?
                .execute(params![id.0.as_slice(), owner])?;
            Ok(Spare::Removed)
        })
        .await
    }

    async fn remove(&self, user: &UserKey, id: AuthenticatorId) -> StoreResult<bool> {
        let user = user.clone();
        self.write(move |db, _| {
            let Some(owner) = id_of(db, &user)? else { return Ok(false) };
            let removed = db
                .prepare_cached("DELETE FROM authenticators WHERE id = ?1 AND user = ?2")?
                .execute(params![id.0.as_slice(), owner])?;
            Ok(removed == 1)
        })
        .await
    }
}

#[async_trait]
impl OneTime for Sqlite {
    async fn consume(&self, login: LoginId, until: UnixMillis) -> StoreResult<bool> {
        self.write(move |db, _| {
            let inserted = db
                .prepare_cached("INSERT INTO consumed_logins VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
                .execute(params![login.0.as_slice(), signed(until.0)])?;
            Ok(inserted == 1)
        })
        .await
    }
}

#[async_trait]
impl Attempts for Sqlite {
    async fn attempts(&self, user: &UserKey) -> StoreResult<AttemptState> {
        let user = user.clone();
        self.read(move |db| {
            let state = db
                .prepare_cached("SELECT failures, wait_until FROM users WHERE realm = ?1 AND name = ?2")?
                .query_row([user.realm.as_str(), user.name.as_str()], |row| {
                    Ok(AttemptState { failures: row.get(0)?, wait_until: millis(row.get(1)?) })
                })
                .optional()?;
            Ok(state.unwrap_or_default())
        })
        .await
    }

    async fn swap_attempts(
        &self,
        user: &UserKey,
        expected: AttemptState,
        new: AttemptState,
    ) -> StoreResult<bool> {
        let user = user.clone();
        self.write(move |db, _| {
            let id = make_id_of(db, &user)?;
            let changed = db
                .prepare_cached(
                    "UPDATE users SET failures = ?2, wait_until = ?3
                      WHERE id = ?1 AND failures = ?4 AND wait_until = ?5",
                )?
                .execute(params![
                    id,
                    new.failures,
                    signed(new.wait_until.0),
                    expected.failures,
                    signed(expected.wait_until.0)
                ])?;
            Ok(changed == 1)
        })
        .await
    }
}

/// A row as it is; what cannot be understood is an error, so that nobody counts as not enrolled (I9).
pub(super) fn authenticator(row: &Row<'_>, user: &UserKey, keyring: &Keyring) -> StoreResult<Authenticator> {
    let id = AuthenticatorId(row.get(0)?);
    let kind: String = row.get(1)?;
    let method = Method::parse(&kind)
        .ok_or_else(|| StoreError(format!("an authenticator of {user} has the unknown method {kind:?}")))?;
    let boxed: Vec<u8> = row.get(5)?;
    let secret: SecretBytes = sealed::open(keyring, &Place::of(user, &id, &kind), &boxed)?;
    Ok(Authenticator {
        id,
        method,
        name: row.get(2)?,
        confirmed_at: millis(row.get(3)?),
        last_used_at: row.get::<_, Option<i64>>(4)?.map(millis),
        secret,
        last_step: unsigned(row.get(6)?),
        drift_steps: row.get(7)?,
    })
}

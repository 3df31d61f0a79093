//! Secrets at rest: sealed to the row they belong to, and kept under the first key of the ring.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::{OpenError, StoreError, StoreResult, schema};
use crate::{
    base::{
        keyring::{KeyId, Keyring, Seal},
        secret::SecretBytes,
    },
    model::{AuthenticatorId, UserKey},
    store::{Collection, Rekeyed, SealedCount},
};

/// Where a secret belongs; it opens nowhere else.
pub(super) struct Place<'a> {
    pub(super) realm: &'a str,
    pub(super) user: &'a str,
    pub(super) id: &'a [u8],
    pub(super) kind: &'a str,
}

impl<'a> Place<'a> {
    pub(super) fn of(user: &'a UserKey, id: &'a AuthenticatorId, kind: &'a str) -> Self {
        Self { realm: user.realm.as_str(), user: user.name.as_str(), id: &id.0, kind }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = b"sluis/v1/authenticator".to_vec();
        for part in [self.realm.as_bytes(), self.user.as_bytes(), self.id, self.kind.as_bytes()] {
            // Lengths in front, so that no two places give the same bytes.
            out.extend_from_slice(&(part.len() as u64).to_be_bytes());
            out.extend_from_slice(part);
        }
        out
    }
}

pub(super) fn seal(keyring: &Keyring, place: &Place<'_>, secret: &SecretBytes) -> StoreResult<Vec<u8>> {
    keyring.seal(Seal::AtRest, &place.bytes(), secret.expose()).map_err(|error| StoreError(error.to_string()))
}

pub(super) fn open(keyring: &Keyring, place: &Place<'_>, sealed: &[u8]) -> StoreResult<SecretBytes> {
    keyring.open(Seal::AtRest, &place.bytes(), sealed).ok_or_else(|| {
        let Place { realm, user, .. } = place;
        StoreError(format!(
            "a secret of {realm}/{user} does not open: its row or its key is not the right one"
        ))
    })
}

/// Seals a document to its place.
pub(super) fn seal_document(
    keyring: &Keyring,
    of: Collection,
    name: &str,
    body: &SecretBytes,
) -> StoreResult<Vec<u8>> {
    keyring
        .seal(Seal::AtRest, &document_place(of.name(), name), body.expose())
        .map_err(|error| StoreError(error.to_string()))
}

/// Opens a document of this place.
pub(super) fn open_document(
    keyring: &Keyring,
    of: Collection,
    name: &str,
    sealed: &[u8],
) -> StoreResult<SecretBytes> {
    keyring.open(Seal::AtRest, &document_place(of.name(), name), sealed).ok_or_else(|| {
        let of = of.name();
        StoreError(format!("a document in {of} does not open: its row or its key is not the right one"))
    })
}

fn document_place(of: &str, name: &str) -> Vec<u8> {
    // No name of a collection has a NUL in it.
    [b"sluis/v1/document\0", of.as_bytes(), b"\0", name.as_bytes()].concat()
}

/// At start: refuses a file whose key is not in the ring, and puts secrets of older keys under the first, so
/// that an old key can be dropped from the ring after a restart with the new one in front.
pub(super) fn prepare(connection: &mut Connection, keyring: &Keyring, path: &Path) -> Result<(), OpenError> {
    let trouble = |error: rusqlite::Error| schema::trouble(path, &error);
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(trouble)?;
    let check: Option<Vec<u8>> = tx
        .query_row("SELECT value FROM settings WHERE name = ?1", [CHECK], |row| row.get(0))
        .optional()
        .map_err(trouble)?;
    let current = keyring.current();
    if let Some(sealed) = &check
        && keyring.open(Seal::AtRest, CHECK.as_bytes(), sealed).is_none()
    {
        let secrets = count(&tx, keyring).map_or(0, |found| found.unknown);
        return Err(OpenError::WrongKey { path: path.to_owned(), secrets });
    }
    if check.is_some_and(|sealed| sealed.starts_with(&current)) {
        return Ok(());
    }
    renew(&tx, keyring).map_err(|error| OpenError::Database {
        path: path.to_owned(),
        why: format!("secrets could not be put under the first key: {error}"),
    })?;
    tx.commit().map_err(trouble)?;
    Ok(())
}

/// While running: the same for another ring, which must have every key under which a secret stands that opens now.
/// Part of a transaction of the caller's.
pub(super) fn rekey(connection: &Connection, present: &Keyring, next: &Keyring) -> StoreResult<Rekeyed> {
    let opens = |ring: &Keyring, id: KeyId| ring.ids().any(|key| key == id);
    let needed = by_key(connection)?.into_iter().filter(|(id, _)| opens(present, *id) && !opens(next, *id));
    let secrets = needed.map(|(_, count)| count).sum();
    if secrets > 0 {
        return Ok(Rekeyed::Needed { secrets });
    }
    Ok(Rekeyed::Done { renewed: renew(connection, next)? })
}

/// How the secrets stand to a ring.
pub(super) fn count(connection: &Connection, keyring: &Keyring) -> StoreResult<SealedCount> {
    let mut found = SealedCount::default();
    for (id, count) in by_key(connection)? {
        let sum = match keyring.ids().position(|key| key == id) {
            Some(0) => &mut found.first,
            Some(_) => &mut found.older,
            None => &mut found.unknown,
        };
        *sum += count;
    }
    Ok(found)
}

/// How many secrets stand under which key. A box begins with the id of its key.
fn by_key(connection: &Connection) -> StoreResult<Vec<(KeyId, usize)>> {
    let mut select = connection.prepare_cached(
        "SELECT substr(box, 1, 4), count(*) FROM
               (SELECT secret AS box FROM authenticators UNION ALL SELECT body FROM documents) GROUP BY 1",
    )?;
    let rows = select.query_map([], |row| {
        let id: Vec<u8> = row.get(0)?;
        Ok((id.first_chunk().copied().unwrap_or_default(), row.get::<_, i64>(1)?))
    })?;
    let rows: Vec<(KeyId, i64)> = rows.collect::<rusqlite::Result<_>>()?;
    Ok(rows.into_iter().map(|(id, count)| (id, usize::try_from(count).unwrap_or(0))).collect())
}

/// Puts everything under the first key. Answers how many secrets were.
fn renew(connection: &Connection, keyring: &Keyring) -> StoreResult<usize> {
    let renewed = renew_secrets(connection, keyring)?.saturating_add(renew_documents(connection, keyring)?);
    let fresh =
        keyring.seal(Seal::AtRest, CHECK.as_bytes(), b"").map_err(|error| StoreError(error.to_string()))?;
    connection
        .execute("INSERT OR REPLACE INTO settings (name, value) VALUES (?1, ?2)", params![CHECK, fresh])?;
    if renewed > 0 {
        tracing::info!(secrets = renewed, "secrets at rest put under the first key");
    }
    Ok(renewed)
}

/// Seals again what another key has sealed. A secret that does not open is left as it is: it stays an error
/// for its user, and must not keep everybody else out.
fn renew_secrets(connection: &Connection, keyring: &Keyring) -> StoreResult<usize> {
    let mut select = connection.prepare(
        "SELECT a.seq, a.id, a.method, a.secret, u.realm, u.name
           FROM authenticators a JOIN users u ON u.id = a.user",
    )?;
    let mut rows = select.query([])?;
    let mut fresh = Vec::new();
    while let Some(row) = rows.next()? {
        let sealed: Vec<u8> = row.get(3)?;
        if sealed.starts_with(&keyring.current()) {
            continue;
        }
        let (id, kind, realm, user): (Vec<u8>, String, String, String) =
            (row.get(1)?, row.get(2)?, row.get(4)?, row.get(5)?);
        let place = Place { realm: &realm, user: &user, id: &id, kind: &kind };
        match open(keyring, &place, &sealed) {
            Ok(secret) => fresh.push((row.get::<_, i64>(0)?, seal(keyring, &place, &secret)?)),
            Err(error) => tracing::error!(%error, "left a secret under its old key"),
        }
    }
    for (seq, sealed) in &fresh {
        connection.execute("UPDATE authenticators SET secret = ?2 WHERE seq = ?1", params![seq, sealed])?;
    }
    Ok(fresh.len())
}

/// The same for documents.
fn renew_documents(connection: &Connection, keyring: &Keyring) -> StoreResult<usize> {
    let mut select = connection.prepare("SELECT collection, name, body FROM documents")?;
    let mut rows = select.query([])?;
    let mut fresh = Vec::new();
    while let Some(row) = rows.next()? {
        let (of, name, sealed): (String, String, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if sealed.starts_with(&keyring.current()) {
            continue;
        }
        let place = document_place(&of, &name);
        match keyring.open(Seal::AtRest, &place, &sealed) {
            Some(body) => {
                let boxed = keyring.seal(Seal::AtRest, &place, body.expose());
                fresh.push((of, name, boxed.map_err(|error| StoreError(error.to_string()))?));
            }
            None => tracing::error!(collection = of, "left a document under its old key: it does not open"),
        }
    }
    for (of, name, boxed) in &fresh {
        connection.execute(
            "UPDATE documents SET body = ?3 WHERE collection = ?1 AND name = ?2",
            params![of, name, boxed],
        )?;
    }
    Ok(fresh.len())
}

/// A box of nothing under the first key: tells at start whether the ring is the right one.
const CHECK: &str = "key-check";

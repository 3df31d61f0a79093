//! Documents: bytes under a name, sealed to it.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Sqlite, StoreResult, millis, sealed, signed};
use crate::{
    base::keyring::Keyring,
    store::{Collection, Document, Documents},
};

#[async_trait]
impl Documents for Sqlite {
    async fn document(&self, of: Collection, name: &str) -> StoreResult<Option<Document>> {
        let (name, ring) = (name.to_owned(), self.ring.clone());
        self.read(move |db| find(db, &ring.load(), of, &name)).await
    }

    async fn swap_document(
        &self,
        of: Collection,
        name: &str,
        expected: Option<Document>,
        new: Option<Document>,
    ) -> StoreResult<bool> {
        let (name, ring) = (name.to_owned(), self.ring.clone());
        self.write(move |db, _| {
            let ring = ring.load();
            if find(db, &ring, of, &name)? != expected {
                return Ok(false);
            }
            match new {
                Some(new) => write(db, &ring, of, &name, &new)?,
                None => {
                    db.prepare_cached("DELETE FROM documents WHERE collection = ?1 AND name = ?2")?
                        .execute([of.name(), &name])?;
                }
            }
            Ok(true)
        })
        .await
    }

    async fn documents(
        &self,
        of: Collection,
        after: Option<&str>,
        limit: usize,
    ) -> StoreResult<Vec<(String, Document)>> {
        let (after, ring) = (after.map(str::to_owned), self.ring.clone());
        self.read(move |db| {
            let mut select = db.prepare_cached(
                "SELECT name, body, until FROM documents
                  WHERE collection = ?1 AND (?2 IS NULL OR name > ?2) ORDER BY name LIMIT ?3",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut rows = select.query(params![of.name(), after, limit])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let (name, boxed, until): (String, Vec<u8>, Option<i64>) =
                    (row.get(0)?, row.get(1)?, row.get(2)?);
                let body = sealed::open_document(&ring.load(), of, &name, &boxed)?;
                found.push((name, Document { body, until: until.map(millis) }));
            }
            Ok(found)
        })
        .await
    }
}

/// What is kept under a name.
pub(super) fn find(
    db: &Connection,
    ring: &Keyring,
    of: Collection,
    name: &str,
) -> StoreResult<Option<Document>> {
    let kept: Option<(Vec<u8>, Option<i64>)> = db
        .prepare_cached("SELECT body, until FROM documents WHERE collection = ?1 AND name = ?2")?
        .query_row([of.name(), name], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let open = |(boxed, until): (Vec<u8>, Option<i64>)| {
        let body = sealed::open_document(ring, of, name, &boxed)?;
        Ok(Document { body, until: until.map(millis) })
    };
    kept.map(open).transpose()
}

/// Keeps this, whatever was there.
pub(super) fn write(
    db: &Connection,
    ring: &Keyring,
    of: Collection,
    name: &str,
    document: &Document,
) -> StoreResult<()> {
    let boxed = sealed::seal_document(ring, of, name, &document.body)?;
    db.prepare_cached(
        "INSERT OR REPLACE INTO documents (collection, name, body, until) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![of.name(), name, boxed, document.until.map(|until| signed(until.0))])?;
    Ok(())
}

//! Documents: bytes under a name, sealed to its place.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;

use super::{
    Redis,
    backend::{Backend, Change, Page, Write, unreadable},
    data_set::{Key, Place},
    record::Document as Record,
};
use crate::{
    base::secret::SecretBytes,
    store::{Collection, Document, Documents, StoreError, StoreResult},
};

#[async_trait]
impl Documents for Redis {
    async fn document(&self, of: Collection, name: &str) -> StoreResult<Option<Document>> {
        let kept = self.backend.get(&self.backend.set.document(of, name)).await?;
        found(kept.plain.as_ref(), of, name)
    }

    async fn swap_document(
        &self,
        of: Collection,
        name: &str,
        expected: Option<Document>,
        new: Option<Document>,
    ) -> StoreResult<bool> {
        let place = self.backend.set.document(of, name);
        let swapped = self.backend.change(&place, true, |kept| {
            if found(kept.plain.as_ref(), of, name)? != expected {
                return Ok(Change::Keep(false));
            }
            if expected.is_none() && new.is_none() {
                return Ok(Change::Keep(true));
            }
            // What is removed leaves a mark behind, which can be forgotten at once.
            let due = new.as_ref().map_or(Some(kept.now), |new| new.until);
            let record = Record { of, name: name.to_owned(), document: new.clone() }.write();
            Ok(Change::Write(Write { record, due, announce: None, answer: true }))
        });
        let (swapped, _) = swapped.await?;
        Ok(swapped)
    }

    /// Opens every document: names are sealed, so there is no order in the backend. Not on a thread that serves
    /// requests.
    async fn documents(
        &self,
        of: Collection,
        after: Option<&str>,
        limit: usize,
    ) -> StoreResult<Vec<(String, Document)>> {
        let backend = Arc::clone(&self.backend);
        let after = after.map(str::to_owned);
        let work = async move {
            let mut all = BTreeMap::new();
            for shard in 0..backend.set.shards() {
                let take = |page| matching(&backend, shard, page, of, after.as_deref(), limit, &mut all);
                backend.each(shard, Key::Documents, take).await?;
            }
            Ok(all.into_iter().collect())
        };
        let handle = self.backend.link.handle().clone();
        let listed = tokio::task::spawn_blocking(move || handle.block_on(work));
        listed.await.unwrap_or_else(|_| Err(StoreError("the list was cut short".to_owned())))
    }
}

/// The document of a record; a record of another document is none.
fn found(plain: Option<&SecretBytes>, of: Collection, name: &str) -> StoreResult<Option<Document>> {
    let Some(plain) = plain else { return Ok(None) };
    let record = Record::read(plain.expose()).ok_or_else(|| unreadable(Key::Documents))?;
    if record.of == of && record.name == name { Ok(record.document) } else { Err(unreadable(Key::Documents)) }
}

/// Keeps those of a page that are wanted, and of all so far the first `limit`.
fn matching(
    backend: &Backend,
    shard: usize,
    page: Page,
    of: Collection,
    after: Option<&str>,
    limit: usize,
    all: &mut BTreeMap<String, Document>,
) -> StoreResult<()> {
    for (field, raw) in page {
        let plain = backend.open(&Place { shard, key: Key::Documents, field }, &raw)?;
        let record = Record::read(plain.expose()).ok_or_else(|| unreadable(Key::Documents))?;
        let Record { document: Some(document), name, .. } = record else { continue };
        if record.of != of || after.is_some_and(|after| name.as_str() <= after) {
            continue;
        }
        all.insert(name, document);
        while all.len() > limit {
            all.pop_last();
        }
    }
    Ok(())
}

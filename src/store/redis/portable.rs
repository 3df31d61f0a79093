//! The data set as one end of a copy. Only while no replica uses it: each holds a lease, and that is looked at.
//!
//! Records are written with the same steps as by servers, announcements included, so what still matters is where a replica
//! that starts finds it.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::task::JoinSet;

use super::{
    backend::{Backend, Change, ENDED, Write, read, unreadable},
    data_set::{self, Key as Hash, Place},
    devices::consume,
    record::{
        self, Device as KeptDevice, Document as KeptDocument, Person as KeptPerson, read_revocation,
        write_revocation,
    },
    scripts::Script,
};
use crate::{
    base::{clock::UnixMillis, secret::SecretBytes},
    model::{Epoch, Revocation},
    store::{
        StoreError, StoreResult,
        portable::{Content, Cursor, Device, Key, Kind, Page, Person, Portable, Record, Void},
    },
};

/// So many records are asked for or written at a time.
const AT_ONCE: usize = 32;
/// In the marker: the data set is half a copy. `1`: nothing else was there.
const UNFINISHED: &str = "copy";

/// One end of a copy.
pub(super) struct Ends(pub Arc<Backend>);

/// Whether the data set is half a copy.
pub(super) async fn is_unfinished(backend: &Backend) -> StoreResult<bool> {
    Ok(!mark(backend).await?.is_empty())
}

async fn mark(backend: &Backend) -> StoreResult<String> {
    let call = backend.set.call(Script::Field, 0, &[], vec![UNFINISHED.as_bytes().to_vec()]);
    read(backend.call(call).await?)
}

async fn set_mark(backend: &Backend, new: &str) -> StoreResult<()> {
    let old = mark(backend).await?;
    let changed =
        data_set::change_marker(&backend.link, &backend.set, UNFINISHED, old.as_bytes(), new.as_bytes());
    match changed.await {
        Ok(true) => Ok(()),
        Ok(false) => Err(StoreError("another copy is under way".to_owned())),
        Err(error) => Err(StoreError(error.to_string())),
    }
}

#[async_trait]
impl Portable for Ends {
    async fn content(&self) -> StoreResult<Content> {
        let backend = &self.0;
        match mark(backend).await?.as_str() {
            "" => {}
            "1" => return Ok(Content::Unfinished { alone: true }),
            _ => return Ok(Content::Unfinished { alone: false }),
        }
        for shard in 0..backend.set.shards() {
            for hash in [Hash::Users, Hash::Devices, Hash::Consumed, Hash::Live, Hash::Names, Hash::Documents]
            {
                let (next, page) = scan(backend, shard, hash, "0", 1).await?;
                if next != "0" || !page.is_empty() {
                    return Ok(Content::Data);
                }
            }
        }
        Ok(Content::Nothing)
    }

    async fn in_use(&self) -> StoreResult<bool> {
        let set = &self.0.set;
        for shard in 0..set.shards() {
            let running: u64 =
                read(self.0.call(set.call(Script::Running, shard, &[Hash::Leases], Vec::new())).await?)?;
            if running > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn begin_import(&self, alone: bool) -> StoreResult<()> {
        set_mark(&self.0, if alone { "1" } else { "0" }).await
    }

    async fn finish_import(&self) -> StoreResult<()> {
        set_mark(&self.0, "").await
    }

    /// A cursor is the shard, and behind it the server's own.
    async fn export(&self, kind: Kind, after: Option<&Cursor>, limit: usize) -> StoreResult<Page> {
        let backend = &self.0;
        let (shard, cursor) = match after {
            None => (0, "0".to_owned()),
            Some(Cursor(bytes)) => {
                let odd = || StoreError("a cursor that cannot be read".to_owned());
                let text = std::str::from_utf8(bytes).map_err(|_| odd())?;
                let (shard, cursor) = text.split_once(' ').ok_or_else(odd)?;
                (shard.parse().map_err(|_| odd())?, cursor.to_owned())
            }
        };
        let (hash, shards) = match kind {
            Kind::Users => (Hash::Users, backend.set.shards()),
            Kind::Devices => (Hash::Devices, backend.set.shards()),
            Kind::EndedSessions => (Hash::Live, backend.set.shards()),
            Kind::ConsumedLogins => (Hash::Consumed, backend.set.shards()),
            Kind::SealedNames => (Hash::Names, 1),
            Kind::Documents => (Hash::Documents, backend.set.shards()),
        };
        let (next, page) = scan(backend, shard, hash, &cursor, limit).await?;
        let mut records = Vec::with_capacity(page.len());
        for (field, raw) in page {
            let place = Place { shard, key: hash, field };
            let is_session = place.field.first() == Some(&ENDED);
            if kind != Kind::EndedSessions || is_session {
                records.extend(opened(backend, kind, &place, &raw)?);
            }
        }
        let next = match next.as_str() {
            "0" if shard.saturating_add(1) < shards => Some(format!("{} 0", shard.saturating_add(1))),
            "0" => None,
            cursor => Some(format!("{shard} {cursor}")),
        };
        Ok(Page { records, next: next.map(|text| Cursor(text.into_bytes())) })
    }

    async fn lookup(&self, keys: &[Key]) -> StoreResult<Vec<Option<Record>>> {
        let mut found: Vec<Option<Record>> = std::iter::repeat_with(|| None).take(keys.len()).collect();
        let numbered: Vec<(usize, Key)> = keys.iter().cloned().enumerate().collect();
        let mut tasks = JoinSet::new();
        for part in parts(numbered) {
            let backend = Arc::clone(&self.0);
            tasks.spawn(async move {
                let mut some = Vec::with_capacity(part.len());
                for (number, key) in part {
                    some.push((number, find(&backend, &key).await?));
                }
                Ok::<_, StoreError>(some)
            });
        }
        while let Some(done) = tasks.join_next().await {
            for (number, record) in done.map_err(|_| StoreError("a look-up was cut short".to_owned()))?? {
                if let Some(slot) = found.get_mut(number) {
                    *slot = record;
                }
            }
        }
        Ok(found)
    }

    async fn put(&self, records: Vec<Record>) -> StoreResult<()> {
        let mut tasks = JoinSet::new();
        for part in parts(records) {
            let backend = Arc::clone(&self.0);
            tasks.spawn(async move {
                for record in part {
                    write(&backend, record).await?;
                }
                Ok::<_, StoreError>(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.map_err(|_| StoreError("a write was cut short".to_owned()))??;
        }
        Ok(())
    }

    /// Epochs here follow the server's clock; whoever takes over must begin above it.
    async fn epoch_floor(&self) -> StoreResult<u64> {
        let mut floor = 0;
        for shard in 0..self.0.set.shards() {
            let place = Place { shard, key: Hash::Devices, field: Vec::new() };
            let kept = self.0.get(&place).await?;
            floor = floor.max(kept.floor).max(kept.now.0.saturating_add(1));
        }
        Ok(floor)
    }

    async fn raise_epoch_floor(&self, floor: u64) -> StoreResult<()> {
        let set = &self.0.set;
        let keys = [Hash::Due, Hash::Devices, Hash::Consumed, Hash::Live, Hash::Documents];
        for shard in 0..set.shards() {
            // Forgets nothing, and raises the floor on the way.
            let args = vec![b"0".to_vec(), floor.to_string().into_bytes()];
            let _: u64 = read(self.0.call(set.call(Script::Forget, shard, &keys, args)).await?)?;
        }
        Ok(())
    }
}

/// Cut into as many parts as are worked on at a time.
fn parts<T>(all: Vec<T>) -> Vec<Vec<T>> {
    let size = all.len().div_ceil(AT_ONCE).max(1);
    let mut all = all.into_iter();
    std::iter::from_fn(|| {
        let part: Vec<T> = all.by_ref().take(size).collect();
        (!part.is_empty()).then_some(part)
    })
    .collect()
}

/// Fields and what stands there.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

async fn scan(
    backend: &Backend,
    shard: usize,
    hash: Hash,
    cursor: &str,
    limit: usize,
) -> StoreResult<(String, Fields)> {
    let args = vec![cursor.as_bytes().to_vec(), limit.to_string().into_bytes()];
    read(backend.call(backend.set.call(Script::Scan, shard, &[hash], args)).await?)
}

/// What stands at a place, as a record.
fn opened(backend: &Backend, kind: Kind, place: &Place, raw: &[u8]) -> StoreResult<Option<Record>> {
    let plain = backend.open(place, raw)?;
    if kind == Kind::Documents {
        let kept = KeptDocument::read(plain.expose()).ok_or_else(|| unreadable(place.key))?;
        let KeptDocument { of, name, document } = kept;
        return Ok(document.map(|document| Record::Document { of, name, document }));
    }
    record_of(kind, &plain).map(Some).ok_or_else(|| unreadable(place.key))
}

fn record_of(kind: Kind, plain: &SecretBytes) -> Option<Record> {
    Some(match kind {
        Kind::Users => {
            let kept = KeptPerson::read(plain.expose())?;
            Record::User(Box::new(Person {
                user: kept.user,
                first_seen_at: kept.first_seen_at,
                last_login_at: kept.last_login_at,
                blocked: kept.blocked,
                block_version: kept.block_version,
                attempts: kept.attempts,
                void: kept.void.map(|(before, until)| Void { before, until }),
                authenticators: kept.authenticators,
            }))
        }
        Kind::Devices => {
            let kept = KeptDevice::read(plain.expose())?;
            Record::Device(Device {
                id: kept.device,
                owner: kept.owner,
                epoch: kept.epoch.0,
                until: kept.until,
                revoked_until: kept.revoked_until,
            })
        }
        Kind::EndedSessions => match read_revocation(plain.expose())? {
            Revocation::Session { id, until } => Record::Session { id, until },
            _ => return None,
        },
        Kind::ConsumedLogins => {
            let (id, until) = record::read_login(plain.expose())?;
            Record::Login { id, until }
        }
        Kind::SealedNames => match read_revocation(plain.expose())? {
            Revocation::SealedName { app, name } => Record::SealedName { app, name },
            _ => return None,
        },
        // One that was removed is none, and readable all the same: see `opened`.
        Kind::Documents => return None,
    })
}

async fn find(backend: &Backend, key: &Key) -> StoreResult<Option<Record>> {
    let set = &backend.set;
    let (kind, place) = match key {
        Key::User(user) => (Kind::Users, set.user(user)),
        Key::Device(id) => (Kind::Devices, set.by_id(Hash::Devices, "device", &id.0)),
        Key::Session(id) => (Kind::EndedSessions, live_session(backend, &id.0)),
        Key::Login(id) => (Kind::ConsumedLogins, set.by_id(Hash::Consumed, "login", &id.0)),
        Key::SealedName(app, name) => (Kind::SealedNames, set.cookie(app.as_str(), name)),
        Key::Document(of, name) => (Kind::Documents, set.document(*of, name)),
    };
    let call = set.call(Script::Get, place.shard, &[place.key], vec![place.field.clone()]);
    let (raw, _, _): (Vec<u8>, u64, u64) = read(backend.call(call).await?)?;
    if raw.is_empty() {
        return Ok(None);
    }
    let Some(record) = opened(backend, kind, &place, &raw)? else { return Ok(None) };
    if record.key() == *key { Ok(Some(record)) } else { Err(unreadable(place.key)) }
}

/// An ended session stands among the announcements that still matter.
fn live_session(backend: &Backend, id: &[u8; 16]) -> Place {
    let mut place = backend.set.by_id(Hash::Live, "session", id);
    place.field.insert(0, ENDED);
    place
}

async fn write(backend: &Backend, record: Record) -> StoreResult<()> {
    match record {
        Record::User(person) => write_person(backend, *person).await,
        Record::Device(device) => write_device(backend, device).await,
        Record::Session { id, until } => {
            let ended = Revocation::Session { id, until };
            let record = write_revocation(&ended);
            replace(backend, &live_session(backend, &id.0), &record, None, Some(ended)).await
        }
        Record::Document { of, name, document } => {
            let (place, until) = (backend.set.document(of, &name), document.until);
            let record = KeptDocument { of, name, document: Some(document) }.write();
            replace(backend, &place, &record, until, None).await
        }
        Record::Login { id, until } => consume(backend, id, until).await.map(drop),
        Record::SealedName { app, name } => {
            let place = backend.set.cookie(app.as_str(), &name);
            let learned = Revocation::SealedName { app, name };
            let record = write_revocation(&learned);
            replace(backend, &place, &record, None, Some(learned)).await
        }
    }
}

async fn write_person(backend: &Backend, person: Person) -> StoreResult<()> {
    let place = backend.set.user(&person.user);
    let void = person.void.map(|Void { before, until }| Revocation::User {
        user: person.user.clone(),
        before,
        until,
    });
    let block = (person.block_version > 0 || person.blocked).then(|| Revocation::Blocked {
        user: person.user.clone(),
        blocked: person.blocked,
        version: person.block_version,
    });
    let kept = KeptPerson {
        first_seen_at: person.first_seen_at,
        last_login_at: person.last_login_at,
        blocked: person.blocked,
        block_version: person.block_version,
        attempts: person.attempts,
        void: person.void.map(|v| (v.before, v.until)),
        authenticators: person.authenticators,
        ..KeptPerson::new(person.user)
    };
    let record = kept.write();
    // One announcement goes with each writing.
    let mut announcements: Vec<Option<Revocation>> = [void, block].into_iter().flatten().map(Some).collect();
    if announcements.is_empty() {
        announcements.push(None);
    }
    for announce in announcements {
        replace(backend, &place, &record, None, announce).await?;
    }
    Ok(())
}

async fn write_device(backend: &Backend, device: Device) -> StoreResult<()> {
    let place = backend.set.by_id(Hash::Devices, "device", &device.id.0);
    let announce = (device.revoked_until > UnixMillis::default()).then_some(Revocation::Device {
        device: device.id,
        epoch: Epoch(device.epoch),
        until: device.revoked_until,
    });
    let kept = KeptDevice {
        device: device.id,
        owner: device.owner,
        epoch: Epoch(device.epoch),
        until: device.until,
        revoked_until: device.revoked_until,
        announced_at: UnixMillis::default(),
    };
    replace(backend, &place, &kept.write(), Some(device.until), announce).await
}

/// Writes a record whatever stands there.
async fn replace(
    backend: &Backend,
    place: &Place,
    record: &SecretBytes,
    due: Option<UnixMillis>,
    announce: Option<Revocation>,
) -> StoreResult<()> {
    let written = backend.change(place, true, |_| {
        let (record, announce) = (record.clone(), announce.clone());
        Ok(Change::Write(Write { record, due, announce, answer: () }))
    });
    written.await.map(drop)
}

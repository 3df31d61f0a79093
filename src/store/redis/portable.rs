//! The data set as one end of a copy. Only while no replica uses it: each holds a lease, and that is looked at.
//!
//! Records are written with the same steps as by servers, announcements included, so what still matters is where a replica
//! that starts finds it.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use tokio::task::JoinSet;

use super::{
    backend::{Backend, ENDED, Write, read, unreadable},
    data_set::{self, Key as Hash, Place},
    devices::consume_several,
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

/// So many records are asked for or written in one step.
const AT_ONCE: usize = 250;
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
        let wanted = keys.iter().cloned().enumerate().map(|(number, key)| {
            let (kind, place) = place_of(&self.0, &key);
            (place, Wanted { number, kind, key })
        });
        let mut tasks = JoinSet::new();
        for Part { shard, hash, all } in parts(wanted) {
            let backend = Arc::clone(&self.0);
            tasks.spawn(async move {
                let fields = all.iter().map(|(place, _)| place.field.clone()).collect();
                let (raw, _) = backend.several(shard, hash, fields).await?;
                let opened = all.into_iter().zip(raw).map(|((place, wanted), raw)| {
                    let record = raw.map(|raw| wanted.open(&backend, &place, &raw)).transpose()?;
                    Ok((wanted.number, record.flatten()))
                });
                opened.collect::<StoreResult<Vec<_>>>()
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
        let backend = &self.0;
        let (mut logins, mut first, mut second) = (Vec::new(), Vec::new(), Vec::new());
        for record in records {
            match record {
                Record::Login { id, until } => {
                    logins.push((backend.set.by_id(Hash::Consumed, "login", &id.0), (id, until)));
                }
                Record::User(person) => {
                    let place = backend.set.user(&person.user);
                    let (write, another) = person_writes(*person);
                    first.push((place.clone(), write));
                    second.extend(another.map(|write| (place, write)));
                }
                Record::Device(device) => first.push(device_write(backend, &device)),
                Record::Session { id, until } => {
                    let ended = Revocation::Session { id, until };
                    first.push((live_session(backend, &id.0), announced(ended)));
                }
                Record::Document { of, name, document } => {
                    let (place, due) = (backend.set.document(of, &name), document.until);
                    let record = KeptDocument { of, name, document: Some(document) }.write();
                    first.push((place, Write { record, due, announce: None, answer: () }));
                }
                Record::SealedName { app, name } => {
                    let place = backend.set.cookie(app.as_str(), &name);
                    first.push((place, announced(Revocation::SealedName { app, name })));
                }
            }
        }
        let mut tasks = JoinSet::new();
        for Part { shard, all, .. } in parts(logins) {
            let backend = Arc::clone(backend);
            let all = all.into_iter().map(|(place, (id, until))| (place, id, until)).collect();
            tasks.spawn(async move { consume_several(&backend, shard, all).await.map(drop) });
        }
        all_done(&mut tasks).await?;
        // What is announced in two steps is written in two, one after the other.
        for writes in [first, second] {
            for Part { shard, hash, all } in parts(writes) {
                let backend = Arc::clone(backend);
                tasks.spawn(async move { backend.overwrite(shard, hash, all).await });
            }
            all_done(&mut tasks).await?;
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

/// What is looked for, and where in the answer it goes.
struct Wanted {
    number: usize,
    kind: Kind,
    key: Key,
}

impl Wanted {
    fn open(&self, backend: &Backend, place: &Place, raw: &[u8]) -> StoreResult<Option<Record>> {
        let Some(record) = opened(backend, self.kind, place, raw)? else { return Ok(None) };
        if record.key() == self.key { Ok(Some(record)) } else { Err(unreadable(place.key)) }
    }
}

/// What goes in one step: of one shard and one hash.
struct Part<T> {
    shard: usize,
    hash: Hash,
    all: Vec<(Place, T)>,
}

/// By hash and shard, cut into what goes in one step each.
fn parts<T>(all: impl IntoIterator<Item = (Place, T)>) -> Vec<Part<T>> {
    let mut done = Vec::new();
    let mut open: HashMap<(usize, Hash), Part<T>> = HashMap::new();
    for (place, one) in all {
        let (shard, hash) = (place.shard, place.key);
        let fresh = || Part { shard, hash, all: Vec::new() };
        let part = open.entry((shard, hash)).or_insert_with(fresh);
        part.all.push((place, one));
        if part.all.len() == AT_ONCE {
            done.push(std::mem::replace(part, fresh()));
        }
    }
    done.extend(open.into_values().filter(|part| !part.all.is_empty()));
    done
}

async fn all_done(tasks: &mut JoinSet<StoreResult<()>>) -> StoreResult<()> {
    while let Some(done) = tasks.join_next().await {
        done.map_err(|_| StoreError("a write was cut short".to_owned()))??;
    }
    Ok(())
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

fn place_of(backend: &Backend, key: &Key) -> (Kind, Place) {
    let set = &backend.set;
    match key {
        Key::User(user) => (Kind::Users, set.user(user)),
        Key::Device(id) => (Kind::Devices, set.by_id(Hash::Devices, "device", &id.0)),
        Key::Session(id) => (Kind::EndedSessions, live_session(backend, &id.0)),
        Key::Login(id) => (Kind::ConsumedLogins, set.by_id(Hash::Consumed, "login", &id.0)),
        Key::SealedName(app, name) => (Kind::SealedNames, set.cookie(app.as_str(), name)),
        Key::Document(of, name) => (Kind::Documents, set.document(*of, name)),
    }
}

/// An ended session stands among the announcements that still matter.
fn live_session(backend: &Backend, id: &[u8; 16]) -> Place {
    let mut place = backend.set.by_id(Hash::Live, "session", id);
    place.field.insert(0, ENDED);
    place
}

/// A record that is nothing but its announcement.
fn announced(revocation: Revocation) -> Write<()> {
    Write { record: write_revocation(&revocation), due: None, announce: Some(revocation), answer: () }
}

/// One announcement goes with each writing: a user with two is written twice.
fn person_writes(person: Person) -> (Write<()>, Option<Write<()>>) {
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
    let write = |announce| Write { record: kept.write(), due: None, announce, answer: () };
    match (void, block) {
        (Some(void), Some(block)) => (write(Some(void)), Some(write(Some(block)))),
        (void, block) => (write(void.or(block)), None),
    }
}

fn device_write(backend: &Backend, device: &Device) -> (Place, Write<()>) {
    let place = backend.set.by_id(Hash::Devices, "device", &device.id.0);
    let announce = (device.revoked_until > UnixMillis::default()).then_some(Revocation::Device {
        device: device.id,
        epoch: Epoch(device.epoch),
        until: device.revoked_until,
    });
    let kept = KeptDevice {
        device: device.id,
        owner: device.owner.clone(),
        epoch: Epoch(device.epoch),
        until: device.until,
        revoked_until: device.revoked_until,
        announced_at: UnixMillis::default(),
    };
    (place, Write { record: kept.write(), due: Some(device.until), announce, answer: () })
}

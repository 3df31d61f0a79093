//! The store in memory as one end of a copy.

use async_trait::async_trait;

use super::{Device as KeptDevice, Memory, Person as KeptPerson, State, Void as KeptVoid};
use crate::{
    model::{AppId, DeviceId, LoginId, SessionId, UserKey},
    store::{
        Collection, Document, StoreResult,
        portable::{Content, Cursor, Device, Key, Kind, Page, Person, Portable, Record, Void},
    },
};

#[async_trait]
impl Portable for Memory {
    async fn content(&self) -> StoreResult<Content> {
        let state = self.0.lock();
        let nothing = state.people.is_empty()
            && state.devices.is_empty()
            && state.ended.is_empty()
            && state.consumed.is_empty()
            && state.sealed_names.is_empty()
            && state.documents.is_empty();
        Ok(match state.unfinished {
            Some(alone) => Content::Unfinished { alone },
            None if nothing => Content::Nothing,
            None => Content::Data,
        })
    }

    async fn begin_import(&self, alone: bool) -> StoreResult<()> {
        self.0.lock().unfinished = Some(alone);
        Ok(())
    }

    async fn finish_import(&self) -> StoreResult<()> {
        self.0.lock().unfinished = None;
        Ok(())
    }

    async fn export(&self, kind: Kind, after: Option<&Cursor>, limit: usize) -> StoreResult<Page> {
        let state = self.0.lock();
        // Nothing changes during a copy, so a number of records is a place.
        let begin = after.and_then(|c| Some(usize::from_be_bytes(c.0.as_slice().try_into().ok()?)));
        let begin = begin.unwrap_or_default();
        let mut all = state.all(kind);
        let end = begin.saturating_add(limit).min(all.len());
        let next = (end < all.len()).then(|| Cursor(end.to_be_bytes().to_vec()));
        all.truncate(end);
        Ok(Page { records: all.split_off(begin.min(end)), next })
    }

    async fn lookup(&self, keys: &[Key]) -> StoreResult<Vec<Option<Record>>> {
        let state = self.0.lock();
        Ok(keys.iter().map(|key| state.find(key)).collect())
    }

    async fn put(&self, records: Vec<Record>) -> StoreResult<()> {
        let mut state = self.0.lock();
        for record in records {
            state.write(record);
        }
        Ok(())
    }

    async fn epoch_floor(&self) -> StoreResult<u64> {
        Ok(self.0.lock().epoch_floor)
    }

    async fn raise_epoch_floor(&self, floor: u64) -> StoreResult<()> {
        let mut state = self.0.lock();
        state.epoch_floor = state.epoch_floor.max(floor);
        Ok(())
    }
}

impl State {
    fn all(&self, kind: Kind) -> Vec<Record> {
        match kind {
            Kind::Users => self.people.iter().map(|(user, kept)| person(user, kept)).collect(),
            Kind::Devices => {
                let mut ids: Vec<&DeviceId> = self.devices.keys().collect();
                ids.sort_by_key(|id| id.0);
                ids.into_iter().filter_map(|id| self.find(&Key::Device(*id))).collect()
            }
            Kind::EndedSessions => {
                let mut ids: Vec<&SessionId> = self.ended.keys().collect();
                ids.sort_by_key(|id| id.0);
                ids.into_iter().filter_map(|id| self.find(&Key::Session(*id))).collect()
            }
            Kind::ConsumedLogins => {
                let mut ids: Vec<&LoginId> = self.consumed.keys().collect();
                ids.sort_by_key(|id| id.0);
                ids.into_iter().filter_map(|id| self.find(&Key::Login(*id))).collect()
            }
            Kind::SealedNames => {
                let all = self.sealed_names.iter();
                all.map(|(app, name)| sealed_name(app, name)).collect()
            }
            Kind::Documents => {
                let all = self.documents.iter();
                all.map(|((of, name), kept)| document(*of, name, kept)).collect()
            }
        }
    }

    fn find(&self, key: &Key) -> Option<Record> {
        match key {
            Key::User(user) => self.people.get(user).map(|kept| person(user, kept)),
            Key::Device(id) => self.devices.get(id).map(|kept| {
                Record::Device(Device {
                    id: *id,
                    owner: kept.owner.clone(),
                    epoch: kept.epoch,
                    until: kept.until,
                    revoked_until: kept.revoked_until,
                })
            }),
            Key::Session(id) => self.ended.get(id).map(|until| Record::Session { id: *id, until: *until }),
            Key::Login(id) => self.consumed.get(id).map(|until| Record::Login { id: *id, until: *until }),
            Key::SealedName(app, name) => {
                self.sealed_names.contains(&(app.clone(), name.clone())).then(|| sealed_name(app, name))
            }
            Key::Document(of, name) => {
                self.documents.get(&(*of, name.clone())).map(|kept| document(*of, name, kept))
            }
        }
    }

    fn write(&mut self, record: Record) {
        match record {
            Record::User(new) => {
                *self.person(&new.user) = KeptPerson {
                    first_seen_at: new.first_seen_at,
                    last_login_at: new.last_login_at,
                    blocked: new.blocked,
                    block_version: new.block_version,
                    attempts: new.attempts,
                    authenticators: new.authenticators,
                    void: new.void.map(|v| KeptVoid { before: v.before, until: v.until }),
                };
            }
            Record::Device(Device { id, owner, epoch, until, revoked_until }) => {
                self.devices.insert(id, KeptDevice { owner, epoch, until, revoked_until });
            }
            Record::Session { id, until } => {
                self.ended.insert(id, until);
            }
            Record::Login { id, until } => {
                self.consumed.insert(id, until);
            }
            Record::SealedName { app, name } => {
                self.sealed_names.insert((app, name));
            }
            Record::Document { of, name, document } => {
                self.documents.insert((of, name), document);
            }
        }
    }
}

fn person(user: &UserKey, kept: &KeptPerson) -> Record {
    Record::User(Box::new(Person {
        user: user.clone(),
        first_seen_at: kept.first_seen_at,
        last_login_at: kept.last_login_at,
        blocked: kept.blocked,
        block_version: kept.block_version,
        attempts: kept.attempts,
        void: kept.void.map(|v| Void { before: v.before, until: v.until }),
        authenticators: kept.authenticators.clone(),
    }))
}

fn document(of: Collection, name: &str, kept: &Document) -> Record {
    Record::Document { of, name: name.to_owned(), document: kept.clone() }
}

fn sealed_name(app: &AppId, name: &str) -> Record {
    Record::SealedName { app: app.clone(), name: name.to_owned() }
}

//! A store that lives as long as the process: for tests and the demo. Same contract, nothing on disk.

mod portable;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{
    Added, AttemptState, Attempts, Collection, Devices, Document, Documents, Enrolments, NewAuthenticator,
    OneTime, Ownership, Rekeyed, RevocationSink, Revocations, SealedCount, SealedNames, SharedStore, Spare,
    StoreError, StoreResult, Upkeep, UserRecord, Users, documents::Shelves, spare,
};
use crate::{
    base::{
        clock::{Stopwatch, UnixMillis},
        keyring::Keyring,
    },
    model::{
        AppId, Authenticator, AuthenticatorId, DeviceId, Epoch, LoginId, MethodSet, Revocation, SessionId,
        UserKey,
    },
};

/// An empty store.
pub fn open() -> SharedStore {
    Arc::new(Memory::default())
}

/// An empty store, as servers and as a copy see it.
#[cfg(test)]
pub(crate) fn open_both() -> (SharedStore, Arc<dyn super::portable::Portable>) {
    let store = Arc::new(Memory::default());
    (Arc::clone(&store) as _, store)
}

/// One lock over all; each verb holds it once, so each is atomic, and sinks see one order.
#[derive(Default)]
struct Memory(Mutex<State>);

#[derive(Default)]
struct State {
    people: BTreeMap<UserKey, Person>,
    consumed: HashMap<LoginId, UnixMillis>,
    devices: HashMap<DeviceId, Device>,
    /// No device that is met anew starts below this: a forgotten device's epochs never come again.
    epoch_floor: u64,
    ended: HashMap<SessionId, UnixMillis>,
    sealed_names: BTreeSet<(AppId, String)>,
    documents: Shelves,
    sinks: Vec<Arc<dyn RevocationSink>>,
    /// Half a copy; whether nothing was here before.
    unfinished: Option<bool>,
}

#[derive(Default)]
struct Person {
    first_seen_at: Option<UnixMillis>,
    last_login_at: Option<UnixMillis>,
    blocked: bool,
    block_version: u64,
    attempts: AttemptState,
    authenticators: Vec<Authenticator>,
    void: Option<Void>,
}

#[derive(Clone, Copy)]
struct Void {
    before: UnixMillis,
    until: UnixMillis,
}

struct Device {
    owner: UserKey,
    epoch: u64,
    until: UnixMillis,
    /// Set once the device has changed hands.
    revoked_until: UnixMillis,
}

impl State {
    fn person(&mut self, user: &UserKey) -> &mut Person {
        self.people.entry(user.clone()).or_default()
    }

    fn announce(&self, revocation: &Revocation) {
        for sink in &self.sinks {
            sink.apply(revocation);
        }
    }

    /// All that was proved before `now` is void.
    fn void(&mut self, user: &UserKey, now: UnixMillis, until: UnixMillis) {
        let person = self.person(user);
        let old = person.void.unwrap_or(Void { before: now, until });
        let void = Void { before: old.before.max(now), until: old.until.max(until) };
        person.void = Some(void);
        self.announce(&Revocation::User { user: user.clone(), before: void.before, until: void.until });
    }

    fn present(&self, now: UnixMillis) -> Vec<Revocation> {
        let sessions = self.ended.iter().map(|(id, until)| Revocation::Session { id: *id, until: *until });
        let devices = self.devices.iter().map(|(device, d)| Revocation::Device {
            device: *device,
            epoch: Epoch(d.epoch),
            until: d.revoked_until,
        });
        let users = self.people.iter().filter_map(|(user, p)| {
            let Void { before, until } = p.void?;
            Some(Revocation::User { user: user.clone(), before, until })
        });
        let blocks = self.people.iter().filter(|(_, p)| p.blocked);
        let blocks = blocks.map(|(user, p)| Revocation::Blocked {
            user: user.clone(),
            blocked: true,
            version: p.block_version,
        });
        let matters = |revocation: &Revocation| match revocation {
            Revocation::Session { until, .. }
            | Revocation::Device { until, .. }
            | Revocation::User { until, .. } => *until > now,
            Revocation::Blocked { .. } | Revocation::SealedName { .. } => true,
        };
        sessions.chain(devices).chain(users).filter(matters).chain(blocks).collect()
    }
}

impl Person {
    /// `None` for one who was only counted or reset, but never met.
    fn record(&self, user: &UserKey) -> Option<UserRecord> {
        Some(UserRecord {
            user: user.clone(),
            blocked: self.blocked,
            first_seen_at: self.first_seen_at?,
            last_login_at: self.last_login_at,
            authenticators: self.authenticators.len(),
            attempts: self.attempts,
        })
    }
}

#[async_trait]
impl Enrolments for Memory {
    async fn authenticators(&self, user: &UserKey) -> StoreResult<Vec<Authenticator>> {
        Ok(self.0.lock().people.get(user).map(|p| p.authenticators.clone()).unwrap_or_default())
    }

    async fn add(&self, user: &UserKey, new: NewAuthenticator) -> StoreResult<Added> {
        let mut state = self.0.lock();
        let NewAuthenticator { authenticator, at_most, begun } = new;
        if state.people.values().flat_map(|p| &p.authenticators).any(|a| a.id == authenticator.id) {
            return Ok(Added::Known);
        }
        let person = state.person(user);
        if person.blocked || person.void.is_some_and(|void| begun < void.before) {
            return Ok(Added::Void);
        }
        if person.authenticators.len() >= at_most {
            return Ok(Added::TooMany);
        }
        person.first_seen_at.get_or_insert(authenticator.confirmed_at);
        person.authenticators.push(authenticator);
        Ok(Added::Kept)
    }

    async fn advance_step(
        &self,
        user: &UserKey,
        id: AuthenticatorId,
        step: u64,
        drift_steps: i8,
        now: UnixMillis,
    ) -> StoreResult<bool> {
        let mut state = self.0.lock();
        let person = state.people.get_mut(user);
        let found = person.and_then(|p| p.authenticators.iter_mut().find(|a| a.id == id));
        let Some(authenticator) = found.filter(|a| a.last_step < step) else { return Ok(false) };
        authenticator.last_step = step;
        authenticator.drift_steps = drift_steps;
        authenticator.last_used_at = Some(now);
        Ok(true)
    }

    async fn rename(&self, user: &UserKey, id: AuthenticatorId, name: &str) -> StoreResult<bool> {
        let mut state = self.0.lock();
        let person = state.people.get_mut(user);
        let found = person.and_then(|p| p.authenticators.iter_mut().find(|a| a.id == id));
        let Some(authenticator) = found else { return Ok(false) };
        name.clone_into(&mut authenticator.name);
        Ok(true)
    }

    async fn remove_spare(
        &self,
        user: &UserKey,
        id: AuthenticatorId,
        counting: MethodSet,
    ) -> StoreResult<Spare> {
        let mut state = self.0.lock();
        let Some(person) = state.people.get_mut(user) else { return Ok(Spare::Unknown) };
        let spare = spare(&person.authenticators, id, counting);
        if spare == Spare::Removed {
            person.authenticators.retain(|a| a.id != id);
        }
        Ok(spare)
    }

    async fn remove(&self, user: &UserKey, id: AuthenticatorId) -> StoreResult<bool> {
        let mut state = self.0.lock();
        let Some(person) = state.people.get_mut(user) else { return Ok(false) };
        let before = person.authenticators.len();
        person.authenticators.retain(|a| a.id != id);
        Ok(person.authenticators.len() < before)
    }
}

#[async_trait]
impl Users for Memory {
    async fn note_seen(&self, user: &UserKey, login: bool, now: UnixMillis) -> StoreResult<()> {
        let mut state = self.0.lock();
        let person = state.person(user);
        person.first_seen_at.get_or_insert(now);
        if login {
            person.last_login_at = person.last_login_at.max(Some(now));
        }
        Ok(())
    }

    async fn user(&self, user: &UserKey) -> StoreResult<Option<UserRecord>> {
        Ok(self.0.lock().people.get(user).and_then(|p| p.record(user)))
    }

    async fn list(&self, part: &str, after: Option<&UserKey>, limit: usize) -> StoreResult<Vec<UserRecord>> {
        let state = self.0.lock();
        let people = state.people.iter().filter(|(user, _)| after.is_none_or(|after| *user > after));
        let people = people.filter(|(user, _)| user.name.as_str().contains(part));
        Ok(people.filter_map(|(user, person)| person.record(user)).take(limit).collect())
    }

    async fn reset(&self, user: &UserKey, now: UnixMillis, until: UnixMillis) -> StoreResult<usize> {
        let mut state = self.0.lock();
        let person = state.person(user);
        let removed = std::mem::take(&mut person.authenticators).len();
        person.attempts = AttemptState::default();
        state.void(user, now, until);
        Ok(removed)
    }

    async fn sign_out(&self, user: &UserKey, now: UnixMillis, until: UnixMillis) -> StoreResult<()> {
        self.0.lock().void(user, now, until);
        Ok(())
    }

    async fn set_blocked(&self, user: &UserKey, blocked: bool, now: UnixMillis) -> StoreResult<()> {
        let mut state = self.0.lock();
        let person = state.person(user);
        person.first_seen_at.get_or_insert(now);
        person.blocked = blocked;
        person.block_version = person.block_version.saturating_add(1).max(now.0);
        let version = person.block_version;
        state.announce(&Revocation::Blocked { user: user.clone(), blocked, version });
        Ok(())
    }
}

#[async_trait]
impl Documents for Memory {
    async fn document(&self, of: Collection, name: &str) -> StoreResult<Option<Document>> {
        Ok(self.0.lock().documents.get(&(of, name.to_owned())).cloned())
    }

    async fn swap_document(
        &self,
        of: Collection,
        name: &str,
        expected: Option<Document>,
        new: Option<Document>,
    ) -> StoreResult<bool> {
        let mut state = self.0.lock();
        let name = (of, name.to_owned());
        let same = state.documents.get(&name) == expected.as_ref();
        match new {
            _ if !same => {}
            Some(new) => drop(state.documents.insert(name, new)),
            None => drop(state.documents.remove(&name)),
        }
        Ok(same)
    }

    async fn documents(
        &self,
        of: Collection,
        after: Option<&str>,
        limit: usize,
    ) -> StoreResult<Vec<(String, Document)>> {
        let state = self.0.lock();
        let all = state.documents.iter().filter(|((collection, _), _)| *collection == of);
        let all = all.filter(|((_, name), _)| after.is_none_or(|after| name.as_str() > after));
        Ok(all.take(limit).map(|((_, name), document)| (name.clone(), document.clone())).collect())
    }
}

#[async_trait]
impl OneTime for Memory {
    async fn consume(&self, login: LoginId, until: UnixMillis) -> StoreResult<bool> {
        Ok(self.0.lock().consumed.insert(login, until).is_none())
    }
}

#[async_trait]
impl Attempts for Memory {
    async fn attempts(&self, user: &UserKey) -> StoreResult<AttemptState> {
        Ok(self.0.lock().people.get(user).map(|p| p.attempts).unwrap_or_default())
    }

    async fn swap_attempts(
        &self,
        user: &UserKey,
        expected: AttemptState,
        new: AttemptState,
    ) -> StoreResult<bool> {
        let mut state = self.0.lock();
        let kept = &mut state.person(user).attempts;
        let same = *kept == expected;
        if same {
            *kept = new;
        }
        Ok(same)
    }
}

#[async_trait]
impl Devices for Memory {
    async fn own(&self, device: DeviceId, user: &UserKey, until: UnixMillis) -> StoreResult<Ownership> {
        let mut state = self.0.lock();
        let floor = state.epoch_floor;
        let Some(kept) = state.devices.get_mut(&device) else {
            let owner = user.clone();
            let fresh = Device { owner, epoch: floor, until, revoked_until: UnixMillis::default() };
            state.devices.insert(device, fresh);
            return Ok(Ownership { epoch: Epoch(floor), taken_from: None });
        };
        kept.until = kept.until.max(until);
        if kept.owner == *user {
            return Ok(Ownership { epoch: Epoch(kept.epoch), taken_from: None });
        }
        let taken_from = Some(std::mem::replace(&mut kept.owner, user.clone()));
        kept.epoch = kept.epoch.saturating_add(1);
        kept.revoked_until = kept.until;
        let (epoch, until) = (Epoch(kept.epoch), kept.until);
        state.announce(&Revocation::Device { device, epoch, until });
        Ok(Ownership { epoch, taken_from })
    }
}

#[async_trait]
impl Revocations for Memory {
    async fn end_session(&self, id: SessionId, until: UnixMillis) -> StoreResult<()> {
        let mut state = self.0.lock();
        let kept = state.ended.entry(id).or_insert(until);
        *kept = until.max(*kept);
        let until = *kept;
        state.announce(&Revocation::Session { id, until });
        Ok(())
    }

    async fn follow(&self, sink: Arc<dyn RevocationSink>, now: UnixMillis) -> StoreResult<()> {
        let mut state = self.0.lock();
        for revocation in state.present(now) {
            sink.apply(&revocation);
        }
        state.sinks.push(sink);
        Ok(())
    }
}

#[async_trait]
impl SealedNames for Memory {
    async fn learn_sealed_name(&self, app: &AppId, name: &str) -> StoreResult<()> {
        self.0.lock().sealed_names.insert((app.clone(), name.to_owned()));
        Ok(())
    }

    async fn sealed_names(&self) -> StoreResult<Vec<(AppId, String)>> {
        Ok(self.0.lock().sealed_names.iter().cloned().collect())
    }
}

#[async_trait]
impl Upkeep for Memory {
    async fn ping(&self) -> StoreResult<Duration> {
        let begun = Stopwatch::start();
        drop(self.0.lock());
        Ok(begun.elapsed())
    }

    async fn prune(&self, now: UnixMillis) -> StoreResult<usize> {
        let mut state = self.0.lock();
        let count = |s: &State| {
            let voids = s.people.values().filter(|p| p.void.is_some()).count();
            let kept = s
                .documents
                .len()
                .saturating_add(s.consumed.len())
                .saturating_add(s.ended.len())
                .saturating_add(s.devices.len());
            kept.saturating_add(voids)
        };
        let before = count(&state);
        state.documents.retain(|_, document| document.until.is_none_or(|until| until > now));
        state.consumed.retain(|_, until| *until > now);
        state.ended.retain(|_, until| *until > now);
        let gone = state.devices.values().filter(|d| d.until <= now).map(|d| d.epoch).max();
        if let Some(epoch) = gone {
            state.epoch_floor = state.epoch_floor.max(epoch.saturating_add(1));
            state.devices.retain(|_, d| d.until > now);
        }
        for person in state.people.values_mut() {
            person.void = person.void.filter(|v| v.until > now);
        }
        Ok(before.saturating_sub(count(&state)))
    }

    async fn backup(&self, _to: PathBuf) -> StoreResult<()> {
        Err(StoreError("the memory store keeps nothing that could be copied".to_owned()))
    }

    /// Nothing is sealed that no other process can read.
    async fn sealed(&self) -> StoreResult<SealedCount> {
        Ok(SealedCount::default())
    }

    async fn rekey(&self, _keyring: Arc<Keyring>) -> StoreResult<Rekeyed> {
        Ok(Rekeyed::Done { renewed: 0 })
    }
}

#[cfg(test)]
mod tests {
    use crate::store::{SharedStore, contract::run_contract};

    fn fresh() -> (SharedStore, ()) {
        (super::open(), ())
    }

    run_contract!(fresh);
    run_contract!(fresh; no_revocation_is_told_twice_between_loading_and_following);
}

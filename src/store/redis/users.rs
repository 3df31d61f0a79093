//! Users: met, counted, blocked, reset; their authenticators and attempts. One record for each.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream::FuturesOrdered};

use super::{
    Redis,
    backend::{Backend, Change, Kept, Page, Write, unreadable},
    data_set::{Key, Place},
    names,
    record::Person,
};
use crate::{
    base::clock::{Stopwatch, UnixMillis},
    model::{Authenticator, AuthenticatorId, MethodSet, Revocation, UserKey},
    store::{
        Added, AttemptState, Attempts, Enrolments, NewAuthenticator, Spare, StoreError, StoreResult,
        UserRecord, Users, feed::Position, spare,
    },
};

impl Redis {
    async fn person(&self, user: &UserKey) -> StoreResult<Option<Person>> {
        let kept = self.backend.get(&self.backend.set.user(user)).await?;
        kept.plain.as_ref().map(|_| person(&kept, user)).transpose()
    }

    /// Changes a person; `None` from `decide` = nothing to write.
    async fn change_person<T>(
        &self,
        user: &UserKey,
        durable: bool,
        mut decide: impl FnMut(&mut Person) -> (T, Option<Written>),
    ) -> StoreResult<(T, Option<(usize, Position)>)> {
        let place = self.backend.set.user(user);
        let mut is_met = false;
        let changed = self.backend.change(&place, durable, |kept| {
            let mut person = person(kept, user)?;
            let (answer, written) = decide(&mut person);
            is_met = person.first_seen_at.is_some();
            Ok(match written {
                None => Change::Keep(answer),
                Some(Written { announce }) => {
                    Change::Write(Write { record: person.write(), due: None, announce, answer })
                }
            })
        });
        let (answer, position) = changed.await?;
        if is_met {
            self.names.met(user);
        }
        Ok((answer, position.map(|position| (place.shard, position))))
    }
}

impl Redis {
    /// Opens every record, and keeps the names for the next search. Not on a thread that serves requests.
    async fn read_all(
        &self,
        part: &str,
        after: Option<&UserKey>,
        limit: usize,
    ) -> StoreResult<Vec<UserRecord>> {
        let backend = Arc::clone(&self.backend);
        let (part, after) = (part.to_owned(), after.cloned());
        let began = Stopwatch::start();
        self.names.begin();
        let work = async move {
            let (mut found, mut names) = (BTreeMap::new(), BTreeSet::new());
            for shard in 0..backend.set.shards() {
                let matching = |page| {
                    matching(&backend, shard, page, &part, after.as_ref(), limit, &mut found, &mut names)
                };
                backend.each(shard, Key::Users, matching).await?;
            }
            Ok((found.into_values().collect(), names))
        };
        let handle = self.backend.link.handle().clone();
        let read = tokio::task::spawn_blocking(move || handle.block_on(work)).await;
        let (found, names) = read.unwrap_or_else(|_| Err(StoreError("the list was cut short".to_owned())))?;
        self.names.end(names, began);
        Ok(found)
    }
}

/// The person is to be written.
#[derive(Default)]
struct Written {
    announce: Option<Revocation>,
}

/// The person of a record, or a new one; a record of somebody else is none.
fn person(kept: &Kept, user: &UserKey) -> StoreResult<Person> {
    let Some(plain) = &kept.plain else { return Ok(Person::new(user.clone())) };
    let person = Person::read(plain.expose()).ok_or_else(|| unreadable(Key::Users))?;
    if person.user == *user {
        Ok(person)
    } else {
        Err(StoreError(format!("the record of {user} is that of somebody else")))
    }
}

#[async_trait]
impl Enrolments for Redis {
    async fn authenticators(&self, user: &UserKey) -> StoreResult<Vec<Authenticator>> {
        Ok(self.person(user).await?.map(|person| person.authenticators).unwrap_or_default())
    }

    async fn add(&self, user: &UserKey, new: NewAuthenticator) -> StoreResult<Added> {
        let NewAuthenticator { authenticator, at_most, begun } = new;
        let (added, _) = self
            .change_person(user, true, |person| {
                if person.authenticators.iter().any(|a| a.id == authenticator.id) {
                    return (Added::Known, None);
                }
                if person.blocked || person.void.is_some_and(|(before, _)| begun < before) {
                    return (Added::Void, None);
                }
                if person.authenticators.len() >= at_most {
                    return (Added::TooMany, None);
                }
                person.first_seen_at.get_or_insert(authenticator.confirmed_at);
                person.authenticators.push(authenticator.clone());
                (Added::Kept, Some(Written::default()))
            })
            .await?;
        Ok(added)
    }

    async fn advance_step(
        &self,
        user: &UserKey,
        id: AuthenticatorId,
        step: u64,
        drift_steps: i8,
        now: UnixMillis,
    ) -> StoreResult<bool> {
        let (advanced, _) = self
            .change_person(user, true, |person| {
                // The record is replaced only if this is still what stands there: a step is accepted once (I4).
                let found = person.authenticators.iter_mut().find(|a| a.id == id && a.last_step < step);
                let Some(authenticator) = found else { return (false, None) };
                authenticator.last_step = step;
                authenticator.drift_steps = drift_steps;
                authenticator.last_used_at = Some(now);
                (true, Some(Written::default()))
            })
            .await?;
        Ok(advanced)
    }

    async fn rename(&self, user: &UserKey, id: AuthenticatorId, name: &str) -> StoreResult<bool> {
        let (renamed, _) = self
            .change_person(user, true, |person| {
                let found = person.authenticators.iter_mut().find(|a| a.id == id);
                let Some(authenticator) = found else { return (false, None) };
                name.clone_into(&mut authenticator.name);
                (true, Some(Written::default()))
            })
            .await?;
        Ok(renamed)
    }

    async fn remove_spare(
        &self,
        user: &UserKey,
        id: AuthenticatorId,
        counting: MethodSet,
    ) -> StoreResult<Spare> {
        let (spare, _) = self
            .change_person(user, true, |person| {
                let spare = spare(&person.authenticators, id, counting);
                if spare != Spare::Removed {
                    return (spare, None);
                }
                person.authenticators.retain(|a| a.id != id);
                (spare, Some(Written::default()))
            })
            .await?;
        Ok(spare)
    }

    async fn remove(&self, user: &UserKey, id: AuthenticatorId) -> StoreResult<bool> {
        let (removed, _) = self
            .change_person(user, true, |person| {
                let before = person.authenticators.len();
                person.authenticators.retain(|a| a.id != id);
                let removed = person.authenticators.len() < before;
                (removed, removed.then(Written::default))
            })
            .await?;
        Ok(removed)
    }
}

#[async_trait]
impl Attempts for Redis {
    async fn attempts(&self, user: &UserKey) -> StoreResult<AttemptState> {
        Ok(self.person(user).await?.map(|person| person.attempts).unwrap_or_default())
    }

    async fn swap_attempts(
        &self,
        user: &UserKey,
        expected: AttemptState,
        new: AttemptState,
    ) -> StoreResult<bool> {
        let (swapped, _) = self
            .change_person(user, true, |person| {
                if person.attempts != expected {
                    return (false, None);
                }
                person.attempts = new;
                (true, Some(Written::default()))
            })
            .await?;
        Ok(swapped)
    }
}

#[async_trait]
impl Users for Redis {
    async fn note_seen(&self, user: &UserKey, login: bool, now: UnixMillis) -> StoreResult<()> {
        self.change_person(user, false, |person| {
            let before = (person.first_seen_at, person.last_login_at);
            person.first_seen_at.get_or_insert(now);
            if login {
                person.last_login_at = person.last_login_at.max(Some(now));
            }
            let changed = before != (person.first_seen_at, person.last_login_at);
            ((), changed.then(Written::default))
        })
        .await
        .map(|_| ())
    }

    async fn user(&self, user: &UserKey) -> StoreResult<Option<UserRecord>> {
        Ok(self.person(user).await?.and_then(|person| person.record()))
    }

    async fn list(&self, part: &str, after: Option<&UserKey>, limit: usize) -> StoreResult<Vec<UserRecord>> {
        let mut found = self.names.search(part, after, limit);
        if found.is_none() {
            let _turn = self.names.reading.lock().await;
            // Somebody else may have read them meanwhile.
            found = self.names.search(part, after, limit);
            if found.is_none() {
                return self.read_all(part, after, limit).await;
            }
        }
        let found = found.unwrap_or_default();
        let mut asked = FuturesOrdered::new();
        for user in &found {
            asked.push_back(self.person(user));
        }
        let mut records = Vec::with_capacity(found.len());
        while let Some(person) = asked.next().await {
            records.extend(person?.and_then(|person| person.record()));
        }
        Ok(records)
    }

    async fn reset(&self, user: &UserKey, now: UnixMillis, until: UnixMillis) -> StoreResult<usize> {
        let (removed, announced) = self
            .change_person(user, true, |person| {
                let removed = std::mem::take(&mut person.authenticators).len();
                person.attempts = AttemptState::default();
                let announce = Some(void(person, now, until));
                (removed, Some(Written { announce }))
            })
            .await?;
        self.complete(announced).await?;
        Ok(removed)
    }

    async fn sign_out(&self, user: &UserKey, now: UnixMillis, until: UnixMillis) -> StoreResult<()> {
        let ((), announced) = self
            .change_person(user, true, |person| {
                let announce = Some(void(person, now, until));
                ((), Some(Written { announce }))
            })
            .await?;
        self.complete(announced).await
    }

    async fn set_blocked(&self, user: &UserKey, blocked: bool, now: UnixMillis) -> StoreResult<()> {
        let ((), announced) = self
            .change_person(user, true, |person| {
                person.first_seen_at.get_or_insert(now);
                person.blocked = blocked;
                person.block_version = person.block_version.saturating_add(1).max(now.0);
                let version = person.block_version;
                let announce = Some(Revocation::Blocked { user: user.clone(), blocked, version });
                ((), Some(Written { announce }))
            })
            .await?;
        self.complete(announced).await
    }
}

/// All that was proved before `now` is void.
fn void(person: &mut Person, now: UnixMillis, until: UnixMillis) -> Revocation {
    let (before, until) = match person.void {
        Some((kept_before, kept_until)) => (kept_before.max(now), kept_until.max(until)),
        None => (now, until),
    };
    person.void = Some((before, until));
    Revocation::User { user: person.user.clone(), before, until }
}

/// Keeps those of a page that are wanted, of all so far the first `limit`; and the names of all who were met, as long as
/// they are not too many.
#[expect(clippy::too_many_arguments, reason = "what a page is looked through for, and what comes of it")]
fn matching(
    backend: &Backend,
    shard: usize,
    page: Page,
    part: &str,
    after: Option<&UserKey>,
    limit: usize,
    found: &mut BTreeMap<UserKey, UserRecord>,
    names: &mut BTreeSet<UserKey>,
) -> StoreResult<()> {
    for (field, raw) in page {
        let place = Place { shard, key: Key::Users, field };
        let plain = backend.open(&place, &raw)?;
        let person = Person::read(plain.expose()).ok_or_else(|| unreadable(Key::Users))?;
        let Some(record) = person.record() else { continue };
        if names.len() <= names::MOST {
            names.insert(record.user.clone());
        }
        if record.user.name.as_str().contains(part) && after.is_none_or(|after| record.user > *after) {
            found.insert(record.user.clone(), record);
        }
        while found.len() > limit {
            found.pop_last();
        }
    }
    Ok(())
}

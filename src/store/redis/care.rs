//! Care of the data set: is it there, what can be forgotten; and learned cookie names.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    Redis,
    backend::{Backend, Change, Page, Write, read, unreadable},
    data_set::{self, Key, Place},
    record::{Device, read_revocation, write_revocation},
    scripts::Script,
};
use crate::{
    base::{
        clock::{SharedClock, Stopwatch, UnixMillis},
        keyring::Keyring,
    },
    model::{AppId, Revocation},
    store::{Rekeyed, SealedCount, SealedNames, StoreError, StoreResult, Upkeep},
};

/// So many records are forgotten in one step.
const AT_A_TIME: usize = 500;

#[async_trait]
impl SealedNames for Redis {
    async fn learn_sealed_name(&self, app: &AppId, name: &str) -> StoreResult<()> {
        let place = self.backend.set.cookie(app.as_str(), name);
        let learned = self.backend.change(&place, true, |kept| {
            if kept.plain.is_some() {
                return Ok(Change::Keep(()));
            }
            let revocation = Revocation::SealedName { app: app.clone(), name: name.to_owned() };
            let record = write_revocation(&revocation);
            Ok(Change::Write(Write { record, due: None, announce: Some(revocation), answer: () }))
        });
        let ((), position) = learned.await?;
        self.complete(position.map(|position| (place.shard, position))).await
    }

    async fn sealed_names(&self) -> StoreResult<Vec<(AppId, String)>> {
        let mut names = Vec::new();
        let take = |page: Page| {
            for (field, raw) in page {
                let place = Place { shard: 0, key: Key::Names, field };
                let plain = self.backend.open(&place, &raw)?;
                let Some(Revocation::SealedName { app, name }) = read_revocation(plain.expose()) else {
                    return Err(unreadable(Key::Names));
                };
                names.push((app, name));
            }
            Ok(())
        };
        self.backend.each(0, Key::Names, take).await?;
        names.sort();
        names.dedup();
        Ok(names)
    }
}

#[async_trait]
impl Upkeep for Redis {
    /// To every shard.
    async fn ping(&self) -> StoreResult<Duration> {
        let begun = Stopwatch::start();
        for shard in 0..self.backend.set.shards() {
            let call = self.backend.set.call(Script::Ping, shard, &[], Vec::new());
            let _: u64 = read(self.backend.call(call).await?)?;
        }
        Ok(begun.elapsed())
    }

    async fn clock_ahead(&self, clock: &SharedClock) -> StoreResult<Option<i64>> {
        let mut most = 0_i64;
        for shard in 0..self.backend.set.shards() {
            let call = self.backend.set.call(Script::Ping, shard, &[], Vec::new());
            let before = clock.now();
            let there: u64 = read(self.backend.call(call).await?)?;
            // It was asked somewhere between these two.
            let here = before.0.midpoint(clock.now().0);
            let ahead = there.cast_signed().saturating_sub(here.cast_signed());
            if ahead.unsigned_abs() > most.unsigned_abs() {
                most = ahead;
            }
        }
        Ok(Some(most))
    }

    async fn prune(&self, now: UnixMillis) -> StoreResult<usize> {
        self.names.tidy();
        let mut gone = 0_usize;
        for shard in 0..self.backend.set.shards() {
            while let Some(more) = self.prune_some(shard, now).await? {
                gone = gone.saturating_add(more);
            }
        }
        Ok(gone)
    }

    async fn backup(&self, _to: PathBuf) -> StoreResult<()> {
        Err(StoreError(
            "what is in Redis is backed up by Redis: keep its RDB or AOF files (BGSAVE), or run `sluis store copy` to \
             copy it into a SQLite file"
                .to_owned(),
        ))
    }

    /// There is one: the data set's own, from which all others follow.
    async fn sealed(&self) -> StoreResult<SealedCount> {
        let keyring = Arc::clone(&self.keyring.lock());
        let Backend { link, config, .. } = self.backend.as_ref();
        data_set::sealed_under(link, config, &keyring).await.map_err(|error| StoreError(error.to_string()))
    }

    async fn rekey(&self, keyring: Arc<Keyring>) -> StoreResult<Rekeyed> {
        let Backend { link, config, set, .. } = self.backend.as_ref();
        let rekeyed = data_set::rekey(link, config, set, &keyring).await;
        let rekeyed = rekeyed.map_err(|error| StoreError(error.to_string()))?;
        if matches!(rekeyed, Rekeyed::Done { .. }) {
            *self.keyring.lock() = keyring;
        }
        Ok(rekeyed)
    }
}

impl Redis {
    /// Forgets some of a shard; how many records went, `None` when nothing was due.
    async fn prune_some(&self, shard: usize, now: UnixMillis) -> StoreResult<Option<usize>> {
        let set = &self.backend.set;
        let number = |number: u64| number.to_string().into_bytes();
        let args = vec![number(now.0), number(AT_A_TIME as u64)];
        let call = set.call(Script::Due, shard, &[Key::Due, Key::Devices], args);
        let due: Page = read(self.backend.call(call).await?)?;
        if due.is_empty() {
            return Ok(None);
        }
        let mut floor = 0;
        for (member, raw) in &due {
            let Some((b'd', field)) = member.split_first() else { continue };
            if raw.is_empty() {
                continue;
            }
            let place = Place { shard, key: Key::Devices, field: field.to_vec() };
            let plain = self.backend.open(&place, raw)?;
            let device = Device::read(plain.expose()).ok_or_else(|| unreadable(Key::Devices))?;
            floor = floor.max(device.epoch.0.saturating_add(1));
        }
        let mut args = vec![number(now.0), number(floor)];
        args.extend(due.into_iter().map(|(member, _)| member));
        let keys = [Key::Due, Key::Devices, Key::Consumed, Key::Live, Key::Documents];
        let gone = read(self.backend.call(set.call(Script::Forget, shard, &keys, args)).await?)?;
        Ok(Some(gone))
    }
}

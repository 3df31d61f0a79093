//! Records: read, opened, changed, replaced if still the same, announced.
//!
//! A server cannot look into a sealed record, so a change is: read, open, decide, and replace if what stands there is
//! what was read, in one step with the announcement. Whoever was overtaken reads again. Within one process changes of
//! one record queue up, so only replicas overtake each other.

use std::{sync::Arc, time::Duration};

use redis::Value;
use tokio::sync::Mutex as AsyncMutex;

use super::{
    data_set::{DataSet, Key, Place},
    link::{Call, Link},
    record,
    scripts::Script,
};
use crate::{
    base::{clock::UnixMillis, secret::SecretBytes},
    config::shared::RedisConfig,
    model::Revocation,
    store::{
        StoreError, StoreResult,
        feed::{Mark, Position, Seq},
    },
};

/// So often a change is tried against replicas that are faster.
const ATTEMPTS: u32 = 64;
/// Queues for changes in this process.
const QUEUES: usize = 256;
/// Records read in one step.
const PAGE: usize = 1000;

/// Fields of a hash and what stands there.
pub(super) type Page = Vec<(Vec<u8>, Vec<u8>)>;

/// What all verbs and the feed share.
pub(super) struct Backend {
    pub link: Link,
    pub set: DataSet,
    pub config: RedisConfig,
    queues: Vec<AsyncMutex<()>>,
}

/// A record as it was read.
pub(super) struct Kept {
    /// As it stands there: the number of its last announcement and the box; empty when there is none.
    raw: Vec<u8>,
    /// What is in it.
    pub plain: Option<SecretBytes>,
    /// The server's time.
    pub now: UnixMillis,
    /// No device that is met anew starts below this epoch.
    pub floor: u64,
}

/// What a change comes to.
pub(super) enum Change<T> {
    /// Nothing to write.
    Keep(T),
    /// A new record.
    Write(Write<T>),
}

/// A new record, and what goes with it.
pub(super) struct Write<T> {
    pub record: SecretBytes,
    /// From when on it can be forgotten.
    pub due: Option<UnixMillis>,
    pub announce: Option<Revocation>,
    pub answer: T,
}

impl Backend {
    pub fn new(link: Link, set: DataSet, config: RedisConfig) -> Arc<Self> {
        let queues = std::iter::repeat_with(AsyncMutex::default).take(QUEUES).collect();
        Arc::new(Self { link, set, config, queues })
    }

    /// Asks; what the data set says is gone is loud.
    pub async fn call(&self, call: Call) -> StoreResult<Value> {
        let answer = self.link.call(call).await;
        if let Err(error) = &answer
            && error.0.contains("DATASET")
        {
            tracing::error!(
                %error,
                "Redis was flushed, or holds another data set than the one that this process has opened: \
                 nothing is answered from it"
            );
        }
        answer
    }

    /// One record.
    pub async fn get(&self, place: &Place) -> StoreResult<Kept> {
        let call = self.set.call(Script::Get, place.shard, &[place.key], vec![place.field.clone()]);
        let (raw, now, floor): (Vec<u8>, u64, u64) = read(self.call(call).await?)?;
        let plain = match raw.split_first_chunk::<8>() {
            Some((_, boxed)) => Some(self.set.open(place, boxed)?),
            None if raw.is_empty() => None,
            None => return Err(unreadable(place.key)),
        };
        Ok(Kept { raw, plain, now: UnixMillis(now), floor })
    }

    /// Changes one record by what `decide` says about it; where the announcement stands, when there is one.
    /// `durable`: as many replicas as are configured must have it.
    pub async fn change<T>(
        &self,
        place: &Place,
        durable: bool,
        mut decide: impl FnMut(&Kept) -> StoreResult<Change<T>>,
    ) -> StoreResult<(T, Option<Position>)> {
        let queue = self.queues.get(queue_of(&place.field)).map(|queue| queue.lock());
        let patience = self.config.timeout.saturating_mul(2);
        let _turn = match queue {
            Some(queue) => Some(
                tokio::time::timeout(patience, queue)
                    .await
                    .map_err(|_| StoreError("too many changes of one record at a time".to_owned()))?,
            ),
            None => None,
        };
        for attempt in 0..ATTEMPTS {
            let kept = self.get(place).await?;
            match decide(&kept)? {
                Change::Keep(answer) => return Ok((answer, None)),
                Change::Write(write) => {
                    if let Some(position) = self.replace(place, &kept, &write, durable).await? {
                        return Ok((write.answer, position));
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(u64::from(attempt.min(8)))).await;
        }
        Err(StoreError(format!("a record was changed by others {ATTEMPTS} times in a row")))
    }

    /// Outer `None`: somebody was faster.
    async fn replace<T>(
        &self,
        place: &Place,
        kept: &Kept,
        write: &Write<T>,
        durable: bool,
    ) -> StoreResult<Option<Option<Position>>> {
        let (args, mark) = self.packed(place, &kept.raw, kept.now, write)?;
        let answers = self.swap(place.shard, place.key, args, durable).await?;
        let Some((done, seq)) = answers.first() else { return Err(StoreError("no answer".to_owned())) };
        Ok((*done == 1).then(|| mark.map(|mark| Position { seq: Seq(*seq), mark })))
    }

    /// Replaces packed records of one hash in one step: of each whether it was done, and the number of its last announcement.
    async fn swap(
        &self,
        shard: usize,
        key: Key,
        packed: Vec<Vec<u8>>,
        durable: bool,
    ) -> StoreResult<Vec<(u8, u64)>> {
        let keys = [key, Key::Head, Key::Feed, Key::Live, Key::Due];
        let length = self.config.feed_length.to_string().into_bytes();
        let args = std::iter::once(length).chain(packed).collect();
        let mut call = self.set.call(Script::Swap, shard, &keys, args);
        call.replicas = if durable { self.config.durability } else { 0 };
        read(self.call(call).await?)
    }

    /// What `swap` wants to know of one record, and the mark of its announcement if there is one.
    fn packed<T>(
        &self,
        place: &Place,
        raw: &[u8],
        now: UnixMillis,
        write: &Write<T>,
    ) -> StoreResult<(Vec<Vec<u8>>, Option<Mark>)> {
        let number = |at: UnixMillis| at.0.to_string().into_bytes();
        let boxed = self.set.seal(place, &write.record)?;
        let mut args = vec![place.field.clone(), raw.to_vec(), boxed];
        match (place.key, write.due) {
            // A document may have had an end before, and been removed.
            (Key::Documents, due) => {
                let due = due.map(number).unwrap_or_default();
                args.extend([[b"o".as_slice(), &place.field].concat(), due]);
            }
            (_, Some(due)) => args.extend([[b"d".as_slice(), &place.field].concat(), number(due)]),
            (_, None) => args.extend([Vec::new(), Vec::new()]),
        }
        let Some(revocation) = &write.announce else {
            args.extend(std::iter::repeat_with(Vec::new).take(5));
            return Ok((args, None));
        };
        let mark: [u8; 8] = self.set.draw()?;
        let record = record::write_revocation(revocation);
        let member = member_of(revocation, &place.field);
        let live = Place { shard: place.shard, key: Key::Live, field: member };
        let entry = Place { shard: place.shard, key: Key::Feed, field: mark.to_vec() };
        let until = match revocation {
            Revocation::Session { until, .. }
            | Revocation::Device { until, .. }
            | Revocation::User { until, .. } => number(*until),
            // A replica that was away for a day loads everything anyway.
            Revocation::Blocked { blocked: false, .. } => number(now.plus(DAY)),
            Revocation::Blocked { .. } | Revocation::SealedName { .. } => Vec::new(),
        };
        args.push(mark.to_vec());
        args.push(self.set.seal(&entry, &record)?);
        args.push(live.field.clone());
        args.push(self.set.seal(&live, &record)?);
        args.push(until);
        Ok((args, Some(Mark(u64::from_be_bytes(mark)))))
    }

    /// Several records of one hash as they stand there, in the order of their fields, and the server's time.
    pub async fn several(
        &self,
        shard: usize,
        key: Key,
        fields: Vec<Vec<u8>>,
    ) -> StoreResult<(Vec<Option<Vec<u8>>>, UnixMillis)> {
        let count = fields.len();
        let call = self.set.call(Script::Several, shard, &[key], fields);
        let (raw, now): (Vec<Option<Vec<u8>>>, u64) = read(self.call(call).await?)?;
        if raw.len() == count {
            Ok((raw, UnixMillis(now)))
        } else {
            Err(StoreError("not all records were answered".to_owned()))
        }
    }

    /// Writes records of one hash whatever stands there, durably, in as few steps as can be.
    pub async fn overwrite(
        &self,
        shard: usize,
        key: Key,
        mut writes: Vec<(Place, Write<()>)>,
    ) -> StoreResult<()> {
        for _ in 0..ATTEMPTS {
            if writes.is_empty() {
                return Ok(());
            }
            let fields = writes.iter().map(|(place, _)| place.field.clone()).collect();
            let (kept, now) = self.several(shard, key, fields).await?;
            let mut packed = Vec::with_capacity(writes.len().saturating_mul(10));
            for ((place, write), raw) in writes.iter().zip(kept) {
                packed.extend(self.packed(place, &raw.unwrap_or_default(), now, write)?.0);
            }
            let answers = self.swap(shard, key, packed, true).await?;
            if answers.len() != writes.len() {
                return Err(StoreError("not all records were answered".to_owned()));
            }
            // One that stands there twice was overtaken by itself.
            let mut done = answers.into_iter().map(|(done, _)| done == 1);
            writes.retain(|_| done.next() != Some(true));
        }
        Err(StoreError(format!("records were changed by others {ATTEMPTS} times in a row")))
    }

    /// All records of a hash in a shard, a page at a time; each at least once.
    pub async fn each(
        &self,
        shard: usize,
        key: Key,
        mut take: impl FnMut(Page) -> StoreResult<()>,
    ) -> StoreResult<()> {
        let mut cursor = String::from("0");
        loop {
            let args = vec![cursor.into_bytes(), PAGE.to_string().into_bytes()];
            let call = self.set.call(Script::Scan, shard, &[key], args);
            let (next, page): (String, Page) = read(self.call(call).await?)?;
            take(page)?;
            if next == "0" {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// Opens a record that stands behind its number.
    pub fn open(&self, place: &Place, raw: &[u8]) -> StoreResult<SecretBytes> {
        let (_, boxed) = raw.split_first_chunk::<8>().ok_or_else(|| unreadable(place.key))?;
        self.set.open(place, boxed)
    }
}

/// In which queue changes of this field wait: by its last byte, which is of a keyed hash; the first one can be a letter
/// that all of a kind have.
fn queue_of(field: &[u8]) -> usize {
    field.last().map_or(0, |byte| usize::from(*byte)) % QUEUES
}

/// First letter of an ended session's field.
pub(super) const ENDED: u8 = b's';
const DAY: Duration = Duration::from_secs(86_400);

/// The field of an announcement among those that still matter: one of a kind for each record. The first letter says for
/// `forget` what it is.
fn member_of(revocation: &Revocation, field: &[u8]) -> Vec<u8> {
    let kind = match revocation {
        // It stands among them itself.
        Revocation::Session { .. } => return field.to_vec(),
        Revocation::User { .. } => b"u",
        Revocation::Device { .. } => b"t",
        Revocation::Blocked { .. } => b"b",
        Revocation::SealedName { .. } => b"n",
    };
    [kind.as_slice(), field].concat()
}

/// An answer of the shape that the script gives.
pub(super) fn read<T: redis::FromRedisValue>(value: Value) -> StoreResult<T> {
    redis::from_redis_value(value)
        .map_err(|error| StoreError(format!("an answer that cannot be read: {error}")))
}

/// A record that opens, but is none of ours.
pub(super) fn unreadable(key: Key) -> StoreError {
    StoreError(format!("a record in {} cannot be read: a later version wrote it?", key.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else everybody who logs out waits for everybody else who does.
    #[test]
    fn sessions_that_end_do_not_queue_for_each_other() {
        let ended = |byte: u8| [&[ENDED], [byte; 16].as_slice()].concat();
        let queues: std::collections::HashSet<usize> = (0..=255).map(|byte| queue_of(&ended(byte))).collect();
        assert_eq!(queues.len(), QUEUES);
    }
}

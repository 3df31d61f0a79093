//! One shard, as the feed's protocol needs it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use redis::Value;

use super::{
    backend::{Backend, Page, read, unreadable},
    data_set::{Key, Place},
    link::Waiter,
    record::read_revocation,
    scripts::Script,
};
use crate::{
    base::clock::UnixMillis,
    model::Revocation,
    store::{
        StoreError, StoreResult,
        feed::{Beat, Entry, Loaded, Mark, Position, Progress, Read, ReplicaId, Seq, Shard},
    },
};

/// Entries read at a time.
const AT_A_TIME: usize = 1000;

/// A shard of the data set.
pub(super) struct RedisShard {
    backend: Arc<Backend>,
    index: usize,
    waiter: Arc<Waiter>,
    /// The longest lease that was asked for here, in milliseconds.
    longest: AtomicU64,
}

/// A stream entry: its id, and its fields and values in turn.
type RawEntry = (String, Vec<Vec<u8>>);

impl RedisShard {
    pub fn new(backend: Arc<Backend>, index: usize) -> Self {
        Self { backend, index, waiter: Arc::default(), longest: AtomicU64::new(0) }
    }

    async fn ask<T: redis::FromRedisValue>(
        &self,
        script: Script,
        keys: &[Key],
        args: Vec<Vec<u8>>,
    ) -> StoreResult<T> {
        let call = self.backend.set.call(script, self.index, keys, args);
        read(self.backend.call(call).await?)
    }

    fn place(&self, key: Key, field: Vec<u8>) -> Place {
        Place { shard: self.index, key, field }
    }

    /// The entries without a gap behind `after`; `None` when there is one.
    fn entries(&self, after: Seq, raw: Vec<RawEntry>) -> StoreResult<Option<Vec<Entry>>> {
        let mut entries = Vec::with_capacity(raw.len());
        let mut last = after;
        for (id, fields) in raw {
            let odd = || StoreError(format!("an entry of the feed of shard {} cannot be read", self.index));
            let seq = Seq(id.split('-').next().and_then(|seq| seq.parse().ok()).ok_or_else(odd)?);
            if seq != last.next() {
                return Ok(None);
            }
            let [_, mark, _, previous, _, boxed] = fields.as_slice() else { return Err(odd()) };
            let number = |mark: &[u8]| mark.try_into().map(u64::from_be_bytes).map_err(|_| odd());
            let at = Position { seq, mark: Mark(number(mark)?) };
            let previous = Mark(number(previous)?);
            let opened = self.backend.set.open(&self.place(Key::Feed, mark.clone()), boxed);
            let read =
                opened.and_then(|plain| read_revocation(plain.expose()).ok_or_else(|| unreadable(Key::Feed)));
            let revocation = match read {
                Ok(revocation) => revocation,
                Err(error) => {
                    // What it said stands among what still matters, too: that is loaded, or nothing is believed.
                    tracing::error!(shard = self.index, seq = seq.0, %error, "an announcement cannot be read");
                    return Ok(None);
                }
            };
            entries.push(Entry { at, previous, revocation });
            last = seq;
        }
        Ok(Some(entries))
    }
}

#[async_trait]
impl Shard for RedisShard {
    async fn load(&self, now: UnixMillis) -> StoreResult<Loaded> {
        let (seq, mark): (u64, Vec<u8>) = self.ask(Script::Head, &[Key::Head], Vec::new()).await?;
        let mark =
            if mark.is_empty() { [0; 8] } else { mark.try_into().map_err(|_| unreadable(Key::Head))? };
        let head = Position { seq: Seq(seq), mark: Mark(u64::from_be_bytes(mark)) };
        let mut present = Vec::new();
        let mut take = |key: Key, page: Page| {
            for (field, raw) in page {
                let plain = self.backend.open(&self.place(key, field), &raw)?;
                let revocation = read_revocation(plain.expose()).ok_or_else(|| unreadable(key))?;
                if matters(&revocation, now) {
                    present.push(revocation);
                }
            }
            Ok(())
        };
        self.backend.each(self.index, Key::Live, |page| take(Key::Live, page)).await?;
        if self.index == 0 {
            self.backend.each(0, Key::Names, |page| take(Key::Names, page)).await?;
        }
        Ok(Loaded { head, present })
    }

    async fn read(&self, after: Seq, wait: Duration) -> StoreResult<Read> {
        let args = vec![after.0.to_string().into_bytes(), AT_A_TIME.to_string().into_bytes()];
        let asked = self.ask(Script::Range, &[Key::Head, Key::Feed], args).await;
        if asked.is_err() {
            // Who waits would not notice that the server is gone until somebody waits again.
            self.waiter.hang_up();
        }
        let (head, raw): (u64, Vec<RawEntry>) = asked?;
        if head < after.0 || (raw.is_empty() && head > after.0) {
            return Ok(Read::Gap);
        }
        let raw = if raw.is_empty() {
            let (link, key) = (&self.backend.link, self.backend.set.key(self.index, Key::Feed));
            let waited =
                link.next(self.index, Arc::clone(&self.waiter), key, after.0, AT_A_TIME, wait).await?;
            match waited {
                Value::Nil => return Ok(Read::Entries(Vec::new())),
                waited => {
                    let streams: Vec<(String, Vec<RawEntry>)> = read(waited)?;
                    streams.into_iter().flat_map(|(_, entries)| entries).collect()
                }
            }
        } else {
            raw
        };
        Ok(self.entries(after, raw)?.map_or(Read::Gap, Read::Entries))
    }

    async fn beat(&self, replica: ReplicaId, applied: Position, lease: Duration) -> StoreResult<Beat> {
        let lease = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        let longest = self.longest.fetch_max(lease, Ordering::Relaxed).max(lease);
        let args = vec![
            replica.0.to_vec(),
            applied.seq.0.to_string().into_bytes(),
            applied.mark.0.to_be_bytes().to_vec(),
            lease.to_string().into_bytes(),
            longest.to_string().into_bytes(),
        ];
        let keys = [Key::Leases, Key::Head, Key::Feed];
        let mut call = self.backend.set.call(Script::Beat, self.index, &keys, args);
        call.with_run = true;
        call.replicas = self.backend.config.durability;
        let (renewed, head): (u8, u64) = read(self.backend.call(call).await?)?;
        Ok(if renewed == 1 { Beat::Renewed { head: Seq(head) } } else { Beat::Gap })
    }

    async fn progress(&self) -> StoreResult<Progress> {
        let longest = self.longest.load(Ordering::Relaxed);
        let args = vec![longest.to_string().into_bytes()];
        let mut call = self.backend.set.call(Script::Progress, self.index, &[Key::Leases, Key::Head], args);
        call.with_run = true;
        let (everybody, behind, rest): (u64, usize, u64) = read(self.backend.call(call).await?)?;
        Ok(Progress { everybody: Seq(everybody), behind, at_most: Duration::from_millis(rest) })
    }

    async fn leave(&self, replica: ReplicaId) -> StoreResult<()> {
        let _: u8 = self.ask(Script::Leave, &[Key::Leases], vec![replica.0.to_vec()]).await?;
        Ok(())
    }
}

/// Whether it can still end anything at `now`.
pub(super) fn matters(revocation: &Revocation, now: UnixMillis) -> bool {
    match revocation {
        Revocation::Session { until, .. }
        | Revocation::Device { until, .. }
        | Revocation::User { until, .. } => *until > now,
        Revocation::Blocked { .. } | Revocation::SealedName { .. } => true,
    }
}

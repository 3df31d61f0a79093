//! Copies one store into another, and looks afterwards whether all is there.
//!
//! Promises: what was copied may be copied again; a copy that was cut off anywhere is completed by starting it again, and until
//! then no server opens the target; nothing that still matters is lost and nothing that was forbidden is allowed again
//! (see [`super::portable`]); at the end every record of the source was compared with the target's, and for a target that had
//! nothing before, every one of the target's with the source.

use super::{
    StoreError,
    portable::{Content, Cursor, Key, Kind, Portable, Record},
};
use crate::base::clock::SharedClock;

/// Records in one step.
const PAGE: usize = 500;

/// Why a copy was refused or did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The target has data of its own.
    #[error("the target has data of its own")]
    TargetHasData,
    /// A server uses one of them.
    #[error("a server uses {0}")]
    InUse(Side),
    /// The source is itself half a copy.
    #[error("the source is an unfinished copy")]
    SourceUnfinished,
    /// One of them failed.
    #[error("{side}: {error}")]
    Store {
        /// Which.
        side: Side,
        /// How.
        error: StoreError,
    },
    /// They differ after all.
    #[error("after the copy, {count} {} differ", .kind.name())]
    Differ {
        /// What.
        kind: Kind,
        /// How many at least.
        count: u64,
    },
}

/// One end of a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Where from.
    Source,
    /// Where to.
    Target,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Source => "the source",
            Self::Target => "the target",
        })
    }
}

/// What is going on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Records are copied.
    Copying,
    /// Records of the source are compared with the target.
    Comparing,
    /// Records of the target are compared with the source.
    ComparingBack,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// What is going on.
    pub phase: Phase,
    /// With what.
    pub kind: Kind,
    /// How many records so far.
    pub done: u64,
    /// This kind is through.
    pub complete: bool,
}

/// What was done.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Of each kind: how many records matter, and how many of them had to be written.
    pub kinds: Vec<(Kind, Count)>,
    /// An earlier copy was completed.
    pub resumed: bool,
}

/// Records of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// In the source, and compared in the target.
    pub compared: u64,
    /// Written; the others were there already.
    pub written: u64,
}

/// Copies everything from `source` to `target`. With `merge` a target that has data of its own is not refused.
///
/// # Errors
/// See [`CopyError`]. A target that was begun stays marked as unfinished.
pub async fn copy(
    source: &dyn Portable,
    target: &dyn Portable,
    clock: &SharedClock,
    merge: bool,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Report, CopyError> {
    if matches!(source.content().await.map_err(at(Side::Source))?, Content::Unfinished { .. }) {
        return Err(CopyError::SourceUnfinished);
    }
    let (alone, resumed) = match target.content().await.map_err(at(Side::Target))? {
        Content::Nothing => (true, false),
        Content::Unfinished { alone } => (alone, true),
        Content::Data if merge => (false, false),
        Content::Data => return Err(CopyError::TargetHasData),
    };
    let job = Job { source, target, clock };
    job.refuse_servers().await?;
    target.begin_import(alone).await.map_err(at(Side::Target))?;
    let mut report = Report { kinds: Vec::new(), resumed };
    let mut floor = source.epoch_floor().await.map_err(at(Side::Source))?;
    for kind in Kind::ALL {
        let written = job.copy_kind(kind, &mut floor, progress).await?;
        report.kinds.push((kind, Count { compared: 0, written }));
    }
    target.raise_epoch_floor(floor).await.map_err(at(Side::Target))?;
    for (kind, count) in &mut report.kinds {
        count.compared = job.compare(*kind, true, alone, progress).await?;
    }
    if alone {
        for kind in Kind::ALL {
            job.compare(kind, false, alone, progress).await?;
        }
    }
    // One that came meanwhile may have changed the source.
    job.refuse_servers().await?;
    target.finish_import().await.map_err(at(Side::Target))?;
    Ok(report)
}

struct Job<'a> {
    source: &'a dyn Portable,
    target: &'a dyn Portable,
    clock: &'a SharedClock,
}

impl Job<'_> {
    async fn refuse_servers(&self) -> Result<(), CopyError> {
        for (store, side) in [(self.source, Side::Source), (self.target, Side::Target)] {
            if store.in_use().await.map_err(at(side))? {
                return Err(CopyError::InUse(side));
            }
        }
        Ok(())
    }

    /// How many were written. Raises `floor` above the epochs of devices that are forgotten with this.
    async fn copy_kind(
        &self,
        kind: Kind,
        floor: &mut u64,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<u64, CopyError> {
        let (mut after, mut done, mut written) = (None::<Cursor>, 0_u64, 0_u64);
        loop {
            let page = self.source.export(kind, after.as_ref(), PAGE).await.map_err(at(Side::Source))?;
            done = done.saturating_add(count(page.records.len()));
            let now = self.clock.now();
            for record in &page.records {
                if let Record::Device(device) = record
                    && device.until <= now
                {
                    *floor = device.epoch.saturating_add(1).max(*floor);
                }
            }
            let records: Vec<Record> = page.records.into_iter().filter_map(|r| r.at(now)).collect();
            let kept = self.found(self.target, Side::Target, &records).await?;
            let mut fresh = Vec::new();
            for (record, kept) in records.into_iter().zip(kept) {
                match kept {
                    None => fresh.push(record),
                    Some(kept) => {
                        let merged = kept.clone().merged(&record);
                        if merged != kept {
                            fresh.push(merged);
                        }
                    }
                }
            }
            written = written.saturating_add(count(fresh.len()));
            if !fresh.is_empty() {
                self.target.put(fresh).await.map_err(at(Side::Target))?;
            }
            after = page.next;
            progress(Progress { phase: Phase::Copying, kind, done, complete: after.is_none() });
            if after.is_none() {
                return Ok(written);
            }
        }
    }

    /// Compares every record of one side with the other's; how many. `equal`: nothing else may be there.
    async fn compare(
        &self,
        kind: Kind,
        forth: bool,
        equal: bool,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<u64, CopyError> {
        let (from, to, from_side, to_side, phase) = if forth {
            (self.source, self.target, Side::Source, Side::Target, Phase::Comparing)
        } else {
            (self.target, self.source, Side::Target, Side::Source, Phase::ComparingBack)
        };
        let (mut after, mut done, mut differ) = (None::<Cursor>, 0_u64, 0_u64);
        loop {
            let page = from.export(kind, after.as_ref(), PAGE).await.map_err(at(from_side))?;
            let pairs = {
                let others = self.found(to, to_side, &page.records).await?;
                page.records.into_iter().zip(others).collect::<Vec<_>>()
            };
            // Only now: what ran out while it was looked up is no difference.
            let now = self.clock.now();
            for (record, other) in pairs {
                let (record, other) = (record.at(now), other.and_then(|other| other.at(now)));
                let same = match (record, other) {
                    (None, None) => true,
                    (Some(record), Some(other)) if equal => record == other,
                    // What is there covers what was copied.
                    (Some(record), Some(other)) => other.clone().merged(&record) == other,
                    _ => false,
                };
                done = done.saturating_add(1);
                differ = differ.saturating_add(u64::from(!same));
            }
            after = page.next;
            progress(Progress { phase, kind, done, complete: after.is_none() });
            if after.is_none() {
                return if differ == 0 { Ok(done) } else { Err(CopyError::Differ { kind, count: differ }) };
            }
        }
    }

    async fn found(
        &self,
        store: &dyn Portable,
        side: Side,
        records: &[Record],
    ) -> Result<Vec<Option<Record>>, CopyError> {
        let keys: Vec<Key> = records.iter().map(Record::key).collect();
        let found = store.lookup(&keys).await.map_err(at(side))?;
        if found.len() != keys.len() {
            return Err(at(side)(StoreError("not all keys were looked up".to_owned())));
        }
        Ok(found)
    }
}

fn at(side: Side) -> impl Fn(StoreError) -> CopyError {
    move |error| CopyError::Store { side, error }
}

fn count(records: usize) -> u64 {
    u64::try_from(records).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests;

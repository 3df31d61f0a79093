//! One shard as this replica has followed it so far, and who waits for what in it.
//!
//! A *history* is what was followed without a gap since the last load. What is known to be complete is known within a
//! history only: after a gap the backend may have forgotten announcements and given their numbers out again.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, watch};

use super::{
    lookout::Horizon,
    shard::{Mark, Position, Seq, Shard},
    within,
};
use crate::{
    base::clock::{SharedMonotonic, Ticks},
    store::{StoreError, StoreResult},
};

/// Of so many of the newest announcements the marks are remembered; whoever waits for an older one is told that nothing is
/// known of it.
const REMEMBERED: usize = 16 * 1024;
/// The first pause between two looks at how far the others are.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// One shard, shared by its follower and all who wait.
pub(super) struct Lane {
    index: usize,
    shard: Arc<dyn Shard>,
    clock: SharedMonotonic,
    horizon: Arc<Horizon>,
    lease: Duration,
    followed: Mutex<Followed>,
    /// Moves with every change of `followed`.
    changed: watch::Sender<()>,
    /// Whoever holds it asks the backend, for all who wait.
    asking: AsyncMutex<()>,
}

#[derive(Default)]
struct Followed {
    history: u64,
    /// The newest applied.
    applied: Seq,
    /// The marks of the newest applied, the newest last.
    marks: VecDeque<Mark>,
    /// The newest of which the backend knows that it is applied here, and has agreed on its mark.
    acknowledged: Seq,
    /// All up to here is complete.
    complete: Seq,
    /// The head as last heard of.
    head: Seq,
    /// When nothing was missing, for the last time.
    caught_up: Ticks,
}

/// What is known of an announcement here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    /// Applied, and the backend knows it.
    Acknowledged,
    /// Applied by everybody.
    Complete,
    /// Not yet.
    NotYet,
    /// It is not in this history: the backend has forgotten it, or it is too long ago.
    Foreign,
}

/// How far behind this replica is in a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Lag {
    pub entries: u64,
    pub time: Duration,
}

impl Lane {
    pub fn new(
        index: usize,
        shard: Arc<dyn Shard>,
        clock: SharedMonotonic,
        horizon: Arc<Horizon>,
        lease: Duration,
    ) -> Arc<Self> {
        let (followed, changed, asking) = (Mutex::default(), watch::Sender::new(()), AsyncMutex::default());
        Arc::new(Self { index, shard, clock, horizon, lease, followed, changed, asking })
    }

    /// A new history begins at `head`, of which everything is applied.
    pub fn begin(&self, head: Position) {
        self.change(|followed| {
            *followed = Followed {
                history: followed.history.saturating_add(1),
                applied: head.seq,
                marks: VecDeque::from([head.mark]),
                head: head.seq,
                caught_up: self.clock.ticks(),
                ..Followed::default()
            };
        });
    }

    /// One more is applied.
    pub fn applied(&self, at: Position) {
        self.change(|followed| {
            followed.applied = at.seq;
            followed.head = followed.head.max(at.seq);
            if followed.marks.len() >= REMEMBERED {
                followed.marks.pop_front();
            }
            followed.marks.push_back(at.mark);
        });
    }

    /// The backend has heard that `applied` is applied here, and says where its head is.
    pub fn acknowledged(&self, applied: Seq, head: Seq) {
        self.change(|followed| {
            followed.acknowledged = followed.acknowledged.max(applied);
            followed.head = followed.head.max(head);
            if followed.applied >= head {
                followed.caught_up = self.clock.ticks();
            }
        });
    }

    /// How far behind this replica is.
    pub fn lag(&self) -> Lag {
        let followed = self.followed.lock();
        let entries = followed.head.0.saturating_sub(followed.applied.0);
        let time = self.clock.ticks().since(followed.caught_up);
        // Between two heartbeats nothing is late.
        Lag { entries, time: if time > self.lease / 2 { time } else { Duration::ZERO } }
    }

    /// Waits until everybody has applied `announcement`, but not longer than a lease can make it take.
    pub async fn complete(&self, announcement: Position) -> StoreResult<()> {
        let began = self.clock.ticks();
        let mut changed = self.changed.subscribe();
        let mut pause = FIRST_PAUSE;
        let mut trouble = None;
        loop {
            changed.mark_unchanged();
            match self.known(announcement) {
                Known::Complete => return Ok(()),
                Known::Foreign => {
                    return Err(StoreError("the backend has lost the announcement".to_owned()));
                }
                Known::NotYet => {}
                Known::Acknowledged => {
                    if let Ok(_asking) = self.asking.try_lock() {
                        trouble = self.ask().await.err();
                        if self.known(announcement) == Known::Complete {
                            return Ok(());
                        }
                    }
                }
            }
            if self.clock.ticks().since(began) > self.patience() {
                let why = "not every replica has acknowledged a revocation in time";
                return Err(trouble.unwrap_or_else(|| StoreError(why.to_owned())));
            }
            tokio::select! {
                biased;
                _ = changed.changed() => {}
                () = self.clock.sleep(pause) => pause = (pause * 3 / 2).min(LONGEST_PAUSE),
            }
        }
    }

    /// Twice the time in which the lease of one who is gone runs out, and some more.
    fn patience(&self) -> Duration {
        self.lease * 2 + Duration::from_secs(1)
    }

    fn known(&self, announcement: Position) -> Known {
        let followed = self.followed.lock();
        let Position { seq, mark } = announcement;
        if followed.history == 0 || seq > followed.applied {
            return Known::NotYet;
        }
        let back = usize::try_from(followed.applied.0.saturating_sub(seq.0)).unwrap_or(usize::MAX);
        let place = followed.marks.len().checked_sub(1).and_then(|last| last.checked_sub(back));
        if place.and_then(|place| followed.marks.get(place)) != Some(&mark) {
            return Known::Foreign;
        }
        if seq <= followed.complete {
            Known::Complete
        } else if seq <= followed.acknowledged {
            Known::Acknowledged
        } else {
            Known::NotYet
        }
    }

    /// Asks how far the others are. The answer counts only if this replica itself still has its lease when it is
    /// there: then no failover lies between its own last heartbeat, which the backend held against its history, and
    /// this answer, for after a failover the backend answers nothing for as long as a lease can last.
    async fn ask(&self) -> StoreResult<()> {
        let history = self.followed.lock().history;
        let progress = within(&self.clock, self.lease / 2, self.shard.progress()).await?;
        if !self.horizon.is_clear(self.index) {
            return Err(StoreError("this replica itself has lost the feed".to_owned()));
        }
        self.change(|followed| {
            if followed.history == history {
                // What is not applied here cannot be complete, whatever a backend says.
                followed.complete = followed.complete.max(progress.everybody.min(followed.acknowledged));
            }
        });
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut Followed)) {
        change(&mut self.followed.lock());
        self.changed.send_replace(());
    }
}

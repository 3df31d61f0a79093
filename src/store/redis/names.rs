//! The names of all users, in memory for a while. In Redis names are sealed and have no order: a search opens every
//! record. So the search keeps the names, and only those, for [`FRESH`]; what they stand for is always read anew.
//!
//! Promises: what this replica has written is found at once, what another one has within [`FRESH`]. With more than [`MOST`]
//! users nothing is kept, and every search opens every record.

use std::{collections::BTreeSet, ops::Bound, time::Duration};

use parking_lot::Mutex;

use crate::{base::clock::Stopwatch, model::UserKey};

/// What is kept.
pub(super) struct Names {
    fresh: Duration,
    state: Mutex<State>,
    /// One reads, others wait for what it finds.
    pub reading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    names: BTreeSet<UserKey>,
    read_at: Option<Stopwatch>,
    /// What was written while somebody reads.
    meanwhile: Option<Vec<UserKey>>,
}

impl Default for Names {
    fn default() -> Self {
        Self::for_at_most(FRESH)
    }
}

impl Names {
    fn for_at_most(fresh: Duration) -> Self {
        Self { fresh, state: Mutex::default(), reading: tokio::sync::Mutex::default() }
    }

    /// A user was met.
    pub fn met(&self, user: &UserKey) {
        let mut state = self.state.lock();
        if let Some(meanwhile) = &mut state.meanwhile {
            meanwhile.push(user.clone());
        }
        if state.read_at.is_some() && !state.names.contains(user) {
            state.names.insert(user.clone());
        }
    }

    /// At most `limit` names in their order after `after` that contain `part`; `None` when they are not kept, or too old.
    pub fn search(&self, part: &str, after: Option<&UserKey>, limit: usize) -> Option<Vec<UserKey>> {
        let state = self.state.lock();
        state.read_at.filter(|at| at.elapsed() <= self.fresh)?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let later = state.names.range::<UserKey, _>((from, Bound::Unbounded));
        Some(later.filter(|user| user.name.as_str().contains(part)).take(limit).cloned().collect())
    }

    /// Somebody begins to read all names.
    pub fn begin(&self) {
        *self.state.lock() = State { meanwhile: Some(Vec::new()), ..State::default() };
    }

    /// All have been read; too many are not kept.
    pub fn end(&self, mut names: BTreeSet<UserKey>, began: Stopwatch) {
        let mut state = self.state.lock();
        names.extend(state.meanwhile.take().unwrap_or_default());
        let kept = names.len() <= MOST;
        *state = State {
            names: if kept { names } else { BTreeSet::new() },
            read_at: kept.then_some(began),
            meanwhile: None,
        };
    }

    /// Gives the memory free when nobody has searched for a while.
    pub fn tidy(&self) {
        let Ok(_turn) = self.reading.try_lock() else { return };
        let mut state = self.state.lock();
        // Whoever read may have been cut short.
        state.meanwhile = None;
        if state.read_at.is_some_and(|at| at.elapsed() > self.fresh) {
            *state = State::default();
        }
    }
}

/// For so long they are believed.
pub(super) const FRESH: Duration = Duration::from_secs(30);
/// About 100 bytes each: at most 50 MB.
pub(super) const MOST: usize = 500_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract::user;

    #[test]
    fn what_is_written_here_is_found_at_once_and_what_is_old_is_not_believed() {
        let names = Names::default();
        assert_eq!(names.search("", None, 9), None, "nothing has been read");
        names.begin();
        names.met(&user("joanna"));
        names.end(BTreeSet::from([user("anna"), user("bram")]), Stopwatch::start());
        assert_eq!(names.search("anna", None, 9), Some(vec![user("anna"), user("joanna")]));
        names.met(&user("hanna"));
        assert_eq!(names.search("anna", Some(&user("anna")), 1), Some(vec![user("hanna")]));

        let names = Names::for_at_most(Duration::ZERO);
        names.begin();
        names.end(BTreeSet::from([user("anna")]), Stopwatch::start());
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(names.search("", None, 9), None);
        names.tidy();
        assert!(names.state.lock().names.is_empty());
    }
}

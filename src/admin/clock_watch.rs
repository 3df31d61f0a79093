//! Whether the server's own clock can be believed (requirements, row E8): codes depend on it.
//!
//! Two signs are watched: the wall clock jumps against the monotonic one, and the codes of most users are off alike.
//! It warns, counts and shows; it never corrects a clock and never makes the process unready.
//!
//! The kernel's own word, whether its clock is synchronised (`STA_UNSYNC` of adjtimex(2)), is not asked. Reading it takes
//! `unsafe`, which this crate forbids itself, and no well-kept crate wraps it: rustix and nix do not have the call,
//! `clock-steering` steers by it but does not show the status, and what does is a part of some time daemon. In a
//! container it would be the host's flag, where seccomp lets it be seen at all. The two signs above need no privilege.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::{
    base::clock::{SharedClock, Stopwatch, UnixMillis},
    factor::drift::Drifts,
    metrics::Metrics,
};

/// The watch.
pub struct ClockWatch {
    clock: SharedClock,
    drifts: Arc<Drifts>,
    metrics: Arc<Metrics>,
    began: Stopwatch,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Both clocks at the last look, or when the watch began.
    last: (UnixMillis, Duration),
    /// When the wall clock jumped last, on the monotonic clock, and by how many seconds.
    jumped: Option<(Duration, i64)>,
    /// When the drift of codes was last said, on the monotonic clock.
    warned: Option<Duration>,
    /// The drift of codes, when it is one.
    drift: Option<i64>,
}

impl ClockWatch {
    /// Puts it together. From now on no jump is missed.
    pub fn new(clock: SharedClock, drifts: Arc<Drifts>, metrics: Arc<Metrics>) -> Self {
        let state = State { last: (clock.now(), Duration::ZERO), ..State::default() };
        Self { clock, drifts, metrics, began: Stopwatch::start(), state: Mutex::new(state) }
    }

    /// Looks every few seconds, for ever.
    pub async fn follow(&self) {
        let mut interval = tokio::time::interval(EVERY);
        loop {
            interval.tick().await;
            self.look(self.began.elapsed());
        }
    }

    /// One look; `monotonic` is the time since it began, by a clock that nobody sets.
    fn look(&self, monotonic: Duration) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let (then, before) = std::mem::replace(&mut state.last, (now, monotonic));
        let jump = difference(now, then.plus(monotonic.saturating_sub(before)));
        if jump.unsigned_abs() > JUMP.as_secs() {
            self.metrics.clock_jumps.inc();
            state.jumped = Some((monotonic, jump));
            tracing::warn!(seconds = jump, "the clock of this server jumped, or it was suspended");
        }
        let median = self.drifts.median_secs().unwrap_or(0);
        self.metrics.code_drift.set(median);
        state.drift = (median != 0).then_some(median);
        let quiet = state.warned.is_some_and(|at| monotonic.saturating_sub(at) < QUIET);
        if median != 0 && !quiet {
            state.warned = Some(monotonic);
            tracing::warn!(
                seconds = median,
                "the codes of most users are off alike: is the clock of this server right?"
            );
        }
        if state.jumped.is_some_and(|(at, _)| monotonic.saturating_sub(at) > QUIET) {
            state.jumped = None;
        }
    }

    /// What is doubtful about the clock, in words; `None` when nothing is.
    pub fn doubt(&self) -> Option<String> {
        let state = self.state.lock();
        let drift = state.drift.map(|secs| format!("the codes of most users are off by {secs} s"));
        let jump = state.jumped.map(|(_, secs)| format!("it jumped by {secs} s within the last hour"));
        let both: Vec<String> = drift.into_iter().chain(jump).collect();
        (!both.is_empty()).then(|| both.join("; "))
    }
}

/// `a - b` in whole seconds.
fn difference(a: UnixMillis, b: UnixMillis) -> i64 {
    let secs = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
    secs(a.since(b)).saturating_sub(secs(b.since(a)))
}

/// Between two looks.
const EVERY: Duration = Duration::from_secs(5);
/// What is no jump: a slow machine, a clock that is being put right.
const JUMP: Duration = Duration::from_secs(10);
/// For so long the same is not said again, and a jump is shown.
const QUIET: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::ManualClock;

    /// [E8] Only what the monotonic clock has not seen is a jump.
    #[test]
    fn a_jump_is_counted_once_and_shown_for_an_hour() {
        let clock = ManualClock::at(UnixMillis::from_secs(1_800_000_000));
        let metrics = Arc::new(Metrics::new(&[]));
        let watch = ClockWatch::new(clock.clone(), Arc::default(), Arc::clone(&metrics));
        let mut monotonic = Duration::ZERO;
        let mut pass = |wall: u64, real: u64| {
            clock.advance(Duration::from_secs(wall));
            monotonic += Duration::from_secs(real);
            watch.look(monotonic);
        };
        pass(0, 0);
        pass(5, 5);
        pass(100, 95);
        pass(0, 9);
        assert_eq!((metrics.clock_jumps.get(), watch.doubt()), (0, None));
        pass(40, 5);
        assert_eq!(metrics.clock_jumps.get(), 1);
        assert!(watch.doubt().unwrap().contains("jumped by 35 s"));
        pass(0, 60);
        assert_eq!(metrics.clock_jumps.get(), 2);
        assert!(watch.doubt().unwrap().contains("jumped by -60 s"));
        pass(3601, 3601);
        assert_eq!((metrics.clock_jumps.get(), watch.doubt()), (2, None));
    }
}

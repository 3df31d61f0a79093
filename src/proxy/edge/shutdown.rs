//! How a stop goes: not ready → still accepting → no new connections → wait for what is in flight → end.
//!
//! One [`Shutdown`] belongs to one running server. Whoever holds it may begin the stop, ask how far it is, or keep
//! it waiting with an [`InFlight`]. It never cuts anything itself: that is done by whoever waits for
//! [`Stage::Ended`].

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use pingora::server::ShutdownWatch;
use tokio::sync::watch;

/// How far a stop is. Stages only go forward.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Stage {
    /// No stop.
    #[default]
    Running,
    /// Not ready any more, but still accepting, while the endpoint is withdrawn. HTTP/1 answers say
    /// `Connection: close`.
    Leaving,
    /// No new connections; HTTP/2 clients have been told to go away; what is in flight ends by itself.
    Draining,
    /// Everything has ended or the limit of time was reached.
    Ended,
}

/// The stop of one server; clones are the same stop.
#[derive(Clone)]
pub struct Shutdown(Arc<State>);

struct State {
    stage: watch::Sender<Stage>,
    last_answer: watch::Sender<bool>,
    go_away: watch::Sender<bool>,
    in_flight: AtomicUsize,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// A server that runs.
    pub fn new() -> Self {
        Self(Arc::new(State {
            stage: watch::Sender::new(Stage::Running),
            last_answer: watch::Sender::new(false),
            go_away: watch::Sender::new(false),
            in_flight: AtomicUsize::new(0),
        }))
    }

    /// A signal came: the first begins the stop, the second ends it at once.
    pub fn begin(&self) {
        if self.stage() == Stage::Running {
            self.advance(Stage::Leaving);
        } else {
            self.advance(Stage::Ended);
        }
    }

    /// Goes to `stage`, unless it is there or further already.
    pub(super) fn advance(&self, stage: Stage) {
        if stage >= Stage::Leaving {
            self.0.last_answer.send_if_modified(|set| !std::mem::replace(set, true));
        }
        if stage >= Stage::Draining {
            self.0.go_away.send_if_modified(|set| !std::mem::replace(set, true));
        }
        self.0.stage.send_if_modified(|now| {
            let forward = stage > *now;
            if forward {
                *now = stage;
            }
            forward
        });
    }

    /// How far it is.
    pub fn stage(&self) -> Stage {
        *self.0.stage.borrow()
    }

    /// Whether a stop has begun: `/readyz` then says no.
    pub fn is_stopping(&self) -> bool {
        self.stage() != Stage::Running
    }

    /// Waits until the stop is at `stage` or further.
    pub async fn reached(&self, stage: Stage) {
        let mut watch = self.0.stage.subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let _ = watch.wait_for(|now| *now >= stage).await;
    }

    /// Keeps the stop waiting until the returned value is dropped, at most until the limit of time.
    pub fn hold(&self) -> InFlight {
        self.0.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight(Arc::clone(&self.0))
    }

    /// How many hold it.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.load(Ordering::Acquire)
    }

    /// What pingora asks before each HTTP/1 request: from [`Stage::Leaving`] on, an answer is the last one of its
    /// connection.
    pub(super) fn last_answer(&self) -> ShutdownWatch {
        self.0.last_answer.subscribe()
    }

    /// What makes pingora send GOAWAY on HTTP/2 connections: at [`Stage::Draining`], so that clients do not come
    /// back to a server that still accepts.
    pub(super) fn go_away(&self) -> ShutdownWatch {
        // Not `subscribe`: a connection of this very moment must see the change as new.
        let mut watch = self.0.go_away.subscribe();
        if *watch.borrow() {
            watch.mark_changed();
        }
        watch
    }
}

/// Something in flight that a stop waits for: a connection, a tunnel.
pub struct InFlight(Arc<State>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// SIGTERM and SIGINT begin the stop (a second one ends it at once); SIGHUP calls `reload`. Runs until the stop has
/// ended.
///
/// # Errors
/// When the handlers cannot be installed.
pub async fn follow_signals(shutdown: Shutdown, reload: impl Fn() + Send) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => shutdown.begin(),
            _ = interrupt.recv() => shutdown.begin(),
            _ = hangup.recv() => {
                reload();
                continue;
            }
            () = shutdown.reached(Stage::Ended) => return Ok(()),
        }
        tracing::info!(stage = ?shutdown.stage(), "stopping");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stages_go_forward_and_the_second_signal_ends() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.is_stopping());
        shutdown.begin();
        assert_eq!(shutdown.stage(), Stage::Leaving);
        assert!(*shutdown.last_answer().borrow() && !*shutdown.go_away().borrow());
        shutdown.advance(Stage::Draining);
        shutdown.advance(Stage::Leaving);
        assert_eq!(shutdown.stage(), Stage::Draining, "no way back");
        let mut late = shutdown.go_away();
        assert!(late.has_changed().unwrap(), "a connection made now is told, too");
        late.changed().await.unwrap();
        shutdown.begin();
        shutdown.reached(Stage::Ended).await;
    }

    #[test]
    fn what_is_in_flight_is_counted() {
        let shutdown = Shutdown::new();
        let one = shutdown.hold();
        let two = shutdown.hold();
        drop(one);
        assert_eq!(shutdown.in_flight(), 1);
        drop(two);
        assert_eq!(shutdown.in_flight(), 0);
    }
}

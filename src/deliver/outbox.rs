//! Messages on their way: a bounded number of them, each tried a few times.
//!
//! Promises: putting one here never waits and never fails for whoever does it; none that a server has accepted is sent
//! again, nor one that it may have accepted. Does not promise that a message arrives: see `deliver`.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    letter::Letter,
    mail::{Mailer, Undelivered},
};
use crate::metrics::{MailOutcome, Metrics};

/// Where messages wait.
pub struct Outbox {
    mailer: ArcSwapOption<Mailer>,
    room: Arc<Semaphore>,
    lines: Semaphore,
    metrics: Arc<Metrics>,
}

impl Outbox {
    /// An empty one.
    pub fn new(mailer: Option<Mailer>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            mailer: ArcSwapOption::from_pointee(mailer),
            room: Arc::new(Semaphore::new(ROOM)),
            lines: Semaphore::new(LINES),
            metrics,
        })
    }

    /// Sends by this from now on, also what waits; `None`: nobody is reached any more.
    pub fn replace(&self, mailer: Option<Mailer>) {
        self.mailer.store(mailer.map(Arc::new));
        self.metrics.mail.failing.set(0);
    }

    /// By what it sends.
    pub fn mailer(&self) -> Option<Arc<Mailer>> {
        self.mailer.load_full()
    }

    /// Takes a message. Must be called on a tokio runtime, which then carries it.
    pub fn put(self: &Arc<Self>, letter: Letter) {
        let Ok(place) = Arc::clone(&self.room).try_acquire_owned() else {
            self.metrics.mail.outcomes.count(MailOutcome::Full);
            tracing::warn!(waiting = ROOM, "a message was dropped: too many wait already");
            return;
        };
        self.metrics.mail.queue.inc();
        let outbox = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = outbox.deliver(&letter, place).await;
            outbox.metrics.mail.queue.dec();
            outbox.metrics.mail.outcomes.count(outcome);
        });
    }

    async fn deliver(&self, letter: &Letter, _place: OwnedSemaphorePermit) -> MailOutcome {
        let mut pauses = PAUSES.iter();
        loop {
            let Some(mailer) = self.mailer() else { return MailOutcome::Failed };
            let sent = {
                // Never closed.
                let _line = self.lines.acquire().await;
                mailer.send(letter).await
            };
            let failing = &self.metrics.mail.failing;
            match sent {
                Ok(()) => {
                    failing.set(0);
                    tracing::debug!("a message was sent");
                    return MailOutcome::Sent;
                }
                Err(Undelivered::Never(cause)) => {
                    failing.set(0);
                    tracing::warn!(cause = cause.brief, "the mail server refused a message for good");
                    tracing::debug!(cause = cause.full, "in its own words");
                    return MailOutcome::Refused;
                }
                Err(Undelivered::Unknown(cause)) => {
                    failing.set(1);
                    tracing::warn!(
                        cause = cause.brief,
                        "whether the mail server has taken a message is not known; it is not sent again"
                    );
                    return MailOutcome::Unknown;
                }
                Err(Undelivered::Later(cause)) => {
                    failing.set(1);
                    let Some(pause) = pauses.next() else {
                        tracing::error!(
                            cause = cause.brief,
                            "a message was given up: the mail server did not take it"
                        );
                        return MailOutcome::Failed;
                    };
                    tracing::warn!(
                        cause = cause.brief,
                        again_in_secs = pause.as_secs(),
                        "the mail server did not take a message"
                    );
                    tracing::debug!(cause = cause.full, "in its own words");
                    tokio::time::sleep(*pause).await;
                }
            }
        }
    }
}

/// So many wait at most: a few megabytes.
const ROOM: usize = 1000;
/// So many connections at once.
const LINES: usize = 4;
/// Between attempts: a server that restarts, one that greylists, one that is down for a while.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
];

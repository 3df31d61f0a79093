//! What an auditor may rely on: a closed list of events, one line each, in a chain that shows every tampering.
//!
//! - `event`: the list, and the fields of each (NEN 7513). `docs/audit.md` is its public form.
//! - `text`, `line`: how an event becomes one line of printable ASCII, sealed into its chain (HMAC, Ed25519).
//! - `chain`, `writer`, `resume`: the one thread that writes, and how it goes on after a stop, a kill, a rotation.
//! - `sink`, `file`, `syslog`: where lines go.
//! - `verify`, `search`: reading back.
//!
//! Promises: a line is written whole, or the next one tells what is torn; what somebody typed cannot begin a new line or
//! change how one looks; what cannot be written goes to the program's own log, is counted, and the chain tells how many.
//! [`Auditor::record`] never waits; [`Auditor::grant`] waits as `audit.on_failure` says. A verified request writes no
//! event and asks nothing here. Codes, keys and cookies are never part of an event.

mod chain;
mod event;
mod file;
mod line;
mod resume;
pub mod search;
mod sink;
mod syslog;
mod text;
pub mod verify;
mod writer;

use std::{
    io::{self, Write},
    path::Path,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge};
use tokio::sync::oneshot;

pub use event::{Event, IMPORTED, Outcome, Subject};
pub use file::{is_packed, siblings};

use self::{
    chain::Chain,
    event::{Entry, Own},
    file::FileSink,
    resume::End,
    sink::Sink,
    syslog::{Copy, Syslog},
    writer::{Ack, Job, State, Step, Writer},
};
use crate::{
    base::{
        clock::SharedClock,
        keyring::{KeyId, Keyring},
        random::{Random, bytes},
    },
    config::{self, AuditPlace, OnFailure},
};

/// What is counted about the log.
#[derive(Clone)]
pub struct Meters {
    /// Events that are in no line.
    pub lost: IntCounter,
    /// 1 while the sink does not work.
    pub failing: IntGauge,
    /// Number of the last line.
    pub sequence: IntGauge,
    /// Number of the last checkpoint.
    pub checkpoint: IntGauge,
}

impl Meters {
    /// Meters that nobody reads: for a command.
    ///
    /// # Errors
    /// Never; the names are right.
    pub fn unseen() -> io::Result<Self> {
        let gauge = |name: &str| IntGauge::new(name, name).map_err(io::Error::other);
        Ok(Self {
            lost: IntCounter::new("lost", "lost").map_err(io::Error::other)?,
            failing: gauge("failing")?,
            sequence: gauge("sequence")?,
            checkpoint: gauge("checkpoint")?,
        })
    }

    /// An event that is in no line: in the program's own log, at least.
    fn lose(&self, state: &State, entry: &Entry, why: &str) {
        state.lost.fetch_add(1, Ordering::Relaxed);
        self.lost.inc();
        tracing::error!(audit = entry.body, error = why, "an audit event could not be written");
    }
}

/// The event could not be written: what it would have granted must not be.
#[derive(Debug, thiserror::Error)]
#[error("the audit log cannot be written")]
pub struct Unwritten;

/// What an auditor is made of.
pub struct Setup<'a> {
    /// Seals the lines.
    pub keyring: &'a Keyring,
    /// The name of this machine or pod in each line.
    pub replica: &'a str,
    /// Time of the events.
    pub clock: SharedClock,
    /// Names new chains.
    pub random: &'a dyn Random,
    /// What is counted.
    pub meters: Meters,
}

/// Writes events.
pub struct Auditor {
    sender: SyncSender<Job>,
    clock: SharedClock,
    meters: Meters,
    state: Arc<State>,
    on_failure: OnFailure,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Auditor {
    /// Opens the place that the configuration names (a file is made with mode 0600 and only ever appended to), reads
    /// back where its chain ended, and starts the writer.
    ///
    /// # Errors
    /// When the file cannot be opened, another process writes it, or the thread cannot be started. A full disk is none:
    /// that is for `on_failure`.
    pub fn open(settings: &config::Audit, setup: Setup<'_>) -> io::Result<Self> {
        let (sink, end) = match &settings.place {
            AuditPlace::Stdout => (Sink::Stream(Box::new(io::stdout())), End::Empty),
            AuditPlace::Syslog(target) => {
                (Sink::Syslog(Box::new(Syslog::new(target.clone(), setup.replica))), End::Empty)
            }
            AuditPlace::File(path) => open_file(path, settings, &setup)?,
        };
        Self::start(sink, end, settings.on_failure, setup)
    }

    /// Writes to any stream, a chain of its own.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn to(stream: Box<dyn Write + Send>, on_failure: OnFailure, setup: Setup<'_>) -> io::Result<Self> {
        Self::start(Sink::Stream(stream), End::Empty, on_failure, setup)
    }

    /// Writes to a stream under a key that everybody knows: for tests of parts that need an auditor.
    #[cfg(test)]
    pub fn for_tests(stream: Box<dyn Write + Send>, clock: SharedClock) -> Self {
        use crate::base::{random::SystemRandom, secret::SecretBytes};

        let random = Arc::new(SystemRandom);
        let keyring = Keyring::new(&[SecretBytes::new(vec![7; 32])], random.clone()).unwrap();
        let meters = Meters::unseen().unwrap();
        let setup = Setup { keyring: &keyring, replica: "test", clock, random: random.as_ref(), meters };
        Self::to(stream, OnFailure::Continue, setup).unwrap()
    }

    /// Writes nothing: for tests of parts that need an auditor.
    #[cfg(test)]
    pub fn discarding() -> Self {
        Self::for_tests(Box::new(io::sink()), Arc::new(crate::base::clock::SystemClock))
    }

    fn start(sink: Sink, end: End, on_failure: OnFailure, setup: Setup<'_>) -> io::Result<Self> {
        let key = writer::current_key(setup.keyring)?;
        let mut todo = Vec::new();
        let (chain, leftover) = match end {
            End::Chain(chain, leftover) => {
                todo.push(Step::Own(Own::ChainResumed));
                if chain.key().id() == key.id() {
                    todo.push(Step::Own(Own::Checkpoint("started")));
                } else {
                    todo.extend(writer::key_change(&chain, Box::new(key)));
                }
                (*chain, leftover)
            }
            End::Empty | End::Foreign(_) => {
                let why = match (&sink, end) {
                    (_, End::Foreign(why)) => why,
                    (Sink::File(..), _) => "new_file",
                    _ => "new_process",
                };
                let id: [u8; 16] = bytes(setup.random).map_err(io::Error::other)?;
                todo.push(Step::Own(Own::ChainStarted(why)));
                todo.push(Step::Own(Own::Checkpoint("started")));
                (Chain::new(line::hex(&id), setup.replica, key), None)
            }
        };
        let (sender, jobs) = sync_channel(QUEUE);
        let (clock, meters) = (setup.clock, setup.meters);
        let state = Arc::new(State::default());
        let mut writer = Writer::new(
            (sink, chain),
            todo,
            leftover,
            Arc::clone(&clock),
            meters.clone(),
            Arc::clone(&state),
        );
        let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(move || {
            writer.begin();
            writer.run(&jobs);
        })?;
        Ok(Self { sender, clock, meters, state, on_failure, writer: Mutex::new(Some(thread)) })
    }

    /// Writes one line, soon. Never waits; what cannot be written is logged and counted.
    pub fn record(&self, event: &Event, subject: &Subject) {
        self.send(event, subject, Ack::None);
    }

    /// Writes the line of an event that grants or changes something, before that is answered.
    ///
    /// Under `on_failure: deny` it is on the disk (or in the kernel, for a sink without a disk) when this returns. Under
    /// `continue` it is written, and a sink that is slow or broken is not waited for.
    ///
    /// # Errors
    /// Under `deny`, when that did not come about: nothing may be granted.
    pub async fn grant(&self, event: &Event, subject: &Subject) -> Result<(), Unwritten> {
        let (told, wait) = oneshot::channel();
        let is_strict = self.on_failure == OnFailure::Deny;
        if !is_strict && self.state.failing.load(Ordering::Acquire) {
            self.send(event, subject, Ack::None);
            return Ok(());
        }
        let ack = if is_strict { Ack::Durable(told) } else { Ack::Written(told) };
        self.send(event, subject, ack);
        let patience = if is_strict { PATIENCE } else { COURTESY };
        match tokio::time::timeout(patience, wait).await {
            Ok(Ok(())) => Ok(()),
            _ if !is_strict => Ok(()),
            _ => Err(Unwritten),
        }
    }

    /// Whether something that needs an event may be begun.
    ///
    /// # Errors
    /// Under `on_failure: deny`, while the sink does not work.
    pub fn ready(&self) -> Result<(), Unwritten> {
        if self.on_failure == OnFailure::Deny && self.state.failing.load(Ordering::Acquire) {
            // The writer tries once in a while; whoever asks wakes it.
            let _ = self.sender.try_send(Job::Look);
            return Err(Unwritten);
        }
        Ok(())
    }

    /// Waits until everything recorded so far is on its way to the disk and, for a file, on it. Blocks.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.sender.send(Job::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(PATIENCE);
        }
    }

    /// Opens the file again by its path, when another one has its name: after it was rotated away. Its chain goes on.
    pub fn reopen(&self) {
        self.state.reopen.store(true, Ordering::Release);
        // A full queue looks at it as well.
        let _ = self.sender.try_send(Job::Look);
    }

    /// Lines from now on are sealed by the first key of this ring, after a checkpoint under the old one.
    pub fn rekey(&self, ring: &Keyring) {
        if let Ok(key) = writer::current_key(ring) {
            let _ = self.sender.send(Job::Rekey(Box::new(key)));
        }
    }

    /// Writes what is left and the last checkpoint. What is recorded afterwards is lost, and logged. Blocks.
    pub fn close(&self) {
        let _ = self.sender.send(Job::End);
        if let Some(thread) = self.writer.lock().take() {
            let _ = thread.join();
        }
    }

    fn send(&self, event: &Event, subject: &Subject, ack: Ack) {
        let entry = event::entry(event, subject, self.clock.now());
        let job = Job::Line { entry, urgent: event.is_urgent(), ack };
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) = self.sender.try_send(job)
            && let Job::Line { entry, .. } = job
        {
            self.meters.lose(&self.state, &entry, "the writer cannot keep up");
        }
    }
}

impl Drop for Auditor {
    fn drop(&mut self) {
        self.close();
    }
}

fn open_file(path: &Path, settings: &config::Audit, setup: &Setup<'_>) -> io::Result<(Sink, End)> {
    let (file, end) = FileSink::open(path, &settings.rotate, &setup.clock, setup.keyring, setup.replica)?;
    let copy = settings.copy.clone().map(|to| Box::new(Copy::new(Syslog::new(to, setup.replica))));
    Ok((Sink::File(Box::new(file), copy), end))
}

/// The public keys of a ring's checkpoints, in the order of the ring: with the name of each as it stands in lines.
pub fn public_keys(ring: &Keyring) -> Vec<(String, [u8; 32])> {
    let of = |id: KeyId| Some((line::hex(&id), line::LineKey::of(ring, id)?.public().try_into().ok()?));
    ring.ids().filter_map(of).collect()
}

/// Events that may wait for the writer.
const QUEUE: usize = 16_384;
/// Longest wait for the disk.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait for a sink that need not work.
const COURTESY: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;

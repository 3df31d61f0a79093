//! The closed list of events that an auditor may rely on, and their one writer: JSON lines.
//!
//! One event is one line with the fields that an access log of care data needs (NEN 7513, clause 6): when (`time`,
//! RFC 3339 in UTC), what (`event`, `outcome`), about whom (`user`, `realm`), by whom (`actor`, when it was not the
//! user), at which app, on which device, from which address, in which request.
//!
//! Promises: a line is written whole or not at all; what a visitor typed cannot begin a new line or change how one
//! looks on a terminal; what cannot be written to its place goes to the log instead and is counted. Recording never
//! waits for the disk: one thread writes. Codes, keys and cookies are never part of an event.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::Mutex;
use prometheus::IntCounter;
use serde::Serialize;

use crate::{
    base::clock::{SharedClock, UnixMillis},
    config,
    model::{AppId, DeviceId, Method, RequestId, UserKey},
};

/// What happened. A closed list.
#[derive(Clone, Debug)]
pub enum Event {
    /// The app accepted the first factor.
    FirstFactorPassed,
    /// The app refused the first factor (the typed name is kept as typed in `user`).
    FirstFactorRefused,
    /// A second factor was passed.
    SecondFactorPassed {
        /// How.
        method: Method,
    },
    /// A wrong answer.
    SecondFactorRefused {
        /// How.
        method: Method,
    },
    /// Too many wrong answers.
    LockedOut {
        /// Until an administrator acts (true), or for a while.
        hard: bool,
    },
    /// A session began.
    SessionStarted {
        /// `exempt`, `trust` or `factor`.
        ground: &'static str,
    },
    /// A session ended by logout or by a new login on the same browser.
    SessionEnded,
    /// An authenticator was confirmed.
    AuthenticatorEnrolled {
        /// Which kind.
        method: Method,
    },
    /// A device changed hands.
    DeviceTakenOver {
        /// Who had it.
        from: UserKey,
    },
    /// An administrator removed all authenticators.
    UserReset,
    /// An administrator blocked or unblocked.
    UserBlocked {
        /// Which.
        blocked: bool,
    },
    /// A blocked user tried to log in.
    BlockedLogin,
    /// An administrator copied the store.
    StoreCopied,
    /// The server started, stopped, or reloaded.
    Server {
        /// `started`, `stopping`, `reloaded`, `reload_refused`.
        what: &'static str,
    },
}

impl Event {
    /// The name in `event`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::FirstFactorPassed => "first_factor_passed",
            Self::FirstFactorRefused => "first_factor_refused",
            Self::SecondFactorPassed { .. } => "second_factor_passed",
            Self::SecondFactorRefused { .. } => "second_factor_refused",
            Self::LockedOut { .. } => "locked_out",
            Self::SessionStarted { .. } => "session_started",
            Self::SessionEnded => "session_ended",
            Self::AuthenticatorEnrolled { .. } => "authenticator_enrolled",
            Self::DeviceTakenOver { .. } => "device_taken_over",
            Self::UserReset => "user_reset",
            Self::UserBlocked { blocked: true } => "user_blocked",
            Self::UserBlocked { blocked: false } => "user_unblocked",
            Self::BlockedLogin => "blocked_login",
            Self::StoreCopied => "store_copied",
            Self::Server { .. } => "server",
        }
    }

    /// `outcome`: whether what was tried came about.
    fn outcome(&self) -> &'static str {
        match self {
            Self::FirstFactorRefused
            | Self::SecondFactorRefused { .. }
            | Self::LockedOut { .. }
            | Self::BlockedLogin
            | Self::Server { what: "reload_refused" } => "failure",
            _ => "success",
        }
    }

    /// Acts of administrators are on the disk before the next line is looked at.
    fn is_urgent(&self) -> bool {
        matches!(self, Self::UserReset | Self::UserBlocked { .. } | Self::StoreCopied | Self::Server { .. })
    }
}

/// Who, from where, on which request.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// Which app.
    pub app: Option<AppId>,
    /// Whom it is about.
    pub user: Option<UserKey>,
    /// On which device.
    pub device: Option<DeviceId>,
    /// From where.
    pub client: Option<IpAddr>,
    /// On which request.
    pub request_id: Option<RequestId>,
    /// Who acted, when it was an administrator (`cli:root`).
    pub actor: Option<String>,
}

/// Writes events.
pub struct Auditor {
    sender: SyncSender<Job>,
    clock: SharedClock,
    failures: IntCounter,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Auditor {
    /// Opens the place that the configuration names (a file is made with mode 0600 and only ever appended to) and
    /// starts the writer. `failures` counts events that could not be written.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread cannot be started.
    pub fn open(place: &config::Audit, clock: SharedClock, failures: IntCounter) -> io::Result<Self> {
        let sink = match place {
            config::Audit::Stdout => Sink::Stream(Box::new(io::stdout())),
            config::Audit::File(path) => Sink::File { file: open_append(path)?, path: path.clone() },
        };
        Self::start(sink, clock, failures)
    }

    /// Writes to any stream.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn to(stream: Box<dyn Write + Send>, clock: SharedClock, failures: IntCounter) -> io::Result<Self> {
        Self::start(Sink::Stream(stream), clock, failures)
    }

    /// Writes nothing: for tests of parts that need an auditor.
    #[cfg(test)]
    pub fn discarding() -> Self {
        let clock = std::sync::Arc::new(crate::base::clock::SystemClock);
        let failures = IntCounter::new("failures", "failures").unwrap();
        Self::to(Box::new(io::sink()), clock, failures).unwrap()
    }

    fn start(sink: Sink, clock: SharedClock, failures: IntCounter) -> io::Result<Self> {
        let (sender, jobs) = sync_channel(QUEUE);
        let writer = Writer { sink, failures: failures.clone(), torn: false, unsynced: false };
        let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run(&jobs))?;
        Ok(Self { sender, clock, failures, writer: Mutex::new(Some(thread)) })
    }

    /// Writes one line. Never blocks the caller for long; a failing sink is logged and counted.
    pub fn record(&self, event: &Event, subject: &Subject) {
        let line = line(event, subject, self.clock.now());
        let job = Job::Line { line, urgent: event.is_urgent() };
        if let Err(
            TrySendError::Full(Job::Line { line, .. }) | TrySendError::Disconnected(Job::Line { line, .. }),
        ) = self.sender.try_send(job)
        {
            lost(&self.failures, &line, "the writer cannot keep up");
        }
    }

    /// Waits until everything recorded so far is on its way to the disk and, for a file, on it. Blocks.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.sender.send(Job::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(PATIENCE);
        }
    }

    /// Opens the file again by its path: after it was rotated away.
    pub fn reopen(&self) {
        let _ = self.sender.try_send(Job::Reopen);
    }
}

impl Drop for Auditor {
    /// Writes what is left.
    fn drop(&mut self) {
        let _ = self.sender.send(Job::End);
        if let Some(thread) = self.writer.lock().take() {
            let _ = thread.join();
        }
    }
}

/// One event as it is written.
#[derive(Serialize)]
struct Line<'a> {
    kind: &'static str,
    time: String,
    event: &'static str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    realm: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_user: Option<&'a str>,
}

fn line(event: &Event, subject: &Subject, now: UnixMillis) -> String {
    let (mut method, mut reason, mut previous_user) = (None, None, None);
    match event {
        Event::SecondFactorPassed { method: m }
        | Event::SecondFactorRefused { method: m }
        | Event::AuthenticatorEnrolled { method: m } => method = Some(m.name()),
        Event::LockedOut { hard } => reason = Some(if *hard { "hard" } else { "soft" }),
        Event::SessionStarted { ground } => reason = Some(*ground),
        Event::DeviceTakenOver { from } => previous_user = Some(bounded(from.name.as_str())),
        Event::Server { what } => reason = Some(*what),
        _ => {}
    }
    let line = Line {
        kind: "audit",
        time: now.rfc3339(),
        event: event.name(),
        outcome: event.outcome(),
        user: subject.user.as_ref().map(|u| bounded(u.name.as_str())),
        realm: subject.user.as_ref().map(|u| u.realm.as_str()),
        app: subject.app.as_ref().map(AppId::as_str),
        device: subject.device.map(|d| d.to_string()),
        address: subject.client.map(|c| c.to_canonical()),
        request_id: subject.request_id.as_ref().map(RequestId::as_str),
        actor: subject.actor.as_deref().map(bounded),
        method,
        reason,
        previous_user,
    };
    let json = serde_json::to_string(&line).unwrap_or_default();
    let mut out = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        if is_deceptive(c) {
            // these occur inside strings only, where the escape means the same (RFC 8259, section 7)
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out.push('\n');
    out
}

/// Characters that break or reorder a line where it is shown: C1 controls and DEL, line separators, bidirectional and
/// invisible ones. (JSON itself escapes the C0 controls.)
fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// What was typed can be long; this is enough to know it by.
fn bounded(text: &str) -> &str {
    let end = text.floor_char_boundary(LONGEST_NAME);
    text.get(..end).unwrap_or_default()
}

fn lost(failures: &IntCounter, line: &str, why: &str) {
    failures.inc();
    tracing::error!(line = line.trim_end(), error = why, "an audit event could not be written");
}

fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

enum Job {
    Line { line: String, urgent: bool },
    Flush(SyncSender<()>),
    Reopen,
    End,
}

enum Sink {
    Stream(Box<dyn Write + Send>),
    File { file: File, path: PathBuf },
}

impl Sink {
    fn stream(&mut self) -> &mut dyn Write {
        match self {
            Self::Stream(stream) => stream.as_mut(),
            Self::File { file, .. } => file,
        }
    }
}

struct Writer {
    sink: Sink,
    failures: IntCounter,
    /// The last write broke off inside a line.
    torn: bool,
    /// Written, but perhaps not on the disk.
    unsynced: bool,
}

impl Writer {
    fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            // a file is synced at once for urgent events, else at most once in a second
            let job = if self.unsynced {
                match jobs.recv_timeout(SYNC_EVERY) {
                    Ok(job) => job,
                    Err(RecvTimeoutError::Timeout) => {
                        self.sync();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            } else {
                match jobs.recv() {
                    Ok(job) => job,
                    Err(_) => break,
                }
            };
            match job {
                Job::Line { line, urgent } => {
                    self.write(&line);
                    if urgent {
                        self.sync();
                    }
                }
                Job::Flush(done) => {
                    self.sync();
                    let _ = done.send(());
                }
                Job::Reopen => self.reopen(),
                Job::End => break,
            }
        }
        self.sync();
    }

    fn write(&mut self, line: &str) {
        let torn = std::mem::take(&mut self.torn);
        let whole = if torn { format!("\n{line}") } else { line.to_owned() };
        let stream = self.sink.stream();
        match stream.write_all(whole.as_bytes()).and_then(|()| stream.flush()) {
            Ok(()) => self.unsynced = true,
            Err(error) => {
                self.torn = true;
                lost(&self.failures, line, &error.to_string());
            }
        }
    }

    fn sync(&mut self) {
        if !std::mem::take(&mut self.unsynced) {
            return;
        }
        if let Sink::File { file, .. } = &self.sink
            && let Err(error) = file.sync_data()
        {
            self.failures.inc();
            tracing::error!(%error, "the audit file could not be brought to the disk");
        }
    }

    fn reopen(&mut self) {
        self.sync();
        if let Sink::File { file, path } = &mut self.sink {
            match open_append(path) {
                Ok(new) => {
                    *file = new;
                    self.torn = false;
                }
                Err(error) => {
                    self.failures.inc();
                    tracing::error!(%error, path = %path.display(), "the audit file could not be opened again");
                }
            }
        }
    }
}

/// Events that may wait for the writer.
const QUEUE: usize = 16_384;
/// A name, in bytes.
const LONGEST_NAME: usize = 256;
/// Longest time that an event may be in memory of the kernel only.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for a flush.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;

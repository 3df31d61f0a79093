//! A child process that ends with the test, and whose output can be awaited.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

/// How long a test waits for an event before it fails: generous, for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running child; killed when dropped.
pub struct Process {
    child: Child,
    lines: Arc<(Mutex<Vec<String>>, Condvar)>,
    name: String,
}

impl Process {
    /// Starts it; its standard output and error are collected line by line.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
        let lines = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let out = child.stdout.take().unwrap();
        let err = child.stderr.take().unwrap();
        collect(out, Arc::clone(&lines));
        collect(err, Arc::clone(&lines));
        Self { child, lines, name: name.to_owned() }
    }

    /// Waits until a line satisfies `found`, and returns what it made of it.
    pub fn await_line<T>(&mut self, what: &str, found: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let (lock, changed) = &*self.lines;
        let mut lines = lock.lock().unwrap();
        loop {
            if let Some(value) = lines.iter().find_map(|line| found(line)) {
                return value;
            }
            let ended = self.child.try_wait().unwrap();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || ended.is_some() {
                let said = lines.join("\n");
                drop(lines);
                panic!("{}: no {what} (ended: {ended:?}); it said:\n{said}", self.name);
            }
            lines = changed.wait_timeout(lines, left.min(Duration::from_millis(200))).unwrap().0;
        }
    }

    /// Everything it has said so far.
    pub fn said(&self) -> String {
        self.lines.0.lock().unwrap().join("\n")
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal (`TERM`, `HUP`, `STOP` …).
    pub fn signal(&self, name: &str) {
        let signal = match name {
            "TERM" => rustix::process::Signal::TERM,
            "HUP" => rustix::process::Signal::HUP,
            "KILL" => rustix::process::Signal::KILL,
            "STOP" => rustix::process::Signal::STOP,
            "CONT" => rustix::process::Signal::CONT,
            other => panic!("signal {other}?"),
        };
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "{} did not end; it said:\n{}", self.name, self.said());
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Kills it at once (`kill -9`) and waits for the body.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- {} said:\n{}", self.name, self.said());
        }
    }
}

fn collect(stream: impl std::io::Read + Send + 'static, lines: Arc<(Mutex<Vec<String>>, Condvar)>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            lines.0.lock().unwrap().push(line);
            lines.1.notify_all();
        }
        lines.1.notify_all();
    });
}

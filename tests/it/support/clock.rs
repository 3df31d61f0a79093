//! A wall clock that the test holds: libfaketime reads its offset from a file. Only the wall clock is moved;
//! the monotonic one, which deadlines use, runs on.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// The clock of the processes under test that were given it; a copy is the same clock.
#[derive(Clone)]
pub struct HeldClock {
    file: PathBuf,
    ahead: Arc<Mutex<Duration>>,
}

impl HeldClock {
    /// A clock that runs with the machine's until it is moved.
    pub fn new(dir: &Path) -> Self {
        let clock = Self { file: dir.join("clock"), ahead: Arc::default() };
        clock.write(Duration::ZERO);
        clock
    }

    /// Makes a command see this clock.
    pub fn hold(&self, command: &mut Command) {
        assert!(Path::new(LIBRARY).exists(), "libfaketime is missing: `make test` installs it");
        command
            .env("LD_PRELOAD", LIBRARY)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }

    /// Moves it forward.
    pub fn advance(&mut self, by: Duration) {
        let mut ahead = self.ahead.lock().unwrap();
        *ahead += by;
        self.write(*ahead);
    }

    /// Seconds since 1970 on this clock.
    pub fn now_secs(&self) -> u64 {
        (SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + *self.ahead.lock().unwrap()).as_secs()
    }

    fn write(&self, ahead: Duration) {
        // Replaced whole, so that the process never reads half a file.
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("+{}s\n", ahead.as_secs())).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }
}

//! A wall clock that the test holds: to libfaketime the time of day is the age of a file, which a thread here moves along.
//! Only the wall clock is held; the monotonic one, which deadlines use, runs on.
//!
//! Not by libfaketime's offset in a file: its reader is not made for several threads, and now and then one of them sees
//! the machine's own time, which is hours back, and a wait that is set by that is no wait.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
/// It moves in steps of this.
const TICK: Duration = Duration::from_millis(10);

/// The clock of the processes under test that were given it; a copy is the same clock.
#[derive(Clone)]
pub struct HeldClock(Arc<Hands>);

struct Hands {
    path: PathBuf,
    file: File,
    ahead: Mutex<Duration>,
}

impl HeldClock {
    /// A clock that runs with the machine's until it is moved.
    pub fn new(dir: &Path) -> Self {
        let path = dir.join("clock");
        let file = File::create(&path).unwrap();
        let hands = Arc::new(Hands { path, file, ahead: Mutex::default() });
        hands.show(Duration::ZERO);
        let weak = Arc::downgrade(&hands);
        std::thread::spawn(move || {
            while let Some(hands) = Weak::upgrade(&weak) {
                hands.show(Duration::ZERO);
                drop(hands);
                std::thread::park_timeout(TICK);
            }
        });
        Self(hands)
    }

    /// Makes a command see this clock.
    pub fn hold(&self, command: &mut Command) {
        assert!(Path::new(LIBRARY).exists(), "libfaketime is missing: `make test` installs it");
        command
            .env("LD_PRELOAD", LIBRARY)
            .env("FAKETIME", "%")
            .env("FAKETIME_FOLLOW_FILE", &self.0.path)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }

    /// Moves it forward.
    pub fn advance(&mut self, by: Duration) {
        self.0.show(by);
    }

    /// Seconds since 1970 on this clock.
    pub fn now_secs(&self) -> u64 {
        let ahead = *self.0.ahead.lock().unwrap();
        (SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + ahead).as_secs()
    }
}

impl Hands {
    /// Moves it by so much more, and shows what time it is.
    fn show(&self, more: Duration) {
        let mut ahead = self.ahead.lock().unwrap();
        *ahead += more;
        self.file.set_modified(SystemTime::now() + *ahead).unwrap();
    }
}

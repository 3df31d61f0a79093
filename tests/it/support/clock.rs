//! A wall clock that the test holds. Only the wall clock is moved; the monotonic one, which deadlines use, runs on.
//!
//! A few lines of C take the place of the system's clock in the processes under test (`held_clock.c`). Not libfaketime: its
//! reader of a file is not made for several threads, and about once in ten thousand times one of them sees the
//! machine's own time, hours back; a wait that is set by that is no wait.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, LazyLock, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Built once by each test: it takes a moment, and the linker that Rust needs is there.
static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/held_clock.c");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let library = folder.join("held_clock.so");
    let made_at = |path: &Path| path.metadata().and_then(|about| about.modified()).ok();
    if made_at(&library) < made_at(&source) || !library.exists() {
        let new = tempfile::NamedTempFile::new_in(folder).unwrap();
        let mut command = Command::new("cc");
        command.args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]).arg(new.path()).arg(&source);
        let done = command.output().expect("a C compiler");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        // In one step: other tests may do the same.
        new.persist(&library).unwrap();
    }
    library
});

/// The clock of the processes under test that were given it; a copy is the same clock.
#[derive(Clone)]
pub struct HeldClock {
    path: PathBuf,
    hands: Arc<Mutex<Hands>>,
}

struct Hands {
    file: File,
    /// Which of the two numbers in the file counts.
    which: u8,
    ahead: Duration,
}

impl HeldClock {
    /// A clock that runs with the machine's until it is moved.
    pub fn new(dir: &Path) -> Self {
        let path = dir.join("clock");
        let file = File::create(&path).unwrap();
        file.write_all_at(&[0; 24], 0).unwrap();
        let hands = Hands { file, which: 0, ahead: Duration::ZERO };
        Self { path, hands: Arc::new(Mutex::new(hands)) }
    }

    /// Makes a command see this clock.
    pub fn hold(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &*LIBRARY).env("HELD_CLOCK", &self.path);
    }

    /// Moves it forward.
    pub fn advance(&mut self, by: Duration) {
        let mut hands = self.hands.lock().unwrap();
        hands.ahead += by;
        hands.which = 1 - hands.which;
        let nanos = i64::try_from(hands.ahead.as_nanos()).unwrap();
        let at = 8 + 8 * u64::from(hands.which);
        hands.file.write_all_at(&nanos.to_ne_bytes(), at).unwrap();
        hands.file.write_all_at(&[hands.which], 0).unwrap();
    }

    /// Seconds since 1970 on this clock.
    pub fn now_secs(&self) -> u64 {
        let ahead = self.hands.lock().unwrap().ahead;
        (SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + ahead).as_secs()
    }
}

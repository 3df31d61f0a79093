//! A file as sink: private, appended to, never two writers, rotated by us or by others.
//!
//! Whoever rotates (logrotate) renames and sends SIGHUP. A file that is truncated under us (`copytruncate`) or deleted
//! loses what nobody copied: that cannot be helped, but it is noticed before the next line, and that line tells it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    resume::{self, End},
    sink::Broken,
};
use crate::{
    base::{
        clock::{SharedClock, UnixMillis},
        keyring::Keyring,
    },
    config,
};

/// How long a start waits for another process (a command that has just reset a user) to let go of the file.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
/// Endings of rotated files that somebody has packed.
const PACKED: &[&str] = &["gz", "xz", "zst", "bz2"];

/// An open file.
pub(super) struct FileSink {
    file: File,
    path: PathBuf,
    /// Pipes and devices are written to as they are.
    is_regular: bool,
    /// What we have written and found: a shorter file was truncated by somebody.
    length: u64,
    opened_at: UnixMillis,
    rotate: config::Rotate,
    clock: SharedClock,
}

/// Something happened to the file that its next line must tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// It is shorter than what was written.
    Truncated,
    /// It has no name any more.
    Removed,
}

impl FileSink {
    /// Opens it and reads its end back; when it is empty, that of the file that was rotated away last.
    ///
    /// # Errors
    /// When it cannot be opened, or another process writes it.
    pub fn open(
        path: &Path,
        rotate: &config::Rotate,
        clock: &SharedClock,
        ring: &Keyring,
        replica: &str,
    ) -> io::Result<(Self, End)> {
        let mut sink = Self {
            file: locked(path)?,
            path: path.to_owned(),
            is_regular: false,
            length: 0,
            opened_at: clock.now(),
            rotate: rotate.clone(),
            clock: SharedClock::clone(clock),
        };
        let end = sink.look(ring, replica)?;
        Ok((sink, end))
    }

    /// What the file just opened ends with. One that does not end in a chain is set aside, and a new one opened.
    fn look(&mut self, ring: &Keyring, replica: &str) -> io::Result<End> {
        let about = self.file.metadata()?;
        self.is_regular = about.is_file();
        if !self.is_regular {
            return Ok(End::Empty);
        }
        let mut end = resume::end(&mut self.file, ring, replica)?;
        if let End::Foreign(why) = end {
            let aside = self.sibling(&format!("{}.unreadable", stamp(self.clock.now())));
            fs::rename(&self.path, &aside)?;
            tracing::error!(file = %self.path.display(), aside = %aside.display(), why,
                "the audit file does not end as Sluis left it: set aside as it is, and a new chain begun");
            self.file = locked(&self.path)?;
            return Ok(end);
        }
        if matches!(end, End::Empty)
            && let Some(before) = self.newest()
        {
            let mut file = File::open(&before)?;
            if let End::Chain(chain, leftover) = resume::end(&mut file, ring, replica)? {
                // What was torn is in the old file, where nothing is added any more.
                if leftover.is_some() {
                    tracing::warn!(file = %before.display(), "the last line of a rotated audit file is torn");
                }
                end = End::Chain(chain, None);
            }
        }
        self.length = self.file.metadata()?.len();
        Ok(end)
    }

    /// What happened to the file since the last line.
    pub fn event(&self) -> Option<Event> {
        if !self.is_regular {
            return None;
        }
        let about = self.file.metadata().ok()?;
        match about {
            about if about.nlink() == 0 => Some(Event::Removed),
            about if about.len() < self.length => Some(Event::Truncated),
            _ => None,
        }
    }

    /// What happened is known: from here on it is as it is now.
    pub fn forgive(&mut self) {
        self.length = self.file.metadata().map_or(0, |about| about.len());
    }

    /// Writes one line whole; or says how much of it stands there now.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let error = match self.file.write(rest) {
                Ok(0) => io::Error::from(io::ErrorKind::WriteZero),
                Ok(some) => {
                    done = done.saturating_add(some);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            // A full disk takes a part: it is taken back, so that nothing stands there that nobody vouches for.
            let back = self.is_regular && done > 0 && self.file.set_len(self.length).is_ok();
            return Err(Broken { error, left: if back { 0 } else { done } });
        }
        self.length = self.length.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Brings it to the disk.
    pub fn sync(&self) -> io::Result<()> {
        if self.is_regular { self.file.sync_data() } else { Ok(()) }
    }

    /// Whether another file has its name now (or none).
    pub fn is_renamed(&self) -> bool {
        let Ok(own) = self.file.metadata() else { return true };
        fs::metadata(&self.path).map_or(true, |there| (there.dev(), there.ino()) != (own.dev(), own.ino()))
    }

    /// Opens the file of its name anew. One with lines in it is none of ours: it is set aside.
    pub fn reopen(&mut self) -> io::Result<()> {
        let file = locked(&self.path)?;
        let about = file.metadata()?;
        if about.is_file() && about.len() > 0 {
            let aside = self.sibling(&format!("{}.unreadable", stamp(self.clock.now())));
            fs::rename(&self.path, &aside)?;
            tracing::error!(file = %self.path.display(), aside = %aside.display(),
                "another audit file stood in the place of a rotated one: set aside");
            self.file = locked(&self.path)?;
        } else {
            self.file = file;
        }
        self.is_regular = about.is_file();
        self.length = 0;
        self.opened_at = self.clock.now();
        Ok(())
    }

    /// Whether it is large or old enough.
    pub fn is_due(&self) -> bool {
        let large = self.rotate.size.is_some_and(|size| self.length >= size);
        let old = self.rotate.every.is_some_and(|every| self.clock.now().since(self.opened_at) >= every);
        self.is_regular && self.length > 0 && (large || old)
    }

    /// Renames it; [`Self::reopen`] is next.
    pub fn rename(&self, seq: u64) -> io::Result<()> {
        fs::rename(&self.path, self.sibling(&format!("{}-{seq}", stamp(self.clock.now()))))
    }

    /// Rotated files of ours that are older than they are kept for, with the last sequence number of each.
    pub fn outlived(&self) -> Vec<(PathBuf, Option<u64>)> {
        let Some(keep) = self.rotate.keep else { return Vec::new() };
        let now = self.clock.now();
        let rotated = siblings(&self.path).into_iter().filter_map(|path| {
            let rest = path.file_name()?.to_str()?.strip_prefix(self.path.file_name()?.to_str()?)?.to_owned();
            let (time, seq) = rest.strip_prefix('.')?.split_once('-')?;
            let seq: u64 = seq.parse().ok()?;
            (now.since(unstamp(time)?) > keep).then_some((path, Some(seq)))
        });
        rotated.collect()
    }

    /// The file that was rotated away last.
    fn newest(&self) -> Option<PathBuf> {
        let readable =
            |path: &PathBuf| !is_packed(path) && path.extension().is_none_or(|ending| ending != "unreadable");
        let age = |path: &PathBuf| {
            fs::metadata(path)
                .ok()
                .filter(fs::Metadata::is_file)
                .map(|about| (about.mtime(), about.mtime_nsec()))
        };
        siblings(&self.path)
            .into_iter()
            .filter(readable)
            .filter_map(|p| Some((age(&p)?, p)))
            .max()
            .map(|(_, p)| p)
    }

    fn sibling(&self, ending: &str) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".");
        name.push(ending);
        self.path.with_file_name(name)
    }
}

/// Files beside `path` whose names begin with its name and `.` or `-`: what rotation leaves.
pub fn siblings(path: &Path) -> Vec<PathBuf> {
    let Some(name) = path.file_name().and_then(|n| n.to_str()) else { return Vec::new() };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|other| {
            let rest = other.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix(name));
            rest.is_some_and(|rest| rest.starts_with(['.', '-']))
        })
        .collect();
    found.sort();
    found
}

/// Whether it must be unpacked before it can be read.
pub fn is_packed(path: &Path) -> bool {
    path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| PACKED.contains(&ending))
}

/// Opens for appending (made with mode 0600) and takes the lock: two writers would tear the chain.
fn locked(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(file);
    }
    let step = Duration::from_millis(50);
    let mut waited = Duration::ZERO;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if waited < LOCK_PATIENCE => {
                std::thread::sleep(step);
                waited = waited.saturating_add(step);
            }
            Err(TryLockError::WouldBlock) => {
                let text = format!("another process writes {}", path.display());
                return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
            }
            // Some network file systems have no locks: two replicas on one file are then for the operator to avoid.
            Err(TryLockError::Error(error)) => {
                tracing::warn!(%error, path = %path.display(), "the audit file cannot be locked");
                return Ok(file);
            }
        }
    }
}

/// `20261122T033041Z`
fn stamp(now: UnixMillis) -> String {
    now.rfc3339().split('.').next().unwrap_or_default().replace(['-', ':'], "") + "Z"
}

fn unstamp(text: &str) -> Option<UnixMillis> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok().map(UnixMillis)
}

//! What tells two states of a file apart, without reading it.

use std::{os::unix::fs::MetadataExt, path::Path};

/// The state of a file, where the path leads to now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Print(Option<State>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct State {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    /// Also of a change that keeps length and time of modification.
    changed: (i64, i64),
}

impl Print {
    /// Its state now; that it is not there is one, too.
    pub fn of(file: &Path) -> Self {
        Self(std::fs::metadata(file).ok().map(|about| State {
            device: about.dev(),
            inode: about.ino(),
            bytes: about.len(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        }))
    }
}

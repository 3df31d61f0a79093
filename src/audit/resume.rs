//! Where a chain goes on: the end of a file, read back.
//!
//! A process that is killed leaves at most the beginning of one line. That is told apart from a file that was worked
//! on: a torn line is a beginning of a line, and nothing stands after it. What else is found at the end is not touched,
//! not even by adding to it: the file is set aside as it is.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use super::{
    chain::Chain,
    event::Torn,
    line::{self, Line, LineKey},
};
use crate::base::keyring::Keyring;

/// How much of the end is read: many times the longest line.
const TAIL: u64 = 256 << 10;

/// What the end of a file says.
pub(super) enum End {
    /// Nothing was ever written there.
    Empty,
    /// A chain ends here.
    Chain(Box<Chain>, Option<Leftover>),
    /// There are bytes, but no end of a chain: why, in one word.
    Foreign(&'static str),
}

/// The beginning of a line that never came to its end.
#[derive(Clone, Default)]
pub(super) struct Leftover {
    /// The bytes; without the last line break.
    pub bytes: Vec<u8>,
    /// A line break must come before the next line.
    pub is_open: bool,
}

impl Leftover {
    /// As it is told in the next line; `None` when a line break is all that is missing.
    pub fn told(&self) -> Option<Torn> {
        let bytes = u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
        (bytes > 0).then(|| Torn { bytes, sha256: line::hex(&line::hash(&self.bytes)) })
    }

    /// More of the kind.
    pub fn add(&mut self, bytes: &[u8]) {
        if self.is_open && !self.bytes.is_empty() {
            self.bytes.push(b'\n');
        }
        self.bytes.extend_from_slice(bytes);
        self.is_open = true;
    }
}

/// Reads the end of a file.
///
/// # Errors
/// When it cannot be read.
pub(super) fn end(file: &mut File, ring: &Keyring, replica: &str) -> io::Result<End> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(End::Empty);
    }
    let from = length.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    if from > 0 {
        let first = tail.iter().position(|b| *b == b'\n').map_or(tail.len(), |at| at.saturating_add(1));
        tail.drain(..first);
    }
    Ok(of_tail(&tail, ring, replica))
}

fn of_tail(tail: &[u8], ring: &Keyring, replica: &str) -> End {
    let is_open = !tail.ends_with(b"\n");
    let whole = tail.strip_suffix(b"\n").unwrap_or(tail);
    let mut rest = whole;
    let mut junk = false;
    loop {
        let (before, last) = match rest.iter().rposition(|b| *b == b'\n') {
            Some(at) => (rest.get(..at), rest.get(at.saturating_add(1)..).unwrap_or_default()),
            None => (None, rest),
        };
        if let Some(found) = Line::parse(last) {
            let Some(key) = LineKey::of(ring, found.key) else { return End::Foreign("unknown_key") };
            if !key.verifies(&found) {
                return End::Foreign("last_line_changed");
            }
            let chain = Chain::after(&found, line::hash(last), replica, key);
            let start = rest.len().saturating_add(1);
            let bytes = whole.get(start..).unwrap_or_default().to_vec();
            // A line that lacks nothing but its line break is a line.
            let leftover = (junk || is_open).then_some(Leftover { bytes, is_open });
            return End::Chain(Box::new(chain), leftover);
        }
        if !is_beginning(last) {
            return End::Foreign("no_chain");
        }
        junk = true;
        match before {
            Some(before) => rest = before,
            None => return End::Foreign("no_chain"),
        }
    }
}

/// Whether these bytes may be the beginning of a line of ours.
fn is_beginning(bytes: &[u8]) -> bool {
    const START: &[u8] = br#"{"kind":"audit","seq":"#;
    let starts = bytes.starts_with(START) || START.starts_with(bytes);
    let parsed: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(bytes);
    starts && parsed.is_err_and(|error| error.is_eof())
}

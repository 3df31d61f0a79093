//! The log page by page, newest first, while it is being written and rotated.
//!
//! A cursor names a place by what does not change: the first line of its file, and how far into it. So it stays right
//! when lines are added and files renamed. A page ends when it is full or enough has been read, found or not: nobody
//! waits for the search through years, and nobody keeps a thread busy with it.

use std::{
    collections::HashSet,
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{Found, Query};
use crate::audit::{
    file::{is_packed, siblings},
    verify::{First, sort},
};

/// Where to go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cursor {
    chain: String,
    seq: u64,
    /// What stands before this byte has not been looked at.
    offset: u64,
}

impl Cursor {
    /// As text; nobody else should read anything into it.
    pub fn text(&self) -> String {
        let plain = format!("1/{}/{}/{}", self.chain, self.seq, self.offset);
        data_encoding::BASE64URL_NOPAD.encode(plain.as_bytes())
    }

    /// Reads what [`Self::text`] gave.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = String::from_utf8(data_encoding::BASE64URL_NOPAD.decode(text.as_bytes()).ok()?).ok()?;
        let mut parts = plain.strip_prefix("1/")?.split('/');
        let (chain, seq, offset) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next().is_none().then(|| Self { chain: chain.to_owned(), seq, offset })
    }
}

/// Some lines that fit.
#[derive(Debug, Default)]
pub struct Page {
    /// Newest first, with all their fields.
    pub lines: Vec<Value>,
    /// There may be more; also after a page without lines.
    pub next: Option<Cursor>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum NoPage {
    /// The file that the cursor names is not there any more.
    #[error("the part of the log where this cursor goes on is not there any more")]
    Gone,
    /// It cannot be read.
    #[error("the audit log cannot be read: {0}")]
    Unreadable(#[from] io::Error),
}

/// At most `limit` lines that fit, of the log at `path` and what rotation left beside it; packed files are passed over. Blocks.
///
/// # Errors
/// When the cursor leads nowhere, or a file cannot be read.
pub fn page(path: &Path, query: &Query, from: Option<&Cursor>, limit: usize) -> Result<Page, NoPage> {
    let files = open(path)?;
    let start = match from {
        None => files.len(),
        Some(cursor) => {
            let is_it = |(first, ..): &(First, File, u64)| {
                (first.chain.as_str(), first.seq) == (cursor.chain.as_str(), cursor.seq)
            };
            files.iter().position(is_it).ok_or(NoPage::Gone)?.saturating_add(1)
        }
    };
    let mut page = Page::default();
    let mut read: u64 = 0;
    let mut offset = from.map(|cursor| cursor.offset);
    for (first, file, length) in files.iter().take(start).rev() {
        let end = offset.take().unwrap_or(*length).min(*length);
        let mut lines = Backwards { file, at: end, bytes: Vec::new() };
        while let Some((at, line)) = lines.next()? {
            read = read.saturating_add(u64::try_from(line.len()).unwrap_or_default());
            let fits = serde_json::from_slice::<Found>(&line).is_ok_and(|found| query.fits(&found));
            if fits && let Ok(whole) = serde_json::from_slice(&line) {
                page.lines.push(whole);
            }
            if page.lines.len() >= limit || read >= MOST_READ {
                page.next = Some(Cursor { chain: first.chain.clone(), seq: first.seq, offset: at });
                return Ok(page);
            }
        }
    }
    Ok(page)
}

/// All files, oldest first, opened: what happens to their names does not matter any more.
fn open(path: &Path) -> io::Result<Vec<(First, File, u64)>> {
    let mut names = list(path);
    for _ in 0..LOOKS {
        let mut seen = HashSet::new();
        let mut files = Vec::with_capacity(names.len());
        for name in &names {
            let file = match File::open(name) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let about = file.metadata()?;
            if about.is_file() && seen.insert((about.dev(), about.ino())) {
                files.push((First::of(file.try_clone()?)?, file, about.len()));
            }
        }
        let now = list(path);
        if now == names {
            sort(&mut files);
            return Ok(files);
        }
        // Rotated in between: a file could be missing.
        names = now;
    }
    Err(io::Error::other("it is rotated all the time"))
}

fn list(path: &Path) -> Vec<PathBuf> {
    let mut names = siblings(path);
    names.retain(|name| !is_packed(name));
    names.extend(path.exists().then(|| path.to_owned()));
    names
}

/// The lines of a file from its end to its beginning.
struct Backwards<'a> {
    file: &'a File,
    /// Where `bytes` begin in the file.
    at: u64,
    /// Read, and not yet given.
    bytes: Vec<u8>,
}

impl Backwards<'_> {
    /// The line before, with where it begins. One that is longer than any of ours comes in pieces, none of which is a line.
    fn next(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        loop {
            let body = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
            if let Some(end) = body.iter().rposition(|byte| *byte == b'\n') {
                let line = self.bytes.split_off(end.saturating_add(1));
                let begins = self.at.saturating_add(u64::try_from(self.bytes.len()).unwrap_or_default());
                return Ok(Some((begins, line)));
            }
            if self.at == 0 || self.bytes.len() > LONGEST {
                let line = std::mem::take(&mut self.bytes);
                return Ok((!line.is_empty()).then_some((self.at, line)));
            }
            let step = self.at.min(BLOCK);
            let mut more = vec![0; usize::try_from(step).unwrap_or_default()];
            self.at = self.at.saturating_sub(step);
            self.file.read_exact_at(&mut more, self.at)?;
            more.append(&mut self.bytes);
            self.bytes = more;
        }
    }
}

/// One page reads no more than this, and the rest of a line.
const MOST_READ: u64 = 32 << 20;
/// Read at a time.
const BLOCK: u64 = 64 << 10;
/// The longest line that is looked at.
const LONGEST: usize = 128 << 10;
/// So often it is looked again when files are renamed meanwhile.
const LOOKS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn line(chain: &str, seq: u64, user: &str) -> String {
        let time = format!("2026-11-22T00:{:02}:{:02}.000Z", seq / 60, seq % 60);
        let (chain, zeros) = (chain.repeat(32), "0".repeat(64));
        format!(
            r#"{{"kind":"audit","seq":{seq},"chain":"{chain}","key":"{}","time":"{time}","event":"session_started","outcome":"success","user":"{user}","prev":"{zeros}","mac":"{zeros}"}}"#,
            "0".repeat(crate::base::keyring::KeyId::default().len() * 2)
        ) + "\n"
    }

    fn seqs(page: &Page) -> Vec<u64> {
        page.lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect()
    }

    #[test]
    fn pages_lead_through_files_that_grow_and_are_renamed_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let write = |name: &str, seqs: std::ops::RangeInclusive<u64>| {
            let text: String = seqs.map(|n| line("a", n, if n % 2 == 0 { "anna" } else { "bram" })).collect();
            std::fs::write(dir.path().join(name), text).unwrap();
        };
        write("audit.jsonl.1", 1..=10);
        std::fs::write(dir.path().join("audit.jsonl.0.gz"), "packed").unwrap();
        write("audit.jsonl", 11..=20);
        let query = Query { user: Some("anna".to_owned()), ..Query::default() };
        let first = page(&path, &query, None, 3).unwrap();
        assert_eq!(seqs(&first), [20, 18, 16]);

        std::fs::rename(&path, dir.path().join("audit.jsonl.2")).unwrap();
        write("audit.jsonl", 21..=30);
        let (mut all, mut cursor) = (Vec::new(), first.next);
        while let Some(from) = cursor {
            assert_eq!(Cursor::parse(&from.text()), Some(from.clone()));
            let next = page(&path, &query, Some(&from), 3).unwrap();
            all.extend(seqs(&next));
            cursor = next.next;
        }
        assert_eq!(all, [14, 12, 10, 8, 6, 4, 2]);
        assert_eq!(seqs(&page(&path, &query, None, 100).unwrap()).len(), 15);

        let from = page(&path, &Query::default(), None, 25).unwrap().next.unwrap();
        std::fs::remove_file(dir.path().join("audit.jsonl.1")).unwrap();
        assert!(matches!(page(&path, &query, Some(&from), 3), Err(NoPage::Gone)));
    }

    #[test]
    fn what_is_no_line_is_passed_over_and_a_page_ends_when_enough_was_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let junk = "x".repeat(400 << 10);
        let text = format!("{}{junk}\n\n{}{}", line("a", 1, "anna"), line("a", 2, "anna"), r#"{"kind":"au"#);
        std::fs::write(&path, text).unwrap();
        assert_eq!(seqs(&page(&path, &Query::default(), None, 10).unwrap()), [2, 1]);

        let many: String = (1..=3000_u64).map(|n| line("a", n, &"anna".repeat(4000))).collect();
        std::fs::write(&path, line("a", 0, "bram").replace("\"seq\":0", "\"seq\":1") + &many).unwrap();
        let query = Query { user: Some("bram".to_owned()), ..Query::default() };
        let (mut pages, mut found, mut cursor) = (0, 0, None);
        loop {
            let next = page(&path, &query, cursor.as_ref(), 10).unwrap();
            found += next.lines.len();
            pages += 1;
            cursor = next.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!((pages, found), (2, 1));
    }

    #[test]
    fn what_is_no_cursor_is_none() {
        for text in ["", "anna", "MS8", "!"] {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }
}

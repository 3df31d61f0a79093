//! Proves that nothing was cut out, changed, inserted or moved; or says where it was.
//!
//! Files may come in any order and hold any number of chains: lines are put in order by chain and number. With the key
//! ring every line is checked; with public keys alone, the links between lines and the signatures of checkpoints, which
//! proves everything up to the last one.
//!
//! What a chain cannot show by itself is that its end was cut off, or that all of it was replaced by an older copy with
//! which Sluis then went on. Whoever keeps a checkpoint elsewhere (the program's log has them, `sluis_audit_sequence`
//! the number) gives it here, and it is shown.

mod track;

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use self::track::{Bad, Track};
use super::line::{self, Hash, Line, LineKey};
use crate::base::keyring::{KeyId, Keyring};

/// What the truth is measured by.
pub enum Trust {
    /// Everything can be checked, and could be forged, by whoever has this.
    Ring(Keyring),
    /// Public keys of checkpoints (`sluis audit public-key`).
    Public(Vec<[u8; 32]>),
}

/// The end of a chain at some time, kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The chain.
    pub chain: String,
    /// The line's number.
    pub seq: u64,
    hash: Hash,
}

impl Checkpoint {
    /// All that stand in a text, such as a log: `chain:sequence:hash`.
    pub fn find(text: &str) -> Vec<Self> {
        let is_part = |c: char| c.is_ascii_hexdigit() || c == ':';
        text.split(|c| !is_part(c)).filter_map(Self::parse).collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (chain, seq, hash) = (parts.next()?, parts.next()?, parts.next()?);
        let whole = parts.next().is_none() && line::is_id(chain);
        whole.then_some(())?;
        Some(Self { chain: chain.to_owned(), seq: seq.parse().ok()?, hash: line::array(hash.as_bytes())? })
    }
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    /// Lines before it are missing.
    CutOut,
    /// It is not as it was written.
    Changed,
    /// It was not written here.
    Inserted,
    /// It stands in another place than it was written in.
    Reordered,
    /// Its key is not one of those given.
    WrongKey,
    /// It breaks off.
    Torn,
    /// It does not go on from the line before: there were two histories.
    Forked,
    /// After it, lines are missing that a checkpoint knows of.
    Truncated,
    /// It is another line than the checkpoint knows.
    Rewritten,
}

/// A fault with its place.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Fault {
    /// Position of the file in the order in which files were read.
    #[serde(skip)]
    order: (usize, u64),
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u64,
    /// What is wrong.
    pub wrong: Wrong,
    /// In words.
    pub text: String,
}

/// One chain as far as it was seen.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Seen {
    /// Its id.
    pub chain: String,
    /// Who wrote it, by its last line.
    pub replica: String,
    /// First and last number.
    pub seqs: (u64, u64),
    /// Time of the first and last line.
    pub times: (String, String),
    /// Its end in one word: `chain:sequence:hash`.
    pub head: String,
    /// The last checkpoint; lines after it are not proved by public keys.
    pub checkpoint: Option<u64>,
    /// The last line is that of an orderly stop.
    pub is_closed: bool,
    /// Lines that a kill has torn, as the chain itself tells.
    pub torn: u64,
    /// Events that are missing because the sink failed, as the chain itself tells.
    pub lost: u64,
}

/// What was found.
#[derive(Debug, Default, serde::Serialize)]
pub struct Report {
    /// Lines looked at.
    pub lines: u64,
    /// Every chain.
    pub chains: Vec<Seen>,
    /// The first faults in order of their place.
    pub faults: Vec<Fault>,
    /// How many there are in all.
    pub fault_count: usize,
    /// What is no fault, but should be known.
    pub notes: Vec<String>,
}

/// How far it is, told once in a while.
pub struct Progress {
    /// Bytes read.
    pub done: u64,
    /// Bytes in all.
    pub of: u64,
    /// Lines read.
    pub lines: u64,
}

/// Checks these files.
///
/// # Errors
/// When one cannot be read.
pub fn verify(
    files: &[PathBuf],
    trust: &Trust,
    checkpoints: &[Checkpoint],
    tell: &mut dyn FnMut(&Progress),
) -> io::Result<Report> {
    let mut ordered: Vec<(First, &PathBuf, u64)> = Vec::with_capacity(files.len());
    for path in files {
        let about = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let file = File::open(path).map_err(about)?;
        let length = file.metadata().map_err(about)?.len();
        ordered.push((First::of(file).map_err(about)?, path, length));
    }
    sort(&mut ordered);
    let of = ordered.iter().map(|(_, _, length)| length).sum();
    let mut verifier = Verifier::new(trust, checkpoints);
    let mut progress = Progress { done: 0, of, lines: 0 };
    for (index, (_, path, _)) in ordered.iter().enumerate() {
        verifier.file(index, path, &mut progress, tell)?;
    }
    Ok(verifier.finish(progress.lines))
}

/// The first line of a chain in a file.
pub(super) struct First {
    pub chain: String,
    pub seq: u64,
    time: String,
}

impl First {
    pub fn of(file: File) -> io::Result<Self> {
        let mut reader = BufReader::new(file);
        let mut bytes = Vec::new();
        while read_line(&mut reader, &mut bytes)? > 0 {
            if let Some(line) = Line::parse(bytes.strip_suffix(b"\n").unwrap_or(&bytes)) {
                let fields = line.fields;
                return Ok(Self { chain: fields.chain, seq: fields.seq, time: fields.time });
            }
        }
        Ok(Self { chain: String::new(), seq: 0, time: String::new() })
    }
}

/// By the time at which they begin; but files that begin with the same chain by number, whatever the clock said.
pub(super) fn sort<T>(files: &mut [(First, T, u64)]) {
    files.sort_by(|(a, ..), (b, ..)| (&a.time, a.seq, &a.chain).cmp(&(&b.time, b.seq, &b.chain)));
    let mut places: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, (first, ..)) in files.iter().enumerate() {
        places.entry(first.chain.clone()).or_default().push(at);
    }
    for at in places.into_values() {
        // Few files: the one with the lowest number to the first place, and so on.
        for (nth, to) in at.iter().enumerate() {
            let rest = at.get(nth..).unwrap_or_default();
            let seq = |at: &&usize| files.get(**at).map_or(0, |(first, ..)| first.seq);
            if let Some(from) = rest.iter().min_by_key(seq) {
                files.swap(*to, *from);
            }
        }
    }
}

/// One line with its line break, at most [`LONGEST`] bytes of it; more of it is the next one.
fn read_line(reader: &mut impl BufRead, bytes: &mut Vec<u8>) -> io::Result<usize> {
    use std::io::Read;

    bytes.clear();
    reader.by_ref().take(LONGEST).read_until(b'\n', bytes)
}

struct Verifier<'a> {
    trust: &'a Trust,
    keys: HashMap<KeyId, Option<LineKey>>,
    checkpoints: &'a [Checkpoint],
    met: Vec<bool>,
    tracks: HashMap<String, Track>,
    /// Order in which chains were met.
    order: Vec<String>,
    /// Bytes that are no line, before any chain was met.
    homeless: Vec<Bad>,
    faults: Vec<Fault>,
    notes: Vec<String>,
}

impl<'a> Verifier<'a> {
    fn new(trust: &'a Trust, checkpoints: &'a [Checkpoint]) -> Self {
        Self {
            trust,
            keys: HashMap::new(),
            checkpoints,
            met: vec![false; checkpoints.len()],
            tracks: HashMap::new(),
            order: Vec::new(),
            homeless: Vec::new(),
            faults: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn file(
        &mut self,
        index: usize,
        path: &Path,
        progress: &mut Progress,
        tell: &mut dyn FnMut(&Progress),
    ) -> io::Result<()> {
        let mut reader = BufReader::with_capacity(256 << 10, File::open(path)?);
        let mut bytes = Vec::new();
        let mut number: u64 = 0;
        let mut current: Option<String> = None;
        loop {
            let read = read_line(&mut reader, &mut bytes)?;
            if read == 0 {
                break;
            }
            number = number.saturating_add(1);
            progress.lines = progress.lines.saturating_add(1);
            progress.done = progress.done.saturating_add(u64::try_from(read).unwrap_or_default());
            if progress.lines.is_multiple_of(TELL_EVERY) {
                tell(progress);
            }
            let place = Place { index, path, line: number };
            let (text, is_ended) = match bytes.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (bytes.as_slice(), false),
            };
            match Line::parse(text) {
                Some(line) => {
                    current = Some(line.fields.chain.clone());
                    self.line(&line, text, &place);
                    if !is_ended {
                        let what = "the last line has no line break";
                        self.faults.push(place.fault(Wrong::Torn, what));
                    }
                }
                None => {
                    let bad = Bad::junk(&place, text, is_ended);
                    match current.as_ref().and_then(|chain| self.tracks.get_mut(chain)) {
                        Some(track) => track.bad(bad),
                        None => self.homeless.push(bad),
                    }
                }
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &Line<'_>, text: &[u8], place: &Place<'_>) {
        let chain = &line.fields.chain;
        let checked = match self.trust {
            Trust::Ring(ring) => {
                let key = self.keys.entry(line.key).or_insert_with(|| LineKey::of(ring, line.key));
                match key {
                    None => Err(Wrong::WrongKey),
                    Some(key) if !key.verifies(line) => Err(Wrong::Changed),
                    Some(key) if line.fields.event == "checkpoint" && !line.is_signed_by(key.public()) => {
                        Err(Wrong::Changed)
                    }
                    Some(_) => Ok(()),
                }
            }
            Trust::Public(keys) if line.fields.event == "checkpoint" => {
                let named = line.fields.public_key.as_deref().and_then(|k| line::array(k.as_bytes()));
                match keys.iter().find(|key| Some(**key) == named) {
                    None => Err(Wrong::WrongKey),
                    Some(key) if !line.is_signed_by(key) => Err(Wrong::Changed),
                    Some(_) => Ok(()),
                }
            }
            Trust::Public(_) => Ok(()),
        };
        if !self.tracks.contains_key(chain) {
            if checked.is_err() {
                // A chain that nobody vouches for.
                self.homeless.push(Bad::of(place, text, line, checked.err().unwrap_or(Wrong::Changed)));
                return;
            }
            self.order.push(chain.clone());
        }
        let track = self
            .tracks
            .entry(chain.clone())
            .or_insert_with(|| Track::new(chain, matches!(self.trust, Trust::Public(_))));
        for bad in self.homeless.drain(..) {
            track.bad(bad);
        }
        match checked {
            Err(wrong) => track.bad(Bad::of(place, text, line, wrong)),
            Ok(()) => {
                let hash = line::hash(text);
                for (known, met) in self.checkpoints.iter().zip(&mut self.met) {
                    if known.chain == *chain && known.seq == line.fields.seq {
                        *met = true;
                        if known.hash != hash {
                            let text = format!(
                                "line {} of this chain is another one than the checkpoint knows: the log was \
                                 replaced by an older copy, and went on from there",
                                known.seq
                            );
                            self.faults.push(place.fault(Wrong::Rewritten, text));
                        }
                    }
                }
                track.good(line, hash, place, &mut self.faults);
            }
        }
    }

    fn finish(mut self, lines: u64) -> Report {
        let mut chains = Vec::new();
        for chain in &self.order {
            let Some(track) = self.tracks.remove(chain) else { continue };
            let last_place = track.last_place();
            self.notes.extend(track.note());
            let (seen, faults) = track.finish();
            self.faults.extend(faults);
            for (known, met) in self.checkpoints.iter().zip(&self.met) {
                if known.chain == *chain && !met && known.seq > seen.seqs.1 {
                    let missing = range(seen.seqs.1.saturating_add(1), known.seq);
                    let text = format!("the end is cut off after this line: {missing} of this chain");
                    self.faults.push(last_place.fault(Wrong::Truncated, text));
                }
            }
            if matches!(self.trust, Trust::Public(_)) && seen.checkpoint != Some(seen.seqs.1) {
                let after = seen.checkpoint.map_or_else(|| "all".to_owned(), |seq| format!("from {seq} on"));
                self.notes.push(format!(
                    "chain {chain}: no checkpoint speaks for the last lines ({after}); they are linked, not proved"
                ));
            }
            chains.push(seen);
        }
        for bad in self.homeless {
            self.faults.push(bad.fault(bad.wrong.unwrap_or(Wrong::Inserted)));
        }
        for (known, _) in self.checkpoints.iter().zip(&self.met).filter(|(_, met)| !**met) {
            if !chains.iter().any(|seen| seen.chain == known.chain) {
                self.notes.push(format!("chain {} of a checkpoint is in none of these files", known.chain));
            }
        }
        self.faults.sort_by_key(|fault| fault.order);
        let fault_count = self.faults.len();
        self.faults.truncate(MOST_FAULTS);
        Report { lines, chains, faults: self.faults, fault_count, notes: self.notes }
    }
}

/// Where a line was read.
struct Place<'a> {
    index: usize,
    path: &'a Path,
    line: u64,
}

impl Place<'_> {
    fn fault(&self, wrong: Wrong, text: impl Into<String>) -> Fault {
        Fault {
            order: (self.index, self.line),
            file: self.path.to_owned(),
            line: self.line,
            wrong,
            text: text.into(),
        }
    }
}

/// `line 7` or `lines 7 to 9`.
fn range(from: u64, to: u64) -> String {
    if from == to { format!("line {from}") } else { format!("lines {from} to {to}") }
}

/// Longest line that is read as one.
const LONGEST: u64 = 64 << 10;
/// Lines between two words about progress.
const TELL_EVERY: u64 = 20_000;
/// Faults that are told with their place.
const MOST_FAULTS: usize = 100;

#[cfg(test)]
mod tests;

//! One chain, line by line: what should come next, and what a line that is something else means.
//!
//! A line that cannot be believed is kept until the next one that can: only that one tells whether it stands in the
//! place of a line (changed), beside the lines (inserted), or is the beginning of one (torn, and told so by the chain).

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
};

use super::{Fault, Place, Seen, Wrong, range};
use crate::audit::line::{self, Hash, Line};

/// A line that cannot be believed.
pub(super) struct Bad {
    order: (usize, u64),
    file: PathBuf,
    line: u64,
    text: Vec<u8>,
    /// The number that it claims.
    seq: Option<u64>,
    /// Why, when it has at least the shape of a line.
    pub wrong: Option<Wrong>,
    /// It has a line break.
    is_ended: bool,
}

impl Bad {
    pub fn junk(place: &Place<'_>, text: &[u8], is_ended: bool) -> Self {
        let (order, file) = ((place.index, place.line), place.path.to_owned());
        Self { order, file, line: place.line, text: text.to_vec(), seq: None, wrong: None, is_ended }
    }

    pub fn of(place: &Place<'_>, text: &[u8], line: &Line<'_>, wrong: Wrong) -> Self {
        Self { seq: Some(line.fields.seq), wrong: Some(wrong), ..Self::junk(place, text, true) }
    }

    pub fn fault(&self, wrong: Wrong) -> Fault {
        let text = match wrong {
            Wrong::WrongKey => "its key is not among those given",
            Wrong::Inserted => "it was not written by Sluis here",
            Wrong::Torn => {
                "it breaks off: Sluis was killed here and has not started since, or the end is cut off"
            }
            _ => "it is not as Sluis wrote it",
        };
        Fault { order: self.order, file: self.file.clone(), line: self.line, wrong, text: text.to_owned() }
    }
}

/// A chain as far as it was read.
pub(super) struct Track {
    chain: String,
    started: bool,
    next: u64,
    hash: Hash,
    bad: VecDeque<Bad>,
    /// Numbers that were missed, and where: the first to the last of each range, by its last.
    missed: BTreeMap<u64, (u64, Fault)>,
    seen: Seen,
    place: (usize, PathBuf, u64),
    closed: bool,
    /// Where it begins, when that is the first line of a file and not of the chain.
    begins: Option<PathBuf>,
    /// Up to this number retention has deleted lines, as the chain itself tells.
    removed: u64,
    /// Lines are known by their links only: not even a changed one can be told from a true one by itself.
    links_only: bool,
}

impl Track {
    pub fn new(chain: &str, links_only: bool) -> Self {
        let seen = Seen {
            chain: chain.to_owned(),
            replica: String::new(),
            seqs: (0, 0),
            times: (String::new(), String::new()),
            head: String::new(),
            checkpoint: None,
            is_closed: false,
            torn: 0,
            lost: 0,
        };
        Self {
            chain: chain.to_owned(),
            started: false,
            next: 1,
            hash: [0; 32],
            bad: VecDeque::new(),
            missed: BTreeMap::new(),
            seen,
            place: (0, PathBuf::new(), 0),
            closed: false,
            begins: None,
            removed: 0,
            links_only,
        }
    }

    /// A line that cannot be believed.
    pub fn bad(&mut self, bad: Bad) {
        self.bad.push_back(bad);
    }

    /// A line that is true. Whether it is in its place is to be seen.
    pub fn good(&mut self, line: &Line<'_>, hash: Hash, place: &Place<'_>, faults: &mut Vec<Fault>) {
        let fields = &line.fields;
        let seq = fields.seq;
        if !self.started {
            self.start(line, place, faults);
        }
        self.forgive_torn(line);
        if seq < self.next {
            let is_moved = self.moved(seq, place, faults);
            if !is_moved {
                let (wrong, text) = if fields.event == "chain_resumed" {
                    (
                        Wrong::Forked,
                        format!(
                            "it goes on after line {}, but there are lines up to {}: an older copy was put back",
                            seq.saturating_sub(1),
                            self.next.saturating_sub(1)
                        ),
                    )
                } else {
                    (Wrong::Inserted, format!("line {seq} of this chain stands here again"))
                };
                let is_fork = wrong == Wrong::Forked;
                faults.push(place.fault(wrong, text));
                if is_fork {
                    self.go_on(line, hash, place);
                }
            }
            return;
        }
        if seq > self.next {
            self.gap(seq, place, faults);
        } else if line.prev != self.hash {
            self.settle(0, faults);
            faults.push(self.broken_link(place));
        } else {
            self.settle(0, faults);
        }
        self.go_on(line, hash, place);
    }

    /// The first line of this chain that was given.
    fn start(&mut self, line: &Line<'_>, place: &Place<'_>, faults: &mut Vec<Fault>) {
        let fields = &line.fields;
        self.started = true;
        self.seen.seqs.0 = fields.seq;
        self.seen.times.0.clone_from(&fields.time);
        if fields.seq == 1 {
            if fields.event != "chain_started" || line.prev != [0; 32] {
                faults.push(place.fault(Wrong::Forked, "it is number 1, but no beginning of a chain"));
            }
            return;
        }
        self.next = fields.seq;
        self.hash = line.prev;
        let before = range(1, fields.seq.saturating_sub(1));
        let may_begin = matches!(fields.event.as_str(), "file_opened" | "chain_resumed");
        if may_begin && self.bad.is_empty() {
            self.begins = Some(place.path.to_owned());
        } else if self.bad.is_empty() {
            let text = format!("{before} of this chain are cut out before this one");
            faults.push(place.fault(Wrong::CutOut, text));
        } else {
            // What stands before may be those lines.
            let count = fields.seq.saturating_sub(1);
            self.next = 1;
            if u64::try_from(self.bad.len()).unwrap_or(u64::MAX) < count {
                let first = self.bad.iter().find_map(|bad| bad.seq).unwrap_or(fields.seq);
                self.next = first.min(fields.seq);
            }
        }
    }

    /// Lines are missing before this one: were they changed, or are they not there?
    fn gap(&mut self, seq: u64, place: &Place<'_>, faults: &mut Vec<Fault>) {
        let missing = seq.saturating_sub(self.next);
        let changed = u64::try_from(self.bad.len()).unwrap_or(u64::MAX).min(missing);
        self.settle(changed, faults);
        if changed < missing {
            let from = self.next.saturating_add(changed);
            let to = seq.saturating_sub(1);
            let text = format!("{} of this chain cut out before this one", range(from, to));
            self.missed.insert(to, (from, place.fault(Wrong::CutOut, text)));
        }
    }

    /// Judges what cannot be believed: the first `changed` of it stand in the places of lines, the rest beside them.
    fn settle(&mut self, changed: u64, faults: &mut Vec<Fault>) {
        let mut left = changed;
        for bad in self.bad.drain(..) {
            let wrong = match bad.wrong {
                Some(Wrong::WrongKey) => Wrong::WrongKey,
                _ if left > 0 => Wrong::Changed,
                _ => Wrong::Inserted,
            };
            left = left.saturating_sub(1);
            faults.push(bad.fault(wrong));
        }
    }

    /// A number that was missed turns up after all: the lines were moved.
    fn moved(&mut self, seq: u64, place: &Place<'_>, faults: &mut Vec<Fault>) -> bool {
        let Some((&to, (from, _))) = self.missed.range(seq..).next() else { return false };
        let from = *from;
        if seq < from {
            return false;
        }
        let Some((_, mut fault)) = self.missed.remove(&to) else { return false };
        let text = format!("line {seq} of this chain stands at {}:{}", place.path.display(), place.line);
        faults.push(Fault { wrong: Wrong::Reordered, text: format!("re-ordered: {text}"), ..fault.clone() });
        if from < seq {
            let text =
                format!("{} of this chain cut out before this one", range(from, seq.saturating_sub(1)));
            fault.text.clone_from(&text);
            self.missed.insert(seq.saturating_sub(1), (from, fault.clone()));
        }
        if seq < to {
            fault.text =
                format!("{} of this chain cut out before this one", range(seq.saturating_add(1), to));
            self.missed.insert(to, (seq.saturating_add(1), fault));
        }
        true
    }

    /// The link to the line before does not hold, though both are in their places.
    fn broken_link(&self, place: &Place<'_>) -> Fault {
        let (index, path, line) = &self.place;
        let before = Place { index: *index, path, line: *line };
        let text = format!(
            "the next line ({}:{}) was written after another one than this: one of the two was changed, or an older \
             copy was put back",
            place.path.display(),
            place.line
        );
        before.fault(if self.links_only { Wrong::Changed } else { Wrong::Forked }, text)
    }

    /// What a kill has torn, the next line tells.
    fn forgive_torn(&mut self, line: &Line<'_>) {
        let (Some(bytes), Some(sha256)) = (line.fields.torn_bytes, &line.fields.torn_sha256) else { return };
        // The last ones of what stands before: earlier junk was there before the kill.
        let mut joined: Vec<u8> = Vec::new();
        let mut pieces: usize = 0;
        for bad in self.bad.iter().rev().take_while(|bad| bad.wrong.is_none()) {
            let mut whole = bad.text.clone();
            if pieces > 0 {
                whole.push(b'\n');
                whole.extend_from_slice(&joined);
            }
            joined = whole;
            pieces = pieces.saturating_add(1);
            if u64::try_from(joined.len()).unwrap_or(u64::MAX) >= bytes {
                break;
            }
        }
        if line::hex(&line::hash(&joined)) == *sha256 {
            self.bad.truncate(self.bad.len().saturating_sub(pieces));
            self.seen.torn = self.seen.torn.saturating_add(1);
        }
    }

    fn go_on(&mut self, line: &Line<'_>, hash: Hash, place: &Place<'_>) {
        let fields = &line.fields;
        self.next = fields.seq.saturating_add(1);
        self.hash = hash;
        self.place = (place.index, place.path.to_owned(), place.line);
        self.closed = fields.event == "checkpoint" && fields.detail.as_deref() == Some("stopping");
        let seen = &mut self.seen;
        seen.seqs.1 = fields.seq;
        seen.times.1.clone_from(&fields.time);
        seen.replica.clone_from(&fields.replica);
        if fields.event == "checkpoint" {
            seen.checkpoint = Some(fields.seq);
        }
        self.removed = self.removed.max(fields.last_seq.unwrap_or_default());
        seen.lost = seen.lost.saturating_add(fields.lost.unwrap_or_default());
    }

    /// Where its last true line is.
    pub fn last_place(&self) -> LastPlace {
        LastPlace { index: self.place.0, path: self.place.1.clone(), line: self.place.2 }
    }

    /// What should be known about its beginning.
    pub fn note(&self) -> Option<String> {
        let path = self.begins.as_ref()?;
        let first = self.seen.seqs.0;
        let before = range(1, first.saturating_sub(1));
        let why = if self.removed >= first.saturating_sub(1) {
            "were deleted by retention, as the chain itself tells"
        } else {
            "are in older files that were not given"
        };
        Some(format!("chain {} begins at line {first} in {}: {before} {why}", self.chain, path.display()))
    }

    pub fn finish(mut self) -> (Seen, Vec<Fault>) {
        let mut faults: Vec<Fault> = self.missed.into_values().map(|(_, fault)| fault).collect();
        for bad in self.bad.drain(..) {
            let wrong = match bad.wrong {
                Some(wrong) => wrong,
                None if !bad.is_ended => Wrong::Torn,
                None => Wrong::Changed,
            };
            faults.push(bad.fault(wrong));
        }
        self.seen.is_closed = self.closed;
        self.seen.head = format!("{}:{}:{}", self.chain, self.seen.seqs.1, line::hex(&self.hash));
        (self.seen, faults)
    }
}

/// Where the last true line of a chain is.
pub(super) struct LastPlace {
    index: usize,
    path: PathBuf,
    line: u64,
}

impl LastPlace {
    pub fn fault(&self, wrong: Wrong, text: String) -> Fault {
        Place { index: self.index, path: &self.path, line: self.line }.fault(wrong, text)
    }
}

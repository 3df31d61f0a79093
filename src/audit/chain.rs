//! The chain that one replica writes: which line comes next.

use super::{
    event::{Entry, Own},
    line::{self, Hash, Line, LineKey, Place},
};

/// A chain at its end.
pub(super) struct Chain {
    id: String,
    replica: String,
    seq: u64,
    prev: Hash,
    key: LineKey,
    /// Lines since the last checkpoint.
    open: u64,
}

/// A line that can be written as the next one, and nothing else.
pub(super) struct Next {
    /// Without line break.
    pub text: String,
    is_checkpoint: bool,
}

impl Chain {
    /// A new chain.
    pub fn new(id: String, replica: &str, key: LineKey) -> Self {
        Self { id, replica: replica.to_owned(), seq: 0, prev: [0; 32], key, open: 0 }
    }

    /// Goes on after a line that was found at the end of a file, and that `key` has sealed.
    pub fn after(last: &Line<'_>, hash: Hash, replica: &str, key: LineKey) -> Self {
        let fields = &last.fields;
        let (id, replica) = (fields.chain.clone(), replica.to_owned());
        Self { id, replica, seq: fields.seq, prev: hash, key, open: u64::from(fields.event != "checkpoint") }
    }

    /// The line of this event, should it be the next one.
    pub fn seal(&self, entry: &Entry) -> Next {
        let is_checkpoint = entry.name == Own::Checkpoint("").name();
        let seq = self.seq.saturating_add(1);
        let place = Place { seq, chain: &self.id, replica: &self.replica, prev: &self.prev };
        Next { text: self.key.seal(&place, &entry.body, is_checkpoint), is_checkpoint }
    }

    /// The line has been written.
    pub fn accept(&mut self, next: &Next) {
        self.seq = self.seq.saturating_add(1);
        self.prev = line::hash(next.text.as_bytes());
        self.open = if next.is_checkpoint { 0 } else { self.open.saturating_add(1) };
    }

    /// Lines from now on are sealed by this key.
    pub fn rekey(&mut self, key: LineKey) {
        self.key = key;
    }

    /// The key of the next line.
    pub fn key(&self) -> &LineKey {
        &self.key
    }

    /// Number of the last line; 0 before the first.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Lines that no checkpoint speaks for yet.
    pub fn open(&self) -> u64 {
        self.open
    }

    /// The end of the chain in one word, for a place that whoever can write the file cannot write:
    /// `chain:sequence:hash`.
    pub fn head(&self) -> String {
        format!("{}:{}:{}", self.id, self.seq, line::hex(&self.prev))
    }
}

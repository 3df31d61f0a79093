//! Where something stands in the file, and the list of everything that is wrong with it.
//!
//! Promises: one fault for each mistake, in the order of the file, each `file:line: path: what was found; what is
//! allowed`. Never shows the value of a secret: places that hold one are reported without their text.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    path::{Path, PathBuf},
};

use super::{Faults, print::Print, tree::Node};

/// A place in the file, or the place where a missing key would stand.
#[derive(Clone)]
pub struct Place<'t> {
    node: Option<&'t Node>,
    path: String,
    line: usize,
}

impl<'t> Place<'t> {
    /// The whole document.
    pub fn root(node: &'t Node) -> Self {
        Self { node: Some(node), path: node.path.clone(), line: node.line }
    }

    /// The value of a key.
    pub fn key(&self, key: &str) -> Self {
        self.child(self.node.and_then(|n| n.get(key)), || match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        })
    }

    /// An item of a list; a single value stands for a list of one.
    pub fn item(&self, index: usize) -> Self {
        match self.node.map(|n| n.items()) {
            Some(Some(items)) => self.child(items.get(index), || format!("{}[{index}]", self.path)),
            _ => self.clone(),
        }
    }

    /// Whether something stands there.
    pub const fn is_given(&self) -> bool {
        self.node.is_some()
    }

    /// The line, from 1.
    pub const fn line(&self) -> usize {
        self.line
    }

    fn child(&self, node: Option<&'t Node>, path: impl FnOnce() -> String) -> Self {
        match node {
            Some(node) => Self { node: Some(node), path: node.path.clone(), line: node.line },
            None => Self { node: None, path: path(), line: self.line },
        }
    }
}

/// Collects faults and warnings.
pub struct Report {
    file: String,
    faults: BTreeSet<(usize, String, String)>,
    warnings: BTreeSet<(usize, String, String)>,
    /// Paths where the structure is wrong already: what follows from that is not reported again.
    broken: BTreeSet<String>,
    /// Files that were read, or should have been.
    files: BTreeMap<PathBuf, Print>,
}

impl Report {
    /// An empty one for the file of this name.
    pub const fn new(file: String) -> Self {
        Self {
            file,
            faults: BTreeSet::new(),
            warnings: BTreeSet::new(),
            broken: BTreeSet::new(),
            files: BTreeMap::new(),
        }
    }

    /// Whether there is no fault.
    pub fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    /// Whether the structure is wrong at this path.
    pub fn is_broken(&self, path: &str) -> bool {
        self.broken.contains(path)
    }

    /// What is wrong at this path has been told elsewhere.
    pub fn broken(&mut self, path: &str) {
        self.broken.insert(path.to_owned());
    }

    /// The structure is wrong at this path.
    pub fn structure(&mut self, line: usize, path: &str, text: impl Display) {
        self.broken.insert(path.to_owned());
        self.faults.insert((line, path.to_owned(), text.to_string()));
    }

    /// A value is wrong.
    pub fn fault(&mut self, place: &Place<'_>, text: impl Display) {
        let follows = self.broken.contains(&place.path)
            || self.broken.range(format!("{}[", place.path)..).next().is_some_and(|broken| {
                broken.strip_prefix(&place.path).is_some_and(|rest| rest.starts_with('['))
            });
        if !follows {
            self.faults.insert((place.line, place.path.clone(), text.to_string()));
        }
    }

    /// A value is wrong: what was found and what is allowed.
    pub fn bad(&mut self, place: &Place<'_>, found: &str, allowed: impl Display) {
        self.fault(place, format!("found {}; allowed: {allowed}", show(found)));
    }

    /// A value is allowed, but questionable.
    pub fn warn(&mut self, place: &Place<'_>, text: impl Display) {
        self.warnings.insert((place.line, place.path.clone(), text.to_string()));
    }

    /// The configuration depends on what is in this file: call it before the file is read.
    pub fn depends_on(&mut self, file: &Path) {
        let _ = self.files.entry(file.to_owned()).or_insert_with(|| Print::of(file));
    }

    /// The files on which it depends, as they were before they were read.
    pub fn take_files(&mut self) -> Vec<(PathBuf, Print)> {
        std::mem::take(&mut self.files).into_iter().collect()
    }

    /// The faults, when there are any; else the warnings.
    ///
    /// # Errors
    /// All faults.
    pub fn finish(self) -> Result<Vec<String>, Faults> {
        let lines = |set: BTreeSet<(usize, String, String)>| -> Vec<String> {
            set.into_iter()
                .map(|(line, path, text)| match path.as_str() {
                    "" => format!("{}:{line}: {text}", self.file),
                    path => format!("{}:{line}: {path}: {text}", self.file),
                })
                .collect()
        };
        if self.faults.is_empty() { Ok(lines(self.warnings)) } else { Err(Faults(lines(self.faults))) }
    }
}

/// A value as it is shown: quoted, control characters escaped, not longer than a line.
pub fn show(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut short: String = text.chars().take(LONGEST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

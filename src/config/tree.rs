//! The YAML file as a tree in which every value knows its path and line.
//!
//! Keys that stand in one mapping twice are found here, at every level. Anchors, aliases, tags and merge keys are
//! refused: what a security setting is should be readable at its place. Uses the same parser as `serde_saphyr`, so
//! that both see the same document.

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span};

use super::fault::Report;

/// Deepest nesting; the deepest setting needs about ten.
const DEEPEST: usize = 40;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    /// `apps[0].login.page`; empty for the document.
    pub path: String,
    /// Line of its key or first character, from 1.
    pub line: usize,
    /// The value.
    pub kind: Kind,
}

/// What kind of value.
#[derive(Clone, Debug)]
pub enum Kind {
    /// No value (`key:`), `~` or `null`.
    Null,
    /// Text as typed; numbers and booleans are text that is not quoted.
    Scalar {
        /// After YAML's escapes.
        text: String,
        /// Not quoted.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The value of a key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|(k, _)| k == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The items, if it is a list.
    pub fn items(&self) -> Option<&[Self]> {
        match &self.kind {
            Kind::List(items) => Some(items),
            _ => None,
        }
    }
}

/// Reads the text. `None` when it is no YAML at all; the fault is in the report.
pub fn parse(text: &str, report: &mut Report) -> Option<Node> {
    let mut reader = Reader { parser: Parser::new_from_str(text), report };
    match reader.document() {
        Ok(node) => Some(node),
        Err(Stop { line, text }) => {
            report.structure(line, "", text);
            None
        }
    }
}

struct Reader<'t, 'r, P: Iterator<Item = Result<(Event<'t>, Span), serde_saphyr::granit_parser::ScanError>>> {
    parser: P,
    report: &'r mut Report,
}

struct Stop {
    line: usize,
    text: String,
}

impl<'t, P: Iterator<Item = Result<(Event<'t>, Span), serde_saphyr::granit_parser::ScanError>>>
    Reader<'t, '_, P>
{
    fn document(&mut self) -> Result<Node, Stop> {
        let mut root = None;
        loop {
            let (event, line) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(Stop { line, text: "a second document; allowed: one".to_owned() });
                }
                Event::DocumentStart(..) => {}
                event => root = Some(self.value(event, line, String::new(), 0)?),
            }
        }
        Ok(root.unwrap_or(Node { path: String::new(), line: 1, kind: Kind::Null }))
    }

    fn value(&mut self, event: Event<'t>, line: usize, path: String, depth: usize) -> Result<Node, Stop> {
        if depth > DEEPEST {
            return Err(Stop { line, text: format!("nested more than {DEEPEST} deep") });
        }
        let kind = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.plain_yaml(line, &path, anchor != 0, tag.is_some());
                let plain = matches!(style, ScalarStyle::Plain);
                if plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
                    Kind::Null
                } else {
                    Kind::Scalar { text: text.into_owned(), plain }
                }
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.plain_yaml(line, &path, anchor != 0, tag.is_some());
                let mut items = Vec::new();
                loop {
                    let (event, line) = self.next()?;
                    if matches!(event, Event::SequenceEnd) {
                        break Kind::List(items);
                    }
                    let path = format!("{path}[{}]", items.len());
                    items.push(self.value(event, line, path, depth.saturating_add(1))?);
                }
            }
            Event::MappingStart(_, anchor, tag) => {
                self.plain_yaml(line, &path, anchor != 0, tag.is_some());
                self.entries(&path, depth)?
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.report.structure(
                    line,
                    &path,
                    "found an alias (*…); allowed: the value itself, written out",
                );
                Kind::Null
            }
            _ => return Err(Stop { line, text: "unexpected end".to_owned() }),
        };
        Ok(Node { path, line, kind })
    }

    fn entries(&mut self, path: &str, depth: usize) -> Result<Kind, Stop> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        loop {
            let (event, line) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(Kind::Map(entries)),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(Stop { line, text: "found a key that is not a plain word".to_owned() }),
            };
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let (event, _) = self.next()?;
            let mut node = self.value(event, line, path, depth.saturating_add(1))?;
            node.line = line;
            match entries.iter().find(|(k, _)| *k == key) {
                Some((_, first)) => {
                    self.report.structure(
                        line,
                        &node.path,
                        format_args!(
                            "the key stands there twice, first on line {}; allowed: once",
                            first.line
                        ),
                    );
                }
                None => entries.push((key, node)),
            }
        }
    }

    fn plain_yaml(&mut self, line: usize, path: &str, anchor: bool, tag: bool) {
        if anchor {
            self.report.structure(line, path, "found an anchor (&…); allowed: the value alone");
        }
        if tag {
            self.report.structure(line, path, "found a tag (!…); allowed: the value alone");
        }
    }

    fn next(&mut self) -> Result<(Event<'t>, usize), Stop> {
        loop {
            return match self.parser.next() {
                Some(Ok((Event::Comment(..), _))) => continue,
                Some(Ok((event, span))) => Ok((event, span.start.line())),
                Some(Err(error)) => Err(Stop {
                    line: error.marker().line(),
                    text: format!(
                        "column {}: no valid YAML: {}",
                        error.marker().col().saturating_add(1),
                        error.info()
                    ),
                }),
                None => Err(Stop { line: 1, text: "no valid YAML: it ends too early".to_owned() }),
            };
        }
    }
}

//! A list of users as a spreadsheet saves it: which characters, which separator, which columns, and what a cell says.
//!
//! Must never guess: what cannot be read is told with line, column, what was found and what is allowed.

use serde::{Deserialize, Serialize};

use crate::{
    admin::operations::{ExemptionTyped, Failure, Settings, settings::Read},
    base::clock::UnixMillis,
};

/// What a column says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Column {
    Name,
    Email,
    Number,
    Language,
    Networks,
    Preferred,
    Blocked,
    ExemptUntil,
    ExemptReason,
}

impl Column {
    pub(crate) const ALL: [Self; 9] = [
        Self::Name,
        Self::Email,
        Self::Number,
        Self::Language,
        Self::Networks,
        Self::Preferred,
        Self::Blocked,
        Self::ExemptUntil,
        Self::ExemptReason,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Email => "email",
            Self::Number => "number",
            Self::Language => "language",
            Self::Networks => "networks",
            Self::Preferred => "preferred",
            Self::Blocked => "blocked",
            Self::ExemptUntil => "exempt_until",
            Self::ExemptReason => "exempt_reason",
        }
    }
}

/// Something in a list that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadCell {
    /// In which line of the file.
    pub line: u64,
    /// In which column; empty: the whole line.
    pub column: String,
    /// What stands there.
    pub found: String,
    /// What is allowed.
    pub allowed: String,
}

impl BadCell {
    pub(super) fn new(line: u64, column: Column, found: &str, allowed: impl Into<String>) -> Self {
        Self { line, column: column.name().to_owned(), found: shortened(found), allowed: allowed.into() }
    }
}

/// One line of a list.
pub(super) struct Row {
    pub line: u64,
    /// As typed.
    pub name: String,
    pub settings: Read,
    pub blocked: Option<bool>,
}

/// A list that is being read.
pub(super) struct Sheet<'a> {
    rows: csv::Reader<&'a [u8]>,
    lines: Lines<'a>,
    columns: Vec<Column>,
    record: csv::StringRecord,
    now: UnixMillis,
}

impl<'a> Sheet<'a> {
    /// Reads the header.
    pub fn open(file: &'a [u8], delimiter: Option<char>, now: UnixMillis) -> Result<Self, Failure> {
        let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
        readable(file)?;
        let delimiter = match delimiter {
            Some(';') => b';',
            Some(',') => b',',
            Some(other) => {
                let why = "must be ; or ,";
                return Err(Failure::BadSetting { field: "delimiter", why, found: other.to_string() });
            }
            None => separator(file),
        };
        let mut rows = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .has_headers(false)
            .flexible(true)
            .from_reader(file);
        let mut header = csv::StringRecord::new();
        if !rows.read_record(&mut header).map_err(|error| Failure::BadList(error.to_string()))? {
            return Err(Failure::BadList("it is empty; its first line must name the columns".to_owned()));
        }
        let lines = Lines { file, at: 0, line: 1 };
        Ok(Self { columns: columns(&header)?, rows, lines, record: csv::StringRecord::new(), now })
    }

    /// The next line that says something; every fault in it.
    pub fn next(&mut self) -> Result<Option<Result<Row, Vec<BadCell>>>, Failure> {
        loop {
            let more = self.rows.read_record(&mut self.record);
            if !more.map_err(|error| Failure::BadList(error.to_string()))? {
                return Ok(None);
            }
            // Spreadsheets leave lines of nothing but separators.
            if self.record.iter().any(|cell| !cell.trim().is_empty()) {
                let line = self.lines.of(self.record.position().map_or(0, csv::Position::byte));
                return Ok(Some(self.row(line)));
            }
        }
    }

    fn row(&self, line: u64) -> Result<Row, Vec<BadCell>> {
        if self.record.len() != self.columns.len() {
            return Err(vec![BadCell {
                line,
                column: String::new(),
                found: format!("{} cells", self.record.len()),
                allowed: format!("{}, as in the first line", self.columns.len()),
            }]);
        }
        let cell = |column: Column| {
            let at = self.columns.iter().position(|c| *c == column)?;
            Some(unescaped(self.record.get(at).unwrap_or_default().trim()))
        };
        let mut row = Row {
            line,
            name: cell(Column::Name).unwrap_or_default().to_owned(),
            settings: Read::default(),
            blocked: None,
        };
        let mut bad = Vec::new();
        if row.name.is_empty() {
            bad.push(BadCell::new(line, Column::Name, "", "the user's name, as it is typed at the login"));
        }
        for column in Column::ALL {
            let Some(typed) = cell(column).filter(|typed| !typed.is_empty()) else { continue };
            let settings = match column {
                Column::Name | Column::ExemptUntil | Column::ExemptReason => continue,
                Column::Blocked => {
                    match yes_or_no(typed) {
                        Some(blocked) => row.blocked = Some(blocked),
                        None => bad.push(BadCell::new(line, column, typed, "yes or no")),
                    }
                    continue;
                }
                _ => one(column, taken(typed)),
            };
            match Read::of(&settings, self.now) {
                Ok(read) => row.settings = row.settings.and(read),
                Err(failure) => bad.push(fault(line, column, typed, &failure)),
            }
        }
        let exemption = |column| cell(column).filter(|typed| !typed.is_empty());
        match (exemption(Column::ExemptUntil), exemption(Column::ExemptReason)) {
            (None, None) => {}
            (Some(TAKEN_AWAY), _) => {
                let settings = Settings { exemption: Some(None), ..Settings::default() };
                // Nothing is typed here that could be wrong.
                if let Ok(read) = Read::of(&settings, self.now) {
                    row.settings = row.settings.and(read);
                }
            }
            (Some(until), None) => {
                bad.push(BadCell::new(
                    line,
                    Column::ExemptReason,
                    "",
                    format!("the reason, for until {until}"),
                ));
            }
            (None, Some(reason)) => {
                let why = format!("until when, like 2027-01-31T17:00:00Z, for {reason}");
                bad.push(BadCell::new(line, Column::ExemptUntil, "", why));
            }
            (Some(until), Some(reason)) => {
                let typed = ExemptionTyped { until: until.to_owned(), reason: reason.to_owned() };
                let settings = Settings { exemption: Some(Some(typed)), ..Settings::default() };
                match Read::of(&settings, self.now) {
                    Ok(read) => row.settings = row.settings.and(read),
                    Err(failure) => {
                        let (column, found) = match &failure {
                            Failure::BadSetting { found, .. } if found == until => {
                                (Column::ExemptUntil, until)
                            }
                            _ => (Column::ExemptReason, reason),
                        };
                        bad.push(fault(line, column, found, &failure));
                    }
                }
            }
        }
        if bad.is_empty() { Ok(row) } else { Err(bad) }
    }
}

/// The settings of one cell; `None` takes away.
fn one(column: Column, typed: Option<&str>) -> Settings {
    let text = Some(typed.map(str::to_owned));
    match column {
        Column::Email => Settings { email: text, ..Settings::default() },
        Column::Number => Settings { number: text, ..Settings::default() },
        Column::Language => Settings { language: text, ..Settings::default() },
        Column::Preferred => Settings { preferred: text, ..Settings::default() },
        Column::Networks => {
            Settings { networks: Some(typed.map(str::to_owned).into_iter().collect()), ..Settings::default() }
        }
        Column::Name | Column::Blocked | Column::ExemptUntil | Column::ExemptReason => Settings::default(),
    }
}

fn fault(line: u64, column: Column, typed: &str, failure: &Failure) -> BadCell {
    match failure {
        Failure::BadSetting { why, found, .. } => BadCell::new(line, column, found, *why),
        other => BadCell::new(line, column, typed, other.to_string()),
    }
}

/// In which line a place of the file is. The reader's own count takes the line feed of a CRLF for the next line's.
struct Lines<'a> {
    file: &'a [u8],
    /// Counted up to here.
    at: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line of the record that begins at this byte, or behind line ends that follow it. Never asked for an earlier one.
    fn of(&mut self, byte: u64) -> u64 {
        let begin = usize::try_from(byte).unwrap_or(usize::MAX);
        while let Some(byte) = self.file.get(self.at) {
            if self.at >= begin && !matches!(byte, b'\r' | b'\n') {
                break;
            }
            self.line = self.line.saturating_add(u64::from(*byte == b'\n'));
            self.at = self.at.saturating_add(1);
        }
        self.line
    }
}

/// UTF-8, or which line is not.
fn readable(file: &[u8]) -> Result<(), Failure> {
    if file.starts_with(b"\xff\xfe") || file.starts_with(b"\xfe\xff") {
        return Err(Failure::BadList(format!("it is UTF-16; {SAVE_AS}")));
    }
    let Err(error) = std::str::from_utf8(file) else { return Ok(()) };
    let (before, rest) = file.split_at_checked(error.valid_up_to()).unwrap_or((file, &[]));
    let line = before.iter().filter(|byte| **byte == b'\n').count().saturating_add(1);
    let byte = rest.first().copied().unwrap_or_default();
    Err(Failure::BadList(format!(
        "line {line}: the byte {byte:02X} is no UTF-8, so this is perhaps Latin-1 or Windows-1252; {SAVE_AS}"
    )))
}

/// What stands more often in the first line, outside of quotes.
fn separator(file: &[u8]) -> u8 {
    let (mut commas, mut semicolons, mut quoted) = (0_usize, 0_usize, false);
    for byte in file {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' | b'\r' if !quoted => break,
            b',' if !quoted => commas = commas.saturating_add(1),
            b';' if !quoted => semicolons = semicolons.saturating_add(1),
            _ => {}
        }
    }
    if semicolons > commas { b';' } else { b',' }
}

fn columns(header: &csv::StringRecord) -> Result<Vec<Column>, Failure> {
    let allowed = Column::ALL.map(Column::name).join(", ");
    let mut columns: Vec<Column> = Vec::new();
    for cell in header {
        let named = cell.trim().to_lowercase();
        let Some(column) = Column::ALL.into_iter().find(|column| column.name() == named) else {
            let found = shortened(cell);
            return Err(Failure::BadList(format!(
                "line 1: there is no column `{found}`; allowed: {allowed}, with ; or , between them"
            )));
        };
        if columns.contains(&column) {
            return Err(Failure::BadList(format!("line 1: the column `{named}` stands there twice")));
        }
        columns.push(column);
    }
    if columns.contains(&Column::Name) {
        Ok(columns)
    } else {
        Err(Failure::BadList(format!("line 1: the column `name` is missing; allowed: {allowed}")))
    }
}

fn taken(typed: &str) -> Option<&str> {
    (typed != TAKEN_AWAY).then_some(typed)
}

fn yes_or_no(typed: &str) -> Option<bool> {
    match typed.to_lowercase().as_str() {
        "yes" | "true" | "1" | "ja" | "waar" => Some(true),
        "no" | "false" | "0" | "nee" | "onwaar" => Some(false),
        _ => None,
    }
}

/// A cell as it goes into a spreadsheet: what a spreadsheet would take for a formula has a `'` in front (OWASP, CSV
/// injection).
pub(crate) fn escaped(text: &str) -> String {
    if text.starts_with(FORMULA) || text.starts_with('\'') { format!("'{text}") } else { text.to_owned() }
}

/// What [`escaped`] was given.
fn unescaped(cell: &str) -> &str {
    match cell.strip_prefix('\'') {
        Some(rest) if rest.starts_with(FORMULA) || rest.starts_with('\'') => rest,
        _ => cell,
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}

const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];
/// In a cell: what was set is taken away. (An empty one leaves it.)
const TAKEN_AWAY: &str = "-";
const SAVE_AS: &str = "save it as \"CSV UTF-8\"";

#[cfg(test)]
mod tests {
    use super::*;

    /// A row: its line and what it says, or what is wrong with it.
    type Row = Result<(u64, String), Vec<BadCell>>;

    fn read(text: impl AsRef<[u8]>) -> Result<Vec<Row>, String> {
        let mut sheet = Sheet::open(text.as_ref(), None, UnixMillis(0)).map_err(|e| e.to_string())?;
        let mut rows = Vec::new();
        while let Some(row) = sheet.next().map_err(|e| e.to_string())? {
            rows.push(row.map(|row| (row.line, row.name)));
        }
        Ok(rows)
    }

    #[test]
    fn what_spreadsheets_write_is_read() {
        let anna = vec![Ok((2, "anna".to_owned()))];
        for text in [
            "name,email\nanna,anna@example.nl\n",
            "\u{feff}Name;Email\r\nanna;anna@example.nl\r\n;\r\n",
            "\"name\";\"email\"\r\n\"anna\";\"\"",
            " NAME , networks\nanna,\"10.0.0.0/8; 192.0.2.1\"\n,\n",
            "name\nanna",
        ] {
            assert_eq!(read(text), Ok(anna.clone()), "{text:?}");
        }
        let lines = read("name;exempt_until\n\nanna;\n\"bram\n\";\n\r\neve;-\n").unwrap();
        let lines: Vec<_> = lines.into_iter().map(|row| row.unwrap().0).collect();
        assert_eq!(lines, [3, 4, 7], "a quoted line break counts, an empty line too");
    }

    #[test]
    fn what_is_no_list_is_refused_with_what_is_allowed() {
        for (text, told) in [
            (&b""[..], "empty"),
            (&b"name;mail\n"[..], "no column `mail`; allowed: name, email, number"),
            (&b"name;email;Name\n"[..], "twice"),
            (&b"email\n"[..], "`name` is missing"),
            (&b"name\nanna\nzo\xeb\n"[..], "line 3: the byte EB is no UTF-8, so this is perhaps Latin-1"),
            (&b"\xff\xfen\0a\0"[..], "UTF-16"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn every_fault_of_a_line_is_told() {
        let rows =
            read("name,email,number,blocked,exempt_until\n,x,112,perhaps,2027-01-01\nanna,,\n").unwrap();
        let faults: Vec<_> = rows.into_iter().flat_map(Result::unwrap_err).collect();
        let told: Vec<_> = faults.iter().map(|f| (f.line, f.column.as_str(), f.found.as_str())).collect();
        assert_eq!(
            told,
            [
                (2, "name", ""),
                (2, "email", "x"),
                (2, "number", "112"),
                (2, "blocked", "perhaps"),
                (2, "exempt_reason", ""),
                (3, "", "3 cells"),
            ]
        );
        assert!(faults.iter().all(|fault| !fault.allowed.is_empty()));
    }

    #[test]
    fn a_cell_goes_out_harmless_and_comes_back_as_it_was() {
        for text in ["=1+1", "+31612345678", "-anna", "@sum", "'=x", "''", "anna", "'t hart", "a=b"] {
            let cell = escaped(text);
            assert!(!cell.starts_with(FORMULA), "{cell}");
            assert_eq!(unescaped(&cell), text);
        }
    }
}

//! How text gets into a line: as JSON in printable ASCII, so that nothing that somebody typed can begin a line, change
//! how one looks on a terminal, or be changed on its way through syslog and shippers (which would break the chain).

use std::fmt::Write;

use serde::Serialize;

/// Longest text of a visitor or administrator in a line, in bytes before escaping.
const LONGEST: usize = 256;

/// The members of an object without its braces. Everything outside printable ASCII is escaped (RFC 8259, section 7):
/// line breaks, controls, bidirectional and invisible characters, and whatever Unicode adds to them.
pub(super) fn fields(object: &impl Serialize) -> String {
    let json = serde_json::to_string(object).unwrap_or_default();
    let inner = json.strip_prefix('{').and_then(|j| j.strip_suffix('}')).unwrap_or_default();
    ascii(inner)
}

/// One text as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    ascii(&serde_json::to_string(text).unwrap_or_default())
}

/// Text from outside can be long; this is enough to know it by.
pub(super) fn bounded(text: &str) -> &str {
    let end = text.floor_char_boundary(LONGEST);
    text.get(..end).unwrap_or_default()
}

/// Other characters than printable ASCII occur in JSON inside of strings only, where the escape means the same.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if matches!(c, ' '..='~') {
            out.push(c);
            continue;
        }
        let mut units = [0; 2];
        for unit in c.encode_utf16(&mut units) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_typed_is_one_ascii_string_and_reads_back(text in any::<String>()) {
            let quoted = quoted(&text);
            prop_assert!(quoted.bytes().all(|b| (b' '..=b'~').contains(&b)), "{}", quoted);
            prop_assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text);
        }
    }
}

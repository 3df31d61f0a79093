//! A browser in words, from its `User-Agent`. It tells people; it decides nothing.

use crate::model::agent;

/// So much of what cannot be read is shown as it is.
const RAW_CHARS: usize = 40;

/// "Firefox, Windows"; else the beginning of the text itself; `None` when there is none.
pub(super) fn words(typed: &str) -> Option<String> {
    let words = agent::named(typed)
        .unwrap_or_else(|| typed.chars().filter(|c| !c.is_control()).take(RAW_CHARS).collect());
    let words = words.trim();
    (!words.is_empty()).then(|| words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_shown_as_it_is_and_short() {
        assert_eq!(words("curl/8.5.0").as_deref(), Some("curl/8.5.0"));
        assert_eq!(words(&"é".repeat(60)), Some("é".repeat(40)));
        assert_eq!(words("SomeApp/1.0 (Windows)").as_deref(), Some("SomeApp/1.0 (Windows)"));
        assert_eq!(words("a\u{7}b").as_deref(), Some("ab"));
        for nothing in ["", " ", "\n"] {
            assert_eq!(words(nothing), None);
        }
    }
}

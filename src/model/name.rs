//! The form in which names of users are compared (threats D10): one person, one spelling.
//!
//! Only the folding that needs no app stands here, so that names in the configuration and names that were typed
//! are folded by the same code; an app's own rewriting comes on top, in `identity::name`.

use std::sync::LazyLock;

use caseless::Caseless;
use regex::Regex;
use unicode_normalization::UnicodeNormalization;

use super::UserName;

/// Why a typed name is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadName {
    /// Nothing left.
    #[error("the user name is empty")]
    Empty,
    /// More than [`UserName::MAX_BYTES`].
    #[error("the user name is too long")]
    TooLong,
    /// Control characters, or characters that nobody sees and that some app might drop.
    #[error("the user name has control or invisible characters")]
    Control,
    /// Not of the form that the app's names have.
    #[error("the user name is not of the form that login.name.allowed describes")]
    NotAllowed,
}

/// Which differences between two spellings do not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Folding {
    /// White space at both ends.
    pub trim: bool,
    /// Compatibility forms such as full-width letters (Unicode NFKC). Without it canonically equivalent spellings
    /// (NFC) are the same nevertheless.
    pub nfkc: bool,
    /// Case, by Unicode's full case folding.
    pub case_fold: bool,
}

impl Folding {
    /// Folds a name. Applied twice it changes nothing more.
    ///
    /// # Errors
    /// When nothing usable is left. Characters that cannot be seen (zero width, bidirectional marks, soft hyphen,
    /// variation selectors, private use, unassigned) are refused, not removed: an app might remove them where we
    /// do not, or the other way round, and then one person would be two.
    pub fn fold(self, typed: &str) -> Result<String, BadName> {
        // Bounds the work; folding makes nothing so much shorter.
        if typed.len() > UserName::MAX_BYTES * 4 {
            return Err(BadName::TooLong);
        }
        let text = if self.trim { typed.trim() } else { typed };
        let folded = match (self.nfkc, self.case_fold) {
            (false, false) => text.nfc().collect(),
            (true, false) => text.nfkc().collect(),
            (false, true) => text.nfd().default_case_fold().nfd().default_case_fold().nfc().collect(),
            // Unicode, section 3.13, D146: compatibility caseless matching.
            (true, true) => text.nfd().default_case_fold().nfkd().default_case_fold().nfkc().collect(),
        };
        check(self, folded)
    }
}

/// Whether `name` can be a user's canonical name, after all folding and rewriting.
///
/// # Errors
/// When it is empty, too long, or has characters that cannot be seen.
pub fn check(folding: Folding, name: String) -> Result<String, BadName> {
    if INVISIBLE.is_match(&name) {
        return Err(BadName::Control);
    }
    let name = if folding.trim { name.trim().to_owned() } else { name };
    if name.trim().is_empty() {
        return Err(BadName::Empty);
    }
    if name.len() > UserName::MAX_BYTES { Err(BadName::TooLong) } else { Ok(name) }
}

/// Unicode's "Other" (controls, formats, private, unassigned), line and paragraph separators, and everything that
/// is not to be displayed by default.
#[expect(clippy::expect_used, reason = "a fixed pattern, which every test of names compiles")]
static INVISIBLE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]").expect("valid"));

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: Folding = Folding { trim: true, nfkc: true, case_fold: true };

    #[test]
    fn d10_spellings_of_one_name_are_one_name() {
        for typed in ["Alice", "alice ", "ALICE", "Ａlice", "\u{a0}alice\t", "ａｌｉｃｅ", "ALICE\u{3000}"]
        {
            assert_eq!(ALL.fold(typed).as_deref(), Ok("alice"), "{typed:?}");
        }
        assert_eq!(ALL.fold("Straße"), ALL.fold("STRASSE"));
        assert_eq!(ALL.fold("Rene\u{301}"), ALL.fold("RENÉ"));
        assert_eq!(ALL.fold("ﬁona"), ALL.fold("FIONA"));
        assert_eq!(ALL.fold("ΣΟΦΟΣ"), ALL.fold("σοφος"));
    }

    #[test]
    fn d10_what_cannot_be_seen_is_refused_wherever_it_stands() {
        for hidden in [
            '\0',
            '\u{1}',
            '\u{7f}',
            '\u{85}',
            '\u{ad}',
            '\u{34f}',
            '\u{115f}',
            '\u{180e}',
            '\u{200b}',
            '\u{200d}',
            '\u{200e}',
            '\u{202e}',
            '\u{2028}',
            '\u{2060}',
            '\u{2066}',
            '\u{3164}',
            '\u{e000}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fff9}',
            '\u{e0061}',
            '\u{e0101}',
        ] {
            for typed in [format!("ali{hidden}ce"), format!("{hidden}alice"), format!("alice{hidden}")] {
                let folded = ALL.fold(&typed);
                // White space at an end may be trimmed; two users it must never make.
                assert!(
                    matches!(folded.as_deref(), Err(BadName::Control) | Ok("alice")),
                    "{typed:?}: {folded:?}"
                );
            }
            assert_eq!(ALL.fold(&format!("ali{hidden}ce")), Err(BadName::Control), "{hidden:?}");
        }
    }

    #[test]
    fn empty_and_long_names_are_none() {
        assert_eq!(ALL.fold(""), Err(BadName::Empty));
        assert_eq!(ALL.fold(" \u{3000} "), Err(BadName::Empty));
        assert_eq!(Folding { trim: false, ..ALL }.fold("  "), Err(BadName::Empty));
        assert_eq!(ALL.fold(&"a".repeat(200)).map(|n| n.len()), Ok(200));
        assert_eq!(ALL.fold(&"a".repeat(201)), Err(BadName::TooLong));
        // One character that becomes eighteen.
        assert_eq!(ALL.fold(&"\u{fdfa}".repeat(30)), Err(BadName::TooLong));
    }

    #[test]
    fn what_is_switched_off_counts() {
        let exact = Folding { trim: false, nfkc: false, case_fold: false };
        assert_eq!(exact.fold(" Ａnna").as_deref(), Ok(" Ａnna"));
        assert_eq!(exact.fold("Rene\u{301}").as_deref(), Ok("René"));
    }

    proptest! {
        #[test]
        fn d10_folding_twice_is_folding_once(typed in "\\PC{0,12}", trim: bool, nfkc: bool, case_fold: bool) {
            let folding = Folding { trim, nfkc, case_fold };
            if let Ok(once) = folding.fold(&typed) {
                prop_assert_eq!(folding.fold(&once), Ok(once));
            }
        }

        #[test]
        fn d10_case_and_outer_space_never_make_a_second_user(typed in "[a-zA-Zà-üÀ-Üα-ωΑ-Ω0-9@._-]{1,12}", pad in " {0,3}") {
            let folded = ALL.fold(&typed);
            prop_assert_eq!(ALL.fold(&typed.to_lowercase()), folded.clone());
            prop_assert_eq!(ALL.fold(&typed.to_uppercase()), folded.clone());
            prop_assert_eq!(ALL.fold(&format!("{pad}{typed}{pad}")), folded);
        }
    }
}

//! One canonical form of a user's name, made here and nowhere else (threats D10).
//!
//! Promises that spellings which an app takes for one account give one [`UserName`], or none; "Alice", "alice ",
//! "ALICE" and "Ａlice" are one user, "Alice" with a zero-width space in it is refused. It must never make a second
//! user of a second spelling: that one would have no authenticator yet, and could enrol its own.
//!
//! What only an app knows (that `CORP\anna` and `anna@corp.example` are `anna`, or that its database does not
//! tell `é` from `e`) is said by `rewrite` rules, or asked of the app itself (`whoami`).

pub use crate::model::name::BadName;
use crate::{
    config::app::NameRules,
    model::{
        UserName,
        name::{Folding, check},
    },
};

/// Makes the canonical name: trim, normalise, fold case, rewrite in the order of the rules, trim again.
///
/// # Errors
/// When nothing usable is left.
pub fn canonical(rules: &NameRules, typed: &str) -> Result<UserName, BadName> {
    let folding = Folding { trim: rules.trim, nfkc: rules.nfkc, case_fold: rules.case_fold };
    let mut name = folding.fold(typed)?;
    for (pattern, replacement) in &rules.rewrite {
        name = pattern.replace_all(&name, replacement.as_str()).into_owned();
        // A rule that doubles its input must not be able to eat the memory when there are many.
        if name.len() > UserName::MAX_BYTES * 4 {
            return Err(BadName::TooLong);
        }
    }
    check(folding, name).map(UserName::canonical)
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    fn rules(rewrite: &[(&str, &str)]) -> NameRules {
        let rewrite = rewrite.iter().map(|(p, r)| (Regex::new(p).unwrap(), (*r).to_owned())).collect();
        NameRules { trim: true, nfkc: true, case_fold: true, rewrite }
    }

    fn name(rules: &NameRules, typed: &str) -> Result<String, BadName> {
        canonical(rules, typed).map(|n| n.as_str().to_owned())
    }

    #[test]
    fn d10_rewriting_joins_the_names_of_one_account() {
        let rules = rules(&[(r"^corp\\", ""), (r"@corp\.example$", ""), (r"^(\w+)\.(\w+)$", "$2-$1")]);
        for typed in ["CORP\\Anna", "anna@corp.example", " ANNA@Corp.Example", "anna"] {
            assert_eq!(name(&rules, typed).as_deref(), Ok("anna"), "{typed:?}");
        }
        assert_eq!(name(&rules, "Anna.Smit@corp.example").as_deref(), Ok("smit-anna"), "in order");
        assert_eq!(name(&rules, "anna@other.example").as_deref(), Ok("anna@other.example"));
    }

    #[test]
    fn d10_what_rewriting_leaves_is_checked_again() {
        assert_eq!(name(&rules(&[(".*", "")]), "anna"), Err(BadName::Empty));
        assert_eq!(name(&rules(&[("a", " ")]), "anna").as_deref(), Ok("nn"), "trimmed again");
        assert_eq!(name(&rules(&[("n", "\u{200b}")]), "anna"), Err(BadName::Control));
        assert_eq!(name(&rules(&[("$", "aaaaaaaaaaaaaaaaaaaa"); 50]), "anna"), Err(BadName::TooLong));
    }

    #[test]
    fn d10_hidden_characters_do_not_reach_the_rules() {
        assert_eq!(name(&rules(&[("\u{200b}", "")]), "Ali\u{200b}ce"), Err(BadName::Control));
    }
}

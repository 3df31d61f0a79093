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

/// The canonical name of what somebody typed: [`canonical`], and of the form that the app's names have. A name that
/// the app itself told needs no such form.
///
/// # Errors
/// When nothing usable is left, or it has another form.
pub fn typed(rules: &NameRules, typed: &str) -> Result<UserName, BadName> {
    let name = canonical(rules, typed)?;
    match &rules.allowed {
        Some(allowed) if !allowed.is_match(name.as_str()) => Err(BadName::NotAllowed),
        _ => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    fn rules(rewrite: &[(&str, &str)]) -> NameRules {
        let rewrite = rewrite.iter().map(|(p, r)| (Regex::new(p).unwrap(), (*r).to_owned())).collect();
        NameRules { trim: true, nfkc: true, case_fold: true, rewrite, allowed: None }
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

    /// An app that reads `ánna` as `anna` must not be given a second user for it.
    #[test]
    fn d10_a_typed_name_has_the_form_that_the_apps_names_have() {
        let mut rules = rules(&[]);
        rules.allowed = Some(Regex::new(r"\A(?:[ -~]+)\z").unwrap());
        for fine in ["anna", "Anna.Smit+x@corp.example", "CORP\\anna", "7421", "ＡＮＮＡ", "anna smit"] {
            assert!(typed(&rules, fine).is_ok(), "{fine}");
        }
        for other in ["ánna", "a\u{301}nna", "аnna", "anna\u{20}\u{f8}"] {
            assert_eq!(typed(&rules, other), Err(BadName::NotAllowed), "{other}");
        }
        assert!(canonical(&rules, "ánna").is_ok(), "as the app itself says it");
        // What the rules join is one user, and no longer outside.
        rules.rewrite = vec![(Regex::new("á").unwrap(), "a".to_owned())];
        assert_eq!(typed(&rules, "Ánna").unwrap().as_str(), "anna");
    }

    #[test]
    fn d10_hidden_characters_do_not_reach_the_rules() {
        assert_eq!(name(&rules(&[("\u{200b}", "")]), "Ali\u{200b}ce"), Err(BadName::Control));
    }
}

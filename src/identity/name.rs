//! One canonical form of a user's name, made here and nowhere else (threats D10).

use crate::{config::app::NameRules, model::UserName};

/// Why a typed name is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadName {
    /// Nothing left.
    #[error("the user name is empty")]
    Empty,
    /// More than [`UserName::MAX_BYTES`].
    #[error("the user name is too long")]
    TooLong,
    /// Control characters or characters that no name has.
    #[error("the user name has control characters")]
    Control,
}

/// Makes the canonical name: trim, NFKC, case folding, rewriting, as the app's rules say.
///
/// # Errors
/// When nothing usable is left.
pub fn canonical(_rules: &NameRules, _typed: &str) -> Result<UserName, BadName> {
    todo!()
}

//! Judges the app's answer to a login, and reads the name out of a `whoami` answer.

use crate::config::app::{Success, Whoami};

/// Whether the rule needs the body.
pub fn needs_body(_rule: &Success) -> bool {
    todo!()
}

/// Whether the answer is a success: all that the rule sets must hold.
/// `set_cookies` are the raw `Set-Cookie` values; a deletion of the cookie does not count as setting it.
pub fn is_success<'a>(
    _rule: &Success,
    _status: u16,
    _location: Option<&str>,
    _set_cookies: impl Iterator<Item = &'a [u8]>,
    _body: Option<&[u8]>,
) -> bool {
    todo!()
}

/// The typed name in a `whoami` answer; `None` when it has none, or more than one.
pub fn whoami_name(_rule: &Whoami, _body: &[u8]) -> Option<String> {
    todo!()
}

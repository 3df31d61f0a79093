//! Which requests are logins and logouts: matched leniently, so that no spelling of the URL escapes the watch.

use crate::config::App;

/// A path as watched paths are compared: percent-decoded until nothing changes, lower case, `\` as `/`, slashes
/// collapsed, dot segments resolved, `;…` dropped from each segment, no trailing slash.
pub fn lenient(_path: &str) -> String {
    todo!()
}

/// The `login.watch` entries that this method and path could be, before its body is known.
pub fn candidates(_app: &App, _method: &http::Method, _path: &str) -> Option<usize> {
    todo!()
}

/// Whether this path logs out.
pub fn is_logout(_app: &App, _path: &str) -> bool {
    todo!()
}

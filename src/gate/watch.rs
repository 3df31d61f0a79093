//! Which requests are logins and logouts: matched leniently, so that no spelling of the URL escapes the watch.
//!
//! Decides by method, path and query alone; whether a candidate really is a login is told by its body
//! (`identity::form`). A request that is caught here without need costs a buffered body; one that slips through
//! would log another user in under a running session. Allocates nothing for paths without anything odd in them.

use std::borrow::Cow;

use crate::{
    config::App,
    identity::form::{Candidate, query_logs_in},
    model::path::lenient,
};

/// The `login.watch` entries that this request could be, before its body is known. Empty mostly.
///
/// By another method than the watched one a login is none, but an app may see it differently: such a request is a
/// candidate as well, and refused when its body (or, for `GET`, its query) really has a login in it.
pub fn candidates(app: &App, method: &http::Method, path: &str, query: Option<&str>) -> Vec<Candidate> {
    let mut found = Vec::new();
    let mut seen = None;
    for (index, watch) in app.login.watch.iter().enumerate() {
        let harmless = method.is_safe() && *method != watch.method;
        if harmless && query.is_none() {
            continue;
        }
        let seen = seen.get_or_insert_with(|| in_watched_form(path));
        let Some(near) = closeness(seen, &watch.path) else { continue };
        if harmless && !query.is_some_and(|q| query_logs_in(watch, q)) {
            continue;
        }
        found.push(Candidate { watch: index, near });
    }
    found
}

/// Whether this request logs out. A logout may be written with a query (`/doku.php?do=logout`): then the request's
/// query must have all of its pairs.
pub fn is_logout(app: &App, path: &str, query: Option<&str>) -> bool {
    if app.logout_paths.is_empty() {
        return false;
    }
    let seen = in_watched_form(path);
    app.logout_paths.iter().any(|logout| match logout.split_once('?') {
        None => same(&seen, logout),
        Some((logout, pairs)) => same(&seen, logout) && has_pairs(query.unwrap_or_default(), pairs),
    })
}

/// The path as watched paths are compared, but for the case of ASCII letters, which [`same`] does not mind: so a
/// path that is only in mixed case needs no copy.
fn in_watched_form(path: &str) -> Cow<'_, str> {
    if is_tame(path) { Cow::Borrowed(path) } else { lenient(path) }
}

/// Nothing in it that [`lenient`] would change beside case.
fn is_tame(path: &str) -> bool {
    let bytes = path.as_bytes();
    let fine = |b: &u8| b.is_ascii_alphanumeric() || b"/-_.~".contains(b);
    let odd = |pair: &[u8]| matches!(pair, b"//" | b"/." | b"./");
    bytes.first() == Some(&b'/')
        && bytes.iter().all(fine)
        && !bytes.windows(2).any(odd)
        && (bytes.len() == 1 || !matches!(bytes.last(), Some(b'/' | b'.')))
}

/// `Some(false)`: the watched path. `Some(true)`: one that some servers take for it.
fn closeness(path: &str, watched: &str) -> Option<bool> {
    if let Some(directory) = watched.strip_suffix('*') {
        let below = path.get(..directory.len()).is_some_and(|begin| same(begin, directory));
        return (below || same(path, directory.trim_end_matches('/'))).then_some(false);
    }
    if same(path, watched) {
        return Some(false);
    }
    let near =
        is_below_script(path, watched) || is_behind_script(path, watched) || is_format_of(path, watched);
    near.then_some(true)
}

fn same(path: &str, watched: &str) -> bool {
    path.eq_ignore_ascii_case(watched)
}

/// `/login.php/anything` is run by `/login.php` (CGI's `PATH_INFO`; PHP, ASP.NET).
fn is_below_script(path: &str, watched: &str) -> bool {
    is_script(watched)
        && path
            .split_at_checked(watched.len())
            .is_some_and(|(begin, end)| same(begin, watched) && end.starts_with('/'))
}

/// `/index.php/login` is the route `/login` of a front controller.
fn is_behind_script(path: &str, watched: &str) -> bool {
    path.split_at_checked(path.len().saturating_sub(watched.len()))
        .is_some_and(|(begin, end)| same(end, watched) && end.starts_with('/') && is_script(begin))
}

/// `/login.json` is the route `/login` in another format (Rails and others).
fn is_format_of(path: &str, watched: &str) -> bool {
    path.split_at_checked(watched.len()).is_some_and(|(begin, end)| {
        same(begin, watched) && end.strip_prefix('.').is_some_and(|format| !format.contains('/'))
    })
}

/// Whether the last segment looks like a program: it has an extension.
fn is_script(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.contains('.'))
}

fn has_pairs(query: &str, wanted: &str) -> bool {
    form_urlencoded::parse(wanted.as_bytes())
        .all(|wanted| form_urlencoded::parse(query.as_bytes()).any(|pair| pair == wanted))
}

#[cfg(test)]
mod tests;

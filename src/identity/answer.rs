//! Judges the app's answer to a login, and reads the name out of a `whoami` answer.
//!
//! Promises that an answer counts as a success only when all that the rule sets is seen to hold; what cannot be
//! seen (no body at hand, a header that is missing) does not hold. A rule that sets nothing is never fulfilled.

use cookie::Cookie;

use super::form::{Node, parse_json};
use crate::{
    base::clock::UnixMillis,
    config::app::{Success, Whoami},
};

/// Whether the rule needs the body.
pub fn needs_body(rule: &Success) -> bool {
    rule.body.is_some() || rule.body_not.is_some()
}

/// Whether the answer is a success: all that the rule sets must hold.
/// `set_cookies` are the raw `Set-Cookie` values, in order; a deletion of the cookie (empty, expired, or followed by
/// one) does not count as setting it. `body` is the whole body without content coding; `None` when it could
/// not be had.
pub fn is_success<'a>(
    rule: &Success,
    status: u16,
    location: Option<&str>,
    set_cookies: impl Iterator<Item = &'a [u8]>,
    body: Option<&[u8]>,
    now: UnixMillis,
) -> bool {
    let Success { status: statuses, location: to, location_not, cookie, body: has, body_not } = rule;
    let something = !statuses.is_empty()
        || to.is_some()
        || location_not.is_some()
        || cookie.is_some()
        || needs_body(rule);
    let text = body.map(String::from_utf8_lossy);
    something
        && (statuses.is_empty() || statuses.contains(&status))
        && to.as_ref().is_none_or(|pattern| location.is_some_and(|l| pattern.is_match(l)))
        && location_not.as_ref().is_none_or(|pattern| !location.is_some_and(|l| pattern.is_match(l)))
        && cookie.as_ref().is_none_or(|name| is_set(name, set_cookies, now))
        && has.as_ref().is_none_or(|pattern| text.as_deref().is_some_and(|t| pattern.is_match(t)))
        && body_not.as_ref().is_none_or(|pattern| text.as_deref().is_some_and(|t| !pattern.is_match(t)))
}

/// The typed name in a `whoami` answer; `None` when it has none, or more than one.
pub fn whoami_name(rule: &Whoami, body: &[u8]) -> Option<String> {
    let name = match (&rule.json, &rule.pattern) {
        (Some(pointer), _) => by_pointer(&parse_json(body).ok()?, pointer)?,
        (None, Some(pattern)) => {
            let text = std::str::from_utf8(body).ok()?;
            let mut names = pattern.captures_iter(text).filter_map(|c| c.get(1)).map(|m| m.as_str());
            let first = names.next()?;
            // A page may greet its user twice, but not two users.
            if names.any(|other| other != first) {
                return None;
            }
            first.to_owned()
        }
        (None, None) => return None,
    };
    (!name.trim().is_empty()).then_some(name)
}

/// Whether this `Set-Cookie` value gives the cookie `name` a value; a deletion does not.
pub fn sets(name: &str, set_cookie: &[u8], now: UnixMillis) -> bool {
    is_set(name, std::iter::once(set_cookie), now)
}

/// Whether the cookie `name` holds a value after all of these.
fn is_set<'a>(name: &str, set_cookies: impl Iterator<Item = &'a [u8]>, now: UnixMillis) -> bool {
    let mut set = false;
    for value in set_cookies {
        let text = String::from_utf8_lossy(value);
        let Ok(cookie) = Cookie::parse(text.as_ref()) else { continue };
        if cookie.name() == name {
            let expired = match (cookie.max_age(), cookie.expires_datetime()) {
                // RFC 6265, section 4.1.2.2: `Max-Age` goes before `Expires`.
                (Some(age), _) => !age.is_positive(),
                (None, Some(at)) => at.unix_timestamp() <= i64::try_from(now.secs()).unwrap_or(i64::MAX),
                (None, None) => false,
            };
            set = !expired && !cookie.value_trimmed().is_empty();
        }
    }
    set
}

fn by_pointer(node: &Node, pointer: &str) -> Option<String> {
    let keys: Vec<String> =
        pointer.split('/').skip(1).map(|s| s.replace("~1", "/").replace("~0", "~")).collect();
    node.text_at(&keys).ok().flatten().map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests;

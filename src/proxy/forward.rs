//! A permitted request on its way to the app: what the app is told, and what it must not see.
//!
//! Idempotent: everything comes from the request as accepted and from the context, so that a retry tells the same.
//! Identity headers are set only here, after pingora has removed what `Connection:` names (threats D5); that no
//! client sent one of them is settled before, in `intake`.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use pingora::http::RequestHeader;

use super::{
    arrival::Arrival,
    failure::Cause,
    headers::{HOP_BY_HOP, nominations},
    intake,
    site::Site,
};
use crate::session::{
    standing::LiveSession,
    upstream_cookies::{Scope, UpstreamCookies},
};

/// What a request is dressed with.
pub struct Dress<'a> {
    /// The app.
    pub site: &'a Site,
    /// From where the request comes.
    pub arrival: &'a Arrival,
    /// In whose name it goes; `None` on an anonymous path, and for a login of somebody else.
    pub session: Option<&'a LiveSession>,
    /// The app's cookies that are opened for it.
    pub scopes: &'a [Scope],
    /// `Host` when the upstream is called by its own name.
    pub host: Option<&'a HeaderValue>,
}

/// Makes `request`, a copy of the accepted `original`, what the app gets.
///
/// # Errors
/// Only for a value that cannot stand in a header, which does not happen with what is made here.
pub fn dress(
    request: &mut RequestHeader,
    original: &RequestHeader,
    dress: &Dress<'_>,
    cookies: &UpstreamCookies,
) -> Result<(), Cause> {
    if hides_credentials(dress.site, original) {
        request.remove_header(&header::AUTHORIZATION);
    }
    set_cookie(request, original, dress, cookies)?;
    set_origin(request, original, dress).map_err(|_| Cause::Internal)?;
    if let Some(live) = dress.session {
        for (name, value) in dress.site.identity(live) {
            request.insert_header(name.clone(), value.clone()).map_err(|_| Cause::Internal)?;
        }
    }
    Ok(())
}

/// Whether the app must not see `Authorization`. Some take user name and password from it on any path, beside their
/// own form: that would be a login which nobody watches (threats D9). Only a bearer token says nothing of that kind.
pub fn hides_credentials(site: &Site, original: &RequestHeader) -> bool {
    !site.app.headers.pass_authorization && has_credentials(original)
}

fn has_credentials(original: &RequestHeader) -> bool {
    let is_bearer = |value: &HeaderValue| {
        let scheme = value.as_bytes().split(u8::is_ascii_whitespace).next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"bearer")
    };
    let mut lines = original.headers.get_all(header::AUTHORIZATION).iter();
    lines.next().is_some_and(|first| !is_bearer(first) || lines.next().is_some())
}

/// The app's own cookies, opened; ours and those of other scopes left out. One line, since HTTP/1 knows no more
/// (RFC 9113, section 8.2.3).
fn set_cookie(
    request: &mut RequestHeader,
    original: &RequestHeader,
    dress: &Dress<'_>,
    cookies: &UpstreamCookies,
) -> Result<(), Cause> {
    let lines = original.headers.get_all(header::COOKIE);
    let length: usize = lines.iter().map(|line| line.len() + 2).sum();
    if length == 0 {
        return Ok(());
    }
    let mut out = Vec::with_capacity(length);
    let lines = lines.iter().map(HeaderValue::as_bytes);
    cookies.up(&dress.site.app, lines, dress.scopes, &mut out);
    if out.is_empty() {
        request.remove_header(&header::COOKIE);
        return Ok(());
    }
    let value = HeaderValue::from_maybe_shared(Bytes::from(out))
        .map_err(|_| Cause::Malformed("a cookie cannot stand in a header"))?;
    request.insert_header("Cookie", value).map_err(|_| Cause::Internal)
}

/// Who asked, how, and for which host; and the ids by which logs are joined.
fn set_origin(
    request: &mut RequestHeader,
    original: &RequestHeader,
    dress: &Dress<'_>,
) -> pingora::Result<()> {
    let mut outcome = Ok(());
    tell_origin(original, dress, |name, value| {
        if outcome.is_ok() {
            outcome = request.insert_header(name, value);
        }
    });
    outcome?;
    if dress.arrival.trace.is_some() {
        request.remove_header(&TRACESTATE);
    }
    if let Some(host) = dress.host {
        request.insert_header("Host", host.clone())?;
    }
    Ok(())
}

/// Hands over name and value of each field that tells the app of the request's origin. The client's own fields of
/// these names are gone since `intake`, but for a `traceparent` (and its `tracestate`) that is replaced here.
pub fn tell_origin(original: &RequestHeader, dress: &Dress<'_>, mut tell: impl FnMut(&'static str, &[u8])) {
    let arrival = dress.arrival;
    with_text(arrival.client, |address| tell("X-Forwarded-For", address));
    tell("X-Forwarded-Proto", if arrival.https { b"https" } else { b"http" });
    if let Some(host) = original.headers.get(header::HOST) {
        tell("X-Forwarded-Host", host.as_bytes());
    }
    tell("X-Request-Id", arrival.id.as_str().as_bytes());
    if let Some(trace) = &arrival.trace {
        tell("traceparent", trace.as_bytes());
    }
}

static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A copy of the accepted request as it starts its way by an own round trip: without what concerns one hop only.
/// What goes through pingora's proxy needs this not; it does the same there.
pub fn copy_for_own_hop(original: &RequestHeader) -> RequestHeader {
    let mut request = original.clone();
    request.set_version(http::Version::HTTP_11);
    let lines = original.headers.get_all(header::CONNECTION).iter().map(HeaderValue::as_bytes);
    for name in nominations(lines) {
        if let Ok(name) = HeaderName::from_bytes(name) {
            request.remove_header(&name);
        }
    }
    for name in HOP_BY_HOP {
        request.remove_header(name);
    }
    request
}

/// The path on this site that a `Location` of the app leads to; `None` when it leads elsewhere or nowhere.
/// Relative ones are resolved against the request's own path (RFC 3986, section 5.2).
pub fn own_target(
    location: &str,
    request: &RequestHeader,
    upstream_host: Option<&HeaderValue>,
) -> Option<String> {
    let location = location.split('#').next().unwrap_or_default().trim();
    let lower = location.to_ascii_lowercase();
    let after_scheme = ["http:", "https:"].iter().find_map(|s| lower.starts_with(s).then_some(s.len()));
    let rest = location.get(after_scheme.unwrap_or(0)..)?;
    if let Some(after) = rest.strip_prefix("//") {
        let end = after.find(['/', '?']).unwrap_or(after.len());
        let (authority, path) = after.split_at_checked(end)?;
        let own = intake::authority(request);
        let by_upstream = upstream_host.is_some_and(|host| host.as_bytes() == authority.as_bytes());
        // The app may not know the port that the browser uses.
        let same_name = host_name(authority).eq_ignore_ascii_case(host_name(own));
        if !by_upstream && !same_name {
            return None;
        }
        return Some(if path.starts_with('/') { path.to_owned() } else { format!("/{path}") });
    }
    if after_scheme.is_some() || rest.split(['/', '?']).next().is_some_and(|first| first.contains(':')) {
        return None;
    }
    let path = request.uri.path();
    match rest.chars().next() {
        Some('/') => Some(rest.to_owned()),
        Some('?') => Some(format!("{path}{rest}")),
        None => None,
        Some(_) => {
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            Some(resolve_dots(&format!("{directory}/{rest}")))
        }
    }
}

fn host_name(authority: &str) -> &str {
    let end = match authority.rfind(']') {
        Some(bracket) => bracket + 1,
        None => authority.rfind(':').unwrap_or(authority.len()),
    };
    authority.get(..end).unwrap_or(authority)
}

/// `/a/./b/../c?q` → `/a/c?q`
fn resolve_dots(target: &str) -> String {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let mut segments: Vec<&str> = Vec::new();
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." {
                    segments.pop();
                }
                if last {
                    segments.push("");
                }
            }
            _ => segments.push(part),
        }
    }
    let mut out = String::from("/") + &segments.join("/");
    if let Some(query) = query {
        out.push('?');
        out.push_str(query);
    }
    out
}

/// Hands over an address as text; the usual kind without a detour over a `String`.
fn with_text(address: IpAddr, then: impl FnOnce(&[u8])) {
    let IpAddr::V4(v4) = address else { return then(address.to_string().as_bytes()) };
    let mut text = [0; 15];
    let mut length = 0;
    let mut push = |byte: u8| {
        if let Some(place) = text.get_mut(length) {
            *place = byte;
            length += 1;
        }
    };
    for (place, octet) in v4.octets().into_iter().enumerate() {
        if place > 0 {
            push(b'.');
        }
        if octet >= 100 {
            push(b'0' + octet / 100);
        }
        if octet >= 10 {
            push(b'0' + octet / 10 % 10);
        }
        push(b'0' + octet % 10);
    }
    then(text.get(..length).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are() {
        for text in ["0.0.0.0", "1.20.255.9", "10.100.0.10", "192.0.2.199", "2001:db8::1", "::"] {
            with_text(text.parse().unwrap(), |written| assert_eq!(written, text.as_bytes()));
        }
    }

    #[test]
    fn the_copy_has_nothing_that_concerns_one_hop() {
        let mut original = RequestHeader::build("POST", b"/login", None).unwrap();
        for (name, value) in [
            ("Connection", "keep-alive, X-Hop"),
            ("X-Hop", "1"),
            ("Keep-Alive", "5"),
            ("TE", "trailers"),
            ("Transfer-Encoding", "chunked"),
            ("Proxy-Authorization", "x"),
            ("Accept", "*/*"),
        ] {
            original.append_header(name, value).unwrap();
        }
        let copy = copy_for_own_hop(&original);
        let left: Vec<&str> = copy.headers.keys().map(|n| n.as_str()).collect();
        assert_eq!(left, ["accept"]);
    }

    /// [D9] Credentials that an app could take for a login do not arrive; a bearer token does.
    #[test]
    fn d9_credentials_in_a_header_are_removed() {
        for (lines, left) in [
            (&["Basic YW5uYTphbm5hLXNlY3JldA=="][..], 0),
            (&["basic  YW5uYTphbm5hLXNlY3JldA=="], 0),
            (&["Digest username=\"anna\""], 0),
            (&["NTLM TlRM"], 0),
            (&["YW5uYTphbm5h"], 0),
            (&[""], 0),
            (&["BearerX abc"], 0),
            (&["Bearer abc", "Basic YW5uYTphbm5h"], 0),
            (&["bearer abc"], 1),
            (&["Bearer\tabc"], 1),
        ] {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            for line in lines {
                request.append_header("Authorization", *line).unwrap();
            }
            assert_eq!(has_credentials(&request), left == 0, "{lines:?}");
        }
    }

    /// [D17 of part 0; threats 1.6] A target after the challenge never leaves the site.
    #[test]
    fn a_target_stays_on_the_site() {
        let mut request = RequestHeader::build("POST", b"/app/login.php?x=1", None).unwrap();
        request.insert_header("Host", "ecd.example:8443").unwrap();
        let inside = HeaderValue::from_static("10.0.0.5:8080");
        for (location, target) in [
            ("/home", Some("/home")),
            ("/home?a=b#c", Some("/home?a=b")),
            ("index.php", Some("/app/index.php")),
            ("./index.php?p=../x", Some("/app/index.php?p=../x")),
            ("../", Some("/")),
            ("../../../up", Some("/up")),
            ("?page=2", Some("/app/login.php?page=2")),
            ("http://ecd.example:8443/home", Some("/home")),
            ("https://ECD.example/home", Some("/home")),
            ("//ecd.example/home", Some("/home")),
            ("http://10.0.0.5:8080/home", Some("/home")),
            ("http://ecd.example", Some("/")),
            ("http://ecd.example?x", Some("/?x")),
            ("http://evil.example/home", None),
            ("//evil.example/home", None),
            ("http://ecd.example.evil.example/", None),
            ("http://ecd.example@evil.example/", None),
            ("http:/home", None),
            ("javascript:alert(1)", None),
            ("", None),
            ("#top", None),
        ] {
            assert_eq!(own_target(location, &request, Some(&inside)).as_deref(), target, "{location}");
        }
    }
}

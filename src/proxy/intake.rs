//! Bytes → one canonical request, or a refusal (design, section 3; threats D1, D3, D4, D7).
//!
//! [`accept`] looks at the header once and *edits it into the form that is decided on*: origin-form target, one
//! canonical `Host`, no managed header. That same header is what is forwarded, so "decided on X, forwarded Y"
//! cannot happen. What would need guessing is refused with 400. [`view`] then only borrows from it.
//!
//! Never here: who is asking, and whether they may.

use http::{HeaderName, HeaderValue, Method, Version, header};
use pingora::http::{
    RequestHeader,
    authority::{RawTargetAuthority, raw_target_authority},
};

use super::{
    arrival::Arrival,
    failure::Cause,
    headers::{Managed, is_token, nominations},
    site::Sites,
};
use crate::{
    config::Limits,
    model::{RequestView, path},
    session::cookie::Names,
};

/// What [`accept`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The app, as a place in [`Sites`].
    pub site: usize,
    /// The path can be read in two ways: never anonymous.
    pub ambiguous: bool,
}

/// Checks a request and edits it into its canonical form. `raw` is the header as it came over HTTP/1, `None` for
/// HTTP/2: some faults are gone once it has been parsed.
///
/// # Errors
/// The first reason to refuse it.
pub fn accept(
    header: &mut RequestHeader,
    raw: Option<&[u8]>,
    sites: &Sites,
    limits: &Limits,
) -> Result<Accepted, Cause> {
    if matches!(header.method, Method::TRACE | Method::CONNECT) || header.method.as_str() == "TRACK" {
        return Err(Cause::Method);
    }
    if let Some(raw) = raw {
        check_raw(raw)?;
    }
    make_origin_form(header)?;
    make_host_canonical(header)?;
    let place = sites.find(host(header)).ok_or(Cause::UnknownHost)?;
    let site = sites.get(place).ok_or(Cause::Internal)?;
    let managed = check_fields(header, limits, &site.managed)?;
    check_framing(header, raw, limits)?;
    for name in managed {
        header.remove_header(&name);
    }
    let ambiguous = check_target(header, site.app.tolerate)?;
    Ok(Accepted { site: place, ambiguous })
}

/// The view of an accepted request.
///
/// # Errors
/// When one of our cookies is there twice.
pub fn view<'a>(
    header: &'a RequestHeader,
    arrival: &'a Arrival,
    accepted: Accepted,
    names: &Names,
) -> Result<RequestView<'a>, Cause> {
    let lines = header.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    let cookies = names.find(lines).map_err(|_| Cause::Malformed("a cookie of ours is there twice"))?;
    Ok(RequestView {
        id: &arrival.id,
        method: &header.method,
        host: host(header),
        path: header.uri.path(),
        ambiguous: accepted.ambiguous,
        query: header.uri.query(),
        client: arrival.client,
        wants: arrival.wants,
        cookies,
    })
}

/// The canonical host, without port. (Only after [`accept`]; empty before.)
pub fn host(header: &RequestHeader) -> &str {
    without_port(authority(header))
}

/// The canonical host with its port, as the browser knows it.
pub fn authority(header: &RequestHeader) -> &str {
    header.headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Faults that the parser forgives: a line that ends in a bare LF, and `#` in the target, which it drops.
fn check_raw(raw: &[u8]) -> Result<(), Cause> {
    let is_bare = |at: usize| at.checked_sub(1).and_then(|before| raw.get(before)) != Some(&b'\r');
    if memchr::memchr_iter(b'\n', raw).any(is_bare) {
        return Err(Cause::Malformed("a line ends in a bare LF"));
    }
    let line = raw.split(|b| *b == b'\r').find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
    if line.contains(&b'#') {
        return Err(Cause::Malformed("the target has a fragment"));
    }
    Ok(())
}

/// `http://host/path` → `/path`, when `host` is what `Host` says (RFC 9112, section 3.2.2).
fn make_origin_form(header: &mut RequestHeader) -> Result<(), Cause> {
    if header.raw_path().first() == Some(&b'/') {
        return Ok(());
    }
    const NO_PATH: Cause = Cause::Malformed("the target is no path");
    let RawTargetAuthority::Absolute { scheme, authority, path_and_query } =
        raw_target_authority(header.raw_path())
    else {
        return Err(NO_PATH);
    };
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(NO_PATH);
    }
    let same = header.headers.get(header::HOST).is_some_and(|host| host.as_bytes() == authority);
    if !same {
        return Err(Cause::Malformed("the target's host is not the Host"));
    }
    let mut target = path_and_query.to_vec();
    if target.first() != Some(&b'/') {
        target.insert(0, b'/');
    }
    header.set_raw_path(&target).map_err(|_| NO_PATH)
}

/// Exactly one `Host`, in lower case, without trailing dot. HTTP/2 may have it in `:authority` only.
fn make_host_canonical(header: &mut RequestHeader) -> Result<(), Cause> {
    let mut lines = header.headers.get_all(header::HOST).iter();
    let (first, second) = (lines.next(), lines.next());
    let from_target = header.uri.authority().map(http::uri::Authority::as_str);
    let given = match (first, second, from_target) {
        (_, Some(_), _) => return Err(Cause::Malformed("Host is there twice")),
        (Some(host), None, target) => {
            let host = host.to_str().map_err(|_| Cause::Malformed("Host is no host name"))?;
            if target.is_some_and(|t| t != host) {
                return Err(Cause::Malformed("Host and :authority differ"));
            }
            host
        }
        (None, None, Some(target)) => target,
        (None, None, None) => return Err(Cause::Malformed("Host is missing")),
    };
    let canonical = canonical_authority(given).ok_or(Cause::Malformed("Host is no host name"))?;
    if first.is_some() && canonical.is_none() {
        return Ok(());
    }
    let value = canonical.unwrap_or_else(|| given.to_owned());
    header.insert_header(header::HOST, value).map_err(|_| Cause::Malformed("Host is no host name"))
}

/// `Some(None)` when it is canonical as it stands, `Some(Some(…))` with the canonical form, `None` when it is no
/// `host[:port]`.
fn canonical_authority(given: &str) -> Option<Option<String>> {
    let host = without_port(given);
    let port = given.strip_prefix(host)?;
    let digits = if port.is_empty() { port } else { port.strip_prefix(':')? };
    if !digits.bytes().all(|b| b.is_ascii_digit()) || digits.len() > 5 {
        return None;
    }
    let name = match host.strip_prefix('[') {
        Some(rest) => {
            let inner = rest.strip_suffix(']')?;
            inner.parse::<std::net::Ipv6Addr>().ok()?;
            host
        }
        None => {
            let name = host.strip_suffix('.').unwrap_or(host);
            let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            if name.is_empty() || !name.bytes().all(fine) {
                return None;
            }
            name
        }
    };
    let as_it_stands = name == host && port != ":" && !name.bytes().any(|b| b.is_ascii_uppercase());
    if as_it_stands {
        return Some(None);
    }
    let port = if digits.is_empty() { "" } else { port };
    Some(Some(name.to_ascii_lowercase() + port))
}

fn without_port(authority: &str) -> &str {
    if authority.starts_with('[') {
        return authority.split_inclusive(']').next().unwrap_or_default();
    }
    authority.split(':').next().unwrap_or_default()
}

/// One pass over all fields: names, count, size. Answers which managed names are there, to be removed.
fn check_fields(
    header: &RequestHeader,
    limits: &Limits,
    managed: &Managed,
) -> Result<Vec<HeaderName>, Cause> {
    let mut bytes = header.raw_path().len() + 16;
    let mut fields = 0;
    let mut found = Vec::new();
    for (name, value) in &header.headers {
        fields += 1;
        let text = name.as_str().as_bytes();
        bytes += text.len() + value.len() + 4;
        if !is_token(text) {
            return Err(Cause::Malformed("a field name is no token"));
        }
        if managed.covers(text) {
            found.push(name.clone());
        }
    }
    if fields > limits.header_fields || bytes > limits.header_bytes {
        return Err(Cause::HeaderTooLarge);
    }
    let lines = header.headers.get_all(header::CONNECTION).iter().map(HeaderValue::as_bytes);
    if nominations(lines).any(|name| !managed.may_be_nominated(name)) {
        return Err(Cause::Malformed("Connection names a field that must arrive"));
    }
    Ok(found)
}

/// Where the body ends must be beyond doubt (RFC 9112, section 6.3), and it must not be too large.
fn check_framing(header: &RequestHeader, raw: Option<&[u8]>, limits: &Limits) -> Result<(), Cause> {
    let headers = &header.headers;
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let (length, second) = (lengths.next(), lengths.next());
    if second.is_some() {
        return Err(Cause::Malformed("Content-Length is there twice"));
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if !chunked || codings.next().is_some() || header.version != Version::HTTP_11 {
            return Err(Cause::Malformed("Transfer-Encoding is not exactly chunked"));
        }
        // The parser drops a Content-Length beside it, so the bytes have to tell.
        if length.is_some() || raw.is_none_or(has_content_length) {
            return Err(Cause::Malformed("Content-Length beside Transfer-Encoding"));
        }
    }
    if let Some(length) = length {
        let digits = length.as_bytes();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Cause::Malformed("Content-Length is no number"));
        }
        let bytes: u64 = length.to_str().ok().and_then(|t| t.parse().ok()).unwrap_or(u64::MAX);
        if limits.body_bytes != 0 && bytes > limits.body_bytes {
            return Err(Cause::BodyTooLarge);
        }
    }
    let mut expects = headers.get_all(header::EXPECT).iter();
    let expected = expects.next().is_none_or(|e| e.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if !expected || expects.next().is_some() {
        return Err(Cause::Expectation);
    }
    Ok(())
}

fn has_content_length(raw: &[u8]) -> bool {
    const NAME: &[u8] = b"content-length";
    raw.split(|b| *b == b'\n')
        .any(|line| line.get(..NAME.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(NAME)))
}

/// The path must be canonical and the query free of bytes that end a line or a target. Gives whether the path is
/// ambiguous.
fn check_target(header: &RequestHeader, tolerate: path::Tolerance) -> Result<bool, Cause> {
    if !header.raw_path_is_utf8() {
        return Err(Cause::Malformed("the target is not UTF-8"));
    }
    let raw = header.raw_path();
    let mut parts = raw.splitn(2, |b| *b == b'?');
    let raw_path = parts.next().unwrap_or_default();
    let query = parts.next();
    let canonical = path::canonical(raw_path, tolerate).map_err(|cause| Cause::Malformed(cause.name()))?;
    if query.is_some_and(|q| q.iter().any(|b| b.is_ascii_control() || matches!(b, b' ' | b'#'))) {
        return Err(Cause::Malformed("the query has a control character, a space or a fragment"));
    }
    // What is decided on is read from the URI, what is sent from the raw bytes: they must be the same.
    if header.uri.path() != canonical.text || header.uri.query().map(str::as_bytes) != query {
        return Err(Cause::Malformed("the target can be read in two ways"));
    }
    Ok(canonical.ambiguous)
}

#[cfg(test)]
mod tests;

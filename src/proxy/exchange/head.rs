//! The head of a request as its bytes go to the app: what [`forward::dress`] makes, without a header map in between.
//!
//! Every name is one that `intake` has let pass or one of ours, every value is a [`HeaderValue`], so no byte of a
//! client can end a line.

use http::{HeaderName, HeaderValue, Version, header};
use pingora::http::RequestHeader;

use super::super::{
    failure::Cause,
    forward::{self, Dress},
};
use crate::session::upstream_cookies::UpstreamCookies;

/// Writes it. `original` is the accepted request, of HTTP/1.1 or HTTP/2, with no `Connection` that names fields.
///
/// # Errors
/// For what cannot stand in a header, which does not happen with what was accepted.
pub(super) fn write(
    original: &RequestHeader,
    dress: &Dress<'_>,
    cookies: &UpstreamCookies,
) -> Result<Vec<u8>, Cause> {
    let target = original.raw_path();
    if target.first() != Some(&b'/') || target.iter().any(|b| *b <= b' ' || *b == 0x7f) {
        return Err(Cause::Internal);
    }
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(original.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let host = dress.host.or_else(|| original.headers.get(header::HOST)).ok_or(Cause::Internal)?;
    line(&mut out, b"Host", host.as_bytes());
    write_own(&mut out, original, dress)?;
    forward::tell_origin(original, dress, |name, value| line(&mut out, name.as_bytes(), value));
    if let Some(live) = dress.session {
        for (name, value) in dress.site.identity(live) {
            line(&mut out, name, value.as_bytes());
        }
    }
    write_cookie(&mut out, original, dress, cookies)?;
    out.extend_from_slice(b"\r\n");
    Ok(out)
}

/// The client's own fields, in its spelling.
fn write_own(out: &mut Vec<u8>, original: &RequestHeader, dress: &Dress<'_>) -> Result<(), Cause> {
    let hides_credentials = forward::hides_credentials(dress.site, original);
    let stays = |name: &HeaderName| !is_left_out(name, dress, hides_credentials);
    if original.version == Version::HTTP_2 || !original.has_case() {
        for (name, value) in original.headers.iter().filter(|(name, _)| stays(name)) {
            line(out, name.as_str().as_bytes(), value.as_bytes());
        }
        return Ok(());
    }
    // Both go through the same fields in the same order, which pingora itself relies on.
    for ((name, value), (spelled, same)) in original.headers.iter().zip(original.case_header_iter()) {
        if !std::ptr::eq(value, same) || !spelled.as_slice().eq_ignore_ascii_case(name.as_str().as_bytes()) {
            return Err(Cause::Internal);
        }
        if stays(name) {
            line(out, spelled.as_slice(), value.as_bytes());
        }
    }
    Ok(())
}

/// What concerns one hop (RFC 9110, section 7.6.1), and what is written anew.
fn is_left_out(name: &HeaderName, dress: &Dress<'_>, hides_credentials: bool) -> bool {
    match *name {
        header::HOST
        | header::COOKIE
        | header::CONNECTION
        | header::PROXY_AUTHENTICATE
        | header::PROXY_AUTHORIZATION
        | header::TE
        | header::TRAILER
        | header::TRANSFER_ENCODING
        | header::UPGRADE => true,
        header::AUTHORIZATION => hides_credentials,
        _ => match name.as_str() {
            "keep-alive" | "proxy-connection" | "http2-settings" => true,
            "traceparent" | "tracestate" => dress.arrival.trace.is_some(),
            _ => false,
        },
    }
}

/// The app's own cookies, opened.
fn write_cookie(
    out: &mut Vec<u8>,
    original: &RequestHeader,
    dress: &Dress<'_>,
    cookies: &UpstreamCookies,
) -> Result<(), Cause> {
    let mut lines = original.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).peekable();
    if lines.peek().is_none() {
        return Ok(());
    }
    let start = out.len();
    out.extend_from_slice(b"Cookie: ");
    let value = out.len();
    cookies.append_up(&dress.site.app, lines, dress.scopes, out);
    let written = out.get(value..).unwrap_or_default();
    if written.is_empty() {
        out.truncate(start);
        return Ok(());
    }
    // As a header value would be checked: what stands in a box has not been looked at since it was sealed.
    if written.iter().any(|b| (*b < b' ' && *b != b'\t') || *b == 0x7f) {
        return Err(Cause::Malformed("a cookie cannot stand in a header"));
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

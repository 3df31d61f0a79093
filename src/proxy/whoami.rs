//! Asks the app itself who has just logged in, with the cookies that its answer set.

use bytes::Bytes;
use http::{HeaderValue, header};
use pingora::{
    http::{RequestHeader, ResponseHeader},
    upstreams::peer::HttpPeer,
};

use super::{
    failure::Cause,
    forward::{self, Dress},
    roundtrip::RoundTrips,
    site::Site,
};
use crate::{
    config::app::Whoami, identity::answer::whoami_name, metrics::UpstreamError,
    session::upstream_cookies::UpstreamCookies,
};

/// The most of the answer that is looked at.
const AT_MOST: usize = 1024 * 1024;

/// What an app says when it is asked who its user is.
#[derive(PartialEq, Eq, Debug)]
pub enum Told {
    /// This name, as the app writes it.
    Name(String),
    /// It has no user.
    Nobody,
    /// It cannot be told: the app has trouble, or too much to say.
    Unclear,
}

/// The request: the login's own, but for another path and the cookies that a browser would have after `answer`; those
/// of the login itself when there is none yet.
///
/// # Errors
/// When the configured path cannot stand in a request.
pub fn request(
    rule: &Whoami,
    login: &RequestHeader,
    dress: &Dress<'_>,
    sealer: &UpstreamCookies,
    answer: Option<&ResponseHeader>,
) -> Result<RequestHeader, Cause> {
    let internal = |_| Cause::Internal;
    let mut request = RequestHeader::build("GET", rule.path.as_bytes(), None).map_err(internal)?;
    request.set_version(http::Version::HTTP_11);
    for name in [header::HOST, header::USER_AGENT, header::ACCEPT_LANGUAGE] {
        if let Some(value) = login.headers.get(&name) {
            request.insert_header(name, value.clone()).map_err(internal)?;
        }
    }
    request.insert_header("Accept", HeaderValue::from_static("*/*")).map_err(internal)?;
    forward::dress(&mut request, login, dress, sealer)?;
    // The answer is read here: it must not come compressed.
    request.insert_header("Accept-Encoding", HeaderValue::from_static("identity")).map_err(internal)?;
    let sent = request.headers.get(header::COOKIE).map(HeaderValue::as_bytes).unwrap_or_default();
    let set = answer.into_iter().flat_map(|answer| answer.headers.get_all(header::SET_COOKIE));
    let set = set.map(HeaderValue::as_bytes);
    let cookies = merged(sent, set);
    if cookies.is_empty() {
        request.remove_header(&header::COOKIE);
    } else {
        let value = HeaderValue::from_maybe_shared(Bytes::from(cookies)).map_err(|_| Cause::Internal)?;
        request.insert_header("Cookie", value).map_err(internal)?;
    }
    Ok(request)
}

/// Asks; `make` chooses a server and makes the [`request`] for it.
///
/// # Errors
/// When the app does not answer.
pub async fn ask(
    trips: &RoundTrips,
    site: &Site,
    make: impl FnMut() -> Result<(HttpPeer, RequestHeader), Cause>,
    rule: &Whoami,
) -> Result<Told, Cause> {
    let mut answer = trips.send(site, Bytes::new(), make).await?;
    let status = answer.header.status;
    let (body, whole) = answer.read(AT_MOST).await?;
    let name = (status == http::StatusCode::OK && whole).then(|| whoami_name(rule, &body)).flatten();
    Ok(match name {
        Some(name) => Told::Name(name),
        None if status.is_server_error() || !whole => Told::Unclear,
        None => Told::Nobody,
    })
}

/// After a login that passed, the app must name its user: else who has logged in is unknown, and nobody is let in.
pub fn no_name(rule: &Whoami) -> Cause {
    tracing::error!(path = %rule.path, "whoami gave no user name after a login");
    Cause::Upstream(UpstreamError::Other)
}

/// The name in a `Set-Cookie` line.
pub fn cookie_name(line: &[u8]) -> &[u8] {
    let pair = line.split(|b| *b == b';').next().unwrap_or_default();
    pair.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii()
}

/// The cookies that were sent, with those that the answer set in their place. (Paths are not looked at: the names
/// of an app's login cookies do not depend on them.)
fn merged<'a>(sent: &'a [u8], set: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut jar: Vec<(&[u8], &[u8])> = Vec::new();
    for pair in sent.split(|b| *b == b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()) {
        jar.push((cookie_name(pair), pair));
    }
    for line in set {
        let name = cookie_name(line);
        let pair = line.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        jar.retain(|(known, _)| *known != name);
        if !deletes(line) {
            jar.push((name, pair));
        }
    }
    jar.into_iter().map(|(_, pair)| pair).collect::<Vec<_>>().join(&b"; "[..])
}

/// An empty value or `Max-Age=0` is how apps delete; a far-away `Expires` only repeats it.
fn deletes(line: &[u8]) -> bool {
    let mut parts = line.split(|b| *b == b';');
    let value = parts.next().unwrap_or_default().splitn(2, |b| *b == b'=').nth(1).unwrap_or_default();
    let gone = |attribute: &[u8]| {
        let lower = attribute.trim_ascii().to_ascii_lowercase();
        lower.strip_prefix(b"max-age=").is_some_and(|age| age == b"0" || age.starts_with(b"-"))
    };
    value.trim_ascii().is_empty() || parts.any(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_cookies_take_the_place_of_the_old() {
        let merge = |sent: &str, set: &[&str]| {
            String::from_utf8(merged(sent.as_bytes(), set.iter().map(|s| s.as_bytes()))).unwrap()
        };
        assert_eq!(merge("", &[]), "");
        assert_eq!(merge("a=1; b=2", &["a=3; Path=/; HttpOnly"]), "b=2; a=3");
        assert_eq!(merge("a=1; b=2", &["a=; Path=/"]), "b=2");
        assert_eq!(merge("a=1", &["a=x; Max-Age=0"]), "");
        assert_eq!(merge("", &["s=1=2; Secure", "t=5"]), "s=1=2; t=5");
        assert_eq!(merge("", &["s=old", "s=new"]), "s=new");
    }
}

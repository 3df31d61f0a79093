//! The app's answer on its way to the browser: its cookies are sealed, ours are added, and what no shared cache may
//! keep says so (design, section 5).

use http::{HeaderMap, HeaderName, HeaderValue, header};
use pingora::http::ResponseHeader;

use super::{failure::Cause, headers::nominations, site::Site};
use crate::{
    metrics::SealedCookie,
    model::DeviceId,
    session::{
        admission::Admissions,
        upstream_cookies::{Down, Scope, UpstreamCookies},
    },
};

/// What is found out about an answer in one pass over its fields.
#[derive(Default)]
struct Seen {
    set_cookie: bool,
    cache_control: bool,
    connection: bool,
    binds_connections: bool,
    one_hop: bool,
}

impl Seen {
    fn of(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for (name, value) in headers {
            if *name == header::SET_COOKIE {
                seen.set_cookie = true;
            } else if *name == header::CACHE_CONTROL {
                seen.cache_control = true;
            } else if *name == header::CONNECTION {
                seen.connection |= !is_usual_connection(value);
            } else if *name == header::WWW_AUTHENTICATE {
                seen.binds_connections |= binds_connection(value.as_bytes());
            } else if is_one_hop(name) {
                seen.one_hop = true;
            }
        }
        seen
    }
}

/// What concerns the connection between proxy and app. Framing and `Connection` itself are pingora's; trailers of
/// an answer may pass.
fn is_one_hop(name: &HeaderName) -> bool {
    const OTHERS: [&str; 3] = ["keep-alive", "proxy-connection", "http2-settings"];
    *name == header::PROXY_AUTHENTICATE
        || *name == header::UPGRADE
        || *name == header::TE
        || OTHERS.contains(&name.as_str())
}

fn is_usual_connection(value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close")
}

/// Whether these credentials, or this challenge, are for a connection instead of a request (threats D19).
pub fn binds_connection(value: &[u8]) -> bool {
    let scheme = value.trim_ascii_start().split(|b| matches!(b, b' ' | b',')).next().unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
}

/// How an answer is dressed.
pub struct Dress<'a> {
    /// The app.
    pub site: &'a Site,
    /// To what its cookies are sealed; `None` when the browser has nothing yet.
    pub scope: Option<Scope>,
    /// It comes from behind the gate.
    pub protected: bool,
    /// The app's `Set-Cookie` lines stay here ([`crate::gate::Permit::withholds_cookies`]).
    pub withholds_cookies: bool,
    /// `Set-Cookie` values of ours that go with it in any case.
    pub cookies: Vec<HeaderValue>,
    /// The `Host` by which the app was called, when that is not the client's: redirects to it lead back here.
    pub upstream_host: Option<HeaderValue>,
}

/// Makes the app's answer what the browser gets.
///
/// # Errors
/// When a cookie cannot be sealed: then the answer must not go out at all.
pub async fn dress(
    header: &mut ResponseHeader,
    mut dress: Dress<'_>,
    sealer: &UpstreamCookies,
    admissions: &Admissions,
) -> Result<(), Cause> {
    let seen = Seen::of(&header.headers);
    if seen.one_hop || seen.connection {
        remove_one_hop(header);
    }
    if seen.binds_connections {
        dress.site.note_bound_connections();
    }
    if let Some(host) = &dress.upstream_host {
        lead_back(header, host)?;
    }
    if seen.set_cookie {
        if dress.withholds_cookies {
            header.remove_header(&header::SET_COOKIE);
        } else {
            // Rare enough to have a place of its own: most answers set no cookie.
            Box::pin(seal_cookies(header, &mut dress, sealer, admissions)).await?;
        }
    }
    if !dress.cookies.is_empty() {
        for cookie in dress.cookies {
            header.append_header("Set-Cookie", cookie).map_err(|_| Cause::Internal)?;
        }
        keep_from_shared_caches(header)?;
    } else if dress.protected && !seen.cache_control {
        header
            .insert_header("Cache-Control", HeaderValue::from_static("private"))
            .map_err(|_| Cause::Internal)?;
    }
    Ok(())
}

/// What the browser gets of an informational answer (1xx). It says something about the answer to come (RFC 8297), and sets
/// nothing: a cookie in it would be neither sealed nor kept from having a name of ours.
pub fn dress_hint(header: &mut ResponseHeader) {
    remove_one_hop(header);
    // Of an answer proper it is written anew.
    header.remove_header(&header::CONNECTION);
    header.remove_header(&header::SET_COOKIE);
}

/// `Location: http://the-apps-own-name/path` → `/path`. An app that is called by its own name knows no other.
fn lead_back(header: &mut ResponseHeader, host: &HeaderValue) -> Result<(), Cause> {
    let Some(location) = header.headers.get(header::LOCATION).and_then(|l| l.to_str().ok()) else {
        return Ok(());
    };
    let own = host.to_str().unwrap_or_default();
    let after_scheme = location.split_once("://").filter(|(s, _)| matches!(*s, "http" | "https"));
    let path = after_scheme.and_then(|(_, rest)| rest.strip_prefix(own)).filter(|rest| {
        // A whole authority, and what follows must not read as another one.
        rest.starts_with('/') && !rest.starts_with("//") && !rest.starts_with("/\\")
    });
    let Some(path) = path.map(str::to_owned) else { return Ok(()) };
    header.insert_header("Location", path).map_err(|_| Cause::Internal)
}

/// Replaces each `Set-Cookie` of the app by its box. A browser without device gets one with the first that needs it.
async fn seal_cookies(
    header: &mut ResponseHeader,
    dress: &mut Dress<'_>,
    sealer: &UpstreamCookies,
    admissions: &Admissions,
) -> Result<(), Cause> {
    let lines: Vec<HeaderValue> = header.headers.get_all(header::SET_COOKIE).iter().cloned().collect();
    if dress.scope.is_none() && lines.iter().any(|line| sealer.needs_seal(&dress.site.app, line)) {
        let (device, cookie) = admissions.new_device().map_err(|_| Cause::Store)?;
        dress.scope = Some(Scope::Device(device));
        dress.cookies.push(cookie);
    }
    // Without a scope nothing is sealed; a name that was learned in this very moment is sealed to nobody.
    let scope = dress.scope.unwrap_or(Scope::Device(DeviceId([0; 16])));
    let sealed = seal_lines(dress.site, &lines, scope, sealer).await?;
    header.remove_header(&header::SET_COOKIE);
    for line in sealed {
        header.append_header("Set-Cookie", line).map_err(|_| Cause::Internal)?;
    }
    Ok(())
}

/// The `Set-Cookie` lines of the app as the browser gets them.
///
/// # Errors
/// When the store fails.
pub async fn seal_lines(
    site: &Site,
    lines: &[HeaderValue],
    scope: Scope,
    sealer: &UpstreamCookies,
) -> Result<Vec<HeaderValue>, Cause> {
    let mut out = Vec::with_capacity(lines.len());
    for line in lines {
        match sealer.down(&site.app, line, scope).await {
            Ok(Down::Plain) => out.push(line.clone()),
            Ok(Down::Sealed(sealed)) => {
                site.metrics.sealed_cookies.count(SealedCookie::Sealed);
                out.push(sealed);
            }
            Ok(Down::Dropped(why)) => {
                site.metrics.sealed_cookies.count(dropped(why));
                let name = line.as_bytes().split(|b| *b == b'=').next().unwrap_or_default();
                let name = String::from_utf8_lossy(name);
                tracing::warn!(app = %site.app.id, cookie = %name.trim(), why, "a cookie of the app was removed");
            }
            Err(error) => {
                tracing::error!(app = %site.app.id, %error, "a cookie of the app could not be sealed");
                return Err(Cause::Store);
            }
        }
    }
    Ok(out)
}

fn dropped(why: &str) -> SealedCookie {
    match why {
        _ if why.contains("too large") || why.contains("too long") => SealedCookie::DroppedTooLarge,
        _ if why.contains("of ours") => SealedCookie::DroppedOurs,
        _ => SealedCookie::DroppedMalformed,
    }
}

/// An answer with a cookie of ours must not be given to somebody else, whatever the app says.
fn keep_from_shared_caches(header: &mut ResponseHeader) -> Result<(), Cause> {
    let lines = header.headers.get_all(header::CACHE_CONTROL);
    let kept = lines.iter().any(|line| {
        let line = line.as_bytes().to_ascii_lowercase();
        [&b"private"[..], b"no-store"].iter().any(|word| line.windows(word.len()).any(|w| w == *word))
    });
    if !kept {
        header
            .insert_header("Cache-Control", HeaderValue::from_static("private"))
            .map_err(|_| Cause::Internal)?;
    }
    Ok(())
}

/// Whether shared caches are invited to keep the answer.
pub fn is_public(headers: &HeaderMap) -> bool {
    headers.get_all(header::CACHE_CONTROL).iter().any(|line| {
        let line = line.as_bytes().to_ascii_lowercase();
        [&b"public"[..], b"s-maxage"].iter().any(|word| line.windows(word.len()).any(|w| w == *word))
    })
}

/// Removes what concerns one hop only, and what the app's `Connection` names.
fn remove_one_hop(header: &mut ResponseHeader) {
    let upgrades = header.status == http::StatusCode::SWITCHING_PROTOCOLS;
    let lines = header.headers.get_all(header::CONNECTION);
    let named: Vec<HeaderName> = nominations(lines.iter().map(HeaderValue::as_bytes))
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .filter(|name| *name != header::SET_COOKIE && !(upgrades && *name == header::UPGRADE))
        .collect();
    let others: Vec<HeaderName> = header
        .headers
        .keys()
        .filter(|name| is_one_hop(name) && !(upgrades && **name == header::UPGRADE))
        .cloned()
        .collect();
    for name in named.into_iter().chain(others) {
        header.remove_header(&name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(lines: &[(&'static str, &str)]) -> ResponseHeader {
        let mut header = ResponseHeader::build(200, None).unwrap();
        for (name, value) in lines {
            header.append_header(*name, *value).unwrap();
        }
        header
    }

    #[test]
    fn what_concerns_one_hop_is_removed() {
        let mut header = answer(&[
            ("Connection", "close, X-Hop"),
            ("X-Hop", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Authenticate", "Basic"),
            ("Set-Cookie", "a=b"),
            ("Content-Type", "text/html"),
        ]);
        let seen = Seen::of(&header.headers);
        assert!(seen.one_hop && seen.connection && seen.set_cookie);
        remove_one_hop(&mut header);
        let mut left: Vec<&str> = header.headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["connection", "content-type", "set-cookie"]);
    }

    /// [D19]
    #[test]
    fn authentication_of_connections_is_recognised() {
        for (value, binds) in [
            ("NTLM", true),
            ("Negotiate", true),
            ("negotiate oRQw", true),
            ("Basic realm=\"NTLM\"", false),
            ("Bearer", false),
        ] {
            assert_eq!(binds_connection(value.as_bytes()), binds, "{value}");
            let seen =
                Seen::of(&answer(&[("WWW-Authenticate", "Basic"), ("WWW-Authenticate", value)]).headers);
            assert_eq!(seen.binds_connections, binds);
        }
    }

    #[test]
    fn redirects_to_the_apps_own_name_lead_back() {
        let own = HeaderValue::from_static("10.0.0.5:8080");
        for (location, expected) in [
            ("http://10.0.0.5:8080/a?b", "/a?b"),
            ("https://10.0.0.5:8080/a", "/a"),
            ("http://10.0.0.5:80801/a", "http://10.0.0.5:80801/a"),
            ("http://10.0.0.5:8080.evil/a", "http://10.0.0.5:8080.evil/a"),
            ("http://10.0.0.5:8080//evil.example", "http://10.0.0.5:8080//evil.example"),
            ("http://10.0.0.5:8080/\\evil.example", "http://10.0.0.5:8080/\\evil.example"),
            ("http://other.example/a", "http://other.example/a"),
            ("/a", "/a"),
        ] {
            let mut header = answer(&[("Location", location)]);
            lead_back(&mut header, &own).unwrap();
            assert_eq!(header.headers[header::LOCATION], expected);
        }
    }

    #[test]
    fn an_answer_with_our_cookie_is_private() {
        for (given, expected) in [
            (None, "private"),
            (Some("public, max-age=600"), "private"),
            (Some("max-age=600"), "private"),
            (Some("no-store"), "no-store"),
            (Some("Private, max-age=5"), "Private, max-age=5"),
        ] {
            let lines: Vec<_> = given.into_iter().map(|v| ("Cache-Control", v)).collect();
            let mut header = answer(&lines);
            keep_from_shared_caches(&mut header).unwrap();
            assert_eq!(header.headers[header::CACHE_CONTROL], expected);
        }
    }
}

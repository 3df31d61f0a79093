//! Forms that come back: only from our own page, only for this login, read in one way only.

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, HeaderName, StatusCode, header},
};
use data_encoding::BASE64URL_NOPAD;

use super::{
    reply::{Fault, text},
    visitor::Visitor,
};
use crate::base::keyring::{KeyId, Keyring};

/// A form of ours has a token, a code and a name.
const MAX_BODY_BYTES: usize = 4096;
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const DOMAIN: &str = "form";

/// The fields of a form, each at most once.
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads the form of a request that came from our own origin.
    ///
    /// # Errors
    /// When it came from elsewhere, is too large, or cannot be read in one way only.
    pub async fn read(visitor: &Visitor, body: Body) -> Result<Self, Fault> {
        Self::read_at_most(visitor, body, MAX_BODY_BYTES).await
    }

    /// The same, for a form in which more is typed.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn read_at_most(visitor: &Visitor, body: Body, most: usize) -> Result<Self, Fault> {
        let headers = visitor.headers();
        if !same_origin(headers, &visitor.visit.authority, visitor.secure()) || !by_navigation(headers) {
            return Err(Fault::ForeignForm);
        }
        let kind = text(headers, &header::CONTENT_TYPE).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Fault::Status(StatusCode::BAD_REQUEST));
        }
        let bytes = to_bytes(body, most).await.map_err(|_| Fault::Status(StatusCode::PAYLOAD_TOO_LARGE))?;
        let mut fields: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(&bytes) {
            if fields.iter().any(|(known, _)| *known == name) {
                return Err(Fault::Status(StatusCode::BAD_REQUEST));
            }
            fields.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(fields))
    }

    /// A field; empty when it is not there.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// Goes on only when the form was made for this purpose and this login or session.
    ///
    /// # Errors
    /// When it was not.
    pub fn demand_token(&self, keyring: &Keyring, purpose: &'static str, id: &[u8; 16]) -> Result<(), Fault> {
        if genuine(keyring, purpose, id, self.get("token")) { Ok(()) } else { Err(Fault::ForeignForm) }
    }

    /// The digits of the code that was typed or pasted: without the white space and dashes that apps and
    /// people put between them.
    pub fn code(&self) -> String {
        self.get("code").chars().filter(|c| !c.is_whitespace() && *c != '-').take(32).collect()
    }
}

/// The token of a form: holds for one purpose and one login or session.
pub(crate) fn token(keyring: &Keyring, purpose: &'static str, id: &[u8; 16]) -> String {
    let (key, tag) = keyring.sign(DOMAIN, &[purpose.as_bytes(), id]);
    BASE64URL_NOPAD.encode(&[key.as_slice(), tag.as_slice()].concat())
}

/// Whether a token was made for this purpose and this login or session.
pub(super) fn genuine(keyring: &Keyring, purpose: &'static str, id: &[u8; 16], token: &str) -> bool {
    let Ok(bytes) = BASE64URL_NOPAD.decode(token.as_bytes()) else { return false };
    let Some((key, tag)) = bytes.split_first_chunk::<{ size_of::<KeyId>() }>() else { return false };
    keyring.verify(DOMAIN, *key, &[purpose.as_bytes(), id], tag)
}

/// Whether a person's navigation asks, as far as the browser tells. Our pages share their origin with the app, and a
/// script that somebody smuggled into the app could read them or post to them; what these two headers say it cannot
/// change (threats D17).
pub(crate) fn by_navigation(headers: &HeaderMap) -> bool {
    [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")].into_iter().all(|(name, wanted)| {
        let name = HeaderName::from_static(name);
        !headers.contains_key(&name) || text(headers, &name) == Some(wanted)
    })
}

/// Whether a browser says that the request came from a page of this very origin. `Sec-Fetch-Site` where there is
/// one; `Origin` for browsers (and plain-http sites) without. Neither of them: no.
fn same_origin(headers: &HeaderMap, authority: &str, secure: bool) -> bool {
    if headers.contains_key(&SEC_FETCH_SITE) {
        return text(headers, &SEC_FETCH_SITE) == Some("same-origin");
    }
    let Some((scheme, host)) = text(headers, &header::ORIGIN).and_then(|o| o.split_once("://")) else {
        return false;
    };
    let default_port = match scheme {
        "https" => ":443",
        "http" if !secure => ":80",
        _ => return false,
    };
    let authority = authority.strip_suffix(default_port).unwrap_or(authority);
    host.eq_ignore_ascii_case(authority)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::{random::SystemRandom, secret::SecretBytes};

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_our_own_origin_may_post() {
        let ok = |pairs: &[_], authority, secure| same_origin(&headers(pairs), authority, secure);
        assert!(ok(&[("sec-fetch-site", "same-origin")], "ecd.example", true));
        assert!(ok(&[("origin", "https://ecd.example")], "ecd.example", true));
        assert!(ok(&[("origin", "https://ECD.example")], "ecd.example:443", true));
        assert!(ok(&[("origin", "https://ecd.example:8443")], "ecd.example:8443", true));
        assert!(ok(&[("origin", "http://localhost:8080")], "localhost:8080", false));

        for site in ["same-site", "cross-site", "none", "", "same-origin, same-origin"] {
            let pairs = [("sec-fetch-site", site), ("origin", "https://ecd.example")];
            assert!(!ok(&pairs, "ecd.example", true), "{site:?}");
        }
        let twice = [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "same-origin")];
        assert!(!ok(&twice, "ecd.example", true));
        for origin in [
            "null",
            "",
            "https://evil.example",
            "https://ecd.example.evil.example",
            "https://evil.example/ecd.example",
            "https://ecd.example:8443",
            "http://ecd.example",
            "ecd.example",
        ] {
            assert!(!ok(&[("origin", origin)], "ecd.example", true), "{origin:?}");
        }
        assert!(!ok(&[], "ecd.example", true), "nothing said is not our own");
    }

    #[test]
    fn a_form_token_holds_for_one_purpose_and_one_login() {
        let masters = [SecretBytes::new(vec![7; 32])];
        let ring = Keyring::new(&masters, Arc::new(SystemRandom)).unwrap();
        let made = token(&ring, "challenge", &[1; 16]);
        assert!(genuine(&ring, "challenge", &[1; 16], &made));
        assert!(!genuine(&ring, "challenge", &[2; 16], &made));
        assert!(!genuine(&ring, "enrol", &[1; 16], &made));
        for broken in ["", "x", "AAAA", &format!("{made}A"), &made.to_lowercase()] {
            assert!(!genuine(&ring, "challenge", &[1; 16], broken), "{broken:?}");
        }
    }
}

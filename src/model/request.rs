//! One request in its one canonical form: what is decided on is what is forwarded (threats D1).

use std::{fmt, net::IpAddr};

/// Names one request in logs, pages and upstream: taken over from a trusted proxy or made here.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(String);

impl RequestId {
    /// Wraps a checked id: 1–64 characters of `[A-Za-z0-9_-]`.
    pub fn new(text: &str) -> Option<Self> {
        let fine = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        fine.then(|| Self(text.to_owned()))
    }

    /// Stands where no id could be made.
    pub fn unknown() -> Self {
        Self("unknown".to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What kind of answer a client can use when it may not pass (design, section 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wants {
    /// A page navigation: may be redirected.
    Page,
    /// A script, an image, a form that cannot be replayed: gets 401 with a problem document.
    Data,
    /// A websocket upgrade: gets 401.
    Upgrade,
}

/// The values of our own cookies in a request; each is at most once there.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnCookies<'a> {
    /// `…-device`
    pub device: Option<&'a str>,
    /// `…-trust`
    pub trust: Option<&'a str>,
    /// `…-login`
    pub login: Option<&'a str>,
    /// `…-session`
    pub session: Option<&'a str>,
}

/// The canonical request.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// Its id.
    pub id: &'a RequestId,
    /// Method.
    pub method: &'a http::Method,
    /// Host, lower case, without port and trailing dot.
    pub host: &'a str,
    /// Canonical path: begins with `/`; these bytes go upstream.
    pub path: &'a str,
    /// The path can be read in two ways ([`super::CanonicalPath::ambiguous`]): never anonymous.
    pub ambiguous: bool,
    /// Raw query without `?`; these bytes go upstream.
    pub query: Option<&'a str>,
    /// The client's address, behind trusted proxies.
    pub client: IpAddr,
    /// What it can do with a refusal.
    pub wants: Wants,
    /// Our cookies.
    pub cookies: OwnCookies<'a>,
}

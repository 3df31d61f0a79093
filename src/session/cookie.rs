//! Our cookies on the wire: their names, attributes, and how they are found in a request.
//!
//! Names are compared byte for byte, and nothing is trimmed but spaces and tabs (RFC 6265bis, 5.6): no quotes, no
//! Unicode space, no `$Version` of RFC 2965. A name of ours that is there twice is [`Ambiguous`]: which of the two
//! would be believed must not be left to chance (threats D7).

use http::HeaderValue;

use crate::model::OwnCookies;

/// What a browser keeps at most: name and value together, in bytes (RFC 6265bis, 5.7).
pub const MAX_BYTES: usize = 4096;
/// How long a device cookie is kept: the longest that browsers allow (RFC 6265bis, 5.5).
pub const DEVICE_MAX_AGE_SECS: u64 = 400 * 24 * 60 * 60;

/// The kinds of our cookies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Device id, 400 days.
    Device,
    /// Trust, until proof + N.
    Trust,
    /// Pending login, 10 minutes.
    Login,
    /// Session, until the browser closes.
    Session,
}

impl Kind {
    /// Every kind.
    pub const ALL: &[Self] = &[Self::Device, Self::Trust, Self::Login, Self::Session];

    const fn suffix(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Trust => "trust",
            Self::Login => "login",
            Self::Session => "session",
        }
    }
}

/// A `Cookie` header that cannot be read in one way only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a cookie of ours is there twice")]
pub struct Ambiguous;

/// The names in use: `__Host-sluis-…`, or `sluis-…` with insecure cookies. Cookies know no ports, so the administrators'
/// pages, which may share their host with an app, have names of their own: `__Host-sluis-admin-…`.
#[derive(Clone, Debug)]
pub struct Names {
    insecure: bool,
    administrators: bool,
}

impl Names {
    /// The names for this configuration.
    pub const fn new(insecure: bool) -> Self {
        Self { insecure, administrators: false }
    }

    /// The names at the administrators' pages.
    pub const fn of_administrators(insecure: bool) -> Self {
        Self { insecure, administrators: true }
    }

    /// Whether cookies are `Secure`.
    pub const fn are_secure(&self) -> bool {
        !self.insecure
    }

    /// The cookie that remembers a chosen language, and the path below which it is valid, when our pages live under
    /// `prefix`. It holds nothing else and decides nothing, so it is not signed.
    pub const fn language<'a>(&self, prefix: &'a str) -> (&'static str, &'a str) {
        if self.administrators { ("sluis-admin-lang", "/") } else { ("sluis-lang", prefix) }
    }

    /// The full name of one.
    pub const fn name(&self, kind: Kind) -> &'static str {
        match (self.insecure, self.administrators, kind) {
            (false, false, Kind::Device) => "__Host-sluis-device",
            (false, false, Kind::Trust) => "__Host-sluis-trust",
            (false, false, Kind::Login) => "__Host-sluis-login",
            (false, false, Kind::Session) => "__Host-sluis-session",
            (true, false, Kind::Device) => "sluis-device",
            (true, false, Kind::Trust) => "sluis-trust",
            (true, false, Kind::Login) => "sluis-login",
            (true, false, Kind::Session) => "sluis-session",
            (false, true, Kind::Device) => "__Host-sluis-admin-device",
            (false, true, Kind::Trust) => "__Host-sluis-admin-trust",
            (false, true, Kind::Login) => "__Host-sluis-admin-login",
            (false, true, Kind::Session) => "__Host-sluis-admin-session",
            (true, true, Kind::Device) => "sluis-admin-device",
            (true, true, Kind::Trust) => "sluis-admin-trust",
            (true, true, Kind::Login) => "sluis-admin-login",
            (true, true, Kind::Session) => "sluis-admin-session",
        }
    }

    /// Whether a cookie name is ours, in any form: such a one never goes upstream and is never taken from there.
    pub fn is_ours(&self, name: &[u8]) -> bool {
        let bare = name.strip_prefix(HOST_PREFIX).unwrap_or(name);
        let suffix = bare.strip_prefix(ADMIN_PREFIX).or_else(|| bare.strip_prefix(OUR_PREFIX));
        suffix.and_then(kind_of).is_some()
    }

    /// Finds our cookies in all `Cookie` lines of a request (HTTP/2 sends several). Byte-exact names.
    ///
    /// # Errors
    /// When one of ours is there twice.
    pub fn find<'a>(&self, lines: impl Iterator<Item = &'a [u8]>) -> Result<OwnCookies<'a>, Ambiguous> {
        let mut found = OwnCookies::default();
        for pair in lines.flat_map(pairs) {
            let Some(kind) = self.kind(pair.name) else { continue };
            let place = match kind {
                Kind::Device => &mut found.device,
                Kind::Trust => &mut found.trust,
                Kind::Login => &mut found.login,
                Kind::Session => &mut found.session,
            };
            // What is not even text is there all the same: it proves nothing, and a second one is one too many.
            let value = std::str::from_utf8(pair.value).unwrap_or_default();
            if place.replace(value).is_some() {
                return Err(Ambiguous);
            }
        }
        Ok(found)
    }

    /// A `Set-Cookie` value. `max_age_secs` `None` = until the browser closes.
    pub fn set(&self, kind: Kind, value: &str, max_age_secs: Option<u64>) -> HeaderValue {
        let name = self.name(kind);
        let age = max_age_secs.map(|secs| format!("; Max-Age={secs}")).unwrap_or_default();
        let secure = if self.insecure { "" } else { "; Secure" };
        sensitive(format!("{name}={value}; Path=/{age}{secure}; HttpOnly; SameSite=Lax"))
    }

    /// A `Set-Cookie` value that removes one.
    pub fn clear(&self, kind: Kind) -> HeaderValue {
        self.set(kind, "", Some(0))
    }

    /// The kind of a name that is in use now.
    fn kind(&self, name: &[u8]) -> Option<Kind> {
        let bare = if self.insecure { name } else { name.strip_prefix(HOST_PREFIX)? };
        bare.strip_prefix(if self.administrators { ADMIN_PREFIX } else { OUR_PREFIX }).and_then(kind_of)
    }
}

/// One `name=value` of a `Cookie` line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pair<'a> {
    /// The whole pair, without spaces and tabs around it.
    pub whole: &'a [u8],
    /// Before the first `=`; empty when there is none.
    pub name: &'a [u8],
    /// After the first `=`.
    pub value: &'a [u8],
}

/// The pairs of one `Cookie` line, split at `;` as browsers join them (RFC 6265bis, 4.2 and 5.8.3). Pieces
/// without `=` come with an empty name; empty pieces do not come.
pub(super) fn pairs(line: &[u8]) -> impl Iterator<Item = Pair<'_>> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        loop {
            let piece = rest?;
            let whole = match memchr::memchr(b';', piece).and_then(|at| piece.split_at_checked(at)) {
                Some((head, tail)) => {
                    rest = tail.get(1..);
                    head
                }
                None => {
                    rest = None;
                    piece
                }
            };
            let whole = trim(whole);
            if !whole.is_empty() {
                let (name, value) = split_pair(whole).unwrap_or((b"", whole));
                return Some(Pair { whole, name, value });
            }
        }
    })
}

/// Splits at the first `=`, spaces and tabs trimmed; `None` without one.
pub(super) fn split_pair(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = pair.split_at_checked(memchr::memchr(b'=', pair)?)?;
    Some((trim(name), trim(rest.get(1..)?)))
}

/// Spaces and tabs off both ends, nothing else.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    let mut bytes = bytes;
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

const HOST_PREFIX: &[u8] = b"__Host-";
const OUR_PREFIX: &[u8] = b"sluis-";
const ADMIN_PREFIX: &[u8] = b"sluis-admin-";

fn kind_of(suffix: &[u8]) -> Option<Kind> {
    Kind::ALL.iter().copied().find(|kind| kind.suffix().as_bytes() == suffix)
}

/// A header value that does not show itself in a debug print.
pub(super) fn sensitive(text: impl Into<bytes::Bytes>) -> HeaderValue {
    // Our tokens are base64url. Were it otherwise, the browser would get nothing rather than something else.
    let mut value =
        HeaderValue::from_maybe_shared(text.into()).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECURE: Names = Names::new(false);

    fn found<'a>(lines: &[&'a str]) -> Result<OwnCookies<'a>, Ambiguous> {
        SECURE.find(lines.iter().map(|line| line.as_bytes()))
    }

    #[test]
    fn set_cookie_has_the_attributes_of_the_design() {
        let set = SECURE.set(Kind::Trust, "abc", Some(60));
        assert_eq!(set, "__Host-sluis-trust=abc; Path=/; Max-Age=60; Secure; HttpOnly; SameSite=Lax");
        assert!(set.is_sensitive());
        assert_eq!(
            SECURE.set(Kind::Session, "abc", None),
            "__Host-sluis-session=abc; Path=/; Secure; HttpOnly; SameSite=Lax",
            "no Max-Age: until the browser closes"
        );
        assert_eq!(
            Names::new(true).set(Kind::Session, "abc", None),
            "sluis-session=abc; Path=/; HttpOnly; SameSite=Lax"
        );
        assert_eq!(
            SECURE.clear(Kind::Login),
            "__Host-sluis-login=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax"
        );
    }

    #[test]
    fn ours_are_found_over_all_lines() {
        let ours = found(&["a=b; __Host-sluis-device=d", "__Host-sluis-session=s;c=d"]).unwrap();
        assert_eq!((ours.device, ours.session, ours.trust, ours.login), (Some("d"), Some("s"), None, None));
    }

    /// Each line of the corpus: what must be found, a tab, the `Cookie` line.
    #[test]
    fn hostile_cookie_lines_are_read_as_written() {
        let corpus = include_str!("../../tests/corpus/own-cookies.txt");
        let mut seen = 0;
        for line in corpus.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (expected, cookie) = line.split_once(" <- ").unwrap();
            let cookie = cookie.replace("\\t", "\t").replace("\\n", "\n");
            let lines: Vec<_> = cookie.split('\n').collect();
            let got = match found(&lines) {
                Err(Ambiguous) => "ambiguous".to_owned(),
                Ok(ours) => format!("session {}", ours.session.unwrap_or("none")),
            };
            assert_eq!(got, expected, "{line}");
            seen += 1;
        }
        assert!(seen > 20);
    }

    #[test]
    fn bytes_that_are_no_text_prove_nothing_and_count_as_one() {
        let lines: [&[u8]; 1] = [b"__Host-sluis-session=\xff\xfe"];
        assert_eq!(SECURE.find(lines.into_iter()).unwrap().session, Some(""));
        let lines: [&[u8]; 1] = [b"__Host-sluis-session=\xff; __Host-sluis-session=good"];
        assert!(SECURE.find(lines.into_iter()).is_err());
    }

    #[test]
    fn both_forms_are_ours_in_either_mode() {
        let all = || [false, true].into_iter().flat_map(|i| [Names::new(i), Names::of_administrators(i)]);
        for names in all() {
            for kind in Kind::ALL {
                assert!(all().all(|other| names.is_ours(other.name(*kind).as_bytes())));
            }
            for other in
                ["sluis-", "sluis-theme", "__Host-device", "__Secure-sluis-session", "Sluis-session", ""]
            {
                assert!(!names.is_ours(other.as_bytes()), "{other}");
            }
        }
        let insecure = Names::new(true);
        let line: &[u8] = b"__Host-sluis-session=a; sluis-session=b";
        assert_eq!(insecure.find([line].into_iter()).unwrap().session, Some("b"));
        assert_eq!(SECURE.find([line].into_iter()).unwrap().session, Some("a"));
    }

    /// Cookies know no ports: what an app's host and the administrators' share is not taken for the other's.
    #[test]
    fn an_administrators_cookie_is_none_of_an_app() {
        let both: &[u8] = b"__Host-sluis-admin-session=a; __Host-sluis-session=b";
        let found = |names: Names| names.find([both].into_iter()).unwrap().session;
        assert_eq!(found(Names::of_administrators(false)), Some("a"));
        assert_eq!(found(SECURE), Some("b"));
        assert_eq!(
            Names::of_administrators(false).set(Kind::Login, "abc", Some(60)),
            "__Host-sluis-admin-login=abc; Path=/; Max-Age=60; Secure; HttpOnly; SameSite=Lax"
        );
    }

    #[test]
    fn pieces_are_trimmed_and_split_once() {
        let line = b" a=b=c ;; \t; novalue;=v; x = y ";
        let got: Vec<_> = pairs(line).map(|pair| (pair.name, pair.value)).collect();
        let expected: Vec<(&[u8], &[u8])> =
            vec![(b"a", b"b=c"), (b"", b"novalue"), (b"", b"v"), (b"x", b"y")];
        assert_eq!(got, expected);
    }
}

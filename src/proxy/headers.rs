//! Which request headers are ours to set, and so never a client's (I6; threats D4).
//!
//! Apps behind CGI, WSGI or PHP see `X-Auth.User`, `x_auth_user` and `X-Auth-User` as one variable. So names are
//! compared folded: lower case, and every byte that is no letter or digit becomes `_`. Folding keeps the length,
//! which makes the test cheap: a name is looked at closely only when one of ours has its length and first byte.
//! The test allocates nothing. What it covers is removed before anything of ours is set; nothing that it covers
//! may be named by `Connection:` either.

use http::HeaderName;

use crate::config::app::Headers;

/// Folded beginnings of managed names.
const PREFIXES: [&[u8]; 3] = [b"x_forwarded_", b"x_sluis_", b"x_original_"];

/// Folded names that are managed for every app: set by us, or believed by apps although anybody can send them.
const NAMES: [&str; 17] = [
    "forwarded",
    "proxy",
    "remote_user",
    "remote_name",
    "remote_email",
    "remote_groups",
    "x_remote_user",
    "x_forwarded",
    "x_real_ip",
    "x_client_ip",
    "client_ip",
    "x_cluster_client_ip",
    "true_client_ip",
    "cf_connecting_ip",
    "x_request_id",
    "x_rewrite_url",
    "x_url_scheme",
];

/// Longest name in the tables; a longer one can only match by its beginning.
const LONGEST: usize = 64;

/// The managed names of one app.
pub struct Managed {
    /// For each length, the first bytes (as bits) that names of this length begin with.
    firsts: [u64; LONGEST + 1],
    names: Vec<Box<[u8]>>,
}

impl Managed {
    /// Folds the fixed names and those of the app's configuration.
    pub fn new(headers: &Headers) -> Self {
        let configured = [&headers.user, &headers.methods, &headers.proved_at];
        let configured = configured.into_iter().flatten().chain(&headers.cleared).map(HeaderName::as_str);
        let mut managed = Self { firsts: [0; LONGEST + 1], names: Vec::new() };
        for name in NAMES.into_iter().chain(configured) {
            let folded: Box<[u8]> = name.bytes().map(fold).collect();
            let place = folded.len().min(LONGEST);
            if let (Some(bits), Some(first)) = (managed.firsts.get_mut(place), folded.first()) {
                *bits |= bit(*first);
            }
            managed.names.push(folded);
        }
        managed
    }

    /// Whether a name is ours under any spelling.
    pub fn covers(&self, name: &[u8]) -> bool {
        let Some(first) = name.first().map(|b| fold(*b)) else {
            return false;
        };
        if first == b'x' && PREFIXES.iter().any(|prefix| begins_folded(name, prefix)) {
            return true;
        }
        let candidates = self.firsts.get(name.len().min(LONGEST)).is_some_and(|bits| bits & bit(first) != 0);
        candidates && self.names.iter().any(|own| own.len() == name.len() && begins_folded(name, own))
    }

    /// Whether `Connection:` may name this header: it then would be dropped on the way up. None of ours may be,
    /// nor one on which identity or framing rests.
    pub fn may_be_nominated(&self, name: &[u8]) -> bool {
        const NEVER: [&str; 7] = [
            "host",
            "cookie",
            "authorization",
            "content-length",
            "content-type",
            "transfer-encoding",
            "traceparent",
        ];
        !self.covers(name) && !NEVER.iter().any(|never| name.eq_ignore_ascii_case(never.as_bytes()))
    }
}

/// Headers that concern one hop only (RFC 9110, section 7.6.1; RFC 9112), besides those that `Connection` names.
pub const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// The names that `Connection` lines list, trimmed; empty ones are left out.
pub fn nominations<'a>(lines: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    lines
        .flat_map(|line| line.split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

/// Whether all bytes may stand in a header name (`token`, RFC 9110, section 5.6.2).
pub fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| TOKEN.get(usize::from(*b)).is_some_and(|fine| *fine))
}

/// Lower case; whatever is no letter or digit becomes `_`.
const fn fold(byte: u8) -> u8 {
    match byte {
        b'A'..=b'Z' => byte | 0x20,
        b'a'..=b'z' | b'0'..=b'9' => byte,
        _ => b'_',
    }
}

const fn bit(folded: u8) -> u64 {
    1 << (folded & 63)
}

fn begins_folded(name: &[u8], folded: &[u8]) -> bool {
    name.len() >= folded.len() && name.iter().zip(folded).all(|(byte, own)| fold(*byte) == *own)
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let b = byte as u8;
        let other = matches!(
            b,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        );
        #[expect(clippy::indexing_slicing, reason = "a constant loop inside the table")]
        {
            table[byte] = b.is_ascii_alphanumeric() || other;
        }
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn managed() -> Managed {
        Managed::new(&Headers {
            user: Some(HeaderName::from_static("x-auth-user")),
            methods: Some(HeaderName::from_static("x-sluis-methods")),
            proved_at: None,
            cleared: vec![HeaderName::from_static("care-groups")],
            pass_authorization: false,
        })
    }

    /// [F4] [D4] Every spelling that reaches the app as the same variable.
    #[test]
    fn i6_spellings_of_managed_names_are_covered() {
        let managed = managed();
        for name in [
            "x-auth-user",
            "X-Auth-User",
            "x_auth_user",
            "X.Auth.User",
            "x~auth!user",
            "Care_Groups",
            "REMOTE.USER",
            "x-forwarded-for",
            "X_Forwarded_Proto",
            "x.forwarded.anything",
            "X-Sluis-Anything",
            "Forwarded",
            "X-Real.IP",
            "Proxy",
            "x-original-url",
            "X_Original_Method",
            "X-Rewrite_URL",
        ] {
            assert!(managed.covers(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn other_names_are_left() {
        let managed = managed();
        for name in [
            "",
            "x",
            "host",
            "cookie",
            "accept",
            "user-agent",
            "x-requested-with",
            "x-http-method-override",
            "x-auth-users",
            "x-auth-use",
            "xx-auth-user",
            "remote-users",
            "x-forwarder",
            "x_underscore_name",
            "traceparent",
            "proxy-authorization",
        ] {
            assert!(!managed.covers(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn names_longer_than_the_table_are_compared_whole() {
        let long = "x-".to_owned() + &"a".repeat(80);
        let managed = Managed::new(&Headers {
            user: Some(HeaderName::from_bytes(long.as_bytes()).unwrap()),
            methods: None,
            proved_at: None,
            cleared: vec![],
            pass_authorization: false,
        });
        assert!(managed.covers(long.replace('-', "_").as_bytes()));
        assert!(!managed.covers((long.clone() + "a").as_bytes()));
    }

    #[test]
    fn i6_connection_may_name_none_of_ours() {
        let managed = managed();
        for name in ["X-Auth.User", "cookie", "Authorization", "HOST", "content-length", "x-forwarded-for"] {
            assert!(!managed.may_be_nominated(name.as_bytes()), "{name}");
        }
        for name in ["keep-alive", "upgrade", "te", "http2-settings", "x-hop"] {
            assert!(managed.may_be_nominated(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn tokens() {
        assert!(is_token(b"x-a_b.c~1"));
        for bad in [&b""[..], b"a b", b"a:b", b"\"a\"", b"a\xff", b"a\n", b"(a"] {
            assert!(!is_token(bad));
        }
    }

    proptest! {
        /// The quick test says the same as folding the whole name and looking it up.
        #[test]
        fn i6_covers_is_folding(
            base in prop::sample::select(vec![
                "x-auth-user", "care-groups", "remote-user", "forwarded", "x-forwarded-for", "x-real-ip", "accept",
            ]),
            swaps in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            upper in any::<bool>(),
        ) {
            let mut name = base.as_bytes().to_vec();
            for (at, byte) in swaps {
                let at = at.index(name.len());
                if !base.as_bytes()[at].is_ascii_alphanumeric() || byte.is_ascii_alphanumeric() {
                    name[at] = byte;
                }
            }
            if upper {
                name.make_ascii_uppercase();
            }
            let folded: String = name.iter().map(|b| char::from(fold(*b))).collect();
            let own = ["x_auth_user", "care_groups"];
            let expected = NAMES.contains(&folded.as_str())
                || own.contains(&folded.as_str())
                || PREFIXES.iter().any(|p| folded.as_bytes().starts_with(p));
            prop_assert_eq!(managed().covers(&name), expected, "{}", folded);
        }

        /// Any separators in place of any separators: still ours.
        #[test]
        fn i6_any_separator(separators in prop::collection::vec(
            any::<u8>().prop_filter("a separator", |b| !b.is_ascii_alphanumeric()), 2,
        )) {
            let name = [b"x".as_slice(), &separators[..1], b"auth", &separators[1..], b"user"].concat();
            prop_assert!(managed().covers(&name));
        }
    }
}

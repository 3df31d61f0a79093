//! What is known of a request before anything of it can be refused: from where it comes, what it can do with a
//! refusal, and its id. Never fails: what cannot be read is as if it were not there (so a broken
//! `X-Forwarded-For` gives the peer's own address, threats 1.1 no. 16).

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use ipnet::IpNet;
use pingora::http::RequestHeader;

use crate::{
    base::random::{NoRandomness, Random, bytes},
    model::{RequestId, Wants},
};

/// What the connection says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connection {
    /// The other end; behind the PROXY protocol the address it gave.
    pub peer: IpAddr,
    /// It speaks TLS with us.
    pub tls: bool,
}

/// What is known of a request from the first moment.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Its id.
    pub id: RequestId,
    /// The client's address, behind trusted proxies.
    pub client: IpAddr,
    /// The client spoke `https` with the outermost trusted proxy.
    pub https: bool,
    /// What it can do with a refusal.
    pub wants: Wants,
    /// The `traceparent` to send on; `None` when the client's is valid and stays.
    pub trace: Option<HeaderValue>,
}

impl Arrival {
    /// Reads it.
    pub fn read(header: &RequestHeader, connection: Connection, trusted: &[IpNet], ids: &Ids) -> Self {
        let headers = &header.headers;
        let by_proxy = is_trusted(trusted, connection.peer);
        let (client, https) = if by_proxy {
            (
                client_behind(headers, connection.peer, trusted),
                forwarded_proto(headers).unwrap_or(connection.tls),
            )
        } else {
            (connection.peer, connection.tls)
        };
        let number = ids.next();
        let given = by_proxy.then(|| given_id(headers)).flatten();
        let trace = (!has_valid_trace(headers)).then(|| trace_parent(&number));
        Self { id: given.unwrap_or_else(|| number.id()), client, https, wants: wants(header), trace }
    }
}

/// What a client can do with a refusal (design, section 3).
pub fn wants(header: &RequestHeader) -> Wants {
    let headers = &header.headers;
    let upgrade = headers.get(header::UPGRADE);
    if upgrade.is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return Wants::Upgrade;
    }
    let navigates = match headers.get(&SEC_FETCH_MODE) {
        Some(mode) => mode.as_bytes() == b"navigate",
        None => {
            // Browsers of before that header: a form they post is a navigation too, or its user would be shown a
            // problem document instead of the challenge.
            let page = match header.method {
                Method::GET | Method::HEAD => true,
                Method::POST => {
                    headers.get(header::CONTENT_TYPE).is_some_and(is_form)
                        && !headers.contains_key("x-requested-with")
                }
                _ => false,
            };
            page && headers.get_all(header::ACCEPT).iter().any(accepts_html)
        }
    };
    if navigates { Wants::Page } else { Wants::Data }
}

fn accepts_html(accept: &HeaderValue) -> bool {
    accept.as_bytes().split(|b| *b == b',').any(|range| {
        let kind = range.split(|b| *b == b';').next().unwrap_or_default();
        kind.trim_ascii().eq_ignore_ascii_case(b"text/html")
    })
}

/// What browsers send when a person submits a form (HTML, "form submission").
fn is_form(content_type: &HeaderValue) -> bool {
    let kind = content_type.as_bytes().split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    [&b"application/x-www-form-urlencoded"[..], b"multipart/form-data"]
        .iter()
        .any(|form| kind.eq_ignore_ascii_case(form))
}

fn is_trusted(trusted: &[IpNet], address: IpAddr) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

/// Walks `X-Forwarded-For` from the right: each trusted proxy vouches for the entry to its left.
fn client_behind(headers: &HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer;
    let lines = headers.get_all("x-forwarded-for");
    for line in lines.iter().rev() {
        for entry in line.as_bytes().rsplit(|b| *b == b',') {
            let Some(address) = forwarded_address(entry) else {
                return peer;
            };
            client = address;
            if !is_trusted(trusted, address) {
                return client;
            }
        }
    }
    client
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:443`.
fn forwarded_address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()))
        .ok()
        .map(|address| address.to_canonical())
}

/// The scheme that the nearest proxy vouches for: the last entry.
fn forwarded_proto(headers: &HeaderMap) -> Option<bool> {
    let last = headers.get_all("x-forwarded-proto").iter().next_back()?;
    let entry = last.as_bytes().rsplit(|b| *b == b',').next()?.trim_ascii();
    match entry.to_ascii_lowercase().as_slice() {
        b"https" | b"wss" => Some(true),
        b"http" | b"ws" => Some(false),
        _ => None,
    }
}

fn given_id(headers: &HeaderMap) -> Option<RequestId> {
    let mut lines = headers.get_all("x-request-id").iter();
    let only = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    RequestId::new(only.to_str().ok()?)
}

/// W3C Trace Context, section 3.2: `version-traceid-parentid-flags`, lower-case hexadecimal, ids not all zero.
fn has_valid_trace(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(&TRACEPARENT).iter();
    let (Some(only), None) = (lines.next(), lines.next()) else {
        return false;
    };
    let mut fields = only.as_bytes().splitn(5, |b| *b == b'-');
    let hex = |field: Option<&[u8]>, length: usize| {
        field.is_some_and(|f| f.len() == length && f.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
    };
    let (version, trace, parent, flags) = (fields.next(), fields.next(), fields.next(), fields.next());
    let more = fields.next().is_some();
    hex(version, 2)
        && version != Some(b"ff")
        && hex(trace, 32)
        && trace.is_some_and(|t| t.iter().any(|b| *b != b'0'))
        && hex(parent, 16)
        && parent.is_some_and(|p| p.iter().any(|b| *b != b'0'))
        && hex(flags, 2)
        && !(more && version == Some(b"00"))
}

fn trace_parent(number: &Number) -> HeaderValue {
    let digits = &number.0;
    let mut text = Vec::with_capacity(55);
    text.extend_from_slice(b"00-");
    text.extend_from_slice(digits);
    text.push(b'-');
    text.extend_from_slice(digits.last_chunk::<16>().unwrap_or(&[b'1'; 16]));
    text.extend_from_slice(b"-01");
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).unwrap_or(HeaderValue::from_static(""))
}

// Names that are looked up in every request: parsed once.
static SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Makes ids that never come twice: 64 random bits of this process, and a count.
pub struct Ids {
    process: u64,
    count: AtomicU64,
}

/// 32 hexadecimal digits, neither half all zero.
struct Number([u8; 32]);

impl Ids {
    /// A new series.
    ///
    /// # Errors
    /// When the machine gives no random bytes.
    pub fn new(random: &dyn Random) -> Result<Self, NoRandomness> {
        let process = u64::from_be_bytes(bytes(random)?);
        Ok(Self { process: process | 1, count: AtomicU64::new(1) })
    }

    /// A number that was never given before, for things that must not be confused.
    pub fn unique(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed)
    }

    fn next(&self) -> Number {
        // An odd factor permutes the numbers: ids do not tell how many requests there were.
        let second = self.unique().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut digits = [b'0'; 32];
        let (left, right) = digits.split_at_mut(16);
        hex(self.process, left);
        hex(second, right);
        Number(digits)
    }
}

impl Number {
    fn id(&self) -> RequestId {
        let text = std::str::from_utf8(&self.0).unwrap_or("0");
        RequestId::new(text).unwrap_or_else(RequestId::unknown)
    }
}

fn hex(mut value: u64, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        let low = (value & 15) as u8;
        *digit = if low < 10 { b'0' + low } else { b'a' + low - 10 };
        value >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SystemRandom;

    fn request(method: &str, lines: &[(&'static str, &str)]) -> RequestHeader {
        let mut header = RequestHeader::build(method, b"/", None).unwrap();
        header.set_version(http::Version::HTTP_11);
        for (name, value) in lines {
            header.append_header(*name, *value).unwrap();
        }
        header
    }

    fn arrive(peer: &str, lines: &[(&'static str, &str)]) -> Arrival {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let ids = Ids::new(&SystemRandom).unwrap();
        let connection = Connection { peer: peer.parse().unwrap(), tls: false };
        Arrival::read(&request("GET", lines), connection, &trusted, &ids)
    }

    /// [D1 of the threats' part 1.1, nos. 15–20] Nobody but a trusted proxy says who the client is.
    #[test]
    fn forwarded_for_counts_from_trusted_proxies_only() {
        for (peer, forwarded, client) in [
            ("192.0.2.9", "1.1.1.1", "192.0.2.9"),
            ("10.0.0.1", "1.1.1.1", "1.1.1.1"),
            ("10.0.0.1", "6.6.6.6, 1.1.1.1", "1.1.1.1"),
            ("10.0.0.1", "6.6.6.6, 1.1.1.1, 10.2.2.2", "1.1.1.1"),
            ("10.0.0.1", "10.3.3.3 , 10.2.2.2", "10.3.3.3"),
            ("10.0.0.1", "1.1.1.1:4711", "1.1.1.1"),
            ("10.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
            ("10.0.0.1", "[2001:db8::7]", "2001:db8::7"),
            ("10.0.0.1", "::ffff:1.1.1.1", "1.1.1.1"),
            ("fd00::1", "2001:db8::7", "2001:db8::7"),
            // What cannot be read changes nothing.
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "unknown", "10.0.0.1"),
            ("10.0.0.1", "1.1.1.1, _hidden", "10.0.0.1"),
            ("10.0.0.1", "1.1.1.1,", "10.0.0.1"),
            ("10.0.0.1", "garbage, 1.1.1.1", "1.1.1.1"),
        ] {
            let arrival = arrive(peer, &[("X-Forwarded-For", forwarded)]);
            assert_eq!(arrival.client, client.parse::<IpAddr>().unwrap(), "{peer} {forwarded}");
        }
        let lines = [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "1.1.1.1, 10.9.9.9")];
        assert_eq!(arrive("10.0.0.1", &lines).client, "1.1.1.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn forwarded_proto_counts_from_trusted_proxies_only() {
        for (peer, proto, https) in [
            ("192.0.2.9", "https", false),
            ("10.0.0.1", "https", true),
            ("10.0.0.1", "HTTPS", true),
            ("10.0.0.1", "https, http", false),
            ("10.0.0.1", "junk", false),
        ] {
            assert_eq!(arrive(peer, &[("X-Forwarded-Proto", proto)]).https, https, "{peer} {proto}");
        }
    }

    #[test]
    fn the_id_of_a_trusted_proxy_is_kept_another_is_not() {
        let lines = [("X-Request-Id", "abc-123")];
        assert_eq!(arrive("10.0.0.1", &lines).id.as_str(), "abc-123");
        assert_ne!(arrive("192.0.2.9", &lines).id.as_str(), "abc-123");
        for bad in ["", "a b", "a\"b", "ä"] {
            let made = arrive("10.0.0.1", &[("X-Request-Id", bad)]).id;
            assert_eq!(made.as_str().len(), 32);
        }
        let twice = [("X-Request-Id", "a"), ("X-Request-Id", "b")];
        assert_eq!(arrive("10.0.0.1", &twice).id.as_str().len(), 32);
    }

    #[test]
    fn a_valid_trace_goes_on_another_is_replaced() {
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(arrive("192.0.2.9", &[("traceparent", valid)]).trace, None);
        for bad in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        ] {
            let made = arrive("192.0.2.9", &[("traceparent", bad)]).trace.expect(bad);
            let again = request("GET", &[("traceparent", made.to_str().unwrap())]);
            assert!(has_valid_trace(&again.headers), "{made:?}");
        }
        assert!(arrive("192.0.2.9", &[("traceparent", valid), ("traceparent", valid)]).trace.is_some());
    }

    #[test]
    fn what_a_client_can_do_with_a_refusal() {
        let html = ("Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8");
        for (method, lines, expected) in [
            ("GET", vec![html], Wants::Page),
            ("HEAD", vec![("Accept", "TEXT/HTML;q=0.5")], Wants::Page),
            ("POST", vec![html], Wants::Data),
            (
                "POST",
                vec![html, ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")],
                Wants::Page,
            ),
            ("POST", vec![html, ("Content-Type", "multipart/form-data; boundary=x")], Wants::Page),
            ("POST", vec![html, ("Content-Type", "application/json")], Wants::Data),
            (
                "POST",
                vec![
                    html,
                    ("Content-Type", "application/x-www-form-urlencoded"),
                    ("X-Requested-With", "XMLHttpRequest"),
                ],
                Wants::Data,
            ),
            ("POST", vec![html, ("Sec-Fetch-Mode", "navigate")], Wants::Page),
            ("GET", vec![html, ("Sec-Fetch-Mode", "cors")], Wants::Data),
            ("GET", vec![("Accept", "*/*")], Wants::Data),
            ("GET", vec![("Accept", "application/text/html")], Wants::Data),
            ("GET", vec![], Wants::Data),
            ("GET", vec![html, ("Upgrade", "WebSocket")], Wants::Upgrade),
        ] {
            assert_eq!(wants(&request(method, &lines)), expected, "{method} {lines:?}");
        }
    }

    #[test]
    fn ids_differ_and_are_well_formed() {
        let ids = Ids::new(&SystemRandom).unwrap();
        let many: std::collections::HashSet<String> =
            (0..1000).map(|_| ids.next().id().as_str().to_owned()).collect();
        assert_eq!(many.len(), 1000);
        assert!(many.iter().all(|id| id.len() == 32));
    }
}

use http::Version;
use proptest::prelude::*;

use super::*;
use crate::proxy::{
    arrival::{Connection, Ids},
    testing::{limits, request, sites},
};

const HOST: (&str, &str) = ("Host", "ecd.example");

fn accept_it(header: &mut RequestHeader) -> Result<Accepted, Cause> {
    accept(header, None, &sites(), &limits())
}

fn refused(mut header: RequestHeader) -> Option<u16> {
    accept_it(&mut header).err().and_then(Cause::status).map(|status| status.as_u16())
}

/// [D1] Hosts find their app in every spelling, and go on in one.
#[test]
fn hosts() {
    for (host, expected) in [
        ("ecd.example", Ok("ecd.example")),
        ("ECD.Example", Ok("ecd.example")),
        ("ecd.example.", Ok("ecd.example")),
        ("ecd.example:8443", Ok("ecd.example:8443")),
        ("ECD.example.:8443", Ok("ecd.example:8443")),
        ("ecd.example:", Ok("ecd.example")),
        ("[2001:DB8::1]:8443", Ok("[2001:db8::1]:8443")),
        ("other.example", Err(421)),
        ("ecd.example.evil.example", Err(421)),
        ("", Err(400)),
        (".", Err(400)),
        (":80", Err(400)),
        ("ecd.example:8x", Err(400)),
        ("ecd.example:123456", Err(400)),
        ("ecd.example:80:80", Err(400)),
        ("user@ecd.example", Err(400)),
        ("ecd.example/evil", Err(400)),
        ("ecd.example evil", Err(400)),
        ("ecd.example,evil", Err(400)),
        ("ecd%2eexample", Err(400)),
        ("[::1", Err(400)),
        ("[::1]x", Err(400)),
        ("[ecd.example]", Err(400)),
    ] {
        let mut header = request("GET", "/", &[("Host", host)]);
        match (accept_it(&mut header), expected) {
            (Ok(_), Ok(canonical)) => {
                assert_eq!(authority(&header), canonical, "{host}");
                assert!(!super::host(&header).contains("84"), "{host}");
            }
            (Err(cause), Err(status)) => {
                assert_eq!(cause.status().map(|s| s.as_u16()), Some(status), "{host}");
            }
            (got, _) => panic!("{host}: {got:?}"),
        }
    }
    assert_eq!(refused(request("GET", "/", &[])), Some(400), "no Host");
    assert_eq!(refused(request("GET", "/", &[HOST, HOST])), Some(400), "two Hosts");
}

/// HTTP/2 has the host in `:authority`; the app gets it as `Host`.
#[test]
fn the_authority_of_http2_becomes_the_host() {
    let h2 = |uri: &str| {
        let mut header = request("GET", "/", &[]);
        header.set_version(Version::HTTP_2);
        header.set_uri(uri.parse().unwrap());
        header
    };
    let mut header = h2("https://ECD.example/a?b");
    assert!(accept_it(&mut header).is_ok());
    assert_eq!(header.headers[header::HOST], "ecd.example");
    assert_eq!((header.uri.path(), header.uri.query()), ("/a", Some("b")));

    let mut header = h2("https://ecd.example/");
    header.insert_header("Host", "wiki.example").unwrap();
    assert_eq!(refused(header), Some(400));
    let mut header = h2("https://ecd.example/");
    header.insert_header("Transfer-Encoding", "chunked").unwrap();
    assert_eq!(refused(header), Some(400));
}

#[test]
fn targets() {
    for (target, expected) in [
        ("/", Ok("/")),
        ("/a/b?c=d&e", Ok("/a/b?c=d&e")),
        ("/a?", Ok("/a?")),
        ("http://ecd.example/a?b", Ok("/a?b")),
        ("HTTP://ecd.example", Ok("/")),
        ("http://ecd.example?x", Ok("/?x")),
        ("http://evil.example/a", Err(400)),
        ("http://ecd.example:80/a", Err(400)),
        ("ftp://ecd.example/a", Err(400)),
        ("*", Err(400)),
        ("?x", Err(400)),
        ("a/b", Err(400)),
        ("/a/../b", Err(400)),
        ("//a", Err(400)),
        ("/a%2fb", Err(400)),
        ("/a;b", Err(400)),
        ("/a%00", Err(400)),
    ] {
        let mut header = request("GET", target, &[HOST]);
        match (accept_it(&mut header), expected) {
            (Ok(_), Ok(sent)) => {
                assert_eq!(header.raw_path(), sent.as_bytes(), "{target}");
                assert_eq!(header.uri.path_and_query().unwrap().as_str(), sent, "{target}");
            }
            (Err(cause), Err(status)) => {
                assert_eq!(cause.status().map(|s| s.as_u16()), Some(status), "{target}");
            }
            (got, _) => panic!("{target}: {got:?}"),
        }
    }
}

#[test]
fn what_an_app_tolerates_is_marked() {
    let mut header = request("GET", "/a;jsessionid=1", &[("Host", "wiki.example")]);
    let accepted = accept_it(&mut header).unwrap();
    assert!(accepted.ambiguous);
    let mut header = request("GET", "/a", &[("Host", "wiki.example")]);
    assert!(!accept_it(&mut header).unwrap().ambiguous);
}

#[test]
fn methods() {
    for (method, status) in [
        ("TRACE", Some(405)),
        ("CONNECT", Some(405)),
        ("TRACK", Some(405)),
        ("PROPFIND", None),
        ("PUT", None),
    ] {
        assert_eq!(refused(request(method, "/", &[HOST])), status, "{method}");
    }
}

/// [D18 of the threats' extra facts] Where a body ends is beyond doubt, or the request is refused.
#[test]
fn framing() {
    for (lines, status) in [
        (vec![("Content-Length", "5")], None),
        (vec![("Content-Length", "0")], None),
        (vec![("Content-Length", "1001")], Some(413)),
        (vec![("Content-Length", "99999999999999999999999")], Some(413)),
        (vec![("Content-Length", "5"), ("Content-Length", "5")], Some(400)),
        (vec![("Content-Length", "5, 5")], Some(400)),
        (vec![("Content-Length", "+5")], Some(400)),
        (vec![("Content-Length", "-1")], Some(400)),
        (vec![("Content-Length", "")], Some(400)),
        (vec![("Transfer-Encoding", "gzip, chunked")], Some(400)),
        (vec![("Transfer-Encoding", "chunked, chunked")], Some(400)),
        (vec![("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")], Some(400)),
        (vec![("Transfer-Encoding", "identity")], Some(400)),
        (vec![("Transfer-Encoding", "\tchunked")], Some(400)),
        (vec![("Transfer-Encoding", "chunked"), ("Content-Length", "5")], Some(400)),
        (vec![("Expect", "100-continue")], None),
        (vec![("Expect", "100-Continue")], None),
        (vec![("Expect", "200-ok")], Some(417)),
        (vec![("Expect", "100-continue"), ("Expect", "100-continue")], Some(417)),
    ] {
        let mut all = vec![HOST];
        all.extend(&lines);
        assert_eq!(refused(request("POST", "/", &all)), status, "{lines:?}");
    }
}

/// The parser drops `Content-Length` beside `Transfer-Encoding`: the bytes tell.
#[test]
fn raw_faults() {
    let chunked = |raw: &[u8]| {
        let mut header = request("POST", "/", &[HOST, ("Transfer-Encoding", "chunked")]);
        accept(&mut header, Some(raw), &sites(), &limits()).err().and_then(Cause::status).map(|s| s.as_u16())
    };
    let head = "POST / HTTP/1.1\r\nHost: ecd.example\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(chunked(format!("{head}\r\n").as_bytes()), None);
    for line in ["Content-Length: 5\r\n", "content-LENGTH:5\r\n", "X: y\nA: b\r\n", "X: y\n"] {
        assert_eq!(chunked(format!("{head}{line}\r\n").as_bytes()), Some(400), "{line:?}");
    }
    assert_eq!(chunked(format!("{head}\n").as_bytes()), Some(400));
    let fragment = head.replace("POST /", "POST /#x");
    assert_eq!(chunked(format!("{fragment}\r\n").as_bytes()), Some(400));
    let leading = format!("\r\n{fragment}\r\n");
    assert_eq!(chunked(leading.as_bytes()), Some(400));
    // A `#` elsewhere is nobody's business.
    assert_eq!(chunked(format!("{head}X-Color: #fff\r\n\r\n").as_bytes()), None);
}

#[test]
fn limits_of_the_header() {
    let many: Vec<(&'static str, &str)> = (0..100).map(|_| ("X-A", "1")).chain([HOST]).collect();
    assert_eq!(refused(request("GET", "/", &many)), Some(431));
    assert_eq!(refused(request("GET", "/", &many[1..])), None);
    let large = "a".repeat(16 * 1024);
    assert_eq!(refused(request("GET", "/", &[HOST, ("X-A", &large)])), Some(431));
}

/// [F4] What is managed is gone in every spelling, and cannot be named by `Connection`.
#[test]
fn i6_managed_headers_are_removed() {
    let spellings = [
        ("Remote-User", "evil"),
        ("remote_user", "evil"),
        ("REMOTE.USER", "evil"),
        ("Remote-Email", "evil"),
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-For", "7.7.7.7"),
        ("X_Forwarded_Host", "evil"),
        ("Forwarded", "for=6.6.6.6"),
        ("X-Real-IP", "6.6.6.6"),
        ("X-Sluis-Methods", "totp"),
        ("Proxy", "http://evil"),
        ("X-Original-URL", "/admin"),
        ("X-Rewrite-URL", "/admin"),
        ("X-Request-Id", "1"),
    ];
    let kept = [
        HOST,
        ("Cookie", "a=b"),
        ("X-HTTP-Method-Override", "PUT"),
        ("x_custom", "1"),
        ("Authorization", "x"),
    ];
    let all: Vec<_> = kept.iter().chain(&spellings).copied().collect();
    let mut header = request("GET", "/", &all);
    accept_it(&mut header).unwrap();
    let mut left: Vec<&str> = header.headers.keys().map(|name| name.as_str()).collect();
    left.sort_unstable();
    assert_eq!(left, ["authorization", "cookie", "host", "x-http-method-override", "x_custom"]);

    for named in ["Remote-User", "keep-alive, x.forwarded.for", "close,Cookie", "Host", "Authorization"] {
        assert_eq!(refused(request("GET", "/", &[HOST, ("Connection", named)])), Some(400), "{named}");
    }
    for named in ["keep-alive", "close", "Upgrade, HTTP2-Settings", "TE", "X-Hop"] {
        assert_eq!(refused(request("GET", "/", &[HOST, ("Connection", named)])), None, "{named}");
    }
}

/// [D7] A cookie of ours that is there twice is refused, also over several lines.
#[test]
fn ours_twice_is_refused() {
    let names = Names::new(false);
    let arrival_of = |header: &RequestHeader| {
        let connection = Connection { peer: "192.0.2.1".parse().unwrap(), tls: true };
        let ids = Ids::new(&crate::base::random::SystemRandom).unwrap();
        Arrival::read(header, connection, &[], &ids)
    };
    let lines = [HOST, ("Cookie", "__Host-sluis-session=a; x=1"), ("Cookie", "__Host-sluis-session=b")];
    let mut header = request("GET", "/", &lines);
    let arrival = arrival_of(&header);
    let accepted = accept_it(&mut header).unwrap();
    assert!(view(&header, &arrival, accepted, &names).is_err());

    let lines = [HOST, ("Cookie", "__Host-sluis-session=a; x=1"), ("Cookie", "__Host-sluis-device=b")];
    let mut header = request("GET", "/p?q", &lines);
    let accepted = accept_it(&mut header).unwrap();
    let view = view(&header, &arrival, accepted, &names).unwrap();
    assert_eq!((view.host, view.path, view.query), ("ecd.example", "/p", Some("q")));
    assert_eq!((view.cookies.session, view.cookies.device), (Some("a"), Some("b")));
}

proptest! {
    /// [D1] Whatever is accepted is sent exactly as it was decided on, and has nothing in it that two programs read
    /// differently.
    #[test]
    fn what_is_accepted_is_what_is_sent(target in "[ -~]{0,40}", prefix in prop::bool::ANY) {
        let target = if prefix { format!("/{target}") } else { target };
        let Ok(mut header) = RequestHeader::build("GET", target.as_bytes(), None) else { return Ok(()) };
        header.set_version(Version::HTTP_11);
        header.insert_header("Host", "ecd.example").unwrap();
        if accept_it(&mut header).is_ok() {
            let sent = std::str::from_utf8(header.raw_path()).unwrap().to_owned();
            let decided = match header.uri.query() {
                Some(query) => format!("{}?{query}", header.uri.path()),
                None => header.uri.path().to_owned(),
            };
            prop_assert_eq!(&sent, &decided);
            prop_assert!(sent.starts_with('/') && !sent.starts_with("//"));
            prop_assert!(!header.uri.path().contains("/../") && !sent.contains('#') && !sent.contains(' '));
        }
    }
}

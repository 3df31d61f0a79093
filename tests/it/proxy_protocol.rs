//! The PROXY protocol in front of the plain listener: who the client is comes from a trusted proxy only.

use std::net::SocketAddr;

use crate::support::{Demo, Sluis, raw, sluis::care_records};

const REQUIRED: &str = "http: { address: \"127.0.0.1:0\", proxy_protocol: required }";

/// Sluis that trusts these networks; `/headers` needs no session.
fn behind(trusted: &str) -> (Demo, Sluis) {
    let app = Demo::start();
    let apps = care_records(app.address).replace("/static/*]", "/static/*, /headers]");
    let text = format!("insecure_cookies: true\ntrusted_proxies: [{trusted}]\n{apps}");
    let sluis = Sluis::start_on(tempfile::tempdir().unwrap(), REQUIRED, &text);
    (app, sluis)
}

const REQUEST: &str = "GET /headers HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

fn version_2(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    let octets = |a: SocketAddr| match a.ip() {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    header.push(if from.is_ipv4() { 0x11 } else { 0x21 });
    let body =
        [octets(from), octets(to), from.port().to_be_bytes().into(), to.port().to_be_bytes().into()].concat();
    header.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    header.extend(body);
    header
}

/// [F4] Both versions, both families: the app and the audit log see the address that the proxy names, and nothing
/// that the client itself says.
#[test]
fn the_app_sees_the_address_that_the_proxy_names() {
    let (_app, sluis) = behind("127.0.0.0/8");
    let six = version_2("[2001:db8::7]:4711".parse().unwrap(), "[2001:db8::1]:80".parse().unwrap());
    let four = version_2("203.0.113.8:4711".parse().unwrap(), "10.0.0.1:80".parse().unwrap());
    for (header, client) in [
        (b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 80\r\n".to_vec(), "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::9 2001:db8::1 4711 80\r\n".to_vec(), "2001:db8::9"),
        (four, "203.0.113.8"),
        (six, "2001:db8::7"),
    ] {
        let forged = REQUEST
            .replace("\r\n\r\n", "\r\nX-Forwarded-For: 198.51.100.66\r\nX-Real-IP: 198.51.100.66\r\n\r\n");
        let answer = raw::send_until_answered(sluis.address, &[&header[..], forged.as_bytes()].concat());
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains(&format!("x-forwarded-for: {client}\n")), "{client}: {answer}");
        assert!(!answer.contains("198.51.100.66") && !answer.contains("127.0.0.1,"), "{answer}");
    }

    let body = "username=anna&password=wrong";
    let login = format!(
        "PROXY TCP4 203.0.113.77 10.0.0.1 4711 80\r\nPOST /login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = raw::send_until_answered(sluis.address, login.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200"), "the app's own refusal: {answer}");
    let mut sluis = sluis;
    sluis.process.signal("TERM");
    sluis.process.wait();
    let audit = sluis.audit();
    assert!(
        audit.iter().any(|e| e["event"] == "first_factor_refused" && e["address"] == "203.0.113.77"),
        "{audit:?}"
    );
}

/// A connection without the header, or with one from somebody who is no trusted proxy, gets no answer at all.
#[test]
fn without_the_header_or_without_trust_there_is_no_answer() {
    let header = "PROXY TCP4 203.0.113.7 10.0.0.1 4711 80\r\n";
    let (_app, sluis) = behind("127.0.0.0/8");
    for request in
        [REQUEST.to_owned(), format!("PROXY TCP4 nonsense\r\n{REQUEST}"), format!(" {header}{REQUEST}")]
    {
        let answer = raw::send_until_answered(sluis.address, request.as_bytes());
        assert_eq!(answer, "", "{request:?}");
    }
    let again = raw::send_until_answered(sluis.address, format!("{header}{REQUEST}").as_bytes());
    assert!(again.starts_with("HTTP/1.1 200"), "the listener goes on: {again}");

    let (_app, sluis) = behind("192.0.2.0/24");
    for request in [REQUEST.to_owned(), format!("{header}{REQUEST}")] {
        let answer = raw::send_until_answered(sluis.address, request.as_bytes());
        assert_eq!(answer, "", "{request:?}");
    }
}

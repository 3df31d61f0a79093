//! Where an app runs and how it is reached.

use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    time::Duration,
};

use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::{Place, Reader};
use crate::config::{
    Listen,
    app::{Transport, Upstream},
    fault::show,
    raw,
};

const ALLOWED: &str = "http://host:port or https://host:port, without path and password";

/// The upstreams of an app.
pub fn upstreams(
    reader: &mut Reader<'_>,
    typed: &[raw::Upstream],
    place: &Place<'_>,
    listen: &Listen,
) -> Vec<Upstream> {
    if typed.is_empty() {
        reader.report.fault(place, format!("no upstream; allowed: at least one, {ALLOWED}"));
    }
    let mut found: Vec<Upstream> = Vec::new();
    for (index, upstream) in typed.iter().enumerate() {
        let place = place.item(index);
        let (url, place, weight) = match upstream {
            raw::Upstream::Url(url) => (url, place, 1),
            raw::Upstream::Weighted(weighted) => match &weighted.url {
                Some(url) => (url, place.key("url"), weighted.weight),
                None => continue,
            },
        };
        let Some((tls, host, port)) = split(url) else {
            // What stands before an @ may be a password.
            let found = if url.contains('@') { "a URL with a password".to_owned() } else { show(url) };
            reader.report.fault(&place, format!("found {found}; allowed: {ALLOWED}"));
            continue;
        };
        if found.iter().any(|u| u.host == host && u.port == port) {
            reader.report.bad(&place, url, "each upstream once; use weight for a larger share");
            continue;
        }
        let addresses = look_up(&host, port);
        if addresses.is_empty() {
            reader
                .report
                .warn(&place, format!("{} has no address now; requests to it will fail", show(&host)));
        }
        if addresses.iter().any(|address| is_own(*address, listen)) {
            reader.report.bad(
                &place,
                url,
                "an app; this is Sluis itself, requests would go round in a circle",
            );
        }
        found.push(Upstream { tls, host, port, addresses, weight });
    }
    found
}

fn split(url: &str) -> Option<(bool, String, u16)> {
    let (tls, rest) = match url.split_once("://")? {
        (scheme, rest) if scheme.eq_ignore_ascii_case("http") => (false, rest),
        (scheme, rest) if scheme.eq_ignore_ascii_case("https") => (true, rest),
        _ => return None,
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            let fine = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            (host, port.parse().ok().filter(|p| fine && *p != 0)?)
        }
        _ => (authority, if tls { 443 } else { 80 }),
    };
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let fine = match bare {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => super::app::is_host_name(&host.to_ascii_lowercase()),
    };
    fine.then(|| (tls, bare.unwrap_or(host).to_owned(), port))
}

/// The addresses of a name now. An address is its own.
fn look_up(host: &str, port: u16) -> Vec<SocketAddr> {
    match host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => (host, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default(),
    }
}

fn is_own(address: SocketAddr, listen: &Listen) -> bool {
    let own = [listen.http.as_ref().map(|h| h.address), listen.https.as_ref().map(|h| h.address)];
    own.into_iter().flatten().any(|own| {
        own.port() == address.port()
            && (own.ip() == address.ip() || (own.ip().is_unspecified() && address.ip().is_loopback()))
    })
}

/// How they are spoken to.
pub fn transport(reader: &mut Reader<'_>, typed: &raw::Transport, place: &Place<'_>) -> Transport {
    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);
    let at = |key| place.key(key);
    let ca_file = typed.ca_file.as_deref().map(|file| {
        if let Some(pem) = reader.readable(file, &at("ca_file")) {
            let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
            if roots.map_or(true, |roots| roots.is_empty()) {
                let text = format!("no certificate in {}; allowed: a PEM file with roots", show(file));
                reader.report.fault(&at("ca_file"), text);
            }
        }
        reader.directory.join(file)
    });
    if !typed.verify_certificate {
        reader
            .report
            .warn(&at("verify_certificate"), "anybody on the way to the app can read and change all of it");
        if ca_file.is_some() {
            reader.report.bad(&at("verify_certificate"), "false", "true with a ca_file, or no ca_file");
        }
    }
    Transport {
        connect_timeout: reader.duration(
            &typed.connect_timeout,
            &at("connect_timeout"),
            SECOND / 10..=60 * SECOND,
        ),
        read_timeout: reader.duration(&typed.read_timeout, &at("read_timeout"), SECOND..=HOUR),
        write_timeout: reader.duration(&typed.write_timeout, &at("write_timeout"), SECOND..=HOUR),
        idle_timeout: reader.duration(&typed.idle_timeout, &at("idle_timeout"), SECOND..=HOUR),
        preserve_host: typed.preserve_host,
        verify_certificate: typed.verify_certificate,
        ca_file,
        health_path: typed.health_path.as_deref().map(|path| {
            reader.app_target(path, &at("health_path"));
            path.to_owned()
        }),
        health_interval: reader.duration(
            &typed.health_interval,
            &at("health_interval"),
            SECOND..=600 * SECOND,
        ),
        tunnel_idle_timeout: reader.duration(
            &typed.tunnel_idle_timeout,
            &at("tunnel_idle_timeout"),
            SECOND..=24 * HOUR,
        ),
    }
}

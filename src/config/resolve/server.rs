//! The server as a whole: listeners, store, limits, logging.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use rustls::{crypto::ring, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{Place, Reader};
use crate::config::{
    self, Admin, AdminListen, Audit, HttpListen, HttpsListen, Limits, Listen, Log, OnFailure, ProxyProtocol,
    Revocation, Rotate, Shutdown, StoreConfig, SyslogTarget, TlsFiles,
    fault::show,
    raw::{self, Raw},
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// `sun_path` of a Unix socket address has 108 bytes on Linux, with the NUL.
const LONGEST_SOCKET_PATH: usize = 107;

/// The store.
pub fn store(reader: &mut Reader<'_>, typed: Option<&raw::Store>, place: &Place<'_>) -> Option<StoreConfig> {
    match typed? {
        raw::Store::Sqlite(sqlite) => {
            let path = sqlite.path.as_deref()?;
            Some(StoreConfig::Sqlite { path: reader.writable(path, &place.key("sqlite").key("path")) })
        }
        raw::Store::Redis(redis) => super::shared::redis(reader, redis, &place.key("redis"))
            .map(|redis| StoreConfig::Redis(Box::new(redis))),
        raw::Store::Memory => {
            reader.report.warn(
                place,
                "memory: every enrolment, lock-out and used code is forgotten when Sluis stops; for demos and tests only",
            );
            Some(StoreConfig::Memory)
        }
    }
}

/// The listeners.
pub fn listen(reader: &mut Reader<'_>, raw: &Raw, root: &Place<'_>, store: Option<&StoreConfig>) -> Listen {
    let place = root.key("listen");
    let Some(typed) = &raw.listen else {
        return Listen { http: None, https: None, operations: None, admin: None, control: None };
    };
    let http = typed.http.as_ref().and_then(|http| {
        Some(HttpListen {
            address: reader.address(http.address.as_deref(), &place.key("http").key("address"))?,
            proxy_protocol: proxy(http.proxy_protocol),
        })
    });
    let https = typed.https.as_ref().and_then(|https| tls(reader, https, &place.key("https")));
    if typed.http.is_none() && typed.https.is_none() {
        let broken = place.key("http").is_given() || place.key("https").is_given();
        if !broken {
            reader.report.fault(&place, "no listener; allowed: http, https or both");
        }
    }
    let operations = reader.address(typed.operations.as_deref(), &place.key("operations"));
    let admin = typed.admin.as_ref().and_then(|admin| admin_listen(reader, admin, &place.key("admin")));
    let mut seen: Vec<SocketAddr> = Vec::new();
    let all = [
        (place.key("http").key("address"), http.as_ref().map(|h| h.address)),
        (place.key("https").key("address"), https.as_ref().map(|h| h.address)),
        (place.key("operations"), operations),
        (place.key("admin").key("address"), admin.as_ref().map(|a| a.address)),
    ];
    for (place, address) in all {
        let Some(address) = address.filter(|a| a.port() != 0) else { continue };
        if seen.contains(&address) {
            reader.report.bad(&place, &address.to_string(), "each address and port once");
        }
        seen.push(address);
    }
    let control = control(reader, typed.control.as_deref(), &place.key("control"), store);
    Listen { http, https, operations, admin, control }
}

const fn proxy(typed: raw::Proxy) -> ProxyProtocol {
    match typed {
        raw::Proxy::Off => ProxyProtocol::Off,
        raw::Proxy::Required => ProxyProtocol::Required,
    }
}

fn tls(reader: &mut Reader<'_>, typed: &raw::Https, place: &Place<'_>) -> Option<HttpsListen> {
    let address = reader.address(typed.address.as_deref(), &place.key("address"));
    let files = pair(reader, typed.certificate_file.as_deref()?, typed.key_file.as_deref()?, place);
    Some(HttpsListen {
        address: address?,
        proxy_protocol: proxy(typed.proxy_protocol),
        certificate_file: files.certificate_file,
        key_file: files.key_file,
        http2: typed.http2,
    })
}

fn admin_listen(reader: &mut Reader<'_>, typed: &raw::AdminListen, place: &Place<'_>) -> Option<AdminListen> {
    let address = reader.address(typed.address.as_deref(), &place.key("address"));
    let tls = match (typed.certificate_file.as_deref(), typed.key_file.as_deref()) {
        (Some(certificate), Some(key)) => Some(pair(reader, certificate, key, place)),
        (None, None) => {
            if let Some(open) = address.filter(|address| !address.ip().is_loopback()) {
                let text = format!(
                    "{open} is open to others, and tokens and passwords would go there in the clear; allowed: \
                     certificate_file and key_file as well, or an address on loopback such as 127.0.0.1:9181"
                );
                reader.report.fault(place, text);
            }
            None
        }
        _ => {
            reader.report.fault(place, "one of certificate_file and key_file; allowed: both or none");
            None
        }
    };
    Some(AdminListen { address: address?, tls })
}

/// A certificate that does not load would stop its listener at the start, so it is looked at here.
fn pair(reader: &mut Reader<'_>, certificate: &str, key: &str, place: &Place<'_>) -> TlsFiles {
    let chain = reader.readable(certificate, &place.key("certificate_file")).and_then(|pem| {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        if chain.is_none() {
            let text = format!("no certificate in {}; allowed: a PEM file with the chain", show(certificate));
            reader.report.fault(&place.key("certificate_file"), text);
        }
        chain
    });
    let private = reader.readable(key, &place.key("key_file")).and_then(|pem| {
        let pem = zeroize::Zeroizing::new(pem);
        let private = PrivateKeyDer::from_pem_slice(&pem).ok();
        if private.is_none() {
            let text = format!("no private key in {}; allowed: a PEM file with one", show(key));
            reader.report.fault(&place.key("key_file"), text);
        }
        private
    });
    if let (Some(chain), Some(private)) = (chain, private) {
        reader.check_mode(&reader.directory.join(key), &place.key("key_file"));
        if let Err(error) = CertifiedKey::from_der(chain, private, &ring::default_provider()) {
            let text = format!(
                "the key does not fit the certificate ({error}); allowed: the key of the certificate"
            );
            reader.report.fault(&place.key("key_file"), text);
        }
    }
    TlsFiles { certificate_file: reader.directory.join(certificate), key_file: reader.directory.join(key) }
}

fn control(
    reader: &mut Reader<'_>,
    typed: Option<&str>,
    place: &Place<'_>,
    store: Option<&StoreConfig>,
) -> Option<PathBuf> {
    let path = match (typed, store) {
        (Some("off"), _) => return None,
        (Some(path), _) => reader.writable(path, place),
        (None, Some(StoreConfig::Sqlite { path })) => {
            path.parent().unwrap_or(Path::new("")).join("sluis.sock")
        }
        (None, _) => return None,
    };
    let length = path.as_os_str().len();
    if length > LONGEST_SOCKET_PATH {
        let text =
            format!("the path has {length} bytes; allowed: at most {LONGEST_SOCKET_PATH} for a socket");
        reader.report.fault(place, text);
    }
    Some(path)
}

/// Whom the address of the client is believed from.
pub fn check_trust(reader: &mut Reader<'_>, raw: &Raw, root: &Place<'_>, trusted: &[IpNet]) {
    let place = root.key("trusted_proxies");
    for (index, network) in trusted.iter().enumerate() {
        if network.prefix_len() == 0 {
            reader.report.warn(
                &place.item(index),
                format!("{network}: every client can claim any address and that it came by https"),
            );
        }
    }
    let Some(listen) = &raw.listen else { return };
    let listen_place = root.key("listen");
    let wanted = [
        ("http", listen.http.as_ref().map(|h| h.proxy_protocol)),
        ("https", listen.https.as_ref().map(|h| h.proxy_protocol)),
    ];
    for (name, proxy) in wanted {
        if matches!(proxy, Some(raw::Proxy::Required)) && raw.trusted_proxies.is_empty() {
            reader.report.bad(
                &listen_place.key(name).key("proxy_protocol"),
                "required",
                "trusted_proxies as well; without them every connection is refused",
            );
        }
    }
    if listen.http.is_some() && raw.trusted_proxies.is_empty() && !raw.insecure_cookies {
        reader.report.warn(
            &listen_place.key("http"),
            "plain http without trusted_proxies: Sluis cannot know the clients' addresses, nor that they came by https; \
             name the ingress or load balancer in front of it",
        );
    }
}

/// Where our own pages live.
pub fn prefix(reader: &mut Reader<'_>, typed: &str, place: &Place<'_>) -> String {
    let fine = typed.len() > 1
        && typed.len() <= 40
        && typed.starts_with('/')
        && !typed.ends_with('/')
        && !typed.contains("//")
        && !typed.split('/').any(|segment| segment == "." || segment == "..")
        && typed.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"/._-~".contains(&b));
    if !fine {
        reader.report.bad(
            place,
            typed,
            "a path such as /.sluis: begins with /, no / at the end, of a-z, 0-9 and . _ - ~, at most 40 characters",
        );
    }
    typed.to_owned()
}

/// Whether cookies go over plain http.
pub fn insecure_cookies(reader: &mut Reader<'_>, raw: &Raw, root: &Place<'_>, listen: &Listen) -> bool {
    let place = root.key("insecure_cookies");
    if raw.insecure_cookies {
        reader.report.warn(
            &place,
            "INSECURE: cookies are sent over plain http and can be read and replayed on the way; for a demo on \
             http://localhost only",
        );
        let open = |a: Option<SocketAddr>| a.is_some_and(|a| !a.ip().is_loopback());
        if open(listen.http.as_ref().map(|h| h.address)) || listen.https.is_some() {
            reader.report.warn(&place, "INSECURE: and Sluis listens on more than plain http on this machine");
        }
    }
    raw.insecure_cookies
}

/// Deadlines and sizes.
pub fn limits(reader: &mut Reader<'_>, typed: &raw::Limits, place: &Place<'_>) -> Limits {
    let at = |key| place.key(key);
    let size = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    Limits {
        header_timeout: reader.duration(&typed.header_timeout, &at("header_timeout"), SECOND..=MINUTE),
        header_bytes: size(reader.size(&typed.header_bytes, &at("header_bytes"), 4 << 10..=64 << 10)),
        header_fields: reader.number(typed.header_fields, &at("header_fields"), 20..=256),
        min_body_rate: reader.size(&typed.min_body_rate, &at("min_body_rate"), 0..=1 << 20),
        keepalive_timeout: reader.duration(&typed.keepalive_timeout, &at("keepalive_timeout"), SECOND..=HOUR),
        client_idle_timeout: reader.duration(
            &typed.client_idle_timeout,
            &at("client_idle_timeout"),
            5 * SECOND..=24 * HOUR,
        ),
        login_body_bytes: size(reader.size(
            &typed.login_body_bytes,
            &at("login_body_bytes"),
            1 << 10..=1 << 20,
        )),
        body_bytes: reader.size(&typed.body_bytes, &at("body_bytes"), 0..=1 << 50),
        connections: typed.connections,
    }
}

/// How a stop goes.
pub fn shutdown(reader: &mut Reader<'_>, typed: &raw::Shutdown, place: &Place<'_>) -> Shutdown {
    Shutdown {
        delay: reader.duration(&typed.delay, &place.key("delay"), Duration::ZERO..=5 * MINUTE),
        drain: reader.duration(&typed.drain, &place.key("drain"), Duration::ZERO..=HOUR),
    }
}

/// How replicas hear of revocations.
pub fn revocation(reader: &mut Reader<'_>, typed: &raw::Revocation, place: &Place<'_>) -> Revocation {
    Revocation {
        lease: reader.duration(&typed.lease, &place.key("lease"), SECOND / 2..=30 * SECOND),
        grace: reader.duration(&typed.grace, &place.key("grace"), Duration::ZERO..=10 * MINUTE),
    }
}

/// The administrators' API and pages.
pub fn admin(reader: &mut Reader<'_>, typed: &raw::Admin, place: &Place<'_>) -> Admin {
    let rate = reader.number(typed.rate, &place.key("rate"), 10..=1_000_000);
    Admin { rate: u32::try_from(rate).unwrap_or(u32::MAX) }
}

/// Logging.
pub fn log(reader: &mut Reader<'_>, typed: &raw::Log, place: &Place<'_>) -> Log {
    let filter = tracing_subscriber::EnvFilter::builder().parse(&typed.filter);
    if typed.filter.trim().is_empty() || filter.is_err() {
        reader.report.bad(
            &place.key("filter"),
            &typed.filter,
            "error, warn, info, debug or trace, also by module: info,sluis::proxy=debug",
        );
    }
    Log { filter: typed.filter.clone(), json: matches!(typed.format, raw::Format::Json) }
}

/// The audit log.
pub fn audit(reader: &mut Reader<'_>, typed: &raw::Audit, place: &Place<'_>) -> Audit {
    let default = raw::AuditSettings::default();
    let typed = match typed {
        raw::Audit::Word(raw::AuditWord::Stdout) => &default,
        raw::Audit::Settings(settings) => settings,
    };
    let at = |key| place.key(key);
    let syslog = typed.syslog.as_ref().and_then(|syslog| syslog_target(reader, syslog, &at("syslog")));
    let (to, copy) = match (&typed.file, syslog) {
        (Some(file), copy) => (config::AuditPlace::File(reader.writable(file, &at("file"))), copy),
        (None, Some(target)) => (config::AuditPlace::Syslog(target), None),
        (None, None) => (config::AuditPlace::Stdout, None),
    };
    let rotate = Rotate {
        size: typed.rotate_size.as_ref().map(|s| reader.size(s, &at("rotate_size"), 64 << 10..=1 << 40)),
        every: typed
            .rotate_every
            .as_ref()
            .map(|s| reader.duration(s, &at("rotate_every"), MINUTE..=400 * 24 * HOUR)),
        keep: typed.keep.as_ref().map(|s| reader.duration(s, &at("keep"), 24 * HOUR..=36_500 * 24 * HOUR)),
    };
    if rotate != Rotate::default() && typed.file.is_none() {
        reader.report.fault(
            place,
            "rotate_size, rotate_every and keep are for a file; allowed: with the key file only",
        );
    } else if rotate.keep.is_some() && rotate.size.is_none() && rotate.every.is_none() {
        reader.report.warn(
            &at("keep"),
            "nothing is ever deleted: only files that Sluis has rotated are; set rotate_size or rotate_every, or let \
             logrotate do both",
        );
    }
    let on_failure = match typed.on_failure {
        raw::OnFailure::Continue => OnFailure::Continue,
        raw::OnFailure::Deny => OnFailure::Deny,
    };
    Audit { place: to, copy, on_failure, rotate }
}

fn syslog_target(reader: &mut Reader<'_>, typed: &str, place: &Place<'_>) -> Option<SyslogTarget> {
    let port = |rest: &str| {
        let (host, port) = rest.rsplit_once(':')?;
        (!host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)).then(|| rest.to_owned())
    };
    let target = match typed.split_once(':') {
        Some(("unix", path)) if path.starts_with('/') => Some(SyslogTarget::Unix(path.into())),
        Some(("udp", rest)) => port(rest).map(SyslogTarget::Udp),
        Some(("tcp", rest)) => port(rest).map(SyslogTarget::Tcp),
        _ => None,
    };
    if target.is_none() {
        reader.report.bad(place, typed, "unix:/dev/log, udp:HOST:PORT or tcp:HOST:PORT");
    }
    target
}

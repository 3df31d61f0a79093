//! `store.redis`: where the servers are and how they are spoken to.

use std::{path::PathBuf, time::Duration};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{Place, Reader, app::is_host_name};
use crate::{
    base::secret::SecretString,
    config::{
        fault::show,
        raw::{self, Key, KeyReference},
        shared::{Password, RedisAddress, RedisConfig, RedisServers, RedisTls},
    },
};

const URL: &str =
    "redis://host:port/database, rediss://host:port/database or unix:///path, without user and password";
const NODE: &str = "host:port";
const PASSWORD: &str = "{file: PATH}, {env: NAME} or ${NAME}, never the password itself";
/// Parts of the data on a Cluster: enough for each of a few masters to have some.
const SHARDS_OF_A_CLUSTER: usize = 16;

/// All of it.
pub fn redis(reader: &mut Reader<'_>, typed: &raw::Redis, place: &Place<'_>) -> Option<RedisConfig> {
    let tls = typed.tls.as_ref().map(|typed| tls(reader, typed, &place.key("tls")));
    let servers = servers(reader, typed, place);
    let password = typed.password.as_ref().and_then(|key| password(reader, key, &place.key("password")));
    if typed.username.is_some() && typed.password.is_none() {
        reader.report.fault(
            &place.key("username"),
            format!("a user without a password; allowed: password as well, as {PASSWORD}"),
        );
    }
    let clusters = matches!(servers, Some((RedisServers::Cluster { .. }, _)));
    let shards = typed.shards.unwrap_or(if clusters { SHARDS_OF_A_CLUSTER } else { 1 });
    let tls = match &servers {
        Some((RedisServers::Single { address: RedisAddress::Unix(_), .. }, _)) => {
            if tls.is_some() {
                reader
                    .report
                    .fault(&place.key("tls"), "TLS over a Unix socket; allowed: no tls with unix://");
            }
            None
        }
        Some((_, true)) => Some(tls.unwrap_or_default()),
        Some((_, false)) | None => tls,
    };
    if let Some((servers, _)) = &servers {
        warn(reader, servers, tls.is_some(), place);
    }
    Some(RedisConfig {
        username: typed.username.clone(),
        password,
        tls,
        prefix: prefix(reader, &typed.prefix, &place.key("prefix")),
        shards: reader.number(shards, &place.key("shards"), 1..=256),
        durability: reader.number(typed.durability, &place.key("durability"), 0..=10),
        timeout: reader.duration(
            &typed.timeout,
            &place.key("timeout"),
            Duration::from_millis(50)..=Duration::from_secs(10),
        ),
        feed_length: reader.number(typed.feed_length, &place.key("feed_length"), 1000..=10_000_000),
        initialise: typed.initialise,
        // Last, so that all the rest is looked at without it.
        servers: servers?.0,
    })
}

/// Where they are, and whether the URL asks for TLS.
fn servers(reader: &mut Reader<'_>, typed: &raw::Redis, place: &Place<'_>) -> Option<(RedisServers, bool)> {
    let given = [typed.url.is_some(), typed.sentinel.is_some(), typed.cluster.is_some()];
    let count = given.into_iter().filter(|given| *given).count();
    if count != 1 {
        let broken =
            ["url", "sentinel", "cluster"].into_iter().any(|key| place.key(key).is_given()) && count == 0;
        if !broken {
            let text = format!("found {count} of url, sentinel and cluster; allowed: exactly one");
            reader.report.fault(place, text);
        }
        return None;
    }
    if let Some(url) = &typed.url {
        return single(reader, url, &place.key("url"));
    }
    if let Some(sentinel) = &typed.sentinel {
        let place = place.key("sentinel");
        let service = sentinel.service.clone().unwrap_or_default();
        if sentinel.service.is_some() && (service.is_empty() || service.len() > 200) {
            reader.report.bad(
                &place.key("service"),
                &service,
                "the name that the sentinels know the master by",
            );
        }
        let nodes = nodes(reader, sentinel.nodes.as_deref(), &place.key("nodes"));
        return Some((RedisServers::Sentinel { nodes, service, database: sentinel.database }, false));
    }
    let cluster = typed.cluster.as_ref()?;
    let nodes = nodes(reader, cluster.nodes.as_deref(), &place.key("cluster").key("nodes"));
    Some((RedisServers::Cluster { nodes }, false))
}

fn single(reader: &mut Reader<'_>, url: &str, place: &Place<'_>) -> Option<(RedisServers, bool)> {
    if url.contains('@') {
        // What stands before it may be a password.
        let text =
            format!("found a URL with a user or password; allowed: username, and password as {PASSWORD}");
        reader.report.fault(place, text);
        return None;
    }
    if let Some(path) = url.strip_prefix("unix://") {
        if !path.starts_with('/') {
            reader.report.bad(place, url, URL);
        }
        let address = RedisAddress::Unix(PathBuf::from(path));
        return Some((RedisServers::Single { address, database: 0 }, false));
    }
    let parts = url.split_once("://").and_then(|(scheme, rest)| {
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = if database.is_empty() { Some(0) } else { database.parse().ok() };
        let tls = match scheme {
            "redis" => false,
            "rediss" => true,
            _ => return None,
        };
        Some((tls, host_and_port(authority, Some(6379))?, database?))
    });
    match parts {
        Some((tls, address, database)) => Some((RedisServers::Single { address, database }, tls)),
        None => {
            reader.report.bad(place, url, URL);
            None
        }
    }
}

fn nodes(reader: &mut Reader<'_>, typed: Option<&[String]>, place: &Place<'_>) -> Vec<RedisAddress> {
    let mut found = Vec::new();
    if typed.is_some_and(<[_]>::is_empty) {
        reader.report.fault(place, format!("no node; allowed: at least one {NODE}"));
    }
    for (index, node) in typed.unwrap_or_default().iter().enumerate() {
        let place = place.item(index);
        if node.contains('@') {
            reader
                .report
                .fault(&place, format!("found a user or password; allowed: {NODE}, and password apart"));
            continue;
        }
        match host_and_port(node, None) {
            Some(address) if found.contains(&address) => reader.report.bad(&place, node, "each node once"),
            Some(address) => found.push(address),
            None => reader.report.bad(&place, node, NODE),
        }
    }
    found
}

/// A server as people type it; `default` is the port when there is none.
pub(super) fn host_and_port(text: &str, default: Option<u16>) -> Option<RedisAddress> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (
            host,
            port.parse().ok().filter(|port| *port != 0 && text.ends_with(|c: char| c.is_ascii_digit()))?,
        ),
        _ => (text, default?),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let fine = match bare {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_host_name(&host.to_ascii_lowercase()),
    };
    fine.then(|| RedisAddress::Tcp(bare.unwrap_or(host).to_owned(), port))
}

/// A password, or where it is.
pub(super) fn password(reader: &mut Reader<'_>, key: &Key, place: &Place<'_>) -> Option<Password> {
    let name = match key {
        Key::Reference(KeyReference::File(file)) => {
            let place = place.key("file");
            let bytes = zeroize::Zeroizing::new(reader.readable(file, &place)?);
            reader.check_mode(&reader.directory.join(file), &place);
            if bytes.trim_ascii().is_empty() || std::str::from_utf8(&bytes).is_err() {
                reader
                    .report
                    .fault(&place, format!("no password in {}; allowed: a file with one", show(file)));
            }
            return Some(Password::File(reader.directory.join(file)));
        }
        Key::Reference(KeyReference::Env(name)) => name.as_str(),
        Key::Text(text) => match text.strip_prefix("${").and_then(|text| text.strip_suffix('}')) {
            Some(name) => name,
            None => {
                reader.report.fault(place, format!("a secret stands in the file; allowed: {PASSWORD}"));
                return None;
            }
        },
    };
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !first || name.len() > 64 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        // Not shown: somebody may have put the password itself there.
        reader.report.fault(place, "not the name of an environment variable; allowed: letters, digits and _");
        return None;
    }
    let value = (reader.environment)(name).filter(|value| !value.is_empty());
    if value.is_none() {
        reader.report.fault(place, "the environment variable is not set; allowed: one that is");
    }
    value.map(|value| Password::Fixed(SecretString::new(value)))
}

fn tls(reader: &mut Reader<'_>, typed: &raw::RedisTls, place: &Place<'_>) -> RedisTls {
    for (name, file) in [("ca_file", &typed.ca_file), ("certificate_file", &typed.certificate_file)] {
        let Some(file) = file else { continue };
        let Some(pem) = reader.readable(file, &place.key(name)) else { continue };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        if chain.map_or(true, |chain| chain.is_empty()) {
            let text = format!("no certificate in {}; allowed: a PEM file with one", show(file));
            reader.report.fault(&place.key(name), text);
        }
    }
    if let Some(file) = &typed.key_file
        && let Some(pem) = reader.readable(file, &place.key("key_file"))
    {
        let pem = zeroize::Zeroizing::new(pem);
        reader.check_mode(&reader.directory.join(file), &place.key("key_file"));
        if PrivateKeyDer::from_pem_slice(&pem).is_err() {
            let text = format!("no private key in {}; allowed: a PEM file with one", show(file));
            reader.report.fault(&place.key("key_file"), text);
        }
    }
    if typed.certificate_file.is_some() != typed.key_file.is_some() {
        reader.report.fault(place, "one of certificate_file and key_file; allowed: both or none");
    }
    let path = |file: &Option<String>| file.as_ref().map(|file| reader.directory.join(file));
    RedisTls {
        ca_file: path(&typed.ca_file),
        client: path(&typed.certificate_file).zip(path(&typed.key_file)),
    }
}

fn prefix(reader: &mut Reader<'_>, typed: &str, place: &Place<'_>) -> String {
    let fine = (1..=40).contains(&typed.len())
        && typed.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
    if !fine {
        reader.report.bad(place, typed, "1 to 40 of a-z, A-Z, 0-9 and - _ . :");
    }
    typed.to_owned()
}

/// Passwords and takeovers go over this way.
fn warn(reader: &mut Reader<'_>, servers: &RedisServers, tls: bool, place: &Place<'_>) {
    let (key, nodes) = match servers {
        RedisServers::Single { address, .. } => ("url", std::slice::from_ref(address)),
        RedisServers::Sentinel { nodes, .. } => ("sentinel", nodes.as_slice()),
        RedisServers::Cluster { nodes } => ("cluster", nodes.as_slice()),
    };
    let open = nodes.iter().any(|node| match node {
        RedisAddress::Unix(_) => false,
        RedisAddress::Tcp(host, _) => {
            host != "localhost"
                && !host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    });
    if open && !tls {
        reader.report.warn(
            &place.key(key),
            "Redis without TLS: records are sealed, but whoever is on the way can use the password, and delete or hold back \
             what is kept; use rediss:// or tls",
        );
    }
}

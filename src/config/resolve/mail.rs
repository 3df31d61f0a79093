//! `mail`: the server, how it is spoken to, and the sender.

use std::time::Duration;

use jiff::tz::TimeZone;
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::{
    Place, Reader,
    shared::{host_and_port, password},
};
use crate::{
    config::{
        fault::show,
        mail::{Mail, MailSecurity},
        raw::{self, Starttls},
        shared::RedisAddress,
    },
    i18n::Language,
    model::email,
};

const URL: &str = "smtp://host:587, or smtps://host:465 for TLS from the start, without user and password";
const FROM: &str = "an address such as sluis@example.nl, or Sluis <sluis@example.nl>";

/// All of it; `None` when there is none, or without what it cannot be without.
pub fn mail(reader: &mut Reader<'_>, typed: Option<&raw::Mail>, place: &Place<'_>) -> Option<Mail> {
    let typed = typed?;
    let at = |key| place.key(key);
    let server = typed.smtp.as_deref().and_then(|url| server(reader, url, &at("smtp")));
    let security = server.as_ref().map(|(host, _, tls)| {
        let local = host == "localhost" || host.parse().is_ok_and(|a: std::net::IpAddr| a.is_loopback());
        security(reader, *tls, local, typed.starttls, &at("starttls"))
    });
    let password = typed.password.as_ref().map(|key| password(reader, key, &at("password")));
    if typed.username.is_some() != typed.password.is_some() {
        reader.report.fault(place, "one of username and password; allowed: both or none");
    }
    if let Some(name) = typed.username.as_deref().filter(|name| name.is_empty() || has_controls(name)) {
        reader.report.bad(&at("username"), name, "the name by which the server knows Sluis");
    }
    let roots = typed.ca_file.as_deref().and_then(|file| {
        if security == Some(MailSecurity::Plain) {
            reader.report.fault(&at("ca_file"), "a certificate is never seen; allowed: with TLS only");
        }
        roots(reader, file, &at("ca_file"))
    });
    let from = typed.from.as_deref().and_then(|from| sender(reader, from, &at("from")));
    let timeout =
        reader.duration(&typed.timeout, &at("timeout"), Duration::from_secs(1)..=Duration::from_secs(600));
    let time_zone = TimeZone::get(&typed.time_zone).ok();
    if time_zone.is_none() {
        let allowed = "a name of the tz database, such as Europe/Amsterdam or UTC";
        reader.report.bad(&at("time_zone"), &typed.time_zone, allowed);
    }
    let mut administrators = Vec::new();
    for (index, address) in typed.administrators.iter().enumerate() {
        match email::canonical(address) {
            Some(address) => administrators.push(address),
            None => reader.report.bad(
                &at("administrators").item(index),
                address,
                "an address such as it@example.nl",
            ),
        }
    }
    let ((host, port, _), (from_name, from)) = (server?, from?);
    Some(Mail {
        host,
        port,
        security: security?,
        roots,
        login: typed.username.clone().zip(password.flatten()),
        from_name,
        from,
        timeout,
        language: match typed.language {
            raw::MailLanguage::En => Language::English,
            raw::MailLanguage::Nl => Language::Dutch,
        },
        time_zone: time_zone.unwrap_or(TimeZone::UTC),
        administrators,
    })
}

/// Host, port, and whether there is TLS from the start.
fn server(reader: &mut Reader<'_>, url: &str, place: &Place<'_>) -> Option<(String, u16, bool)> {
    if url.contains('@') {
        // What stands before it may be a password.
        reader.report.fault(place, format!("found a URL with a user or password; allowed: {URL}"));
        return None;
    }
    let parts = url.split_once("://").and_then(|(scheme, rest)| {
        let (tls, port) = match scheme {
            // RFC 6409, section 3.1; RFC 8314, section 3.3.
            "smtp" => (false, 587),
            "smtps" => (true, 465),
            _ => return None,
        };
        match host_and_port(rest.strip_suffix('/').unwrap_or(rest), Some(port))? {
            RedisAddress::Tcp(host, port) => Some((host, port, tls)),
            RedisAddress::Unix(_) => None,
        }
    });
    if parts.is_none() {
        reader.report.bad(place, url, URL);
    }
    parts
}

fn security(
    reader: &mut Reader<'_>,
    tls: bool,
    local: bool,
    typed: Option<Starttls>,
    place: &Place<'_>,
) -> MailSecurity {
    match (tls, typed) {
        (true, None) => MailSecurity::Tls,
        (true, Some(_)) => {
            reader.report.fault(place, "smtps:// has TLS from the start; allowed: without starttls");
            MailSecurity::Tls
        }
        (false, None | Some(Starttls::Required)) => MailSecurity::Starttls,
        (false, Some(Starttls::None)) => {
            if !local {
                let text = "found \"none\" to a server on another machine; allowed: required, or dangerously_none: \
                            messages, codes and the password can then be read and changed on the way";
                reader.report.fault(place, text);
            }
            MailSecurity::Plain
        }
        (false, Some(Starttls::DangerouslyNone)) => {
            if !local {
                let text = "DANGEROUS: activation codes and the password go over the network in the clear";
                reader.report.warn(place, text);
            }
            MailSecurity::Plain
        }
    }
}

fn roots(reader: &mut Reader<'_>, file: &str, place: &Place<'_>) -> Option<Vec<u8>> {
    let pem = reader.readable(file, place)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    if chain.map_or(true, |chain| chain.is_empty()) {
        let text = format!("no certificate in {}; allowed: a PEM file with one", show(file));
        reader.report.fault(place, text);
    }
    Some(pem)
}

/// Name and address.
fn sender(reader: &mut Reader<'_>, typed: &str, place: &Place<'_>) -> Option<(Option<String>, String)> {
    let (name, address) = match typed.strip_suffix('>').and_then(|rest| rest.rsplit_once('<')) {
        Some((name, address)) => (Some(name.trim()), address),
        None => (None, typed),
    };
    let address = email::canonical(address);
    let fine = name.is_none_or(|name| name.chars().count() <= 60 && !has_controls(name));
    if address.is_none() || !fine {
        reader.report.bad(place, typed, FROM);
        return None;
    }
    Some((name.filter(|name| !name.is_empty()).map(str::to_owned), address?))
}

fn has_controls(text: &str) -> bool {
    text.chars().any(char::is_control)
}

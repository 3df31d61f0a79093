//! One app as a whole, and what apps must not be to each other.

use std::{collections::HashMap, net::Ipv6Addr, sync::Arc, time::Duration};

use super::{Place, Reader, headers, login, policy, upstream};
use crate::{
    config::{
        App, Listen, administrators,
        app::{BreakGlass, Cookies, PathPattern, SessionLimits, Totp},
        raw::{self, Tolerated},
        value::show_duration,
    },
    model::{AppId, Realm, Tolerance, path::lenient},
};

/// All apps.
pub fn apps(
    reader: &mut Reader<'_>,
    typed: Option<&[raw::App]>,
    place: &Place<'_>,
    prefix: &str,
    listen: &Listen,
) -> Vec<Arc<App>> {
    let typed = typed.unwrap_or_default();
    if typed.is_empty() {
        reader.report.fault(place, "no app; allowed: at least one");
    }
    let mut apps: Vec<App> = Vec::with_capacity(typed.len());
    let mut ids: HashMap<String, usize> = HashMap::new();
    let mut hosts: HashMap<String, usize> = HashMap::new();
    for (index, raw) in typed.iter().enumerate() {
        let place = place.item(index);
        let app = app(reader, raw, &place, prefix, listen);
        if let Some(first) = ids.insert(app.id.as_str().to_owned(), place.line()) {
            let found = app.id.as_str();
            let allowed = format!("each id once; it is taken on line {first}");
            reader.report.bad(&place.key("id"), found, allowed);
        }
        for (n, host) in app.hosts.iter().enumerate() {
            let place = place.key("hosts").item(n);
            match hosts.get(host) {
                Some(first) => {
                    let allowed = format!("each host once; it is taken on line {first}");
                    reader.report.bad(&place, host, allowed);
                }
                None => drop(hosts.insert(host.clone(), place.line())),
            }
        }
        check_realm(reader, &apps, &app, &place);
        apps.push(app);
    }
    apps.into_iter().map(Arc::new).collect()
}

fn app(reader: &mut Reader<'_>, raw: &raw::App, place: &Place<'_>, prefix: &str, listen: &Listen) -> App {
    let at = |key| place.key(key);
    let id = raw.id.clone().unwrap_or_default();
    if raw.id.is_some() {
        let fine = (1..=40).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !fine {
            reader.report.bad(&at("id"), &id, "1 to 40 characters of a-z, 0-9 and -");
        } else if id == administrators::REALM {
            reader.report.bad(&at("id"), &id, "another id: this one is the administrators'");
        }
    }
    let name = raw.name.clone().unwrap_or_else(|| id.clone());
    check_label(reader, &name, &at("name"), 100);
    let realm = raw.realm.clone().unwrap_or_else(|| id.clone());
    if raw.realm.is_some() {
        let fine = (1..=40).contains(&realm.len())
            && realm.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !fine {
            reader.report.bad(&at("realm"), &realm, "1 to 40 characters of a-z, A-Z, 0-9 and - _ .");
        } else if realm == administrators::REALM {
            reader.report.bad(&at("realm"), &realm, "another realm: this one is the administrators'");
        }
    }
    let anonymous = anonymous(reader, &raw.anonymous, &at("anonymous"), prefix);
    let login = login::login(reader, raw.login.as_ref(), &at("login"), &anonymous);
    if raw.logout.is_empty() && !at("logout").is_given() {
        reader
            .report
            .warn(place, "no logout path: a session ends only by its limits, or when somebody else logs in");
    }
    let issuer = raw.totp.issuer.clone().unwrap_or_else(|| name.clone());
    let issuer_place = if raw.totp.issuer.is_some() { at("totp").key("issuer") } else { at("name") };
    check_label(reader, &issuer, &issuer_place, 60);
    if issuer.contains(':') {
        reader.report.bad(
            &issuer_place,
            &issuer,
            "an issuer without \":\", which separates it from the user",
        );
    }
    App {
        hosts: host_names(reader, raw.hosts.as_ref().map_or(&[], |h| h.as_slice()), &at("hosts")),
        upstreams: upstream::upstreams(
            reader,
            raw.upstreams.as_deref().unwrap_or_default(),
            &at("upstreams"),
            listen,
        ),
        transport: upstream::transport(reader, &raw.transport, &at("transport")),
        logout_paths: logout(reader, &raw.logout, &at("logout")),
        anonymous,
        tolerate: tolerance(&raw.tolerate),
        websocket_origins: origins(reader, &raw.websocket_origins, &at("websocket_origins")),
        cookies: cookies(reader, &raw.cookies, &at("cookies")),
        session: session(reader, &raw.session, &at("session")),
        policy: policy::policy(reader, &raw.policy, &at("policy"), &login.name),
        totp: Totp { issuer, at_most: raw.totp.authenticators_per_user },
        break_glass: raw.break_glass.as_ref().map(|typed| break_glass(reader, typed, &at("break_glass"))),
        headers: headers::headers(reader, &raw.headers, &at("headers")),
        login,
        id: AppId::new(id),
        name,
        realm: Realm::new(realm),
    }
}

fn check_label(reader: &mut Reader<'_>, text: &str, place: &Place<'_>, longest: usize) {
    let length = text.chars().count();
    if text.trim().is_empty() || length > longest || text.chars().any(char::is_control) {
        // An id that is missing or wrong has its own fault.
        if place.is_given() {
            reader.report.bad(place, text, format_args!("1 to {longest} visible characters"));
        }
    }
}

/// Apps of one realm must see one person under one name, or a second spelling gets a second enrolment.
fn check_realm(reader: &mut Reader<'_>, others: &[App], app: &App, place: &Place<'_>) {
    let folding = |a: &App| (a.login.name.trim, a.login.name.nfkc, a.login.name.case_fold);
    if let Some(other) = others.iter().find(|o| o.realm == app.realm && folding(o) != folding(app)) {
        let text = format!(
            "folds names differently from app {}, which is in the same realm; allowed: the same trim, nfkc and case_fold, \
             or another realm",
            other.id
        );
        reader.report.fault(&place.key("login").key("name"), text);
    }
}

fn host_names(reader: &mut Reader<'_>, typed: &[String], place: &Place<'_>) -> Vec<String> {
    if typed.is_empty() {
        reader.report.fault(place, "no host; allowed: at least one host name, or \"*\"");
    }
    let mut found = Vec::new();
    for (index, host) in typed.iter().enumerate() {
        let place = place.item(index);
        let lower = host.to_ascii_lowercase();
        let v6 = lower.strip_prefix('[').and_then(|h| h.strip_suffix(']')).map(|h| h.parse::<Ipv6Addr>());
        if lower != "*" && !is_host_name(&lower) && !matches!(v6, Some(Ok(_))) {
            reader.report.bad(
                &place,
                host,
                "a host name without scheme, port and path (other than ASCII in punycode), an address, or * alone for \
                 every other host",
            );
        }
        found.push(lower);
    }
    found
}

/// Letters, digits, `-`, `_` and dots (RFC 1123, and what people run inside); no dot at the end.
pub fn is_host_name(host: &str) -> bool {
    (1..=253).contains(&host.len())
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

fn logout(reader: &mut Reader<'_>, typed: &[String], place: &Place<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (index, text) in typed.iter().enumerate() {
        let place = place.item(index);
        if text.contains('*') {
            reader.report.bad(&place, text, "a whole path; patterns do not log out");
            continue;
        }
        let Some((path, query)) = reader.app_target(text, &place) else { continue };
        let path = lenient(&path).into_owned();
        let path = query.map_or(path.clone(), |query| format!("{path}?{query}"));
        if found.contains(&path) {
            reader.report.bad(&place, text, "each path once");
        }
        found.push(path);
    }
    found
}

fn anonymous(reader: &mut Reader<'_>, typed: &[String], place: &Place<'_>, prefix: &str) -> Vec<PathPattern> {
    let mut found: Vec<PathPattern> = Vec::new();
    for (index, text) in typed.iter().enumerate() {
        let place = place.item(index);
        let Some(pattern) = pattern(reader, text, &place) else { continue };
        let path = match &pattern {
            PathPattern::Exact(p) | PathPattern::ExactQuery(p, _) | PathPattern::Below(p) => p.as_str(),
        };
        if path == prefix || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/')) {
            reader.report.bad(
                &place,
                text,
                format_args!("paths of the app; below {prefix} are Sluis' own pages"),
            );
        }
        let covers = |other: &PathPattern| match &pattern {
            PathPattern::Below(p) => matches!(other, PathPattern::Below(o) if p.starts_with(o.as_str())),
            PathPattern::Exact(p) => other.matches(p, None),
            PathPattern::ExactQuery(p, q) => other.matches(p, Some(q)),
        };
        if found.iter().any(covers) {
            reader.report.warn(&place, format!("{text} is covered by an earlier pattern"));
        }
        found.push(pattern);
    }
    found
}

fn pattern(reader: &mut Reader<'_>, text: &str, place: &Place<'_>) -> Option<PathPattern> {
    const ALLOWED: &str = "/path, /path?query or /directory/*";
    if let Some(below) = text.strip_suffix('*') {
        if below == "/" || below.is_empty() {
            reader.report.bad(place, text, "single paths and directories; this would open the whole app");
            return None;
        }
        if !below.ends_with('/') || below.contains('?') {
            reader.report.bad(place, text, format_args!("{ALLOWED}; a * stands for all below a directory"));
            return None;
        }
        if below.contains('*') {
            reader.report.bad(place, text, format_args!("{ALLOWED}, with one * at the end"));
            return None;
        }
        return reader.app_path(below, place).map(PathPattern::Below);
    }
    let (path, query) = reader.app_target(text, place)?;
    if path.contains('*') {
        reader.report.bad(place, text, format_args!("{ALLOWED}, with one * at the end"));
        return None;
    }
    Some(match query {
        Some(query) => PathPattern::ExactQuery(path, query.to_owned()),
        None => PathPattern::Exact(path),
    })
}

fn tolerance(typed: &[Tolerated]) -> Tolerance {
    Tolerance {
        semicolon: typed.contains(&Tolerated::Semicolon),
        double_slash: typed.contains(&Tolerated::DoubleSlash),
        encoded_slash: typed.contains(&Tolerated::EncodedSlash),
        non_utf8: typed.contains(&Tolerated::NonUtf8),
    }
}

/// As browsers write them in `Origin` (RFC 6454, section 6.2).
fn origins(reader: &mut Reader<'_>, typed: &[String], place: &Place<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (index, origin) in typed.iter().enumerate() {
        let lower = origin.to_ascii_lowercase();
        let host = ["https://", "http://"].iter().find_map(|scheme| lower.strip_prefix(scheme));
        let (host, port) = host.map_or(("", None), |rest| match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        });
        if !is_host_name(host) || port.is_some_and(|port| port.parse::<u16>().is_err()) {
            reader.report.bad(
                &place.item(index),
                origin,
                "an origin as browsers send it: https://host or https://host:port",
            );
        }
        found.push(lower);
    }
    found
}

fn cookies(reader: &mut Reader<'_>, typed: &raw::Cookies, place: &Place<'_>) -> Cookies {
    for (key, names) in [("seal", &typed.seal), ("exempt", &typed.exempt)] {
        for (index, name) in names.iter().enumerate() {
            let place = place.key(key).item(index);
            login::check_cookie(reader, name, &place);
            if key == "exempt" && typed.seal.contains(name) {
                reader.report.bad(&place, name, "either in seal or in exempt");
            }
        }
    }
    Cookies { seal: typed.seal.clone(), exempt: typed.exempt.clone() }
}

fn break_glass(reader: &mut Reader<'_>, typed: &raw::BreakGlass, place: &Place<'_>) -> BreakGlass {
    const MINUTE: Duration = Duration::from_secs(60);
    let max = reader.duration(&typed.max, &place.key("max"), MINUTE..=240 * MINUTE);
    if !typed.reason_required {
        reader.report.warn(
            &place.key("reason_required"),
            "emergency access without a reason: the audit log will not say why (NEN 7513 asks for it)",
        );
    }
    BreakGlass { reason_required: typed.reason_required, max }
}

fn session(reader: &mut Reader<'_>, typed: &raw::Session, place: &Place<'_>) -> SessionLimits {
    const HOUR: Duration = Duration::from_secs(3600);
    let range = HOUR / 60..=720 * HOUR;
    let idle = reader.duration(&typed.idle, &place.key("idle"), range.clone());
    let max = reader.duration(&typed.max, &place.key("max"), range);
    if idle > max {
        reader.report.bad(
            &place.key("idle"),
            &typed.idle.0,
            format_args!("at most max, {}", show_duration(max)),
        );
    }
    if max > 24 * HOUR {
        reader
            .report
            .warn(&place.key("max"), "longer than 24h, the most that NIST SP 800-63B-4 advises at AAL2");
    }
    if idle > HOUR {
        reader
            .report
            .warn(&place.key("idle"), "longer than 1h, the most that NIST SP 800-63B-4 advises at AAL2");
    }
    SessionLimits { idle, max }
}

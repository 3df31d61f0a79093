//! From what was typed to what holds: every value is read, every reference followed, every contradiction named.
//!
//! Each part reads its section and reports into one [`Report`]; a value that is wrong is replaced by any right one,
//! so that the rest can be looked at. What comes out is used only when there was no fault.

mod app;
mod headers;
mod keys;
mod login;
mod mail;
mod policy;
mod server;
mod shared;
mod upstream;

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use regex::{Regex, RegexBuilder};

use super::{
    Config, Secrets,
    fault::{Place, Report},
    raw::Raw,
    value::{self, Size, Span, show_duration, show_size},
};
use crate::model::{Tolerance, path::canonical};

/// Resolves a whole file.
pub fn resolve(
    raw: &Raw,
    root: &Place<'_>,
    directory: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
    secrets: Secrets,
    report: &mut Report,
) -> Option<Config> {
    let mut reader = Reader { report, directory, environment, secrets };
    let store = server::store(&mut reader, raw.store.as_ref(), &root.key("store"));
    let listen = server::listen(&mut reader, raw, root, store.as_ref());
    let trusted_proxies = reader.networks(&raw.trusted_proxies, &root.key("trusted_proxies"));
    server::check_trust(&mut reader, raw, root, &trusted_proxies);
    let prefix = server::prefix(&mut reader, &raw.prefix, &root.key("prefix"));
    let apps = app::apps(&mut reader, raw.apps.as_deref(), &root.key("apps"), &prefix, &listen);
    Some(Config {
        keys: keys::keys(&mut reader, raw.keys.as_deref(), &root.key("keys")),
        threads: raw.threads,
        insecure_cookies: server::insecure_cookies(&mut reader, raw, root, &listen),
        limits: server::limits(&mut reader, &raw.limits, &root.key("limits")),
        revocation: server::revocation(&mut reader, &raw.revocation, &root.key("revocation")),
        shutdown: server::shutdown(&mut reader, &raw.shutdown, &root.key("shutdown")),
        log: server::log(&mut reader, &raw.log, &root.key("log")),
        audit: server::audit(&mut reader, &raw.audit, &root.key("audit")),
        admin: server::admin(&mut reader, &raw.admin, &root.key("admin")),
        mail: mail::mail(&mut reader, raw.mail.as_ref(), &root.key("mail")),
        store: store?,
        listen,
        trusted_proxies,
        prefix,
        apps,
    })
}

/// Reads single values.
struct Reader<'r> {
    report: &'r mut Report,
    directory: &'r Path,
    environment: &'r dyn Fn(&str) -> Option<String>,
    secrets: Secrets,
}

impl Reader<'_> {
    /// A duration within a range.
    fn duration(&mut self, typed: &Span, place: &Place<'_>, range: RangeInclusive<Duration>) -> Duration {
        let allowed = || format!("{} to {}", show_duration(*range.start()), show_duration(*range.end()));
        match value::duration(&typed.0) {
            Some(duration) if range.contains(&duration) => duration,
            Some(_) => {
                self.report.bad(place, &typed.0, allowed());
                *range.start()
            }
            None => {
                self.report.bad(place, &typed.0, format_args!("{}; here {}", value::DURATION, allowed()));
                *range.start()
            }
        }
    }

    /// A size within a range, in bytes.
    fn size(&mut self, typed: &Size, place: &Place<'_>, range: RangeInclusive<u64>) -> u64 {
        match value::size(&typed.0) {
            Some(size) if range.contains(&size) => size,
            Some(_) => {
                let (low, high) = (show_size(*range.start()), show_size(*range.end()));
                self.report.bad(place, &typed.0, format_args!("{low} to {high}"));
                *range.start()
            }
            None => {
                self.report.bad(place, &typed.0, value::SIZE);
                *range.start()
            }
        }
    }

    /// A number within a range.
    fn number(&mut self, typed: usize, place: &Place<'_>, range: RangeInclusive<usize>) -> usize {
        if !range.contains(&typed) {
            self.report.bad(place, &typed.to_string(), format_args!("{} to {}", range.start(), range.end()));
        }
        typed
    }

    /// An IP address with a port.
    fn address(&mut self, typed: Option<&str>, place: &Place<'_>) -> Option<SocketAddr> {
        let typed = typed?;
        let address = typed.parse().ok();
        if address.is_none() {
            self.report.bad(place, typed, "an IP address and a port, such as 0.0.0.0:8080 or [::]:8080");
        }
        address
    }

    /// Networks in CIDR notation, or addresses.
    fn networks(&mut self, typed: &[String], place: &Place<'_>) -> Vec<IpNet> {
        let mut found: Vec<IpNet> = Vec::with_capacity(typed.len());
        for (index, text) in typed.iter().enumerate() {
            let place = place.item(index);
            let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
            match network {
                Some(network) if network.trunc() != network => {
                    self.report.bad(&place, text, format_args!("the network itself, {}", network.trunc()));
                }
                Some(network) if found.contains(&network) => {
                    self.report.bad(&place, text, "each network once");
                }
                Some(network) => found.push(network),
                None => {
                    self.report.bad(&place, text, "an address or a network, such as 10.0.0.0/8 or fd00::/8")
                }
            }
        }
        found
    }

    /// A path of a file; relative ones count from the directory of the configuration.
    fn file_path(&mut self, typed: &str, place: &Place<'_>) -> PathBuf {
        if typed.is_empty() || typed.contains('\0') {
            self.report.bad(place, typed, "the path of a file");
        }
        self.directory.join(typed)
    }

    /// A file that is read at start.
    fn readable(&mut self, typed: &str, place: &Place<'_>) -> Option<Vec<u8>> {
        let path = self.file_path(typed, place);
        self.report.depends_on(&path);
        match std::fs::read(&path) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                let text = format!("{} cannot be read: {error}; allowed: a readable file", path.display());
                self.report.fault(place, text);
                None
            }
        }
    }

    /// A secret is not here: a fault, unless it need not be.
    fn missing_secret(&mut self, place: &Place<'_>, text: impl std::fmt::Display) {
        match self.secrets {
            Secrets::Needed => self.report.fault(place, text),
            Secrets::MayBeMissing => self.report.warn(place, text),
        }
    }

    /// A file that is made when it is not there: its directory must be.
    fn writable(&mut self, typed: &str, place: &Place<'_>) -> PathBuf {
        let path = self.file_path(typed, place);
        let directory = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if path.is_dir() {
            self.report.fault(place, format!("{} is a directory; allowed: a file", path.display()));
        } else if !directory.is_dir() {
            let text =
                format!("the directory {} is not there; allowed: a file in one that is", directory.display());
            self.report.fault(place, text);
        }
        path
    }

    /// Says so when others than the owner may read a file with a secret.
    fn check_mode(&mut self, path: &Path, place: &Place<'_>) {
        use std::os::unix::fs::PermissionsExt;

        let mode = std::fs::metadata(path).map(|m| m.permissions().mode()).unwrap_or_default();
        if mode & 0o007 != 0 {
            let text = format!("{} can be read by everybody on this machine; chmod 600 it", path.display());
            self.report.warn(place, text);
        }
    }

    /// A regular expression.
    fn regex(&mut self, typed: Option<&str>, place: &Place<'_>) -> Option<Regex> {
        let typed = typed?;
        match RegexBuilder::new(typed).size_limit(1 << 20).build() {
            Ok(regex) => Some(regex),
            Err(error) => {
                let why = error.to_string();
                let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
                self.report.bad(place, typed, format_args!("a regular expression ({why})"));
                None
            }
        }
    }

    /// A path of the app in canonical form.
    fn app_path(&mut self, typed: &str, place: &Place<'_>) -> Option<String> {
        match canonical(typed.as_bytes(), Tolerance::NONE) {
            Ok(path) if !path.ambiguous => return Some(typed.to_owned()),
            Ok(_) => self.report.bad(place, typed, "a path that can be read in one way only"),
            Err(cause) => {
                self.report.bad(place, typed, format_args!("a plain path such as /login ({cause})"))
            }
        }
        None
    }

    /// Path and query of the app; the query as it will be sent.
    fn app_target<'t>(&mut self, typed: &'t str, place: &Place<'_>) -> Option<(String, Option<&'t str>)> {
        let (path, query) = match typed.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (typed, None),
        };
        if query.is_some_and(|q| q.is_empty() || !q.bytes().all(|b| b.is_ascii_graphic() && b != b'#')) {
            self.report.bad(place, typed, "a query of visible ASCII characters, percent-encoded, without #");
            return None;
        }
        Some((self.app_path(path, place)?, query))
    }
}

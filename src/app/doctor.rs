//! Whether what a configuration names is there and works, one finding for each thing looked at. Changes nothing.

use std::{os::unix::fs::PermissionsExt, path::Path};

use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::Serialize;

use crate::{
    base::clock::{Clock, SystemClock},
    config::{App, AuditPlace, Config, HttpsListen, Mail, StoreConfig},
    deliver::mail::{Mailer, Seen},
    proxy::upstreams::examine::examine,
};

/// How it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and may not for long or not for everybody.
    Warning,
    /// It does not work.
    Failure,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// How it is.
    pub level: Level,
    /// What was looked at: `store`, `certificate` …
    pub check: &'static str,
    /// What was found.
    pub text: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Ok, check, text: text.into(), hint: None }
    }

    /// Something to look after.
    pub fn warning(check: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { level: Level::Warning, check, text: text.into(), hint: Some(hint.into()) }
    }

    /// Something that does not work.
    pub fn failure(check: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { level: Level::Failure, check, text: text.into(), hint: Some(hint.into()) }
    }
}

/// Looks at all but the store.
pub async fn look(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    if let StoreConfig::Sqlite { path } = &config.store {
        found.push(permissions(path));
        found.extend(room("database", path));
    }
    if let AuditPlace::File(path) = &config.audit.place {
        found.extend(room("audit log", path));
    }
    found.push(descriptors());
    if let Some(https) = &config.listen.https {
        found.extend(certificate(https, &config.apps));
    }
    for app in &config.apps {
        found.extend(upstreams(app).await);
    }
    if let Some(mail) = &config.mail {
        found.push(mailbox(mail).await);
    }
    found
}

/// Connects, greets and logs in; sends nothing.
async fn mailbox(mail: &Mail) -> Finding {
    let seen = match Mailer::new(mail.clone()) {
        Ok(mailer) => mailer.examine().await,
        Err(error) => Err(format!("{error:#}")),
    };
    match seen {
        Ok(Seen { encrypted, authenticated }) => {
            let how = if encrypted { "over TLS" } else { "in the clear" };
            let who = if authenticated { ", and lets Sluis log in" } else { "" };
            Finding::ok("mail", format!("{}:{} answers {how}{who}", mail.host, mail.port))
        }
        Err(why) => Finding::failure(
            "mail",
            format!("{}:{}: {why}", mail.host, mail.port),
            "until it works nobody is told of anything; `sluis mail test ADDRESS` sends a message",
        ),
    }
}

fn permissions(path: &Path) -> Finding {
    match std::fs::metadata(path) {
        Ok(about) if about.permissions().mode() & 0o077 != 0 => Finding::warning(
            "permissions",
            format!("{} can be read by others than its owner", path.display()),
            format!("chmod 600 {}", path.display()),
        ),
        Ok(_) => Finding::ok("permissions", format!("{} is for its owner only", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Finding::ok("permissions", format!("{} is made at the first start", path.display()))
        }
        Err(error) => Finding::failure(
            "permissions",
            format!("{}: {error}", path.display()),
            "run this as the user of the server, or as root",
        ),
    }
}

fn room(what: &str, path: &Path) -> Option<Finding> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let about = rustix::fs::statvfs(folder).ok()?;
    let mib = about.f_bavail.saturating_mul(about.f_frsize) >> 20;
    let text = format!("{mib} MiB free for the {what} in {}", folder.display());
    Some(if mib < LEAST_MIB {
        Finding::failure("disk", text, "make room: without it nothing is enrolled and nobody logs in")
    } else if mib < FEW_MIB {
        Finding::warning("disk", text, "make room, or move it to a larger disk")
    } else {
        Finding::ok("disk", text)
    })
}

fn descriptors() -> Finding {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let text = match limit.maximum {
        Some(files) => format!("{files} open files allowed to this user"),
        None => "any number of open files allowed to this user".to_owned(),
    };
    if limit.maximum.is_some_and(|files| files < FEW_FILES) {
        Finding::warning("open files", text, "raise it (systemd: LimitNOFILE): each connection needs two")
    } else {
        Finding::ok("open files", text)
    }
}

fn certificate(https: &HttpsListen, apps: &[std::sync::Arc<App>]) -> Vec<Finding> {
    let file = https.certificate_file.display();
    let unreadable = || {
        let hint = "put the certificate and its chain there, in PEM form";
        vec![Finding::failure("certificate", format!("{file} cannot be read"), hint)]
    };
    let Ok(pem) = std::fs::read(&https.certificate_file) else { return unreadable() };
    let Some(Ok(leaf)) = CertificateDer::pem_slice_iter(&pem).next() else { return unreadable() };
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(&leaf) else { return unreadable() };
    let now = i64::try_from(SystemClock.now().secs()).unwrap_or(i64::MAX);
    let (from, until) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    let days = until.saturating_sub(now) / 86_400;
    let renew = "renew it; Sluis takes the new one by itself";
    let mut found = vec![if until <= now {
        Finding::failure("certificate", format!("{file} has expired"), renew)
    } else if from > now {
        Finding::failure(
            "certificate",
            format!("{file} is not valid yet"),
            "is the clock of this machine right?",
        )
    } else if days < FEW_DAYS {
        Finding::warning("certificate", format!("{file} expires in {days} days"), renew)
    } else {
        Finding::ok("certificate", format!("{file} is valid for {days} days"))
    }];
    let names: Vec<String> = parsed
        .subject_alternative_name()
        .ok()
        .flatten()
        .map(|names| names.value.general_names.iter())
        .into_iter()
        .flatten()
        .filter_map(|name| match name {
            x509_parser::extensions::GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect();
    for host in apps.iter().flat_map(|app| &app.hosts).filter(|host| *host != "*") {
        if !names.iter().any(|name| covers(name, host)) {
            found.push(Finding::failure(
                "certificate",
                format!("{file} is not for {host}"),
                "get one that has this name, too: browsers refuse it",
            ));
        }
    }
    found
}

/// Whether a name of a certificate stands for a host (RFC 9525, section 6.3): `*` stands for one label.
fn covers(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(_, rest)| rest == parent),
        None => name == host,
    }
}

async fn upstreams(app: &App) -> Vec<Finding> {
    let (answers, nameless) = match examine(app).await {
        Ok(found) => found,
        Err(error) => {
            let hint = "put the certificates of the app's authority there, in PEM form";
            return vec![Finding::failure("upstream", format!("{}: {error}", app.id), hint)];
        }
    };
    let nameless = nameless.into_iter().map(|server| {
        let hint = "correct the name, or ask who looks after the name server";
        Finding::failure("upstream", format!("{}: {server} has no address", app.id), hint)
    });
    let answers = answers.into_iter().map(|answer| {
        let asked = format!("{}: {} ({}) {}", app.id, answer.server, answer.address, answer.path);
        match answer.status {
            Ok(status) if (200..300).contains(&status) => {
                Finding::ok("upstream", format!("{asked} answers {status}"))
            }
            Ok(status) if answer.health => Finding::failure(
                "upstream",
                format!("{asked} answers {status}: the app is taken for unwell"),
                "mend the app, or correct transport.health_path",
            ),
            Ok(status) => Finding::warning(
                "upstream",
                format!("{asked} answers {status}"),
                "is login.page the page with the form, and does the app know the host?",
            ),
            Err(error) => Finding::failure(
                "upstream",
                format!("{asked}: {error}"),
                "does the app run there, and may this machine reach it? For a certificate: transport.ca_file",
            ),
        }
    });
    nameless.chain(answers).collect()
}

const FEW_DAYS: i64 = 21;
const FEW_FILES: u64 = 4096;
const LEAST_MIB: u64 = 64;
const FEW_MIB: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_label() {
        for (name, host, expected) in [
            ("ecd.example", "ecd.example", true),
            ("*.example", "ecd.example", true),
            ("*.example", "a.ecd.example", false),
            ("*.example", "example", false),
            ("cd.example", "ecd.example", false),
        ] {
            assert_eq!(covers(name, host), expected, "{name} {host}");
        }
    }
}

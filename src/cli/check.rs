//! `sluis check`: faults, warnings, and what would be served.

use std::io::{self, Write};

use super::{ConfigFile, Done, Trouble, read_with, say, written};
use crate::{
    app,
    config::{
        App, Audit, AuditPlace, Config, OnFailure, Secrets, StoreConfig,
        app::{Enrol, PathPattern, Rule, Success, Then, UserField},
    },
    model::Method,
};

#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    file: ConfigFile,
    /// A secret that is not here (environment variable or file) is a warning: for checks away from the server
    #[arg(long)]
    no_secrets: bool,
}

/// Shows what a configuration would serve. Warnings go to standard error; they are no reason for exit code 1.
pub fn run(options: &Options, out: &mut dyn Write) -> Done {
    let file = &options.file;
    let secrets = if options.no_secrets { Secrets::MayBeMissing } else { Secrets::Needed };
    let (loaded, _) = read_with(file, secrets)?;
    if !loaded.config.keys.is_empty()
        && let Err(error) = app::keyring(&loaded.config)
    {
        return Err(Trouble::new(format!("{}: keys: {error:#}", file.config.display())));
    }
    say(out, &format!("{} has no faults.\n", file.config.display()))?;
    for line in summary(&loaded.config) {
        say(out, &line)?;
    }
    if !loaded.warnings.is_empty() {
        let mut err = io::stderr().lock();
        written(writeln!(err, "\nWarnings:"))?;
        for warning in &loaded.warnings {
            written(writeln!(err, "  {}", warning.replace('\n', "\n  ")))?;
        }
    }
    Ok(())
}

fn summary(config: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = |name: &str, text: String| lines.push(format!("{name:<12}{text}"));
    let listen = &config.listen;
    if let Some(http) = &listen.http {
        line("http", http.address.to_string());
    }
    if let Some(https) = &listen.https {
        line("https", format!("{}, certificate {}", https.address, https.certificate_file.display()));
    }
    line("operations", listen.operations.map_or_else(|| "off".to_owned(), |a| a.to_string()));
    line(
        "admin",
        match &listen.admin {
            None => "off".to_owned(),
            Some(admin) => match &admin.tls {
                Some(tls) => format!("{}, certificate {}", admin.address, tls.certificate_file.display()),
                None => format!("{}, plain http", admin.address),
            },
        },
    );
    let control = listen.control.as_ref();
    line(
        "control",
        control.map_or_else(
            || "off: `sluis user` needs a stopped server".to_owned(),
            |p| p.display().to_string(),
        ),
    );
    line(
        "store",
        match &config.store {
            StoreConfig::Sqlite { path } => format!("SQLite, {}", path.display()),
            StoreConfig::Redis(redis) => redis.to_string(),
            StoreConfig::Memory => "memory: everything is forgotten at a stop".to_owned(),
        },
    );
    line("audit", describe_audit(&config.audit));
    line(
        "mail",
        config
            .mail
            .as_ref()
            .map_or_else(|| "off: nobody is told of anything".to_owned(), ToString::to_string),
    );
    line("keys", format!("{}, the first signs", config.keys.len()));
    for app in &config.apps {
        lines.push(String::new());
        lines.extend(describe(app));
    }
    lines
}

fn describe_audit(audit: &Audit) -> String {
    let mut text = match &audit.place {
        AuditPlace::Stdout => "standard output".to_owned(),
        AuditPlace::File(path) => path.display().to_string(),
        AuditPlace::Syslog(target) => format!("syslog at {target}"),
    };
    if let Some(target) = &audit.copy {
        text.push_str(&format!(", a copy to syslog at {target}"));
    }
    let rotate = &audit.rotate;
    if let Some(size) = rotate.size {
        text.push_str(&format!(", a new file at {} KiB", size >> 10));
    }
    if let Some(every) = rotate.every {
        text.push_str(&format!(", a new file every {}", span(every)));
    }
    if let Some(keep) = rotate.keep {
        text.push_str(&format!(", old ones deleted after {} days", keep.as_secs() / 86_400));
    }
    if audit.on_failure == OnFailure::Deny {
        text.push_str("; nobody logs in while it cannot be written");
    }
    text
}

fn describe(app: &App) -> Vec<String> {
    let mut lines = vec![format!("app {} ({})", app.id, app.name)];
    let mut line = |name: &str, text: String| lines.push(format!("  {name:<12}{text}"));
    line("hosts", app.hosts.join(", "));
    if app.realm.as_str() != app.id.as_str() {
        line("realm", app.realm.to_string());
    }
    for upstream in &app.upstreams {
        let scheme = if upstream.tls { "https" } else { "http" };
        let share =
            if app.upstreams.len() > 1 { format!(", weight {}", upstream.weight) } else { String::new() };
        line("upstream", format!("{scheme}://{}:{}{share}", upstream.host, upstream.port));
    }
    line("login page", app.login.page.clone());
    for watch in &app.login.watch {
        let field = match &watch.user {
            UserField::Form(name) => format!("form field `{name}`"),
            UserField::Json(pointer) => format!("JSON `{pointer}`"),
        };
        let with =
            watch.with.as_ref().map(|(name, value)| format!(" with {name}={value}")).unwrap_or_default();
        line("login", format!("{} {}{with}, user in {field}", watch.method, watch.path));
    }
    line("success", success(&app.login.success));
    if let Some(whoami) = &app.login.whoami {
        line("who am I", whoami.path.clone());
    }
    if !app.logout_paths.is_empty() {
        line("logout", app.logout_paths.join(", "));
    }
    let open: Vec<String> = app
        .anonymous
        .iter()
        .map(|pattern| match pattern {
            PathPattern::Exact(path) => path.clone(),
            PathPattern::ExactQuery(path, query) => format!("{path}?{query}"),
            PathPattern::Below(path) => format!("{path}*"),
        })
        .collect();
    line("anonymous", if open.is_empty() { "nothing".to_owned() } else { open.join(", ") });
    line("session", format!("ends after {} idle, {} in all", span(app.session.idle), span(app.session.max)));
    for (index, rule) in app.policy.iter().enumerate() {
        line(if index == 0 { "policy" } else { "" }, describe_rule(rule));
    }
    let headers = [&app.headers.user, &app.headers.methods, &app.headers.proved_at];
    let names: Vec<&str> = headers.into_iter().flatten().map(http::HeaderName::as_str).collect();
    line("headers", if names.is_empty() { "none".to_owned() } else { names.join(", ") });
    lines
}

fn success(rule: &Success) -> String {
    let mut all = Vec::new();
    if !rule.status.is_empty() {
        let codes: Vec<String> = rule.status.iter().map(u16::to_string).collect();
        all.push(format!("status {}", codes.join(" or ")));
    }
    let patterns = [
        (&rule.location, "Location matches"),
        (&rule.location_not, "Location does not match"),
        (&rule.body, "body matches"),
        (&rule.body_not, "body does not match"),
    ];
    all.extend(patterns.iter().filter_map(|(p, text)| p.as_ref().map(|p| format!("{text} `{p}`"))));
    all.extend(rule.cookie.iter().map(|name| format!("cookie {name} is set")));
    all.join(", ")
}

fn describe_rule(rule: &Rule) -> String {
    let mut who = Vec::new();
    if !rule.users.is_empty() {
        who.push(rule.users.join(", "));
    }
    if !rule.networks.is_empty() {
        let networks: Vec<String> = rule.networks.iter().map(ToString::to_string).collect();
        who.push(format!("from {}", networks.join(", ")));
    }
    let who = if who.is_empty() { "everybody".to_owned() } else { who.join(" ") };
    let then = match &rule.then {
        Then::Exempt { reason } => format!("no second factor ({reason})"),
        Then::Require(requirement) => {
            let methods: Vec<&str> = requirement.methods.iter().map(Method::name).collect();
            let kept = if requirement.validity.is_zero() {
                "at every login".to_owned()
            } else {
                let judged = if requirement.continuous { ", judged on every request" } else { "" };
                format!("remembered on the device for {}{judged}", span(requirement.validity))
            };
            let enrol = match &requirement.enrol {
                Enrol::Open => "enrolment open".to_owned(),
                Enrol::Invite => "enrolment by invitation".to_owned(),
                Enrol::Closed => "enrolment closed".to_owned(),
                Enrol::Networks(networks) => {
                    let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
                    format!("enrolment from {}", networks.join(", "))
                }
            };
            format!("{} {kept}; {enrol}", methods.join(" or "))
        }
    };
    format!("{who}: {then}")
}

fn span(span: std::time::Duration) -> String {
    match span.as_secs() {
        secs if secs % 3600 == 0 => format!("{} h", secs / 3600),
        secs if secs % 60 == 0 => format!("{} min", secs / 60),
        secs => format!("{secs} s"),
    }
}

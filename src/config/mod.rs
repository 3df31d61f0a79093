//! The configuration: one YAML file.
//!
//! 1. `tree`: every value with its path and line; keys that stand there twice.
//! 2. `raw`: what may be typed. From these types come the JSON Schema, and by `shape` the faults of structure:
//!    unknown and missing keys, wrong types, unknown words.
//! 3. `resolve`: what the values say (ranges, files, names, contradictions), as the types on this page.
//!
//! Promises: all faults of all three steps at once, each with line, path, what was found and what is allowed; no
//! secret value in any of them. Everything above sees only the resolved form, which is right by construction: the
//! values come from `serde_saphyr`'s reading of a file without a fault of structure.
//! Relative paths of files count from the directory of the configuration file.

pub mod administrators;
pub mod app;
mod fault;
pub mod mail;
mod print;
mod raw;
mod resolve;
#[cfg(test)]
pub(crate) mod sample;
mod shape;
pub mod shared;
mod tree;
mod value;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;

pub use app::App;
use fault::{Place, Report};
pub use mail::Mail;
pub use print::Print;

use crate::base::secret::SecretBytes;

/// A configuration without faults.
pub struct Config {
    /// Where requests come in.
    pub listen: Listen,
    /// Worker threads of the proxy; 0 = one for each core.
    pub threads: usize,
    /// Peers whose `X-Forwarded-For`/`-Proto` and PROXY header are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Where our own pages live, without a trailing slash: `/.sluis`.
    pub prefix: String,
    /// Cookies without `Secure` and `__Host-`: for demos on plain http://localhost only.
    pub insecure_cookies: bool,
    /// Master keys; the first signs. At least one of at least `base::keyring::MIN_MASTER_BYTES`, none twice. (The demo
    /// names an environment variable in its YAML and answers it itself.)
    pub keys: Vec<SecretBytes>,
    /// Where records are kept.
    pub store: StoreConfig,
    /// How replicas hear of revocations.
    pub revocation: Revocation,
    /// Deadlines and sizes of what comes from outside.
    pub limits: Limits,
    /// How a stop goes.
    pub shutdown: Shutdown,
    /// Logging.
    pub log: Log,
    /// The audit log.
    pub audit: Audit,
    /// The administrators' API and pages.
    pub admin: Admin,
    /// How people are reached by mail.
    pub mail: Option<Mail>,
    /// The protected sites.
    pub apps: Vec<Arc<App>>,
}

/// Listeners.
pub struct Listen {
    /// Plain HTTP, behind an ingress or on localhost.
    pub http: Option<HttpListen>,
    /// HTTPS.
    pub https: Option<HttpsListen>,
    /// `/metrics`, `/livez`, `/readyz`.
    pub operations: Option<SocketAddr>,
    /// The administrators' API and pages.
    pub admin: Option<AdminListen>,
    /// Unix socket for `sluis user …` and `sluis backup` while the server runs (mode 0600).
    pub control: Option<PathBuf>,
}

/// Whether a PROXY protocol header (v1 or v2) stands in front of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ProxyProtocol {
    /// None is expected; what looks like one is a bad request.
    #[default]
    Off,
    /// Each connection from a trusted proxy must begin with one; other peers are refused.
    Required,
}

/// A plain listener.
#[derive(Clone, Debug)]
pub struct HttpListen {
    /// Address and port.
    pub address: SocketAddr,
    /// PROXY protocol.
    pub proxy_protocol: ProxyProtocol,
}

/// A TLS listener.
#[derive(Clone, Debug)]
pub struct HttpsListen {
    /// Address and port.
    pub address: SocketAddr,
    /// PROXY protocol.
    pub proxy_protocol: ProxyProtocol,
    /// PEM chain.
    pub certificate_file: PathBuf,
    /// PEM key.
    pub key_file: PathBuf,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
}

/// The administrators' listener.
#[derive(Clone, Debug)]
pub struct AdminListen {
    /// Address and port.
    pub address: SocketAddr,
    /// TLS; always there unless the address is on loopback.
    pub tls: Option<TlsFiles>,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// PEM chain.
    pub certificate_file: PathBuf,
    /// PEM key.
    pub key_file: PathBuf,
}

/// The administrators' API and pages.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Requests a minute of one token, and of one address.
    pub rate: u32,
}

/// The backend.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    /// One SQLite file.
    Sqlite {
        /// The file; made with mode 0600.
        path: PathBuf,
    },
    /// A Redis that several replicas share.
    Redis(Box<shared::RedisConfig>),
    /// Nothing is kept beyond the process: demos and tests.
    Memory,
}

/// Deadlines and sizes (threats D20).
#[derive(Clone, Debug)]
pub struct Limits {
    /// From the first byte of a request to the end of its header.
    pub header_timeout: Duration,
    /// The whole header, in bytes.
    pub header_bytes: usize,
    /// Header fields.
    pub header_fields: usize,
    /// A request body that comes in more slowly than this (bytes per second, over 10 s) is cut off; 0 = off.
    pub min_body_rate: u64,
    /// Between requests on a kept connection.
    pub keepalive_timeout: Duration,
    /// No byte to or from a client for so long ends the connection.
    pub client_idle_timeout: Duration,
    /// The body of a watched login.
    pub login_body_bytes: usize,
    /// The largest body upstream may be sent; 0 = no limit.
    pub body_bytes: u64,
    /// Open connections of clients; more wait in the kernel's queue. 0 = as many as the limit of open files allows.
    pub connections: usize,
}

/// A stop after SIGTERM.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// Not ready, but still accepting: while the endpoint is withdrawn.
    pub delay: Duration,
    /// After that, longest wait for requests in flight.
    pub drain: Duration,
}

/// How replicas hear of revocations from each other.
#[derive(Clone, Copy, Debug)]
pub struct Revocation {
    /// For so long the others wait for one that does not answer.
    pub lease: Duration,
    /// For so long running sessions go on when the store is away; zero = not at all.
    pub grace: Duration,
}

/// How logs look.
#[derive(Clone, Debug)]
pub struct Log {
    /// `error` … `trace`; also a filter such as `info,sluis::proxy=debug`.
    pub filter: String,
    /// JSON lines or text.
    pub json: bool,
}

/// The audit log.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Where it goes.
    pub place: AuditPlace,
    /// A copy of what goes to a file.
    pub copy: Option<SyslogTarget>,
    /// What happens while it cannot be written.
    pub on_failure: OnFailure,
    /// Rotation and retention of a file.
    pub rotate: Rotate,
}

/// Where audit events go, as JSON lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditPlace {
    /// Standard output.
    Stdout,
    /// Appended to a file (mode 0600).
    File(PathBuf),
    /// A syslog daemon (RFC 5424).
    Syslog(SyslogTarget),
}

/// How a syslog daemon is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogTarget {
    /// Datagrams to a Unix socket, mostly `/dev/log`.
    Unix(PathBuf),
    /// `host:port` (RFC 5426).
    Udp(String),
    /// `host:port`, with octet counting (RFC 6587).
    Tcp(String),
}

impl std::fmt::Display for SyslogTarget {
    /// As it is typed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Udp(to) => write!(f, "udp:{to}"),
            Self::Tcp(to) => write!(f, "tcp:{to}"),
        }
    }
}

/// What happens while the audit log cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// People log in; what is missing is counted, logged, and told in the chain later.
    #[default]
    Continue,
    /// Logins, challenges, enrolments and administration are answered with 503. Running sessions go on.
    Deny,
}

/// When a file makes room for a new one, and for how long the old ones stay. `None`: never, for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rotate {
    /// At this size in bytes.
    pub size: Option<u64>,
    /// At this age.
    pub every: Option<Duration>,
    /// Rotated files that are older are deleted.
    pub keep: Option<Duration>,
}

/// A configuration and what is questionable in it.
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// One line each, with place.
    pub warnings: Vec<String>,
}

/// Everything that is wrong with a configuration, in the order of the file.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Faults(pub Vec<String>);

/// Largest configuration file that is read.
const LARGEST: u64 = 4 << 20;

/// Whether the secrets that a configuration names must be there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Secrets {
    /// One that is missing is a fault.
    Needed,
    /// One that is missing is a warning: away from the server. The configuration may then have no key, and is to be
    /// looked at only.
    MayBeMissing,
}

/// What came of reading a configuration.
pub struct Reading {
    /// The file itself and all files that it names and that were read, or should have been: when one of them changes,
    /// the configuration may be another. Each as it was before it was read.
    pub files: Vec<(PathBuf, Print)>,
    /// What they say.
    pub outcome: Result<Loaded, Faults>,
}

/// Reads and resolves a configuration file. `environment` looks a variable up, for `${NAME}`.
///
/// Reads the files that it names and looks the upstreams' names up, so it can wait on I/O.
///
/// # Errors
/// All faults at once, each with file, line, path in the YAML, what was found and what is allowed.
pub fn load(file: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Faults> {
    read_file(file, environment, Secrets::Needed).outcome
}

/// Like [`load`], and tells on which files it depends.
pub fn read_file(file: &Path, environment: &dyn Fn(&str) -> Option<String>, secrets: Secrets) -> Reading {
    let unreadable =
        |why: &dyn std::fmt::Display| Faults(vec![format!("{}: cannot be read: {why}", file.display())]);
    let read = || {
        let length = std::fs::metadata(file).map_err(|error| unreadable(&error))?.len();
        if length > LARGEST {
            return Err(unreadable(&format_args!("{length} bytes; allowed: at most {LARGEST}")));
        }
        std::fs::read_to_string(file).map_err(|error| unreadable(&error))
    };
    let itself = (file.to_owned(), Print::of(file));
    match read() {
        Ok(text) => {
            let (mut files, outcome) = parse(&text, file, environment, secrets);
            files.push(itself);
            Reading { files, outcome }
        }
        Err(faults) => Reading { files: vec![itself], outcome: Err(faults) },
    }
}

/// Like [`load`], for a text that is there already. `file` is its name in messages, and its directory is where
/// relative paths count from.
///
/// # Errors
/// As [`load`].
pub fn load_text(
    text: &str,
    file: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Faults> {
    parse(text, file, environment, Secrets::Needed).1
}

fn parse(
    text: &str,
    file: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
    secrets: Secrets,
) -> (Vec<(PathBuf, Print)>, Result<Loaded, Faults>) {
    let mut report = Report::new(file.display().to_string());
    let config = parse_into(text, file, environment, secrets, &mut report);
    let files = report.take_files();
    let outcome = report.finish().and_then(|warnings| match config {
        Some(config) => Ok(Loaded { config, warnings }),
        // Cannot be: what gives no configuration leaves a fault.
        None => Err(Faults(vec![format!("{}: no configuration", file.display())])),
    });
    (files, outcome)
}

fn parse_into(
    text: &str,
    file: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
    secrets: Secrets,
    report: &mut Report,
) -> Option<Config> {
    let tree = tree::parse(text, report)?;
    let sound = shape::check(&tree, &schema(), report)?;
    // A file with faults of structure is looked at for others as well, by what is left of it; nothing of that is used.
    let raw = if report.is_clean() { read(text, report) } else { serde_json::from_value(sound.json).ok() };
    let directory = file.parent().unwrap_or(Path::new(""));
    resolve::resolve(&raw?, &Place::root(&sound.node), directory, environment, secrets, report)
}

/// The values, as `serde_saphyr` reads them.
fn read(text: &str, report: &mut Report) -> Option<raw::Raw> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options(text, options) {
        Ok(raw) => Some(raw),
        Err(error) => {
            let line = error.location().and_then(|l| usize::try_from(l.line()).ok()).unwrap_or(1);
            report.structure(line, "", error);
            None
        }
    }
}

/// The JSON Schema of the file, for editors.
pub fn schema() -> serde_json::Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12()
        .with_transform(schemars::transform::RecursiveTransform(without_null));
    settings.into_generator().into_root_schema_for::<raw::Raw>().to_value()
}

/// An optional key is left out, never `null`: an empty value in a configuration is mostly a slip.
fn without_null(schema: &mut schemars::Schema) {
    use serde_json::Value;

    if schema.get("default") == Some(&Value::Null) {
        schema.remove("default");
    }
    if let Some(Value::Object(defaults)) = schema.get_mut("default") {
        defaults.retain(|_, value| !value.is_null());
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            schema.remove("anyOf");
            for (key, value) in only {
                // The description beside the choice is the one of the key: it stays.
                if schema.get(&key).is_none() {
                    schema.insert(key, value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;

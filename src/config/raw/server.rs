//! `keys`, `store`, `limits`, `shutdown`, `log`, `audit`: the server as a whole.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::value::{Size, Span};

/// A key or password: never itself, only where it is.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Key {
    /// In a file or an environment variable.
    Reference(KeyReference),
    /// `${NAME}`: an environment variable.
    #[schemars(extend("writeOnly" = true, "pattern" = r"^\$\{[A-Za-z_][A-Za-z0-9_]*\}$"))]
    Text(String),
}

/// Where a key is.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyReference {
    /// The file that holds it, alone.
    File(String),
    /// The environment variable that holds it.
    #[schemars(extend("writeOnly" = true))]
    Env(String),
}

/// The backend.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// One SQLite file: a single replica needs nothing else.
    Sqlite(Sqlite),
    /// Redis (or Valkey): several replicas share it.
    Redis(Box<Redis>),
    /// Nothing is kept when the process ends: for demos and tests only.
    Memory,
}

/// The embedded store.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sqlite {
    /// The file, made with mode 0600 when it is not there; its directory must exist.
    #[schemars(required)]
    pub path: Option<String>,
}

/// The shared store. Exactly one of `url`, `sentinel` and `cluster`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// One server: `redis://host:port/database`, `rediss://…` for TLS, or `unix:///path` for a socket.
    pub url: Option<String>,
    /// A master that sentinels watch.
    pub sentinel: Option<Sentinel>,
    /// A Redis Cluster.
    pub cluster: Option<Cluster>,
    /// The ACL user; needs a password. The user `default` when left out.
    pub username: Option<String>,
    /// The password. A file is read again for each connection, so that it can be changed without a restart.
    pub password: Option<Key>,
    /// TLS to every server, sentinels too. `{}` = with the system's roots. Not with a socket.
    pub tls: Option<RedisTls>,
    /// Every key in Redis begins with this and `:`; installations that share one Redis differ in it. 1 to 40 of a–z,
    /// A–Z, 0–9, `-`, `_`, `.`, `:`.
    pub prefix: String,
    /// Into how many parts the data is cut: 1 unless it is a Cluster, 16 there. Fixed for the life of the data. 1 to 256.
    #[schemars(range(min = 1, max = 256))]
    pub shards: Option<usize>,
    /// So many replicas of the Redis master must have what is acknowledged (`WAIT`); 0 = the master alone. 0 to 10.
    #[schemars(range(min = 0, max = 10))]
    pub durability: usize,
    /// An answer, or a connection, that takes longer is a failure. 50ms to 10s.
    pub timeout: Span,
    /// How many announcements each part keeps for replicas that fall behind; who falls further behind loads everything. 1000
    /// to 10000000.
    #[schemars(range(min = 1000, max = 10_000_000))]
    pub feed_length: usize,
    /// Begin with an empty data set where there is none. With `false` a Redis that has lost everything is refused at start.
    pub initialise: bool,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: None,
            sentinel: None,
            cluster: None,
            username: None,
            password: None,
            tls: None,
            prefix: "sluis".into(),
            shards: None,
            durability: 0,
            timeout: Span("1s".into()),
            feed_length: 100_000,
            initialise: true,
        }
    }
}

/// A master that sentinels watch.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sentinel {
    /// The sentinels: `host:port`, mostly port 26379.
    #[schemars(required)]
    pub nodes: Option<Vec<String>>,
    /// What they call the master.
    #[schemars(required)]
    pub service: Option<String>,
    /// The number of the data base. 0 to 255.
    #[serde(default)]
    pub database: u8,
}

/// A Redis Cluster.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Some of its nodes, `host:port`; the others are learned from them.
    #[schemars(required)]
    pub nodes: Option<Vec<String>>,
}

/// TLS to Redis. The files are read again for each connection.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedisTls {
    /// Roots for the servers' certificates, PEM; the system's when left out.
    pub ca_file: Option<String>,
    /// The client's own certificate and its chain, PEM; with `key_file`.
    pub certificate_file: Option<String>,
    /// Its private key, PEM.
    pub key_file: Option<String>,
}

/// Deadlines and sizes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// From the first byte of a request to the end of its header. 1s to 60s.
    pub header_timeout: Span,
    /// The whole header of a request. 4KiB to 64KiB.
    pub header_bytes: Size,
    /// Header fields of a request. 20 to 256.
    pub header_fields: usize,
    /// A request body that comes in more slowly than this, in bytes per second over 10 s, is cut off; 0 = off.
    pub min_body_rate: Size,
    /// Between two requests on a connection that is kept open. 1s to 1h.
    pub keepalive_timeout: Span,
    /// A connection without a byte in either direction for so long ends. 5s to 24h.
    pub client_idle_timeout: Span,
    /// The body of a watched login. 1KiB to 1MiB.
    pub login_body_bytes: Size,
    /// The largest body that goes upstream; 0 = no limit.
    pub body_bytes: Size,
    /// Open connections of clients: more wait until one ends. 0 = as many as the limit of open files allows, at two
    /// files each. 0 to 10000000.
    #[schemars(range(min = 0, max = 10_000_000))]
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Span("10s".into()),
            header_bytes: Size("16KiB".into()),
            header_fields: 100,
            min_body_rate: Size("256".into()),
            keepalive_timeout: Span("60s".into()),
            client_idle_timeout: Span("5m".into()),
            login_body_bytes: Size("64KiB".into()),
            body_bytes: Size("0".into()),
            connections: 0,
        }
    }
}

/// A stop after SIGTERM.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// Not ready, but still accepting, while the endpoint is withdrawn (Kubernetes: 5s). 0 to 5m.
    pub delay: Span,
    /// After that, the longest wait for requests in flight. 0 to 1h.
    pub drain: Span,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { delay: Span("0".into()), drain: Span("30s".into()) }
    }
}

/// How replicas hear of revocations from each other.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Revocation {
    /// For so long the others wait for a replica that does not answer, when somebody takes over a device, logs out or is
    /// blocked. 500ms to 30s.
    pub lease: Span,
    /// For so long running sessions go on when the store is away; nobody logs in meanwhile. A replica that alone is cut off
    /// from the store may accept a revoked session until then; 0 is strict. 0 to 10m.
    pub grace: Span,
}

impl Default for Revocation {
    fn default() -> Self {
        Self { lease: Span("2s".into()), grace: Span("60s".into()) }
    }
}

/// Logging.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`, also by module: `info,sluis::proxy=debug`.
    pub filter: String,
    /// How lines look.
    pub format: Format,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".into(), format: Format::Json }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Where audit events go: a word, or more.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Audit {
    /// Standard output.
    Word(AuditWord),
    /// A place, and how it is looked after.
    Settings(AuditSettings),
}

impl Default for Audit {
    fn default() -> Self {
        Self::Word(AuditWord::Stdout)
    }
}

/// A place that needs no name.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditWord {
    /// Standard output.
    Stdout,
}

/// The audit log.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuditSettings {
    /// Appended to this file (made with mode 0600). Without this and `syslog`: standard output.
    pub file: Option<String>,
    /// To a syslog daemon (RFC 5424): `unix:/dev/log`, `udp:HOST:PORT` or `tcp:HOST:PORT` (octet counting). Beside
    /// `file`: a copy, which is not waited for.
    pub syslog: Option<String>,
    /// While it cannot be written, `continue`: people log in, and what is missing is counted; `deny`: logins,
    /// challenges, enrolments and administration are answered with 503.
    pub on_failure: OnFailure,
    /// A file of this size makes room for a new one. 64KiB to 1TiB.
    pub rotate_size: Option<Size>,
    /// So does one of this age. 1m to 400d.
    pub rotate_every: Option<Span>,
    /// Rotated files that are older are deleted. 1d to 36500d.
    pub keep: Option<Span>,
}

/// What happens while the audit log cannot be written.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// People log in; what is missing is counted.
    #[default]
    Continue,
    /// Nobody logs in.
    Deny,
}

/// The administrators' API and pages.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Requests a minute that one token, and one address, may make; a quarter of them at once. 10 to 1000000.
    #[schemars(range(min = 10, max = 1_000_000))]
    pub rate: usize,
}

impl Default for Admin {
    fn default() -> Self {
        Self { rate: 600 }
    }
}

//! The configuration: one YAML file, read in three steps.
//!
//! `raw` is what was typed (unknown keys refused); `resolve` turns it into the types on this page and
//! reports all faults at once; everything above sees only the resolved form, which is right by construction.

pub mod app;
#[cfg(test)]
pub(crate) mod sample;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use ipnet::IpNet;

pub use app::App;

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
    /// Master keys; the first signs. Empty only in the demo, which makes its own.
    pub keys: Vec<SecretBytes>,
    /// Where records are kept.
    pub store: StoreConfig,
    /// Deadlines and sizes of what comes from outside.
    pub limits: Limits,
    /// How a stop goes.
    pub shutdown: Shutdown,
    /// Logging.
    pub log: Log,
    /// Where audit events go.
    pub audit: Audit,
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

/// The backend.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    /// One SQLite file.
    Sqlite {
        /// The file; made with mode 0600.
        path: PathBuf,
    },
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
}

/// A stop after SIGTERM.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// Not ready, but still accepting: while the endpoint is withdrawn.
    pub delay: Duration,
    /// After that, longest wait for requests in flight.
    pub drain: Duration,
}

/// How logs look.
#[derive(Clone, Debug)]
pub struct Log {
    /// `error` … `trace`; also a filter such as `info,sluis::proxy=debug`.
    pub filter: String,
    /// JSON lines or text.
    pub json: bool,
}

/// Where audit events go, as JSON lines.
#[derive(Clone, Debug)]
pub enum Audit {
    /// Standard output.
    Stdout,
    /// Appended to a file (mode 0600).
    File(PathBuf),
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

/// Reads and resolves a configuration file. `environment` looks a variable up, for `${NAME}`.
///
/// # Errors
/// All faults at once, each with file, line, path in the YAML, what was found and what is allowed.
pub fn load(
    _file: &std::path::Path,
    _environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Faults> {
    todo!()
}

/// The JSON Schema of the file, for editors.
pub fn schema() -> serde_json::Value {
    todo!()
}

//! `listen`: where requests come in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Listeners.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Plain HTTP: behind an ingress or load balancer that ends TLS, or on localhost.
    pub http: Option<Http>,
    /// HTTPS.
    pub https: Option<Https>,
    /// `/metrics`, `/livez` and `/readyz`: address and port; off when left out. Keep it away from the outside.
    pub operations: Option<String>,
    /// The administrators' API and pages; off when left out.
    pub admin: Option<Admin>,
    /// Unix socket for `sluis user` and `sluis backup` while the server runs (mode 0600); `off` = none. When left out,
    /// `sluis.sock` beside the SQLite file.
    pub control: Option<String>,
}

/// A plain listener.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// IP address and port: `0.0.0.0:8080`, `[::]:8080`.
    #[schemars(required)]
    pub address: Option<String>,
    /// Whether a PROXY protocol header (v1 or v2) stands in front of each connection.
    #[serde(default)]
    pub proxy_protocol: Proxy,
}

/// A TLS listener. Certificate and key are read again when the files change.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Https {
    /// IP address and port: `0.0.0.0:8443`, `[::]:8443`.
    #[schemars(required)]
    pub address: Option<String>,
    /// Certificate and its chain, PEM.
    #[schemars(required)]
    pub certificate_file: Option<String>,
    /// Private key of the certificate, PEM.
    #[schemars(required)]
    pub key_file: Option<String>,
    /// Whether HTTP/2 is offered.
    #[serde(default = "yes")]
    pub http2: bool,
    /// Whether a PROXY protocol header (v1 or v2) stands in front of each connection.
    #[serde(default)]
    pub proxy_protocol: Proxy,
}

/// The administrators' listener. Certificate and key are read again when the files change.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// IP address and port: `127.0.0.1:9181`. Other than on loopback, TLS is needed.
    #[schemars(required)]
    pub address: Option<String>,
    /// Certificate and its chain, PEM; with `key_file`.
    pub certificate_file: Option<String>,
    /// Private key of the certificate, PEM.
    pub key_file: Option<String>,
}

const fn yes() -> bool {
    true
}

/// PROXY protocol.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Proxy {
    /// None is expected; what looks like one is a bad request.
    #[default]
    Off,
    /// Each connection must come from a trusted proxy and begin with one.
    Required,
}

//! `apps`: the protected sites.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Headers, Login, OneOrMany, Rule};
use crate::config::value::Span;

/// A protected app.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Its id in tokens, logs and metrics: 1 to 40 of a–z, 0–9, `-`. Keep it: another id is another app.
    #[schemars(required)]
    pub id: Option<String>,
    /// Its name on pages and in authenticator apps. The id when left out.
    pub name: Option<String>,
    /// Apps of one realm share users and their authenticators. The id when left out.
    pub realm: Option<String>,
    /// Host names without port; `*` = every host that no other app has.
    #[schemars(required)]
    pub hosts: Option<OneOrMany<String>>,
    /// Where it runs: `http://host:port` or `https://host:port`; several are balanced.
    #[schemars(required)]
    pub upstreams: Option<Vec<Upstream>>,
    /// How it is reached.
    #[serde(default)]
    pub transport: Transport,
    /// How its login form is watched.
    #[schemars(required)]
    pub login: Option<Login>,
    /// Paths that log out.
    #[serde(default)]
    pub logout: Vec<String>,
    /// What passes without a session: the login page and what it needs. `/path`, `/path?query` or `/directory/*`.
    #[serde(default)]
    pub anonymous: Vec<String>,
    /// What protected paths of an old app may have although it can be read in two ways; never anonymous ones.
    #[serde(default)]
    pub tolerate: Vec<Tolerated>,
    /// Pages of which other origins may open its websockets (`https://portal.example.org`); its own always may.
    #[serde(default)]
    pub websocket_origins: Vec<String>,
    /// Which of its cookies are sealed to the session. All that are `HttpOnly` are, unless exempted.
    #[serde(default)]
    pub cookies: Cookies,
    /// How long a session lives.
    #[serde(default)]
    pub session: Session,
    /// Who must prove what: the first rule that matches wins; who matches none must prove a second factor.
    #[serde(default)]
    pub policy: Vec<Rule>,
    /// Codes from an authenticator app.
    #[serde(default)]
    pub totp: Totp,
    /// Emergency access with a code prepared by an administrator and a reason. None when left out.
    pub break_glass: Option<BreakGlass>,
    /// What the app is told about the user.
    #[serde(default)]
    pub headers: Headers,
}

/// One upstream server.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Upstream {
    /// `http://host:port` or `https://host:port`.
    Url(String),
    /// With a weight.
    Weighted(Weighted),
}

/// One upstream server with its share.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Weighted {
    /// `http://host:port` or `https://host:port`.
    #[schemars(required)]
    pub url: Option<String>,
    /// Its share of the requests among the upstreams. 1 to 100.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub weight: usize,
}

const fn one() -> usize {
    1
}

/// How upstreams are spoken to.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Transport {
    /// To the end of the TLS handshake. 100ms to 60s.
    pub connect_timeout: Span,
    /// Between two reads of an answer. 1s to 1h.
    pub read_timeout: Span,
    /// Between two writes of a request. 1s to 1h.
    pub write_timeout: Span,
    /// How long an unused connection is kept. 1s to 1h.
    pub idle_timeout: Span,
    /// Send the client's `Host` (true) or the upstream's own name (false).
    pub preserve_host: bool,
    /// Verify the certificate of an https upstream.
    pub verify_certificate: bool,
    /// Additional roots for that, PEM.
    pub ca_file: Option<String>,
    /// A path that answers 2xx when the upstream is well; no checks when left out.
    pub health_path: Option<String>,
    /// How often it is asked. 1s to 10m.
    pub health_interval: Span,
    /// Tunnels (websockets) without a byte for so long end. 1s to 24h.
    pub tunnel_idle_timeout: Span,
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            connect_timeout: Span("5s".into()),
            read_timeout: Span("60s".into()),
            write_timeout: Span("60s".into()),
            idle_timeout: Span("60s".into()),
            preserve_host: true,
            verify_certificate: true,
            ca_file: None,
            health_path: None,
            health_interval: Span("10s".into()),
            tunnel_idle_timeout: Span("10m".into()),
        }
    }
}

/// What can be tolerated in a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tolerated {
    /// `;name=value` in a segment (Java's `;jsessionid=…`).
    Semicolon,
    /// `//` inside a path.
    DoubleSlash,
    /// `%2f` in a segment.
    EncodedSlash,
    /// Escapes that are not UTF-8 (ISO 8859-1).
    NonUtf8,
}

/// Which cookies of the app are sealed.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cookies {
    /// Names that are sealed although the app does not mark them `HttpOnly`; no script can read them then.
    pub seal: Vec<String>,
    /// Names that are never sealed.
    pub exempt: Vec<String>,
}

/// Limits of a session.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Session {
    /// Without a request for so long it ends. 1m to 30d, not above `max`.
    pub idle: Span,
    /// It ends after this in any case. 1m to 30d.
    pub max: Span,
}

impl Default for Session {
    fn default() -> Self {
        Self { idle: Span("1h".into()), max: Span("12h".into()) }
    }
}

/// Codes from an authenticator app.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Totp {
    /// Issuer shown in the authenticator app; the app's name when left out. Without `:`, at most 60 characters.
    pub issuer: Option<String>,
    /// How many authenticators one user may have. 1 to 10.
    #[schemars(range(min = 1, max = 10))]
    pub authenticators_per_user: usize,
}

impl Default for Totp {
    fn default() -> Self {
        Self { issuer: None, authenticators_per_user: 5 }
    }
}

/// Emergency access.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BreakGlass {
    /// Ask a reason, for the audit log.
    pub reason_required: bool,
    /// A session that begins so ends after this in any case. 1m to 4h.
    pub max: Span,
}

impl Default for BreakGlass {
    fn default() -> Self {
        Self { reason_required: true, max: Span("30m".into()) }
    }
}

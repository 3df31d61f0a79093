//! What is typed: the single source of key names, their documentation, types and defaults.
//!
//! The JSON Schema for editors and the check of the structure are both made from these types; unknown keys are
//! refused at every level. Keys that must be there are `Option` and marked `required`, so that a file with such a
//! key missing can still be looked at for its other faults. Nothing here holds a secret: keys are named, not typed.

mod app;
mod headers;
mod listen;
mod login;
mod mail;
mod policy;
mod server;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use app::{App, BreakGlass, Cookies, Session, Tolerated, Transport, Upstream};
pub use headers::{Headers, Preset};
pub use listen::{Admin as AdminListen, Https, Listen, Proxy};
pub use login::{Login, Name, Success, Watch, Whoami};
pub use mail::{Language as MailLanguage, Mail, Starttls};
pub use policy::{Enrol, Judged, Match, Method, Require, Rule};
pub use server::{
    Admin, Audit, AuditSettings, AuditWord, Format, Key, KeyReference, Limits, Log, OnFailure, Redis,
    RedisTls, Revocation, Shutdown, Store,
};

/// Configuration of Sluis, a reverse proxy that puts multi-factor authentication in front of legacy web apps.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// Where requests come in. At least one of `http` and `https`.
    #[schemars(required)]
    pub listen: Option<Listen>,
    /// Worker threads of the proxy; 0 = one for each core. 0 to 1024.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1024))]
    pub threads: usize,
    /// Networks of proxies in front of Sluis: only their `X-Forwarded-For`, `X-Forwarded-Proto` and PROXY headers are
    /// believed. Addresses or networks in CIDR notation.
    #[serde(default)]
    pub trusted_proxies: Vec<String>,
    /// Where Sluis' own pages live on every app. A path without a slash at the end.
    #[serde(default = "prefix")]
    pub prefix: String,
    /// Cookies without `Secure` and `__Host-`: for a demo on http://localhost only, never where people work.
    #[serde(default)]
    pub insecure_cookies: bool,
    /// Master keys: the first signs, all verify, so that keys can be rotated. At least 32 random bytes each, in base64
    /// or hexadecimal; `sluis keys generate` makes one.
    #[schemars(required)]
    pub keys: Option<Vec<Key>>,
    /// Where enrolments and everything else that must survive are kept.
    #[schemars(required)]
    pub store: Option<Store>,
    /// How replicas hear of revocations from each other. Only for a store that several replicas share.
    #[serde(default)]
    pub revocation: Revocation,
    /// Deadlines and sizes of what comes from outside.
    #[serde(default)]
    pub limits: Limits,
    /// How a stop (SIGTERM) goes: nothing in flight is cut.
    #[serde(default)]
    pub shutdown: Shutdown,
    /// What is logged, and how. Logs go to standard error.
    #[serde(default)]
    pub log: Log,
    /// The audit log, as JSON lines: the word `stdout`, or a mapping.
    #[serde(default)]
    pub audit: Audit,
    /// The administrators' API and pages, where `listen.admin` is set.
    #[serde(default)]
    pub admin: Admin,
    /// How people are reached by mail. Nobody is when left out.
    pub mail: Option<Mail>,
    /// The protected apps; at least one.
    #[schemars(required)]
    pub apps: Option<Vec<App>>,
}

fn prefix() -> String {
    String::from("/.sluis")
}

/// One value, or a list of them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// One.
    One(T),
    /// Several.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// As a list.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

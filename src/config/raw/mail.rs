//! `mail`: the way to people's mailboxes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Key;
use crate::config::value::Span;

/// How messages are sent, and what they look like.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    /// The server that takes messages: `smtp://host:587`, or `smtps://host:465` for TLS from the start.
    #[schemars(required)]
    pub smtp: Option<String>,
    /// With `smtp://`: whether TLS is begun on the connection. `none` only to this machine; `dangerously_none` to any.
    pub starttls: Option<Starttls>,
    /// The name by which Sluis logs in at the server; with `password`.
    pub username: Option<String>,
    /// The password. A file is read again for each connection, so that it can be changed without a restart.
    pub password: Option<Key>,
    /// Roots for the server's certificate, PEM; the system's when left out.
    pub ca_file: Option<String>,
    /// The sender: `Sluis <sluis@example.nl>`, or the address alone.
    #[schemars(required)]
    pub from: Option<String>,
    /// The longest wait for a connection, and again for the server to take a message. 1s to 10m.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// The language of messages to people for whom none is set.
    #[serde(default)]
    pub language: Language,
    /// The time zone of times in messages, by its name in the tz database.
    #[serde(default = "time_zone")]
    pub time_zone: String,
    /// Who is told of emergency access. Empty: every account with the role `admin` and an address.
    #[serde(default)]
    pub administrators: Vec<String>,
}

/// Whether TLS is begun on a connection that has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Starttls {
    /// Yes, or nothing is sent.
    Required,
    /// No: to a server on this machine.
    None,
    /// No, and messages and password go over the network in the clear.
    DangerouslyNone,
}

/// A language of messages.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Dutch.
    Nl,
}

fn timeout() -> Span {
    Span("30s".into())
}

fn time_zone() -> String {
    String::from("UTC")
}

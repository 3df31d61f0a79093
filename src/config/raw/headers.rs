//! `apps[].headers`: what the app is told.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the app is told about the user. Clients cannot forge these.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Headers {
    /// Which names; single ones can be changed below.
    pub preset: Preset,
    /// Header with the user name; `off` = none.
    pub user: Option<String>,
    /// Header with the methods proved, comma-separated, or `exempt`, or `emergency`; `off` = none.
    pub methods: Option<String>,
    /// Header with the time of the last proof (RFC 3339); `off` = none.
    pub proved_at: Option<String>,
    /// Send the client's `Authorization` to the app whatever is in it. Else only a bearer token goes there: an app that
    /// takes a user name and password from it would log in without being watched.
    pub pass_authorization: bool,
}

/// A set of header names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// `Remote-User`, `X-Sluis-Methods`, `X-Sluis-Proved-At`; `Remote-Name`, `-Email` and `-Groups` are cleared.
    #[default]
    Remote,
    /// `X-Forwarded-User`, `X-Sluis-Methods`, `X-Sluis-Proved-At`; `X-Forwarded-Email` and `-Groups` are cleared.
    XForwarded,
    /// None but those named below.
    None,
}

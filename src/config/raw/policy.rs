//! `apps[].policy`: who must prove what.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::value::Span;

/// A rule. Either `exempt` or `require`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Whom it is for; everybody when left out.
    #[serde(rename = "match")]
    pub matches: Option<Match>,
    /// No second factor; the text is the reason, for the audit log.
    pub exempt: Option<String>,
    /// A second factor.
    pub require: Option<Require>,
}

/// Whom a rule is for: all that is set must hold.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// Names of users.
    pub users: Option<Vec<String>>,
    /// Addresses or networks that the request comes from.
    pub networks: Option<Vec<String>>,
}

/// What must be proved.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Require {
    /// Methods that count; at least one.
    pub methods: Vec<Method>,
    /// How long a proof is remembered on the device. 0 to 24h; 0 = a code at every login.
    pub validity: Span,
    /// When that is judged.
    pub judged: Judged,
    /// How a user without an authenticator may enrol one: `open`, `invite`, `closed`, or from networks.
    pub enrol: Enrol,
}

impl Default for Require {
    fn default() -> Self {
        Self {
            methods: vec![Method::Totp],
            validity: Span("12h".into()),
            judged: Judged::AtLogin,
            enrol: Enrol::Open,
        }
    }
}

/// A method.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// A code from an authenticator app (RFC 6238).
    Totp,
    /// One of ten codes that were shown once, for whoever has no authenticator at hand.
    Recovery,
}

/// When validity is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Judged {
    /// Only when somebody logs in: who works on is not disturbed.
    AtLogin,
    /// On every request: the next page after that time asks a code, then goes on where it was.
    Continuous,
}

/// Where enrolment is open.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Enrol {
    /// Everywhere, with the password alone.
    Open,
    /// With a one-time activation code from an administrator as well as the password.
    Invite,
    /// Not by the user.
    Closed,
    /// Only from these addresses or networks.
    Networks(Vec<String>),
}

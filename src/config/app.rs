//! One protected site: hosts, upstreams, how its login is watched, what its policy is.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use regex::Regex;

use crate::model::{AppId, MethodSet, Realm, Tolerance};

/// A protected app.
pub struct App {
    /// Its id in tokens, logs and metrics.
    pub id: AppId,
    /// Its name on pages and in authenticator apps.
    pub name: String,
    /// Users and authenticators are shared with other apps of this realm; the app's id unless set.
    pub realm: Realm,
    /// Host names in lower case without port; `*` = every other host.
    pub hosts: Vec<String>,
    /// Where it runs; at least one.
    pub upstreams: Vec<Upstream>,
    /// How it is reached.
    pub transport: Transport,
    /// How its login form is watched.
    pub login: Login,
    /// Paths that log out, in watched (lenient) form; one may have a query (`/doku.php?do=logout`), of which the
    /// request must have every pair.
    pub logout_paths: Vec<String>,
    /// Paths that pass without a session, in canonical form.
    pub anonymous: Vec<PathPattern>,
    /// What its protected paths may have although it can be read in two ways.
    pub tolerate: Tolerance,
    /// Foreign origins whose pages may open its websockets: `scheme://host[:port]` in lower case.
    pub websocket_origins: Vec<String>,
    /// Which of the app's cookies are sealed.
    pub cookies: Cookies,
    /// How long a session lives.
    pub session: SessionLimits,
    /// First rule that matches wins; at least one.
    pub policy: Vec<Rule>,
    /// TOTP settings.
    pub totp: Totp,
    /// Emergency access, where there is any.
    pub break_glass: Option<BreakGlass>,
    /// What the app is told about the user.
    pub headers: Headers,
}

/// One upstream server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upstream {
    /// Speak TLS to it.
    pub tls: bool,
    /// Host name or address, as typed.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Resolved at start; again at each reload.
    pub addresses: Vec<SocketAddr>,
    /// Share of requests among the upstreams.
    pub weight: usize,
}

/// How upstreams are spoken to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transport {
    /// To the end of the TLS handshake.
    pub connect_timeout: Duration,
    /// Between two reads of an answer.
    pub read_timeout: Duration,
    /// Between two writes of a request.
    pub write_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// Send the client's `Host` (true) or the upstream's own name (false).
    pub preserve_host: bool,
    /// Verify the upstream's certificate.
    pub verify_certificate: bool,
    /// Additional roots, PEM.
    pub ca_file: Option<PathBuf>,
    /// A path that answers 2xx when the upstream is well, asked each `health_interval`.
    pub health_path: Option<String>,
    /// How often.
    pub health_interval: Duration,
    /// Tunnels (websockets) without a byte for so long end.
    pub tunnel_idle_timeout: Duration,
}

/// How the app's login is watched (design, section 4).
#[derive(Debug)]
pub struct Login {
    /// Where the login form is: browsers without a session are sent there. Path and query of the app;
    /// `{target}` in it stands for the percent-encoded path and query that was asked for. Must be
    /// covered by `anonymous`.
    pub page: String,
    /// The watched requests; at least one.
    pub watch: Vec<Watch>,
    /// When an answer counts as a success: all that is set must hold; at least one is set.
    pub success: Success,
    /// Asks the app itself who has logged in.
    pub whoami: Option<Whoami>,
    /// How a typed name becomes the canonical one.
    pub name: NameRules,
}

/// A watched login request.
#[derive(Debug)]
pub struct Watch {
    /// Method, mostly POST.
    pub method: http::Method,
    /// The path in watched form (lower case, decoded, slashes collapsed, `;…` dropped, no trailing slash); one that ends
    /// in `/*` stands for all paths below, and has `with`.
    pub path: String,
    /// Only when the query or the body has this pair (`do=login`), for apps that log in on any page. `*` as the
    /// value: only when the field is there at all. Choose the field by which the app itself tells a login: what
    /// does not have it goes to the app as an ordinary request.
    pub with: Option<(String, String)>,
    /// Where the user name stands.
    pub user: UserField,
}

/// Where the user name stands in a login body.
#[derive(Debug, PartialEq, Eq)]
pub enum UserField {
    /// A field of a form (urlencoded or multipart).
    Form(String),
    /// A JSON pointer (RFC 6901).
    Json(String),
}

/// What an answer to a login must look like to count as a success.
#[derive(Debug, Default)]
pub struct Success {
    /// One of these status codes; empty = any.
    pub status: Vec<u16>,
    /// `Location` matches.
    pub location: Option<Regex>,
    /// `Location` does not match.
    pub location_not: Option<Regex>,
    /// A cookie of this name is set (and not deleted).
    pub cookie: Option<String>,
    /// The body matches.
    pub body: Option<Regex>,
    /// The body does not match.
    pub body_not: Option<Regex>,
}

/// A request with the fresh cookies that answers the user's name.
#[derive(Debug)]
pub struct Whoami {
    /// Path of the app.
    pub path: String,
    /// JSON pointer into the answer, or
    pub json: Option<String>,
    /// a pattern whose first group is the name.
    pub pattern: Option<Regex>,
}

/// How a typed name becomes the canonical one.
#[derive(Debug)]
pub struct NameRules {
    /// Drop white space at both ends.
    pub trim: bool,
    /// Unicode NFKC.
    pub nfkc: bool,
    /// Unicode case folding.
    pub case_fold: bool,
    /// Then these replacements, in order.
    pub rewrite: Vec<(Regex, String)>,
    /// A typed name is of this form, whole, after all that; `None` = any.
    pub allowed: Option<Regex>,
}

/// A path that matches whole or by its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// This path and no other.
    Exact(String),
    /// This path with exactly this raw query: written `/doku.php?do=login`.
    ExactQuery(String, String),
    /// This path and all below: written `/static/*`, kept as `/static/`.
    Below(String),
}

impl PathPattern {
    /// Whether a canonical path and the raw query after it match.
    pub fn matches(&self, path: &str, query: Option<&str>) -> bool {
        match self {
            Self::Exact(p) => p == path,
            Self::ExactQuery(p, q) => p == path && query == Some(q.as_str()),
            Self::Below(p) => path.starts_with(p.as_str()),
        }
    }
}

/// Which cookies of the app are sealed (design, section 5).
#[derive(Clone, Debug, Default)]
pub struct Cookies {
    /// Sealed although not `HttpOnly`.
    pub seal: Vec<String>,
    /// Never sealed.
    pub exempt: Vec<String>,
}

/// Limits of a session.
#[derive(Clone, Debug)]
pub struct SessionLimits {
    /// Without a request for so long it ends.
    pub idle: Duration,
    /// It ends after this in any case.
    pub max: Duration,
}

/// One rule of the policy.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Canonical names of users it is for (folded like typed names, `model::name`); empty = everybody.
    pub users: Vec<String>,
    /// Networks it is for; empty = everywhere.
    pub networks: Vec<IpNet>,
    /// What it gives.
    pub then: Then,
}

/// What a rule gives.
#[derive(Clone, Debug)]
pub enum Then {
    /// No second factor; the reason is for the audit log.
    Exempt {
        /// Why.
        reason: String,
    },
    /// A second factor.
    Require(Requirement),
}

/// What is required.
#[derive(Clone, Debug)]
pub struct Requirement {
    /// Methods that count.
    pub methods: MethodSet,
    /// How long a proof is remembered on the device: 0–24 h for app codes; zero = at every login.
    pub validity: Duration,
    /// Validity is judged on every request too, not only at login.
    pub continuous: bool,
    /// How a user without an authenticator may enrol.
    pub enrol: Enrol,
}

/// Where enrolment is open.
#[derive(Clone, Debug)]
pub enum Enrol {
    /// Everywhere, after the first factor.
    Open,
    /// Only from these networks.
    Networks(Vec<IpNet>),
    /// Everywhere, after the first factor and with an administrator's invitation.
    Invite,
    /// Not by the user.
    Closed,
}

/// Emergency access: with the password, a code that an administrator prepared, and a reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BreakGlass {
    /// A reason must be given.
    pub reason_required: bool,
    /// How long such a session lives at most.
    pub max: Duration,
}

/// TOTP settings of an app.
#[derive(Clone, Debug)]
pub struct Totp {
    /// Issuer shown in the authenticator app.
    pub issuer: String,
    /// How many authenticators one user may have.
    pub at_most: usize,
}

/// What the app is told (design, section 10). Header names are lower case.
#[derive(Clone, Debug)]
pub struct Headers {
    /// Carries the user name.
    pub user: Option<http::HeaderName>,
    /// Carries the methods proved, comma-separated (`totp`), or `exempt`, or `emergency`.
    pub methods: Option<http::HeaderName>,
    /// Carries the time of the last proof, RFC 3339.
    pub proved_at: Option<http::HeaderName>,
    /// Removed from requests and never set: the other names of the preset (`Remote-Email` …).
    pub cleared: Vec<http::HeaderName>,
    /// `Authorization` goes to the app whatever is in it; else only a bearer token does.
    pub pass_authorization: bool,
}

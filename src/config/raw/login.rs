//! `apps[].login`: how a login is recognised, judged and named.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::OneOrMany;

/// How the app's login form is watched.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Where the login form is: browsers without a session are sent there. Path and query of the app; `{target}` in it
    /// stands for what was asked for, percent-encoded. Must be covered by `anonymous`.
    #[schemars(required)]
    pub page: Option<String>,
    /// The requests that log in; at least one.
    #[schemars(required)]
    pub watch: Option<Vec<Watch>>,
    /// When an answer counts as a success: all that is set must hold; at least one is set.
    #[schemars(required)]
    pub success: Option<Success>,
    /// Asks the app itself, with the fresh cookies, who has logged in; its answer wins over the form.
    pub whoami: Option<Whoami>,
    /// How a typed name becomes the canonical one, so that each user has one name only.
    #[serde(default)]
    pub name: Name,
}

/// A request that logs in. Its path is compared leniently, so that no other spelling escapes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// Path of the app, without query; `/*` or `/directory/*` (with `with` only) for an app that logs in on any path.
    #[schemars(required)]
    pub path: Option<String>,
    /// Method.
    #[serde(default = "post")]
    pub method: String,
    /// The form field (urlencoded or multipart) that holds the user name. Either this or `user_json`.
    pub user_field: Option<String>,
    /// JSON pointer (RFC 6901) to the user name in a JSON body: `/user/name`. Either this or `user_field`.
    pub user_json: Option<String>,
    /// Only requests with this pair in query or body, for apps that log in on a path with other uses too: `{do: login}`.
    #[serde(default)]
    pub with: BTreeMap<String, String>,
}

fn post() -> String {
    String::from("POST")
}

/// What an answer to a login must look like to count as a success.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Success {
    /// One of these status codes. 200 to 599.
    pub status: Option<OneOrMany<u16>>,
    /// Regular expression that `Location` matches.
    pub location: Option<String>,
    /// Regular expression that `Location` does not match.
    pub location_not: Option<String>,
    /// A cookie of this name is set.
    pub cookie: Option<String>,
    /// Regular expression that the body matches.
    pub body: Option<String>,
    /// Regular expression that the body does not match.
    pub body_not: Option<String>,
}

/// A request that answers the user's name.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Whoami {
    /// Path of the app, answered with 200.
    #[schemars(required)]
    pub path: Option<String>,
    /// JSON pointer (RFC 6901) to the name in the answer. Either this or `pattern`.
    pub json: Option<String>,
    /// Regular expression whose first group is the name. Either this or `json`.
    pub pattern: Option<String>,
}

/// How a typed name becomes the canonical one.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Name {
    /// Drop white space at both ends.
    pub trim: bool,
    /// Unicode NFKC: full-width and composed letters become the ordinary ones.
    pub nfkc: bool,
    /// Upper and lower case are the same.
    pub case_fold: bool,
    /// Then these replacements, in order.
    pub rewrite: Vec<Rewrite>,
    /// Regular expression of which a typed name must be a whole match, after all that; anything else is refused before the
    /// app sees it. With `whoami` any name is, unless set; else printable ASCII: `[ -~]+`.
    pub allowed: Option<String>,
}

impl Default for Name {
    fn default() -> Self {
        Self { trim: true, nfkc: true, case_fold: true, rewrite: Vec::new(), allowed: None }
    }
}

/// A replacement in a name.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// Regular expression: `^corp\\(.+)$`.
    #[schemars(required)]
    pub pattern: Option<String>,
    /// What stands there instead; `$1` is the first group.
    #[schemars(required)]
    pub replace: Option<String>,
}

//! The administrators' own realm: what their pages are to the parts that know apps only. Their login, challenge, tokens
//! and revocations are the very same code as everybody's.

use std::time::Duration;

use super::app::{
    App, Cookies, Enrol, Headers, Login, NameRules, Requirement, Rule, SessionLimits, Success, Then, Totp,
    Transport,
};
use crate::model::{AppId, Method, MethodSet, Realm, Tolerance};

/// The realm, and the app in it. No app of a configuration has this id or realm.
pub const REALM: &str = "sluis-admin";

/// The administrators' pages as an app: a code at every login, nothing is remembered, and sessions are short.
pub fn app() -> App {
    let minutes = |n: u64| Duration::from_secs(n * 60);
    App {
        id: AppId::new(REALM),
        name: "Sluis".to_owned(),
        realm: Realm::new(REALM),
        hosts: Vec::new(),
        upstreams: Vec::new(),
        // Nothing is forwarded.
        transport: Transport {
            connect_timeout: minutes(1),
            read_timeout: minutes(1),
            write_timeout: minutes(1),
            idle_timeout: minutes(1),
            preserve_host: true,
            verify_certificate: true,
            ca_file: None,
            health_path: None,
            health_interval: minutes(1),
            tunnel_idle_timeout: minutes(1),
        },
        login: Login {
            page: "/login".to_owned(),
            watch: Vec::new(),
            success: Success::default(),
            whoami: None,
            name: NameRules { trim: true, nfkc: true, case_fold: true, rewrite: Vec::new(), allowed: None },
        },
        logout_paths: Vec::new(),
        anonymous: Vec::new(),
        tolerate: Tolerance::NONE,
        websocket_origins: Vec::new(),
        cookies: Cookies::default(),
        session: SessionLimits { idle: minutes(15), max: minutes(8 * 60) },
        policy: vec![Rule {
            users: Vec::new(),
            networks: Vec::new(),
            then: Then::Require(Requirement {
                methods: MethodSet::of(Method::Totp),
                validity: Duration::ZERO,
                continuous: false,
                enrol: Enrol::Invite,
            }),
        }],
        // Another administrator helps.
        break_glass: None,
        totp: Totp { issuer: "Sluis".to_owned(), at_most: 3 },
        headers: Headers {
            user: None,
            methods: None,
            proved_at: None,
            cleared: Vec::new(),
            pass_authorization: false,
        },
    }
}

//! An app for tests, to be changed as each test needs.

use std::time::Duration;

use regex::Regex;

use super::app::{
    App, Cookies, Enrol, Headers, Login, NameRules, PathPattern, Requirement, Rule, SessionLimits, Success,
    Then, Totp, Transport, UserField, Watch,
};
use crate::model::{AppId, Method, MethodSet, Realm, Tolerance};

/// "care": a form at `/login`, everybody needs a code from an app at every login and may enrol.
pub(crate) fn app() -> App {
    App {
        id: AppId::new("care"),
        name: "Care".to_owned(),
        realm: Realm::new("care"),
        hosts: vec!["care.example".to_owned()],
        upstreams: Vec::new(),
        transport: Transport {
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            preserve_host: true,
            verify_certificate: true,
            ca_file: None,
            health_path: None,
            health_interval: Duration::from_secs(5),
            tunnel_idle_timeout: Duration::from_secs(300),
        },
        login: Login {
            page: "/login?next={target}".to_owned(),
            watch: vec![watch("/login", "user")],
            success: Success {
                status: vec![302, 303],
                location_not: Some(Regex::new("/login").unwrap()),
                ..Success::default()
            },
            whoami: None,
            name: NameRules { trim: true, nfkc: true, case_fold: true, rewrite: Vec::new(), allowed: None },
        },
        logout_paths: vec!["/logout".to_owned()],
        anonymous: vec![PathPattern::Exact("/login".to_owned()), PathPattern::Below("/static/".to_owned())],
        tolerate: Tolerance::NONE,
        websocket_origins: Vec::new(),
        cookies: Cookies::default(),
        session: SessionLimits { idle: Duration::from_secs(3600), max: Duration::from_secs(12 * 3600) },
        policy: vec![Rule {
            users: Vec::new(),
            networks: Vec::new(),
            then: Then::Require(requirement(Duration::ZERO, false)),
        }],
        totp: Totp { issuer: "Care".to_owned(), at_most: 5 },
        break_glass: None,
        headers: Headers {
            user: None,
            methods: None,
            proved_at: None,
            cleared: Vec::new(),
            pass_authorization: false,
        },
    }
}

/// `POST` of a form with the user name in `field`.
pub(crate) fn watch(path: &str, field: &str) -> Watch {
    Watch {
        method: http::Method::POST,
        path: path.to_owned(),
        with: None,
        user: UserField::Form(field.to_owned()),
    }
}

/// A code from an app, remembered for `validity`; anybody may enrol.
pub(crate) fn requirement(validity: Duration, continuous: bool) -> Requirement {
    Requirement { methods: MethodSet::of(Method::Totp), validity, continuous, enrol: Enrol::Open }
}

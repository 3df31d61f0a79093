//! An app, limits and requests for the proxy's own tests.

use std::{sync::Arc, time::Duration};

use http::HeaderName;
use pingora::http::RequestHeader;

use super::{site::Sites, upstreams::Upstreams};
use crate::{
    config::{App, Limits, app},
    metrics::Metrics,
    model::{AppId, Method, MethodSet, Realm, Tolerance},
};

/// An app that answers on these hosts.
pub fn app(id: &str, hosts: &[&str]) -> App {
    App {
        id: AppId::new(id),
        name: id.to_owned(),
        realm: Realm::new(id),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        upstreams: vec![app::Upstream {
            tls: false,
            host: "127.0.0.1".to_owned(),
            port: 9,
            addresses: vec!["127.0.0.1:9".parse().unwrap()],
            weight: 1,
        }],
        transport: app::Transport {
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(5),
            preserve_host: true,
            verify_certificate: true,
            ca_file: None,
            health_path: None,
            health_interval: Duration::from_secs(5),
            tunnel_idle_timeout: Duration::from_secs(60),
        },
        login: app::Login {
            page: "/login".to_owned(),
            watch: vec![app::Watch {
                method: http::Method::POST,
                path: "/login".to_owned(),
                with: None,
                user: app::UserField::Form("user".to_owned()),
            }],
            success: app::Success { status: vec![302], ..app::Success::default() },
            whoami: None,
            name: app::NameRules { trim: true, nfkc: true, case_fold: true, rewrite: vec![], allowed: None },
        },
        logout_paths: vec!["/logout".to_owned()],
        anonymous: vec![app::PathPattern::Exact("/login".to_owned())],
        tolerate: Tolerance::NONE,
        websocket_origins: vec!["https://portal.example".to_owned()],
        cookies: app::Cookies::default(),
        session: app::SessionLimits { idle: Duration::from_secs(3600), max: Duration::from_secs(36000) },
        policy: vec![app::Rule {
            users: vec![],
            networks: vec![],
            then: app::Then::Require(app::Requirement {
                methods: MethodSet::of(Method::Totp),
                validity: Duration::ZERO,
                continuous: false,
                enrol: app::Enrol::Open,
            }),
        }],
        totp: app::Totp { issuer: id.to_owned(), at_most: 5 },
        break_glass: None,
        headers: app::Headers {
            user: Some(HeaderName::from_static("remote-user")),
            methods: Some(HeaderName::from_static("x-sluis-methods")),
            proved_at: Some(HeaderName::from_static("x-sluis-proved-at")),
            cleared: vec![HeaderName::from_static("remote-email")],
            pass_authorization: false,
        },
    }
}

/// `ecd` on two hosts, and `wiki` with what it tolerates.
pub fn sites() -> Sites {
    let mut wiki = app("wiki", &["wiki.example"]);
    wiki.tolerate = Tolerance { semicolon: true, ..Tolerance::NONE };
    let apps = vec![Arc::new(app("ecd", &["ecd.example", "[2001:db8::1]"])), Arc::new(wiki)];
    let upstreams = Upstreams::new(apps.iter().map(AsRef::as_ref)).unwrap();
    Sites::new(apps, &Metrics::new(&[]), &upstreams)
}

/// Generous limits.
pub fn limits() -> Limits {
    Limits {
        header_timeout: Duration::from_secs(10),
        header_bytes: 16 * 1024,
        header_fields: 100,
        min_body_rate: 0,
        keepalive_timeout: Duration::from_secs(60),
        client_idle_timeout: Duration::from_secs(60),
        login_body_bytes: 64 * 1024,
        body_bytes: 1000,
        connections: 0,
    }
}

/// A request as pingora would have parsed it from HTTP/1.1.
pub fn request(method: &str, target: &str, lines: &[(&'static str, &str)]) -> RequestHeader {
    let mut header = RequestHeader::build(method, target.as_bytes(), None).unwrap();
    header.set_version(http::Version::HTTP_11);
    for (name, value) in lines {
        header.append_header(*name, *value).unwrap();
    }
    header
}

//! Every endpoint × every kind of visitor: what each of them gets. And what every answer carries.

use axum::http::{HeaderMap, Method, StatusCode, header};

use super::house::{Answer, Browser, House};
use crate::{session::cookie::Kind, web::assets};

/// Visitors, in the order of the columns.
const VISITORS: &[&str] = &[
    "nobody",
    "pending, not enrolled",
    "pending, enrolled",
    "verified",
    "other user",
    "blocked, pending",
    "blocked",
];

/// What an answer is, shortly: its status, and where it leads or what is in it.
const TABLE: &[(&str, &str, [&str; 7])] = &[
    (
        "GET",
        "/.sluis/challenge",
        ["403 expired", "303 /.sluis/enrol", "200 code", "303 /", "200 code", "403 expired", "403"],
    ),
    (
        "POST",
        "/.sluis/challenge",
        ["403 expired", "403 form", "403 form", "303 /", "403 form", "403 expired", "403"],
    ),
    (
        "GET",
        "/.sluis/enrol",
        [
            "403 expired",
            "200 qr",
            "303 /.sluis/challenge",
            "200 qr",
            "303 /.sluis/challenge",
            "403 expired",
            "403",
        ],
    ),
    (
        "POST",
        "/.sluis/enrol",
        [
            "403 expired",
            "403 form",
            "303 /.sluis/challenge",
            "403 form",
            "303 /.sluis/challenge",
            "403 expired",
            "403",
        ],
    ),
    (
        "GET",
        "/.sluis/me",
        [
            "403 expired",
            "303 /.sluis/challenge",
            "303 /.sluis/challenge",
            "200 me",
            "303 /.sluis/challenge",
            "403 expired",
            "403",
        ],
    ),
    (
        "POST",
        "/.sluis/me",
        [
            "403 expired",
            "303 /.sluis/challenge",
            "303 /.sluis/challenge",
            "403 form",
            "303 /.sluis/challenge",
            "403 expired",
            "403",
        ],
    ),
    (
        "GET",
        "/.sluis/me/remove",
        [
            "403 expired",
            "303 /.sluis/challenge",
            "303 /.sluis/challenge",
            "200 only",
            "303 /.sluis/challenge",
            "403 expired",
            "403",
        ],
    ),
    (
        "POST",
        "/.sluis/me/remove",
        [
            "403 expired",
            "303 /.sluis/challenge",
            "303 /.sluis/challenge",
            "403 form",
            "303 /.sluis/challenge",
            "403 expired",
            "403",
        ],
    ),
    (
        "GET",
        "/.sluis/recovery",
        [
            "403 expired",
            "303 /.sluis/challenge",
            "303 /.sluis/challenge",
            "303 /.sluis/me",
            "303 /.sluis/challenge",
            "403 expired",
            "403",
        ],
    ),
    (
        "POST",
        "/.sluis/recovery",
        [
            "403 expired",
            "303 /.sluis/challenge",
            "303 /.sluis/challenge",
            "303 /.sluis/me",
            "303 /.sluis/challenge",
            "403 expired",
            "403",
        ],
    ),
    ("GET", "/.sluis/me/", ["404"; 7]),
    (
        "GET",
        "/.sluis/invitation",
        [
            "303 /.sluis/challenge",
            "303 /.sluis/enrol",
            "303 /.sluis/challenge",
            "303 /.sluis/challenge",
            "303 /.sluis/challenge",
            "303 /.sluis/challenge",
            "303 /.sluis/challenge",
        ],
    ),
    (
        "POST",
        "/.sluis/invitation",
        [
            "303 /.sluis/challenge",
            "303 /.sluis/enrol",
            "303 /.sluis/challenge",
            "303 /.sluis/challenge",
            "303 /.sluis/challenge",
            "303 /.sluis/challenge",
            "303 /.sluis/challenge",
        ],
    ),
    ("GET", "/.sluis/emergency", ["404"; 7]),
    ("POST", "/.sluis/emergency", ["404"; 7]),
    ("GET", "/.sluis/logout", ["200 out", "200 out", "200 out", "200 ask", "200 out", "200 out", "200 out"]),
    (
        "POST",
        "/.sluis/logout",
        ["200 out", "200 out", "200 out", "403 form", "200 out", "200 out", "200 out"],
    ),
    ("GET", "/.sluis/login", ["303 /login?next=%2F"; 7]),
    ("POST", "/.sluis/login", ["405"; 7]),
    ("DELETE", "/.sluis/challenge", ["405"; 7]),
    ("GET", "/.sluis/nothing", ["404"; 7]),
    ("GET", "/.sluis", ["404"; 7]),
    ("GET", "/.sluis/", ["404"; 7]),
    ("GET", "/.sluis/static/nothing.css", ["404"; 7]),
    ("GET", "/.sluis/static/..%2f..%2fCargo.toml", ["404"; 7]),
    ("GET", "/", ["404"; 7]),
    ("GET", "/patients", ["404"; 7]),
];

/// "Other user" has Anna's cookies from before, and then Bram's password was typed on that browser: whatever
/// form of Anna's session is still open counts for nothing.
#[tokio::test]
async fn every_endpoint_and_every_visitor() {
    let house = House::new().await;
    let mut browsers = Vec::new();
    let mut token = String::new();
    for visitor in VISITORS {
        let mut browser = Browser::default();
        match *visitor {
            "pending, not enrolled" => house.password(&mut browser, "new", "/").await,
            "pending, enrolled" => {
                house.verified("carla").await;
                house.password(&mut browser, "carla", "/").await;
            }
            "verified" => browser = house.verified("anna").await.0,
            "other user" => {
                let (annas, _) = house.verified("dirk").await;
                browser = annas;
                token = browser.get(&house, "/.sluis/logout").await.token();
                house.verified("bram").await;
                house.password(&mut browser, "bram", "/").await;
            }
            "blocked, pending" => {
                browser = house.verified("eva").await.0;
                house.password(&mut browser, "eva", "/").await;
                house.store.set_blocked(&house.user("eva"), true, house.pages.clock.now()).await.unwrap();
            }
            "blocked" => {
                browser = house.verified("floor").await.0;
                let floor = house.user("floor");
                house.store.set_blocked(&floor, true, house.pages.clock.now()).await.unwrap();
            }
            _ => {}
        }
        browsers.push(browser);
    }
    let mut wrong = Vec::new();
    for (method, path, row) in TABLE {
        for ((visitor, expected), browser) in VISITORS.iter().zip(row).zip(&browsers) {
            let mut browser = browser.clone();
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let answer = if method == Method::POST {
                let fields = [("token", token.clone()), ("code", "123456".to_owned())];
                browser.post(&house, path, &fields).await
            } else {
                browser.get_as(&house, method.clone(), path).await
            };
            let is = if answer.status == StatusCode::SEE_OTHER {
                format!("303 {}", answer.location())
            } else {
                let what = [
                    ("Log in again</h1>", " expired"),
                    ("no longer valid</h1>", " form"),
                    ("otpauth://", " qr"),
                    ("Enter your code</h1>", " code"),
                    ("You are logged out</h1>", " out"),
                    ("Log out</h1>", " ask"),
                    ("Your authenticators and devices</h1>", " me"),
                    ("You need this authenticator</h1>", " only"),
                ];
                let what =
                    what.iter().find(|(text, _)| answer.body.contains(text)).map_or("", |(_, name)| name);
                format!("{}{what}", answer.status.as_u16())
            };
            if is != *expected {
                wrong.push(format!("{method} {path} by {visitor}: {is}, expected {expected}"));
            }
            carries_what_every_answer_must(&answer.headers, &format!("{method} {path} by {visitor}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

fn carries_what_every_answer_must(headers: &HeaderMap, place: &str) {
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("strict-transport-security", "max-age=31536000"),
        ("x-frame-options", "DENY"),
    ] {
        assert_eq!(headers.get(name).map(|v| v.to_str().unwrap()), Some(value), "{place}: {name}");
    }
    let csp = headers["content-security-policy"].to_str().unwrap();
    for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"] {
        assert!(csp.contains(part), "{place}: {csp}");
    }
    assert!(!csp.contains("unsafe"), "{place}");
    assert!(headers.contains_key("permissions-policy"), "{place}");
}

#[tokio::test]
async fn assets_may_be_kept_for_ever_and_pages_not_at_all() {
    let house = House::new().await;
    let mut browser = Browser::default();
    for (file, bytes) in assets::all() {
        let answer = browser.get(&house, &format!("/.sluis/static/{file}")).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.headers[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
        assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(answer.body.as_bytes(), bytes);
        assert!(!answer.headers.contains_key(header::SET_COOKIE));
    }
}

/// Two cookies of one kind: which one counts would be a guess.
#[tokio::test]
async fn a_cookie_of_ours_that_is_there_twice_is_refused() {
    let house = House::new().await;
    let name = house.pages.names.name(Kind::Login);
    let twice = format!("{name}=a; {name}=b");
    let mut browser = Browser::default();
    let headers = [("cookie", twice.as_str())];
    let answer = browser.send(&house, Method::GET, "/.sluis/challenge", &headers, String::new()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.body.contains("req-1"), "with the request's number");
}

impl Browser {
    async fn get_as(&mut self, house: &House, method: Method, path: &str) -> Answer {
        self.send(house, method, path, &[("sec-fetch-site", "none")], String::new()).await
    }
}

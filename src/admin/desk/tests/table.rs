//! Every page × every kind of caller, and what every answer carries.

use axum::http::{Method, StatusCode};

use super::{
    super::PATHS,
    house::{Browser, House},
};
use crate::model::Role;

/// nobody, pending, auditor, helpdesk, admin. A user of an app and a program with a token of the API are nobody here.
const TABLE: &[(&str, &str, [&str; 5])] = &[
    ("GET", "/", ["303 in", "303 in", "200", "200", "200"]),
    ("GET", "/login", ["200", "200", "303", "303", "303"]),
    ("POST", "/login", ["403", "403", "403", "403", "403"]),
    ("GET", "/invitation", ["200", "200", "200", "200", "200"]),
    ("POST", "/invitation", ["403", "403", "403", "403", "403"]),
    ("GET", "/user?realm=care&name=anna", ["303 in", "303 in", "200", "200", "200"]),
    ("GET", "/user?realm=care&name=nobody", ["303 in", "303 in", "404", "404", "404"]),
    ("GET", "/user/settings?realm=care&name=anna", ["303 in", "303 in", "403", "403", "200"]),
    ("POST", "/user/settings", ["303 in", "303 in", "403", "403", "403 form"]),
    ("GET", "/user/reset?realm=care&name=anna", ["303 in", "303 in", "403", "200", "200"]),
    ("POST", "/user/reset", ["303 in", "303 in", "403", "403 form", "403 form"]),
    ("GET", "/user/unlock?realm=care&name=anna", ["303 in", "303 in", "403", "200", "200"]),
    ("POST", "/user/unlock", ["303 in", "303 in", "403", "403 form", "403 form"]),
    ("GET", "/user/sign-out?realm=care&name=anna", ["303 in", "303 in", "403", "200", "200"]),
    ("POST", "/user/sign-out", ["303 in", "303 in", "403", "403 form", "403 form"]),
    ("GET", "/user/invite?realm=care&name=anna", ["303 in", "303 in", "403", "200", "200"]),
    ("POST", "/user/invite", ["303 in", "303 in", "403", "403 form", "403 form"]),
    ("GET", "/user/remove?realm=care&name=anna&id=x", ["303 in", "303 in", "403", "403", "404"]),
    ("POST", "/user/remove", ["303 in", "303 in", "403", "403", "403 form"]),
    ("GET", "/user/block?realm=care&name=anna", ["303 in", "303 in", "403", "403", "200"]),
    ("POST", "/user/block", ["303 in", "303 in", "403", "403", "403 form"]),
    ("GET", "/user/unblock?realm=care&name=anna", ["303 in", "303 in", "403", "403", "200"]),
    ("POST", "/user/unblock", ["303 in", "303 in", "403", "403", "403 form"]),
    ("GET", "/user/exempt?realm=care&name=anna", ["303 in", "303 in", "403", "403", "200"]),
    ("POST", "/user/exempt", ["303 in", "303 in", "403", "403", "403 form"]),
    ("GET", "/user/end-exemption?realm=care&name=anna", ["303 in", "303 in", "403", "403", "200"]),
    ("POST", "/user/end-exemption", ["303 in", "303 in", "403", "403", "403 form"]),
    ("GET", "/user/emergency?realm=care&name=anna", ["303 in", "303 in", "403", "403", "200"]),
    ("POST", "/user/emergency", ["303 in", "303 in", "403", "403", "403 form"]),
    ("GET", "/user/role?realm=care&name=anna", ["303 in", "303 in", "403", "403", "403"]),
    ("GET", "/user/role?realm=sluis-admin&name=other", ["303 in", "303 in", "403", "403", "200"]),
    ("GET", "/user/dismiss?realm=sluis-admin&name=other", ["303 in", "303 in", "403", "403", "200"]),
    ("GET", "/user/reset?realm=sluis-admin&name=other", ["303 in", "303 in", "403", "403", "200"]),
    ("GET", "/user/block?realm=sluis-admin&name=own", ["303 in", "303 in", "403", "403", "403"]),
    ("GET", "/user/exempt?realm=sluis-admin&name=other", ["303 in", "303 in", "403", "403", "403"]),
    ("GET", "/user/nothing?realm=care&name=anna", ["303 in", "303 in", "404", "404", "404"]),
    ("GET", "/administrators", ["303 in", "303 in", "200", "200", "200"]),
    ("GET", "/administrators/new", ["303 in", "303 in", "403", "403", "200"]),
    ("POST", "/administrators/new", ["303 in", "303 in", "403", "403", "403 form"]),
    ("GET", "/tokens", ["303 in", "303 in", "200", "200", "200"]),
    ("GET", "/account", ["303 in", "303 in", "200", "200", "200"]),
    ("GET", "/account/password", ["303 in", "303 in", "200", "200", "200"]),
    ("POST", "/account/password", ["303 in", "303 in", "403 form", "403 form", "403 form"]),
    ("GET", "/.sluis/me", ["303", "303", "303", "303", "303"]),
    ("GET", "/.sluis/me/remove", ["404"; 5]),
    ("POST", "/.sluis/me", ["405"; 5]),
    ("GET", "/.sluis/emergency", ["404"; 5]),
    ("POST", "/.sluis/emergency", ["404"; 5]),
    ("GET", "/.sluis/recovery", ["404"; 5]),
    ("POST", "/.sluis/recovery", ["404"; 5]),
    ("GET", "/.sluis/challenge", ["403", "303", "303", "303", "303"]),
    ("DELETE", "/", ["405"; 5]),
    ("POST", "/", ["405"; 5]),
];

/// [E1 E6] Deny by default: who is not an administrator gets a login page, whatever else they are.
#[tokio::test]
async fn e1_every_page_and_every_caller() {
    let house = House::new().await;
    house.user("anna").await;
    house.administrator("other", Role::Admin).await;
    let callers = [
        Browser::default(),
        house.invited("pending", Role::Admin).await,
        house.administrator("auditor", Role::Auditor).await.0,
        house.administrator("helpdesk", Role::Helpdesk).await.0,
        house.administrator("own", Role::Admin).await.0,
        house.user_of_an_app("anna").await,
        house.user_of_an_app("own").await,
        house.program().await,
    ];
    let names =
        ["nobody", "pending", "auditor", "helpdesk", "admin", "user of an app", "admin's namesake", "token"];
    let mut wrong = Vec::new();
    for (method, path, row) in TABLE {
        let [nobody, ..] = row;
        for ((expected, browser), who) in row.iter().chain([nobody; 3]).zip(&callers).zip(names) {
            let mut browser = browser.clone();
            let answer = if *method == "POST" {
                let fields = [("token", "x"), ("realm", "care"), ("name", "anna"), ("reason", "x")];
                browser.post(&house, path, &fields).await
            } else {
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                let headers = [("sec-fetch-site", "none")];
                browser.send(&house, method, path, &headers, String::new()).await
            };
            let what = match answer.status {
                StatusCode::SEE_OTHER if answer.location().starts_with("/login") => " in",
                StatusCode::FORBIDDEN
                    if expected.ends_with("form") && answer.body.contains("no longer valid</h1>") =>
                {
                    " form"
                }
                _ => "",
            };
            let is = format!("{}{what}", answer.status.as_u16());
            if is != *expected {
                wrong.push(format!("{method} {path} by {who}: {is}, expected {expected}"));
            }
            for (name, value) in [
                ("cache-control", "no-store"),
                ("x-content-type-options", "nosniff"),
                ("referrer-policy", "same-origin"),
                ("x-frame-options", "DENY"),
                ("strict-transport-security", "max-age=31536000"),
            ] {
                let found = answer.headers.get(name).map(|v| v.to_str().unwrap());
                assert_eq!(found, Some(value), "{method} {path} by {who}: {name}");
            }
            let csp = answer.headers["content-security-policy"].to_str().unwrap();
            assert!(csp.contains("default-src 'none'") && !csp.contains("unsafe"), "{csp}");
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// What stands in a path is found once, also behind the door that a reload swaps: style and script are there.
#[tokio::test]
async fn style_and_script_are_served() {
    let house = House::new().await;
    let mut browser = Browser::default();
    let page = browser.get(&house, "/login").await;
    for (pattern, kind) in
        [(r#"href="([^"]+[.]css)""#, "text/css"), (r#"src="([^"]+[.]js)""#, "text/javascript")]
    {
        let asset = browser.get(&house, &page.one(pattern)).await;
        assert_eq!(asset.status, StatusCode::OK, "{}", asset.body);
        let found = asset.headers["content-type"].to_str().unwrap();
        assert!(found.starts_with(kind), "{found}");
    }
}

/// Nothing is served that the table does not know.
#[test]
fn the_table_is_complete() {
    let stems: Vec<&str> = TABLE.iter().map(|(_, path, _)| path.split('?').next().unwrap()).collect();
    for path in PATHS {
        let stem = path.split('{').next().unwrap();
        let known = stems.iter().any(|s| if stem == *path { s == path } else { s.starts_with(stem) });
        assert!(known, "{path}");
    }
    for act in super::super::acts::Act::ALL {
        assert!(stems.contains(&act.path().as_str()), "{act:?}");
    }
}

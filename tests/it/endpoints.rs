//! Every endpoint of ours × every kind of visitor, over real HTTP.

use reqwest::Method;

use crate::support::{Browser, Demo, Sluis, sluis::care_records};

/// In the order of the columns.
const VISITORS: [&str; 6] =
    ["nobody", "pending, not linked", "pending, linked", "verified", "other user", "blocked user"];

/// Status, and for a redirect where it leads.
const TABLE: &[(&str, &str, [&str; 6])] = &[
    ("GET", "/.sluis/challenge", ["403", "303 /.sluis/enrol", "200", "303 /", "200", "403"]),
    ("HEAD", "/.sluis/challenge", ["403", "303 /.sluis/enrol", "200", "303 /", "200", "403"]),
    ("POST", "/.sluis/challenge", ["403", "403", "403", "303 /", "403", "403"]),
    ("GET", "/.sluis/enrol", ["403", "200", "303 /.sluis/challenge", "200", "303 /.sluis/challenge", "403"]),
    ("POST", "/.sluis/enrol", ["403", "403", "303 /.sluis/challenge", "403", "303 /.sluis/challenge", "403"]),
    (
        "GET",
        "/.sluis/me",
        ["403", "303 /.sluis/challenge", "303 /.sluis/challenge", "200", "303 /.sluis/challenge", "403"],
    ),
    (
        "POST",
        "/.sluis/me",
        ["403", "303 /.sluis/challenge", "303 /.sluis/challenge", "403", "303 /.sluis/challenge", "403"],
    ),
    (
        "GET",
        "/.sluis/me/remove",
        ["403", "303 /.sluis/challenge", "303 /.sluis/challenge", "200", "303 /.sluis/challenge", "403"],
    ),
    (
        "POST",
        "/.sluis/me/remove",
        ["403", "303 /.sluis/challenge", "303 /.sluis/challenge", "403", "303 /.sluis/challenge", "403"],
    ),
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
        ],
    ),
    ("GET", "/.sluis/emergency", ["404"; 6]),
    ("POST", "/.sluis/emergency", ["404"; 6]),
    ("GET", "/.sluis/logout", ["200"; 6]),
    ("POST", "/.sluis/logout", ["200", "200", "200", "403", "200", "200"]),
    ("GET", "/.sluis/login", ["303 /login"; 6]),
    ("POST", "/.sluis/login", ["405"; 6]),
    ("PUT", "/.sluis/enrol", ["405"; 6]),
    ("DELETE", "/.sluis/challenge", ["405"; 6]),
    ("GET", "{style}", ["200"; 6]),
    ("GET", "/.sluis/static/nothing.css", ["404"; 6]),
    ("GET", "/.sluis/static/..%2f..%2fCargo.toml", ["400"; 6]),
    ("GET", "/.sluis/nothing", ["404"; 6]),
    ("GET", "/.sluis/", ["404"; 6]),
    ("GET", "/.sluis", ["404"; 6]),
    ("GET", "/.sluis/../", ["400"; 6]),
    // And the app, for comparison.
    (
        "GET",
        "/",
        [
            "303 /login",
            "303 /.sluis/challenge",
            "303 /.sluis/challenge",
            "200",
            "303 /.sluis/challenge",
            "403",
        ],
    ),
];

async fn verified(sluis: &Sluis, user: &str) -> Browser {
    let mut browser = sluis.browser();
    let pending = sluis.password(&mut browser, user).await;
    sluis.enrol(&mut browser, &pending).await;
    assert_eq!(browser.get("/").await.status, 200);
    browser
}

/// [A1 F2 I1 I2] "Other user" is a browser with everything of one user, at which another's password was typed.
#[tokio::test]
async fn every_endpoint_and_every_visitor() {
    let app = Demo::start_with(&["--any-user"]);
    let sluis = Sluis::start(&care_records(app.address));
    let nobody = sluis.browser();
    let mut new = sluis.browser();
    sluis.password(&mut new, "new").await;
    verified(&sluis, "carla").await;
    let mut pending = sluis.browser();
    sluis.password(&mut pending, "carla").await;
    let anna = verified(&sluis, "anna").await;
    verified(&sluis, "bram").await;
    let mut other = verified(&sluis, "dirk").await;
    sluis.password(&mut other, "bram").await;
    let blocked = verified(&sluis, "eva").await;
    assert!(sluis.cli(&["user", "block", "eva"]).status.success());

    // The name of the style sheet has a hash in it.
    let page = pending.clone().visit("/.sluis/challenge").await;
    let style =
        page.body.split('"').find(|text| text.contains("/.sluis/static/sluis-") && text.contains(".css"));
    let style = style.expect("a style sheet").to_owned();
    let mut wrong = Vec::new();
    for (method, path, row) in TABLE {
        let path = path.replace("{style}", &style);
        for ((visitor, browser), expected) in
            VISITORS.iter().zip([&nobody, &new, &pending, &anna, &other, &blocked]).zip(row)
        {
            let mut browser = browser.clone();
            let is = if path.contains("..") {
                // Clients put such paths straight themselves.
                let jar: Vec<String> = browser.jar.iter().map(|(n, v)| format!("{n}={v}")).collect();
                let head = format!("Accept: text/html\r\nCookie: {}\r\n", jar.join("; "));
                let answer = crate::support::raw::get(sluis.address, path.as_bytes(), &head);
                answer.split(' ').nth(1).unwrap_or_default().to_owned()
            } else {
                let answer = match *method {
                    "POST" => browser.post(&path, &[("token", "forged"), ("code", "123456")]).await,
                    other => {
                        let request = browser.request(Method::from_bytes(other.as_bytes()).unwrap(), &path);
                        browser.send(request).await
                    }
                };
                format!("{} {}", answer.status.as_u16(), answer.location()).trim().to_owned()
            };
            if is != *expected {
                wrong.push(format!("{method} {path} by {visitor}: {is}, expected {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

//! Apps that were never changed: their own logins, cookies and forms.

use std::net::SocketAddr;

use reqwest::{Method, StatusCode};

use crate::support::{Browser, Sluis, apps};

/// The configuration in front of a DokuWiki, as README has it.
fn before_dokuwiki(address: SocketAddr) -> String {
    // DokuWiki calls its cookie by its path and, with `securecookie`, its own port.
    let cookie = apps::php(&format!("echo 'DW' . md5('/' . '{}');", address.port()));
    format!(
        r#"
apps:
  - id: wiki
    name: Wiki
    hosts: ["*"]
    upstreams: ["http://{}"]
    login:
      page: /doku.php?do=login
      watch:
        - {{ path: /*, user_field: u, with: {{ u: "*" }} }}
      success: {{ cookie: {cookie} }}
      name: {{ allowed: "[a-z0-9]+([._-][a-z0-9]+)*" }}
    logout: ["/doku.php?do=logout"]
    anonymous: ["/doku.php?do=login", /lib/exe/css.php, /lib/exe/js.php, /lib/exe/jquery.php, /lib/tpl/*, /lib/images/*]
    policy:
      - require: {{ methods: [totp], validity: 12h }}
"#,
        address
    )
}

/// [A1 F1 F2] DokuWiki posts its login to the page itself, tells it by a field, and keeps a session cookie made before.
#[tokio::test]
async fn dokuwiki_gets_a_second_factor() {
    let wiki = apps::dokuwiki();
    let sluis = Sluis::start(&before_dokuwiki(wiki.address));
    let mut browser = sluis.browser();
    let refused = browser.get("/doku.php?id=start").await;
    assert_eq!(refused.status, StatusCode::SEE_OTHER);
    let form = browser.follow(&refused).await;
    assert_eq!(form.status, StatusCode::OK, "{form:?}");
    assert!(!form.body.contains("Confidential start page"));

    let login = |browser: &Browser, password: &str, sectok: &str| {
        let _ = browser;
        vec![
            ("sectok".to_owned(), sectok.to_owned()),
            ("do".to_owned(), "login".to_owned()),
            ("u".to_owned(), "Anna".to_owned()),
            ("p".to_owned(), password.to_owned()),
        ]
    };
    let fields = login(&browser, "wrong", &form.field("sectok"));
    let fields: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let wrong = browser.post("/doku.php?id=start", &fields).await;
    assert_eq!(wrong.status, StatusCode::FORBIDDEN, "the wiki's own answer to a wrong password: {wrong:?}");
    assert!(wrong.body.contains("name=\"sectok\""), "its own login form again");

    let fields = login(&browser, "anna-secret", &wrong.field("sectok"));
    let fields: Vec<_> =
        fields.iter().map(|(n, v)| (n.as_str(), if n == "u" { "anna" } else { v.as_str() })).collect();
    let pending = browser.post("/doku.php?id=start", &fields).await;
    assert_eq!(pending.location(), "/.sluis/challenge", "{pending:?}");
    let before = browser.get("/doku.php?id=start").await;
    assert_eq!(before.status, StatusCode::SEE_OTHER, "nothing before the second factor: {before:?}");

    let (_, entered) = sluis.enrol(&mut browser, &pending).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
    let page = browser.visit("/doku.php?id=start").await;
    assert!(page.body.contains("Confidential start page"), "{page:?}");

    // I5: the wiki's own cookie, as the browser holds it, is worth nothing at the wiki itself.
    let mut outside = Browser::new(&format!("http://{}", wiki.address));
    outside.jar = browser.jar.clone();
    let leaked = outside.get("/doku.php?id=start").await;
    assert!(!leaked.body.contains("Confidential start page"));
}

/// [I2 D9] DokuWiki logs in on every script and without `do=login`: no such way gets past the second factor, from a clean
/// browser, beside a running session, by a header or under a name that it takes for another.
#[tokio::test]
async fn d9_no_other_way_into_dokuwiki() {
    let wiki = apps::dokuwiki();
    let sluis = Sluis::start(&before_dokuwiki(wiki.address));
    let credentials = [("u", "anna"), ("p", "anna-secret")];
    let confidential = "Confidential start page";
    let scripts = ["/doku.php?id=start", "/lib/exe/ajax.php", "/lib/exe/taskrunner.php", "/feed.php", "/"];
    for path in scripts {
        let mut browser = sluis.browser();
        let answer = browser.post(path, &credentials).await;
        assert_eq!(answer.location(), "/.sluis/challenge", "{path}: {answer:?}");
        let page = browser.get("/doku.php?id=start").await;
        assert_eq!(page.status, StatusCode::SEE_OTHER, "{path}: {page:?}");
        let plain = browser.get("/doku.php?do=login").await;
        assert!(!plain.body.contains("Anna") && !plain.body.contains(confidential), "{path}");
    }
    for name in ["anna_", "Ánna", "anna!"] {
        let answer = sluis.browser().post("/doku.php?id=start", &[("u", name), ("p", "anna-secret")]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{name}: {answer:?}");
    }
    let mut browser = sluis.browser();
    let asked = browser
        .request(Method::GET, "/doku.php?do=login")
        .header("authorization", "Basic YW5uYTphbm5hLXNlY3JldA==");
    let page = browser.send(asked).await;
    assert!(page.body.contains("name=\"p\""), "still the login form: {page:?}");

    // Bram, who is inside, knows Anna's password: no way to her account under his second factor.
    let pending = browser.post("/doku.php?id=start", &[("u", "bram"), ("p", "bram-secret")]).await;
    let (_, entered) = sluis.enrol(&mut browser, &pending).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
    for path in scripts {
        let mut inside = browser.clone();
        let query = format!("{path}{}u=anna&p=anna-secret", if path.contains('?') { '&' } else { '?' });
        assert_eq!(inside.get(&query).await.status, StatusCode::BAD_REQUEST, "{query}");
    }
    assert!(browser.get("/doku.php?id=start").await.body.contains("bram Jansen"));
    let answer = browser.post("/lib/exe/ajax.php", &credentials).await;
    assert_eq!(answer.location(), "/.sluis/challenge", "{answer:?}");
}

/// [A1 F1 F4] Django rotates its session at login, checks a CSRF token, and never knows of Sluis.
#[tokio::test]
async fn django_admin_gets_a_second_factor() {
    let site = apps::django();
    let sluis = Sluis::start(&format!(
        r#"
apps:
  - id: admin
    name: Admin
    hosts: ["*"]
    upstreams: ["http://{}"]
    login:
      page: "/admin/login/?next={{target}}"
      watch:
        - {{ path: /admin/login/, user_field: username }}
      success: {{ status: [302], cookie: sessionid }}
    logout: [/admin/logout/]
    anonymous: [/admin/login/, /static/*]
    policy:
      - require: {{ methods: [totp], validity: 12h }}
"#,
        site.address
    ));
    let mut browser = sluis.browser();
    let refused = browser.get("/admin/auth/user/").await;
    assert_eq!(refused.status, StatusCode::SEE_OTHER);
    assert_eq!(refused.location(), "/admin/login/?next=%2Fadmin%2Fauth%2Fuser%2F");
    let form = browser.follow(&refused).await;
    let fields = |token: &str, password: &'static str| {
        vec![
            ("csrfmiddlewaretoken", token.to_owned()),
            ("username", "anna".to_owned()),
            ("password", password.to_owned()),
            ("next", "/admin/auth/user/".to_owned()),
        ]
    };
    let send = fields(&form.field("csrfmiddlewaretoken"), "wrong");
    let send: Vec<_> = send.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let wrong = browser.post(refused.location(), &send).await;
    assert_eq!(wrong.status, StatusCode::OK, "{wrong:?}");
    assert!(wrong.body.contains("errornote"), "the app's own words");

    let send = fields(&wrong.field("csrfmiddlewaretoken"), "anna-secret");
    let send: Vec<_> = send.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let pending = browser.post(refused.location(), &send).await;
    assert_eq!(pending.location(), "/.sluis/challenge", "{pending:?}");
    let (_, entered) = sluis.enrol(&mut browser, &pending).await;
    assert_eq!(entered.location(), "/admin/auth/user/", "back to where she wanted to go");
    let page = browser.follow(&entered).await;
    assert_eq!(page.status, StatusCode::OK, "{page:?}");
    assert!(page.body.contains("bram"), "the list of users");

    // A form of the app, with its CSRF token, goes through.
    let token = page.field("csrfmiddlewaretoken");
    let out = browser.post("/admin/logout/", &[("csrfmiddlewaretoken", &token)]).await;
    assert_eq!(out.status, StatusCode::OK, "{out:?}");
    assert_eq!(browser.get("/admin/").await.status, StatusCode::SEE_OTHER);
}

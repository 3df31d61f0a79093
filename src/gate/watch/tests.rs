use http::Method;

use super::*;
use crate::config::sample;

fn app(paths: &[&str]) -> App {
    let mut app = sample::app();
    app.login.watch = paths.iter().map(|p| sample::watch(p, "user")).collect();
    app
}

fn caught(app: &App, method: &Method, path: &str, query: Option<&str>) -> Vec<(usize, bool)> {
    candidates(app, method, path, query).into_iter().map(|c| (c.watch, c.near)).collect()
}

// [A1, D9] A login by another spelling of its URL is a login.
#[test]
fn a1_no_spelling_of_the_login_path_escapes() {
    let app = app(&["/login.php"]);
    for path in [
        "/login.php",
        "/LOGIN.php",
        "/Login.PHP",
        "/login.php/",
        "//login.php",
        "/./login.php",
        "/x/../login.php",
        "/%6cogin.php",
        "/%256cogin.php",
        "/login%2Ephp",
        "/login.php;a=b",
        "/login.php;jsessionid=1",
        "\\login.php",
        "/%5clogin.php",
        "/login.php%20",
        "/login.php.",
        "/ｌogin.php",
        "/%EF%BD%8Cogin.php",
        "/a/..;/login.php",
    ] {
        assert_eq!(caught(&app, &Method::POST, path, None), [(0, false)], "{path}");
        assert_eq!(caught(&app, &Method::POST, path, Some("x=1")), [(0, false)], "{path}?x=1");
    }
}

#[test]
fn a1_what_servers_take_for_the_login_path_is_near() {
    let app = app(&["/login.php", "/login", "/account/sign_in"]);
    let near = |path: &str| caught(&app, &Method::POST, path, None);
    assert_eq!(near("/login.php/x"), [(0, true)], "PATH_INFO");
    assert_eq!(near("/LOGIN.PHP/x/y"), [(0, true)]);
    assert_eq!(near("/login%2ephp/%78"), [(0, true)]);
    assert_eq!(near("/index.php/login"), [(1, true)], "front controller");
    assert_eq!(near("/app_dev.php/account/sign_in"), [(2, true)]);
    assert_eq!(near("/account/sign_in.json"), [(2, true)], "format");
    assert_eq!(near("/Login.php"), [(0, false), (1, true)]);
    for other in [
        "/loginx",
        "/login/x",
        "/xlogin",
        "/x/login",
        "/account",
        "/login.php5x/a/b",
        "/account/sign_in.a/b",
        "/",
    ] {
        let found = near(other);
        assert!(found.iter().all(|(_, near)| *near) && !found.contains(&(2, false)), "{other}: {found:?}");
    }
    for other in ["/loginx", "/login/x", "/xlogin", "/x/login", "/account", "/"] {
        assert_eq!(near(other), [], "{other}");
    }
}

#[test]
fn other_methods_are_looked_at_and_harmless_ones_are_not_in_the_way() {
    let app = app(&["/login"]);
    assert_eq!(caught(&app, &Method::PUT, "/login", None), [(0, false)]);
    assert_eq!(caught(&app, &Method::from_bytes(b"post").unwrap(), "/login", None), [(0, false)]);
    assert_eq!(caught(&app, &Method::GET, "/login", None), []);
    assert_eq!(caught(&app, &Method::GET, "/login", Some("next=%2F")), []);
    assert_eq!(caught(&app, &Method::GET, "/login", Some("user=anna")), [], "a prefilled form");
    assert_eq!(caught(&app, &Method::GET, "/login", Some("user=anna&password=")), []);
    for query in [
        "user=bram&password=x",
        "us%65r=bram&pwd=x",
        "user[]=bram&p=x",
        "USER=bram&Wachtwoord=x",
        "x;user=bram;pass=y",
    ] {
        assert_eq!(caught(&app, &Method::GET, "/login", Some(query)), [(0, false)], "D9: {query}");
        assert_eq!(caught(&app, &Method::HEAD, "/LOGIN", Some(query)), [(0, false)], "D9: {query}");
    }
    assert_eq!(caught(&app, &Method::GET, "/other", Some("user=bram&password=x")), []);
}

#[test]
fn several_entries_may_share_a_path() {
    let mut app = app(&["/doku.php", "/doku.php", "/other"]);
    app.login.watch[0].with = Some(("do".to_owned(), "login".to_owned()));
    assert_eq!(caught(&app, &Method::POST, "/doku.php", None), [(0, false), (1, false)]);
}

/// [D9] An app that logs in on any path is watched on any path.
#[test]
fn d9_a_whole_directory_may_be_watched() {
    let mut app = app(&["/*", "/wiki/*"]);
    for (watch, field) in app.login.watch.iter_mut().zip(["u", "user"]) {
        watch.with = Some((field.to_owned(), "*".to_owned()));
    }
    for path in ["/", "/doku.php", "/lib/exe/ajax.php", "/x/y"] {
        assert_eq!(caught(&app, &Method::POST, path, None), [(0, false)], "{path}");
    }
    for path in ["/wiki", "/Wiki/", "/%77iki/start", "/wiki/a/b.php/c"] {
        assert_eq!(caught(&app, &Method::POST, path, None), [(0, false), (1, false)], "{path}");
    }
    assert_eq!(caught(&app, &Method::GET, "/lib/exe/fetch.php", Some("media=x")), []);
}

// [A7]
#[test]
fn a_logout_is_seen_in_any_spelling() {
    let mut app = sample::app();
    app.logout_paths = vec!["/logout".to_owned(), "/doku.php?do=logout".to_owned()];
    for path in ["/logout", "/LogOut", "/logout/", "/%6cogout", "/logout;x"] {
        assert!(is_logout(&app, path, None), "{path}");
        assert!(is_logout(&app, path, Some("a=b")), "{path}");
    }
    for query in ["do=logout", "id=start&do=logout&sectok=1", "do=log%6fut"] {
        assert!(is_logout(&app, "/doku.php", Some(query)), "{query}");
    }
    for (path, query) in
        [("/doku.php", None), ("/doku.php", Some("do=login")), ("/logoutx", None), ("/", Some("do=logout"))]
    {
        assert!(!is_logout(&app, path, query), "{path} {query:?}");
    }
}

proptest::proptest! {
    /// The short cut without a copy never differs from the long way.
    #[test]
    fn the_short_cut_agrees_with_the_lenient_form(path in "/[a-zA-Z0-9/._;%~-]{0,14}") {
        proptest::prop_assert_eq!(in_watched_form(&path).to_ascii_lowercase(), lenient(&path).into_owned());
    }

    /// [A1] However letters are escaped and cased, a login stays one.
    #[test]
    fn a1_escapes_and_case_do_not_hide_a_login(escape in proptest::collection::vec(0..4u8, 10)) {
        let mut path = String::from("/");
        for (c, how) in "login.aspx".chars().zip(&escape) {
            match how {
                0 => path.push(c),
                1 => path.push(c.to_ascii_uppercase()),
                2 => path.push_str(&format!("%{:02x}", c as u32)),
                _ => path.push_str(&format!("%25{:02X}", c as u32)),
            }
        }
        let found = candidates(&app(&["/login.aspx"]), &Method::POST, &path, None);
        proptest::prop_assert_eq!(found, vec![Candidate { watch: 0, near: false }], "{}", path);
    }
}

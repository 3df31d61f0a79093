use regex::Regex;

use super::*;

const NOW: UnixMillis = UnixMillis::from_secs(1_800_000_000);

#[derive(Clone, Copy, Default)]
struct Answer<'a> {
    status: u16,
    location: Option<&'a str>,
    cookies: &'a [&'a str],
    body: Option<&'a str>,
}

fn judge(rule: &Success, answer: Answer<'_>) -> bool {
    let cookies = answer.cookies.iter().map(|c| c.as_bytes());
    is_success(rule, answer.status, answer.location, cookies, answer.body.map(str::as_bytes), NOW)
}

fn pattern(text: &str) -> Option<Regex> {
    Some(Regex::new(text).unwrap())
}

// [A1]
#[test]
fn a1_all_that_the_rule_sets_must_hold() {
    let rule = Success {
        status: vec![302, 303],
        location: pattern("^/home"),
        location_not: pattern("error"),
        cookie: Some("sid".to_owned()),
        ..Success::default()
    };
    let good = Answer { status: 302, location: Some("/home"), cookies: &["sid=1; HttpOnly"], body: None };
    assert!(judge(&rule, good));
    assert!(!judge(&rule, Answer { status: 200, ..good }));
    assert!(!judge(&rule, Answer { location: None, ..good }));
    assert!(!judge(&rule, Answer { location: Some("/login"), ..good }));
    assert!(!judge(&rule, Answer { location: Some("/home?error=1"), ..good }));
    assert!(!judge(&rule, Answer { cookies: &[], ..good }));
    assert!(!judge(&rule, Answer { cookies: &["SID=1", "sid2=1", "xsid=1"], ..good }));
}

#[test]
fn i9_a_rule_that_sets_nothing_is_never_fulfilled() {
    assert!(!judge(&Success::default(), Answer { status: 200, ..Answer::default() }));
}

#[test]
fn i9_a_body_that_cannot_be_seen_proves_nothing() {
    let has = Success { body: pattern("Welcome"), ..Success::default() };
    let lacks = Success { body_not: pattern("wrong password"), ..Success::default() };
    assert!(needs_body(&has) && needs_body(&lacks) && !needs_body(&Success::default()));
    let with = |body| Answer { status: 200, body, ..Answer::default() };
    assert!(judge(&has, with(Some("<h1>Welcome</h1>"))) && !judge(&has, with(Some("No"))));
    assert!(judge(&lacks, with(Some("<h1>Hi</h1>"))) && !judge(&lacks, with(Some("wrong password"))));
    assert!(!judge(&has, with(None)) && !judge(&lacks, with(None)));
}

#[test]
fn a_missing_location_does_not_match_what_it_must_not_match() {
    let rule = Success { status: vec![200], location_not: pattern("/login"), ..Success::default() };
    assert!(judge(&rule, Answer { status: 200, ..Answer::default() }));
}

#[test]
fn a1_a_deleted_cookie_is_not_a_set_one() {
    let rule = Success { cookie: Some("sid".to_owned()), ..Success::default() };
    let set = |cookies: &[&str]| judge(&rule, Answer { status: 200, cookies, ..Answer::default() });
    for kept in [
        "sid=abc",
        "sid=abc; Max-Age=60",
        "sid=abc; Expires=Fri, 01 Jan 2100 00:00:00 GMT",
        "sid=\"abc\"; Path=/",
        "sid=abc; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
    ] {
        assert!(set(&[kept]), "{kept}");
    }
    for deleted in [
        "sid=",
        "sid=\"\"",
        "sid=; Path=/; HttpOnly",
        "sid=deleted; expires=Thu, 01-Jan-1970 00:00:01 GMT; Max-Age=0",
        "sid=x; Max-Age=-1",
        "sid=x; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        "sid=x; expires=Wed, 21-Oct-15 07:28:00 GMT",
        "sid=x; Max-Age=0; Expires=Fri, 01 Jan 2100 00:00:00 GMT",
        "sid",
        "",
    ] {
        assert!(!set(&[deleted]), "{deleted}");
        assert!(!set(&["sid=abc", deleted]) || !deleted.contains("sid="), "the last one counts: {deleted}");
        assert!(set(&[deleted, "sid=abc"]), "{deleted}");
    }
}

#[test]
fn whoami_reads_one_name_or_none() {
    let json = Whoami { path: "/me".to_owned(), json: Some("/user/login".to_owned()), pattern: None };
    let name = |body: &str| whoami_name(&json, body.as_bytes());
    assert_eq!(name(r#"{"user":{"login":"Anna"}}"#).as_deref(), Some("Anna"));
    assert_eq!(name(r#"{"user":{"login":1042}}"#).as_deref(), Some("1042"));
    for none in [
        "",
        "{}",
        "[]",
        r#"{"user":{}}"#,
        r#"{"user":"anna"}"#,
        r#"{"user":{"login":null}}"#,
        r#"{"user":{"login":" "}}"#,
        r#"{"user":{"login":"anna","login":"bram"}}"#,
        r#"{"user":{"login":"anna"},"user":{"login":"anna"}}"#,
        r#"{"user":{"login":"anna"}}x"#,
        "<html>log in</html>",
    ] {
        assert_eq!(name(none), None, "{none}");
    }
    let page = Whoami { path: "/".to_owned(), json: None, pattern: pattern(r#"data-user="([^"]*)""#) };
    let name = |body: &[u8]| whoami_name(&page, body);
    assert_eq!(name(br#"<b data-user="anna">"#).as_deref(), Some("anna"));
    assert_eq!(name(br#"<b data-user="anna"><i data-user="anna">"#).as_deref(), Some("anna"));
    assert_eq!(name(br#"<b data-user="anna"><i data-user="bram">"#), None, "two names are none");
    assert_eq!(name(br#"<b data-user="">"#), None);
    assert_eq!(name(b"<b data-user=\"an\xffna\">"), None, "not UTF-8");
    let neither = Whoami { path: "/".to_owned(), json: None, pattern: None };
    assert_eq!(whoami_name(&neither, b"anna"), None);
}

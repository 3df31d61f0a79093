use http::Method;
use proptest::prelude::*;

use super::*;
use crate::config::sample;

fn watch(name: &str) -> (Watch, bool) {
    let form = |field| sample::watch("/login", field);
    let with =
        |name: &str, value: &str, watch| Watch { with: Some((name.to_owned(), value.to_owned())), ..watch };
    match name {
        "form" => (form("user"), false),
        "near" => (form("user"), true),
        "nested" => (form("user[email]"), false),
        "jsf" => (form("f:user"), false),
        "with" => (with("do", "login", form("u")), false),
        "any" => (with("u", "*", form("u")), false),
        "get" => (Watch { method: Method::GET, ..form("user") }, false),
        "json" => (Watch { user: UserField::Json("/user/name".to_owned()), ..form("") }, false),
        "json-near" => (Watch { user: UserField::Json("/user/name".to_owned()), ..form("") }, true),
        "json-with" => {
            (with("do", "login", Watch { user: UserField::Json("/u".to_owned()), ..form("") }), false)
        }
        other => panic!("no such watch: {other}"),
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        (rest, _) = match (byte, tail) {
            (b'\\', [b'x', a, b, after @ ..]) => {
                let hex = std::str::from_utf8(&[*a, *b]).unwrap().to_owned();
                (after, out.push(u8::from_str_radix(&hex, 16).unwrap()))
            }
            (b'\\', [b'r', after @ ..]) => (after, out.push(b'\r')),
            (b'\\', [b'n', after @ ..]) => (after, out.push(b'\n')),
            (b'\\', [b't', after @ ..]) => (after, out.push(b'\t')),
            (b'\\', [b'0', after @ ..]) => (after, out.push(0)),
            (b'\\', [b'\\', after @ ..]) => (after, out.push(b'\\')),
            _ => (tail, out.push(byte)),
        };
    }
    out
}

fn content_type(text: &str) -> Option<String> {
    match text {
        "-" => None,
        "url" => Some("application/x-www-form-urlencoded".to_owned()),
        "mp" => Some("multipart/form-data; boundary=B".to_owned()),
        "json" => Some("application/json".to_owned()),
        other => Some(String::from_utf8(unescape(other)).unwrap()),
    }
}

fn verdict(result: Result<Claim, BadForm>) -> String {
    match result {
        Ok(Claim::Login { user }) => format!("login {}", user.escape_default()),
        Ok(Claim::Other) => "other".to_owned(),
        Err(bad) => format!("{bad:?}"),
    }
}

// [A1, F2; threats D9, D10] Each line of the corpus is a body and what it must be read as.
#[test]
fn d9_hostile_bodies_are_read_in_one_way_or_refused() {
    let mut wrong = Vec::new();
    let mut cases = 0;
    for (number, line) in include_str!("../../../tests/corpus/forms.txt").lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let columns: Vec<&str> = line.splitn(5, " | ").map(str::trim).collect();
        let [expected, name, request, kind, body] = columns[..] else {
            panic!("line {}: {line}", number + 1)
        };
        let (watch, near) = watch(name);
        let (method, query) = request.split_once(' ').map_or((request, None), |(m, q)| (m, Some(q)));
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let kind = content_type(kind);
        let (kind, coding) = match kind.as_deref().and_then(|k| k.split_once(" + ")) {
            Some((kind, coding)) => (content_type(kind), Some(coding.to_owned())),
            None => (kind, None),
        };
        let submission = Submission {
            method: &method,
            query,
            content_type: kind.as_deref(),
            content_encoding: coding.as_deref(),
            body: &unescape(body),
        };
        let found = verdict(read(&[watch], &[Candidate { watch: 0, near }], &submission));
        if found.trim_end() != expected {
            wrong.push(format!("forms.txt:{}: {found} instead of: {line}", number + 1));
        }
        cases += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases > 150, "only {cases} cases were read");
}

fn post<'a>(kind: &'a str, body: &'a [u8]) -> Submission<'a> {
    Submission { method: &Method::POST, query: None, content_type: Some(kind), content_encoding: None, body }
}

#[test]
fn several_entries_of_one_path_are_asked_together() {
    let form = sample::watch("/login", "user");
    let mail = sample::watch("/login", "mail");
    let json = Watch { user: UserField::Json("/user".to_owned()), ..sample::watch("/login", "") };
    let watches = [form, mail, json];
    let all: Vec<Candidate> = (0..3).map(|watch| Candidate { watch, near: false }).collect();
    let read = |kind: &str, body: &str| verdict(read(&watches, &all, &post(kind, body.as_bytes())));
    let url = "application/x-www-form-urlencoded";
    assert_eq!(read(url, "user=anna"), "login anna");
    assert_eq!(read(url, "mail=anna"), "login anna");
    assert_eq!(read(url, "user=anna&mail=anna"), "login anna");
    assert_eq!(read(url, "user=anna&mail=bram"), "Twice");
    assert_eq!(read(url, "x=1"), "NoUser");
    assert_eq!(read("application/json", r#"{"user":"anna"}"#), "login anna");
    assert_eq!(read("application/xml", "<user/>"), "ContentType");
}

/// What a browser makes of a name and a value (HTML, "multipart form data").
fn multipart(pairs: &[(String, String)]) -> Vec<u8> {
    let mut out = String::new();
    for (name, value) in pairs {
        let name = name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A");
        out.push_str(&format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"));
    }
    out.push_str("--B--\r\n");
    out.into_bytes()
}

fn others() -> impl Strategy<Value = Vec<(String, String)>> {
    proptest::collection::vec(("x[a-z]{0,3}[0-9A-Z ]{2,6}", "[^\u{0}-\u{1f}]{0,12}"), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// What browsers send is read, whatever the name and the other fields are.
    #[test]
    fn a1_what_a_browser_sends_is_read(user in "\\PC{1,20}", mut pairs in others(), at in 0..4usize) {
        pairs.insert(at.min(pairs.len()), ("user".to_owned(), user.clone()));
        let watches = [sample::watch("/login", "user")];
        let candidates = [Candidate { watch: 0, near: false }];
        let expected = Ok(Claim::Login { user });
        let url = form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
        prop_assert_eq!(&read(&watches, &candidates, &post("application/x-www-form-urlencoded", url.as_bytes())), &expected);
        if !pairs.iter().any(|(_, v)| v.contains("--B")) {
            let body = multipart(&pairs);
            prop_assert_eq!(&read(&watches, &candidates, &post("multipart/form-data; boundary=B", &body)), &expected);
        }
    }

    /// [D9] A second user field, however escaped, cased or nested, is never overlooked.
    #[test]
    fn d9_a_second_user_field_is_refused(
        how in proptest::collection::vec(0..3u8, 4),
        tail in proptest::sample::select(vec!["", "[]", "[0]", "[x]", "%5B%5D", "%00", "+", "[", ".x"]),
        first: bool,
    ) {
        let mut second = String::new();
        for (c, how) in "user".chars().zip(&how) {
            match how {
                0 => second.push(c),
                1 => second.push(c.to_ascii_uppercase()),
                _ => second.push_str(&format!("%{:02X}", c as u32)),
            }
        }
        prop_assume!(tail != ".x" || how.iter().all(|h| *h == 0));
        let second = format!("{second}{tail}=bram");
        let body = if first { format!("{second}&user=anna") } else { format!("user=anna&{second}") };
        let watches = [sample::watch("/login", "user")];
        let found = read(&watches, &[Candidate { watch: 0, near: false }], &post("application/x-www-form-urlencoded", body.as_bytes()));
        if tail == ".x" {
            // A field of its own to every framework but those that nest by dots, where it has no text value.
            prop_assert_eq!(found, Ok(Claim::Login { user: "anna".to_owned() }));
        } else {
            prop_assert_eq!(found, Err(BadForm::Twice), "{}", body);
        }
    }

    /// Nothing that comes in makes it panic, or gives a name that is not in the body.
    #[test]
    fn any_bytes_are_survived(
        kind in proptest::sample::select(vec!["application/x-www-form-urlencoded", "multipart/form-data; boundary=B", "application/json"]),
        body in proptest::collection::vec(proptest::sample::select(b"user=&;%[]{}\":,-B\r\n09\x00\xff".to_vec()), 0..60),
    ) {
        let watches = [sample::watch("/login", "user"), Watch { user: UserField::Json("/u".to_owned()), ..sample::watch("/login", "") }];
        let all = [Candidate { watch: 0, near: false }, Candidate { watch: 1, near: true }];
        let _ = read(&watches, &all, &post(kind, &body));
    }
}

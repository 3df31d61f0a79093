use proptest::prelude::*;

use super::*;

const ALL: Tolerance = Tolerance { semicolon: true, double_slash: true, encoded_slash: true, non_utf8: true };

/// Each line of the hostile list gets the verdict that stands in front of it.
#[test]
fn every_path_of_the_corpus_gets_its_verdict() {
    let mut cases = 0;
    for (number, line) in include_str!("../../../tests/corpus/paths.txt").lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut parts = line.splitn(3, ' ');
        let verdict = parts.next().unwrap();
        let tolerate = match parts.next().unwrap() {
            "-" => Tolerance::NONE,
            names => Tolerance {
                semicolon: names.contains("semicolon"),
                double_slash: names.contains("double_slash"),
                encoded_slash: names.contains("encoded_slash"),
                non_utf8: names.contains("non_utf8"),
            },
        };
        let raw = unescape(parts.next().unwrap_or_default());
        let found = match canonical(&raw, tolerate) {
            Ok(path) => {
                assert_eq!(path.text.as_bytes(), raw, "line {}: not a byte is changed", number + 1);
                if path.ambiguous { "ambiguous" } else { "plain" }
            }
            Err(cause) => cause.name(),
        };
        assert_eq!(found, verdict, "line {}: {line}", number + 1);
        cases += 1;
    }
    assert!(cases > 100, "the corpus was read");
}

/// `\xNN` in the data file stands for that byte.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\x") {
        out.extend_from_slice(before.as_bytes());
        let (digits, after) = after.split_at(2);
        out.push(u8::from_str_radix(digits, 16).unwrap());
        rest = after;
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

#[test]
fn every_spelling_of_a_login_path_is_caught() {
    for spelling in [
        "/app/login",
        "/app/login/",
        "/App/LOGIN",
        "/app//login",
        "/./app/x/../login",
        "/../app/login",
        "/app/login;jsessionid=1",
        "/app;a=b/login;x",
        "/app/lo%67in",
        "/app/lo%2567in",
        "/app/lo%25252567in",
        "/app%2flogin",
        "/app%5clogin",
        "/app\\login",
        "/%61%70%70/%6c%6f%67%69%6e",
        "/app/login.",
        "/app/login%20",
        "/app/login/%2e",
        "/app/login/x/%2e%2e",
        "/app/%6%63ogin",
        "/app/..;/app/login",
        "/ａｐｐ/login",
        "/app%ef%bc%8flogin",
        "/app/ﬂ/../login",
        "/app/login;／2f",
        "/app/login%2𝟎",
    ] {
        assert_eq!(lenient(spelling), "/app/login", "{spelling}");
    }
    for other in ["/app/login2", "/app/logi", "/app", "/login", "/app/login/x", "/app/login..x"] {
        assert_ne!(lenient(other), "/app/login", "{other}");
    }
    assert_eq!(lenient("/"), "/");
    assert_eq!(lenient(""), "/");
    assert_eq!(lenient("//..//"), "/");
}

#[test]
fn ordinary_paths_cost_no_allocation() {
    for path in ["/", "/app/login", "/a/b.c/d-e_f~g", "/doku.php"] {
        assert!(matches!(lenient(path), Cow::Borrowed(_)), "{path}");
    }
}

/// A spelling made of escapes of escapes costs its length, not its square.
#[test]
fn deep_escapes_are_decoded_in_one_pass() {
    let mut path = String::from("/%");
    path.push_str(&"25".repeat(500_000));
    path.push_str("61");
    assert_eq!(lenient(&path), "/a");
}

/// Bytes that make trouble in paths, so that random ones meet the checks.
fn troublesome() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"/".to_vec()),
        Just(b".".to_vec()),
        Just(b"..".to_vec()),
        Just(b";".to_vec()),
        Just(b"\\".to_vec()),
        Just(b"%".to_vec()),
        Just(b"%25".to_vec()),
        Just(b"%2".to_vec()),
        Just(b"2f".to_vec()),
        Just(b"%2e".to_vec()),
        Just(b"%2F".to_vec()),
        Just(b"%5c".to_vec()),
        Just(b"%00".to_vec()),
        Just(b"%c0%af".to_vec()),
        Just(b"%ef%bc%8f".to_vec()),
        Just(b"a".to_vec()),
        Just(b"login".to_vec()),
        any::<u8>().prop_map(|b| vec![b]),
        any::<u8>().prop_map(|b| format!("%{b:02x}").into_bytes()),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| [b"/".to_vec(), pieces.concat()].concat())
}

/// What a careless server might make of a path: decoded as often as it likes, parameters dropped.
fn careless_segments(path: &[u8]) -> Vec<Vec<u8>> {
    let decoded = decode_fully(path);
    decoded
        .split(|b| matches!(b, b'/' | b'\\'))
        .map(|s| s.split(|b| *b == b';').next().unwrap().to_vec())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_passes_goes_up_as_it_came_and_passes_again(raw in troublesome()) {
        for tolerate in [Tolerance::NONE, ALL] {
            if let Ok(path) = canonical(&raw, tolerate) {
                prop_assert_eq!(path.text.as_bytes(), raw.as_slice());
                prop_assert!(path.text.is_ascii());
                prop_assert_eq!(canonical(path.text.as_bytes(), tolerate), Ok(path));
            }
        }
    }

    /// No reading of a path that passed climbs, and none that is unambiguous has other segments than its raw text.
    #[test]
    fn d3_no_server_finds_other_segments_in_what_passed(raw in troublesome()) {
        for tolerate in [Tolerance::NONE, ALL] {
            let Ok(path) = canonical(&raw, tolerate) else { continue };
            let careless = careless_segments(&raw);
            prop_assert!(!careless.iter().any(|s| s == b"." || s == b".."), "{path:?}");
            if !path.ambiguous {
                let strict = path.text.split('/').map(|s| percent_decode(s.as_bytes()).collect::<Vec<u8>>());
                prop_assert_eq!(careless, strict.collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn what_needed_tolerance_is_ambiguous(raw in troublesome()) {
        if let (Err(_), Ok(path)) = (canonical(&raw, Tolerance::NONE), canonical(&raw, ALL)) {
            prop_assert!(path.ambiguous);
        }
    }

    #[test]
    fn the_lenient_form_is_its_own_lenient_form(text in "(/|%|2|5|f|e|\\.|;|\\\\|[A-Za-z]|\\PC){0,16}") {
        let once = lenient(&text).into_owned();
        prop_assert_eq!(lenient(&once), once.as_str());
        prop_assert!(once.starts_with('/'));
    }

    /// Whatever passes and reads as the login path to a careless server is caught by the watch.
    #[test]
    fn no_spelling_of_a_login_escapes(raw in troublesome()) {
        for tolerate in [Tolerance::NONE, ALL] {
            let Ok(path) = canonical(&raw, tolerate) else { continue };
            let careless: Vec<_> = careless_segments(&raw).into_iter().filter(|s| !s.is_empty()).collect();
            if careless == [b"login".to_vec()] {
                prop_assert_eq!(lenient(path.text), "/login");
            }
        }
    }
}

//! Paths: what is decided on is what is forwarded, and every spelling of a watched path is caught (threats D1–D3).

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluis::model::path::{Tolerance, canonical, lenient};

fuzz_target!(|input: (u8, &[u8])| {
    let (bits, raw) = input;
    let tolerate = Tolerance {
        semicolon: bits & 1 != 0,
        double_slash: bits & 2 != 0,
        encoded_slash: bits & 4 != 0,
        non_utf8: bits & 8 != 0,
    };
    if let Ok(text) = std::str::from_utf8(raw) {
        let once = lenient(text).into_owned();
        assert_eq!(lenient(&once), once, "the watched form of {text:?} is not its own");
    }
    let Ok(path) = canonical(raw, tolerate) else { return };
    assert_eq!(path.text.as_bytes(), raw, "a byte was changed");
    assert!(path.text.starts_with('/') && path.text.is_ascii());
    if !path.ambiguous {
        assert!(!path.text.starts_with("//") && !path.text.contains(['\\', ';', '?', '#']));
        let decoded: Vec<u8> = decode(raw);
        let text = std::str::from_utf8(&decoded).expect("what is not ambiguous is UTF-8");
        assert!(text.split('/').all(|segment| segment != "." && segment != ".."), "{text:?}");
        assert!(!text.contains("//") && !text.chars().any(char::is_control), "{text:?}");
        assert!(canonical(raw, Tolerance::NONE).is_ok(), "only tolerance lets it pass, and it is not marked");
    }
});

/// One round of percent-decoding, by hand.
fn decode(raw: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = raw;
    while let [first, after @ ..] = rest {
        rest = after;
        let escaped = (*first == b'%')
            .then(|| {
                std::str::from_utf8(after.get(..2)?).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok())
            })
            .flatten();
        match escaped {
            Some(byte) => {
                decoded.push(byte);
                rest = &after[2..];
            }
            None => decoded.push(*first),
        }
    }
    decoded
}

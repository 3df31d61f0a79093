//! The app's cookies: what is sealed opens to the same bytes for its session, and for no other (I5).

#![no_main]

use std::sync::{Arc, LazyLock};

use http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use sluis::{
    base::clock::SystemClock,
    model::SessionId,
    session::{
        cookie::Names,
        upstream_cookies::{Down, Scope, UpstreamCookies},
    },
    store::memory,
};
use sluis_fuzz::{APP, KEYRING};

const SESSION: Scope = Scope::Session(SessionId([1; 16]));
const OTHER: Scope = Scope::Session(SessionId([2; 16]));

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().build().expect("a runtime"));
static SEALER: LazyLock<UpstreamCookies> = LazyLock::new(|| {
    let loading =
        UpstreamCookies::load(Arc::clone(&KEYRING), memory::open(), Names::new(true), Arc::new(SystemClock));
    RUNTIME.block_on(loading).expect("no store can fail here")
});

fuzz_target!(|input: (&[u8], &[u8])| {
    let (set_cookie, line) = input;
    let mut up = Vec::new();
    SEALER.up(&APP, [line].into_iter(), &[SESSION], &mut up);
    assert!(!up.windows(6).any(|piece| piece == b"sluis-") || !is_ours(&up), "ours went up: {line:?}");
    let Ok(header) = HeaderValue::from_bytes(set_cookie) else { return };
    let down = RUNTIME.block_on(SEALER.down(&APP, &header, SESSION)).expect("no store can fail here");
    let Down::Sealed(sealed) = down else { return };
    let (name, value) = split(set_cookie);
    let pair = sealed.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    if value.len() > 8 {
        assert!(!contains(split(pair).1, value), "the value shows");
    }
    SEALER.up(&APP, [pair].into_iter(), &[OTHER], &mut up);
    assert!(up.is_empty(), "it opens for another session");
    SEALER.up(&APP, [pair].into_iter(), &[SESSION], &mut up);
    assert_eq!(up, [name, b"=", value].concat(), "it is not what the app set");
});

fn is_ours(line: &[u8]) -> bool {
    let names = Names::new(true);
    line.split(|byte| *byte == b';').any(|pair| names.is_ours(split(pair).0))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|piece| piece == part)
}

/// Name and value of the first pair, as RFC 6265bis cuts them.
fn split(text: &[u8]) -> (&[u8], &[u8]) {
    let pair = text.split(|byte| *byte == b';').next().unwrap_or_default();
    let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
    (trim(&pair[..at]), trim(pair.get(at + 1..).unwrap_or_default()))
}

fn trim(bytes: &[u8]) -> &[u8] {
    let space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let first = bytes.iter().position(|byte| !space(byte)).unwrap_or(bytes.len());
    let last = bytes.iter().rposition(|byte| !space(byte)).map_or(first, |at| at + 1);
    &bytes[first..last]
}

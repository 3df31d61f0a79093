//! Cookies and tokens: one reading or none, and nothing counts that we did not sign (threats D7).

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluis::session::{
    cookie::{Kind, Names},
    token::{Device, Pending, Session, Token, Trust, issue, verify},
};
use sluis_fuzz::KEYRING;

fuzz_target!(|input: (bool, Vec<&[u8]>)| {
    let (insecure, lines) = input;
    let names = Names::new(insecure);
    // Line ends do not come through a header.
    let lines: Vec<&[u8]> = lines.into_iter().filter(|line| !line.contains(&b'\n')).collect();
    if let Ok(found) = names.find(lines.iter().copied()) {
        for (kind, value) in [
            (Kind::Device, found.device),
            (Kind::Trust, found.trust),
            (Kind::Login, found.login),
            (Kind::Session, found.session),
        ] {
            let Some(value) = value else { continue };
            // What was found is there, and a second one would have been ambiguous.
            let twice = [names.name(kind), "=x"].concat();
            let again = lines.iter().copied().chain([twice.as_bytes()]);
            assert!(names.find(again).is_err(), "{value:?}");
            assert!(verify::<Session>(&KEYRING, value).is_none(), "nobody signed {value:?}");
        }
    }
    for line in &lines {
        round::<Device>(line);
        round::<Trust>(line);
        round::<Pending>(line);
        round::<Session>(line);
    }
});

/// A body that is read is the only one that is read as this, and survives being signed.
fn round<T: Token>(body: &[u8]) {
    let Some(token) = T::decode(body) else { return };
    let mut again = Vec::new();
    token.encode(&mut again);
    assert_eq!(again, body, "two bodies for one token");
    let value = issue(&KEYRING, &token);
    if value.len() <= 4096 {
        let read = verify::<T>(&KEYRING, &value).expect("what was signed is read");
        again.clear();
        read.encode(&mut again);
        assert_eq!(again, body);
    }
    let mut forged = value.into_bytes();
    let middle = forged.len() / 2;
    forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).expect("base64");
    assert!(verify::<T>(&KEYRING, &forged).is_none(), "a changed token is read");
}

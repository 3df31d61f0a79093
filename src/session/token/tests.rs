use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{
    base::{random::SystemRandom, secret::SecretBytes},
    model::Method,
};

fn ring(fill: u8) -> Keyring {
    Keyring::new(&[SecretBytes::new(vec![fill; 32])], Arc::new(SystemRandom)).unwrap()
}

fn other_ring() -> Keyring {
    ring(2)
}

fn text(most: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<char>(), 0..=most).prop_map(|chars| chars.into_iter().collect())
}

prop_compose! {
    fn user()(realm in text(10), name in text(50)) -> UserKey {
        UserKey { realm: Realm::new(realm), name: UserName::canonical(name) }
    }
}

fn methods() -> impl Strategy<Value = MethodSet> {
    prop_oneof![Just(MethodSet::EMPTY), Just(MethodSet::of(Method::Totp))]
}

fn purpose() -> impl Strategy<Value = Purpose> {
    prop_oneof![
        Just(Purpose::Login),
        any::<(u64, u64)>()
            .prop_map(|(at, epoch)| Purpose::StepUp { started: UnixMillis(at), epoch: Epoch(epoch) })
    ]
}

prop_compose! {
    fn device()(id: [u8; 16], issued: u64) -> Device {
        Device { id: DeviceId(id), issued: UnixMillis(issued) }
    }
}

prop_compose! {
    fn trust()(user in user(), device: [u8; 16], epoch: u64, at: u64, methods in methods()) -> Trust {
        Trust { user, device: DeviceId(device), epoch: Epoch(epoch), proved_at: UnixMillis(at), methods }
    }
}

prop_compose! {
    fn pending()(login: [u8; 16], session: [u8; 16], app in text(10), user in user(), device: [u8; 16],
                 target in text(60), started: u64, purpose in purpose(), invited: Option<[u8; 32]>) -> Pending {
        Pending {
            login: LoginId(login), session: SessionId(session), app: AppId::new(app), user,
            device: DeviceId(device), target, started: UnixMillis(started), purpose,
            invited: invited.map(CodeHash),
        }
    }
}

prop_compose! {
    fn terms()(v4: Vec<([u8; 4], u8)>, v6: Vec<([u8; 16], u8)>, exempt_until: Option<u64>) -> Terms {
        let v4 = v4.into_iter().filter_map(|(a, n)| IpNet::new(IpAddr::from(a), n % 33).ok());
        let v6 = v6.into_iter().filter_map(|(a, n)| IpNet::new(IpAddr::from(a), n % 129).ok());
        Terms {
            networks: v4.take(9).chain(v6.take(9)).collect(),
            exempt_until: exempt_until.filter(|at| *at > 0).map(UnixMillis),
        }
    }
}

prop_compose! {
    fn session()(id: [u8; 16], app in text(10), user in user(), device: [u8; 16], times: [u64; 3],
                 proved_at: Option<u64>, methods in methods(), terms in terms(),
                 emergency_until: Option<u64>) -> Session {
        Session {
            id: SessionId(id), app: AppId::new(app), user, device: DeviceId(device), epoch: Epoch(times[0]),
            started: UnixMillis(times[1]), seen: UnixMillis(times[2]), proved_at: proved_at.map(UnixMillis),
            methods, terms, emergency_until: emergency_until.filter(|at| *at > 0).map(UnixMillis),
        }
    }
}

/// Round trip, no other kind, no other key, and no flipped bit.
fn holds<T: Token + PartialEq + std::fmt::Debug>(token: &T) -> Result<(), TestCaseError> {
    let ring = ring(1);
    let value = issue(&ring, token);
    let read: Option<T> = verify(&ring, &value);
    prop_assert_eq!(read.as_ref(), Some(token));
    prop_assert!(verify::<T>(&other_ring(), &value).is_none(), "another key");
    let kinds = [
        verify::<Device>(&ring, &value).is_some(),
        verify::<Trust>(&ring, &value).is_some(),
        verify::<Pending>(&ring, &value).is_some(),
        verify::<Session>(&ring, &value).is_some(),
    ];
    prop_assert_eq!(kinds.iter().filter(|k| **k).count(), 1, "one kind only");
    let raw = URL_SAFE_NO_PAD.decode(&value).unwrap();
    for bit in 0..raw.len() * 8 {
        let mut flipped = raw.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(verify::<T>(&ring, &URL_SAFE_NO_PAD.encode(flipped)).is_none(), "bit {}", bit);
    }
    Ok(())
}

/// What is decoded is what would be written: no second encoding of the same value, nothing behind it.
fn is_canonical<T: Token>(body: &[u8]) -> Result<(), TestCaseError> {
    if let Some(token) = T::decode(body) {
        let mut again = Vec::new();
        token.encode(&mut again);
        prop_assert_eq!(again.as_slice(), body);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_device_holds(token in device()) { holds(&token)?; }

    #[test]
    fn a_trust_holds(token in trust()) { holds(&token)?; }

    #[test]
    fn a_pending_login_holds(token in pending()) { holds(&token)?; }

    #[test]
    fn a_session_holds(token in session()) { holds(&token)?; }
}

proptest! {
    #[test]
    fn a_body_has_one_encoding(token in session(), at: prop::sample::Index, byte: u8) {
        let mut body = Vec::new();
        token.encode(&mut body);
        let at = at.index(body.len());
        body[at] = byte;
        is_canonical::<Session>(&body)?;
        is_canonical::<Pending>(&body)?;
        is_canonical::<Trust>(&body)?;
        is_canonical::<Device>(&body)?;
        body.push(byte);
        prop_assert!(Session::decode(&body).is_none() || byte == body[at]);
    }

    #[test]
    fn any_text_is_no_token(value in "\\PC{0,200}") {
        prop_assert!(verify::<Session>(&ring(1), &value).is_none());
    }
}

fn one_device() -> Device {
    Device { id: DeviceId([7; 16]), issued: UnixMillis(5) }
}

#[test]
fn another_version_and_trailing_bytes_are_refused_even_when_signed() {
    let ring = ring(1);
    let sign = |body: &[u8]| {
        let (id, tag) = ring.sign(Device::DOMAIN, &[body]);
        URL_SAFE_NO_PAD.encode([id.as_slice(), body, &tag].concat())
    };
    let mut body = Vec::new();
    one_device().encode(&mut body);
    assert!(verify::<Device>(&ring, &sign(&body)).is_some());
    body[0] = 2;
    assert!(verify::<Device>(&ring, &sign(&body)).is_none(), "version 2");
    body[0] = VERSION;
    body.push(0);
    assert!(verify::<Device>(&ring, &sign(&body)).is_none(), "trailing byte");
}

#[test]
fn another_spelling_of_the_same_bytes_is_refused() {
    let ring = ring(1);
    // 61 bytes: the last base64 digit has four unused bits.
    let value = issue(&ring, &one_device());
    assert!(verify::<Device>(&ring, &value).is_some());
    for other in [format!("{value}="), format!("{value}=="), format!(" {value}"), format!("\"{value}\"")] {
        assert!(verify::<Device>(&ring, &other).is_none(), "{other}");
    }
    let last = value.chars().last().unwrap();
    let rest = value.strip_suffix(last).unwrap();
    for digit in ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['-', '_', '+', '/']) {
        let other = format!("{rest}{digit}");
        assert_eq!(verify::<Device>(&ring, &other).is_some(), digit == last, "{other}");
    }
}

#[test]
fn a_rotated_key_still_verifies_and_a_dropped_one_does_not() {
    let masters: Vec<_> = [2, 1].into_iter().map(|fill| SecretBytes::new(vec![fill; 32])).collect();
    let rotated = Keyring::new(&masters, Arc::new(SystemRandom)).unwrap();
    let old = issue(&ring(1), &one_device());
    assert_eq!(verify(&rotated, &old), Some(one_device()));
    assert!(verify::<Device>(&ring(2), &old).is_none());
}

#[test]
fn a_text_too_long_makes_a_token_that_nobody_reads() {
    let ring = ring(1);
    for len in [usize::from(u16::MAX), 70_000] {
        let user = UserKey { realm: Realm::new("r"), name: UserName::canonical("x".repeat(len)) };
        let token = Trust {
            user,
            device: DeviceId([1; 16]),
            epoch: Epoch(1),
            proved_at: UnixMillis(1),
            methods: MethodSet::EMPTY,
        };
        let mut body = Vec::new();
        token.encode(&mut body);
        assert!(Trust::decode(&body).is_none());
        assert!(verify::<Trust>(&ring, &issue(&ring, &token)).is_none());
    }
}

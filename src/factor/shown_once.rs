//! Codes that are shown once and typed by a person: invitations, emergency codes. They have 120 random bits, so their
//! hash needs no salt (OWASP ASVS 6.5.2), and it is all that is kept.

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{
    base::{
        clock::UnixMillis,
        random::{self, Random},
    },
    model::{Profile, UserKey},
    store::{SharedStore, StoreError, StoreResult, documents},
};

/// A code that was drawn. No `Debug`: it is for the one who asked for it.
pub struct Shown {
    /// In groups of four, to read and type.
    pub code: String,
    /// What is kept of it.
    pub hash: String,
}

/// Draws a code.
///
/// # Errors
/// When the machine gives no random bytes.
pub fn draw(random: &dyn Random) -> StoreResult<Shown> {
    let bytes: [u8; 15] = random::bytes(random).map_err(|error| StoreError(error.to_string()))?;
    let digits = BASE32_NOPAD.encode(&bytes);
    let groups = digits.as_bytes().chunks(4).filter_map(|group| std::str::from_utf8(group).ok());
    let code = groups.collect::<Vec<_>>().join("-");
    let hash = hash(&code);
    Ok(Shown { code, hash })
}

/// Takes the invitation of a user if this is its code: true for one caller only, under any concurrency. Count the attempt
/// first (I8).
///
/// # Errors
/// When the store fails.
pub async fn take_invitation(
    store: &SharedStore,
    user: &UserKey,
    typed: &str,
    now: UnixMillis,
) -> StoreResult<bool> {
    let typed = hash(typed);
    documents::change_profile(store.as_ref(), user, |kept| {
        let right = kept.invite.as_ref().is_some_and(|i| i.until > now && same(&i.hash, &typed));
        (right.then(|| Profile { invite: None, ..kept.clone() }), right)
    })
    .await
}

/// Takes one of the emergency codes of a user, if this is one: true for one caller only.
///
/// # Errors
/// When the store fails.
pub async fn take_emergency_code(
    store: &SharedStore,
    user: &UserKey,
    typed: &str,
    now: UnixMillis,
) -> StoreResult<bool> {
    let typed = hash(typed);
    documents::change_profile(store.as_ref(), user, |kept| {
        let left: Vec<_> = kept.emergency.iter().filter(|c| !same(&c.hash, &typed)).cloned().collect();
        let right = kept.emergency.iter().any(|c| c.until > now && same(&c.hash, &typed));
        (right.then(|| Profile { emergency: left, ..kept.clone() }), right)
    })
    .await
}

fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// The hash under which a code is kept: of its letters and digits, however it was typed (small letters, spaces, dashes, and
/// what is easily confused: 0 for O, 1 for I, 8 for B).
fn hash(typed: &str) -> String {
    let normal: String = typed
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| match c.to_ascii_uppercase() {
            '0' => 'O',
            '1' => 'I',
            '8' => 'B',
            other => other,
        })
        .collect();
    HEXLOWER.encode(&Sha256::digest(normal.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::random::SystemRandom,
        model::{Invite, Realm, Sealed, UserName},
        store::memory,
    };

    #[test]
    fn a_code_is_read_however_it_is_typed() {
        let kept = hash("OIBA-2345");
        for typed in ["oiba2345", " OIBA 2345", "0i8a-2345", "O1BA–2345"] {
            assert_eq!(hash(typed), kept, "{typed}");
        }
        assert_ne!(hash("OIBA-2346"), kept);
    }

    #[tokio::test]
    async fn i4_a_code_is_taken_once_and_only_its_owners_and_in_time() {
        let store = memory::open();
        let user = |name: &str| UserKey { realm: Realm::new("care"), name: UserName::canonical(name) };
        let (anna, now) = (user("anna"), UnixMillis(100));
        let (invitation, one, two) = (shown(), shown(), shown());
        let emergency =
            [&one, &two].map(|c| Sealed { hash: c.hash.clone(), made: now, until: UnixMillis(200) });
        let profile = Profile {
            invite: Some(Invite { hash: invitation.hash, until: UnixMillis(200) }),
            emergency: emergency.to_vec(),
            ..Profile::default()
        };
        documents::change_profile(store.as_ref(), &anna, |_| (Some(profile.clone()), ())).await.unwrap();

        let take =
            async |who: &UserKey, code: &str, at| take_invitation(&store, who, code, at).await.unwrap();
        assert!(!take(&user("bram"), &invitation.code, now).await);
        assert!(!take(&anna, &one.code, now).await, "another kind of code");
        assert!(!take(&anna, &invitation.code, UnixMillis(200)).await, "too late");
        let racers = (0..16).map(|_| {
            let (store, anna, code) = (store.clone(), anna.clone(), invitation.code.clone());
            tokio::spawn(async move { take_invitation(&store, &anna, &code, now).await.unwrap() })
        });
        let mut taken = 0;
        for racer in racers.collect::<Vec<_>>() {
            taken += usize::from(racer.await.unwrap());
        }
        assert_eq!(taken, 1);

        let take = async |code: &str, at| take_emergency_code(&store, &anna, code, at).await.unwrap();
        assert!(!take(&invitation.code, now).await);
        assert!(!take(&one.code, UnixMillis(200)).await, "too late");
        assert!(take(&one.code.to_lowercase(), now).await);
        assert!(!take(&one.code, now).await, "once");
        assert!(take(&two.code, now).await, "the other one stays");
    }

    fn shown() -> Shown {
        draw(&SystemRandom).unwrap()
    }
}

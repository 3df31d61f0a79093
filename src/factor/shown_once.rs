//! Codes that are shown once and typed by a person: invitations, emergency codes. They have 120 random bits, so their
//! hash needs no salt (OWASP ASVS 6.5.2), and it is all that is kept.

use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::EmergencyProof;
use crate::{
    base::{
        clock::UnixMillis,
        random::{self, Random},
    },
    model::{CodeHash, Profile, UserKey},
    store::{SharedStore, StoreError, StoreResult, documents},
    throttle::{self, Next},
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
    let hash = hash(&code).to_string();
    Ok(Shown { code, hash })
}

/// What became of a code that was typed.
#[derive(Debug)]
pub enum Typed<T> {
    /// Right: this follows from it.
    Right(T),
    /// Wrong, used or expired, and counted.
    Wrong {
        /// What the user may do next: a `Wait` or `Locked` here has begun with this answer.
        next: Next,
    },
    /// Not looked at: too many wrong ones lately.
    Wait {
        /// When the next one is taken.
        until: UnixMillis,
    },
    /// Not looked at: locked until an administrator acts.
    Locked,
}

/// Whether this is the code of the user's invitation: counted before it is looked at (I8), and not taken yet, so that it is
/// not lost when its owner does not get to the end. [`take_invitation`] takes it.
///
/// # Errors
/// When the store fails.
pub async fn show_invitation(
    store: &SharedStore,
    user: &UserKey,
    typed: &str,
    now: UnixMillis,
) -> StoreResult<Typed<CodeHash>> {
    let typed = hash(typed);
    charged(store, user, now, async {
        let kept = documents::profile(store.as_ref(), user).await?.invite;
        Ok(kept.is_some_and(|i| i.until > now && same(&i.hash, &typed.to_string())).then_some(typed))
    })
    .await
}

/// Takes the invitation of a user if it is this one and still there: true for one caller only, under any concurrency.
///
/// # Errors
/// When the store fails.
pub async fn take_invitation(
    store: &SharedStore,
    user: &UserKey,
    shown: CodeHash,
    now: UnixMillis,
) -> StoreResult<bool> {
    use_invitation(store, user, shown, now, |kept| Profile { invite: None, ..kept.clone() }).await
}

/// Does with a user's profile what an invitation is for, if it is this one and still there: in one step, in which the
/// invitation goes unless `done` keeps it. The attempt has been counted by whoever calls (I8).
///
/// # Errors
/// When the store fails.
pub async fn use_invitation(
    store: &SharedStore,
    user: &UserKey,
    shown: CodeHash,
    now: UnixMillis,
    done: impl Fn(&Profile) -> Profile + Send,
) -> StoreResult<bool> {
    let shown = shown.to_string();
    documents::change_profile(store.as_ref(), user, |kept| {
        let right = kept.invite.as_ref().is_some_and(|i| i.until > now && same(&i.hash, &shown));
        (right.then(|| done(kept)), right)
    })
    .await
}

/// Counts an attempt, looks, and forgets the count when it was right.
async fn charged<T>(
    store: &SharedStore,
    user: &UserKey,
    now: UnixMillis,
    look: impl Future<Output = StoreResult<Option<T>>>,
) -> StoreResult<Typed<T>> {
    let next = match throttle::charge(store.as_ref(), user, now).await? {
        throttle::Verdict::Go { if_wrong, .. } => if_wrong,
        throttle::Verdict::Wait { until } => return Ok(Typed::Wait { until }),
        throttle::Verdict::Locked => return Ok(Typed::Locked),
    };
    let Some(right) = look.await? else { return Ok(Typed::Wrong { next }) };
    throttle::succeeded(store.as_ref(), user).await?;
    Ok(Typed::Right(right))
}

/// Takes one of the emergency codes of a user, if this is one: counted before it is looked at (I8), and right for one
/// caller only, under any concurrency.
///
/// # Errors
/// When the store fails.
pub async fn take_emergency_code(
    store: &SharedStore,
    user: &UserKey,
    typed: &str,
    now: UnixMillis,
) -> StoreResult<Typed<EmergencyProof>> {
    let typed = hash(typed).to_string();
    charged(store, user, now, async {
        let taken = documents::change_profile(store.as_ref(), user, |kept| {
            let left: Vec<_> = kept.emergency.iter().filter(|c| !same(&c.hash, &typed)).cloned().collect();
            let right = kept.emergency.iter().any(|c| c.until > now && same(&c.hash, &typed));
            (right.then(|| Profile { emergency: left, ..kept.clone() }), right)
        });
        Ok(taken.await?.then(|| EmergencyProof { user: user.clone() }))
    })
    .await
}

pub(super) fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// The hash under which a code is kept: of its letters and digits, however it was typed (small letters, spaces, dashes, and
/// what is easily confused: 0 for O, 1 for I, 8 for B).
pub fn hash(typed: &str) -> CodeHash {
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
    CodeHash(Sha256::digest(normal.as_bytes()).into())
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
            async |who: &UserKey, code: &str, at| take_invitation(&store, who, hash(code), at).await.unwrap();
        assert!(!take(&user("bram"), &invitation.code, now).await);
        assert!(!take(&anna, &one.code, now).await, "another kind of code");
        assert!(!take(&anna, &invitation.code, UnixMillis(200)).await, "too late");
        let racers = (0..16).map(|_| {
            let (store, anna, code) = (store.clone(), anna.clone(), invitation.code.clone());
            tokio::spawn(async move { take_invitation(&store, &anna, hash(&code), now).await.unwrap() })
        });
        let mut taken = 0;
        for racer in racers.collect::<Vec<_>>() {
            taken += usize::from(racer.await.unwrap());
        }
        assert_eq!(taken, 1);

        let take = async |code: &str, at| {
            let typed = take_emergency_code(&store, &anna, code, at).await.unwrap();
            matches!(typed, Typed::Right(proof) if *proof.user() == anna)
        };
        assert!(!take(&invitation.code, now).await);
        assert!(!take(&one.code, UnixMillis(200)).await, "too late");
        assert!(take(&one.code.to_lowercase(), now).await);
        assert!(!take(&one.code, now).await, "once");
        assert!(take(&two.code, now).await, "the other one stays");
    }

    /// [I8] The attempt is counted before it is looked at, and a code that was only shown is still there.
    #[tokio::test]
    async fn i8_showing_an_invitation_is_counted_and_takes_nothing() {
        let store = memory::open();
        let anna = UserKey { realm: Realm::new("care"), name: UserName::canonical("anna") };
        let (invitation, now) = (shown(), UnixMillis(100));
        let invite = Some(Invite { hash: invitation.hash.clone(), until: UnixMillis(1000) });
        let profile = Profile { invite, ..Profile::default() };
        documents::change_profile(store.as_ref(), &anna, |_| (Some(profile.clone()), ())).await.unwrap();
        let show = async |code: &str, at| show_invitation(&store, &anna, code, UnixMillis(at)).await.unwrap();
        for _ in 0..2 {
            let Typed::Right(right) = show(&invitation.code, 100).await else { panic!("it is right") };
            assert_eq!(right.to_string(), invitation.hash);
        }
        assert_eq!(store.attempts(&anna).await.unwrap().failures, 0);
        assert!(matches!(show(&invitation.code, 1000).await, Typed::Wrong { next: Next::Again }), "too late");
        for _ in 0..4 {
            assert!(matches!(show("nonsense", 100).await, Typed::Wrong { .. }));
        }
        assert!(matches!(show(&invitation.code, 100).await, Typed::Wait { .. }), "also a right one waits");
        let right = hash(&invitation.code);
        assert!(take_invitation(&store, &anna, right, now).await.unwrap(), "what was shown is still there");
        assert!(!take_invitation(&store, &anna, right, now).await.unwrap());
    }

    fn shown() -> Shown {
        draw(&SystemRandom).unwrap()
    }
}

//! Passwords of administrators: argon2id (RFC 9106) with the parameters that OWASP gives as the least (19 MiB, 2 rounds).
//!
//! Promises that an unknown name takes as long as a wrong password, that no hashing stands in the way of other requests,
//! and that only so many run or wait at a time: whoever floods the login gets "not now", and does not eat the memory.

use std::sync::Arc;

use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::{
    base::{
        random::{self, SharedRandom},
        secret::SecretString,
    },
    model::PasswordHash,
};

/// Why a password was not looked at.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Too many wait already.
    #[error("too many passwords wait to be checked")]
    Busy,
    /// Something that should not happen.
    #[error("a password could not be hashed: {0}")]
    Internal(String),
}

/// Why a new password is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weak {
    /// Fewer than [`FEWEST`] characters.
    Short,
    /// More than [`MOST`] characters.
    Long,
    /// Everybody's first guess.
    Common,
    /// The name of the account, with little beside it.
    Name,
}

/// The fewest characters of a new password (NIST SP 800-63B-4, 3.1.1.2, asks for 8 beside a second factor).
pub const FEWEST: usize = 12;
/// The most.
pub const MOST: usize = 256;

/// Whether a new password will do for the account `name`.
///
/// # Errors
/// Why not.
pub fn judge(typed: &str, name: &str) -> Result<(), Weak> {
    let count = typed.chars().count();
    if count < FEWEST {
        return Err(Weak::Short);
    }
    if count > MOST {
        return Err(Weak::Long);
    }
    let plain: String = typed.nfkc().flat_map(char::to_lowercase).filter(|c| c.is_alphanumeric()).collect();
    let without = |part: &str| plain.replace(part, "").chars().filter(|c| c.is_alphabetic()).count();
    let own: String = name.chars().flat_map(char::to_lowercase).filter(|c| c.is_alphanumeric()).collect();
    if own.chars().count() >= 3 && plain.contains(&own) && without(&own) < FEWEST / 2 {
        return Err(Weak::Name);
    }
    let mut seen: Vec<char> = typed.chars().collect();
    seen.sort_unstable();
    seen.dedup();
    let words = plain.trim_end_matches(|c: char| c.is_ascii_digit());
    let listed = COMMON.lines().any(|common| common == plain || common == words);
    if seen.len() < FEWEST / 2 || listed || ROWS.iter().any(|row| row.contains(&plain)) {
        return Err(Weak::Common);
    }
    Ok(())
}

/// Hashes and verifies.
pub struct Passwords {
    random: SharedRandom,
    running: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

impl Passwords {
    /// Puts it together.
    pub fn new(random: SharedRandom) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self { random, running: places(RUNNING), places: places(RUNNING + WAITING) }
    }

    /// Hides a password.
    ///
    /// # Errors
    /// When too many wait, or the machine gives no random bytes.
    pub async fn hide(&self, typed: &SecretString) -> Result<PasswordHash, Trouble> {
        let salt: [u8; 16] = random::bytes(self.random.as_ref()).map_err(internal)?;
        let text = normal(typed);
        let hidden =
            self.work(move || Argon2::default().hash_password_with_salt(text.as_bytes(), &salt)).await?;
        Ok(PasswordHash(hidden.map_err(internal)?.to_string()))
    }

    /// Whether this is the password. Without a hash the answer is no, and takes as long.
    ///
    /// # Errors
    /// When too many wait, or the hash is none.
    pub async fn verify(&self, typed: &SecretString, kept: Option<&PasswordHash>) -> Result<bool, Trouble> {
        let text = normal(typed);
        let is_known = kept.is_some();
        let hash = kept.map_or_else(|| DECOY.to_owned(), |kept| kept.0.clone());
        match self.work(move || Argon2::default().verify_password(text.as_bytes(), hash.as_str())).await? {
            Ok(()) => Ok(is_known),
            Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
            Err(error) => Err(internal(error)),
        }
    }

    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Trouble> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Trouble::Busy)?;
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(internal)?;
        // Both stay taken until the work is done, also when whoever asked has hung up.
        let task = tokio::task::spawn_blocking(move || {
            let done = work();
            drop((running, place));
            done
        });
        task.await.map_err(internal)
    }
}

/// One spelling of what can be typed in several (NIST SP 800-63B-4, 3.1.1.2).
fn normal(typed: &SecretString) -> Zeroizing<String> {
    Zeroizing::new(typed.expose().nfkc().collect())
}

fn internal(error: impl std::fmt::Display) -> Trouble {
    Trouble::Internal(error.to_string())
}

/// At the same time: each takes 19 MiB and a core.
const RUNNING: usize = 2;
const WAITING: usize = 30;

/// The hash of no password, with the parameters of all others.
const DECOY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c2x1aXMtZGVjb3ktc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// What is typed when twelve characters are asked for, in letters and digits; with digits behind it is no better.
const COMMON: &str = include_str!("common_passwords.txt");
/// Along the keyboard, there and back.
const ROWS: &[&str] = &[
    "01234567890123456789012345678901234567890",
    "98765432109876543210987654321098765432109",
    "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "1q2w3e4r5t6y7u8i9o0p",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    "qazwsxedcrfvtgbyhnujmikolp",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SystemRandom;

    #[test]
    fn a_new_password_is_long_and_nobodys_first_guess() {
        for (typed, found) in [
            ("correct horse battery", Ok(())),
            ("zes gele fietsen", Ok(())),
            ("kort", Err(Weak::Short)),
            ("elf tekens!", Err(Weak::Short)),
            ("anna anna anna", Err(Weak::Name)),
            ("Anna2027!2027", Err(Weak::Name)),
            ("anna houdt van fietsen", Ok(())),
            ("Welkom123456!", Err(Weak::Common)),
            ("Password-2027", Err(Weak::Common)),
            ("123456789012", Err(Weak::Common)),
            ("qwertyuiop asd", Err(Weak::Common)),
            ("aaaaaaaaaaaaaa", Err(Weak::Common)),
        ] {
            assert_eq!(judge(typed, "anna"), found, "{typed}");
        }
        assert_eq!(judge(&"zes gele fietsen ".repeat(20), "anna"), Err(Weak::Long));
    }

    #[tokio::test]
    async fn only_the_password_opens_and_without_a_hash_nothing_does() {
        let passwords = Passwords::new(Arc::new(SystemRandom));
        let secret = |text: &str| SecretString::new(text.to_owned());
        let hidden = passwords.hide(&secret("zes gele fietsen")).await.unwrap();
        assert!(hidden.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hidden.0);
        assert_ne!(hidden, passwords.hide(&secret("zes gele fietsen")).await.unwrap(), "salted");
        let verify = async |typed: &str, kept| passwords.verify(&secret(typed), kept).await.unwrap();
        assert!(verify("zes gele fietsen", Some(&hidden)).await);
        assert!(verify("zes ｇele fietsen", Some(&hidden)).await, "one spelling");
        assert!(!verify("zes gele fietse", Some(&hidden)).await);
        assert!(!verify("zes gele fietsen", None).await);
        let broken = PasswordHash("$argon2id$".to_owned());
        assert!(passwords.verify(&secret("x"), Some(&broken)).await.is_err(), "I9: broken is not wrong");
    }

    #[tokio::test]
    async fn who_floods_it_is_told_so() {
        let passwords = Passwords::new(Arc::new(SystemRandom));
        let all = Arc::clone(&passwords.places).acquire_many_owned((RUNNING + WAITING) as u32).await.unwrap();
        let typed = SecretString::new("x".to_owned());
        assert!(matches!(passwords.verify(&typed, None).await, Err(Trouble::Busy)));
        drop(all);
        assert!(!passwords.verify(&typed, None).await.unwrap());
    }
}

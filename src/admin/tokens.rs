//! Tokens of the administrators' API: what they look like, what is kept of them, and what each may do.
//!
//! `sluis_<id>_<secret>`: the id is the name of its document; the secret has 160 random bits and, at its end, 30 bits of a
//! checksum, by which scanners of source code tell a real token from an example without asking anybody. Kept is the SHA-256
//! of the whole (more than 112 random bits need no salt, OWASP ASVS 6.5.2), so a copy of the store opens nothing.

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use utoipa::ToSchema;

use crate::base::{
    clock::UnixMillis,
    random::{NoRandomness, Random, bytes},
};

/// What a token may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Read everything but the audit log, change nothing.
    Read,
    /// Reset, unlock, invite, sign out: users who are no administrators.
    Helpdesk,
    /// Everything.
    Admin,
    /// Read the audit log.
    Audit,
}

impl Scope {
    /// All.
    pub const ALL: [Self; 4] = [Self::Read, Self::Helpdesk, Self::Admin, Self::Audit];

    /// The name on the command line, in the API and in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Helpdesk => "helpdesk",
            Self::Admin => "admin",
            Self::Audit => "audit",
        }
    }

    /// Reads what [`Self::name`] gave.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// What is kept of a token.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// SHA-256 of the whole token, in hexadecimal digits.
    pub hash: String,
    /// When it was made.
    pub made: UnixMillis,
    /// By whom.
    pub by: String,
    /// From when on it is worth nothing.
    pub expires: UnixMillis,
    /// When it was used, to about an hour.
    #[serde(default)]
    pub used: Option<UnixMillis>,
    /// When it was revoked.
    #[serde(default)]
    pub revoked: Option<UnixMillis>,
}

impl Kept {
    /// Whether `presented` is this token, and worth something.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) fn admits(&self, presented: &Presented, now: UnixMillis) -> Result<(), Worthless> {
        let same: bool = self.hash.as_bytes().ct_eq(presented.hash.as_bytes()).into();
        if !same {
            return Err(Worthless::Unknown);
        }
        let actor = || actor(&self.name, &presented.id);
        if self.revoked.is_some() {
            return Err(Worthless::Revoked { id: presented.id.clone(), actor: actor() });
        }
        if self.expires <= now {
            return Err(Worthless::Expired { id: presented.id.clone(), actor: actor() });
        }
        Ok(())
    }
}

/// Why a token is worth nothing. For log and metrics: the caller is not told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Worthless {
    /// Nobody made it.
    Unknown,
    /// It has ended.
    Expired {
        /// Its id.
        id: String,
        /// Its name in the audit log.
        actor: String,
    },
    /// It was revoked.
    Revoked {
        /// Its id.
        id: String,
        /// Its name in the audit log.
        actor: String,
    },
}

/// Who calls the API: a token that was proved. Made by `Operations::caller` only.
#[derive(Clone, Debug)]
pub struct Caller {
    pub(super) id: String,
    pub(super) actor: String,
    pub(super) scopes: Vec<Scope>,
}

impl Caller {
    /// The token's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its name in the audit log.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// Whether it may do what needs this.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.is_admin()
    }

    /// Whether it may do everything.
    pub fn is_admin(&self) -> bool {
        self.scopes.contains(&Scope::Admin)
    }
}

/// A token that was drawn. No `Debug`: it is for the one who asked for it.
pub(super) struct Drawn {
    /// The name of its document.
    pub id: String,
    /// The whole.
    pub token: String,
    /// What is kept of it.
    pub hash: String,
}

/// Draws a token.
pub(super) fn draw(random: &dyn Random) -> Result<Drawn, NoRandomness> {
    let id = encode(&bytes::<6>(random)?);
    let token = format!("{PREFIX}{id}_{}", encode(&bytes::<20>(random)?));
    let token = format!("{token}{}", checksum(&token));
    Ok(Drawn { id, hash: hash(&token), token })
}

/// A text that has the form of a token.
pub(super) struct Presented {
    /// The name of its document.
    pub id: String,
    hash: String,
}

/// Reads what a caller sends. What has another form, or the wrong checksum, is no token: nobody needs to look.
pub(super) fn read(text: &str) -> Option<Presented> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let is_code = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b));
    if id.len() != ID_DIGITS
        || secret.len() != SECRET_DIGITS + CHECK_DIGITS
        || !is_code(id)
        || !is_code(secret)
    {
        return None;
    }
    let (body, check) = text.split_at_checked(text.len().saturating_sub(CHECK_DIGITS))?;
    (checksum(body) == check).then(|| Presented { id: id.to_owned(), hash: hash(text) })
}

fn encode(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

fn checksum(body: &str) -> String {
    encode(&Sha256::digest(body.as_bytes())).chars().take(CHECK_DIGITS).collect()
}

fn hash(token: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(token.as_bytes()))
}

/// How a token stands in the audit log. Names need not be unique; with the id they are.
pub(super) fn actor(name: &str, id: &str) -> String {
    format!("token:{name}:{id}")
}

/// What a name may be: it stands in the audit log as an actor.
pub(super) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

const PREFIX: &str = "sluis_";
const ID_DIGITS: usize = 10;
const SECRET_DIGITS: usize = 32;
const CHECK_DIGITS: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SystemRandom;

    /// What `docs/admin-api.md` tells scanners to look for.
    #[test]
    fn a_token_has_the_form_that_scanners_know() {
        let pattern = regex::Regex::new("^sluis_[a-z2-7]{10}_[a-z2-7]{38}$").unwrap();
        for _ in 0..200 {
            let drawn = draw(&SystemRandom).unwrap();
            assert!(pattern.is_match(&drawn.token));
            let read = read(&drawn.token).unwrap();
            assert!(read.id == drawn.id && read.hash == drawn.hash);
            assert!(!drawn.hash.contains(&drawn.id));
        }
    }

    #[test]
    fn what_is_no_token_is_not_looked_up() {
        let drawn = draw(&SystemRandom).unwrap().token;
        let (head, tail) = drawn.split_at(30);
        let other = if tail.starts_with('a') { "b" } else { "a" };
        let changed = format!("{head}{other}{}", tail.get(1..).unwrap());
        let texts = [
            changed,
            drawn.to_uppercase(),
            format!("{drawn}a"),
            drawn.replace("sluis_", "sluiz_"),
            format!(" {drawn}"),
            "sluis_".to_owned(),
            "sluis_é".repeat(10),
            String::new(),
        ];
        for text in texts {
            assert!(read(&text).is_none(), "{text}");
        }
    }
}

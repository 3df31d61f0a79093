//! One line: how it is sealed into its chain, and how it is read back.
//!
//! ```text
//! {"kind":"audit","seq":7,"chain":"…","replica":"…","key":"…", EVENT ,"prev":"…"[,"public_key":"…","signature":"…"],"mac":"…"}
//! ```
//!
//! - `prev` is the SHA-256 of the whole line before (of its `mac` too), zeros in the first line of a chain: whoever
//!   removes, changes or moves a line breaks the link of the next one. That much needs no key to check.
//! - `mac` is HMAC-SHA-256 (RFC 2104) over all bytes of the line before `,"mac"`, thus over the history: nobody without
//!   the key ring can forge a line, and the first one that is wrong is known exactly. Its key is derived for this use
//!   alone from the master key that `key` names.
//! - In checkpoints, `signature` is Ed25519 (RFC 8032) over all bytes before `,"signature"`. HMAC alone would mean that
//!   only who could have forged the log can check it: an auditor needs the public key only, and cannot forge. Lines
//!   have no signature of their own: by `prev` the next checkpoint speaks for them, and a signature costs ten times a
//!   MAC.
//!
//! The bytes themselves are what is signed: nothing is parsed and written again.

use hmac::{Hmac, KeyInit, Mac};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::text;
use crate::base::keyring::{KeyId, Keyring};

/// SHA-256.
pub(super) type Hash = [u8; 32];

/// Length of what a line ends with: `,"mac":"` 64 digits `"}`.
const MAC_MARK: &[u8] = br#","mac":""#;
const SIGNATURE_MARK: &[u8] = br#","signature":""#;
const END: &[u8] = br#""}"#;
const HASH_DIGITS: usize = 64;
const SIGNATURE_DIGITS: usize = 128;
/// In front of what is signed, so that a signature is good for nothing else.
const SIGNATURE_DOMAIN: &[u8] = b"sluis/v1/audit-checkpoint\0";

/// SHA-256 of a line without its line break.
pub(super) fn hash(line: &[u8]) -> Hash {
    Sha256::digest(line).into()
}

/// Hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// What lines are sealed with: derived from one master key, for this use alone.
pub(super) struct LineKey {
    id: KeyId,
    mac: Hmac<Sha256>,
    signer: Ed25519KeyPair,
}

impl LineKey {
    /// The key of the ring with this id.
    pub fn of(ring: &Keyring, id: KeyId) -> Option<Self> {
        let mac = ring.derive_under::<32>(id, "audit/mac", &[])?;
        let seed = ring.derive_under::<32>(id, "audit/checkpoint", &[])?;
        Some(Self {
            id,
            mac: Hmac::new_from_slice(mac.expose()).ok()?,
            signer: Ed25519KeyPair::from_seed_unchecked(seed.expose()).ok()?,
        })
    }

    /// Its name in lines.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What checks its signatures.
    pub fn public(&self) -> &[u8] {
        self.signer.public_key().as_ref()
    }

    /// Whether a line was sealed by it.
    pub fn verifies(&self, line: &Line<'_>) -> bool {
        let mut mac = self.mac.clone();
        mac.update(line.sealed);
        mac.verify_slice(&line.mac).is_ok()
    }

    /// A line of its place in the chain, without the line break.
    pub fn seal(&self, place: &Place<'_>, body: &str, is_checkpoint: bool) -> String {
        let mut line = format!(
            r#"{{"kind":"audit","seq":{},"chain":"{}","replica":{},"key":"{}",{body},"prev":"{}""#,
            place.seq,
            place.chain,
            text::quoted(text::bounded(place.replica)),
            hex(&self.id),
            hex(place.prev),
        );
        if is_checkpoint {
            line.push_str(&format!(r#","public_key":"{}""#, hex(self.public())));
            let signature = self.signer.sign(&[SIGNATURE_DOMAIN, line.as_bytes()].concat());
            line.push_str(&format!(r#","signature":"{}""#, hex(signature.as_ref())));
        }
        let mut mac = self.mac.clone();
        mac.update(line.as_bytes());
        line.push_str(&format!(r#","mac":"{}"}}"#, hex(&mac.finalize().into_bytes())));
        line
    }
}

/// Where a line stands.
pub(super) struct Place<'a> {
    /// Its number, from 1.
    pub seq: u64,
    /// Its chain.
    pub chain: &'a str,
    /// Who writes.
    pub replica: &'a str,
    /// Hash of the line before.
    pub prev: &'a Hash,
}

/// What a verifier and a reader look at; unknown fields are for others.
#[derive(Deserialize)]
pub(super) struct Fields {
    pub kind: String,
    pub seq: u64,
    pub chain: String,
    #[serde(default)]
    pub replica: String,
    pub key: String,
    pub time: String,
    pub event: String,
    pub prev: String,
    #[serde(default)]
    pub detail: Option<String>,
    #[serde(default)]
    pub lost: Option<u64>,
    #[serde(default)]
    pub last_seq: Option<u64>,
    #[serde(default)]
    pub torn_bytes: Option<u64>,
    #[serde(default)]
    pub torn_sha256: Option<String>,
    #[serde(default)]
    pub public_key: Option<String>,
}

/// A line taken apart. Whether it is true is another question.
pub(super) struct Line<'a> {
    /// Everything in front of `,"mac"`.
    sealed: &'a [u8],
    mac: Hash,
    /// Hash of the line before, as this one says.
    pub prev: Hash,
    /// The key that it names.
    pub key: KeyId,
    /// Its fields.
    pub fields: Fields,
}

impl<'a> Line<'a> {
    /// Takes a line (without its line break) apart; `None` when it has another shape.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let rest = bytes.strip_suffix(END)?;
        let (rest, mac) = rest.split_at_checked(rest.len().checked_sub(HASH_DIGITS)?)?;
        let sealed = rest.strip_suffix(MAC_MARK)?;
        if !bytes.iter().all(|b| (b' '..=b'~').contains(b)) {
            return None;
        }
        let fields: Fields = serde_json::from_slice(bytes).ok()?;
        let right = fields.kind == "audit" && is_id(&fields.chain) && fields.seq > 0;
        right.then_some(())?;
        Some(Self {
            sealed,
            mac: array(mac)?,
            prev: array(fields.prev.as_bytes())?,
            key: key_id(&fields.key)?,
            fields,
        })
    }

    /// Whether it is a checkpoint with a true signature by this public key.
    pub fn is_signed_by(&self, public: &[u8]) -> bool {
        let checked = || {
            let rest = self.sealed.strip_suffix(b"\"")?;
            let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(SIGNATURE_DIGITS)?)?;
            let signed = rest.strip_suffix(SIGNATURE_MARK)?;
            let signature = data_encoding::HEXLOWER.decode(digits).ok()?;
            let message = [SIGNATURE_DOMAIN, signed].concat();
            UnparsedPublicKey::new(&ED25519, public).verify(&message, &signature).ok()
        };
        checked().is_some()
    }
}

/// Whether this is how a chain is named.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn key_id(text: &str) -> Option<KeyId> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

/// 32 bytes from lower-case hexadecimal.
pub(super) fn array(digits: &[u8]) -> Option<Hash> {
    data_encoding::HEXLOWER.decode(digits).ok()?.try_into().ok()
}

//! The keys of one data set in a backend that is not trusted: what a record is called, and what it is sealed with.
//!
//! One random secret belongs to the data set for all its life; the key ring seals that secret, so rotating the ring
//! touches nothing else, and names stay what they are. From the secret, HKDF-SHA-256 (RFC 5869) derives two keys: one
//! names (HMAC-SHA-256, so a name tells nothing of what it names), one seals. Every place has a sealing key of its own,
//! derived from where it is: a box opens at its place only, and a random nonce never comes near its limit of 2³² uses
//! (NIST SP 800-38D, 8.3), however long the data set lives.

use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{
    random::{NoRandomness, SharedRandom, bytes},
    secret::SecretBytes,
};

type HmacSha256 = Hmac<Sha256>;

/// Length of a data set's secret, in bytes.
pub const SECRET_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;

/// The keys of one data set. Never printed.
pub struct RecordKeys {
    naming: HmacSha256,
    sealing: HmacSha256,
    random: SharedRandom,
}

impl RecordKeys {
    /// The keys that belong to `secret`.
    pub fn new(secret: &SecretBytes, random: SharedRandom) -> Self {
        let hkdf = Hkdf::<Sha256>::new(Some(b"sluis/v1/data set"), secret.expose());
        let derived = |info: &[u8]| {
            let mut key = Zeroizing::new([0; 32]);
            #[expect(clippy::expect_used, reason = "HKDF fails only for outputs above 8160 bytes")]
            hkdf.expand(info, key.as_mut()).expect("short output");
            #[expect(clippy::expect_used, reason = "HMAC takes a key of any length (RFC 2104, section 2)")]
            HmacSha256::new_from_slice(key.as_ref()).expect("any length")
        };
        Self { naming: derived(b"name"), sealing: derived(b"seal"), random }
    }

    /// The name of what `parts` say: the same for the same parts, and telling nothing about them.
    pub fn name(&self, parts: &[&[u8]]) -> [u8; 32] {
        mac(&self.naming, parts)
    }

    /// Seals `plain` to the place that `parts` say.
    ///
    /// # Errors
    /// When no nonce could be drawn.
    pub fn seal(&self, parts: &[&[u8]], plain: &[u8]) -> Result<Vec<u8>, NoRandomness> {
        let nonce: [u8; NONCE_BYTES] = bytes(self.random.as_ref())?;
        let sealed = self
            .cipher(parts)
            .encrypt(&Nonce::from(nonce), Payload { msg: plain, aad: &[] })
            .map_err(|_| NoRandomness)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens what [`Self::seal`] made for the same place; `None` for everything else.
    pub fn open(&self, parts: &[&[u8]], boxed: &[u8]) -> Option<SecretBytes> {
        let (nonce, sealed) = boxed.split_first_chunk::<NONCE_BYTES>()?;
        let plain =
            self.cipher(parts).decrypt(&Nonce::from(*nonce), Payload { msg: sealed, aad: &[] }).ok()?;
        Some(SecretBytes::new(plain))
    }

    /// Random bytes, from where the nonces come too.
    ///
    /// # Errors
    /// When the source fails.
    pub fn draw<const N: usize>(&self) -> Result<[u8; N], NoRandomness> {
        bytes(self.random.as_ref())
    }

    fn cipher(&self, parts: &[&[u8]]) -> Aes256Gcm {
        let key = Zeroizing::new(mac(&self.sealing, parts));
        Aes256Gcm::new(&(*key).into())
    }
}

/// Lengths in front, so that no two lists of parts give the same message.
fn mac(key: &HmacSha256, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = key.clone();
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::random::SystemRandom;

    fn keys(fill: u8) -> RecordKeys {
        RecordKeys::new(&SecretBytes::new(vec![fill; SECRET_BYTES]), Arc::new(SystemRandom))
    }

    #[test]
    fn a_name_is_the_same_for_the_same_parts_only() {
        let name = keys(1).name(&[b"user", b"care", b"anna"]);
        assert_eq!(name, keys(1).name(&[b"user", b"care", b"anna"]));
        assert_ne!(name, keys(1).name(&[b"user", b"car", b"eanna"]), "parts are apart");
        assert_ne!(name, keys(2).name(&[b"user", b"care", b"anna"]), "data sets are apart");
    }

    #[test]
    fn a_box_opens_at_its_place_and_with_its_keys_only() {
        let boxed = keys(1).seal(&[b"users", b"anna"], b"record").unwrap();
        assert_eq!(keys(1).open(&[b"users", b"anna"], &boxed).unwrap().expose(), b"record");
        assert!(keys(1).open(&[b"users", b"bram"], &boxed).is_none());
        assert!(keys(1).open(&[b"usersa", b"nna"], &boxed).is_none());
        assert!(keys(2).open(&[b"users", b"anna"], &boxed).is_none());
        assert_ne!(keys(1).seal(&[b"users", b"anna"], b"record").unwrap(), boxed, "each box is another");
        for at in 0..boxed.len() {
            let mut changed = boxed.clone();
            changed[at] ^= 1;
            assert!(keys(1).open(&[b"users", b"anna"], &changed).is_none(), "byte {at}");
        }
        assert!(keys(1).open(&[b"users", b"anna"], &boxed[..11]).is_none());
    }
}

//! The key ring: every signature and every sealed box of Sluis is made and opened here.
//!
//! A ring holds one or more master keys. The first signs and seals; all verify and open, so keys are
//! rotated by putting a new one in front and dropping the old one once the longest-lived token has
//! expired. From each master, HKDF-SHA-256 (RFC 5869) derives one key for each use; a key is never used
//! for two things.

use std::ops::Range;

use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce, Tag,
    aead::{Aead, AeadInOut, Payload},
};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::{
    random::{NoRandomness, SharedRandom, bytes},
    secret::SecretBytes,
};

type HmacSha256 = Hmac<Sha256>;

/// Shortest master key that is accepted, in bytes.
pub const MIN_MASTER_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// Names a key inside the ring; written in front of everything it signed or sealed.
pub type KeyId = [u8; 4];

/// What a sealed box holds; each use has its own derived key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    /// A cookie of the upstream app in the browser's hands.
    UpstreamCookie,
    /// A secret inside a store.
    AtRest,
}

/// Why a ring could not be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// No master key at all.
    #[error("no master key given")]
    Empty,
    /// A master key is too short to be safe.
    #[error("master key {position} has {found} bytes; at least {MIN_MASTER_BYTES} are needed")]
    TooShort {
        /// 1-based place in the ring.
        position: usize,
        /// Its length in bytes.
        found: usize,
    },
    /// The same master key stands in the ring twice.
    #[error("master key {position} stands in the ring twice")]
    Twice {
        /// 1-based place of the second one.
        position: usize,
    },
}

/// The ring of keys. Cheap to share behind an `Arc`; never printed.
pub struct Keyring {
    keys: Vec<Key>,
    random: SharedRandom,
}

struct Key {
    id: KeyId,
    master: Hkdf<Sha256>,
    mac: HmacSha256,
    upstream_cookie: Aes256Gcm,
    at_rest: Aes256Gcm,
}

impl Keyring {
    /// Builds the ring; the first master signs and seals.
    ///
    /// # Errors
    /// When there is no key, one is shorter than [`MIN_MASTER_BYTES`], or one stands there twice.
    pub fn new(masters: &[SecretBytes], random: SharedRandom) -> Result<Self, KeyringError> {
        let mut keys: Vec<Key> = Vec::with_capacity(masters.len());
        for (index, master) in masters.iter().enumerate() {
            let position = index.saturating_add(1);
            let found = master.expose().len();
            if found < MIN_MASTER_BYTES {
                return Err(KeyringError::TooShort { position, found });
            }
            let key = Key::derive(master);
            if keys.iter().any(|k| k.id == key.id) {
                return Err(KeyringError::Twice { position });
            }
            keys.push(key);
        }
        if keys.is_empty() { Err(KeyringError::Empty) } else { Ok(Self { keys, random }) }
    }

    /// Names the key that signs and seals now; whatever it seals begins with this.
    pub fn current(&self) -> KeyId {
        self.first().id
    }

    /// All keys, in order.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys.iter().map(|key| key.id)
    }

    /// Signs `parts` (as one message) under `domain`; equal bytes in another domain give another tag.
    pub fn sign(&self, domain: &'static str, parts: &[&[u8]]) -> (KeyId, [u8; 32]) {
        let key = self.first();
        (key.id, key.mac(domain, parts).finalize().into_bytes().into())
    }

    /// Whether `tag` was made by [`Self::sign`] for the same domain and message; constant time.
    pub fn verify(&self, domain: &'static str, id: KeyId, parts: &[&[u8]], tag: &[u8]) -> bool {
        self.find(id).is_some_and(|key| key.mac(domain, parts).verify_slice(tag).is_ok())
    }

    /// Seals `plain`, bound to `aad`: key id, nonce, ciphertext and tag in one byte string.
    ///
    /// # Errors
    /// When no nonce could be drawn.
    pub fn seal(&self, seal: Seal, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, NoRandomness> {
        let key = self.first();
        let nonce: [u8; NONCE_BYTES] = bytes(self.random.as_ref())?;
        let sealed = key
            .cipher(seal)
            .encrypt(&Nonce::from(nonce), Payload { msg: plain, aad })
            .map_err(|_| NoRandomness)?;
        let mut out = Vec::with_capacity(key.id.len() + NONCE_BYTES + sealed.len());
        out.extend_from_slice(&key.id);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    /// Opens what [`Self::seal`] made for the same use and `aad`; `None` for everything else.
    pub fn open(&self, seal: Seal, aad: &[u8], boxed: &[u8]) -> Option<SecretBytes> {
        let (id, rest) = boxed.split_first_chunk::<4>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let plain =
            self.find(*id)?.cipher(seal).decrypt(&Nonce::from(*nonce), Payload { msg: sealed, aad }).ok()?;
        Some(SecretBytes::new(plain))
    }

    /// Opens like [`Self::open`], inside `boxed` and without allocating: where in it the plain bytes stand now.
    /// When it does not open, `boxed` is as it was, and can be tried with another `aad`.
    pub fn open_in_place(&self, seal: Seal, aad: &[u8], boxed: &mut [u8]) -> Option<Range<usize>> {
        let (id, rest) = boxed.split_first_chunk_mut::<4>()?;
        let (nonce, rest) = rest.split_first_chunk_mut::<NONCE_BYTES>()?;
        let (sealed, tag) = rest.split_last_chunk_mut::<TAG_BYTES>()?;
        // The tag is verified before a byte is decrypted (NIST SP 800-38D, 7.2).
        self.find(*id)?
            .cipher(seal)
            .decrypt_inout_detached(&Nonce::from(*nonce), aad, (&mut *sealed).into(), &Tag::from(*tag))
            .ok()?;
        let start = id.len().checked_add(NONCE_BYTES)?;
        Some(start..start.checked_add(sealed.len())?)
    }

    /// A secret that anybody with the ring can make again from the same label and parts.
    pub fn derive<const N: usize>(&self, label: &'static str, parts: &[&[u8]]) -> SecretBytes {
        self.first().expand::<N>(label, parts)
    }

    /// The same under the key of this id: for what must come out alike before and after a rotation, and on replicas
    /// whose rings have the same keys in another order. `None` when it is not in the ring.
    pub fn derive_under<const N: usize>(
        &self,
        id: KeyId,
        label: &'static str,
        parts: &[&[u8]],
    ) -> Option<SecretBytes> {
        Some(self.find(id)?.expand::<N>(label, parts))
    }

    #[expect(clippy::indexing_slicing, reason = "a ring is never empty: `new` refuses that")]
    fn first(&self) -> &Key {
        &self.keys[0]
    }

    fn find(&self, id: KeyId) -> Option<&Key> {
        self.keys.iter().find(|k| k.id == id)
    }
}

impl Key {
    fn expand<const N: usize>(&self, label: &'static str, parts: &[&[u8]]) -> SecretBytes {
        let mut info = Vec::from(label.as_bytes());
        for part in parts {
            // Lengths in front, so that no two lists of parts give the same bytes.
            info.extend_from_slice(&(part.len() as u64).to_be_bytes());
            info.extend_from_slice(part);
        }
        let mut out = vec![0; N];
        expand(&self.master, &[b"sluis/v1/derive/", info.as_slice()].concat(), &mut out);
        SecretBytes::new(out)
    }

    fn derive(master: &SecretBytes) -> Self {
        let hkdf = Hkdf::<Sha256>::new(Some(b"sluis/v1"), master.expose());
        let mut id = KeyId::default();
        expand(&hkdf, b"sluis/v1/key-id", &mut id);
        let mut mac = zeroize::Zeroizing::new([0; 32]);
        expand(&hkdf, b"sluis/v1/sign", mac.as_mut());
        let cipher = |info: &[u8]| {
            let mut key = zeroize::Zeroizing::new([0; 32]);
            expand(&hkdf, info, key.as_mut());
            Aes256Gcm::new(&(*key).into())
        };
        Self {
            id,
            mac: new_mac(&mac),
            upstream_cookie: cipher(b"sluis/v1/seal/upstream-cookie"),
            at_rest: cipher(b"sluis/v1/seal/at-rest"),
            master: hkdf,
        }
    }

    fn mac(&self, domain: &'static str, parts: &[&[u8]]) -> HmacSha256 {
        let mut mac = self.mac.clone();
        // The domain's length in front: no domain can be the beginning of another's message.
        mac.update(&[u8::try_from(domain.len()).unwrap_or(u8::MAX)]);
        mac.update(domain.as_bytes());
        for part in parts {
            mac.update(part);
        }
        mac
    }

    fn cipher(&self, seal: Seal) -> &Aes256Gcm {
        match seal {
            Seal::UpstreamCookie => &self.upstream_cookie,
            Seal::AtRest => &self.at_rest,
        }
    }
}

#[expect(clippy::expect_used, reason = "HMAC takes a key of any length (RFC 2104, section 2)")]
fn new_mac(key: &[u8; 32]) -> HmacSha256 {
    HmacSha256::new_from_slice(key).expect("any length")
}

#[expect(
    clippy::expect_used,
    reason = "HKDF fails only for outputs above 8160 bytes; ours are fixed and small"
)]
fn expand(hkdf: &Hkdf<Sha256>, info: &[u8], out: &mut [u8]) {
    hkdf.expand(info, out).expect("short output");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::random::SystemRandom;

    fn master(fill: u8) -> SecretBytes {
        SecretBytes::new(vec![fill; 32])
    }

    fn ring(fills: &[u8]) -> Keyring {
        let masters: Vec<_> = fills.iter().copied().map(master).collect();
        Keyring::new(&masters, Arc::new(SystemRandom)).unwrap()
    }

    #[test]
    fn a_tag_holds_for_its_domain_and_message_only() {
        let ring = ring(&[1]);
        let (id, tag) = ring.sign("trust", &[b"body"]);
        assert!(ring.verify("trust", id, &[b"bo", b"dy"], &tag));
        assert!(!ring.verify("session", id, &[b"body"], &tag));
        assert!(!ring.verify("trust", id, &[b"Body"], &tag));
        assert!(!ring.verify("trust", [0; 4], &[b"body"], &tag));
    }

    #[test]
    fn a_rotated_ring_opens_what_the_old_key_made() {
        let old = ring(&[1]);
        let rotated = ring(&[2, 1]);
        let (id, tag) = old.sign("trust", &[b"x"]);
        assert!(rotated.verify("trust", id, &[b"x"], &tag));
        let boxed = old.seal(Seal::AtRest, b"anna", b"secret").unwrap();
        assert_eq!(rotated.open(Seal::AtRest, b"anna", &boxed).unwrap().expose(), b"secret");
        let (new_id, _) = rotated.sign("trust", &[b"x"]);
        assert_ne!(new_id, id, "the first key signs");
    }

    #[test]
    fn a_box_opens_only_for_its_use_and_its_owner() {
        let ring = ring(&[1]);
        let mut boxed = ring.seal(Seal::AtRest, b"anna", b"secret").unwrap();
        assert!(ring.open(Seal::AtRest, b"bram", &boxed).is_none());
        assert!(ring.open(Seal::UpstreamCookie, b"anna", &boxed).is_none());
        assert!(ring.open(Seal::AtRest, b"anna", &boxed[..10]).is_none());
        *boxed.last_mut().unwrap() ^= 1;
        assert!(ring.open(Seal::AtRest, b"anna", &boxed).is_none());
    }

    #[test]
    fn a_box_opens_in_place_as_it_opens_by_copy() {
        let ring = ring(&[1]);
        let mut boxed = ring.seal(Seal::UpstreamCookie, b"anna", b"secret").unwrap();
        let untouched = boxed.clone();
        assert!(ring.open_in_place(Seal::UpstreamCookie, b"bram", &mut boxed).is_none());
        assert!(ring.open_in_place(Seal::AtRest, b"anna", &mut boxed).is_none());
        assert!(ring.open_in_place(Seal::UpstreamCookie, b"anna", &mut boxed[..31]).is_none());
        assert_eq!(boxed, untouched, "a failed attempt leaves the box whole");
        let plain = ring.open_in_place(Seal::UpstreamCookie, b"anna", &mut boxed).unwrap();
        assert_eq!(&boxed[plain], b"secret");
    }

    #[test]
    fn short_missing_and_repeated_masters_are_refused() {
        let random: SharedRandom = Arc::new(SystemRandom);
        assert!(matches!(Keyring::new(&[], random.clone()), Err(KeyringError::Empty)));
        let short = SecretBytes::new(vec![1; 31]);
        assert!(matches!(
            Keyring::new(&[short], random.clone()),
            Err(KeyringError::TooShort { position: 1, found: 31 })
        ));
        assert!(matches!(
            Keyring::new(&[master(1), master(1)], random),
            Err(KeyringError::Twice { position: 2 })
        ));
    }

    #[test]
    fn a_rotated_ring_derives_alike_under_the_old_key() {
        let (old, rotated) = (ring(&[1]), ring(&[2, 1]));
        let before = old.derive::<20>("totp", &[b"a"]);
        assert_ne!(rotated.derive::<20>("totp", &[b"a"]).expose(), before.expose());
        let after = rotated.derive_under::<20>(old.current(), "totp", &[b"a"]).unwrap();
        assert_eq!(after.expose(), before.expose());
        assert!(old.derive_under::<20>(rotated.current(), "totp", &[b"a"]).is_none());
        assert_eq!(rotated.ids().collect::<Vec<_>>(), [rotated.current(), old.current()]);
    }

    #[test]
    fn derived_secrets_differ_by_label_and_by_the_cut_of_their_parts() {
        let ring = ring(&[1]);
        let a = ring.derive::<20>("totp", &[b"ab", b"c"]);
        assert_eq!(a.expose(), ring.derive::<20>("totp", &[b"ab", b"c"]).expose());
        assert_ne!(a.expose(), ring.derive::<20>("totp", &[b"a", b"bc"]).expose());
        assert_ne!(a.expose(), ring.derive::<20>("other", &[b"ab", b"c"]).expose());
    }
}

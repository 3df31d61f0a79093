//! The doors to the world: clock, randomness, secrets, and the key ring.
//!
//! Nothing above this layer asks the machine for the time or for random bytes by itself; both are
//! handed in, so that tests hold them and a reader sees who depends on them.

pub mod clock;
pub mod keyring;
pub mod random;
pub mod record_keys;
pub mod secret;

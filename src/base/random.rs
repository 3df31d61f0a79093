//! Random bytes as an argument.

use std::sync::Arc;

/// The machine could not give random bytes; whoever asked must refuse, not guess.
#[derive(Debug, thiserror::Error)]
#[error("the system gave no random bytes")]
pub struct NoRandomness;

/// Gives cryptographically secure random bytes.
pub trait Random: Send + Sync + 'static {
    /// Fills `out` completely.
    ///
    /// # Errors
    /// When the source fails; `out` must then not be used.
    fn fill(&self, out: &mut [u8]) -> Result<(), NoRandomness>;
}

/// A shared source of randomness, as parts hold it.
pub type SharedRandom = Arc<dyn Random>;

/// `N` random bytes.
///
/// # Errors
/// When the source fails.
pub fn bytes<const N: usize>(random: &dyn Random) -> Result<[u8; N], NoRandomness> {
    let mut out = [0; N];
    random.fill(&mut out)?;
    Ok(out)
}

/// The operating system's generator.
#[derive(Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    #[expect(clippy::disallowed_methods, reason = "this is the one door to the machine's randomness")]
    fn fill(&self, out: &mut [u8]) -> Result<(), NoRandomness> {
        getrandom::fill(out).map_err(|_| NoRandomness)
    }
}

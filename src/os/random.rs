//! Randomness from the operating system. Callers hand seeds and values on, so that a run can be replayed.

use ring::rand::{SecureRandom, SystemRandom};

/// Fills `bytes` with unpredictable bytes.
///
/// # Panics
/// When the system has no randomness to give, which does not happen after boot. Going on with predictable keys would
/// be worse than stopping.
pub fn fill(bytes: &mut [u8]) {
    SystemRandom::new().fill(bytes).expect("the system gives no random bytes");
}

/// An unpredictable number, such as the seed of a keyed hash.
#[must_use]
pub fn seed() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_filled_and_seeds_differ() {
        let mut bytes = [0; 256];
        fill(&mut bytes);
        assert!(bytes[..128].iter().any(|&byte| byte != 0));
        assert!(bytes[128..].iter().any(|&byte| byte != 0));
        assert_ne!(seed(), seed());
    }
}

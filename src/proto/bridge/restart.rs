//! How long a bridge waits before it connects again `[conf: restart_timeout]`: at random, and longer each time, so that a
//! thousand bridges do not come back to a restarted broker at one moment ("decorrelated jitter").

use crate::config::bridge::Restart;

/// The delays of one bridge.
#[derive(Debug)]
pub struct Backoff {
    base_ms: u64,
    cap_ms: u64,
    stable_ms: u64,
    /// The delay before; `None` before the first.
    previous_ms: Option<u64>,
}

impl Backoff {
    /// Delays as configured.
    #[must_use]
    pub fn new(restart: Restart) -> Backoff {
        let ms = |s: u32| u64::from(s).saturating_mul(1000);
        Backoff { base_ms: ms(restart.base), cap_ms: ms(restart.cap), stable_ms: ms(restart.stable), previous_ms: None }
    }

    /// The next delay in milliseconds: random between the base and three times the delay before, at most the cap. `random`
    /// is any number.
    pub fn next(&mut self, random: u64) -> u64 {
        let until = match self.previous_ms {
            None => self.base_ms.saturating_mul(2),
            Some(previous) => previous.saturating_mul(3),
        };
        let span = until.saturating_sub(self.base_ms).max(1);
        let step = random.checked_rem(span).unwrap_or_default();
        let delay = self.base_ms.saturating_add(step).min(self.cap_ms);
        self.previous_ms = Some(delay);
        delay
    }

    /// A connection has ended that lasted so long: true when it was stable enough to begin from the base again.
    pub fn ended(&mut self, lasted_ms: u64) -> bool {
        let stable = lasted_ms >= self.stable_ms;
        if stable {
            self.previous_ms = Some(self.base_ms);
        }
        stable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff(base: u32, cap: u32, stable: u32) -> Backoff {
        Backoff::new(Restart { base, cap, stable })
    }

    #[test]
    fn one_number_is_a_constant() {
        let mut constant = backoff(7, 7, 0);
        assert_eq!((0..50).map(|random| constant.next(random * 997)).collect::<Vec<_>>(), [7000; 50]);
    }

    #[test]
    fn delays_stay_between_base_and_three_times_the_last() {
        let mut random = 1u64;
        let mut delays = backoff(5, 30, 0);
        let mut last = None;
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..10_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let delay = delays.next(random >> 16);
            let until = last.map_or(10_000, |last: u64| last * 3);
            assert!((5000..=30_000).contains(&delay) && delay < until.max(5001), "{delay} after {last:?}");
            seen.insert(delay / 1000);
            last = Some(delay);
        }
        assert!(seen.len() == 26, "spread over the whole range: {seen:?}");
        assert!(delays.ended(0));
        assert!(delays.next(u64::MAX / 3) < 15_000, "from the base again");
    }

    #[test]
    fn only_a_stable_connection_resets() {
        let mut delays = backoff(1, 1000, 60);
        for _ in 0..10 {
            delays.next(u64::MAX - 1);
        }
        let before = delays.previous_ms;
        assert!(!delays.ended(59_999));
        assert_eq!(delays.previous_ms, before);
        assert!(delays.ended(60_000));
        assert_eq!(delays.previous_ms, Some(1000));
    }
}

//! A guard against guessing passwords: logins from an address that failed too often have to wait.
//!
//! Each address may fail [`BURST`] times at once and then once in [`INTERVAL_MS`]; while it has used that up, its next
//! login is not looked at before the time has come. A correct password costs nothing, so a crowd of clients behind one
//! address is not slowed. The table has a fixed size.

use core::net::{IpAddr, Ipv6Addr};
use std::hash::Hasher;

use siphasher::sip::SipHasher24;

/// Failures that are free.
pub const BURST: u64 = 10;
/// Milliseconds that each failure costs beyond these.
pub const INTERVAL_MS: u64 = 2000;
/// The longest that an address ever has to wait. So many failures can be known of at once that were all looked at before
/// the first of them was known.
pub const MOST_MS: u64 = 64 * INTERVAL_MS;
/// Addresses that are remembered, 16 bytes each.
const SLOTS: usize = 1024;
/// Places where one address may stand.
const WAYS: usize = 4;

/// Who failed how often lately.
pub struct Guard {
    keys: [u64; 2],
    slots: Box<[Slot]>,
}

/// An address, as a hash, and the time until which its failures count; a time that has passed leaves the slot free.
#[derive(Clone, Copy, Default)]
struct Slot {
    tag: u64,
    until_ms: u64,
}

impl Guard {
    /// Nobody has failed. The keys keep anyone from choosing addresses that share a slot.
    #[must_use]
    pub fn new(keys: [u64; 2]) -> Guard {
        Guard { keys, slots: Box::default() }
    }

    /// Milliseconds that a login from `ip` has to wait; 0 for none.
    #[must_use]
    pub fn wait_ms(&self, now_ms: u64, ip: IpAddr) -> u64 {
        let tag = self.tag(ip);
        let until_ms = self.ways(tag).find(|slot| slot.tag == tag).map_or(0, |slot| slot.until_ms);
        // The free ones reach so far ahead.
        until_ms.saturating_sub(BURST * INTERVAL_MS).saturating_sub(now_ms)
    }

    /// A login from `ip` failed.
    pub fn failed(&mut self, now_ms: u64, ip: IpAddr) {
        if self.slots.is_empty() {
            self.slots = vec![Slot::default(); SLOTS].into();
        }
        let tag = self.tag(ip);
        let start = first_way(tag);
        let Some(ways) = self.slots.get_mut(start..start + WAYS) else { return };
        // Its own slot, else the one that matters least.
        let Some(slot) = ways.iter_mut().min_by_key(|slot| if slot.tag == tag { 0 } else { slot.until_ms.max(1) })
        else {
            return;
        };
        let before = if slot.tag == tag { slot.until_ms } else { 0 };
        let most_ms = now_ms + BURST * INTERVAL_MS + MOST_MS;
        *slot = Slot { tag, until_ms: (before.max(now_ms) + INTERVAL_MS).min(most_ms) };
    }

    fn ways(&self, tag: u64) -> impl Iterator<Item = &Slot> {
        self.slots.iter().skip(first_way(tag)).take(WAYS)
    }

    /// What stands for an address. Whoever has an IPv6 address has 2^64 of them.
    #[must_use]
    pub fn tag(&self, ip: IpAddr) -> u64 {
        let ip = match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) => v4.to_ipv6_mapped().to_bits(),
                None => Ipv6Addr::to_bits(v6) >> 64 << 64,
            },
        };
        let mut hasher = SipHasher24::new_with_keys(self.keys[0], self.keys[1]);
        hasher.write_u128(ip);
        hasher.finish().max(1)
    }
}

fn first_way(tag: u64) -> usize {
    usize::try_from(tag % (SLOTS / WAYS) as u64).unwrap_or(0) * WAYS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_failures_are_free_and_then_each_costs_two_seconds() {
        let mut guard = Guard::new([1, 2]);
        let who = ip("192.0.2.1");
        for _ in 0..BURST {
            assert_eq!(guard.wait_ms(1000, who), 0);
            guard.failed(1000, who);
        }
        assert_eq!(guard.wait_ms(1000, who), 0);
        guard.failed(1000, who);
        assert_eq!(guard.wait_ms(1000, who), INTERVAL_MS);
        assert_eq!(guard.wait_ms(2999, who), 1);
        assert_eq!(guard.wait_ms(3000, who), 0);
        guard.failed(3000, who);
        assert_eq!(guard.wait_ms(3000, who), INTERVAL_MS);
        assert_eq!(guard.wait_ms(3000, ip("192.0.2.2")), 0);
        let later = 3000 + (BURST + 1) * INTERVAL_MS;
        for _ in 0..BURST {
            guard.failed(later, who);
        }
        assert_eq!(guard.wait_ms(later, who), 0, "forgotten");
    }

    #[test]
    fn nobody_has_to_wait_for_ever() {
        let mut guard = Guard::new([1, 2]);
        let who = ip("192.0.2.1");
        for _ in 0..5000 {
            guard.failed(7, who);
        }
        assert_eq!(guard.wait_ms(7, who), MOST_MS);
    }

    #[test]
    fn the_same_network_is_one_address() {
        let mut guard = Guard::new([1, 2]);
        for i in 0..=BURST {
            guard.failed(0, ip(&format!("2001:db8::{i:x}")));
        }
        assert!(guard.wait_ms(0, ip("2001:db8::ffff")) > 0);
        assert_eq!(guard.wait_ms(0, ip("2001:db8:0:1::1")), 0);
        for _ in 0..=BURST {
            guard.failed(0, ip("::ffff:192.0.2.9"));
        }
        assert!(guard.wait_ms(0, ip("192.0.2.9")) > 0);
    }

    #[test]
    fn a_flood_of_addresses_does_not_free_the_worst() {
        let mut guard = Guard::new([1, 2]);
        for _ in 0..100 {
            guard.failed(0, ip("192.0.2.1"));
        }
        for i in 0..100_000u32 {
            guard.failed(0, IpAddr::V4(i.into()));
        }
        assert!(guard.wait_ms(0, ip("192.0.2.1")) > 100_000);
        assert_eq!(guard.slots.len(), SLOTS);
    }
}

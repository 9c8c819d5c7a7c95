//! What strangers may cause: datagrams and answers for each address, and answers altogether. The tables have a fixed size,
//! whatever addresses a flood claims to come from.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::addr::Source;
use crate::timer::Now;

/// Addresses that are counted at once. Two that fall into one place share its allowance.
const PLACES: usize = 1024;
/// Answers a second to one address that has no session: enough for a device that repeats itself, useless against others.
const ANSWERS_PER_ADDRESS: u32 = 5;
/// Answers a second to all such addresses.
const ANSWERS: u32 = 1000;

/// What one address did in one second.
#[derive(Clone, Copy, Default)]
struct Place {
    second: u32,
    datagrams: u32,
    answers: u32,
}

/// Counts the datagrams of addresses without a session `[conf: mqttsn_rate_limit]`, and the answers to them.
pub(super) struct Limits {
    keys: [u64; 2],
    /// Allocated with the first datagram.
    places: Vec<Place>,
    answers: (u32, u32),
}

impl Limits {
    pub(super) fn new(keys: [u64; 2]) -> Limits {
        Limits { keys, places: Vec::new(), answers: (0, 0) }
    }

    fn place(&mut self, now: Now, from: &Source<'_>) -> Option<&mut Place> {
        if self.places.is_empty() {
            self.places = vec![Place::default(); PLACES];
        }
        let mut hasher = SipHasher13::new_with_keys(self.keys[0], self.keys[1]);
        from.hash(&mut hasher);
        let hash = hasher.finish();
        let index = hash.checked_rem(PLACES as u64).and_then(|index| usize::try_from(index).ok())?;
        let second = second(now);
        let place = self.places.get_mut(index)?;
        if place.second != second {
            *place = Place { second, datagrams: 0, answers: 0 };
        }
        Some(place)
    }

    /// Counts a datagram from an address without a session; false when it is one too many in this second. 0 is no limit.
    pub(super) fn datagram(&mut self, now: Now, from: &Source<'_>, limit: u32) -> bool {
        if limit == 0 {
            return true;
        }
        let Some(place) = self.place(now, from) else { return true };
        place.datagrams = place.datagrams.saturating_add(1);
        place.datagrams <= limit
    }

    /// Counts an answer to an address without a session; false when it must not be sent.
    pub(super) fn answer(&mut self, now: Now, from: &Source<'_>) -> bool {
        let second = second(now);
        if self.answers.0 != second {
            self.answers = (second, 0);
        }
        if self.answers.1 >= ANSWERS {
            return false;
        }
        let Some(place) = self.place(now, from) else { return false };
        if place.answers >= ANSWERS_PER_ADDRESS {
            return false;
        }
        place.answers = place.answers.saturating_add(1);
        self.answers.1 = self.answers.1.saturating_add(1);
        true
    }
}

fn second(now: Now) -> u32 {
    u32::try_from(now.mono_ms / 1000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::addr::Addr;
    use super::*;

    fn from(port: u16) -> Source<'static> {
        let addr = Addr::new(std::net::SocketAddr::from(([127, 0, 0, 1], port)));
        Source { socket: 0, addr, node: &[] }
    }

    fn at(mono_ms: u64) -> Now {
        Now { mono_ms, wall_s: 0 }
    }

    /// `[conf: mqttsn_rate_limit]`
    #[test]
    fn each_address_has_its_datagrams_a_second() {
        let mut limits = Limits::new([1, 2]);
        let count = |limits: &mut Limits, now, port| (0..20).filter(|_| limits.datagram(now, &from(port), 7)).count();
        assert_eq!(count(&mut limits, at(5000), 1), 7);
        assert_eq!(count(&mut limits, at(5999), 1), 0);
        assert_eq!(count(&mut limits, at(5000), 2), 7);
        assert_eq!(count(&mut limits, at(6000), 1), 7);
        assert!((0..1000).all(|_| limits.datagram(at(6000), &from(3), 0)));
    }

    #[test]
    fn answers_to_strangers_are_few_for_one_and_bounded_for_all() {
        let mut limits = Limits::new([1, 2]);
        assert_eq!((0..100).filter(|_| limits.answer(at(5000), &from(1))).count(), 5);
        let all = (0..60_000).filter(|port| limits.answer(at(7000), &from(*port))).count();
        assert_eq!(all, 1000);
        assert!(limits.answer(at(8000), &from(1)));
    }
}

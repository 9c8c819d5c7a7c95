//! The network between devices and gateway.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use crate::rng::Rng;

/// Where a datagram goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Way {
    /// To the gateway, from this address.
    ToGateway(SocketAddr),
    /// From the gateway, to this address.
    ToDevice(SocketAddr),
}

/// Ordered by arrival, then by when it was sent.
type Flying = (u64, u64, Way, Vec<u8>);

/// A network that does to datagrams what networks do.
pub(super) struct Air {
    /// In percent.
    pub(super) loss: u64,
    pub(super) doubles: u64,
    delay_ms: (u64, u64),
    flying: BinaryHeap<Reverse<Flying>>,
    sent: u64,
    /// Of everything that went through it.
    pub(super) hash: u64,
}

impl Air {
    pub(super) fn new(rng: &mut Rng) -> Air {
        let loss = *rng.pick(&[0, 0, 2, 10, 30]);
        let doubles = *rng.pick(&[0, 5, 25]);
        let low = *rng.pick(&[0, 5, 100]);
        let high = low + *rng.pick(&[0, 50, 500, 2500]);
        Air { loss, doubles, delay_ms: (low, high), flying: BinaryHeap::new(), sent: 0, hash: 0xCBF2_9CE4_8422_2325 }
    }

    /// No datagram is older.
    pub(super) fn life_ms(&self) -> u64 {
        self.delay_ms.1
    }

    /// Nothing is lost any more.
    pub(super) fn calm_down(&mut self) {
        (self.loss, self.doubles) = (0, 0);
    }

    /// Takes a datagram; it may arrive, or twice, or not.
    pub(super) fn send(&mut self, rng: &mut Rng, now_ms: u64, way: Way, bytes: &[u8]) {
        let mut copies = u64::from(rng.below(100) >= self.loss);
        copies += u64::from(copies != 0 && rng.below(100) < self.doubles);
        for _ in 0..copies {
            self.sent += 1;
            let at_ms = now_ms + rng.range(self.delay_ms.0, self.delay_ms.1);
            self.flying.push(Reverse((at_ms, self.sent, way, bytes.into())));
        }
    }

    /// When the next datagram arrives.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.flying.peek().map(|Reverse((at_ms, ..))| *at_ms)
    }

    /// A datagram that has arrived.
    pub(super) fn arrived(&mut self, now_ms: u64) -> Option<(Way, Vec<u8>)> {
        if self.next_ms()? > now_ms {
            return None;
        }
        let Reverse((_, _, way, bytes)) = self.flying.pop()?;
        for byte in &bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
        Some((way, bytes))
    }
}

//! What the fuzz targets do with their input. libFuzzer runs these bodies under a nightly compiler, `replay.rs` runs them
//! over the seeds on a stable one. A body panics when a promise is broken; it prints nothing and touches no file.

#![allow(
    unreachable_pub,
    clippy::cast_possible_truncation,
    reason = "public for the targets, private in the replay; bytes of the input are cut on purpose"
)]

mod access;
mod acl;
#[cfg(feature = "bridge")]
mod bridge;
mod client;
mod config;
#[cfg(feature = "persistence")]
mod db;
mod frames;
#[cfg(feature = "persistence")]
mod journal;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "mqttsn")]
mod mqttsn;
mod packets;
#[cfg(feature = "proxy")]
mod proxy;
mod server;
#[cfg(feature = "tls")]
mod tls;
mod turns;
#[cfg(feature = "websockets")]
mod websockets;

pub use access::access;
pub use acl::acl;
#[cfg(feature = "bridge")]
pub use bridge::bridge;
pub use config::config;
#[cfg(feature = "persistence")]
pub use db::db;
pub use frames::frames;
#[cfg(feature = "persistence")]
pub use journal::journal;
#[cfg(feature = "metrics")]
pub use metrics::metrics;
#[cfg(feature = "mqttsn")]
pub use mqttsn::mqttsn;
pub use packets::{packet_v3, packet_v5};
#[cfg(feature = "proxy")]
pub use proxy::proxy;
pub use server::server;
#[cfg(feature = "tls")]
pub use tls::tls;
#[cfg(feature = "websockets")]
pub use websockets::{upgrade, websocket};

/// Marsaglia's xorshift: choices that follow from a seed.
pub struct Random(pub u64);

impl Random {
    /// A number below `n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n.max(1)
    }
}

/// Takes one byte off the input; 0 when there is none.
fn byte(data: &mut &[u8]) -> u8 {
    match data.split_first() {
        Some((first, rest)) => {
            *data = rest;
            *first
        }
        None => 0,
    }
}

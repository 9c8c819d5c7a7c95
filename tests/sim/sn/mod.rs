//! The MQTT-SN gateway under a seeded network: datagrams get lost, come twice, late and in another order, on a clock of
//! their own. Devices run the client of `proto::sn::client`; MQTT clients beside them publish and receive without loss.
//!
//! What MQTT-SN 1.2 can promise has a bound, which the run keeps to: no datagram lives for longer than [`air::Air::life_ms`],
//! a request is repeated only after more than twice that, and a device that begins something new after an end (a connection
//! after it lost the gateway, a look at it after it fell asleep) lets that time pass first. Within it QoS 1 arrives at least once
//! and QoS 2 exactly once, also through lost connections, as long as the session is kept.

mod air;
mod device;
mod hub;
mod ledger;
mod world;

use std::panic::catch_unwind;

const SEEDS: u64 = 200;

/// Runs one seed; on a panic, anybody's, says which it was.
fn run(seed: u64) -> Option<u64> {
    let result = catch_unwind(|| world::run(seed)).ok();
    if result.is_none() {
        eprintln!("replay with: SEED={seed} cargo test --test sim sn::");
    }
    result
}

#[test]
fn every_seed_keeps_every_promise() {
    let seeds = match super::number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..super::number("SN_SEEDS").or(super::number("SEEDS")).unwrap_or(SEEDS),
    };
    let failed: Vec<u64> = seeds.filter(|seed| run(*seed).is_none()).collect();
    assert!(failed.is_empty(), "{} seeds failed: {failed:?}", failed.len());
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..10 {
        let first = run(seed);
        assert!(first.is_some() && first == run(seed), "seed {seed}");
    }
}

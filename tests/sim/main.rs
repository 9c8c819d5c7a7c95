//! The core under a seeded simulation: clients of all versions speak real bytes to it through queues in memory, on a
//! clock of their own, and lose their connections at every byte. `SEED=7 cargo test --test sim` replays one run,
//! `SEEDS=10000` says how many there are.

mod client;
#[cfg(feature = "persistence")]
mod disk;
#[cfg(not(feature = "persistence"))]
#[path = "disk_off.rs"]
mod disk;
mod idle;
mod net;
mod oracle;
mod rng;
mod rules;
#[cfg(feature = "mqttsn")]
mod sn;
mod world;

use std::panic::catch_unwind;

const SEEDS: u64 = 300;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Runs one seed; on a panic, anybody's, says which it was.
fn run(seed: u64) -> Option<u64> {
    let result = catch_unwind(|| world::run(seed)).ok();
    if result.is_none() {
        eprintln!("replay with: SEED={seed} cargo test --test sim");
    }
    result
}

#[test]
fn every_seed_keeps_every_promise() {
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(SEEDS),
    };
    let failed: Vec<u64> = seeds.filter(|seed| run(*seed).is_none()).collect();
    assert!(failed.is_empty(), "{} seeds failed: {failed:?}", failed.len());
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..20 {
        let first = run(seed);
        assert!(first.is_some() && first == run(seed), "seed {seed}");
    }
}

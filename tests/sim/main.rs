//! The core under a seeded simulation: clients of all versions speak real bytes to it through queues in memory, on a
//! clock of their own, and lose their connections at every byte. `SEED=7 cargo test --test sim` replays one run,
//! `SEEDS=10000` says how many there are.

mod client;
mod net;
mod oracle;
mod rng;
mod world;

use std::panic::catch_unwind;

const SEEDS: u64 = 300;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Says which seed it was, whoever panics.
fn run(seed: u64) -> u64 {
    catch_unwind(|| world::run(seed))
        .unwrap_or_else(|_| panic!("failed: replay with SEED={seed} cargo test --test sim -- --nocapture"))
}

#[test]
fn every_seed_keeps_every_promise() {
    if let Some(seed) = number("SEED") {
        run(seed);
        return;
    }
    if let Some(seeds) = number("SURVEY") {
        let bad: Vec<u64> = (0..seeds).filter(|seed| catch_unwind(|| world::run(*seed)).is_err()).collect();
        panic!("{} bad: {bad:?}", bad.len());
    }
    for seed in 0..number("SEEDS").unwrap_or(SEEDS) {
        run(seed);
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

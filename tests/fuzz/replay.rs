//! The bodies of the fuzz targets over their seeds and over random changes to them, on a stable compiler. To look further:
//! `make fuzz FUZZ=server SECONDS=600`.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "bodies/mod.rs"]
mod bodies;
#[path = "seeds.rs"]
mod seeds;

use bodies::Random;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target)
}

fn seeds_of(target: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no seeds for {target}");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// A few changes of the kind libFuzzer makes.
fn mutate(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut data = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(data.len() + 1);
        let len = random.below(9).min(data.len() - at);
        match random.below(6) {
            0 => data.truncate(at),
            1 => data.insert(at, random.below(256).to_le_bytes()[0]),
            2 => drop(data.drain(at..at + len)),
            3 => {
                let other = &seeds[random.below(seeds.len())];
                data.extend_from_slice(&other[random.below(other.len())..]);
            }
            4 => {
                let again = data[at..at + len].to_vec();
                data.splice(at..at, again);
            }
            _ if at < data.len() => data[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
    data
}

fn replay(target: &str, mutations: usize, body: fn(&[u8])) {
    let seeds = seeds_of(target);
    seeds.iter().for_each(|seed| body(seed));
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    // How many times as many, for those who have no fuzzer at hand: `REPLAYS=100 cargo test --test fuzz db`.
    let times = std::env::var("REPLAYS").ok().and_then(|times| times.parse::<usize>().ok()).unwrap_or(1);
    for _ in 0..mutations * times {
        body(&mutate(&seeds, &mut random));
    }
}

#[test]
fn server() {
    replay("server", 2000, bodies::server);
}

#[test]
fn packet_v5() {
    replay("packet_v5", 20_000, bodies::packet_v5);
}

#[test]
fn packet_v3() {
    replay("packet_v3", 20_000, bodies::packet_v3);
}

#[test]
fn frames() {
    replay("frames", 5000, bodies::frames);
}

#[test]
fn acl() {
    replay("acl", 50_000, bodies::acl);
}

#[cfg(feature = "bridge")]
#[test]
fn bridge() {
    replay("bridge", 5000, bodies::bridge);
}

#[test]
fn config() {
    replay("config", 5000, bodies::config);
}

#[test]
fn access() {
    replay("access", 5000, bodies::access);
}

#[cfg(feature = "metrics")]
#[test]
fn metrics() {
    replay("metrics", 5000, bodies::metrics);
}

#[cfg(feature = "persistence")]
#[test]
fn db() {
    replay("db", 8_000, bodies::db);
}

#[cfg(feature = "persistence")]
#[test]
fn journal() {
    replay("journal", 4_000, bodies::journal);
}

#[cfg(feature = "proxy")]
#[test]
fn proxy() {
    replay("proxy", 5000, bodies::proxy);
}

#[cfg(feature = "websockets")]
#[test]
fn upgrade() {
    replay("upgrade", 5000, bodies::upgrade);
}

#[cfg(feature = "websockets")]
#[test]
fn websocket() {
    replay("websocket", 5000, bodies::websocket);
}

#[cfg(feature = "tls")]
#[test]
fn tls() {
    replay("tls", 1000, bodies::tls);
}

#[test]
#[cfg(feature = "mqttsn")]
fn mqttsn() {
    replay("mqttsn", 500, bodies::mqttsn);
}

/// `cargo test --test fuzz -- --ignored` writes the seeds anew.
#[test]
#[ignore = "writes files"]
fn write_seeds() {
    for (target, all) in seeds::all() {
        fs::create_dir_all(folder(target)).unwrap();
        for (i, seed) in all.iter().enumerate() {
            fs::write(folder(target).join(format!("{i:02}")), seed).unwrap();
        }
    }
}

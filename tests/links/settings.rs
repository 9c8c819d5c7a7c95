//! How much is done, and in which order: a little and all at once in `make test`, what was promised in `make soak`.

use std::thread::{self, JoinHandle};
use std::time::Instant;

/// True with `LINKS_FULL` set: full counts and times.
pub(crate) fn full() -> bool {
    std::env::var_os("LINKS_FULL").is_some()
}

/// How often a link is cut.
pub(crate) fn cuts() -> usize {
    if full() { 200 } else { 5 }
}

/// Runs scenarios that mostly wait, all at once; with full counts one after the other, so that none disturbs the figures
/// of another. `CASES=text` picks those whose name contains the text.
pub(crate) fn side_by_side(scenarios: &[(&'static str, fn())]) {
    let text = std::env::var("CASES").unwrap_or_default();
    let mut running = Vec::new();
    let mut failed = Vec::new();
    for (name, scenario) in scenarios.iter().filter(|(name, _)| name.contains(&text)) {
        running.push((*name, start(name, *scenario)));
        if full() {
            failed.extend(join(running.drain(..)));
        }
    }
    failed.extend(join(running.into_iter()));
    assert!(failed.is_empty(), "failed: {}", failed.join(", "));
}

fn start(name: &'static str, scenario: fn()) -> JoinHandle<()> {
    let run = move || {
        let begin = Instant::now();
        scenario();
        println!("{name}: {:?}", begin.elapsed());
    };
    // Its name is in the message of a panic.
    thread::Builder::new().name(name.to_owned()).spawn(run).expect("a thread")
}

/// The names of those that failed.
fn join(running: impl Iterator<Item = (&'static str, JoinHandle<()>)>) -> Vec<&'static str> {
    running.filter_map(|(name, thread)| thread.join().is_err().then_some(name)).collect()
}

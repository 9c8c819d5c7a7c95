//! Runs `tests/vectors/*.case` over sockets. Cases with the same configuration share a broker.
//!
//! `CASES=TEXT` runs only those whose file or name contains the text.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::{env, fs};

use crate::broker::{Broker, note};
use crate::client::{Client, Missing};
use crate::script::{self, Link, Transport};

/// Connections over TCP.
struct Tcp(SocketAddr);

impl Transport for Tcp {
    fn open(&mut self) -> Result<Box<dyn Link>, String> {
        Client::try_open(self.0).map(|client| Box::new(client) as Box<dyn Link>).map_err(|e| e.to_string())
    }
}

impl Link for Client {
    fn send(&mut self, bytes: &[u8]) {
        Client::send(self, bytes);
    }

    fn recv(&mut self, n: usize) -> Result<Vec<u8>, Missing> {
        Client::recv(self, n)
    }
}

#[test]
fn vectors() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut files: Vec<_> = fs::read_dir(dir).expect("tests/vectors").flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "case"));
    files.sort();
    let only = env::var("CASES").unwrap_or_default();

    let mut brokers: BTreeMap<String, Broker> = BTreeMap::new();
    let (mut run, mut ignored, mut failures) = (0, 0, Vec::new());
    for path in &files {
        let file = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(path).expect("a readable file");
        for case in script::parse(&text).unwrap_or_else(|e| panic!("{file}.case: {e}")) {
            for &version in &case.versions {
                let name = format!("{file}: {} (version {version})", case.name);
                if !name.contains(&only) {
                    continue;
                }
                if let Some(why) = &case.ignore {
                    note(&format!("ignored {name}: {why}"));
                    ignored += 1;
                    continue;
                }
                let config = case.config.join("\n");
                if config.contains("strict_conformance") && env::var_os("MOSQUITTO_UNDER_TEST").is_some() {
                    // An option that only this broker has.
                    continue;
                }
                let broker = brokers.entry(config.clone()).or_insert_with(|| Broker::start_with(&config));
                run += 1;
                match script::run(&case, version, &mut Tcp(broker.addr())) {
                    Ok(()) => println!("ok      {name}"),
                    Err(why) => {
                        println!("FAILED  {name}\n        {why}");
                        failures.push(format!("{name}\n        {why}"));
                    }
                }
            }
        }
    }
    note(&format!("vectors: {run} run, {ignored} ignored, {} failed", failures.len()));
    assert!(run > 0, "nothing matches CASES={only}");
    assert!(failures.is_empty(), "{} of {run} vectors failed:\n{}", failures.len(), failures.join("\n"));
}

//! The paho client for Python (`tests/interop/paho_cases.py`) against the broker, every case for each of its versions.
//! `tests/interop/setup.sh` installs it into `target/venv`; `make test` does that first.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

#[cfg(any(feature = "tls", feature = "websockets"))]
use crate::broker::free_port;
use crate::broker::{Broker, note, wait_exit};

const LIMIT: Duration = Duration::from_secs(60);

/// The interpreter with the client, or `None` after saying why not.
fn python() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let python = target.join("venv/bin/python");
    if !python.exists() {
        note(&format!("paho skipped: no {} (tests/interop/setup.sh makes it)", python.display()));
        return None;
    }
    Some(python)
}

#[test]
fn paho() {
    run(&[], || {
        let broker = Broker::start();
        let port = broker.port();
        (broker, port)
    });
}

#[cfg(feature = "websockets")]
#[test]
fn paho_over_websockets() {
    run(&["websockets"], || {
        let port = free_port();
        let broker = Broker::start_with(&format!("listener {port} 127.0.0.1\nprotocol websockets"));
        broker.wait_for_log(&format!("Listener {port} on "), LIMIT);
        (broker, port)
    });
}

#[cfg(feature = "tls")]
#[test]
fn paho_over_tls() {
    run(&["tcp", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/tls/cert.pem")], || {
        let port = free_port();
        let broker = Broker::start_with(&crate::tls::fixed_listener(port));
        broker.wait_for_log(&format!("Listener {port} on "), LIMIT);
        (broker, port)
    });
}

/// Runs every case against a broker of its own that `start` makes, with its port; `options` are further arguments.
fn run(options: &[&str], start: impl Fn() -> (Broker, u16)) {
    let Some(python) = python() else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/paho_cases.py");
    let list = Command::new(&python).arg(script).output().expect("python");
    assert!(list.status.success(), "{}", String::from_utf8_lossy(&list.stderr));
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let only = std::env::var("CASES").unwrap_or_default();

    // All at once, each on a broker of its own: most of their time is waiting.
    let mut running = Vec::new();
    for line in list.lines() {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default();
        for version in words.filter(|_| name.contains(&only)) {
            let (broker, port) = start();
            let child = Command::new(&python)
                .args([script, &port.to_string(), name, version])
                .args(options)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("python");
            running.push((format!("{name} (version {version})"), broker, child));
        }
    }
    assert!(!running.is_empty() || !only.is_empty(), "no cases");
    let mut failures = Vec::new();
    for (name, broker, mut child) in running {
        let status = wait_exit(&mut child, LIMIT);
        if status.is_none() {
            let _ = child.kill();
        }
        let output = child.wait_with_output().expect("its output");
        if status.is_some_and(|status| status.success()) {
            println!("ok      {name}");
        } else {
            let why = String::from_utf8_lossy(&output.stderr);
            failures.push(format!("{name} {status:?}\n{why}\nbroker log:\n{}", broker.log_text()));
        }
    }
    assert!(failures.is_empty(), "{} paho cases failed:\n{}", failures.len(), failures.join("\n\n"));
}

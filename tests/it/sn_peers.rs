//! MQTT-SN through the broker, end to end: `mqtt-sn-12` from PyPI and our own clients on the one side, Debian's
//! `mosquitto_pub` and `mosquitto_sub` on the other.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::broker::{note, wait_exit};
use crate::sn_procedures::Gateway;

/// Nine starts of an interpreter on a busy machine take their time.
const LIMIT: Duration = Duration::from_secs(120);

/// The folder of a third-party client, or `None` after saying why not.
fn python_peer() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let bin = target.join("venv/bin");
    let there = bin.join("mqtt_sn_pub").exists() && bin.join("mqtt_sn_sub").exists();
    if !there {
        note("mqtt-sn-12 skipped: not in target/venv (tests/interop/setup.sh makes it)");
    }
    there.then_some(bin)
}

/// Whether Debian's clients are there; says so when they are not.
fn debian() -> bool {
    let there = Command::new("mosquitto_sub").arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if there.is_err() {
        note("MQTT-SN beside Debian's clients skipped: no mosquitto_sub (package mosquitto-clients)");
    }
    there.is_ok()
}

/// A program that prints messages and ends by itself.
struct Printer(Option<Child>);

impl Printer {
    fn start(command: &mut Command) -> Printer {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        Printer(Some(child.unwrap_or_else(|e| panic!("{command:?}: {e}"))))
    }

    /// `mosquitto_sub` for so many messages, once its subscription stands.
    fn debian(gateway: &Gateway, id: &str, filter: &str, count: usize) -> Printer {
        let (port, count) = (gateway.broker.port().to_string(), count.to_string());
        let args = ["-h", "127.0.0.1", "-p", &port, "-i", id, "-t", filter, "-q", "2", "-W", "120", "-C", &count];
        let printer = Printer::start(Command::new("mosquitto_sub").args(args).args(["-F", "%t %q %r %p"]));
        gateway.broker.wait_for_log(&format!("Sending SUBACK to {id}"), LIMIT);
        printer
    }

    /// Its lines at the end.
    #[track_caller]
    fn lines(mut self) -> Vec<String> {
        let mut child = self.0.take().expect("running");
        assert!(wait_exit(&mut child, LIMIT).is_some(), "it does not end");
        let output = child.wait_with_output().expect("its output");
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    fn kill(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs something that publishes, and expects success.
#[track_caller]
fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn debian_publishes(gateway: &Gateway, topic: &str, qos: &str, payload: &str) {
    let port = gateway.broker.port().to_string();
    run(Command::new("mosquitto_pub").args(["-h", "127.0.0.1", "-p", &port, "-t", topic, "-q", qos, "-m", payload]));
}

/// QoS 2 takes two steps at the subscriber, and what comes behind may overtake it.
fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

const LINES: &str = "mqttsn_predefined_topic 7 peer/seven\nmqttsn_allow_qos_minus_one true\n";

#[test]
fn mqtt_sn_12_publishes_at_every_qos() {
    let Some(bin) = python_peer().filter(|_| debian()) else { return };
    let gateway = Gateway::start(LINES);
    let subscriber = Printer::debian(&gateway, "watch", "#", 9);
    let port = gateway.addr.port().to_string();
    let publish = |args: &[&str]| {
        run(Command::new(bin.join("mqtt_sn_pub")).args(["-h", "127.0.0.1", "-p", &port, "--timeout", "60"]).args(args));
    };
    for qos in ["0", "1", "2"] {
        publish(&["-t", "peer/name", "-q", qos, "-m", "name"]);
        publish(&["-t", "pn", "-q", qos, "-m", "short"]);
    }
    publish(&["-T", "7", "-q", "1", "-m", "seven"]);
    publish(&["-t", "pn", "-q", "-1", "-m", "short"]);
    publish(&["-T", "7", "-q", "-1", "-m", "seven"]);
    let wanted: Vec<String> = (0..3)
        .flat_map(|qos| [format!("peer/name {qos} 0 name"), format!("pn {qos} 0 short")])
        .chain(["peer/seven 1 0 seven", "pn 0 0 short", "peer/seven 0 0 seven"].map(str::to_owned))
        .collect();
    assert_eq!(sorted(subscriber.lines()), sorted(wanted));
}

/// It has no QoS 2 for subscribers.
#[test]
fn mqtt_sn_12_subscribes_and_leaves_a_will() {
    let Some(bin) = python_peer().filter(|_| debian()) else { return };
    let gateway = Gateway::start(LINES);
    let port = gateway.addr.port().to_string();
    let subscribe = |args: &[&str]| {
        let mark = gateway.broker.log_mark();
        let mut command = Command::new(bin.join("mqtt_sn_sub"));
        let printer = Printer::start(command.args(["-h", "127.0.0.1", "-p", &port, "--timeout", "60"]).args(args));
        gateway.broker.wait_for_log_after(mark, "Sending SUBACK to ", LIMIT);
        printer
    };
    for (args, topic) in [
        (&["-t", "peer/name"][..], "peer/name"),
        (&["-t", "peer/#"], "peer/wild"),
        (&["-t", "pn"], "pn"),
        (&["-T", "7"], "peer/seven"),
    ] {
        for qos in ["0", "1"] {
            let printer = subscribe(&[args, &["-q", qos, "-1"]].concat());
            debian_publishes(&gateway, topic, "2", qos);
            assert_eq!(printer.lines(), [qos], "{args:?}");
        }
    }
    let watch = Printer::debian(&gateway, "watch", "will/#", 1);
    let will = ["--will-topic", "will/peer", "--will-payload", "gone", "--will-qos", "1", "-k", "1"];
    let mut printer = subscribe(&[&["-t", "pn"], &will[..]].concat());
    printer.kill();
    assert_eq!(watch.lines(), ["will/peer 1 0 gone"]);
}

#[cfg(feature = "tools")]
#[test]
fn our_clients_beside_debians() {
    if !debian() {
        return;
    }
    let gateway = Gateway::start(LINES);
    let port = gateway.addr.port().to_string();
    let host = ["-h", "127.0.0.1", "-p", &port];
    let subscriber = Printer::debian(&gateway, "watch", "peer/#", 6);
    for qos in ["0", "1", "2"] {
        let args = ["-t", "peer/name", "-q", qos, "-m", "name"];
        run(Command::new(env!("CARGO_BIN_EXE_mosquitto_sn_pub")).args(host).args(args));
    }
    for qos in ["-1", "0", "2"] {
        let args = ["--predefined", "7", "-q", qos, "-m", "seven"];
        run(Command::new(env!("CARGO_BIN_EXE_mosquitto_sn_pub")).args(host).args(args));
    }
    let wanted = ["name 0", "name 1", "name 2", "seven 0", "seven 0", "seven 2"].map(|line| {
        let (name, qos) = line.split_once(' ').expect("two words");
        format!("peer/{name} {qos} 0 {name}")
    });
    assert_eq!(sorted(subscriber.lines()), sorted(wanted.into()));
    // Three messages while it sleeps, at each QoS.
    for (qos, sleep) in [("0", None), ("1", None), ("2", None), ("0", Some("1")), ("1", Some("1")), ("2", Some("1"))] {
        let mark = gateway.broker.log_mark();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mosquitto_sn_sub"));
        command.args(host).args(["-t", "peer/+", "-q", qos, "-C", "3", "-v", "-W", "120"]);
        let printer = Printer::start(command.args(sleep.iter().flat_map(|seconds| ["--sleep", seconds])));
        let ready = if sleep.is_some() { "Sending DISCONNECT to " } else { "Sending SUBACK to " };
        gateway.broker.wait_for_log_after(mark, ready, LIMIT);
        for n in ["1", "2", "3"] {
            debian_publishes(&gateway, &format!("peer/{n}"), "2", n);
        }
        assert_eq!(printer.lines(), ["peer/1 1", "peer/2 2", "peer/3 3"], "{qos} {sleep:?}");
    }
}

//! Debian's `mosquitto_pub` and `mosquitto_sub` as clients of ours: nothing may have to change for them.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::broker::{Broker, note, wait_exit};

const LIMIT: Duration = Duration::from_secs(10);
const VERSIONS: [&str; 3] = ["mqttv31", "mqttv311", "mqttv5"];

/// Whether the programs are there; says so when they are not.
fn available() -> bool {
    let found =
        Command::new("mosquitto_sub").arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        note("Debian's clients skipped: no mosquitto_sub (package mosquitto-clients)");
    }
    found
}

/// A running `mosquitto_sub`, killed when dropped.
struct Sub {
    child: Child,
    lines: Receiver<String>,
}

impl Sub {
    /// Starts it with `-d`, whose output tells when the subscription stands, and waits for that.
    fn start(broker: &Broker, version: &str, args: &[&str]) -> Sub {
        // Without `stdbuf` its lines stay in a buffer while the output is a pipe; it replaces itself by the program.
        let mut child = Command::new("stdbuf")
            .args([
                "-oL",
                "mosquitto_sub",
                "-h",
                "127.0.0.1",
                "-p",
                &broker.port().to_string(),
                "-V",
                version,
                "-d",
                "-F",
                "MSG %t %q %r %p",
            ])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("stdbuf");
        let (sender, lines) = channel();
        let stdout: ChildStdout = child.stdout.take().expect("a pipe");
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let sub = Sub { child, lines };
        sub.line_with("Subscribed (");
        sub
    }

    /// The next line that contains `text`; others are passed over.
    fn line_with(&self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(LIMIT) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(e) => panic!("no line with {text:?} ({e}); instead:\n{}", seen.join("\n")),
            }
        }
    }

    /// The next message: topic, QoS, retain flag, payload.
    fn message(&self) -> String {
        self.line_with("MSG ").trim_start_matches("MSG ").to_owned()
    }

    /// Asserts that it ended and printed no further message.
    fn expect_no_more(mut self) {
        assert!(
            wait_exit(&mut self.child, LIMIT).is_some_and(|status| status.success()),
            "mosquitto_sub did not end well"
        );
        loop {
            match self.lines.recv_timeout(LIMIT) {
                Ok(line) => assert!(!line.starts_with("MSG "), "one more message: {line}"),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(e) => panic!("{e}"),
            }
        }
    }
}

impl Drop for Sub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Publishes with `mosquitto_pub` and expects success.
fn publish(broker: &Broker, version: &str, args: &[&str]) {
    let output = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &broker.port().to_string(), "-V", version])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("mosquitto_pub");
    assert!(output.status.success(), "mosquitto_pub {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_qos_from_every_version_to_every_version() {
    if !available() {
        return;
    }
    let broker = Broker::start();
    for receiver in VERSIONS {
        let sub = Sub::start(&broker, receiver, &["-t", "d/qos/#", "-q", "2", "-C", "9"]);
        for sender in VERSIONS {
            for qos in ["0", "1", "2"] {
                publish(&broker, sender, &["-t", &format!("d/qos/{qos}"), "-q", qos, "-m", sender]);
                assert_eq!(sub.message(), format!("d/qos/{qos} {qos} 0 {sender}"), "{sender} to {receiver}");
            }
        }
        sub.expect_no_more();
    }
}

#[test]
fn retained_messages() {
    if !available() {
        return;
    }
    let broker = Broker::start();
    for version in VERSIONS {
        publish(&broker, version, &["-t", "d/ret", "-r", "-q", "1", "-m", "old"]);
        publish(&broker, version, &["-t", "d/ret", "-r", "-q", "1", "-m", version]);
        let sub = Sub::start(&broker, version, &["-t", "d/+", "-q", "1"]);
        assert_eq!(sub.message(), format!("d/ret 1 1 {version}"));
        publish(&broker, version, &["-t", "d/ret", "-r", "-q", "1", "-n"]);
        assert_eq!(sub.message().trim_end(), "d/ret 1 0");
        drop(sub);
        let sub = Sub::start(&broker, version, &["-t", "d/+", "-q", "1", "-C", "1"]);
        publish(&broker, version, &["-t", "d/live", "-q", "1", "-m", "x"]);
        assert_eq!(sub.message(), "d/live 1 0 x", "the removed message must not come first");
    }
}

#[test]
fn a_killed_client_leaves_its_will() {
    if !available() {
        return;
    }
    let broker = Broker::start();
    for version in VERSIONS {
        let watch = Sub::start(&broker, version, &["-t", "d/will", "-q", "2"]);
        let will = ["--will-topic", "d/will", "--will-payload", version, "--will-qos", "1"];
        let mut dying = Sub::start(&broker, version, &[&["-t", "d/other"], &will[..]].concat());
        dying.child.kill().expect("SIGKILL");
        let _ = dying.child.wait();
        assert_eq!(watch.message(), format!("d/will 1 0 {version}"));
    }
}

#[test]
fn a_persistent_session_waits_for_its_client() {
    if !available() {
        return;
    }
    let broker = Broker::start();
    for version in VERSIONS {
        let id = format!("d-session-{version}");
        let mut args = vec!["-t", "d/session", "-q", "1", "-i", &id, "-c"];
        if version == "mqttv5" {
            args.extend(["-x", "60"]);
        }
        let first = Sub::start(&broker, version, &args);
        drop(first);
        broker.wait_for_log(&id, LIMIT);
        for payload in ["a", "b", "c"] {
            publish(&broker, version, &["-t", "d/session", "-q", "1", "-m", payload]);
        }
        // The queue may come before the SUBACK that `Sub::start` waits for, so messages are counted by `-C`.
        args.extend(["-C", "3", "-N", "-F", "%p,"]);
        let output = Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-p", &broker.port().to_string(), "-V", version, "-W", "10"])
            .args(&args)
            .output()
            .expect("mosquitto_sub");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "a,b,c,", "{version}");
    }
}

#[test]
fn a_shared_subscription_spreads_messages() {
    if !available() {
        return;
    }
    let broker = Broker::start();
    let subs = [(); 2].map(|()| Sub::start(&broker, "mqttv5", &["-t", "$share/team/d/job", "-q", "1", "-C", "5"]));
    for n in 0..10 {
        publish(&broker, "mqttv5", &["-t", "d/job", "-q", "1", "-m", &n.to_string()]);
    }
    let mut got: Vec<String> = subs.iter().flat_map(|sub| (0..5).map(|_| sub.message())).collect();
    got.sort();
    assert_eq!(got, (0..10).map(|n| format!("d/job 1 0 {n}")).collect::<Vec<_>>());
    for sub in subs {
        sub.expect_no_more();
    }
}

#[test]
fn a_large_message_arrives_whole() {
    if !available() {
        return;
    }
    let broker = Broker::start();
    let path = std::env::temp_dir().join(format!("mosquitto-it-large-{}", std::process::id()));
    let payload = "0123456789abcdef".repeat(60_000);
    std::fs::write(&path, &payload).expect("a file");
    let sub = Sub::start(&broker, "mqttv311", &["-t", "d/large", "-q", "2", "-C", "1"]);
    publish(&broker, "mqttv5", &["-t", "d/large", "-q", "2", "-f", &path.to_string_lossy()]);
    let _ = std::fs::remove_file(&path);
    let message = sub.message();
    assert_eq!(message.len(), payload.len() + "d/large 2 0 ".len());
    assert!(message.ends_with(&payload));
}

#[test]
fn request_and_response() {
    if !available() {
        return;
    }
    let broker = Broker::start();
    let service = Sub::start(&broker, "mqttv5", &["-t", "d/request", "-C", "1", "-F", "MSG %R %D %p"]);
    let mut request = Command::new("mosquitto_rr")
        .args(["-h", "127.0.0.1", "-p", &broker.port().to_string(), "-V", "mqttv5", "-W", "10"])
        .args(["-t", "d/request", "-e", "d/answer", "-m", "question", "-D", "publish", "correlation-data", "7"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("mosquitto_rr");
    assert_eq!(service.message(), "d/answer 7 question");
    publish(&broker, "mqttv5", &["-t", "d/answer", "-m", "answer", "-D", "publish", "correlation-data", "7"]);
    assert!(wait_exit(&mut request, LIMIT).is_some_and(|status| status.success()));
    let output = request.wait_with_output().expect("its output");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "answer");
}

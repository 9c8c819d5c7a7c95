//! `mosquitto_sn_pub` and `mosquitto_sn_sub` byte by byte, with a gateway that the test plays itself.

use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::broker::wait_exit;
use crate::client::hex;

const PUB: &str = env!("CARGO_BIN_EXE_mosquitto_sn_pub");
const SUB: &str = env!("CARGO_BIN_EXE_mosquitto_sn_sub");
const LIMIT: Duration = Duration::from_secs(10);

const CONNACK: &[u8] = b"\x03\x05\0";
const DISCONNECT: &[u8] = b"\x02\x18";

/// The test's side of the conversation.
struct Gateway {
    socket: UdpSocket,
    client: SocketAddr,
}

impl Gateway {
    fn new() -> Gateway {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a UDP port");
        socket.set_read_timeout(Some(LIMIT)).expect("a read limit");
        let client = socket.local_addr().expect("its address");
        Gateway { socket, client }
    }

    fn port(&self) -> u16 {
        self.socket.local_addr().expect("its address").port()
    }

    /// Starts a tool that talks to this gateway under the client id `me`.
    fn start(&self, tool: &str, args: &[&str]) -> Tool {
        let child = Command::new(tool)
            .args(["-h", "127.0.0.1", "-p", &self.port().to_string(), "-i", "me", "--retry-interval", "1"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool");
        Tool { child: Some(child) }
    }

    /// The next datagram is this.
    #[track_caller]
    fn expect(&mut self, wanted: &[u8]) {
        let mut buffer = [0; 2000];
        let (len, from) = self.socket.recv_from(&mut buffer).expect("a datagram");
        self.client = from;
        assert!(buffer[..len] == *wanted, "wanted {}\ngot    {}", hex(wanted), hex(&buffer[..len]));
    }

    fn say(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.client).expect("a way back");
    }

    /// The usual beginning.
    #[track_caller]
    fn connect(&mut self) {
        self.expect(b"\x08\x04\x04\x01\0\x3Cme");
        self.say(CONNACK);
    }

    /// The usual end.
    #[track_caller]
    fn goodbye(&mut self) {
        self.expect(DISCONNECT);
        self.say(DISCONNECT);
    }
}

/// A running tool, killed when dropped.
struct Tool {
    child: Option<Child>,
}

impl Tool {
    fn write(&mut self, text: &str) {
        let stdin = self.child.as_mut().and_then(|child| child.stdin.as_mut()).expect("a pipe");
        stdin.write_all(text.as_bytes()).expect("a reader");
    }

    fn close_stdin(&mut self) {
        self.child.as_mut().expect("running").stdin = None;
    }

    fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("running").id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().is_ok_and(|status| status.success()));
    }

    /// Waits for its end: exit status, standard output, standard error.
    fn end(mut self) -> (i32, String, String) {
        let mut child = self.child.take().expect("running");
        let ended = wait_exit(&mut child, LIMIT);
        if ended.is_none() {
            let _ = child.kill();
        }
        let Output { status, stdout, stderr } = child.wait_with_output().expect("its output");
        assert!(ended.is_some(), "it does not end: {}", String::from_utf8_lossy(&stderr));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (status.code().unwrap_or(-1), text(stdout), text(stderr))
    }

    #[track_caller]
    fn ends_well(self) {
        assert_eq!(self.end(), (0, String::new(), String::new()));
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn publishes_with_each_qos() {
    let mut gateway = Gateway::new();
    let tool = gateway.start(PUB, &["-t", "a/b", "-m", "x", "-r"]);
    gateway.connect();
    gateway.expect(b"\x09\x0A\0\0\0\x01a/b");
    gateway.say(b"\x07\x0B\0\x05\0\x01\0");
    gateway.expect(b"\x08\x0C\x10\0\x05\0\0x");
    gateway.goodbye();
    tool.ends_well();

    let tool = gateway.start(PUB, &["-t", "ab", "-m", "x", "-q", "1", "--repeat", "2"]);
    gateway.connect();
    gateway.expect(b"\x08\x0C\x22ab\0\x01x");
    // Lost: again, with DUP.
    gateway.expect(b"\x08\x0C\xA2ab\0\x01x");
    gateway.say(b"\x07\x0Dab\0\x01\0");
    gateway.expect(b"\x08\x0C\x22ab\0\x02x");
    gateway.say(b"\x07\x0Dab\0\x02\0");
    gateway.goodbye();
    tool.ends_well();

    let tool = gateway.start(PUB, &["--predefined", "7", "-n", "-q", "2"]);
    gateway.connect();
    gateway.expect(b"\x07\x0C\x41\0\x07\0\x01");
    gateway.say(b"\x04\x0F\0\x01");
    gateway.expect(b"\x04\x10\0\x01");
    gateway.say(b"\x04\x0E\0\x01");
    gateway.goodbye();
    tool.ends_well();

    let tool = gateway.start(PUB, &["--predefined", "7", "-m", "x", "-q", "-1", "--repeat", "2"]);
    gateway.expect(b"\x08\x0C\x61\0\x07\0\0x");
    gateway.expect(b"\x08\x0C\x61\0\x07\0\0x");
    tool.ends_well();
}

#[test]
fn tells_its_will_and_shows_what_it_does() {
    let mut gateway = Gateway::new();
    let will = ["--will-topic", "w", "--will-payload", "gone", "--will-qos", "1", "--will-retain"];
    let tool = gateway.start(PUB, &[&["-t", "ab", "-m", "x", "-k", "5", "-c", "-d"], &will[..]].concat());
    gateway.expect(b"\x08\x04\x08\x01\0\x05me");
    gateway.say(b"\x02\x06");
    gateway.expect(b"\x04\x07\x30w");
    gateway.say(b"\x02\x08");
    gateway.expect(b"\x06\x09gone");
    gateway.say(CONNACK);
    gateway.expect(b"\x08\x0C\x02ab\0\0x");
    gateway.goodbye();
    let (status, stdout, stderr) = tool.end();
    assert_eq!((status, stderr.as_str()), (0, ""));
    let lines: Vec<_> = stdout.lines().collect();
    assert_eq!(lines[0], "Client me sending CONNECT (c0, w1, k5)");
    assert_eq!(lines.last(), Some(&"Client me received DISCONNECT"));
    assert!(lines.contains(&"Client me sending PUBLISH (d0, q0, r0, m0, 'ab', ... (1 bytes))"), "{stdout}");
}

#[test]
fn says_why_it_failed() {
    let mut gateway = Gateway::new();
    let text = ["-t", "ab", "-m", "x", "-q", "1"];
    let tool = gateway.start(PUB, &text);
    gateway.expect(b"\x08\x04\x04\x01\0\x3Cme");
    gateway.say(b"\x03\x05\x03");
    let refused = "Connection error: Connection Refused: not allowed or not supported.\n";
    assert_eq!(tool.end(), (3, String::new(), refused.into()));

    let tool = gateway.start(PUB, &text);
    gateway.connect();
    gateway.expect(b"\x08\x0C\x22ab\0\x01x");
    gateway.say(DISCONNECT);
    assert_eq!(tool.end(), (7, String::new(), "Error: The connection was lost.\n".into()));

    // Refused as a whole, but not an error, as with mosquitto_pub.
    let tool = gateway.start(PUB, &text);
    gateway.connect();
    gateway.expect(b"\x08\x0C\x22ab\0\x01x");
    gateway.say(b"\x07\x0Dab\0\x01\x02");
    gateway.goodbye();
    assert_eq!(tool.end(), (0, String::new(), "Warning: Publish 1 failed: invalid topic id.\n".into()));

    // Nobody answers.
    let tool = gateway.start(PUB, &[&text[..], &["--retries", "1"]].concat());
    gateway.expect(b"\x08\x04\x04\x01\0\x3Cme");
    gateway.expect(b"\x08\x04\x04\x01\0\x3Cme");
    let (status, _, stderr) = tool.end();
    assert_eq!(status, 1);
    assert!(stderr.starts_with(&format!("Error: 127.0.0.1:{} does not answer. ", gateway.port())), "{stderr}");

    let mut silent = Gateway::new();
    let tool = silent.start(PUB, &[&text[..], &["--quiet", "--retries", "0"]].concat());
    silent.expect(b"\x08\x04\x04\x01\0\x3Cme");
    assert_eq!(tool.end(), (1, String::new(), String::new()));

    // Nobody is there, at none of the addresses of the name.
    let port = gateway.port().to_string();
    drop(gateway);
    for host in ["127.0.0.1", "localhost"] {
        let output = Command::new(PUB).args(["-h", host, "-p", &port]).args(text).output().expect("the tool");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*stderr), (Some(1), "Error: Connection refused.\n"));
    }
    let output = Command::new(PUB).args(["-t", "a", "-q", "9", "-n"]).output().expect("the tool");
    let wanted = "Error: Invalid QoS given: 9\n\nUse 'mosquitto_sn_pub --help' to see usage.\n";
    assert_eq!((output.status.code(), &*String::from_utf8_lossy(&output.stderr)), (Some(1), wanted));
    let output = Command::new(SUB).arg("--help").output().expect("the tool");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(1), &b""[..]));
    assert!(output.stdout.starts_with(b"mosquitto_sn_sub subscribes"));
}

#[test]
fn publishes_lines_as_they_come() {
    let mut gateway = Gateway::new();
    let mut tool = gateway.start(PUB, &["-t", "ab", "-l", "-q", "1"]);
    gateway.connect();
    tool.write("one\n");
    gateway.expect(b"\x0A\x0C\x22ab\0\x01one");
    gateway.say(b"\x07\x0Dab\0\x01\0");
    tool.write("two\nthr");
    gateway.expect(b"\x0A\x0C\x22ab\0\x02two");
    // The gateway forgot the client: it connects again and loses nothing.
    gateway.say(DISCONNECT);
    gateway.connect();
    gateway.expect(b"\x0A\x0C\x22ab\0\x03two");
    gateway.say(b"\x07\x0Dab\0\x03\0");
    tool.close_stdin();
    gateway.expect(b"\x0A\x0C\x22ab\0\x04thr");
    gateway.say(b"\x07\x0Dab\0\x04\0");
    gateway.goodbye();
    tool.ends_well();
}

#[test]
fn subscribes_and_prints() {
    let mut gateway = Gateway::new();
    let tool =
        gateway.start(SUB, &["-t", "a/#", "-t", "ab", "--predefined", "7", "-q", "1", "-v", "-C", "4", "-T", "a/c"]);
    gateway.connect();
    gateway.expect(b"\x08\x12\x20\0\x01a/#");
    gateway.say(b"\x08\x13\x20\0\0\0\x01\0");
    gateway.expect(b"\x07\x12\x22\0\x02ab");
    gateway.say(b"\x08\x13\x20\0\0\0\x02\0");
    gateway.expect(b"\x07\x12\x21\0\x03\0\x07");
    gateway.say(b"\x08\x13\x20\0\x07\0\x03\0");
    // Without an id first: refused, registered, sent again.
    gateway.say(b"\x08\x0C\x20\0\x09\0\x01x");
    gateway.expect(b"\x07\x0D\0\x09\0\x01\x02");
    gateway.say(b"\x09\x0A\0\x09\0\x01a/b");
    gateway.expect(b"\x07\x0B\0\x09\0\x01\0");
    gateway.say(b"\x08\x0C\x20\0\x09\0\x02x");
    gateway.expect(b"\x07\x0D\0\x09\0\x02\0");
    gateway.say(b"\x09\x0A\0\x0A\0\x02a/c");
    gateway.expect(b"\x07\x0B\0\x0A\0\x02\0");
    gateway.say(b"\x08\x0C\0\0\x0A\0\0x");
    gateway.say(b"\x08\x0C\x02ab\0\0y");
    gateway.say(b"\x07\x0C\x41\0\x07\0\x03");
    gateway.expect(b"\x04\x0F\0\x03");
    gateway.say(b"\x07\x0C\xC1\0\x07\0\x03");
    gateway.expect(b"\x04\x0F\0\x03");
    gateway.say(b"\x04\x10\0\x03");
    gateway.expect(b"\x04\x0E\0\x03");
    gateway.say(b"\x08\x0C\x02ab\0\0z");
    gateway.goodbye();
    assert_eq!(tool.end(), (0, "a/b x\nab y\n#7 (null)\nab z\n".into(), String::new()));
}

#[test]
fn a_subscriber_connects_again() {
    let mut gateway = Gateway::new();
    let tool = gateway.start(SUB, &["-t", "ab", "-C", "1"]);
    gateway.connect();
    gateway.expect(b"\x07\x12\x02\0\x01ab");
    gateway.say(b"\x08\x13\0\0\0\0\x01\0");
    gateway.say(DISCONNECT);
    gateway.connect();
    gateway.expect(b"\x07\x12\x02\0\x02ab");
    gateway.say(b"\x08\x13\0\0\0\0\x02\0");
    gateway.say(b"\x08\x0C\x02ab\0\0z");
    gateway.goodbye();
    assert_eq!(tool.end(), (0, "z\n".into(), String::new()));
}

#[test]
fn a_subscriber_is_refused_stopped_and_out_of_time() {
    let mut gateway = Gateway::new();
    let tool = gateway.start(SUB, &["-t", "ab"]);
    gateway.connect();
    gateway.expect(b"\x07\x12\x02\0\x01ab");
    gateway.say(b"\x08\x13\0\0\0\0\x01\x03");
    gateway.goodbye();
    assert_eq!(tool.end(), (0, String::new(), "All subscription requests were denied.\n".into()));

    for signal in ["TERM", "INT", "HUP"] {
        let tool = gateway.start(SUB, &["-t", "ab"]);
        gateway.connect();
        gateway.expect(b"\x07\x12\x02\0\x01ab");
        gateway.say(b"\x08\x13\0\0\0\0\x01\0");
        tool.signal(signal);
        gateway.goodbye();
        tool.ends_well();
    }

    let tool = gateway.start(SUB, &["-t", "ab", "-W", "1"]);
    gateway.connect();
    gateway.expect(b"\x07\x12\x02\0\x01ab");
    gateway.say(b"\x08\x13\0\0\0\0\x01\0");
    gateway.goodbye();
    assert_eq!(tool.end(), (27, String::new(), "Timed out\n".into()));

    let tool = gateway.start(SUB, &["-t", "ab", "-E"]);
    gateway.connect();
    gateway.expect(b"\x07\x12\x02\0\x01ab");
    gateway.say(b"\x08\x13\0\0\0\0\x01\0");
    gateway.goodbye();
    tool.ends_well();
}

#[test]
fn a_subscriber_sleeps() {
    let mut gateway = Gateway::new();
    let tool = gateway.start(SUB, &["-t", "ab", "-c", "--sleep", "1", "-C", "2"]);
    gateway.expect(b"\x08\x04\x00\x01\0\x3Cme");
    gateway.say(CONNACK);
    gateway.expect(b"\x07\x12\x02\0\x01ab");
    gateway.say(b"\x08\x13\0\0\0\0\x01\0");
    // One second and three tries.
    gateway.expect(b"\x04\x18\0\x04");
    gateway.say(DISCONNECT);
    for payload in [b"1", b"2"] {
        gateway.expect(b"\x04\x16me");
        gateway.say(&[b"\x08\x0C\x02ab\0\0", &payload[..]].concat());
        if payload == b"1" {
            gateway.say(b"\x02\x17");
        }
    }
    gateway.goodbye();
    assert_eq!(tool.end(), (0, "1\n2\n".into(), String::new()));
}

#[test]
fn finds_a_gateway() {
    let mut gateway = Gateway::new();
    let tool = gateway.start(PUB, &["--search", "-t", "ab", "-m", "x"]);
    gateway.expect(b"\x03\x01\x01");
    gateway.say(b"\x03\x02\x05");
    gateway.connect();
    gateway.expect(b"\x08\x0C\x02ab\0\0x");
    gateway.goodbye();
    tool.ends_well();

    let tool = gateway.start(PUB, &["--search", "-t", "ab", "-m", "x", "--retries", "0"]);
    gateway.expect(b"\x03\x01\x01");
    let (status, _, stderr) = tool.end();
    assert_eq!(status, 1);
    assert!(stderr.starts_with("Error: No gateway answers at 127.0.0.1:"), "{stderr}");
}

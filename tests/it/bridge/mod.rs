//! Bridges from the outside: this broker and another one, which may be Debian's, with clients on both sides.

mod exchange;
mod lifecycle;
mod peer;
mod strangers;
#[cfg(feature = "tls")]
mod tls;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::broker::{Broker, note};
use super::client::{Client, Missing, publish, subscribe};

const DEBIAN: &str = "/usr/sbin/mosquitto";
/// How long anything may take that a bridge does.
const LIMIT: Duration = Duration::from_secs(15);

/// Which program a broker is.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Program {
    Ours,
    Debian,
}

impl Program {
    fn start(self, lines: &str) -> Broker {
        match self {
            Program::Ours => Broker::start_with(lines),
            Program::Debian => Broker::start_command(lines, || Command::new(DEBIAN)),
        }
    }
}

/// Whether Debian's broker is there; says so when it is not.
fn has_debian() -> bool {
    let there = Path::new(DEBIAN).exists();
    if !there {
        note("Debian's broker is not installed: bridges to and from it are not tested");
    }
    there
}

/// The lines of a bridge to `port` of this machine, that comes back at once.
fn bridge(port: u16, lines: &str) -> String {
    format!("connection link\naddress 127.0.0.1:{port}\nrestart_timeout 1\nremote_clientid link\n{lines}\n")
}

/// A client that reads what it subscribed to, and acknowledges it.
struct Reader {
    client: Client,
    /// Messages that came while an answer was waited for.
    early: Vec<Message>,
}

/// What came.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Message {
    topic: String,
    payload: String,
    qos: u8,
    retain: bool,
}

fn message(topic: &str, payload: &str, qos: u8, retain: bool) -> Message {
    Message { topic: topic.into(), payload: payload.into(), qos, retain }
}

impl Reader {
    /// A client that has subscribed to the filters with QoS 2.
    fn new(broker: &Broker, id: &str, filters: &[&str]) -> Reader {
        let mut client = Client::connect(broker.addr(), 4, id);
        client.set_limit(LIMIT);
        let mut this = Reader { client, early: Vec::new() };
        for (n, filter) in (1..).zip(filters) {
            this.client.send(&subscribe(4, n, filter, 2));
            loop {
                let packet = this.client.packet();
                if packet[0] == 0x90 {
                    break;
                }
                if let Some(message) = this.take(&packet) {
                    this.early.push(message);
                }
            }
        }
        this
    }

    /// The next message.
    fn next(&mut self) -> Message {
        if !self.early.is_empty() {
            return self.early.remove(0);
        }
        loop {
            let packet = self.client.packet();
            if let Some(message) = self.take(&packet) {
                return message;
            }
        }
    }

    /// The next messages, in any order.
    fn all(&mut self, count: usize) -> Vec<Message> {
        let mut all: Vec<Message> = (0..count).map(|_| self.next()).collect();
        all.sort_by(|a, b| (&a.topic, &a.payload).cmp(&(&b.topic, &b.payload)));
        all
    }

    /// Reads on until this payload comes.
    fn until(&mut self, topic: &str, payload: &str) -> Message {
        loop {
            let next = self.next();
            if next.topic == topic && next.payload == payload {
                return next;
            }
        }
    }

    fn take(&mut self, packet: &[u8]) -> Option<Message> {
        let (first, header) = (packet[0], 1 + packet[1..].iter().take_while(|byte| **byte & 0x80 != 0).count() + 1);
        let body = &packet[header..];
        match first >> 4 {
            3 => {}
            6 => {
                self.client.send(&[0x70, 2, body[0], body[1]]);
                return None;
            }
            _ => return None,
        }
        let len = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let topic = String::from_utf8(body[2..2 + len].to_vec()).expect("a topic");
        let qos = first >> 1 & 3;
        let mut rest = &body[2 + len..];
        if qos > 0 {
            self.client.send(&[if qos == 1 { 0x40 } else { 0x50 }, 2, rest[0], rest[1]]);
            rest = &rest[2..];
        }
        let payload = String::from_utf8_lossy(rest).into_owned();
        Some(Message { topic, payload, qos, retain: first & 1 != 0 })
    }

    /// Sees every handshake through; expects that no message comes meanwhile.
    fn settle(&mut self) {
        self.client.send(&[0xC0, 0]);
        loop {
            let packet = self.client.packet();
            if packet[0] == 0xD0 {
                return;
            }
            let message = self.take(&packet);
            assert_eq!(message, None);
        }
    }

    /// Expects that nothing comes for a while.
    fn silence(&mut self, limit: Duration) {
        assert!(self.early.is_empty(), "{:?}", self.early);
        self.settle();
        self.client.set_limit(limit);
        match self.client.recv(1) {
            Err(Missing::TimedOut(_)) => {}
            other => panic!("something came: {other:?}"),
        }
        self.client.set_limit(LIMIT);
    }
}

/// Publishes and waits until the broker has it.
fn say(broker: &Broker, topic: &str, payload: &str, qos: u8, retain: bool) {
    let mut client = Client::connect(broker.addr(), 4, &format!("say-{topic}-{payload}"));
    client.set_limit(LIMIT);
    client.send(&publish(4, qos << 1 | u8::from(retain), topic, 7, payload.as_bytes()));
    if qos == 2 {
        assert_eq!(client.packet(), [0x50, 2, 0, 7]);
        client.send(&[0x62, 2, 0, 7]);
    }
    if qos > 0 {
        assert_eq!(client.packet(), [if qos == 1 { 0x40 } else { 0x70 }, 2, 0, 7]);
    }
    client.ping();
    client.send(&[0xE0, 0]);
}

/// Waits until a broker says that its bridge is connected, or that it is not.
fn wait_for_state(broker: &Broker, topic: &str, state: &str) {
    Reader::new(broker, &format!("state-{topic}"), &[topic]).until(topic, state);
}

const STATE: &str = "$SYS/broker/connection/link/state";

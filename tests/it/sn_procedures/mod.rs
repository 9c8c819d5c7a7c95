//! The hard procedures of MQTT-SN 1.2 over real UDP, each message written out by hand: what a gateway has to do when
//! devices sleep, forget, repeat themselves, change places or vanish. Sections are those of the specification.

mod connect;
mod deliver;
mod forwarder;
mod publish;
mod sleep;
mod takeover;

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::broker::{Broker, free_port};
use crate::client::{Client, hex, publish as mqtt_publish, subscribe as mqtt_subscribe};

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// Flags of CONNECT.
pub(crate) const CLEAN: u8 = 0x04;
const WILL: u8 = 0x08;
/// Flags of PUBLISH and SUBSCRIBE.
const DUP: u8 = 0x80;
pub(crate) const QOS1: u8 = 0x20;
const QOS2: u8 = 0x40;
const MINUS_ONE: u8 = 0x60;
const RETAIN: u8 = 0x10;
const PREDEFINED: u8 = 0x01;
const SHORT: u8 = 0x02;
/// Return codes.
pub(crate) const OK: u8 = 0;
const CONGESTION: u8 = 1;
const INVALID_ID: u8 = 2;
const NOT_SUPPORTED: u8 = 3;

pub(crate) const PINGRESP: &[u8] = b"\x02\x17";
pub(crate) const DISCONNECT: &[u8] = b"\x02\x18";
const WILLTOPICREQ: &[u8] = b"\x02\x06";
const WILLMSGREQ: &[u8] = b"\x02\x08";

/// A message with its length counted.
fn message(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    let body = fields.concat();
    match u8::try_from(body.len() + 2) {
        Ok(length) => [&[length, kind], &body[..]].concat(),
        Err(_) => {
            let length = u16::try_from(body.len() + 4).expect("a datagram").to_be_bytes();
            [&[1, length[0], length[1], kind], &body[..]].concat()
        }
    }
}

pub(crate) fn connect(flags: u8, keepalive_s: u16, id: &str) -> Vec<u8> {
    message(0x04, &[&[flags, 1], &keepalive_s.to_be_bytes(), id.as_bytes()])
}

pub(crate) fn connack(code: u8) -> Vec<u8> {
    vec![3, 0x05, code]
}

fn will_topic(flags: u8, topic: &str) -> Vec<u8> {
    message(0x07, &[&[flags], topic.as_bytes()])
}

fn will_message(payload: &str) -> Vec<u8> {
    message(0x09, &[payload.as_bytes()])
}

fn register(topic_id: u16, msg_id: u16, name: &str) -> Vec<u8> {
    message(0x0A, &[&topic_id.to_be_bytes(), &msg_id.to_be_bytes(), name.as_bytes()])
}

fn regack(topic_id: u16, msg_id: u16, code: u8) -> Vec<u8> {
    message(0x0B, &[&topic_id.to_be_bytes(), &msg_id.to_be_bytes(), &[code]])
}

fn publish(flags: u8, topic_id: u16, msg_id: u16, payload: &str) -> Vec<u8> {
    message(0x0C, &[&[flags], &topic_id.to_be_bytes(), &msg_id.to_be_bytes(), payload.as_bytes()])
}

fn puback(topic_id: u16, msg_id: u16, code: u8) -> Vec<u8> {
    message(0x0D, &[&topic_id.to_be_bytes(), &msg_id.to_be_bytes(), &[code]])
}

fn pubcomp(msg_id: u16) -> Vec<u8> {
    message(0x0E, &[&msg_id.to_be_bytes()])
}

fn pubrec(msg_id: u16) -> Vec<u8> {
    message(0x0F, &[&msg_id.to_be_bytes()])
}

fn pubrel(msg_id: u16) -> Vec<u8> {
    message(0x10, &[&msg_id.to_be_bytes()])
}

/// SUBSCRIBE with the last field as it is.
fn subscribe(flags: u8, msg_id: u16, topic: &[u8]) -> Vec<u8> {
    message(0x12, &[&[flags], &msg_id.to_be_bytes(), topic])
}

fn suback(flags: u8, topic_id: u16, msg_id: u16, code: u8) -> Vec<u8> {
    message(0x13, &[&[flags], &topic_id.to_be_bytes(), &msg_id.to_be_bytes(), &[code]])
}

pub(crate) fn pingreq(id: &str) -> Vec<u8> {
    message(0x16, &[id.as_bytes()])
}

pub(crate) fn sleep_for(seconds: u16) -> Vec<u8> {
    message(0x18, &[&seconds.to_be_bytes()])
}

/// The topic id that a short name is.
fn short(name: &str) -> u16 {
    u16::from_be_bytes(name.as_bytes().try_into().expect("two octets"))
}

/// A broker with an MQTT-SN listener beside the usual one.
pub(crate) struct Gateway {
    pub(crate) broker: Broker,
    pub(crate) addr: SocketAddr,
}

impl Gateway {
    /// With these further lines for the listener or for the whole.
    pub(crate) fn start(lines: &str) -> Gateway {
        let port = free_port();
        let broker = Broker::start_with(&format!("listener {port} 127.0.0.1\nprotocol mqtt-sn\n{lines}"));
        // TCP may be open before UDP is.
        broker.wait_for_log(&format!("Listener {port} on "), LIMIT);
        Gateway { broker, addr: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// A device that has said nothing yet.
    pub(crate) fn device(&self) -> Device {
        Device::new(self.addr)
    }

    /// A connected device.
    fn connected(&self, flags: u8, id: &str) -> Device {
        let device = self.device();
        device.send(&connect(flags, 60, id));
        device.expect(&connack(OK));
        device
    }

    /// An MQTT client.
    fn mqtt(&self, id: &str) -> Client {
        let mut client = Client::connect(self.broker.addr(), 4, id);
        client.set_limit(LIMIT);
        client
    }

    /// An MQTT client with a subscription.
    fn subscriber(&self, filter: &str, qos: u8) -> Client {
        let mut client = self.mqtt(&format!("sub {filter}"));
        client.send(&mqtt_subscribe(4, 1, filter, qos));
        client.expect(&[0x90, 3, 0, 1, qos]);
        client
    }

    /// Everything that was sent to the broker before has been dealt with: another device gets its answer.
    fn settle(&self) {
        let other = self.device();
        other.send(&connect(CLEAN, 0, "barrier"));
        other.expect(&connack(OK));
        other.send(DISCONNECT);
        other.expect(DISCONNECT);
    }

    /// None of the devices has got anything.
    #[track_caller]
    pub(crate) fn expect_silence(&self, devices: &[&Device]) {
        self.settle();
        devices.iter().for_each(|device| device.expect_empty());
    }
}

/// Publishes with QoS 1 over MQTT and waits for the acknowledgement.
pub(crate) fn publish_from(client: &mut Client, topic: &str, payload: &str) {
    client.send(&mqtt_publish(4, 0x02, topic, 7, payload.as_bytes()));
    client.expect(&[0x40, 2, 0, 7]);
}

/// Publishes with QoS 0 over MQTT; a ping tells that it was dealt with.
fn publish_once_from(client: &mut Client, topic: &str, payload: &str) {
    client.send(&mqtt_publish(4, 0, topic, 0, payload.as_bytes()));
    client.ping();
}

/// Expects a PUBLISH with QoS 0 over MQTT.
#[track_caller]
fn expect_at(client: &mut Client, topic: &str, payload: &str) {
    client.expect(&mqtt_publish(4, 0, topic, 0, payload.as_bytes()));
}

/// One UDP socket.
pub(crate) struct Device {
    socket: UdpSocket,
}

impl Device {
    pub(crate) fn new(gateway: SocketAddr) -> Device {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a UDP port");
        socket.connect(gateway).expect("a gateway");
        socket.set_read_timeout(Some(LIMIT)).expect("a read limit");
        Device { socket }
    }

    pub(crate) fn send(&self, datagram: &[u8]) {
        self.socket.send(datagram).expect("a sent datagram");
    }

    /// The next datagram.
    #[track_caller]
    pub(crate) fn recv(&self) -> Vec<u8> {
        let mut buffer = vec![0; 65_536];
        let len = self.socket.recv(&mut buffer).unwrap_or_else(|e| panic!("no datagram: {e}"));
        buffer.truncate(len);
        buffer
    }

    /// The next datagram is this.
    #[track_caller]
    pub(crate) fn expect(&self, wanted: &[u8]) {
        let got = self.recv();
        assert!(got == wanted, "wanted {}\ngot    {}", hex(wanted), hex(&got));
    }

    /// Sends the one and expects the other.
    #[track_caller]
    pub(crate) fn ask(&self, question: &[u8], answer: &[u8]) {
        self.send(question);
        self.expect(answer);
    }

    /// Nothing has come.
    #[track_caller]
    fn expect_empty(&self) {
        self.socket.set_nonblocking(true).expect("a socket");
        let mut buffer = vec![0; 65_536];
        match self.socket.recv(&mut buffer) {
            Ok(len) => panic!("unasked: {}", hex(&buffer[..len])),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        self.socket.set_nonblocking(false).expect("a socket");
    }

    /// REGISTER by the gateway for this name: accepted. Gives the topic id.
    #[track_caller]
    fn accept(&self, name: &str) -> u16 {
        let got = self.recv();
        assert!(got.get(1) == Some(&0x0A) && got[6..] == *name.as_bytes(), "REGISTER of {name}: {}", hex(&got));
        let (topic_id, msg_id) = (u16_at(&got, 2), u16_at(&got, 4));
        assert!(topic_id != 0 && topic_id != 0xFFFF && msg_id != 0, "{}", hex(&got));
        self.send(&regack(topic_id, msg_id, OK));
        topic_id
    }

    /// A PUBLISH by the gateway with these flags, topic id and payload. Gives the message id.
    #[track_caller]
    fn expect_publish(&self, flags: u8, topic_id: u16, payload: &str) -> u16 {
        let got = self.recv();
        assert!(got.len() >= 7 && got[1] == 0x0C, "no PUBLISH: {}", hex(&got));
        let what = (got[2], u16_at(&got, 3), String::from_utf8_lossy(&got[7..]).into_owned());
        assert_eq!(what, (flags, topic_id, payload.into()), "{}", hex(&got));
        let msg_id = u16_at(&got, 5);
        assert_eq!(msg_id == 0, flags & MINUS_ONE == 0, "{}", hex(&got));
        msg_id
    }

    /// As [`Device::expect_publish`], with QoS 1, and acknowledged.
    #[track_caller]
    fn take(&self, flags: u8, topic_id: u16, payload: &str) {
        let msg_id = self.expect_publish(flags, topic_id, payload);
        self.send(&puback(topic_id, msg_id, OK));
    }

    /// A PUBLISH with QoS 1 under any topic id, acknowledged.
    #[track_caller]
    pub(crate) fn take_any(&self, payload: &str) {
        let got = self.recv();
        assert!(got.len() >= 7 && got[1] == 0x0C && got[7..] == *payload.as_bytes(), "{payload}: {}", hex(&got));
        self.send(&puback(u16_at(&got, 3), u16_at(&got, 5), OK));
    }

    /// Registers a name; gives its id.
    #[track_caller]
    fn register(&self, msg_id: u16, name: &str) -> u16 {
        self.send(&register(0, msg_id, name));
        let got = self.recv();
        assert!(got.len() == 7 && got[1] == 0x0B && u16_at(&got, 4) == msg_id && got[6] == OK, "{}", hex(&got));
        u16_at(&got, 2)
    }

    /// Subscribes to a name or filter; gives the topic id of SUBACK.
    #[track_caller]
    pub(crate) fn subscribe(&self, qos: u8, msg_id: u16, filter: &str) -> u16 {
        self.send(&subscribe(qos, msg_id, filter.as_bytes()));
        let got = self.recv();
        let fits = got.len() == 8 && got[1] == 0x13 && got[2] == qos && u16_at(&got, 5) == msg_id && got[7] == OK;
        assert!(fits, "SUBACK of {filter}: {}", hex(&got));
        u16_at(&got, 3)
    }

    /// The will dialogue.
    #[track_caller]
    fn connect_with_will(&self, flags: u8, keepalive_s: u16, id: &str, will: (&str, &str)) {
        self.ask(&connect(flags | WILL, keepalive_s, id), WILLTOPICREQ);
        self.ask(&will_topic(0, will.0), WILLMSGREQ);
        self.ask(&will_message(will.1), &connack(OK));
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Lets time pass that the broker counts.
fn pass(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::thread::park_timeout(end.saturating_duration_since(Instant::now()));
    }
}

/// So long the closure took.
fn timed(f: impl FnOnce()) -> Duration {
    let start = Instant::now();
    f();
    start.elapsed()
}

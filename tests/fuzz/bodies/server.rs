//! The whole broker behind pipes in memory. The input is a list of steps: clients come, send well-formed packets or
//! anything else, stop reading, go; the clock moves. After every step the tables agree with each other, and every byte
//! the broker sends is read by a strict client.

use std::rc::Rc;

use mosquitto::broker::ConnId;
use mosquitto::broker::auth::access::{Access, RuleFiles, Rules};
use mosquitto::broker::auth::acl::Acl;
use mosquitto::config::Config;
use mosquitto::wire::connect::{Connect, Will};
use mosquitto::wire::publish::PublishProps;
use mosquitto::wire::subscribe::{RetainHandling, SubscribeOptions, encode_subscribe, encode_unsubscribe};
use mosquitto::wire::{PacketId, ProtocolVersion, QoS, control::PINGREQ, writer};

use super::byte;
use super::turns::Loop;

/// What stands above the listener; the first configuration opens none. `$SYS` is on in two: it would be most of the work.
const CONFIGS: [[&str; 2]; 8] = [
    ["", ""],
    [CONTROL, "max_topic_alias 2\nmax_topic_alias_broker 2\nlistener 2\nmount_point m/\n"],
    ["sys_interval 0\nmax_inflight_messages 1\nmax_queued_messages 2\nqueue_qos0_messages true\n", ""],
    ["sys_interval 0\nmax_inflight_bytes 1\nmax_queued_bytes 9\nmax_packet_size 200\n", "max_qos 1\n"],
    [
        "sys_interval 0\nenable_control_api true\npersistent_client_expiration 1h\nmax_keepalive 9\nupgrade_outgoing_qos true\n",
        "",
    ],
    [
        "sys_interval 0\ncheck_retain_source true\nallow_duplicate_messages false\nglobal_max_clients 2\nmax_inflight_messages 0\n",
        "",
    ],
    ["sys_interval 0\nretain_available false\nmessage_size_limit 3\n", "use_username_as_clientid true\n"],
    ["sys_interval 1\nretain_expiry_interval 1\nmemory_limit 1000\nclientid_prefixes a\n", ""],
];
const CONTROL: &str = "sys_interval 0\nenable_control_api true\n";
/// What is asked of `$CONTROL/broker/v1`; beyond the list the input is the request.
const REQUESTS: [&str; 10] = [
    r#"{"commands":[{"command":"listClients"},{"command":"listListeners","correlationData":"x"}]}"#,
    r#"{"commands":[{"command":"listClients","verbose":true,"count":2,"offset":1},{"command":"listPlugins"}]}"#,
    r#"{"commands":[{"command":"getClient","clientid":"a"},{"command":"getClient","clientid":"ab"},1]}"#,
    r#"{"commands":[{"command":"disconnectClient","clientid":"a"}]}"#,
    r#"{"commands":[{"command":"disconnectClient","clientid":"ab","endSession":true},{}]}"#,
    r#"{"commands":[{"command":"disconnectClient","clientid":"b","endSession":true}]}"#,
    r##"{"commands":[{"command":"clearRetained","filter":"#"}]}"##,
    r#"{"commands":[{"command":"clearRetained","filter":"a/+","correlationData":"y"},{"command":"x"}]}"#,
    r#"{"commands":[{"command":"clearRetained","filter":"a"},{"command":"clearRetained","filter":"+/#"}]}"#,
    "{",
];
/// `a` has the password `x`, behind a hash that is compared elsewhere, and `b` one that is not.
const PASSWORDS: &[u8] = include_bytes!("passwords.txt");
const IDS: [&str; 4] = ["a", "ab", "b", ""];
const TOPICS: [&str; 8] = ["a", "a/b", "a/b/c", "/", "$SYS/x", "$CONTROL/broker/v1", "b", "m/a"];
const FILTERS: [&str; 16] = [
    "a",
    "a/b",
    "a/+",
    "a/#",
    "#",
    "+",
    "+/b/#",
    "/",
    "$SYS/#",
    "$share/g/a/#",
    "$share/g/#",
    "$share/h/a",
    "+/+",
    "b",
    "$CONTROL/#",
    "m/#",
];
/// Rules of access for clients with and without a name.
const ACLS: [&str; 3] = [
    "topic a/#\ntopic deny a/b\nuser a\ntopic #\ntopic $CONTROL/#\n",
    "topic #\ntopic $CONTROL/#\ntopic $SYS/#\nuser a\ntopic read a\npattern write %u/%c\n",
    "pattern readwrite %c/#\npattern write #\npattern deny +\n",
];
const CLIENTS: usize = 8;
/// More would only be slow.
const STEPS: usize = 600;

/// First byte: the configuration; bit 4 asks for passwords; bit 5 is `strict_conformance`; bit 6 formats every log line; bit 7 runs short input twice. Then the steps.
pub fn server(data: &[u8]) {
    let choice = data.first().copied().unwrap_or(0);
    set_logger(choice & 0x40 != 0);
    let digest = run(data);
    if choice & 0x80 != 0 && data.len() < 300 {
        assert_eq!(run(data), digest, "the same input, the same output");
    }
}

fn run(mut data: &[u8]) -> u64 {
    let choice = byte(&mut data);
    let [global, own] = CONFIGS[usize::from(choice) % CONFIGS.len()];
    let strict = if choice & 0x20 != 0 { "strict_conformance true\n" } else { "" };
    let listener = if global.is_empty() { "" } else { "allow_anonymous true\nlistener 1\n" };
    let text = [strict, global, listener, own].concat();
    let config = Config::parse_str("fuzz.conf", text).unwrap_or_else(|e| panic!("{e}")).config.finish(&[]).config;
    let mut world = World { looped: Loop::new(config), clients: [None; CLIENTS] };
    if choice & 0x10 != 0 {
        world.looped.set_passwords(PASSWORDS);
    }
    for _ in 0..STEPS {
        if data.is_empty() {
            break;
        }
        world.step(&mut data);
        world.looped.check();
    }
    let Loop { broker, .. } = &world.looped;
    broker.write_tree(&mut String::new());
    world.looped.settle();
    world.looped.check();
    world.looped.shut_down();
    world.looped.settle();
    world.looped.check();
    // Far in the future everything that can end has ended.
    world.tick(u64::from(u32::MAX) * 1000);
    world.looped.settle();
    world.looped.check();
    world.looped.digest
}

struct World {
    looped: Loop,
    clients: [Option<(ConnId, ProtocolVersion)>; CLIENTS],
}

impl World {
    /// One step: its kind and its client in one byte, and more bytes where it needs them.
    fn step(&mut self, data: &mut &[u8]) {
        let op = byte(data);
        let (client, kind) = (usize::from(op >> 5), op & 31);
        let Some((id, version)) = self.clients[client].filter(|(id, _)| self.looped.is_open(*id)) else {
            return self.come(client, kind, data);
        };
        match kind {
            0 => self.looped.hang_up(id),
            1 | 2 => {
                let len = usize::from(byte(data)).min(data.len());
                let (bytes, rest) = data.split_at(len);
                *data = rest;
                self.looped.send(id, bytes);
            }
            3 => self.looped.set_room(id, usize::from(byte(data)).pow(2)),
            4 => self.looped.set_room(id, usize::MAX),
            5 => {
                let n = byte(data);
                self.tick(u64::from(n & 31) << (n >> 5).saturating_mul(4));
            }
            6 => self.looped.broker.stats.heap = u64::from(byte(data)) * 100,
            8 => self.looped.broker.set_access(access(byte(data))),
            7 | 9 => {}
            10..=15 => self.send(id, |out| subscribe(out, version, data)),
            16 | 17 => self.send(id, |out| {
                let n = byte(data);
                let filter = FILTERS[usize::from(n & 15)];
                encode_unsubscribe(out, version, packet_id(n >> 4), [filter].into_iter());
            }),
            18..=24 => self.send(id, |out| publish(out, version, data)),
            25..=28 => {
                let first = [0x40, 0x50, 0x62, 0x70][usize::from(kind - 25)];
                self.send(id, |out| {
                    out.extend_from_slice(&[first, 2, 0, byte(data) & 15]);
                });
            }
            29 => self.send(id, |out| out.extend_from_slice(&PINGREQ)),
            30 => self.send(id, |out| match version {
                ProtocolVersion::V5 => out.extend_from_slice(&[0xE0, 7, byte(data) & 4, 5, 17, 0, 0, 0, byte(data)]),
                _ => out.extend_from_slice(&[0xE0, 0]),
            }),
            _ => (0..60).for_each(|_| self.send(id, |out| publish_to(out, version, "a", &[0; 400]))),
        }
        if kind != 1 && kind != 3 {
            self.looped.turn();
        }
    }

    /// A new connection, with a CONNECT or with anything.
    fn come(&mut self, client: usize, kind: u8, data: &mut &[u8]) {
        let listener = usize::from(kind >> 4) % self.looped.listeners();
        let id = self.looped.open(listener);
        let n = byte(data);
        let version = [ProtocolVersion::V5, ProtocolVersion::V311, ProtocolVersion::V31][usize::from(n % 3)];
        self.clients[client] = Some((id, version));
        if kind & 15 == 0 {
            return;
        }
        let (more, last) = (byte(data), byte(data));
        let v5 = version == ProtocolVersion::V5;
        let will = Will {
            topic: TOPICS[usize::from(more & 7)],
            payload: b"will",
            qos: qos(more >> 3),
            retain: more & 0x20 != 0,
            delay_s: if v5 { u32::from(last & 3) } else { 0 },
            expiry: (v5 && last & 4 != 0).then_some(1),
            props: PublishProps::default(),
        };
        let connect = Connect {
            clean_start: n & 0x10 != 0,
            will: (more & 0x80 != 0).then_some(will),
            username: (last & 8 != 0).then_some(["a", "a", "b", "c"][usize::from(more >> 3 & 3)]),
            password: (last & 2 != 0).then_some(if last & 1 != 0 { b"y" } else { b"x" }),
            session_expiry: (v5 && n & 0x20 != 0).then_some(u32::from(more & 0x40 != 0) * 100),
            receive_maximum: (v5 && last & 0x30 != 0).then_some(u16::from(last >> 4 & 3)),
            max_packet_size: (v5 && last & 0x40 != 0).then_some(60),
            topic_alias_maximum: if last & 0x80 != 0 { 3 } else { 0 },
            ..Connect::new(version, IDS[usize::from(n >> 6)], u16::from(n & 0x0C) * 5)
        };
        self.send(id, |out| connect.encode(out));
        self.looped.turn();
    }

    fn send(&mut self, id: ConnId, write: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        write(&mut bytes);
        self.looped.send(id, &bytes);
    }

    fn tick(&mut self, ms: u64) {
        self.looped.now.mono_ms += ms;
        self.looped.now.wall_s += ms / 1000;
    }
}

/// Rules of access; often there are none.
fn access(n: u8) -> Access {
    let mut access = Access::default();
    if let Some(text) = ACLS.get(usize::from(n & 3)) {
        let acl = Some(Rc::new(Acl::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{e:?}")).0));
        access.set_global(RuleFiles::default(), Rules { acl, ..Rules::default() });
    }
    access
}

fn qos(n: u8) -> QoS {
    QoS::from_bits(n & 3).unwrap_or_default()
}

fn packet_id(n: u8) -> PacketId {
    PacketId::new(u16::from(n)).unwrap_or(PacketId::MIN)
}

fn subscribe(out: &mut Vec<u8>, version: ProtocolVersion, data: &mut &[u8]) {
    let (n, m) = (byte(data), byte(data));
    let options = SubscribeOptions {
        qos: qos(m),
        no_local: m & 4 != 0,
        retain_as_published: m & 8 != 0,
        retain_handling: match m >> 4 & 3 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            _ => RetainHandling::DoNotSend,
        },
    };
    let second = FILTERS[usize::from(n >> 4)];
    let filters = [(FILTERS[usize::from(n & 15)], options), (second, SubscribeOptions::default())];
    let wanted = if m & 0x80 != 0 { 2 } else { 1 };
    let id = (m & 0x40 != 0).then_some(u32::from(n) + 1);
    encode_subscribe(out, version, packet_id(n & 7), id, filters.into_iter().take(wanted));
}

/// Flags, topic, packet identifier and properties of a byte each; payloads from nothing to more than an outbox takes.
fn publish(out: &mut Vec<u8>, version: ProtocolVersion, data: &mut &[u8]) {
    let (n, m) = (byte(data), byte(data));
    let qos = qos(n >> 3);
    let topic = TOPICS[usize::from(n & 7)];
    let payload = if topic == "$CONTROL/broker/v1" {
        request(data)
    } else {
        vec![b'x'; [0, 1, 600, 20_000][usize::from(n >> 6)]]
    };
    let mut body = Vec::new();
    let alias = version == ProtocolVersion::V5 && m & 0x10 != 0;
    writer::put_str(&mut body, if alias && m & 0x20 != 0 { "" } else { topic });
    if qos != QoS::AtMostOnce {
        writer::put_u16(&mut body, packet_id(m & 7).get());
    }
    if version == ProtocolVersion::V5 {
        let mut props = Vec::new();
        if alias {
            props.extend_from_slice(&[0x23, 0, 1 + (m & 3)]);
        }
        if m & 0x40 != 0 {
            props.extend_from_slice(&[2, 0, 0, 0, m & 3]);
        }
        if m & 0x80 != 0 {
            props.extend_from_slice(&[0x26, 0, 1, b'k', 0, 1, b'v']);
        }
        body.push(props.len() as u8);
        body.extend_from_slice(&props);
    }
    body.extend_from_slice(&payload);
    let dup = if qos == QoS::AtMostOnce { 0 } else { m & 8 };
    out.push(0x30 | dup | (qos as u8) << 1 | n >> 5 & 1);
    writer::put_varint(out, body.len());
    out.extend_from_slice(&body);
}

fn request(data: &mut &[u8]) -> Vec<u8> {
    let which = usize::from(byte(data));
    if let Some(request) = REQUESTS.get(which) {
        return request.as_bytes().to_vec();
    }
    let (request, rest) = data.split_at(which.min(data.len()));
    *data = rest;
    request.to_vec()
}

fn publish_to(out: &mut Vec<u8>, version: ProtocolVersion, topic: &str, payload: &[u8]) {
    let mut body = Vec::new();
    writer::put_str(&mut body, topic);
    if version == ProtocolVersion::V5 {
        body.push(0);
    }
    body.extend_from_slice(payload);
    out.push(0x30);
    writer::put_varint(out, body.len());
    out.extend_from_slice(&body);
}

/// A log that formats every line and throws it away.
struct Nowhere;

impl log::Log for Nowhere {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        assert!(!record.args().to_string().is_empty());
    }

    fn flush(&self) {}
}

fn set_logger(on: bool) {
    let _already_set = log::set_logger(&Nowhere);
    log::set_max_level(if on { log::LevelFilter::Trace } else { log::LevelFilter::Off });
}

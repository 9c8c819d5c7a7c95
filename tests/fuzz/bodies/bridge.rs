//! A bridge between a broker and a stranger. The input is a list of steps: the stranger says well-formed packets or
//! anything else, takes or does not take what it is sent, closes; clients here publish; the clock moves. Whatever the bridge
//! sends is read by a strict broker, it comes back after every end, and the tables agree with each other.

use std::io::IoSlice;
use std::rc::Rc;

use mosquitto::broker::message::{Msg, NewMessage};
use mosquitto::broker::{Broker, ConnId};
use mosquitto::config::{Config, Listener};
use mosquitto::proto::bridge::{Bridge, Connector, Link, Profile, Step};
use mosquitto::proto::{CloseReason, Flow, Flushed, Outbox, Peer, Turn};
use mosquitto::slab::Key;
use mosquitto::timer::Now;
use mosquitto::wire::connect::{self, ConnackForm, ConnackProps, Connect, encode_connack};
use mosquitto::wire::packet;
use mosquitto::wire::{
    FrameLimits, Framed, Framer, Packet, PacketType, ProtocolVersion, QoS, ReasonCode, Role, writer,
};

use super::byte;

/// Lines of the bridge, by the first byte of the input.
const CONFIGS: [&str; 8] = [
    "topic # both 2\n",
    "topic # both 2\nbridge_protocol_version mqttv50\n",
    "topic a/# out 1 l/ r/\ntopic b/# in 2 l/ r/\nbridge_protocol_version mqttv50\nbridge_receive_maximum 2\n",
    "topic a/# out 2\nstart_type lazy\nthreshold 2\nidle_timeout 5\nbridge_protocol_version mqttv31\n",
    "topic $SYS/# in 1 far/\ntopic # out 2 \"\" near/\ncleansession true\nbridge_max_packet_size 40\n",
    "topic # both 1\nlocal_cleansession true\nnotifications false\nbridge_outgoing_retain false\n",
    "topic \"\" both 2 l/one r/two\ntopic a both 1\nbridge_max_topic_alias 2\nbridge_protocol_version mqttv50\n",
    "topic # both 0\nstart_type once\ntry_private false\nbridge_attempt_unsubscribe false\n",
];
const GLOBALS: [&str; 4] = [
    "",
    "max_inflight_messages 1\nmax_queued_messages 3\n",
    "max_packet_size 120\nmessage_size_limit 5\nretain_available false\n",
    "memory_limit 1000\nqueue_qos0_messages true\n",
];
const TOPICS: [&str; 8] = ["a", "a/b", "l/a/x", "l/one", "r/b/1", "r/two", "$SYS/broker/uptime", "$CONTROL/broker/v1"];
const CONN: ConnId = ConnId(Key::from_bits(7));
/// More would only be slow.
const STEPS: usize = 400;

/// First byte: the bridge; second: the rest of the configuration. Then the steps.
pub fn bridge(mut data: &[u8]) {
    let (lines, global) = (byte(&mut data), byte(&mut data));
    let text = format!(
        "{}sys_interval 0\nlistener 1\nconnection b\naddress 127.0.0.1 127.0.0.2\nremote_clientid b\nrestart_timeout 1 3\n{}",
        GLOBALS[usize::from(global) % GLOBALS.len()],
        CONFIGS[usize::from(lines) % CONFIGS.len()],
    );
    let config = Config::parse_str("fuzz.conf", text).unwrap_or_else(|e| panic!("{e}")).config.finish(&[]).config;
    let now = Now { mono_ms: 1000, wall_s: 1_700_000_000 };
    let profile = Rc::new(Profile::new(config.bridges[0].clone(), "host"));
    let mut world = World {
        broker: Broker::new(config.global.clone(), [1, 2], now),
        connector: Connector::new(Rc::clone(&profile), now),
        listener: Listener::new(0, None),
        config,
        now,
        link: None,
        out: Outbox::default(),
        remote: Remote::default(),
        attempts: 0,
    };
    assert!(world.broker.open_bridge(now, &profile.session(ProtocolVersion::V311)).is_ok());
    for _ in 0..STEPS {
        if data.is_empty() {
            break;
        }
        world.step(&mut data);
        world.broker.check_invariants();
    }
    world.close(&CloseReason::Shutdown);
    world.broker.check_invariants();
}

struct World {
    broker: Broker,
    connector: Connector,
    listener: Listener,
    config: Config,
    now: Now,
    link: Option<Bridge>,
    out: Outbox,
    remote: Remote,
    attempts: u32,
}

/// The other broker as far as it reads what it gets.
#[derive(Default)]
struct Remote {
    framer: Framer,
    version: Option<ProtocolVersion>,
    /// Identifiers of the last packets that want an answer: type of the answer, and identifier.
    asked: Vec<(PacketType, u16)>,
    over: bool,
}

impl Remote {
    fn receives(&mut self, mut bytes: &[u8]) {
        loop {
            let limits = FrameLimits { version: self.version, max_packet_size: 0, strict: false };
            let mut framer = std::mem::take(&mut self.framer);
            match framer.next(&mut bytes, &limits, 1) {
                Framed::NeedMore => {
                    self.framer = framer;
                    return;
                }
                Framed::Bad(error) => panic!("the bridge sent something else than packets: {error}"),
                Framed::Frame { first, body } => self.takes(first, body),
            }
            self.framer = framer;
        }
    }

    fn takes(&mut self, first: u8, body: &[u8]) {
        assert!(!self.over, "something came behind DISCONNECT");
        let Some(version) = self.version else {
            let connect: Connect<'_> = connect::decode(first, body).unwrap_or_else(|e| panic!("{:?}", e.error));
            assert_eq!(connect.client_id, "b");
            self.version = Some(connect.version);
            return;
        };
        let mut asks = |answer: PacketType, id: u16| self.asked.push((answer, id));
        match packet::decode(version, Role::FromClient, first, body).unwrap_or_else(|e| panic!("{body:02X?}: {e}")) {
            Packet::Publish(publish) => {
                let answer = if publish.qos == QoS::ExactlyOnce { PacketType::Pubrec } else { PacketType::Puback };
                if let Some(id) = publish.packet_id {
                    asks(answer, id.get());
                }
            }
            Packet::Pubrel(ack) => asks(PacketType::Pubcomp, ack.id.get()),
            Packet::Pubrec(ack) if !ack.reason.is_error() => asks(PacketType::Pubrel, ack.id.get()),
            Packet::Subscribe(subscribe) => {
                assert!(subscribe.filters().all(|filter| filter.is_ok()));
                asks(PacketType::Suback, subscribe.id.get());
            }
            Packet::Unsubscribe(unsubscribe) => asks(PacketType::Unsuback, unsubscribe.id.get()),
            Packet::Pingreq => asks(PacketType::Pingresp, 0),
            Packet::Disconnect(_) => self.over = true,
            _ => {}
        }
        // One that never answers is not remembered for ever.
        if self.asked.len() > 64 {
            self.asked.remove(0);
        }
    }
}

impl World {
    fn step(&mut self, data: &mut &[u8]) {
        let op = byte(data);
        match op & 15 {
            0 => self.close(&CloseReason::ClosedByClient),
            1 => self.tick(u64::from(byte(data)) * 10),
            2 => self.tick(u64::from(byte(data)) * 1000),
            3..=5 => self.publish(byte(data), byte(data)),
            6 => self.broker.stats.heap = u64::from(byte(data)) * 100,
            7 => {
                let len = usize::from(byte(data)).min(data.len());
                let (bytes, rest) = data.split_at(len);
                *data = rest;
                self.sends(bytes);
            }
            8 => {
                let n = byte(data);
                self.connack(n, byte(data));
            }
            9 => {
                let n = byte(data);
                self.message(n, byte(data));
            }
            10 => {
                let (first, id) = ([0x40, 0x50, 0x62, 0x70][usize::from(op >> 4 & 3)], byte(data));
                self.sends(&[first, 2, 0, id]);
            }
            11 => self.close(&CloseReason::Socket("reset".into())),
            _ => self.answer(op >> 4),
        }
        self.turn();
    }

    fn version(&self) -> ProtocolVersion {
        self.remote.version.unwrap_or(ProtocolVersion::V311)
    }

    /// The other broker accepts, with limits, or refuses.
    fn connack(&mut self, n: u8, m: u8) {
        let v5 = self.version() == ProtocolVersion::V5;
        let code = if n & 0x80 == 0 { 0 } else { m };
        let form = if v5 { ConnackForm::V5(ReasonCode(code)) } else { ConnackForm::V3(code & 7) };
        let props = ConnackProps {
            server_keep_alive: (n & 1 != 0).then_some(u16::from(m & 15)),
            topic_alias_maximum: u16::from(n >> 1 & 3),
            retain_available: (n & 8 != 0).then_some(m & 1 != 0),
            max_packet_size: (n & 0x10 != 0).then_some(u32::from(m) + 1),
            receive_maximum: (n & 0x20 != 0).then_some(u16::from(m & 3) + 1),
            maximum_qos: (n & 0x40 != 0).then_some(m & 1),
            ..ConnackProps::default()
        };
        let mut out = Vec::new();
        encode_connack(&mut out, form, m & 2 != 0, &props);
        self.sends(&out);
    }

    /// The other broker has a message.
    fn message(&mut self, n: u8, m: u8) {
        let v5 = self.version() == ProtocolVersion::V5;
        let qos = n >> 3 & 3;
        let mut body = Vec::new();
        writer::put_str(&mut body, if m & 0x80 != 0 && v5 { "" } else { TOPICS[usize::from(n & 7)] });
        if qos != 0 {
            writer::put_u16(&mut body, u16::from(m & 7));
        }
        if v5 {
            let alias = [&[][..], &[0x23, 0, 1], &[0x23, 0, 2], &[0x23, 0, 99]][usize::from(m >> 4 & 3)];
            body.push(alias.len() as u8);
            body.extend_from_slice(alias);
        }
        body.extend_from_slice(&[b'x'; 20][..usize::from(m >> 3 & 1) * 19 + 1]);
        let mut out = vec![0x30 | (n >> 2 & 8) | qos << 1 | n >> 6 & 1];
        writer::put_varint(&mut out, body.len());
        out.extend_from_slice(&body);
        self.sends(&out);
    }

    /// The other broker answers what was asked last, or longest ago.
    fn answer(&mut self, n: u8) {
        let asked = &mut self.remote.asked;
        let Some((packet, id)) = (if n & 1 == 0 { (!asked.is_empty()).then(|| asked.remove(0)) } else { asked.pop() })
        else {
            return;
        };
        let [high, low] = id.to_be_bytes();
        let v5 = self.version() == ProtocolVersion::V5;
        let code = [0, 1, 2, 0x80, 0x87, 0x97, 0, 0][usize::from(n >> 1 & 7)];
        let bytes = match packet {
            PacketType::Pingresp => vec![0xD0, 0],
            PacketType::Suback if v5 => vec![0x90, 4, high, low, 0, code],
            PacketType::Suback => vec![0x90, 3, high, low, code],
            PacketType::Unsuback if v5 => vec![0xB0, 4, high, low, 0, 0],
            PacketType::Puback | PacketType::Pubrec if v5 && code >= 0x80 => {
                vec![packet.first_byte(), 3, high, low, code]
            }
            other => vec![other.first_byte(), 2, high, low],
        };
        self.sends(&bytes);
    }

    /// A client of ours publishes.
    fn publish(&mut self, n: u8, m: u8) {
        let new = NewMessage {
            topic: TOPICS[usize::from(n & 7) % 6],
            payload: &[b'y'; 700][..[0, 1, 30, 700][usize::from(m & 3)]],
            qos: QoS::from_bits(n >> 3 & 3).unwrap_or_default(),
            retain: n & 0x20 != 0,
            props: if n & 0x40 != 0 { &[0x26, 0, 1, b'k', 0, 1, b'v'] } else { &[] },
            expiry_s: (m & 4 != 0).then_some(u32::from(m >> 3)),
        };
        if let Some(msg) = Msg::new(self.now, &new) {
            self.broker.publish(self.now, None, &msg);
        }
    }

    fn tick(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.wall_s += ms / 1000;
        // A ping, the idle time and the end may be due together.
        for _ in 0..4 {
            if self.link.as_ref().and_then(Bridge::deadline).is_none_or(|due| due > self.now.mono_ms) {
                return;
            }
            let flow = self.with(|bridge, turn| bridge.on_timer(turn));
            self.follow(flow);
        }
        panic!("it is due for ever");
    }

    fn with<R>(&mut self, act: impl FnOnce(&mut Bridge, &mut Turn<'_>) -> R) -> Option<R> {
        let mut turn = Turn {
            now: self.now,
            broker: &mut self.broker,
            out: &mut self.out,
            conn: CONN,
            config: &self.config,
            listener: &self.listener,
            budget: 64,
        };
        self.link.as_mut().map(|bridge| act(bridge, &mut turn))
    }

    fn sends(&mut self, bytes: &[u8]) {
        let mut flow = self.with(|bridge, turn| bridge.on_bytes(turn, bytes));
        // Queues are flushed and the rest is looked at.
        while matches!(flow, Some(Flow::Again | Flow::Paused)) {
            self.flush();
            flow = self.with(|bridge, turn| bridge.on_bytes(turn, &[]));
        }
        self.follow(flow);
    }

    fn follow(&mut self, flow: Option<Flow>) {
        if let Some(Flow::Close(reason)) = flow {
            self.close(&reason);
        }
    }

    /// What is left of a turn: the connector has its way, and everything is sent.
    fn turn(&mut self) {
        let backlog = self.broker.backlog(&self.connector.profile().local_id.clone());
        let due = self.connector.deadline().is_some_and(|due| due <= self.now.mono_ms);
        let step = if self.connector.is_woken_by(backlog) {
            self.connector.wake(self.now)
        } else if due {
            self.connector.on_timer(self.now, u64::from(self.attempts))
        } else {
            Step::Nothing
        };
        self.go(step);
        if let Some(bridge) = &self.link {
            let link = if bridge.session().is_some() { Link::Live } else { Link::AwaitConnack };
            self.connector.reached(self.now, link);
        }
        self.broker.on_timers(self.now);
        while self.broker.take_action().is_some() {}
        self.flush();
    }

    fn go(&mut self, mut step: Step) {
        for _ in 0..10 {
            step = match step {
                Step::Nothing => return,
                Step::Resolve(address) => {
                    let found = Ok(vec![([127, 0, 0, 1], address.port).into(), ([127, 0, 0, 3], address.port).into()]);
                    self.connector.resolved(self.now, &address, found, u64::from(self.attempts))
                }
                Step::Connect(addr) => {
                    assert!(self.link.is_none(), "one connection at a time");
                    self.attempts += 1;
                    self.link = Some(Bridge::new(self.now, &self.connector, Peer::new(addr)));
                    self.remote = Remote::default();
                    self.out.clear();
                    // Some sockets are never connected.
                    if self.attempts % 5 != 0 {
                        self.with(|bridge, turn| bridge.opened(turn));
                    }
                    return;
                }
            };
        }
        panic!("no end of steps");
    }

    fn flush(&mut self) {
        let mut listed = Vec::new();
        self.broker.take_dirty(&mut listed);
        assert!(listed.iter().all(|conn| *conn == CONN), "{listed:?}");
        for _ in 0..100 {
            let flushed = self.with(|bridge, turn| bridge.flush(turn));
            let mut sent = Vec::new();
            while !self.out.is_empty() {
                let mut slices = [IoSlice::new(&[]); 8];
                let used = self.out.slices(&mut slices);
                let len: usize = slices[..used].iter().map(|slice| slice.len()).sum();
                slices[..used].iter().for_each(|slice| sent.extend_from_slice(slice));
                self.out.advance(len);
            }
            self.remote.receives(&sent);
            if flushed != Some(Flushed::More) {
                return;
            }
        }
        panic!("no end of output");
    }

    fn close(&mut self, reason: &CloseReason) {
        self.with(|bridge, turn| bridge.close(turn, reason));
        if self.link.is_some() {
            self.flush();
        }
        let Some(lost) = self.link.take().and_then(|mut bridge| bridge.take_lost()) else { return };
        self.out.clear();
        let local_id = self.connector.profile().local_id.clone();
        assert!(
            self.broker.find_client(&local_id).is_none_or(|id| self.broker.conn_of(id).is_none()),
            "it is detached"
        );
        let step = match reason {
            CloseReason::BridgeIdle | CloseReason::Shutdown => {
                self.connector.restarted(self.now, &lost, false);
                Step::Nothing
            }
            _ => {
                let (step, aside) = self.connector.ended(self.now, lost, u64::from(self.attempts));
                let packet = aside.and_then(|suspect| suspect.packet);
                if let (Some(packet), Some(session)) = (packet, self.broker.find_client(&local_id)) {
                    self.broker.abandon(session, packet);
                }
                step
            }
        };
        self.go(step);
    }
}

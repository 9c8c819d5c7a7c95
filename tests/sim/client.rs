//! A client as the specification wants it, in all versions: it keeps its side of the session, sends again what was not
//! acknowledged, and looks at everything it gets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mosquitto::slab::Key;
use mosquitto::wire::acks::Ack;
use mosquitto::wire::connect::{Connack, ConnackForm, Connect, Will};
use mosquitto::wire::packet::{self, PacketType};
use mosquitto::wire::publish::{Publish, PublishHead, PublishProps, encode_publish};
use mosquitto::wire::subscribe::{SubscribeOptions, encode_subscribe, encode_unsubscribe};
use mosquitto::wire::{Packet, PacketId, ProtocolVersion, QoS, ReasonCode, Role};

use crate::net::Net;
use crate::oracle::{Oracle, Terms};
use crate::rng::Rng;
use crate::rules::{self, USERS};

/// What a client is there for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Kind {
    /// Publishes; its session never ends.
    Publisher,
    /// Subscribes to `w/#` with this QoS; its session never ends.
    Witness(QoS),
    /// One of two members of a share of `w/#`.
    Member,
    /// Leaves wills.
    Mortal,
    /// Always connected, sees every will.
    Watcher,
    /// Does anything.
    Noise,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Awaits {
    Puback,
    Pubrec,
    Pubcomp,
}

struct Out {
    id: PacketId,
    message: usize,
    awaits: Awaits,
}

pub(crate) struct Client {
    pub(crate) index: usize,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Its user name on this connection, or nothing.
    user: &'static str,
    pub(crate) version: ProtocolVersion,
    pub(crate) conn: Option<Key>,
    pub(crate) connected: bool,
    pub(crate) subscribed: bool,
    pub(crate) stall: u32,
    /// Message numbers in order of arrival, after de-duplication.
    pub(crate) got: Vec<usize>,
    pub(crate) wills_got: usize,
    pub(crate) retained_got: BTreeMap<String, Vec<u8>>,
    ever_connected: bool,
    input: Vec<u8>,
    parsed: u64,
    receive_max: usize,
    max_packet: usize,
    alias_max: u16,
    aliases_in: BTreeMap<u16, String>,
    aliases_out: BTreeMap<String, u16>,
    server_receive_max: usize,
    server_alias_max: u16,
    next_id: u16,
    out: VecDeque<Out>,
    /// QoS 2 messages that were received and not released.
    received: BTreeSet<PacketId>,
    /// Messages of this connection that were not acknowledged.
    open: BTreeSet<PacketId>,
    acks: VecDeque<(PacketType, PacketId)>,
}

/// Seconds that no run lasts.
pub(crate) const LONG: u32 = 10_000_000;

impl Client {
    pub(crate) fn new(index: usize, name: String, kind: Kind, version: ProtocolVersion) -> Client {
        Client {
            index,
            name,
            kind,
            user: "",
            version,
            conn: None,
            connected: false,
            subscribed: false,
            stall: 0,
            got: Vec::new(),
            wills_got: 0,
            retained_got: BTreeMap::new(),
            ever_connected: false,
            input: Vec::new(),
            parsed: 0,
            receive_max: 0,
            max_packet: usize::MAX,
            alias_max: 0,
            aliases_in: BTreeMap::new(),
            aliases_out: BTreeMap::new(),
            server_receive_max: usize::MAX,
            server_alias_max: 0,
            next_id: 0,
            out: VecDeque::new(),
            received: BTreeSet::new(),
            open: BTreeSet::new(),
            acks: VecDeque::new(),
        }
    }

    fn v5(&self) -> bool {
        self.version == ProtocolVersion::V5
    }

    /// Its session lives as long as the run.
    pub(crate) fn stable(&self) -> bool {
        matches!(self.kind, Kind::Publisher | Kind::Witness(_) | Kind::Member)
    }

    /// Nothing is under way from here.
    pub(crate) fn idle(&self) -> bool {
        self.connected && self.out.is_empty() && self.acks.is_empty() && self.received.is_empty()
    }

    /// Opens a connection and sends CONNECT; returns what it said.
    pub(crate) fn connect(&mut self, rng: &mut Rng, net: &mut Net, oracle: &mut Oracle, calm: bool) -> Terms {
        self.forget_connection();
        let key = net.open(if calm { 1 << 20 } else { rng.size(100, 6000) });
        self.conn = Some(key);
        if self.kind == Kind::Noise && !calm {
            self.version = *rng.pick(&[ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5]);
            self.name = format!("x{}", rng.below(3));
            if net.rules.is_some() {
                self.user = *rng.pick(&USERS);
            }
        }
        let clean = match self.kind {
            Kind::Publisher | Kind::Witness(_) | Kind::Member => false,
            Kind::Watcher => true,
            Kind::Mortal | Kind::Noise => rng.one_in(3),
        };
        let keepalive = match self.kind {
            Kind::Watcher => 0,
            _ if calm || rng.one_in(4) => 0,
            _ => u16::try_from(rng.range(4, 60)).unwrap(),
        };
        let mut connect = Connect { clean_start: clean, ..Connect::new(self.version, &self.name, keepalive) };
        if net.passwords {
            (connect.username, connect.password) = (Some("sim"), Some(&b"x"[..]));
        } else {
            connect.username = Some(self.user).filter(|user| !user.is_empty());
        }
        (self.receive_max, self.max_packet, self.alias_max) = (0, usize::MAX, 0);
        let window = usize::from(net.config.global.max_inflight_messages);
        self.receive_max = window;
        let mut expiry_s = if clean { 0 } else { mosquitto::broker::NEVER };
        if self.v5() {
            expiry_s = if self.stable() { LONG } else { *rng.pick(&[0, 0, 1, 5, 30, LONG]) };
            connect.session_expiry = Some(expiry_s).filter(|s| *s != 0);
            if !rng.one_in(3) && self.kind != Kind::Watcher {
                let n = rng.range(1, 5);
                connect.receive_maximum = Some(u16::try_from(n).unwrap());
                self.receive_max = usize::try_from(n).unwrap();
            }
            if self.kind == Kind::Noise && rng.one_in(2) {
                self.max_packet = if rng.one_in(2) { rng.size(64, 150) } else { rng.size(64, 900) };
                connect.max_packet_size = Some(u32::try_from(self.max_packet).unwrap());
            }
            self.alias_max = u16::try_from(rng.below(4)).unwrap();
            connect.topic_alias_maximum = self.alias_max;
        }
        let (mut will, mut payload) = (None, vec![b'W']);
        if matches!(self.kind, Kind::Mortal | Kind::Noise) && !rng.one_in(5) && !calm {
            let number = oracle.new_will();
            payload.extend_from_slice(&u32::try_from(number).unwrap().to_le_bytes());
            let delay_s = if self.v5() { *rng.pick(&[0, 0, 1, 2, 7, 40]) } else { 0 };
            will = Some((number, delay_s));
            connect.will = Some(Will {
                topic: "will/x",
                payload: &payload,
                qos: *rng.pick(&QOS),
                retain: rng.one_in(4),
                delay_s,
                expiry: None,
                props: PublishProps::default(),
            });
        }
        let mut bytes = Vec::new();
        connect.encode(&mut bytes);
        net.send(key, &bytes, None);
        if self.kind == Kind::Noise {
            // Whose session it gets nobody knows.
            self.received.clear();
            self.out.clear();
        }
        Terms { client_id: self.name.clone(), clean, expiry_s, will }
    }

    /// The connection is gone, however it went.
    pub(crate) fn forget_connection(&mut self) {
        (self.conn, self.connected, self.parsed) = (None, false, 0);
        self.input.clear();
        self.open.clear();
        self.acks.clear();
        self.aliases_in.clear();
        self.aliases_out.clear();
    }

    fn write(&self, net: &mut Net, bytes: &[u8], message: Option<usize>) {
        if let Some(key) = self.conn {
            net.send(key, bytes, message);
        }
    }

    fn fresh_id(&mut self) -> PacketId {
        loop {
            self.next_id = self.next_id.wrapping_add(1).max(1) % 40;
            if let Some(id) = PacketId::new(self.next_id)
                && self.out.iter().all(|out| out.id != id)
            {
                return id;
            }
        }
    }

    /// True when another message may be sent with QoS 1 or 2.
    pub(crate) fn may_publish(&self, net: &Net) -> bool {
        // A version 3 client cannot know the limit, so it goes beyond it.
        let v3 = usize::from(net.config.global.max_inflight_messages) + 6;
        self.connected && self.out.len() < if self.v5() { self.server_receive_max } else { v3 }.min(30)
    }

    pub(crate) fn publish(&mut self, rng: &mut Rng, net: &mut Net, oracle: &mut Oracle, draft: Draft<'_>) {
        let number = oracle.messages.len();
        let mut payload = u32::try_from(number).unwrap().to_le_bytes().to_vec();
        payload.resize(draft.size.max(4), b'a' + u8::try_from(number % 26).unwrap());
        if draft.empty {
            payload.clear();
        }
        oracle.messages.push(crate::oracle::Message {
            publisher: self.index,
            user: self.user,
            topic: draft.topic.into(),
            payload,
            qos: draft.qos,
            expiry_s: draft.expiry_s.filter(|_| self.v5()),
            arrived_ms: 0,
            completed: false,
        });
        let mut id = None;
        if draft.qos != QoS::AtMostOnce {
            let fresh = self.fresh_id();
            let awaits = if draft.qos == QoS::AtLeastOnce { Awaits::Puback } else { Awaits::Pubrec };
            self.out.push_back(Out { id: fresh, message: number, awaits });
            id = Some(fresh);
        }
        self.send_publish(Some(rng), net, oracle, number, id, draft.retain);
    }

    fn send_publish(
        &mut self,
        rng: Option<&mut Rng>,
        net: &mut Net,
        oracle: &Oracle,
        number: usize,
        id: Option<PacketId>,
        retain: bool,
    ) {
        let message = &oracle.messages[number];
        let dup = rng.is_none();
        let (mut topic, mut alias) = (message.topic.as_str(), None);
        if let Some(rng) = rng
            && self.v5()
            && self.server_alias_max > 0
            && rng.one_in(2)
        {
            if let Some(known) = self.aliases_out.get(topic).filter(|_| !rng.one_in(4)) {
                (topic, alias) = ("", Some(*known));
            } else {
                let n = u16::try_from(rng.range(1, u64::from(self.server_alias_max))).unwrap();
                self.aliases_out.retain(|_, known| *known != n);
                self.aliases_out.insert(topic.into(), n);
                alias = Some(n);
            }
        }
        let head = PublishHead {
            version: self.version,
            dup,
            qos: message.qos,
            retain,
            topic,
            packet_id: id,
            forwardable: if number % 3 == 0 { &[1, 0] } else { &[] },
            expiry: message.expiry_s,
            topic_alias: alias,
            subscription_id: None,
            payload_len: message.payload.len(),
        };
        let mut bytes = Vec::new();
        encode_publish(&mut bytes, &head);
        bytes.extend_from_slice(&message.payload);
        self.write(net, &bytes, Some(number));
    }

    /// Asks the broker for something, without an acknowledgement.
    pub(crate) fn ask(&self, net: &mut Net, request: &str) {
        let head = PublishHead {
            version: self.version,
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: "$CONTROL/broker/v1",
            packet_id: None,
            forwardable: &[],
            expiry: None,
            topic_alias: None,
            subscription_id: None,
            payload_len: request.len(),
        };
        let mut bytes = Vec::new();
        encode_publish(&mut bytes, &head);
        bytes.extend_from_slice(request.as_bytes());
        self.write(net, &bytes, None);
    }

    pub(crate) fn subscribe(&mut self, net: &mut Net, filter: &str, options: SubscribeOptions, id: Option<u32>) {
        let packet_id = PacketId::new(60_000).unwrap();
        let mut bytes = Vec::new();
        encode_subscribe(&mut bytes, self.version, packet_id, id, [(filter, options)].into_iter());
        self.write(net, &bytes, None);
    }

    pub(crate) fn unsubscribe(&mut self, net: &mut Net, filter: &str) {
        let mut bytes = Vec::new();
        encode_unsubscribe(&mut bytes, self.version, PacketId::new(60_001).unwrap(), [filter].into_iter());
        self.write(net, &bytes, None);
    }

    /// Sends up to `n` acknowledgements it owes, in order.
    pub(crate) fn acknowledge(&mut self, net: &mut Net, n: usize) {
        for _ in 0..n {
            let Some((packet, id)) = self.acks.pop_front() else { return };
            if packet == PacketType::Puback || packet == PacketType::Pubcomp {
                self.open.remove(&id);
            }
            let mut bytes = Vec::new();
            Ack::success(id).encode(&mut bytes, self.version, packet);
            self.write(net, &bytes, None);
        }
    }

    /// Reads at most `max` bytes and handles the packets among them.
    pub(crate) fn read(&mut self, net: &mut Net, oracle: &mut Oracle, max: usize) {
        let Some(key) = self.conn else { return };
        let bytes = net.receive(key, max);
        self.input.extend_from_slice(&bytes);
        while let Some((header, len)) = split(&self.input) {
            assert!(len <= self.max_packet, "{}: a packet of {len} bytes, {} is the most", self.name, self.max_packet);
            let packet: Vec<u8> = self.input.drain(..len).collect();
            self.parsed += len as u64;
            let at_ms = encoded_at(net, key, self.parsed);
            let rules = net.rules_at(key, self.parsed);
            let decoded = packet::decode(self.version, Role::FromServer, packet[0], &packet[header..])
                .unwrap_or_else(|error| panic!("{}: malformed packet {packet:02X?}: {error:?}", self.name));
            if let (Packet::Publish(publish), Some(set)) = (&decoded, rules) {
                self.check_rights(oracle, publish, set);
            }
            if !self.handle(net, oracle, decoded, at_ms) {
                break;
            }
        }
        if net.at_end(key) {
            self.forget_connection();
        }
    }

    /// Nobody ever receives what the rules forbid it, or what its publisher might not publish.
    fn check_rights(&self, oracle: &Oracle, publish: &Publish<'_>, set: usize) {
        let known = publish.topic_alias.and_then(|alias| self.aliases_in.get(&alias));
        let topic = if publish.topic.is_empty() { known.map_or("", String::as_str) } else { publish.topic };
        let Client { name, user, .. } = self;
        assert!(rules::may_read(set, user, topic), "{name}: '{topic}' is not for user {user:?}");
        if let Some(number) = publish.payload.get(..4).filter(|_| topic.starts_with("n")) {
            let number = u32::from_le_bytes(number.try_into().unwrap()) as usize;
            let publisher = oracle.messages[number].user;
            assert!(rules::may_write(publisher, topic), "{name}: '{topic}' is not from user {publisher:?}");
        }
    }

    /// False when the connection is over.
    fn handle(&mut self, net: &mut Net, oracle: &mut Oracle, packet: Packet<'_>, at_ms: u64) -> bool {
        if !self.connected && !matches!(packet, Packet::Connack(_)) {
            // A connection that was taken over before its CONNACK was flushed may end with DISCONNECT only.
            panic!("{}: {packet:?} before CONNACK", self.name);
        }
        match packet {
            Packet::Connack(connack) => self.on_connack(net, oracle, &connack),
            Packet::Publish(publish) => self.on_publish(net, oracle, &publish, at_ms),
            Packet::Puback(ack) => self.finish(oracle, ack, Awaits::Puback),
            Packet::Pubcomp(ack) => self.finish(oracle, ack, Awaits::Pubcomp),
            Packet::Pubrec(ack) => {
                if ack.reason.is_error() {
                    assert_eq!(self.kind, Kind::Noise, "{}: {ack:?}", self.name);
                    self.out.retain(|out| out.id != ack.id);
                    return true;
                }
                if let Some(out) = self.out.iter_mut().find(|out| out.id == ack.id) {
                    assert_ne!(out.awaits, Awaits::Puback, "{}: {ack:?}", self.name);
                    out.awaits = Awaits::Pubcomp;
                } else {
                    assert!(!self.stable(), "{}: PUBREC for nothing: {ack:?}", self.name);
                }
                let mut bytes = Vec::new();
                Ack::success(ack.id).encode(&mut bytes, self.version, PacketType::Pubrel);
                self.write(net, &bytes, None);
            }
            Packet::Pubrel(ack) => {
                self.received.remove(&ack.id);
                self.acks.push_back((PacketType::Pubcomp, ack.id));
            }
            Packet::Suback(suback) => {
                assert!(suback.codes.iter().all(|code| *code <= 2), "{}: {suback:?}", self.name);
                self.subscribed = true;
            }
            Packet::Unsuback(_) | Packet::Pingresp => {}
            Packet::Disconnect(disconnect) => {
                assert!(self.v5(), "{}: DISCONNECT to version 3", self.name);
                // The third is for packets that came in too slowly.
                let allowed = [
                    ReasonCode::SESSION_TAKEN_OVER,
                    ReasonCode::KEEP_ALIVE_TIMEOUT,
                    ReasonCode::MALFORMED_PACKET,
                    ReasonCode::ADMINISTRATIVE_ACTION,
                ];
                assert!(allowed.contains(&disconnect.reason), "{}: {disconnect:?}", self.name);
                return false;
            }
            other => panic!("{}: unexpected {other:?}", self.name),
        }
        true
    }

    fn on_connack(&mut self, net: &mut Net, oracle: &Oracle, connack: &Connack<'_>) {
        assert!(!self.connected, "{}: second CONNACK", self.name);
        assert!(
            matches!(connack.code, ConnackForm::V3(0) | ConnackForm::V5(ReasonCode::SUCCESS)),
            "{}: {connack:?}",
            self.name
        );
        let present = if self.version == ProtocolVersion::V31 { self.stable() } else { connack.session_present };
        if self.stable() {
            assert!(present || !self.ever_connected, "{}: the session is lost", self.name);
        }
        (self.connected, self.ever_connected) = (true, true);
        self.server_receive_max = connack.props.receive_maximum.map_or(usize::MAX, usize::from);
        self.server_alias_max = connack.props.topic_alias_maximum;
        if !present {
            self.out.clear();
            self.received.clear();
        }
        let again: Vec<_> = self.out.iter().map(|out| (out.id, out.message, out.awaits)).collect();
        for (id, message, awaits) in again {
            if awaits == Awaits::Pubcomp {
                let mut bytes = Vec::new();
                Ack::success(id).encode(&mut bytes, self.version, PacketType::Pubrel);
                self.write(net, &bytes, None);
            } else {
                let retain = oracle.messages[message].topic.starts_with("r/");
                self.send_publish(None, net, oracle, message, Some(id), retain);
            }
        }
    }

    fn finish(&mut self, oracle: &mut Oracle, ack: Ack, awaits: Awaits) {
        // By the letter a PUBREL that comes again after its PUBCOMP was lost is for nothing.
        let again = awaits == Awaits::Pubcomp && ack.reason == ReasonCode::PACKET_IDENTIFIER_NOT_FOUND;
        assert!(again || !ack.reason.is_error() || self.kind == Kind::Noise, "{}: {ack:?}", self.name);
        let found = self.out.iter().position(|out| out.id == ack.id && out.awaits == awaits);
        let Some(at) = found else {
            assert!(!self.stable() || awaits == Awaits::Pubcomp, "{}: PUBACK for nothing: {ack:?}", self.name);
            return;
        };
        if let Some(out) = self.out.remove(at) {
            oracle.messages[out.message].completed = true;
        }
    }

    fn on_publish(&mut self, net: &Net, oracle: &mut Oracle, publish: &Publish<'_>, at_ms: u64) {
        let mut topic = publish.topic.to_string();
        if let Some(alias) = publish.topic_alias {
            assert!(alias <= self.alias_max, "{}: alias {alias}", self.name);
            if topic.is_empty() {
                topic = self.aliases_in.get(&alias).expect("an empty topic has a known alias").clone();
            } else {
                self.aliases_in.insert(alias, topic.clone());
            }
        }
        let mut fresh = true;
        if let Some(id) = publish.packet_id {
            assert!(self.open.insert(id), "{}: packet identifier {id:?} is in use", self.name);
            let max = self.receive_max;
            assert!(max == 0 || self.open.len() <= max, "{}: more than {max} messages are open", self.name);
            if publish.qos == QoS::ExactlyOnce {
                fresh = self.received.insert(id);
                assert!(fresh || publish.dup || !self.stable(), "{}: {id:?} is not released", self.name);
                self.acks.push_back((PacketType::Pubrec, id));
            } else {
                self.acks.push_back((PacketType::Puback, id));
            }
        }
        if publish.payload.first() == Some(&b'W') && topic == "will/x" {
            if fresh && self.kind == Kind::Watcher {
                let number = u32::from_le_bytes(publish.payload[1..5].try_into().unwrap());
                oracle.will_seen(number as usize, at_ms, net.previous_ms);
                self.wills_got += 1;
            }
            return;
        }
        if publish.retain && topic.starts_with("r/") {
            self.retained_got.insert(topic.clone(), publish.payload.into());
        }
        let Some(number) = publish.payload.get(..4).filter(|_| !topic.starts_with('$')) else { return };
        let number = u32::from_le_bytes(number.try_into().unwrap()) as usize;
        let message = &oracle.messages[number];
        assert!(
            message.topic == topic && message.payload == publish.payload,
            "{}: message {number} differs",
            self.name
        );
        assert!(publish.qos <= message.qos || net.config.global.upgrade_outgoing_qos);
        if let Some(s) = message.expiry_s {
            let end_ms = (message.arrived_ms / 1000 + u64::from(s) + 1) * 1000;
            assert!(at_ms < end_ms || publish.dup, "{}: message {number} expired {} ms ago", self.name, at_ms - end_ms);
            assert!(!self.v5() || publish.expiry.is_some_and(|left| left <= s), "{}: {publish:?}", self.name);
        }
        if fresh {
            self.got.push(number);
        }
    }
}

pub(crate) const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// A message to be published.
pub(crate) struct Draft<'a> {
    pub(crate) topic: &'a str,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) size: usize,
    pub(crate) empty: bool,
    pub(crate) expiry_s: Option<u32>,
}

/// Length of the fixed header and of the whole packet, once it is there.
fn split(input: &[u8]) -> Option<(usize, usize)> {
    let mut len = 0;
    for (n, byte) in input.iter().skip(1).take(4).enumerate() {
        len |= usize::from(byte & 0x7F) << (7 * n);
        if byte & 0x80 == 0 {
            let whole = n + 2 + len;
            return (input.len() >= whole).then_some((n + 2, whole));
        }
    }
    assert!(input.len() < 5, "remaining length of more than four bytes");
    None
}

/// When the broker encoded the byte before this offset of its stream.
fn encoded_at(net: &mut Net, key: Key, offset: u64) -> u64 {
    let conn = net.conns.get_mut(key).expect("it has been read from");
    while conn.stamps.front().is_some_and(|(end, _)| *end < offset) {
        conn.stamps.pop_front();
    }
    conn.stamps.front().map_or(0, |(_, at)| *at)
}

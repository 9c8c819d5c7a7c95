//! The MQTT-SN gateway with a broker behind it. The input is a list of steps: datagrams of any kind, well-formed messages from a few
//! devices, some behind a forwarder, what MQTT clients do meanwhile, and time that passes. After every step the tables
//! agree with each other, and every datagram that is sent is one message.

use std::net::SocketAddr;

use mosquitto::broker::auth::access::RulesId;
use mosquitto::broker::message::{Msg, NewMessage};
use mosquitto::broker::{Action, Attached, Broker, ConnId, ConnectRequest, NEVER};
use mosquitto::config::Config;
use mosquitto::proto::CloseReason;
use mosquitto::proto::sn::gateway::{Arrival, Gateway, To, Turn, type_of};
use mosquitto::proto::sn::wire::{
    Connect, Encapsulation, FilterRef, Message, Publish, QosField, ReturnCode, TopicAck, TopicRef, WillTopic,
    encapsulate, frame,
};
use mosquitto::proto::sn::{Addr, Door, Predefined};
use mosquitto::slab::Key;
use mosquitto::timer::Now;
use mosquitto::wire::{ProtocolVersion, QoS};

use super::byte;

/// What stands behind the listener.
const CONFIGS: [&str; 4] = [
    "allow_anonymous true\nmqttsn_allow_forwarder true\nmqttsn_allow_qos_minus_one true\nmqttsn_rate_limit 0\n",
    "mqttsn_use_clientid_as_username true\nmqttsn_allow_forwarder true\nmqttsn_max_topic_ids 3\nmount_point m/\n\
     max_queued_messages 2\nmqttsn_max_inflight 3\nmqttsn_rate_limit 0\nmax_connections 3\n",
    "mqttsn_user u\nmqttsn_multicast_group 225.1.1.1\nmqttsn_advertise_interval 1\nmqttsn_search_reply both\n\
     mqttsn_max_send_size 30\nmqttsn_max_retries 1\nmqttsn_allow_qos_minus_one true\nmqttsn_qos_minus_one_user q\n\
     mqttsn_qos_minus_one_long_names true\n",
    "allow_anonymous true\nmqttsn_queue_qos0_asleep false\nmqttsn_allow_address_change false\nmax_qos 1\n\
     memory_limit 1000\nretain_available false\nclientid_prefixes a\nmax_mqtts_packet_size 60\n",
];
const NAMES: [&[u8]; 8] = [b"a", b"xy", b"a/b", b"#", b"a/+", b"$share/g/a/#", b"$CONTROL/broker/v1", b"\xFF"];
const IDS: [&[u8]; 4] = [b"a", b"ab", b"b", b""];
/// More would only be slow.
const STEPS: usize = 400;

struct World {
    broker: Broker,
    config: Config,
    gateway: Gateway,
    now: Now,
    clients: u32,
}

/// First byte: the configuration. Then the steps.
pub fn mqttsn(mut data: &[u8]) {
    let options = CONFIGS[usize::from(byte(&mut data)) % CONFIGS.len()];
    let text = format!("sys_interval 0\nmqttsn_predefined_topic 1 pre/one\nlistener 1\nprotocol mqtt-sn\n{options}");
    let config = Config::parse_str("fuzz.conf", text).unwrap_or_else(|e| panic!("{e}")).config;
    let now = Now { mono_ms: 1_000_000, wall_s: 1_700_000_000 };
    let broker = Broker::new(config.global.clone(), [1, 2], now);
    let mut world = World { broker, config, gateway: Gateway::new([3, 4]), now, clients: 0 };
    let mut predefined = Predefined::default();
    let _own = predefined.add("*", 1, "pre/one");
    let listener = world.config.listeners[0].clone();
    let anonymous = world.config.anonymous_allowed(&listener);
    world.gateway.set_door(0, Door { listener, anonymous, predefined, clients: None });
    world.act(|gateway, turn| gateway.set_sockets(turn, &[(0, 0)]));
    for _ in 0..STEPS {
        if data.is_empty() {
            break;
        }
        world.step(&mut data);
        world.settle();
    }
    // Far in the future everyone is lost, and nothing is left.
    for _ in 0..8 {
        world.now.mono_ms += 100_000_000;
        world.settle();
    }
    world.act(Gateway::shut_down);
    assert!(world.gateway.is_empty());
    let sn = world.broker.stats.sn;
    assert_eq!((sn.active, sn.asleep), (0, 0));
}

impl World {
    fn act<R>(&mut self, act: impl FnOnce(&mut Gateway, &mut Turn<'_>) -> R) -> R {
        let mut turn = Turn { now: self.now, broker: &mut self.broker, config: &self.config };
        let result = act(&mut self.gateway, &mut turn);
        for datagram in self.gateway.out.iter() {
            assert!(type_of(datagram.bytes).is_some(), "{:?}", datagram.bytes);
            assert!(
                matches!(datagram.to, To::Addr(_)) || frame::split(datagram.bytes).is_ok_and(|(by, _)| by.is_none())
            );
        }
        self.gateway.out.clear();
        result
    }

    /// The rest of a turn of the loop.
    fn settle(&mut self) {
        for _ in 0..50 {
            self.act(Gateway::on_timers);
            self.broker.on_timers(self.now);
            while let Some(action) = self.broker.take_action() {
                let (conn, reason) = match action {
                    Action::TakeOver { conn, by } => (conn, CloseReason::TakenOver { by }),
                    Action::Kick { conn } => (conn, CloseReason::Kicked),
                    _ => continue,
                };
                if let Attached::Sn(id) = conn.attached() {
                    self.act(|gateway, turn| gateway.close(turn, id, &reason));
                }
            }
            let mut dirty = Vec::new();
            self.broker.take_dirty(&mut dirty);
            if dirty.is_empty() {
                break;
            }
            for conn in dirty {
                match conn.attached() {
                    Attached::Sn(id) => self.act(|gateway, turn| gateway.flush(turn, id)),
                    Attached::Stream(_) => {}
                }
            }
        }
        self.gateway.check_invariants(&self.broker);
        self.broker.check_invariants();
        let sn = self.broker.stats.sn;
        assert_eq!(sn.active + sn.asleep, self.gateway.len() as u64);
    }

    fn step(&mut self, data: &mut &[u8]) {
        let kind = byte(data);
        match kind % 16 {
            0 => {
                let len = usize::from(byte(data)).min(data.len());
                let (datagram, rest) = data.split_at(len);
                *data = rest;
                self.receive(kind >> 4, datagram);
            }
            1 => {
                self.now.mono_ms += u64::from(byte(data)) * 100;
            }
            2 => {
                self.now.mono_ms += 10_000;
            }
            3 => {
                let topic = ["a", "xy", "a/b", "pre/one", "m/a/b", "m/xy", "m/a", "a/c"][usize::from(byte(data)) % 8];
                let qos = QoS::from_bits(kind >> 4).unwrap_or(QoS::AtLeastOnce);
                let new =
                    NewMessage { topic, payload: b"x", qos, retain: kind & 0x40 != 0, props: &[], expiry_s: None };
                if let Some(msg) = Msg::new(self.now, &new) {
                    self.broker.publish(self.now, None, &msg);
                }
            }
            4 => self.mqtt(kind >> 4),
            5 => self.broker.set_heap(usize::from(kind >> 4) * 200),
            6 => self.act(|gateway, turn| gateway.recheck(turn)),
            _ => {
                let mut datagram = Vec::new();
                if kind & 0x80 != 0 {
                    encapsulate(&mut datagram, Encapsulation { radius: 0, node_id: &[kind & 3, 1] });
                }
                if message(data).encode(&mut datagram).is_ok() {
                    self.receive(kind >> 4 & 3, &datagram);
                }
            }
        }
    }

    fn receive(&mut self, from: u8, datagram: &[u8]) {
        let from = Addr::new(SocketAddr::from(([127, 0, 0, 1], 1000 + u16::from(from))));
        let arrival = Arrival { socket: 0, door: 0, from, multicast: false };
        self.act(|gateway, turn| gateway.on_datagram(turn, arrival, datagram));
    }

    /// An MQTT client with the client id of a device.
    fn mqtt(&mut self, which: u8) {
        self.clients += 1;
        let client_id = core::str::from_utf8(IDS[usize::from(which) % 3]).unwrap_or_default();
        let request = ConnectRequest {
            conn: ConnId(Key::from_bits(self.clients)),
            client_id,
            username: None,
            clean_start: which & 8 != 0,
            expiry_s: NEVER,
            version: ProtocolVersion::V311,
            bridge: false,
            rules: RulesId::GLOBAL,
            listener_port: 1,
            receive_maximum: None,
            will: None,
        };
        let _refused = self.broker.connect(self.now, request);
    }
}

/// A well-formed message of a device.
fn message(data: &mut &[u8]) -> Message<'static> {
    let (kind, choice) = (byte(data), byte(data));
    let id = u16::from(choice & 3);
    let qos = [QosField::AtMostOnce, QosField::AtLeastOnce, QosField::ExactlyOnce, QosField::MinusOne]
        [usize::from(choice >> 2) & 3];
    let name = NAMES[usize::from(choice >> 4) & 7];
    let client_id = IDS[usize::from(choice) & 3];
    let topic = [TopicRef::Normal(id), TopicRef::Predefined(id), TopicRef::Short(*b"xy"), TopicRef::Reserved(id)]
        [usize::from(kind >> 5) & 3];
    let filter = [FilterRef::Name(name), FilterRef::Predefined(id), FilterRef::Short(*b"xy"), FilterRef::Reserved]
        [usize::from(kind >> 5) & 3];
    let ack = TopicAck { topic_id: id, msg_id: u16::from(choice >> 4 & 3), code: ReturnCode(choice >> 6) };
    let (yes, no) = (choice & 0x80 != 0, choice & 0x40 != 0);
    let will = (choice != 0).then_some(WillTopic { qos, retain: yes, topic: name });
    match kind & 0x1F {
        0 => Message::SearchGw { radius: choice },
        1..=3 => Message::Connect(Connect {
            will: yes,
            clean_session: no,
            protocol_id: if choice == 0xFF { 2 } else { 1 },
            duration_s: u16::from(choice >> 2) * 5,
            client_id,
        }),
        4 => Message::WillTopic(will),
        5 => Message::WillMsg(name),
        6 => Message::Register { topic_id: 0, msg_id: id, name },
        7 | 8 => Message::Regack(ack),
        9..=12 => Message::Publish(Publish { dup: yes, qos, retain: no, topic, msg_id: id, data: name }),
        13 | 14 => Message::Puback(ack),
        15 => Message::Pubrec { msg_id: id },
        16 => Message::Pubrel { msg_id: id },
        17 => Message::Pubcomp { msg_id: id },
        18..=20 => Message::Subscribe { dup: no, qos, msg_id: id, filter },
        21 => Message::Unsubscribe { msg_id: id, filter },
        22..=24 => Message::Pingreq { client_id },
        25 => Message::Pingresp,
        26 => Message::Disconnect { duration_s: None },
        27 | 28 => Message::Disconnect { duration_s: Some(u16::from(choice)) },
        29 => Message::WillTopicUpd(will),
        30 => Message::WillMsgUpd(name),
        _ => Message::Advertise { gateway_id: choice, duration_s: 9 },
    }
}

//! The gateway as a device sees it: datagrams and a virtual clock in, datagrams out, and the core on the other side. Each test is
//! named after what it shows and tagged with the section of the specification.

mod connect;
mod deliver;
mod discovery;
mod hostile;
mod limits;
mod publish;
mod sleep;
mod topics;
mod will;

use std::net::SocketAddr;

use super::*;
use crate::broker::auth::access::RulesId;
use crate::broker::subs::SubOptions;
use crate::broker::{Action, Attached, ConnectRequest, Ending, NEVER, Outgoing, Pulled, SubscribeRequest};
use crate::config::Protocol;
use crate::proto::CloseReason;
use crate::proto::sn::predefined::Predefined;
use crate::proto::sn::wire::{Connect, FilterRef, ReturnCode, TopicAck, TopicRef};
use crate::slab::Slab;
use crate::wire::{ProtocolVersion, QoS};

/// Something that an MQTT client got.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Got {
    topic: String,
    payload: Vec<u8>,
    qos: u8,
    retain: bool,
}

fn got(topic: &str, payload: &[u8], qos: u8) -> Got {
    Got { topic: topic.into(), payload: payload.into(), qos, retain: false }
}

/// A broker, a gateway with one listener, and what was sent so far.
struct World {
    broker: Broker,
    config: Config,
    gateway: Gateway,
    now: Now,
    sent: Vec<(u16, Vec<u8>)>,
    groups: Vec<Vec<u8>>,
    conns: Slab<()>,
    /// MQTT clients that were told to go.
    closed: Vec<(ConnId, CloseReason)>,
}

impl World {
    fn new() -> World {
        World::with("allow_anonymous true\n")
    }

    /// A world whose listener has these options.
    fn with(options: &str) -> World {
        let text = format!("sys_interval 0\nlistener 1884\nprotocol mqtt-sn\n{options}");
        let config = Config::parse_str("sn.conf", text).unwrap_or_else(|e| panic!("{e}")).config;
        let now = Now { mono_ms: 1_000_000, wall_s: 1_700_000_000 };
        let mut world = World {
            broker: Broker::new(config.global.clone(), [1, 2], now),
            gateway: Gateway::new([3, 4]),
            config,
            now,
            sent: Vec::new(),
            groups: Vec::new(),
            conns: Slab::new(),
            closed: Vec::new(),
        };
        world.open();
        world
    }

    fn open(&mut self) {
        let mut predefined = Predefined::default();
        let own = &self.config.listeners[0].sn.predefined_topics;
        for (id, topic) in self.config.global.sn.predefined_topics.iter().chain(own) {
            predefined.add("*", *id, topic).unwrap();
        }
        predefined.add("special", 9, "own/topic").unwrap();
        let listener = self.config.listeners[0].clone();
        assert_eq!(listener.protocol, Protocol::MqttSn);
        let anonymous = self.config.anonymous_allowed(&listener);
        self.gateway.set_door(0, Door { listener, anonymous, predefined, clients: None });
        self.turn(|gateway, turn| gateway.set_sockets(turn, &[(0, 0)]));
    }

    fn turn<R>(&mut self, act: impl FnOnce(&mut Gateway, &mut Turn<'_>) -> R) -> R {
        let mut turn = Turn { now: self.now, broker: &mut self.broker, config: &self.config };
        let result = act(&mut self.gateway, &mut turn);
        self.collect();
        result
    }

    fn collect(&mut self) {
        for datagram in self.gateway.out.iter() {
            match datagram.to {
                To::Addr(addr) => self.sent.push((addr.port(), datagram.bytes.to_vec())),
                To::Groups => self.groups.push(datagram.bytes.to_vec()),
            }
        }
        self.gateway.out.clear();
    }

    /// The rest of a turn of the loop: timers, actions, flush.
    fn settle(&mut self) {
        for _ in 0..20 {
            self.turn(Gateway::on_timers);
            self.broker.on_timers(self.now);
            while let Some(action) = self.broker.take_action() {
                let (conn, reason) = match action {
                    Action::TakeOver { conn, by } => (conn, CloseReason::TakenOver { by }),
                    Action::Kick { conn } => (conn, CloseReason::Kicked),
                    Action::Login { .. } | Action::Control { .. } => continue,
                };
                match conn.attached() {
                    Attached::Sn(id) => self.turn(|gateway, turn| gateway.close(turn, id, &reason)),
                    Attached::Stream(conn) => self.closed.push((conn, reason)),
                }
            }
            let mut dirty = Vec::new();
            self.broker.take_dirty(&mut dirty);
            if dirty.is_empty() {
                break;
            }
            for conn in dirty {
                if let Some(id) = conn.sn() {
                    self.turn(|gateway, turn| gateway.flush(turn, id));
                }
            }
        }
        self.broker.check_invariants();
        self.gateway.check_invariants(&self.broker);
    }

    fn at(port: u16) -> Addr {
        Addr::new(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// A datagram from this port, and everything that follows.
    fn raw(&mut self, port: u16, bytes: &[u8]) {
        let arrival = Arrival { socket: 0, door: 0, from: World::at(port), multicast: false };
        self.turn(|gateway, turn| gateway.on_datagram(turn, arrival, bytes));
        self.settle();
    }

    fn send(&mut self, port: u16, message: Message<'_>) {
        self.raw(port, &bytes(&message));
    }

    /// What was sent to this port since the last call.
    fn take(&mut self, port: u16) -> Vec<Vec<u8>> {
        let (own, others) = std::mem::take(&mut self.sent).into_iter().partition(|(to, _)| *to == port);
        self.sent = others;
        let own: Vec<(u16, Vec<u8>)> = own;
        own.into_iter().map(|(_, bytes)| bytes).collect()
    }

    /// Asserts what was sent to this port since the last call.
    #[track_caller]
    fn expect(&mut self, port: u16, messages: &[Message<'_>]) {
        let sent = self.take(port);
        let found: Vec<_> = sent.iter().map(|bytes| Message::decode(bytes).unwrap()).collect();
        assert_eq!(found, messages);
    }

    /// Sends and asserts the answers.
    #[track_caller]
    fn ask(&mut self, port: u16, message: Message<'_>, answers: &[Message<'_>]) {
        self.send(port, message);
        self.expect(port, answers);
    }

    fn wait(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.wall_s += ms / 1000;
        self.settle();
    }

    /// A connected client with a clean session.
    #[track_caller]
    fn join(&mut self, port: u16, client_id: &str) {
        self.ask(port, connect(client_id, true, 60), &[Message::Connack(ReturnCode::ACCEPTED)]);
    }

    /// A connected client whose session stays.
    #[track_caller]
    fn join_for_long(&mut self, port: u16, client_id: &str) {
        self.ask(port, connect(client_id, false, 60), &[Message::Connack(ReturnCode::ACCEPTED)]);
    }

    /// The topic id that REGISTER gives.
    #[track_caller]
    fn register(&mut self, port: u16, name: &str) -> u16 {
        self.send(port, Message::Register { topic_id: 0, msg_id: 77, name: name.as_bytes() });
        let sent = self.take(port);
        let [answer] = &sent[..] else { panic!("{sent:?}") };
        match Message::decode(answer).unwrap() {
            Message::Regack(TopicAck { topic_id, msg_id: 77, code: ReturnCode::ACCEPTED }) => topic_id,
            other => panic!("{other:?}"),
        }
    }

    /// Subscribes by name; the topic id of SUBACK.
    #[track_caller]
    fn subscribe(&mut self, port: u16, filter: &str, qos: QosField) -> u16 {
        self.send(port, Message::Subscribe { dup: false, qos, msg_id: 78, filter: FilterRef::Name(filter.as_bytes()) });
        let sent = self.take(port);
        match Message::decode(&sent[0]).unwrap() {
            Message::Suback { qos: granted, ack: TopicAck { topic_id, msg_id: 78, code: ReturnCode::ACCEPTED } } => {
                assert_eq!(granted, qos);
                topic_id
            }
            other => panic!("{other:?}"),
        }
    }

    fn id_of(&self, client_id: &str) -> SnId {
        let session = self.broker.find_client(client_id).unwrap();
        self.broker.conn_of(session).unwrap().sn().unwrap()
    }

    fn state_of(&self, client_id: &str) -> Client {
        self.gateway.state(self.id_of(client_id))
    }

    /// An MQTT client, subscribed to a filter.
    fn mqtt(&mut self, client_id: &str, filter: &str) -> (SessionId, ConnId) {
        let conn = ConnId(self.conns.insert(()).unwrap());
        let request = ConnectRequest {
            conn,
            client_id,
            username: None,
            clean_start: false,
            expiry_s: NEVER,
            version: ProtocolVersion::V311,
            bridge: false,
            rules: RulesId::GLOBAL,
            listener_port: 1883,
            receive_maximum: None,
            will: None,
        };
        let session = self.broker.connect(self.now, request).unwrap().session;
        if !filter.is_empty() {
            let options = SubOptions { qos: QoS::ExactlyOnce, ..SubOptions::default() };
            self.broker.subscribe(session, SubscribeRequest { filter, share: None, options, id: 0 }).unwrap();
        }
        self.settle();
        (session, conn)
    }

    /// What an MQTT client has got since the last call; all of it is acknowledged.
    fn read(&mut self, session: SessionId) -> Vec<Got> {
        let mut found = Vec::new();
        let mut budget = 1_000_000;
        while let Pulled::Item(item) = self.broker.pull(self.now, session, &mut budget) {
            let Outgoing::Publish { msg, id, qos, retain, .. } = item else { continue };
            found.push(Got { topic: msg.topic().into(), payload: msg.payload().into(), qos: qos as u8, retain });
            if let Some(id) = id {
                self.broker.puback(session, id);
                self.broker.pubrec(session, id, false);
                self.broker.pubcomp(session, id);
            }
        }
        self.broker.set_clean(session);
        found
    }

    /// Somebody publishes.
    fn publish(&mut self, topic: &str, payload: &[u8], qos: QoS, retain: bool) {
        let new = crate::broker::message::NewMessage { topic, payload, qos, retain, props: &[], expiry_s: None };
        let msg = crate::broker::message::Msg::new(self.now, &new).unwrap();
        self.broker.publish(self.now, None, &msg);
        self.settle();
    }

    fn mqtt_leaves(&mut self, (session, conn): (SessionId, ConnId)) {
        self.broker.disconnect(self.now, session, conn, Ending { will: false, expiry_s: None });
    }
}

fn bytes(message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out).unwrap();
    out
}

fn connect(client_id: &str, clean_session: bool, duration_s: u16) -> Message<'_> {
    let client_id = client_id.as_bytes();
    Message::Connect(Connect { will: false, clean_session, protocol_id: 1, duration_s, client_id })
}

fn connect_with_will(client_id: &str, clean_session: bool) -> Message<'_> {
    let client_id = client_id.as_bytes();
    Message::Connect(Connect { will: true, clean_session, protocol_id: 1, duration_s: 60, client_id })
}

const ACCEPTED: Message<'static> = Message::Connack(ReturnCode::ACCEPTED);
const GOODBYE: Message<'static> = Message::Disconnect { duration_s: None };

/// A PUBLISH with a payload of "x".
fn publish(qos: QosField, topic: TopicRef, msg_id: u16) -> Message<'static> {
    Message::Publish(Publish { dup: false, qos, retain: false, topic, msg_id, data: b"x" })
}

fn puback(topic_id: u16, msg_id: u16, code: ReturnCode) -> Message<'static> {
    Message::Puback(TopicAck { topic_id, msg_id, code })
}

fn regack(topic_id: u16, msg_id: u16, code: ReturnCode) -> Message<'static> {
    Message::Regack(TopicAck { topic_id, msg_id, code })
}

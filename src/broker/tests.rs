//! The verbs of the core against the rules of sessions, wills, shared subscriptions and queues, with a clock of our own.

mod acl;

use super::message::{Msg, NewMessage};
use super::subs::SubOptions;
use super::will::Will;
use super::*;
use crate::slab::Slab;
use crate::wire::{PacketId, ProtocolVersion, QoS};

struct World {
    broker: Broker,
    conns: Slab<()>,
    now: Now,
}

impl World {
    fn new() -> World {
        World::with(Global { sys_interval: 0, ..Global::default() })
    }

    fn with(settings: Global) -> World {
        let now = Now { mono_ms: 1_000_000, wall_s: 1 };
        World { broker: Broker::new(settings, [3, 4], now), conns: Slab::new(), now }
    }

    fn request(&mut self, client_id: &'static str, expiry_s: u32) -> ConnectRequest<'static> {
        ConnectRequest {
            conn: ConnId(self.conns.insert(()).unwrap()),
            client_id,
            username: None,
            clean_start: false,
            expiry_s,
            version: ProtocolVersion::V5,
            bridge: false,
            rules: crate::broker::auth::access::RulesId::GLOBAL,
            listener_port: 1883,
            receive_maximum: Some(20),
            will: None,
        }
    }

    fn connect(&mut self, client_id: &'static str, expiry_s: u32) -> (SessionId, ConnId) {
        let request = self.request(client_id, expiry_s);
        let conn = request.conn;
        (self.broker.connect(self.now, request).unwrap().session, conn)
    }

    fn connect_with_will(&mut self, client_id: &'static str, expiry_s: u32, delay_s: u32) -> (SessionId, ConnId) {
        let mut request = self.request(client_id, expiry_s);
        request.will = Some(will(delay_s));
        let conn = request.conn;
        (self.broker.connect(self.now, request).unwrap().session, conn)
    }

    fn subscribe(&mut self, session: SessionId, share: Option<&str>, filter: &str, qos: QoS) {
        let options = SubOptions { qos, ..SubOptions::default() };
        self.broker.subscribe(session, SubscribeRequest { filter, share, options, id: 0 }).unwrap();
    }

    fn publish(&mut self, topic: &str, qos: QoS) {
        let new = NewMessage { topic, payload: b"x", qos, retain: false, props: &[], expiry_s: None };
        let msg = Msg::new(self.now, &new).unwrap();
        self.broker.publish(self.now, None, &msg);
        self.broker.check_invariants();
    }

    fn pull(&mut self, session: SessionId) -> Vec<(String, Option<PacketId>, bool)> {
        let mut got = Vec::new();
        while let Pulled::Item(item) = self.broker.pull(self.now, session, &mut 1000) {
            match item {
                Outgoing::Publish { msg, id, dup, .. } => got.push((msg.topic().to_string(), id, dup)),
                Outgoing::Pubrel(id) => got.push(("PUBREL".to_string(), Some(id), true)),
            }
        }
        self.broker.check_invariants();
        got
    }

    fn topics(&mut self, session: SessionId) -> Vec<String> {
        self.pull(session).into_iter().map(|(topic, ..)| topic).collect()
    }

    fn drop_conn(&mut self, (session, conn): (SessionId, ConnId)) {
        self.broker.disconnect(self.now, session, conn, Ending { will: true, expiry_s: None });
        self.broker.check_invariants();
    }

    fn wait(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.broker.on_timers(self.now);
        self.broker.check_invariants();
    }
}

fn will(delay_s: u32) -> Will {
    Will {
        topic: "will".into(),
        payload: Box::new([1]),
        props: Box::new([]),
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_s,
        expiry_s: None,
    }
}

#[test]
fn what_a_member_left_unacknowledged_goes_to_another_when_its_session_ends() {
    let mut world = World::new();
    let a = world.connect("a", 0);
    world.subscribe(a.0, Some("g"), "t/#", QoS::ExactlyOnce);
    for topic in ["t/1", "t/2"] {
        world.publish(topic, QoS::AtLeastOnce);
    }
    world.publish("t/3", QoS::ExactlyOnce);
    assert_eq!(world.topics(a.0).len(), 3);
    world.broker.puback(a.0, PacketId::new(1).unwrap());
    let b = world.connect("b", 0);
    world.subscribe(b.0, Some("g"), "t/#", QoS::ExactlyOnce);
    world.drop_conn(a);
    assert_eq!(world.topics(b.0), ["t/2"], "neither what was acknowledged nor QoS 2 that was sent [MQTT-4.8.2-5]");
}

#[test]
fn a_shared_message_goes_to_a_connected_member_while_there_is_one() {
    let mut world = World::new();
    let (a, b) = (world.connect("a", 100), world.connect("b", 100));
    for session in [a.0, b.0] {
        world.subscribe(session, Some("g"), "t", QoS::AtLeastOnce);
    }
    world.drop_conn(a);
    for _ in 0..4 {
        world.publish("t", QoS::AtLeastOnce);
    }
    assert_eq!(world.topics(b.0).len(), 4);
    world.drop_conn(b);
    world.publish("t", QoS::AtLeastOnce);
    assert_eq!(world.broker.queued(a.0) + world.broker.queued(b.0), 1, "kept for one of them");
}

#[test]
fn a_session_resumes_with_dup_and_in_order() {
    let mut world = World::new();
    let a = world.connect("a", 100);
    world.subscribe(a.0, None, "#", QoS::AtLeastOnce);
    for topic in ["1", "2"] {
        world.publish(topic, QoS::AtLeastOnce);
    }
    assert_eq!(world.topics(a.0), ["1", "2"]);
    world.drop_conn(a);
    world.publish("3", QoS::AtLeastOnce);
    world.publish("0", QoS::AtMostOnce);
    let request = world.request("a", 100);
    let again = world.broker.connect(world.now, request).unwrap();
    assert!(again.present && again.session == a.0);
    let id = |n| PacketId::new(n);
    let expected = [("1", id(1), true), ("2", id(2), true), ("3", id(3), false)];
    assert_eq!(world.pull(a.0), expected.map(|(topic, id, dup)| (topic.to_string(), id, dup)));
}

#[test]
fn a_session_ends_when_its_expiry_has_passed() {
    let mut world = World::new();
    let a = world.connect("a", 10);
    world.drop_conn(a);
    world.wait(9_999);
    assert_eq!(world.broker.session_count(), 1);
    world.wait(1);
    assert_eq!((world.broker.session_count(), world.broker.stats.expired_sessions), (0, 1));
    let b = world.connect("b", NEVER);
    world.drop_conn(b);
    world.wait(u64::from(u32::MAX) * 2000);
    assert_eq!(world.broker.session_count(), 1);
}

#[test]
fn a_delayed_will_is_never_early_and_void_when_the_client_is_back() {
    let mut world = World::new();
    let watcher = world.connect("watcher", 0);
    world.subscribe(watcher.0, None, "will", QoS::AtMostOnce);
    let a = world.connect_with_will("a", 100, 5);
    world.drop_conn(a);
    world.wait(4_999);
    assert!(world.topics(watcher.0).is_empty());
    world.wait(1);
    assert_eq!(world.topics(watcher.0), ["will"]);
    let a = world.connect_with_will("a", 100, 5);
    world.drop_conn(a);
    world.wait(3_000);
    let a = world.connect("a", 100);
    world.wait(60_000);
    assert!(world.topics(watcher.0).is_empty());
    world.drop_conn(a);
    let b = world.connect_with_will("b", 2, 60);
    world.drop_conn(b);
    world.wait(2_000);
    assert_eq!(world.topics(watcher.0), ["will"], "the end of the session does not wait for the delay");
}

#[test]
fn a_take_over_publishes_the_will_only_of_a_session_that_ends() {
    for (expiry_s, clean_start, delay_s, published) in
        [(0, false, 0, true), (100, false, 0, false), (100, true, 0, true), (0, false, 1, false), (100, true, 1, false)]
    {
        let mut world = World::new();
        let watcher = world.connect("watcher", 0);
        world.subscribe(watcher.0, None, "will", QoS::AtMostOnce);
        let old = world.connect_with_will("a", expiry_s, delay_s);
        let mut request = world.request("a", expiry_s);
        request.clean_start = clean_start;
        let new = world.broker.connect(world.now, request).unwrap();
        assert_eq!(new.present, expiry_s != 0 && !clean_start);
        assert_eq!(world.broker.take_action(), Some(Action::TakeOver { conn: old.1, by: new.session }));
        world.drop_conn(old);
        assert!(world.broker.conn_of(new.session).is_some(), "the old connection cannot end the new session");
        world.wait(10_000);
        let wills = world.topics(watcher.0).len();
        assert_eq!(wills, usize::from(published), "expiry {expiry_s}, clean start {clean_start}, delay {delay_s}");
    }
}

#[test]
fn an_offline_queue_holds_exactly_its_limit_and_drops_the_newest() {
    let mut world = World::with(Global { sys_interval: 0, max_queued_messages: 5, ..Global::default() });
    let a = world.connect("a", 100);
    world.subscribe(a.0, None, "#", QoS::AtLeastOnce);
    world.drop_conn(a);
    for topic in ["1", "2", "3", "4", "5", "6"] {
        world.publish(topic, QoS::AtLeastOnce);
    }
    assert_eq!(world.broker.stats.dropped, 1);
    world.connect("a", 100);
    assert_eq!(world.topics(a.0), ["1", "2", "3", "4", "5"]);
}

#[test]
fn the_window_closes_and_an_acknowledgement_opens_it() {
    let mut world = World::with(Global { sys_interval: 0, max_queued_messages: 5, ..Global::default() });
    let mut request = world.request("a", 0);
    request.receive_maximum = Some(2);
    let a = world.broker.connect(world.now, request).unwrap().session;
    world.subscribe(a, None, "#", QoS::AtLeastOnce);
    for _ in 0..4 {
        world.publish("t", QoS::AtLeastOnce);
    }
    assert_eq!(world.topics(a).len(), 2);
    for _ in 0..10 {
        world.publish("t", QoS::AtLeastOnce);
    }
    assert_eq!(world.broker.queued(a), 7, "the limit and the window, as C Mosquitto counts");
    assert_eq!(world.broker.puback(a, PacketId::MIN), Acked::Done);
    assert_eq!(world.topics(a).len(), 1);
}

#[test]
fn qos_0_that_waits_behind_a_closed_window_is_bounded_too() {
    let settings = Global { sys_interval: 0, max_queued_messages: 2, queue_qos0_messages: true, ..Global::default() };
    let mut world = World::with(settings);
    let a = world.connect("a", 100);
    world.subscribe(a.0, None, "#", QoS::AtLeastOnce);
    world.drop_conn(a);
    world.publish("1", QoS::AtLeastOnce);
    world.publish("0", QoS::AtMostOnce);
    let mut request = world.request("a", 100);
    request.receive_maximum = Some(1);
    world.broker.connect(world.now, request).unwrap();
    assert_eq!(world.topics(a.0), ["1", "0"]);
    world.publish("1", QoS::AtLeastOnce);
    let conn = world.broker.conn_of(a.0).unwrap();
    world.drop_conn((a.0, conn));
    world.publish("0", QoS::AtMostOnce);
    let mut request = world.request("a", 100);
    request.receive_maximum = Some(1);
    world.broker.connect(world.now, request).unwrap();
    for _ in 0..100 {
        world.publish("0", QoS::AtMostOnce);
    }
    assert!(world.broker.queued(a.0) <= 3, "{} wait", world.broker.queued(a.0));
}

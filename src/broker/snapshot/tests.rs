//! A snapshot in slices, with everything going on meanwhile, against one taken at once.

use super::*;
use crate::broker::message::NewMessage;
use crate::broker::stored::Place;
use crate::broker::subs::SubOptions;
use crate::broker::{ConnId, ConnectRequest, Ending, Outgoing, Pulled, SubscribeRequest};
use crate::config::Global;
use crate::slab::Slab;
use crate::wire::{PacketId, ProtocolVersion, QoS};

const KEYS: [u64; 2] = [5, 6];

fn settings() -> Global {
    Global {
        sys_interval: 0,
        queue_qos0_messages: true,
        max_inflight_messages: 3,
        persistence: true,
        ..Global::default()
    }
}

/// A client that is there, and what it has got and not acknowledged: whether with QoS 2.
type Guest = (SessionId, ConnId, Vec<(PacketId, bool)>);

/// Random clients of a broker.
struct Crowd {
    broker: Broker,
    now: Now,
    state: u32,
    conns: Slab<()>,
    online: Vec<Guest>,
    sent: u32,
}

impl Crowd {
    fn new(seed: u32) -> Crowd {
        let now = Now { mono_ms: 1_000_000, wall_s: 1_700_000_000 };
        let broker = Broker::new(settings(), KEYS, now);
        Crowd { broker, now, state: seed, conns: Slab::new(), online: Vec::new(), sent: 0 }
    }

    fn below(&mut self, n: u32) -> u32 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 17;
        self.state ^= self.state << 5;
        self.state % n
    }

    fn qos(&mut self) -> QoS {
        QoS::from_bits(u8::try_from(self.below(3)).unwrap()).unwrap()
    }

    fn connect(&mut self) {
        let client_id = format!("client{}", self.below(12));
        let conn = ConnId(self.conns.insert(()).unwrap());
        let username = (self.below(2) == 0).then_some("user");
        let request = ConnectRequest {
            conn,
            client_id: &client_id,
            username,
            clean_start: self.below(8) == 0,
            expiry_s: [0, 100, NEVER, NEVER][self.below(4) as usize],
            version: if self.below(2) == 0 { ProtocolVersion::V5 } else { ProtocolVersion::V311 },
            bridge: false,
            rules: crate::broker::auth::access::RulesId::GLOBAL,
            listener_port: u16::try_from(self.below(2)).unwrap(),
            receive_maximum: None,
            will: None,
        };
        let session = self.broker.connect(self.now, request).unwrap().session;
        self.online.retain(|(id, ..)| *id != session && self.broker.conn_of(*id).is_some());
        self.online.push((session, conn, Vec::new()));
        while self.broker.take_action().is_some() {}
    }

    fn publish(&mut self, from: Option<SessionId>) {
        let topic = format!("t/{}", self.below(9));
        let payload = if self.below(6) == 0 { String::new() } else { format!("{}", self.sent) };
        self.sent += 1;
        let (qos, retain) = (self.qos(), self.below(2) == 0);
        let new = NewMessage { topic: &topic, payload: payload.as_bytes(), qos, retain, props: &[], expiry_s: None };
        let msg = Msg::new(self.now, &new).unwrap();
        match from {
            Some(id) if qos == QoS::ExactlyOnce => {
                let packet = PacketId::new(u16::try_from(1 + self.below(5)).unwrap()).unwrap();
                self.broker.receive_qos2(id, packet, msg);
            }
            _ => _ = self.broker.publish(self.now, from, &msg),
        }
    }

    /// Something that a client may do.
    fn act(&mut self) {
        let what = self.below(20);
        if what < 2 || self.online.is_empty() {
            return self.connect();
        }
        if what < 7 {
            return self.publish(None);
        }
        let at = self.below(u32::try_from(self.online.len()).unwrap()) as usize;
        let (id, conn, _) = self.online[at];
        match what {
            7 | 8 => {
                let filter = ["t/#", "t/1", "t/+", "$SYS/#", "t/2"][self.below(5) as usize];
                let share = [None, None, Some("group")][self.below(3) as usize];
                let options = SubOptions { qos: self.qos(), retain_handling: 2, ..SubOptions::default() };
                let request = SubscribeRequest { filter, share, options, id: self.below(4) };
                self.broker.subscribe(id, request).unwrap();
            }
            9 => {
                let filter = ["t/#", "t/1"][self.below(2) as usize];
                self.broker.unsubscribe(id, filter, None);
            }
            10 => {
                self.online.remove(at);
                let expiry_s = [None, None, Some(50)][self.below(3) as usize];
                self.broker.disconnect(self.now, id, conn, Ending { will: true, expiry_s });
            }
            11 | 12 => self.publish(Some(id)),
            13 => {
                let packet = PacketId::new(u16::try_from(1 + self.below(5)).unwrap()).unwrap();
                self.broker.release(self.now, id, packet);
                while self.broker.next_withheld(id).is_some() {}
            }
            14..=16 => {
                let Pulled::Item(Outgoing::Publish { id: Some(packet), qos, .. }) =
                    self.broker.pull(self.now, id, &mut 1000)
                else {
                    return;
                };
                self.online[at].2.push((packet, qos == QoS::ExactlyOnce));
            }
            _ => {
                let Some((packet, two)) = self.online[at].2.pop() else { return };
                if !two {
                    self.broker.puback(id, packet);
                } else if self.below(2) == 0 {
                    self.broker.pubrec(id, packet, false);
                } else {
                    self.broker.pubrec(id, packet, false);
                    self.broker.pubcomp(id, packet);
                }
            }
        }
    }
}

/// What a snapshot holds, in an order that does not depend on the walk.
#[derive(Default, PartialEq, Eq, Debug)]
struct Picture {
    sessions: BTreeMap<String, (String, Vec<String>)>,
    subs: Vec<String>,
    retained: BTreeMap<String, Vec<u8>>,
}

impl Picture {
    fn add(&mut self, item: Item<'_>) {
        match item {
            Item::Session(session) => {
                let id = session.client_id.to_string();
                assert!(self.sessions.insert(id, (format!("{session:?}"), Vec::new())).is_none(), "given once");
            }
            Item::Entry(client_id, entry) => {
                let payload = entry.msg.map(|msg| (msg.topic().to_string(), msg.payload().to_vec()));
                let StoredEntry { place, id, qos, retain, sub_id, .. } = entry;
                let (_, entries) = self.sessions.get_mut(client_id).expect("behind its session");
                entries.push(format!("{place:?} {payload:?} {id} {qos:?} {retain} {sub_id}"));
            }
            Item::Subscription(client_id, sub) => {
                assert!(self.sessions.contains_key(client_id), "behind its session");
                self.subs.push(format!("{client_id} {sub:?}"));
            }
            Item::Retained(msg) => {
                assert!(self.retained.insert(msg.topic().into(), msg.payload().into()).is_none(), "given once");
            }
        }
    }

    fn at_once(broker: &mut Broker, now: Now, stopping: bool) -> Picture {
        let mut picture = Picture::default();
        broker.begin_snapshot(now, stopping);
        while broker.snapshot_slice(usize::MAX, &mut |item| picture.add(item)) == SnapshotState::More {}
        picture.finish()
    }

    fn finish(mut self) -> Picture {
        self.subs.sort();
        self
    }
}

#[test]
fn slices_show_the_moment_of_the_beginning_whatever_happens_meanwhile() {
    for seed in 1..=150 {
        let mut crowd = Crowd::new(seed);
        for _ in 0..crowd.below(400) {
            crowd.act();
        }
        let now = crowd.now;
        let expected = Picture::at_once(&mut crowd.broker, now, false);
        let mut picture = Picture::default();
        crowd.broker.begin_snapshot(crowd.now, false);
        let busy = 1 + crowd.below(30);
        loop {
            for _ in 0..crowd.below(busy) {
                // Now and then sessions expire.
                let ms = if crowd.below(20) == 0 { 60_000 } else { 10 };
                crowd.now.mono_ms += ms;
                crowd.now.wall_s += ms / 1000;
                crowd.broker.on_timers(crowd.now);
                crowd.act();
            }
            crowd.broker.check_invariants();
            let most = 1 + crowd.below(4) as usize;
            if crowd.broker.snapshot_slice(most, &mut |item| picture.add(item)) == SnapshotState::Done {
                break;
            }
        }
        assert_eq!(picture.finish(), expected, "seed {seed}");
    }
}

#[test]
fn what_is_restored_is_what_was_stored() {
    for seed in 1..=100 {
        let mut crowd = Crowd::new(seed * 7);
        for _ in 0..crowd.below(600) {
            crowd.act();
        }
        let now = crowd.now;
        let expected = Picture::at_once(&mut crowd.broker, now, true);
        let mut copy = Broker::new(settings(), KEYS, now);
        crowd.broker.begin_snapshot(now, true);
        let _all = crowd.broker.snapshot_slice(usize::MAX, &mut |item| match item {
            Item::Session(session) => _ = copy.restore_session(now, &session).unwrap(),
            Item::Entry(client_id, entry) => {
                let id = copy.restore_stub(client_id).unwrap();
                assert!(copy.restore_entry(id, entry.cloned()), "{entry:?}");
            }
            Item::Subscription(client_id, sub) => {
                let id = copy.restore_stub(client_id).unwrap();
                assert!(copy.restore_subscription(id, &sub));
            }
            Item::Retained(msg) => assert!(copy.restore_retained(msg.clone())),
        });
        copy.restored(now);
        copy.check_invariants();
        assert!(!copy.is_altered());
        assert_eq!(Picture::at_once(&mut copy, now, true), expected, "seed {seed}");
        // And it goes on as if nothing had happened.
        crowd.broker = copy;
        crowd.online.clear();
        for _ in 0..300 {
            crowd.act();
            crowd.broker.check_invariants();
        }
    }
}

#[test]
fn nothing_that_does_not_last_counts_as_a_change() {
    let mut crowd = Crowd::new(1);
    let connect = |crowd: &mut Crowd, client_id: &str, expiry_s| {
        let conn = ConnId(crowd.conns.insert(()).unwrap());
        let request = ConnectRequest {
            conn,
            client_id,
            username: None,
            clean_start: false,
            expiry_s,
            version: ProtocolVersion::V5,
            bridge: false,
            rules: crate::broker::auth::access::RulesId::GLOBAL,
            listener_port: 1883,
            receive_maximum: None,
            will: None,
        };
        (crowd.broker.connect(crowd.now, request).unwrap().session, conn)
    };
    let publish = |crowd: &mut Crowd, topic: &str, retain| {
        let qos = QoS::AtLeastOnce;
        let new = NewMessage { topic, payload: b"x", qos, retain, props: &[], expiry_s: None };
        crowd.broker.publish(crowd.now, None, &Msg::new(crowd.now, &new).unwrap());
    };
    let altered = |crowd: &mut Crowd| {
        let altered = crowd.broker.is_altered();
        crowd.broker.set_unaltered();
        altered
    };
    let subscribe = |crowd: &mut Crowd, id| {
        let options = SubOptions { qos: QoS::AtLeastOnce, ..SubOptions::default() };
        crowd.broker.subscribe(id, SubscribeRequest { filter: "a", share: None, options, id: 0 }).unwrap();
    };
    let (clean, conn) = connect(&mut crowd, "clean", 0);
    subscribe(&mut crowd, clean);
    publish(&mut crowd, "a", false);
    publish(&mut crowd, "$SYS/x", true);
    let Pulled::Item(Outgoing::Publish { id: Some(packet), .. }) = crowd.broker.pull(crowd.now, clean, &mut 9) else {
        panic!("a message");
    };
    crowd.broker.puback(clean, packet);
    crowd.broker.disconnect(crowd.now, clean, conn, Ending { will: false, expiry_s: None });
    assert!(!altered(&mut crowd), "a session that ends");
    assert_eq!(crowd.broker.stored_changes(), 0);
    publish(&mut crowd, "kept", true);
    assert!(altered(&mut crowd), "a retained message");
    let (lasting, conn) = connect(&mut crowd, "lasting", NEVER);
    assert!(altered(&mut crowd), "a new session");
    crowd.broker.disconnect(crowd.now, lasting, conn, Ending { will: false, expiry_s: None });
    connect(&mut crowd, "lasting", NEVER);
    assert!(!altered(&mut crowd), "the same client back");
    subscribe(&mut crowd, lasting);
    assert!(altered(&mut crowd));
    publish(&mut crowd, "a", false);
    assert!(altered(&mut crowd), "queued");
    let Pulled::Item(Outgoing::Publish { id: Some(packet), .. }) = crowd.broker.pull(crowd.now, lasting, &mut 9) else {
        panic!("a message");
    };
    assert!(altered(&mut crowd), "sent");
    crowd.broker.puback(lasting, packet);
    assert!(altered(&mut crowd), "acknowledged");
    // A connect, a subscription, a retained message, a message queued and one acknowledged, and the client back.
    assert_eq!(crowd.broker.stored_changes(), 6);
}

#[test]
fn a_slice_is_as_long_as_asked_for() {
    let mut crowd = Crowd::new(3);
    for _ in 0..3000 {
        crowd.act();
    }
    for most in [1, 5, 64] {
        crowd.broker.begin_snapshot(crowd.now, false);
        let mut slices = 0;
        loop {
            let mut given = 0;
            let state = crowd.broker.snapshot_slice(most, &mut |_| given += 1);
            // A session that was copied comes with its first messages.
            assert!(given <= most + 1, "{given} for {most}");
            slices += 1;
            if state == SnapshotState::Done {
                break;
            }
            crowd.act();
        }
        assert!(slices > 40 / most, "{slices} of {most}");
    }
}

#[test]
fn a_queue_that_does_not_fit_a_slice_is_copied_from_where_it_was() {
    let mut crowd = Crowd::new(9);
    let conn = ConnId(crowd.conns.insert(()).unwrap());
    let request = |conn| ConnectRequest {
        conn,
        client_id: "slow",
        username: None,
        clean_start: false,
        expiry_s: NEVER,
        version: ProtocolVersion::V5,
        bridge: false,
        rules: crate::broker::auth::access::RulesId::GLOBAL,
        listener_port: 1883,
        receive_maximum: None,
        will: None,
    };
    let id = crowd.broker.connect(crowd.now, request(conn)).unwrap().session;
    let options = SubOptions { qos: QoS::AtLeastOnce, ..SubOptions::default() };
    crowd.broker.subscribe(id, SubscribeRequest { filter: "#", share: None, options, id: 0 }).unwrap();
    for _ in 0..100 {
        let new =
            NewMessage { topic: "a", payload: b"x", qos: QoS::AtLeastOnce, retain: false, props: &[], expiry_s: None };
        crowd.broker.publish(crowd.now, None, &Msg::new(crowd.now, &new).unwrap());
    }
    let mut places = Vec::new();
    crowd.broker.begin_snapshot(crowd.now, false);
    let mut take = |broker: &mut Broker, most| {
        broker.snapshot_slice(most, &mut |item| {
            if let Item::Entry(_, entry) = item {
                places.push((entry.place, entry.id));
            }
        })
    };
    take(&mut crowd.broker, 40);
    while let Pulled::Item(_) = crowd.broker.pull(crowd.now, id, &mut 9) {}
    while take(&mut crowd.broker, 7) == SnapshotState::More {}
    let expected: Vec<_> = (1..=100).map(|id| (Place::Queued, id)).collect();
    assert_eq!(places, expected);
}

//! Sessions that end and what becomes of what they leave.

use super::*;
use crate::broker::message::NewMessage;
use crate::broker::subs::SubOptions;
use crate::broker::{Outgoing, Pulled, SubscribeRequest};
use crate::slab::Key;
use crate::wire::QoS;

const START: Now = Now { mono_ms: 1_000_000, wall_s: 1_700_000_000 };

fn later(ms: u64) -> Now {
    Now { mono_ms: START.mono_ms + ms, wall_s: START.wall_s + ms / 1000 }
}

fn broker() -> Broker {
    Broker::new(Global { sys_interval: 0, ..Global::default() }, [1, 2], START)
}

fn request(conn: u32, client_id: &str, clean_start: bool, expiry_s: u32) -> ConnectRequest<'_> {
    ConnectRequest {
        conn: ConnId(Key::from_bits(conn)),
        client_id,
        username: None,
        clean_start,
        expiry_s,
        version: ProtocolVersion::V5,
        bridge: false,
        rules: crate::broker::auth::access::RulesId::GLOBAL,
        listener_port: 1883,
        receive_maximum: Some(20),
        will: None,
    }
}

fn share(broker: &mut Broker, session: SessionId, share: &str, id: u32) {
    let options = SubOptions { qos: QoS::AtLeastOnce, ..SubOptions::default() };
    let request = SubscribeRequest { filter: "t", share: Some(share), options, id };
    broker.subscribe(session, request).unwrap();
}

fn publish(broker: &mut Broker, payload: &[u8]) {
    let new = NewMessage { topic: "t", payload, qos: QoS::AtLeastOnce, retain: false, props: &[], expiry_s: None };
    broker.publish(START, None, &Msg::new(START, &new).unwrap());
}

fn pulled(broker: &mut Broker, session: SessionId) -> Vec<String> {
    let mut got = Vec::new();
    while let Pulled::Item(Outgoing::Publish { msg, sub_id, .. }) = broker.pull(START, session, &mut 1000) {
        got.push(format!("{} {sub_id}", String::from_utf8_lossy(msg.payload())));
    }
    got
}

#[test]
fn every_unacknowledged_shared_message_goes_to_another_member() {
    let mut broker = broker();
    let leaving = broker.connect(START, request(1, "leaving", true, 0)).unwrap().session;
    let staying = broker.connect(START, request(2, "staying", true, 0)).unwrap().session;
    share(&mut broker, leaving, "g", 1);
    for n in 0..3 {
        publish(&mut broker, &[b'a' + n]);
    }
    pulled(&mut broker, leaving);
    share(&mut broker, staying, "g", 1);
    broker.disconnect(START, leaving, ConnId(Key::from_bits(1)), Ending { will: true, expiry_s: None });
    assert_eq!(pulled(&mut broker, staying), ["a 1", "b 1", "c 1"]);
    broker.check_invariants();
}

#[test]
fn a_message_from_two_groups_is_passed_on_in_both() {
    for ids in [[0, 0], [1, 2]] {
        let mut broker = broker();
        let leaving = broker.connect(START, request(1, "leaving", true, 0)).unwrap().session;
        share(&mut broker, leaving, "g", ids[0]);
        share(&mut broker, leaving, "h", ids[1]);
        publish(&mut broker, b"a");
        publish(&mut broker, b"b");
        let others = [("g", 2), ("h", 3)].map(|(group, conn)| {
            let other = broker.connect(START, request(conn, group, true, 0)).unwrap().session;
            share(&mut broker, other, group, 0);
            other
        });
        broker.disconnect(START, leaving, ConnId(Key::from_bits(1)), Ending { will: true, expiry_s: None });
        for other in others {
            assert_eq!(pulled(&mut broker, other), ["a 0", "b 0"], "{ids:?}");
        }
    }
}

#[test]
fn a_session_that_is_due_is_not_resumed_before_its_timer_ran() {
    // [MQTT-3.1.2-23]
    let mut broker = broker();
    let watch = broker.connect(START, request(9, "watch", true, 0)).unwrap().session;
    share(&mut broker, watch, "g", 0);
    let will = Will {
        topic: "t".into(),
        payload: b"will"[..].into(),
        props: Box::default(),
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_s: 600,
        expiry_s: None,
    };
    let first = ConnectRequest { will: Some(will), ..request(1, "c", true, 10) };
    let session = broker.connect(START, first).unwrap().session;
    broker.disconnect(START, session, ConnId(Key::from_bits(1)), Ending { will: true, expiry_s: None });
    let again = broker.connect(later(20_000), request(2, "c", false, 10)).unwrap();
    assert!(!again.present);
    assert_eq!(pulled(&mut broker, watch), ["will 0"]);
    broker.check_invariants();
}

#[test]
fn a_client_with_a_session_may_replace_it_above_a_lowered_limit() {
    let mut broker = broker();
    let old = broker.connect(START, request(1, "c", true, 0)).unwrap().session;
    broker.connect(START, request(2, "d", true, 0)).unwrap();
    broker.set_settings(Global { global_max_clients: Some(1), sys_interval: 0, ..Global::default() }, START);
    let new = broker.connect(START, request(3, "c", true, 0)).expect("one session for another");
    assert_ne!(new.session, old);
    assert_eq!(broker.take_action(), Some(Action::TakeOver { conn: ConnId(Key::from_bits(1)), by: new.session }));
    assert_eq!(broker.connect(START, request(4, "e", true, 0)), Err(ConnectRefused::TooManyClients));
}

#[test]
fn first_looks_at_retained_messages_share_what_a_turn_has() {
    let mut broker = broker();
    let session = broker.connect(START, request(1, "c", true, 0)).unwrap().session;
    for n in 0..100 {
        let topic = format!("{n:02}/x");
        let new =
            NewMessage { topic: &topic, payload: b"r", qos: QoS::AtMostOnce, retain: true, props: &[], expiry_s: None };
        broker.publish(START, None, &Msg::new(START, &new).unwrap());
    }
    for (filter, before, after, found) in [
        ("+/y", 1000, 996, 0),
        ("+/y", 2, 0, 0),
        ("+/x", 0, 0, 100),
        ("50/x", 0, 0, 1),
        ("50/x", 5, 4, 1),
        ("50/y", 0, 0, 0),
    ] {
        broker.looks_left = before;
        let options = SubOptions { qos: QoS::AtLeastOnce, ..SubOptions::default() };
        broker.subscribe(session, SubscribeRequest { filter, share: None, options, id: 0 }).unwrap();
        assert_eq!((broker.looks_left, pulled(&mut broker, session).len()), (after, found), "{filter}");
    }
}

#[test]
fn the_subscriptions_of_a_session_that_ends_go_in_slices() {
    let mut broker = broker();
    let many = SUBSCRIPTIONS_PER_TURN + 1000;
    let leaving = broker.connect(START, request(1, "leaving", true, 0)).unwrap().session;
    let staying = broker.connect(START, request(2, "staying", true, 0)).unwrap().session;
    let subscribe = |broker: &mut Broker, session, filter: &str, share| {
        let options = SubOptions { qos: QoS::AtLeastOnce, ..SubOptions::default() };
        broker.subscribe(session, SubscribeRequest { filter, share, options, id: 0 }).unwrap();
    };
    // Both kinds, those that are published to last.
    for i in 0..many {
        subscribe(&mut broker, leaving, &format!("{i}/+"), (i % 2 == 0).then_some("g"));
    }
    for session in [leaving, staying] {
        subscribe(&mut broker, session, "t", Some("g"));
        subscribe(&mut broker, session, "t", None);
    }
    broker.disconnect(START, leaving, ConnId(Key::from_bits(1)), Ending { will: false, expiry_s: None });
    assert_eq!((broker.session_count(), broker.find_client("leaving")), (1, None));
    assert!(broker.subscription_counts().0 > 2, "some wait for their turn");
    assert_eq!(broker.next_deadline(), Some(0), "which comes without anything else");
    broker.check_invariants();

    // What is published meanwhile reaches those who are there, and whoever comes under the same name has nothing of it.
    for n in 0..10 {
        publish(&mut broker, b"m");
        let other = broker.connect(START, request(10 + n, "leaving", true, 0)).unwrap().session;
        assert_ne!(other.0.index(), leaving.0.index(), "nobody has its place");
        assert!(pulled(&mut broker, other).is_empty());
        broker.disconnect(START, other, ConnId(Key::from_bits(10 + n)), Ending { will: false, expiry_s: None });
    }
    assert_eq!(pulled(&mut broker, staying).len(), 20, "its own and what is shared");

    let mut turns = 0;
    while broker.next_deadline() == Some(0) {
        broker.on_timers(START);
        turns += 1;
    }
    assert_eq!((turns, broker.subscription_counts()), (2, (1, 1)));
    let again = broker.connect(START, request(1, "again", true, 0)).unwrap().session;
    assert_eq!(again.0.index(), leaving.0.index());
    broker.check_invariants();
}

#[test]
fn a_will_that_waits_and_subscriptions_that_leave_go_together() {
    let mut broker = broker();
    let will = Will {
        topic: "w".into(),
        payload: Box::default(),
        props: Box::default(),
        qos: QoS::AtMostOnce,
        retain: false,
        delay_s: 1,
        expiry_s: None,
    };
    let id = broker.connect(START, ConnectRequest { will: Some(will), ..request(1, "c", true, 0) }).unwrap().session;
    for i in 0..=SUBSCRIPTIONS_AT_ONCE {
        let options = SubOptions::default();
        broker.subscribe(id, SubscribeRequest { filter: &i.to_string(), share: None, options, id: 0 }).unwrap();
    }
    broker.disconnect(START, id, ConnId(Key::from_bits(1)), Ending { will: true, expiry_s: None });
    assert_eq!(broker.subscription_counts().0, 1);
    // It comes back before either is gone.
    let next = broker.connect(START, request(2, "c", true, 0)).unwrap().session;
    assert_ne!(next.0.index(), id.0.index());
    broker.on_timers(later(2000));
    assert_eq!((broker.subscription_counts().0, broker.session_count()), (0, 1));
    broker.check_invariants();
    let third = broker.connect(START, request(3, "d", true, 0)).unwrap().session;
    assert_eq!(third.0.index(), id.0.index());
}

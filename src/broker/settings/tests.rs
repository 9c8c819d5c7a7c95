//! New settings against sessions and messages that were there before.

use super::*;
use crate::broker::message::{Msg, NewMessage};
use crate::broker::subs::SubOptions;
use crate::broker::{ConnId, ConnectRequest, Ending, Outgoing, Pulled, Received, SessionId, SubscribeRequest};
use crate::slab::Key;
use crate::wire::{PacketId, ProtocolVersion, QoS};

const START: Now = Now { mono_ms: 1_000_000, wall_s: 1_700_000_000 };

fn later(s: u64) -> Now {
    Now { mono_ms: START.mono_ms + s * 1000, wall_s: START.wall_s + s }
}

fn quiet() -> Global {
    Global { sys_interval: 0, ..Global::default() }
}

fn broker(settings: Global) -> Broker {
    Broker::new(settings, [1, 2], START)
}

fn connect(broker: &mut Broker, client_id: &str, version: ProtocolVersion, expiry_s: u32) -> (SessionId, ConnId) {
    let conn = ConnId(Key::from_bits(u32::try_from(broker.session_count()).unwrap() + 1));
    let request = ConnectRequest {
        conn,
        client_id,
        username: Some("ann"),
        clean_start: false,
        expiry_s,
        version,
        bridge: false,
        rules: crate::broker::auth::access::RulesId::GLOBAL,
        listener_port: 1883,
        receive_maximum: None,
        will: None,
    };
    (broker.connect(START, request).unwrap().session, conn)
}

fn message(topic: &str, qos: QoS, retain: bool) -> Msg {
    Msg::new(START, &NewMessage { topic, payload: b"x", qos, retain, props: &[], expiry_s: None }).unwrap()
}

fn subscribe(broker: &mut Broker, session: SessionId, filter: &str) {
    let options = SubOptions { qos: QoS::ExactlyOnce, ..SubOptions::default() };
    broker.subscribe(session, SubscribeRequest { filter, share: None, options, id: 0 }).unwrap();
}

fn pulled(broker: &mut Broker, session: SessionId) -> usize {
    let mut n = 0;
    while let Pulled::Item(Outgoing::Publish { .. }) = broker.pull(START, session, &mut 1000) {
        n += 1;
    }
    broker.set_clean(session);
    n
}

#[test]
fn a_wider_window_lets_what_waited_go_at_once() {
    let mut broker = broker(Global { max_inflight_messages: 2, ..quiet() });
    let (session, conn) = connect(&mut broker, "c", ProtocolVersion::V311, 0);
    subscribe(&mut broker, session, "t");
    for _ in 0..10 {
        broker.publish(START, None, &message("t", QoS::AtLeastOnce, false));
    }
    assert_eq!(pulled(&mut broker, session), 2);
    broker.take_dirty(&mut Vec::new());
    broker.set_settings(Global { max_inflight_messages: 5, ..quiet() }, START);
    let mut dirty = Vec::new();
    broker.take_dirty(&mut dirty);
    assert_eq!(dirty, [conn], "it is flushed without a further packet");
    assert_eq!(pulled(&mut broker, session), 3);
    broker.set_settings(Global { max_inflight_messages: 0, max_inflight_bytes: 7, ..quiet() }, START);
    assert_eq!(pulled(&mut broker, session), 2, "now bytes count");
    broker.check_invariants();
}

#[test]
fn what_a_client_said_it_takes_is_not_exceeded_by_a_wider_window() {
    let mut broker = broker(Global { max_inflight_messages: 2, ..quiet() });
    let request = ConnectRequest {
        conn: ConnId(Key::from_bits(1)),
        client_id: "c",
        username: None,
        clean_start: true,
        expiry_s: 0,
        version: ProtocolVersion::V5,
        bridge: false,
        rules: crate::broker::auth::access::RulesId::GLOBAL,
        listener_port: 1883,
        receive_maximum: Some(2),
        will: None,
    };
    let session = broker.connect(START, request).unwrap().session;
    subscribe(&mut broker, session, "t");
    for _ in 0..10 {
        broker.publish(START, None, &message("t", QoS::AtLeastOnce, false));
    }
    broker.set_settings(Global { max_inflight_messages: 100, ..quiet() }, START);
    assert_eq!(pulled(&mut broker, session), 2);
}

#[test]
fn what_a_v5_client_was_told_it_may_send_holds_for_its_connection() {
    // [MQTT-3.3.4-9]: to refuse it would lose a message of a client that keeps to the rule.
    let mut broker = broker(Global { max_inflight_messages: 3, ..quiet() });
    let (new, _) = connect(&mut broker, "new", ProtocolVersion::V5, 0);
    let (old, _) = connect(&mut broker, "old", ProtocolVersion::V311, 0);
    broker.set_settings(Global { max_inflight_messages: 1, ..quiet() }, START);
    let send = |broker: &mut Broker, session, id| {
        broker.receive_qos2(session, PacketId::new(id).unwrap(), message(&id.to_string(), QoS::ExactlyOnce, false))
    };
    let got: Vec<Received> = (1..=4).map(|id| send(&mut broker, new, id)).collect();
    assert_eq!(got, [Received::Stored, Received::Stored, Received::Stored, Received::OverQuota]);
    let got: Vec<Received> = (1..=2).map(|id| send(&mut broker, old, id)).collect();
    assert_eq!(got, [Received::Stored, Received::Withheld], "a v3 client was told nothing and loses nothing");
}

#[test]
fn sessions_are_capped_from_when_their_clients_left() {
    let mut broker = broker(quiet());
    for (client_id, expiry_s) in [("never", NEVER), ("day", 86_400), ("short", 50), ("here", NEVER)] {
        let (session, conn) = connect(&mut broker, client_id, ProtocolVersion::V5, expiry_s);
        if client_id != "here" {
            broker.disconnect(START, session, conn, Ending { will: false, expiry_s: None });
        }
    }
    let cap = Global { persistent_client_expiration: Some(100), ..quiet() };
    broker.set_settings(cap.clone(), later(40));
    // Again and again: the end must not be put off.
    broker.set_settings(Global { max_keepalive: 1, ..cap.clone() }, later(45));
    broker.set_settings(cap.clone(), later(60));
    broker.check_invariants();
    let mut known = Vec::new();
    for s in [49, 50, 99, 100, 139, 140] {
        broker.on_timers(later(s));
        known.push(broker.session_count());
    }
    // "short" ends by itself; "day" 100 s after it left; "never" 100 s after the first reload.
    assert_eq!(known, [4, 3, 3, 2, 2, 1]);
    let session = broker.sessions.find("here").unwrap();
    let here = broker.conn_of(session).unwrap();
    assert_eq!(broker.session_expiry(session), 100, "who is connected is capped when it leaves");
    broker.set_settings(quiet(), later(150));
    broker.disconnect(later(200), session, here, Ending { will: false, expiry_s: None });
    broker.on_timers(later(299));
    assert_eq!(broker.session_count(), 1);
    broker.on_timers(later(300));
    assert_eq!(broker.session_count(), 0);
}

#[test]
fn retained_messages_wait_while_retain_is_not_available() {
    let mut broker = broker(quiet());
    let (session, _) = connect(&mut broker, "c", ProtocolVersion::V5, 0);
    broker.publish(START, None, &message("t", QoS::AtMostOnce, true));
    broker.set_settings(Global { retain_available: false, ..quiet() }, START);
    subscribe(&mut broker, session, "t");
    assert_eq!((pulled(&mut broker, session), broker.retained_count()), (0, 1));
    broker.set_settings(quiet(), START);
    subscribe(&mut broker, session, "t");
    assert_eq!(pulled(&mut broker, session), 1);
}

#[test]
fn a_reload_does_not_put_off_the_search_for_expired_messages() {
    let minute = Global { retain_expiry_interval: Some(60), ..quiet() };
    let mut broker = broker(minute.clone());
    for s in [20, 40, 59] {
        broker.set_settings(minute.clone(), later(s));
    }
    assert_eq!(broker.next_deadline(), Some(later(60).mono_ms));
    broker.set_settings(Global { retain_expiry_interval: Some(120), ..quiet() }, later(59));
    assert_eq!(broker.next_deadline(), Some(later(179).mono_ms));
    broker.set_settings(quiet(), later(59));
    assert_eq!(broker.next_deadline(), None);
}

#[cfg(feature = "sys-tree")]
#[test]
fn the_sys_tree_goes_and_comes() {
    let every = |s| Global { sys_interval: s, ..Global::default() };
    let mut broker = broker(every(60_000));
    broker.publish_sys(START);
    let all = broker.retained_count();
    broker.publish(START, None, &message("$SYS/broker/connection/b/state", QoS::AtMostOnce, true));
    broker.publish(START, None, &message("mine", QoS::AtMostOnce, true));
    broker.set_settings(every(10), later(5));
    assert!(broker.next_deadline().unwrap() <= later(5).mono_ms, "an update is due at once");
    broker.on_timers(later(5));
    assert!(broker.next_deadline().unwrap() <= later(15).mono_ms);
    broker.set_settings(every(0), later(6));
    assert_eq!((broker.retained_count(), broker.next_deadline()), (2, None));
    broker.set_settings(every(10), later(7));
    broker.on_timers(later(7));
    assert_eq!(broker.retained_count(), all + 2, "the whole tree is back");
    broker.set_settings(Global { retain_available: false, ..every(10) }, later(8));
    broker.on_timers(later(60));
    broker.set_settings(every(10), later(61));
    broker.on_timers(later(61));
    assert_eq!(broker.retained.get("$SYS/broker/uptime").unwrap().payload(), b"61 seconds");
}

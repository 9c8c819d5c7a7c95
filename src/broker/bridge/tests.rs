use super::*;
use crate::broker::{Outgoing, Pulled, Received};
use crate::config::Global;
use crate::wire::QoS;

const CONN: ConnId = ConnId(Key::from_bits(1));

fn at(mono_ms: u64) -> Now {
    Now { mono_ms, wall_s: 1 }
}

fn own<'a>(filters: &'a [(Box<str>, QoS)]) -> BridgeSession<'a> {
    BridgeSession { client_id: "local.b", clean: false, keeps_qos0: false, version: ProtocolVersion::V311, filters }
}

fn broker() -> Broker {
    Broker::new(Global { sys_interval: 0, ..Global::default() }, [1, 2], at(1))
}

fn publish(broker: &mut Broker, from: Option<SessionId>, topic: &str, qos: QoS, retain: bool) {
    let new = NewMessage { topic, payload: b"x", qos, retain, props: &[], expiry_s: None };
    let msg = Msg::new(at(1), &new).unwrap();
    broker.publish(at(1), from, &msg);
}

/// Topics of everything that may be sent, with `r` for retained and `d` for sent again.
fn pull_all(broker: &mut Broker, id: SessionId) -> Vec<String> {
    let mut all = Vec::new();
    while let Pulled::Item(item) = broker.pull(at(1), id, &mut 1000) {
        all.push(match item {
            Outgoing::Publish { msg, retain, dup, .. } => {
                format!("{}{}{}", msg.topic(), if retain { " r" } else { "" }, if dup { " d" } else { "" })
            }
            Outgoing::Pubrel(id) => format!("pubrel {}", id.get()),
        });
    }
    broker.set_clean(id);
    broker.check_invariants();
    all
}

#[test]
fn what_a_bridge_subscribed_to_waits_and_retained_messages_come_at_each_connection() {
    let filters = [("a/#".into(), QoS::AtLeastOnce)];
    let mut broker = broker();
    publish(&mut broker, None, "a/kept", QoS::AtLeastOnce, true);
    broker.open_bridge(at(1), &own(&filters)).unwrap();
    assert_eq!(broker.backlog("local.b"), Backlog::default(), "retained messages wait for the connection");
    publish(&mut broker, None, "a/1", QoS::AtLeastOnce, false);
    publish(&mut broker, None, "a/0", QoS::AtMostOnce, false);
    assert_eq!(broker.backlog("local.b"), Backlog { queued: 1, inflight: 0 });
    let id = broker.attach_bridge(at(2), &own(&filters), CONN, None, 20).unwrap().session;
    assert_eq!(pull_all(&mut broker, id), ["a/kept r", "a/1"]);
    // Nothing of its own comes back.
    publish(&mut broker, Some(id), "a/own", QoS::AtLeastOnce, false);
    assert_eq!(pull_all(&mut broker, id), [""; 0]);
    assert_eq!(broker.first_inflight(id).map(|(packet, _, qos)| (packet.get(), qos)), Some((1, QoS::AtLeastOnce)));
    broker.disconnect(at(3), id, CONN, Ending { will: false, expiry_s: None });
    let id = broker.attach_bridge(at(4), &own(&filters), CONN, None, 20).unwrap().session;
    assert_eq!(pull_all(&mut broker, id), ["a/kept r d", "a/1 d", "a/kept r"]);
    // Other lines: what waited stays, what was subscribed before does not.
    broker.disconnect(at(5), id, CONN, Ending { will: false, expiry_s: None });
    let other = [("b/#".into(), QoS::ExactlyOnce)];
    let id = broker.attach_bridge(at(6), &own(&other), CONN, None, 20).unwrap().session;
    publish(&mut broker, None, "a/2", QoS::AtLeastOnce, false);
    publish(&mut broker, None, "b/2", QoS::AtLeastOnce, false);
    assert_eq!(pull_all(&mut broker, id).last().map(String::as_str), Some("b/2"));
    assert_eq!(broker.subscriptions_of(id).count(), 1);
    broker.close_bridge("local.b");
    assert_eq!(broker.session_count(), 0);
}

#[test]
fn a_lazy_bridge_keeps_qos_0_and_a_clean_one_keeps_nothing() {
    let filters = [("a/#".into(), QoS::ExactlyOnce)];
    let mut broker = broker();
    let lazy = BridgeSession { keeps_qos0: true, ..own(&filters) };
    broker.open_bridge(at(1), &lazy).unwrap();
    publish(&mut broker, None, "a/0", QoS::AtMostOnce, false);
    assert_eq!(broker.backlog("local.b").queued, 1);
    let clean = BridgeSession { client_id: "local.c", clean: true, ..own(&filters) };
    broker.open_bridge(at(1), &clean).unwrap();
    assert!(broker.find_client("local.c").is_none());
    let id = broker.attach_bridge(at(2), &clean, CONN, None, 20).unwrap().session;
    broker.disconnect(at(3), id, CONN, Ending { will: false, expiry_s: None });
    assert!(broker.find_client("local.c").is_none());
}

#[test]
fn nobody_else_has_the_session_and_no_option_ends_it() {
    let filters = [("a/#".into(), QoS::AtLeastOnce)];
    let settings = Global { sys_interval: 0, persistent_client_expiration: Some(1), ..Global::default() };
    let mut broker = Broker::new(settings.clone(), [1, 2], at(1));
    broker.open_bridge(at(1), &own(&filters)).unwrap();
    let thief = ConnectRequest { rules: RulesId::GLOBAL, ..request(&own(&filters), CONN, None) };
    assert_eq!(broker.connect(at(2), thief).err(), Some(ConnectRefused::OfBridge));
    broker.set_settings(Global { persistent_client_expiration: Some(2), ..settings }, at(3));
    broker.on_timers(at(1_000_000_000));
    assert!(broker.find_client("local.b").is_some(), "it never expires");
}

#[test]
fn qos_is_lowered_and_identifiers_are_not_handed_out_twice() {
    let filters = [("a/#".into(), QoS::ExactlyOnce)];
    let mut broker = broker();
    let id = broker.attach_bridge(at(1), &own(&filters), CONN, None, 20).unwrap().session;
    let notification = broker.next_packet_id(id).unwrap();
    (0..3).for_each(|_| publish(&mut broker, None, "a/2", QoS::ExactlyOnce, false));
    assert_eq!(pull_all(&mut broker, id).len(), 3);
    let first = broker.first_inflight(id).unwrap().0;
    assert_ne!(first, notification);
    let packet = |n| PacketId::new(n).unwrap();
    broker.lower_qos(id, first, QoS::AtLeastOnce);
    assert_eq!(broker.puback(id, first), crate::broker::Acked::Done);
    broker.lower_qos(id, packet(3), QoS::AtMostOnce);
    assert_eq!(broker.pubrec(id, packet(3), false), crate::broker::Acked::Unknown, "it is done");
    broker.pubrec(id, packet(4), false);
    assert_eq!(broker.inflight_message(id, packet(4)).map(|(msg, _)| msg.is_none()), Some(true));
    broker.lower_qos(id, packet(4), QoS::AtLeastOnce);
    assert!(broker.first_inflight(id).is_none(), "the peer has it");
    broker.check_invariants();
}

#[test]
fn incoming_qos_2_is_forgotten_with_the_other_brokers_session() {
    let mut broker = broker();
    let id = broker.attach_bridge(at(1), &own(&[]), CONN, None, 20).unwrap().session;
    let new =
        NewMessage { topic: "a", payload: b"x", qos: QoS::ExactlyOnce, retain: false, props: &[], expiry_s: None };
    for n in 1..=3 {
        let msg = Msg::new(at(1), &new).unwrap();
        assert_eq!(broker.receive_qos2(id, PacketId::new(n).unwrap(), msg), Received::Stored);
    }
    broker.forget_incoming(id);
    assert!(broker.release(at(2), id, PacketId::new(2).unwrap()).is_none());
    broker.check_invariants();
}

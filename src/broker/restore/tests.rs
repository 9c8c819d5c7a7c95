//! State from files of others, and from broken ones.

use super::*;
use crate::broker::stored::Place;
use crate::broker::subs::SubOptions;
use crate::broker::{ConnId, ConnectRequest, Outgoing, Pulled};
use crate::config::Global;
use crate::slab::Key;
use crate::wire::{PacketId, QoS};

const NOW: Now = Now { mono_ms: 1_000_000, wall_s: 1_700_000_000 };

fn broker() -> Broker {
    Broker::new(Global { sys_interval: 0, ..Global::default() }, [1, 2], NOW)
}

fn msg(payload: &str) -> Msg {
    let new = NewMessage {
        topic: "t",
        payload: payload.as_bytes(),
        qos: QoS::ExactlyOnce,
        retain: false,
        props: &[],
        expiry_s: None,
    };
    Msg::new(NOW, &new).unwrap()
}

fn entry(place: Place, qos: u8, id: u16, payload: &str) -> StoredEntry<Msg> {
    let qos = QoS::from_bits(qos).unwrap();
    StoredEntry { place, msg: Some(msg(payload)), id, qos, retain: false, sub_id: 0 }
}

fn session(client_id: &str, expiry_s: u32, ends_wall_s: Option<u64>, last_id: u16) -> StoredSession<'_> {
    StoredSession { client_id, username: None, listener_port: 1883, expiry_s, ends_wall_s, last_id }
}

fn back(broker: &mut Broker, client_id: &str) -> (SessionId, bool) {
    let request = ConnectRequest {
        conn: ConnId(Key::from_bits(1)),
        client_id,
        username: None,
        clean_start: false,
        expiry_s: NEVER,
        version: ProtocolVersion::V5,
        bridge: false,
        rules: crate::broker::auth::access::RulesId::GLOBAL,
        listener_port: 1883,
        receive_maximum: Some(1000),
        will: None,
    };
    let connected = broker.connect(NOW, request).unwrap();
    (connected.session, connected.present)
}

fn pulled(broker: &mut Broker, id: SessionId) -> Vec<(String, u16, bool)> {
    let mut got = Vec::new();
    while let Pulled::Item(item) = broker.pull(NOW, id, &mut 1000) {
        got.push(match item {
            Outgoing::Publish { msg, id, dup, .. } => {
                (String::from_utf8_lossy(msg.payload()).into_owned(), id.map_or(0, PacketId::get), dup)
            }
            Outgoing::Pubrel(id) => ("PUBREL".into(), id.get(), true),
        });
    }
    broker.check_invariants();
    got
}

fn restored(last_id: u16, entries: &[StoredEntry<Msg>]) -> Vec<(String, u16, bool)> {
    let mut broker = broker();
    let id = broker.restore_session(NOW, &session("c", NEVER, None, last_id)).unwrap();
    for entry in entries {
        broker.restore_entry(id, entry.clone());
    }
    broker.restored(NOW);
    broker.check_invariants();
    let (id, present) = back(&mut broker, "c");
    assert!(present);
    pulled(&mut broker, id)
}

fn got(list: &[(&str, u16, bool)]) -> Vec<(String, u16, bool)> {
    list.iter().map(|(text, id, dup)| ((*text).to_string(), *id, *dup)).collect()
}

#[test]
fn messages_are_sent_with_their_stored_identifiers() {
    use Place::{Queued, Released, Sent};
    let entries = [
        entry(Sent, 1, 7, "a"),
        entry(Released, 2, 8, "gone"),
        entry(Sent, 2, 9, "b"),
        entry(Queued, 1, 10, "c"),
        entry(Queued, 0, 0, "d"),
        entry(Queued, 2, 11, "e"),
    ];
    let expected =
        [("a", 7, true), ("PUBREL", 8, true), ("b", 9, true), ("c", 10, false), ("d", 0, false), ("e", 11, false)];
    assert_eq!(restored(11, &entries), got(&expected));
    assert_eq!(restored(0, &entries), got(&expected), "even if the last identifier was not stored");
}

#[test]
fn identifiers_that_clash_or_are_missing_are_fresh() {
    use Place::{Queued, Sent};
    let entries = [
        entry(Sent, 1, 500, "a"),
        entry(Sent, 1, 3, "b"),
        entry(Sent, 1, 500, "again"),
        entry(Sent, 2, 0, "none"),
        entry(Queued, 1, 3, "c"),
    ];
    let got = restored(1, &entries);
    assert_eq!(got[..2], [("a".into(), 500, true), ("b".into(), 3, true)]);
    let mut ids: Vec<u16> = got.iter().map(|(_, id, _)| *id).collect();
    assert_eq!(
        got[2..].iter().map(|(text, _, dup)| (&text[..], *dup)).collect::<Vec<_>>(),
        [("again", false), ("none", false), ("c", false)]
    );
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), ids[0]), (5, 3), "none is 0 and none twice");
}

#[test]
fn identifiers_in_any_order_are_found_again() {
    let ids = [40_000u16, 3, 65_535, 1, 7, 500];
    let mut broker = broker();
    let id = broker.restore_session(NOW, &session("c", NEVER, None, 9)).unwrap();
    for (n, packet) in ids.iter().enumerate() {
        assert!(broker.restore_entry(id, entry(Place::Sent, 1, *packet, &n.to_string())));
    }
    broker.restored(NOW);
    let (id, _) = back(&mut broker, "c");
    assert_eq!(pulled(&mut broker, id).iter().map(|(_, id, _)| *id).collect::<Vec<_>>(), ids);
    for packet in ids {
        assert_eq!(broker.puback(id, PacketId::new(packet).unwrap()), crate::broker::Acked::Done);
        broker.check_invariants();
    }
}

#[test]
fn what_cannot_be_a_message_of_a_session_is_not_taken() {
    let mut broker = broker();
    let id = broker.restore_session(NOW, &session("c", NEVER, None, 0)).unwrap();
    let without = StoredEntry { msg: None, ..entry(Place::Queued, 1, 4, "") };
    assert!(!broker.restore_entry(id, without));
    assert!(!broker.restore_entry(id, StoredEntry { msg: None, ..entry(Place::Sent, 2, 4, "") }));
    assert!(!broker.restore_entry(id, entry(Place::Received, 2, 0, "no identifier")));
    assert!(!broker.restore_entry(id, entry(Place::Released, 2, 0, "no identifier")));
    assert!(broker.restore_entry(id, StoredEntry { msg: None, ..entry(Place::Released, 2, 4, "") }));
    assert!(!broker.restore_entry(id, entry(Place::Released, 2, 4, "twice")));
    let sub = |filter| StoredSubscription { filter, options: SubOptions::default(), id: 0 };
    for filter in ["", "a/#/b", "$share/x", "$share/#/a"] {
        assert!(!broker.restore_subscription(id, &sub(filter)), "{filter}");
    }
    assert!(broker.restore_subscription(id, &sub("$share/x/a/#")));
    assert_eq!(broker.subscription_counts(), (0, 1));
    assert!(!broker.restore_retained(own_topic()));
    broker.check_invariants();
}

fn own_topic() -> Msg {
    let qos = QoS::AtMostOnce;
    let new = NewMessage { topic: "$SYS/broker/uptime", payload: b"1", qos, retain: true, props: &[], expiry_s: None };
    Msg::new(NOW, &new).unwrap()
}

#[test]
fn a_received_message_waits_for_its_release() {
    let mut broker = broker();
    let id = broker.restore_session(NOW, &session("c", NEVER, None, 0)).unwrap();
    assert!(broker.restore_entry(id, entry(Place::Received, 2, 5, "x")));
    broker.restored(NOW);
    let (id, _) = back(&mut broker, "c");
    assert_eq!(pulled(&mut broker, id), []);
    let packet = PacketId::new(5).unwrap();
    assert_eq!(broker.receive_qos2(id, packet, msg("x")), crate::broker::Received::Stored, "the same again");
    assert!(broker.release(NOW, id, packet).is_some());
    assert!(broker.release(NOW, id, packet).is_none());
}

#[test]
fn sessions_end_when_their_time_has_come() {
    let mut broker = broker();
    let s = |id, expiry_s, ends| session(id, expiry_s, ends, 0);
    broker.restore_session(NOW, &s("never", NEVER, Some(5)));
    broker.restore_session(NOW, &s("passed", 60, Some(NOW.wall_s - 1)));
    broker.restore_session(NOW, &s("later", 60, Some(NOW.wall_s + 10)));
    broker.restore_session(NOW, &s("connected", 60, None));
    broker.restore_session(NOW, &s("zero", 0, None));
    let stub = broker.restore_stub("unknown").unwrap();
    broker.restore_entry(stub, entry(Place::Queued, 1, 1, "x"));
    // A client that comes after its messages.
    let late = broker.restore_stub("late").unwrap();
    broker.restore_entry(late, entry(Place::Queued, 1, 1, "x"));
    broker.restore_session(NOW, &s("late", NEVER, None));
    broker.restored(NOW);
    broker.check_invariants();
    let mut there = |at_s: u64| {
        let now = Now { mono_ms: NOW.mono_ms + at_s * 1000, wall_s: NOW.wall_s + at_s };
        broker.on_timers(now);
        broker.check_invariants();
        ["never", "passed", "later", "connected", "zero", "unknown", "late"]
            .into_iter()
            .filter(|id| broker.sessions.find(id).is_some())
            .collect::<Vec<_>>()
    };
    assert_eq!(there(0), ["never", "later", "connected", "late"]);
    assert_eq!(there(11), ["never", "connected", "late"]);
    assert_eq!(there(61), ["never", "late"]);
}

#[test]
fn the_configuration_caps_restored_sessions_too() {
    let settings = Global { sys_interval: 0, persistent_client_expiration: Some(30), ..Global::default() };
    let mut broker = Broker::new(settings, [1, 2], NOW);
    for (id, expiry_s, ends) in [("a", NEVER, None), ("b", 1000, Some(NOW.wall_s + 900)), ("c", 10, None)] {
        broker.restore_session(NOW, &session(id, expiry_s, ends, 0));
    }
    broker.restored(NOW);
    let ends = |id| broker.sessions.get(broker.sessions.find(id).unwrap()).unwrap().ends_ms - NOW.mono_ms;
    assert_eq!([ends("a"), ends("b"), ends("c")], [30_000, 30_000, 10_000]);
}

#[test]
fn of_two_sessions_with_one_client_id_the_later_counts_and_the_first_name() {
    let mut broker = broker();
    let first = StoredSession { username: Some("first"), ..session("c", 100, Some(NOW.wall_s), 9) };
    let second = StoredSession { username: Some("second"), ..session("c", NEVER, None, 0) };
    let id = broker.restore_session(NOW, &first).unwrap();
    assert_eq!(broker.restore_session(NOW, &second), Some(id));
    broker.restored(NOW);
    let session = broker.sessions.get(id).unwrap();
    assert_eq!((session.username(), session.expiry_s, session.last_id, session.ends_ms), (Some("first"), NEVER, 9, 0));
}

#[test]
fn a_message_goes_on_expiring() {
    let broker = broker();
    let new = NewMessage { topic: "t", payload: b"", qos: QoS::AtMostOnce, retain: false, props: &[], expiry_s: None };
    let msg = broker.restore_message(NOW, &new, Some(10), None, 0).unwrap();
    assert_eq!(msg.exact_expiry_left_s(NOW), Some(10));
    let never = broker.restore_message(NOW, &new, None, None, 0).unwrap();
    assert_eq!(never.exact_expiry_left_s(NOW), None);
}

//! CONNECT and what becomes of sessions [SN 6.2, 6.3, 6.12].

use super::*;
use crate::proto::sn::wire::WillTopic;

/// [SN 6.2]
#[test]
fn a_client_without_a_will_is_connected_at_once() {
    let mut world = World::new();
    world.ask(1, connect("dev", true, 60), &[ACCEPTED]);
    assert_eq!(world.state_of("dev"), Client::Active);
    let session = world.broker.find_client("dev").unwrap();
    assert_eq!(world.broker.session_expiry(session), 0);
    world.ask(2, connect("stays", false, 60), &[ACCEPTED]);
    let session = world.broker.find_client("stays").unwrap();
    assert_eq!(world.broker.session_expiry(session), NEVER);
    assert_eq!(world.gateway.take_moves().collect::<Vec<_>>(), [(0, true), (0, true)]);
}

/// [SN 6.2]: a refusal is always told.
#[test]
fn what_is_refused_has_its_code() {
    let no = Message::Connack(ReturnCode::NOT_SUPPORTED);
    let busy = Message::Connack(ReturnCode::CONGESTION);
    let proto = |protocol_id, client_id: &'static [u8]| {
        Message::Connect(Connect { will: false, clean_session: true, protocol_id, duration_s: 60, client_id })
    };
    for (options, message, answer) in [
        ("allow_anonymous true", proto(2, b"dev"), no),
        ("allow_anonymous true", proto(0, b"dev"), no),
        ("allow_anonymous true", proto(1, b"\xFF"), no),
        ("allow_anonymous true", proto(1, b"a\0"), no),
        ("allow_anonymous true", connect("", false, 60), no),
        ("allow_anonymous true", connect("", true, 60), ACCEPTED),
        ("allow_anonymous true\nallow_zero_length_clientid false", connect("", true, 60), no),
        ("allow_anonymous true\nclientid_prefixes x-", connect("dev", true, 60), no),
        ("allow_anonymous true\nclientid_prefixes x-", connect("x-dev", true, 60), ACCEPTED),
        ("allow_anonymous true\nmax_keepalive 50", connect("dev", true, 60), no),
        ("allow_anonymous true\nmax_keepalive 50", connect("dev", true, 0), no),
        ("allow_anonymous true\nmax_keepalive 60", connect("dev", true, 60), ACCEPTED),
        ("allow_anonymous false", connect("dev", true, 60), no),
        ("", connect("dev", true, 60), no),
        ("mqttsn_user u", connect("dev", true, 60), ACCEPTED),
        ("mqttsn_use_clientid_as_username true", connect("dev", true, 60), ACCEPTED),
        ("allow_anonymous true\nglobal_max_clients 0", connect("dev", true, 60), ACCEPTED),
    ] {
        let mut world = World::with(options);
        world.ask(1, message, &[answer]);
    }
    let mut world = World::with("allow_anonymous true\nmax_connections 2");
    world.join(1, "a");
    world.join(2, "b");
    world.ask(3, connect("c", true, 60), &[busy]);
    world.join(4, "b");
    world.expect(2, &[GOODBYE]);
    world.ask(1, GOODBYE, &[GOODBYE]);
    world.join(3, "c");
}

/// [SN 6.2]: the broker makes a client id, and a repeated CONNECT does not make another.
#[test]
fn an_empty_client_id_is_replaced_once() {
    let mut world = World::new();
    world.join(1, "");
    world.join(1, "");
    assert_eq!(world.gateway.len(), 1);
    let session = world.broker.client_parts();
    assert_eq!(session, 1);
    let id = world.gateway.clients()[0];
    let conn = world.gateway.connection(id).unwrap();
    assert_eq!((conn.keepalive_s, conn.listener_port, conn.peer.port()), (60, 1884, 1));
}

/// `[conf: mqttsn_user]`, `[conf: mqttsn_use_clientid_as_username]`
#[test]
fn the_listener_says_who_a_client_is() {
    for (options, user) in [
        ("allow_anonymous true", None),
        ("mqttsn_user all", Some("all")),
        ("mqttsn_use_clientid_as_username true", Some("dev")),
        ("mqttsn_user all\nmqttsn_use_clientid_as_username true", Some("dev")),
    ] {
        let mut world = World::with(options);
        world.join(1, "dev");
        let session = world.broker.find_client("dev").unwrap();
        let client = world.broker.client(world.now, session).unwrap();
        assert_eq!(client.username, user, "{options}");
    }
}

/// [SN 6.2]: an acknowledgement that was lost, or a datagram that came twice.
#[test]
fn a_repeated_connect_is_answered_and_changes_nothing() {
    let mut world = World::new();
    world.join(1, "dev");
    world.join(1, "dev");
    world.subscribe(1, "a/b", QosField::AtLeastOnce);
    // A late copy must not take the subscription away.
    world.join(1, "dev");
    world.publish("a/b", b"x", QoS::AtMostOnce, false);
    // It may also have started again: the topic id is told anew.
    let sent = world.take(1);
    assert_eq!(sent.iter().map(|b| type_of(b).unwrap()).collect::<Vec<_>>(), [MessageType::Register]);
    assert_eq!(world.gateway.len(), 1);
    // Much later it is a new one.
    world.wait(20_000);
    world.take(1);
    world.join(1, "dev");
    world.publish("a/b", b"y", QoS::AtMostOnce, false);
    world.expect(1, &[]);
}

/// [SN 6.3]
#[test]
fn a_session_that_is_not_clean_survives_disconnect() {
    let mut world = World::new();
    world.join_for_long(1, "dev");
    let id = world.subscribe(1, "a/b", QosField::AtLeastOnce);
    world.ask(1, GOODBYE, &[GOODBYE]);
    assert!(world.gateway.is_empty());
    world.publish("a/b", b"x", QoS::AtLeastOnce, false);
    world.publish("a/b", b"y", QoS::AtMostOnce, false);
    world.send(7, connect("dev", false, 60));
    // Under the id it had, but the client may have forgotten it.
    let register = Message::Register { topic_id: id, msg_id: 1, name: b"a/b" };
    world.expect(7, &[ACCEPTED, register]);
    world.ask(7, regack(id, 1, ReturnCode::ACCEPTED), &[publish(QosField::AtLeastOnce, TopicRef::Normal(id), 1)]);
    world.ask(7, puback(id, 1, ReturnCode::ACCEPTED), &[]);
    // It may use the id itself at once, too.
    let (watcher, _) = world.mqtt("watcher", "a/b");
    let own = publish(QosField::AtMostOnce, TopicRef::Normal(id), 0);
    world.ask(7, own, &[own]);
    assert_eq!(world.read(watcher), [got("a/b", b"x", 0)]);
}

/// [SN 6.3]
#[test]
fn a_clean_session_begins_and_ends_with_nothing() {
    let mut world = World::new();
    world.join(1, "dev");
    let id = world.subscribe(1, "a/b", QosField::AtLeastOnce);
    world.ask(1, GOODBYE, &[GOODBYE]);
    assert_eq!(world.broker.find_client("dev"), None);
    world.publish("a/b", b"x", QoS::AtLeastOnce, false);
    world.join(1, "dev");
    let unknown = puback(id, 5, ReturnCode::INVALID_TOPIC_ID);
    world.ask(1, publish(QosField::AtLeastOnce, TopicRef::Normal(id), 5), &[unknown]);
}

/// Section 5 of the reference: one table of client ids.
#[test]
fn an_mqtt_client_and_an_sn_client_take_each_other_over() {
    let mut world = World::new();
    let (session, conn) = world.mqtt("dev", "a/b");
    world.join_for_long(1, "dev");
    let [(closed, CloseReason::TakenOver { by })] = &world.closed[..] else { panic!("{:?}", world.closed) };
    assert_eq!((*closed, *by), (conn, session));
    // The subscription is the session's.
    world.publish("a/b", b"x", QoS::AtLeastOnce, false);
    world.expect(1, &[Message::Register { topic_id: 1, msg_id: 1, name: b"a/b" }]);
    // And back: the device is told once, and the message goes to whoever has the session.
    let (session, conn) = world.mqtt("dev", "");
    world.expect(1, &[GOODBYE]);
    assert_eq!(world.read(session), [got("a/b", b"x", 1)]);
    assert!(world.gateway.is_empty());
    // Topic ids do not go over.
    world.mqtt_leaves((session, conn));
    world.wait(1000);
    world.join_for_long(1, "dev");
    let unknown = puback(1, 5, ReturnCode::INVALID_TOPIC_ID);
    world.ask(1, publish(QosField::AtLeastOnce, TopicRef::Normal(1), 5), &[unknown]);
}

/// Section 4 of the reference.
#[test]
fn a_client_id_from_another_address_takes_over_and_the_old_one_is_told_once() {
    let mut world = World::new();
    world.join_for_long(1, "dev");
    let id = world.register(1, "a/b");
    world.join_for_long(2, "dev");
    world.expect(1, &[GOODBYE]);
    assert_eq!(world.gateway.len(), 1);
    let (watcher, _) = world.mqtt("watcher", "#");
    world.ask(2, publish(QosField::AtMostOnce, TopicRef::Normal(id), 0), &[]);
    assert_eq!(world.read(watcher), [got("a/b", b"x", 0)]);
    world.ask(1, Message::Pingreq { client_id: b"" }, &[GOODBYE]);
}

/// Section 4 of the reference: the old client is as if lost.
#[test]
fn an_address_that_is_used_again_belongs_to_the_new_client() {
    let mut world = World::new();
    let (watcher, _) = world.mqtt("watcher", "#");
    world.ask(1, connect_with_will("old", true), &[Message::WillTopicReq]);
    let topic = WillTopic { qos: QosField::AtMostOnce, retain: false, topic: b"gone" };
    world.ask(1, Message::WillTopic(Some(topic)), &[Message::WillMsgReq]);
    world.ask(1, Message::WillMsg(b"!"), &[ACCEPTED]);
    world.join(1, "new");
    assert_eq!(world.read(watcher), [got("gone", b"!", 0)]);
    assert_eq!((world.gateway.len(), world.broker.find_client("old")), (1, None));
}

/// [SN 6.12]
#[test]
fn disconnect_is_answered_and_answered_again() {
    let mut world = World::new();
    world.join(1, "dev");
    world.ask(1, GOODBYE, &[GOODBYE]);
    world.ask(1, GOODBYE, &[GOODBYE]);
    assert_eq!(world.broker.stats.sn.active, 0);
    world.join(1, "dev");
    world.ask(1, Message::Disconnect { duration_s: Some(0) }, &[GOODBYE]);
    assert!(world.gateway.is_empty());
}

/// [SN 6.11]
#[test]
fn silence_beyond_the_keepalive_is_a_loss() {
    let mut world = World::new();
    world.join_for_long(1, "dev");
    world.wait(89_000);
    world.ask(1, Message::Pingreq { client_id: b"" }, &[Message::Pingresp]);
    world.wait(89_000);
    assert_eq!(world.gateway.len(), 1);
    world.wait(2000);
    assert!(world.gateway.is_empty());
    assert_eq!((world.broker.stats.sn.lost, world.broker.stats.sn.active), (1, 0));
    // Whatever comes now gets DISCONNECT, so that it connects again.
    world.ask(1, Message::Pingreq { client_id: b"" }, &[GOODBYE]);
    // Without a keepalive nobody counts.
    world.ask(2, connect("quiet", true, 0), &[ACCEPTED]);
    world.wait(100_000_000);
    assert_eq!(world.gateway.len(), 1);
}

#[test]
fn everyone_is_told_of_the_end_but_who_sleeps() {
    let mut world = World::new();
    world.join(1, "a");
    world.join(2, "b");
    world.ask(2, Message::Disconnect { duration_s: Some(100) }, &[GOODBYE]);
    world.turn(Gateway::shut_down);
    world.expect(1, &[GOODBYE]);
    world.expect(2, &[]);
}

/// SIGHUP.
#[test]
fn a_reload_sends_away_who_may_not_be_here_any_more() {
    let mut world = World::new();
    world.join(1, "a");
    world.config = Config::parse_str("sn.conf", "listener 1884\nprotocol mqtt-sn").unwrap().config;
    world.open();
    world.turn(|gateway, turn| gateway.recheck(turn));
    world.expect(1, &[GOODBYE]);
    let mut world = World::new();
    world.join(1, "a");
    world.turn(|gateway, turn| gateway.close_door(turn, 0));
    world.expect(1, &[GOODBYE]);
    world.raw(1, &bytes(&connect("a", true, 60)));
    world.expect(1, &[]);
}

//! Sleeping clients [SN 6.14].

use super::*;

const XY: TopicRef = TopicRef::Short(*b"xy");
const ONE: QosField = QosField::AtLeastOnce;

fn sleep(duration_s: u16) -> Message<'static> {
    Message::Disconnect { duration_s: Some(duration_s) }
}

fn wake(client_id: &str) -> Message<'_> {
    Message::Pingreq { client_id: client_id.as_bytes() }
}

/// A client that subscribed to "xy" and sleeps for a minute and a half.
fn sleeper(options: &str) -> World {
    let mut world = World::with(&format!("allow_anonymous true\n{options}"));
    world.join(1, "dev");
    world.subscribe(1, "xy", QosField::ExactlyOnce);
    world.ask(1, sleep(90), &[GOODBYE]);
    assert_eq!(world.state_of("dev"), Client::Asleep { duration_s: 90 });
    world
}

/// [SN 6.14]
#[test]
fn messages_wait_until_the_client_asks() {
    let mut world = sleeper("");
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::AtMostOnce] {
        world.publish("xy", b"x", qos, false);
    }
    world.expect(1, &[]);
    let zero = publish(QosField::AtMostOnce, XY, 0);
    // QoS 0 needs no window, as for every client.
    world.ask(1, wake("dev"), &[zero, publish(ONE, XY, 1), zero]);
    assert_eq!(world.state_of("dev"), Client::Awake { duration_s: 90 });
    world.ask(1, puback(0, 1, ReturnCode::ACCEPTED), &[publish(QosField::ExactlyOnce, XY, 2)]);
    world.ask(1, Message::Pubrec { msg_id: 2 }, &[Message::Pubrel { msg_id: 2 }]);
    // PINGRESP comes after the last acknowledgement and not before.
    world.ask(1, Message::Pubcomp { msg_id: 2 }, &[Message::Pingresp]);
    assert_eq!(world.state_of("dev"), Client::Asleep { duration_s: 90 });
    world.ask(1, wake("dev"), &[Message::Pingresp]);
    assert_eq!((world.broker.stats.sn.active, world.broker.stats.sn.asleep), (0, 1));
}

/// [SN 6.14]: what comes meanwhile is sent too.
#[test]
fn an_awake_client_gets_what_comes_meanwhile() {
    let mut world = sleeper("");
    world.publish("xy", b"x", QoS::AtLeastOnce, false);
    world.ask(1, wake("dev"), &[publish(ONE, XY, 1)]);
    world.publish("xy", b"x", QoS::AtLeastOnce, false);
    world.expect(1, &[]);
    world.ask(1, puback(0, 1, ReturnCode::ACCEPTED), &[publish(ONE, XY, 2)]);
    world.ask(1, puback(0, 2, ReturnCode::ACCEPTED), &[Message::Pingresp]);
}

/// [SN 6.14]
#[test]
fn a_register_comes_before_the_message_also_when_awake() {
    let mut world = World::new();
    world.join(1, "dev");
    world.subscribe(1, "a/#", ONE);
    world.ask(1, sleep(90), &[GOODBYE]);
    world.publish("a/b", b"x", QoS::AtLeastOnce, false);
    world.ask(1, wake("dev"), &[Message::Register { topic_id: 1, msg_id: 1, name: b"a/b" }]);
    world.ask(1, regack(1, 1, ReturnCode::ACCEPTED), &[publish(ONE, TopicRef::Normal(1), 1)]);
    world.ask(1, puback(1, 1, ReturnCode::ACCEPTED), &[Message::Pingresp]);
    // Ids are kept during sleep.
    world.publish("a/b", b"x", QoS::AtLeastOnce, false);
    world.ask(1, wake("dev"), &[publish(ONE, TopicRef::Normal(1), 2)]);
    // A refusal ends its time as well.
    world.ask(1, puback(1, 2, ReturnCode::ACCEPTED), &[Message::Pingresp]);
    world.publish("a/c", b"x", QoS::AtLeastOnce, false);
    world.ask(1, wake("dev"), &[Message::Register { topic_id: 2, msg_id: 2, name: b"a/c" }]);
    world.ask(1, regack(2, 2, ReturnCode::NOT_SUPPORTED), &[Message::Pingresp]);
}

/// Section 3.11 of the reference: its own retry.
#[test]
fn a_repeated_pingreq_sends_again_what_is_not_acknowledged() {
    let mut world = sleeper("");
    world.publish("xy", b"x", QoS::AtLeastOnce, false);
    world.ask(1, wake("dev"), &[publish(ONE, XY, 1)]);
    let again = Message::Publish(Publish { dup: true, qos: ONE, retain: false, topic: XY, msg_id: 1, data: b"x" });
    world.ask(1, wake("dev"), &[again]);
    world.ask(1, puback(0, 1, ReturnCode::ACCEPTED), &[Message::Pingresp]);
}

/// Section 3.11 of the reference: it fell asleep early.
#[test]
fn an_awake_client_that_does_not_acknowledge_sleeps_on_and_loses_nothing() {
    let mut world = sleeper("");
    world.publish("xy", b"x", QoS::AtLeastOnce, false);
    world.ask(1, wake("dev"), &[publish(ONE, XY, 1)]);
    for _ in 0..4 {
        world.wait(10_000);
    }
    assert_eq!(world.take(1).len(), 3);
    assert_eq!(world.state_of("dev"), Client::Asleep { duration_s: 90 });
    world.wait(50_000);
    world.expect(1, &[]);
    let again = Message::Publish(Publish { dup: true, qos: ONE, retain: false, topic: XY, msg_id: 1, data: b"x" });
    world.ask(1, wake("dev"), &[again]);
    world.ask(1, puback(0, 1, ReturnCode::ACCEPTED), &[Message::Pingresp]);
}

/// [SN 6.14], [SN 7.2]
#[test]
fn a_sleep_that_lasts_too_long_is_a_loss() {
    let mut world = World::new();
    let (watcher, _) = world.mqtt("watcher", "#");
    for (duration_s, alive, lost) in [(10, 14_999, 15_000), (100, 109_999, 110_000)] {
        world.ask(1, connect_with_will("dev", true), &[Message::WillTopicReq]);
        let topic = crate::proto::sn::wire::WillTopic { qos: ONE, retain: false, topic: b"gone" };
        world.ask(1, Message::WillTopic(Some(topic)), &[Message::WillMsgReq]);
        world.ask(1, Message::WillMsg(b"!"), &[ACCEPTED]);
        world.ask(1, sleep(duration_s), &[GOODBYE]);
        let start = world.now.mono_ms;
        world.wait(alive);
        assert_eq!((world.gateway.len(), world.read(watcher)), (1, vec![]));
        world.wait(start + lost - world.now.mono_ms);
        assert_eq!((world.gateway.len(), world.read(watcher)), (0, vec![got("gone", b"!", 1)]));
        world.ask(1, wake("dev"), &[GOODBYE]);
        world.wait(2000);
        world.take(1);
    }
    assert_eq!((world.broker.stats.sn.asleep, world.broker.stats.sn.active), (0, 0));
}

/// [SN 6.14]: the keepalive is not watched meanwhile, and each time the sleep begins anew.
#[test]
fn each_wake_up_starts_the_sleep_again() {
    let mut world = sleeper("");
    for _ in 0..10 {
        world.wait(95_000);
        world.ask(1, wake("dev"), &[Message::Pingresp]);
    }
    world.ask(1, sleep(5), &[GOODBYE]);
    world.wait(7_000);
    assert_eq!(world.gateway.len(), 1);
    // Another sign of life counts too.
    world.ask(1, publish(ONE, XY, 9), &[puback(0x7879, 9, ReturnCode::ACCEPTED)]);
    world.wait(7_000);
    assert_eq!(world.state_of("dev"), Client::Asleep { duration_s: 5 });
    world.wait(1_000);
    assert!(world.gateway.is_empty());
}

/// [SN 6.14]
#[test]
fn connect_ends_the_sleep() {
    let mut world = World::new();
    for clean in [false, true] {
        world.ask(1, connect("dev", clean, 60), &[ACCEPTED]);
        world.subscribe(1, "xy", ONE);
        world.ask(1, sleep(90), &[GOODBYE]);
        world.publish("xy", b"x", QoS::AtLeastOnce, false);
        world.wait(20_000);
        world.send(1, connect("dev", clean, 60));
        if clean {
            world.expect(1, &[ACCEPTED]);
        } else {
            world.expect(1, &[ACCEPTED, publish(ONE, XY, 1)]);
            world.ask(1, puback(0, 1, ReturnCode::ACCEPTED), &[]);
        }
        assert_eq!(world.state_of("dev"), Client::Active);
        world.ask(1, GOODBYE, &[GOODBYE]);
    }
}

/// [SN 6.12]: DISCONNECT while asleep.
#[test]
fn disconnect_ends_the_sleep() {
    let mut world = sleeper("");
    world.ask(1, GOODBYE, &[GOODBYE]);
    assert!(world.gateway.is_empty());
    assert_eq!(world.broker.stats.sn, crate::broker::stats::SnStats { active: 0, asleep: 0, ..world.broker.stats.sn });
}

/// `[conf: mqttsn_allow_address_change]`
#[test]
fn a_sleeping_client_may_wake_up_at_another_address() {
    let mut world = sleeper("");
    world.publish("xy", b"x", QoS::AtLeastOnce, false);
    world.ask(2, wake("dev"), &[publish(ONE, XY, 1)]);
    world.ask(2, puback(0, 1, ReturnCode::ACCEPTED), &[Message::Pingresp]);
    // The old one is a stranger now.
    world.ask(1, publish(ONE, XY, 9), &[GOODBYE]);
    // Not where another client is.
    world.join(3, "other");
    world.ask(3, wake("dev"), &[GOODBYE]);
    let mut world = sleeper("mqttsn_allow_address_change false");
    world.ask(2, wake("dev"), &[GOODBYE]);
    world.ask(1, wake("dev"), &[Message::Pingresp]);
}

/// Section 4 of the reference: nobody takes an active session over by PINGREQ.
#[test]
fn an_active_client_is_not_taken_over_by_a_ping() {
    let mut world = World::new();
    world.join(1, "dev");
    world.ask(2, wake("dev"), &[GOODBYE]);
    world.ask(1, wake("dev"), &[Message::Pingresp]);
    world.ask(2, wake("nobody"), &[GOODBYE]);
    world.ask(2, wake("\u{FFFD}"), &[GOODBYE]);
    // Nor an MQTT client.
    world.mqtt("mqtt", "");
    world.ask(2, wake("mqtt"), &[GOODBYE]);
}

/// `[conf: mqttsn_queue_qos0_asleep]`
#[test]
fn qos_0_may_be_left_out() {
    let mut world = sleeper("mqttsn_queue_qos0_asleep false");
    world.publish("xy", b"x", QoS::AtMostOnce, false);
    world.publish("xy", b"x", QoS::AtLeastOnce, false);
    world.ask(1, wake("dev"), &[publish(ONE, XY, 1)]);
    // Awake it is a client like others.
    world.publish("xy", b"x", QoS::AtMostOnce, false);
    world.expect(1, &[publish(QosField::AtMostOnce, XY, 0)]);
}

/// `[conf: max_queued_messages]`: the oldest of QoS 0 go, the newest of the others are not taken.
#[test]
fn the_buffer_of_a_sleeping_client_has_a_bound() {
    let mut world = sleeper("max_queued_messages 3");
    for n in 0..6u8 {
        world.publish("xy", &[b'0' + n], QoS::AtMostOnce, false);
        world.publish("xy", &[b'a' + n], QoS::AtLeastOnce, false);
    }
    assert!(!world.broker.wants_flush(), "nobody waits for a client that sleeps");
    world.send(1, wake("dev"));
    let mut found = Vec::new();
    loop {
        let sent = world.take(1);
        if sent.is_empty() {
            break;
        }
        for bytes in sent {
            let Message::Publish(message) = Message::decode(&bytes).unwrap() else { continue };
            found.push(message.data[0]);
            if message.msg_id != 0 {
                world.send(1, puback(0, message.msg_id, ReturnCode::ACCEPTED));
            }
        }
    }
    found.sort_unstable();
    // One more than the limit: the window counts as room.
    assert_eq!(found, b"345abcd");
}

/// `[conf: mqttsn_max_sleep_duration]`
#[test]
fn a_sleep_is_supervised_up_to_the_limit() {
    let mut world = World::with("allow_anonymous true\nmqttsn_max_sleep_duration 10");
    world.join(1, "dev");
    world.ask(1, sleep(60_000), &[GOODBYE]);
    world.wait(15_000);
    assert!(world.gateway.is_empty());
}

/// One world: an MQTT client takes a sleeping session over, with what it has.
#[test]
fn an_mqtt_client_takes_over_what_waits_for_a_sleeping_one() {
    let mut world = World::new();
    world.join_for_long(1, "dev");
    world.subscribe(1, "xy", ONE);
    world.ask(1, sleep(90), &[GOODBYE]);
    world.publish("xy", b"x", QoS::AtLeastOnce, false);
    let (session, _) = world.mqtt("dev", "");
    assert_eq!(world.read(session), [got("xy", b"x", 1)]);
    // Who sleeps does not hear that it was taken over.
    world.expect(1, &[]);
    assert!(world.gateway.is_empty());
}

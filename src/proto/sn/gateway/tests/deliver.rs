//! From sessions to clients: REGISTER, acknowledgements, retransmission [SN 6.10, 6.13].

use super::*;

const ONE: QosField = QosField::AtLeastOnce;
const TWO: QosField = QosField::ExactlyOnce;

fn again(qos: QosField, topic: TopicRef, msg_id: u16) -> Message<'static> {
    Message::Publish(Publish { dup: true, qos, retain: false, topic, msg_id, data: b"x" })
}

/// A client that subscribed to "xy", which needs no id.
fn listening(qos: QosField) -> World {
    let mut world = World::new();
    world.join_for_long(1, "dev");
    world.subscribe(1, "xy", qos);
    world
}

const XY: TopicRef = TopicRef::Short(*b"xy");

/// [SN 6.10]
#[test]
fn one_message_is_under_way_at_a_time() {
    let mut world = listening(ONE);
    for _ in 0..3 {
        world.publish("xy", b"x", QoS::AtLeastOnce, false);
    }
    world.expect(1, &[publish(ONE, XY, 1)]);
    world.ask(1, puback(0, 1, ReturnCode::ACCEPTED), &[publish(ONE, XY, 2)]);
    // An old acknowledgement again, and one for nothing.
    world.ask(1, puback(0, 1, ReturnCode::ACCEPTED), &[]);
    world.ask(1, puback(0, 99, ReturnCode::ACCEPTED), &[]);
    world.ask(1, puback(0, 0, ReturnCode::ACCEPTED), &[]);
    world.ask(1, puback(0, 2, ReturnCode::ACCEPTED), &[publish(ONE, XY, 3)]);
    world.ask(1, puback(0, 3, ReturnCode::ACCEPTED), &[]);
    assert_eq!(world.gateway.next_deadline(), Some(world.now.mono_ms + 10_000).max(world.gateway.next_deadline()));
}

/// `[conf: mqttsn_max_inflight]`
#[test]
fn more_may_be_under_way_if_devices_can() {
    let mut world = World::with("allow_anonymous true\nmqttsn_max_inflight 3");
    world.join(1, "dev");
    world.subscribe(1, "xy", TWO);
    for _ in 0..5 {
        world.publish("xy", b"x", QoS::ExactlyOnce, false);
    }
    world.expect(1, &[publish(TWO, XY, 1), publish(TWO, XY, 2), publish(TWO, XY, 3)]);
    world.ask(1, Message::Pubrec { msg_id: 2 }, &[Message::Pubrel { msg_id: 2 }]);
    world.ask(1, Message::Pubcomp { msg_id: 2 }, &[publish(TWO, XY, 4)]);
}

/// [SN 6.10], [SN 6.13]
#[test]
fn qos_2_has_its_two_steps() {
    let mut world = listening(TWO);
    world.publish("xy", b"x", QoS::ExactlyOnce, false);
    world.expect(1, &[publish(TWO, XY, 1)]);
    world.ask(1, Message::Pubcomp { msg_id: 1 }, &[]);
    world.ask(1, Message::Pubrec { msg_id: 1 }, &[Message::Pubrel { msg_id: 1 }]);
    world.ask(1, Message::Pubrec { msg_id: 1 }, &[Message::Pubrel { msg_id: 1 }]);
    world.ask(1, puback(0, 1, ReturnCode::ACCEPTED), &[]);
    world.wait(10_000);
    world.expect(1, &[Message::Pubrel { msg_id: 1 }]);
    world.ask(1, Message::Pubcomp { msg_id: 1 }, &[]);
    world.ask(1, Message::Pubcomp { msg_id: 1 }, &[]);
    // One that nobody knows can be let go of.
    world.ask(1, Message::Pubrec { msg_id: 1 }, &[Message::Pubrel { msg_id: 1 }]);
}

/// [SN 6.13]
#[test]
fn what_is_not_acknowledged_comes_again_until_the_client_is_lost() {
    let mut world = listening(ONE);
    world.publish("xy", b"x", QoS::AtLeastOnce, false);
    world.expect(1, &[publish(ONE, XY, 1)]);
    for _ in 0..3 {
        world.wait(9_999);
        world.expect(1, &[]);
        world.wait(1);
        world.expect(1, &[again(ONE, XY, 1)]);
    }
    world.wait(10_000);
    world.expect(1, &[]);
    assert!(world.gateway.is_empty());
    assert_eq!((world.broker.stats.sn.lost, world.broker.stats.sn.retransmissions), (1, 3));
    // Nothing is lost with it.
    world.send(1, connect("dev", false, 60));
    world.expect(1, &[ACCEPTED, again(ONE, XY, 1)]);
    world.ask(1, puback(0, 1, ReturnCode::ACCEPTED), &[]);
}

/// [SN 6.13]
#[test]
fn pubrel_comes_again_after_a_reconnect() {
    let mut world = listening(TWO);
    world.publish("xy", b"x", QoS::ExactlyOnce, false);
    world.expect(1, &[publish(TWO, XY, 1)]);
    world.ask(1, Message::Pubrec { msg_id: 1 }, &[Message::Pubrel { msg_id: 1 }]);
    (0..4).for_each(|_| world.wait(10_000));
    world.take(1);
    assert!(world.gateway.is_empty());
    world.send(1, connect("dev", false, 60));
    world.expect(1, &[ACCEPTED, Message::Pubrel { msg_id: 1 }]);
    world.ask(1, Message::Pubcomp { msg_id: 1 }, &[]);
}

/// [SN 6.10]
#[test]
fn messages_wait_behind_their_register_in_order() {
    let mut world = World::new();
    world.join(1, "dev");
    world.subscribe(1, "a/#", ONE);
    for payload in [b"1", b"2"] {
        world.publish("a/b", payload, QoS::AtMostOnce, false);
    }
    let register = Message::Register { topic_id: 1, msg_id: 1, name: b"a/b" };
    world.expect(1, &[register]);
    world.wait(10_000);
    world.expect(1, &[register]);
    // Answers to something else.
    world.ask(1, regack(2, 1, ReturnCode::ACCEPTED), &[]);
    world.ask(1, regack(1, 2, ReturnCode::ACCEPTED), &[]);
    world.send(1, regack(1, 1, ReturnCode::ACCEPTED));
    let payloads: Vec<u8> = world.take(1).iter().filter_map(|bytes| bytes.last().copied()).collect();
    assert_eq!(payloads, b"12");
    world.ask(1, regack(1, 1, ReturnCode::ACCEPTED), &[]);
}

/// Section 3.4 of the reference
#[test]
fn a_refused_topic_does_not_stop_the_others() {
    let mut world = World::new();
    world.join(1, "dev");
    world.subscribe(1, "a/#", ONE);
    world.publish("a/1", b"x", QoS::AtLeastOnce, false);
    world.publish("a/2", b"x", QoS::AtLeastOnce, false);
    world.publish("a/1", b"x", QoS::AtLeastOnce, false);
    world.expect(1, &[Message::Register { topic_id: 1, msg_id: 1, name: b"a/1" }]);
    let second = Message::Register { topic_id: 2, msg_id: 2, name: b"a/2" };
    world.ask(1, regack(1, 1, ReturnCode::NOT_SUPPORTED), &[second]);
    world.ask(1, regack(2, 2, ReturnCode::ACCEPTED), &[publish(ONE, TopicRef::Normal(2), 2)]);
    world.ask(1, puback(2, 2, ReturnCode::ACCEPTED), &[]);
    assert_eq!(world.broker.stats.sn.undeliverable, 2);
    // It may ask for the name itself.
    assert_eq!(world.register(1, "a/1"), 1);
    world.publish("a/1", b"x", QoS::AtMostOnce, false);
    world.expect(1, &[publish(QosField::AtMostOnce, TopicRef::Normal(1), 0)]);
}

/// Section 3.4 of the reference: congestion is asked again later.
#[test]
fn a_congested_client_is_asked_again() {
    let mut world = World::new();
    world.join(1, "dev");
    world.subscribe(1, "a/#", ONE);
    world.publish("a/1", b"x", QoS::AtLeastOnce, false);
    let register = Message::Register { topic_id: 1, msg_id: 1, name: b"a/1" };
    world.expect(1, &[register]);
    for _ in 0..6 {
        world.ask(1, regack(1, 1, ReturnCode::CONGESTION), &[]);
        world.wait(10_000);
        world.expect(1, &[register]);
    }
    world.ask(1, regack(1, 1, ReturnCode::ACCEPTED), &[publish(ONE, TopicRef::Normal(1), 1)]);
    for _ in 0..6 {
        world.ask(1, puback(1, 1, ReturnCode::CONGESTION), &[]);
        world.wait(10_000);
        world.expect(1, &[again(ONE, TopicRef::Normal(1), 1)]);
    }
    world.ask(1, puback(1, 1, ReturnCode::ACCEPTED), &[]);
}

/// [SN 6.10]: the client forgot the id.
#[test]
fn an_unknown_id_is_registered_again() {
    let mut world = World::new();
    world.join(1, "dev");
    let id = world.subscribe(1, "a/b", ONE);
    world.publish("a/b", b"x", QoS::AtLeastOnce, false);
    world.expect(1, &[publish(ONE, TopicRef::Normal(id), 1)]);
    let register = Message::Register { topic_id: id, msg_id: 1, name: b"a/b" };
    world.ask(1, puback(id, 1, ReturnCode::INVALID_TOPIC_ID), &[register]);
    world.ask(1, regack(id, 1, ReturnCode::ACCEPTED), &[publish(ONE, TopicRef::Normal(id), 1)]);
    world.ask(1, puback(id, 1, ReturnCode::ACCEPTED), &[]);
    // Of QoS 0 the message is gone, and the next one is registered.
    world.publish("a/b", b"x", QoS::AtMostOnce, false);
    world.expect(1, &[publish(QosField::AtMostOnce, TopicRef::Normal(id), 0)]);
    world.ask(1, puback(id, 0, ReturnCode::INVALID_TOPIC_ID), &[]);
    world.publish("a/b", b"x", QoS::AtMostOnce, false);
    world.expect(1, &[Message::Register { topic_id: id, msg_id: 2, name: b"a/b" }]);
    // A client that never learns it does not go on for ever.
    world.ask(1, regack(id, 2, ReturnCode::ACCEPTED), &[publish(QosField::AtMostOnce, TopicRef::Normal(id), 0)]);
    world.publish("a/b", b"x", QoS::AtLeastOnce, false);
    let mut rounds = 0;
    loop {
        let sent = world.take(1);
        match sent.last().map(|bytes| Message::decode(bytes).unwrap()) {
            Some(Message::Publish(message)) => {
                world.send(1, puback(id, message.msg_id, ReturnCode::INVALID_TOPIC_ID));
            }
            Some(Message::Register { msg_id, .. }) => world.send(1, regack(id, msg_id, ReturnCode::ACCEPTED)),
            None => break,
            other => panic!("{other:?}"),
        }
        rounds += 1;
        assert!(rounds < 20);
    }
    assert_eq!(world.broker.stats.sn.undeliverable, 1);
}

/// Section 3.5 of the reference
#[test]
fn a_refused_message_is_dropped_and_the_next_follows() {
    let mut world = listening(ONE);
    world.publish("xy", b"x", QoS::AtLeastOnce, false);
    world.publish("xy", b"x", QoS::AtLeastOnce, false);
    world.expect(1, &[publish(ONE, XY, 1)]);
    world.ask(1, puback(0, 1, ReturnCode::NOT_SUPPORTED), &[publish(ONE, XY, 2)]);
}

/// `[conf: mqttsn_max_send_size]`
#[test]
fn what_is_too_long_is_not_sent() {
    let mut world = World::with("allow_anonymous true\nmqttsn_max_send_size 60");
    world.join(1, "dev");
    world.subscribe(1, "#", ONE);
    world.publish("xy", &[7; 54], QoS::AtLeastOnce, false);
    world.publish("xy", &[7; 53], QoS::AtLeastOnce, false);
    let sent = world.take(1);
    assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), [60]);
    let long = "t".repeat(60);
    world.send(1, puback(0, 2, ReturnCode::ACCEPTED));
    world.publish(&long, b"x", QoS::AtLeastOnce, false);
    world.publish("xy", b"x", QoS::AtMostOnce, false);
    world.expect(1, &[publish(QosField::AtMostOnce, XY, 0)]);
    assert_eq!(world.broker.stats.sn.undeliverable, 2);
}

/// [SN 6.10]: more than 255 octets take the long form.
#[test]
fn long_messages_go_out_in_the_long_form() {
    let mut world = listening(ONE);
    for len in [248, 249, 1000] {
        world.publish("xy", &vec![7; len], QoS::AtMostOnce, false);
        let sent = world.take(1);
        assert_eq!((sent.len(), sent[0].len()), (1, if len > 248 { len + 9 } else { len + 7 }));
        assert!(Message::decode(&sent[0]).is_ok());
    }
    let mut long = vec![1, 0x10, 0, 0x0C, 2, b'x', b'y', 0, 0];
    long.resize(0x1000, b'z');
    let (watcher, _) = world.mqtt("watcher", "#");
    world.raw(1, &long);
    assert_eq!(world.read(watcher)[0].payload.len(), 0x1000 - 9);
}

/// Answers that promise something wait for the disk.
#[test]
fn acknowledgements_wait_for_storage_in_order() {
    let mut world = World::new();
    world.broker.changes().start_journal();
    world.send(1, connect("dev", false, 60));
    world.send(1, Message::Register { topic_id: 0, msg_id: 1, name: b"a/b" });
    world.expect(1, &[]);
    let last = world.broker.last_change();
    world.broker.set_synced(last);
    world.settle();
    world.expect(1, &[ACCEPTED, regack(1, 1, ReturnCode::ACCEPTED)]);
    world.ask(1, Message::Pingreq { client_id: b"" }, &[Message::Pingresp]);
}

//! PUBLISH from clients and from nobody [SN 6.6, 6.8, 6.13].

use super::*;

/// [SN 6.6]
#[test]
fn each_qos_has_its_answers() {
    let mut world = World::with("allow_anonymous true\nmqttsn_predefined_topic 7 pre/defined");
    let (watcher, _) = world.mqtt("watcher", "#");
    world.join(1, "dev");
    let id = world.register(1, "a/b");
    for (topic, name, on_wire) in [
        (TopicRef::Normal(id), "a/b", id),
        (TopicRef::Predefined(7), "pre/defined", 7),
        (TopicRef::Short(*b"xy"), "xy", 0x7879),
    ] {
        world.ask(1, publish(QosField::AtMostOnce, topic, 0), &[]);
        world.ask(1, publish(QosField::AtMostOnce, topic, 3), &[]);
        assert_eq!(world.read(watcher), vec![got(name, b"x", 0); 2]);
        world.ask(1, publish(QosField::AtLeastOnce, topic, 4), &[puback(on_wire, 4, ReturnCode::ACCEPTED)]);
        assert_eq!(world.read(watcher), [got(name, b"x", 1)]);
        world.ask(1, publish(QosField::ExactlyOnce, topic, 5), &[Message::Pubrec { msg_id: 5 }]);
        assert_eq!(world.read(watcher), []);
        world.ask(1, Message::Pubrel { msg_id: 5 }, &[Message::Pubcomp { msg_id: 5 }]);
        assert_eq!(world.read(watcher), [got(name, b"x", 2)]);
    }
}

/// [SN 6.13]
#[test]
fn qos_2_is_taken_once_however_often_it_comes() {
    let mut world = World::new();
    let (watcher, _) = world.mqtt("watcher", "#");
    world.join(1, "dev");
    let message = publish(QosField::ExactlyOnce, TopicRef::Short(*b"xy"), 5);
    for _ in 0..5 {
        world.ask(1, message, &[Message::Pubrec { msg_id: 5 }]);
    }
    for _ in 0..3 {
        world.ask(1, Message::Pubrel { msg_id: 5 }, &[Message::Pubcomp { msg_id: 5 }]);
    }
    assert_eq!(world.read(watcher).len(), 1);
    // A copy that the network held back is no new message; its PUBREL releases nothing.
    world.ask(1, message, &[Message::Pubrec { msg_id: 5 }]);
    world.ask(1, Message::Pubrel { msg_id: 5 }, &[Message::Pubcomp { msg_id: 5 }]);
    assert_eq!(world.read(watcher).len(), 0);
    // After a retry interval it would be too old for that: the identifier is free again.
    world.wait(10_000);
    world.ask(1, message, &[Message::Pubrec { msg_id: 5 }]);
    world.ask(1, Message::Pubrel { msg_id: 5 }, &[Message::Pubcomp { msg_id: 5 }]);
    assert_eq!(world.read(watcher).len(), 1);
    world.ask(1, Message::Pubrel { msg_id: 9 }, &[Message::Pubcomp { msg_id: 9 }]);
    world.ask(1, Message::Pubrel { msg_id: 0 }, &[Message::Pubcomp { msg_id: 0 }]);
}

/// Section 3.5 of the reference: an exchange goes on after a reconnect.
#[test]
fn qos_2_outlives_the_connection_of_a_session_that_stays() {
    let mut world = World::new();
    let (watcher, _) = world.mqtt("watcher", "#");
    world.join_for_long(1, "dev");
    let message = publish(QosField::ExactlyOnce, TopicRef::Short(*b"xy"), 5);
    world.ask(1, message, &[Message::Pubrec { msg_id: 5 }]);
    world.wait(120_000);
    assert!(world.gateway.is_empty());
    world.join_for_long(2, "dev");
    world.ask(2, message, &[Message::Pubrec { msg_id: 5 }]);
    world.ask(2, Message::Pubrel { msg_id: 5 }, &[Message::Pubcomp { msg_id: 5 }]);
    assert_eq!(world.read(watcher).len(), 1);
}

/// [SN 6.6]
#[test]
fn what_cannot_be_taken_has_a_code() {
    let mut world = World::with(
        "allow_anonymous true\nmessage_size_limit 3\nmax_qos 1\nretain_available false\nmax_inflight_messages 2",
    );
    world.join(1, "dev");
    let (bad, no) = (ReturnCode::INVALID_TOPIC_ID, ReturnCode::NOT_SUPPORTED);
    let one = QosField::AtLeastOnce;
    let short = TopicRef::Short(*b"xy");
    for (message, answer) in [
        (publish(one, TopicRef::Normal(9), 4), Some(puback(9, 4, bad))),
        (publish(QosField::AtMostOnce, TopicRef::Normal(9), 0), Some(puback(9, 0, bad))),
        (publish(QosField::ExactlyOnce, TopicRef::Normal(9), 4), Some(puback(9, 4, bad))),
        (publish(one, TopicRef::Predefined(9), 4), Some(puback(9, 4, bad))),
        (publish(one, TopicRef::Reserved(9), 4), Some(puback(9, 4, no))),
        (publish(one, TopicRef::Short(*b"a#"), 4), Some(puback(0x6123, 4, bad))),
        (publish(one, TopicRef::Short([0, 0]), 4), Some(puback(0, 4, bad))),
        (publish(one, short, 0), Some(puback(0x7879, 0, no))),
        (publish(QosField::ExactlyOnce, short, 4), Some(puback(0x7879, 4, no))),
    ] {
        world.ask(1, message, answer.as_slice());
    }
    let with = |qos, retain, data: &'static [u8]| {
        Message::Publish(Publish { dup: false, qos, retain, topic: short, msg_id: 4, data })
    };
    world.ask(1, with(one, false, b"1234"), &[puback(0x7879, 4, no)]);
    world.ask(1, with(QosField::AtMostOnce, false, b"1234"), &[]);
    world.ask(1, with(one, true, b"1"), &[puback(0x7879, 4, no)]);
    world.ask(2, publish(one, short, 4), &[GOODBYE]);
    // QoS 2 without end: a bound, and congestion beyond it.
    let mut world = World::with("allow_anonymous true\nmax_inflight_messages 2");
    world.join(1, "dev");
    for msg_id in 1..=2 {
        world.ask(1, publish(QosField::ExactlyOnce, short, msg_id), &[Message::Pubrec { msg_id }]);
    }
    let busy = puback(0x7879, 3, ReturnCode::CONGESTION);
    world.ask(1, publish(QosField::ExactlyOnce, short, 3), &[busy]);
    world.ask(1, Message::Pubrel { msg_id: 1 }, &[Message::Pubcomp { msg_id: 1 }]);
    world.ask(1, publish(QosField::ExactlyOnce, short, 3), &[Message::Pubrec { msg_id: 3 }]);
}

/// Section 3.5 of the reference: the rules of MQTT clients.
#[test]
fn sys_belongs_to_the_broker() {
    let mut world = World::new();
    let (watcher, _) = world.mqtt("watcher", "$SYS/#");
    world.join(1, "dev");
    let id = world.register(1, "$SYS/broker/version");
    world.ask(1, publish(QosField::AtLeastOnce, TopicRef::Normal(id), 4), &[puback(id, 4, ReturnCode::ACCEPTED)]);
    assert_eq!(world.read(watcher), []);
}

/// `[conf: retain]`
#[test]
fn retained_messages_are_kept_and_cleared() {
    let mut world = World::new();
    world.join(1, "dev");
    let with = |data: &'static [u8]| {
        let topic = TopicRef::Short(*b"xy");
        Message::Publish(Publish { dup: false, qos: QosField::AtMostOnce, retain: true, topic, msg_id: 0, data })
    };
    world.ask(1, with(b"x"), &[]);
    assert_eq!(world.broker.retained_count(), 1);
    world.ask(1, with(b""), &[]);
    assert_eq!(world.broker.retained_count(), 0);
}

/// [SN 6.8]
#[test]
fn qos_minus_one_needs_no_connection_where_it_is_allowed() {
    let minus = |topic| publish(QosField::MinusOne, topic, 0);
    let predefined = "mqttsn_predefined_topic 7 pre/defined\n";
    for (options, taken) in [
        ("allow_anonymous true", false),
        ("allow_anonymous true\nmqttsn_allow_qos_minus_one true", true),
        ("mqttsn_allow_qos_minus_one true", false),
        ("mqttsn_allow_qos_minus_one true\nmqttsn_qos_minus_one_user u", true),
    ] {
        let mut world = World::with(&format!("{predefined}{options}"));
        let (watcher, _) = world.mqtt("watcher", "#");
        world.ask(1, minus(TopicRef::Short(*b"xy")), &[]);
        world.ask(1, minus(TopicRef::Predefined(7)), &[]);
        let want = if taken { vec![got("xy", b"x", 0), got("pre/defined", b"x", 0)] } else { vec![] };
        assert_eq!(world.read(watcher), want, "{options}");
        // Never an answer, whatever is wrong.
        for topic in [TopicRef::Predefined(8), TopicRef::Normal(1), TopicRef::Reserved(1), TopicRef::Short(*b"+a")] {
            world.ask(1, minus(topic), &[]);
        }
        assert_eq!(world.read(watcher), []);
    }
}

/// [SN 6.8]: a client may always, awake or asleep.
#[test]
fn qos_minus_one_of_a_client_is_its_own() {
    let mut world = World::new();
    let (watcher, _) = world.mqtt("watcher", "#");
    world.join(1, "dev");
    let message = publish(QosField::MinusOne, TopicRef::Short(*b"xy"), 0);
    world.ask(1, message, &[]);
    world.ask(1, Message::Disconnect { duration_s: Some(60) }, &[GOODBYE]);
    world.ask(1, message, &[]);
    assert_eq!(world.read(watcher).len(), 2);
    assert!(matches!(world.state_of("dev"), Client::Asleep { .. }));
}

/// `[conf: mqttsn_qos_minus_one_long_names]`
#[test]
fn long_names_of_rsmb_are_checked() {
    let message = |len, data: &'static [u8]| {
        let topic = TopicRef::Normal(len);
        Message::Publish(Publish { dup: false, qos: QosField::MinusOne, retain: false, topic, msg_id: 0, data })
    };
    let options = "allow_anonymous true\nmqttsn_allow_qos_minus_one true";
    for (more, want) in [("", vec![]), ("\nmqttsn_qos_minus_one_long_names true", vec![got("a/b", b"xy", 0)])] {
        let mut world = World::with(&format!("{options}{more}"));
        let (watcher, _) = world.mqtt("watcher", "#");
        world.ask(1, message(3, b"a/bxy"), &[]);
        for (len, data) in [(6, &b"a/bxy"[..]), (0xFFFF, b"a"), (0, b"abc"), (3, b"a/#xy"), (2, b"\xC3\x28")] {
            world.ask(1, message(len, data), &[]);
        }
        assert_eq!(world.read(watcher), want);
    }
}

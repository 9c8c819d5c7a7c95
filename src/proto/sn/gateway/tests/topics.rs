//! REGISTER, SUBSCRIBE and UNSUBSCRIBE [SN 6.5, 6.6, 6.7, 6.9].

use super::*;

fn suback(qos: QosField, topic_id: u16, code: ReturnCode) -> Message<'static> {
    Message::Suback { qos, ack: TopicAck { topic_id, msg_id: 5, code } }
}

fn subscribe(qos: QosField, filter: FilterRef<'_>) -> Message<'_> {
    Message::Subscribe { dup: false, qos, msg_id: 5, filter }
}

/// [SN 6.5]
#[test]
fn register_gives_the_same_id_for_the_same_name() {
    let mut world = World::new();
    world.join(1, "dev");
    world.join(2, "other");
    let (a, b) = (world.register(1, "a"), world.register(1, "b/c"));
    assert_eq!((a, b, world.register(1, "a")), (1, 2, 1));
    assert_eq!(world.register(2, "b/c"), 1, "each client has its own");
    for bad in [&b"a/#"[..], b"", b"+", b"a\0", b"\xFF"] {
        let answer = regack(0, 9, ReturnCode::NOT_SUPPORTED);
        world.ask(1, Message::Register { topic_id: 0, msg_id: 9, name: bad }, &[answer]);
    }
    world.ask(3, Message::Register { topic_id: 0, msg_id: 9, name: b"a" }, &[GOODBYE]);
}

/// `[conf: mqttsn_max_topic_ids]`
#[test]
fn a_full_table_is_congestion() {
    let mut world = World::with("allow_anonymous true\nmqttsn_max_topic_ids 2");
    world.join(1, "dev");
    world.register(1, "a");
    world.subscribe(1, "name", QosField::AtMostOnce);
    let full = regack(0, 9, ReturnCode::CONGESTION);
    world.ask(1, Message::Register { topic_id: 0, msg_id: 9, name: b"b" }, &[full]);
    let refused = suback(QosField::AtMostOnce, 0, ReturnCode::CONGESTION);
    world.ask(1, subscribe(QosField::AtMostOnce, FilterRef::Name(b"c/d")), &[refused]);
    world.publish("c/d", b"x", QoS::AtMostOnce, false);
    world.expect(1, &[]);
    // What needs no id is possible.
    world.subscribe(1, "e/#", QosField::AtMostOnce);
    assert_eq!(world.register(1, "a"), 1);
}

/// [SN 6.9]
#[test]
fn suback_has_the_id_that_publish_uses() {
    let mut world = World::with("allow_anonymous true\nmqttsn_predefined_topic 7 pre/defined");
    world.join(1, "dev");
    let one = QosField::AtLeastOnce;
    for (filter, id) in [
        (FilterRef::Name(b"a/b"), 1),
        (FilterRef::Name(b"c"), 2),
        (FilterRef::Name(b"a/b"), 1),
        (FilterRef::Name(b"w/#"), 0),
        (FilterRef::Name(b"xy"), 0),
        (FilterRef::Short(*b"zz"), 0),
        (FilterRef::Predefined(7), 7),
        (FilterRef::Name(b"$share/g/s"), 0),
    ] {
        world.ask(1, subscribe(one, filter), &[suback(one, id, ReturnCode::ACCEPTED)]);
    }
    let publishes = |topic| publish(QosField::AtMostOnce, topic, 0);
    for (topic, reference) in [
        ("a/b", TopicRef::Normal(1)),
        ("c", TopicRef::Normal(2)),
        ("xy", TopicRef::Short(*b"xy")),
        ("zz", TopicRef::Short(*b"zz")),
        ("pre/defined", TopicRef::Predefined(7)),
    ] {
        world.publish(topic, b"x", QoS::AtMostOnce, false);
        world.expect(1, &[publishes(reference)]);
    }
    // A name that only a wildcard or a share brings is registered first.
    for (topic, id) in [("w/1", 3), ("s", 4)] {
        world.publish(topic, b"x", QoS::AtMostOnce, false);
        world.expect(1, &[Message::Register { topic_id: id, msg_id: id - 2, name: topic.as_bytes() }]);
        world.ask(1, regack(id, id - 2, ReturnCode::ACCEPTED), &[publishes(TopicRef::Normal(id))]);
        world.publish(topic, b"x", QoS::AtMostOnce, false);
        world.expect(1, &[publishes(TopicRef::Normal(id))]);
    }
}

/// Section 9 of the reference.
#[test]
fn a_predefined_name_is_only_used_by_who_subscribed_to_it() {
    let mut world = World::with("allow_anonymous true\nmqttsn_predefined_topic 7 pre/defined");
    world.join(1, "dev");
    world.subscribe(1, "#", QosField::AtMostOnce);
    world.publish("pre/defined", b"x", QoS::AtMostOnce, false);
    world.expect(1, &[Message::Register { topic_id: 1, msg_id: 1, name: b"pre/defined" }]);
    // The other name space.
    world.join(2, "other");
    assert_eq!(world.register(2, "pre/defined"), 1);
    world.ask(
        1,
        Message::Unsubscribe { msg_id: 5, filter: FilterRef::Predefined(7) },
        &[Message::Unsuback { msg_id: 5 }],
    );
}

/// [SN 6.6]: ids of one client come before those of all.
#[test]
fn predefined_ids_may_belong_to_one_client() {
    let mut world = World::with("allow_anonymous true\nmqttsn_predefined_topic 9 all/topic");
    let (watcher, _) = world.mqtt("watcher", "#");
    for (port, client_id) in [(1, "dev"), (2, "special")] {
        world.join(port, client_id);
        world.ask(port, publish(QosField::AtMostOnce, TopicRef::Predefined(9), 0), &[]);
    }
    assert_eq!(world.read(watcher), [got("all/topic", b"x", 0), got("own/topic", b"x", 0)]);
}

/// [SN 6.9], section 3.7 of the reference
#[test]
fn a_bad_subscription_is_refused() {
    let mut world = World::new();
    world.join(1, "dev");
    let (bad, no) = (ReturnCode::INVALID_TOPIC_ID, ReturnCode::NOT_SUPPORTED);
    let zero = QosField::AtMostOnce;
    for (qos, filter, code) in [
        (zero, FilterRef::Predefined(99), bad),
        (zero, FilterRef::Name(b"a/#/b"), no),
        (zero, FilterRef::Name(b"a+"), no),
        (zero, FilterRef::Name(b""), no),
        (zero, FilterRef::Name(b"\xFF"), no),
        (zero, FilterRef::Name(b"$share/g"), no),
        (zero, FilterRef::Short(*b"a#"), no),
        (zero, FilterRef::Short([0, 1]), no),
        (zero, FilterRef::Reserved, no),
        (QosField::MinusOne, FilterRef::Name(b"a"), no),
    ] {
        world.ask(1, subscribe(qos, filter), &[suback(zero, 0, code)]);
    }
    assert_eq!(world.broker.subscription_counts(), (0, 0));
    world.ask(2, subscribe(zero, FilterRef::Name(b"a")), &[GOODBYE]);
}

/// [SN 6.9]
#[test]
fn unsubscribe_is_always_answered() {
    let mut world = World::with("allow_anonymous true\nmqttsn_predefined_topic 7 pre/defined");
    world.join(1, "dev");
    let forms = [FilterRef::Name(b"a/b"), FilterRef::Name(b"c/+"), FilterRef::Predefined(7), FilterRef::Short(*b"xy")];
    for filter in forms {
        world.send(1, subscribe(QosField::AtMostOnce, filter));
    }
    world.take(1);
    assert_eq!(world.broker.subscription_counts(), (4, 0));
    let others = [FilterRef::Predefined(99), FilterRef::Name(b"a/#/b"), FilterRef::Reserved, FilterRef::Name(b"none")];
    for filter in forms.into_iter().chain(others) {
        world.ask(1, Message::Unsubscribe { msg_id: 6, filter }, &[Message::Unsuback { msg_id: 6 }]);
    }
    assert_eq!(world.broker.subscription_counts(), (0, 0));
}

/// Section 9 of the reference: retained messages come after SUBACK.
#[test]
fn retained_messages_follow_suback() {
    let mut world = World::new();
    world.publish("a/b", b"x", QoS::AtMostOnce, true);
    world.join(1, "dev");
    world.send(1, subscribe(QosField::AtMostOnce, FilterRef::Name(b"a/b")));
    let message = Publish {
        dup: false,
        qos: QosField::AtMostOnce,
        retain: true,
        topic: TopicRef::Normal(1),
        msg_id: 0,
        data: b"x",
    };
    world.expect(1, &[suback(QosField::AtMostOnce, 1, ReturnCode::ACCEPTED), Message::Publish(message)]);
    world.send(1, subscribe(QosField::AtMostOnce, FilterRef::Name(b"a/+")));
    world.expect(1, &[suback(QosField::AtMostOnce, 0, ReturnCode::ACCEPTED), Message::Publish(message)]);
}

/// Section 9 of the reference: a name the client registered needs no REGISTER when a wildcard brings it.
#[test]
fn a_name_that_the_client_registered_is_known() {
    let mut world = World::new();
    world.join(1, "dev");
    let id = world.register(1, "a/b");
    world.subscribe(1, "a/#", QosField::AtMostOnce);
    world.publish("a/b", b"x", QoS::AtMostOnce, false);
    world.expect(1, &[publish(QosField::AtMostOnce, TopicRef::Normal(id), 0)]);
}

/// `[conf: mount_point]`
#[test]
fn the_mount_point_is_not_seen() {
    let mut world = World::with("allow_anonymous true\nmount_point m/\nmqttsn_predefined_topic 7 pre/defined");
    let (watcher, _) = world.mqtt("watcher", "#");
    world.join(1, "dev");
    for filter in [FilterRef::Name(b"a/b"), FilterRef::Short(*b"xy"), FilterRef::Predefined(7)] {
        world.send(1, subscribe(QosField::AtMostOnce, filter));
    }
    world.take(1);
    for (topic, name) in
        [(TopicRef::Normal(1), "m/a/b"), (TopicRef::Short(*b"xy"), "m/xy"), (TopicRef::Predefined(7), "m/pre/defined")]
    {
        let message = publish(QosField::AtMostOnce, topic, 0);
        world.ask(1, message, &[message]);
        assert_eq!(world.read(watcher), [got(name, b"x", 0)]);
    }
    world.publish("a/b", b"x", QoS::AtMostOnce, false);
    world.expect(1, &[]);
}

/// Shared subscriptions: one world.
#[test]
fn a_share_group_has_members_of_both_kinds() {
    let mut world = World::new();
    world.join(1, "dev");
    world.subscribe(1, "$share/g/job", QosField::AtMostOnce);
    world.join(2, "other");
    world.subscribe(2, "$share/g/job", QosField::AtMostOnce);
    // Who sleeps has no turn while somebody is awake.
    world.ask(1, Message::Disconnect { duration_s: Some(100) }, &[GOODBYE]);
    for _ in 0..3 {
        world.publish("job", b"x", QoS::AtMostOnce, false);
    }
    world.expect(1, &[]);
    assert_eq!(type_of(&world.take(2)[0]), Some(MessageType::Register));
}

//! The will dialogue and its updates [SN 6.2, 6.3, 6.4].

use super::*;
use crate::proto::sn::wire::WillTopic;

fn topic(topic: &[u8]) -> Option<WillTopic<'_>> {
    Some(WillTopic { qos: QosField::AtLeastOnce, retain: false, topic })
}

/// Connects a client with a will on "gone".
fn join_with_will(world: &mut World, port: u16, client_id: &str, clean: bool) {
    world.ask(port, connect_with_will(client_id, clean), &[Message::WillTopicReq]);
    world.ask(port, Message::WillTopic(topic(b"gone")), &[Message::WillMsgReq]);
    world.ask(port, Message::WillMsg(b"bye\0bye"), &[ACCEPTED]);
}

/// [SN 6.2], [SN 6.11]
#[test]
fn a_will_is_asked_for_and_published_when_its_client_is_lost() {
    let mut world = World::new();
    let (watcher, _) = world.mqtt("watcher", "#");
    join_with_will(&mut world, 1, "dev", true);
    world.wait(91_000);
    assert_eq!(world.read(watcher), [got("gone", b"bye\0bye", 1)]);
    // Not after DISCONNECT.
    join_with_will(&mut world, 1, "dev", true);
    world.ask(1, GOODBYE, &[GOODBYE]);
    assert_eq!(world.read(watcher), []);
}

/// [SN 6.2]
#[test]
fn nothing_exists_before_connack() {
    let mut world = World::new();
    let (session, _) = world.mqtt("dev", "");
    world.ask(1, connect_with_will("dev", true), &[Message::WillTopicReq]);
    world.ask(1, Message::WillTopic(topic(b"gone")), &[Message::WillMsgReq]);
    assert!(world.gateway.is_empty() && world.closed.is_empty());
    assert_eq!(world.broker.find_client("dev"), Some(session));
    world.ask(1, Message::WillMsg(b""), &[ACCEPTED]);
    assert_eq!(world.closed.len(), 1);
}

/// [SN 6.2], [SN 6.13]: each part may be lost and come again.
#[test]
fn every_step_may_be_repeated() {
    let mut world = World::new();
    world.ask(1, connect_with_will("dev", true), &[Message::WillTopicReq]);
    world.ask(1, connect_with_will("dev", true), &[Message::WillTopicReq]);
    // Out of order: asked again for what is missing.
    world.ask(1, Message::WillMsg(b"early"), &[Message::WillTopicReq]);
    world.ask(1, Message::WillTopic(topic(b"gone")), &[Message::WillMsgReq]);
    world.ask(1, Message::WillTopic(topic(b"gone")), &[Message::WillMsgReq]);
    world.ask(1, connect_with_will("dev", true), &[Message::WillTopicReq]);
    world.ask(1, Message::WillTopic(topic(b"gone")), &[Message::WillMsgReq]);
    world.ask(1, Message::WillMsg(b"bye"), &[ACCEPTED]);
    // CONNACK was lost.
    world.ask(1, Message::WillMsg(b"bye"), &[ACCEPTED]);
    world.ask(1, connect_with_will("dev", true), &[ACCEPTED]);
    world.ask(1, Message::Pingreq { client_id: b"" }, &[Message::Pingresp]);
    // Nobody asked for these.
    world.ask(1, Message::WillMsg(b"other"), &[]);
    world.ask(1, Message::WillTopic(topic(b"other")), &[]);
    world.ask(9, Message::WillTopic(topic(b"other")), &[]);
    world.ask(9, Message::WillMsg(b"other"), &[]);
    assert_eq!(world.gateway.len(), 1);
}

/// [SN 6.13]
#[test]
fn a_question_is_repeated_and_then_given_up() {
    let mut world = World::new();
    world.ask(1, connect_with_will("dev", true), &[Message::WillTopicReq]);
    for _ in 0..3 {
        world.wait(9_000);
        world.expect(1, &[]);
        world.wait(1_000);
        world.expect(1, &[Message::WillTopicReq]);
    }
    world.wait(10_000);
    world.expect(1, &[]);
    assert_eq!(world.gateway.dialogues.len(), 0);
    world.ask(1, Message::WillTopic(topic(b"gone")), &[]);
}

/// [SN 6.2]
#[test]
fn a_bad_will_is_refused() {
    let will = |qos, retain, topic| Message::WillTopic(Some(WillTopic { qos, retain, topic }));
    let (bad, no) = (ReturnCode::INVALID_TOPIC_ID, ReturnCode::NOT_SUPPORTED);
    let qos0 = QosField::AtMostOnce;
    for (options, message, code) in [
        ("", will(qos0, false, &b"a/#"[..]), bad),
        ("", will(qos0, false, b"a\0b"), bad),
        ("", will(qos0, false, b"\xC0\x80"), bad),
        ("", will(qos0, false, b"$CONTROL/x"), bad),
        ("", will(QosField::MinusOne, false, b"a"), no),
        ("max_qos 1", will(QosField::ExactlyOnce, false, b"a"), no),
        ("retain_available false", will(qos0, true, b"a"), no),
    ] {
        let mut world = World::with(&format!("allow_anonymous true\n{options}"));
        world.ask(1, connect_with_will("dev", true), &[Message::WillTopicReq]);
        world.ask(1, message, &[Message::Connack(code)]);
        world.ask(1, Message::WillMsg(b"x"), &[]);
        assert!(world.gateway.is_empty());
    }
    let mut world = World::with("allow_anonymous true\nmessage_size_limit 3");
    world.ask(1, connect_with_will("dev", true), &[Message::WillTopicReq]);
    world.ask(1, Message::WillTopic(topic(b"gone")), &[Message::WillMsgReq]);
    world.ask(1, Message::WillMsg(b"1234"), &[Message::Connack(no)]);
}

/// [SN 6.3]: the table of clean session and will.
#[test]
fn a_will_stays_with_a_session_that_is_not_clean() {
    let mut world = World::new();
    let (watcher, _) = world.mqtt("watcher", "#");
    let lost = |world: &mut World| {
        world.wait(91_000);
        world.read(watcher).len()
    };
    join_with_will(&mut world, 1, "dev", false);
    world.ask(1, GOODBYE, &[GOODBYE]);
    assert_eq!(world.read(watcher), []);
    // Kept, and armed again, also after it was published.
    world.join_for_long(1, "dev");
    assert_eq!(lost(&mut world), 1);
    world.join_for_long(1, "dev");
    assert_eq!(lost(&mut world), 1);
    // The empty WILLTOPIC deletes it.
    world.ask(1, connect_with_will("dev", false), &[Message::WillTopicReq]);
    world.ask(1, Message::WillTopic(None), &[ACCEPTED]);
    assert_eq!(lost(&mut world), 0);
    world.join_for_long(1, "dev");
    assert_eq!(lost(&mut world), 0);
    // And so does a clean session, and an MQTT client that has none.
    join_with_will(&mut world, 1, "dev", false);
    world.ask(1, GOODBYE, &[GOODBYE]);
    world.join(1, "dev");
    assert_eq!(lost(&mut world), 0);
    join_with_will(&mut world, 1, "dev", false);
    world.ask(1, GOODBYE, &[GOODBYE]);
    let other = world.mqtt("dev", "");
    world.mqtt_leaves(other);
    world.join_for_long(1, "dev");
    assert_eq!(lost(&mut world), 0);
}

/// [SN 6.4]
#[test]
fn updates_replace_each_part_and_the_empty_form_deletes() {
    let mut world = World::new();
    let (watcher, _) = world.mqtt("watcher", "#");
    let topic_ok = Message::WillTopicResp(ReturnCode::ACCEPTED);
    let msg_ok = Message::WillMsgResp(ReturnCode::ACCEPTED);
    join_with_will(&mut world, 1, "dev", true);
    world.ask(1, Message::WillTopicUpd(topic(b"new")), &[topic_ok]);
    world.ask(1, Message::WillMsgUpd(b"text"), &[msg_ok]);
    world.ask(1, Message::WillMsgUpd(b"text"), &[msg_ok]);
    world.wait(91_000);
    assert_eq!(world.read(watcher), [got("new", b"text", 1)]);
    // From nothing: half a will is none until the topic comes.
    world.join(1, "dev");
    world.ask(1, Message::WillMsgUpd(b"first"), &[msg_ok]);
    world.wait(91_000);
    assert_eq!(world.read(watcher), []);
    world.join(1, "dev");
    world.ask(1, Message::WillMsgUpd(b"first"), &[msg_ok]);
    world.ask(1, Message::WillTopicUpd(topic(b"then")), &[topic_ok]);
    world.wait(91_000);
    assert_eq!(world.read(watcher), [got("then", b"first", 1)]);
    join_with_will(&mut world, 1, "dev", true);
    world.ask(1, Message::WillTopicUpd(None), &[topic_ok]);
    world.wait(91_000);
    assert_eq!(world.read(watcher), []);
    // A bad one changes nothing.
    join_with_will(&mut world, 1, "dev", true);
    let refused = Message::WillTopicResp(ReturnCode::INVALID_TOPIC_ID);
    world.ask(1, Message::WillTopicUpd(topic(b"a/+")), &[refused]);
    world.wait(91_000);
    assert_eq!(world.read(watcher), [got("gone", b"bye\0bye", 1)]);
    world.ask(9, Message::WillMsgUpd(b"x"), &[GOODBYE]);
}

/// `[conf: mount_point]`
#[test]
fn a_will_is_below_the_mount_point() {
    let mut world = World::with("allow_anonymous true\nmount_point m/\n");
    let (watcher, _) = world.mqtt("watcher", "#");
    join_with_will(&mut world, 1, "dev", true);
    world.wait(91_000);
    assert_eq!(world.read(watcher), [got("m/gone", b"bye\0bye", 1)]);
}

//! Messages to devices: topic ids, retransmission, what comes back [SN 6.5, 6.9, 6.10, 6.13].

use super::*;

#[test]
fn a_wildcard_subscriber_learns_each_name_first() {
    let gateway = Gateway::start("");
    let mut mqtt = gateway.mqtt("m");
    let device = gateway.connected(CLEAN, "d");
    assert_eq!(device.subscribe(QOS1, 1, "w/#"), 0);
    for payload in ["1", "2"] {
        publish_from(&mut mqtt, "w/x", payload);
    }
    publish_from(&mut mqtt, "w/y", "3");
    // While the name is not acknowledged nothing else comes.
    let got = device.recv();
    assert_eq!(got[6..], *b"w/x");
    gateway.expect_silence(&[&device]);
    let x = u16_at(&got, 2);
    device.send(&regack(x, u16_at(&got, 4), OK));
    device.take(QOS1, x, "1");
    device.take(QOS1, x, "2");
    let y = device.accept("w/y");
    assert_ne!(x, y);
    device.take(QOS1, y, "3");
    // A plain name has its id from SUBACK, and a name of two octets needs none.
    let z = device.subscribe(QOS1, 2, "plain/z");
    assert_ne!(z, 0);
    publish_from(&mut mqtt, "plain/z", "4");
    device.take(QOS1, z, "4");
    assert_eq!(device.subscribe(QOS1, 3, "zz"), 0);
    publish_from(&mut mqtt, "zz", "5");
    device.take(QOS1 | SHORT, short("zz"), "5");
    // The same table for publishing.
    let mut witness = gateway.subscriber("plain/z", 0);
    assert_eq!(device.register(4, "plain/z"), z);
    device.send(&publish(0, z, 0, "6"));
    expect_at(&mut witness, "plain/z", "6");
}

#[test]
fn a_refused_name_stops_only_itself() {
    let gateway = Gateway::start("");
    let mut mqtt = gateway.mqtt("m");
    let device = gateway.connected(CLEAN, "d");
    assert_eq!(device.subscribe(QOS1, 1, "w/#"), 0);
    publish_from(&mut mqtt, "w/bad", "1");
    publish_from(&mut mqtt, "w/bad", "2");
    publish_from(&mut mqtt, "w/good", "3");
    let got = device.recv();
    assert_eq!(got[6..], *b"w/bad");
    device.send(&regack(u16_at(&got, 2), u16_at(&got, 4), NOT_SUPPORTED));
    let good = device.accept("w/good");
    device.take(QOS1, good, "3");
    publish_from(&mut mqtt, "w/bad", "4");
    publish_from(&mut mqtt, "w/good", "5");
    device.take(QOS1, good, "5");
    gateway.expect_silence(&[&device]);
}

#[test]
fn an_id_the_device_forgot_is_registered_again() {
    let gateway = Gateway::start("");
    let mut mqtt = gateway.mqtt("m");
    let device = gateway.connected(0, "d");
    assert_eq!(device.subscribe(QOS1, 1, "w/#"), 0);
    publish_from(&mut mqtt, "w/x", "1");
    let x = device.accept("w/x");
    let msg_id = device.expect_publish(QOS1, x, "1");
    device.send(&puback(x, msg_id, INVALID_ID));
    let x = device.accept("w/x");
    let again = device.recv();
    assert_eq!((again[1], again[2] & !DUP, u16_at(&again, 3), &again[7..]), (0x0C, QOS1, x, &b"1"[..]));
    device.send(&puback(x, u16_at(&again, 5), OK));
    device.ask(&pingreq(""), PINGRESP);
    // After a reconnect the device may have lost its table, or not: the id stays, and is said again.
    device.ask(&connect(0, 60, "d"), &connack(OK));
    device.send(&publish(0, x, 0, "own"));
    let same = device.accept("w/x");
    assert_eq!(same, x);
    assert_eq!(device.expect_publish(0, x, "own"), 0);
}

#[test]
fn what_is_not_acknowledged_is_repeated_and_then_kept() {
    let gateway = Gateway::start("mqttsn_retry_interval 1\nmqttsn_max_retries 2\n");
    let mut mqtt = gateway.mqtt("m");
    let mut witness = gateway.subscriber("will/#", 0);
    let device = gateway.device();
    device.connect_with_will(0, 0, "d", ("will/d", "gone"));
    device.ask(&subscribe(QOS2 | SHORT, 1, b"ab"), &suback(QOS2, 0, 1, OK));
    publish_from(&mut mqtt, "ab", "1");
    let msg_id = device.expect_publish(QOS1 | SHORT, short("ab"), "1");
    // One at a time, as small devices expect.
    publish_from(&mut mqtt, "ab", "2");
    for _ in 0..2 {
        assert_eq!(device.expect_publish(QOS1 | SHORT | DUP, short("ab"), "1"), msg_id);
    }
    // Lost, and the will tells.
    expect_at(&mut witness, "will/d", "gone");
    device.ask(&pingreq(""), DISCONNECT);
    device.ask(&connect(0, 0, "d"), &connack(OK));
    assert_eq!(device.expect_publish(QOS1 | SHORT | DUP, short("ab"), "1"), msg_id);
    device.send(&puback(short("ab"), msg_id, OK));
    device.take(QOS1 | SHORT, short("ab"), "2");
    device.ask(&pingreq(""), PINGRESP);
}

#[test]
fn qos_2_to_a_device_that_repeats_itself() {
    let gateway = Gateway::start("mqttsn_retry_interval 1\n");
    let mut mqtt = gateway.mqtt("m");
    let device = gateway.connected(CLEAN, "d");
    device.ask(&subscribe(QOS2 | SHORT, 1, b"ab"), &suback(QOS2, 0, 1, OK));
    mqtt.send(&mqtt_publish(4, 0x04, "ab", 9, b"1"));
    mqtt.expect(&[0x50, 2, 0, 9]);
    mqtt.send(&[0x62, 2, 0, 9]);
    mqtt.expect(&[0x70, 2, 0, 9]);
    let msg_id = device.expect_publish(QOS2 | SHORT, short("ab"), "1");
    device.ask(&pubrec(msg_id), &pubrel(msg_id));
    device.ask(&pubrec(msg_id), &pubrel(msg_id));
    // PUBREL got lost.
    device.expect(&pubrel(msg_id));
    device.send(&pubcomp(msg_id));
    device.send(&pubcomp(msg_id));
    // Acknowledgements of nothing.
    device.send(&puback(short("ab"), 77, OK));
    device.send(&regack(5, 77, OK));
    device.ask(&pingreq(""), PINGRESP);
}

/// Return codes in PUBACK by a device.
#[test]
fn a_device_that_cannot_take_a_message() {
    let gateway = Gateway::start("mqttsn_retry_interval 1\n");
    let mut mqtt = gateway.mqtt("m");
    let device = gateway.connected(CLEAN, "d");
    device.ask(&subscribe(QOS1 | SHORT, 1, b"ab"), &suback(QOS1, 0, 1, OK));
    publish_from(&mut mqtt, "ab", "1");
    let msg_id = device.expect_publish(QOS1 | SHORT, short("ab"), "1");
    // Congestion: not delivered, later again.
    device.send(&puback(short("ab"), msg_id, CONGESTION));
    gateway.expect_silence(&[&device]);
    let again = device.recv();
    assert_eq!((again[1], again[2] & !DUP, &again[7..]), (0x0C, QOS1 | SHORT, &b"1"[..]));
    // Not supported: dropped.
    publish_from(&mut mqtt, "ab", "2");
    device.send(&puback(short("ab"), u16_at(&again, 5), NOT_SUPPORTED));
    device.take(QOS1 | SHORT, short("ab"), "2");
}

#[test]
fn too_long_for_the_link_is_dropped_for_this_subscriber_only() {
    let gateway = Gateway::start("mqttsn_max_send_size 60\n");
    let mut mqtt = gateway.mqtt("m");
    let mut witness = gateway.subscriber("ab", 0);
    let device = gateway.connected(CLEAN, "d");
    device.ask(&subscribe(QOS1 | SHORT, 1, b"ab"), &suback(QOS1, 0, 1, OK));
    let long = "x".repeat(54);
    publish_from(&mut mqtt, "ab", &long);
    publish_from(&mut mqtt, "ab", &long[1..]);
    expect_at(&mut witness, "ab", &long);
    device.take(QOS1 | SHORT, short("ab"), &long[1..]);
    device.ask(&pingreq(""), PINGRESP);
}

#[test]
fn retained_messages_follow_suback() {
    let gateway = Gateway::start("");
    let mut mqtt = gateway.mqtt("m");
    mqtt.send(&mqtt_publish(4, 0x03, "r/x", 7, b"kept"));
    mqtt.expect(&[0x40, 2, 0, 7]);
    let device = gateway.connected(CLEAN, "d");
    assert_eq!(device.subscribe(QOS1, 1, "r/+"), 0);
    let x = device.accept("r/x");
    device.take(QOS1 | RETAIN, x, "kept");
    publish_from(&mut mqtt, "r/x", "live");
    device.take(QOS1, x, "live");
    // The device clears it.
    device.ask(&publish(QOS1 | RETAIN, x, 3, ""), &puback(x, 3, OK));
    device.take(QOS1, x, "");
    let other = gateway.connected(CLEAN, "e");
    assert_eq!(other.subscribe(QOS1, 1, "r/+"), 0);
    gateway.expect_silence(&[&other]);
}

#[test]
fn a_predefined_topic_by_id_and_by_wildcard() {
    let gateway = Gateway::start("mqttsn_predefined_topic 7 p/seven\n");
    let mut mqtt = gateway.mqtt("m");
    let by_id = gateway.connected(CLEAN, "a");
    by_id.ask(&subscribe(QOS1 | PREDEFINED, 1, &[0, 7]), &suback(QOS1, 7, 1, OK));
    by_id.ask(&subscribe(QOS1 | PREDEFINED, 2, &[0, 8]), &suback(0, 0, 2, INVALID_ID));
    let by_filter = gateway.connected(CLEAN, "b");
    assert_eq!(by_filter.subscribe(QOS1, 1, "p/#"), 0);
    publish_from(&mut mqtt, "p/seven", "1");
    by_id.take(QOS1 | PREDEFINED, 7, "1");
    let id = by_filter.accept("p/seven");
    by_filter.take(QOS1, id, "1");
    // Any client may publish by the id.
    by_filter.ask(&publish(QOS1 | PREDEFINED, 7, 5, "2"), &puback(7, 5, OK));
    by_filter.take(QOS1, id, "2");
    by_id.take(QOS1 | PREDEFINED, 7, "2");
}

#[test]
fn a_mount_point_is_taken_off_before_the_form_is_chosen() {
    let gateway = Gateway::start("mount_point m/\n");
    let mut mqtt = gateway.mqtt("m");
    let mut witness = gateway.subscriber("m/#", 0);
    let device = gateway.connected(CLEAN, "d");
    device.ask(&subscribe(QOS1 | SHORT, 1, b"ab"), &suback(QOS1, 0, 1, OK));
    publish_from(&mut mqtt, "m/ab", "1");
    expect_at(&mut witness, "m/ab", "1");
    device.take(QOS1 | SHORT, short("ab"), "1");
    device.send(&publish(SHORT, short("ab"), 0, "2"));
    expect_at(&mut witness, "m/ab", "2");
}

#[test]
fn a_table_without_room() {
    let gateway = Gateway::start("mqttsn_max_topic_ids 2\n");
    let mut mqtt = gateway.mqtt("m");
    let device = gateway.connected(CLEAN, "d");
    let one = device.register(1, "t/one");
    assert_ne!(device.register(2, "t/two"), one);
    assert_eq!(device.register(3, "t/one"), one);
    device.send(&register(0, 4, "t/three"));
    let got = device.recv();
    assert_eq!((got[1], u16_at(&got, 4), got[6]), (0x0B, 4, CONGESTION));
    device.send(&subscribe(QOS1, 5, b"t/four"));
    let got = device.recv();
    assert_eq!((got[1], u16_at(&got, 5), got[7]), (0x13, 5, CONGESTION));
    // Nothing else stops working.
    assert_eq!(device.subscribe(QOS1, 6, "t/#"), 0);
    publish_from(&mut mqtt, "t/one", "1");
    device.take(QOS1, one, "1");
}

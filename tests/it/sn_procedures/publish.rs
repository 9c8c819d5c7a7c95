//! Messages from devices, with a connection and without [SN 6.6 to 6.8, 6.13].

use super::*;

#[test]
fn an_unknown_topic_id_is_said_at_each_qos() {
    let gateway = Gateway::start("");
    let device = gateway.connected(CLEAN, "d");
    device.ask(&publish(0, 99, 0, "x"), &puback(99, 0, INVALID_ID));
    device.ask(&publish(QOS1, 99, 1, "x"), &puback(99, 1, INVALID_ID));
    device.ask(&publish(QOS2, 99, 2, "x"), &puback(99, 2, INVALID_ID));
    device.ask(&publish(QOS1 | PREDEFINED, 9, 3, "x"), &puback(9, 3, INVALID_ID));
    device.ask(&publish(QOS1 | SHORT, short("a+"), 4, "x"), &puback(short("a+"), 4, INVALID_ID));
    device.ask(&publish(QOS1 | 3, 1, 5, "x"), &puback(1, 5, NOT_SUPPORTED));
    // Without a name that can be one.
    for name in ["a/+", "#", ""] {
        device.send(&register(0, 6, name));
        let got = device.recv();
        assert!(got[1] == 0x0B && got[6] >= INVALID_ID, "{name}: {}", hex(&got));
    }
    for (flags, filter) in [(QOS1, &b"a/#/b"[..]), (QOS1, b"a+"), (3, b"ab"), (MINUS_ONE, b"a/b")] {
        device.send(&subscribe(flags, 7, filter));
        let got = device.recv();
        assert!(got[1] == 0x13 && got[7] >= INVALID_ID && u16_at(&got, 5) == 7, "{}", hex(&got));
    }
    // To end what was never there.
    device.ask(&message(0x14, &[&[0, 0, 8], b"no/thing"]), b"\x04\x15\0\x08");
    device.ask(&pingreq(""), PINGRESP);
}

#[test]
fn qos_2_by_a_device_that_repeats_itself() {
    let gateway = Gateway::start("");
    let mut witness = gateway.subscriber("#", 0);
    let device = gateway.connected(0, "d");
    let datagram = publish(QOS2 | SHORT, short("ab"), 5, "once");
    device.ask(&datagram, &pubrec(5));
    device.ask(&datagram, &pubrec(5));
    device.ask(&publish(QOS2 | SHORT | DUP, short("ab"), 5, "once"), &pubrec(5));
    // The connection in between changes nothing.
    device.ask(&connect(0, 60, "d"), &connack(OK));
    device.ask(&publish(QOS2 | SHORT | DUP, short("ab"), 5, "once"), &pubrec(5));
    device.ask(&pubrel(5), &pubcomp(5));
    device.ask(&pubrel(5), &pubcomp(5));
    device.ask(&pubrel(77), &pubcomp(77));
    expect_at(&mut witness, "ab", "once");
    // The same id again is a new message.
    device.ask(&publish(QOS2 | SHORT, short("ab"), 5, "next"), &pubrec(5));
    device.ask(&pubrel(5), &pubcomp(5));
    expect_at(&mut witness, "ab", "next");
    witness.ping();
    // SUBSCRIBE and REGISTER, too.
    let first = device.subscribe(QOS1, 6, "x/y");
    device.ask(&subscribe(QOS1 | DUP, 6, b"x/y"), &suback(QOS1, first, 6, OK));
    assert_eq!(device.register(7, "x/y"), first);
    assert_eq!(device.register(7, "x/y"), first);
    // QoS 1 needs a message id.
    device.send(&publish(QOS1 | SHORT, short("ab"), 0, "x"));
    gateway.settle();
    device.send(&pingreq(""));
    let answer = device.recv();
    assert!(answer == PINGRESP || answer == puback(short("ab"), 0, NOT_SUPPORTED), "{}", hex(&answer));
}

/// A network that holds a copy back until the exchange is over.
#[test]
fn a_late_copy_of_a_finished_message_is_no_new_one() {
    let gateway = Gateway::start("");
    let mut witness = gateway.subscriber("#", 0);
    let device = gateway.connected(CLEAN, "d");
    let datagram = publish(QOS2 | SHORT, short("ab"), 5, "once");
    device.ask(&datagram, &pubrec(5));
    device.ask(&pubrel(5), &pubcomp(5));
    expect_at(&mut witness, "ab", "once");
    device.ask(&datagram, &pubrec(5));
    witness.ping();
    // A device that uses one id again and again means what it says, even the same twice.
    let device = gateway.connected(CLEAN, "e");
    for payload in ["on", "off", "on", "on", "on"] {
        let datagram = publish(QOS2 | SHORT, short("ab"), 1, payload);
        device.ask(&datagram, &pubrec(1));
        device.ask(&pubrel(1), &pubcomp(1));
        expect_at(&mut witness, "ab", payload);
        // A copy of the one before does not stand in the way of the next.
        if payload == "off" {
            device.ask(&datagram, &pubrec(1));
        }
    }
    witness.ping();
}

#[test]
fn more_than_the_window_is_congestion() {
    let gateway = Gateway::start("max_inflight_messages 3\n");
    let device = gateway.connected(CLEAN, "d");
    let mut refused = 0;
    for msg_id in 1..=200 {
        device.send(&publish(QOS2 | SHORT, short("ab"), msg_id, "x"));
        let got = device.recv();
        if got == puback(short("ab"), msg_id, CONGESTION) {
            refused += 1;
        } else {
            assert!(got == pubrec(msg_id), "{}", hex(&got));
        }
    }
    assert!(refused > 0, "200 messages without a PUBREL");
    device.ask(&pubrel(1), &pubcomp(1));
    device.ask(&publish(QOS2 | SHORT, short("ab"), 201, "x"), &pubrec(201));
}

#[test]
fn without_a_connection_only_where_it_is_allowed() {
    let open = Gateway::start("mqttsn_allow_qos_minus_one true\nmqttsn_predefined_topic 7 p/seven\n");
    let closed = Gateway::start("mqttsn_predefined_topic 7 p/seven\n");
    for (gateway, allowed) in [(&open, true), (&closed, false)] {
        let mut witness = gateway.subscriber("#", 0);
        let device = gateway.device();
        device.send(&publish(MINUS_ONE | SHORT, short("ab"), 0, "1"));
        device.send(&publish(MINUS_ONE | PREDEFINED, 7, 0, "2"));
        // No such id, a normal id, a name with a wildcard: nothing, and no answer ever.
        device.send(&publish(MINUS_ONE | PREDEFINED, 8, 0, "3"));
        device.send(&publish(MINUS_ONE, 7, 0, "4"));
        device.send(&publish(MINUS_ONE | SHORT, short("a#"), 0, "5"));
        gateway.expect_silence(&[&device]);
        if allowed {
            expect_at(&mut witness, "ab", "1");
            expect_at(&mut witness, "p/seven", "2");
        }
        witness.ping();
    }
}

#[test]
fn the_rules_of_access_count_for_devices() {
    let acl = std::env::temp_dir().join(format!("mosquitto-it-sn-acl-{}", std::process::id()));
    let rules =
        "topic read #\ntopic write open\nuser field\ntopic write ab\ntopic read ab\nuser d1\ntopic write d1/#\n";
    std::fs::write(&acl, rules).expect("a file");
    let lines = format!(
        "acl_file {}\nmqttsn_allow_qos_minus_one true\nmqttsn_qos_minus_one_user field\nmqttsn_use_clientid_as_username true\n",
        acl.display()
    );
    let gateway = Gateway::start(&lines);
    let mut witness = gateway.subscriber("#", 0);
    let stranger = gateway.device();
    stranger.send(&publish(MINUS_ONE | SHORT, short("ab"), 0, "1"));
    stranger.send(&publish(MINUS_ONE | SHORT, short("xy"), 0, "2"));
    gateway.expect_silence(&[&stranger]);
    expect_at(&mut witness, "ab", "1");
    let device = gateway.connected(CLEAN, "d1");
    let own = device.register(1, "d1/t");
    device.ask(&publish(QOS1, own, 2, "3"), &puback(own, 2, OK));
    expect_at(&mut witness, "d1/t", "3");
    // Acknowledged as in MQTT 3.1.1, or refused as not allowed, and not published.
    let other = device.register(3, "d2/t");
    device.send(&publish(QOS1, other, 4, "4"));
    let answer = device.recv();
    assert!(answer == puback(other, 4, OK) || answer == puback(other, 4, NOT_SUPPORTED), "{}", hex(&answer));
    let sys = device.register(5, "$SYS/broker/version");
    device.send(&publish(QOS1, sys, 6, "mine"));
    device.recv();
    witness.ping();
    let _ = std::fs::remove_file(&acl);
}

#[test]
fn nobody_without_a_name_where_that_is_forbidden() {
    let gateway = Gateway::start("listener_allow_anonymous false\n");
    gateway.device().ask(&connect(CLEAN, 60, "d"), &connack(NOT_SUPPORTED));
}

/// The reference's table of bad input: nothing is answered, nothing changes.
#[test]
fn damaged_datagrams() {
    let gateway = Gateway::start("");
    let mut witness = gateway.subscriber("#", 0);
    let device = gateway.connected(CLEAN, "d");
    let good = [
        connect(CLEAN, 60, "d"),
        register(0, 1, "a/b"),
        publish(QOS1 | SHORT, short("ab"), 2, "x"),
        pubrel(3),
        subscribe(QOS1, 4, b"a/b"),
        message(0x14, &[&[0, 0, 5], b"a/b"]),
        pingreq(""),
        sleep_for(9),
        message(0x1A, &[&[0], b"w"]),
        message(0x1C, &[b"m"]),
    ];
    for datagram in &good {
        for len in 0..datagram.len() {
            device.send(&datagram[..len]);
        }
        device.send(&[&datagram[..], b"x"].concat());
        for length in [0, 1, 255] {
            let mut wrong = datagram.clone();
            wrong[0] = length;
            device.send(&wrong);
        }
    }
    for bad in [
        &b"\x01\0\x02\x16"[..],
        b"\x01\0\x05\x16",
        b"\x01\xFF\xFF\x16",
        b"\x03\xFE\0",
        b"\x04\xFE\0a",
        b"\x06\xFE\0a\x02\xFE\0",
    ] {
        device.send(bad);
    }
    gateway.expect_silence(&[&device]);
    // The long form of a short message is as good.
    device.ask(b"\x01\0\x04\x16", PINGRESP);
    witness.ping();
}

#[test]
fn large_messages_in_both_directions() {
    let gateway = Gateway::start("mqttsn_max_send_size 65000\n");
    let mut witness = gateway.subscriber("ab", 0);
    let device = gateway.connected(CLEAN, "d");
    device.ask(&subscribe(QOS1 | SHORT, 1, b"ab"), &suback(QOS1, 0, 1, OK));
    // 7 octets of header make the short form end at 248.
    for size in [247, 248, 249, 251, 252, 1000, 60_000] {
        let payload = "x".repeat(size);
        device.send(&publish(QOS1 | SHORT, short("ab"), 2, &payload));
        expect_at(&mut witness, "ab", &payload);
        let mut seen = [false; 2];
        for _ in 0..2 {
            let got = device.recv();
            if got == puback(short("ab"), 2, OK) {
                seen[0] = true;
                continue;
            }
            let msg_id = u16_at(&got, if got[0] == 1 { 7 } else { 5 });
            assert!(got == publish(QOS1 | SHORT, short("ab"), msg_id, &payload), "{size}: {}", hex(&got[..10]));
            device.send(&puback(short("ab"), msg_id, OK));
            seen[1] = true;
        }
        assert_eq!(seen, [true; 2]);
    }
}

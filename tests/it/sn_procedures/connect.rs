//! Set-up, wills, keepalive, the end of connections [SN 6.2 to 6.4, 6.11, 6.12].

use super::*;

/// [SN 6.2] and the reference: what got lost is asked for again, and in the end given up.
#[test]
fn a_will_dialogue_with_losses() {
    let gateway = Gateway::start("mqttsn_retry_interval 1\nmqttsn_max_retries 1\n");
    let mut witness = gateway.subscriber("will/#", 0);
    let device = gateway.device();
    device.ask(&connect(WILL | CLEAN, 1, "d"), WILLTOPICREQ);
    // The request was lost, says the gateway's timer.
    device.expect(WILLTOPICREQ);
    // CONNECT again: from the beginning.
    device.ask(&connect(WILL | CLEAN, 1, "d"), WILLTOPICREQ);
    device.ask(&will_topic(0, "will/d"), WILLMSGREQ);
    device.expect(WILLMSGREQ);
    // Its own repetition of the step before.
    device.send(&will_topic(0, "will/d"));
    let next = device.recv();
    assert!(next == WILLMSGREQ, "{}", hex(&next));
    device.ask(&will_message("gone"), &connack(OK));
    device.ask(&pingreq(""), PINGRESP);
    // Unasked: ignored.
    device.send(&will_message("other"));
    device.send(&will_topic(0, "will/other"));
    device.ask(&pingreq(""), PINGRESP);
    // 1.5 times the keepalive.
    expect_at(&mut witness, "will/d", "gone");
    device.ask(&pingreq(""), DISCONNECT);

    // Given up: the half-open set-up is forgotten.
    let device = gateway.device();
    device.ask(&connect(WILL | CLEAN, 0, "e"), WILLTOPICREQ);
    device.expect(WILLTOPICREQ);
    pass(Duration::from_millis(1500));
    device.send(&will_topic(0, "will/e"));
    gateway.settle();
    device.send(&pingreq(""));
    // Either DISCONNECT for the one or for both; no WILLMSGREQ.
    device.expect(DISCONNECT);
}

/// The older connection goes on until the newer one has its CONNACK.
#[test]
fn a_half_open_set_up_takes_nothing_over() {
    let gateway = Gateway::start("");
    let old = gateway.connected(CLEAN, "d");
    let new = gateway.device();
    new.ask(&connect(WILL | CLEAN, 60, "d"), WILLTOPICREQ);
    old.ask(&pingreq(""), PINGRESP);
    new.ask(&will_topic(0, "w"), WILLMSGREQ);
    old.ask(&pingreq(""), PINGRESP);
    new.ask(&will_message(""), &connack(OK));
    old.expect(DISCONNECT);
    new.ask(&pingreq(""), PINGRESP);
}

#[test]
fn refusals_are_said() {
    let gateway = Gateway::start("clientid_prefixes dev\n");
    let device = gateway.device();
    device.ask(&message(0x04, &[&[CLEAN, 2, 0, 60], b"dev1"]), &connack(NOT_SUPPORTED));
    device.ask(&connect(CLEAN, 60, "other"), &connack(NOT_SUPPORTED));
    device.ask(&connect(CLEAN, 60, "dev1"), &connack(OK));
    for topic in ["a/+", "#"] {
        let device = gateway.device();
        device.ask(&connect(WILL | CLEAN, 60, "dev2"), WILLTOPICREQ);
        device.send(&will_topic(0, topic));
        let answer = device.recv();
        assert!(matches!(answer[..], [3, 0x05, INVALID_ID | NOT_SUPPORTED]), "{}", hex(&answer));
    }
    let device = gateway.device();
    device.ask(&connect(0, 60, ""), &connack(NOT_SUPPORTED));
}

/// [SN 6.3]
#[test]
fn a_will_survives_disconnect_in_a_kept_session() {
    let gateway = Gateway::start("");
    let mut witness = gateway.subscriber("will/#", 0);
    let device = gateway.device();
    device.connect_with_will(0, 1, "d", ("will/d", "gone"));
    device.ask(DISCONNECT, DISCONNECT);
    witness.ping();
    device.ask(&connect(0, 1, "d"), &connack(OK));
    expect_at(&mut witness, "will/d", "gone");
    // An empty WILLTOPIC deletes it.
    device.ask(&connect(WILL, 1, "d"), WILLTOPICREQ);
    device.ask(b"\x02\x07", &connack(OK));
    pass(Duration::from_millis(2200));
    device.ask(&pingreq(""), DISCONNECT);
}

/// [SN 6.4]
#[test]
fn a_will_changes() {
    let gateway = Gateway::start("");
    let mut witness = gateway.subscriber("will/#", 0);
    let device = gateway.device();
    device.connect_with_will(CLEAN, 1, "d", ("will/d", "gone"));
    device.ask(&message(0x1A, &[&[RETAIN], b"will/e"]), b"\x03\x1B\0");
    device.ask(&message(0x1C, &[b"away"]), b"\x03\x1D\0");
    expect_at(&mut witness, "will/e", "away");
    let mut late = gateway.mqtt("late");
    late.send(&mqtt_subscribe(4, 1, "will/e", 0));
    late.expect(&[0x90, 3, 0, 1, 0]);
    late.expect(&mqtt_publish(4, 1, "will/e", 0, b"away"));
    device.connect_with_will(CLEAN, 1, "d", ("will/d", "gone"));
    device.ask(b"\x02\x1A", b"\x03\x1B\0");
    device.ask(&connect(CLEAN, 1, "other"), &connack(OK));
    witness.ping();
}

/// [SN 6.11]
#[test]
fn anything_the_client_says_counts_as_a_sign_of_life() {
    let gateway = Gateway::start("");
    let mut witness = gateway.subscriber("#", 0);
    let device = gateway.device();
    device.connect_with_will(CLEAN, 1, "d", ("will/d", "gone"));
    let start = Instant::now();
    for turn in 1..=4 {
        pass(Duration::from_millis(800 * turn).saturating_sub(start.elapsed()));
        device.send(&publish(SHORT, short("ab"), 0, "x"));
        expect_at(&mut witness, "ab", "x");
    }
    expect_at(&mut witness, "will/d", "gone");
}

/// [SN 6.12]
#[test]
fn goodbyes_and_strangers() {
    let gateway = Gateway::start("");
    let device = gateway.connected(CLEAN, "d");
    // With a duration of 0 it is no sleep.
    device.ask(&sleep_for(0), DISCONNECT);
    // The answer was lost.
    device.ask(DISCONNECT, DISCONNECT);
    device.ask(&pingreq(""), DISCONNECT);
    let stranger = gateway.device();
    stranger.ask(&publish(QOS1 | SHORT, short("ab"), 1, "x"), DISCONNECT);
    // Types only a gateway sends, and what is no message: no answer, or two gateways would never stop.
    for datagram in [&b""[..], b"\x03\x05\0", b"\x02\x06", b"\x04\x15\0\x01", b"\x03\x02\x01", b"\x02\x03", b"\x05\x0C"]
    {
        stranger.send(datagram);
    }
    gateway.expect_silence(&[&stranger]);
}

#[test]
fn a_new_client_at_a_used_address() {
    let gateway = Gateway::start("");
    let mut witness = gateway.subscriber("will/#", 0);
    let device = gateway.device();
    device.connect_with_will(CLEAN, 60, "first", ("will/first", "gone"));
    device.ask(&connect(CLEAN, 60, "second"), &connack(OK));
    expect_at(&mut witness, "will/first", "gone");
    device.ask(&pingreq(""), PINGRESP);
}

/// [SN 6.13]: after CONNACK a CONNECT is a new one, and loses nothing of a kept session.
#[test]
fn a_repeated_connect_keeps_the_session() {
    let gateway = Gateway::start("mqttsn_retry_interval 1\n");
    let mut mqtt = gateway.mqtt("m");
    let device = gateway.connected(0, "d");
    device.ask(&subscribe(QOS1 | SHORT, 1, b"ab"), &suback(QOS1, 0, 1, OK));
    publish_from(&mut mqtt, "ab", "1");
    let msg_id = device.expect_publish(QOS1 | SHORT, short("ab"), "1");
    device.ask(&connect(0, 60, "d"), &connack(OK));
    assert_eq!(device.expect_publish(QOS1 | SHORT | DUP, short("ab"), "1"), msg_id);
    device.send(&puback(short("ab"), msg_id, OK));
    device.ask(&pingreq(""), PINGRESP);
}

#[test]
fn a_full_listener_is_congested() {
    let gateway = Gateway::start("max_connections 1\n");
    let first = gateway.connected(CLEAN, "one");
    let second = gateway.device();
    second.ask(&connect(CLEAN, 60, "two"), &connack(CONGESTION));
    // The same client again is no further one.
    second.ask(&connect(CLEAN, 60, "one"), &connack(OK));
    first.expect(DISCONNECT);
}

/// [SN 6.1]
#[test]
fn a_search_is_answered_to_whoever_asks() {
    let gateway = Gateway::start("mqttsn_gateway_id 9\n");
    gateway.device().ask(b"\x03\x01\0", b"\x03\x02\x09");
}

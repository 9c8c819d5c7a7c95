//! Sleeping clients [SN 6.14].

use super::*;

/// A sleeping device with subscriptions to a short name and a wildcard.
fn sleeper(gateway: &Gateway, flags: u8, id: &str, seconds: u16) -> Device {
    let device = gateway.connected(flags, id);
    device.ask(&subscribe(QOS1 | SHORT, 1, b"ab"), &suback(QOS1, 0, 1, OK));
    assert_eq!(device.subscribe(QOS1, 2, "s/#"), 0);
    device.ask(&sleep_for(seconds), DISCONNECT);
    device
}

#[test]
fn everything_waits_and_comes_in_order() {
    let gateway = Gateway::start("");
    let mut mqtt = gateway.mqtt("m");
    for flags in [0, CLEAN] {
        let device = sleeper(&gateway, flags, "sleeper", 60);
        // QoS 0 need not wait for acknowledgements, so it comes first.
        publish_once_from(&mut mqtt, "ab", "0");
        publish_from(&mut mqtt, "s/x", "1");
        publish_from(&mut mqtt, "s/x", "2");
        publish_from(&mut mqtt, "s/y", "4");
        gateway.expect_silence(&[&device]);
        device.send(&pingreq("sleeper"));
        device.expect_publish(SHORT, short("ab"), "0");
        let x = device.accept("s/x");
        device.take(QOS1, x, "1");
        device.take(QOS1, x, "2");
        let y = device.accept("s/y");
        device.take(QOS1, y, "4");
        device.expect(PINGRESP);
        // Asleep again, with the same ids.
        publish_from(&mut mqtt, "s/y", "5");
        gateway.expect_silence(&[&device]);
        device.send(&pingreq("sleeper"));
        device.take(QOS1, y, "5");
        device.expect(PINGRESP);
        device.ask(&pingreq("sleeper"), PINGRESP);
        device.ask(DISCONNECT, DISCONNECT);
    }
}

#[test]
fn a_lost_acknowledgement_while_awake() {
    let gateway = Gateway::start("mqttsn_retry_interval 1\nmqttsn_max_retries 2\n");
    let mut mqtt = gateway.mqtt("m");
    let device = sleeper(&gateway, 0, "sleeper", 60);
    publish_from(&mut mqtt, "ab", "1");
    device.send(&pingreq("sleeper"));
    let msg_id = device.expect_publish(QOS1 | SHORT, short("ab"), "1");
    // The device asks again: what is outstanding comes again, not everything from the start.
    device.send(&pingreq("sleeper"));
    assert_eq!(device.expect_publish(QOS1 | SHORT | DUP, short("ab"), "1"), msg_id);
    // What comes meanwhile is added.
    publish_from(&mut mqtt, "ab", "2");
    device.send(&puback(short("ab"), msg_id, OK));
    let msg_id = device.expect_publish(QOS1 | SHORT, short("ab"), "2");
    // The device sleeps in: two more tries, then silence, and no PINGRESP.
    for _ in 0..2 {
        assert_eq!(device.expect_publish(QOS1 | SHORT | DUP, short("ab"), "2"), msg_id);
    }
    pass(Duration::from_millis(1500));
    gateway.expect_silence(&[&device]);
    // Nothing was lost.
    device.send(&pingreq("sleeper"));
    let again = device.expect_publish(QOS1 | SHORT | DUP, short("ab"), "2");
    assert_eq!(again, msg_id);
    device.send(&puback(short("ab"), msg_id, OK));
    device.expect(PINGRESP);
}

#[test]
fn qos_2_ends_before_pingresp() {
    let gateway = Gateway::start("");
    let mut mqtt = gateway.mqtt("m");
    let device = gateway.connected(0, "sleeper");
    device.ask(&subscribe(QOS2 | SHORT, 1, b"ab"), &suback(QOS2, 0, 1, OK));
    device.ask(&sleep_for(60), DISCONNECT);
    mqtt.send(&mqtt_publish(4, 0x04, "ab", 9, b"1"));
    mqtt.expect(&[0x50, 2, 0, 9]);
    mqtt.send(&[0x62, 2, 0, 9]);
    mqtt.expect(&[0x70, 2, 0, 9]);
    device.send(&pingreq("sleeper"));
    let msg_id = device.expect_publish(QOS2 | SHORT, short("ab"), "1");
    device.ask(&pubrec(msg_id), &pubrel(msg_id));
    device.ask(&pubcomp(msg_id), PINGRESP);
}

#[test]
fn a_sleeper_that_oversleeps_is_lost() {
    let gateway = Gateway::start("");
    let mut witness = gateway.subscriber("will/#", 0);
    let device = gateway.device();
    device.connect_with_will(0, 60, "sleeper", ("will/s", "gone"));
    device.ask(&sleep_for(1), DISCONNECT);
    // One second and half of it more.
    let took = timed(|| expect_at(&mut witness, "will/s", "gone"));
    assert!(took > Duration::from_millis(1300), "{took:?}");
    device.ask(&pingreq("sleeper"), DISCONNECT);
}

#[test]
fn a_look_at_the_gateway_restarts_the_time() {
    let gateway = Gateway::start("");
    let mut witness = gateway.subscriber("will/#", 0);
    let device = gateway.device();
    device.connect_with_will(0, 1, "sleeper", ("will/s", "gone"));
    device.ask(&sleep_for(2), DISCONNECT);
    let start = Instant::now();
    // Longer than the keepalive, which does not count now, and in the end longer than one sleep.
    for seconds in 1..=5 {
        pass(Duration::from_secs(seconds).saturating_sub(start.elapsed()));
        device.ask(&pingreq("sleeper"), PINGRESP);
    }
    // A new time, and awake for good.
    device.ask(&sleep_for(60), DISCONNECT);
    device.ask(&connect(0, 60, "sleeper"), &connack(OK));
    device.ask(&pingreq(""), PINGRESP);
    witness.ping();
}

#[test]
fn connect_ends_the_sleep() {
    let gateway = Gateway::start("");
    let mut mqtt = gateway.mqtt("m");
    let device = sleeper(&gateway, 0, "sleeper", 60);
    publish_from(&mut mqtt, "ab", "1");
    device.ask(&connect(0, 60, "sleeper"), &connack(OK));
    device.take(QOS1 | SHORT, short("ab"), "1");
    device.ask(&sleep_for(60), DISCONNECT);
    publish_from(&mut mqtt, "ab", "2");
    // A clean session drops what waited, and the subscriptions.
    device.ask(&connect(CLEAN, 60, "sleeper"), &connack(OK));
    publish_from(&mut mqtt, "ab", "3");
    gateway.expect_silence(&[&device]);
}

#[test]
fn a_sleeper_may_wake_at_another_address_and_an_active_client_may_not() {
    let gateway = Gateway::start("");
    let mut mqtt = gateway.mqtt("m");
    let device = sleeper(&gateway, 0, "sleeper", 60);
    publish_from(&mut mqtt, "ab", "1");
    let moved = gateway.device();
    moved.send(&pingreq("sleeper"));
    moved.take(QOS1 | SHORT, short("ab"), "1");
    moved.expect(PINGRESP);
    gateway.expect_silence(&[&device]);
    moved.ask(&connect(0, 60, "sleeper"), &connack(OK));
    // Somebody else claims to be the client that is active.
    device.ask(&pingreq("sleeper"), DISCONNECT);
    publish_from(&mut mqtt, "ab", "2");
    moved.take(QOS1 | SHORT, short("ab"), "2");
    gateway.expect_silence(&[&device]);
    // Nobody has ever heard of this one.
    device.ask(&pingreq("nobody"), DISCONNECT);
}

#[test]
fn no_new_address_where_that_is_forbidden() {
    let gateway = Gateway::start("mqttsn_allow_address_change false\n");
    let mut mqtt = gateway.mqtt("m");
    let device = sleeper(&gateway, 0, "sleeper", 60);
    publish_from(&mut mqtt, "ab", "1");
    gateway.device().ask(&pingreq("sleeper"), DISCONNECT);
    device.send(&pingreq("sleeper"));
    device.take(QOS1 | SHORT, short("ab"), "1");
    device.expect(PINGRESP);
}

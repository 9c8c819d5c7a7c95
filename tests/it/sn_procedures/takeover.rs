//! One session, two protocols; two places, one client id.

use super::*;
use crate::client::connect_with;

#[test]
fn a_device_takes_the_place_of_an_mqtt_client_and_the_reverse() {
    let gateway = Gateway::start("");
    let mut other = gateway.mqtt("m");
    let kept = connect_with(4, 0, 60, &[], &[&crate::client::string("both")]);
    let mut mqtt = Client::open(gateway.broker.addr());
    mqtt.set_limit(LIMIT);
    mqtt.send(&kept);
    mqtt.expect(&[0x20, 2, 0, 0]);
    mqtt.send(&mqtt_subscribe(4, 1, "b/#", 1));
    mqtt.expect(&[0x90, 3, 0, 1, 1]);
    let device = gateway.device();
    device.ask(&connect(0, 60, "both"), &connack(OK));
    mqtt.expect_closed();
    publish_from(&mut other, "b/x", "1");
    let x = device.accept("b/x");
    device.take(QOS1, x, "1");
    device.ask(DISCONNECT, DISCONNECT);
    publish_from(&mut other, "b/x", "2");
    // The rest over MQTT: the session is there, and so is the message.
    let mut mqtt = Client::open(gateway.broker.addr());
    mqtt.set_limit(LIMIT);
    mqtt.send(&kept);
    mqtt.expect(&[0x20, 2, 1, 0]);
    let got = mqtt.packet();
    assert!(got[0] & 0xF0 == 0x30 && got.ends_with(b"2"), "{}", hex(&got));
    mqtt.send(&[0x40, 2, got[7], got[8]]);
    mqtt.ping();
    // Active at both ends in turn: the device is told once.
    device.ask(&connect(0, 60, "both"), &connack(OK));
    mqtt.expect_closed();
    let mut mqtt = Client::open(gateway.broker.addr());
    mqtt.send(&kept);
    mqtt.expect(&[0x20, 2, 1, 0]);
    device.expect(DISCONNECT);
    gateway.expect_silence(&[&device]);
    mqtt.ping();
}

#[test]
fn the_same_client_at_another_address() {
    let gateway = Gateway::start("");
    let mut mqtt = gateway.mqtt("m");
    let old = gateway.connected(0, "d");
    old.ask(&subscribe(QOS1 | SHORT, 1, b"ab"), &suback(QOS1, 0, 1, OK));
    let new = gateway.connected(0, "d");
    old.expect(DISCONNECT);
    publish_from(&mut mqtt, "ab", "1");
    new.take(QOS1 | SHORT, short("ab"), "1");
    // The old address is a stranger's.
    old.ask(&pingreq(""), DISCONNECT);
    new.ask(&pingreq(""), PINGRESP);
    gateway.expect_silence(&[&old, &new]);
}

#[test]
fn a_sleeper_taken_over_by_mqtt_loses_nothing() {
    let gateway = Gateway::start("");
    let mut other = gateway.mqtt("m");
    let device = gateway.connected(0, "both");
    device.ask(&subscribe(QOS1 | SHORT, 1, b"ab"), &suback(QOS1, 0, 1, OK));
    device.ask(&sleep_for(60), DISCONNECT);
    publish_from(&mut other, "ab", "1");
    let mut mqtt = Client::open(gateway.broker.addr());
    mqtt.set_limit(LIMIT);
    mqtt.send(&connect_with(4, 0, 60, &[], &[&crate::client::string("both")]));
    mqtt.expect(&[0x20, 2, 1, 0]);
    let got = mqtt.packet();
    assert!(got[0] & 0xF0 == 0x30 && got.ends_with(b"1"), "{}", hex(&got));
    // The sleeper finds out when it wakes.
    device.ask(&pingreq("both"), DISCONNECT);
}

#[test]
fn the_broker_stops() {
    let mut gateway = Gateway::start("");
    let active = gateway.connected(CLEAN, "active");
    let asleep = gateway.connected(0, "asleep");
    asleep.ask(&sleep_for(60), DISCONNECT);
    gateway.broker.signal("TERM");
    active.expect(DISCONNECT);
    gateway.broker.wait_exit();
    asleep.expect_empty();
}

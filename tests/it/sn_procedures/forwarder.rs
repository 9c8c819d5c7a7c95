//! Forwarders: several nodes behind one address [SN 5.5].

use super::*;

fn wrapped(node: &[u8], message: &[u8]) -> Vec<u8> {
    let length = u8::try_from(node.len() + 3).expect("a short node id");
    [&[length, 0xFE, 0], node, message].concat()
}

#[test]
fn nodes_behind_one_forwarder() {
    let gateway = Gateway::start("mqttsn_allow_forwarder true\n");
    let mut mqtt = gateway.mqtt("m");
    let forwarder = gateway.device();
    let ask = |node: &[u8], question: &[u8], answer: &[u8]| {
        forwarder.ask(&wrapped(node, question), &wrapped(node, answer));
    };
    ask(b"1", b"\x03\x01\0", b"\x03\x02\x01");
    for (node, id) in [(&b"1"[..], "one"), (b"22", "two")] {
        ask(node, &connect(CLEAN, 60, id), &connack(OK));
        ask(node, &subscribe(QOS1 | SHORT, 1, b"ab"), &suback(QOS1, 0, 1, OK));
    }
    // A client without an encapsulation at the same address is a third one.
    forwarder.ask(&connect(CLEAN, 60, "three"), &connack(OK));
    publish_from(&mut mqtt, "ab", "x");
    for _ in 0..2 {
        let got = forwarder.recv();
        let node = got[3..usize::from(got[0])].to_vec();
        let inner = &got[usize::from(got[0])..];
        assert_eq!(inner[7..], *b"x");
        forwarder.send(&wrapped(&node, &puback(short("ab"), u16_at(inner, 5), OK)));
    }
    // Each of them on its own.
    ask(b"1", DISCONNECT, DISCONNECT);
    ask(b"1", &pingreq(""), DISCONNECT);
    ask(b"22", &pingreq(""), PINGRESP);
    forwarder.ask(&pingreq(""), PINGRESP);
    // A node that moves to another forwarder while it sleeps.
    ask(b"22", &sleep_for(60), DISCONNECT);
    publish_from(&mut mqtt, "ab", "y");
    let other = gateway.device();
    other.send(&wrapped(b"22", &pingreq("two")));
    let got = other.recv();
    assert_eq!(got[5 + 7..], *b"y", "{}", hex(&got));
    other.ask(&wrapped(b"22", &puback(short("ab"), u16_at(&got, 5 + 5), OK)), &wrapped(b"22", PINGRESP));
    // One level only, and never without a node or a message.
    for bad in [
        &b"\x03\xFE\0\x02\x16"[..],
        b"\x02\xFE\x02\x16",
        b"\x04\xFE\0a",
        b"\x04\xFE\0a\x04\xFE\0a\x02\x16",
        b"\x09\xFE\0a\x02\x16",
    ] {
        forwarder.send(bad);
    }
    gateway.expect_silence(&[&forwarder, &other]);
}

#[test]
fn no_forwarder_where_none_is_allowed() {
    let gateway = Gateway::start("");
    let forwarder = gateway.device();
    forwarder.send(&wrapped(b"1", &connect(CLEAN, 60, "one")));
    gateway.expect_silence(&[&forwarder]);
}

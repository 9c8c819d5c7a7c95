//! Every end of a connection: what a version 5 client is told, and the one line in the log.

use std::time::Duration;

use crate::broker::Broker;
use crate::client::{Client, LIMIT, connect, connect_with, packet, publish, string};

/// Waits for the line about the end of `port`'s connection, makes sure that it stays the only one and compares it.
fn ended(broker: &Broker, port: u16, wanted: &str) {
    let mark = format!("[127.0.0.1:{port}] disconnected");
    broker.wait_for_log(&mark, Duration::from_secs(5));
    // Whatever is still to come about it comes before the end of another connection.
    if let Ok(other) = Client::try_open(broker.addr()) {
        let mark = format!("[127.0.0.1:{}] disconnected", other.local_port());
        drop(other);
        broker.wait_for_log(&mark, LIMIT);
    }
    let log = broker.log_text();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(&mark)).collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    let text = lines[0].split_once(": ").expect("a time before the text").1;
    assert_eq!(text, wanted.replace("PORT", &port.to_string()));
}

/// A connected client that sends `bytes`, is told `told`, and is gone.
fn case(broker: &Broker, version: u8, id: &str, bytes: &[u8], told: &[u8], tail: &str) {
    let mut client = Client::connect(broker.addr(), version, id);
    let port = client.local_port();
    client.send(bytes);
    client.expect(told);
    client.expect_closed();
    ended(broker, port, &format!("Client {id} [127.0.0.1:PORT] {tail}"));
}

#[test]
fn what_a_client_does_wrong_is_told_and_logged_once() {
    let broker = Broker::start_with("max_packet_size 2000");
    let over = packet(0x30, &vec![0; 2000]);
    let alias = packet(0x30, &[&string("t")[..], &[3, 0x23, 0, 11], b"x"].concat());
    let (clean, protocol) = ("disconnected.", "disconnected: protocol error.");
    let (malformed, oversize) = ("disconnected: malformed packet.", "disconnected: oversize packet.");
    for (name, v3, v5, code, tail) in [
        ("clean", vec![0xE0, 0], vec![0xE0, 0], None, clean),
        ("with-will", vec![0xE0, 0], vec![0xE0, 1, 4], None, clean),
        ("malformed", vec![0x82, 2, 0, 1], vec![0x82, 3, 0, 1, 0], Some(0x81), malformed),
        ("reserved", vec![0x00, 0], vec![0x00, 0], Some(0x82), protocol),
        ("connack", vec![0x20, 2, 0, 0], vec![0x20, 3, 0, 0, 0], Some(0x82), protocol),
        ("second-connect", connect(4, "x"), connect(5, "x"), Some(0x82), protocol),
        ("oversize", over.clone(), over, Some(0x95), oversize),
        ("qos-3", publish(4, 6, "t", 1, b""), publish(5, 6, "t", 1, b""), Some(0x81), malformed),
        ("alias", vec![0xE0, 0], alias, Some(0x94), "disconnected: topic alias invalid."),
    ] {
        let tail_v3 = if name == "alias" { clean } else { tail };
        case(&broker, 4, &format!("{name}-4"), &v3, &[], tail_v3);
        let told: Vec<u8> = code.map_or(vec![], |code| vec![0xE0, 1, code]);
        case(&broker, 5, &format!("{name}-5"), &v5, &told, tail);
    }
}

#[test]
fn a_closed_socket_is_logged_once() {
    let broker = Broker::start();
    for version in [3, 4, 5] {
        let client = Client::connect(broker.addr(), version, "gone");
        let port = client.local_port();
        drop(client);
        ended(&broker, port, "Client gone [127.0.0.1:PORT] disconnected: connection closed by client.");
    }
    // Before CONNECT nothing but the address is known.
    let client = Client::open(broker.addr());
    let port = client.local_port();
    drop(client);
    ended(&broker, port, "Client 127.0.0.1 [127.0.0.1:PORT] disconnected: connection closed by client.");
}

#[test]
fn silence_is_told_and_logged_once() {
    let broker = Broker::start();
    let mut clients: Vec<_> = [4, 5]
        .map(|version| {
            let mut client = Client::open(broker.addr());
            client.set_limit(Duration::from_secs(6));
            client.send(&connect_with(version, 2, 1, &[], &[&string(&format!("silent-{version}"))]));
            assert_eq!(client.packet()[0], 0x20);
            client
        })
        .into();
    clients[1].expect(&[0xE0, 1, 0x8D]);
    for (client, version) in clients.iter_mut().zip([4, 5]) {
        client.expect_closed();
        let line = format!("Client silent-{version} [127.0.0.1:PORT] disconnected: exceeded timeout.");
        ended(&broker, client.local_port(), &line);
    }
}

#[test]
fn a_take_over_is_told_and_logged_once() {
    let broker = Broker::start();
    for (version, clean, told) in [(4, 2, &[][..]), (4, 0, &[]), (5, 2, &[0xE0, 1, 0x8E]), (5, 0, &[0xE0, 1, 0x8E])] {
        let connect = connect_with(version, clean, 60, &[], &[&string("taken")]);
        let mut old = Client::open(broker.addr());
        old.send(&connect);
        assert_eq!(old.packet()[0], 0x20);
        let mut new = Client::open(broker.addr());
        new.send(&connect);
        assert_eq!(new.packet()[0], 0x20);
        old.expect(told);
        old.expect_closed();
        ended(&broker, old.local_port(), "Client taken [127.0.0.1:PORT] disconnected: session taken over.");
        new.ping();
        new.send(&[0xE0, 0]);
        new.expect_closed();
        ended(&broker, new.local_port(), "Client taken [127.0.0.1:PORT] disconnected.");
    }
}

#[test]
fn a_refused_connect_is_told_and_logged_once() {
    let who = |text: &str| format!("Client {text}");
    let not_authorised = who("ann [127.0.0.1:PORT] disconnected: not authorised.");
    let invalid = who("ann [127.0.0.1:PORT] disconnected: bad socket read/write: Invalid input");
    let nobody = who("127.0.0.1 [127.0.0.1:PORT] disconnected: protocol error.");
    let feature = who(
        "ann [127.0.0.1:PORT] disconnected: used disallowed feature (QoS too high, retain not supported, or bad AUTH \
         method).",
    );
    let will = |topic: &str| [string("ann"), vec![0], string(topic), string("w")].concat();
    let old_will = |topic: &str| [string("ann"), string(topic), string("w")].concat();
    for (lines, connect, told, wanted) in [
        ("allow_anonymous false", connect(4, "ann"), vec![0x20, 2, 0, 5], &not_authorised),
        ("allow_anonymous false", connect(5, "ann"), vec![0x20, 3, 0, 0x87, 0], &not_authorised),
        ("clientid_prefixes bob", connect(4, "ann"), vec![0x20, 2, 0, 5], &not_authorised),
        ("allow_zero_length_clientid false", connect(4, ""), vec![0x20, 2, 0, 2], &nobody),
        ("allow_zero_length_clientid false", connect(5, ""), vec![0x20, 3, 0, 0x80, 0], &nobody),
        ("", connect_with(4, 0, 60, &[], &[&string("")]), vec![0x20, 2, 0, 2], &nobody),
        ("", connect_with(5, 6, 60, &[], &[&will("a/+")]), vec![0x20, 3, 0, 0x90, 0], &invalid),
        ("", connect_with(4, 6, 60, &[], &[&old_will("a/#")]), vec![], &invalid),
        ("max_keepalive 30", connect(4, "ann"), vec![0x20, 2, 0, 2], &invalid),
        ("retain_available false", connect_with(5, 0x26, 60, &[], &[&will("a")]), vec![0x20, 3, 0, 0x9A, 0], &feature),
        ("max_qos 1", connect_with(5, 0x16, 60, &[], &[&will("a")]), vec![0x20, 5, 0, 0x9B, 2, 0x24, 1], &feature),
    ] {
        let broker = Broker::start_with(lines);
        let mut client = Client::open(broker.addr());
        let port = client.local_port();
        client.send(&connect);
        client.expect(&told);
        client.expect_closed();
        ended(&broker, port, wanted);
    }
}

#[test]
fn the_stop_is_told_and_logged_once() {
    let mut broker = Broker::start();
    let mut new = Client::connect(broker.addr(), 5, "new");
    let mut old = Client::connect(broker.addr(), 4, "old");
    broker.signal("TERM");
    new.expect(&[0xE0, 1, 0x8B]);
    new.expect_closed();
    old.expect_closed();
    assert_eq!(broker.wait_exit().code(), Some(0));
    ended(&broker, new.local_port(), "Client new [127.0.0.1:PORT] disconnected: broker is shutting down.");
    ended(&broker, old.local_port(), "Client old [127.0.0.1:PORT] disconnected: broker is shutting down.");
}

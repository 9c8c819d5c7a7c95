//! What byte scripts cannot say: how packets are cut, how fast a peer reads, how many there are, and the end.

use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::client::{Client, connect, packet, publish, string, subscribe};

#[test]
fn packets_may_come_byte_by_byte() {
    let broker = Broker::start();
    for version in [3, 4, 5] {
        let mut client = Client::open(broker.addr());
        let bytes = [
            connect(version, "drip"),
            subscribe(version, 1, "t/drip", 0),
            publish(version, 2, "t/drip", 2, &[b'x'; 300]),
        ]
        .concat();
        for byte in bytes {
            client.send(&[byte]);
        }
        assert_eq!(client.packet()[0], 0x20);
        assert_eq!(client.packet()[0], 0x90);
        client.expect(&publish(version, 0, "t/drip", 0, &[b'x'; 300]));
        client.expect(&[0x40, 2, 0, 2]);
        client.ping();
    }
}

#[test]
fn many_packets_may_come_at_once() {
    let broker = Broker::start();
    let mut client = Client::connect(broker.addr(), 4, "flood");
    client.send(&subscribe(4, 1, "t/flood", 1));
    client.expect(&[0x90, 3, 0, 1, 1]);
    let one = publish(4, 0, "t/flood", 0, b"payload");
    client.send(&one.repeat(5000));
    client.expect(&one.repeat(5000));
    client.ping();
}

#[test]
fn a_peer_that_does_not_read_holds_up_nobody() {
    let broker = Broker::start();
    let mut slow = Client::connect(broker.addr(), 4, "slow");
    slow.send(&subscribe(4, 1, "t/slow", 0));
    slow.expect(&[0x90, 3, 0, 1, 0]);
    let mut publisher = Client::connect(broker.addr(), 4, "publisher");
    let large = publish(4, 0, "t/slow", 0, &vec![b'x'; 100_000]);
    for _ in 0..200 {
        publisher.send(&large);
    }
    publisher.ping();
    Client::connect(broker.addr(), 4, "other").ping();
    // What it gets in the end is whole messages from the first on.
    slow.expect(&large);
    slow.expect(&large);
}

#[test]
fn a_thousand_clients_get_the_same_message() {
    let broker = Broker::start();
    let mut clients: Vec<Client> = (0..1000)
        .map(|n| {
            let mut client = Client::connect(broker.addr(), 5, &format!("crowd-{n}"));
            client.send(&subscribe(5, 1, "t/crowd", 0));
            client.expect(&[0x90, 4, 0, 1, 0, 0]);
            client
        })
        .collect();
    let message = publish(5, 0, "t/crowd", 0, b"to all");
    clients[500].send(&message);
    for client in &mut clients {
        client.expect(&message);
    }
}

#[test]
fn silence_past_the_keepalive_ends_the_connection() {
    // [MQTT-3.1.2-22]: one and a half times the keepalive, checked about once a second.
    let broker = Broker::start();
    let mut watch = Client::connect(broker.addr(), 4, "watch");
    watch.send(&subscribe(4, 1, "t/silent", 0));
    watch.expect(&[0x90, 3, 0, 1, 0]);
    let mut body = string("MQTT");
    body.extend([5, 0x06, 0, 2, 0]);
    body.extend([&string("silent")[..], &[0], &string("t/silent"), &string("gone")].concat());
    let mut silent = Client::open(broker.addr());
    silent.set_limit(Duration::from_secs(8));
    watch.set_limit(Duration::from_secs(8));
    silent.send(&packet(0x10, &body));
    assert_eq!(silent.packet()[0], 0x20);
    let start = Instant::now();
    silent.expect(&[0xE0, 1, 0x8D]);
    silent.expect_closed();
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(2900) && took < Duration::from_secs(6), "{took:?}");
    watch.expect(&publish(4, 0, "t/silent", 0, b"gone"));
}

#[test]
fn a_stop_closes_every_connection_and_ends_with_status_0() {
    for signal in ["TERM", "INT"] {
        let mut broker = Broker::start();
        let mut old = Client::connect(broker.addr(), 4, "old");
        let mut new = Client::connect(broker.addr(), 5, "new");
        old.ping();
        new.ping();
        broker.signal(signal);
        old.expect_closed();
        // C Mosquitto says nothing here either; version 5 has a word for it.
        new.expect(&[0xE0, 1, 0x8B]);
        new.expect_closed();
        assert_eq!(broker.wait_exit().code(), Some(0), "SIG{signal}");
    }
}

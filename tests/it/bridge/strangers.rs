//! Other brokers that are not what they seem: everything they send ends in a line of the log and a further attempt, and
//! the clients here do not notice.

use std::net::TcpListener;

use super::peer::Peer;
use super::*;
use crate::client::string;

fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A PUBLISH with QoS 1.
fn publish_1(topic: &str, id: u16) -> Vec<u8> {
    crate::client::publish(4, 2, topic, id, b"x")
}

#[test]
fn whatever_comes_instead_of_connack_ends_in_one_line() {
    let (listener, port) = listen();
    let near = Broker::start_with(&bridge(port, "topic q/# both 1"));
    for (sent, line) in [
        (&[0x20, 0][..], "Error creating bridge: "),
        (&[0x20, 1, 0], "Error creating bridge: "),
        (&[0x20, 3, 0, 0, 0], "Error creating bridge: "),
        (&[0x90, 3, 0, 1, 0], "Error creating bridge: SUBACK came before CONNACK."),
        (&[0x30, 5, 0, 1, b'q', 1, 1], "Error creating bridge: PUBLISH came before CONNACK."),
        (&[0x10, 0], "Error creating bridge: "),
        (&[0x20, 0xFF, 0xFF, 0xFF, 0x7F, 0], "larger than 'max_packet_size' permits"),
        (&[0x20, 0x80, 0x80, 0x80, 0x80, 1], "Error creating bridge: "),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "Error creating bridge: "),
        (&[0x20, 2, 0, 5], "Connection Refused: not authorised"),
        (&[0x20, 2, 0, 4], "Connection Refused: bad user name or password"),
        (&[0x20, 2, 0, 3], "Connection Refused: broker unavailable"),
        (&[0x20, 2, 0, 2], "Connection Refused: identifier rejected"),
        (&[0x20, 2, 0, 99], "Connection Refused: unknown reason"),
    ] {
        let mark = near.log_mark();
        let mut peer = Peer::accept(&listener);
        peer.send(sent);
        peer.expect_closed();
        near.wait_for_log_after(mark, line, LIMIT);
        near.wait_for_log_after(mark, "Warning: Unable to connect bridge link", LIMIT);
    }
    say(&near, "q/x", "y", 1, false);
}

#[test]
fn whatever_breaks_a_rule_later_ends_the_connection_with_one_line() {
    let (listener, port) = listen();
    let near = Broker::start_with(&bridge(port, "topic q/# both 2"));
    let long = [&[0x32][..], &[0xFF, 0xFF, 0x7F]].concat();
    for (sent, line) in [
        (&[0x20, 2, 0, 0][..], "CONNACK has no place here"),
        (&[0xE0, 0], "DISCONNECT has no place here"),
        (&[0xC0, 0], "disconnected: PINGREQ has no place here."),
        (&[0x82, 6, 0, 1, 0, 1, b'a', 0], "disconnected: SUBSCRIBE has no place here."),
        (&[0x90, 2, 0, 2], "SUBACK has 0 codes for 1 filters"),
        (&[0x90, 4, 0, 2, 0, 0], "SUBACK has 2 codes for 1 filters"),
        (&[0x90, 2, 0, 0], "disconnected: "),
        (&[0xF0, 0], "disconnected: "),
        (&[0x36, 6, 0, 1, b'q', 0, 1, b'x'], "disconnected: "),
        (&[0x30, 3, 0, 1, b'#'], "disconnected: "),
        (&[0x30, 2, 0, 0], "disconnected: "),
        (&long, "a packet is larger than 'max_packet_size' permits."),
    ] {
        let mark = near.log_mark();
        let mut peer = Peer::accept(&listener);
        peer.connack();
        let subscribe = peer.until(8).expect("SUBSCRIBE");
        let mut sent = sent.to_vec();
        if sent.starts_with(&[0x90]) && sent[3] == 2 {
            sent[2..4].copy_from_slice(&subscribe[2..4]);
        }
        peer.send(&sent);
        if sent.len() == long.len() && sent[0] == 0x32 {
            // A packet of 2 MB and more is never read; the end of it does not come.
            drop(peer);
        } else {
            peer.expect_closed();
        }
        near.wait_for_log_after(mark, "Client local.link [127.0.0.1:", LIMIT);
        near.wait_for_log_after(mark, line, LIMIT);
    }
    // These are ignored, with a line at most.
    let mark = near.log_mark();
    let mut peer = Peer::accept(&listener);
    peer.connack();
    peer.until(8).expect("SUBSCRIBE");
    for ignored in [&[0x40, 2, 9, 9][..], &[0x70, 2, 9, 9], &[0x90, 3, 9, 9, 0], &[0xB0, 2, 9, 9], &[0xD0, 0]] {
        peer.send(ignored);
    }
    peer.send(&[0x62, 2, 9, 9]);
    assert_eq!(peer.until(7), Some(vec![0x70, 2, 9, 9]), "PUBREL is answered");
    near.wait_for_log_after(mark, "SUBACK for an unknown packet identifier 2313", LIMIT);
    assert!(!near.log_after(mark).contains("Client local.link ["));
}

#[test]
fn names_that_have_no_place_here_are_dropped_and_acknowledged() {
    let (listener, port) = listen();
    let deep = "x/".repeat(199) + "y";
    let near = Broker::start_with(&bridge(port, "topic # in 1 here/is/a/prefix/ \"\""));
    let mut peer = Peer::accept(&listener);
    peer.connack();
    peer.until(8).expect("SUBSCRIBE");
    let mut reader = Reader::new(&near, "reader", &["#", "$SYS/broker/uptime", "$CONTROL/#"]);
    while reader.early.pop().is_some() {}
    for (id, topic) in [(1, &*deep), (2, "$SYS/broker/uptime"), (3, "$CONTROL/broker/v1"), (4, "$share/x/y")] {
        peer.send(&publish_1(topic, id));
        assert_eq!(peer.until(4), Some(vec![0x40, 2, 0, u8::try_from(id).unwrap()]));
    }
    near.wait_for_log("has no place at this broker: dropped.", LIMIT);
    peer.send(&publish_1("good", 5));
    reader.until("here/is/a/prefix/good", "x");
}

#[test]
fn a_flood_of_qos_2_beyond_the_receive_maximum_is_not_kept() {
    let (listener, port) = listen();
    let lines = "topic q/# in 2\nbridge_protocol_version mqttv50\nbridge_receive_maximum 5";
    let near = Broker::start_with(&bridge(port, lines));
    let mut peer = Peer::accept(&listener);
    assert_eq!(peer.level(), 5);
    peer.connack();
    peer.until(8).expect("SUBSCRIBE");
    for id in 1..=50 {
        peer.send(&crate::client::publish(5, 4, "q/x", id, &[b'x'; 100]));
    }
    assert_eq!(peer.until(14).map(|packet| packet[2]), Some(0x93), "DISCONNECT, receive maximum exceeded");
    near.wait_for_log("Client local.link [127.0.0.1:", LIMIT);
    near.wait_for_log("receive maximum exceeded.", LIMIT);
    // Version 3.1.1 knows no maximum; what is kept is bounded by the queue.
    near.write_config(&format!(
        "max_queued_messages 30\n{}",
        bridge(port, "topic q/# in 2\nbridge_reload_type immediate")
    ));
    near.signal("HUP");
    let mut peer = loop {
        let peer = Peer::accept(&listener);
        if peer.level() & 0x7F == 4 {
            break peer;
        }
    };
    peer.connack();
    for id in 1..=1000 {
        peer.send(&crate::client::publish(4, 4, "q/x", id, &[b'x'; 100]));
    }
    peer.expect_closed();
    near.wait_for_log("exceed the queue limits.", LIMIT);
}

#[test]
fn a_broker_that_does_not_know_version_5_gets_3_1_1() {
    for (refusal, quick) in [(&[0x20, 2, 0, 1][..], true), (&[0x20, 3, 0, 0x84, 0], true), (&[], false)] {
        let (listener, port) = listen();
        let near = Broker::start_with(&bridge(port, "topic q/# out 1\nbridge_protocol_version mqttv50"));
        // A broker that only closes is asked twice.
        for _ in 0..if quick { 1 } else { 2 } {
            let mut peer = Peer::accept(&listener);
            assert_eq!(peer.level(), 5);
            peer.send(refusal);
            if quick {
                peer.expect_closed();
            }
        }
        let mut peer = Peer::accept(&listener);
        if quick {
            assert_eq!(peer.level(), 0x84);
            // Nor does it know what a bridge is.
            peer.send(&[0x20, 2, 0, 1]);
            peer.expect_closed();
            near.wait_for_log("does not support MQTT v5.0, reconnecting using MQTT v3.1.1.", LIMIT);
            peer = Peer::accept(&listener);
        }
        assert_eq!(peer.level(), 4);
        peer.connack();
        near.wait_for_log("Bridge link is connected to", LIMIT);
        near.wait_for_log("as link (p4)", LIMIT);
        if !quick {
            // What was only guessed is offered again.
            drop(peer);
            let peer = Peer::accept(&listener);
            assert_eq!(peer.level(), 5);
            drop(peer);
            assert_eq!(Peer::accept(&listener).level(), 4);
        }
    }
}

#[test]
fn what_connack_does_not_permit_is_left_out() {
    let (listener, port) = listen();
    let near = Broker::start_with(&bridge(port, "topic q/# out 2\nbridge_protocol_version mqttv50"));
    let mut peer = Peer::accept(&listener);
    // Retain not supported, then QoS not supported: the will changes.
    let flags = |peer: &Peer| peer.connect[2 + 7];
    assert_eq!(flags(&peer) & 0x3C, 0x2C, "a will, QoS 1, retained");
    peer.send(&[0x20, 3, 0, 0x9A, 0]);
    peer.expect_closed();
    let mut peer = Peer::accept(&listener);
    assert_eq!(flags(&peer) & 0x3C, 0x0C);
    peer.send(&[0x20, 3, 0, 0x9B, 0]);
    peer.expect_closed();
    let mut peer = Peer::accept(&listener);
    peer.send(&[0x20, 3, 0, 0x9B, 0]);
    peer.expect_closed();
    let mut peer = Peer::accept(&listener);
    assert_eq!(flags(&peer) & 0x3C, 0x04, "a will with QoS 0");
    // Maximum packet size 60, and a keepalive of 1 second.
    peer.send(&[0x20, 11, 0, 0, 8, 0x27, 0, 0, 0, 60, 0x13, 0, 1]);
    assert_eq!(peer.until(3).map(|packet| packet[0]), Some(0x30), "the notification, not retained");
    say(&near, "q/large", &"x".repeat(60), 2, false);
    say(&near, "q/small", "y", 2, true);
    let packet = peer.until(3).expect("a message");
    assert_eq!((packet[0], packet.last()), (0x30, Some(&b'y')), "QoS 0 and not retained");
    near.wait_for_log("Dropping too large outgoing PUBLISH for local.link (", LIMIT);
    assert_eq!(peer.until(12), Some(vec![0xC0, 0]), "a ping after a second");
    // No answer: it gives up.
    peer.expect_closed();
    near.wait_for_log("no answer to a ping.", LIMIT);
}

/// A broker that closes the connection when it meets a certain topic or QoS. Returns what arrived otherwise, until `last`.
fn closing_peer(listener: &TcpListener, poison: &dyn Fn(u8, &[u8]) -> bool, last: &[u8]) -> (Vec<Vec<u8>>, usize) {
    let (mut arrived, mut connections) = (Vec::new(), 0);
    loop {
        let mut peer = Peer::accept(listener);
        connections += 1;
        assert!(connections < 30, "it never gets past");
        peer.connack();
        while let Some(packet) = peer.packet() {
            match packet[0] >> 4 {
                12 => peer.send(&[0xD0, 0]),
                6 => peer.send(&[0x70, 2, packet[2], packet[3]]),
                3 => {
                    let qos = packet[0] >> 1 & 3;
                    let len = usize::from(packet[3]);
                    let topic = &packet[4..4 + len];
                    if poison(qos, topic) {
                        break;
                    }
                    if qos > 0 {
                        let id = &packet[4 + len..6 + len];
                        peer.send(&[if qos == 1 { 0x40 } else { 0x50 }, 2, id[0], id[1]]);
                    }
                    arrived.push(topic.to_vec());
                    if topic == last {
                        return (arrived, connections);
                    }
                }
                _ => {}
            }
        }
    }
}

#[test]
fn a_message_that_closes_the_connection_does_not_block_it_for_ever() {
    let (listener, port) = listen();
    // Nobody listens yet: everything waits.
    let near = Broker::start_with(&bridge(port, "topic q/# out 1\nnotifications false"));
    for topic in ["q/1", "q/2", "q/a.b", "q/3", "q/last"] {
        say(&near, topic, "x", 1, false);
    }
    let (arrived, connections) = closing_peer(&listener, &|_, topic| topic.contains(&b'.'), b"q/last");
    assert!(connections <= 5, "{connections}");
    for topic in ["q/1", "q/2", "q/3", "q/last"] {
        assert!(arrived.iter().any(|arrived| arrived == topic.as_bytes()), "{topic}");
    }
    near.wait_for_log("closes the connection whenever it gets the message to 'q/a.b'; it is set aside.", LIMIT);
    wait_for_count(&near, "set_aside", 1);
}

fn wait_for_count(near: &Broker, name: &str, count: u32) {
    let topic = format!("$SYS/broker/connection/link/{name}");
    let mut reader = Reader::new(near, "count", &[&topic]);
    reader.until(&topic, &count.to_string());
}

#[test]
fn a_retained_message_that_closes_the_connection_is_not_sent_for_ever() {
    let (listener, port) = listen();
    let near = Broker::start_with(&format!("sys_interval 1\n{}", bridge(port, "topic q/# out 0\nnotifications false")));
    for topic in ["q/1", "q/a.b", "q/last"] {
        say(&near, topic, "x", 0, true);
    }
    let (_, connections) = closing_peer(&listener, &|_, topic| topic.contains(&b'.'), b"q/last");
    assert!(connections <= 8, "{connections}");
    near.wait_for_log("'q/a.b'; it is set aside.", LIMIT);
}

#[test]
fn a_broker_without_qos_2_gets_qos_1_and_nothing_is_lost() {
    let (listener, port) = listen();
    let near = Broker::start_with(&bridge(port, "topic q/# out 2\nnotifications false"));
    for topic in ["q/1", "q/2", "q/last"] {
        say(&near, topic, "x", 2, false);
    }
    let (arrived, connections) = closing_peer(&listener, &|qos, _| qos == 2, b"q/last");
    assert!(connections <= 5, "{connections}");
    assert_eq!(arrived, [b"q/1".to_vec(), b"q/2".to_vec(), b"q/last".to_vec()]);
    near.wait_for_log("it gets QoS 1 from now on.", LIMIT);
}

#[test]
fn a_broker_that_cannot_stand_the_notification_is_told_nothing() {
    let (listener, port) = listen();
    let near =
        Broker::start_with(&bridge(port, "topic q/# out 1").replace("remote_clientid link", "remote_clientid a.b"));
    say(&near, "q/1", "x", 1, false);
    let (arrived, connections) = closing_peer(&listener, &|_, topic| topic.contains(&b'.'), b"q/1");
    assert_eq!((arrived.len(), connections), (1, 4));
    near.wait_for_log(
        "when it is told the state in '$SYS/broker/connection/a.b/state'; it is not told any more.",
        LIMIT,
    );
}

#[test]
fn refused_messages_and_subscriptions_have_a_line_and_nothing_stops() {
    let (listener, port) = listen();
    let near = Broker::start_with(&bridge(port, "topic q/# both 1\nbridge_protocol_version mqttv50"));
    let mut peer = Peer::accept(&listener);
    peer.connack();
    let subscribe = peer.until(8).expect("SUBSCRIBE");
    peer.send(&[0x90, 4, subscribe[2], subscribe[3], 0, 0x87]);
    near.wait_for_log("the other broker refuses the subscription to 'q/#' (code 0x87).", LIMIT);
    say(&near, "q/1", "x", 1, false);
    let at = 4 + "q/1".len();
    let first = peer.until(3).expect("a message");
    peer.send(&[0x40, 3, first[at], first[at + 1], 0x87]);
    near.wait_for_log("the other broker refuses the message to 'q/1': Not authorized.", LIMIT);
    say(&near, "q/2", "x", 1, false);
    assert!(peer.until(3).is_some(), "the next one comes");
    // One that has no room gets it again.
    let mut peer2 = {
        let second = &mut peer;
        say(&near, "q/3", "x", 1, false);
        let third = second.until(3).expect("a message");
        second.send(&[0x40, 3, third[at], third[at + 1], 0x97]);
        second.expect_closed();
        Peer::accept(&listener)
    };
    near.wait_for_log("the other broker has no room for a message.", LIMIT);
    peer2.connack();
    let topics: Vec<Vec<u8>> = (0..3).map(|_| peer2.until(3).expect("a message")).collect();
    assert!(topics.iter().any(|packet| packet.windows(5).any(|window| window == string("q/3"))), "{topics:02X?}");
}

#[test]
fn silence_has_an_end() {
    let (listener, port) = listen();
    let near = Broker::start_with(&bridge(port, "topic q/# both 1\nkeepalive_interval 5"));
    let started = Instant::now();
    let mut peer = Peer::accept(&listener);
    // It accepts and says nothing.
    peer.expect_closed();
    near.wait_for_log("no CONNACK in time", LIMIT);
    let took = started.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(8)).contains(&took), "{took:?}");
    let mut peer = Peer::accept(&listener);
    peer.connack();
    assert_eq!(peer.until(12), Some(vec![0xC0, 0]));
    peer.expect_closed();
    near.wait_for_log("no answer to a ping.", LIMIT);
}

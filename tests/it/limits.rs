//! Options that set limits or change what a client sees, each with its effect on the wire.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::{Broker, free_port, program, wait_exit};
use crate::client::{Client, LIMIT, connect, connect_with, hex, packet, publish, string, subscribe};

/// The properties of a version 5 CONNACK with nothing configured.
const DEFAULT: [u8; 11] = [0x22, 0, 10, 0x27, 0, 0x1E, 0x84, 0x80, 0x21, 0, 20];

/// CONNACK with these properties.
fn connack(props: &[u8]) -> Vec<u8> {
    packet(0x20, &[&[0, 0, u8::try_from(props.len()).expect("few")], props].concat())
}

/// A connection that said `bytes`.
fn open(broker: &Broker, bytes: &[u8]) -> Client {
    let mut client = Client::open(broker.addr());
    client.send(bytes);
    client
}

/// A version 3.1.1 client with a session that stays.
fn persistent(broker: &Broker, id: &str, present: u8) -> Client {
    let mut client = open(broker, &connect_with(4, 0, 60, &[], &[&string(id)]));
    client.expect(&[0x20, 2, present, 0]);
    client
}

/// Subscribes to `t`.
fn subscribed(client: &mut Client, version: u8, qos: u8) {
    client.send(&subscribe(version, 1, "t", qos));
    let granted = if version == 5 { vec![0x90, 4, 0, 1, 0, qos] } else { vec![0x90, 3, 0, 1, qos] };
    client.expect(&granted);
}

#[test]
fn connack_tells_what_is_configured() {
    let without = |what: u8| {
        let length = |id| if id == 0x27 { 5 } else { 3 };
        let (mut at, mut props) = (0, Vec::new());
        while at < DEFAULT.len() {
            let len = length(DEFAULT[at]);
            if DEFAULT[at] != what {
                props.extend(&DEFAULT[at..at + len]);
            }
            at += len;
        }
        props
    };
    for (lines, keepalive, props) in [
        ("", 60, DEFAULT.to_vec()),
        ("max_qos 1", 60, [&DEFAULT[..], &[0x24, 1]].concat()),
        ("max_qos 0", 60, [&DEFAULT[..], &[0x24, 0]].concat()),
        ("max_keepalive 30", 60, [&[0x13, 0, 30][..], &DEFAULT].concat()),
        ("max_keepalive 30", 0, [&[0x13, 0, 30][..], &DEFAULT].concat()),
        ("max_keepalive 30", 30, DEFAULT.to_vec()),
        ("max_keepalive 0", 0, DEFAULT.to_vec()),
        ("retain_available false", 60, [&DEFAULT[..3], &[0x25, 0], &DEFAULT[3..]].concat()),
        ("max_topic_alias 0", 60, without(0x22)),
        ("max_inflight_messages 0", 60, without(0x21)),
    ] {
        let broker = Broker::start_with(lines);
        let mut client = open(&broker, &connect_with(5, 2, keepalive, &[], &[&string("c")]));
        let (wanted, got) = (connack(&props), client.packet());
        assert_eq!(hex(&got), hex(&wanted), "{lines}, keepalive {keepalive}");
    }
}

#[test]
fn the_imposed_keepalive_is_the_one_that_counts() {
    let broker = Broker::start_with("max_keepalive 1");
    let mut client = open(&broker, &connect_with(5, 2, 0, &[], &[&string("c")]));
    assert_eq!(client.packet()[0], 0x20);
    client.set_limit(Duration::from_secs(5));
    client.expect(&[0xE0, 1, 0x8D]);
    client.expect_closed();
}

#[test]
fn connections_are_limited() {
    for lines in ["max_connections 2", "global_max_connections 2"] {
        let broker = Broker::start_with(lines);
        let mut first = Client::connect(broker.addr(), 4, "first");
        // The connection that the start was tried with may not be gone yet.
        let mut second = loop {
            let mut client = open(&broker, &connect(4, "second"));
            if client.recv(4).is_ok() {
                break client;
            }
        };
        let mut third = open(&broker, &[]);
        third.expect_closed();
        broker.wait_for_log("Client connection from 127.0.0.1 denied: max_connections exceeded.", LIMIT);
        first.ping();
        second.ping();
        second.send(&[0xE0, 0]);
        second.expect_closed();
        Client::connect(broker.addr(), 4, "third").ping();
        first.ping();
    }
}

#[test]
fn sessions_are_limited() {
    let broker = Broker::start_with("global_max_clients 2");
    persistent(&broker, "offline", 0).send(&[0xE0, 0]);
    let mut client = Client::connect(broker.addr(), 4, "online");
    let mut refused = open(&broker, &connect(5, "third"));
    refused.expect(&[0x20, 3, 0, 0x89, 0]);
    refused.expect_closed();
    open(&broker, &connect(4, "third")).expect_closed();
    // Those who are known may come back.
    persistent(&broker, "offline", 1).ping();
    client.ping();
    client.send(&[0xE0, 0]);
    client.expect_closed();
    Client::connect(broker.addr(), 4, "third").ping();
}

#[test]
fn packets_are_limited() {
    let broker = Broker::start_with("max_packet_size 100");
    for version in [4, 5] {
        let head = publish(version, 0, "t", 0, b"").len() - 2;
        let mut client = Client::connect(broker.addr(), version, "c");
        client.send(&publish(version, 0, "t", 0, &vec![b'x'; 98 - head]));
        client.ping();
        client.send(&publish(version, 0, "t", 0, &vec![b'x'; 100 - head]));
        client.expect(if version == 5 { &[0xE0, 1, 0x95] } else { &[] });
        client.expect_closed();
    }
}

#[test]
fn payloads_are_limited() {
    let broker = Broker::start_with("message_size_limit 10");
    let mut reader = Client::connect(broker.addr(), 4, "reader");
    subscribed(&mut reader, 4, 0);
    let large = [b'x'; 11];
    let mut old = Client::connect(broker.addr(), 4, "old");
    let mut new = Client::connect(broker.addr(), 5, "new");
    old.send(&publish(4, 0, "t", 0, &large));
    old.send(&publish(4, 2, "t", 1, &large));
    old.expect(&[0x40, 2, 0, 1]);
    new.send(&publish(5, 0, "t", 0, &large));
    new.send(&publish(5, 2, "t", 1, &large));
    new.expect(&[0x40, 3, 0, 1, 0x95]);
    new.send(&publish(5, 4, "t", 2, &large));
    new.expect(&[0x50, 3, 0, 2, 0x95]);
    new.send(&publish(5, 2, "t", 3, &large[..10]));
    new.expect(&[0x40, 2, 0, 3]);
    reader.expect(&publish(4, 0, "t", 0, &large[..10]));
    reader.ping();
}

#[test]
fn what_is_switched_off_is_refused() {
    let alias = packet(0x30, &[&string("t")[..], &[3, 0x23, 0, 1], b"x"].concat());
    for (lines, old, new, code) in [
        ("max_qos 1", publish(4, 4, "t", 1, b""), publish(5, 4, "t", 1, b""), 0x9B),
        ("max_qos 0", publish(4, 2, "t", 1, b""), publish(5, 2, "t", 1, b""), 0x9B),
        ("retain_available false", publish(4, 1, "t", 0, b"x"), publish(5, 1, "t", 0, b"x"), 0x9A),
        ("max_topic_alias 0", vec![0xE0, 0], alias, 0x94),
    ] {
        let broker = Broker::start_with(lines);
        let mut client = Client::connect(broker.addr(), 4, "old");
        client.send(&old);
        client.expect_closed();
        let mut client = Client::connect(broker.addr(), 5, "new");
        client.send(&new);
        client.expect(&[0xE0, 1, code]);
        client.expect_closed();
    }
    let broker = Broker::start_with("max_qos 1");
    let mut client = Client::connect(broker.addr(), 4, "reader");
    client.send(&subscribe(4, 1, "t", 2));
    client.expect(&[0x90, 3, 0, 1, 1]);
}

#[test]
fn only_some_may_come_in() {
    let username = [string("c"), string("ann")].concat();
    for (lines, bytes, told) in [
        ("accept_protocol_versions 4,5", connect(3, "c"), vec![0x20, 2, 0, 1]),
        ("accept_protocol_versions 4,5", connect(4, "c"), vec![0x20, 2, 0, 0]),
        ("accept_protocol_versions 5", connect(4, "c"), vec![0x20, 2, 0, 1]),
        ("accept_protocol_versions 3 4", connect(5, "c"), vec![0x20, 3, 0, 0x84, 0]),
        ("clientid_prefixes dev-", connect(4, "dev-1"), vec![0x20, 2, 0, 0]),
        ("clientid_prefixes dev-", connect(4, "de"), vec![0x20, 2, 0, 5]),
        ("clientid_prefixes dev-", connect(5, "xdev-1"), vec![0x20, 3, 0, 0x87, 0]),
        ("use_username_as_clientid true", connect(4, "c"), vec![0x20, 2, 0, 5]),
        ("use_username_as_clientid true", connect(5, "c"), vec![0x20, 3, 0, 0x87, 0]),
        ("use_username_as_clientid true", connect_with(4, 0x82, 60, &[], &[&username]), vec![0x20, 2, 0, 0]),
    ] {
        let broker = Broker::start_with(lines);
        let mut client = open(&broker, &bytes);
        client.expect(&told);
        if told[3] == 0 {
            client.ping();
        } else {
            client.expect_closed();
        }
    }
}

#[test]
fn the_username_can_be_the_client_id() {
    let broker = Broker::start_with("use_username_as_clientid true");
    let as_ann = |id: &str| connect_with(4, 0x82, 60, &[], &[&string(id), &string("ann")]);
    let mut first = open(&broker, &as_ann("one"));
    first.expect(&[0x20, 2, 0, 0]);
    let mut second = open(&broker, &as_ann("two"));
    second.expect(&[0x20, 2, 0, 0]);
    first.expect_closed();
    second.ping();
    broker.wait_for_log(" as ann (p4, c1, k60, u'ann').", LIMIT);
}

#[test]
fn generated_client_ids_have_the_configured_prefix() {
    for (lines, prefix) in [("", "auto-"), ("auto_id_prefix x-", "x-"), ("listener_auto_id_prefix y-", "y-")] {
        let broker = Broker::start_with(lines);
        let mut new = open(&broker, &connect(5, ""));
        let ack = new.packet();
        let at = ack.iter().position(|byte| *byte == 0x12).expect("an assigned client identifier");
        let len = usize::from(ack[at + 2]);
        let id = String::from_utf8_lossy(&ack[at + 3..at + 3 + len]).into_owned();
        let made = id.strip_prefix(prefix).unwrap_or_else(|| panic!("{id} for {lines}"));
        let groups: Vec<usize> = made.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12], "{id}");
        assert!(made.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F' | b'-')), "{id}");
        let mut old = open(&broker, &connect(4, ""));
        old.expect(&[0x20, 2, 0, 0]);
        broker.wait_for_log(&format!(" as {prefix}"), LIMIT);
    }
}

#[test]
fn a_mount_point_is_seen_by_nobody_below_it() {
    let broker = Broker::start_with("mount_point below/");
    for version in [4, 5] {
        let mut client = Client::connect(broker.addr(), version, "mounted");
        subscribed(&mut client, version, 0);
        let message = publish(version, 0, "t", 0, b"x");
        client.send(&message);
        client.expect(&message);
        broker.wait_for_log("Received PUBLISH from mounted (d0, q0, r0, m0, 'below/t', ... (1 bytes))", LIMIT);
        client.send(&subscribe(version, 2, "$SYS/#", 0));
        assert_eq!(client.packet()[0], 0x90);
        // C Mosquitto forgets the mount point here.
        let body = [&[0, 3][..], if version == 5 { &[0] } else { &[] }, &string("t")].concat();
        client.send(&packet(0xA2, &body));
        client.expect(if version == 5 { &[0xB0, 4, 0, 3, 0, 0] } else { &[0xB0, 2, 0, 3] });
        client.send(&message);
        client.ping();
    }
}

#[test]
fn outgoing_qos_can_be_that_of_the_subscription() {
    for (lines, wanted) in [("", 0), ("upgrade_outgoing_qos true", 1)] {
        let broker = Broker::start_with(lines);
        let mut client = Client::connect(broker.addr(), 4, "c");
        subscribed(&mut client, 4, 1);
        client.send(&publish(4, 0, "t", 0, b"x"));
        client.expect(&publish(4, wanted << 1, "t", 1, b"x"));
    }
}

#[test]
fn qos_0_is_kept_for_absent_clients_on_demand() {
    for (lines, kept) in [("", false), ("queue_qos0_messages true", true)] {
        let broker = Broker::start_with(lines);
        let mut absent = persistent(&broker, "absent", 0);
        subscribed(&mut absent, 4, 0);
        absent.send(&[0xE0, 0]);
        absent.expect_closed();
        let mut publisher = Client::connect(broker.addr(), 4, "publisher");
        publisher.send(&publish(4, 0, "t", 0, b"x"));
        publisher.ping();
        let mut back = persistent(&broker, "absent", 1);
        if kept {
            back.expect(&publish(4, 0, "t", 0, b"x"));
        }
        back.ping();
    }
}

#[test]
fn queues_end_where_they_are_told() {
    let broker = Broker::start_with("max_queued_messages 5\nmax_inflight_messages 2");
    let mut publisher = Client::connect(broker.addr(), 4, "publisher");
    let mut fill = || {
        for n in 1..=20 {
            publisher.send(&publish(4, 2, "t", n.into(), &[n]));
            publisher.expect(&[0x40, 2, 0, n]);
        }
    };
    let receive = |client: &mut Client, wanted: u8| {
        for n in 1..=wanted {
            let packet = client.packet();
            assert_eq!((packet[0], packet.last()), (0x32, Some(&n)), "{}", hex(&packet));
            client.send(&[0x40, 2, packet[5], packet[6]]);
        }
        client.ping();
    };
    // Present: what is in flight, and as many again beside the queue.
    let mut client = persistent(&broker, "c", 0);
    subscribed(&mut client, 4, 1);
    fill();
    receive(&mut client, 2 + 5 + 2);
    // Absent: the queue alone.
    client.send(&[0xE0, 0]);
    client.expect_closed();
    fill();
    let mut client = persistent(&broker, "c", 1);
    receive(&mut client, 5);
    broker.wait_for_log("Outgoing messages are being dropped for client c.", LIMIT);
}

#[test]
fn as_much_is_in_flight_as_the_window_lets() {
    let broker = Broker::start_with("max_inflight_messages 3");
    let receive_5 = [0x21, 0, 5];
    for (version, props, window) in [(4, &[][..], 3), (5, &[], 3), (5, &receive_5, 5)] {
        let mut client = open(&broker, &connect_with(version, 2, 60, props, &[&string("c")]));
        assert_eq!(client.packet()[0], 0x20);
        subscribed(&mut client, version, 1);
        let mut publisher = Client::connect(broker.addr(), 4, "publisher");
        for n in 1..=8 {
            publisher.send(&publish(4, 2, "t", n, &[0]));
            assert_eq!(publisher.packet()[0], 0x40);
        }
        for n in 1..=window {
            client.expect(&publish(version, 2, "t", n, &[0]));
        }
        client.ping();
        client.send(&[0x40, 2, 0, 1]);
        client.expect(&publish(version, 2, "t", window + 1, &[0]));
        client.ping();
    }
}

#[test]
fn absent_clients_are_forgotten_in_time() {
    let broker = Broker::start_with("persistent_client_expiration 1s");
    persistent(&broker, "old", 0).send(&[0xE0, 0]);
    let forever = connect_with(5, 0, 60, &[0x11, 0xFF, 0xFF, 0xFF, 0xFF], &[&string("new")]);
    let mut new = open(&broker, &forever);
    assert_eq!(new.packet()[..3], connack(&DEFAULT)[..3]);
    new.send(&[0xE0, 0]);
    for id in ["old", "new"] {
        broker.wait_for_log(&format!("Expiring client {id} due to timeout."), Duration::from_secs(5));
    }
    persistent(&broker, "old", 0).ping();
    assert_eq!(open(&broker, &forever).packet()[2], 0, "no session present");
}

#[test]
fn overlapping_subscriptions_give_one_copy_on_demand() {
    for (lines, copies_v4) in [("", 2), ("allow_duplicate_messages false", 1)] {
        let broker = Broker::start_with(lines);
        for (version, copies) in [(4, copies_v4), (5, 2)] {
            let mut client = Client::connect(broker.addr(), version, "c");
            for (id, filter) in [(1, "a/#"), (2, "a/b")] {
                client.send(&subscribe(version, id, filter, 0));
                assert_eq!(client.packet()[0], 0x90);
            }
            let message = publish(version, 0, "a/b", 0, b"x");
            client.send(&message);
            client.expect(&message.repeat(copies));
            client.ping();
        }
    }
}

#[test]
fn connections_need_not_be_logged() {
    let broker = Broker::start_with("connection_messages false\nmax_connections 100");
    let mut client = Client::connect(broker.addr(), 4, "quiet");
    client.ping();
    client.send(&[0xE0, 0]);
    client.expect_closed();
    Client::connect(broker.addr(), 4, "later").ping();
    broker.wait_for_log("Received PINGREQ from later", LIMIT);
    let log = broker.log_text();
    for text in ["New connection", "New client", "disconnected", "Will message", "will message"] {
        assert!(!log.contains(text), "{text} in\n{log}");
    }
}

#[test]
fn past_the_memory_limit_new_work_is_refused() {
    let broker = Broker::start_with("memory_limit 4000000");
    let mut reader = Client::connect(broker.addr(), 4, "reader");
    subscribed(&mut reader, 4, 0);
    let mut client = Client::connect(broker.addr(), 5, "new");
    let mut old = Client::connect(broker.addr(), 4, "old");
    let mut refused = false;
    for n in 1..200 {
        client.send(&publish(5, 3, &format!("kept/{n}"), n, &vec![b'x'; 50_000]));
        let ack = client.packet();
        refused = ack == [&[0x40, 3][..], &n.to_be_bytes(), &[0x97]].concat();
        if refused {
            break;
        }
        assert_eq!(ack[4..], [0x10], "{}", hex(&ack));
    }
    assert!(refused, "10 MB were kept");
    client.send(&subscribe(5, 9, "more", 0));
    client.expect(&[0x90, 4, 0, 9, 0, 0x97]);
    old.send(&subscribe(4, 9, "more", 0));
    old.expect(&[0x90, 3, 0, 9, 0x80]);
    open(&broker, &connect(5, "another")).expect(&[0x20, 3, 0, 0x97, 0]);
    open(&broker, &connect(4, "another")).expect(&[0x20, 2, 0, 3]);
    // MQTT 3 has no word for it: the message is not acknowledged, the client sends it again later.
    old.send(&publish(4, 2, "t", 1, b"x"));
    old.expect_closed();
    for client in [&mut client, &mut reader] {
        client.ping();
    }
    // A session that exists may be taken up again.
    reader.send(&[0xE0, 0]);
    reader.expect_closed();
    Client::connect(broker.addr(), 5, "new").ping();
}

#[test]
fn a_reload_holds_for_new_connections_and_a_bad_file_changes_nothing() {
    let broker = Broker::start_with("max_keepalive 30");
    let mut old = Client::connect(broker.addr(), 5, "before");
    let imposed = || {
        let mut client = open(&broker, &connect(5, "c"));
        let ack = client.packet();
        assert_eq!(ack[5], 0x13, "{}", hex(&ack));
        ack[7]
    };
    assert_eq!(imposed(), 30);
    broker.write_config("max_keepalive 20");
    broker.signal("HUP");
    broker.wait_for_log("Reloading config.", LIMIT);
    let deadline = Instant::now() + LIMIT;
    while imposed() != 20 {
        assert!(Instant::now() < deadline, "the reload has no effect");
    }
    broker.write_config("max_keepalive 10\nno_such_option 1");
    broker.signal("HUP");
    broker.wait_for_log("Error: Unknown configuration variable 'no_such_option'.", LIMIT);
    broker.wait_for_log("Error: The configuration was not reloaded; the settings before stay in force.", LIMIT);
    assert_eq!(imposed(), 20);
    old.ping();
}

#[test]
fn the_subscription_tree_can_be_printed() {
    let file = std::env::temp_dir().join(format!("mosquitto-it-tree-{}", std::process::id()));
    let broker = Broker::start_with_stdout("", &file);
    let mut client = Client::connect(broker.addr(), 4, "ann");
    client.send(&subscribe(4, 1, "a/b/+", 1));
    client.expect(&[0x90, 3, 0, 1, 1]);
    broker.signal("USR2");
    let deadline = Instant::now() + LIMIT;
    let mut text = String::new();
    while !text.contains("(ann, 1)\n") {
        assert!(Instant::now() < deadline, "the tree is {text:?}");
        thread::park_timeout(Duration::from_millis(5));
        text = fs::read_to_string(&file).unwrap_or_default();
    }
    let _ = fs::remove_file(&file);
    assert_eq!(text, "    a\n      b\n        + (ann, 1)\n");
    client.ping();
}

/// Runs a broker that does not come far: its exit status and what it said.
fn failed_start(config: &str) -> (Option<i32>, String) {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let file = std::env::temp_dir().join(format!("mosquitto-it-bad-{}-{number}.conf", std::process::id()));
    fs::write(&file, config).expect("a config file");
    let mut child = Command::new(program())
        .arg("-c")
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the broker runs");
    let status = wait_exit(&mut child, Duration::from_secs(5));
    let _ = child.kill();
    let output = child.wait_with_output().expect("its output");
    let _ = fs::remove_file(&file);
    let said = String::from_utf8_lossy(&output.stderr).replace(&*file.to_string_lossy(), "FILE");
    (status.and_then(|status| status.code()), said)
}

#[test]
fn a_port_in_use_ends_the_start_with_status_1() {
    let broker = Broker::start();
    let (status, said) = failed_start(&format!("listener {} 127.0.0.1\n", broker.port()));
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("Error: Address already in use\n"), "{said}");
    assert!(said.contains(&format!("Opening ipv4 listen socket on port {}.", broker.port())), "{said}");
    Client::connect(broker.addr(), 4, "undisturbed").ping();
}

#[test]
fn a_bad_option_ends_the_start_with_status_3_and_its_place() {
    for (config, reason) in [
        ("listener 1883\nno_such_option 1\n", "Error: Unknown configuration variable 'no_such_option'."),
        ("listener 1883\nmax_qos 3\n", "Error: 'max_qos' must be between 0 and 2 inclusive."),
        ("listener 1883\nmax_packet_size 19\n", "Error: 'max_packet_size' must be >= 20."),
        ("listener 1883\nmax_inflight_messages 65536\n", "Error: 'max_inflight_messages' must be <= 65535."),
        ("listener 1883\nmax_keepalive x\n", "Error: 'max_keepalive' value not a number."),
        ("listener 1883\nmount_point a/+\n", "Error: Invalid 'mount_point' value (a/+). Does it contain a wildcard"),
    ] {
        let (status, said) = failed_start(config);
        assert_eq!(status, Some(3), "{config}{said}");
        assert!(said.contains(reason), "{config}{said}");
        assert!(said.contains("Error found at FILE:2."), "{config}{said}");
    }
}

#[test]
fn a_listener_can_be_bound_to_an_interface() {
    let port = free_port();
    let broker = Broker::start_with(&format!("listener {port}\nbind_interface lo\nsocket_domain ipv4"));
    broker.wait_for_log(&format!("Listener {port} on all addresses of lo: mqtt"), LIMIT);
    Client::connect(([127, 0, 0, 1], port).into(), 4, "own").ping();
    assert!(Client::try_open((std::net::Ipv6Addr::LOCALHOST, port).into()).is_err(), "one family only");
}

//! `[conf: memory_limit]` against clients that try every way to grow past it, what still works at the limit, and the way
//! back.

use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::client::{Client, LIMIT, connect, connect_with, hex, packet, publish, string, subscribe};
use crate::tokens::variable_int;

/// The limit of these tests.
const MEMORY: u64 = 4_000_000;
/// What the heap may have beyond it: what one read of one connection may cause, the broker's own messages, and a little
/// for each connection.
const SLACK: u64 = 1_000_000;

const CONFIG: &str = "memory_limit 4000000\nsys_interval 1\nlog_type none\nlog_type warning\nlog_type notice\n\
                      max_queued_messages 0\nmax_inflight_messages 0\n";

/// Watches the heap through `$SYS`; its subscriptions were there before the limit was reached.
struct Watch {
    client: Client,
    current: u64,
    maximum: u64,
}

impl Watch {
    fn new(broker: &Broker) -> Watch {
        let mut client = Client::connect(broker.addr(), 4, "watch");
        for filter in ["$SYS/broker/heap/+", "$SYS/broker/uptime"] {
            client.send(&subscribe(4, 1, filter, 0));
            while client.packet() != [0x90, 3, 0, 1, 0] {}
        }
        Watch { client, current: 0, maximum: 0 }
    }

    /// Reads the next packet and takes its value.
    fn read(&mut self) -> Vec<u8> {
        self.client.set_limit(Duration::from_secs(10));
        let packet = self.client.packet();
        let text = String::from_utf8_lossy(packet.get(4..).unwrap_or_default()).into_owned();
        let value = |name: &str| text.strip_prefix(name).and_then(|value| value.parse().ok());
        self.maximum = value("$SYS/broker/heap/maximum").unwrap_or(self.maximum);
        self.current = value("$SYS/broker/heap/current").unwrap_or(self.current);
        packet
    }

    /// Reads one update that was made after this call.
    fn look(&mut self) {
        self.client.send(&[0xC0, 0]);
        while self.read() != [0xD0, 0] {}
        let begins = |packet: &[u8]| packet[4..].starts_with(b"$SYS/broker/uptime");
        // The second one tells that the first is complete.
        for _ in 0..2 {
            while !begins(&self.read()) {}
        }
    }

    /// Looks until the heap is as wanted.
    fn until(&mut self, what: &str, is: impl Fn(u64) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            self.look();
            if is(self.current) {
                return;
            }
            assert!(Instant::now() < deadline, "the heap has {} bytes, not {what}", self.current);
        }
    }
}

fn open(broker: &Broker, bytes: &[u8]) -> Client {
    let mut client = Client::open(broker.addr());
    client.send(bytes);
    client
}

/// A session that stays.
fn persistent(broker: &Broker, id: &str) -> Client {
    let mut client = open(broker, &connect_with(4, 0, 0, &[], &[&string(id)]));
    client.expect(&[0x20, 2, 0, 0]);
    client
}

/// Waits until everything the client sent is dealt with, or it was sent away.
fn settle(client: &mut Client) {
    client.send(&[0xC0, 0]);
    while let Ok(head) = client.recv(1) {
        let mut length = 0;
        for shift in [0, 7, 14] {
            let byte = client.recv(1).expect("a length")[0];
            length |= usize::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                break;
            }
        }
        client.recv(length).expect("the rest of a packet");
        if head == [0xD0] {
            return;
        }
    }
}

/// Fills the memory with retained messages until one is refused, and returns how many were kept.
fn fill(broker: &Broker) -> u16 {
    let mut client = Client::connect(broker.addr(), 5, "filler");
    for n in 1..1000 {
        client.send(&publish(5, 3, &format!("kept/{n}"), n, &vec![b'x'; 20_000]));
        if client.packet()[4] == 0x97 {
            return n - 1;
        }
    }
    panic!("20 MB were kept");
}

/// Whether a new client is let in.
fn lets_in(broker: &Broker, id: &str) -> bool {
    let mut client = open(broker, &connect(5, id));
    let ack = client.packet();
    match ack[3] {
        0 => {
            client.send(&[0xE0, 0]);
            client.expect_closed();
            true
        }
        code => {
            assert_eq!(code, 0x97, "{}", hex(&ack));
            false
        }
    }
}

/// Runs a hostile client, which keeps what it built, against a fresh broker: the heap stays near the limit, and once the
/// client is gone or everything is undone, the broker serves.
fn attack(lines: &str, hostile: impl FnOnce(&Broker) -> Vec<Client>) {
    let broker = Broker::start_with(&format!("{CONFIG}{lines}"));
    let mut watch = Watch::new(&broker);
    let mut guest = Client::connect(broker.addr(), 5, "guest");
    let held = hostile(&broker);
    watch.look();
    println!("{} at most", watch.maximum);
    assert!(watch.maximum < MEMORY + SLACK, "the heap had {} bytes", watch.maximum);
    // Those who are there are served.
    guest.ping();
    guest.send(&publish(5, 0, "t", 0, b"x"));
    guest.ping();
    drop(held);
}

/// As [`attack`], with a client that leaves nothing behind: then everything works again, with all the memory there was.
fn attack_and_leave(lines: &str, hostile: impl Fn(&Broker) -> Vec<Client>) {
    let broker = Broker::start_with(&format!("{CONFIG}{lines}"));
    let mut watch = Watch::new(&broker);
    watch.look();
    let before = watch.current;
    let held = hostile(&broker);
    watch.look();
    println!("{} at most", watch.maximum);
    assert!(watch.maximum < MEMORY + SLACK, "the heap had {} bytes", watch.maximum);
    drop(held);
    watch.until("as little as before", |bytes| bytes < before + MEMORY / 8);
    assert!(lets_in(&broker, "new"));
    assert!(fill(&broker) > 100, "there is little room");
}

#[test]
fn the_limit_is_told_to_each_in_its_own_words() {
    let broker = Broker::start_with(CONFIG);
    let mut old = [3, 4, 5].map(|version| (version, Client::connect(broker.addr(), version, &format!("old{version}"))));
    let kept = fill(&broker);
    broker.wait_for_log("Warning: memory_limit is reached (", LIMIT);
    for (version, code) in [(3, 3), (4, 3), (5, 0x97)] {
        let mut client = open(&broker, &connect(version, "new"));
        client.expect(&if version == 5 { vec![0x20, 3, 0, code, 0] } else { vec![0x20, 2, 0, code] });
        client.expect_closed();
    }
    for (version, client) in &mut old {
        client.send(&subscribe(*version, 9, "more", 1));
        match version {
            // MQTT 3.1 has no code for it.
            3 => client.expect(&[0x90, 3, 0, 9, 1]),
            4 => client.expect(&[0x90, 3, 0, 9, 0x80]),
            _ => client.expect(&[0x90, 4, 0, 9, 0, 0x97]),
        }
        // QoS 0 is lost, as QoS 0 may be.
        client.send(&publish(*version, 0, "t", 0, b"x"));
        client.ping();
        if *version == 5 {
            for (flags, answer) in [(2, 0x40), (3, 0x40), (4, 0x50), (5, 0x50)] {
                client.send(&publish(5, flags, "t", 7, b"x"));
                client.expect(&[answer, 3, 0, 7, 0x97]);
            }
        }
        // Nothing was kept of all that.
        client.ping();
    }
    for (version, client) in &mut old {
        if *version != 5 {
            // Not acknowledged, since MQTT 3 has no other word; the client sends it again later.
            client.send(&publish(*version, 2, "t", 7, b"x"));
            client.expect_closed();
        }
    }
    // The way out: removing what is kept.
    let (_, operator) = &mut old[2];
    for n in 1..=kept {
        operator.send(&publish(5, 3, &format!("kept/{n}"), 8, b""));
        assert_eq!(operator.packet()[..4], [0x40, if n == 0 { 2 } else { 3 }, 0, 8][..]);
    }
    broker.wait_for_log("The memory in use is below memory_limit again.", LIMIT);
    operator.send(&subscribe(5, 9, "more", 1));
    operator.expect(&[0x90, 4, 0, 9, 0, 1]);
    assert!(lets_in(&broker, "new"));
    assert_eq!(broker.log_text().matches("memory_limit").count(), 2, "{}", broker.log_text());
}

#[test]
fn at_the_limit_sessions_go_on_and_can_be_ended() {
    let broker = Broker::start_with(CONFIG);
    let mut reader = persistent(&broker, "reader");
    reader.send(&subscribe(4, 1, "a/#", 2));
    reader.expect(&[0x90, 3, 0, 1, 2]);
    let mut writer = Client::connect(broker.addr(), 5, "writer");
    // On their way when the limit is reached: one to the reader, one from the writer.
    writer.send(&publish(5, 4, "a/out", 1, b"x"));
    writer.expect(&[0x50, 2, 0, 1]);
    writer.send(&publish(5, 4, "a/in", 2, b"y"));
    writer.expect(&[0x50, 2, 0, 2]);
    fill(&broker);
    // Sent again, it takes nothing and must not be let go.
    writer.send(&publish(5, 12, "a/in", 2, b"y"));
    writer.expect(&[0x50, 2, 0, 2]);
    for id in [1, 2] {
        writer.send(&[0x62, 2, 0, id]);
        writer.expect(&[0x70, 2, 0, id]);
    }
    for (id, topic, payload) in [(1, "a/out", b"x"), (2, "a/in", b"y")] {
        reader.expect(&publish(4, 4, topic, id, payload));
    }
    for id in [1, 2] {
        reader.send(&[0x50, 2, 0, id]);
        reader.expect(&[0x62, 2, 0, id]);
        reader.send(&[0x70, 2, 0, id]);
    }
    reader.ping();
    // Away and back, with a small will, and at last away for good.
    reader.send(&[0xE0, 0]);
    reader.expect_closed();
    let back = |will: &[u8]| connect_with(4, 4, 0, &[], &[&string("reader"), &string("will"), &string_of(will)]);
    let mut reader = open(&broker, &back(&[b'w'; 900]));
    reader.expect(&[0x20, 2, 1, 0]);
    reader.ping();
    // A will that is not small is new work.
    open(&broker, &back(&[b'w'; 5000])).expect(&[0x20, 2, 0, 3]);
    reader.ping();
    reader.send(&packet(0xA2, &[&[0, 5][..], &string("a/#")].concat()));
    reader.expect(&[0xB0, 2, 0, 5]);
    reader.send(&[0xE0, 0]);
    reader.expect_closed();
    open(&broker, &connect(4, "reader")).expect(&[0x20, 2, 0, 0]);
}

/// Text of any bytes with its length.
fn string_of(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).expect("short").to_be_bytes()[..], bytes].concat()
}

#[test]
fn a_reload_can_lift_the_limit() {
    let broker = Broker::start_with(CONFIG);
    fill(&broker);
    assert!(!lets_in(&broker, "new"));
    broker.write_config(&CONFIG.replace("memory_limit 4000000", "memory_limit 9000000"));
    broker.signal("HUP");
    let deadline = Instant::now() + LIMIT;
    while !lets_in(&broker, "new") {
        assert!(Instant::now() < deadline, "the reload has no effect");
    }
}

#[test]
fn retained_messages_cannot_pass_the_limit() {
    attack("", |broker| {
        let mut clients: Vec<Client> = (0..40).map(|n| Client::connect(broker.addr(), 5, &format!("r{n}"))).collect();
        for round in 0..10 {
            // Everyone at once, so that all of it may arrive in one turn.
            for (n, client) in clients.iter_mut().enumerate() {
                client.send(&publish(5, 1, &format!("kept/{n}/{round}"), 0, &vec![b'x'; 60_000]));
            }
        }
        clients.iter_mut().for_each(settle);
        clients
    });
}

#[test]
fn queues_of_absent_clients_cannot_pass_the_limit() {
    attack("", |broker| {
        for n in 0..50 {
            let mut absent = persistent(broker, &format!("absent{n}"));
            absent.send(&subscribe(4, 1, "#", 1));
            absent.expect(&[0x90, 3, 0, 1, 1]);
        }
        let mut client = Client::connect(broker.addr(), 5, "publisher");
        let mut refused = 0;
        for n in 0..10_000u16 {
            client.send(&publish(5, 2, "t", n % 1000 + 1, b"x"));
            let ack = client.packet();
            refused += u32::from(ack.get(4) == Some(&0x97));
            if refused > 100 {
                break;
            }
        }
        assert!(refused > 100, "never refused");
        vec![client]
    });
}

#[test]
fn half_done_messages_cannot_pass_the_limit() {
    attack_and_leave("", |broker| {
        let mut clients: Vec<Client> = (0..40).map(|n| Client::connect(broker.addr(), 5, &format!("h{n}"))).collect();
        for id in 1..=10 {
            for client in &mut clients {
                client.send(&publish(5, 4, "t", id, &vec![b'x'; 50_000]));
            }
        }
        clients.iter_mut().for_each(settle);
        clients
    });
}

#[test]
fn packets_never_completed_cannot_pass_the_limit() {
    attack_and_leave("", |broker| {
        let mut clients: Vec<Client> = (0..60).map(|n| Client::connect(broker.addr(), 5, &format!("p{n}"))).collect();
        for _ in 0..15 {
            for (n, client) in clients.iter_mut().enumerate() {
                let head = [&[0x30][..], &variable_int(1_900_000), &string(&format!("t{n}")), &[0]].concat();
                client.send(&head);
                client.send(&vec![b'x'; 100_000]);
            }
        }
        clients
    });
}

#[test]
fn connects_never_completed_cannot_pass_the_limit() {
    attack_and_leave("", |broker| {
        (0..150)
            .map(|n| {
                let whole = connect_with(
                    4,
                    0xC2,
                    60,
                    &[],
                    &[&string(&format!("c{n}")), &string_of(&vec![b'u'; 40_000]), &string_of(&vec![b'p'; 50_000])],
                );
                open(broker, &whole[..whole.len() - 1])
            })
            .collect()
    });
}

#[test]
fn wills_and_names_cannot_pass_the_limit() {
    attack_and_leave("", |broker| {
        let greet = |n: usize, size: usize| {
            let (will, name) = (vec![b'w'; size], vec![b'u'; size]);
            connect_with(
                4,
                0x84,
                60,
                &[],
                &[&string(&format!("w{n}")), &string("will"), &string_of(&will), &string_of(&name)],
            )
        };
        // First small, so that the sessions are there; then they come back with more.
        let small: Vec<Client> = (0..150).map(|n| open(broker, &greet(n, 10))).collect();
        let mut large: Vec<Client> = (0..150).map(|n| open(broker, &greet(n, 45_000))).collect();
        large.iter_mut().for_each(settle);
        drop(small);
        // Nothing of this may stay.
        drop(large);
        (0..150).map(|n| open(broker, &connect(4, &format!("w{n}")))).collect()
    });
}

#[test]
fn subscriptions_cannot_pass_the_limit() {
    // Long names; deep trees of few names; many groups.
    let long = |n: usize| format!("{n}/{}", "x".repeat(400));
    let deep = |n: usize| {
        let levels: Vec<&str> = (0..16).map(|bit| if n >> bit & 1 == 1 { "a" } else { "b" }).collect();
        format!("{}/#", levels.join("/"))
    };
    let group = |n: usize| format!("$share/g{n}/t");
    for filter in [&long as &dyn Fn(usize) -> String, &deep, &group] {
        attack_and_leave("", |broker| {
            let mut clients: Vec<Client> =
                (0..20).map(|n| Client::connect(broker.addr(), 5, &format!("s{n}"))).collect();
            let mut next = 0;
            for _ in 0..25 {
                for client in &mut clients {
                    let mut body = vec![0, 1, 0];
                    for _ in 0..100 {
                        body.extend(string(&filter(next)));
                        body.push(1);
                        next += 1;
                    }
                    client.send(&packet(0x82, &body));
                }
            }
            clients.iter_mut().for_each(settle);
            clients
        });
    }
}

#[test]
fn topic_aliases_cannot_pass_the_limit() {
    attack_and_leave("max_topic_alias 1000\nmax_topic_alias_broker 1000", |broker| {
        let mut clients: Vec<Client> = (0..5).map(|n| Client::connect(broker.addr(), 5, &format!("t{n}"))).collect();
        for alias in 1..=100u16 {
            for client in &mut clients {
                let topic = format!("{alias}{}", "x".repeat(30_000));
                let alias = alias.to_be_bytes();
                client.send(&packet(0x30, &[&string(&topic)[..], &[3, 0x23, alias[0], alias[1]], b"x"].concat()));
            }
        }
        clients
    });
}

#[test]
fn readers_that_do_not_read_cannot_pass_the_limit() {
    attack_and_leave("max_topic_alias_broker 1000", |broker| {
        let mut readers: Vec<Client> = (0..30)
            .map(|n| {
                let mut body = string("MQTT");
                body.extend([5, 2, 0, 0, 3, 0x22, 3, 0xE8]);
                body.extend(string(&format!("n{n}")));
                let mut client = open(broker, &packet(0x10, &body));
                assert_eq!(client.packet()[3], 0);
                client.send(&subscribe(5, 1, "long/#", 0));
                assert_eq!(client.packet()[0], 0x90);
                client
            })
            .collect();
        let mut publisher = Client::connect(broker.addr(), 5, "publisher");
        for n in 0..400 {
            let topic = format!("long/{n}/{}", "x".repeat(20_000));
            publisher.send(&publish(5, 0, &topic, 0, &vec![b'x'; 10_000]));
        }
        settle(&mut publisher);
        readers.push(publisher);
        readers
    });
}

#[test]
fn sessions_cannot_pass_the_limit() {
    attack("", |broker| {
        let mut refused = 0;
        for n in 0..3000 {
            let id = format!("{n}{}", "i".repeat(10_000));
            let mut client = open(broker, &connect_with(5, 0, 60, &[0x11, 0, 0, 0x0E, 0x10], &[&string(&id)]));
            refused += u32::from(client.packet()[3] == 0x97);
            if refused > 20 {
                return Vec::new();
            }
        }
        panic!("never refused");
    });
}

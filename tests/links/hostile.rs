//! Other brokers that misbehave in every way we could think of. Each has a bridge of its own, all at one broker: whatever
//! one of them does, the broker and the other bridges go on, and a bridge whose peer behaves again is connected again.

use std::fmt::Write as _;
use std::time::Duration;

use crate::broker::Broker;
use crate::client::{packet, publish, string};
use crate::fake::{Fake, Manner, body_of};
use crate::latency::Latency;
use crate::rng::Rng;
use crate::session::Place;
use crate::settings::side_by_side;
use crate::tokens;
use crate::traffic::{Collector, Publisher};

/// For everything: five seconds of patience, one of delay, twice, and a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);
/// A bridge waits this long for CONNACK, and longer than this it must not: its keepalive, and time to look.
const PATIENCE: Duration = Duration::from_secs(12);

struct Case {
    name: String,
    v5: bool,
    manners: Vec<Manner>,
}

fn case(name: &str, v5: bool, manners: Vec<Manner>) -> Case {
    Case { name: name.to_owned(), v5, manners }
}

/// Bytes in the language of packet cases.
fn said(text: &str) -> Vec<u8> {
    tokens::bytes(text).expect("good tokens")
}

/// What comes behind CONNACK.
fn after_connack(v5: bool, bytes: &[u8]) -> Vec<u8> {
    [if v5 { &[0x20, 3, 0, 0, 0][..] } else { &[0x20, 2, 0, 0] }, bytes].concat()
}

fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    // Twice each, so that a second time is no surprise either.
    let mut say = |name: &str, v5: bool, bytes: Vec<u8>| {
        all.push(case(name, v5, vec![Manner::Say(bytes.clone()), Manner::SayAndClose(bytes)]));
    };
    for (name, text) in [
        ("says nothing", ""),
        ("half a CONNACK", "20 02 00"),
        ("reserved flags", "20 02 02 00"),
        ("no such code", "20 02 00 63"),
        ("short CONNACK", "20 01 00"),
        ("long CONNACK", "20 05 00 00 00 00 00"),
        ("flags of CONNACK", "21 02 00 00"),
        ("remaining length of five bytes", "20 FF FF FF FF 01"),
        ("endless CONNACK", "20 FF FF FF 7F"),
        ("HTTP", "'HTTP/1.1' 20 '400' 0D 0A 0D 0A"),
        ("TLS", "15 03 01 00 02 02 28"),
        ("SUBACK before CONNACK", "90 03 00 01 00"),
        ("CONNECT", "10 0C s'MQTT' 04 02 00 3C 00 00"),
        ("refused, unavailable", "20 02 00 03"),
        ("refused, not authorized", "20 02 00 05"),
    ] {
        say(name, false, said(text));
    }
    for (name, text) in [
        ("CONNACK without properties", "20 02 00 00"),
        ("property twice", "20 09 00 00 06 21 00 0A 21 00 0A"),
        ("unknown property", "20 05 00 00 02 7F 00"),
        ("receive maximum 0", "20 06 00 00 03 21 00 00"),
        ("packet size 0", "20 08 00 00 05 27 00 00 00 00"),
        ("maximum QoS 2", "20 05 00 00 02 24 02"),
        ("properties longer than the packet", "20 03 00 00 7F"),
        ("refused, server busy", "20 03 00 89 00"),
        ("refused, banned", "20 03 00 8A 00"),
        ("refused, no such code", "20 03 00 FE 00"),
        ("refused, use another server", "20 0B 00 9C 08 1C 00 05 'other'"),
    ] {
        say(name, true, said(text));
    }
    for v5 in [false, true] {
        let version = if v5 { 5 } else { 4 };
        let mut behind = |name: &str, bytes: Vec<u8>| say(&format!("{name}, {version}"), v5, after_connack(v5, &bytes));
        let empty_props: &[u8] = if v5 { &[0] } else { &[] };
        behind("SUBACK without codes", packet(0x90, &[&[0, 1], empty_props].concat()));
        behind("CONNACK again", after_connack(v5, &[]));
        behind("SUBSCRIBE", packet(0x82, &[&[0, 1], empty_props, &string("#"), &[0]].concat()));
        behind("PINGREQ", vec![0xC0, 0]);
        behind("PUBLISH with QoS 3", publish(version, 6, "in/x", 1, b"x"));
        behind("PUBLISH with identifier 0", publish(version, 2, "in/x", 0, b"x"));
        behind("PUBLISH to a wildcard", publish(version, 0, "in/#", 0, b"x"));
        behind("PUBLISH to nothing", publish(version, 0, "", 0, b"x"));
        behind("PUBLISH to NUL", publish(version, 0, "in/\0", 0, b"x"));
        behind("PUBLISH that is not UTF-8", packet(0x30, &[0, 2, 0xC3, 0x28]));
        behind("topic longer than the packet", packet(0x30, &[0xFF, 0xFF, b'x']));
        behind("the largest packet there is", said("30 FF FF FF 7F 00 04 'in/x' 00"));
        behind("a packet over max_packet_size", publish(version, 2, "in/x", 1, &vec![b'x'; 200_000]));
        behind("type 0", vec![0, 0]);
        behind("flags of PUBREL", vec![0x60, 2, 0, 1]);
        // In version 5 this is how it says goodbye.
        behind("DISCONNECT", if v5 { vec![0xE0, 1, 0x8B] } else { vec![0xE0, 0] });
    }
    let v5_only = [
        ("alias 0", "30 0C s'in/x' 03 23 00 00 'ab'"),
        ("alias over the maximum", "30 0C s'in/x' 03 23 FF FF 'ab'"),
        ("alias that was never set", "30 08 00 00 03 23 00 01 'ab'"),
        ("subscription identifier 0", "30 0A s'in/x' 02 0B 00 'ab'"),
        ("AUTH", "F0 00"),
        ("property of another packet", "30 0D s'in/x' 05 11 00 00 00 01"),
    ];
    for (name, text) in v5_only {
        say(name, true, after_connack(true, &said(text)));
    }
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let garbage: Vec<u8> = (0..rng.size(1, 400)).map(|_| rng.below(256).to_le_bytes()[0]).collect();
        // Sometimes it begins well.
        let first = if seed % 2 == 0 { after_connack(false, &garbage) } else { garbage };
        say(&format!("garbage {seed}"), false, first);
    }

    // Answers that are wrong, again and again, while it serves.
    fn no_codes(packet: &[u8]) -> Option<Vec<u8>> {
        (packet[0] == 0x82).then(|| vec![0x90, 2, body_of(packet)[0], body_of(packet)[1]])
    }
    fn many_codes(packet: &[u8]) -> Option<Vec<u8>> {
        (packet[0] == 0x82).then(|| vec![0x90, 5, body_of(packet)[0], body_of(packet)[1], 0, 1, 2])
    }
    fn failure(packet: &[u8]) -> Option<Vec<u8>> {
        (packet[0] == 0x82).then(|| vec![0x90, 3, body_of(packet)[0], body_of(packet)[1], 0x80])
    }
    fn impossible_code(packet: &[u8]) -> Option<Vec<u8>> {
        (packet[0] == 0x82).then(|| vec![0x90, 3, body_of(packet)[0], body_of(packet)[1], 0x7F])
    }
    /// Acknowledgements of every kind for what nobody sent, before the right answer.
    fn unasked(packet: &[u8]) -> Option<Vec<u8>> {
        if packet[0] == 0xC0 {
            return None;
        }
        let id = if packet[0] & 0xF0 == 0x80 { [body_of(packet)[0], body_of(packet)[1]] } else { [0x7F, 0xFF] };
        let mut bytes = vec![0xD0, 0];
        for first in [0x40, 0x50, 0x62, 0x70, 0xB0] {
            bytes.extend([first, 2, 0x66, 0x66]);
        }
        bytes.extend([0x90, 3, 0x66, 0x66, 0]);
        if packet[0] & 0xF0 == 0x80 {
            bytes.extend([0x90, 3, id[0], id[1], 0]);
        }
        (packet[0] & 0xF0 != 0x30).then_some(bytes)
    }
    for (name, answer) in [
        ("SUBACK without codes for our own SUBSCRIBE", no_codes as fn(&[u8]) -> _),
        ("SUBACK with many codes", many_codes),
        ("SUBACK that refuses", failure),
        ("SUBACK with a code that does not exist", impossible_code),
        ("acknowledgements that nobody asked for", unasked),
    ] {
        all.push(case(name, false, vec![Manner::Answer(answer), Manner::Answer(answer)]));
    }
    all.push(case("deaf", false, vec![Manner::Deaf]));
    all
}

fn whatever_a_peer_says_the_broker_lives_and_the_bridge_comes_back() {
    let cases = cases();
    let mut fakes = Vec::new();
    let mut names = Vec::new();
    let mut lines = String::from("max_packet_size 100000\nlog_type none\nlog_type warning\nlog_type notice\n");
    for (n, case) in cases.into_iter().enumerate() {
        let fake = Fake::start(case.v5, case.manners);
        let version = if case.v5 { "mqttv50" } else { "mqttv311" };
        writeln!(
            lines,
            "connection c{n}\naddress {}\nbridge_protocol_version {version}\ntry_private false\nremote_clientid b{n}\n\
             topic out/{n}/# out 2\ntopic in/{n}/# in 2\nrestart_timeout 1\nkeepalive_interval 5\n",
            fake.addr()
        )
        .expect("a string");
        fakes.push(fake);
        names.push(case.name);
    }
    let broker = Broker::start_with(&lines);
    let latency = Latency::start(broker.addr());
    let near = Place::new(broker.addr());
    // Something to send from the start.
    let topics: Vec<String> = (0..fakes.len()).map(|n| format!("out/{n}/x")).collect();
    for topic in &topics {
        let publisher = Publisher::start(&near, topic, 1, Duration::from_secs(60), 0);
        while publisher.acknowledged() < 1 {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
    for ((fake, name), topic) in fakes.iter().zip(&names).zip(&topics) {
        assert!(fake.wait_for(topic, LIMIT), "no message after {:?}, {} connections", name, fake.connections());
    }
    let worst = latency.finish().into_iter().map(|(_, took)| took).max().unwrap_or_default();
    // Whoever waited for one of the peers would have waited five seconds.
    assert!(worst < Duration::from_secs(4), "local clients waited {worst:?}");
    println!("{} peers, local latency at most {worst:?}", fakes.len());
}

/// One broker and one bridge to a fake.
fn one(v5: bool, manners: Vec<Manner>, more: &str, topics: &str) -> (Broker, Fake) {
    let fake = Fake::start(v5, manners);
    let version = if v5 { "mqttv50" } else { "mqttv311" };
    let broker = Broker::start_with(&format!(
        "{more}\nconnection c\naddress {}\nbridge_protocol_version {version}\ntry_private false\nremote_clientid b\n\
         {topics}\nrestart_timeout 1\nkeepalive_interval 5\n",
        fake.addr()
    ));
    (broker, fake)
}

fn a_peer_that_says_nothing_is_left_in_time() {
    for v5 in [false, true] {
        let begin = std::time::Instant::now();
        let (_broker, fake) = one(v5, vec![Manner::Say(Vec::new())], "", "topic # both 2");
        assert!(fake.wait_for_connections(2, PATIENCE), "no second attempt");
        println!("second attempt after {:?}", begin.elapsed());
    }
}

fn a_server_that_wants_no_keepalive_is_asked_all_the_same() {
    // Silence of a peer that has turned keepalive off would else be silence for ever.
    let bytes = said("20 06 00 00 03 13 00 00");
    let (_broker, fake) = one(true, vec![Manner::Say(bytes)], "", "topic # both 2");
    assert!(fake.wait_for_connections(2, Duration::from_secs(20)), "no second attempt");
}

fn topics_that_do_not_fit_stay_outside() {
    // Asked for is `r/#`, known here as `local/prefix/#`. All are retained, so that they are found later.
    let long = format!("r/{}", "x".repeat(65_533));
    let deep = format!("r/{}", "y/".repeat(300));
    let odd = [&long, &deep, "r/", "$SYS/broker/uptime", "$CONTROL/broker/v1", "$share/g/x", "$other"];
    for qos in [0, 1, 2] {
        let mut bytes = after_connack(false, &[]);
        for (id, topic) in (100..).zip(odd) {
            bytes.extend(publish(4, qos << 1 | 1, topic, id, b"odd"));
            bytes.extend(if qos == 2 { packet(0x62, &id.to_be_bytes()) } else { Vec::new() });
        }
        bytes.extend(publish(4, 1, "r/good", 0, b"good"));
        let (broker, _fake) = one(false, vec![Manner::Say(bytes)], "", "topic # in 2 local/prefix/ r/");
        let near = Place::new(broker.addr());
        let everything = Collector::start(&near, "everything", "#", 1);
        assert!(everything.wait_for("local/prefix/good", LIMIT, |seen| seen.len() == 1), "QoS {qos}");
        broker.wait_for_log("what comes for", LIMIT);
        // `r/` becomes the prefix, which is a topic.
        let topics = ["local/prefix/", "local/prefix/good"];
        assert_eq!(everything.topics(), topics, "QoS {qos}");
        let system = Collector::start(&near, "system", "$other", 1);
        assert_eq!(system.topics(), [""; 0], "QoS {qos}");
    }
}

fn a_flood_of_qos_2_without_release_has_a_bound() {
    for v5 in [false, true] {
        let version = if v5 { 5 } else { 4 };
        let mut bytes = after_connack(v5, &[]);
        for id in 1..=u16::MAX {
            bytes.extend(publish(version, 4, "in/flood", id, &[b'x'; 1000]));
        }
        let (broker, fake) = one(v5, vec![Manner::Say(bytes.clone()), Manner::Say(bytes)], "", "topic # in 2");
        let before = broker.memory();
        assert!(fake.wait_for_connections(3, LIMIT), "version {version}: no end of it");
        let grown = broker.memory().saturating_sub(before);
        println!("version {version}: {grown} bytes more after 130 MB of QoS 2");
        assert!(grown < 30_000_000, "version {version}: {grown} bytes more");
    }
}

fn a_message_that_a_peer_closes_on_is_set_aside_and_the_rest_goes_on() {
    for qos in [0, 1, 2] {
        let manners = (0..100).map(|_| Manner::CloseOn("poison")).collect();
        let (broker, fake) = one(false, manners, "", "topic out/# out 2");
        let near = Place::new(broker.addr());
        assert!(fake.wait_for("$SYS/broker/connection/b/state", LIMIT), "not connected");
        for topic in ["out/before", "out/poison", "out/behind"] {
            let publisher = Publisher::start(&near, topic, qos, Duration::from_secs(60), 0);
            while publisher.acknowledged() < 1 {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            // What comes later may meet a link that is down, where QoS 0 is not kept.
            assert!(topic != "out/before" || fake.wait_for(topic, LIMIT));
        }
        if qos > 0 {
            assert!(fake.wait_for("out/behind", LIMIT), "QoS {qos}: blocked after {} attempts", fake.connections());
            broker.wait_for_log("set aside", LIMIT);
        }
        // Whatever comes later passes as well.
        let later = Publisher::start(&near, "out/later", qos, Duration::from_millis(100), 0);
        assert!(fake.wait_for("out/later", LIMIT), "QoS {qos}: blocked after {} attempts", fake.connections());
        drop(later);
    }
}

#[test]
fn hostile_peers() {
    side_by_side(&[
        (
            "whatever_a_peer_says_the_broker_lives_and_the_bridge_comes_back",
            whatever_a_peer_says_the_broker_lives_and_the_bridge_comes_back,
        ),
        ("a_peer_that_says_nothing_is_left_in_time", a_peer_that_says_nothing_is_left_in_time),
        (
            "a_server_that_wants_no_keepalive_is_asked_all_the_same",
            a_server_that_wants_no_keepalive_is_asked_all_the_same,
        ),
        ("topics_that_do_not_fit_stay_outside", topics_that_do_not_fit_stay_outside),
        ("a_flood_of_qos_2_without_release_has_a_bound", a_flood_of_qos_2_without_release_has_a_bound),
        (
            "a_message_that_a_peer_closes_on_is_set_aside_and_the_rest_goes_on",
            a_message_that_a_peer_closes_on_is_set_aside_and_the_rest_goes_on,
        ),
    ]);
}

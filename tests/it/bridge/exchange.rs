//! Messages in both directions, under every form of topic line, between this broker and Debian's in either role.

use super::*;

/// Every form of a topic line.
const TOPICS: &str = "topic plain/# both 2\n\
    topic a/# both 1 l/ r/\n\
    topic \"two words/#\" out 2 \"\" far/\n\
    topic in/+/x in 2 from/\n\
    topic zero/# out 0\n\
    topic \"\" both 2 one/here two/there\n";

/// Sent at one side with a QoS, and what has to come at the other.
type Case = (&'static str, u8, Option<(&'static str, u8)>);

const OUT: &[Case] = &[
    ("plain/0", 0, Some(("plain/0", 0))),
    ("plain/1", 1, Some(("plain/1", 1))),
    ("plain/2", 2, Some(("plain/2", 2))),
    ("l/a/2", 2, Some(("r/a/2", 1))),
    ("two words/x y", 2, Some(("far/two words/x y", 2))),
    ("zero/1", 2, Some(("zero/1", 0))),
    ("one/here", 2, Some(("two/there", 2))),
    ("in/1/x", 1, None),
    ("other", 1, None),
    ("r/a/3", 1, None),
];

const IN: &[Case] = &[
    ("plain/back", 2, Some(("plain/back", 2))),
    ("r/a/back", 2, Some(("l/a/back", 1))),
    ("in/1/x", 2, Some(("from/in/1/x", 2))),
    ("two/there", 1, Some(("one/here", 1))),
    ("zero/back", 1, None),
    ("far/two words/z", 1, None),
    ("other/back", 1, None),
];

fn exchange(near: &Broker, far: &Broker, what: &str) {
    for (here, there, cases, at) in [(near, far, OUT, "out"), (far, near, IN, "in")] {
        let mut reader = Reader::new(there, &format!("reader-{at}"), &["+/#"]);
        let mut wanted = Vec::new();
        for (topic, qos, arrives) in cases {
            say(here, topic, at, *qos, false);
            wanted.extend(arrives.map(|(topic, qos)| message(topic, at, qos, false)));
        }
        // The last word, which comes behind everything else.
        say(here, "plain/last", "last", 2, false);
        wanted.push(message("plain/last", "last", 2, false));
        wanted.sort_by(|a, b| a.topic.cmp(&b.topic));
        assert_eq!(reader.all(wanted.len()), wanted, "{what} {at}");
        reader.settle();
    }
}

/// Both brokers, with a bridge of these lines from the first to the second, connected.
fn pair(near: Program, far: Program, lines: &str) -> (Broker, Broker) {
    let far = far.start("");
    let near = near.start(&bridge(far.port(), lines));
    wait_for_state(&near, STATE, "1");
    wait_for_state(&far, STATE, "1");
    (near, far)
}

#[test]
fn ours_to_ours() {
    for version in ["mqttv31", "mqttv311", "mqttv50"] {
        let lines = format!("{TOPICS}bridge_protocol_version {version}");
        let (near, far) = pair(Program::Ours, Program::Ours, &lines);
        exchange(&near, &far, version);
    }
}

#[test]
fn ours_to_debian() {
    if !has_debian() {
        return;
    }
    for version in ["mqttv31", "mqttv311", "mqttv50"] {
        let lines = format!("{TOPICS}bridge_protocol_version {version}");
        let (near, far) = pair(Program::Ours, Program::Debian, &lines);
        exchange(&near, &far, version);
    }
}

#[test]
fn debian_to_ours() {
    if !has_debian() {
        return;
    }
    // Version 2.0 takes no quotes.
    let topics = TOPICS.replace("topic \"two words/#\" out 2 \"\" far/\n", "");
    for version in ["mqttv311", "mqttv50"] {
        let lines = format!("{topics}bridge_protocol_version {version}\nnotifications true");
        let (near, far) = pair(Program::Debian, Program::Ours, &lines);
        let (near, far) = (&near, &far);
        let mut reader = Reader::new(far, "reader", &["+/#"]);
        say(near, "plain/2", "x", 2, false);
        say(near, "l/a/1", "y", 1, false);
        assert_eq!(reader.all(2), [message("plain/2", "x", 2, false), message("r/a/1", "y", 1, false)], "{version}");
        let mut reader = Reader::new(near, "reader", &["+/#"]);
        say(far, "plain/3", "x", 2, false);
        say(far, "in/1/x", "y", 1, false);
        assert_eq!(reader.all(2), [message("from/in/1/x", "y", 1, false), message("plain/3", "x", 2, false)]);
    }
}

#[test]
fn retained_messages_go_both_ways_and_again_at_each_connection() {
    for version in ["mqttv311", "mqttv50"] {
        let far = Broker::start();
        say(&far, "in/old", "far", 1, true);
        let lines = bridge(
            far.port(),
            &format!("topic out/# out 1\ntopic in/# in 1\nbridge_protocol_version {version}\nnotifications false"),
        );
        let near = Broker::start_with(&lines);
        say(&near, "out/early", "near", 1, true);
        let mut at_far = Reader::new(&far, "far", &["out/#"]);
        at_far.until("out/early", "near");
        Reader::new(&near, "near", &["in/#"]).until("in/old", "far");
        let kept = Reader::new(&near, "near2", &["in/#"]).next();
        assert_eq!(kept, message("in/old", "far", 1, true), "it is retained here too");
        let kept = Reader::new(&far, "far2", &["out/#"]).next();
        assert_eq!(kept, message("out/early", "near", 1, true));
    }
    // Without the flag it is a message like others.
    let far = Broker::start();
    let near = Broker::start_with(&bridge(far.port(), "topic out/# out 1\nbridge_outgoing_retain false"));
    wait_for_state(&near, STATE, "1");
    let mut at_far = Reader::new(&far, "far", &["out/#", STATE]);
    say(&near, "out/x", "near", 1, true);
    at_far.until("out/x", "near");
    at_far.settle();
    let mut later = Reader::new(&far, "far2", &["out/#", STATE]);
    later.silence(Duration::from_millis(200));
}

#[test]
fn everything_in_both_directions_does_not_echo() {
    for (far, version) in [
        (Program::Ours, "mqttv311"),
        (Program::Ours, "mqttv50"),
        (Program::Debian, "mqttv311"),
        (Program::Debian, "mqttv50"),
    ] {
        if far == Program::Debian && !has_debian() {
            continue;
        }
        let (near, far) = pair(Program::Ours, far, &format!("topic # both 1\nbridge_protocol_version {version}"));
        let mut at_near = Reader::new(&near, "reader", &["x/#"]);
        let mut at_far = Reader::new(&far, "reader", &["x/#"]);
        say(&near, "x/1", "out", 1, false);
        say(&far, "x/2", "in", 1, false);
        for reader in [&mut at_near, &mut at_far] {
            assert_eq!(reader.all(2), [message("x/1", "out", 1, false), message("x/2", "in", 1, false)]);
            reader.silence(Duration::from_millis(200));
        }
    }
}

#[test]
fn a_broker_that_knows_no_bridges_echoes_once() {
    let lines = "topic # both 1\ntry_private false";
    let (near, far) = pair(Program::Ours, Program::Ours, lines);
    let mut at_near = Reader::new(&near, "reader", &["x/#"]);
    let mut at_far = Reader::new(&far, "reader", &["x/#"]);
    say(&near, "x/1", "out", 1, false);
    assert_eq!(at_near.all(2), [message("x/1", "out", 1, false), message("x/1", "out", 1, false)]);
    assert_eq!(at_far.next(), message("x/1", "out", 1, false));
    at_near.silence(Duration::from_millis(200));
    at_far.silence(Duration::from_millis(200));
}

#[test]
fn topic_aliases_expiry_and_properties_pass_a_version_5_bridge() {
    let far = Broker::start();
    let near = Broker::start_with(&bridge(far.port(), "topic p/# both 1\nbridge_protocol_version mqttv50"));
    wait_for_state(&far, STATE, "1");
    let mut reader = Client::connect(far.addr(), 5, "reader");
    reader.set_limit(LIMIT);
    reader.send(&subscribe(5, 1, "p/#", 1));
    assert_eq!(reader.packet()[0], 0x90);
    let mut writer = Client::connect(near.addr(), 5, "writer");
    for n in 1..=3u8 {
        // Payload format, a user property, and an expiry of 100 seconds.
        let props = [&[1, 1, 0x26, 0, 1, b'k', 0, 1, b'v', 2, 0, 0, 0, 100][..]].concat();
        let mut body = [&[0, 3][..], b"p/x", &[0, n], &[u8::try_from(props.len()).unwrap()], &props, &[n]].concat();
        body.insert(0, u8::try_from(body.len()).unwrap());
        body.insert(0, 0x32);
        writer.send(&body);
        assert_eq!(writer.packet()[..4], [0x40, 2, 0, n]);
        let packet = reader.packet();
        assert_eq!(packet[0], 0x32);
        let has = |part: &[u8]| packet.windows(part.len()).any(|window| window == part);
        assert!(has(&[1, 1]) && has(&[0x26, 0, 1, b'k', 0, 1, b'v']) && has(&[2, 0, 0, 0]), "{packet:02X?}");
        assert_eq!(packet.last(), Some(&n));
        let at = if packet[2..4] == [0, 0] { 4 } else { 7 };
        reader.send(&[0x40, 2, packet[at], packet[at + 1]]);
    }
    // The bridge itself used an alias from the second message on.
    far.wait_for_log("Received PUBLISH from link", LIMIT);
}

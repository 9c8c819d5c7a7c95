//! `strict_conformance`: the table of deviations, the manual page and the cases agree, and the packet cases of the
//! original differ by nothing else. The cases themselves are `tests/vectors/strict.case`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mosquitto::proto::conformance::{DEVIATIONS, LIMITS};

use crate::broker::{Broker, note};
use crate::client::{Client, LIMIT, connect_with, packet, string};
use crate::packet_cases;
use crate::script;

const STRICT: &str = "strict_conformance true";

/// Deviations that a case cannot show, and the test that does, with the file it stands in.
const SHOWN_ELSEWHERE: &[(&str, &str, &str)] = &[
    ("type-size", "tests/it/strict.rs", "packets_above_the_limits_of_their_type"),
    ("keepalive-progress", "src/proto/server/tests.rs", "by_the_letter_a_growing_packet_is_no_sign_of_life"),
];

/// Packet cases that go otherwise by the letter: part of the name, the deviation that explains it, and what came.
const DIFFERENT: &[(&str, &str, &str)] = &[
    ("CONNECT: v3.1.1 CONNECT 10 proto ver", "unknown-level", "20 02 00 01"),
    ("CONNECT: v5.0   CONNECT 10 Username with", "silent-connect", "20 03 00 81 00"),
    ("CONNECT: v5.0   CONNECT 10 [MQTT-3.1.2-19]", "silent-connect", "20 03 00 81 00"),
    ("CONNECT: v5.0   CONNECT DISALLOWED PROPERTIES", "property-place", "20 03 00 81 00"),
    ("CONNECT: v5.0   WILL DISALLOWED PROPERTIES", "property-place", "20 03 00 81 00"),
    ("DISCONNECT: v5.0   DISCONNECT DISALLOWED PROPERTIES", "property-place", "E0 01 81"),
    ("PUBACK: v5.0   PUBACK DISALLOWED PROPERTIES", "property-place", "E0 01 81"),
    ("PUBREC: v5.0   PUBREC DISALLOWED PROPERTIES", "property-place", "E0 01 81"),
    ("PUBREL: v5.0   PUBREL DISALLOWED PROPERTIES", "property-place", "E0 01 81"),
    ("PUBCOMP: v5.0   PUBCOMP DISALLOWED PROPERTIES", "property-place", "E0 01 81"),
    ("PUBLISH: v5.0   PUBLISH DISALLOWED PROPERTIES", "property-place", "E0 01 81"),
    ("remaining length 5 bytes", "silent-malformed", "E0 01 81"),
    ("DISCONNECT: v5.0   DISCONNECT E0 RC=0x", "disconnect-code", "E0 01 82"),
    ("PUBREC: v5.0   PUBREC 50 unsolicited", "packet-id-unknown", "62 03 00 01"),
    ("PUBREC: v5.0   PUBREC ALLOWED PROPERTIES", "packet-id-unknown", "62 03 00 01"),
    ("PUBREL: v5.0   PUBREL 62 unsolicited", "packet-id-unknown", "70 03 00 01"),
    ("PUBREL: v5.0   PUBREL ALLOWED PROPERTIES", "packet-id-unknown", "70 03 00 01"),
    ("SUBSCRIBE: v3.1.1 SUBSCRIBE 82 multiple topic", "subscribe-filter", "90 04 04 D2"),
    ("SUBSCRIBE: v5.0   SUBSCRIBE 82 single topic len 0", "subscribe-filter", "90 04 04"),
    ("SUBSCRIBE: v5.0   SUBSCRIBE 82 multiple topic", "subscribe-filter", "90 05 04"),
    ("SUBSCRIBE: v5.0   SUBSCRIBE 82 shared sub", "subscribe-filter", "90 04 04"),
    ("SUBSCRIBE: v5.0   SUBSCRIBE 82 QoS 0 retain handling=3", "subscribe-codes", "E0 01 82"),
    ("SUBSCRIBE: v5.0   SUBSCRIBE 82 short 3", "subscribe-codes", "E0 01 82"),
    ("SUBSCRIBE: v5.0   SUBSCRIBE 82 mid 0", "subscribe-codes", "E0 01 82"),
    ("SUBSCRIBE: v5.0   SUBSCRIBE ALLOWED PROPERTIES 82 with subscription-identifier=0", "subscribe-codes", "E0 01 82"),
    ("UNSUBSCRIBE: v3.1.1 UNSUBSCRIBE A2 multiple zero", "subscribe-filter", "B0 02 04 D2"),
    ("UNSUBSCRIBE: v5.0   UNSUBSCRIBE A2 multiple zero", "subscribe-filter", "B0 05 04"),
    ("UNSUBSCRIBE: v5.0   UNSUBSCRIBE A2 zero mid", "subscribe-codes", "E0 01 82"),
];

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn the_manual_page_lists_every_deviation_and_nothing_else() {
    let page = read("man/mosquitto-conformance.7").replace("\\-", "-");
    let (changed, stays) = page.split_once(".SH WHAT STAYS").expect("a section of what stays");
    let entries = |text: &str| -> Vec<(String, String, String)> {
        text.split("\n.TP\n")
            .skip(1)
            .map(|entry| {
                let (head, body) = entry.split_once('\n').expect("a heading and a text");
                let head = head.strip_prefix(".BR ").unwrap_or_else(|| panic!("heading {head:?}"));
                let (id, rule) = head.split_once(" \" [").expect("a name and its rule");
                let body = body.split("\n.SH").next().unwrap_or_default();
                (id.to_owned(), rule.trim_end_matches("]\"").to_owned(), body.to_owned())
            })
            .collect()
    };
    let (changed, stays) = (entries(changed), entries(stays));
    let names = |entries: &[(String, String, String)]| -> Vec<String> {
        entries.iter().map(|(id, rule, _)| format!("{id} {rule}")).collect()
    };
    assert_eq!(names(&changed), DEVIATIONS.iter().map(|d| format!("{} {}", d.id, d.rule)).collect::<Vec<_>>());
    assert_eq!(names(&stays), LIMITS.iter().map(|(id, rule)| format!("{id} {rule}")).collect::<Vec<_>>());
    for (id, _, body) in &changed {
        let (default, strict) = body.split_once("\n.br\nStrict: ").unwrap_or_else(|| panic!("{id}: both behaviours"));
        assert!(!default.is_empty() && !strict.is_empty(), "{id}");
    }
}

#[test]
fn every_deviation_has_a_case_for_either_behaviour() {
    let mut shown: BTreeMap<(String, &str), usize> = BTreeMap::new();
    for case in script::parse(&read("tests/vectors/strict.case")).expect("valid cases") {
        let is_strict = case.config.iter().any(|line| line == STRICT);
        let (kind, mark) = if is_strict { ("strict", "[strict: ") } else { ("default", "[default: ") };
        let (_, id) = case.name.split_once(mark).unwrap_or_else(|| panic!("{}: names its deviation", case.name));
        *shown.entry((id.trim_end_matches(']').to_owned(), kind)).or_default() += 1;
    }
    for (id, file, test) in SHOWN_ELSEWHERE {
        assert!(read(file).contains(&format!("fn {test}(")), "{id}: {test} in {file}");
        shown.insert(((*id).to_owned(), "default"), 1);
        shown.insert(((*id).to_owned(), "strict"), 1);
    }
    let mut wanted: Vec<_> =
        DEVIATIONS.iter().flat_map(|d| ["default", "strict"].map(|kind| (d.id.to_owned(), kind))).collect();
    wanted.sort();
    let unique = wanted.windows(2).all(|pair| pair[0] != pair[1]);
    assert!(unique, "two deviations of one name");
    assert_eq!(shown.into_keys().collect::<Vec<_>>(), wanted);
}

#[test]
fn packet_cases_differ_by_nothing_but_the_deviations() {
    let Some(groups) = packet_cases::load() else { return };
    let broker = Broker::start_with(STRICT);
    // The client ids of the set are longer than MQTT 3.1 permits.
    let (run, failures) = packet_cases::run_all(broker.addr(), &groups, true);
    let whole = std::env::var_os("CASES").is_none();
    note(&format!("packet cases by the letter: {run} run, {} differ", failures.len()));
    let mut used = vec![0; DIFFERENT.len()];
    let mut unexplained = Vec::new();
    for (name, why) in &failures {
        let rows: Vec<usize> = (0..DIFFERENT.len())
            .filter(|&row| name.contains(DIFFERENT[row].0) && why.contains(DIFFERENT[row].2))
            .collect();
        match rows[..] {
            [row] => used[row] += 1,
            _ => unexplained.push(format!("{name} ({} rows)\n        {why}", rows.len())),
        }
    }
    assert!(unexplained.is_empty(), "{}", unexplained.join("\n"));
    for ((part, id, _), count) in DIFFERENT.iter().zip(used) {
        assert!(DEVIATIONS.iter().any(|d| d.id == *id), "{id} is a deviation");
        assert!(count > 0 || !whole, "no case with {part:?} differs");
    }
}

#[test]
fn packets_above_the_limits_of_their_type() {
    // [MQTT 3.2.2.3.6]: what is below the Maximum Packet Size is taken.
    let large = |size: usize| [&[38][..], &string("k"), &string(&"v".repeat(size))].concat();
    let section = |props: &[u8]| [crate::tokens::variable_int(props.len() as u64), props.to_vec()].concat();
    let puback = packet(0x40, &[&[0, 9, 0][..], &section(&large(10_000))].concat());
    let twice = [large(60_000), large(60_000)].concat();
    let subscribe = packet(0x82, &[&[0, 1][..], &section(&twice), &string("t"), &[0]].concat());
    for (lines, bytes, told) in [
        ("", &puback, &[0xE0, 1, 0x95][..]),
        ("", &subscribe, &[0xE0, 1, 0x95]),
        (STRICT, &puback, &[]),
        (STRICT, &subscribe, &[0x90, 4, 0, 1, 0, 0]),
    ] {
        let broker = Broker::start_with(lines);
        let mut client = Client::connect(broker.addr(), 5, "large");
        client.send(bytes);
        client.expect(told);
        if lines.is_empty() { client.expect_closed() } else { client.ping() }
    }
}

#[test]
fn the_receive_maximum_is_logged_as_it_ends_the_connection() {
    let broker = Broker::start_with(&format!("{STRICT}\nmax_inflight_messages 1"));
    let mut client = Client::connect(broker.addr(), 5, "greedy");
    for id in [1, 2] {
        client.send(&crate::client::publish(5, 4, "t", id, b"x"));
    }
    client.expect(&[0x50, 2, 0, 1, 0xE0, 1, 0x93]);
    client.expect_closed();
    broker.wait_for_log("Client greedy has exceeded its receive-maximum quota.", LIMIT);
    broker.wait_for_log("disconnected: receive maximum exceeded.", LIMIT);
}

#[test]
fn the_log_names_the_cause_that_the_client_was_told() {
    for (lines, code, cause) in [("", 0x81, "malformed packet."), (STRICT, 0x82, "protocol error.")] {
        let broker = Broker::start_with(lines);
        let mut client = Client::connect(broker.addr(), 5, "empty");
        client.send(&packet(0x82, &[0, 1, 0]));
        client.expect(&[0xE0, 1, code]);
        client.expect_closed();
        broker.wait_for_log(&format!("disconnected: {cause}"), LIMIT);
    }
}

#[test]
fn the_end_of_the_old_connection_is_logged_before_the_new_client() {
    for version in [4, 5] {
        let broker = Broker::start();
        let mut old = Client::connect(broker.addr(), version, "same");
        let mut new = Client::open(broker.addr());
        let props: &[u8] = &[];
        // With a PINGREQ behind it: nothing of the new client is handled before its line is written.
        let connect = connect_with(version, 2, 60, props, &[&string("same")]);
        new.send(&[&connect[..], &[0xC0, 0]].concat());
        assert_eq!(new.packet()[0], 0x20);
        new.expect(&[0xD0, 0]);
        if version == 5 {
            old.expect(&[0xE0, 1, 0x8E]);
        }
        old.expect_closed();
        let port = new.local_port();
        broker.wait_for_log("Received PINGREQ from same", LIMIT);
        let log = broker.log_text();
        let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("no {text:?} in the log:\n{log}"));
        let lines = [
            at("disconnected: session taken over."),
            at(&format!("New client connected from 127.0.0.1:{port} as same")),
            log.rfind("No will message specified.").expect("said of both"),
            log.rfind("Sending CONNACK to same (0, 0)").expect("sent to both"),
            at("Received PINGREQ from same"),
        ];
        assert!(lines.is_sorted(), "{lines:?}\n{log}");
    }
}

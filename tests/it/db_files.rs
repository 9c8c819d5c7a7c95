//! Files of the original and ours: samples of the conformance set, files that Debian's broker wrote and files that it
//! has to load. What is absent is skipped.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use mosquitto::persist::chunk::{
    Client as Session, ClientMessage, Config, Direction, Message, NEVER, Retained, State, Subscription,
};
use mosquitto::persist::db::{Db, Loaded};
use mosquitto::persist::fault::Oddity;
use mosquitto::persist::read::Reader;
use mosquitto::persist::write::Writer;
use mosquitto::wire::QoS;
use mosquitto::wire::subscribe::{RetainHandling, SubscribeOptions};
use serde_json::Value;

use crate::broker::{Broker, note};
use crate::client::{self, Client, connect_with, hex, packet, publish, string};
use crate::folder::Folder;

/// Where the samples lie.
const SET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/conformance/mosquitto-db");

/// The original, as Debian has it.
const DEBIAN: &str = "/usr/sbin/mosquitto";

/// The samples by name, with what they hold; empty where the set is absent.
pub(crate) fn samples() -> Vec<(String, Vec<u8>, Value)> {
    let Ok(dir) = fs::read_dir(SET) else {
        note(&format!("sample databases skipped: {SET} is not there"));
        return Vec::new();
    };
    let mut paths: Vec<_> = dir.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "db"));
    paths.sort();
    assert_eq!(paths.len(), 13);
    let sample = |path: PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let json = fs::read_to_string(path.with_extension("json")).expect("a description");
        (name, fs::read(&path).expect("a sample"), serde_json::from_str(&json).expect("JSON"))
    };
    paths.into_iter().map(sample).collect()
}

/// Output of the tool for a file, and its exit status.
fn dump(mode: Option<&str>, file: &Path) -> (String, String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_mosquitto_db_dump")).args(mode).arg(file).output().expect("the tool");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (text(output.stdout), text(output.stderr), output.status.code())
}

/// Fields of the descriptions that are about the bytes and not about what they mean.
const BYTES_ONLY: [&str; 4] = ["pad", "mid_unused", "username_len_field", "username_note"];

/// Everything that `want` says stands in `got`.
fn assert_holds(name: &str, got: &Value, want: &Value) {
    match (got, want) {
        (Value::Object(got), Value::Object(want)) => {
            for (key, want) in want.iter().filter(|(key, _)| !BYTES_ONLY.contains(&key.as_str())) {
                let got = got.get(key).unwrap_or_else(|| panic!("{name}: no {key} in {got:?}"));
                assert_holds(&format!("{name}.{key}"), got, want);
            }
        }
        (Value::Array(got), Value::Array(want)) => {
            assert_eq!(got.len(), want.len(), "{name}");
            for (i, (got, want)) in got.iter().zip(want).enumerate() {
                assert_holds(&format!("{name}[{i}]"), got, want);
            }
        }
        (got, want) => assert_eq!(got, want, "{name}"),
    }
}

#[test]
fn every_sample_holds_what_its_description_says() {
    for (name, _, want) in samples() {
        let (json, complaints, status) = dump(Some("--json-full"), &Path::new(SET).join(format!("{name}.db")));
        assert_eq!(status, Some(0), "{name}: {complaints}");
        let got: Value = serde_json::from_str(&json).expect("JSON");
        for part in
            ["header", "chunk_order", "cfg", "base_messages", "clients", "client_messages", "subscriptions", "retained"]
        {
            assert_holds(&format!("{name}: {part}"), &got[part], &want[part]);
        }
        assert_eq!(got["damage"], Value::Array(Vec::new()), "{name}");
        // The defect is found where the description knows of it, and only there.
        let long = |client: &Value| {
            client["username_len_field"].as_u64() != Some(client["username"].as_str().map_or(0, str::len) as u64)
        };
        let clients = want["clients"].as_array().expect("clients");
        let known = name.starts_with("m2.0.11") && clients.iter().any(long);
        let doubtful = got["clients"].as_array().expect("clients").iter().any(|client| client["doubtful"] == true);
        assert_eq!(doubtful, known, "{name}");
        assert_eq!(complaints.contains("defect of its writer"), known, "{name}: {complaints}");
    }
}

#[test]
fn samples_are_written_again_byte_for_byte_where_they_are_as_we_write() {
    for (name, file, _) in samples() {
        let loaded = sound(&name, &file);
        let again = written(&loaded.db);
        let leaks = loaded.findings.list().iter().any(|f| matches!(f.what, Oddity::LeakedUsername));
        // Older versions have other chunks; a name that leaked is not written again.
        let canonical = loaded.version == 6 && !leaks;
        assert_eq!(again == file, canonical, "{name}");
        let reloaded = sound(&name, &again);
        assert_eq!((reloaded.version, reloaded.findings.count()), (6, 0), "{name}");
        let mut want = loaded.db.clone();
        for client in &mut want.clients {
            client.disconnected_at = 0;
            if client.session_expiry_interval == NEVER {
                client.session_expiry_time = 0;
            }
            if client.doubtful {
                (client.username, client.listener_port, client.doubtful) = ("", 0, false);
            }
        }
        assert_eq!(reloaded.db, want, "{name}");
        // In pieces as in one.
        if canonical {
            let (mut reader, mut rest, mut pieces) = (Reader::new(), &file[..], Vec::new());
            Writer::NATIVE.header(&mut pieces);
            while let Some(item) = reader.next_of(&mut rest).expect("a sound file") {
                Writer::NATIVE.chunk(&mut pieces, &item.chunk).expect("a chunk");
            }
            assert!(pieces == file, "{name}");
        }
    }
}

#[test]
fn every_cut_of_a_sample_keeps_what_is_whole() {
    for (name, file, want) in samples() {
        let ends: Vec<u64> = ["cfg", "base_messages", "clients", "client_messages", "subscriptions", "retained"]
            .iter()
            .flat_map(|part| want[part].as_array().expect("an array"))
            .map(|chunk| {
                let header = if want["header"]["db_version"].as_u64() < Some(5) { 6 } else { 8 };
                chunk["file_offset"].as_u64().expect("an offset") + header + chunk["length"].as_u64().expect("a length")
            })
            .collect();
        for cut in 0..file.len() {
            let loaded = Db::from_slice(&file[..cut]);
            let db = &loaded.db;
            let got = usize::from(db.config.is_some())
                + [db.messages.len(), db.clients.len(), db.client_messages.len()].iter().sum::<usize>()
                + [db.subscriptions.len(), db.retained.len()].iter().sum::<usize>();
            assert_eq!(got, ends.iter().filter(|end| **end <= cut as u64).count(), "{name} cut at {cut}");
            let at_border = cut == 23 || ends.contains(&(cut as u64));
            assert_eq!(loaded.damage.is_empty(), at_border, "{name} cut at {cut}");
        }
    }
}

fn sound<'a>(name: &str, file: &'a [u8]) -> Loaded<'a> {
    let loaded = Db::from_slice(file);
    assert_eq!(loaded.damage, [], "{name}");
    loaded
}

fn written(db: &Db<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    db.write(Writer::NATIVE, &mut out).expect("a store that can be written");
    out
}

/// Debian's broker with its database in `folder`; `None` where it is absent.
pub(crate) fn debian(folder: &Folder) -> Option<Broker> {
    if !Path::new(DEBIAN).exists() {
        note(&format!("databases of Debian's broker skipped: {DEBIAN} is not there"));
        return None;
    }
    let location = format!("persistence_location {}/", folder.0.display());
    let lines = format!("user root\npersistence true\n{location}\nqueue_qos0_messages true\n");
    let broker = Broker::start_command(&lines, || Command::new(DEBIAN));
    // It forgets a signal that comes before its loop runs.
    Client::connect(broker.addr(), 4, "probe").ping();
    Some(broker)
}

/// Stops it and returns what it saved.
fn stop(mut broker: Broker, folder: &Folder) -> Vec<u8> {
    broker.signal("TERM");
    broker.wait_exit();
    fs::read(folder.file()).expect("a database")
}

/// Session expiry never, as a property of CONNECT.
const FOREVER: [u8; 5] = [0x11, 0xFF, 0xFF, 0xFF, 0xFF];

/// A v5 client that keeps its session; `session` is whether the broker must know it.
fn v5_client(broker: &Broker, id: &str, session: bool) -> Client {
    let mut client = Client::open(broker.addr());
    client.send(&connect_with(5, 0, 60, &FOREVER, &[&string(id)]));
    let ack = client.packet();
    assert_eq!(ack[..4], [0x20, ack[1], u8::from(session), 0], "CONNACK {}", hex(&ack));
    client
}

/// The properties of a stored message: payload format, content type, response topic, correlation data, user properties.
pub(crate) fn stored_props() -> Vec<u8> {
    let pair = |name, value| [vec![0x26], string(name), string(value)].concat();
    [
        vec![0x01, 1, 0x03],
        string("text/plain"),
        vec![0x08],
        string("reply/to"),
        vec![0x09, 0, 3, 0, 1, 0xFF],
        pair("k", "v"),
        pair("k", ""),
    ]
    .concat()
}

/// A v5 PUBLISH with properties.
pub(crate) fn publish_props(flags: u8, topic: &str, id: u16, props: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = string(topic);
    if flags & 6 != 0 {
        body.extend(id.to_be_bytes());
    }
    body.push(u8::try_from(props.len()).expect("few properties"));
    body.extend(props);
    body.extend(payload);
    packet(0x30 | flags, &body)
}

pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("before the end of time")
}

#[test]
fn what_debians_broker_saved_is_read() {
    let folder = Folder::new();
    let Some(broker) = debian(&folder) else { return };
    let port = broker.port();
    let mut client = v5_client(&broker, "keeper", false);
    // Subscription identifier 300; no local and retain as published.
    let body = [&[0, 1, 3, 0x0B, 0xAC, 0x02][..], &string("db/#"), &[0x0E]].concat();
    client.send(&packet(0x82, &body));
    client.expect(&[0x90, 4, 0, 1, 0, 2]);
    // Left without an answer: a QoS 2 message from it, and one QoS 2 to it.
    client.send(&publish(5, 0x04, "db/in", 77, b"incoming"));
    client.packet();
    let mut other = Client::connect(broker.addr(), 5, "other");
    other.send(&publish(5, 0x04, "db/flight", 5, b"in flight"));
    other.packet();
    other.send(&[0x62, 2, 0, 5]);
    other.packet();
    client.packet();
    client.ping();
    drop(client);
    broker.wait_for_log("Client keeper closed", Duration::from_secs(5));
    let expiry = [&stored_props()[..], &[2, 0x40, 0, 0, 0]].concat();
    other.send(&publish_props(0x03, "db/kept", 6, &expiry, b"payload"));
    other.packet();
    other.send(&publish(5, 0x00, "db/zero", 0, &[0xFF, 0]));
    other.ping();
    drop(other);
    let file = stop(broker, &folder);

    let Loaded { version, db, .. } = sound("of Debian's broker", &file);
    assert_eq!(version, 6);
    assert!(db.config.is_some_and(|config| config.shutdown && config.last_db_id > 0));
    let [session] = db.clients[..] else { panic!("{:?}", db.clients) };
    assert_eq!((session.id, session.session_expiry_interval, session.expires_at(0)), ("keeper", NEVER, None));
    assert_eq!((session.trusted_username(), session.listener_port), ("", port));
    let message = |id| db.messages.iter().find(|message| message.store_id == id).expect("a message");
    let queue: Vec<_> = db
        .client_messages
        .iter()
        .map(|m| (message(m.store_id).topic, m.direction, m.state, m.qos as u8, m.packet_id, m.dup, m.subscription_id))
        .collect();
    let (out, first) = (Direction::Out, 1);
    assert_eq!(
        queue,
        [
            ("db/in", Direction::In, State::AwaitPubrel, 2, 77, false, 0),
            ("db/flight", out, State::AwaitPubrec, 2, first, true, 300),
            ("db/kept", out, State::Queued, 1, first + 1, false, 300),
            ("db/zero", out, State::Queued, 0, 0, false, 300),
        ]
    );
    let [subscription] = db.subscriptions[..] else { panic!("{:?}", db.subscriptions) };
    let options = SubscribeOptions {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::Send,
    };
    assert_eq!(subscription, Subscription { client_id: "keeper", filter: "db/#", options, identifier: 300 });
    let [retained] = db.retained[..] else { panic!("{:?}", db.retained) };
    let kept = message(retained.store_id);
    let lives = kept.expiry_time - now() - 0x4000_0000;
    assert!((-60..=60).contains(&lives), "{lives}");
    assert_eq!(
        kept,
        &Message {
            store_id: retained.store_id,
            expiry_time: kept.expiry_time,
            source_packet_id: 6,
            source_port: port,
            qos: QoS::AtLeastOnce,
            retain: true,
            source_id: "other",
            source_username: "",
            topic: "db/kept",
            payload: b"payload",
            props: Cow::Owned(stored_props()),
        }
    );
    assert_eq!(written(&db), file, "written again");
}

/// What [`our_store`] refers to.
const BASE_ID: u64 = 1000;

/// A store with every kind of chunk.
fn our_store<'a>(props: &'a [u8], payload: &'a [u8]) -> Db<'a> {
    let message = |n: u64, topic: &'a str, qos| Message {
        store_id: BASE_ID + n,
        topic,
        qos,
        source_id: "writer",
        source_username: "bob",
        source_port: 1883,
        payload,
        ..Message::default()
    };
    let five = ClientMessage { client_id: "five", state: State::Queued, ..ClientMessage::default() };
    let queued = |n: u64, packet_id, qos| ClientMessage { store_id: BASE_ID + n, packet_id, qos, ..five };
    let options = |qos| SubscribeOptions { qos, ..SubscribeOptions::default() };
    Db {
        config: Some(Config { last_db_id: BASE_ID + 9, shutdown: true }),
        messages: vec![
            Message { props: Cow::Borrowed(props), retain: true, ..message(1, "db/retained", QoS::AtLeastOnce) },
            Message { expiry_time: now() + 100_000, ..message(2, "db/later", QoS::AtLeastOnce) },
            Message { expiry_time: now() - 10, ..message(3, "db/gone", QoS::AtLeastOnce) },
            message(4, "db/flight", QoS::ExactlyOnce),
            message(5, "db/released", QoS::ExactlyOnce),
            message(6, "db/in", QoS::ExactlyOnce),
            message(7, "db/three", QoS::ExactlyOnce),
            message(9, "db/nobody", QoS::AtMostOnce),
        ],
        clients: vec![
            Session {
                id: "five",
                session_expiry_interval: NEVER,
                last_packet_id: 500,
                username: "carol",
                listener_port: 1883,
                ..Session::default()
            },
            Session { id: "three", session_expiry_interval: NEVER, last_packet_id: 7, ..Session::default() },
            Session {
                id: "passing",
                session_expiry_interval: 100_000,
                session_expiry_time: now() + 90_000,
                ..Session::default()
            },
        ],
        client_messages: vec![
            ClientMessage { state: State::AwaitPubrel, direction: Direction::In, ..queued(6, 40, QoS::ExactlyOnce) },
            ClientMessage { state: State::AwaitPubcomp, dup: true, ..queued(5, 490, QoS::ExactlyOnce) },
            ClientMessage { state: State::AwaitPubrec, dup: true, ..queued(4, 491, QoS::ExactlyOnce) },
            ClientMessage { subscription_id: 300, ..queued(1, 492, QoS::AtLeastOnce) },
            queued(3, 493, QoS::AtLeastOnce),
            queued(2, 494, QoS::AtLeastOnce),
            ClientMessage { client_id: "three", ..queued(7, 7, QoS::ExactlyOnce) },
        ],
        subscriptions: vec![
            Subscription { client_id: "five", filter: "live/+", options: options(QoS::ExactlyOnce), identifier: 300 },
            Subscription {
                client_id: "five",
                filter: "own/#",
                options: SubscribeOptions { no_local: true, ..options(QoS::AtLeastOnce) },
                identifier: 0,
            },
            Subscription { client_id: "three", filter: "live/a", options: options(QoS::AtLeastOnce), identifier: 0 },
        ],
        retained: vec![Retained { store_id: BASE_ID + 1 }, Retained { store_id: BASE_ID + 2 }],
    }
}

#[test]
fn debians_broker_loads_what_we_wrote_and_saves_the_same() {
    let folder = Folder::new();
    let (props, payload) = (stored_props(), b"\x00payload".to_vec());
    let ours = our_store(&props, &payload);
    fs::write(folder.file(), written(&ours)).expect("a database");
    let Some(broker) = debian(&folder) else { return };

    // Nobody came: what it saves is what it loaded, without what has expired and what nobody refers to.
    let file = stop(broker, &folder);
    let mut again = sound("saved again", &file).db;
    // It counts the seconds that are left from two readings of the clock, so one can get lost.
    for message in &mut again.messages {
        let ours = ours.messages.iter().find(|ours| ours.store_id == message.store_id);
        if let Some(ours) = ours.filter(|ours| (-1..=0).contains(&(message.expiry_time - ours.expiry_time))) {
            message.expiry_time = ours.expiry_time;
        }
    }
    let gone = |id: u64| id == BASE_ID + 3 || id == BASE_ID + 9;
    let mut want = ours.clone();
    want.messages.retain(|message| !gone(message.store_id));
    want.client_messages.retain(|message| !gone(message.store_id));
    // No listener has the port of the file.
    want.messages.iter_mut().for_each(|message| message.source_port = 0);
    want.clients.iter_mut().for_each(|client| client.listener_port = 0);
    let strip = |db: &Db<'_>| {
        let mut messages: Vec<_> = db.messages.iter().filter(|m| !m.topic.starts_with('$')).cloned().collect();
        messages.sort_by_key(|message| message.store_id);
        let mut clients: Vec<_> =
            db.clients.iter().map(|c| (c.id, c.session_expiry_interval, c.last_packet_id)).collect();
        clients.sort_unstable();
        let mut queues = db.client_messages.clone();
        queues.sort_by_key(|message| message.client_id);
        let mut subscriptions = db.subscriptions.clone();
        subscriptions.sort_by_key(|s| (s.client_id, s.filter));
        let mut retained: Vec<_> = db.retained.iter().map(|r| r.store_id).collect();
        retained.sort_unstable();
        format!("{messages:#?}\n{clients:#?}\n{queues:#?}\n{subscriptions:#?}\n{retained:?}")
    };
    let (got, want) = (strip(&again), strip(&want));
    for (got, want) in got.lines().zip(want.lines()) {
        assert_eq!(got, want, "{:#?}", again);
    }
    assert_eq!(got.lines().count(), want.lines().count());
}

#[test]
fn real_clients_of_debians_broker_get_what_we_wrote() {
    let folder = Folder::new();
    let (props, payload) = (stored_props(), b"\x00payload".to_vec());
    fs::write(folder.file(), written(&our_store(&props, &payload))).expect("a database");
    let Some(broker) = debian(&folder) else { return };

    // The v5 session: PUBREL for the released one, then the rest in order.
    let mut five = v5_client(&broker, "five", true);
    assert_eq!(five.packet()[..4], [0x62, 2, 0x01, 0xEA], "PUBREL 490");
    let queued = |flags: u8, topic: &str, id: u16, props: &[u8]| publish_props(flags, topic, id, props, &payload);
    five.expect(&queued(0x0C, "db/flight", 491, &[]));
    let mut with_id = five.packet();
    // Properties of the message and the subscription identifier, in any order.
    let identifier = [0x0B, 0xAC, 0x02];
    let at = with_id.windows(3).position(|w| w == identifier).expect("a subscription identifier");
    with_id.drain(at..at + 3);
    with_id[1] -= 3;
    with_id[2 + 2 + 11 + 2] -= 3;
    assert_eq!(hex(&with_id), hex(&queued(0x02, "db/retained", 492, &props)));
    let later = five.packet();
    // Its message expiry counts down.
    let head = [&[0x32, later[1]][..], &string("db/later"), &494u16.to_be_bytes(), &[5, 2]].concat();
    assert!(later.starts_with(&head), "{}", hex(&later));
    for id in [492u16, 494] {
        five.send(&[&[0x40, 2][..], &id.to_be_bytes()].concat());
    }
    five.send(&[0x50, 2, 0x01, 0xEB]);
    five.expect(&[0x62, 2, 0x01, 0xEB]);
    // The message that came before waits for its PUBREL.
    five.send(&[0x62, 2, 0, 40]);
    five.expect(&[0x70, 2, 0, 40]);

    // The v3.1.1 session.
    let mut three = Client::open(broker.addr());
    three.send(&connect_with(4, 0, 60, &[], &[&string("three")]));
    three.expect(&[0x20, 2, 1, 0]);
    three.expect(&[&[0x34, 20][..], &string("db/three"), &[0, 7], &payload].concat());

    // The subscriptions stand, with their identifier and options.
    let mut other = Client::connect(broker.addr(), 5, "other");
    other.send(&publish(5, 0x02, "live/a", 9, b"x"));
    other.packet();
    let got = five.packet();
    assert!(got.windows(3).any(|w| w == identifier) && got.ends_with(b"x"), "{}", hex(&got));
    let got = three.packet();
    assert_eq!((got[0], got.ends_with(b"x")), (0x32, true), "{}", hex(&got));
    five.send(&publish(5, 0x00, "own/a", 0, b"y"));
    five.ping();

    // The retained messages.
    other.send(&client::subscribe(5, 3, "db/#", 1));
    other.packet();
    let mut retained: Vec<_> = (0..2).map(|_| other.packet()).collect();
    retained.sort_by_key(|packet| std::cmp::Reverse(packet.len()));
    assert!(retained[0].windows(props.len()).any(|w| w == props), "{}", hex(&retained[0]));
    assert!(retained.iter().all(|packet| packet[0] == 0x33), "{retained:02X?}");
    other.ping();
}

#[test]
fn the_tool_shows_a_file_as_text_figures_and_json() {
    let folder = Folder::new();
    let (props, payload) = (stored_props(), b"text".to_vec());
    let file = written(&our_store(&props, &payload));
    fs::write(folder.file(), &file).expect("a database");
    let (text, complaints, status) = dump(None, &folder.file());
    assert_eq!((complaints.as_str(), status), ("", Some(0)));
    assert!(text.starts_with("Mosquitto DB dump\nCRC: 0\nDB version: 6\nDB_CHUNK_CFG:\n\tLength: 16\n"), "{text}");
    assert!(text.contains("\tProperties:\n\t\tPayload format indicator: 1\n\t\tContent type: text/plain\n"), "{text}");
    assert!(text.contains("\t\tCorrelation data: 0001FF\n\t\tUser property: k , v\n"), "{text}");

    let (stats, ..) = dump(Some("--stats"), &folder.file());
    let want = "DB_CHUNK_CFG:        1\nDB_CHUNK_BASE_MSG:   8\nDB_CHUNK_CLIENT_MSG: 7\nDB_CHUNK_RETAIN:     2\n\
                DB_CHUNK_SUB:        3\nDB_CHUNK_CLIENT:     3\n";
    assert_eq!(stats, want);

    let (json, _, status) = dump(Some("--json"), &folder.file());
    assert_eq!(status, Some(0));
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["client-messages"][1]["storeid"], BASE_ID + 5);
    assert_eq!(json["client-messages"][1]["retain-dup"], 1);
    assert_eq!(json["base-messages"][0]["properties"][5]["name"], "k");
    assert_eq!(json["base-messages"][0]["properties"][5]["value"], "");

    // Damage: what is left is shown, the exit status tells.
    fs::write(folder.file(), &file[..file.len() - 3]).expect("a database");
    for (mode, shows) in [(None, true), (Some("--stats"), false), (Some("--json"), false), (Some("--json-full"), true)]
    {
        let (out, complaints, status) = dump(mode, &folder.file());
        assert_eq!((out.contains("db/retained"), status), (shows, Some(1)), "{mode:?}");
        assert!(complaints.ends_with("Error: Corrupt persistent database.\n"), "{complaints}");
    }
    for (content, want) in
        [(&b"not a database, surely"[..], "Error: Unrecognised file format.\n"), (b"", "Error: the file is empty.\n")]
    {
        fs::write(folder.file(), content).expect("a file");
        assert_eq!(dump(None, &folder.file()), (String::new(), want.into(), Some(1)));
    }
    // What no version has is passed over, and a newer file is tried.
    let future = [&file[..22], &[7, 0, 0, 0, 99, 0, 0, 0, 2, 1, 2], &file[23..]].concat();
    fs::write(folder.file(), future).expect("a file");
    let (out, complaints, status) = dump(None, &folder.file());
    assert!(out.contains("DB version: 7\nWarning: mosquitto_db_dump does not support this DB version,"), "{out}");
    assert!(out.contains("db/retained"));
    let want = "Warning: Unsupported chunk \"99\" of length 2 in persistent database file at position 23. Ignoring.\n";
    assert_eq!((complaints.as_str(), status), (want, Some(0)));

    let absent = folder.0.join("absent");
    let (out, complaints, status) = dump(None, &absent);
    assert_eq!((out.as_str(), status), ("", Some(0)));
    assert_eq!(complaints, format!("Error: Unable to open {}\n", absent.display()));
    assert_eq!(dump(Some("--nothing"), &absent).2, Some(1));
}

#[test]
fn the_figures_of_a_client_are_those_of_the_sample() {
    if samples().is_empty() {
        return;
    }
    let (out, ..) = dump(Some("--client-stats"), &Path::new(SET).join("m2.0.11-v5-clients.db"));
    assert!(out.starts_with("SC: 7 SS: 244 MC: 6 MS: 713   v5-subscriber\n"), "{out}");
}

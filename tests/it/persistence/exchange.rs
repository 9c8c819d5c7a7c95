//! Databases that go from this broker to Debian's and back: real clients get the same from either.

use std::fs;
use std::io::Write;

use super::{Got, broker, drain, resume, resume_for, stop, subscribe};
use crate::broker::Broker;
use crate::client::{Client, connect_with, hex, publish, string, subscribe as subscribe_packet};
use crate::db_files::{debian, publish_props, stored_props};
use crate::folder::Folder;

const LINES: &str = "queue_qos0_messages true\n";

/// A v3.1.1 client that keeps its session.
fn three(broker: &Broker, present: bool) -> Client {
    let mut client = Client::open(broker.addr());
    client.send(&connect_with(4, 0, 60, &[], &[&string("three")]));
    client.expect(&[0x20, 2, u8::from(present), 0]);
    client
}

fn leave(mut client: Client) {
    client.send(&[0xE0, 0]);
    client.expect_closed();
}

/// Publishes and has the answer; for QoS 2 the whole exchange.
fn say(client: &mut Client, flags: u8, topic: &str, props: &[u8], payload: &[u8]) {
    client.send(&publish_props(flags, topic, 500, props, payload));
    match flags >> 1 & 3 {
        0 => client.ping(),
        1 => assert_eq!(client.packet()[0], 0x40),
        _ => {
            assert_eq!(client.packet()[0], 0x50);
            client.send(&[0x62, 2, 1, 0xF4]);
            assert_eq!(client.packet()[0], 0x70);
        }
    }
}

/// Has everything there that a database can hold.
fn fill(broker: &Broker) {
    let mut session = three(broker, false);
    session.send(&subscribe_packet(4, 1, "data/#", 1));
    session.expect(&[0x90, 3, 0, 1, 1]);
    leave(session);
    leave(resume_for(broker, "limited", 100_000, false));
    let mut sharer = resume(broker, "sharer", false);
    subscribe(&mut sharer, "$share/group/work/+", 1, 0);
    leave(sharer);

    let mut five = resume(broker, "five", false);
    subscribe(&mut five, "data/#", 2, 9);
    // No local, retain as published.
    subscribe(&mut five, "own/#", 0x0C | 1, 0);
    let mut other = Client::connect(broker.addr(), 5, "other");
    say(&mut other, 0x02, "data/one", &[], b"1");
    say(&mut other, 0x04, "data/two", &[], b"2");
    say(&mut other, 0x04, "data/three", &[], b"3");
    for id in [1, 2] {
        assert_eq!(Got::of(5, &five.packet()).id, id, "left without an answer");
    }
    assert_eq!(Got::of(5, &five.packet()).id, 3);
    five.send(&[0x50, 2, 0, 3]);
    five.expect(&[0x62, 2, 0, 3]);
    // A QoS 2 message of its own, not released.
    five.send(&publish(5, 0x04, "in/x", 77, b"incoming"));
    let ack = five.packet();
    assert_eq!(ack[..1], [0x50], "{}", hex(&ack));
    five.ping();
    leave(five);
    let expiry = [&stored_props()[..], &[2, 0x40, 0, 0, 0]].concat();
    say(&mut other, 0x02, "data/four", &expiry, b"\x00\xFF");
    say(&mut other, 0x04, "data/five", &[], b"5");
    say(&mut other, 0x00, "data/zero", &[], b"0");
    say(&mut other, 0x03, "kept/props", &expiry, b"with properties");
    say(&mut other, 0x05, "kept/two", &[], b"");
    say(&mut other, 0x05, "kept/two", &[], b"kept");
    say(&mut other, 0x01, "kept/gone", &[], b"cleared");
    say(&mut other, 0x01, "kept/gone", &[], b"");
}

fn got(topic: &str, payload: &[u8], qos: u8, id: u16) -> Got {
    Got { topic: topic.into(), payload: payload.into(), qos, id, ..Got::default() }
}

/// Everything that [`fill`] left is there, for real clients. `shared` is whether shared subscriptions came along.
fn check(broker: &Broker, whose: &str, shared: bool) {
    let mut probe = Client::connect(broker.addr(), 5, "probe");
    subscribe(&mut probe, "kept/#", 2, 0);
    let (mut kept, _) = drain(&mut probe, 5);
    kept.sort();
    let retained = |topic, payload: &[u8], qos| Got { retain: true, ..got(topic, payload, qos, 0) };
    let with_props = Got { props: stored_props(), expiry: Some(1), ..retained("kept/props", b"with properties", 1) };
    for got in &mut kept {
        got.id = 0;
        if let Some(left) = &mut got.expiry {
            assert!((0x3FFF_0000..=0x4000_0000).contains(left), "{left}");
            *left = 1;
        }
    }
    assert_eq!(kept, [with_props, retained("kept/two", b"kept", 2)], "{whose}");

    let mut probe = Client::connect(broker.addr(), 5, "watch");
    subscribe(&mut probe, "in/#", 2, 0);
    let mut five = resume(broker, "five", true);
    let (mut queue, released) = drain(&mut five, 5);
    queue.iter_mut().for_each(|got| got.expiry = got.expiry.map(|_| 1));
    let sub = |got: Got| Got { sub_id: 9, ..got };
    let again = |got: Got| Got { dup: true, ..got };
    let expected = [
        again(got("data/one", b"1", 1, 1)),
        again(got("data/two", b"2", 2, 2)),
        Got { props: stored_props(), expiry: Some(1), ..got("data/four", b"\x00\xFF", 1, 4) },
        got("data/five", b"5", 2, 5),
        got("data/zero", b"0", 0, 0),
    ];
    assert_eq!(queue, expected.map(sub), "{whose}");
    assert_eq!(released, [3], "{whose}");
    // Nobody got the message that was not released; sent again it is known, and goes out once.
    probe.ping();
    five.send(&publish(5, 0x0C, "in/x", 77, b"incoming"));
    assert_eq!(five.packet()[0], 0x50);
    five.send(&[0x62, 2, 0, 77]);
    let ack = five.packet();
    assert!(ack[..1] == [0x70] && (ack[1] == 2 || ack[4] == 0), "{whose}: {}", hex(&ack));
    let (incoming, _) = drain(&mut probe, 5);
    assert_eq!(incoming.len(), 1, "{whose}");

    let mut three = three(broker, true);
    let (queue, _) = drain(&mut three, 4);
    let topics: Vec<_> = queue.iter().map(|got| (&got.topic[5..], got.qos, got.id, got.dup)).collect();
    let expected = [
        ("one", 1, 1, false),
        ("two", 1, 2, false),
        ("three", 1, 3, false),
        ("four", 1, 4, false),
        ("five", 1, 5, false),
        ("zero", 0, 0, false),
    ];
    assert_eq!(topics, expected, "{whose}");

    // The subscriptions work, with what belongs to them.
    let mut other = Client::connect(broker.addr(), 5, "other");
    say(&mut other, 0x02, "data/live", &[], b"live");
    let (live, _) = drain(&mut five, 5);
    assert_eq!(live.iter().map(|got| (&got.topic[..], got.sub_id, got.qos)).collect::<Vec<_>>(), [("data/live", 9, 1)]);
    let (live, _) = drain(&mut three, 4);
    assert_eq!(live.len(), 1, "{whose}");
    say(&mut other, 0x03, "own/a", &[], b"other's");
    let (own, _) = drain(&mut five, 5);
    assert_eq!(own.iter().map(|got| (got.retain, got.qos)).collect::<Vec<_>>(), [(true, 1)], "{whose}: as published");
    say(&mut five, 0x02, "own/b", &[], b"its own");
    assert_eq!(drain(&mut five, 5).0, [], "{whose}: no local");
    leave(resume_for(broker, "limited", 100_000, true));
    let mut sharer = resume(broker, "sharer", true);
    say(&mut other, 0x02, "work/1", &[], b"");
    assert_eq!(drain(&mut sharer, 5).0.len(), usize::from(shared), "{whose}");
}

/// Another folder with the same database.
fn copy(of: &Folder) -> Folder {
    let folder = Folder::new();
    fs::File::create(folder.file()).and_then(|mut file| file.write_all(&fs::read(of.file())?)).expect("a copy");
    folder
}

#[test]
fn what_we_saved_is_the_same_for_clients_of_debians_broker_and_back_again() {
    let folder = Folder::new();
    let ours = broker(&folder, LINES);
    fill(&ours);
    stop(ours, &folder);
    let back = copy(&folder);
    check(&broker(&back, LINES), "ours after a restart", true);

    let theirs = copy(&folder);
    let Some(other) = debian(&theirs) else { return };
    check(&other, "C with ours", true);
    drop(other);

    // C does not save shared subscriptions.
    let theirs = copy(&folder);
    let Some(other) = debian(&theirs) else { return };
    stop(other, &theirs);
    check(&broker(&theirs, LINES), "ours by way of C", false);
}

#[test]
fn what_debians_broker_saved_is_the_same_for_our_clients_and_back_again() {
    let folder = Folder::new();
    let Some(other) = debian(&folder) else { return };
    fill(&other);
    stop(other, &folder);
    let ours = copy(&folder);
    check(&broker(&ours, LINES), "ours with that of C", false);

    let ours = copy(&folder);
    let running = broker(&ours, LINES);
    // Nothing changed, so an operator has to ask.
    running.signal("USR1");
    running.wait_for_log("Saving in-memory database to ", super::SOON);
    stop(running, &ours);
    let Some(other) = debian(&ours) else { return };
    check(&other, "C by way of ours", false);
}

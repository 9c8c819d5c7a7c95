//! The sample files of the conformance set, loaded by the broker: real clients get what the files hold.

use std::collections::BTreeMap;
use std::fs;

use mosquitto::persist::chunk::{ClientMessage, Direction, Message, NEVER, State};
use mosquitto::persist::db::Db;

use super::{Got, broker, drain, resume_for, sound, stop, subscribe};
use crate::client::Client;
use crate::db_files::{now, samples};
use crate::folder::Folder;

/// The messages of a file that have not expired, by store id.
fn messages<'a>(db: &'a Db<'a>) -> BTreeMap<u64, &'a Message<'a>> {
    let live = db.messages.iter().filter(|message| !message.is_expired(now()));
    live.map(|message| (message.store_id, message)).collect()
}

fn publish(message: &Message<'_>) -> Got {
    Got {
        topic: message.topic.into(),
        payload: message.payload.into(),
        props: message.props.to_vec(),
        expiry: (message.expiry_time > 0).then_some(0),
        ..Got::default()
    }
}

/// Message expiry counts down: whether there is one is compared.
fn without_time(mut got: Vec<Got>) -> Vec<Got> {
    got.iter_mut().for_each(|publish| publish.expiry = publish.expiry.map(|_| 0));
    got
}

/// What the client of a session must get.
fn expected(db: &Db<'_>, client_id: &str) -> (Vec<Got>, Vec<u16>) {
    let messages = messages(db);
    let own = |m: &&ClientMessage<'_>| m.client_id == client_id && m.direction == Direction::Out;
    let (mut got, mut released) = (Vec::new(), Vec::new());
    for entry in db.client_messages.iter().filter(own) {
        if entry.state == State::AwaitPubcomp {
            released.push(entry.packet_id);
        } else if let Some(message) = messages.get(&entry.store_id) {
            got.push(Got {
                qos: entry.qos as u8,
                dup: entry.dup,
                retain: entry.retain,
                id: entry.packet_id,
                sub_id: entry.subscription_id,
                ..publish(message)
            });
        }
    }
    (got, released)
}

#[test]
fn every_sample_is_restored_to_exactly_what_it_holds() {
    for (name, file, _) in samples() {
        let folder = Folder::new();
        fs::write(folder.file(), &file).expect("a database");
        let db = sound(&file);
        let broker = broker(&folder, "sys_interval 0\nmax_inflight_messages 0\n");

        // The retained messages.
        let mut probe = Client::connect(broker.addr(), 5, "probe");
        subscribe(&mut probe, "#", 0x02, 0);
        let (mut got, _) = drain(&mut probe, 5);
        got.iter_mut().for_each(|publish| publish.id = 0);
        let messages = messages(&db);
        let retained = db.retained.iter().filter_map(|retained| messages.get(&retained.store_id));
        let mut want: Vec<Got> =
            retained.map(|message| Got { qos: message.qos as u8, retain: true, ..publish(message) }).collect();
        want.sort();
        got.sort();
        assert_eq!(without_time(got), want, "{name}: retained");
        probe.send(&[0xE0, 0]);

        // The sessions, what they have under way, and their subscriptions.
        for client in &db.clients {
            let lasts = client.session_expiry_interval != 0 && client.expires_at(now()).is_none_or(|at| at > now());
            let mut session = resume_for(&broker, client.id, client.session_expiry_interval.max(1), lasts);
            if !lasts {
                continue;
            }
            let (got, mut released) = drain(&mut session, 5);
            let (want, want_released) = expected(&db, client.id);
            let own = |m: &&ClientMessage<'_>| m.client_id == client.id && m.direction == Direction::Out;
            let all = db.client_messages.iter().filter(own).count();
            let mut got = without_time(got);
            if all != want.len() + want_released.len() {
                // What was never sent takes the numbers that expired messages left free.
                for (got, want) in got.iter_mut().zip(&want).filter(|(_, want)| !want.dup) {
                    assert!(got.id <= want.id && (got.id == 0) == (want.id == 0), "{name}: {got:?}");
                    got.id = want.id;
                }
            }
            assert_eq!(got, want, "{name}: {}", client.id);
            released.sort_unstable();
            assert_eq!(released, want_released, "{name}: {}", client.id);
            // What it sent and did not release is released now.
            let received = |m: &&ClientMessage<'_>| m.client_id == client.id && m.direction == Direction::In;
            for entry in db.client_messages.iter().filter(received) {
                let [high, low] = entry.packet_id.to_be_bytes();
                session.send(&[0x62, 2, high, low]);
                let ack = session.packet();
                assert_eq!(ack[..4], [0x70, ack[1], high, low], "{name}: {}", client.id);
                assert!(ack[1] == 2 || ack[4] == 0, "{name}: it was known");
            }
        }

        // The subscriptions, by what is saved again.
        let again = stop(broker, &folder);
        let again = sound(&again);
        let subscriptions = |db: &Db<'_>| {
            let mut all: Vec<_> = db.subscriptions.iter().map(|s| format!("{s:?}")).collect();
            all.sort();
            all
        };
        assert_eq!(subscriptions(&again), subscriptions(&db), "{name}");
    }
}

#[test]
fn a_sample_nobody_touched_is_saved_again_as_it_was() {
    for (name, file, _) in samples() {
        let folder = Folder::new();
        fs::write(folder.file(), &file).expect("a database");
        let broker = broker(&folder, "sys_interval 0\n");
        let mark = broker.log_mark();
        broker.signal("USR1");
        broker.wait_for_log_after(mark, "Saving in-memory database to ", super::SOON);
        let saved = stop(broker, &folder);
        let (before, after) = (sound(&file), sound(&saved));
        let (want, got) = (picture(&before), picture(&after));
        assert_eq!(got.lines, want.lines, "{name}");
        assert_eq!(got.times.len(), want.times.len(), "{name}");
        for (got, want) in got.times.iter().zip(&want.times) {
            // Of two readings of the clocks one may be a second off the other.
            assert!(got.0 == want.0 && (got.1 - want.1).abs() <= 2, "{name}: {got:?} {want:?}");
        }
    }
}

/// Everything that a file means, without store ids and in an order of its own; times apart.
#[derive(Default)]
struct Picture {
    lines: Vec<String>,
    times: Vec<(String, i64)>,
}

fn picture(db: &Db<'_>) -> Picture {
    let messages = messages(db);
    let mut picture = Picture::default();
    let text = |id: u64| {
        messages.get(&id).map(|message| {
            let (props, payload) = (&message.props, message.payload);
            let who = (message.source_id, message.source_username, message.source_port);
            format!("{} {payload:?} {props:?} {:?} {} {who:?}", message.topic, message.qos, message.retain)
        })
    };
    for client in &db.clients {
        let interval = client.session_expiry_interval;
        if interval != NEVER {
            picture.times.push((client.id.into(), client.session_expiry_time));
        }
        let (id, port) = (client.id, client.listener_port);
        picture.lines.push(format!("{id} {interval} {} {port}", client.trusted_username()));
        let own = db.client_messages.iter().filter(|entry| entry.client_id == client.id);
        let known = own.filter_map(|entry| match entry.state {
            // Of these the message is not needed.
            State::AwaitPubcomp => Some((String::new(), entry)),
            _ => text(entry.store_id).map(|text| (text, entry)),
        });
        let mut last = 0;
        for (n, (message, entry)) in known.enumerate() {
            let mut entry = ClientMessage { store_id: 0, ..*entry };
            if entry.state == State::Queued && entry.packet_id != 0 {
                // Numbers that expired messages left free are used.
                assert!(entry.packet_id > last && entry.packet_id <= client.last_packet_id, "{entry:?}");
                last = std::mem::take(&mut entry.packet_id);
            }
            picture.lines.push(format!("{} {n:4} {message} {entry:?}", client.id));
        }
    }
    picture.lines.extend(db.subscriptions.iter().map(|subscription| format!("{subscription:?}")));
    for retained in &db.retained {
        picture.lines.extend(text(retained.store_id).map(|text| format!("kept {text}")));
        let message = messages.get(&retained.store_id).filter(|message| message.expiry_time > 0);
        picture.times.extend(message.map(|message| (message.topic.to_string(), message.expiry_time)));
    }
    picture.lines.sort();
    picture.times.sort();
    picture
}

//! The running broker and its database: what it restores, when and how it saves, and what it does with a file that it
//! cannot trust.

mod damage;
mod exchange;
mod samples;
mod saving;

use std::fs;
use std::process::Command;
use std::time::Duration;

use mosquitto::persist::chunk::{Chunk, NEVER};
use mosquitto::persist::db::Db;

use crate::broker::{Broker, program};
use crate::client::{Client, connect_with, hex, packet, string};
use crate::folder::Folder;

/// How long a save may take on a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// Lines that put the database into a folder.
fn in_folder(folder: &Folder) -> String {
    // A broker started by root keeps its rights, as the folder belongs to root.
    format!("user root\npersistence true\npersistence_location {}/\n", folder.0.display())
}

/// A broker with its database in a folder.
fn broker(folder: &Folder, lines: &str) -> Broker {
    let broker = Broker::start_with(&format!("{}{lines}", in_folder(folder)));
    // Its port is open a moment before.
    broker.wait_for_log(" running", SOON);
    broker
}

/// Stops it and returns what it saved.
fn stop(mut broker: Broker, folder: &Folder) -> Vec<u8> {
    broker.signal("TERM");
    assert_eq!(broker.wait_exit().code(), Some(0), "{}", broker.log_text());
    fs::read(folder.file()).expect("a database")
}

/// Kills it.
fn kill(mut broker: Broker) {
    broker.signal("KILL");
    broker.wait_exit();
}

/// What a broker says that does not start with these lines, and its exit status.
fn refused(folder: &Folder, lines: &str) -> (String, Option<i32>) {
    let config = folder.0.join("refused.conf");
    let port = crate::broker::free_port();
    let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\n{}{lines}", in_folder(folder));
    fs::write(&config, text).expect("a configuration");
    let output = Command::new(program()).arg("-c").arg(&config).output().expect("a broker");
    fs::remove_file(config).expect("a configuration");
    (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
}

/// A v5 client that keeps its session for these seconds; `present` is whether the broker must know it.
fn resume_for(broker: &Broker, id: &str, expiry_s: u32, present: bool) -> Client {
    let mut client = Client::open(broker.addr());
    let expiry = [&[0x11][..], &expiry_s.to_be_bytes()].concat();
    client.send(&connect_with(5, 0, 60, &expiry, &[&string(id)]));
    let ack = client.packet();
    assert_eq!(ack[..4], [0x20, ack[1], u8::from(present), 0], "CONNACK {} of {id}", hex(&ack));
    client
}

/// A v5 client that keeps its session for ever.
fn resume(broker: &Broker, id: &str, present: bool) -> Client {
    resume_for(broker, id, NEVER, present)
}

/// SUBSCRIBE with these options, and its answer.
fn subscribe(client: &mut Client, filter: &str, options: u8, identifier: u8) {
    let mut body = vec![0, 1];
    body.extend(if identifier == 0 { vec![0] } else { vec![2, 0x0B, identifier] });
    body.extend(string(filter));
    body.push(options);
    client.send(&packet(0x82, &body));
    let ack = client.packet();
    assert_eq!((ack[0], ack[ack.len() - 1]), (0x90, options & 3), "SUBACK {}", hex(&ack));
}

/// A PUBLISH as it came, taken apart.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
struct Got {
    topic: String,
    payload: Vec<u8>,
    qos: u8,
    dup: bool,
    retain: bool,
    id: u16,
    /// Without subscription identifier and message expiry.
    props: Vec<u8>,
    sub_id: u32,
    expiry: Option<u32>,
}

impl Got {
    fn of(version: u8, packet: &[u8]) -> Got {
        assert_eq!(packet[0] >> 4, 3, "not a PUBLISH: {}", hex(packet));
        let flags = packet[0];
        let mut at = 1 + packet[1..].iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
        let short = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
        let len = short(at);
        let topic = String::from_utf8(packet[at + 2..at + 2 + len].to_vec()).expect("text");
        at += 2 + len;
        let qos = flags >> 1 & 3;
        let mut id = 0;
        if qos > 0 {
            id = u16::try_from(short(at)).expect("16 bits");
            at += 2;
        }
        let mut got = Got { topic, qos, id, dup: flags & 8 != 0, retain: flags & 1 != 0, ..Got::default() };
        if version == 5 {
            let (len, n) = varint(&packet[at..]);
            at += n;
            let end = at + len as usize;
            while at < end {
                let start = at;
                let text = |at: usize| 2 + short(at);
                match packet[at] {
                    0x01 => at += 2,
                    0x02 => {
                        let bytes = packet[at + 1..at + 5].try_into().expect("4 bytes");
                        got.expiry = Some(u32::from_be_bytes(bytes));
                        at += 5;
                        continue;
                    }
                    0x0B => {
                        let (id, n) = varint(&packet[at + 1..]);
                        got.sub_id = id;
                        at += 1 + n;
                        continue;
                    }
                    0x26 => {
                        at += 1 + text(at + 1);
                        at += text(at);
                    }
                    _ => at += 1 + text(at + 1),
                }
                got.props.extend(&packet[start..at]);
            }
        }
        got.payload = packet[at..].to_vec();
        got
    }
}

/// A variable byte integer and its length.
fn varint(bytes: &[u8]) -> (u32, usize) {
    let (mut value, mut n) = (0, 0);
    loop {
        value |= u32::from(bytes[n] & 0x7F) << (7 * n);
        n += 1;
        if bytes[n - 1] & 0x80 == 0 {
            return (value, n);
        }
    }
}

/// What a client gets until nothing more comes: PUBLISH packets, and the identifiers of PUBRELs that came without one.
/// Everything is acknowledged.
fn drain(client: &mut Client, version: u8) -> (Vec<Got>, Vec<u16>) {
    let (mut got, mut released, mut answered) = (Vec::new(), Vec::new(), Vec::new());
    client.send(&[0xC0, 0]);
    let mut quiet = 0;
    loop {
        let packet = client.packet();
        let id = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        match packet[0] >> 4 {
            3 => {
                let publish = Got::of(version, &packet);
                let [high, low] = publish.id.to_be_bytes();
                match publish.qos {
                    1 => client.send(&[0x40, 2, high, low]),
                    2 => client.send(&[0x50, 2, high, low]),
                    _ => {}
                }
                got.push(publish);
            }
            6 => {
                let [high, low] = id(2).to_be_bytes();
                client.send(&[0x70, 2, high, low]);
                if got.iter().all(|publish| publish.qos != 2 || publish.id != id(2) || answered.contains(&id(2))) {
                    released.push(id(2));
                }
                answered.push(id(2));
            }
            13 => {
                // What an acknowledgement made room for comes before the answer to the next one.
                quiet += 1;
                if quiet > 30 {
                    return (got, released);
                }
                client.send(&[0xC0, 0]);
            }
            other => panic!("packet type {other}: {}", hex(&packet)),
        }
        if packet[0] >> 4 != 13 {
            quiet = 0;
        }
    }
}

/// The chunks of a file that must be sound.
fn sound(file: &[u8]) -> Db<'_> {
    let loaded = Db::from_slice(file);
    assert_eq!(loaded.damage, []);
    loaded.db
}

/// Where each chunk of a file starts, and what it is.
fn offsets(mut file: &[u8]) -> Vec<(u64, Chunk<'_>)> {
    let mut reader = mosquitto::persist::read::Reader::new();
    let mut found = Vec::new();
    while let Some(item) = reader.next_of(&mut file).expect("a sound file") {
        found.push((item.offset, item.chunk));
    }
    found
}

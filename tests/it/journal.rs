//! `persistence_mode journal`: what was acknowledged is there after the broker was killed, what it costs, and what the broker
//! does with a journal that does not fit.

mod kill;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::broker::{Broker, note, program};
use crate::cli::wait_until;
use crate::client::{Client, connect_with, hex, publish, string, subscribe};
use crate::folder::Folder;

const SOON: Duration = Duration::from_secs(10);

/// Lines that put the database into a folder, with or without a journal.
fn lines(folder: &Folder, mode: &str) -> String {
    let folder = folder.0.display();
    format!("user root\npersistence true\npersistence_location {folder}/\npersistence_mode {mode}\n")
}

fn broker(folder: &Folder, mode: &str) -> Broker {
    Broker::start_with(&lines(folder, mode))
}

fn kill(mut broker: Broker) {
    broker.signal("KILL");
    broker.wait_exit();
}

fn stop(mut broker: Broker) {
    broker.signal("TERM");
    assert_eq!(broker.wait_exit().code(), Some(0), "{}", broker.log_text());
}

fn journal(folder: &Folder) -> PathBuf {
    folder.0.join("mosquitto.db.journal")
}

/// A client that keeps its session; `present` is whether the broker must know it.
fn resume(broker: &Broker, id: &str, present: bool) -> Client {
    let mut client = Client::open(broker.addr());
    client.send(&connect_with(4, 0, 60, &[], &[&string(id)]));
    let ack = client.packet();
    assert_eq!(ack, [0x20, 2, u8::from(present), 0], "CONNACK {}", hex(&ack));
    client
}

/// Publishes with QoS 1 and waits for PUBACK.
fn keep(client: &mut Client, topic: &str, payload: &[u8]) {
    client.send(&publish(4, 0x03, topic, 7, payload));
    client.expect(&[0x40, 2, 0, 7]);
}

/// The retained messages, by topic.
fn retained(broker: &Broker) -> Vec<(String, Vec<u8>)> {
    let mut client = Client::connect(broker.addr(), 4, "reader");
    client.send(&subscribe(4, 1, "kept/#", 0));
    client.send(&[0xC0, 0]);
    assert_eq!(client.packet(), [0x90, 3, 0, 1, 0]);
    let mut found = Vec::new();
    // PINGRESP may overtake what is retained, and a second one does not.
    let mut pings = 0;
    while pings < 2 {
        let packet = client.packet();
        if packet[0] == 0xD0 {
            pings += 1;
            client.send(&[0xC0, 0]);
            continue;
        }
        let start = packet.len() - packet[1..].iter().skip_while(|b| **b & 0x80 != 0).count() + 1;
        let len = usize::from(packet[start + 1]);
        let topic = String::from_utf8(packet[start + 2..start + 2 + len].to_vec()).expect("text");
        found.push((topic, packet[start + 2 + len..].to_vec()));
    }
    found.sort();
    found
}

fn pair(topic: &str, payload: &[u8]) -> (String, Vec<u8>) {
    (topic.into(), payload.to_vec())
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let folder = Folder::new();
    let first = broker(&folder, "journal");
    let mut reader = resume(&first, "reader-1", false);
    reader.send(&subscribe(4, 1, "queued/#", 2));
    reader.expect(&[0x90, 3, 0, 1, 2]);
    drop(reader);
    let mut writer = Client::connect(first.addr(), 4, "writer");
    keep(&mut writer, "kept/a", b"one");
    keep(&mut writer, "kept/b", b"two");
    keep(&mut writer, "kept/b", b"");
    writer.send(&publish(4, 2, "queued/1", 1, b"once"));
    writer.expect(&[0x40, 2, 0, 1]);
    writer.send(&publish(4, 4, "queued/2", 2, b"twice"));
    writer.expect(&[0x50, 2, 0, 2]);
    writer.send(&[0x62, 2, 0, 2]);
    writer.expect(&[0x70, 2, 0, 2]);
    kill(first);

    let second = broker(&folder, "journal");
    assert_eq!(retained(&second), [pair("kept/a", b"one")]);
    let mut reader = resume(&second, "reader-1", true);
    reader.expect(&publish(4, 2, "queued/1", 1, b"once"));
    reader.expect(&publish(4, 4, "queued/2", 2, b"twice"));
    reader.send(&[0x40, 2, 0, 1]);
    reader.send(&[0x50, 2, 0, 2]);
    // PUBREL comes when PUBREC is on disk.
    reader.expect(&[0x62, 2, 0, 2]);
    kill(second);

    let third = broker(&folder, "journal");
    let mut reader = resume(&third, "reader-1", true);
    reader.expect(&[0x62, 2, 0, 2]);
    reader.send(&[0x70, 2, 0, 2]);
    reader.ping();
    stop(third);
    assert_eq!(folder.names(), ["mosquitto.db"], "the database has everything");
    let fourth = broker(&folder, "snapshot");
    let mut reader = resume(&fourth, "reader-1", true);
    reader.ping();
    assert_eq!(retained(&fourth), [pair("kept/a", b"one")]);
}

#[test]
fn both_modes_take_over_from_each_other() {
    let folder = Folder::new();
    let mut mode = "snapshot";
    let mut want = Vec::new();
    for n in 0..6 {
        let running = broker(&folder, mode);
        assert_eq!(retained(&running), want, "{n}: {}", running.log_text());
        let mut writer = Client::connect(running.addr(), 4, "writer");
        let topic = format!("kept/{n}");
        keep(&mut writer, &topic, mode.as_bytes());
        want.push(pair(&topic, mode.as_bytes()));
        match mode {
            "journal" => kill(running),
            _ => stop(running),
        }
        mode = if mode == "journal" { "snapshot" } else { "journal" };
        if mode == "journal" {
            assert!(!journal(&folder).exists(), "saved and removed");
        }
    }
}

#[test]
fn a_journal_of_another_database_is_set_aside() {
    let folder = Folder::new();
    let first = broker(&folder, "snapshot");
    keep(&mut Client::connect(first.addr(), 4, "writer"), "kept/old", b"x");
    stop(first);
    let old = fs::read(folder.file()).expect("a database");
    let second = broker(&folder, "journal");
    keep(&mut Client::connect(second.addr(), 4, "writer"), "kept/new", b"x");
    kill(second);
    // As C Mosquitto leaves it, or a backup.
    fs::write(folder.file(), old).expect("a database");
    let third = broker(&folder, "journal");
    third.wait_for_log("does not follow the database", SOON);
    third.wait_for_log("The journal was kept as ", SOON);
    assert_eq!(retained(&third), [pair("kept/old", b"x")]);
    kill(third);
    assert!(folder.names().iter().any(|name| name.starts_with("mosquitto.db.journal.stale-")), "{:?}", folder.names());
    assert_eq!(retained(&broker(&folder, "journal")), [pair("kept/old", b"x")]);
}

#[test]
fn damage_costs_what_it_hits() {
    let folder = Folder::new();
    let first = broker(&folder, "journal");
    let mut writer = Client::connect(first.addr(), 4, "writer");
    for n in 0..5 {
        keep(&mut writer, &format!("kept/{n}"), &[b'0' + n; 100]);
    }
    kill(first);
    let mut bytes = fs::read(journal(&folder)).expect("a journal");
    let at = bytes.windows(100).position(|part| part == [b'2'; 100]).expect("the payload");
    bytes[at + 50] ^= 0x40;
    bytes.extend([0x55; 77]);
    fs::write(journal(&folder), bytes).expect("a journal");

    let port = crate::broker::free_port();
    let config = folder.0.join("strict.conf");
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\n{}persistence_strict true\n",
        lines(&folder, "journal")
    );
    fs::write(&config, text).expect("a configuration");
    let output = Command::new(program()).arg("-c").arg(&config).output().expect("a broker");
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && log.contains("'persistence_strict' is true"), "{log}");
    fs::remove_file(config).expect("a configuration");

    let second = broker(&folder, "journal");
    second.wait_for_log("is damaged in 1 places", SOON);
    second.wait_for_log("The last 77 bytes of the journal were not written to their end", SOON);
    let kept: Vec<String> = retained(&second).into_iter().map(|(topic, _)| topic).collect();
    assert_eq!(kept, ["kept/0", "kept/1", "kept/3", "kept/4"]);
    kill(second);
    assert!(
        folder.names().iter().any(|name| name.starts_with("mosquitto.db.journal.damaged-")),
        "{:?}",
        folder.names()
    );
}

/// Bytes that the process has written, sockets and log included.
fn written(broker: &Broker) -> u64 {
    let io = fs::read_to_string(format!("/proc/{}/io", broker.pid())).expect("figures");
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("a figure");
    line.parse().expect("a number")
}

#[test]
fn small_changes_of_a_large_store_cost_little() {
    let folder = Folder::new();
    let first = broker(&folder, "journal");
    let mut writer = Client::connect(first.addr(), 4, "writer");
    for n in 0..800 {
        keep(&mut writer, &format!("kept/{n}"), &[b'x'; 1000]);
    }
    stop(first);
    let size = fs::metadata(folder.file()).expect("a database").len();
    assert!((800_000..900_000).contains(&size), "{size}");

    let second = broker(&folder, "journal");
    let mut writer = Client::connect(second.addr(), 4, "writer");
    let before = written(&second);
    for n in 0..50 {
        keep(&mut writer, &format!("kept/{n}"), b"on");
    }
    let cost = written(&second) - before;
    let grown = fs::metadata(journal(&folder)).expect("a journal").len() - 1024;
    note(&format!("50 small retained changes: {cost} bytes written, {} of them a change in the journal", grown / 50));
    assert!(cost < 20_000 && grown < 5000, "{cost} bytes, {grown} in the journal");
    kill(second);

    // Nothing at all when nothing changed.
    let files = || {
        let entry = |name: &String| {
            let data = fs::metadata(folder.0.join(name)).expect("a file");
            (name.clone(), data.len(), data.modified().expect("a time"))
        };
        folder.names().iter().map(entry).collect::<Vec<_>>()
    };
    stop(broker(&folder, "journal"));
    let settled = files();
    for _ in 0..2 {
        let idle = broker(&folder, "journal");
        let mut client = Client::connect(idle.addr(), 4, "reader");
        client.send(&publish(4, 0, "other", 0, b"nobody keeps it"));
        client.ping();
        stop(idle);
        assert_eq!(files(), settled);
    }
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let probe = Command::new("unshare").args(["-m", "true"]).status();
    if !probe.is_ok_and(|status| status.success()) {
        note("no mount namespace to be had: a full disk is skipped");
        return;
    }
    let folder = Folder::new();
    let place = folder.0.display().to_string();
    let script = "mount -t tmpfs -o size=256k none \"$DIR\" && exec \"$0\" \"$@\"";
    let running = Broker::start_command(&lines(&folder, "journal"), || {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script]).arg(program()).env("DIR", &place);
        command
    });
    let inside = PathBuf::from(format!("/proc/{}/root{place}", running.pid()));
    let mut reader = resume(&running, "reader-1", false);
    reader.send(&subscribe(4, 1, "queued/#", 1));
    reader.expect(&[0x90, 3, 0, 1, 1]);
    drop(reader);
    // Something else takes the room.
    let ballast = inside.join("ballast");
    let room = |bytes: usize| fs::write(&ballast, vec![1; bytes]).is_ok();
    let mut size = 256 * 1024;
    while !room(size) {
        size -= 4096;
    }
    let mut writer = Client::open(running.addr());
    writer.send(&connect_with(5, 2, 60, &[], &[&string("writer")]));
    assert_eq!(writer.packet()[3], 0);
    let payload = vec![b'x'; 8192];
    writer.send(&publish(5, 2, "queued/first", 1, &payload));
    running.wait_for_log("Error: Unable to write the journal", SOON);
    // What came before it was known is withheld, what comes now is refused; QoS 0 and PINGREQ are served.
    let mut other = Client::connect(running.addr(), 5, "other");
    other.send(&publish(5, 2, "queued/second", 2, &payload));
    other.expect(&[0x40, 3, 0, 2, 0x97]);
    other.send(&subscribe(5, 1, "live", 0));
    other.packet();
    other.send(&publish(5, 0, "live", 0, b"now"));
    other.expect(&publish(5, 0, "live", 0, b"now"));
    other.ping();
    let mut late = Client::open(running.addr());
    late.send(&connect_with(4, 0, 60, &[], &[&string("late")]));
    late.expect(&[0x20, 2, 0, 3]);
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(running.log_text().matches("Error: Unable to write the journal").count(), 1, "once a minute");
    fs::remove_file(&ballast).expect("the ballast");
    running.wait_for_log("The journal could be written again.", SOON);
    writer.expect(&[0x40, 2, 0, 1]);
    writer.send(&publish(5, 2, "queued/third", 3, b"z"));
    assert_eq!(writer.packet()[2..4], [0, 3]);
    let mut reader = resume(&running, "reader-1", true);
    reader.expect(&publish(4, 2, "queued/first", 1, &payload));
    reader.expect(&publish(4, 2, "queued/third", 2, b"z"));
    wait_until("the journal has it", || {
        fs::metadata(inside.join("mosquitto.db.journal")).is_ok_and(|data| data.len() > 8192)
    });
    kill(running);
}

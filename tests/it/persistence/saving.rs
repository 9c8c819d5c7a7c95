//! When and how the database is saved.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{SOON, broker, drain, kill, resume, resume_for, sound, stop, subscribe};
use crate::broker::{Broker, note, program};
use crate::client::{Client, connect_with, publish, string};
use crate::folder::Folder;

/// Sets a retained message.
fn keep(broker: &Broker, topic: &str, payload: &[u8]) {
    let mut client = Client::connect(broker.addr(), 5, "writer");
    client.send(&publish(5, 0x03, topic, 1, payload));
    client.packet();
    client.send(&[0xE0, 0]);
    client.expect_closed();
}

fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn retained_of(folder: &Folder) -> Vec<String> {
    let Ok(file) = fs::read(folder.file()) else { return Vec::new() };
    let db = sound(&file);
    let topic = |id| db.messages.iter().find(|message| message.store_id == id).map(|message| message.topic.to_string());
    db.retained.iter().filter_map(|retained| topic(retained.store_id)).collect()
}

/// The file as it is: every save makes another.
fn identity(folder: &Folder) -> (u64, i64, i64) {
    let metadata: Metadata = fs::metadata(folder.file()).expect("a database");
    (metadata.ino(), metadata.mtime(), metadata.mtime_nsec())
}

#[test]
fn the_first_stop_leaves_a_file_and_one_without_changes_leaves_it_alone() {
    let folder = Folder::new();
    let first = broker(&folder, "");
    assert!(folder.names().is_empty(), "nothing is written before there is a reason");
    let file = stop(first, &folder);
    assert_eq!(sound(&file).config.map(|config| config.shutdown), Some(true));
    let mode = fs::metadata(folder.file()).expect("a database").permissions().mode();
    assert_eq!((mode & 0o777, folder.names()), (0o600, vec!["mosquitto.db".into()]));
    let before = identity(&folder);
    let again = broker(&folder, "");
    let mut clean = Client::connect(again.addr(), 5, "clean");
    clean.send(&publish(5, 0x02, "a", 1, b"not kept"));
    clean.packet();
    let log_start = again.log_mark();
    again.signal("TERM");
    again.wait_for_log_after(log_start, "Nothing has changed since ", SOON);
    stop(again, &folder);
    assert_eq!(identity(&folder), before);
}

#[test]
fn a_signal_saves_and_what_was_saved_survives_a_kill() {
    let folder = Folder::new();
    let running = broker(&folder, "autosave_interval 0\n");
    keep(&running, "kept/a", b"x");
    let mut session = resume(&running, "session", false);
    subscribe(&mut session, "queue", 2, 7);
    session.send(&[0xE0, 0]);
    session.expect_closed();
    let mut client = Client::connect(running.addr(), 5, "other");
    client.send(&publish(5, 0x02, "queue", 1, b"queued"));
    client.packet();
    assert!(folder.names().is_empty());
    running.signal("USR1");
    running.wait_for_log(&format!("Saving in-memory database to {}.", folder.file().display()), SOON);
    wait_until("saved", || retained_of(&folder) == ["kept/a"]);
    assert_eq!(sound(&fs::read(folder.file()).expect("a database")).config.map(|c| c.shutdown), Some(false));
    let before = identity(&folder);
    running.signal("USR1");
    wait_until("saved again, changed or not", || identity(&folder) != before);
    keep(&running, "kept/late", b"x");
    kill(running);
    let again = broker(&folder, "");
    let mut session = resume(&again, "session", true);
    let got = drain(&mut session, 5).0;
    let got: Vec<_> = got.iter().map(|got| (&got.topic[..], &got.payload[..], got.qos, got.sub_id)).collect();
    assert_eq!(got, [("queue", &b"queued"[..], 1, 7)]);
    assert_eq!(retained_of(&folder), ["kept/a"], "what came later is lost, as it is without a journal");
}

#[test]
fn autosave_writes_only_when_something_changed() {
    let folder = Folder::new();
    let running = broker(&folder, "autosave_interval 1\n");
    keep(&running, "kept/a", b"x");
    wait_until("saved by itself", || retained_of(&folder) == ["kept/a"]);
    let before = identity(&folder);
    let mark = running.log_mark();
    running.wait_for_log_after(mark, "Nothing has changed since ", SOON);
    assert_eq!(identity(&folder), before);
    keep(&running, "kept/b", b"x");
    wait_until("saved by itself", || retained_of(&folder) == ["kept/a", "kept/b"]);
    kill(running);
}

#[test]
fn autosave_on_changes_counts_changes() {
    let folder = Folder::new();
    let running = broker(&folder, "autosave_interval 4\nautosave_on_changes true\n");
    for n in 0..3 {
        keep(&running, &format!("kept/{n}"), b"x");
    }
    let mut client = Client::connect(running.addr(), 5, "ping");
    client.ping();
    assert!(folder.names().is_empty(), "three are not enough");
    keep(&running, "kept/3", b"x");
    wait_until("saved", || retained_of(&folder).len() == 4);
    running.write_config(&format!("{}autosave_interval 2\nautosave_on_changes true\n", super::in_folder(&folder)));
    running.signal("HUP");
    running.wait_for_log("Config reloaded.", SOON);
    keep(&running, "kept/4", b"x");
    keep(&running, "kept/5", b"x");
    wait_until("saved", || retained_of(&folder).len() == 6);
    kill(running);
}

#[test]
fn a_reload_does_not_move_the_database() {
    let (folder, other) = (Folder::new(), Folder::new());
    fs::write(other.file(), "precious").expect("a file");
    let running = broker(&folder, "");
    keep(&running, "kept/a", b"x");
    running.write_config(&super::in_folder(&other));
    running.signal("HUP");
    running.wait_for_log("The new value of 'persistence_location' takes effect at the next start.", SOON);
    running.write_config("persistence false\n");
    running.signal("HUP");
    running.wait_for_log("The new value of 'persistence' takes effect at the next start.", SOON);
    stop(running, &folder);
    assert_eq!(retained_of(&folder), ["kept/a"]);
    assert_eq!(fs::read_to_string(other.file()).expect("it"), "precious");
}

#[test]
fn the_environment_says_where_the_database_is() {
    let (folder, other) = (Folder::new(), Folder::new());
    let running = Broker::start_command(&super::in_folder(&other), || {
        let mut command = Command::new(program());
        command.env("MOSQUITTO_PERSISTENCE_LOCATION", &folder.0);
        command
    });
    keep(&running, "kept/a", b"x");
    stop(running, &folder);
    assert_eq!((retained_of(&folder), other.names().len()), (vec!["kept/a".into()], 0));
}

#[test]
fn wills_are_published_before_the_last_save() {
    let folder = Folder::new();
    let running = broker(&folder, "");
    let mut session = resume(&running, "session", false);
    subscribe(&mut session, "will", 1, 0);
    session.send(&[0xE0, 0]);
    session.expect_closed();
    let mut client = Client::open(running.addr());
    // Retained, QoS 1, with a delay of a day.
    let delay = [5, 0x18, 0, 1, 0x51, 0x80];
    client.send(&connect_with(5, 0x2E, 60, &[], &[&string("leaves"), &delay, &string("will"), &string("gone")]));
    assert_eq!(client.packet()[..1], [0x20]);
    stop(running, &folder);
    assert_eq!(retained_of(&folder), ["will"]);
    let again = broker(&folder, "");
    let got = drain(&mut resume(&again, "session", true), 5).0;
    assert_eq!(got.iter().map(|got| (&got.payload[..], got.retain)).collect::<Vec<_>>(), [(&b"gone"[..], false)]);
}

#[test]
fn the_time_of_a_session_goes_on_over_a_restart() {
    let folder = Folder::new();
    let running = broker(&folder, "");
    resume_for(&running, "short", 1, false).send(&[0xE0, 0]);
    resume_for(&running, "long", 1000, false).send(&[0xE0, 0]);
    let mut there = resume_for(&running, "there", 1000, false);
    there.ping();
    running.wait_for_log("Client long ", SOON);
    running.signal("USR1");
    wait_until("saved", || folder.file().exists());
    {
        let file = fs::read(folder.file()).expect("a database");
        let db = sound(&file);
        let time_of = |id| db.clients.iter().find(|client| client.id == id).map(|client| client.session_expiry_time);
        assert!(time_of("long").is_some_and(|time| time > 0));
        // It counts from when the broker is back, however long this client was connected before.
        assert_eq!(time_of("there"), Some(0));
    }
    let file = stop(running, &folder);
    let connected = sound(&file).clients.iter().find(|client| client.id == "there").map(|c| c.session_expiry_time);
    assert!(connected.is_some_and(|time| time > 0), "the end of the broker is the end of the connection");
    std::thread::sleep(Duration::from_millis(1200));
    let again = broker(&folder, "");
    again.wait_for_log("Expiring client short due to timeout.", SOON);
    resume_for(&again, "short", 1, false);
    resume_for(&again, "long", 1000, true);
    resume_for(&again, "there", 1000, true);
}

/// Where a process of another mount namespace has a file.
fn within(broker: &Broker, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root{path}", broker.pid()))
}

#[test]
fn a_full_disk_is_told_once_a_minute_and_the_save_follows_when_there_is_room() {
    let probe = Command::new("unshare").args(["-m", "true"]).status();
    if !probe.is_ok_and(|status| status.success()) {
        note("no mount namespace to be had: a full disk is skipped");
        return;
    }
    let folder = Folder::new();
    let place = folder.0.display().to_string();
    let script = "mount -t tmpfs -o size=256k none \"$DIR\" && exec \"$0\" \"$@\"";
    let running = Broker::start_command(&format!("{}autosave_interval 1\n", super::in_folder(&folder)), || {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script]).arg(program()).env("DIR", &place);
        command
    });
    keep(&running, "kept/small", b"x");
    let file = within(&running, &folder.file().display().to_string());
    wait_until("saved", || file.exists());
    let sound_file = fs::read(&file).expect("a database");
    let failed = "Error saving in-memory database, unable to write ";
    for n in 0..5 {
        keep(&running, &format!("kept/{n}"), &[b'x'; 100_000]);
    }
    running.wait_for_log(&format!("{failed}{}: No space left on device.", folder.file().display()), SOON);
    // The old file is there, nothing else is, and clients are served.
    assert_eq!(fs::read(&file).expect("a database"), sound_file);
    assert!(!within(&running, &format!("{place}/mosquitto.db.new")).exists());
    for n in 0..5 {
        keep(&running, &format!("kept/{n}"), b"x");
    }
    let mut client = Client::connect(running.addr(), 5, "ping");
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(700));
        client.ping();
    }
    assert_eq!(running.log_text().matches(failed).count(), 1, "once a minute: {}", running.log_text());
    // There is room now; an operator need not wait for the minute.
    let mark = running.log_mark();
    running.signal("USR1");
    running.wait_for_log_after(mark, "The database could be saved again.", SOON);
    let after = fs::read(&file).expect("a database");
    assert_eq!(sound(&after).retained.len(), 6);
    kill(running);
}

#[test]
fn a_place_where_nothing_can_be_written_is_told_at_the_start() {
    let folder = Folder::new();
    let gone = folder.0.join("none");
    let running = Broker::start_with(&format!("persistence true\npersistence_location {}/\n", gone.display()));
    running.wait_for_log("Error: The database cannot be saved, unable to write ", SOON);
    let mut running = running;
    running.signal("TERM");
    assert_eq!(running.wait_exit().code(), Some(0));
    running.wait_for_log("Error saving in-memory database, unable to write ", SOON);
}

//! Files that cannot be trusted, and files that cannot be had.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use mosquitto::persist::chunk::Chunk;

use super::{broker, drain, kill, offsets, refused, resume, sound, stop, subscribe};
use crate::broker::{Broker, note, program};
use crate::client::{Client, publish, subscribe as subscribe_packet};
use crate::folder::Folder;

/// A small database of our own: a session with a subscription and a queued message, and two retained messages.
fn small() -> Vec<u8> {
    let folder = Folder::new();
    let broker = broker(&folder, "sys_interval 0\n");
    let mut keeper = resume(&broker, "keeper", false);
    subscribe(&mut keeper, "queued", 1, 0);
    keeper.send(&[0xE0, 0]);
    keeper.expect_closed();
    let mut client = Client::connect(broker.addr(), 5, "writer");
    for (topic, flags) in [("kept/a", 0x03), ("kept/b", 0x03), ("queued", 0x02)] {
        client.send(&publish(5, flags, topic, 1, b"x"));
        client.packet();
    }
    stop(broker, &folder)
}

/// The retained topics that a new client gets.
fn retained(broker: &Broker) -> Vec<String> {
    let mut client = Client::connect(broker.addr(), 5, "probe");
    client.send(&subscribe_packet(5, 3, "kept/#", 1));
    client.packet();
    drain(&mut client, 5).0.into_iter().map(|publish| publish.topic).collect()
}

fn asides(folder: &Folder) -> Vec<String> {
    folder.names().into_iter().filter(|name| name.starts_with("mosquitto.db.damaged-")).collect()
}

#[test]
fn a_damaged_file_is_kept_under_another_name_and_what_is_whole_is_restored() {
    let sound_file = small();
    let chunks = offsets(&sound_file);
    let start_of = |kind: fn(&Chunk<'_>) -> bool| {
        let found = chunks.iter().find(|(_, chunk)| kind(chunk)).expect("such a chunk");
        usize::try_from(found.0).expect("a small file")
    };
    let client = start_of(|chunk| matches!(chunk, Chunk::Client(_)));
    let last = usize::try_from(chunks[chunks.len() - 1].0).expect("a small file");
    let with = |at: usize, byte: u8| {
        let mut file = sound_file.clone();
        file[at] = byte;
        file
    };
    // A name, the file, the retained messages that are left, whether the session is, what the log says.
    type Case = (&'static str, Vec<u8>, &'static [&'static str], bool, &'static str);
    let cases: Vec<Case> = vec![
        ("cut in the last chunk", sound_file[..last + 9].to_vec(), &["kept/a"], true, "ends too early"),
        ("cut in a chunk header", sound_file[..last + 3].to_vec(), &["kept/a"], true, "ends too early"),
        ("a tail of zeros", [&sound_file[..last], &[0; 300]].concat(), &["kept/a"], true, "chunk type 0"),
        ("a header that is cut", sound_file[..17].to_vec(), &[], false, "ends within its header"),
        ("another magic", with(4, b'X'), &[], false, "unrecognised file format"),
        ("a text file", b"listener 1883\nallow_anonymous true\n".to_vec(), &[], false, "unrecognised file format"),
        ("a newer version", with(22, 7), &[], false, "unsupported format version 7"),
        ("version 1", with(22, 1), &[], false, "unsupported format version 1"),
        ("a broken session", with(client + 8 + 15, 200), &["kept/a", "kept/b"], false, "client at byte"),
        (
            "an unknown type behind",
            [&sound_file[..], &[0, 0, 0, 99, 0, 0, 0, 1, 7]].concat(),
            &["kept/a", "kept/b"],
            true,
            "unknown type 99",
        ),
    ];
    for (what, file, topics, session, line) in cases {
        let folder = Folder::new();
        fs::write(folder.file(), &file).expect("a database");
        let running = broker(&folder, "sys_interval 0\n");
        let log = running.log_text();
        assert!(log.contains(line), "{what}: {log}");
        let [aside] = &asides(&folder)[..] else { panic!("{what}: {:?}", folder.names()) };
        assert!(log.contains(&format!("The damaged database was kept as {}", folder.0.join(aside).display())), "{log}");
        assert_eq!(fs::read(folder.0.join(aside)).expect("it"), file, "{what}: not a byte is lost");
        assert_eq!(retained(&running), topics, "{what}");
        let mut keeper = resume(&running, "keeper", session);
        let got = drain(&mut keeper, 5).0;
        assert_eq!(got.len(), usize::from(session), "{what}");
        // What was salvaged is on disk already, and sound.
        kill(running);
        let saved = fs::read(folder.file()).expect("a database");
        assert_eq!(sound(&saved).retained.len(), topics.len(), "{what}");
        // And the next start has nothing to complain of.
        let again = broker(&folder, "sys_interval 0\n");
        assert!(!again.log_text().contains("damaged"), "{what}: {}", again.log_text());
        assert_eq!(retained(&again), topics, "{what}");
        drop(again);
        assert_eq!(asides(&folder).len(), 1, "{what}");
    }
}

#[test]
fn a_strict_broker_does_not_start_with_a_damaged_file() {
    let sound_file = small();
    for file in [&sound_file[..sound_file.len() - 3], b"listener 1883\n", b""] {
        let folder = Folder::new();
        fs::write(folder.file(), file).expect("a database");
        let (log, status) = refused(&folder, "persistence_strict true\n");
        assert_eq!(status, Some(1), "{log}");
        assert!(log.contains("is damaged: ") && log.contains("Error: Couldn't open database."), "{log}");
        assert!(log.contains("'persistence_strict' is true"), "{log}");
        assert_eq!(fs::read(folder.file()).expect("it"), file);
        assert_eq!(folder.names(), ["mosquitto.db"]);
    }
    let folder = Folder::new();
    fs::write(folder.file(), &sound_file).expect("a database");
    assert_eq!(retained(&broker(&folder, "persistence_strict true\n")), ["kept/a", "kept/b"], "a sound one is loaded");
}

#[test]
fn an_empty_file_is_no_file() {
    let folder = Folder::new();
    fs::write(folder.file(), b"").expect("a database");
    let running = broker(&folder, "");
    running.wait_for_log("Warning: Persistence file is empty.", super::SOON);
    sound(&stop(running, &folder));
    assert_eq!(folder.names(), ["mosquitto.db"]);
}

#[test]
fn files_damaged_in_one_second_do_not_replace_each_other() {
    let folder = Folder::new();
    for n in 0..4 {
        fs::write(folder.file(), format!("not a database {n}")).expect("a file");
        drop(broker(&folder, ""));
    }
    let mut kept: Vec<String> =
        asides(&folder).iter().map(|name| fs::read_to_string(folder.0.join(name)).expect("text")).collect();
    kept.sort();
    assert_eq!(kept, (0..4).map(|n| format!("not a database {n}")).collect::<Vec<_>>());
}

#[test]
fn what_cannot_be_read_is_neither_ignored_nor_replaced() {
    let sound_file = small();
    let folder = Folder::new();
    let path = folder.file();
    type Make = fn(&Path, &[u8]);
    let mut cases: Vec<(Make, &str)> = vec![
        (|path, _| fs::create_dir(path).expect("a directory"), "Unable to read the persistent database"),
        (|path, _| symlink("nowhere", path).expect("a link"), "is a symbolic link to nothing"),
        (
            |path, _| {
                assert!(Command::new("mkfifo").arg(path).status().is_ok_and(|status| status.success()));
            },
            "not a regular file",
        ),
    ];
    let root = fs::metadata(&folder.0).expect("a directory").uid() == 0;
    if root {
        // Root may read everything, so the broker becomes somebody else.
        cases.push((
            |path, file| {
                fs::write(path, file).expect("a file");
                fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("a mode");
            },
            "Permission denied",
        ));
    }
    for (make, line) in cases {
        make(&path, &sound_file);
        let before = fs::symlink_metadata(&path).expect("something");
        let user = if line == "Permission denied" { "user nobody\n" } else { "" };
        let (log, status) = refused(&folder, user);
        assert_eq!(status, Some(1), "{log}");
        assert!(log.contains(line) && log.contains("Error: Couldn't open database."), "{log}");
        let after = fs::symlink_metadata(&path).expect("something");
        assert_eq!((after.ino(), after.mtime_nsec()), (before.ino(), before.mtime_nsec()));
        assert_eq!(folder.names(), ["mosquitto.db"]);
        if before.is_dir() { fs::remove_dir(&path) } else { fs::remove_file(&path) }.expect("removed");
    }
}

#[test]
fn a_symbolic_link_is_followed_and_stays() {
    let (folder, elsewhere) = (Folder::new(), Folder::new());
    fs::write(elsewhere.file(), small()).expect("a database");
    symlink(elsewhere.file(), folder.file()).expect("a link");
    let running = broker(&folder, "");
    assert_eq!(retained(&running), ["kept/a", "kept/b"]);
    let mut client = Client::connect(running.addr(), 5, "writer");
    client.send(&publish(5, 0x03, "kept/c", 1, b"x"));
    client.packet();
    stop(running, &folder);
    assert!(fs::symlink_metadata(folder.file()).expect("a link").is_symlink());
    assert_eq!(sound(&fs::read(elsewhere.file()).expect("a database")).retained.len(), 3);
    assert_eq!((folder.names().len(), elsewhere.names().len()), (1, 1));
}

#[test]
fn a_start_that_fails_and_a_test_of_the_configuration_leave_the_file_alone() {
    let folder = Folder::new();
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("an address").port();
    for file in [&small()[..], b"not a database"] {
        fs::write(folder.file(), file).expect("a file");
        let before = fs::metadata(folder.file()).expect("a file");
        let (log, status) = refused(&folder, &format!("listener {port} 127.0.0.1\n"));
        assert_eq!(status, Some(1), "{log}");
        assert!(log.contains("Address already in use"), "{log}");
        let config = folder.0.join("test.conf");
        fs::write(&config, format!("listener 1\n{}", super::in_folder(&folder))).expect("a file");
        let tested = Command::new(program()).arg("--test-config").arg("-c").arg(&config).output().expect("a broker");
        assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stderr));
        fs::remove_file(config).expect("removed");
        let after = fs::metadata(folder.file()).expect("a file");
        assert_eq!((after.ino(), after.mtime_nsec()), (before.ino(), before.mtime_nsec()));
        assert_eq!(fs::read(folder.file()).expect("it"), file);
        assert_eq!(folder.names(), ["mosquitto.db"]);
    }
}

#[test]
fn names_that_leaked_do_not_stay_on_disk() {
    for (name, file, _) in crate::db_files::samples() {
        if !name.starts_with("m2.0.11-v3") {
            continue;
        }
        let folder = Folder::new();
        fs::write(folder.file(), &file).expect("a database");
        let running = broker(&folder, "sys_interval 0\n");
        assert!(running.log_text().contains("defect of its writer"), "{}", running.log_text());
        let saved = stop(running, &folder);
        assert!(saved != file);
        assert!(sound(&saved).clients.iter().all(|client| !client.doubtful));
        assert!(asides(&folder).is_empty(), "nothing was lost");
        return;
    }
    note("no sample with leaked names");
}

//! `acl_file` from the outside: who may publish and read what, and what a reload or another user changes.

mod debian;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crate::broker::{Broker, free_port};
use crate::client::{Client, connect_with, hex, publish, string, subscribe};

/// How long a reload may take on a busy machine.
const PATIENT: Duration = Duration::from_secs(10);

/// An ACL file in a place of its own.
struct Rules {
    dir: PathBuf,
}

impl Rules {
    fn new(text: &str) -> Rules {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("mosquitto-acl-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).expect("a temporary directory");
        let rules = Rules { dir };
        rules.write(text);
        rules
    }

    fn path(&self) -> PathBuf {
        self.dir.join("acl")
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).expect("an ACL file");
    }

    /// The line of the configuration.
    fn line(&self) -> String {
        format!("acl_file {}\n", self.path().display())
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn start(text: &str) -> (Broker, Rules) {
    let rules = Rules::new(text);
    (Broker::start_with(&rules.line()), rules)
}

fn reload(broker: &Broker, rules: &Rules, text: &str) {
    rules.write(text);
    let mark = broker.log_mark();
    broker.signal("HUP");
    broker.wait_for_log_after(mark, "Config reloaded.", PATIENT);
}

/// A client with this user name, or none. A session that lasts when `lasting`.
fn enter(addr: std::net::SocketAddr, version: u8, id: &str, user: &str, lasting: bool) -> Client {
    let flags = if lasting { 0 } else { 0x02 } | if user.is_empty() { 0 } else { 0x80 };
    let props: &[u8] = if version == 5 && lasting { &[0x11, 0xFF, 0xFF, 0xFF, 0xFF] } else { &[] };
    let name = if user.is_empty() { Vec::new() } else { string(user) };
    let mut client = Client::open(addr);
    client.set_limit(PATIENT);
    client.send(&connect_with(version, flags, 60, props, &[&string(id), &name]));
    let ack = client.packet();
    assert_eq!((ack[0], ack[3]), (0x20, 0), "{}", hex(&ack));
    client
}

fn login(broker: &Broker, version: u8, id: &str, user: &str) -> Client {
    enter(broker.addr(), version, id, user, false)
}

/// Subscribes with QoS 1 and expects that it is granted, as always.
fn listen(client: &mut Client, version: u8, filter: &str) {
    client.send(&subscribe(version, 9, filter, 1));
    let mut ack = vec![0x90, 3, 0, 9, 1];
    if version == 5 {
        ack = vec![0x90, 4, 0, 9, 0, 1];
    }
    client.expect(&ack);
}

/// The reason code of a QoS 1 PUBLISH from a client of version 5; nobody must be listening on this connection.
fn code_of(client: &mut Client, topic: &str) -> u8 {
    client.send(&publish(5, 0x02, topic, 7, b"x"));
    let ack = client.packet();
    assert_eq!((ack[0], &ack[2..4]), (0x40, &[0, 7][..]), "{}", hex(&ack));
    ack.get(4).copied().unwrap_or(0)
}

/// Topic and first byte of everything that comes until the answer to a PINGREQ, acknowledged.
fn drain(client: &mut Client) -> Vec<(String, u8)> {
    client.send(&[0xC0, 0]);
    let mut got = Vec::new();
    loop {
        let packet = client.packet();
        if packet[0] >> 4 != 3 {
            assert_eq!(packet, [0xD0, 0], "{}", hex(&packet));
            return got;
        }
        let start = 1 + packet[1..].iter().position(|byte| byte & 0x80 == 0).expect("a length") + 1;
        let len = usize::from(u16::from_be_bytes([packet[start], packet[start + 1]]));
        let end = start + 2 + len;
        got.push((String::from_utf8(packet[start + 2..end].to_vec()).expect("UTF-8"), packet[0]));
        if packet[0] & 0x06 == 0x02 {
            client.send(&[0x40, 2, packet[end], packet[end + 1]]);
        }
    }
}

fn topics(client: &mut Client) -> Vec<String> {
    drain(client).into_iter().map(|(topic, _)| topic).collect()
}

/// Everybody reads and writes `all/#` and `admin` everything.
const ADMIN: &str = "user admin\ntopic #\ntopic $SYS/#\ntopic $x/#\ntopic $CONTROL/#\n";

/// User, client id, topic; may read, may write.
type Check = (&'static str, &'static str, &'static str, bool, bool);

#[test]
fn every_rule_of_the_evaluation_holds_over_the_wire() {
    let first = "topic read news/#\ntopic write in\ntopic a b\n";
    let own = "topic all\nuser ann\ntopic read r\ntopic write w\ntopic rw\ntopic deny s/secret\ntopic s/#\ntopic deny d/#\n\
               topic d/open\nuser ann smith\ntopic readwrite x y/z\nuser ann\ntopic late\n";
    let patterns = "pattern read c/%c\npattern write u/%u/#\npattern deny u/%u/no\npattern q%u/x\nuser ann\ntopic u/ann/no\n\
                    topic deny c/id\ntopic w/1\n";
    let dollar = "topic #\ntopic +/x\nuser ann\ntopic $SYS/#\ntopic $x/a\n";
    let cases: &[(&str, &[Check])] = &[
        (
            &first.replace("topic a b\n", "topic readwrite a b\n"),
            &[
                ("", "id", "news/1", true, false),
                ("", "id", "news", true, false),
                ("", "id", "in", false, true),
                ("", "id", "a b", true, true),
                ("", "id", "else", false, false),
                // Rules before the first user are not for those who have a name.
                ("ann", "id", "news/1", false, false),
            ],
        ),
        (
            own,
            &[
                ("", "id", "all", true, true),
                ("", "id", "r", false, false),
                ("ann", "id", "all", false, false),
                ("ann", "id", "r", true, false),
                ("ann", "id", "w", false, true),
                ("ann", "id", "rw", true, true),
                ("ann", "id", "s", true, true),
                ("ann", "id", "s/1", true, true),
                ("ann", "id", "s/secret", false, false),
                ("ann", "id", "d/open", false, false),
                ("ann", "id", "late", true, true),
                ("ann smith", "id", "x y/z", true, true),
                ("ann smith", "id", "rw", false, false),
                ("bob", "id", "rw", false, false),
            ],
        ),
        (
            patterns,
            &[
                ("", "me", "c/me", true, false),
                ("", "me", "c/id", false, false),
                ("bob", "id", "c/id", true, false),
                ("ann", "id", "c/id", false, false),
                ("bob", "id", "u/bob", false, true),
                ("bob", "id", "u/bob/x/y", false, true),
                ("bob", "id", "u/bob/no", false, false),
                ("ann", "id", "u/ann/no", true, true),
                ("", "me", "u/me", false, false),
                ("bob", "id", "qbob/x", false, false),
                ("bob", "id", "q%u/x", true, true),
                // No value has a slash, as that would reach other levels.
                ("b/b", "id", "u/b/b", false, false),
                // Values with wildcards are refused, but the user's own rules come before.
                ("ann", "i+", "c/i", false, false),
                ("ann", "i#", "w/1", true, true),
                ("a+", "id", "q%u/x", false, false),
            ],
        ),
        (
            dollar,
            &[
                ("", "id", "a", true, true),
                ("", "id", "$x/a", false, false),
                ("", "id", "$x/x", false, false),
                ("ann", "id", "$x/a", true, true),
                ("ann", "id", "$x/b", false, false),
                ("ann", "id", "$SYS/broker/connection/b/state", true, true),
                ("", "id", "$SYS/broker/connection/b/state", false, false),
            ],
        ),
        ("", &[("", "id", "a", false, false), ("ann", "id", "a", false, false)]),
    ];
    let (broker, rules) = start("");
    let mut admin = login(&broker, 5, "admin", "admin");
    for (text, checks) in cases {
        reload(&broker, &rules, &format!("{text}{ADMIN}"));
        for (user, id, topic, read, write) in *checks {
            let who = format!("{user:?} {id:?} {topic:?} under\n{text}");
            let mut client = login(&broker, 5, id, user);
            assert_eq!(code_of(&mut client, topic) == 0x87, !write, "writes: {who}");
            listen(&mut client, 5, topic);
            assert_ne!(code_of(&mut admin, topic), 0x87);
            assert_eq!(!topics(&mut client).is_empty(), *read, "reads: {who}");
        }
    }
}

#[test]
fn a_refusal_is_told_to_version_5_and_drops_the_message_for_all() {
    let (broker, _rules) = start("topic read #\n");
    let mut witness = login(&broker, 5, "w", "");
    listen(&mut witness, 5, "#");
    for version in [3, 4, 5] {
        let mut client = login(&broker, version, "c", "");
        client.send(&publish(version, 0x00, "t", 0, b"x"));
        client.ping();
        client.send(&publish(version, 0x03, "t", 1, b"x"));
        client.expect(if version == 5 { &[0x40, 3, 0, 1, 0x87] } else { &[0x40, 2, 0, 1] });
        client.send(&publish(version, 0x04, "t", 2, b"x"));
        client.expect(if version == 5 { &[0x50, 3, 0, 2, 0x87] } else { &[0x50, 2, 0, 2] });
        if version != 5 {
            client.send(&[0x62, 2, 0, 2]);
            client.expect(&[0x70, 2, 0, 2]);
        }
        listen(&mut client, version, "t");
        client.ping();
        // A will that may not be published comes to nothing.
        let props: &[u8] = if version == 5 { &[0] } else { &[] };
        let mut mortal = Client::open(broker.addr());
        mortal.send(&connect_with(version, 0x06, 60, &[], &[&string("m"), props, &string("t"), &string("gone")]));
        assert_eq!(mortal.packet()[3], 0);
        mortal.ping();
    }
    witness.ping();
    broker.wait_for_log("Denied PUBLISH from c (d0, q1, r1, m1, 't', ... (1 bytes))", PATIENT);
    broker.wait_for_log("Client c may not write 't' by ", PATIENT);
}

#[test]
fn rules_see_the_mount_point_and_topics_of_the_broker_need_rules_of_their_own() {
    let rules = Rules::new("topic m/in\ntopic #\n");
    let broker =
        Broker::start_with(&format!("mount_point m/\nsys_interval 1\nenable_control_api true\n{}", rules.line()));
    let mut client = login(&broker, 5, "c", "");
    reload(&broker, &rules, "topic m/in\n");
    assert_eq!((code_of(&mut client, "in"), code_of(&mut client, "m/in")), (0x10, 0x87));
    listen(&mut client, 5, "#");
    assert_eq!(code_of(&mut login(&broker, 5, "d", ""), "in"), 0);
    assert_eq!(topics(&mut client), ["in"]);

    let (broker, rules) = start("topic #\n");
    let mut client = login(&broker, 5, "c", "");
    assert_eq!(code_of(&mut client, "$CONTROL/broker/v1"), 0x87);
    listen(&mut client, 5, "$SYS/broker/version");
    assert!(topics(&mut client).is_empty());
    reload(&broker, &rules, "topic read $SYS/broker/version\ntopic write $CONTROL/broker/v1\n");
    assert_eq!(code_of(&mut client, "$CONTROL/broker/v1"), 0);
    listen(&mut client, 5, "$SYS/broker/version");
    assert_eq!(topics(&mut client).len(), usize::from(cfg!(feature = "sys-tree")));
}

#[test]
fn a_client_behind_a_mount_point_sees_nothing_beside_it() {
    let port = free_port();
    let broker = Broker::start_with(&format!("listener {port} 127.0.0.1\nmount_point m/"));
    let behind = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let mut plain = login(&broker, 5, "plain", "");
    for version in [4, 5] {
        let mut tenant = enter(behind, version, "tenant", "", false);
        listen(&mut tenant, version, "#");
        // The last but one would be an empty topic, the one before is the parent of what was subscribed to.
        for topic in ["m/x", "m", "m/", "x"] {
            code_of(&mut plain, topic);
        }
        assert_eq!(topics(&mut tenant), ["x"]);

        // A session that began elsewhere, whoever has it now.
        let mut owner = enter(broker.addr(), version, "owner", "", true);
        listen(&mut owner, version, "secret/#");
        owner.send(&[0xE0, 0]);
        owner.expect_closed();
        assert_eq!(code_of(&mut plain, "secret/queued"), 0);
        let mut thief = enter(behind, version, "owner", "", true);
        assert_eq!(code_of(&mut plain, "secret/live"), 0);
        assert!(topics(&mut thief).is_empty());
        let mut owner = enter(broker.addr(), version, "owner", "", true);
        assert_eq!(code_of(&mut plain, "secret/later"), 0);
        assert_eq!(topics(&mut owner), ["secret/later"]);
    }
}

#[test]
fn new_rules_hold_from_the_line_in_the_log_on() {
    let open = format!("topic read t/#\npattern write t/%c\n{ADMIN}");
    let shut = format!("topic read t/1\npattern write t/%c\n{ADMIN}");
    let (broker, rules) = start(&open);
    let mut reader = login(&broker, 5, "r", "");
    listen(&mut reader, 5, "#");
    listen(&mut reader, 5, "t/+");
    let stop = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicU32::new(0));
    let talker = {
        let (mut admin, stop, count) = (login(&broker, 5, "admin", "admin"), Arc::clone(&stop), Arc::clone(&count));
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                // The number is out before anything with it is sent.
                let number = count.fetch_add(1, Ordering::SeqCst).to_be_bytes();
                for topic in ["t/1", "t/2"] {
                    admin.send(&publish(5, 0x02, topic, 7, &number));
                    assert_eq!(admin.packet()[0], 0x40);
                }
            }
        })
    };
    for (round, text) in [&shut, &open, &shut, &open, &shut].into_iter().enumerate() {
        reload(&broker, &rules, text);
        let from = count.load(Ordering::SeqCst);
        let mut seen = [0; 2];
        while seen[0] < 20 {
            let packet = reader.packet();
            assert_eq!(packet[0] >> 4, 3, "{}", hex(&packet));
            let id = &packet[7..9];
            if packet[0] & 0x06 != 0 {
                reader.send(&[0x40, 2, id[0], id[1]]);
            }
            let number = u32::from_be_bytes(packet[packet.len() - 4..].try_into().expect("4 bytes"));
            if number >= from {
                seen[usize::from(packet[6] - b'1')] += 1;
            }
        }
        assert_eq!(seen[1] != 0, round % 2 == 1, "round {round}: {seen:?}");
    }
    stop.store(true, Ordering::Relaxed);
    talker.join().expect("the talker");
}

#[test]
fn a_bad_file_changes_nothing_and_ends_a_start() {
    let (broker, rules) = start("topic a\n");
    let mut client = login(&broker, 5, "c", "");
    let mark = broker.log_mark();
    rules.write("topic b\nno rule\n");
    broker.signal("HUP");
    broker.wait_for_log_after(mark, "The configuration was not reloaded", PATIENT);
    let log = broker.log_after(mark);
    let place = format!("Error found at {}:2.", rules.path().display());
    assert!(log.contains("Error: Invalid line in acl_file") && log.contains(&place), "{log}");
    assert_eq!((code_of(&mut client, "a"), code_of(&mut client, "b")), (0x10, 0x87));
    let config = rules.dir.join("mosquitto.conf");
    fs::write(&config, format!("listener {} 127.0.0.1\n{}", free_port(), rules.line())).expect("a config file");
    for (file, status) in [(true, 3), (false, 13)] {
        if !file {
            fs::remove_file(rules.path()).expect("it was there");
        }
        let output = Command::new(crate::broker::program()).arg("-c").arg(&config).output().expect("the broker");
        assert_eq!(output.status.code(), Some(status), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn another_user_of_a_client_id_gets_only_what_it_may_read() {
    let (broker, _rules) = start(&format!("user ann\ntopic #\nuser bob\ntopic read b/#\ntopic write b/#\n{ADMIN}"));
    let mut admin = login(&broker, 5, "admin", "admin");
    for version in [4, 5] {
        for away in [true, false] {
            let mut ann = enter(broker.addr(), version, "shared", "ann", true);
            listen(&mut ann, version, "#");
            // A QoS 2 message that waits for PUBREL, and one in flight that is not acknowledged.
            ann.send(&publish(version, 0x04, "a/two", 5, b"x"));
            ann.expect(&[0x50, 2, 0, 5]);
            for topic in ["a/sent", "b/sent"] {
                assert_eq!(code_of(&mut admin, topic), 0);
                assert_eq!(ann.packet()[0], 0x32);
            }
            if away {
                let mark = broker.log_mark();
                drop(ann);
                broker.wait_for_log_after(mark, "Client shared [", PATIENT);
                for topic in ["a/queued", "b/queued"] {
                    assert_ne!(code_of(&mut admin, topic), 0x87);
                }
            }
            let mut bob = enter(broker.addr(), version, "shared", "bob", true);
            let got = drain(&mut bob);
            let expected: &[&str] = if away { &["b/sent", "b/queued"] } else { &["b/sent"] };
            assert_eq!(got.iter().map(|(topic, _)| topic).collect::<Vec<_>>(), expected, "v{version} {away}");
            bob.send(&[0x62, 2, 0, 5]);
            bob.expect(&[0x70, 2, 0, 5]);
            assert_eq!(code_of(&mut admin, "a/live"), 0, "the subscription is still there");
            assert!(drain(&mut bob).is_empty());
            // The session ends with the next clean start.
            drop(bob);
            login(&broker, version, "shared", "ann").ping();
        }
    }
}

#[test]
fn retained_messages_go_with_the_right_of_their_publisher_if_asked() {
    for check in [true, false] {
        let rules = Rules::new("");
        let broker = Broker::start_with(&format!("check_retain_source {check}\n{}", rules.line()));
        let before = format!("user ann\ntopic #\nuser bob\ntopic #\nuser eve\ntopic read #\n{ADMIN}");
        reload(&broker, &rules, &before);
        for user in ["ann", "bob"] {
            let mut client = login(&broker, 5, user, user);
            client.send(&publish(5, 0x03, &format!("t/{user}"), 1, b"x"));
            assert_eq!(client.packet(), [0x40, 3, 0, 1, 0x10]);
        }
        let mut eve = login(&broker, 5, "eve", "eve");
        listen(&mut eve, 5, "t/#");
        assert_eq!(topics(&mut eve), ["t/ann", "t/bob"]);
        reload(&broker, &rules, &before.replace("user bob\ntopic #\n", "user bob\ntopic read #\n"));
        listen(&mut eve, 5, "t/#");
        let expected: &[&str] = if check { &["t/ann"] } else { &["t/ann", "t/bob"] };
        assert_eq!(topics(&mut eve), expected);
        listen(&mut eve, 5, "$SYS/broker/version");
        assert!(topics(&mut eve).is_empty(), "no rule of hers");
    }
}

#[test]
fn each_listener_has_its_own_rules_and_clients_follow_it() {
    let (rules, other) = (Rules::new("topic one\n"), Rules::new("topic two\n"));
    let broker = Broker::start_with("");
    let (first, second) = (broker.port(), free_port());
    let write = |text: &str| {
        fs::write(broker.dir().join("mosquitto.conf"), format!("log_type all\n{text}")).expect("a config file");
        let mark = broker.log_mark();
        broker.signal("HUP");
        broker.wait_for_log_after(mark, "Config reloaded.", PATIENT);
    };
    let each = |rules: [&str; 2]| {
        let listener = |port, line| format!("listener {port} 127.0.0.1\nallow_anonymous true\n{line}");
        format!("per_listener_settings true\n{}{}", listener(first, rules[0]), listener(second, rules[1]))
    };
    write(&each([&rules.line(), ""]));
    let mut a = login(&broker, 5, "a", "");
    let mut b = enter(([127, 0, 0, 1], second).into(), 5, "b", "", false);
    let mut codes =
        || [&mut a, &mut b].map(|client| ["one", "two", "three"].map(|topic| code_of(client, topic) != 0x87));
    assert_eq!(codes(), [[true, false, false], [true; 3]]);
    write(&each([&other.line(), &rules.line()]));
    assert_eq!(codes(), [[false, true, false], [true, false, false]]);
    // The same rules for all.
    let all =
        format!("listener {first} 127.0.0.1\nlistener {second} 127.0.0.1\nallow_anonymous true\n{}", other.line());
    write(&all);
    assert_eq!(codes(), [[false, true, false]; 2]);
    write(&each(["", &other.line()]));
    assert_eq!(codes(), [[true; 3], [false, true, false]]);
}

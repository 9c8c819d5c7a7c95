//! User names and passwords against the running broker: every kind of hash, what the log says, SIGHUP, and a storm.

use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use mosquitto::broker::auth::password::{Hash, Scheme};

use crate::broker::{Broker, free_port, note};
use crate::client::{Client, connect_with, hex, publish, string, subscribe};

const PATIENT: Duration = Duration::from_secs(20);

/// A password file of a test; gone with it.
pub(crate) struct File(PathBuf);

impl File {
    pub(crate) fn new(text: &str) -> File {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let file = File(std::env::temp_dir().join(format!("mosquitto-login-{}-{number}", std::process::id())));
        file.write(text);
        file
    }

    pub(crate) fn write(&self, text: &str) {
        fs::write(&self.0, text).expect("a password file");
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The lines of a configuration that asks for these passwords.
    fn lines(&self) -> String {
        format!("allow_anonymous false\npassword_file {}\n", self.0.display())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A line of a password file.
fn line(user: &str, scheme: Scheme, salt: u8, password: &str) -> String {
    let hash = Hash::new(scheme, &[salt; 12], password.as_bytes()).expect("a hash");
    format!("{user}:{hash}\n")
}

fn pbkdf2(iterations: u32) -> Scheme {
    Scheme::Pbkdf2(NonZeroU32::new(iterations).expect("some"))
}

/// CONNECT with a user name and perhaps a password.
pub(crate) fn connect_as(version: u8, client_id: &str, user: &str, password: Option<&str>) -> Vec<u8> {
    let flags = if password.is_some() { 0xC2 } else { 0x82 };
    let password = password.map(string).unwrap_or_default();
    connect_with(version, flags, 60, &[], &[&string(client_id), &string(user), &password])
}

/// A client that has sent its CONNECT.
fn knock(addr: SocketAddr, version: u8, client_id: &str, user: &str, password: Option<&str>) -> Client {
    let mut client = Client::open(addr);
    client.set_limit(PATIENT);
    client.send(&connect_as(version, client_id, user, password));
    client
}

/// The code it is answered with.
fn code(client: &mut Client) -> u8 {
    let connack = client.packet();
    assert_eq!(connack[0], 0x20, "{}", hex(&connack));
    connack[3]
}

#[test]
fn real_files_let_in_whom_they_name() {
    let dir = Path::new("/work/shared/conformance/password-files");
    let Ok(text) = fs::read_to_string(dir.join("passwords.json")) else {
        return note(&format!("real password files skipped: no {}", dir.display()));
    };
    let passwords: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    for (name, users) in passwords.as_object().expect("files") {
        let text = fs::read_to_string(dir.join(name)).expect("a password file");
        let built = |line: &&str| cfg!(feature = "argon2") || !line.contains("$argon2id$");
        let file = File::new(&text.lines().filter(built).map(|line| format!("{line}\n")).collect::<String>());
        let broker = Broker::start_with(&file.lines());
        let mut seen = 0;
        for (user, password) in users.as_object().expect("users") {
            let password = password.as_str().expect("a password");
            // An empty one never opens.
            let there = text.lines().filter(built).any(|line| line.starts_with(&format!("{user}:")));
            let (v3, v5) = if there && !password.is_empty() { (0, 0) } else { (5, 0x87) };
            // Without optimisation that hash takes seconds.
            let slow = text.contains(&format!("{user}:$argon2id$"));
            for (version, wanted) in [(4, v3), (3, v3), (5, v5)].into_iter().take(if slow { 1 } else { 3 }) {
                let got = code(&mut knock(broker.addr(), version, "c", user, Some(password)));
                assert_eq!(got, wanted, "{name}: {user} {version}");
            }
            for wrong in [Some(""), None, Some("wrong")].into_iter().take(if slow { 2 } else { 3 }) {
                assert_eq!(code(&mut knock(broker.addr(), 4, "c", user, wrong)), 5, "{name}: {user} {wrong:?}");
            }
            seen += usize::from(v3 == 0);
        }
        assert!(seen >= 4, "{name}");
        let log = broker.log_text();
        for (_, password) in users.as_object().expect("users") {
            let password = password.as_str().unwrap_or_default();
            assert!(password.len() < 6 || !log.contains(password), "a password is in the log");
        }
    }
}

#[cfg(not(feature = "argon2"))]
#[test]
fn without_argon2_such_a_hash_is_refused_by_name() {
    use std::process::Command;
    let file = File::new("erin:$argon2id$v=19$m=47104,t=1,p=1$c2FsdHNhbHRzYWx0$c2FsdHNhbHRzYWx0\n");
    let config = File::new(&format!("listener 1883\n{}", file.lines()));
    let output = Command::new(crate::broker::program()).arg("-c").arg(config.path()).output().expect("the broker");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("feature argon2"), "{said}");
}

#[test]
fn a_refused_login_has_its_lines_in_the_log() {
    let file = File::new(&line("joe", pbkdf2(101), 1, "Xyzzy secret"));
    let broker = Broker::start_with(&file.lines());
    for (user, password, why) in [
        ("joe", Some("Xyzzy wrong"), "wrong password"),
        ("joe", None, "no password"),
        ("jane", Some("Xyzzy secret"), "unknown user"),
    ] {
        let mark = broker.log_mark();
        let mut client = knock(broker.addr(), 4, "c 1", user, password);
        assert_eq!(code(&mut client), 5);
        client.expect_closed();
        let port = client.local_port();
        let known = format!("Client c 1 [127.0.0.1:{port}] disconnected: not authorised.");
        broker.wait_for_log_after(mark, &known, PATIENT);
        let line = format!("Login refused: client 'c 1', user '{user}', from 127.0.0.1 port {port}: {why}.");
        let log = broker.log_after(mark);
        assert_eq!(log.matches(&line).count(), 1, "{log}");
    }
    let mark = broker.log_mark();
    Client::open(broker.addr()).send(&crate::client::connect(4, "nameless"));
    broker.wait_for_log_after(mark, "] disconnected: not authorised.", PATIENT);
    assert!(!broker.log_after(mark).contains("Login refused"), "that is no guess");
    assert!(!broker.log_text().contains("Xyzzy"), "{}", broker.log_text());
}

#[test]
fn cheap_hashes_are_told_once() {
    let file = File::new(&line("joe", pbkdf2(1), 1, "pw"));
    let broker = Broker::start_with(&file.lines());
    for _ in 0..2 {
        assert_eq!(code(&mut knock(broker.addr(), 4, "c", "joe", Some("pw"))), 0);
    }
    assert_eq!(broker.log_text().matches("Hashes made by mosquitto_passwd -I ").count(), 1);
}

#[test]
fn what_follows_connect_is_handled_after_it() {
    let file = File::new(&line("joe", pbkdf2(20_000), 1, "x"));
    let broker = Broker::start_with(&file.lines());
    let mut reader = knock(broker.addr(), 4, "reader", "joe", Some("x"));
    reader.send(&subscribe(4, 1, "t", 0));
    reader.expect(&[0x20, 2, 0, 0, 0x90, 3, 0, 1, 0]);
    // All at once, and gone.
    let mut writer = Client::open(broker.addr());
    let packets =
        [&connect_as(4, "writer", "joe", Some("x"))[..], &publish(4, 0, "t", 0, &[7; 100_000]), &[0xE0, 0]].concat();
    writer.send(&packets);
    drop(writer);
    assert_eq!(reader.packet(), publish(4, 0, "t", 0, &[7; 100_000]));
    // A wrong one does nothing.
    let mut liar = Client::open(broker.addr());
    liar.send(&[&connect_as(4, "liar", "joe", Some("y"))[..], &publish(4, 0, "t", 0, b"lie")].concat());
    liar.expect(&[0x20, 2, 0, 5]);
    liar.expect_closed();
    reader.ping();
}

#[test]
fn one_session_and_two_logins_at_once() {
    let file = File::new(&line("joe", pbkdf2(20_000), 1, "x"));
    let broker = Broker::start_with(&file.lines());
    let mut first = knock(broker.addr(), 5, "same", "joe", Some("x"));
    let mut second = knock(broker.addr(), 5, "same", "joe", Some("x"));
    assert_eq!((code(&mut first), code(&mut second)), (0, 0));
    first.expect(&[0xE0, 1, 0x8E]);
    first.expect_closed();
    second.ping();
    broker.wait_for_log("Sending PINGRESP to same", PATIENT);
    let log = broker.log_text();
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("no {text}:\n{log}"));
    assert!(at("disconnected: session taken over.") < log.rfind("as same (p5").expect("the second"), "{log}");
}

#[test]
fn a_reload_closes_those_whose_password_is_gone_or_another() {
    let (joe, jane, jim) =
        (line("joe", Scheme::Sha512, 1, "a"), line("jane", pbkdf2(101), 2, "b"), line("jim", Scheme::Sha512, 3, "c"));
    let file = File::new(&format!("{joe}{jane}{jim}"));
    let broker = Broker::start_with(&file.lines());
    let addr = broker.addr();
    let mut watcher = knock(addr, 4, "watcher", "jim", Some("c"));
    watcher.expect(&[0x20, 2, 0, 0]);
    watcher.send(&subscribe(4, 1, "will", 0));
    watcher.expect(&[0x90, 3, 0, 1, 0]);
    let will = |id: &str, user: &str, password: &str| {
        let mut client = Client::open(addr);
        let parts = [&string(id)[..], &string("will"), &string("gone"), &string(user), &string(password)];
        client.send(&connect_with(4, 0xC6, 60, &[], &parts));
        client.expect(&[0x20, 2, 0, 0]);
        client
    };
    let (mut joes, mut janes) = (will("joes", "joe", "a"), will("janes", "jane", "b"));
    let hup = |done: &str| {
        let mark = broker.log_mark();
        broker.signal("HUP");
        broker.wait_for_log_after(mark, done, PATIENT);
        broker.log_after(mark)
    };

    // The same again, in another order and beside another user.
    file.write(&format!("# new\n{jim}{jane}{}{joe}", line("new", Scheme::Sha512, 9, "n")));
    hup("Config reloaded.");
    joes.ping();
    janes.ping();
    assert_eq!(code(&mut knock(addr, 4, "new", "new", Some("n"))), 0);

    // A file with a mistake changes nothing.
    file.write(&format!("{joe}broken:plain\n"));
    let said = hup("was not reloaded");
    assert!(said.contains(&format!("{}:2.", file.path().display())), "{said}");
    janes.ping();
    assert_eq!(code(&mut knock(addr, 4, "x", "jane", Some("b"))), 0);

    // Jane is gone, and Joe's password is another; the wills stay unpublished.
    file.write(&format!("{jim}{}", line("joe", Scheme::Sha512, 4, "other")));
    let said = hup("Config reloaded.");
    assert!(said.contains("Disconnecting clients that are no longer allowed: 2."), "{said}");
    joes.expect_closed();
    janes.expect_closed();
    assert_eq!(code(&mut knock(addr, 4, "joes", "joe", Some("a"))), 5);
    assert_eq!(code(&mut knock(addr, 4, "joes", "joe", Some("other"))), 0);
    assert_eq!(code(&mut knock(addr, 4, "janes", "jane", Some("b"))), 5);
    watcher.ping();
}

#[test]
fn each_listener_has_its_own_passwords() {
    let (joe, jane) = (line("joe", Scheme::Sha512, 1, "a"), line("jane", pbkdf2(101), 2, "b"));
    let (first, second, third) = (File::new(&joe), File::new(&jane), File::new(&format!("{joe}{jane}")));
    let broker = Broker::start();
    let ports = [broker.port(), free_port(), free_port()];
    let [one, two, open] = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let config = |second: &File| {
        let (first, second) = (first.path().display(), second.path().display());
        let text = format!(
            "per_listener_settings true\nlog_type all\nlistener {} 127.0.0.1\npassword_file {first}\n\
             listener {} 127.0.0.1\npassword_file {second}\nallow_anonymous true\n\
             listener {} 127.0.0.1\nallow_anonymous true\n",
            ports[0], ports[1], ports[2]
        );
        fs::write(broker.dir().join("mosquitto.conf"), text).expect("a configuration");
        let mark = broker.log_mark();
        broker.signal("HUP");
        broker.wait_for_log_after(mark, "Config reloaded.", PATIENT);
    };
    config(&second);
    for (addr, user, password, wanted) in [
        (one, "joe", "a", 0),
        (one, "jane", "b", 5),
        (two, "joe", "a", 5),
        (two, "jane", "b", 0),
        (two, "", "b", 0),
        (one, "", "a", 5),
        (open, "joe", "wrong", 0),
        (open, "", "", 0),
    ] {
        assert_eq!(code(&mut knock(addr, 4, "c", user, Some(password))), wanted, "{addr} {user}");
    }
    let (mut joe, mut jane) = (knock(one, 4, "joe", "joe", Some("a")), knock(two, 4, "jane", "jane", Some("b")));
    assert_eq!((code(&mut joe), code(&mut jane)), (0, 0));
    // Another file with the same line lets her stay; one without does not.
    config(&third);
    jane.ping();
    assert_eq!(code(&mut knock(two, 4, "c", "joe", Some("a"))), 0);
    config(&first);
    jane.expect_closed();
    joe.ping();
}

/// Pings until `done`, and counts.
fn ping_until(client: &mut Client, done: &AtomicBool) -> u32 {
    let mut count = 0;
    while !done.load(Ordering::Acquire) {
        client.ping();
        count += 1;
    }
    count
}

#[test]
fn a_storm_of_wrong_logins_does_not_stop_the_others() {
    const STORM: usize = 200;
    let file = File::new(&line("joe", pbkdf2(5000), 1, "x"));
    let broker = Broker::start_with(&file.lines());
    let mut calm = knock(broker.addr(), 4, "calm", "joe", Some("x"));
    calm.expect(&[0x20, 2, 0, 0]);
    calm.set_limit(PATIENT);
    let storm: Vec<Client> = (0..STORM)
        .map(|i| knock(broker.addr(), 4, &format!("s{i}"), ["joe", "nobody"][i % 2], Some("wrong")))
        .collect();
    let done = Arc::new(AtomicBool::new(false));
    let answers = thread::spawn({
        let done = Arc::clone(&done);
        move || {
            let refused = storm.into_iter().filter_map(|mut client| (code(&mut client) == 5).then_some(())).count();
            done.store(true, Ordering::Release);
            refused
        }
    });
    let pings = ping_until(&mut calm, &done);
    assert_eq!(answers.join().expect("the storm"), STORM);
    // Compared by the loop, the logins of one turn would all be done before the next ping.
    assert!(pings >= 100, "{pings} pings in {STORM} logins");
}

#[test]
fn more_logins_than_the_worker_takes_are_told_that_it_is_busy() {
    // Seconds for each.
    let file =
        File::new(&format!("{}{}", line("slow", pbkdf2(1_000_000), 1, "x"), line("fast", Scheme::Sha512, 1, "x")));
    let broker = Broker::start_with(&file.lines());
    let mut calm = knock(broker.addr(), 4, "calm", "fast", Some("x"));
    calm.expect(&[0x20, 2, 0, 0]);
    let mut storm: Vec<Client> = (0..300)
        .map(|i| knock(broker.addr(), if i % 2 == 0 { 4 } else { 5 }, &format!("s{i}"), "slow", Some("wrong")))
        .collect();
    for (i, client) in storm.iter_mut().enumerate().skip(290) {
        assert_eq!(code(client), if i % 2 == 0 { 3 } else { 0x89 });
        client.expect_closed();
    }
    broker.wait_for_log("Client s299 [127.0.0.1", PATIENT);
    assert!(broker.log_text().contains("disconnected: server busy."));
    calm.ping();
    drop(storm);
    calm.ping();
    assert_eq!(code(&mut knock(broker.addr(), 4, "more", "fast", Some("x"))), 0);
}

/// What one comparison needs for a moment is none of the memory that clients use up.
#[cfg(feature = "argon2")]
#[test]
fn whoever_guesses_does_not_bring_the_broker_to_its_memory_limit() {
    let hash = "$argon2id$v=19$m=47104,t=1,p=1$MTIzNDU2Nzg5MDEy$MTIzNDU2Nzg5MDEyMTIzNDU2Nzg5MDEyMTIzNDU2Nzg5MDEyMTIzNDU2Nzg5MDEy";
    let file = File::new(&format!("erin:{hash}\n"));
    let broker = Broker::start_with(&format!("{}memory_limit 8000000\nallow_anonymous true\n", file.lines()));
    let mut calm = Client::connect(broker.addr(), 5, "calm");
    let done = Arc::new(AtomicBool::new(false));
    let guesses = thread::spawn({
        let (done, addr) = (Arc::clone(&done), broker.addr());
        move || {
            let mut client = knock(addr, 4, "g", "erin", Some("wrong"));
            client.set_limit(Duration::from_secs(60));
            let got = code(&mut client);
            done.store(true, Ordering::Release);
            got
        }
    });
    let mut count = 0;
    while !done.load(Ordering::Acquire) {
        calm.send(&publish(5, 2, "t", 1, b"m"));
        // No subscriber, and not 0x97.
        calm.expect(&[0x40, 3, 0, 1, 0x10]);
        count += 1;
    }
    assert_eq!(guesses.join().expect("an answer"), 5);
    assert!(count > 0 && !broker.log_text().contains("memory_limit is reached"));
}

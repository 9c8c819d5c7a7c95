//! `mosquitto_passwd` beside Debian's tool and broker: files of either are good for both. Prompts at a terminal and from a
//! pipe.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::{Broker, free_port, note, wait_exit};
use crate::client::Client;
use crate::login::{File, connect_as};

const OURS: &str = env!("CARGO_BIN_EXE_mosquitto_passwd");
const THEIRS: &str = "/usr/bin/mosquitto_passwd";
const DEBIAN: &str = "/usr/sbin/mosquitto";
const LIMIT: Duration = Duration::from_secs(10);

/// Whether Debian's package is there, after saying so if not.
fn debian() -> bool {
    let there = Path::new(THEIRS).exists() && Path::new(DEBIAN).exists();
    if !there {
        note("the exchange of password files with Debian's mosquitto skipped: not installed");
    }
    there
}

fn run(tool: &str, arguments: &[&str], file: &File, user: &[&str]) -> Output {
    let output = Command::new(tool).args(arguments).arg(file.path()).args(user).stdin(Stdio::null()).output();
    output.unwrap_or_else(|e| panic!("{tool}: {e}"))
}

fn runs(tool: &str, arguments: &[&str], file: &File, user: &[&str]) {
    let output = run(tool, arguments, file, user);
    assert!(output.status.success(), "{tool} {arguments:?}: {output:?}");
}

/// The code a login is answered with.
fn login(addr: SocketAddr, user: &str, password: &str) -> u8 {
    let mut client = Client::open(addr);
    client.set_limit(LIMIT);
    client.send(&connect_as(4, "it-passwd", user, Some(password)));
    let connack = client.packet();
    assert_eq!(connack[..3], [0x20, 2, 0]);
    connack[3]
}

/// Debian's broker with a password file; killed when dropped.
struct Debian {
    child: Child,
    port: u16,
    _config: File,
}

impl Debian {
    fn start(file: &File) -> Debian {
        let port = free_port();
        let path = file.path().display();
        let config = File::new(&format!("user root\nlistener {port} 127.0.0.1\npassword_file {path}\n"));
        let child = Command::new(DEBIAN)
            .arg("-c")
            .arg(config.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's broker");
        let broker = Debian { child, port, _config: config };
        let deadline = Instant::now() + LIMIT;
        while TcpStream::connect(broker.addr()).is_err() {
            assert!(Instant::now() < deadline, "Debian's broker does not start");
            thread::park_timeout(Duration::from_millis(5));
        }
        broker
    }

    fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const USERS: [(&str, &str, &[&str]); 4] = [
    ("alice", "password123", &["-b"]),
    ("b ob", "pässwörd", &["-b", "-H", "sha512-pbkdf2"]),
    ("carol", "a b:c$d", &["-b", "-H", "sha512"]),
    ("dave", "x", &["-b", "-I", "5000"]),
];

/// Every user can log in with the password and not with another.
fn opens(addr: SocketAddr, who: &str) {
    for (user, password, _) in USERS {
        assert_eq!(login(addr, user, password), 0, "{who}: {user}");
        assert_eq!(login(addr, user, &format!("{password} ")), 5, "{who}: {user}");
    }
    assert_eq!(login(addr, "nobody", "x"), 5, "{who}");
}

/// Our broker, with a file that it can read as whatever user it runs.
fn ours(file: &File) -> Broker {
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).expect("a mode");
    Broker::start_with(&format!("allow_anonymous false\npassword_file {}\n", file.path().display()))
}

#[test]
fn files_of_either_tool_are_good_for_either_broker() {
    if !debian() {
        return;
    }
    for tool in [OURS, THEIRS] {
        let file = File::new("");
        for (user, password, arguments) in USERS {
            runs(tool, arguments, &file, &[user, password]);
        }
        opens(ours(&file).addr(), &format!("file of {tool}, our broker"));
        opens(Debian::start(&file).addr(), &format!("file of {tool}, Debian's broker"));
        // Each tool goes on with the other's file.
        for other in [THEIRS, OURS] {
            runs(other, &["-b"], &file, &["alice", "changed"]);
            runs(other, &["-b"], &file, &["new", "n"]);
            runs(other, &["-D"], &file, &["new"]);
        }
        let (our, their) = (ours(&file), Debian::start(&file));
        for addr in [our.addr(), their.addr()] {
            assert_eq!([login(addr, "alice", "changed"), login(addr, "alice", "password123")], [0, 5], "{tool}");
            assert_eq!([login(addr, "new", "n"), login(addr, "dave", "x")], [5, 0], "{tool}");
        }
    }
}

#[test]
fn plain_text_becomes_a_file_for_either_broker() {
    if !debian() {
        return;
    }
    let plain: String = USERS.iter().filter(|user| user.0 != "carol").map(|(u, p, _)| format!("{u}:{p}\n")).collect();
    let file = File::new(&format!("{plain}carol:secret\n"));
    runs(OURS, &["-U"], &file, &[]);
    let hashed = fs::read_to_string(file.path()).expect("the file");
    assert!(hashed.lines().all(|line| line.contains(":$7$")), "{hashed}");
    runs(OURS, &["-U"], &file, &[]);
    assert_eq!(fs::read_to_string(file.path()).expect("the file"), hashed, "what is hashed stays");
    let (our, their) = (ours(&file), Debian::start(&file));
    for addr in [our.addr(), their.addr()] {
        for (user, password) in [("alice", "password123"), ("b ob", "pässwörd"), ("carol", "secret"), ("dave", "x")] {
            assert_eq!(login(addr, user, password), 0, "{user}");
        }
    }
}

#[cfg(feature = "argon2")]
#[test]
fn an_argon2id_file_opens_our_broker() {
    let file = File::new("");
    runs(OURS, &["-b", "-H", "argon2id"], &file, &["erin", "password123"]);
    let broker = ours(&file);
    let mut client = Client::open(broker.addr());
    client.set_limit(Duration::from_secs(60));
    client.send(&connect_as(4, "c", "erin", Some("password123")));
    client.expect(&[0x20, 2, 0, 0]);
}

#[test]
fn passwords_come_from_a_pipe() {
    let file = File::new("# users\n");
    for (typed, status, there) in
        [("one\ntwo\n", 2, false), ("\n\n", 1, false), ("one\n", 1, false), ("one\r\none\r\n", 0, true)]
    {
        let mut child = Command::new(OURS)
            .arg(file.path())
            .arg("joe")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool");
        child.stdin.take().expect("a pipe").write_all(typed.as_bytes()).expect("room");
        let output = child.wait_with_output().expect("its end");
        assert_eq!(output.status.code(), Some(status), "{typed:?}: {output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.starts_with("Password: \n"), "{said:?}");
        let text = fs::read_to_string(file.path()).expect("the file");
        assert_eq!((text.starts_with("# users\n"), text.contains("joe:$7$")), (true, there), "{typed:?}");
    }
    assert_eq!(login(ours(&file).addr(), "joe", "one"), 0);
}

#[test]
fn many_tools_at_once_lose_nobody() {
    let file = File::new("# users\n");
    let start = |user: &str, password: &[&str]| {
        let mut tool = Command::new(OURS);
        tool.args(if password.is_empty() { &[][..] } else { &["-b"] }).arg(file.path()).arg(user).args(password);
        tool.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the tool")
    };
    // One is asked for a password all the while.
    let mut slow = start("slow", &[]);
    let (mut output, mut shown) = (slow.stdout.take().expect("a pipe"), String::new());
    read_until(&mut output, &mut shown, "Password: ");
    let users: Vec<String> = (0..12).map(|n| format!("user{n}")).collect();
    let running: Vec<_> = users.iter().map(|user| start(user, &["pw"])).collect();
    for mut tool in running {
        assert!(wait_exit(&mut tool, LIMIT).expect("its end").success());
    }
    slow.stdin.take().expect("a pipe").write_all(b"pw\npw\n").expect("room");
    assert!(wait_exit(&mut slow, LIMIT).expect("its end").success());
    let text = fs::read_to_string(file.path()).expect("the file");
    for user in users.iter().map(String::as_str).chain(["# users", "slow"]) {
        let start = if user.starts_with('#') { user.to_owned() } else { format!("{user}:$7$") };
        assert!(text.lines().any(|line| line.starts_with(&start)), "{user} is lost: {text}");
    }
    assert_eq!(text.lines().count(), users.len() + 2);
}

/// Reads until `text` has come.
fn read_until(from: &mut impl Read, so_far: &mut String, text: &str) {
    let mut byte = [0];
    while !so_far.ends_with(text) {
        assert_eq!(from.read(&mut byte).expect("output"), 1, "no {text:?} in {so_far:?}");
        so_far.push(char::from(byte[0]));
    }
}

#[test]
fn passwords_are_not_shown_at_a_terminal() {
    if !Path::new("/usr/bin/script").exists() {
        return note("prompts at a terminal skipped: no script(1)");
    }
    let file = File::new("");
    // It runs the tool at a terminal of its own.
    let mut child = Command::new("/usr/bin/script")
        .args(["-qec", &format!("'{OURS}' '{}' joe", file.path().display()), "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script");
    let (mut typing, mut screen) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let mut shown = String::new();
    for prompt in ["Password: ", "Reenter password: "] {
        read_until(&mut screen, &mut shown, prompt);
        typing.write_all(b"hidden words\n").expect("room");
    }
    let _ended = screen.read_to_string(&mut shown);
    drop(typing);
    let status = wait_exit(&mut child, LIMIT).expect("its end");
    assert!(status.success(), "{shown}");
    assert!(!shown.contains("hidden") && !shown.contains("words"), "{shown}");
    assert_eq!(login(ours(&file).addr(), "joe", "hidden words"), 0);
}

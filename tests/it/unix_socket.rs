//! `listener 0 PATH`: a socket in the file system.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::broker::{Broker, program};
use crate::client::{LIMIT, connect, hex, publish, subscribe};

/// How long a reload may take on a busy machine.
const PATIENT: Duration = Duration::from_secs(10);

struct Unix(UnixStream);

impl Unix {
    fn open(path: &Path) -> Unix {
        let stream = UnixStream::connect(path).unwrap_or_else(|error| panic!("connect to {}: {error}", path.display()));
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        Unix(stream)
    }

    fn connect(path: &Path, version: u8, id: &str) -> Unix {
        let mut client = Unix::open(path);
        client.send(&connect(version, id));
        let mut ack = [0; 4];
        client.0.read_exact(&mut ack).expect("a CONNACK");
        assert_eq!((ack[0], ack[3]), (0x20, 0), "{}", hex(&ack));
        let mut rest = vec![0; usize::from(ack[1]) - 2];
        client.0.read_exact(&mut rest).expect("the rest of it");
        client
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("bytes are written");
    }

    fn expect(&mut self, wanted: &[u8]) {
        let mut got = vec![0; wanted.len()];
        self.0.read_exact(&mut got).unwrap_or_else(|error| panic!("wanted {}, {error}", hex(wanted)));
        assert!(got == wanted, "wanted {}\ngot    {}", hex(wanted), hex(&got));
    }

    fn ping(&mut self) {
        self.send(&[0xC0, 0]);
        self.expect(&[0xD0, 0]);
    }

    fn expect_closed(&mut self) {
        assert!(matches!(self.0.read(&mut [0]), Ok(0)), "the end of the connection");
    }
}

/// A directory of its own, removed at the end.
struct Dir(std::path::PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("mosquitto-it-unix-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        // A broker that gives up root makes its socket there.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("an open directory");
        Dir(dir)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn lines(path: &Path) -> String {
    format!("listener 0 {}", path.display())
}

#[test]
fn clients_come_in_by_the_path_and_print_as_it() {
    let dir = Dir::new("clients");
    let path = dir.path("sock");
    let mut broker = Broker::start_with(&lines(&path));
    let shown = path.display().to_string();
    broker.wait_for_log(concat!("mosquitto version ", env!("CARGO_PKG_VERSION"), " running"), PATIENT);
    broker.wait_for_log(&format!("Opening unix listen socket on path {shown}"), PATIENT);
    assert_eq!(fs::metadata(&path).expect("a socket").permissions().mode() & 0o777, 0o770);
    for version in [3, 4, 5] {
        let mut client = Unix::connect(&path, version, "local");
        broker.wait_for_log(&format!("New connection from {shown}:0 on port 0."), PATIENT);
        broker.wait_for_log(&format!("New client connected from {shown}:0 as local (p{version}, c1, k60)."), PATIENT);
        client.send(&subscribe(version, 1, "t", 1));
        client.expect(if version == 5 { &[0x90, 4, 0, 1, 0, 1] } else { &[0x90, 3, 0, 1, 1] });
        let large = vec![b'x'; 300_000];
        let mut writer = client.0.try_clone().expect("a second handle");
        let message = publish(version, 0, "t", 0, &large);
        let sent = message.clone();
        let thread = std::thread::spawn(move || writer.write_all(&sent).expect("written"));
        client.expect(&message);
        thread.join().expect("a writer");
        client.ping();
        client.send(&[0xE0, 0]);
        client.expect_closed();
        broker.wait_for_log(&format!("Client local [{shown}:0] disconnected."), PATIENT);
    }
    broker.signal("TERM");
    assert_eq!(broker.wait_exit().code(), Some(0));
    assert!(!path.exists(), "removed at the end");
}

#[test]
fn a_stale_socket_is_replaced_and_nothing_else_is() {
    let dir = Dir::new("stale");
    let path = dir.path("sock");
    drop(UnixListener::bind(&path).expect("a socket that nobody listens on"));
    let broker = Broker::start_with(&lines(&path));
    broker.wait_for_log(concat!("mosquitto version ", env!("CARGO_PKG_VERSION"), " running"), PATIENT);
    Unix::connect(&path, 4, "a").ping();
    drop(broker);

    let file = dir.path("file");
    fs::write(&file, "precious").expect("a file");
    let config = dir.path("conf");
    fs::write(&config, lines(&file)).expect("a config file");
    let ended = Command::new(program()).arg("-c").arg(&config).output().expect("a broker");
    let log = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{log}");
    assert!(log.contains(&format!("\"{}\" exists and is not a socket", file.display())), "{log}");
    assert_eq!(fs::read_to_string(&file).expect("still there"), "precious");

    let link = dir.path("link");
    std::os::unix::fs::symlink(&file, &link).expect("a link");
    fs::write(&config, lines(&link)).expect("a config file");
    let ended = Command::new(program()).arg("-c").arg(&config).output().expect("a broker");
    assert_eq!(ended.status.code(), Some(1), "a link is no socket");

    fs::write(&config, lines(&dir.path("missing/sock"))).expect("a config file");
    let ended = Command::new(program()).arg("-c").arg(&config).output().expect("a broker");
    let log = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{log}");
    assert!(log.contains("No such file or directory"), "{log}");
}

#[test]
fn a_reload_leaves_the_path_open_and_removes_it_with_its_listener() {
    let dir = Dir::new("reload");
    let (path, other) = (dir.path("one"), dir.path("two"));
    let broker = Broker::start_with(&lines(&path));
    broker.wait_for_log(concat!("mosquitto version ", env!("CARGO_PKG_VERSION"), " running"), PATIENT);
    let mut stays = Unix::connect(&path, 4, "stays");
    let hup = |lines: &str| {
        let mark = broker.log_mark();
        broker.write_config(lines);
        broker.signal("HUP");
        broker.wait_for_log_after(mark, "Config reloaded.", PATIENT);
        broker.log_after(mark)
    };
    let log = hup(&format!("{}\nmax_connections 2", lines(&path)));
    assert!(!log.contains("Opening unix"), "{log}");
    stays.ping();
    Unix::connect(&path, 4, "second").ping();
    let log = hup(&lines(&other));
    assert!(log.contains("Opening unix listen socket"), "{log}");
    stays.expect_closed();
    assert!(!path.exists());
    assert!(fs::symlink_metadata(&other).expect("a socket").file_type().is_socket());
    Unix::connect(&other, 5, "third").ping();
    // Somebody else's file has taken the place: it is not ours to remove.
    fs::remove_file(&other).expect("removed");
    fs::write(&other, "precious").expect("a file");
    hup("");
    assert_eq!(fs::read_to_string(&other).expect("still there"), "precious");
}

#[test]
fn max_connections_counts_at_a_path_too() {
    let dir = Dir::new("limit");
    let path = dir.path("sock");
    let broker = Broker::start_with(&format!(
        "{}\nmax_connections 1\nmount_point m/\nuse_username_as_clientid true",
        lines(&path)
    ));
    broker.wait_for_log(concat!("mosquitto version ", env!("CARGO_PKG_VERSION"), " running"), PATIENT);
    let first = Unix::open(&path);
    broker.wait_for_log("New connection from", PATIENT);
    Unix::open(&path).expect_closed();
    broker
        .wait_for_log(&format!("Client connection from {} denied: max_connections exceeded.", path.display()), PATIENT);
    drop(first);
}

//! Configurations as people have them (tests/configs): each starts and behaves, and Debian's broker, given the same file,
//! agrees on whether it is one, and behaves the same.

mod cases;
mod openwrt;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cases::CASES;

use crate::broker::{free_port, note, wait_exit};
use crate::client::{Client, connect_with, hex, publish, string, subscribe};

/// How long a broker may take to start or to stop.
const START_LIMIT: Duration = Duration::from_secs(10);

/// The broker that this crate builds.
const OURS: &str = env!("CARGO_BIN_EXE_mosquitto");

/// Debian's broker, version 2.0.11.
const DEBIAN: &str = "/usr/sbin/mosquitto";

/// What this broker cannot do yet: the configuration, `*` for any end of its name, and why it is refused. MUST BE EMPTY IN
/// THE END. An entry whose configuration is not refused any more, or for another reason, fails the test: it has to go.
const EXPECTED_REFUSALS: &[(&str, &str)] = &[];

/// The reason why a configuration is refused for now.
fn expected_refusal(name: &str) -> Option<&'static str> {
    let is = |known: &str| known.strip_suffix('*').map_or(known == name, |start| name.starts_with(start));
    EXPECTED_REFUSALS.iter().find(|(known, _)| is(known)).map(|(_, reason)| *reason)
}

/// What becomes of a configuration in the end.
enum Meant {
    /// It starts, with a listener on each of these ports, and passes the check.
    Runs { open: &'static [usize], check: fn(&Running) },
    /// It is refused, and the message contains this.
    Refused(&'static str),
}

/// What Debian's broker makes of it.
enum Debian {
    /// The same: it starts and passes the same check, or refuses.
    Same,
    /// It knows better or worse, for this reason.
    Differs(&'static str),
    /// It is not asked, for this reason.
    NotAsked(&'static str),
}

struct Case {
    name: &'static str,
    /// Below tests/configs.
    directory: &'static str,
    /// Further files.
    files: &'static [(&'static str, &'static str)],
    /// In local-only mode the port comes from the command line, since 1883 may be in use.
    local_only: bool,
    meant: Meant,
    debian: Debian,
}

impl Case {
    const fn runs(name: &'static str, open: &'static [usize], check: fn(&Running)) -> Case {
        Case {
            name,
            directory: name,
            files: &[],
            local_only: false,
            meant: Meant::Runs { open, check },
            debian: Debian::Same,
        }
    }

    const fn refused(name: &'static str, reason: &'static str) -> Case {
        Case {
            name,
            directory: name,
            files: &[],
            local_only: false,
            meant: Meant::Refused(reason),
            debian: Debian::Same,
        }
    }

    const fn of(mut self, directory: &'static str) -> Case {
        self.directory = directory;
        self
    }

    const fn with(mut self, files: &'static [(&'static str, &'static str)]) -> Case {
        self.files = files;
        self
    }

    const fn local(mut self) -> Case {
        self.local_only = true;
        self
    }

    const fn debian(mut self, debian: Debian) -> Case {
        self.debian = debian;
        self
    }
}

/// Which broker runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    Ours,
    Debian,
}

/// The files of a configuration and its ports.
struct Place {
    dir: PathBuf,
    ports: [u16; 4],
}

impl Place {
    /// An empty place with `common`, certificates, and the directories that a package or an image would have made.
    fn new() -> Place {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("mosquitto-real-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let place = Place { dir, ports: std::array::from_fn(|_| free_port()) };
        for name in ["", "data", "log", "run", "conf.d", "tls", "lib"] {
            place.make_dir(Path::new(name));
        }
        place.copy(&source().join("common"), Path::new(""));
        place
    }

    /// Both brokers give up root, and must be able to write where a distribution would let them.
    fn make_dir(&self, name: &Path) {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).expect("a directory");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("its mode");
    }

    fn fill_in(&self, text: &str) -> String {
        let text = text.replace("@DIR@", &self.dir.to_string_lossy());
        (1..=4).fold(text, |text, n| text.replace(&format!("@PORT{n}@"), &self.ports[n - 1].to_string()))
    }

    fn write(&self, name: &Path, text: &str) {
        let file = self.dir.join(name);
        fs::write(&file, self.fill_in(text)).expect("a file");
        // C Mosquitto 2.1 complains about files of others that anybody may read, 2.0 cannot read those it may not.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("its mode");
    }

    fn copy(&self, from: &Path, to: &Path) {
        for entry in fs::read_dir(from).unwrap_or_else(|e| panic!("{}: {e}", from.display())) {
            let entry = entry.expect("an entry");
            let to = to.join(entry.file_name());
            if entry.path().is_dir() {
                self.make_dir(&to);
                self.copy(&entry.path(), &to);
            } else {
                self.write(&to, &fs::read_to_string(entry.path()).expect("a text"));
            }
        }
    }

    fn config(&self) -> PathBuf {
        self.dir.join("mosquitto.conf")
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join(name)).unwrap_or_default()).into_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs")
}

/// A broker with a configuration of [`Place`]; killed when dropped.
struct Running {
    who: Who,
    child: Child,
    place: Place,
}

/// What became of a start.
enum Outcome {
    Running(Running),
    Refused { code: Option<i32>, said: String },
}

impl Running {
    /// Waits until each of `open` has a listener, or the broker has ended.
    fn start(who: Who, place: Place, local_only: bool, open: &[usize]) -> Outcome {
        let mut command = Command::new(match who {
            Who::Ours => OURS,
            Who::Debian => DEBIAN,
        });
        command.arg("-c").arg(place.config()).current_dir(&place.dir).env_remove("NOTIFY_SOCKET");
        if local_only {
            command.arg("-p").arg(place.ports[0].to_string());
        }
        let file = |name| fs::File::create(place.dir.join(name)).expect("a file");
        let child = command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr")).spawn();
        let child = child.unwrap_or_else(|e| panic!("{who:?} does not run: {e}"));
        let mut running = Running { who, child, place };
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Ok(Some(status)) = running.child.try_wait() {
                return Outcome::Refused { code: status.code(), said: running.said() };
            }
            if open.iter().all(|n| is_served(running.addr(*n))) {
                return Outcome::Running(running);
            }
            assert!(Instant::now() < deadline, "{who:?} opens not all of {open:?}:\n{}", running.said());
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// The address of `@PORTn@`.
    fn addr(&self, n: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.place.ports[n - 1]))
    }

    /// Everything it said, wherever.
    fn said(&self) -> String {
        ["stdout", "stderr", "log/mosquitto.log"].map(|name| self.place.read(name)).concat()
    }

    /// Waits until a file of the place contains `text`.
    fn wait_for_text(&self, file: &str, text: &str) {
        if self.who == Who::Debian && file == "stdout" {
            // It keeps what it says until there is much of it, unless a terminal reads it.
            return;
        }
        let deadline = Instant::now() + START_LIMIT;
        while !self.place.read(file).contains(text) {
            assert!(Instant::now() < deadline, "{:?}: no {text:?} in {file}:\n{}", self.who, self.place.read(file));
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Stops it as a service manager would; its directory stays until the end of this call.
    fn stop(mut self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(&pid).status().is_ok_and(|status| status.success()), "kill {pid}");
        let status = wait_exit(&mut self.child, START_LIMIT).unwrap_or_else(|| panic!("{name} {:?} runs on", self.who));
        assert_eq!(status.code(), Some(0), "{name} {:?}:\n{}", self.who, self.said());
        assert!(!self.place.dir.join("run/mosquitto.pid").exists(), "{name} {:?}: the pid file stays", self.who);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether somebody deals with connections, which a broker that opened the port but is about to give up does not: whatever
/// is behind it, MQTT, TLS or HTTP, it answers this request or ends the connection, and goes on.
fn is_served(addr: SocketAddr) -> bool {
    let Ok(mut probe) = Client::try_open(addr) else { return false };
    probe.send(b"GET / HTTP/1.0\r\n\r\n");
    let _ = probe.recv(1);
    Client::try_open(addr).is_ok()
}

/// A 3.1.1 client with a clean session, and the code it is answered with.
fn knock(addr: SocketAddr, id: &str, login: Option<(&str, &str)>) -> (Client, Option<u8>) {
    let mut client = Client::open(addr);
    let (name, password) = login.map_or((Vec::new(), Vec::new()), |(name, password)| (string(name), string(password)));
    let flags = if login.is_some() { 0xC2 } else { 2 };
    client.send(&connect_with(4, flags, 60, &[], &[&string(id), &name, &password]));
    let code = client.recv(4).ok().map(|ack| {
        assert_eq!(ack[..3], [0x20, 2, 0], "{}", hex(&ack));
        ack[3]
    });
    (client, code)
}

/// A client that was let in.
fn enter(addr: SocketAddr, id: &str, login: Option<(&str, &str)>) -> Client {
    let (client, code) = knock(addr, id, login);
    assert_eq!(code, Some(0), "{id} at {addr}");
    client
}

/// The broker lets this client in and takes messages from one to another.
fn serves_as(addr: SocketAddr, login: Option<(&str, &str)>) {
    let mut reader = enter(addr, "it-reader", login);
    reader.send(&subscribe(4, 1, "home/+", 1));
    reader.expect(&[0x90, 3, 0, 1, 1]);
    let mut writer = enter(addr, "it-writer", login);
    writer.send(&publish(4, 2, "home/lamp", 7, b"on"));
    writer.expect(&[0x40, 2, 0, 7]);
    reader.expect(&publish(4, 2, "home/lamp", 1, b"on"));
    reader.send(&[0x40, 2, 0, 1]);
    for client in [&mut reader, &mut writer] {
        client.ping();
        client.send(&[0xE0, 0]);
        client.expect_closed();
    }
}

fn serves(addr: SocketAddr) {
    serves_as(addr, None);
    drop(Client::connect(addr, 5, "it-five"));
}

fn refuses(addr: SocketAddr, login: Option<(&str, &str)>) {
    assert_eq!(knock(addr, "it-stranger", login).1, Some(5), "{addr}");
}

/// Only who has a password comes in.
fn asks_for_passwords(addr: SocketAddr) {
    refuses(addr, None);
    refuses(addr, Some(("user1", "wrong")));
    refuses(addr, Some(("nobody", "secret")));
    serves_as(addr, Some(("user1", "secret")));
    enter(addr, "it-two", Some(("user2", "other"))).ping();
}

/// Publishes to `topic` and tells whether a subscriber of it, the same user, gets that.
fn passes(addr: SocketAddr, login: Option<(&str, &str)>, topic: &str) -> bool {
    let mut client = enter(addr, "it-probe", login);
    client.send(&subscribe(4, 1, topic, 0));
    assert_eq!(client.packet()[0], 0x90);
    client.send(&publish(4, 0, topic, 0, b"x"));
    // A reply may overtake a message that came in with the same piece, but not twice.
    let mut came = false;
    for _ in 0..2 {
        client.send(&[0xC0, 0]);
        loop {
            match client.packet()[0] {
                0x30 => came = true,
                0xD0 => break,
                other => panic!("packet {other:#x}"),
            }
        }
    }
    came
}

/// Tells whether somebody listens with a certificate: a TLS record that is none is answered or ended, not taken as MQTT.
fn speaks_tls(addr: SocketAddr) {
    let mut client = Client::open(addr);
    client.send(&connect_with(4, 2, 60, &[], &[&string("it-plain")]));
    assert!(client.recv(4).map_or(true, |got| got[..2] != [0x20, 2]), "{addr} speaks MQTT without TLS");
}

fn upgrades_to_websockets(addr: SocketAddr) {
    let mut client = Client::open(addr);
    client.send(
        b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
          Sec-WebSocket-Protocol: mqtt\r\n\r\n",
    );
    let answer = client.recv(12).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert_eq!(answer.as_deref(), Ok("HTTP/1.1 101"), "{addr}");
}

/// Lays a case out: its files, those that need a tool, and for OpenWrt what the start script makes of its form.
fn lay_out(case: &Case) -> Place {
    let place = Place::new();
    place.copy(&source().join(case.directory), Path::new(""));
    for (name, text) in case.files {
        place.write(Path::new(name), text);
    }
    if case.directory.starts_with("tls-") || case.directory == "bridge-cloud" {
        make_certificates(&place);
    }
    if case.directory == "openwrt-uci" {
        let generated = openwrt::convert(&place.read("uci"));
        place.write(Path::new("mosquitto.conf"), &generated);
    }
    if case.directory == "windows" {
        let text = place.read("mosquitto.conf").replace('\n', "\r\n");
        place.write(Path::new("mosquitto.conf"), &text);
    }
    place
}

/// Certificates as a certificate service hands them out; none when there is no tool to make them.
fn make_certificates(place: &Place) {
    let tls = place.dir.join("tls");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"])
        .args(["-subj", "/CN=localhost", "-keyout", "privkey.pem", "-out", "cert.pem"])
        .current_dir(&tls)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if made {
        // A list of nothing revoked, from a certificate authority that never did anything.
        fs::write(tls.join("ca.conf"), "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ndefault_md=sha256\n")
            .expect("a file");
        fs::write(tls.join("index.txt"), "").expect("a file");
        let listed = Command::new("openssl")
            .args(["ca", "-gencrl", "-config", "ca.conf", "-keyfile", "privkey.pem", "-cert", "cert.pem"])
            .args(["-crldays", "30", "-out", "crl.pem"])
            .current_dir(&tls)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(listed.is_ok_and(|status| status.success()), "no revocation list");
        for name in ["chain.pem", "fullchain.pem"] {
            fs::copy(tls.join("cert.pem"), tls.join(name)).expect("a copy");
        }
        fs::set_permissions(tls.join("privkey.pem"), fs::Permissions::from_mode(0o644)).expect("its mode");
    }
}

/// Starts one broker with a case; again when somebody took one of its ports meanwhile.
fn start(case: &Case, who: Who) -> Outcome {
    let open = match &case.meant {
        Meant::Runs { open, .. } => *open,
        Meant::Refused(_) => &[1],
    };
    for _ in 0..5 {
        match Running::start(who, lay_out(case), case.local_only, open) {
            Outcome::Refused { said, .. } if said.contains("in use") => {}
            outcome => return outcome,
        }
    }
    panic!("{}: the ports are always in use", case.name);
}

fn judge(case: &Case, who: Who) -> Result<(), String> {
    let expected = if who == Who::Ours { expected_refusal(case.name) } else { None };
    match (start(case, who), &case.meant, expected) {
        (Outcome::Running(_), _, Some(reason)) => {
            Err(format!("is not refused any more, so its entry has to go: {reason}"))
        }
        (Outcome::Refused { code, said }, _, Some(reason)) => {
            if said.contains(reason) && code == Some(3) {
                Ok(())
            } else {
                Err(format!("is not refused for {reason:?}, but with {code:?}:\n{said}"))
            }
        }
        (Outcome::Running(broker), Meant::Runs { check, .. }, None) => {
            check(&broker);
            broker.stop(case.name);
            Ok(())
        }
        (Outcome::Running(broker), Meant::Refused(_), None) => Err(format!("runs:\n{}", broker.said())),
        (Outcome::Refused { code, said }, Meant::Runs { .. }, None) => {
            Err(format!("is refused with {code:?}:\n{said}"))
        }
        (Outcome::Refused { code, said }, Meant::Refused(reason), None) => match (who, code) {
            (Who::Ours, Some(3)) if said.contains(reason) => Ok(()),
            (Who::Ours, _) => Err(format!("is not refused for {reason:?}, but with {code:?}:\n{said}")),
            // 2.0 has other words and other statuses.
            (Who::Debian, Some(1..)) => Ok(()),
            (Who::Debian, _) => Err(format!("ends with {code:?}:\n{said}")),
        },
    }
}

fn has_debian() -> bool {
    let openssl = Command::new("openssl").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let missing = if !Path::new(DEBIAN).exists() {
        DEBIAN
    } else if !openssl.is_ok_and(|status| status.success()) {
        "openssl"
    } else {
        return true;
    };
    note(&format!("{missing} is not there: no comparison with Debian's broker"));
    false
}

/// Runs `case` with one broker and fails with its name.
fn run(case: &Case, who: Who) -> Option<String> {
    let result = std::panic::catch_unwind(|| judge(case, who));
    match result {
        Ok(Ok(())) => None,
        Ok(Err(text)) => Some(format!("{} ({who:?}) {text}", case.name)),
        Err(_) => Some(format!("{} ({who:?}) does not behave; see above", case.name)),
    }
}

fn none(failures: &[String]) {
    assert!(failures.is_empty(), "{} of the configurations fail:\n{}", failures.len(), failures.join("\n\n"));
}

#[test]
fn each_configuration_starts_and_behaves() {
    none(&CASES.iter().filter_map(|case| run(case, Who::Ours)).collect::<Vec<_>>());
}

#[test]
fn debians_broker_agrees_on_each() {
    if !has_debian() {
        return;
    }
    let mut failures = Vec::new();
    for case in CASES {
        match case.debian {
            Debian::Same => failures.extend(run(case, Who::Debian)),
            Debian::Differs(reason) => {
                note(&format!("{}: Debian's broker differs: {reason}", case.name));
            }
            Debian::NotAsked(reason) => note(&format!("{}: Debian's broker is not asked: {reason}", case.name)),
        }
    }
    none(&failures);
}

/// No entry of the list may outlive its configuration.
#[test]
fn each_expected_refusal_is_one_of_a_configuration() {
    let names: Vec<String> = CASES.iter().map(|case| case.name.to_owned()).chain(openwrt::names()).collect();
    for (known, _) in EXPECTED_REFUSALS {
        let is = |name: &String| known.strip_suffix('*').map_or(known == name, |start| name.starts_with(start));
        assert!(names.iter().any(is), "{known} is no configuration");
    }
    let directories = fs::read_dir(source()).expect("tests/configs").map(|entry| entry.expect("an entry"));
    for entry in directories.filter(|entry| entry.path().is_dir() && entry.file_name() != "common") {
        assert!(CASES.iter().any(|case| *case.directory == entry.file_name()), "{entry:?} is not tested");
    }
}

/// A configuration that is tried without being run.
fn test_config(place: &Place) -> io::Result<(Option<i32>, String)> {
    let output = Command::new(OURS).arg("--test-config").arg("-c").arg(place.config()).output()?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

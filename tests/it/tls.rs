//! Listeners with `certfile` and `keyfile`.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use crate::broker::{Broker, free_port, program};
use crate::client::{Client, connect, hex, publish, subscribe};

/// How long a busy machine may take.
const PATIENT: Duration = Duration::from_secs(10);

/// Certificates as tutorials make them, and their oddities.
const SCRIPT: &str = r#"
set -e
openssl req -new -x509 -days 3650 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -subj "/O=Test/CN=CA"
openssl req -new -x509 -days 3650 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout other.key -out other.crt -subj "/O=Test/CN=Other"
printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' >server.ext
printf 'basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n' >client.ext
make() { # name, authority, days, extensions
    openssl ecparam -genkey -name prime256v1 -noout -out $1.key
    openssl req -new -key $1.key -out $1.csr -subj "/O=Test/CN=${5:-$1}"
    openssl x509 -req -in $1.csr -CA $2.crt -CAkey $2.key -CAcreateserial -out $1.crt -days $3 -extfile $4.ext
}
make server ca 300 server
make second ca 400 server
make soon ca 5 server
make alice ca 30 client
make revoked ca 30 client
make stranger other 30 client alice
cat >ca.conf <<END
[ca]
default_ca = it
[it]
database = index.txt
new_certs_dir = .
serial = serial
crlnumber = crlnumber
default_md = sha256
default_crl_days = 10
policy = any
[any]
organizationName = optional
commonName = optional
END
: >index.txt; echo 01 >crlnumber; echo 1000 >serial
openssl ecparam -genkey -name prime256v1 -noout -out expired.key
openssl req -new -key expired.key -out expired.csr -subj "/O=Test/CN=expired"
openssl ca -batch -config ca.conf -cert ca.crt -keyfile ca.key -in expired.csr -out expired.crt -startdate 20200101000000Z -enddate 20200201000000Z -extfile client.ext -notext
openssl ca -config ca.conf -cert ca.crt -keyfile ca.key -revoke revoked.crt
openssl ca -config ca.conf -cert ca.crt -keyfile ca.key -gencrl -out crl.pem
chmod 0755 .
chmod 0644 *
"#;

/// The directory of the certificates; `None` without `openssl`.
fn pki() -> Option<&'static Path> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    MADE.get_or_init(|| {
        if Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_err() {
            crate::broker::note("tls: there is no openssl command");
            return None;
        }
        let directory = std::env::temp_dir().join(format!("mosquitto-it-tls-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let made = Command::new("sh").args(["-c", SCRIPT]).current_dir(&directory).output().expect("a shell");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Some(directory)
    })
    .as_deref()
}

macro_rules! pki_or_return {
    () => {
        match pki() {
            Some(directory) => directory,
            None => return,
        }
    };
}

/// The lines of a TLS listener.
fn listener(pki: &Path, port: u16, name: &str, more: &str) -> String {
    let at = |file: String| pki.join(file).display().to_string();
    let (certificate, key) = (at(format!("{name}.crt")), at(format!("{name}.key")));
    format!(
        "listener {port} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}\n{}",
        more.replace("PKI", &at(String::new()))
    )
}

/// The lines of a TLS listener that needs no `openssl`: its certificate, for `localhost`, is its own authority.
pub(crate) fn fixed_listener(port: u16) -> String {
    let at = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/tls");
    format!("listener {port} 127.0.0.1\ncertfile {at}/cert.pem\nkeyfile {at}/key.pem")
}

const MUTUAL: &str = "cafile PKI/ca.crt\nrequire_certificate true\n";

/// A broker with a TLS listener beside its plain one.
fn start(pki: &Path, more: &str) -> (Broker, SocketAddr) {
    let port = free_port();
    let broker = Broker::start_with(&listener(pki, port, "server", more));
    broker.wait_for_log(concat!("mosquitto version ", env!("CARGO_PKG_VERSION"), " running"), PATIENT);
    (broker, ([127, 0, 0, 1], port).into())
}

fn client_config(
    pki: &Path,
    versions: &[&'static SupportedProtocolVersion],
    certificate: Option<&str>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pki.join("ca.crt")).expect("an authority")).expect("a root");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots);
    let config = match certificate {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let chain = vec![CertificateDer::from_pem_file(pki.join(format!("{name}.crt"))).expect("a certificate")];
            let key = PrivateKeyDer::from_pem_file(pki.join(format!("{name}.key"))).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    };
    Arc::new(config)
}

/// A socket that writes in pieces of a size.
struct Pieces {
    socket: TcpStream,
    size: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.socket.read(buffer)
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.socket.write(&bytes[..bytes.len().min(self.size)])
    }

    fn write_vectored(&mut self, slices: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
        match (self.size, slices.iter().find(|slice| !slice.is_empty())) {
            (usize::MAX, _) => self.socket.write_vectored(slices),
            (_, first) => self.write(first.map_or(&[], |slice| slice)),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.socket.flush()
    }
}

struct Tls(StreamOwned<ClientConnection, Pieces>);

impl Tls {
    fn open(addr: SocketAddr, config: &Arc<ClientConfig>, size: usize) -> Tls {
        Tls::over(TcpStream::connect(addr).expect("a connection"), config, size)
    }

    fn over(socket: TcpStream, config: &Arc<ClientConfig>, size: usize) -> Tls {
        socket.set_nodelay(true).expect("no delay");
        socket.set_read_timeout(Some(PATIENT)).expect("a limit");
        let connection = ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost").expect("a name"));
        Tls(StreamOwned::new(connection.expect("a client"), Pieces { socket, size }))
    }

    fn connect(addr: SocketAddr, config: &Arc<ClientConfig>, version: u8, id: &str) -> Tls {
        let mut client = Tls::open(addr, config, usize::MAX);
        client.enter(version, id);
        client
    }

    fn enter(&mut self, version: u8, id: &str) {
        self.send(&connect(version, id));
        let ack = self.packet();
        assert_eq!((ack[0], ack[3]), (0x20, 0), "{}", hex(&ack));
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("bytes are written");
    }

    fn recv(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).unwrap_or_else(|error| panic!("wanted {len} bytes: {error}"));
        bytes
    }

    fn expect(&mut self, wanted: &[u8]) {
        let got = self.recv(wanted.len());
        assert!(got == wanted, "wanted {}\ngot    {}", hex(wanted), hex(&got));
    }

    /// A packet of less than 128 bytes.
    fn packet(&mut self) -> Vec<u8> {
        let mut packet = self.recv(2);
        let rest = self.recv(usize::from(packet[1]));
        packet.extend(rest);
        packet
    }

    fn ping(&mut self) {
        self.send(&[0xC0, 0]);
        self.expect(&[0xD0, 0]);
    }

    /// The end with `close_notify`: without it the library reports an error.
    fn expect_goodbye(&mut self) {
        assert!(matches!(self.0.read(&mut [0]), Ok(0)), "close_notify, then the end");
    }

    /// The certificate that the broker showed.
    fn certificate(&self) -> Vec<u8> {
        self.0.conn.peer_certificates().expect("a certificate")[0].to_vec()
    }
}

/// The error that ends a handshake, or the first read after it.
fn refusal(addr: SocketAddr, config: &Arc<ClientConfig>) -> String {
    let mut client = Tls::open(addr, config, usize::MAX);
    let error = client.0.write_all(&connect(4, "refused")).and_then(|()| client.0.read_exact(&mut [0; 4]));
    error.expect_err("a refusal").to_string()
}

fn der(pki: &Path, name: &str) -> Vec<u8> {
    CertificateDer::from_pem_file(pki.join(format!("{name}.crt"))).expect("a certificate").to_vec()
}

#[test]
fn both_versions_carry_every_packet_in_any_pieces() {
    let pki = pki_or_return!();
    let (broker, addr) = start(pki, "");
    for (version, name) in [(&TLS12, "TLSv1.2"), (&TLS13, "TLSv1.3")] {
        let config = client_config(pki, &[version], None);
        for (size, protocol) in [(1, 3), (7, 4), (usize::MAX, 5)] {
            let mark = broker.log_mark();
            let id = format!("{name}-{size}");
            let mut client = Tls::open(addr, &config, size);
            client.enter(protocol, &id);
            broker.wait_for_log_after(mark, &format!("Client {id} negotiated {name} cipher "), PATIENT);
            let log = broker.log_after(mark);
            let line = |text: &str| log.find(text).unwrap_or_else(|| panic!("{text} in {log}"));
            assert!(line("New connection from") < line("New client connected"));
            assert!(line("New client connected") < line("negotiated"), "{log}");
            client.send(&subscribe(protocol, 1, "t", 0));
            client.expect(if protocol == 5 { &[0x90, 4, 0, 1, 0, 0] } else { &[0x90, 3, 0, 1, 0] });
            for len in [0, 1, 500, 16_300, 16_384, 100_000] {
                let message = publish(protocol, 0, "t", 0, &vec![b'x'; if size == 1 { len / 50 } else { len }]);
                client.send(&message);
                client.expect(&message);
            }
            client.ping();
            client.send(&[0xE0, 0]);
            client.expect_goodbye();
        }
    }
}

#[test]
fn a_flood_is_served_and_one_who_does_not_read_holds_up_nobody() {
    let pki = pki_or_return!();
    // A line for every packet would take longer than the packet.
    let (broker, addr) = start(pki, "log_type none\nlog_type error\nlog_type information");
    let config = client_config(pki, &[&TLS13], None);
    let mut client = Tls::connect(addr, &config, 4, "flood");
    client.send(&subscribe(4, 1, "t/flood", 0));
    client.expect(&[0x90, 3, 0, 1, 0]);
    let one = publish(4, 0, "t/flood", 0, b"payload");
    for _ in 0..5 {
        client.send(&one.repeat(2000));
        client.expect(&one.repeat(2000));
    }
    // One that does not read.
    let mut slow = Tls::connect(addr, &config, 4, "slow");
    slow.send(&subscribe(4, 1, "t/slow", 0));
    slow.expect(&[0x90, 3, 0, 1, 0]);
    let large = publish(4, 0, "t/slow", 0, &vec![b'x'; 100_000]);
    for _ in 0..200 {
        client.send(&large);
    }
    client.ping();
    slow.expect(&large);
    slow.expect(&large);
    // One that asks and does not read the answers: it is not read either, and nothing it said is lost.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(65536).expect("a small buffer");
    socket.set_send_buffer_size(16384).expect("a small buffer");
    socket.connect(&addr.into()).expect("a connection");
    let mut greedy = Tls::over(socket.into(), &config, usize::MAX);
    greedy.enter(4, "greedy");
    greedy.0.sock.socket.set_write_timeout(Some(Duration::from_millis(300))).expect("a limit");
    let question = |id: u16| [0xA2, 5, id.to_be_bytes()[0], id.to_be_bytes()[1], 0, 1, b'x'];
    let started = Instant::now();
    for first in (1..=60_000u16).step_by(100).cycle() {
        let questions: Vec<u8> = (first..first + 100).flat_map(question).collect();
        if greedy.0.write_all(&questions).is_err() {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "it is read for ever");
    }
    // The library tries before each read to write what it could not.
    greedy.0.sock.socket.set_write_timeout(Some(Duration::from_millis(1))).expect("a limit");
    for first in (1..=60_000u16).step_by(1000).cycle().take(100) {
        let answer = |id: u16| [0xB0, 2, id.to_be_bytes()[0], id.to_be_bytes()[1]];
        greedy.expect(&(first..first + 1000).flat_map(answer).collect::<Vec<u8>>());
    }
    assert!(broker.memory() < 200_000_000);
}

#[test]
fn client_certificates_are_checked_and_give_the_user_name() {
    let pki = pki_or_return!();
    let more = format!("{MUTUAL}crlfile PKI/crl.pem\nuse_identity_as_username true");
    let (broker, addr) = start(pki, &more);
    for version in [&TLS12, &TLS13] {
        let config = |name| client_config(pki, &[version], name);
        let mut alice = Tls::connect(addr, &config(Some("alice")), 4, "a");
        alice.ping();
        broker.wait_for_log("as a (p4, c1, k60, u'alice').", PATIENT);
        for (name, alert, words) in [
            (Some("expired"), "CertificateExpired", "expired"),
            (Some("revoked"), "CertificateRevoked", "revoked"),
            (Some("stranger"), "UnknownCA", "authority"),
            (None, "CertificateRequired", "the client sent no certificate"),
        ] {
            let mark = broker.log_mark();
            let told = refusal(addr, &config(name));
            assert!(told.contains(alert), "{name:?}: {told}");
            broker.wait_for_log_after(mark, "Client connection from 127.0.0.1:", PATIENT);
            broker.wait_for_log_after(mark, "disconnected: bad socket read/write: A TLS error occurred", PATIENT);
            let log = broker.log_after(mark);
            assert!(log.contains(" failed: ") && log.contains(words), "{name:?}: {log}");
        }
    }
}

#[test]
fn whoever_speaks_the_other_way_is_told_from_the_log() {
    let pki = pki_or_return!();
    let (broker, addr) = start(pki, "");
    let mark = broker.log_mark();
    let mut plain = Client::open(addr);
    plain.send(&connect(4, "plain"));
    while plain.recv(1).is_ok() {}
    plain.expect_closed();
    broker.wait_for_log_after(mark, "failed: the client does not speak TLS.", PATIENT);
    let config = client_config(pki, &[&TLS13], None);
    refusal(broker.addr(), &config);
    broker.wait_for_log_after(mark, "appears to be using TLS to connect to a non-TLS listener.", PATIENT);
    // A client that does not like the certificate.
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pki.join("other.crt")).expect("an authority")).expect("a root");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_protocol_versions(&[&TLS13]).expect("versions");
    refusal(addr, &Arc::new(builder.with_root_certificates(roots).with_no_client_auth()));
    broker.wait_for_log_after(mark, "does not trust the authority of this listener's certificate", PATIENT);
}

#[test]
fn half_handshakes_wait_and_hold_up_nobody() {
    let pki = pki_or_return!();
    let (broker, addr) = start(pki, "");
    let mut hello = Vec::new();
    let config = client_config(pki, &[&TLS13], None);
    let mut connection =
        ClientConnection::new(Arc::clone(&config), ServerName::try_from("localhost").expect("a name")).expect("it");
    connection.write_tls(&mut hello).expect("a hello");
    // Half a hello, a whole one without any more, and rubbish within a hello.
    let mut waiting: Vec<Client> = (0..300)
        .map(|n| {
            let mut client = Client::open(addr);
            client.send(match n % 3 {
                0 => &hello[..hello.len() / 2],
                1 => &hello,
                _ => &hello[..7],
            });
            client
        })
        .collect();
    Client::connect(broker.addr(), 4, "plain").ping();
    Tls::connect(addr, &config, 5, "encrypted").ping();
    for client in waiting.iter_mut().step_by(3) {
        client.send(&vec![0xFF; 20_000]);
        while client.recv(1).is_ok() {}
        client.expect_closed();
    }
    Tls::connect(addr, &config, 5, "afterwards").ping();
    assert!(broker.memory() < 100_000_000);
}

#[test]
fn a_reload_takes_new_files_and_a_bad_one_changes_nothing() {
    let pki = pki_or_return!();
    let dir = std::env::temp_dir().join(format!("mosquitto-it-tls-reload-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    let put = |name: &str| {
        for ending in ["crt", "key"] {
            fs::copy(pki.join(format!("{name}.{ending}")), dir.join(format!("live.{ending}"))).expect("a copy");
        }
    };
    put("server");
    let port = free_port();
    let lines = listener(&dir, port, "live", "");
    let broker = Broker::start_with(&lines);
    broker.wait_for_log(concat!("mosquitto version ", env!("CARGO_PKG_VERSION"), " running"), PATIENT);
    let addr: SocketAddr = ([127, 0, 0, 1], port).into();
    let config = client_config(pki, &[&TLS13], None);
    let hup = |done: &str| {
        let mark = broker.log_mark();
        broker.signal("HUP");
        broker.wait_for_log_after(mark, done, PATIENT);
        broker.log_after(mark)
    };
    let mut stays = Tls::connect(addr, &config, 4, "stays");
    assert_eq!(stays.certificate(), der(pki, "server"));
    stays.send(&subscribe(4, 1, "t", 0));
    stays.expect(&[0x90, 3, 0, 1, 0]);
    put("second");
    hup("Config reloaded.");
    let message = publish(4, 0, "t", 0, &vec![b'x'; 50_000]);
    let chat = |stays: &mut Tls| {
        stays.send(&message);
        stays.expect(&message);
    };
    chat(&mut stays);
    assert_eq!(Tls::connect(addr, &config, 4, "new").certificate(), der(pki, "second"));
    // Half of a pair, and no certificate at all.
    fs::copy(pki.join("server.key"), dir.join("live.key")).expect("a copy");
    let log = hup("The configuration was not reloaded");
    assert!(log.contains("Error when reloading certificate '"), "{log}");
    assert!(log.contains("Server certificate/key are inconsistent."), "{log}");
    fs::write(dir.join("live.crt"), "nothing").expect("a file");
    hup("The configuration was not reloaded");
    chat(&mut stays);
    assert_eq!(Tls::connect(addr, &config, 4, "new").certificate(), der(pki, "second"));
    // Client certificates from now on; who is there stays.
    put("server");
    let live = dir.display().to_string();
    let mutual = lines.clone() + &format!("cafile {}/ca.crt\nrequire_certificate true", pki.display());
    assert!(mutual.contains(&live));
    broker.write_config(&mutual);
    hup("Config reloaded.");
    chat(&mut stays);
    refusal(addr, &config);
    let alice = client_config(pki, &[&TLS13], Some("alice"));
    Tls::connect(addr, &alice, 4, "alice").ping();
    // Without TLS it is another listener.
    broker.write_config(&format!("listener {port} 127.0.0.1"));
    hup("Config reloaded.");
    stays.expect_goodbye();
    Client::connect(addr, 4, "plain").ping();
    broker.write_config(&mutual);
    hup("Config reloaded.");
    Tls::connect(addr, &alice, 4, "alice").ping();
    fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn traffic_goes_on_through_many_reloads() {
    let pki = pki_or_return!();
    let (broker, addr) = start(pki, "");
    let config = client_config(pki, &[&TLS12, &TLS13], None);
    let mut clients: Vec<Tls> = (0..10).map(|n| Tls::connect(addr, &config, 4, &format!("c{n}"))).collect();
    for client in &mut clients {
        client.send(&subscribe(4, 1, "all", 0));
        client.expect(&[0x90, 3, 0, 1, 0]);
    }
    for round in 0..10u8 {
        let mark = broker.log_mark();
        broker.signal("HUP");
        for n in 0..clients.len() {
            let message = publish(4, 0, "all", 0, &vec![round; 3000]);
            clients[n].send(&message);
            for client in &mut clients {
                client.expect(&message);
            }
        }
        broker.wait_for_log_after(mark, "Config reloaded.", PATIENT);
        Tls::connect(addr, &config, 5, "passing").ping();
    }
}

#[test]
fn a_start_with_wrong_files_ends_with_status_1_and_the_test_finds_them() {
    let pki = pki_or_return!();
    let dir = std::env::temp_dir().join(format!("mosquitto-it-tls-start-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    let path = |name: &str| pki.join(name).display().to_string();
    let pair = |certificate: &str, key: &str| format!("certfile {}\nkeyfile {}\n", path(certificate), path(key));
    let good = pair("server.crt", "server.key");
    for (lines, words) in [
        (pair("missing.crt", "server.key"), "Unable to load server certificate"),
        (pair("server.crt", "missing.key"), "Unable to load server key file"),
        (pair("server.crt", "second.key"), "Server certificate/key are inconsistent."),
        (format!("{good}cafile {}\nrequire_certificate true", path("missing.crt")), "Unable to load CA certificates"),
        (format!("{good}cafile {}\ncrlfile /nowhere\nrequire_certificate true", path("ca.crt")), "revocation file"),
        (format!("{good}ciphers nonsense"), "Unable to set TLS ciphers. Check cipher list \"nonsense\"."),
        (format!("{good}ciphers_tls1.3 nonsense"), "Unable to set TLS 1.3 ciphersuites."),
    ] {
        let config = dir.join("mosquitto.conf");
        fs::write(&config, format!("listener {} 127.0.0.1\n{lines}\n", free_port())).expect("a config file");
        for test in [&[][..], &["--test-config"]] {
            let ended = Command::new(program()).arg("-c").arg(&config).args(test).output().expect("a broker");
            let log = String::from_utf8_lossy(&ended.stderr);
            assert_eq!(ended.status.code(), Some(1), "{lines}: {log}");
            assert!(log.contains(words), "{lines}: {log}");
        }
    }
    fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn a_certificate_that_ends_soon_is_told() {
    let pki = pki_or_return!();
    let (port, soon) = (free_port(), free_port());
    let lines = listener(pki, port, "server", "") + &listener(pki, soon, "soon", "");
    let broker = Broker::start_with(&lines);
    broker.wait_for_log(&format!("of listener {soon} on 127.0.0.1 expires in "), PATIENT);
    let mark = broker.log_mark();
    broker.signal("HUP");
    broker.wait_for_log_after(mark, "Config reloaded.", PATIENT);
    assert_eq!(broker.log_text().matches("expires in").count(), 1, "{}", broker.log_text());
    if cfg!(feature = "sys-tree") {
        let mut client = Client::connect(broker.addr(), 4, "watch");
        for (port, days) in [(port, 300), (soon, 5)] {
            let topic = format!("$SYS/broker/listener/{port}/tls/days");
            client.send(&subscribe(4, 1, &topic, 0));
            client.expect(&[0x90, 3, 0, 1, 0]);
            let told = String::from_utf8(client.packet()).expect("text");
            // The last day has begun, if only just.
            assert!([days, days - 1].iter().any(|days| told.ends_with(&format!("/days{days}"))), "{told}");
        }
    }
}

#[test]
fn the_secrets_go_to_a_private_file_when_asked_for() {
    let pki = pki_or_return!();
    let dir = std::env::temp_dir().join(format!("mosquitto-it-tls-keys-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    let (config, keys, port) = (dir.join("mosquitto.conf"), dir.join("keys"), free_port());
    let lines = listener(pki, port, "server", "") + "allow_anonymous true\nuser root\n";
    fs::write(&config, lines).expect("a config file");
    let run = || {
        let mut command = Command::new(program());
        command.arg("-c").arg(&config).arg("--tls-keylog").arg(&keys).stderr(Stdio::piped());
        command
    };
    fs::write(&keys, "").expect("a file");
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o644)).expect("for all");
    let ended = run().output().expect("a broker");
    let log = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(1) && log.contains("others can read it"), "{log}");
    fs::remove_file(&keys).expect("removed");
    let mut child = run().stderr(Stdio::null()).spawn().expect("a broker");
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let deadline = Instant::now() + PATIENT;
    while TcpStream::connect(addr).is_err() {
        assert!(Instant::now() < deadline, "no broker");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    Tls::connect(addr, &client_config(pki, &[&TLS13], None), 4, "seen").ping();
    child.kill().expect("ended");
    child.wait().expect("ended");
    let text = fs::read_to_string(&keys).expect("the file");
    assert!(text.contains("CLIENT_TRAFFIC_SECRET_0 ") && text.contains("SERVER_TRAFFIC_SECRET_0 "), "{text}");
    assert_eq!(fs::metadata(&keys).expect("the file").permissions().mode() & 0o777, 0o600);
    fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn openssl_and_debians_clients_are_served() {
    let pki = pki_or_return!();
    let (broker, addr) = start(pki, "");
    let (port, ca) = (addr.port().to_string(), pki.join("ca.crt"));
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let mut client = Command::new("openssl")
            .args(["s_client", "-connect", &addr.to_string(), "-CAfile"])
            .arg(&ca)
            // Nothing is selected of what it offers, and that is no reason to refuse it.
            .args(["-verify_return_error", "-quiet", "-no_ign_eof", "-alpn", "mqtt,h2", version])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl");
        let mut input = client.stdin.take().expect("a pipe");
        input.write_all(&connect(4, name)).expect("written");
        let mut ack = [0; 4];
        client.stdout.take().expect("a pipe").read_exact(&mut ack).expect("a CONNACK");
        assert_eq!(ack, [0x20, 2, 0, 0]);
        broker.wait_for_log(&format!("Client {name} negotiated {name} cipher "), PATIENT);
        drop(input);
        client.wait().expect("its end");
    }
    for old in ["-tls1", "-tls1_1"] {
        let mut client = Command::new("openssl");
        client.args(["s_client", "-connect", &addr.to_string(), old, "-cipher", "DEFAULT:@SECLEVEL=0"]);
        let mark = broker.log_mark();
        let ended = client.stdin(Stdio::null()).output().expect("openssl");
        assert!(!ended.status.success(), "{old}");
        broker.wait_for_log_after(mark, " failed: the client speaks only TLS 1.1 or older.", PATIENT);
    }
    if Command::new("mosquitto_sub").arg("--help").stdout(Stdio::null()).status().is_err() {
        return crate::broker::note("tls: there is no mosquitto_sub");
    }
    let common = ["-h", "localhost", "-p", &port, "--cafile", ca.to_str().expect("a name")];
    let mut subscriber = Command::new("mosquitto_sub")
        .args(common)
        .args(["-t", "debian", "-C", "1", "-W", "10", "-i", "debian-sub"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("mosquitto_sub");
    broker.wait_for_log("Sending SUBACK to debian-sub", PATIENT);
    let sent = Command::new("mosquitto_pub").args(common).args(["-t", "debian", "-q", "2", "-m", "hello"]).status();
    assert!(sent.expect("mosquitto_pub").success());
    let mut text = String::new();
    subscriber.stdout.take().expect("a pipe").read_to_string(&mut text).expect("text");
    assert!(subscriber.wait().expect("its end").success());
    assert_eq!(text, "hello\n");
}

/// As tutorials make them: version 1, a common name and no extensions.
const TUTORIAL: &str = r#"
set -e
openssl req -new -x509 -days 3650 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj "/O=Test/CN=CA"
make() {
    openssl genrsa -out $1.key 2048
    openssl req -new -out $1.csr -key $1.key -subj "/O=Test/CN=$2"
    openssl x509 -req -in $1.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out $1.crt -days 365
}
make server localhost
make client alice
chmod 0755 .
chmod 0644 *
"#;

#[test]
fn certificates_of_tutorials_work_and_the_log_says_where_they_do_not() {
    pki_or_return!();
    let dir = std::env::temp_dir().join(format!("mosquitto-it-tls-tutorial-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    let made = Command::new("sh").args(["-c", TUTORIAL]).current_dir(&dir).output().expect("a shell");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (broker, addr) = start(&dir, &format!("{MUTUAL}use_identity_as_username true"));
    assert!(broker.log_text().contains("server.crt\" is of X.509 version 1, which many clients refuse."));
    // A library that does not read them.
    let told = refusal(addr, &client_config(&dir, &[&TLS13], None));
    assert!(told.contains("UnsupportedCertVersion"), "{told}");
    broker.wait_for_log("failed: the client ", PATIENT);
    if Command::new("mosquitto_pub").arg("--help").stdout(Stdio::null()).status().is_err() {
        return crate::broker::note("tls: there is no mosquitto_pub");
    }
    let [ca, certificate, key] = ["ca.crt", "client.crt", "client.key"].map(|name| dir.join(name));
    let publish = |host: &str| {
        let mut client = Command::new("mosquitto_pub");
        client.args(["-h", host, "-p", &addr.port().to_string(), "-t", "t", "-m", "m", "-q", "1", "-i", "tutorial"]);
        client.arg("--cafile").arg(&ca).arg("--cert").arg(&certificate).arg("--key").arg(&key);
        client.output().expect("mosquitto_pub").status.success()
    };
    assert!(publish("localhost"));
    broker.wait_for_log("as tutorial (p4, c1, k60, u'alice').", PATIENT);
    assert!(!publish("127.0.0.1"), "another name");
    broker.wait_for_log(
        "failed: the client had an internal error, as mosquitto's clients call a wrong host name",
        PATIENT,
    );
    fs::remove_dir_all(&dir).expect("removed");
}

#[cfg(feature = "proxy")]
#[test]
fn a_proxy_that_passes_tls_on_says_first_who_it_is() {
    let pki = pki_or_return!();
    let (broker, addr) = start(pki, "enable_proxy_protocol 1");
    let config = client_config(pki, &[&TLS13], None);
    let mut socket = TcpStream::connect(addr).expect("a connection");
    for piece in [&b"PROXY TCP4 1.2.3.4"[..], b" 5.6.7.8 1000 8883\r\n"] {
        socket.write_all(piece).expect("written");
    }
    let mut client = Tls::over(socket, &config, 3);
    client.enter(5, "behind");
    broker.wait_for_log("New client connected from 1.2.3.4:1000 as behind", PATIENT);
    client.ping();
    // TLS without the header.
    refusal(addr, &config);
    broker.wait_for_log("rejected, corrupt PROXY header.", PATIENT);
}

#[cfg(feature = "metrics")]
#[test]
fn a_metrics_page_can_be_encrypted() {
    let pki = pki_or_return!();
    let (_broker, addr) = start(pki, "protocol metrics");
    let mut client = Tls::open(addr, &client_config(pki, &[&TLS13], None), usize::MAX);
    client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut page = String::new();
    client.0.read_to_string(&mut page).expect("a page and close_notify");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("\n# TYPE "), "{page}");
}

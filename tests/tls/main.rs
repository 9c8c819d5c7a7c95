//! What a TLS connection costs: heap bytes while it is idle, and processor time for its handshake. One test, because it
//! counts every byte of its process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mosquitto::net::tls::{ServerTls, TlsOptions, TlsStream};
use mosquitto::os::alloc::{Counting, current_bytes};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

#[global_allocator]
static HEAP: Counting = Counting;

/// The goal for TLS 1.3 without client certificate.
const MOST_IDLE: usize = 4096;
const CONNECTIONS: usize = 200;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/tls").join(name)
}

fn listener(require_certificate: bool) -> ServerTls {
    let options = TlsOptions {
        certfile: Some(file("cert.pem")),
        keyfile: Some(file("key.pem")),
        cafile: Some(file("cert.pem")),
        require_certificate,
        ..TlsOptions::default()
    };
    ServerTls::load(&options, None).unwrap().tls
}

fn client(is_tls13: bool, certificate: bool) -> Arc<ClientConfig> {
    let der = || CertificateDer::from_pem_file(file("cert.pem")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(der()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[if is_tls13 { &TLS13 } else { &TLS12 }])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = if certificate {
        let key = PrivateKeyDer::from_pem_file(file("key.pem")).unwrap();
        builder.with_client_auth_cert(vec![der()], key).unwrap()
    } else {
        builder.with_no_client_auth()
    };
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

/// A whole handshake, and the time that the broker's side took.
fn connect(tls: &ServerTls, config: &Arc<ClientConfig>) -> (Box<TlsStream>, Duration) {
    let mut client = ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost").unwrap()).unwrap();
    let started = Instant::now();
    let mut server = Box::new(tls.accept().unwrap());
    let mut spent = started.elapsed();
    let (mut flight, mut plain) = (Vec::new(), Vec::new());
    loop {
        flight.clear();
        while client.wants_write() {
            client.write_tls(&mut flight).unwrap();
        }
        let started = Instant::now();
        server.read(&mut flight, &mut plain).unwrap();
        spent += started.elapsed();
        let mut answer = server.pending();
        if flight.is_empty() && answer.is_empty() {
            break;
        }
        while !answer.is_empty() {
            client.read_tls(&mut answer).unwrap();
            client.process_new_packets().unwrap();
        }
        server.advance(usize::MAX);
    }
    assert!(!server.is_handshaking() && server.buffered() == 0 && plain.is_empty());
    (server, spent)
}

#[test]
fn an_idle_connection_has_4_kib_at_most() {
    for (is_tls13, certificate) in [(true, false), (false, false), (true, true), (false, true)] {
        let tls = listener(certificate);
        let config = client(is_tls13, certificate);
        // What is made once: tables, the ticketer's keys.
        drop(connect(&tls, &config));
        let mut held = Vec::with_capacity(CONNECTIONS);
        let before = current_bytes();
        let mut spent = Duration::ZERO;
        for _ in 0..CONNECTIONS {
            let (server, time) = connect(&tls, &config);
            held.push(server);
            spent += time;
        }
        let each = (current_bytes() - before) / CONNECTIONS;
        let version = if is_tls13 { "1.3" } else { "1.2" };
        let what = if certificate { "with" } else { "without" };
        let rate = CONNECTIONS as f64 / spent.as_secs_f64();
        println!(
            "TLS {version} {what} client certificate: {each} bytes for each idle connection, {} of them its own struct; \
             {rate:.0} handshakes a second",
            size_of::<TlsStream>()
        );
        assert!(each <= MOST_IDLE || !is_tls13 || certificate, "{each} bytes");
        drop(held);
        assert!(current_bytes().abs_diff(before) < 2000, "something stayed behind");
    }
}

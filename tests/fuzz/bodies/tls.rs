//! One side of TLS against a client of the library: garbage, valid handshakes with changes, and any cut of the stream.
//! What the broker reads is always the start of what the client wrote, and all of it when nothing was changed.

use std::io::{IoSlice, Write};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use mosquitto::net::tls::{ServerTls, TlsOptions, TlsStream};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::{Random, byte};

/// Buffers that one connection may have: an unfinished handshake, and the answer to it.
const MOST_BUFFERED: usize = 100_000;

/// Listeners and clients without and with client certificates, made once: of the listener's files, which are only read.
struct Made {
    listeners: [ServerTls; 2],
    /// By version, then by certificate.
    clients: [[Arc<ClientConfig>; 2]; 2],
}

fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = if here.ends_with("fuzz") { here.join("tls") } else { here.join("tests/fuzz/tls") };
        let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        let listener = |require_certificate| {
            let options = TlsOptions {
                certfile: Some(cert.clone()),
                keyfile: Some(key.clone()),
                cafile: Some(cert.clone()),
                require_certificate,
                ..TlsOptions::default()
            };
            ServerTls::load(&options, None).unwrap().tls
        };
        let client = |is_tls13, certificate| {
            let der = || CertificateDer::from_pem_file(&cert).unwrap();
            let mut roots = RootCertStore::empty();
            roots.add(der()).unwrap();
            let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_protocol_versions(&[if is_tls13 { &TLS13 } else { &TLS12 }])
                .unwrap()
                .with_root_certificates(roots);
            let key = PrivateKeyDer::from_pem_file(&key).unwrap();
            let mut config = match certificate {
                true => builder.with_client_auth_cert(vec![der()], key).unwrap(),
                false => builder.with_no_client_auth(),
            };
            // Each run is to be like the one before.
            config.resumption = rustls::client::Resumption::disabled();
            Arc::new(config)
        };
        Made {
            listeners: [listener(false), listener(true)],
            clients: [[client(false, false), client(false, true)], [client(true, false), client(true, true)]],
        }
    })
}

/// Both sides.
struct Pair {
    client: ClientConnection,
    server: TlsStream,
    said: Vec<u8>,
    heard: Vec<u8>,
    changed: bool,
    failed: bool,
    random: Random,
}

/// First byte: TLS 1.3, client certificate, whether garbage follows instead of a script, and whether it comes after the
/// handshake. Then 4 bytes of seed, and the garbage or the script.
pub fn tls(mut data: &[u8]) {
    let choice = byte(&mut data);
    let seed = (0..4).fold(1, |seed, _| seed << 8 | u64::from(byte(&mut data)));
    let (version, certificate) = (usize::from(choice & 1), usize::from(choice >> 1 & 1));
    let made = made();
    let name = ServerName::try_from("localhost").unwrap();
    let mut pair = Pair {
        client: ClientConnection::new(Arc::clone(&made.clients[version][certificate]), name).unwrap(),
        server: made.listeners[certificate].accept().unwrap(),
        said: Vec::new(),
        heard: Vec::new(),
        changed: false,
        failed: false,
        random: Random(seed),
    };
    if choice & 4 == 0 {
        pair.play(data);
    } else {
        if choice & 8 != 0 {
            pair.shake();
        }
        pair.changed = true;
        pair.hand_over(data.to_vec());
    }
    pair.check_end();
}

impl Pair {
    fn play(&mut self, script: &[u8]) {
        let mut new_keys = 0;
        for step in script.iter().take(64) {
            let size = usize::from(step >> 3);
            match step & 7 {
                0 => drop(self.exchange(None)),
                1 => self.shake(),
                2 => self.client_says(size * size * 40),
                3 => self.server_says(size * size * 40),
                4 => drop(self.exchange(Some(size))),
                // Refused during the handshake and by TLS 1.2; too many in a row end the connection.
                5 if new_keys < 30 => {
                    new_keys += 1;
                    let _refused = self.client.refresh_traffic_keys();
                }
                5 => {}
                // The library minds the end in the middle of a handshake, on the client's side.
                6 if self.client.is_handshaking() => {}
                6 => self.client.send_close_notify(),
                _ => self.server.close(),
            }
            if self.failed {
                return;
            }
        }
        if !self.changed {
            while self.exchange(None) {}
        }
    }

    fn shake(&mut self) {
        while self.exchange(None) {}
    }

    fn client_says(&mut self, len: usize) {
        let plain: Vec<u8> = (0..len).map(|_| self.random.below(256).to_le_bytes()[0]).collect();
        self.client.set_buffer_limit(None);
        if !self.client.is_handshaking() && self.client.writer().write_all(&plain).is_ok() {
            self.said.extend_from_slice(&plain);
        }
    }

    fn server_says(&mut self, len: usize) {
        let plain = vec![7; len];
        let (one, two) = plain.split_at(self.random.below(len + 1));
        let ready = !self.server.is_handshaking();
        let n = self.server.write(&[IoSlice::new(one), IoSlice::new(two)], &mut Vec::new()).unwrap();
        assert!(n <= len && (ready || n == 0), "encrypted {n} of {len}");
    }

    /// One flight each way, the client's with a change if one is asked for. True when there was something.
    fn exchange(&mut self, change: Option<usize>) -> bool {
        let mut flight = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut flight).unwrap();
        }
        if let Some(kind) = change.filter(|_| !flight.is_empty()) {
            self.changed = true;
            change_bytes(&mut flight, kind, &mut self.random);
        }
        let mut moved = !flight.is_empty();
        self.hand_over(flight);
        let pending = self.server.pending().to_vec();
        // Half of it first, as a full socket would have it.
        self.server.advance(pending.len() / 2);
        assert_eq!(self.server.pending(), &pending[pending.len() / 2..]);
        self.server.advance(pending.len() - pending.len() / 2);
        assert!(self.server.pending().is_empty());
        let mut rest = &pending[..];
        while !rest.is_empty() && !self.failed {
            moved = true;
            // Full when nobody reads what the server says.
            let mut sink = [0; 4096];
            while std::io::Read::read(&mut self.client.reader(), &mut sink).is_ok_and(|n| n > 0) {}
            match self.client.read_tls(&mut rest) {
                Ok(0) => break,
                Ok(_) => {}
                Err(_) => continue,
            }
            if let Err(error) = self.client.process_new_packets() {
                assert!(self.changed, "{error}");
                self.failed = true;
            }
        }
        moved && !self.failed
    }

    /// Gives the server bytes in pieces of any size.
    fn hand_over(&mut self, mut bytes: Vec<u8>) {
        let most = [1, 7, 600, 20_000][self.random.below(4)];
        let mut rest = &mut bytes[..];
        while !rest.is_empty() {
            let cut = 1 + self.random.below(most.min(rest.len()));
            let (piece, later) = rest.split_at_mut(cut);
            rest = later;
            let (before, finished) = (self.heard.len(), self.server.is_finished());
            let result = self.server.read(piece, &mut self.heard);
            assert!(self.server.buffered() < MOST_BUFFERED, "{} bytes", self.server.buffered());
            match result {
                Ok(()) => assert!(!finished || self.heard.len() == before, "read after the end"),
                Err(error) => {
                    assert!(self.changed, "{error}");
                    assert!(!finished && self.server.is_finished() && !error.to_string().is_empty());
                    self.failed = true;
                }
            }
        }
    }

    fn check_end(&mut self) {
        assert!(self.said.starts_with(&self.heard), "not what the client said");
        let _ = (self.server.identity(), self.server.subject(), self.server.negotiated());
        if !self.changed {
            assert!(self.heard == self.said || self.server.is_finished(), "something is missing");
            self.server.advance(usize::MAX);
            assert_eq!(self.server.buffered(), 0, "idle with buffers");
        }
        if self.failed && self.server.is_finished() {
            assert_eq!(
                self.server.write(&[IoSlice::new(b"x")], &mut Vec::new()).unwrap_or(0),
                0,
                "written after the end"
            );
        }
        self.server.close();
        self.server.close();
    }
}

fn change_bytes(bytes: &mut Vec<u8>, kind: usize, random: &mut Random) {
    let at = random.below(bytes.len());
    let len = (1 + random.below(40)).min(bytes.len() - at);
    match kind % 6 {
        0 => bytes[at] ^= 1 << random.below(8),
        // The head of the first record.
        1 => bytes[at % 5] = random.below(256).to_le_bytes()[0],
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..at + len)),
        4 => drop(bytes.splice(at..at, bytes[at..at + len].to_vec()).count()),
        _ => bytes.insert(at, random.below(256).to_le_bytes()[0]),
    }
}

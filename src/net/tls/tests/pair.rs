//! A client of the library and a stream of ours, joined in memory.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};

use crate::net::tls::{ServerTls, TlsStream};

/// A clock that stands still.
#[derive(Debug)]
pub(super) struct Clock(u64);

impl Clock {
    pub(super) fn days_from_now(days: i64) -> Arc<Clock> {
        Arc::new(Clock(crate::os::clock::wall_s().saturating_add_signed(days * 86_400)))
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}

/// Files joined into one, `a+b` with `pem` for `a.pem` and `b.pem`.
pub(super) fn joined(dir: &Path, names: &str, extension: &str) -> PathBuf {
    let file = |name: &str| dir.join(format!("{name}.{extension}"));
    if !names.contains('+') {
        return file(names);
    }
    let all: Vec<u8> = names.split('+').flat_map(|name| std::fs::read(file(name)).unwrap()).collect();
    std::fs::write(file(names), all).unwrap();
    file(names)
}

/// A client that is yet to be made.
pub(super) struct Client<'a> {
    dir: &'a Path,
    is_tls13: bool,
    certificate: &'a str,
}

pub(super) fn client(dir: &Path) -> Client<'_> {
    Client { dir, is_tls13: true, certificate: "" }
}

impl<'a> Client<'a> {
    pub(super) fn tls13(mut self, is_tls13: bool) -> Client<'a> {
        self.is_tls13 = is_tls13;
        self
    }

    /// Its certificate, with others to send joined by `+`.
    pub(super) fn certificate(mut self, name: &'a str) -> Client<'a> {
        self.certificate = name;
        self
    }

    pub(super) fn config(self) -> Arc<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[if self.is_tls13 { &TLS13 } else { &TLS12 }])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAll(Arc::clone(&provider))));
        let Some(first) = self.certificate.split('+').next().filter(|name| !name.is_empty()) else {
            return Arc::new(builder.with_no_client_auth());
        };
        let chain = self.certificate.split('+').map(|name| self.dir.join(format!("{name}.crt")));
        let chain = chain.map(|file| CertificateDer::from_pem_file(file).unwrap()).collect();
        let key = PrivateKeyDer::from_pem_file(self.dir.join(format!("{first}.key"))).unwrap();
        let key = provider.key_provider.load_private_key(key).unwrap();
        Arc::new(builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)))))
    }

    pub(super) fn build(self) -> ClientConnection {
        connect(&self.config())
    }
}

pub(super) fn connect(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost").unwrap()).unwrap()
}

/// Both sides.
pub(super) struct Pair {
    pub(super) client: ClientConnection,
    pub(super) server: TlsStream,
    /// What the server got from the client.
    pub(super) heard: Vec<u8>,
    /// Bytes handed to the server at once.
    pub(super) step: usize,
}

/// How a handshake failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// What the client was told.
    pub(super) alert: Option<AlertDescription>,
    /// What the log says.
    pub(super) words: String,
}

impl Pair {
    pub(super) fn new(tls: &ServerTls, client: ClientConnection) -> Pair {
        Pair { client, server: tls.accept().unwrap(), heard: Vec::new(), step: usize::MAX }
    }

    /// Everything the client has to send.
    fn client_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    fn send_to_server(&mut self) -> Result<(), String> {
        let mut bytes = self.client_bytes();
        let step = self.step.min(bytes.len()).max(1);
        for piece in bytes.chunks_mut(step) {
            self.server.read(piece, &mut self.heard).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    pub(super) fn send_to_client(&mut self) -> Result<(), Error> {
        let bytes = self.server.pending().to_vec();
        self.server.advance(bytes.len());
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            self.client.read_tls(&mut rest).unwrap();
            self.client.process_new_packets()?;
        }
        Ok(())
    }

    /// The whole handshake, with what follows it.
    pub(super) fn shake(&mut self) -> Result<(), Failure> {
        for _ in 0..10 {
            let sent = self.send_to_server();
            let received = self.send_to_client();
            let alert = match received {
                Err(Error::AlertReceived(alert)) => Some(alert),
                Err(error) => panic!("the client says {error}"),
                Ok(()) => None,
            };
            if let Err(words) = sent {
                return Err(Failure { alert, words });
            }
        }
        assert!(!self.client.is_handshaking() && !self.server.is_handshaking());
        Ok(())
    }

    pub(super) fn client_encrypts(&mut self, plain: &[u8]) -> Vec<u8> {
        std::io::Write::write_all(&mut self.client.writer(), plain).unwrap();
        self.client_bytes()
    }

    pub(super) fn client_says(&mut self, plain: &[u8]) -> Result<(), String> {
        std::io::Write::write_all(&mut self.client.writer(), plain).unwrap();
        self.send_to_server()
    }

    /// Sends all of it and returns what the client got.
    pub(super) fn server_says(&mut self, parts: &[IoSlice<'_>]) -> Vec<u8> {
        let all: Vec<u8> = parts.iter().flat_map(|part| part.to_vec()).collect();
        let (mut gather, mut got, mut at) = (Vec::new(), Vec::new(), 0);
        while at < all.len() {
            let (one, two) = all[at..].split_at((all.len() - at) / 3);
            at += self.server.write(&[IoSlice::new(one), IoSlice::new(two)], &mut gather).unwrap();
            self.send_to_client().unwrap();
            let mut buffer = [0; 20_000];
            while let Ok(n @ 1..) = std::io::Read::read(&mut self.client.reader(), &mut buffer) {
                got.extend_from_slice(&buffer[..n]);
            }
        }
        got
    }
}

/// Trusts every server: what it sends is looked at elsewhere.
#[derive(Debug)]
struct AcceptAll(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

//! TLS for listeners and bridges: the only place that knows `rustls`. It reads the files of the configuration, checks client
//! certificates, and gives each connection a [`TlsStream`]; it must not touch sockets.
//!
//! [`ServerTls::load`] makes all of a listener's TLS at once, so a reload is: load again, and put the new one in the place
//! of the old one when that went well. Connections keep what they were accepted with. The keys of session tickets are
//! made anew each time, so nobody resumes a session that another authority or list let in. Of what a client offers by ALPN
//! nothing is selected, as in C Mosquitto: a listener speaks one protocol.

mod ciphers;
pub mod client;
mod error;
mod keylog;
mod load;
mod names;
mod stream;
mod verify;
mod x509;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, WantsVerifier, crypto::ring};

pub use crate::config::{TlsOptions, TlsVersion};
pub use error::{TlsError, TlsLoadError};
pub use keylog::KeyLogFile;
pub use stream::TlsStream;

use ciphers::CipherError;

/// Session tickets for each TLS 1.3 handshake without client certificate. A client spends one for each connection and gets
/// as many new ones, so one is enough for whoever comes back. They take no memory of an idle connection (3.2 KiB with 0, 1
/// or 2), but each costs some 4 % of the handshake's time and a packet of 200 bytes.
const TICKETS: usize = 1;

/// Seconds of a day.
const DAY_S: u64 = 86_400;

/// TLS of one listener. Cheap to clone.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    not_after: u64,
}

/// What [`ServerTls::load`] gives.
#[derive(Debug)]
pub struct LoadedTls {
    /// The listener's TLS.
    pub tls: ServerTls,
    /// Lines worth logging as warnings: things that work, but not for everyone or not for ever.
    pub notes: Vec<String>,
}

impl ServerTls {
    /// Reads every file that the options name and makes a listener's TLS of them.
    ///
    /// # Errors
    /// The first file or option that cannot be used.
    pub fn load(options: &TlsOptions, key_log: Option<&KeyLogFile>) -> Result<LoadedTls, TlsLoadError> {
        ServerTls::load_at(options, key_log, Arc::new(SystemTime))
    }

    fn load_at(
        options: &TlsOptions,
        key_log: Option<&KeyLogFile>,
        time: Arc<dyn TimeProvider>,
    ) -> Result<LoadedTls, TlsLoadError> {
        let mut notes = Vec::new();
        let provider = Arc::new(provider(options)?);
        let authorities = load::authorities(options, &mut notes)?;
        let own = load::own(options, &authorities, &provider, &mut notes)?;
        let library = |error: rustls::Error| TlsLoadError::Library(error.to_string());
        let versions: &[_] = match options.tls_version {
            TlsVersion::Tls12 => &[&TLS13, &TLS12],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_details(Arc::clone(&provider), time);
        let builder: rustls::ConfigBuilder<ServerConfig, WantsVerifier> =
            builder.with_protocol_versions(versions).map_err(library)?;
        let builder = if options.require_certificate {
            let verifier = load::client_verifier(options, &authorities, &provider, &mut notes)?;
            builder.with_client_cert_verifier(Arc::new(verifier))
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(own.key)));
        // As in C: our order counts.
        config.ignore_client_order = true;
        // Tickets remember for us; memory for sessions of those who never come back would be wasted.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if options.require_certificate {
            // A resumed session is not checked against dates and lists again, and a ticket would carry the certificate.
            config.send_tls13_tickets = 0;
        } else {
            config.ticketer = ring::Ticketer::new().map_err(library)?;
            config.send_tls13_tickets = TICKETS;
        }
        if let Some(file) = key_log {
            config.key_log = Arc::new(file.clone());
        }
        Ok(LoadedTls { tls: ServerTls { config: Arc::new(config), not_after: own.not_after }, notes })
    }

    /// TLS for a new connection.
    ///
    /// # Errors
    /// The library refuses, which it does not for what [`ServerTls::load`] made.
    pub fn accept(&self) -> Result<TlsStream, TlsError> {
        TlsStream::new(Arc::clone(&self.config))
    }

    /// Whole days until the listener's certificate ends, seen from `now_s`, in seconds since 1970. Negative once it has
    /// ended.
    #[must_use]
    pub fn days_left(&self, now_s: u64) -> i64 {
        let days = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
        (days(self.not_after) - days(now_s)).div_euclid(days(DAY_S))
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// Ring's algorithms with the suites that the options leave.
fn provider(options: &TlsOptions) -> Result<CryptoProvider, TlsLoadError> {
    let words = |error| match error {
        CipherError::Unknown(word) => format!("\"{word}\" is not known."),
        CipherError::Nothing => "none of these is available: ECDHE with AES-GCM or ChaCha20 is.".into(),
    };
    let old = options.ciphers.as_deref();
    let new = options.ciphers_tls13.as_deref();
    let ciphers = |error| TlsLoadError::Ciphers(old.unwrap_or_default().into(), words(error));
    let ciphers_tls13 = |error| TlsLoadError::CiphersTls13(new.unwrap_or_default().into(), words(error));
    let mut cipher_suites = match ciphers::tls13(new) {
        // OpenWrt's script writes the list of `ciphers` into both.
        Err(CipherError::Nothing) if new == old => ciphers::tls13(None),
        other => other,
    }
    .map_err(ciphers_tls13)?;
    cipher_suites.extend(ciphers::tls12(old).map_err(ciphers)?);
    Ok(CryptoProvider { cipher_suites, ..ring::default_provider() })
}

/// The system's clock, for the dates of client certificates.
#[derive(Debug)]
struct SystemTime;

impl TimeProvider for SystemTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(crate::os::clock::wall_s())))
    }
}

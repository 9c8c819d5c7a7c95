//! TLS towards other brokers: whom a bridge trusts, how it proves itself, and what the other side has to be called.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use webpki::KeyUsage;

use super::error::{TlsError, TlsLoadError, TlsPeer};
use super::verify::Verifier;
use super::x509::Certificate;
use super::{TlsOptions, TlsStream, TlsVersion, load, names};
use crate::config::bridge::Tls;

/// Where systems keep the authorities that they trust; the first that is there counts, as with OpenSSL
/// `SSL_CERT_FILE` does before all.
const OS_FILES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// TLS of one bridge. Cheap to clone.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
}

/// What [`ClientTls::load`] gives.
#[derive(Debug)]
pub struct LoadedClientTls {
    /// The bridge's TLS.
    pub tls: ClientTls,
    /// Lines worth logging as warnings.
    pub notes: Vec<String>,
}

/// Why a bridge's TLS could not be set up. `Display` gives the lines to log, with the names of a bridge's options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTlsError(TlsLoadError);

impl fmt::Display for ClientTlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use TlsLoadError as E;
        match &self.0 {
            E::Authorities(file, why) => {
                write!(f, "Unable to load CA certificates, check bridge_cafile \"{file}\": {why}")
            }
            E::Certificate(file, why) => {
                write!(f, "Unable to load client certificate, check bridge_certfile \"{file}\": {why}")
            }
            E::Key(file, why) => write!(f, "Unable to load client key file, check bridge_keyfile \"{file}\": {why}"),
            E::Mismatch(certificate, key) => {
                write!(f, "bridge_keyfile \"{key}\" is not the key of the first certificate in \"{certificate}\".")
            }
            E::Ciphers(list, why) => write!(f, "Unable to set TLS ciphers, check bridge_ciphers \"{list}\": {why}"),
            E::CiphersTls13(list, why) => {
                write!(f, "Unable to set TLS 1.3 ciphersuites, check bridge_ciphers_tls1.3 \"{list}\": {why}")
            }
            other => write!(f, "{other}"),
        }
    }
}

impl std::error::Error for ClientTlsError {}

impl From<TlsLoadError> for ClientTlsError {
    fn from(error: TlsLoadError) -> ClientTlsError {
        ClientTlsError(error)
    }
}

impl ClientTls {
    /// Reads every file that the options name.
    ///
    /// # Errors
    /// The first file or option that cannot be used.
    pub fn load(tls: &Tls) -> Result<LoadedClientTls, ClientTlsError> {
        let mut notes = Vec::new();
        let options = TlsOptions {
            cafile: tls.cafile.clone(),
            capath: tls.capath.clone(),
            certfile: tls.certfile.clone(),
            keyfile: tls.keyfile.clone(),
            ciphers: tls.ciphers.clone(),
            ciphers_tls13: tls.ciphers_tls13.clone(),
            tls_version: tls.version,
            ..TlsOptions::default()
        };
        let library = |error: rustls::Error| TlsLoadError::Library(error.to_string());
        let provider = Arc::new(super::provider(&options)?);
        let mut authorities = load::authorities(&options, &mut notes)?;
        if tls.use_os_certs {
            authorities.extend(os_authorities()?);
        }
        let mut verifier = Verifier::new(KeyUsage::server_auth(), provider.signature_verification_algorithms, false);
        let trusted = authorities.iter().filter(|der| verifier.trust(der)).count();
        if trusted == 0 {
            let file = tls.cafile.as_deref().or(tls.capath.as_deref()).unwrap_or(Path::new(""));
            let why = "there is no certificate of an authority (CA:TRUE) in it.".into();
            return Err(TlsLoadError::Authorities(load::shown(file), why).into());
        }
        let verifier = ServerVerifier { chain: verifier, insecure: tls.insecure };
        let versions: &[_] = match tls.version {
            TlsVersion::Tls12 => &[&TLS13, &TLS12],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let builder = ClientConfig::builder_with_details(Arc::clone(&provider), Arc::new(super::SystemTime))
            .with_protocol_versions(versions)
            .map_err(library)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match (&tls.certfile, &tls.keyfile) {
            (None, None) => builder.with_no_client_auth(),
            _ => {
                let own = load::own(&options, &authorities, &provider, &mut notes)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own.key)))
            }
        };
        // A resumed session is not checked against dates and names again, and reconnects are few.
        config.resumption = Resumption::disabled();
        config.alpn_protocols = tls.alpn.iter().map(|name| name.clone().into_bytes()).collect();
        Ok(LoadedClientTls { tls: ClientTls { config: Arc::new(config) }, notes })
    }

    /// TLS for a new connection to `host`, a name or an address.
    ///
    /// # Errors
    /// The name cannot be one in a certificate.
    pub fn connect(&self, host: &str) -> Result<TlsStream, TlsError> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| {
            let error = Error::General(format!("'{host}' cannot be the name in a certificate"));
            TlsError { error, peer: TlsPeer::Server }
        })?;
        TlsStream::to_server(Arc::clone(&self.config), name)
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").finish_non_exhaustive()
    }
}

/// The authorities that the system trusts.
fn os_authorities() -> Result<Vec<CertificateDer<'static>>, TlsLoadError> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let mut files = named.into_iter().chain(OS_FILES.map(PathBuf::from));
    let Some(file) = files.find(|file| file.is_file()) else {
        let why = "no file with the authorities that this system trusts was found (package ca-certificates).".into();
        return Err(TlsLoadError::Authorities("bridge_tls_use_os_certs".into(), why));
    };
    let error = |why| TlsLoadError::Authorities(load::shown(&file), why);
    load::read(&file).and_then(|bytes| load::certificates(&bytes)).map_err(error)
}

/// Checks the certificate of the other broker: chain, dates and purpose, then its name.
#[derive(Debug)]
struct ServerVerifier {
    chain: Verifier,
    /// The name is not looked at `[conf: bridge_insecure]`.
    insecure: bool,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.chain.verify(end_entity, intermediates, now.as_secs()).map_err(Error::InvalidCertificate)?;
        if !self.insecure {
            check_name(end_entity, server_name).map_err(Error::InvalidCertificate)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.check_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.check_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.schemes()
    }
}

/// Whether a certificate is for this name. One without any alternative name is an old one: its common name counts, as
/// OpenSSL has it.
fn check_name(der: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), CertificateError> {
    let certificate = Certificate::read(der).map_err(|_| CertificateError::BadEncoding)?;
    if certificate.has_alternative_names {
        let modern = webpki::EndEntityCert::try_from(der).map_err(|_| CertificateError::BadEncoding)?;
        return modern.verify_is_valid_for_subject_name(name).map_err(|_| CertificateError::NotValidForName);
    }
    let common = names::common_name(certificate.subject).ok_or(CertificateError::NotValidForName)?;
    if !is_named(&common, &name.to_str()) {
        return Err(CertificateError::NotValidForName);
    }
    log::warn!(
        "Warning: The certificate of {common} is of the old kind, without subjectAltName: its common name was compared. \
         Make a new one."
    );
    Ok(())
}

/// Whether a common name means a host. A star stands for the whole first label and nothing else.
fn is_named(common: &str, host: &str) -> bool {
    let (common, host) = (common.trim_end_matches('.'), host.trim_end_matches('.'));
    if common.eq_ignore_ascii_case(host) {
        return true;
    }
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    let Some(domain) = common.strip_prefix("*.").filter(|domain| domain.contains('.') && !is_address) else {
        return false;
    };
    host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_name_is_the_host_or_has_a_star_for_its_first_label() {
        for (common, host, wanted) in [
            ("broker.example", "broker.example", true),
            ("Broker.Example", "broker.example.", true),
            ("*.example.org", "a.example.org", true),
            ("*.example.org", "example.org", false),
            ("*.example.org", "a.b.example.org", false),
            ("*.org", "example.org", false),
            ("*", "localhost", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("*.0.0.1", "127.0.0.1", false),
            ("a*.example.org", "ab.example.org", false),
            ("", "localhost", false),
        ] {
            assert_eq!(is_named(common, host), wanted, "{common} {host}");
        }
    }
}

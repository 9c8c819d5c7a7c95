//! From the files a configuration names to certificates, keys and lists.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use webpki::KeyUsage;

use super::TlsOptions;
use super::error::TlsLoadError;
use super::verify::Verifier;
use super::x509::Certificate;

/// Files of `capath` larger than this are no certificates.
const MAX_CAPATH_FILE: u64 = 1 << 20;
/// Certificates that are sent at most.
const MAX_CHAIN: usize = 10;

/// What `certfile` and `keyfile` hold.
pub(super) struct Own {
    pub(super) key: CertifiedKey,
    /// When the certificate ends, in seconds since 1970.
    pub(super) not_after: u64,
}

pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| words(&error))
}

/// The system's words for an error.
fn words(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), crate::os::errors::text)
}

/// Every certificate of a file in PEM.
pub(super) fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("the file is no valid PEM ({error})."))?;
    if all.is_empty() { Err("there is no certificate in PEM format in it.".into()) } else { Ok(all) }
}

/// The certificates of `cafile` and `capath`.
pub(super) fn authorities(
    options: &TlsOptions,
    notes: &mut Vec<String>,
) -> Result<Vec<CertificateDer<'static>>, TlsLoadError> {
    let mut all = Vec::new();
    if let Some(file) = &options.cafile {
        let error = |why| TlsLoadError::Authorities(shown(file), why);
        all = read(file).and_then(|bytes| certificates(&bytes)).map_err(error)?;
    }
    if let Some(directory) = &options.capath {
        // OpenSSL looks into it only when a client comes, so a wrong name never kept a broker from starting.
        let entries = fs::read_dir(directory).map(|entries| entries.flatten().map(|entry| entry.path()).collect());
        let mut files: Vec<PathBuf> = entries.unwrap_or_else(|error| {
            notes.push(format!("Warning: Unable to read capath \"{}\": {}.", directory.display(), words(&error)));
            Vec::new()
        });
        files.sort();
        for file in files {
            // Keys, lists and notes lie there too; what is no certificate is passed over, as OpenSSL does.
            let fits = fs::metadata(&file).is_ok_and(|data| data.is_file() && data.len() <= MAX_CAPATH_FILE);
            if let Some(Ok(bytes)) = fits.then(|| fs::read(&file)) {
                all.extend(certificates(&bytes).unwrap_or_default());
            }
        }
    }
    // A directory of hashed names holds every certificate twice.
    let mut unique: Vec<CertificateDer<'static>> = Vec::new();
    for one in all {
        if !unique.contains(&one) {
            unique.push(one);
        }
    }
    Ok(unique)
}

/// The listener's certificate with its chain, and its key.
pub(super) fn own(
    options: &TlsOptions,
    authorities: &[CertificateDer<'static>],
    provider: &CryptoProvider,
    notes: &mut Vec<String>,
) -> Result<Own, TlsLoadError> {
    let certfile = options.certfile.clone().unwrap_or_default();
    let keyfile = options.keyfile.clone().unwrap_or_default();
    let bad = |why| TlsLoadError::Certificate(shown(&certfile), why);
    let mut chain = read(&certfile).and_then(|bytes| certificates(&bytes)).map_err(bad)?;
    let key = private_key(&keyfile, provider).map_err(|why| TlsLoadError::Key(shown(&keyfile), why))?;

    let unreadable = || bad("its first certificate cannot be read.".into());
    let leaf = chain.first().ok_or_else(unreadable)?.clone();
    let leaf = Certificate::read(&leaf).map_err(|_| unreadable())?;
    // The library would compare them too, but does not read version 1.
    if key.public_key().is_none_or(|spki| spki.as_ref() != leaf.key) {
        return Err(TlsLoadError::Mismatch(shown(&certfile), shown(&keyfile)));
    }
    if leaf.version == 1 {
        notes.push(format!(
            "Warning: The server certificate \"{}\" is of X.509 version 1, which many clients refuse. Make a new one with \
             a subjectAltName extension.",
            certfile.display()
        ));
    }
    complete(&mut chain, authorities, provider);
    Ok(Own { key: CertifiedKey::new(chain, key), not_after: leaf.not_after })
}

/// Adds the certificates between the chain and its root, for clients that have only the root. The root itself is of no
/// use to a client: it has it, or does not believe it.
fn complete(
    chain: &mut Vec<CertificateDer<'static>>,
    authorities: &[CertificateDer<'static>],
    provider: &CryptoProvider,
) {
    while chain.len() < MAX_CHAIN {
        let Some(last) = chain.last().and_then(|der| Certificate::read(der).ok()) else { return };
        let issuer = authorities.iter().find(|der| {
            Certificate::read(der).is_ok_and(|issuer| {
                issuer.subject == last.issuer
                    && !issuer.is_self_issued()
                    && last.signed.is_by(issuer.key, &provider.signature_verification_algorithms)
            })
        });
        match issuer {
            Some(issuer) if !last.is_self_issued() && !chain.contains(issuer) => chain.push(issuer.clone()),
            _ => return,
        }
    }
}

fn private_key(file: &Path, provider: &CryptoProvider) -> Result<Arc<dyn SigningKey>, String> {
    let bytes = read(file)?;
    let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    if has(b"ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(format!(
            "the key is encrypted, and the broker cannot ask for the pass phrase. Make a copy without: \
             openssl pkey -in \"{}\" -out NEWFILE",
            file.display()
        ));
    }
    let key = PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| "there is no private key in PEM format in it (PKCS#8, PKCS#1 or SEC1).".to_owned())?;
    provider.key_provider.load_private_key(key).map_err(|_| {
        "the key is of a kind that is not supported: RSA of 2048 to 4096 bits, ECDSA with P-256 or P-384, and Ed25519 are."
            .to_owned()
    })
}

/// Who may come in with a certificate.
pub(super) fn client_verifier(
    options: &TlsOptions,
    authorities: &[CertificateDer<'static>],
    provider: &CryptoProvider,
    notes: &mut Vec<String>,
) -> Result<Verifier, TlsLoadError> {
    let algorithms = provider.signature_verification_algorithms;
    let mut verifier = Verifier::new(KeyUsage::client_auth(), algorithms, options.disable_client_cert_date_checks);
    let mut used = 0;
    for der in authorities {
        used += usize::from(verifier.trust(der));
        if Certificate::read(der).is_ok_and(|one| one.version == 1 && one.is_self_issued()) {
            notes.push(
                "Warning: cafile or capath has a certificate of X.509 version 1. It does not count as an authority; make \
                 a new one with the same key and name by \"openssl req -x509\"."
                    .into(),
            );
        }
    }
    match (&options.cafile, &options.capath) {
        (None, None) => notes.push(
            "Warning: require_certificate is set without cafile and capath: no client certificate can be accepted."
                .into(),
        ),
        (Some(file), None) if used == 0 => {
            let why = "there is no certificate of an authority (CA:TRUE) in it.".into();
            return Err(TlsLoadError::Authorities(shown(file), why));
        }
        (_, Some(_)) if used == 0 => notes.push(
            "Warning: There is no certificate of an authority (CA:TRUE) in capath or cafile: no client certificate can be \
             accepted."
                .into(),
        ),
        _ => {}
    }
    if let Some(file) = &options.crlfile {
        let bad = |why| TlsLoadError::Revoked(shown(file), why);
        let bytes = read(file).map_err(bad)?;
        let mut lists = 0;
        for list in CertificateRevocationListDer::pem_slice_iter(&bytes) {
            let list = list.map_err(|error| bad(format!("the file is no valid PEM ({error}).")))?;
            verifier.revoke(&list).map_err(|error| {
                bad(match error {
                    webpki::Error::UnsupportedCrlVersion | webpki::Error::BadDer => {
                        "the list cannot be read: version 2 is needed (crlnumber in the configuration of \"openssl ca\")."
                            .into()
                    }
                    other => format!("the list cannot be used ({other})."),
                })
            })?;
            lists += 1;
        }
        if lists == 0 {
            return Err(bad("there is no certificate revocation list in PEM format in it.".into()));
        }
    }
    Ok(verifier)
}

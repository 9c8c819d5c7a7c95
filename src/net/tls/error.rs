//! What can go wrong, in words: while a listener's files are loaded, and while a client is spoken to.

use std::fmt;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// Why a listener's TLS could not be set up. `Display` gives every line to log, without a final newline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsLoadError {
    /// `certfile` cannot be read or used: its name and why.
    Certificate(String, String),
    /// `keyfile` cannot be read or used: its name and why.
    Key(String, String),
    /// Certificate and key do not belong together: names of both.
    Mismatch(String, String),
    /// `cafile` cannot be read or used: its name and why.
    Authorities(String, String),
    /// `crlfile` cannot be read or used: its name and why.
    Revoked(String, String),
    /// `ciphers`: the list and why.
    Ciphers(String, String),
    /// `ciphers_tls1.3`: the list and why.
    CiphersTls13(String, String),
    /// The library refuses what the others made of it.
    Library(String),
}

impl fmt::Display for TlsLoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use TlsLoadError as E;
        let why = match self {
            E::Certificate(file, why) => {
                write!(f, "Error: Unable to load server certificate \"{file}\". Check certfile.")?;
                why
            }
            E::Key(file, why) => {
                write!(f, "Error: Unable to load server key file \"{file}\". Check keyfile.")?;
                why
            }
            E::Mismatch(certificate, key) => {
                f.write_str("Error: Server certificate/key are inconsistent.")?;
                return write!(f, "\nTLS: \"{key}\" is not the key of the first certificate in \"{certificate}\".");
            }
            E::Authorities(file, why) => {
                write!(f, "Error: Unable to load CA certificates. Check cafile \"{file}\".")?;
                why
            }
            E::Revoked(file, why) => {
                write!(f, "Error: Unable to load certificate revocation file \"{file}\". Check crlfile.")?;
                why
            }
            E::Ciphers(list, why) => {
                write!(f, "Error: Unable to set TLS ciphers. Check cipher list \"{list}\".")?;
                why
            }
            E::CiphersTls13(list, why) => {
                write!(f, "Error: Unable to set TLS 1.3 ciphersuites. Check cipher_tls13 list \"{list}\".")?;
                why
            }
            E::Library(why) => {
                f.write_str("Error: Unable to create TLS context.")?;
                why
            }
        };
        write!(f, "\nTLS: {why}")
    }
}

impl std::error::Error for TlsLoadError {}

/// Why a client certificate is refused where `rustls` has no name for it. The client is told `certificate_unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It belongs to an authority.
    Authority,
    /// Version 1, and not directly from a configured authority.
    VersionOneChain,
    /// Whatever else.
    Other,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::Authority => "it is the certificate of an authority (CA:TRUE), not of a client",
            Refused::VersionOneChain => "it is of version 1 and not directly from an authority in cafile or capath",
            Refused::Other => "it breaks a rule for certificates",
        })
    }
}

impl std::error::Error for Refused {}

/// Why a connection failed, for the log. The alert that tells the client waits in the stream's output.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsError {
    pub(super) error: Error,
    /// Whom we speak with.
    pub(super) peer: TlsPeer,
}

/// Whom a connection is with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsPeer {
    /// A client of one of our listeners.
    Client,
    /// Another broker, to which we are the client.
    Server,
}

impl fmt::Display for TlsPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsPeer::Client => "client",
            TlsPeer::Server => "other broker",
        })
    }
}

impl TlsError {
    /// True when the other side is not speaking TLS at all.
    #[must_use]
    pub fn is_not_tls(&self) -> bool {
        matches!(
            self.error,
            Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion)
        )
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = self.peer;
        match &self.error {
            Error::AlertReceived(alert) => received(*alert, peer, f),
            Error::InvalidCertificate(error) => refused(error, peer, f),
            Error::NoCertificatesPresented => write!(f, "the {peer} sent no certificate"),
            Error::PeerIncompatible(why) => incompatible(why, peer, f),
            Error::General(text) => f.write_str(text),
            Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
                write!(f, "the {peer} does not speak TLS")
            }
            Error::InvalidMessage(what) => write!(f, "malformed TLS message ({what:?})"),
            Error::DecryptError => f.write_str("a TLS record cannot be decrypted"),
            Error::PeerSentOversizedRecord => f.write_str("a TLS record is too large"),
            Error::EncryptError => f.write_str("the keys of the TLS connection are used up"),
            Error::PeerMisbehaved(what) => write!(f, "the {peer} breaks the rules of TLS ({what:?})"),
            Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
                write!(f, "the {peer} sent a TLS message that has no place here")
            }
            other => write!(f, "TLS failed: {other}"),
        }
    }
}

impl std::error::Error for TlsError {}

/// What the peer thinks of us.
fn received(alert: AlertDescription, peer: TlsPeer, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    use AlertDescription as A;
    let (name, words) = match alert {
        A::UnknownCA => ("unknown_ca", "does not trust the authority of this listener's certificate"),
        A::BadCertificate => ("bad_certificate", "does not accept this listener's certificate"),
        A::UnsupportedCertificate => ("unsupported_certificate", "cannot use this listener's certificate"),
        A::CertificateRevoked => ("certificate_revoked", "says that this listener's certificate is revoked"),
        A::CertificateExpired => ("certificate_expired", "says that this listener's certificate has expired"),
        A::CertificateUnknown => ("certificate_unknown", "does not accept this listener's certificate"),
        A::HandshakeFailure => ("handshake_failure", "found no way to speak with this listener"),
        A::ProtocolVersion => ("protocol_version", "does not speak this listener's TLS versions"),
        A::InsufficientSecurity => ("insufficient_security", "finds this listener's ciphers too weak"),
        A::DecryptError => ("decrypt_error", "could not check a signature of the handshake"),
        A::BadRecordMac => ("bad_record_mac", "could not decrypt a record"),
        A::UserCanceled => ("user_canceled", "gave up"),
        A::InternalError => ("internal_error", "had an internal error, as mosquitto's clients call a wrong host name"),
        other => return write!(f, "the {peer} ended TLS with the alert {other:?}"),
    };
    let ours = if peer == TlsPeer::Client { "this listener's" } else { "our" };
    write!(f, "the {peer} {} (alert {name})", words.replace("this listener's", ours))
}

/// What we think of the peer's certificate.
fn refused(error: &CertificateError, peer: TlsPeer, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    use CertificateError as C;
    let authorities = match peer {
        TlsPeer::Client => "cafile or capath",
        TlsPeer::Server => "bridge_cafile, bridge_capath or the system",
    };
    match peer {
        TlsPeer::Client => f.write_str("client certificate refused: ")?,
        TlsPeer::Server => f.write_str("the other broker's certificate is refused: ")?,
    }
    match error {
        C::Expired | C::ExpiredContext { .. } => f.write_str("it or one of its authorities has expired"),
        C::NotValidYet | C::NotValidYetContext { .. } => f.write_str("it or one of its authorities is not valid yet"),
        C::Revoked => f.write_str("it is revoked"),
        C::UnknownIssuer => write!(f, "it comes from no authority in {authorities}"),
        C::NotValidForName => f.write_str("it has not the name of the address that was connected to"),
        C::UnknownRevocationStatus => f.write_str("crlfile has no usable list of its authority"),
        C::ExpiredRevocationList | C::ExpiredRevocationListContext { .. } => {
            f.write_str("the list of its authority in crlfile is out of date")
        }
        C::BadSignature => f.write_str("a signature is wrong"),
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => {
            write!(f, "it is not meant for {}", if peer == TlsPeer::Client { "clients" } else { "servers" })
        }
        C::BadEncoding => f.write_str("it cannot be read"),
        C::UnhandledCriticalExtension => f.write_str("it has a critical extension that is not known"),
        C::UnsupportedSignatureAlgorithmContext { .. } | C::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            f.write_str(
                "its signature is not by its authority's kind of key, or of a kind that is not supported (SHA-1)",
            )
        }
        C::Other(why) => write!(f, "{}", why.0),
        other => write!(f, "{other}"),
    }
}

fn incompatible(why: &PeerIncompatible, peer: TlsPeer, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    use PeerIncompatible as P;
    match why {
        P::NoCipherSuitesInCommon => write!(f, "no cipher in common with the {peer}"),
        P::NoKxGroupsInCommon => write!(f, "no elliptic curve in common with the {peer}"),
        P::NoSignatureSchemesInCommon => write!(f, "no kind of signature in common with the {peer}"),
        P::Tls12NotOffered | P::Tls12NotOfferedOrEnabled | P::SupportedVersionsExtensionRequired => {
            write!(f, "no TLS version in common with the {peer}")
        }
        // Every client of TLS 1.2 says which signatures it knows.
        P::SignatureAlgorithmsExtensionRequired => write!(f, "the {peer} speaks only TLS 1.1 or older"),
        other => write!(f, "the {peer}'s TLS does not fit ({other:?})"),
    }
}

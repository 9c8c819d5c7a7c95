//! What a listener's TLS is built from.

use std::path::PathBuf;

/// TLS of one listener. Each field is named after its option.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TlsOptions {
    /// `[conf: cafile]`: authorities that client certificates may come from.
    pub cafile: Option<PathBuf>,
    /// `[conf: capath]`: the same as a directory.
    pub capath: Option<PathBuf>,
    /// `[conf: certfile]`: the listener's certificate chain.
    pub certfile: Option<PathBuf>,
    /// `[conf: keyfile]`: the listener's private key.
    pub keyfile: Option<PathBuf>,
    /// `[conf: crlfile]`: revoked client certificates.
    pub crlfile: Option<PathBuf>,
    /// `[conf: ciphers]` in the words of OpenSSL, up to TLS 1.2.
    pub ciphers: Option<String>,
    /// `[conf: ciphers_tls1.3]`: names separated by colons.
    pub ciphers_tls13: Option<String>,
    /// `[conf: tls_version]`.
    pub tls_version: TlsVersion,
    /// `[conf: require_certificate]`.
    pub require_certificate: bool,
    /// `[conf: use_identity_as_username]`: the common name of the client certificate is the user name.
    pub use_identity_as_username: bool,
    /// `[conf: use_subject_as_username]`: the whole subject is; `use_identity_as_username` wins.
    pub use_subject_as_username: bool,
    /// `[conf: disable_client_cert_date_checks]`.
    pub disable_client_cert_date_checks: bool,
}

/// The oldest TLS version that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TlsVersion {
    /// TLS 1.2, also for a configured 1.1: older ones are not spoken any more.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

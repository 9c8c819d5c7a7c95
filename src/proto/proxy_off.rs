//! PROXY headers in a build that does not understand them: no listener asks for one, because the configuration refuses to.

use std::net::SocketAddr;

/// As in the real one; no header is waited for.
pub const MAX_HEADER: usize = 516;

/// The version that a listener expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// What the bytes so far mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The header is not complete.
    NeedMore,
    /// The header, and how many bytes it had.
    Header(Box<ProxyHeader>, usize),
    /// The proxy asks for itself.
    HealthCheck,
    /// No such header.
    Corrupt,
}

/// What a proxy says about the client.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ProxyHeader {
    /// The client's address.
    pub source: Option<SocketAddr>,
    /// Set when the client speaks TLS with the proxy.
    pub tls: Option<ProxyTls>,
}

/// What a proxy says about the client's TLS.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ProxyTls {
    /// The client showed a certificate.
    pub verified_certificate: bool,
    /// The protocol version.
    pub version: Option<String>,
    /// The cipher.
    pub cipher: Option<String>,
    /// The common name of the certificate.
    pub common_name: Option<String>,
}

/// Every header is corrupt.
#[must_use]
pub fn parse(_: ProxyVersion, _: &[u8]) -> Parsed {
    Parsed::Corrupt
}

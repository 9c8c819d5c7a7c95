//! One listener and what is configured for it.

use std::path::PathBuf;

use super::mqttsn::SnListener;
use crate::wire::QoS;

/// One listener. Each field is named after its option.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// TCP port, 1 to 65535; 0 with `unix_path`, else 0 asks the system for a free one (tests only, the parser refuses
    /// it).
    pub port: u16,
    /// Host name or address; `None` is every address.
    pub host: Option<String>,
    /// Path of a UNIX socket `[conf: listener 0 PATH]`; `port` and `host` mean nothing then.
    pub unix_path: Option<PathBuf>,
    /// `[conf: protocol]`.
    pub protocol: Protocol,
    /// `[conf: socket_domain]`.
    pub socket_domain: SocketDomain,
    /// `[conf: bind_interface]`.
    pub bind_interface: Option<String>,
    /// `[conf: max_connections]`; `None` is unlimited.
    pub max_connections: Option<u32>,
    /// `[conf: max_qos]`.
    pub max_qos: QoS,
    /// `[conf: max_topic_alias]`: aliases a client may use towards the broker.
    pub max_topic_alias: u16,
    /// `[conf: max_topic_alias_broker]`: aliases the broker uses towards a client.
    pub max_topic_alias_broker: u16,
    /// `[conf: mount_point]`: put before every topic and filter of the listener's clients.
    pub mount_point: Option<String>,
    /// `[conf: accept_protocol_versions]`: bit 0 for 3, bit 1 for 4, bit 2 for 5.
    pub accept_protocol_versions: u8,
    /// `[conf: acl_file]` under `per_listener_settings`.
    pub acl_file: Option<PathBuf>,
    /// `[conf: listener_allow_anonymous]`, or `allow_anonymous` under `per_listener_settings`.
    pub allow_anonymous: Option<bool>,
    /// `[conf: listener_auto_id_prefix]`, or `auto_id_prefix` under `per_listener_settings`.
    pub auto_id_prefix: Option<String>,
    /// `[conf: allow_zero_length_clientid]` under `per_listener_settings`.
    pub allow_zero_length_clientid: Option<bool>,
    /// `[conf: password_file]` under `per_listener_settings`.
    pub password_file: Option<PathBuf>,
    /// Which rules of passwords and access hold here; whoever reads the files notes it. Not an option.
    pub rules: u16,
    /// `[conf: use_username_as_clientid]`.
    pub use_username_as_clientid: bool,
    /// `[conf: enable_proxy_protocol]`.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// `[conf: proxy_protocol_v2_require_tls]`: a header that says the client used no TLS ends the connection.
    pub proxy_protocol_v2_require_tls: bool,
    /// `[conf: websockets_origin]`: the values allowed in `Origin`; empty is any.
    pub websockets_origin: Vec<String>,
    /// `[conf: http_dir]`, canonical.
    pub http_dir: Option<PathBuf>,
    /// Options of MQTT-SN; they mean nothing with another protocol.
    pub sn: SnListener,
    /// What is configured about TLS; a listener without `certfile` speaks none.
    pub tls: TlsOptions,
}

impl Listener {
    /// A listener on `port` of `host` (every address for `None`), all else as in an empty configuration.
    #[must_use]
    pub fn new(port: u16, host: Option<String>) -> Listener {
        Listener {
            port,
            host,
            unix_path: None,
            protocol: Protocol::Mqtt,
            socket_domain: SocketDomain::Any,
            bind_interface: None,
            max_connections: None,
            max_qos: QoS::ExactlyOnce,
            max_topic_alias: 10,
            max_topic_alias_broker: 10,
            mount_point: None,
            accept_protocol_versions: 0b111,
            acl_file: None,
            allow_anonymous: None,
            auto_id_prefix: None,
            allow_zero_length_clientid: None,
            password_file: None,
            rules: 0,
            use_username_as_clientid: false,
            proxy_protocol: None,
            proxy_protocol_v2_require_tls: false,
            websockets_origin: Vec::new(),
            http_dir: None,
            sn: SnListener::default(),
            tls: TlsOptions::default(),
        }
    }
}

/// `[conf: protocol]`: what is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT, all versions.
    Mqtt,
    /// HTTP for whoever watches the broker: `/metrics` and `/healthz`.
    Metrics,
    /// MQTT within WebSockets.
    Websockets,
    /// MQTT-SN over UDP.
    MqttSn,
}

/// `[conf: socket_domain]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketDomain {
    /// Both families.
    Any,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
}

/// `[conf: enable_proxy_protocol]`: the header that every connection must start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// The binary header.
    V2,
}

/// TLS of one listener. Each field is named after its option; after the whole file was read, `certfile` and `keyfile`
/// are both there or both missing, and `cafile` and `capath` come only with them.
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

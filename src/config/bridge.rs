//! One bridge, a connection to another broker, and what is configured for it.

use std::path::PathBuf;

use super::TlsVersion;
use crate::wire::{ProtocolVersion, QoS};

/// A connection to another broker `[conf: connection]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Bridge {
    /// `[conf: connection]`; no other bridge has it.
    pub name: String,
    /// `[conf: address]`; never empty once the file was accepted.
    pub addresses: Vec<Address>,
    /// `[conf: topic]`; never empty once the file was accepted, and no two are equal.
    pub topics: Vec<Topic>,
    /// `[conf: round_robin]`: the next address on every attempt, none is preferred.
    pub round_robin: bool,
    /// `[conf: start_type]`.
    pub start_type: StartType,
    /// `[conf: threshold]`: messages that make a lazy bridge connect, from 1.
    pub threshold: u32,
    /// `[conf: idle_timeout]`: seconds until a lazy bridge disconnects, from 1.
    pub idle_timeout: u32,
    /// `[conf: restart_timeout]`.
    pub restart: Restart,
    /// `[conf: keepalive_interval]` in seconds, from 5.
    pub keepalive: u16,
    /// `[conf: bridge_protocol_version]`.
    pub version: ProtocolVersion,
    /// `[conf: cleansession]`.
    pub clean_session: bool,
    /// `[conf: local_cleansession]`; without it the same as `cleansession`.
    pub local_clean_session: Option<bool>,
    /// `[conf: remote_clientid]`; see [`Bridge::remote_id`].
    pub remote_clientid: Option<String>,
    /// `[conf: remote_username]`.
    pub remote_username: Option<String>,
    /// `[conf: remote_password]`.
    pub remote_password: Option<String>,
    /// `[conf: local_clientid]`; see [`Bridge::local_id`].
    pub local_clientid: Option<String>,
    /// `[conf: local_username]`.
    pub local_username: Option<String>,
    /// `[conf: local_password]`.
    pub local_password: Option<String>,
    /// `[conf: notifications]`.
    pub notifications: bool,
    /// `[conf: notifications_local_only]`.
    pub notifications_local_only: bool,
    /// `[conf: notification_topic]`; `None` is `$SYS/broker/connection/REMOTE_CLIENTID/state`.
    pub notification_topic: Option<String>,
    /// `[conf: try_private]`: tell a v3 broker that this is a bridge.
    pub try_private: bool,
    /// `[conf: bridge_attempt_unsubscribe]`.
    pub attempt_unsubscribe: bool,
    /// `[conf: bridge_outgoing_retain]`.
    pub outgoing_retain: bool,
    /// `[conf: bridge_max_packet_size]` in bytes; 0 is unlimited.
    pub max_packet_size: u32,
    /// `[conf: bridge_max_topic_alias]`.
    pub max_topic_alias: u16,
    /// `[conf: bridge_receive_maximum]`; `None` is `max_inflight_messages`.
    pub receive_maximum: Option<u16>,
    /// `[conf: bridge_session_expiry_interval]` in seconds.
    pub session_expiry_interval: u32,
    /// `[conf: bridge_bind_address]`: where the connection starts.
    pub bind_address: Option<String>,
    /// `[conf: bridge_tcp_keepalive]`.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// `[conf: bridge_tcp_user_timeout]` in milliseconds.
    pub tcp_user_timeout: Option<u32>,
    /// `[conf: bridge_reload_type]`.
    pub reload: ReloadType,
    /// TLS towards the other broker.
    pub tls: Tls,
}

impl Bridge {
    /// A bridge of which only the name is known.
    #[must_use]
    pub fn new(name: String) -> Bridge {
        Bridge {
            name,
            addresses: Vec::new(),
            topics: Vec::new(),
            round_robin: false,
            start_type: StartType::Automatic,
            threshold: 10,
            idle_timeout: 60,
            restart: Restart::default(),
            keepalive: 60,
            version: ProtocolVersion::V311,
            clean_session: false,
            local_clean_session: None,
            remote_clientid: None,
            remote_username: None,
            remote_password: None,
            local_clientid: None,
            local_username: None,
            local_password: None,
            notifications: true,
            notifications_local_only: false,
            notification_topic: None,
            try_private: true,
            attempt_unsubscribe: true,
            outgoing_retain: true,
            max_packet_size: 0,
            max_topic_alias: 10,
            receive_maximum: None,
            session_expiry_interval: 0,
            bind_address: None,
            tcp_keepalive: None,
            tcp_user_timeout: None,
            reload: ReloadType::Lazy,
            tls: Tls::default(),
        }
    }

    /// The client id at the other broker: as configured, else the host's name and the bridge's.
    #[must_use]
    pub fn remote_id(&self, hostname: &str) -> String {
        self.remote_clientid.clone().unwrap_or_else(|| format!("{hostname}.{}", self.name))
    }

    /// The client id of the bridge's session at this broker: as configured, else `local.` and the remote one.
    #[must_use]
    pub fn local_id(&self, hostname: &str) -> String {
        self.local_clientid.clone().unwrap_or_else(|| format!("local.{}", self.remote_id(hostname)))
    }

    /// The topic that tells whether the bridge is connected.
    #[must_use]
    pub fn state_topic(&self, hostname: &str) -> String {
        let topic = || format!("$SYS/broker/connection/{}/state", self.remote_id(hostname));
        self.notification_topic.clone().unwrap_or_else(topic)
    }
}

/// Where the other broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port, from 1.
    pub port: u16,
}

/// A line of what is exchanged `[conf: topic]`. The filter of each side is its prefix and the pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// The filter after the prefixes; empty when the two prefixes are the one topic of each side.
    pub pattern: String,
    /// Which way messages go.
    pub direction: Direction,
    /// The highest QoS.
    pub qos: QoS,
    /// What topics of this broker begin with; may be empty.
    pub local_prefix: String,
    /// What topics of the other broker begin with; may be empty.
    pub remote_prefix: String,
}

impl Topic {
    /// The filter at this broker.
    #[must_use]
    pub fn local_filter(&self) -> String {
        format!("{}{}", self.local_prefix, self.pattern)
    }

    /// The filter at the other broker.
    #[must_use]
    pub fn remote_filter(&self) -> String {
        format!("{}{}", self.remote_prefix, self.pattern)
    }
}

/// Which way messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From this broker to the other.
    Out,
    /// From the other broker to this one.
    In,
    /// Both ways.
    Both,
}

/// `[conf: start_type]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartType {
    /// Always connected.
    Automatic,
    /// Connected while there is something to say.
    Lazy,
    /// Connected once, never again.
    Once,
}

/// `[conf: restart_timeout]` in seconds: the delay before an attempt is random between `base` and `cap`, and constant
/// when they are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// The least delay, from 1.
    pub base: u32,
    /// The greatest delay, at most 7200.
    pub cap: u32,
    /// How long a connection must have lasted to start over from `base`.
    pub stable: u32,
}

impl Default for Restart {
    fn default() -> Self {
        Restart { base: 5, cap: 30, stable: 0 }
    }
}

/// `[conf: bridge_reload_type]`: when a changed bridge connects anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadType {
    /// When the connection ends anyway.
    Lazy,
    /// On SIGHUP.
    Immediate,
}

/// `[conf: bridge_tcp_keepalive]`; each from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// Seconds of silence before the first probe.
    pub idle: u32,
    /// Seconds between probes.
    pub interval: u32,
    /// Probes without an answer that end the connection.
    pub count: u32,
}

/// TLS towards the other broker; see [`Tls::enabled`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Tls {
    /// `[conf: bridge_cafile]`.
    pub cafile: Option<PathBuf>,
    /// `[conf: bridge_capath]`.
    pub capath: Option<PathBuf>,
    /// `[conf: bridge_tls_use_os_certs]`: trust whom the system trusts.
    pub use_os_certs: bool,
    /// `[conf: bridge_certfile]`.
    pub certfile: Option<PathBuf>,
    /// `[conf: bridge_keyfile]`.
    pub keyfile: Option<PathBuf>,
    /// `[conf: bridge_insecure]`: the name in the certificate is not checked.
    pub insecure: bool,
    /// `[conf: bridge_require_ocsp]`.
    pub require_ocsp: bool,
    /// `[conf: bridge_alpn]`.
    pub alpn: Option<String>,
    /// `[conf: bridge_tls_version]`.
    pub version: TlsVersion,
    /// `[conf: bridge_ciphers]` in the words of OpenSSL.
    pub ciphers: Option<String>,
    /// `[conf: bridge_ciphers_tls1.3]`.
    pub ciphers_tls13: Option<String>,
}

impl Tls {
    /// True when the connection uses TLS: some authority is trusted.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.cafile.is_some() || self.capath.is_some() || self.use_os_certs
    }
}

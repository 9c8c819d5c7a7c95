//! The configuration as plain data. `options` holds the one table of options, `parse` fills these structs from files,
//! `check` runs the rules that look at more than one option. Nobody re-parses strings later.
//!
//! Options of parts that are not built yet are not stored: the table answers them by name instead.

mod check;
mod error;
pub mod options;
mod parse;
mod reload;
mod store;
#[cfg(test)]
mod tests;
mod value;

use std::path::PathBuf;

use crate::wire::QoS;

pub use check::LOCAL_ONLY_LINES;
pub use error::{ConfigError, ErrorKind, Feature, Location, Severity};
pub use parse::{Loaded, Parser};
pub use reload::{Reloaded, apply};

/// Everything that was configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Options that hold for the whole broker.
    pub global: Global,
    /// Listeners in the order of the file; never empty after [`Config::finish`].
    pub listeners: Vec<Listener>,
    /// True when no listener was configured and the broker serves this machine only.
    pub local_only: bool,
    /// The configuration file that is read again on SIGHUP.
    pub file: Option<PathBuf>,
}

/// Options that hold for the whole broker. Each field is named after its option.
#[derive(Clone, Debug, PartialEq)]
pub struct Global {
    /// `[conf: allow_anonymous]`; `None` until set: true in local-only mode, else false.
    pub allow_anonymous: Option<bool>,
    /// `[conf: allow_duplicate_messages]`; false suppresses second copies to v3 clients.
    pub allow_duplicate_messages: bool,
    /// `[conf: allow_zero_length_clientid]`.
    pub allow_zero_length_clientid: bool,
    /// `[conf: auto_id_prefix]`; at most 50 bytes.
    pub auto_id_prefix: String,
    /// `[conf: clientid_prefixes]`; a plain byte prefix.
    pub clientid_prefixes: Option<String>,
    /// `[conf: connection_messages]`.
    pub connection_messages: bool,
    /// `[conf: enable_control_api]`: the topic `$CONTROL/broker/v1` answers.
    pub enable_control_api: bool,
    /// `[conf: global_max_clients]`; `None` is unlimited.
    pub global_max_clients: Option<u32>,
    /// `[conf: global_max_connections]`; `None` is unlimited.
    pub global_max_connections: Option<u32>,
    /// `[conf: max_inflight_bytes]`; 0 is unlimited.
    pub max_inflight_bytes: u32,
    /// `[conf: max_inflight_messages]`; 0 is unlimited.
    pub max_inflight_messages: u16,
    /// `[conf: max_keepalive]` in seconds; 0 is unlimited.
    pub max_keepalive: u16,
    /// `[conf: max_packet_size]` in bytes; 0 is unlimited.
    pub max_packet_size: u32,
    /// `[conf: max_queued_bytes]`; 0 is unlimited.
    pub max_queued_bytes: u32,
    /// `[conf: max_queued_messages]`; 0 is unlimited.
    pub max_queued_messages: u32,
    /// `[conf: memory_limit]` in bytes of heap; 0 is unlimited.
    pub memory_limit: u64,
    /// `[conf: message_size_limit]` in payload bytes; 0 is unlimited.
    pub message_size_limit: u32,
    /// `[conf: per_listener_settings]`.
    pub per_listener_settings: bool,
    /// `[conf: persistent_client_expiration]` in seconds; caps every session expiry.
    pub persistent_client_expiration: Option<u32>,
    /// `[conf: pid_file]`.
    pub pid_file: Option<PathBuf>,
    /// `[conf: queue_qos0_messages]`.
    pub queue_qos0_messages: bool,
    /// `[conf: retain_available]`.
    pub retain_available: bool,
    /// `[conf: retain_expiry_interval]` in seconds (minutes in the file); `None` is off.
    pub retain_expiry_interval: Option<u32>,
    /// `[conf: strict_conformance]`: the letter of the specifications instead of Mosquitto's tolerances.
    pub strict_conformance: bool,
    /// `[conf: sys_interval]` in seconds; 0 switches `$SYS` off.
    pub sys_interval: u16,
    /// `[conf: upgrade_outgoing_qos]`.
    pub upgrade_outgoing_qos: bool,
    /// `[conf: user]`, only used when started as root.
    pub user: String,
    /// Destinations and types of the log.
    pub log: Log,
}

impl Default for Global {
    fn default() -> Self {
        Global {
            allow_anonymous: None,
            allow_duplicate_messages: true,
            allow_zero_length_clientid: true,
            auto_id_prefix: "auto-".into(),
            clientid_prefixes: None,
            connection_messages: true,
            enable_control_api: false,
            global_max_clients: None,
            global_max_connections: None,
            max_inflight_bytes: 0,
            max_inflight_messages: 20,
            max_keepalive: 0,
            max_packet_size: 2_000_000,
            max_queued_bytes: 0,
            max_queued_messages: 1000,
            memory_limit: 0,
            message_size_limit: 0,
            per_listener_settings: false,
            persistent_client_expiration: None,
            pid_file: None,
            queue_qos0_messages: false,
            retain_available: true,
            retain_expiry_interval: None,
            strict_conformance: false,
            sys_interval: 10,
            upgrade_outgoing_qos: false,
            user: "mosquitto".into(),
            log: Log::default(),
        }
    }
}

/// `[conf: log_dest]`, `[conf: log_type]` and their kin.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// Write to standard output.
    pub stdout: bool,
    /// Write to standard error; the only default.
    pub stderr: bool,
    /// Write to syslog.
    pub syslog: bool,
    /// Publish to `$SYS/broker/log/…`.
    pub topic: bool,
    /// Append to this file.
    pub file: Option<PathBuf>,
    /// `[conf: log_facility]`: 0 to 7 for local0 to local7; `None` is daemon.
    pub facility: Option<u8>,
    /// `[conf: log_rate_limit]`: lines a second of each kind, 0 is unlimited.
    pub rate_limit: u32,
    /// The message types that are logged.
    pub types: LogTypes,
    /// `[conf: log_timestamp]`.
    pub timestamp: bool,
    /// `[conf: log_timestamp_format]` for `strftime`; `None` is Unix seconds.
    pub timestamp_format: Option<String>,
}

impl Default for Log {
    fn default() -> Self {
        Log {
            stdout: false,
            stderr: true,
            syslog: false,
            topic: false,
            file: None,
            facility: None,
            rate_limit: 50,
            types: LogTypes::DEFAULT,
            timestamp: true,
            timestamp_format: None,
        }
    }
}

/// A set of message types `[conf: log_type]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogTypes(pub u16);

impl LogTypes {
    /// No type.
    pub const NONE: LogTypes = LogTypes(0);
    /// `error`.
    pub const ERROR: LogTypes = LogTypes(1);
    /// `warning`.
    pub const WARNING: LogTypes = LogTypes(2);
    /// `notice`.
    pub const NOTICE: LogTypes = LogTypes(4);
    /// `information`.
    pub const INFORMATION: LogTypes = LogTypes(8);
    /// `debug`.
    pub const DEBUG: LogTypes = LogTypes(16);
    /// `subscribe`.
    pub const SUBSCRIBE: LogTypes = LogTypes(32);
    /// `unsubscribe`.
    pub const UNSUBSCRIBE: LogTypes = LogTypes(64);
    /// `websockets`.
    pub const WEBSOCKETS: LogTypes = LogTypes(128);
    /// `internal`.
    pub const INTERNAL: LogTypes = LogTypes(256);
    /// Every type.
    pub const ALL: LogTypes = LogTypes(511);
    /// What is logged unless configured: error, warning, notice and information.
    pub const DEFAULT: LogTypes = LogTypes(15);

    /// True when every type of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: LogTypes) -> bool {
        self.0 & other.0 == other.0
    }

    /// The union of both sets.
    #[must_use]
    pub const fn with(self, other: LogTypes) -> LogTypes {
        LogTypes(self.0 | other.0)
    }
}

/// One listener. Each field is named after its option.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// TCP port, 1 to 65535; 0 asks the system for a free one (tests only, the parser refuses it).
    pub port: u16,
    /// Host name or address; `None` is every address.
    pub host: Option<String>,
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
    /// `[conf: listener_allow_anonymous]`, or `allow_anonymous` under `per_listener_settings`.
    pub allow_anonymous: Option<bool>,
    /// `[conf: listener_auto_id_prefix]`, or `auto_id_prefix` under `per_listener_settings`.
    pub auto_id_prefix: Option<String>,
    /// `[conf: allow_zero_length_clientid]` under `per_listener_settings`.
    pub allow_zero_length_clientid: Option<bool>,
    /// `[conf: use_username_as_clientid]`.
    pub use_username_as_clientid: bool,
}

impl Listener {
    /// A listener on `port` of `host` (every address for `None`), all else as in an empty configuration.
    #[must_use]
    pub fn new(port: u16, host: Option<String>) -> Listener {
        Listener {
            port,
            host,
            protocol: Protocol::Mqtt,
            socket_domain: SocketDomain::Any,
            bind_interface: None,
            max_connections: None,
            max_qos: QoS::ExactlyOnce,
            max_topic_alias: 10,
            max_topic_alias_broker: 10,
            mount_point: None,
            accept_protocol_versions: 0b111,
            allow_anonymous: None,
            auto_id_prefix: None,
            allow_zero_length_clientid: None,
            use_username_as_clientid: false,
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

impl Config {
    /// The configuration without a file: port 1883 of this machine only, anonymous clients welcome.
    #[must_use]
    pub fn local_only(ports: &[u16]) -> Config {
        let ports = if ports.is_empty() { &[1883][..] } else { ports };
        let listeners = ports
            .iter()
            .flat_map(|&port| ["127.0.0.1", "::1"].map(|host| Listener::new(port, Some(host.into()))))
            .collect();
        Config { global: Global::default(), listeners, local_only: true, file: None }
    }

    /// True when a client without a user name may connect to `listener`.
    #[must_use]
    pub fn anonymous_allowed(&self, listener: &Listener) -> bool {
        match (listener.allow_anonymous, self.global.per_listener_settings) {
            (Some(own), _) => own,
            (None, true) => false,
            (None, false) => self.global.allow_anonymous.unwrap_or(self.local_only),
        }
    }
}

//! The configuration as plain data. `options` holds the one table of options, `parse` fills these structs from files,
//! `check` runs the rules that look at more than one option. Nobody re-parses strings later.
//!
//! Options of parts that are not built yet are stored as well: the whole file is validated first, and then what is
//! missing is answered by name, file and line.

pub mod bridge;
mod check;
mod current;
mod describe;
mod error;
mod listener;
mod mqttsn;
pub mod options;
mod parse;
mod reload;
mod store;
#[cfg(test)]
mod tests;
mod value;

use std::path::PathBuf;

pub use check::LOCAL_ONLY_LINES;
pub use error::{ConfigError, ErrorKind, Feature, Location, Severity};
pub use listener::{Listener, Protocol, ProxyProtocol, SocketDomain, TlsOptions, TlsVersion};
pub use mqttsn::{Group, Network, SearchReply, SnGlobal, SnListener};
pub use parse::{Loaded, Parser};
pub use reload::{Sources, take_over};

/// Everything that was configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Options that hold for the whole broker.
    pub global: Global,
    /// Listeners in the order of the file; never empty after [`Config::finish`].
    pub listeners: Vec<Listener>,
    /// Connections to other brokers in the order of the file.
    pub bridges: Vec<bridge::Bridge>,
    /// True when no listener was configured and the broker serves this machine only.
    pub local_only: bool,
    /// The last configuration file.
    pub file: Option<PathBuf>,
}

/// When what is to be kept is on disk `[conf: persistence_mode]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PersistenceMode {
    /// After the next save, as with C Mosquitto.
    #[default]
    Snapshot,
    /// Before it is acknowledged.
    Journal,
}

/// Options that hold for the whole broker. Each field is named after its option.
#[derive(Clone, Debug, PartialEq)]
pub struct Global {
    /// `[conf: acl_file]`; unused under `per_listener_settings`.
    pub acl_file: Option<PathBuf>,
    /// `[conf: allow_anonymous]`; `None` until set: true in local-only mode, else false.
    pub allow_anonymous: Option<bool>,
    /// `[conf: allow_duplicate_messages]`; false suppresses second copies to v3 clients.
    pub allow_duplicate_messages: bool,
    /// `[conf: allow_zero_length_clientid]`.
    pub allow_zero_length_clientid: bool,
    /// `[conf: auto_id_prefix]`; at most 50 bytes.
    pub auto_id_prefix: String,
    /// `[conf: autosave_interval]` in seconds, or in changes with `autosave_on_changes`; 0 saves only at the end and on
    /// SIGUSR1.
    pub autosave_interval: u32,
    /// `[conf: autosave_on_changes]`: `autosave_interval` counts changes.
    pub autosave_on_changes: bool,
    /// `[conf: check_retain_source]`: a retained message is sent only while its publisher may still publish it.
    pub check_retain_source: bool,
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
    /// `[conf: packet_buffer_size]` in bytes; an HTTP upgrade request must fit.
    pub packet_buffer_size: u16,
    /// `[conf: password_file]`; unused under `per_listener_settings`.
    pub password_file: Option<PathBuf>,
    /// `[conf: per_listener_settings]`.
    pub per_listener_settings: bool,
    /// `[conf: persistence]`.
    pub persistence: bool,
    /// `[conf: persistence_file]`: a name within `persistence_location`.
    pub persistence_file: String,
    /// `[conf: persistence_location]`; `None` is the current directory.
    pub persistence_location: Option<PathBuf>,
    /// `[conf: persistence_mode]`.
    pub persistence_mode: PersistenceMode,
    /// `[conf: persistence_strict]`: a damaged database keeps the broker from starting.
    pub persistence_strict: bool,
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
    /// Options of MQTT-SN.
    pub sn: SnGlobal,
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
            acl_file: None,
            allow_anonymous: None,
            allow_duplicate_messages: true,
            allow_zero_length_clientid: true,
            auto_id_prefix: "auto-".into(),
            autosave_interval: 1800,
            autosave_on_changes: false,
            check_retain_source: false,
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
            packet_buffer_size: 4096,
            password_file: None,
            per_listener_settings: false,
            persistence: false,
            persistence_file: "mosquitto.db".into(),
            persistence_location: None,
            persistence_mode: PersistenceMode::Snapshot,
            persistence_strict: false,
            persistent_client_expiration: None,
            pid_file: None,
            queue_qos0_messages: false,
            retain_available: true,
            retain_expiry_interval: None,
            sn: SnGlobal::default(),
            strict_conformance: false,
            sys_interval: 10,
            upgrade_outgoing_qos: false,
            user: "mosquitto".into(),
            log: Log::default(),
        }
    }
}

impl Global {
    /// The file that holds sessions and retained messages.
    #[must_use]
    pub fn persistence_path(&self) -> PathBuf {
        match &self.persistence_location {
            // A leading slash does not lead out of the directory.
            Some(location) => location.join(self.persistence_file.trim_start_matches('/')),
            None => self.persistence_file.clone().into(),
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

impl Config {
    /// What holds before any file is read: no listener yet.
    fn empty() -> Config {
        Config { global: Global::default(), listeners: Vec::new(), bridges: Vec::new(), local_only: false, file: None }
    }

    /// The configuration without a file: port 1883 of this machine only, anonymous clients welcome.
    #[must_use]
    pub fn local_only(ports: &[u16]) -> Config {
        let ports = if ports.is_empty() { &[1883][..] } else { ports };
        let listeners = ports
            .iter()
            .flat_map(|&port| ["127.0.0.1", "::1"].map(|host| Listener::new(port, Some(host.into()))))
            .collect();
        Config { listeners, local_only: true, ..Config::empty() }
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

    /// The file of the topics that clients of `listener` may read and write.
    #[must_use]
    pub fn acl_file(&self, listener: &Listener) -> Option<PathBuf> {
        let own = self.global.per_listener_settings;
        if own { listener.acl_file.clone() } else { self.global.acl_file.clone() }
    }
}

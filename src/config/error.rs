//! What can be wrong with a configuration, in the words Mosquitto uses, and the lines that are only worth telling.

use std::fmt;

/// How important a line is that parsing left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Something does not do what its line says.
    Warning,
    /// Something works, but not for ever.
    Notice,
    /// Something happened.
    Information,
}

/// A line of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Why a configuration was refused. `Display` gives every line to print, without a final newline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The option as written; empty when no option is to blame.
    pub option: String,
    /// What is wrong.
    pub kind: ErrorKind,
    /// Where, innermost file first; empty when a whole file cannot be read.
    pub locations: Vec<Location>,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// No option has this name; the nearest known name if there is one.
    Unknown(Option<&'static str>),
    /// The value is missing.
    Empty,
    /// The value is none of those allowed.
    Invalid(String),
    /// The value is not an integer.
    NotANumber,
    /// The value does not fit an integer of 32 bits.
    TooWide,
    /// The number is outside the option's range.
    Range(i64),
    /// The option may stand only once.
    Duplicate,
    /// The value is not UTF-8 or holds control characters.
    MalformedUtf8,
    /// The value has more than 65535 bytes.
    TooLong,
    /// The line holds a NUL byte, so this is hardly a text file.
    Nul,
    /// The option belongs to a listener and none was opened.
    NeedsListener,
    /// The option belongs to a bridge and none was opened.
    NeedsBridge,
    /// The option belongs to a plugin and none was loaded.
    NeedsPlugin,
    /// `per_listener_settings` after an option that it governs.
    PerListenerTooLate,
    /// `include_dir` within an included file.
    NestedInclude,
    /// The directory of `include_dir` cannot be read; why.
    IncludeDir(String, String),
    /// The file cannot be read; why.
    Open(String, String),
    /// The file is a directory.
    Directory(String),
    /// The option needs something that is not built in.
    Unavailable(Feature),
    /// The same, where more can be said about what to do instead.
    Advised(Feature, &'static str),
    /// An error of one option, without `Error: `.
    Other(String),
}

impl ConfigError {
    /// The line or lines that say what is wrong, without the place.
    #[must_use]
    pub fn reason(&self) -> String {
        let option = self.option.as_str();
        // A few options go by another name in messages.
        let shown = match option {
            "listener" => "listener port",
            "bind_address" => "default listener bind_address",
            "clientid" | "remote_clientid" => "bridge remote clientid",
            "local_clientid" => "bridge local clientd",
            "remote_password" => "bridge remote_password",
            other => other,
        };
        let text = match &self.kind {
            ErrorKind::Unknown(None) => format!("Unknown configuration variable '{option}'."),
            ErrorKind::Unknown(Some(near)) => {
                format!("Unknown configuration variable '{option}'.\nDid you mean '{near}'?")
            }
            ErrorKind::Empty => match option {
                "socket_domain" => "Empty 'start_type' value in configuration.".into(),
                _ => format!("Empty '{shown}' value in configuration."),
            },
            ErrorKind::Invalid(text) => match option {
                "socket_domain" => format!("Invalid '{option}' value '{text}' in configuration."),
                "start_type" => format!("Invalid '{option}' value in configuration ({text})."),
                "tls_version" => format!("Unsupported tls_version \"{text}\"."),
                _ => format!("Invalid '{option}' value ({text})."),
            },
            ErrorKind::NotANumber => format!("'{shown}' value not a number."),
            ErrorKind::TooWide => format!("'{shown}' value out of range."),
            ErrorKind::Range(n) => match option {
                "listener" => format!("Invalid 'port' value ({n})."),
                "max_inflight_messages" => "'max_inflight_messages' must be <= 65535.".into(),
                "max_packet_size" => "'max_packet_size' must be >= 20.".into(),
                "max_qos" | "maximum_qos" => format!("'{option}' must be between 0 and 2 inclusive."),
                "enable_proxy_protocol" => "enable_proxy_protocol must be 1 or 2.".into(),
                _ => format!("Invalid '{option}' value ({n})."),
            },
            ErrorKind::Duplicate if matches!(option, "address" | "addresses") => "'address' only allowed once.".into(),
            ErrorKind::Duplicate => format!("Duplicate '{shown}' value in configuration."),
            ErrorKind::MalformedUtf8 => "Malformed UTF-8 in configuration.".into(),
            ErrorKind::TooLong => format!("'{shown}' value is longer than 65535 bytes."),
            ErrorKind::Nul => "NUL byte in configuration.".into(),
            ErrorKind::NeedsListener => format!("The '{option}' option requires a listener to be defined first."),
            ErrorKind::NeedsBridge => format!("The '{option}' option requires a bridge to be defined first."),
            ErrorKind::NeedsPlugin => {
                format!("The '{option}' option requires plugin/global_plugin/plugin_load to be defined first.")
            }
            ErrorKind::PerListenerTooLate => {
                "per_listener_settings must be set before any other security settings.".into()
            }
            ErrorKind::NestedInclude => "The include_dir option is only valid in the main configuration file.".into(),
            ErrorKind::IncludeDir(dir, why) => format!("Unable to open include_dir '{dir}'.\nReason: {why}."),
            ErrorKind::Open(file, why) => format!("Unable to open config file '{file}'.\nReason: {why}."),
            ErrorKind::Directory(file) => format!("Config file '{file}' is a directory."),
            ErrorKind::Unavailable(feature) => feature.sentence(option),
            ErrorKind::Advised(feature, instead) => feature.never(option, instead),
            ErrorKind::Other(text) => text.clone(),
        };
        format!("Error: {text}")
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason())?;
        for (i, place) in self.locations.iter().enumerate() {
            // Only the place inside an included file is quoted.
            if i + 1 < self.locations.len() {
                write!(f, "\nError found at '{place}'.")?;
            } else {
                write!(f, "\nError found at {place}.")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// A part of the broker that options may need and that may be missing from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Encrypted listeners.
    Tls,
    /// TLS with keys shared beforehand.
    TlsPsk,
    /// Proof that a certificate was not revoked.
    Ocsp,
    /// Engines of OpenSSL.
    TlsEngine,
    /// Password files.
    Passwords,
    /// Access control files.
    Acl,
    /// Code loaded at run time.
    Plugins,
    /// State that survives a restart.
    Persistence,
    /// Connections to other brokers.
    Bridges,
    /// MQTT over WebSockets.
    Websockets,
    /// The HTTP API of C Mosquitto 2.1.
    HttpApi,
    /// The listener that tells Prometheus how the broker is.
    Metrics,
    /// Listeners on UNIX sockets.
    UnixSockets,
    /// The PROXY protocol.
    Proxy,
    /// The topics `$CONTROL/broker/v1/…`.
    ControlApi,
    /// The log of the automotive world.
    Dlt,
    /// The topics `$SYS/…`.
    SysTree,
    /// MQTT-SN over UDP.
    MqttSn,
}

impl Feature {
    /// True when this build has it.
    // Each arm is a switch of the build, not a pattern.
    #[allow(clippy::match_like_matches_macro)]
    pub(super) const fn is_built(self) -> bool {
        match self {
            Feature::Passwords => true,
            Feature::Metrics => cfg!(feature = "metrics"),
            Feature::ControlApi => cfg!(feature = "control"),
            Feature::SysTree => cfg!(feature = "sys-tree"),
            Feature::Acl => true,
            Feature::Websockets => cfg!(feature = "websockets"),
            Feature::Tls => cfg!(feature = "tls"),
            Feature::Persistence => cfg!(feature = "persistence"),
            Feature::UnixSockets => cfg!(feature = "unix-sockets"),
            Feature::Proxy => cfg!(feature = "proxy"),
            Feature::Bridges => cfg!(feature = "bridge"),
            Feature::MqttSn => cfg!(feature = "mqttsn"),
            _ => false,
        }
    }

    /// What the feature is called, and for what will never be built, what to do instead.
    const fn words(self) -> (&'static str, Option<&'static str>) {
        match self {
            Feature::Tls => ("TLS", None),
            Feature::TlsPsk => ("TLS-PSK", Some("Use certificates ('cafile', 'certfile' and 'keyfile') instead.")),
            Feature::Ocsp => ("OCSP", Some("Leave it out: the certificate itself is always checked.")),
            Feature::TlsEngine => ("OpenSSL engines", Some("Name a file with the private key by 'keyfile' instead.")),
            Feature::Passwords => ("password files", None),
            Feature::Acl => ("access control lists", None),
            Feature::Plugins => {
                ("loadable plugins", Some("Use the built-in access control ('password_file' and 'acl_file') instead."))
            }
            Feature::Persistence => ("persistence", None),
            Feature::Bridges => ("bridges", None),
            Feature::Websockets => ("WebSockets", None),
            Feature::HttpApi => ("the HTTP API", Some("Use a listener with 'protocol metrics' instead.")),
            Feature::Metrics => ("the metrics page", None),
            Feature::UnixSockets => ("UNIX sockets", None),
            Feature::Proxy => ("the PROXY protocol", None),
            Feature::ControlApi => ("the control API", None),
            Feature::Dlt => ("DLT", Some("Use 'log_dest syslog' instead.")),
            Feature::SysTree => ("the $SYS topics", None),
            Feature::MqttSn => ("MQTT-SN", None),
        }
    }

    /// What the feature is called in messages.
    #[cfg(test)]
    pub(super) const fn name(self) -> &'static str {
        self.words().0
    }

    /// The sentence that answers `option`.
    pub(super) fn sentence(self, option: &str) -> String {
        match self.words() {
            (what, None) => {
                format!("The '{option}' option needs {what}, which is not available in this build.")
            }
            (_, Some(_)) if self == Feature::TlsPsk && option.starts_with("bridge_") => self
                .never(option, "Use certificates ('bridge_cafile', 'bridge_certfile' and 'bridge_keyfile') instead."),
            (_, Some(instead)) => self.never(option, instead),
        }
    }

    /// The sentence that answers `option` where the feature will never come.
    fn never(self, option: &str, instead: &str) -> String {
        format!("The '{option}' option needs {}, which this broker does not have. {instead}", self.words().0)
    }
}

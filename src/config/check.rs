//! The rules that look at the whole configuration, after the last file.

use super::{Config, Loaded, Severity};

/// What the log says at the start of a broker that serves this machine only; all are warnings.
pub const LOCAL_ONLY_LINES: [&str; 3] = [
    "Starting in local only mode. Connections will only be possible from clients running on this machine.",
    "Create a configuration file which defines a listener to allow remote access.",
    "For more details see https://mosquitto.org/documentation/authentication-methods/",
];

impl Config {
    /// Completes the configuration once every file is read. `ports` are those of `-p`.
    ///
    /// Without a listener in any file the broker serves this machine only: 127.0.0.1 and ::1, on each of `ports` or
    /// else on 1883. With one, `ports` are ignored.
    #[must_use]
    pub fn finish(mut self, ports: &[u16]) -> Loaded {
        let mut lines = Vec::new();
        if self.listeners.is_empty() {
            let local = Config::local_only(ports);
            self.listeners = local.listeners;
            self.local_only = true;
        } else if !ports.is_empty() {
            let line = "The ports of the command line are ignored because the configuration file defines listeners.";
            lines.push((Severity::Notice, line.into()));
        }
        for listener in self.listeners.iter().filter(|l| l.accept_protocol_versions == 0) {
            let line = format!(
                "Warning: 'accept_protocol_versions' of the listener on port {} names no known version: nobody can connect.",
                listener.port
            );
            lines.push((Severity::Warning, line));
        }
        Loaded { config: self, lines }
    }
}

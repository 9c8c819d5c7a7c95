//! The rules that look at the whole configuration, after the last file.

use std::collections::BTreeSet;

use super::bridge::Bridge;
use super::current::Place;
use super::parse::Parser;
use super::{Config, ConfigError, Listener, Loaded, ProxyProtocol, Severity};

/// Stands for this host's name where only equality counts. No client id holds it.
const ANY_HOST: &str = "\0";

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

impl Parser {
    /// The rules between the options of one listener or bridge, and between bridges.
    ///
    /// C Mosquitto checks most of them without saying where; here the line of one of the options is named.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.listeners().try_for_each(|(place, listener)| self.check_listener(place, listener))?;
        let mut ids = BTreeSet::new();
        for (i, bridge) in self.config.bridges.iter().enumerate() {
            let place = Place::Bridge(i);
            self.check_bridge(place, bridge)?;
            let id = bridge.local_id(ANY_HOST);
            if ids.contains(&id) {
                let shown = id.replace(ANY_HOST, "HOSTNAME");
                let options = ["local_clientid", "remote_clientid", "connection"];
                return Err(self.bridge_error(place, &options, &format!("local client id '{shown}' is used twice")));
            }
            ids.insert(id);
        }
        Ok(())
    }

    fn check_listener(&self, place: Place, listener: &Listener) -> Result<(), ConfigError> {
        let error = |options: &[&'static str], text: &str| Err(self.whole_error(place, options, text.into()));
        let tls = &listener.tls;
        let (certfile, keyfile) = (tls.certfile.is_some(), tls.keyfile.is_some());
        if listener.proxy_protocol == Some(ProxyProtocol::V2) {
            let blame = &["enable_proxy_protocol"];
            if certfile || keyfile {
                return error(blame, "'certfile' and 'keyfile' cannot be used with version 2 of the PROXY protocol.");
            }
            if tls.use_subject_as_username {
                return error(blame, "'use_subject_as_username' cannot be used with version 2 of the PROXY protocol.");
            }
        }
        if tls.cafile.is_some() && !(certfile || keyfile) {
            return error(&["cafile"], "cafile specified without certfile and keyfile.");
        }
        if tls.capath.is_some() && !(certfile || keyfile) {
            return error(&["capath"], "capath specified without certfile and keyfile.");
        }
        if certfile != keyfile {
            let text = "Both certfile and keyfile must be provided to enable a TLS listener.";
            return error(&["certfile", "keyfile"], text);
        }
        Ok(())
    }

    fn check_bridge(&self, place: Place, bridge: &Bridge) -> Result<(), ConfigError> {
        let error = |option: &'static str, text: &str| Err(self.bridge_error(place, &[option], text));
        if bridge.addresses.is_empty() {
            return error("connection", "no remote addresses defined");
        }
        if bridge.topics.is_empty() {
            return error("connection", "no topics defined");
        }
        match ["bridge_identity", "bridge_psk"].map(|name| self.is_marked(place, name)) {
            [true, false] => error("bridge_identity", "missing bridge_psk"),
            [false, true] => error("bridge_psk", "missing bridge_identity"),
            _ => Ok(()),
        }
    }

    fn bridge_error(&self, place: Place, options: &[&'static str], text: &str) -> ConfigError {
        self.whole_error(place, options, format!("Invalid bridge configuration: {text}."))
    }
}

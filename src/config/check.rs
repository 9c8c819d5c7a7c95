//! The rules that look at the whole configuration, after the last file.

use std::collections::BTreeSet;

use super::bridge::Bridge;
use super::current::Place;
use super::parse::Parser;
use super::{Config, ConfigError, Listener, Loaded, Protocol, ProxyProtocol, Severity};
use crate::wire::ProtocolVersion;

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
        for listener in &self.listeners {
            lines.extend(
                idle_options(listener)
                    .map(|text| (Severity::Warning, format!("Warning: Listener {}: {text}", listener.name()))),
            );
        }
        for bridge in &self.bridges {
            let lines_of = idle_bridge_options(bridge).map(|text| format!("Warning: Bridge {}: {text}", bridge.name));
            lines.extend(lines_of.map(|line| (Severity::Warning, line)));
        }
        Loaded { config: self, lines }
    }
}

/// Options that do nothing on this listener, or shut everybody out. C Mosquitto is silent about them.
fn idle_options(listener: &Listener) -> impl Iterator<Item = String> {
    const CERTIFICATE: &str = "'certfile' and 'keyfile'";
    const CLIENTS: &str = "'certfile', 'keyfile' and 'require_certificate'";
    const WEB: &str = "'protocol websockets'";
    let tls = &listener.tls;
    let encrypts = tls.certfile.is_some();
    // A proxy that speaks version 2 tells about the client's certificate.
    let told = listener.proxy_protocol == Some(ProxyProtocol::V2);
    let asks = encrypts && tls.require_certificate;
    let web = listener.protocol == Protocol::Websockets;
    let idle = [
        (tls.require_certificate, encrypts || told, "require_certificate", CERTIFICATE),
        (tls.crlfile.is_some(), asks, "crlfile", CLIENTS),
        (tls.disable_client_cert_date_checks, asks, "disable_client_cert_date_checks", CLIENTS),
        (tls.ciphers.is_some(), encrypts, "ciphers", CERTIFICATE),
        (tls.ciphers_tls13.is_some(), encrypts, "ciphers_tls1.3", CERTIFICATE),
        (listener.proxy_protocol_v2_require_tls, told, "proxy_protocol_v2_require_tls", "'enable_proxy_protocol 2'"),
        (!listener.websockets_origin.is_empty(), web, "websockets_origin", WEB),
        (listener.http_dir.is_some(), web, "http_dir", WEB),
    ];
    let shut = [
        (tls.use_identity_as_username, asks || told, "use_identity_as_username"),
        (tls.use_subject_as_username, asks, "use_subject_as_username"),
    ];
    let idle = idle.into_iter().filter(|(set, works, ..)| *set && !works);
    let shut = shut.into_iter().filter(|(set, works, _)| *set && !works);
    idle.map(|(.., option, lacks)| format!("'{option}' has no effect without {lacks}."))
        .chain(shut.map(|(.., option)| format!("'{option}' refuses every client without {CLIENTS}.")))
}

/// Options that do nothing for this bridge. C Mosquitto is silent about them, also when they look like encryption.
fn idle_bridge_options(bridge: &Bridge) -> impl Iterator<Item = String> {
    const TRUST: &str = "'bridge_cafile', 'bridge_capath' or 'bridge_tls_use_os_certs true'";
    let tls = &bridge.tls;
    let encrypts = tls.enabled();
    let named = bridge.remote_username.is_some() || bridge.version == ProtocolVersion::V5;
    let idle = [
        (tls.certfile.is_some(), encrypts, "bridge_certfile", TRUST),
        (tls.keyfile.is_some(), encrypts, "bridge_keyfile", TRUST),
        (tls.insecure, encrypts, "bridge_insecure", TRUST),
        (tls.alpn.is_some(), encrypts, "bridge_alpn", TRUST),
        (tls.ciphers.is_some(), encrypts, "bridge_ciphers", TRUST),
        (tls.ciphers_tls13.is_some(), encrypts, "bridge_ciphers_tls1.3", TRUST),
        (bridge.remote_password.is_some(), named, "remote_password", "'remote_username' before MQTT 5"),
    ];
    let idle = idle.into_iter().filter(|(set, works, ..)| *set && !works);
    idle.map(|(.., option, lacks)| format!("'{option}' has no effect without {lacks}."))
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

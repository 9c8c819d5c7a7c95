//! What a listener means, in one line: where it is, what is spoken there, and who may connect.

use std::net::IpAddr;
use std::path::PathBuf;

use super::{Config, Listener, Protocol, TlsOptions};

/// Where clients of a listener can come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    /// This machine only.
    Loopback,
    /// Other machines too, as far as this can be told from the configuration.
    Network,
}

impl Listener {
    /// The listener's port and address, as messages name it: `1883 on all addresses`.
    #[must_use]
    pub fn name(&self) -> String {
        if let Some(path) = &self.unix_path {
            return format!("{}", path.display());
        }
        let place = match (&self.host, &self.bind_interface) {
            (Some(host), None) => host.clone(),
            (Some(host), Some(interface)) => format!("{host} of {interface}"),
            (None, Some(interface)) => format!("all addresses of {interface}"),
            (None, None) if self.protocol == Protocol::Metrics => "this machine".into(),
            (None, None) => "all addresses".into(),
        };
        format!("{} on {place}", self.port)
    }

    fn reach(&self) -> Reach {
        let stays_here = self.protocol == Protocol::Metrics && self.host.is_none() && self.bind_interface.is_none();
        if self.unix_path.is_some() || stays_here {
            return Reach::Loopback;
        }
        let own = |host: &str| {
            host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        };
        // The loopback interface has this name on Linux.
        let loopback = self.host.as_deref().is_some_and(own) || self.bind_interface.as_deref() == Some("lo");
        if loopback { Reach::Loopback } else { Reach::Network }
    }
}

impl TlsOptions {
    /// How clients are protected on the way, and who vouches for them.
    fn describe(&self) -> String {
        match (&self.certfile, self.require_certificate) {
            (None, _) => "no TLS".into(),
            (Some(_), false) => "TLS".into(),
            (Some(_), true) => "TLS with client certificates".into(),
        }
    }
}

impl Config {
    /// The line that says what `listener` is, logged when it is opened and when a reload changes it: what is spoken, how it
    /// is protected on the way, who may connect, and what they see.
    #[must_use]
    pub fn describe(&self, listener: &Listener) -> String {
        let protocol = match listener.protocol {
            Protocol::Mqtt => "mqtt",
            Protocol::Websockets => "websockets",
            Protocol::Metrics => "metrics",
            Protocol::MqttSn => "mqtt-sn",
        };
        let mut parts = vec![protocol.to_string(), listener.tls.describe()];
        parts.extend(self.who(listener));
        parts.extend(listener.mount_point.as_ref().map(|mount| format!("mount point {mount}")));
        format!("Listener {}: {}.", listener.name(), parts.join(", "))
    }

    /// Who may connect to `listener`, and what decides what they may do there.
    fn who(&self, listener: &Listener) -> Vec<String> {
        // Figures to read; nobody is asked for a name.
        if listener.protocol == Protocol::Metrics {
            return vec!["anybody".into()];
        }
        if listener.protocol == Protocol::MqttSn {
            return self.who_of_sn(listener);
        }
        let anonymous = if self.anonymous_allowed(listener) { "yes" } else { "no" };
        let passwords = match self.global.per_listener_settings {
            true => &listener.password_file,
            false => &self.global.password_file,
        };
        let acl = &self.acl_file(listener);
        let file = |path: &Option<PathBuf>| path.as_ref().map_or("none".into(), |path| path.display().to_string());
        vec![format!("anonymous {anonymous}"), format!("passwords {}", file(passwords)), format!("acl {}", file(acl))]
    }

    /// The same for MQTT-SN, which has no passwords: the listener itself says who its clients are.
    fn who_of_sn(&self, listener: &Listener) -> Vec<String> {
        let sn = &listener.sn;
        let user = match (&sn.clients_file, sn.use_clientid_as_username, &sn.user) {
            (Some(file), ..) => format!("clients {}", file.display()),
            (None, true, _) => "user names are client ids".into(),
            (None, false, Some(user)) => format!("user {user}"),
            (None, false, None) => format!("anonymous {}", if self.anonymous_allowed(listener) { "yes" } else { "no" }),
        };
        let acl = self.acl_file(listener).map_or("none".into(), |path| path.display().to_string());
        vec![user, format!("acl {acl}"), format!("gateway id {}", sn.gateway_id)]
    }

    /// True when anybody may connect to a listener for MQTT-SN who only says the right client id.
    fn sn_is_open(&self, listener: &Listener) -> bool {
        let sn = &listener.sn;
        let named = sn.use_clientid_as_username || sn.user.is_some();
        sn.allow_from.is_empty() && sn.clients_file.is_none() && (named || self.anonymous_allowed(listener))
    }

    /// A warning, with the remedy, when anybody who reaches `listener` from another machine may do all that is done there.
    #[must_use]
    pub fn exposure(&self, listener: &Listener) -> Option<String> {
        if listener.reach() == Reach::Loopback {
            return None;
        }
        let (may, remedy) = match listener.protocol {
            Protocol::Metrics => ("read the figures of the broker", "Keep others away by a firewall"),
            Protocol::MqttSn if !self.sn_is_open(listener) || self.acl_file(listener).is_some() => return None,
            Protocol::MqttSn => (
                "connect, read and publish: MQTT-SN has no passwords",
                "Say in 'acl_file' what may be done, or in 'mqttsn_allow_from' who is heard",
            ),
            _ if !self.anonymous_allowed(listener) || self.acl_file(listener).is_some() => return None,
            _ => ("connect, read and publish without a password", "Set 'allow_anonymous false' and a 'password_file'"),
        };
        let name = listener.name();
        Some(format!("Warning: Anybody who reaches listener {name} may {may}. {remedy}, or bind it to 127.0.0.1."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_described_and_an_open_one_is_warned_about() {
        for (text, line, warned) in [
            ("", "1883 on 127.0.0.1: mqtt, no TLS, anonymous yes, passwords none, acl none.", false),
            ("listener 1883", "1883 on all addresses: mqtt, no TLS, anonymous no, passwords none, acl none.", false),
            (
                "listener 1883\nallow_anonymous true",
                "1883 on all addresses: mqtt, no TLS, anonymous yes, passwords none, acl none.",
                true,
            ),
            (
                "listener 1 192.0.2.1\nlistener_allow_anonymous true\nmount_point m/",
                "1 on 192.0.2.1: mqtt, no TLS, anonymous yes, passwords none, acl none, mount point m/.",
                true,
            ),
            (
                "listener 1 0.0.0.0\nallow_anonymous true",
                "1 on 0.0.0.0: mqtt, no TLS, anonymous yes, passwords none, acl none.",
                true,
            ),
            (
                "listener 1 localhost\nallow_anonymous true",
                "1 on localhost: mqtt, no TLS, anonymous yes, passwords none, acl none.",
                false,
            ),
            (
                "listener 1 ::1\nallow_anonymous true",
                "1 on ::1: mqtt, no TLS, anonymous yes, passwords none, acl none.",
                false,
            ),
            (
                "port 1883\nbind_interface lo\nallow_anonymous true",
                "1883 on all addresses of lo: mqtt, no TLS, anonymous yes, passwords none, acl none.",
                false,
            ),
            (
                "listener 1 192.0.2.1\nbind_interface eth0\nallow_anonymous true",
                "1 on 192.0.2.1 of eth0: mqtt, no TLS, anonymous yes, passwords none, acl none.",
                true,
            ),
            (
                "allow_anonymous true\nlistener 1\nlistener_allow_anonymous false",
                "1 on all addresses: mqtt, no TLS, anonymous no, passwords none, acl none.",
                false,
            ),
            (
                "per_listener_settings true\nlistener 1\nallow_anonymous true",
                "1 on all addresses: mqtt, no TLS, anonymous yes, passwords none, acl none.",
                true,
            ),
            (
                "listener 1\nallow_anonymous true\nacl_file a",
                "1 on all addresses: mqtt, no TLS, anonymous yes, passwords none, acl a.",
                false,
            ),
        ] {
            let config = Config::parse_str("a.conf", text).unwrap_or_else(|e| panic!("{e}")).config.finish(&[]).config;
            let listener = &config.listeners[0];
            assert_eq!(config.describe(listener), format!("Listener {line}"), "{text}");
            assert_eq!(config.exposure(listener).is_some(), warned, "{text}");
        }
    }

    #[test]
    fn a_listener_for_mqtt_sn_is_described_by_what_it_knows_of_its_clients() {
        for (options, who, warned) in [
            ("", "anonymous no, acl none, gateway id 1", false),
            ("allow_anonymous true\nmqttsn_gateway_id 7", "anonymous yes, acl none, gateway id 7", true),
            ("allow_anonymous true\nacl_file a", "anonymous yes, acl a, gateway id 1", false),
            ("mqttsn_user u", "user u, acl none, gateway id 1", true),
            ("mqttsn_user u\nmqttsn_allow_from 10.0.0.0/8", "user u, acl none, gateway id 1", false),
            ("mqttsn_use_clientid_as_username true", "user names are client ids, acl none, gateway id 1", true),
            ("mqttsn_clients_file c", "clients c, acl none, gateway id 1", false),
        ] {
            let parsed = Config::parse_str("a.conf", format!("listener 1885\nprotocol mqtt-sn\n{options}"));
            // Without the part the options are refused, and the rest of this says nothing.
            let Ok(loaded) = parsed else { continue };
            let config = loaded.config;
            let listener = &config.listeners[0];
            let line = format!("Listener 1885 on all addresses: mqtt-sn, no TLS, {who}.");
            assert_eq!((config.describe(listener), config.exposure(listener).is_some()), (line, warned), "{options}");
        }
    }

    #[test]
    fn a_page_for_readers_is_described_without_users() {
        let config = Config::local_only(&[]);
        let listener = Listener { protocol: Protocol::Metrics, ..Listener::new(9, None) };
        assert_eq!(config.describe(&listener), "Listener 9 on this machine: metrics, no TLS, anybody.");
        assert_eq!(config.exposure(&listener), None);
        for (host, interface, warned) in [
            (Some("127.0.0.1"), None, false),
            (Some("192.0.2.1"), None, true),
            (Some("0.0.0.0"), None, true),
            (None, Some("eth0"), true),
            (None, Some("lo"), false),
        ] {
            let [host, bind_interface] = [host, interface].map(|name| name.map(Into::into));
            let listener = Listener { bind_interface, protocol: Protocol::Metrics, ..Listener::new(9, host) };
            let warning = config.exposure(&listener);
            assert_eq!(warning.is_some(), warned, "{}", listener.name());
            assert!(warning.is_none_or(|text| text.contains("may read the figures of the broker")));
        }
    }
}

//! Rows of listeners and of access that do more than put a value into their field.

use std::ffi::OsStr;
use std::path::Path;

use super::{Done, blank, done, set, words};
use crate::config::error::{ErrorKind, Feature, Severity};
use crate::config::parse::Parser;
use crate::config::{Listener, Protocol, ProxyProtocol, SocketDomain, TlsVersion, value};
use crate::wire::QoS;

/// A path of this many bytes does not fit the system's address of a UNIX socket any more.
const UNIX_PATH_END: usize = 108;

/// `listener PORT [HOST]`; `listener 0 PATH` is a UNIX socket. RSMB's third word is the protocol, and its host for every
/// address is `INADDR_ANY`.
pub(in crate::config) fn listener(p: &mut Parser, rest: &str) -> Done {
    let mut words = words(rest);
    let port = value::integer(words.next().ok_or(ErrorKind::Empty)?)?;
    let host = words.next();
    let port = u16::try_from(port).map_err(|_| ErrorKind::Range(port.into()))?;
    host.map_or(Ok(()), value::check_text)?;
    let third = words.next();
    if let (Some("mqtts" | "mqtt"), Some(host), 1..) = (third, host, port) {
        let host = (host != "INADDR_ANY").then(|| host.into());
        p.open_listener(Listener::new(port, host));
        if third == Some("mqtts") {
            protocol(p, "mqtts")?;
        }
        return done();
    }
    if third.is_some() {
        p.warn("The text after the host or path of a 'listener' is ignored.");
    }
    match (port, host) {
        (0, None) => Err(ErrorKind::Other("A listener with port 0 must provide a Unix socket path.".into())),
        (0, Some(path)) if path.len() >= UNIX_PATH_END => {
            Err(ErrorKind::Other(format!("Path to unix socket is too long \"{path}\".")))
        }
        (0, Some(path)) => {
            p.refuse_without(Feature::UnixSockets);
            p.open_listener(Listener { unix_path: Some(path.into()), ..Listener::new(0, None) });
            done()
        }
        (port, host) => {
            p.open_listener(Listener::new(port, host.map(Into::into)));
            done()
        }
    }
}

pub(in crate::config) fn port(p: &mut Parser, n: i32) -> Done {
    match u16::try_from(n) {
        Ok(port) if port > 0 => p.default_port(port),
        _ => return Err(ErrorKind::Range(n.into())),
    }
    done()
}

pub(in crate::config) fn bind_address(p: &mut Parser, host: &str) -> Done {
    p.default_host(host);
    done()
}

/// `protocol`: anything but `mqtt` is another kind of listener.
pub(in crate::config) fn protocol(p: &mut Parser, word: &str) -> Done {
    let (protocol, feature) = match word {
        "websockets" => (Protocol::Websockets, Some(Feature::Websockets)),
        "metrics" => (Protocol::Metrics, Some(Feature::Metrics)),
        // The first is ours, the last is RSMB's.
        "mqtt-sn" | "mqttsn" | "mqtts" => (Protocol::MqttSn, Some(Feature::MqttSn)),
        "http_api" => (Protocol::Mqtt, Some(Feature::HttpApi)),
        _ => (Protocol::Mqtt, None),
    };
    if let Some(feature) = feature {
        p.refuse_without(feature);
    }
    set(&mut p.listener().protocol, protocol)
}

pub(in crate::config) fn socket_domain(p: &mut Parser, word: &str) -> Done {
    set(&mut p.listener().socket_domain, if word == "ipv4" { SocketDomain::Ipv4 } else { SocketDomain::Ipv6 })
}

pub(in crate::config) fn max_qos(p: &mut Parser, n: i32) -> Done {
    let qos = match n {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    };
    set(&mut p.listener().max_qos, qos)
}

/// `accept_protocol_versions`: numbers separated by commas or blanks; unknown ones are passed over.
pub(in crate::config) fn accept_protocol_versions(p: &mut Parser, rest: &str) -> Done {
    let mut versions = 0;
    for word in words(rest).flat_map(|word| word.split(',')).filter(|word| !word.is_empty()) {
        match word {
            "3" => versions |= 1,
            "4" => versions |= 2,
            "5" => versions |= 4,
            _ => p.warn(&format!("Unknown protocol version '{word}' in 'accept_protocol_versions' is ignored.")),
        }
    }
    set(&mut p.listener().accept_protocol_versions, versions)
}

pub(in crate::config) fn mount_point(p: &mut Parser, text: &str) -> Done {
    if text.contains(['+', '#']) {
        let text = format!("Invalid 'mount_point' value ({text}). Does it contain a wildcard character?");
        return Err(ErrorKind::Other(text));
    }
    set(&mut p.listener().mount_point, Some(text.into()))
}

/// `http_dir`: a directory that exists.
pub(in crate::config) fn http_dir(p: &mut Parser, text: &str) -> Done {
    match Path::new(text).canonicalize() {
        Ok(dir) if dir.is_dir() => set(&mut p.listener().http_dir, Some(dir)),
        _ => Err(ErrorKind::Other(format!("Unable to open http_dir '{text}'."))),
    }
}

pub(in crate::config) fn proxy_protocol(p: &mut Parser, n: i32) -> Done {
    set(&mut p.listener().proxy_protocol, Some(if n == 1 { ProxyProtocol::V1 } else { ProxyProtocol::V2 }))
}

pub(in crate::config) fn listener_tls_version(p: &mut Parser, word: &str) -> Done {
    let version = tls_version(p, word);
    set(&mut p.listener().tls.tls_version, version)
}

/// The oldest version to speak. TLS 1.1 as the oldest leaves 1.2 and 1.3.
pub(super) fn tls_version(p: &mut Parser, word: &str) -> TlsVersion {
    match word {
        "tlsv1.3" => return TlsVersion::Tls13,
        "tlsv1.1" => p.warn("TLS 1.1 is not safe any more and not spoken: TLS 1.2 is the oldest version."),
        _ => {}
    }
    TlsVersion::Tls12
}

/// `tls_engine_kpass_sha1`: 20 bytes in hexadecimal.
pub(in crate::config) fn engine_password(_: &mut Parser, text: &str) -> Done {
    let hex = text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if hex { done() } else { Err(ErrorKind::Invalid(text.into())) }
}

const BOTH: &str = "Cannot use both certificate and psk encryption in a single listener.";

/// Refuses a certificate option behind a key shared beforehand on the same listener.
pub(in crate::config) fn certificate(p: &Parser) -> Done {
    // A `psk_file` of the whole broker is fine beside certificates.
    if p.marked(&["psk_hint"]) { Err(ErrorKind::Other(BOTH.into())) } else { done() }
}

/// Refuses a key shared beforehand behind a certificate option on the same listener.
pub(in crate::config) fn shared_key(p: &mut Parser, _: &str) -> Done {
    if p.marked(&["cafile", "capath", "certfile", "keyfile"]) { Err(ErrorKind::Other(BOTH.into())) } else { done() }
}

pub(in crate::config) fn allow_anonymous(p: &mut Parser, on: bool) -> Done {
    if p.config.global.per_listener_settings {
        p.say(Severity::Notice, "Use 'listener_allow_anonymous' instead of 'allow_anonymous' for one listener.".into());
    }
    match p.own_listener() {
        Some(listener) => listener.allow_anonymous = Some(on),
        None => p.config.global.allow_anonymous = Some(on),
    }
    done()
}

pub(in crate::config) fn allow_zero_length_clientid(p: &mut Parser, on: bool) -> Done {
    match p.own_listener() {
        Some(listener) => listener.allow_zero_length_clientid = Some(on),
        None => p.config.global.allow_zero_length_clientid = on,
    }
    done()
}

pub(in crate::config) fn password_file(p: &mut Parser, file: &str) -> Done {
    match p.own_listener() {
        Some(listener) => listener.password_file = Some(file.into()),
        None => p.config.global.password_file = Some(file.into()),
    }
    done()
}

pub(in crate::config) fn acl_file(p: &mut Parser, file: &str) -> Done {
    match p.own_listener() {
        Some(listener) => listener.acl_file = Some(file.into()),
        None => p.config.global.acl_file = Some(file.into()),
    }
    done()
}

fn check_prefix(option: &str, text: &str) -> Done {
    if text.len() > 50 {
        return Err(ErrorKind::Other(format!("'{option}' length must be <= 50.")));
    }
    done()
}

pub(in crate::config) fn auto_id_prefix(p: &mut Parser, text: &str) -> Done {
    check_prefix("auto_id_prefix", text)?;
    match p.own_listener() {
        Some(listener) => listener.auto_id_prefix = Some(text.into()),
        None => p.config.global.auto_id_prefix = text.into(),
    }
    done()
}

pub(in crate::config) fn listener_auto_id_prefix(p: &mut Parser, text: &str) -> Done {
    check_prefix("listener_auto_id_prefix", text)?;
    set(&mut p.listener().auto_id_prefix, Some(text.into()))
}

/// `plugin` and `global_plugin`: refused, with the better answer for the plugins that everyone has.
pub(in crate::config) fn plugin(p: &mut Parser, path: &str) -> Done {
    p.open_plugin();
    refuse_plugin(p, path);
    done()
}

fn refuse_plugin(p: &mut Parser, path: &str) {
    let instead = match Path::new(path).file_name().and_then(OsStr::to_str) {
        Some("mosquitto_password_file.so") => "Use 'password_file' instead: the broker reads password files itself.",
        Some("mosquitto_acl_file.so") => "Use 'acl_file' instead: the broker reads access control files itself.",
        Some("mosquitto_dynamic_security.so") => {
            "Dynamic security is not available: use 'password_file' and 'acl_file' instead."
        }
        _ => return p.refuse_without(Feature::Plugins),
    };
    p.refuse(ErrorKind::Advised(Feature::Plugins, instead));
}

/// `plugin_load NAME PATH`.
pub(in crate::config) fn plugin_load(p: &mut Parser, rest: &str) -> Done {
    let (name, path) = rest.split_once(blank).unwrap_or((rest, ""));
    let path = path.trim_ascii();
    value::check_text(rest)?;
    if path.is_empty() {
        return Err(ErrorKind::Other(format!("Missing plugin path for the plugin name '{name}'.")));
    }
    if !p.plugins.insert(name.into()) {
        return Err(ErrorKind::Other(format!("Duplicate plugin name '{name}'.")));
    }
    plugin(p, path)
}

/// `plugin_use NAME`.
pub(in crate::config) fn plugin_use(p: &mut Parser, name: &str) -> Done {
    if !p.plugins.contains(name) {
        return Err(ErrorKind::Other(format!("Plugin '{name}' not previously loaded.")));
    }
    p.open_plugin();
    done()
}

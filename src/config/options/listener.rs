//! Options of listeners.

use super::Scope::{Global, Listener, ListenerOrDefault};
use super::{Kind, OptionRow, any_of, directory, file, int, row, text};
use crate::config::error::Feature;
use crate::config::store::{self, done, limit, listener, set};

/// Sorted by name.
pub(super) const ROWS: &[OptionRow] = &[
    row("accept_protocol_versions", Listener, Kind::Words("3, 4, 5", listener::accept_protocol_versions), "3, 4, 5"),
    row("bind_address", Global, Kind::Text("host", listener::bind_address), "none")
        .once()
        .deprecated("Use 'listener' instead."),
    row(
        "bind_interface",
        ListenerOrDefault,
        Kind::Text("interface", |p, v| set(&mut p.listener().bind_interface, Some(v.into()))),
        "none",
    )
    .once(),
    row(
        "cafile",
        Listener,
        file(|p, v| listener::certificate(p).and(set(&mut p.listener().tls.cafile, Some(v.into())))),
        "none",
    )
    .needs(Feature::Tls),
    row(
        "capath",
        ListenerOrDefault,
        directory(|p, v| listener::certificate(p).and(set(&mut p.listener().tls.capath, Some(v.into())))),
        "none",
    )
    .needs(Feature::Tls),
    row(
        "certfile",
        ListenerOrDefault,
        file(|p, v| listener::certificate(p).and(set(&mut p.listener().tls.certfile, Some(v.into())))),
        "none",
    )
    .needs(Feature::Tls),
    row("ciphers", ListenerOrDefault, text(|p, v| set(&mut p.listener().tls.ciphers, Some(v.into()))), "none")
        .needs(Feature::Tls),
    row(
        "ciphers_tls1.3",
        ListenerOrDefault,
        text(|p, v| set(&mut p.listener().tls.ciphers_tls13, Some(v.into()))),
        "none",
    )
    .needs(Feature::Tls),
    row("crlfile", ListenerOrDefault, file(|p, v| set(&mut p.listener().tls.crlfile, Some(v.into()))), "none")
        .needs(Feature::Tls),
    row("dhparamfile", Global, Kind::Gone("dhparamfile is no longer required."), "none"),
    row(
        "disable_client_cert_date_checks",
        Listener,
        Kind::Bool(|p, v| set(&mut p.listener().tls.disable_client_cert_date_checks, v)),
        "false",
    )
    .needs(Feature::Tls),
    row("enable_proxy_protocol", Listener, int(1, 2, "version", listener::proxy_protocol), "none")
        .needs(Feature::Proxy),
    row("http_dir", Listener, directory(listener::http_dir), "none").once().wants(Feature::Websockets),
    row(
        "keyfile",
        ListenerOrDefault,
        file(|p, v| listener::certificate(p).and(set(&mut p.listener().tls.keyfile, Some(v.into())))),
        "none",
    )
    .needs(Feature::Tls),
    row("listener", Global, Kind::Words("port [host [mqtts]]", listener::listener), "none"),
    row(
        "listener_allow_anonymous",
        Listener,
        Kind::Bool(|p, v| set(&mut p.listener().allow_anonymous, Some(v))),
        "none",
    ),
    row("listener_auto_id_prefix", Listener, Kind::Text("prefix", listener::listener_auto_id_prefix), "none").once(),
    row(
        "max_connections",
        ListenerOrDefault,
        int(i32::MIN, i32::MAX, "connections", |p, n| set(&mut p.listener().max_connections, limit(n))),
        "-1",
    ),
    row("max_qos", ListenerOrDefault, int(0, 2, "QoS", listener::max_qos), "2").alias(&["maximum_qos"]),
    row(
        "max_topic_alias",
        Listener,
        int(0, 65535, "aliases", |p, n| store::short(&mut p.listener().max_topic_alias, n)),
        "10",
    ),
    row(
        "max_topic_alias_broker",
        Listener,
        int(0, 65535, "aliases", |p, n| store::short(&mut p.listener().max_topic_alias_broker, n)),
        "10",
    ),
    row("mount_point", Listener, Kind::Text("topic prefix", listener::mount_point), "none"),
    row("plugin_use", Listener, text(listener::plugin_use), "none").fixed().needs(Feature::Plugins),
    row("port", Global, int(0, 65535, "port", listener::port), "1883").deprecated("Use 'listener' instead."),
    row(
        "protocol",
        ListenerOrDefault,
        Kind::Choice(&["mqtt", "websockets", "http_api", "metrics", "mqtt-sn", "mqttsn", "mqtts"], listener::protocol),
        "mqtt",
    ),
    row(
        "proxy_protocol_v2_require_tls",
        Listener,
        Kind::Bool(|p, v| set(&mut p.listener().proxy_protocol_v2_require_tls, v)),
        "false",
    )
    .needs(Feature::Proxy),
    row("psk_hint", ListenerOrDefault, text(listener::shared_key), "none").fixed().once().needs(Feature::TlsPsk),
    row(
        "require_certificate",
        ListenerOrDefault,
        Kind::Bool(|p, v| set(&mut p.listener().tls.require_certificate, v)),
        "false",
    )
    .needs(Feature::Tls),
    row("socket_domain", ListenerOrDefault, Kind::Choice(&["ipv4", "ipv6"], listener::socket_domain), "none"),
    row("tls_engine", ListenerOrDefault, text(|_, _| done()), "none").fixed().once().needs(Feature::TlsEngine),
    row("tls_engine_kpass_sha1", ListenerOrDefault, text(listener::engine_password), "none")
        .fixed()
        .needs(Feature::TlsEngine),
    row("tls_keyform", ListenerOrDefault, any_of(&["pem", "engine"]), "pem").fixed().needs(Feature::TlsEngine),
    row(
        "tls_version",
        Listener,
        Kind::Choice(&["tlsv1.3", "tlsv1.2", "tlsv1.1"], listener::listener_tls_version),
        "tlsv1.2",
    )
    .fixed()
    .once()
    .needs(Feature::Tls),
    row(
        "use_identity_as_username",
        ListenerOrDefault,
        Kind::Bool(|p, v| set(&mut p.listener().tls.use_identity_as_username, v)),
        "false",
    )
    .needs(Feature::Tls),
    row(
        "use_subject_as_username",
        ListenerOrDefault,
        Kind::Bool(|p, v| set(&mut p.listener().tls.use_subject_as_username, v)),
        "false",
    )
    .needs(Feature::Tls),
    row(
        "use_username_as_clientid",
        ListenerOrDefault,
        Kind::Bool(|p, v| set(&mut p.listener().use_username_as_clientid, v)),
        "false",
    ),
    row(
        "websockets_origin",
        Listener,
        text(|p, v| {
            p.listener().websockets_origin.push(v.into());
            done()
        }),
        "none",
    )
    .wants(Feature::Websockets),
];

//! Options of bridges.

use super::Scope::{Bridge, Global};
use super::{Kind, OptionRow, file, int, row, text};
use crate::config::error::Feature::{Bridges, Ocsp, Tls, TlsPsk};
use crate::config::store::{bridge, set, short, size};

/// Sorted by name.
pub(super) const ROWS: &[OptionRow] = &[
    row("address", Bridge, Kind::Words("host[:port] …", bridge::address), "none")
        .alias(&["addresses"])
        .once()
        .needs(Bridges),
    row("bridge_alpn", Bridge, text(|p, v| set(&mut p.bridge().tls.alpn, Some(v.into()))), "none")
        .once()
        .needs(Bridges)
        .needs(Tls),
    row("bridge_attempt_unsubscribe", Bridge, Kind::Bool(|p, v| set(&mut p.bridge().attempt_unsubscribe, v)), "true")
        .needs(Bridges),
    row(
        "bridge_bind_address",
        Bridge,
        Kind::Text("host", |p, v| set(&mut p.bridge().bind_address, Some(v.into()))),
        "none",
    )
    .once()
    .needs(Bridges),
    row(
        "bridge_cafile",
        Bridge,
        file(|p, v| bridge::certificate(p).and(set(&mut p.bridge().tls.cafile, Some(v.into())))),
        "none",
    )
    .once()
    .needs(Bridges)
    .needs(Tls),
    row(
        "bridge_capath",
        Bridge,
        Kind::Text("directory", |p, v| bridge::certificate(p).and(set(&mut p.bridge().tls.capath, Some(v.into())))),
        "none",
    )
    .once()
    .needs(Bridges)
    .needs(Tls),
    row(
        "bridge_certfile",
        Bridge,
        file(|p, v| bridge::certificate(p).and(set(&mut p.bridge().tls.certfile, Some(v.into())))),
        "none",
    )
    .once()
    .needs(Bridges)
    .needs(Tls),
    row("bridge_ciphers", Bridge, text(|p, v| set(&mut p.bridge().tls.ciphers, Some(v.into()))), "none")
        .once()
        .needs(Bridges)
        .needs(Tls),
    row("bridge_ciphers_tls1.3", Bridge, text(|p, v| set(&mut p.bridge().tls.ciphers_tls13, Some(v.into()))), "none")
        .once()
        .needs(Bridges)
        .needs(Tls),
    row("bridge_identity", Bridge, text(|p, _| bridge::shared_key(p)), "none").once().needs(TlsPsk),
    row("bridge_insecure", Bridge, Kind::Bool(bridge::insecure), "false").needs(Bridges).needs(Tls),
    row(
        "bridge_keyfile",
        Bridge,
        file(|p, v| bridge::certificate(p).and(set(&mut p.bridge().tls.keyfile, Some(v.into())))),
        "none",
    )
    .needs(Bridges)
    .needs(Tls),
    row(
        "bridge_max_packet_size",
        Bridge,
        int(i32::MIN, i32::MAX, "bytes", |p, n| set(&mut p.bridge().max_packet_size, size(n))),
        "0",
    )
    .needs(Bridges),
    row(
        "bridge_max_topic_alias",
        Bridge,
        int(0, 65535, "aliases", |p, n| short(&mut p.bridge().max_topic_alias, n)),
        "10",
    )
    .needs(Bridges),
    row("bridge_outgoing_retain", Bridge, Kind::Bool(|p, v| set(&mut p.bridge().outgoing_retain, v)), "true")
        .needs(Bridges),
    row(
        "bridge_protocol_version",
        Bridge,
        Kind::Choice(&["mqttv31", "mqttv311", "mqttv50"], bridge::protocol_version),
        "mqttv311",
    )
    .needs(Bridges),
    row("bridge_psk", Bridge, text(|p, _| bridge::shared_key(p)), "none").once().needs(TlsPsk),
    row("bridge_receive_maximum", Bridge, int(1, 65535, "messages", bridge::receive_maximum), "none").needs(Bridges),
    row("bridge_reload_type", Bridge, Kind::Choice(&["lazy", "immediate"], bridge::reload_type), "lazy").needs(Bridges),
    row("bridge_require_ocsp", Bridge, Kind::Bool(|p, v| set(&mut p.bridge().tls.require_ocsp, v)), "false")
        .needs(Ocsp),
    row(
        "bridge_session_expiry_interval",
        Bridge,
        int(0, i32::MAX, "seconds", |p, n| set(&mut p.bridge().session_expiry_interval, size(n))),
        "0",
    )
    .needs(Bridges),
    row("bridge_tcp_keepalive", Bridge, Kind::Words("idle interval count", bridge::tcp_keepalive), "none")
        .needs(Bridges),
    row(
        "bridge_tcp_user_timeout",
        Bridge,
        int(0, i32::MAX, "milliseconds", |p, n| set(&mut p.bridge().tcp_user_timeout, Some(size(n)))),
        "none",
    )
    .needs(Bridges),
    row("bridge_tls_use_os_certs", Bridge, Kind::Bool(|p, v| set(&mut p.bridge().tls.use_os_certs, v)), "false")
        .needs(Bridges)
        .needs(Tls),
    row(
        "bridge_tls_version",
        Bridge,
        Kind::Choice(&["tlsv1.3", "tlsv1.2", "tlsv1.1"], bridge::bridge_tls_version),
        "tlsv1.2",
    )
    .once()
    .needs(Bridges)
    .needs(Tls),
    row("cleansession", Bridge, Kind::Bool(|p, v| set(&mut p.bridge().clean_session, v)), "false").needs(Bridges),
    row("connection", Global, Kind::Words("name", bridge::connection), "none").needs(Bridges),
    row("idle_timeout", Bridge, int(i32::MIN, i32::MAX, "seconds", bridge::idle_timeout), "60").needs(Bridges),
    row("keepalive_interval", Bridge, int(i32::MIN, 65535, "seconds", bridge::keepalive_interval), "60").needs(Bridges),
    row("local_cleansession", Bridge, Kind::Bool(|p, v| set(&mut p.bridge().local_clean_session, Some(v))), "none")
        .needs(Bridges),
    row("local_clientid", Bridge, text(|p, v| set(&mut p.bridge().local_clientid, Some(v.into()))), "none")
        .once()
        .needs(Bridges),
    row("local_password", Bridge, text(|p, v| set(&mut p.bridge().local_password, Some(v.into()))), "none")
        .once()
        .needs(Bridges),
    row("local_username", Bridge, text(|p, v| set(&mut p.bridge().local_username, Some(v.into()))), "none")
        .once()
        .needs(Bridges),
    row("notification_topic", Bridge, text(bridge::notification_topic), "none").once().needs(Bridges),
    row("notifications", Bridge, Kind::Bool(|p, v| set(&mut p.bridge().notifications, v)), "true").needs(Bridges),
    row(
        "notifications_local_only",
        Bridge,
        Kind::Bool(|p, v| set(&mut p.bridge().notifications_local_only, v)),
        "false",
    )
    .needs(Bridges),
    row("remote_clientid", Bridge, text(|p, v| set(&mut p.bridge().remote_clientid, Some(v.into()))), "none")
        .alias(&["clientid"])
        .once()
        .needs(Bridges),
    row("remote_password", Bridge, text(|p, v| set(&mut p.bridge().remote_password, Some(v.into()))), "none")
        .alias(&["password"])
        .once()
        .needs(Bridges),
    row("remote_username", Bridge, text(|p, v| set(&mut p.bridge().remote_username, Some(v.into()))), "none")
        .alias(&["username"])
        .once()
        .needs(Bridges),
    row("restart_timeout", Bridge, Kind::Words("base [cap [stable]]", bridge::restart_timeout), "5 30").needs(Bridges),
    row("round_robin", Bridge, Kind::Bool(|p, v| set(&mut p.bridge().round_robin, v)), "false").needs(Bridges),
    row("start_type", Bridge, Kind::Choice(bridge::START_TYPES, bridge::start_type), "automatic").needs(Bridges),
    row("threshold", Bridge, int(i32::MIN, i32::MAX, "messages", bridge::threshold), "10").needs(Bridges),
    row("topic", Bridge, Kind::Words("pattern [direction [qos [local [remote]]]]", bridge::topic), "none")
        .needs(Bridges),
    row("try_private", Bridge, Kind::Bool(|p, v| set(&mut p.bridge().try_private, v)), "true").needs(Bridges),
];

//! Options of the whole broker, and of access: those may also belong to a listener.

use super::Scope::{Global, GlobalOrListener, Plugin};
use super::{ANY_BOOL, ANY_TEXT, Kind, OptionRow, any_int, directory, file, int, row};
use crate::config::PersistenceMode;
use crate::config::error::Feature;
use crate::config::store::{self, done, limit, listener, set, size};
use crate::config::value;

/// Sorted by name.
pub(super) const ROWS: &[OptionRow] = &[
    row("acl_file", GlobalOrListener, file(listener::acl_file), "none").needs(Feature::Acl),
    row("allow_anonymous", GlobalOrListener, Kind::Bool(listener::allow_anonymous), "false"),
    row(
        "allow_duplicate_messages",
        Global,
        Kind::Bool(|p, v| set(&mut p.config.global.allow_duplicate_messages, v)),
        "true",
    )
    .deprecated("Leave it at 'true'."),
    row("allow_zero_length_clientid", GlobalOrListener, Kind::Bool(listener::allow_zero_length_clientid), "true"),
    row("auth_plugin_deny_special_chars", Plugin, ANY_BOOL, "true").fixed().needs(Feature::Plugins),
    row("auto_id_prefix", GlobalOrListener, Kind::Text("prefix", listener::auto_id_prefix), "auto-")
        .once()
        .deprecated("Use 'listener_auto_id_prefix' instead."),
    row("autosave_interval", Global, int(i32::MIN, i32::MAX, "seconds, or changes", store::autosave_interval), "1800"),
    row("autosave_on_changes", Global, Kind::Bool(|p, v| set(&mut p.config.global.autosave_on_changes, v)), "false"),
    row("check_retain_source", Global, Kind::Bool(|p, v| set(&mut p.config.global.check_retain_source, v)), "false")
        .wants(Feature::Acl),
    row(
        "clientid_prefixes",
        Global,
        Kind::Text("prefix", |p, v| set(&mut p.config.global.clientid_prefixes, Some(v.into()))),
        "none",
    )
    .deprecated("Use access control instead."),
    row("connection_messages", Global, Kind::Bool(|p, v| set(&mut p.config.global.connection_messages, v)), "true"),
    row("enable_control_api", Global, Kind::Bool(|p, v| set(&mut p.config.global.enable_control_api, v)), "false")
        .wants(Feature::ControlApi),
    row(
        "global_max_clients",
        Global,
        int(i32::MIN, i32::MAX, "clients", |p, n| set(&mut p.config.global.global_max_clients, limit(n))),
        "-1",
    ),
    row(
        "global_max_connections",
        Global,
        int(i32::MIN, i32::MAX, "connections", |p, n| set(&mut p.config.global.global_max_connections, limit(n))),
        "-1",
    ),
    row("global_plugin", Global, file(listener::plugin), "none").fixed().needs(Feature::Plugins),
    row("include_dir", Global, directory(|_, _| done()), "none"),
    row("log_dest", Global, Kind::Words("none, stdout, stderr, syslog, topic, file PATH", store::log_dest), "stderr"),
    row("log_facility", Global, int(0, 7, "of local0 to local7", store::log_facility), "none"),
    row(
        "log_rate_limit",
        Global,
        int(0, 100_000, "lines per second", |p, n| set(&mut p.config.global.log.rate_limit, size(n))),
        "50",
    ),
    row("log_timestamp", Global, Kind::Bool(|p, v| set(&mut p.config.global.log.timestamp, v)), "true"),
    row(
        "log_timestamp_format",
        Global,
        Kind::Text("strftime format", |p, v| set(&mut p.config.global.log.timestamp_format, Some(v.into()))),
        "none",
    )
    .once(),
    row("log_type", Global, Kind::Choice(store::LOG_TYPES, store::log_type), "error, warning, notice, information"),
    row(
        "max_inflight_bytes",
        Global,
        int(i32::MIN, i32::MAX, "bytes", |p, n| set(&mut p.config.global.max_inflight_bytes, size(n))),
        "0",
    ),
    row("max_inflight_messages", Global, int(i32::MIN, 65535, "messages", store::max_inflight_messages), "20"),
    row(
        "max_keepalive",
        Global,
        int(0, 65535, "seconds", |p, n| store::short(&mut p.config.global.max_keepalive, n)),
        "0",
    ),
    row(
        "max_packet_size",
        Global,
        int(20, i32::MAX, "bytes", |p, n| set(&mut p.config.global.max_packet_size, size(n))),
        "2000000",
    ),
    row(
        "max_queued_bytes",
        Global,
        int(i32::MIN, i32::MAX, "bytes", |p, n| set(&mut p.config.global.max_queued_bytes, size(n))),
        "0",
    ),
    row(
        "max_queued_messages",
        Global,
        int(i32::MIN, i32::MAX, "messages", |p, n| set(&mut p.config.global.max_queued_messages, size(n))),
        "1000",
    ),
    row(
        "memory_limit",
        Global,
        Kind::Words("bytes", |p, v| set(&mut p.config.global.memory_limit, value::lenient_size(v)?)),
        "0",
    ),
    row("message_size_limit", Global, int(0, 268_435_455, "bytes", store::message_size_limit), "0"),
    row(
        "packet_buffer_size",
        Global,
        int(0, 65535, "bytes", |p, n| store::short(&mut p.config.global.packet_buffer_size, n)),
        "4096",
    )
    .alias(&["websockets_headers_size"]),
    row("password_file", GlobalOrListener, file(listener::password_file), "none").needs(Feature::Passwords),
    row("per_listener_settings", Global, Kind::Bool(|p, v| p.per_listener_settings(v)), "false")
        .deprecated("Use the options that start with 'listener_' instead."),
    row("persistence", Global, Kind::Bool(|p, v| set(&mut p.config.global.persistence, v)), "false")
        .alias(&["retained_persistence"])
        .fixed()
        .needs(Feature::Persistence),
    row("persistence_file", Global, file(|p, v| set(&mut p.config.global.persistence_file, v.into())), "mosquitto.db")
        .fixed()
        .once(),
    row(
        "persistence_location",
        Global,
        directory(|p, v| set(&mut p.config.global.persistence_location, Some(v.into()))),
        "none",
    )
    .fixed()
    .once(),
    row(
        "persistence_mode",
        Global,
        Kind::Choice(&["snapshot", "journal"], |p, word| {
            let mode = if word == "journal" { PersistenceMode::Journal } else { PersistenceMode::Snapshot };
            set(&mut p.config.global.persistence_mode, mode)
        }),
        "snapshot",
    )
    .fixed()
    .needs(Feature::Persistence),
    row("persistence_strict", Global, Kind::Bool(|p, v| set(&mut p.config.global.persistence_strict, v)), "false")
        .fixed()
        .wants(Feature::Persistence),
    row(
        "persistent_client_expiration",
        Global,
        Kind::Text("number and one of s, h, d, w, m, y", store::persistent_client_expiration),
        "none",
    ),
    row("pid_file", Global, Kind::Text("file", |p, v| set(&mut p.config.global.pid_file, Some(v.into()))), "none")
        .fixed()
        .once(),
    row("plugin", GlobalOrListener, file(listener::plugin), "none")
        .alias(&["auth_plugin"])
        .fixed()
        .needs(Feature::Plugins),
    row("plugin_load", Global, Kind::Words("name file", listener::plugin_load), "none").fixed().needs(Feature::Plugins),
    row("plugin_opt_*", Plugin, ANY_TEXT, "none").alias(&["auth_opt_*"]).fixed().needs(Feature::Plugins),
    row("psk_file", GlobalOrListener, file(listener::shared_key), "none").needs(Feature::TlsPsk),
    row("queue_qos0_messages", Global, Kind::Bool(|p, v| set(&mut p.config.global.queue_qos0_messages, v)), "false"),
    row("retain_available", Global, Kind::Bool(|p, v| set(&mut p.config.global.retain_available, v)), "true"),
    row("retain_expiry_interval", Global, int(1, i32::MAX, "minutes", store::retain_expiry_interval), "none"),
    row(
        "retry_interval",
        Global,
        Kind::Gone("The 'retry_interval' option is no longer available; for MQTT-SN there is 'mqttsn_retry_interval'."),
        "none",
    ),
    row("set_tcp_nodelay", Global, Kind::Bool(store::set_tcp_nodelay), "true"),
    row("strict_conformance", Global, Kind::Bool(|p, v| set(&mut p.config.global.strict_conformance, v)), "false"),
    row(
        "sys_interval",
        Global,
        int(0, 65535, "seconds", |p, n| store::short(&mut p.config.global.sys_interval, n)),
        "10",
    )
    .wants(Feature::SysTree),
    row("upgrade_outgoing_qos", Global, Kind::Bool(|p, v| set(&mut p.config.global.upgrade_outgoing_qos, v)), "false"),
    row("user", Global, Kind::Text("user name", |p, v| set(&mut p.config.global.user, v.into())), "mosquitto").fixed(),
    row("websockets_log_level", Global, any_int(i32::MIN, i32::MAX, "level"), "0"),
];

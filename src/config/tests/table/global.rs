//! Options of the whole broker, and of access.

use super::*;
use Scope::{Global, GlobalOrListener, Plugin};

pub(super) const CASES: &[Case] = &[
    case("acl_file", GlobalOrListener, "none").good(&[
        ("/a b", |c| c.global.acl_file.as_deref() == Some("/a b".as_ref())),
        ("none", |c| c.global.acl_file.as_deref() == Some("none".as_ref())),
    ]),
    case("allow_anonymous", GlobalOrListener, "false").good(&[
        ("true", |c| c.global.allow_anonymous == Some(true)),
        ("false", |c| c.global.allow_anonymous == Some(false)),
    ]),
    case("allow_duplicate_messages", Global, "true")
        .good(&[("false", |c| !c.global.allow_duplicate_messages), ("true", |c| c.global.allow_duplicate_messages)]),
    case("allow_zero_length_clientid", GlobalOrListener, "true").good(&[
        ("false", |c| !c.global.allow_zero_length_clientid),
        ("true", |c| c.global.allow_zero_length_clientid),
    ]),
    case("auth_plugin_deny_special_chars", Plugin, "true").good(&[("false", |_| true), ("true", |_| true)]).restart(),
    case("auto_id_prefix", GlobalOrListener, "auto-")
        .good(&[("x y", |c| c.global.auto_id_prefix == "x y")])
        .bad(&[("123456789012345678901234567890123456789012345678901", "'auto_id_prefix' length must be <= 50.")])
        .once(),
    case("autosave_interval", Global, "1800").good(&[
        ("60", |c| c.global.autosave_interval == 60),
        ("-1", |c| c.global.autosave_interval == 0),
        ("2147483647", |c| c.global.autosave_interval == 2_147_483_647),
    ]),
    case("autosave_on_changes", Global, "false")
        .good(&[("true", |c| c.global.autosave_on_changes), ("false", |c| !c.global.autosave_on_changes)]),
    case("check_retain_source", Global, "false")
        .good(&[("true", |c| c.global.check_retain_source), ("false", |c| !c.global.check_retain_source)]),
    case("clientid_prefixes", Global, "none").good(&[
        ("a", |c| c.global.clientid_prefixes.as_deref() == Some("a")),
        ("b-", |c| c.global.clientid_prefixes.as_deref() == Some("b-")),
    ]),
    case("connection_messages", Global, "true")
        .good(&[("false", |c| !c.global.connection_messages), ("true", |c| c.global.connection_messages)]),
    case("enable_control_api", Global, "false")
        .good(&[("true", |c| c.global.enable_control_api), ("false", |c| !c.global.enable_control_api)]),
    case("global_max_clients", Global, "-1").good(&[
        ("7", |c| c.global.global_max_clients == Some(7)),
        ("0", |c| c.global.global_max_clients.is_none()),
        ("-5", |c| c.global.global_max_clients.is_none()),
    ]),
    case("global_max_connections", Global, "-1").good(&[
        ("3", |c| c.global.global_max_connections == Some(3)),
        ("0", |c| c.global.global_max_connections.is_none()),
    ]),
    case("global_plugin", Global, "none").good(&[("/x.so", |_| true)]).restart().adds(),
    case("include_dir", Global, "none")
        .bad(&[("/nonexistent/x", "Unable to open include_dir '/nonexistent/x'.\nReason: No such file or directory.")])
        .adds(),
    case("log_dest", Global, "stderr")
        .good(&[
            ("stdout", |c| c.global.log.stdout && !c.global.log.stderr),
            ("stderr", |c| c.global.log.stderr),
            ("topic", |c| c.global.log.topic == cfg!(feature = "sys-tree")),
            ("none", |c| !c.global.log.stderr),
            ("file a b", |c| c.global.log.file.as_deref() == Some("a b".as_ref())),
            ("dlt", |c| !c.global.log.stderr),
            ("android", |c| !c.global.log.stderr),
            ("syslog", |c| c.global.log.syslog),
        ])
        .bad(&[
            ("files", "Invalid 'log_dest' value (files)."),
            ("file", "Empty 'log_dest file' value in configuration."),
            ("file a\nlog_dest file b", "Duplicate \"log_dest file\" value."),
        ])
        .adds(),
    case("log_facility", Global, "none")
        .good(&[("0", |c| c.global.log.facility == Some(0)), ("7", |c| c.global.log.facility == Some(7))]),
    case("log_rate_limit", Global, "50")
        .good(&[("0", |c| c.global.log.rate_limit == 0), ("100000", |c| c.global.log.rate_limit == 100_000)])
        .bad(&[("-1", "Invalid 'log_rate_limit' value (-1)."), ("x", "'log_rate_limit' value not a number.")]),
    case("log_timestamp", Global, "true")
        .good(&[("false", |c| !c.global.log.timestamp), ("true", |c| c.global.log.timestamp)]),
    case("log_timestamp_format", Global, "none")
        .good(&[("%H  %M # x", |c| c.global.log.timestamp_format.as_deref() == Some("%H  %M # x"))])
        .once(),
    case("log_type", Global, "error, warning, notice, information")
        .good(&[
            ("debug", |c| c.global.log.types == LogTypes::DEBUG),
            ("error", |c| c.global.log.types == LogTypes::ERROR),
            ("warning", |c| c.global.log.types == LogTypes::WARNING),
            ("notice", |c| c.global.log.types == LogTypes::NOTICE),
            ("information", |c| c.global.log.types == LogTypes::INFORMATION),
            ("subscribe", |c| c.global.log.types == LogTypes::SUBSCRIBE),
            ("unsubscribe", |c| c.global.log.types == LogTypes::UNSUBSCRIBE),
            ("websockets", |c| c.global.log.types == LogTypes::WEBSOCKETS),
            ("internal", |c| c.global.log.types == LogTypes::INTERNAL),
            ("none", |c| c.global.log.types == LogTypes::NONE),
            ("error\nlog_type notice", |c| c.global.log.types == LogTypes::ERROR.with(LogTypes::NOTICE)),
            ("all\nlog_type none", |c| c.global.log.types == LogTypes::NONE),
            ("all", |c| c.global.log.types == LogTypes::ALL),
        ])
        .adds(),
    case("max_inflight_bytes", Global, "0")
        .good(&[("5", |c| c.global.max_inflight_bytes == 5), ("-5", |c| c.global.max_inflight_bytes == 0)]),
    case("max_inflight_messages", Global, "20")
        .good(&[
            ("65534", |c| c.global.max_inflight_messages == 65534),
            ("65535", |c| c.global.max_inflight_messages == 0),
            ("-1", |c| c.global.max_inflight_messages == 0),
            ("1", |c| c.global.max_inflight_messages == 1),
        ])
        .bad(&[("65536", "'max_inflight_messages' must be <= 65535.")]),
    case("max_keepalive", Global, "0").good(&[
        ("65535", |c| c.global.max_keepalive == 65535),
        ("0x10", |c| c.global.max_keepalive == 16),
        ("010", |c| c.global.max_keepalive == 8),
    ]),
    case("max_packet_size", Global, "2000000")
        .good(&[
            ("20", |c| c.global.max_packet_size == 20),
            ("2147483647", |c| c.global.max_packet_size == 2_147_483_647),
        ])
        .bad(&[("19", "'max_packet_size' must be >= 20.")]),
    case("max_queued_bytes", Global, "0")
        .good(&[("5", |c| c.global.max_queued_bytes == 5), ("-1", |c| c.global.max_queued_bytes == 0)]),
    case("max_queued_messages", Global, "1000")
        .good(&[("0", |c| c.global.max_queued_messages == 0), ("7", |c| c.global.max_queued_messages == 7)]),
    case("memory_limit", Global, "0")
        .good(&[("8589934592", |c| c.global.memory_limit == 8_589_934_592), ("10kB", |c| c.global.memory_limit == 10)])
        .bad(&[("-1", "Invalid 'memory_limit' value (-1).")]),
    case("message_size_limit", Global, "0").good(&[
        ("268435455", |c| c.global.message_size_limit == 268_435_455),
        ("1", |c| c.global.message_size_limit == 1),
    ]),
    case("packet_buffer_size", Global, "4096")
        .good(&[("65535", |c| c.global.packet_buffer_size == 65535), ("0", |c| c.global.packet_buffer_size == 0)]),
    case("password_file", GlobalOrListener, "none").good(&[
        ("/a", |c| c.global.password_file.as_deref() == Some("/a".as_ref())),
        ("b c", |c| c.global.password_file.as_deref() == Some("b c".as_ref())),
    ]),
    case("per_listener_settings", Global, "false").good(&[
        ("false", |c| !c.global.per_listener_settings),
        ("true\nper_listener_settings false", |c| c.global.per_listener_settings),
        ("true", |c| c.global.per_listener_settings),
    ]),
    case("persistence", Global, "false")
        .good(&[("true", |c| c.global.persistence), ("false", |c| !c.global.persistence)])
        .restart(),
    case("persistence_file", Global, "mosquitto.db")
        .good(&[("a b.db", |c| c.global.persistence_path().to_str() == Some("a b.db"))])
        .once()
        .restart(),
    case("persistence_mode", Global, "snapshot")
        .good(&[
            ("journal", |c| c.global.persistence_mode == crate::config::PersistenceMode::Journal),
            ("snapshot", |c| c.global.persistence_mode == crate::config::PersistenceMode::Snapshot),
        ])
        .bad(&[("Journal", "Invalid 'persistence_mode' value (Journal).")])
        .restart(),
    case("persistence_location", Global, "none")
        .good(&[("/var/x/", |c| c.global.persistence_path().to_str() == Some("/var/x/mosquitto.db"))])
        .once()
        .restart(),
    case("persistence_strict", Global, "false")
        .good(&[("true", |c| c.global.persistence_strict), ("false", |c| !c.global.persistence_strict)])
        .restart(),
    case("persistent_client_expiration", Global, "none")
        .good(&[
            ("2w", |c| c.global.persistent_client_expiration == Some(1_209_600)),
            ("1s", |c| c.global.persistent_client_expiration == Some(1)),
        ])
        .bad(&[
            ("3 d", "Invalid 'persistent_client_expiration' duration in configuration."),
            ("0d", "Invalid 'persistent_client_expiration' duration in configuration."),
            ("-1d", "Invalid 'persistent_client_expiration' duration in configuration."),
        ]),
    case("pid_file", Global, "none")
        .good(&[("/x", |c| c.global.pid_file.as_deref() == Some("/x".as_ref()))])
        .once()
        .restart(),
    case("plugin", GlobalOrListener, "none").good(&[("/x.so", |_| true)]).restart().adds(),
    case("plugin_load", Global, "none")
        .good(&[("n /x y.so", |_| true), ("m /x.so", |_| true)])
        .bad(&[
            ("n", "Missing plugin path for the plugin name 'n'."),
            ("n a\nplugin_load n b", "Duplicate plugin name 'n'."),
            ("n a\u{1}", "Malformed UTF-8 in configuration."),
        ])
        .restart()
        .adds(),
    case("plugin_opt_*", Plugin, "none").good(&[("a b", |_| true)]).restart().adds(),
    case("psk_file", GlobalOrListener, "none").good(&[("/a", |_| true)]).bad(&[(
        "x\nper_listener_settings false",
        "per_listener_settings must be set before any other security settings.",
    )]),
    case("queue_qos0_messages", Global, "false")
        .good(&[("true", |c| c.global.queue_qos0_messages), ("false", |c| !c.global.queue_qos0_messages)]),
    case("retain_available", Global, "true")
        .good(&[("false", |c| !c.global.retain_available), ("true", |c| c.global.retain_available)]),
    case("retain_expiry_interval", Global, "none").good(&[
        ("2", |c| c.global.retain_expiry_interval == Some(120)),
        ("10000000", |c| c.global.retain_expiry_interval == Some(600_000_000)),
        ("10000001", |c| c.global.retain_expiry_interval == Some(600_000_000)),
    ]),
    case("retry_interval", Global, "none").good(&[("x", |_| true)]),
    case("set_tcp_nodelay", Global, "true").good(&[("true", |_| true), ("false", |_| true)]),
    case("strict_conformance", Global, "false")
        .good(&[("true", |c| c.global.strict_conformance), ("false", |c| !c.global.strict_conformance)]),
    case("sys_interval", Global, "10")
        .good(&[("0", |c| c.global.sys_interval == 0), ("65535", |c| c.global.sys_interval == 65535)]),
    case("upgrade_outgoing_qos", Global, "false")
        .good(&[("true", |c| c.global.upgrade_outgoing_qos), ("false", |c| !c.global.upgrade_outgoing_qos)]),
    case("user", Global, "mosquitto")
        .good(&[("a b", |c| c.global.user == "a b"), ("root", |c| c.global.user == "root")])
        .restart(),
    case("websockets_log_level", Global, "0").good(&[("255", |_| true), ("-1", |_| true)]),
];

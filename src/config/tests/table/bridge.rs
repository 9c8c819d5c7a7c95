//! Options of bridges.

use super::*;
use crate::config::bridge::{Address, Direction, ReloadType, Restart, StartType, TcpKeepalive, Topic};
use crate::wire::ProtocolVersion;
use Scope::{Bridge, Global};

fn address(host: &str, port: u16) -> Address {
    Address { host: host.into(), port }
}

fn topics(config: &Config) -> Vec<(&str, Direction, u8, &str, &str)> {
    let all = b(config).topics.iter();
    all.map(|t| (&*t.pattern, t.direction, t.qos as u8, &*t.local_prefix, &*t.remote_prefix)).collect()
}

fn first(config: &Config) -> &Topic {
    &b(config).topics[0]
}

pub(super) const CASES: &[Case] = &[
    case("address", Bridge, "none")
        .good(&[
            ("a", |c| b(c).addresses == [address("a", 1883)]),
            ("a:1 b  c:65535 # d", |c| b(c).addresses == [address("a", 1), address("b", 1883), address("c", 65535)]),
            ("::1:8883", |c| b(c).addresses == [address("::1", 8883)]),
            ("fd00::1 ::1", |c| b(c).addresses == [address("fd00::1", 1883), address("::1", 1883)]),
            ("[::1]:8883 [::1]", |c| b(c).addresses == [address("::1", 8883), address("::1", 1883)]),
        ])
        .bad(&[
            ("a:0", "Invalid bridge port value (0)."),
            ("a:65536", "Invalid bridge port value (65536)."),
            ("a b:x", "Invalid bridge port value (x)."),
            ("a:", "Invalid bridge port value ()."),
            (":1883", "Invalid 'address' value (:1883)."),
            ("[::1]1", "Invalid 'address' value ([::1]1)."),
            ("a\u{1}", "Malformed UTF-8 in configuration."),
        ])
        .once(),
    case("bridge_alpn", Bridge, "none").good(&[("mqtt", |c| b(c).tls.alpn.as_deref() == Some("mqtt"))]).once(),
    case("bridge_attempt_unsubscribe", Bridge, "true")
        .good(&[("false", |c| !b(c).attempt_unsubscribe), ("true", |c| b(c).attempt_unsubscribe)]),
    case("bridge_bind_address", Bridge, "none")
        .good(&[("127.0.0.1", |c| b(c).bind_address.as_deref() == Some("127.0.0.1"))])
        .once(),
    case("bridge_cafile", Bridge, "none")
        .good(&[("x", |c| b(c).tls.cafile.as_deref() == Some("x".as_ref()) && b(c).tls.enabled())])
        .bad(&[(
            "x\nbridge_psk 00",
            "'bridge_psk': Cannot use both certificate and psk encryption in a single bridge.",
        )])
        .once(),
    case("bridge_capath", Bridge, "none")
        .good(&[("x", |c| b(c).tls.capath.as_deref() == Some("x".as_ref()) && b(c).tls.enabled())])
        .bad(&[(
            "x\nbridge_identity i",
            "'bridge_identity': Cannot use both certificate and psk encryption in a single bridge.",
        )])
        .once(),
    case("bridge_certfile", Bridge, "none")
        .good(&[("x", |c| b(c).tls.certfile.as_deref() == Some("x".as_ref()) && !b(c).tls.enabled())])
        .once(),
    case("bridge_ciphers", Bridge, "none").good(&[("x", |c| b(c).tls.ciphers.as_deref() == Some("x"))]).once(),
    case("bridge_ciphers_tls1.3", Bridge, "none")
        .good(&[("x", |c| b(c).tls.ciphers_tls13.as_deref() == Some("x"))])
        .once(),
    case("bridge_identity", Bridge, "none")
        .good(&[("x", |_| true)])
        .bad(&[(
            "x\nbridge_keyfile y",
            "'bridge_keyfile': Cannot use both certificate and psk encryption in a single bridge.",
        )])
        .once(),
    case("bridge_insecure", Bridge, "false")
        .good(&[("true", |c| b(c).tls.insecure), ("false", |c| !b(c).tls.insecure)]),
    case("bridge_keyfile", Bridge, "none").good(&[
        ("x", |c| b(c).tls.keyfile.as_deref() == Some("x".as_ref())),
        ("y", |c| b(c).tls.keyfile.as_deref() == Some("y".as_ref())),
    ]),
    case("bridge_max_packet_size", Bridge, "0")
        .good(&[("7", |c| b(c).max_packet_size == 7), ("-1", |c| b(c).max_packet_size == 0)]),
    case("bridge_max_topic_alias", Bridge, "10")
        .good(&[("0", |c| b(c).max_topic_alias == 0), ("65535", |c| b(c).max_topic_alias == 65535)]),
    case("bridge_outgoing_retain", Bridge, "true")
        .good(&[("false", |c| !b(c).outgoing_retain), ("true", |c| b(c).outgoing_retain)]),
    case("bridge_protocol_version", Bridge, "mqttv311").good(&[
        ("mqttv31", |c| b(c).version == ProtocolVersion::V31),
        ("mqttv311", |c| b(c).version == ProtocolVersion::V311),
        ("mqttv50 ", |c| b(c).version == ProtocolVersion::V5),
    ]),
    case("bridge_psk", Bridge, "none")
        .good(&[("00", |_| true)])
        .bad(&[(
            "00\nbridge_certfile y",
            "'bridge_certfile': Cannot use both certificate and psk encryption in a single bridge.",
        )])
        .once(),
    case("bridge_receive_maximum", Bridge, "none")
        .good(&[("1", |c| b(c).receive_maximum == Some(1)), ("65535", |c| b(c).receive_maximum == Some(65535))]),
    case("bridge_reload_type", Bridge, "lazy").good(&[
        ("immediate", |c| b(c).reload == ReloadType::Immediate),
        ("lazy", |c| b(c).reload == ReloadType::Lazy),
    ]),
    case("bridge_require_ocsp", Bridge, "false")
        .good(&[("true", |c| b(c).tls.require_ocsp), ("false", |c| !b(c).tls.require_ocsp)]),
    case("bridge_session_expiry_interval", Bridge, "0").good(&[
        ("1", |c| b(c).session_expiry_interval == 1),
        ("2147483647", |c| b(c).session_expiry_interval >> 30 == 1),
    ]),
    case("bridge_tcp_keepalive", Bridge, "none")
        .good(&[
            ("60 10 5", |c| b(c).tcp_keepalive == Some(TcpKeepalive { idle: 60, interval: 10, count: 5 })),
            ("1 2 3 # x", |c| b(c).tcp_keepalive == Some(TcpKeepalive { idle: 1, interval: 2, count: 3 })),
        ])
        .bad(&[
            ("60 10", "Invalid 'bridge_tcp_keepalive' value (60 10)."),
            ("60 10 0", "Invalid 'bridge_tcp_keepalive' value (60 10 0)."),
            ("60 -1 5", "Invalid 'bridge_tcp_keepalive' value (60 -1 5)."),
            ("60 10 x", "'bridge_tcp_keepalive' value not a number."),
        ]),
    case("bridge_tcp_user_timeout", Bridge, "none")
        .good(&[("0", |c| b(c).tcp_user_timeout == Some(0)), ("500", |c| b(c).tcp_user_timeout == Some(500))]),
    case("bridge_tls_use_os_certs", Bridge, "false")
        .good(&[("true", |c| b(c).tls.enabled()), ("false", |c| !b(c).tls.enabled())]),
    case("bridge_tls_version", Bridge, "tlsv1.2")
        .good(&[("tlsv1.3", |c| b(c).tls.version == TlsVersion::Tls13)])
        .once(),
    case("cleansession", Bridge, "false").good(&[("true", |c| b(c).clean_session), ("false", |c| !b(c).clean_session)]),
    case("connection", Global, "none")
        .good(&[("x # y", |c| b(c).name == "x"), ("y", |c| b(c).name == "y"), ("z rest", |c| b(c).name == "z")])
        .bad(&[
            ("x\nconnection x", "Duplicate bridge name 'x'."),
            ("# x", "Empty 'connection' value in configuration."),
        ])
        .adds(),
    case("idle_timeout", Bridge, "60").good(&[("1", |c| b(c).idle_timeout == 1), ("0", |c| b(c).idle_timeout == 1)]),
    case("keepalive_interval", Bridge, "60").good(&[
        ("5", |c| b(c).keepalive == 5),
        ("4", |c| b(c).keepalive == 5),
        ("-1", |c| b(c).keepalive == 5),
        ("65535", |c| b(c).keepalive == 65535),
    ]),
    case("local_cleansession", Bridge, "none").good(&[
        ("true", |c| b(c).local_clean_session == Some(true)),
        ("false", |c| b(c).local_clean_session == Some(false)),
    ]),
    case("local_clientid", Bridge, "none")
        .good(&[("x", |c| b(c).local_id("h") == "x")])
        .bad(&[("", "Empty 'bridge local clientd' value in configuration.")])
        .once(),
    case("local_password", Bridge, "none").good(&[("x", |c| b(c).local_password.as_deref() == Some("x"))]).once(),
    case("local_username", Bridge, "none").good(&[("x", |c| b(c).local_username.as_deref() == Some("x"))]).once(),
    case("notification_topic", Bridge, "none")
        .good(&[("a/b", |c| b(c).state_topic("h") == "a/b")])
        .bad(&[("a/#", "Invalid 'notification_topic' value (a/#).")])
        .once(),
    case("notifications", Bridge, "true").good(&[("false", |c| !b(c).notifications), ("true", |c| b(c).notifications)]),
    case("notifications_local_only", Bridge, "false")
        .good(&[("true", |c| b(c).notifications_local_only), ("false", |c| !b(c).notifications_local_only)]),
    case("remote_clientid", Bridge, "none")
        .good(&[("x", |c| (b(c).remote_id("h"), b(c).local_id("h")) == ("x".into(), "local.x".into()))])
        .bad(&[("", "Empty 'bridge remote clientid' value in configuration.")])
        .once(),
    case("remote_password", Bridge, "none")
        .good(&[("x y", |c| b(c).remote_password.as_deref() == Some("x y"))])
        .bad(&[("", "Empty 'bridge remote_password' value in configuration.")])
        .once(),
    case("remote_username", Bridge, "none").good(&[("x", |c| b(c).remote_username.as_deref() == Some("x"))]).once(),
    case("restart_timeout", Bridge, "5 30")
        .good(&[
            ("20", |c| b(c).restart == Restart { base: 20, cap: 20, stable: 0 }),
            ("0", |c| b(c).restart == Restart { base: 1, cap: 1, stable: 0 }),
            ("3601", |c| b(c).restart == Restart { base: 3600, cap: 3600, stable: 0 }),
            ("5 30", |c| b(c).restart == Restart::default()),
            ("5 7201", |c| b(c).restart == Restart { base: 5, cap: 7200, stable: 0 }),
            ("-5 0", |c| b(c).restart == Restart { base: 1, cap: 1, stable: 0 }),
            ("5 60 10 # x", |c| b(c).restart == Restart { base: 5, cap: 60, stable: 10 }),
        ])
        .bad(&[
            ("30 5", "backoff cap is lower than the base in restart_timeout."),
            ("5 30 -1", "stable connection period cannot be negative."),
            ("x", "'restart_timeout' value not a number."),
            ("5 4294967296", "'restart_timeout' value out of range."),
        ]),
    case("round_robin", Bridge, "false").good(&[("true", |c| b(c).round_robin), ("false", |c| !b(c).round_robin)]),
    case("start_type", Bridge, "automatic")
        .good(&[
            ("lazy", |c| b(c).start_type == StartType::Lazy),
            ("once", |c| b(c).start_type == StartType::Once),
            ("automatic", |c| b(c).start_type == StartType::Automatic),
        ])
        .bad(&[
            ("manual", "Manual start_type not supported."),
            ("nothing", "Invalid 'start_type' value in configuration (nothing)."),
        ]),
    case("threshold", Bridge, "10").good(&[("0", |c| b(c).threshold == 1), ("3", |c| b(c).threshold == 3)]),
    case("topic", Bridge, "none")
        .good(&[
            ("a/#", |c| topics(c) == [("a/#", Direction::Out, 0, "", "")]),
            ("a IN", |c| topics(c) == [("a", Direction::In, 0, "", "")]),
            ("a\tBoth  2", |c| topics(c) == [("a", Direction::Both, 2, "", "")]),
            ("a out # c", |c| topics(c) == [("a", Direction::Out, 0, "", "")]),
            ("a out 1 l/ # c", |c| topics(c) == [("a", Direction::Out, 1, "l/", "")]),
            ("a out 1 \"\" r/", |c| topics(c) == [("a", Direction::Out, 1, "", "r/")]),
            ("a out x", |c| topics(c) == [("a", Direction::Out, 0, "", "")]),
            ("/# in 0 l r", |c| (first(c).local_filter(), first(c).remote_filter()) == ("l/#".into(), "r/#".into())),
            ("\"\" both 0 one/x two/y", |c| topics(c) == [("", Direction::Both, 0, "one/x", "two/y")]),
            ("\"a b/#\" in 1", |c| topics(c) == [("a b/#", Direction::In, 1, "", "")]),
            ("\"q\" in 0", |c| topics(c) == [("q", Direction::In, 0, "", "")]),
            ("\"a b\"", |c| topics(c) == [("a b", Direction::Out, 0, "", "")]),
            ("a\ntopic a out 0\ntopic a out 0 \"\" \"\"", |c| topics(c).len() == 1),
            ("\"\" both 0 a b\ntopic n/# both 0\ntopic n/# both 0 x/", |c| topics(c).len() == 3),
            ("b both 0 l/ r/", |c| first(c).local_filter() == "l/b"),
        ])
        .bad(&[
            ("a up", "Invalid bridge topic direction 'up'."),
            ("a # c", "Invalid bridge topic direction '#'."),
            ("a out 3", "Invalid bridge QoS level '3'."),
            ("a out -1", "Invalid bridge QoS level '-1'."),
            ("a out 0 +/", "Invalid bridge topic local prefix '+/'."),
            ("a out 0 l/ r#", "Invalid bridge topic remote prefix 'r#'."),
            ("# out 0 l", "Invalid bridge topic local prefix and pattern combination 'l#'."),
            ("# out 0 l/ r", "Invalid bridge topic remote prefix and pattern combination 'r#'."),
            ("a#", "Invalid bridge topic pattern 'a#'."),
            ("\"\"", "Invalid bridge remapping."),
            ("\"\" out 0 l", "Invalid bridge remapping."),
            ("\"\" out 0 \"\" r", "Invalid bridge remapping."),
            ("\"a b in 0", "Missing closing quote in topic value (b in 0)."),
            ("\"a", "Missing closing quote in topic value ()."),
            ("\"a\"b", "Text stands directly behind the closing quote in topic value (\"a\"b)."),
            ("a\u{1}", "Malformed UTF-8 in configuration."),
        ])
        .adds(),
    case("try_private", Bridge, "true").good(&[("false", |c| !b(c).try_private), ("true", |c| b(c).try_private)]),
];

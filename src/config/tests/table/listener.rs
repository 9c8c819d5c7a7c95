//! Options of listeners.

use super::*;
use Scope::{Global, Listener, ListenerOrDefault};

const MIXED: &str = "Cannot use both certificate and psk encryption in a single listener.";

pub(super) const CASES: &[Case] = &[
    case("accept_protocol_versions", Listener, "3, 4, 5").good(&[
        ("3, 5", |c| l(c).accept_protocol_versions == 0b101),
        ("3,4 # x", |c| l(c).accept_protocol_versions == 0b011),
        ("6", |c| l(c).accept_protocol_versions == 0),
        ("4\t5", |c| l(c).accept_protocol_versions == 0b110),
    ]),
    case("bind_address", Global, "none")
        .good(&[("localhost", |c| c.listeners.is_empty())])
        .bad(&[("", "Empty 'default listener bind_address' value in configuration.")])
        .once(),
    case("bind_interface", ListenerOrDefault, "none")
        .good(&[("lo", |c| l(c).bind_interface.as_deref() == Some("lo"))])
        .once(),
    case("cafile", Listener, "none").after("listener 1\n").good(&[
        ("a", |c| l(c).tls.cafile.as_deref() == Some("a".as_ref())),
        ("b", |c| l(c).tls.cafile.as_deref() == Some("b".as_ref())),
    ]),
    case("capath", ListenerOrDefault, "none").good(&[
        ("a", |c| l(c).tls.capath.as_deref() == Some("a".as_ref())),
        ("b", |c| l(c).tls.capath.as_deref() == Some("b".as_ref())),
    ]),
    case("certfile", ListenerOrDefault, "none").good(&[
        ("none", |c| l(c).tls.certfile.as_deref() == Some("none".as_ref())),
        ("b", |c| l(c).tls.certfile.as_deref() == Some("b".as_ref())),
    ]),
    case("ciphers", ListenerOrDefault, "none").good(&[
        ("HIGH:!aNULL", |c| l(c).tls.ciphers.as_deref() == Some("HIGH:!aNULL")),
        ("HIGH", |c| l(c).tls.ciphers.as_deref() == Some("HIGH")),
    ]),
    case("ciphers_tls1.3", ListenerOrDefault, "none").good(&[
        ("A:B", |c| l(c).tls.ciphers_tls13.as_deref() == Some("A:B")),
        ("A", |c| l(c).tls.ciphers_tls13.as_deref() == Some("A")),
    ]),
    case("crlfile", ListenerOrDefault, "none").good(&[
        ("a", |c| l(c).tls.crlfile.as_deref() == Some("a".as_ref())),
        ("b", |c| l(c).tls.crlfile.as_deref() == Some("b".as_ref())),
    ]),
    case("dhparamfile", Global, "none").good(&[("x", |_| true)]),
    case("disable_client_cert_date_checks", Listener, "false").good(&[
        ("true", |c| l(c).tls.disable_client_cert_date_checks),
        ("false", |c| !l(c).tls.disable_client_cert_date_checks),
    ]),
    case("enable_proxy_protocol", Listener, "none")
        .good(&[
            ("1", |c| l(c).proxy_protocol == Some(ProxyProtocol::V1)),
            ("2", |c| l(c).proxy_protocol == Some(ProxyProtocol::V2)),
        ])
        .bad(&[
            ("0", "enable_proxy_protocol must be 1 or 2."),
            ("3", "enable_proxy_protocol must be 1 or 2."),
        ]),
    case("http_dir", Listener, "none")
        .good(&[("/usr/../", |c| l(c).http_dir.as_deref() == Some("/".as_ref()))])
        .bad(&[
            ("/nonexistent/x", "Unable to open http_dir '/nonexistent/x'."),
            ("/dev/null", "Unable to open http_dir '/dev/null'."),
        ])
        .once(),
    case("keyfile", ListenerOrDefault, "none").good(&[
        ("a", |c| l(c).tls.keyfile.as_deref() == Some("a".as_ref())),
        ("b", |c| l(c).tls.keyfile.as_deref() == Some("b".as_ref())),
    ]),
    case("listener", Global, "none")
        .good(&[
            ("0x75b", |c| l(c).port == 1883 && l(c).host.is_none()),
            ("1 ::1 # x", |c| l(c).host.as_deref() == Some("::1")),
            ("2 # x", |c| l(c).port == 2 && l(c).host.is_none()),
            ("0 /run/x", |c| (l(c).port, l(c).unix_path.as_deref()) == (0, Some("/run/x".as_ref()))),
            ("65535", |c| l(c).port == 65535),
        ])
        .bad(&[
            ("", "Empty 'listener port' value in configuration."),
            ("# x", "Empty 'listener port' value in configuration."),
            ("mqtt", "'listener port' value not a number."),
            ("4294967296", "'listener port' value out of range."),
            ("65536", "Invalid 'port' value (65536)."),
            ("-1", "Invalid 'port' value (-1)."),
            ("0", "A listener with port 0 must provide a Unix socket path."),
            (
                "0 /00000000/00000000/00000000/00000000/00000000/00000000/00000000/00000000/00000000/00000000/00000000/00000000",
                "Path to unix socket is too long \"/00000000/00000000/00000000/00000000/00000000/00000000/00000000/00000000/00000000/00000000/00000000/00000000\".",
            ),
        ])
        .adds(),
    case("listener_allow_anonymous", Listener, "none").good(&[
        ("true", |c| l(c).allow_anonymous == Some(true)),
        ("false", |c| l(c).allow_anonymous == Some(false)),
    ]),
    case("listener_auto_id_prefix", Listener, "none")
        .good(&[("x", |c| l(c).auto_id_prefix.as_deref() == Some("x"))])
        .bad(&[(
            "123456789012345678901234567890123456789012345678901",
            "'listener_auto_id_prefix' length must be <= 50.",
        )])
        .once(),
    case("max_connections", ListenerOrDefault, "-1").good(&[
        ("2", |c| l(c).max_connections == Some(2)),
        ("0", |c| l(c).max_connections.is_none()),
        ("-2", |c| l(c).max_connections.is_none()),
    ]),
    case("max_qos", ListenerOrDefault, "2")
        .good(&[
            ("0", |c| l(c).max_qos == QoS::AtMostOnce),
            ("1", |c| l(c).max_qos == QoS::AtLeastOnce),
            ("2", |c| l(c).max_qos == QoS::ExactlyOnce),
        ])
        .bad(&[
            ("3", "'max_qos' must be between 0 and 2 inclusive."),
            ("-1", "'max_qos' must be between 0 and 2 inclusive."),
        ]),
    case("max_topic_alias", Listener, "10").good(&[
        ("0", |c| l(c).max_topic_alias == 0),
        ("65535", |c| l(c).max_topic_alias == 65535),
    ]),
    case("max_topic_alias_broker", Listener, "10").good(&[
        ("3", |c| l(c).max_topic_alias_broker == 3),
        ("65535", |c| l(c).max_topic_alias_broker == 65535),
    ]),
    case("mount_point", Listener, "none")
        .good(&[
            ("a/", |c| l(c).mount_point.as_deref() == Some("a/")),
            ("b c", |c| l(c).mount_point.as_deref() == Some("b c")),
        ])
        .bad(&[
            ("a/#", "Invalid 'mount_point' value (a/#). Does it contain a wildcard character?"),
            ("+/", "Invalid 'mount_point' value (+/). Does it contain a wildcard character?"),
        ]),
    case("plugin_use", Listener, "none")
        .after("plugin_load n /x.so\nlistener 1\n")
        .good(&[("n", |_| true)])
        .bad(&[("m", "Plugin 'm' not previously loaded.")])
        .restart()
        .adds(),
    case("port", Global, "1883")
        .good(&[("5", |c| c.listeners.is_empty()), ("65535", |c| c.listeners.is_empty())])
        .bad(&[("0", "Invalid 'port' value (0)."), ("-1", "Invalid 'port' value (-1).")]),
    case("protocol", ListenerOrDefault, "mqtt")
        .good(&[
            ("websockets", |c| l(c).protocol == Protocol::Websockets),
            ("metrics", |c| l(c).protocol == Protocol::Metrics),
            ("http_api", |c| l(c).protocol == Protocol::Mqtt),
            ("mqtt-sn", |c| l(c).protocol == Protocol::MqttSn),
            ("mqttsn", |c| l(c).protocol == Protocol::MqttSn),
            ("mqtts", |c| l(c).protocol == Protocol::MqttSn),
            ("mqtt", |c| l(c).protocol == Protocol::Mqtt),
        ])
        .bad(&[("mqttsm", "Invalid 'protocol' value (mqttsm).")]),
    case("proxy_protocol_v2_require_tls", Listener, "false").good(&[
        ("true", |c| l(c).proxy_protocol_v2_require_tls),
        ("false", |c| !l(c).proxy_protocol_v2_require_tls),
    ]),
    case("psk_hint", ListenerOrDefault, "none")
        .good(&[("x y", |_| true)])
        .bad(&[("a\ncertfile b", MIXED), ("a\ncafile b", MIXED), ("a\ncapath b", MIXED), ("a\nkeyfile b", MIXED)])
        .once()
        .restart(),
    case("require_certificate", ListenerOrDefault, "false").good(&[
        ("true", |c| l(c).tls.require_certificate),
        ("false", |c| !l(c).tls.require_certificate),
    ]),
    case("socket_domain", ListenerOrDefault, "none")
        .good(&[
            ("ipv4", |c| l(c).socket_domain == SocketDomain::Ipv4),
            ("ipv6", |c| l(c).socket_domain == SocketDomain::Ipv6),
        ])
        .bad(&[
            ("", "Empty 'start_type' value in configuration."),
            ("nothing", "Invalid 'socket_domain' value 'nothing' in configuration."),
        ]),
    case("tls_engine", ListenerOrDefault, "none").good(&[("pkcs11", |_| true)]).once().restart(),
    case("tls_engine_kpass_sha1", ListenerOrDefault, "none")
        .good(&[("0123456789abcdefABCD0123456789abcdef0123", |_| true)])
        .bad(&[("0123", "Invalid 'tls_engine_kpass_sha1' value (0123).")])
        .restart(),
    case("tls_keyform", ListenerOrDefault, "pem").good(&[("engine", |_| true), ("pem", |_| true)]).restart(),
    case("tls_version", Listener, "tlsv1.2")
        .good(&[("tlsv1.3", |c| l(c).tls.tls_version == TlsVersion::Tls13)])
        .bad(&[("ssl3", "Unsupported tls_version \"ssl3\"."), ("nothing", "Unsupported tls_version \"nothing\".")])
        .once()
        .restart(),
    case("use_identity_as_username", ListenerOrDefault, "false").good(&[
        ("true", |c| l(c).tls.use_identity_as_username),
        ("false", |c| !l(c).tls.use_identity_as_username),
    ]),
    case("use_subject_as_username", ListenerOrDefault, "false").good(&[
        ("true", |c| l(c).tls.use_subject_as_username),
        ("false", |c| !l(c).tls.use_subject_as_username),
    ]),
    case("use_username_as_clientid", ListenerOrDefault, "false").good(&[
        ("true", |c| l(c).use_username_as_clientid),
        ("false", |c| !l(c).use_username_as_clientid),
    ]),
    case("websockets_origin", Listener, "none")
        .good(&[
            ("https://a", |c| l(c).websockets_origin == ["https://a"]),
            ("https://a\nwebsockets_origin https://b", |c| l(c).websockets_origin == ["https://a", "https://b"]),
        ])
        .adds(),
];

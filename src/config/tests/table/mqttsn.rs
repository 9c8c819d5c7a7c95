//! Options of MQTT-SN.

use super::*;
use Scope::{Global, Listener};

fn g(config: &Config) -> &SnGlobal {
    &config.global.sn
}

fn sn(config: &Config) -> &SnListener {
    &l(config).sn
}

fn group(text: &str) -> Group {
    let (ip, port) = text.split_once(':').map_or((text, None), |(ip, port)| (ip, port.parse().ok()));
    Group { ip: ip.parse().unwrap(), interface: None, port }
}

fn networks(found: &[Network], wanted: &[&str]) -> bool {
    found.iter().copied().eq(wanted.iter().map(|text| Network::parse(text).unwrap()))
}

pub(super) const CASES: &[Case] = &[
    case("advertise", Listener, "none")
        .good(&[
            ("225.1.1.1:1883 1000 7", |c| {
                (sn(c).advertise_interval, sn(c).gateway_id) == (1000, 7)
                    && sn(c).multicast_groups == [group("225.1.1.1:1883")]
            }),
            ("225.1.1.1 900 0 # each quarter", |c| sn(c).gateway_id == 0),
        ])
        .bad(&[
            ("225.1.1.1 900", "Invalid 'advertise' value (225.1.1.1 900)."),
            ("10.0.0.1 900 1", "Invalid 'advertise' value (10.0.0.1)."),
            ("225.1.1.1 900 256", "Invalid 'advertise' value (256)."),
            ("225.1.1.1 65536 1", "Invalid 'advertise' value (65536)."),
            ("225.1.1.1 x 1", "'advertise' value not a number."),
        ])
        .adds(),
    case("ipv6", Listener, "false").good(&[
        ("true", |c| l(c).socket_domain == SocketDomain::Ipv6),
        ("true", |c| l(c).socket_domain == SocketDomain::Ipv6),
    ]),
    case("max_mqtts_packet_size", Global, "65535")
        .good(&[("20", |c| g(c).max_packet_size == 20), ("65535", |c| g(c).max_packet_size == 65_535)]),
    case("mqttsn_advertise_interval", Listener, "0").good(&[
        ("900", |c| sn(c).advertise_interval == 900),
        ("5", |c| sn(c).advertise_interval == 5),
        ("0", |c| sn(c).advertise_interval == 0),
    ]),
    case("mqttsn_allow_address_change", Listener, "true")
        .good(&[("false", |c| !sn(c).allow_address_change), ("true", |c| sn(c).allow_address_change)]),
    case("mqttsn_allow_forwarder", Listener, "false")
        .good(&[
            ("true", |c| networks(&sn(c).forwarders, &["::/0"])),
            ("10.0.0.0/8, fd00::/8", |c| networks(&sn(c).forwarders, &["10.0.0.0/8", "fd00::/8"])),
            ("false", |c| sn(c).forwarders.is_empty()),
        ])
        .bad(&[("yes", "Invalid 'mqttsn_allow_forwarder' value (yes).")]),
    case("mqttsn_allow_from", Listener, "none")
        .good(&[
            ("10.0.0.0/8", |c| networks(&sn(c).allow_from, &["10.0.0.0/8"])),
            ("10.0.0.0/8 ::1", |c| networks(&sn(c).allow_from, &["10.0.0.0/8", "::1"])),
        ])
        .bad(&[("10.0.0.0/33", "Invalid 'mqttsn_allow_from' value (10.0.0.0/33).")])
        .adds(),
    case("mqttsn_allow_qos_minus_one", Listener, "false")
        .good(&[("true", |c| sn(c).allow_qos_minus_one), ("false", |c| !sn(c).allow_qos_minus_one)]),
    case("mqttsn_clients_file", Listener, "none")
        .good(&[("/etc/clients.conf", |c| sn(c).clients_file.as_deref() == Some("/etc/clients.conf".as_ref()))]),
    case("mqttsn_gateway_id", Listener, "1")
        .good(&[("0", |c| sn(c).gateway_id == 0), ("255", |c| sn(c).gateway_id == 255)]),
    case("mqttsn_max_inflight", Global, "1")
        .good(&[("4", |c| g(c).max_inflight == 4), ("1", |c| g(c).max_inflight == 1)]),
    case("mqttsn_max_retries", Global, "3")
        .good(&[("0", |c| g(c).max_retries == 0), ("255", |c| g(c).max_retries == 255)]),
    case("mqttsn_max_send_size", Listener, "1400")
        .good(&[("60", |c| sn(c).max_send_size == 60), ("65535", |c| sn(c).max_send_size == 65_535)]),
    case("mqttsn_max_sleep_duration", Global, "65535")
        .good(&[("60", |c| g(c).max_sleep_duration == 60), ("65535", |c| g(c).max_sleep_duration == 65_535)]),
    case("mqttsn_max_topic_ids", Global, "1000")
        .good(&[("10", |c| g(c).max_topic_ids == 10), ("65534", |c| g(c).max_topic_ids == 65_534)]),
    case("mqttsn_multicast_group", Listener, "none")
        .good(&[
            ("225.1.1.1", |c| sn(c).multicast_groups == [group("225.1.1.1")]),
            ("225.1.1.1:7 225.1.1.2", |c| sn(c).multicast_groups == [group("225.1.1.1:7"), group("225.1.1.2")]),
            ("ff02::1%eth0", |c| sn(c).multicast_groups[0].interface.as_deref() == Some("eth0")),
        ])
        .bad(&[("10.0.0.1", "Invalid 'mqttsn_multicast_group' value (10.0.0.1).")])
        .adds(),
    case("mqttsn_multicast_interface", Listener, "none")
        .good(&[("eth0", |c| sn(c).multicast_interface.as_deref() == Some("eth0"))]),
    case("mqttsn_multicast_loopback", Listener, "false")
        .good(&[("true", |c| sn(c).multicast_loopback), ("false", |c| !sn(c).multicast_loopback)]),
    case("mqttsn_multicast_ttl", Listener, "1")
        .good(&[("0", |c| sn(c).multicast_ttl == 0), ("255", |c| sn(c).multicast_ttl == 255)]),
    case("mqttsn_predefined_topic", Global, "none")
        .good(&[
            ("1 a/b", |c| g(c).predefined_topics == [(1, "a/b".to_string())]),
            ("65534 with blanks", |c| g(c).predefined_topics == [(65_534, "with blanks".to_string())]),
        ])
        .bad(&[
            ("1", "Invalid 'mqttsn_predefined_topic' value (1)."),
            ("0 a", "Invalid 'mqttsn_predefined_topic' value (0)."),
            ("65535 a", "Invalid 'mqttsn_predefined_topic' value (65535)."),
            ("1 a/#", "Invalid 'mqttsn_predefined_topic' value (a/#)."),
            ("1 a\nmqttsn_predefined_topic 1 b", "The predefined topic id 1 has another name already."),
        ])
        .adds(),
    case("mqttsn_predefined_topics_file", Global, "none")
        .good(&[("/etc/topics", |c| g(c).predefined_topics_file.as_deref() == Some("/etc/topics".as_ref()))]),
    case("mqttsn_qos_minus_one_long_names", Listener, "false")
        .good(&[("true", |c| sn(c).qos_minus_one_long_names), ("false", |c| !sn(c).qos_minus_one_long_names)]),
    case("mqttsn_qos_minus_one_user", Listener, "none")
        .good(&[("sensor", |c| sn(c).qos_minus_one_user.as_deref() == Some("sensor"))]),
    case("mqttsn_queue_qos0_asleep", Global, "true")
        .good(&[("false", |c| !g(c).queue_qos0_asleep), ("true", |c| g(c).queue_qos0_asleep)]),
    case("mqttsn_rate_limit", Listener, "200")
        .good(&[("0", |c| sn(c).rate_limit == 0), ("5000", |c| sn(c).rate_limit == 5000)])
        .bad(&[("-1", "Invalid 'mqttsn_rate_limit' value (-1).")]),
    case("mqttsn_retry_interval", Global, "10")
        .good(&[("1", |c| g(c).retry_interval == 1), ("65535", |c| g(c).retry_interval == 65_535)]),
    case("mqttsn_search_reply", Listener, "unicast").good(&[
        ("multicast", |c| sn(c).search_reply == SearchReply::Multicast),
        ("both", |c| sn(c).search_reply == SearchReply::Both),
        ("none", |c| sn(c).search_reply == SearchReply::None),
        ("unicast", |c| sn(c).search_reply == SearchReply::Unicast),
    ]),
    case("mqttsn_use_clientid_as_username", Listener, "false")
        .good(&[("true", |c| sn(c).use_clientid_as_username), ("false", |c| !sn(c).use_clientid_as_username)]),
    case("mqttsn_user", Listener, "none").good(&[("device", |c| sn(c).user.as_deref() == Some("device"))]),
    case("trace_level", Global, "none").good(&[("min", |_| true)]),
];

/// RSMB has a third word for the protocol, and a name for every address.
#[test]
fn listeners_of_rsmb_are_understood() {
    for (text, host, protocol) in [
        ("listener 1884 0.0.0.0 mqtts", Some("0.0.0.0"), Protocol::MqttSn),
        ("listener 1884 INADDR_ANY mqtts", None, Protocol::MqttSn),
        ("listener 1884 INADDR_ANY mqtt", None, Protocol::Mqtt),
        ("listener 1884 h\nprotocol mqtts", Some("h"), Protocol::MqttSn),
        ("listener 1884 h other", Some("h"), Protocol::Mqtt),
    ] {
        let listener = stored(text).config.listeners[0].clone();
        assert_eq!((listener.host.as_deref(), listener.protocol), (host, protocol), "{text}");
    }
    let whole = "listener 1884 INADDR_ANY mqtts\nmulticast_groups 224.0.18.83\nadvertise 224.0.18.83:1884 900 2\n\
                 loopback 1\nipv6 false\nmax_mqtts_packet_size 1000\ntrace_output protocol\n";
    let parser = stored(whole);
    assert_eq!(parser.lines.len(), 1, "{:?}", parser.lines);
    assert!(sn(&parser.config).multicast_loopback);
}

/// Before the first listener they are for all, behind one for it.
#[test]
fn predefined_topics_belong_to_the_listener_above() {
    let text = "mqttsn_predefined_topic 1 all\nmqttsn_predefined_topics_file /all\nlistener 1\nlistener 2\n\
                mqttsn_predefined_topic 1 own\nmqttsn_predefined_topics_file /own";
    let config = stored(text).config;
    assert_eq!(g(&config).predefined_topics, [(1, "all".to_string())]);
    assert_eq!(config.listeners[0].sn, SnListener::default());
    assert_eq!(config.listeners[1].sn.predefined_topics, [(1, "own".to_string())]);
    assert_eq!(config.listeners[1].sn.predefined_topics_file.as_deref(), Some("/own".as_ref()));
}

//! Options of MQTT-SN: those of its listeners, those of the whole broker, and the words of RSMB for some of them.

use super::Scope::{Global, Listener};
use super::{Kind, OptionRow, file, int, row};
use crate::config::error::Feature;
use crate::config::store::{mqttsn, set, short};

const fn sn(row: OptionRow) -> OptionRow {
    row.needs(Feature::MqttSn)
}

/// Sorted by name.
pub(super) const ROWS: &[OptionRow] = &[
    sn(row("advertise", Listener, Kind::Words("group:port interval id", mqttsn::advertise), "none")),
    row("ipv6", Listener, Kind::Bool(mqttsn::ipv6), "false"),
    sn(row(
        "max_mqtts_packet_size",
        Global,
        int(20, 65535, "bytes", |p, n| short(&mut p.config.global.sn.max_packet_size, n)),
        "65535",
    )),
    sn(row("mqttsn_advertise_interval", Listener, int(0, 65535, "seconds", mqttsn::advertise_interval), "0")),
    sn(row(
        "mqttsn_allow_address_change",
        Listener,
        Kind::Bool(|p, v| set(&mut p.listener().sn.allow_address_change, v)),
        "true",
    )),
    sn(row("mqttsn_allow_forwarder", Listener, Kind::Words("true|false|networks", mqttsn::allow_forwarder), "false")),
    sn(row("mqttsn_allow_from", Listener, Kind::Words("networks", mqttsn::allow_from), "none")),
    sn(row(
        "mqttsn_allow_qos_minus_one",
        Listener,
        Kind::Bool(|p, v| set(&mut p.listener().sn.allow_qos_minus_one, v)),
        "false",
    )),
    sn(row(
        "mqttsn_clients_file",
        Listener,
        file(|p, v| set(&mut p.listener().sn.clients_file, Some(v.into()))),
        "none",
    )),
    sn(row("mqttsn_gateway_id", Listener, int(0, 255, "id", mqttsn::gateway_id), "1")),
    sn(row(
        "mqttsn_max_inflight",
        Global,
        int(1, 65535, "messages", |p, n| short(&mut p.config.global.sn.max_inflight, n)),
        "1",
    )),
    sn(row("mqttsn_max_retries", Global, int(0, 255, "times", mqttsn::max_retries), "3")),
    sn(row(
        "mqttsn_max_send_size",
        Listener,
        int(20, 65535, "bytes", |p, n| short(&mut p.listener().sn.max_send_size, n)),
        "1400",
    )),
    sn(row(
        "mqttsn_max_sleep_duration",
        Global,
        int(1, 65535, "seconds", |p, n| short(&mut p.config.global.sn.max_sleep_duration, n)),
        "65535",
    )),
    sn(row(
        "mqttsn_max_topic_ids",
        Global,
        int(1, 65534, "topic ids", |p, n| short(&mut p.config.global.sn.max_topic_ids, n)),
        "1000",
    )),
    sn(row("mqttsn_multicast_group", Listener, Kind::Words("groups", mqttsn::multicast_group), "none")
        .alias(&["multicast_groups"])),
    sn(row(
        "mqttsn_multicast_interface",
        Listener,
        Kind::Text("interface", |p, v| set(&mut p.listener().sn.multicast_interface, Some(v.into()))),
        "none",
    )),
    sn(row(
        "mqttsn_multicast_loopback",
        Listener,
        Kind::Bool(|p, v| set(&mut p.listener().sn.multicast_loopback, v)),
        "false",
    )
    .alias(&["loopback"])),
    sn(row("mqttsn_multicast_ttl", Listener, int(0, 255, "hops", mqttsn::multicast_ttl), "1")),
    sn(row("mqttsn_predefined_topic", Global, Kind::Words("id topic", mqttsn::predefined_topic), "none")),
    sn(row("mqttsn_predefined_topics_file", Global, file(mqttsn::predefined_topics_file), "none")),
    sn(row(
        "mqttsn_qos_minus_one_long_names",
        Listener,
        Kind::Bool(|p, v| set(&mut p.listener().sn.qos_minus_one_long_names, v)),
        "false",
    )),
    sn(row(
        "mqttsn_qos_minus_one_user",
        Listener,
        Kind::Text("user", |p, v| set(&mut p.listener().sn.qos_minus_one_user, Some(v.into()))),
        "none",
    )),
    sn(row(
        "mqttsn_queue_qos0_asleep",
        Global,
        Kind::Bool(|p, v| set(&mut p.config.global.sn.queue_qos0_asleep, v)),
        "true",
    )),
    sn(row("mqttsn_rate_limit", Listener, int(0, i32::MAX, "datagrams", mqttsn::rate_limit), "200")),
    sn(row(
        "mqttsn_retry_interval",
        Global,
        int(1, 65535, "seconds", |p, n| short(&mut p.config.global.sn.retry_interval, n)),
        "10",
    )),
    sn(row(
        "mqttsn_search_reply",
        Listener,
        Kind::Choice(&["unicast", "multicast", "both", "none"], mqttsn::search_reply),
        "unicast",
    )),
    sn(row(
        "mqttsn_use_clientid_as_username",
        Listener,
        Kind::Bool(|p, v| set(&mut p.listener().sn.use_clientid_as_username, v)),
        "false",
    )),
    sn(row("mqttsn_user", Listener, Kind::Text("user", |p, v| set(&mut p.listener().sn.user, Some(v.into()))), "none")),
    row(
        "trace_level",
        Global,
        Kind::Gone("Traces are an option of RSMB: use 'log_type' and 'log_dest' instead."),
        "none",
    )
    .alias(&["ffdc_output", "max_log_entries", "max_trace_entries", "trace_output"]),
];

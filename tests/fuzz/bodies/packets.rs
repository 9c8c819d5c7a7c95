//! Packets of one version: decoding never panics, a fault can be told and answered, and what was decoded survives being
//! encoded and decoded again.

use mosquitto::wire::connect::{self, ConnackForm, ConnackProps, Connect, encode_connack};
use mosquitto::wire::packet;
use mosquitto::wire::publish::{Publish, PublishHead, encode_publish, publish_len};
use mosquitto::wire::subscribe::{encode_suback, encode_subscribe, encode_unsuback, encode_unsubscribe};
use mosquitto::wire::{
    DecodeError, FrameLimits, Framed, Framer, Packet, PacketType, ProtocolVersion, ReasonCode, Role, topic,
};

use super::byte;
use ProtocolVersion::{V5, V31, V311};

/// First byte: whose packet. Then the packet's first byte and its body.
pub fn packet_v5(mut data: &[u8]) {
    let choice = byte(&mut data);
    one(V5, choice, data);
}

/// As [`packet_v5`]; the second bit of the first byte is the version.
pub fn packet_v3(mut data: &[u8]) {
    let choice = byte(&mut data);
    one(if choice & 2 == 0 { V311 } else { V31 }, choice, data);
}

fn one(version: ProtocolVersion, choice: u8, mut body: &[u8]) {
    let role = if choice & 1 == 0 { Role::FromClient } else { Role::FromServer };
    let first = byte(&mut body);
    if PacketType::of(first) == Some(PacketType::Connect) {
        connect(first, body);
    }
    match packet::decode(version, role, first, body) {
        Err(error) => tell(&error),
        Ok(found) => there_and_back(version, role, &found),
    }
}

/// Everything that can be asked of a fault.
fn tell(error: &DecodeError) {
    let _ = (error.reason(), error.ending(), error.log_line().is_some());
    assert!(!error.to_string().is_empty());
}

/// The one packet in `bytes`.
fn unframe(version: Option<ProtocolVersion>, bytes: &[u8]) -> (u8, Vec<u8>) {
    let mut input = bytes;
    let mut framer = Framer::new();
    let limits = FrameLimits { version, max_packet_size: 0, strict: false };
    match framer.next(&mut input, &limits, 1) {
        Framed::Frame { first, body } => {
            assert!(input.is_empty(), "encoded more than one packet");
            (first, body.to_vec())
        }
        other => panic!("encoded {bytes:02X?}, framed {other:?}"),
    }
}

fn there_and_back(version: ProtocolVersion, role: Role, found: &Packet<'_>) {
    let Some(bytes) = encode(version, found) else { return };
    let (first, body) = unframe(Some(version), &bytes);
    let again = packet::decode(version, role, first, &body).unwrap_or_else(|e| panic!("{found:?}: {e}"));
    assert!(same(version, found, &again), "{found:?}\n{again:?}");
    assert_eq!(encode(version, &again), Some(bytes), "{found:?}");
}

/// `None` when a filter is bad, or for what is only read.
fn encode(version: ProtocolVersion, found: &Packet<'_>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let codes = |codes: &[u8]| codes.iter().map(|code| ReasonCode(*code)).collect::<Vec<_>>();
    match found {
        Packet::Connack(ack) => encode_connack(&mut out, ack.code, ack.session_present, &ack.props),
        Packet::Publish(publish) => put_publish(&mut out, version, publish)?,
        Packet::Puback(ack) => ack.encode(&mut out, version, PacketType::Puback),
        Packet::Pubrec(ack) => ack.encode(&mut out, version, PacketType::Pubrec),
        Packet::Pubrel(ack) => ack.encode(&mut out, version, PacketType::Pubrel),
        Packet::Pubcomp(ack) => ack.encode(&mut out, version, PacketType::Pubcomp),
        Packet::Subscribe(subscribe) => {
            let filters = subscribe.filters().map(|item| {
                item.inspect_err(tell).inspect(|(filter, _)| {
                    let _ = topic::split_share(filter);
                })
            });
            let filters = filters.collect::<Result<Vec<_>, _>>().ok()?;
            encode_subscribe(&mut out, version, subscribe.id, subscribe.subscription_id, filters.into_iter());
        }
        Packet::Unsubscribe(unsubscribe) => {
            let filters = unsubscribe.filters().map(|item| item.inspect_err(tell));
            let filters = filters.collect::<Result<Vec<_>, _>>().ok()?;
            encode_unsubscribe(&mut out, version, unsubscribe.id, filters.into_iter());
        }
        Packet::Suback(ack) => encode_suback(&mut out, version, ack.id, &codes(ack.codes)),
        Packet::Unsuback(ack) => encode_unsuback(&mut out, version, ack.id, &codes(ack.codes)),
        Packet::Disconnect(disconnect) => disconnect.encode(&mut out, version),
        Packet::Auth(auth) => auth.encode(&mut out),
        Packet::Pingreq | Packet::Pingresp => return None,
    }
    Some(out)
}

/// Only with one subscription identifier at most: the broker never sends more.
fn put_publish(out: &mut Vec<u8>, version: ProtocolVersion, publish: &Publish<'_>) -> Option<()> {
    let ids = subscription_ids(publish);
    if ids.len() > 1 {
        return None;
    }
    let forwardable = publish.props.forwardable();
    let head = PublishHead {
        version,
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
        topic: publish.topic,
        packet_id: publish.packet_id,
        forwardable: &forwardable,
        expiry: publish.expiry,
        topic_alias: publish.topic_alias,
        subscription_id: ids.first().copied(),
        payload_len: publish.payload.len(),
    };
    encode_publish(out, &head);
    out.extend_from_slice(publish.payload);
    assert_eq!(out.len(), publish_len(&head), "the length that was announced");
    Some(())
}

fn subscription_ids(publish: &Publish<'_>) -> Vec<u32> {
    let mut ids = Vec::new();
    publish.subscription_ids.for_each(|id| ids.push(id));
    ids
}

/// Equal in what is encoded.
fn same(version: ProtocolVersion, a: &Packet<'_>, b: &Packet<'_>) -> bool {
    match (a, b) {
        (Packet::Publish(a), Packet::Publish(b)) => {
            let parts = |p: &Publish<'_>| (p.dup, p.qos, p.retain, p.packet_id, p.topic_alias, p.expiry);
            parts(a) == parts(b)
                && (a.topic, a.payload) == (b.topic, b.payload)
                && a.props.forwardable() == b.props.forwardable()
                && subscription_ids(a) == subscription_ids(b)
        }
        (Packet::Connack(a), Packet::Connack(b)) => {
            // The broker never writes a session expiry, and MQTT 3 has no properties.
            let props = |p: ConnackProps<'_>| ConnackProps { session_expiry: None, ..p }.eq(&b.props);
            (a.session_present, a.code) == (b.session_present, b.code) && props(a.props)
        }
        (Packet::Subscribe(a), Packet::Subscribe(b)) => {
            let all = |s: &mosquitto::wire::subscribe::Subscribe<'_>| {
                s.filters().map(|item| item.ok().map(|(f, o)| (f.to_string(), o))).collect::<Vec<_>>()
            };
            (a.id, a.subscription_id) == (b.id, b.subscription_id) && all(a) == all(b)
        }
        (Packet::Unsubscribe(a), Packet::Unsubscribe(b)) => a.id == b.id && a.filters().eq(b.filters()),
        (Packet::Suback(a), Packet::Suback(b)) if version != V5 => {
            a.id == b.id && a.codes.iter().map(|code| code.min(&0x80)).eq(b.codes)
        }
        (Packet::Unsuback(a), Packet::Unsuback(b)) if version != V5 => a.id == b.id && b.codes.is_empty(),
        _ => a == b,
    }
}

fn connect(first: u8, body: &[u8]) {
    match connect::decode(first, body) {
        Err(refused) => {
            tell(&refused.error);
            if let Some(form) = refused.answer {
                let mut out = Vec::new();
                encode_connack(&mut out, form, false, &ConnackProps::default());
                let version = if matches!(form, ConnackForm::V5(_)) { V5 } else { V311 };
                let (first, body) = unframe(Some(version), &out);
                packet::decode(version, Role::FromServer, first, &body).expect("a refusal that can be read");
            }
        }
        Ok(found) => {
            let mut out = Vec::new();
            found.encode(&mut out);
            let (first, body) = unframe(None, &out);
            let again = connect::decode(first, &body).unwrap_or_else(|e| panic!("{found:?}: {}", e.error));
            // A password without a user name cannot be written before version 5.
            let password = found.password.filter(|_| found.version == V5 || found.username.is_some());
            let props = |c: &Connect<'_>| c.will.map(|will| will.props.forwardable().into_owned());
            assert_eq!(props(&found), props(&again));
            let mut want = Connect { password, ..found };
            if let (Some(want), Some(got)) = (&mut want.will, &again.will) {
                want.props = got.props;
            }
            assert_eq!(want, again);
        }
    }
}

//! PUBLISH, the packet that must not cost an allocation in either direction.

use std::borrow::Cow;

use super::error::DecodeError;
use super::packet::{PacketType, Role};
use super::props::{self, Section};
use super::reader::Reader;
use super::topic::{self, TopicError};
use super::writer::{put_prop_u16, put_prop_u32, put_prop_varint, put_str, put_u16, put_varint, varint_len};
use super::{PacketId, ProtocolVersion, QoS};

/// The properties of a PUBLISH or a will that travel on to subscribers: Payload Format Indicator, Content Type,
/// Response Topic, Correlation Data and User Properties, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PublishProps<'a> {
    /// From the first such property to the last.
    run: &'a [u8],
    /// Other properties stand between them.
    mixed: bool,
}

impl<'a> PublishProps<'a> {
    /// What to keep and send on: the properties' bytes in their order, without a length. Borrowed unless properties
    /// that do not travel stand between those that do.
    #[must_use]
    pub fn forwardable(&self) -> Cow<'a, [u8]> {
        if !self.mixed {
            return Cow::Borrowed(self.run);
        }
        let mut kept = Vec::with_capacity(self.run.len());
        // The section was checked when it was decoded.
        let _ = props::walk(self.run, Section::Publish, |p| {
            if travels(p.id) {
                kept.extend_from_slice(p.raw);
            }
        });
        Cow::Owned(kept)
    }
}

/// Follows the properties of one section to find the part that travels.
#[derive(Default)]
pub(super) struct Travelling {
    /// Offsets into the section, and whether something else was seen since the last that travels.
    start: Option<usize>,
    end: usize,
    pos: usize,
    mixed: bool,
}

impl Travelling {
    pub(super) fn see(&mut self, p: &props::Prop<'_>) {
        let after = self.pos.saturating_add(p.raw.len());
        if travels(p.id) {
            self.mixed |= self.start.is_some() && self.end != self.pos;
            self.start = self.start.or(Some(self.pos));
            self.end = after;
        }
        self.pos = after;
    }

    pub(super) fn of<'a>(&self, section: &'a [u8]) -> PublishProps<'a> {
        let run = self.start.and_then(|start| section.get(start..self.end)).unwrap_or_default();
        PublishProps { run, mixed: self.mixed }
    }
}

const fn travels(id: u8) -> bool {
    matches!(
        id,
        props::PAYLOAD_FORMAT
            | props::CONTENT_TYPE
            | props::RESPONSE_TOPIC
            | props::CORRELATION_DATA
            | props::USER_PROPERTY
    )
}

/// PUBLISH. QoS and retain against what the listener permits, and the alias, are for the caller to check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Publish<'a> {
    /// Sent before.
    pub dup: bool,
    /// The QoS.
    pub qos: QoS,
    /// The retain flag.
    pub retain: bool,
    /// A valid topic name; empty if there is an alias. That of a server may be deeper than [`topic::MAX_SLASHES`].
    pub topic: &'a str,
    /// The packet identifier, exactly if the QoS is not 0.
    pub packet_id: Option<PacketId>,
    /// Topic Alias, not 0.
    pub topic_alias: Option<u16>,
    /// Message Expiry Interval in seconds.
    pub expiry: Option<u32>,
    /// The Subscription Identifiers of a PUBLISH from a server.
    pub subscription_ids: SubscriptionIds<'a>,
    /// The properties that travel on.
    pub props: PublishProps<'a>,
    /// The message.
    pub payload: &'a [u8],
}

/// The Subscription Identifiers of a PUBLISH.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SubscriptionIds<'a> {
    section: &'a [u8],
}

impl SubscriptionIds<'_> {
    /// Calls `each` with every identifier, 1 to 268435455, in their order.
    pub fn for_each(&self, mut each: impl FnMut(u32)) {
        let _ = props::walk(self.section, Section::Publish, |p| {
            if p.id == props::SUBSCRIPTION_ID {
                each(p.value.number());
            }
        });
    }
}

/// Decodes a PUBLISH.
///
/// # Errors
/// The fault.
pub fn decode<'a>(version: ProtocolVersion, role: Role, first: u8, body: &'a [u8]) -> Result<Publish<'a>, DecodeError> {
    const P: PacketType = PacketType::Publish;
    let read = |e| DecodeError::read(P, e);
    let dup = first & 8 != 0;
    let qos = QoS::from_bits(first >> 1 & 3).ok_or(DecodeError::PublishQos)?;
    if dup && qos == QoS::AtMostOnce {
        return Err(DecodeError::PublishDup);
    }
    let mut r = Reader::new(body);
    let topic = r.string().map_err(read)?;
    let packet_id = match qos {
        QoS::AtMostOnce => None,
        _ => Some(PacketId::new(r.u16().map_err(read)?).ok_or(DecodeError::PacketIdZero(P))?),
    };
    let mut found = Publish {
        dup,
        qos,
        retain: first & 1 != 0,
        topic,
        packet_id,
        topic_alias: None,
        expiry: None,
        subscription_ids: SubscriptionIds::default(),
        props: PublishProps::default(),
        payload: &[],
    };
    if version == ProtocolVersion::V5 {
        let section = r.section().map_err(read)?;
        if !section.is_empty() {
            decode_props(role, section, &mut found).map_err(|e| DecodeError::Property(P, e))?;
        }
    }
    match topic::check_name(topic) {
        Err(TopicError::Empty) if found.topic_alias.is_some() => {}
        // No fault of a server, which may have no such limit: to close would bring the message again, for ever.
        Err(TopicError::TooDeep) if role == Role::FromServer => {}
        other => other.map_err(DecodeError::PublishTopic)?,
    }
    found.payload = r.rest();
    Ok(found)
}

fn decode_props<'a>(role: Role, section: &'a [u8], found: &mut Publish<'a>) -> Result<(), super::error::PropFault> {
    let place = match role {
        Role::FromClient => Section::ClientPublish,
        Role::FromServer => Section::Publish,
    };
    let mut travelling = Travelling::default();
    props::walk(section, place, |p| {
        travelling.see(&p);
        match p.id {
            props::TOPIC_ALIAS => found.topic_alias = Some(p.value.u16()),
            props::MESSAGE_EXPIRY => found.expiry = Some(p.value.number()),
            props::SUBSCRIPTION_ID => found.subscription_ids = SubscriptionIds { section },
            _ => {}
        }
    })?;
    found.props = travelling.of(section);
    Ok(())
}

/// Everything of an outgoing PUBLISH but the payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublishHead<'a> {
    /// The version of the receiver; before 5 no property is written.
    pub version: ProtocolVersion,
    /// Sent before.
    pub dup: bool,
    /// The QoS.
    pub qos: QoS,
    /// The retain flag.
    pub retain: bool,
    /// The topic name, at most 65535 bytes; empty with an alias that the receiver knows.
    pub topic: &'a str,
    /// The packet identifier; needed exactly if the QoS is not 0.
    pub packet_id: Option<PacketId>,
    /// The bytes of [`PublishProps::forwardable`].
    pub forwardable: &'a [u8],
    /// Message Expiry Interval in seconds.
    pub expiry: Option<u32>,
    /// Topic Alias.
    pub topic_alias: Option<u16>,
    /// Subscription Identifier.
    pub subscription_id: Option<u32>,
    /// Length of the payload that follows.
    pub payload_len: usize,
}

impl PublishHead<'_> {
    fn props_len(&self) -> usize {
        let id = |n: u32| varint_len(usize::try_from(n).unwrap_or(usize::MAX)).saturating_add(1);
        self.forwardable
            .len()
            .saturating_add(self.expiry.map_or(0, |_| 5))
            .saturating_add(self.topic_alias.map_or(0, |_| 3))
            .saturating_add(self.subscription_id.map_or(0, id))
    }

    fn remaining_len(&self) -> usize {
        let mut len = self.topic.len().saturating_add(2).saturating_add(self.payload_len);
        if self.qos != QoS::AtMostOnce {
            len = len.saturating_add(2);
        }
        if self.version == ProtocolVersion::V5 {
            let props = self.props_len();
            len = len.saturating_add(varint_len(props)).saturating_add(props);
        }
        len
    }
}

/// The size of the whole packet on the wire, payload included, to compare with the receiver's Maximum Packet Size. A
/// packet past [`super::writer::MAX_REMAINING_LENGTH`] cannot be sent at all.
#[must_use]
pub fn publish_len(head: &PublishHead<'_>) -> usize {
    let len = head.remaining_len();
    len.saturating_add(varint_len(len)).saturating_add(1)
}

/// Appends everything of the PUBLISH but the payload. The properties that travelled come first, then expiry, alias and
/// Subscription Identifier, in the order of the original.
pub fn encode_publish(out: &mut Vec<u8>, head: &PublishHead<'_>) {
    let len = head.remaining_len();
    out.reserve(len.saturating_sub(head.payload_len).saturating_add(5));
    let flags = u8::from(head.dup).wrapping_shl(3) | (head.qos as u8).wrapping_shl(1) | u8::from(head.retain);
    out.push(PacketType::Publish.first_byte() | flags);
    put_varint(out, len);
    put_str(out, head.topic);
    if head.qos != QoS::AtMostOnce {
        put_u16(out, head.packet_id.map_or(0, PacketId::get));
    }
    if head.version == ProtocolVersion::V5 {
        put_varint(out, head.props_len());
        out.extend_from_slice(head.forwardable);
        if let Some(seconds) = head.expiry {
            put_prop_u32(out, props::MESSAGE_EXPIRY, seconds);
        }
        if let Some(alias) = head.topic_alias {
            put_prop_u16(out, props::TOPIC_ALIAS, alias);
        }
        if let Some(n) = head.subscription_id {
            put_prop_varint(out, props::SUBSCRIPTION_ID, n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProtocolVersion::{V5, V311};

    fn from_client(version: ProtocolVersion, first: u8, body: &[u8]) -> Result<Publish<'_>, DecodeError> {
        decode(version, Role::FromClient, first, body)
    }

    #[test]
    fn faults_and_their_codes() {
        use DecodeError as E;
        let topic = [0, 1, b't'];
        let with = |rest: &[u8]| [&topic[..], rest].concat();
        let deep = [&[0, 201][..], &[b'/'; 201]].concat();
        let cases: &[(_, u8, Vec<u8>, _, u8)] = &[
            (V5, 0x36, with(&[0]), E::PublishQos, 0x81),
            (V5, 0x3E, with(&[0, 1, 0]), E::PublishQos, 0x81),
            (V5, 0x38, with(&[0]), E::PublishDup, 0x81),
            (V5, 0x32, with(&[0, 0, 0]), E::PacketIdZero(PacketType::Publish), 0x82),
            (V5, 0x32, with(&[0]), E::Truncated(PacketType::Publish), 0x81),
            (V5, 0x30, with(&[]), E::Truncated(PacketType::Publish), 0x81),
            (V5, 0x30, vec![0, 1, 1, 0], E::Utf8(PacketType::Publish), 0x81),
            (V5, 0x30, vec![0, 0, 0], E::PublishTopic(TopicError::Empty), 0x81),
            (V5, 0x30, vec![0, 1, b'#', 0], E::PublishTopic(TopicError::Wildcard), 0x81),
            (V311, 0x30, deep, E::PublishTopic(TopicError::TooDeep), 0x81),
            (V311, 0x30, vec![0, 0], E::PublishTopic(TopicError::Empty), 0x81),
            (V5, 0x30, vec![0, 1, b'+', 3, 0x23, 0, 1], E::PublishTopic(TopicError::Wildcard), 0x81),
        ];
        for (version, first, body, want, code) in cases {
            let error = from_client(*version, *first, body).unwrap_err();
            assert_eq!((error, error.reason().unwrap().0), (*want, *code), "{body:02X?}");
        }
    }

    #[test]
    fn an_empty_topic_needs_an_alias() {
        let got = from_client(V5, 0x30, &[0, 0, 3, 0x23, 0, 7, 9]).unwrap();
        assert_eq!((got.topic, got.topic_alias, got.payload), ("", Some(7), &[9][..]));
    }

    #[test]
    fn a_topic_of_a_server_may_be_deeper_than_ours() {
        let name = "/".repeat(topic::MAX_SLASHES + 1);
        let body = [&[0, 201][..], name.as_bytes(), b"x"].concat();
        let error = DecodeError::PublishTopic(TopicError::TooDeep);
        assert_eq!(from_client(ProtocolVersion::V311, 0x30, &body).unwrap_err(), error);
        let got = decode(ProtocolVersion::V311, Role::FromServer, 0x30, &body).unwrap();
        assert_eq!((got.topic, got.payload), (&name[..], &b"x"[..]));
    }

    #[test]
    fn properties_that_travel_keep_their_order_without_the_others() {
        let format = &[0x01, 1][..];
        let user = &[0x26, 0, 1, b'k', 0, 1, b'v'][..];
        let expiry = &[0x02, 0, 0, 0, 5][..];
        let alias = &[0x23, 0, 3][..];
        let data = &[0x09, 0, 1, 0xFF][..];
        for (parts, want, borrowed) in [
            (vec![], vec![], true),
            (vec![expiry, alias], vec![], true),
            (vec![user], vec![user], true),
            (vec![expiry, user, data, format, alias], vec![user, data, format], true),
            (vec![user, expiry, data], vec![user, data], false),
            (vec![alias, user, user, expiry, format, user], vec![user, user, format, user], false),
        ] {
            let section = parts.concat();
            let body = [&[0, 1, b't', section.len() as u8][..], &section, b"x"].concat();
            let got = from_client(V5, 0x30, &body).unwrap();
            assert_eq!(got.props.forwardable().as_ref(), want.concat(), "{section:02X?}");
            assert_eq!(matches!(got.props.forwardable(), Cow::Borrowed(_)), borrowed, "{section:02X?}");
            assert_eq!(got.payload, b"x");
        }
    }

    #[test]
    fn the_head_has_the_bytes_of_the_original_and_the_length_it_said() {
        let head = PublishHead {
            version: V5,
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: "t",
            packet_id: PacketId::new(0x1234),
            forwardable: &[0x01, 1],
            expiry: Some(9),
            topic_alias: Some(2),
            subscription_id: Some(128),
            payload_len: 1,
        };
        let v3 = PublishHead { version: V311, dup: true, ..head };
        let qos0 = PublishHead { qos: QoS::AtMostOnce, version: V311, retain: false, ..head };
        let props = [0x01, 1, 0x02, 0, 0, 0, 9, 0x23, 0, 2, 0x0B, 0x80, 1];
        for (head, want) in [
            (head, [&[0x33, 20, 0, 1, b't', 0x12, 0x34, 13][..], &props, b"x"].concat()),
            (v3, vec![0x3B, 6, 0, 1, b't', 0x12, 0x34, b'x']),
            (qos0, vec![0x30, 4, 0, 1, b't', b'x']),
        ] {
            let mut out = Vec::new();
            encode_publish(&mut out, &head);
            out.push(b'x');
            assert_eq!(out, want);
            assert_eq!(publish_len(&head), out.len());
        }
    }

    #[test]
    fn a_server_may_send_several_subscription_identifiers() {
        let body = [0, 1, b't', 5, 0x0B, 1, 0x0B, 0x80, 1];
        let got = decode(V5, Role::FromServer, 0x30, &body).unwrap();
        let mut ids = Vec::new();
        got.subscription_ids.for_each(|n| ids.push(n));
        assert_eq!(ids, [1, 128]);
        assert_eq!(from_client(V5, 0x30, &body).unwrap_err().reason().unwrap().0, 0x82);
    }
}

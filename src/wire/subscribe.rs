//! SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK.

use super::error::DecodeError;
use super::packet::PacketType;
use super::props::{self, Section};
use super::reader::Reader;
use super::topic;
use super::writer::{put_prop_varint, put_str, put_u16, with_length};
use super::{PacketId, ProtocolVersion, QoS, ReasonCode};

/// When retained messages follow a subscription; the number is that of the options byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum RetainHandling {
    /// At every SUBSCRIBE, as before version 5.
    #[default]
    Send = 0,
    /// Only if the subscription is new.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

/// The options of one subscription. Before version 5 only the QoS is on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SubscribeOptions {
    /// The highest QoS asked for.
    pub qos: QoS,
    /// Own messages are not sent back.
    pub no_local: bool,
    /// The retain flag is forwarded as it came.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

impl SubscribeOptions {
    /// The options byte of version 5.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.qos as u8
            | (self.no_local as u8).wrapping_shl(2)
            | (self.retain_as_published as u8).wrapping_shl(3)
            | (self.retain_handling as u8).wrapping_shl(4)
    }

    fn decode(version: ProtocolVersion, bits: u8) -> Result<SubscribeOptions, DecodeError> {
        if version != ProtocolVersion::V5 {
            // The whole byte is the QoS [MQTT-3-8.3-4].
            let qos = QoS::from_bits(bits).ok_or(DecodeError::SubscribeQos)?;
            return Ok(SubscribeOptions { qos, ..SubscribeOptions::default() });
        }
        let retain_handling = match bits >> 4 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(DecodeError::SubscribeOptions),
        };
        Ok(SubscribeOptions {
            qos: QoS::from_bits(bits & 3).ok_or(DecodeError::SubscribeQos)?,
            no_local: bits & 4 != 0,
            retain_as_published: bits & 8 != 0,
            retain_handling,
        })
    }
}

/// SUBSCRIBE, with at least one filter except in MQTT 3.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscribe<'a> {
    /// The packet identifier.
    pub id: PacketId,
    /// The Subscription Identifier, 1 to 268435455.
    pub subscription_id: Option<u32>,
    version: ProtocolVersion,
    payload: &'a [u8],
}

impl<'a> Subscribe<'a> {
    /// The filters with their options, checked one by one: those before a fault take effect. The iterator ends after
    /// the fault. A filter has passed [`topic::check_filter`] but not [`topic::split_share`], which a mount point
    /// makes pointless; the fault of that is `DecodeError::Filter(PacketType::Subscribe, TopicError::Share)`.
    #[must_use]
    pub const fn filters(&self) -> SubscribeFilters<'a> {
        SubscribeFilters { version: self.version, reader: Reader::new(self.payload), strict: false }
    }

    /// As [`Subscribe::filters`] by the letter [conf: strict_conformance]: a filter with a fault takes only itself out,
    /// so the iterator goes on behind it.
    #[must_use]
    pub const fn filters_strict(&self) -> SubscribeFilters<'a> {
        SubscribeFilters { version: self.version, reader: Reader::new(self.payload), strict: true }
    }
}

/// The filters of a SUBSCRIBE.
#[derive(Clone, Debug)]
pub struct SubscribeFilters<'a> {
    version: ProtocolVersion,
    reader: Reader<'a>,
    strict: bool,
}

impl<'a> SubscribeFilters<'a> {
    /// Bytes of the packet behind the last filter taken; for [`SubscribeFilters::go_on_at`].
    #[must_use]
    pub const fn left(&self) -> usize {
        self.reader.left()
    }

    /// Goes on where so many bytes are left.
    pub fn go_on_at(&mut self, left: usize) {
        self.reader = self.reader.last(left);
    }

    fn read(&mut self) -> Result<(&'a str, SubscribeOptions), DecodeError> {
        const P: PacketType = PacketType::Subscribe;
        let filter = self.reader.string().map_err(|e| DecodeError::read(P, e))?;
        let checked = topic::check_filter(filter).map_err(|e| DecodeError::Filter(P, e));
        if !self.strict {
            checked?;
        }
        let bits = self.reader.u8().map_err(|e| DecodeError::read(P, e))?;
        if self.strict && self.version == ProtocolVersion::V5 && bits & 0xF0 == 0x30 {
            return Err(DecodeError::SubscribeRetainHandling);
        }
        let options = SubscribeOptions::decode(self.version, bits)?;
        checked?;
        if options.no_local && filter.starts_with("$share/") {
            return Err(DecodeError::ShareNoLocal);
        }
        Ok((filter, options))
    }
}

impl<'a> Iterator for SubscribeFilters<'a> {
    type Item = Result<(&'a str, SubscribeOptions), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let item = self.read();
        if item.is_err_and(|error| !skips(self.strict, error)) {
            self.reader = Reader::new(&[]);
        }
        Some(item)
    }
}

/// True when only the filter is at fault, and what follows it is to be read all the same.
const fn skips(strict: bool, error: DecodeError) -> bool {
    strict && matches!(error, DecodeError::Filter(..))
}

/// UNSUBSCRIBE, with at least one filter except in MQTT 3.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsubscribe<'a> {
    /// The packet identifier.
    pub id: PacketId,
    payload: &'a [u8],
}

impl<'a> Unsubscribe<'a> {
    /// The filters, checked one by one as those of [`Subscribe::filters`].
    #[must_use]
    pub const fn filters(&self) -> UnsubscribeFilters<'a> {
        UnsubscribeFilters { reader: Reader::new(self.payload), strict: false }
    }

    /// The filters as [`Subscribe::filters_strict`] has them.
    #[must_use]
    pub const fn filters_strict(&self) -> UnsubscribeFilters<'a> {
        UnsubscribeFilters { reader: Reader::new(self.payload), strict: true }
    }
}

/// The filters of an UNSUBSCRIBE.
#[derive(Clone, Debug)]
pub struct UnsubscribeFilters<'a> {
    reader: Reader<'a>,
    strict: bool,
}

impl UnsubscribeFilters<'_> {
    /// As [`SubscribeFilters::left`].
    #[must_use]
    pub const fn left(&self) -> usize {
        self.reader.left()
    }

    /// As [`SubscribeFilters::go_on_at`].
    pub fn go_on_at(&mut self, left: usize) {
        self.reader = self.reader.last(left);
    }
}

impl<'a> Iterator for UnsubscribeFilters<'a> {
    type Item = Result<&'a str, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        const P: PacketType = PacketType::Unsubscribe;
        if self.reader.is_empty() {
            return None;
        }
        let item = self.reader.string().map_err(|e| DecodeError::read(P, e)).and_then(|filter| {
            topic::check_filter(filter).map_err(|e| DecodeError::Filter(P, e))?;
            Ok(filter)
        });
        if item.is_err_and(|error| !skips(self.strict, error)) {
            self.reader = Reader::new(&[]);
        }
        Some(item)
    }
}

/// Packet identifier, Subscription Identifier and filters of both packets.
fn decode_request(
    version: ProtocolVersion,
    packet: PacketType,
    section: Section,
    body: &[u8],
) -> Result<(PacketId, Option<u32>, &[u8]), DecodeError> {
    let read = |e| DecodeError::read(packet, e);
    let mut r = Reader::new(body);
    let id = PacketId::new(r.u16().map_err(read)?).ok_or(DecodeError::PacketIdZero(packet))?;
    let mut subscription_id = None;
    if version == ProtocolVersion::V5 {
        props::walk(r.section().map_err(read)?, section, |p| {
            if p.id == props::SUBSCRIPTION_ID {
                subscription_id = Some(p.value.number());
            }
        })
        .map_err(|e| DecodeError::Property(packet, e))?;
    }
    if r.is_empty() && version != ProtocolVersion::V31 {
        return Err(DecodeError::NoFilters(packet));
    }
    Ok((id, subscription_id, r.rest()))
}

/// Decodes the body of a SUBSCRIBE but for its filters.
///
/// # Errors
/// The fault.
pub fn decode_subscribe(version: ProtocolVersion, body: &[u8]) -> Result<Subscribe<'_>, DecodeError> {
    let (id, subscription_id, payload) = decode_request(version, PacketType::Subscribe, Section::Subscribe, body)?;
    Ok(Subscribe { id, subscription_id, version, payload })
}

/// Decodes the body of an UNSUBSCRIBE but for its filters.
///
/// # Errors
/// The fault.
pub fn decode_unsubscribe(version: ProtocolVersion, body: &[u8]) -> Result<Unsubscribe<'_>, DecodeError> {
    let (id, _, payload) = decode_request(version, PacketType::Unsubscribe, Section::Unsubscribe, body)?;
    Ok(Unsubscribe { id, payload })
}

/// Appends a SUBSCRIBE.
pub fn encode_subscribe<'a>(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    id: PacketId,
    subscription_id: Option<u32>,
    filters: impl Iterator<Item = (&'a str, SubscribeOptions)>,
) {
    out.push(PacketType::Subscribe.first_byte());
    with_length(out, |out| {
        put_u16(out, id.get());
        if version == ProtocolVersion::V5 {
            with_length(out, |out| {
                if let Some(n) = subscription_id {
                    put_prop_varint(out, props::SUBSCRIPTION_ID, n);
                }
            });
        }
        for (filter, options) in filters {
            put_str(out, filter);
            out.push(if version == ProtocolVersion::V5 { options.bits() } else { options.qos as u8 });
        }
    });
}

/// Appends an UNSUBSCRIBE.
pub fn encode_unsubscribe<'a>(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    id: PacketId,
    filters: impl Iterator<Item = &'a str>,
) {
    out.push(PacketType::Unsubscribe.first_byte());
    with_length(out, |out| {
        put_u16(out, id.get());
        if version == ProtocolVersion::V5 {
            out.push(0);
        }
        for filter in filters {
            put_str(out, filter);
        }
    });
}

/// SUBACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Suback<'a> {
    /// The packet identifier.
    pub id: PacketId,
    /// One granted QoS or failure code for each filter.
    pub codes: &'a [u8],
}

/// UNSUBACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsuback<'a> {
    /// The packet identifier.
    pub id: PacketId,
    /// One reason code for each filter; empty before version 5.
    pub codes: &'a [u8],
}

fn decode_answer(version: ProtocolVersion, packet: PacketType, body: &[u8]) -> Result<(PacketId, &[u8]), DecodeError> {
    let read = |e| DecodeError::read(packet, e);
    let mut r = Reader::new(body);
    let id = PacketId::new(r.u16().map_err(read)?).ok_or(DecodeError::PacketIdZero(packet))?;
    if version == ProtocolVersion::V5 {
        let section = r.section().map_err(read)?;
        props::walk(section, Section::Ack, |_| ()).map_err(|e| DecodeError::Property(packet, e))?;
    }
    Ok((id, r.rest()))
}

/// Decodes the body of a SUBACK.
///
/// # Errors
/// The fault.
pub fn decode_suback(version: ProtocolVersion, body: &[u8]) -> Result<Suback<'_>, DecodeError> {
    decode_answer(version, PacketType::Suback, body).map(|(id, codes)| Suback { id, codes })
}

/// Decodes the body of an UNSUBACK.
///
/// # Errors
/// The fault.
pub fn decode_unsuback(version: ProtocolVersion, body: &[u8]) -> Result<Unsuback<'_>, DecodeError> {
    let (id, codes) = decode_answer(version, PacketType::Unsuback, body)?;
    if version != ProtocolVersion::V5 && !codes.is_empty() {
        return Err(DecodeError::Length(PacketType::Unsuback));
    }
    Ok(Unsuback { id, codes })
}

/// Appends a SUBACK. Before version 5 every failure is 0x80, the only one there is.
pub fn encode_suback(out: &mut Vec<u8>, version: ProtocolVersion, id: PacketId, codes: &[ReasonCode]) {
    out.push(PacketType::Suback.first_byte());
    with_length(out, |out| {
        put_u16(out, id.get());
        if version == ProtocolVersion::V5 {
            out.push(0);
            out.extend(codes.iter().map(|c| c.0));
        } else {
            out.extend(codes.iter().map(|c| c.0.min(0x80)));
        }
    });
}

/// Appends an UNSUBACK; before version 5 it has no codes.
pub fn encode_unsuback(out: &mut Vec<u8>, version: ProtocolVersion, id: PacketId, codes: &[ReasonCode]) {
    out.push(PacketType::Unsuback.first_byte());
    with_length(out, |out| {
        put_u16(out, id.get());
        if version == ProtocolVersion::V5 {
            out.push(0);
            out.extend(codes.iter().map(|c| c.0));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProtocolVersion::{V5, V31, V311};
    use topic::TopicError;

    #[test]
    fn filters_before_a_fault_are_handed_out_and_none_after_it() {
        let p = PacketType::Subscribe;
        let bad = |e| DecodeError::Filter(p, e);
        let cases: &[(_, &[u8], usize, Option<DecodeError>, u8)] = &[
            (V311, b"\0\x01p\x01\0\x01q\x02", 2, None, 0),
            (V311, b"\0\x01p\x01\0\0\x02\0\x01r\x00", 1, Some(bad(TopicError::Empty)), 0x81),
            (V311, b"\0\x01p\x03", 0, Some(DecodeError::SubscribeQos), 0x81),
            (V311, b"\0\x01p\x04", 0, Some(DecodeError::SubscribeQos), 0x81),
            (V311, b"\0\x01p\x00\x00", 1, Some(DecodeError::Truncated(p)), 0x81),
            (V311, b"\0\x01p", 0, Some(DecodeError::Truncated(p)), 0x81),
            (V5, b"\0\x01p\x2E", 1, None, 0),
            (V5, b"\0\x01p\x30", 0, Some(DecodeError::SubscribeOptions), 0x81),
            (V5, b"\0\x01p\x40", 0, Some(DecodeError::SubscribeOptions), 0x81),
            (V5, b"\0\x01p\x80", 0, Some(DecodeError::SubscribeOptions), 0x81),
            (V5, b"\0\x01p\x03", 0, Some(DecodeError::SubscribeQos), 0x81),
            (V5, b"\0\x01\x01\x00", 0, Some(DecodeError::Utf8(p)), 0x81),
            (V5, b"\0\x02#a\x00", 0, Some(bad(TopicError::Placement)), 0x81),
            (V5, b"\0\x0A$share/n/f\x04", 0, Some(DecodeError::ShareNoLocal), 0x82),
            (V5, b"\0\x0A$share/n/f\x00", 1, None, 0),
        ];
        for (version, payload, good, fault, code) in cases {
            let head: &[u8] = if *version == V5 { &[0, 1, 0] } else { &[0, 1] };
            let body = [head, payload].concat();
            let all: Vec<_> = decode_subscribe(*version, &body).unwrap().filters().collect();
            assert_eq!(all.iter().filter(|f| f.is_ok()).count(), *good, "{payload:02X?}");
            let got = all.last().and_then(|f| f.err());
            assert_eq!(got, *fault, "{payload:02X?}");
            assert_eq!(got.and_then(|e| e.reason()).map_or(0, |r| r.0), *code, "{payload:02X?}");
        }
    }

    #[test]
    fn what_stands_before_the_filters() {
        for (version, body, want) in [
            (V5, &[0, 1, 2, 0x0B, 5, 0, 1, b'p', 0][..], Ok(Some(5))),
            (V5, &[0, 1, 0, 0, 1, b'p', 0], Ok(None)),
            (V31, &[0, 1], Ok(None)),
            (V311, &[0, 1], Err(0x81)),
            (V5, &[0, 1, 0], Err(0x81)),
            (V5, &[0, 1], Err(0x81)),
            (V5, &[0], Err(0x81)),
            (V5, &[0, 0, 0, 0, 1, b'p', 0], Err(0x81)),
            (V5, &[0, 1, 2, 0x0B, 0, 0, 1, b'p', 0], Err(0x81)),
            (V5, &[0, 1, 2, 0x01, 0, 0, 1, b'p', 0], Err(0x81)),
            (V5, &[0, 1, 2, 0x7F, 0, 0, 1, b'p', 0], Err(0x81)),
            (V5, &[0, 1, 4, 0x0B, 5, 0x0B, 5, 0, 1, b'p', 0], Err(0x82)),
        ] {
            let got = decode_subscribe(version, body);
            assert_eq!(got.map(|s| s.subscription_id).map_err(|e| e.reason().unwrap().0), want, "{body:02X?}");
            if !body.contains(&0x0B) {
                let got = decode_unsubscribe(version, body);
                assert_eq!(got.map(|_| None).map_err(|e| e.reason().unwrap().0), want, "{body:02X?}");
            }
        }
    }

    #[test]
    fn by_the_letter_a_bad_filter_takes_only_itself_out() {
        let body = b"\0\x01\0\0\x01q\x01\0\x02#a\0\0\0\x02\0\x01r\x30\0\x01s\0";
        let all: Vec<_> = decode_subscribe(V5, body).unwrap().filters_strict().map(|f| f.map(|(f, _)| f)).collect();
        let bad = |error| Err(DecodeError::Filter(PacketType::Subscribe, error));
        assert_eq!(
            all,
            [Ok("q"), bad(TopicError::Placement), bad(TopicError::Empty), Err(DecodeError::SubscribeRetainHandling)],
            "and what is malformed ends the list"
        );
        let body = b"\0\x01\0\0\x02#a\0\x01q\0\x05";
        let all: Vec<_> = decode_unsubscribe(V5, body).unwrap().filters_strict().collect();
        let placement = Err(DecodeError::Filter(PacketType::Unsubscribe, TopicError::Placement));
        assert_eq!(all, [placement, Ok("q"), Err(DecodeError::Truncated(PacketType::Unsubscribe))]);
    }

    #[test]
    fn unsubscribe_stops_at_a_bad_filter() {
        let body = b"\0\x01\0\0\x01q\0\0";
        let all: Vec<_> = decode_unsubscribe(V5, body).unwrap().filters().collect();
        assert_eq!(all, [Ok("q"), Err(DecodeError::Filter(PacketType::Unsubscribe, TopicError::Empty))]);
    }

    #[test]
    fn answers_have_the_bytes_of_the_original() {
        let id = PacketId::new(0x1234).unwrap();
        let codes = [ReasonCode::GRANTED_QOS_1, ReasonCode::NOT_AUTHORIZED];
        for (version, suback, unsuback) in [
            (V5, &[0x90, 5, 0x12, 0x34, 0, 1, 0x87][..], &[0xB0, 5, 0x12, 0x34, 0, 1, 0x87][..]),
            (V311, &[0x90, 4, 0x12, 0x34, 1, 0x80], &[0xB0, 2, 0x12, 0x34]),
        ] {
            let (mut a, mut b) = (Vec::new(), Vec::new());
            encode_suback(&mut a, version, id, &codes);
            encode_unsuback(&mut b, version, id, &codes);
            assert_eq!((&a[..], &b[..]), (suback, unsuback));
            assert_eq!(decode_suback(version, &a[2..]).unwrap().codes, &a[a.len() - 2..]);
            assert_eq!(decode_unsuback(version, &b[2..]).unwrap().id, id);
        }
    }
}

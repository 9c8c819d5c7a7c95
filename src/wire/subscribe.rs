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
        SubscribeFilters { version: self.version, reader: Reader::new(self.payload) }
    }
}

/// The filters of a SUBSCRIBE.
#[derive(Clone, Debug)]
pub struct SubscribeFilters<'a> {
    version: ProtocolVersion,
    reader: Reader<'a>,
}

impl<'a> SubscribeFilters<'a> {
    fn read(&mut self) -> Result<(&'a str, SubscribeOptions), DecodeError> {
        const P: PacketType = PacketType::Subscribe;
        let filter = self.reader.string().map_err(|e| DecodeError::read(P, e))?;
        topic::check_filter(filter).map_err(|e| DecodeError::Filter(P, e))?;
        let bits = self.reader.u8().map_err(|e| DecodeError::read(P, e))?;
        let options = SubscribeOptions::decode(self.version, bits)?;
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
        if item.is_err() {
            self.reader = Reader::new(&[]);
        }
        Some(item)
    }
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
        UnsubscribeFilters { reader: Reader::new(self.payload) }
    }
}

/// The filters of an UNSUBSCRIBE.
#[derive(Clone, Debug)]
pub struct UnsubscribeFilters<'a> {
    reader: Reader<'a>,
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
        if item.is_err() {
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
    decode_answer(version, PacketType::Unsuback, body).map(|(id, codes)| Unsuback { id, codes })
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

//! One packet of any type but CONNECT: type and flags of the first byte, then the decoder of its family.

use core::fmt;

use super::acks::Ack;
use super::connect::Connack;
use super::control::{Auth, Disconnect};
use super::error::DecodeError;
use super::publish::Publish;
use super::subscribe::{Suback, Subscribe, Unsuback, Unsubscribe};
use super::{ProtocolVersion, acks, connect, control, publish, subscribe};

/// The packet type, the upper half of the first byte.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum PacketType {
    Connect = 1,
    Connack = 2,
    Publish = 3,
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
    Subscribe = 8,
    Suback = 9,
    Unsubscribe = 10,
    Unsuback = 11,
    Pingreq = 12,
    Pingresp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    /// The type in the first byte of a packet; `None` for the reserved type 0.
    #[must_use]
    pub const fn of(first: u8) -> Option<PacketType> {
        use PacketType as P;
        Some(match first >> 4 {
            1 => P::Connect,
            2 => P::Connack,
            3 => P::Publish,
            4 => P::Puback,
            5 => P::Pubrec,
            6 => P::Pubrel,
            7 => P::Pubcomp,
            8 => P::Subscribe,
            9 => P::Suback,
            10 => P::Unsubscribe,
            11 => P::Unsuback,
            12 => P::Pingreq,
            13 => P::Pingresp,
            14 => P::Disconnect,
            15 => P::Auth,
            _ => return None,
        })
    }

    /// The first byte of a packet of this type with its prescribed flags [MQTT-2.1.3-1]; PUBLISH adds its own.
    #[must_use]
    pub const fn first_byte(self) -> u8 {
        let flags = match self {
            PacketType::Pubrel | PacketType::Subscribe | PacketType::Unsubscribe => 2,
            _ => 0,
        };
        (self as u8).wrapping_shl(4) | flags
    }

    /// The name as the specification and the log write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        use PacketType as P;
        match self {
            P::Connect => "CONNECT",
            P::Connack => "CONNACK",
            P::Publish => "PUBLISH",
            P::Puback => "PUBACK",
            P::Pubrec => "PUBREC",
            P::Pubrel => "PUBREL",
            P::Pubcomp => "PUBCOMP",
            P::Subscribe => "SUBSCRIBE",
            P::Suback => "SUBACK",
            P::Unsubscribe => "UNSUBSCRIBE",
            P::Unsuback => "UNSUBACK",
            P::Pingreq => "PINGREQ",
            P::Pingresp => "PINGRESP",
            P::Disconnect => "DISCONNECT",
            P::Auth => "AUTH",
        }
    }
}

impl fmt::Display for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who sent the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A client: we are the server.
    FromClient,
    /// A server: we are the client.
    FromServer,
}

/// A decoded packet, borrowed from its frame. CONNECT is not among them: it comes first and once, and
/// [`connect::decode`] says how a bad one is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Packet<'a> {
    Connack(Connack<'a>),
    Publish(Publish<'a>),
    Puback(Ack),
    Pubrec(Ack),
    Pubrel(Ack),
    Pubcomp(Ack),
    Subscribe(Subscribe<'a>),
    Suback(Suback<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Unsuback(Unsuback<'a>),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect),
    Auth(Auth<'a>),
}

/// Decodes any packet after CONNECT. AUTH from a client without Authentication Method is
/// [`DecodeError::AuthWithoutMethod`] whatever this returns; the caller knows.
///
/// # Errors
/// The fault, which ends the connection.
pub fn decode<'a>(version: ProtocolVersion, role: Role, first: u8, body: &'a [u8]) -> Result<Packet<'a>, DecodeError> {
    use PacketType as P;
    let packet = P::of(first).ok_or(DecodeError::Reserved)?;
    let from_client = role == Role::FromClient;
    match packet {
        P::Connect if from_client => return Err(DecodeError::SecondConnect),
        P::Connect => return Err(DecodeError::Unexpected(packet)),
        // The one packet whose flags do not count when it comes from the wrong side.
        P::Connack if from_client => return Err(DecodeError::Unexpected(packet)),
        P::Auth if version != ProtocolVersion::V5 => return Err(DecodeError::AuthVersion),
        P::Publish => return publish::decode(version, role, first, body).map(Packet::Publish),
        // The original never looks at the flags of a v3.1 PUBREL, where DUP had a meaning.
        P::Pubrel if version == ProtocolVersion::V31 => {}
        _ if first != packet.first_byte() => return Err(DecodeError::Flags(packet, first)),
        _ => {}
    }
    match packet {
        P::Suback | P::Unsuback | P::Pingresp if from_client => return Err(DecodeError::Unexpected(packet)),
        P::Subscribe | P::Unsubscribe | P::Pingreq if !from_client => return Err(DecodeError::Unexpected(packet)),
        _ => {}
    }
    Ok(match packet {
        P::Puback => Packet::Puback(acks::decode(version, packet, body)?),
        P::Pubrec => Packet::Pubrec(acks::decode(version, packet, body)?),
        P::Pubrel => Packet::Pubrel(acks::decode(version, packet, body)?),
        P::Pubcomp => Packet::Pubcomp(acks::decode(version, packet, body)?),
        P::Subscribe => Packet::Subscribe(subscribe::decode_subscribe(version, body)?),
        P::Suback => Packet::Suback(subscribe::decode_suback(version, body)?),
        P::Unsubscribe => Packet::Unsubscribe(subscribe::decode_unsubscribe(version, body)?),
        P::Unsuback => Packet::Unsuback(subscribe::decode_unsuback(version, body)?),
        P::Pingreq | P::Pingresp if !body.is_empty() => return Err(DecodeError::Length(packet)),
        P::Pingreq => Packet::Pingreq,
        P::Pingresp => Packet::Pingresp,
        P::Disconnect => Packet::Disconnect(control::decode_disconnect(version, body)?),
        P::Auth => Packet::Auth(control::decode_auth(role, body)?),
        P::Connack => Packet::Connack(connect::decode_connack(version, body)?),
        P::Connect | P::Publish => return Err(DecodeError::Unexpected(packet)),
    })
}

//! The properties of MQTT 5: one table of them, and one checked walk over a section.

use super::error::PropFault;
use super::reader::{ReadError, Reader};
use super::topic;

/// A place where properties stand, as a bit of the table's masks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Section {
    /// CONNECT.
    Connect = 1,
    /// The will of a CONNECT.
    Will = 1 << 1,
    /// CONNACK.
    Connack = 1 << 2,
    /// PUBLISH to a client.
    Publish = 1 << 3,
    /// PUBLISH from a client, which may not carry a Subscription Identifier [MQTT-3.3.4-6].
    ClientPublish = 1 << 4,
    /// PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK, which permit the same properties.
    Ack = 1 << 5,
    /// SUBSCRIBE.
    Subscribe = 1 << 6,
    /// UNSUBSCRIBE.
    Unsubscribe = 1 << 7,
    /// DISCONNECT.
    Disconnect = 1 << 8,
    /// AUTH.
    Auth = 1 << 9,
}

/// A property's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// Byte.
    U8(u8),
    /// Two byte integer.
    U16(u16),
    /// Four byte integer.
    U32(u32),
    /// Variable byte integer.
    Varint(u32),
    /// UTF-8 string.
    Str(&'a str),
    /// Binary data.
    Binary(&'a [u8]),
    /// UTF-8 string pair.
    Pair(&'a str, &'a str),
}

impl<'a> Value<'a> {
    /// The number of an integer of any width; 0 for the others.
    #[must_use]
    pub const fn number(&self) -> u32 {
        match *self {
            Value::U8(n) => n as u32,
            Value::U16(n) => n as u32,
            Value::U32(n) | Value::Varint(n) => n,
            Value::Str(_) | Value::Binary(_) | Value::Pair(..) => 0,
        }
    }

    /// The number of a two byte integer; 0 for the others.
    #[must_use]
    pub const fn u16(&self) -> u16 {
        match *self {
            Value::U16(n) => n,
            _ => 0,
        }
    }

    /// The string; empty for the others.
    #[must_use]
    pub const fn str(&self) -> &'a str {
        match *self {
            Value::Str(s) => s,
            _ => "",
        }
    }

    /// The binary data; empty for the others.
    #[must_use]
    pub const fn binary(&self) -> &'a [u8] {
        match *self {
            Value::Binary(b) => b,
            _ => &[],
        }
    }
}

/// One property of a section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prop<'a> {
    /// The identifier, one of the constants of this module.
    pub id: u8,
    /// The value.
    pub value: Value<'a>,
    /// Identifier and value as they stand in the packet.
    pub raw: &'a [u8],
}

#[derive(Clone, Copy)]
enum Kind {
    /// A byte that is 0 or 1.
    Flag,
    U16,
    /// A two byte integer that is not 0.
    NonZeroU16,
    U32,
    /// A four byte integer that is not 0.
    NonZeroU32,
    /// A variable byte integer that is not 0.
    NonZeroVarint,
    Str,
    /// A string that is a topic name.
    Topic,
    Binary,
    Pair,
}

macro_rules! properties {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $kind:ident, [$($section:ident)*];)*) => {
        $($(#[$doc])* pub const $name: u8 = $id;)*

        /// Type of the property and mask of the sections that permit it; `None` for identifiers that do not exist.
        const fn rule(id: u8) -> Option<(Kind, u16)> {
            match id {
                $($id => Some((Kind::$kind, 0 $(| Section::$section as u16)*)),)*
                _ => None,
            }
        }
    };
}

properties! {
    /// Payload Format Indicator.
    PAYLOAD_FORMAT = 1, Flag, [Publish ClientPublish Will];
    /// Message Expiry Interval.
    MESSAGE_EXPIRY = 2, U32, [Publish ClientPublish Will];
    /// Content Type.
    CONTENT_TYPE = 3, Str, [Publish ClientPublish Will];
    /// Response Topic.
    RESPONSE_TOPIC = 8, Topic, [Publish ClientPublish Will];
    /// Correlation Data.
    CORRELATION_DATA = 9, Binary, [Publish ClientPublish Will];
    /// Subscription Identifier.
    SUBSCRIPTION_ID = 11, NonZeroVarint, [Publish Subscribe];
    /// Session Expiry Interval.
    SESSION_EXPIRY = 17, U32, [Connect Connack Disconnect];
    /// Assigned Client Identifier.
    ASSIGNED_CLIENT_ID = 18, Str, [Connack];
    /// Server Keep Alive.
    SERVER_KEEP_ALIVE = 19, U16, [Connack];
    /// Authentication Method.
    AUTH_METHOD = 21, Str, [Connect Connack Auth];
    /// Authentication Data.
    AUTH_DATA = 22, Binary, [Connect Connack Auth];
    /// Request Problem Information.
    REQUEST_PROBLEM_INFO = 23, Flag, [Connect];
    /// Will Delay Interval.
    WILL_DELAY = 24, U32, [Will];
    /// Request Response Information.
    REQUEST_RESPONSE_INFO = 25, Flag, [Connect];
    /// Response Information.
    RESPONSE_INFO = 26, Str, [Connack];
    /// Server Reference.
    SERVER_REFERENCE = 28, Str, [Connack Disconnect];
    /// Reason String.
    REASON_STRING = 31, Str, [Connack Ack Disconnect Auth];
    /// Receive Maximum.
    RECEIVE_MAXIMUM = 33, NonZeroU16, [Connect Connack];
    /// Topic Alias Maximum.
    TOPIC_ALIAS_MAXIMUM = 34, U16, [Connect Connack];
    /// Topic Alias.
    TOPIC_ALIAS = 35, NonZeroU16, [Publish ClientPublish];
    /// Maximum QoS.
    MAXIMUM_QOS = 36, Flag, [Connack];
    /// Retain Available.
    RETAIN_AVAILABLE = 37, Flag, [Connack];
    /// User Property.
    USER_PROPERTY = 38, Pair, [Connect Will Connack Publish ClientPublish Ack Subscribe Unsubscribe Disconnect Auth];
    /// Maximum Packet Size.
    MAXIMUM_PACKET_SIZE = 39, NonZeroU32, [Connect Connack];
    /// Wildcard Subscription Available.
    WILDCARD_AVAILABLE = 40, Flag, [Connack];
    /// Subscription Identifier Available.
    SUBSCRIPTION_ID_AVAILABLE = 41, Flag, [Connack];
    /// Shared Subscription Available.
    SHARED_AVAILABLE = 42, Flag, [Connack];
}

/// Walks the properties of `raw`, checks each and hands those without fault to `each`. A section that cannot be parsed
/// to its end counts before what is wrong with a single property, as in the original.
///
/// # Errors
/// The first fault that makes the section unreadable, else the first of another kind.
pub fn walk<'a>(raw: &'a [u8], section: Section, mut each: impl FnMut(Prop<'a>)) -> Result<(), PropFault> {
    let mut reader = Reader::new(raw);
    let mut seen = 0u64;
    let mut first_fault = None;
    while !reader.is_empty() {
        let start = reader.rest();
        let id = reader.varint()?;
        let id = u8::try_from(id).map_err(|_| PropFault::Unknown)?;
        let (kind, sections) = rule(id).ok_or(PropFault::Unknown)?;
        let (value, good) = read_value(&mut reader, kind)?;
        let bit = 1u64.wrapping_shl(u32::from(id));
        let repeats = id == USER_PROPERTY || (id == SUBSCRIPTION_ID && section == Section::Publish);
        let fault = if !good {
            Some(PropFault::Value(id))
        } else if sections & section as u16 == 0 {
            Some(PropFault::NotAllowed(id))
        } else if seen & bit != 0 && !repeats {
            Some(PropFault::Duplicate)
        } else {
            None
        };
        seen |= bit;
        match fault {
            None => {
                let used = start.len().saturating_sub(reader.rest().len());
                each(Prop { id, value, raw: start.get(..used).unwrap_or_default() });
            }
            Some(_) => first_fault = first_fault.or(fault),
        }
    }
    first_fault.map_or(Ok(()), Err)
}

/// The value, and whether it is one that the property may have.
fn read_value<'a>(reader: &mut Reader<'a>, kind: Kind) -> Result<(Value<'a>, bool), ReadError> {
    Ok(match kind {
        Kind::Flag => {
            let n = reader.u8()?;
            (Value::U8(n), n <= 1)
        }
        Kind::U16 => (Value::U16(reader.u16()?), true),
        Kind::NonZeroU16 => {
            let n = reader.u16()?;
            (Value::U16(n), n != 0)
        }
        Kind::U32 => (Value::U32(reader.u32()?), true),
        Kind::NonZeroU32 => {
            let n = reader.u32()?;
            (Value::U32(n), n != 0)
        }
        Kind::NonZeroVarint => {
            let n = reader.varint()?;
            (Value::Varint(n), n != 0)
        }
        Kind::Str => (Value::Str(reader.string()?), true),
        Kind::Topic => {
            let name = reader.string()?;
            (Value::Str(name), topic::check_name(name).is_ok())
        }
        Kind::Binary => (Value::Binary(reader.binary()?), true),
        Kind::Pair => (Value::Pair(reader.string()?, reader.string()?), true),
    })
}

impl From<ReadError> for PropFault {
    fn from(error: ReadError) -> PropFault {
        match error {
            ReadError::Truncated => PropFault::Truncated,
            ReadError::Utf8 => PropFault::Utf8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_of_a_section_is_told_apart() {
        use PropFault as F;
        use Section as S;
        for (raw, section, want) in [
            (&[][..], S::Connect, Ok(())),
            (&[0x11, 0, 0, 0, 1], S::Connect, Ok(())),
            (&[0x11, 0, 0, 0], S::Connect, Err(F::Truncated)),
            (&[0x22], S::Connect, Err(F::Truncated)),
            (&[0x26, 0, 1, b'p'], S::Connect, Err(F::Truncated)),
            (&[0x26, 0, 0, 0, 0, 0x26, 0, 0, 0, 0], S::Connect, Ok(())),
            (&[0x26, 0, 1, 0, 0, 0], S::Connect, Err(F::Utf8)),
            (&[0x21, 0, 0], S::Connect, Err(F::Value(0x21))),
            (&[0x21, 0, 1, 0x21, 0, 1], S::Connect, Err(F::Duplicate)),
            (&[0x17, 2], S::Connect, Err(F::Value(0x17))),
            (&[0x24, 1], S::Connect, Err(F::NotAllowed(0x24))),
            // What cannot be read counts before what is not allowed.
            (&[0x24, 1, 0x22], S::Connect, Err(F::Truncated)),
            (&[0x24, 1, 0x7F, 0], S::Connect, Err(F::Unknown)),
            (&[0x00, 1], S::Connect, Err(F::Unknown)),
            (&[0x80, 0x00, 1], S::Connect, Err(F::Truncated)),
            (&[0x80, 0x01, 1], S::Connect, Err(F::Unknown)),
            (&[0xFF, 0xFF, 0xFF, 0x7F, 1], S::Connect, Err(F::Unknown)),
            (&[0x80, 0x80, 0x80, 0x80, 0x01, 1], S::Connect, Err(F::Truncated)),
            (&[0x0B, 1], S::Subscribe, Ok(())),
            (&[0x0B, 0], S::Subscribe, Err(F::Value(0x0B))),
            (&[0x0B, 1, 0x0B, 2], S::Subscribe, Err(F::Duplicate)),
            (&[0x0B, 1, 0x0B, 2], S::Publish, Ok(())),
            (&[0x0B, 1], S::ClientPublish, Err(F::NotAllowed(0x0B))),
            (&[0x08, 0, 0], S::ClientPublish, Err(F::Value(0x08))),
            (&[0x08, 0, 1, b'+'], S::Will, Err(F::Value(0x08))),
            (&[0x08, 0, 1, b'p'], S::Will, Ok(())),
            (&[0x03, 0, 0], S::Will, Ok(())),
            (&[0x23, 0, 0], S::ClientPublish, Err(F::Value(0x23))),
        ] {
            assert_eq!(walk(raw, section, |_| ()), want, "{raw:02X?} {section:?}");
        }
    }

    #[test]
    fn a_property_is_handed_over_with_its_bytes() {
        let raw = [0x11, 0, 0, 0, 9, 0x26, 0, 1, b'k', 0, 1, b'v'];
        let mut all = Vec::new();
        walk(&raw, Section::Connect, |p| all.push(p)).unwrap();
        assert_eq!(
            all,
            [
                Prop { id: SESSION_EXPIRY, value: Value::U32(9), raw: &raw[..5] },
                Prop { id: USER_PROPERTY, value: Value::Pair("k", "v"), raw: &raw[5..] },
            ]
        );
    }
}

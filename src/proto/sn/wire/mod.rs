//! MQTT-SN 1.2 datagrams to values and back, borrowed from the input [SN 5].
//!
//! [`frame::split`] takes the forwarder encapsulation off a datagram, [`Message::decode`] reads what is inside, and
//! [`Message::encode`] writes either length form. A datagram whose lengths do not fit exactly is a [`Fault`] as a whole:
//! nobody may act on half of it. Text stays bytes here, because whether a name is valid decides which answer it gets.

mod decode;
mod encode;
pub mod frame;
#[cfg(test)]
mod tests;

use core::fmt;

pub use frame::{Encapsulation, encapsulate};

/// The largest message, by the 16 bits of its length [SN 5.2.1].
pub const MAX_MESSAGE: usize = 65_535;
/// The only protocol id of version 1.2 [SN 5.3.8].
pub const PROTOCOL_ID: u8 = 1;

/// The type of a message [SN 5.2.2]. PUBCOMP stands before PUBREC and PUBREL, unlike in MQTT.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum MessageType {
    Advertise = 0x00,
    SearchGw = 0x01,
    GwInfo = 0x02,
    Connect = 0x04,
    Connack = 0x05,
    WillTopicReq = 0x06,
    WillTopic = 0x07,
    WillMsgReq = 0x08,
    WillMsg = 0x09,
    Register = 0x0A,
    Regack = 0x0B,
    Publish = 0x0C,
    Puback = 0x0D,
    Pubcomp = 0x0E,
    Pubrec = 0x0F,
    Pubrel = 0x10,
    Subscribe = 0x12,
    Suback = 0x13,
    Unsubscribe = 0x14,
    Unsuback = 0x15,
    Pingreq = 0x16,
    Pingresp = 0x17,
    Disconnect = 0x18,
    WillTopicUpd = 0x1A,
    WillTopicResp = 0x1B,
    WillMsgUpd = 0x1C,
    WillMsgResp = 0x1D,
}

impl MessageType {
    /// The type with this number; `None` for the reserved ones and for 0xFE, which is no message of its own.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<MessageType> {
        use MessageType as T;
        Some(match byte {
            0x00 => T::Advertise,
            0x01 => T::SearchGw,
            0x02 => T::GwInfo,
            0x04 => T::Connect,
            0x05 => T::Connack,
            0x06 => T::WillTopicReq,
            0x07 => T::WillTopic,
            0x08 => T::WillMsgReq,
            0x09 => T::WillMsg,
            0x0A => T::Register,
            0x0B => T::Regack,
            0x0C => T::Publish,
            0x0D => T::Puback,
            0x0E => T::Pubcomp,
            0x0F => T::Pubrec,
            0x10 => T::Pubrel,
            0x12 => T::Subscribe,
            0x13 => T::Suback,
            0x14 => T::Unsubscribe,
            0x15 => T::Unsuback,
            0x16 => T::Pingreq,
            0x17 => T::Pingresp,
            0x18 => T::Disconnect,
            0x1A => T::WillTopicUpd,
            0x1B => T::WillTopicResp,
            0x1C => T::WillMsgUpd,
            0x1D => T::WillMsgResp,
            _ => return None,
        })
    }

    /// The name as the specification writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        use MessageType as T;
        match self {
            T::Advertise => "ADVERTISE",
            T::SearchGw => "SEARCHGW",
            T::GwInfo => "GWINFO",
            T::Connect => "CONNECT",
            T::Connack => "CONNACK",
            T::WillTopicReq => "WILLTOPICREQ",
            T::WillTopic => "WILLTOPIC",
            T::WillMsgReq => "WILLMSGREQ",
            T::WillMsg => "WILLMSG",
            T::Register => "REGISTER",
            T::Regack => "REGACK",
            T::Publish => "PUBLISH",
            T::Puback => "PUBACK",
            T::Pubcomp => "PUBCOMP",
            T::Pubrec => "PUBREC",
            T::Pubrel => "PUBREL",
            T::Subscribe => "SUBSCRIBE",
            T::Suback => "SUBACK",
            T::Unsubscribe => "UNSUBSCRIBE",
            T::Unsuback => "UNSUBACK",
            T::Pingreq => "PINGREQ",
            T::Pingresp => "PINGRESP",
            T::Disconnect => "DISCONNECT",
            T::WillTopicUpd => "WILLTOPICUPD",
            T::WillTopicResp => "WILLTOPICRESP",
            T::WillMsgUpd => "WILLMSGUPD",
            T::WillMsgResp => "WILLMSGRESP",
        }
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A return code [SN 5.3.10]. A newtype, not an enum: a peer may send any value, and all but 0 refuse.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct ReturnCode(pub u8);

impl ReturnCode {
    /// Accepted.
    pub const ACCEPTED: ReturnCode = ReturnCode(0);
    /// Rejected: congestion. Worth another try later.
    pub const CONGESTION: ReturnCode = ReturnCode(1);
    /// Rejected: invalid topic id.
    pub const INVALID_TOPIC_ID: ReturnCode = ReturnCode(2);
    /// Rejected: not supported.
    pub const NOT_SUPPORTED: ReturnCode = ReturnCode(3);

    /// True for everything but [`ReturnCode::ACCEPTED`].
    #[must_use]
    pub const fn is_refusal(self) -> bool {
        self.0 != 0
    }
}

/// The QoS field of a message; two bits, of which 11 means one thing in PUBLISH and nothing elsewhere [SN 5.3.4].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
#[repr(u8)]
pub enum QosField {
    /// QoS 0.
    #[default]
    AtMostOnce = 0,
    /// QoS 1.
    AtLeastOnce = 1,
    /// QoS 2.
    ExactlyOnce = 2,
    /// QoS −1: a PUBLISH without a connection [SN 6.8].
    MinusOne = 3,
}

impl QosField {
    pub(super) const fn from_bits(bits: u8) -> QosField {
        match bits & 3 {
            0 => QosField::AtMostOnce,
            1 => QosField::AtLeastOnce,
            2 => QosField::ExactlyOnce,
            _ => QosField::MinusOne,
        }
    }

    /// The QoS of MQTT; `None` for −1.
    #[must_use]
    pub const fn qos(self) -> Option<crate::wire::QoS> {
        crate::wire::QoS::from_bits(self as u8)
    }
}

impl From<crate::wire::QoS> for QosField {
    fn from(qos: crate::wire::QoS) -> QosField {
        QosField::from_bits(qos as u8)
    }
}

/// The topic of a PUBLISH, by its topic id type [SN 5.3.11].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum TopicRef {
    /// An id from REGISTER, REGACK or SUBACK.
    Normal(u16),
    /// An id that both sides have in their configuration.
    Predefined(u16),
    /// The name itself, two octets.
    Short([u8; 2]),
    /// The reserved type 11, to be refused.
    Reserved(u16),
}

impl TopicRef {
    /// The field on the wire.
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            TopicRef::Normal(id) | TopicRef::Predefined(id) | TopicRef::Reserved(id) => id,
            TopicRef::Short(name) => u16::from_be_bytes(name),
        }
    }

    pub(super) const fn type_bits(self) -> u8 {
        match self {
            TopicRef::Normal(_) => 0,
            TopicRef::Predefined(_) => 1,
            TopicRef::Short(_) => 2,
            TopicRef::Reserved(_) => 3,
        }
    }

    pub(super) const fn new(type_bits: u8, id: u16) -> TopicRef {
        match type_bits & 3 {
            0 => TopicRef::Normal(id),
            1 => TopicRef::Predefined(id),
            2 => TopicRef::Short(id.to_be_bytes()),
            _ => TopicRef::Reserved(id),
        }
    }
}

/// What a SUBSCRIBE or UNSUBSCRIBE names [SN 5.4.15].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum FilterRef<'a> {
    /// A topic name or filter, not checked yet.
    Name(&'a [u8]),
    /// A predefined topic id.
    Predefined(u16),
    /// A short topic name.
    Short([u8; 2]),
    /// The reserved type 11, to be refused.
    Reserved,
}

/// A will topic with its flags, as in WILLTOPIC and WILLTOPICUPD.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct WillTopic<'a> {
    /// The QoS of the will. [`QosField::MinusOne`] is to be refused.
    pub qos: QosField,
    /// The will is retained.
    pub retain: bool,
    /// The topic, not checked yet.
    pub topic: &'a [u8],
}

/// CONNECT [SN 5.4.4].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Connect<'a> {
    /// The client is to be asked for its will.
    pub will: bool,
    /// Nothing of an earlier session is kept.
    pub clean_session: bool,
    /// [`PROTOCOL_ID`], else to be refused.
    pub protocol_id: u8,
    /// The keepalive in seconds, 0 for none.
    pub duration_s: u16,
    /// The client id, not checked yet; may be empty.
    pub client_id: &'a [u8],
}

/// PUBLISH [SN 5.4.12].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Publish<'a> {
    /// It was sent before.
    pub dup: bool,
    /// The QoS.
    pub qos: QosField,
    /// To be retained, or sent because it was retained.
    pub retain: bool,
    /// The topic.
    pub topic: TopicRef,
    /// 0 where the QoS needs none.
    pub msg_id: u16,
    /// The payload.
    pub data: &'a [u8],
}

/// The fields of REGACK and PUBACK, and of SUBACK beside its QoS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct TopicAck {
    /// The topic id in question; two characters for a short name.
    pub topic_id: u16,
    /// The message id of what is answered.
    pub msg_id: u16,
    /// The verdict.
    pub code: ReturnCode,
}

/// One message [SN 5.4].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[allow(missing_docs)]
pub enum Message<'a> {
    Advertise {
        gateway_id: u8,
        duration_s: u16,
    },
    SearchGw {
        radius: u8,
    },
    /// The address is there only when a client answers in a gateway's place.
    GwInfo {
        gateway_id: u8,
        address: &'a [u8],
    },
    Connect(Connect<'a>),
    Connack(ReturnCode),
    WillTopicReq,
    /// `None` is the empty form: no will.
    WillTopic(Option<WillTopic<'a>>),
    WillMsgReq,
    WillMsg(&'a [u8]),
    /// The topic id is 0 from a client. The name is not checked yet.
    Register {
        topic_id: u16,
        msg_id: u16,
        name: &'a [u8],
    },
    Regack(TopicAck),
    Publish(Publish<'a>),
    Puback(TopicAck),
    Pubrec {
        msg_id: u16,
    },
    Pubrel {
        msg_id: u16,
    },
    Pubcomp {
        msg_id: u16,
    },
    Subscribe {
        dup: bool,
        qos: QosField,
        msg_id: u16,
        filter: FilterRef<'a>,
    },
    Suback {
        qos: QosField,
        ack: TopicAck,
    },
    Unsubscribe {
        msg_id: u16,
        filter: FilterRef<'a>,
    },
    Unsuback {
        msg_id: u16,
    },
    /// With a client id it asks for what was kept while its sender slept [SN 6.14].
    Pingreq {
        client_id: &'a [u8],
    },
    Pingresp,
    /// With a duration the client goes to sleep for that many seconds.
    Disconnect {
        duration_s: Option<u16>,
    },
    /// `None` is the empty form: the will is deleted.
    WillTopicUpd(Option<WillTopic<'a>>),
    WillTopicResp(ReturnCode),
    WillMsgUpd(&'a [u8]),
    WillMsgResp(ReturnCode),
}

impl Message<'_> {
    /// The type.
    #[must_use]
    pub const fn message_type(&self) -> MessageType {
        use MessageType as T;
        match self {
            Message::Advertise { .. } => T::Advertise,
            Message::SearchGw { .. } => T::SearchGw,
            Message::GwInfo { .. } => T::GwInfo,
            Message::Connect(_) => T::Connect,
            Message::Connack(_) => T::Connack,
            Message::WillTopicReq => T::WillTopicReq,
            Message::WillTopic(_) => T::WillTopic,
            Message::WillMsgReq => T::WillMsgReq,
            Message::WillMsg(_) => T::WillMsg,
            Message::Register { .. } => T::Register,
            Message::Regack(_) => T::Regack,
            Message::Publish(_) => T::Publish,
            Message::Puback(_) => T::Puback,
            Message::Pubrec { .. } => T::Pubrec,
            Message::Pubrel { .. } => T::Pubrel,
            Message::Pubcomp { .. } => T::Pubcomp,
            Message::Subscribe { .. } => T::Subscribe,
            Message::Suback { .. } => T::Suback,
            Message::Unsubscribe { .. } => T::Unsubscribe,
            Message::Unsuback { .. } => T::Unsuback,
            Message::Pingreq { .. } => T::Pingreq,
            Message::Pingresp => T::Pingresp,
            Message::Disconnect { .. } => T::Disconnect,
            Message::WillTopicUpd(_) => T::WillTopicUpd,
            Message::WillTopicResp(_) => T::WillTopicResp,
            Message::WillMsgUpd(_) => T::WillMsgUpd,
            Message::WillMsgResp(_) => T::WillMsgResp,
        }
    }
}

/// Why a datagram is no message. It is dropped as a whole, and nothing changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Fault {
    /// Shorter than the smallest header.
    Short,
    /// The length field does not say how long the datagram is.
    Length,
    /// A reserved message type, with its number.
    Type(u8),
    /// A field is missing, or bytes follow the last one.
    Size(MessageType),
    /// A bad forwarder encapsulation: no node id, nothing inside, or another encapsulation inside [SN 5.5].
    Encapsulation,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Short => f.write_str("datagram too short"),
            Fault::Length => f.write_str("length field and datagram differ"),
            Fault::Type(byte) => write!(f, "reserved message type 0x{byte:02X}"),
            Fault::Size(message) => write!(f, "malformed {message}"),
            Fault::Encapsulation => f.write_str("malformed forwarder encapsulation"),
        }
    }
}

/// A message is longer than its length field can say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLong;

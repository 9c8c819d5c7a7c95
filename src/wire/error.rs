//! Every fault that a peer's bytes can have, and what follows from it: the reason code a v5 peer is told, the log line,
//! and the cause in the disconnect line.

use core::fmt;

use super::packet::PacketType;
use super::reader::ReadError;
use super::reason::ReasonCode;
use super::topic::TopicError;

/// A fault in the property section of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PropFault {
    /// An identifier that no version 5 property has.
    Unknown,
    /// The section, or the last value in it, is cut short.
    Truncated,
    /// A string that is not valid UTF-8.
    Utf8,
    /// A property twice that may be there once. The original tells it apart from a protocol error.
    Duplicate,
    /// The property with this identifier does not belong into this packet.
    NotAllowed(u8),
    /// The property with this identifier has a value it must not have.
    Value(u8),
}

/// A fault in CONNECT only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectFault {
    /// Ends before the length of the protocol name.
    NoNameLength,
    /// The protocol name is neither 4 nor 6 bytes long.
    NameLength(u16),
    /// Ends inside the protocol name.
    NoName,
    /// Another protocol name; a name of 4 bytes is padded with zeros.
    Name([u8; 6]),
    /// Ends before the protocol level.
    NoLevel,
    /// A protocol level that does not exist, without its bridge bit.
    Level(u8),
    /// A protocol level that does not go with the protocol name, without its bridge bit.
    LevelMismatch(u8),
    /// Fixed header flags.
    HeaderFlags(u8),
    /// Ends before the connect flags.
    NoFlags,
    /// Bit 0 of the connect flags is set [MQTT-3.1.2-3].
    ReservedFlag(u8),
    /// Will QoS 3 [MQTT-3.1.2-12].
    WillQos(u8),
    /// Will QoS or retain without a will [MQTT-3.1.2-11] [MQTT-3.1.2-13].
    NoWill {
        /// The will QoS bits.
        qos: u8,
        /// The will retain bit.
        retain: bool,
    },
    /// Ends before the keepalive.
    NoKeepalive,
    /// Ends inside the client id.
    NoClientId,
    /// The client id is not valid UTF-8.
    ClientIdUtf8,
    /// Ends inside the will topic or payload.
    NoWillFields,
    /// The will topic is not valid UTF-8.
    WillTopicUtf8,
    /// The will topic is empty.
    WillTopicEmpty,
    /// The user name flag is set and the user name is missing.
    NoUsername,
    /// The user name is not valid UTF-8.
    UsernameUtf8,
    /// The password flag is set and the password is missing.
    NoPassword,
    /// A password without a user name, before version 5 [MQTT-3.1.2-22].
    PasswordWithoutUsername,
    /// Bytes behind the payload.
    Trailing {
        /// Bytes that were used.
        used: u32,
        /// Bytes that were there.
        len: u32,
    },
    /// A fault in the properties of CONNECT.
    Property(PropFault),
    /// A fault in the properties of the will.
    WillProperty(PropFault),
    /// Authentication Data without Authentication Method.
    AuthDataWithoutMethod,
}

/// A fault that ends the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// The Remaining Length has more than four bytes.
    RemainingLength,
    /// The packet is larger than we accept [conf: max_packet_size].
    PacketTooLarge,
    /// The packet is larger than its type ever needs to be.
    TypeTooLarge(PacketType),
    /// A Remaining Length that this type cannot have.
    Length(PacketType),
    /// The first byte of a connection that does not begin with CONNECT [MQTT-3.1.0-1].
    FirstNotConnect(u8),
    /// A second CONNECT [MQTT-3.1.0-2].
    SecondConnect,
    /// Packet type 0.
    Reserved,
    /// A packet that this side of the protocol never sends.
    Unexpected(PacketType),
    /// The first byte has wrong flags [MQTT-2.1.3-1].
    Flags(PacketType, u8),
    /// The packet ends inside a field, or holds a number in more bytes than it needs.
    Truncated(PacketType),
    /// Bytes behind the last field.
    Trailing {
        /// The packet.
        packet: PacketType,
        /// Bytes that were used.
        used: u32,
        /// Bytes that were there.
        len: u32,
    },
    /// A string that is not valid UTF-8.
    Utf8(PacketType),
    /// Packet identifier 0 [MQTT-2.2.1-3].
    PacketIdZero(PacketType),
    /// A fault in the properties.
    Property(PacketType, PropFault),
    /// A reason code that the packet cannot carry.
    Reason(PacketType, u8),
    /// A fault in CONNECT; see [`super::connect::ConnectError`] for the answer.
    Connect(ConnectFault),
    /// DUP with QoS 0 [MQTT-3.3.1-2].
    PublishDup,
    /// QoS 3 [MQTT-3.3.1-4].
    PublishQos,
    /// The topic of a PUBLISH.
    PublishTopic(TopicError),
    /// SUBSCRIBE or UNSUBSCRIBE without filters [MQTT-3.8.3-2] [MQTT-3.10.3-2].
    NoFilters(PacketType),
    /// A filter of a SUBSCRIBE or UNSUBSCRIBE.
    Filter(PacketType, TopicError),
    /// QoS 3 or reserved bits in subscription options.
    SubscribeQos,
    /// Reserved bits or Retain Handling 3 in v5 subscription options [MQTT-3.8.3-5].
    SubscribeOptions,
    /// Retain Handling 3, told apart only where it counts [conf: strict_conformance].
    SubscribeRetainHandling,
    /// No Local on a shared subscription [MQTT-3.8.3-4].
    ShareNoLocal,
    /// AUTH before version 5.
    AuthVersion,
    /// AUTH in a connection whose CONNECT had no Authentication Method; the connection decides this, and before it
    /// looks at what else is wrong with the packet [MQTT-4.12.0-7].
    AuthWithoutMethod,
}

/// The cause that the disconnect line names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// `malformed packet.`
    Malformed,
    /// `protocol error.`
    Protocol,
    /// `oversize packet.`
    OversizePacket,
    /// `client identifier not valid.`
    ClientIdNotValid,
    /// `used disallowed feature …`
    DisallowedFeature,
    /// `bad socket read/write: Duplicate property in property list`
    DuplicateProperty,
    /// `bad socket read/write: Malformed UTF-8`
    MalformedUtf8,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ending::Malformed => "malformed packet.",
            Ending::Protocol => "protocol error.",
            Ending::OversizePacket => "oversize packet.",
            Ending::ClientIdNotValid => "client identifier not valid.",
            Ending::DisallowedFeature => {
                "used disallowed feature (QoS too high, retain not supported, or bad AUTH method)."
            }
            Ending::DuplicateProperty => "bad socket read/write: Duplicate property in property list",
            Ending::MalformedUtf8 => "bad socket read/write: Malformed UTF-8",
        })
    }
}

/// How a log line names the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// The client id, or the address as long as there is none.
    Id,
    /// The address.
    Address,
    /// `ADDR:PORT`.
    AddressPort,
    /// The word `(null)`: the original prints a name it does not have yet.
    Null,
}

/// The log type of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// Type information.
    Info,
    /// Type notice.
    Notice,
    /// Type error.
    Error,
}

/// A log line: `before`, the peer, `after`, and the error itself if `detail`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogLine {
    /// The log type.
    pub severity: Severity,
    /// Text before the name of the peer.
    pub before: &'static str,
    /// How the peer is named.
    pub who: Who,
    /// Text after the name of the peer.
    pub after: &'static str,
    /// True if the `Display` of the error ends the line.
    pub detail: bool,
}

impl LogLine {
    const fn protocol_error(who: Who) -> LogLine {
        LogLine { severity: Severity::Info, before: "Protocol error from ", who, after: ": ", detail: true }
    }

    const fn sentence(before: &'static str, who: Who) -> LogLine {
        LogLine { severity: Severity::Info, before, who, after: ", disconnecting.", detail: false }
    }
}

impl DecodeError {
    /// The fault of a field of `packet` that could not be read.
    #[must_use]
    pub const fn read(packet: PacketType, error: ReadError) -> DecodeError {
        match error {
            ReadError::Truncated => DecodeError::Truncated(packet),
            ReadError::Utf8 => DecodeError::Utf8(packet),
        }
    }

    /// What a v5 peer is told in DISCONNECT; `None` closes in silence, which is also all that a v3 peer gets. While a
    /// connection is being made [`super::connect::ConnectError`] says what to answer instead.
    #[must_use]
    pub const fn reason(&self) -> Option<ReasonCode> {
        use DecodeError as E;
        Some(match self {
            E::RemainingLength | E::Length(_) | E::FirstNotConnect(_) => return None,
            E::PacketTooLarge | E::TypeTooLarge(_) => ReasonCode::PACKET_TOO_LARGE,
            E::Connect(fault) => match fault {
                ConnectFault::Property(p) | ConnectFault::WillProperty(p) => p.reason(),
                ConnectFault::WillTopicEmpty | ConnectFault::AuthDataWithoutMethod => ReasonCode::PROTOCOL_ERROR,
                ConnectFault::Trailing { .. } | ConnectFault::NoClientId | ConnectFault::NoWillFields => {
                    ReasonCode::MALFORMED_PACKET
                }
                ConnectFault::ClientIdUtf8 => ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
                ConnectFault::Level(_) | ConnectFault::LevelMismatch(_) => ReasonCode::UNSUPPORTED_PROTOCOL_VERSION,
                _ => return None,
            },
            E::Flags(PacketType::Auth, _) => ReasonCode::PROTOCOL_ERROR,
            E::Truncated(PacketType::Auth) | E::Utf8(PacketType::Auth) | E::Property(PacketType::Auth, _) => {
                ReasonCode::PROTOCOL_ERROR
            }
            // SUBSCRIBE and UNSUBSCRIBE call what is a protocol error elsewhere malformed.
            E::PacketIdZero(PacketType::Subscribe | PacketType::Unsubscribe) => ReasonCode::MALFORMED_PACKET,
            E::Property(
                PacketType::Subscribe | PacketType::Unsubscribe,
                PropFault::NotAllowed(_) | PropFault::Value(_),
            ) => ReasonCode::MALFORMED_PACKET,
            E::Property(_, fault) => fault.reason(),
            E::Trailing { packet: PacketType::Disconnect | PacketType::Auth, .. } => ReasonCode::PROTOCOL_ERROR,
            E::Filter(_, TopicError::Share)
            | E::SecondConnect
            | E::Reserved
            | E::Unexpected(_)
            | E::PacketIdZero(_)
            | E::Reason(..)
            | E::ShareNoLocal
            | E::SubscribeRetainHandling
            | E::AuthVersion
            | E::AuthWithoutMethod => ReasonCode::PROTOCOL_ERROR,
            E::Flags(..)
            | E::Truncated(_)
            | E::Trailing { .. }
            | E::Utf8(_)
            | E::PublishDup
            | E::PublishQos
            | E::PublishTopic(_)
            | E::NoFilters(_)
            | E::Filter(..)
            | E::SubscribeQos
            | E::SubscribeOptions => ReasonCode::MALFORMED_PACKET,
        })
    }

    /// The same by the letter of MQTT 5 [conf: strict_conformance]: there is always a code [MQTT-4.13.1-1], and it is
    /// the one that the specification gives.
    #[must_use]
    pub const fn strict_reason(&self) -> ReasonCode {
        use DecodeError as E;
        match self {
            E::RemainingLength | E::Length(_) | E::Trailing { .. } => ReasonCode::MALFORMED_PACKET,
            // What can be read, and is not permitted: a protocol error [MQTT 1.2].
            E::FirstNotConnect(_)
            | E::PacketIdZero(_)
            | E::NoFilters(_)
            | E::SubscribeQos
            | E::PublishTopic(TopicError::Empty) => ReasonCode::PROTOCOL_ERROR,
            E::PublishTopic(TopicError::TooDeep) => ReasonCode::TOPIC_NAME_INVALID,
            E::Property(PacketType::Publish, PropFault::NotAllowed(super::props::SUBSCRIPTION_ID)) => {
                ReasonCode::PROTOCOL_ERROR
            }
            E::Property(_, fault) | E::Connect(ConnectFault::Property(fault) | ConnectFault::WillProperty(fault)) => {
                fault.strict_reason()
            }
            E::Connect(ConnectFault::NoWill { .. }) => ReasonCode::PROTOCOL_ERROR,
            // The identifier is not a string, rather than a string that is not liked.
            E::Connect(ConnectFault::ClientIdUtf8) => ReasonCode::MALFORMED_PACKET,
            _ => match self.reason() {
                Some(reason) => reason,
                None => ReasonCode::MALFORMED_PACKET,
            },
        }
    }

    /// The cause for the disconnect line.
    #[must_use]
    pub const fn ending(&self) -> Ending {
        use DecodeError as E;
        match self {
            E::PacketTooLarge => Ending::OversizePacket,
            E::FirstNotConnect(_) => Ending::Protocol,
            E::Connect(fault) => match fault {
                ConnectFault::Property(PropFault::Duplicate) | ConnectFault::WillProperty(PropFault::Duplicate) => {
                    Ending::DuplicateProperty
                }
                ConnectFault::Trailing { .. }
                | ConnectFault::Property(PropFault::Unknown | PropFault::Truncated | PropFault::Utf8)
                | ConnectFault::WillProperty(PropFault::Unknown | PropFault::Truncated | PropFault::Utf8)
                | ConnectFault::NoWillFields => Ending::Malformed,
                ConnectFault::ClientIdUtf8 => Ending::ClientIdNotValid,
                ConnectFault::WillTopicUtf8 | ConnectFault::UsernameUtf8 => Ending::MalformedUtf8,
                ConnectFault::Level(_) | ConnectFault::LevelMismatch(_) => Ending::DisallowedFeature,
                _ => Ending::Protocol,
            },
            E::Property(_, PropFault::Duplicate) => Ending::DuplicateProperty,
            _ => match self.reason() {
                Some(ReasonCode::PROTOCOL_ERROR) => Ending::Protocol,
                _ => Ending::Malformed,
            },
        }
    }

    /// The cause for the disconnect line that goes with [`DecodeError::strict_reason`].
    #[must_use]
    pub const fn strict_ending(&self) -> Ending {
        match (self.ending(), self.strict_reason()) {
            (Ending::Malformed, ReasonCode::PROTOCOL_ERROR) => Ending::Protocol,
            (Ending::Protocol | Ending::ClientIdNotValid, ReasonCode::MALFORMED_PACKET) => Ending::Malformed,
            (ending, _) => ending,
        }
    }

    /// The line to log beside the disconnect line, if there is one.
    #[must_use]
    pub const fn log_line(&self) -> Option<LogLine> {
        use DecodeError as E;
        use PacketType as P;
        Some(match self {
            // Read as MQTT, a ClientHello (16 03 01 and the length of the record) is a CONNECT whose name is that long.
            E::Connect(ConnectFault::NameLength(0x100..=0x1ff)) => LogLine {
                severity: Severity::Notice,
                before: "Client from ",
                who: Who::AddressPort,
                after: " appears to be using TLS to connect to a non-TLS listener.",
                detail: false,
            },
            E::FirstNotConnect(_) => LogLine::protocol_error(Who::AddressPort),
            E::SecondConnect => LogLine {
                severity: Severity::Notice,
                before: "Bad client ",
                who: Who::AddressPort,
                after: " sending multiple CONNECT messages.",
                detail: false,
            },
            E::Connect(fault) => match fault {
                ConnectFault::NoKeepalive
                | ConnectFault::ClientIdUtf8
                | ConnectFault::NoWillFields
                | ConnectFault::WillTopicUtf8
                | ConnectFault::UsernameUtf8
                | ConnectFault::AuthDataWithoutMethod => return None,
                ConnectFault::Property(PropFault::Value(
                    super::props::RECEIVE_MAXIMUM | super::props::MAXIMUM_PACKET_SIZE,
                )) => LogLine::protocol_error(Who::AddressPort),
                ConnectFault::Property(_) | ConnectFault::WillProperty(_) => return None,
                ConnectFault::NoClientId => LogLine {
                    severity: Severity::Info,
                    before: "Protocol error from ",
                    who: Who::AddressPort,
                    after: " ",
                    detail: true,
                },
                ConnectFault::WillTopicEmpty | ConnectFault::Trailing { .. } => LogLine::protocol_error(Who::Null),
                ConnectFault::NoUsername | ConnectFault::NoPassword => LogLine::protocol_error(Who::Id),
                ConnectFault::PasswordWithoutUsername => LogLine {
                    severity: Severity::Error,
                    before: "Protocol error from ",
                    who: Who::Id,
                    after: ": ",
                    detail: true,
                },
                _ => LogLine::protocol_error(Who::AddressPort),
            },
            E::PublishDup => LogLine::sentence("Invalid PUBLISH (QoS=0 and DUP=1) from ", Who::Id),
            E::PublishQos => LogLine::sentence("Invalid QoS in PUBLISH from ", Who::Id),
            E::Filter(P::Subscribe, TopicError::Placement | TopicError::TooDeep | TopicError::Wildcard) => {
                LogLine::sentence("Invalid subscription string from ", Who::Address)
            }
            E::Filter(P::Unsubscribe, TopicError::Empty) => {
                LogLine::sentence("Empty unsubscription string from ", Who::Id)
            }
            E::Filter(P::Unsubscribe, TopicError::Placement | TopicError::TooDeep | TopicError::Wildcard) => {
                LogLine::sentence("Invalid unsubscription string from ", Who::Id)
            }
            E::SubscribeQos => LogLine::sentence("Invalid QoS in subscription command from ", Who::Address),
            E::Reserved
            | E::Unexpected(P::Connack | P::Pingresp)
            | E::Flags(P::Disconnect, _)
            | E::Trailing { packet: P::Disconnect, .. }
            | E::PacketIdZero(P::Publish | P::Puback | P::Pubrec | P::Pubrel | P::Pubcomp)
            | E::Reason(..)
            | E::Property(P::Subscribe, _)
            | E::ShareNoLocal
            | E::AuthVersion
            | E::AuthWithoutMethod => LogLine::protocol_error(Who::Id),
            _ => return None,
        })
    }
}

impl PropFault {
    /// The reason code of the fault in most packets.
    #[must_use]
    pub const fn reason(self) -> ReasonCode {
        match self {
            PropFault::Unknown | PropFault::Truncated | PropFault::Utf8 => ReasonCode::MALFORMED_PACKET,
            PropFault::Duplicate | PropFault::NotAllowed(_) | PropFault::Value(_) => ReasonCode::PROTOCOL_ERROR,
        }
    }

    /// The reason code by the letter of MQTT 5: an identifier that is not valid for its packet is malformed
    /// [MQTT 2.2.2.2], and Topic Alias 0 has a code of its own [MQTT 3.3.4].
    #[must_use]
    pub const fn strict_reason(self) -> ReasonCode {
        match self {
            PropFault::NotAllowed(_) => ReasonCode::MALFORMED_PACKET,
            PropFault::Value(super::props::TOPIC_ALIAS) => ReasonCode::TOPIC_ALIAS_INVALID,
            _ => self.reason(),
        }
    }
}

impl From<ConnectFault> for DecodeError {
    fn from(fault: ConnectFault) -> DecodeError {
        DecodeError::Connect(fault)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use DecodeError as E;
        match self {
            E::RemainingLength => f.write_str("remaining length of more than four bytes."),
            E::PacketTooLarge => f.write_str("packet larger than the maximum packet size."),
            E::TypeTooLarge(p) => write!(f, "{p} packet too large."),
            E::Length(p) => write!(f, "{p} packet with invalid remaining length."),
            E::FirstNotConnect(first) => write!(f, "First packet not CONNECT ({first:02X})."),
            E::SecondConnect => f.write_str("multiple CONNECT packets."),
            E::Reserved => f.write_str("RESERVED packet."),
            E::Unexpected(p) => write!(f, "{p} when not a bridge."),
            E::Flags(p, first) => write!(f, "{p} packet with incorrect flags {first:02X}."),
            E::Truncated(p) => write!(f, "{p} packet too short."),
            E::Trailing { packet, used, len } => {
                write!(f, "{packet} packet with overlong remaining length ({used}:{len}).")
            }
            E::Utf8(p) => write!(f, "{p} packet with invalid UTF-8."),
            E::PacketIdZero(PacketType::Publish) => f.write_str("PUBLISH packet with mid = 0."),
            E::PacketIdZero(p) => write!(f, "{p} with mid = 0."),
            E::Property(p, _) => write!(f, "{p} packet with invalid properties."),
            E::Reason(PacketType::Auth, n) => write!(f, "AUTH packet with reason-code = {n}."),
            E::Reason(p, n) => write!(f, "{p} with reason code = {n}."),
            E::Connect(fault) => fault.fmt(f),
            E::PublishDup => f.write_str("PUBLISH with dup and QoS 0."),
            E::PublishQos => f.write_str("PUBLISH with invalid QoS."),
            E::PublishTopic(_) => f.write_str("PUBLISH with invalid topic."),
            E::NoFilters(p) => write!(f, "{p} packet without topic filters."),
            E::Filter(p, _) => write!(f, "{p} packet with invalid topic filter."),
            E::SubscribeQos => f.write_str("SUBSCRIBE packet with invalid QoS."),
            E::SubscribeOptions | E::SubscribeRetainHandling => f.write_str("SUBSCRIBE packet with invalid options."),
            E::ShareNoLocal => f.write_str("$share subscription with no-local set."),
            E::AuthVersion => f.write_str("AUTH packet when session not MQTT v5.0."),
            E::AuthWithoutMethod => f.write_str("AUTH packet without existing auth-method."),
        }
    }
}

impl fmt::Display for ConnectFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use super::props::{MAXIMUM_PACKET_SIZE, RECEIVE_MAXIMUM};
        use ConnectFault as C;
        match self {
            C::NoNameLength => f.write_str("CONNECT with missing protocol string length."),
            C::NameLength(n) => write!(f, "CONNECT with incorrect protocol string length ({n})."),
            C::NoName => f.write_str("CONNECT with missing protocol string."),
            C::Name(name) => {
                let end = name.iter().rposition(|&b| b != 0).map_or(0, |last| last.saturating_add(1));
                let name = name.get(..end).unwrap_or_default();
                write!(f, "CONNECT with invalid protocol \"{}\".", name.escape_ascii())
            }
            C::NoLevel => f.write_str("CONNECT with missing protocol version."),
            C::Level(n) | C::LevelMismatch(n) => write!(f, "CONNECT with invalid protocol version ({n})."),
            C::HeaderFlags(first) => write!(f, "CONNECT with non-zero reserved flags ({first:02X})."),
            C::NoFlags => f.write_str("CONNECT with missing connect flags."),
            C::ReservedFlag(flags) => write!(f, "CONNECT with non-zero connect reserved flag ({flags:02X})."),
            C::WillQos(qos) => write!(f, "CONNECT with invalid Will QoS ({qos})."),
            C::NoWill { qos, retain } => {
                write!(f, "CONNECT without Will with non-zero QoS ({qos}) or retain ({}).", u8::from(*retain))
            }
            C::NoKeepalive => f.write_str("CONNECT with missing keepalive."),
            C::NoClientId => f.write_str("CONNECT with missing clientid string."),
            C::ClientIdUtf8 => f.write_str("CONNECT with invalid UTF-8 in the clientid."),
            C::NoWillFields => f.write_str("CONNECT with missing Will topic or payload."),
            C::WillTopicUtf8 => f.write_str("CONNECT with invalid UTF-8 in the Will topic."),
            C::WillTopicEmpty => f.write_str("Will with empty topic."),
            C::NoUsername => f.write_str("CONNECT with username flag but no username."),
            C::UsernameUtf8 => f.write_str("CONNECT with invalid UTF-8 in the username."),
            C::NoPassword => f.write_str("CONNECT with password flag but no password."),
            C::PasswordWithoutUsername => f.write_str("password without username, closing connection."),
            C::Trailing { used, len } => {
                write!(f, "CONNECT packet with overlong remaining length ({used}:{len}).")
            }
            C::Property(PropFault::Value(RECEIVE_MAXIMUM)) => f.write_str("CONNECT packet with receive-maximum = 0."),
            C::Property(PropFault::Value(MAXIMUM_PACKET_SIZE)) => {
                f.write_str("CONNECT packet with maximum-packet-size = 0.")
            }
            C::Property(_) => f.write_str("CONNECT packet with invalid properties."),
            C::WillProperty(_) => f.write_str("CONNECT packet with invalid Will properties."),
            C::AuthDataWithoutMethod => f.write_str("CONNECT packet with auth-data but no auth-method."),
        }
    }
}

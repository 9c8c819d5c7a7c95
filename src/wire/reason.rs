//! Reason codes of MQTT 5 and their mapping to the return codes of MQTT 3.

use core::fmt;

/// A reason code byte [MQTT 2.4]. A newtype, not an enum: a peer may send any value and the log shows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Default)]
pub struct ReasonCode(pub u8);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl ReasonCode { $($(#[$doc])* pub const $name: ReasonCode = ReasonCode($value);)* }
    };
}

codes! {
    /// Success, Normal disconnection or Granted QoS 0.
    SUCCESS = 0x00;
    /// Granted QoS 1.
    GRANTED_QOS_1 = 0x01;
    /// Granted QoS 2.
    GRANTED_QOS_2 = 0x02;
    /// Disconnect with will message.
    DISCONNECT_WITH_WILL = 0x04;
    /// No matching subscribers.
    NO_MATCHING_SUBSCRIBERS = 0x10;
    /// No subscription existed.
    NO_SUBSCRIPTION_EXISTED = 0x11;
    /// Continue authentication.
    CONTINUE_AUTHENTICATION = 0x18;
    /// Re-authenticate.
    REAUTHENTICATE = 0x19;
    /// Unspecified error.
    UNSPECIFIED = 0x80;
    /// Malformed packet.
    MALFORMED_PACKET = 0x81;
    /// Protocol error.
    PROTOCOL_ERROR = 0x82;
    /// Implementation specific error.
    IMPLEMENTATION_SPECIFIC = 0x83;
    /// Unsupported protocol version.
    UNSUPPORTED_PROTOCOL_VERSION = 0x84;
    /// Client identifier not valid.
    CLIENT_IDENTIFIER_NOT_VALID = 0x85;
    /// Bad user name or password.
    BAD_USER_NAME_OR_PASSWORD = 0x86;
    /// Not authorized.
    NOT_AUTHORIZED = 0x87;
    /// Server unavailable.
    SERVER_UNAVAILABLE = 0x88;
    /// Server busy.
    SERVER_BUSY = 0x89;
    /// Banned.
    BANNED = 0x8A;
    /// Server shutting down.
    SERVER_SHUTTING_DOWN = 0x8B;
    /// Bad authentication method.
    BAD_AUTHENTICATION_METHOD = 0x8C;
    /// Keep alive timeout.
    KEEP_ALIVE_TIMEOUT = 0x8D;
    /// Session taken over.
    SESSION_TAKEN_OVER = 0x8E;
    /// Topic filter invalid.
    TOPIC_FILTER_INVALID = 0x8F;
    /// Topic name invalid.
    TOPIC_NAME_INVALID = 0x90;
    /// Packet identifier in use.
    PACKET_IDENTIFIER_IN_USE = 0x91;
    /// Packet identifier not found.
    PACKET_IDENTIFIER_NOT_FOUND = 0x92;
    /// Receive maximum exceeded.
    RECEIVE_MAXIMUM_EXCEEDED = 0x93;
    /// Topic alias invalid.
    TOPIC_ALIAS_INVALID = 0x94;
    /// Packet too large.
    PACKET_TOO_LARGE = 0x95;
    /// Message rate too high.
    MESSAGE_RATE_TOO_HIGH = 0x96;
    /// Quota exceeded.
    QUOTA_EXCEEDED = 0x97;
    /// Administrative action.
    ADMINISTRATIVE_ACTION = 0x98;
    /// Payload format invalid.
    PAYLOAD_FORMAT_INVALID = 0x99;
    /// Retain not supported.
    RETAIN_NOT_SUPPORTED = 0x9A;
    /// QoS not supported.
    QOS_NOT_SUPPORTED = 0x9B;
    /// Use another server.
    USE_ANOTHER_SERVER = 0x9C;
    /// Server moved.
    SERVER_MOVED = 0x9D;
    /// Shared subscriptions not supported.
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E;
    /// Connection rate exceeded.
    CONNECTION_RATE_EXCEEDED = 0x9F;
    /// Maximum connect time.
    MAXIMUM_CONNECT_TIME = 0xA0;
    /// Subscription identifiers not supported.
    SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1;
    /// Wildcard subscriptions not supported.
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xA2;
}

/// The name that the specification gives it [MQTT 2.4].
impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            ReasonCode::SUCCESS => "Success",
            ReasonCode::GRANTED_QOS_1 => "Granted QoS 1",
            ReasonCode::GRANTED_QOS_2 => "Granted QoS 2",
            ReasonCode::DISCONNECT_WITH_WILL => "Disconnect with will message",
            ReasonCode::NO_MATCHING_SUBSCRIBERS => "No matching subscribers",
            ReasonCode::NO_SUBSCRIPTION_EXISTED => "No subscription existed",
            ReasonCode::CONTINUE_AUTHENTICATION => "Continue authentication",
            ReasonCode::REAUTHENTICATE => "Re-authenticate",
            ReasonCode::UNSPECIFIED => "Unspecified error",
            ReasonCode::MALFORMED_PACKET => "Malformed packet",
            ReasonCode::PROTOCOL_ERROR => "Protocol error",
            ReasonCode::IMPLEMENTATION_SPECIFIC => "Implementation specific error",
            ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => "Unsupported protocol version",
            ReasonCode::CLIENT_IDENTIFIER_NOT_VALID => "Client identifier not valid",
            ReasonCode::BAD_USER_NAME_OR_PASSWORD => "Bad user name or password",
            ReasonCode::NOT_AUTHORIZED => "Not authorized",
            ReasonCode::SERVER_UNAVAILABLE => "Server unavailable",
            ReasonCode::SERVER_BUSY => "Server busy",
            ReasonCode::BANNED => "Banned",
            ReasonCode::SERVER_SHUTTING_DOWN => "Server shutting down",
            ReasonCode::BAD_AUTHENTICATION_METHOD => "Bad authentication method",
            ReasonCode::KEEP_ALIVE_TIMEOUT => "Keep alive timeout",
            ReasonCode::SESSION_TAKEN_OVER => "Session taken over",
            ReasonCode::TOPIC_FILTER_INVALID => "Topic filter invalid",
            ReasonCode::TOPIC_NAME_INVALID => "Topic name invalid",
            ReasonCode::PACKET_IDENTIFIER_IN_USE => "Packet identifier in use",
            ReasonCode::PACKET_IDENTIFIER_NOT_FOUND => "Packet identifier not found",
            ReasonCode::RECEIVE_MAXIMUM_EXCEEDED => "Receive maximum exceeded",
            ReasonCode::TOPIC_ALIAS_INVALID => "Topic alias invalid",
            ReasonCode::PACKET_TOO_LARGE => "Packet too large",
            ReasonCode::MESSAGE_RATE_TOO_HIGH => "Message rate too high",
            ReasonCode::QUOTA_EXCEEDED => "Quota exceeded",
            ReasonCode::ADMINISTRATIVE_ACTION => "Administrative action",
            ReasonCode::PAYLOAD_FORMAT_INVALID => "Payload format invalid",
            ReasonCode::RETAIN_NOT_SUPPORTED => "Retain not supported",
            ReasonCode::QOS_NOT_SUPPORTED => "QoS not supported",
            ReasonCode::USE_ANOTHER_SERVER => "Use another server",
            ReasonCode::SERVER_MOVED => "Server moved",
            ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED => "Shared subscriptions not supported",
            ReasonCode::CONNECTION_RATE_EXCEEDED => "Connection rate exceeded",
            ReasonCode::MAXIMUM_CONNECT_TIME => "Maximum connect time",
            ReasonCode::SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED => "Subscription identifiers not supported",
            ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED => "Wildcard subscriptions not supported",
            ReasonCode(other) => return write!(f, "reason code 0x{other:02X}"),
        })
    }
}

impl ReasonCode {
    /// True from 0x80 on: the request failed.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0 >= 0x80
    }

    /// The CONNACK return code of MQTT 3.1 and 3.1.1 that stands for this code, 1 to 5, or `None` where a v3 client only
    /// sees the close [MQTT311-3.2.2.3].
    #[must_use]
    pub const fn v3_connack(self) -> Option<u8> {
        match self {
            ReasonCode::SUCCESS => Some(0),
            ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => Some(1),
            ReasonCode::CLIENT_IDENTIFIER_NOT_VALID => Some(2),
            ReasonCode::SERVER_UNAVAILABLE => Some(3),
            ReasonCode::BAD_USER_NAME_OR_PASSWORD => Some(4),
            ReasonCode::NOT_AUTHORIZED | ReasonCode::PACKET_TOO_LARGE => Some(5),
            _ => None,
        }
    }
}

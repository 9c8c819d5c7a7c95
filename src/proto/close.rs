//! Every way a connection can end, and the three answers to each: what the client is told, whether its will is published,
//! and what the log says. Nowhere else, but for what `conformance` changes of the code.

use std::fmt;

use super::client::Fault;
use crate::broker::SessionId;
use crate::wire::connect::ConnackForm;
use crate::wire::{DecodeError, ReasonCode};

/// Why a connection ends.
#[derive(Clone, Debug, PartialEq)]
pub enum CloseReason {
    /// The client sent DISCONNECT.
    Disconnect {
        /// It asked for its will to be published (reason code 0x04).
        with_will: bool,
        /// The session expiry it asked for.
        expiry_s: Option<u32>,
    },
    /// End of file, or a reset.
    ClosedByClient,
    /// The socket failed; the text of the system's error.
    Socket(Box<str>),
    /// Nothing came for 1.5 times the keepalive [MQTT-3.1.2-22], or no CONNECT in time.
    Timeout,
    /// A packet came in more slowly than 1 KiB/s over 30 s.
    Stalled,
    /// The bytes break a rule.
    Decode(DecodeError),
    /// A rule that the bytes alone do not show is broken.
    ProtocolError,
    /// CONNECT was refused; the CONNACK, if one is due, is written.
    Refused {
        /// Why.
        refusal: Refusal,
        /// Who it was: the log has to name it, for those who watch for guessed passwords. Empty when it gave no client id.
        client_id: Box<str>,
    },
    /// An MQTT-SN client did not acknowledge what it was sent, however often [SN 6.13].
    NoAnswer,
    /// Another MQTT-SN client connected from the same address.
    AddressReused,
    /// Another connection took the session.
    TakenOver {
        /// The session of the new connection.
        by: SessionId,
    },
    /// An operator sent the client away.
    Kicked,
    /// After a reload the client is no longer allowed to be here.
    NoLongerAllowed,
    /// More QoS 1 and 2 messages at once than the receive maximum [MQTT-3.3.4-9], with `strict_conformance`.
    ReceiveMaximumExceeded,
    /// PUBLISH with a QoS above `max_qos` [MQTT-3.2.2-11].
    QosNotSupported,
    /// Retained PUBLISH with `retain_available false` [MQTT-3.2.2-14].
    RetainNotSupported,
    /// Topic alias above the maximum.
    TopicAliasInvalid,
    /// More half-done QoS 2 messages than the queue limits allow; none is lost, the client sends them again.
    TooManyUnreleased,
    /// The broker is out of memory by `memory_limit`, and this client's protocol has no other way to say so.
    OutOfMemory,
    /// The journal cannot be written, and this client's protocol has no other way to say that nothing can be promised.
    StorageFull,
    /// The peer asked for one thing and has it.
    Answered,
    /// TLS failed; why, in words. The log has a line of its own with them.
    Tls(Box<str>),
    /// No PROXY header where one is needed, or one that the listener does not accept; the log has a line of its own.
    BadProxyHeader,
    /// A proxy wanted to know whether somebody is here.
    HealthCheck,
    /// No HTTP request, or none for MQTT over WebSockets.
    BadUpgrade,
    /// A WebSocket from a page that may not have one `[conf: websockets_origin]`.
    WrongOrigin,
    /// WebSocket frames that break a rule.
    BadFrame,
    /// The broker stops.
    Shutdown,
    /// A bridge: the other broker breaks a rule, or is silent.
    Server(Fault),
    /// A bridge: CONNACK says no.
    RefusedByServer(ConnackForm),
    /// A bridge: the other broker sent DISCONNECT.
    ServerDisconnect(ReasonCode),
    /// A bridge: the other broker has no room for a message, which is kept.
    PeerIsFull,
    /// A bridge with `start_type lazy` had nothing to say for `idle_timeout`.
    BridgeIdle,
    /// A bridge cannot have its session.
    BridgeNoRoom,
    /// A bridge ends, or begins anew, for this reason of ours.
    BridgeEnded(&'static str),
}

impl From<Fault> for CloseReason {
    fn from(fault: Fault) -> CloseReason {
        CloseReason::Server(fault)
    }
}

/// Why a CONNECT is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Anonymous, or not with these credentials.
    NotAuthorised,
    /// Protocol version, will QoS, will retain or authentication method that is not available.
    DisallowedFeature,
    /// The client id, or that there is none.
    ClientId,
    /// An empty client id where one is needed.
    EmptyClientId,
    /// v3 keepalive above `max_keepalive`.
    Keepalive,
    /// The topic of the will.
    WillTopic,
    /// The will is for `$CONTROL`.
    WillAccess,
    /// The payload of the will.
    WillPayload,
    /// The client's maximum packet size leaves no room for the CONNACK.
    MaximumPacketSize,
    /// Too many logins at once, or from this address.
    ServerBusy,
    /// No user name can be had from the certificate.
    NoIdentity,
    /// Another packet than AUTH, or a wrong one, before CONNACK.
    Exchange,
    /// `global_max_clients`.
    TooManyClients,
    /// `memory_limit`.
    OutOfMemory,
    /// The session cannot be stored.
    StorageFull,
}

impl CloseReason {
    /// What a connected v5 client is told in DISCONNECT before the close; `None` is a silent close.
    #[must_use]
    pub fn code(&self) -> Option<ReasonCode> {
        use CloseReason as R;
        Some(match self {
            R::Disconnect { .. } | R::ClosedByClient | R::Socket(_) | R::Refused { .. } | R::Answered => return None,
            R::NoAnswer | R::AddressReused => return None,
            R::Tls(_) | R::BadProxyHeader | R::HealthCheck | R::BadUpgrade | R::WrongOrigin | R::BadFrame => {
                return None;
            }
            R::RefusedByServer(_) | R::ServerDisconnect(_) => return None,
            R::Server(fault) => return fault.code(),
            R::BridgeIdle | R::BridgeEnded(_) => ReasonCode::SUCCESS,
            R::BridgeNoRoom | R::PeerIsFull => ReasonCode::UNSPECIFIED,
            R::Timeout => ReasonCode::KEEP_ALIVE_TIMEOUT,
            R::Stalled => ReasonCode::MALFORMED_PACKET,
            R::Decode(error) => return error.reason(),
            R::ProtocolError => ReasonCode::PROTOCOL_ERROR,
            R::TakenOver { .. } => ReasonCode::SESSION_TAKEN_OVER,
            R::Kicked => ReasonCode::ADMINISTRATIVE_ACTION,
            R::NoLongerAllowed => ReasonCode::NOT_AUTHORIZED,
            R::ReceiveMaximumExceeded => ReasonCode::RECEIVE_MAXIMUM_EXCEEDED,
            R::QosNotSupported => ReasonCode::QOS_NOT_SUPPORTED,
            R::RetainNotSupported => ReasonCode::RETAIN_NOT_SUPPORTED,
            R::TopicAliasInvalid => ReasonCode::TOPIC_ALIAS_INVALID,
            R::TooManyUnreleased | R::OutOfMemory | R::StorageFull => ReasonCode::QUOTA_EXCEEDED,
            R::Shutdown => ReasonCode::SERVER_SHUTTING_DOWN,
        })
    }

    /// Whether the will of the client is published [MQTT-3.1.2-8]. A take-over decides it elsewhere, since there the new
    /// connection counts.
    #[must_use]
    pub fn publishes_will(&self) -> bool {
        !matches!(self, CloseReason::Disconnect { with_will: false, .. } | CloseReason::NoLongerAllowed)
    }
}

/// The tail of the line `Client ID [ADDR:PORT] …`.
impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use CloseReason as R;
        const DISALLOWED: &str = "used disallowed feature (QoS too high, retain not supported, or bad AUTH method).";
        if let R::Disconnect { .. } | R::NoLongerAllowed = self {
            return f.write_str("disconnected.");
        }
        f.write_str("disconnected: ")?;
        match self {
            R::Disconnect { .. } | R::NoLongerAllowed => Ok(()),
            R::Kicked => f.write_str("administrative action."),
            R::ReceiveMaximumExceeded => f.write_str("receive maximum exceeded."),
            R::ClosedByClient => f.write_str("connection closed by client."),
            R::Socket(text) => write!(f, "{text}."),
            R::Timeout => f.write_str("exceeded timeout."),
            R::NoAnswer => f.write_str("no acknowledgement."),
            R::AddressReused => f.write_str("another client has its address."),
            R::Stalled => f.write_str("packet came in too slowly."),
            R::Decode(error) => write!(f, "{}", error.ending()),
            R::ProtocolError => f.write_str("protocol error."),
            R::TakenOver { .. } => f.write_str("session taken over."),
            R::QosNotSupported => f.write_str("bad socket read/write: Requested QoS not supported on server"),
            R::RetainNotSupported => f.write_str("bad socket read/write: Retain not supported"),
            R::TopicAliasInvalid => f.write_str("topic alias invalid."),
            R::TooManyUnreleased => f.write_str("quota exceeded."),
            R::OutOfMemory => f.write_str("out of memory."),
            R::StorageFull => f.write_str("nothing can be stored at the moment."),
            R::Answered => f.write_str("answered."),
            R::Tls(_) => f.write_str("bad socket read/write: A TLS error occurred"),
            R::BadProxyHeader => f.write_str("bad socket read/write: Invalid input"),
            R::HealthCheck => f.write_str("health check."),
            R::BadUpgrade => f.write_str("bad socket read/write: Unknown error"),
            R::WrongOrigin => f.write_str("non-matching http origin."),
            R::BadFrame => f.write_str("Protocol error."),
            R::Shutdown => f.write_str("broker is shutting down."),
            R::Server(fault) => write!(f, "{fault}."),
            R::RefusedByServer(ConnackForm::V3(code)) => write!(f, "refused by the other broker (code {code})."),
            R::RefusedByServer(ConnackForm::V5(code)) => write!(f, "refused by the other broker ({code})."),
            R::ServerDisconnect(code) => write!(f, "the other broker ended the connection ({code})."),
            R::PeerIsFull => f.write_str("the other broker has no room for a message."),
            R::BridgeIdle => f.write_str("idle."),
            R::BridgeNoRoom => f.write_str("no room for another session."),
            R::BridgeEnded(why) => write!(f, "{why}."),
            R::Refused { refusal, .. } => f.write_str(match refusal {
                Refusal::NotAuthorised => "not authorised.",
                Refusal::DisallowedFeature => DISALLOWED,
                Refusal::ClientId => "client identifier not valid.",
                Refusal::EmptyClientId => "protocol error.",
                Refusal::Keepalive => "bad socket read/write: Invalid input",
                Refusal::WillTopic => "bad socket read/write: Invalid input",
                Refusal::ServerBusy => "server busy.",
                Refusal::NoIdentity => "bad username or password.",
                Refusal::Exchange => "protocol error.",
                Refusal::TooManyClients => "bad socket read/write: Invalid input",
                Refusal::WillAccess => "bad socket read/write: Access denied by ACL",
                Refusal::MaximumPacketSize => "oversize packet.",
                Refusal::WillPayload => "oversize payload.",
                Refusal::OutOfMemory => "out of memory.",
                Refusal::StorageFull => "nothing can be stored at the moment.",
            }),
        }
    }
}

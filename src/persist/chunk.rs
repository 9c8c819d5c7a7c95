//! What a store holds, as plain values borrowed from the bytes they were read from.

use std::borrow::Cow;

use crate::wire::QoS;
use crate::wire::subscribe::SubscribeOptions;

/// A session expiry interval that never ends; also that of MQTT 3 sessions.
pub const NEVER: u32 = u32::MAX;

/// The largest payload: that of a PUBLISH.
pub const MAX_PAYLOAD: u32 = 268_435_455;

/// The kind of a chunk; the number is that of its header.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[repr(u8)]
pub enum Kind {
    /// [`Config`].
    Config = 1,
    /// [`Message`].
    Message = 2,
    /// [`ClientMessage`].
    ClientMessage = 3,
    /// [`Retained`].
    Retained = 4,
    /// [`Subscription`].
    Subscription = 5,
    /// [`Client`].
    Client = 6,
}

impl Kind {
    /// The kind with this number.
    #[must_use]
    pub const fn of(number: u32) -> Option<Kind> {
        Some(match number {
            1 => Kind::Config,
            2 => Kind::Message,
            3 => Kind::ClientMessage,
            4 => Kind::Retained,
            5 => Kind::Subscription,
            6 => Kind::Client,
            _ => return None,
        })
    }

    /// What it is called in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Config => "configuration",
            Kind::Message => "message",
            Kind::ClientMessage => "client message",
            Kind::Retained => "retained message",
            Kind::Subscription => "subscription",
            Kind::Client => "client",
        }
    }
}

/// One chunk of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Chunk<'a> {
    /// About the file.
    Config(Config),
    /// A message that others refer to.
    Message(Message<'a>),
    /// A place in a session's queue or flight.
    ClientMessage(ClientMessage<'a>),
    /// A retained message.
    Retained(Retained),
    /// A subscription.
    Subscription(Subscription<'a>),
    /// A session.
    Client(Client<'a>),
    /// A chunk that was well-formed but cannot be used: a [`Finding`](super::fault::Finding) tells why.
    Dropped(Kind),
    /// A chunk of a type that no version has; its content was skipped.
    Unknown(u32),
}

impl Chunk<'_> {
    /// The number of its type.
    #[must_use]
    pub const fn number(&self) -> u32 {
        match self {
            Chunk::Config(_) => Kind::Config as u32,
            Chunk::Message(_) => Kind::Message as u32,
            Chunk::ClientMessage(_) => Kind::ClientMessage as u32,
            Chunk::Retained(_) => Kind::Retained as u32,
            Chunk::Subscription(_) => Kind::Subscription as u32,
            Chunk::Client(_) => Kind::Client as u32,
            Chunk::Dropped(kind) => *kind as u32,
            Chunk::Unknown(number) => *number,
        }
    }
}

/// About the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Config {
    /// The last store id handed out. C Mosquitto 2.0 counts on from here, so it must not be below any id of the file.
    pub last_db_id: u64,
    /// Written at a clean stop, not on the way. C Mosquitto does not look at it.
    pub shutdown: bool,
}

/// A message, once for all that refer to it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Message<'a> {
    /// Unique in the file and not 0; means nothing outside of it.
    pub store_id: u64,
    /// Unix seconds when it expires; 0 or less is never.
    pub expiry_time: i64,
    /// Packet identifier the publisher used; 0 for QoS 0 and the broker's own messages.
    pub source_packet_id: u16,
    /// Port of the publisher's listener; 0 is none, or not known.
    pub source_port: u16,
    /// QoS as published.
    pub qos: QoS,
    /// Retain flag as published. Whether it is retained, a [`Retained`] says.
    pub retain: bool,
    /// The publisher's client id; empty for the broker's own messages.
    pub source_id: &'a str,
    /// The publisher's user name; empty is none.
    pub source_username: &'a str,
    /// A topic name.
    pub topic: &'a str,
    /// At most [`MAX_PAYLOAD`] bytes.
    pub payload: &'a [u8],
    /// The properties that are passed on, in the encoding of PUBLISH without their length: Payload Format Indicator,
    /// Content Type, Response Topic, Correlation Data and User Properties. They were checked.
    pub props: Cow<'a, [u8]>,
}

impl Message<'_> {
    /// True when it has expired at `now`, in Unix seconds. C Mosquitto also drops what claims to live for more than 2^32
    /// seconds; such a time is damage and means as little here.
    #[must_use]
    pub const fn is_expired(&self, now: i64) -> bool {
        self.expiry_time > 0 && (self.expiry_time < now || self.expiry_time.saturating_sub(now) > u32::MAX as i64)
    }
}

/// A session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Client<'a> {
    /// The client id.
    pub id: &'a str,
    /// Unix seconds when the session expires; 0 is not set. Means nothing when the interval is [`NEVER`], see
    /// [`Client::expires_at`].
    pub session_expiry_time: i64,
    /// Seconds; [`NEVER`] for every session from a file older than version 5.
    pub session_expiry_interval: u32,
    /// The last packet identifier the broker used; 0 is none.
    pub last_packet_id: u16,
    /// Port of the listener the client last used; 0 is not known.
    pub listener_port: u16,
    /// User name; empty is none. Ask [`Client::trusted_username`] to act on it.
    pub username: &'a str,
    /// User name and port may be those of another client, by a defect of C Mosquitto 1.6.11 to 2.0.15.
    pub doubtful: bool,
    /// Unix seconds when the client went, in versions 3 and 4; 0 elsewhere.
    pub disconnected_at: i64,
}

impl<'a> Client<'a> {
    /// The user name unless it may be another's; empty is none.
    #[must_use]
    pub const fn trusted_username(&self) -> &'a str {
        if self.doubtful { "" } else { self.username }
    }

    /// Unix seconds when the session expires if its client has not come since; `None` is never.
    #[must_use]
    pub const fn expires_at(&self, now: i64) -> Option<i64> {
        if self.session_expiry_interval == NEVER {
            None
        } else if self.session_expiry_time > 0 {
            Some(self.session_expiry_time)
        } else {
            Some(now.saturating_add(self.session_expiry_interval as i64))
        }
    }
}

/// How far a message of a session is; the number is that of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum State {
    /// Not a state; also every number that is none.
    #[default]
    Invalid = 0,
    /// To be sent with QoS 0.
    PublishQos0 = 1,
    /// To be sent with QoS 1.
    PublishQos1 = 2,
    /// Sent with QoS 1.
    AwaitPuback = 3,
    /// To be sent with QoS 2.
    PublishQos2 = 4,
    /// Sent with QoS 2.
    AwaitPubrec = 5,
    /// PUBREL to be sent again.
    ResendPubrel = 6,
    /// Received with QoS 2.
    AwaitPubrel = 7,
    /// PUBCOMP to be sent again.
    ResendPubcomp = 8,
    /// PUBREL sent.
    AwaitPubcomp = 9,
    /// PUBREC to be sent.
    SendPubrec = 10,
    /// Waiting for its turn.
    Queued = 11,
}

impl State {
    /// The state with this number.
    #[must_use]
    pub const fn of(number: u8) -> Option<State> {
        Some(match number {
            0 => State::Invalid,
            1 => State::PublishQos0,
            2 => State::PublishQos1,
            3 => State::AwaitPuback,
            4 => State::PublishQos2,
            5 => State::AwaitPubrec,
            6 => State::ResendPubrel,
            7 => State::AwaitPubrel,
            8 => State::ResendPubcomp,
            9 => State::AwaitPubcomp,
            10 => State::SendPubrec,
            11 => State::Queued,
            _ => return None,
        })
    }
}

/// Which way a message of a session goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Direction {
    /// From the client.
    In = 0,
    /// To the client.
    #[default]
    Out = 1,
}

/// A place in a session's queue or flight. Their order in the file is the order of delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClientMessage<'a> {
    /// The session.
    pub client_id: &'a str,
    /// The [`Message`].
    pub store_id: u64,
    /// Packet identifier: given out even to queued messages with QoS 1 and 2, 0 with QoS 0.
    pub packet_id: u16,
    /// QoS of this delivery.
    pub qos: QoS,
    /// How far it is.
    pub state: State,
    /// Retain flag of this delivery.
    pub retain: bool,
    /// It was sent before.
    pub dup: bool,
    /// Which way it goes.
    pub direction: Direction,
    /// Subscription Identifier, 1 to 268435455; 0 is none.
    pub subscription_id: u32,
}

/// A retained message; of several for one topic the last counts, and one with an empty payload clears it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retained {
    /// The [`Message`], whose topic this is for.
    pub store_id: u64,
}

/// A subscription; of several for one client and filter the last counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Subscription<'a> {
    /// The session.
    pub client_id: &'a str,
    /// A valid filter; C Mosquitto never writes one of `$share/`, but reads it.
    pub filter: &'a str,
    /// QoS and options.
    pub options: SubscribeOptions,
    /// Subscription Identifier, 1 to 268435455; 0 is none.
    pub identifier: u32,
}

//! The client side of one MQTT connection, all versions, sans-io: CONNECT and what the server answered, packets both
//! ways, keepalive, topic aliases, and what the server's limits are. What the packets are for is its owner's business.
//!
//! ```text
//! AwaitConnack ──CONNACK──▶ Live
//!      └──refused───────────┴──DISCONNECT, a fault──▶ Ended
//! ```
//!
//! [`Client::connect`] writes the first packet, [`Client::on_bytes`] takes what was read and hands out one [`Event`] after
//! the other, [`Client::on_timer`] pings and notices silence. The server is a stranger: whatever it sends ends in an event
//! or a [`Fault`], and takes no memory beyond the limits given.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use super::fitting::{AliasesOut, fit};
use crate::wire::acks::Ack;
use crate::wire::connect::{Connack, ConnackForm, Connect};
use crate::wire::control::{self, Disconnect};
use crate::wire::packet::{self, PacketType};
use crate::wire::publish::{Publish, PublishHead, encode_publish};
use crate::wire::subscribe::{SubscribeOptions, encode_subscribe, encode_unsubscribe};
use crate::wire::{DecodeError, FrameLimits, Framed, Framer, Packet, PacketId, ProtocolVersion, QoS, ReasonCode, Role};

/// Where a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// CONNECT was sent; nothing else may come before CONNACK [MQTT-3.2.0-1]. Patience ends at this time.
    AwaitConnack { until_ms: u64 },
    /// Connected.
    Live,
    /// Nothing is taken any more.
    Ended,
}

/// What is up to the owner of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Milliseconds that the server has for CONNACK.
    pub patience_ms: u64,
    /// The largest packet taken from the server, in bytes; 0 is unlimited. A server of version 5 has to be told with
    /// [`Connect::max_packet_size`].
    pub max_packet_in: u32,
    /// The largest packet sent, whatever the server takes; 0 is unlimited.
    pub max_packet_out: u32,
    /// The most topic aliases set towards the server, whatever it takes.
    pub max_aliases_out: u16,
}

/// What the server takes, as its CONNACK says; before that and in MQTT 3 what the specification assumes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServerLimits {
    /// Receive Maximum: QoS 1 and 2 messages under way to it.
    pub receive_maximum: u16,
    /// Whether it said so, or the specification does.
    pub said_receive_maximum: bool,
    /// Maximum QoS.
    pub maximum_qos: QoS,
    /// Retain Available.
    pub retain_available: bool,
}

/// What came from the server.
#[derive(Debug)]
pub enum Event<'a> {
    /// Connected; `session_present` tells that the server continues a session.
    Connected {
        /// The server's flag; in MQTT 3.1 always false.
        session_present: bool,
    },
    /// The server does not want this client, at least not like this.
    Refused(ConnackForm),
    /// A message, with the topic it is about when it came with an alias.
    Publish(Publish<'a>, Cow<'a, str>),
    /// The server has a QoS 1 message.
    Puback(Ack),
    /// The server has a QoS 2 message.
    Pubrec(Ack),
    /// The server releases a QoS 2 message.
    Pubrel(Ack),
    /// The server has forgotten the identifier of a QoS 2 message.
    Pubcomp(Ack),
    /// The answer to [`Client::subscribe`], with one code for each filter.
    Suback(PacketId, &'a [u8]),
    /// The answer to [`Client::unsubscribe`].
    Unsuback(PacketId),
    /// A SUBACK or UNSUBACK that nobody asked for.
    Unasked(PacketType, PacketId),
    /// The server is there.
    Pingresp,
    /// The server ends the connection; only in version 5.
    Disconnect(ReasonCode),
}

/// Why a connection ends that its owner did not end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The bytes break a rule.
    Decode(DecodeError),
    /// Another packet than CONNACK came first.
    NotConnack(PacketType),
    /// A packet that has no place here.
    Unexpected(PacketType),
    /// SUBACK or UNSUBACK with this many codes for that many filters.
    Codes {
        /// The packet.
        packet: PacketType,
        /// What came.
        codes: usize,
        /// What was asked.
        filters: usize,
    },
    /// A topic alias that was not announced, or that the server never set.
    TopicAlias(u16),
    /// No CONNACK in time.
    NoConnack,
    /// Nothing came in two keepalives, nor an answer to a ping.
    Silence,
    /// A packet came in too slowly.
    Stalled,
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Fault {
        Fault::Decode(error)
    }
}

impl Fault {
    /// What a server of version 5 is told; `None` closes in silence.
    #[must_use]
    pub fn code(&self) -> Option<ReasonCode> {
        Some(match self {
            Fault::Decode(error) => return error.reason(),
            Fault::NotConnack(_) | Fault::NoConnack => return None,
            Fault::Unexpected(_) | Fault::Codes { .. } => ReasonCode::PROTOCOL_ERROR,
            Fault::TopicAlias(_) => ReasonCode::TOPIC_ALIAS_INVALID,
            Fault::Silence => ReasonCode::KEEP_ALIVE_TIMEOUT,
            Fault::Stalled => ReasonCode::MALFORMED_PACKET,
        })
    }
}

/// What the server did wrong, in words for the log.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Decode(DecodeError::PacketTooLarge | DecodeError::TypeTooLarge(_)) => {
                f.write_str("a packet is larger than 'max_packet_size' permits")
            }
            Fault::Decode(DecodeError::Unexpected(packet)) => write!(f, "{packet} has no place here"),
            // The sentences about clients end with a full stop.
            Fault::Decode(error) => f.write_str(error.to_string().trim_end_matches('.')),
            Fault::NotConnack(packet) => write!(f, "{packet} came before CONNACK"),
            Fault::Unexpected(packet) => write!(f, "{packet} has no place here"),
            Fault::Codes { packet, codes, filters } => write!(f, "{packet} has {codes} codes for {filters} filters"),
            Fault::TopicAlias(alias) => write!(f, "topic alias {alias} was never set or is not permitted"),
            Fault::NoConnack => f.write_str("no CONNACK in time"),
            Fault::Silence => f.write_str("no answer to a ping"),
            Fault::Stalled => f.write_str("a packet came in too slowly"),
        }
    }
}

/// The client side of one connection.
#[derive(Debug)]
pub struct Client {
    framer: Framer,
    phase: Phase,
    version: ProtocolVersion,
    terms: Terms,
    limits: ServerLimits,
    max_packet_out: u32,
    keepalive_ms: u64,
    last_in_ms: u64,
    last_out_ms: u64,
    /// When a ping was sent that was not answered.
    pinged_ms: Option<u64>,
    aliases_in_max: u16,
    aliases_in: BTreeMap<u16, Box<str>>,
    aliases_out_max: u16,
    aliases_out: BTreeMap<Box<str>, u16>,
    /// SUBSCRIBE and UNSUBSCRIBE without an answer: the packet that answers, and the number of filters.
    asked: BTreeMap<u16, (PacketType, usize)>,
}

impl Client {
    /// Writes CONNECT; what was agreed in it holds for the connection.
    #[must_use]
    pub fn connect(now_ms: u64, out: &mut Vec<u8>, connect: &Connect<'_>, terms: Terms) -> Client {
        connect.encode(out);
        Client {
            framer: Framer::new(),
            phase: Phase::AwaitConnack { until_ms: now_ms.saturating_add(terms.patience_ms) },
            version: connect.version,
            terms,
            limits: ServerLimits {
                receive_maximum: u16::MAX,
                said_receive_maximum: false,
                maximum_qos: QoS::ExactlyOnce,
                retain_available: true,
            },
            max_packet_out: terms.max_packet_out,
            keepalive_ms: u64::from(connect.keepalive).saturating_mul(1000),
            last_in_ms: now_ms,
            last_out_ms: now_ms,
            pinged_ms: None,
            aliases_in_max: connect.topic_alias_maximum,
            aliases_in: BTreeMap::new(),
            aliases_out_max: 0,
            aliases_out: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    /// The version of the connection.
    #[must_use]
    pub fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// What the server takes.
    #[must_use]
    pub fn limits(&self) -> &ServerLimits {
        &self.limits
    }

    /// True from CONNACK to the end.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// The keepalive in force, in seconds: the server may have set it [MQTT-3.1.2-21].
    #[must_use]
    pub fn keepalive_s(&self) -> u16 {
        u16::try_from(self.keepalive_ms.checked_div(1000).unwrap_or_default()).unwrap_or(u16::MAX)
    }

    /// True when a ping waits for its answer.
    #[must_use]
    pub fn is_pinging(&self) -> bool {
        self.pinged_ms.is_some()
    }

    /// Nothing is taken any more.
    pub fn end(&mut self) {
        self.phase = Phase::Ended;
        self.framer = Framer::new();
    }

    /// Takes input: whole packets become events for `handle`, an incomplete one is kept. When `handle` returns false the
    /// rest is kept too; call again without input to go on.
    ///
    /// # Errors
    /// What ends the connection: a fault of the server, or whatever `handle` says.
    pub fn on_bytes<E: From<Fault>>(
        &mut self,
        now_ms: u64,
        mut input: &[u8],
        mut handle: impl FnMut(&mut Client, Event<'_>) -> Result<bool, E>,
    ) -> Result<(), E> {
        // Taken out, because the frames borrow it while `self` handles them.
        let mut framer = std::mem::take(&mut self.framer);
        let limits =
            FrameLimits { version: Some(self.version), max_packet_size: self.terms.max_packet_in, strict: false };
        let result = loop {
            if self.phase == Phase::Ended {
                return Ok(());
            }
            match framer.next(&mut input, &limits, now_ms) {
                Framed::NeedMore => break Ok(()),
                Framed::Bad(error) => break Err(Fault::from(error).into()),
                Framed::Frame { first, body } => {
                    self.last_in_ms = now_ms;
                    let handled = match self.on_frame(first, body) {
                        Ok(event) => handle(self, event),
                        Err(fault) => Err(fault.into()),
                    };
                    match handled {
                        Ok(true) => {}
                        Ok(false) => {
                            framer.keep(input);
                            break Ok(());
                        }
                        Err(error) => break Err(error),
                    }
                }
            }
        };
        if self.phase != Phase::Ended && result.is_ok() {
            self.framer = framer;
        }
        result
    }

    /// True when bytes were kept that may hold whole packets.
    #[must_use]
    pub fn has_kept(&self) -> bool {
        self.framer.has_kept()
    }

    fn on_frame<'a>(&mut self, first: u8, body: &'a [u8]) -> Result<Event<'a>, Fault> {
        let packet = packet::decode(self.version, Role::FromServer, first, body)?;
        if self.phase != Phase::Live {
            let Packet::Connack(connack) = packet else {
                return Err(PacketType::of(first).map_or(DecodeError::Reserved.into(), Fault::NotConnack));
            };
            return self.on_connack(&connack);
        }
        Ok(match packet {
            Packet::Publish(publish) => {
                let topic = self.topic_of(&publish)?;
                Event::Publish(publish, topic)
            }
            Packet::Puback(ack) => Event::Puback(ack),
            Packet::Pubrec(ack) => Event::Pubrec(ack),
            Packet::Pubrel(ack) => Event::Pubrel(ack),
            Packet::Pubcomp(ack) => Event::Pubcomp(ack),
            Packet::Suback(suback) => match self.answer(PacketType::Suback, suback.id, suback.codes)? {
                true => Event::Suback(suback.id, suback.codes),
                false => Event::Unasked(PacketType::Suback, suback.id),
            },
            Packet::Unsuback(unsuback) => match self.answer(PacketType::Unsuback, unsuback.id, unsuback.codes)? {
                true => Event::Unsuback(unsuback.id),
                false => Event::Unasked(PacketType::Unsuback, unsuback.id),
            },
            Packet::Pingresp => {
                self.pinged_ms = None;
                Event::Pingresp
            }
            // A server has no packet for this before version 5 [MQTT311 3.14].
            Packet::Disconnect(disconnect) if self.version == ProtocolVersion::V5 => {
                self.phase = Phase::Ended;
                Event::Disconnect(disconnect.reason)
            }
            Packet::Disconnect(_) => return Err(Fault::Unexpected(PacketType::Disconnect)),
            Packet::Connack(_) => return Err(Fault::Unexpected(PacketType::Connack)),
            // No method was given in CONNECT [MQTT-4.12.0-6].
            Packet::Auth(_) => return Err(Fault::Unexpected(PacketType::Auth)),
            Packet::Subscribe(_) => return Err(Fault::Unexpected(PacketType::Subscribe)),
            Packet::Unsubscribe(_) => return Err(Fault::Unexpected(PacketType::Unsubscribe)),
            Packet::Pingreq => return Err(Fault::Unexpected(PacketType::Pingreq)),
        })
    }

    fn on_connack(&mut self, connack: &Connack<'_>) -> Result<Event<'static>, Fault> {
        let v5 = self.version == ProtocolVersion::V5;
        match connack.code {
            ConnackForm::V3(0) if v5 => return Err(DecodeError::Truncated(PacketType::Connack).into()),
            ConnackForm::V3(0) | ConnackForm::V5(ReasonCode::SUCCESS) => {}
            refused => {
                self.phase = Phase::Ended;
                return Ok(Event::Refused(refused));
            }
        }
        let props = &connack.props;
        self.phase = Phase::Live;
        // A server may want more pings [MQTT-3.1.2-21]. One that wants fewer or none gets ours, which are always allowed: its
        // silence would otherwise go unnoticed.
        if let Some(s) = props.server_keep_alive.filter(|s| *s != 0) {
            let wanted_ms = u64::from(s).saturating_mul(1000);
            self.keepalive_ms = if self.keepalive_ms == 0 { wanted_ms } else { self.keepalive_ms.min(wanted_ms) };
        }
        self.max_packet_out = [self.terms.max_packet_out, props.max_packet_size.unwrap_or(0)]
            .into_iter()
            .filter(|max| *max != 0)
            .min()
            .unwrap_or(0);
        self.aliases_out_max = props.topic_alias_maximum.min(self.terms.max_aliases_out);
        self.limits = ServerLimits {
            receive_maximum: props.receive_maximum.unwrap_or(u16::MAX),
            said_receive_maximum: props.receive_maximum.is_some(),
            maximum_qos: props.maximum_qos.and_then(QoS::from_bits).unwrap_or(QoS::ExactlyOnce),
            retain_available: props.retain_available.unwrap_or(true),
        };
        // MQTT 3.1 has only a reserved byte there.
        Ok(Event::Connected { session_present: connack.session_present && self.version != ProtocolVersion::V31 })
    }

    /// The topic of a message; what the server says of aliases is kept [MQTT 3.3.2.3.4].
    fn topic_of<'a>(&mut self, publish: &Publish<'a>) -> Result<Cow<'a, str>, Fault> {
        let Some(alias) = publish.topic_alias else { return Ok(Cow::Borrowed(publish.topic)) };
        if alias > self.aliases_in_max {
            return Err(Fault::TopicAlias(alias));
        }
        if publish.topic.is_empty() {
            let known = self.aliases_in.get(&alias).ok_or(Fault::TopicAlias(alias))?;
            return Ok(Cow::Owned(known.to_string()));
        }
        self.aliases_in.insert(alias, publish.topic.into());
        Ok(Cow::Borrowed(publish.topic))
    }

    /// Whether this answers something, with as many codes as that had filters.
    fn answer(&mut self, packet: PacketType, id: PacketId, codes: &[u8]) -> Result<bool, Fault> {
        let Some((_, filters)) = self.asked.get(&id.get()).copied().filter(|(awaited, _)| *awaited == packet) else {
            return Ok(false);
        };
        self.asked.remove(&id.get());
        // UNSUBACK has none before version 5.
        let expected = if packet == PacketType::Unsuback && self.version != ProtocolVersion::V5 { 0 } else { filters };
        if codes.len() == expected { Ok(true) } else { Err(Fault::Codes { packet, codes: codes.len(), filters }) }
    }

    /// Says that something was sent that did not go through this object's methods.
    pub fn sent(&mut self, now_ms: u64) {
        self.last_out_ms = now_ms;
    }

    /// Asks for messages. Filters have passed [`crate::wire::topic::check_filter`].
    pub fn subscribe(&mut self, now_ms: u64, out: &mut Vec<u8>, id: PacketId, filters: &[(&str, SubscribeOptions)]) {
        self.asked.insert(id.get(), (PacketType::Suback, filters.len()));
        encode_subscribe(out, self.version, id, None, filters.iter().copied());
        self.sent(now_ms);
    }

    /// Asks for messages no more.
    pub fn unsubscribe(&mut self, now_ms: u64, out: &mut Vec<u8>, id: PacketId, filters: &[&str]) {
        self.asked.insert(id.get(), (PacketType::Unsuback, filters.len()));
        encode_unsubscribe(out, self.version, id, filters.iter().copied());
        self.sent(now_ms);
    }

    /// Sends PUBACK, PUBREC, PUBREL or PUBCOMP.
    pub fn acknowledge(&mut self, now_ms: u64, out: &mut Vec<u8>, packet: PacketType, ack: Ack) {
        ack.encode(out, self.version, packet);
        self.sent(now_ms);
    }

    /// Gives the head of a message an alias where the server takes one, and tells whether the packet is one that the server
    /// takes; [`Client::publish`] writes it.
    ///
    /// # Errors
    /// The size of a packet that is too large.
    pub fn fit(&mut self, head: &mut PublishHead<'_>) -> Result<(), usize> {
        let max = self.aliases_out_max;
        let aliases = (max != 0).then_some(AliasesOut { known: &mut self.aliases_out, max, grow: true });
        fit(head, self.max_packet_out, aliases)
    }

    /// Writes everything of a message but its payload.
    pub fn publish(&mut self, now_ms: u64, out: &mut Vec<u8>, head: &PublishHead<'_>) {
        encode_publish(out, head);
        self.sent(now_ms);
    }

    /// Asks whether the server is there.
    pub fn ping(&mut self, now_ms: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&control::PINGREQ);
        self.pinged_ms = Some(now_ms);
        self.sent(now_ms);
    }

    /// Says goodbye; nothing is taken any more.
    pub fn disconnect(&mut self, out: &mut Vec<u8>, reason: ReasonCode) {
        Disconnect { reason, session_expiry: None }.encode(out, self.version);
        self.end();
    }

    /// When [`Client::on_timer`] is to be called, in milliseconds.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let keepalive = match self.phase {
            Phase::AwaitConnack { until_ms } => Some(until_ms),
            Phase::Live if self.keepalive_ms != 0 => Some(self.keepalive_deadline()),
            Phase::Live | Phase::Ended => None,
        };
        [keepalive, self.framer.deadline()].into_iter().flatten().min()
    }

    /// When to ping, or how long to wait for the answer: each packet from the server is a sign of life.
    fn keepalive_deadline(&self) -> u64 {
        let since = match self.pinged_ms {
            Some(pinged) => pinged.max(self.last_in_ms),
            None => self.last_in_ms.min(self.last_out_ms),
        };
        since.saturating_add(self.keepalive_ms)
    }

    /// Pings when nothing was sent or nothing came for a keepalive. True when it did.
    ///
    /// # Errors
    /// Nothing came for too long.
    pub fn on_timer(&mut self, now_ms: u64, out: &mut Vec<u8>) -> Result<bool, Fault> {
        if self.framer.stalled(now_ms) {
            return Err(Fault::Stalled);
        }
        match self.phase {
            Phase::AwaitConnack { until_ms } if until_ms <= now_ms => return Err(Fault::NoConnack),
            Phase::Live if self.keepalive_ms != 0 => {}
            Phase::AwaitConnack { .. } | Phase::Live | Phase::Ended => return Ok(false),
        }
        if self.framer.is_growing(now_ms) {
            self.last_in_ms = now_ms;
        }
        if self.keepalive_deadline() > now_ms {
            return Ok(false);
        }
        if self.pinged_ms.is_some() {
            return Err(Fault::Silence);
        }
        self.ping(now_ms, out);
        Ok(true)
    }
}

//! The changes as bytes and back, for whoever keeps them. What is recorded is what happened to the state, not what clients
//! asked for: who got a message was decided once. So doing the same changes again to the same state gives the same result,
//! and every one names what it is about by something that lasts: client id, topic, filter, packet identifier, and the
//! number of a message.
//!
//! ```text
//! group  = change { change }             done as a whole or not at all
//! change = kind:1 fields                 integers big endian, text behind its length:2
//! number = 7 bits a byte, the least significant first, the top bit says that more follow
//! ```

use super::super::stored::{StoredSession, StoredSubscription};
use super::super::subs::SubOptions;
use crate::wire::reader::{ReadError, Reader};
use crate::wire::writer::{put_str, put_u16, put_u32};
use crate::wire::{PacketId, QoS};

/// Something a restart must not forget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change<'a> {
    /// A message that others refer to by its number.
    Message(Body<'a>),
    /// A session as it is from now on, new or not; its messages and subscriptions stay.
    Session(StoredSession<'a>),
    /// A session ended with all it had.
    SessionEnded {
        /// Its client id.
        client_id: &'a str,
    },
    /// A filter was subscribed or its options changed.
    Subscribed {
        /// By whom.
        client_id: &'a str,
        /// To what.
        sub: StoredSubscription<'a>,
    },
    /// A filter was unsubscribed.
    Unsubscribed {
        /// By whom.
        client_id: &'a str,
        /// The filter with its `$share` part.
        filter: &'a str,
    },
    /// A message is the retained one of its topic.
    Retained {
        /// The number of the message.
        number: u64,
    },
    /// A topic has no retained message any more.
    Cleared {
        /// The topic.
        topic: &'a str,
    },
    /// A message was appended to a session's queue.
    Queued {
        /// Whose.
        client_id: &'a str,
        /// The message and how it is delivered.
        entry: Queued,
    },
    /// A QoS 2 message of a session is about to be sent, under an identifier that it keeps from now on.
    Sent {
        /// To whom.
        client_id: &'a str,
        /// The number of the message.
        number: u64,
        /// The packet identifier.
        id: PacketId,
    },
    /// PUBREC came: the client has the message and may only get PUBREL from now on.
    Received {
        /// From whom.
        client_id: &'a str,
        /// The packet identifier.
        id: PacketId,
    },
    /// A session is done with a message: it was acknowledged, has expired, or may not be sent any more.
    Finished {
        /// Whose.
        client_id: &'a str,
        /// The number of the message.
        number: u64,
    },
    /// A session is done with a message that has an identifier and perhaps no content any more.
    Completed {
        /// Whose.
        client_id: &'a str,
        /// The packet identifier.
        id: PacketId,
    },
    /// A QoS 2 message was stored until its PUBREL.
    Stored {
        /// From whom.
        client_id: &'a str,
        /// Under which identifier.
        id: PacketId,
        /// The number of the message.
        number: u64,
    },
    /// A stored QoS 2 message is no longer: what became of it stands in the same group.
    Released {
        /// From whom it was.
        client_id: &'a str,
        /// The packet identifier.
        id: PacketId,
    },
    /// The moment of a snapshot: one with this token has all that came before and nothing that comes after.
    Snapshot {
        /// The token.
        token: u32,
        /// Some changes before it are not recorded: only with that snapshot does it go on here.
        gap: bool,
    },
}

/// A message with all that it is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Body<'a> {
    /// What others call it; never 0.
    pub number: u64,
    /// Unix seconds when it expires; 0 for never.
    pub expires_wall_s: u64,
    /// QoS it was published with.
    pub qos: QoS,
    /// Retain flag it was published with.
    pub retain: bool,
    /// The topic name.
    pub topic: &'a str,
    /// Forwardable v5 properties, encoded, without their length.
    pub props: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
    /// Who published it: client id, user name (empty for none), port of the listener.
    pub source: Option<(&'a str, &'a str, u16)>,
}

/// A message in a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Queued {
    /// The number of the message.
    pub number: u64,
    /// The QoS of this delivery.
    pub qos: QoS,
    /// The retain flag of this delivery.
    pub retain: bool,
    /// It came through a shared subscription.
    pub shared: bool,
    /// The v5 subscription identifier; 0 for none.
    pub sub_id: u32,
}

const MESSAGE: u8 = 1;
const SESSION: u8 = 2;
const SESSION_ENDED: u8 = 3;
const SUBSCRIBED: u8 = 4;
const UNSUBSCRIBED: u8 = 5;
const RETAINED: u8 = 6;
const CLEARED: u8 = 7;
const QUEUED: u8 = 8;
const SENT: u8 = 9;
const RECEIVED: u8 = 10;
const FINISHED: u8 = 11;
const COMPLETED: u8 = 12;
const STORED: u8 = 13;
const RELEASED: u8 = 14;
const SNAPSHOT: u8 = 15;

/// Bits of the flags of a message or an entry; the two below are the QoS.
const RETAIN: u8 = 4;
const SHARED: u8 = 8;
const SOURCE: u8 = 16;

impl Change<'_> {
    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Change::Message(body) => body.encode(out),
            Change::Session(session) => {
                out.push(SESSION);
                put_str(out, session.client_id);
                // A user name may be empty and be one.
                out.push(u8::from(session.username.is_some()));
                put_str(out, session.username.unwrap_or_default());
                put_u16(out, session.listener_port);
                put_u32(out, session.expiry_s);
                put_number(out, session.ends_wall_s.map_or(0, |at| at.saturating_add(1)));
                put_u16(out, session.last_id);
            }
            Change::SessionEnded { client_id } => put_text(out, SESSION_ENDED, client_id),
            Change::Subscribed { client_id, sub } => {
                put_text(out, SUBSCRIBED, client_id);
                put_str(out, sub.filter);
                out.push(sub.options.to_bits());
                put_number(out, sub.id.into());
            }
            Change::Unsubscribed { client_id, filter } => {
                put_text(out, UNSUBSCRIBED, client_id);
                put_str(out, filter);
            }
            Change::Retained { number } => {
                out.push(RETAINED);
                put_number(out, number);
            }
            Change::Cleared { topic } => put_text(out, CLEARED, topic),
            Change::Queued { client_id, entry } => {
                put_text(out, QUEUED, client_id);
                put_number(out, entry.number);
                let flags = [(entry.retain, RETAIN), (entry.shared, SHARED)];
                out.push(flags.iter().filter(|(set, _)| *set).fold(entry.qos as u8, |all, (_, bit)| all | bit));
                put_number(out, entry.sub_id.into());
            }
            Change::Sent { client_id, number, id } => {
                put_packet(out, SENT, client_id, id);
                put_number(out, number);
            }
            Change::Received { client_id, id } => put_packet(out, RECEIVED, client_id, id),
            Change::Finished { client_id, number } => {
                put_text(out, FINISHED, client_id);
                put_number(out, number);
            }
            Change::Completed { client_id, id } => put_packet(out, COMPLETED, client_id, id),
            Change::Stored { client_id, id, number } => {
                put_packet(out, STORED, client_id, id);
                put_number(out, number);
            }
            Change::Released { client_id, id } => put_packet(out, RELEASED, client_id, id),
            Change::Snapshot { token, gap } => {
                out.push(SNAPSHOT);
                put_u32(out, token);
                out.push(u8::from(gap));
            }
        }
    }
}

impl<'a> Change<'a> {
    /// The changes of a group. After the first that cannot be read there are no more.
    pub fn decode_group(group: &'a [u8]) -> impl Iterator<Item = Result<Change<'a>, ReadError>> {
        let mut reader = Reader::new(group);
        std::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            let change = Change::decode(&mut reader);
            if change.is_err() {
                reader = Reader::new(&[]);
            }
            Some(change)
        })
    }

    fn decode(from: &mut Reader<'a>) -> Result<Change<'a>, ReadError> {
        let kind = from.u8()?;
        match kind {
            MESSAGE => return Body::decode(from).map(Change::Message),
            RETAINED => return Ok(Change::Retained { number: number(from)? }),
            CLEARED => return Ok(Change::Cleared { topic: from.string()? }),
            SNAPSHOT => return Ok(Change::Snapshot { token: from.u32()?, gap: from.u8()? != 0 }),
            _ => {}
        }
        let client_id = from.string()?;
        Ok(match kind {
            SESSION => Change::Session(session(client_id, from)?),
            SESSION_ENDED => Change::SessionEnded { client_id },
            SUBSCRIBED => {
                let filter = from.string()?;
                let options = SubOptions::from_bits(from.u8()?);
                Change::Subscribed { client_id, sub: StoredSubscription { filter, options, id: number_u32(from)? } }
            }
            UNSUBSCRIBED => Change::Unsubscribed { client_id, filter: from.string()? },
            QUEUED => {
                let number = number(from)?;
                let flags = from.u8()?;
                let (qos, retain, shared) = (qos(flags)?, flags & RETAIN != 0, flags & SHARED != 0);
                Change::Queued { client_id, entry: Queued { number, qos, retain, shared, sub_id: number_u32(from)? } }
            }
            FINISHED => Change::Finished { client_id, number: number(from)? },
            SENT | RECEIVED | COMPLETED | STORED | RELEASED => {
                let id = PacketId::new(from.u16()?).ok_or(ReadError::Truncated)?;
                match kind {
                    SENT => Change::Sent { client_id, number: number(from)?, id },
                    RECEIVED => Change::Received { client_id, id },
                    COMPLETED => Change::Completed { client_id, id },
                    STORED => Change::Stored { client_id, id, number: number(from)? },
                    _ => Change::Released { client_id, id },
                }
            }
            _ => return Err(ReadError::Truncated),
        })
    }
}

impl<'a> Body<'a> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(MESSAGE);
        put_number(out, self.number);
        let flags = [(self.retain, RETAIN), (self.source.is_some(), SOURCE)];
        out.push(flags.iter().filter(|(set, _)| *set).fold(self.qos as u8, |all, (_, bit)| all | bit));
        put_number(out, self.expires_wall_s);
        put_str(out, self.topic);
        if let Some((client_id, username, port)) = self.source {
            put_str(out, client_id);
            put_str(out, username);
            put_u16(out, port);
        }
        for part in [self.props, self.payload] {
            put_number(out, part.len() as u64);
            out.extend_from_slice(part);
        }
    }

    fn decode(from: &mut Reader<'a>) -> Result<Body<'a>, ReadError> {
        let number = number(from)?;
        let flags = from.u8()?;
        let expires_wall_s = self::number(from)?;
        let topic = from.string()?;
        let source = match flags & SOURCE {
            0 => None,
            _ => Some((from.string()?, from.string()?, from.u16()?)),
        };
        let mut part = || {
            let len = usize::try_from(self::number(from)?).map_err(|_| ReadError::Truncated)?;
            from.take(len)
        };
        let (props, payload) = (part()?, part()?);
        let (qos, retain) = (qos(flags)?, flags & RETAIN != 0);
        Ok(Body { number, expires_wall_s, qos, retain, topic, props, payload, source })
    }
}

fn session<'a>(client_id: &'a str, from: &mut Reader<'a>) -> Result<StoredSession<'a>, ReadError> {
    let named = from.u8()? != 0;
    let username = Some(from.string()?).filter(|_| named);
    let (listener_port, expiry_s) = (from.u16()?, from.u32()?);
    let ends_wall_s = number(from)?.checked_sub(1);
    Ok(StoredSession { client_id, username, listener_port, expiry_s, ends_wall_s, last_id: from.u16()? })
}

fn qos(flags: u8) -> Result<QoS, ReadError> {
    QoS::from_bits(flags & 3).ok_or(ReadError::Truncated)
}

fn put_text(out: &mut Vec<u8>, kind: u8, text: &str) {
    out.push(kind);
    put_str(out, text);
}

fn put_packet(out: &mut Vec<u8>, kind: u8, client_id: &str, id: PacketId) {
    put_text(out, kind, client_id);
    put_u16(out, id.get());
}

fn put_number(out: &mut Vec<u8>, mut n: u64) {
    loop {
        let low = u8::try_from(n & 0x7F).unwrap_or(0);
        n >>= 7;
        if n == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

fn number(from: &mut Reader<'_>) -> Result<u64, ReadError> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = from.u8()?;
        let bits = u64::from(byte & 0x7F);
        if shift == 63 && bits > 1 {
            break;
        }
        n |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(n);
        }
    }
    Err(ReadError::Truncated)
}

fn number_u32(from: &mut Reader<'_>) -> Result<u32, ReadError> {
    u32::try_from(number(from)?).map_err(|_| ReadError::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Change<'static>> {
        let id = PacketId::new(0xABCD).unwrap();
        let client_id = "client";
        let body = Body { number: 1, topic: "t", payload: b"p", ..Body::default() };
        let session = StoredSession { client_id, ..StoredSession::default() };
        let options = SubOptions { qos: QoS::ExactlyOnce, retain_handling: 2, ..SubOptions::default() };
        vec![
            Change::Message(body),
            Change::Message(Body {
                number: u64::MAX,
                expires_wall_s: 1 << 40,
                qos: QoS::ExactlyOnce,
                retain: true,
                props: &[1, 1],
                payload: &[9; 300],
                source: Some(("publisher", "", 1883)),
                ..body
            }),
            Change::Session(session),
            Change::Session(StoredSession {
                username: Some(""),
                listener_port: 8883,
                expiry_s: u32::MAX,
                ends_wall_s: Some(0),
                last_id: 65535,
                ..session
            }),
            Change::SessionEnded { client_id },
            Change::Subscribed {
                client_id,
                sub: StoredSubscription { filter: "$share/g/a/#", options, id: 268_435_455 },
            },
            Change::Unsubscribed { client_id, filter: "+" },
            Change::Retained { number: 128 },
            Change::Cleared { topic: "a/b" },
            Change::Queued {
                client_id,
                entry: Queued { number: 127, qos: QoS::AtLeastOnce, retain: true, shared: true, sub_id: 7 },
            },
            Change::Queued { client_id, entry: Queued::default() },
            Change::Sent { client_id, number: 5, id },
            Change::Received { client_id, id },
            Change::Finished { client_id, number: 16384 },
            Change::Completed { client_id, id },
            Change::Stored { client_id, id, number: 3 },
            Change::Released { client_id, id },
            Change::Snapshot { token: 0xDEAD_BEEF, gap: true },
        ]
    }

    #[test]
    fn every_change_comes_back() {
        let mut group = Vec::new();
        for change in all() {
            let mut alone = Vec::new();
            change.encode(&mut alone);
            assert_eq!(Change::decode_group(&alone).collect::<Vec<_>>(), [Ok(change)]);
            group.extend_from_slice(&alone);
        }
        assert_eq!(Change::decode_group(&group).collect::<Result<Vec<_>, _>>(), Ok(all()));
    }

    #[test]
    fn a_piece_of_a_change_is_none() {
        for change in all() {
            let mut bytes = Vec::new();
            change.encode(&mut bytes);
            for len in 1..bytes.len() {
                let read: Vec<_> = Change::decode_group(&bytes[..len]).collect();
                assert!(read.last().is_some_and(Result::is_err), "{change:?} cut to {len}");
            }
        }
        for kind in [0, 16, 255] {
            assert_eq!(Change::decode_group(&[kind, 0, 1, b'x']).count(), 1);
            assert!(Change::decode_group(&[kind, 0, 1, b'x']).next().unwrap().is_err());
        }
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_none() {
        for last in [2, 0x81] {
            let mut bytes = vec![RETAINED];
            bytes.extend([0xFF; 9]);
            bytes.push(last);
            assert!(Change::decode_group(&bytes).next().unwrap().is_err());
        }
    }

    #[test]
    fn a_small_change_is_small() {
        let mut bytes = Vec::new();
        Change::Finished { client_id: "sensor-17", number: 1_000_000 }.encode(&mut bytes);
        assert_eq!(bytes.len(), 1 + 2 + 9 + 3);
    }
}

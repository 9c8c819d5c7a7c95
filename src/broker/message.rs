//! Messages: topic, forwardable v5 properties and payload in one shared allocation, never copied per subscriber.
//! Also the account of the message store, which `$SYS` shows.

use std::cell::Cell;

use crate::thin::Thin;
use crate::timer::Now;
use crate::wire::QoS;

thread_local! {
    /// Messages alive on this thread and their payload bytes. One broker runs on a thread, so this is its store.
    static STORE: Cell<StoreSize> = const { Cell::new(StoreSize { messages: 0, bytes: 0 }) };
    /// The number of the next message; 0 while they get none.
    static NUMBER: Cell<u64> = const { Cell::new(0) };
}

/// From now on every message made on this thread has a [number](Msg::number), counted from `first`; 0 ends that. The
/// journal refers to messages by their numbers; without one they would cost eight bytes for nothing.
pub fn number_from(first: u64) {
    NUMBER.set(first);
}

/// A number that no message will have; 0 if none has any.
pub fn take_number() -> u64 {
    let number = NUMBER.get();
    number_from(if number == 0 { 0 } else { number.saturating_add(1) });
    number
}

/// The number that the next message will have; 0 if it will have none.
#[must_use]
pub fn next_number() -> u64 {
    NUMBER.get()
}

/// What the message store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreSize {
    /// Messages alive: retained, queued and in flight.
    pub messages: u64,
    /// Their payload bytes.
    pub bytes: u64,
}

/// What the message store of this thread holds now.
#[must_use]
pub fn store_size() -> StoreSize {
    STORE.get()
}

/// The fixed part of a message.
struct Header {
    payload_len: u32,
    props_len: u32,
    /// [`Now::mono_ms`] in whole seconds; 0 is never.
    expires_at_s: u32,
    topic_len: u16,
    flags: u8,
    /// The journal has it.
    recorded: Cell<bool>,
}

/// Bits of the flags; the two below are the QoS.
const RETAIN: u8 = 4;
const NUMBERED: u8 = 8;

impl Drop for Header {
    fn drop(&mut self) {
        let size = STORE.get();
        STORE.set(StoreSize {
            messages: size.messages.saturating_sub(1),
            bytes: size.bytes.saturating_sub(u64::from(self.payload_len)),
        });
    }
}

/// Everything a message is made of.
#[derive(Clone, Copy, Debug)]
pub struct NewMessage<'a> {
    /// The topic name, mount point included; at most 65535 bytes.
    pub topic: &'a str,
    /// The payload.
    pub payload: &'a [u8],
    /// QoS of the PUBLISH or will.
    pub qos: QoS,
    /// The retain flag of the PUBLISH or will.
    pub retain: bool,
    /// Encoded v5 properties that are passed on unchanged, without their length; empty for v3.
    pub props: &'a [u8],
    /// Message expiry in seconds; `None` and 0 are no expiry, as in C Mosquitto.
    pub expiry_s: Option<u32>,
}

/// Who published a message, kept with it only where that is asked for `[conf: check_retain_source]`. Behind the payload
/// and the number stand two lengths and the port, 16 bits each, then the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source<'a> {
    /// Its client id.
    pub client_id: &'a str,
    /// Its user name.
    pub username: Option<&'a str>,
    /// The port of its listener; 0 for a UNIX socket.
    pub port: u16,
}

/// A message, counted and shared; cloning takes another reference.
#[derive(Clone)]
pub struct Msg(Thin<Header>);

impl Msg {
    /// Makes the one copy of a message's journey. `None` when a length is past its limit (topic 65535, the rest 4 GiB).
    #[must_use]
    pub fn new(now: Now, new: &NewMessage<'_>) -> Option<Msg> {
        Msg::with(now, new, false)
    }

    /// As [`Msg::new`]; with `strict` an expiry of 0 seconds is one [MQTT-3.3.2-5] [conf: strict_conformance].
    #[must_use]
    pub fn with(now: Now, new: &NewMessage<'_>, strict: bool) -> Option<Msg> {
        Msg::from_source(now, new, strict, None)
    }

    /// As [`Msg::with`], with who published it.
    #[must_use]
    pub fn from_source(now: Now, new: &NewMessage<'_>, strict: bool, source: Option<Source<'_>>) -> Option<Msg> {
        let number = NUMBER.get();
        let msg = Msg::numbered(now, new, strict, source, number)?;
        if number != 0 {
            NUMBER.set(number.saturating_add(1));
        }
        Some(msg)
    }

    /// As [`Msg::from_source`], with a number that the message had before; 0 is none.
    #[must_use]
    pub fn numbered(
        now: Now,
        new: &NewMessage<'_>,
        strict: bool,
        source: Option<Source<'_>>,
        number: u64,
    ) -> Option<Msg> {
        let expires_at_s = match new.expiry_s {
            None => 0,
            Some(0) if !strict => 0,
            Some(s) => u32::try_from((now.mono_ms / 1000).saturating_add(u64::from(s))).unwrap_or(0),
        };
        let header = Header {
            payload_len: u32::try_from(new.payload.len()).ok()?,
            props_len: u32::try_from(new.props.len()).ok()?,
            expires_at_s,
            topic_len: u16::try_from(new.topic.len()).ok()?,
            flags: new.qos as u8 | if new.retain { RETAIN } else { 0 } | if number != 0 { NUMBERED } else { 0 },
            recorded: Cell::new(false),
        };
        let size = STORE.get();
        STORE.set(StoreSize { messages: size.messages + 1, bytes: size.bytes + u64::from(header.payload_len) });
        let [topic, props, payload] = [new.topic.as_bytes(), new.props, new.payload];
        let number_bytes = number.to_le_bytes();
        let number = if number != 0 { &number_bytes[..] } else { &[] };
        let Some(source) = source else { return Thin::new(header, &[topic, props, payload, number]).map(Msg) };
        let (id, name) = (source.client_id, source.username.unwrap_or_default());
        let mut numbers = [0; SOURCE_HEAD];
        for (at, n) in numbers.chunks_exact_mut(2).zip([len_u16(id)?, len_u16(name)?, source.port]) {
            at.copy_from_slice(&n.to_le_bytes());
        }
        Thin::new(header, &[topic, props, payload, number, &numbers, id.as_bytes(), name.as_bytes()]).map(Msg)
    }

    /// The topic name.
    #[must_use]
    pub fn topic(&self) -> &str {
        let bytes = self.0.bytes().get(..usize::from(self.0.header().topic_len)).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// Encoded v5 properties that are passed on unchanged, without their length.
    #[must_use]
    pub fn props(&self) -> &[u8] {
        let start = usize::from(self.0.header().topic_len);
        self.0.bytes().get(start..start + self.0.header().props_len as usize).unwrap_or_default()
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        let bytes = self.0.bytes().get(self.payload_start()..).unwrap_or_default();
        bytes.get(..self.0.header().payload_len as usize).unwrap_or_default()
    }

    fn payload_start(&self) -> usize {
        usize::from(self.0.header().topic_len) + self.0.header().props_len as usize
    }

    /// What stands behind the payload: the number if it has one, and the source.
    fn tail(&self) -> &[u8] {
        self.0.bytes().get(self.payload_start() + self.0.header().payload_len as usize..).unwrap_or_default()
    }

    /// What the journal calls it: unique among the messages of a broker, also after a restart; 0 when it has no number.
    #[must_use]
    pub fn number(&self) -> u64 {
        if self.0.header().flags & NUMBERED == 0 {
            return 0;
        }
        self.tail().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// Notes that the journal has it; whether it had it before.
    pub(crate) fn set_recorded(&self) -> bool {
        self.0.header().recorded.replace(true)
    }

    /// Who published it; `None` when that was not kept, or it was the broker itself.
    #[must_use]
    pub fn source(&self) -> Option<Source<'_>> {
        let skip = if self.0.header().flags & NUMBERED == 0 { 0 } else { size_of::<u64>() };
        let tail = self.tail().get(skip..)?;
        let (numbers, names) = tail.split_first_chunk::<SOURCE_HEAD>()?;
        let &[a, b, c, d, e, f] = numbers;
        let [id_len, name_len, port] = [[a, b], [c, d], [e, f]].map(u16::from_le_bytes);
        let text = |from: usize, len: u16| std::str::from_utf8(names.get(from..from + usize::from(len))?).ok();
        Some(Source {
            client_id: text(0, id_len)?,
            username: text(usize::from(id_len), name_len).filter(|name| !name.is_empty()),
            port,
        })
    }

    /// The length of the payload.
    #[must_use]
    pub fn payload_len(&self) -> u32 {
        self.0.header().payload_len
    }

    /// QoS it was published with.
    #[must_use]
    pub fn qos(&self) -> QoS {
        QoS::from_bits(self.0.header().flags & 3).unwrap_or_default()
    }

    /// The retain flag it was published with.
    #[must_use]
    pub fn retain(&self) -> bool {
        self.0.header().flags & RETAIN != 0
    }

    /// True once the message expiry has passed [MQTT-3.3.2-5].
    #[must_use]
    pub fn expired(&self, now: Now) -> bool {
        let at = self.0.header().expires_at_s;
        at != 0 && now.mono_ms / 1000 > u64::from(at)
    }

    /// The seconds left until expiry, to be sent on [MQTT-3.3.2-6], at least 1; `None` when it never expires.
    #[must_use]
    pub fn expiry_left_s(&self, now: Now) -> Option<u32> {
        self.exact_expiry_left_s(now).map(|left| left.max(1))
    }

    /// As [`Msg::expiry_left_s`], and 0 in the last second.
    #[must_use]
    pub fn exact_expiry_left_s(&self, now: Now) -> Option<u32> {
        match self.0.header().expires_at_s {
            0 => None,
            at => Some(u32::try_from(u64::from(at).saturating_sub(now.mono_ms / 1000)).unwrap_or(u32::MAX)),
        }
    }

    /// How many refer to it.
    #[must_use]
    pub fn refs(&self) -> u32 {
        self.0.refs()
    }

    /// Which message it is: no other has this number as long as it is there.
    #[must_use]
    pub fn address(&self) -> usize {
        self.0.address()
    }

    /// True when both are the same message, not merely equal ones.
    #[must_use]
    pub fn same(&self, other: &Msg) -> bool {
        self.0.same(&other.0)
    }
}

/// Bytes of the numbers of a [`Source`].
const SOURCE_HEAD: usize = 6;

fn len_u16(text: &str) -> Option<u16> {
    u16::try_from(text.len()).ok()
}

impl std::fmt::Debug for Msg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Msg({}, {:?}, {} bytes)", self.topic(), self.qos(), self.payload_len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(mono_ms: u64) -> Now {
        Now { mono_ms, wall_s: 0 }
    }

    fn message(expiry_s: Option<u32>) -> Msg {
        let new = NewMessage {
            topic: "a/b",
            payload: b"payload",
            qos: QoS::AtLeastOnce,
            retain: true,
            props: &[1, 1],
            expiry_s,
        };
        Msg::new(now(1500), &new).unwrap()
    }

    #[test]
    fn the_parts_come_back() {
        let msg = message(None);
        assert_eq!((msg.topic(), msg.props(), msg.payload()), ("a/b", &[1u8, 1][..], &b"payload"[..]));
        assert_eq!((msg.qos(), msg.retain(), msg.payload_len()), (QoS::AtLeastOnce, true, 7));
        assert!(!msg.expired(now(u64::MAX)));
    }

    #[test]
    fn the_source_is_kept_behind_the_payload_and_costs_nothing_without() {
        let new =
            NewMessage { topic: "t", payload: b"p", qos: QoS::AtMostOnce, retain: true, props: &[7], expiry_s: None };
        assert_eq!(Msg::new(now(0), &new).unwrap().source(), None);
        for (client_id, username) in [("c", Some("user")), ("", None), ("id", None)] {
            let source = Source { client_id, username, port: 1883 };
            let msg = Msg::from_source(now(0), &new, false, Some(source)).unwrap();
            assert_eq!(msg.source(), Some(source));
            assert_eq!((msg.topic(), msg.props(), msg.payload()), ("t", &[7u8][..], &b"p"[..]));
            let numbered = Msg::numbered(now(0), &new, false, Some(source), u64::MAX).unwrap();
            assert_eq!((numbered.number(), numbered.source(), msg.number()), (u64::MAX, Some(source), 0));
            assert_eq!((numbered.topic(), numbered.payload()), ("t", &b"p"[..]));
        }
    }

    #[test]
    fn messages_are_numbered_when_asked_for() {
        assert_eq!((message(None).number(), next_number()), (0, 0));
        number_from(7);
        assert_eq!([message(None).number(), message(None).number(), next_number()], [7, 8, 9]);
        number_from(0);
        assert_eq!((message(None).number(), size_of::<Header>()), (0, 16));
    }

    #[test]
    fn expiry_is_never_early_and_less_than_a_second_late() {
        let msg = message(Some(10));
        assert_eq!(msg.expiry_left_s(now(1999)), Some(10));
        assert_eq!(msg.expiry_left_s(now(11_499)), Some(1));
        assert!(!msg.expired(now(11_499)));
        assert!(msg.expired(now(12_000)));
        assert!(!message(Some(0)).expired(now(u64::MAX)));
    }

    #[test]
    fn by_the_letter_an_expiry_of_0_is_one() {
        let new =
            NewMessage { topic: "t", payload: b"", qos: QoS::AtMostOnce, retain: false, props: &[], expiry_s: Some(0) };
        let msg = Msg::with(now(1500), &new, true).unwrap();
        assert_eq!((msg.expired(now(1999)), msg.exact_expiry_left_s(now(1999))), (false, Some(0)));
        assert!(msg.expired(now(2000)));
    }

    #[test]
    fn the_store_counts_messages_not_references() {
        let before = store_size();
        let msg = message(None);
        let other = msg.clone();
        assert_eq!(store_size().messages, before.messages + 1);
        assert_eq!(store_size().bytes, before.bytes + 7);
        drop((msg, other));
        assert_eq!(store_size(), before);
    }
}

//! The content of one chunk, for each version.

mod packed;

use std::borrow::Cow;

use super::ByteOrder;
use super::chunk::{
    Chunk, Client, ClientMessage, Config, Direction, Kind, MAX_PAYLOAD, Message, Retained, State, Subscription,
};
use super::fault::{Fault, Finding, Findings, Oddity};
use crate::wire::error::PropFault;
use crate::wire::props::{self, Section};
use crate::wire::reader::ReadError;
use crate::wire::subscribe::{RetainHandling, SubscribeOptions};
use crate::wire::{QoS, Reader, topic};

/// The largest Subscription Identifier.
const MAX_SUBSCRIPTION_ID: u32 = 268_435_455;

/// What reading one chunk needs to know of the file and of the chunks before.
#[derive(Debug)]
pub(super) struct Decoder {
    pub(super) version: u32,
    /// Once it is certain.
    order: Option<ByteOrder>,
    told_padding: bool,
    /// The client chunk before, for the defect of old writers.
    previous: Previous,
    pub(super) findings: Findings,
    /// Of the chunk that is being read.
    pub(super) offset: u64,
    pub(super) kind: Option<Kind>,
}

#[derive(Debug, Default)]
struct Previous {
    username: Vec<u8>,
    /// As the file claims it.
    len: u16,
    port: u16,
    leaked: bool,
    port_leaked: bool,
}

impl From<ReadError> for Fault {
    fn from(_: ReadError) -> Fault {
        Fault::Length
    }
}

fn payload<'a>(r: &mut Reader<'a>, len: u32) -> Result<&'a [u8], Fault> {
    if len > MAX_PAYLOAD {
        return Err(Fault::Length);
    }
    Ok(r.take(usize::try_from(len).unwrap_or(usize::MAX))?)
}

impl Decoder {
    pub(super) fn new(version: u32) -> Decoder {
        Decoder {
            version,
            order: None,
            told_padding: false,
            previous: Previous::default(),
            findings: Findings::default(),
            offset: 0,
            kind: None,
        }
    }

    /// True for versions 2 to 4, whose fields follow each other without padding.
    pub(super) const fn is_packed(&self) -> bool {
        self.version < 5
    }

    pub(super) const fn order(&self) -> ByteOrder {
        match self.order {
            Some(order) => order,
            None => ByteOrder::NATIVE,
        }
    }

    /// The largest content that a chunk of this kind can have; more is damage, and is not waited for.
    pub(super) const fn most(kind: Kind) -> u32 {
        match kind {
            // Three strings and the fixed part beside payload and properties.
            Kind::Message => MAX_PAYLOAD.saturating_add(0x0100_0000),
            Kind::Client | Kind::ClientMessage | Kind::Subscription => 0x4_0000,
            Kind::Config | Kind::Retained => 64,
        }
    }

    pub(super) fn note(&mut self, what: Oddity) {
        self.findings.add(Finding { offset: self.offset, kind: self.kind, what });
    }

    /// The chunk of this kind with this content, which is all that its length promised.
    pub(super) fn chunk<'a>(&mut self, kind: Kind, body: &'a [u8]) -> Result<Chunk<'a>, Fault> {
        let mut r = Reader::new(body);
        let chunk = match (kind, self.is_packed()) {
            (Kind::Config, packed) => self.config(&mut r, packed),
            (Kind::Message, false) => self.message(&mut r),
            (Kind::Message, true) => self.message_packed(&mut r),
            (Kind::ClientMessage, false) => self.client_message(&mut r),
            (Kind::ClientMessage, true) => self.client_message_packed(&mut r),
            (Kind::Retained, _) => Ok(Chunk::Retained(Retained { store_id: self.reference(&mut r)? })),
            (Kind::Subscription, packed) => self.subscription(&mut r, packed),
            (Kind::Client, false) => self.client(&mut r),
            (Kind::Client, true) => self.client_packed(&mut r),
        }?;
        if r.is_empty() { Ok(chunk) } else { Err(Fault::Length) }
    }

    fn u64(&self, r: &mut Reader<'_>) -> Result<u64, Fault> {
        let bytes = r.take(8)?.first_chunk::<8>().ok_or(Fault::Length)?;
        Ok(self.order().number(*bytes))
    }

    /// The store id of a message that this chunk refers to.
    fn reference(&self, r: &mut Reader<'_>) -> Result<u64, Fault> {
        match self.u64(r)? {
            0 => Err(Fault::NoStoreId),
            id => Ok(id),
        }
    }

    fn time(&self, r: &mut Reader<'_>) -> Result<i64, Fault> {
        self.u64(r).map(|n| n as i64)
    }

    /// A store id from which the byte order may be seen: a counter from 1 in versions before 2.1, later a time, and
    /// neither reaches the top byte for centuries.
    fn telling_id(&mut self, r: &mut Reader<'_>) -> Result<u64, Fault> {
        let id = self.u64(r)?;
        if self.order.is_some() {
            return Ok(id);
        }
        let other = id.swap_bytes();
        let small = |n: u64| n < 1 << 56;
        if small(id) && !small(other) {
            self.order = Some(ByteOrder::NATIVE);
        } else if !small(id) && other < 1 << 54 {
            self.order = Some(ByteOrder::NATIVE.other());
            self.note(Oddity::ForeignByteOrder);
            return Ok(other);
        }
        Ok(id)
    }

    fn config<'a>(&mut self, r: &mut Reader<'_>, packed: bool) -> Result<Chunk<'a>, Fault> {
        let (id_size, shutdown, last_db_id);
        if packed {
            shutdown = r.u8()?;
            id_size = r.u8()?;
            last_db_id = if id_size == 8 { self.telling_id(r)? } else { 0 };
        } else {
            last_db_id = self.telling_id(r)?;
            shutdown = r.u8()?;
            id_size = r.u8()?;
            self.padding(r, 6, 2)?;
        }
        if id_size != 8 {
            return Err(Fault::IdSize(id_size));
        }
        Ok(Chunk::Config(Config { last_db_id, shutdown: shutdown != 0 }))
    }

    /// Skips the padding at the end of a chunk: `long` bytes, or `short` on 32-bit x86.
    fn padding(&mut self, r: &mut Reader<'_>, long: usize, short: usize) -> Result<(), Fault> {
        let left = r.rest().len();
        if left == short {
            self.tell_short_padding();
        } else if left != long {
            return Err(Fault::Length);
        }
        r.take(left)?;
        Ok(())
    }

    fn tell_short_padding(&mut self) {
        if !std::mem::replace(&mut self.told_padding, true) {
            self.note(Oddity::ShortPadding);
        }
    }

    fn qos(&mut self, bits: u8) -> QoS {
        QoS::from_bits(bits).unwrap_or_else(|| {
            self.note(Oddity::Value);
            QoS::ExactlyOnce
        })
    }

    /// A client id, which the chunk is useless without.
    fn client_id<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a str> {
        match std::str::from_utf8(bytes) {
            Ok("") => self.note(Oddity::NoClientId),
            Ok(id) => return Some(id),
            Err(_) => self.note(Oddity::NotUtf8),
        }
        None
    }

    /// A name that the chunk can do without.
    fn name<'a>(&mut self, bytes: &'a [u8]) -> &'a str {
        std::str::from_utf8(bytes).unwrap_or_else(|_| {
            self.note(Oddity::Text);
            ""
        })
    }

    fn message<'a>(&mut self, r: &mut Reader<'a>) -> Result<Chunk<'a>, Fault> {
        let store_id = self.telling_id(r)?;
        let expiry_time = self.time(r)?;
        let payload_len = r.u32()?;
        let source_packet_id = r.u16()?;
        let [source_id_len, username_len, topic_len] = [r.u16()?, r.u16()?, r.u16()?].map(usize::from);
        let source_port = r.u16()?;
        let (qos, retain) = (r.u8()?, r.u8()?);
        let source_id = r.take(source_id_len)?;
        let source_username = r.take(username_len)?;
        let topic = r.take(topic_len)?;
        let payload = payload(r, payload_len)?;
        let props = if r.is_empty() { Cow::Borrowed(&[][..]) } else { self.message_props(r)? };
        let Some(topic) = self.topic(store_id, topic)? else { return Ok(Chunk::Dropped(Kind::Message)) };
        Ok(Chunk::Message(Message {
            store_id,
            expiry_time,
            source_packet_id,
            source_port,
            qos: self.qos(qos),
            retain: retain != 0,
            source_id: self.name(source_id),
            source_username: self.name(source_username),
            topic,
            payload,
            props,
        }))
    }

    /// The topic of a message; `None` when it is none that can be published to.
    fn topic<'a>(&mut self, store_id: u64, bytes: &'a [u8]) -> Result<Option<&'a str>, Fault> {
        if store_id == 0 {
            return Err(Fault::NoStoreId);
        }
        if bytes.is_empty() {
            return Err(Fault::NoTopic);
        }
        let Ok(name) = std::str::from_utf8(bytes) else {
            self.note(Oddity::NotUtf8);
            return Ok(None);
        };
        Ok(match topic::check_name(name) {
            Ok(()) => Some(name),
            Err(error) => {
                self.note(Oddity::Topic(error));
                None
            }
        })
    }

    /// The bytes of a property block; what follows it in the chunk is left out, as C Mosquitto does.
    fn block<'a>(&mut self, r: &mut Reader<'a>) -> Result<&'a [u8], Fault> {
        let block = r.section().map_err(|e| Fault::Properties(e.into()))?;
        if !r.is_empty() {
            self.note(Oddity::Trailing);
            r.take(r.rest().len())?;
        }
        Ok(block)
    }

    /// Notes a property that was left out; an unreadable block is an error.
    fn walked(&mut self, result: Result<(), PropFault>) -> Result<(), Fault> {
        match result {
            Ok(()) => Ok(()),
            Err(fault @ (PropFault::Unknown | PropFault::Truncated | PropFault::Utf8)) => Err(Fault::Properties(fault)),
            Err(PropFault::Duplicate | PropFault::NotAllowed(_) | PropFault::Value(_)) => {
                self.note(Oddity::Property);
                Ok(())
            }
        }
    }

    fn message_props<'a>(&mut self, r: &mut Reader<'a>) -> Result<Cow<'a, [u8]>, Fault> {
        let block = self.block(r)?;
        let mut kept = 0usize;
        let good = |id| !matches!(id, props::MESSAGE_EXPIRY | props::TOPIC_ALIAS | props::SUBSCRIPTION_ID);
        let walked = props::walk(block, Section::Publish, |p| {
            if good(p.id) {
                kept = kept.saturating_add(p.raw.len());
            }
        });
        let clean = walked.is_ok();
        self.walked(walked)?;
        if kept == block.len() {
            return Ok(Cow::Borrowed(block));
        }
        if clean {
            self.note(Oddity::Property);
        }
        let mut copy = Vec::with_capacity(kept);
        let _ = props::walk(block, Section::Publish, |p| {
            if good(p.id) {
                copy.extend_from_slice(p.raw);
            }
        });
        Ok(Cow::Owned(copy))
    }

    fn client_message<'a>(&mut self, r: &mut Reader<'a>) -> Result<Chunk<'a>, Fault> {
        let store_id = self.reference(r)?;
        let packet_id = r.u16()?;
        let id_len = r.u16()?;
        let (qos, state, retain_dup, direction) = (r.u8()?, r.u8()?, r.u8()?, r.u8()?);
        let client_id = r.take(usize::from(id_len))?;
        let mut subscription_id = 0;
        if !r.is_empty() {
            let block = self.block(r)?;
            let mut others = false;
            let walked = props::walk(block, Section::Publish, |p| {
                if p.id == props::SUBSCRIPTION_ID && subscription_id == 0 {
                    subscription_id = p.value.number();
                } else {
                    others = true;
                }
            });
            let clean = walked.is_ok();
            self.walked(walked)?;
            if others && clean {
                self.note(Oddity::Property);
            }
        }
        let flags = [retain_dup & 0xF0 != 0, retain_dup & 0x0F != 0];
        self.queued(
            client_id,
            ClientMessage { store_id, packet_id, subscription_id, ..ClientMessage::default() },
            [qos, state, direction],
            flags,
        )
    }

    fn queued<'a>(
        &mut self,
        client_id: &'a [u8],
        message: ClientMessage<'a>,
        [qos, state, direction]: [u8; 3],
        [retain, dup]: [bool; 2],
    ) -> Result<Chunk<'a>, Fault> {
        let direction = match direction {
            0 => Direction::In,
            1 => Direction::Out,
            other => return Err(Fault::Direction(other)),
        };
        let state = State::of(state).unwrap_or_else(|| {
            self.note(Oddity::Value);
            State::Invalid
        });
        let qos = self.qos(qos);
        Ok(match self.client_id(client_id) {
            Some(client_id) => {
                Chunk::ClientMessage(ClientMessage { client_id, qos, state, retain, dup, direction, ..message })
            }
            None => Chunk::Dropped(Kind::ClientMessage),
        })
    }

    fn subscription<'a>(&mut self, r: &mut Reader<'a>, packed: bool) -> Result<Chunk<'a>, Fault> {
        let (client_id, filter, qos, options, mut identifier);
        if packed {
            client_id = r.binary()?;
            filter = r.binary()?;
            qos = r.u8()?;
            options = 0;
            identifier = 0;
        } else {
            identifier = r.u32()?;
            let (id_len, filter_len) = (r.u16()?, r.u16()?);
            (qos, options) = (r.u8()?, r.u8()?);
            let _padding = r.u16()?;
            client_id = r.take(usize::from(id_len))?;
            filter = r.take(usize::from(filter_len))?;
        }
        if identifier > MAX_SUBSCRIPTION_ID {
            self.note(Oddity::Value);
            identifier = 0;
        }
        if options & !0x3C != 0 || options & 0x30 == 0x30 {
            self.note(Oddity::Value);
        }
        let options = SubscribeOptions {
            qos: self.qos(qos),
            no_local: options & 4 != 0,
            retain_as_published: options & 8 != 0,
            retain_handling: match options & 0x30 {
                0 => RetainHandling::Send,
                0x10 => RetainHandling::SendIfNew,
                _ => RetainHandling::DoNotSend,
            },
        };
        let Some(client_id) = self.client_id(client_id) else { return Ok(Chunk::Dropped(Kind::Subscription)) };
        let Ok(filter) = std::str::from_utf8(filter) else {
            self.note(Oddity::NotUtf8);
            return Ok(Chunk::Dropped(Kind::Subscription));
        };
        if let Err(error) = topic::check_filter(filter).and_then(|()| topic::split_share(filter)) {
            self.note(Oddity::Topic(error));
            return Ok(Chunk::Dropped(Kind::Subscription));
        }
        Ok(Chunk::Subscription(Subscription { client_id, filter, options, identifier }))
    }

    fn client<'a>(&mut self, r: &mut Reader<'a>) -> Result<Chunk<'a>, Fault> {
        let session_expiry_time = self.time(r)?;
        let session_expiry_interval = r.u32()?;
        let (last_packet_id, id_len) = (r.u16()?, usize::from(r.u16()?));
        let mut listener_port = 0;
        let mut username_len = 0;
        if self.version >= 6 {
            listener_port = r.u16()?;
            username_len = r.u16()?;
            let text = id_len.saturating_add(usize::from(username_len));
            if r.rest().len() == text {
                self.tell_short_padding();
            } else {
                let _padding = r.u32()?;
            }
        }
        let id = r.take(id_len)?;
        let username = r.take(usize::from(username_len))?;
        let (username, port, doubtful) = self.origin(username, username_len, listener_port);
        let username = self.name(username);
        let Some(id) = self.client_id(id) else { return Ok(Chunk::Dropped(Kind::Client)) };
        Ok(Chunk::Client(Client {
            id,
            session_expiry_time,
            session_expiry_interval,
            last_packet_id,
            listener_port: port,
            username,
            doubtful,
            disconnected_at: 0,
        }))
    }

    /// User name and port, cleaned of what old writers left of the client before. They did not reset what they wrote: a
    /// client without user name got the name before, with the two bytes of its length in the wrong order, and the next
    /// one of the kind with the right length again.
    fn origin<'a>(&mut self, bytes: &'a [u8], len: u16, port: u16) -> (&'a [u8], u16, bool) {
        let text = bytes.split(|&b| b == 0).next().unwrap_or_default();
        let before = std::mem::take(&mut self.previous);
        let cut = text.len() < bytes.len();
        let swapped = before.len != before.len.swap_bytes() && len == before.len.swap_bytes();
        let same = !text.is_empty() && (text == before.username || (swapped && before.username.starts_with(text)));
        let leaked = cut || (same && (before.leaked || swapped));
        if leaked {
            self.note(Oddity::LeakedUsername);
        }
        // The one behind a swapped port has the right one again, be it its own or not.
        let swapped = port != before.port && port == before.port.swap_bytes();
        let port_leaked = swapped && port != 0 && !before.port_leaked;
        if port_leaked {
            self.note(Oddity::LeakedPort);
        }
        self.previous = Previous { username: text.to_vec(), len, port, leaked, port_leaked };
        (text, if port_leaked { 0 } else { port }, leaked)
    }
}

//! Chunks to the bytes of version 6, as C Mosquitto 2.0 and 2.1 write them on the same machine.

use std::fmt;

use super::chunk::{Chunk, Client, ClientMessage, Config, Kind, MAX_PAYLOAD, Message, NEVER, Subscription};
use super::{ByteOrder, MAGIC, VERSION};
use crate::wire::QoS;
use crate::wire::props;
use crate::wire::writer::{put_prop_varint, put_u16, put_u32, put_varint, varint_len};

/// Why a chunk cannot be written. Nothing was appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unwritable {
    /// A string of more than 65535 bytes.
    Text,
    /// Payload or properties of more than 268435455 bytes.
    Size,
    /// A message without topic, which stops C Mosquitto from starting.
    NoTopic,
    /// A session, subscription or queued message without client id or filter.
    NoClientId,
    /// A store id of 0.
    NoStoreId,
    /// [`Chunk::Dropped`] or [`Chunk::Unknown`].
    Nothing,
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unwritable::Text => "a string is longer than 65535 bytes",
            Unwritable::Size => "payload or properties are too large",
            Unwritable::NoTopic => "the topic is empty",
            Unwritable::NoClientId => "the client id or filter is empty",
            Unwritable::NoStoreId => "the store id is 0",
            Unwritable::Nothing => "there is nothing to write",
        })
    }
}

/// How the machine lays out what it writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Writer {
    /// Order of the bytes in 64-bit fields.
    pub order: ByteOrder,
    /// 32-bit x86 pads the configuration and client chunks less.
    pub short_padding: bool,
}

impl Default for Writer {
    fn default() -> Writer {
        Writer::NATIVE
    }
}

impl Writer {
    /// What a C Mosquitto on this machine reads.
    pub const NATIVE: Writer = Writer { order: ByteOrder::NATIVE, short_padding: cfg!(target_arch = "x86") };

    /// Appends the file's header.
    pub fn header(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        put_u32(out, 0);
        put_u32(out, VERSION);
    }

    /// Appends one chunk. C Mosquitto wants a message before what refers to it, and a client for every session; it
    /// writes configuration, messages, each client followed by its queue, subscriptions, retained messages.
    ///
    /// # Errors
    /// [`Unwritable`] for what no reader could take; nothing was appended then.
    pub fn chunk(&self, out: &mut Vec<u8>, chunk: &Chunk<'_>) -> Result<(), Unwritable> {
        match chunk {
            Chunk::Config(config) => {
                self.config(out, config);
                Ok(())
            }
            Chunk::Message(message) => self.message(out, message),
            Chunk::ClientMessage(message) => self.client_message(out, message),
            Chunk::Retained(retained) => {
                not_zero(retained.store_id)?;
                start(out, Kind::Retained, 8);
                self.put_u64(out, retained.store_id);
                Ok(())
            }
            Chunk::Subscription(subscription) => put_subscription(out, subscription),
            Chunk::Client(client) => self.client(out, client),
            Chunk::Dropped(_) | Chunk::Unknown(_) => Err(Unwritable::Nothing),
        }
    }

    fn put_u64(&self, out: &mut Vec<u8>, n: u64) {
        out.extend_from_slice(&self.order.bytes(n));
    }

    fn config(&self, out: &mut Vec<u8>, config: &Config) {
        let padding: &[u8] = if self.short_padding { &[0; 2] } else { &[0; 6] };
        start(out, Kind::Config, if self.short_padding { 12 } else { 16 });
        self.put_u64(out, config.last_db_id);
        out.extend_from_slice(&[u8::from(config.shutdown), 8]);
        out.extend_from_slice(padding);
    }

    fn message(&self, out: &mut Vec<u8>, message: &Message<'_>) -> Result<(), Unwritable> {
        not_zero(message.store_id)?;
        let [source_id, source_username, topic] = [message.source_id, message.source_username, message.topic];
        let lens = [len_of(source_id)?, len_of(source_username)?, len_of(topic)?];
        if topic.is_empty() {
            return Err(Unwritable::NoTopic);
        }
        let payload_len = size_of_bytes(message.payload)?;
        let props_len = size_of_bytes(&message.props)?;
        let mut length = lens.iter().fold(32u32, |sum, len| sum.saturating_add(u32::from(*len)));
        length = length.saturating_add(payload_len);
        if props_len > 0 {
            let prefix = varint_len(message.props.len());
            length = length.saturating_add(props_len).saturating_add(u32::try_from(prefix).unwrap_or(4));
        }
        // What our own reader would not take either.
        if length > super::decode::Decoder::most(Kind::Message) {
            return Err(Unwritable::Size);
        }
        start(out, Kind::Message, length);
        self.put_u64(out, message.store_id);
        self.put_u64(out, message.expiry_time as u64);
        put_u32(out, payload_len);
        put_u16(out, message.source_packet_id);
        lens.iter().for_each(|len| put_u16(out, *len));
        put_u16(out, message.source_port);
        out.extend_from_slice(&[message.qos as u8, u8::from(message.retain)]);
        [source_id, source_username, topic].iter().for_each(|text| out.extend_from_slice(text.as_bytes()));
        out.extend_from_slice(message.payload);
        if props_len > 0 {
            put_varint(out, message.props.len());
            out.extend_from_slice(&message.props);
        }
        Ok(())
    }

    fn client_message(&self, out: &mut Vec<u8>, message: &ClientMessage<'_>) -> Result<(), Unwritable> {
        not_zero(message.store_id)?;
        let id_len = len_of_id(message.client_id)?;
        let mut props = Vec::new();
        if message.subscription_id > 0 {
            let n = usize::try_from(message.subscription_id).unwrap_or(usize::MAX);
            put_varint(&mut props, varint_len(n).saturating_add(1));
            put_prop_varint(&mut props, props::SUBSCRIPTION_ID, message.subscription_id);
        }
        let props_len = u32::try_from(props.len()).unwrap_or(0);
        start(out, Kind::ClientMessage, 16u32.saturating_add(u32::from(id_len)).saturating_add(props_len));
        self.put_u64(out, message.store_id);
        put_u16(out, message.packet_id);
        put_u16(out, id_len);
        let retain_dup = if message.retain { 0x10 } else { 0 } | u8::from(message.dup);
        out.extend_from_slice(&[message.qos as u8, message.state as u8, retain_dup, message.direction as u8]);
        out.extend_from_slice(message.client_id.as_bytes());
        out.extend_from_slice(&props);
        Ok(())
    }

    fn client(&self, out: &mut Vec<u8>, client: &Client<'_>) -> Result<(), Unwritable> {
        let id_len = len_of_id(client.id)?;
        let username = client.trusted_username();
        let username_len = len_of(username)?;
        let padding: &[u8] = if self.short_padding { &[] } else { &[0; 4] };
        let fixed = if self.short_padding { 20u32 } else { 24 };
        let length = fixed.saturating_add(u32::from(id_len)).saturating_add(u32::from(username_len));
        start(out, Kind::Client, length);
        // Version 1.6.0 stored a time that means nothing for a session that never expires.
        let never = client.session_expiry_interval == NEVER;
        self.put_u64(out, if never { 0 } else { client.session_expiry_time as u64 });
        put_u32(out, client.session_expiry_interval);
        put_u16(out, client.last_packet_id);
        put_u16(out, id_len);
        put_u16(out, if client.doubtful { 0 } else { client.listener_port });
        put_u16(out, username_len);
        out.extend_from_slice(padding);
        out.extend_from_slice(client.id.as_bytes());
        out.extend_from_slice(username.as_bytes());
        Ok(())
    }
}

fn put_subscription(out: &mut Vec<u8>, subscription: &Subscription<'_>) -> Result<(), Unwritable> {
    let (id_len, filter_len) = (len_of_id(subscription.client_id)?, len_of_id(subscription.filter)?);
    let length = 12u32.saturating_add(u32::from(id_len)).saturating_add(u32::from(filter_len));
    start(out, Kind::Subscription, length);
    put_u32(out, subscription.identifier);
    put_u16(out, id_len);
    put_u16(out, filter_len);
    let bits = subscription.options.bits();
    let qos = subscription.options.qos;
    out.extend_from_slice(&[qos as u8, bits & !(QoS::AtLeastOnce as u8 | QoS::ExactlyOnce as u8), 0, 0]);
    out.extend_from_slice(subscription.client_id.as_bytes());
    out.extend_from_slice(subscription.filter.as_bytes());
    Ok(())
}

fn start(out: &mut Vec<u8>, kind: Kind, length: u32) {
    put_u32(out, kind as u32);
    put_u32(out, length);
}

const fn not_zero(store_id: u64) -> Result<(), Unwritable> {
    if store_id == 0 { Err(Unwritable::NoStoreId) } else { Ok(()) }
}

fn len_of(text: &str) -> Result<u16, Unwritable> {
    u16::try_from(text.len()).map_err(|_| Unwritable::Text)
}

fn len_of_id(text: &str) -> Result<u16, Unwritable> {
    if text.is_empty() { Err(Unwritable::NoClientId) } else { len_of(text) }
}

fn size_of_bytes(bytes: &[u8]) -> Result<u32, Unwritable> {
    u32::try_from(bytes.len()).ok().filter(|n| *n <= MAX_PAYLOAD).ok_or(Unwritable::Size)
}

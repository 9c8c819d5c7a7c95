//! The core's state to the bytes of a file, item by item. A message is written right before what first refers to it, so
//! that nothing has to be walked twice; C Mosquitto wants no more than that it comes before.

use std::borrow::Cow;

use hashbrown::HashTable;

use super::chunk::{Chunk, Client, ClientMessage, Config, Direction, Message, Retained, State, Subscription};
use super::journal;
use super::write::Writer;
use crate::broker::message::{self, Msg};
use crate::broker::stored::{Item, Place, StoredEntry};
use crate::broker::subs::SubOptions;
use crate::timer::Now;
use crate::wire::QoS;
use crate::wire::subscribe::{RetainHandling, SubscribeOptions};

/// The store id that is named as the last one, before any is given out: C Mosquitto 2.0 counts on from it. Memory ends
/// before.
const LAST_ID: u64 = u32::MAX as u64;

/// The topic of the message that stands for those that are not needed any more, because only their PUBREL is to be sent.
/// C Mosquitto wants one to be there, and sends nothing of it; one below `$SYS` it would not save again.
const RELEASED_TOPIC: &str = "$released";

/// Writes one file.
pub struct Saver {
    writer: Writer,
    now: Now,
    next_id: u64,
    /// The numbers of messages are their store ids.
    numbered: bool,
    /// Messages that something else may refer to as well: by their address, the id they were written with.
    written: HashTable<(u64, usize)>,
    /// These messages: they are kept until the file is written, so that no other gets their address.
    kept: Vec<Msg>,
    released: u64,
    out: Vec<u8>,
    /// An empty buffer for the next bytes.
    spare: Vec<u8>,
    left_out: u64,
}

impl Saver {
    /// Begins a file of the state at `now`; `shutdown` says that the broker stops. `token` is what a journal calls the
    /// file; 0 without one.
    #[must_use]
    pub fn new(now: Now, shutdown: bool, token: u32) -> Saver {
        let writer = Writer::NATIVE;
        let mut out = Vec::new();
        writer.header(&mut out);
        journal::put_token(&mut out, token);
        // Numbers that messages have already are kept: the journal calls them so.
        let numbered = token != 0;
        let next_id = if numbered { message::take_number().max(1) } else { 1 };
        let config = Chunk::Config(Config { last_db_id: LAST_ID.max(next_id), shutdown });
        let _always = writer.chunk(&mut out, &config);
        Saver {
            writer,
            now,
            next_id,
            numbered,
            written: HashTable::new(),
            kept: Vec::new(),
            released: 0,
            out,
            spare: Vec::new(),
            left_out: 0,
        }
    }

    /// The bytes so far that were not taken away. Whoever takes them empties it.
    pub const fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// How many they are.
    #[must_use]
    pub fn out_len(&self) -> usize {
        self.out.len()
    }

    /// Takes them away; `None` when there are none.
    pub fn take_out(&mut self) -> Option<Vec<u8>> {
        let spare = std::mem::take(&mut self.spare);
        Some(std::mem::replace(&mut self.out, spare)).filter(|out| !out.is_empty())
    }

    /// Hands over an empty buffer to be used again.
    pub fn give_spare(&mut self, buffer: Vec<u8>) {
        self.spare = buffer;
    }

    /// Items that no file can hold.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The file is written: lets go of at most `most` messages that were kept for it, since to do so takes time. True when
    /// none is left.
    pub fn release(&mut self, most: usize) -> bool {
        self.kept.truncate(self.kept.len().saturating_sub(most));
        self.kept.is_empty()
    }

    /// Appends an item of a snapshot.
    pub fn add(&mut self, item: &Item<'_>) {
        let chunk = match item {
            Item::Session(session) => Chunk::Client(Client {
                id: session.client_id,
                session_expiry_time: session.ends_wall_s.map_or(0, |at| i64::try_from(at).unwrap_or(i64::MAX)),
                session_expiry_interval: session.expiry_s,
                last_packet_id: session.last_id,
                listener_port: session.listener_port,
                username: session.username.unwrap_or_default(),
                doubtful: false,
                disconnected_at: 0,
            }),
            Item::Entry(client_id, entry) => return self.entry(client_id, entry),
            Item::Subscription(client_id, sub) => Chunk::Subscription(Subscription {
                client_id,
                filter: sub.filter,
                options: wire_options(sub.options),
                identifier: sub.id,
            }),
            Item::Retained(msg) if msg.expired(self.now) => return,
            Item::Retained(msg) => {
                let Some(store_id) = self.store_id(msg, 0) else { return };
                Chunk::Retained(Retained { store_id })
            }
        };
        self.put(&chunk);
    }

    fn put(&mut self, chunk: &Chunk<'_>) {
        if self.writer.chunk(&mut self.out, chunk).is_err() {
            self.left_out = self.left_out.saturating_add(1);
        }
    }

    fn entry(&mut self, client_id: &str, entry: &StoredEntry<&Msg>) {
        let (state, direction) = match (entry.place, entry.qos) {
            (Place::Queued, _) => (State::Queued, Direction::Out),
            (Place::Sent, QoS::ExactlyOnce) => (State::AwaitPubrec, Direction::Out),
            (Place::Sent, _) => (State::AwaitPuback, Direction::Out),
            (Place::Released, _) => (State::AwaitPubcomp, Direction::Out),
            (Place::Received, _) => (State::AwaitPubrel, Direction::In),
        };
        let store_id = match (entry.place, entry.msg) {
            (Place::Released, _) => Some(self.released_id()),
            (_, Some(msg)) if msg.expired(self.now) => return,
            // C Mosquitto finds a repeated message by the identifier of the first.
            (Place::Received, Some(msg)) => self.store_id(msg, entry.id),
            (_, Some(msg)) => self.store_id(msg, 0),
            (_, None) => None,
        };
        let Some(store_id) = store_id else { return };
        self.put(&Chunk::ClientMessage(ClientMessage {
            client_id,
            store_id,
            packet_id: entry.id,
            qos: entry.qos,
            state,
            retain: entry.retain,
            dup: matches!(entry.place, Place::Sent | Place::Released),
            direction,
            subscription_id: entry.sub_id,
        }));
    }

    /// The id of a message, which is written if it was not yet. `None` when no file can hold it.
    fn store_id(&mut self, msg: &Msg, source_packet_id: u16) -> Option<u64> {
        let address = msg.address();
        let shared = msg.refs() > 1;
        if shared && let Some((id, _)) = self.written.find(hash(address), |(_, other)| *other == address) {
            return Some(*id);
        }
        let source = msg.source();
        let left_s = msg.exact_expiry_left_s(self.now);
        let expiry_time = left_s.map_or(0, |left| self.now.wall_s.saturating_add(u64::from(left)).max(1));
        let id = Some(msg.number()).filter(|number| self.numbered && *number != 0).unwrap_or(self.next_id);
        let chunk = Chunk::Message(Message {
            store_id: id,
            expiry_time: i64::try_from(expiry_time).unwrap_or(i64::MAX),
            source_packet_id,
            source_port: source.map_or(0, |source| source.port),
            qos: msg.qos(),
            // A retained message of the broker itself is not stored as such.
            retain: msg.retain() && !crate::broker::stored::is_own_topic(msg.topic()),
            source_id: source.map_or("", |source| source.client_id),
            source_username: source.and_then(|source| source.username).unwrap_or_default(),
            topic: msg.topic(),
            payload: msg.payload(),
            props: Cow::Borrowed(msg.props()),
        });
        self.message(&chunk, id)?;
        if shared {
            self.written.insert_unique(hash(address), (id, address), |(_, other)| hash(*other));
            self.kept.push(msg.clone());
        }
        Some(id)
    }

    fn message(&mut self, chunk: &Chunk<'_>, id: u64) -> Option<u64> {
        if self.writer.chunk(&mut self.out, chunk).is_err() {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        if id == self.next_id {
            self.next_id = id.saturating_add(1);
        }
        Some(id)
    }

    fn released_id(&mut self) -> u64 {
        if self.released == 0 {
            let qos = QoS::ExactlyOnce;
            let message = Message { store_id: self.next_id, topic: RELEASED_TOPIC, qos, ..Message::default() };
            self.released = self.message(&Chunk::Message(message), self.next_id).unwrap_or_default();
        }
        self.released
    }
}

/// A hash of an address, which is a multiple of 16 at best. Nobody outside chooses it.
fn hash(address: usize) -> u64 {
    (address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
}

fn wire_options(options: SubOptions) -> SubscribeOptions {
    SubscribeOptions {
        qos: options.qos,
        no_local: options.no_local,
        retain_as_published: options.retain_as_published,
        retain_handling: match options.retain_handling {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            _ => RetainHandling::DoNotSend,
        },
    }
}

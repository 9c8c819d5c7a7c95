//! A file's chunks to the core's state, with memory for one chunk beside what stays.

use std::hash::Hasher;
use std::io;

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

use super::chunk::{Chunk, Client, ClientMessage, Direction, Message, State, Subscription};
use super::fault::{Damage, Findings};
use super::read::{Source, SourceError};
use crate::broker::message::{Msg, NewMessage, Source as Publisher};
use crate::broker::stored::{Place, StoredEntry, StoredSession, StoredSubscription};
use crate::broker::subs::SubOptions;
use crate::broker::{Broker, SessionId};
use crate::timer::Now;
use crate::wire::QoS;

/// What was restored, as C Mosquitto 2.1 counts it: messages that have not expired, the chunks of the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Messages that others refer to.
    pub messages: u64,
    /// Retained messages.
    pub retained: u64,
    /// Sessions.
    pub clients: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Messages of sessions.
    pub client_messages: u64,
}

/// What came of reading a file.
#[derive(Debug)]
pub struct Report {
    /// The file's version.
    pub version: u32,
    /// What was restored.
    pub counts: Counts,
    /// Where it is broken: empty for a sound file. Only the last can be final.
    pub damage: Vec<Damage>,
    /// What was odd.
    pub findings: Findings,
    /// Sound items that the core did not take: messages of sessions that have expired or whose message is missing, which
    /// is as it should be, and subscriptions past the limit of a session.
    pub refused: u64,
    /// The highest store id.
    pub highest: u64,
}

impl Report {
    /// True when the file holds something that was not restored and is not known to be worthless, so that it must be kept.
    #[must_use]
    pub fn loses_data(&self) -> bool {
        !self.damage.is_empty() || self.findings.loses_data()
    }
}

/// Restores everything that can be read of a file into a broker that serves nobody yet. With `numbered` messages keep their
/// store ids as their numbers, by which a journal of the file knows them. The caller ends with
/// [`Broker::restored`].
///
/// # Errors
/// When the file cannot be read on, which says nothing about its content; the broker has a part of it then.
pub fn load(broker: &mut Broker, file: impl io::Read, now: Now, numbered: bool) -> io::Result<Report> {
    let mut source = Source::new(file);
    let mut loader = Loader {
        broker,
        now,
        messages: Messages::new(now),
        client: None,
        counts: Counts::default(),
        refused: 0,
        numbered,
        highest: 0,
    };
    let mut damage = Vec::new();
    loop {
        match source.next_item() {
            Ok(None) => break,
            Ok(Some(item)) => loader.add(&item.chunk),
            Err(SourceError::Damage(place)) => damage.push(place),
            Err(SourceError::Io(error)) => return Err(error),
        }
    }
    let reader = source.reader();
    Ok(Report {
        version: reader.version(),
        counts: loader.counts,
        damage,
        findings: reader.findings().clone(),
        refused: loader.refused,
        highest: loader.highest,
    })
}

/// The messages of a file by store id. Keyed by the time, since a file may come from others.
struct Messages {
    table: HashTable<(u64, Msg)>,
    key: u64,
}

impl Messages {
    fn new(now: Now) -> Messages {
        Messages { table: HashTable::new(), key: now.mono_ms }
    }

    fn hash(key: u64, id: u64) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(key, !key);
        hasher.write_u64(id);
        hasher.finish()
    }

    fn get(&self, id: u64) -> Option<&Msg> {
        self.table.find(Messages::hash(self.key, id), |(other, _)| *other == id).map(|(_, msg)| msg)
    }

    /// Of two messages with one id the later counts.
    fn insert(&mut self, id: u64, msg: Msg) {
        let key = self.key;
        let hash = Messages::hash(key, id);
        match self.table.find_mut(hash, |(other, _)| *other == id) {
            Some((_, known)) => *known = msg,
            None => _ = self.table.insert_unique(hash, (id, msg), |(id, _)| Messages::hash(key, *id)),
        }
    }
}

struct Loader<'b> {
    broker: &'b mut Broker,
    now: Now,
    messages: Messages,
    /// The session of the last client id that was looked up.
    client: Option<(String, SessionId)>,
    counts: Counts,
    refused: u64,
    numbered: bool,
    highest: u64,
}

impl Loader<'_> {
    fn add(&mut self, chunk: &Chunk<'_>) {
        let taken = match chunk {
            Chunk::Config(_) | Chunk::Dropped(_) | Chunk::Unknown(_) => true,
            Chunk::Message(message) => self.message(message),
            Chunk::Client(client) => self.session(client),
            Chunk::ClientMessage(message) => self.entry(message),
            Chunk::Subscription(subscription) => self.subscription(subscription),
            Chunk::Retained(retained) => {
                let msg = self.messages.get(retained.store_id).cloned();
                let taken = msg.is_some_and(|msg| self.broker.restore_retained(msg));
                bump(&mut self.counts.retained, taken);
                taken
            }
        };
        self.refused = self.refused.saturating_add(u64::from(!taken));
    }

    fn message(&mut self, message: &Message<'_>) -> bool {
        let wall_s = i64::try_from(self.now.wall_s).unwrap_or(i64::MAX);
        if message.is_expired(wall_s) {
            return false;
        }
        let left_s = (message.expiry_time > 0).then(|| message.expiry_time.saturating_sub(wall_s));
        let new = NewMessage {
            topic: message.topic,
            payload: message.payload,
            qos: message.qos,
            retain: message.retain,
            props: &message.props,
            expiry_s: None,
        };
        let source = (!message.source_id.is_empty()).then_some(Publisher {
            client_id: message.source_id,
            username: Some(message.source_username).filter(|name| !name.is_empty()),
            port: message.source_port,
        });
        let left_s = left_s.map(|left| u32::try_from(left).unwrap_or(u32::MAX));
        self.highest = self.highest.max(message.store_id);
        let number = if self.numbered { message.store_id } else { 0 };
        let Some(msg) = self.broker.restore_message(self.now, &new, left_s, source, number) else { return false };
        self.messages.insert(message.store_id, msg);
        bump(&mut self.counts.messages, true);
        true
    }

    fn session(&mut self, client: &Client<'_>) -> bool {
        bump(&mut self.counts.clients, true);
        let stored = StoredSession {
            client_id: client.id,
            username: Some(client.trusted_username()).filter(|name| !name.is_empty()),
            listener_port: client.listener_port,
            expiry_s: client.session_expiry_interval,
            ends_wall_s: u64::try_from(client.session_expiry_time).ok().filter(|at| *at > 0),
            last_id: client.last_packet_id,
        };
        self.broker.restore_session(self.now, &stored).is_some()
    }

    fn client(&mut self, client_id: &str) -> Option<SessionId> {
        if let Some((known, id)) = &self.client
            && known == client_id
        {
            return Some(*id);
        }
        let id = self.broker.restore_stub(client_id)?;
        self.client = Some((client_id.to_string(), id));
        Some(id)
    }

    fn entry(&mut self, message: &ClientMessage<'_>) -> bool {
        bump(&mut self.counts.client_messages, true);
        let place = place(message);
        let msg = self.messages.get(message.store_id).cloned();
        if msg.is_none() && place != Place::Released {
            return false;
        }
        let Some(id) = self.client(message.client_id) else { return false };
        let entry = StoredEntry {
            place,
            msg,
            id: message.packet_id,
            qos: message.qos,
            retain: message.retain,
            sub_id: message.subscription_id,
        };
        self.broker.restore_entry(id, entry)
    }

    fn subscription(&mut self, subscription: &Subscription<'_>) -> bool {
        bump(&mut self.counts.subscriptions, true);
        let Some(id) = self.client(subscription.client_id) else { return false };
        let stored = StoredSubscription {
            filter: subscription.filter,
            options: SubOptions::from_bits(subscription.options.bits()),
            id: subscription.identifier,
        };
        self.broker.restore_subscription(id, &stored)
    }
}

fn bump(count: &mut u64, by_one: bool) {
    *count = count.saturating_add(u64::from(by_one));
}

/// How far a message is. One that says it was sent, or carries DUP, is sent again under its identifier; of one whose PUBREC
/// came only the PUBREL.
fn place(message: &ClientMessage<'_>) -> Place {
    match (message.direction, message.state) {
        (Direction::In, _) => Place::Received,
        (Direction::Out, _) if message.qos == QoS::AtMostOnce => Place::Queued,
        (Direction::Out, State::AwaitPubcomp | State::ResendPubrel) => Place::Released,
        (Direction::Out, State::AwaitPuback | State::AwaitPubrec) => Place::Sent,
        (Direction::Out, _) if message.dup => Place::Sent,
        (Direction::Out, _) => Place::Queued,
    }
}

//! A whole store at once, for tests and tools; a broker takes chunk by chunk.

use std::collections::BTreeMap;

use super::chunk::{Chunk, Client, ClientMessage, Config, Message, Retained, Subscription};
use super::fault::{Damage, Findings};
use super::read::Reader;
use super::write::{Unwritable, Writer};

/// What a file holds, by kind, each in the order of the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Db<'a> {
    /// About the file; C Mosquitto loads one without it.
    pub config: Option<Config>,
    /// Messages, which queues and retained messages refer to by store id.
    pub messages: Vec<Message<'a>>,
    /// Retained messages.
    pub retained: Vec<Retained>,
    /// Sessions.
    pub clients: Vec<Client<'a>>,
    /// What the sessions have queued and in flight.
    pub client_messages: Vec<ClientMessage<'a>>,
    /// Their subscriptions.
    pub subscriptions: Vec<Subscription<'a>>,
}

/// What could be read of a file.
#[derive(Debug)]
pub struct Loaded<'a> {
    /// The file's version.
    pub version: u32,
    /// Everything but what was damaged.
    pub db: Db<'a>,
    /// Where it is broken: empty for a sound file. Only the last can be final.
    pub damage: Vec<Damage>,
    /// What was odd.
    pub findings: Findings,
}

impl<'a> Db<'a> {
    /// Reads a whole file.
    #[must_use]
    pub fn from_slice(mut file: &'a [u8]) -> Loaded<'a> {
        let mut reader = Reader::new();
        let mut db = Db::default();
        let mut damage = Vec::new();
        loop {
            match reader.next_of(&mut file) {
                Ok(None) => break,
                Ok(Some(item)) => db.add(item.chunk),
                Err(fault) => damage.push(fault),
            }
        }
        Loaded { version: reader.version(), db, damage, findings: reader.findings().clone() }
    }

    /// Adds what a chunk holds.
    pub fn add(&mut self, chunk: Chunk<'a>) {
        match chunk {
            Chunk::Config(config) => self.config = Some(config),
            Chunk::Message(message) => self.messages.push(message),
            Chunk::ClientMessage(message) => self.client_messages.push(message),
            Chunk::Retained(retained) => self.retained.push(retained),
            Chunk::Subscription(subscription) => self.subscriptions.push(subscription),
            Chunk::Client(client) => self.clients.push(client),
            Chunk::Dropped(_) | Chunk::Unknown(_) => {}
        }
    }

    /// Appends the whole file of version 6, in the order that C Mosquitto 2 writes. What is queued for a client that is
    /// not among [`Db::clients`] comes behind the last one.
    ///
    /// # Errors
    /// [`Unwritable`] for the first value that cannot be written; the file is not whole then.
    pub fn write(&self, writer: Writer, out: &mut Vec<u8>) -> Result<(), Unwritable> {
        writer.header(out);
        let mut put = |chunk: Chunk<'_>| writer.chunk(out, &chunk);
        self.config.map_or(Ok(()), |config| put(Chunk::Config(config)))?;
        for message in &self.messages {
            put(Chunk::Message(message.clone()))?;
        }
        let mut queues: BTreeMap<&str, Vec<&ClientMessage<'_>>> = BTreeMap::new();
        for message in &self.client_messages {
            queues.entry(message.client_id).or_default().push(message);
        }
        for client in &self.clients {
            put(Chunk::Client(*client))?;
            for message in queues.remove(client.id).unwrap_or_default() {
                put(Chunk::ClientMessage(*message))?;
            }
        }
        for message in queues.into_values().flatten() {
            put(Chunk::ClientMessage(*message))?;
        }
        for subscription in &self.subscriptions {
            put(Chunk::Subscription(*subscription))?;
        }
        for retained in &self.retained {
            put(Chunk::Retained(*retained))?;
        }
        Ok(())
    }
}

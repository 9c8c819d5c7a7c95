//! Figures.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::{Facts, View};
use crate::persist::chunk::{Chunk, Kind};
use crate::persist::read::Item;

/// How many chunks there are of each kind.
#[derive(Default)]
pub(super) struct Stats {
    counts: BTreeMap<u32, u64>,
}

impl View for Stats {
    fn chunk(&mut self, _out: &mut dyn Write, item: &Item<'_>) -> io::Result<()> {
        *self.counts.entry(item.chunk.number()).or_default() += 1;
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write, _facts: &Facts<'_>) -> io::Result<()> {
        for (name, kind) in [
            ("CFG", Kind::Config),
            ("BASE_MSG", Kind::Message),
            ("CLIENT_MSG", Kind::ClientMessage),
            ("RETAIN", Kind::Retained),
            ("SUB", Kind::Subscription),
            ("CLIENT", Kind::Client),
        ] {
            let name = format!("DB_CHUNK_{name}:");
            writeln!(out, "{name:<21}{}", self.counts.get(&(kind as u32)).unwrap_or(&0))?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Client {
    id: String,
    subscriptions: u64,
    subscription_bytes: u64,
    messages: u64,
    message_bytes: u64,
}

/// What each client has.
#[derive(Default)]
pub(super) struct ClientStats {
    clients: Vec<Client>,
    by_id: BTreeMap<String, usize>,
    /// Bytes of messages by store id.
    messages: BTreeMap<u64, u32>,
}

impl ClientStats {
    fn client(&mut self, id: &str) -> &mut Client {
        let next = self.clients.len();
        let index = match self.by_id.get(id) {
            Some(index) => *index,
            None => {
                self.by_id.insert(id.into(), next);
                self.clients.push(Client { id: id.into(), ..Client::default() });
                next
            }
        };
        &mut self.clients[index]
    }
}

impl View for ClientStats {
    fn chunk(&mut self, _out: &mut dyn Write, item: &Item<'_>) -> io::Result<()> {
        match &item.chunk {
            Chunk::Message(message) => drop(self.messages.insert(message.store_id, item.length)),
            Chunk::Client(client) => _ = self.client(client.id),
            Chunk::ClientMessage(message) => {
                let base = self.messages.get(&message.store_id).copied().unwrap_or(0);
                let client = self.client(message.client_id);
                client.messages += 1;
                client.message_bytes += u64::from(item.length) + u64::from(base);
            }
            Chunk::Subscription(subscription) => {
                let client = self.client(subscription.client_id);
                client.subscriptions += 1;
                client.subscription_bytes += u64::from(item.length);
            }
            Chunk::Config(_) | Chunk::Retained(_) | Chunk::Dropped(_) | Chunk::Unknown(_) => {}
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write, _facts: &Facts<'_>) -> io::Result<()> {
        self.clients.iter().try_for_each(|client| {
            let Client { id, subscriptions, subscription_bytes, messages, message_bytes } = client;
            writeln!(out, "SC: {subscriptions} SS: {subscription_bytes} MC: {messages} MS: {message_bytes}   {id}")
        })
    }
}

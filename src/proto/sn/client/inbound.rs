//! Messages from the gateway: topic ids it gives out, and what of QoS 2 has come already [SN 6.10].

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Client, Event, Received};
use crate::proto::sn::wire::{Message, Publish, ReturnCode, TopicAck, TopicRef};
use crate::wire::{QoS, topic};

/// Exchanges of QoS 2 that a gateway may leave open; over it, new ones are answered with congestion.
const MAX_OPEN: usize = 1024;
/// Finished exchanges that are remembered for a retry interval.
const MAX_FINISHED: usize = 64;

/// A finished exchange of QoS 2: the network may still hold a copy of its PUBLISH.
struct Finished {
    msg_id: u16,
    content: u64,
    until_ms: u64,
}

/// What of QoS 2 has come.
#[derive(Default)]
pub(super) struct Inbound {
    /// Messages that were handed on and wait for PUBREL, with a hash of their content.
    open: BTreeMap<u16, u64>,
    finished: VecDeque<Finished>,
}

impl Inbound {
    /// A connection begins. Without a word about whether the gateway still has the session, a finished exchange says
    /// nothing about a new message.
    pub(super) fn on_connected(&mut self, clean_session: bool) {
        self.finished.clear();
        if clean_session {
            self.open.clear();
        }
    }

    /// Whether a late copy of a finished exchange is all this is. The content is compared too, for gateways that use few
    /// message ids again and again.
    fn is_echo(&self, now_ms: u64, msg_id: u16, content: u64) -> bool {
        let same = |old: &Finished| old.msg_id == msg_id && old.content == content && now_ms < old.until_ms;
        self.finished.iter().any(same)
    }

    /// PUBREL: the exchange is over.
    fn release(&mut self, now_ms: u64, msg_id: u16, memory_ms: u64) {
        let Some(content) = self.open.remove(&msg_id) else { return };
        if self.finished.len() >= MAX_FINISHED {
            self.finished.pop_front();
        }
        self.finished.push_back(Finished { msg_id, content, until_ms: now_ms.saturating_add(memory_ms) });
    }
}

/// A hash of everything that makes two messages the same.
fn content_of(publish: &Publish<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (publish.topic, publish.retain, publish.data).hash(&mut hasher);
    hasher.finish()
}

impl Client {
    pub(super) fn on_register(&mut self, now_ms: u64, topic_id: u16, msg_id: u16, name: &[u8]) {
        let name = std::str::from_utf8(name).ok().filter(|name| topic::check_name(name).is_ok());
        let code = match name {
            _ if topic_id == 0 || topic_id == u16::MAX => ReturnCode::INVALID_TOPIC_ID,
            None => ReturnCode::NOT_SUPPORTED,
            Some(name) if self.topics.learn(topic_id, name) => ReturnCode::ACCEPTED,
            Some(_) => ReturnCode::CONGESTION,
        };
        self.send(now_ms, &Message::Regack(TopicAck { topic_id, msg_id, code }));
    }

    pub(super) fn on_publish(&mut self, now_ms: u64, publish: &Publish<'_>) {
        // Only clients publish with QoS −1.
        let Some(qos) = publish.qos.qos() else { return };
        let (topic_id, msg_id) = (publish.topic.id(), publish.msg_id);
        let answer = |code| Message::Puback(TopicAck { topic_id, msg_id, code });
        if qos != QoS::AtMostOnce && msg_id == 0 {
            return;
        }
        let Some(topic) = self.topics.known(publish.topic) else {
            let code = match publish.topic {
                TopicRef::Reserved(_) => ReturnCode::NOT_SUPPORTED,
                _ => ReturnCode::INVALID_TOPIC_ID,
            };
            return self.send(now_ms, &answer(code));
        };
        if qos == QoS::ExactlyOnce {
            let content = content_of(publish);
            if self.inbound.open.contains_key(&msg_id) || self.inbound.is_echo(now_ms, msg_id, content) {
                return self.send(now_ms, &Message::Pubrec { msg_id });
            }
            if self.inbound.open.len() >= MAX_OPEN {
                return self.send(now_ms, &answer(ReturnCode::CONGESTION));
            }
            self.inbound.open.insert(msg_id, content);
        }
        let (retain, dup, payload) = (publish.retain, publish.dup, publish.data.to_vec());
        self.events.push_back(Event::Message(Received { topic, qos, retain, dup, msg_id, payload }));
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.send(now_ms, &answer(ReturnCode::ACCEPTED)),
            QoS::ExactlyOnce => self.send(now_ms, &Message::Pubrec { msg_id }),
        }
    }

    pub(super) fn on_pubrel(&mut self, now_ms: u64, msg_id: u16) {
        let memory_ms = self.settings.retry_ms;
        self.inbound.release(now_ms, msg_id, memory_ms);
        self.send(now_ms, &Message::Pubcomp { msg_id });
    }
}

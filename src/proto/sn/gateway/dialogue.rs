//! Clients between CONNECT and CONNACK that are being asked for their will [SN 6.2].
//!
//! ```text
//! CONNECT(will) ─WILLTOPICREQ▶ AwaitWillTopic ─WILLTOPIC, WILLMSGREQ▶ AwaitWillMsg ─WILLMSG▶ connected
//! ```
//!
//! Nothing else of a client exists yet, and whoever had its client id keeps it until CONNACK. The oldest stands in front, so the
//! front is the next that has to be asked again.

use std::collections::VecDeque;

use super::super::addr::{Addr, Source};
use crate::wire::QoS;

/// Dialogues at once.
const MAX: usize = 1024;
/// Of these, from one address without regard to the port, and as many again from the nodes of one forwarder.
const MAX_PER_IP: usize = 64;
/// Bytes of client ids and will topics that all of them may hold.
const MAX_BYTES: usize = 256 * 1024;

/// What a CONNECT said that was checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Applicant {
    pub(super) client_id: Box<str>,
    pub(super) assigned: bool,
    pub(super) clean: bool,
    pub(super) will: bool,
    pub(super) keepalive_s: u16,
    pub(super) username: Option<String>,
    pub(super) proof: crate::broker::auth::login::Proof,
}

/// What is waited for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    AwaitWillTopic,
    AwaitWillMsg { topic: Box<str>, qos: QoS, retain: bool },
}

/// One of them.
#[derive(Debug)]
pub(super) struct Dialogue {
    pub(super) addr: Addr,
    pub(super) socket: u16,
    pub(super) node: Box<[u8]>,
    pub(super) door: u16,
    pub(super) applicant: Applicant,
    pub(super) step: Step,
    pub(super) due_ms: u64,
    pub(super) tries: u8,
}

impl Dialogue {
    pub(super) fn source(&self) -> Source<'_> {
        Source { socket: self.socket, addr: self.addr, node: &self.node }
    }

    fn size(&self) -> usize {
        let topic = if let Step::AwaitWillMsg { topic, .. } = &self.step { topic.len() } else { 0 };
        self.applicant.client_id.len().saturating_add(topic)
    }
}

/// See the module documentation.
#[derive(Default)]
pub(super) struct Dialogues {
    queue: VecDeque<Dialogue>,
    bytes: usize,
}

impl Dialogues {
    /// Adds one, to be looked at after all others; gives it back when there are too many.
    pub(super) fn add(&mut self, dialogue: Dialogue) -> Result<(), Box<Dialogue>> {
        let ip = dialogue.addr.ip();
        let from_there = self
            .queue
            .iter()
            .filter(|other| other.addr.ip() == ip && other.node.is_empty() == dialogue.node.is_empty());
        let bytes = self.bytes.saturating_add(dialogue.size());
        if self.queue.len() >= MAX || bytes > MAX_BYTES || from_there.count() >= MAX_PER_IP {
            return Err(Box::new(dialogue));
        }
        self.bytes = bytes;
        self.queue.push_back(dialogue);
        Ok(())
    }

    /// Takes out the one with this place.
    pub(super) fn take(&mut self, from: &Source<'_>) -> Option<Dialogue> {
        let at = self.queue.iter().position(|dialogue| dialogue.source() == *from)?;
        self.remove(at)
    }

    /// Takes out the one for this client id: the newer wins.
    pub(super) fn take_client(&mut self, client_id: &str) -> Option<Dialogue> {
        let at = self.queue.iter().position(|dialogue| *dialogue.applicant.client_id == *client_id)?;
        self.remove(at)
    }

    /// Takes out the front if its time has come.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Option<Dialogue> {
        if self.next_deadline()? > now_ms { None } else { self.remove(0) }
    }

    fn remove(&mut self, at: usize) -> Option<Dialogue> {
        let dialogue = self.queue.remove(at)?;
        self.bytes = self.bytes.saturating_sub(dialogue.size());
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        Some(dialogue)
    }

    /// The listener is closed.
    pub(super) fn forget_door(&mut self, number: u16) {
        self.queue.retain(|dialogue| dialogue.door != number);
        self.bytes = self.queue.iter().map(Dialogue::size).sum();
    }

    /// How many came in there.
    pub(super) fn of_door(&self, number: u16) -> usize {
        self.queue.iter().filter(|dialogue| dialogue.door == number).count()
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.queue.front().map(|dialogue| dialogue.due_ms)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}

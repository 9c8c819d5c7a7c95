//! Late copies of QoS 2 messages. A network without order may hold a copy of a PUBLISH back until its exchange is over, and
//! what looks like a new message then is none [SN 6.13]. So what a client released lately is remembered for a retry interval:
//! nothing lives longer in a network that these timers fit.
//!
//! The content counts beside the message id, for small devices use few ids again and again. One that was seen to do so is
//! taken at its word: it may mean the same message once more.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

/// As many released messages of one client are remembered.
const MAX: usize = 16;

struct Released {
    msg_id: u16,
    content: u64,
    until_ms: u64,
}

/// What one client released lately, oldest first.
#[derive(Default)]
pub(super) struct Echoes {
    released: VecDeque<Released>,
    /// It used an id for something else while its last message was remembered.
    reuses_ids: bool,
}

impl Echoes {
    /// PUBREL came for this message.
    pub(super) fn remember(&mut self, msg_id: u16, content: u64, until_ms: u64) {
        if self.released.len() >= MAX {
            self.released.pop_front();
        }
        self.released.push_back(Released { msg_id, content, until_ms });
    }

    /// Whether this is a copy of what was released.
    pub(super) fn is_copy(&mut self, now_ms: u64, msg_id: u16, content: u64) -> bool {
        let mut same_id = self.released.iter().filter(|old| old.msg_id == msg_id && now_ms < old.until_ms).peekable();
        let used = same_id.peek().is_some();
        let same = same_id.any(|old| old.content == content);
        self.reuses_ids |= used && !same;
        same && !self.reuses_ids
    }

    /// Forgets what no copy can be left of.
    pub(super) fn expire(&mut self, now_ms: u64) {
        while self.released.front().is_some_and(|old| old.until_ms <= now_ms) {
            self.released.pop_front();
        }
    }

    /// Nothing is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.released.is_empty()
    }
}

/// What makes two messages the same.
pub(super) fn content(topic: &str, payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (topic, payload).hash(&mut hasher);
    hasher.finish()
}

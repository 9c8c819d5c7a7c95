//! `[conf: memory_limit]`: what is refused while the heap is over the limit, and what goes on.
//!
//! Refused is whatever may stay: new sessions, subscriptions, messages, topic aliases, a heavier will or user name of a
//! session that exists; and an eighth of the limit further, the buffer of a packet that is not complete. What takes nothing, or gives something back,
//! works as ever: acknowledgements, deliveries, UNSUBSCRIBE, a retained message removed, a session taken up or ended.
//! Thus the heap stays near the limit: beyond it is at most that eighth, what one read of one connection may cause, and
//! for each connection and session the small sums below.

use super::{Broker, ConnectRequest, SessionId};
use crate::notice;
use crate::timer::Now;
use crate::wire::PacketId;

/// Bytes of an incomplete packet that a connection may keep all the same: most packets, among them all that free memory
/// and nearly every CONNECT, are smaller.
pub const SMALL_PACKET: usize = 4096;
/// Bytes of will and user name that a session may bring back all the same.
const SMALL_DETAILS: usize = 1024;
/// What part of the limit is there once more for packets that are not complete.
const ROOM: u64 = 8;
/// How often the log tells that the limit is reached.
const NOTE_EVERY_MS: u64 = 60_000;

/// What the log was told.
#[derive(Default)]
pub(crate) struct Noted {
    over: bool,
    last_ms: Option<u64>,
}

impl Broker {
    /// True while the heap is over `memory_limit`: new sessions, subscriptions and messages are refused.
    #[must_use]
    pub fn over_memory(&self) -> bool {
        self.settings.memory_limit != 0 && self.stats.heap > self.settings.memory_limit
    }

    /// True while the heap is so far over `memory_limit` that not even packets may be received in part. The room between
    /// lets them come in whole, so that their senders learn why they are refused.
    #[must_use]
    pub fn over_memory_by_far(&self) -> bool {
        let limit = self.settings.memory_limit;
        self.over_memory() && self.stats.heap > limit.saturating_add(limit / ROOM)
    }

    /// Tells the heap bytes in use. Cheap, and to be called before every piece of work: many connections may each add a
    /// little in one turn.
    pub fn set_heap(&mut self, bytes: usize) {
        self.stats.heap = bytes as u64;
    }

    /// Logs that the limit is reached or no longer so; a heap that goes to and fro says so once a minute.
    pub fn note_memory(&mut self, now: Now) {
        let over = self.over_memory();
        if over == self.memory_noted.over {
            return;
        }
        if over {
            if self.memory_noted.last_ms.is_some_and(|last| now.mono_ms < last.saturating_add(NOTE_EVERY_MS)) {
                return;
            }
            self.memory_noted.last_ms = Some(now.mono_ms);
            log::warn!(
                "Warning: memory_limit is reached ({} of {} bytes): new clients, subscriptions and messages are refused.",
                self.stats.heap,
                self.settings.memory_limit
            );
        } else {
            notice!("The memory in use is below memory_limit again.");
        }
        self.memory_noted.over = over;
    }

    /// True when a client may not come back to its session `id`, because it brings more than it had.
    pub(crate) fn brings_too_much(&self, id: SessionId, request: &ConnectRequest<'_>) -> bool {
        if !self.over_memory() {
            return false;
        }
        let will = request.will.as_ref().map_or(0, super::will::Will::size);
        let brought = will.saturating_add(request.username.map_or(0, str::len));
        let details = self.sessions.get(id).and_then(|session| session.details.as_ref());
        let had = details.map_or(0, |details| {
            let will = details.will.as_ref().map_or(0, super::will::Will::size);
            will.saturating_add(details.username.as_ref().map_or(0, |name| name.len()))
        });
        brought > had.max(SMALL_DETAILS)
    }

    /// True when a QoS 2 message with this packet identifier and of this size is stored until PUBREL: to get it again
    /// takes no memory, and to refuse it would let go of one that was accepted.
    #[must_use]
    pub fn holds_qos2(&self, id: SessionId, packet: PacketId, topic_len: usize, payload_len: usize) -> bool {
        let flow = self.sessions.get(id).and_then(|session| session.flow.as_ref());
        flow.and_then(|flow| flow.inbound.get(&packet.get()))
            .is_some_and(|stored| stored.msg.topic().len() == topic_len && stored.msg.payload().len() == payload_len)
    }
}

//! Acknowledgements that wait until what they promise is on disk, in order.

use std::collections::VecDeque;

use super::Turn;
use crate::broker::changes::ChangeSeq;

/// An encoded acknowledgement and the change it waits for.
struct Deferred {
    seq: ChangeSeq,
    bytes: Vec<u8>,
}

/// The acknowledgements of one connection that wait.
#[derive(Default)]
pub(super) struct Deferrals {
    waiting: VecDeque<Deferred>,
}

impl Deferrals {
    /// True when nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// True if an acknowledgement that begins with this byte waits.
    pub(super) fn holds(&self, first: u8) -> bool {
        self.waiting.iter().any(|waiting| waiting.bytes.first() == Some(&first))
    }

    /// True when an acknowledgement of everything decided so far may leave at once.
    pub(super) fn may_pass(&self, turn: &Turn<'_>) -> bool {
        self.is_empty() && turn.broker.is_synced(turn.broker.last_change())
    }

    /// Keeps an acknowledgement of everything decided so far until that is on disk.
    pub(super) fn wait(&mut self, turn: &mut Turn<'_>, bytes: Vec<u8>) {
        turn.out.owe(bytes.len());
        if self.is_empty() {
            turn.broker.wait_for_sync(turn.conn);
        }
        self.waiting.push_back(Deferred { seq: turn.broker.last_change(), bytes });
    }

    /// Sends what may leave by now.
    pub(super) fn release(&mut self, turn: &mut Turn<'_>) {
        while self.waiting.front().is_some_and(|next| turn.broker.is_synced(next.seq)) {
            let Some(next) = self.waiting.pop_front() else { break };
            turn.out.packet().extend_from_slice(&next.bytes);
            turn.broker.stats.packets_out += 1;
        }
        if !self.is_empty() {
            turn.broker.wait_for_sync(turn.conn);
        }
    }
}

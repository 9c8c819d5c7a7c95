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

    /// True when an acknowledgement of this change may leave at once.
    pub(super) fn may_pass(&self, turn: &Turn<'_>, seq: ChangeSeq) -> bool {
        self.is_empty() && turn.broker.is_synced(seq)
    }

    /// Keeps an acknowledgement of this change until that is on disk and those before it have left.
    pub(super) fn wait(&mut self, turn: &mut Turn<'_>, seq: ChangeSeq, bytes: Vec<u8>) {
        turn.out.owe(bytes.len());
        if self.is_empty() {
            turn.broker.wait_for_sync(seq, turn.conn);
        }
        self.waiting.push_back(Deferred { seq, bytes });
    }

    /// Sends what may leave by now.
    pub(super) fn release(&mut self, turn: &mut Turn<'_>) {
        let before = self.waiting.len();
        while self.waiting.front().is_some_and(|next| turn.broker.is_synced(next.seq)) {
            let Some(next) = self.waiting.pop_front() else { break };
            turn.out.packet().extend_from_slice(&next.bytes);
            turn.broker.stats.packets_out += 1;
        }
        // Who released nothing is on the list already.
        if let Some(next) = self.waiting.front().filter(|_| self.waiting.len() < before) {
            turn.broker.wait_for_sync(next.seq, turn.conn);
        }
    }
}

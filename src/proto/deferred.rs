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

    /// Sends an acknowledgement of everything decided so far: at once if that is on disk, else in its turn.
    pub(super) fn acknowledge(&mut self, turn: &mut Turn<'_>, encode: impl FnOnce(&mut Vec<u8>)) {
        let seq = turn.broker.last_change();
        if self.is_empty() && turn.broker.is_synced(seq) {
            let out = turn.out.packet();
            let before = out.len();
            encode(out);
            let len = out.len().saturating_sub(before);
            turn.out.owe(len);
            turn.broker.stats.packets_out += 1;
            return;
        }
        let mut bytes = Vec::new();
        encode(&mut bytes);
        turn.out.owe(bytes.len());
        if self.is_empty() {
            turn.broker.wait_for_sync(turn.conn);
        }
        self.waiting.push_back(Deferred { seq, bytes });
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

//! The seam between the core and durable storage. The core records each change that an acknowledgement promises; the
//! acknowledgement may leave once the change is on disk. Without a journal nothing is recorded and everything counts as
//! synced.

use std::collections::VecDeque;

use super::SessionId;
use super::message::Msg;
use crate::wire::PacketId;

/// The most changes that wait for persistence to fetch them; from there on no more input is read.
pub const CAPACITY: usize = 4096;

/// The number of a change; an acknowledgement leaves when its number is synced.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct ChangeSeq(u64);

/// Something a restart must not forget.
#[derive(Clone, Debug)]
pub enum Change {
    /// A session came to be or was resumed.
    Session(SessionId),
    /// A session ended.
    SessionEnded {
        /// Its client id.
        client_id: Box<str>,
    },
    /// A filter was subscribed or its options changed.
    Subscribed {
        /// Whose.
        session: SessionId,
        /// The filter with its `$share` part.
        filter: Box<str>,
    },
    /// A filter was unsubscribed.
    Unsubscribed {
        /// Whose.
        session: SessionId,
        /// The filter with its `$share` part.
        filter: Box<str>,
    },
    /// A message was routed: retained, queued for its sessions, or both.
    Published(Msg),
    /// A QoS 2 message was stored until its PUBREL.
    Stored {
        /// Whose.
        session: SessionId,
        /// Under which identifier.
        id: PacketId,
        /// The message.
        msg: Msg,
    },
    /// An outgoing message moved on or was finished.
    Acknowledged {
        /// By whom.
        session: SessionId,
        /// Its identifier.
        id: PacketId,
    },
}

/// The numbered changes. Empty and free while no journal listens.
#[derive(Default)]
pub struct Changes {
    journal: bool,
    last: ChangeSeq,
    synced: ChangeSeq,
    waiting: VecDeque<Change>,
}

impl Changes {
    /// From now on changes are recorded, and acknowledgements wait for [`Changes::set_synced`].
    pub fn start_journal(&mut self) {
        self.journal = true;
    }

    /// Records what `change` makes, if anybody wants to know.
    pub(crate) fn record(&mut self, change: impl FnOnce() -> Change) {
        if self.journal {
            self.last.0 += 1;
            self.waiting.push_back(change());
        }
    }

    /// The number of the last change: what an acknowledgement of everything so far has to wait for.
    #[must_use]
    pub fn last(&self) -> ChangeSeq {
        self.last
    }

    /// True when the change with this number is on disk.
    #[must_use]
    pub fn is_synced(&self, seq: ChangeSeq) -> bool {
        seq <= self.synced
    }

    /// True when persistence has fallen so far behind that reading from clients has to pause.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= CAPACITY
    }

    /// Hands the recorded changes to persistence, in order, with the number of the last.
    pub fn drain(&mut self) -> (impl Iterator<Item = Change> + '_, ChangeSeq) {
        (self.waiting.drain(..), self.last)
    }

    pub(crate) fn set_synced(&mut self, seq: ChangeSeq) {
        self.synced = self.synced.max(seq.min(self.last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_journal_everything_is_synced() {
        let mut changes = Changes::default();
        changes.record(|| unreachable!());
        assert!(changes.is_synced(changes.last()) && !changes.is_full());
    }

    #[test]
    fn with_a_journal_a_change_is_synced_when_it_is_said_to_be() {
        let mut changes = Changes::default();
        changes.start_journal();
        changes.record(|| Change::SessionEnded { client_id: "a".into() });
        let first = changes.last();
        changes.record(|| Change::SessionEnded { client_id: "b".into() });
        let second = changes.last();
        assert_eq!(changes.drain().0.count(), 2);
        assert!(!changes.is_synced(first));
        changes.set_synced(first);
        assert!(changes.is_synced(first) && !changes.is_synced(second));
    }
}

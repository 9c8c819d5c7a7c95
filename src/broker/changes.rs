//! The seam between the core and durable storage. The core records each change that an acknowledgement promises; the
//! acknowledgement may leave once the change is on disk. Without a journal nothing is recorded and everything counts as
//! synced.
//!
//! Changes are recorded as bytes, in groups: what one verb of the core does is one group, so that a QoS 2 message is
//! never half released. A message is recorded once, when the first change refers to it, and again after a snapshot only
//! if something refers to it anew. Whoever keeps the journal takes the groups with [`Changes::take`], puts a checksum before
//! each, and says with [`Broker::set_synced`](super::Broker::set_synced) what is on disk.

pub mod record;

use std::collections::BTreeSet;

use super::ConnId;
use super::message::Msg;
use crate::timer::Now;
use record::{Body, Change};

/// Bytes of recorded changes that wait for persistence to fetch them; from there on no more input is read.
pub const CAPACITY: usize = 1024 * 1024;

/// Bytes that are left free before each group: its length, little endian, and room for checksums.
pub const GROUP_HEAD: usize = 12;

/// The number of a change; an acknowledgement leaves when its number is synced.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct ChangeSeq(u64);

/// The numbered changes. Empty and free while no journal listens.
#[derive(Default)]
pub struct Changes {
    log: Option<Box<Log>>,
    last: ChangeSeq,
    synced: ChangeSeq,
    /// The last change before the packet that is being handled.
    before: ChangeSeq,
    /// Connections that hold something back, and until when.
    waiting: Vec<(ChangeSeq, ConnId)>,
}

/// What was recorded and not yet fetched.
#[derive(Default)]
struct Log {
    groups: Vec<u8>,
    /// Where the open group starts, if one is.
    open: Option<usize>,
    /// Verbs under way, one within another.
    depth: u32,
    /// The first number of a message that is younger than the last snapshot.
    first_number: u64,
    /// Older messages that were recorded since then all the same.
    recorded: BTreeSet<u64>,
    now: Now,
    refusing: bool,
    /// Changes are being lost: only a snapshot can make up for them.
    broken: bool,
    /// The last change before those that were lost, until a snapshot that makes up for them is on disk.
    gap: Option<ChangeSeq>,
}

impl Changes {
    /// From now on changes are recorded, and acknowledgements wait for
    /// [`Broker::set_synced`](super::Broker::set_synced). Messages must have been [numbered](super::message::number_from)
    /// before the first was made.
    pub fn start_journal(&mut self) {
        let first_number = super::message::next_number();
        self.log = Some(Box::new(Log { first_number, ..Log::default() }));
    }

    /// True when changes are recorded.
    #[must_use]
    pub fn has_journal(&self) -> bool {
        self.log.is_some()
    }

    /// What time it is for the messages that are recorded from now on.
    pub fn set_now(&mut self, now: Now) {
        if let Some(log) = &mut self.log {
            log.now = now;
        }
    }

    /// Records what `change` makes, if anybody wants to know.
    pub(crate) fn record<'c>(&mut self, change: impl FnOnce() -> Change<'c>) {
        if let Some(log) = &mut self.log {
            log.note_gap(self.last);
            self.last.0 += 1;
            log.record(&change());
        }
    }

    /// As [`Changes::record`], for a change that refers to `msg` and makes others need it.
    pub(crate) fn record_with<'c>(&mut self, msg: &Msg, change: impl FnOnce(u64) -> Change<'c>) {
        let Some(log) = &mut self.log else { return };
        log.note_gap(self.last);
        self.last.0 += 1;
        log.begin();
        log.record_message(msg);
        log.record(&change(msg.number()));
        log.end();
    }

    /// What is recorded until [`Changes::end`] belongs together.
    pub(crate) fn begin(&mut self) {
        if let Some(log) = &mut self.log {
            log.begin();
        }
    }

    /// Ends what the last [`Changes::begin`] began.
    pub(crate) fn end(&mut self) {
        if let Some(log) = &mut self.log {
            log.end();
        }
    }

    /// Records the moment of a snapshot. What it holds need not be recorded again; also changes that were lost are in it.
    pub fn mark_snapshot(&mut self, token: u32) {
        let Some(log) = &mut self.log else { return };
        log.broken = false;
        self.last.0 += 1;
        log.record(&Change::Snapshot { token, gap: log.gap.is_some() });
        log.first_number = super::message::next_number();
        log.recorded = BTreeSet::new();
    }

    /// Says that the snapshot whose moment was marked last is on disk.
    pub fn snapshot_lasts(&mut self) {
        if let Some(log) = self.log.as_mut().filter(|log| !log.broken) {
            log.gap = None;
        }
    }

    /// The number of the last change: what an acknowledgement of everything so far has to wait for.
    #[must_use]
    pub fn last(&self) -> ChangeSeq {
        self.last
    }

    /// What is recorded from here on, the packet that is being handled brought about.
    pub(crate) fn begin_packet(&mut self) {
        self.before = self.last;
    }

    /// What an acknowledgement of that packet has to wait for. `lasting` tells whether its session outlives the connection:
    /// then it may be a repetition, and promise what an earlier packet brought about.
    pub(crate) fn promised(&self, lasting: bool) -> ChangeSeq {
        if lasting || self.last > self.before { self.last } else { ChangeSeq::default() }
    }

    /// True when the change with this number is on disk.
    #[must_use]
    pub fn is_synced(&self, seq: ChangeSeq) -> bool {
        seq <= self.synced
    }

    /// True when persistence has fallen so far behind that reading from clients has to pause.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.groups.len() >= CAPACITY && !log.refusing)
    }

    /// Bytes that wait to be fetched.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.log.as_ref().map_or(0, |log| log.groups.len())
    }

    /// True when somebody holds something back until what was recorded is on disk.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Hands the recorded groups to persistence, each behind [`GROUP_HEAD`] bytes that begin with its length, with the
    /// number of the last change that is kept when they are. `spare` is a buffer to go on with.
    pub fn take(&mut self, spare: Vec<u8>) -> (Vec<u8>, ChangeSeq) {
        let Some(log) = &mut self.log else { return (spare, self.last) };
        (std::mem::replace(&mut log.groups, spare), log.gap.unwrap_or(self.last))
    }

    /// Says whether changes can be stored at the moment. While they cannot, the core takes nothing that it would have to
    /// promise to keep, so that clients are told at once instead of waiting.
    pub fn set_refusing(&mut self, refusing: bool) {
        if let Some(log) = &mut self.log {
            log.refusing = refusing;
        }
    }

    /// True while no promise can be given.
    #[must_use]
    pub fn is_refusing(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.refusing)
    }

    /// True when changes were lost because they could not be stored for so long: only a snapshot makes up for them.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.broken)
    }

    /// True while changes are missing between what is on disk and what is recorded now.
    #[must_use]
    pub fn has_gap(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.gap.is_some())
    }

    pub(crate) fn set_synced(&mut self, seq: ChangeSeq, dirty: &mut Vec<ConnId>) {
        self.synced = self.synced.max(seq.min(self.last));
        let synced = self.synced;
        self.waiting.retain(|(until, conn)| {
            let due = *until <= synced;
            if due {
                dirty.push(*conn);
            }
            !due
        });
    }

    pub(crate) fn wait(&mut self, until: ChangeSeq, conn: ConnId) {
        self.waiting.push((until, conn));
    }
}

/// The groups that [`Changes::take`] gave, without their heads.
pub fn groups(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (head, rest) = bytes.split_first_chunk::<GROUP_HEAD>()?;
        let len = head.first_chunk().map_or(0, |len| u32::from_le_bytes(*len));
        let (group, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
        bytes = rest;
        Some(group)
    })
}

impl Log {
    fn begin(&mut self) {
        self.depth += 1;
    }

    fn end(&mut self) {
        self.depth -= 1;
        if self.depth == 0 {
            self.close();
        }
    }

    /// At a full disk who asks for promises is refused, but what happens without being asked goes on, and is lost when
    /// there is no more room for it.
    fn note_gap(&mut self, last: ChangeSeq) {
        if self.refusing && !self.broken && self.depth == 0 && self.groups.len() >= CAPACITY {
            self.broken = true;
            self.gap.get_or_insert(last);
        }
    }

    fn record(&mut self, change: &Change<'_>) {
        if self.broken {
            return;
        }
        if self.open.is_none() {
            self.open = Some(self.groups.len());
            self.groups.extend_from_slice(&[0; GROUP_HEAD]);
        }
        change.encode(&mut self.groups);
        if self.depth == 0 {
            self.close();
        }
    }

    fn record_message(&mut self, msg: &Msg) {
        let number = msg.number();
        let known = if number >= self.first_number { msg.set_recorded() } else { !self.recorded.insert(number) };
        if known {
            return;
        }
        let left_s = msg.exact_expiry_left_s(self.now);
        let source = msg.source();
        self.record(&Change::Message(Body {
            number,
            expires_wall_s: left_s.map_or(0, |left| self.now.wall_s.saturating_add(u64::from(left)).max(1)),
            qos: msg.qos(),
            retain: msg.retain(),
            topic: msg.topic(),
            props: msg.props(),
            payload: msg.payload(),
            source: source.map(|source| (source.client_id, source.username.unwrap_or_default(), source.port)),
        }));
    }

    fn close(&mut self) {
        let Some(start) = self.open.take() else { return };
        let len = self.groups.len().saturating_sub(start + GROUP_HEAD);
        // Messages have 256 MiB, and what refers to them comes nowhere near.
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        if let Some(head) = self.groups.get_mut(start..start + 4) {
            head.copy_from_slice(&len.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::message::{self, NewMessage};
    use crate::wire::QoS;

    fn ended(client_id: &'static str) -> Change<'static> {
        Change::SessionEnded { client_id }
    }

    /// The groups that wait.
    fn taken(changes: &mut Changes) -> Vec<Vec<u8>> {
        groups(&changes.take(Vec::new()).0).map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn without_a_journal_everything_is_synced() {
        let mut changes = Changes::default();
        changes.record(|| unreachable!());
        assert!(changes.is_synced(changes.last()) && !changes.is_full() && changes.pending() == 0);
    }

    #[test]
    fn with_a_journal_a_change_is_synced_when_it_is_said_to_be() {
        let mut changes = Changes::default();
        changes.start_journal();
        changes.record(|| ended("a"));
        let first = changes.last();
        changes.record(|| ended("b"));
        let second = changes.last();
        assert_eq!(taken(&mut changes).len(), 2);
        assert!(!changes.is_synced(first));
        let (a, b) = (ConnId(crate::slab::Key::from_bits(1)), ConnId(crate::slab::Key::from_bits(2)));
        changes.wait(second, b);
        changes.wait(first, a);
        let mut dirty = Vec::new();
        changes.set_synced(first, &mut dirty);
        assert!(changes.is_synced(first) && !changes.is_synced(second) && changes.is_awaited());
        changes.set_synced(second, &mut dirty);
        assert_eq!((dirty, changes.is_awaited()), (vec![a, b], false));
    }

    #[test]
    fn a_message_is_recorded_once_and_again_after_a_snapshot() {
        message::number_from(10);
        let new =
            NewMessage { topic: "t", payload: b"p", qos: QoS::AtLeastOnce, retain: true, props: &[], expiry_s: None };
        let msg = Msg::new(Now::default(), &new).unwrap();
        let mut changes = Changes::default();
        changes.start_journal();
        let young = Msg::new(Now::default(), &new).unwrap();
        let mut bodies = |msg: &Msg| {
            changes.record_with(msg, |number| Change::Retained { number });
            let groups = taken(&mut changes);
            assert_eq!(groups.len(), 1, "what belongs together");
            let read: Vec<_> = Change::decode_group(&groups[0]).map(Result::unwrap).collect();
            assert_eq!(read.last(), Some(&Change::Retained { number: msg.number() }));
            read.len() - 1
        };
        assert_eq!([bodies(&young), bodies(&young), bodies(&msg), bodies(&msg)], [1, 0, 1, 0]);
        changes.mark_snapshot(1);
        taken(&mut changes);
        let mut bodies = |msg: &Msg| {
            changes.record_with(msg, |number| Change::Retained { number });
            Change::decode_group(&taken(&mut changes)[0]).count() - 1
        };
        assert_eq!([bodies(&young), bodies(&young), bodies(&msg)], [1, 0, 1]);
        message::number_from(0);
    }

    #[test]
    fn a_full_list_stops_the_input_or_with_a_full_disk_breaks() {
        let mut changes = Changes::default();
        changes.start_journal();
        let topic = "t".repeat(60_000);
        while !changes.is_full() {
            changes.record(|| Change::Cleared { topic: &topic });
        }
        changes.set_refusing(true);
        assert!(!changes.is_full() && changes.is_refusing() && !changes.is_broken());
        let pending = changes.pending();
        changes.record(|| ended("a"));
        assert!(changes.is_broken() && changes.pending() == pending);
        let kept = changes.take(Vec::new()).1;
        assert!(kept < changes.last(), "what is lost is not promised");
        changes.record(|| ended("a"));
        assert_eq!(changes.pending(), 0, "the rest would not fit what is missing");
        changes.mark_snapshot(7);
        changes.record(|| ended("b"));
        let (bytes, seq) = changes.take(Vec::new());
        let first = groups(&bytes).next().and_then(|group| Change::decode_group(group).next());
        assert_eq!((first, seq), (Some(Ok(Change::Snapshot { token: 7, gap: true })), kept));
        changes.snapshot_lasts();
        assert_eq!(changes.take(Vec::new()).1, changes.last());
    }
}

//! The messages of one session on their way: queued, in flight to the client, and QoS 2 messages coming from it.
//!
//! Outgoing messages wait in two queues, one for QoS 0 and one for the rest, so that a closed window does not hold
//! QoS 0 back. A message taken from the queue gets a packet identifier and stays in `sent` until the client is done with
//! it. Identifiers are handed out in rising order, so `sent` is sorted by distance from its front and an acknowledgement
//! finds its entry by bisection; an entry that is finished out of order stays as a tombstone until the front passes it.
//!
//! Incoming QoS 2 messages are stored until PUBREL and only then routed [MQTT-4.3.3].

mod stored;

use std::collections::{BTreeMap, VecDeque};

use super::changes::ChangeSeq;
use super::message::Msg;
use super::retain::Cursor;
use crate::wire::{PacketId, QoS};

pub(crate) use stored::EntryCursor;

/// Messages in flight that may be searched one by one for a packet identifier.
const SEARCHED: usize = 1024;

/// Where an outgoing message stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Out {
    /// In a queue; never sent to this client.
    Queued,
    /// It has its identifier, and is sent when that is on disk.
    Held,
    /// QoS 1, sent.
    AwaitPuback,
    /// QoS 2, sent.
    AwaitPubrec,
    /// QoS 2, received by the client; the message itself is no longer needed.
    AwaitPubcomp,
    /// Finished; waits for its turn to leave the front.
    Done,
}

/// One message for one session.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// `None` once the client has received a QoS 2 message, or when the entry is done.
    pub(crate) msg: Option<Msg>,
    /// The v5 subscription identifier, 0 for none.
    pub(crate) sub_id: u32,
    /// The packet identifier once sent. Before that the low bits of a running number, which merge both queues in the
    /// order of arrival.
    pub(crate) id: u16,
    pub(crate) out: Out,
    pub(crate) flags: Flags,
}

/// QoS and flags of a [`Delivery`] in one byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Flags(u8);

impl Flags {
    const RETAIN: u8 = 4;
    const SHARED: u8 = 8;

    pub(crate) fn new(qos: QoS, retain: bool, shared: bool) -> Flags {
        Flags(qos as u8 | if retain { Flags::RETAIN } else { 0 } | if shared { Flags::SHARED } else { 0 })
    }

    pub(crate) fn qos(self) -> QoS {
        QoS::from_bits(self.0 & 3).unwrap_or_default()
    }

    pub(crate) fn retain(self) -> bool {
        self.0 & Flags::RETAIN != 0
    }

    /// Where a message with this QoS stands when it has been sent.
    fn sent(self) -> Out {
        match self.qos() {
            QoS::ExactlyOnce => Out::AwaitPubrec,
            _ => Out::AwaitPuback,
        }
    }

    /// True when it came through a shared subscription, so another member may have it if this session ends.
    pub(crate) fn shared(self) -> bool {
        self.0 & Flags::SHARED != 0
    }
}

impl Delivery {
    fn payload_len(&self) -> u64 {
        self.msg.as_ref().map_or(0, |msg| u64::from(msg.payload_len()))
    }
}

/// A QoS 2 message from the client that waits for its PUBREL.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) msg: Msg,
    /// The client has already repeated it once on this connection.
    pub(crate) repeated: bool,
    /// Its PUBREC waits for a slot in the window (v3 only).
    pub(crate) withheld: bool,
}

/// A retained look-up that goes on in slices until the client has everything.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) filter: Box<str>,
    pub(crate) cursor: Cursor,
    pub(crate) qos: QoS,
    pub(crate) sub_id: u32,
}

/// What a session does with its messages. Boxed in the session, absent while there is nothing to do.
#[derive(Default, Debug)]
pub(crate) struct Flow {
    queue: VecDeque<Delivery>,
    qos0: VecDeque<Delivery>,
    sent: VecDeque<Delivery>,
    /// Entries at the front of `sent` that were sent on an earlier connection and not yet again.
    resend: Resend,
    /// Entries at the end of `sent` that are [`Out::Held`], and until when.
    held: usize,
    held_until: ChangeSeq,
    /// Tombstones in `sent`.
    done: usize,
    /// False after an identifier had to be skipped: `sent` is then searched from the front.
    unsorted: bool,
    arrivals: u16,
    /// Messages at the front of `queue` and of `qos0` that were queued under other rules of access or for another user:
    /// whether the client may read them has to be asked again.
    unchecked: [usize; 2],
    /// QoS 0 messages in `queue`; they came while the client was away [conf: queue_qos0_messages].
    kept_qos0: u32,
    queued_bytes: u64,
    sent_bytes: u64,
    pub(crate) inbound: BTreeMap<u16, Inbound>,
    inbound_bytes: u64,
    withheld: VecDeque<u16>,
    pub(crate) replays: VecDeque<Replay>,
}

/// What is left to send again after a reconnect: entries `next..end` of `sent`.
#[derive(Default, Debug)]
struct Resend {
    next: usize,
    end: usize,
    /// Entries before `next` that are not finished.
    open: usize,
}

/// What came of an acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acked {
    /// The message is finished, or moved on.
    Done,
    /// PUBREC came again for a message that already has its PUBREL.
    Again,
    /// No message has this packet identifier.
    Unknown,
    /// The message waits for another kind of packet: a protocol error.
    WrongState,
}

impl Flow {
    /// Nothing queued, sent, stored or to be replayed.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
            && self.qos0.is_empty()
            && self.sent.is_empty()
            && self.inbound.is_empty()
            && self.replays.is_empty()
    }

    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn queued_qos0(&self) -> usize {
        self.qos0.len()
    }

    pub(crate) fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    /// Messages sent and not finished.
    pub(crate) fn inflight(&self) -> usize {
        self.sent.len().saturating_sub(self.done)
    }

    pub(crate) fn inflight_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// Whether QoS 0 for a connected client has its own queue at the moment.
    pub(crate) fn takes_express(&self) -> bool {
        self.kept_qos0 == 0
    }

    /// Appends a message. QoS 0 for a connected client goes to its own queue (`express`), since it needs no window, unless
    /// it would overtake QoS 0 messages that came before [MQTT-4.6.0-5].
    pub(crate) fn push(&mut self, mut delivery: Delivery, express: bool) {
        delivery.id = self.arrivals;
        self.arrivals = self.arrivals.wrapping_add(1);
        if express && self.takes_express() {
            make_room(&mut self.qos0);
            self.qos0.push_back(delivery);
        } else {
            self.kept_qos0 += u32::from(delivery.flags.qos() == QoS::AtMostOnce);
            self.queued_bytes = self.queued_bytes.saturating_add(delivery.payload_len());
            make_room(&mut self.queue);
            self.queue.push_back(delivery);
        }
    }

    /// Whether the client may read what is queued has to be asked again for each message.
    pub(crate) fn distrust_queues(&mut self) {
        self.unchecked = [self.queue.len(), self.qos0.len()];
    }

    /// What is next in order of arrival and may be sent if `window` tells whether QoS 1 or 2 may: true for the queue,
    /// false for that of QoS 0.
    fn next_is_of_queue(&self, window: bool) -> Option<bool> {
        let ready = |d: &Delivery| window || d.flags.qos() == QoS::AtMostOnce;
        match (self.queue.front().filter(|d| ready(d)), self.qos0.front()) {
            (Some(q), Some(z)) => Some(z.id.wrapping_sub(q.id) < u16::MAX / 2),
            (Some(_), None) => Some(true),
            (None, Some(_)) => Some(false),
            (None, None) => None,
        }
    }

    /// Whether any queued message has to be checked again.
    pub(crate) fn has_unchecked(&self) -> bool {
        self.unchecked[0] | self.unchecked[1] != 0
    }

    /// Whether [`Flow::next_queued`] will give a message that has to be checked again.
    #[cold]
    pub(crate) fn next_is_unchecked(&self, window: bool) -> bool {
        let [queue, qos0] = self.unchecked;
        self.next_is_of_queue(window).is_some_and(|of| if of { queue } else { qos0 } != 0)
    }

    /// The next queued message in order of arrival; `window` tells whether one with QoS 1 or 2 may go.
    pub(crate) fn next_queued(&mut self, window: bool) -> Option<Delivery> {
        if !self.next_is_of_queue(window)? {
            let next = self.qos0.pop_front();
            self.unchecked[1] = self.unchecked[1].saturating_sub(1);
            shrink(&mut self.qos0);
            return next;
        }
        self.unchecked[0] = self.unchecked[0].saturating_sub(1);
        let next = self.queue.pop_front()?;
        self.kept_qos0 -= u32::from(next.flags.qos() == QoS::AtMostOnce);
        self.queued_bytes = self.queued_bytes.saturating_sub(next.payload_len());
        shrink(&mut self.queue);
        Some(next)
    }

    /// Puts a message back that could not be sent after all.
    pub(crate) fn unqueue(&mut self, delivery: Delivery) {
        self.queued_bytes = self.queued_bytes.saturating_add(delivery.payload_len());
        // Once more does no harm, and those behind it are not forgotten.
        self.unchecked[0] += usize::from(self.unchecked[0] != 0);
        self.queue.push_front(delivery);
    }

    /// Whether an identifier may be assigned. Not while the next one is in use and there are many to search: a client that
    /// leaves its oldest message unacknowledged until the identifiers have gone round waits for it, instead of making the
    /// broker search all of them for each message.
    pub(crate) fn has_id(&self, counter: u16) -> bool {
        let next = counter.wrapping_add(1).max(1);
        self.sent.len() < SEARCHED || (!self.unsorted && self.sent.front().is_some_and(|oldest| oldest.id != next))
    }

    /// A packet identifier that is not in use, counting on from `counter`. `None` when all 65535 are.
    pub(crate) fn assign_id(&mut self, counter: &mut u16) -> Option<PacketId> {
        for _ in 0..=u16::MAX {
            *counter = counter.wrapping_add(1).max(1);
            if self.position(*counter).is_none() {
                return PacketId::new(*counter);
            }
            self.unsorted = true;
        }
        None
    }

    /// Records that `delivery` was sent under `id`.
    pub(crate) fn mark_sent(&mut self, mut delivery: Delivery, id: PacketId) {
        delivery.id = id.get();
        delivery.out = delivery.flags.sent();
        self.sent_bytes = self.sent_bytes.saturating_add(delivery.payload_len());
        make_room(&mut self.sent);
        self.sent.push_back(delivery);
    }

    /// Records that `delivery` will be sent under `id` when that is on disk.
    pub(crate) fn hold(&mut self, delivery: Delivery, id: PacketId, until: ChangeSeq) {
        self.mark_sent(delivery, id);
        if let Some(entry) = self.sent.back_mut() {
            entry.out = Out::Held;
        }
        self.held += 1;
        self.held_until = until;
    }

    /// How many are held back. While there are some, nothing else gets an identifier.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// The next entry that was held back, if what it waits for `is_synced`.
    pub(crate) fn next_held(&mut self, is_synced: impl FnOnce(ChangeSeq) -> bool) -> Option<&Delivery> {
        if self.held == 0 || !is_synced(self.held_until) {
            return None;
        }
        let at = self.sent.len().checked_sub(self.held)?;
        self.held -= 1;
        let entry = self.sent.get_mut(at)?;
        entry.out = entry.flags.sent();
        Some(entry)
    }

    /// The number of the message with this identifier; 0 when there is none, or it is no longer needed.
    pub(crate) fn number_of(&self, id: PacketId) -> u64 {
        let entry = self.position(id.get()).and_then(|at| self.sent.get(at));
        entry.and_then(|entry| entry.msg.as_ref()).map_or(0, Msg::number)
    }

    /// Whether the message with this identifier waits for PUBCOMP.
    pub(crate) fn awaits_pubcomp(&self, id: PacketId) -> bool {
        self.position(id.get()).and_then(|at| self.sent.get(at)).is_some_and(|entry| entry.out == Out::AwaitPubcomp)
    }

    fn position(&self, id: u16) -> Option<usize> {
        if self.unsorted {
            return self.sent.iter().position(|d| d.id == id && d.out != Out::Done);
        }
        let front = self.sent.front()?.id;
        let at = self.sent.partition_point(|d| d.id.wrapping_sub(front) < id.wrapping_sub(front));
        self.sent.get(at).filter(|d| d.id == id && d.out != Out::Done).map(|_| at)
    }

    /// PUBACK, for a QoS 1 message.
    pub(crate) fn puback(&mut self, id: PacketId) -> Acked {
        self.finish(id, Out::AwaitPuback)
    }

    /// PUBCOMP, for a QoS 2 message whose PUBREL was sent.
    pub(crate) fn pubcomp(&mut self, id: PacketId) -> Acked {
        self.finish(id, Out::AwaitPubcomp)
    }

    /// PUBREC: the client has the message. `refused` ends the exchange here [MQTT-4.3.3-4].
    pub(crate) fn pubrec(&mut self, id: PacketId, refused: bool) -> Acked {
        let Some(entry) = self.position(id.get()).and_then(|at| self.sent.get_mut(at)) else { return Acked::Unknown };
        match entry.out {
            Out::AwaitPubrec if refused => self.finish(id, Out::AwaitPubrec),
            Out::AwaitPubrec => {
                entry.out = Out::AwaitPubcomp;
                self.sent_bytes = self.sent_bytes.saturating_sub(entry.payload_len());
                entry.msg = None;
                Acked::Done
            }
            Out::AwaitPubcomp if refused => self.finish(id, Out::AwaitPubcomp),
            Out::AwaitPubcomp => Acked::Again,
            _ => Acked::WrongState,
        }
    }

    /// Ends a message in whatever state: it turned out too large for the client, or must not be read any more.
    pub(crate) fn abandon(&mut self, id: PacketId) {
        if let Some(out) = self.position(id.get()).and_then(|at| self.sent.get(at)).map(|d| d.out) {
            self.finish(id, out);
        }
    }

    fn finish(&mut self, id: PacketId, expected: Out) -> Acked {
        let Some(at) = self.position(id.get()) else { return Acked::Unknown };
        let Some(entry) = self.sent.get_mut(at) else { return Acked::Unknown };
        if entry.out != expected {
            return Acked::WrongState;
        }
        self.sent_bytes = self.sent_bytes.saturating_sub(entry.payload_len());
        entry.out = Out::Done;
        entry.msg = None;
        self.done += 1;
        if at < self.resend.next {
            self.resend.open = self.resend.open.saturating_sub(1);
        }
        self.drop_tombstones();
        Acked::Done
    }

    fn drop_tombstones(&mut self) {
        while self.sent.front().is_some_and(|d| d.out == Out::Done) {
            self.sent.pop_front();
            self.done -= 1;
            self.resend.next = self.resend.next.saturating_sub(1);
            self.resend.end = self.resend.end.saturating_sub(1);
        }
        if self.done > 64 && self.done > self.sent.len() / 2 {
            let live_before = |n: usize| self.sent.iter().take(n).filter(|d| d.out != Out::Done).count();
            let (next, end) = (live_before(self.resend.next), live_before(self.resend.end));
            let resend = Resend { next, end, open: next };
            self.sent.retain(|d| d.out != Out::Done);
            (self.resend, self.done) = (resend, 0);
        }
        if self.sent.is_empty() {
            self.unsorted = false;
        }
        shrink(&mut self.sent);
    }

    /// The client is back: everything in flight is to be sent again, in the original order [MQTT-4.4.0-1]. Withheld
    /// PUBRECs are forgotten, the client sends those messages again.
    pub(crate) fn reconnect(&mut self) {
        self.qos0.clear();
        self.unchecked[1] = 0;
        // CONNACK waits for the disk, and what is sent comes behind it.
        let first_held = self.sent.len().saturating_sub(std::mem::take(&mut self.held));
        for entry in self.sent.range_mut(first_held..) {
            entry.out = entry.flags.sent();
        }
        self.resend = Resend { next: 0, end: self.sent.len(), open: 0 };
        for id in self.withheld.drain(..) {
            if let Some(gone) = self.inbound.remove(&id) {
                self.inbound_bytes = self.inbound_bytes.saturating_sub(u64::from(gone.msg.payload_len()));
            }
        }
        for inbound in self.inbound.values_mut() {
            inbound.repeated = false;
        }
    }

    /// The client is gone: what was only for this connection goes.
    pub(crate) fn discard_qos0(&mut self) {
        self.qos0 = VecDeque::new();
        self.unchecked[1] = 0;
    }

    /// Makes room for a newer QoS 0 message; false when there is none to drop.
    pub(crate) fn drop_oldest_qos0(&mut self) -> bool {
        self.unchecked[1] = self.unchecked[1].saturating_sub(1);
        self.qos0.pop_front().is_some()
    }

    /// The next entry to send again after a reconnect. The client may have come back with a smaller `window` than the
    /// entries were sent with; 0 is unlimited.
    pub(crate) fn next_resend(&mut self, window: usize) -> Option<&Delivery> {
        while self.resend.next < self.resend.end && (window == 0 || self.resend.open < window) {
            let at = self.resend.next;
            self.resend.next += 1;
            if self.sent.get(at).is_some_and(|d| d.out != Out::Done) {
                self.resend.open += 1;
                return self.sent.get(at);
            }
        }
        None
    }

    /// Stores a QoS 2 message; `withheld` keeps its PUBREC back.
    pub(crate) fn store_inbound(&mut self, id: PacketId, msg: Msg, withheld: bool) {
        self.inbound_bytes = self.inbound_bytes.saturating_add(u64::from(msg.payload_len()));
        if withheld {
            self.withheld.push_back(id.get());
        }
        let old = self.inbound.insert(id.get(), Inbound { msg, repeated: false, withheld });
        if let Some(old) = old {
            self.inbound_bytes = self.inbound_bytes.saturating_sub(u64::from(old.msg.payload_len()));
            if old.withheld && !withheld {
                self.withheld.retain(|other| *other != id.get());
            }
        }
    }

    /// PUBREL: takes the stored message out.
    pub(crate) fn release(&mut self, id: PacketId) -> Option<Msg> {
        let inbound = self.inbound.remove(&id.get())?;
        self.inbound_bytes = self.inbound_bytes.saturating_sub(u64::from(inbound.msg.payload_len()));
        if inbound.withheld {
            self.withheld.retain(|other| *other != id.get());
        }
        Some(inbound.msg)
    }

    /// QoS 2 messages from the client whose PUBREC was sent.
    pub(crate) fn inbound_acked(&self) -> usize {
        self.inbound.len().saturating_sub(self.withheld.len())
    }

    pub(crate) fn withheld(&self) -> usize {
        self.withheld.len()
    }

    pub(crate) fn inbound_bytes(&self) -> u64 {
        self.inbound_bytes
    }

    /// The next PUBREC that was withheld, now that a slot is free.
    pub(crate) fn next_withheld(&mut self) -> Option<PacketId> {
        let id = self.withheld.pop_front()?;
        if let Some(inbound) = self.inbound.get_mut(&id) {
            inbound.withheld = false;
        }
        PacketId::new(id)
    }

    /// The shared messages that another member may have: in flight first, then queued. A QoS 2 message that was sent may
    /// have been received, so nobody else gets it [MQTT-4.8.2-5].
    pub(crate) fn take_shared(self) -> impl Iterator<Item = (Msg, u32)> {
        self.sent
            .into_iter()
            .filter(|d| d.flags.qos() == QoS::AtLeastOnce || d.out == Out::Held)
            .chain(self.queue)
            .filter(|d| d.flags.shared() && d.flags.qos() != QoS::AtMostOnce)
            .filter_map(|d| d.msg.map(|msg| (msg, d.sub_id)))
    }

    #[cfg(any(debug_assertions, test))]
    pub(crate) fn check_invariants(&self) {
        let live = self.sent.iter().filter(|d| d.out != Out::Done).count();
        assert_eq!(live, self.inflight(), "tombstones are counted");
        let held = self.sent.iter().skip(self.sent.len() - self.held);
        assert!(held.clone().all(|d| d.out == Out::Held) && self.held == held.count());
        assert_eq!(self.held, self.sent.iter().filter(|d| d.out == Out::Held).count());
        assert!(self.resend.next <= self.resend.end && self.resend.end <= self.sent.len(), "{:?}", self.resend);
        let again = self.sent.iter().take(self.resend.next).filter(|d| d.out != Out::Done).count();
        assert!(self.resend.end == 0 || self.resend.open == again, "{:?}", self.resend);
        assert!(self.unchecked[0] <= self.queue.len() && self.unchecked[1] <= self.qos0.len(), "{:?}", self.unchecked);
        let kept = self.queue.iter().filter(|d| d.flags.qos() == QoS::AtMostOnce).count();
        assert_eq!(kept, self.kept_qos0 as usize);
        assert_eq!(self.queued_bytes, self.queue.iter().map(Delivery::payload_len).sum::<u64>());
        assert_eq!(self.sent_bytes, self.sent.iter().map(Delivery::payload_len).sum::<u64>());
        assert_eq!(self.withheld.len(), self.inbound.values().filter(|i| i.withheld).count());
        for entry in self.sent.iter().filter(|d| d.out != Out::Done) {
            assert_eq!(self.position(entry.id).and_then(|at| self.sent.get(at)).map(|d| d.id), Some(entry.id));
        }
    }
}

/// What only bridges need.
impl Flow {
    /// The oldest message that was sent and is not finished.
    pub(crate) fn first_sent(&self) -> Option<&Delivery> {
        self.sent.front()
    }

    /// The message that was sent under an identifier and is not finished.
    pub(crate) fn sent(&self, id: PacketId) -> Option<&Delivery> {
        self.position(id.get()).and_then(|at| self.sent.get(at))
    }

    /// A QoS 2 message that has no PUBREC yet goes on as one with QoS 1; one that has is finished.
    pub(crate) fn lower_qos(&mut self, id: PacketId) {
        let Some(entry) = self.position(id.get()).and_then(|at| self.sent.get_mut(at)) else { return };
        match entry.out {
            Out::AwaitPubrec => {
                entry.out = Out::AwaitPuback;
                entry.flags = Flags::new(QoS::AtLeastOnce, entry.flags.retain(), entry.flags.shared());
            }
            Out::AwaitPubcomp => {
                self.finish(id, Out::AwaitPubcomp);
            }
            Out::Held => entry.flags = Flags::new(QoS::AtLeastOnce, entry.flags.retain(), entry.flags.shared()),
            Out::Queued | Out::AwaitPuback | Out::Done => {}
        }
    }
}

/// Makes room for one more. A long queue grows by an eighth, not to the double: the queues of many absent clients fill up
/// together, and one message must not double the memory they take.
fn make_room(queue: &mut VecDeque<Delivery>) {
    if queue.len() == queue.capacity() && queue.len() >= 64 {
        queue.reserve_exact(queue.len() / 8);
    }
}

/// Returns the memory of a queue that has drained; small rings are kept, they are reused at once.
fn shrink(queue: &mut VecDeque<Delivery>) {
    if queue.is_empty() && queue.capacity() > 64 {
        *queue = VecDeque::new();
    } else if queue.capacity() > 1024 && queue.len() < queue.capacity() / 4 {
        // What leaves a long queue goes into another one, and both at their full length are twice the memory.
        queue.shrink_to(queue.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::message::NewMessage;
    use crate::timer::Now;

    fn message(payload: &[u8], qos: QoS) -> Delivery {
        let new = NewMessage { topic: "t", payload, qos, retain: false, props: &[], expiry_s: None };
        Delivery {
            msg: Msg::new(Now::default(), &new),
            sub_id: 0,
            id: 0,
            out: Out::Queued,
            flags: Flags::new(qos, false, false),
        }
    }

    fn send(flow: &mut Flow, counter: &mut u16, qos: QoS) -> PacketId {
        let id = flow.assign_id(counter).unwrap();
        flow.mark_sent(message(b"x", qos), id);
        flow.check_invariants();
        id
    }

    #[test]
    fn a_delivery_is_16_bytes() {
        assert_eq!(size_of::<Delivery>(), if cfg!(target_pointer_width = "64") { 16 } else { 12 });
    }

    #[test]
    fn both_queues_come_out_in_the_order_of_arrival() {
        let mut flow = Flow::default();
        let order = [1u8, 0, 0, 1, 1, 0];
        for (i, qos) in order.iter().enumerate() {
            let payload = vec![b'x'; i];
            flow.push(message(&payload, QoS::from_bits(*qos).unwrap()), *qos == 0);
        }
        let lens: Vec<u64> = std::iter::from_fn(|| flow.next_queued(true)).map(|d| d.payload_len()).collect();
        assert_eq!(lens, [0, 1, 2, 3, 4, 5]);
        assert_eq!(flow.queued_bytes(), 0);
    }

    #[test]
    fn qos_0_overtakes_a_closed_window() {
        let mut flow = Flow::default();
        flow.push(message(b"one", QoS::AtLeastOnce), false);
        flow.push(message(b"zero", QoS::AtMostOnce), true);
        assert_eq!(flow.next_queued(false).unwrap().payload_len(), 4);
        assert!(flow.next_queued(false).is_none());
        assert_eq!(flow.next_queued(true).unwrap().payload_len(), 3);
    }

    #[test]
    fn qos_0_does_not_overtake_qos_0_that_was_kept() {
        let mut flow = Flow::default();
        flow.push(message(b"one", QoS::AtLeastOnce), false);
        flow.push(message(b"kept", QoS::AtMostOnce), false);
        flow.push(message(b"newer", QoS::AtMostOnce), true);
        flow.check_invariants();
        assert!(flow.next_queued(false).is_none());
        let lens: Vec<u64> = std::iter::from_fn(|| flow.next_queued(true)).map(|d| d.payload_len()).collect();
        assert_eq!(lens, [3, 4, 5]);
        flow.push(message(b"zero", QoS::AtMostOnce), true);
        assert_eq!(flow.queued(), 0, "it needs no window again");
    }

    #[test]
    fn resending_keeps_to_a_smaller_window_but_pubrel_needs_none() {
        let (mut flow, mut counter) = (Flow::default(), 0);
        let ids: Vec<PacketId> = (0..4).map(|_| send(&mut flow, &mut counter, QoS::ExactlyOnce)).collect();
        assert_eq!(flow.pubrec(ids[1], false), Acked::Done);
        flow.reconnect();
        let next = |flow: &mut Flow| flow.next_resend(2).map(|d| d.id);
        assert_eq!([next(&mut flow), next(&mut flow), next(&mut flow)], [Some(1), Some(2), None]);
        assert_eq!(flow.pubrec(ids[0], false), Acked::Done);
        assert_eq!(next(&mut flow), None, "PUBREC frees no slot");
        assert_eq!(flow.pubcomp(ids[0]), Acked::Done);
        flow.check_invariants();
        assert_eq!([next(&mut flow), next(&mut flow)], [Some(3), None]);
        assert_eq!(flow.pubcomp(ids[1]), Acked::Done);
        assert_eq!([next(&mut flow), next(&mut flow)], [Some(4), None]);
    }

    #[test]
    fn packet_identifiers_wrap_and_skip_those_in_use() {
        let (mut flow, mut counter) = (Flow::default(), 0);
        let stuck = send(&mut flow, &mut counter, QoS::AtLeastOnce);
        for _ in 0..65534 {
            let id = flow.assign_id(&mut counter).unwrap();
            flow.mark_sent(message(b"", QoS::AtLeastOnce), id);
            assert_eq!(flow.puback(id), Acked::Done);
        }
        assert_eq!(stuck.get(), 1);
        assert_eq!(send(&mut flow, &mut counter, QoS::AtLeastOnce).get(), 2, "1 is in use");
        assert_eq!(flow.puback(stuck), Acked::Done);
        assert_eq!(flow.inflight(), 1);
        flow.check_invariants();
    }

    #[test]
    fn identifiers_are_not_searched_for_among_very_many() {
        let (mut flow, mut counter) = (Flow::default(), 0);
        for _ in 0..65535 {
            assert!(flow.has_id(counter));
            let id = flow.assign_id(&mut counter).unwrap();
            flow.mark_sent(message(b"", QoS::AtLeastOnce), id);
        }
        assert!(!flow.has_id(counter), "all are in use");
        flow.puback(PacketId::new(65534).unwrap());
        assert!(!flow.has_id(counter), "the only free one is far away");
        flow.puback(PacketId::new(1).unwrap());
        assert!(flow.has_id(counter));
        assert_eq!(flow.assign_id(&mut counter).unwrap().get(), 1);
    }

    #[test]
    fn acknowledgements_in_any_order_leave_nothing_behind() {
        let (mut flow, mut counter) = (Flow::default(), 65500);
        let mut ids: Vec<PacketId> = (0..200).map(|_| send(&mut flow, &mut counter, QoS::AtLeastOnce)).collect();
        let mut state = 7u32;
        while !ids.is_empty() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let id = ids.swap_remove(state as usize % ids.len());
            assert_eq!(flow.puback(id), Acked::Done);
            assert_eq!(flow.puback(id), Acked::Unknown);
            flow.check_invariants();
        }
        assert!(flow.is_empty());
    }

    #[test]
    fn the_wrong_acknowledgement_is_told() {
        let (mut flow, mut counter) = (Flow::default(), 0);
        let two = send(&mut flow, &mut counter, QoS::ExactlyOnce);
        assert_eq!(flow.puback(two), Acked::WrongState);
        assert_eq!(flow.pubcomp(two), Acked::WrongState);
        assert_eq!(flow.pubrec(two, false), Acked::Done);
        assert_eq!(flow.pubrec(two, false), Acked::Again);
        assert_eq!(flow.pubcomp(two), Acked::Done);
        let one = send(&mut flow, &mut counter, QoS::AtLeastOnce);
        assert_eq!(flow.pubrec(one, false), Acked::WrongState);
    }

    #[test]
    fn after_a_reconnect_all_in_flight_is_sent_again_in_order() {
        let (mut flow, mut counter) = (Flow::default(), 0);
        let ids: Vec<PacketId> = (0..5).map(|_| send(&mut flow, &mut counter, QoS::ExactlyOnce)).collect();
        flow.pubrec(ids[1], false);
        flow.reconnect();
        let mut again = Vec::new();
        while let Some(d) = flow.next_resend(0) {
            again.push((d.id, d.out));
            if d.id == 1 {
                flow.pubrec(ids[0], true);
            }
        }
        let rec = Out::AwaitPubrec;
        assert_eq!(again, [(1, rec), (2, Out::AwaitPubcomp), (3, rec), (4, rec), (5, rec)]);
        flow.check_invariants();
    }
}

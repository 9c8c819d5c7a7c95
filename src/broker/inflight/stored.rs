//! A session's messages as plain values, out and in.

use super::{Delivery, Flags, Flow, Out};
use crate::broker::message::Msg;
use crate::broker::stored::{Place, StoredEntry};
use crate::wire::{PacketId, QoS};

/// How far a walk over a session's messages got. It goes on in another call as long as only the end of the queue grows.
#[derive(Clone, Debug)]
pub(crate) struct EntryCursor {
    /// The last message from the client that was given.
    inbound: Option<u16>,
    sent: usize,
    queued: usize,
    /// Messages of the queue that belong to the walk.
    queue_len: usize,
    /// The identifier that was given to the last queued message.
    counter: u16,
}

impl EntryCursor {
    /// At the start of the messages of a session whose queue has `queue_len` messages that count, and whose last packet
    /// identifier is `last_id`.
    pub(crate) fn new(queue_len: usize, last_id: u16) -> EntryCursor {
        EntryCursor { inbound: None, sent: 0, queued: 0, queue_len, counter: last_id }
    }
}

impl Flow {
    /// Gives at most `most` further messages in the order of delivery: those from the client, those sent, those queued.
    /// True when there are no more. Left out are messages whose PUBREC is withheld, which the client will send again, and
    /// QoS 0 that is only for this connection. Queued messages get the identifiers they would be sent with.
    pub(crate) fn stored(
        &self,
        cursor: &mut EntryCursor,
        most: usize,
        each: &mut dyn FnMut(StoredEntry<&Msg>),
    ) -> bool {
        let mut left = most;
        while left > 0 {
            let Some(entry) = self.next_stored(cursor) else { return true };
            if let Some(entry) = entry {
                each(entry);
            }
            left -= 1;
        }
        false
    }

    /// One step of the walk; `Some(None)` for what is not stored.
    #[allow(clippy::option_option)]
    fn next_stored(&self, cursor: &mut EntryCursor) -> Option<Option<StoredEntry<&Msg>>> {
        let behind = cursor.inbound.map_or(0, |id| id.saturating_add(1));
        if cursor.inbound != Some(u16::MAX)
            && let Some((id, inbound)) = self.inbound.range(behind..).next()
        {
            cursor.inbound = Some(*id);
            let received = StoredEntry {
                place: Place::Received,
                msg: Some(&inbound.msg),
                id: *id,
                qos: QoS::ExactlyOnce,
                retain: inbound.msg.retain(),
                sub_id: 0,
            };
            return Some((!inbound.withheld).then_some(received));
        }
        if let Some(entry) = self.sent.get(cursor.sent) {
            cursor.sent += 1;
            let place = match entry.out {
                Out::Done | Out::Queued => return Some(None),
                Out::Held | Out::AwaitPuback | Out::AwaitPubrec => Place::Sent,
                Out::AwaitPubcomp => Place::Released,
            };
            return Some(Some(stored(entry, place, entry.id)));
        }
        let entry = self.queue.get(cursor.queued).filter(|_| cursor.queued < cursor.queue_len)?;
        cursor.queued += 1;
        let id = if entry.flags.qos() == QoS::AtMostOnce { 0 } else { self.id_after(&mut cursor.counter) };
        Some(entry.msg.is_some().then(|| stored(entry, Place::Queued, id)))
    }

    /// The next identifier that no message in flight has. With all of them in use it is one of them all the same.
    fn id_after(&self, counter: &mut u16) -> u16 {
        for _ in 0..=self.sent.len() {
            *counter = counter.wrapping_add(1).max(1);
            if self.position(*counter).is_none() {
                break;
            }
        }
        *counter
    }

    /// Messages with QoS 1 or 2 among the first `queue_len` of the queue.
    pub(crate) fn queued_with_id(&self, queue_len: usize) -> usize {
        if self.kept_qos0 == 0 {
            return queue_len.min(self.queue.len());
        }
        self.queue.iter().take(queue_len).filter(|entry| entry.flags.qos() != QoS::AtMostOnce).count()
    }

    /// Whether [`Broker::pull`](crate::broker::Broker::pull) may find something to send that changes what is stored.
    pub(crate) fn has_lasting_output(&self) -> bool {
        self.resend.next < self.resend.end || self.held != 0 || !self.queue.is_empty() || !self.replays.is_empty()
    }

    /// Adds a message behind those that are there. `last_id` is the session's last packet identifier and moves so that
    /// queued messages are sent with their stored identifiers where those are free. False for what cannot be a message of
    /// a session.
    pub(crate) fn restore(&mut self, entry: StoredEntry<Msg>, last_id: &mut u16) -> bool {
        let id = PacketId::new(entry.id);
        let known = entry.msg.is_some();
        let out = match (entry.place, entry.qos) {
            (Place::Received, _) => {
                let (Some(id), Some(msg)) = (id, entry.msg) else { return false };
                self.store_inbound(id, msg, false);
                return true;
            }
            (Place::Released, _) => Out::AwaitPubcomp,
            (_, _) if !known => return false,
            (Place::Queued, _) | (Place::Sent, QoS::AtMostOnce) => Out::Queued,
            (Place::Sent, QoS::AtLeastOnce) => Out::AwaitPuback,
            (Place::Sent, QoS::ExactlyOnce) => Out::AwaitPubrec,
        };
        let qos = if out == Out::AwaitPubcomp { QoS::ExactlyOnce } else { entry.qos };
        let flags = Flags::new(qos, entry.retain, false);
        let msg = entry.msg.filter(|_| out != Out::AwaitPubcomp);
        let delivery = Delivery { msg, sub_id: entry.sub_id, id: 0, out: Out::Queued, flags };
        match id.filter(|id| out != Out::Queued && self.place_of(*id).is_some()) {
            Some(id) => self.restore_sent(delivery, id, out, last_id),
            // The client knows nothing of it that could be taken up again.
            None if out == Out::AwaitPubcomp => return false,
            None => self.restore_queued(delivery, entry.id, last_id),
        }
        true
    }

    /// A queued message got its identifier; another one that has the same was done with. False when it is not there.
    pub(crate) fn replay_sent(&mut self, number: u64, id: PacketId) -> bool {
        let Some(delivery) = self.take_queued(number) else { return false };
        self.abandon(id);
        self.unsorted |= self.place_of(id) != Some(true);
        self.mark_sent(delivery, id);
        true
    }

    /// A message is done with. False when it is not there.
    pub(crate) fn replay_finished(&mut self, number: u64) -> bool {
        let of = |entry: &Delivery| entry.msg.as_ref().is_some_and(|msg| msg.number() == number);
        match self.sent.iter().find(|entry| of(entry)).and_then(|entry| PacketId::new(entry.id)) {
            Some(id) => {
                self.abandon(id);
                true
            }
            None => self.take_queued(number).is_some(),
        }
    }

    fn take_queued(&mut self, number: u64) -> Option<Delivery> {
        let at = self.queue.iter().position(|entry| entry.msg.as_ref().is_some_and(|msg| msg.number() == number))?;
        let delivery = self.queue.remove(at)?;
        self.kept_qos0 -= u32::from(delivery.flags.qos() == QoS::AtMostOnce);
        self.queued_bytes = self.queued_bytes.saturating_sub(delivery.payload_len());
        Some(delivery)
    }

    /// Whether an identifier is free, and then whether it is further from the front than all others.
    fn place_of(&self, id: PacketId) -> Option<bool> {
        let (Some(front), Some(back)) = (self.sent.front(), self.sent.back()) else { return Some(true) };
        let ahead = id.get().wrapping_sub(front.id) > back.id.wrapping_sub(front.id);
        if ahead && !self.unsorted {
            return Some(true);
        }
        self.position(id.get()).is_none().then_some(ahead)
    }

    fn restore_sent(&mut self, delivery: Delivery, id: PacketId, out: Out, last_id: &mut u16) {
        self.unsorted |= self.place_of(id) != Some(true);
        self.mark_sent(delivery, id);
        if let Some(entry) = self.sent.back_mut() {
            entry.out = out;
        }
        if self.is_behind(*last_id) {
            *last_id = id.get();
        }
    }

    fn restore_queued(&mut self, delivery: Delivery, id: u16, last_id: &mut u16) {
        let before = id.wrapping_sub(1);
        let first = self.queue.len() == self.kept_qos0 as usize;
        if first && id != 0 && delivery.flags.qos() != QoS::AtMostOnce && !self.is_behind(before) {
            *last_id = before;
        }
        self.push(delivery, false);
    }

    /// Whether the identifier after `last_id` lies between those in flight.
    fn is_behind(&self, last_id: u16) -> bool {
        let (Some(front), Some(back)) = (self.sent.front(), self.sent.back()) else { return false };
        last_id.wrapping_add(1).max(1).wrapping_sub(front.id) <= back.id.wrapping_sub(front.id)
    }
}

fn stored(entry: &Delivery, place: Place, id: u16) -> StoredEntry<&Msg> {
    StoredEntry {
        place,
        msg: entry.msg.as_ref(),
        id,
        qos: entry.flags.qos(),
        retain: entry.flags.retain(),
        sub_id: entry.sub_id,
    }
}

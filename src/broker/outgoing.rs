//! From a session's queues to its connection, and what the client answers; QoS 2 messages from the client.

use super::auth::acl::Right;
use super::changes::Changes;
use super::changes::record::Change;
use super::deliver::{granted, mark_dirty, record_queued};
use super::inflight::{Acked, Delivery, Flags, Flow, Out};
use super::message::Msg;
use super::retain::Step;
use super::{Broker, ConnId, Published, SessionId};
use crate::notice;
use crate::timer::Now;
use crate::wire::{PacketId, ProtocolVersion, QoS};

/// Something to be sent to a client.
#[derive(Debug)]
pub enum Outgoing {
    /// A PUBLISH.
    Publish {
        /// The message.
        msg: Msg,
        /// Its packet identifier; `None` for QoS 0.
        id: Option<PacketId>,
        /// The QoS it is sent with.
        qos: QoS,
        /// The retain flag it is sent with.
        retain: bool,
        /// It was sent before, on another connection.
        dup: bool,
        /// The v5 subscription identifier; 0 for none.
        sub_id: u32,
    },
    /// A PUBREL that was sent before, on another connection.
    Pubrel(PacketId),
}

/// What [`Broker::pull`] gives.
#[derive(Debug)]
pub enum Pulled {
    /// Send this.
    Item(Outgoing),
    /// Nothing may be sent now.
    Empty,
    /// The budget is used up; ask again next turn.
    Later,
}

/// What to do with a QoS 2 PUBLISH.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// Answer with PUBREC.
    Stored,
    /// It replaced another message with the same packet identifier; answer with PUBREC and warn.
    Replaced,
    /// Stored; PUBREC follows when the window has a free slot.
    Withheld,
    /// The client exceeded the receive maximum: refuse it.
    OverQuota,
    /// Nothing more can be stored: close without an acknowledgement, so that the client sends it again.
    Full,
    /// The same message for the third time: a protocol error.
    RepeatedTooOften,
}

impl Broker {
    /// The next thing to send to the session's client, and the record that it was sent. `budget` is charged for look-ups of
    /// retained messages, and for messages that have to be checked again because the rules of access or the user changed.
    pub fn pull(&mut self, now: Now, id: SessionId, budget: &mut u32) -> Pulled {
        let Broker { access, changes, storage, sessions, settings, retained, .. } = self;
        let Some(session) = sessions.get_mut(id) else { return Pulled::Empty };
        let (window, max_bytes) = (session.window(settings), u64::from(settings.max_inflight_bytes));
        let lasting = session.expiry_s != 0;
        if lasting && session.flow.as_ref().is_some_and(|flow| flow.has_lasting_output()) {
            storage.before_session(id, session);
            storage.alter();
        }
        let conn = session.conn();
        let (Some(flow), last_id, client) = session.sending() else { return Pulled::Empty };
        let may_read = |msg: &Msg| !access.restricts() || client.may(access, msg.topic(), Right::Read);
        while let Some(again) = flow.next_resend(window) {
            let Some(refused) = PacketId::new(again.id).filter(|_| !again.msg.as_ref().is_none_or(may_read)) else {
                return Pulled::Item(resend(again));
            };
            // Sent before, but not to be sent again: its client may be another user now.
            if lasting {
                record_done(changes, client.id(), flow.number_of(refused), refused);
            }
            flow.abandon(refused);
            *budget = budget.saturating_sub(1);
            if *budget == 0 {
                return Pulled::Later;
            }
        }
        while let Some(held) = flow.next_held(|until| changes.is_synced(until)) {
            // The rules may be others by now.
            let Some(refused) = PacketId::new(held.id).filter(|_| !held.msg.as_ref().is_none_or(may_read)) else {
                return first_time(held).map_or(Pulled::Empty, Pulled::Item);
            };
            if lasting {
                record_done(changes, client.id(), flow.number_of(refused), refused);
            }
            flow.abandon(refused);
        }
        // What waits for the disk is not overtaken, except by QoS 0.
        let waits = flow.held() > 0;
        let open = |flow: &Flow, last_id: u16| {
            !waits
                && flow.held() < HELD_AT_ONCE
                && (window == 0 || flow.inflight() < window)
                && flow.has_id(last_id)
                && (max_bytes == 0 || flow.inflight() == 0 || flow.inflight_bytes() < max_bytes)
        };
        while flow.replays.front().is_some_and(|replay| replay.qos == QoS::AtMostOnce || open(flow, *last_id)) {
            let Some(replay) = flow.replays.front_mut() else { break };
            match retained.scan(&replay.filter, &mut replay.cursor, budget) {
                Step::Hit(msg) if msg.expired(now) || !may_read(&msg) => {}
                Step::Hit(msg) if settings.check_retain_source && !access.source_may(&msg) => {}
                Step::Hit(msg) => {
                    let qos = granted(settings, replay.qos, &msg);
                    let flags = Flags::new(qos, true, false);
                    let delivery = Delivery { msg: Some(msg), sub_id: replay.sub_id, id: 0, out: Out::Queued, flags };
                    if lasting && qos != QoS::AtMostOnce {
                        record_queued(changes, client.id(), &delivery);
                    }
                    match send(changes, flow, last_id, Receiver { client_id: client.id(), lasting, conn }, delivery) {
                        Taken::Send(item) => return Pulled::Item(item),
                        Taken::Held => {}
                        Taken::NoId => return Pulled::Empty,
                    }
                }
                Step::Done => {
                    flow.replays.pop_front();
                }
                Step::OutOfBudget => return Pulled::Later,
            }
        }
        loop {
            let window = open(flow, *last_id);
            let check = flow.has_unchecked() && flow.next_is_unchecked(window);
            if check {
                let Some(left) = budget.checked_sub(1) else { return Pulled::Later };
                *budget = left;
            }
            let stored = lasting && !flow.takes_express();
            let Some(delivery) = flow.next_queued(window) else { return Pulled::Empty };
            let qos0 = delivery.flags.qos() == QoS::AtMostOnce;
            let void = delivery.msg.as_ref().is_none_or(|msg| msg.expired(now) || (check && !may_read(msg)));
            if let Some(msg) = delivery.msg.as_ref().filter(|_| if qos0 { stored } else { lasting && void }) {
                changes.record(|| Change::Finished { client_id: client.id(), number: msg.number() });
            }
            if void {
                continue;
            }
            match send(changes, flow, last_id, Receiver { client_id: client.id(), lasting, conn }, delivery) {
                Taken::Send(item) => return Pulled::Item(item),
                Taken::Held => {}
                Taken::NoId => return Pulled::Empty,
            }
        }
    }

    /// Says that everything `pull` gave was taken over, so that the next message lists the connection again.
    pub fn set_clean(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.dirty = false;
        }
    }

    /// Lists the session's connection for the next flush.
    pub fn set_dirty(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(id) {
            mark_dirty(&mut self.dirty, session);
        }
    }

    /// True when something is queued for the session that has not been sent.
    #[must_use]
    pub fn is_dirty(&self, id: SessionId) -> bool {
        self.sessions.get(id).is_some_and(|session| session.dirty)
    }

    /// Gives memory back that the session holds without need; called when its client is idle.
    pub fn trim(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.trim();
        }
    }

    /// The number of QoS 1 and 2 messages queued for the session and not yet sent.
    #[must_use]
    pub fn queued(&self, id: SessionId) -> usize {
        self.sessions.get(id).and_then(|session| session.flow.as_ref()).map_or(0, |flow| flow.queued())
    }

    /// PUBACK from the client.
    pub fn puback(&mut self, id: SessionId, packet: PacketId) -> Acked {
        self.acknowledge(id, packet, |flow| flow.puback(packet))
    }

    /// PUBREC from the client; `refused` when its reason code is an error.
    pub fn pubrec(&mut self, id: SessionId, packet: PacketId, refused: bool) -> Acked {
        self.acknowledge(id, packet, |flow| flow.pubrec(packet, refused))
    }

    /// PUBCOMP from the client.
    pub fn pubcomp(&mut self, id: SessionId, packet: PacketId) -> Acked {
        self.acknowledge(id, packet, |flow| flow.pubcomp(packet))
    }

    /// Ends a message that could not be sent, as if the client had taken it.
    pub fn abandon(&mut self, id: SessionId, packet: PacketId) {
        self.acknowledge(id, packet, |flow| {
            flow.abandon(packet);
            Acked::Done
        });
    }

    fn acknowledge(&mut self, id: SessionId, packet: PacketId, what: impl FnOnce(&mut Flow) -> Acked) -> Acked {
        let Some(session) = self.sessions.get_mut(id) else { return Acked::Unknown };
        self.storage.before_session(id, session);
        let lasting = session.lasts();
        let records = lasting && self.changes.has_journal();
        let Some(flow) = &mut session.flow else { return Acked::Unknown };
        let number = if records { flow.number_of(packet) } else { 0 };
        let acked = what(flow);
        let received = records && flow.awaits_pubcomp(packet);
        if acked == Acked::Done {
            if lasting {
                self.storage.count();
            }
            if !flow.is_empty() {
                mark_dirty(&mut self.dirty, session);
            }
            if received {
                self.changes.record(|| Change::Received { client_id: session.client_id(), id: packet });
            } else if records {
                record_done(&mut self.changes, session.client_id(), number, packet);
            }
        }
        acked
    }

    /// A QoS 2 PUBLISH that may be published: stored until its PUBREL.
    pub fn receive_qos2(&mut self, id: SessionId, packet: PacketId, msg: Msg) -> Received {
        let Broker { sessions, settings, .. } = self;
        let Some(session) = sessions.get_mut(id) else { return Received::Full };
        let version = session.version;
        let window = session.inbound_window(settings);
        let flow = session.flow_mut();
        let mut replaced = false;
        if let Some(stored) = flow.inbound.get_mut(&packet.get()) {
            if settings.strict_conformance {
                // The same identifier is the same message until its PUBREL [MQTT-4.3.3-10].
                return if stored.withheld { Received::Withheld } else { Received::Stored };
            }
            if same_content(&stored.msg, &msg) {
                if stored.withheld {
                    return Received::Withheld;
                }
                return if std::mem::replace(&mut stored.repeated, true) {
                    Received::RepeatedTooOften
                } else {
                    Received::Stored
                };
            }
            replaced = true;
        }
        let full = window != 0 && flow.inbound_acked() >= window && !replaced;
        let v5 = version == ProtocolVersion::V5;
        if full && v5 && !settings.strict_conformance {
            return Received::OverQuota;
        }
        if full {
            let (max, max_bytes) = (settings.max_queued_messages as usize, u64::from(settings.max_queued_bytes));
            // By the letter the quota of a v5 client is that of its connection, which counted it already [MQTT 4.9].
            let beyond = if v5 { flow.inbound_acked().saturating_sub(window) } else { flow.withheld() };
            if (max != 0 && beyond >= max) || (max_bytes != 0 && flow.inbound_bytes() >= max_bytes) {
                notice!("Incoming messages of client {} exceed the queue limits.", session.client_id());
                return Received::Full;
            }
        }
        self.storage.before_session(id, session);
        let withheld = full && !v5;
        if session.expiry_s != 0 {
            self.storage.count();
            if !withheld {
                let client_id = session.client_id();
                self.changes.record_with(&msg, |number| Change::Stored { client_id, id: packet, number });
            }
        }
        session.flow_mut().store_inbound(packet, msg, withheld);
        match (withheld, replaced) {
            (true, _) => Received::Withheld,
            (false, true) => Received::Replaced,
            (false, false) => Received::Stored,
        }
    }

    /// Whether QoS 2 messages of the client wait for their PUBREL.
    #[must_use]
    pub fn has_unreleased(&self, id: SessionId) -> bool {
        let flow = self.sessions.get(id).and_then(|session| session.flow.as_ref());
        flow.is_some_and(|flow| flow.inbound_acked() + flow.withheld() > 0)
    }

    /// PUBREL from the client: the stored message is routed now. `None` for an unknown packet identifier.
    pub fn release(&mut self, now: Now, id: SessionId, packet: PacketId) -> Option<Published> {
        // Half of it would lose the message or double it.
        self.changes.begin();
        let published = self.route_released(now, id, packet);
        self.changes.end();
        published
    }

    fn route_released(&mut self, now: Now, id: SessionId, packet: PacketId) -> Option<Published> {
        let session = self.sessions.get_mut(id)?;
        self.storage.before_session(id, session);
        let msg = session.flow.as_mut()?.release(packet)?;
        if session.expiry_s != 0 {
            self.storage.alter();
            self.changes.record(|| Change::Released { client_id: session.client_id(), id: packet });
        }
        // The rules, or the user, may be others than when it came.
        if msg.expired(now) || !self.may(id, msg.topic(), Right::Write) {
            return Some(Published { matched: false, work: 0 });
        }
        Some(self.publish(now, Some(id), &msg))
    }

    /// Forgets a QoS 2 message that was accepted, since its publisher may not publish it any more and is told so.
    pub fn forget_qos2(&mut self, id: SessionId, packet: PacketId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        self.storage.before_session(id, session);
        let lasting = session.expiry_s != 0;
        let forgotten = session.flow.as_mut().and_then(|flow| flow.release(packet));
        if lasting && forgotten.is_some() {
            self.storage.alter();
            self.changes.record(|| Change::Released { client_id: session.client_id(), id: packet });
        }
    }

    /// The packet identifier whose PUBREC may leave now that a slot is free.
    pub fn next_withheld(&mut self, id: SessionId) -> Option<PacketId> {
        let session = self.sessions.get_mut(id)?;
        let window = session.inbound_window(&self.settings);
        if session.flow.as_ref()?.withheld() == 0 {
            return None;
        }
        self.storage.before_session(id, session);
        self.storage.alter_if(session.lasts());
        let lasting = session.lasts();
        let flow = session.flow.as_mut().filter(|flow| window == 0 || flow.inbound_acked() < window)?;
        let packet = flow.next_withheld()?;
        let msg = flow.inbound.get(&packet.get()).map(|inbound| inbound.msg.clone()).filter(|_| lasting);
        if let Some(msg) = msg {
            let client_id = session.client_id();
            self.changes.record_with(&msg, |number| Change::Stored { client_id, id: packet, number });
        }
        Some(packet)
    }
}

/// The most messages of a session that wait together for their identifiers to be on disk.
const HELD_AT_ONCE: usize = 1024;

/// Who gets what is taken out of a queue.
struct Receiver<'a> {
    client_id: &'a str,
    lasting: bool,
    conn: Option<ConnId>,
}

/// What became of a delivery that was taken out of a queue.
enum Taken {
    /// It is to be sent.
    Send(Outgoing),
    /// It is sent when its identifier is on disk.
    Held,
    /// It went back, because no identifier is free.
    NoId,
}

/// Takes a delivery out of the queue for good: records it as sent, or puts it back when no identifier is free.
///
/// With a journal a QoS 2 message leaves only when everything that led to it is on disk, and the identifier under which its
/// client will know it: else a crash could bring the client the same message again under another one. QoS 1 waits only
/// for QoS 2 messages before it.
fn send(changes: &mut Changes, flow: &mut Flow, last_id: &mut u16, to: Receiver<'_>, mut delivery: Delivery) -> Taken {
    let qos = delivery.flags.qos();
    if qos == QoS::AtMostOnce {
        return first_time(&delivery).map_or(Taken::Held, Taken::Send);
    }
    let Some(id) = flow.assign_id(last_id) else {
        flow.unqueue(delivery);
        return Taken::NoId;
    };
    let exactly_once = qos == QoS::ExactlyOnce && changes.has_journal();
    if let Some(msg) = delivery.msg.as_ref().filter(|_| exactly_once && to.lasting) {
        changes.record(|| Change::Sent { client_id: to.client_id, number: msg.number(), id });
    }
    if flow.held() > 0 || (exactly_once && !changes.is_synced(changes.last())) {
        if let Some(conn) = to.conn.filter(|_| flow.held() == 0) {
            changes.wait(changes.last(), conn);
        }
        flow.hold(delivery, id, changes.last());
        return Taken::Held;
    }
    delivery.id = id.get();
    let item = first_time(&delivery);
    flow.mark_sent(delivery, id);
    item.map_or(Taken::Held, Taken::Send)
}

/// What is sent of a delivery that the client has not seen.
fn first_time(delivery: &Delivery) -> Option<Outgoing> {
    let (msg, flags) = (delivery.msg.clone()?, delivery.flags);
    let (qos, retain) = (flags.qos(), flags.retain());
    let id = PacketId::new(delivery.id).filter(|_| qos != QoS::AtMostOnce);
    Some(Outgoing::Publish { msg, id, qos, retain, dup: false, sub_id: delivery.sub_id })
}

/// Records that a session is done with a message, known by its number or, when its content is gone, its identifier.
fn record_done(changes: &mut Changes, client_id: &str, number: u64, id: PacketId) {
    changes.record(|| match number {
        0 => Change::Completed { client_id, id },
        number => Change::Finished { client_id, number },
    });
}

fn resend(entry: &Delivery) -> Outgoing {
    let id = PacketId::new(entry.id);
    match (&entry.msg, id) {
        (Some(msg), Some(_)) => Outgoing::Publish {
            msg: msg.clone(),
            id,
            qos: entry.flags.qos(),
            retain: entry.flags.retain(),
            dup: true,
            sub_id: entry.sub_id,
        },
        (_, id) => Outgoing::Pubrel(id.unwrap_or(PacketId::MIN)),
    }
}

fn same_content(a: &Msg, b: &Msg) -> bool {
    (a.topic(), a.payload(), a.qos(), a.retain()) == (b.topic(), b.payload(), b.qos(), b.retain())
}

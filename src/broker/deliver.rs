//! From a published message to the queues of its subscribers.

use super::auth::access::Access;
use super::auth::acl::Right;
use super::changes::Changes;
use super::changes::record::{Change, Queued};
use super::inflight::{Delivery, Flags, Out};
use super::message::{Msg, NewMessage, Source};
use super::session::{Attachment, Session, Sessions};
use super::snapshot::Storage;
use super::stats::Stats;
use super::stored::is_own_topic;
use super::subs::{Match, Sink, Subs};
use super::{Broker, ConnId, SessionId};
use crate::config::Global;
use crate::notice;
use crate::timer::Now;
use crate::wire::{ProtocolVersion, QoS};

/// Deliveries into queues that are filling up after which the publisher has to wait for a flush: what a client sends in
/// one piece must not overflow the queue of a client that reads.
const PRESSURE_LIMIT: u32 = 4;

/// What came of a publish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Published {
    /// Some subscription matched.
    pub matched: bool,
    /// Nodes visited and deliveries made, charged to the publisher's turn.
    pub work: u32,
}

/// Takes a message to the sessions that the subscription table names. Borrows what it needs of the broker, so that the
/// table can be walked at the same time.
pub(crate) struct Router<'a> {
    access: &'a Access,
    /// Whether reading has to be checked at all.
    restricted: bool,
    sessions: &'a mut Sessions,
    queues: Queues<'a>,
    msg: &'a Msg,
    /// Taken out once for all deliveries.
    topic: &'a str,
    from: Option<SessionId>,
    stamp: u32,
    matched: bool,
}

impl Sink for Router<'_> {
    fn deliver(&mut self, sub: &Match) {
        self.matched = true;
        if sub.options.no_local && self.from == Some(sub.session) {
            return;
        }
        let Some(session) = self.sessions.get_mut(sub.session) else { return };
        let settings = self.queues.settings;
        if !settings.allow_duplicate_messages && !settings.strict_conformance && session.version < ProtocolVersion::V5 {
            if session.stamp == self.stamp {
                return;
            }
            session.stamp = self.stamp;
        }
        if self.restricted && !session.may(self.access, self.topic, Right::Read) {
            return;
        }
        self.queues.push(sub.session, session, delivery(settings, self.msg, sub, false));
    }

    fn offer(&mut self, sub: &Match, online: bool) -> bool {
        self.matched = true;
        let settings = self.queues.settings;
        let delivery = delivery(settings, self.msg, sub, true);
        // Nobody keeps a QoS 0 message for an absent member, so it is better lost than taking the turn of a present one.
        let Some(session) = self.sessions.get_mut(sub.session) else { return false };
        if !online && delivery.flags.qos() == QoS::AtMostOnce && !keeps_qos0(settings, session) {
            return false;
        }
        // A message is better read by another member than lost, as in C Mosquitto.
        if self.restricted && !session.may(self.access, self.topic, Right::Read) {
            return false;
        }
        self.queues.push(sub.session, session, delivery)
    }
}

/// What it takes to append to the queues of sessions.
struct Queues<'a> {
    settings: &'a Global,
    changes: &'a mut Changes,
    stats: &'a mut Stats,
    storage: &'a mut Storage,
    dirty: &'a mut Vec<ConnId>,
    pressure: &'a mut u32,
}

fn delivery(settings: &Global, msg: &Msg, sub: &Match, shared: bool) -> Delivery {
    let qos = granted(settings, sub.options.qos, msg);
    let retain = msg.retain() && sub.options.retain_as_published;
    Delivery { msg: Some(msg.clone()), sub_id: sub.id, id: 0, out: Out::Queued, flags: Flags::new(qos, retain, shared) }
}

/// The QoS of a message for a subscription: the lower of the two [MQTT-3.8.4-8], unless the configuration asks for more
/// `[conf: upgrade_outgoing_qos]`.
pub(crate) fn granted(settings: &Global, subscription: QoS, msg: &Msg) -> QoS {
    let upgrade = settings.upgrade_outgoing_qos && !settings.strict_conformance;
    if upgrade { subscription } else { subscription.min(msg.qos()) }
}

impl Queues<'_> {
    /// Appends to a session's queue, or drops the newest when a limit is reached, as C Mosquitto does.
    fn push(&mut self, id: SessionId, session: &mut Session, delivery: Delivery) -> bool {
        let (online, asleep) = match session.attachment {
            Attachment::WillOnly => return false,
            Attachment::Offline => (false, false),
            Attachment::Online(_) => (true, false),
            Attachment::Asleep(..) => (true, true),
        };
        let qos0 = delivery.flags.qos() == QoS::AtMostOnce;
        if qos0 && !keeps_qos0(self.settings, session) {
            return false;
        }
        let express = qos0 && online;
        if express && asleep && !has_room(self.settings, session, express) {
            // Of QoS 0 a sleeping client is better told what is new.
            self.stats.dropped += u64::from(session.flow_mut().drop_oldest_qos0());
        }
        if !has_room(self.settings, session, express) {
            self.stats.dropped += 1;
            if !session.drop_noted {
                session.drop_noted = true;
                notice!("Outgoing messages are being dropped for client {}.", session.client_id());
            }
            return false;
        }
        // Else it is only for this connection.
        if !express || session.flow.as_ref().is_some_and(|flow| !flow.takes_express()) {
            self.storage.queueing(id, session);
            if session.lasts() {
                record_queued(self.changes, session.client_id(), &delivery);
            }
        }
        let flow = session.flow_mut();
        flow.push(delivery, express);
        if online && !asleep {
            let len = if express && flow.takes_express() { flow.queued_qos0() } else { flow.queued() };
            *self.pressure = self.pressure.saturating_add(pressure_of(self.settings, len));
        }
        mark_dirty(self.dirty, session);
        true
    }
}

/// Whether a QoS 0 message for the session is worth keeping.
fn keeps_qos0(settings: &Global, session: &Session) -> bool {
    match session.attachment {
        Attachment::Online(_) => true,
        Attachment::Asleep(_, keep) => keep.0,
        Attachment::Offline | Attachment::WillOnly => settings.queue_qos0_messages || session.keeps_qos0,
    }
}

fn has_room(settings: &Global, session: &Session, express: bool) -> bool {
    let Some(flow) = &session.flow else { return true };
    let max = settings.max_queued_messages as usize;
    let max_bytes = u64::from(settings.max_queued_bytes);
    if express && flow.takes_express() {
        return max == 0 || flow.queued_qos0() < max;
    }
    let window = if session.online() { session.window(settings) } else { 0 };
    (max == 0 || flow.queued() < max.saturating_add(window)) && (max_bytes == 0 || flow.queued_bytes() < max_bytes)
}

/// How much it matters that a connected client's queue of this length is flushed before more is put into it.
fn pressure_of(settings: &Global, len: usize) -> u32 {
    match settings.max_queued_messages as usize {
        0 => 0,
        max if len >= max => PRESSURE_LIMIT,
        max if len > max / 4 => 1,
        _ => 0,
    }
}

/// Records that a message is now in the queue of a session that lasts.
pub(crate) fn record_queued(changes: &mut Changes, client_id: &str, delivery: &Delivery) {
    let Some(msg) = &delivery.msg else { return };
    let (flags, sub_id) = (delivery.flags, delivery.sub_id);
    changes.record_with(msg, |number| Change::Queued {
        client_id,
        entry: Queued { number, qos: flags.qos(), retain: flags.retain(), shared: flags.shared(), sub_id },
    });
}

/// Puts a connected session on the list of those to be flushed.
pub(crate) fn mark_dirty(dirty: &mut Vec<ConnId>, session: &mut Session) {
    if let Some(conn) = session.conn()
        && !session.dirty
    {
        session.dirty = true;
        dirty.push(conn);
    }
}

impl Broker {
    /// True when queues of connected clients should be flushed before more is published.
    #[must_use]
    pub fn wants_flush(&self) -> bool {
        self.pressure >= PRESSURE_LIMIT
    }

    /// The subscription table and a router for `msg`, side by side.
    pub(crate) fn router<'a>(&'a mut self, msg: &'a Msg, from: Option<SessionId>) -> (&'a mut Subs, Router<'a>) {
        self.publish_stamp = self.publish_stamp.wrapping_add(1).max(1);
        let Broker {
            access, subs, sessions, settings, changes, stats, storage, dirty, pressure, publish_stamp, ..
        } = self;
        let (restricted, stamp) = (access.restricts(), *publish_stamp);
        let topic = msg.topic();
        let matched = false;
        let queues = Queues { settings, changes, stats, storage, dirty, pressure };
        (subs, Router { access, restricted, sessions, queues, msg, topic, from, stamp, matched })
    }

    /// Whether the client of a session may do this with a topic, mount point included.
    #[must_use]
    pub fn may(&self, id: SessionId, topic: &str, right: Right) -> bool {
        self.sessions.get(id).is_some_and(|session| session.may(&self.access, topic, right))
    }

    /// The message that the client of a session publishes. `None` as for [`Msg::new`].
    #[must_use]
    pub fn message(&self, now: Now, from: SessionId, new: &NewMessage<'_>) -> Option<Msg> {
        // The database has a place for it.
        let stored = self.settings.persistence && (new.retain || new.qos != QoS::AtMostOnce);
        let wanted = stored || (self.settings.check_retain_source && new.retain);
        let session = if wanted { self.sessions.get(from) } else { None };
        let source = session.map(|session| Source {
            client_id: session.client_id(),
            username: session.username(),
            port: session.listener_port,
        });
        Msg::from_source(now, new, self.settings.strict_conformance, source)
    }

    /// Routes a message: keeps it if it is retained, and queues it for every session that subscribed to its topic. `from`
    /// is the session that published it, for no-local; `None` for wills and the broker's own messages.
    pub fn publish(&mut self, now: Now, from: Option<SessionId>, msg: &Msg) -> Published {
        self.changes.begin();
        if msg.retain() {
            self.storage.before_retained(msg.topic(), &self.retained);
            let lasting = !is_own_topic(msg.topic());
            if msg.payload_len() == 0 {
                if self.retained.remove(msg.topic()).is_some() && lasting {
                    self.changes.record(|| Change::Cleared { topic: msg.topic() });
                }
            } else if !msg.expired(now) {
                self.retained.insert(msg.clone());
                if lasting {
                    self.changes.record_with(msg, |number| Change::Retained { number });
                }
            }
        }
        let (subs, mut router) = self.router(msg, from);
        let work = subs.publish(router.topic, &mut router);
        let matched = router.matched;
        self.changes.end();
        Published { matched, work }
    }

    /// Sends `payload` to one client with QoS 0, whether it subscribed or not, if it may read the topic: how `$CONTROL`
    /// answers.
    pub fn answer(&mut self, now: Now, id: SessionId, topic: &str, payload: &[u8]) {
        let new = NewMessage { topic, payload, qos: QoS::AtMostOnce, retain: false, props: &[], expiry_s: None };
        let (Some(msg), Some(session)) = (Msg::new(now, &new), self.sessions.get_mut(id)) else { return };
        if !session.may(&self.access, topic, Right::Read) {
            return;
        }
        let flags = Flags::new(QoS::AtMostOnce, false, false);
        let delivery = Delivery { msg: Some(msg), sub_id: 0, id: 0, out: Out::Queued, flags };
        let Broker { settings, changes, stats, storage, dirty, pressure, .. } = self;
        Queues { settings, changes, stats, storage, dirty, pressure }.push(id, session, delivery);
    }
}

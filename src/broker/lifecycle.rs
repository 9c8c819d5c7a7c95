//! What happens to sessions over time: connect, take-over, disconnect, expiry, delayed wills, the end.

use super::auth::access::RulesId;
use super::auth::acl::Right;
use super::changes::Changes;
use super::changes::record::Change;
use super::message::Msg;
use super::retain::{Cursor, Step};
use super::session::{Attachment, NEVER, Session};
use super::stored::StoredSession;
use super::will::Will;
use super::{Action, Broker, ConnId, SessionId};
use crate::config::Global;
use crate::notice;
use crate::timer::{Entry, Now};
use crate::wire::ProtocolVersion;

/// At most this many sessions are ended in one turn, so that a thousand of them expiring together stop nobody else.
const TIMERS_PER_TURN: usize = 256;
/// Subscriptions of a session that ends which go at once, and of all that have ended in one turn: as many as can come.
const SUBSCRIPTIONS_AT_ONCE: u32 = 64;
const SUBSCRIPTIONS_PER_TURN: u32 = 8192;
/// Retained messages looked at in one turn by the sweep for expired ones.
const SWEEP_PER_TURN: u32 = 2000;
/// Copies of one message, from several groups, that are passed on when a session ends.
const MAX_COPIES: usize = 256;

/// A client that may connect: everything about it has been checked.
#[derive(Debug)]
pub struct ConnectRequest<'a> {
    /// Its connection.
    pub conn: ConnId,
    /// Its client id, possibly one the broker made.
    pub client_id: &'a str,
    /// Its user name.
    pub username: Option<&'a str>,
    /// Clean session (v3) or clean start (v5).
    pub clean_start: bool,
    /// Seconds the session is to outlive the connection; [`NEVER`] for ever.
    pub expiry_s: u32,
    /// Its protocol version.
    pub version: ProtocolVersion,
    /// It says it is a bridge.
    pub bridge: bool,
    /// The rules of its listener.
    pub rules: RulesId,
    /// The port of its listener; 0 for a UNIX socket.
    pub listener_port: u16,
    /// QoS 1 and 2 messages it says it takes at once; without it `[conf: max_inflight_messages]` decides.
    pub receive_maximum: Option<u16>,
    /// Its will.
    pub will: Option<Will>,
}

/// A client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Its session.
    pub session: SessionId,
    /// The session is an earlier one [MQTT-3.2.2-2].
    pub present: bool,
}

/// Why a client cannot have a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectRefused {
    /// `[conf: global_max_clients]` is reached, or the table is full.
    TooManyClients,
    /// `[conf: memory_limit]` is reached.
    OutOfMemory,
    /// The session would have to be stored, and storage is full.
    StorageFull,
    /// The client id is that of a bridge of this broker, whose queue is nobody else's.
    OfBridge,
}

/// How a connection leaves its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The will is to be published, after its delay.
    pub will: bool,
    /// A new session expiry from DISCONNECT.
    pub expiry_s: Option<u32>,
}

/// The periodic search for expired retained messages `[conf: retain_expiry_interval]`.
pub(crate) struct Sweep {
    interval_ms: u64,
    due_ms: u64,
    cursor: Cursor,
}

impl Sweep {
    pub(crate) fn new(settings: &Global, now: Now) -> Sweep {
        let interval_ms = settings.retain_expiry_interval.map_or(0, |s| u64::from(s) * 1000);
        Sweep { interval_ms, due_ms: now.mono_ms.saturating_add(interval_ms), cursor: Cursor::default() }
    }
}

impl Broker {
    /// Attaches a connection to the session of its client id, which is resumed or made. A connection that had it is taken
    /// over: an [`Action`] closes it.
    pub fn connect(&mut self, now: Now, request: ConnectRequest<'_>) -> Result<Connected, ConnectRefused> {
        if let Some(id) = self.sessions.find(request.client_id) {
            // Its timer may still wait for its turn.
            self.session_due(now, id);
        }
        let existing = self.sessions.find(request.client_id);
        let of_bridge = |id| self.sessions.get(id).is_some_and(|session| session.rules == RulesId::BRIDGE);
        if request.rules != RulesId::BRIDGE && existing.is_some_and(of_bridge) {
            return Err(ConnectRefused::OfBridge);
        }
        if existing.is_some_and(|id| self.brings_too_much(id, &request)) {
            return Err(ConnectRefused::OutOfMemory);
        }
        let expiry_s = self.expiry_for(&request);
        let own = request.rules == RulesId::BRIDGE;
        if expiry_s != 0
            && !own
            && self.changes.is_refusing()
            && !existing.is_some_and(|id| self.is_as_stored(id, &request))
        {
            return Err(ConnectRefused::StorageFull);
        }
        let old_conn = existing.and_then(|id| self.conn_of(id));
        let resumed = existing.and_then(|id| self.take_over(now, id, request.clean_start));
        let id = match resumed {
            Some(id) => id,
            None => {
                // Who had a session gets another instead: it is gone by now, and its connection must learn of that.
                if existing.is_none() {
                    let max = self.settings.global_max_clients;
                    if max.is_some_and(|max| self.sessions.len() >= max as usize) {
                        return Err(ConnectRefused::TooManyClients);
                    }
                    if self.over_memory() {
                        return Err(ConnectRefused::OutOfMemory);
                    }
                }
                self.sessions.insert(request.client_id, request.version).ok_or(ConnectRefused::TooManyClients)?
            }
        };
        if let Some(conn) = old_conn {
            self.actions.push_back(Action::TakeOver { conn, by: id });
        }
        let stored = resumed.is_some_and(|id| self.is_as_stored(id, &request));
        let Some(session) = self.sessions.get_mut(id) else { return Err(ConnectRefused::TooManyClients) };
        match resumed {
            Some(_) => self.storage.before_all(id, session, &self.subs),
            None => self.storage.inserted(id),
        }
        if expiry_s != 0 {
            self.storage.count_only();
        }
        if !stored {
            self.storage.alter_if(session.expiry_s != 0 || expiry_s != 0);
        }
        session.attachment = Attachment::Online(request.conn);
        session.since_s = seconds(now);
        session.expiry_s = expiry_s;
        session.ends_ms = 0;
        session.version = request.version;
        session.bridge = request.bridge;
        session.rules = request.rules;
        session.listener_port = request.listener_port;
        session.receive_maximum = request.receive_maximum;
        session.promised = self.settings.max_inflight_messages;
        session.dirty = false;
        session.drop_noted = false;
        if request.username.is_some() || session.details.is_some() {
            session.details_mut().username = request.username.map(Into::into);
        }
        if request.will.is_some() {
            session.details_mut().will = request.will;
        }
        if request.conn.sn().is_none()
            && let Some(details) = &mut session.details
        {
            // By the rules of MQTT its CONNECT says all about the will.
            details.stored_will = None;
        }
        if let Some(flow) = &mut session.flow {
            flow.reconnect();
            // Who is back may be another user, and other rules may hold.
            if self.access.restricts() {
                flow.distrust_queues();
            }
        }
        session.trim();
        if session.flow.is_some() {
            session.dirty = true;
            self.dirty.push(request.conn);
        }
        self.subs.set_online(&session.subs, true);
        if !stored {
            record_session(&mut self.changes, now, session);
        }
        Ok(Connected { session: id, present: resumed.is_some() })
    }

    /// Whether storage would not know the session from what it is after this request: of one that is to stay for ever it
    /// does not tell who is there.
    fn is_as_stored(&self, id: SessionId, request: &ConnectRequest<'_>) -> bool {
        let Some(session) = self.sessions.get(id) else { return false };
        let same = (session.expiry_s, session.listener_port, session.username());
        let stays = !request.clean_start && self.expiry_for(request) == NEVER;
        stays && same == (NEVER, request.listener_port, request.username)
    }

    /// Takes an existing session from whoever has it. `None` when it ends thereby.
    fn take_over(&mut self, now: Now, id: SessionId, clean_start: bool) -> Option<SessionId> {
        let session = self.sessions.get_mut(id)?;
        let will = session.take_will();
        self.storage.before_all(id, session, &self.subs);
        let online = session.online();
        let ends = match session.attachment {
            Attachment::Online(_) | Attachment::Asleep(..) => clean_start || session.expiry_s == 0,
            Attachment::Offline => clean_start,
            Attachment::WillOnly => true,
        };
        if online {
            session.attachment = Attachment::Offline;
        }
        let strict = self.settings.strict_conformance;
        let due = |will: &Will| match strict {
            // A will with a delay is void once the client is back, whatever becomes of the session.
            false => online && ends && will.delay_s == 0,
            // It is void only if the session goes on [MQTT-3.1.3-9]; without a delay it was due at the close.
            true => ends || (online && will.delay_s == 0),
        };
        if let Some(will) = will.filter(due) {
            self.publish_will(now, id, &will);
        }
        if ends {
            self.end_session(id);
            return None;
        }
        Some(id)
    }

    /// Detaches a connection. Does nothing when the session belongs to another connection by now.
    pub fn disconnect(&mut self, now: Now, id: SessionId, conn: ConnId, ending: Ending) {
        let expiry = ending.expiry_s.map(|s| self.capped_expiry(s));
        let Some(session) = self.sessions.get_mut(id).filter(|session| session.conn() == Some(conn)) else { return };
        self.storage.before_all(id, session, &self.subs);
        let forever = session.expiry_s == NEVER && expiry.unwrap_or(NEVER) == NEVER;
        let lasted = session.lasts();
        self.storage.alter_if(lasted && !forever);
        session.attachment = Attachment::Offline;
        session.since_s = seconds(now);
        session.dirty = false;
        session.expiry_s = expiry.unwrap_or(session.expiry_s);
        if let Some(flow) = &mut session.flow {
            flow.replays.retain(|replay| replay.qos != crate::wire::QoS::AtMostOnce);
            flow.discard_qos0();
        }
        let expiry_s = session.expiry_s;
        session.ends_ms = match expiry_s {
            0 | NEVER => 0,
            s => now.mono_ms.saturating_add(u64::from(s) * 1000),
        };
        if !forever && expiry_s != 0 {
            record_session(&mut self.changes, now, session);
        }
        self.subs.set_online(&session.subs, false);
        let will = session.take_will();
        if conn.sn().is_some() && expiry_s != 0 {
            // It stays with the session, published or not [SN 6.3].
            if let Some(will) = &will {
                session.details_mut().stored_will = Some(Box::new(will.clone()));
            }
        }
        let mut will_now = will.filter(|_| ending.will);
        // By the letter the end of the session ends the delay too [MQTT-3.1.3-9].
        let at_once = expiry_s == 0 && self.settings.strict_conformance;
        if let Some(will) = will_now.take_if(|will| will.delay_s != 0 && !at_once) {
            let due = now.mono_ms.saturating_add(u64::from(will.delay_s) * 1000);
            let details = session.details_mut();
            details.will = Some(will);
            details.will_due_ms = due;
            if expiry_s == 0 {
                // As C Mosquitto 2.1.2: the delay of the will is waited for although the session ends now.
                self.end_but_will(id);
            }
        } else {
            if let Some(will) = &will_now {
                self.publish_will(now, id, will);
            }
            if expiry_s == 0 {
                self.end_session(id);
                return;
            }
        }
        if let Some(session) = self.sessions.get_mut(id) {
            session.trim();
        }
        self.arm(id);
    }

    /// How long the session of a request outlives its connection; the cap is not for the broker's own bridges.
    fn expiry_for(&self, request: &ConnectRequest<'_>) -> u32 {
        match request.rules {
            RulesId::BRIDGE => request.expiry_s,
            _ => self.capped_expiry(request.expiry_s),
        }
    }

    fn capped_expiry(&self, expiry_s: u32) -> u32 {
        self.settings.persistent_client_expiration.map_or(expiry_s, |cap| expiry_s.min(cap))
    }

    /// Publishes a will if its client may [MQTT-3.1.2-8].
    pub(crate) fn publish_will(&mut self, now: Now, id: SessionId, will: &Will) {
        // One without a topic is half of a will [SN 6.4].
        if will.topic.is_empty() || !self.may(id, &will.topic, Right::Write) {
            return;
        }
        let strict = self.settings.strict_conformance;
        if let Some(msg) = self.message(now, id, &will.to_publish(self.settings.retain_available)) {
            // By the letter a will comes from its client, and No Local keeps it from there [MQTT-3.8.3-3].
            self.publish(now, strict.then_some(id), &msg);
        }
    }

    /// Removes a session and all it has; shared messages it left unacknowledged go to another member.
    pub(crate) fn end_session(&mut self, id: SessionId) {
        self.empty_session(id);
        // While subscriptions still name it, no other session may have its id.
        let is_named = self.leaving.iter().any(|(leaving, _)| *leaving == id);
        let removed = if is_named { self.sessions.retire(id) } else { self.sessions.remove(id) };
        let Some(session) = removed else { return };
        if session.timer_ms != 0 {
            self.forsake_timer();
        }
    }

    /// Ends the session but keeps its client id with the will until the delay has passed.
    fn end_but_will(&mut self, id: SessionId) {
        self.empty_session(id);
        if let Some(session) = self.sessions.get_mut(id) {
            session.attachment = Attachment::WillOnly;
            session.ends_ms = 0;
        }
    }

    fn empty_session(&mut self, id: SessionId) {
        self.changes.begin();
        self.pass_session_on(id);
        self.changes.end();
    }

    fn pass_session_on(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        self.storage.before_all(id, session, &self.subs);
        self.storage.alter_if(session.lasts());
        let flow = session.flow.take();
        if std::mem::take(&mut session.recorded) {
            self.changes.record(|| Change::SessionEnded { client_id: session.client_id() });
        }
        let mut list = std::mem::take(&mut session.subs);
        // Offline first, so that a message is not offered to the one who leaves.
        self.subs.set_online(&list, false);
        // The copies of one message, from several groups, stand side by side: each goes back to a group of its own.
        let mut last: Option<Msg> = None;
        let mut copies = Vec::new();
        for (msg, sub_id) in flow.into_iter().flat_map(|flow| flow.take_shared()) {
            if last.as_ref().is_none_or(|last| !last.same(&msg)) {
                copies.clear();
            }
            let skip = copies.iter().filter(|other| **other == sub_id).count();
            if copies.len() < MAX_COPIES {
                copies.push(sub_id);
                let (subs, mut router) = self.router(&msg, None);
                subs.pass_on(&list, id, msg.topic(), sub_id, skip, &mut router);
            }
            last = Some(msg);
        }
        self.subs.remove_some(id, &mut list, SUBSCRIPTIONS_AT_ONCE);
        if !list.is_empty() {
            self.leaving.push_back((id, list));
        }
    }

    /// Removes some of what sessions that have ended still have in the table: one may have had a million subscriptions.
    fn let_leave(&mut self) {
        let mut most = SUBSCRIPTIONS_PER_TURN;
        while let Some((id, list)) = self.leaving.front_mut() {
            most = most.saturating_sub(self.subs.remove_some(*id, list, most));
            if !list.is_empty() {
                return;
            }
            self.sessions.release(*id);
            self.leaving.pop_front();
        }
        self.leaving.shrink_to(64);
    }

    /// The earliest deadline of sessions and sweeps; may be early, never late.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let sweep = (self.sweep.interval_ms != 0).then_some(self.sweep.due_ms);
        let leaving = (!self.leaving.is_empty()).then_some(0);
        [leaving, self.timers.next_deadline(), sweep, self.sys.next_deadline(&self.settings)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due: wills, expired sessions, the sweep of expired retained messages, `$SYS`.
    pub fn on_timers(&mut self, now: Now) {
        for _ in 0..TIMERS_PER_TURN {
            let Some(Entry { deadline_ms, id }) = self.timers.pop_due(now) else { break };
            let id = SessionId(crate::slab::Key::from_bits(id));
            match self.sessions.get_mut(id) {
                Some(session) if session.timer_ms == deadline_ms => {
                    session.timer_ms = 0;
                    self.session_due(now, id);
                }
                _ => self.timers.dropped_stale(),
            }
        }
        self.let_leave();
        self.sweep_retained(now);
        if self.is_sys_due(now) {
            self.publish_sys(now);
        }
    }

    /// True when [`Broker::on_timers`] will publish `$SYS`, for which the gauges of the sockets have to be up to date.
    #[must_use]
    pub fn is_sys_due(&self, now: Now) -> bool {
        self.sys.next_deadline(&self.settings).is_some_and(|due| due <= now.mono_ms)
    }

    fn session_due(&mut self, now: Now, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.online() {
            return;
        }
        let expired = session.ends_ms != 0 && session.ends_ms <= now.mono_ms;
        let will_due = session.details.as_ref().is_some_and(|d| d.will_due_ms != 0 && d.will_due_ms <= now.mono_ms);
        // The will is published when its delay has passed or the session ends, whichever is first [MQTT-3.1.3-9].
        if let Some(will) = if expired || will_due { session.take_will() } else { None } {
            let will_only = session.attachment == Attachment::WillOnly;
            self.publish_will(now, id, &will);
            if will_only {
                self.end_session(id);
                return;
            }
        }
        if expired {
            notice!("Expiring client {} due to timeout.", self.client_id(id));
            self.stats.expired_sessions += 1;
            self.end_session(id);
            return;
        }
        self.arm(id);
    }

    /// Makes sure the timer of a disconnected session fires in time. An armed timer that is early enough stays.
    pub(super) fn arm(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let will_due = session.details.as_ref().map_or(0, |details| details.will_due_ms);
        let Some(deadline) = [session.ends_ms, will_due].into_iter().filter(|due| *due != 0).min() else { return };
        if session.timer_ms != 0 && session.timer_ms <= deadline {
            return;
        }
        let replaced = session.timer_ms != 0;
        session.timer_ms = deadline;
        self.timers.arm(deadline, id.0.to_bits());
        if replaced {
            self.forsake_timer();
        }
    }

    fn forsake_timer(&mut self) {
        let sessions = &self.sessions;
        self.timers.forsake(|entry| {
            let id = SessionId(crate::slab::Key::from_bits(entry.id));
            sessions.get(id).is_some_and(|session| session.timer_ms == entry.deadline_ms)
        });
    }

    fn sweep_retained(&mut self, now: Now) {
        if self.sweep.interval_ms == 0 || self.sweep.due_ms > now.mono_ms {
            return;
        }
        let mut budget = SWEEP_PER_TURN;
        loop {
            match self.retained.sweep(now, &mut self.sweep.cursor, &mut budget) {
                Step::Hit(_) => self.storage.alter(),
                Step::OutOfBudget => break,
                Step::Done => {
                    self.sweep.cursor = Cursor::default();
                    self.sweep.due_ms = now.mono_ms.saturating_add(self.sweep.interval_ms);
                    break;
                }
            }
        }
    }

    /// Publishes every will, of connected clients and delayed ones: the broker is about to stop. The wills reach queues
    /// and the retained store, nobody is sent anything any more.
    pub fn publish_all_wills(&mut self, now: Now) {
        for id in self.sessions.ids() {
            if let Some(will) = self.sessions.get_mut(id).and_then(|session| session.take_will()) {
                self.publish_will(now, id, &will);
            }
        }
    }
}

/// Records a session that lasts as it is now; also one that will end with its connection, if it was to last before.
pub(super) fn record_session(changes: &mut Changes, now: Now, session: &mut Session) {
    if !changes.has_journal() || !(session.lasts() || session.recorded) {
        return;
    }
    session.recorded = true;
    let session = &*session;
    let left_s = (session.ends_ms != 0).then(|| session.ends_ms.saturating_sub(now.mono_ms).div_ceil(1000));
    changes.record(|| {
        Change::Session(StoredSession {
            client_id: session.client_id(),
            username: session.username(),
            listener_port: session.listener_port,
            expiry_s: session.expiry_s,
            ends_wall_s: left_s.map(|left| now.wall_s.saturating_add(left)),
            last_id: session.last_id,
        })
    });
}

/// The wall clock in 32 bits, which last until 2106.
fn seconds(now: Now) -> u32 {
    u32::try_from(now.wall_s).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;

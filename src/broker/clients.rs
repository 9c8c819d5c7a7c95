//! What an operator sees and does: who is a client, with what queues; send one away; clear retained messages.

use super::lifecycle::record_session;
use super::message::{Msg, NewMessage};
use super::retain::{Cursor, Step};
use super::subs::SessionSub;
use super::will::Will;
use super::{Action, Broker, ConnId, SessionId};
use crate::timer::Now;
use crate::wire::ProtocolVersion;

/// One client as the core knows it.
#[derive(Clone, Copy, Debug)]
pub struct ClientInfo<'a> {
    /// Its client id.
    pub client_id: &'a str,
    /// The user name it gave, if it gave one.
    pub username: Option<&'a str>,
    /// Its protocol version, at present or when it was last here.
    pub version: ProtocolVersion,
    /// It says it is a bridge.
    pub bridge: bool,
    /// Its connection, while it is here.
    pub conn: Option<ConnId>,
    /// Since when it is here or gone, in seconds since 1970; 0 is unknown.
    pub since_s: u32,
    /// Seconds the session outlives the connection; [`NEVER`](super::NEVER) for ever.
    pub expiry_s: u32,
    /// Seconds until the session of an absent client ends; `None` for ever or while it is here.
    pub ends_in_s: Option<u64>,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Messages that wait to be sent, and payload bytes of all but the QoS 0 ones of a connected client.
    pub queued: (usize, u64),
    /// Messages sent and not yet acknowledged, with their payload bytes.
    pub inflight: (usize, u64),
    /// QoS 2 messages from the client that wait for PUBREL, with their payload bytes.
    pub incoming: (usize, u64),
    /// Messages were dropped on this connection, or since it ended, because a limit of the queue was reached.
    pub dropping: bool,
    /// Its will.
    pub will: Option<&'a Will>,
}

/// What [`Broker::clear_retained`] did in one slice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cleared {
    /// Messages removed.
    pub removed: u64,
    /// There are no more.
    pub done: bool,
}

impl Broker {
    /// The session with this client id.
    #[must_use]
    pub fn find_client(&self, client_id: &str) -> Option<SessionId> {
        self.sessions.find(client_id)
    }

    /// The parts that the table of clients has for [`Broker::clients_in`].
    #[must_use]
    pub fn client_parts(&self) -> usize {
        self.sessions.parts()
    }

    /// The clients of one part, at most 64: a million are walked without stopping anybody else.
    pub fn clients_in(&self, part: usize) -> impl Iterator<Item = SessionId> {
        self.sessions.part(part)
    }

    /// All about one client; `None` when its session is gone.
    #[must_use]
    pub fn client(&self, now: Now, id: SessionId) -> Option<ClientInfo<'_>> {
        let session = self.sessions.get(id)?;
        let details = session.details.as_ref();
        let flow = session.flow.as_ref();
        Some(ClientInfo {
            client_id: session.client_id(),
            username: details.and_then(|details| details.username.as_deref()),
            version: session.version,
            bridge: session.bridge,
            conn: session.conn(),
            since_s: session.since_s,
            expiry_s: session.expiry_s,
            ends_in_s: (session.ends_ms != 0).then(|| session.ends_ms.saturating_sub(now.mono_ms).div_ceil(1000)),
            subscriptions: session.subs.len(),
            queued: flow.map_or((0, 0), |f| (f.queued().saturating_add(f.queued_qos0()), f.queued_bytes())),
            inflight: flow.map_or((0, 0), |f| (f.inflight(), f.inflight_bytes())),
            incoming: flow.map_or((0, 0), |f| (f.inbound.len(), f.inbound_bytes())),
            dropping: session.drop_noted,
            will: details.and_then(|details| details.will.as_ref()),
        })
    }

    /// The subscriptions of a client, shared ones first.
    pub fn subscriptions_of(&self, id: SessionId) -> impl Iterator<Item = SessionSub<'_>> {
        self.sessions.get(id).into_iter().flat_map(|session| self.subs.of_session(&session.subs))
    }

    /// Hands a request to whoever knows the connections.
    pub fn ask_control(&mut self, from: SessionId, request: &[u8]) {
        self.actions.push_back(Action::Control { from, request: request.into() });
    }

    /// Has the connection closed if it still belongs to the session; `end_session` ends the session with it.
    pub fn kick(&mut self, now: Now, id: SessionId, conn: ConnId, end_session: bool) {
        let Some(session) = self.sessions.get_mut(id).filter(|session| session.conn() == Some(conn)) else { return };
        if end_session && session.expiry_s != 0 {
            // From here on as after a CONNECT that asked for no more, except that storage knew the session.
            session.expiry_s = 0;
            record_session(&mut self.changes, now, session);
        }
        self.actions.push_back(Action::Kick { conn });
    }

    /// Ends the session of an absent client, with its will if that was still to come [MQTT-3.1.3-9]. False when the client
    /// is here or unknown.
    pub fn end_absent(&mut self, now: Now, id: SessionId) -> bool {
        let Some(session) = self.sessions.get_mut(id).filter(|session| !session.online()) else { return false };
        if let Some(will) = session.take_will() {
            self.publish_will(now, id, &will);
        }
        self.end_session(id);
        true
    }

    /// Removes the retained messages that match a filter, as if a client had published an empty one for each: who
    /// subscribed learns of it. Looks and deliveries take from `budget`; call again with the same cursor.
    pub fn clear_retained(&mut self, now: Now, filter: &str, cursor: &mut Cursor, budget: &mut u32) -> Cleared {
        let mut removed = 0;
        while !self.is_congested() && !self.wants_flush() {
            match self.retained.scan(filter, cursor, budget) {
                Step::Done => return Cleared { removed, done: true },
                Step::OutOfBudget => break,
                Step::Hit(old) => {
                    let empty = NewMessage {
                        topic: old.topic(),
                        payload: &[],
                        qos: old.qos(),
                        retain: true,
                        props: &[],
                        expiry_s: None,
                    };
                    let Some(msg) = Msg::new(now, &empty) else { continue };
                    let work = self.publish(now, None, &msg).work;
                    *budget = budget.saturating_sub(work);
                    removed += 1;
                }
            }
        }
        Cleared { removed, done: false }
    }
}

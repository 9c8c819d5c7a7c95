//! Sessions: keyed by client id, outliving the connection. This file owns the table of sessions and what one session is;
//! what happens to sessions over time stands in `lifecycle`.

use siphasher::sip::SipHasher13;
use std::hash::Hasher;

use super::auth::access::{Access, RulesId};
use super::auth::acl::{Right, Who};
use super::auth::login::Proof;
use super::index::Index;
use super::inflight::Flow;
use super::subs::SubList;
use super::will::Will;
use super::{ConnId, SessionId};
use crate::config::Global;
use crate::slab::Slab;
use crate::wire::ProtocolVersion;

/// Session expiry interval that never ends [MQTT-3.1.2.11.2].
pub const NEVER: u32 = u32::MAX;

/// Whether a client is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Attachment {
    /// Connected through this connection.
    Online(ConnId),
    /// Connected, and asleep for a while [SN 6.14]: what comes is kept and not sent.
    Asleep(ConnId, KeepQos0),
    /// Not connected.
    Offline,
    /// The session has ended; only its delayed will is still to be published.
    WillOnly,
}

/// Whether QoS 0 messages are kept for a client that sleeps `[conf: mqttsn_queue_qos0_asleep]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KeepQos0(pub(crate) bool);

/// One session. Kept small: an idle client is mostly this, its connection and its subscription.
pub(crate) struct Session {
    client_id: Box<str>,
    pub(crate) subs: SubList,
    pub(crate) flow: Option<Box<Flow>>,
    pub(crate) details: Option<Box<Details>>,
    /// The deadline of the armed timer, 0 for none.
    pub(crate) timer_ms: u64,
    /// When the session ends, 0 for never or while connected.
    pub(crate) ends_ms: u64,
    pub(crate) attachment: Attachment,
    /// Seconds the session outlives its connection; [`NEVER`] for ever.
    pub(crate) expiry_s: u32,
    /// When the client came or went, in seconds since 1970.
    pub(crate) since_s: u32,
    /// The last publish that reached this session, to merge overlapping subscriptions.
    pub(crate) stamp: u32,
    /// The last packet identifier handed out.
    pub(crate) last_id: u16,
    /// How many QoS 1 and 2 messages the client said it takes at once.
    pub(crate) receive_maximum: Option<u16>,
    /// How many the broker promised to take from a v5 client at once [MQTT-3.2.2-11]; 0 is unlimited. A promise holds for
    /// the connection, whatever a reload says.
    pub(crate) promised: u16,
    /// The rules of passwords and access of its listener.
    pub(crate) rules: RulesId,
    /// The port of the listener it came through; 0 for a UNIX socket.
    pub(crate) listener_port: u16,
    pub(crate) version: ProtocolVersion,
    pub(crate) bridge: bool,
    /// QoS 0 messages wait too while its connection is away `[conf: start_type]`.
    pub(crate) keeps_qos0: bool,
    /// On the list of connections to flush.
    pub(crate) dirty: bool,
    /// The notice about dropped messages was given on this connection.
    pub(crate) drop_noted: bool,
    /// The journal knows it, and must learn of its end.
    pub(crate) recorded: bool,
}

/// Who a session belongs to, as far as access goes.
pub(crate) struct Client<'a> {
    rules: RulesId,
    client_id: &'a str,
    details: Option<&'a Details>,
}

impl<'a> Client<'a> {
    /// Its client id.
    pub(crate) fn id(&self) -> &'a str {
        self.client_id
    }

    /// Whether it may do this with a topic.
    pub(crate) fn may(&self, access: &Access, topic: &str, right: Right) -> bool {
        let username = self.details.and_then(|details| details.username.as_deref());
        access.may(self.rules, Who { username, client_id: self.client_id }, topic, right)
    }
}

/// What only some sessions have.
#[derive(Default)]
pub(crate) struct Details {
    pub(crate) username: Option<Box<str>>,
    /// What proved that.
    pub(crate) proof: Proof,
    pub(crate) will: Option<Will>,
    /// When the delayed will is due, 0 while the client is connected.
    pub(crate) will_due_ms: u64,
    /// The will of an MQTT-SN client that is away, for when it comes back and brings none [SN 6.3].
    pub(crate) stored_will: Option<Box<Will>>,
}

impl Session {
    pub(crate) fn client_id(&self) -> &str {
        &self.client_id
    }

    pub(crate) fn conn(&self) -> Option<ConnId> {
        match self.attachment {
            Attachment::Online(conn) | Attachment::Asleep(conn, _) => Some(conn),
            Attachment::Offline | Attachment::WillOnly => None,
        }
    }

    pub(crate) fn online(&self) -> bool {
        self.conn().is_some()
    }

    /// Whether it outlives its connection: what is stored, and what changes of it are recorded.
    pub(crate) fn lasts(&self) -> bool {
        self.expiry_s != 0 && self.attachment != Attachment::WillOnly
    }

    pub(crate) fn username(&self) -> Option<&str> {
        self.details.as_ref()?.username.as_deref()
    }

    /// Whether its client may do this with a topic.
    pub(crate) fn may(&self, access: &Access, topic: &str, right: Right) -> bool {
        let client = Client { rules: self.rules, client_id: &self.client_id, details: self.details.as_deref() };
        client.may(access, topic, right)
    }

    /// The queues and the last packet identifier, and beside them whose they are.
    pub(crate) fn sending(&mut self) -> (Option<&mut Flow>, &mut u16, Client<'_>) {
        let Session { client_id, details, flow, rules, last_id, .. } = self;
        (flow.as_deref_mut(), last_id, Client { rules: *rules, client_id, details: details.as_deref() })
    }

    /// How many QoS 1 and 2 messages may be under way to the client; 0 is unlimited. What the broker holds back on its own
    /// account follows the settings.
    pub(crate) fn window(&self, settings: &Global) -> usize {
        usize::from(self.receive_maximum.unwrap_or(settings.max_inflight_messages))
    }

    /// How many QoS 2 messages may be under way from the client; 0 is unlimited.
    pub(crate) fn inbound_window(&self, settings: &Global) -> usize {
        let limit = if self.version == ProtocolVersion::V5 { self.promised } else { settings.max_inflight_messages };
        usize::from(limit)
    }

    /// The queues, made when first needed.
    pub(crate) fn flow_mut(&mut self) -> &mut Flow {
        self.flow.get_or_insert_default()
    }

    pub(crate) fn details_mut(&mut self) -> &mut Details {
        self.details.get_or_insert_default()
    }

    pub(crate) fn take_will(&mut self) -> Option<Will> {
        let details = self.details.as_mut()?;
        details.will_due_ms = 0;
        details.will.take()
    }

    /// Drops the queues and details when they hold nothing.
    pub(crate) fn trim(&mut self) {
        if self.flow.as_ref().is_some_and(|flow| flow.is_empty()) {
            self.flow = None;
        }
        if self.details.as_ref().is_some_and(|d| d.username.is_none() && d.will.is_none() && d.stored_will.is_none()) {
            self.details = None;
        }
    }
}

/// All sessions and the one map from client id to session.
pub(crate) struct Sessions {
    slab: Slab<Session>,
    by_client_id: Index<SessionId>,
    hash_keys: [u64; 2],
}

impl Sessions {
    pub(crate) fn new(hash_keys: [u64; 2]) -> Sessions {
        Sessions { slab: Slab::new(), by_client_id: Index::default(), hash_keys }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<&Session> {
        self.slab.get(id.0)
    }

    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.slab.get_mut(id.0)
    }

    pub(crate) fn find(&self, client_id: &str) -> Option<SessionId> {
        let hash = hash(self.hash_keys, client_id);
        self.by_client_id.find(hash, |id| self.slab.get(id.0).is_some_and(|session| &*session.client_id == client_id))
    }

    /// Adds a session that has no client id yet in the table. `None` when the slab is full.
    pub(crate) fn insert(&mut self, client_id: &str, version: ProtocolVersion) -> Option<SessionId> {
        let session = Session {
            client_id: client_id.into(),
            subs: SubList::default(),
            flow: None,
            details: None,
            timer_ms: 0,
            ends_ms: 0,
            attachment: Attachment::Offline,
            expiry_s: 0,
            since_s: 0,
            stamp: 0,
            last_id: 0,
            receive_maximum: None,
            promised: 0,
            rules: RulesId::GLOBAL,
            listener_port: 0,
            version,
            bridge: false,
            keeps_qos0: false,
            dirty: false,
            drop_noted: false,
            recorded: false,
        };
        let id = SessionId(self.slab.insert(session).ok()?);
        let (slab, keys) = (&self.slab, self.hash_keys);
        self.by_client_id.insert(hash(keys, client_id), id, |id| {
            hash(keys, slab.get(id.0).map_or("", |session| &session.client_id))
        });
        Some(id)
    }

    pub(crate) fn remove(&mut self, id: SessionId) -> Option<Session> {
        let session = self.slab.remove(id.0)?;
        self.forget(id, &session);
        Some(session)
    }

    /// As [`Sessions::remove`], but no other session gets this id before [`Sessions::release`].
    pub(crate) fn retire(&mut self, id: SessionId) -> Option<Session> {
        let session = self.slab.retire(id.0)?;
        self.forget(id, &session);
        Some(session)
    }

    /// Says that nothing refers to a session any more that has retired. Does nothing for others.
    pub(crate) fn release(&mut self, id: SessionId) {
        self.slab.release(id.0);
    }

    fn forget(&mut self, id: SessionId, session: &Session) {
        let (slab, keys) = (&self.slab, self.hash_keys);
        self.by_client_id.remove(
            hash(keys, &session.client_id),
            |other| *other == id,
            |id| hash(keys, slab.get(id.0).map_or("", |session| &session.client_id)),
        );
    }

    /// The number of parts for [`Sessions::part`].
    pub(crate) fn parts(&self) -> usize {
        self.slab.parts()
    }

    /// At most 64 of the sessions.
    pub(crate) fn part(&self, at: usize) -> impl Iterator<Item = SessionId> {
        self.slab.part(at).map(|(key, _)| SessionId(key))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.slab.iter().map(|(key, session)| (SessionId(key), session))
    }

    pub(crate) fn ids(&self) -> Vec<SessionId> {
        self.iter().map(|(id, _)| id).collect()
    }

    #[cfg(any(debug_assertions, test))]
    pub(crate) fn check_invariants(&self) {
        assert_eq!(self.by_client_id.len(), self.slab.len());
        for (id, session) in self.iter() {
            assert_eq!(self.find(&session.client_id), Some(id), "{} is found by its client id", session.client_id);
            if let Some(flow) = &session.flow {
                flow.check_invariants();
            }
        }
    }
}

fn hash(keys: [u64; 2], client_id: &str) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(keys[0], keys[1]);
    hasher.write(client_id.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_session_is_at_most_120_bytes() {
        assert!(size_of::<Session>() <= 120, "{}", size_of::<Session>());
    }

    #[test]
    fn a_session_is_found_until_it_is_removed() {
        let mut sessions = Sessions::new([1, 2]);
        let ids: Vec<SessionId> =
            (0..300).map(|i| sessions.insert(&format!("client-{i}"), ProtocolVersion::V5).unwrap()).collect();
        for (i, id) in ids.iter().enumerate() {
            assert_eq!(sessions.find(&format!("client-{i}")), Some(*id));
        }
        for id in &ids[..290] {
            assert!(sessions.remove(*id).is_some());
        }
        sessions.check_invariants();
        assert_eq!(
            (sessions.len(), sessions.find("client-0"), sessions.find("client-295")),
            (10, None, Some(ids[295]))
        );
    }
}

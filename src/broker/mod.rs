//! The core: sessions, subscriptions, retained messages and queues. It knows neither sockets nor packets nor clocks; its
//! verbs (`connect`, `publish`, `subscribe`, `pull` …) take values and a [`Now`] and return values. What it wants of the
//! outside stands in two lists: connections with something to send (`dirty`) and [`Action`]s.

pub mod auth;
mod bridge;
pub mod changes;
mod clients;
mod deliver;
pub mod figures;
mod index;
mod inflight;
mod lifecycle;
pub mod memory;
pub mod message;
mod outgoing;
pub mod replay;
mod restore;
pub mod retain;
mod session;
mod settings;
mod sleepers;
mod snapshot;
pub mod stats;
pub mod stored;
pub mod subs;
mod subscribe;
#[cfg(feature = "sys-tree")]
#[path = "sys.rs"]
pub mod sys;
#[cfg(not(feature = "sys-tree"))]
#[path = "sys_off.rs"]
pub mod sys;
#[cfg(test)]
mod tests;
pub mod will;

use std::collections::VecDeque;
use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher24};

use crate::config::Global;
use crate::slab::Key;
use crate::timer::{Now, Timers};
use auth::access::Access;
use auth::login::{Check, Logins};
use changes::{ChangeSeq, Changes};
use retain::Retained;
use session::{Session, Sessions};
use snapshot::Storage;
use stats::Stats;
use subs::{SubList, Subs};
use sys::Sys;

pub use bridge::{Backlog, BridgeSession};
pub use clients::{Cleared, ClientInfo};
pub use deliver::Published;
pub use inflight::Acked;
pub use lifecycle::{ConnectRefused, ConnectRequest, Connected, Ending};
pub use outgoing::{Outgoing, Pulled, Received};
pub use session::NEVER;
pub use snapshot::SnapshotState;
pub use subscribe::{SubscribeRefused, SubscribeRequest};

/// A session, until it ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub Key);

/// Whoever is connected to a session: opaque to the core, which only hands it back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId(pub Key);

/// Look-ups of retained messages that all clients together may cause in one flush: thousands of filters that match
/// nothing must not keep the others waiting.
const LOOKS_PER_FLUSH: u32 = 4000;
/// Of these, what one client may use at most, and at least, when the others have used them up.
const LOOKS_PER_CLIENT: std::ops::RangeInclusive<u32> = 8..=2000;

/// What a [`ConnId`] names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attached {
    /// A connection, with the key of its slab.
    Stream(ConnId),
    /// An MQTT-SN client, which has none.
    Sn(SnId),
}

/// A client of the MQTT-SN gateway: the key of its table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SnId(pub Key);

impl ConnId {
    /// The most of each kind: one bit of the index tells them apart.
    pub const PER_KIND: u32 = 1 << 21;

    /// The name of an MQTT-SN client.
    #[must_use]
    pub const fn of_sn(id: SnId) -> ConnId {
        ConnId(Key::from_bits(id.0.to_bits() | ConnId::PER_KIND))
    }

    /// What it names.
    #[must_use]
    pub const fn attached(self) -> Attached {
        let bits = self.0.to_bits();
        if bits & ConnId::PER_KIND == 0 {
            Attached::Stream(self)
        } else {
            Attached::Sn(SnId(Key::from_bits(bits & !ConnId::PER_KIND)))
        }
    }

    /// The MQTT-SN client it names, if it does.
    #[must_use]
    pub const fn sn(self) -> Option<SnId> {
        match self.attached() {
            Attached::Sn(id) => Some(id),
            Attached::Stream(_) => None,
        }
    }
}

/// Something the core wants done to a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Another connection has taken its session over; close it [MQTT-3.1.4-3].
    TakeOver {
        /// The connection that has lost its session.
        conn: ConnId,
        /// The session of the new connection.
        by: SessionId,
    },
    /// An operator wants the connection closed.
    Kick {
        /// The connection.
        conn: ConnId,
    },
    /// A password is to be compared, without the others waiting; the answer goes to the connection, and before that to
    /// [`Logins::answered`].
    Login {
        /// Who waits for it.
        conn: ConnId,
        /// The work.
        check: Box<Check>,
    },
    /// A client asks `$CONTROL/broker/v1` for something that takes a look at the connections.
    Control {
        /// Who asks.
        from: SessionId,
        /// What it sent.
        request: Box<[u8]>,
    },
}

/// The core. Owns every table; see the module documentation.
pub struct Broker {
    pub(crate) settings: Global,
    sessions: Sessions,
    subs: Subs,
    /// What sessions that have ended still have in the table of subscriptions.
    leaving: VecDeque<(SessionId, SubList)>,
    retained: Retained,
    timers: Timers,
    access: Access,
    /// Logins under way.
    pub logins: Logins,
    /// Counters, which the connections add to.
    pub stats: Stats,
    changes: Changes,
    storage: Storage,
    dirty: Vec<ConnId>,
    /// How badly queues need a flush; see `deliver`.
    pressure: u32,
    /// Look-ups of retained messages left for everyone in this flush.
    looks_left: u32,
    actions: VecDeque<Action>,
    publish_stamp: u32,
    id_key: [u64; 2],
    ids_generated: u64,
    sweep: lifecycle::Sweep,
    memory_noted: memory::Noted,
    sys: Sys,
    started: Now,
}

impl Broker {
    /// An empty broker. `hash_keys` key every table whose keys a client chooses; the same keys and inputs replay exactly.
    #[must_use]
    pub fn new(settings: Global, hash_keys: [u64; 2], now: Now) -> Broker {
        Broker {
            sys: Sys::new(now),
            started: now,
            sweep: lifecycle::Sweep::new(&settings, now),
            settings,
            sessions: Sessions::new(hash_keys),
            subs: Subs::new(hash_keys),
            leaving: VecDeque::new(),
            retained: Retained::default(),
            timers: Timers::default(),
            access: Access::default(),
            logins: Logins::new(hash_keys),
            stats: Stats::default(),
            changes: Changes::default(),
            storage: Storage::default(),
            dirty: Vec::new(),
            pressure: 0,
            looks_left: LOOKS_PER_FLUSH,
            actions: VecDeque::new(),
            publish_stamp: 0,
            id_key: [hash_keys[0], !hash_keys[1]],
            ids_generated: 0,
            memory_noted: memory::Noted::default(),
        }
    }

    /// The options of the whole broker.
    #[must_use]
    pub fn settings(&self) -> &Global {
        &self.settings
    }

    /// The connections that have something to send since the last call, each once: the caller flushes them now.
    pub fn take_dirty(&mut self, into: &mut Vec<ConnId>) {
        self.pressure = 0;
        self.looks_left = LOOKS_PER_FLUSH;
        into.append(&mut self.dirty);
    }

    /// What one client may look up among the retained messages in this flush.
    #[must_use]
    pub fn looks(&self) -> u32 {
        self.looks_left.clamp(*LOOKS_PER_CLIENT.start(), *LOOKS_PER_CLIENT.end())
    }

    /// Takes what a client has used of it from what is left for the others.
    pub fn looked(&mut self, used: u32) {
        self.looks_left = self.looks_left.saturating_sub(used);
    }

    /// True when some connection has something to send.
    #[must_use]
    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// True while something is to be done to a connection.
    #[must_use]
    pub fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    /// Has a password compared for a connection.
    pub fn ask_login(&mut self, conn: ConnId, check: Box<Check>) {
        self.actions.push_back(Action::Login { conn, check });
    }

    /// The next thing to be done to a connection.
    pub fn take_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The change an acknowledgement of everything so far has to wait for.
    #[must_use]
    pub fn last_change(&self) -> ChangeSeq {
        self.changes.last()
    }

    /// A packet is about to be handled.
    pub fn begin_packet(&mut self) {
        self.changes.begin_packet();
    }

    /// The change that an acknowledgement to the client of this session has to wait for.
    #[must_use]
    pub fn promised(&self, session: Option<SessionId>) -> ChangeSeq {
        let lasting = session.and_then(|id| self.sessions.get(id)).is_some_and(Session::lasts);
        self.changes.promised(lasting)
    }

    /// True when the change is on disk, so its acknowledgement may leave.
    #[must_use]
    pub fn is_synced(&self, seq: ChangeSeq) -> bool {
        self.changes.is_synced(seq)
    }

    /// The changes for persistence to fetch.
    pub fn changes(&mut self) -> &mut Changes {
        &mut self.changes
    }

    /// Says that `conn` holds something back until `seq` is on disk; it is flushed then.
    pub fn wait_for_sync(&mut self, seq: ChangeSeq, conn: ConnId) {
        self.changes.wait(seq, conn);
    }

    /// True while nothing can be promised, because storage is full or broken: who asks for a promise is refused.
    #[must_use]
    pub fn is_storage_full(&self) -> bool {
        self.changes.is_refusing()
    }

    /// Says that everything up to `seq` is on disk.
    pub fn set_synced(&mut self, seq: ChangeSeq) {
        self.changes.set_synced(seq, &mut self.dirty);
    }

    /// True when no more input should be read: persistence has to catch up first.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.changes.is_full()
    }

    /// Sessions known by client id: connected and offline.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Retained messages, `$SYS` included.
    #[must_use]
    pub fn retained_count(&self) -> usize {
        self.retained.len()
    }

    /// The connection a session is attached to now.
    #[must_use]
    pub fn conn_of(&self, id: SessionId) -> Option<ConnId> {
        self.sessions.get(id)?.conn()
    }

    /// The client id of a session; empty when it is gone.
    #[must_use]
    pub fn client_id(&self, id: SessionId) -> &str {
        self.sessions.get(id).map_or("", |session| session.client_id())
    }

    /// Seconds the session outlives its connection.
    #[must_use]
    pub fn session_expiry(&self, id: SessionId) -> u32 {
        self.sessions.get(id).map_or(0, |session| session.expiry_s)
    }

    /// QoS 1 and 2 messages the client may have under way to the broker, as it was told; 0 is unlimited.
    #[must_use]
    pub fn inbound_window(&self, id: SessionId) -> usize {
        self.sessions.get(id).map_or(0, |session| session.inbound_window(&self.settings))
    }

    /// A client id nobody has: `prefix` and 16 bytes that cannot be guessed, in hexadecimal groups.
    pub fn generate_client_id(&mut self, prefix: &str) -> String {
        loop {
            // A keyed hash of a counter: as good as random to whoever does not know the key, and it replays.
            self.ids_generated += 1;
            let mut hasher = SipHasher24::new_with_keys(self.id_key[0], self.id_key[1]);
            hasher.write_u64(self.ids_generated);
            let hex = format!("{:032X}", hasher.finish128().as_u128());
            let id = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
            let id = format!("{prefix}{id}");
            if self.sessions.find(&id).is_none() {
                return id;
            }
        }
    }

    /// The subscription tree as text, as SIGUSR2 prints it.
    pub fn write_tree(&self, out: &mut String) {
        self.subs.write_tree(|id| self.client_id(id).to_string(), out);
    }

    /// Panics when any table contradicts another. For tests; linear in everything.
    #[cfg(any(debug_assertions, test))]
    pub fn check_invariants(&self) {
        self.sessions.check_invariants();
        self.subs.check_invariants();
        for (_, session) in self.sessions.iter() {
            if session.online() {
                assert_eq!(session.ends_ms, 0, "a connected session does not expire");
            } else {
                let due = session.details.as_ref().map_or(0, |details| details.will_due_ms);
                for deadline in [session.ends_ms, due] {
                    assert!(deadline == 0 || (session.timer_ms != 0 && session.timer_ms <= deadline), "armed in time");
                }
            }
        }
    }
}

//! The event loop without sockets: connections are two byte queues, and time is what the world says. It takes the steps
//! of `net::EventLoop` in the same order.

use std::collections::VecDeque;
use std::io::IoSlice;

use mosquitto::broker::auth::login::{Check, Verdict};
use mosquitto::broker::{Action, Broker, ConnId};
use mosquitto::config::Config;
use mosquitto::proto::control::{Api, Context};
use mosquitto::proto::{CloseReason, Flow, Outbox, Peer, Server, Turn};
use mosquitto::slab::{Key, Slab};
use mosquitto::timer::{Now, Timers};

use crate::disk::Store;
use crate::rng::Rng;
use crate::rules;

const TURN_BUDGET: u32 = 64;
const ROUNDS: usize = 8;

/// One connection as the broker's side and the wire between have it.
pub(crate) struct Conn {
    server: Server,
    outbox: Outbox,
    timer_ms: u64,
    pub(crate) open: bool,
    leftover: bool,
    paused: bool,
    ready: bool,
    flush: bool,
    /// Written by the client, not yet read by the broker.
    pub(crate) to_broker: VecDeque<u8>,
    /// The client will write nothing more.
    pub(crate) client_done: bool,
    /// Written by the broker, not yet read by the client.
    pub(crate) to_client: VecDeque<u8>,
    capacity: usize,
    /// Bytes written by the client so far, and which of its messages ends where.
    pub(crate) sent: u64,
    pub(crate) marks: VecDeque<(u64, usize)>,
    fed: u64,
    /// Where packets end, and when the broker read the end of one last.
    ends: VecDeque<u64>,
    last_packet_ms: u64,
    /// Where the bytes begin that were encoded under other rules of access, and under which.
    rules_from: Vec<(u64, usize)>,
    /// Bytes encoded so far, and which were encoded when.
    encoded: u64,
    pub(crate) stamps: VecDeque<(u64, u64)>,
}

/// What the world has to know about a connection, in order.
pub(crate) enum Event {
    /// CONNECT was accepted.
    Connected(Key),
    /// It ended.
    Closed(Key, CloseReason),
    /// The broker has handled this message now.
    Arrived(usize, u64),
}

pub(crate) struct Net {
    pub(crate) broker: Broker,
    pub(crate) config: Config,
    pub(crate) now: Now,
    /// When the turn before this one was.
    pub(crate) previous_ms: u64,
    pub(crate) conns: Slab<Conn>,
    pub(crate) events: Vec<Event>,
    pub(crate) hash: u64,
    /// Acknowledgements wait for [`Net::sync`], and the broker may crash.
    pub(crate) store: Option<Store>,
    keys: [u64; 2],
    /// Clients have to give a password.
    pub(crate) passwords: bool,
    /// The rules of access in force, if there are any.
    pub(crate) rules: Option<usize>,
    api: Api,
    /// Passwords to be compared, in a later turn.
    logins: VecDeque<(u64, ConnId, Box<Check>)>,
    timers: Timers,
    ready: Vec<ConnId>,
    to_flush: Vec<ConnId>,
    graveyard: Vec<ConnId>,
}

impl Net {
    pub(crate) fn new(config: Config, keys: [u64; 2], now: Now) -> Net {
        let mut broker = Broker::new(config.global.clone(), keys, now);
        broker.publish_sys(now);
        Net {
            broker,
            config,
            now,
            previous_ms: now.mono_ms,
            conns: Slab::new(),
            events: Vec::new(),
            hash: 0xCBF2_9CE4_8422_2325,
            store: None,
            keys,
            passwords: false,
            rules: None,
            api: Api::default(),
            logins: VecDeque::new(),
            timers: Timers::default(),
            ready: Vec::new(),
            to_flush: Vec::new(),
            graveyard: Vec::new(),
        }
    }

    /// Puts rules of access in force, as a reload does.
    pub(crate) fn set_rules(&mut self, set: usize) {
        self.rules = Some(set);
        self.broker.set_access(rules::access(set));
        for key in self.conns.keys() {
            let conn = self.conns.get_mut(key).unwrap();
            conn.rules_from.push((conn.encoded, set));
        }
    }

    /// The rules under which the byte before this offset of what a client got was encoded.
    pub(crate) fn rules_at(&self, key: Key, offset: u64) -> Option<usize> {
        let from = &self.conns.get(key)?.rules_from;
        from.iter().rev().find(|(start, _)| *start < offset).map(|(_, set)| *set)
    }

    fn note(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }

    pub(crate) fn open(&mut self, capacity: usize) -> Key {
        let peer = Peer::new(([127, 0, 0, 1], 1000).into());
        let conn = Conn {
            server: Server::new(self.now, peer),
            outbox: Outbox::default(),
            timer_ms: 0,
            open: true,
            leftover: false,
            paused: false,
            ready: false,
            flush: false,
            to_broker: VecDeque::new(),
            client_done: false,
            to_client: VecDeque::new(),
            capacity,
            sent: 0,
            marks: VecDeque::new(),
            fed: 0,
            ends: VecDeque::new(),
            last_packet_ms: self.now.mono_ms,
            rules_from: self.rules.map(|set| (0, set)).into_iter().collect(),
            encoded: 0,
            stamps: VecDeque::new(),
        };
        let key = self.conns.insert(conn).unwrap_or_else(|_| panic!("the slab is full"));
        self.arm(ConnId(key));
        key
    }

    /// The client writes a packet.
    pub(crate) fn send(&mut self, key: Key, bytes: &[u8], message: Option<usize>) {
        let conn = self.conns.get_mut(key).expect("a client writes to its own connection");
        conn.to_broker.extend(bytes);
        conn.sent += bytes.len() as u64;
        conn.ends.push_back(conn.sent);
        if let Some(message) = message {
            conn.marks.push_back((conn.sent, message));
        }
    }

    /// The client reads at most `max` bytes.
    pub(crate) fn receive(&mut self, key: Key, max: usize) -> Vec<u8> {
        let Some(conn) = self.conns.get_mut(key) else { return Vec::new() };
        let n = max.min(conn.to_client.len());
        let bytes: Vec<u8> = conn.to_client.drain(..n).collect();
        if n != 0 {
            self.list_for_flush(ConnId(key));
            self.note(&bytes);
        }
        bytes
    }

    /// True when the client has read everything and nothing more will come.
    pub(crate) fn at_end(&self, key: Key) -> bool {
        self.conns.get(key).is_none_or(|conn| !conn.open && conn.to_client.is_empty())
    }

    /// The socket is readable: the broker reads once, at most `max` bytes.
    pub(crate) fn read(&mut self, key: Key, max: usize) {
        let id = ConnId(key);
        let Some(conn) = self.conns.get_mut(key) else { return };
        if !conn.open {
            conn.to_broker.clear();
            return;
        }
        if conn.paused {
            return;
        }
        if std::mem::take(&mut conn.leftover) && !self.feed(id, &[]) {
            return;
        }
        let Some(conn) = self.conns.get_mut(key).filter(|conn| conn.open) else { return };
        let n = max.min(conn.to_broker.len());
        if n == 0 {
            if conn.client_done && conn.to_broker.is_empty() {
                self.close(id, &CloseReason::ClosedByClient);
            }
            return;
        }
        let bytes: Vec<u8> = conn.to_broker.drain(..n).collect();
        conn.fed += n as u64;
        while conn.ends.front().is_some_and(|end| *end <= conn.fed) {
            conn.ends.pop_front();
            conn.last_packet_ms = self.now.mono_ms;
        }
        self.note(&bytes);
        self.feed(id, &bytes);
    }

    fn feed(&mut self, id: ConnId, bytes: &[u8]) -> bool {
        let now_ms = self.now.mono_ms;
        let mut connected = false;
        let flow = self.with_server(id, |server, turn| {
            let before = server.session();
            let flow = server.on_bytes(turn, bytes);
            connected = before.is_none() && server.session().is_some();
            flow
        });
        if connected {
            self.events.push(Event::Connected(id.0));
        }
        self.run_closes();
        let Some(conn) = self.conns.get_mut(id.0) else { return false };
        let all = matches!(flow, Some(Flow::Continue | Flow::Close(_)));
        for (end, message) in &conn.marks {
            if *end <= conn.fed {
                self.events.push(Event::Arrived(*message, now_ms));
            }
        }
        if all {
            while conn.marks.front().is_some_and(|(end, _)| *end <= conn.fed) {
                conn.marks.pop_front();
            }
        }
        if !conn.outbox.is_empty() {
            self.list_for_flush(id);
        }
        match flow {
            None => false,
            Some(Flow::Close(reason)) => {
                self.close(id, &reason);
                false
            }
            Some(Flow::Again) => {
                self.conns.get_mut(id.0).unwrap().leftover = true;
                self.list_as_ready(id);
                self.arm(id);
                false
            }
            Some(Flow::Paused) => {
                let conn = self.conns.get_mut(id.0).unwrap();
                (conn.leftover, conn.paused) = (true, true);
                self.list_for_flush(id);
                self.arm(id);
                false
            }
            Some(Flow::Waiting) => {
                self.conns.get_mut(id.0).unwrap().leftover = true;
                self.arm(id);
                false
            }
            Some(Flow::Report) => unreachable!("MQTT asks for no figures"),
            Some(Flow::Continue) => {
                self.arm(id);
                true
            }
        }
    }

    /// The worker has compared a password, for a connection that may be gone. False when there is none to compare.
    pub(crate) fn answer_login(&mut self) -> bool {
        let Some((_, id, check)) = self.logins.pop_front() else { return false };
        let verdict = if check.is_right() { Verdict::Right } else { Verdict::Wrong };
        self.broker.logins.answered(self.now, check.ip, verdict);
        let flow = self.with_server(id, |server, turn| server.on_login(turn, verdict));
        self.after_login(id, flow);
        self.run_closes();
        true
    }

    /// True when a password waits for longer than the worker needs, or its connection would be out of time.
    pub(crate) fn owes_login(&self) -> bool {
        let now_ms = self.now.mono_ms;
        let due = |id: ConnId| self.conns.get(id.0).and_then(|conn| conn.server.deadline());
        self.logins
            .iter()
            .any(|(since_ms, id, _)| since_ms + 1000 <= now_ms || due(*id).is_some_and(|due| due <= now_ms))
    }

    fn after_login(&mut self, id: ConnId, flow: Option<Flow>) {
        match flow {
            None => return,
            Some(Flow::Close(reason)) => return self.close(id, &reason),
            Some(Flow::Waiting) => {}
            Some(_) => {
                let conn = self.conns.get_mut(id.0).unwrap();
                conn.leftover = true;
                if conn.server.session().is_some() {
                    self.events.push(Event::Connected(id.0));
                }
                self.list_for_flush(id);
                self.list_as_ready(id);
            }
        }
        self.arm(id);
    }

    fn with_server<R>(&mut self, id: ConnId, act: impl FnOnce(&mut Server, &mut Turn<'_>) -> R) -> Option<R> {
        let conn = self.conns.get_mut(id.0).filter(|conn| conn.open)?;
        let before = conn.outbox.len();
        let mut turn = Turn {
            now: self.now,
            broker: &mut self.broker,
            out: &mut conn.outbox,
            conn: id,
            config: &self.config,
            listener: &self.config.listeners[0],
            budget: TURN_BUDGET,
        };
        let result = act(&mut conn.server, &mut turn);
        let added = conn.outbox.len() - before;
        if added != 0 {
            conn.encoded += added as u64;
            conn.stamps.push_back((conn.encoded, self.now.mono_ms));
        }
        Some(result)
    }

    fn close(&mut self, id: ConnId, reason: &CloseReason) {
        let Some(live) = self.with_server(id, |server, turn| {
            let live = server.session().is_some();
            server.close(turn, reason);
            live
        }) else {
            return;
        };
        self.write_once(id);
        let conn = self.conns.get_mut(id.0).unwrap();
        (conn.open, conn.outbox) = (false, Outbox::default());
        if let CloseReason::Timeout = reason {
            // CONNECT has 20 s; a keepalive is never below 4 s here.
            let idle = self.now.mono_ms - conn.last_packet_ms;
            assert!(idle >= 6000, "timeout after {idle} ms");
        }
        use CloseReason as R;
        let expected =
            matches!(reason, R::Disconnect { .. } | R::ClosedByClient | R::Timeout | R::Stalled | R::TakenOver { .. });
        let kicked = matches!(reason, R::Kicked) && self.config.global.enable_control_api;
        let full = matches!(reason, R::TooManyUnreleased) && self.config.global.max_queued_messages != 0;
        assert!(expected || full || kicked, "the broker ended a connection: {reason}");
        if live {
            self.events.push(Event::Closed(id.0, reason.clone()));
        }
        self.graveyard.push(id);
    }

    /// True when everything fitted.
    fn write_once(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(id.0) else { return true };
        if conn.client_done {
            // Nobody reads any more; the system takes it all the same.
            let n = conn.outbox.len();
            conn.outbox.advance(n);
            return true;
        }
        let mut room = conn.capacity.saturating_sub(conn.to_client.len());
        let mut slices = [IoSlice::new(&[]); 64];
        let used = conn.outbox.slices(&mut slices);
        let mut written = 0;
        for slice in &slices[..used] {
            let n = slice.len().min(room);
            conn.to_client.extend(&slice[..n]);
            written += n;
            room -= n;
        }
        conn.outbox.advance(written);
        conn.outbox.is_empty()
    }

    fn flush_conn(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        conn.flush = false;
        for _ in 0..ROUNDS {
            let Some(more) = self.with_server(id, |server, turn| server.flush(turn)) else { return };
            let all = self.write_once(id);
            let conn = self.conns.get_mut(id.0).unwrap();
            if !all {
                if conn.to_client.len() >= conn.capacity {
                    return;
                }
            } else if !more {
                if std::mem::take(&mut conn.paused) {
                    self.list_as_ready(id);
                }
                return;
            }
        }
        self.list_for_flush(id);
    }

    /// What has happened so far is on disk.
    pub(crate) fn sync(&mut self) {
        if let Some(store) = &mut self.store {
            store.sync(&mut self.broker);
        }
    }

    /// Everything may be promised, and is on disk.
    pub(crate) fn start_journal(&mut self, seed: u64) {
        self.store = Some(Store::new(seed, &mut self.broker));
    }

    /// Goes on with a snapshot, or begins one.
    pub(crate) fn snapshot(&mut self, rng: &mut Rng) {
        if let Some(store) = &mut self.store {
            store.snapshot(&mut self.broker, self.now, rng);
        }
    }

    /// The broker dies, with or without its machine, and starts again from what is on disk.
    pub(crate) fn crash(&mut self, power: bool) {
        let Some(store) = &mut self.store else { return };
        let mut broker = Broker::new(self.config.global.clone(), self.keys, self.now);
        broker.set_access(self.broker.access().clone());
        store.restart(&mut broker, self.now, power);
        broker.publish_sys(self.now);
        broker.check_invariants();
        self.broker = broker;
        (self.conns, self.api, self.timers) = (Slab::new(), Api::default(), Timers::default());
        self.logins.clear();
        self.ready.clear();
        self.to_flush.clear();
        self.graveyard.clear();
        self.events.clear();
    }

    /// Everything of a turn that follows the sockets.
    pub(crate) fn finish_turn(&mut self) {
        for id in std::mem::take(&mut self.ready) {
            let Some(conn) = self.conns.get_mut(id.0) else { continue };
            conn.ready = false;
            self.read(id.0, 0);
        }
        // Also of a CONNECT that was read just now.
        while self.owes_login() && self.answer_login() {}
        let mut fired = 0;
        while let Some(entry) = self.timers.pop_due(self.now) {
            fired += 1;
            assert!(fired < 10_000, "a timer is due again and again");
            let id = ConnId(Key::from_bits(entry.id));
            match self.conns.get_mut(id.0) {
                Some(conn) if conn.timer_ms == entry.deadline_ms => {
                    conn.timer_ms = 0;
                    match self.with_server(id, |server, turn| server.on_timer(turn)) {
                        Some(flow @ (Flow::Close(_) | Flow::Again)) => self.after_login(id, Some(flow)),
                        _ => self.arm(id),
                    }
                }
                _ => self.timers.dropped_stale(),
            }
        }
        self.broker.on_timers(self.now);
        self.run_closes();
        if self.api.is_busy() {
            let conns = &self.conns;
            let connection = |id: ConnId| conns.get(id.0).map(|conn| conn.server.connection(0, conn.outbox.len()));
            let (now, broker, config) = (self.now, &mut self.broker, &self.config);
            self.api.run(&mut Context { now, broker, config, connection: &connection });
            self.run_closes();
        }
        let mut list = std::mem::take(&mut self.to_flush);
        self.broker.take_dirty(&mut list);
        for id in list {
            self.flush_conn(id);
        }
        self.broker.check_invariants();
    }

    fn run_closes(&mut self) {
        while let Some(action) = self.broker.take_action() {
            match action {
                Action::TakeOver { conn, by } => self.close(conn, &CloseReason::TakenOver { by }),
                Action::Kick { conn } => self.close(conn, &CloseReason::Kicked),
                Action::Login { conn, check } => self.logins.push_back((self.now.mono_ms, conn, check)),
                Action::Control { from, request } => self.api.take(self.now, &mut self.broker, from, request),
            }
        }
    }

    /// The next turn is at this time.
    pub(crate) fn set_time(&mut self, mono_ms: u64) {
        if mono_ms > self.now.mono_ms {
            self.previous_ms = self.now.mono_ms;
            self.now = Now { mono_ms, wall_s: mono_ms / 1000 };
        }
    }

    /// Forgets connections that ended; the world calls it when it has taken the events.
    pub(crate) fn bury(&mut self, wanted: impl Fn(Key) -> bool) {
        let (keep, gone): (Vec<_>, Vec<_>) = self.graveyard.drain(..).partition(|id| wanted(id.0));
        self.graveyard = keep;
        for id in gone {
            self.conns.remove(id.0);
        }
    }

    /// True when another turn has work without any new input.
    pub(crate) fn busy(&self) -> bool {
        !self.ready.is_empty()
            || !self.to_flush.is_empty()
            || self.broker.has_dirty()
            || self.api.is_busy()
            || !self.logins.is_empty()
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        [self.timers.next_deadline(), self.broker.next_deadline()].into_iter().flatten().min()
    }

    fn arm(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0).filter(|conn| conn.open) else { return };
        let Some(deadline) = conn.server.deadline() else { return };
        if conn.timer_ms == 0 || conn.timer_ms > deadline {
            conn.timer_ms = deadline;
            self.timers.arm(deadline, id.0.to_bits());
        }
    }

    fn list_for_flush(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id.0).filter(|conn| !conn.flush) {
            conn.flush = true;
            self.to_flush.push(id);
        }
    }

    fn list_as_ready(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id.0).filter(|conn| !conn.ready) {
            conn.ready = true;
            self.ready.push(id);
        }
    }
}

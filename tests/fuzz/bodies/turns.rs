//! The event loop of `net` without sockets: the same lists and the same order, and pipes in memory instead.

use std::collections::VecDeque;
use std::io::IoSlice;

use mosquitto::broker::auth::access::{RuleFiles, Rules};
use mosquitto::broker::auth::login::{Check, Verdict};
use mosquitto::broker::auth::password::Passwords;
use mosquitto::broker::{Action, Broker, ConnId};
use mosquitto::config::Config;
use mosquitto::proto::control::{Api, Context};
use mosquitto::proto::server::HIGH_WATER;
use mosquitto::proto::{CloseReason, Flow, Outbox, Peer, Server, Turn};
use mosquitto::slab::{Key, Slab};
use mosquitto::timer::{Now, Timers};

use super::client::Client;

/// Small, so that little input is enough to use it up.
const BUDGET: u32 = 64;
const DRAIN_MS: u64 = 2000;
const ROUNDS: usize = 8;
/// What one read brings in at most.
const READ: usize = 512;
/// More than any outbox may hold: two marks, and the largest message and reply that a run can make.
const OUTBOX_BOUND: usize = 2 * HIGH_WATER + 80 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    Draining { until_ms: u64 },
    Closed,
}

struct Conn {
    server: Server,
    client: Client,
    outbox: Option<Box<Outbox>>,
    stage: Stage,
    listener: usize,
    timer_ms: u64,
    /// Sent by the client, not read yet.
    pipe: Vec<u8>,
    /// What the socket takes before it is full.
    room: usize,
    writable: bool,
    leftover: bool,
    paused: bool,
    ready: bool,
    flush: bool,
}

/// A whole broker.
pub struct Loop {
    pub broker: Broker,
    pub now: Now,
    config: Config,
    api: Api,
    /// Passwords to be compared, in the next turn.
    logins: VecDeque<(ConnId, Box<Check>)>,
    conns: Slab<Conn>,
    timers: Timers,
    ready: Vec<ConnId>,
    to_flush: Vec<ConnId>,
    graveyard: Vec<ConnId>,
    /// The widest window that any client had.
    widest: usize,
    /// Everything that was sent, as a number.
    pub digest: u64,
}

impl Loop {
    pub fn new(config: Config) -> Loop {
        let now = Now { mono_ms: 1_000_000, wall_s: 1_700_000_000 };
        let mut broker = Broker::new(config.global.clone(), [1, 2], now);
        broker.publish_sys(now);
        Loop {
            broker,
            now,
            widest: config.global.max_inflight_messages.into(),
            config,
            api: Api::default(),
            logins: VecDeque::new(),
            conns: Slab::new(),
            timers: Timers::default(),
            ready: Vec::new(),
            to_flush: Vec::new(),
            graveyard: Vec::new(),
            digest: 0,
        }
    }

    /// Puts a password file in force.
    pub fn set_passwords(&mut self, text: &[u8]) {
        let passwords = Passwords::parse(text).unwrap_or_else(|error| panic!("{}", error.text("")));
        let mut access = self.broker.access().clone();
        access.set_global(RuleFiles::default(), Rules { passwords: Some(passwords.into()), acl: None });
        self.broker.set_access(access);
    }

    pub fn listeners(&self) -> usize {
        self.config.listeners.len()
    }

    pub fn open(&mut self, listener: usize) -> ConnId {
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 40_000));
        let conn = Conn {
            server: Server::new(self.now, Peer::new(addr)),
            client: Client::default(),
            outbox: None,
            stage: Stage::Open,
            listener,
            timer_ms: 0,
            pipe: Vec::new(),
            room: usize::MAX,
            writable: true,
            leftover: false,
            paused: false,
            ready: false,
            flush: false,
        };
        let Ok(key) = self.conns.insert(conn) else { panic!("more connections than a run can open") };
        self.arm(ConnId(key));
        ConnId(key)
    }

    pub fn is_open(&self, id: ConnId) -> bool {
        self.conns.get(id.0).is_some_and(|conn| conn.stage == Stage::Open)
    }

    /// The client sends.
    pub fn send(&mut self, id: ConnId, bytes: &[u8]) {
        let Some(conn) = self.conns.get_mut(id.0).filter(|conn| conn.stage == Stage::Open) else { return };
        conn.client.sends(bytes);
        conn.pipe.extend_from_slice(bytes);
        self.read(id);
    }

    /// The client takes `room` bytes more, or all for ever.
    pub fn set_room(&mut self, id: ConnId, room: usize) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        conn.room = room;
        if room > 0 && !conn.writable {
            conn.writable = true;
            if conn.outbox.is_some() {
                self.list_for_flush(id);
            }
        }
    }

    /// The client is gone.
    pub fn hang_up(&mut self, id: ConnId) {
        match self.conns.get(id.0).map(|conn| conn.stage) {
            Some(Stage::Open) => self.close(id, &CloseReason::ClosedByClient),
            Some(Stage::Draining { .. }) => self.drop_conn(id),
            _ => {}
        }
    }

    /// Steps 3 to 8 of a turn, without sockets.
    pub fn turn(&mut self) {
        for (at, (id, check)) in std::mem::take(&mut self.logins).into_iter().enumerate() {
            let verdict = match at {
                0..3 if check.is_right() => Verdict::Right,
                0..3 => Verdict::Wrong,
                _ => Verdict::Busy,
            };
            self.broker.logins.answered(self.now, check.ip, verdict);
            let flow = self.with(id, |server, turn| server.on_login(turn, verdict));
            self.after_login(id, flow);
            self.run_closes();
        }
        for id in std::mem::take(&mut self.ready) {
            let Some(conn) = self.conns.get_mut(id.0) else { continue };
            conn.ready = false;
            self.read(id);
        }
        while let Some(entry) = self.timers.pop_due(self.now) {
            let id = ConnId(Key::from_bits(entry.id));
            match self.conns.get_mut(id.0) {
                Some(conn) if conn.timer_ms == entry.deadline_ms => {
                    conn.timer_ms = 0;
                    self.due(id);
                }
                _ => self.timers.dropped_stale(),
            }
        }
        self.broker.on_timers(self.now);
        self.run_closes();
        if self.api.is_busy() {
            let conns = &self.conns;
            let connection = |id: ConnId| {
                let conn = conns.get(id.0)?;
                Some(conn.server.connection(1, conn.outbox.as_ref().map_or(0, |out| out.len())))
            };
            let (now, broker, config) = (self.now, &mut self.broker, &self.config);
            self.api.run(&mut Context { now, broker, config, connection: &connection });
            self.run_closes();
        }
        let mut list = std::mem::take(&mut self.to_flush);
        self.broker.take_dirty(&mut list);
        for id in list {
            self.flush(id);
        }
        for id in std::mem::take(&mut self.graveyard) {
            if let Some(conn) = self.conns.remove(id.0)
                && conn.timer_ms != 0
            {
                self.forsake();
            }
        }
    }

    fn run_closes(&mut self) {
        while let Some(action) = self.broker.take_action() {
            match action {
                Action::TakeOver { conn, by } => self.close(conn, &CloseReason::TakenOver { by }),
                Action::Kick { conn } => self.close(conn, &CloseReason::Kicked),
                Action::Login { conn, check } => self.logins.push_back((conn, check)),
                Action::Control { from, request } => self.api.take(self.now, &mut self.broker, from, request),
            }
        }
    }

    /// True when the loop would not sleep.
    fn has_work(&self) -> bool {
        self.api.is_busy()
            || !self.logins.is_empty()
            || !self.ready.is_empty()
            || !self.to_flush.is_empty()
            || self.broker.has_dirty()
    }

    /// Turns until there is nothing to do, with clients that read everything.
    pub fn settle(&mut self) {
        for id in self.conns.keys() {
            self.set_room(ConnId(id), usize::MAX);
        }
        for _ in 0..20_000 {
            self.turn();
            if !self.has_work() {
                break;
            }
        }
        assert!(!self.has_work(), "the loop spins");
        for (_, conn) in self.conns.iter().filter(|(_, conn)| conn.stage == Stage::Open) {
            assert!(conn.outbox.is_none(), "output was forgotten");
            assert!(!conn.paused && !conn.leftover && conn.pipe.is_empty(), "input was forgotten");
        }
    }

    /// The end of the broker.
    pub fn shut_down(&mut self) {
        self.broker.publish_all_wills(self.now);
        for id in self.conns.keys() {
            self.close(ConnId(id), &CloseReason::Shutdown);
        }
    }

    /// What holds after every step.
    pub fn check(&mut self) {
        #[cfg(debug_assertions)]
        self.broker.check_invariants();
        // A client that was there may have had as many more as its window is wide.
        let windows = self.conns.iter().filter_map(|(_, conn)| conn.client.receive_maximum());
        self.widest = windows.fold(self.widest, usize::max);
        let limit = self.config.global.max_queued_messages as usize;
        for (_, conn) in self.conns.iter() {
            let waiting = conn.outbox.as_ref().map_or(0, |out| out.len());
            assert!(waiting <= OUTBOX_BOUND, "{waiting} bytes wait");
            if let Some(session) = conn.server.session().filter(|_| limit > 0) {
                let queued = self.broker.queued(session);
                assert!(queued <= limit + self.widest, "{queued} messages wait");
            }
            if conn.stage == Stage::Open
                && let Some(deadline) = conn.server.deadline()
            {
                assert!(conn.timer_ms != 0 && conn.timer_ms <= deadline, "armed in time");
            }
        }
        assert!(self.timers.len() <= 2 * self.conns.len() + 130, "{} timers", self.timers.len());
    }

    fn with<R>(&mut self, id: ConnId, act: impl FnOnce(&mut Server, &mut Turn<'_>) -> R) -> Option<R> {
        let conn = self.conns.get_mut(id.0).filter(|conn| conn.stage == Stage::Open)?;
        let mut out = conn.outbox.take().unwrap_or_default();
        let mut turn = Turn {
            now: self.now,
            broker: &mut self.broker,
            out: &mut out,
            conn: id,
            config: &self.config,
            listener: &self.config.listeners[conn.listener],
            budget: BUDGET,
        };
        let result = act(&mut conn.server, &mut turn);
        conn.outbox = Some(out).filter(|out| !out.is_empty());
        Some(result)
    }

    fn read(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        if conn.stage != Stage::Open || conn.paused {
            return;
        }
        if std::mem::take(&mut conn.leftover) && !self.feed(id, &[]) {
            return;
        }
        let Some(conn) = self.conns.get_mut(id.0).filter(|conn| !conn.pipe.is_empty()) else { return };
        let input: Vec<u8> = conn.pipe.drain(..conn.pipe.len().min(READ)).collect();
        let drained = conn.pipe.is_empty();
        if self.feed(id, &input) && !drained {
            self.list_as_ready(id);
        }
    }

    fn feed(&mut self, id: ConnId, input: &[u8]) -> bool {
        let flow = self.with(id, |server, turn| server.on_bytes(turn, input));
        let Some(conn) = self.conns.get_mut(id.0) else { return false };
        if conn.outbox.is_some() {
            self.list_for_flush(id);
        }
        let Some(conn) = self.conns.get_mut(id.0) else { return false };
        match flow {
            None => return false,
            Some(Flow::Close(reason)) => {
                let _ = reason.to_string();
                self.close(id, &reason);
                return false;
            }
            Some(Flow::Again) => {
                conn.leftover = true;
                self.list_as_ready(id);
            }
            Some(Flow::Paused) => {
                (conn.leftover, conn.paused) = (true, true);
                self.list_for_flush(id);
            }
            Some(Flow::Waiting) => conn.leftover = true,
            Some(Flow::Report) => unreachable!("MQTT asks for no figures"),
            Some(Flow::Continue) => {
                self.arm(id);
                return true;
            }
        }
        self.arm(id);
        false
    }

    fn after_login(&mut self, id: ConnId, flow: Option<Flow>) {
        match flow {
            None => return,
            Some(Flow::Close(reason)) => return self.close(id, &reason),
            Some(Flow::Waiting) => {}
            Some(_) => {
                let Some(conn) = self.conns.get_mut(id.0) else { return };
                conn.leftover = true;
                if conn.outbox.is_some() {
                    self.list_for_flush(id);
                }
                self.list_as_ready(id);
            }
        }
        self.arm(id);
    }

    fn due(&mut self, id: ConnId) {
        match self.conns.get(id.0).map(|conn| conn.stage) {
            Some(Stage::Open) => match self.with(id, |server, turn| server.on_timer(turn)) {
                Some(flow @ (Flow::Close(_) | Flow::Again)) => self.after_login(id, Some(flow)),
                _ => self.arm(id),
            },
            Some(Stage::Draining { until_ms }) if until_ms <= self.now.mono_ms => self.drop_conn(id),
            Some(Stage::Draining { .. }) => self.arm(id),
            _ => {}
        }
    }

    fn close(&mut self, id: ConnId, reason: &CloseReason) {
        let spoke = self.with(id, |server, turn| {
            server.close(turn, reason);
            !turn.out.is_empty()
        });
        let Some(spoke) = spoke else { return };
        if spoke {
            self.write_once(id);
        }
        let until_ms = self.now.mono_ms + DRAIN_MS;
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        assert!(conn.server.session().is_none());
        conn.outbox = None;
        conn.pipe.clear();
        if spoke {
            conn.stage = Stage::Draining { until_ms };
            self.arm(id);
        } else {
            self.drop_conn(id);
        }
    }

    fn drop_conn(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0).filter(|conn| conn.stage != Stage::Closed) else { return };
        conn.stage = Stage::Closed;
        self.graveyard.push(id);
    }

    fn flush(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        conn.flush = false;
        if conn.stage != Stage::Open {
            return;
        }
        for _ in 0..ROUNDS {
            let Some(more) = self.with(id, |server, turn| server.flush(turn)) else { return };
            match self.write_once(id) {
                None => return,
                Some(true) if !more => {
                    let Some(conn) = self.conns.get_mut(id.0) else { return };
                    if std::mem::take(&mut conn.paused) {
                        self.list_as_ready(id);
                    }
                    return;
                }
                Some(_) => {}
            }
        }
        self.list_for_flush(id);
    }

    /// True when all is out, false when some is, `None` when the socket is full.
    fn write_once(&mut self, id: ConnId) -> Option<bool> {
        let conn = self.conns.get_mut(id.0)?;
        let Some(mut out) = conn.outbox.take() else { return Some(true) };
        let mut wrote = None;
        if conn.writable {
            let mut slices = [IoSlice::new(&[]); 8];
            let used = out.slices(&mut slices);
            let offered: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect();
            let n = offered.len().min(conn.room);
            conn.client.receives(&offered[..n]);
            for byte in &offered[..n] {
                self.digest = self.digest.wrapping_mul(0x0100_0000_01B3) ^ u64::from(*byte);
            }
            if conn.room != usize::MAX {
                conn.room -= n;
            }
            out.advance(n);
            conn.writable = n == offered.len();
            wrote = match (out.is_empty(), conn.writable) {
                (true, _) => Some(true),
                (false, true) => Some(false),
                (false, false) => None,
            };
        }
        conn.outbox = Some(out).filter(|out| !out.is_empty());
        wrote
    }

    fn arm(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        let deadline = match conn.stage {
            Stage::Open => conn.server.deadline(),
            Stage::Draining { until_ms } => Some(until_ms),
            Stage::Closed => None,
        };
        let Some(deadline) = deadline else { return };
        if conn.timer_ms != 0 && conn.timer_ms <= deadline {
            return;
        }
        let replaced = conn.timer_ms != 0;
        conn.timer_ms = deadline;
        self.timers.arm(deadline, id.0.to_bits());
        if replaced {
            self.forsake();
        }
    }

    fn forsake(&mut self) {
        let conns = &self.conns;
        self.timers.forsake(|entry| {
            conns.get(Key::from_bits(entry.id)).is_some_and(|conn| conn.timer_ms == entry.deadline_ms)
        });
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

//! The event loop: the only place that knows sockets. [`EventLoop::turn`] is the whole scheduler.

mod access;
#[cfg_attr(not(feature = "bridge"), path = "bridges_off.rs")]
mod bridges;
mod certificates;
mod conn;
mod control;
#[cfg(feature = "websockets")]
mod files;
mod flush;
mod listener;
mod logins;
mod read;
mod slots;
#[cfg_attr(not(feature = "persistence"), path = "store_off.rs")]
mod store;
mod stream;
#[cfg_attr(not(feature = "tls"), path = "tls_off.rs")]
pub mod tls;
mod transport;
#[cfg_attr(not(feature = "mqttsn"), path = "udp_off.rs")]
mod udp;
mod unix;
#[cfg_attr(not(feature = "websockets"), path = "websocket_off.rs")]
mod websocket;
mod worker;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::broker::{Action, Attached, Broker, ConnId};
use crate::config::{Config, Protocol, Sources};
use crate::os::notify::Notifier;
use crate::os::signals::Signals;
use crate::os::{alloc, clock};
use crate::proto::{CloseReason, Endpoint, LoopFigures, Outbox, Peer, Turn, control::Api};
use crate::slab::{Key, Slab};
use crate::timer::{Now, Timers};
use conn::{Conn, Readiness, Stage};
use listener::{Accepted, ListenSocket};
use slots::Slots;
use store::Store;
use stream::Stream;
use tls::{KeyLogFile, ServerTls};
use transport::{Buffers, Transport};
use udp::Udp;

pub use access::{AccessError, check_access};
pub use certificates::{TlsFileError, check_tls};
pub use listener::ListenError;
pub use store::DatabaseError;
pub use udp::{SnFileError, check as check_sn};

/// Why the loop could not begin.
#[derive(Debug)]
pub enum OpenError {
    /// A password or ACL file.
    Access(AccessError),
    /// Certificates, keys and what else TLS needs.
    Tls(TlsFileError),
    /// What a listener for MQTT-SN needs.
    Sn(SnFileError),
    /// The database.
    Database(DatabaseError),
    /// A listener.
    Listen(ListenError),
}

impl From<ListenError> for OpenError {
    fn from(error: ListenError) -> OpenError {
        OpenError::Listen(error)
    }
}

/// Connections taken from one listening socket in one turn.
const ACCEPTS_PER_TURN: usize = 64;
/// What one read may bring in; shared by all connections.
const SCRATCH: usize = 64 * 1024;
/// Work one connection may cause in one turn, in packets, deliveries and table nodes, when few are busy.
const TURN_BUDGET: u32 = 4096;
/// Work that all connections together may cause in one turn: the busy ones share it, so that a quiet one waits for
/// milliseconds however many of them there are.
const WORK_PER_TURN: u32 = 32 * 1024;
/// Connections or sessions that are looked at for one unit of work.
const WALKED_FOR_ONE: usize = 16;
/// Steps of TLS handshakes in one turn, each of which may take a millisecond or more for a signature: a storm of new
/// clients waits, not those who are connected.
const HANDSHAKES_PER_TURN: u32 = 8;
/// The least share.
const LEAST_BUDGET: u32 = 64;
/// How long a connection that was told goodbye may take to go.
const DRAIN_MS: u64 = 2000;
/// How long a line of the log may wait for the next wake-up to be published.
const LOG_PAUSE_MS: u64 = 500;
/// How long to wait for a free descriptor before accepting again.
const ACCEPT_PAUSE_MS: u64 = 500;

/// Tokens that no connection can have: a connection's token is its slab key, and the indices from the slab's capacity on
/// are never used.
const SIGNALS: Token = Token(u32::MAX as usize);
const WORKERS: Token = Token(u32::MAX as usize - 1);
/// From here on no token is a connection's, because its index is beyond them.
const FIRST_OTHER: usize = u32::MAX as usize - 1000;
const FIRST_LISTENER: usize = Slab::<Conn>::CAPACITY as usize;
/// The most listening sockets: so many tokens there are.
const MAX_LISTENERS: usize = 1024;

/// What an event said; copied out, so that connections can be changed while the list is walked.
#[derive(Clone, Copy)]
struct Event {
    token: Token,
    readable: bool,
    writable: bool,
    read_closed: bool,
}

/// One thread, one poll, every socket.
pub struct EventLoop {
    poll: Poll,
    events: Events,
    batch: Vec<Event>,
    signals: Signals,
    notifier: Option<Notifier>,
    watchdog_due_ms: Option<u64>,
    config: Config,
    /// What SIGHUP reads again.
    sources: Sources,
    broker: Broker,
    api: Api,
    logins: logins::LoginWorker,
    bridges: bridges::Bridges,
    store: Store,
    listeners: Vec<ListenSocket>,
    udp: Udp,
    slots: Slots,
    /// TLS of each listener of the configuration.
    tls: Vec<Option<ServerTls>>,
    key_log: Option<KeyLogFile>,
    /// When to look at the certificates again.
    certificates_due_ms: Option<u64>,
    /// Listeners whose certificates the log has warned of, and with how many days left.
    certificates_warned: Vec<(String, i64)>,
    /// The log has the line about cheap hashes.
    rounds_noted: bool,
    /// Connections that a reload leaves no place for; some of them are closed in each turn.
    leaving: Vec<ConnId>,
    conns: Slab<Conn>,
    timers: Timers,
    ready: Vec<ConnId>,
    to_flush: Vec<ConnId>,
    graveyard: Vec<ConnId>,
    scratch: Box<[u8]>,
    buffers: Buffers,
    /// Empty outboxes for the next connections that need one, boxed as connections hold them.
    #[allow(clippy::vec_box)]
    spare: Vec<Box<Outbox>>,
    /// Accepting waits until then for a free descriptor.
    accept_paused_until_ms: Option<u64>,
    descriptors_noted_ms: Option<u64>,
    work: Work,
    stop: bool,
}

/// How the work of a turn is shared out.
struct Work {
    /// What each connection gets.
    share: u32,
    /// What is left for all; who comes too late gets the least share.
    left: u32,
    /// Steps of TLS handshakes that may still be taken in this turn.
    handshakes: u32,
    /// Connections that did something in this turn.
    busy: u32,
    /// Whether the tables were walked in this turn.
    walked: bool,
}

impl Work {
    fn next_turn(&mut self) {
        let share = (WORK_PER_TURN / self.busy.max(1)).clamp(LEAST_BUDGET, TURN_BUDGET);
        *self = Work { share, ..Work::new() };
    }

    fn new() -> Work {
        Work { share: TURN_BUDGET, left: WORK_PER_TURN, handshakes: HANDSHAKES_PER_TURN, busy: 0, walked: false }
    }

    /// Whether a step of a TLS handshake may be taken in this turn.
    fn handshake(&mut self) -> bool {
        let may = self.handshakes > 0;
        self.handshakes = self.handshakes.saturating_sub(1);
        may
    }

    fn budget(&mut self) -> u32 {
        self.busy = self.busy.saturating_add(1);
        self.share.min(self.left).max(LEAST_BUDGET)
    }

    /// Whether somebody may walk over so many connections and sessions: once in every turn, and more often while there is
    /// work left.
    fn walk(&mut self, entries: usize) -> bool {
        if self.walked && self.left == 0 {
            return false;
        }
        self.walked = true;
        self.left = self.left.saturating_sub(u32::try_from(entries / WALKED_FOR_ONE).unwrap_or(u32::MAX));
        true
    }
}

impl EventLoop {
    /// Opens every listener. Nothing is served before [`EventLoop::run`]. `key_log` takes the secrets of every TLS connection.
    pub fn new(
        mut config: Config,
        sources: Sources,
        signals: Signals,
        notifier: Option<Notifier>,
        hash_keys: [u64; 2],
        key_log: Option<File>,
    ) -> Result<EventLoop, OpenError> {
        let now = clock::now();
        let key_log = key_log.map(KeyLogFile::new);
        let tls = certificates::load(&config, key_log.as_ref()).map_err(OpenError::Tls)?;
        let mut broker = Broker::new(config.global.clone(), hash_keys, now);
        broker.set_access(access::load(&mut config, broker.access()).map_err(OpenError::Access)?);
        broker.set_heap(alloc::current_bytes());
        let poll = Poll::new().map_err(|error| ListenError::system(&error))?;
        let waker = Arc::new(Waker::new(poll.registry(), WORKERS).map_err(|error| ListenError::system(&error))?);
        let store = Store::open(&config, Arc::clone(&waker), &mut broker, now).map_err(OpenError::Database)?;
        // Behind it: what is restored has its numbers already.
        broker.publish_sys(now);
        let watchdog_due_ms = notifier.as_ref().and_then(Notifier::watchdog_ms).map(|ms| now.mono_ms + ms);
        let mut this = EventLoop {
            poll,
            events: Events::with_capacity(1024),
            batch: Vec::new(),
            signals,
            notifier,
            watchdog_due_ms,
            broker,
            api: Api::default(),
            logins: logins::worker(Arc::clone(&waker)),
            bridges: bridges::Bridges::new(waker),
            store,
            listeners: Vec::new(),
            udp: Udp::new(hash_keys),
            slots: Slots::default(),
            tls,
            key_log,
            certificates_due_ms: None,
            certificates_warned: Vec::new(),
            rounds_noted: false,
            leaving: Vec::new(),
            config,
            sources,
            conns: Slab::with_limit(ConnId::PER_KIND),
            timers: Timers::default(),
            ready: Vec::new(),
            to_flush: Vec::new(),
            graveyard: Vec::new(),
            scratch: vec![0; SCRATCH].into(),
            buffers: Buffers::default(),
            spare: Vec::new(),
            accept_paused_until_ms: None,
            descriptors_noted_ms: None,
            work: Work::new(),
            stop: false,
        };
        let signal_fd = this.signals.as_raw_fd();
        this.poll
            .registry()
            .register(&mut SourceFd(&signal_fd), SIGNALS, Interest::READABLE)
            .map_err(|error| ListenError::system(&error))?;
        this.udp.set_doors(Udp::load(&this.config).map_err(OpenError::Sn)?);
        this.open_listeners()?;
        this.watch_certificates(now);
        this.check_api();
        this.open_bridges(now);
        this.store.settle(&mut this.broker, now);
        Ok(this)
    }

    /// Serves until a signal ends it; then publishes the wills and tells the clients.
    pub fn run(&mut self) -> io::Result<()> {
        self.say_ready();
        while !self.stop {
            self.turn()?;
        }
        self.shut_down(clock::now());
        Ok(())
    }

    /// One wake-up. The order matters: what arrived is decided before anything is sent, everything is sent with one write
    /// for each connection (earlier only when a queue fills up, see `feed`), and a closed connection's slot is free only when no event of this batch can mean it.
    fn turn(&mut self) -> io::Result<()> {
        self.wait()?; //                       1. sleep until a socket, a signal or a deadline
        let now = clock::now(); //             2. what time it is, for everyone below
        self.take_events(now); //              3. signals, accepts, readable sockets
        self.resume_ready(now); //             4. connections that used up their last turn
        self.run_timers(now); //               5. keepalives, expiries, wills, $SYS
        self.run_actions(now); //              6. what the core wants done
        self.flush(now); //                    7. one write for each connection with output
        self.record(now); //                   8. what was promised goes to disk, and is said when it is there
        self.bury(); //                        9. free the slots closed in this turn
        Ok(())
    }

    fn wait(&mut self) -> io::Result<()> {
        let now_ms = clock::mono_ms();
        let work = !self.ready.is_empty()
            || !self.to_flush.is_empty()
            || !self.leaving.is_empty()
            || self.broker.has_dirty()
            || self.api.is_busy()
            || (self.udp.is_pending() && !self.broker.is_congested())
            || self.store.is_busy()
            || (self.accept_paused_until_ms.is_none() && self.listeners.iter().any(|listener| listener.pending));
        let deadlines = [
            self.timers.next_deadline(),
            self.broker.next_deadline(),
            self.watchdog_due_ms,
            self.udp.next_deadline(),
            self.accept_paused_until_ms,
            self.certificates_due_ms,
            self.bridges.deadline(),
            self.store.deadline(),
            crate::logging::summary_due_ms(),
            // What was logged since the last were published. Not at once: a reader who is told of each line that it could
            // not be sent to him would keep us busy with himself.
            crate::logging::has_topic_lines().then_some(now_ms + LOG_PAUSE_MS),
        ];
        let timeout_ms = match deadlines.into_iter().flatten().min() {
            _ if work => Some(0),
            // Rounded up: waking a moment before the deadline would only mean to wait again.
            Some(deadline) => Some((deadline + 1).saturating_sub(now_ms)),
            None => None,
        };
        match self.poll.poll(&mut self.events, timeout_ms.map(std::time::Duration::from_millis)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        self.batch.clear();
        self.batch.extend(self.events.iter().map(|event| Event {
            token: event.token(),
            readable: event.is_readable(),
            writable: event.is_writable(),
            read_closed: event.is_read_closed() || event.is_error(),
        }));
        Ok(())
    }

    fn take_events(&mut self, now: Now) {
        self.work.next_turn();
        self.store.synced(&mut self.broker, now);
        self.broker.set_heap(alloc::current_bytes());
        self.broker.stats.heap_maximum = alloc::maximum_bytes() as u64;
        self.broker.note_memory(now);
        if self.batch.iter().any(|event| event.token == SIGNALS) {
            self.take_signals(now);
        }
        self.close_leaving(now);
        self.take_logins(now);
        let batch = std::mem::take(&mut self.batch);
        for event in &batch {
            match self.listener_of(event.token) {
                Some(at) => self.listeners[at].pending = true,
                None if matches!(event.token, SIGNALS | WORKERS) || self.udp.readable(event.token) => {}
                None if event.token.0 >= FIRST_OTHER => bridges::event(self, now, *event),
                None => self.conn_event(now, *event),
            }
        }
        self.batch = batch;
        self.accept_all(now);
        self.receive_datagrams(now);
    }

    fn listener_of(&self, token: Token) -> Option<usize> {
        // The tokens of connections are all below; events of listeners are few.
        token.0.checked_sub(FIRST_LISTENER)?;
        self.listeners.iter().position(|listener| listener.token == token)
    }

    fn conn_event(&mut self, now: Now, event: Event) {
        let Ok(bits) = u32::try_from(event.token.0) else { return };
        let id = ConnId(Key::from_bits(bits));
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        conn.is.writable |= event.writable;
        conn.is.read_closed |= event.read_closed;
        if conn.listener == slots::BRIDGES && !self.bridge_connected(now, id) {
            return;
        }
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        if event.writable && conn.has_output() {
            self.list_for_flush(id);
        }
        if event.readable || event.read_closed {
            // First come, first served: after those who waited in the turns before.
            if self.conns.get(id.0).is_some_and(Conn::is_handshaking) {
                return self.list_as_ready(id);
            }
            self.read(now, id);
        }
    }

    /// Only connections that were ready when this began: what becomes ready meanwhile waits for the next turn.
    fn resume_ready(&mut self, now: Now) {
        for id in std::mem::take(&mut self.ready) {
            let Some(conn) = self.conns.get_mut(id.0) else { continue };
            conn.is.ready = false;
            self.read(now, id);
        }
    }

    fn run_timers(&mut self, now: Now) {
        while let Some(entry) = self.timers.pop_due(now) {
            let id = ConnId(Key::from_bits(entry.id));
            match self.conns.get_mut(id.0) {
                Some(conn) if conn.timer_ms == entry.deadline_ms => {
                    conn.timer_ms = 0;
                    self.conn_due(now, id);
                }
                _ => self.timers.dropped_stale(),
            }
        }
        self.run_gateway_timers(now);
        if self.broker.next_deadline().is_some_and(|due| due <= now.mono_ms) {
            if self.broker.is_sys_due(now) {
                self.count_waiting();
            }
            self.broker.on_timers(now);
        }
        if self.certificates_due_ms.is_some_and(|due| due <= now.mono_ms) {
            self.watch_certificates(now);
        }
        self.run_bridges(now);
        if let Some(notifier) =
            self.notifier.as_ref().filter(|_| self.watchdog_due_ms.is_some_and(|due| due <= now.mono_ms))
        {
            notifier.watchdog();
            self.watchdog_due_ms = notifier.watchdog_ms().map(|ms| now.mono_ms + ms);
        }
    }

    /// Tells the core what waits for the sockets of clients, for `$SYS` and the metrics page.
    fn count_waiting(&mut self) {
        let clients = self.conns.iter().filter(|(_, conn)| conn.endpoint.is_client());
        let waiting = clients.filter_map(|(_, conn)| conn.outbox.as_ref());
        let (packets, bytes) = waiting
            .fold((0, 0), |(packets, bytes), out| (packets + u64::from(out.packets()), bytes + out.len() as u64));
        (self.broker.stats.waiting_packets, self.broker.stats.waiting_bytes) = (packets, bytes);
    }

    /// What only the loop knows.
    fn figures(&mut self) -> LoopFigures {
        let bridges = self.bridge_figures();
        let listeners = self.config.listeners.iter();
        LoopFigures { listeners: listeners.map(|l| (l.port, self.slots.connections_of(l))).collect(), bridges }
    }

    /// Does what the core wants done: connections to close, requests to take.
    fn run_closes(&mut self, now: Now) {
        while let Some(action) = self.broker.take_action() {
            match action {
                Action::TakeOver { conn, by } => self.close(now, conn, &CloseReason::TakenOver { by }),
                Action::Kick { conn } => self.close(now, conn, &CloseReason::Kicked),
                Action::Login { conn, check } => self.check_login(now, conn, check),
                Action::Control { from, request } => self.api.take(now, &mut self.broker, from, request),
            }
        }
    }

    fn run_actions(&mut self, now: Now) {
        self.run_closes(now);
        if self.api.is_busy() {
            self.run_api(now);
            self.run_closes(now);
        }
        self.store.turn(&self.config.global, &mut self.broker, now);
        crate::logging::summarise(now);
        let broker = &mut self.broker;
        crate::logging::drain_topic_lines(&mut |suffix, line| broker.publish_log(now, suffix, line));
    }

    fn flush(&mut self, now: Now) {
        let mut list = std::mem::take(&mut self.to_flush);
        self.broker.take_dirty(&mut list);
        for id in list {
            match id.attached() {
                Attached::Stream(id) => self.flush_conn(now, id),
                Attached::Sn(id) => self.flush_sn(now, id),
            }
        }
    }

    fn record(&mut self, now: Now) {
        self.store.record(&mut self.broker, now);
    }

    fn bury(&mut self) {
        for id in self.graveyard.drain(..) {
            if let Some(conn) = self.conns.remove(id.0) {
                if conn.timer_ms != 0 {
                    let conns = &self.conns;
                    self.timers.forsake(|entry| {
                        conns.get(Key::from_bits(entry.id)).is_some_and(|conn| conn.timer_ms == entry.deadline_ms)
                    });
                }
                self.accept_paused_until_ms = None;
            }
        }
    }

    /// Takes new connections; the rest of a crowd waits for the next turn.
    fn accept_all(&mut self, now: Now) {
        if self.accept_paused_until_ms.is_some_and(|until| until > now.mono_ms) {
            return;
        }
        self.accept_paused_until_ms = None;
        for at in 0..self.listeners.len() {
            if !self.listeners[at].pending {
                continue;
            }
            for _ in 0..ACCEPTS_PER_TURN {
                match self.listeners[at].accept() {
                    Accepted::Stream(stream, peer) => self.welcome(now, at, stream, peer),
                    Accepted::None => {
                        self.listeners[at].pending = false;
                        break;
                    }
                    Accepted::OutOfDescriptors => {
                        self.pause_accepting(now);
                        return;
                    }
                }
            }
        }
    }

    /// Out of descriptors: those who wait stay in the kernel's queue, those who are connected are served on.
    fn pause_accepting(&mut self, now: Now) {
        self.accept_paused_until_ms = Some(now.mono_ms + ACCEPT_PAUSE_MS);
        if self.descriptors_noted_ms.is_none_or(|last| now.mono_ms >= last + 60_000) {
            self.descriptors_noted_ms = Some(now.mono_ms);
            log::warn!(
                "Unable to accept new connection, system socket count has been exceeded. Try increasing \"ulimit -n\" or \
                 equivalent."
            );
        }
    }

    fn welcome(&mut self, now: Now, at: usize, stream: Stream, peer: Peer) {
        let (index, port) = (self.listeners[at].listener, self.listeners[at].port);
        let global = self.config.global.global_max_connections;
        let listener = self.slots.settings(index);
        let client = listener.protocol != Protocol::Metrics;
        self.broker.stats.sockets += u64::from(client);
        if listener.max_connections.is_some_and(|max| self.slots.connections_of(listener) >= max)
            || (client && global.is_some_and(|max| self.slots.client_connections() >= max))
        {
            if self.config.global.connection_messages {
                crate::notice!("Client connection from {} denied: max_connections exceeded.", peer.host());
            }
            return;
        }
        let transport = match Transport::new(listener, self.slots.tls(index)) {
            Ok(transport) => transport,
            Err(reason) => return log::error!("Error: Unable to begin TLS with {peer}: {reason}"),
        };
        // Somebody who looks every few seconds is not worth a line each time; and who is behind a proxy is not known yet.
        if client && listener.proxy_protocol.is_none() && self.config.global.connection_messages {
            crate::notice!("New connection from {peer} on port {port}.");
        }
        let conn = Conn {
            stream,
            endpoint: Endpoint::new(listener.protocol, now, peer),
            transport,
            outbox: None,
            timer_ms: 0,
            stage: Stage::Open,
            is: Readiness::default(),
            listener: index,
        };
        let Ok(key) = self.conns.insert(conn) else { return };
        let Some(conn) = self.conns.get_mut(key) else { return };
        if let Err(error) = conn.stream.register(self.poll.registry(), Token(key.to_bits() as usize)) {
            log::warn!("Warning: Unable to watch the connection from {peer}: {error}");
            self.conns.remove(key);
            return;
        }
        self.slots.connected(index);
        self.broker.stats.open_sockets += u64::from(client);
        self.arm(ConnId(key));
    }

    /// Makes sure the connection's timer fires in time; an armed one that is early enough stays, so traffic costs no heap
    /// work.
    fn arm(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        let Some(deadline) = conn.deadline() else { return };
        if conn.timer_ms != 0 && conn.timer_ms <= deadline {
            return;
        }
        let replaced = conn.timer_ms != 0;
        conn.timer_ms = deadline;
        self.timers.arm(deadline, id.0.to_bits());
        if replaced {
            let conns = &self.conns;
            self.timers.forsake(|entry| {
                conns.get(Key::from_bits(entry.id)).is_some_and(|conn| conn.timer_ms == entry.deadline_ms)
            });
        }
    }

    /// Runs `act` with the connection's endpoint and everything it may touch; its output stays with the connection.
    fn with_endpoint<R>(
        &mut self,
        now: Now,
        id: ConnId,
        act: impl FnOnce(&mut Endpoint, &mut Turn<'_>) -> R,
    ) -> Option<R> {
        let conn = self.conns.get_mut(id.0).filter(|conn| conn.stage == Stage::Open)?;
        let mut out = conn.outbox.take().or_else(|| self.spare.pop()).unwrap_or_default();
        let given = self.work.budget();
        self.broker.set_heap(alloc::current_bytes());
        let mut turn = Turn {
            now,
            broker: &mut self.broker,
            out: &mut out,
            conn: id,
            config: &self.config,
            listener: self.slots.settings(conn.listener),
            budget: given,
        };
        let result = act(&mut conn.endpoint, &mut turn);
        self.work.left = self.work.left.saturating_sub(given.saturating_sub(turn.budget));
        self.put_back(id, out);
        Some(result)
    }

    fn put_back(&mut self, id: ConnId, mut out: Box<Outbox>) {
        if out.is_empty() {
            if self.spare.len() < 8 {
                // The next one to use it owes nothing.
                out.clear();
                self.spare.push(out);
            }
            return;
        }
        if let Some(conn) = self.conns.get_mut(id.0) {
            conn.outbox = Some(out);
        }
    }

    fn list_for_flush(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id.0).filter(|conn| !conn.is.flush) {
            conn.is.flush = true;
            self.to_flush.push(id);
        }
    }

    fn list_as_ready(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id.0).filter(|conn| !conn.is.ready) {
            conn.is.ready = true;
            self.ready.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_walked_once_a_turn_and_again_while_there_is_work_left() {
        let mut work = Work { share: 0, left: 0, ..Work::new() };
        assert!(work.walk(10) && !work.walk(10));
        work.next_turn();
        let table = WALKED_FOR_ONE * WORK_PER_TURN as usize / 4;
        assert_eq!((0..10).filter(|_| work.walk(table)).count(), 4);
        work.next_turn();
        assert!(work.walk(usize::MAX) && !work.walk(1));
    }
}

//! The bridges: their sockets, and the names of other brokers. When and where to connect is decided by
//! [`Connector`](crate::proto::bridge::Connector), what is said by [`Bridge`]; this does what they want. A connection is
//! one like any other from the moment its socket exists.

mod names;
mod primary;
mod reload;
mod socket;
mod sys;

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use mio::{Token, Waker};

use self::names::Names;
use self::primary::Probe;
use super::conn::{Conn, Readiness, Stage};
use super::slots::BRIDGES;
use super::stream::Stream;
use super::tls::client::ClientTls;
use super::transport::Transport;
use super::{Event, EventLoop};
use crate::broker::ConnId;
use crate::config::bridge::Bridge as Configured;
use crate::os::{hostname, random};
use crate::proto::bridge::{Bridge, Connector, Link, Profile, Step};
use crate::proto::{BridgeFigures, CloseReason, Endpoint, Peer};
use crate::timer::Now;

/// One bridge, connected or not.
struct Kept {
    connector: Connector,
    conn: Option<ConnId>,
    /// TLS towards the other broker, once it was set up.
    tls: Option<ClientTls>,
    /// Where its sockets start `[conf: bridge_bind_address]`.
    bind: Option<IpAddr>,
    probe: Probe,
    /// What `$SYS` was told last.
    told: Option<(u64, u64)>,
}

/// All bridges.
pub(super) struct Bridges {
    all: Vec<Kept>,
    names: Names,
    hostname: String,
    /// When `$SYS` is told again.
    sys_due_ms: Option<u64>,
}

impl Bridges {
    /// No bridge yet.
    pub(super) fn new(waker: Arc<Waker>) -> Bridges {
        Bridges { all: Vec::new(), names: Names::new(waker), hostname: hostname::get(), sys_due_ms: None }
    }

    /// When [`EventLoop::run_bridges`] has something to do, in milliseconds.
    pub(super) fn deadline(&self) -> Option<u64> {
        let due = self.all.iter().flat_map(|kept| [kept.connector.deadline(), kept.primary_due()]);
        due.chain([self.sys_due_ms]).flatten().min()
    }

    fn of_conn(&mut self, id: ConnId) -> Option<usize> {
        self.all.iter().position(|kept| kept.conn == Some(id))
    }
}

impl EventLoop {
    /// Takes up every configured bridge; they connect with the first turn.
    pub(super) fn open_bridges(&mut self, now: Now) {
        for bridge in self.config.bridges.clone() {
            self.open_bridge(now, bridge);
        }
        self.watch_bridges(now);
    }

    fn open_bridge(&mut self, now: Now, bridge: Configured) {
        let profile = Rc::new(Profile::new(bridge, &self.bridges.hostname));
        self.open_bridge_session(now, &profile);
        if profile.config.notifications {
            self.broker.publish_of_bridge(now, &profile.state_topic, "0");
        }
        let connector = Connector::new(profile, now);
        self.bridges.all.push(Kept { connector, conn: None, tls: None, bind: None, probe: Probe::None, told: None });
    }

    /// Lets messages wait for a bridge from now on.
    fn open_bridge_session(&mut self, now: Now, profile: &Profile) {
        if self.broker.open_bridge(now, &profile.session(profile.config.version)).is_err() {
            let name = &profile.config.name;
            log::error!("Error: Bridge {name} has no session until it connects: there is no room for it.");
        }
    }

    /// Does what is due: names that were looked up, attempts to connect, tries of first addresses, figures.
    pub(super) fn run_bridges(&mut self, now: Now) {
        self.take_names(now);
        for at in 0..self.bridges.all.len() {
            self.note_link(now, at);
            let Some(kept) = self.bridges.all.get_mut(at) else { continue };
            let due = kept.connector.deadline().is_some_and(|due| due <= now.mono_ms);
            let step = if due {
                kept.connector.on_timer(now, random::seed())
            } else if kept.connector.is_lazy_and_idle()
                && kept.connector.is_woken_by(self.broker.backlog(&kept.connector.profile().local_id))
            {
                kept.connector.wake(now)
            } else {
                Step::Nothing
            };
            self.take_step(now, at, step);
            self.run_primary(now, at);
        }
        self.tell_sys(now);
    }

    /// Tells the connector how far its connection is.
    fn note_link(&mut self, now: Now, at: usize) {
        let Some(kept) = self.bridges.all.get_mut(at) else { return };
        let Some(conn) = kept.conn.and_then(|id| self.conns.get_mut(id.0)) else { return };
        let is_handshaking = conn.is_handshaking();
        let Some(bridge) = conn.endpoint.bridge() else { return };
        let link = match bridge.session() {
            Some(_) => Link::Live,
            None if bridge.is_connecting() => Link::Connecting,
            None if is_handshaking => Link::TlsHandshake,
            None => Link::AwaitConnack,
        };
        kept.connector.reached(now, link);
    }

    fn take_step(&mut self, now: Now, at: usize, mut step: Step) {
        // Each further step takes an address that was not tried, and there are few.
        loop {
            step = match step {
                Step::Nothing => return,
                Step::Resolve(address) => self.resolve(now, at, &address),
                Step::Connect(addr) => match self.connect_bridge(now, at, addr) {
                    Ok(()) => return,
                    Err(why) => {
                        log::error!("Error creating bridge: {why}");
                        let Some(kept) = self.bridges.all.get_mut(at) else { return };
                        kept.connector.failed(now, &why, random::seed())
                    }
                },
            };
        }
    }

    /// Begins a connection.
    fn connect_bridge(&mut self, now: Now, at: usize, addr: SocketAddr) -> Result<(), String> {
        let Some(kept) = self.bridges.all.get_mut(at) else { return Ok(()) };
        let profile = Rc::clone(kept.connector.profile());
        let transport = match profile.config.tls.enabled() {
            false => None,
            true => {
                let host = kept.connector.address().map_or("", |address| &address.host);
                let tls = kept.tls.take().map_or_else(|| socket::load_tls(&profile.config), Ok)?;
                let stream = tls.connect(host).map_err(|error| error.to_string());
                kept.tls = Some(tls);
                Some(Box::new(Transport::begin(Some(stream?), None)))
            }
        };
        let stream = Stream::Tcp(socket::connect(&profile.config, kept.bind, addr)?);
        let conn = Conn {
            stream,
            endpoint: Endpoint::Bridge(Box::new(Bridge::new(now, &kept.connector, Peer::new(addr)))),
            transport,
            outbox: None,
            timer_ms: 0,
            stage: Stage::Open,
            is: Readiness::default(),
            listener: BRIDGES,
        };
        let key = self.conns.insert(conn).map_err(|_| "too many connections".to_owned())?;
        let conn = self.conns.get_mut(key);
        let registered = conn.map(|conn| conn.stream.register(self.poll.registry(), Token(key.to_bits() as usize)));
        if let Some(Err(error)) = registered {
            self.conns.remove(key);
            return Err(error.to_string());
        }
        if let Some(kept) = self.bridges.all.get_mut(at) {
            kept.conn = Some(ConnId(key));
        }
        self.broker.stats.open_sockets += 1;
        self.arm(ConnId(key));
        Ok(())
    }

    /// Something happened to the socket of a bridge. False while it is not connected, or when that has failed.
    pub(super) fn bridge_connected(&mut self, now: Now, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(id.0).filter(|conn| conn.stage == Stage::Open) else { return false };
        let connecting = conn.endpoint.bridge().is_some_and(|bridge| bridge.is_connecting());
        if !connecting {
            return true;
        }
        match socket::is_connected(&conn.stream) {
            Ok(false) => false,
            Ok(true) => {
                self.with_endpoint(now, id, |endpoint, turn| {
                    if let Some(bridge) = endpoint.bridge() {
                        bridge.opened(turn);
                    }
                });
                self.list_for_flush(id);
                self.arm(id);
                true
            }
            Err(error) => {
                self.close(now, id, &CloseReason::Socket(super::read::error_text(&error)));
                false
            }
        }
    }

    /// A connection of a bridge has ended: what comes of it.
    pub(super) fn bridge_closed(&mut self, now: Now, id: ConnId, reason: &CloseReason) {
        let conn = self.conns.get_mut(id.0);
        let Some(lost) = conn.and_then(|conn| conn.endpoint.bridge()).and_then(Bridge::take_lost) else { return };
        let Some(at) = self.bridges.of_conn(id) else { return };
        let Some(kept) = self.bridges.all.get_mut(at) else { return };
        kept.conn = None;
        kept.probe = Probe::None;
        let connector = &mut kept.connector;
        let step = match reason {
            CloseReason::BridgeEnded(_) => {
                connector.restarted(now, &lost, true);
                Step::Nothing
            }
            CloseReason::BridgeIdle | CloseReason::Shutdown => {
                connector.restarted(now, &lost, false);
                Step::Nothing
            }
            _ => {
                let (step, aside) = connector.ended(now, lost, random::seed());
                let session = self.broker.find_client(&connector.profile().local_id);
                if let (Some(packet), Some(session)) = (aside.and_then(|suspect| suspect.packet), session) {
                    self.broker.abandon(session, packet);
                }
                step
            }
        };
        self.follow_session(now, at);
        self.take_step(now, at, step);
    }

    /// Sees to it that messages wait under the local client id that the next connection has: an operator may have ended the
    /// session, and a reload may have brought another id.
    fn follow_session(&mut self, now: Now, at: usize) {
        let Some(kept) = self.bridges.all.get(at) else { return };
        let (old, new) = (Rc::clone(kept.connector.profile()), Rc::clone(kept.connector.newest()));
        if old.local_id != new.local_id && self.broker.find_client(&old.local_id).is_some() {
            let (name, id) = (&new.config.name, &old.local_id);
            crate::notice!("Bridge {name}: what waited for it under its former local client id {id} is gone.");
            self.broker.close_bridge(id);
        }
        if self.broker.find_client(&new.local_id).is_none() {
            self.open_bridge_session(now, &new);
        }
    }

    /// What operators see of the bridges.
    pub(super) fn bridge_figures(&mut self) -> Vec<BridgeFigures> {
        (0..self.bridges.all.len()).filter_map(|at| self.figures_of(at)).collect()
    }

    fn figures_of(&mut self, at: usize) -> Option<BridgeFigures> {
        let kept = self.bridges.all.get(at)?;
        let conn = kept.conn.and_then(|id| self.conns.get_mut(id.0));
        let counts = conn.and_then(|conn| conn.endpoint.bridge()).map_or((0, 0), |bridge| bridge.counts());
        let backlog = self.broker.backlog(&kept.connector.profile().local_id);
        Some(kept.connector.figures(backlog, counts))
    }

    /// Ends the connection of a bridge for a reason of ours; another begins at once.
    fn end_bridge(&mut self, now: Now, at: usize, why: &'static str) {
        if let Some(id) = self.bridges.all.get(at).and_then(|kept| kept.conn) {
            self.close(now, id, &CloseReason::BridgeEnded(why));
        }
    }
}

/// An event that belongs to no connection may belong to a try of a first address.
pub(super) fn event(this: &mut EventLoop, now: Now, event: Event) {
    if let Some(at) = primary::bridge_of(event.token) {
        this.primary_event(now, at);
    }
}

//! One connection of a bridge to another broker: a client towards that one, a session towards ours.
//!
//! ```text
//! Connecting ──socket──▶ Open (TLS, CONNECT) ──CONNACK──▶ attached to the session ──▶ Ended
//! ```
//!
//! [`Bridge`] is the endpoint of the connection; it renames topics on the way in and out and is otherwise what
//! [`Server`](super::Server) is for a client. It lives as long as its socket. What outlives it, when and where to connect
//! and what was learned about the other broker, is [`Connector`]'s.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

mod connector;
mod incoming;
mod outgoing;
mod profile;
mod remap;
mod restart;
mod suspects;

use std::collections::BTreeMap;
use std::rc::Rc;

pub use connector::{Connector, Link, Lost, Offer, Step};
pub use profile::Profile;
pub use remap::Remap;
pub use restart::Backoff;
pub use suspects::{Ended, Suspect, Suspects, Verdict};

use self::suspects::Probation;
use super::client::{Client, Event, Terms};
use super::deferred::Deferrals;
use super::peer::Connection;
use super::server::HIGH_WATER;
use super::{CloseReason, Flow, Flushed, Peer, Turn};
use crate::broker::message::Msg;
use crate::broker::{ConnectRefused, Ending, SessionId};
use crate::config::bridge::{Direction, StartType, Topic};
use crate::wire::connect::{ConnackForm, Connect, Will};
use crate::wire::publish::{PublishHead, PublishProps};
use crate::wire::subscribe::{RetainHandling, SubscribeOptions};
use crate::wire::{PacketId, ProtocolVersion, QoS, ReasonCode};

/// Seconds that a step of connecting may take at least, and at most, whatever the keepalive: whoever wants to notice soon
/// that nobody answers sets a short keepalive.
const PATIENCE_S: std::ops::RangeInclusive<u16> = 5..=20;
/// The most seconds for the connection of the socket alone.
const CONNECT_S: u16 = 10;

/// What the loop is told of a bridge that is not live yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The socket is not connected; patience ends at this time.
    Connecting { until_ms: u64 },
    /// CONNECT is on its way, or what comes before it.
    Open,
    /// Nothing is taken any more.
    Ended,
}

/// The endpoint of one connection.
pub struct Bridge {
    /// What speaks MQTT, once the socket is connected.
    client: Option<Client>,
    side: Side,
}

/// Everything but the client.
struct Side {
    profile: Rc<Profile>,
    offer: Offer,
    peer: Peer,
    stage: Stage,
    session: Option<SessionId>,
    deferrals: Deferrals,
    /// When CONNACK came.
    live_ms: u64,
    /// When the last message went either way.
    active_ms: u64,
    /// The highest QoS of what goes out.
    max_qos: QoS,
    /// Whether the retain flag goes out.
    retain: bool,
    /// Subscriptions without an answer, by packet identifier: their line.
    asked: BTreeMap<u16, usize>,
    /// Whether the peer granted QoS 2 to none of the lines, or to any, that asked for it.
    granted: Option<QoS>,
    /// Something came behind CONNACK.
    greeted: bool,
    /// The packet identifier of the notification.
    notification: Option<PacketId>,
    probation: Option<Probation>,
    proved: bool,
    /// The first message of QoS 0 that nothing came back after.
    unproved: Option<Msg>,
    /// A message that the peer has no room for.
    full: Option<Suspect>,
    /// Publishes sent on this connection.
    sent: u64,
    /// Publishes that came on this connection.
    received: u64,
    /// Messages that were not sent because of their topic, or were refused.
    refused: u64,
    /// Topics that are set aside.
    aside: Vec<Box<str>>,
    /// There was no room for a QoS 2 message that came: none is taken any more until those that are here are released.
    skipping: bool,
    noted: Noted,
    lost: Option<Lost>,
}

/// Lines of the log that come once for each connection.
#[derive(Default)]
struct Noted {
    name_out: bool,
    name_in: bool,
    too_large: bool,
    refused: bool,
    unasked: bool,
    aside: bool,
}

type Handled = Result<(), CloseReason>;

impl Bridge {
    /// A connection to `peer` that begins now.
    #[must_use]
    pub fn new(turn: crate::timer::Now, connector: &Connector, peer: Peer) -> Bridge {
        let profile = Rc::clone(connector.profile());
        let patience_s = profile.config.keepalive.clamp(*PATIENCE_S.start(), CONNECT_S);
        let until_ms = turn.mono_ms.saturating_add(u64::from(patience_s).saturating_mul(1000));
        let offer = *connector.offer();
        Bridge {
            client: None,
            side: Side {
                offer,
                peer,
                stage: Stage::Connecting { until_ms },
                session: None,
                deferrals: Deferrals::default(),
                live_ms: 0,
                active_ms: 0,
                max_qos: offer.max_qos,
                retain: offer.retain && profile.config.outgoing_retain,
                asked: BTreeMap::new(),
                granted: None,
                greeted: false,
                notification: None,
                probation: connector.suspects().probation(),
                proved: false,
                unproved: None,
                full: None,
                sent: 0,
                received: 0,
                refused: 0,
                aside: connector.suspects().topics(turn),
                skipping: false,
                noted: Noted::default(),
                lost: None,
                profile,
            },
        }
    }

    /// Where the other broker is.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.side.peer
    }

    /// The session, from CONNACK on.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.side.session
    }

    /// True until the socket is connected.
    #[must_use]
    pub fn is_connecting(&self) -> bool {
        matches!(self.side.stage, Stage::Connecting { .. })
    }

    /// Publishes that were sent and that came, on this connection.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.side.sent, self.side.received)
    }

    /// The name of the bridge.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.side.profile.config.name
    }

    /// What became of the connection, once it is closed.
    pub fn take_lost(&mut self) -> Option<Lost> {
        self.side.lost.take()
    }

    /// The connection as an operator sees it.
    #[must_use]
    pub fn connection(&self, waiting_bytes: usize) -> Connection {
        let keepalive_s = self.client.as_ref().map_or(self.side.profile.config.keepalive, Client::keepalive_s);
        Connection { peer: self.side.peer, listener_port: 0, keepalive_s, waiting_bytes }
    }

    /// When [`Bridge::on_timer`] is to be called, in milliseconds.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let stage = match self.side.stage {
            Stage::Connecting { until_ms } => Some(until_ms),
            Stage::Open => self.side.idle_deadline(),
            Stage::Ended => None,
        };
        [stage, self.client.as_ref().and_then(Client::deadline)].into_iter().flatten().min()
    }

    /// The socket is connected: writes CONNECT, which may have to wait for TLS.
    pub fn opened(&mut self, turn: &mut Turn<'_>) {
        if !self.is_connecting() {
            return;
        }
        self.side.stage = Stage::Open;
        self.client = Some(self.side.connect(turn));
    }

    /// Takes input; call with no input to go on after [`Flow::Again`] or [`Flow::Paused`].
    pub fn on_bytes(&mut self, turn: &mut Turn<'_>, input: &[u8]) -> Flow {
        let Bridge { client, side } = self;
        let Some(client) = client else {
            return if input.is_empty() { Flow::Continue } else { Flow::Close(CloseReason::ProtocolError) };
        };
        if side.is_taken_over(turn) {
            return Flow::Continue;
        }
        let mut waits = None;
        let result = client.on_bytes(turn.now.mono_ms, input, |client, event| {
            turn.charge(1);
            turn.broker.stats.packets_in = turn.broker.stats.packets_in.saturating_add(1);
            side.on_event(turn, client, event)?;
            waits = side.must_wait(turn);
            Ok::<bool, CloseReason>(waits.is_none())
        });
        match (result, waits) {
            (Err(reason), _) => Flow::Close(reason),
            (Ok(()), Some(flow)) => flow,
            (Ok(()), None) => Flow::Continue,
        }
    }

    /// Fills the outbox from the session.
    pub fn flush(&mut self, turn: &mut Turn<'_>) -> Flushed {
        let Bridge { client: Some(client), side } = self else { return Flushed::Enough };
        let Some(session) = side.session.filter(|_| !side.is_taken_over(turn)) else { return Flushed::Enough };
        side.deferrals.release(turn);
        let mut budget = turn.broker.looks();
        let more = side.fill(turn, client, session, &mut budget);
        let used = turn.broker.looks().saturating_sub(budget);
        turn.broker.looked(used);
        if more { Flushed::More } else { Flushed::Enough }
    }

    /// Patience, keepalive, and the idle time of a lazy bridge.
    pub fn on_timer(&mut self, turn: &mut Turn<'_>) -> Flow {
        let now_ms = turn.now.mono_ms;
        if matches!(self.side.stage, Stage::Connecting { until_ms } if until_ms <= now_ms) {
            return Flow::Close(CloseReason::Timeout);
        }
        if let Some(client) = &mut self.client {
            let mut ping = Vec::new();
            match client.on_timer(now_ms, &mut ping) {
                Err(fault) => return Flow::Close(CloseReason::Server(fault)),
                Ok(true) => {
                    log::debug!("Sending PINGREQ to {}", self.side.profile.local_id);
                    turn.out.packet().extend_from_slice(&ping);
                    turn.broker.stats.packets_out = turn.broker.stats.packets_out.saturating_add(1);
                    // It leaves with the next flush.
                    return Flow::Again;
                }
                Ok(false) => {}
            }
        }
        if self.side.idle_deadline().is_some_and(|due| due <= now_ms) {
            let backlog = turn.broker.backlog(&self.side.profile.local_id);
            if backlog.inflight == 0 && backlog.queued == 0 {
                crate::notice!(
                    "Bridge connection {} has exceeded idle timeout, disconnecting.",
                    self.side.profile.local_id
                );
                return Flow::Close(CloseReason::BridgeIdle);
            }
            self.side.active_ms = now_ms;
        }
        Flow::Continue
    }

    /// Ends the connection: the session is detached, the state published, and the log has its line. True when the peer was
    /// told something.
    pub fn close(&mut self, turn: &mut Turn<'_>, reason: &CloseReason) -> bool {
        let told = self.say_goodbye(turn, reason);
        let side = &mut self.side;
        let lost = side.lost(turn, reason);
        side.stage = Stage::Ended;
        if let Some(session) = side.session.take() {
            turn.broker.disconnect(turn.now, session, turn.conn, Ending { will: false, expiry_s: None });
            side.publish_state(turn, "0");
            if turn.config.global.connection_messages {
                crate::notice!("Client {} [{}] {reason}", side.profile.local_id, side.peer);
            }
        } else {
            side.log_failure(reason);
        }
        side.lost = Some(lost);
        told
    }

    /// Tells the peer about the end. Where it holds a will that says that we are gone, that is what it gets to know, so it
    /// is told nothing that would keep the will back.
    fn say_goodbye(&mut self, turn: &mut Turn<'_>, reason: &CloseReason) -> bool {
        let Some(client) = &mut self.client else { return false };
        let (live, v5) = (client.is_live(), client.version() == ProtocolVersion::V5);
        let notified = self.side.offer.notify;
        let code = match reason {
            _ if !live => None,
            CloseReason::ClosedByClient | CloseReason::Socket(_) | CloseReason::Tls(_) => None,
            CloseReason::ServerDisconnect(_) | CloseReason::TakenOver { .. } => None,
            CloseReason::Shutdown | CloseReason::BridgeIdle | CloseReason::BridgeEnded(_) | CloseReason::Kicked => {
                match (v5, notified) {
                    (true, true) => Some(ReasonCode::DISCONNECT_WITH_WILL),
                    (_, false) => Some(ReasonCode::SUCCESS),
                    (false, true) => None,
                }
            }
            other if v5 => other.code(),
            _ => None,
        };
        if let Some(code) = code {
            client.disconnect(turn.out.packet(), code);
            turn.broker.stats.packets_out = turn.broker.stats.packets_out.saturating_add(1);
        }
        client.end();
        code.is_some() || (live && !turn.out.is_empty())
    }
}

impl Side {
    fn is_taken_over(&self, turn: &Turn<'_>) -> bool {
        self.session.is_some_and(|session| turn.broker.conn_of(session) != Some(turn.conn))
    }

    /// When a lazy bridge has been idle for long enough.
    fn idle_deadline(&self) -> Option<u64> {
        let config = &self.profile.config;
        let lazy = config.start_type == StartType::Lazy && self.session.is_some();
        lazy.then(|| self.active_ms.saturating_add(u64::from(config.idle_timeout).saturating_mul(1000)))
    }

    fn must_wait(&self, turn: &Turn<'_>) -> Option<Flow> {
        if turn.out.owed() > HIGH_WATER {
            return Some(Flow::Paused);
        }
        (turn.budget == 0 || turn.broker.wants_flush()).then_some(Flow::Again)
    }

    /// Writes CONNECT.
    fn connect(&mut self, turn: &mut Turn<'_>) -> Client {
        let Side { profile, offer, .. } = self;
        let config = &profile.config;
        let v5 = offer.version == ProtocolVersion::V5;
        let global = &turn.config.global;
        let receive = config.receive_maximum.unwrap_or(global.max_inflight_messages);
        let will = offer.notify.then(|| Will {
            topic: &profile.state_topic,
            payload: b"0",
            qos: offer.max_qos.min(QoS::AtLeastOnce),
            retain: self.retain,
            delay_s: 0,
            expiry: None,
            props: PublishProps::default(),
        });
        let connect = Connect {
            bridge: offer.private,
            clean_start: config.clean_session,
            will,
            username: config.remote_username.as_deref(),
            password: config.remote_password.as_deref().map(str::as_bytes),
            session_expiry: (v5 && config.session_expiry_interval != 0).then_some(config.session_expiry_interval),
            receive_maximum: (v5 && receive != 0).then_some(receive),
            max_packet_size: (v5 && global.max_packet_size != 0).then_some(global.max_packet_size),
            topic_alias_maximum: if v5 { config.max_topic_alias } else { 0 },
            ..Connect::new(offer.version, &profile.remote_id, config.keepalive)
        };
        let patience_s = config.keepalive.clamp(*PATIENCE_S.start(), *PATIENCE_S.end());
        let terms = Terms {
            patience_ms: u64::from(patience_s).saturating_mul(1000),
            max_packet_in: global.max_packet_size,
            max_packet_out: config.max_packet_size,
            max_aliases_out: config.max_topic_alias,
        };
        log::debug!("Bridge {} sending CONNECT", profile.remote_id);
        turn.broker.stats.packets_out = turn.broker.stats.packets_out.saturating_add(1);
        Client::connect(turn.now.mono_ms, turn.out.packet(), &connect, terms)
    }

    fn on_event(&mut self, turn: &mut Turn<'_>, client: &mut Client, event: Event<'_>) -> Handled {
        // Whatever came proves that the peer could stand what it had got before.
        self.unproved = None;
        match event {
            Event::Connected { session_present } => return self.on_connected(turn, client, session_present),
            Event::Refused(form) => return Err(CloseReason::RefusedByServer(form)),
            _ => {}
        }
        self.greeted = true;
        let Some(session) = self.session else { return Ok(()) };
        match event {
            Event::Connected { .. } | Event::Refused(_) => {}
            Event::Publish(publish, topic) => return self.on_publish(turn, client, session, &publish, &topic),
            Event::Puback(ack) => return self.on_puback(turn, session, ack),
            Event::Pubrec(ack) => return self.on_pubrec(turn, client, session, ack),
            Event::Pubrel(ack) => return self.on_pubrel(turn, client, session, ack),
            Event::Pubcomp(ack) => return self.on_pubcomp(turn, session, ack),
            Event::Suback(id, codes) => self.on_suback(id, codes),
            Event::Unsuback(_) => {}
            Event::Unasked(packet, id) => {
                if !std::mem::replace(&mut self.noted.unasked, true) {
                    let (name, id) = (&self.profile.config.name, id.get());
                    log::warn!("Warning: Bridge {name}: {packet} for an unknown packet identifier {id}.");
                }
            }
            Event::Pingresp => {
                log::debug!("Received PINGRESP from {}", self.profile.local_id);
                if self.probation.as_ref().is_some_and(|probation| probation.awaits_pong) {
                    self.passed(turn, session);
                }
                turn.broker.trim(session);
            }
            Event::Disconnect(reason) => return Err(CloseReason::ServerDisconnect(reason)),
        }
        Ok(())
    }

    fn on_connected(&mut self, turn: &mut Turn<'_>, client: &mut Client, session_present: bool) -> Handled {
        let profile = Rc::clone(&self.profile);
        let config = &profile.config;
        log::debug!("Received CONNACK on connection {}.", profile.local_id);
        let limits = *client.limits();
        self.max_qos = self.offer.max_qos.min(limits.maximum_qos);
        self.retain &= limits.retain_available;
        let inflight = turn.config.global.max_inflight_messages;
        let notifies = self.offer.notify;
        // One place is for the notification.
        let said =
            limits.said_receive_maximum.then(|| limits.receive_maximum.saturating_sub(u16::from(notifies)).max(1));
        let window = said.map(|said| if inflight == 0 { said } else { said.min(inflight) });
        let promised = config.receive_maximum.unwrap_or(inflight);
        let own = profile.session(client.version());
        let connected = turn.broker.attach_bridge(turn.now, &own, turn.conn, window, promised);
        let session = match connected {
            Ok(connected) => connected.session,
            Err(ConnectRefused::OutOfMemory) => return Err(CloseReason::OutOfMemory),
            Err(ConnectRefused::StorageFull) => return Err(CloseReason::StorageFull),
            Err(ConnectRefused::TooManyClients | ConnectRefused::OfBridge) => return Err(CloseReason::BridgeNoRoom),
        };
        self.session = Some(session);
        self.live_ms = turn.now.mono_ms;
        self.active_ms = turn.now.mono_ms;
        let forgets = client.version() != ProtocolVersion::V31 && !session_present;
        if config.clean_session || forgets {
            turn.broker.forget_incoming(session);
        }
        log::info!(
            "Bridge {} is connected to {} as {} (p{}).",
            config.name,
            self.peer,
            profile.remote_id,
            client.version() as u8
        );
        if limits.maximum_qos < QoS::ExactlyOnce || !limits.retain_available {
            log::info!(
                "Bridge {}: the other broker takes QoS up to {} and {} retained messages.",
                config.name,
                limits.maximum_qos as u8,
                if limits.retain_available { "takes" } else { "no" }
            );
        }
        self.publish_state(turn, "1");
        if notifies {
            self.notify(turn, client, session, limits.said_receive_maximum && limits.receive_maximum == 1);
        }
        for (at, topic) in config.topics.iter().enumerate() {
            self.ask(turn, client, session, at, topic);
        }
        if let Some(probation) = &mut self.probation {
            probation.awaits_pong = true;
            client.ping(turn.now.mono_ms, turn.out.packet());
        }
        Ok(())
    }

    /// Tells the other broker that the bridge is connected.
    fn notify(&mut self, turn: &mut Turn<'_>, client: &mut Client, session: SessionId, alone: bool) {
        let qos = if alone { QoS::AtMostOnce } else { self.max_qos.min(QoS::AtLeastOnce) };
        self.notification = if qos == QoS::AtMostOnce { None } else { turn.broker.next_packet_id(session) };
        let head = PublishHead {
            version: client.version(),
            dup: false,
            qos: if self.notification.is_some() { qos } else { QoS::AtMostOnce },
            retain: self.retain,
            topic: &self.profile.state_topic,
            packet_id: self.notification,
            forwardable: &[],
            expiry: None,
            topic_alias: None,
            subscription_id: None,
            payload_len: 1,
        };
        client.publish(turn.now.mono_ms, turn.out.packet(), &head);
        turn.out.packet().push(b'1');
        turn.broker.stats.packets_out = turn.broker.stats.packets_out.saturating_add(1);
    }

    /// Asks the other broker for what a line wants, or tells it that nothing of this is wanted
    /// `[conf: bridge_attempt_unsubscribe]`.
    fn ask(&mut self, turn: &mut Turn<'_>, client: &mut Client, session: SessionId, at: usize, topic: &Topic) {
        let filter = topic.remote_filter();
        let wanted = topic.direction != Direction::Out;
        if !wanted && !self.profile.config.attempt_unsubscribe {
            return;
        }
        let Some(id) = turn.broker.next_packet_id(session) else { return };
        let (now_ms, local_id) = (turn.now.mono_ms, &self.profile.local_id);
        turn.broker.stats.packets_out = turn.broker.stats.packets_out.saturating_add(1);
        if !wanted {
            log::debug!("Bridge {local_id} sending UNSUBSCRIBE (Mid: {}, Topic: {filter})", id.get());
            return client.unsubscribe(now_ms, turn.out.packet(), id, &[&filter]);
        }
        let v5 = client.version() == ProtocolVersion::V5;
        let options = SubscribeOptions {
            qos: topic.qos.min(self.offer.max_qos),
            // A shared subscription cannot have it [MQTT-3.8.3-4].
            no_local: v5 && !filter.starts_with("$share/"),
            retain_as_published: v5,
            retain_handling: RetainHandling::Send,
        };
        log::debug!(
            "Bridge {local_id} sending SUBSCRIBE (Mid: {}, Topic: {filter}, QoS: {}, Options: 0x{:02X})",
            id.get(),
            options.qos as u8,
            options.bits() & !3
        );
        client.subscribe(now_ms, turn.out.packet(), id, &[(&filter, options)]);
        self.asked.insert(id.get(), at);
    }

    /// Looks at what was granted: less than asked for is worth a line, and no QoS 2 means none in the other direction
    /// either.
    fn on_suback(&mut self, id: PacketId, codes: &[u8]) {
        let profile = Rc::clone(&self.profile);
        let line = self.asked.remove(&id.get()).and_then(|at| profile.config.topics.get(at));
        let (Some(topic), Some(code)) = (line, codes.first()) else { return };
        let (name, filter) = (&profile.config.name, topic.remote_filter());
        let asked = topic.qos.min(self.offer.max_qos);
        match QoS::from_bits(*code) {
            None => log::warn!(
                "Warning: Bridge {name}: the other broker refuses the subscription to '{filter}' (code 0x{code:02X})."
            ),
            Some(qos) if qos < asked => {
                log::info!("Bridge {name}: the other broker grants '{filter}' QoS {} only.", qos as u8);
            }
            Some(_) => {}
        }
        if let (Some(granted), QoS::ExactlyOnce) = (QoS::from_bits(*code), asked) {
            self.granted = Some(self.granted.map_or(granted, |before| before.max(granted)));
        }
        if self.asked.is_empty()
            && let Some(granted) = self.granted.filter(|granted| *granted < QoS::ExactlyOnce)
        {
            self.max_qos = self.max_qos.min(granted.max(QoS::AtLeastOnce));
        }
    }

    /// Publishes the state at this broker.
    fn publish_state(&self, turn: &mut Turn<'_>, state: &str) {
        if self.profile.config.notifications {
            turn.broker.publish_of_bridge(turn.now, &self.profile.state_topic, state);
        }
    }

    /// What was outstanding has passed: the next may go.
    fn passed(&mut self, turn: &mut Turn<'_>, session: SessionId) {
        if self.probation.as_mut().is_some_and(Probation::passed) {
            self.probation = None;
            self.proved = true;
        }
        turn.broker.set_dirty(session);
    }

    /// What the end of the connection says about it.
    fn lost(&self, turn: &Turn<'_>, reason: &CloseReason) -> Lost {
        let mut lost = Lost {
            was_live: self.session.is_some(),
            error: reason.to_string(),
            refusal: None,
            before_connack: false,
            max_qos: self.max_qos,
            sent: self.sent,
            received: self.received,
            refused: self.refused,
            by_peer: None,
        };
        if let CloseReason::RefusedByServer(form) = reason {
            lost.refusal = Some(*form);
        }
        let by_peer =
            matches!(reason, CloseReason::ClosedByClient | CloseReason::ServerDisconnect(_) | CloseReason::PeerIsFull);
        lost.before_connack = by_peer && !lost.was_live && self.stage == Stage::Open;
        if let Some(session) = self.session.filter(|_| by_peer) {
            lost.by_peer = Some(self.ended(turn, session, reason));
        }
        lost
    }

    fn ended(&self, turn: &Turn<'_>, session: SessionId, reason: &CloseReason) -> Ended {
        let lasted_ms = turn.now.mono_ms.saturating_sub(self.live_ms);
        let ungreeted = !self.greeted;
        let mut ended = Ended { ungreeted, proved: self.proved, lasted_ms, ..Ended::default() };
        // Whoever says why it goes, and means no message, is believed.
        let innocent = |code: &ReasonCode| {
            matches!(
                *code,
                ReasonCode::SERVER_SHUTTING_DOWN
                    | ReasonCode::SERVER_BUSY
                    | ReasonCode::KEEP_ALIVE_TIMEOUT
                    | ReasonCode::SESSION_TAKEN_OVER
                    | ReasonCode::ADMINISTRATIVE_ACTION
                    | ReasonCode::USE_ANOTHER_SERVER
                    | ReasonCode::SERVER_MOVED
                    | ReasonCode::CONNECTION_RATE_EXCEEDED
                    | ReasonCode::MAXIMUM_CONNECT_TIME
            )
        };
        if matches!(reason, CloseReason::ServerDisconnect(code) if innocent(code)) {
            ended.ungreeted = false;
            return ended;
        }
        if self.full.is_some() {
            ended.first = self.full.clone();
            return ended;
        }
        if let Some(probation) = &self.probation {
            ended.alone = probation.outstanding.clone();
            return ended;
        }
        if self.sent > 0 {
            ended.first = turn.broker.first_inflight(session).map(|(packet, msg, qos)| Suspect {
                msg,
                packet: Some(packet),
                qos,
                quota: false,
            });
        }
        let unproved = self.unproved.clone();
        ended.unproved =
            unproved.map(|msg| Suspect { msg: Some(msg), packet: None, qos: QoS::AtMostOnce, quota: false });
        ended
    }

    /// A connection that never came to be.
    fn log_failure(&self, reason: &CloseReason) {
        let name = &self.profile.config.name;
        match reason {
            CloseReason::RefusedByServer(form) => log::error!("Connection Refused: {}", refusal_words(*form)),
            CloseReason::Shutdown | CloseReason::BridgeEnded(_) | CloseReason::BridgeIdle => return,
            CloseReason::ClosedByClient => {
                log::error!("Error creating bridge: the other broker closed the connection without a CONNACK.");
            }
            CloseReason::Timeout => log::error!("Error creating bridge: Connection timed out."),
            CloseReason::Socket(text) => log::error!("Error creating bridge: {text}."),
            CloseReason::Tls(text) => log::error!("Error creating bridge: TLS: {text}."),
            CloseReason::Server(fault) => log::error!("Error creating bridge: {fault}."),
            other => log::error!("Error creating bridge: {other}"),
        }
        log::warn!("Warning: Unable to connect bridge {name} ({}).", self.peer);
    }
}

/// Why a CONNACK refuses, as C Mosquitto words it.
fn refusal_words(form: ConnackForm) -> String {
    match form {
        ConnackForm::V3(1) => "unacceptable protocol version".into(),
        ConnackForm::V3(2) => "identifier rejected".into(),
        ConnackForm::V3(3) => "broker unavailable".into(),
        ConnackForm::V3(4) => "bad user name or password".into(),
        ConnackForm::V3(5) => "not authorised".into(),
        ConnackForm::V3(_) => "unknown reason".into(),
        ConnackForm::V5(ReasonCode::RETAIN_NOT_SUPPORTED) => "retain not available (will retry)".into(),
        ConnackForm::V5(ReasonCode::QOS_NOT_SUPPORTED) => "QoS not supported (will retry)".into(),
        ConnackForm::V5(code) => code.to_string(),
    }
}

//! The server side of one MQTT connection, all versions.
//!
//! ```text
//! AwaitConnect ──CONNECT──▶ Live(session) ◀──AUTH──▶ Reauthenticating(session)
//!       │                     ▲      └──────────────┬───────────┘
//!       └──▶ Authenticating ──┘                     ▼
//!       └──────────┴───────────refused──────────▶ Ended
//! ```
//!
//! [`Server::on_bytes`] takes what was read, [`Server::flush`] encodes what the session has for the client,
//! [`Server::on_timer`] watches keepalive and stalled packets, [`Server::close`] ends it. Packets are decided in `connect`,
//! `publish` and `subscribe`.

mod connect;
mod exchange;
mod flush;
mod login;
mod publish;
mod strict;
mod subscribe;
#[cfg(test)]
mod tests;

use self::exchange::Reauthentication;
use self::login::Pending;
use self::strict::Announcement;
use self::subscribe::{Progress, Unfinished};
use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use super::deferred::Deferrals;
use super::peer::Connection;
use super::{CloseReason, Flow, Peer, Turn, conformance};
use crate::broker::auth::Identity;
use crate::broker::changes::ChangeSeq;
use crate::broker::memory::SMALL_PACKET;
use crate::broker::{Acked, Broker, Ending, SessionId};
use crate::timer::Now;
use crate::wire::acks::Ack;
use crate::wire::control::{self, Disconnect};
use crate::wire::error::{LogLine, Severity, Who};
use crate::wire::packet::{self, PacketType};
use crate::wire::{DecodeError, FrameLimits, Framed, Framer, Packet, PacketId, ProtocolVersion, ReasonCode, Role};

/// Output beyond this is not taken from the session before the socket has taken what there is; and a client that does not
/// read this much of its replies is not read either.
pub const HIGH_WATER: usize = 16 * 1024;
/// Keepalive that is assumed until CONNECT has come.
const CONNECT_KEEPALIVE_S: u16 = 20;
/// From here on a keepalive may end up to a second late.
const PRECISE_KEEPALIVE_S: u16 = 10;
/// Where a connection stands.
enum Phase {
    /// The first packet has to be CONNECT [MQTT-3.1.0-1].
    AwaitConnect,
    /// CONNECT has come, and who that is has to be found out.
    Authenticating(Box<Pending>),
    /// Connected to this session.
    Live(SessionId),
    /// Connected to a session, whose client proves anew who it is.
    Reauthenticating(Box<Reauthentication>),
    /// Closed; nothing is taken any more.
    Ended,
}

/// The server side of one connection.
pub struct Server {
    framer: Framer,
    phase: Phase,
    extra: Option<Box<Extra>>,
    last_in_ms: u64,
    peer: Peer,
    /// The largest packet the client takes; 0 is unlimited.
    max_packet_out: u32,
    keepalive_s: u16,
    /// Aliases the client may use: what it was told holds for the connection.
    aliases_in: u16,
    /// Aliases the broker may use towards the client.
    aliases_out: u16,
    version: ProtocolVersion,
    /// A reply was larger than the client takes, which ends the connection [conf: strict_conformance].
    unsendable: bool,
}

/// What only some connections have.
#[derive(Default)]
struct Extra {
    /// Topic aliases the client has set, mount point included.
    aliases_in: BTreeMap<u16, Box<str>>,
    /// Topic aliases the broker has set, by topic as it goes out.
    aliases_out: BTreeMap<Box<str>, u16>,
    /// Acknowledgements that wait until what they promise is on disk, in order.
    deferred: Deferrals,
    /// QoS 2 messages of this connection that have no PUBCOMP yet, counted only with `strict_conformance`.
    open_qos2: BTreeSet<u16>,
    /// What the log says of the new client, while it waits for the end of the connection whose session it took.
    announcement: Option<Announcement>,
    /// The authentication method of CONNECT.
    method: Option<Box<str>>,
    /// Who the transport says the client is, until it is connected.
    identity: Option<Identity>,
    /// A packet with more filters than one turn may handle.
    unfinished: Option<Box<Unfinished>>,
}

/// The result of handling one packet.
type Handled = Result<(), CloseReason>;

impl From<DecodeError> for CloseReason {
    fn from(error: DecodeError) -> CloseReason {
        CloseReason::Decode(error)
    }
}

impl Server {
    /// A connection from `peer` that was accepted now.
    #[must_use]
    pub fn new(now: Now, peer: Peer) -> Server {
        Server {
            framer: Framer::new(),
            phase: Phase::AwaitConnect,
            extra: None,
            last_in_ms: now.mono_ms,
            peer,
            max_packet_out: 0,
            keepalive_s: CONNECT_KEEPALIVE_S,
            aliases_in: 0,
            aliases_out: 0,
            version: ProtocolVersion::V311,
            unsendable: false,
        }
    }

    /// Where the client is.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// A proxy says where the client really is; before the first byte of the client.
    pub fn set_peer(&mut self, peer: Peer) {
        self.peer = peer;
    }

    /// Says who the client is, as its certificate has it: that user name takes the place of the one in CONNECT, and no
    /// password is asked. To be called before CONNECT is read. A listener that takes names from certificates refuses a
    /// client without.
    pub fn set_identity(&mut self, identity: Option<Identity>) {
        if identity.is_some() || self.extra.is_some() {
            self.extra().identity = identity;
        }
    }

    /// The session the client is connected to.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        match &self.phase {
            Phase::Live(session) => Some(*session),
            Phase::Reauthenticating(reauthentication) => Some(reauthentication.session),
            Phase::AwaitConnect | Phase::Authenticating(_) | Phase::Ended => None,
        }
    }

    fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// The connection as an operator sees it; the caller knows its listener and what waits for its socket.
    #[must_use]
    pub fn connection(&self, listener_port: u16, waiting_bytes: usize) -> Connection {
        Connection { peer: self.peer, listener_port, keepalive_s: self.keepalive_s, waiting_bytes }
    }

    /// When [`Server::on_timer`] is to be called, in milliseconds. Keepalives that are not short wait for a full second:
    /// a thousand clients would wake the broker at a thousand moments, which a router on a battery feels.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let step = if self.keepalive_s < PRECISE_KEEPALIVE_S { 1 } else { 1000 };
        let keepalive = self.keepalive_deadline().and_then(|due| due.checked_next_multiple_of(step));
        [keepalive, self.framer.deadline(), self.login_deadline()].into_iter().flatten().min()
    }

    fn keepalive_deadline(&self) -> Option<u64> {
        (self.keepalive_s != 0 && !self.has_ended())
            .then(|| self.last_in_ms.saturating_add(u64::from(self.keepalive_s) * 1500))
    }

    /// Takes input: whole packets are handled, an incomplete one is kept. Call with no input to go on after
    /// [`Flow::Again`] or [`Flow::Paused`].
    pub fn on_bytes(&mut self, turn: &mut Turn<'_>, mut input: &[u8]) -> Flow {
        self.announce(turn);
        // Taken out, because the frames borrow it while `self` handles them.
        let mut framer = mem::take(&mut self.framer);
        let flow = loop {
            if self.is_too_much(turn, &framer) {
                break Flow::Close(CloseReason::OutOfMemory);
            }
            if let Some(flow) = self.must_wait(turn) {
                framer.keep(input);
                break flow;
            }
            if self.is_unfinished() {
                if let Err(reason) = self.go_on(turn).and_then(|()| self.check_sent()) {
                    break Flow::Close(reason);
                }
                continue;
            }
            match framer.next(&mut input, &self.limits(turn), turn.now.mono_ms) {
                Framed::NeedMore => break Flow::Continue,
                Framed::Bad(error) => break Flow::Close(error.into()),
                Framed::Frame { first, body } => {
                    if self.session().is_some() {
                        self.last_in_ms = turn.now.mono_ms;
                    }
                    turn.charge(1);
                    turn.broker.begin_packet();
                    turn.broker.stats.packets_in += 1;
                    let handled = self.on_frame(turn, first, body);
                    if let Err(reason) = handled.and_then(|()| self.check_sent()) {
                        break Flow::Close(reason);
                    }
                }
            }
        };
        let too_much = matches!(flow, Flow::Continue) && self.is_too_much(turn, &framer);
        self.framer = framer;
        if too_much { Flow::Close(CloseReason::OutOfMemory) } else { flow }
    }

    /// Whether this is one of the thousand large packets that are never completed, or only in many turns, by which a stranger
    /// might pass `memory_limit`. Asked before more of it is kept and after.
    fn is_too_much(&self, turn: &Turn<'_>, framer: &Framer) -> bool {
        let incomplete = framer.held() > SMALL_PACKET && !framer.has_kept();
        let large = turn.broker.over_memory_by_far() && (incomplete || self.unfinished_len() > SMALL_PACKET);
        large && !self.has_ended() && !self.is_taken_over(turn)
    }

    /// Whether the rest of the input has to wait, and for what.
    fn must_wait(&self, turn: &Turn<'_>) -> Option<Flow> {
        if self.has_ended() || self.is_taken_over(turn) {
            // Whoever it was, it has nothing to say any more; the close is on its way.
            return Some(Flow::Continue);
        }
        if self.awaits_verdict() {
            return Some(Flow::Waiting);
        }
        if turn.out.owed() > HIGH_WATER {
            return Some(Flow::Paused);
        }
        (turn.budget == 0 || turn.broker.wants_flush() || self.is_announcing()).then_some(Flow::Again)
    }

    fn is_taken_over(&self, turn: &Turn<'_>) -> bool {
        self.session().is_some_and(|session| turn.broker.conn_of(session) != Some(turn.conn))
    }

    fn limits(&self, turn: &Turn<'_>) -> FrameLimits {
        FrameLimits {
            version: (!matches!(self.phase, Phase::AwaitConnect)).then_some(self.version),
            max_packet_size: turn.config.global.max_packet_size,
            strict: turn.strict(),
        }
    }

    fn on_frame(&mut self, turn: &mut Turn<'_>, first: u8, body: &[u8]) -> Handled {
        let session = match &self.phase {
            Phase::AwaitConnect => return self.on_connect(turn, first, body),
            Phase::Authenticating(_) => return self.on_exchange(turn, first, body),
            Phase::Live(session) => *session,
            Phase::Reauthenticating(reauthentication) => reauthentication.session,
            Phase::Ended => return Ok(()),
        };
        let auth = self.version == ProtocolVersion::V5 && PacketType::of(first) == Some(PacketType::Auth);
        if auth && !self.has_method() {
            // Without one in CONNECT there is no AUTH [MQTT-4.12.0-7].
            return Err(DecodeError::AuthWithoutMethod.into());
        }
        let first = conformance::first_byte(turn.strict(), self.version, first);
        match packet::decode(self.version, Role::FromClient, first, body)? {
            Packet::Publish(publish) => self.on_publish(turn, session, &publish),
            Packet::Puback(ack) => {
                self.log_ack(turn.broker, session, "PUBACK", ack);
                let acked = turn.broker.puback(session, ack.id);
                acknowledged(acked)
            }
            Packet::Pubrec(ack) => self.on_pubrec(turn, session, ack),
            Packet::Pubrel(ack) => self.on_pubrel(turn, session, ack),
            Packet::Pubcomp(ack) => {
                self.log_ack(turn.broker, session, "PUBCOMP", ack);
                let acked = turn.broker.pubcomp(session, ack.id);
                acknowledged(acked)
            }
            Packet::Subscribe(subscribe) => {
                let left = self.on_subscribe(turn, session, &subscribe, Progress::default())?;
                self.keep_unfinished(first, body, left);
                Ok(())
            }
            Packet::Unsubscribe(unsubscribe) => {
                let left = self.on_unsubscribe(turn, session, &unsubscribe, Progress::default())?;
                self.keep_unfinished(first, body, left);
                Ok(())
            }
            Packet::Pingreq => {
                log::debug!("Received PINGREQ from {}", turn.broker.client_id(session));
                self.reply(turn, |out, _| out.extend_from_slice(&control::PINGRESP));
                log::debug!("Sending PINGRESP to {}", turn.broker.client_id(session));
                // A client that only pings is idle: what its queues needed once goes back.
                turn.broker.trim(session);
                Ok(())
            }
            Packet::Disconnect(disconnect) => self.on_disconnect(turn, session, disconnect),
            Packet::Auth(auth) => self.on_auth(turn, session, auth),
            Packet::Connack(_) => Err(DecodeError::Unexpected(PacketType::Connack).into()),
            Packet::Suback(_) => Err(DecodeError::Unexpected(PacketType::Suback).into()),
            Packet::Unsuback(_) => Err(DecodeError::Unexpected(PacketType::Unsuback).into()),
            Packet::Pingresp => Err(DecodeError::Unexpected(PacketType::Pingresp).into()),
        }
    }

    fn on_disconnect(&mut self, turn: &mut Turn<'_>, session: SessionId, packet: Disconnect) -> Handled {
        log::debug!("Received DISCONNECT from {}", turn.broker.client_id(session));
        if packet.session_expiry.is_some_and(|s| s != 0) && turn.broker.session_expiry(session) == 0 {
            log::info!(
                "Protocol error from {}: DISCONNECT packet with mismatched session-expiry-interval (0:{}).",
                turn.broker.client_id(session),
                packet.session_expiry.unwrap_or_default()
            );
            return Err(CloseReason::ProtocolError);
        }
        if !conformance::permits_disconnect(turn.strict(), packet.reason) {
            return Err(DecodeError::Reason(PacketType::Disconnect, packet.reason.0).into());
        }
        Err(CloseReason::Disconnect {
            with_will: conformance::leaves_will(turn.strict(), packet.reason),
            expiry_s: packet.session_expiry,
        })
    }

    /// Keepalive and stalled packets.
    pub fn on_timer(&mut self, turn: &mut Turn<'_>) -> Flow {
        if self.is_taken_over(turn) {
            // The close is on its way, but only after the timers: one that stayed due would be due for ever.
            self.framer = Framer::new();
            self.last_in_ms = turn.now.mono_ms;
            return Flow::Continue;
        }
        if self.framer.stalled(turn.now.mono_ms) {
            return Flow::Close(CloseReason::Stalled);
        }
        if let Some(flow) = self.login_due(turn) {
            return flow;
        }
        // A packet that comes in fast enough is a sign of life, though it is not complete; by the letter it is none.
        if !turn.strict() && self.session().is_some() && self.framer.is_growing(turn.now.mono_ms) {
            self.last_in_ms = turn.now.mono_ms;
        }
        if self.keepalive_deadline().is_some_and(|deadline| deadline <= turn.now.mono_ms) {
            return self.time_is_up(turn);
        }
        Flow::Continue
    }

    /// Ends the connection: tells a v5 client why, detaches the session, logs the one line.
    pub fn close(&mut self, turn: &mut Turn<'_>, reason: &CloseReason) {
        self.announce_now();
        let session = self.session();
        if let Phase::Authenticating(pending) = mem::replace(&mut self.phase, Phase::Ended) {
            pending.release(turn);
        }
        if let CloseReason::Decode(error) = reason {
            self.log_decode_error(turn, session, error);
        }
        let mut name = match reason {
            CloseReason::Refused { client_id, .. } if !client_id.is_empty() => Some(client_id.to_string()),
            _ => None,
        };
        if let Some(session) = session {
            // Nothing comes before CONNACK [MQTT-3.2.0-1], and one that waits for storage will not leave any more.
            let told = self.version == ProtocolVersion::V5 && !self.waits(PacketType::Connack);
            if let Some(code) = conformance::disconnect_code(turn.strict(), reason).filter(|_| told) {
                Disconnect { reason: code, session_expiry: None }.encode(turn.out.packet(), self.version);
                turn.broker.stats.packets_out += 1;
            }
            // After a clean start the old session is gone, and the new one has the same client id.
            let of = if let CloseReason::TakenOver { by } = reason { *by } else { session };
            name = Some(turn.broker.client_id(of).to_string());
            let expiry_s = if let CloseReason::Disconnect { expiry_s, .. } = reason { *expiry_s } else { None };
            let ending = Ending { will: reason.publishes_will(), expiry_s };
            turn.broker.disconnect(turn.now, session, turn.conn, ending);
        }
        self.extra = None;
        self.framer = Framer::new();
        // Of a proxy that only looks whether somebody is here there is nothing to tell.
        if turn.config.global.connection_messages && *reason != CloseReason::HealthCheck {
            let tail = conformance::log_tail(turn.strict(), reason);
            match name {
                // A line of its own: whoever comes and goes in a loop must not hide who guesses passwords
                // [conf: log_rate_limit].
                Some(name) if matches!(reason, CloseReason::Refused { .. }) => {
                    crate::notice!("Client {name} [{}] {tail}", self.peer);
                }
                Some(name) => crate::notice!("Client {name} [{}] {tail}", self.peer),
                None => crate::notice!("Client {} [{}] {tail}", self.peer.host(), self.peer),
            }
        }
    }

    fn log_decode_error(&self, turn: &Turn<'_>, session: Option<SessionId>, error: &DecodeError) {
        use crate::wire::error::ConnectFault as C;
        let Some(LogLine { severity, before, who, after, detail }) = error.log_line() else { return };
        let foreign = matches!(error, DecodeError::Connect(C::Name(_) | C::Level(_) | C::LevelMismatch(_)));
        if foreign && !turn.config.global.connection_messages {
            return;
        }
        let who = match (who, session) {
            (Who::Id, Some(session)) => turn.broker.client_id(session).to_string(),
            (Who::Address | Who::Id, _) => self.peer.host().to_string(),
            // C Mosquitto prints "(null)" in the last case; the address says more.
            (Who::AddressPort | Who::Null, _) => self.peer.to_string(),
        };
        let tail: &dyn std::fmt::Display = if detail { error } else { &"" };
        match severity {
            Severity::Info => log::info!("{before}{who}{after}{tail}"),
            Severity::Notice => crate::notice!("{before}{who}{after}{tail}"),
            Severity::Error => log::error!("{before}{who}{after}{tail}"),
        }
    }

    fn log_ack(&self, broker: &Broker, session: SessionId, name: &str, ack: Ack) {
        log::debug!("Received {name} from {} (Mid: {}, RC:{})", broker.client_id(session), ack.id.get(), ack.reason.0);
    }

    /// True if an acknowledgement of this type waits for storage.
    fn waits(&self, packet: PacketType) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.deferred.holds(packet.first_byte()))
    }

    fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// Sends a reply that promises nothing.
    fn reply(&mut self, turn: &mut Turn<'_>, encode: impl FnOnce(&mut Vec<u8>, ProtocolVersion)) {
        self.send_after(turn, ChangeSeq::default(), encode);
    }

    /// Sends a reply that promises what the packet brought about: at once if that is on disk, else in its turn.
    fn acknowledge(&mut self, turn: &mut Turn<'_>, encode: impl FnOnce(&mut Vec<u8>, ProtocolVersion)) {
        let seq = turn.broker.promised(self.session());
        self.send_after(turn, seq, encode);
    }

    /// Sends a reply when the change is on disk and those before it have left.
    fn send_after(&mut self, turn: &mut Turn<'_>, seq: ChangeSeq, encode: impl FnOnce(&mut Vec<u8>, ProtocolVersion)) {
        let nothing = Deferrals::default();
        if self.extra.as_ref().map_or(&nothing, |extra| &extra.deferred).may_pass(turn, seq) {
            return self.write(turn, encode);
        }
        let mut bytes = Vec::new();
        encode(&mut bytes, self.version);
        if self.is_unsendable(turn, bytes.len()) {
            return;
        }
        self.extra().deferred.wait(turn, seq, bytes);
    }

    fn write(&mut self, turn: &mut Turn<'_>, encode: impl FnOnce(&mut Vec<u8>, ProtocolVersion)) {
        let out = turn.out.packet();
        let before = out.len();
        encode(out, self.version);
        let len = out.len().saturating_sub(before);
        if self.is_unsendable(turn, len) {
            turn.out.packet().truncate(before);
            return;
        }
        turn.out.owe(len);
        turn.broker.stats.packets_out += 1;
    }

    /// Sends PUBACK, PUBREC, PUBREL or PUBCOMP. What the client's own publish brought it goes first, as in C Mosquitto.
    fn send_ack(
        &mut self,
        turn: &mut Turn<'_>,
        session: SessionId,
        packet: PacketType,
        id: PacketId,
        reason: ReasonCode,
    ) {
        if turn.broker.is_dirty(session) {
            self.flush_before_ack(turn, session);
        }
        if packet == PacketType::Puback || packet == PacketType::Pubrec {
            log::debug!("Sending {packet} to {} (m{}, rc{})", turn.broker.client_id(session), id.get(), reason.0);
        } else {
            log::debug!("Sending {packet} to {} (m{})", turn.broker.client_id(session), id.get());
        }
        let encode = |out: &mut Vec<u8>, version| Ack { id, reason }.encode(out, version, packet);
        match packet {
            PacketType::Puback | PacketType::Pubrec if reason.is_error() => self.reply(turn, encode),
            _ => self.acknowledge(turn, encode),
        }
    }
}

/// An acknowledgement of something that waits for another packet is a protocol error; one of something unknown is ignored.
fn acknowledged(acked: Acked) -> Handled {
    match acked {
        Acked::WrongState => Err(CloseReason::ProtocolError),
        Acked::Done | Acked::Again | Acked::Unknown => Ok(()),
    }
}

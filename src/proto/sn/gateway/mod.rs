//! The gateway: everything between a datagram and the verbs of the core [SN 6].
//!
//! ```text
//!            ┌───────CONNECT────────┐
//!            ▼                      │
//! CONNECT ▶ Active ─DISCONNECT(s)▶ Asleep ◀──PINGRESP── Awake
//!            │  ▲                   │  └──PINGREQ(id)────▲ │
//!            │  └──────CONNECT──────┼──────────────────────┤
//!            ├──DISCONNECT──────────┴──────────────────────┴▶ Disconnected
//!            └──silence, no acknowledgement─────────────────▶ Lost
//! ```
//!
//! A client lives here, without a connection of its own: its address leads to a [`Device`], that to its session, and the
//! session's place on the broker's dirty list back to the device. [`Gateway::on_datagram`] is the one entry; `on_client` shows
//! every pair of state and message. What is to be sent waits in [`Gateway::out`] until the caller has sent it.

mod connect;
mod datagrams;
mod deliver;
mod device;
mod dialogue;
mod discovery;
mod echo;
mod publish;
mod retry;
mod sleep;
mod table;
#[cfg(test)]
mod tests;
mod topics;
mod will;

use std::rc::Rc;

use super::addr::{Addr, Source};
use super::door::Door;
use super::limits::Limits;
use super::wire::{Encapsulation, Fault, Message, MessageType, Publish, QosField, frame};
use crate::broker::{Broker, ConnId, SessionId, SnId};
use crate::config::Config;
use crate::proto::peer::Connection;
use crate::timer::Now;
use dialogue::Dialogues;
use table::Table;

pub use datagrams::{Datagram, Datagrams, To};
pub use device::Client;

/// What the gateway is handed each time it may act.
pub struct Turn<'a> {
    /// The time of this wake-up.
    pub now: Now,
    /// The core.
    pub broker: &'a mut Broker,
    /// The configuration.
    pub config: &'a Config,
}

impl Turn<'_> {
    fn retry_ms(&self) -> u64 {
        u64::from(self.config.global.sn.retry_interval).saturating_mul(1000)
    }
}

/// How a datagram came.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The socket that answers leave from.
    pub socket: u16,
    /// The number of its listener.
    pub door: u16,
    /// Who sent it.
    pub from: Addr,
    /// It was sent to a multicast group.
    pub multicast: bool,
}

/// A datagram's place and the door it came in by.
#[derive(Clone)]
struct Visit<'a> {
    from: Source<'a>,
    door_number: u16,
    door: Rc<Door>,
    multicast: bool,
}

/// See the module documentation.
pub struct Gateway {
    table: Table,
    dialogues: Dialogues,
    doors: Vec<Option<Rc<Door>>>,
    limits: Limits,
    adverts: discovery::Adverts,
    /// What is to be sent; the caller empties it after each call.
    pub out: Datagrams,
    /// Clients that came to a listener or left it, for whoever counts them.
    moves: Vec<(u16, bool)>,
}

impl Gateway {
    /// A gateway without listeners. `hash_keys` key every table whose keys a stranger chooses.
    #[must_use]
    pub fn new(hash_keys: [u64; 2]) -> Gateway {
        Gateway {
            table: Table::new(hash_keys),
            dialogues: Dialogues::default(),
            doors: Vec::new(),
            limits: Limits::new(hash_keys),
            adverts: discovery::Adverts::default(),
            out: Datagrams::default(),
            moves: Vec::new(),
        }
    }

    /// Opens a door, or gives it other options.
    pub fn set_door(&mut self, number: u16, door: Door) {
        let at = usize::from(number);
        if self.doors.len() <= at {
            self.doors.resize(at.saturating_add(1), None);
        }
        if let Some(place) = self.doors.get_mut(at) {
            *place = Some(Rc::new(door));
        }
    }

    /// Sends the clients of a listener away that is to be closed.
    pub fn close_door(&mut self, turn: &mut Turn<'_>, number: u16) {
        for id in self.table.of_door(number) {
            self.leave(turn, id, Client::Disconnected, &super::super::CloseReason::NoLongerAllowed);
        }
        self.dialogues.forget_door(number);
        if let Some(place) = self.doors.get_mut(usize::from(number)) {
            *place = None;
        }
    }

    /// The numbers of the open doors.
    pub fn doors(&self) -> impl Iterator<Item = u16> {
        (0u16..).zip(&self.doors).filter(|(_, door)| door.is_some()).map(|(number, _)| number)
    }

    fn door(&self, number: u16) -> Option<Rc<Door>> {
        self.doors.get(usize::from(number))?.clone()
    }

    /// Who came to which listener (true) or left it, since the last call.
    pub fn take_moves(&mut self) -> impl Iterator<Item = (u16, bool)> + '_ {
        self.moves.drain(..)
    }

    /// The clients there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everybody.
    #[must_use]
    pub fn clients(&self) -> Vec<SnId> {
        self.table.ids()
    }

    /// Where a client stands.
    #[must_use]
    pub fn state(&self, id: SnId) -> Client {
        self.table.get(id).map_or(Client::Disconnected, |device| device.state)
    }

    /// The listener a client came in on.
    #[must_use]
    pub fn door_of(&self, id: SnId) -> Option<u16> {
        self.table.get(id).map(|device| device.door)
    }

    /// A client as an operator sees it.
    #[must_use]
    pub fn connection(&self, id: SnId) -> Option<Connection> {
        let device = self.table.get(id)?;
        Some(Connection {
            peer: device.addr().peer(),
            listener_port: self.door(device.door).map_or(0, |door| door.listener.port),
            keepalive_s: device.keepalive_s,
            waiting_bytes: 0,
        })
    }

    /// When [`Gateway::on_timers`] has something to do, in milliseconds; may be early, never late.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        [self.table.next_deadline(), self.dialogues.next_deadline(), self.adverts.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Takes a datagram. Returns the work it caused, in packets and deliveries.
    pub fn on_datagram(&mut self, turn: &mut Turn<'_>, arrival: Arrival, bytes: &[u8]) -> u32 {
        let Some(door) = self.door(arrival.door) else { return 1 };
        turn.broker.stats.bytes_in = turn.broker.stats.bytes_in.saturating_add(bytes.len() as u64);
        if !door.hears(arrival.from.ip()) {
            turn.broker.stats.sn.unwelcome = turn.broker.stats.sn.unwelcome.saturating_add(1);
            return 1;
        }
        let Ok((by, inner)) = frame::split(bytes) else {
            return self.malformed(turn, &arrival.from, Fault::Encapsulation);
        };
        if by.is_some() && !door.forwards(arrival.from.ip()) {
            turn.broker.stats.sn.unwelcome = turn.broker.stats.sn.unwelcome.saturating_add(1);
            return 1;
        }
        let node = by.map_or(&[][..], |Encapsulation { node_id, .. }| node_id);
        let from = Source { socket: arrival.socket, addr: arrival.from, node };
        let known = self.table.find(&from);
        if known.is_none() && !self.limits.datagram(turn.now, &from, door.sn().rate_limit) {
            turn.broker.stats.sn.rate_limited = turn.broker.stats.sn.rate_limited.saturating_add(1);
            return 1;
        }
        let largest = turn.config.global.sn.max_packet_size;
        if inner.len() > usize::from(largest) {
            turn.broker.stats.sn.oversize = turn.broker.stats.sn.oversize.saturating_add(1);
            return 1;
        }
        let message = match Message::decode(inner) {
            Ok(message) => message,
            Err(fault) => return self.malformed(turn, &arrival.from, fault),
        };
        let stats = &mut turn.broker.stats;
        stats.packets_in = stats.packets_in.saturating_add(1);
        stats.sn.packets_in = stats.sn.packets_in.saturating_add(1);
        log::debug!("Received {} from {from} (mqtt-sn)", message.message_type());
        let visit = Visit { from, door_number: arrival.door, door, multicast: arrival.multicast };
        self.dispatch(turn, &visit, known, &message)
    }

    fn malformed(&mut self, turn: &mut Turn<'_>, from: &Addr, fault: Fault) -> u32 {
        turn.broker.stats.sn.malformed = turn.broker.stats.sn.malformed.saturating_add(1);
        log::debug!("Dropped a datagram from {from}: {fault} (mqtt-sn)");
        1
    }

    /// What anybody may send, and what only clients may.
    fn dispatch(&mut self, turn: &mut Turn<'_>, visit: &Visit<'_>, known: Option<SnId>, message: &Message<'_>) -> u32 {
        match *message {
            Message::SearchGw { .. } => self.on_search(turn, visit),
            Message::Advertise { gateway_id, .. } | Message::GwInfo { gateway_id, .. } => {
                self.on_other_gateway(turn, visit, gateway_id);
            }
            Message::Connect(ref connect) => self.on_connect(turn, visit, known, connect),
            Message::WillTopic(topic) => self.on_will_topic(turn, visit, known, topic),
            Message::WillMsg(payload) => self.on_will_msg(turn, visit, known, payload),
            Message::Publish(Publish { qos: QosField::MinusOne, .. }) => {
                let Message::Publish(publish) = message else { return 1 };
                return self.on_minus_one(turn, visit, known, publish);
            }
            Message::Pingreq { client_id } if !client_id.is_empty() => self.on_wake(turn, visit, known, client_id),
            // Only gateways send these: an answer might go on for ever.
            Message::Connack(_)
            | Message::WillTopicReq
            | Message::WillMsgReq
            | Message::Suback { .. }
            | Message::Unsuback { .. }
            | Message::WillTopicResp(_)
            | Message::WillMsgResp(_) => {}
            _ => match known {
                Some(id) => return self.on_client(turn, visit, id, message),
                None => self.on_stranger(turn, visit),
            },
        }
        2
    }

    /// Every message of a client that is connected or asleep.
    fn on_client(&mut self, turn: &mut Turn<'_>, visit: &Visit<'_>, id: SnId, message: &Message<'_>) -> u32 {
        let Some(session) = self.hear(turn.now, id) else { return 1 };
        match *message {
            Message::Publish(ref publish) => return self.on_publish(turn, visit, (id, session), publish),
            Message::Pubrel { msg_id } => return self.on_pubrel(turn, (id, session), msg_id),
            Message::Register { topic_id: _, msg_id, name } => self.on_register(turn, id, msg_id, name),
            Message::Regack(ack) => self.on_regack(turn, id, ack),
            Message::Puback(ack) => self.on_puback(turn, (id, session), ack),
            Message::Pubrec { msg_id } => self.on_pubrec(turn, (id, session), msg_id),
            Message::Pubcomp { msg_id } => self.on_pubcomp(turn, (id, session), msg_id),
            Message::Subscribe { qos, msg_id, filter, .. } => {
                self.on_subscribe(turn, visit, (id, session), (qos, msg_id, filter));
                return 4;
            }
            Message::Unsubscribe { msg_id, filter } => {
                self.on_unsubscribe(turn, visit, (id, session), msg_id, filter);
                return 4;
            }
            // Without a client id it only says that somebody is there [SN 6.11].
            Message::Pingreq { .. } => self.send(turn, id, &Message::Pingresp),
            Message::Pingresp => {}
            Message::Disconnect { duration_s: None | Some(0) } => self.on_goodbye(turn, id),
            Message::Disconnect { duration_s: Some(duration_s) } => self.on_sleep(turn, id, duration_s),
            Message::WillTopicUpd(topic) => self.on_will_topic_update(turn, visit, (id, session), topic),
            Message::WillMsgUpd(payload) => self.on_will_msg_update(turn, (id, session), payload),
            // The others were dispatched before.
            _ => {}
        }
        2
    }

    /// Notes that a client was heard; its session.
    fn hear(&mut self, now: Now, id: SnId) -> Option<SessionId> {
        let device = self.table.get_mut(id)?;
        device.last_in_ms = now.mono_ms;
        device.arrival.fresh = false;
        if let Some(busy) = &mut device.busy {
            busy.echoes.expire(now.mono_ms);
            device.trim();
        }
        Some(device.session)
    }

    /// Tells somebody without a session so, that he may connect again. Never larger than what came, never to a group, and
    /// not too often.
    fn on_stranger(&mut self, turn: &mut Turn<'_>, visit: &Visit<'_>) {
        turn.broker.stats.sn.unknown_client = turn.broker.stats.sn.unknown_client.saturating_add(1);
        if !visit.multicast && self.limits.answer(turn.now, &visit.from) {
            self.answer(turn, &visit.from, &Message::Disconnect { duration_s: None });
        }
    }

    /// Sends to whoever a datagram came from.
    fn answer(&mut self, turn: &mut Turn<'_>, to: &Source<'_>, message: &Message<'_>) {
        if let Ok(len) = self.out.put(to, message, usize::MAX) {
            count_sent(turn.broker, len);
            log::debug!("Sending {} to {to} (mqtt-sn)", message.message_type());
        }
    }

    /// Sends to a client.
    fn send(&mut self, turn: &mut Turn<'_>, id: SnId, message: &Message<'_>) {
        let Some(device) = self.table.get(id) else { return };
        let to = device.source();
        if let Ok(len) = self.out.put(&to, message, usize::MAX) {
            count_sent(turn.broker, len);
            log::debug!("Sending {} to {to} (mqtt-sn)", message.message_type());
        }
    }

    /// Sends what promises everything decided so far: at once if that is on disk, else in its turn.
    fn acknowledge(&mut self, turn: &mut Turn<'_>, id: SnId, message: &Message<'_>) {
        let seq = turn.broker.last_change();
        let Some(device) = self.table.get_mut(id) else { return };
        let waits = device.busy.as_ref().is_some_and(|busy| !busy.deferred.is_empty());
        if !waits && turn.broker.is_synced(seq) {
            return self.send(turn, id, message);
        }
        let deferred = &mut device.busy().deferred;
        let mut bytes = Vec::new();
        // What does not fit is asked for again: every request is repeated until it is answered.
        if deferred.len() >= MAX_DEFERRED || message.encode(&mut bytes).is_err() {
            return;
        }
        deferred.push_back(device::Deferred { seq, bytes: bytes.into() });
        if !waits {
            turn.broker.wait_for_sync(seq, ConnId::of_sn(id));
        }
    }

    /// Sends the answers that had to wait for the disk; false while some still do.
    fn release_deferred(&mut self, turn: &mut Turn<'_>, id: SnId) -> bool {
        let Some(device) = self.table.get_mut(id) else { return false };
        while let Some(busy) = &mut device.busy {
            let Some(next) = busy.deferred.front() else { return true };
            if !turn.broker.is_synced(next.seq) {
                turn.broker.wait_for_sync(next.seq, ConnId::of_sn(id));
                return false;
            }
            let Some(next) = busy.deferred.pop_front() else { return true };
            if let Ok(len) = self.out.put_bytes(&device.source(), &next.bytes) {
                count_sent(turn.broker, len);
            }
        }
        true
    }

    /// Makes sure a client's timer fires in time.
    fn arm(&mut self, id: SnId) {
        self.table.arm(id);
    }

    /// Does what is due.
    pub fn on_timers(&mut self, turn: &mut Turn<'_>) {
        for _ in 0..TIMERS_PER_TURN {
            let Some(id) = self.table.pop_due(turn.now) else { break };
            self.device_due(turn, id);
        }
        self.dialogues_due(turn);
        self.advertise_due(turn);
    }

    /// Panics when the tables contradict each other. For tests.
    #[cfg(any(debug_assertions, test))]
    pub fn check_invariants(&self, broker: &Broker) {
        self.table.check_invariants();
        for id in self.table.ids() {
            let Some(device) = self.table.get(id) else { continue };
            assert!(!matches!(device.state, Client::Lost | Client::Disconnected));
            let conn = broker.conn_of(device.session);
            assert!(device.registry.len() <= usize::from(u16::MAX));
            // Between a take-over and the action that tells us, the session is somebody else's.
            if conn == Some(ConnId::of_sn(id)) {
                let window = usize::from(broker.settings().sn.max_inflight.max(1));
                assert!(device.busy.as_ref().is_none_or(|busy| busy.sent.len() <= window.saturating_mul(2)));
            }
        }
    }
}

/// Answers of one client that may wait for the disk.
const MAX_DEFERRED: usize = 64;
/// Timers in one turn, so that thousands of clients that are lost together stop nobody else.
const TIMERS_PER_TURN: usize = 256;

fn count_sent(broker: &mut Broker, len: usize) {
    let stats = &mut broker.stats;
    stats.packets_out = stats.packets_out.saturating_add(1);
    stats.sn.packets_out = stats.sn.packets_out.saturating_add(1);
    stats.bytes_out = stats.bytes_out.saturating_add(len as u64);
}

/// The message type of an answer that a device gets; for tests and traces.
#[must_use]
pub fn type_of(datagram: &[u8]) -> Option<MessageType> {
    let (_, inner) = frame::split(datagram).ok()?;
    Message::decode(inner).ok().map(|message| message.message_type())
}

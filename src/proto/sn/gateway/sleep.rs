//! DISCONNECT, sleep and waking up [SN 6.12, 6.14].
//!
//! A sleeping client stays connected in the eyes of the core, so what comes for it waits in its session within the limits that
//! hold for everyone. PINGREQ with its client id wakes it: the queue is sent as to any client, and PINGRESP follows when it is
//! empty and everything is acknowledged.

use super::super::wire::Message;
use super::device::{Client, Retry};
use super::{Gateway, Turn, Visit};
use crate::broker::SnId;
use crate::notice;
use crate::proto::CloseReason;

impl Gateway {
    /// DISCONNECT without a duration.
    pub(super) fn on_goodbye(&mut self, turn: &mut Turn<'_>, id: SnId) {
        // Who sleeps and says so is awake for this answer.
        self.set_state(turn, id, Client::Active);
        self.leave(turn, id, Client::Disconnected, &CloseReason::Disconnect { with_will: false, expiry_s: None });
    }

    /// DISCONNECT with a duration.
    pub(super) fn on_sleep(&mut self, turn: &mut Turn<'_>, id: SnId, duration_s: u16) {
        let duration_s = duration_s.min(turn.config.global.sn.max_sleep_duration.max(1));
        self.send(turn, id, &Message::Disconnect { duration_s: None });
        self.pause(turn, id, duration_s);
    }

    /// Nothing more is sent until the client wakes; what it has not acknowledged is kept.
    pub(super) fn pause(&mut self, turn: &mut Turn<'_>, id: SnId, duration_s: u16) {
        self.set_state(turn, id, Client::Asleep { duration_s });
        let Some(device) = self.table.get_mut(id) else { return };
        // The sleep begins now.
        device.last_in_ms = turn.now.mono_ms;
        if let Some(busy) = &mut device.busy {
            let retries = busy.sent.iter_mut().map(|sent| &mut sent.retry);
            let retries = retries.chain(busy.registering.as_mut().map(|registering| &mut registering.retry));
            retries.for_each(|retry| *retry = Retry { due_ms: Retry::NEVER, tries: 0 });
        }
        device.trim();
        self.arm(id);
    }

    fn set_state(&mut self, turn: &mut Turn<'_>, id: SnId, state: Client) {
        let Some(device) = self.table.get_mut(id) else { return };
        let sn = &mut turn.broker.stats.sn;
        let asleep = |state: Client| matches!(state, Client::Asleep { .. });
        match (asleep(device.state), asleep(state)) {
            (false, true) => {
                sn.asleep = sn.asleep.saturating_add(1);
                sn.active = sn.active.saturating_sub(1);
                turn.broker.set_asleep(device.session, turn.config.global.sn.queue_qos0_asleep);
            }
            (true, false) => {
                sn.asleep = sn.asleep.saturating_sub(1);
                sn.active = sn.active.saturating_add(1);
                turn.broker.set_awake(device.session);
            }
            _ => {}
        }
        device.state = state;
    }

    /// PINGREQ with a client id: a sleeping client asks for what was kept.
    pub(super) fn on_wake(&mut self, turn: &mut Turn<'_>, visit: &Visit<'_>, known: Option<SnId>, client_id: &[u8]) {
        let found = core::str::from_utf8(client_id).ok().and_then(|name| turn.broker.find_client(name));
        let of_session = found.and_then(|session| turn.broker.conn_of(session)).and_then(|conn| conn.sn());
        let Some(id) = of_session else { return self.on_stranger(turn, visit) };
        if known != Some(id) && !self.follow(turn, visit, id, known) {
            return self.on_stranger(turn, visit);
        }
        let Some(session) = self.hear(turn.now, id) else { return };
        match self.state(id) {
            Client::Asleep { duration_s } => {
                log::debug!("Client {} woke up (mqtt-sn)", turn.broker.client_id(session));
                self.set_state(turn, id, Client::Awake { duration_s });
                self.resend_all(turn, id);
                self.flush(turn, id);
            }
            // It did not hear us: what it has to acknowledge comes again, then PINGRESP.
            Client::Awake { .. } => {
                self.resend_all(turn, id);
                self.flush(turn, id);
            }
            Client::Active | Client::Lost | Client::Disconnected => self.send(turn, id, &Message::Pingresp),
        }
        self.arm(id);
    }

    /// Whether a client that calls from another address than before is believed: only one that sleeps, because whoever is
    /// active would be cut off, and only through the same listener.
    fn follow(&mut self, turn: &mut Turn<'_>, visit: &Visit<'_>, id: SnId, at_new: Option<SnId>) -> bool {
        let Some(device) = self.table.get(id) else { return false };
        let may = matches!(device.state, Client::Asleep { .. })
            && device.door == visit.door_number
            && visit.door.sn().allow_address_change
            && visit.door.user(turn.broker.client_id(device.session), &visit.from.addr).is_ok();
        if !may || at_new.is_some() {
            return false;
        }
        if turn.config.global.connection_messages {
            let name = turn.broker.client_id(device.session);
            notice!("Client {name} [{}] woke up at {}.", device.source(), visit.from);
        }
        self.table.move_to(id, &visit.from);
        true
    }

    /// Ends the time of an awake client that has everything: PINGRESP, and it sleeps again.
    pub(super) fn sleep_again(&mut self, turn: &mut Turn<'_>, id: SnId) {
        let Client::Awake { duration_s } = self.state(id) else { return };
        self.send(turn, id, &Message::Pingresp);
        self.pause(turn, id, duration_s);
    }
}

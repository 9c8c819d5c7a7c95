//! CONNECT [SN 6.2, 6.3]: who may come in, the will dialogue, and what becomes of the session.

use super::super::door::Stranger;
use super::super::wire::{Connect, Message, PROTOCOL_ID, ReturnCode, WillTopic};
use super::device::{Arrival, Client, Device};
use super::dialogue::{Applicant, Dialogue, Step};
use super::{Gateway, Turn, Visit};
use crate::broker::auth::access::RulesId;
use crate::broker::will::Will;
use crate::broker::{ConnId, ConnectRefused, ConnectRequest, Ending, NEVER, SessionId, SnId};
use crate::notice;
use crate::proto::CloseReason;
use crate::proto::close::Refusal;
use crate::slab::Key;
use crate::wire::reader::utf8;
use crate::wire::{ProtocolVersion, QoS, topic};

/// Nodes behind one forwarder.
const MAX_NODES: usize = 1000;

/// What a CONNECT is refused with.
type Refused = (ReturnCode, Refusal);

/// What becomes of the will that a session may have from before [SN 6.3].
enum WillPlan {
    /// It is armed again.
    Keep,
    /// It is gone.
    Delete,
    /// This one takes its place.
    Replace(Will),
}

impl Gateway {
    pub(super) fn on_connect(
        &mut self,
        turn: &mut Turn<'_>,
        visit: &Visit<'_>,
        known: Option<SnId>,
        connect: &Connect<'_>,
    ) {
        turn.broker.stats.connects = turn.broker.stats.connects.saturating_add(1);
        // From somebody who does not hear that he is asked, or who begins anew.
        self.dialogues.take(&visit.from);
        if self.repeats(turn, known, connect) {
            return;
        }
        let applicant = match self.check(turn, visit, known, connect) {
            Ok(applicant) => applicant,
            Err(refused) => return self.turn_away(turn, visit, connect.client_id, refused),
        };
        if connect.will {
            return self.ask_for_will(turn, visit, applicant);
        }
        let plan = if connect.clean_session { WillPlan::Delete } else { WillPlan::Keep };
        self.establish(turn, visit, applicant, plan);
    }

    /// The same CONNECT again, because the answer was lost or the network made two of it: the client is told again, and
    /// nothing it did since is undone. Its topic ids are offered anew, in case it did start again.
    fn repeats(&mut self, turn: &mut Turn<'_>, known: Option<SnId>, connect: &Connect<'_>) -> bool {
        let retry_ms = turn.retry_ms();
        let Some(id) = known else { return false };
        let Some(device) = self.table.get_mut(id) else { return false };
        let same_name = match connect.client_id {
            [] => device.arrival.assigned,
            name => turn.broker.client_id(device.session).as_bytes() == name,
        };
        let Arrival { clean, will, fresh, .. } = device.arrival;
        let same = same_name
            && device.state == Client::Active
            && (clean, will, device.keepalive_s) == (connect.clean_session, connect.will, connect.duration_s)
            && connect.protocol_id == PROTOCOL_ID;
        let at_once = turn.now.mono_ms < u64::from(device.connected_s).saturating_mul(1000).saturating_add(retry_ms);
        // One that starts again later may have another will.
        if !same || !(at_once || (fresh && !will)) {
            return false;
        }
        device.last_in_ms = turn.now.mono_ms;
        if !fresh {
            device.registry.reconnect();
        }
        self.acknowledge(turn, id, &Message::Connack(ReturnCode::ACCEPTED));
        true
    }

    /// Checks a CONNECT in the order of the MQTT side.
    fn check(
        &mut self,
        turn: &mut Turn<'_>,
        visit: &Visit<'_>,
        known: Option<SnId>,
        connect: &Connect<'_>,
    ) -> Result<Applicant, Refused> {
        const NO: ReturnCode = ReturnCode::NOT_SUPPORTED;
        let (global, door) = (&turn.config.global, &visit.door);
        if connect.protocol_id != PROTOCOL_ID {
            return Err((NO, Refusal::DisallowedFeature));
        }
        let name = utf8(connect.client_id).ok_or((NO, Refusal::ClientId))?;
        let assigned = name.is_empty();
        let client_id: Box<str> = if assigned {
            let allowed = door.listener.allow_zero_length_clientid.unwrap_or(global.allow_zero_length_clientid);
            if !allowed || !connect.clean_session {
                return Err((NO, Refusal::EmptyClientId));
            }
            let prefix = door.listener.auto_id_prefix.as_deref().unwrap_or(&global.auto_id_prefix);
            turn.broker.generate_client_id(prefix).into()
        } else {
            name.into()
        };
        if global.clientid_prefixes.as_ref().is_some_and(|prefix| !client_id.starts_with(prefix.as_str())) {
            return Err((NO, Refusal::ClientId));
        }
        let (username, proof) = door.user(&client_id, &visit.from.addr).map_err(|stranger| match stranger {
            Stranger::NotListed => (NO, Refusal::NotAuthorised),
            Stranger::Anonymous => (NO, Refusal::NotAuthorised),
        })?;
        let max = global.max_keepalive;
        if max != 0 && !(1..=max).contains(&connect.duration_s) {
            return Err((NO, Refusal::Keepalive));
        }
        // Whoever is here already takes no further place.
        let here = known.is_some_and(|id| self.door_of(id) == Some(visit.door_number))
            || turn
                .broker
                .find_client(&client_id)
                .and_then(|session| turn.broker.conn_of(session))
                .is_some_and(|conn| conn.sn().and_then(|id| self.door_of(id)) == Some(visit.door_number));
        let waiting = self.dialogues.of_door(visit.door_number);
        let count = self.table.count_of(visit.door_number).saturating_add(waiting);
        if !here && door.listener.max_connections.is_some_and(|max| count >= max as usize) {
            return Err((ReturnCode::CONGESTION, Refusal::TooManyClients));
        }
        if known.is_none() && !visit.from.node.is_empty() && self.table.nodes_of(&visit.from) >= MAX_NODES {
            return Err((ReturnCode::CONGESTION, Refusal::TooManyClients));
        }
        Ok(Applicant {
            client_id,
            assigned,
            clean: connect.clean_session,
            will: connect.will,
            keepalive_s: connect.duration_s,
            username,
            proof,
        })
    }

    /// Answers a CONNECT that is refused; always with a code, so that a device knows that it is not the network.
    fn turn_away(&mut self, turn: &mut Turn<'_>, visit: &Visit<'_>, client_id: &[u8], refused: Refused) {
        let (code, refusal) = refused;
        self.answer(turn, &visit.from, &Message::Connack(code));
        if turn.config.global.connection_messages {
            let reason = CloseReason::Refused { refusal, client_id: Box::default() };
            let name = utf8(client_id).filter(|name| !name.is_empty()).unwrap_or("(unknown)");
            notice!("Client {name} [{}] {reason}", visit.from);
        }
    }

    fn ask_for_will(&mut self, turn: &mut Turn<'_>, visit: &Visit<'_>, applicant: Applicant) {
        self.dialogues.take_client(&applicant.client_id);
        let dialogue = Dialogue {
            addr: visit.from.addr,
            socket: visit.from.socket,
            node: visit.from.node.into(),
            door: visit.door_number,
            applicant,
            step: Step::AwaitWillTopic,
            due_ms: turn.now.mono_ms.saturating_add(turn.retry_ms()),
            tries: 0,
        };
        self.ask(turn, visit, dialogue);
    }

    /// Sends the question of a dialogue and waits for the answer.
    fn ask(&mut self, turn: &mut Turn<'_>, visit: &Visit<'_>, dialogue: Dialogue) {
        let question = question(&dialogue.step);
        match self.dialogues.add(dialogue) {
            Ok(()) => self.answer(turn, &visit.from, &question),
            Err(dialogue) => {
                let refused = (ReturnCode::CONGESTION, Refusal::ServerBusy);
                self.turn_away(turn, visit, dialogue.applicant.client_id.as_bytes(), refused);
            }
        }
    }

    pub(super) fn on_will_topic(
        &mut self,
        turn: &mut Turn<'_>,
        visit: &Visit<'_>,
        known: Option<SnId>,
        will: Option<WillTopic<'_>>,
    ) {
        let Some(mut dialogue) = self.dialogues.take(&visit.from) else { return self.not_asked(turn, known) };
        if dialogue.step != Step::AwaitWillTopic {
            // The question behind it was lost.
            return self.ask(turn, visit, dialogue);
        }
        let Some(will) = will else {
            return self.establish(turn, visit, dialogue.applicant, WillPlan::Delete);
        };
        match check_will_topic(turn, visit, &will) {
            Ok((topic, qos)) => {
                dialogue.step = Step::AwaitWillMsg { topic: topic.into(), qos, retain: will.retain };
                dialogue.due_ms = turn.now.mono_ms.saturating_add(turn.retry_ms());
                dialogue.tries = 0;
                self.ask(turn, visit, dialogue);
            }
            Err(refused) => self.turn_away(turn, visit, dialogue.applicant.client_id.as_bytes(), refused),
        }
    }

    pub(super) fn on_will_msg(&mut self, turn: &mut Turn<'_>, visit: &Visit<'_>, known: Option<SnId>, payload: &[u8]) {
        let Some(dialogue) = self.dialogues.take(&visit.from) else {
            // Its CONNACK was lost.
            let fresh = known.and_then(|id| self.table.get(id)).is_some_and(|d| d.arrival.fresh && d.arrival.will);
            if let Some(id) = known.filter(|_| fresh) {
                return self.acknowledge(turn, id, &Message::Connack(ReturnCode::ACCEPTED));
            }
            return self.not_asked(turn, known);
        };
        let Step::AwaitWillMsg { topic, qos, retain } = &dialogue.step else {
            return self.ask(turn, visit, dialogue);
        };
        let limit = turn.config.global.message_size_limit as usize;
        if limit != 0 && payload.len() > limit {
            let refused = (ReturnCode::NOT_SUPPORTED, Refusal::WillPayload);
            return self.turn_away(turn, visit, dialogue.applicant.client_id.as_bytes(), refused);
        }
        let will = own_will(visit.door.mount(), topic, *qos, *retain, payload);
        self.establish(turn, visit, dialogue.applicant, WillPlan::Replace(will));
    }

    /// A part of the will dialogue that nobody asked for is ignored, but somebody is there.
    fn not_asked(&mut self, turn: &mut Turn<'_>, known: Option<SnId>) {
        if let Some(device) = known.and_then(|id| self.table.get_mut(id)) {
            device.last_in_ms = turn.now.mono_ms;
        }
    }

    /// Asks again those who do not answer, and gives up on them after a while [SN 6.13].
    pub(super) fn dialogues_due(&mut self, turn: &mut Turn<'_>) {
        while let Some(mut dialogue) = self.dialogues.take_due(turn.now.mono_ms) {
            if dialogue.tries >= turn.config.global.sn.max_retries {
                log::debug!("Gave up the will dialogue with {} (mqtt-sn)", dialogue.source());
                continue;
            }
            let sn = &mut turn.broker.stats.sn;
            sn.retransmissions = sn.retransmissions.saturating_add(1);
            dialogue.tries = dialogue.tries.saturating_add(1);
            dialogue.due_ms = turn.now.mono_ms.saturating_add(turn.retry_ms());
            self.answer(turn, &dialogue.source(), &question(&dialogue.step));
            // There was room for it before.
            let _kept = self.dialogues.add(dialogue);
        }
    }

    /// Connects a client whose CONNECT is complete: here, and not before, the session changes hands.
    fn establish(&mut self, turn: &mut Turn<'_>, visit: &Visit<'_>, applicant: Applicant, plan: WillPlan) {
        let before = turn.broker.find_client(&applicant.client_id);
        let registry = self.inherit(turn, visit, before, applicant.clean);
        let arrival =
            Arrival { clean: applicant.clean, will: applicant.will, assigned: applicant.assigned, fresh: true };
        let unknown = SessionId(Key::from_bits(u32::MAX));
        let device = Device::new(&visit.from, visit.door_number, unknown, arrival);
        let Some(id) = self.table.insert(device) else {
            let refused = (ReturnCode::CONGESTION, Refusal::TooManyClients);
            return self.turn_away(turn, visit, applicant.client_id.as_bytes(), refused);
        };
        let conn = ConnId::of_sn(id);
        let (keep, will) = match plan {
            WillPlan::Keep => (true, None),
            WillPlan::Delete => (false, None),
            WillPlan::Replace(will) => (false, Some(will)),
        };
        let request = ConnectRequest {
            conn,
            client_id: &applicant.client_id,
            username: applicant.username.as_deref(),
            clean_start: applicant.clean,
            expiry_s: if applicant.clean { 0 } else { NEVER },
            version: ProtocolVersion::V311,
            bridge: false,
            rules: RulesId(visit.door.listener.rules),
            listener_port: visit.door.listener.port,
            receive_maximum: Some(turn.config.global.sn.max_inflight.max(1)),
            will,
        };
        let connected = match turn.broker.connect(turn.now, request) {
            Ok(connected) => connected,
            Err(refused) => {
                self.table.remove(id);
                let refusal = match refused {
                    ConnectRefused::TooManyClients => Refusal::TooManyClients,
                    ConnectRefused::OfBridge => Refusal::ClientId,
                    ConnectRefused::OutOfMemory => Refusal::OutOfMemory,
                    ConnectRefused::StorageFull => Refusal::StorageFull,
                };
                let refused = (ReturnCode::CONGESTION, refusal);
                return self.turn_away(turn, visit, applicant.client_id.as_bytes(), refused);
            }
        };
        let session = connected.session;
        turn.broker.set_proof(session, applicant.proof);
        if keep {
            turn.broker.rearm_will(session);
        } else {
            turn.broker.forget_stored_will(session);
        }
        if let Some(device) = self.table.get_mut(id) {
            device.session = session;
            device.keepalive_s = applicant.keepalive_s;
            device.last_in_ms = turn.now.mono_ms;
            device.connected_s = u32::try_from(turn.now.mono_ms / 1000).unwrap_or(u32::MAX);
            device.registry = registry.filter(|_| connected.present).unwrap_or_default();
        }
        self.moves.push((visit.door_number, true));
        turn.broker.stats.sn.active = turn.broker.stats.sn.active.saturating_add(1);
        if turn.config.global.connection_messages {
            let user = applicant.username.as_ref().map(|name| format!(", u'{name}'")).unwrap_or_default();
            notice!(
                "New client connected from {} as {} (mqtt-sn, c{}, k{}{user}).",
                visit.from,
                applicant.client_id,
                u8::from(applicant.clean),
                applicant.keepalive_s
            );
        }
        self.acknowledge(turn, id, &Message::Connack(ReturnCode::ACCEPTED));
        self.arm(id);
    }

    /// Makes room for a client: whoever had its place or its session leaves. Gives back the topic ids that the session
    /// keeps.
    fn inherit(
        &mut self,
        turn: &mut Turn<'_>,
        visit: &Visit<'_>,
        before: Option<SessionId>,
        clean: bool,
    ) -> Option<super::super::registry::Registry> {
        let mut registry = None;
        if let Some(id) = self.table.find(&visit.from) {
            let own = self.table.get(id).map(|device| device.session);
            if own.is_some() && own == before {
                // The same client begins anew: no will, no line that it is gone.
                registry = self.table.get_mut(id).map(|device| std::mem::take(&mut device.registry));
                self.forget(turn, id);
                let ending = Ending { will: false, expiry_s: None };
                before.into_iter().for_each(|s| turn.broker.disconnect(turn.now, s, ConnId::of_sn(id), ending));
            } else {
                // The address belongs to somebody else by now.
                self.leave(turn, id, Client::Lost, &CloseReason::AddressReused);
            }
        }
        let session = before.filter(|_| !clean)?;
        let other = turn.broker.conn_of(session).and_then(ConnId::sn);
        if let Some(device) = other.and_then(|id| self.table.get_mut(id)) {
            registry = Some(std::mem::take(&mut device.registry));
        }
        let mut registry = registry.or_else(|| self.table.restore(turn.broker, turn.now, session))?;
        registry.reconnect();
        Some(registry)
    }

    /// After a change of the options: sends those away that may not be here any more.
    pub fn recheck(&mut self, turn: &mut Turn<'_>) {
        for id in self.table.ids() {
            let Some(device) = self.table.get(id) else { continue };
            let Some(door) = self.door(device.door) else { continue };
            let client_id = turn.broker.client_id(device.session);
            if !door.hears(device.addr().ip()) || door.user(client_id, &device.addr()).is_err() {
                self.leave(turn, id, Client::Disconnected, &CloseReason::NoLongerAllowed);
            }
        }
    }

    /// Sends a client away: another has taken its session, or it is not wanted here.
    pub fn close(&mut self, turn: &mut Turn<'_>, id: SnId, reason: &CloseReason) {
        self.leave(turn, id, Client::Disconnected, reason);
    }

    /// The broker stops: everyone who listens is told. Who sleeps would not hear it.
    pub fn shut_down(&mut self, turn: &mut Turn<'_>) {
        for id in self.table.ids() {
            self.leave(turn, id, Client::Disconnected, &CloseReason::Shutdown);
        }
    }

    /// Ends a client's time here: says why, detaches its session, and keeps its topic ids for when it comes back.
    pub(super) fn leave(&mut self, turn: &mut Turn<'_>, id: SnId, into: Client, reason: &CloseReason) {
        let Some(device) = self.table.get(id) else { return };
        let (session, state) = (device.session, device.state);
        let awake = !matches!(state, Client::Asleep { .. });
        // It said goodbye itself, or does not listen, or somebody else does at its address.
        let told = !matches!(reason, CloseReason::Timeout | CloseReason::NoAnswer | CloseReason::AddressReused);
        if told && awake {
            self.send(turn, id, &Message::Disconnect { duration_s: None });
        }
        let of = if let CloseReason::TakenOver { by } = reason { *by } else { session };
        if turn.config.global.connection_messages
            && let Some(device) = self.table.get(id)
        {
            notice!("Client {} [{}] {reason}", turn.broker.client_id(of), device.source());
        }
        if into == Client::Lost {
            turn.broker.stats.sn.lost = turn.broker.stats.sn.lost.saturating_add(1);
        }
        let Some(device) = self.forget(turn, id) else { return };
        let ending = Ending { will: reason.publishes_will(), expiry_s: None };
        let had = turn.broker.conn_of(session) == Some(ConnId::of_sn(id));
        turn.broker.disconnect(turn.now, session, ConnId::of_sn(id), ending);
        if had && turn.broker.session_expiry(session) != 0 {
            self.table.store(turn.broker, turn.now, session, device.registry);
        }
    }

    /// Takes a client out of the table and the counts.
    fn forget(&mut self, turn: &mut Turn<'_>, id: SnId) -> Option<Device> {
        let device = self.table.remove(id)?;
        self.moves.push((device.door, false));
        let sn = &mut turn.broker.stats.sn;
        match device.state {
            Client::Asleep { .. } => sn.asleep = sn.asleep.saturating_sub(1),
            _ => sn.active = sn.active.saturating_sub(1),
        }
        Some(device)
    }
}

fn question(step: &Step) -> Message<'static> {
    match step {
        Step::AwaitWillTopic => Message::WillTopicReq,
        Step::AwaitWillMsg { .. } => Message::WillMsgReq,
    }
}

/// The topic and QoS of a will, if it may have them.
pub(super) fn check_will_topic<'a>(
    turn: &Turn<'_>,
    visit: &Visit<'_>,
    will: &WillTopic<'a>,
) -> Result<(&'a str, QoS), Refused> {
    let bad = (ReturnCode::INVALID_TOPIC_ID, Refusal::WillTopic);
    let name = utf8(will.topic).ok_or(bad)?;
    topic::check_name(name).map_err(|_| bad)?;
    if name.starts_with("$CONTROL/") {
        return Err((ReturnCode::INVALID_TOPIC_ID, Refusal::WillAccess));
    }
    let unsupported = (ReturnCode::NOT_SUPPORTED, Refusal::DisallowedFeature);
    let qos = will.qos.qos().filter(|qos| *qos <= visit.door.listener.max_qos).ok_or(unsupported)?;
    if will.retain && !turn.config.global.retain_available {
        return Err(unsupported);
    }
    Ok((name, qos))
}

pub(super) fn own_will(mount: &str, topic: &str, qos: QoS, retain: bool, payload: &[u8]) -> Will {
    let topic = if topic.is_empty() { String::new() } else { format!("{mount}{topic}") };
    Will { topic: topic.into(), payload: payload.into(), props: [].into(), qos, retain, delay_s: 0, expiry_s: None }
}

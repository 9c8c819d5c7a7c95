//! What a client answers to what it was sent, and what is sent again when it does not [SN 6.13].

use super::super::wire::{Message, ReturnCode, TopicAck, TopicRef};
use super::device::{Await, Client, Parcel, Registering, Retry, Sent};
use super::{Gateway, Turn};
use crate::broker::{SessionId, SnId};
use crate::proto::CloseReason;
use crate::wire::PacketId;

impl Gateway {
    /// The client's verdict on a REGISTER.
    pub(super) fn on_regack(&mut self, turn: &mut Turn<'_>, id: SnId, ack: TopicAck) {
        let later = self.first_try(turn, id);
        let Some(device) = self.table.get_mut(id) else { return };
        let session = device.session;
        let Some(busy) = &mut device.busy else { return };
        // An old one, or one for nothing.
        if busy.registering.as_ref().is_none_or(|r| (r.msg_id, r.topic_id) != (ack.msg_id, ack.topic_id)) {
            return;
        }
        if ack.code == ReturnCode::CONGESTION {
            // It may have room later; nothing overtakes meanwhile.
            if let Some(registering) = &mut busy.registering {
                registering.retry = later;
            }
            return self.arm(id);
        }
        let Some(Registering { topic_id, parcel, .. }) = busy.registering.take() else { return };
        if ack.code.is_refusal() {
            device.registry.set_refused(topic_id);
            self.drop_parcel(turn, session, &parcel, "the client refused its topic");
        } else {
            device.registry.set_known(topic_id);
            self.send_publish(turn, (id, session), parcel, TopicRef::Normal(topic_id));
        }
        self.go_on(turn, id);
    }

    /// PUBACK: the end of a QoS 1 message, or what is wrong with its topic id.
    pub(super) fn on_puback(&mut self, turn: &mut Turn<'_>, (id, session): (SnId, SessionId), ack: TopicAck) {
        match ack.code {
            ReturnCode::ACCEPTED => {
                let taken = self.take_sent(id, ack.msg_id, |awaits| matches!(awaits, Await::Puback { .. }));
                let Some(sent) = taken else { return };
                turn.broker.puback(session, sent.id);
            }
            // It has no room now: later again, and it is not lost for that.
            ReturnCode::CONGESTION => {
                let retry = self.first_try(turn, id);
                let Some(busy) = self.table.get_mut(id).and_then(|device| device.busy.as_mut()) else { return };
                let same = |sent: &&mut Sent| sent.id.get() == ack.msg_id && !matches!(sent.awaits, Await::Pubcomp);
                busy.sent.iter_mut().filter(same).for_each(|sent| sent.retry = retry);
                return self.arm(id);
            }
            ReturnCode::INVALID_TOPIC_ID => self.on_unknown_topic(turn, (id, session), ack),
            _ => {
                let Some(parcel) = self.take_parcel(id, ack.msg_id).map(|(parcel, _)| parcel) else { return };
                self.drop_parcel(turn, session, &parcel, "the client refused it");
            }
        }
        self.go_on(turn, id);
    }

    /// The client does not know a topic id: it is told, and gets the message then. A short name is as it is, so that message
    /// cannot be helped.
    fn on_unknown_topic(&mut self, turn: &mut Turn<'_>, (id, session): (SnId, SessionId), ack: TopicAck) {
        let taken = self.take_parcel(id, ack.msg_id);
        let Some(device) = self.table.get_mut(id) else { return };
        let Some((mut parcel, topic)) = taken else {
            // For a QoS 0 message, or one that is done: only the id matters.
            return device.registry.set_unknown(ack.topic_id);
        };
        match topic {
            TopicRef::Normal(topic_id) => device.registry.set_unknown(topic_id),
            TopicRef::Predefined(topic_id) => device.registry.forget_predefined(topic_id),
            TopicRef::Short(_) | TopicRef::Reserved(_) => parcel.refusals = u8::MAX,
        }
        parcel.refusals = parcel.refusals.saturating_add(1);
        if parcel.refusals > turn.config.global.sn.max_retries {
            return self.drop_parcel(turn, session, &parcel, "the client does not know its topic id");
        }
        self.deliver_again(turn, (id, session), parcel, topic);
    }

    /// Delivers a message anew that was under way; behind a REGISTER for another one it waits for its next turn.
    fn deliver_again(
        &mut self,
        turn: &mut Turn<'_>,
        (id, session): (SnId, SessionId),
        parcel: Parcel,
        topic: TopicRef,
    ) {
        let retry = self.first_try(turn, id);
        let Some(device) = self.table.get_mut(id) else { return };
        let registering = device.busy.as_ref().is_some_and(|busy| busy.registering.is_some());
        match parcel.id {
            Some(packet) if registering => {
                let awaits = match parcel.qos {
                    crate::wire::QoS::ExactlyOnce => Await::Pubrec { parcel, topic },
                    _ => Await::Puback { parcel, topic },
                };
                device.busy().sent.push(Sent { id: packet, awaits, retry });
            }
            _ => self.deliver(turn, (id, session), parcel),
        }
    }

    /// PUBREC: the client has a QoS 2 message. One that is not known gets its PUBREL too, so that the client can let go of it.
    pub(super) fn on_pubrec(&mut self, turn: &mut Turn<'_>, (id, session): (SnId, SessionId), msg_id: u16) {
        let retry = self.first_try(turn, id);
        let busy = self.table.get_mut(id).and_then(|device| device.busy.as_mut());
        let mut sent = busy.into_iter().flat_map(|busy| busy.sent.iter_mut());
        if let Some(sent) = sent.find(|sent| sent.id.get() == msg_id) {
            match sent.awaits {
                Await::Pubrec { .. } => {
                    sent.awaits = Await::Pubcomp;
                    sent.retry = retry;
                    turn.broker.pubrec(session, sent.id, false);
                }
                Await::Pubcomp => {}
                // A QoS 1 message has no PUBREC.
                Await::Puback { .. } => return,
            }
        }
        self.send(turn, id, &Message::Pubrel { msg_id });
        self.arm(id);
    }

    /// PUBCOMP: the end of a QoS 2 message.
    pub(super) fn on_pubcomp(&mut self, turn: &mut Turn<'_>, (id, session): (SnId, SessionId), msg_id: u16) {
        let Some(sent) = self.take_sent(id, msg_id, |awaits| matches!(awaits, Await::Pubcomp)) else { return };
        turn.broker.pubcomp(session, sent.id);
        self.go_on(turn, id);
    }

    /// Takes an exchange out that waits for what has come.
    fn take_sent(&mut self, id: SnId, msg_id: u16, is_right: impl Fn(&Await) -> bool) -> Option<Sent> {
        let sent = &mut self.table.get_mut(id)?.busy.as_mut()?.sent;
        let at = sent.iter().position(|sent| sent.id.get() == msg_id && is_right(&sent.awaits))?;
        Some(sent.remove(at))
    }

    /// The message of an exchange that the client has not taken yet.
    fn take_parcel(&mut self, id: SnId, msg_id: u16) -> Option<(Parcel, TopicRef)> {
        match self.take_sent(id, msg_id, |awaits| !matches!(awaits, Await::Pubcomp))?.awaits {
            Await::Puback { parcel, topic } | Await::Pubrec { parcel, topic } => Some((parcel, topic)),
            Await::Pubcomp => None,
        }
    }

    /// Something is done: there may be room for the next, or an awake client has everything now.
    fn go_on(&mut self, turn: &mut Turn<'_>, id: SnId) {
        self.flush(turn, id);
        if let Some(device) = self.table.get_mut(id) {
            device.trim();
        }
        self.arm(id);
    }

    /// When something that is sent now is to be sent again: not while its client sleeps.
    pub(super) fn first_try(&self, turn: &Turn<'_>, id: SnId) -> Retry {
        let asleep = matches!(self.state(id), Client::Asleep { .. });
        let due_ms = if asleep { Retry::NEVER } else { turn.now.mono_ms.saturating_add(turn.retry_ms()) };
        Retry { due_ms, tries: 0 }
    }

    /// A client's timer: its keepalive or its sleep is over, or something has to be sent again.
    pub(super) fn device_due(&mut self, turn: &mut Turn<'_>, id: SnId) {
        let now_ms = turn.now.mono_ms;
        let Some(device) = self.table.get_mut(id) else { return };
        if device.life_deadline().is_some_and(|deadline| deadline <= now_ms) {
            return self.leave(turn, id, Client::Lost, &CloseReason::Timeout);
        }
        let (state, max) = (device.state, turn.config.global.sn.max_retries);
        let (mut again, mut given_up) = (Vec::new(), false);
        let mut register = false;
        if let Some(busy) = &mut device.busy {
            for sent in busy.sent.iter().filter(|sent| sent.retry.due_ms <= now_ms) {
                given_up |= sent.retry.tries >= max;
                again.push(sent.id);
            }
            register = busy.registering.as_ref().is_some_and(|r| r.retry.due_ms <= now_ms);
            given_up |= busy.registering.as_ref().is_some_and(|r| register && r.retry.tries >= max);
        }
        match (given_up, state) {
            // It fell asleep early: everything stays for the next time.
            (true, Client::Awake { duration_s }) => return self.pause(turn, id, duration_s),
            (true, _) => return self.leave(turn, id, Client::Lost, &CloseReason::NoAnswer),
            (false, _) => {}
        }
        let due_ms = now_ms.saturating_add(turn.retry_ms());
        let next = |retry: &mut Retry| *retry = Retry { due_ms, tries: retry.tries.saturating_add(1) };
        if let Some(busy) = &mut device.busy {
            busy.sent.iter_mut().filter(|sent| again.contains(&sent.id)).for_each(|sent| next(&mut sent.retry));
            busy.registering.iter_mut().filter(|_| register).for_each(|r| next(&mut r.retry));
        }
        self.resend(turn, id, &again, register);
        self.arm(id);
    }

    /// Sends everything again that a client owes an answer to: it has woken up, or did not hear it.
    pub(super) fn resend_all(&mut self, turn: &mut Turn<'_>, id: SnId) {
        let retry = self.first_try(turn, id);
        let Some(busy) = self.table.get_mut(id).and_then(|device| device.busy.as_mut()) else { return };
        let mut again = Vec::new();
        for sent in &mut busy.sent {
            sent.retry = retry;
            again.push(sent.id);
        }
        let register = busy.registering.is_some();
        busy.registering.iter_mut().for_each(|registering| registering.retry = retry);
        self.resend(turn, id, &again, register);
    }

    fn resend(&mut self, turn: &mut Turn<'_>, id: SnId, packets: &[PacketId], register: bool) {
        let sn = &mut turn.broker.stats.sn;
        let count = (packets.len() as u64).saturating_add(u64::from(register));
        sn.retransmissions = sn.retransmissions.saturating_add(count);
        if register {
            self.send_register(turn, id);
        }
        for packet in packets {
            self.resend_one(turn, id, *packet);
        }
    }

    fn resend_one(&mut self, turn: &mut Turn<'_>, id: SnId, packet: PacketId) {
        let Some(device) = self.table.get_mut(id) else { return };
        let session = device.session;
        let Some(busy) = &mut device.busy else { return };
        let registering = busy.registering.is_some();
        let Some(sent) = busy.sent.iter_mut().find(|sent| sent.id == packet) else { return };
        let (Await::Puback { parcel, topic } | Await::Pubrec { parcel, topic }) = &mut sent.awaits else {
            return self.send(turn, id, &Message::Pubrel { msg_id: packet.get() });
        };
        parcel.dup = true;
        let (parcel, topic) = (parcel.clone(), *topic);
        let unknown = |topic_id| device.registry.by_id(topic_id).is_none_or(|entry| !entry.is_known());
        match topic {
            // It said meanwhile that it does not know the id.
            TopicRef::Normal(topic_id) if unknown(topic_id) => {
                if !registering && self.take_sent(id, packet.get(), |_| true).is_some() {
                    self.deliver(turn, (id, session), parcel);
                }
            }
            _ => {
                self.put_publish(turn, id, &parcel, topic);
            }
        }
    }
}

//! From a session's queue to its client: topic ids, REGISTER before first use, PUBLISH, and what the client answers
//! [SN 6.10].

use super::super::registry::Wish;
use super::super::wire::{Message, Publish, TopicRef};
use super::device::{Await, Client, Parcel, Registering, Sent};
use super::{Gateway, Turn, count_sent};
use crate::broker::{ConnId, Outgoing, Pulled, SessionId, SnId};
use crate::notice;
use crate::wire::{PacketId, QoS};

/// Messages given to one client in one flush; after that others get theirs.
const PER_FLUSH: usize = 64;

/// How a message can go out.
enum Way {
    /// With this topic.
    Topic(TopicRef),
    /// After the client has taken the id.
    Register(u16),
    /// Not at all, and why.
    None(&'static str),
}

impl Gateway {
    /// Sends a client what its session has for it.
    pub fn flush(&mut self, turn: &mut Turn<'_>, id: SnId) {
        let Some(device) = self.table.get(id) else { return };
        let session = device.session;
        if turn.broker.conn_of(session) != Some(ConnId::of_sn(id)) {
            // Taken over; the close is on its way.
            return;
        }
        if !self.release_deferred(turn, id) {
            // No message comes before CONNACK, and no retained one before its SUBACK.
            return;
        }
        let Some(device) = self.table.get(id) else { return };
        if matches!(device.state, Client::Asleep { .. }) {
            return;
        }
        let mut budget = turn.broker.looks();
        let done = self.fill(turn, (id, session), &mut budget);
        let used = turn.broker.looks().saturating_sub(budget);
        turn.broker.looked(used);
        let Some(device) = self.table.get_mut(id) else { return };
        if done && !device.owes() {
            device.trim();
            self.sleep_again(turn, id);
        }
        self.arm(id);
    }

    /// Takes messages until the session has none that may go, or one has to wait; true in the first case.
    fn fill(&mut self, turn: &mut Turn<'_>, (id, session): (SnId, SessionId), budget: &mut u32) -> bool {
        for _ in 0..PER_FLUSH {
            if self.table.get(id).is_none_or(|d| d.busy.as_ref().is_some_and(|busy| busy.registering.is_some())) {
                // What comes behind keeps its place: REGACK flushes again.
                turn.broker.set_clean(session);
                return false;
            }
            match turn.broker.pull(turn.now, session, budget) {
                Pulled::Item(Outgoing::Publish { msg, id: packet, qos, retain, dup, .. }) => {
                    let parcel = Parcel { msg, id: packet, qos, retain, dup, refusals: 0 };
                    self.deliver(turn, (id, session), parcel);
                }
                Pulled::Item(Outgoing::Pubrel(packet)) => self.send_pubrel(turn, id, packet),
                Pulled::Empty => {
                    turn.broker.set_clean(session);
                    return true;
                }
                Pulled::Later => break,
            }
        }
        turn.broker.set_clean(session);
        turn.broker.set_dirty(session);
        false
    }

    /// Sends a message, or first what the client has to know.
    pub(super) fn deliver(&mut self, turn: &mut Turn<'_>, (id, session): (SnId, SessionId), parcel: Parcel) {
        match self.way_of(turn, id, &parcel) {
            Way::Topic(topic) => self.send_publish(turn, (id, session), parcel, topic),
            Way::Register(topic_id) => self.register(turn, (id, session), parcel, topic_id),
            Way::None(why) => self.drop_parcel(turn, session, &parcel, why),
        }
    }

    /// The form of a message's topic: as the client subscribed by a predefined id, else short if it is, else by its id.
    fn way_of(&mut self, turn: &mut Turn<'_>, id: SnId, parcel: &Parcel) -> Way {
        const GONE: Way = Way::None("the client is gone");
        let Some(door) = self.door_of(id).and_then(|number| self.door(number)) else { return GONE };
        let Some(device) = self.table.get(id) else { return GONE };
        let name = parcel.msg.topic();
        let name = name.strip_prefix(door.mount()).unwrap_or(name);
        let client_id = turn.broker.client_id(device.session);
        let is_still = |topic_id: &u16| door.predefined.name(Some(client_id), *topic_id) == Some(name);
        let predefined = device.registry.predefined(name).find(is_still);
        if let Some(topic_id) = predefined {
            return Way::Topic(TopicRef::Predefined(topic_id));
        }
        if let Ok(short) = <[u8; 2]>::try_from(name.as_bytes()) {
            return Way::Topic(TopicRef::Short(short));
        }
        if let Some(entry) = device.registry.by_name(name) {
            if entry.is_known() {
                return Way::Topic(TopicRef::Normal(entry.id));
            }
            if entry.is_refused() {
                return Way::None("the client refused its topic");
            }
        }
        let name = name.to_owned();
        match self.assign(turn, id, &name, Wish::Delivery) {
            Some(topic_id) => Way::Register(topic_id),
            None => Way::None("there are too many topic ids"),
        }
    }

    /// Sends REGISTER and keeps the message until REGACK.
    fn register(&mut self, turn: &mut Turn<'_>, (id, session): (SnId, SessionId), parcel: Parcel, topic_id: u16) {
        let retry = self.first_try(turn, id);
        let Some(device) = self.table.get_mut(id) else { return };
        device.last_register = device.last_register.wrapping_add(1).max(1);
        let msg_id = device.last_register;
        device.busy().registering = Some(Registering { topic_id, msg_id, retry, parcel });
        if !self.send_register(turn, id) {
            let taken = self.table.get_mut(id).and_then(|device| device.busy().registering.take());
            if let Some(Registering { parcel, .. }) = taken {
                self.drop_parcel(turn, session, &parcel, "its topic is too long");
            }
        }
    }

    /// Sends the REGISTER that is under way; false when it is too long.
    pub(super) fn send_register(&mut self, turn: &mut Turn<'_>, id: SnId) -> bool {
        let Some(device) = self.table.get(id) else { return true };
        let Some(registering) = device.busy.as_ref().and_then(|busy| busy.registering.as_ref()) else { return true };
        let Some(door) = self.door(device.door) else { return true };
        let topic = registering.parcel.msg.topic();
        let name = topic.strip_prefix(door.mount()).unwrap_or(topic).as_bytes();
        let message = Message::Register { topic_id: registering.topic_id, msg_id: registering.msg_id, name };
        log::debug!("Sending REGISTER to {} (m{}) (mqtt-sn)", device.source(), registering.msg_id);
        match self.out.put(&device.source(), &message, usize::from(door.sn().max_send_size)) {
            Ok(len) => {
                count_sent(turn.broker, len);
                true
            }
            Err(_) => false,
        }
    }

    /// Sends a PUBLISH, and keeps what has to be acknowledged.
    pub(super) fn send_publish(
        &mut self,
        turn: &mut Turn<'_>,
        (id, session): (SnId, SessionId),
        parcel: Parcel,
        topic: TopicRef,
    ) {
        if !self.put_publish(turn, id, &parcel, topic) {
            return self.drop_parcel(turn, session, &parcel, "it is too long");
        }
        let Some(packet) = parcel.id else { return };
        let retry = self.first_try(turn, id);
        let awaits = match parcel.qos {
            QoS::ExactlyOnce => Await::Pubrec { parcel, topic },
            _ => Await::Puback { parcel, topic },
        };
        if let Some(device) = self.table.get_mut(id) {
            device.busy().sent.push(Sent { id: packet, awaits, retry });
        }
    }

    /// Puts a PUBLISH among what is to be sent; false when it is too long.
    pub(super) fn put_publish(&mut self, turn: &mut Turn<'_>, id: SnId, parcel: &Parcel, topic: TopicRef) -> bool {
        let Some(device) = self.table.get(id) else { return true };
        let max = self.door(device.door).map_or(usize::MAX, |door| usize::from(door.sn().max_send_size));
        let message = Message::Publish(Publish {
            dup: parcel.dup,
            qos: parcel.qos.into(),
            retain: parcel.retain,
            topic,
            msg_id: parcel.id.map_or(0, PacketId::get),
            data: parcel.msg.payload(),
        });
        let Ok(len) = self.out.put(&device.source(), &message, max) else { return false };
        count_sent(turn.broker, len);
        let stats = &mut turn.broker.stats;
        stats.publishes_out = stats.publishes_out.saturating_add(1);
        stats.publish_bytes_out = stats.publish_bytes_out.saturating_add(u64::from(parcel.msg.payload_len()));
        log::debug!(
            "Sending PUBLISH to {} (d{}, q{}, r{}, m{}, '{}', ... ({} bytes)) (mqtt-sn)",
            turn.broker.client_id(device.session),
            u8::from(parcel.dup),
            parcel.qos as u8,
            u8::from(parcel.retain),
            parcel.id.map_or(0, PacketId::get),
            parcel.msg.topic(),
            parcel.msg.payload_len()
        );
        true
    }

    fn send_pubrel(&mut self, turn: &mut Turn<'_>, id: SnId, packet: PacketId) {
        self.send(turn, id, &Message::Pubrel { msg_id: packet.get() });
        let retry = self.first_try(turn, id);
        if let Some(device) = self.table.get_mut(id) {
            device.busy().sent.push(Sent { id: packet, awaits: Await::Pubcomp, retry });
        }
    }

    /// Gives up a message that cannot be sent to this client.
    pub(super) fn drop_parcel(&mut self, turn: &mut Turn<'_>, session: SessionId, parcel: &Parcel, why: &str) {
        turn.broker.stats.sn.undeliverable = turn.broker.stats.sn.undeliverable.saturating_add(1);
        notice!(
            "Dropping a message on '{}' ({} bytes) for {}: {why}.",
            parcel.msg.topic(),
            parcel.msg.payload_len(),
            turn.broker.client_id(session)
        );
        if let Some(packet) = parcel.id {
            turn.broker.abandon(session, packet);
        }
    }
}

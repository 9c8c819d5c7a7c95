//! PUBLISH from a client, with QoS 0, 1, 2 and −1, and PUBREL [SN 6.6, 6.8].

use std::borrow::Cow;

use super::super::wire::{Message, Publish, ReturnCode, TopicAck, TopicRef};
use super::{Door, Gateway, Turn, Visit, echo};
use crate::broker::auth::access::RulesId;
use crate::broker::auth::acl::{Right, Who};
use crate::broker::message::{Msg, NewMessage};
use crate::broker::{Received, SessionId, SnId};
use crate::proto::control;
use crate::wire::reader::utf8;
use crate::wire::topic::check_name;
use crate::wire::{PacketId, QoS};

/// What is left of a PUBLISH once its topic and QoS are understood.
struct Content<'a> {
    /// The topic, mount point included.
    topic: Cow<'a, str>,
    payload: &'a [u8],
    qos: QoS,
    retain: bool,
}

impl Content<'_> {
    fn message(&self) -> NewMessage<'_> {
        NewMessage {
            topic: &self.topic,
            payload: self.payload,
            qos: self.qos,
            retain: self.retain,
            props: &[],
            expiry_s: None,
        }
    }
}

/// What becomes of a PUBLISH.
enum Verdict {
    /// It was taken.
    Taken(u32),
    /// It is acknowledged and thrown away, as MQTT 3.1.1 does with what the client may not publish.
    Denied,
    /// It is refused, and the client learns of it.
    Refused(ReturnCode),
}

impl Gateway {
    /// A PUBLISH of a client. Returns the work it caused.
    pub(super) fn on_publish(
        &mut self,
        turn: &mut Turn<'_>,
        visit: &Visit<'_>,
        (id, session): (SnId, SessionId),
        publish: &Publish<'_>,
    ) -> u32 {
        let Some(qos) = publish.qos.qos() else { return 1 };
        count_in(turn, publish);
        let packet = PacketId::new(publish.msg_id);
        let ack = |code| Message::Puback(TopicAck { topic_id: publish.topic.id(), msg_id: publish.msg_id, code });
        let door = self.door_of(id).and_then(|number| self.door(number)).unwrap_or_else(|| visit.door.clone());
        if let (QoS::ExactlyOnce, Some(packet)) = (qos, packet)
            && self.is_repeated(turn, &door, (id, session), packet, publish)
        {
            self.acknowledge(turn, id, &Message::Pubrec { msg_id: publish.msg_id });
            return 2;
        }
        let verdict = match self.topic_of(turn, &door, id, publish.topic) {
            Err(code) => Verdict::Refused(code),
            Ok(_) if qos != QoS::AtMostOnce && packet.is_none() => Verdict::Refused(ReturnCode::NOT_SUPPORTED),
            Ok(name) => {
                let topic = Cow::Owned(format!("{}{name}", door.mount()));
                let content = Content { topic, payload: publish.data, qos, retain: publish.retain };
                take(turn, &door, session, packet, &content)
            }
        };
        match (verdict, qos) {
            (Verdict::Refused(code), QoS::AtMostOnce) => {
                // Of these it has to know; the rest of QoS 0 is best effort.
                if code == ReturnCode::INVALID_TOPIC_ID || matches!(publish.topic, TopicRef::Reserved(_)) {
                    self.send(turn, id, &ack(code));
                }
                2
            }
            (Verdict::Refused(code), _) => {
                self.acknowledge(turn, id, &ack(code));
                2
            }
            (Verdict::Taken(work), QoS::AtMostOnce) => work,
            (Verdict::Denied, QoS::AtMostOnce) => 2,
            (Verdict::Taken(work), QoS::AtLeastOnce) => {
                self.acknowledge(turn, id, &ack(ReturnCode::ACCEPTED));
                work
            }
            (Verdict::Denied, QoS::AtLeastOnce) => {
                self.acknowledge(turn, id, &ack(ReturnCode::ACCEPTED));
                2
            }
            (Verdict::Taken(_) | Verdict::Denied, QoS::ExactlyOnce) => {
                self.acknowledge(turn, id, &Message::Pubrec { msg_id: publish.msg_id });
                2
            }
        }
    }

    /// QoS 2 whose first copy was taken: the same answer, however often it comes [SN 6.13]. A client that begins another message
    /// under an id whose exchange it gave up means what it says.
    fn is_repeated(
        &mut self,
        turn: &Turn<'_>,
        door: &Door,
        (id, session): (SnId, SessionId),
        packet: PacketId,
        publish: &Publish<'_>,
    ) -> bool {
        let stored = turn.broker.stored_qos2(session, packet);
        let Ok(name) = self.topic_of(turn, door, id, publish.topic) else { return stored.is_some() };
        let topic = format!("{}{name}", door.mount());
        if let Some(stored) = stored {
            return publish.dup || (stored.topic() == topic && stored.payload() == publish.data);
        }
        let content = echo::content(&topic, publish.data);
        let busy = self.table.get_mut(id).and_then(|device| device.busy.as_mut());
        busy.is_some_and(|busy| busy.echoes.is_copy(turn.now.mono_ms, packet.get(), content))
    }

    /// The name that a PUBLISH means, without the mount point.
    fn topic_of(&self, turn: &Turn<'_>, door: &Door, id: SnId, topic: TopicRef) -> Result<String, ReturnCode> {
        let device = self.table.get(id).ok_or(ReturnCode::NOT_SUPPORTED)?;
        match topic {
            TopicRef::Normal(topic_id) => device.registry.by_id(topic_id).map(|entry| entry.name.to_owned()),
            TopicRef::Predefined(topic_id) => {
                let client_id = turn.broker.client_id(device.session);
                door.predefined.name(Some(client_id), topic_id).map(Into::into)
            }
            TopicRef::Short(name) => short_name(&name).map(Into::into),
            TopicRef::Reserved(_) => return Err(ReturnCode::NOT_SUPPORTED),
        }
        .ok_or(ReturnCode::INVALID_TOPIC_ID)
    }

    /// PUBREL: the message that waited is routed. Always answered, since the first answer may be lost.
    pub(super) fn on_pubrel(&mut self, turn: &mut Turn<'_>, (id, session): (SnId, SessionId), msg_id: u16) -> u32 {
        let packet = PacketId::new(msg_id);
        if let Some(stored) = packet.and_then(|packet| turn.broker.stored_qos2(session, packet)) {
            let content = echo::content(stored.topic(), stored.payload());
            let until_ms = turn.now.mono_ms.saturating_add(turn.retry_ms());
            if let Some(device) = self.table.get_mut(id) {
                device.busy().echoes.remember(msg_id, content, until_ms);
            }
        }
        let released = packet.and_then(|packet| turn.broker.release(turn.now, session, packet));
        self.acknowledge(turn, id, &Message::Pubcomp { msg_id });
        released.map_or(2, |published| published.work.saturating_add(2))
    }

    /// PUBLISH with QoS −1 [SN 6.8]: from anybody, if the listener lets that be; from a client it is a QoS 0 message. Never
    /// answered.
    pub(super) fn on_minus_one(
        &mut self,
        turn: &mut Turn<'_>,
        visit: &Visit<'_>,
        known: Option<SnId>,
        publish: &Publish<'_>,
    ) -> u32 {
        let client = known.and_then(|id| Some((id, self.hear(turn.now, id)?)));
        if client.is_none() && !visit.door.sn().allow_qos_minus_one {
            turn.broker.stats.sn.unknown_client = turn.broker.stats.sn.unknown_client.saturating_add(1);
            return 1;
        }
        count_in(turn, publish);
        turn.broker.stats.sn.qos_minus_one = turn.broker.stats.sn.qos_minus_one.saturating_add(1);
        let door = &visit.door;
        let mut payload = publish.data;
        let name = match publish.topic {
            TopicRef::Predefined(topic_id) => {
                let client_id = client.map(|(_, session)| turn.broker.client_id(session));
                door.predefined.name(client_id, topic_id).map(str::to_owned)
            }
            TopicRef::Short(name) => short_name(&name).map(str::to_owned),
            // RSMB: the id is the length of the name, which leads the data.
            TopicRef::Normal(len) if door.sn().qos_minus_one_long_names => {
                payload.split_at_checked(usize::from(len)).and_then(|(name, data)| {
                    payload = data;
                    utf8(name).filter(|name| check_name(name).is_ok()).map(str::to_owned)
                })
            }
            TopicRef::Normal(_) | TopicRef::Reserved(_) => None,
        };
        let Some(name) = name else { return 1 };
        let topic = Cow::Owned(format!("{}{name}", door.mount()));
        let content = Content { topic, payload, qos: QoS::AtMostOnce, retain: publish.retain };
        match client {
            Some((_, session)) => match take(turn, door, session, None, &content) {
                Verdict::Taken(work) => work,
                Verdict::Denied | Verdict::Refused(_) => 1,
            },
            None => take_from_nobody(turn, door, &content),
        }
    }
}

/// The two characters of a short topic name, if they may be one [SN 5.3.11].
fn short_name(name: &[u8; 2]) -> Option<&str> {
    utf8(name).filter(|name| check_name(name).is_ok())
}

fn count_in(turn: &mut Turn<'_>, publish: &Publish<'_>) {
    let stats = &mut turn.broker.stats;
    stats.publishes_in = stats.publishes_in.saturating_add(1);
    stats.publish_bytes_in = stats.publish_bytes_in.saturating_add(publish.data.len() as u64);
}

/// Why nobody may publish this here, whoever it is.
fn refusal(turn: &Turn<'_>, door: &Door, content: &Content<'_>) -> Option<ReturnCode> {
    let global = &turn.config.global;
    let limit = global.message_size_limit as usize;
    let too_large = limit != 0 && content.payload.len() > limit;
    if too_large || content.qos > door.listener.max_qos || (content.retain && !global.retain_available) {
        return Some(ReturnCode::NOT_SUPPORTED);
    }
    // To remove a retained message frees memory.
    let helps = content.retain && content.payload.is_empty() || control::is_on(turn.config, &content.topic);
    let unstorable = content.qos != QoS::AtMostOnce && turn.broker.is_storage_full();
    ((turn.broker.over_memory() && !helps) || unstorable).then_some(ReturnCode::CONGESTION)
}

/// Takes a message of a client to the core, if it may be there.
fn take(
    turn: &mut Turn<'_>,
    door: &Door,
    session: SessionId,
    packet: Option<PacketId>,
    content: &Content<'_>,
) -> Verdict {
    let may = turn.broker.may(session, &content.topic, Right::Write);
    log::debug!(
        "{} PUBLISH from {} (q{}, r{}, m{}, '{}', ... ({} bytes)) (mqtt-sn)",
        if may { "Received" } else { "Denied" },
        turn.broker.client_id(session),
        content.qos as u8,
        u8::from(content.retain),
        packet.map_or(0, PacketId::get),
        content.topic,
        content.payload.len()
    );
    if !may {
        return Verdict::Denied;
    }
    if let Some(code) = refusal(turn, door, content) {
        return Verdict::Refused(code);
    }
    if content.topic.starts_with("$CONTROL/") {
        // Handled when it arrives, and never forwarded. The answer goes to whoever subscribed to it.
        if control::is_on(turn.config, &content.topic) {
            turn.broker.ask_control(session, content.payload);
        }
        return Verdict::Denied;
    }
    let Some(msg) = turn.broker.message(turn.now, session, &content.message()) else {
        return Verdict::Refused(ReturnCode::NOT_SUPPORTED);
    };
    match (content.qos, packet) {
        (QoS::ExactlyOnce, Some(packet)) => store_qos2(turn, session, packet, msg),
        _ => {
            let published = turn.broker.publish(turn.now, Some(session), &msg);
            Verdict::Taken(published.work.saturating_add(2))
        }
    }
}

fn store_qos2(turn: &mut Turn<'_>, session: SessionId, packet: PacketId, msg: Msg) -> Verdict {
    let replaces = turn.broker.stored_qos2(session, packet).is_some();
    if !replaces && !turn.broker.has_qos2_room(session) {
        return Verdict::Refused(ReturnCode::CONGESTION);
    }
    match turn.broker.receive_qos2(session, packet, msg) {
        Received::Stored | Received::Replaced => Verdict::Taken(2),
        Received::Withheld | Received::OverQuota | Received::Full | Received::RepeatedTooOften => {
            Verdict::Refused(ReturnCode::CONGESTION)
        }
    }
}

/// Takes a message of nobody in particular: as the user that the listener names, or as an anonymous client.
fn take_from_nobody(turn: &mut Turn<'_>, door: &Door, content: &Content<'_>) -> u32 {
    let username = door.sn().qos_minus_one_user.as_deref();
    let welcome = username.is_some() || door.anonymous;
    let who = Who { username, client_id: "" };
    let rules = RulesId(door.listener.rules);
    let control = content.topic.starts_with("$CONTROL/");
    if !welcome || control || !turn.broker.access().may(rules, who, &content.topic, Right::Write) {
        return 1;
    }
    if refusal(turn, door, content).is_some() {
        return 1;
    }
    let Some(msg) = Msg::new(turn.now, &content.message()) else { return 1 };
    turn.broker.publish(turn.now, None, &msg).work.saturating_add(2)
}

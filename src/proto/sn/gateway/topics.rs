//! REGISTER, SUBSCRIBE and UNSUBSCRIBE [SN 6.5, 6.7, 6.9].

use super::super::registry::Wish;
use super::super::wire::{FilterRef, Message, QosField, ReturnCode, TopicAck};
use super::{Gateway, Turn, Visit};
use crate::broker::subs::SubOptions;
use crate::broker::{SessionId, SnId, SubscribeRequest};
use crate::proto::mount;
use crate::wire::QoS;
use crate::wire::reader::utf8;
use crate::wire::topic::{check_filter, check_name};
use crate::{log_subscribe, log_unsubscribe};

impl Gateway {
    /// A client wants an id for a name.
    pub(super) fn on_register(&mut self, turn: &mut Turn<'_>, id: SnId, msg_id: u16, name: &[u8]) {
        let (topic_id, code) = match utf8(name).filter(|name| check_name(name).is_ok()) {
            None => (0, ReturnCode::NOT_SUPPORTED),
            Some(name) => match self.assign(turn, id, name, Wish::Client) {
                Some(topic_id) => (topic_id, ReturnCode::ACCEPTED),
                None => (0, ReturnCode::CONGESTION),
            },
        };
        self.acknowledge(turn, id, &Message::Regack(TopicAck { topic_id, msg_id, code }));
    }

    /// The id of a name in a client's table. `None` when the table is full, or would grow while memory is short.
    pub(super) fn assign(&mut self, turn: &mut Turn<'_>, id: SnId, name: &str, wish: Wish) -> Option<u16> {
        let max = usize::from(turn.config.global.sn.max_topic_ids);
        let full = turn.broker.over_memory();
        let registry = &mut self.table.get_mut(id)?.registry;
        if full && registry.by_name(name).is_none() {
            return None;
        }
        registry.assign(name, wish, max)
    }

    pub(super) fn on_subscribe(
        &mut self,
        turn: &mut Turn<'_>,
        visit: &Visit<'_>,
        (id, session): (SnId, SessionId),
        (qos, msg_id, filter): (QosField, u16, FilterRef<'_>),
    ) {
        let (topic_id, granted, code) = match self.subscribe(turn, visit, (id, session), qos, filter) {
            Ok((topic_id, granted)) => (topic_id, granted, ReturnCode::ACCEPTED),
            Err(code) => (0, QoS::AtMostOnce, code),
        };
        let ack = TopicAck { topic_id, msg_id, code };
        self.acknowledge(turn, id, &Message::Suback { qos: granted.into(), ack });
    }

    /// Subscribes; the topic id for SUBACK and the QoS that was granted.
    fn subscribe(
        &mut self,
        turn: &mut Turn<'_>,
        visit: &Visit<'_>,
        (id, session): (SnId, SessionId),
        qos: QosField,
        filter: FilterRef<'_>,
    ) -> Result<(u16, QoS), ReturnCode> {
        let qos = qos.qos().ok_or(ReturnCode::NOT_SUPPORTED)?;
        let door = self.door_of(id).and_then(|number| self.door(number)).unwrap_or_else(|| visit.door.clone());
        let name = self.filter_of(turn, &door, session, filter)?;
        check_filter(&name).map_err(|_| ReturnCode::NOT_SUPPORTED)?;
        let wild = name.contains(['+', '#']);
        let strict = turn.config.global.strict_conformance;
        let (share, target) = mount::target(&door.listener, strict, &name).map_err(|_| ReturnCode::NOT_SUPPORTED)?;
        // First the id: a subscription without one would be answered as refused and be there all the same.
        let max = usize::from(turn.config.global.sn.max_topic_ids);
        let topic_id = match filter {
            FilterRef::Predefined(topic_id) => {
                let device = self.table.get_mut(id).ok_or(ReturnCode::NOT_SUPPORTED)?;
                if !device.registry.use_predefined(topic_id, &name, max) {
                    return Err(ReturnCode::CONGESTION);
                }
                topic_id
            }
            FilterRef::Name(_) if !wild && share.is_none() && name.len() != 2 => {
                self.assign(turn, id, &name, Wish::Client).ok_or(ReturnCode::CONGESTION)?
            }
            _ => 0,
        };
        let options = SubOptions { qos: qos.min(door.listener.max_qos), ..SubOptions::default() };
        let request = SubscribeRequest { filter: &target, share, options, id: 0 };
        let granted = turn.broker.subscribe(session, request).map_err(|_| ReturnCode::CONGESTION)?;
        log::debug!("\t{target} (QoS {})", granted as u8);
        log_subscribe!("{} {} {target}", turn.broker.client_id(session), granted as u8);
        Ok((topic_id, granted))
    }

    pub(super) fn on_unsubscribe(
        &mut self,
        turn: &mut Turn<'_>,
        visit: &Visit<'_>,
        (id, session): (SnId, SessionId),
        msg_id: u16,
        filter: FilterRef<'_>,
    ) {
        let door = self.door_of(id).and_then(|number| self.door(number)).unwrap_or_else(|| visit.door.clone());
        // UNSUBACK has no code: what cannot be there is gone.
        if let Ok(name) = self.filter_of(turn, &door, session, filter)
            && check_filter(&name).is_ok()
            && let Ok((share, target)) = mount::target(&door.listener, turn.config.global.strict_conformance, &name)
        {
            turn.broker.unsubscribe(session, &target, share);
            log_unsubscribe!("{} {target}", turn.broker.client_id(session));
        }
        if let (FilterRef::Predefined(topic_id), Some(device)) = (filter, self.table.get_mut(id)) {
            device.registry.forget_predefined(topic_id);
        }
        self.acknowledge(turn, id, &Message::Unsuback { msg_id });
    }

    /// The filter that a SUBSCRIBE or UNSUBSCRIBE means.
    fn filter_of(
        &self,
        turn: &Turn<'_>,
        door: &super::Door,
        session: SessionId,
        filter: FilterRef<'_>,
    ) -> Result<String, ReturnCode> {
        match filter {
            FilterRef::Name(name) => utf8(name).map(Into::into).ok_or(ReturnCode::NOT_SUPPORTED),
            FilterRef::Short(name) => {
                utf8(&name).filter(|name| check_name(name).is_ok()).map(Into::into).ok_or(ReturnCode::NOT_SUPPORTED)
            }
            FilterRef::Predefined(id) => {
                let name = door.predefined.name(Some(turn.broker.client_id(session)), id);
                name.map(Into::into).ok_or(ReturnCode::INVALID_TOPIC_ID)
            }
            FilterRef::Reserved => Err(ReturnCode::NOT_SUPPORTED),
        }
    }
}

//! Step 5 of a PUBLISH: checks, topic alias, access, and the one copy. Also what follows a QoS 2 PUBLISH.

use std::borrow::Cow;

use super::strict::log_exceeded;
use super::{Handled, Server, acknowledged};
use crate::broker::auth::acl::Right;
use crate::broker::message::{Msg, NewMessage};
use crate::broker::{Acked, Received, SessionId};
use crate::proto::{CloseReason, Turn, conformance, control};
use crate::wire::acks::Ack;
use crate::wire::packet::PacketType;
use crate::wire::publish::Publish;
use crate::wire::{PacketId, ProtocolVersion, QoS, ReasonCode};

/// What `$CONTROL` answers to a request that nobody handles.
const NO_ENDPOINT: &[u8] = br#"{"error": "endpoint not available"}"#;

impl Server {
    pub(super) fn on_publish(&mut self, turn: &mut Turn<'_>, session: SessionId, publish: &Publish<'_>) -> Handled {
        let stats = &mut turn.broker.stats;
        stats.publishes_in += 1;
        stats.publish_bytes_in += publish.payload.len() as u64;
        self.count_publish(turn, session, publish)?;
        if publish.qos > turn.listener.max_qos {
            log::info!("Too high QoS in PUBLISH from {}, disconnecting.", turn.broker.client_id(session));
            return Err(CloseReason::QosNotSupported);
        }
        if publish.retain && !turn.config.global.retain_available {
            return Err(CloseReason::RetainNotSupported);
        }
        let topic = self.full_topic(turn, session, publish)?;
        if let Some(code) = refusal(turn, session, &topic, publish) {
            self.log_publish(
                turn,
                session,
                if code == TOO_LARGE { "Dropped too large" } else { "Denied" },
                &topic,
                publish,
            );
            let qos2 = publish.packet_id.filter(|_| publish.qos == QoS::ExactlyOnce);
            if let Some(id) = qos2.filter(|_| code == ReasonCode::NOT_AUTHORIZED) {
                // It may be one that came before, while it was allowed.
                turn.broker.forget_qos2(session, id);
                self.close_qos2(id);
            }
            return self.refuse(turn, session, publish, code);
        }
        self.log_publish(turn, session, "Received", &topic, publish);
        if topic.starts_with("$CONTROL/") {
            // Handled when it arrives, whatever its QoS, and never forwarded.
            if control::is_on(turn.config, &topic) {
                control::ask(turn, session, publish.payload);
            } else {
                turn.broker.answer(turn.now, session, &format!("{topic}/response"), NO_ENDPOINT);
            }
            return self.answer(turn, session, publish, ReasonCode::SUCCESS);
        }
        let props = publish.props.forwardable();
        let new = NewMessage {
            topic: &topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            props: &props,
            expiry_s: publish.expiry,
        };
        // Too long only when a mount point makes the topic longer than any topic may be.
        let Some(msg) = turn.broker.message(turn.now, session, &new) else {
            return self.refuse(turn, session, publish, ReasonCode::TOPIC_NAME_INVALID);
        };
        if let (QoS::ExactlyOnce, Some(id)) = (publish.qos, publish.packet_id) {
            return self.receive_qos2(turn, session, id, msg);
        }
        let published = turn.broker.publish(turn.now, Some(session), &msg);
        turn.charge(published.work);
        let code = if published.matched { ReasonCode::SUCCESS } else { ReasonCode::NO_MATCHING_SUBSCRIBERS };
        self.answer(turn, session, publish, code)
    }

    /// The topic with its alias resolved and the mount point before it.
    fn full_topic<'a>(
        &mut self,
        turn: &Turn<'_>,
        session: SessionId,
        publish: &Publish<'a>,
    ) -> Result<Cow<'a, str>, CloseReason> {
        let mounted = || match &turn.listener.mount_point {
            Some(mount) => Cow::Owned(format!("{mount}{}", publish.topic)),
            None => Cow::Borrowed(publish.topic),
        };
        let Some(alias) = publish.topic_alias else { return Ok(mounted()) };
        if alias > self.aliases_in {
            log::info!(
                "Protocol error from {}: PUBLISH invalid topic alias ({alias}).",
                turn.broker.client_id(session)
            );
            return Err(CloseReason::TopicAliasInvalid);
        }
        if publish.topic.is_empty() {
            let known = self.extra.as_ref().and_then(|extra| extra.aliases_in.get(&alias));
            return known.map(|topic| Cow::Owned(topic.to_string())).ok_or(CloseReason::ProtocolError);
        }
        let topic = mounted();
        let known = self.extra.as_ref().and_then(|extra| extra.aliases_in.get(&alias)).map_or(0, |topic| topic.len());
        if turn.broker.over_memory() && topic.len() > known {
            // To refuse the message alone would leave the client with an alias that it believes is set.
            return Err(CloseReason::OutOfMemory);
        }
        self.extra().aliases_in.insert(alias, topic.as_ref().into());
        Ok(topic)
    }

    fn receive_qos2(&mut self, turn: &mut Turn<'_>, session: SessionId, id: PacketId, msg: Msg) -> Handled {
        let name = |turn: &Turn<'_>| turn.broker.client_id(session).to_string();
        match turn.broker.receive_qos2(session, id, msg) {
            Received::Stored => {}
            Received::Replaced => {
                let name = name(turn);
                log::warn!("Reused message ID {} from {name} detected. Clearing from storage.", id.get());
            }
            Received::Withheld => return Ok(()),
            Received::OverQuota => {
                log_exceeded(&name(turn));
                self.send_ack(turn, session, PacketType::Pubrec, id, ReasonCode::QUOTA_EXCEEDED);
                return Ok(());
            }
            Received::Full => return Err(CloseReason::TooManyUnreleased),
            Received::RepeatedTooOften => return Err(CloseReason::ProtocolError),
        }
        self.open_qos2(turn, id);
        self.send_ack(turn, session, PacketType::Pubrec, id, ReasonCode::SUCCESS);
        Ok(())
    }

    pub(super) fn on_pubrel(&mut self, turn: &mut Turn<'_>, session: SessionId, ack: Ack) -> Handled {
        log::debug!("Received PUBREL from {} (Mid: {})", turn.broker.client_id(session), ack.id.get());
        let mut code = conformance::unknown_id(turn.strict());
        if let Some(published) = turn.broker.release(turn.now, session, ack.id) {
            turn.charge(published.work);
            code = ReasonCode::SUCCESS;
        }
        self.close_qos2(ack.id);
        self.send_ack(turn, session, PacketType::Pubcomp, ack.id, code);
        while let Some(id) = turn.broker.next_withheld(session) {
            self.send_ack(turn, session, PacketType::Pubrec, id, ReasonCode::SUCCESS);
        }
        Ok(())
    }

    pub(super) fn on_pubrec(&mut self, turn: &mut Turn<'_>, session: SessionId, ack: Ack) -> Handled {
        log::debug!("Received PUBREC from {} (Mid: {})", turn.broker.client_id(session), ack.id.get());
        let refused = ack.reason.is_error();
        let acked = turn.broker.pubrec(session, ack.id, refused);
        if acked == Acked::Unknown && !refused {
            log::warn!(
                "Warning: Received PUBREC from {} for an unknown packet identifier {}.",
                turn.broker.client_id(session),
                ack.id.get()
            );
        }
        acknowledged(acked)?;
        if !refused {
            let code =
                if acked == Acked::Unknown { conformance::unknown_id(turn.strict()) } else { ReasonCode::SUCCESS };
            self.send_ack(turn, session, PacketType::Pubrel, ack.id, code);
        }
        Ok(())
    }

    /// Answers a PUBLISH that was not taken: v5 clients learn why, v3 clients get the plain acknowledgement, as from C
    /// Mosquitto, because MQTT 3 has no other.
    fn refuse(&mut self, turn: &mut Turn<'_>, session: SessionId, publish: &Publish<'_>, code: ReasonCode) -> Handled {
        if code == ReasonCode::QUOTA_EXCEEDED && self.version != ProtocolVersion::V5 && publish.qos != QoS::AtMostOnce {
            // To acknowledge would lose the message.
            let full = turn.broker.is_storage_full();
            return Err(if full { CloseReason::StorageFull } else { CloseReason::OutOfMemory });
        }
        self.answer(turn, session, publish, conformance::publish_refusal(turn.strict(), code))
    }

    fn answer(&mut self, turn: &mut Turn<'_>, session: SessionId, publish: &Publish<'_>, code: ReasonCode) -> Handled {
        if let Some(id) = publish.packet_id {
            let packet = if publish.qos == QoS::ExactlyOnce { PacketType::Pubrec } else { PacketType::Puback };
            self.send_ack(turn, session, packet, id, code);
        }
        Ok(())
    }

    fn log_publish(&self, turn: &Turn<'_>, session: SessionId, what: &str, topic: &str, publish: &Publish<'_>) {
        log::debug!(
            "{what} PUBLISH from {} (d{}, q{}, r{}, m{}, '{topic}', ... ({} bytes))",
            turn.broker.client_id(session),
            u8::from(publish.dup),
            publish.qos as u8,
            u8::from(publish.retain),
            publish.packet_id.map_or(0, PacketId::get),
            publish.payload.len(),
        );
    }
}

/// The payload exceeds `message_size_limit`.
const TOO_LARGE: ReasonCode = ReasonCode::PACKET_TOO_LARGE;

/// Why a valid PUBLISH is not taken, if it is not.
fn refusal(turn: &Turn<'_>, session: SessionId, topic: &str, publish: &Publish<'_>) -> Option<ReasonCode> {
    let limit = turn.config.global.message_size_limit as usize;
    if limit != 0 && publish.payload.len() > limit {
        return Some(TOO_LARGE);
    }
    if !turn.broker.may(session, topic, Right::Write) {
        return Some(ReasonCode::NOT_AUTHORIZED);
    }
    // To remove a retained message frees memory, so it is allowed even then; and so is what an operator does about it.
    let helps = publish.retain && publish.payload.is_empty() || control::is_on(turn.config, topic);
    let stored = |id| turn.broker.holds_qos2(session, id, topic.len(), publish.payload.len());
    let again = publish.qos == QoS::ExactlyOnce && publish.packet_id.is_some_and(stored);
    if turn.broker.over_memory() && !helps && !again {
        return Some(ReasonCode::QUOTA_EXCEEDED);
    }
    if publish.qos != QoS::AtMostOnce && turn.broker.is_storage_full() && !again {
        return Some(ReasonCode::QUOTA_EXCEEDED);
    }
    None
}

//! From the session's queue to the other broker, and what that answers.

use super::{CloseReason, Handled, Probation, Side, Suspect};
use crate::broker::message::Msg;
use crate::broker::{Acked, Outgoing, Pulled, SessionId};
use crate::notice;
use crate::proto::Turn;
use crate::proto::client::Client;
use crate::proto::server::HIGH_WATER;
use crate::wire::acks::Ack;
use crate::wire::packet::PacketType;
use crate::wire::publish::PublishHead;
use crate::wire::{PacketId, ProtocolVersion, QoS, ReasonCode};

/// What is to be sent: the fields of [`Outgoing::Publish`].
struct Delivery {
    msg: Msg,
    id: Option<PacketId>,
    qos: QoS,
    retain: bool,
    dup: bool,
}

impl Side {
    /// Takes what the session has until the outbox has enough; true when there may be more.
    pub(super) fn fill(
        &mut self,
        turn: &mut Turn<'_>,
        client: &mut Client,
        session: SessionId,
        budget: &mut u32,
    ) -> bool {
        while turn.out.len() < HIGH_WATER {
            if self.probation.as_ref().is_some_and(|probation| !probation.may_send()) {
                // What passes lists the connection again.
                turn.broker.set_clean(session);
                return false;
            }
            match turn.broker.pull(turn.now, session, budget) {
                Pulled::Item(Outgoing::Publish { msg, id, qos, retain, dup, sub_id: _ }) => {
                    self.send(turn, client, session, Delivery { msg, id, qos, retain, dup });
                }
                Pulled::Item(Outgoing::Pubrel(id)) => self.release_again(turn, client, session, id),
                Pulled::Empty => {
                    turn.broker.set_clean(session);
                    // Everything passed one by one.
                    self.proved |= self.probation.take().is_some();
                    return false;
                }
                Pulled::Later => {
                    turn.broker.set_clean(session);
                    turn.broker.set_dirty(session);
                    return false;
                }
            }
        }
        true
    }

    /// A PUBREL that was sent before.
    fn release_again(&mut self, turn: &mut Turn<'_>, client: &mut Client, session: SessionId, id: PacketId) {
        if self.max_qos < QoS::ExactlyOnce {
            // The other broker does not know what that is.
            return turn.broker.abandon(session, id);
        }
        if let Some(probation) = &mut self.probation {
            let suspect = Suspect { msg: None, packet: Some(id), qos: QoS::ExactlyOnce, quota: false };
            probation.outstanding = Some(suspect);
        }
        log::debug!("Sending PUBREL to {} (m{})", self.profile.local_id, id.get());
        client.acknowledge(turn.now.mono_ms, turn.out.packet(), PacketType::Pubrel, Ack::success(id));
        turn.broker.stats.packets_out = turn.broker.stats.packets_out.saturating_add(1);
    }

    fn send(&mut self, turn: &mut Turn<'_>, client: &mut Client, session: SessionId, delivery: Delivery) {
        let Delivery { msg, mut id, mut qos, retain, dup } = delivery;
        let profile = std::rc::Rc::clone(&self.profile);
        let (name, local_id) = (&profile.config.name, &profile.local_id);
        let abandon = |turn: &mut Turn<'_>| {
            if let Some(id) = id {
                turn.broker.abandon(session, id);
            }
        };
        if self.aside.iter().any(|topic| **topic == *msg.topic()) {
            abandon(turn);
            self.refused = self.refused.saturating_add(1);
            if !std::mem::replace(&mut self.noted.aside, true) {
                notice!("Bridge {name}: messages to '{}' are set aside for a while.", msg.topic());
            }
            return;
        }
        let Some(topic) = profile.remap.outward(msg.topic()) else {
            abandon(turn);
            self.refused = self.refused.saturating_add(1);
            if !std::mem::replace(&mut self.noted.name_out, true) {
                notice!("Bridge {name}: '{}' makes no valid topic at the other broker: dropped.", msg.topic());
            }
            return;
        };
        let v5 = client.version() == ProtocolVersion::V5;
        let lowered = qos.min(self.max_qos);
        let mut head = PublishHead {
            version: client.version(),
            dup: dup && lowered != QoS::AtMostOnce,
            qos: lowered,
            retain: retain && self.retain,
            topic: &topic,
            packet_id: id.filter(|_| lowered != QoS::AtMostOnce),
            forwardable: if v5 { msg.props() } else { &[] },
            expiry: if v5 { turn.expiry_left(&msg) } else { None },
            topic_alias: None,
            subscription_id: None,
            payload_len: msg.payload().len(),
        };
        if let Err(len) = client.fit(&mut head) {
            abandon(turn);
            self.refused = self.refused.saturating_add(1);
            if !std::mem::replace(&mut self.noted.too_large, true) {
                notice!("Dropping too large outgoing PUBLISH for {local_id} ({len} bytes)");
            }
            return;
        }
        if let (true, Some(packet)) = (lowered < qos, id) {
            turn.broker.lower_qos(session, packet, lowered);
            (qos, id) = (lowered, head.packet_id);
        }
        log::debug!(
            "Sending PUBLISH to {local_id} (d{}, q{}, r{}, m{}, '{topic}', ... ({} bytes))",
            u8::from(head.dup),
            qos as u8,
            u8::from(head.retain),
            id.map_or(0, PacketId::get),
            msg.payload_len(),
        );
        client.publish(turn.now.mono_ms, turn.out.packet(), &head);
        turn.out.payload(&msg);
        self.count_sent(turn, &msg);
        if let Some(probation) = &mut self.probation {
            probation.outstanding = Some(Suspect { msg: Some(msg), packet: id, qos, quota: false });
            if qos == QoS::AtMostOnce {
                // Nothing else would tell that it has passed.
                probation.awaits_pong = true;
                client.ping(turn.now.mono_ms, turn.out.packet());
            }
        } else if qos == QoS::AtMostOnce {
            self.unproved.get_or_insert(msg);
        }
    }

    fn count_sent(&mut self, turn: &mut Turn<'_>, msg: &Msg) {
        self.sent = self.sent.saturating_add(1);
        self.active_ms = turn.now.mono_ms;
        let stats = &mut turn.broker.stats;
        stats.packets_out = stats.packets_out.saturating_add(1);
        stats.publishes_out = stats.publishes_out.saturating_add(1);
        stats.publish_bytes_out = stats.publish_bytes_out.saturating_add(u64::from(msg.payload_len()));
    }

    /// Notes that the other broker does not want a message. One that it has no room for is kept: it is sent again on the
    /// next connection.
    fn on_refused(&mut self, turn: &Turn<'_>, session: SessionId, ack: Ack) -> Handled {
        let Some((msg, qos)) = turn.broker.inflight_message(session, ack.id) else { return Ok(()) };
        let suspect = Suspect { msg, packet: Some(ack.id), qos, quota: true };
        if ack.reason == ReasonCode::QUOTA_EXCEEDED {
            self.full = Some(suspect);
            return Err(CloseReason::PeerIsFull);
        }
        self.refused = self.refused.saturating_add(1);
        if !std::mem::replace(&mut self.noted.refused, true) {
            let (name, topic) = (&self.profile.config.name, suspect.topic());
            log::warn!("Warning: Bridge {name}: the other broker refuses the message to '{topic}': {}.", ack.reason);
        }
        Ok(())
    }

    pub(super) fn on_puback(&mut self, turn: &mut Turn<'_>, session: SessionId, ack: Ack) -> Handled {
        self.log_ack("PUBACK", ack);
        if self.notification == Some(ack.id) {
            self.notification = None;
            return Ok(());
        }
        if ack.reason.is_error() {
            self.on_refused(turn, session, ack)?;
        }
        let acked = turn.broker.puback(session, ack.id);
        self.acknowledged(turn, session, acked, ack.id)
    }

    pub(super) fn on_pubrec(
        &mut self,
        turn: &mut Turn<'_>,
        client: &mut Client,
        session: SessionId,
        ack: Ack,
    ) -> Handled {
        log::debug!("Received PUBREC from {} (Mid: {})", self.profile.local_id, ack.id.get());
        let refused = ack.reason.is_error();
        if refused {
            self.on_refused(turn, session, ack)?;
        }
        let acked = turn.broker.pubrec(session, ack.id, refused);
        if refused {
            return self.acknowledged(turn, session, acked, ack.id);
        }
        if acked == Acked::WrongState {
            return Err(CloseReason::ProtocolError);
        }
        // Also for one that is not known: the other broker still holds it.
        log::debug!("Sending PUBREL to {} (m{})", self.profile.local_id, ack.id.get());
        self.reply(turn, client, PacketType::Pubrel, Ack::success(ack.id));
        Ok(())
    }

    pub(super) fn on_pubcomp(&mut self, turn: &mut Turn<'_>, session: SessionId, ack: Ack) -> Handled {
        self.log_ack("PUBCOMP", ack);
        let acked = turn.broker.pubcomp(session, ack.id);
        self.acknowledged(turn, session, acked, ack.id)
    }

    /// Goes on after a message that the other broker is done with.
    fn acknowledged(&mut self, turn: &mut Turn<'_>, session: SessionId, acked: Acked, id: PacketId) -> Handled {
        if acked == Acked::WrongState {
            return Err(CloseReason::ProtocolError);
        }
        let awaited = |probation: &Probation| probation.outstanding.as_ref().and_then(|one| one.packet) == Some(id);
        if self.probation.as_ref().is_some_and(awaited) {
            self.passed(turn, session);
        }
        Ok(())
    }

    fn log_ack(&self, packet: &str, ack: Ack) {
        log::debug!("Received {packet} from {} (Mid: {}, RC:{})", self.profile.local_id, ack.id.get(), ack.reason.0);
    }
}

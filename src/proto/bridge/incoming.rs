//! From the other broker to ours: messages under their names here.

use super::{CloseReason, Handled, Side};
use crate::broker::auth::acl::Right;
use crate::broker::message::NewMessage;
use crate::broker::{Received, SessionId};
use crate::notice;
use crate::proto::Turn;
use crate::proto::client::Client;
use crate::wire::acks::Ack;
use crate::wire::packet::PacketType;
use crate::wire::publish::Publish;
use crate::wire::{PacketId, ProtocolVersion, QoS, ReasonCode};

impl Side {
    pub(super) fn on_publish(
        &mut self,
        turn: &mut Turn<'_>,
        client: &mut Client,
        session: SessionId,
        publish: &Publish<'_>,
        remote: &str,
    ) -> Handled {
        self.received = self.received.saturating_add(1);
        self.active_ms = turn.now.mono_ms;
        let stats = &mut turn.broker.stats;
        stats.publishes_in = stats.publishes_in.saturating_add(1);
        let len = u64::try_from(publish.payload.len()).unwrap_or(u64::MAX);
        stats.publish_bytes_in = stats.publish_bytes_in.saturating_add(len);

        let profile = std::rc::Rc::clone(&self.profile);
        let local = profile.remap.inward(remote).filter(|topic| turn.broker.may(session, topic, Right::Write));
        let Some(topic) = local else {
            if !std::mem::replace(&mut self.noted.name_in, true) {
                let name = &profile.config.name;
                notice!("Bridge {name}: what comes for '{remote}' has no place at this broker: dropped.");
            }
            self.answer(turn, client, publish, ReasonCode::TOPIC_NAME_INVALID);
            return Ok(());
        };
        let global = &turn.config.global;
        let limit = global.message_size_limit as usize;
        let too_large = limit != 0 && publish.payload.len() > limit;
        let what = if too_large { "Dropped too large" } else { "Received" };
        log::debug!(
            "{what} PUBLISH from {} (d{}, q{}, r{}, m{}, '{topic}', ... ({} bytes))",
            profile.local_id,
            u8::from(publish.dup),
            publish.qos as u8,
            u8::from(publish.retain),
            publish.packet_id.map_or(0, PacketId::get),
            publish.payload.len(),
        );
        if too_large {
            self.answer(turn, client, publish, ReasonCode::IMPLEMENTATION_SPECIFIC);
            return Ok(());
        }
        let retain = publish.retain && global.retain_available;
        let helps = retain && publish.payload.is_empty();
        if turn.broker.over_memory() && !helps {
            // To acknowledge would lose the message: it comes again on the next connection.
            return if publish.qos == QoS::AtMostOnce { Ok(()) } else { Err(CloseReason::OutOfMemory) };
        }
        let props = publish.props.forwardable();
        let (payload, qos, expiry_s) = (publish.payload, publish.qos, publish.expiry);
        let new = NewMessage { topic: &topic, payload, qos, retain, props: &props, expiry_s };
        let Some(msg) = turn.broker.message(turn.now, session, &new) else { return Ok(()) };
        if let (QoS::ExactlyOnce, Some(id)) = (publish.qos, publish.packet_id) {
            if self.skipping {
                return Ok(());
            }
            match turn.broker.receive_qos2(session, id, msg) {
                Received::Stored => {}
                Received::Replaced => {
                    let id = id.get();
                    log::warn!("Reused message ID {id} from {} detected. Clearing from storage.", profile.local_id);
                }
                Received::Withheld => return Ok(()),
                Received::OverQuota => return Err(CloseReason::ReceiveMaximumExceeded),
                // Before version 5 the other broker may have any number in flight. What is not answered it sends again on
                // the next connection, which follows as soon as there is room; to close at once would not make any.
                Received::Full if client.version() != ProtocolVersion::V5 => {
                    self.skipping = true;
                    return Ok(());
                }
                Received::Full => return Err(CloseReason::TooManyUnreleased),
                Received::RepeatedTooOften => return Err(CloseReason::ProtocolError),
            }
        } else {
            let published = turn.broker.publish(turn.now, Some(session), &msg);
            turn.charge(published.work);
        }
        self.answer(turn, client, publish, ReasonCode::SUCCESS);
        Ok(())
    }

    /// Answers a PUBLISH. A code other than success is for version 5 only; before, what is dropped is acknowledged.
    fn answer(&mut self, turn: &mut Turn<'_>, client: &mut Client, publish: &Publish<'_>, reason: ReasonCode) {
        let Some(id) = publish.packet_id else { return };
        let packet = if publish.qos == QoS::ExactlyOnce { PacketType::Pubrec } else { PacketType::Puback };
        log::debug!("Sending {packet} to {} (m{}, rc{})", self.profile.local_id, id.get(), reason.0);
        self.reply(turn, client, packet, Ack { id, reason });
    }

    pub(super) fn on_pubrel(
        &mut self,
        turn: &mut Turn<'_>,
        client: &mut Client,
        session: SessionId,
        ack: Ack,
    ) -> Handled {
        log::debug!("Received PUBREL from {} (Mid: {})", self.profile.local_id, ack.id.get());
        if let Some(published) = turn.broker.release(turn.now, session, ack.id) {
            turn.charge(published.work);
        }
        log::debug!("Sending PUBCOMP to {} (m{})", self.profile.local_id, ack.id.get());
        self.reply(turn, client, PacketType::Pubcomp, Ack::success(ack.id));
        while let Some(id) = turn.broker.next_withheld(session) {
            self.reply(turn, client, PacketType::Pubrec, Ack::success(id));
        }
        if self.skipping && !turn.broker.has_unreleased(session) {
            return Err(CloseReason::BridgeEnded("there is room again for what came at QoS 2 and was not taken"));
        }
        Ok(())
    }

    /// Sends an acknowledgement, as soon as what it promises is on disk.
    pub(super) fn reply(&mut self, turn: &mut Turn<'_>, client: &mut Client, packet: PacketType, ack: Ack) {
        let now_ms = turn.now.mono_ms;
        let seq = turn.broker.last_change();
        if self.deferrals.may_pass(turn, seq) {
            let out = turn.out.packet();
            let before = out.len();
            client.acknowledge(now_ms, out, packet, ack);
            let len = out.len().saturating_sub(before);
            turn.out.owe(len);
            turn.broker.stats.packets_out = turn.broker.stats.packets_out.saturating_add(1);
        } else {
            let mut bytes = Vec::new();
            client.acknowledge(now_ms, &mut bytes, packet, ack);
            self.deferrals.wait(turn, seq, bytes);
        }
    }
}

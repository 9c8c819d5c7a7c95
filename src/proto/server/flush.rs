//! Step 7 of a PUBLISH: from the session's queues to the outbox.

use super::{HIGH_WATER, Server};
use crate::broker::{Outgoing, Pulled, SessionId};
use crate::notice;
use crate::proto::Turn;
use crate::proto::fitting::{AliasesOut, fit};
use crate::wire::acks::Ack;
use crate::wire::packet::PacketType;
use crate::wire::publish::{PublishHead, encode_publish};
use crate::wire::{PacketId, ProtocolVersion, ReasonCode};

impl Server {
    /// Releases acknowledgements that may leave, then encodes what the session has for the client until the outbox has
    /// enough. True when there may be more as soon as the outbox is empty.
    pub fn flush(&mut self, turn: &mut Turn<'_>) -> bool {
        self.announce(turn);
        let Some(session) = self.session().filter(|_| !self.is_taken_over(turn)) else { return false };
        self.release_deferred(turn);
        // Nothing comes before CONNACK, and no retained message before its SUBACK.
        if self.waits(PacketType::Connack) || self.waits(PacketType::Suback) || self.is_unfinished() {
            return false;
        }
        let mut budget = turn.broker.looks();
        let more = self.fill(turn, session, &mut budget);
        let used = turn.broker.looks().saturating_sub(budget);
        turn.broker.looked(used);
        more
    }

    /// Takes what the session has until the outbox has enough; true when there may be more.
    fn fill(&mut self, turn: &mut Turn<'_>, session: SessionId, budget: &mut u32) -> bool {
        while turn.out.len() < HIGH_WATER {
            match turn.broker.pull(turn.now, session, budget) {
                Pulled::Item(item) => self.send(turn, session, item),
                Pulled::Empty => {
                    turn.broker.set_clean(session);
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

    /// Sends what the session has before an acknowledgement, without looking for retained messages: those have their turn
    /// at the flush, for which the connection stays listed.
    pub(super) fn flush_before_ack(&mut self, turn: &mut Turn<'_>, session: SessionId) {
        if self.waits(PacketType::Connack) || self.waits(PacketType::Suback) {
            return;
        }
        let mut no_looks = 0;
        while turn.out.len() < HIGH_WATER {
            let Pulled::Item(item) = turn.broker.pull(turn.now, session, &mut no_looks) else { return };
            self.send(turn, session, item);
        }
    }

    fn send(&mut self, turn: &mut Turn<'_>, session: SessionId, item: Outgoing) {
        match item {
            Outgoing::Publish { .. } => self.deliver(turn, session, item),
            Outgoing::Pubrel(id) => {
                log::debug!("Sending PUBREL to {} (m{})", turn.broker.client_id(session), id.get());
                let ack = Ack { id, reason: ReasonCode::SUCCESS };
                ack.encode(turn.out.packet(), self.version, PacketType::Pubrel);
                turn.broker.stats.packets_out += 1;
            }
        }
    }

    fn release_deferred(&mut self, turn: &mut Turn<'_>) {
        if let Some(extra) = &mut self.extra {
            extra.deferred.release(turn);
        }
    }

    fn deliver(&mut self, turn: &mut Turn<'_>, session: SessionId, publish: Outgoing) {
        let Outgoing::Publish { msg, id, qos, retain, dup, sub_id } = publish else { return };
        let (v5, max_packet) = (self.version == ProtocolVersion::V5, self.max_packet_out);
        let mount = turn.listener.mount_point.as_deref().unwrap_or_default();
        // Beside the mount point is what a session subscribed to elsewhere, and the parent that `#` matches. C Mosquitto
        // cuts off as many bytes whatever they are.
        let Some(topic) = msg.topic().strip_prefix(mount).filter(|topic| !topic.is_empty()) else {
            if let Some(id) = id {
                turn.broker.abandon(session, id);
            }
            return;
        };
        let mut head = PublishHead {
            version: self.version,
            dup,
            qos,
            retain,
            topic,
            packet_id: id,
            forwardable: if v5 { msg.props() } else { &[] },
            expiry: if v5 { turn.expiry_left(&msg) } else { None },
            topic_alias: None,
            subscription_id: (v5 && sub_id != 0).then_some(sub_id),
            payload_len: msg.payload().len(),
        };
        let (max, grow) = (self.aliases_out, !turn.broker.over_memory());
        let aliases = (max != 0).then(|| AliasesOut { known: &mut self.extra().aliases_out, max, grow });
        if let Err(len) = fit(&mut head, max_packet, aliases) {
            // The client does not have to acknowledge it.
            notice!("Dropping too large outgoing PUBLISH for {} ({len} bytes)", turn.broker.client_id(session));
            if let Some(id) = id {
                turn.broker.abandon(session, id);
            }
            return;
        }
        log::debug!(
            "Sending PUBLISH to {} (d{}, q{}, r{}, m{}, '{topic}', ... ({} bytes))",
            turn.broker.client_id(session),
            u8::from(dup),
            qos as u8,
            u8::from(retain),
            id.map_or(0, PacketId::get),
            msg.payload_len(),
        );
        encode_publish(turn.out.packet(), &head);
        turn.out.payload(&msg);
        let stats = &mut turn.broker.stats;
        stats.packets_out += 1;
        stats.publishes_out += 1;
        stats.publish_bytes_out += u64::from(msg.payload_len());
    }
}

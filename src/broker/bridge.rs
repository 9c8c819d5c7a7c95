//! What a bridge of this broker needs of the core beyond what a client does. Its session is one like any other, kept
//! under its local client id: what it subscribed to waits there while the other broker is away, within the limits that
//! hold for clients.

use super::auth::access::RulesId;
use super::inflight::Flow;
use super::message::{Msg, NewMessage};
use super::session::NEVER;
use super::subs::SubOptions;
use super::{Broker, ConnId, ConnectRefused, ConnectRequest, Connected, Ending, SessionId, SubscribeRequest};
use crate::slab::Key;
use crate::timer::Now;
use crate::wire::{PacketId, ProtocolVersion, QoS};

/// The session of a bridge as its configuration has it.
#[derive(Clone, Copy, Debug)]
pub struct BridgeSession<'a> {
    /// The local client id.
    pub client_id: &'a str,
    /// Nothing is kept while the link is down `[conf: local_cleansession]`.
    pub clean: bool,
    /// QoS 0 messages are kept too `[conf: start_type]`.
    pub keeps_qos0: bool,
    /// The protocol version of the link.
    pub version: ProtocolVersion,
    /// What is to be sent to the other broker: each local filter once, with the highest QoS.
    pub filters: &'a [(Box<str>, QoS)],
}

/// What waits for the other broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Backlog {
    /// Messages that were not sent yet.
    pub queued: usize,
    /// QoS 1 and 2 messages that were sent and not acknowledged.
    pub inflight: usize,
}

/// A connection that nobody has: its index is beyond those of the loop.
const NOBODY: ConnId = ConnId(Key::from_bits(u32::MAX));

impl Broker {
    /// Makes the session of a bridge whose link is down, or takes over the one that a restart has kept, so that messages
    /// wait from now on. Does nothing for one that keeps nothing.
    ///
    /// # Errors
    /// As for a client.
    pub fn open_bridge(&mut self, now: Now, own: &BridgeSession<'_>) -> Result<(), ConnectRefused> {
        if own.clean {
            return Ok(());
        }
        let session = self.connect(now, request(own, NOBODY, None))?.session;
        self.subscribe_bridge(session, own, false);
        self.disconnect(now, session, NOBODY, Ending { will: false, expiry_s: None });
        self.dirty.retain(|conn| *conn != NOBODY);
        Ok(())
    }

    /// Attaches the link to the session of its bridge. What was under way is sent again, retained messages follow, then
    /// what has waited. At most `receive_maximum` QoS 1 and 2 messages go out at once, `promised` may come in; 0 is
    /// unlimited.
    ///
    /// # Errors
    /// As for a client.
    pub fn attach_bridge(
        &mut self,
        now: Now,
        own: &BridgeSession<'_>,
        conn: ConnId,
        receive_maximum: Option<u16>,
        promised: u16,
    ) -> Result<Connected, ConnectRefused> {
        let connected = self.connect(now, request(own, conn, receive_maximum))?;
        if let Some(session) = self.sessions.get_mut(connected.session) {
            session.promised = promised;
        }
        self.subscribe_bridge(connected.session, own, true);
        Ok(connected)
    }

    /// Makes the subscriptions of a session those of its bridge; `retained` has what is retained sent again, as at every
    /// new link.
    fn subscribe_bridge(&mut self, id: SessionId, own: &BridgeSession<'_>, retained: bool) {
        let wanted = |filter: &str| own.filters.iter().any(|(wanted, _)| **wanted == *filter);
        let gone = self.subscriptions_of(id).filter(|sub| sub.share.is_some() || !wanted(&sub.filter));
        let gone: Vec<(String, Option<String>)> = gone.map(|sub| (sub.filter, sub.share.map(Into::into))).collect();
        for (filter, share) in gone {
            self.unsubscribe(id, &filter, share.as_deref());
        }
        if let Some(session) = self.sessions.get_mut(id) {
            session.keeps_qos0 = own.keeps_qos0;
            if let Some(flow) = &mut session.flow {
                // What was left of the last link's begins anew.
                flow.replays.clear();
            }
        }
        for (filter, qos) in own.filters {
            let options = SubOptions {
                qos: *qos,
                no_local: true,
                retain_as_published: true,
                retain_handling: if retained { 0 } else { 2 },
            };
            log::debug!("Bridge {} doing local SUBSCRIBE on topic {filter}", own.client_id);
            let request = SubscribeRequest { filter, share: None, options, id: 0 };
            if self.subscribe(id, request).is_err() {
                log::warn!(
                    "Warning: Bridge {} cannot subscribe to '{filter}': the broker is out of memory, or has no room.",
                    own.client_id
                );
            }
        }
    }

    /// Ends the session of a bridge that is not configured any more, with everything that waits for it.
    pub fn close_bridge(&mut self, client_id: &str) {
        let own = |id: &SessionId| self.sessions.get(*id).is_some_and(|session| session.rules == RulesId::BRIDGE);
        if let Some(id) = self.sessions.find(client_id).filter(own) {
            self.end_session(id);
        }
    }

    /// What waits for the other broker of a bridge.
    #[must_use]
    pub fn backlog(&self, client_id: &str) -> Backlog {
        let session = self.sessions.find(client_id).and_then(|id| self.sessions.get(id));
        let Some(flow) = session.and_then(|session| session.flow.as_ref()) else { return Backlog::default() };
        Backlog { queued: flow.queued().saturating_add(flow.queued_qos0()), inflight: flow.inflight() }
    }

    /// The oldest message that was sent and not acknowledged, with the QoS it was sent with; the message is there unless
    /// the peer has it already.
    #[must_use]
    pub fn first_inflight(&self, id: SessionId) -> Option<(PacketId, Option<Msg>, QoS)> {
        self.sessions.get(id)?.flow.as_ref()?.first_inflight()
    }

    /// A message that was sent and not acknowledged, with the QoS it was sent with, as [`Broker::first_inflight`].
    #[must_use]
    pub fn inflight_message(&self, id: SessionId, packet: PacketId) -> Option<(Option<Msg>, QoS)> {
        let sent = self.sessions.get(id)?.flow.as_ref()?.sent(packet)?;
        Some((sent.msg.clone(), sent.flags.qos()))
    }

    /// A packet identifier for a packet that is no PUBLISH from the queue. It is not handed out again before the others
    /// have been.
    pub fn next_packet_id(&mut self, id: SessionId) -> Option<PacketId> {
        let session = self.sessions.get_mut(id)?;
        let mut counter = session.last_id;
        let packet = session.flow_mut().assign_id(&mut counter);
        session.last_id = counter;
        packet
    }

    /// Goes on with a message that was taken from the queue with another QoS, as one with `qos`; with QoS 0 it is done.
    pub fn lower_qos(&mut self, id: SessionId, packet: PacketId, qos: QoS) {
        if qos == QoS::AtMostOnce {
            return self.abandon(id, packet);
        }
        if let Some(flow) = self.sessions.get_mut(id).and_then(|session| session.flow.as_mut()) {
            flow.lower_qos(packet);
        }
    }

    /// Forgets the QoS 2 messages whose PUBREL has not come: the other broker does not remember them.
    pub fn forget_incoming(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(id) else { return };
        let packets: Vec<u16> = session.flow.iter().flat_map(|flow| flow.inbound.keys().copied()).collect();
        for packet in packets.into_iter().filter_map(PacketId::new) {
            self.forget_qos2(id, packet);
        }
    }

    /// Publishes something about a bridge as a retained message of the broker's own; without text the topic is cleared.
    pub fn publish_of_bridge(&mut self, now: Now, topic: &str, text: &str) {
        let new = NewMessage {
            topic,
            payload: text.as_bytes(),
            qos: QoS::AtLeastOnce,
            retain: self.settings.retain_available,
            props: &[],
            expiry_s: None,
        };
        if let Some(msg) = Msg::new(now, &new) {
            self.publish(now, None, &msg);
        }
    }
}

fn request<'a>(own: &BridgeSession<'a>, conn: ConnId, receive_maximum: Option<u16>) -> ConnectRequest<'a> {
    ConnectRequest {
        conn,
        client_id: own.client_id,
        username: None,
        clean_start: own.clean,
        expiry_s: if own.clean { 0 } else { NEVER },
        version: own.version,
        bridge: true,
        rules: RulesId::BRIDGE,
        listener_port: 0,
        receive_maximum,
        will: None,
    }
}

impl Flow {
    fn first_inflight(&self) -> Option<(PacketId, Option<Msg>, QoS)> {
        let first = self.first_sent()?;
        Some((PacketId::new(first.id)?, first.msg.clone(), first.flags.qos()))
    }
}

#[cfg(test)]
mod tests;

//! What only MQTT-SN needs of a session: sleep, a will that stays with it, and questions about QoS 2.

use super::message::Msg;
use super::session::{Attachment, KeepQos0};
use super::will::Will;
use super::{Broker, SessionId};
use crate::wire::PacketId;

impl Broker {
    /// The client sleeps from now on [SN 6.14]: it stays connected, and what comes for it waits. `keep_qos0` says whether
    /// QoS 0 messages do. Members of its share groups that are awake come first meanwhile.
    pub fn set_asleep(&mut self, id: SessionId, keep_qos0: bool) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let Some(conn) = session.conn() else { return };
        session.attachment = Attachment::Asleep(conn, KeepQos0(keep_qos0));
        self.subs.set_online(&session.subs, false);
    }

    /// The opposite.
    pub fn set_awake(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let Some(conn) = session.conn() else { return };
        session.attachment = Attachment::Online(conn);
        self.subs.set_online(&session.subs, true);
    }

    /// The will of a connected client.
    #[must_use]
    pub fn will_of(&self, id: SessionId) -> Option<&Will> {
        self.sessions.get(id)?.details.as_ref()?.will.as_ref()
    }

    /// Replaces the will of a connected client, or deletes it [SN 6.4].
    pub fn set_will(&mut self, id: SessionId, will: Option<Will>) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if will.is_none() && session.details.is_none() {
            return;
        }
        session.details_mut().will = will;
        session.trim();
    }

    /// Arms the will that the session kept while its client was away [SN 6.3].
    pub fn rearm_will(&mut self, id: SessionId) {
        let Some(details) = self.sessions.get_mut(id).and_then(|session| session.details.as_mut()) else { return };
        if let Some(will) = details.stored_will.take() {
            details.will = Some(*will);
        }
    }

    /// The session has no will from before any more [SN 6.3].
    pub fn forget_stored_will(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if let Some(details) = &mut session.details {
            details.stored_will = None;
        }
        session.trim();
    }

    /// The QoS 2 message with this packet identifier that waits for its PUBREL.
    #[must_use]
    pub fn stored_qos2(&self, id: SessionId, packet: PacketId) -> Option<&Msg> {
        let flow = self.sessions.get(id)?.flow.as_ref()?;
        flow.inbound.get(&packet.get()).map(|inbound| &inbound.msg)
    }

    /// True when the client may have one more QoS 2 message under way to the broker.
    #[must_use]
    pub fn has_qos2_room(&self, id: SessionId) -> bool {
        let Some(session) = self.sessions.get(id) else { return false };
        let window = session.inbound_window(&self.settings);
        window == 0 || session.flow.as_ref().is_none_or(|flow| flow.inbound.len() < window)
    }
}

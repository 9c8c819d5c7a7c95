//! What a connection has to remember for the letter of the specifications `[conf: strict_conformance]`, and the log lines
//! of a client that took a session over.

use super::{Handled, Server};
use crate::broker::SessionId;
use crate::proto::{CloseReason, Turn};
use crate::wire::publish::Publish;
use crate::wire::{DecodeError, PacketId, ProtocolVersion};

/// The lines about a client that is connected.
pub(super) struct Announcement {
    /// `New client connected …`, unless such lines are switched off.
    pub(super) connected: Option<String>,
    /// Size and flags of the will, and its topic.
    pub(super) will: Option<(String, String)>,
    /// `Sending CONNACK …`
    pub(super) connack: String,
}

impl Announcement {
    fn write(&self) {
        if let Some(connected) = &self.connected {
            crate::notice!("{connected}");
            match &self.will {
                Some((will, topic)) => {
                    log::debug!("{will}");
                    log::debug!("\t{topic}");
                }
                None => log::debug!("No will message specified."),
            }
        }
        log::debug!("{}", self.connack);
    }
}

impl Server {
    /// Logs a new client; one that took a session over only when the connection that had it is closed, so that the line
    /// of that close stands first. Until then no further packet is handled.
    pub(super) fn announce_after_close(&mut self, turn: &Turn<'_>, announcement: Announcement) {
        if turn.broker.has_actions() {
            self.extra().announcement = Some(announcement);
        } else {
            announcement.write();
        }
    }

    /// True while the lines of a new client wait.
    pub(super) fn is_announcing(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.announcement.is_some())
    }

    /// Writes the lines that waited, unless the other connection is still open.
    pub(super) fn announce(&mut self, turn: &Turn<'_>) {
        if !turn.broker.has_actions() {
            self.announce_now();
        }
    }

    /// Writes the lines that waited.
    pub(super) fn announce_now(&mut self) {
        if let Some(announcement) = self.extra.as_mut().and_then(|extra| extra.announcement.take()) {
            announcement.write();
        }
    }

    /// True, and remembered, when a reply of `len` bytes is more than the client takes [MQTT-3.1.2-24].
    pub(super) fn is_unsendable(&mut self, turn: &Turn<'_>, len: usize) -> bool {
        let unsendable = turn.strict() && self.max_packet_out != 0 && len > self.max_packet_out as usize;
        self.unsendable |= unsendable;
        unsendable
    }

    /// Ends a connection that is owed a reply it does not take.
    pub(super) fn check_sent(&self) -> Handled {
        if self.unsendable { Err(DecodeError::PacketTooLarge.into()) } else { Ok(()) }
    }

    /// Counts a QoS 1 or 2 PUBLISH against the receive maximum, which holds for one connection [MQTT 4.9].
    pub(super) fn count_publish(&mut self, turn: &Turn<'_>, session: SessionId, publish: &Publish<'_>) -> Handled {
        let counts = turn.strict() && self.version == ProtocolVersion::V5;
        let Some(id) = publish.packet_id.filter(|_| counts) else { return Ok(()) };
        let max = turn.broker.inbound_window(session);
        let open = self.extra.as_ref().map(|extra| &extra.open_qos2);
        if open.is_some_and(|open| max != 0 && open.len() >= max && !open.contains(&id.get())) {
            log_exceeded(turn.broker.client_id(session));
            return Err(CloseReason::ReceiveMaximumExceeded);
        }
        Ok(())
    }

    /// Remembers that a QoS 2 message was taken and has no PUBCOMP yet.
    pub(super) fn open_qos2(&mut self, turn: &Turn<'_>, id: PacketId) {
        if turn.strict() && self.version == ProtocolVersion::V5 {
            self.extra().open_qos2.insert(id.get());
        }
    }

    /// Its PUBCOMP is sent.
    pub(super) fn close_qos2(&mut self, id: PacketId) {
        if let Some(extra) = &mut self.extra {
            extra.open_qos2.remove(&id.get());
        }
    }
}

/// The warning about a client that sends more at once than it may.
pub(super) fn log_exceeded(client_id: &str) {
    log::warn!(
        "Client {client_id} has exceeded its receive-maximum quota. This behaviour must be fixed on the client."
    );
}

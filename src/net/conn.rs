//! One connection: its socket, its endpoint, and where it stands between them.

use crate::proto::{CloseReason, Endpoint, Outbox};

use super::slots::BRIDGES;
use super::stream::Stream;
use super::transport::Transport;

/// Whether a connection still does something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Bytes go both ways.
    Open,
    /// Said goodbye: what still comes is thrown away until the peer closes or the time is over. Closing at once with
    /// input unread would reset the connection and could take our last packet from the peer.
    Draining {
        /// When patience ends, in seconds.
        until_s: u32,
    },
    /// Waits in the graveyard for the end of the turn.
    Closed,
}

/// What `mio` said about a socket, or what we know is left in it.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Readiness {
    pub(crate) writable: bool,
    /// The peer closed its side: read until the end of file, no further event comes.
    pub(crate) read_closed: bool,
    /// The endpoint has input that it has not looked at.
    pub(crate) leftover: bool,
    /// The endpoint wants no more input until its replies were taken.
    pub(crate) paused: bool,
    /// On the ready list.
    pub(crate) ready: bool,
    /// On the list of connections to flush.
    pub(crate) flush: bool,
}

/// A connection. Idle, it owns no buffer.
pub(crate) struct Conn {
    pub(crate) stream: Stream,
    pub(crate) endpoint: Endpoint,
    /// What stands between the two; none for plain TCP.
    pub(crate) transport: Option<Box<Transport>>,
    pub(crate) outbox: Option<Box<Outbox>>,
    /// The deadline of the armed timer; 0 for none.
    pub(crate) timer_ms: u64,
    pub(crate) stage: Stage,
    pub(crate) is: Readiness,
    /// The slot of its listener.
    pub(crate) listener: u16,
}

impl Conn {
    /// True while input may cost a signature.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.transport.as_ref().is_some_and(|transport| transport.is_handshaking())
    }

    /// What the end of a connection of ours means that the other side closed before TLS was agreed on.
    pub(crate) fn cut_short(&self, reason: &CloseReason) -> Option<CloseReason> {
        let cut = *reason == CloseReason::ClosedByClient && self.listener == BRIDGES && self.is_handshaking();
        cut.then(|| CloseReason::Tls("the other broker closed the connection during the handshake".into()))
    }

    /// Bytes that wait in the stages before the socket.
    pub(crate) fn pending(&self) -> usize {
        self.transport.as_ref().map_or(0, |transport| transport.pending())
    }

    /// True when there is something to write.
    pub(crate) fn has_output(&self) -> bool {
        self.outbox.is_some() || self.pending() > 0
    }

    /// True when everything the peer sent before it ended the connection was used: why the connection ends.
    pub(crate) fn ended(&self) -> Option<&CloseReason> {
        self.transport.as_ref()?.ended()
    }

    /// Until when the peer must have taken what it is sent instead of what its endpoint has; `None` when that is nothing.
    pub(crate) fn serving_until(&self) -> Option<u64> {
        self.transport.as_ref()?.serving_until()
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        match self.stage {
            Stage::Open => self.serving_until().or_else(|| self.endpoint.deadline()),
            Stage::Draining { until_s } => Some(u64::from(until_s) * 1000),
            Stage::Closed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_connection_is_at_most_128_bytes() {
        // With debug assertions `mio` keeps more than the descriptor in its sockets.
        let extra = size_of::<Stream>() - 8;
        assert!(size_of::<Conn>() - extra <= 128, "{} with {extra}", size_of::<Conn>());
    }
}

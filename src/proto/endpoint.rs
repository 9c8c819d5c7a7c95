//! What speaks on a connection, behind one closed type: the loop makes the same calls whatever the listener's protocol.

#[cfg(feature = "metrics")]
use super::metrics::Metrics;
use super::peer::Connection;
use super::{Bridge, CloseReason, Flow, Peer, Server, Turn};
use crate::broker::SessionId;
use crate::broker::auth::Identity;
use crate::broker::auth::login::Verdict;
use crate::config::Protocol;
use crate::timer::Now;

/// The endpoint of one connection `[conf: protocol]`.
pub enum Endpoint {
    /// An MQTT client.
    Mqtt(Server),
    /// Whoever watches the broker. Boxed: there are few, and every connection has the size of the largest.
    #[cfg(feature = "metrics")]
    Metrics(Box<Metrics>),
    /// Another broker, to which we are the client. In a build without bridges there is none.
    Bridge(Box<Bridge>),
}

/// What a flush left behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flushed {
    /// There may be more as soon as the outbox is empty.
    More,
    /// There is no more for now.
    Enough,
    /// There never will be more: the connection ends when the outbox is empty.
    Last,
}

/// What only the loop knows, for [`Endpoint::report`].
#[derive(Clone, Debug, Default)]
pub struct LoopFigures {
    /// Port and open connections of each listener; those on different addresses of one port follow on their own.
    pub listeners: Vec<(u16, u32)>,
    /// The bridges, in the order of the configuration.
    pub bridges: Vec<BridgeFigures>,
}

/// What an operator sees of a bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgeFigures {
    /// The name of the bridge.
    pub name: String,
    /// Where its link stands: `live`, or another word.
    pub state: &'static str,
    /// Messages that wait for the other broker, in flight included.
    pub queued: u64,
    /// Publishes that were sent.
    pub sent: u64,
    /// Publishes that came.
    pub received: u64,
    /// Connections after the first.
    pub reconnects: u64,
    /// Messages that were set aside or refused.
    pub set_aside: u64,
    /// Why the last connection, or attempt, failed; empty when none has.
    pub last_error: String,
}

impl Endpoint {
    /// The endpoint for a connection from `peer` to a listener of this protocol, accepted now.
    #[must_use]
    pub fn new(protocol: Protocol, now: Now, peer: Peer) -> Endpoint {
        match protocol {
            #[cfg(feature = "metrics")]
            Protocol::Metrics => Endpoint::Metrics(Box::new(Metrics::new(now, peer))),
            // In a build without it the configuration refuses it by name.
            #[cfg(not(feature = "metrics"))]
            Protocol::Metrics => Endpoint::Mqtt(Server::new(now, peer)),
            // A listener for MQTT-SN accepts no connections.
            Protocol::Mqtt | Protocol::Websockets | Protocol::MqttSn => Endpoint::Mqtt(Server::new(now, peer)),
        }
    }

    /// Whether it speaks MQTT: only those stand in the counters.
    #[must_use]
    pub fn is_client(&self) -> bool {
        matches!(self, Endpoint::Mqtt(_) | Endpoint::Bridge(_))
    }

    /// Where the peer is.
    #[must_use]
    pub fn peer(&self) -> Peer {
        match self {
            Endpoint::Mqtt(server) => server.peer(),
            Endpoint::Bridge(bridge) => bridge.peer(),
            #[cfg(feature = "metrics")]
            Endpoint::Metrics(metrics) => metrics.peer(),
        }
    }

    /// A proxy says where the peer really is.
    pub fn set_peer(&mut self, peer: Peer) {
        match self {
            Endpoint::Mqtt(server) => server.set_peer(peer),
            // No proxy speaks for a broker that we connected to.
            Endpoint::Bridge(_) => {}
            #[cfg(feature = "metrics")]
            Endpoint::Metrics(metrics) => metrics.set_peer(peer),
        }
    }

    /// A certificate says who the client is; before its first byte. See [`Server::set_identity`].
    pub fn set_identity(&mut self, identity: Option<Identity>) {
        match self {
            Endpoint::Mqtt(server) => server.set_identity(identity),
            Endpoint::Bridge(_) => drop(identity),
            #[cfg(feature = "metrics")]
            Endpoint::Metrics(_) => drop(identity),
        }
    }

    /// The bridge, if it is one.
    pub fn bridge(&mut self) -> Option<&mut Bridge> {
        match self {
            Endpoint::Bridge(bridge) => Some(bridge),
            _ => None,
        }
    }

    /// The session that a client is connected to.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        match self {
            Endpoint::Mqtt(server) => server.session(),
            Endpoint::Bridge(bridge) => bridge.session(),
            #[cfg(feature = "metrics")]
            Endpoint::Metrics(_) => None,
        }
    }

    /// What an operator asks about a connection; `None` for one that is no client's.
    #[must_use]
    pub fn connection(&self, listener_port: u16, waiting_bytes: usize) -> Option<Connection> {
        match self {
            Endpoint::Mqtt(server) => Some(server.connection(listener_port, waiting_bytes)),
            Endpoint::Bridge(bridge) => Some(bridge.connection(waiting_bytes)),
            #[cfg(feature = "metrics")]
            Endpoint::Metrics(_) => None,
        }
    }

    /// When [`Endpoint::on_timer`] has to be called at the latest, in milliseconds.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        match self {
            Endpoint::Mqtt(server) => server.deadline(),
            Endpoint::Bridge(bridge) => bridge.deadline(),
            #[cfg(feature = "metrics")]
            Endpoint::Metrics(metrics) => Some(metrics.deadline()),
        }
    }

    /// True while an answer is due that goes out also when the peer has closed its side.
    #[must_use]
    pub fn is_answering(&self) -> bool {
        match self {
            Endpoint::Mqtt(_) | Endpoint::Bridge(_) => false,
            #[cfg(feature = "metrics")]
            Endpoint::Metrics(metrics) => metrics.is_answering(),
        }
    }

    /// Takes the answer to a login it asked for. After anything but [`Flow::Waiting`] and [`Flow::Close`] input may be read
    /// again.
    pub fn on_login(&mut self, turn: &mut Turn<'_>, verdict: Verdict) -> Flow {
        match self {
            Endpoint::Mqtt(server) => server.on_login(turn, verdict),
            Endpoint::Bridge(_) => Flow::Continue,
            #[cfg(feature = "metrics")]
            Endpoint::Metrics(_) => {
                let _nothing_asked = (turn, verdict);
                Flow::Continue
            }
        }
    }

    /// Takes input; call with no input to go on after [`Flow::Again`] or [`Flow::Paused`].
    pub fn on_bytes(&mut self, turn: &mut Turn<'_>, input: &[u8]) -> Flow {
        match self {
            Endpoint::Mqtt(server) => server.on_bytes(turn, input),
            Endpoint::Bridge(bridge) => bridge.on_bytes(turn, input),
            #[cfg(feature = "metrics")]
            Endpoint::Metrics(metrics) => metrics.on_bytes(turn, input),
        }
    }

    /// Hands over what the endpoint asked for with [`Flow::Report`]. The gauges of the sockets among the broker's counters
    /// are up to date.
    pub fn report(&mut self, turn: &mut Turn<'_>, figures: &LoopFigures) {
        match self {
            Endpoint::Mqtt(_) | Endpoint::Bridge(_) => {
                let _nothing_asked = (turn, figures);
            }
            #[cfg(feature = "metrics")]
            Endpoint::Metrics(metrics) => metrics.report(turn, figures),
        }
    }

    /// Fills the outbox.
    pub fn flush(&mut self, turn: &mut Turn<'_>) -> Flushed {
        match self {
            Endpoint::Mqtt(server) => {
                if server.flush(turn) {
                    Flushed::More
                } else {
                    Flushed::Enough
                }
            }
            Endpoint::Bridge(bridge) => bridge.flush(turn),
            #[cfg(feature = "metrics")]
            Endpoint::Metrics(metrics) => metrics.flush(),
        }
    }

    /// The deadline has passed.
    pub fn on_timer(&mut self, turn: &mut Turn<'_>) -> Flow {
        match self {
            Endpoint::Mqtt(server) => server.on_timer(turn),
            Endpoint::Bridge(bridge) => bridge.on_timer(turn),
            #[cfg(feature = "metrics")]
            Endpoint::Metrics(metrics) => metrics.on_timer(turn),
        }
    }

    /// Ends the connection. True when the peer was told something and should get the time to read it.
    pub fn close(&mut self, turn: &mut Turn<'_>, reason: &CloseReason) -> bool {
        match self {
            Endpoint::Mqtt(server) => {
                server.close(turn, reason);
                !turn.out.is_empty()
            }
            Endpoint::Bridge(bridge) => bridge.close(turn, reason),
            #[cfg(feature = "metrics")]
            Endpoint::Metrics(metrics) => metrics.close(turn, reason),
        }
    }
}

//! Protocol endpoints: they translate between packets and the verbs of the core, one for each connection. Sans-io: bytes
//! and time come in, bytes and decisions go out.

#[cfg_attr(not(feature = "bridge"), path = "bridge_off.rs")]
pub mod bridge;
pub mod client;
pub mod close;
pub mod conformance;
#[cfg_attr(not(feature = "control"), path = "control_off.rs")]
pub mod control;
mod deferred;
pub mod endpoint;
mod fitting;
#[cfg(any(feature = "metrics", feature = "websockets"))]
pub mod http;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod mount;
pub mod outbox;
pub mod peer;
#[cfg_attr(not(feature = "proxy"), path = "proxy_off.rs")]
pub mod proxy;
pub mod server;
#[cfg(feature = "mqttsn")]
pub mod sn;
#[cfg(feature = "websockets")]
pub mod ws;

pub use bridge::Bridge;
pub use close::CloseReason;
pub use endpoint::{BridgeFigures, Endpoint, Flushed, LoopFigures};
pub use outbox::Outbox;
pub use peer::Peer;
pub use server::Server;

use crate::broker::message::Msg;
use crate::broker::{Broker, ConnId};
use crate::config::{Config, Listener};
use crate::timer::Now;

/// What an endpoint is handed each time it may act.
pub struct Turn<'a> {
    /// The time of this wake-up.
    pub now: Now,
    /// The core.
    pub broker: &'a mut Broker,
    /// Where output goes.
    pub out: &'a mut Outbox,
    /// The connection the endpoint serves.
    pub conn: ConnId,
    /// The configuration.
    pub config: &'a Config,
    /// The listener the connection came in on.
    pub listener: &'a Listener,
    /// Work left in this turn: a packet costs 1, and what it causes costs more. At 0 others get their turn.
    pub budget: u32,
}

impl Turn<'_> {
    /// True when the letter of the specifications counts `[conf: strict_conformance]`.
    #[must_use]
    pub fn strict(&self) -> bool {
        self.config.global.strict_conformance
    }

    /// What is left of the message expiry, to be sent on. C Mosquitto takes 0 for none, so in the last second it is 1,
    /// unless the letter counts [MQTT-3.3.2-6].
    #[must_use]
    pub fn expiry_left(&self, msg: &Msg) -> Option<u32> {
        if self.strict() { msg.exact_expiry_left_s(self.now) } else { msg.expiry_left_s(self.now) }
    }

    /// Takes `work` from the budget.
    pub fn charge(&mut self, work: u32) {
        self.budget = self.budget.saturating_sub(work);
    }
}

/// What is to become of a connection after its endpoint acted.
#[derive(Debug)]
pub enum Flow {
    /// All input was used; wait for more.
    Continue,
    /// The budget is used up, or queues need a flush first, and there may be input left: call again next turn, without
    /// new input.
    Again,
    /// The client does not read its replies: read nothing more until [`Outbox::owed`] has sunk, then call again.
    Paused,
    /// A login waits for its answer: read nothing more until [`Endpoint::on_login`] or [`Endpoint::on_timer`] say
    /// something else.
    Waiting,
    /// The endpoint wants what only the loop knows: call [`Endpoint::report`].
    Report,
    /// The connection ends.
    Close(CloseReason),
}

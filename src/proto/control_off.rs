//! `$CONTROL/broker/v1` in a build without it: nobody answers.

use super::Turn;
use super::peer::Connection;
use crate::broker::{Broker, ConnId, SessionId};
use crate::config::Config;
use crate::timer::Now;

/// The API is never on.
#[must_use]
pub fn is_on(_: &Config, _: &str) -> bool {
    false
}

/// Never called, since the API is never on.
pub fn ask(_: &mut Turn<'_>, _: SessionId, _: &[u8]) {}

/// There is nothing to warn of.
#[must_use]
pub fn warning(_: &Config) -> Option<String> {
    None
}

/// What a command could look at.
pub struct Context<'a> {
    /// The time of this wake-up.
    pub now: Now,
    /// The core.
    pub broker: &'a mut Broker,
    /// The configuration.
    pub config: &'a Config,
    /// The table of connections.
    pub connection: &'a dyn Fn(ConnId) -> Option<Connection>,
}

/// No requests.
#[derive(Default)]
pub struct Api {
    _nothing: (),
}

impl Api {
    /// Never called, since no request is taken.
    pub fn take(&mut self, _: Now, _: &mut Broker, _: SessionId, _: Box<[u8]>) {}

    /// Never.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        false
    }

    /// Does nothing.
    pub fn run(&mut self, _: &mut Context<'_>) {}
}

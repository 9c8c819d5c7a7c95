//! Bridges in a build without them: no connection is one.

use super::peer::Connection;
use super::{CloseReason, Flow, Flushed, Peer, Turn};
use crate::broker::SessionId;

/// The endpoint of a connection to another broker.
#[derive(Debug)]
pub enum Bridge {}

#[allow(missing_docs)]
impl Bridge {
    #[must_use]
    pub fn peer(&self) -> Peer {
        match *self {}
    }

    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        match *self {}
    }

    #[must_use]
    pub fn connection(&self, _: usize) -> Connection {
        match *self {}
    }

    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        match *self {}
    }

    pub fn on_bytes(&mut self, _: &mut Turn<'_>, _: &[u8]) -> Flow {
        match *self {}
    }

    pub fn flush(&mut self, _: &mut Turn<'_>) -> Flushed {
        match *self {}
    }

    pub fn on_timer(&mut self, _: &mut Turn<'_>) -> Flow {
        match *self {}
    }

    pub fn close(&mut self, _: &mut Turn<'_>, _: &CloseReason) -> bool {
        match *self {}
    }
}

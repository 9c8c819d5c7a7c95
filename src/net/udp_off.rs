//! MQTT-SN in a build without it: no listener has it, so nothing is ever asked of this.

use std::convert::Infallible;

use mio::Token;

use super::slots::Changes;
use super::{EventLoop, ListenError};
use crate::broker::SnId;
use crate::config::{Config, Listener};
use crate::proto::CloseReason;
use crate::proto::peer::Connection;
use crate::timer::Now;

/// No file is read.
pub type SnFileError = Infallible;

/// No socket.
pub(super) struct Udp;

/// No doors.
pub(super) struct NewDoors;

impl Udp {
    pub(super) fn new(_: [u64; 2]) -> Udp {
        Udp
    }

    pub(super) fn is_empty(&self) -> bool {
        true
    }

    pub(super) fn is_pending(&self) -> bool {
        false
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        None
    }

    pub(super) fn readable(&mut self, _: Token) -> bool {
        false
    }

    pub(super) fn connection(&self, _: SnId) -> Option<Connection> {
        None
    }

    pub(super) fn slot_of(&self, _: SnId) -> Option<u16> {
        None
    }

    pub(super) fn load(_: &Config) -> Result<NewDoors, SnFileError> {
        Ok(NewDoors)
    }

    pub(super) fn set_doors(&mut self, _: NewDoors) {}
}

/// Reads the files that listeners for MQTT-SN name, for `--test-config`.
///
/// # Errors
/// The first that cannot be used.
pub fn check(config: &Config) -> Result<(), SnFileError> {
    Udp::load(config).map(drop)
}

impl EventLoop {
    pub(super) fn receive_datagrams(&mut self, _: Now) {}

    pub(super) fn run_gateway_timers(&mut self, _: Now) {}

    pub(super) fn flush_sn(&mut self, _: Now, _: SnId) {}

    pub(super) fn close_sn(&mut self, _: Now, _: SnId, _: &CloseReason) {}

    /// The configuration refuses such a listener by name.
    pub(super) fn open_gateway(&mut self, _: &Listener) -> Result<(), ListenError> {
        Err(ListenError::too_many())
    }

    pub(super) fn follow_listeners(&mut self, _: Now, _: &Changes) {}

    pub(super) fn close_gateway(&mut self, _: Now) {}
}

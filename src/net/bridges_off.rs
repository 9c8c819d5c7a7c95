//! Bridges in a build without them: the configuration refuses them by name.

use std::sync::Arc;

use mio::Waker;

use super::{Event, EventLoop};
use crate::broker::ConnId;
use crate::proto::{BridgeFigures, CloseReason};
use crate::timer::Now;

/// No bridges.
pub(super) struct Bridges;

impl Bridges {
    pub(super) fn new(_: Arc<Waker>) -> Bridges {
        Bridges
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        None
    }
}

impl EventLoop {
    pub(super) fn open_bridges(&mut self, _: Now) {}

    pub(super) fn reload_bridges(&mut self, _: Now) {}

    pub(super) fn run_bridges(&mut self, _: Now) {}

    pub(super) fn bridge_connected(&mut self, _: Now, _: ConnId) -> bool {
        true
    }

    pub(super) fn bridge_closed(&mut self, _: Now, _: ConnId, _: &CloseReason) {}

    pub(super) fn bridge_figures(&mut self) -> Vec<BridgeFigures> {
        Vec::new()
    }
}

/// There are no events of bridges.
pub(super) fn event(_: &mut EventLoop, _: Now, _: Event) {}

//! WebSockets in a build without them: no connection has such a stage. What the real one offers is the same.

use std::io;

use super::transport::{Arrival, Learned};
use crate::proto::CloseReason;
use crate::timer::Now;

/// A stage that no connection has.
#[derive(Debug)]
pub(super) enum WebSocket {}

impl WebSocket {
    pub(super) fn new() -> Option<Box<WebSocket>> {
        None
    }

    pub(super) fn on_bytes(
        &mut self,
        _: &mut [u8],
        arrival: Arrival<'_>,
        _: &mut Learned,
        _: &mut Vec<u8>,
    ) -> Result<(), CloseReason> {
        let _nothing_to_do = (arrival.now, arrival.config);
        match *self {}
    }

    pub(super) fn is_open(&self) -> bool {
        match *self {}
    }

    pub(super) fn frame(&mut self, _: usize) -> usize {
        match *self {}
    }

    pub(super) fn output(&self) -> &[u8] {
        match *self {}
    }

    pub(super) fn advance(&mut self, _: usize) -> usize {
        match *self {}
    }

    pub(super) fn close(&mut self, _: Now, _: &CloseReason) {
        match *self {}
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        match *self {}
    }

    pub(super) fn next_piece(&mut self, _: Now) -> io::Result<bool> {
        match *self {}
    }
}

//! Stands in for the `$SYS` tree in builds without it.

use super::Broker;
use crate::config::Global;
use crate::timer::Now;

/// The broker's name and version.
pub const VERSION: &str = concat!("mosquitto version ", env!("CARGO_PKG_VERSION"));

/// Nothing is published.
pub(crate) struct Sys;

impl Sys {
    pub(crate) fn new(_now: Now) -> Sys {
        Sys
    }

    pub(crate) fn next_deadline(&self, _settings: &Global) -> Option<u64> {
        None
    }
}

impl Broker {
    /// Does nothing in this build.
    pub fn publish_sys(&mut self, _now: Now) {}

    /// Nobody asks.
    pub fn set_certificate_days(&mut self, _now: Now, _days: Vec<(u16, i64)>) {}

    pub(super) fn follow_sys(&mut self, _old: &Global) {}

    /// Does nothing in this build.
    pub fn publish_log(&mut self, _now: Now, _suffix: &str, _line: &str) {}
}

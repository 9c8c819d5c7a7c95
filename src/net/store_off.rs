//! A build without `persistence`: nothing is kept on disk. See `store` for the real one.

use std::fmt;
use std::sync::Arc;

use mio::Waker;

use crate::broker::Broker;
use crate::config::{Config, Global};
use crate::timer::Now;

/// There is no database to fail.
#[derive(Debug)]
pub enum DatabaseError {}

impl fmt::Display for DatabaseError {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// No database.
pub(super) struct Store;

#[allow(clippy::unused_self, clippy::unnecessary_wraps, clippy::needless_pass_by_value)]
impl Store {
    pub(super) fn open(_: &Config, _: Arc<Waker>, _: &mut Broker, _: Now) -> Result<Store, DatabaseError> {
        Ok(Store)
    }

    pub(super) fn settle(&mut self, _: &mut Broker, _: Now) {}

    pub(super) fn deadline(&self) -> Option<u64> {
        None
    }

    pub(super) fn is_busy(&self) -> bool {
        false
    }

    pub(super) fn synced(&mut self, _: &mut Broker, _: Now) {}

    pub(super) fn record(&mut self, _: &mut Broker, _: Now) {}

    pub(super) fn turn(&mut self, _: &Global, _: &mut Broker, _: Now) {}

    pub(super) fn request(&mut self, _: &mut Broker, _: Now) {
        log::warn!("Warning: There is no database to save: persistence is not part of this build.");
    }

    pub(super) fn reconfigure(&mut self, _: &Global, _: &Broker, _: Now) {}

    pub(super) fn finish(&mut self, _: &mut Broker, _: Now) {}
}

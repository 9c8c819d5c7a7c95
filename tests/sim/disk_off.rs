//! Acknowledgements wait, as with a journal, but nothing is kept.

use mosquitto::broker::Broker;
use mosquitto::timer::Now;

use crate::rng::Rng;

/// Without persistence a broker that dies has nothing to come back with.
pub(crate) const CRASHES: bool = false;

pub(crate) struct Store;

impl Store {
    pub(crate) fn new(_: u64, broker: &mut Broker) -> Store {
        broker.changes().start_journal();
        Store
    }

    pub(crate) fn trouble(&mut self, _: &mut Rng, _: bool) {}

    pub(crate) fn sync(&mut self, broker: &mut Broker) {
        let (_, seq) = broker.changes().take(Vec::new());
        broker.set_synced(seq);
    }

    pub(crate) fn snapshot(&mut self, _: &mut Broker, _: Now, _: &mut Rng) {}

    pub(crate) fn restart(&mut self, _: &mut Broker, _: Now, _: bool) {}
}

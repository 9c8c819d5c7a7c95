//! What the tables hold at this moment, for `$SYS` and the metrics page alike.

use super::Broker;
use super::message::{StoreSize, store_size};
use super::stats::Stats;
use crate::timer::Now;

/// The counters and the sizes of the tables.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// The counters.
    pub stats: Stats,
    /// Sessions known by client id: connected and offline.
    pub sessions: u64,
    /// Subscriptions that are not shared.
    pub subscriptions: u64,
    /// Shared subscriptions.
    pub shared_subscriptions: u64,
    /// Retained messages, `$SYS` included.
    pub retained: u64,
    /// Messages alive: retained, queued and in flight.
    pub store: StoreSize,
}

impl Broker {
    /// Everything that is known without a walk. The gauges of the sockets are as the loop set them last.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let (subscriptions, shared_subscriptions) = self.subscription_counts();
        Figures {
            stats: self.stats,
            sessions: self.sessions.len() as u64,
            subscriptions: subscriptions as u64,
            shared_subscriptions: shared_subscriptions as u64,
            retained: self.retained.len() as u64,
            store: store_size(),
        }
    }

    /// Sessions with a connection; looks at every session.
    #[must_use]
    pub fn connected_count(&self) -> u64 {
        self.sessions.iter().filter(|(_, session)| session.online()).count() as u64
    }

    /// When the broker started.
    #[must_use]
    pub fn started(&self) -> Now {
        self.started
    }
}

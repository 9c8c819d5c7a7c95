//! What is known about a bridge before it connects: its configuration and what follows from it.

use super::remap::Remap;
use crate::broker::BridgeSession;
use crate::config::bridge::{Bridge, Direction, StartType};
use crate::wire::{ProtocolVersion, QoS};

/// A bridge as it is configured, with its names. Shared by whoever keeps the link and the connection itself.
#[derive(Debug)]
pub struct Profile {
    /// The configuration.
    pub config: Bridge,
    /// The client id of its session at this broker.
    pub local_id: String,
    /// The client id at the other broker.
    pub remote_id: String,
    /// Where its state is published, on both sides.
    pub state_topic: String,
    /// Nothing is kept at this side while the link is down.
    pub local_clean: bool,
    /// The names of the topics on both sides.
    pub remap: Remap,
    /// What is sent to the other broker: each local filter once, with the highest QoS.
    filters: Vec<(Box<str>, QoS)>,
}

impl Profile {
    /// Works out everything for a machine of this name.
    #[must_use]
    pub fn new(config: Bridge, hostname: &str) -> Profile {
        let mut filters: Vec<(Box<str>, QoS)> = Vec::new();
        for topic in config.topics.iter().filter(|topic| topic.direction != Direction::In) {
            let filter = topic.local_filter();
            match filters.iter_mut().find(|(known, _)| **known == *filter) {
                Some((_, qos)) => *qos = topic.qos.max(*qos),
                None => filters.push((filter.into(), topic.qos)),
            }
        }
        Profile {
            local_id: config.local_id(hostname),
            remote_id: config.remote_id(hostname),
            state_topic: config.state_topic(hostname),
            local_clean: config.local_clean_session.unwrap_or(config.clean_session),
            remap: Remap::new(&config.topics),
            filters,
            config,
        }
    }

    /// The session at this broker, as the core wants it.
    #[must_use]
    pub fn session(&self, version: ProtocolVersion) -> BridgeSession<'_> {
        BridgeSession {
            client_id: &self.local_id,
            clean: self.local_clean,
            keeps_qos0: self.config.start_type == StartType::Lazy,
            version,
            filters: &self.filters,
        }
    }

    /// Whether the other broker is told of the state.
    #[must_use]
    pub fn notifies_remote(&self) -> bool {
        self.config.notifications && !self.config.notifications_local_only
    }
}

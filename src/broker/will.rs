//! Will messages: what a client leaves to be published for it.

use super::message::NewMessage;
use crate::wire::QoS;

/// A will as it was given in CONNECT, mount point included. Its message expiry starts when it is published.
#[derive(Clone, Debug, PartialEq)]
pub struct Will {
    /// The topic name.
    pub topic: Box<str>,
    /// The payload.
    pub payload: Box<[u8]>,
    /// Forwardable v5 properties, encoded.
    pub props: Box<[u8]>,
    /// QoS it is published with.
    pub qos: QoS,
    /// Whether it is published as a retained message.
    pub retain: bool,
    /// Seconds between the end of the connection and the will [MQTT-3.1.3.2.2].
    pub delay_s: u32,
    /// Message expiry in seconds.
    pub expiry_s: Option<u32>,
}

impl Will {
    /// The bytes it takes, roughly.
    #[must_use]
    pub fn size(&self) -> usize {
        self.topic.len().saturating_add(self.payload.len()).saturating_add(self.props.len())
    }

    /// What is published now; `retain_available` false publishes it without the retain flag.
    #[must_use]
    pub fn to_publish(&self, retain_available: bool) -> NewMessage<'_> {
        NewMessage {
            topic: &self.topic,
            payload: &self.payload,
            qos: self.qos,
            retain: self.retain && retain_available,
            props: &self.props,
            expiry_s: self.expiry_s,
        }
    }
}

//! MQTT bytes to values and back, for versions 3.1, 3.1.1 and 5.0, borrowed from the input. Sans-io: nothing here reads
//! a clock, opens a file or knows a connection.
//!
//! A connection feeds what it read to a [`Framer`], hands each frame to [`connect::decode`] (the first packet) or
//! [`packet::decode`] (all others), and asks a [`DecodeError`] what to answer and what to log.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]
#![cfg_attr(test, allow(clippy::cast_possible_truncation))]

pub mod acks;
pub mod connect;
pub mod control;
pub mod error;
pub mod frame;
pub mod packet;
pub mod props;
pub mod publish;
pub mod reader;
pub mod reason;
pub mod subscribe;
pub mod topic;
pub mod writer;

#[cfg(test)]
mod tests;

pub use error::DecodeError;
pub use frame::{FrameLimits, Framed, Framer};
pub use packet::{Packet, PacketType, Role};
pub use reader::Reader;
pub use reason::ReasonCode;

/// Protocol version of a connection; the number is the protocol level byte of CONNECT.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[repr(u8)]
pub enum ProtocolVersion {
    /// MQTT 3.1 (`MQIsdp`).
    V31 = 3,
    /// MQTT 3.1.1.
    V311 = 4,
    /// MQTT 5.0.
    V5 = 5,
}

/// Quality of service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Default)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0.
    #[default]
    AtMostOnce = 0,
    /// QoS 1.
    AtLeastOnce = 1,
    /// QoS 2.
    ExactlyOnce = 2,
}

impl QoS {
    /// The QoS for its two bits; `None` for 3, which no packet may carry [MQTT-3.3.1-4].
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<QoS> {
        match bits {
            0 => Some(QoS::AtMostOnce),
            1 => Some(QoS::AtLeastOnce),
            2 => Some(QoS::ExactlyOnce),
            _ => None,
        }
    }
}

/// A packet identifier, 1 to 65535 [MQTT-2.2.1-3].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct PacketId(std::num::NonZeroU16);

impl PacketId {
    /// The smallest packet identifier.
    pub const MIN: PacketId = PacketId(std::num::NonZeroU16::MIN);

    /// The identifier with this number; `None` for 0.
    #[must_use]
    pub const fn new(n: u16) -> Option<PacketId> {
        match std::num::NonZeroU16::new(n) {
            Some(n) => Some(PacketId(n)),
            None => None,
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

//! MQTT-SN 1.2: the codec and what speaks it. Sans-io: datagrams and time come in, datagrams and decisions go out.
//!
//! [`wire`] knows bytes only. What a message means stands elsewhere, so that the codec of another version, which numbers
//! every message anew, can stand beside this one.

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

pub mod client;
pub mod wire;

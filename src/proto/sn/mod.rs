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

mod addr;
pub mod client;
mod clients_file;
mod door;
pub mod gateway;
mod limits;
mod predefined;
mod registry;
pub mod wire;

pub use addr::{Addr, Source};
pub use clients_file::ClientList;
pub use door::Door;
pub use gateway::{Client, Gateway};
pub use predefined::{FileError, Predefined};

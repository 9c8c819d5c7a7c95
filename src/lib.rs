//! The product: a small MQTT broker on one poll loop. `main.rs` and every binary call one function of this library,
//! so tests, fuzzers and tools link the same code.
//!
//! Bytes are understood in [`wire`], decisions are made in [`broker`], [`proto`] joins the two for one connection, and
//! only `net` touches sockets. [`config`] is plain data read by all.

pub mod broker;
pub mod cli;
pub mod config;
pub mod digest;
pub mod log_macros;
pub mod logging;
pub mod net;
pub mod os;
#[cfg(feature = "persistence")]
pub mod persist;
pub mod proto;
pub mod slab;
pub mod start;
pub mod thin;
pub mod timer;
#[cfg(feature = "tools")]
pub mod tools;
pub mod wire;

//! Tests from the outside: the built broker, real sockets on loopback, third-party clients.

mod broker;
mod cli;
mod client;
mod debian_clients;
mod endings;
mod hostile;
mod layering;
mod limits;
#[cfg(feature = "sys-tree")] // the heap is watched there
mod memory_limit;
mod packet_cases;
mod paho;
mod real_configs;
mod rumqttc_clients;
mod script;
mod stream;
mod tokens;
mod vectors;

//! Tests from the outside: the built broker, real sockets on loopback, third-party clients.

mod acl;
#[cfg(feature = "bridge")]
mod bridge;
mod broker;
mod cli;
mod client;
#[cfg(feature = "control")]
mod control_api;
#[cfg(all(feature = "persistence", feature = "tools"))]
mod db_files;
mod debian_clients;
mod endings;
#[cfg(all(feature = "persistence", feature = "tools"))]
mod folder;
mod hostile;
#[cfg(all(feature = "persistence", feature = "tools"))]
mod journal;
mod layering;
mod limits;
mod login;
#[cfg(feature = "sys-tree")] // the heap is watched there
mod memory_limit;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "mqttsn")]
mod mqttsn;
mod packet_cases;
mod paho;
#[cfg(feature = "tools")]
mod passwd;
#[cfg(all(feature = "persistence", feature = "tools"))]
mod persistence;
#[cfg(feature = "proxy")]
mod proxy;
mod real_configs;
mod reload;
mod rumqttc_clients;
mod running;
mod script;
#[cfg(feature = "mqttsn")]
mod sn_crowd;
#[cfg(feature = "mqttsn")]
mod sn_peers;
#[cfg(feature = "mqttsn")]
mod sn_procedures;
#[cfg(all(feature = "mqttsn", feature = "tools"))]
mod sn_tools;
mod stream;
mod strict;
#[cfg(feature = "tls")]
mod tls;
mod tokens;
#[cfg(feature = "unix-sockets")]
mod unix_socket;
mod vectors;
#[cfg(feature = "websockets")]
mod websockets;

//! Bridges over bad links, to hostile peers and to clustered brokers: the built broker, real sockets, other brokers from
//! Debian's packages. Small counts here; `make soak` sets the variables for the full ones (`settings.rs`).
//!
//! `MOSQUITTO_UNDER_TEST=/usr/sbin/mosquitto` puts another broker in the place of the bridging one.

#[allow(dead_code)]
#[path = "../it/broker.rs"]
mod broker;
#[allow(dead_code)]
#[path = "../it/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "../sim/rng.rs"]
mod rng;
#[allow(dead_code)]
#[path = "../it/tokens.rs"]
mod tokens;

mod bad_links;
mod clusters;
mod cuts;
mod directory;
mod dns;
mod engines;
mod fake;
mod hostile;
mod latency;
mod namespace;
mod proxy;
mod relay;
mod restarts;
mod rigs;
mod scene;
mod session;
mod settings;
mod traffic;

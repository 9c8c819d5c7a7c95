//! Tests from the outside: the built broker, real sockets on loopback, third-party clients.

mod broker;
mod client;
mod packet_cases;
mod script;
mod tokens;
mod vectors;

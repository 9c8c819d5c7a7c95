//! Integration tests: real broker, real sockets.

mod cli;

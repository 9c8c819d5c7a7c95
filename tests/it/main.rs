//! Integration tests: real broker, real sockets.

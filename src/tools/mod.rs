//! The bodies of the command-line tools; each binary is a few lines around one of them.

pub mod passwd;

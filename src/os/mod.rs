//! What only the operating system knows or may do: clocks, randomness, signals, users, the log of the system. Thin
//! functions with safe signatures, no policy; the only `unsafe` code besides [`thin`](crate::thin).
#![allow(unsafe_code)]

pub mod alloc;
pub mod beneath;
pub mod clock;
pub mod daemon;
pub mod errors;
pub mod hostname;
pub mod interfaces;
pub mod limits;
pub mod local_time;
pub mod notify;
pub mod pidfile;
pub mod private_file;
pub mod random;
pub mod readable;
pub mod replace_file;
pub mod signals;
pub mod syslog;
pub mod terminal;
pub mod umask;
pub mod users;

//! The bodies of the command-line tools; each binary is a few lines around one of them.

#[cfg(feature = "persistence")]
pub mod db_dump;
pub mod passwd;
#[cfg(feature = "mqttsn")]
pub mod sn;

//! Thin macros over the `log` crate for the message types of Mosquitto that have no level of their own. The bottom
//! layer: everything may use it, and the sink (`logging`) tells the types apart by their target.
//!
//! `error`, `warning`, `information` and `debug` are the crate's own `error!`, `warn!`, `info!` and `debug!`.

/// Target of [`notice!`](crate::notice).
pub const NOTICE: &str = "mosquitto::notice";
/// Target of [`log_subscribe!`](crate::log_subscribe).
pub const SUBSCRIBE: &str = "mosquitto::subscribe";
/// Target of [`log_unsubscribe!`](crate::log_unsubscribe).
pub const UNSUBSCRIBE: &str = "mosquitto::unsubscribe";
/// Target of [`log_websockets!`](crate::log_websockets).
pub const WEBSOCKETS: &str = "mosquitto::websockets";

/// Logs a line of type `notice`.
#[macro_export]
macro_rules! notice {
    ($($arg:tt)+) => { log::info!(target: $crate::log_macros::NOTICE, $($arg)+) };
}

/// Logs a line of type `subscribe`.
#[macro_export]
macro_rules! log_subscribe {
    ($($arg:tt)+) => { log::debug!(target: $crate::log_macros::SUBSCRIBE, $($arg)+) };
}

/// Logs a line of type `unsubscribe`.
#[macro_export]
macro_rules! log_unsubscribe {
    ($($arg:tt)+) => { log::debug!(target: $crate::log_macros::UNSUBSCRIBE, $($arg)+) };
}

/// Logs a line of type `websockets`.
#[macro_export]
macro_rules! log_websockets {
    ($($arg:tt)+) => { log::debug!(target: $crate::log_macros::WEBSOCKETS, $($arg)+) };
}

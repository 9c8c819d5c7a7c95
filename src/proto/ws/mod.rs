//! MQTT over WebSockets: the upgrade from HTTP and the frames. A stage below the endpoints, which see a stream of bytes.

pub mod frame;
#[path = "../ws_off.rs"]
mod stage;

pub use stage::{End, Options, Stage};

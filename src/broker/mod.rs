//! The core: sessions, subscriptions, retained messages and queues. It knows neither sockets nor packets nor clocks.

pub mod message;
pub mod retain;
pub mod subs;

use crate::slab::Key;

/// A session, until it ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub Key);

/// Whoever is connected to a session: opaque to the core, which only hands it back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId(pub Key);

//! Where a mechanism of enhanced authentication plugs in [MQTT 4.12]. This broker has none of its own, so that every
//! method is refused with 0x8C; the exchange of AUTH packets around it stands in `proto::server`.

use super::Identity;

/// One run of a mechanism, for one connection.
pub trait Exchange {
    /// Takes the Authentication Data that the client sent and says what comes next.
    fn step(&mut self, data: Option<&[u8]>) -> Step;
}

/// What an [`Exchange`] wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Another packet of the client, which gets this data.
    Continue(Option<Vec<u8>>),
    /// The client is who it says.
    Done {
        /// The user it is; `None` when the mechanism does not tell, and then the rules for user names and passwords hold.
        identity: Option<Identity>,
        /// The last data for the client.
        data: Option<Vec<u8>>,
    },
    /// It is not.
    Refused,
}

/// Begins an exchange by the method a client names; `None` when there is no such method.
pub type Begin = fn(method: &str) -> Option<Box<dyn Exchange>>;

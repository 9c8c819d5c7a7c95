//! One listener as the gateway sees it: its options, the files they name, and who may come in.

use std::net::IpAddr;

use super::addr::Addr;
use super::clients_file::ClientList;
use super::predefined::Predefined;
use crate::broker::auth::login::Proof;
use crate::config::{Listener, SnListener};

/// A listener with `protocol mqtt-sn`, ready for use. Made anew on each reload.
#[derive(Clone, Debug)]
pub struct Door {
    /// The options.
    pub listener: Listener,
    /// Whoever has no user name may connect.
    pub anonymous: bool,
    /// The predefined topic ids.
    pub predefined: Predefined,
    /// Who may connect; `None` is anybody.
    pub clients: Option<ClientList>,
}

/// A client that may not come in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stranger {
    /// It is not on the list, or not from there.
    NotListed,
    /// It has no user name, and anonymous clients are not welcome.
    Anonymous,
}

impl Door {
    /// The options of MQTT-SN.
    #[must_use]
    pub fn sn(&self) -> &SnListener {
        &self.listener.sn
    }

    /// Whether datagrams from there are looked at at all `[conf: mqttsn_allow_from]`.
    pub(super) fn hears(&self, ip: IpAddr) -> bool {
        let networks = &self.sn().allow_from;
        networks.is_empty() || networks.iter().any(|network| network.contains(ip))
    }

    /// Whether a forwarder may be there `[conf: mqttsn_allow_forwarder]`.
    pub(super) fn forwards(&self, ip: IpAddr) -> bool {
        self.sn().forwarders.iter().any(|network| network.contains(ip))
    }

    /// The user that a client acts as, and what says so. MQTT-SN has no passwords: it is the listener that knows.
    ///
    /// # Errors
    /// Why the client may not connect.
    pub(super) fn user(&self, client_id: &str, addr: &Addr) -> Result<(Option<String>, Proof), Stranger> {
        let listed = match &self.clients {
            Some(clients) => clients.admits(client_id, addr).map_err(|()| Stranger::NotListed)?,
            None => None,
        };
        let own = self.sn().use_clientid_as_username.then_some(client_id);
        match listed.or(own).or(self.sn().user.as_deref()) {
            Some(name) => Ok((Some(name.into()), Proof::Listener)),
            None if self.anonymous => Ok((None, Proof::default())),
            None => Err(Stranger::Anonymous),
        }
    }

    /// Text that stands before every topic of its clients.
    pub(super) fn mount(&self) -> &str {
        self.listener.mount_point.as_deref().unwrap_or_default()
    }
}

//! `[conf: mqttsn_clients_file]`: who may connect, from where, and as which user.
//!
//! A line for each client in the shape of the Paho gateway's list: client id, then optionally an address, an address with a
//! port, or a network; `user=NAME` in one of the further columns gives the user name. The other words of that list mean
//! nothing here and are passed over with a warning.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::addr::Addr;
use super::predefined::FileError;
use crate::config::Network;
use crate::wire::reader::utf8;

/// Columns of the Paho gateway without a meaning here.
const PASSED_OVER: [&str; 4] = ["unstableline", "secureconnection", "qos-1", "forwarder"];

/// From where a client may come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Anywhere,
    Net(Network),
    Socket(SocketAddr),
}

/// What is known of one client.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Client {
    place: Place,
    user: Option<Box<str>>,
}

/// The clients that may connect to a listener.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ClientList {
    clients: BTreeMap<Box<str>, Client>,
}

impl ClientList {
    /// Reads a file. Also the lines with words that mean nothing here, each with what to tell about it.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(text: &[u8]) -> Result<(ClientList, Vec<FileError>), FileError> {
        let (mut list, mut warnings) = (ClientList::default(), Vec::new());
        for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let wrong = |what: String| FileError { line: at.saturating_add(1), what };
            let line = utf8(line.trim_ascii()).ok_or_else(|| wrong("the line is not UTF-8 text".into()))?;
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut columns = line.split(',').map(str::trim);
            let id = columns.next().unwrap_or_default();
            if id.is_empty() {
                return Err(wrong("the line begins with no client id".into()));
            }
            let mut client = Client { place: Place::Anywhere, user: None };
            for (column, word) in columns.enumerate() {
                if let Some(name) = word.strip_prefix("user=").filter(|name| !name.is_empty()) {
                    client.user = Some(name.into());
                } else if PASSED_OVER.contains(&word.to_ascii_lowercase().as_str()) {
                    warnings.push(wrong(format!("'{word}' means nothing here and is passed over")));
                } else if column == 0 && (word.is_empty() || word == "*") {
                    client.place = Place::Anywhere;
                } else if column == 0 {
                    client.place = place(word).ok_or_else(|| {
                        wrong(format!("'{word}' is no address, with or without a port, and no network"))
                    })?;
                } else {
                    return Err(wrong(format!("'{word}' is not known; a user name is written user=NAME")));
                }
            }
            if list.clients.insert(id.into(), client).is_some() {
                return Err(wrong(format!("client id '{id}' is there twice")));
            }
        }
        Ok((list, warnings))
    }

    /// Whether a client may connect from there, and as which user.
    ///
    /// # Errors
    /// It may not.
    pub(super) fn admits(&self, client_id: &str, addr: &Addr) -> Result<Option<&str>, ()> {
        let client = self.clients.get(client_id).ok_or(())?;
        let here = match client.place {
            Place::Anywhere => true,
            Place::Net(network) => network.contains(addr.ip()),
            Place::Socket(socket) => Addr::new(socket) == *addr,
        };
        if here { Ok(client.user.as_deref()) } else { Err(()) }
    }
}

fn place(word: &str) -> Option<Place> {
    if let Ok(socket) = word.parse() {
        return Some(Place::Socket(socket));
    }
    if let Ok(ip) = word.parse::<IpAddr>() {
        return Some(Place::Net(Network::host(ip)));
    }
    Network::parse(word).map(Place::Net)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> Addr {
        Addr::new(text.parse().unwrap())
    }

    /// `[conf: mqttsn_clients_file]`
    #[test]
    fn a_client_is_admitted_from_its_place_and_as_its_user() {
        let text = "# ours\nany\nhome, 127.0.0.1\nport,127.0.0.1:5000,unstableLine,user=u\nnet,10.0.0.0/8, user=n\nv6,[::1]:9\nstar,*,user=s\n";
        let (list, warnings) = ClientList::parse(text.as_bytes()).unwrap();
        assert_eq!(
            warnings,
            [FileError { line: 4, what: "'unstableLine' means nothing here and is passed over".into() }]
        );
        for (id, addr, want) in [
            ("any", "1.2.3.4:5", Ok(None)),
            ("home", "127.0.0.1:77", Ok(None)),
            ("home", "127.0.0.2:77", Err(())),
            ("port", "127.0.0.1:5000", Ok(Some("u"))),
            ("port", "127.0.0.1:5001", Err(())),
            ("net", "10.200.0.1:1", Ok(Some("n"))),
            ("net", "11.0.0.1:1", Err(())),
            ("v6", "[::1]:9", Ok(None)),
            ("star", "[::1]:9", Ok(Some("s"))),
            ("nobody", "127.0.0.1:5000", Err(())),
        ] {
            assert_eq!(list.admits(id, &from(addr)), want, "{id} {addr}");
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, line) in
            [(",1.2.3.4", 1), ("a,nowhere", 1), ("a\nb,1.2.3.4,what", 2), ("a\n\na", 3), ("a,1.2.3.4/33", 1)]
        {
            assert_eq!(ClientList::parse(text.as_bytes()).unwrap_err().line, line, "{text}");
        }
        assert!(ClientList::parse(b"\xFF").is_err());
    }
}

//! Who is at the other end, in 20 bytes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The address of a peer, for log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    ip: [u8; 16],
    port: u16,
    v4: bool,
}

impl Peer {
    /// The peer at this address.
    #[must_use]
    pub fn new(addr: SocketAddr) -> Peer {
        let (ip, v4) = match addr.ip() {
            IpAddr::V4(ip) => (ip.to_ipv6_mapped().octets(), true),
            IpAddr::V6(ip) => (ip.octets(), false),
        };
        Peer { ip, port: addr.port(), v4 }
    }

    /// The port without the address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address without the port.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        let ip = std::net::Ipv6Addr::from(self.ip);
        match ip.to_ipv4_mapped().filter(|_| self.v4) {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(ip),
        }
    }
}

/// A connection as an operator sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connection {
    /// The other end.
    pub peer: Peer,
    /// The port of the listener it came in on.
    pub listener_port: u16,
    /// The keepalive in force, in seconds; 0 is none.
    pub keepalive_s: u16,
    /// Bytes that wait for the socket.
    pub waiting_bytes: usize,
}

/// `ADDR:PORT`, without brackets around IPv6, as C Mosquitto prints it.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.ip(), self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_they_came() {
        for (addr, text) in [("127.0.0.1:5", "127.0.0.1:5"), ("[::1]:1883", "::1:1883")] {
            assert_eq!(Peer::new(addr.parse().unwrap()).to_string(), text);
        }
        assert!(size_of::<Peer>() <= 20);
    }
}

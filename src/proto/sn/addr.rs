//! Where a datagram comes from: an address in 22 bytes, and behind a forwarder the node there.

use core::fmt;
use core::hash::Hasher;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use crate::proto::Peer;

/// A UDP address, with the interface that a link-local one belongs to. IPv4 and the IPv6 form of it are the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Addr {
    /// IPv4 as mapped into IPv6.
    ip: [u8; 16],
    /// In halves, so that nothing is wasted on alignment.
    scope: [u16; 2],
    port: u16,
}

impl Addr {
    /// The address of a socket.
    #[must_use]
    pub fn new(addr: SocketAddr) -> Addr {
        let scope = if let SocketAddr::V6(v6) = addr { v6.scope_id() } else { 0 };
        match addr.ip().to_canonical() {
            IpAddr::V4(ip) => Addr { ip: ip.to_ipv6_mapped().octets(), scope: [0; 2], port: addr.port() },
            IpAddr::V6(ip) => Addr { ip: ip.octets(), scope: halves(scope), port: addr.port() },
        }
    }

    /// The address to send to.
    #[must_use]
    pub fn socket_addr(&self) -> SocketAddr {
        match self.ip() {
            ip @ IpAddr::V4(_) => SocketAddr::new(ip, self.port),
            IpAddr::V6(ip) => SocketAddr::V6(SocketAddrV6::new(ip, self.port, 0, self.scope_id())),
        }
    }

    /// The address without the port.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        Ipv6Addr::from(self.ip).to_canonical()
    }

    fn scope_id(&self) -> u32 {
        u32::from(self.scope[0]) << 16 | u32::from(self.scope[1])
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// For log lines and whoever looks at connections.
    #[must_use]
    pub fn peer(&self) -> Peer {
        Peer::new(self.socket_addr())
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.peer())
    }
}

fn halves(n: u32) -> [u16; 2] {
    let [a, b, c, d] = n.to_be_bytes();
    [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
}

/// One client's place: the socket of ours that it talks to, its address or that of its forwarder, and the node id that the
/// forwarder gives it [SN 5.5]; empty without one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source<'a> {
    /// The number of the socket.
    pub socket: u16,
    /// Where datagrams come from and go to.
    pub addr: Addr,
    /// The node behind a forwarder.
    pub node: &'a [u8],
}

impl Source<'_> {
    /// Feeds what tells it apart from others to a hash.
    pub(super) fn hash(&self, hasher: &mut impl Hasher) {
        hasher.write(&self.addr.ip);
        hasher.write_u32(self.addr.scope_id());
        hasher.write_u16(self.addr.port);
        hasher.write_u16(self.socket);
        hasher.write(self.node);
    }
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.addr)?;
        if self.node.is_empty() {
            return Ok(());
        }
        f.write_str("/")?;
        // Opaque to us, so it is shown as numbers; thirty octets are more than any forwarder uses.
        self.node.iter().take(30).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_22_bytes_and_comes_back() {
        assert_eq!(size_of::<Addr>(), 22);
        for text in ["127.0.0.1:5", "[::1]:1884", "[fe80::1%3]:9", "[fe80::1%4294967295]:9"] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(Addr::new(addr).socket_addr(), addr);
        }
        let mapped = Addr::new("[::ffff:1.2.3.4]:7".parse().unwrap());
        assert_eq!(mapped, Addr::new("1.2.3.4:7".parse().unwrap()), "one client has one key");
        let source = Source { socket: 0, addr: mapped, node: &[1, 0xAB] };
        assert_eq!(source.to_string(), "1.2.3.4:7/01ab");
    }
}

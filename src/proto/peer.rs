//! Who is at the other end, in 20 bytes.

use std::cell::RefCell;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// The address of a peer, for log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// The address, or the number of the path in its first two bytes.
    ip: [u8; 16],
    port: u16,
    family: Family,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Family {
    V4,
    V6,
    Unix,
}

thread_local! {
    /// Paths of UNIX sockets; as many as the configuration has ever named, so a peer needs no more than a number.
    static PATHS: RefCell<Vec<Box<str>>> = const { RefCell::new(Vec::new()) };
}

impl Peer {
    /// The peer at this address.
    #[must_use]
    pub fn new(addr: SocketAddr) -> Peer {
        let (ip, family) = match addr.ip() {
            IpAddr::V4(ip) => (ip.to_ipv6_mapped().octets(), Family::V4),
            IpAddr::V6(ip) => (ip.octets(), Family::V6),
        };
        Peer { ip, port: addr.port(), family }
    }

    /// A peer at the UNIX socket with this path. It has no address of its own: as in C Mosquitto it prints as the path,
    /// with port 0.
    #[must_use]
    pub fn unix(path: &Path) -> Peer {
        let path = path.to_string_lossy();
        let index = PATHS.with_borrow_mut(|paths| {
            let known = paths.iter().position(|known| **known == *path);
            known.unwrap_or_else(|| {
                paths.push(path.into());
                paths.len() - 1
            })
        });
        let mut ip = [0; 16];
        if let Some(number) = ip.first_chunk_mut() {
            *number = u16::try_from(index).unwrap_or(u16::MAX).to_be_bytes();
        }
        Peer { ip, port: 0, family: Family::Unix }
    }

    /// The port without the address; 0 at a UNIX socket.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address without the port; none at a UNIX socket.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self.family {
            Family::V4 => Some(IpAddr::V6(Ipv6Addr::from(self.ip)).to_canonical()),
            Family::V6 => Some(IpAddr::V6(Ipv6Addr::from(self.ip))),
            Family::Unix => None,
        }
    }

    /// The address without the port, or the path, for log lines.
    #[must_use]
    pub fn host(&self) -> Host {
        Host(*self)
    }
}

/// See [`Peer::host`].
#[derive(Clone, Copy)]
pub struct Host(Peer);

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.ip() {
            Some(ip) => write!(f, "{ip}"),
            None => {
                let [high, low, ..] = self.0.ip;
                let index = usize::from(u16::from_be_bytes([high, low]));
                PATHS.with_borrow(|paths| f.write_str(paths.get(index).map_or("UNIX socket", |path| path)))
            }
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
        write!(f, "{}:{}", self.host(), self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_they_came() {
        for (addr, text) in
            [("127.0.0.1:5", "127.0.0.1:5"), ("[::1]:1883", "::1:1883"), ("[::ffff:1.2.3.4]:1", "::ffff:1.2.3.4:1")]
        {
            assert_eq!(Peer::new(addr.parse().unwrap()).to_string(), text);
        }
        assert!(size_of::<Peer>() <= 20);
    }

    #[test]
    fn a_unix_socket_prints_as_its_path_with_port_0() {
        let (a, b) = (Peer::unix(Path::new("/run/a")), Peer::unix(Path::new("/run/b")));
        assert_eq!((a.to_string(), b.host().to_string()), ("/run/a:0".into(), "/run/b".into()));
        assert_eq!((Peer::unix(Path::new("/run/a")), a.ip()), (a, None));
        assert_ne!(a, b);
    }
}

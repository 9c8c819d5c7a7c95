//! Datagram sockets: bind, multicast groups, receive and send.
//!
//! Each address of a listener has a socket of its own, which all answers leave from. Each multicast group has another one, bound
//! to the group, so that what came by multicast can be told apart and is never answered by a refusal.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};

use crate::config::{Group, Listener};
use crate::net::listener::{self, ListenError};
use crate::os::interfaces;

/// What the kernel may keep for us while we are busy, if it allows as much.
const RECEIVE_BUFFER: usize = 1 << 20;

/// One datagram socket.
pub(crate) struct DatagramSocket {
    socket: UdpSocket,
    /// What its events carry.
    pub(crate) token: Token,
    /// Its own number.
    pub(crate) number: u16,
    /// The number of the socket that answers leave from: its own, or for a group the one of its address.
    pub(crate) answers: u16,
    /// The slot of its listener.
    pub(crate) listener: u16,
    /// It is bound to a group.
    pub(crate) multicast: bool,
    /// There may be more to receive than the last turn took.
    pub(crate) pending: bool,
    /// Where what is for the groups goes, and by which interface.
    groups: Vec<(SocketAddr, Option<Ipv4Addr>)>,
}

/// An interface as the system wants it named.
#[derive(Clone, Copy)]
struct Interface {
    index: u32,
    v4: Option<Ipv4Addr>,
}

impl DatagramSocket {
    /// Opens every socket of a configured listener. Numbers, tokens and slot are for the caller to fill in: `answers` is the
    /// place in the list of the socket that answers leave from.
    pub(crate) fn open(listener: &Listener) -> Result<Vec<DatagramSocket>, ListenError> {
        let mut sockets: Vec<DatagramSocket> = Vec::new();
        for addr in listener::addresses(listener)? {
            let family = if addr.is_ipv4() { "ipv4" } else { "ipv6" };
            log::info!("Opening {family} MQTT-SN socket on port {}.", addr.port());
            match open_one(listener, addr, sockets.len()) {
                Ok(opened) => sockets.extend(opened),
                // A machine without IPv6 still serves every address it has.
                Err(error)
                    if listener.host.is_none()
                        && matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {}
                Err(error) => return Err(listener::describe(&error)),
            }
        }
        let served = |group: &&Group| sockets.iter().any(|s| s.groups.iter().any(|(addr, _)| addr.ip() == group.ip));
        let lost = listener.sn.multicast_groups.iter().find(|group| !served(group));
        match lost {
            _ if sockets.is_empty() => Err(ListenError::no_address()),
            Some(group) => Err(ListenError::no_address_for_group(group.ip)),
            None => Ok(sockets),
        }
    }

    /// Has events of this socket reported, with its token.
    pub(crate) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        registry.register(&mut self.socket, self.token, Interest::READABLE)
    }

    /// The opposite.
    pub(crate) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut self.socket)
    }

    /// The next datagram. `None` when there is none.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        // A few errors of datagrams sent before may stand in the way.
        for _ in 0..16 {
            match self.socket.recv_from(buffer) {
                Ok(received) => return Some(received),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) => {}
            }
        }
        None
    }

    /// Sends a datagram, or loses it: whatever matters is sent again.
    pub(crate) fn send(&self, bytes: &[u8], to: SocketAddr) {
        if let Err(error) = self.socket.send_to(bytes, to) {
            log::debug!("A datagram to {to} was lost: {error}");
        }
    }

    /// Sends a datagram to every group.
    pub(crate) fn send_to_groups(&self, bytes: &[u8]) {
        for (group, interface) in &self.groups {
            if let Some(interface) = interface {
                // The only failure is that the interface went away, and then nobody is there.
                let _gone = SockRef::from(&self.socket).set_multicast_if_v4(interface);
            }
            self.send(bytes, *group);
        }
    }
}

/// The socket of one address and those of its groups.
fn open_one(listener: &Listener, addr: SocketAddr, at: usize) -> io::Result<Vec<DatagramSocket>> {
    let sn = &listener.sn;
    let groups: Vec<&Group> = sn.multicast_groups.iter().filter(|group| group.ip.is_ipv4() == addr.is_ipv4()).collect();
    let main = bind(addr, !groups.is_empty())?;
    let port = main.local_addr()?.as_socket().map_or(addr.port(), |local| local.port());
    let own = interface(listener.sn.multicast_interface.as_deref().or(listener.bind_interface.as_deref()))?;
    if addr.is_ipv4() {
        main.set_multicast_loop_v4(sn.multicast_loopback)?;
        main.set_multicast_ttl_v4(sn.multicast_ttl.into())?;
        if let Some(v4) = own.and_then(|own| own.v4) {
            main.set_multicast_if_v4(&v4)?;
        }
    } else {
        main.set_multicast_loop_v6(sn.multicast_loopback)?;
        main.set_multicast_hops_v6(sn.multicast_ttl.into())?;
        if let Some(own) = own {
            main.set_multicast_if_v6(own.index)?;
        }
    }
    let number = u16::try_from(at).unwrap_or(u16::MAX);
    let mut sockets = vec![DatagramSocket::new(main, number, false)];
    for group in groups {
        let by = interface(group.interface.as_deref())?.or(own);
        let index = by.map_or(0, |by| by.index);
        let group_port = group.port.unwrap_or(port);
        let place = match group.ip {
            IpAddr::V4(ip) => SocketAddr::new(ip.into(), group_port),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, group_port, 0, index).into(),
        };
        let socket = bind(place, true)?;
        match group.ip {
            IpAddr::V4(ip) => {
                let by = match by.and_then(|by| by.v4) {
                    Some(v4) => InterfaceIndexOrAddress::Address(v4),
                    None => InterfaceIndexOrAddress::Index(index),
                };
                socket.join_multicast_v4_n(&ip, &by)?;
            }
            IpAddr::V6(ip) => socket.join_multicast_v6(&ip, index)?,
        }
        if let Some(main) = sockets.first_mut() {
            main.groups.push((place, by.and_then(|by| by.v4).filter(|_| place.is_ipv4())));
        }
        sockets.push(DatagramSocket::new(socket, number, true));
    }
    Ok(sockets)
}

impl DatagramSocket {
    fn new(socket: Socket, answers: u16, multicast: bool) -> DatagramSocket {
        let socket = UdpSocket::from_std(socket.into());
        DatagramSocket {
            socket,
            token: Token(0),
            number: 0,
            answers,
            listener: 0,
            multicast,
            pending: true,
            groups: Vec::new(),
        }
    }
}

fn bind(addr: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
        // Only what is for this socket; an older kernel does not know.
        let _older = socket.set_multicast_all_v6(false);
    } else {
        socket.set_multicast_all_v4(false)?;
    }
    // The socket of the address and those of the groups have the same port.
    socket.set_reuse_address(shared)?;
    // Less is what the system allows, and works too.
    let _less = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// An interface by its name or one of its addresses.
fn interface(name: Option<&str>) -> io::Result<Option<Interface>> {
    let Some(name) = name else { return Ok(None) };
    if let Ok(ip) = name.parse::<IpAddr>() {
        return match ip {
            IpAddr::V4(v4) => Ok(Some(Interface { index: 0, v4: Some(v4) })),
            IpAddr::V6(_) => Err(io::Error::other(format!("Name the interface that has the address {ip}"))),
        };
    }
    let index = interfaces::index(name).ok_or_else(|| io::Error::other(format!("Interface {name} does not exist")))?;
    let v4 = interfaces::addresses(name)?.into_iter().find_map(|ip| match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    });
    Ok(Some(Interface { index, v4 }))
}

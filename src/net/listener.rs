//! Listening sockets: bind, accept, and the limits on both.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;

use mio::net::TcpListener;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use super::stream::Stream;
use super::unix::{PathError, UnixSocket};
use crate::config::{self, Listener, SocketDomain};
use crate::proto::Peer;

/// Connections the kernel keeps for us while we are busy.
const BACKLOG: i32 = 4096;

/// A listener could not be opened.
#[derive(Debug)]
pub struct ListenError {
    /// The line that ends a start.
    what: String,
    hint: Option<&'static str>,
}

impl ListenError {
    /// The system refused something that has nothing to do with one listener.
    pub(crate) fn system(error: &io::Error) -> ListenError {
        describe(error)
    }

    /// More listening sockets than the loop can tell apart.
    pub(crate) fn too_many() -> ListenError {
        let what = format!("Error: At most {} listening sockets can be opened.", super::MAX_LISTENERS);
        ListenError { what, hint: Some("Each address that a listener's host name stands for counts as one.") }
    }

    /// A host name without an address that could be used.
    pub(crate) fn no_address() -> ListenError {
        ListenError { what: "Error: No address to listen on.".into(), hint: None }
    }

    /// A group of an address family that the listener does not serve.
    #[cfg(feature = "mqttsn")]
    pub(crate) fn no_address_for_group(group: IpAddr) -> ListenError {
        let what = format!("Error: The listener has no address that goes with the multicast group {group}.");
        ListenError {
            what,
            hint: Some("An IPv4 group needs a listener with an IPv4 address, an IPv6 group one with IPv6."),
        }
    }

    /// No listener could be opened.
    pub(crate) fn nothing_to_listen_on() -> ListenError {
        ListenError { what: "Error: Unable to start any listening sockets, exiting.".into(), hint: None }
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(hint) = self.hint {
            write!(f, "\n{hint}")?;
        }
        Ok(())
    }
}

impl ListenError {
    /// The lines that say which listener a reload could not open, and why.
    pub(crate) fn of(&self, listener: &Listener) -> String {
        let why = ["Error: ", "Error creating listener: "].iter().find_map(|start| self.what.strip_prefix(start));
        let why = why.unwrap_or(&self.what).trim_end_matches('.');
        let hint = self.hint.map(|hint| format!("\n{hint}")).unwrap_or_default();
        format!("Error: Listener {} was not opened: {why}.{hint}", listener.name())
    }
}

/// Where connections come from.
enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixSocket),
}

/// One listening socket; a configured listener may have several.
pub(crate) struct ListenSocket {
    acceptor: Acceptor,
    /// What its events carry.
    pub(crate) token: Token,
    /// The slot of its listener.
    pub(crate) listener: u16,
    pub(crate) port: u16,
    /// There may be more to accept than the last turn took.
    pub(crate) pending: bool,
}

/// What one attempt to accept gave.
pub(crate) enum Accepted {
    Stream(Stream, Peer),
    /// Nobody waits.
    None,
    /// This process or the system has no descriptor left.
    OutOfDescriptors,
}

impl ListenSocket {
    /// Opens every socket of a configured listener. Slot and token are for the caller to fill in.
    pub(crate) fn open(listener: &Listener) -> Result<Vec<ListenSocket>, ListenError> {
        if let Some(path) = &listener.unix_path {
            return open_unix(path).map(|socket| vec![ListenSocket::new(Acceptor::Unix(socket), 0)]);
        }
        let mut sockets = Vec::new();
        let mut last = None;
        for addr in addresses(listener)? {
            let family = if addr.is_ipv4() { "ipv4" } else { "ipv6" };
            match bind(addr) {
                Ok(socket) => {
                    let port = socket.local_addr().map_or(addr.port(), |local| local.port());
                    log::info!("Opening {family} listen socket on port {port}.");
                    sockets.push(ListenSocket::new(Acceptor::Tcp(socket), port));
                }
                // A machine without IPv6 still has a broker on "every address", and a metrics page on its loopback address.
                Err(error)
                    if listener.host.is_none()
                        && matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {}
                Err(error) => {
                    log::info!("Opening {family} listen socket on port {}.", addr.port());
                    last = Some(describe(&error));
                    break;
                }
            }
        }
        match last {
            Some(error) => Err(error),
            None if sockets.is_empty() => Err(ListenError::no_address()),
            None => Ok(sockets),
        }
    }

    fn new(acceptor: Acceptor, port: u16) -> ListenSocket {
        ListenSocket { acceptor, token: Token(0), listener: 0, port, pending: true }
    }

    /// Has events of this socket reported, with its token.
    pub(crate) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        match &mut self.acceptor {
            Acceptor::Tcp(socket) => registry.register(socket, self.token, Interest::READABLE),
            Acceptor::Unix(socket) => registry.register(&mut socket.listener, self.token, Interest::READABLE),
        }
    }

    /// The opposite.
    pub(crate) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match &mut self.acceptor {
            Acceptor::Tcp(socket) => registry.deregister(socket),
            Acceptor::Unix(socket) => registry.deregister(&mut socket.listener),
        }
    }

    /// True when a connection to this address and port of ours could have come in here.
    pub(crate) fn covers(&self, addr: SocketAddr) -> bool {
        let Acceptor::Tcp(socket) = &self.acceptor else { return false };
        socket.local_addr().is_ok_and(|own| {
            let ip = own.ip();
            own.port() == addr.port() && (ip == addr.ip() || (ip.is_unspecified() && ip.is_ipv4() == addr.is_ipv4()))
        })
    }

    pub(crate) fn accept(&self) -> Accepted {
        loop {
            let accepted = match &self.acceptor {
                Acceptor::Tcp(socket) => socket.accept().map(|(stream, addr)| (Stream::Tcp(stream), Peer::new(addr))),
                Acceptor::Unix(socket) => {
                    socket.listener.accept().map(|(stream, _)| (Stream::Unix(stream), Peer::unix(&socket.path)))
                }
            };
            match accepted {
                Ok((stream, peer)) => return Accepted::Stream(stream, peer),
                Err(error) => match (error.kind(), error.raw_os_error()) {
                    (io::ErrorKind::WouldBlock, _) => return Accepted::None,
                    (_, Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)) => {
                        return Accepted::OutOfDescriptors;
                    }
                    // The peer was gone before we came, or a signal came; the next one may be well.
                    (io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted, _) => {}
                    // Linux hands over what befell one connection that waited; those behind it cause no new event.
                    (
                        _,
                        Some(
                            libc::ENETDOWN
                            | libc::EPROTO
                            | libc::ENOPROTOOPT
                            | libc::EHOSTDOWN
                            | libc::ENONET
                            | libc::EHOSTUNREACH
                            | libc::ENETUNREACH
                            | libc::ETIMEDOUT,
                        ),
                    ) => {}
                    _ => return Accepted::None,
                },
            }
        }
    }
}

fn open_unix(path: &Path) -> Result<UnixSocket, ListenError> {
    let shown = path.display();
    log::info!("Opening unix listen socket on path {shown}");
    UnixSocket::open(path, BACKLOG).map_err(|error| {
        let (what, hint) = match error {
            PathError::NotASocket => (
                format!("Error: \"{shown}\" exists and is not a socket."),
                Some("It is left alone: name another path in 'listener 0 PATH', or move it away."),
            ),
            PathError::InUse => (
                format!("Error: Somebody listens on \"{shown}\" already."),
                Some("Is another broker running? Only a socket that nobody uses any more is replaced."),
            ),
            PathError::System(error) => (format!("Error: {}: \"{shown}\"", crate::os::errors::describe(&error)), None),
        };
        ListenError { what, hint }
    })
}

pub(super) fn describe(error: &io::Error) -> ListenError {
    let text = match error.raw_os_error() {
        Some(code) => crate::os::errors::text(code),
        None => error.to_string(),
    };
    let hint = (error.kind() == io::ErrorKind::PermissionDenied).then_some(
        "A port below 1024 needs a right of its own, and the broker has given up root before it opens listeners. Give \
         the right to the program with: setcap 'cap_net_bind_service=+ep' /path/to/mosquitto",
    );
    ListenError { what: format!("Error: {text}"), hint }
}

pub(super) fn addresses(listener: &Listener) -> Result<Vec<SocketAddr>, ListenError> {
    let port = listener.port;
    let wanted = |ip: &IpAddr| match listener.socket_domain {
        SocketDomain::Any => true,
        SocketDomain::Ipv4 => ip.is_ipv4(),
        SocketDomain::Ipv6 => ip.is_ipv6(),
    };
    let mut ips: Vec<IpAddr> = match &listener.host {
        // Without access control, so for this machine only unless a host says otherwise.
        None if listener.protocol == config::Protocol::Metrics => {
            vec![IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)]
        }
        None => vec![IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)],
        Some(host) => (host.as_str(), port)
            .to_socket_addrs()
            .map_err(|error| ListenError { what: format!("Error creating listener: {error}."), hint: None })?
            .map(|addr| addr.ip())
            .collect(),
    };
    ips.retain(wanted);
    ips.dedup();
    if let Some(interface) = &listener.bind_interface {
        let own = crate::os::interfaces::addresses(interface)
            .map_err(|error| ListenError { what: format!("Error: {error}"), hint: None })?;
        if own.is_empty() {
            return Err(ListenError { what: format!("Error: Interface {interface} does not exist."), hint: None });
        }
        if listener.host.is_none() {
            ips = own.into_iter().filter(wanted).collect();
        } else {
            let host = listener.host.as_deref().unwrap_or_default();
            ips.retain(|ip| own.contains(ip));
            if ips.is_empty() {
                let what = format!(
                    "Error: Interface address for {interface} does not match specified listener address ({host})."
                );
                return Err(ListenError { what, hint: None });
            }
        }
    }
    Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
}

fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it, which saves a system call each. The loop coalesces writes itself.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_a_reload_could_not_open_is_named_with_the_reason() {
        let listener = Listener::new(80, Some("127.0.0.1".into()));
        let named = |error: &ListenError| error.of(&listener);
        let denied = describe(&io::Error::from_raw_os_error(libc::EACCES));
        let text = named(&denied);
        assert!(
            text.starts_with("Error: Listener 80 on 127.0.0.1 was not opened: Permission denied.\nA port below 1024")
        );
        assert!(text.contains("has given up root") && text.contains("setcap 'cap_net_bind_service=+ep'"));
        for (error, why) in [
            (describe(&io::Error::from_raw_os_error(libc::EMFILE)), "Too many open files."),
            (ListenError { what: "Error creating listener: no such name.".into(), hint: None }, "no such name."),
            (
                ListenError::too_many(),
                "At most 1024 listening sockets can be opened.\nEach address that a listener's host name stands for \
                 counts as one.",
            ),
        ] {
            assert_eq!(named(&error), format!("Error: Listener 80 on 127.0.0.1 was not opened: {why}"));
        }
    }

    #[test]
    fn a_socket_covers_the_addresses_that_lead_to_it() {
        let addr = |text: &str, port: u16| SocketAddr::new(text.parse().unwrap(), port);
        for (host, own, other) in [
            (Some("127.0.0.1"), vec!["127.0.0.1"], vec!["127.0.0.2", "::1"]),
            (Some("::1"), vec!["::1"], vec!["127.0.0.1"]),
            (Some("0.0.0.0"), vec!["127.0.0.1", "192.0.2.1"], vec!["::1"]),
        ] {
            let sockets = ListenSocket::open(&Listener::new(0, host.map(Into::into))).unwrap();
            let covered = |ip: &&str, port| sockets.iter().any(|socket| socket.covers(addr(ip, port)));
            let port = sockets[0].port;
            assert!(own.iter().all(|ip| covered(ip, port)), "{host:?}");
            assert!(!other.iter().any(|ip| covered(ip, port)), "{host:?}");
            assert!(!own.iter().any(|ip| covered(ip, port ^ 1)), "{host:?}");
        }
    }
}

//! A socket and a client on it.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use super::options::Common;
use super::{Failure, TOO_EARLY, USAGE, trace};
use crate::os::signals::{self, Signals};
use crate::os::{clock, readable};
use crate::proto::sn::client::{Client, Event};

/// The largest datagram there is.
const MAX_DATAGRAM: usize = 65_535;

/// What a wait ended with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// Something happened to the client.
    Event(Event),
    /// The time is up.
    Time,
    /// The other descriptor can be read.
    Input,
    /// SIGINT, SIGTERM or SIGHUP.
    Signal,
}

/// A client that speaks through a socket of its own.
pub(super) struct Link {
    pub(super) client: Client,
    socket: UdpSocket,
    /// The gateway's addresses that were not tried yet.
    addresses: Vec<SocketAddr>,
    /// Where datagrams go while nobody is known to be a gateway.
    ask: Option<SocketAddr>,
    gateway: String,
    signals: Signals,
    /// An answer came.
    answered: bool,
    debug: bool,
    buffer: Vec<u8>,
}

impl Link {
    /// A socket to the gateway, once its name is resolved. Nothing is sent yet.
    pub(super) fn open(common: &Common) -> Result<Link, Failure> {
        let gateway = format!("{}:{}", common.host, common.port);
        let found = (common.host.as_str(), common.port).to_socket_addrs();
        let mut addresses: Vec<SocketAddr> = match found {
            Ok(found) => found.collect(),
            Err(_) => return Err(Failure::new(USAGE, "Unable to connect (Lookup error).")),
        };
        addresses.reverse();
        let Some(address) = addresses.pop() else {
            return Err(Failure::new(USAGE, "Unable to connect (Lookup error)."));
        };
        let signals = Signals::install().and_then(|signals| signals::handle_termination().map(|()| signals));
        let signals = signals.map_err(|error| Failure::io("", &error))?;
        let socket = bind(common, address)?;
        if !common.search {
            socket.connect(address).map_err(|error| Failure::io("", &error))?;
        }
        Ok(Link {
            client: Client::new(common.settings.clone()),
            socket,
            addresses,
            ask: common.search.then_some(address),
            gateway,
            signals,
            answered: false,
            debug: common.debug,
            buffer: vec![0; MAX_DATAGRAM],
        })
    }

    /// The time of the client.
    pub(super) fn now_ms(&self) -> u64 {
        clock::now().mono_ms
    }

    /// Finds a gateway if it has to be asked for, and sends CONNECT.
    pub(super) fn connect(&mut self) -> Result<(), Failure> {
        self.find()?;
        let now_ms = self.now_ms();
        self.client.connect(now_ms);
        Ok(())
    }

    /// Finds a gateway if it has to be asked for. Everything else waits for that.
    pub(super) fn find(&mut self) -> Result<(), Failure> {
        if self.ask.is_some() {
            let now_ms = self.now_ms();
            self.client.search(now_ms, 1);
        }
        while self.ask.is_some() {
            match self.wait(None, None)? {
                Woken::Signal => return Err(Failure::new(TOO_EARLY, "")),
                Woken::Event(Event::Lost) => return Err(self.silence()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Sends what the client has to say, and waits for whatever comes first: an event, the deadline, a signal, or `input`.
    pub(super) fn wait(&mut self, until_ms: Option<u64>, input: Option<BorrowedFd<'_>>) -> Result<Woken, Failure> {
        loop {
            self.flush()?;
            if let Some(event) = self.client.take_event() {
                return Ok(Woken::Event(event));
            }
            let now_ms = self.now_ms();
            if until_ms.is_some_and(|until| until <= now_ms) {
                return Ok(Woken::Time);
            }
            let next = [until_ms, self.client.deadline()].into_iter().flatten().min();
            let limit = next.map(|next| next.saturating_sub(now_ms));
            let fds = [Some(self.signals.as_fd()), Some(self.socket.as_fd()), input];
            let fds: Vec<_> = fds.into_iter().flatten().collect();
            let ready = readable::wait(&fds, limit).map_err(|error| Failure::io("", &error))?;
            if ready & 1 != 0 {
                let signals = self.signals.take();
                if signals.terminate() || signals.reload() {
                    return Ok(Woken::Signal);
                }
            }
            if ready & 2 != 0 {
                self.receive()?;
            } else if ready & 4 != 0 {
                return Ok(Woken::Input);
            }
            let now_ms = self.now_ms();
            if self.client.deadline().is_some_and(|deadline| deadline <= now_ms) {
                self.client.on_timer(now_ms);
            }
        }
    }

    /// What to say of [`Event::Lost`].
    pub(super) fn silence(&self) -> Failure {
        if self.answered {
            return Failure::lost();
        }
        let text = match self.ask {
            Some(_) => {
                format!("Error: No gateway answers at {}. Is it one, and does it join that group?", self.gateway)
            }
            None => format!(
                "Error: {} does not answer. Is there an MQTT-SN gateway, such as a listener with protocol mqtt-sn?",
                self.gateway
            ),
        };
        Failure::new(USAGE, text)
    }

    /// Sends what the client has to say.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        while let Some(datagram) = self.client.take_datagram() {
            if self.debug {
                trace::sending(&self.client.settings().client_id, &datagram);
            }
            let sent = match self.ask {
                Some(address) => self.socket.send_to(&datagram, address),
                None => self.socket.send(&datagram),
            };
            match sent {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => self.refused(&error)?,
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                    return Err(Failure::new(
                        9,
                        format!("Error: {} bytes do not fit into a datagram.", datagram.len()),
                    ));
                }
                // As good as lost on the way: the client repeats what matters.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Failure> {
        let (len, from) = match self.socket.recv_from(&mut self.buffer) {
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return self.refused(&error),
            Err(_) => return Ok(()),
        };
        let Some(datagram) = self.buffer.get(..len) else { return Ok(()) };
        if self.debug {
            trace::received(&self.client.settings().client_id, datagram);
        }
        let now_ms = clock::now().mono_ms;
        if self.ask.is_none() {
            self.answered = true;
            self.client.on_datagram(now_ms, datagram);
            return Ok(());
        }
        self.client.on_datagram(now_ms, datagram);
        if self.client.is_disconnected() {
            // GWINFO: this is a gateway.
            self.socket.connect(from).map_err(|error| Failure::io("", &error))?;
            self.ask = None;
        }
        Ok(())
    }

    /// Nobody has the port open, says the system of the gateway. Its name may have another address; once a gateway has
    /// answered it may come back.
    fn refused(&mut self, error: &io::Error) -> Result<(), Failure> {
        if self.answered {
            return Ok(());
        }
        let Some(next) = self.addresses.pop() else { return Err(Failure::io("", error)) };
        let any: SocketAddr = if next.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = UdpSocket::bind(any).and_then(|socket| socket.connect(next).map(|()| socket));
        self.socket = socket.map_err(|error| Failure::io("", &error))?;
        self.client = Client::new(self.client.settings().clone());
        let now_ms = self.now_ms();
        self.client.connect(now_ms);
        Ok(())
    }
}

fn bind(common: &Common, gateway: SocketAddr) -> Result<UdpSocket, Failure> {
    let any = if gateway.is_ipv4() { "0.0.0.0" } else { "::" };
    let local = common.bind.as_deref().unwrap_or(any);
    let socket = UdpSocket::bind((local, 0));
    let socket = socket.map_err(|error| Failure::io(&format!("Unable to bind to {local}: "), &error))?;
    if common.search {
        // A group or the broadcast address of a network; without the permission sending fails and says so.
        let _for_broadcast = socket.set_broadcast(true);
    }
    Ok(socket)
}

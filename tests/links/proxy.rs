//! A TCP proxy between a bridge and its peer that does what bad links do: reset, fall silent, cut a packet in two, refuse.
//!
//! One thread owns all sockets. A call returns when it has taken effect.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token, Waker};

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
/// Bytes that one direction of a link holds at most.
const ROOM: usize = 64 * 1024;

/// Direction of a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Towards {
    Peer,
    Bridge,
}

/// What happened on the line, for comparison with what a bridge says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A connection came.
    Accepted,
    /// The first byte of the peer was handed on: its CONNACK.
    Answered,
    /// A link ended, whoever ended it.
    Ended,
}

enum Order {
    Target(SocketAddr),
    Listen(SocketAddr),
    Refuse,
    Mute(bool),
    Freeze(bool),
    Forget,
    Reset,
    CutAfter(Towards, usize),
    Links(Sender<usize>),
    Events(Sender<Vec<(Instant, Event)>>),
    Stop,
}

/// The proxy; it ends when dropped.
pub(crate) struct Proxy {
    addr: SocketAddr,
    orders: Sender<(Order, Sender<()>)>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on `addr` (port 0 for any) and connects each link to `target`.
    pub(crate) fn start(addr: SocketAddr, target: SocketAddr) -> Proxy {
        let poll = Poll::new().expect("a poll");
        let mut listener = bind(addr).expect("a port to listen on");
        let addr = listener.local_addr().expect("an address");
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("a registration");
        let waker = Waker::new(poll.registry(), WAKER).expect("a waker");
        let (orders, inbox) = channel();
        let state = State {
            poll,
            listener: Some(listener),
            target,
            links: Vec::new(),
            next_token: 2,
            mute: false,
            frozen: false,
            events: Vec::new(),
        };
        let thread = thread::spawn(move || state.run(&inbox));
        Proxy { addr, orders, waker, thread: Some(thread) }
    }

    /// Where it listened first.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// New links go there.
    pub(crate) fn set_target(&self, target: SocketAddr) {
        self.tell(Order::Target(target));
    }

    /// Nobody listens any more: who connects is refused.
    pub(crate) fn refuse(&self) {
        self.tell(Order::Refuse);
    }

    /// Listens, there and nowhere else.
    pub(crate) fn listen(&self, addr: SocketAddr) {
        self.tell(Order::Listen(addr));
    }

    /// While `mute`, who connects is accepted and never hears anything.
    pub(crate) fn set_mute(&self, mute: bool) {
        self.tell(Order::Mute(mute));
    }

    /// While frozen, nothing moves, and nothing is lost.
    pub(crate) fn set_frozen(&self, frozen: bool) {
        self.tell(Order::Freeze(frozen));
    }

    /// The links there are stay open and are silent for ever, as behind a router that has forgotten them. The peer's side
    /// stays open too.
    pub(crate) fn forget(&self) {
        self.tell(Order::Forget);
    }

    /// Ends every link by a reset on both sides.
    pub(crate) fn reset(&self) {
        self.tell(Order::Reset);
    }

    /// Lets so many more bytes through in this direction and resets each link that has had them.
    pub(crate) fn cut_after(&self, towards: Towards, bytes: usize) {
        self.tell(Order::CutAfter(towards, bytes));
    }

    /// How many links there are.
    pub(crate) fn links(&self) -> usize {
        let (sender, answer) = channel();
        self.tell(Order::Links(sender));
        answer.recv().expect("an answer")
    }

    /// What happened so far.
    pub(crate) fn events(&self) -> Vec<(Instant, Event)> {
        let (sender, answer) = channel();
        self.tell(Order::Events(sender));
        answer.recv().expect("an answer")
    }

    fn tell(&self, order: Order) {
        let (sender, done) = channel();
        self.orders.send((order, sender)).expect("a running proxy");
        self.waker.wake().expect("a waker that works");
        done.recv().expect("a running proxy");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let (sender, _) = channel();
        let _ = self.orders.send((Order::Stop, sender));
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A listener that takes a port although links of the last one linger there.
fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    // Another process may hold a port of the host for a moment.
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match TcpListener::bind(addr) {
            Err(_) if Instant::now() < deadline => thread::park_timeout(Duration::from_millis(10)),
            result => return result,
        }
    }
}

/// One direction of a link.
#[derive(Default)]
struct Lane {
    bytes: Vec<u8>,
    ended: bool,
    /// Bytes until the cut.
    left: Option<usize>,
}

struct Link {
    bridge: TcpStream,
    /// `None` while the proxy is mute.
    peer: Option<TcpStream>,
    to_peer: Lane,
    to_bridge: Lane,
    forgotten: bool,
    answered: bool,
}

struct State {
    poll: Poll,
    listener: Option<TcpListener>,
    target: SocketAddr,
    links: Vec<Link>,
    next_token: usize,
    mute: bool,
    frozen: bool,
    events: Vec<(Instant, Event)>,
}

impl State {
    fn run(mut self, inbox: &Receiver<(Order, Sender<()>)>) {
        let mut ready = Events::with_capacity(64);
        loop {
            if self.poll.poll(&mut ready, None).is_err_and(|e| e.kind() != ErrorKind::Interrupted) {
                return;
            }
            while let Ok((order, done)) = inbox.try_recv() {
                if matches!(order, Order::Stop) {
                    return;
                }
                self.obey(order);
                let _ = done.send(());
            }
            self.accept();
            self.pump();
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Target(target) => self.target = target,
            Order::Listen(addr) => {
                self.listener = None;
                let mut listener = bind(addr).expect("the port again");
                self.poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("a registration");
                self.listener = Some(listener);
            }
            Order::Refuse => self.listener = None,
            Order::Mute(mute) => self.mute = mute,
            Order::Freeze(frozen) => self.frozen = frozen,
            Order::Forget => self.links.iter_mut().for_each(|link| link.forgotten = true),
            Order::Reset => {
                for link in self.links.drain(..) {
                    link.reset();
                    self.events.push((Instant::now(), Event::Ended));
                }
            }
            Order::CutAfter(towards, bytes) => {
                for link in &mut self.links {
                    let lane = if towards == Towards::Peer { &mut link.to_peer } else { &mut link.to_bridge };
                    lane.left = Some(bytes);
                }
            }
            Order::Links(answer) => {
                let _ = answer.send(self.links.len());
            }
            Order::Events(answer) => {
                let _ = answer.send(self.events.clone());
            }
            Order::Stop => {}
        }
    }

    fn accept(&mut self) {
        while let Some(Ok((mut bridge, _))) = self.listener.as_ref().map(TcpListener::accept) {
            self.events.push((Instant::now(), Event::Accepted));
            let registry = self.poll.registry();
            let mut register = |stream: &mut TcpStream, registry: &Registry| {
                let _ = stream.set_nodelay(true);
                let token = Token(self.next_token);
                self.next_token += 1;
                registry.register(stream, token, Interest::READABLE | Interest::WRITABLE)
            };
            register(&mut bridge, registry).expect("a registration");
            let mut peer = None;
            if !self.mute {
                // A target that is away ends the link with the first read.
                let mut stream = TcpStream::connect(self.target).expect("a socket");
                register(&mut stream, registry).expect("a registration");
                peer = Some(stream);
            }
            self.links.push(Link {
                bridge,
                peer,
                to_peer: Lane::default(),
                to_bridge: Lane::default(),
                forgotten: false,
                answered: false,
            });
        }
    }

    fn pump(&mut self) {
        if self.frozen {
            return;
        }
        let events = &mut self.events;
        self.links.retain_mut(|link| match link.pump(events) {
            Ok(true) => true,
            Ok(false) => {
                events.push((Instant::now(), Event::Ended));
                false
            }
            Err(_) => {
                link.linger_zero();
                events.push((Instant::now(), Event::Ended));
                false
            }
        });
    }
}

impl Link {
    /// Moves what can be moved. False when both sides have ended; an error when the link is to be reset.
    fn pump(&mut self, events: &mut Vec<(Instant, Event)>) -> io::Result<bool> {
        let Some(peer) = &mut self.peer else {
            return Ok(!swallow(&mut self.bridge));
        };
        if self.forgotten {
            swallow(&mut self.bridge);
            swallow(peer);
            return Ok(true);
        }
        carry(&mut self.bridge, peer, &mut self.to_peer)?;
        let before = self.to_bridge.bytes.len();
        let moved = carry(peer, &mut self.bridge, &mut self.to_bridge)?;
        if !self.answered && (moved > 0 || before > 0) {
            self.answered = true;
            events.push((Instant::now(), Event::Answered));
        }
        // MQTT has no use for a half-closed connection: what one side has sent is delivered, then all ends.
        let over = |lane: &Lane| lane.ended && lane.bytes.is_empty();
        Ok(!over(&self.to_peer) && !over(&self.to_bridge))
    }

    fn linger_zero(&self) {
        for stream in std::iter::once(&self.bridge).chain(&self.peer) {
            let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// Ends it by a reset on both sides.
    fn reset(self) {
        self.linger_zero();
    }
}

/// Reads and drops what there is; true at the end.
fn swallow(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
            Err(_) => return true,
        }
    }
}

/// Moves bytes from one socket to the other until neither can; returns how many were written.
fn carry(from: &mut TcpStream, to: &mut TcpStream, lane: &mut Lane) -> io::Result<usize> {
    let mut buffer = [0; 16 * 1024];
    let mut total = 0;
    loop {
        let mut moved = false;
        if !lane.ended && lane.bytes.len() < ROOM {
            match from.read(&mut buffer) {
                Ok(0) => lane.ended = true,
                Ok(n) => {
                    lane.bytes.extend(&buffer[..n]);
                    moved = true;
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {}
                Err(e) => return Err(e),
            }
        }
        let may = lane.left.unwrap_or(usize::MAX).min(lane.bytes.len());
        if may > 0 {
            match to.write(&lane.bytes[..may]) {
                Ok(n) => {
                    lane.bytes.drain(..n);
                    lane.left = lane.left.map(|left| left - n);
                    total += n;
                    moved = true;
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {}
                Err(e) => return Err(e),
            }
        }
        if lane.left == Some(0) {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if !moved {
            return Ok(total);
        }
    }
}

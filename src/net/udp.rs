//! MQTT-SN in the loop: datagrams in, datagrams out. What they mean is the gateway's business.

mod files;
mod socket;

use mio::{Registry, Token};

use super::slots::{Changes, Slots};
use super::{EventLoop, FIRST_LISTENER, ListenError, MAX_LISTENERS};
use crate::broker::SnId;
use crate::config::{Config, Listener};
use crate::os::alloc;
use crate::proto::CloseReason;
use crate::proto::peer::Connection;
use crate::proto::sn::gateway::{Arrival, Datagrams, To, Turn};
use crate::proto::sn::{Addr, Door, Gateway};
use crate::slab::Slab;
use crate::timer::Now;
use socket::DatagramSocket;

pub use files::SnFileError;

/// Datagrams taken from one socket in one turn; then others get theirs.
const DATAGRAMS_PER_TURN: usize = 256;
/// Tokens of datagram sockets: indices that no connection has, in a generation that no listening socket has.
const FIRST_SOCKET: usize = FIRST_LISTENER + (1 << 22);

/// The gateway and its sockets.
pub(super) struct Udp {
    gateway: Gateway,
    sockets: Vec<DatagramSocket>,
    /// A door for each listener of the configuration.
    doors: Vec<Option<Door>>,
}

/// The doors of a configuration that is not in force yet.
pub(super) struct NewDoors(Vec<Option<Door>>);

impl Udp {
    /// No socket yet.
    pub(super) fn new(hash_keys: [u64; 2]) -> Udp {
        Udp { gateway: Gateway::new(hash_keys), sockets: Vec::new(), doors: Vec::new() }
    }

    /// True when no socket is open.
    pub(super) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// True when a socket may have more to receive.
    pub(super) fn is_pending(&self) -> bool {
        self.sockets.iter().any(|socket| socket.pending)
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.gateway.next_deadline()
    }

    /// Notes that a socket has something; false when the token is none of ours.
    pub(super) fn readable(&mut self, token: Token) -> bool {
        if token.0 < FIRST_SOCKET {
            return false;
        }
        let socket = self.sockets.iter_mut().find(|socket| socket.token == token);
        socket.map(|socket| socket.pending = true).is_some()
    }

    /// A client as an operator sees it.
    pub(super) fn connection(&self, id: SnId) -> Option<Connection> {
        self.gateway.connection(id)
    }

    /// The slot of a client's listener.
    pub(super) fn slot_of(&self, id: SnId) -> Option<u16> {
        self.gateway.door_of(id)
    }

    /// Reads the files that listeners name.
    ///
    /// # Errors
    /// The first that cannot be used; nothing changes then.
    pub(super) fn load(config: &Config) -> Result<NewDoors, SnFileError> {
        files::load(config).map(NewDoors)
    }

    /// Puts them in force, for listeners to be opened.
    pub(super) fn set_doors(&mut self, doors: NewDoors) {
        self.doors = doors.0;
    }

    /// Opens the sockets of a listener whose slot this is, or none.
    pub(super) fn open(&mut self, registry: &Registry, listener: &Listener, slot: u16) -> Result<(), ListenError> {
        let mut opened = DatagramSocket::open(listener)?;
        if self.sockets.len() + opened.len() > MAX_LISTENERS {
            return Err(ListenError::too_many());
        }
        let free = (0..u16::MAX).filter(|number| self.sockets.iter().all(|socket| socket.number != *number));
        let numbers: Vec<u16> = free.take(opened.len()).collect();
        for (socket, number) in opened.iter_mut().zip(&numbers) {
            socket.number = *number;
            socket.answers = numbers.get(usize::from(socket.answers)).copied().unwrap_or_default();
            socket.listener = slot;
            socket.token = Token(FIRST_SOCKET + usize::from(*number));
            socket.register(registry).map_err(|error| ListenError::system(&error))?;
        }
        self.sockets.extend(opened);
        Ok(())
    }

    /// The door of a slot, with the mount point that its clients came with.
    fn door(&self, config: &Config, settings: &Listener) -> Option<Door> {
        let same = |listener: &Listener| {
            Listener { mount_point: settings.mount_point.clone(), ..listener.clone() } == *settings
        };
        let at = config.listeners.iter().position(same)?;
        let door = self.doors.get(at)?.clone()?;
        Some(Door { listener: settings.clone(), ..door })
    }

    /// Follows the clients that came and went.
    fn count(&mut self, slots: &mut Slots) {
        for (slot, came) in self.gateway.take_moves() {
            if came {
                slots.connected(slot);
            } else {
                slots.disconnected(slot);
            }
        }
    }

    /// Sends what the gateway has.
    fn send(&mut self) {
        let sockets = &self.sockets;
        let send = |out: &Datagrams| {
            for datagram in out.iter() {
                let Some(socket) = sockets.iter().find(|socket| socket.number == datagram.socket) else { continue };
                match datagram.to {
                    To::Addr(addr) => socket.send(datagram.bytes, addr.socket_addr()),
                    To::Groups => socket.send_to_groups(datagram.bytes),
                }
            }
        };
        send(&self.gateway.out);
        self.gateway.out.clear();
    }
}

/// Reads the files that listeners for MQTT-SN name, for `--test-config`.
///
/// # Errors
/// The first that cannot be used.
pub fn check(config: &Config) -> Result<(), SnFileError> {
    Udp::load(config).map(drop)
}

impl EventLoop {
    /// Runs `act` with the gateway and everything it may touch, and sends what it has to send.
    fn with_gateway<R>(&mut self, now: Now, act: impl FnOnce(&mut Gateway, &mut Turn<'_>) -> R) -> R {
        self.broker.set_heap(alloc::current_bytes());
        let mut turn = Turn { now, broker: &mut self.broker, config: &self.config };
        let result = act(&mut self.udp.gateway, &mut turn);
        self.udp.count(&mut self.slots);
        if !self.udp.gateway.out.is_empty() {
            self.udp.send();
        }
        result
    }

    /// Takes datagrams, from every socket its share; the rest waits in the kernel for the next turn.
    pub(super) fn receive_datagrams(&mut self, now: Now) {
        for at in 0..self.udp.sockets.len() {
            if !self.udp.sockets[at].pending {
                continue;
            }
            let given = self.work.budget();
            let mut left = given;
            for _ in 0..DATAGRAMS_PER_TURN {
                if left == 0 || self.broker.wants_flush() || self.broker.is_congested() {
                    break;
                }
                let mut scratch = std::mem::take(&mut self.scratch);
                let socket = &self.udp.sockets[at];
                let received = socket.receive(&mut scratch);
                if let Some((len, from)) = received {
                    let (door, multicast, socket) = (socket.listener, socket.multicast, socket.answers);
                    let arrival = Arrival { socket, door, from: Addr::new(from), multicast };
                    let bytes = &scratch[..len];
                    let work = self.with_gateway(now, |gateway, turn| gateway.on_datagram(turn, arrival, bytes));
                    left = left.saturating_sub(work);
                }
                self.scratch = scratch;
                if received.is_none() {
                    self.udp.sockets[at].pending = false;
                    break;
                }
                if self.broker.has_actions() {
                    self.run_closes(now);
                }
            }
            self.work.left = self.work.left.saturating_sub(given - left);
        }
    }

    /// Keepalives, retransmissions and ADVERTISE.
    pub(super) fn run_gateway_timers(&mut self, now: Now) {
        if self.udp.next_deadline().is_some_and(|due| due <= now.mono_ms) {
            self.with_gateway(now, Gateway::on_timers);
        }
    }

    /// Sends a client what its session has for it.
    pub(super) fn flush_sn(&mut self, now: Now, id: SnId) {
        self.with_gateway(now, |gateway, turn| gateway.flush(turn, id));
    }

    /// Ends a client's connection.
    pub(super) fn close_sn(&mut self, now: Now, id: SnId, reason: &CloseReason) {
        self.with_gateway(now, |gateway, turn| gateway.close(turn, id, reason));
    }

    /// Opens a listener that speaks MQTT-SN.
    pub(super) fn open_gateway(&mut self, listener: &Listener) -> Result<(), ListenError> {
        let slot = self.slots.add(listener.clone()).ok_or_else(ListenError::too_many)?;
        if let Err(error) = self.udp.open(self.poll.registry(), listener, slot) {
            self.slots.close(slot);
            return Err(error);
        }
        self.settle_gateway(crate::os::clock::now());
        Ok(())
    }

    /// After a change of the listeners: closes the sockets of those that are gone, with a word to their clients, and gives the
    /// others their options.
    pub(super) fn follow_listeners(&mut self, now: Now, changes: &Changes) {
        for socket in &mut self.udp.sockets {
            if let Some((_, to)) = changes.moved.iter().find(|(from, _)| *from == socket.listener) {
                socket.listener = *to;
            }
        }
        for closed in &changes.closed {
            let slot = closed.slot;
            self.with_gateway(now, |gateway, turn| gateway.close_door(turn, slot));
        }
        let (registry, slots) = (self.poll.registry(), &self.slots);
        self.udp.sockets.retain_mut(|socket| {
            let stays = !slots.is_closed(socket.listener);
            if !stays {
                // The only failure is that it was not registered.
                let _ = socket.deregister(registry);
            }
            stays
        });
        self.settle_gateway(now);
    }

    /// Gives every slot its door and every socket its adverts.
    fn settle_gateway(&mut self, now: Now) {
        // Those that sockets belong to, and those that clients came in by before a mount point was changed.
        let mut slots: Vec<u16> = self.udp.gateway.doors().collect();
        slots.extend(self.udp.sockets.iter().map(|socket| socket.listener));
        for slot in slots.into_iter().filter(|slot| !self.slots.is_closed(*slot)) {
            if let Some(door) = self.udp.door(&self.config, self.slots.settings(slot)) {
                self.udp.gateway.set_door(slot, door);
            }
        }
        let own = self.udp.sockets.iter().filter(|socket| !socket.multicast);
        let sockets: Vec<(u16, u16)> = own.map(|socket| (socket.number, socket.listener)).collect();
        self.with_gateway(now, |gateway, turn| {
            gateway.set_sockets(turn, &sockets);
            gateway.recheck(turn);
        });
    }

    /// Tells every client that the broker stops.
    pub(super) fn close_gateway(&mut self, now: Now) {
        self.with_gateway(now, Gateway::shut_down);
    }
}

/// The indices of connections and of datagram sockets never meet.
const _: () = assert!(FIRST_SOCKET > Slab::<u8>::CAPACITY as usize);

//! The table of listeners as connections see it. Each connection refers to one slot, which holds the settings of its
//! listener and follows the configuration; a slot is used again only when no connection refers to it.
//!
//! ```text
//!            reload: mount point changed, clients there
//!   Open ──────────────────────────────────────────────▶ Former ──▶ Closed
//!    ├── reload: settings changed ──▶ Open                  (listener gone)
//!    └── reload: listener gone ─────▶ Closed
//! ```
//!
//! A connection keeps the mount point it came with: its subscriptions, its will and its queue hold topics with that
//! prefix. Everything else changes under it.

use super::tls::ServerTls;
use crate::config::{Group, Listener, Protocol};

/// The slot of connections that bridges made: it stands for no listener.
pub(super) const BRIDGES: u16 = u16::MAX;

/// Whether connections come in through a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Sockets accept connections for it.
    Open,
    /// The listener is there, with another mount point: only connections from before the change are here.
    Former,
    /// The listener is gone; what is left of its connections is being closed.
    Closed,
}

struct Slot {
    settings: Listener,
    tls: Option<ServerTls>,
    connections: u32,
    state: State,
}

impl Slot {
    fn is_free(&self) -> bool {
        self.state != State::Open && self.connections == 0
    }
}

/// A slot that was closed, as it was before.
#[derive(Debug, PartialEq)]
pub(super) struct Closed {
    pub(super) slot: u16,
    pub(super) name: String,
    pub(super) connections: u32,
}

/// What has to be done to sockets and connections after [`Slots::take_over`].
#[derive(Debug, Default, PartialEq)]
pub(super) struct Changes {
    /// Listeners that are not open yet.
    pub(super) added: Vec<Listener>,
    /// Slots whose sockets and connections have to be closed.
    pub(super) closed: Vec<Closed>,
    /// Sockets of the first slot now accept for the second.
    pub(super) moved: Vec<(u16, u16)>,
    /// Open slots whose settings are not what they were.
    pub(super) changed: Vec<u16>,
}

/// See the module documentation.
pub(super) struct Slots {
    slots: Vec<Slot>,
    /// What holds for connections that came in through no listener.
    none: Listener,
}

impl Default for Slots {
    fn default() -> Self {
        Slots { slots: Vec::new(), none: Listener::new(0, None) }
    }
}

/// True when the sockets of one listener are those of the other, so that they can stay open. Whatever else decides where
/// or how a listener accepts belongs here too.
fn same_sockets(a: &Listener, b: &Listener) -> bool {
    let key = |l: &Listener| (l.port, l.protocol, l.socket_domain);
    key(a) == key(b)
        && a.host == b.host
        && a.bind_interface == b.bind_interface
        && a.unix_path == b.unix_path
        && a.tls.certfile.is_some() == b.tls.certfile.is_some()
        && multicast(a) == multicast(b)
}

/// What the multicast groups of a listener for MQTT-SN are joined with.
fn multicast(listener: &Listener) -> (&[Group], Option<&str>, u8, bool) {
    let sn = &listener.sn;
    (&sn.multicast_groups, sn.multicast_interface.as_deref(), sn.multicast_ttl, sn.multicast_loopback)
}

impl Slots {
    /// A slot for a listener whose sockets are open. `None` when there are too many.
    pub(super) fn add(&mut self, settings: Listener) -> Option<u16> {
        let slot = Slot { settings, tls: None, connections: 0, state: State::Open };
        if let Some(at) = self.slots.iter().position(Slot::is_free) {
            self.slots[at] = slot;
            return u16::try_from(at).ok();
        }
        let index = u16::try_from(self.slots.len()).ok().filter(|index| *index != BRIDGES)?;
        self.slots.push(slot);
        Some(index)
    }

    /// The settings of a slot that is in use, or of none.
    pub(super) fn settings(&self, index: u16) -> &Listener {
        self.slots.get(usize::from(index)).map_or(&self.none, |slot| &slot.settings)
    }

    /// TLS of a slot whose listener speaks it.
    pub(super) fn tls(&self, index: u16) -> Option<&ServerTls> {
        self.slots[usize::from(index)].tls.as_ref()
    }

    /// New connections of a slot begin with this.
    pub(super) fn set_tls(&mut self, index: u16, tls: Option<ServerTls>) {
        self.slots[usize::from(index)].tls = tls;
    }

    /// The slot that takes new connections of a listener.
    pub(super) fn open_slot_of(&self, listener: &Listener) -> Option<u16> {
        let is_open = |slot: &Slot| slot.state == State::Open && slot.settings == *listener;
        (0u16..).zip(&self.slots).find(|(_, slot)| is_open(slot)).map(|(i, _)| i)
    }

    /// True when the listener is gone.
    pub(super) fn is_closed(&self, index: u16) -> bool {
        index != BRIDGES && self.slots.get(usize::from(index)).is_none_or(|slot| slot.state == State::Closed)
    }

    /// Connections of a listener, those with a former mount point included.
    pub(super) fn connections_of(&self, listener: &Listener) -> u32 {
        let same = |slot: &&Slot| slot.state != State::Closed && same_sockets(&slot.settings, listener);
        self.slots.iter().filter(same).map(|slot| slot.connections).sum()
    }

    /// Connections of clients, whatever their listener: those who read the metrics page are none, and get in to see why
    /// others do not.
    pub(super) fn client_connections(&self) -> u32 {
        let clients = self.slots.iter().filter(|slot| slot.settings.protocol != Protocol::Metrics);
        clients.map(|slot| slot.connections).sum()
    }

    /// Counts a connection.
    pub(super) fn connected(&mut self, index: u16) {
        if let Some(slot) = self.slots.get_mut(usize::from(index)) {
            slot.connections += 1;
        }
    }

    /// Counts a connection no more.
    pub(super) fn disconnected(&mut self, index: u16) {
        if let Some(slot) = self.slots.get_mut(usize::from(index)) {
            slot.connections = slot.connections.saturating_sub(1);
        }
    }

    /// Marks a slot as closed again whose sockets could not be watched.
    pub(super) fn close(&mut self, index: u16) {
        if let Some(slot) = self.slots.get_mut(usize::from(index)) {
            slot.state = State::Closed;
        }
    }

    /// True when a connection from a closed slot can go on under this one: nothing differs that a connection has for as
    /// long as it lives.
    pub(super) fn takes_from(&self, index: u16, closed: u16) -> bool {
        let (new, old) = (self.settings(index), self.settings(closed));
        new.protocol == old.protocol
            && new.mount_point == old.mount_point
            && new.tls.certfile.is_some() == old.tls.certfile.is_some()
    }

    /// Makes the table follow the listeners of a new configuration.
    pub(super) fn take_over(&mut self, new: &[Listener]) -> Changes {
        let mut changes = Changes::default();
        let mut current = Vec::new();
        for listener in new {
            let same = |(i, slot): &(u16, &Slot)| {
                slot.state == State::Open && same_sockets(&slot.settings, listener) && !current.contains(i)
            };
            match (0u16..).zip(&self.slots).find(same).map(|(i, _)| i) {
                Some(i) => current.push(self.settle(i, listener, &mut changes)),
                None => changes.added.push(listener.clone()),
            }
        }
        for (i, slot) in (0u16..).zip(&mut self.slots) {
            let heir = new.iter().find(|listener| same_sockets(&slot.settings, listener));
            match (slot.state, heir) {
                (State::Open, _) if current.contains(&i) => continue,
                (State::Former, Some(heir)) => {
                    let mount_point = slot.settings.mount_point.take();
                    slot.settings = Listener { mount_point, ..heir.clone() };
                    continue;
                }
                (State::Former, None) if slot.connections == 0 => continue,
                (State::Open | State::Former, _) => {}
                (State::Closed, _) => continue,
            }
            slot.state = State::Closed;
            // Those who have not said CONNECT yet must not come in by what the rest of the configuration now allows.
            slot.settings.allow_anonymous = Some(false);
            let (name, connections) = (slot.settings.name(), slot.connections);
            changes.closed.push(Closed { slot: i, name, connections });
        }
        changes
    }

    /// Gives an open slot its new settings; returns the slot that new connections go to.
    fn settle(&mut self, index: u16, new: &Listener, changes: &mut Changes) -> u16 {
        let at = usize::from(index);
        if self.slots[at].settings == *new {
            return index;
        }
        if self.slots[at].connections == 0 || self.slots[at].settings.mount_point == new.mount_point {
            self.slots[at].settings = new.clone();
            changes.changed.push(index);
            return index;
        }
        // Whoever came with this mount point before belongs to it again.
        let before = |slot: &Slot| {
            slot.state == State::Former
                && same_sockets(&slot.settings, new)
                && slot.settings.mount_point == new.mount_point
        };
        let former = (0u16..).zip(&mut self.slots).find(|(_, slot)| before(slot));
        let target = match former {
            Some((i, slot)) => {
                (slot.settings, slot.state) = (new.clone(), State::Open);
                Some(i)
            }
            None => self.add(new.clone()),
        };
        let Some(target) = target else { return index };
        self.slots[at].state = State::Former;
        changes.moved.push((index, target));
        changes.changed.push(target);
        target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(port: u16, mount: &str) -> Listener {
        let mount_point = (!mount.is_empty()).then(|| mount.into());
        Listener { mount_point, ..Listener::new(port, None) }
    }

    fn closed(changes: &Changes) -> Vec<(u16, u32)> {
        changes.closed.iter().map(|closed| (closed.slot, closed.connections)).collect()
    }

    fn slots(listeners: &[Listener], connections: u32) -> Slots {
        let mut slots = Slots::default();
        for listener in listeners {
            let index = slots.add(listener.clone()).unwrap();
            (0..connections).for_each(|_| slots.connected(index));
        }
        slots
    }

    #[test]
    fn a_listener_that_stays_takes_new_settings_over() {
        let mut slots = slots(&[listener(1, ""), listener(2, "")], 3);
        let new = Listener { max_connections: Some(9), ..listener(1, "") };
        let changes = slots.take_over(&[listener(2, ""), new.clone()]);
        assert_eq!(changes, Changes { changed: vec![0], ..Changes::default() });
        assert_eq!(slots.settings(0), &new);
        assert_eq!(slots.connections_of(&new), 3);
    }

    #[test]
    fn a_slot_is_used_again_only_when_its_connections_are_gone() {
        let mut slots = slots(&[listener(1, ""), listener(2, "")], 1);
        let changes = slots.take_over(&[listener(1, ""), listener(3, "")]);
        assert_eq!((closed(&changes), &changes.closed[0].name[..]), (vec![(1, 1)], "2 on all addresses"));
        assert_eq!(changes.added, [listener(3, "")]);
        assert!(slots.is_closed(1) && slots.settings(1).allow_anonymous == Some(false));
        assert_eq!(slots.add(listener(3, "")), Some(2), "slot 1 is still referred to");
        slots.disconnected(1);
        assert_eq!(slots.add(listener(4, "")), Some(1));
        assert!(!slots.is_closed(1));
    }

    #[test]
    fn what_makes_other_sockets_makes_another_listener() {
        use crate::config::SocketDomain;
        let old = listener(1, "");
        for new in [
            Listener { host: Some("::1".into()), ..old.clone() },
            Listener { socket_domain: SocketDomain::Ipv4, ..old.clone() },
            Listener { bind_interface: Some("lo".into()), ..old.clone() },
            Listener { protocol: Protocol::Metrics, ..old.clone() },
        ] {
            let changes = slots(std::slice::from_ref(&old), 0).take_over(std::slice::from_ref(&new));
            assert_eq!((closed(&changes), changes.added), (vec![(0, 0)], vec![new]));
        }
        let mut slots = slots(std::slice::from_ref(&old), 0);
        let changes = slots.take_over(&[old.clone(), old.clone()]);
        assert_eq!(changes.added, [old], "a second line is a second listener");
    }

    #[test]
    fn a_connection_keeps_its_mount_point_and_gets_every_other_setting() {
        let mut slots = slots(&[listener(1, "a/")], 2);
        let changes = slots.take_over(&[Listener { max_connections: Some(5), ..listener(1, "b/") }]);
        assert_eq!((changes.moved, changes.changed), (vec![(0, 1)], vec![1]));
        slots.connected(1);
        assert_eq!(slots.settings(0).mount_point.as_deref(), Some("a/"));
        assert_eq!(slots.settings(0).max_connections, Some(5));
        assert_eq!(slots.settings(1).mount_point.as_deref(), Some("b/"));
        for index in [0, 1] {
            assert_eq!(slots.connections_of(slots.settings(index)), 3, "one limit for all of them");
        }
        // And back again: nobody is in a third place.
        let changes = slots.take_over(&[listener(1, "a/")]);
        assert_eq!(changes.moved, [(1, 0)]);
        assert_eq!(slots.settings(1).mount_point.as_deref(), Some("b/"));
        // The listener goes: both go.
        let changes = slots.take_over(&[listener(2, "")]);
        assert_eq!(closed(&changes), [(0, 2), (1, 1)]);
        assert_eq!(slots.connections_of(slots.settings(0)), 0);
    }

    #[test]
    fn without_connections_a_mount_point_just_changes() {
        let mut slots = slots(&[listener(1, "a/")], 0);
        let changes = slots.take_over(&[listener(1, "b/")]);
        assert_eq!((changes.moved, changes.changed), (vec![], vec![0]));
        let mut current = 0;
        for n in 0..100 {
            slots.connected(current);
            let changes = slots.take_over(&[listener(1, &format!("{n}/"))]);
            slots.disconnected(current);
            current = changes.moved[0].1;
        }
        assert_eq!(slots.slots.len(), 2);
    }

    /// A connection of the model: its slot, the port and mount point it came with, and whether it has to leave.
    struct Guest {
        slot: u16,
        port: u16,
        mount: Option<String>,
        leaving: bool,
    }

    #[test]
    fn any_sequence_of_reloads_keeps_connections_with_their_listener() {
        for seed in 1..=200u32 {
            let mut state = seed;
            let mut below = |n: u32| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                state % n
            };
            let mut slots = Slots::default();
            let mut file: Vec<Listener> = Vec::new();
            let mut doors: Vec<(u16, u16)> = Vec::new();
            let mut guests: Vec<Guest> = Vec::new();
            for _ in 0..300 {
                match below(4) {
                    0 | 1 if !doors.is_empty() => {
                        let (port, slot) = doors[below(u32::try_from(doors.len()).unwrap()) as usize];
                        slots.connected(slot);
                        let mount = slots.settings(slot).mount_point.clone();
                        guests.push(Guest { slot, port, mount, leaving: false });
                    }
                    2 if !guests.is_empty() => {
                        let guest = guests.swap_remove(below(u32::try_from(guests.len()).unwrap()) as usize);
                        slots.disconnected(guest.slot);
                    }
                    _ => {
                        file.clear();
                        for port in 1..=4 {
                            if below(3) != 0 {
                                let mount = ["", "a/", "b/"][below(3) as usize];
                                let max_connections = Some(below(100));
                                file.push(Listener { max_connections, ..listener(port, mount) });
                            }
                        }
                        let changes = slots.take_over(&file);
                        for (from, to) in changes.moved {
                            doors.iter_mut().filter(|(_, slot)| *slot == from).for_each(|(_, slot)| *slot = to);
                        }
                        doors.retain(|(_, slot)| !slots.is_closed(*slot));
                        for guest in &mut guests {
                            guest.leaving |= slots.is_closed(guest.slot);
                        }
                        for listener in changes.added {
                            doors.push((listener.port, slots.add(listener).unwrap()));
                        }
                    }
                }
                for guest in &guests {
                    let settings = slots.settings(guest.slot);
                    assert_eq!((settings.port, &settings.mount_point), (guest.port, &guest.mount), "seed {seed}");
                    assert_eq!(slots.is_closed(guest.slot), guest.leaving, "seed {seed}");
                    let now = file.iter().find(|listener| listener.port == guest.port);
                    assert!(guest.leaving || settings.max_connections == now.unwrap().max_connections, "seed {seed}");
                    assert!(!guest.leaving || settings.allow_anonymous == Some(false), "seed {seed}");
                }
                for listener in &file {
                    let (_, door) = doors.iter().find(|(port, _)| *port == listener.port).unwrap();
                    assert_eq!(slots.settings(*door), listener, "seed {seed}");
                    let here = guests.iter().filter(|guest| !guest.leaving && guest.port == listener.port).count();
                    assert_eq!(slots.connections_of(listener) as usize, here, "seed {seed}");
                }
                assert_eq!(doors.len(), file.len(), "seed {seed}");
            }
            assert!(slots.slots.len() <= 4 * 3 + guests.len() + 4, "seed {seed}: {} slots", slots.slots.len());
        }
    }
}

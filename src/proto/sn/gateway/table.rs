//! The clients there are: by key, by address, and by the time they have to be looked at. Also the topic ids of clients that
//! are away and whose session stays.

use std::collections::BTreeMap;

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

use super::super::addr::Source;
use super::super::registry::Registry;
use super::device::Device;
use crate::broker::{Broker, SessionId, SnId};
use crate::slab::{Key, Slab};
use crate::timer::{Entry, Now, Timers};

/// Entries of the attic below which nobody looks whether their sessions are still there.
const ATTIC_KEPT: usize = 64;

/// See the module documentation.
pub(super) struct Table {
    slab: Slab<Device>,
    by_source: HashTable<SnId>,
    timers: Timers,
    hash_keys: [u64; 2],
    attic: BTreeMap<SessionId, Stored>,
    /// The attic is swept when it has so many entries.
    sweep_at: usize,
    /// Clients of each listener, by its number.
    counts: Vec<u32>,
}

/// The topic ids of a session whose client is away, and when it left: another client may have had the session since.
struct Stored {
    registry: Registry,
    since_s: u32,
}

impl Table {
    pub(super) fn new(hash_keys: [u64; 2]) -> Table {
        Table {
            slab: Slab::with_limit(crate::broker::ConnId::PER_KIND),
            by_source: HashTable::new(),
            timers: Timers::default(),
            hash_keys,
            attic: BTreeMap::new(),
            sweep_at: ATTIC_KEPT,
            counts: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn ids(&self) -> Vec<SnId> {
        self.slab.keys().into_iter().map(SnId).collect()
    }

    pub(super) fn of_door(&self, number: u16) -> Vec<SnId> {
        self.slab.iter().filter(|(_, device)| device.door == number).map(|(key, _)| SnId(key)).collect()
    }

    pub(super) fn get(&self, id: SnId) -> Option<&Device> {
        self.slab.get(id.0)
    }

    pub(super) fn get_mut(&mut self, id: SnId) -> Option<&mut Device> {
        self.slab.get_mut(id.0)
    }

    /// Clients of a listener.
    pub(super) fn count_of(&self, number: u16) -> usize {
        self.counts.get(usize::from(number)).map_or(0, |count| *count as usize)
    }

    /// The client at this place.
    pub(super) fn find(&self, from: &Source<'_>) -> Option<SnId> {
        let hash = hash(self.hash_keys, from);
        self.by_source.find(hash, |id| self.slab.get(id.0).is_some_and(|device| device.source() == *from)).copied()
    }

    /// Adds a client whose place nobody has. `None` when the table is full.
    pub(super) fn insert(&mut self, device: Device) -> Option<SnId> {
        let door = usize::from(device.door);
        let id = SnId(self.slab.insert(device).ok()?);
        if self.counts.len() <= door {
            self.counts.resize(door.saturating_add(1), 0);
        }
        self.counts.iter_mut().skip(door).take(1).for_each(|count| *count = count.saturating_add(1));
        self.index(id);
        Some(id)
    }

    fn index(&mut self, id: SnId) {
        let (slab, keys) = (&self.slab, self.hash_keys);
        let hash_of = |id: &SnId| slab.get(id.0).map_or(0, |device| hash(keys, &device.source()));
        self.by_source.insert_unique(hash_of(&id), id, hash_of);
    }

    fn unindex(&mut self, id: SnId) {
        let Some(device) = self.slab.get(id.0) else { return };
        let hash = hash(self.hash_keys, &device.source());
        if let Ok(entry) = self.by_source.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
    }

    pub(super) fn remove(&mut self, id: SnId) -> Option<Device> {
        self.unindex(id);
        let device = self.slab.remove(id.0)?;
        let door = usize::from(device.door);
        self.counts.iter_mut().skip(door).take(1).for_each(|count| *count = count.saturating_sub(1));
        if device.timer_ms != 0 {
            self.forsake();
        }
        if self.by_source.capacity() > 64 && self.by_source.len() < self.by_source.capacity() / 4 {
            let (slab, keys) = (&self.slab, self.hash_keys);
            self.by_source.shrink_to_fit(|id| slab.get(id.0).map_or(0, |device| hash(keys, &device.source())));
        }
        Some(device)
    }

    /// Gives a client another address; nobody else has it.
    pub(super) fn move_to(&mut self, id: SnId, to: &Source<'_>) {
        self.unindex(id);
        if let Some(device) = self.slab.get_mut(id.0) {
            device.move_to(to);
            self.index(id);
        }
    }

    /// Nodes of a forwarder; linear, and only asked when a new one connects.
    pub(super) fn nodes_of(&self, from: &Source<'_>) -> usize {
        let same = |device: &&Device| device.addr() == from.addr && !device.source().node.is_empty();
        self.slab.iter().map(|(_, device)| device).filter(same).count()
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.timers.next_deadline()
    }

    /// Makes sure the client's timer fires in time; an armed one that is early enough stays.
    pub(super) fn arm(&mut self, id: SnId) {
        let Some(device) = self.slab.get_mut(id.0) else { return };
        let Some(deadline) = device.deadline() else { return };
        if device.timer_ms != 0 && device.timer_ms <= deadline {
            return;
        }
        let replaced = device.timer_ms != 0;
        device.timer_ms = deadline;
        self.timers.arm(deadline, id.0.to_bits());
        if replaced {
            self.forsake();
        }
    }

    fn forsake(&mut self) {
        let slab = &self.slab;
        let counts =
            |entry: &Entry| slab.get(Key::from_bits(entry.id)).is_some_and(|d| d.timer_ms == entry.deadline_ms);
        self.timers.forsake(counts);
    }

    /// A client whose timer is due; it has to be armed again.
    pub(super) fn pop_due(&mut self, now: Now) -> Option<SnId> {
        loop {
            let Entry { deadline_ms, id } = self.timers.pop_due(now)?;
            let id = SnId(Key::from_bits(id));
            match self.slab.get_mut(id.0) {
                Some(device) if device.timer_ms == deadline_ms => {
                    device.timer_ms = 0;
                    return Some(id);
                }
                _ => self.timers.dropped_stale(),
            }
        }
    }

    /// Keeps the topic ids of a session that goes on without its client.
    pub(super) fn store(&mut self, broker: &Broker, now: Now, session: SessionId, registry: Registry) {
        let Some(client) = broker.client(now, session).filter(|_| !registry.is_empty()) else { return };
        let since_s = client.since_s;
        self.attic.insert(session, Stored { registry, since_s });
        if self.attic.len() >= self.sweep_at {
            self.attic.retain(|session, stored| {
                broker
                    .client(now, *session)
                    .is_some_and(|client| client.conn.is_none() && client.since_s == stored.since_s)
            });
            self.sweep_at = self.attic.len().saturating_mul(2).max(ATTIC_KEPT);
        }
    }

    /// The topic ids of a session whose client comes back; to be asked before it is connected.
    pub(super) fn restore(&mut self, broker: &Broker, now: Now, session: SessionId) -> Option<Registry> {
        let stored = self.attic.remove(&session)?;
        let same = broker.client(now, session).is_some_and(|c| c.conn.is_none() && c.since_s == stored.since_s);
        same.then_some(stored.registry)
    }

    /// Sessions whose topic ids are kept while their client is away.
    #[cfg(test)]
    pub(super) fn stored(&self) -> usize {
        self.attic.len()
    }

    #[cfg(any(debug_assertions, test))]
    pub(super) fn check_invariants(&self) {
        assert_eq!(self.by_source.len(), self.slab.len());
        for (key, device) in self.slab.iter() {
            assert_eq!(self.find(&device.source()), Some(SnId(key)), "{} is found by its address", device.source());
            if let Some(deadline) = device.deadline() {
                assert!(device.timer_ms != 0 && device.timer_ms <= deadline, "{} is armed", device.source());
            }
        }
    }
}

fn hash(keys: [u64; 2], from: &Source<'_>) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(keys[0], keys[1]);
    from.hash(&mut hasher);
    hasher.finish()
}

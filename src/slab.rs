//! An index-stable slab that grows by chunks, never by doubling, with generations, so that a stale key is recognised.
//! Own code because the key must fit the 32 bits of a mio token on small boards and carry its generation.

/// Bits of a key that hold the index; the rest hold the generation.
const INDEX_BITS: u32 = 22;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;
const GENERATION_MASK: u16 = (1 << (32 - INDEX_BITS)) - 1;
const CHUNK: usize = 64;
/// Slots that are kept however few are in use.
const KEPT: usize = 16 * CHUNK;
const NO_FREE: u32 = u32::MAX;
/// The place of an entry that has retired.
const HELD: u32 = u32::MAX - 1;

/// A key: a 22-bit index and a 10-bit generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(u32);

impl Key {
    /// The key as one number, for tokens and timers.
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// The key with these bits; whether it is valid only [`Slab::get`] can tell.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Key {
        Key(bits)
    }

    /// The index, unique among the living entries of one slab.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0 & INDEX_MASK
    }

    const fn generation(self) -> u32 {
        self.0 >> INDEX_BITS
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.index(), self.generation())
    }
}

enum Slot<T> {
    Taken(T),
    Free { next: u32 },
}

/// A slab of at most 2^22 - 2^10 entries. When most of its slots are free, the chunks without an entry go back; their
/// generations stay.
pub struct Slab<T> {
    /// Those that went back are empty and listed in `released`.
    chunks: Vec<Box<[Slot<T>]>>,
    generations: Vec<u16>,
    /// Entries in each chunk.
    used: Vec<u8>,
    released: Vec<u32>,
    first_free: u32,
    len: u32,
    /// With fewer entries than this, chunks go back. Half of it after each time, so that the search pays off even when
    /// entries are left in every chunk.
    sparse_below: u32,
    limit: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab::new()
    }
}

impl<T> Slab<T> {
    /// The most entries a slab can hold; the indices above are free for other tokens.
    pub const CAPACITY: u32 = (1 << INDEX_BITS) - (1 << 10);

    /// An empty slab; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Slab {
            chunks: Vec::new(),
            generations: Vec::new(),
            used: Vec::new(),
            released: Vec::new(),
            first_free: NO_FREE,
            len: 0,
            sparse_below: 0,
            limit: Self::CAPACITY,
        }
    }

    /// An empty slab for at most `limit` entries.
    #[must_use]
    pub const fn with_limit(limit: u32) -> Self {
        let mut slab = Slab::new();
        slab.limit = if limit < Self::CAPACITY { limit } else { Self::CAPACITY };
        slab
    }

    /// The number of entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// True when there is no entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an entry and returns its key, or gives it back when the slab is full.
    pub fn insert(&mut self, value: T) -> Result<Key, T> {
        if self.first_free == NO_FREE && !self.grow() {
            return Err(value);
        }
        let index = self.first_free;
        let slot = &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK];
        if let Slot::Free { next } = *slot {
            self.first_free = next;
        }
        *slot = Slot::Taken(value);
        self.len += 1;
        self.used[index as usize / CHUNK] += 1;
        Ok(Key(index | u32::from(self.generations[index as usize]) << INDEX_BITS))
    }

    #[cold]
    fn grow(&mut self) -> bool {
        let at = self.released.pop().map_or(self.chunks.len(), |at| at as usize);
        let start = at * CHUNK;
        let Ok(first) = u32::try_from(start) else { return false };
        let Ok(size) = u32::try_from(CHUNK) else { return false };
        if first + size > self.limit {
            return false;
        }
        let chunk =
            (0..size).map(|i| Slot::Free { next: if i + 1 == size { NO_FREE } else { first + i + 1 } }).collect();
        if at == self.chunks.len() {
            self.chunks.push(chunk);
            self.used.push(0);
            self.generations.resize(start + CHUNK, 0);
        } else {
            self.chunks[at] = chunk;
        }
        self.first_free = first;
        let slots = (self.chunks.len() - self.released.len()) * CHUNK;
        self.sparse_below = if slots > KEPT { u32::try_from(slots / 4).unwrap_or(0) } else { 0 };
        true
    }

    /// Frees every chunk without an entry.
    #[cold]
    fn give_back(&mut self) {
        self.sparse_below = self.len / 2;
        let (mut left, mut next) = (NO_FREE, self.first_free);
        while next != NO_FREE {
            let index = next as usize;
            let Slot::Free { next: behind } = &mut self.chunks[index / CHUNK][index % CHUNK] else { break };
            let this = std::mem::replace(&mut next, *behind);
            if self.used[index / CHUNK] != 0 {
                *behind = std::mem::replace(&mut left, this);
            }
        }
        self.first_free = left;
        for (at, (chunk, used)) in (0..).zip(self.chunks.iter_mut().zip(&self.used)) {
            if *used == 0 && !chunk.is_empty() {
                *chunk = Box::default();
                self.released.push(at);
            }
        }
    }

    /// The entry with this key, unless it was removed.
    #[must_use]
    pub fn get(&self, key: Key) -> Option<&T> {
        let index = key.index() as usize;
        if self.generations.get(index).copied().map(u32::from) != Some(key.generation()) {
            return None;
        }
        match self.chunks[index / CHUNK].get(index % CHUNK)? {
            Slot::Taken(value) => Some(value),
            Slot::Free { .. } => None,
        }
    }

    /// The entry with this key for writing, unless it was removed.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let index = key.index() as usize;
        if self.generations.get(index).copied().map(u32::from) != Some(key.generation()) {
            return None;
        }
        match self.chunks[index / CHUNK].get_mut(index % CHUNK)? {
            Slot::Taken(value) => Some(value),
            Slot::Free { .. } => None,
        }
    }

    /// Removes and returns the entry; its key is never valid again until the generations wrap.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        let index = key.index();
        let slot = &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK];
        let Slot::Taken(value) = std::mem::replace(slot, Slot::Free { next: self.first_free }) else { return None };
        let generation = &mut self.generations[index as usize];
        *generation = (*generation + 1) & GENERATION_MASK;
        self.first_free = index;
        self.len -= 1;
        self.used[index as usize / CHUNK] -= 1;
        if self.len < self.sparse_below {
            self.give_back();
        }
        Some(value)
    }

    /// As [`Slab::remove`], but nobody gets the index before [`Slab::release`]: for an entry that others still refer to.
    pub fn retire(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        let index = key.index() as usize;
        let slot = &mut self.chunks[index / CHUNK][index % CHUNK];
        let Slot::Taken(value) = std::mem::replace(slot, Slot::Free { next: HELD }) else { return None };
        let generation = &mut self.generations[index];
        *generation = (*generation + 1) & GENERATION_MASK;
        self.len -= 1;
        Some(value)
    }

    /// Gives the index of an entry that has retired away. Does nothing when it has not.
    pub fn release(&mut self, key: Key) {
        let index = key.index();
        let slot = self.chunks.get_mut(index as usize / CHUNK).and_then(|chunk| chunk.get_mut(index as usize % CHUNK));
        let Some(slot @ Slot::Free { next: HELD }) = slot else { return };
        *slot = Slot::Free { next: self.first_free };
        self.first_free = index;
        self.used[index as usize / CHUNK] -= 1;
        if self.len < self.sparse_below {
            self.give_back();
        }
    }

    /// Every entry with its key, in the order of the indices.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        let slots =
            self.chunks.iter().zip((0u32..).step_by(CHUNK)).flat_map(|(chunk, first)| chunk.iter().zip(first..));
        slots.filter_map(|(slot, index)| match slot {
            Slot::Taken(value) => {
                let generation = self.generations.get(index as usize).copied().unwrap_or_default();
                Some((Key(index | u32::from(generation) << INDEX_BITS), value))
            }
            Slot::Free { .. } => None,
        })
    }

    /// The number of parts for [`Slab::part`].
    #[must_use]
    pub fn parts(&self) -> usize {
        self.chunks.len()
    }

    /// The entries of one part, at most 64, in the order of the indices: a walk that stops and goes on later.
    pub fn part(&self, at: usize) -> impl Iterator<Item = (Key, &T)> {
        let start = at.saturating_mul(CHUNK);
        let generations = self.generations.get(start..).unwrap_or_default();
        let first = u32::try_from(start).unwrap_or(INDEX_MASK);
        self.chunks.get(at).into_iter().flatten().zip(generations).zip(first..).filter_map(
            |((slot, generation), index)| match slot {
                Slot::Taken(value) => Some((Key(index | u32::from(*generation) << INDEX_BITS), value)),
                Slot::Free { .. } => None,
            },
        )
    }

    /// The keys of every entry.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        self.iter().map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_key_stays_dead_when_its_slot_is_reused() {
        let mut slab = Slab::new();
        let a = slab.insert("a").unwrap();
        assert_eq!(slab.remove(a), Some("a"));
        let b = slab.insert("b").unwrap();
        assert_eq!(a.index(), b.index());
        assert_eq!(slab.get(a), None);
        assert_eq!(slab.remove(a), None);
        assert_eq!(slab.get(b), Some(&"b"));
    }

    #[test]
    fn entries_keep_their_keys_while_the_slab_grows() {
        let mut slab = Slab::new();
        let keys: Vec<Key> = (0..1000).map(|i| slab.insert(i).unwrap()).collect();
        for (i, key) in keys.iter().enumerate().filter(|(i, _)| i % 3 == 0) {
            assert_eq!(slab.remove(*key), Some(i));
        }
        assert_eq!(slab.len(), 1000 - 334);
        assert!(slab.iter().all(|(key, value)| keys[*value] == key && value % 3 != 0));
        let again: Vec<Key> = (0..334).map(|i| slab.insert(i).unwrap()).collect();
        assert!(again.iter().all(|key| key.index() < 1024 && slab.get(*key).is_some()));
    }

    #[test]
    fn the_parts_together_are_all() {
        let mut slab = Slab::new();
        let keys: Vec<Key> = (0..200).map(|i| slab.insert(i).unwrap()).collect();
        assert!(keys.iter().step_by(3).all(|key| slab.remove(*key).is_some()));
        slab.insert(7).unwrap();
        let parts: Vec<_> = (0..slab.parts()).flat_map(|at| slab.part(at)).collect();
        assert_eq!(parts, slab.iter().collect::<Vec<_>>());
        assert_eq!(slab.part(slab.parts()).count(), 0);
    }

    #[test]
    fn chunks_without_an_entry_go_back_and_their_keys_stay_dead() {
        let mut slab = Slab::new();
        let allocated = |slab: &Slab<usize>| slab.chunks.iter().filter(|chunk| !chunk.is_empty()).count();
        for round in 0..3 {
            let keys: Vec<Key> = (0..100 * CHUNK).map(|i| slab.insert(i).unwrap()).collect();
            assert_eq!((slab.len(), allocated(&slab), slab.chunks.len()), (100 * CHUNK, 100, 100));
            // One in ten chunks keeps an entry.
            let stays = |i: usize| i % (10 * CHUNK) == 7;
            for (i, key) in keys.iter().enumerate().filter(|(i, _)| !stays(*i)) {
                assert_eq!(slab.remove(*key), Some(i), "in round {round}");
            }
            assert!(allocated(&slab) < 30, "{} chunks", allocated(&slab));
            for (i, key) in keys.iter().enumerate() {
                assert_eq!(slab.get(*key), stays(i).then_some(&i));
                assert_eq!(slab.get_mut(*key).is_some(), stays(i));
            }
            assert!(slab.iter().all(|(key, i)| keys[*i] == key) && slab.iter().count() == 10);
            for (i, key) in keys.iter().enumerate().filter(|(i, _)| stays(*i)) {
                assert_eq!(slab.remove(*key), Some(i));
            }
        }
    }

    #[test]
    fn the_place_of_a_retired_entry_is_free_only_after_its_release() {
        let mut slab = Slab::new();
        let keys: Vec<Key> = (0..20 * CHUNK).map(|i| slab.insert(i).unwrap()).collect();
        assert_eq!((slab.retire(keys[0]), slab.retire(keys[0]), slab.remove(keys[0])), (Some(0), None, None));
        assert!(slab.get(keys[0]).is_none() && slab.len() == 20 * CHUNK - 1 && slab.iter().count() == slab.len());
        assert_ne!(slab.insert(7).unwrap().index(), 0);
        // Nor does its chunk go back.
        for key in &keys[1..] {
            assert!(slab.remove(*key).is_some());
        }
        assert!(!slab.chunks[0].is_empty());
        slab.release(keys[1]);
        slab.release(keys[0]);
        slab.release(keys[0]);
        let again: Vec<Key> = (0..20 * CHUNK).map(|i| slab.insert(i).unwrap()).collect();
        assert_eq!(again.iter().filter(|key| key.index() == 0).count(), 1);
        assert!(again.iter().all(|key| *key != keys[0]) && slab.get(keys[0]).is_none());
        let mut indices: Vec<u32> = slab.keys().iter().map(|key| key.index()).collect();
        indices.dedup();
        assert_eq!(indices.len(), slab.len());
    }

    #[test]
    fn a_full_slab_gives_the_value_back() {
        let mut slab = Slab::new();
        slab.limit = 64;
        for i in 0..64 {
            assert!(slab.insert(i).is_ok());
        }
        assert_eq!(slab.insert(64), Err(64));
    }
}

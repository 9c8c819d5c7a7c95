//! A hash map of small values that are their own keys: it holds the values, the caller knows how to hash and to compare
//! them. As `hashbrown::HashTable`, which it is made of, but it never grows or shrinks as a whole: a table with a million
//! entries would stop everybody for a fifth of a second. It is cut into parts, and grows and shrinks by one part at a time
//! (linear hashing, Litwin 1980): after so many entries the next part in turn is split in two.

use hashbrown::HashTable;

/// Entries for each part at which one more part is made. A part holds up to twice as many, which leaves room in a table of
/// 4,096 slots.
const MOST: usize = 1700;
/// Entries for each part at which there is one less.
const LEAST: usize = MOST / 4;

/// See the module documentation. Allocates nothing while it is empty.
pub(crate) struct Index<T> {
    parts: Vec<HashTable<T>>,
    len: usize,
}

impl<T> Default for Index<T> {
    fn default() -> Index<T> {
        Index { parts: Vec::new(), len: 0 }
    }
}

impl<T: Copy> Index<T> {
    /// The number of entries.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// True when there is no entry.
    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entry with this hash that `is` it.
    pub(crate) fn find(&self, hash: u64, is: impl FnMut(&T) -> bool) -> Option<T> {
        self.parts.get(part_of(hash, self.parts.len()))?.find(hash, is).copied()
    }

    /// Adds an entry that is not there yet. `hash_of` gives the hash of any entry.
    pub(crate) fn insert(&mut self, hash: u64, value: T, hash_of: impl Fn(&T) -> u64) {
        if self.len >= self.parts.len() * MOST {
            self.split(&hash_of);
        }
        let at = part_of(hash, self.parts.len());
        self.parts[at].insert_unique(hash, value, hash_of);
        self.len += 1;
    }

    /// Removes the entry with this hash that `is` it, if it is there.
    pub(crate) fn remove(&mut self, hash: u64, is: impl FnMut(&T) -> bool, hash_of: impl Fn(&T) -> u64) {
        let at = part_of(hash, self.parts.len());
        let Some(part) = self.parts.get_mut(at) else { return };
        let Ok(entry) = part.find_entry(hash, is) else { return };
        entry.remove();
        self.len -= 1;
        if part.capacity() > 256 && part.len() < part.capacity() / 8 {
            part.shrink_to(part.len() * 2, &hash_of);
        }
        if self.len < self.parts.len() * LEAST && self.parts.len() > 1 {
            self.join(&hash_of);
        }
    }

    /// Every entry, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = T> {
        self.parts.iter().flatten().copied()
    }

    /// One more part.
    #[cold]
    fn split(&mut self, hash_of: &impl Fn(&T) -> u64) {
        let count = self.parts.len() + 1;
        let mut new = HashTable::new();
        if let Some(old) = self.parts.get_mut(heir_of(count - 1)) {
            // Hashing is what costs: both get the room at once that they will need before they are split.
            new = HashTable::with_capacity(2 * MOST);
            old.retain(|value| {
                let hash = hash_of(value);
                let goes = part_of(hash, count) == count - 1;
                if goes {
                    new.insert_unique(hash, *value, hash_of);
                }
                !goes
            });
        }
        self.parts.push(new);
    }

    /// One part less.
    #[cold]
    fn join(&mut self, hash_of: &impl Fn(&T) -> u64) {
        let Some(last) = self.parts.pop() else { return };
        let heir = heir_of(self.parts.len());
        let heir = &mut self.parts[heir];
        for value in last {
            heir.insert_unique(hash_of(&value), value, hash_of);
        }
    }
}

/// The part, of so many, for entries with this hash. The tables look at other bits of it.
fn part_of(hash: u64, parts: usize) -> usize {
    let bits = (hash >> 32) as usize;
    let all = parts.next_power_of_two();
    let at = bits & (all - 1);
    if at < parts { at } else { at & ((all / 2).max(1) - 1) }
}

/// The part that has the entries of this part when it is not there.
fn heir_of(part: usize) -> usize {
    part & (((part + 1).next_power_of_two() / 2).max(1) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use siphasher::sip::SipHasher13;
    use std::collections::HashSet;
    use std::hash::Hasher;

    fn hash(value: &u32) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(1, 2);
        hasher.write_u32(*value);
        hasher.finish()
    }

    fn largest(index: &Index<u32>) -> usize {
        index.parts.iter().map(HashTable::len).max().unwrap_or(0)
    }

    #[test]
    fn entries_are_found_while_it_grows_and_shrinks_by_small_parts() {
        let mut index = Index::default();
        assert!(index.is_empty() && index.find(7, |_| true).is_none());
        const COUNT: u32 = 100_000;
        for value in 0..COUNT {
            index.insert(hash(&value), value, hash);
            if value % 977 == 0 {
                assert!((0..=value).step_by(101).all(|known| index.find(hash(&known), |v| *v == known) == Some(known)));
            }
        }
        assert_eq!(index.parts.len(), (COUNT as usize).div_ceil(MOST));
        assert!(largest(&index) < 3 * MOST, "{}", largest(&index));
        assert_eq!(index.iter().collect::<HashSet<_>>().len(), COUNT as usize);
        index.remove(hash(&COUNT), |value| *value == COUNT, hash);
        assert_eq!(index.len(), COUNT as usize, "it was not there");
        for value in 0..COUNT {
            index.remove(hash(&value), |other| *other == value, hash);
            if value % 977 == 0 {
                assert_eq!(index.find(hash(&value), |other| *other == value), None);
                let mut left = (value + 1..COUNT).step_by(101);
                assert!(left.all(|known| index.find(hash(&known), |v| *v == known) == Some(known)));
                assert!(index.parts.len() <= index.len() / LEAST + 1 && largest(&index) < 3 * MOST);
                let room: usize = index.parts.iter().map(HashTable::capacity).sum();
                assert!(room <= 256 * index.parts.len() + 16 * index.len(), "{room} for {}", index.len());
            }
        }
        assert!(index.is_empty() && index.parts.len() == 1 && index.parts[0].capacity() <= 256);
    }

    #[test]
    fn a_part_comes_from_one_and_goes_to_the_same() {
        for count in 2..200 {
            let last = count - 1;
            assert!(heir_of(last) < last);
            for hash in (0..1000u64).map(|n| n << 32) {
                let (before, after) = (part_of(hash, count - 1), part_of(hash, count));
                assert!(before == after || (before == heir_of(last) && after == last), "{count} {before} {after}");
            }
        }
        assert_eq!((part_of(u64::MAX, 0), part_of(u64::MAX, 1)), (0, 0));
    }
}

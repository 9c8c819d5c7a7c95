//! A heap of deadlines. An entry is a hint: it counts only if its owner still stores the same deadline, so arming a
//! timer never searches the heap. Owners report the entries they leave behind, and the heap is rebuilt once those
//! are more than half of it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What time it is, sampled once per wake-up and handed to everyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Now {
    /// Milliseconds of a clock that never jumps. Starts well above 0.
    pub mono_ms: u64,
    /// Seconds since 1970 of the wall clock.
    pub wall_s: u64,
}

/// One armed timer: 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Entry {
    /// When, in milliseconds of [`Now::mono_ms`].
    pub deadline_ms: u64,
    /// Whose: the bits of a slab key.
    pub id: u32,
}

/// A binary heap of [`Entry`]s, earliest first.
#[derive(Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<Entry>>,
    stale: usize,
}

impl Timers {
    /// Adds an entry. The owner stores the same deadline.
    pub fn arm(&mut self, deadline_ms: u64, id: u32) {
        self.heap.push(Reverse(Entry { deadline_ms, id }));
    }

    /// Says that one entry in the heap lost its owner's interest. `counts` tells whether an entry still does; it is only
    /// asked when most entries are stale.
    pub fn forsake(&mut self, counts: impl Fn(&Entry) -> bool) {
        self.stale += 1;
        if self.stale > 64 && self.stale > self.heap.len() / 2 {
            self.heap.retain(|Reverse(entry)| counts(entry));
            self.heap.shrink_to(self.heap.len() * 2);
            self.stale = 0;
        }
    }

    /// The earliest deadline, which may be a stale one.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(entry)| entry.deadline_ms)
    }

    /// Takes the earliest entry that is due. The caller ignores it if the owner's deadline differs, and then calls
    /// [`Timers::dropped_stale`].
    pub fn pop_due(&mut self, now: Now) -> Option<Entry> {
        if self.next_deadline()? > now.mono_ms {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Says that a popped entry was stale.
    pub fn dropped_stale(&mut self) {
        self.stale = self.stale.saturating_sub(1);
    }

    /// Entries in the heap, stale ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// True when nothing is armed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_16_bytes() {
        assert_eq!(std::mem::size_of::<Entry>(), 16);
    }

    #[test]
    fn due_entries_come_in_order_and_not_early() {
        let mut timers = Timers::default();
        for (deadline, id) in [(30, 3), (10, 1), (20, 2)] {
            timers.arm(deadline, id);
        }
        let now = |mono_ms| Now { mono_ms, wall_s: 0 };
        assert_eq!(timers.pop_due(now(9)), None);
        assert_eq!(timers.pop_due(now(25)).map(|e| e.id), Some(1));
        assert_eq!(timers.pop_due(now(25)).map(|e| e.id), Some(2));
        assert_eq!(timers.pop_due(now(25)), None);
        assert_eq!(timers.next_deadline(), Some(30));
    }

    #[test]
    fn a_million_forsaken_timers_leave_the_heap_small() {
        let mut timers = Timers::default();
        for i in 0..1_000_000 {
            timers.arm(65_535_000 + u64::from(i), i);
            timers.forsake(|_| false);
        }
        assert!(timers.len() < 200, "{} entries left", timers.len());
        assert!(timers.heap.capacity() < 1000);
    }
}

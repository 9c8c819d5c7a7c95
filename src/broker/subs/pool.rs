//! A chunked arena of small values addressed by `u32`, and circular doubly linked lists through them. Unlike
//! [`crate::slab`] it keeps no generations: nobody outside `subs` ever holds one of these indices, and a free slot costs
//! nothing beyond the value itself.

use std::marker::PhantomData;

/// No slot.
pub(super) const NONE: u32 = u32::MAX;

const CHUNK: usize = 64;
/// Slots that are kept however few are in use.
const KEPT: usize = 16 * CHUNK;

/// A value that lends a field to the list of free slots while it is not in use.
pub(super) trait Slot: Default {
    /// The field that names the next free slot.
    fn next_free(&mut self) -> &mut u32;
}

/// The neighbours of a value in a circular list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) prev: u32,
    pub(super) next: u32,
}

impl Default for Link {
    fn default() -> Link {
        Link { prev: NONE, next: NONE }
    }
}

/// A circular list; `head` means nothing while `len` is 0.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(super) struct List {
    pub(super) head: u32,
    pub(super) len: u32,
}

/// A value that is linked into lists of the kind `R`.
pub(super) trait Linked<R>: Slot {
    fn link(&self) -> &Link;
    fn link_mut(&mut self) -> &mut Link;
}

/// The arena. It grows by chunks; free slots are used again, the latest first. When most of them are free, the chunks
/// without a value go back, so that those who left do not keep others out under `memory_limit`.
pub(super) struct Pool<T> {
    /// Those that went back are empty and listed in `released`.
    chunks: Vec<Box<[T]>>,
    /// Values in each chunk.
    used: Vec<u8>,
    released: Vec<u32>,
    first_free: u32,
    len: u32,
    /// With fewer values than this, chunks go back. Half of it after each time, so that the search pays off even when
    /// values are left in every chunk.
    sparse_below: u32,
}

impl<T: Slot> Pool<T> {
    pub(super) const fn new() -> Pool<T> {
        Pool { chunks: Vec::new(), used: Vec::new(), released: Vec::new(), first_free: NONE, len: 0, sparse_below: 0 }
    }

    /// The number of values in use.
    pub(super) const fn len(&self) -> usize {
        self.len as usize
    }

    /// Slots, used or not.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.slots()
    }

    fn slots(&self) -> usize {
        (self.chunks.len() - self.released.len()) * CHUNK
    }

    /// Adds a value. The 2^32 indices cannot run out before the memory does.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        if self.first_free == NONE {
            self.grow();
        }
        let index = self.first_free;
        let slot = &mut self[index];
        let next = *slot.next_free();
        *slot = value;
        self.first_free = next;
        self.len += 1;
        self.used[index as usize / CHUNK] += 1;
        index
    }

    #[cold]
    fn grow(&mut self) {
        let at = self.released.pop().map_or(self.chunks.len(), |at| at as usize);
        let first = u32::try_from(at * CHUNK).unwrap_or(NONE);
        let chunk = (1u32..)
            .take(CHUNK)
            .map(|i| {
                let mut value = T::default();
                *value.next_free() = if i as usize == CHUNK { NONE } else { first + i };
                value
            })
            .collect();
        if at == self.chunks.len() {
            self.chunks.push(chunk);
            self.used.push(0);
        } else {
            self.chunks[at] = chunk;
        }
        self.first_free = first;
        let slots = self.slots();
        self.sparse_below = if slots > KEPT { u32::try_from(slots / 4).unwrap_or(0) } else { 0 };
    }

    /// Frees every chunk without a value.
    #[cold]
    fn give_back(&mut self) {
        self.sparse_below = self.len / 2;
        let (mut left, mut next) = (NONE, self.first_free);
        while next != NONE {
            let index = next;
            next = *self[index].next_free();
            if self.used[index as usize / CHUNK] != 0 {
                *self[index].next_free() = left;
                left = index;
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

    /// Takes a value out; its index is free from now on.
    pub(super) fn remove(&mut self, index: u32) -> T {
        let mut free = T::default();
        *free.next_free() = self.first_free;
        self.first_free = index;
        self.len -= 1;
        self.used[index as usize / CHUNK] -= 1;
        let value = std::mem::replace(&mut self[index], free);
        if self.len < self.sparse_below {
            self.give_back();
        }
        value
    }

    /// Appends to a list of kind `R`.
    pub(super) fn push_back<R>(&mut self, list: &mut List, index: u32)
    where
        T: Linked<R>,
    {
        list.len += 1;
        if list.len == 1 {
            list.head = index;
            *self[index].link_mut() = Link { prev: index, next: index };
            return;
        }
        let (head, tail) = (list.head, self[list.head].link().prev);
        *self[index].link_mut() = Link { prev: tail, next: head };
        self[tail].link_mut().next = index;
        self[head].link_mut().prev = index;
    }

    /// Puts in front of a list of kind `R`.
    pub(super) fn push_front<R>(&mut self, list: &mut List, index: u32)
    where
        T: Linked<R>,
    {
        self.push_back::<R>(list, index);
        list.head = index;
    }

    /// Takes a member out of a list of kind `R`.
    pub(super) fn unlink<R>(&mut self, list: &mut List, index: u32)
    where
        T: Linked<R>,
    {
        let Link { prev, next } = *self[index].link();
        self[prev].link_mut().next = next;
        self[next].link_mut().prev = prev;
        if list.head == index {
            list.head = next;
        }
        list.len -= 1;
    }

    /// The first member becomes the last one.
    pub(super) fn rotate<R>(&self, list: &mut List)
    where
        T: Linked<R>,
    {
        if list.len > 0 {
            list.head = self[list.head].link().next;
        }
    }

    /// The members of a list of kind `R`, first to last; backwards, last to first.
    pub(super) fn iter<R>(&self, list: List) -> Members<'_, T, R>
    where
        T: Linked<R>,
    {
        Members { pool: self, front: list.head, back: list.head, left: list.len, list: PhantomData }
    }
}

impl<T> std::ops::Index<u32> for Pool<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        &self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }
}

impl<T> std::ops::IndexMut<u32> for Pool<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }
}

/// The members of a list, see [`Pool::iter`].
pub(super) struct Members<'a, T, R> {
    pool: &'a Pool<T>,
    front: u32,
    /// The member behind the last one that is left.
    back: u32,
    left: u32,
    list: PhantomData<R>,
}

impl<T: Linked<R>, R> Iterator for Members<'_, T, R> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        let index = self.front;
        self.front = self.pool[index].link().next;
        Some(index)
    }
}

impl<T: Linked<R>, R> DoubleEndedIterator for Members<'_, T, R> {
    fn next_back(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        self.back = self.pool[self.back].link().prev;
        Some(self.back)
    }
}

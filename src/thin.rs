//! A counted, shared value behind a thin pointer, with its bytes in the same allocation. One allocation and eight bytes
//! a reference are what make a queue entry 16 bytes and a retained message cheap; `Rc<Message>` with a boxed body would
//! take two allocations and 24 bytes more, `Rc<[u8]>` a fat pointer in every queue entry.
//!
//! Besides `os` this is the only place with `unsafe`. Invariants: `inner` points to a live allocation of
//! [`layout`]`(len)`, made by [`Thin::new`] and freed when the last reference goes; `refs` counts the references;
//! after `Inner<H>` there are `len` initialised bytes that never change.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::NonNull;

#[repr(C)]
struct Inner<H> {
    refs: Cell<u32>,
    len: u32,
    header: H,
}

/// A shared `H` followed by bytes. Not `Send`: the broker is one thread.
pub struct Thin<H> {
    inner: NonNull<Inner<H>>,
    owns: PhantomData<Inner<H>>,
}

/// The layout of a value with `len` bytes and the offset of the first of them, or `None` when it cannot exist.
fn layout<H>(len: usize) -> Option<(Layout, usize)> {
    let (layout, offset) = Layout::new::<Inner<H>>().extend(Layout::array::<u8>(len).ok()?).ok()?;
    Some((layout.pad_to_align(), offset))
}

impl<H> Thin<H> {
    /// A new value with `parts` put back to back behind the header. `None` when they exceed 4 GiB together.
    #[must_use]
    pub fn new(header: H, parts: &[&[u8]]) -> Option<Thin<H>> {
        let mut len = 0u32;
        for part in parts {
            len = len.checked_add(u32::try_from(part.len()).ok()?)?;
        }
        let (layout, offset) = layout::<H>(len as usize)?;
        // SAFETY: the layout is not of size 0, it holds `Inner`.
        let raw = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(raw) else { handle_alloc_error(layout) };
        let inner = start.cast::<Inner<H>>();
        // SAFETY: `inner` is aligned and large enough by `layout`; the parts add up to `len` bytes after `offset`, and
        // a fresh allocation overlaps none of them.
        unsafe {
            inner.write(Inner { refs: Cell::new(1), len, header });
            let mut at = start.add(offset);
            for part in parts {
                at.copy_from_nonoverlapping(NonNull::from(*part).cast(), part.len());
                at = at.add(part.len());
            }
        }
        Some(Thin { inner, owns: PhantomData })
    }

    fn inner(&self) -> &Inner<H> {
        // SAFETY: the allocation lives as long as a reference to it, and is only ever borrowed shared.
        unsafe { self.inner.as_ref() }
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &H {
        &self.inner().header
    }

    /// The bytes behind the header.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let len = self.inner().len as usize;
        let offset = layout::<H>(len).map_or(0, |(_, offset)| offset);
        // SAFETY: `new` initialised `len` bytes at `offset` of the same allocation, and nothing writes them again.
        unsafe { std::slice::from_raw_parts(self.inner.cast::<u8>().add(offset).as_ptr(), len) }
    }

    /// Where it lies: no other value has this number as long as a reference to it is there.
    #[must_use]
    pub fn address(&self) -> usize {
        self.inner.as_ptr().addr()
    }

    /// How many references there are.
    #[must_use]
    pub fn refs(&self) -> u32 {
        self.inner().refs.get()
    }

    /// True when both are the same value, not merely equal ones.
    #[must_use]
    pub fn same(&self, other: &Thin<H>) -> bool {
        self.inner == other.inner
    }
}

impl<H> Clone for Thin<H> {
    fn clone(&self) -> Self {
        let refs = &self.inner().refs;
        // Saturating would free too early; four billion references need 64 GiB of queue entries.
        refs.set(refs.get().checked_add(1).unwrap_or_else(|| std::process::abort()));
        Thin { inner: self.inner, owns: PhantomData }
    }
}

impl<H> Drop for Thin<H> {
    fn drop(&mut self) {
        let refs = &self.inner().refs;
        refs.set(refs.get() - 1);
        if refs.get() != 0 {
            return;
        }
        let len = self.inner().len as usize;
        // SAFETY: this was the last reference; the header is dropped once and the memory returned with the layout it
        // was made with, which `layout` computes from the same length.
        unsafe {
            self.inner.drop_in_place();
            if let Some((layout, _)) = layout::<H>(len) {
                dealloc(self.inner.as_ptr().cast(), layout);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn the_parts_stand_back_to_back() {
        let value = Thin::new(7u64, &[b"topic", b"", b"payload"]).unwrap();
        assert_eq!(*value.header(), 7);
        assert_eq!(value.bytes(), b"topicpayload");
        assert!(Thin::new(1u8, &[]).unwrap().bytes().is_empty());
        assert_eq!(size_of::<Option<Thin<u64>>>(), size_of::<usize>());
    }

    #[test]
    fn the_header_is_dropped_once_with_the_last_reference() {
        let witness = Rc::new(());
        let value = Thin::new(Rc::clone(&witness), &[b"x"]).unwrap();
        let other = value.clone();
        assert!(value.same(&other) && value.refs() == 2);
        drop(value);
        assert_eq!((other.bytes(), Rc::strong_count(&witness)), (&b"x"[..], 2));
        drop(other);
        assert_eq!(Rc::strong_count(&witness), 1);
    }

    #[test]
    fn odd_lengths_and_alignments_are_kept() {
        for len in 0..40usize {
            let bytes: Vec<u8> = (0..len).map(|i| u8::try_from(i).unwrap()).collect();
            let narrow = Thin::new(3u8, &[&bytes]).unwrap();
            let wide = Thin::new(u128::MAX, &[&bytes]).unwrap();
            assert_eq!((narrow.bytes(), *narrow.header()), (&bytes[..], 3));
            assert_eq!((wide.bytes(), *wide.header()), (&bytes[..], u128::MAX));
        }
    }
}

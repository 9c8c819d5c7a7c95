//! The system's allocator with a count of the heap bytes in use, for `[conf: memory_limit]` and `$SYS`. Declared as
//! the global allocator by the binary; without that the figures stay 0.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static CURRENT: AtomicUsize = AtomicUsize::new(0);
static MAXIMUM: AtomicUsize = AtomicUsize::new(0);
static ASIDE: AtomicUsize = AtomicUsize::new(0);

/// Heap bytes in use now, as asked for: without the allocator's own overhead, and without what [`set_aside`] says.
#[must_use]
pub fn current_bytes() -> usize {
    CURRENT.load(Relaxed).saturating_sub(ASIDE.load(Relaxed))
}

/// Leaves so many bytes out of [`current_bytes`] until the result is dropped: what a thread needs only for one piece of
/// work.
#[must_use]
pub fn set_aside(bytes: usize) -> SetAside {
    ASIDE.fetch_add(bytes, Relaxed);
    SetAside(bytes)
}

/// See [`set_aside`].
#[derive(Debug)]
pub struct SetAside(usize);

impl Drop for SetAside {
    fn drop(&mut self) {
        ASIDE.fetch_sub(self.0, Relaxed);
    }
}

/// The most heap bytes that were in use at once.
#[must_use]
pub fn maximum_bytes() -> usize {
    MAXIMUM.load(Relaxed)
}

/// The counting allocator.
#[derive(Debug)]
pub struct Counting;

fn added(bytes: usize) {
    let current = CURRENT.fetch_add(bytes, Relaxed).wrapping_add(bytes);
    // A second atomic write only while the maximum grows.
    if current > MAXIMUM.load(Relaxed) {
        MAXIMUM.fetch_max(current, Relaxed);
    }
}

fn removed(bytes: usize) {
    CURRENT.fetch_sub(bytes, Relaxed);
}

// SAFETY: everything is passed on to `System` unchanged; the counters do not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract.
        let pointer = unsafe { System.alloc(layout) };
        if !pointer.is_null() {
            added(layout.size());
        }
        pointer
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract.
        let pointer = unsafe { System.alloc_zeroed(layout) };
        if !pointer.is_null() {
            added(layout.size());
        }
        pointer
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) };
        removed(layout.size());
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the contract.
        let new = unsafe { System.realloc(pointer, layout, new_size) };
        if !new.is_null() {
            if new_size >= layout.size() {
                added(new_size - layout.size());
            } else {
                removed(layout.size() - new_size);
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_through_every_call() {
        // The test binary does not use the allocator, so the counters belong to this test.
        let layout = |size| Layout::from_size_align(size, 8).unwrap();
        // SAFETY: each pointer is used with the layout it was made with and freed once.
        unsafe {
            let first = Counting.alloc(layout(100));
            let second = Counting.alloc_zeroed(layout(50));
            assert_eq!((current_bytes(), maximum_bytes()), (150, 150));
            let first = Counting.realloc(first, layout(100), 1000);
            assert_eq!((current_bytes(), maximum_bytes()), (1050, 1050));
            let first = Counting.realloc(first, layout(1000), 10);
            assert_eq!((current_bytes(), maximum_bytes()), (60, 1050));
            // What the system cannot give is not counted, and the old piece still is.
            let too_much = isize::MAX as usize - 7;
            assert!(Counting.alloc(layout(too_much)).is_null());
            assert!(Counting.alloc_zeroed(layout(too_much)).is_null());
            assert!(Counting.realloc(first, layout(10), too_much).is_null());
            assert_eq!((current_bytes(), maximum_bytes()), (60, 1050));
            Counting.dealloc(first, layout(10));
            Counting.dealloc(second, layout(50));
            let aligned = Layout::from_size_align(64, 4096).unwrap();
            let page = Counting.alloc_zeroed(aligned);
            assert!(page.addr() % 4096 == 0 && *page == 0);
            let page = Counting.realloc(page, aligned, 2000);
            assert_eq!((page.addr() % 4096, current_bytes(), maximum_bytes()), (0, 2000, 2000));
            Counting.dealloc(page, Layout::from_size_align(2000, 4096).unwrap());
        }
        assert_eq!((current_bytes(), maximum_bytes()), (0, 2000));
    }
}

//! An allocator for programs that live for milliseconds.
//!
//! The first megabyte comes from one static area by moving a mark, and is given back only where it was the last taken:
//! no bookkeeping, no system call, no page touched that holds no data. What goes beyond comes from the C library's
//! allocator, so that a command that runs for long holds no more than it uses and that megabyte.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of the area.
const SIZE: usize = 1 << 20;

/// The allocator; to be the program's `#[global_allocator]`.
pub struct Arena {
    area: UnsafeCell<[u8; SIZE]>,
    /// Bytes taken; what lies beyond is untouched or given back.
    taken: AtomicUsize,
}

// SAFETY: parts of the area are handed out by an atomic mark, so no two threads get the same.
unsafe impl Sync for Arena {}

impl Arena {
    /// An area from which nothing is taken.
    #[allow(clippy::new_without_default, reason = "there is to be one, as a static")]
    pub const fn new() -> Self {
        Self { area: UnsafeCell::new([0; SIZE]), taken: AtomicUsize::new(0) }
    }

    /// Takes what is left of the area, so that everything further is given back when it is dropped: for a program that
    /// comes to live for long after all.
    pub fn retire(&self) {
        self.taken.store(SIZE, Ordering::Relaxed);
    }

    fn start(&self) -> usize {
        self.area.get() as usize
    }

    /// Whether memory is of the area.
    fn holds(&self, memory: *mut u8) -> bool {
        (memory as usize).wrapping_sub(self.start()) < SIZE
    }

    /// Takes memory from the area; null if it does not fit.
    fn take(&self, layout: Layout) -> *mut u8 {
        let mut taken = self.taken.load(Ordering::Relaxed);
        loop {
            let from = (self.start() + taken).next_multiple_of(layout.align()) - self.start();
            let Some(to) = from.checked_add(layout.size()).filter(|&to| to <= SIZE) else {
                return std::ptr::null_mut();
            };
            match self.taken.compare_exchange_weak(taken, to, Ordering::Relaxed, Ordering::Relaxed) {
                // SAFETY: `from` lies within the area, and what follows it up to `to` was just taken.
                Ok(_) => return unsafe { self.area.get().cast::<u8>().add(from) },
                Err(now) => taken = now,
            }
        }
    }

    /// Moves the mark from one place to another, if it is still there.
    fn shift(&self, from: usize, to: usize) -> bool {
        self.taken.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

// SAFETY: memory of the area is handed out once, aligned as asked, and taken back only when it is the last part taken;
// everything else goes to the system's allocator, and comes back to it, told apart by its address.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let memory = self.take(layout);
        // SAFETY: the caller's layout is handed on.
        if memory.is_null() { unsafe { System.alloc(layout) } } else { memory }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if self.holds(memory) {
            let from = memory as usize - self.start();
            self.shift(from + layout.size(), from);
        } else {
            // SAFETY: memory that is not of the area came from the system's allocator with this layout.
            unsafe { System.dealloc(memory, layout) }
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !self.holds(memory) {
            // SAFETY: as for dealloc.
            return unsafe { System.realloc(memory, layout, size) };
        }
        let from = memory as usize - self.start();
        let to = from.saturating_add(size);
        if to <= SIZE && self.shift(from + layout.size(), to) {
            return memory;
        }
        if size <= layout.size() {
            return memory;
        }
        // SAFETY: the size is not zero, and the caller vouches that it does not overflow with this alignment.
        let new = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !new.is_null() {
            // SAFETY: both are valid for the old, smaller size, and do not overlap: the new memory was not taken before.
            unsafe { std::ptr::copy_nonoverlapping(memory, new, layout.size()) };
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_handed_out_once_and_grows_in_place() {
        let arena = Arena::new();
        let layout = |size, align| Layout::from_size_align(size, align).unwrap();
        // SAFETY: every pointer is used within its layout, and given back with it.
        unsafe {
            let a = arena.alloc(layout(3, 1));
            let b = arena.alloc(layout(8, 8));
            assert_eq!(b as usize % 8, 0);
            assert!(b as usize >= a as usize + 3);
            b.write_bytes(7, 8);
            let c = arena.realloc(b, layout(8, 8), 100);
            assert_eq!(b, c, "the last part grows in place");
            let d = arena.realloc(a, layout(3, 1), 10);
            assert_ne!(a, d, "one that is not the last moves");
            arena.dealloc(d, layout(10, 1));
            assert_eq!(arena.alloc(layout(10, 1)), d, "the last part is given back");
            let big = arena.alloc(layout(SIZE, 16));
            assert!(!arena.holds(big), "what does not fit comes from the system");
            let big = arena.realloc(big, layout(SIZE, 16), 2 * SIZE);
            arena.dealloc(big, layout(2 * SIZE, 16));
        }
    }
}

//! Counts the bytes that a thread holds, to notice when hostile bytes make us
//! take more than they are worth.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, with what it gave counted.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call goes to the system's allocator as it came. Counting
// neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: our caller keeps to what `alloc` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: `block` came from `alloc` above, so from the system's.
        unsafe { System.dealloc(block, layout) }
    }
}

fn count(change: isize) {
    let held = HELD.get().wrapping_add(change);
    HELD.set(held);
    MOST.set(MOST.get().max(held));
}

/// Does the work, and panics if it held more than `limit` bytes at a time.
pub(crate) fn within<T>(limit: usize, work: impl FnOnce() -> T) -> T {
    let before = HELD.get();
    MOST.set(before);
    let done = work();
    let most = (MOST.get() - before).unsigned_abs();
    assert!(most <= limit, "it held {most} bytes of memory where {limit} are enough");
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_for_a_moment_counts() {
        let made = within(1000, || Vec::<u8>::with_capacity(1000));
        drop(made);
        let result = std::panic::catch_unwind(|| within(999, || vec![0_u8; 1000].len()));
        assert!(result.is_err());
    }
}

//! How much memory a call takes: [`peak_of`].
//!
//! The allocator of this process counts. What threads other than the caller's
//! allocate meanwhile counts too, so ask from one thread at a time.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Meter;

#[global_allocator]
static METER: Meter = Meter;

fn grown(size: usize) {
    let live = LIVE.fetch_add(size, Relaxed).wrapping_add(size);
    PEAK.fetch_max(live, Relaxed);
}

fn shrunk(size: usize) {
    LIVE.fetch_sub(size, Relaxed);
}

#[expect(unsafe_code, reason = "an allocator is unsafe by its interface")]
// SAFETY: every call goes to the system's allocator as it came; beside it,
// only counters change.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller keeps the rules of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        shrunk(layout.size());
        // SAFETY: the caller keeps the rules of `dealloc`, and the memory came
        // from the same allocator.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grown(size); // for a moment both may be there
        shrunk(layout.size());
        // SAFETY: the caller keeps the rules of `realloc`, and the memory came
        // from the same allocator.
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// The most memory that was held at once during `act`, in bytes, beyond what
/// was held before.
pub fn peak_of(act: impl FnOnce()) -> usize {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    act();
    PEAK.load(Relaxed).saturating_sub(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_at_once_is_counted_and_what_was_given_back_is_not() {
        let peak = peak_of(|| {
            drop(std::hint::black_box(vec![0_u8; 1 << 20]));
            drop(std::hint::black_box(vec![0_u8; 2 << 20]));
        });
        assert!((2 << 20..(2 << 20) + 4096).contains(&peak), "{peak}");
    }
}

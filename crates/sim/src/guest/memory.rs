//! What a guest's kernel does with its memory.
//!
//! Each piece of a step goes through it once:
//!
//! ```text
//! release ──▶ grow ──▶ fetch ──▶ read
//! what is     what is   what was   files, into
//! not needed  new       lost       what is free
//! ```

use dynmem_units::Bytes;

use super::GuestConfig;
use crate::workload::Need;

/// The kernel keeps 1 % of the visible memory free, within
/// [`MIN_FREE_LEAST`]..=[`MIN_FREE_MOST`]: about what Linux's low watermark is
/// (`min_free_kbytes` = 4·√(16·KiB), and a quarter more).
const MIN_FREE_DIVISOR: u64 = 100;
const MIN_FREE_LEAST: Bytes = Bytes::from_mib(4);
const MIN_FREE_MOST: Bytes = Bytes::from_mib(64);
/// Programs touch all of their working set once in this time; so what is
/// missing of it is fetched once in this time, and waited for.
const TURN_US: u64 = 1_000_000;
/// Files are read at the speed of an ordinary SSD.
const DISK_PER_SECOND: Bytes = Bytes::from_mib(200);
/// After this time without any progress the kernel kills. Linux tries 16 rounds
/// of reclaim first, which takes seconds under load.
const OOM_MS: u64 = 5_000;

/// Where the memory is. `free` is what the visible memory leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// Anonymous memory, resident.
    pub(super) anonymous: Bytes,
    /// Anonymous memory, swapped out.
    pub(super) swapped: Bytes,
    /// Hot file pages, resident.
    pub(super) hot: Bytes,
    /// Hot file pages that were dropped and are missed.
    pub(super) lost: Bytes,
    /// File pages that nobody would miss.
    pub(super) cache: Bytes,
    /// Time in which growth was wanted and nothing at all was found for it.
    starved_ms: u64,
}

/// What the programs lived through in a piece of a step.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lived {
    pub(super) stalled_us: u64,
    pub(super) swap_in_per_second: Bytes,
    pub(super) refault_per_second: Bytes,
    pub(super) oom: bool,
}

/// What the kernel always keeps free of the visible memory.
fn min_free(visible: Bytes) -> Bytes {
    visible.scale(1, MIN_FREE_DIVISOR).clamp(MIN_FREE_LEAST, MIN_FREE_MOST).min(visible)
}

/// What programs and file pages can have of the visible memory.
fn room(visible: Bytes) -> Bytes {
    visible.saturating_sub(min_free(visible))
}

/// The least visible memory that has room for `working_set`.
pub(super) fn visible_for(working_set: Bytes) -> Bytes {
    let share = working_set.scale(1, MIN_FREE_DIVISOR - 1);
    working_set.saturating_add(share.clamp(MIN_FREE_LEAST, MIN_FREE_MOST))
}

impl Memory {
    /// Memory in nobody's use.
    pub(super) fn free(&self, visible: Bytes) -> Bytes {
        let used: Bytes = [self.anonymous, self.hot, self.cache].into_iter().sum();
        visible.saturating_sub(used)
    }

    /// What could be had at once: free above the kernel's own reserve, and the
    /// page cache.
    pub(super) fn spare(&self, visible: Bytes) -> Bytes {
        room(visible).saturating_sub(self.anonymous).saturating_sub(self.hot)
    }

    /// True if since `before` nothing has changed but the page cache, which
    /// fills at a constant rate.
    pub(super) fn rests_since(&self, before: &Self) -> bool {
        Self { cache: Bytes::ZERO, ..*self } == Self { cache: Bytes::ZERO, ..*before }
    }

    /// Drops page cache until all fits.
    pub(super) fn fit(&mut self, visible: Bytes) {
        self.cache = self.cache.min(self.spare(visible));
    }

    /// Reclaims up to `wanted` from the programs: hot file pages first, then
    /// anonymous pages, as fast and as far as there is swap.
    pub(super) fn squeeze(&mut self, wanted: Bytes, millis: u64, config: &GuestConfig) -> Bytes {
        let dropped = self.hot.min(wanted);
        self.hot = self.hot.saturating_sub(dropped);
        self.lost = self.lost.saturating_add(dropped);
        let fast_enough = config.swap_per_second.scale(millis, 1000);
        let swapped = wanted.saturating_sub(dropped).min(self.anonymous).min(self.swap_free(config)).min(fast_enough);
        self.anonymous = self.anonymous.saturating_sub(swapped);
        self.swapped = self.swapped.saturating_add(swapped);
        dropped.saturating_add(swapped)
    }

    /// Lets the programs live for a while with `visible` memory.
    pub(super) fn live(&mut self, visible: Bytes, need: Need, millis: u64, config: &GuestConfig) -> Lived {
        let room = room(visible);
        let swap = config.swap_per_second.scale(millis, 1000);
        self.release(need);
        let blocked_us = self.grow(need, room, millis, swap, config);
        let mut lived = self.fetch(need, room, millis, swap, config);
        lived.stalled_us = blocked_us + part(millis * 1000 - blocked_us, lived.stalled_us, millis * 1000);
        let read = need.file_read_per_second.scale(millis, 1000);
        self.cache = self.cache.saturating_add(read);
        self.fit(visible);
        if self.starved_ms >= OOM_MS {
            *self = Self { anonymous: Bytes::ZERO, swapped: Bytes::ZERO, starved_ms: 0, ..*self };
            lived.oom = true;
        }
        lived
    }

    /// What programs free is free at once; files that are not hot any more are
    /// page cache like any other.
    fn release(&mut self, need: Need) {
        let has = self.anonymous.saturating_add(self.swapped);
        if has > need.anonymous {
            self.swapped = self.swapped.scale(need.anonymous.get(), has.get());
            self.anonymous = need.anonymous.saturating_sub(self.swapped);
        }
        let cooled = self.hot.saturating_sub(need.hot_file);
        self.hot = self.hot.saturating_sub(cooled);
        self.cache = self.cache.saturating_add(cooled);
        self.lost = self.lost.min(need.hot_file.saturating_sub(self.hot));
    }

    /// Programs allocate as fast as they touch: into free memory and page cache
    /// first, at the cost of hot files then, then as fast as others are
    /// swapped out. Returns the time for which they were blocked, µs.
    fn grow(&mut self, need: Need, room: Bytes, millis: u64, swap: Bytes, config: &GuestConfig) -> u64 {
        let has = self.anonymous.saturating_add(self.swapped);
        if has >= need.anonymous {
            self.starved_ms = 0;
            return 0;
        }
        let touch = config.touch_per_second.scale(millis, 1000);
        let wanted = need.anonymous.saturating_sub(has).min(touch);
        let easy = wanted.min(room.saturating_sub(self.anonymous));
        let hard = wanted.saturating_sub(easy).min(self.swap_free(config)).min(swap);
        self.take(easy, room);
        self.swapped = self.swapped.saturating_add(hard);
        let got = easy.saturating_add(hard);
        self.starved_ms = if got.is_zero() { self.starved_ms + millis } else { 0 };
        if got < wanted {
            millis * 1000 - part(millis * 1000, easy.get(), touch.get())
        } else {
            part(millis * 1000, hard.get(), swap.get())
        }
    }

    /// Fetches what is missed: swapped pages, then hot files, into what room
    /// there is. What stays missing is read, used and lost again, in turn.
    fn fetch(&mut self, need: Need, room: Bytes, millis: u64, swap: Bytes, config: &GuestConfig) -> Lived {
        let before = (self.swapped, self.lost);
        if !self.swapped.is_zero() {
            let back = self.swapped.min(swap).min(room.saturating_sub(self.anonymous));
            self.swapped = self.swapped.saturating_sub(back);
            self.take(back, room);
        }
        if self.hot != need.hot_file {
            self.read_hot(need, room, millis);
        }
        if before.0.is_zero() && before.1.is_zero() && self.lost.is_zero() {
            return Lived::default();
        }
        self.miss(before, millis, config)
    }

    /// What it costs that pages were missing. The mean of before and after, so
    /// that long pieces and short ones cost the same.
    fn miss(&self, before: (Bytes, Bytes), millis: u64, config: &GuestConfig) -> Lived {
        let mean = |one: Bytes, other: Bytes| one.saturating_add(other).scale(1, 2);
        let (swapped, lost) = (mean(before.0, self.swapped), mean(before.1, self.lost));
        let swap_us = duration_us(swapped, config.swap_per_second);
        let disk_us = duration_us(lost, DISK_PER_SECOND);
        let turn_us = swap_us.saturating_add(disk_us).saturating_add(TURN_US);
        // In each turn all that is missing is fetched once, and room permitting
        // it comes back faster than that.
        let came_back = |before: Bytes, after: Bytes| before.saturating_sub(after).scale(1000, millis);
        Lived {
            stalled_us: part(millis * 1000, turn_us - TURN_US, turn_us),
            swap_in_per_second: swapped.scale(TURN_US, turn_us).max(came_back(before.0, self.swapped)),
            refault_per_second: lost.scale(TURN_US, turn_us).max(came_back(before.1, self.lost)),
            oom: false,
        }
    }

    /// Reads hot files, those first that were lost. What is read for the first
    /// time and finds no room is lost at once.
    fn read_hot(&mut self, need: Need, room: Bytes, millis: u64) {
        let space = room.saturating_sub(self.anonymous).saturating_sub(self.hot);
        let disk = DISK_PER_SECOND.scale(millis, 1000);
        let again = self.lost.min(space).min(disk);
        let unread = need.hot_file.saturating_sub(self.hot).saturating_sub(self.lost);
        let first = unread.min(disk.saturating_sub(again));
        let kept = first.min(space.saturating_sub(again));
        self.hot = [self.hot, again, kept].into_iter().sum();
        self.lost = self.lost.saturating_sub(again).saturating_add(first.saturating_sub(kept));
    }

    /// `amount` more becomes anonymous, if need be at the cost of hot files.
    fn take(&mut self, amount: Bytes, room: Bytes) {
        self.anonymous = self.anonymous.saturating_add(amount);
        let dropped = self.hot.saturating_sub(room.saturating_sub(self.anonymous));
        self.hot = self.hot.saturating_sub(dropped);
        self.lost = self.lost.saturating_add(dropped);
    }

    fn swap_free(&self, config: &GuestConfig) -> Bytes {
        config.swap_bytes.saturating_sub(self.swapped)
    }
}

/// `whole × share ÷ of`, at most `whole`; zero of zero.
fn part(whole: u64, share: u64, of: u64) -> u64 {
    if share == 0 { 0 } else { Bytes::new(whole).scale(share, of).get().min(whole) }
}

/// How long moving `amount` takes.
fn duration_us(amount: Bytes, per_second: Bytes) -> u64 {
    if amount.is_zero() { 0 } else { amount.scale(1_000_000, per_second.get()).get() }
}

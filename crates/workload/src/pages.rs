//! [`Pages`]: memory whose every page knows what it must contain.
//!
//! A page's content follows from a seed, the serial number of its chunk and
//! its place there; no two pages that ever lived are alike. So a page that was
//! lost, mixed up, or brought back from an older time is seen.

use std::{io, ptr::NonNull};

use dynmem_units::Bytes;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::message::Verified;

/// How much is taken at a time.
pub const CHUNK: Bytes = Bytes::from_mib(4);

/// Distance between a page's words: odd, so that they differ.
const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// The memory held.
#[derive(Debug)]
pub struct Pages {
    chunks: Vec<Chunk>,
    seed: u64,
    next_serial: u64,
    page_bytes: usize,
    /// Where the unhurried check goes on: a chunk and a page in it.
    cursor: (usize, usize),
}

#[derive(Debug)]
struct Chunk {
    mapping: Mapping,
    serial: u64,
}

impl Pages {
    /// None yet.
    pub fn new(seed: u64) -> Self {
        Self { chunks: Vec::new(), seed, next_serial: 0, page_bytes: rustix::param::page_size(), cursor: (0, 0) }
    }

    /// How much is held.
    pub fn held(&self) -> Bytes {
        self.chunks.iter().map(|chunk| Bytes::new(chunk.mapping.length as u64)).sum()
    }

    /// `size` in whole pages, rounded up.
    pub fn whole(&self, size: Bytes) -> Bytes {
        size.align_up(Bytes::new(self.page_bytes as u64))
    }

    /// Takes one more chunk, at most `wish`, and fills it.
    pub fn grow(&mut self, wish: Bytes) -> io::Result<()> {
        let length = usize::try_from(self.whole(wish).min(CHUNK).get()).map_err(io::Error::other)?;
        if length == 0 {
            return Ok(());
        }
        let mut chunk = Chunk { mapping: Mapping::new(length)?, serial: self.next_serial };
        self.next_serial += 1;
        for page in 0..length / self.page_bytes {
            fill(self.seed, chunk.serial, page, chunk.page(page, self.page_bytes));
        }
        self.chunks.push(chunk);
        Ok(())
    }

    /// Gives memory back to the kernel until at most `goal` is held.
    pub fn shrink_to(&mut self, goal: Bytes) -> io::Result<()> {
        let mut excess = self.held().saturating_sub(self.whole(goal)).get();
        while excess > 0 {
            let Some(last) = self.chunks.last_mut() else { return Ok(()) };
            let length = last.mapping.length;
            match usize::try_from(excess) {
                Ok(cut) if cut < length => {
                    last.mapping.truncate(length - cut)?;
                    return Ok(());
                }
                _ => excess -= length as u64,
            }
            self.chunks.pop();
        }
        Ok(())
    }

    /// Checks every page.
    pub fn verify(&mut self) -> Verified {
        let mut outcome = Verified::default();
        for chunk in 0..self.chunks.len() {
            for page in 0..self.pages_in(chunk) {
                self.check(chunk, page, &mut outcome);
            }
        }
        outcome
    }

    /// Checks the next `count` pages, beginning again after the last.
    pub fn verify_some(&mut self, count: usize) -> Verified {
        let mut outcome = Verified::default();
        for _ in 0..count {
            let (mut chunk, mut page) = self.cursor;
            if chunk >= self.chunks.len() {
                chunk = 0;
            }
            if self.chunks.is_empty() {
                break;
            }
            if page >= self.pages_in(chunk) {
                (chunk, page) = ((chunk + 1) % self.chunks.len(), 0);
            }
            self.check(chunk, page, &mut outcome);
            self.cursor = (chunk, page + 1);
        }
        outcome
    }

    fn pages_in(&self, chunk: usize) -> usize {
        self.chunks[chunk].mapping.length / self.page_bytes
    }

    /// Counts a broken page and repairs it, so that it counts once.
    fn check(&mut self, chunk: usize, page: usize, outcome: &mut Verified) {
        let (seed, page_bytes) = (self.seed, self.page_bytes);
        let chunk = &mut self.chunks[chunk];
        let serial = chunk.serial;
        let words = chunk.page(page, page_bytes);
        outcome.pages += 1;
        if !is_intact(seed, serial, page, words) {
            outcome.broken += 1;
            fill(seed, serial, page, words);
        }
    }
}

impl Chunk {
    fn page(&mut self, page: usize, page_bytes: usize) -> &mut [u64] {
        let words = page_bytes / size_of::<u64>();
        &mut self.mapping.words()[page * words..(page + 1) * words]
    }
}

fn fill(seed: u64, serial: u64, page: usize, words: &mut [u64]) {
    let mut expected = first_word(seed, serial, page);
    for word in words {
        *word = expected;
        expected = expected.wrapping_add(STRIDE);
    }
}

fn is_intact(seed: u64, serial: u64, page: usize, words: &[u64]) -> bool {
    let mut expected = first_word(seed, serial, page);
    words.iter().all(|word| {
        let intact = *word == expected;
        expected = expected.wrapping_add(STRIDE);
        intact
    })
}

/// A mix in which each bit of the inputs moves about half of the output.
fn first_word(seed: u64, serial: u64, page: usize) -> u64 {
    let mut mixed = seed ^ serial.wrapping_mul(STRIDE) ^ (page as u64) << 48;
    for (shift, factor) in [(30, 0xbf58_476d_1ce4_e5b9), (27, 0x94d0_49bb_1331_11eb)] {
        mixed = (mixed ^ mixed >> shift).wrapping_mul(factor);
    }
    mixed ^ mixed >> 31
}

/// Anonymous memory straight from the kernel, straight back when dropped.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u64>,
    length: usize,
}

#[expect(unsafe_code, reason = "an allocator would keep what is freed; the point is to give it back")]
impl Mapping {
    /// `length` is a multiple of the page size, not zero.
    fn new(length: usize) -> io::Result<Self> {
        // SAFETY: no address is asked for, so nothing that exists is replaced.
        let start = unsafe {
            mmap_anonymous(std::ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?
        };
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mmap gave no address"))?;
        Ok(Self { start, length })
    }

    fn words(&mut self) -> &mut [u64] {
        // SAFETY: the mapping has `length` readable and writable bytes, page
        // aligned, zero at first and so valid words, and is borrowed uniquely.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length / size_of::<u64>()) }
    }

    /// Gives back what is beyond `length`, a multiple of the page size that is
    /// smaller than now and not zero.
    fn truncate(&mut self, length: usize) -> io::Result<()> {
        assert!(length > 0 && length < self.length, "a mapping only shrinks");
        // SAFETY: the tail lies inside the mapping, and nobody borrows it.
        unsafe { munmap(self.start.as_ptr().byte_add(length).cast(), self.length - length)? };
        self.length = length;
        Ok(())
    }
}

impl Drop for Mapping {
    #[expect(unsafe_code, reason = "the counterpart of mmap")]
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone and is not used again.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(mib: u64) -> Pages {
        let mut pages = Pages::new(42);
        while pages.held() < Bytes::from_mib(mib) {
            pages.grow(Bytes::from_mib(mib).saturating_sub(pages.held())).expect("memory");
        }
        pages
    }

    #[test]
    fn what_was_filled_is_intact() {
        let mut pages = with(9);
        assert_eq!(pages.held(), Bytes::from_mib(9));
        assert_eq!(pages.verify(), Verified { pages: 9 * 256, broken: 0 });
    }

    #[test]
    fn a_single_wrong_bit_is_seen_once_and_repaired() {
        let mut pages = with(5);
        pages.chunks[1].mapping.words()[512 * 100 + 511] ^= 1 << 63;
        assert_eq!(pages.verify().broken, 1);
        assert_eq!(pages.verify().broken, 0);
    }

    #[test]
    fn lost_swapped_and_outdated_pages_are_seen() {
        let mut pages = with(4);
        let outdated = pages.chunks[0].mapping.words()[..512].to_vec();
        pages.chunks[0].mapping.words()[512..1024].fill(0);
        pages.chunks[0].mapping.words()[1024..2048].rotate_left(512);
        assert_eq!(pages.verify().broken, 3);
        pages.shrink_to(Bytes::ZERO).expect("given back");
        pages.grow(CHUNK).expect("memory");
        pages.chunks[0].mapping.words()[..512].copy_from_slice(&outdated);
        assert_eq!(pages.verify().broken, 1);
    }

    #[test]
    fn shrinking_gives_back_exactly_the_excess() {
        let mut pages = with(10);
        pages.shrink_to(Bytes::from_mib(20)).expect("nothing to do");
        assert_eq!(pages.held(), Bytes::from_mib(10));
        pages.shrink_to(Bytes::from_mib(5)).expect("given back");
        assert_eq!(pages.held(), Bytes::from_mib(5));
        assert_eq!(pages.verify(), Verified { pages: 5 * 256, broken: 0 });
        pages.shrink_to(Bytes::ZERO).expect("given back");
        assert_eq!((pages.held(), pages.verify().pages), (Bytes::ZERO, 0));
    }

    #[test]
    fn the_unhurried_check_visits_every_page_in_turn() {
        let mut pages = with(5);
        assert_eq!(pages.verify_some(1000).pages, 1000);
        pages.chunks[1].mapping.words()[512 * 255] ^= 1;
        assert_eq!(pages.verify_some(280), Verified { pages: 280, broken: 1 });
        pages.shrink_to(Bytes::from_mib(1)).expect("given back");
        assert_eq!(pages.verify_some(300).broken, 0);
        pages.shrink_to(Bytes::ZERO).expect("given back");
        assert_eq!(pages.verify_some(10).pages, 0);
    }
}

//! How fast the victim's processor reaches memory meanwhile: a loop of our own,
//! beside the guest, that nobody's memory limits concern.
//!
//! Caches and memory are shared with whatever runs on the other processors and,
//! where this machine is itself a guest, with strangers: on the machine of
//! `docs/benchmarks.md` random reads scatter by a fifth from second to second,
//! computing by a fiftieth. Nobody's memory management can do anything about
//! that, so the pace of the victim is told by this measure.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::{
    process::nice,
    thread::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
};

/// More than caches hold.
const BUFFER_BYTES: usize = 64 << 20;
/// Reads of one round: about a millisecond.
const READS: u64 = 40_000;
/// Between two rounds, so that the guest keeps its processor.
const PAUSE: Duration = Duration::from_millis(19);

/// The loop, while it runs, and one that keeps the other processors awake: a
/// processor whose neighbours sleep has another pace, here by more than a tenth.
pub(super) struct Reference {
    counts: Arc<Counts>,
    running: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Counts {
    reads: AtomicU64,
    nanoseconds: AtomicU64,
    end: AtomicBool,
}

/// What was done until some moment.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    reads: u64,
    nanoseconds: u64,
}

impl Reference {
    /// Begins, on `processor`; one thread for each of the `others` uses what nobody
    /// else wants of them.
    pub(super) fn begin(processor: CpuSet, others: CpuSet) -> Result<Self> {
        let mut reference = Self { counts: Arc::default(), running: Vec::new() };
        // Elsewhere it would measure something else, and nothing at all is better.
        reference.run_on(processor, read_until_the_end)?;
        for _ in 0..others.count() {
            reference.run_on(others, keep_awake)?;
        }
        Ok(reference)
    }

    fn run_on(&mut self, processors: CpuSet, run: fn(&Counts)) -> Result<()> {
        let counts = Arc::clone(&self.counts);
        let run = move || sched_setaffinity(None, &processors).map_or((), |()| run(&counts));
        let thread = thread::Builder::new().name("reference".to_owned()).spawn(run);
        self.running.push(thread.context("Could not start a thread")?);
        Ok(())
    }

    pub(super) fn mark(&self) -> Mark {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Mark { reads: read(&self.counts.reads), nanoseconds: read(&self.counts.nanoseconds) }
    }

    /// Reads per nanosecond of the processor's time since `mark`; none if there
    /// was no round.
    pub(super) fn speed_since(&self, mark: Mark) -> Option<f64> {
        let now = self.mark();
        let (reads, nanoseconds) = (now.reads - mark.reads, now.nanoseconds - mark.nanoseconds);
        #[expect(clippy::cast_precision_loss, reason = "some billions")]
        (nanoseconds > 0).then(|| reads as f64 / nanoseconds as f64)
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        self.counts.end.store(true, Ordering::Relaxed);
        for running in self.running.drain(..) {
            let _ = running.join(); // a panic of it has been told already
        }
    }
}

fn read_until_the_end(counts: &Counts) {
    // Written, or all of it would be one page of zeros.
    let buffer: Vec<u8> = (0..BUFFER_BYTES).map(|index| index.to_le_bytes()[0]).collect();
    let mut place = 1_usize;
    while !counts.end.load(Ordering::Relaxed) {
        let before = processor_time();
        let mut sum = 0_u64;
        for _ in 0..READS {
            // Knuth's MMIX generator: the next place depends on nothing that is cached.
            place = place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            sum = sum.wrapping_add(u64::from(buffer[(place >> 20) % BUFFER_BYTES]));
        }
        black_box(sum);
        let spent = processor_time().saturating_sub(before);
        counts.nanoseconds.fetch_add(u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        counts.reads.fetch_add(READS, Ordering::Relaxed);
        thread::sleep(PAUSE);
    }
}

/// Computes, at the lowest priority.
fn keep_awake(counts: &Counts) {
    let _ = nice(19); // of this thread alone; without it the guests have less, all the time
    let mut number = 1_u64;
    while !counts.end.load(Ordering::Relaxed) {
        number = black_box(number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29));
    }
}

/// What this thread has had of processors.
fn processor_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rustix::thread::sched_getaffinity;

    use super::*;

    #[test]
    fn the_loop_measures_and_ends() {
        let all = sched_getaffinity(None).expect("readable");
        let reference = Reference::begin(all, CpuSet::new()).expect("a thread");
        let mark = Mark { reads: 0, nanoseconds: 0 };
        let speed = loop {
            match reference.speed_since(mark) {
                Some(speed) => break speed,
                None => thread::yield_now(),
            }
        };
        assert!(speed > 0.0 && speed < 10.0, "{speed} reads in a nanosecond");
    }
}

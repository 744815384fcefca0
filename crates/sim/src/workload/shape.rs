//! The shapes that a workload's memory takes over time.

use std::sync::Arc;

use dynmem_units::{Bytes, Percent};

use super::noise::{between, hash, share};

/// What one processor clears in a second: the same as a guest's default speed.
const TOUCHED_PER_SECOND: Bytes = Bytes::from_mib(4 << 10);

/// How anonymous memory goes with time. Lengths of time are milliseconds.
#[derive(Clone, Debug)]
pub enum Shape {
    /// The same for ever.
    Steady(Bytes),
    /// `high` once, `low` otherwise.
    Spike {
        /// Before and after.
        low: Bytes,
        /// During the spike.
        high: Bytes,
        /// When it begins.
        at_ms: u64,
        /// How long it lasts.
        hold_ms: u64,
    },
    /// `low` and `high` in turn.
    Square {
        /// The first part of a period.
        low: Bytes,
        /// The last part of a period.
        high: Bytes,
        /// From one rise to the next.
        period_ms: u64,
        /// Share of the period that is high: 0–100.
        duty: Percent,
    },
    /// Rises steadily and falls at once, over and over; `high` stays committed.
    Sawtooth {
        /// After a collection.
        low: Bytes,
        /// Before a collection.
        high: Bytes,
        /// From one collection to the next.
        rise_ms: u64,
    },
    /// Builds of a large program.
    Build(BuildPlan),
    /// `low` at the beginning of a period, `high` in its middle, smoothly.
    Diurnal {
        /// The least.
        low: Bytes,
        /// The most.
        high: Bytes,
        /// A day, usually.
        period_ms: u64,
    },
    /// Grows for as long as the programs run.
    Leak {
        /// At the start of the programs.
        base: Bytes,
        /// What is added.
        per_second: Bytes,
        /// Where it ends.
        limit: Bytes,
    },
    /// A recording.
    Samples {
        /// The levels.
        samples: Arc<[Bytes]>,
        /// The time between two of them.
        every_ms: u64,
    },
}

/// A build: jobs compile side by side, then one links, then people think.
/// Lengths of time are milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct BuildPlan {
    /// What the machine needs when it builds nothing.
    pub base: Bytes,
    /// The mean of a compile job.
    pub per_job: Bytes,
    /// Jobs side by side, at most 255.
    pub jobs: u8,
    /// The mean length of a job.
    pub job_ms: u64,
    /// The length of the compile phase.
    pub compile_ms: u64,
    /// What the linker needs.
    pub link: Bytes,
    /// The length of the link phase.
    pub link_ms: u64,
    /// The pause until the next build.
    pub pause_ms: u64,
    /// Sources and objects read while it builds.
    pub reads_per_second: Bytes,
}

impl Default for BuildPlan {
    /// A C++ project on four cores: jobs of 250 MiB and 4 s for four minutes, a
    /// link of 2 GiB for 20 s, a pause of two minutes.
    fn default() -> Self {
        Self {
            base: Bytes::from_mib(150),
            per_job: Bytes::from_mib(250),
            jobs: 4,
            job_ms: 4_000,
            compile_ms: 240_000,
            link: Bytes::GIB.saturating_add(Bytes::GIB),
            link_ms: 20_000,
            pause_ms: 120_000,
            reads_per_second: Bytes::from_mib(20),
        }
    }
}

/// What a shape says at one instant.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Level {
    pub(super) anonymous: Bytes,
    pub(super) reads_per_second: Bytes,
    pub(super) committed_beyond: Bytes,
}

impl From<Bytes> for Level {
    fn from(anonymous: Bytes) -> Self {
        Self { anonymous, ..Self::default() }
    }
}

impl Shape {
    /// The level at `now_ms`; `seed` chooses a build's jobs.
    pub(super) fn level(&self, now_ms: u64, running_ms: u64, seed: u64) -> Level {
        match self {
            Self::Steady(level) => (*level).into(),
            Self::Spike { low, high, at_ms, hold_ms } => {
                let since_ms = now_ms.checked_sub(*at_ms).filter(|since_ms| since_ms < hold_ms);
                since_ms.map_or_else(|| (*low).into(), |since_ms| touched(*low, *high, since_ms))
            }
            Self::Square { low, high, period_ms, duty } => {
                let low_ms = period_ms.saturating_sub(duty.of(Bytes::new(*period_ms)).get());
                let since_ms = (now_ms % (*period_ms).max(1)).checked_sub(low_ms);
                since_ms.map_or_else(|| (*low).into(), |since_ms| touched(*low, *high, since_ms))
            }
            Self::Sawtooth { low, high, rise_ms } => {
                let rise_ms = (*rise_ms).max(1);
                let anonymous = between(*low, *high, now_ms % rise_ms, rise_ms);
                Level { anonymous, committed_beyond: high.saturating_sub(anonymous), ..Level::default() }
            }
            Self::Build(plan) => plan.level(now_ms, seed),
            Self::Diurnal { low, high, period_ms } => day(*low, *high, now_ms, (*period_ms).max(2)).into(),
            Self::Leak { base, per_second, limit } => {
                base.saturating_add(per_second.scale(running_ms, 1000)).min(*limit).into()
            }
            Self::Samples { samples, every_ms } => recorded(samples, now_ms, (*every_ms).max(1)).into(),
        }
    }
}

impl BuildPlan {
    fn level(&self, now_ms: u64, seed: u64) -> Level {
        let round_ms = [self.compile_ms, self.link_ms, self.pause_ms].into_iter().fold(0, u64::saturating_add).max(1);
        let within_ms = now_ms % round_ms;
        let linked_ms = self.compile_ms.saturating_add(self.link_ms);
        let beside = if within_ms < self.compile_ms {
            (0..self.jobs).map(|job| self.job(now_ms, seed, job)).sum()
        } else if within_ms < linked_ms {
            // A linker reads its input first, then works on it.
            between(self.link.scale(1, 4), self.link, (within_ms - self.compile_ms).saturating_mul(2), self.link_ms)
                .min(self.link)
        } else {
            return self.base.into();
        };
        Level {
            anonymous: self.base.saturating_add(beside),
            reads_per_second: self.reads_per_second,
            committed_beyond: Bytes::ZERO,
        }
    }

    /// What one of the jobs needs: each compiles one file after the other, each
    /// file its own size (a fourth to seven fourths of the mean, a few three
    /// times that), growing from nothing to its end.
    fn job(&self, now_ms: u64, seed: u64, job: u8) -> Bytes {
        let job_ms = self.job_ms.max(1);
        let number = u64::from(job);
        // The jobs don't begin at the same time.
        let at_ms = now_ms.saturating_add(job_ms.saturating_mul(number) / u64::from(self.jobs.max(1)));
        let random = hash(seed ^ (number << 56), at_ms / job_ms);
        let size = self.per_job.scale(1, 4).saturating_add(share(self.per_job.scale(3, 2), random));
        let size = if random.is_multiple_of(32) { size.scale(3, 1) } else { size };
        size.scale(at_ms % job_ms, job_ms)
    }
}

/// Memory that was allocated at once `since_ms` ago: committed from the
/// beginning, and touched as fast as one processor clears pages.
fn touched(low: Bytes, high: Bytes, since_ms: u64) -> Level {
    let anonymous = low.saturating_add(TOUCHED_PER_SECOND.scale(since_ms, 1000)).min(high).max(low.min(high));
    Level { anonymous, committed_beyond: high.saturating_sub(anonymous), ..Level::default() }
}

/// Smoothly from `low` up to `high` and down again: 3x² − 2x³ on both sides.
fn day(low: Bytes, high: Bytes, now_ms: u64, period_ms: u64) -> Bytes {
    const ONE: u64 = 1 << 16;
    let half_ms = period_ms / 2;
    let at_ms = now_ms % period_ms;
    let from_midnight_ms = if at_ms < half_ms { at_ms } else { period_ms - at_ms };
    let x = (Bytes::new(from_midnight_ms).scale(ONE, half_ms).get()).min(ONE);
    let smooth = x * x / ONE * (3 * ONE - 2 * x) / ONE;
    between(low, high, smooth, ONE)
}

fn recorded(samples: &[Bytes], now_ms: u64, every_ms: u64) -> Bytes {
    let count = samples.len() as u64;
    if count == 0 {
        return Bytes::ZERO;
    }
    let at = |index: u64| samples[usize::try_from(index % count).expect("below a usize")];
    let index = now_ms / every_ms % count;
    between(at(index), at(index + 1), now_ms % every_ms, every_ms)
}

//! Workloads: what a guest's programs need over time.
//!
//! ```text
//! time ──▶ shape ──▶ level ──▶ + noise ──▶ + files, commitments ──▶ Need
//! ```
//!
//! A workload is a pure function of time, so a world may step as finely as it
//! likes and two policies see the same need at the same instant.

mod noise;
mod shape;

use dynmem_units::{Bytes, Percent};

use self::noise::Noise;
pub use self::shape::{BuildPlan, Shape};

/// What a guest's programs want at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Anonymous memory in use: lost memory must be swapped in again.
    pub anonymous: Bytes,
    /// File pages in constant use: lost pages must be read again.
    pub hot_file: Bytes,
    /// Files read once: fills the page cache, and is not missed.
    pub file_read_per_second: Bytes,
    /// Memory promised to programs beyond what they use (`Committed_AS` less
    /// what is anonymous).
    pub committed_beyond: Bytes,
}

impl Need {
    /// What must be resident for the guest to run at full speed, its kernel
    /// excluded.
    pub fn working_set(&self) -> Bytes {
        self.anonymous.saturating_add(self.hot_file)
    }
}

/// What the programs of a guest do.
///
/// ```
/// use dynmem_sim::workload::Workload;
/// use dynmem_units::Bytes;
///
/// let mib = Bytes::from_mib;
/// let web = Workload::spike(mib(200), mib(1500), 60_000, 30_000).hot_file(mib(100)).noise(mib(8), 5_000).seed(7);
/// assert!(web.need(70_000, 70_000).working_set() > mib(1500));
/// ```
#[derive(Clone, Debug)]
pub struct Workload {
    shape: Shape,
    noise: Noise,
    shift_ms: u64,
    wait_ms: u64,
    hot_file: Bytes,
    file_read_per_second: Bytes,
    committed_beyond: Bytes,
}

impl From<Shape> for Workload {
    fn from(shape: Shape) -> Self {
        Self {
            shape,
            noise: Noise::default(),
            shift_ms: 0,
            wait_ms: 0,
            hot_file: Bytes::ZERO,
            file_read_per_second: Bytes::ZERO,
            committed_beyond: Bytes::ZERO,
        }
    }
}

/// Shapes.
impl Workload {
    /// The same for ever.
    pub fn steady(level: Bytes) -> Self {
        Shape::Steady(level).into()
    }

    /// Nothing to do but daemons' work: it moves by about a mebibyte within
    /// ten seconds.
    pub fn idle(level: Bytes) -> Self {
        Self::steady(level).noise(Bytes::MIB, 10_000)
    }

    /// Around `mean`, up to `spread` of it above or below, another way every
    /// `slot_ms`.
    pub fn walk(mean: Bytes, spread: Percent, slot_ms: u64) -> Self {
        Self::steady(mean).noise(spread.of(mean), slot_ms)
    }

    /// `low`, and `high` once, from `at_ms` for `hold_ms`.
    pub fn spike(low: Bytes, high: Bytes, at_ms: u64, hold_ms: u64) -> Self {
        Shape::Spike { low, high, at_ms, hold_ms }.into()
    }

    /// In each period `low` first and `high` for the last `duty` of it.
    pub fn square(low: Bytes, high: Bytes, period_ms: u64, duty: Percent) -> Self {
        Shape::Square { low, high, period_ms, duty }.into()
    }

    /// A garbage-collected heap: fills from `low` to `high` in `rise_ms`, and
    /// is collected at once.
    pub fn sawtooth(low: Bytes, high: Bytes, rise_ms: u64) -> Self {
        Shape::Sawtooth { low, high, rise_ms }.into()
    }

    /// Builds of a large program, one after the other.
    pub fn build(plan: BuildPlan) -> Self {
        Shape::Build(plan).into()
    }

    /// A day: `low` at midnight, `high` at noon.
    pub fn diurnal(low: Bytes, high: Bytes) -> Self {
        Shape::Diurnal { low, high, period_ms: 24 * 3_600_000 }.into()
    }

    /// Grows for as long as the programs run, up to `limit`.
    pub fn leak(base: Bytes, per_second: Bytes, limit: Bytes) -> Self {
        Shape::Leak { base, per_second, limit }.into()
    }

    /// What was recorded, every `every_ms`; between two samples a straight
    /// line, and after the last one it begins anew.
    pub fn samples(samples: impl Into<std::sync::Arc<[Bytes]>>, every_ms: u64) -> Self {
        Shape::Samples { samples: samples.into(), every_ms }.into()
    }
}

/// Traits beside the shape.
impl Workload {
    /// Noise of up to `amount` above or below, that changes its way every
    /// `slot_ms`.
    #[must_use]
    pub fn noise(self, amount: Bytes, slot_ms: u64) -> Self {
        Self { noise: Noise { amount, slot_ms, ..self.noise }, ..self }
    }

    /// Another seed, another noise (and other jobs in a build).
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { noise: Noise { seed, ..self.noise }, ..self }
    }

    /// As if it had begun `shift_ms` earlier: so that many of one kind don't
    /// move in step.
    #[must_use]
    pub fn shifted(self, shift_ms: u64) -> Self {
        Self { shift_ms, ..self }
    }

    /// As at its first instant for `wait_ms`, and from there on.
    #[must_use]
    pub fn waiting(self, wait_ms: u64) -> Self {
        Self { wait_ms, ..self }
    }

    /// File pages in constant use.
    #[must_use]
    pub fn hot_file(self, hot_file: Bytes) -> Self {
        Self { hot_file, ..self }
    }

    /// Files read once and never again.
    #[must_use]
    pub fn reads(self, file_read_per_second: Bytes) -> Self {
        Self { file_read_per_second, ..self }
    }

    /// Memory promised to programs beyond what they use.
    #[must_use]
    pub fn commits_beyond(self, committed_beyond: Bytes) -> Self {
        Self { committed_beyond, ..self }
    }

    /// What the programs need at `now_ms`, having run for `running_ms` (a leak
    /// grows with this).
    pub fn need(&self, now_ms: u64, running_ms: u64) -> Need {
        let now_ms = now_ms.saturating_sub(self.wait_ms).saturating_add(self.shift_ms);
        let level = self.shape.level(now_ms, running_ms, self.noise.seed);
        Need {
            anonymous: self.noise.around(level.anonymous, now_ms),
            hot_file: self.hot_file,
            file_read_per_second: self.file_read_per_second.saturating_add(level.reads_per_second),
            committed_beyond: self.committed_beyond.saturating_add(level.committed_beyond),
        }
    }
}

#[cfg(test)]
mod tests;

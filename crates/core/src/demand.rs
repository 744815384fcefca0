//! Demand: how much memory a guest needs now, the buffer excluded.
//!
//! A report becomes an amount ([`measure`]); an amount becomes demand
//! ([`Demand`]), which rises at once and sinks slowly, so that relief is
//! immediate and reclaim patient. Everything here is a claim of the guest: the
//! amount is bounded, and the balancer limits what a claim can get.

use dynmem_units::Bytes;

use crate::{DemandModel, GuestReport, Instant};

/// Demand sinks by half of its excess in about this time. Short enough that a
/// starving neighbour gets a calm guest's memory within seconds, long enough
/// that a saw-tooth heap keeps its memory between two collections.
const HALF_LIFE_MS: u64 = 3_000;
/// Demand that has not risen for this long is settled.
const SETTLED_MS: u64 = 30_000;
/// Swapping in or reading again at some rate, a guest misses at least what it
/// fetches in this many seconds.
const MISSING_SECONDS: u64 = 4;
/// Below this share of stalled time (hundredths of a per cent) waiting for
/// memory is noise.
const STALL_NOISE: u32 = 100;
/// A stall counts only while less than 1/8 of the visible memory is available:
/// what arrives ends the cause before it ends the average.
const SCARCE_DIVISOR: u64 = 8;

/// What one report says, each at most twice the VM's maximum: more would change
/// nothing but the numbers that people see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    /// By the guest's own sums.
    pub(crate) needed: Bytes,
    /// The same, or more if it stalls for want of memory.
    pub(crate) demand: Bytes,
    /// All that its programs have allocated, if it can tell.
    pub(crate) committed: Option<Bytes>,
    /// It has memory left to touch what it allocated.
    pub(crate) roomy: bool,
}

/// What the guest needs by this report.
///
/// `held` is the memory lent to the VM; `reserved` is memory that the guest's
/// kernel keeps out of its own sums, for reports that don't tell.
pub(crate) fn measure(
    report: &GuestReport,
    model: DemandModel,
    held: Bytes,
    reserved: Bytes,
    maximum: Bytes,
) -> Measured {
    let most = maximum.saturating_add(maximum);
    let reserved = report.reserved.unwrap_or(reserved).min(held);
    let committed = report.committed.map(|committed| committed.saturating_add(reserved).min(most));
    let needed = match (model, committed) {
        (DemandModel::Committed, Some(committed)) => committed,
        _ => working_set(report).saturating_add(reserved).min(most),
    };
    let demand = needed.max(stalled(report, held, committed).min(most));
    Measured { needed, demand, committed, roomy: !scarce(report) }
}

fn scarce(report: &GuestReport) -> bool {
    report.available < report.visible.scale(1, SCARCE_DIVISOR)
}

/// What can't be reclaimed cheaply, and what swapping and refaults say is
/// missing.
fn working_set(report: &GuestReport) -> Bytes {
    let used = report.visible.saturating_sub(report.available);
    let hot = report.hot_file.min(report.available);
    let swapping = report.swap_in_per_second.scale(MISSING_SECONDS, 1).min(report.swap_used);
    let refaulting = report.refault_per_second.scale(MISSING_SECONDS, 1).min(report.visible.scale(1, 4));
    [used, hot, swapping, refaulting].into_iter().sum()
}

/// A guest that stalls although all is in use needs more than it has: from
/// 5 % more up to twice as much (Senpai's "+100 % at once"), by the share of
/// time that it lost. Where its programs have not allocated that much, the
/// rest can only be files that it reads again and again: 1/16 at a time, so
/// that a short stall of a large guest does not double it.
fn stalled(report: &GuestReport, held: Bytes, committed: Option<Bytes>) -> Bytes {
    if report.stall < STALL_NOISE || !scarce(report) {
        return Bytes::ZERO;
    }
    let more = held.scale(u64::from(report.stall.clamp(500, 10_000)), 10_000);
    let explained = committed.map_or(more, |committed| committed.saturating_sub(held).max(held.scale(1, 16)));
    held.saturating_add(more.min(explained))
}

/// The demand of one guest over time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Demand {
    current: Bytes,
    measured: Bytes,
    at: Instant,
    risen_at: Instant,
}

impl Demand {
    /// The demand now.
    pub(crate) fn current(self) -> Bytes {
        self.current
    }

    /// What the last report said, without patience.
    pub(crate) fn measured(self) -> Bytes {
        self.measured
    }

    /// True if it has not risen for a while.
    pub(crate) fn settled(self, now: Instant) -> bool {
        now.millis_since(self.risen_at) >= SETTLED_MS
    }

    /// Takes a new measurement: up at once, down from here on.
    pub(crate) fn observe(&mut self, now: Instant, measured: Bytes) {
        self.sink(now);
        self.measured = measured;
        if measured > self.current {
            (self.current, self.risen_at) = (measured, now);
        }
    }

    /// Lets demand sink towards the last measurement for the time since.
    pub(crate) fn sink(&mut self, now: Instant) {
        let elapsed = now.millis_since(self.at);
        self.at = self.at.max(now);
        if self.current <= self.measured {
            self.current = self.measured;
            return; // there is no excess
        }
        // First order decay without floating point: e/(1 + t/τ) for a step t,
        // with τ = half-life ÷ ln 2. Exact enough, and the same everywhere.
        let tau = HALF_LIFE_MS * 1000 / 693;
        let excess = self.current.saturating_sub(self.measured).scale(tau, tau + elapsed);
        // The tail below a block is not worth a decision.
        let excess = if elapsed > 0 && excess < Bytes::BLOCK { Bytes::ZERO } else { excess };
        self.current = self.measured.saturating_add(excess);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReportSource;

    const fn mib(mib: u64) -> Bytes {
        Bytes::from_mib(mib)
    }

    fn report() -> GuestReport {
        GuestReport {
            committed: Some(mib(120)),
            reserved: Some(mib(12)),
            ballooned: Some(Bytes::ZERO),
            swap_total: mib(256),
            ..GuestReport::new(ReportSource::Agent, mib(500), mib(300))
        }
    }

    fn working_set_of(report: &GuestReport) -> u64 {
        measure(report, DemandModel::WorkingSet, mib(512), Bytes::ZERO, mib(2048)).demand.mib()
    }

    #[test]
    fn the_working_set_is_what_is_used_plus_what_is_missing() {
        assert_eq!(working_set_of(&report()), 200 + 12);
        assert_eq!(working_set_of(&GuestReport { hot_file: mib(40), ..report() }), 252);
        let swapping = GuestReport { swap_used: mib(100), swap_in_per_second: mib(10), ..report() };
        assert_eq!(working_set_of(&swapping), 252);
        let cold_swap = GuestReport { swap_used: mib(100), ..report() };
        assert_eq!(working_set_of(&cold_swap), 212);
        assert_eq!(working_set_of(&GuestReport { refault_per_second: mib(5), ..report() }), 232);
    }

    #[test]
    fn the_commit_model_is_hyper_vs_own() {
        let demand = |report: &GuestReport| {
            measure(report, DemandModel::Committed, mib(512), Bytes::ZERO, mib(2048)).demand.mib()
        };
        assert_eq!(demand(&report()), 132);
        let degraded = GuestReport { committed: None, ..report() };
        assert_eq!(demand(&degraded), 212, "without a commit figure the working set serves");
    }

    #[test]
    fn a_stall_raises_demand_only_while_memory_is_scarce() {
        let stalled = GuestReport { stall: 2_500, ..report() };
        assert_eq!(working_set_of(&stalled), 212);
        let scarce = GuestReport { available: mib(20), ..stalled };
        assert_eq!(working_set_of(&scarce), 512 + 32, "its programs have not allocated more");
        let unknown = GuestReport { committed: None, ..scarce.clone() };
        assert_eq!(working_set_of(&unknown), 512 + 128);
        let allocated = GuestReport { committed: Some(mib(600)), ..scarce.clone() };
        assert_eq!(working_set_of(&allocated), 600 + 12);
        let mild = GuestReport { stall: 120, ..unknown };
        assert_eq!(working_set_of(&mild), 512 + 25);
    }

    #[test]
    fn memory_is_scarce_below_an_eighth_and_a_stall_is_one_from_one_per_cent_on() {
        let eighth = GuestReport { visible: mib(512), available: mib(64), stall: STALL_NOISE, ..report() };
        let roomy =
            |report: &GuestReport| measure(report, DemandModel::WorkingSet, mib(512), Bytes::ZERO, mib(2048)).roomy;
        assert!(roomy(&eighth));
        assert_eq!(working_set_of(&eighth), 448 + 12);
        let less = GuestReport { available: mib(63), ..eighth };
        assert!(!roomy(&less));
        assert_eq!(working_set_of(&less), 512 + 25);
        assert_eq!(working_set_of(&GuestReport { stall: STALL_NOISE - 1, ..less }), 449 + 12);
    }

    #[test]
    fn a_liar_is_bounded() {
        let liar = GuestReport {
            visible: Bytes::MAX,
            available: Bytes::ZERO,
            swap_used: Bytes::MAX,
            stall: u32::MAX,
            ..report()
        };
        assert_eq!(working_set_of(&liar), 4096);
        let modest = GuestReport {
            visible: Bytes::ZERO,
            available: Bytes::MAX,
            hot_file: Bytes::MAX,
            reserved: Some(Bytes::MAX),
            ..report()
        };
        assert!(measure(&modest, DemandModel::WorkingSet, mib(512), Bytes::ZERO, mib(2048)).demand <= mib(4096));
    }

    #[test]
    fn demand_rises_at_once_and_sinks_by_half_in_a_half_life() {
        let mut demand = Demand::default();
        demand.observe(Instant(0), mib(800));
        assert_eq!(demand.current(), mib(800));
        for step in 1..=30 {
            demand.observe(Instant(step * 100), mib(400));
        }
        let left = demand.current().mib() - 400;
        assert!((190..=210).contains(&left), "about half of 400 MiB is left, found {left}");
        demand.observe(Instant(3_001), mib(900));
        assert_eq!(demand.current(), mib(900));
    }

    #[test]
    fn the_tail_below_a_block_is_cut_as_soon_as_time_passes() {
        let sinking = |excess: u64, elapsed: u64| {
            let mut demand = Demand::default();
            demand.observe(Instant(0), mib(100 + excess));
            demand.observe(Instant(0), mib(100));
            demand.sink(Instant(elapsed));
            demand.current()
        };
        assert_eq!(sinking(1, 0), mib(101));
        assert_eq!(sinking(1, 1), mib(100));
        assert_eq!(sinking(4, 4_329), mib(102), "halved by the time constant, and a whole block");
    }

    #[test]
    fn demand_settles_exactly_and_a_clock_that_jumps_back_is_harmless() {
        let mut demand = Demand::default();
        demand.observe(Instant(5_000), mib(800));
        demand.observe(Instant(4_000), mib(100));
        assert_eq!(demand.current(), mib(800));
        for second in 5..120 {
            demand.sink(Instant(second * 1000));
        }
        assert_eq!(demand.current(), mib(100));
    }
}

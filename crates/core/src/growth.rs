//! Growth: what a guest will need soon, told by what it has just allocated and
//! learned from how it grew before.
//!
//! ```text
//! report ──▶ needed ──┬──▶ base: where it comes from      growth = needed − base
//!                     │                                        │
//!                     │                                   surge: the most so far
//!        committed ───┴──▶ allocated and not touched yet       │
//!                                  │                           ▼
//!                              announced ──────────▶ expected growth (headroom)
//! ```
//! None of it is demand: it is served last, from what nobody else wants, and
//! costs nobody anything but memory that lay idle. So a guest that lies about
//! its plans gains nothing that a neighbour would miss.

use dynmem_units::Bytes;

use crate::{Instant, moment::Moment};

/// Growth is what came within about this time: as long as it takes to fetch a
/// few gibibytes from other guests (0.3–0.4 GiB/s each, measured), which is
/// what headroom is to save.
const WINDOW_MS: u64 = 10_000;
/// The largest growth seen is believed half in this time: a guest that surges
/// every day keeps some of its headroom, one that has stopped gives it up.
const HALF_LIFE_MS: u64 = 6 * 3_600_000;
/// A guest grows as it did before once it has come this share of the way, and
/// as long as it rises.
const BEGUN_DIVISOR: u64 = 8;
/// It rises if it has needed more within this time.
const RISING_MS: u64 = 2_000;
/// For so long a guest is unknown: others tell how it may grow.
const YOUNG_MS: u64 = 3_600_000;
/// Growth below this is noise.
const NOISE: Bytes = Bytes::from_mib(16);

/// How one guest grows. What every decision reads comes first.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Growth {
    /// The most that it ever grew within the window, forgotten slowly.
    surge: Bytes,
    /// The most of the growth that goes on now.
    grown: Bytes,
    /// Allocated and not touched: now, and as it usually is.
    idle: Bytes,
    idle_usual: Bytes,
    /// When the growth that goes on now last became more.
    risen_at: Instant,
    /// What it needs now.
    needed: Bytes,
    /// What it needed a while ago: sinks with the need, follows it up slowly.
    base: Bytes,
    since: Instant,
    at: Moment,
}

impl Growth {
    /// Takes what a guest needs by its own sums, and what its programs have
    /// allocated; `roomy` if it has memory to touch what it allocated.
    pub(crate) fn observe(&mut self, now: Instant, needed: Bytes, committed: Option<Bytes>, roomy: bool) {
        let idle = committed.map_or(Bytes::ZERO, |committed| committed.saturating_sub(needed));
        let Some(before) = std::mem::replace(&mut self.at, Moment::at(now)).get() else {
            (self.base, self.needed, self.since) = (needed, needed, now);
            (self.idle, self.idle_usual) = (idle, idle);
            return;
        };
        let elapsed_ms = now.millis_since(before);
        // Until now it needed what it said last.
        self.base = follow(self.base, self.needed, elapsed_ms).min(needed);
        self.needed = needed;
        // What was allocated and could have been touched is not going to be;
        // while there is no room it may still be waited for.
        let idle_usual = if roomy { follow(self.idle_usual, self.idle, elapsed_ms) } else { self.idle_usual };
        (self.idle, self.idle_usual) = (idle, idle_usual.min(idle));
        let kept = HALF_LIFE_MS * 1000 / 693;
        self.surge = self.surge.scale(kept, kept.saturating_add(elapsed_ms)).max(self.growth());
        self.follow_growth(now, committed.is_some());
    }

    /// Follows the growth that goes on now. A guest whose programs' allocations
    /// are known announces the rest of it; there is nothing to guess.
    fn follow_growth(&mut self, now: Instant, announces: bool) {
        if announces || self.growth() < self.surge.scale(1, BEGUN_DIVISOR).max(NOISE) {
            self.grown = Bytes::ZERO;
        } else if self.growth() > self.grown {
            (self.grown, self.risen_at) = (self.growth(), now);
        }
    }

    fn growth(&self) -> Bytes {
        self.needed.saturating_sub(self.base)
    }

    /// What it is expected to need in the next seconds, beyond what it needs
    /// now: what it has announced; where it can't tell, the rest of a growth
    /// that has begun like one before.
    pub(crate) fn expected(&self, now: Instant) -> Bytes {
        let rises = !self.grown.is_zero() && now.millis_since(self.risen_at) < RISING_MS;
        let rest = if rises { self.surge.saturating_sub(self.grown) } else { Bytes::ZERO };
        let announced = self.idle.saturating_sub(self.idle_usual);
        rest.max(if announced >= NOISE { announced } else { Bytes::ZERO })
    }

    /// What it needs by its own sums.
    pub(crate) fn needed(&self) -> Bytes {
        self.needed
    }

    /// Where it comes from.
    pub(crate) fn base(&self) -> Bytes {
        self.base
    }

    /// The most that it grew within the window, as far as it is remembered.
    pub(crate) fn surge(&self) -> Bytes {
        self.surge
    }

    /// It has not been watched for long enough to know how it grows.
    pub(crate) fn young(&self, now: Instant) -> bool {
        now.millis_since(self.since) < YOUNG_MS
    }
}

/// Down at once, up with the window's time constant.
fn follow(base: Bytes, is: Bytes, elapsed_ms: u64) -> Bytes {
    let behind = is.saturating_sub(base);
    base.min(is).saturating_add(behind.scale(elapsed_ms, elapsed_ms.saturating_add(WINDOW_MS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn mib(mib: u64) -> Bytes {
        Bytes::from_mib(mib)
    }

    /// A guest that has needed 200 MiB for a minute.
    fn calm() -> Growth {
        let mut growth = Growth::default();
        for second in 0..60 {
            growth.observe(Instant(second * 1000), mib(200), Some(mib(300)), true);
        }
        growth
    }

    #[test]
    fn a_calm_guest_is_expected_to_stay_calm() {
        assert_eq!(
            (calm().expected(Instant(60_000)), calm().base(), calm().surge()),
            (Bytes::ZERO, mib(200), Bytes::ZERO)
        );
    }

    #[test]
    fn what_is_allocated_and_not_touched_is_announced_until_it_is() {
        let mut growth = calm();
        growth.observe(Instant(60_100), mib(240), Some(mib(1300)), true);
        assert_eq!(growth.expected(Instant(60_100)), mib(1060 - 100), "what it usually leaves idle is not to come");
        growth.observe(Instant(60_300), mib(1200), Some(mib(1300)), true);
        assert!(growth.expected(Instant(60_300)).is_zero(), "it has come");
    }

    #[test]
    fn what_is_never_touched_is_no_news_after_a_while() {
        let mut growth = calm();
        for second in 60..180 {
            growth.observe(Instant(second * 1000), mib(200), Some(mib(1300)), true);
        }
        assert!(growth.expected(Instant(180_000)).is_zero());
        let mut waiting = calm();
        for second in 60..180 {
            waiting.observe(Instant(second * 1000), mib(200), Some(mib(1300)), false);
        }
        assert_eq!(waiting.expected(Instant(180_000)), mib(1000), "without room it may still be waiting");
    }

    #[test]
    fn a_growth_that_begins_like_one_before_is_expected_to_end_like_it() {
        let mut growth = calm();
        growth.observe(Instant(61_000), mib(1200), None, true);
        for second in 62..200 {
            growth.observe(Instant(second * 1000), mib(200), None, true);
        }
        let surge = growth.surge().mib();
        assert!((990..=1000).contains(&surge), "it grew by 1000 MiB before, found {surge}");
        assert_eq!(growth.base(), mib(200));
        growth.observe(Instant(200_100), mib(220), None, true);
        assert!(growth.expected(Instant(200_100)).is_zero(), "20 MiB more may be anything");
        growth.observe(Instant(200_200), mib(400), None, true);
        let expected = growth.expected(Instant(200_200)).mib();
        assert!((780..=800).contains(&expected), "the rest of the way, found {expected}");
        assert!(growth.expected(Instant(203_000)).is_zero(), "it has stopped on the way");
    }

    #[test]
    fn where_allocations_are_known_no_growth_is_guessed() {
        let mut growth = calm();
        growth.observe(Instant(61_000), mib(1200), Some(mib(1300)), true);
        for second in 62..200 {
            growth.observe(Instant(second * 1000), mib(200), Some(mib(300)), true);
        }
        assert!(growth.surge() >= mib(990), "it may surge again: that is what the pool is for");
        growth.observe(Instant(200_200), mib(400), None, true);
        assert!(growth.expected(Instant(200_200)) >= mib(780));
        growth.observe(Instant(200_300), mib(410), Some(mib(410)), true);
        assert!(growth.expected(Instant(200_300)).is_zero(), "it would have announced more");
    }

    #[test]
    fn a_growth_that_is_over_is_not_expected_again() {
        let mut growth = calm();
        for second in 61..200 {
            growth.observe(Instant(second * 1000), mib(1200), None, true);
            assert!(growth.expected(Instant(second * 1000)).is_zero(), "at {second} s");
        }
    }

    /// A calm guest that grew by `surge` once, long ago.
    fn grown_before(surge: u64, until_seconds: u64) -> Growth {
        let mut growth = calm();
        growth.observe(Instant(60_000), mib(200 + surge), None, true);
        for second in 61..=until_seconds {
            growth.observe(Instant(second * 1000), mib(200), None, true);
        }
        growth
    }

    #[test]
    fn the_largest_growth_is_believed_half_after_six_hours() {
        let surge = grown_before(1000, 60 + 6 * 3600).surge().mib();
        assert!((495..=505).contains(&surge), "{surge}");
    }

    #[test]
    fn a_growth_has_begun_from_16_mib_on() {
        let grows_by = |bytes: Bytes| {
            let mut growth = grown_before(100, 200);
            growth.observe(Instant(200_100), mib(200).saturating_add(bytes), None, true);
            growth.expected(Instant(200_100))
        };
        assert!(grows_by(NOISE) > mib(80));
        assert!(grows_by(Bytes::new(NOISE.get() - 1)).is_zero());
    }

    #[test]
    fn a_growth_rises_for_two_seconds_after_it_last_became_more() {
        let mut growth = grown_before(800, 200);
        growth.observe(Instant(201_000), mib(310), None, true);
        assert!(growth.expected(Instant(202_999)) > mib(600) && growth.expected(Instant(203_000)).is_zero());
        // In a second a tenth of it has become usual: 110 MiB above that is no more than before.
        growth.observe(Instant(202_000), mib(320), None, true);
        assert_eq!(growth.growth(), mib(110));
        assert!(growth.expected(Instant(203_000)).is_zero());
    }

    #[test]
    fn a_guest_is_unknown_for_an_hour() {
        assert!(calm().young(Instant(3_599_000)));
        assert!(!calm().young(Instant(3_600_000)));
    }

    #[test]
    fn a_clock_that_jumps_back_is_harmless() {
        let mut growth = calm();
        growth.observe(Instant(0), mib(500), Some(Bytes::MAX), true);
        assert_eq!((growth.needed(), growth.base()), (mib(500), mib(200)));
        growth.observe(Instant(u64::MAX), Bytes::MAX, None, true);
        assert_eq!(growth.needed(), Bytes::MAX);
    }
}

//! Devices that do not do what they were asked.
//!
//! Two things go wrong in practice. virtio-mem finds no more movable blocks:
//! it is *pinned*, and the balloon takes over. The balloon itself stops moving:
//! the VM is *stuck*, nothing more is asked of it for a while, and others give
//! instead. Both are tried again, later and later, and end as soon as the
//! device moves.

use dynmem_units::Bytes;

use crate::{DeviceFacts, Instant, ledger::Promise, moment::Moment};

/// virtio-mem without progress for this long is pinned.
const PINNED_AFTER_MS: u64 = 3_000;
/// A machine without progress for this long is stuck (squeezed's 5 s).
const STUCK_AFTER_MS: u64 = 5_000;
/// The first pause before a stuck machine is asked again; doubles each time.
const RETRY_FIRST_MS: u64 = 10_000;
/// The same for a machine that was to grow: it may be in need.
const RETRY_GROWING_MS: u64 = 2_000;
/// The longest pause.
const RETRY_LAST_MS: u64 = 60_000;

/// What changed when the devices were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StallChange {
    /// As before.
    None,
    /// virtio-mem is pinned now: plan anew.
    Pinned,
    /// The machine is stuck now: let it keep what it holds.
    Stuck,
    /// The machine moves again.
    Recovered,
}

/// Progress of one machine's outstanding orders. What every decision reads
/// comes first.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Stall {
    retry_at: Instant,
    failures: u32,
    /// What it is stuck at is taking memory, not giving it.
    growing: bool,
    /// The last order was to take memory.
    asked_to_grow: bool,
    /// When the orders that are outstanding began, and what was held then.
    ordered_at: Instant,
    ordered_from: Bytes,
    pinned_until: Moment,
    /// Since when the machine is stuck, while it is.
    stuck_since: Moment,
    /// Since when each device has made no progress on an order.
    balloon_since: Moment,
    plug_since: Moment,
}

impl Stall {
    /// Since when the machine is stuck, if it is.
    pub(crate) fn stuck_since(&self) -> Option<Instant> {
        self.stuck_since.get()
    }

    /// True while nothing may be asked of the machine.
    pub(crate) fn resting(&self, now: Instant) -> bool {
        now < self.retry_at
    }

    /// True while virtio-mem has nothing to give back.
    pub(crate) fn pinned(&self, now: Instant) -> bool {
        self.pinned_until.get().is_some_and(|until| now < until)
    }

    /// True while no memory may be given to the machine.
    pub(crate) fn rests_from_growing(&self, now: Instant) -> bool {
        self.growing && self.resting(now)
    }

    /// What it did not do had a cause that is gone: it may be asked at once.
    pub(crate) fn forgive(&mut self) {
        (self.retry_at, self.failures, self.stuck_since) = (Instant::default(), 0, Moment::NONE);
    }

    /// How much of the `outstanding` memory is worth waiting for: all of it at
    /// first, later what comes in five seconds at the speed shown so far. A
    /// guest that gives back a page at a time keeps nobody waiting for it.
    pub(crate) fn coming(&self, now: Instant, outstanding: Bytes, held: Bytes) -> Bytes {
        let age = now.millis_since(self.ordered_at);
        if outstanding.is_zero() || age < STUCK_AFTER_MS {
            return outstanding;
        }
        self.ordered_from.saturating_sub(held).scale(STUCK_AFTER_MS, age).min(outstanding)
    }

    /// A new order, to grow if `grows`, was given to a machine that holds
    /// `held`; `settled` if none was outstanding. Devices that have to turn
    /// have the full time for it; asked for more of the same they have not.
    pub(crate) fn ordered(&mut self, now: Instant, held: Bytes, settled: bool, grows: bool) {
        if settled || held > self.ordered_from {
            (self.ordered_at, self.ordered_from) = (now, held);
        }
        if settled || std::mem::replace(&mut self.asked_to_grow, grows) != grows {
            for since in [&mut self.balloon_since, &mut self.plug_since] {
                *since = if since.is_none() { *since } else { Moment::at(now) };
            }
        }
    }

    /// Compares what the devices held with what they hold, against the promise.
    pub(crate) fn watch(
        &mut self,
        now: Instant,
        promise: Promise,
        before: &DeviceFacts,
        after: &DeviceFacts,
    ) -> StallChange {
        let closer = |promised: Bytes, was: Bytes, is: Bytes| {
            promised.get().abs_diff(is.get()) < promised.get().abs_diff(was.get())
        };
        let balloon_moved = closer(promise.balloon, before.balloon_actual, after.balloon_actual);
        let plug_moved = closer(promise.plugged, before.plugged, after.plugged);
        let outstanding = |done: bool, moved: bool, since: Moment| match (done, moved || since.is_none()) {
            (true, _) => Moment::NONE,
            (false, false) => since,
            (false, true) => Moment::at(now),
        };
        self.balloon_since = outstanding(promise.balloon == after.balloon_actual, balloon_moved, self.balloon_since);
        self.plug_since = outstanding(promise.plugged == after.plugged, plug_moved, self.plug_since);

        let moved = balloon_moved || plug_moved;
        let grew = after.assigned() > before.assigned();
        let done = self.balloon_since.is_none() && self.plug_since.is_none();
        if moved && done && grew == self.growing {
            // Only an order that is met, of the kind that failed, makes up for
            // the failures: a guest that gives a last block and takes it again
            // would be asked for it for ever.
            self.failures = 0;
        }
        if moved && !std::mem::take(&mut self.stuck_since).is_none() {
            if grew == self.growing {
                (self.retry_at, self.pinned_until) = (Instant::default(), Moment::NONE);
            }
            return StallChange::Recovered;
        }
        self.judge(now, promise, after)
    }

    fn judge(&mut self, now: Instant, promise: Promise, devices: &DeviceFacts) -> StallChange {
        let late = |since: Moment, limit| since.get().is_some_and(|since| now.millis_since(since) >= limit);
        let unplugging = devices.plugged > promise.plugged;
        if unplugging && late(self.plug_since, PINNED_AFTER_MS) && !self.pinned(now) {
            self.pinned_until = Moment::at(now.plus_millis(RETRY_LAST_MS));
            self.plug_since = Moment::NONE;
            return StallChange::Pinned;
        }
        let late_plug = !unplugging && late(self.plug_since, STUCK_AFTER_MS);
        if (late(self.balloon_since, STUCK_AFTER_MS) || late_plug) && !self.resting(now) {
            self.growing = promise.assigned() > devices.assigned();
            let first = if self.growing { RETRY_GROWING_MS } else { RETRY_FIRST_MS };
            let pause = first.saturating_mul(1 << self.failures.min(8)).min(RETRY_LAST_MS);
            self.failures = self.failures.saturating_add(1);
            self.retry_at = now.plus_millis(pause);
            (self.balloon_since, self.plug_since) = (Moment::NONE, Moment::NONE);
            if self.stuck_since.is_none() {
                self.stuck_since = Moment::at(now);
            }
            return StallChange::Stuck;
        }
        StallChange::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn devices(balloon: u64, plugged: u64) -> DeviceFacts {
        DeviceFacts {
            boot: Bytes::from_mib(512),
            balloon_actual: Bytes::from_mib(balloon),
            plugged: Bytes::from_mib(plugged),
            plug_max: Bytes::from_mib(1024),
            plug_block: Bytes::BLOCK,
            overhead: Bytes::ZERO,
        }
    }

    const fn promise(balloon: u64, plugged: u64) -> Promise {
        Promise { balloon: Bytes::from_mib(balloon), plugged: Bytes::from_mib(plugged) }
    }

    /// Looks once a second for `seconds` at devices that don't move.
    fn stare(stall: &mut Stall, from: u64, seconds: u64, promise: Promise, at: DeviceFacts) -> Vec<(u64, StallChange)> {
        (from..=from + seconds)
            .map(|second| (second, stall.watch(Instant(second * 1000), promise, &at, &at)))
            .filter(|(_, change)| *change != StallChange::None)
            .collect()
    }

    #[test]
    fn a_balloon_that_does_not_move_is_stuck_and_rests_longer_each_time() {
        let mut stall = Stall::default();
        let changes = stare(&mut stall, 0, 60, promise(200, 0), devices(512, 0));
        assert_eq!(changes, [(5, StallChange::Stuck), (15, StallChange::Stuck), (35, StallChange::Stuck)]);
        assert!(stall.resting(Instant(61_000)));
        let moved = stall.watch(Instant(61_000), promise(200, 0), &devices(512, 0), &devices(500, 0));
        assert_eq!(moved, StallChange::Recovered);
        assert!(!stall.resting(Instant(61_000)));
    }

    #[test]
    fn a_guest_that_takes_memory_has_not_shown_that_it_can_give_any() {
        let mut stall = Stall::default();
        stare(&mut stall, 0, 5, promise(200, 0), devices(300, 0));
        let grown = stall.watch(Instant(6_000), promise(302, 0), &devices(300, 0), &devices(302, 0));
        assert_eq!((grown, stall.resting(Instant(14_999))), (StallChange::Recovered, true), "it rests on");
        let changes = stare(&mut stall, 15, 30, promise(200, 0), devices(302, 0));
        assert_eq!(changes, [(20, StallChange::Stuck), (40, StallChange::Stuck)], "20 s, as if it had not moved");
    }

    #[test]
    fn slow_progress_is_progress() {
        let mut stall = Stall::default();
        let mut before = devices(512, 0);
        for second in 0..60 {
            let after = devices(512 - second, 0);
            assert_eq!(stall.watch(Instant(second * 1000), promise(200, 0), &before, &after), StallChange::None);
            before = after;
        }
    }

    #[test]
    fn memory_that_can_not_be_unplugged_is_pinned_first() {
        let mut stall = Stall::default();
        let changes = stare(&mut stall, 0, 4, promise(512, 0), devices(512, 300));
        assert_eq!(changes, [(3, StallChange::Pinned)]);
        assert!(stall.pinned(Instant(62_999)) && !stall.pinned(Instant(63_000)), "for a minute");
    }

    #[test]
    fn a_settled_machine_is_never_stuck() {
        let mut stall = Stall::default();
        assert_eq!(stare(&mut stall, 0, 100, promise(512, 300), devices(512, 300)), []);
        let first = stall.watch(Instant(200_000), promise(200, 0), &devices(512, 0), &devices(512, 0));
        assert_eq!(first, StallChange::None, "an order has its full time, however long nothing was asked before");
    }

    #[test]
    fn a_machine_that_does_not_take_memory_is_asked_again_sooner_and_given_none_until_then() {
        let mut taking = Stall::default();
        let changes = stare(&mut taking, 0, 10, promise(512, 0), devices(300, 0));
        assert_eq!(changes, [(5, StallChange::Stuck)]);
        assert!(taking.rests_from_growing(Instant(6_999)) && !taking.rests_from_growing(Instant(7_000)));

        let trading = (promise(300, 200), devices(500, 0));
        for (promise, devices) in [(promise(200, 0), devices(512, 0)), trading] {
            let mut giving = Stall::default();
            assert_eq!(stare(&mut giving, 0, 10, promise, devices), [(5, StallChange::Stuck)]);
            assert!(giving.resting(Instant(14_999)) && !giving.resting(Instant(15_000)));
            assert!(!giving.rests_from_growing(Instant(10_000)));
        }
    }

    #[test]
    fn an_order_to_turn_has_the_full_time_and_one_for_more_of_the_same_has_not() {
        for (settled, grows, stuck_at) in [(false, false, 5), (false, true, 9), (true, false, 9)] {
            let mut stall = Stall::default();
            stall.ordered(Instant(0), Bytes::from_mib(512), true, false);
            assert_eq!(stare(&mut stall, 0, 4, promise(200, 0), devices(512, 0)), []);
            stall.ordered(Instant(4_000), Bytes::from_mib(512), settled, grows);
            let changes = stare(&mut stall, 5, 4, promise(200, 0), devices(512, 0));
            assert_eq!(changes, [(stuck_at, StallChange::Stuck)], "settled {settled}, grows {grows}");
        }
    }

    #[test]
    fn what_is_waited_for_follows_the_speed_shown_since_the_order() {
        const fn mib(mib: u64) -> Bytes {
            Bytes::from_mib(mib)
        }
        let mut stall = Stall::default();
        stall.ordered(Instant(1_000), mib(500), true, false);
        assert_eq!(stall.coming(Instant(5_999), mib(300), mib(500)), mib(300), "all of it at first");
        assert_eq!(stall.coming(Instant(6_000), mib(300), mib(500)), mib(0), "nothing has come");
        assert_eq!(stall.coming(Instant(11_000), mib(280), mib(480)), mib(10), "20 in 10 s");
        assert_eq!(stall.coming(Instant(11_000), mib(4), mib(480)), mib(4), "never more than is outstanding");

        // More orders on the way down are parts of the first; a guest that has
        // grown in between begins anew.
        stall.ordered(Instant(4_000), mib(500), false, false);
        stall.ordered(Instant(5_000), mib(490), false, false);
        assert_eq!(stall.coming(Instant(6_000), mib(300), mib(490)), mib(10));
        stall.ordered(Instant(7_000), mib(600), false, true);
        assert_eq!(stall.coming(Instant(11_999), mib(300), mib(600)), mib(300));
        stall.ordered(Instant(12_000), mib(400), true, false);
        assert_eq!(stall.coming(Instant(16_999), mib(300), mib(400)), mib(300));
    }
}

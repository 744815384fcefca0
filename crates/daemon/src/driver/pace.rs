//! When to look at a machine's devices next.
//!
//! Quick while they move or should move, so that the ledger learns of returned
//! memory at once; slower and slower while nothing happens; slow at rest.

use std::time::Duration;

use tokio::time::Instant;

/// While devices move.
const QUICK: Duration = Duration::from_millis(25);
/// A device that was asked and does not move is looked at this often at least.
const WAITING_LAST: Duration = Duration::from_secs(1);
/// For this long after an order or a movement it is looked at quickly.
const QUICK_FOR: Duration = Duration::from_secs(1);
/// At rest.
const REST: Duration = Duration::from_secs(2);
/// After one of QEMU's events; many of them in a row are one look.
const AFTER_EVENT: Duration = Duration::from_millis(5);

/// The pace of looking.
#[derive(Debug)]
pub(super) struct Pace {
    next: Instant,
    stirred: Instant,
    gap: Duration,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { next: now, stirred: now, gap: QUICK }
    }

    /// When to look.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// An order was given.
    pub(super) fn ordered(&mut self, now: Instant) {
        (self.stirred, self.gap) = (now, QUICK);
        self.next = now + AFTER_EVENT;
    }

    /// QEMU says that something moved.
    pub(super) fn event(&mut self, now: Instant) {
        self.next = self.next.min(now + AFTER_EVENT);
    }

    /// Devices were looked at: did they move, and have they arrived?
    pub(super) fn looked(&mut self, now: Instant, moved: bool, arrived: bool) {
        if moved {
            (self.stirred, self.gap) = (now, QUICK);
        } else if now.duration_since(self.stirred) >= QUICK_FOR {
            self.gap = (self.gap * 2).min(WAITING_LAST);
        }
        self.next = now + if arrived && !moved { REST } else { self.gap };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gaps until `looks` looks were had at a device that never moves.
    fn gaps(arrived: bool, looks: usize) -> Vec<Duration> {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        pace.ordered(now);
        (0..looks)
            .map(|_| {
                let gap = pace.next() - now;
                now = pace.next();
                pace.looked(now, false, arrived);
                gap
            })
            .collect()
    }

    #[tokio::test]
    async fn a_device_that_does_not_comply_is_looked_at_less_and_less() {
        let gaps = gaps(false, 100);
        assert_eq!(gaps[0], AFTER_EVENT);
        assert!(gaps[1..30].iter().all(|gap| *gap == QUICK), "{gaps:?}");
        assert_eq!(gaps.last(), Some(&WAITING_LAST));
    }

    #[tokio::test]
    async fn a_machine_at_rest_is_left_alone_until_something_happens() {
        assert_eq!(gaps(true, 3)[1..], [REST, REST]);
        let now = Instant::now();
        let mut pace = Pace::new(now);
        pace.looked(now, false, true);
        pace.event(now);
        pace.event(now + Duration::from_millis(1));
        assert_eq!(pace.next(), now + AFTER_EVENT, "a burst of events is one look");
    }
}

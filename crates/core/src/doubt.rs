//! Reports that can't be true. Each is only a claim, and what it can get is
//! bounded by maximum and weight; but a person should know.
//!
//! Two rules, both cheap and both slow, because a guest and its host are never
//! looked at in the same instant:
//!
//! * **More than there is**: what the guest has, what its balloon holds and what
//!   its kernel keeps add up to more than the machine has, for five seconds.
//! * **Two minds**: the agent (a program) and the balloon driver (the kernel) are
//!   more than a quarter of the memory apart about what is available, for a
//!   minute and always in the same direction.

use dynmem_units::Bytes;

use crate::{DeviceFacts, GuestReport, Instant, moment::Moment};

/// So much more than there is may be said: figures of different instants.
const TOLERANCE: Bytes = Bytes::from_mib(64);
/// For so long the first rule has to be broken, and then to be kept.
const CLAIMS_MS: u64 = 5_000;
/// The same for the second: the driver speaks every ten seconds.
const MINDS_MS: u64 = 60_000;
/// The part of the memory that two sources may be apart: 1/4.
const APART_DIVISOR: u64 = 4;

/// One rule: broken for long enough it is in doubt, kept for as long it is not.
#[derive(Clone, Copy, Debug, Default)]
struct Rule {
    in_doubt: bool,
    /// Since when it says the opposite.
    turning: Moment,
}

impl Rule {
    fn observe(&mut self, now: Instant, is_broken: bool, patience_ms: u64) {
        if is_broken == self.in_doubt {
            self.turning = Moment::NONE;
            return;
        }
        let since = *self.turning.get().get_or_insert(now);
        self.turning = Moment::at(since);
        if now.millis_since(since) >= patience_ms {
            (self.in_doubt, self.turning) = (is_broken, Moment::NONE);
        }
    }
}

/// What is to be doubted of one guest's reports.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Doubt {
    claims: Rule,
    /// The agent says that less is available, and that more is.
    less: Rule,
    more: Rule,
    /// When the two were compared last.
    compared_at: Moment,
}

/// The memory that a report accounts for.
fn claimed(report: &GuestReport) -> Bytes {
    [report.visible, report.ballooned.unwrap_or_default(), report.reserved.unwrap_or_default()].into_iter().sum()
}

impl Doubt {
    /// Takes a report of a machine with these devices.
    pub(crate) fn report(&mut self, now: Instant, report: &GuestReport, devices: &DeviceFacts) {
        let there_is = devices.boot.saturating_add(devices.plugged).saturating_add(TOLERANCE);
        self.claims.observe(now, claimed(report) > there_is, CLAIMS_MS);
        // Where one of the two has fallen silent, there is nothing to compare.
        if self.compared_at.get().is_some_and(|at| now.millis_since(at) >= MINDS_MS) {
            (self.less, self.more, self.compared_at) = (Rule::default(), Rule::default(), Moment::NONE);
        }
    }

    /// Takes the `driver`'s statistics, to compare with what the agent said last.
    pub(crate) fn statistics(&mut self, now: Instant, agent: &GuestReport, driver: &GuestReport) {
        self.compared_at = Moment::at(now);
        let apart = driver.visible.scale(1, APART_DIVISOR).max(TOLERANCE);
        let beyond = |large: Bytes, small: Bytes| large.saturating_sub(small) > apart;
        self.less.observe(now, beyond(driver.available, agent.available), MINDS_MS);
        self.more.observe(now, beyond(agent.available, driver.available), MINDS_MS);
    }

    /// What is wrong with what it says, said of the guest; `None` if nothing is.
    pub(crate) fn detail(&self, report: &GuestReport, devices: &DeviceFacts) -> Option<String> {
        let there_is = devices.boot.saturating_add(devices.plugged);
        if self.claims.in_doubt {
            let claimed = claimed(report).mib();
            return Some(format!("reports {claimed} MiB of memory, and its machine has {} MiB", there_is.mib()));
        }
        let direction = match (self.less.in_doubt, self.more.in_doubt) {
            (true, _) => "less",
            (_, true) => "more",
            (false, false) => return None,
        };
        Some(format!(
            "contradicts itself: its agent says that much {direction} memory is available than its kernel does"
        ))
    }

    /// True if something is wrong with what it says.
    pub(crate) fn is_there(&self) -> bool {
        self.claims.in_doubt || self.less.in_doubt || self.more.in_doubt
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReportSource;

    const fn mib(mib: u64) -> Bytes {
        Bytes::from_mib(mib)
    }

    fn says(visible: u64, available: u64) -> GuestReport {
        GuestReport::new(ReportSource::Agent, mib(visible), mib(available))
    }

    fn devices() -> DeviceFacts {
        DeviceFacts { boot: mib(512), balloon_actual: mib(300), plugged: mib(88), ..DeviceFacts::default() }
    }

    #[test]
    fn whoever_reports_more_than_there_is_for_five_seconds_is_doubted_until_it_is_right_for_five() {
        let mut doubt = Doubt::default();
        let wrong = GuestReport { ballooned: Some(mib(212)), reserved: Some(mib(20)), ..says(433, 0) };
        let right = GuestReport { visible: mib(432), ..wrong.clone() };
        let mut seen = |at: u64, report| {
            doubt.report(Instant(at), report, &devices());
            doubt.is_there()
        };
        assert!(!seen(0, &wrong) && !seen(4_999, &wrong), "the sum is 1 MiB too large");
        assert!(seen(5_000, &wrong));
        assert!(seen(6_000, &right) && seen(10_999, &right));
        assert!(!seen(11_000, &right));
        assert!(!seen(20_000, &wrong) && !seen(22_000, &right) && !seen(26_000, &wrong), "it has to last");
        assert!(!seen(30_999, &wrong) && seen(31_000, &wrong));
        assert_eq!(
            doubt.detail(&wrong, &devices()).as_deref(),
            Some("reports 665 MiB of memory, and its machine has 600 MiB")
        );
    }

    #[test]
    fn an_agent_that_contradicts_its_kernel_for_a_minute_is_doubted_in_either_direction() {
        for (agent, driver, word) in [(says(400, 0), says(400, 101), "less"), (says(400, 301), says(400, 200), "more")]
        {
            let mut doubt = Doubt::default();
            let mut seen = |at, driver| {
                doubt.statistics(Instant(at), &agent, driver);
                doubt.is_there()
            };
            assert!((0..6).all(|time| !seen(time * 10_000, &driver)));
            assert!(seen(60_000, &driver));
            let detail = doubt.detail(&agent, &devices()).expect("a sentence");
            assert!(detail.contains(&format!("that much {word} memory is available")), "{detail}");
            doubt.statistics(Instant(70_000), &agent, &agent);
            doubt.statistics(Instant(130_000), &agent, &agent);
            assert!(!doubt.is_there(), "they agree again");
        }
    }

    #[test]
    fn where_the_driver_has_fallen_silent_there_is_nothing_to_compare() {
        let mut doubt = Doubt::default();
        for time in 0..7 {
            doubt.statistics(Instant(time * 10_000), &says(400, 0), &says(400, 300));
        }
        doubt.report(Instant(119_999), &says(400, 0), &devices());
        assert!(doubt.is_there());
        doubt.report(Instant(120_000), &says(400, 0), &devices());
        assert!(!doubt.is_there());
    }

    #[test]
    fn a_guest_whose_memory_swings_is_not_doubted() {
        let mut doubt = Doubt::default();
        for time in 0..100 {
            let (agent, driver) = if time % 2 == 0 { (0, 400) } else { (400, 0) };
            doubt.statistics(Instant(time * 10_000), &says(400, agent), &says(400, driver));
            assert!(!doubt.is_there());
        }
    }
}

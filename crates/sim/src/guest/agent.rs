//! The agent in a guest: when what it measured is told.
//!
//! A simpler `dynmem-agent` (`crates/agent/src/pace.rs`): the same steps and
//! times, without the cheap look before a reading.

use dynmem_core::GuestReport;
use dynmem_units::{Bytes, Percent};

/// How often a calm guest is looked at.
const CALM_LOOK_MS: u64 = 50;
/// How often a guest that is getting short is looked at.
const ALERT_LOOK_MS: u64 = 15;
/// How long it stays watched that closely after the last reason to.
const ALERT_MS: u64 = 2_000;
/// How often a calm guest is measured completely: a jump is one since then.
const CALM_READ_MS: u64 = 1_000;
/// While watched closely, it is heard at least this often.
const ALERT_REPORT_MS: u64 = 100;
/// A slow drift is told this often.
const DRIFT_REPORT_MS: u64 = 1_000;
/// The longest silence.
const HEARTBEAT_MS: u64 = 5_000;
/// A calm guest's movement below this is not news.
const STEP_MIN: Bytes = Bytes::from_mib(4);
/// While watched closely, a movement of this is worth a report.
const ALERT_STEP: Bytes = Bytes::MIB;
/// A movement worth telling at the next full second.
const DRIFT: Bytes = Bytes::new(256 << 10);
/// A stall (hundredths of a per cent) that is pressure.
const STALL_STEP: u32 = 100;

/// Decides when a report is sent. Its times run with the world's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Agent {
    alert_until_ms: u64,
    looked_ms: Option<u64>,
    read: Option<Seen>,
    sent: Option<Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at_ms: u64,
    visible: Bytes,
    used: Bytes,
    stall: u32,
}

impl Agent {
    /// One that has told nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it looks at all now: if not, [`Agent::due`] would be false, and
    /// no report needs to be made.
    pub fn looks(&self, now_ms: u64) -> bool {
        let pause_ms = if now_ms < self.alert_until_ms { ALERT_LOOK_MS } else { CALM_LOOK_MS };
        self.looked_ms.is_none_or(|looked_ms| now_ms.saturating_sub(looked_ms) >= pause_ms)
    }

    /// Takes what could be reported; says whether it is.
    pub fn due(&mut self, now_ms: u64, report: &GuestReport) -> bool {
        if !self.looks(now_ms) {
            return false;
        }
        let seen = Seen {
            at_ms: now_ms,
            visible: report.visible,
            used: report.visible.saturating_sub(report.available),
            stall: report.stall,
        };
        self.looked_ms = Some(now_ms);
        let jumped = self.read.is_some_and(|read| seen.used.saturating_sub(read.used) > step(seen.visible));
        if jumped || seen.stall >= STALL_STEP {
            self.alert_until_ms = now_ms + ALERT_MS;
        }
        let alert = now_ms < self.alert_until_ms;
        if alert || self.read.is_none_or(|read| now_ms.saturating_sub(read.at_ms) >= CALM_READ_MS) {
            self.read = Some(seen);
        }
        let due = self.is_news(&seen);
        if due {
            self.sent = Some(seen);
        }
        due
    }

    fn is_news(&self, seen: &Seen) -> bool {
        let Some(sent) = &self.sent else { return true };
        let since_ms = seen.at_ms.saturating_sub(sent.at_ms);
        let moved = difference(seen.used, sent.used).max(difference(seen.visible, sent.visible));
        if seen.at_ms < self.alert_until_ms {
            let stall_moved = seen.stall.abs_diff(sent.stall) >= STALL_STEP;
            return moved >= ALERT_STEP || stall_moved || since_ms >= ALERT_REPORT_MS;
        }
        let due_ms = if moved >= DRIFT { DRIFT_REPORT_MS } else { HEARTBEAT_MS };
        seen.visible != sent.visible || since_ms >= due_ms
    }
}

/// A rise above this is news at once: 1 % of the guest, at least 4 MiB.
fn step(visible: Bytes) -> Bytes {
    Percent::new(1).of(visible).max(STEP_MIN)
}

fn difference(one: Bytes, other: Bytes) -> Bytes {
    one.saturating_sub(other).max(other.saturating_sub(one))
}

#[cfg(test)]
mod tests {
    use dynmem_core::DeviceFacts;

    use super::*;
    use crate::{
        guest::{Guest, GuestConfig},
        workload::Need,
    };

    fn programs(anonymous: u64) -> Need {
        Need { anonymous: Bytes::from_mib(anonymous), ..Need::default() }
    }

    /// A guest with this memory whose programs have had `need` for a while.
    fn settled(boot: u64, need: Need) -> Guest {
        let boot = Bytes::from_mib(boot);
        let devices = DeviceFacts { boot, balloon_actual: boot, ..DeviceFacts::default() };
        let mut guest = Guest::boot(GuestConfig::default(), devices);
        guest.step(20_000, need);
        guest
    }

    /// When reports are sent in a guest whose programs need `need` at a time.
    fn told(guest: &mut Guest, millis: u64, need: impl Fn(u64) -> Need) -> Vec<u64> {
        let mut agent = Agent::new();
        (0..millis / 5)
            .filter_map(|index| {
                let now_ms = index * 5;
                guest.step(5, need(now_ms));
                agent.due(now_ms, &guest.report()).then_some(now_ms)
            })
            .collect()
    }

    #[test]
    fn a_calm_guest_is_heard_every_five_seconds() {
        let mut guest = settled(1024, programs(300));
        assert_eq!(told(&mut guest, 20_000, |_| programs(300)), [0, 5_000, 10_000, 15_000]);
    }

    #[test]
    fn a_slow_drift_is_told_once_a_second() {
        let mut guest = settled(1024, programs(300));
        let drifting = |now_ms| Need { anonymous: Bytes::new((300 << 20) + now_ms * 800), ..Need::default() };
        assert_eq!(told(&mut guest, 10_000, drifting).len(), 10);
    }

    #[test]
    fn a_jump_is_told_at_the_next_look_and_then_followed_closely() {
        let mut guest = settled(1024, programs(300));
        let jumping = |now_ms: u64| programs(300 + now_ms.saturating_sub(520) / 10);
        let told = told(&mut guest, 2_500, jumping);
        assert_eq!(told[0], 0);
        // 9.6 MiB are news for a guest of 1 GiB, reached at 620 ms; one is after that.
        assert_eq!(told[1], 650, "{told:?}");
        assert!(told[1..].windows(2).all(|pair| pair[1] - pair[0] == 15), "{told:?}");
    }

    #[test]
    fn a_stalled_guest_is_heard_every_tenth_of_a_second() {
        let mut guest = settled(512, programs(600));
        let told = told(&mut guest, 2_000, |_| programs(600));
        assert_eq!(told.len(), 20, "{told:?}");
    }

    #[test]
    fn an_agent_that_does_not_look_is_not_due() {
        let guest = settled(512, programs(100));
        let mut agent = Agent::new();
        assert!(agent.looks(0) && agent.due(0, &guest.report()));
        let mut moved = guest.report();
        moved.available = Bytes::ZERO;
        assert!(!agent.looks(49) && !agent.due(49, &moved));
        assert!(agent.looks(50) && agent.due(50, &moved));
    }
}

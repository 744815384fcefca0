//! [`Pace`]: when to look, and what is worth sending. Pure: it sees times and
//! readings, and answers.
//!
//! ```text
//!                   used rose by a step, or tasks stalled
//!   calm ───────────────────────────────────────────────────▶ alert
//!   probe 50 ms (15 ms while free memory falls),              read 15 ms,
//!   read 1 s, send news and heartbeats                        send each movement
//!        ◀─────────────── nothing new for 2 s ───────────────
//! ```

use dynmem_agent_protocol::{Reason, Report};
use dynmem_units::{Bytes, Percent};

/// How often a calm guest's free memory is looked at.
pub const CALM_PROBE_MS: u64 = 50;
/// How often a calm guest is measured completely, at least.
pub const CALM_READ_MS: u64 = 1000;
/// How often a guest that is getting short is measured.
pub const ALERT_READ_MS: u64 = 15;
/// How long it stays watched that closely after the last reason to.
pub const ALERT_MS: u64 = 2000;
/// How long a calm guest is probed that often after its free memory fell.
pub const SUSPICION_MS: u64 = 100;
/// Reports are never closer together than this.
pub const MIN_REPORT_GAP_MS: u64 = 10;
/// While watched closely, the host hears at least this often.
pub const ALERT_REPORT_MS: u64 = 100;
/// The longest silence, unless the host asks for another.
pub const HEARTBEAT_MS: u64 = 5000;
/// What the host may ask for.
pub const HEARTBEAT_RANGE_MS: std::ops::RangeInclusive<u64> = 100..=60_000;

/// A calm guest's movement below this is not news.
const STEP_MIN: Bytes = Bytes::from_mib(4);
/// While watched closely, a movement above this is worth a report.
const ALERT_STEP: Bytes = Bytes::MIB;
/// A movement worth telling at the next full second.
const DRIFT: Bytes = Bytes::new(256 << 10);
/// A stall (hundredths of a per cent) that is pressure.
const STALL_STEP: u32 = 100;
/// Below this share of visible memory, what is available is low.
const LOW: Percent = Percent::new(8);

/// The cheap look: `sysinfo(2)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Memory that the kernel manages.
    pub total: Bytes,
    /// Memory that nothing uses.
    pub free: Bytes,
}

/// Decides. Times are milliseconds on one clock that never runs backwards.
#[derive(Debug)]
pub struct Pace {
    heartbeat_ms: u64,
    alert_until_ms: u64,
    stalled: bool,
    suspicious_until_ms: u64,
    probed: Option<Probe>,
    read: Option<Seen>,
    sent: Option<Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at_ms: u64,
    probe: Probe,
    visible: Bytes,
    used: Bytes,
    stall: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            heartbeat_ms: HEARTBEAT_MS,
            alert_until_ms: 0,
            stalled: false,
            suspicious_until_ms: 0,
            probed: None,
            read: None,
            sent: None,
        }
    }
}

impl Pace {
    /// How long to sleep until the next look.
    pub fn wait_ms(&self, now_ms: u64) -> u64 {
        if now_ms < self.suspicious_until_ms || self.is_alert(now_ms) { ALERT_READ_MS } else { CALM_PROBE_MS }
    }

    /// True while the guest is watched closely.
    pub fn is_alert(&self, now_ms: u64) -> bool {
        now_ms < self.alert_until_ms
    }

    /// Tasks have stalled: the kernel's trigger fired.
    pub fn alarm(&mut self, now_ms: u64) {
        self.stalled = true;
        self.alert_until_ms = now_ms + ALERT_MS;
    }

    /// A new listener knows nothing: the next reading goes to it.
    pub fn new_listener(&mut self) {
        self.sent = None;
        self.read = None;
    }

    /// The host's wish for the longest silence, kept within
    /// [`HEARTBEAT_RANGE_MS`].
    pub fn set_heartbeat_ms(&mut self, wish: u64) {
        self.heartbeat_ms = wish.clamp(*HEARTBEAT_RANGE_MS.start(), *HEARTBEAT_RANGE_MS.end());
    }

    /// Takes a probe; says whether it is a reason to measure completely.
    pub fn wants_reading(&mut self, now_ms: u64, probe: Probe) -> bool {
        // Too little to be news may be the beginning of something: look again
        // soon.
        let before = self.probed.replace(probe);
        if before.is_some_and(|before| before.free.saturating_sub(probe.free) >= ALERT_STEP) {
            self.suspicious_until_ms = now_ms + SUSPICION_MS;
        }
        let Some(read) = self.read else { return true };
        let since = now_ms.saturating_sub(read.at_ms);
        // With little free the kernel drops its caches for whoever asks: free
        // stays as it is while the need grows, so only a reading tells.
        let blind = probe.free < LOW.of(probe.total);
        self.is_alert(now_ms)
            || since >= CALM_READ_MS.min(self.heartbeat_ms)
            || blind && since >= 2 * CALM_PROBE_MS
            || probe.total != read.probe.total
            || read.probe.free.saturating_sub(probe.free) > step(probe.total)
    }

    /// Takes a reading; says whether and why to send it.
    pub fn judge(&mut self, now_ms: u64, probe: Probe, report: &Report) -> Option<Reason> {
        let seen = Seen {
            at_ms: now_ms,
            probe,
            visible: report.visible_bytes,
            used: report.visible_bytes.saturating_sub(report.available_bytes),
            stall: report.stall_hundredths,
        };
        let before = self.read.replace(seen);
        let stalls = std::mem::take(&mut self.stalled) || seen.stall >= STALL_STEP;
        let jumped = before.is_some_and(|before| seen.used.saturating_sub(before.used) > step(seen.visible));
        if stalls || jumped {
            self.alert_until_ms = now_ms + ALERT_MS;
        }
        let reason = self.reason(&seen, stalls)?;
        self.sent = Some(seen);
        Some(reason)
    }

    fn reason(&self, seen: &Seen, stalls: bool) -> Option<Reason> {
        let Some(sent) = &self.sent else { return Some(Reason::Periodic) };
        let since = seen.at_ms.saturating_sub(sent.at_ms);
        if since < MIN_REPORT_GAP_MS {
            return None;
        }
        let low = seen.visible.saturating_sub(seen.used) < LOW.of(seen.visible);
        let rose = seen.used.saturating_sub(sent.used);
        let moved = rose.max(sent.used.saturating_sub(seen.used)).max(difference(seen.visible, sent.visible));
        if self.is_alert(seen.at_ms) {
            let stall_moved = seen.stall.abs_diff(sent.stall) >= STALL_STEP;
            return match (stalls || low && !rose.is_zero(), moved >= ALERT_STEP || stall_moved) {
                (true, true) => Some(Reason::Pressure),
                (false, true) => Some(Reason::Change),
                _ if since >= ALERT_REPORT_MS => Some(if stalls { Reason::Pressure } else { Reason::Periodic }),
                _ => None,
            };
        }
        if rose > step(seen.visible) || seen.visible != sent.visible {
            return Some(Reason::Change);
        }
        let due = if moved >= DRIFT { CALM_READ_MS.min(self.heartbeat_ms) } else { self.heartbeat_ms };
        (since >= due).then_some(Reason::Periodic)
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
    use super::*;

    const TOTAL: Bytes = Bytes::from_mib(400);

    /// A guest on a virtual clock, with `used` of [`TOTAL`] in use.
    struct Simulation {
        pace: Pace,
        now_ms: u64,
        readings: usize,
        sent: Vec<(u64, Reason)>,
    }

    impl Simulation {
        /// One that has sent its first report.
        fn new(used: Bytes) -> Self {
            let mut simulation = Self { pace: Pace::default(), now_ms: 0, readings: 0, sent: Vec::new() };
            simulation.tick(used, 0);
            assert_eq!(simulation.sent, [(0, Reason::Periodic)]);
            simulation.sent.clear();
            simulation.readings = 0;
            simulation
        }

        fn tick(&mut self, used: Bytes, stall: u32) {
            let free = TOTAL.saturating_sub(used);
            let probe = Probe { total: TOTAL, free };
            if self.pace.wants_reading(self.now_ms, probe) {
                self.readings += 1;
                let report = Report {
                    visible_bytes: TOTAL,
                    available_bytes: free,
                    stall_hundredths: stall,
                    ..Report::default()
                };
                if let Some(reason) = self.pace.judge(self.now_ms, probe, &report) {
                    self.sent.push((self.now_ms, reason));
                }
            }
            self.now_ms += self.pace.wait_ms(self.now_ms);
        }

        fn run(&mut self, until_ms: u64, used: impl Fn(u64) -> Bytes) {
            while self.now_ms < until_ms {
                self.tick(used(self.now_ms), 0);
            }
        }
    }

    #[test]
    fn a_calm_guest_is_read_once_a_second_and_heard_every_five() {
        let mut calm = Simulation::new(Bytes::from_mib(100));
        calm.run(20_001, |_| Bytes::from_mib(100));
        assert_eq!(calm.readings, 20);
        assert_eq!(calm.sent.len(), 4);
        assert!(calm.sent.iter().all(|(_, reason)| *reason == Reason::Periodic));
    }

    #[test]
    fn slow_drift_is_told_once_a_second() {
        let mut drifting = Simulation::new(Bytes::from_mib(100));
        drifting.run(10_001, |now| Bytes::new((100 << 20) + now * 400));
        assert_eq!(drifting.sent.len(), 10);
    }

    #[test]
    fn a_jump_is_sent_within_one_probe_and_then_followed_closely() {
        let mut jumping = Simulation::new(Bytes::from_mib(100));
        jumping.run(430, |_| Bytes::from_mib(100));
        assert!(jumping.sent.is_empty());
        // 64 MiB a second from 430 ms on.
        jumping.run(1500, |now| Bytes::new((100 << 20) + now.saturating_sub(430) * (64 << 20) / 1000));
        let (first, reason) = jumping.sent[0];
        // Free memory falls by the 4 MiB that are news in 63 ms; a probe sees it
        // fall before that, and then it is looked at closely.
        assert!(first <= 430 + 63 + ALERT_READ_MS, "{first}");
        assert_eq!(reason, Reason::Change);
        let gaps: Vec<u64> = jumping.sent.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert!(gaps.iter().all(|gap| (MIN_REPORT_GAP_MS..=2 * ALERT_READ_MS).contains(gap)), "{gaps:?}");
    }

    #[test]
    fn after_the_alert_it_becomes_quiet_again() {
        let mut guest = Simulation::new(Bytes::from_mib(100));
        guest.tick(Bytes::from_mib(150), 0);
        guest.run(4000, |_| Bytes::from_mib(150));
        assert!(!guest.pace.is_alert(guest.now_ms));
        (guest.readings, guest.sent) = (0, Vec::new());
        guest.run(14_001, |_| Bytes::from_mib(150));
        assert!(guest.readings <= 11 && guest.sent.len() <= 3, "{} {:?}", guest.readings, guest.sent);
    }

    #[test]
    fn a_stall_is_pressure_at_once() {
        let mut guest = Simulation::new(Bytes::from_mib(100));
        guest.now_ms = 200;
        guest.pace.alarm(200);
        guest.tick(Bytes::from_mib(102), 700);
        assert_eq!(guest.sent, [(200, Reason::Pressure)]);
    }

    #[test]
    fn a_calm_guest_is_probed_at_leisure() {
        let mut guest = Simulation::new(Bytes::from_mib(100));
        guest.tick(Bytes::new((100 << 20) + (1 << 19)), 0);
        assert_eq!(guest.pace.wait_ms(guest.now_ms), CALM_PROBE_MS);
        guest.tick(Bytes::from_mib(102), 0);
        assert_eq!(guest.pace.wait_ms(guest.now_ms), ALERT_READ_MS, "it falls");
        guest.run(guest.now_ms + SUSPICION_MS, |_| Bytes::from_mib(102));
        assert_eq!(guest.pace.wait_ms(guest.now_ms), CALM_PROBE_MS, "it was nothing");
    }

    #[test]
    fn with_little_free_it_does_not_rely_on_the_probe() {
        let mut guest = Simulation::new(Bytes::from_mib(100));
        let probe = Probe { total: TOTAL, free: Bytes::from_mib(10) };
        guest.pace.judge(0, probe, &Report { visible_bytes: TOTAL, available_bytes: TOTAL, ..Report::default() });
        assert!(!guest.pace.wants_reading(50, probe));
        assert!(guest.pace.wants_reading(100, probe));
    }

    #[test]
    fn memory_that_arrives_is_told_at_once() {
        let mut guest = Simulation::new(Bytes::from_mib(100));
        let probe = Probe { total: Bytes::from_mib(500), free: Bytes::from_mib(400) };
        assert!(guest.pace.wants_reading(50, probe));
        let report = Report { visible_bytes: probe.total, available_bytes: probe.free, ..Report::default() };
        assert_eq!(guest.pace.judge(50, probe, &report), Some(Reason::Change));
    }

    #[test]
    fn the_host_chooses_the_heartbeat_within_reason() {
        let mut guest = Simulation::new(Bytes::from_mib(100));
        guest.pace.set_heartbeat_ms(500);
        guest.run(5001, |_| Bytes::from_mib(100));
        assert_eq!(guest.sent.len(), 10);
        guest.pace.set_heartbeat_ms(0);
        assert_eq!(guest.pace.heartbeat_ms, 100);
        guest.pace.set_heartbeat_ms(u64::MAX);
        assert_eq!(guest.pace.heartbeat_ms, 60_000);
    }
}

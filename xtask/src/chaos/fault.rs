//! [`Fault`]: what may go wrong, and for how long it excuses a guest.

use std::time::Duration;

use dynmem_api::MemoryPatch;
use dynmem_core::MemorySettings;
use dynmem_units::{Bytes, Percent, Weight};
use fastrand::Rng;

/// One thing that goes wrong, or that people do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fault {
    /// The daemon is killed; another starts after this.
    DaemonKilled(Duration),
    /// QEMU is killed; the VM is started again after this.
    QemuKilled(Duration),
    /// QEMU stands still for this long.
    QemuFrozen(Duration),
    AgentKilled,
    /// The agent stands still for this long.
    AgentStopped(Duration),
    /// The balloon has no driver for this long: its memory is the guest's.
    BalloonUnbound(Duration),
    GuestReboots,
    GuestCrashes,
    /// `dynmem vm restart`.
    Restart,
    /// It is idle until the others have its memory, and then restarts, from
    /// inside or by command.
    CrowdedRestart {
        inside: bool,
    },
    /// The VM is paused for this long.
    Paused(Duration),
    /// The VM is stopped, by force or not, and started again after this.
    Stopped {
        force: bool,
        off: Duration,
    },
    /// The VM is saved to a file, and goes on from it after this.
    Saved(Duration),
    /// The memory settings change.
    Settings(MemoryPatch),
    /// Another program on the host takes so much memory for so long.
    Hog(Bytes, Duration),
}

/// After a fault is over a guest is excused for this long: it boots, or finds
/// its feet again.
pub(super) const AFTERMATH: Duration = Duration::from_secs(20);
/// How many faults of the guests' there are to choose from.
const OF_GUESTS: usize = 13;

impl Fault {
    /// A fault for a guest with these settings.
    pub(super) fn of_guest(settings: &MemorySettings, rng: &mut Rng) -> Self {
        let mut seconds = |from: u64, to: u64| Duration::from_millis(rng.u64(from * 1000..=to * 1000));
        let (short, long) = (seconds(1, 6), seconds(3, 20));
        match rng.usize(..OF_GUESTS) {
            0 => Self::QemuKilled(short),
            1 => Self::QemuFrozen(seconds_of(rng, 1, 12)),
            2 => Self::AgentKilled,
            3 => Self::AgentStopped(long),
            4 => Self::BalloonUnbound(long),
            5 => Self::GuestReboots,
            6 => Self::GuestCrashes,
            7 => Self::Restart,
            8 => Self::Paused(short),
            9 => Self::Stopped { force: rng.bool(), off: short },
            10 => Self::Saved(short),
            11 => Self::CrowdedRestart { inside: rng.bool() },
            _ => Self::Settings(patch(settings, rng)),
        }
    }

    /// A fault of the host or the daemon.
    pub(super) fn of_host(rng: &mut Rng) -> Self {
        if rng.u32(..3) > 0 {
            return Self::DaemonKilled(Duration::from_millis(rng.u64(..4000)));
        }
        Self::Hog(Bytes::from_mib(rng.u64(64..=768)), seconds_of(rng, 2, 8))
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::DaemonKilled(_) => "daemon-killed",
            Self::QemuKilled(_) => "qemu-killed",
            Self::QemuFrozen(_) => "qemu-frozen",
            Self::AgentKilled => "agent-killed",
            Self::AgentStopped(_) => "agent-stopped",
            Self::BalloonUnbound(_) => "balloon-unbound",
            Self::GuestReboots => "guest-reboots",
            Self::GuestCrashes => "guest-crashes",
            Self::Restart => "restart",
            Self::CrowdedRestart { .. } => "crowded-restart",
            Self::Paused(_) => "paused",
            Self::Stopped { .. } => "stopped",
            Self::Saved(_) => "saved",
            Self::Settings(_) => "settings",
            Self::Hog(..) => "hog",
        }
    }

    /// Whether the guest it is done to may misbehave because of it.
    pub(super) fn excuses(&self) -> bool {
        !matches!(self, Self::Settings(_) | Self::Hog(..))
    }
}

fn seconds_of(rng: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.u64(from * 1000..=to * 1000))
}

/// A change that is allowed while the guest runs.
fn patch(settings: &MemorySettings, rng: &mut Rng) -> MemoryPatch {
    match rng.u32(..4) {
        0 => MemoryPatch { weight: Weight::new(rng.u64(1..=10_000)).ok(), ..MemoryPatch::default() },
        1 => MemoryPatch { buffer: Some(Percent::new(rng.u32(5..=60))), ..MemoryPatch::default() },
        2 => {
            let less = settings.minimum.saturating_sub(Bytes::from_mib(2 * rng.u64(1..=16)));
            MemoryPatch { minimum: Some(less.max(Bytes::from_mib(96))), ..MemoryPatch::default() }
        }
        _ => {
            let more = settings.maximum.saturating_add(Bytes::from_mib(2 * rng.u64(1..=32)));
            MemoryPatch { maximum: Some(more.min(Bytes::from_mib(1280))), ..MemoryPatch::default() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_fault_comes_up() {
        let mut rng = Rng::with_seed(7);
        let settings = MemorySettings::default();
        let mut names: Vec<_> = (0..500).map(|_| Fault::of_guest(&settings, &mut rng).name()).collect();
        names.extend((0..50).map(|_| Fault::of_host(&mut rng).name()));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), OF_GUESTS + 2, "{names:?}");
    }
}

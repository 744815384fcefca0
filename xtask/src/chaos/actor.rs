//! [`Cast`]: the guests, chosen at random; and [`Actor`]: one of them while it
//! plays.

use std::time::Instant;

use dynmem_core::MemorySettings;
use dynmem_units::{Bytes, Percent, Weight};
use dynmem_vm_tests::{Guest, Workload};
use fastrand::Rng;
use tokio::task::JoinHandle;

use super::deeds::Told;

/// The pool is a multiple of this.
pub(super) const POOL_STEP: Bytes = Bytes::from_mib(32);
/// QEMU's own memory, at most, for a guest such as these.
const OVERHEAD: Bytes = Bytes::from_mib(96);
/// What a guest needs without any load.
const BARE: Bytes = Bytes::from_mib(110);
/// What one without any load says that it needs.
const IDLE: Bytes = Bytes::from_mib(72);
const NAMES: [&str; 6] = ["ada", "bob", "cid", "dan", "eve", "fay"];

/// The guests, and the chance that chose them.
#[derive(Clone, Debug)]
pub(super) struct Cast {
    pub(super) guests: Vec<Guest>,
    pub(super) rng: Rng,
}

impl Cast {
    /// Four to six guests of random sizes.
    pub(super) fn choose(mut rng: Rng) -> Self {
        let count = rng.usize(4..=6);
        let guests = NAMES[..count].iter().map(|name| guest(name, &mut rng)).collect();
        Self { guests, rng }
    }

    /// All can boot at once, and none of them much more: what one has beyond
    /// its startup memory, others went without.
    pub(super) fn pool(&self) -> Bytes {
        self.guests.iter().map(|guest| guest.memory.startup.saturating_add(OVERHEAD)).sum()
    }

    /// The most that all loads together may hold, so that there is demand for
    /// about four fifths of the pool.
    pub(super) fn budget(&self) -> Bytes {
        let bare: Bytes = self.guests.iter().map(|_| OVERHEAD.saturating_add(BARE)).sum();
        self.pool().saturating_sub(bare).scale(4, 5)
    }
}

fn guest(name: &str, rng: &mut Rng) -> Guest {
    let startup = [256, 320, 384][rng.usize(..3)];
    let minimum = [128, 160, 192][rng.usize(..3)];
    let maximum = [512, 640, 768, 1024][rng.usize(..4)];
    let mut guest = Guest::new(name, startup, minimum, maximum);
    guest.memory.buffer = Percent::new(rng.u32(10..=40));
    guest.memory.weight = Weight::new(rng.u64(1000..=10_000)).unwrap_or_default();
    guest
}

/// Who has the connection to a guest's workload.
#[derive(Debug)]
pub(super) enum Hands {
    /// Nobody needs it now.
    Free(Workload),
    /// A task, which gives it back with what it has to tell.
    Busy(JoinHandle<Told>),
    /// The machine is off, or about to be.
    Empty,
}

/// What has to be done about a guest at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    Thaw,
    ContinueAgent,
    BindBalloon,
    Resume,
}

/// A guest while it plays.
#[derive(Debug)]
pub(super) struct Actor {
    pub(super) name: String,
    /// As they were last set.
    pub(super) settings: MemorySettings,
    pub(super) hands: Hands,
    /// What its load is to hold.
    pub(super) goal: Bytes,
    /// What ends its fault, and when. One fault at a time.
    pub(super) remedy: Option<(Instant, Remedy)>,
    /// Until then its troubles have a fault that explains them.
    pub(super) excused_until: Option<Instant>,
    /// When its guest booted, by the guest's own clock.
    pub(super) booted_at: Option<Instant>,
    pub(super) oom_kills: u64,
    /// Broken pages that its guest has told of since its boot.
    pub(super) broken: u64,
    /// It boots, or is off to be started again.
    pub(super) booting: bool,
    /// A part of it is in a file, as far as is known.
    pub(super) pages: bool,
}

impl Actor {
    pub(super) fn new(guest: &Guest) -> Self {
        Self {
            name: guest.name.clone(),
            settings: guest.memory.clone(),
            hands: Hands::Empty,
            goal: Bytes::ZERO,
            remedy: None,
            excused_until: None,
            booted_at: None,
            oom_kills: 0,
            broken: 0,
            booting: false,
            pages: false,
        }
    }

    /// The most that its load may hold: its swap is for bursts.
    pub(super) fn goal_max(&self) -> Bytes {
        self.settings.maximum.saturating_sub(BARE.scale(3, 2))
    }

    /// What it says that it needs, more or less.
    pub(super) fn need(&self) -> Bytes {
        self.goal.saturating_add(IDLE)
    }

    /// It has no fault, and nothing to do.
    pub(super) fn is_able(&self) -> bool {
        matches!(self.hands, Hands::Free(_)) && self.remedy.is_none()
    }

    /// The load with which it needs so much in all.
    pub(super) fn goal_to_need(&self, bytes: Bytes) -> Bytes {
        bytes.saturating_sub(IDLE).min(self.goal_max())
    }

    pub(super) fn is_excused(&self) -> bool {
        self.remedy.is_some() || self.booting || self.excused_until.is_some_and(|until| Instant::now() < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_chooses_the_same_guests_and_each_can_boot() {
        let choose = |seed| Cast::choose(Rng::with_seed(seed));
        for seed in 0..50 {
            let cast = choose(seed);
            assert_eq!(format!("{:?}", cast.guests), format!("{:?}", choose(seed).guests));
            assert!(cast.guests.iter().all(|guest| guest.memory.check().is_ok()), "{cast:?}");
            assert!(!cast.budget().is_zero() && cast.budget() < cast.pool());
        }
    }
}

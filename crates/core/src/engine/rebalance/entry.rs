//! One elastic VM in a decision: what it has, should have and may get.
//!
//! An entry is made from its VM once, and every later step of the decision
//! reads it instead: it is a tenth of the size, less than a cache line. Amounts
//! are in blocks.

use dynmem_units::{Bytes, Weight};

use crate::{
    Instant, VmId,
    share::Claim,
    vm::{Machine, Vm},
};

/// The last of a settled buffer is given if it is more than this. Blocks: 8 MiB,
/// as [`Vm::slack`]'s least.
const REST_MIN: u32 = 4;

/// One elastic VM in a decision. Amounts are in blocks.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Entry {
    pub(super) id: VmId,
    weight: Weight,
    /// The last decision could not give it all that it wanted.
    pub(super) waiting: bool,
    /// What it may not or can't sink below now: its minimum, what a stuck one
    /// holds, what virtio-mem can't unplug.
    pub(super) floor: u32,
    /// What its last report asked for.
    pub(super) needs: u32,
    /// The same, sinking patiently.
    pub(super) demand: u32,
    pub(super) target: u32,
    /// The target, and room for growth that is expected now.
    pub(super) hope: u32,
    /// The part of the buffer that may be missing before it is refilled.
    pub(super) slack: u32,
    /// What it has been promised.
    pub(super) promised: u32,
    /// What is charged already, overhead excluded: promised, or still held.
    pub(super) covered: u32,
    /// What it should have: its target, or the outcome of [`super::entitle`].
    pub(super) entitled: u32,
    /// What it gets now: the outcome of [`super::grant`]; zero for nothing new.
    pub(super) granted: u32,
}

pub(super) fn blocks(bytes: Bytes) -> u64 {
    bytes.get() / Bytes::BLOCK.get()
}

pub(super) fn bytes(blocks: u64) -> Bytes {
    Bytes::BLOCK.scale(blocks, 1)
}

/// Blocks of one VM: at most 2 PiB, more than machines address, so that no sum
/// of two or three overflows.
pub(super) fn of_one(blocks: u64) -> u32 {
    const MOST: u32 = u32::MAX / 4;
    u32::try_from(blocks.min(u64::from(MOST))).unwrap_or(MOST)
}

fn blocks_of_one(bytes: Bytes) -> u32 {
    of_one(blocks(bytes))
}

impl Entry {
    /// `covered`: the charge for the machine's own memory.
    #[inline] // its fields go straight to where the entry stays
    pub(super) fn new(now: Instant, id: VmId, vm: &Vm, machine: &Machine, covered: Bytes) -> Self {
        let blocks = blocks_of_one;
        let promised = blocks(machine.promise.assigned());
        let minimum = blocks(vm.settings.minimum);
        let pinned = if machine.stall.pinned(now) { blocks(machine.devices.plugged) + 1 } else { 0 };
        let stuck = if machine.stall.resting(now) { promised } else { 0 };
        let floor = minimum.max(stuck).max(pinned);
        let (wanted, demand) = (vm.target(machine), vm.demand(machine));
        // A device that did not take memory is not given any while it rests.
        let most = if machine.stall.rests_from_growing(now) { floor } else { u32::MAX };
        let target = blocks(wanted).max(floor).min(most);
        let demand_blocks = blocks(demand).clamp(floor, target);
        Self {
            id,
            weight: vm.settings.weight,
            waiting: machine.waiting,
            floor,
            needs: blocks(machine.demand.measured().align_up(Bytes::BLOCK)).clamp(floor, demand_blocks),
            demand: demand_blocks,
            target,
            hope: blocks(vm.hope(now, machine, wanted)).max(target).min(most),
            slack: blocks(Vm::slack(wanted, demand)),
            promised,
            covered: blocks(covered),
            entitled: target,
            granted: 0,
        }
    }

    /// Its claim to a share between `floor` and `ceiling`, which is no less.
    pub(super) fn claim(&self, floor: u32, ceiling: u32) -> Claim {
        Claim { weight: u32::from(self.weight.get()), floor, ceiling }
    }

    /// True if less than its demand, or its minimum, has been promised.
    pub(super) fn in_need(&self) -> bool {
        self.promised < self.demand
    }

    /// Blocks promised beyond what it is entitled to.
    pub(super) fn surplus(&self) -> u32 {
        self.promised.saturating_sub(self.entitled)
    }

    /// The part of the surplus that it will not miss: it is not expected to
    /// grow into it, nor would the buffer be refilled from it at once. None
    /// while it still owes what it was asked for.
    pub(super) fn idle_surplus(&self) -> u32 {
        let owes = self.covered > self.promised;
        if owes { 0 } else { self.promised.saturating_sub(self.entitled.max(self.hope) + self.slack) }
    }

    /// True if growing to what it is entitled to is worth an operation now.
    pub(super) fn wants(&self) -> bool {
        let missing = self.entitled.saturating_sub(self.promised);
        // Where buffers are short, a quarter is one of what there is.
        let slack = self.slack.min(self.entitled.saturating_sub(self.demand) / 4);
        missing > slack || (missing > 0 && (self.in_need() || self.waiting))
    }

    /// True if growing to what it hopes for is worth an operation now: for
    /// growth that is expected, or, once its demand has `settled`, for the last
    /// of the buffer.
    pub(super) fn hopes(&self, settled: impl FnOnce() -> bool) -> bool {
        self.promised + self.slack < self.hope || (self.promised + REST_MIN < self.hope && settled())
    }

    /// What it would lack if it grew now as it did before, or, while it is
    /// young, as anybody did (`surge_max`).
    pub(super) fn exposure(&self, now: Instant, vm: &Vm, machine: &Machine, surge_max: u64) -> u64 {
        if machine.stall.rests_from_growing(now) {
            return 0;
        }
        let growth = &machine.growth;
        let surge = if growth.young(now) { surge_max } else { blocks(growth.surge()) };
        let grown = (blocks(growth.base()) + surge).min(blocks(vm.settings.maximum));
        grown.saturating_sub(u64::from(self.promised.max(self.target)))
    }
}

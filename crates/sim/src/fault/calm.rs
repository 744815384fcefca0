//! The calm after the storm: what a life must come to once nothing is wrong
//! and nobody's demand moves.

use dynmem_core::{DemandModel, DriverSnapshot, VmSnapshot, VmState};
use dynmem_units::Bytes;

use super::Life;
use crate::world::SimVm;

/// All waits are over by then: starts, graces, rests of stuck devices, sinking
/// demand.
const SETTLES_MS: u64 = 600_000;
/// For so long nothing may move then.
const QUIET_MS: u64 = 600_000;
/// What a guest may lack beside free memory: watermarks that only its kernel
/// knows of (64 MiB at most), and rounding.
const TOLERANCE: Bytes = Bytes::from_mib(72);

impl Life {
    pub(super) fn calm(&mut self) {
        if self.world.broken().is_some() {
            return;
        }
        self.heal_all();
        self.world.freeze_needs();
        if !self.pass(SETTLES_MS) {
            return;
        }
        self.look_for_shortage();
        let before = self.operations();
        let kills_before = self.oom_kills;
        if !self.pass(QUIET_MS) {
            return;
        }
        let operations = self.operations() - before;
        // Programs that are killed and begin anew are no constant demand.
        if operations > 0 && self.oom_kills == kills_before {
            self.fail(6, format!("{operations} operations in ten minutes of constant demand"));
        }
    }

    fn pass(&mut self, millis: u64) -> bool {
        let end_ms = self.world.now_ms() + millis;
        while self.world.now_ms() < end_ms {
            let step_ms = self.rng.u64(500..=1_000);
            if !self.step(step_ms) {
                return false;
            }
        }
        true
    }

    fn operations(&self) -> u64 {
        self.world.vms().iter().map(|vm| vm.tally.operations).sum()
    }

    /// 5: nobody is short beside memory that is free, or that others don't need.
    fn look_for_shortage(&mut self) {
        let Some(engine) = self.world.policy().engine() else { return };
        let snapshots = engine.vm_snapshots(self.world.told());
        let pairs = || self.world.vms().iter().zip(&snapshots).filter(|(_, seen)| moves(seen));
        let charged: Bytes = self.world.vms().iter().map(SimVm::charge).sum();
        let free = self.world.lendable().saturating_sub(charged).min(engine.host_snapshot().available);
        let surplus: Bytes = pairs().map(|(vm, seen)| surplus(vm, seen)).sum();
        let short = pairs().map(|(vm, seen)| (lacks(vm, seen), vm)).max_by_key(|(lacks, _)| *lacks);
        let Some((lacks, vm)) = short.filter(|(lacks, _)| *lacks > TOLERANCE) else { return };
        if free.saturating_add(surplus) > TOLERANCE {
            let what = format!(
                "{} lacks {lacks} of {} while {free} is free and others hold {surplus} that they don't need",
                vm.plan.name, vm.lived.needed
            );
            self.fail(5, what);
        }
    }
}

/// A VM that could give and take memory.
fn moves(seen: &VmSnapshot) -> bool {
    seen.state == VmState::Running && seen.settings.dynamic && seen.driver == DriverSnapshot::Working
}

/// What it lacks of what it needs: in truth, or as the commitments say whose
/// model is told to look at nothing else.
fn lacks(vm: &SimVm, seen: &VmSnapshot) -> Bytes {
    let needed = match seen.settings.demand_model {
        DemandModel::WorkingSet => vm.lived.needed,
        DemandModel::Committed => seen.demand,
    };
    needed.min(seen.settings.maximum).saturating_sub(vm.lived.held)
}

/// What it holds beyond all that can be said for it: need, demand as its model
/// has it, minimum.
fn surplus(vm: &SimVm, seen: &VmSnapshot) -> Bytes {
    let keeps = vm.lived.needed.max(seen.demand).max(seen.settings.minimum);
    vm.lived.held.saturating_sub(keeps.align_up(Bytes::BLOCK))
}

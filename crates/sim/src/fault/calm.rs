//! The calm after the storm: what a life must come to once nothing is wrong
//! and nobody's demand moves.

use dynmem_core::{DemandModel, DriverSnapshot, VmSnapshot, VmState};
use dynmem_units::Bytes;

use super::Life;
use crate::world::{SimVm, Tally};

/// All waits are over by then: starts, graces, rests of stuck devices, sinking
/// demand.
const SETTLES_MS: u64 = 600_000;
/// In that time a guest that is up has done without its file, unless it can't.
const FILE_GOES_WITHIN_MS: u64 = 60_000;
/// For so long nothing may move then.
const QUIET_MS: u64 = 600_000;
/// Orders to one VM in that time that move nothing: a device that does not do
/// what it was asked (unplug, then inflate, and a little more) is told to stop,
/// and asked again a minute later.
const RETRIES_MAX: u64 = 10 * QUIET_MS / 60_000;
/// What it moves at most in these: two blocks given each minute, and taken
/// again.
const MOVED_MAX: Bytes = Bytes::from_mib(2 * 4 * QUIET_MS / 60_000);
/// Memory that is free at one instant is on its way to somebody; at so many
/// instants it is not.
const LOOKS: u32 = 20;
const LOOK_MS: u64 = 3_000;
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
        if !self.pass(SETTLES_MS) || !self.pass_young_files() {
            return;
        }
        if !self.look_for_shortage() || !self.look_for_files() {
            return;
        }
        let before: Vec<Tally> = self.world.vms().iter().map(|vm| vm.tally).collect();
        self.wavers = false;
        if self.pass(QUIET_MS) && !self.wavers {
            self.look_for_unrest(&before);
        }
    }

    /// 6: nothing moves. A guest that can't give what it was asked for (all is
    /// in use, and its swap is full) is asked again now and then, and may give
    /// a last block.
    fn look_for_unrest(&mut self, before: &[Tally]) {
        let restless = self.world.vms().iter().zip(before).find_map(|(vm, before)| {
            let operations = vm.tally.operations - before.operations;
            let moved = vm.tally.moved.saturating_sub(before.moved);
            let rests = moved <= MOVED_MAX && operations <= RETRIES_MAX;
            (!rests).then(|| format!("{} was ordered {operations} times and moved {moved}", vm.plan.name))
        });
        if let Some(what) = restless {
            self.fail(6, format!("{what} in ten minutes of constant demand"));
        }
    }

    /// A file may have begun late, behind one that is overdue: it has its time, too.
    fn pass_young_files(&mut self) -> bool {
        let is_young = |vm: &SimVm, now_ms: u64| {
            let with_file = vm.machine.as_ref().filter(|machine| machine.file.is_some());
            with_file.is_some_and(|machine| now_ms < machine.speaks_at_ms + FILE_GOES_WITHIN_MS)
        };
        for _ in 0..self.world.vms().len() {
            let now_ms = self.world.now_ms();
            if !self.world.vms().iter().any(|vm| is_young(vm, now_ms)) {
                break;
            }
            if !self.pass(FILE_GOES_WITHIN_MS) {
                return false;
            }
        }
        true
    }

    fn pass(&mut self, millis: u64) -> bool {
        let end_ms = self.world.now_ms() + millis;
        while self.world.now_ms() < end_ms {
            let step_ms = self.rng.u64(500..=1_000);
            if !self.step(step_ms) {
                return false;
            }
            self.wavers |= self.world.vms().iter().any(wavers);
        }
        true
    }

    /// 11: no file is left that its guest could do without. False if there is.
    fn look_for_files(&mut self) -> bool {
        let now_ms = self.world.now_ms();
        let left_over = |vm: &&SimVm| {
            let Some(machine) = vm.machine.as_ref().filter(|machine| machine.file.is_some()) else { return false };
            let has = machine.in_memory();
            vm.running(now_ms) && (machine.guest.held() <= has || has > vm.lived.needed.saturating_add(TOLERANCE))
        };
        let left = self.world.vms().iter().find(left_over);
        let what = left.map(|vm| format!("{} has a file, and room in memory for all that it needs", vm.plan.name));
        if let Some(what) = what {
            self.fail(11, what);
        }
        self.broken.is_none()
    }

    /// 5: nobody is short beside memory that is free, or that others don't
    /// need, unless it is on its way. False if something is broken.
    fn look_for_shortage(&mut self) -> bool {
        let mut last = None;
        for _ in 0..LOOKS {
            last = self.shortage();
            if last.is_none() || !self.pass(LOOK_MS) {
                break;
            }
        }
        if let Some(what) = last {
            self.fail(5, what);
        }
        self.broken.is_none() && self.world.broken().is_none()
    }

    /// Who is short beside how much memory now.
    fn shortage(&self) -> Option<String> {
        let engine = self.world.policy().engine()?;
        let snapshots = engine.vm_snapshots(self.world.told());
        let pairs = || self.world.vms().iter().zip(&snapshots).filter(|(_, seen)| moves(seen));
        let charged = self.world.charged();
        let free = self.world.lendable().saturating_sub(charged).min(engine.host_snapshot().available);
        let surplus: Bytes = pairs().map(|(vm, seen)| surplus(vm, seen)).sum();
        let short = pairs().map(|(vm, seen)| (lacks(vm, seen), vm)).max_by_key(|(lacks, _)| *lacks);
        let (lacks, vm) = short.filter(|(lacks, _)| *lacks > TOLERANCE)?;
        (free.saturating_add(surplus) > TOLERANCE).then(|| {
            format!(
                "{} lacks {lacks} of {} while {free} is free and others hold {surplus} that they don't need",
                vm.plan.name, vm.lived.needed
            )
        })
    }
}

/// True if its demand is not constant although its programs' need is: they are
/// killed and begin anew; or its model counts commitments, and what they don't
/// show is seen only by the stalls while it lacks.
fn wavers(vm: &SimVm) -> bool {
    let hidden = vm.plan.settings.demand_model == DemandModel::Committed && vm.lived.stalled_ms > 0;
    vm.lived.oom || hidden
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

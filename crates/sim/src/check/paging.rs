//! Invariant 11: only a restart pages, when nothing is free for it and nothing
//! comes back, with a place for every byte, and one at a time.

use dynmem_core::{Effect, Engine, Paged, VmId};
use dynmem_units::Bytes;

use super::Check;
use crate::world::World;

/// Rounding, of each of the sums that a decision is made of.
const ROUNDING: Bytes = Bytes::from_mib(8);

impl Check {
    /// Looks at the files that one input led to.
    pub(super) fn paging(&mut self, world: &World, engine: &Engine, effects: &[Effect]) {
        for effect in effects {
            let (id, paged, restarts) = match *effect {
                Effect::LaunchPaged(id, paged) => (id, paged, world.vms()[id.0 as usize].ran_before()),
                Effect::BeginPaging(id, paged) => (id, paged, world.vms()[id.0 as usize].held()),
                _ => continue,
            };
            if !restarts {
                self.fail(world, 11, format!("{id:?} pages, and does not restart"));
            }
            self.begins(world, engine, id, paged);
        }
    }

    fn begins(&mut self, world: &World, engine: &Engine, id: VmId, paged: Paged) {
        if !world.plan().smart_paging {
            return self.fail(world, 11, format!("{id:?} pages on a host that can't"));
        }
        let snapshots = engine.vm_snapshots(world.told());
        let boot = world.vms()[id.0 as usize].machine.as_ref().map(|machine| machine.guest.devices().boot);
        if boot.is_some_and(|boot| paged.memory.saturating_add(paged.file) < boot) {
            self.fail(world, 11, format!("{id:?} pages with {paged:?}, which are not all of its memory"));
        }
        let other = snapshots.iter().find(|vm| vm.id != id && vm.paging.is_some_and(|paging| !paging.overdue));
        if let Some(other) = other {
            self.fail(world, 11, format!("{id:?} pages beside {}", other.name));
        }
        let free = engine.host_snapshot().available;
        if free > ROUNDING {
            self.fail(world, 11, format!("{id:?} pages beside {free} of free memory"));
        }
    }
}

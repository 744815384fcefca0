//! Smart paging in a world: machines that are limited to a part of their
//! memory, and the files that have the rest.
//!
//! ```text
//! BeginPaging ──▶ a file for the held machine ──reset──▶ it is limited
//! LaunchPaged ──▶ a machine that is limited from its launch
//! Order       ──▶ what a limited machine may hold from now on
//! EndPaging   ──▶ no limit, no file
//! ```
//! What a limited machine holds of the host is its *memory*, whatever its
//! devices say: that is what the checks count.

use dynmem_core::{Event, Paged, VmId};
use dynmem_units::Bytes;

use super::{SimMachine, World};

/// From an order until a file is made, or emptied.
const FILE_MS: u64 = 400;
/// How much of a file is in use is told this often.
const USED_MS: u64 = 2_000;
/// What a file's disk says when it is broken.
const DISK: &str = "the disk is full";

/// A machine's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimFile {
    /// What the machine may hold in memory when it is reset with it, and its size.
    pub paged: Paged,
    /// What the machine may hold now, once it was reset or launched with it.
    pub limit: Option<Bytes>,
}

impl SimMachine {
    /// What it may hold in memory, if it is limited.
    pub(super) fn limit(&self) -> Option<Bytes> {
        self.file.and_then(|file| file.limit)
    }

    /// What it holds of the host's memory, its hypervisor excluded.
    pub fn in_memory(&self) -> Bytes {
        self.guest.held().min(self.limit().unwrap_or(Bytes::MAX))
    }

    /// What was ordered of a limited machine is what it may hold from then on,
    /// also of one that is held and could not say so yet.
    pub(super) fn limit_to(&mut self, memory: Bytes) {
        if let Some(limit) = self.file.as_mut().and_then(|file| file.limit.as_mut()) {
            *limit = memory;
        }
    }
}

impl World {
    pub(super) fn begin_paging(&mut self, id: VmId, paged: Paged) {
        let vm = self.vm_mut(id);
        let Some(machine) = vm.machine.as_mut() else { return };
        let answer = if vm.trouble.file_fails {
            Event::PagingFailed(DISK.to_owned())
        } else {
            let limit = machine.limit().map(|_| paged.memory);
            machine.file = Some(SimFile { paged, limit });
            Event::PagingBegan
        };
        self.send_at(self.now_ms + FILE_MS, id, answer);
    }

    pub(super) fn end_paging(&mut self, id: VmId) {
        let vm = self.vm_mut(id);
        let Some(machine) = vm.machine.as_mut() else { return };
        let answer = if vm.trouble.file_fails {
            Event::PagingFailed(DISK.to_owned())
        } else {
            let fits = machine.limit().is_none_or(|limit| machine.guest.held() <= limit);
            machine.file = None;
            if !fits {
                self.note(11, format!("the file of {id:?} was taken away while its memory did not fit"));
            }
            Event::PagingEnded
        };
        self.send_at(self.now_ms + FILE_MS, id, answer);
    }

    /// How much of a file is in use, if it is time to tell.
    pub(super) fn tell_paging(&mut self, id: VmId, millis: u64) {
        let Some(machine) = &self.vms[id.0 as usize].machine else { return };
        let used = machine.guest.held().saturating_sub(machine.in_memory());
        if machine.limit().is_some() && super::crossed(self.now_ms, millis, USED_MS) {
            self.send(id, Event::PagingUsed(used));
        }
    }

    /// What a policy that is started anew is told of a machine's file: one that
    /// was made and never used is deleted instead.
    pub(super) fn found_file(&mut self, id: VmId) -> Option<Paged> {
        let machine = self.vm_mut(id).machine.as_mut()?;
        machine.file = machine.file.filter(|file| file.limit.is_some());
        machine.file.and_then(|file| Some(Paged { memory: file.limit?, ..file.paged }))
    }

    /// The host goes down, and all that ran on it; it comes up again after
    /// `down_ms`, and so do they.
    pub fn restart_host(&mut self, down_ms: u64) {
        for vm in &mut self.vms {
            vm.starts_again |= vm.machine.take().is_some();
        }
        self.crash_policy(down_ms);
    }

    pub(super) fn start_again(&mut self) {
        for index in 0..self.vms.len() {
            let vm = &mut self.vms[index];
            let (id, overhead) = (vm.id, vm.plan.overhead);
            if std::mem::take(&mut vm.starts_again) {
                vm.ran_before = true;
                self.send(id, Event::StartAgain { overhead });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::{VmPlan, dynamic},
        policy::MachineShape,
        workload::Workload,
        world::SimVm,
    };

    const MIB: fn(u64) -> Bytes = Bytes::from_mib;

    #[test]
    fn a_limited_machine_that_is_held_may_hold_what_is_ordered_until_its_reset() {
        let plan = VmPlan::new("vm0", dynamic(256, 1024, 4096), Workload::steady(MIB(100)));
        let mut vm = SimVm::new(VmId(0), plan);
        let shape = MachineShape { boot: MIB(1024), plug_max: Bytes::ZERO };
        vm.switch_on(0, shape, MIB(1024), false);
        let machine = vm.machine.as_mut().expect("it is on");
        let paged = Paged { memory: MIB(600), file: MIB(424) };
        machine.file = Some(SimFile { paged, limit: Some(paged.memory) });
        machine.held = true;
        machine.limit_to(MIB(1024));
        assert_eq!(machine.in_memory(), MIB(1024), "the limit is the host's, whatever the machine could say");
        machine.reset(0, &vm.plan);
        assert_eq!(machine.in_memory(), MIB(600), "that is what its boot was given");
    }
}

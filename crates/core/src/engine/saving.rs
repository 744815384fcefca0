//! Save and restore: a VM whose memory is in a file holds none of the host's.
//!
//! ```text
//!  save ──▶ saving ──exited(saved)──▶ saved ──start──▶ starting ──launched──▶ booting
//!            │ failed                  │ discarded
//!            ▼                         ▼
//!          as before                  off
//! ```
//! While it is being saved the machine stands still and is charged as before:
//! its memory is free only once it is gone. A saved VM starts with what it held,
//! not with its startup, and its settings can change as far as a running VM's
//! can, because it is the same machine that goes on.

use dynmem_units::Bytes;

use super::Engine;
use crate::{
    DeviceFacts, Effect, Instant, NoticeKind, Refusal, VmId, VmState,
    vm::{Machine, Vm},
};

impl Vm {
    /// What a start needs: startup, or what it held when it was saved.
    pub(crate) fn start_needs(&self, overhead: Bytes) -> Bytes {
        match &self.saved {
            Some(devices) => devices.assigned().saturating_add(devices.overhead.max(overhead)),
            None => self.settings.startup.saturating_add(overhead),
        }
    }

    /// Where a start that came to nothing leads back to.
    pub(super) fn state_without_machine(&self) -> VmState {
        if self.saved.is_some() { VmState::Saved } else { VmState::Off }
    }
}

impl Engine {
    pub(super) fn save(&mut self, id: VmId) {
        let Some(vm) = self.vm_mut(id) else { return };
        let savable = matches!(vm.state, VmState::Running | VmState::Booting | VmState::Paused);
        let (Some(machine), true) = (&vm.machine, savable) else {
            return self.refuse_state(id, "save");
        };
        let reason = match machine {
            Machine { paging: Some(_), .. } => {
                "a part of its memory is in its smart paging file; try again when that has ended"
            }
            Machine { known: false, .. } => "its machine does not answer",
            Machine { restarting: true, .. } => "it is about to restart",
            _ => {
                vm.state = VmState::Saving;
                vm.reason = Some("its memory is written to a file".to_owned());
                return self.effects.push(Effect::Save(id));
            }
        };
        let refusal = Refusal::SaveFailed { name: vm.name.clone(), reason: reason.to_owned() };
        self.effects.push(Effect::Refused(id, Box::new(refusal)));
    }

    /// It was not saved, and stands still as yet: if it ran, that is told next.
    pub(super) fn save_failed(&mut self, id: VmId, reason: String) {
        let Some(vm) = self.vm_mut(id).filter(|vm| vm.state == VmState::Saving) else { return };
        let refusal = Refusal::SaveFailed { name: vm.name.clone(), reason };
        vm.state = VmState::Paused;
        vm.reason = None;
        self.record(Some(id), NoticeKind::SaveFailed, refusal.to_string(), Vec::new());
        self.effects.push(Effect::Refused(id, Box::new(refusal)));
    }

    /// The machine is gone, and all of it is in a file.
    pub(super) fn saved(&mut self, id: VmId, devices: DeviceFacts) {
        let Some(vm) = self.vm_mut(id) else { return };
        vm.saved = Some(Box::new(devices));
        vm.state = VmState::Saved;
        vm.reason = None;
        let held = devices.assigned();
        let message = format!("{} was saved with {held}, which are free now", vm.name);
        self.due = true;
        self.record(Some(id), NoticeKind::Saved, message, vec![("assigned_bytes", held.get())]);
    }

    /// A VM was found saved.
    pub(super) fn found_saved(&mut self, id: VmId, devices: DeviceFacts) {
        if let Some(vm) = self.vm_mut(id).filter(|vm| vm.state == VmState::Off && vm.machine.is_none()) {
            vm.saved = Some(Box::new(devices));
            vm.state = VmState::Saved;
        }
    }

    /// What was saved is gone.
    pub(super) fn discarded(&mut self, id: VmId) {
        let Some(vm) = self.vm_mut(id).filter(|vm| vm.state == VmState::Saved) else { return };
        let held = vm.saved.take().map_or(Bytes::ZERO, |devices| devices.assigned());
        vm.state = VmState::Off;
        vm.reason = None;
        let message = format!("The saved state of {} was discarded: {held} of its memory", vm.name);
        self.record(Some(id), NoticeKind::Discarded, message, vec![("assigned_bytes", held.get())]);
    }

    /// Memory for this saved VM is there: charge it and go.
    pub(super) fn admit_saved(&mut self, now: Instant, id: VmId, overhead: Bytes) {
        let Some(vm) = self.vm_mut(id) else { return };
        let Some(devices) = vm.saved.as_deref().copied() else { return };
        let devices = DeviceFacts { overhead: devices.overhead.max(overhead), ..devices };
        vm.machine = Some(Machine::new(now, devices));
        vm.reason = None;
        self.effects.push(Effect::Restore(id));
    }
}

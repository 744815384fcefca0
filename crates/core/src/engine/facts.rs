//! Facts about one VM's machine: what its devices hold and what its guest
//! says, and the silence between two reports.
//!
//! ```text
//!  devices ──▶ ledger, stall: does it do what it was asked? ──▶ stuck, pinned, recovered
//!  report  ──▶ demand: what does it need? the first one makes it *running*
//!  nothing ──▶ silent: it keeps what it holds until it speaks again
//! ```

use super::Engine;
use crate::{
    DeviceFacts, GuestReport, Instant, TroubleKind, VmId, VmState, ledger::Promise, stall::StallChange, vm::Vm,
};

impl Engine {
    pub(super) fn devices(&mut self, now: Instant, id: VmId, devices: DeviceFacts) {
        let Some(vm) = self.vm_mut(id) else { return };
        let Some(machine) = vm.machine.as_mut() else { return };
        if !machine.known {
            return self.becomes_known(id, devices);
        }
        let before = machine.devices;
        let charge_before = machine.charge();
        machine.move_to(now, devices);
        let silent = machine.silent_since.is_some();
        let change = if vm.state == VmState::Running && !machine.reset_held && !silent && !machine.pages {
            machine.stall.watch(now, machine.promise, &before, &devices)
        } else {
            StallChange::None
        };
        let returned = machine.charge() < charge_before;
        let pages = machine.pages;
        let (was, is) = (before.assigned(), devices.assigned());
        self.totals.added = self.totals.added.saturating_add(is.saturating_sub(was));
        self.totals.removed = self.totals.removed.saturating_add(was.saturating_sub(is));
        self.due |= (returned && self.hungry) || change != StallChange::None;
        self.stall_changed(now, id, change);
        self.look_for_unpinned(id, devices.plugged < before.plugged);
        if pages {
            self.look_at_paging(now, id);
        } else if silent {
            self.leave_it(now, id);
        }
    }

    /// A machine that was found and did not answer does now: what it holds is
    /// the truth, and the order.
    fn becomes_known(&mut self, id: VmId, devices: DeviceFacts) {
        let Some(machine) = self.vm_mut(id).and_then(|vm| vm.machine.as_mut()) else { return };
        machine.known = true;
        machine.devices = devices;
        let held = Promise::held(&devices);
        // After a reset the balloon of one that pages says what it held before: all
        // that has a place in memory may be used.
        let balloon = if machine.pages { machine.promise.balloon } else { held.balloon };
        machine.promise = Promise { balloon, ..held };
        self.order_promise(id);
        self.due = true;
    }

    fn stall_changed(&mut self, now: Instant, id: VmId, change: StallChange) {
        let Some(Vm { settings, machine: Some(machine), .. }) = self.vm_mut(id) else { return };
        let Promise { plugged: asked, .. } = machine.promise;
        let (held, promised) = (Promise::held(&machine.devices), machine.promise.assigned());
        let (kind, detail, instead) = match change {
            StallChange::None => return,
            StallChange::Recovered => {
                let mute_driver = machine.conduct.mute_driver;
                self.ends(id, TroubleKind::Stuck);
                if mute_driver {
                    self.ends(id, TroubleKind::NoDriver); // it works, and only never speaks
                }
                return;
            }
            StallChange::Pinned => {
                let detail = format!(
                    "gives back no more hot-added memory: asked for all but {asked}, it keeps {}; its balloon gives the rest",
                    held.plugged
                );
                (TroubleKind::Pinned, detail, Promise::plan(&machine.devices, promised, true))
            }
            StallChange::Stuck => {
                // Let it keep what it holds. The balloon's figure is stale while
                // its driver is away, so what was given to it stays promised, and
                // beside that no more of what is plugged than it may have.
                let most = settings.most().max(held.assigned());
                let balloon = held.balloon.max(machine.promise.balloon);
                let block = machine.devices.plug_block;
                let plugged = held.plugged.min(most.saturating_sub(balloon).align_down(block));
                let detail = format!("does not move its memory: asked for {promised}, it stays at {}", held.assigned());
                (TroubleKind::Stuck, detail, Promise { balloon, plugged })
            }
        };
        machine.promise_instead(now, instead);
        let no_driver = kind == TroubleKind::Stuck && machine.conduct.mute_driver;
        self.order_promise(id);
        let numbers = vec![("assigned_bytes", held.assigned().get()), ("asked_bytes", promised.get())];
        self.begins(now, id, kind, detail, numbers);
        if no_driver {
            self.no_driver(now, id);
        }
    }

    pub(super) fn report(&mut self, now: Instant, id: VmId, report: GuestReport) {
        let Some(vm) = self.vm_mut(id) else { return };
        let Vm { settings, state, reason, machine: Some(machine), .. } = vm else { return };
        if machine.reset_held || *state == VmState::Starting {
            return;
        }
        if !machine.observe(now, report, settings) {
            return self.look_for_doubt(now, id); // it is compared with what the agent says
        }
        machine.resets = false;
        let was_silent = machine.silent_since.take().is_some();
        let first = *state == VmState::Booting;
        if first {
            *state = VmState::Running;
            *reason = None;
        }
        // Refilling a buffer in time is what keeps the next spike from starving.
        let urgent = vm.lacks_memory(now);
        self.due |= urgent || first || was_silent;
        if first {
            self.shrink_paging(id);
            self.order_kept(id);
            self.fit_settings(now, id);
        }
        if was_silent || first {
            self.ends(id, TroubleKind::Silent);
        }
        self.look_for_doubt(now, id);
    }

    /// Takes back what a silent guest was asked to give: that may be what
    /// silenced it.
    pub(super) fn leave_it(&mut self, now: Instant, id: VmId) {
        let Some(machine) = self.vm_mut(id).and_then(|vm| vm.machine.as_mut()) else { return };
        let held = Promise::held(&machine.devices);
        if !machine.pages && machine.promise.assigned() < held.assigned() {
            machine.promise_instead(now, held);
            self.order_promise(id);
        }
    }
}

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
    DeviceFacts, Effect, GuestReport, Instant, NoticeKind, VmId, VmState,
    ledger::Promise,
    stall::StallChange,
    vm::{SILENT_AFTER_MS, Vm},
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
        let balloon = if machine.pages { held.balloon.min(machine.promise.balloon) } else { held.balloon };
        machine.promise = Promise { balloon, ..held };
        let Promise { balloon, plugged } = machine.promise;
        self.effects.push(Effect::Order { vm: id, balloon, plugged });
        self.due = true;
    }

    fn stall_changed(&mut self, now: Instant, id: VmId, change: StallChange) {
        let Some(vm) = self.vm_mut(id) else { return };
        let Some(machine) = vm.machine.as_mut() else { return };
        let (held, promised) = (machine.devices.assigned(), machine.promise.assigned());
        let numbers = vec![("assigned_bytes", held.get()), ("asked_bytes", promised.get())];
        let name = &vm.name;
        let (kind, message) = match change {
            StallChange::None => return,
            StallChange::Pinned => {
                let wanted = machine.promise.assigned();
                machine.promise_instead(now, Promise::plan(&machine.devices, wanted, true));
                let Promise { balloon, plugged } = machine.promise;
                self.effects.push(Effect::Order { vm: id, balloon, plugged });
                return;
            }
            StallChange::Stuck => {
                // Let it keep what it holds. The balloon's figure is stale while
                // its driver is away, so what was given to it stays charged.
                let held = Promise::held(&machine.devices);
                let balloon = held.balloon.max(machine.promise.balloon);
                machine.promise_instead(now, Promise { balloon, plugged: held.plugged });
                let message =
                    format!("{name} does not move its memory: asked for {promised}, it stays at {}", held.assigned());
                self.effects.push(Effect::Order { vm: id, balloon, plugged: held.plugged });
                (NoticeKind::Stuck, message)
            }
            StallChange::Recovered => (NoticeKind::Recovered, format!("{name} moves its memory again, now at {held}")),
        };
        self.record(Some(id), kind, message, numbers);
    }

    pub(super) fn report(&mut self, now: Instant, id: VmId, report: GuestReport) {
        let Some(vm) = self.vm_mut(id) else { return };
        let Vm { settings, state, reason, machine: Some(machine), name, .. } = vm else { return };
        if machine.reset_held || *state == VmState::Starting || !machine.observe(now, report, settings) {
            return;
        }
        machine.resets = false;
        let was_silent = machine.silent_since.take().is_some();
        let message = format!("{name} reports again");
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
        if was_silent {
            self.record(Some(id), NoticeKind::Recovered, message, Vec::new());
        }
    }

    pub(super) fn look_for_silence(&mut self, now: Instant, id: VmId) {
        let Some(vm) = self.vm_mut(id) else { return };
        let (VmState::Running, Some(machine)) = (vm.state, vm.machine.as_mut()) else { return };
        let Some(heard) = &machine.heard else { return };
        if machine.silent_since.is_some() || now.millis_since(heard.at) < SILENT_AFTER_MS {
            return;
        }
        machine.silent_since = Some(heard.at);
        let message = format!(
            "{} has stopped reporting; it keeps what it holds, {}, until it reports again",
            vm.name,
            machine.devices.assigned()
        );
        self.leave_it(now, id);
        self.record(Some(id), NoticeKind::Stuck, message, Vec::new());
    }

    /// Takes back what a silent guest was asked to give: that may be what
    /// silenced it.
    fn leave_it(&mut self, now: Instant, id: VmId) {
        let Some(machine) = self.vm_mut(id).and_then(|vm| vm.machine.as_mut()) else { return };
        let held = Promise::held(&machine.devices);
        if !machine.pages && machine.promise.assigned() < held.assigned() {
            machine.promise_instead(now, held);
            self.effects.push(Effect::Order { vm: id, balloon: held.balloon, plugged: held.plugged });
        }
    }
}

//! Smart Paging: how a restart gets through when there is no memory for it.
//!
//! ```text
//!  a restart that can't be served: nothing is free, nothing more comes back
//!      ──▶ begin_paging    what is there becomes its promise, the rest a file
//!      ──▶ paging_began    the reset happens; the guest boots with all of its startup
//!      ──▶ shrink_paging   it has spoken: the balloon is ordered down to the promise
//!      ──▶ relieve_paging  memory that comes free is for it, none is taken from it
//!      ──▶ end_paging      it holds no more than its promise: the file goes
//! ```
//! One machine at a time: the kernel spreads pages over all files that it is
//! given, and a file is for one VM alone. One that is overdue lets the next
//! pass.

use dynmem_units::Bytes;

use super::{Engine, PendingStart};
use crate::{
    DeviceFacts, Effect, Instant, NoticeKind, Paged, Refusal, VmId, VmState,
    ledger::Promise,
    moment::Moment,
    paging::{OVERDUE_MS, Paging, Phase, RETRY_MS},
    vm::{Machine, Vm},
};

impl Engine {
    /// Says whether this host can page machines to files; it can't by default.
    #[must_use]
    pub fn with_smart_paging(mut self, possible: bool) -> Self {
        self.smart_paging = possible;
        self
    }

    /// True if this VM may begin to page: it can shrink, nobody else pages, and
    /// no file was refused to it a moment ago.
    pub(super) fn may_page(&self, now: Instant, id: VmId) -> bool {
        let occupies = |(other, vm): (VmId, &Vm)| {
            let paging = vm.machine.as_ref().and_then(|machine| machine.paging.as_deref());
            other != id && paging.is_some_and(|paging| !paging.overdue)
        };
        let Some(vm) = self.vm(id) else { return false };
        let rested = vm.paging_refused_at.get().is_none_or(|at| now.millis_since(at) >= RETRY_MS);
        // A static VM would never shrink out of its file.
        self.smart_paging && vm.settings.dynamic && rested && !self.each().any(occupies)
    }

    /// The held machine is to be reset with what it holds and `more`; a file
    /// has the rest of what it needs.
    pub(super) fn begin_paging(&mut self, now: Instant, id: VmId, more: Bytes) {
        let Some(vm) = self.vm_mut(id) else { return };
        let Some(machine) = vm.machine.as_mut() else { return };
        let boot = Promise { balloon: machine.devices.boot, plugged: Bytes::ZERO };
        let missing = machine.reset_needs(boot).align_up(Bytes::BLOCK).saturating_sub(more);
        let memory = machine.devices.boot.saturating_sub(missing);
        // A file of the last restart that is still there serves again.
        let there = machine.paging.as_ref().map_or(Bytes::ZERO, |paging| paging.file);
        let file = missing.max(there);
        machine.promise_instead(now, Promise { balloon: memory, plugged: Bytes::ZERO });
        machine.resets = true;
        machine.paging = Some(Box::new(Paging::new(now, Phase::Beginning, file)));
        vm.reason = Some("restarting; its smart paging file is being made".to_owned());
        self.effects.push(Effect::BeginPaging(id, Paged { memory, file }));
    }

    /// The file is there: the reset may happen.
    pub(super) fn paging_began(&mut self, now: Instant, id: VmId) {
        let Some(vm) = self.vm_mut(id) else { return };
        let Some(machine) = vm.machine.as_mut() else { return };
        let waits = machine.reset_held && vm.state == VmState::Starting;
        let Some(paging) = machine.paging.as_mut().filter(|paging| waits && paging.phase == Phase::Beginning) else {
            return;
        };
        (paging.phase, machine.pages) = (Phase::Active, true);
        let (file, memory) = (paging.file, machine.promise);
        let boot = Promise { balloon: machine.devices.boot, plugged: Bytes::ZERO };
        self.reset_with(now, id, memory, boot);
        self.tell_paging(id, memory.assigned(), file);
    }

    fn tell_paging(&mut self, id: VmId, memory: Bytes, file: Bytes) {
        let Some(vm) = self.vm(id) else { return };
        let message = format!(
            "Smart paging of {} began: {memory} are in memory, and for the missing {file} of its startup there is a file until it has booted",
            vm.name
        );
        let numbers = vec![("memory_bytes", memory.get()), ("file_bytes", file.get())];
        self.record(Some(id), NoticeKind::SmartPagingBegan, message, numbers);
    }

    /// The file could not be made or not be emptied; both are tried again.
    pub(super) fn paging_failed(&mut self, now: Instant, id: VmId, reason: String) {
        let Some(vm) = self.vm_mut(id) else { return };
        let Some(machine) = vm.machine.as_mut() else { return };
        let Some(paging) = machine.paging.as_mut() else { return };
        let (name, file) = (vm.name.clone(), paging.file);
        paging.retry_at = now.plus_millis(RETRY_MS);
        let began = std::mem::replace(&mut paging.phase, Phase::Active) != Phase::Beginning;
        let numbers = vec![("file_bytes", file.get())];
        if began {
            let message = format!("The smart paging file of {name} could not be emptied: {reason}. It is tried again");
            return self.record(Some(id), NoticeKind::SmartPagingFailed, message, numbers);
        }
        let held = Promise::held(&machine.devices);
        if !machine.pages {
            machine.paging = None;
            machine.promise_instead(now, held);
        }
        machine.resets = false; // nothing of its boot was ordered: that is void
        if !machine.pages {
            self.order_promise(id);
        }
        let Some(vm) = self.vm_mut(id) else { return };
        vm.paging_refused_at = Moment::at(now);
        let refusal = Refusal::PagingFailed { name, missing: file, reason };
        vm.reason = Some(refusal.to_string());
        self.due = true;
        self.record(Some(id), NoticeKind::SmartPagingFailed, refusal.to_string(), numbers);
        self.effects.push(Effect::Refused(id, Box::new(refusal)));
    }

    pub(super) fn paging_used(&mut self, id: VmId, used: Bytes) {
        if let Some(paging) = self.vm_mut(id).and_then(|vm| vm.machine.as_mut()?.paging.as_mut()) {
            paging.used = used.min(paging.file);
        }
    }

    /// The file is gone: the machine is as any other from now on.
    pub(super) fn paging_ended(&mut self, now: Instant, id: VmId) {
        let Some(vm) = self.vm_mut(id) else { return };
        let Some(machine) = vm.machine.as_mut() else { return };
        let Some(paging) = machine.paging.take_if(|paging| paging.phase != Phase::Beginning) else { return };
        machine.pages = false;
        let took = now.millis_since(paging.since);
        let message = format!("Smart paging of {} ended after {} s: its file is gone", vm.name, took / 1000);
        self.due = true;
        self.record(Some(id), NoticeKind::SmartPagingEnded, message, vec![("took_ms", took)]);
    }

    /// Orders what the machine has been promised.
    pub(super) fn order_promise(&mut self, id: VmId) {
        let Some(Promise { balloon, plugged }) = self.machine(id).map(|machine| machine.promise) else { return };
        self.effects.push(Effect::Order { vm: id, balloon, plugged });
    }

    /// The guest has spoken for the first time: it is up, and shrinks.
    pub(super) fn shrink_paging(&mut self, id: VmId) {
        if self.machine(id).is_some_and(|machine| machine.pages && machine.known) {
            self.order_promise(id);
        }
    }

    /// Empties the file of a machine that does not need it any more, and tells
    /// if that takes too long. Called once a tick and when devices have moved.
    pub(super) fn look_at_paging(&mut self, now: Instant, id: VmId) {
        let Some(vm) = self.vm_mut(id) else { return };
        let (state, Some(machine)) = (vm.state, vm.machine.as_mut()) else { return };
        let Some(paging) = machine.paging.as_mut().filter(|_| machine.pages) else { return };
        let late = now.millis_since(paging.since) >= OVERDUE_MS;
        let told = std::mem::replace(&mut paging.overdue, late);
        let (used, file) = (paging.used, paging.file);
        let booted = matches!(state, VmState::Running | VmState::Paused) || late;
        // A balloon says what it held before the reset until its driver moves it
        // again; the guest's own figure is of this boot.
        let promised = machine.promise.assigned();
        let gave_back = machine.heard.as_ref().is_some_and(|heard| heard.report.visible <= promised);
        let fits = machine.devices.assigned() <= promised && (gave_back || promised >= machine.devices.boot);
        let may_act = booted && machine.known && paging.phase == Phase::Active && !machine.reset_held;
        if may_act && fits && now >= paging.retry_at {
            paging.phase = Phase::Ending;
            return self.effects.push(Effect::EndPaging(id));
        }
        let speaks = machine.heard.is_some() && machine.silent_since.is_none();
        if may_act && !fits && speaks && now.millis_since(paging.ordered_at) >= RETRY_MS {
            paging.ordered_at = now; // the last order may have met a driver that was away
            self.order_promise(id);
        }
        if late && !told {
            let Some(vm) = self.vm(id) else { return };
            let message = format!(
                "Smart paging of {} is overdue: after {} minutes {used} of its file of {file} are in use, as its guest has not given back enough. It goes on trying",
                vm.name,
                OVERDUE_MS / 60_000
            );
            let numbers = vec![("used_bytes", used.get()), ("file_bytes", file.get())];
            self.record(Some(id), NoticeKind::SmartPagingOverdue, message, numbers);
            self.due = true;
        }
    }

    /// A VM that ran when the host went down starts with `memory` of its
    /// startup; a file has the rest.
    pub(super) fn admit_paged(&mut self, now: Instant, start: PendingStart, memory: Bytes) {
        let PendingStart { vm: id, overhead, .. } = start;
        let Some(vm) = self.vm_mut(id) else { return };
        let boot = vm.settings.startup;
        let file = boot.saturating_sub(memory);
        let devices =
            DeviceFacts { boot, balloon_actual: boot, overhead, plug_block: Bytes::BLOCK, ..DeviceFacts::default() };
        let mut machine = Machine::new(now, devices);
        machine.promise = Promise { balloon: memory, plugged: Bytes::ZERO };
        machine.pages = true;
        machine.paging = Some(Box::new(Paging::new(now, Phase::Active, file)));
        vm.machine = Some(machine);
        vm.reason = None;
        self.effects.push(Effect::LaunchPaged(id, Paged { memory, file }));
        self.tell_paging(id, memory, file);
    }
}

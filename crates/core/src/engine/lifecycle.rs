//! One VM's life: what each event does to its state and its machine.
//!
//! ```text
//!            start                 launched            first report
//!   off ─────────────▶ starting ─────────────▶ booting ─────────────▶ running ◀──▶ paused
//!    ▲                  │  ▲                                             │
//!    │ refused, failed  │  └──── reset held: memory is arranged ─────────┤ restart
//!    ◀──────────────────┘                                                │ stop
//!    ◀─────────────────────────── exited ◀────────── stopping ◀──────────┘
//! ```
//! What its devices and its guest tell is in `facts`; how a machine is *saved*
//! and goes on from its file is in `saving`.
//! An exit that nobody asked for leads to *failed*, which behaves like *off*.

use dynmem_units::Bytes;

use super::{Engine, PendingStart};
use crate::{
    DeviceFacts, Effect, Event, Instant, NoticeKind, Refusal, VmId, VmState,
    event::Exit,
    ledger::Promise,
    moment::Moment,
    vm::{Machine, Move},
};

/// Moves smaller than this are not worth an entry in the event log.
const NOTABLE: Bytes = Bytes::from_mib(8);

impl Engine {
    /// Everything that can happen to a VM that exists.
    pub(super) fn known_vm_event(&mut self, now: Instant, id: VmId, event: Event) {
        match event {
            Event::Defined { .. } => {}
            Event::Forgotten => self.forgotten(id),
            Event::Configured(settings) => self.configured(now, id, settings),
            Event::Start { overhead } => self.start(now, id, overhead, false),
            Event::StartAgain { overhead } => self.start(now, id, overhead, true),
            Event::Launched(devices) => self.launched(now, id, devices),
            Event::LaunchFailed(reason) => self.launch_failed(id, reason),
            Event::Adopted { devices, paused, known, paging } => {
                let mut machine = Machine { known, ..Machine::new(now, devices) };
                if let Some(paged) = paging {
                    machine.found_paging(now, paged);
                }
                self.adopted(id, machine, paused);
            }
            Event::Devices(devices) => self.devices(now, id, devices),
            Event::Report(report) => self.report(now, id, report),
            Event::Driver(word) => self.driver_word(now, id, word),
            Event::Trouble(kind, detail) => self.told_of(now, id, kind, detail),
            Event::Stop { grace_ms } => self.stop(now, id, grace_ms),
            Event::Restart { grace_ms } => self.restart(now, id, grace_ms),
            Event::ResetHeld => self.reset_held(id),
            Event::PagingBegan => self.paging_began(now, id),
            Event::PagingUsed(used) => self.paging_used(id, used),
            Event::PagingFailed(reason) => self.paging_failed(now, id, reason),
            Event::PagingEnded => self.paging_ended(now, id),
            Event::PoweredOff => self.powered_off(id),
            Event::Pause => self.stand_still(id, true),
            Event::Resume => self.stand_still(id, false),
            Event::Paused => self.stands_still(now, id, true),
            Event::Resumed => self.stands_still(now, id, false),
            Event::Save => self.save(id),
            Event::SaveFailed(reason) => self.save_failed(id, reason),
            Event::FoundSaved(devices) => self.found_saved(id, devices),
            Event::Discarded => self.discarded(id),
            Event::Exited(exit) => self.exited(id, exit),
        }
    }

    pub(super) fn refuse_state(&mut self, id: VmId, request: &'static str) {
        let Some(vm) = self.vm(id) else { return };
        let refusal = Refusal::WrongState { request, name: vm.name.clone(), state: vm.state };
        self.effects.push(Effect::Refused(id, Box::new(refusal)));
    }

    fn forgotten(&mut self, id: VmId) {
        if self.vm(id).is_some_and(|vm| matches!(vm.state, VmState::Off | VmState::Failed)) {
            self.vms[id.0 as usize] = None;
        }
    }

    fn start(&mut self, now: Instant, id: VmId, overhead: Bytes, again: bool) {
        let Some(vm) = self.vm_mut(id) else { return };
        if !matches!(vm.state, VmState::Off | VmState::Failed | VmState::Saved) {
            return self.refuse_state(id, "start");
        }
        let again = again && vm.saved.is_none(); // what goes on from a file does not boot, and never pages
        vm.state = VmState::Starting;
        vm.reason = Some("waiting for memory".to_owned());
        self.starts.push_back(PendingStart { vm: id, overhead, since: now, again });
        self.decide(now);
    }

    /// Memory for this start is there: charge it and go.
    pub(super) fn admit(&mut self, now: Instant, id: VmId, overhead: Bytes) {
        let Some(vm) = self.vm_mut(id) else { return };
        if vm.saved.is_some() {
            return self.admit_saved(now, id, overhead);
        }
        let boot = vm.settings.startup;
        let devices =
            DeviceFacts { boot, balloon_actual: boot, overhead, plug_block: Bytes::BLOCK, ..DeviceFacts::default() };
        vm.machine = Some(Machine::new(now, devices));
        vm.reason = None;
        self.effects.push(Effect::Launch(id));
    }

    /// There is no memory for this start: the VM stays off.
    pub(super) fn refuse_start(&mut self, id: VmId, needs: Bytes, available: Bytes) {
        let Some(vm) = self.vm_mut(id) else { return };
        let refusal = Refusal::NotEnoughMemory { name: vm.name.clone(), needs, available };
        vm.state = vm.state_without_machine();
        vm.reason = Some(refusal.to_string());
        let numbers = vec![("needs_bytes", needs.get()), ("available_bytes", available.get())];
        self.record(Some(id), NoticeKind::StartRefused, refusal.to_string(), numbers);
        self.effects.push(Effect::Refused(id, Box::new(refusal)));
    }

    fn launched(&mut self, now: Instant, id: VmId, devices: DeviceFacts) {
        let Some(vm) = self.vm_mut(id) else { return };
        if vm.machine.is_none() || !matches!(vm.state, VmState::Starting | VmState::Stopping) {
            return;
        }
        let stopping = vm.state == VmState::Stopping;
        if !stopping {
            vm.state = VmState::Booting;
        }
        let restored = vm.saved.take().is_some();
        let (kind, verb) =
            if restored { (NoticeKind::Restored, "was restored") } else { (NoticeKind::Started, "started") };
        let message = format!("{} {verb} with {}", vm.name, devices.assigned());
        let mut machine = Machine::new(now, devices);
        if let Some(charged) = vm.machine.take() {
            machine.force_at = charged.force_at;
            machine.pages_as(charged);
        }
        vm.machine = Some(machine);
        self.record(Some(id), kind, message, vec![("assigned_bytes", devices.assigned().get())]);
        if stopping {
            self.effects.push(Effect::Kill(id)); // asked to stop before it was up
        }
    }

    fn launch_failed(&mut self, id: VmId, reason: String) {
        let Some(vm) = self.vm_mut(id) else { return };
        if !matches!(vm.state, VmState::Starting | VmState::Stopping) {
            return;
        }
        let refusal = Refusal::LaunchFailed { name: vm.name.clone(), reason };
        vm.state = if vm.saved.is_some() { VmState::Saved } else { VmState::Failed };
        vm.reason = Some(refusal.to_string());
        vm.machine = None;
        self.due = true;
        self.record(Some(id), NoticeKind::Failed, refusal.to_string(), Vec::new());
        self.effects.push(Effect::Refused(id, Box::new(refusal)));
    }

    fn adopted(&mut self, id: VmId, machine: Machine, paused: bool) {
        let (known, assigned) = (machine.known, machine.assigned());
        let Some(vm) = self.vm_mut(id) else { return };
        if vm.machine.is_some() {
            return;
        }
        vm.state = if paused { VmState::Paused } else { VmState::Booting };
        vm.reason = (!paused).then(|| "found running; waiting for its guest to report".to_owned());
        let Promise { balloon, plugged } = machine.promise;
        vm.machine = Some(machine);
        let message = format!("{} was found running with {assigned}", vm.name);
        // An order of the daemon before us may still be outstanding in the
        // balloon: what it holds now becomes the order.
        if known {
            self.effects.push(Effect::Order { vm: id, balloon, plugged });
        }
        self.record(Some(id), NoticeKind::Adopted, message, vec![("assigned_bytes", assigned.get())]);
        self.starts.retain(|start| start.vm != id);
    }

    /// Writes the sentence of a move that has arrived. Called once a tick, so
    /// that a move in many small orders is told as one.
    fn move_ended(&mut self, id: VmId) {
        let Some(vm) = self.vm_mut(id) else { return };
        let Some(machine) = vm.machine.as_mut() else { return };
        if machine.promise != Promise::held(&machine.devices) {
            return;
        }
        let Some(Move { since, until, from }) = machine.moving.take() else { return };
        let (to, demand) = (machine.devices.assigned(), machine.demand.current());
        let (kind, verb) = if to > from { (NoticeKind::Grew, "grew") } else { (NoticeKind::Shrank, "shrank") };
        if to.get().abs_diff(from.get()) < NOTABLE.get() {
            return;
        }
        let took = until.millis_since(since);
        let message = format!(
            "{} {verb} from {} to {} MiB in {took} ms; its demand is {} MiB",
            vm.name,
            from.mib(),
            to.mib(),
            demand.mib()
        );
        let numbers =
            vec![("from_bytes", from.get()), ("to_bytes", to.get()), ("demand_bytes", demand.get()), ("took_ms", took)];
        self.record(Some(id), kind, message, numbers);
    }

    fn stop(&mut self, now: Instant, id: VmId, grace_ms: Option<u64>) {
        let Some(vm) = self.vm_mut(id) else { return };
        match (&mut vm.machine, vm.state) {
            (None, VmState::Starting) => {
                vm.state = vm.state_without_machine();
                vm.reason = None;
                let name = vm.name.clone();
                self.starts.retain(|start| start.vm != id);
                self.effects.push(Effect::Refused(id, Box::new(Refusal::Cancelled { name })));
            }
            (Some(machine), state) => {
                machine.restarting = false;
                machine.force_at = grace_ms.map(|grace| now.plus_millis(grace)).into();
                vm.state = VmState::Stopping;
                let launching = state == VmState::Starting && !machine.reset_held;
                match grace_ms {
                    // A paused or held guest can't answer the button.
                    Some(_)
                        if !machine.reset_held && !matches!(state, VmState::Paused | VmState::Saving) && !launching =>
                    {
                        self.effects.push(Effect::PowerDown(id));
                    }
                    _ if launching => {} // Launched comes next and ends it
                    _ => self.effects.push(Effect::Kill(id)),
                }
            }
            (None, _) => self.refuse_state(id, "stop"),
        }
    }

    fn restart(&mut self, now: Instant, id: VmId, grace_ms: Option<u64>) {
        let Some(vm) = self.vm_mut(id) else { return };
        let restartable = matches!(vm.state, VmState::Running | VmState::Booting | VmState::Paused);
        let (Some(machine), true) = (&mut vm.machine, restartable) else {
            return self.refuse_state(id, "restart");
        };
        machine.restarting = true;
        match grace_ms {
            Some(grace) if vm.state != VmState::Paused => {
                machine.force_at = Moment::at(now.plus_millis(grace));
                self.effects.push(Effect::PowerDown(id));
            }
            _ => self.effects.push(Effect::HoldForReset(id)),
        }
    }

    fn reset_held(&mut self, id: VmId) {
        let Some(vm) = self.vm_mut(id) else { return };
        let Some(machine) = vm.machine.as_mut() else { return };
        if vm.state == VmState::Stopping {
            return self.effects.push(Effect::Kill(id));
        }
        if machine.reset_held {
            return;
        }
        machine.reset_held = true;
        machine.restarting = false;
        machine.force_at = Moment::NONE;
        vm.state = VmState::Starting;
        vm.reason = Some("restarting; waiting for memory".to_owned());
        let message = format!("{} restarts: it needs {} to boot", vm.name, machine.devices.boot);
        let numbers =
            vec![("assigned_bytes", machine.devices.assigned().get()), ("boot_bytes", machine.devices.boot.get())];
        self.due = true;
        self.record(Some(id), NoticeKind::Restarting, message, numbers);
    }

    /// Memory for the reset is there: charge it and go.
    pub(super) fn continue_reset(&mut self, now: Instant, id: VmId) {
        let Some(vm) = self.vm(id) else { return };
        let Some(machine) = vm.machine.as_ref() else { return };
        let boot = Promise { balloon: machine.devices.boot, plugged: Bytes::ZERO };
        let (pages, promise) = (machine.pages, machine.after_reset(&vm.settings));
        self.reset_with(now, id, promise, boot);
        if pages {
            self.order_promise(id); // only now it says what the machine may hold
        }
    }

    /// Lets the reset happen: the machine has `promise` from then on, and its
    /// devices are ordered to hold `order`.
    pub(super) fn reset_with(&mut self, now: Instant, id: VmId, promise: Promise, order: Promise) {
        self.starts_anew(now, id);
        let Some(vm) = self.vm_mut(id) else { return };
        let Some(mut before) = vm.machine.take() else { return };
        before.promise_instead(now, promise);
        let paging = before.paging.take();
        let Machine { counters, high_water, revoked, revoked_at, pages, conduct, devices, .. } = before;
        let fresh = Machine::new(now, devices);
        let resets = true;
        vm.machine = Some(Machine {
            paging,
            promise,
            revoked,
            revoked_at,
            pages,
            resets,
            counters,
            high_water,
            conduct,
            ..fresh
        });
        vm.state = VmState::Booting;
        vm.reason = None;
        self.effects.push(Effect::Order { vm: id, balloon: order.balloon, plugged: order.plugged });
        self.effects.push(Effect::ContinueReset(id));
    }

    fn powered_off(&mut self, id: VmId) {
        let Some(vm) = self.vm_mut(id) else { return };
        let Some(machine) = vm.machine.as_mut() else { return };
        // Told twice, a shutdown for a restart is still one.
        if machine.restarting || machine.reset_held {
            return self.reset_held(id);
        }
        vm.state = VmState::Stopping;
        self.effects.push(Effect::Kill(id));
    }

    fn stand_still(&mut self, id: VmId, still: bool) {
        let Some(vm) = self.vm(id) else { return };
        match (vm.state, still) {
            (VmState::Running | VmState::Booting, true) => self.effects.push(Effect::Pause(id)),
            (VmState::Paused, false) => self.effects.push(Effect::Resume(id)),
            (_, true) => self.refuse_state(id, "pause"),
            (_, false) => self.refuse_state(id, "resume"),
        }
    }

    fn stands_still(&mut self, now: Instant, id: VmId, still: bool) {
        let Some(vm) = self.vm_mut(id) else { return };
        let Some(machine) = vm.machine.as_mut() else { return };
        match (vm.state, still) {
            (VmState::Running | VmState::Booting, true) => vm.state = VmState::Paused,
            (VmState::Paused, false) => {
                vm.state = if machine.heard.is_some() { VmState::Running } else { VmState::Booting };
                // The guest could not report while it stood still.
                if let Some(heard) = &mut machine.heard {
                    heard.at = now;
                }
            }
            _ => return,
        }
        self.due = true;
    }

    fn exited(&mut self, id: VmId, exit: Exit) {
        let Some(vm) = self.vm_mut(id) else { return };
        if vm.machine.take().is_none() {
            return;
        }
        let asked = vm.state == VmState::Stopping;
        let (state, kind, message) = match exit {
            Exit::Saved(devices) => return self.saved(id, devices),
            Exit::Failed(reason) if !asked => {
                (VmState::Failed, NoticeKind::Failed, format!("{} failed: {reason}", vm.name))
            }
            _ => (VmState::Off, NoticeKind::Stopped, format!("{} stopped", vm.name)),
        };
        vm.state = state;
        vm.reason = (state == VmState::Failed).then(|| message.clone());
        self.due = true;
        self.record(Some(id), kind, message, Vec::new());
    }

    /// Time alone changes some things: guests fall silent, patience ends,
    /// and states that lasted are told.
    pub(super) fn look_at_clocks(&mut self, now: Instant) {
        for index in 0..self.vms.len() {
            let id = VmId(u32::try_from(index).unwrap_or(u32::MAX));
            let Some(vm) = self.vm_mut(id) else { continue };
            let Some(machine) = vm.machine.as_mut() else { continue };
            let patience_ended = machine.force_at.get().is_some_and(|at| now >= at);
            if patience_ended {
                machine.force_at = Moment::NONE;
                let effect = if machine.restarting { Effect::HoldForReset(id) } else { Effect::Kill(id) };
                self.effects.push(effect);
                continue;
            }
            self.look_for_silence(now, id);
            self.look_at_paging(now, id);
            self.fit_settings(now, id);
            self.look_at_status(id);
            self.move_ended(id);
        }
    }

    fn look_at_status(&mut self, id: VmId) {
        let Some(vm) = self.vm_mut(id) else { return };
        let status = vm.memory_status();
        let Some(machine) = vm.machine.as_mut() else { return };
        let before = std::mem::replace(&mut machine.status, status);
        let (Some(is), true) = (status, before != status) else { return };
        let (demand, assigned) = (machine.demand.current(), machine.devices.assigned());
        let word = match is {
            crate::MemoryStatus::Ok => "OK",
            crate::MemoryStatus::Warning => "Warning",
            crate::MemoryStatus::Low => "Low",
        };
        let message = format!(
            "Memory status of {} is {word}: demand {} MiB, assigned {} MiB",
            vm.name,
            demand.mib(),
            assigned.mib()
        );
        let numbers = vec![("demand_bytes", demand.get()), ("assigned_bytes", assigned.get())];
        self.record(Some(id), NoticeKind::StatusChanged, message, numbers);
    }

    /// Promises `wanted` to a VM and orders it, if that changes anything.
    pub(super) fn order(&mut self, now: Instant, id: VmId, promise: Promise) {
        let Some(vm) = self.vm_mut(id) else { return };
        let Some(machine) = vm.machine.as_mut() else { return };
        if promise == machine.promise {
            return;
        }
        let grows = promise.assigned() > machine.promise.assigned();
        if machine.moving.is_none() {
            machine.moving = Some(Move { since: now, until: now, from: machine.devices.assigned() });
        }
        let counters = &mut machine.counters;
        *(if grows { &mut counters.add_operations } else { &mut counters.remove_operations }) += 1;
        let settled = machine.promise == Promise::held(&machine.devices);
        machine.promise_instead(now, promise);
        machine.waiting &= grows;
        machine.stall.ordered(now, machine.devices.assigned(), settled, grows);
        let Promise { balloon, plugged } = promise;
        self.effects.push(Effect::Order { vm: id, balloon, plugged });
        *(if grows { &mut self.totals.add_operations } else { &mut self.totals.remove_operations }) += 1;
    }
}

//! One VM's life under a peer: what each event does to its state and machine.
//!
//! The same states as our own engine's, without its care for what goes wrong:
//! see [`super::manager`].

use dynmem_core::{DeviceFacts, Effect, Event, GuestReport, Instant, MemorySettings, Refusal, VmId, VmState};
use dynmem_units::Bytes;

use super::manager::{Machine, Manager, Vm, Waiting};
use crate::policy::Statistics;

impl Manager {
    /// Takes an event. Those about unknown VMs are late news, and ignored.
    pub(super) fn vm_event(&mut self, now: Instant, id: VmId, event: Event) {
        match event {
            Event::Defined { name, settings } => self.vm_defined(id, name, settings),
            Event::Forgotten => self.forgotten(id),
            Event::Configured(settings) => self.configured(id, settings),
            Event::Start { overhead } | Event::StartAgain { overhead } => self.start(now, id, overhead),
            Event::Launched(devices) => self.launched(id, devices),
            Event::LaunchFailed(reason) => self.launch_failed(id, reason),
            Event::Adopted { devices, paused, known, .. } => self.adopted(id, devices, paused, known),
            Event::Devices(devices) => self.devices(id, devices),
            Event::Report(report) => self.report(id, report),
            Event::Stop { grace_ms } => self.stop(now, id, grace_ms),
            Event::Restart { grace_ms } => self.restart_asked(now, id, grace_ms),
            Event::ResetHeld => self.reset_held(now, id),
            Event::PoweredOff => self.powered_off(now, id),
            Event::Pause => self.stand_still(id, true),
            Event::Resume => self.stand_still(id, false),
            Event::Paused => self.stands_still(id, true),
            Event::Resumed => self.stands_still(id, false),
            Event::Exited(_) => self.exited(id),
            // Of the peers only Hyper-V pages, and only what a restart lacks: no
            // scenario has that, nor anybody who saves a VM. None of them names
            // what is wrong with a guest.
            Event::Driver(_)
            | Event::Trouble(..)
            | Event::PagingBegan
            | Event::PagingUsed(_)
            | Event::PagingFailed(_)
            | Event::PagingEnded
            | Event::Save
            | Event::SaveFailed(_)
            | Event::FoundSaved(_)
            | Event::Discarded => {}
        }
    }

    fn vm_defined(&mut self, id: VmId, name: String, settings: MemorySettings) {
        let vm = Vm { name, settings, state: VmState::Off, machine: None, statistics: Statistics::default() };
        self.vms.entry(id).or_insert(vm);
        self.definitions_changed(Bytes::ZERO);
    }

    fn forgotten(&mut self, id: VmId) {
        if self.vms.get(&id).is_some_and(|vm| matches!(vm.state, VmState::Off | VmState::Failed)) {
            self.vms.remove(&id);
            self.definitions_changed(Bytes::ZERO);
        }
    }

    /// What is above a running machine's reach waits for its next start.
    fn configured(&mut self, id: VmId, settings: MemorySettings) {
        if let Some(vm) = self.vms.get_mut(&id) {
            vm.settings = settings;
            self.definitions_changed(Bytes::ZERO);
        }
    }

    fn refuse_state(&mut self, id: VmId, request: &'static str) {
        let Some(vm) = self.vms.get(&id) else { return };
        let refusal = Refusal::WrongState { request, name: vm.name.clone(), state: vm.state };
        self.effects.push(Effect::Refused(id, Box::new(refusal)));
    }

    fn start(&mut self, now: Instant, id: VmId, overhead: Bytes) {
        let Some(vm) = self.vms.get_mut(&id) else { return };
        if !matches!(vm.state, VmState::Off | VmState::Failed) {
            return self.refuse_state(id, "start");
        }
        vm.state = VmState::Starting;
        self.definitions_changed(overhead);
        self.waiting.push(Waiting { vm: id, overhead, since: now });
        self.start_asked(now);
    }

    fn launched(&mut self, id: VmId, devices: DeviceFacts) {
        let Some(vm) = self.vms.get_mut(&id) else { return };
        let Some(machine) = vm.machine.as_mut().filter(|machine| !machine.reset_held) else { return };
        let force_at = machine.force_at;
        match vm.state {
            VmState::Starting => vm.state = VmState::Booting,
            VmState::Stopping => self.effects.push(Effect::Kill(id)),
            _ => return,
        }
        *machine = Machine { force_at, ..Machine::new(devices, true) };
        self.started(id);
    }

    fn launch_failed(&mut self, id: VmId, reason: String) {
        let Some(vm) = self.vms.get_mut(&id) else { return };
        let launching = vm.machine.as_ref().is_some_and(|machine| !machine.reset_held);
        if !launching || !matches!(vm.state, VmState::Starting | VmState::Stopping) {
            return;
        }
        vm.state = VmState::Failed;
        vm.machine = None;
        let name = vm.name.clone();
        self.effects.push(Effect::Refused(id, Box::new(Refusal::LaunchFailed { name, reason })));
    }

    fn adopted(&mut self, id: VmId, devices: DeviceFacts, paused: bool, known: bool) {
        let Some(vm) = self.vms.get_mut(&id) else { return };
        if vm.machine.is_some() {
            return;
        }
        vm.state = if paused { VmState::Paused } else { VmState::Booting };
        vm.machine = Some(Machine::new(devices, known));
        self.waiting.retain(|waiting| waiting.vm != id);
        self.definitions_changed(devices.overhead);
        if known {
            self.hold(id, &devices);
        }
    }

    /// An order of the manager before may be outstanding: what the machine
    /// holds becomes the order.
    fn hold(&mut self, id: VmId, devices: &DeviceFacts) {
        self.effects.push(Effect::Order { vm: id, balloon: devices.balloon_actual, plugged: devices.plugged });
    }

    fn devices(&mut self, id: VmId, devices: DeviceFacts) {
        let Some(machine) = self.vms.get_mut(&id).and_then(|vm| vm.machine.as_mut()) else { return };
        if machine.known {
            machine.devices = devices;
            return;
        }
        let Machine { force_at, restarting, reset_held, .. } = *machine;
        *machine = Machine { force_at, restarting, reset_held, ..Machine::new(devices, true) };
        self.hold(id, &devices);
    }

    fn report(&mut self, id: VmId, report: GuestReport) {
        let Some(vm) = self.vms.get_mut(&id) else { return };
        let Some(machine) = vm.machine.as_mut() else { return };
        if machine.reset_held || vm.state == VmState::Starting {
            return;
        }
        machine.report = Some(report);
        if vm.state == VmState::Booting {
            vm.state = VmState::Running;
        }
        self.reported();
    }

    fn stop(&mut self, now: Instant, id: VmId, grace_ms: Option<u64>) {
        let Some(vm) = self.vms.get_mut(&id) else { return };
        let Some(machine) = vm.machine.as_mut() else {
            if vm.state != VmState::Starting {
                return self.refuse_state(id, "stop");
            }
            vm.state = VmState::Off;
            let name = vm.name.clone();
            self.waiting.retain(|waiting| waiting.vm != id);
            return self.effects.push(Effect::Refused(id, Box::new(Refusal::Cancelled { name })));
        };
        self.waiting.retain(|waiting| waiting.vm != id);
        machine.restarting = false;
        machine.force_at = grace_ms.map(|grace| now.plus_millis(grace));
        let launching = vm.state == VmState::Starting && !machine.reset_held;
        // A paused or held guest can't answer the button.
        let answers = grace_ms.is_some() && !machine.reset_held && vm.state != VmState::Paused;
        vm.state = VmState::Stopping;
        match (launching, answers) {
            (true, _) => {} // Launched comes next and ends it
            (false, true) => self.effects.push(Effect::PowerDown(id)),
            (false, false) => self.effects.push(Effect::Kill(id)),
        }
    }

    fn restart_asked(&mut self, now: Instant, id: VmId, grace_ms: Option<u64>) {
        let Some(vm) = self.vms.get_mut(&id) else { return };
        let restartable = matches!(vm.state, VmState::Running | VmState::Booting | VmState::Paused);
        let (Some(machine), true) = (&mut vm.machine, restartable) else {
            return self.refuse_state(id, "restart");
        };
        machine.restarting = true;
        match grace_ms {
            Some(grace) if vm.state != VmState::Paused => {
                machine.force_at = Some(now.plus_millis(grace));
                self.effects.push(Effect::PowerDown(id));
            }
            _ => self.effects.push(Effect::HoldForReset(id)),
        }
    }

    fn reset_held(&mut self, now: Instant, id: VmId) {
        let Some(vm) = self.vms.get_mut(&id) else { return };
        let Some(machine) = vm.machine.as_mut() else { return };
        if vm.state == VmState::Stopping {
            return self.effects.push(Effect::Kill(id));
        }
        if machine.reset_held {
            return;
        }
        (machine.reset_held, machine.force_at) = (true, None);
        vm.state = VmState::Starting;
        let overhead = machine.devices.overhead;
        self.wait_for_reset(now, id, overhead);
    }

    fn powered_off(&mut self, now: Instant, id: VmId) {
        let Some(vm) = self.vms.get_mut(&id) else { return };
        let Some(machine) = vm.machine.as_mut() else { return };
        if machine.restarting || machine.reset_held {
            return self.reset_held(now, id);
        }
        vm.state = VmState::Stopping;
        self.effects.push(Effect::Kill(id));
    }

    fn stand_still(&mut self, id: VmId, still: bool) {
        let Some(vm) = self.vms.get(&id) else { return };
        match (vm.state, still) {
            (VmState::Running | VmState::Booting, true) => self.effects.push(Effect::Pause(id)),
            (VmState::Paused, false) => self.effects.push(Effect::Resume(id)),
            (_, true) => self.refuse_state(id, "pause"),
            (_, false) => self.refuse_state(id, "resume"),
        }
    }

    fn stands_still(&mut self, id: VmId, still: bool) {
        let Some(vm) = self.vms.get_mut(&id) else { return };
        let Some(machine) = vm.machine.as_ref() else { return };
        vm.state = match (vm.state, still) {
            (VmState::Running | VmState::Booting, true) => VmState::Paused,
            (VmState::Paused, false) if machine.report.is_some() => VmState::Running,
            (VmState::Paused, false) => VmState::Booting,
            (state, _) => state,
        };
    }

    fn exited(&mut self, id: VmId) {
        let Some(vm) = self.vms.get_mut(&id) else { return };
        if vm.machine.take().is_none() {
            return;
        }
        vm.state = if vm.state == VmState::Stopping { VmState::Off } else { VmState::Failed };
        vm.statistics = Statistics::default();
        self.waiting.retain(|waiting| waiting.vm != id);
    }

    /// Patience with guests that do not answer ends.
    pub(super) fn look_at_clocks(&mut self, now: Instant) {
        for (id, vm) in &mut self.vms {
            let Some(machine) = vm.machine.as_mut() else { continue };
            if machine.force_at.is_some_and(|at| now >= at) {
                machine.force_at = None;
                let id = *id;
                self.effects.push(if machine.restarting { Effect::HoldForReset(id) } else { Effect::Kill(id) });
            }
        }
    }
}

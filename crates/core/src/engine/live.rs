//! Settings that change while the VM runs: what can be honoured, and what then
//! happens.
//!
//! ```text
//!  minimum raised     ──▶ it holds that much, or there is memory: the next decision gives it
//!  maximum lowered    ──▶ its guest gives back what is above, asked at once and once a tick
//!  a static VM's      ──▶ larger: as for a start; smaller: as far as its guest gives
//!  startup changed
//! ```
//! A change is refused while it can't be honoured, with what could be. Once it
//! is accepted it is written down, and holds: what has become impossible in the
//! meantime is done as soon as it is possible.

use dynmem_units::Bytes;

use super::{Engine, rebalance::Purse};
use crate::{
    Instant, MemorySettings, NoticeKind, SettingsError, VmId, VmState,
    ledger::Promise,
    vm::{Machine, Vm},
};

impl Vm {
    /// What the machine is to be promised as a static VM, and is not; none for
    /// dynamic ones, and while its guest can't be asked.
    fn resize(&self, now: Instant) -> Option<Promise> {
        let machine = self.answers().filter(|_| !self.settings.dynamic)?;
        let plan = Promise::plan(&machine.devices, self.settings.startup, machine.stall.pinned(now));
        (plan != machine.promise && !machine.stall.resting(now)).then_some(plan)
    }
}

impl Machine {
    /// What a reset machine is to be promised: a static VM keeps its startup,
    /// also where a part of it was hot-added.
    pub(super) fn after_reset(&self, settings: &MemorySettings) -> Promise {
        let devices = &self.devices;
        let added = settings.startup.saturating_sub(devices.boot).min(devices.plug_max);
        let plugged = if settings.dynamic { Bytes::ZERO } else { added.align_down(devices.plug_block) };
        Promise { balloon: devices.boot, plugged }
    }
}

impl Engine {
    /// Checks `new` as the next settings of a VM, with the rules for its state
    /// and what its machine and the host can honour now. Unknown VMs count as
    /// off.
    pub fn check_settings(&self, id: VmId, new: &MemorySettings) -> Result<(), SettingsError> {
        self.check_rules(id, new)?;
        let Some(vm) = self.vm(id) else { return Ok(()) };
        match (&vm.machine, &vm.saved) {
            (Some(machine), _) => self.check_honoured(id, vm, machine, new),
            (None, Some(saved)) if new.minimum > vm.settings.minimum.max(saved.assigned()) => {
                let (from, to) = (vm.settings.minimum, new.minimum);
                let why = format!("it was saved with {}, and goes on with that", saved.assigned());
                Err(SettingsError::Now { setting: "Minimum", from, to, why })
            }
            _ => Ok(()),
        }
    }

    /// The part of it that can't change from one moment to the next.
    pub(super) fn check_rules(&self, id: VmId, new: &MemorySettings) -> Result<(), SettingsError> {
        match self.vm(id) {
            Some(Vm { machine: Some(machine), settings, .. }) => settings.check_change(new, machine.devices.reach()),
            Some(Vm { saved: Some(devices), settings, .. }) => settings.check_change(new, devices.reach()),
            Some(vm) if vm.state == VmState::Starting => vm.settings.check_change(new, vm.settings.maximum),
            _ => new.check(),
        }
    }

    fn check_honoured(&self, id: VmId, vm: &Vm, machine: &Machine, new: &MemorySettings) -> Result<(), SettingsError> {
        let (old, has) = (&vm.settings, machine.promise.assigned());
        let grown = |setting, from: Bytes, to: Bytes| {
            if to <= from.max(has) {
                return Ok(());
            }
            let covered = machine.charge().saturating_sub(machine.devices.overhead);
            let (needs, available) = (to.saturating_sub(covered), self.available_to(id));
            let most = covered.saturating_add(available).max(from);
            let why = if !vm.moves() {
                format!("its guest takes no memory now; {} can be guaranteed, which it holds", from.max(has))
            } else if needs > available {
                format!("it needs {needs} more, {available} available; {most} could be guaranteed now")
            } else {
                return Ok(());
            };
            Err(SettingsError::Now { setting, from, to, why })
        };
        if !old.dynamic {
            return grown("Startup", old.startup, new.startup);
        }
        grown("Minimum", old.minimum, new.minimum)?;
        if new.maximum < old.maximum && has > new.maximum && !vm.moves() {
            let why = format!("it holds {has}, and its guest gives no memory back now");
            return Err(SettingsError::Now { setting: "Maximum", from: old.maximum, to: new.maximum, why });
        }
        Ok(())
    }

    /// What can be lent to this VM on top: what is free, and what others hold
    /// beyond their targets and can be asked for.
    fn available_to(&self, id: VmId) -> Bytes {
        let surplus = |(other, vm): (VmId, &Vm)| {
            let machine = vm.elastic().filter(|_| other != id && vm.moves())?;
            Some(machine.promise.assigned().saturating_sub(vm.target(machine)))
        };
        self.each().filter_map(surplus).sum::<Bytes>().saturating_add(self.available())
    }

    pub(super) fn configured(&mut self, now: Instant, id: VmId, settings: MemorySettings) {
        if self.check_rules(id, &settings).is_err() {
            return; // the caller was told by check_settings; here nothing changes
        }
        let Some(vm) = self.vm_mut(id) else { return };
        let message = format!(
            "Memory settings of {} changed: startup {}, minimum {}, maximum {}, buffer {}, weight {}",
            vm.name, settings.startup, settings.minimum, settings.maximum, settings.buffer, settings.weight
        );
        vm.settings = settings;
        self.due = true;
        self.record(Some(id), NoticeKind::SettingsChanged, message, Vec::new());
        self.fit_settings(now, id);
    }

    /// Asks a VM for what it holds beyond its settings, or notes that it is to
    /// have more. Called when they change, when its guest has come up, and once
    /// a tick.
    pub(super) fn fit_settings(&mut self, now: Instant, id: VmId) {
        let Some(vm) = self.vm(id) else { return };
        let Some(machine) = vm.answers() else { return };
        let (maximum, has) = (vm.settings.maximum, machine.promise.assigned());
        if vm.settings.dynamic {
            if has > maximum && !machine.stall.resting(now) {
                self.shrink_to(now, id, maximum, machine.charge());
            }
        } else if let Some(plan) = vm.resize(now) {
            if plan.assigned() < has {
                self.shrink_to(now, id, plan.assigned(), machine.charge());
            } else if !self.resizes.contains(&id) {
                self.resizes.push(id);
                self.due = true;
            }
        }
    }

    /// Gives static VMs that are to have more what nobody is entitled to, in
    /// the order in which that was asked. Says how much `spare` is left.
    pub(super) fn serve_resizes(&mut self, now: Instant, purse: &mut Purse, mut spare: u64) -> u64 {
        for id in std::mem::take(&mut self.resizes) {
            let Some(plan) = self.vm(id).and_then(|vm| vm.resize(now)) else { continue };
            let Some(machine) = self.machine(id) else { continue };
            let missing = Purse::blocks(plan.assigned().saturating_sub(machine.promise.assigned()));
            let level = machine.promise.assigned().saturating_add(Purse::bytes(missing.min(purse.free).min(spare)));
            let charge = machine.charge();
            // Memory that lies crosswise would need room for both devices to trade places.
            let affordable = charge.saturating_add(Purse::bytes(purse.free.min(spare)));
            let promise = machine.plan_within(now, level, affordable);
            let more = Purse::blocks(machine.charge_with(promise).saturating_sub(charge));
            if more <= purse.free.min(spare) && promise.assigned() > machine.promise.assigned() {
                (purse.free, spare) = (purse.free - more, spare - more);
                self.order(now, id, promise);
            }
            let reached = self.machine(id).map_or(Bytes::MAX, |machine| machine.promise.assigned());
            let short = Purse::blocks(plan.assigned().saturating_sub(reached)).min(spare);
            purse.short += short;
            spare -= short;
            if plan.assigned() > reached {
                self.resizes.push(id);
            }
        }
        spare
    }

    /// A static VM's guest has come up: what was kept for it is ordered.
    pub(super) fn order_kept(&mut self, id: VmId) {
        let Some(vm) = self.vm(id).filter(|vm| !vm.settings.dynamic) else { return };
        let Some(machine) = vm.answers() else { return };
        if machine.promise != Promise::held(&machine.devices) {
            self.order_promise(id);
        }
    }
}

//! [`Engine::explain`]: why a VM has what it has. See [`crate::explain`].

use dynmem_units::Bytes;

use super::{Engine, rebalance::Outlook};
use crate::{
    Explanation, Instant, NAMED_MAX, Owed, Remedy, Sharer, TroubleKind, VmId, VmState, Why,
    vm::{Machine, Vm},
};

impl Engine {
    /// Why a VM has what it has at `now`, none if there is no such VM. The
    /// decision is made once more for that, on a copy: for a person who asks,
    /// not for every VM in every second.
    pub fn explain(&self, now: Instant, id: VmId) -> Option<Explanation> {
        let vm = self.vm(id)?;
        let of = |get: fn(&Machine) -> Bytes| vm.machine.as_ref().map_or(Bytes::ZERO, get);
        let outlook = self.clone().outlook(now);
        let demand = of(|machine| machine.demand.current());
        let assigned = of(Machine::assigned);
        let due = outlook.due(id).unwrap_or(assigned);
        let why = self.why(now, id, vm, &outlook);
        let (sharers, sharers_total) = self.sharers(id, &outlook);
        let mut owed = self.owed(id);
        let owed_bytes = owed.iter().map(|owed| owed.bytes).sum();
        owed.truncate(NAMED_MAX);
        let mut explanation = Explanation {
            name: vm.name.clone(),
            assigned,
            promised: of(|machine| machine.promise.assigned()),
            demand,
            wanted: vm.machine.as_ref().map_or(Bytes::ZERO, |machine| wanted(vm, machine)),
            target: vm.machine.as_ref().map_or(Bytes::ZERO, |machine| vm.target(machine)),
            due,
            minimum: vm.settings.minimum,
            maximum: vm.settings.maximum,
            weight: vm.settings.weight,
            why,
            sharers,
            sharers_total,
            owed,
            owed_bytes,
            available: self.available(),
            lendable: self.host.capacity(),
            remedies: Vec::new(),
        };
        explanation.remedies = self.remedies(&explanation);
        Some(explanation)
    }

    fn why(&self, now: Instant, id: VmId, vm: &Vm, outlook: &Outlook) -> Why {
        let needs = self.waits_for(id);
        match (&vm.machine, vm.state) {
            (_, VmState::Off | VmState::Saved | VmState::Failed) => Why::Off(vm.state),
            (_, VmState::Starting) if needs.is_some() => {
                Why::WaitsToStart { needs: needs.unwrap_or_default(), available: self.available() }
            }
            (Some(machine), VmState::Booting | VmState::Running) if machine.pages => {
                Why::Pages { file: machine.paging.as_ref().map_or(Bytes::ZERO, |paging| paging.file) }
            }
            (None, _) | (_, VmState::Starting | VmState::Booting) => Why::Boots,
            (_, VmState::Stopping | VmState::Saving) => Why::Ends,
            (_, VmState::Paused) => Why::Paused,
            (_, VmState::Running) if !vm.settings.dynamic => Why::Static,
            (Some(machine), VmState::Running) => why_elastic(now, id, vm, machine, outlook),
        }
    }

    /// What a VM needs that waits for memory to start or to go on after a reset.
    fn waits_for(&self, id: VmId) -> Option<Bytes> {
        let vm = self.vm(id)?;
        let start = self.starts.iter().find(|start| start.vm == id).map(|start| vm.start_needs(start.overhead));
        let held = vm.machine.as_ref().filter(|machine| machine.waits_for_memory());
        start.or_else(|| held.map(|machine| machine.reset_needs(machine.after_reset(&vm.settings))))
    }

    /// The others that memory is shared with, those that hold most first, and
    /// how many there are.
    fn sharers(&self, id: VmId, outlook: &Outlook) -> (Vec<Sharer>, usize) {
        let sharer = |&(other, due): &(VmId, Bytes)| {
            let vm = self.vm(other).filter(|_| other != id)?;
            let machine = vm.machine.as_ref()?;
            let (assigned, demand) = (machine.assigned(), machine.demand.current());
            Some(Sharer { name: vm.name.clone(), weight: vm.settings.weight, assigned, demand, due })
        };
        let mut sharers: Vec<Sharer> = outlook.dues.iter().filter_map(sharer).collect();
        sharers.sort_by(|a, b| b.assigned.cmp(&a.assigned).then_with(|| a.name.cmp(&b.name)));
        let total = sharers.len();
        sharers.truncate(NAMED_MAX);
        (sharers, total)
    }

    /// What others were asked for and still hold, most first.
    fn owed(&self, id: VmId) -> Vec<Owed> {
        let debt = |(other, vm): (VmId, &Vm)| {
            let machine = vm.elastic().filter(|_| other != id)?;
            let bytes = machine.charge().saturating_sub(machine.devices.overhead);
            let bytes = bytes.saturating_sub(machine.promise.assigned());
            let stuck = machine.stall.stuck_since().is_some();
            (bytes >= Bytes::BLOCK).then(|| Owed { name: vm.name.clone(), bytes, stuck })
        };
        let mut owed: Vec<Owed> = self.each().filter_map(debt).collect();
        owed.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
        owed
    }

    fn remedies(&self, explanation: &Explanation) -> Vec<Remedy> {
        let Explanation { why, owed, weight, wanted, .. } = explanation;
        let waits = !owed.is_empty();
        let withheld = self.host.config.lendable().saturating_sub(self.host.capacity());
        let mut remedies = Vec::new();
        match why {
            Why::WaitsToStart { needs, available } => {
                remedies.extend(waits.then_some(Remedy::Owed));
                remedies.push(Remedy::Memory { missing: needs.saturating_sub(*available) });
            }
            Why::WaitsForOthers => remedies.extend(waits.then_some(Remedy::Owed)),
            Why::Shares(shortage) => {
                let larger = explanation.sharers_total > 0 && weight.get() < 10_000;
                remedies.extend(larger.then_some(Remedy::Weight(*weight)));
                remedies.push(Remedy::Memory { missing: shortage.wanted.saturating_sub(shortage.room) });
            }
            Why::Maximum => remedies.push(Remedy::Maximum { at_least: *wanted }),
            Why::Minimum => remedies.push(Remedy::Minimum),
            Why::Held { trouble: Some((kind, _)) } => remedies.push(Remedy::Guest(*kind)),
            Why::Held { trouble: None } => remedies.push(Remedy::Agent),
            Why::Static => remedies.push(Remedy::Dynamic),
            _ => {}
        }
        let wants_memory = matches!(why, Why::WaitsToStart { .. } | Why::WaitsForOthers | Why::Shares(_));
        remedies.extend((wants_memory && !withheld.is_zero()).then_some(Remedy::Host { withheld }));
        remedies
    }
}

impl Outlook {
    fn due(&self, id: VmId) -> Option<Bytes> {
        self.dues.iter().find(|(vm, _)| *vm == id).map(|(_, due)| *due)
    }
}

/// Demand and buffer, whatever minimum and maximum say, in whole blocks.
fn wanted(vm: &Vm, machine: &Machine) -> Bytes {
    let demand = machine.demand.current();
    demand.saturating_add(vm.settings.buffer.of(demand)).align_up(Bytes::BLOCK)
}

/// Of a running dynamic VM.
fn why_elastic(now: Instant, id: VmId, vm: &Vm, machine: &Machine, outlook: &Outlook) -> Why {
    let due = outlook.due(id).filter(|_| vm.moves());
    let Some(due) = due else { return Why::Held { trouble: freezes(machine) } };
    let (assigned, promised) = (machine.assigned(), machine.promise.assigned());
    let (target, wanted) = (vm.target(machine), wanted(vm, machine));
    let slack = Vm::slack(target, vm.demand(machine));
    if promised > assigned {
        Why::Grows
    } else if promised < assigned {
        Why::Gives
    } else if promised.saturating_add(slack) < due && !machine.stall.rests_from_growing(now) {
        Why::WaitsForOthers
    } else if let Some(shortage) = outlook.shortage.filter(|_| due < target) {
        Why::Shares(shortage)
    } else if promised > target {
        Why::Surplus
    } else if wanted > vm.settings.maximum {
        Why::Maximum
    } else if wanted < vm.settings.minimum {
        Why::Minimum
    } else {
        Why::Satisfied
    }
}

/// What keeps its memory from moving.
fn freezes(machine: &Machine) -> Option<(TroubleKind, String)> {
    let trouble = machine.conduct.troubles().iter().find(|trouble| trouble.kind.freezes())?;
    Some((trouble.kind, trouble.detail.clone()))
}

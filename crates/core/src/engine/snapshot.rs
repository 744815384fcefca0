//! What people and programs may see of the engine: plain values, computed when
//! asked for.

use dynmem_units::{Bytes, Percent};
use serde::Serialize;

use super::Engine;
use crate::{
    GuestReport, Instant, MemorySettings, MemoryStatus, TroubleKind, VmId, VmState,
    trouble::Trouble,
    vm::{Counters, Machine, PressureHistory, Vm},
};

/// Whether a VM's memory can be moved, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum DriverSnapshot {
    /// There is no machine.
    None,
    /// The guest has not spoken yet, or the machine was found and does not answer.
    Waiting,
    /// Works.
    Working,
    /// Does not do what it was asked, since so many milliseconds.
    Stuck {
        /// How long.
        for_ms: u64,
    },
    /// Has not reported since so many milliseconds.
    Silent {
        /// How long.
        for_ms: u64,
    },
}

/// Something that is wrong with a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TroubleSnapshot {
    /// What.
    pub kind: TroubleKind,
    /// Since when, in milliseconds ago.
    pub for_ms: u64,
    /// What the guest does, said of it: `does not move its memory: …`.
    pub detail: String,
}

/// A part of a VM's memory that is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PagingSnapshot {
    /// The size of the file.
    pub file: Bytes,
    /// The part in use, as last told.
    pub used: Bytes,
    /// Since when, in milliseconds ago.
    pub for_ms: u64,
    /// It has been there for longer than it should.
    pub overdue: bool,
}

/// One VM at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VmSnapshot {
    /// Its number.
    pub id: VmId,
    /// Its name.
    pub name: String,
    /// Its settings.
    pub settings: MemorySettings,
    /// Its state.
    pub state: VmState,
    /// Why it is in this state, where that is not obvious.
    pub reason: Option<String>,
    /// Memory lent to it now.
    pub assigned: Bytes,
    /// What it has been promised: where `assigned` is going.
    pub promised: Bytes,
    /// What its guest needs.
    pub demand: Bytes,
    /// Demand and buffer, between minimum and maximum.
    pub target: Bytes,
    /// Demand by assigned; none before the guest has spoken.
    pub pressure: Option<Percent>,
    /// Pressure since then.
    pub pressure_history: PressureHistory,
    /// None for off and static VMs.
    pub status: Option<MemoryStatus>,
    /// The hypervisor's own memory for it.
    pub overhead: Bytes,
    /// What the ledger counts.
    pub charge: Bytes,
    /// Memory in the balloon.
    pub ballooned: Bytes,
    /// Memory hot-added.
    pub plugged: Bytes,
    /// The guest's last word.
    pub report: Option<GuestReport>,
    /// The most memory that the guest has seen.
    pub high_water: Bytes,
    /// Whether its memory can be moved.
    pub driver: DriverSnapshot,
    /// All that is wrong with its guest, in the order in which it began.
    pub troubles: Vec<TroubleSnapshot>,
    /// Its smart paging file, while there is one.
    pub paging: Option<PagingSnapshot>,
    /// What it held when it was saved, if it is: what it starts with.
    pub saved: Option<Bytes>,
    /// What moved.
    pub counters: Counters,
}

/// The host at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostSnapshot {
    /// Memory that the host and all VMs share.
    pub memory: Bytes,
    /// The part that is never lent.
    pub reserve: Bytes,
    /// The most that may be lent now: `memory` less `reserve`, or less where
    /// somebody else uses the host's memory.
    pub lendable: Bytes,
    /// Available memory that the host keeps while somebody else uses it: twice
    /// as much while it stalls.
    pub floor: Bytes,
    /// Whether the host stalls.
    pub stalls: bool,
    /// What all machines' processes really hold as last read, where that can be
    /// told.
    pub machines_hold: Option<Bytes>,
    /// What all VMs are charged.
    pub charged: Bytes,
    /// What can still be lent.
    pub available: Bytes,
    /// `available`, and what VMs hold beyond their targets.
    pub available_for_balancing: Bytes,
    /// Memory that is missing for growth that is expected of guests: idle
    /// memory is asked back for it.
    pub headroom: Bytes,
    /// Memory lent to all VMs, overhead excluded.
    pub assigned: Bytes,
    /// The hypervisor's own memory for all VMs.
    pub overhead: Bytes,
    /// Demand of all dynamic VMs by what they are assigned; 0 without any.
    pub average_pressure: Percent,
    /// Demand and overhead of all VMs by what can be lent.
    pub system_pressure: Percent,
    /// Whether the host itself is short.
    pub under_pressure: bool,
    /// `MemAvailable` of the host as last read.
    pub host_available: Option<Bytes>,
    /// PSI of the host as last read, hundredths of a per cent.
    pub stall: u32,
    /// What moved.
    pub counters: Counters,
    /// How many decisions were taken.
    pub decisions: u64,
}

impl Engine {
    /// Every VM, in the order of numbers.
    pub fn vm_snapshots(&self, now: Instant) -> Vec<VmSnapshot> {
        self.each().map(|(id, vm)| vm_snapshot(now, id, vm)).collect()
    }

    /// One VM.
    pub fn vm_snapshot(&self, now: Instant, id: VmId) -> Option<VmSnapshot> {
        Some(vm_snapshot(now, id, self.vm(id)?))
    }

    /// The host.
    pub fn host_snapshot(&self) -> HostSnapshot {
        let machines = || self.vms.iter().flatten().filter_map(|vm| Some((vm, vm.machine.as_ref()?)));
        let elastic = || self.vms.iter().flatten().filter_map(|vm| Some((vm, vm.elastic()?)));
        let demand_of = |(vm, machine): (&Vm, &Machine)| {
            if vm.elastic().is_some() { machine.demand.current() } else { machine.assigned() }
        };
        let charged = self.charged();
        let available = self.host.capacity().saturating_sub(charged);
        let surplus: Bytes =
            elastic().map(|(vm, machine)| machine.promise.assigned().saturating_sub(vm.target(machine))).sum();
        let overhead: Bytes = machines().map(|(_, machine)| machine.devices.overhead).sum();
        HostSnapshot {
            memory: self.host.config.memory,
            reserve: self.host.config.reserve,
            lendable: self.host.capacity(),
            floor: self.host.floor(),
            stalls: self.host.stalls(),
            machines_hold: self.host.facts.and_then(|facts| facts.machines),
            charged,
            available,
            available_for_balancing: available.saturating_add(surplus),
            headroom: self.headroom,
            assigned: machines().map(|(_, machine)| machine.assigned()).sum(),
            overhead,
            average_pressure: if elastic().next().is_none() {
                Percent::default()
            } else {
                Percent::ratio(
                    elastic().map(|(_, machine)| machine.demand.current()).sum(),
                    elastic().map(|(_, machine)| machine.devices.assigned()).sum(),
                )
            },
            system_pressure: Percent::ratio(
                machines().map(demand_of).sum::<Bytes>().saturating_add(overhead),
                self.host.config.lendable(),
            ),
            under_pressure: self.host.under_pressure,
            host_available: self.host.facts.map(|facts| facts.available),
            stall: self.host.facts.map_or(0, |facts| facts.stall),
            counters: self.totals,
            decisions: self.decisions,
        }
    }
}

fn vm_snapshot(now: Instant, id: VmId, vm: &Vm) -> VmSnapshot {
    let machine = vm.machine.as_ref();
    let of = |get: fn(&Machine) -> Bytes| machine.map_or(Bytes::ZERO, get);
    let spoken = machine.filter(|machine| machine.heard.is_some());
    let heard = machine.and_then(|machine| machine.heard.as_deref());
    VmSnapshot {
        id,
        name: vm.name.clone(),
        settings: vm.settings.clone(),
        state: vm.state,
        reason: vm.reason.clone(),
        assigned: of(Machine::assigned),
        promised: of(|machine| machine.promise.assigned()),
        demand: of(|machine| machine.demand.current()),
        target: spoken.map_or(Bytes::ZERO, |machine| vm.target(machine)),
        pressure: spoken.map(|machine| Percent::ratio(machine.demand.current(), machine.assigned())),
        pressure_history: heard.map_or_else(PressureHistory::default, |heard| heard.pressure),
        status: vm.memory_status(),
        overhead: of(|machine| machine.devices.overhead),
        charge: vm.charge(),
        ballooned: of(|machine| machine.devices.boot.saturating_sub(machine.devices.balloon_actual)),
        plugged: of(|machine| machine.devices.plugged),
        report: heard.map(|heard| heard.report.clone()),
        high_water: of(|machine| machine.high_water),
        driver: driver(now, machine),
        troubles: machine.map_or_else(Vec::new, |machine| troubles(now, machine)),
        paging: machine.and_then(|machine| paging(now, machine)),
        saved: vm.saved.as_ref().map(|devices| devices.assigned()),
        counters: machine.map_or_else(Counters::default, |machine| machine.counters),
    }
}

fn troubles(now: Instant, machine: &Machine) -> Vec<TroubleSnapshot> {
    let seen = |trouble: &Trouble| {
        let Trouble { kind, since, ref detail } = *trouble;
        TroubleSnapshot { kind, for_ms: now.millis_since(since), detail: detail.clone() }
    };
    machine.conduct.troubles().iter().map(seen).collect()
}

fn paging(now: Instant, machine: &Machine) -> Option<PagingSnapshot> {
    let paging = machine.paging.as_ref()?;
    let for_ms = now.millis_since(paging.since);
    Some(PagingSnapshot { file: paging.file, used: paging.used, for_ms, overdue: paging.overdue })
}

fn driver(now: Instant, machine: Option<&Machine>) -> DriverSnapshot {
    let Some(machine) = machine else { return DriverSnapshot::None };
    if !machine.known {
        return DriverSnapshot::Waiting;
    }
    if let Some(since) = machine.silent_since {
        return DriverSnapshot::Silent { for_ms: now.millis_since(since) };
    }
    match (machine.stall.stuck_since(), &machine.heard) {
        (Some(since), _) => DriverSnapshot::Stuck { for_ms: now.millis_since(since) },
        (None, None) => DriverSnapshot::Waiting,
        (None, Some(_)) => DriverSnapshot::Working,
    }
}

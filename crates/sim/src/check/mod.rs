//! Every invariant of the design, checked while a world goes on.
//!
//! The checks compare the engine with the world's own books, and never repeat
//! its arithmetic. The first that fails is kept; the world's seed replays it.
//! Numbers are those of the list in `docs/architecture.md`:
//!
//! * 1, 2, 3, 4 and 8 are looked at whenever something was ordered;
//! * 1 and 10 at every step; 5 and 7 once a second;
//! * 6 and 9 need whole runs: see [`crate::fault`]; 11 has a file of its own.

mod paging;

use dynmem_core::{DriverSnapshot, Effect, Engine, VmId, VmSnapshot, VmState};
use dynmem_units::Bytes;

use crate::world::{SimVm, World};

/// A relief that fits is given within this time: a report, a tick, a step.
const RELIEF_MS: u64 = 3_000;
/// Need that others' surplus could meet ends, or something moves, within this
/// time: the longest rest of a stuck device is a minute.
const EQUILIBRIUM_MS: u64 = 90_000;
/// The engine's silence rule is 15 s; its clock ticks once a second.
const SILENT_MS: u64 = 17_000;

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invariant {invariant} is broken at {now_ms} ms: {what}")]
pub struct Broken {
    /// Its number in the design's list.
    pub invariant: u8,
    /// When, by the world's clock.
    pub now_ms: u64,
    /// What was seen.
    pub what: String,
}

/// What the checks remember between two looks.
#[derive(Debug)]
pub struct Check {
    broken: Option<Broken>,
    /// Since when each VM has been in need although a relief would fit.
    relief_since: Vec<Option<u64>>,
    /// What each VM was promised at the last look.
    promised: Vec<Bytes>,
    /// Since when somebody has been in need beside surplus and nothing moved.
    frozen_since: Option<u64>,
    /// What was ordered of each VM, as of the last order.
    ordered: Vec<Bytes>,
    /// A new policy is being told what runs, and does not know all of it yet.
    recovering: bool,
    looked_at_ms: u64,
}

impl Default for Check {
    fn default() -> Self {
        Self {
            broken: None,
            relief_since: Vec::new(),
            promised: Vec::new(),
            frozen_since: None,
            ordered: Vec::new(),
            recovering: true,
            looked_at_ms: 0,
        }
    }
}

impl Check {
    /// The first invariant that was found broken.
    pub fn broken(&self) -> Option<&Broken> {
        self.broken.as_ref()
    }

    pub(crate) fn policy_restarted(&mut self) {
        self.recovering = true;
        self.relief_since.clear();
        self.frozen_since = None;
    }

    pub(crate) fn fail(&mut self, world: &World, invariant: u8, what: String) {
        self.broken.get_or_insert(Broken { invariant, now_ms: world.now_ms(), what });
    }

    /// Looks at what one input led to.
    pub(crate) fn effects(&mut self, world: &World, effects: &[Effect]) {
        let Some(engine) = world.policy().engine() else { return };
        self.paging(world, engine, effects);
        let gives =
            |effect: &Effect| matches!(effect, Effect::Order { .. } | Effect::Launch(_) | Effect::LaunchPaged(..));
        if !effects.iter().any(gives) {
            return;
        }
        self.ledger(world, engine);
        let mut snapshots = None;
        for effect in effects {
            let Effect::Order { vm: id, balloon, plugged } = effect else { continue };
            let vm = &world.vms()[id.0 as usize];
            let promised = balloon.saturating_add(*plugged);
            let before = self.replace_ordered(vm.id, promised);
            self.bounds(world, engine, vm, promised, before);
            let held = vm.lived.held.min(before.unwrap_or(Bytes::MAX));
            let snapshots = snapshots.get_or_insert_with(|| engine.vm_snapshots(world.told()));
            if promised < held {
                self.cause(world, engine, snapshots, vm, promised);
            } else if before.is_some_and(|before| promised > before.max(vm.lived.held)) {
                let available = engine.host_snapshot().available;
                self.ranks(world, snapshots, available, vm, promised);
            }
        }
    }

    fn replace_ordered(&mut self, id: VmId, promised: Bytes) -> Option<Bytes> {
        let index = id.0 as usize;
        if self.ordered.len() <= index {
            self.ordered.resize(index + 1, Bytes::MAX);
        }
        let before = std::mem::replace(&mut self.ordered[index], promised);
        (before != Bytes::MAX).then_some(before)
    }

    /// 1: never oversubscribed. Says what machines could hold.
    fn oversubscription(&mut self, world: &World) -> Bytes {
        let (charged, lendable) = (world.charged(), world.lendable());
        if charged > lendable {
            self.fail(world, 1, format!("machines could hold {charged} of {lendable}"));
        }
        charged
    }

    /// 1: never oversubscribed; 10: and the ledger knows all that could be held.
    fn ledger(&mut self, world: &World, engine: &Engine) {
        let charged = self.oversubscription(world);
        let ledger = engine.host_snapshot().charged;
        if !self.recovering && ledger < charged {
            self.fail(world, 10, format!("the ledger says {ledger}, machines could hold {charged}"));
        }
    }

    /// 2: within minimum and maximum, once booted; 8: nothing asked of the silent.
    fn bounds(&mut self, world: &World, engine: &Engine, vm: &SimVm, promised: Bytes, before: Option<Bytes>) {
        let Some(snapshot) = engine.vm_snapshot(world.told(), vm.id) else { return };
        if snapshot.state != VmState::Running || !snapshot.settings.dynamic {
            return;
        }
        let (name, held) = (&vm.plan.name, vm.lived.held);
        let (minimum, maximum) = (vm.plan.settings.minimum, vm.plan.settings.maximum);
        // A silent one keeps what it was last known to hold, and may have given some of it.
        if promised > maximum.max(held).max(snapshot.assigned) {
            self.fail(world, 2, format!("{name} was promised {promised}, above its maximum {maximum}"));
        }
        // A minimum that was raised comes bit by bit, as others give it.
        let rises = before.is_some_and(|before| promised > before);
        if promised < minimum.min(held) && !rises {
            self.fail(world, 2, format!("{name} was left {promised}, below its minimum {minimum}"));
        }
        if let DriverSnapshot::Silent { for_ms } = snapshot.driver
            && for_ms > SILENT_MS
            && promised < snapshot.assigned
        {
            self.fail(world, 8, format!("{name} has been silent for {for_ms} ms and was asked for memory"));
        }
    }

    /// 3: nothing is reclaimed unless a VM, a start or the host needs it. What
    /// needed it then is still short of it, or has just been served.
    fn cause(&mut self, world: &World, engine: &Engine, snapshots: &[VmSnapshot], vm: &SimVm, promised: Bytes) {
        if !vm.plan.settings.dynamic {
            return; // a person made it smaller
        }
        let host = engine.host_snapshot();
        let waits = |other: &VmSnapshot| match other.state {
            VmState::Starting | VmState::Booting => true,
            // A static VM that a person made larger waits for the rest of its startup.
            VmState::Running if !other.settings.dynamic => other.promised < other.settings.startup,
            VmState::Running => other.id != vm.id && other.promised < other.target,
            // A file that is overdue is emptied whatever its guest does.
            _ => other.paging.is_some_and(|paging| paging.overdue),
        };
        let above_maximum = vm.lived.held > vm.plan.settings.maximum;
        let needed = above_maximum
            || host.under_pressure
            || host.available.is_zero()
            || !host.headroom.is_zero()
            || snapshots.iter().any(waits);
        if !needed {
            let (name, held) = (&vm.plan.name, vm.lived.held);
            self.fail(world, 3, format!("{name} was shrunk from {held} to {promised} and nobody needed it"));
        }
    }

    /// 4: nobody's buffer before somebody's demand. Demand that waits only for
    /// memory on its way back is as good as served: it was asked back for that.
    fn ranks(&mut self, world: &World, snapshots: &[VmSnapshot], available: Bytes, vm: &SimVm, promised: Bytes) {
        let own = &snapshots[vm.id.0 as usize];
        if promised <= own.assigned || matches!(own.driver, DriverSnapshot::Stuck { .. }) {
            return; // it is left what it holds, or what was charged for it already
        }
        if !own.settings.dynamic {
            return; // it has no buffer: what a static VM is given is its startup, guaranteed
        }
        if own.state != VmState::Running || promised <= own.demand.max(own.settings.minimum).align_up(Bytes::BLOCK) {
            return;
        }
        let missing: Bytes = snapshots.iter().filter(|other| in_need(other)).map(missing).sum();
        let coming = snapshots.iter().map(coming).sum::<Bytes>().saturating_add(available);
        let rounding = Bytes::BLOCK.scale(snapshots.len() as u64, 1);
        if missing <= coming.saturating_add(rounding) {
            return;
        }
        for other in snapshots.iter().filter(|other| other.id != vm.id && in_need(other)) {
            let what = format!(
                "{} was promised {promised}, beyond its demand of {}, while {} has {} of {} and of {missing} that are \
                 missing only {coming} come",
                own.name, own.demand, other.name, other.promised, other.demand
            );
            self.fail(world, 4, what);
        }
    }

    /// Looks at a step that is over.
    pub(crate) fn step(&mut self, world: &World) {
        if world.policy_is_down() {
            return;
        }
        self.recovering = false;
        let Some(engine) = world.policy().engine() else { return };
        self.oversubscription(world);
        if world.now_ms() / 1000 != self.looked_at_ms / 1000 {
            self.looked_at_ms = world.now_ms();
            let snapshots = engine.vm_snapshots(world.told());
            self.reliefs(world, &snapshots, engine.host_snapshot().available);
        }
    }

    /// 7: a relief that fits is not delayed; 5: need beside surplus ends.
    fn reliefs(&mut self, world: &World, snapshots: &[VmSnapshot], available: Bytes) {
        let now_ms = world.now_ms();
        // In a shortage memory only passes through: who gives to anybody, by
        // weight, delays nobody.
        let promised: Vec<Bytes> = snapshots.iter().map(|vm| vm.promised).collect();
        if promised.iter().zip(&self.promised).any(|(is, was)| is > was) {
            self.relief_since.clear();
        }
        self.promised = promised;
        self.relief_since.resize(snapshots.len(), None);
        for (index, vm) in snapshots.iter().enumerate() {
            let missing = missing(vm);
            let fits = in_need(vm) && vm.assigned < vm.demand && available >= missing.saturating_add(Bytes::BLOCK);
            let since = self.relief_since[index].filter(|_| fits).or(fits.then_some(now_ms));
            self.relief_since[index] = since;
            if since.is_some_and(|since| now_ms - since > RELIEF_MS) {
                let what = format!("{} lacks {missing} of its demand beside {available} of free memory", vm.name);
                self.fail(world, 7, what);
            }
        }
        self.equilibrium(world, snapshots, available);
    }

    fn equilibrium(&mut self, world: &World, snapshots: &[VmSnapshot], available: Bytes) {
        let surplus: Bytes = snapshots.iter().map(surplus).sum();
        let needy = snapshots.iter().find(|vm| in_need(vm));
        let moving = snapshots.iter().any(|vm| vm.assigned != vm.promised);
        let could_end = available.saturating_add(surplus) >= Bytes::BLOCK.scale(4, 1);
        let frozen = needy.is_some() && could_end && !moving;
        self.frozen_since = self.frozen_since.filter(|_| frozen).or(frozen.then_some(world.now_ms()));
        if let (Some(since), Some(vm)) = (self.frozen_since, needy)
            && world.now_ms() - since > EQUILIBRIUM_MS
        {
            let what = format!(
                "{} has {} of {} while {available} is free and others hold {surplus} beyond their demand",
                vm.name, vm.promised, vm.demand
            );
            self.fail(world, 5, what);
        }
    }
}

/// A VM that could take memory and lacks more than a block of its demand. One
/// that pages can't: it is given what is in its file first.
fn in_need(vm: &VmSnapshot) -> bool {
    vm.state == VmState::Running
        && vm.paging.is_none()
        && vm.settings.dynamic
        && vm.driver == DriverSnapshot::Working
        && vm.promised.saturating_add(Bytes::BLOCK) < vm.demand.min(vm.settings.maximum)
}

/// What it lacks of its demand.
fn missing(vm: &VmSnapshot) -> Bytes {
    vm.demand.min(vm.settings.maximum).saturating_sub(vm.promised)
}

/// What it was asked to give back and has not given yet.
fn coming(vm: &VmSnapshot) -> Bytes {
    vm.charge.saturating_sub(vm.overhead).saturating_sub(vm.promised)
}

/// What a VM that could give memory holds beyond its demand and minimum. One that
/// pages gives what is in its file first.
fn surplus(vm: &VmSnapshot) -> Bytes {
    let moves = vm.settings.dynamic && vm.paging.is_none();
    let gives = vm.state == VmState::Running && moves && vm.driver == DriverSnapshot::Working;
    let keeps = vm.demand.max(vm.settings.minimum).align_up(Bytes::BLOCK);
    if gives { vm.promised.saturating_sub(keeps) } else { Bytes::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::{HostPlan, VmPlan, dynamic},
        policy::Dynmem,
        workload::Workload,
    };

    const MIB: fn(u64) -> Bytes = Bytes::from_mib;

    /// What a look each second says for `seconds` if the first of two VMs lacks
    /// 200 MiB of its demand, the second holds `surplus` beyond its own, and so
    /// much is free.
    fn looks(seconds: u64, available: Bytes, surplus: Bytes, given_each_second: Bytes) -> Option<u8> {
        let vm = |name| VmPlan::new(name, dynamic(256, 1024, 4096), Workload::steady(MIB(600)));
        let plan = HostPlan::new(MIB(8_192), MIB(512)).with(vm("short")).with(vm("fat"));
        let policy = Box::new(Dynmem::new(plan.host));
        let mut world = World::new(plan, policy);
        world.step(5_000);
        let mut snapshots = world.policy().engine().expect("it is ours").vm_snapshots(world.told());
        let [short, fat] = snapshots.as_mut_slice() else { panic!("there are two") };
        short.promised = short.demand.saturating_sub(MIB(200));
        fat.promised = fat.demand.max(fat.settings.minimum).align_up(Bytes::BLOCK).saturating_add(surplus);
        (short.assigned, fat.assigned) = (short.promised, fat.promised);
        let mut check = Check::default();
        for _ in 0..seconds {
            world.step(1_000);
            snapshots[1].promised = snapshots[1].promised.saturating_add(given_each_second);
            check.reliefs(&world, &snapshots, available);
        }
        check.broken().map(|broken| broken.invariant)
    }

    #[test]
    fn a_relief_that_fits_must_come_within_seconds() {
        assert_eq!(looks(10, MIB(300), Bytes::ZERO, Bytes::ZERO), Some(7));
        assert_eq!(looks(3, MIB(300), Bytes::ZERO, Bytes::ZERO), None, "it has its time");
        assert_eq!(looks(10, MIB(100), Bytes::ZERO, Bytes::ZERO), None, "it does not fit");
        assert_eq!(looks(10, MIB(300), Bytes::ZERO, MIB(2)), None, "others are given it, by weight");
    }

    #[test]
    fn need_beside_surplus_must_end() {
        assert_eq!(looks(100, Bytes::ZERO, MIB(50), Bytes::ZERO), Some(5));
        assert_eq!(looks(80, Bytes::ZERO, MIB(50), Bytes::ZERO), None, "the longest rest is not over");
        assert_eq!(looks(100, Bytes::ZERO, Bytes::ZERO, Bytes::ZERO), None, "nobody has any to give");
    }
}

//! The checks themselves: each policy here is the real engine with one thing
//! done wrong on purpose, and the invariant that it breaks is found broken.

use std::fmt;

use dynmem_core::{
    DriverSnapshot, Effect, Engine, Event, HostConfig, Input, Instant, MemorySettings, Paged, VmId, VmSnapshot, VmState,
};
use dynmem_sim::{
    check::Broken,
    fault,
    plan::{HostPlan, VmPlan, dynamic},
    policy::{Dynmem, MachineShape, Policy},
    workload::Workload,
    world::World,
};
use dynmem_units::Bytes;

const MIB: fn(u64) -> Bytes = Bytes::from_mib;

/// What is done to the engine's inputs and effects.
trait Wrong {
    /// Changes what the engine is told.
    fn told(&mut self, _input: &mut Input) {}

    /// Changes what it wants done.
    fn wants(&mut self, _now: Instant, _engine: &Engine, _effects: &mut Vec<Effect>) {}
}

/// The engine with something wrong.
struct Gone<W>(Dynmem, W);

impl<W> fmt::Debug for Gone<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<W: Wrong> Policy for Gone<W> {
    fn name(&self) -> &'static str {
        "gone wrong"
    }

    fn machine(&self, settings: &MemorySettings) -> MachineShape {
        self.0.machine(settings)
    }

    fn handle(&mut self, now: Instant, mut input: Input) -> Vec<Effect> {
        self.1.told(&mut input);
        let mut effects = self.0.handle(now, input);
        if let Some(engine) = self.0.engine() {
            self.1.wants(now, engine, &mut effects);
        }
        effects
    }

    fn deadline(&self) -> Instant {
        self.0.deadline()
    }

    fn engine(&self) -> Option<&Engine> {
        self.0.engine()
    }

    fn restart(&mut self) {
        self.0.restart();
    }
}

/// Two VMs that hold 1 GiB each: one idles, one needs 3 GiB after ten seconds.
fn two(host_mib: u64) -> HostPlan {
    let busy = Workload::spike(MIB(300), MIB(3_000), 10_000, 3_600_000);
    HostPlan::new(MIB(host_mib), MIB(256))
        .with(VmPlan::new("idle", dynamic(512, 1024, 4096), Workload::steady(MIB(300))))
        .with(VmPlan::new("busy", dynamic(512, 1024, 4096), busy))
}

const IDLE: VmId = VmId(0);

/// Two minutes of `plan` under the engine of `config` gone `wrong`.
fn lives(plan: HostPlan, config: HostConfig, wrong: impl Wrong + 'static) -> Option<Broken> {
    let mut world = World::new(plan, Box::new(Gone(Dynmem::new(config), wrong))).checked();
    for _ in 0..1_200 {
        world.step(100);
    }
    world.broken().cloned()
}

fn invariant_broken_by(plan: HostPlan, wrong: impl Wrong + 'static) -> Option<u8> {
    let config = plan.host;
    lives(plan, config, wrong).map(|broken| broken.invariant)
}

/// An order of `effects` for this VM, or the one that would change nothing.
fn order_of(engine: &Engine, now: Instant, vm: VmId) -> Option<(Bytes, Bytes)> {
    let snapshot = engine.vm_snapshot(now, vm)?;
    let plugged = snapshot.promised.saturating_sub(MIB(1024));
    Some((snapshot.promised.saturating_sub(plugged), plugged))
}

struct Nothing;

impl Wrong for Nothing {}

#[test]
fn the_engine_as_it_is_breaks_nothing() {
    for host_mib in [2_600, 4_000, 8_000] {
        assert_eq!(invariant_broken_by(two(host_mib), Nothing), None);
    }
}

struct SeesPlenty;

impl Wrong for SeesPlenty {
    fn told(&mut self, input: &mut Input) {
        if let Input::Host(facts) = input {
            facts.available = MIB(8_000);
        }
    }
}

#[test]
fn an_engine_that_lends_more_than_there_is_is_caught() {
    let plan = two(3_500);
    let config = HostConfig { memory: MIB(8_000), ..plan.host };
    assert_eq!(lives(plan, config, SeesPlenty).map(|broken| broken.invariant), Some(1));
}

struct ForgetsOverhead;

impl Wrong for ForgetsOverhead {
    fn told(&mut self, input: &mut Input) {
        if let Input::Vm(_, Event::Adopted { devices, .. } | Event::Devices(devices)) = input {
            devices.overhead = Bytes::ZERO;
        }
    }
}

#[test]
fn a_ledger_without_overheads_is_caught() {
    assert_eq!(invariant_broken_by(two(8_000), ForgetsOverhead), Some(10));
}

struct OtherBounds(u64, u64);

impl Wrong for OtherBounds {
    fn told(&mut self, input: &mut Input) {
        if let Input::Vm(_, Event::Defined { settings, .. }) = input {
            (settings.minimum, settings.maximum) = (MIB(self.0), MIB(self.1));
        }
    }
}

#[test]
fn who_takes_below_minimum_or_gives_above_maximum_is_caught() {
    assert_eq!(invariant_broken_by(two(3_200), OtherBounds(32, 4096)), Some(2));
    let mut plan = two(12_000);
    plan.vms[1].settings.maximum = MIB(2048);
    assert_eq!(invariant_broken_by(plan, OtherBounds(512, 8192)), Some(2));
}

/// Asks the idle one for memory at an instant, whatever the engine thinks.
struct Asks {
    at_ms: u64,
}

impl Wrong for Asks {
    fn wants(&mut self, now: Instant, engine: &Engine, effects: &mut Vec<Effect>) {
        if now.0 >= self.at_ms
            && let Some((balloon, plugged)) = order_of(engine, now, IDLE)
        {
            self.at_ms = u64::MAX;
            effects.push(Effect::Order { vm: IDLE, balloon: balloon.saturating_sub(MIB(100)), plugged });
        }
    }
}

#[test]
fn who_shrinks_a_guest_that_nobody_needs_anything_of_is_caught() {
    assert_eq!(invariant_broken_by(two(12_000), Asks { at_ms: 5_000 }), Some(3));
}

#[test]
fn who_asks_a_silent_guest_is_caught() {
    let plan = two(12_000);
    let config = plan.host;
    let mut world = World::new(plan, Box::new(Gone(Dynmem::new(config), Asks { at_ms: 60_000 }))).checked();
    world.vm_mut(IDLE).trouble.silent_until_ms = u64::MAX;
    // It must have spoken once: it does so in the first step of all.
    world.vm_mut(IDLE).trouble.silent_until_ms = 0;
    world.step(100);
    world.vm_mut(IDLE).trouble.silent_until_ms = u64::MAX;
    for _ in 0..700 {
        world.step(100);
    }
    assert_eq!(world.broken().map(|broken| broken.invariant), Some(8));
}

/// Of what the busy one is to get, the idle one gets a part.
struct ServesBuffersFirst;

impl Wrong for ServesBuffersFirst {
    fn wants(&mut self, now: Instant, engine: &Engine, effects: &mut Vec<Effect>) {
        let growth = effects.iter_mut().find_map(|effect| match effect {
            Effect::Order { vm: VmId(1), plugged, .. } if *plugged > MIB(400) => Some(plugged),
            _ => None,
        });
        let (Some(plugged), Some((balloon, has))) = (growth, order_of(engine, now, IDLE)) else { return };
        *plugged = plugged.saturating_sub(MIB(300));
        effects.retain(|effect| !matches!(effect, Effect::Order { vm: IDLE, .. }));
        effects.push(Effect::Order { vm: IDLE, balloon, plugged: has.saturating_add(MIB(300)) });
    }
}

#[test]
fn who_serves_a_buffer_before_a_demand_is_caught() {
    let mut plan = two(3_200);
    plan.vms[0].settings.minimum = MIB(1024);
    assert_eq!(invariant_broken_by(plan, ServesBuffersFirst), Some(4));
}

/// Whatever guests say, it hears that they need nothing.
struct HearsNothing;

impl Wrong for HearsNothing {
    fn told(&mut self, input: &mut Input) {
        if let Input::Vm(_, Event::Report(report)) = input {
            (report.available, report.hot_file, report.stall) = (report.visible, Bytes::ZERO, 0);
            (report.swap_in_per_second, report.refault_per_second) = (Bytes::ZERO, Bytes::ZERO);
        }
    }
}

/// Moves a little to and fro for ever, where memory is short.
#[derive(Default)]
struct Fidgets {
    at_ms: u64,
    less: bool,
}

impl Wrong for Fidgets {
    fn wants(&mut self, now: Instant, engine: &Engine, effects: &mut Vec<Effect>) {
        if now.0 < self.at_ms || !effects.is_empty() {
            return;
        }
        self.at_ms = now.0 + 10_000;
        self.less = !self.less;
        let vms = engine.vm_snapshots(now);
        let works = |vm: &VmSnapshot| {
            vm.settings.dynamic && vm.state == VmState::Running && vm.driver == DriverSnapshot::Working
        };
        let short = vms.iter().find(|vm| works(vm) && vm.promised < vm.target).map(|vm| vm.id);
        for vm in vms.iter().filter(|vm| works(vm) && short.is_some_and(|short| short != vm.id)) {
            let balloon = vm.assigned.saturating_sub(vm.plugged);
            let spare = vm.promised.saturating_sub(vm.settings.minimum).min(balloon);
            if vm.assigned == vm.promised && spare > MIB(8) {
                let less = if self.less { MIB(4) } else { Bytes::ZERO };
                effects.push(Effect::Order { vm: vm.id, balloon: balloon.saturating_sub(less), plugged: vm.plugged });
            }
        }
    }
}

struct PagesAStart;

impl Wrong for PagesAStart {
    fn wants(&mut self, _now: Instant, _engine: &Engine, effects: &mut Vec<Effect>) {
        for effect in effects {
            if let Effect::Launch(id) = *effect {
                *effect = Effect::LaunchPaged(id, Paged { memory: MIB(512), file: MIB(512) });
            }
        }
    }
}

#[test]
fn an_engine_that_pages_a_start_from_off_is_caught() {
    let mut plan = HostPlan { smart_paging: true, ..two(8_000) };
    plan.vms[0] = plan.vms[0].clone().starting_at(5_000);
    assert_eq!(invariant_broken_by(plan.clone(), Nothing), None);
    assert_eq!(invariant_broken_by(plan, PagesAStart), Some(11));
}

struct KeepsFiles;

impl Wrong for KeepsFiles {
    fn wants(&mut self, _now: Instant, _engine: &Engine, effects: &mut Vec<Effect>) {
        effects.retain(|effect| !matches!(effect, Effect::EndPaging(_)));
    }
}

/// Takes the file away as soon as its guest boots.
struct TakesFiles;

impl Wrong for TakesFiles {
    fn wants(&mut self, now: Instant, engine: &Engine, effects: &mut Vec<Effect>) {
        let pages = |id: VmId| engine.vm_snapshot(now, id).is_some_and(|vm| vm.paging.is_some());
        let reset = |effect: &Effect| if let Effect::ContinueReset(id) = *effect { Some(id) } else { None };
        let ends: Vec<Effect> =
            effects.iter().filter_map(reset).filter(|id| pages(*id)).map(Effect::EndPaging).collect();
        effects.extend(ends);
    }
}

struct Panics;

impl Wrong for Panics {
    fn wants(&mut self, now: Instant, _engine: &Engine, _effects: &mut Vec<Effect>) {
        assert!(now.0 < 30_000, "half a minute is enough");
    }
}

/// What lives end with under an engine gone wrong.
fn ends<W: Wrong + 'static>(make: fn() -> W) -> Vec<Option<Broken>> {
    ends_of(12, make)
}

fn ends_of<W: Wrong + 'static>(lives: u64, make: fn() -> W) -> Vec<Option<Broken>> {
    let seeds = (0..lives).map(|number| fault::seed_of_life(1, number));
    seeds
        .map(|seed| {
            fault::live_under(seed, |plan| {
                Box::new(Gone(Dynmem::new(plan.host).with_smart_paging(plan.smart_paging), make()))
            })
            .broken
        })
        .collect()
}

fn invariants(ends: &[Option<Broken>]) -> Vec<u8> {
    for e in ends {
        eprintln!("{e:?}");
    }
    ends.iter().flatten().map(|broken| broken.invariant).collect()
}

#[test]
fn a_life_finds_who_is_short_beside_plenty() {
    assert!(invariants(&ends(|| HearsNothing)).contains(&5));
}

#[test]
fn a_life_finds_who_never_rests() {
    assert!(invariants(&ends(Fidgets::default)).contains(&6));
}

#[test]
fn a_life_finds_files_that_stay_and_files_that_go_too_soon() {
    for broken in [ends_of(50, || KeepsFiles), ends_of(50, || TakesFiles)] {
        assert!(invariants(&broken).contains(&11));
    }
}

#[test]
fn a_life_survives_a_panic_and_tells_of_it() {
    for broken in ends(|| Panics) {
        let broken = broken.expect("every life is longer than half a minute");
        assert!(broken.invariant == 0 && broken.what.contains("half a minute is enough"), "{broken}");
    }
}

//! A small world for the engine's tests: machines whose devices move at a
//! finite speed, guests that report, and a checker that compares every step of
//! the engine with what the machines really hold.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part of the world")]
#![allow(clippy::struct_excessive_bools, clippy::needless_pass_by_value, reason = "tests read better so")]

pub mod cases;
pub mod hand;

use std::collections::VecDeque;

use dynmem_core::{
    DeviceFacts, Effect, Engine, Event, Exit, GuestReport, HostConfig, HostFacts, Input, Instant, MemorySettings,
    Notice, Paged, Refusal, ReportSource, VmId, VmSnapshot, VmState,
};
use dynmem_units::{Bytes, Percent, Weight};

pub const fn mib(mib: u64) -> Bytes {
    Bytes::from_mib(mib)
}

/// Memory that a guest's kernel needs before any program.
pub const KERNEL: Bytes = mib(16);
pub const OVERHEAD: Bytes = mib(32);
/// What a device moves in a step of [`STEP_MS`].
const SPEED: Bytes = mib(64);
const STEP_MS: u64 = 100;
const REPORT_MS: u64 = 500;

pub fn settings(minimum: u64, startup: u64, maximum: u64) -> MemorySettings {
    MemorySettings {
        dynamic: true,
        minimum: mib(minimum),
        startup: mib(startup),
        maximum: mib(maximum),
        ..MemorySettings::default()
    }
}

pub fn weighted(weight: u64, settings: MemorySettings) -> MemorySettings {
    MemorySettings { weight: Weight::new(weight).expect("1..=10000"), ..settings }
}

pub fn buffered(percent: u32, settings: MemorySettings) -> MemorySettings {
    MemorySettings { buffer: Percent::new(percent), ..settings }
}

/// What a guest says whose machine holds `assigned` and whose programs use `used`.
pub fn report(assigned: Bytes, used: Bytes) -> GuestReport {
    let visible = assigned.saturating_sub(KERNEL);
    GuestReport {
        committed: Some(used),
        reserved: Some(KERNEL),
        ..GuestReport::new(ReportSource::Agent, visible, visible.saturating_sub(used))
    }
}

/// A machine and the guest in it, as they really are.
#[derive(Clone, Debug)]
pub struct Guest {
    pub settings: MemorySettings,
    pub on: bool,
    pub devices: DeviceFacts,
    pub ordered: (Bytes, Bytes),
    /// Memory that its programs use.
    pub used: Bytes,
    pub speaks: bool,
    /// What it says instead of the truth.
    pub lies: Option<GuestReport>,
    /// Whether it waits for memory when it has too little.
    pub stalls: bool,
    /// Whether it swaps instead, and can say how much it lacks.
    pub swaps: bool,
    pub stuck: bool,
    pub unplugs: bool,
    /// Whether its kernel takes hot-added memory.
    pub plugs: bool,
    /// What its devices give back in a step.
    pub gives: Bytes,
    /// Held before a reset.
    pub held: bool,
    /// Its smart paging file, and what it may hold in memory besides.
    pub file: Option<Paged>,
    /// It was reset or launched with that, and is limited so.
    pub limited: bool,
    pub paused: bool,
}

impl Guest {
    fn report(&self) -> GuestReport {
        if let Some(lie) = &self.lies {
            return lie.clone();
        }
        let report = report(self.devices.assigned(), self.used);
        if self.swaps {
            let missing = self.used.saturating_sub(report.visible);
            return GuestReport { swap_total: missing, swap_used: missing, swap_in_per_second: missing, ..report };
        }
        let stalls = report.available.is_zero() && self.stalls;
        GuestReport { stall: if stalls { 3_000 } else { 0 }, ..report }
    }

    /// Moves the devices for one step; true if they moved.
    fn step(&mut self) -> bool {
        if !self.on || self.stuck || self.held || self.paused {
            return false;
        }
        let before = self.devices;
        let towards = |is: Bytes, ordered: Bytes| {
            if is < ordered {
                is.saturating_add(SPEED).min(ordered)
            } else {
                is.saturating_sub(self.gives).max(ordered)
            }
        };
        self.devices.balloon_actual = towards(self.devices.balloon_actual, self.ordered.0);
        let plugs = self.ordered.1 > self.devices.plugged;
        if (plugs && self.plugs) || (!plugs && self.unplugs) {
            self.devices.plugged = towards(self.devices.plugged, self.ordered.1);
        }
        before != self.devices
    }

    /// The most that it could hold by the orders given.
    pub fn charge(&self) -> Bytes {
        let balloon = match self.file {
            Some(paged) if self.limited => paged.memory,
            _ => self.devices.balloon_actual.max(self.ordered.0),
        };
        let plugged = self.devices.plugged.max(self.ordered.1);
        if self.on { [balloon, plugged, OVERHEAD].into_iter().sum() } else { Bytes::ZERO }
    }
}

#[derive(Debug)]
pub struct World {
    pub engine: Engine,
    pub config: HostConfig,
    pub now: Instant,
    pub guests: Vec<Option<Guest>>,
    pub host_available: Option<Bytes>,
    pub orders: Vec<(VmId, Bytes, Bytes)>,
    pub notices: Vec<Notice>,
    pub refusals: Vec<(VmId, Refusal)>,
    /// Every effect ever, for comparing runs.
    pub trace: Vec<(Instant, Effect)>,
    pub launches_fail: bool,
    /// Whether files can be made for memory, and emptied.
    pub files_fail: bool,
    /// A new engine is being told what runs, and does not know all of it yet.
    pub recovering: bool,
}

/// A world that may lend all of its `memory` MiB.
pub fn world(memory: u64) -> World {
    World::new(mib(memory), Bytes::ZERO)
}

impl World {
    pub fn new(memory: Bytes, reserve: Bytes) -> Self {
        let config = HostConfig { memory, reserve };
        Self {
            engine: Engine::new(config),
            config,
            now: Instant(0),
            guests: Vec::new(),
            host_available: None,
            orders: Vec::new(),
            notices: Vec::new(),
            refusals: Vec::new(),
            trace: Vec::new(),
            launches_fail: false,
            files_fail: false,
            recovering: false,
        }
    }

    pub fn define(&mut self, settings: MemorySettings) -> VmId {
        let id = VmId(u32::try_from(self.guests.len()).expect("few guests"));
        self.guests.push(Some(Guest {
            settings: settings.clone(),
            on: false,
            devices: DeviceFacts::default(),
            ordered: (Bytes::ZERO, Bytes::ZERO),
            used: mib(48),
            speaks: true,
            lies: None,
            stalls: true,
            swaps: false,
            stuck: false,
            unplugs: true,
            plugs: true,
            gives: SPEED,
            held: false,
            file: None,
            limited: false,
            paused: false,
        }));
        self.send(id, Event::Defined { name: format!("vm{}", id.0), settings });
        id
    }

    /// Defines, starts and lets it report.
    pub fn running(&mut self, settings: MemorySettings, used: u64) -> VmId {
        let id = self.define(settings);
        self.guest_mut(id).used = mib(used);
        self.send(id, Event::Start { overhead: OVERHEAD });
        self.advance(1_000);
        assert_eq!(self.vm(id).state, VmState::Running, "there was memory for it");
        id
    }

    pub fn guest(&self, id: VmId) -> &Guest {
        self.guests[id.0 as usize].as_ref().expect("defined")
    }

    pub fn guest_mut(&mut self, id: VmId) -> &mut Guest {
        self.guests[id.0 as usize].as_mut().expect("defined")
    }

    pub fn vm(&self, id: VmId) -> VmSnapshot {
        self.engine.vm_snapshot(self.now, id).expect("defined")
    }

    pub fn assigned(&self, id: VmId) -> Bytes {
        self.guest(id).devices.assigned()
    }

    pub fn send(&mut self, id: VmId, event: Event) {
        self.input(Input::Vm(id, event));
    }

    /// Hands in one input, carries out the effects, and those of their answers.
    pub fn input(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let short_before = self.somebody_needs_memory();
            let pressed_by_input = matches!(input, Input::Host(_) | Input::Vm(_, Event::Configured(_)));
            let effects = self.engine.handle(self.now, input);
            for effect in effects {
                self.trace.push((self.now, effect.clone()));
                self.check_order(&effect, short_before || pressed_by_input);
                inputs.extend(self.carry_out(effect));
            }
            self.check_ledger();
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Input> {
        let answer = |id, event| Some(Input::Vm(id, event));
        match effect {
            Effect::Launch(id) => {
                if self.launches_fail {
                    return answer(id, Event::LaunchFailed("QEMU said no".to_owned()));
                }
                let reach = self.config.memory;
                let guest = self.guest_mut(id);
                let boot = guest.settings.startup;
                guest.on = true;
                (guest.held, guest.paused) = (false, false);
                guest.devices = DeviceFacts {
                    boot,
                    balloon_actual: boot,
                    plugged: Bytes::ZERO,
                    plug_max: reach,
                    plug_block: Bytes::BLOCK,
                    overhead: OVERHEAD,
                };
                guest.ordered = (boot, Bytes::ZERO);
                answer(id, Event::Launched(guest.devices))
            }
            Effect::Restore(_) | Effect::Save(_) => self.save(effect),
            Effect::LaunchPaged(..) | Effect::BeginPaging(..) | Effect::EndPaging(_) => self.page(effect),
            Effect::Order { vm, balloon, plugged } => {
                let guest = self.guest_mut(vm);
                if let Some(paged) = guest.file.as_mut().filter(|_| !guest.held) {
                    paged.memory = balloon.saturating_add(plugged);
                }
                guest.ordered = (balloon, plugged);
                self.orders.push((vm, balloon, plugged));
                None
            }
            Effect::PowerDown(id) if self.guest(id).speaks => answer(id, Event::PoweredOff),
            Effect::PowerDown(_) => None,
            Effect::Kill(id) => {
                let guest = self.guest_mut(id);
                (guest.on, guest.file, guest.limited) = (false, None, false);
                answer(id, Event::Exited(Exit::Clean))
            }
            Effect::HoldForReset(id) => {
                self.guest_mut(id).held = true;
                answer(id, Event::ResetHeld)
            }
            Effect::ContinueReset(id) => {
                let guest = self.guest_mut(id);
                (guest.held, guest.paused) = (false, false);
                guest.limited = guest.file.is_some();
                guest.devices.balloon_actual = guest.devices.boot;
                guest.devices.plugged = Bytes::ZERO;
                let devices = guest.devices;
                answer(id, Event::Devices(devices))
            }
            Effect::Pause(id) => {
                self.guest_mut(id).paused = true;
                answer(id, Event::Paused)
            }
            Effect::Resume(id) => {
                self.guest_mut(id).paused = false;
                answer(id, Event::Resumed)
            }
            Effect::Refused(id, refusal) => {
                self.refusals.push((id, *refusal));
                None
            }
            Effect::Record(notice) => {
                self.notices.push(*notice);
                None
            }
        }
    }

    fn save(&mut self, effect: Effect) -> Option<Input> {
        let answer = |id, event| Some(Input::Vm(id, event));
        match effect {
            Effect::Restore(id) => {
                if self.launches_fail {
                    return answer(id, Event::LaunchFailed("QEMU said no".to_owned()));
                }
                let guest = self.guest_mut(id);
                (guest.on, guest.held, guest.paused) = (true, false, false);
                answer(id, Event::Launched(guest.devices))
            }
            Effect::Save(id) if self.files_fail => answer(id, Event::SaveFailed("the disk is full".to_owned())),
            Effect::Save(id) => {
                self.guest_mut(id).on = false;
                answer(id, Event::Exited(Exit::Saved(self.guest(id).devices)))
            }
            _ => None,
        }
    }

    fn page(&mut self, effect: Effect) -> Option<Input> {
        let answer = |id, event| Some(Input::Vm(id, event));
        match effect {
            Effect::LaunchPaged(vm, paged) => {
                (self.guest_mut(vm).file, self.guest_mut(vm).limited) = (Some(paged), true);
                self.carry_out(Effect::Launch(vm))
            }
            Effect::BeginPaging(vm, _) | Effect::EndPaging(vm) if self.files_fail => {
                answer(vm, Event::PagingFailed("the disk is full".to_owned()))
            }
            Effect::BeginPaging(vm, paged) => {
                self.guest_mut(vm).file = Some(paged);
                answer(vm, Event::PagingBegan)
            }
            Effect::EndPaging(vm) => {
                let guest = self.guest_mut(vm);
                let paged = guest.file.take().expect("it pages");
                guest.limited = false;
                assert!(guest.devices.assigned() <= paged.memory, "what is in the file has a place in memory");
                answer(vm, Event::PagingEnded)
            }
            _ => None,
        }
    }

    /// Lets time pass: devices move, guests report, the engine ticks.
    pub fn advance(&mut self, millis: u64) {
        let end = self.now.plus_millis(millis);
        while self.now < end {
            self.now = self.now.plus_millis(STEP_MS);
            if let Some(available) = self.host_available.filter(|_| self.now.0.is_multiple_of(1_000)) {
                self.input(Input::Host(HostFacts { available, stall: 0, machines: None }));
            }
            for index in 0..self.guests.len() {
                let id = VmId(u32::try_from(index).expect("few guests"));
                let Some(guest) = self.guests[index].as_mut() else { continue };
                if guest.step() || (guest.on && self.now.0.is_multiple_of(REPORT_MS)) {
                    let devices = guest.devices;
                    self.send(id, Event::Devices(devices));
                }
                let Some(guest) = self.guests[index].as_ref() else { continue };
                if guest.on && guest.speaks && !guest.held && !guest.paused && self.now.0.is_multiple_of(REPORT_MS) {
                    let report = guest.report();
                    self.send(id, Event::Report(report));
                }
            }
            if self.engine.deadline() <= self.now {
                self.input(Input::Tick);
            }
        }
    }

    /// Invariant 1, from the machines' own numbers.
    fn check_ledger(&self) {
        let charged: Bytes = self.guests.iter().flatten().map(Guest::charge).sum();
        let lendable = self.config.memory.saturating_sub(self.config.reserve);
        assert!(charged <= lendable, "oversubscribed: {charged} of {lendable} at {:?}", self.now);
        let ledger = self.engine.host_snapshot().charged;
        assert!(self.recovering || ledger >= charged, "the ledger says {ledger}, the machines could hold {charged}");
    }

    /// Invariants 2 and 3.
    fn check_order(&self, effect: &Effect, needed: bool) {
        let Effect::Order { vm, balloon, plugged } = effect else { return };
        let guest = self.guest(*vm);
        let promised = balloon.saturating_add(*plugged);
        let before = guest.ordered.0.saturating_add(guest.ordered.1);
        if self.vm(*vm).state != VmState::Running || !guest.settings.dynamic {
            return; // a reset: the devices go back to how the machine boots
        }
        let held = before.max(guest.devices.assigned());
        assert!(promised <= guest.settings.maximum.max(held), "above maximum: {promised}");
        assert!(promised >= guest.settings.minimum, "below minimum: {promised}");
        let above = before > guest.settings.maximum;
        if promised < before && !above && !guest.stuck && guest.unplugs {
            let reason = needed || self.somebody_needs_memory();
            assert!(reason, "{vm:?} shrank from {before} to {promised} and nobody needed it");
        }
    }

    /// True if a VM, a start, a restart or the host lacks memory.
    pub fn somebody_needs_memory(&self) -> bool {
        let host = self.engine.host_snapshot();
        let vms = self.engine.vm_snapshots(self.now);
        host.under_pressure
            || host.available.is_zero()
            || !host.headroom.is_zero()
            || vms.iter().any(|vm| {
                let waits = vm.state == VmState::Starting;
                let short = vm.state == VmState::Running && vm.promised < vm.target;
                waits || short
            })
    }
}

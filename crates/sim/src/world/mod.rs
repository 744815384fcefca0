//! The world: virtual time, machines, and a policy that is told what happens.
//!
//! ```text
//! step: guests live ──▶ news (devices, reports) ──▶ inbox ──▶ policy.handle
//!          ▲                                                     │
//!          └────────── effects: orders, launches, resets ◀───────┘
//! ```
//! Everything that a policy is told passes `World::input`, where checks and
//! stories look on.

mod effects;
mod paging;
mod vm;

use std::collections::{BTreeMap, VecDeque};

use dynmem_core::{Event, Exit, HostFacts, Input, Instant, MemorySettings, SettingsError, VmId};
use dynmem_units::Bytes;

pub use self::{
    paging::SimFile,
    vm::{Lie, Lived, SimMachine, SimVm, Tally, Trouble},
};

use crate::{
    check::{Broken, Check},
    guest::Mechanism,
    plan::HostPlan,
    policy::Policy,
    story::Story,
};

/// QEMU is asked for its devices at least this often.
const DEVICES_MS: u64 = 2_000;
/// The host is read this often.
const HOST_MS: u64 = 1_000;
/// From a launch until the machine runs.
const LAUNCH_MS: u64 = 200;
/// News that wait for a policy: a bound for a world in which it never takes
/// them.
const INBOX_MAX: usize = 1 << 16;

/// A host with its VMs, in virtual time.
#[derive(Debug)]
pub struct World {
    plan: HostPlan,
    policy: Box<dyn Policy>,
    /// Milliseconds since the beginning.
    now_ms: u64,
    /// What the policy's clock is ahead of the world's.
    clock_ahead_ms: u64,
    vms: Vec<SimVm>,
    /// News on their way: when they arrive, and their order.
    inbox: BTreeMap<(u64, u64), (VmId, Event)>,
    sent: u64,
    /// The policy is dead until then.
    down_until_ms: Option<u64>,
    /// Memory of the host that somebody else has taken.
    stolen: Bytes,
    check: Option<Check>,
    story: Option<Story>,
    /// A digest of every effect so far: two runs that agree did the same.
    digest: u64,
}

impl World {
    /// The world of `plan` under `policy`, before its first step.
    pub fn new(plan: HostPlan, policy: Box<dyn Policy>) -> Self {
        let mut world = Self {
            vms: (0..).map(VmId).zip(&plan.vms).map(|(id, plan)| SimVm::new(id, plan.clone())).collect(),
            plan,
            policy,
            now_ms: 0,
            clock_ahead_ms: 0,
            inbox: BTreeMap::new(),
            sent: 0,
            down_until_ms: None,
            stolen: Bytes::ZERO,
            check: None,
            story: None,
            digest: 0xcbf2_9ce4_8422_2325,
        };
        for index in 0..world.vms.len() {
            world.begin(index);
        }
        world.introduce();
        world
    }

    /// The same, with every invariant checked at every step.
    #[must_use]
    pub fn checked(self) -> Self {
        Self { check: Some(Check::default()), ..self }
    }

    /// The same, remembering the last `lines` things that happened.
    #[must_use]
    pub fn telling(self, lines: usize) -> Self {
        Self { story: Some(Story::new(lines)), ..self }
    }

    /// A VM that runs from the beginning is switched on.
    fn begin(&mut self, index: usize) {
        let foresees = self.policy.foresees();
        let vm = &mut self.vms[index];
        if foresees {
            vm.plan.guest.mechanism = Mechanism::INSTANT;
        }
        if vm.plan.starts_at_ms.is_none() {
            let begins_with = vm.plan.begins_with.unwrap_or(vm.plan.settings.startup);
            let shape = self.policy.machine(&vm.plan.settings);
            vm.switch_on(0, shape, begins_with, false);
        }
    }

    /// Tells a new policy of all VMs, and of the machines that run. It knows of
    /// all before it hears what any of them wants.
    fn introduce(&mut self) {
        let mut held_ones = Vec::new();
        for index in 0..self.vms.len() {
            let vm = &self.vms[index];
            let (id, name, settings) = (vm.id, vm.plan.name.clone(), vm.plan.settings.clone());
            let paging = self.found_file(id);
            self.send(id, Event::Defined { name, settings });
            let Some(machine) = &self.vms[index].machine else { continue };
            let (paused, held) = (machine.paused, machine.held);
            let known = !self.vms[index].trouble.deaf(self.now_ms);
            let devices = machine.guest.devices();
            let devices = if known { devices } else { devices.at_worst(machine.most) };
            self.send(id, Event::Adopted { devices, paused, known, paging });
            if held {
                held_ones.push(id);
            }
        }
        for id in held_ones {
            self.send_by_qmp(id, Event::ResetHeld);
        }
    }

    /// Milliseconds since the beginning.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The plan that this is the world of.
    pub fn plan(&self) -> &HostPlan {
        &self.plan
    }

    /// Its VMs; the place is the number.
    pub fn vms(&self) -> &[SimVm] {
        &self.vms
    }

    /// One VM, to put something in its way.
    pub fn vm_mut(&mut self, id: VmId) -> &mut SimVm {
        &mut self.vms[id.0 as usize]
    }

    /// The policy.
    pub fn policy(&self) -> &dyn Policy {
        self.policy.as_ref()
    }

    /// The last things that happened, if they were to be remembered.
    pub fn story(&self) -> Option<&Story> {
        self.story.as_ref()
    }

    /// A digest of every effect so far.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Memory that could be held without touching the reserve.
    pub fn lendable(&self) -> Bytes {
        self.plan.host.lendable()
    }

    /// What all machines could hold by the orders given: what a ledger must
    /// count.
    pub fn charged(&self) -> Bytes {
        self.vms.iter().map(SimVm::charge).sum()
    }

    /// Memory of the host that no machine holds, the reserve included.
    pub fn free(&self) -> Bytes {
        let held: Bytes = self.vms.iter().filter_map(|vm| vm.machine.as_ref()).map(held_by).sum();
        self.plan.host.memory.saturating_sub(held).saturating_sub(self.stolen)
    }

    /// The first invariant that was found broken, if any was.
    pub fn broken(&self) -> Option<&Broken> {
        self.check.as_ref().and_then(Check::broken)
    }

    /// The policy's clock.
    pub(crate) fn told(&self) -> Instant {
        vm::instant(self.now_ms, self.clock_ahead_ms)
    }

    /// Lets `millis` pass: guests live, news arrive, the policy decides.
    pub fn step(&mut self, millis: u64) {
        self.now_ms += millis;
        self.foresee();
        for index in 0..self.vms.len() {
            self.start_in_time(index, millis);
            let moved = self.vms[index].step(self.now_ms, millis);
            self.news(index, moved, millis);
            self.tell_paging(self.vms[index].id, millis);
        }
        self.rise_again();
        self.deliver();
        if crossed(self.now_ms, millis, HOST_MS) {
            self.input(Input::Host(self.host_facts()));
        }
        if self.policy.deadline() <= self.told() {
            self.input(Input::Tick);
        }
        self.check_step();
    }

    /// What is read of the host. Where machines can be looked into, what they
    /// were lent and do not use is available.
    fn host_facts(&self) -> HostFacts {
        let others = self.used_by_host().saturating_add(self.stolen);
        let machines = || self.vms.iter().filter_map(|vm| vm.machine.as_ref());
        let in_use: Bytes = machines().map(resident).sum();
        let held = if self.plan.reads_machines { in_use } else { machines().map(held_by).sum() };
        HostFacts {
            available: self.plan.host.memory.saturating_sub(held).saturating_sub(others),
            stall: 0,
            machines: self.plan.reads_machines.then_some(in_use),
        }
    }

    /// The host's own programs use half of its reserve.
    fn used_by_host(&self) -> Bytes {
        self.plan.host.reserve.scale(1, 2)
    }

    fn foresee(&mut self) {
        if !self.policy.foresees() {
            return;
        }
        for index in 0..self.vms.len() {
            let vm = &self.vms[index];
            let Some(machine) = &vm.machine else { continue };
            let needed = machine.guest.needed(vm.need(self.now_ms)).min(vm.plan.settings.maximum);
            self.policy.need(vm.id, needed);
        }
        self.input(Input::Tick);
    }

    fn start_in_time(&mut self, index: usize, millis: u64) {
        let vm = &self.vms[index];
        let due = vm.plan.starts_at_ms.is_some_and(|at| at > self.now_ms - millis && at <= self.now_ms);
        if due && vm.machine.is_none() {
            let (id, overhead) = (vm.id, vm.plan.overhead);
            self.send(id, Event::Start { overhead });
        }
    }

    /// What there is to tell of a VM after a step.
    fn news(&mut self, index: usize, moved: bool, millis: u64) {
        let (now_ms, delay_ms) = (self.now_ms, self.plan.report_delay_ms);
        let vm = &mut self.vms[index];
        let (id, trouble) = (vm.id, vm.trouble);
        let Some(machine) = vm.machine.as_mut() else { return };
        let mut news = Vec::new();
        if !trouble.ignores_button && machine.has_shut_down(now_ms) {
            news.push((0, Event::PoweredOff));
        }
        if (moved || crossed(now_ms, millis, DEVICES_MS)) && !trouble.deaf(now_ms) {
            news.push((0, Event::Devices(machine.guest.devices())));
        }
        if machine.speaks(now_ms) && !trouble.silent(now_ms) {
            let mut report = machine.guest.report();
            if machine.agent.due(now_ms, &report) {
                if let Some(lie) = trouble.lie {
                    effects::tell_a_lie(&mut report, lie, now_ms);
                }
                self.policy.statistics(id, machine.guest.statistics());
                news.push((delay_ms + trouble.late_ms, Event::Report(report)));
            }
        }
        for (delay_ms, event) in news {
            self.send_at(now_ms + delay_ms, id, event);
        }
    }

    fn send(&mut self, id: VmId, event: Event) {
        self.send_at(self.now_ms, id, event);
    }

    /// What QEMU tells; a deaf one tells later, and its devices first.
    fn send_by_qmp(&mut self, id: VmId, event: Event) {
        let deaf_until_ms = self.vm_mut(id).trouble.deaf_until_ms;
        let at_ms = if deaf_until_ms > self.now_ms { deaf_until_ms + DEVICES_MS } else { self.now_ms };
        self.send_at(at_ms, id, event);
    }

    fn send_at(&mut self, at_ms: u64, id: VmId, event: Event) {
        if self.inbox.len() < INBOX_MAX {
            self.sent += 1;
            self.inbox.insert((at_ms, self.sent), (id, event));
        }
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.inbox.first_entry() {
            if entry.key().0 > self.now_ms {
                return;
            }
            let (id, event) = entry.remove();
            self.input(Input::Vm(id, event));
        }
    }

    /// A person, a fault or a plan wants something of the policy, now.
    pub fn request(&mut self, id: VmId, event: Event) {
        self.send(id, event);
    }

    /// Hands one input to the policy and carries out what it answers.
    fn input(&mut self, input: Input) {
        if self.down_until_ms.is_some() {
            return; // nobody is there to be told
        }
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            if let Some(story) = &mut self.story {
                story.input(self.now_ms, &input);
            }
            let now = self.told();
            let effects = self.policy.handle(now, input);
            for effect in &effects {
                self.digest = effects::digest(self.digest, self.now_ms, effect);
                if let Some(story) = &mut self.story {
                    story.effect(self.now_ms, effect);
                }
                inputs.extend(self.carry_out(effect));
            }
            self.check_effects(&effects);
        }
    }

    fn check_effects(&mut self, effects: &[dynmem_core::Effect]) {
        if let Some(mut check) = self.check.take() {
            if !effects.is_empty() {
                check.effects(self, effects);
            }
            self.check = Some(check);
        }
    }

    /// Something that the world itself saw to be wrong.
    fn note(&mut self, invariant: u8, what: String) {
        if let Some(mut check) = self.check.take() {
            check.fail(self, invariant, what);
            self.check = Some(check);
        }
    }

    fn check_step(&mut self) {
        if let Some(mut check) = self.check.take() {
            check.step(self);
            self.check = Some(check);
        }
    }

    /// The policy's process dies and is started anew after `down_ms`.
    pub fn crash_policy(&mut self, down_ms: u64) {
        self.down_until_ms = Some(self.now_ms + down_ms);
        self.inbox.clear();
        for vm in &mut self.vms {
            vm.ran_before &= vm.machine.is_some(); // it forgets whom it was to start
        }
    }

    fn rise_again(&mut self) {
        if self.down_until_ms.take_if(|until| self.now_ms >= *until).is_none() {
            return;
        }
        self.inbox.clear();
        self.policy.restart();
        if let Some(check) = &mut self.check {
            check.policy_restarted();
        }
        self.introduce();
        self.start_again();
    }

    /// True while the policy's process is dead.
    pub fn policy_is_down(&self) -> bool {
        self.down_until_ms.is_some()
    }

    /// Somebody else on the host holds this much now.
    pub fn steal(&mut self, memory: Bytes) {
        self.stolen = memory;
    }

    /// Memory that somebody else on the host holds.
    pub fn stolen(&self) -> Bytes {
        self.stolen
    }

    /// The policy's clock jumps ahead, as after a suspended host.
    pub fn jump_clock(&mut self, ahead_ms: u64) {
        self.clock_ahead_ms = self.clock_ahead_ms.saturating_add(ahead_ms);
    }

    /// A VM's machine dies.
    pub fn crash_guest(&mut self, id: VmId) {
        if self.vm_mut(id).end() {
            self.forget_news_of(id);
            self.send(id, Event::Exited(Exit::Failed("QEMU was killed".to_owned())));
        }
    }

    /// A guest reboots by itself: its machine is held before the reset.
    pub fn reboot_guest(&mut self, id: VmId) {
        let now_ms = self.now_ms;
        let Some(machine) = self.vm_mut(id).machine.as_mut().filter(|machine| machine.speaks(now_ms)) else { return };
        machine.held = true;
        self.send_by_qmp(id, Event::ResetHeld);
    }

    /// A person gives a VM other settings; those that a rule forbids change
    /// nothing, also where the policy is told of them.
    pub fn configure(&mut self, id: VmId, settings: MemorySettings) {
        let refused = match self.policy.engine() {
            _ if self.policy_is_down() => return, // nobody is there to be asked
            Some(engine) => engine.check_settings(id, &settings).err(),
            None => settings.check().err(),
        };
        match refused {
            None => {
                let vm = self.vm_mut(id);
                vm.plan.settings = settings.clone();
                if let Some(machine) = &mut vm.machine {
                    machine.most = machine.most.max(settings.most());
                }
            }
            // What only can't be honoured now is not told: it would be done later.
            Some(SettingsError::Now { .. }) => return,
            Some(_) => {}
        }
        self.input(Input::Vm(id, Event::Configured(settings)));
    }

    /// From now on all programs need what they need now, for ever.
    pub fn freeze_needs(&mut self) {
        for vm in &mut self.vms {
            vm.frozen_at_ms = Some(self.now_ms);
        }
    }

    /// A guest's agent begins anew: its next reading is news.
    pub fn restart_agent(&mut self, id: VmId) {
        if let Some(machine) = self.vm_mut(id).machine.as_mut() {
            machine.agent = crate::guest::Agent::new();
        }
    }
}

/// What a machine holds of the host, its hypervisor included.
fn held_by(machine: &SimMachine) -> Bytes {
    machine.in_memory().saturating_add(machine.guest.devices().overhead)
}

/// What a machine really uses of it: what its guest has not touched, or has
/// reported free, is the host's.
fn resident(machine: &SimMachine) -> Bytes {
    held_by(machine).saturating_sub(machine.guest.unused())
}

/// True if a multiple of `period_ms` lies in the `millis` that end at `now_ms`.
fn crossed(now_ms: u64, millis: u64, period_ms: u64) -> bool {
    now_ms / period_ms != (now_ms - millis) / period_ms
}

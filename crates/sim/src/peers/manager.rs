//! The adapter: a plain manager's life around a peer's rules.
//!
//! ```text
//! Event ──▶ life.rs: states, machines, last reports
//!   │                         │ due, or its period is over
//!   │                         ▼
//!   │       views ──▶ Balancer ──▶ targets ──▶ Order
//!   └─────▶ starts and resets that wait ──▶ Launch, ContinueReset, Refused
//! ```
//! It knows no rule of its own about who should have what. It starts a VM when
//! its startup memory is free, else tries again each period and gives up after
//! two minutes. What was ordered and has not arrived counts as taken, so that no
//! two starts are let in on the same memory.

use std::collections::BTreeMap;

use dynmem_core::{
    DeviceFacts, Effect, GuestReport, HostConfig, HostFacts, Input, Instant, MemorySettings, Refusal, VmId, VmState,
};
use dynmem_units::Bytes;

use super::{Balancer, HostView, Peer, VmView};
use crate::policy::{MachineShape, Policy, Statistics};

/// A start that has waited this long is refused.
const START_PATIENCE_MS: u64 = 120_000;
/// What is beyond this (a pebibyte) is nonsense, and would only overflow sums.
const SIZE_MAX: Bytes = Bytes::new(1 << 50);
/// Orders are whole pages.
const PAGE: Bytes = Bytes::new(4096);

/// A machine, running or being started.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    pub(super) devices: DeviceFacts,
    /// False while `devices` is a guess.
    pub(super) known: bool,
    /// The last orders to balloon and virtio-mem.
    pub(super) ordered: (Bytes, Bytes),
    pub(super) target: Bytes,
    pub(super) report: Option<GuestReport>,
    /// When it is to be switched off or reset by force.
    pub(super) force_at: Option<Instant>,
    pub(super) restarting: bool,
    pub(super) reset_held: bool,
}

impl Machine {
    pub(super) fn new(devices: DeviceFacts, known: bool) -> Self {
        let ordered = (devices.balloon_actual, devices.plugged);
        Self { devices, known, ordered, target: devices.assigned(), ..Self::default() }
    }

    fn held(&self) -> Bytes {
        self.devices.assigned().saturating_add(self.devices.overhead)
    }

    /// What it holds or may take by its orders.
    fn charge(&self) -> Bytes {
        let (balloon, plugged) = self.ordered;
        let devices = &self.devices;
        [balloon.max(devices.balloon_actual), plugged.max(devices.plugged), devices.overhead].into_iter().sum()
    }

    /// Splits `wanted`: hot-added memory only while the balloon is empty.
    fn plan(&self, wanted: Bytes) -> (Bytes, Bytes) {
        let devices = &self.devices;
        let above_boot = wanted.saturating_sub(devices.boot).min(devices.plug_max);
        let plugged = above_boot.align_down(devices.plug_block.max(Bytes::BLOCK));
        // QEMU ignores a balloon order of zero.
        (wanted.align_down(PAGE).max(Bytes::BLOCK).min(devices.boot), plugged)
    }
}

/// A VM.
#[derive(Clone, Debug)]
pub(super) struct Vm {
    pub(super) name: String,
    pub(super) settings: MemorySettings,
    pub(super) state: VmState,
    pub(super) machine: Option<Machine>,
    pub(super) statistics: Statistics,
}

impl Vm {
    /// The VM as its manager's rules see it, if they may move its memory.
    fn view(&self, id: VmId) -> Option<VmView> {
        let machine = self.machine.as_ref()?;
        let report = machine.report.as_ref()?;
        if !self.settings.dynamic || self.state != VmState::Running || !machine.known || machine.reset_held {
            return None;
        }
        let size = |size: Bytes| size.min(SIZE_MAX);
        let maximum = size(self.settings.maximum.min(machine.devices.reach()));
        let Statistics { free, cached, active } = self.statistics;
        Some(VmView {
            id,
            minimum: self.settings.minimum.min(maximum),
            maximum,
            weight: u64::from(self.settings.weight.get()),
            buffer: self.settings.buffer,
            held: size(machine.devices.assigned()),
            target: size(machine.target),
            report: GuestReport {
                visible: size(report.visible),
                available: size(report.available),
                committed: report.committed.map(size),
                swap_used: size(report.swap_used),
                ..report.clone()
            },
            statistics: Statistics { free: size(free), cached: size(cached), active: size(active) },
        })
    }
}

/// A start, or a reset, that waits for memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) vm: VmId,
    pub(super) overhead: Bytes,
    pub(super) since: Instant,
}

/// A peer with everything that it knows.
#[derive(Debug)]
pub(super) struct Manager {
    peer: Peer,
    config: HostConfig,
    balancer: Box<dyn Balancer>,
    pub(super) vms: BTreeMap<VmId, Vm>,
    /// In the order in which they were asked.
    pub(super) waiting: Vec<Waiting>,
    /// The host's last word, and what all machines held when it came.
    facts: Option<(HostFacts, Bytes)>,
    /// The largest overhead that a start came with.
    overhead: Bytes,
    next_at: Instant,
    pub(super) due: bool,
    pub(super) effects: Vec<Effect>,
}

impl Manager {
    pub(super) fn new(peer: Peer, config: HostConfig) -> Self {
        Self {
            peer,
            config,
            balancer: peer.balancer(),
            vms: BTreeMap::new(),
            waiting: Vec::new(),
            facts: None,
            overhead: Bytes::ZERO,
            next_at: Instant::default(),
            due: false,
            effects: Vec::new(),
        }
    }

    fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.vms.values().filter_map(|vm| vm.machine.as_ref())
    }

    /// Tells the rules what exists. A VM of fixed size is taken out beforehand.
    pub(super) fn definitions_changed(&mut self, overhead: Bytes) {
        self.overhead = self.overhead.max(overhead);
        let overheads = self.overhead.scale(self.vms.len() as u64, 1);
        let sum = |dynamic| {
            let some = self.vms.values().filter(move |vm| vm.settings.dynamic == dynamic);
            some.map(|vm| vm.settings.most()).sum::<Bytes>()
        };
        let lendable = self.config.lendable().saturating_sub(overheads).saturating_sub(sum(false));
        self.balancer.defined(lendable, sum(true));
    }

    fn host_view(&self) -> HostView {
        let held: Bytes = self.machines().map(Machine::held).sum();
        let unlent = self.config.lendable().saturating_sub(held);
        let available = self.facts.map(|(facts, then)| facts.available.saturating_add(then).saturating_sub(held));
        HostView {
            memory: self.config.memory,
            available: available.unwrap_or(unlent),
            free: available.map_or(unlent, |available| available.min(unlent)),
            asked: self.waiting.first().map_or(Bytes::ZERO, |waiting| self.needs(waiting)),
        }
    }

    /// What a start or reset needs on top of what its machine holds.
    fn needs(&self, waiting: &Waiting) -> Bytes {
        let Some(vm) = self.vms.get(&waiting.vm) else { return Bytes::ZERO };
        let wanted = self.balancer.at_start(&vm.settings).saturating_add(waiting.overhead).min(SIZE_MAX);
        wanted.saturating_sub(vm.machine.as_ref().map_or(Bytes::ZERO, Machine::charge))
    }

    fn balance(&mut self, now: Instant) {
        let host = self.host_view();
        let mut views: Vec<_> = self.vms.iter().filter_map(|(id, vm)| vm.view(*id)).collect();
        self.balancer.balance(now, &host, &mut views);
        for view in views {
            self.order(view.id, view.target);
        }
    }

    /// Sets a VM's target, and orders it if that is news.
    pub(super) fn order(&mut self, id: VmId, target: Bytes) {
        let Some(machine) = self.vms.get_mut(&id).and_then(|vm| vm.machine.as_mut()) else { return };
        machine.target = target;
        let plan = machine.plan(target);
        if plan != machine.ordered {
            machine.ordered = plan;
            self.effects.push(Effect::Order { vm: id, balloon: plan.0, plugged: plan.1 });
        }
    }

    /// Starts what there is memory for; refuses what has waited too long.
    fn admit(&mut self, now: Instant) {
        for waiting in std::mem::take(&mut self.waiting) {
            let needs = self.needs(&waiting);
            let charged: Bytes = self.machines().map(Machine::charge).sum();
            let free = self.config.lendable().saturating_sub(charged).min(self.host_view().free);
            let resets = self.vms.get(&waiting.vm).is_some_and(|vm| vm.machine.is_some());
            if needs.is_zero() || needs.saturating_add(self.balancer.margin()) <= free {
                if resets { self.continue_reset(waiting.vm) } else { self.launch(&waiting) }
            } else if !resets && now.millis_since(waiting.since) >= START_PATIENCE_MS {
                self.refuse_start(waiting.vm, needs, free);
            } else {
                self.waiting.push(waiting);
            }
        }
    }

    fn launch(&mut self, waiting: &Waiting) {
        let Some(vm) = self.vms.get_mut(&waiting.vm) else { return };
        let boot = self.balancer.at_start(&vm.settings);
        let devices = DeviceFacts { boot, balloon_actual: boot, overhead: waiting.overhead, ..DeviceFacts::default() };
        vm.machine = Some(Machine::new(devices, true));
        self.effects.push(Effect::Launch(waiting.vm));
    }

    /// The held machine boots again with what a machine starts with. The reset
    /// empties its balloon, so that is ordered anew.
    fn continue_reset(&mut self, id: VmId) {
        let Some(vm) = self.vms.get_mut(&id) else { return };
        let boot = self.balancer.at_start(&vm.settings);
        let Some(machine) = vm.machine.as_mut() else { return };
        (machine.reset_held, machine.restarting, machine.report) = (false, false, None);
        vm.state = VmState::Booting;
        (machine.target, machine.ordered) = (boot, machine.plan(boot));
        let (balloon, plugged) = machine.ordered;
        self.effects.push(Effect::ContinueReset(id));
        self.effects.push(Effect::Order { vm: id, balloon, plugged });
    }

    fn refuse_start(&mut self, id: VmId, needs: Bytes, available: Bytes) {
        let Some(vm) = self.vms.get_mut(&id) else { return };
        vm.state = VmState::Off;
        let name = vm.name.clone();
        self.effects.push(Effect::Refused(id, Box::new(Refusal::NotEnoughMemory { name, needs, available })));
    }

    /// A machine is held before a reset. Managers that know nothing of resets
    /// let it go on at once.
    pub(super) fn wait_for_reset(&mut self, now: Instant, id: VmId, overhead: Bytes) {
        if self.balancer.makes_room() {
            self.waiting.push(Waiting { vm: id, overhead, since: now });
            self.due = true;
        } else {
            self.continue_reset(id);
        }
    }

    /// A machine runs: it gets what it is to start with, if it has not.
    pub(super) fn started(&mut self, id: VmId) {
        if let Some(vm) = self.vms.get(&id) {
            self.order(id, self.balancer.at_start(&vm.settings));
        }
    }

    pub(super) fn reported(&mut self) {
        self.due |= self.balancer.on_report();
    }

    /// A start was asked: try at once, and let those make room who do.
    pub(super) fn start_asked(&mut self, now: Instant) {
        self.admit(now);
        self.due |= self.balancer.makes_room() && !self.waiting.is_empty();
    }

    fn period_over(&mut self, now: Instant) {
        self.look_at_clocks(now);
        self.balance(now);
        self.admit(now);
        self.due = false;
        self.next_at = self.period_from(now);
    }

    fn period_from(&self, now: Instant) -> Instant {
        now.plus_millis(self.balancer.period_ms(!self.waiting.is_empty()).max(1))
    }
}

impl Policy for Manager {
    fn name(&self) -> &'static str {
        self.peer.name()
    }

    fn machine(&self, settings: &MemorySettings) -> MachineShape {
        self.balancer.machine(&self.config, settings)
    }

    fn handle(&mut self, now: Instant, input: Input) -> Vec<Effect> {
        match input {
            Input::Vm(id, event) => self.vm_event(now, id, event),
            Input::Host(facts) => self.facts = Some((facts, self.machines().map(Machine::held).sum())),
            Input::Tick => self.look_at_clocks(now),
        }
        if now >= self.next_at {
            self.period_over(now);
        } else if self.due {
            self.due = false;
            self.balance(now);
            self.admit(now);
        }
        // A start that waits, or a run that began, may shorten the period.
        self.next_at = self.next_at.min(self.period_from(now));
        std::mem::take(&mut self.effects)
    }

    fn deadline(&self) -> Instant {
        self.machines().filter_map(|machine| machine.force_at).fold(self.next_at, Instant::min)
    }

    fn statistics(&mut self, vm: VmId, statistics: Statistics) {
        if let Some(vm) = self.vms.get_mut(&vm) {
            vm.statistics = statistics;
        }
    }

    fn restart(&mut self) {
        *self = Self::new(self.peer, self.config);
    }
}

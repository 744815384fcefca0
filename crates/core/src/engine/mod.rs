//! The engine: facts in, effects out, and nothing else.
//!
//! ```text
//! Input ──▶ handle ──▶ lifecycle   one VM: its state, its machine, its reports
//!                 └──▶ rebalance   all VMs: who gets what (when something is due)
//!                          └──▶ Effect…
//! ```
//!
//! The caller hands in every fact with the time at which it learned it, carries
//! out the effects in order, and sends [`Input::Tick`] at [`Engine::deadline`].
//! The same inputs give the same effects.

mod explain;
mod facts;
mod foresee;
mod lifecycle;
mod live;
mod paging;
mod rebalance;
mod saving;
mod snapshot;
mod troubles;

use std::collections::VecDeque;

use dynmem_units::Bytes;

pub use foresee::{Foreseen, Foresight};
pub use snapshot::{DriverSnapshot, HostSnapshot, PagingSnapshot, TroubleSnapshot, VmSnapshot};

use self::rebalance::Entry;
use crate::{
    Effect, Event, HostConfig, Input, Instant, Notice, NoticeKind, VmId, VmState,
    host::Host,
    ledger::Promise,
    vm::{Counters, Machine, Vm},
};

/// Between two ticks while nothing is urgent: demand sinks and silence grows
/// without any event.
const TICK_MS: u64 = 1_000;
/// Decisions are at least this far apart, so that a thousand reports in one
/// instant cost one decision.
const DECISION_MS: u64 = 10;
/// VM numbers are indices: a bound on them bounds memory.
const VM_IDS_MAX: u32 = 1 << 20;

/// A start that waits for memory.
#[derive(Clone, Copy, Debug)]
struct PendingStart {
    vm: VmId,
    overhead: Bytes,
    since: Instant,
    /// The VM ran when the host went down: it may page.
    again: bool,
}

/// The state machine. See the module's head. A copy is a life of its own:
/// [`Engine::foresee`] uses one.
#[derive(Clone, Debug)]
pub struct Engine {
    host: Host,
    /// Whether this host can page machines to files.
    smart_paging: bool,
    /// Indexed by [`VmId`].
    vms: Vec<Option<Vm>>,
    /// In the order in which they were asked.
    starts: VecDeque<PendingStart>,
    /// Static VMs that are to have more than they were promised.
    resizes: Vec<VmId>,
    totals: Counters,
    decided_at: Instant,
    decisions: u64,
    ticked_at: Instant,
    /// Something changed that a decision should look at.
    due: bool,
    /// The last decision left a need unmet: memory that comes back is urgent.
    hungry: bool,
    /// When somebody last lacked memory.
    short_at: Instant,
    /// Memory that the last decision wished for growth that is expected.
    headroom: Bytes,
    /// What the last decision looked at: kept for its allocation alone, which
    /// is large enough that the next would fetch it from the kernel anew.
    entries: Vec<Entry>,
    effects: Vec<Effect>,
}

impl Engine {
    /// An engine without VMs.
    pub fn new(config: HostConfig) -> Self {
        Self {
            host: Host::new(config),
            smart_paging: false,
            vms: Vec::new(),
            starts: VecDeque::new(),
            resizes: Vec::new(),
            totals: Counters::default(),
            decided_at: Instant::default(),
            decisions: 0,
            ticked_at: Instant::default(),
            due: false,
            hungry: false,
            short_at: Instant::default(),
            headroom: Bytes::ZERO,
            entries: Vec::new(),
            effects: Vec::new(),
        }
    }

    /// Takes one input and says what to do about it. Inputs about unknown VMs
    /// are late news of the past, and ignored.
    pub fn handle(&mut self, now: Instant, input: Input) -> Vec<Effect> {
        debug_assert!(self.effects.is_empty(), "every call hands its effects out");
        let charged_before = if cfg!(debug_assertions) { self.charged() } else { Bytes::ZERO };
        match input {
            Input::Vm(vm, event) => self.vm_event(now, vm, event),
            Input::Host(facts) => self.host_facts(facts),
            Input::Tick => self.tick(now),
        }
        if self.due && now.millis_since(self.decided_at) >= DECISION_MS {
            self.decide(now);
        }
        self.assert_invariants(charged_before);
        std::mem::take(&mut self.effects)
    }

    /// When the engine wants its next [`Input::Tick`].
    pub fn deadline(&self) -> Instant {
        let tick = self.ticked_at.plus_millis(TICK_MS);
        if self.due { tick.min(self.decided_at.plus_millis(DECISION_MS)) } else { tick }
    }

    fn vm(&self, id: VmId) -> Option<&Vm> {
        self.vms.get(id.0 as usize)?.as_ref()
    }

    fn machine(&self, id: VmId) -> Option<&Machine> {
        self.vm(id)?.machine.as_ref()
    }

    fn vm_mut(&mut self, id: VmId) -> Option<&mut Vm> {
        self.vms.get_mut(id.0 as usize)?.as_mut()
    }

    /// Every VM with its number, in the order of numbers.
    fn each(&self) -> impl Iterator<Item = (VmId, &Vm)> {
        (0_u32..).zip(&self.vms).filter_map(|(id, vm)| Some((VmId(id), vm.as_ref()?)))
    }

    /// The sum of all charges.
    fn charged(&self) -> Bytes {
        self.vms.iter().flatten().map(Vm::charge).sum()
    }

    /// What can still be lent.
    fn available(&self) -> Bytes {
        self.host.capacity().saturating_sub(self.charged())
    }

    fn record(&mut self, vm: Option<VmId>, kind: NoticeKind, message: String, numbers: Vec<(&'static str, u64)>) {
        self.effects.push(Effect::Record(Box::new(Notice { vm, kind, message, numbers })));
    }

    fn host_facts(&mut self, facts: crate::HostFacts) {
        let machines = self.vms.iter().flatten().filter_map(|vm| vm.machine.as_ref());
        let held: Bytes = machines.map(|machine| machine.assigned().saturating_add(machine.devices.overhead)).sum();
        if !self.host.observe(facts, held) {
            return;
        }
        self.due = true;
        let available = facts.available;
        let message = if self.host.under_pressure {
            format!("The host is under pressure: {available} available; VMs give memory back")
        } else {
            format!("The host has recovered: {available} available")
        };
        self.record(None, NoticeKind::HostPressure, message, vec![("host_available_bytes", available.get())]);
    }

    fn tick(&mut self, now: Instant) {
        if now.millis_since(self.ticked_at) >= TICK_MS || now < self.ticked_at {
            self.ticked_at = now;
            self.due = true;
            self.look_at_clocks(now);
        }
    }

    /// Invariants 1 and 2 of the design, as far as one call can break them.
    /// What guests or the host do on their own may exceed the capacity; what
    /// the engine gives may not.
    fn assert_invariants(&self, charged_before: Bytes) {
        if !cfg!(debug_assertions) {
            return;
        }
        let (charged, capacity) = (self.charged(), self.host.config.lendable());
        // An order for what a machine holds, as of one that was found, gives nothing.
        let exceeds_held = |vm, promise: Promise| {
            let devices = self.vm(vm).and_then(|vm| vm.machine.as_ref()).map(|machine| &machine.devices);
            devices.is_none_or(|has| promise.balloon > has.balloon_actual || promise.plugged > has.plugged)
        };
        let given = self.effects.iter().any(|effect| match *effect {
            Effect::Order { vm, balloon, plugged } => exceeds_held(vm, Promise { balloon, plugged }),
            Effect::Launch(_) | Effect::Restore(_) => true,
            _ => false,
        });
        assert!(
            !given || charged <= capacity.max(charged_before),
            "an order promised a byte twice: {charged} charged of {capacity}"
        );
        for (id, vm) in self.each() {
            let (Some(machine), true) = (&vm.machine, vm.settings.dynamic) else { continue };
            let promised = machine.promise.assigned();
            let ordered = self.effects.iter().any(|effect| matches!(effect, Effect::Order { vm, .. } if *vm == id));
            if ordered && vm.state == VmState::Running {
                assert!(promised <= vm.settings.maximum.max(machine.devices.assigned()), "{} above maximum", vm.name);
                // A minimum that was raised may come bit by bit, as others give it.
                let enough = promised >= vm.settings.minimum.min(machine.devices.assigned());
                assert!(enough || machine.waiting, "{} below minimum", vm.name);
            }
        }
    }
}

/// Puts a VM at its number; numbers beyond the bound are refused.
fn place(vms: &mut Vec<Option<Vm>>, id: VmId, vm: Vm) -> bool {
    if id.0 >= VM_IDS_MAX {
        return false;
    }
    let index = id.0 as usize;
    if vms.len() <= index {
        vms.resize_with(index + 1, || None);
    }
    if vms[index].is_some() {
        return false;
    }
    vms[index] = Some(vm);
    true
}

impl Engine {
    fn vm_event(&mut self, now: Instant, id: VmId, event: Event) {
        if let Event::Defined { name, settings } = event {
            place(&mut self.vms, id, Vm::new(name, settings));
        } else if self.vm(id).is_some() {
            self.known_vm_event(now, id, event);
        }
    }
}

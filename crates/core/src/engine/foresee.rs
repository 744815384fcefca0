//! What would happen: an event tried on a copy of the engine, beside a copy
//! that is left alone.
//!
//! ```text
//!  engine ──copy──▶ event, decision ──▶ guests follow ──▶ decisions … ──┐
//!     └─────copy──────────────────────▶ guests follow ──▶ decisions … ──┴──▶ what differs
//! ```
//! Guests are taken to give and take at once what they are asked, and to need
//! what they need now. So this says where memory goes, and not how long that
//! takes.

use std::collections::BTreeMap;

use dynmem_units::Bytes;

use super::Engine;
use crate::{
    DeviceFacts, Effect, Event, HostSnapshot, Input, Instant, MemoryStatus, Refusal, VmId, VmState, ledger::Promise,
};

/// So far both copies are followed: a whole tick of each is in it.
const HORIZON_MS: u64 = 1_500;
/// Decisions that are followed at most.
const ROUNDS_MAX: usize = 64;

/// What would come of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foresight {
    /// It would be refused.
    pub refusal: Option<Refusal>,
    /// The host now.
    pub before: HostSnapshot,
    /// The host once memory has moved.
    pub after: HostSnapshot,
    /// The VM could not have its memory at once: others must give some back
    /// first.
    pub waits: bool,
    /// Memory that others would give back, in sum.
    pub from_others: Bytes,
    /// The VMs whose promise would be another one, in the order of numbers.
    pub changes: Vec<Foreseen>,
}

/// One VM whose promise would be another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreseen {
    /// Its number.
    pub id: VmId,
    /// Its name.
    pub name: String,
    /// What it is promised now.
    pub now: Bytes,
    /// What it would be promised.
    pub then: Bytes,
    /// Whether it would have what it needs. None for static VMs and such as do
    /// not run.
    pub status: Option<MemoryStatus>,
    /// The part of its memory that would be paged to a file.
    pub paged: Option<Bytes>,
}

impl Engine {
    /// What would come of `event` for this VM. The engine is a copy, and used
    /// up.
    ///
    /// For [`Event::Configured`] and [`Event::Start`]; settings are to be
    /// checked before with [`Engine::check_settings`].
    pub fn foresee(self, now: Instant, vm: VmId, event: Event) -> Foresight {
        let before = self.host_snapshot();
        let held: BTreeMap<VmId, Bytes> = self.each().map(|(id, _)| (id, self.promised(id))).collect();
        let mut with = Trial::new(self.clone(), now, vm);
        let mut without = Trial::new(self, now, vm);
        with.handle(Input::Vm(vm, event));
        with.decide();
        let at_once = with.engine.promised(vm);
        with.run();
        without.run();
        let waiting = with.engine.vm(vm).is_some_and(|vm| vm.state == VmState::Starting && vm.machine.is_none());
        let (mut changes, mut from_others) = (Vec::new(), Bytes::ZERO);
        for (id, seen) in with.engine.each() {
            let (then, else_then) = (with.engine.promised(id), without.engine.promised(id));
            let paged = with.paged.get(&id).filter(|_| !without.paged.contains_key(&id)).copied();
            if then == else_then && paged.is_none() {
                continue;
            }
            if id != vm {
                from_others = from_others.saturating_add(else_then.saturating_sub(then));
            }
            let now = held.get(&id).copied().unwrap_or_default();
            changes.push(Foreseen { id, name: seen.name.clone(), now, then, status: seen.memory_status(), paged });
        }
        Foresight {
            waits: waiting || at_once < with.engine.promised(vm),
            refusal: with.refusal,
            before,
            after: with.engine.host_snapshot(),
            from_others,
            changes,
        }
    }

    fn promised(&self, id: VmId) -> Bytes {
        self.machine(id).map_or(Bytes::ZERO, |machine| machine.promise.assigned())
    }

    /// Machines that were asked for something and can follow, as they are then.
    fn followers(&self, now: Instant) -> Vec<(VmId, DeviceFacts)> {
        let follows = |(id, vm): (VmId, &crate::vm::Vm)| {
            let machine = vm.answers().filter(|machine| vm.moves() && !machine.stall.resting(now))?;
            let Promise { balloon, plugged } = machine.promise;
            let devices = DeviceFacts { balloon_actual: balloon, plugged, ..machine.devices };
            (devices != machine.devices).then_some((id, devices))
        };
        self.each().filter_map(follows).collect()
    }
}

/// A copy of the engine, and what it came to.
struct Trial {
    engine: Engine,
    now: Instant,
    end: Instant,
    subject: VmId,
    refusal: Option<Refusal>,
    /// The parts of VMs' memory that are paged to files.
    paged: BTreeMap<VmId, Bytes>,
}

impl Trial {
    fn new(engine: Engine, now: Instant, subject: VmId) -> Self {
        Self { engine, now, end: now.plus_millis(HORIZON_MS), subject, refusal: None, paged: BTreeMap::new() }
    }

    fn handle(&mut self, input: Input) {
        for effect in self.engine.handle(self.now, input) {
            match effect {
                Effect::Refused(vm, refusal) if vm == self.subject => self.refusal = Some(*refusal),
                Effect::LaunchPaged(vm, paged) | Effect::BeginPaging(vm, paged) => {
                    self.paged.insert(vm, paged.file);
                }
                _ => {}
            }
        }
    }

    /// Lets time pass until the engine decides.
    fn decide(&mut self) {
        self.now = self.engine.deadline().clamp(self.now, self.end);
        self.handle(Input::Tick);
    }

    /// Lets guests follow, and the engine decide, up to the horizon.
    fn run(&mut self) {
        for _ in 0..ROUNDS_MAX {
            for (id, devices) in self.engine.followers(self.now) {
                self.handle(Input::Vm(id, Event::Devices(devices)));
            }
            if self.now >= self.end {
                return;
            }
            self.decide();
        }
    }
}

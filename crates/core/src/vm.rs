//! One VM as the engine knows it: settings, state and, while it has one, its
//! machine.
//!
//! A machine belongs to the balancer ([`Vm::elastic`]) only while everything
//! about it is known to work; otherwise it is *fixed*: charged for what it holds
//! and what it was promised, and left alone.

use dynmem_units::{Bytes, Percent};
use serde::{Deserialize, Serialize};

use crate::{
    DeviceFacts, GuestReport, Instant, MemorySettings, Paged, ReportSource, VmState,
    demand::{self, Demand},
    doubt::Doubt,
    growth::Growth,
    ledger::Promise,
    moment::Moment,
    paging::{Paging, Phase},
    stall::Stall,
    trouble::Conduct,
};

/// A guest that says nothing for this long is not guessed at.
pub(crate) const SILENT_AFTER_MS: u64 = 15_000;
/// While the agent's last report is younger than this, the balloon's
/// statistics are not needed.
const AGENT_FRESH_MS: u64 = 7_000;

/// A fact that comes sooner than this after an order may be older than the
/// order: both travel.
const FACTS_TRAVEL_MS: u64 = 100;

/// Memory status of a running dynamic VM (spec section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryStatus {
    /// Demand is met, and so is the buffer.
    Ok,
    /// Demand is met, the buffer is not.
    Warning,
    /// Demand exceeds what is assigned.
    Low,
}

/// Counters of one VM since it was switched on, or of the host since the
/// engine began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Memory that arrived, in all.
    pub added: Bytes,
    /// Memory that was given back, in all.
    pub removed: Bytes,
    /// Orders to grow.
    pub add_operations: u64,
    /// Orders to shrink.
    pub remove_operations: u64,
}

/// Current, average and extreme pressure since the guest first spoke.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PressureHistory {
    /// The smallest seen.
    pub minimum: Percent,
    /// The largest seen.
    pub maximum: Percent,
    sum: u64,
    samples: u64,
}

impl PressureHistory {
    /// The mean of all samples, one a report; zero before the first.
    pub fn average(&self) -> Percent {
        Percent::new(u32::try_from(self.sum.checked_div(self.samples).unwrap_or(0)).unwrap_or(u32::MAX))
    }

    fn observe(&mut self, pressure: Percent) {
        self.minimum = if self.samples == 0 { pressure } else { self.minimum.min(pressure) };
        self.maximum = self.maximum.max(pressure);
        self.sum = self.sum.saturating_add(u64::from(pressure.get()));
        self.samples += 1;
    }
}

/// A move of memory under way, for the sentence at its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    pub(crate) since: Instant,
    /// When a device last moved.
    pub(crate) until: Instant,
    pub(crate) from: Bytes,
}

/// What the guest has said so far.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    /// When it last spoke.
    pub(crate) at: Instant,
    pub(crate) report: GuestReport,
    /// Memory that the guest's kernel keeps out of its sums, as learned while
    /// nothing moved; for reports that don't tell.
    reserved: Bytes,
    pub(crate) pressure: PressureHistory,
    /// What is to be doubted of it, and whether that was told.
    pub(crate) doubt: Doubt,
    pub(crate) doubted: bool,
}

/// A running or starting machine. Decisions go over all of them, and reading
/// them is most of the work: so what decisions read comes first and together
/// (`repr(C)` keeps the order; see [`Vm`] for the lines), and what the guest said
/// is boxed.
#[derive(Clone, Debug)]
#[repr(C)]
pub(crate) struct Machine {
    /// When the guest became silent, while it is.
    pub(crate) silent_since: Option<Instant>,
    /// None before the guest has spoken.
    pub(crate) heard: Option<Box<Heard>>,
    /// Its file, from the moment at which it is asked for.
    pub(crate) paging: Option<Box<Paging>>,
    pub(crate) demand: Demand,
    // From here on orders read and write, too.
    pub(crate) devices: DeviceFacts,
    pub(crate) promise: Promise,
    /// What was promised before and taken back unseen: the devices may hold it
    /// by now, and it counts until they have been looked at.
    pub(crate) revoked: Promise,
    pub(crate) revoked_at: Instant,
    pub(crate) stall: Stall,
    pub(crate) moving: Option<Move>,
    /// False while `devices` is a worst case: see [`crate::Event::Adopted`].
    pub(crate) known: bool,
    /// The machine is held before a reset and waits for memory.
    pub(crate) reset_held: bool,
    /// A part of its memory is in a file: see [`crate::paging`].
    pub(crate) pages: bool,
    /// The last decision could not give it all that it wanted: what comes free
    /// is for it, also where the rest would be too small for a new operation.
    pub(crate) waiting: bool,
    /// It is reset, and its devices have not been seen since: what it held goes
    /// and what it was promised comes at one instant, in which it stands still.
    pub(crate) resets: bool,
    /// The shutdown under way is the first half of a restart.
    pub(crate) restarting: bool,
    pub(crate) status: Option<MemoryStatus>,
    pub(crate) counters: Counters,
    pub(crate) growth: Growth,
    pub(crate) high_water: Bytes,
    /// Power-off or reset by force, if the guest does not answer until then.
    pub(crate) force_at: Moment,
    /// How its guest behaves.
    pub(crate) conduct: Box<Conduct>,
}

impl Machine {
    pub(crate) fn new(now: Instant, devices: DeviceFacts) -> Self {
        Self {
            devices,
            known: true,
            promise: Promise::held(&devices),
            revoked: Promise::default(),
            revoked_at: now,
            demand: Demand::default(),
            growth: Growth::default(),
            heard: None,
            silent_since: None,
            stall: Stall::default(),
            waiting: false,
            moving: None,
            counters: Counters::default(),
            high_water: Bytes::ZERO,
            force_at: Moment::NONE,
            conduct: Box::new(Conduct::new(now)),
            paging: None,
            pages: false,
            resets: false,
            reset_held: false,
            restarting: false,
            status: None,
        }
    }

    /// What the ledger counts for this machine.
    pub(crate) fn charge(&self) -> Bytes {
        let charge = self.charge_with(self.promise);
        debug_assert!(charge >= self.assigned().saturating_add(self.devices.overhead), "a held byte is charged");
        charge
    }

    /// What the ledger would count if this were promised instead.
    pub(crate) fn charge_with(&self, promise: Promise) -> Bytes {
        // Of its boot memory a machine that pages has only what it was promised:
        // the rest is in its file, and its memory group sees to that.
        let balloon_actual = if self.pages { Bytes::ZERO } else { self.devices.balloon_actual };
        let devices = DeviceFacts { balloon_actual, ..self.devices };
        let promise = promise.or(self.promise);
        if self.resets {
            let promised = promise.assigned().saturating_add(devices.overhead);
            return self.revoked.charge(&devices).max(promised);
        }
        promise.or(self.revoked).charge(&devices)
    }

    /// The memory lent to it now: what its devices hold, less what is in a file.
    pub(crate) fn assigned(&self) -> Bytes {
        let DeviceFacts { balloon_actual, plugged, .. } = self.devices;
        match (self.pages, self.resets) {
            (false, _) => self.devices.assigned(),
            (true, false) => balloon_actual.min(self.promise.balloon).saturating_add(plugged),
            (true, true) => self.devices.assigned().min(self.promise.assigned()),
        }
    }

    /// True if it is held before a reset and somebody has to find memory for it.
    pub(crate) fn waits_for_memory(&self) -> bool {
        let begins = || self.paging.as_ref().is_some_and(|paging| paging.phase == Phase::Beginning);
        self.reset_held && self.known && !begins()
    }

    /// It has been paging since before this engine.
    pub(crate) fn found_paging(&mut self, now: Instant, paged: Paged) {
        let memory = paged.memory.clamp(Bytes::BLOCK, self.devices.boot.max(Bytes::BLOCK));
        self.promise = Promise { balloon: memory.min(self.devices.balloon_actual), plugged: self.devices.plugged };
        self.pages = true;
        self.paging = Some(Box::new(Paging::new(now, Phase::Active, paged.file)));
    }

    /// Goes on with what the machine `charged` in its place has of a file.
    pub(crate) fn pages_as(&mut self, charged: Self) {
        if charged.pages {
            (self.promise, self.pages, self.paging) = (charged.promise, true, charged.paging);
        }
    }

    /// Promises something else.
    pub(crate) fn promise_instead(&mut self, now: Instant, promise: Promise) {
        // Only what is still growing can hold more than was last seen. What a
        // reset is to bring has not been ordered.
        let growing = self.promise.beyond(&self.devices);
        if !self.resets && growing != Promise::default() {
            (self.revoked, self.revoked_at) = (self.revoked.or(growing), now);
        }
        self.promise = promise;
    }

    /// The plan for `wanted`, or one that leaves virtio-mem as it is if that
    /// would charge more than `charge_max`: while two devices trade places both
    /// count, and a machine whose memory lies crosswise must be able to move.
    /// If the balloon alone can't give enough, virtio-mem gives and the balloon
    /// stays.
    pub(crate) fn plan_within(&self, now: Instant, wanted: Bytes, charge_max: Bytes) -> Promise {
        let (devices, pinned) = (&self.devices, self.stall.pinned(now));
        let plan = Promise::plan(devices, wanted, pinned);
        if self.charge_with(plan) <= charge_max {
            return plan;
        }
        let by_balloon = Promise::plan(devices, wanted, true);
        if pinned || by_balloon.assigned() <= wanted {
            return by_balloon;
        }
        let balloon = devices.balloon_actual.min(self.promise.balloon);
        Promise { balloon, plugged: wanted.saturating_sub(balloon).align_up(devices.plug_block) }
    }

    /// The reset machine will touch all of its boot memory, and be promised no
    /// less than `promise`: what it needs on top of its charge before that.
    pub(crate) fn reset_needs(&self, promise: Promise) -> Bytes {
        promise.assigned().saturating_add(self.devices.overhead).saturating_sub(self.charge())
    }

    /// Takes a report; agents are believed before statistics. False if the
    /// report was not needed.
    pub(crate) fn observe(&mut self, now: Instant, mut report: GuestReport, settings: &MemorySettings) -> bool {
        let from_driver = report.source == ReportSource::Balloon;
        let speaks =
            |last: &&mut Heard| last.report.source == ReportSource::Agent && now.millis_since(last.at) < AGENT_FRESH_MS;
        if let Some(last) = self.heard.as_deref_mut().filter(|last| from_driver && speaks(last)) {
            last.doubt.statistics(now, &last.report, &report);
            return false;
        }
        let before = self.heard.as_deref();
        let held = self.devices.assigned();
        let settled = self.promise == Promise::held(&self.devices);
        let reserved = if settled {
            held.saturating_sub(report.visible)
        } else {
            before.map_or(Bytes::ZERO, |last| last.reserved)
        };
        // While memory is arriving, waiting for it says nothing new: neither
        // that more is needed, nor that the stall before is over.
        let arriving = self.promise.assigned() > held;
        let stalled_before = if arriving && report.stall > 0 { self.demand.measured() } else { Bytes::ZERO };
        if arriving {
            report.stall = 0;
        }
        let measured = demand::measure(&report, settings.demand_model, held, reserved, settings.maximum);
        self.demand.observe(now, measured.demand.max(stalled_before));
        // Growth is learned from memory that it really had: claims don't count.
        self.growth.observe(now, measured.needed.min(held), measured.committed, measured.roomy);
        self.high_water = self.high_water.max(report.visible.min(self.devices.reach()));
        let mut pressure = before.map_or_else(PressureHistory::default, |last| last.pressure);
        pressure.observe(Percent::ratio(self.demand.current(), held));
        let (mut doubt, doubted) = before.map_or_else(Default::default, |last| (last.doubt, last.doubted));
        doubt.report(now, &report, &self.devices);
        let heard = Heard { at: now, report, reserved, pressure, doubt, doubted };
        match &mut self.heard {
            Some(before) => **before = heard,
            none => *none = Some(Box::new(heard)),
        }
        true
    }

    /// Takes the devices' state and counts what moved.
    pub(crate) fn move_to(&mut self, now: Instant, devices: DeviceFacts) {
        let (before, after) = (self.devices.assigned(), devices.assigned());
        self.counters.added = self.counters.added.saturating_add(after.saturating_sub(before));
        self.counters.removed = self.counters.removed.saturating_add(before.saturating_sub(after));
        if let Some(moving) = self.moving.as_mut().filter(|_| before != after) {
            moving.until = now;
        }
        self.devices = devices;
        // A machine that is still held, for its file, has not been reset yet.
        self.resets &= self.reset_held || devices.plugged > self.promise.plugged;
        if now.millis_since(self.revoked_at) >= FACTS_TRAVEL_MS {
            self.revoked = Promise::default();
        }
    }
}

/// A VM. What decisions read comes first, as in [`Machine`]: six lines of the
/// processor's caches, which fetch two at a time. An order touches four of these.
#[derive(Clone, Debug)]
#[repr(C, align(128))]
pub(crate) struct Vm {
    pub(crate) state: VmState,
    pub(crate) settings: MemorySettings,
    pub(crate) machine: Option<Machine>,
    pub(crate) name: String,
    /// Why it is in this state, where that is not obvious.
    pub(crate) reason: Option<String>,
    /// When its smart paging file could not be made.
    pub(crate) paging_refused_at: Moment,
    /// What its devices held when it was saved, until it runs again.
    pub(crate) saved: Option<Box<DeviceFacts>>,
}

impl Vm {
    pub(crate) fn new(name: String, settings: MemorySettings) -> Self {
        Self {
            name,
            settings,
            state: VmState::Off,
            reason: None,
            machine: None,
            paging_refused_at: Moment::NONE,
            saved: None,
        }
    }

    pub(crate) fn charge(&self) -> Bytes {
        self.machine.as_ref().map_or(Bytes::ZERO, Machine::charge)
    }

    /// True if the balancer may move this VM's memory: dynamic, running, and
    /// its guest speaks. Everybody else is fixed at what they are charged.
    pub(crate) fn elastic(&self) -> Option<&Machine> {
        if self.settings.dynamic { self.answers() } else { None }
    }

    /// The machine, if its guest can be asked to move memory: it is up and
    /// speaks, and nothing about it is unknown.
    pub(crate) fn answers(&self) -> Option<&Machine> {
        let machine = self.machine.as_ref()?;
        let trusted = machine.known && !machine.reset_held && !machine.pages;
        let up = self.state == VmState::Running && trusted;
        (up && machine.heard.is_some() && machine.silent_since.is_none()).then_some(machine)
    }

    /// True if its guest does what it is asked, as far as is known.
    pub(crate) fn moves(&self) -> bool {
        self.answers().is_some_and(|machine| machine.stall.stuck_since().is_none())
    }

    /// Demand as the balancer counts it: whole blocks, at most maximum.
    pub(crate) fn demand(&self, machine: &Machine) -> Bytes {
        machine.demand.current().align_up(Bytes::BLOCK).min(self.settings.maximum)
    }

    /// Demand and buffer, between minimum and maximum, in whole blocks.
    pub(crate) fn target(&self, machine: &Machine) -> Bytes {
        let demand = machine.demand.current().min(self.settings.maximum);
        let wanted = demand.saturating_add(self.settings.buffer.of(demand)).align_up(Bytes::BLOCK);
        // No clamp: the bounds of a static VM may lie crosswise.
        wanted.min(self.settings.maximum).max(self.settings.minimum)
    }

    /// The `target`, and room for the growth that is expected of its guest.
    pub(crate) fn hope(&self, now: Instant, machine: &Machine, target: Bytes) -> Bytes {
        let expected = machine.growth.expected(now);
        if expected.is_zero() {
            return target;
        }
        let grown = machine.growth.needed().saturating_add(expected).align_up(Bytes::BLOCK);
        target.max(grown.min(self.settings.maximum))
    }

    /// The part of the target that must be missing before the buffer is worth
    /// an operation, or a warning: a quarter of the buffer, at least four
    /// blocks. Noise within it costs nothing, and demand is met all the same.
    pub(crate) fn slack(target: Bytes, demand: Bytes) -> Bytes {
        let buffer = target.saturating_sub(demand);
        buffer.scale(1, 4).max(Bytes::BLOCK.scale(4, 1)).min(buffer)
    }

    /// True if so much of its target has not been promised that a decision is
    /// worth its while now.
    pub(crate) fn lacks_memory(&self, now: Instant) -> bool {
        self.elastic().is_some_and(|machine| {
            let (promised, target) = (machine.promise.assigned(), self.target(machine));
            let demand = self.demand(machine);
            let slack = Self::slack(target, demand);
            promised.saturating_add(slack) < self.hope(now, machine, target)
        })
    }

    /// Memory status now; none for off and static VMs, and before the guest
    /// has spoken.
    pub(crate) fn memory_status(&self) -> Option<MemoryStatus> {
        let machine = self.machine.as_ref()?;
        if !self.settings.dynamic
            || machine.heard.is_none()
            || !matches!(self.state, VmState::Running | VmState::Paused)
        {
            return None;
        }
        let (held, target) = (machine.assigned(), self.target(machine));
        Some(if machine.demand.current() > held {
            MemoryStatus::Low
        } else if held.saturating_add(Self::slack(target, self.demand(machine))) < target {
            MemoryStatus::Warning
        } else {
            MemoryStatus::Ok
        })
    }
}

#[cfg(test)]
mod tests;

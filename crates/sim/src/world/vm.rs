//! One VM of a world: its machine while it has one, and what it lives through.

use dynmem_core::{DeviceFacts, Instant, VmId};
use dynmem_units::Bytes;

use crate::{
    guest::{Agent, Guest},
    plan::VmPlan,
    policy::MachineShape,
    workload::Need,
};

use super::SimFile;

/// From the power button until the guest has shut down.
const SHUTDOWN_MS: u64 = 2_000;
/// From power-on (or reset) until the guest's agent speaks: measured 2.6–3.9 s.
const BOOT_MS: u64 = 3_500;

/// A VM in a world.
#[derive(Debug)]
pub struct SimVm {
    /// Its number.
    pub id: VmId,
    /// What it was made from.
    pub plan: VmPlan,
    /// Its machine, while it is on.
    pub machine: Option<SimMachine>,
    /// What it lived through in the last step.
    pub lived: Lived,
    /// What was ordered of it so far.
    pub tally: Tally,
    /// What is wrong around it.
    pub trouble: Trouble,
    /// Its programs need for ever what they needed then.
    pub(super) frozen_at_ms: Option<u64>,
    /// It ran when the host went down.
    pub(super) starts_again: bool,
    /// Its next start is one after the host's own: it may page.
    pub(super) ran_before: bool,
}

/// A machine that is on.
#[derive(Debug)]
pub struct SimMachine {
    /// The guest and its devices.
    pub guest: Guest,
    pub(super) agent: Agent,
    /// When its guest speaks first, by the world's clock.
    pub(crate) speaks_at_ms: u64,
    /// When its programs began, by the world's clock.
    pub(super) programs_since_ms: u64,
    /// When the guest, asked to shut down, has done so.
    pub(super) off_at_ms: Option<u64>,
    /// Held before a reset, or powered off and not ended yet.
    pub(super) held: bool,
    pub(super) paused: bool,
    /// Orders that QMP has not taken yet.
    pub(super) late_order: Option<(Bytes, Bytes)>,
    /// Its smart paging file.
    pub file: Option<SimFile>,
    /// The most that it was ever to have, by any settings that it has run with.
    pub(super) most: Bytes,
}

/// What a VM lived through in one step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lived {
    /// Its guest is up, and its machine goes on.
    pub running: bool,
    /// What must be assigned for full speed, at most maximum.
    pub needed: Bytes,
    /// What it holds in memory.
    pub held: Bytes,
    /// Time lost waiting for memory.
    pub stalled_ms: u64,
    /// Its programs were killed for want of memory.
    pub oom: bool,
}

/// Orders given to a VM so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Orders that changed something.
    pub operations: u64,
    /// Memory that moved, both ways.
    pub moved: Bytes,
    /// Orders that turned the direction within a minute.
    pub reversals: u64,
    /// When memory was last ordered, and whether to grow.
    pub(super) last: Option<(u64, bool)>,
}

/// What is wrong around a VM; see [`crate::fault`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Trouble {
    /// Its agent says nothing until then.
    pub silent_until_ms: u64,
    /// Its reports arrive this much later.
    pub late_ms: u64,
    /// Its agent lies.
    pub lie: Option<Lie>,
    /// QMP does not answer until then: no orders, no news of devices.
    pub deaf_until_ms: u64,
    /// QEMU does not start.
    pub launch_fails: bool,
    /// Its guest does not shut down when asked to.
    pub ignores_button: bool,
    /// Its smart paging file can't be made, nor emptied.
    pub file_fails: bool,
}

/// How an agent lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// It needs all there is.
    High,
    /// It needs nothing.
    Low,
    /// Numbers without sense.
    Nonsense,
}

impl SimVm {
    /// The VM numbered `id` of a plan, off.
    pub(super) fn new(id: VmId, plan: VmPlan) -> Self {
        Self {
            id,
            plan,
            machine: None,
            lived: Lived::default(),
            tally: Tally::default(),
            trouble: Trouble::default(),
            frozen_at_ms: None,
            starts_again: false,
            ran_before: false,
        }
    }

    /// What its programs need at `now_ms`; nothing before they run.
    pub fn need(&self, now_ms: u64) -> Need {
        let Some(machine) = self.machine.as_ref().filter(|machine| machine.up(now_ms)) else { return Need::default() };
        let at_ms = self.frozen_at_ms.unwrap_or(now_ms).min(now_ms);
        self.plan.workload.need(at_ms, at_ms.saturating_sub(machine.programs_since_ms))
    }

    /// True if its machine stands held, before a reset or its end.
    pub fn held(&self) -> bool {
        self.machine.as_ref().is_some_and(|machine| machine.held)
    }

    /// True if its machine, on or to be launched, is one that was on when the
    /// host went down.
    pub fn ran_before(&self) -> bool {
        self.ran_before
    }

    /// True if its guest is up and its machine goes on.
    pub fn running(&self, now_ms: u64) -> bool {
        self.machine.as_ref().is_some_and(|machine| machine.up(now_ms) && !machine.stands_still())
    }

    /// The most that it could hold by the orders given, overhead included: what
    /// a ledger must count.
    pub fn charge(&self) -> Bytes {
        let Some(machine) = &self.machine else { return Bytes::ZERO };
        let devices = machine.guest.devices();
        let (balloon, plugged) = machine.guest.ordered();
        let waiting = machine.late_order.unwrap_or_default();
        let unlimited = devices.balloon_actual.max(balloon).max(waiting.0);
        let balloon = machine.limit().unwrap_or(unlimited);
        let plugged = devices.plugged.max(plugged).max(waiting.1);
        [balloon, plugged, devices.overhead].into_iter().sum()
    }

    /// Ends its machine; true if it had one.
    pub(super) fn end(&mut self) -> bool {
        self.ran_before = false;
        self.machine.take().is_some()
    }

    /// Switches it on with `begins_with`; `boots`: its guest has to boot first.
    pub(super) fn switch_on(
        &mut self,
        now_ms: u64,
        shape: MachineShape,
        begins_with: Bytes,
        boots: bool,
    ) -> DeviceFacts {
        let balloon_actual = begins_with.min(shape.boot);
        let devices = DeviceFacts {
            boot: shape.boot,
            balloon_actual,
            plugged: begins_with.saturating_sub(balloon_actual).min(shape.plug_max),
            plug_max: shape.plug_max,
            plug_block: Bytes::BLOCK,
            overhead: self.plan.overhead,
        };
        let speaks_at_ms = if boots { now_ms + BOOT_MS } else { now_ms };
        self.machine = Some(SimMachine {
            guest: Guest::boot(self.plan.guest, devices),
            agent: Agent::new(),
            speaks_at_ms,
            programs_since_ms: speaks_at_ms,
            off_at_ms: None,
            held: false,
            paused: false,
            late_order: None,
            file: None,
            most: self.plan.settings.most(),
        });
        devices
    }

    /// Counts an order that is about to be given.
    pub(super) fn count_order(&mut self, now_ms: u64, balloon: Bytes, plugged: Bytes) {
        let Some(machine) = &self.machine else { return };
        let (before, after) = (machine.guest.ordered(), (balloon, plugged));
        if before == after {
            return;
        }
        let grows = balloon.saturating_add(plugged) > before.0.saturating_add(before.1);
        self.tally.operations += 1;
        if let Some((at, grew)) = self.tally.last.replace((now_ms, grows))
            && grew != grows
            && now_ms - at < 60_000
        {
            self.tally.reversals += 1;
        }
    }

    /// One step of its machine; true if its devices moved.
    pub(super) fn step(&mut self, now_ms: u64, millis: u64) -> bool {
        let need = self.need(now_ms);
        let maximum = self.plan.settings.maximum;
        let Some(machine) = &mut self.machine else {
            self.lived = Lived::default();
            return false;
        };
        if !self.trouble.deaf(now_ms) {
            machine.take_late_order();
        }
        if machine.stands_still() {
            self.lived = Lived { held: machine.in_memory(), ..Lived::default() };
            return false;
        }
        let before = machine.guest.held();
        let step = machine.guest.step(millis, need);
        let held = machine.guest.held();
        if step.oom {
            machine.programs_since_ms = now_ms;
        }
        self.tally.moved = self.tally.moved.saturating_add(Bytes::new(before.get().abs_diff(held.get())));
        self.lived = Lived {
            running: machine.up(now_ms),
            needed: machine.guest.needed(need).min(maximum),
            held: machine.in_memory(),
            stalled_ms: step.stalled_ms,
            oom: step.oom,
        };
        step.moved
    }
}

impl SimMachine {
    fn up(&self, now_ms: u64) -> bool {
        now_ms >= self.speaks_at_ms
    }

    /// Held or paused: nothing in it moves.
    pub(super) fn stands_still(&self) -> bool {
        self.held || self.paused
    }

    /// Whether its agent can speak at `now_ms`.
    pub(super) fn speaks(&self, now_ms: u64) -> bool {
        self.up(now_ms) && !self.stands_still()
    }

    pub(super) fn press_power_button(&mut self, now_ms: u64) {
        self.off_at_ms = self.off_at_ms.or(Some(now_ms + SHUTDOWN_MS));
    }

    /// True once, when the guest has shut down.
    pub(super) fn has_shut_down(&mut self, now_ms: u64) -> bool {
        let down = !self.stands_still() && self.off_at_ms.is_some_and(|at| now_ms >= at);
        if down {
            self.off_at_ms = None;
            self.held = true;
        }
        down
    }

    /// Resets the machine: boot memory whole, nothing plugged, guest boots.
    pub(super) fn reset(&mut self, now_ms: u64, plan: &VmPlan) -> DeviceFacts {
        let defects = self.guest.defects;
        let devices = self.guest.devices();
        // A machine that only has a balloon boots populated on demand, as it was
        // launched.
        let populated = if devices.plug_max.is_zero() { plan.settings.startup.min(devices.boot) } else { devices.boot };
        let devices = DeviceFacts { balloon_actual: populated, plugged: Bytes::ZERO, ..devices };
        self.guest = Guest::boot(plan.guest, devices);
        self.guest.defects = defects;
        self.agent = Agent::new();
        (self.speaks_at_ms, self.programs_since_ms) = (now_ms + BOOT_MS, now_ms + BOOT_MS);
        (self.off_at_ms, self.held, self.paused, self.late_order) = (None, false, false, None);
        if let Some(file) = &mut self.file {
            file.limit = Some(file.paged.memory);
        }
        devices
    }

    fn take_late_order(&mut self) {
        if let Some((balloon, plugged)) = self.late_order.take() {
            self.guest.order(balloon, plugged);
        }
    }
}

impl Trouble {
    pub(super) fn silent(&self, now_ms: u64) -> bool {
        now_ms < self.silent_until_ms
    }

    pub(super) fn deaf(&self, now_ms: u64) -> bool {
        now_ms < self.deaf_until_ms
    }
}

/// The instant of a world's clock as the policy's.
pub(super) fn instant(now_ms: u64, offset_ms: u64) -> Instant {
    Instant(now_ms.saturating_add(offset_ms))
}

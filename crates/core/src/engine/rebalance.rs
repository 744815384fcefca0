//! One decision: who gets what, who gives what back, who may start.
//!
//! ```text
//! elastic VMs ──▶ entitle: what each should have   (minimum, demand, buffer: ranks)
//!             ──▶ grant:   what fits now is given  (demand, then resets, then buffers)
//!             ──▶ admit:   starts take what nobody is entitled to
//!             ──▶ prepare: growth that is expected takes what is left
//!             ──▶ reclaim: what was missing is asked back from surplus, and only that
//! ```
//! Shares are weighted max-min within a rank ([`crate::share()`]); a rank is
//! served only when the one before is. Memory on its way back counts as coming
//! once, so nothing is asked twice.

use dynmem_units::Bytes;

use super::{Engine, PendingStart};
use crate::{
    Instant, VmId, VmState,
    share::{Claim, fraction, share},
    vm::{Machine, Vm},
};

/// For so long after somebody was short, headroom waits: reclaim is patient.
const PATIENCE_MS: u64 = 5_000;
/// Headroom that is missing is asked for when it is this much. Blocks: 32 MiB.
const HEADROOM_STEP: u64 = 16;
/// A start that waits longer than this for reclaimed memory is refused.
const START_PATIENCE_MS: u64 = 120_000;

/// One elastic VM in a decision. Amounts are in blocks.
struct Entry {
    id: VmId,
    weight: u64,
    /// What it may not or can't sink below now: its minimum, what a stuck one
    /// holds, what virtio-mem can't unplug.
    floor: u64,
    /// What its last report asked for.
    needs: u64,
    /// The same, sinking patiently.
    demand: u64,
    target: u64,
    /// The target, and room for growth that is expected now.
    hope: u64,
    /// What it needed a while ago, and the most that it grew from there before.
    base: u64,
    surge: u64,
    /// Its demand has not risen for a while.
    settled: bool,
    /// It has not been watched for long: others tell how it may grow.
    young: bool,
    /// The most that it may have.
    most: u64,
    /// The part of the buffer that may be missing before it is refilled.
    slack: u64,
    /// The last decision could not give it all that it wanted.
    waiting: bool,
    /// What it has been promised.
    promised: u64,
    /// What is charged already, overhead excluded: promised, or still held.
    covered: u64,
    /// What it should have: the outcome of [`entitle`].
    entitled: u64,
    /// What it gets now: the outcome of [`grant`]; zero for nothing new.
    granted: u64,
}

fn blocks(bytes: Bytes) -> u64 {
    bytes.get() / Bytes::BLOCK.get()
}

fn bytes(blocks: u64) -> Bytes {
    Bytes::BLOCK.scale(blocks, 1)
}

/// The blocks charged for a machine's own memory.
fn covered(machine: &Machine) -> u64 {
    blocks(machine.charge().saturating_sub(machine.devices.overhead))
}

impl Entry {
    fn new(now: Instant, id: VmId, vm: &Vm, machine: &Machine) -> Self {
        let promised = blocks(machine.promise.assigned());
        let minimum = blocks(vm.settings.minimum);
        let pinned = if machine.stall.pinned(now) { blocks(machine.devices.plugged) + 1 } else { 0 };
        let stuck = if machine.stall.resting(now) { promised } else { 0 };
        let floor = minimum.max(stuck).max(pinned);
        let (wanted, demand) = (vm.target(machine), vm.demand(machine));
        // A device that did not take memory is not given any while it rests.
        let most = if machine.stall.rests_from_growing(now) { floor } else { u64::MAX };
        let target = blocks(wanted).max(floor).min(most);
        let demand_blocks = blocks(demand).clamp(floor, target);
        Self {
            id,
            weight: u64::from(vm.settings.weight.get()),
            floor,
            needs: blocks(machine.demand.measured().align_up(Bytes::BLOCK)).clamp(floor, demand_blocks),
            demand: demand_blocks,
            target,
            hope: blocks(vm.hope(now, machine)).max(target).min(most.max(target)),
            base: blocks(machine.growth.base()),
            surge: blocks(machine.growth.surge()),
            settled: machine.demand.settled(now),
            young: machine.growth.young(now),
            most: blocks(vm.settings.maximum).min(most).max(target),
            slack: blocks(Vm::slack(wanted, demand)),
            waiting: machine.waiting,
            promised,
            covered: covered(machine),
            entitled: floor,
            granted: 0,
        }
    }

    /// True if less than its demand, or its minimum, has been promised.
    fn in_need(&self) -> bool {
        self.promised < self.demand
    }

    /// Blocks promised beyond what it is entitled to.
    fn surplus(&self) -> u64 {
        self.promised.saturating_sub(self.entitled)
    }

    /// The part of the surplus that it will not miss: it is not expected to
    /// grow into it, nor would the buffer be refilled from it at once. None
    /// while it still owes what it was asked for.
    fn idle_surplus(&self) -> u64 {
        let owes = self.covered > self.promised;
        if owes { 0 } else { self.promised.saturating_sub(self.entitled.max(self.hope) + self.slack) }
    }

    /// What to grow to for growth that is expected, or for the last of the
    /// buffer once demand has settled, if that is worth an operation now.
    fn hopes(&self) -> Option<u64> {
        let worth = self.promised + self.slack < self.hope || (self.settled && self.promised < self.hope);
        worth.then_some(self.hope)
    }

    /// What it would lack if it grew now as it did before, or, while it is
    /// young, as anybody did (`surge_max`).
    fn exposure(&self, surge_max: u64) -> u64 {
        let surge = if self.young { surge_max } else { self.surge };
        (self.base + surge).min(self.most).saturating_sub(self.promised.max(self.target))
    }

    /// What to grow to, if growing is worth an operation now.
    fn wants(&self) -> Option<u64> {
        let missing = self.entitled.saturating_sub(self.promised);
        // Where buffers are short, a quarter is one of what there is.
        let slack = self.slack.min(self.entitled.saturating_sub(self.demand) / 4);
        (missing > 0 && (self.in_need() || self.waiting || missing > slack)).then_some(self.entitled)
    }
}

/// Grants the entries that `rank` selects the level that it says: in full if
/// that fits, else what is free by weight. Memory on its way back from a VM is
/// its own again for free.
fn grant(entries: &mut [Entry], purse: &mut Purse, rank: fn(&Entry) -> Option<u64>) {
    let (mut claims, mut claimants) = (Vec::new(), Vec::new());
    for entry in entries.iter_mut() {
        let Some(level) = rank(entry) else { continue };
        claims.push(Claim { weight: entry.weight, floor: entry.granted.max(entry.covered).min(level), ceiling: level });
        claimants.push(entry);
    }
    let floors: u64 = claims.iter().map(|claim| claim.floor).sum();
    let shares = share(floors + purse.free, &claims);
    purse.free = (floors + purse.free).saturating_sub(shares.iter().sum());
    for (entry, level) in claimants.into_iter().zip(shares) {
        entry.granted = entry.granted.max(level);
    }
}

/// The held resets that fit into what demand has `left`, smallest first: one
/// that does not must not keep memory from those that do.
fn within_reach(mut resets: Vec<(VmId, u64)>, mut left: u64) -> Vec<(VmId, u64)> {
    resets.sort_by_key(|(id, needs)| (*needs, *id));
    resets.retain(|(_, needs)| {
        let fits = *needs <= left;
        left -= if fits { *needs } else { 0 };
        fits
    });
    resets
}

/// Says what every VM should have of the room: minimum, then what it needs now,
/// then what it needed lately, then buffers, of which `held_back` blocks of room
/// are withheld. True if everybody can have all of it.
fn entitle(survey: &mut Survey, held_back: u64) -> bool {
    let Survey { entries, room, needs, demands, targets, .. } = survey;
    let left = room.saturating_sub(held_back);
    if *targets <= left {
        for entry in entries {
            entry.entitled = entry.target;
        }
        return true;
    }
    if *needs > *room {
        share_on_top(entries, *room, |_| 0, |entry| entry.floor, |entry| entry.needs);
    } else if *demands > *room {
        share_on_top(entries, *room - *needs, |entry| entry.needs, |_| 0, |entry| entry.demand - entry.needs);
    } else {
        let on_top = left.saturating_sub(*demands);
        share_on_top(entries, on_top, |entry| entry.demand, |_| 0, |entry| entry.target - entry.demand);
    }
    false
}

/// Entitles each to its base and a share of `room`, by weight between floor and
/// ceiling. Needs are shared as wholes. What goes on top of them is shared for
/// itself, or whoever needs much would have nothing of it.
fn share_on_top(
    entries: &mut [Entry],
    room: u64,
    base: fn(&Entry) -> u64,
    floor: fn(&Entry) -> u64,
    ceiling: fn(&Entry) -> u64,
) {
    let claims: Vec<_> = entries
        .iter()
        .map(|entry| Claim { weight: entry.weight, floor: floor(entry), ceiling: ceiling(entry) })
        .collect();
    for (entry, share) in entries.iter_mut().zip(share(room, &claims)) {
        entry.entitled = base(entry) + share;
    }
}

/// The memory that a decision has to work with. Blocks.
struct Purse {
    /// Not charged to anybody.
    free: u64,
    /// Asked back, and not back yet.
    returning: u64,
    /// Needed and not given.
    short: u64,
    /// Expected to be needed, and not there: only idle memory is asked back for
    /// this.
    wished: u64,
}

/// All that a decision looks at.
struct Survey {
    entries: Vec<Entry>,
    purse: Purse,
    /// What the elastic VMs share. Blocks.
    room: u64,
    /// The sums of what they need now, needed lately, and want. Blocks.
    needs: u64,
    demands: u64,
    targets: u64,
    /// Machines held before a reset, and the blocks that each needs.
    resets: Vec<(VmId, u64)>,
}

impl Engine {
    /// Decides now. See the module's head.
    pub(super) fn decide(&mut self, now: Instant) {
        self.due = false;
        self.decided_at = now;
        let mut survey = self.survey(now);
        let left = survey.room.saturating_sub(survey.demands);
        let resets = within_reach(std::mem::take(&mut survey.resets), left);
        let reset_needs: u64 = resets.iter().map(|(_, needs)| needs).sum();
        let plenty = entitle(&mut survey, reset_needs);
        let Survey { mut entries, mut purse, room, targets, .. } = survey;

        grant(&mut entries, &mut purse, |entry| entry.in_need().then_some(entry.demand.min(entry.entitled)));
        for (id, needs) in resets {
            if needs <= purse.free {
                purse.free -= needs;
                self.continue_reset(now, id);
            } else {
                purse.short += needs - purse.free;
                purse.free = 0;
            }
        }
        grant(&mut entries, &mut purse, Entry::wants);
        self.order_growth(now, &mut entries, &mut purse);
        // Only surplus above target is touched for a start; a stuck VM's target is what it holds.
        self.admit_starts(now, &mut purse, room.saturating_sub(targets).saturating_sub(reset_needs));
        if purse.short > 0 || !plenty {
            self.short_at = now;
        } else {
            self.prepare(now, &mut entries, &mut purse);
        }
        self.hungry = purse.short > 0 || purse.wished > 0;
        self.headroom = bytes(purse.wished);
        self.reclaim(now, &mut entries, &purse);
    }

    /// Everybody has demand and buffer: what is left is for growth that is
    /// expected now, and for the largest that any guest may begin.
    fn prepare(&mut self, now: Instant, entries: &mut [Entry], purse: &mut Purse) {
        // What refilling every buffer may take is not spent on hopes: the
        // next relief must find it.
        let kept = entries.iter().map(|entry| entry.slack).sum::<u64>().min(purse.free);
        purse.free -= kept;
        grant(entries, purse, Entry::hopes);
        for entry in entries.iter_mut() {
            let Some(wanted) = entry.hopes() else { continue };
            purse.free += entry.granted.saturating_sub(entry.covered);
            let reached = self.grow_to(now, entry, purse);
            purse.wished += wanted.saturating_sub(reached.max(entry.covered));
            entry.promised = reached;
        }
        purse.free += kept;
        if now.millis_since(self.short_at) < PATIENCE_MS {
            return;
        }
        let surge_max = entries.iter().map(|entry| entry.surge).max().unwrap_or(0);
        let exposure = entries.iter().map(|entry| entry.exposure(surge_max)).max().unwrap_or(0);
        let missing = exposure.saturating_sub(purse.free);
        // The pool is refilled in pieces that are worth an operation.
        if missing >= HEADROOM_STEP {
            purse.wished = purse.wished.max(missing);
        }
    }

    /// Lets demand sink to now, and collects all that a decision looks at, in
    /// one pass: with ten thousand VMs, reading them is most of the work.
    fn survey(&mut self, now: Instant) -> Survey {
        let mut entries = Vec::with_capacity(self.vms.len());
        let mut resets = Vec::new();
        let (mut needs, mut demands, mut targets) = (0, 0, 0);
        let (mut charged, mut elastic, mut returning) = (Bytes::ZERO, Bytes::ZERO, Bytes::ZERO);
        for (id, vm) in (0_u32..).map(VmId).zip(&mut self.vms) {
            let Some(vm) = vm.as_mut() else { continue };
            let Some(machine) = vm.machine.as_mut() else { continue };
            if machine.silent_since.is_none() {
                machine.demand.sink(now);
            }
            charged = charged.saturating_add(machine.charge());
            if machine.reset_held && machine.known && vm.state == VmState::Starting {
                resets.push((id, blocks(machine.reset_needs().align_up(Bytes::BLOCK))));
            }
            let Some(machine) = vm.elastic() else { continue };
            elastic = elastic.saturating_add(machine.charge().saturating_sub(machine.devices.overhead));
            let coming = machine.stall.coming(now, machine.returning(), machine.devices.assigned());
            returning = returning.saturating_add(coming);
            let entry = Entry::new(now, id, vm, machine);
            needs += entry.needs;
            demands += entry.demand;
            targets += entry.target;
            entries.push(entry);
        }
        let capacity = self.host.capacity();
        let purse = Purse {
            free: blocks(capacity.saturating_sub(charged)),
            returning: blocks(returning),
            // What guests or the host took beyond the capacity is asked back.
            short: blocks(charged.saturating_sub(capacity).align_up(Bytes::BLOCK)),
            wished: 0,
        };
        let room = blocks(capacity.saturating_sub(charged.saturating_sub(elastic)));
        Survey { entries, purse, room, needs, demands, targets, resets }
    }

    /// Orders what the entries were granted, and counts what they still lack.
    fn order_growth(&mut self, now: Instant, entries: &mut [Entry], purse: &mut Purse) {
        for entry in entries {
            let Some(wanted) = entry.wants() else { continue };
            let set_aside = entry.granted.saturating_sub(entry.covered);
            purse.free += set_aside;
            let reached = self.grow_to(now, entry, purse);
            if let Some(machine) = self.vm_mut(entry.id).and_then(|vm| vm.machine.as_mut()) {
                machine.waiting = reached < wanted;
            }
            purse.short += wanted.saturating_sub(reached.max(entry.covered));
            entry.promised = reached;
            // What was set aside for it is spent now, or free again.
            entry.granted = 0;
            entry.covered = self.vm(entry.id).and_then(|vm| vm.machine.as_ref()).map_or(0, covered);
        }
    }

    /// Orders what was granted, or as much of it as is really free: the two
    /// devices move in whole steps, and while they trade places both count.
    fn grow_to(&mut self, now: Instant, entry: &Entry, purse: &mut Purse) -> u64 {
        let Some(machine) = self.vm(entry.id).and_then(|vm| vm.machine.as_ref()) else { return entry.promised };
        let charge = machine.charge();
        let mut level = entry.granted;
        for _ in 0..4 {
            if level <= entry.promised {
                break;
            }
            let affordable = charge.saturating_add(bytes(purse.free));
            let promise = machine.plan_within(now, bytes(level), affordable);
            let more = blocks(machine.charge_with(promise).saturating_sub(charge).align_up(Bytes::BLOCK));
            if more <= purse.free {
                purse.free -= more;
                purse.returning = purse.returning.saturating_sub((level - entry.promised).saturating_sub(more));
                self.order(now, entry.id, promise);
                return level;
            }
            level = level.saturating_sub(more - purse.free);
        }
        entry.promised
    }

    /// Lets waiting starts go in the order in which they were asked.
    fn admit_starts(&mut self, now: Instant, purse: &mut Purse, mut spare: u64) {
        while let Some(&PendingStart { vm: id, overhead, since }) = self.starts.front() {
            let Some(vm) = self.vm(id) else {
                self.starts.pop_front();
                continue;
            };
            let needs = vm.settings.startup.saturating_add(overhead);
            let wanted = blocks(needs.align_up(Bytes::BLOCK));
            if wanted <= purse.free && wanted <= spare {
                purse.free -= wanted;
                spare -= wanted;
                self.starts.pop_front();
                self.admit(now, id, overhead);
            } else if wanted <= spare && now.millis_since(since) < START_PATIENCE_MS {
                purse.short += wanted - purse.free;
                purse.free = 0;
                return; // the next in line waits behind this one
            } else {
                self.starts.pop_front();
                // What others were asked for and did not give is not available.
                self.refuse_start(id, needs, bytes(if wanted <= spare { purse.free } else { spare }));
            }
        }
    }

    /// Asks back what is short and not coming yet: first what nobody will miss,
    /// then from everybody's surplus. For what is only wished, the first alone.
    fn reclaim(&mut self, now: Instant, entries: &mut [Entry], purse: &Purse) {
        let short = purse.short.saturating_sub(purse.returning);
        let wished = (purse.short + purse.wished).saturating_sub(purse.returning);
        if wished == 0 {
            return;
        }
        let taken = self.take(now, entries, wished, Entry::idle_surplus);
        self.take(now, entries, short.saturating_sub(taken), Entry::surplus);
    }

    /// Asks `wanted` back from what `surplus` says that each can give, in
    /// proportion to it; says how much was asked.
    fn take(&mut self, now: Instant, entries: &mut [Entry], wanted: u64, surplus: fn(&Entry) -> u64) -> u64 {
        if wanted == 0 {
            return 0;
        }
        let all: u64 = entries.iter().map(surplus).sum();
        let wanted = wanted.min(all);
        let mut missing = wanted;
        for entry in entries {
            let (whole, remainder) = fraction(surplus(entry), wanted, all.max(1));
            let part = (whole + u64::from(remainder > 0)).min(missing);
            missing -= part;
            if part > 0 {
                entry.promised -= part;
                self.shrink_to(now, entry.id, bytes(entry.promised));
            }
        }
        wanted
    }

    fn shrink_to(&mut self, now: Instant, id: VmId, level: Bytes) {
        let Some(machine) = self.vm(id).and_then(|vm| vm.machine.as_ref()) else { return };
        let promise = machine.plan_within(now, level, machine.charge());
        if machine.charge_with(promise) <= machine.charge() {
            self.order(now, id, promise);
        }
    }
}

//! One decision: who gets what, who gives what back, who may start.
//!
//! ```text
//! elastic VMs ──▶ entitle: what each should have   (minimum, demand, buffer: ranks)
//!             ──▶ grant:   what fits now is given  (demand, then resets, then buffers)
//!             ──▶ admit:   starts take what nobody is entitled to
//!             ──▶ hopes:   growth that is expected takes what is left
//!             ──▶ reclaim: what was missing is asked back from surplus, and only that
//! ```
//! Shares are weighted max-min within a rank ([`crate::share()`]); a rank is
//! served only when the one before is. Memory on its way back counts as coming
//! once, so nothing is asked twice.

mod entry;
mod outlook;
mod restarts;

use dynmem_units::Bytes;

pub(super) use self::{entry::Entry, outlook::Outlook};
use self::{
    entry::{blocks, bytes, of_one},
    restarts::{Restart, within_reach},
};
use super::{Engine, PendingStart};
use crate::{
    Instant, Rank, VmId, VmState,
    share::{fraction, share_among},
    vm::Machine,
};

/// For so long after somebody was short, headroom waits: reclaim is patient.
const PATIENCE_MS: u64 = 5_000;
/// Headroom that is missing is asked for when it is this much. Blocks: 32 MiB.
const HEADROOM_STEP: u64 = 16;
/// A start that waits longer than this for reclaimed memory is refused.
const START_PATIENCE_MS: u64 = 120_000;
/// Before orders, so many machines are looked at together: then the processor
/// waits for their memory once, and not for one after another.
const AT_ONCE: usize = 16;

/// Grants `growing` VMs the level that `rank` says, zero for nothing: in full if
/// that fits, else what is free by weight. Memory on its way back from a VM is
/// its own again for free.
fn grant(growing: &mut [&mut Entry], purse: &mut Purse, rank: impl Fn(&Entry) -> u32) {
    let floor = |entry: &Entry| entry.granted.max(entry.covered).min(rank(entry));
    let all = purse.free + growing.iter().map(|entry| u64::from(floor(entry))).sum::<u64>();
    let mut left = all;
    let claim = |entry: &&mut Entry| entry.claim(floor(entry), rank(entry));
    share_among(all, growing, claim, |entry, level| {
        entry.granted = entry.granted.max(level);
        left = left.saturating_sub(u64::from(level));
    });
    purse.free = left;
}

/// Says what every VM should have of the room: minimum, then what it needs now,
/// then what it needed lately, then buffers, of which `held_back` blocks of room
/// are withheld. Names the rank that can't be served in full, if there is one.
fn entitle(survey: &mut Survey, held_back: u64) -> Option<Rank> {
    let Survey { entries, room, needs, demands, targets, .. } = survey;
    let left = room.saturating_sub(held_back);
    if *targets <= left {
        return None;
    }
    // Needs are shared as wholes. What goes on top of them is shared for itself,
    // or whoever needs much would have nothing of it.
    if *needs > *room {
        let claim = |entry: &Entry| entry.claim(entry.floor, entry.needs);
        share_among(*room, entries, claim, |entry, share| entry.entitled = share);
        Some(Rank::Need)
    } else if *demands > *room {
        let claim = |entry: &Entry| entry.claim(0, entry.demand - entry.needs);
        share_among(*room - *needs, entries, claim, |entry, share| entry.entitled = entry.needs + share);
        Some(Rank::Demand)
    } else {
        let claim = |entry: &Entry| entry.claim(0, entry.target - entry.demand);
        let on_top = left.saturating_sub(*demands);
        share_among(on_top, entries, claim, |entry, share| entry.entitled = entry.demand + share);
        Some(Rank::Buffer)
    }
}

/// The memory that a decision has to work with. Blocks.
pub(super) struct Purse {
    /// Not charged to anybody.
    pub(super) free: u64,
    /// Asked back, and not back yet.
    pub(super) returning: u64,
    /// Needed and not given.
    pub(super) short: u64,
    /// Expected to be needed, and not there: only idle memory is asked back for
    /// this.
    pub(super) wished: u64,
}

impl Purse {
    /// `bytes` in blocks, the last one whole.
    pub(super) fn blocks(bytes: Bytes) -> u64 {
        blocks(bytes.align_up(Bytes::BLOCK))
    }

    pub(super) fn bytes(blocks: u64) -> Bytes {
        bytes(blocks)
    }
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
    /// The sum of what may be missing from buffers, and the largest growth that
    /// any of them has shown. Blocks.
    slack: u64,
    surge_max: u64,
    /// Machines held before a reset, and the blocks that each needs.
    resets: Vec<(VmId, u64)>,
    /// Machines that page.
    paging: Vec<VmId>,
}

impl Engine {
    /// Decides now. See the module's head.
    pub(super) fn decide(&mut self, now: Instant) {
        self.due = false;
        self.decided_at = now;
        self.decisions += 1;
        let (survey, restarts, held_back, short_of) = self.claims(now);
        let Survey { mut entries, mut purse, room, targets, slack, surge_max, paging, .. } = survey;

        let mut growing = Vec::with_capacity(entries.len());
        growing.extend(entries.iter_mut().filter(|entry| entry.wants()));
        grant(&mut growing, &mut purse, |entry| if entry.in_need() { entry.demand.min(entry.entitled) } else { 0 });
        let waiting = self.serve_restarts(now, restarts, &mut purse);
        self.relieve_paging(now, &paging, &mut purse);
        grant(&mut growing, &mut purse, |entry| entry.entitled);
        self.order_growth(now, &mut growing, &mut purse);
        // Only surplus above target is touched for a start; a stuck VM's target is what it holds.
        let spare = room.saturating_sub(targets).saturating_sub(held_back);
        let spare = self.serve_resizes(now, &mut purse, spare);
        self.admit_starts(now, &mut purse, spare);
        if purse.short > 0 || short_of.is_some() {
            self.short_at = now;
        } else {
            // What refilling every buffer may take is not spent on hopes: the
            // next relief must find it.
            let kept = slack.min(purse.free);
            purse.free -= kept;
            self.serve_hopes(now, &mut entries, &mut purse);
            purse.free += kept;
            self.wish_headroom(now, &entries, &mut purse, surge_max);
        }
        self.hungry = purse.short > 0 || purse.wished > 0;
        self.headroom = bytes(purse.wished);
        let orders = self.effects.len();
        self.reclaim(now, &entries, &purse);
        if let Some(waiting) = waiting.filter(|_| self.effects.len() == orders && purse.returning == 0) {
            self.page_instead(now, waiting);
        }
        self.entries = entries;
    }

    /// Who should have what: the entries, the restarts that are within reach, what
    /// is held back from buffers, and what there is not enough of.
    fn claims(&mut self, now: Instant) -> (Survey, Vec<Restart>, u64, Option<Rank>) {
        let mut survey = self.survey(now);
        let left = survey.room.saturating_sub(survey.demands);
        let restarts = within_reach(std::mem::take(&mut survey.resets), left, |id| self.may_page(now, id));
        let resets: u64 = restarts.iter().map(|restart| restart.takes).sum();
        let held_back = resets + self.paging_needs(&survey.paging);
        let short_of = entitle(&mut survey, held_back);
        (survey, restarts, held_back, short_of)
    }

    /// Everybody has demand and buffer: what is left is for growth that is
    /// expected now.
    fn serve_hopes(&mut self, now: Instant, entries: &mut [Entry], purse: &mut Purse) {
        let settled = |id| self.machine(id).is_some_and(|machine| machine.demand.settled(now));
        let mut hoping: Vec<_> = entries.iter_mut().filter(|entry| entry.hopes(|| settled(entry.id))).collect();
        grant(&mut hoping, purse, |entry| entry.hope);
        for entry in hoping {
            purse.free += u64::from(entry.granted.saturating_sub(entry.covered));
            let charge = self.machine(entry.id).map_or(Bytes::ZERO, Machine::charge);
            let reached = self.grow_to(now, entry, charge, purse);
            purse.wished += u64::from(entry.hope.saturating_sub(reached.max(entry.covered)));
            entry.promised = reached;
        }
    }

    /// Once nobody has been short for a while, memory is wished for the largest
    /// growth that any guest may begin.
    fn wish_headroom(&self, now: Instant, entries: &[Entry], purse: &mut Purse, surge_max: u64) {
        // Everybody has been promised where it comes from: nobody lacks more than the surge.
        let enough = surge_max < purse.free + HEADROOM_STEP;
        if enough || now.millis_since(self.short_at) < PATIENCE_MS {
            return;
        }
        let exposure = |entry: &Entry| {
            let vm = self.vm(entry.id)?;
            Some(entry.exposure(now, vm, vm.machine.as_ref()?, surge_max))
        };
        let missing = entries.iter().filter_map(exposure).max().unwrap_or(0).saturating_sub(purse.free);
        // The pool is refilled in pieces that are worth an operation.
        if missing >= HEADROOM_STEP {
            purse.wished = purse.wished.max(missing);
        }
    }

    /// Lets demand sink to now, and collects all that a decision looks at, in
    /// one pass: with ten thousand VMs, reading them is most of the work.
    fn survey(&mut self, now: Instant) -> Survey {
        let mut entries = std::mem::take(&mut self.entries);
        entries.clear();
        entries.reserve(self.vms.len());
        let (mut resets, mut paging) = (Vec::new(), Vec::new());
        let (mut needs, mut demands, mut targets, mut slack, mut surge_max) = (0, 0, 0, 0, Bytes::ZERO);
        let (mut charged, mut elastic, mut returning) = (Bytes::ZERO, Bytes::ZERO, Bytes::ZERO);
        for (id, vm) in (0_u32..).map(VmId).zip(&mut self.vms) {
            let Some(vm) = vm.as_mut() else { continue };
            let Some(machine) = vm.machine.as_mut() else { continue };
            if machine.silent_since.is_none() {
                machine.demand.sink(now);
            }
            let charge = machine.charge();
            charged = charged.saturating_add(charge);
            if machine.pages {
                paging.push(id);
            }
            if machine.waits_for_memory() && vm.state == VmState::Starting {
                let needs = machine.reset_needs(machine.after_reset(&vm.settings));
                resets.push((id, blocks(needs.align_up(Bytes::BLOCK))));
            }
            let Some(machine) = vm.elastic() else { continue };
            let covered = charge.saturating_sub(machine.devices.overhead);
            elastic = elastic.saturating_add(covered);
            // Asked back, and the devices still hold it, or may.
            let outstanding = covered.saturating_sub(machine.promise.assigned());
            returning = returning.saturating_add(machine.stall.coming(now, outstanding, machine.devices.assigned()));
            let entry = Entry::new(now, id, vm, machine, covered);
            needs += u64::from(entry.needs);
            demands += u64::from(entry.demand);
            targets += u64::from(entry.target);
            slack += u64::from(entry.slack);
            surge_max = surge_max.max(machine.growth.surge());
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
        Survey { entries, purse, room, needs, demands, targets, slack, surge_max: blocks(surge_max), resets, paging }
    }

    /// The charges of some machines, at most [`AT_ONCE`].
    fn charges<'a>(&self, some: impl Iterator<Item = &'a Entry>) -> [Bytes; AT_ONCE] {
        let mut charges = [Bytes::ZERO; AT_ONCE];
        for (charge, entry) in charges.iter_mut().zip(some) {
            *charge = self.machine(entry.id).map_or(Bytes::ZERO, Machine::charge);
        }
        charges
    }

    /// Orders what the entries were granted, and counts what they still lack.
    fn order_growth(&mut self, now: Instant, growing: &mut [&mut Entry], purse: &mut Purse) {
        self.effects.reserve(growing.len());
        for some in growing.chunks_mut(AT_ONCE) {
            let charges = self.charges(some.iter().map(|entry| &**entry));
            for (entry, charge) in some.iter_mut().zip(charges) {
                let wanted = entry.entitled;
                purse.free += u64::from(entry.granted.saturating_sub(entry.covered));
                let reached = self.grow_to(now, entry, charge, purse);
                purse.short += u64::from(wanted.saturating_sub(reached.max(entry.covered)));
                // What was set aside for it is spent now, or free again.
                entry.granted = 0;
                let waits = reached < wanted;
                if reached == entry.promised && waits == entry.waiting {
                    continue; // nothing has changed: its machine needn't be looked at
                }
                entry.promised = reached;
                let Some(machine) = self.vm_mut(entry.id).and_then(|vm| vm.machine.as_mut()) else { continue };
                machine.waiting = waits;
                entry.covered = of_one(blocks(machine.charge().saturating_sub(machine.devices.overhead)));
            }
        }
    }

    /// Orders what was granted, or as much of it as is really free: the two
    /// devices move in whole steps, and while they trade places both count.
    /// `charge`: the machine's own, before.
    fn grow_to(&mut self, now: Instant, entry: &Entry, charge: Bytes, purse: &mut Purse) -> u32 {
        let mut level = entry.granted;
        if level <= entry.promised {
            return entry.promised;
        }
        let Some(machine) = self.machine(entry.id) else { return entry.promised };
        for _ in 0..4 {
            if level <= entry.promised {
                break;
            }
            let affordable = charge.saturating_add(bytes(purse.free));
            let promise = machine.plan_within(now, bytes(u64::from(level)), affordable);
            let more = blocks(machine.charge_with(promise).saturating_sub(charge).align_up(Bytes::BLOCK));
            if more <= purse.free {
                purse.free -= more;
                purse.returning =
                    purse.returning.saturating_sub(u64::from(level - entry.promised).saturating_sub(more));
                self.order(now, entry.id, promise);
                return level;
            }
            level = level.saturating_sub(of_one(more - purse.free));
        }
        entry.promised
    }

    /// Lets waiting starts go in the order in which they were asked.
    fn admit_starts(&mut self, now: Instant, purse: &mut Purse, mut spare: u64) {
        while let Some(&start) = self.starts.front() {
            let PendingStart { vm: id, overhead, since, .. } = start;
            let Some(vm) = self.vm(id) else {
                self.starts.pop_front();
                continue;
            };
            let needs = vm.start_needs(overhead);
            let wanted = blocks(needs.align_up(Bytes::BLOCK));
            if wanted <= purse.free && wanted <= spare {
                purse.free -= wanted;
                spare -= wanted;
                self.starts.pop_front();
                self.admit(now, id, overhead);
            } else if let Some(memory) = self.paged_start(now, start, purse, wanted.min(spare)) {
                let takes = blocks(memory.saturating_add(overhead).align_up(Bytes::BLOCK));
                (purse.free, spare) = (purse.free.saturating_sub(takes), spare.saturating_sub(takes));
                self.starts.pop_front();
                self.admit_paged(now, start, memory);
            } else if (wanted <= spare || self.waits_to_page(start, spare))
                && now.millis_since(since) < START_PATIENCE_MS
            {
                purse.short += wanted.min(spare).saturating_sub(purse.free);
                purse.free = 0;
                return; // the next in line waits behind this one
            } else {
                self.starts.pop_front();
                // What others were asked for and did not give is not available.
                self.refuse_start(id, needs, bytes(if wanted <= spare { purse.free } else { spare }));
            }
        }
    }

    /// Asks back what is short and not coming yet, from everybody's surplus in
    /// proportion to it; what is only wished, from what nobody will miss.
    fn reclaim(&mut self, now: Instant, entries: &[Entry], purse: &Purse) {
        let wanted = (purse.short + purse.wished).saturating_sub(purse.returning);
        if wanted == 0 {
            return;
        }
        let surplus = |entry: &Entry| if purse.short > 0 { entry.surplus() } else { entry.idle_surplus() };
        let mut giving = Vec::with_capacity(entries.len());
        giving.extend(entries.iter().filter(|entry| surplus(entry) > 0));
        self.effects.reserve(giving.len()); // growing it by and by copies it several times
        let all: u64 = giving.iter().map(|entry| u64::from(surplus(entry))).sum();
        let wanted = wanted.min(all);
        let mut missing = wanted;
        for some in giving.chunks(AT_ONCE) {
            let charges = self.charges(some.iter().copied());
            for (entry, charge) in some.iter().zip(charges) {
                let (whole, remainder) = fraction(u64::from(surplus(entry)), wanted, all);
                let part = (whole + u64::from(remainder > 0)).min(missing);
                if part == 0 {
                    return;
                }
                missing -= part;
                self.shrink_to(now, entry.id, bytes(u64::from(entry.promised) - part), charge);
            }
        }
    }

    pub(super) fn shrink_to(&mut self, now: Instant, id: VmId, level: Bytes, charge: Bytes) {
        let Some(machine) = self.machine(id) else { return };
        let promise = machine.plan_within(now, level, charge);
        if machine.charge_with(promise) <= charge {
            self.order(now, id, promise);
        }
    }
}

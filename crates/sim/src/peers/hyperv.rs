//! *Hyper-V*: its Dynamic Memory, as documented.
//!
//! Source: Microsoft's documentation of Dynamic Memory, and what Linux's
//! `hv_balloon` driver reports: demand is what the guest has committed and the
//! driver's floor (memory that its kernel can't do without). A VM's target is
//! demand and the buffer on top, between minimum and maximum. Guests report once
//! a second, and the host reacts as often. Memory is given at once while it is
//! free, by deflating the balloon and then by hot-add; it is taken only when
//! another VM or a start needs it: first what is above everybody's target, then
//! buffers, then what is above the minimums, by weight.
//!
//! How the levels are computed is not published: here it is weighted max-min in
//! each. Its Smart Paging is left out: a restarting VM waits for its memory. In
//! its favour, hot-added memory can be unplugged here. Configuration: the buffer
//! and weight of the VM's own settings, which are Hyper-V's.

use dynmem_core::{Claim, GuestReport, HostConfig, Instant, MemorySettings, share};
use dynmem_units::{Bytes, Percent};

use super::{Balancer, HostView, VmView};
use crate::policy::MachineShape;

const PERIOD_MS: u64 = 1_000;

/// See the module's head.
#[derive(Debug)]
pub(super) struct HyperV;

/// The least that `hv_balloon` asks for a guest of this size.
fn floor(visible: Bytes) -> Bytes {
    let (base, divisor) = match visible.mib() {
        0..128 => (8, 2),
        128..512 => (40, 4),
        512..2048 => (104, 8),
        2048..8192 => (232, 16),
        _ => (488, 32),
    };
    Bytes::from_mib(base).saturating_add(visible.scale(1, divisor))
}

/// What the guest says that it needs.
fn demand(report: &GuestReport) -> Bytes {
    let used = report.visible.saturating_sub(report.available);
    report.committed.unwrap_or(used).saturating_add(floor(report.visible))
}

/// Demand and the buffer.
fn wanted(demand: Bytes, buffer: Percent) -> Bytes {
    demand.saturating_add(buffer.of(demand))
}

fn blocks(size: Bytes) -> u64 {
    size.get() / Bytes::BLOCK.get()
}

fn blocks_up(size: Bytes) -> u64 {
    size.get().div_ceil(Bytes::BLOCK.get())
}

/// One VM in a decision, in blocks.
struct Entry {
    weight: u64,
    minimum: u64,
    /// Between minimum and maximum, as all that follow.
    demand: u64,
    wanted: u64,
    /// What it holds or may take.
    has: u64,
}

impl Entry {
    fn new(vm: &VmView) -> Self {
        let demand = demand(&vm.report);
        let bound = |size: Bytes| blocks_up(size.clamp(vm.minimum, vm.maximum));
        Self {
            weight: vm.weight,
            minimum: blocks_up(vm.minimum),
            demand: bound(demand),
            wanted: bound(wanted(demand, vm.buffer)),
            has: blocks(vm.held.max(vm.target)),
        }
    }
}

/// Shares `capacity` level by level: minimums, demands, buffers, and what each
/// has beyond them.
fn entitle(entries: &[Entry], capacity: u64) -> Vec<u64> {
    let level = |floors: &[u64], ceiling: fn(&Entry) -> u64| {
        let claim = |(entry, floor): (&Entry, &u64)| Claim::new(entry.weight, *floor, ceiling(entry));
        share(capacity, &entries.iter().zip(floors).map(claim).collect::<Vec<_>>())
    };
    let minimums: Vec<_> = entries.iter().map(|entry| entry.minimum).collect();
    let demands = level(&minimums, |entry| entry.demand);
    let buffers = level(&demands, |entry| entry.wanted);
    level(&buffers, |entry| entry.has)
}

/// Shares what is free now among those who are entitled to more than they have,
/// demand before the rest.
fn grant(entries: &[Entry], entitled: &[u64], free: u64) -> Vec<u64> {
    let claims = |part: fn(&Entry, u64) -> u64| -> Vec<_> {
        let claim = |(entry, entitled): (&Entry, &u64)| Claim::new(entry.weight, 0, part(entry, *entitled));
        entries.iter().zip(entitled).map(claim).collect()
    };
    let urgent = share(free, &claims(|entry, entitled| entitled.min(entry.demand).saturating_sub(entry.has)));
    let left = free.saturating_sub(urgent.iter().sum());
    let rest = share(left, &claims(|entry, entitled| entitled.saturating_sub(entry.has.max(entry.demand))));
    urgent.into_iter().zip(rest).map(|(urgent, rest)| urgent + rest).collect()
}

impl Balancer for HyperV {
    fn period_ms(&self, _waiting: bool) -> u64 {
        PERIOD_MS
    }

    fn makes_room(&self) -> bool {
        true
    }

    fn machine(&self, config: &HostConfig, settings: &MemorySettings) -> MachineShape {
        let plug_max = if settings.dynamic { config.memory.max(settings.maximum) } else { Bytes::ZERO };
        MachineShape { boot: settings.startup, plug_max }
    }

    fn balance(&mut self, _now: Instant, host: &HostView, vms: &mut [VmView]) {
        let entries: Vec<_> = vms.iter().map(Entry::new).collect();
        let held: Bytes = vms.iter().map(|vm| vm.held).sum();
        let all = blocks(host.free.saturating_add(held));
        // A start gets what others have beyond their demand, or nothing.
        let demands: u64 = entries.iter().map(|entry| entry.demand.min(entry.has)).sum();
        let asked = Some(blocks_up(host.asked)).filter(|asked| asked + demands <= all).unwrap_or(0);
        let entitled = entitle(&entries, all - asked);
        let arriving: Bytes = vms.iter().map(|vm| vm.target.saturating_sub(vm.held)).sum();
        let free = blocks(host.free.saturating_sub(arriving)).saturating_sub(asked);
        let granted = grant(&entries, &entitled, free);
        for (index, vm) in vms.iter_mut().enumerate() {
            let has = entries[index].has;
            let new = if entitled[index] > has { has + granted[index] } else { entitled[index] };
            // What it has may be no whole number of blocks, midway in a move.
            let target = if new == has { vm.held.max(vm.target) } else { Bytes::BLOCK.scale(new, 1) };
            vm.target = target.clamp(vm.minimum, vm.maximum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::sample::{host, mib, report, targets, vm};

    /// A VM with a demand: its driver's floor for a guest of no size is 8 MiB.
    fn needs(id: u32, minimum: u64, held: u64, demand: u64) -> VmView {
        let report = GuestReport { committed: Some(mib(demand - 8)), ..report(Bytes::ZERO, Bytes::ZERO) };
        VmView { report, ..vm(id, minimum, 4000, held, 0) }
    }

    fn decide(free: u64, vms: &mut [VmView]) -> Vec<u64> {
        targets(&mut HyperV, 0, &host(10_000, free), vms)
    }

    #[test]
    fn a_buffer_of_a_fifth_on_1000_mib_makes_1200() {
        assert_eq!(wanted(mib(1000), Percent::new(20)), mib(1200));
    }

    /// The driver's own examples: 72 MiB of 128, 168 of 512, 360 of 2048, 744 of
    /// 8192.
    #[test]
    fn a_linux_guest_adds_what_its_kernel_can_not_do_without() {
        let floors = [128, 512, 2048, 8192].map(|visible| floor(mib(visible)).mib());
        assert_eq!(floors, [72, 168, 360, 744]);
        assert_eq!(demand(&GuestReport { committed: Some(mib(500)), ..report(mib(512), mib(12)) }), mib(668));
        assert_eq!(demand(&GuestReport { committed: None, ..report(mib(512), mib(12)) }), mib(668));
    }

    /// Demand 1000, so 1200 are wanted: at once where 500 are free.
    #[test]
    fn memory_that_is_free_is_given_at_once() {
        assert_eq!(decide(500, &mut [needs(0, 200, 600, 1000)]), [1100]);
        assert_eq!(decide(600, &mut [needs(0, 200, 600, 1000)]), [1200]);
    }

    #[test]
    fn nothing_is_taken_that_nobody_needs() {
        assert_eq!(decide(0, &mut [needs(0, 200, 3000, 100), needs(1, 200, 1200, 1000)]), [3000, 1200]);
    }

    /// 1200 + 900 held and nothing free: 2100 for demands of 1000 each. Both
    /// demands fit, and 100 are left for two buffers: 50 each. So the first
    /// gives 150, and only when they are there the second gets them.
    #[test]
    fn buffers_are_given_up_before_demand() {
        let mut vms = [needs(0, 200, 1200, 1000), needs(1, 200, 900, 1000)];
        assert_eq!(decide(0, &mut vms), [1050, 900]);
        vms[0].held = mib(1050);
        assert_eq!(decide(150, &mut vms), [1050, 1050]);
    }

    /// 900 + 550 held for demands of 1000 and 500: by weight 950 and 500, and no
    /// buffer although 550 are there already.
    #[test]
    fn nobody_keeps_a_buffer_while_somebody_lacks_demand() {
        let mut vms = [needs(0, 200, 900, 1000), needs(1, 200, 550, 500)];
        assert_eq!(decide(0, &mut vms), [900, 500]);
        vms[1].held = mib(500);
        assert_eq!(decide(50, &mut vms), [950, 500]);
    }

    /// 1200 in all for demands of 1000 each: weights of 2 : 1 make 800 : 400.
    /// With minimums of 500 the second keeps 500.
    #[test]
    fn above_the_guarantees_weight_decides() {
        let heavy = |minimum| VmView { weight: 2_000, ..needs(0, minimum, 600, 1000) };
        let mut vms = [heavy(200), needs(1, 200, 600, 1000)];
        assert_eq!(decide(0, &mut vms), [600, 400]);
        vms[1].held = mib(400);
        assert_eq!(decide(200, &mut vms), [800, 400]);
        assert_eq!(decide(0, &mut [heavy(500), needs(1, 500, 600, 1000)]), [600, 500]);
    }

    /// A start asks for 400; the VM holds 1200 for a demand of 1000, and 100
    /// are free: 300 are missing and 200 can be had, so it waits in vain. With
    /// 200 free the buffer is given up for it, and nobody grows meanwhile.
    #[test]
    fn a_start_gets_buffers_and_never_demand() {
        let asking = |free| HostView { asked: mib(400), ..host(10_000, free) };
        assert_eq!(targets(&mut HyperV, 0, &asking(100), &mut [needs(0, 200, 1200, 1000)]), [1200]);
        assert_eq!(targets(&mut HyperV, 0, &asking(200), &mut [needs(0, 200, 1200, 1000)]), [1000]);
    }
}

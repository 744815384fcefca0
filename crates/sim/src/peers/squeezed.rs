//! *squeezed*: the ballooning daemon of the Xen toolstack (XAPI).
//!
//! Source: squeezed's `squeeze.ml` and its design notes. All VMs are squeezed
//! alike: with what would be surplus if everybody were at minimum,
//! γ = surplus ÷ Σ(maximum − minimum), each VM's target is minimum + γ·(maximum
//! − minimum). No demand is looked at. 72 MiB stay free, and a start's memory is
//! added to that until it is there.
//!
//! A run begins every 10 s, or with a start, and goes on each second until all
//! are where they should be. In a run, a VM that is off its target (by more than
//! 4 KiB) and makes no progress for 5 s is inactive: it keeps what it holds, and
//! the others are squeezed harder. Memory is first freed, then given, which is
//! the original's guard: what it gives is free.

use std::collections::BTreeMap;

use dynmem_core::{Instant, VmId};
use dynmem_units::Bytes;

use super::{Balancer, HostView, VmView};

const RUN_MS: u64 = 10_000;
const STEP_MS: u64 = 1_000;
const KEPT_FREE: Bytes = Bytes::from_mib(72);
const INACCURACY: Bytes = Bytes::new(4 << 10);
const INACTIVE_AFTER_MS: u64 = 5_000;

/// What a run has seen of a VM.
#[derive(Debug)]
struct Seen {
    held: Bytes,
    progress_at: Instant,
    inactive: bool,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Squeezed {
    /// The VMs of the run under way; empty between runs.
    run: BTreeMap<VmId, Seen>,
}

fn off_target(vm: &VmView, target: Bytes) -> bool {
    vm.held.get().abs_diff(target.get()) > INACCURACY.get()
}

impl Squeezed {
    /// Notes progress; true if the VM is active.
    fn watch(&mut self, now: Instant, vm: &VmView) -> bool {
        let fresh = Seen { held: vm.held, progress_at: now, inactive: false };
        let seen = self.run.entry(vm.id).or_insert(fresh);
        let towards = if vm.target > vm.held { vm.held > seen.held } else { vm.held < seen.held };
        // Time at the target is not time without progress.
        if towards || !off_target(vm, vm.target) {
            seen.progress_at = now;
        }
        seen.inactive |= now.millis_since(seen.progress_at) > INACTIVE_AFTER_MS;
        seen.held = vm.held;
        !seen.inactive
    }
}

/// Where each active VM should be.
fn proportional(host: &HostView, active: &[&VmView]) -> Vec<Bytes> {
    let goal = KEPT_FREE.saturating_add(host.asked);
    let inaccuracy = INACCURACY.scale(2, 1);
    let freeable = active.iter().map(|vm| vm.held.saturating_sub(vm.minimum).saturating_sub(inaccuracy)).sum();
    let surplus = host.free.saturating_add(freeable).saturating_sub(goal);
    let range = |vm: &VmView| vm.maximum.saturating_sub(vm.minimum);
    let ranges: Bytes = active.iter().map(|vm| range(vm)).sum();
    let above = |vm: &VmView| match ranges {
        Bytes::ZERO => Bytes::ZERO,
        _ => range(vm).scale(surplus.min(ranges).get(), ranges.get()),
    };
    active.iter().map(|vm| vm.minimum.saturating_add(above(vm))).collect()
}

impl Balancer for Squeezed {
    fn period_ms(&self, waiting: bool) -> u64 {
        if waiting || !self.run.is_empty() { STEP_MS } else { RUN_MS }
    }

    fn makes_room(&self) -> bool {
        true
    }

    fn margin(&self) -> Bytes {
        KEPT_FREE
    }

    fn balance(&mut self, now: Instant, host: &HostView, vms: &mut [VmView]) {
        self.run.retain(|id, _| vms.iter().any(|vm| vm.id == *id));
        let active: Vec<_> = vms.iter().map(|vm| self.watch(now, vm)).collect();
        let of_active: Vec<_> = vms.iter().zip(&active).filter_map(|(vm, active)| active.then_some(vm)).collect();
        let targets = proportional(host, &of_active);
        let shrinks = |vm: &VmView, target: Bytes| target < vm.held && off_target(vm, target);
        let freeing = of_active.iter().zip(&targets).any(|(vm, target)| shrinks(vm, *target));
        let mut done = true;
        let mut targets = targets.into_iter();
        for (vm, active) in vms.iter_mut().zip(active) {
            if !active {
                vm.target = vm.target.min(vm.held).clamp(vm.minimum, vm.maximum);
                continue;
            }
            let Some(target) = targets.next() else { continue };
            done &= !off_target(vm, vm.target);
            if freeing == shrinks(vm, target) {
                done &= target == vm.target;
                vm.target = target;
            }
        }
        if done {
            self.run.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::sample::{host, mib, targets, vm};

    /// Free 1000, goal 72. Freeable: 1500 − 500 and 1000 − 1000, less 8 KiB
    /// each where there is something. Surplus = 1000 + 1000 − 72 = 1928 (and
    /// 8 KiB less); the ranges are 3000 + 1000 = 4000: γ = 0.482. Targets:
    /// 500 + 1446 and 1000 + 482, whatever the guests use.
    #[test]
    fn all_are_squeezed_alike() {
        let mut vms = [vm(0, 500, 3500, 1500, 1400), vm(1, 1000, 2000, 1000, 10)];
        assert_eq!(targets(&mut Squeezed::default(), 0, &host(4_000, 1_000), &mut vms), [1945, 1481]);
    }

    #[test]
    fn with_enough_for_all_everybody_is_at_maximum() {
        let mut vms = [vm(0, 500, 3500, 1500, 1400), vm(1, 1000, 2000, 1000, 10)];
        assert_eq!(targets(&mut Squeezed::default(), 0, &host(9_000, 4_000), &mut vms), [3500, 2000]);
    }

    /// A start asks for 500: goal 572. Surplus = 72 + (2000 − 500) + (700 −
    /// 500) − 572 = 1200; ranges 1500 each: γ = 0.4, so 1100 each. In the first
    /// phase only the first is told, to free 900; then the second grows.
    #[test]
    fn shrinks_come_first_and_a_start_counts() {
        let mut squeezed = Squeezed::default();
        let asking = HostView { asked: mib(500), ..host(3_000, 72) };
        let mut vms = [vm(0, 500, 2000, 2000, 100), vm(1, 500, 2000, 700, 100)];
        assert_eq!(targets(&mut squeezed, 0, &asking, &mut vms), [1099, 700]);
        assert_eq!(squeezed.period_ms(false), 1_000, "the run goes on");
        vms[0].held = vms[0].target;
        let asking = HostView { asked: mib(500), ..host(3_000, 972) };
        assert_eq!(targets(&mut squeezed, 1_000, &asking, &mut vms)[1], 1099);
    }

    /// Nothing is free and both are 1000 above minimum: surplus 2000 − 72 =
    /// 1928 of ranges of 4000, so 500 + 964 each. The first does not move: after
    /// 5 s the second alone must free the 72. Its surplus is then 36 free + 964
    /// − 72 = 928 of its range of 2000: 500 + 928.
    #[test]
    fn a_vm_without_progress_is_left_out_after_five_seconds() {
        let mut squeezed = Squeezed::default();
        let mut vms = [vm(0, 500, 2500, 1500, 100), vm(1, 500, 2500, 1500, 100)];
        assert_eq!(targets(&mut squeezed, 0, &host(3_000, 0), &mut vms), [1463, 1463]);
        vms[1].held = vms[1].target;
        for second in 1..=5 {
            targets(&mut squeezed, second * 1_000, &host(3_000, 36), &mut vms);
        }
        assert_eq!(vms[1].target.mib(), 1463, "not yet");
        assert_eq!(targets(&mut squeezed, 6_000, &host(3_000, 36), &mut vms)[1], 1427);
        assert_eq!(vms[0].target.mib(), 1463, "it keeps the order that it had");
    }

    #[test]
    fn a_run_ends_when_all_are_where_they_should_be() {
        let mut squeezed = Squeezed::default();
        let mut vms = [vm(0, 500, 2000, 2000, 100)];
        targets(&mut squeezed, 0, &host(3_000, 900), &mut vms);
        assert_eq!(squeezed.period_ms(false), 10_000);
        assert_eq!(squeezed.period_ms(true), 1_000, "a start waits");
    }
}

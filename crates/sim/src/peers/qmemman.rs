//! *qmemman*: Qubes OS's memory manager.
//!
//! Source: Qubes' `qmemman/algo.py` and `systemstate.py`. Each report of a guest
//! is an occasion. A VM prefers max(200 MiB, min(1.3 × used, maximum)), used
//! with what it has swapped; there is no minimum.
//!
//! * Enough for all preferences: what is left is shared in proportion to them,
//!   and what maximums leave over evenly.
//! * Too little: those above their preference fall to it; once that memory is
//!   free the others share it in proportion.
//! * Changes of at most 150 MiB in all are not worth it, unless they give 15 MiB
//!   to a VM below its preference, or free memory is too low.
//!
//! 50 MiB stay free. Growth waits up to half a second for the memory that others
//! give, then takes what has come; a VM that gave nothing is left out until it
//! does. That is the original's guard. For a start, those above their preference
//! give 105 % of what is missing, in proportion.
//!
//! Configuration: the original's defaults. Shares are per mille less than
//! everything, as there, so that rounding never promises too much.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dynmem_core::{Instant, VmId};
use dynmem_units::Bytes;

use super::{Balancer, HostView, VmView};

const MIB: i128 = 1 << 20;
const PREFERRED_LEAST: i128 = 200 * MIB;
const KEPT_FREE: i128 = 50 * MIB;
const FREE_AT_START: Bytes = Bytes::from_mib(25);
const SIGNIFICANT: i128 = 150 * MIB;
const SIGNIFICANT_BELOW_PREFERENCE: i128 = 15 * MIB;
/// Those with less to give have given already.
const WORTH_GIVING: i128 = 10 * MIB;
const STEP_MS: u64 = 100;
const PATIENCE_MS: u64 = 500;
/// Nothing happens without a report: this only bounds the silence.
const IDLE_MS: u64 = 10_000;

/// A VM (by its place in the list) and its new target.
type Request = (usize, i128);

/// Requests that are carried out one by one.
#[derive(Debug)]
struct Pending {
    requests: VecDeque<(VmId, i128)>,
    /// What each VM had before the first.
    before: BTreeMap<VmId, i128>,
    since: Instant,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Qmemman {
    pending: Option<Pending>,
    /// VMs that did not give what they were asked for.
    stuck: BTreeSet<VmId>,
    /// Who gives for a start: what it had, and since when.
    giving: BTreeMap<VmId, (i128, Instant)>,
}

fn bytes(size: Bytes) -> i128 {
    i128::from(size.get())
}

fn set(vm: &mut VmView, target: i128) {
    vm.target = Bytes::new(u64::try_from(target).unwrap_or(0));
}

/// What a VM would like to have.
fn preferred(vm: &VmView) -> i128 {
    let report = &vm.report;
    let used = report.visible.saturating_sub(report.available).saturating_add(report.swap_used);
    bytes(used.scale(13, 10).min(vm.maximum)).max(PREFERRED_LEAST)
}

/// What a VM has or may take.
fn actual(vm: &VmView) -> i128 {
    bytes(vm.held.max(vm.target))
}

/// Free memory that nobody has been promised.
fn free(host: &HostView, vms: &[VmView]) -> i128 {
    bytes(host.free) - vms.iter().map(|vm| bytes(vm.target.saturating_sub(vm.held))).sum::<i128>()
}

/// All get their preference and a share of the rest. Those who give come first.
fn plenty(vms: &[VmView], taking_part: &[usize], rest: i128) -> Vec<Request> {
    let preferences: i128 = taking_part.iter().map(|at| preferred(&vms[*at])).sum();
    let (mut left, mut open) = (0, 0);
    let mut requests = Vec::with_capacity(taking_part.len());
    for at in taking_part {
        let (preferred, maximum) = (preferred(&vms[*at]), bytes(vms[*at].maximum));
        let target = (preferred + preferred * rest / preferences) * 999 / 1000;
        left += (target - maximum).max(0);
        open += i128::from(target <= maximum);
        requests.push((*at, target.min(maximum)));
    }
    while left > 0 && open > 0 {
        let bonus = left / open * 999 / 1000;
        left = 0;
        for (at, target) in &mut requests {
            let maximum = bytes(vms[*at].maximum);
            if *target < maximum {
                left += (*target + bonus - maximum).max(0);
                open -= i128::from(*target + bonus >= maximum);
                *target = maximum.min(*target + bonus);
            }
        }
    }
    let (mut giving, taking): (Vec<_>, Vec<_>) =
        requests.into_iter().partition(|(at, target)| *target < actual(&vms[*at]));
    giving.extend(taking);
    giving
}

/// Those above their preference fall to it; what is free beside what they give
/// (which is not there yet) is shared by the others.
fn shortage(vms: &[VmView], taking_part: &[usize], mut free: i128) -> Vec<Request> {
    let gives = |vm: &VmView| preferred(vm) < actual(vm) || actual(vm) >= bytes(vm.maximum);
    let (donors, takers): (Vec<_>, Vec<_>) = taking_part.iter().copied().partition(|at| gives(&vms[*at]));
    let mut requests = Vec::with_capacity(taking_part.len());
    for at in donors {
        let surplus = actual(&vms[at]) - preferred(&vms[at]);
        if surplus >= WORTH_GIVING {
            free -= surplus;
            requests.push((at, preferred(&vms[at])));
        }
    }
    if free >= 0 {
        let preferences: i128 = takers.iter().map(|at| preferred(&vms[*at])).sum();
        for at in takers {
            let target = actual(&vms[at]) + preferred(&vms[at]) * free / preferences;
            requests.push((at, (target * 999 / 1000).min(bytes(vms[at].maximum))));
        }
    }
    requests
}

/// True if the requests are worth carrying out.
fn significant(vms: &[VmView], requests: &[Request], free: i128) -> bool {
    let relieves = |(at, target): &Request| {
        let last = bytes(vms[*at].target);
        0 < last && last < preferred(&vms[*at]) && target - last > SIGNIFICANT_BELOW_PREFERENCE
    };
    let transfer: i128 = requests.iter().map(|(at, target)| (target - bytes(vms[*at].target)).abs()).sum();
    KEPT_FREE - free > SIGNIFICANT_BELOW_PREFERENCE
        || requests.iter().any(relieves)
        || transfer + (free - KEPT_FREE).abs() > SIGNIFICANT
}

impl Qmemman {
    fn taking_part(&self, vms: &[VmView]) -> Vec<usize> {
        (0..vms.len()).filter(|at| !self.stuck.contains(&vms[*at].id)).collect()
    }

    fn plan(&mut self, now: Instant, host: &HostView, vms: &[VmView]) {
        self.stuck.retain(|id| {
            vms.iter().any(|vm| {
                let gave = actual(vm) <= bytes(vm.target) + KEPT_FREE / 2;
                vm.id == *id && !gave && actual(vm) >= preferred(vm)
            })
        });
        let taking_part = self.taking_part(vms);
        let free = free(host, vms);
        let needed: i128 = taking_part.iter().map(|at| preferred(&vms[*at]) - actual(&vms[*at])).sum();
        let rest = free - KEPT_FREE - needed;
        let requests =
            if rest > 0 { plenty(vms, &taking_part, rest) } else { shortage(vms, &taking_part, free - KEPT_FREE) };
        if significant(vms, &requests, free) {
            let requests = requests.into_iter().map(|(at, target)| (vms[at].id, target)).collect();
            let before = vms.iter().map(|vm| (vm.id, actual(vm))).collect();
            self.pending = Some(Pending { requests, before, since: now });
        }
    }

    /// Carries out what has been planned, as far as there is memory for it.
    fn carry_out(&mut self, now: Instant, host: &HostView, vms: &mut [VmView]) {
        let Some(mut pending) = self.pending.take() else { return };
        while let Some((id, target)) = pending.requests.front().copied() {
            let free = free(host, vms);
            let Some(vm) = vms.iter_mut().find(|vm| vm.id == id) else {
                pending.requests.pop_front();
                continue;
            };
            let enough = free - (target - actual(vm)) >= KEPT_FREE * 9 / 10;
            if !enough && now.millis_since(pending.since) < PATIENCE_MS {
                self.pending = Some(pending);
                return;
            }
            if !enough {
                set(vm, free + actual(vm) - KEPT_FREE);
                let gave_nothing = |vm: &&VmView| {
                    pending.before.get(&vm.id) == Some(&actual(vm)) && actual(vm) > bytes(vm.target) + KEPT_FREE / 4
                };
                self.stuck.extend(vms.iter().filter(gave_nothing).map(|vm| vm.id));
                return;
            }
            set(vm, target);
            pending.requests.pop_front();
            pending.since = now;
        }
    }

    /// Makes those who have too much give for a start; false if that is not
    /// enough for it.
    fn make_room(&mut self, now: Instant, host: &HostView, vms: &mut [VmView]) -> bool {
        if self.giving.is_empty() {
            self.stuck.clear();
        }
        for vm in vms.iter() {
            let Some((had, since)) = self.giving.get_mut(&vm.id) else { continue };
            if *had != actual(vm) {
                (*had, *since) = (actual(vm), now);
            } else if now.millis_since(*since) >= PATIENCE_MS {
                self.stuck.insert(vm.id);
            }
        }
        let free = free(host, vms);
        if free >= bytes(host.asked.saturating_add(FREE_AT_START)) {
            return true;
        }
        let missing = bytes(host.asked) + KEPT_FREE - free;
        let surplus = |vm: &VmView| (actual(vm) - preferred(vm)).max(0);
        let donors = self.taking_part(vms);
        let available: i128 = donors.iter().map(|at| surplus(&vms[*at])).sum();
        if available < missing {
            return false;
        }
        for at in donors {
            let vm = &mut vms[at];
            let given = surplus(vm) * missing / available * 105 / 100;
            if given > 0 {
                let had = actual(vm);
                self.giving.entry(vm.id).or_insert((had, now));
                set(vm, had - given);
            }
        }
        true
    }
}

impl Balancer for Qmemman {
    fn period_ms(&self, waiting: bool) -> u64 {
        if waiting || self.pending.is_some() { STEP_MS } else { IDLE_MS }
    }

    fn on_report(&self) -> bool {
        true
    }

    fn makes_room(&self) -> bool {
        true
    }

    fn margin(&self) -> Bytes {
        FREE_AT_START
    }

    fn balance(&mut self, now: Instant, host: &HostView, vms: &mut [VmView]) {
        self.carry_out(now, host, vms);
        if self.pending.is_some() {
            return;
        }
        if host.asked.is_zero() {
            self.giving.clear();
        } else if self.make_room(now, host, vms) {
            return;
        }
        self.plan(now, host, vms);
        self.carry_out(now, host, vms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::sample::{host, mib, targets, vm};

    fn decide(free: u64, vms: &mut [VmView]) -> Vec<u64> {
        targets(&mut Qmemman::default(), 0, &host(10_000, free), vms)
    }

    /// 1.3 × 1000; never less than 200; never more than maximum; and what is
    /// swapped was used.
    #[test]
    fn a_vm_prefers_three_tenths_more_than_it_uses() {
        let preferred_mib = |vm: &VmView| preferred(vm) / MIB;
        assert_eq!(preferred_mib(&vm(0, 0, 4000, 2000, 1000)), 1300);
        assert_eq!(preferred_mib(&vm(0, 0, 4000, 2000, 100)), 200);
        assert_eq!(preferred_mib(&vm(0, 0, 1200, 1200, 1000)), 1200);
        let mut swapping = vm(0, 0, 4000, 2000, 1000);
        swapping.report.swap_used = mib(1000);
        assert_eq!(preferred_mib(&swapping), 2600);
    }

    /// Preferences 650 and 1300, held 1000 each; free 1050, of which 50 stay.
    /// Needed: −350 + 300 = −50; rest 1000 + 50 = 1050. Shares: 650 + 1050 ÷ 3 =
    /// 1000 and 1300 + 700 = 2000; 0.999 of each.
    #[test]
    fn plenty_is_shared_by_preference() {
        let mut vms = [vm(0, 0, 4000, 1000, 500), vm(1, 0, 4000, 1000, 1000)];
        assert_eq!(decide(1050, &mut vms), [999, 1998]);
    }

    /// As before, but the second's maximum is 1500: of its 1998, 498 are left
    /// over and go to the first (0.999 of them): 999 + 497.5.
    #[test]
    fn what_a_maximum_leaves_goes_to_the_others() {
        let mut vms = [vm(0, 0, 4000, 1000, 500), vm(1, 0, 1500, 1000, 1000)];
        assert_eq!(decide(1050, &mut vms), [1496, 1500]);
    }

    /// Preferences 1300, 1300 and 650, held 1300, 1300 and 650; 1675 to share:
    /// 670, 670 and 335. The first's maximum of 1400 leaves 568 of its 1968 (all
    /// × 0.999), 283.7 for each of the others; the second's maximum of 2000
    /// leaves 251.7 of that, for the third alone: 984 + 283.7 + 251.5.
    #[test]
    fn what_is_left_over_again_goes_to_who_can_take_it() {
        let mut vms = [vm(0, 0, 1400, 1300, 1000), vm(1, 0, 2000, 1300, 1000), vm(2, 0, 4000, 650, 500)];
        assert_eq!(decide(1725, &mut vms), [1400, 2000, 1519]);
    }

    /// Free 50, so nothing to share. Preferences 650 and 2600 of 1000 and 1000
    /// held: 350 − 1600 < 0, a shortage. The first falls to 650, the second gets
    /// nothing yet. When the 350 are there both are at or below their preference
    /// and share it as 650 : 2600: 650 + 70 and 1000 + 280, and of that 0.999.
    #[test]
    fn in_a_shortage_donors_fall_to_their_preference_and_then_acceptors_share() {
        let mut qmemman = Qmemman::default();
        let mut vms = [vm(0, 0, 4000, 1000, 500), vm(1, 0, 4000, 1000, 1000)];
        vms[1].report.swap_used = mib(1000);
        assert_eq!(targets(&mut qmemman, 0, &host(10_000, 50), &mut vms), [650, 1000]);
        vms[0].held = mib(650);
        assert_eq!(targets(&mut qmemman, 500, &host(10_000, 400), &mut vms), [719, 1278]);
    }

    /// Two acceptors prefer 1300 and 650, and 90 are to be shared: 60 and 30 on
    /// top of what they have, and of the sum 0.999.
    #[test]
    fn acceptors_share_by_preference() {
        let mut vms = [vm(0, 0, 4000, 1000, 1000), vm(1, 0, 4000, 500, 500)];
        assert_eq!(decide(140, &mut vms), [1058, 529]);
    }

    /// Preference 260 of 300 held, rest 140 of free 150: target 399.6. That is
    /// 99.6, and 100 free more than the 50: together more than 150. With free
    /// 120 it is 69.6 + 70: left undone.
    #[test]
    fn changes_below_150_mib_are_left_undone() {
        assert_eq!(decide(150, &mut [vm(0, 0, 4000, 300, 200)]), [399]);
        assert_eq!(decide(120, &mut [vm(0, 0, 4000, 300, 200)]), [300]);
        // Below its preference (260 of 240) 15 MiB are enough.
        assert_eq!(decide(80, &mut [vm(0, 0, 4000, 240, 200)]), [269]);
    }

    /// 150 to share in plenty by giving 350 back first: the second's growth
    /// does not fit until the first has given. It waits half a second, then
    /// takes what is free; the first, which gave nothing, is left out.
    #[test]
    fn growth_waits_for_what_others_give_but_not_for_ever() {
        let mut qmemman = Qmemman::default();
        let mut vms = [vm(0, 0, 4000, 2000, 200), vm(1, 0, 4000, 500, 500)];
        // Preferences 260, 650; needed −1590; rest 1590 + 50: 260 + 469, 650 + 1171.
        assert_eq!(targets(&mut qmemman, 0, &host(10_000, 100), &mut vms), [727, 500]);
        assert_eq!(qmemman.period_ms(false), 100);
        assert_eq!(targets(&mut qmemman, 400, &host(10_000, 100), &mut vms), [727, 500]);
        assert_eq!(targets(&mut qmemman, 500, &host(10_000, 100), &mut vms)[1], 550);
        assert!(qmemman.stuck.contains(&VmId(0)), "left out");
    }

    /// A start asks for 290 and nothing is free: 290 + 50 = 340 are missing.
    /// Surplus 1000 − 650 = 350 and 2000 − 650 = 1350, 1700 in all: they give
    /// 70 and 270, and 5 % more: 73.5 and 283.5.
    #[test]
    fn for_a_start_those_give_who_have_too_much() {
        let mut vms = [vm(0, 0, 4000, 1000, 500), vm(1, 0, 4000, 2000, 500), vm(2, 0, 4000, 500, 500)];
        let asking = HostView { asked: mib(290), ..host(10_000, 0) };
        assert_eq!(targets(&mut Qmemman::default(), 0, &asking, &mut vms), [926, 1716, 500]);
    }
}

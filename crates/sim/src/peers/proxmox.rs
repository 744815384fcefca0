//! *Proxmox VE*: its automatic memory allocation.
//!
//! Source: Proxmox VE's `PVE/AutoBalloon.pm` and `pvestatd`. Every 10 s the
//! host's use is compared with 80 % of its memory (the default, and what its
//! makers advise); the difference is spread over the VMs by their shares above
//! minimum, in steps of at most 100 MiB a VM. Guests with little free memory
//! come first when memory is given, those with plenty when it is taken; the
//! guest's own need plays no other part. The weight serves as shares.
//!
//! The original's guard against promising too much is that 80 %.

use dynmem_core::Instant;
use dynmem_units::Bytes;

use super::{Balancer, HostView, VmView};

const PERIOD_MS: u64 = 10_000;
const TARGET_PERCENT: u64 = 80;
const STEP: i128 = 100 << 20;
/// Smaller differences from the host's target are left alone.
const DEADBAND: i128 = 10 << 20;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Proxmox;

/// What is planned for a VM, if anything, beside what it has.
struct Plan {
    minimum: i128,
    maximum: i128,
    shares: i128,
    current: i128,
    planned: Option<i128>,
}

impl Plan {
    fn new(vm: &VmView) -> Self {
        let bytes = |size: Bytes| i128::from(size.get());
        Self {
            minimum: bytes(vm.minimum),
            maximum: bytes(vm.maximum),
            shares: i128::from(vm.weight).max(1),
            current: bytes(vm.held),
            planned: None,
        }
    }

    fn value(&self) -> i128 {
        self.planned.unwrap_or(self.current)
    }
}

/// Spreads `goal` over the listed VMs until nothing changes; gives what could
/// not be spread. A VM above its share shrinks even when memory is given.
fn spread(plans: &mut [Plan], listed: &[usize], goal: i128) -> i128 {
    let mut rest = goal;
    let mut open = listed.to_vec();
    let (mut again, mut moved) = (true, true);
    while rest != 0 && again && moved {
        (again, moved) = (false, false);
        let shares: i128 = open.iter().map(|index| plans[*index].shares).sum();
        let pool = rest + open.iter().map(|index| plans[*index].value() - plans[*index].minimum).sum::<i128>();
        let mut changes = 0;
        open.retain(|index| {
            let plan = &mut plans[*index];
            let wanted = plan.minimum + pool * plan.shares / shares;
            let wanted = if wanted > plan.maximum {
                again = true;
                plan.maximum
            } else if wanted < plan.minimum {
                again = true;
                plan.minimum
            } else {
                wanted
            };
            let new = if goal > 0 && wanted > plan.current {
                wanted.min(plan.current + STEP)
            } else if wanted < plan.current {
                wanted.max(plan.current - STEP)
            } else {
                return false;
            };
            let change = new - plan.value();
            plan.planned = Some(new);
            if change != 0 {
                changes += change;
                (again, moved) = (true, true);
            }
            true
        });
        rest -= changes;
    }
    rest
}

impl Balancer for Proxmox {
    fn period_ms(&self, _waiting: bool) -> u64 {
        PERIOD_MS
    }

    fn balance(&mut self, _now: Instant, host: &HostView, vms: &mut [VmView]) {
        let used = host.memory.saturating_sub(host.available);
        let goal = i128::from(host.memory.scale(TARGET_PERCENT, 100).get()) - i128::from(used.get());
        let mut plans: Vec<_> = vms.iter().map(Plan::new).collect();
        let all: Vec<_> = (0..vms.len()).collect();
        let roomy = |index: &usize| {
            let vm = &vms[*index];
            vm.statistics.free > vm.minimum.scale(1, 4) && vm.held >= vm.minimum
        };
        let (calm, pressed): (Vec<_>, Vec<_>) = all.iter().copied().partition(roomy);
        if goal > DEADBAND {
            let rest = spread(&mut plans, &pressed, goal);
            if rest >= goal {
                spread(&mut plans, &all, rest);
            }
        } else if goal < -DEADBAND {
            let rest = spread(&mut plans, &calm, goal);
            if rest <= goal {
                spread(&mut plans, &all, rest);
            }
        }
        for (vm, plan) in vms.iter_mut().zip(plans) {
            if let Some(planned) = plan.planned {
                vm.target = Bytes::new(u64::try_from(planned).unwrap_or(0));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::sample::{host, targets, vm};

    /// On a host of 10000 MiB the goal is 8000 in use: `missing` of that is.
    fn decide(missing: i64, mut vms: Vec<VmView>) -> Vec<u64> {
        let free = u64::try_from(2_000 + missing).expect("small");
        targets(&mut Proxmox, 0, &host(10_000, free), &mut vms)
    }

    /// Free: 100 of at most 250 (a quarter of the minimum).
    fn pressed(id: u32, held: u64, maximum: u64) -> VmView {
        vm(id, 1000, maximum, held, held - 100)
    }

    /// Free: 400.
    fn calm(id: u32, held: u64) -> VmView {
        vm(id, 1000, 4000, held, held - 400)
    }

    /// 150 for three: pool 0 + 50 + 0 + 150 = 200, 66.7 each above 1000. The
    /// second is clamped to its maximum, 1050, where it stands: done. The others
    /// plan 1066.7, which leaves 16.7. Split again without the second: pool
    /// 133.3 + 16.7 = 150, 75 each.
    #[test]
    fn what_a_clamped_vm_can_not_take_is_split_again() {
        let vms = vec![pressed(0, 1000, 4000), pressed(1, 1050, 1050), pressed(2, 1000, 4000)];
        let is = decide(150, vms);
        assert_eq!(is[1], 1050);
        assert!(is[0].abs_diff(1075) <= 1 && is[2].abs_diff(1075) <= 1, "{is:?}");
    }

    /// 1000 for one: pool 1000, but at most 100 a step.
    #[test]
    fn a_step_is_100_mib() {
        assert_eq!(decide(1000, vec![pressed(0, 1000, 4000)]), [1100]);
        // Taking 300: pool 1000 − 300, so 1700 is wanted, and 1900 is a step.
        assert_eq!(decide(-300, vec![calm(0, 2000)]), [1900]);
    }

    /// Giving 60: the pressed one gets all of it, the calm one nothing. If the
    /// pressed one is at its maximum all share: pool 100 + 500 + 60 = 660, 330
    /// each; the first is clamped to 1100 and done, then the pool is 500 + 60.
    #[test]
    fn memory_is_given_to_the_pressed_first() {
        assert_eq!(decide(60, vec![pressed(0, 1000, 4000), calm(1, 1500)]), [1060, 1500]);
        assert_eq!(decide(60, vec![pressed(0, 1100, 1100), calm(1, 1500)]), [1100, 1560]);
    }

    /// Taking 50: pool of the calm one 500 − 50. With no calm VM all give: pool
    /// 200 + 400 − 50 = 550, 275 each, so the first even grows in plan — but
    /// nobody grows while memory is taken: it is done, and the second alone has
    /// pool 400 − 50 = 350.
    #[test]
    fn memory_is_taken_from_the_calm_first() {
        assert_eq!(decide(-50, vec![pressed(0, 1500, 4000), calm(1, 1500)]), [1500, 1450]);
        assert_eq!(decide(-50, vec![pressed(0, 1200, 4000), pressed(1, 1400, 4000)]), [1200, 1350]);
    }

    /// Giving 100 to two with equal shares: pool 2000 + 0 + 100, 1050 each: the
    /// richer one is asked for memory (2050 is wanted, 2900 a step), the poorer
    /// gets a step.
    #[test]
    fn shares_level_even_when_memory_is_given() {
        assert_eq!(decide(100, vec![pressed(0, 3000, 4000), pressed(1, 1000, 4000)]), [2900, 1100]);
    }

    /// Shares of 3 : 1 and 80 to give: 60 and 20.
    #[test]
    fn shares_decide_what_each_gets() {
        let rich = VmView { weight: 3_000, ..pressed(0, 1000, 4000) };
        assert_eq!(decide(80, vec![rich, pressed(1, 1000, 4000)]), [1060, 1020]);
    }

    #[test]
    fn ten_mib_are_left_alone() {
        assert_eq!(decide(10, vec![pressed(0, 1000, 4000)]), [1000]);
        assert_eq!(decide(11, vec![pressed(0, 1000, 4000)]), [1011]);
        assert_eq!(decide(-10, vec![calm(0, 2000)]), [2000]);
        assert_eq!(decide(-11, vec![calm(0, 2000)]), [1989]);
    }
}

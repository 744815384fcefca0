//! *MOM*: oVirt's Memory Overcommitment Manager, with its default balloon rules.
//!
//! Source: MOM's `balloon.rules` as oVirt's host daemon ships them. Every 5 s
//! host and guests are sampled; every 10 s the rules run over the means of the
//! last ten samples. With H the host's mean free share (page cache counts as
//! free) and *used* = mean(current) − mean(unused, the guest's `MemFree`):
//!
//! * H < 20 %: every VM shrinks, by at most 5 %, towards `used` and H of its
//!   size; at H ≤ 5 % towards less than it uses, so that it swaps.
//! * else: every VM below maximum grows by 5 %, or to `used` and 20 % of its
//!   size if that is more.
//! * changes of 0.25 % and less are left undone.
//!
//! The original has no guard against promising more than the host has; its 20 %
//! serve as one.

use std::collections::{BTreeMap, VecDeque};

use dynmem_core::{Instant, VmId};
use dynmem_units::Bytes;

use super::{Balancer, HostView, VmView};

const SAMPLE_MS: u64 = 5_000;
const SAMPLES: usize = 10;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Mom {
    /// Free memory of the host.
    host: VecDeque<u64>,
    /// Current and unused memory of each guest.
    guests: BTreeMap<VmId, VecDeque<(u64, u64)>>,
    /// The rules run at every second sample.
    odd: bool,
}

fn push<T>(samples: &mut VecDeque<T>, sample: T) {
    samples.push_back(sample);
    if samples.len() > SAMPLES {
        samples.pop_front();
    }
}

fn mean(samples: impl ExactSizeIterator<Item = u64>) -> i128 {
    let count = samples.len().max(1);
    samples.map(i128::from).sum::<i128>() / count as i128
}

impl Mom {
    fn sample(&mut self, host: &HostView, vms: &[VmView]) {
        push(&mut self.host, host.available.get());
        self.guests.retain(|id, _| vms.iter().any(|vm| vm.id == *id));
        for vm in vms {
            push(self.guests.entry(vm.id).or_default(), (vm.held.get(), vm.statistics.free.get()));
        }
    }

    /// What the guest uses, its page cache included.
    fn used(&self, vm: &VmView) -> i128 {
        let Some(samples) = self.guests.get(&vm.id) else { return i128::from(vm.held.get()) };
        mean(samples.iter().map(|(current, _)| *current)) - mean(samples.iter().map(|(_, unused)| *unused))
    }
}

impl Balancer for Mom {
    fn period_ms(&self, _waiting: bool) -> u64 {
        SAMPLE_MS
    }

    fn balance(&mut self, _now: Instant, host: &HostView, vms: &mut [VmView]) {
        self.sample(host, vms);
        self.odd = !self.odd;
        if self.odd {
            return;
        }
        let free = mean(self.host.iter().copied());
        let total = i128::from(host.memory.get()).max(1);
        for vm in vms {
            let current = i128::from(vm.held.get());
            let (minimum, maximum) = (i128::from(vm.minimum.get()), i128::from(vm.maximum.get()));
            let used = self.used(vm);
            let new = if free * 5 < total {
                let critical = if free * 20 <= total { current / 20 } else { 0 };
                let least = minimum.max(used + current * free / total - critical);
                let new = least.max(current - current / 20);
                if new <= current { new } else { continue }
            } else if current < maximum {
                let least = minimum.max(used + current / 5);
                maximum.min(least.max(current + current / 20))
            } else {
                continue;
            };
            if (new - current).abs() * 400 > current {
                vm.target = Bytes::new(u64::try_from(new).unwrap_or(0));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::sample::{host, mib, targets, vm};

    /// The rules run at the second sample: two of the same are their mean.
    fn decide(memory: u64, free: u64, mut vms: Vec<VmView>) -> Vec<u64> {
        let mut mom = Mom::default();
        let before: Vec<_> = vms.iter().map(|vm| vm.target.mib()).collect();
        assert_eq!(targets(&mut mom, 0, &host(memory, free), &mut vms), before, "one sample decides nothing");
        targets(&mut mom, SAMPLE_MS, &host(memory, free), &mut vms)
    }

    /// H = 1500/10000 = 15 % < 20 %. Guest a: used 300 + 15 % of 1000 = 450,
    /// but at most 5 % off: 950. Guest b: used 1800 + 15 % of 2000 = 2100 is
    /// above its 2000: no change. Guest c: 300 + 150 = 450 too, and its minimum
    /// holds it at 980.
    #[test]
    fn under_pressure_each_guest_shrinks_by_a_twentieth_at_most() {
        let vms = vec![vm(0, 256, 4000, 1000, 300), vm(1, 256, 4000, 2000, 1800), vm(2, 980, 4000, 1000, 300)];
        assert_eq!(decide(10_000, 1_500, vms), [950, 2000, 980]);
    }

    /// H = 400/10000 = 4 % ≤ 5 %: the free share is 4 % − 5 % = −1 %. Used 980
    /// of 1000 gives 970: the guest must swap. At H = 5 % it gives 980, at 6 %
    /// (not critical) 1040: no change.
    #[test]
    fn in_a_critical_state_guests_get_less_than_they_use() {
        let guest = || vec![vm(0, 256, 4000, 1000, 980)];
        assert_eq!(decide(10_000, 400, guest()), [970]);
        assert_eq!(decide(10_000, 500, guest()), [980]);
        assert_eq!(decide(10_000, 600, guest()), [1000]);
    }

    /// H = 50 %. Guest a: 1.05 × 1000 = 1050, above its 300 + 200. Guest b:
    /// 1900 + 20 % of 2000 = 2300, above 2100. Guest c: 4080 × 1.05 is above
    /// its maximum, 4096. Guest d is at its maximum.
    #[test]
    fn without_pressure_all_grow_needed_or_not() {
        let vms = vec![
            vm(0, 256, 4096, 1000, 300),
            vm(1, 256, 4096, 2000, 1900),
            vm(2, 256, 4096, 4080, 100),
            vm(3, 256, 4096, 4096, 4000),
        ];
        assert_eq!(decide(20_000, 10_000, vms), [1050, 2300, 4096, 4096]);
    }

    /// From 3991 to a maximum of 4000 are 9, and 0.25 % of 3991 are 9.98: no
    /// move. From 3989 they are 11, against 9.97.
    #[test]
    fn a_quarter_of_a_per_cent_is_left_undone() {
        assert_eq!(decide(20_000, 10_000, vec![vm(0, 256, 4000, 3991, 100)]), [3991]);
        assert_eq!(decide(20_000, 10_000, vec![vm(0, 256, 4000, 3989, 100)]), [4000]);
    }

    /// Ten samples of 30 % free are not forgotten at once: with four samples of
    /// 10 % the mean is (6 × 30 + 4 × 10) ÷ 10 = 22 %, with six it is 18 %.
    #[test]
    fn the_rules_see_the_mean_of_ten_samples() {
        let mut mom = Mom::default();
        let mut vms = [vm(0, 256, 4000, 1000, 300)];
        let mut last = 0;
        for sample in 0..16 {
            let free = if sample < 10 { 3_000 } else { 1_000 };
            vms[0].target = mib(1000);
            last = targets(&mut mom, sample * SAMPLE_MS, &host(10_000, free), &mut vms)[0];
            if sample == 13 {
                assert_eq!(last, 1050);
            }
        }
        assert_eq!(last, 950);
    }
}

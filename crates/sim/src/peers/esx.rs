//! *ESX*: the memory manager of `VMware` ESX as published.
//!
//! Source: C. Waldspurger, *Memory Resource Management in `VMware` ESX
//! Server*, OSDI 2002. Memory is a matter of shares and of use: an idle page costs its
//! owner k = 1 ÷ (1 − τ) times as much as an active one, with a tax τ of 75 %
//! (the default) k = 4. Memory is revoked from the VM that pays least for each of
//! its P pages, of which the fraction f is active: the least
//! ρ = S ÷ (P · (f + k · (1 − f))). When nobody can be found who pays less, all ρ
//! are equal where minimum and maximum allow it: that is the allocation.
//!
//! f is sampled for 30 s at a time; the estimate is the largest of a slow mean, a
//! fast one, and the fast one with what the current period has shown. So it
//! rises at once and falls slowly. (The gains are not published: 1/4 and 3/4
//! here.)
//!
//! Free memory decides whether anything is revoked: not while it is *high*, from
//! 6 % of the host; below 4 % (*soft*) by balloon; below 2 % (*hard*) the original
//! pages as well, which a balloon-only world has no part for; below 1 % (*low*)
//! nobody gets more. A state is left only when the next one's threshold is
//! reached, and revoking goes on until 6 % are free. A start counts as memory that
//! is taken already.
//!
//! Configuration: shares in proportion to the configured memory, as vSphere
//! gives them by default, and to the weight.

use std::collections::BTreeMap;

use dynmem_core::{Claim, Instant, VmId, share};
use dynmem_units::Bytes;

use super::{Balancer, HostView, VmView};

const PERIOD_MS: u64 = 1_000;
const SAMPLE_MS: u64 = 30_000;
const TAX_PERCENT: i128 = 75;
/// The whole of something, as a fraction.
const WHOLE: u64 = 1_000_000;
/// Prices are bytes a share times this.
const PRICE_UNIT: i128 = 1 << 20;

/// How much of the host is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Low,
    Hard,
    Soft,
    #[default]
    High,
}

impl State {
    /// The state after this one with so much free.
    fn next(self, free: i128, memory: i128) -> Self {
        let at_least = |percent| free * 100 >= memory * percent;
        let reached = |high, soft, hard| match () {
            () if at_least(high) => Self::High,
            () if at_least(soft) => Self::Soft,
            () if at_least(hard) => Self::Hard,
            () => Self::Low,
        };
        let (sunk, risen) = (reached(4, 2, 1), reached(6, 4, 2));
        self.min(sunk).max(risen)
    }
}

/// What sampling has shown of a VM: active fractions, in parts of [`WHOLE`].
#[derive(Clone, Copy, Debug)]
struct Sampled {
    since: Instant,
    slow: u64,
    fast: u64,
    current: u64,
}

/// `from` with a share of `quarters` moved towards `to`.
fn mean(from: u64, to: u64, quarters: u64) -> u64 {
    (from * (4 - quarters) + to * quarters) / 4
}

impl Sampled {
    fn observe(&mut self, now: Instant, active: u64) {
        if now.millis_since(self.since) >= SAMPLE_MS {
            self.slow = mean(self.slow, self.current, 1);
            self.fast = mean(self.fast, self.current, 3);
            self.since = now;
        }
        self.current = active;
    }

    fn estimate(&self) -> u64 {
        self.slow.max(self.fast).max(mean(self.fast, self.current, 3))
    }
}

/// One VM's claim, in bytes.
#[derive(Clone, Copy, Debug)]
struct Owner {
    shares: i128,
    minimum: i128,
    maximum: i128,
    active: i128,
}

impl Owner {
    /// What it pays with for `pages`: an idle one counts `k` times.
    fn cost(&self, pages: i128, k: i128) -> i128 {
        pages + (k - 1) * (pages - self.active).max(0)
    }

    /// What it may hold at a price: the bytes that a share is worth, times
    /// [`PRICE_UNIT`].
    fn pages(&self, price: i128, k: i128) -> i128 {
        let funds = self.shares * price / PRICE_UNIT;
        let pages = if funds <= self.active { funds } else { self.active + (funds - self.active) / k };
        pages.clamp(self.minimum, self.maximum)
    }
}

/// Where min-funding revocation comes to rest with `capacity` bytes to share:
/// the largest price at which all fit. `k`: what an idle page costs.
fn allocate(owners: &[Owner], capacity: i128, k: i128) -> Vec<i128> {
    let all_at = |price| owners.iter().map(|owner| owner.pages(price, k)).collect::<Vec<_>>();
    let highest = |owner: &Owner| owner.cost(owner.maximum, k) * PRICE_UNIT / owner.shares + 1;
    let (mut fits, mut above) = (0, owners.iter().map(highest).max().unwrap_or(0) + 1);
    while above - fits > 1 {
        let price = i128::midpoint(fits, above);
        let sum: i128 = owners.iter().map(|owner| owner.pages(price, k)).sum();
        if sum <= capacity { fits = price } else { above = price }
    }
    all_at(fits)
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Esx {
    sampled: BTreeMap<VmId, Sampled>,
    state: State,
}

impl Esx {
    fn sample(&mut self, now: Instant, vms: &[VmView]) {
        self.sampled.retain(|id, _| vms.iter().any(|vm| vm.id == *id));
        for vm in vms {
            let active = Bytes::new(WHOLE).scale(vm.statistics.active.get(), vm.held.get().max(1)).get().min(WHOLE);
            let fresh = Sampled { since: now, slow: active, fast: active, current: active };
            self.sampled.entry(vm.id).or_insert(fresh).observe(now, active);
        }
    }

    fn owner(&self, vm: &VmView) -> Owner {
        let active = self.sampled.get(&vm.id).map_or(WHOLE, Sampled::estimate);
        Owner {
            shares: i128::from(vm.weight.max(1)) * i128::from(vm.maximum.mib().max(1)),
            minimum: i128::from(vm.minimum.get()),
            maximum: i128::from(vm.maximum.get()),
            active: i128::from(vm.held.scale(active, WHOLE).get()),
        }
    }
}

fn blocks(size: Bytes) -> u64 {
    size.get() / Bytes::BLOCK.get()
}

impl Balancer for Esx {
    fn period_ms(&self, _waiting: bool) -> u64 {
        PERIOD_MS
    }

    fn makes_room(&self) -> bool {
        true
    }

    fn balance(&mut self, now: Instant, host: &HostView, vms: &mut [VmView]) {
        self.sample(now, vms);
        let bytes = |size: Bytes| i128::from(size.get());
        let memory = bytes(host.memory);
        let free = bytes(host.free) - bytes(host.asked);
        self.state = self.state.next(free, memory);
        let capacity = free + vms.iter().map(|vm| bytes(vm.held)).sum::<i128>() - memory * 6 / 100;
        let owners: Vec<_> = vms.iter().map(|vm| self.owner(vm)).collect();
        let allocation: Vec<_> = allocate(&owners, capacity, 100 / (100 - TAX_PERCENT))
            .into_iter()
            .map(|size| Bytes::new(u64::try_from(size).unwrap_or(0)))
            .collect();
        let has = |vm: &VmView| vm.held.max(vm.target);
        let growth = |(vm, size): (&VmView, &Bytes)| Claim::new(vm.weight, 0, blocks(size.saturating_sub(has(vm))));
        let arriving: i128 = vms.iter().map(|vm| bytes(vm.target.saturating_sub(vm.held))).sum();
        let room = u64::try_from(free - arriving - memory / 100).unwrap_or(0);
        let room = if self.state == State::Low { 0 } else { blocks(Bytes::new(room)) };
        let grown = share(room, &vms.iter().zip(&allocation).map(growth).collect::<Vec<_>>());
        for ((vm, size), grown) in vms.iter_mut().zip(allocation).zip(grown) {
            let shrinks = size < vm.held && self.state != State::High;
            vm.target = if shrinks { size } else { has(vm).saturating_add(Bytes::BLOCK.scale(grown, 1)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::sample::{host, mib, targets, vm};

    const MIB: i128 = 1 << 20;

    fn owner(shares: i128, active: i128, maximum: i128) -> Owner {
        Owner { shares, minimum: 0, maximum: maximum * MIB, active: active * MIB }
    }

    /// Rounded to the nearest MiB.
    fn allocation(owners: &[Owner], capacity: i128, k: i128) -> Vec<i128> {
        allocate(owners, capacity * MIB, k).into_iter().map(|size| (size + MIB / 2) / MIB).collect()
    }

    /// The published experiment: two VMs of 256 MiB with equal shares, 360 MiB
    /// to share, one idle and one that uses all it has. Untaxed both get 180.
    /// With 75 %: 10 + (x − 10)/4 + x = 360 gives x = 282, more than 256: the
    /// busy one has all of its memory, the idle one the other 104.
    #[test]
    fn the_idle_one_pays_the_tax() {
        let both = [owner(1000, 10, 256), owner(1000, 256, 256)];
        assert_eq!(allocation(&both, 360, 1), [180, 180]);
        assert_eq!(allocation(&both, 360, 4), [104, 256]);
    }

    /// Without a maximum in the way: x + (x / 4) = 360, 288 and 72; an idle page
    /// costs four times as much. With shares of 1 : 4 both get the same again.
    #[test]
    fn an_idle_page_costs_four_times_as_much() {
        assert_eq!(allocation(&[owner(1000, 0, 999), owner(1000, 999, 999)], 360, 4), [72, 288]);
        assert_eq!(allocation(&[owner(4000, 0, 999), owner(1000, 999, 999)], 360, 4), [180, 180]);
    }

    /// ρ of a VM with 200 pages, half of them active: S ÷ (200 × (0.5 + 4 ×
    /// 0.5)) = S ÷ 500. Of one with 300, all active: S ÷ 300. The first pays
    /// less and gives until 100 + 4 × (x − 100) = y with x + y = 450: x = 150,
    /// y = 300.
    #[test]
    fn revocation_takes_from_who_pays_least() {
        let owners = [owner(1000, 100, 999), owner(1000, 300, 999)];
        assert_eq!(owners[0].cost(200 * MIB, 4), 500 * MIB);
        assert_eq!(owners[1].cost(300 * MIB, 4), 300 * MIB);
        assert_eq!(allocation(&owners, 450, 4), [150, 300]);
    }

    /// 2000 and 4000 MiB configured, all of it in use, 3000 to share: 1000 and
    /// 2000. With half its weight the second has what the first has.
    #[test]
    fn shares_follow_weight_and_configured_memory() {
        let mut esx = Esx::default();
        let vms = [vm(0, 100, 2000, 2000, 2000), vm(1, 100, 4000, 4000, 4000)];
        esx.sample(Instant(0), &vms);
        let mut owners = vms.each_ref().map(|vm| esx.owner(vm));
        assert_eq!(allocation(&owners, 3_000, 4), [1000, 2000]);
        owners[1] = esx.owner(&VmView { weight: 500, ..vms[1].clone() });
        assert_eq!(allocation(&owners, 3_000, 4), [1500, 1500]);
    }

    #[test]
    fn a_reservation_is_kept_where_it_does_not_fit() {
        let reserved = Owner { minimum: 300 * MIB, ..owner(1, 0, 999) };
        assert_eq!(allocation(&[reserved, owner(1000, 500, 999)], 400, 4), [300, 100]);
        assert_eq!(allocation(&[reserved, owner(1000, 500, 999)], 100, 4), [300, 0]);
    }

    #[test]
    fn states_are_entered_low_and_left_high() {
        let mut state = State::High;
        let mut at = |free| {
            state = state.next(free, 10_000);
            state
        };
        assert_eq!([600, 400, 399].map(&mut at), [State::High, State::High, State::Soft]);
        assert_eq!([599, 600].map(&mut at), [State::Soft, State::High]);
        assert_eq!([199, 399, 400].map(&mut at), [State::Hard, State::Hard, State::Soft]);
        assert_eq!([99, -5, 199, 200].map(&mut at), [State::Low, State::Low, State::Low, State::Hard]);
    }

    /// Active 1000 of 1000, then nothing. In the first period the fast mean
    /// still says all; after it the slow one says 3/4 and the fast one 1/4.
    #[test]
    fn activity_is_believed_at_once_and_forgotten_slowly() {
        let mut sampled = Sampled { since: Instant(0), slow: 0, fast: 0, current: 0 };
        sampled.observe(Instant(1_000), WHOLE);
        assert_eq!(sampled.estimate(), WHOLE * 3 / 4, "within the period");
        let mut sampled = Sampled { since: Instant(0), slow: WHOLE, fast: WHOLE, current: WHOLE };
        sampled.observe(Instant(1_000), 0);
        assert_eq!(sampled.estimate(), WHOLE);
        sampled.observe(Instant(30_000), 0);
        assert_eq!(sampled.estimate(), WHOLE * 3 / 4);
        sampled.observe(Instant(60_000), 0);
        assert_eq!(sampled.estimate(), WHOLE * 9 / 16);
    }

    /// Active pages A cost 1, the others 4: a VM has A + (λ − A)/4. Held are
    /// 4000, all idle, and 5000, all active; 1000 of 10000 are free, and 600 are
    /// to stay free: λ/4 + 5000 + (λ − 5000)/4 = 9400 at λ = 11300, that is 2825
    /// and 6575. Free memory is high: nobody gives, and the busy one gets what is
    /// free but for 100. Then memory is short, and (now with 5900 active) λ =
    /// 9950: the idle one falls to 2487.5.
    #[test]
    fn idle_memory_is_revoked_only_when_memory_is_short() {
        let mut esx = Esx::default();
        let busy = |held| vm(1, 100, 9000, held, held);
        let mut vms = [vm(0, 100, 9000, 4000, 0), busy(5000)];
        assert_eq!(targets(&mut esx, 0, &host(10_000, 1_000), &mut vms), [4000, 5900]);
        assert_eq!(esx.state, State::High);
        vms[1] = busy(5900);
        assert_eq!(targets(&mut esx, 1_000, &host(10_000, 100), &mut vms), [2487, 5900]);
        assert_eq!(esx.state, State::Hard);
    }

    /// The same with 1000 free, and a start that asks for 700: 300 are left,
    /// which is soft.
    #[test]
    fn a_start_counts_as_taken() {
        let mut esx = Esx::default();
        let asking = HostView { asked: mib(700), ..host(10_000, 1_000) };
        let mut vms = [vm(0, 100, 9000, 4000, 0), vm(1, 100, 9000, 5000, 5000)];
        assert!(targets(&mut esx, 0, &asking, &mut vms)[0] < 4000);
        assert_eq!(esx.state, State::Soft);
    }
}

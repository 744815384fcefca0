//! Density: on how small a host a set of recorded VMs lives without lacking a
//! byte.
//!
//! ```text
//! trace ──▶ draw of VMs ──▶ host of M ──▶ policy ──▶ nobody lacked anything?
//!                             ▲                          │
//!                             └───── larger, smaller ◀───┘
//! ```
//! The density of a policy is the memory that the VMs are configured with by
//! the memory of the smallest such host. Between two samples of a trace the
//! need goes in a straight line; while a host is far from full the world steps
//! as coarsely as the buffers allow, and finely when it is tight.

use dynmem_core::HostConfig;
use dynmem_units::Bytes;

use crate::{
    guest::GuestConfig,
    plan::{HostPlan, VmPlan, dynamic},
    policy::Policy,
    trace::{Trace, TracedVm},
    workload::Workload,
    world::World,
};

/// The smallest memory of a VM in a draw, MiB.
pub const MINIMUM_MIB: u64 = 512;
/// The policy finds its way for so long before anything counts.
const WARM_UP_MS: u64 = 120_000;
/// The smallest host is found to one part in this many.
const PRECISION: u64 = 50;
/// The first host tried has so many such parts more than the clairvoyant's.
const FIRST_TRY: u64 = 1;
/// Hosts beyond this many times the clairvoyant's are not tried.
const HOPELESS: u64 = 2;

/// What one draw came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Density {
    /// Memory that the drawn VMs are configured with.
    pub configured: Bytes,
    /// The host that somebody who knows the future would need.
    pub clairvoyant: Bytes,
    /// The smallest host on which nobody lacked anything; none if even twice the
    /// clairvoyant's was not enough.
    pub smallest: Option<Bytes>,
}

impl Density {
    /// Configured memory by the smallest host's; zero without one.
    pub fn ratio(&self) -> f64 {
        self.smallest.map_or(0.0, |smallest| by(self.configured, smallest))
    }

    /// The same for who knows the future.
    pub fn clairvoyant_ratio(&self) -> f64 {
        by(self.configured, self.clairvoyant)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn by(a: Bytes, b: Bytes) -> f64 {
    a.get() as f64 / b.get().max(1) as f64
}

/// `count` different VMs of a trace, drawn at random.
pub fn draw(trace: &Trace, count: usize, rng: &mut fastrand::Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..trace.vms.len()).collect();
    rng.shuffle(&mut order);
    order.truncate(count);
    order
}

/// Finds the smallest host (what it may lend, its reserve apart) for the drawn VMs under the policy that `make` makes.
pub fn smallest_host(trace: &Trace, drawn: &[usize], make: &dyn Fn(HostConfig) -> Box<dyn Policy>) -> Density {
    let vms: Vec<&TracedVm> = drawn.iter().filter_map(|index| trace.vms.get(*index)).collect();
    let clairvoyant = peak(&vms);
    let precision = clairvoyant.scale(1, PRECISION).align_up(Bytes::BLOCK);
    let host = |steps: u64| clairvoyant.saturating_add(precision.scale(steps, 1));
    let serves = |steps: u64| first_lack(trace, &vms, host(steps), make).is_none();
    // Up in growing steps to one that serves, then down by halves.
    let (mut too_small, mut enough) = (None, FIRST_TRY);
    while !serves(enough) {
        too_small = Some(enough);
        enough *= 2;
        if enough > PRECISION * (HOPELESS - 1) {
            return Density { configured: configured(&vms), clairvoyant, smallest: None };
        }
    }
    let mut low = too_small.map_or(0, |small| small + 1);
    while low < enough {
        let middle = low.midpoint(enough);
        if serves(middle) { enough = middle } else { low = middle + 1 }
    }
    Density { configured: configured(&vms), clairvoyant, smallest: Some(host(enough)) }
}

fn configured(vms: &[&TracedVm]) -> Bytes {
    vms.iter().map(|vm| vm.configured).sum()
}

/// Samples that all VMs have.
fn length(vms: &[&TracedVm]) -> usize {
    vms.iter().map(|vm| vm.samples.len()).min().unwrap_or(0)
}

/// The most that all VMs need at one instant, none below its minimum.
fn peak(vms: &[&TracedVm]) -> Bytes {
    (0..length(vms)).map(|at| needs_at(vms, at)).max().unwrap_or_default()
}

fn needs_at(vms: &[&TracedVm], at: usize) -> Bytes {
    vms.iter().map(|vm| needed(vm, at)).sum()
}

/// What a VM holds at least at a sample: its need, or its minimum.
fn needed(vm: &TracedVm, at: usize) -> Bytes {
    let least = GuestConfig::default().kernel_bytes.max(Bytes::from_mib(MINIMUM_MIB));
    vm.samples[at].max(least).min(maximum_of(vm)).align_up(Bytes::BLOCK)
}

fn maximum_of(vm: &TracedVm) -> Bytes {
    vm.configured.align_down(Bytes::BLOCK).max(Bytes::from_mib(MINIMUM_MIB))
}

/// The plan of drawn VMs on a host that may lend `memory`: the host's reserve
/// comes on top and overhead is left out, so that configured memory is compared
/// with lent memory, and nothing else.
pub fn replay(trace: &Trace, vms: &[&TracedVm], memory: Bytes) -> HostPlan {
    let reserve = HostConfig::default_reserve(memory);
    let mut plan = HostPlan::new(memory.saturating_add(reserve), reserve);
    plan.warm_up_ms = WARM_UP_MS;
    plan.length_ms = WARM_UP_MS + trace.interval_ms * length(vms).saturating_sub(1) as u64;
    for vm in vms {
        let (maximum, kernel) = (maximum_of(vm), GuestConfig::default().kernel_bytes);
        // The kernel's own memory is part of what was recorded.
        let samples = vm.samples.iter().map(|sample| (*sample).min(maximum).saturating_sub(kernel)).collect::<Vec<_>>();
        let settings = dynamic(MINIMUM_MIB, MINIMUM_MIB, maximum.mib());
        let workload = Workload::samples(samples, trace.interval_ms).waiting(WARM_UP_MS);
        let begins_with = needed(vm, 0);
        let mut vm = VmPlan::new(vm.name.clone(), settings, workload).holding(begins_with);
        vm.overhead = Bytes::ZERO;
        plan = plan.with(vm);
    }
    plan
}

/// Somebody who lacked memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Lack {
    /// When, in milliseconds of the trace.
    pub at_ms: u64,
    /// Who.
    pub vm: String,
    /// What must have been assigned.
    pub needed: Bytes,
    /// What was.
    pub held: Bytes,
    /// Memory of the host that nobody held.
    pub free: Bytes,
}

/// The first who lacks a byte on a host that may lend `memory`; none if nobody
/// does.
pub fn first_lack(
    trace: &Trace,
    vms: &[&TracedVm],
    memory: Bytes,
    make: &dyn Fn(HostConfig) -> Box<dyn Policy>,
) -> Option<Lack> {
    let plan = replay(trace, vms, memory);
    let length_ms = plan.length_ms;
    let policy = make(plan.host);
    let mut world = World::new(plan, policy);
    while world.now_ms() < length_ms {
        world.step(step_ms(trace, vms, &world));
        let short = world.vms().iter().find(|vm| vm.lived.running && vm.lived.needed > vm.lived.held);
        if let Some(vm) = short.filter(|_| world.now_ms() > WARM_UP_MS) {
            return Some(Lack {
                at_ms: world.now_ms() - WARM_UP_MS,
                vm: vm.plan.name.clone(),
                needed: vm.lived.needed,
                held: vm.lived.held,
                free: world.free(),
            });
        }
    }
    None
}

/// How finely to step at an instant: so that nobody grows by more than a
/// quarter of its buffer in a step, nor all together by more than a quarter of
/// what is free; and finely where not all buffers fit.
fn step_ms(trace: &Trace, vms: &[&TracedVm], world: &World) -> u64 {
    if world.now_ms() < WARM_UP_MS {
        return 1_000;
    }
    let replayed_ms = world.now_ms() - WARM_UP_MS;
    let at = usize::try_from(replayed_ms / trace.interval_ms).unwrap_or(usize::MAX);
    let left_ms = trace.interval_ms - replayed_ms % trace.interval_ms;
    if at.saturating_add(1) >= length(vms) {
        return left_ms.min(1_000);
    }
    let most = needs_at(vms, at).max(needs_at(vms, at + 1));
    let tight = most.scale(6, 5) > world.lendable();
    let time_for = |slack: Bytes, rise: Bytes| slack.get().saturating_mul(trace.interval_ms) / rise.get().max(1);
    let rise = |vm: &&TracedVm| vm.samples[at + 1].saturating_sub(vm.samples[at]);
    let each = vms.iter().map(|vm| {
        let slack = if tight { Bytes::from_mib(8) } else { needed(vm, at).scale(1, 20) };
        time_for(slack, rise(vm))
    });
    let free = world.free().saturating_sub(world.plan().host.reserve);
    let together = time_for(free.scale(1, 4), vms.iter().map(rise).sum());
    each.min().unwrap_or(30_000).min(together).clamp(100, 30_000).min(left_ms)
}

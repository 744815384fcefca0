//! Named situations, each a plan that a seed varies.
//!
//! Most of them fit: somebody who knew the future could give everybody all that
//! they need, so whatever is unmet is a policy's fault. Two do not fit
//! ([`Scenario::fits`]): there it counts how what there is is shared.

use dynmem_units::{Bytes, Percent};

use crate::{
    plan::{HostPlan, VmPlan, dynamic},
    workload::{BuildPlan, Shape, Workload},
};

const MIB: fn(u64) -> Bytes = Bytes::from_mib;
const MINUTE_MS: u64 = 60_000;

/// A named situation.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on command lines and in tables.
    pub name: &'static str,
    /// What happens in it, in a sentence.
    pub about: &'static str,
    /// Everybody's needs fit the host at every instant.
    pub fits: bool,
    plan: fn(&mut fastrand::Rng) -> HostPlan,
}

/// A scenario that nobody knows by this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Unknown scenario {name:?}: it must be one of {}", names())]
pub struct UnknownScenario {
    /// What was asked for.
    pub name: String,
}

fn names() -> String {
    ALL.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ")
}

impl Scenario {
    /// The one of this name.
    pub fn named(name: &str) -> Result<Self, UnknownScenario> {
        let found = ALL.iter().find(|scenario| scenario.name == name);
        found.copied().ok_or_else(|| UnknownScenario { name: name.to_owned() })
    }

    /// Its plan for a seed.
    pub fn plan(&self, seed: u64) -> HostPlan {
        (self.plan)(&mut fastrand::Rng::with_seed(seed))
    }
}

/// Every scenario.
pub const ALL: [Scenario; 15] = [
    fitting("steady", "eight VMs at constant demand, for an hour", steady),
    fitting("walk", "eight VMs that wander by 2 % around what they need", walk),
    fitting("surge-free", "2 to 12 GiB at once, on a host that has the memory free", surge_free),
    fitting("surge-idle", "2 to 12 GiB at once, while three idle VMs hold the memory", surge_idle),
    fitting("spikes", "twelve VMs with a spike each now and then", spikes),
    fitting("antiphase", "two VMs that need the same memory in turns", antiphase),
    fitting("heaps", "six garbage-collected heaps that fill and empty", heaps),
    fitting("builds", "a CI fleet: five builders that compile and link", builds),
    fitting("days", "a VDI pool: twenty desktops through two short days", days),
    fitting("idle-fleet", "forty sandboxes at rest and two that work", idle_fleet),
    fitting("leak", "one VM leaks up to its maximum beside seven at work", leak),
    fitting("boot-storm", "sixteen VMs start within a minute and shrink to what they need", boot_storm),
    fitting("mixed", "a bit of everything on one home server", mixed),
    short("shortage", "three VMs of weights 1, 2 and 3 need more than there is", shortage),
    short("overcommit", "ten VMs of two weights surge at once on a host too small", overcommit),
];

const fn fitting(name: &'static str, about: &'static str, plan: fn(&mut fastrand::Rng) -> HostPlan) -> Scenario {
    Scenario { name, about, fits: true, plan }
}

const fn short(name: &'static str, about: &'static str, plan: fn(&mut fastrand::Rng) -> HostPlan) -> Scenario {
    Scenario { name, about, fits: false, plan }
}

/// A host of `memory` MiB with the reserve that it has by default.
fn host(memory_mib: u64) -> HostPlan {
    let memory = MIB(memory_mib);
    HostPlan::new(memory, dynmem_core::HostConfig::default_reserve(memory))
}

fn vm(name: &str, number: u64, settings: dynmem_core::MemorySettings, workload: Workload) -> VmPlan {
    VmPlan::new(format!("{name}{number:02}"), settings, workload)
}

fn steady(rng: &mut fastrand::Rng) -> HostPlan {
    (1..=8).fold(host(16 << 10), |plan, number| {
        let level = MIB(rng.u64(300..1_400));
        plan.with(vm("web", number, dynamic(256, 1024, 4096), Workload::steady(level).hot_file(MIB(60))))
    })
}

fn walk(rng: &mut fastrand::Rng) -> HostPlan {
    (1..=8).fold(host(16 << 10), |plan, number| {
        let workload = Workload::walk(MIB(rng.u64(300..1_300)), Percent::new(2), 10_000).seed(rng.u64(..));
        plan.with(vm("web", number, dynamic(256, 1024, 4096), workload))
    })
}

/// The surge of the published comparison: 2 to 12 GiB on a host of 64.
fn surge(others_hold_mib: u64) -> HostPlan {
    let surge = Workload::spike(MIB(2 << 10), MIB(12 << 10), 3 * MINUTE_MS, 6 * MINUTE_MS);
    let database = VmPlan::new("database", dynamic(1024, 4096, 16 << 10), surge).holding(MIB(4096));
    (1..=3).fold(host(64 << 10).lasting(10 * 60).with(database), |plan, number| {
        let idle = Workload::idle(MIB(900)).hot_file(MIB(100));
        let settings = dynamic(1024, 4096, 20 << 10);
        plan.with(vm("idle", number, settings, idle).holding(MIB(others_hold_mib)))
    })
}

fn surge_free(_: &mut fastrand::Rng) -> HostPlan {
    surge(4096)
}

/// 57.3 GiB of 61.7 are held: the surge needs what the idle have.
fn surge_idle(_: &mut fastrand::Rng) -> HostPlan {
    surge(18 << 10)
}

fn spikes(rng: &mut fastrand::Rng) -> HostPlan {
    (1..=12).fold(host(20 << 10).lasting(40 * 60), |plan, number| {
        let (low, high) = (rng.u64(250..700), rng.u64(900..2_200));
        // Each in its own slot of three minutes: two never come together.
        let at_ms = number * 3 * MINUTE_MS + rng.u64(0..MINUTE_MS);
        let workload = Workload::spike(MIB(low), MIB(high), at_ms, rng.u64(20_000..MINUTE_MS)).noise(MIB(10), 7_000);
        plan.with(vm("app", number, dynamic(256, 768, 4096), workload.seed(rng.u64(..))))
    })
}

fn antiphase(_: &mut fastrand::Rng) -> HostPlan {
    let square = |shift_ms| {
        let (low, high) = (MIB(800), MIB(5 << 10));
        Workload::square(low, high, 8 * MINUTE_MS, Percent::new(45)).shifted(shift_ms)
    };
    host(10 << 10).lasting(40 * 60).with(VmPlan::new("day", dynamic(512, 1024, 8192), square(0))).with(VmPlan::new(
        "night",
        dynamic(512, 1024, 8192),
        square(4 * MINUTE_MS),
    ))
}

fn heaps(rng: &mut fastrand::Rng) -> HostPlan {
    (1..=6).fold(host(13 << 10).lasting(30 * 60), |plan, number| {
        let (low, high) = (rng.u64(300..600), rng.u64(1_000..1_600));
        let heap = Workload::sawtooth(MIB(low), MIB(high), rng.u64(15_000..50_000));
        let workload = heap.shifted(rng.u64(0..50_000)).commits_beyond(MIB(400));
        plan.with(vm("jvm", number, dynamic(512, 1024, 3072), workload))
    })
}

fn builds(rng: &mut fastrand::Rng) -> HostPlan {
    (1..=5).fold(host(16 << 10).lasting(30 * 60), |plan, number| {
        let build = Workload::build(BuildPlan::default()).seed(rng.u64(..));
        plan.with(vm("ci", number, dynamic(512, 1024, 6144), build.shifted(rng.u64(0..20 * MINUTE_MS))))
    })
}

fn days(rng: &mut fastrand::Rng) -> HostPlan {
    (1..=20).fold(host(32 << 10).lasting(40 * 60), |plan, number| {
        let (low, high) = (MIB(rng.u64(300..600)), MIB(rng.u64(900..1_600)));
        let day: Workload = Shape::Diurnal { low, high, period_ms: 20 * MINUTE_MS }.into();
        let workload = day.noise(MIB(40), 9_000).seed(rng.u64(..)).shifted(rng.u64(0..4 * MINUTE_MS));
        plan.with(vm("desk", number, dynamic(512, 1024, 4096), workload.reads(MIB(2))))
    })
}

fn idle_fleet(rng: &mut fastrand::Rng) -> HostPlan {
    let busy = |shift_ms| {
        Workload::square(MIB(500), MIB(4096), 6 * MINUTE_MS, Percent::new(30)).shifted(shift_ms).noise(MIB(20), 5_000)
    };
    let plan = (1..=40).fold(host(26 << 10).lasting(30 * 60), |plan, number| {
        let workload = Workload::idle(MIB(rng.u64(90..160))).seed(rng.u64(..));
        plan.with(vm("box", number, dynamic(128, 512, 2048), workload))
    });
    plan.with(vm("busy", 1, dynamic(512, 1024, 8192), busy(0))).with(vm(
        "busy",
        2,
        dynamic(512, 1024, 8192),
        busy(3 * MINUTE_MS).seed(rng.u64(..)),
    ))
}

fn leak(rng: &mut fastrand::Rng) -> HostPlan {
    let leaking = Workload::leak(MIB(300), MIB(3), MIB(3_800));
    let plan = host(16 << 10).lasting(30 * 60).with(vm("leaky", 1, dynamic(256, 1024, 4096), leaking));
    (1..=7).fold(plan, |plan, number| {
        let workload = Workload::steady(MIB(rng.u64(400..1_300))).noise(MIB(30), 11_000).seed(rng.u64(..));
        plan.with(vm("web", number, dynamic(256, 1024, 4096), workload))
    })
}

fn boot_storm(rng: &mut fastrand::Rng) -> HostPlan {
    (1..=16).fold(host(22 << 10).lasting(20 * 60), |plan, number| {
        let workload = Workload::idle(MIB(rng.u64(200..600))).seed(rng.u64(..));
        let starts = 2 * MINUTE_MS + rng.u64(0..MINUTE_MS);
        plan.with(vm("desk", number, dynamic(256, 1024, 4096), workload).starting_at(starts))
    })
}

fn mixed(rng: &mut fastrand::Rng) -> HostPlan {
    let mut seeded = |workload: Workload| workload.seed(rng.u64(..));
    host(24 << 10)
        .lasting(60 * 60)
        .with(VmPlan::new(
            "nas",
            dynamic(512, 1024, 8192),
            seeded(Workload::idle(MIB(400)).reads(MIB(40)).hot_file(MIB(200))),
        ))
        .with(VmPlan::new("home", dynamic(512, 1024, 4096), seeded(Workload::steady(MIB(900)).noise(MIB(60), 13_000))))
        .with(VmPlan::new("ci", dynamic(512, 1024, 8192), seeded(Workload::build(BuildPlan::default()))))
        .with(VmPlan::new("jvm", dynamic(512, 1024, 4096), seeded(Workload::sawtooth(MIB(500), MIB(1_800), 40_000))))
        .with(VmPlan::new(
            "batch",
            dynamic(512, 1024, 12 << 10),
            seeded(Workload::square(MIB(300), MIB(6_000), 15 * MINUTE_MS, Percent::new(40))),
        ))
        .with(VmPlan::new("mail", dynamic(256, 512, 2048), seeded(Workload::walk(MIB(350), Percent::new(5), 20_000))))
        .with(VmPlan::new(
            "lab",
            dynamic(256, 1024, 8192),
            seeded(Workload::spike(MIB(200), MIB(4_000), 31 * MINUTE_MS, 8 * MINUTE_MS)),
        ))
}

fn shortage(_: &mut fastrand::Rng) -> HostPlan {
    (1..=3).fold(host(8 << 10).lasting(10 * 60), |plan, weight| {
        let workload = Workload::spike(MIB(700), MIB(5_000), 2 * MINUTE_MS, 20 * MINUTE_MS);
        plan.with(vm("db", weight, dynamic(512, 1024, 8192), workload).weighing(weight * 1000).swapping(MIB(8 << 10)))
    })
}

fn overcommit(rng: &mut fastrand::Rng) -> HostPlan {
    (1..=10).fold(host(12 << 10).lasting(15 * 60), |plan, number| {
        let (low, high) = (MIB(rng.u64(200..500)), MIB(rng.u64(900..3_000)));
        let workload = Workload::spike(low, high, 2 * MINUTE_MS + rng.u64(0..20_000), 20 * MINUTE_MS);
        let weight = if number % 2 == 0 { 8_000 } else { 2_000 };
        plan.with(vm("app", number, dynamic(256, 768, 4096), workload).weighing(weight).swapping(MIB(4096)))
    })
}

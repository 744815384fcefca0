//! Random hosts: small, and between plenty of memory and hardly enough.

use std::fmt::Write as _;

use dynmem_core::{DemandModel, MemorySettings};
use dynmem_units::{Bytes, Percent, Weight};

use crate::{
    guest::GuestConfig,
    plan::{HostPlan, VmPlan},
    workload::{BuildPlan, Workload},
};

/// A VM that only a request starts.
const NEVER: u64 = u64::MAX;

/// A random host with 3–12 VMs.
pub(super) fn plan(rng: &mut fastrand::Rng) -> HostPlan {
    let vms: Vec<VmPlan> = (0..rng.u32(3..=12)).map(|number| vm(rng, number)).collect();
    let begins: Bytes = vms.iter().filter(|vm| vm.starts_at_ms.is_none()).map(at_first).sum();
    // From no room at all to three times as much.
    let room = begins.scale(rng.u64(0..200).pow(2), 20_000);
    let reserve = Bytes::from_mib([0, rng.u64(0..512), rng.u64(256..2_048)][rng.usize(0..3)]);
    let lendable = begins.saturating_add(room).saturating_add(Bytes::from_mib(rng.u64(0..600)));
    let report_delay_ms = if rng.bool() { 0 } else { rng.u64(0..300) };
    let (smart_paging, reads_machines) = (rng.bool(), rng.bool());
    HostPlan {
        vms,
        report_delay_ms,
        smart_paging,
        reads_machines,
        ..HostPlan::new(lendable.saturating_add(reserve), reserve)
    }
}

/// What a VM holds when the world begins, its hypervisor included.
fn at_first(vm: &VmPlan) -> Bytes {
    vm.begins_with.unwrap_or(vm.settings.startup).saturating_add(vm.overhead)
}

fn vm(rng: &mut fastrand::Rng, number: u32) -> VmPlan {
    let settings = settings(rng);
    let workload = workload(rng, settings.maximum.min(settings.startup.scale(4, 1)));
    let mut vm = VmPlan::new(format!("vm{number}"), settings, workload);
    vm.overhead = Bytes::from_mib(rng.u64(0..150));
    vm.guest = guest(rng, vm.settings.minimum);
    match rng.u32(0..6) {
        0 => vm.starts_at_ms = Some(NEVER),
        1 => vm.starts_at_ms = Some(rng.u64(1..60_000)),
        2..=4 if vm.settings.dynamic => vm.begins_with = Some(between(rng, vm.settings.minimum, vm.settings.startup)),
        _ => {}
    }
    vm
}

/// Valid settings of all kinds; one VM in eight is static.
pub(super) fn settings(rng: &mut fastrand::Rng) -> MemorySettings {
    let minimum = blocks(rng.u64(16..512));
    let startup = if rng.u32(0..4) == 0 { minimum } else { between(rng, minimum, minimum.scale(3, 1)) };
    let maximum = if rng.u32(0..8) == 0 { startup } else { between(rng, startup, startup.scale(6, 1)) };
    MemorySettings {
        dynamic: rng.u32(0..8) > 0,
        minimum,
        startup,
        maximum,
        buffer: Percent::new([5, rng.u32(5..50), 20, rng.u32(5..=2_000)][rng.usize(0..4)]),
        weight: Weight::new([100, rng.u64(1..=10_000), 1, 10_000][rng.usize(0..4)]).unwrap_or_default(),
        demand_model: if rng.u32(0..5) == 0 { DemandModel::Committed } else { DemandModel::WorkingSet },
        ..MemorySettings::default()
    }
}

fn guest(rng: &mut fastrand::Rng, minimum: Bytes) -> GuestConfig {
    let swap = [0, rng.u64(0..256), rng.u64(0..4_096)][rng.usize(0..3)];
    GuestConfig {
        kernel_bytes: Bytes::from_mib(rng.u64(10..80)).min(minimum.scale(1, 2)),
        swap_bytes: Bytes::from_mib(swap),
        swap_per_second: Bytes::from_mib(rng.u64(20..1_000)),
        ..GuestConfig::default()
    }
}

/// A workload that needs up to a little more than `most`.
fn workload(rng: &mut fastrand::Rng, most: Bytes) -> Workload {
    let mut level = |low: u64, high: u64| most.scale(rng.u64(low..high), 100);
    let (low, high) = (level(1, 50), level(20, 110));
    let mut millis = |low: u64, high: u64| rng.u64(low..high);
    let workload = match millis(0, 9) {
        0 => Workload::idle(low),
        1 => Workload::steady(high),
        2 => Workload::walk(high, Percent::new(10), millis(1_000, 20_000)),
        3 => Workload::spike(low, high, millis(0, 600_000), millis(1_000, 300_000)),
        4 => Workload::square(low, high, millis(2_000, 300_000), Percent::new(40)),
        5 => Workload::sawtooth(low, high, millis(2_000, 120_000)),
        6 => Workload::build(BuildPlan { base: low, per_job: low, link: high, ..BuildPlan::default() }),
        7 => Workload::leak(low, most.scale(1, millis(50, 1_000)), high),
        _ => Workload::walk(low, Percent::new(50), millis(500, 60_000)),
    };
    let workload = workload.seed(rng.u64(..)).shifted(rng.u64(0..600_000));
    let workload = if rng.bool() { workload } else { workload.hot_file(most.scale(rng.u64(0..20), 100)) };
    let workload = if rng.bool() { workload } else { workload.reads(Bytes::from_mib(rng.u64(0..50))) };
    if rng.bool() { workload } else { workload.commits_beyond(most.scale(rng.u64(0..60), 100)) }
}

fn blocks(count: u64) -> Bytes {
    Bytes::BLOCK.scale(count, 1)
}

/// A whole number of blocks from `low` to `high`.
pub(super) fn between(rng: &mut fastrand::Rng, low: Bytes, high: Bytes) -> Bytes {
    let count = |bytes: Bytes| bytes.get() / Bytes::BLOCK.get();
    blocks(rng.u64(count(low)..=count(high.max(low))))
}

/// The host and its VMs, for people.
pub(super) fn tell(plan: &HostPlan) -> String {
    let mut text = format!("A host of {}, of which {} is reserved", plan.host.memory, plan.host.reserve);
    text.push_str(if plan.smart_paging { "; it can page" } else { "" });
    text.push_str(if plan.reads_machines { "; what machines use is read.\n" } else { ".\n" });
    for vm in &plan.vms {
        let MemorySettings { dynamic, minimum, startup, maximum, buffer, weight, demand_model, .. } = &vm.settings;
        let _ = writeln!(
            text,
            "{}: {} {minimum} … {startup} … {maximum}, buffer {buffer}, weight {weight}, {demand_model}; begins with \
             {:?}, starts at {:?}, overhead {}, swap {}, {:?}",
            vm.name,
            if *dynamic { "dynamic" } else { "static" },
            vm.begins_with.map(Bytes::mib),
            vm.starts_at_ms.filter(|at| *at < NEVER),
            vm.overhead,
            vm.guest.swap_bytes,
            vm.workload,
        );
    }
    text
}

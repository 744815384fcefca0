//! How many times its memory a host can be configured with, on a recorded trace.

use std::path::Path;

use anyhow::{Result, ensure};
use dynmem_sim::{
    density::{self, Density},
    peers::Peer,
    trace::Trace,
};

use super::{Table, parallel::in_parallel};
use crate::{report::Metric, sim::Manager};

/// VMs on a host, as published comparisons have them.
const VMS: usize = 30;
const DRAWS: u64 = 5;
const DRAWS_QUICK: u64 = 1;

/// Reads the trace, which must have VMs for a host.
pub(super) fn open(path: &Path) -> Result<Trace> {
    let trace = Trace::open(path)?;
    let vms = trace.vms.len();
    ensure!(vms >= VMS, "{} has {vms} VMs: density is measured on hosts of {VMS}", path.display());
    Ok(trace)
}

/// Finds the smallest host for each draw under each manager.
pub(super) fn run(trace: &Trace, quick: bool) -> Vec<Metric> {
    let draws = if quick { DRAWS_QUICK } else { DRAWS };
    let managers: Vec<Manager> = std::iter::once(Manager::Dynmem).chain(Peer::ALL.map(Manager::Peer)).collect();
    let jobs: Vec<(Manager, u64)> =
        managers.iter().flat_map(|manager| (1..=draws).map(|seed| (*manager, seed))).collect();
    let found = in_parallel(&jobs, |(manager, seed)| {
        let sample = density::draw(trace, VMS, &mut fastrand::Rng::with_seed(*seed));
        density::smallest_host(trace, &sample, &|host| manager.policy(host))
    });
    let mut table = Table::new(["policy", "density", "least", "most", "of the bound"]);
    let mut metrics = Vec::new();
    let bound = mean(found.iter().map(Density::clairvoyant_ratio));
    let mut tell = |name: &'static str, ratios: Vec<f64>| {
        let (least, most) =
            ratios.iter().fold((f64::MAX, 0.0f64), |(least, most), one| (least.min(*one), most.max(*one)));
        let density = mean(ratios.iter().copied());
        let ratios = [density, least, most].map(|ratio| format!("{ratio:.2}"));
        let share = format!("{:.0} %", 100.0 * density / bound);
        table.row([name.to_owned()].into_iter().chain(ratios).chain([share]));
        let metric = Metric::new("density", density, "configured ÷ host memory");
        metrics.push(metric.with("policy", name).with("vms", VMS).with("draws", draws).against("clairvoyant", bound));
    };
    tell("clairvoyant", found.iter().map(Density::clairvoyant_ratio).collect());
    for (manager, found) in managers.iter().zip(found.chunks(found.len() / managers.len())) {
        tell(manager.name(), found.iter().map(Density::ratio).collect());
    }
    eprintln!(
        "Memory that {VMS} VMs are configured with, by the smallest host's on which nobody lacks a byte\n{table}"
    );
    metrics
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}

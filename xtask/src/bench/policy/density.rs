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
/// Draws for us; each takes some ten seconds.
const DRAWS: u64 = 100;
/// Draws for each peer: most need far larger hosts, and none is near.
const DRAWS_OF_PEERS: u64 = 1;
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
    let managers: Vec<Manager> = std::iter::once(Manager::Dynmem).chain(Peer::ALL.map(Manager::Peer)).collect();
    let draws = |manager: Manager| match manager {
        _ if quick => DRAWS_QUICK,
        Manager::Dynmem => DRAWS,
        _ => DRAWS_OF_PEERS,
    };
    let jobs: Vec<(Manager, u64)> =
        managers.iter().flat_map(|manager| (1..=draws(*manager)).map(|seed| (*manager, seed))).collect();
    let found = in_parallel(&jobs, |(manager, seed)| {
        let sample = density::draw(trace, VMS, &mut fastrand::Rng::with_seed(*seed));
        let density = density::smallest_host(trace, &sample, &|host| manager.policy(host));
        eprintln!("draw {seed}, {}: {:.2} of {:.2}", manager.name(), density.ratio(), density.clairvoyant_ratio());
        density
    });
    let of = |wanted: Manager| -> Vec<Density> {
        let of_it = jobs.iter().zip(&found).filter(|((manager, _), _)| *manager == wanted);
        of_it.map(|(_, density)| *density).collect()
    };
    let ours = of(Manager::Dynmem);
    let bound: Vec<f64> = ours.iter().map(Density::clairvoyant_ratio).collect();
    let mut table = Table::new(["policy", "draws", "median", "5th percentile", "of the bound"]);
    let mut tell = |name: &str, ratios: &[f64], bound: &[f64]| {
        let (median, p5) = (quantile(ratios, 0.5), quantile(ratios, 0.05));
        let share = format!("{:.0} %", 100.0 * median / quantile(bound, 0.5));
        table.row([name.to_owned(), ratios.len().to_string(), format!("{median:.2}"), format!("{p5:.2}"), share]);
    };
    tell("clairvoyant", &bound, &bound);
    let mut metrics = Vec::new();
    for manager in managers {
        let densities = of(manager);
        let ratios: Vec<f64> = densities.iter().map(Density::ratio).collect();
        let bound: Vec<f64> = densities.iter().map(Density::clairvoyant_ratio).collect();
        tell(manager.name(), &ratios, &bound);
        for (name, share) in [("density_median", 0.5), ("density_p5", 0.05)] {
            let metric =
                Metric::new(name, quantile(&ratios, share), "configured ÷ lent").with("policy", manager.name());
            let metric = metric.with("vms", VMS).with("draws", ratios.len());
            metrics.push(metric.against("clairvoyant", quantile(&bound, share)));
        }
    }
    eprintln!(
        "Memory that {VMS} VMs are configured with, by what the smallest host lends that lets nobody lack a byte"
    );
    eprintln!("{table}");
    metrics
}

/// The value below which this share of them lies.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let index = (share * sorted.len() as f64) as usize;
    sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values: Vec<f64> = (0..100).rev().map(f64::from).collect();
        assert!((quantile(&values, 0.5) - 50.0).abs() < f64::EPSILON);
        assert!((quantile(&values, 0.05) - 5.0).abs() < f64::EPSILON);
        assert!(quantile(&[], 0.5).abs() < f64::EPSILON);
    }
}

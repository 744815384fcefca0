//! The few numbers that a policy is judged by, out of all that were measured.

use dynmem_sim::{peers::Peer, scenario::Scenario};

use super::Scene;
use crate::{report::Metric, sim::Manager};

/// Our numbers with their goals, and what we leave unmet by what each peer does.
pub(super) fn metrics(scenes: &[Scene], all: &Scene) -> Vec<Metric> {
    let ours = |scenario: &str, metric: &str| {
        let scene = scenes.iter().find(|scene| scene.name == scenario);
        scene.and_then(|scene| scene.measured(Manager::Dynmem, metric)).unwrap_or(f64::NAN)
    };
    let unfair = scenes.iter().filter(|scene| !scene.fits);
    let unfair = unfair.filter_map(|scene| scene.measured(Manager::Dynmem, "fairness_error_blocks"));
    let steady_vms = Scenario::named("steady").map_or(0, |steady| steady.plan(1).vms.len());
    let mut metrics = vec![
        Metric::new("surge_free_seconds", ours("surge-free", "surge_seconds"), "s").against_goal(2.0 + PLUG_SECONDS),
        Metric::new("surge_idle_seconds", ours("surge-idle", "surge_seconds"), "s").against_goal(2.0 + UNPLUG_SECONDS),
        Metric::new("steady_operations", ours("steady", "operations_per_vm_hour") * number(steady_vms), "count")
            .against_goal(0.0),
        Metric::new("walk_moved_percent_per_minute", ours("walk", "moved_percent_per_minute"), "%/min")
            .against_goal(0.1),
        Metric::new("fairness_error_blocks", unfair.fold(0.0, f64::max), "blocks").against_goal(1.0),
    ];
    for (name, metric) in [("unmet_ratio", "unmet_gib_seconds"), ("stall_ratio", "stall_seconds")] {
        let own = all.measured(Manager::Dynmem, metric).unwrap_or(f64::NAN);
        for peer in Peer::ALL {
            let theirs = all.measured(Manager::Peer(peer), metric).unwrap_or(f64::NAN);
            metrics.push(Metric::new(name, own / theirs, "ours ÷ theirs").against(peer.name(), theirs));
        }
    }
    metrics
}

/// What virtio-mem itself takes to plug 10 GiB, at 12 GiB/s.
const PLUG_SECONDS: f64 = 0.8;
/// What virtio-mem itself takes to unplug what the surge lacks, 8 GiB from three
/// guests side by side, each at 0.4 GiB/s, and to plug it.
const UNPLUG_SECONDS: f64 = 7.5;

#[expect(clippy::cast_precision_loss, reason = "a handful of VMs")]
fn number(count: usize) -> f64 {
    count as f64
}

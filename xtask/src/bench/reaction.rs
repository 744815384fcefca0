//! From a real guest's allocation spike to the first memory that it gets.
//!
//! One guest, held at demand and buffer, takes a piece of memory as fast as it
//! can touch it; its own clock measures until its kernel manages more memory
//! than before. Then it keeps what it took, the host catches up, and the next
//! spike comes. The clock is the guest's: host and socket are not in the way.
//!
//! After a few spikes the guest is started anew: the larger it is, the more of
//! a spike its buffer swallows without anything to measure.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dynmem_api::{StopMode, StopRequest, VmView};
use dynmem_units::Bytes;
use dynmem_vm_tests::{Binaries, Guest, Image, Lab, LabOptions, Workload, is_served};

use crate::{build, report::Metric, setup};

/// Boot memory; the pool is larger than the guest's maximum, so that what is
/// measured is the way of a request and not somebody else's reclaim.
const STARTUP_MIB: u64 = 256;
const MAXIMUM_MIB: u64 = 2048;
const POOL: Bytes = Bytes::from_mib(MAXIMUM_MIB + 512);
/// Held before the first spike: enough that demand and buffer pass startup, so
/// that every spike needs the host.
const BASE: Bytes = Bytes::from_mib(200);
/// One spike; less than the buffer, as the buffer is for exactly this.
const SPIKE: Bytes = Bytes::from_mib(48);
/// A round may end early; so many are begun at most for each that is wanted.
const ROUNDS_ATTEMPTED: u32 = 2;
/// Beyond its target, a guest that is measured has at most this.
const SPARE_AT_MOST: Bytes = Bytes::from_mib(16);
const SPIKES_PER_ROUND: u32 = 5;
const ROUNDS: u32 = 12;
const ROUNDS_QUICK: u32 = 2;
/// A guest that gets nothing for so long counts as never served.
const GIVE_UP: Duration = Duration::from_secs(10);
const SETTLES_WITHIN: Duration = Duration::from_mins(1);
/// The aim for the slowest of a hundred.
const GOAL_P99_MS: f64 = 250.0;

pub(super) fn run(quick: bool) -> Result<Vec<Metric>> {
    setup::run()?;
    let binaries = build::measured(quick)?;
    let image = build::image()?;
    let rounds = if quick { ROUNDS_QUICK } else { ROUNDS };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (accelerator, grants) = runtime.block_on(measure(binaries, &image, rounds))?;
    let metric = |name, value, unit| {
        Metric::new(name, value, unit).with("accelerator", accelerator.as_str()).with("spike_mib", SPIKE.mib())
    };
    let percentile = |percent| f64::from(percentile(&grants, percent));
    Ok(vec![
        metric("first_grant_p50_ms", percentile(50), "ms"),
        metric("first_grant_p99_ms", percentile(99), "ms").against_goal(GOAL_P99_MS),
        metric("spikes", f64::from(u32::try_from(grants.len())?), "count"),
    ])
}

/// The accelerator, and the milliseconds of each spike, in rising order.
async fn measure(binaries: Binaries, image: &Image, rounds: u32) -> Result<(String, Vec<u32>)> {
    let lab = Lab::start(LabOptions::with_pool(POOL, binaries)).await?;
    lab.define(&Guest::new("spiky", STARTUP_MIB, STARTUP_MIB, MAXIMUM_MIB), Some(image)).await?;
    let mut accelerator = None;
    let mut grants = Vec::new();
    for _ in 0..rounds * ROUNDS_ATTEMPTED {
        if grants.len() >= (rounds * SPIKES_PER_ROUND) as usize {
            break;
        }
        let mut workload = lab.boot("spiky").await?;
        accelerator = lab.until_agent_reports("spiky").await?.accelerator;
        workload.grow(BASE, None).await?;
        for _ in 0..SPIKES_PER_ROUND {
            let vm = served(&lab, &mut workload).await?;
            if vm.assigned_bytes > vm.target_bytes.saturating_add(SPARE_AT_MOST) {
                break; // it got more than it needed, and would not need the host now
            }
            let outcome = workload.spike(SPIKE, GIVE_UP).await?;
            let grant = outcome.first_grant_ms.with_context(|| {
                format!("Spike {} got no memory within {} s: {outcome:?}", grants.len() + 1, GIVE_UP.as_secs())
            })?;
            grants.push(u32::try_from(grant)?);
        }
        ensure!(workload.verify().await?.broken == 0, "The guest's memory is not what it was");
        lab.client().stop("spiky", &StopRequest { mode: StopMode::Force, ..StopRequest::default() }).await?;
    }
    ensure!(!grants.is_empty(), "No spike needed the host: the guest always had more than its target");
    let leftovers = lab.finish().await?;
    ensure!(leftovers.is_empty(), "Left behind: {leftovers:?}");
    grants.sort_unstable();
    Ok((accelerator.unwrap_or_default(), grants))
}

/// Waits until guest and host are done with the last spike.
async fn served(lab: &Lab, workload: &mut Workload) -> Result<VmView> {
    let held = workload.settle(SETTLES_WITHIN).await?;
    let served = |vm: &VmView| vm.demand_bytes >= held && is_served(vm);
    lab.until_vm("spiky", "has demand and buffer", SETTLES_WITHIN, served).await
}

/// The smallest value that `percent` of all are not above; `sorted` rises.
fn percentile(sorted: &[u32], percent: usize) -> u32 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let sorted: Vec<u32> = (1..=60).collect();
        assert_eq!(percentile(&sorted, 50), 30);
        assert_eq!(percentile(&sorted, 99), 60);
        assert_eq!(percentile(&[7], 50), 7);
        assert_eq!(percentile(&[], 50), 0);
    }
}

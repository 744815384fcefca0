//! From the start of a new daemon, after its predecessor was killed, until it
//! knows all machines again and answers.
//!
//! Twenty real QEMUs without a guest in them: what is measured is how machines
//! are found, connected to and asked. The same daemon's start without any
//! machine is what they are compared with.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dynmem_units::Bytes;
use dynmem_vm_tests::{Binaries, Guest, Lab, LabOptions};
use tokio::time::{Instant, sleep};

use crate::{build, report::Metric, setup};

const GUESTS: usize = 20;
/// Boot memory of each; what QEMU itself takes is more than that.
const STARTUP_MIB: u64 = 64;
const POOL: Bytes = Bytes::from_mib(GUESTS as u64 * 256);
/// The daemon is killed and started so often.
const STARTS: usize = 11;
const STARTS_QUICK: usize = 5;
const GOAL_SECONDS: f64 = 1.0;
/// Firmware looks for something to boot, and then halts.
const CALM_AFTER: Duration = Duration::from_secs(10);
const GIVE_UP: Duration = Duration::from_mins(1);

pub(super) fn run(quick: bool) -> Result<Vec<Metric>> {
    setup::run()?;
    let binaries = build::measured(quick)?;
    let starts = if quick { STARTS_QUICK } else { STARTS };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (without, with) = runtime.block_on(measure(binaries, starts))?;
    let metric = Metric::new("recovery_20_seconds", median(&with), "s")
        .against("a start without guests", median(&without))
        .with("goal_seconds", GOAL_SECONDS)
        .with("guests", GUESTS)
        .with("starts", starts)
        .with("longest_seconds", with.last().copied().unwrap_or_default());
    Ok(vec![metric])
}

/// How long starts took, in rising order: without guests, and with all.
async fn measure(binaries: Binaries, starts: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let mut lab = Lab::start(LabOptions::with_pool(POOL, binaries)).await?;
    let without = restart(&mut lab, 0, starts).await?;
    for number in 1..=GUESTS {
        let name = format!("guest{number:02}");
        lab.define(&Guest::new(&name, STARTUP_MIB, STARTUP_MIB / 2, 4 * STARTUP_MIB), None).await?;
        lab.client().start(&name).await.with_context(|| format!("Could not start {name}"))?;
    }
    sleep(CALM_AFTER).await;
    let with = restart(&mut lab, GUESTS, starts).await?;
    let leftovers = lab.finish().await?;
    ensure!(leftovers.is_empty(), "Left behind: {leftovers:?}");
    Ok((without, with))
}

async fn restart(lab: &mut Lab, guests: usize, starts: usize) -> Result<Vec<f64>> {
    let mut seconds = Vec::with_capacity(starts);
    for _ in 0..starts {
        lab.kill_daemon()?;
        let began = Instant::now();
        lab.spawn_daemon()?;
        while adopted(lab).await != Some(guests) {
            ensure!(
                began.elapsed() < GIVE_UP,
                "Not all guests are adopted after {} s:\n{}",
                GIVE_UP.as_secs(),
                lab.log_tail()
            );
            sleep(Duration::from_millis(2)).await;
        }
        seconds.push(began.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds)
}

/// How many machines the daemon has in its hands; `None` while it is silent.
async fn adopted(lab: &Lab) -> Option<usize> {
    let vms = lab.client().vms().await.ok()?;
    Some(vms.iter().filter(|vm| vm.state.is_on() && vm.pid.is_some() && vm.warnings.is_empty()).count())
}

/// The one in the middle; `sorted` rises.
fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_a_value_that_was_measured() {
        assert!((median(&[1.0, 2.0, 9.0]) - 2.0).abs() < f64::EPSILON);
        assert!(median(&[]).abs() < f64::EPSILON);
    }
}

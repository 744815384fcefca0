//! The daemon at rest: what twenty calm guests cost the host.
//!
//! The guests are imitated inside the daemon, so their own work is measured
//! with it: the numbers are upper bounds.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use dynmem_units::Bytes;
use dynmem_vm_tests::{Binaries, Guest, Lab, LabOptions};
use tokio::time::{Instant, sleep};

use crate::{build, report::Metric};

const GUESTS: u64 = 20;
/// Long enough for boots, first reports and first decisions to be over.
const SETTLE: Duration = Duration::from_secs(10);
const MEASURE: Duration = Duration::from_mins(1);
const MEASURE_QUICK: Duration = Duration::from_secs(10);
const GOAL_CPU_PERCENT: f64 = 1.0;
const GOAL_RESIDENT_MIB: f64 = 40.0;

pub(super) fn run(quick: bool) -> Result<Vec<Metric>> {
    let binaries = build::measured(quick)?;
    let length = if quick { MEASURE_QUICK } else { MEASURE };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (cpu_percent, resident_mib) = runtime.block_on(measure(binaries, length))?;
    let metric =
        |name, value, unit| Metric::new(name, value, unit).with("guests", GUESTS).with("seconds", length.as_secs());
    Ok(vec![
        metric("idle_cpu_percent", cpu_percent, "% of a core").against_goal(GOAL_CPU_PERCENT),
        metric("idle_resident_mib", resident_mib, "MiB").against_goal(GOAL_RESIDENT_MIB),
    ])
}

async fn measure(binaries: Binaries, length: Duration) -> Result<(f64, f64)> {
    let pool = Bytes::from_mib(GUESTS * 1024);
    let lab = Lab::start(LabOptions { backend: "fake", ..LabOptions::with_pool(pool, binaries) }).await?;
    for number in 1..=GUESTS {
        let name = format!("guest{number:02}");
        lab.define(&Guest::new(&name, 512, 256, 4096), None).await?;
        lab.client().start(&name).await?;
    }
    sleep(SETTLE).await;
    let pid = lab.daemon_pid().context("The daemon has ended")?;
    let (ticks_before, began) = (cpu_ticks(&process(pid))?, Instant::now());
    sleep(length).await;
    let (ticks, elapsed) = (cpu_ticks(&process(pid))? - ticks_before, began.elapsed());
    let resident_mib = resident_kib(pid)? / 1024.0;
    let running = lab.client().host().await?.vms_running;
    ensure!(running == GUESTS, "Only {running} of {GUESTS} guests run at the end");
    lab.finish().await?;
    #[expect(clippy::cast_precision_loss, reason = "ticks of a minute are few")]
    let seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    Ok((seconds / elapsed.as_secs_f64() * 100.0, resident_mib))
}

/// A process's folder.
fn process(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

/// Processor time that the process or thread of this folder has used, user and
/// system.
pub(super) fn cpu_ticks(folder: &Path) -> Result<u64> {
    let stat = fs::read_to_string(folder.join("stat")).context("The daemon has ended")?;
    // The second field, the name, may hold anything, but no `)` follows it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields.get(field).and_then(|text| text.parse::<u64>().ok());
    ticks(11).zip(ticks(12)).map(|(user, system)| user + system).context("/proc/PID/stat is not understood")
}

/// Resident memory, KiB.
pub(super) fn resident_kib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("The daemon has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("/proc/PID/status has no VmRSS")?;
    line.trim().trim_end_matches("kB").trim().parse().context("VmRSS is no number")
}

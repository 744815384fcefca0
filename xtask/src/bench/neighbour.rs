//! What a guest loses when its neighbour offends: the neighbour takes back
//! what the balloon holds of its memory, and touches all of it.
//!
//! ```text
//!  each round: offender boots ▶ victim takes a load, offender is ballooned
//!              ▶ victim verifies its pages, beside a calm neighbour
//!              ▶ offender empties its balloon and fills its memory
//!              ▶ victim verifies its pages, beside that
//! ```
//!
//! The victim has a processor of its own: its QEMU is pinned to the first one,
//! and everything else that is ours (the other QEMU, the daemon, this program)
//! to the others. So what is measured is memory, and not that two guests share
//! a processor. What others do on this host is the same before and after, more
//! or less: the round in the middle counts.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use dynmem_api::{StopMode, StopRequest, VmView};
use dynmem_units::Bytes;
use dynmem_vm_tests::{Binaries, Guest, Image, Lab, LabOptions, Workload, WorkloadRequest};
use rustix::{
    process::Pid,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use tokio::time::Instant;

use crate::{
    build::{self, Profile},
    report::Metric,
    setup,
};

/// Both can boot; the victim's load needs what the offender has beyond it.
const POOL: Bytes = Bytes::from_mib(1024);
/// What the victim holds while it is measured.
const LOAD: Bytes = Bytes::from_mib(340);
/// What the offender fills: more than it is left with, less than it sees.
const OFFENCE: Bytes = Bytes::from_mib(300);
/// So much of the offender's memory is ballooned, at least.
const BALLOONED: Bytes = Bytes::from_mib(48);
const MEASURE: Duration = Duration::from_secs(12);
const ROUNDS: usize = 7;
const ROUNDS_QUICK: usize = 3;
const WITHIN: Duration = Duration::from_mins(2);
const GOAL_LOSS_PERCENT: f64 = 5.0;

/// Pages per second, in one round.
#[derive(Clone, Copy, Debug)]
struct Round {
    calm: f64,
    offended: f64,
    /// What became of the offender.
    offender_died: bool,
}

impl Round {
    fn kept(&self) -> f64 {
        self.offended / self.calm
    }
}

pub(super) fn run(quick: bool) -> Result<Vec<Metric>> {
    setup::run()?;
    build::programs(Profile::Release)?;
    let image = build::image()?;
    let rounds = if quick { ROUNDS_QUICK } else { ROUNDS };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut measured = runtime.block_on(measure(&image, rounds))?;
    measured.sort_by(|a, b| a.kept().total_cmp(&b.kept()));
    let middle = measured[measured.len() / 2];
    let died = measured.iter().filter(|round| round.offender_died).count();
    let all: Vec<f64> = measured.iter().map(|round| (round.kept() * 1000.0).round() / 1000.0).collect();
    let metric = |metric: Metric| metric.with("rounds", rounds).with("kept", all.clone()).with("offenders_ended", died);
    Ok(vec![
        metric(Metric::new("neighbour_pages_per_second", middle.offended, "pages/s"))
            .against("beside a calm neighbour", middle.calm),
        metric(Metric::new("neighbour_loss_percent", (1.0 - middle.kept()) * 100.0, "%"))
            .against_goal(GOAL_LOSS_PERCENT),
    ])
}

async fn measure(image: &Image, rounds: usize) -> Result<Vec<Round>> {
    let processors = Processors::of_this_program()?;
    let lab = Lab::start(LabOptions::with_pool(POOL, Binaries::in_folder(Profile::Release.folder()))).await?;
    let daemon = lab.daemon_pid().context("The daemon has ended")?;
    processors.pin_to_others(std::process::id())?;
    processors.pin_to_others(daemon)?; // and what it starts from now on
    lab.define(&Guest::new("victim", 384, 192, 768), Some(image)).await?;
    lab.define(&Guest::new("offender", 448, 128, 512), Some(image)).await?;
    let mut victim = lab.boot("victim").await?;
    processors.pin_to_first(pid(&lab, "victim").await?)?;
    lab.until_agent_reports("victim").await?;
    let mut measured = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        measured.push(round(&lab, &mut victim).await?);
    }
    let leftovers = lab.finish().await?;
    ensure!(leftovers.is_empty(), "Left behind: {leftovers:?}");
    Ok(measured)
}

async fn round(lab: &Lab, victim: &mut Workload) -> Result<Round> {
    let mut neighbour = lab.boot("offender").await?;
    lab.until_agent_reports("offender").await?;
    victim.grow(LOAD, None).await?;
    victim.settle(WITHIN).await?;
    let ballooned = |vm: &VmView| vm.ballooned_bytes >= BALLOONED;
    lab.until_vm("offender", "ballooned", WITHIN, ballooned).await?;
    let calm = pages_per_second(victim).await?;
    neighbour.mischief(WorkloadRequest::Balloon { bound: false }).await?;
    neighbour.grow(OFFENCE, Some(Bytes::GIB)).await?;
    let offended = pages_per_second(victim).await?;
    let offender_died = !lab.client().vm("offender").await?.state.is_on();
    drop(neighbour);
    if !offender_died {
        lab.client().stop("offender", &StopRequest { mode: StopMode::Force, ..StopRequest::default() }).await?;
    }
    victim.shrink(LOAD).await?;
    let status = victim.status().await?;
    ensure!(status.oom_kills == 0 && status.broken == 0, "The victim lost memory: {status:?}");
    Ok(Round { calm, offended, offender_died })
}

/// How fast the guest reads all that it holds, over and over.
async fn pages_per_second(workload: &mut Workload) -> Result<f64> {
    let (began, mut pages) = (Instant::now(), 0_u64);
    while began.elapsed() < MEASURE {
        let verified = workload.verify().await?;
        ensure!(verified.broken == 0, "{} pages have a wrong content", verified.broken);
        pages += verified.pages;
    }
    #[expect(clippy::cast_precision_loss, reason = "some million pages")]
    let pages = pages as f64;
    Ok(pages / began.elapsed().as_secs_f64())
}

async fn pid(lab: &Lab, vm: &str) -> Result<u32> {
    lab.client().vm(vm).await?.pid.with_context(|| format!("{vm} has no process"))
}

/// The processors that this program may use: the first, and the others.
struct Processors {
    first: CpuSet,
    others: CpuSet,
}

impl Processors {
    fn of_this_program() -> Result<Self> {
        let all = sched_getaffinity(None).context("Could not find out which processors there are")?;
        let numbers: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&number| all.is_set(number)).collect();
        let (first, others) = numbers.split_first().context("This program may use no processor")?;
        ensure!(!others.is_empty(), "This bench needs two processors: the victim has one of its own");
        let set = |numbers: &[usize]| {
            let mut set = CpuSet::new();
            for &number in numbers {
                set.set(number);
            }
            set
        };
        Ok(Self { first: set(&[*first]), others: set(others) })
    }

    fn pin_to_first(&self, pid: u32) -> Result<()> {
        pin(pid, &self.first)
    }

    fn pin_to_others(&self, pid: u32) -> Result<()> {
        pin(pid, &self.others)
    }
}

/// Pins all threads that a process has now; what they start inherits it.
fn pin(pid: u32, processors: &CpuSet) -> Result<()> {
    for entry in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("Process {pid} has ended"))? {
        let thread = entry?.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        sched_setaffinity(thread, processors).with_context(|| format!("Could not pin process {pid}"))?;
    }
    Ok(())
}

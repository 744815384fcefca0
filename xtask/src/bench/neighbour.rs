//! What a guest loses when its neighbour offends: the neighbour takes back
//! what the balloon holds of its memory, and touches all of it.
//!
//! ```text
//!  each round: offender boots ▶ victim boots: what it is guaranteed, the offender gives
//!              ▶ victim verifies its pages, beside a calm neighbour
//!              ▶ offender empties its balloon and fills its memory, bit by bit, until it is killed
//!              ▶ victim verifies its pages, beside that; and once more when it is over
//! ```
//!
//! The victim has a processor of its own: its QEMU is pinned to the first one,
//! and everything else that is ours (the other QEMU, the daemon, this program)
//! to the others. And time in which it was ready to run and somebody else's
//! program had that processor does not count: the kernel knows it
//! (`/proc/PID/task/TID/schedstat`). Nor does how fast memory itself is at that
//! time: a loop of ours measures that meanwhile ([`Reference`]). So what is
//! measured is how the host manages memory, and neither that two guests share
//! processors and caches nor what else this machine does. What it comes to by
//! the clock alone is told beside it; of all rounds, the one in the middle
//! counts.

mod reference;

use std::{collections::HashMap, ffi::OsString, fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use dynmem_api::{StopMode, StopRequest, VmView};
use dynmem_units::Bytes;
use dynmem_vm_tests::{Binaries, Guest, Image, Lab, LabOptions, Workload, WorkloadRequest};
use rustix::{
    process::Pid,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use tokio::time::Instant;

use self::reference::Reference;
use crate::{build, report::Metric, setup};

/// Both can boot, because the offender gives what the victim boots with.
const POOL: Bytes = Bytes::from_mib(1536);
const VICTIM_MIB: u64 = 768;
const OFFENDER_MIB: u64 = 1024;
/// What the victim holds while it is measured.
const LOAD: Bytes = Bytes::from_mib(400);
/// What the offender fills: much more than it is left with, less than it sees.
const OFFENCE: Bytes = Bytes::from_mib(860);
/// So much of the offender's memory is ballooned, at least.
const BALLOONED: Bytes = Bytes::from_mib(384);
/// How long the victim is measured at a time. The offender fills its memory in half
/// of that; on a busy host, later: its end is waited for.
const MEASURE_SECONDS: u64 = 12;
const MEASURE_SECONDS_QUICK: u64 = 4;
const ROUNDS: usize = 7;
const ROUNDS_QUICK: usize = 1;
const WITHIN: Duration = Duration::from_mins(2);
const GOAL_LOSS_PERCENT: f64 = 5.0;

/// Pages per second.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Without the time in which the victim waited for a processor.
    own: f64,
    by_the_clock: f64,
    /// How fast memory was meanwhile: reads of the reference in a nanosecond.
    memory: f64,
}

/// What one round came to.
#[derive(Clone, Copy, Debug)]
struct Round {
    before: Pace,
    offended: Pace,
    after: Pace,
    /// What became of the offender.
    offender_died: bool,
}

impl Round {
    /// What the victim kept of its pace, by the speed that memory had.
    fn kept(&self) -> f64 {
        let calm = f64::midpoint(self.before.own / self.before.memory, self.after.own / self.after.memory);
        self.offended.own / self.offended.memory / calm
    }

    /// The same, as fast as memory was.
    fn kept_uncorrected(&self) -> f64 {
        self.offended.own / self.calm()
    }

    fn kept_by_the_clock(&self) -> f64 {
        2.0 * self.offended.by_the_clock / (self.before.by_the_clock + self.after.by_the_clock)
    }

    /// The mean of before and after: what drifts meanwhile is no loss.
    fn calm(&self) -> f64 {
        f64::midpoint(self.before.own, self.after.own)
    }
}

pub(super) fn run(quick: bool) -> Result<Vec<Metric>> {
    setup::run()?;
    let binaries = build::measured(quick)?;
    let image = build::image()?;
    let (rounds, seconds) = if quick { (ROUNDS_QUICK, MEASURE_SECONDS_QUICK) } else { (ROUNDS, MEASURE_SECONDS) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut measured = runtime.block_on(measure(binaries, &image, rounds, seconds))?;
    measured.sort_by(|a, b| a.kept().total_cmp(&b.kept()));
    let middle = measured[measured.len() / 2];
    let died = measured.iter().filter(|round| round.offender_died).count();
    let all = |of: fn(&Round) -> f64| -> Vec<f64> {
        measured.iter().map(|round| (of(round) * 1000.0).round() / 1000.0).collect()
    };
    let metric = |metric: Metric| {
        let metric = metric.with("rounds", rounds).with("offenders_ended", died);
        metric
            .with("kept", all(Round::kept))
            .with("kept_uncorrected", all(Round::kept_uncorrected))
            .with("kept_by_the_clock", all(Round::kept_by_the_clock))
    };
    Ok(vec![
        metric(Metric::new("neighbour_pages_per_second", middle.offended.own, "pages/s"))
            .against("beside a calm neighbour", middle.calm()),
        metric(Metric::new("neighbour_loss_percent", (1.0 - middle.kept()) * 100.0, "%"))
            .against_goal(GOAL_LOSS_PERCENT),
    ])
}

async fn measure(binaries: Binaries, image: &Image, rounds: usize, seconds: u64) -> Result<Vec<Round>> {
    let processors = Processors::of_this_program()?;
    let lab = Lab::start(LabOptions::with_pool(POOL, binaries)).await?;
    let daemon = lab.daemon_pid().context("The daemon has ended")?;
    processors.pin_to_others(std::process::id())?;
    processors.pin_to_others(daemon)?; // and what it starts from now on
    lab.define(&Guest::new("offender", OFFENDER_MIB, 128, OFFENDER_MIB), Some(image)).await?;
    lab.define(&Guest::new("victim", VICTIM_MIB, VICTIM_MIB, VICTIM_MIB), Some(image)).await?;
    let reference = Reference::begin(processors.first, processors.others)?;
    let mut measured = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let round = round(&lab, &processors, &reference, seconds).await?;
        let percent = [Round::kept, Round::kept_uncorrected, Round::kept_by_the_clock].map(|of| of(&round) * 100.0);
        let [kept, uncorrected, clock] = percent;
        eprintln!(
            "Beside the offender the victim keeps {kept:.1} % of its pace; {uncorrected:.1} % as fast as memory was, \
             {clock:.1} % by the clock alone"
        );
        measured.push(round);
    }
    let leftovers = lab.finish().await?;
    ensure!(leftovers.is_empty(), "Left behind: {leftovers:?}");
    Ok(measured)
}

async fn round(lab: &Lab, processors: &Processors, reference: &Reference, seconds: u64) -> Result<Round> {
    let mut neighbour = lab.boot("offender").await?;
    lab.until_agent_reports("offender").await?;
    let mut victim = lab.boot("victim").await?;
    let pid = lab.client().vm("victim").await?.pid.context("The victim has no process")?;
    processors.pin_to_first(pid)?;
    victim.grow(LOAD, Some(Bytes::GIB)).await?;
    victim.settle(WITHIN).await?;
    let ballooned = |vm: &VmView| vm.ballooned_bytes >= BALLOONED;
    lab.until_vm("offender", "ballooned", WITHIN, ballooned).await?;
    let before = pace(&mut victim, pid, reference, seconds, async || true).await?;
    neighbour.mischief(WorkloadRequest::Balloon { bound: false }).await?;
    neighbour.grow(OFFENCE, Some(OFFENCE.scale(2, seconds))).await?;
    let has_ended = async || lab.client().vm("offender").await.is_ok_and(|vm| !vm.state.is_on());
    let offended = pace(&mut victim, pid, reference, seconds, has_ended).await?;
    let offender_died = has_ended().await;
    drop(neighbour);
    let stop = StopRequest { mode: StopMode::Force, ..StopRequest::default() };
    if !offender_died {
        lab.client().stop("offender", &stop).await?;
    }
    let after = pace(&mut victim, pid, reference, seconds, async || true).await?;
    let status = victim.status().await?;
    ensure!(status.oom_kills == 0 && status.broken == 0, "The victim lost memory: {status:?}");
    drop(victim);
    lab.client().stop("victim", &stop).await?;
    Ok(Round { before, offended, after, offender_died })
}

/// How fast the guest reads all that it holds, over and over, for so long and
/// until something is over, if that is soon.
async fn pace(
    workload: &mut Workload,
    pid: u32,
    reference: &Reference,
    seconds: u64,
    is_over: impl AsyncFn() -> bool,
) -> Result<Pace> {
    let mark = reference.mark();
    let least = Duration::from_secs(seconds);
    let (began, mut pages, before) = (Instant::now(), 0_u64, schedule(pid)?);
    while began.elapsed() < least || (began.elapsed() < WITHIN && !is_over().await) {
        let verified = workload.verify().await?;
        ensure!(verified.broken == 0, "{} pages have a wrong content", verified.broken);
        pages += verified.pages;
    }
    #[expect(clippy::cast_precision_loss, reason = "some million pages")]
    let pages = pages as f64;
    let (elapsed, waited) = (began.elapsed(), waited(&before, &schedule(pid)?));
    Ok(Pace {
        own: pages / elapsed.saturating_sub(waited).as_secs_f64(),
        by_the_clock: pages / elapsed.as_secs_f64(),
        memory: reference.speed_since(mark).context("The reference did not run")?,
    })
}

/// Of each thread: how long it ran, and how long it waited for a processor.
type Schedule = HashMap<OsString, (Duration, Duration)>;

fn schedule(pid: u32) -> Result<Schedule> {
    let mut threads = HashMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("Process {pid} has ended"))? {
        let entry = entry?;
        let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else { continue }; // it has just ended
        let mut nanoseconds = text.split_whitespace().map_while(|word| word.parse().ok().map(Duration::from_nanos));
        let (ran, waited) = nanoseconds.next().zip(nanoseconds.next()).context("schedstat has no two numbers")?;
        threads.insert(entry.file_name(), (ran, waited));
    }
    Ok(threads)
}

/// How long the busiest thread, which is the guest's processor, waited for one
/// of the host's.
fn waited(before: &Schedule, after: &Schedule) -> Duration {
    let spent = after.iter().filter_map(|(thread, (ran, waited))| {
        let (ran_before, waited_before) = before.get(thread)?;
        Some((ran.saturating_sub(*ran_before), waited.saturating_sub(*waited_before)))
    });
    spent.max().map_or(Duration::ZERO, |(_, waited)| waited)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_threads_wait_counts() {
        let schedule = |rows: [(&str, u64, u64); 2]| -> Schedule {
            let seconds = Duration::from_secs;
            rows.into_iter().map(|(thread, ran, waited)| (thread.into(), (seconds(ran), seconds(waited)))).collect()
        };
        let (before, after) = (schedule([("1", 50, 9), ("2", 10, 1)]), schedule([("1", 51, 20), ("2", 18, 4)]));
        assert_eq!(waited(&before, &after), Duration::from_secs(3));
        assert_eq!(waited(&before, &HashMap::new()), Duration::ZERO);
        assert!(!schedule_of_this_program().is_empty());
    }

    fn schedule_of_this_program() -> Schedule {
        schedule(std::process::id()).expect("readable")
    }
}

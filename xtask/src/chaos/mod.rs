//! `cargo xtask chaos`: real guests on a pool too small for them, random loads,
//! and random faults, for as long as you like.
//!
//! ```text
//!  director ──▶ loads (grow, shrink, spike, verify) ──▶ guests
//!     │    └──▶ faults: daemon, QEMU, agent, balloon, reboots, pauses, settings
//!     ▼                                                   │
//!  observer: what QEMU and the daemon say ──▶ verdict ◀───┘ what the guests say
//! ```
//!
//! Everything random comes from one seed, which is printed first. A guest that
//! a fault was done to is excused for a while; nobody else is: whoever had no
//! fault of its own must not be killed, restarted, or left hungry beside
//! memory that could be had.

mod actor;
mod deeds;
mod director;
mod fault;
mod kills;
mod verdict;

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, bail};
use dynmem_api::EventsQuery;
use dynmem_vm_tests::{Binaries, Image, Lab, LabOptions};

use self::{
    actor::{Cast, POOL_STEP},
    director::Director,
    verdict::{Verdict, judge},
};
use crate::{
    build::{self, Profile},
    demo::observer::Observer,
    report::{self, Metric},
    setup, shell,
};

/// How many of the last events are shown after a failure.
const EVENTS_SHOWN: u32 = 60;

/// How to run it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long, boots and the final check excluded
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
    /// Chooses guests, loads, faults and moments; a random one if none is given
    #[arg(long)]
    seed: Option<u64>,
    /// Prints the verdict as JSON lines on stdout
    #[arg(long)]
    json: bool,
    /// Instead of all this: kills the daemon so often in the middle of an operation, on machines without guests
    #[arg(long, value_name = "ROUNDS")]
    daemon_kills: Option<u32>,
}

/// Installs and builds what is missing, and lets it happen.
pub(crate) fn run(options: &Options) -> Result<()> {
    let seed = options.seed.unwrap_or_else(|| fastrand::Rng::new().u64(..));
    eprintln!("Seed: {seed}");
    setup::run()?;
    build::programs(Profile::Dev)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(rounds) = options.daemon_kills {
        let metrics = runtime.block_on(kills::run(rounds, seed))?;
        report::print(&metrics, options.json);
        return Ok(());
    }
    let image = build::image()?;
    let verdict = tokio::task::LocalSet::new().block_on(&runtime, perform(options, seed, &image))?;
    report::print(&metrics(&verdict, options, seed), options.json);
    if !verdict.failures.is_empty() {
        bail!("Seed {seed}: {} promises were broken:\n  {}", verdict.failures.len(), verdict.failures.join("\n  "));
    }
    Ok(())
}

async fn perform(options: &Options, seed: u64, image: &Image) -> Result<Verdict> {
    let cast = Cast::choose(fastrand::Rng::with_seed(seed));
    let pool = cast.pool().align_up(POOL_STEP);
    eprintln!("{} guests on {} MiB", cast.guests.len(), pool.mib());
    let mut lab = Lab::start(LabOptions::with_pool(pool, Binaries::in_folder(Profile::Dev.folder()))).await?;
    let root = lab.root().to_owned();
    for guest in &cast.guests {
        lab.define(guest, Some(image)).await?;
    }
    let names: Vec<&str> = cast.guests.iter().map(|guest| guest.name.as_str()).collect();
    let observer = Observer::start(&lab, &names);
    let mut director = Director::new(&mut lab, cast.clone(), observer.began());
    let performed = director.perform(Duration::from_secs(options.minutes * 60)).await;
    let log = director.finish();
    let samples = observer.finish().await?;
    let mut verdict = judge(&samples, pool, &log);
    verdict.failures.extend(performed.err().map(|error| format!("{error:#}")));
    if !verdict.failures.is_empty() {
        tell(&lab, &samples).await?;
    }
    let leftovers = lab.finish().await.context("The daemon did not end in order");
    let mut leftovers = leftovers.unwrap_or_else(|error| vec![format!("{error:#}")]);
    leftovers.extend(root.exists().then(|| format!("folder {}", root.display())));
    leftovers.extend(dynmem_vm_tests::groups(&root).iter().map(|group| format!("group {}", group.display())));
    verdict.failures.extend(leftovers.iter().map(|what| format!("Left behind: {what}")));
    verdict.leftovers = leftovers.len();
    Ok(verdict)
}

/// What helps to find out why: the last events, and a file with all samples.
async fn tell(lab: &Lab, samples: &[crate::demo::observer::Sample]) -> Result<()> {
    let path = shell::target_dir().join("chaos-samples.jsonl");
    let lines: Vec<String> = samples.iter().map(|sample| sample.to_json().to_string()).collect();
    fs::write(&path, lines.join("\n")).with_context(|| format!("Could not write {}", path.display()))?;
    eprintln!("All samples are in {}. The last events:", path.display());
    let query = EventsQuery { limit: Some(EVENTS_SHOWN), ..EventsQuery::default() };
    for event in lab.client().events(&query).await.unwrap_or_default() {
        eprintln!("  {} {:16} {}", event.time_unix_ms, event.kind, event.message);
    }
    Ok(())
}

fn metrics(verdict: &Verdict, options: &Options, seed: u64) -> Vec<Metric> {
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let counts = [
        ("guests_lost", verdict.guests_lost as f64),
        ("patterns_broken", verdict.patterns_broken as f64),
        ("pool_exceeded_samples", verdict.pool_exceeded as f64),
        ("neighbour_harmed", verdict.neighbour_harmed as f64),
        ("leftovers", verdict.leftovers as f64),
    ];
    let faults = f64::from(verdict.faults.values().sum::<u32>());
    let kinds: serde_json::Map<_, _> =
        verdict.faults.iter().map(|(name, count)| ((*name).to_owned(), (*count).into())).collect();
    let faults = Metric::new("faults", faults, "count").with("kinds", kinds).with("paged", verdict.paged);
    let zero = counts.map(|(name, count)| Metric::new(name, count, "count").against_goal(0.0));
    let all = [faults].into_iter().chain(zero);
    all.map(|metric| {
        metric
            .with("seed", seed)
            .with("minutes", options.minutes)
            .with("samples", verdict.samples)
            .with("guests", verdict.guests)
    })
    .collect()
}

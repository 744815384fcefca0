//! `cargo xtask demo`: four real guests on a pool too small for all of them.
//!
//! ```text
//!  play ──▶ workloads in the guests ──▶ demand ──▶ dynmemd ──▶ QEMU
//!                                                     │          │
//!  screen ◀── observer: what the daemon says ◀────────┘          │
//!  verdict ◀─           and what QEMU says   ◀───────────────────┘
//! ```
//!
//! With `--check` the play has disasters in it, and the verdict decides about
//! success.

pub(crate) mod observer;
mod play;
mod screen;
pub(crate) mod verdict;

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use dynmem_units::Bytes;
use dynmem_vm_tests::{Binaries, Image, Lab, LabOptions};

use self::{
    observer::{Observer, Sample},
    play::{NAMES, POOL, Play},
    screen::Screen,
    verdict::{Tally, tally},
};
use crate::{
    build::{self, Profile},
    report::{self, Metric},
    setup, shell,
};

/// The longest hunger beside memory that could end it.
const STARVED_AT_MOST: Duration = Duration::from_secs(5);

/// How to run it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Kills a guest and the daemon in the middle, verifies all promises, and fails unless they hold
    #[arg(long)]
    check: bool,
    /// Prints the verdict as JSON lines on stdout
    #[arg(long)]
    json: bool,
    /// How long the play takes, the boot excluded
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(5..=3600), value_name = "SECONDS")]
    seconds: u16,
    /// Writes every sample as a JSON line to this file; after a failure, to one in the target folder
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

/// What the play and its samples came to.
struct Outcome {
    samples: Vec<Sample>,
    tally: Tally,
    guests_lost: usize,
    patterns_broken: u64,
    leftovers: usize,
    /// A sentence for each promise that was broken.
    failures: Vec<String>,
}

/// Installs and builds what is missing, and performs.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::run()?;
    build::programs(Profile::Dev)?;
    let image = build::image()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(perform(options, &image))?;
    let failed = !outcome.failures.is_empty();
    let default_trace = failed.then(|| shell::target_dir().join("demo-samples.jsonl"));
    if let Some(path) = options.trace.as_ref().or(default_trace.as_ref()) {
        let lines: Vec<String> = outcome.samples.iter().map(|sample| sample.to_json().to_string()).collect();
        fs::write(path, lines.join("\n")).with_context(|| format!("Could not write {}", path.display()))?;
        eprintln!("All samples are in {}", path.display());
    }
    report::print(&metrics(&outcome, options), options.json);
    if failed {
        bail!("{} promises were broken:\n  {}", outcome.failures.len(), outcome.failures.join("\n  "));
    }
    farewell(&outcome);
    Ok(())
}

async fn perform(options: &Options, image: &Image) -> Result<Outcome> {
    let binaries = Binaries::in_folder(Profile::Dev.folder());
    let mut lab = Lab::start(LabOptions::with_pool(POOL, binaries.clone())).await?;
    let root = lab.root().to_owned();
    eprintln!("In another terminal: {} --socket {} watch", binaries.dynmem()?.display(), lab.socket().display());
    let observer = Observer::start(&lab, &NAMES);
    let screen = Screen::start(observer.latest(), !options.check);
    let mut play = Play {
        lab: &mut lab,
        image,
        screen: &screen,
        samples: observer.latest(),
        length: Duration::from_secs(options.seconds.into()),
        disasters: options.check,
        workloads: BTreeMap::new(),
        patterns_broken: 0,
        calm_until: None,
    };
    let performed = play.perform().await;
    let lost = play.lost().await;
    let (patterns_broken, calm_until) = (play.patterns_broken, play.calm_until);
    let calm_for = calm_until.map(|until| until.saturating_duration_since(observer.began()));
    let samples = observer.finish().await?;
    screen.finish().await;
    let mut failures: Vec<String> = performed.err().map(|error| format!("{error:#}")).into_iter().collect();
    failures.extend(lost.iter().map(|guest| format!("Guest lost: {guest}")));
    let mut leftovers = lab.finish().await.context("The daemon did not end in order")?;
    leftovers.extend(root.exists().then(|| format!("folder {}", root.display())));
    failures.extend(leftovers.iter().map(|what| format!("Left behind: {what}")));
    let tally = tally(&samples, POOL);
    failures.extend(broken_promises(&tally));
    failures.extend(shrinking(&samples, calm_for));
    Ok(Outcome { samples, tally, guests_lost: lost.len(), patterns_broken, leftovers: leftovers.len(), failures })
}

fn broken_promises(tally: &Tally) -> Vec<String> {
    let mut broken: Vec<String> = tally.pool_broken().into_iter().collect();
    let Tally { samples, below_minimum, starved_longest, starved_guest, .. } = tally;
    if *below_minimum > 0 {
        broken.push(format!("A guest held less than its minimum in {below_minimum} of {samples} samples"));
    }
    if *starved_longest > STARVED_AT_MOST {
        let guest = starved_guest.as_deref().unwrap_or("A guest");
        broken.push(format!("{guest} starved for {:.1} s beside available memory", starved_longest.as_secs_f64()));
    }
    broken
}

/// Memory is taken when it is needed, and then it is taken: nobody sank below
/// startup while all were calm, and somebody did afterwards.
fn shrinking(samples: &[Sample], calm_for: Option<Duration>) -> Vec<String> {
    let Some(calm_for) = calm_for else { return Vec::new() }; // the play ended before: that is told already
    let sank = |sample: &Sample| {
        sample.guests.iter().find_map(|guest| {
            let (lent, view) = (guest.lent?, guest.view.as_ref()?);
            (lent.assigned() < view.settings.startup_bytes).then(|| format!("{} at {}", guest.name, lent.assigned()))
        })
    };
    let mut broken = Vec::new();
    if let Some(guest) = samples.iter().filter(|sample| sample.at < calm_for).find_map(sank) {
        broken.push(format!("Memory was taken from a guest while nobody needed it: {guest}"));
    }
    if !samples.iter().any(|sample| sank(sample).is_some()) {
        broken.push("No idle guest sank below its startup memory, although others needed it".to_owned());
    }
    broken
}

fn metrics(outcome: &Outcome, options: &Options) -> Vec<Metric> {
    let tally = &outcome.tally;
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let counts = [
        ("guests_lost", outcome.guests_lost as f64),
        ("patterns_broken", outcome.patterns_broken as f64),
        ("pool_exceeded_samples", tally.pool_exceeded as f64),
        ("below_minimum_samples", tally.below_minimum as f64),
        ("leftovers", outcome.leftovers as f64),
    ];
    let starved = Metric::new("starved_seconds_max", tally.starved_longest.as_secs_f64(), "s")
        .against_goal(STARVED_AT_MOST.as_secs_f64())
        .with("guest", tally.starved_guest.clone());
    let counts = counts.map(|(name, count)| Metric::new(name, count, "count").against_goal(0.0));
    let all = counts.into_iter().chain([starved]);
    all.map(|metric| {
        metric
            .with("guests", NAMES.len())
            .with("pool_mib", POOL.mib())
            .with("seconds", options.seconds)
            .with("samples", tally.samples)
            .with("disasters", options.check)
    })
    .collect()
}

/// How much memory the guests were given and gave back, by QEMU's own numbers.
fn moved(samples: &[Sample]) -> (Bytes, Bytes) {
    let (mut added, mut removed) = (Bytes::ZERO, Bytes::ZERO);
    for pair in samples.windows(2) {
        for (before, after) in pair[0].guests.iter().zip(&pair[1].guests) {
            let (Some(before), Some(after)) = (before.lent, after.lent) else { continue };
            added = added.saturating_add(after.assigned().saturating_sub(before.assigned()));
            removed = removed.saturating_add(before.assigned().saturating_sub(after.assigned()));
        }
    }
    (added, removed)
}

/// What was seen, and where to go next.
fn farewell(outcome: &Outcome) {
    let (added, removed) = moved(&outcome.samples);
    eprintln!(
        "\nFour guests with maxima of 4 GiB together lived on {} MiB. {} MiB were given and {} MiB taken back,\n\
         and in {} samples of QEMU's own numbers the pool was never exceeded.\n\n\
         Next: cargo xtask test                 everything that is tested\n      \
               cargo xtask demo --check         the same with a killed guest and a killed daemon, verified\n      \
               docs/manual/src/tutorial.md      your own guests\n      \
               docs/architecture.md             how it works",
        POOL.mib(),
        added.mib(),
        removed.mib(),
        outcome.tally.samples,
    );
}

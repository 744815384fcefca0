//! `cargo xtask sim`: a simulated host, to look at one situation closely.
//!
//! ```text
//! scenario, seed ──▶ plan ──┬──▶ world ◀──▶ dynmem, or another manager
//!                           │      └──▶ score, story, plot
//! --faults: seed ──▶ random hosts with everything that goes wrong ──▶ invariants
//! ```

mod faults;
mod live;
mod manager;
mod measure;

use std::path::PathBuf;

use anyhow::Result;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use dynmem_sim::scenario::{self, Scenario};

pub(crate) use self::{
    live::{Outcome, Remember, live, panels},
    manager::Manager,
    measure::{MEASURES, Measure},
};
use crate::{
    bench::plot::time_plot,
    report::{self, Metric},
};

/// A scenario's options mean nothing beside these.
const NOT_SCENARIO: [&str; 3] = ["faults", "life", "list"];

/// What to simulate.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    what: What,
    /// Varies what happens; the same seed gives the same run on every machine
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Who decides
    #[arg(long, value_parser = Manager::parser(), default_value = "dynmem", conflicts_with_all = NOT_SCENARIO)]
    policy: Manager,
    /// How long, beside the first minute, which does not count; the scenario's own length if not given
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX), conflicts_with_all = NOT_SCENARIO)]
    seconds: Option<u64>,
    /// Tells what happened last
    #[arg(long, conflicts_with_all = NOT_SCENARIO)]
    story: bool,
    /// Draws memory over time to this SVG file
    #[arg(long, value_name = "FILE", conflicts_with_all = NOT_SCENARIO)]
    plot: Option<PathBuf>,
    /// For --faults: how long, in steps of VMs
    #[arg(long, default_value_t = 1_000_000, conflicts_with_all = ["scenario", "life", "list"])]
    steps: u64,
    /// Prints JSON lines on stdout
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// One situation
    #[arg(long, value_parser = scenario_parser())]
    scenario: Option<Scenario>,
    /// Small hosts on which everything goes wrong that may, and every invariant in every step
    #[arg(long)]
    faults: bool,
    /// One of those hosts again, by its own seed
    #[arg(long, value_name = "SEED")]
    life: Option<u64>,
    /// The scenarios that there are
    #[arg(long)]
    list: bool,
}

/// The lines of a story that people may read.
const STORY_LINES: usize = 200;
/// As long as anybody waits for.
const SECONDS_MAX: u64 = 366 * 24 * 60 * 60;

/// Simulates, and says what came of it.
pub(crate) fn run(options: &Options) -> Result<()> {
    match &options.what {
        What { scenario: Some(scenario), .. } => one(*scenario, options),
        What { life: Some(seed), .. } => faults::one(*seed),
        What { faults: true, .. } => faults::many(options.seed, options.steps, options.json),
        What { .. } => {
            list(options.json);
            Ok(())
        }
    }
}

/// Lives through one scenario.
fn one(scenario: Scenario, options: &Options) -> Result<()> {
    let plan = scenario.plan(options.seed);
    let plan = options.seconds.map_or_else(|| plan.clone(), |seconds| plan.clone().lasting(seconds));
    let remember = Remember { story_lines: Some(STORY_LINES), memory: options.plot.is_some() };
    let outcome = live(plan.clone(), options.policy, remember);
    if let Some(story) = outcome.story.as_ref().filter(|_| options.story || outcome.broken.is_some()) {
        eprintln!("{story}");
    }
    let described = |measure: &Measure| describe(measure.metric(&outcome.score), scenario.name, options);
    report::print(&MEASURES.iter().map(described).collect::<Vec<Metric>>(), options.json);
    if let Some(path) = &options.plot {
        let title = format!("{}: {}", scenario.name, scenario.about);
        time_plot(path, &title, &panels(&plan, std::slice::from_ref(&outcome)))?;
        eprintln!("Drawn to {}", path.display());
    }
    match outcome.broken {
        Some(broken) => Err(anyhow::Error::new(broken).context(format!("Seed {} of {}", options.seed, scenario.name))),
        None => Ok(()),
    }
}

fn describe(metric: Metric, scenario: &'static str, options: &Options) -> Metric {
    metric.with("scenario", scenario).with("policy", options.policy.name()).with("seed", options.seed)
}

/// Every scenario, with what happens in it.
#[expect(clippy::print_stdout, reason = "results are what stdout is for")]
fn list(json: bool) {
    for Scenario { name, about, fits, .. } in scenario::ALL {
        if json {
            println!("{}", serde_json::json!({ "scenario": name, "about": about, "fits": fits }));
        } else {
            println!("{name:12} {about}{}", if fits { "" } else { " (more than there is)" });
        }
    }
}

/// Reads a scenario's name; a wrong one is answered with the names that there
/// are, and with the one that was probably meant.
fn scenario_parser() -> impl TypedValueParser<Value = Scenario> {
    let values = scenario::ALL.iter().map(|scenario| PossibleValue::new(scenario.name).help(scenario.about));
    PossibleValuesParser::new(values).try_map(|name| Scenario::named(&name))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    /// What clap says of `cargo xtask sim` with these options.
    fn refusal(options: &[&str]) -> String {
        let line = ["cargo xtask", "sim"].iter().chain(options);
        crate::Arguments::try_parse_from(line).err().expect("refused").to_string()
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_and_the_nearest() {
        let said = refusal(&["--scenario", "spike"]);
        assert!(said.contains("steady, walk, surge-free"), "{said}");
        assert!(said.contains("a similar value exists: 'spikes'"), "{said}");
        let said = refusal(&["--scenario", "spikes", "--policy", "moom"]);
        assert!(said.contains("clairvoyant, dynmem, static, mom"), "{said}");
        assert!(said.contains("a similar value exists: 'mom'"), "{said}");
    }

    #[test]
    fn one_thing_is_simulated_at_a_time() {
        assert!(refusal(&[]).contains("<--scenario <SCENARIO>|--faults|--life <SEED>|--list>"));
        for options in [
            &["--faults", "--scenario", "steady"][..],
            &["--list", "--life", "7"],
            &["--faults", "--story"],
            &["--life", "7", "--policy", "mom"],
            &["--scenario", "steady", "--steps", "7"],
        ] {
            assert!(refusal(options).contains("cannot be used with"), "{options:?}");
        }
    }
}

//! `cargo xtask bench NAME`: how fast it is, on this machine, now.
//!
//! Each bench prints its numbers with the goal beside them; `--json` prints
//! them as lines for programs. `docs/benchmarks.md` says what they mean.

mod dashboard;
mod engine;
mod idle;
mod load;
mod neighbour;
pub(crate) mod plot;
mod policy;
mod reaction;
mod recovery;
mod restart;

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::report;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which bench
    name: Name,
    /// Prints JSON lines on stdout
    #[arg(long)]
    json: bool,
    /// A few seconds only: shows that it works, measures roughly
    #[arg(long)]
    quick: bool,
    /// For `restart`: how many restarts, 200 if it is not said
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: Option<u32>,
    /// For `policy`: a recorded trace to measure density on (docs/simulator.md says in what form)
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// For `policy`: the folder for the drawings, target/bench/policy if none is named
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    /// One decision of the engine, for many VMs
    Engine,
    /// From a real guest's allocation spike to the first memory it gets
    Reaction,
    /// The daemon at rest with twenty guests: processor and memory
    Idle,
    /// A thousand guests on one daemon: processor, memory, and how fast the list of them is told
    Load,
    /// What a guest loses when its neighbour takes more memory than it was lent
    Neighbour,
    /// From the start of a new daemon, after one was killed, until it has twenty guests in its hands
    Recovery,
    /// Restarts of a real guest for which there is no memory, paged to a file
    Restart,
    /// The dashboard in Chromium with five hundred VMs: its longest frame, its first load, its heap over time
    Dashboard,
    /// dynmem and other managers on simulated hosts: what the guests lacked, and what it cost
    Policy,
}

/// Measures, and prints what came of it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let of_policy = options.trace.is_some() || options.plots.is_some();
    ensure!(!of_policy || options.name == Name::Policy, "--trace and --plots are for `cargo xtask bench policy`");
    ensure!(options.rounds.is_none() || options.name == Name::Restart, "--rounds is for `cargo xtask bench restart`");
    let metrics = match options.name {
        Name::Engine => engine::run(options.quick)?,
        Name::Reaction => reaction::run(options.quick)?,
        Name::Load => load::run(options.quick)?,
        Name::Idle => idle::run(options.quick)?,
        Name::Neighbour => neighbour::run(options.quick)?,
        Name::Recovery => recovery::run(options.quick)?,
        Name::Restart => restart::run(options.quick, options.rounds)?,
        Name::Dashboard => dashboard::run(options.quick)?,
        Name::Policy => return policy::run(options),
    };
    report::print(&metrics, options.json);
    Ok(())
}

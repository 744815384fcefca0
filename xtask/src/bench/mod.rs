//! `cargo xtask bench NAME`: how fast it is, on this machine, now.
//!
//! Each bench prints its numbers with the goal beside them; `--json` prints
//! them as lines for programs. `docs/benchmarks.md` says what they mean.

mod engine;
mod idle;
#[cfg_attr(not(test), expect(dead_code, reason = "the benches that draw follow"))]
mod plot;
mod reaction;

use anyhow::Result;

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
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Name {
    /// One decision of the engine, for many VMs
    Engine,
    /// From a real guest's allocation spike to the first memory it gets
    Reaction,
    /// The daemon at rest with twenty guests: processor and memory
    Idle,
}

/// Measures, and prints what came of it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let metrics = match options.name {
        Name::Engine => engine::run(options.quick)?,
        Name::Reaction => reaction::run(options.quick)?,
        Name::Idle => idle::run(options.quick)?,
    };
    report::print(&metrics, options.json);
    Ok(())
}

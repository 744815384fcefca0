//! `cargo xtask ci`: what must hold before a change lands.
//!
//! One list of steps, cheap ones first; each is a command that a person can
//! run alone. The first failure ends it.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{setup, shell, tools};

/// What to do.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only shows the steps
    #[arg(long)]
    list: bool,
}

struct Step {
    /// `cargo`'s arguments.
    command: &'static [&'static str],
    environment: Option<(&'static str, &'static str)>,
    minutes: u64,
}

const fn step(minutes: u64, command: &'static [&'static str]) -> Step {
    Step { command, environment: None, minutes }
}

/// Limits are generous: two cores, an empty target folder, and neighbours.
const STEPS: [Step; 16] = [
    step(2, &["fmt", "--all", "--check"]),
    step(4, &["deny", "--all-features", "check", "bans", "licenses", "sources"]),
    step(
        12,
        &["clippy", "--workspace", "--all-targets", "--features=dynmem-fuzz/fuzzer", "--quiet", "--", "-D", "warnings"],
    ),
    Step {
        command: &["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"],
        environment: Some(("RUSTDOCFLAGS", "-D warnings")),
        minutes: 6,
    },
    step(40, &["xtask", "test", "--profile", "ci"]),
    step(8, &["xtask", "demo", "--check"]),
    step(15, &["xtask", "chaos", "--minutes", "2"]),
    step(10, &["xtask", "bench", "engine", "--quick"]),
    step(10, &["xtask", "bench", "policy", "--quick"]),
    step(10, &["xtask", "bench", "idle", "--quick"]),
    step(10, &["xtask", "bench", "load", "--quick"]),
    step(6, &["xtask", "bench", "dashboard", "--quick"]),
    step(6, &["xtask", "bench", "reaction", "--quick"]),
    step(6, &["xtask", "bench", "recovery", "--quick"]),
    step(6, &["xtask", "bench", "restart", "--quick"]),
    step(6, &["xtask", "bench", "neighbour", "--quick"]),
];

/// Runs all steps, or lists them.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.list {
        for step in &STEPS {
            eprintln!("cargo {}  (at most {} min)", step.command.join(" "), step.minutes);
        }
        return Ok(());
    }
    let started = Instant::now();
    setup::run()?;
    tools::DENY.ensure()?;
    let mut times = Vec::new();
    for step in &STEPS {
        let begun = Instant::now();
        let name = step.command.join(" ");
        shell::run_within(&mut step.process()?, Duration::from_secs(step.minutes * 60))
            .with_context(|| format!("CI stops at `cargo {name}`"))?;
        times.push((name, begun.elapsed()));
    }
    eprintln!("\nAll {} steps passed in {} s:", STEPS.len(), started.elapsed().as_secs());
    for (name, time) in &times {
        eprintln!("{:6} s  {name}", time.as_secs());
    }
    Ok(())
}

impl Step {
    fn process(&self) -> Result<Command> {
        let mut process = match self.command {
            ["xtask", arguments @ ..] => shell::xtask(arguments)?, // built already, by who runs us
            arguments => shell::cargo(arguments),
        };
        if let Some((name, value)) = self.environment {
            process.env(name, value);
        }
        Ok(process)
    }
}

//! `cargo xtask fuzz`: libFuzzer on what outsiders can send (see `fuzz/`).
//!
//! ```text
//!  fuzz/corpus/TARGET ──seeds──▶ fuzz (instrumented) ──finds──▶ target/fuzz/TARGET
//!        ▲                          │ crash: target/fuzz/crashes/TARGET-…
//!        └───────── --keep ─────────┘ (a developer copies it into the corpus, and mends)
//! ```
//!
//! The stable toolchain instruments for coverage; it has no sanitizers, and
//! safe code needs none. The program is built into a folder of its own,
//! because every crate in it is instrumented: that takes minutes, so CI only
//! replays and mutates the corpus (`fuzz/tests/corpus.rs`).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::shell;

/// What to fuzz, and for how long.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// One target; all of them, one after another, if absent
    target: Option<String>,
    /// Time for each target
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Adds to the corpus the fewest finds of earlier runs that reach code which nothing in it does
    #[arg(long)]
    keep: bool,
}

/// What makes the compiler tell libFuzzer which code runs and what is compared.
const INSTRUMENTATION: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions=yes -Coverflow-checks=yes --cfg=fuzzing";
/// Cargo instruments build scripts too unless a target is named.
const HOST: &str = dynmem_vm_tests::GUEST_TARGET;
/// The longest input: beyond the longest that any reader takes in one piece
/// lies nothing new.
const INPUT_BYTES_MAX: u32 = 8192;
/// One input may take as long; none takes a millisecond.
const INPUT_SECONDS_MAX: u32 = 10;
/// libFuzzer ends by itself; beside its own time it needs this for its seeds.
const SPARE: Duration = Duration::from_mins(2);

/// Builds the fuzzer and runs the targets.
pub(crate) fn run(options: &Options) -> Result<()> {
    let corpus = shell::root().join("fuzz/corpus");
    let targets = targets(&corpus, options.target.as_deref())?;
    let program = build()?;
    for target in &targets {
        let (seeds, found) = (corpus.join(target), shell::target_dir().join("fuzz").join(target));
        fs::create_dir_all(&found)?;
        if options.keep {
            keep(&program, target, &seeds, &found)?;
        } else {
            fuzz(&program, target, &[&found, &seeds], options.seconds)?;
        }
    }
    eprintln!("{}: nothing breaks a property", targets.join(", "));
    Ok(())
}

/// Each folder of the corpus is a target's.
fn targets(corpus: &Path, wanted: Option<&str>) -> Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in fs::read_dir(corpus).with_context(|| format!("Could not list {}", corpus.display()))? {
        targets.push(entry?.file_name().to_string_lossy().into_owned());
    }
    targets.sort();
    match wanted {
        None => Ok(targets),
        Some(wanted) if targets.iter().any(|target| target == wanted) => Ok(vec![wanted.to_owned()]),
        Some(wanted) => bail!("There is no target {wanted:?}: choose one of {}", targets.join(", ")),
    }
}

fn build() -> Result<PathBuf> {
    let folder = shell::target_dir().join("fuzz-build");
    let mut build = shell::cargo(&["build", "--quiet", "--profile", "fuzz", "--package", "dynmem-fuzz"]);
    build.args(["--features", "link", "--target", HOST]).arg("--target-dir").arg(&folder);
    build.env("RUSTFLAGS", INSTRUMENTATION);
    shell::run(&mut build)?;
    Ok(folder.join(HOST).join("fuzz/fuzz"))
}

fn libfuzzer(program: &Path, target: &str) -> Result<Command> {
    let crashes = shell::target_dir().join("fuzz/crashes");
    fs::create_dir_all(&crashes)?;
    let mut command = Command::new(program);
    command.env("DYNMEM_FUZZ_TARGET", target).current_dir(shell::root());
    command.arg(format!("-artifact_prefix={}/{target}-", crashes.display()));
    command.args([format!("-max_len={INPUT_BYTES_MAX}"), format!("-timeout={INPUT_SECONDS_MAX}")]);
    command.args(["-rss_limit_mb=1024", "-verbosity=0", "-print_final_stats=1"]);
    Ok(command)
}

fn fuzz(program: &Path, target: &str, folders: &[&Path], seconds: u64) -> Result<()> {
    let mut command = libfuzzer(program, target)?;
    command.arg(format!("-max_total_time={seconds}")).args(folders);
    shell::run_within(&mut command, Duration::from_secs(seconds) + SPARE).with_context(|| {
        format!(
            "Target {target}: copy the input from target/fuzz/crashes into fuzz/corpus/{target} and mend what it shows"
        )
    })
}

/// Copies few of the finds into the corpus: which lines are reached counts, not
/// how often.
fn keep(program: &Path, target: &str, seeds: &Path, found: &Path) -> Result<()> {
    let mut command = libfuzzer(program, target)?;
    command.args(["-set_cover_merge=1", "-use_counters=0"]).args([seeds, found]);
    shell::run_within(&mut command, SPARE)
}

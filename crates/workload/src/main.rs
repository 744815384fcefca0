//! `dynmem-workload`: the controller, or with `hold` the memory holder that
//! the controller starts, or with `eat` the process in its trial of memory groups.

use std::process::ExitCode;

use anyhow::Context;
use dynmem_agent::agent::brace_for_hard_times;
use dynmem_workload::{
    controller::{Controller, Options},
    groups, holder,
};

const HELP: &str = "\
Grows, shrinks, holds and verifies memory as the host says. For test guests.

Usage: dynmem-workload   wait for calls on the virtio-serial port org.dynmem.workload.0
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        [] => control(),
        ["hold"] => holder::run(),
        ["eat"] => groups::eat(),
        ["--help" | "-h" | "help"] => {
            print!("{HELP}");
            Ok(())
        }
        _ => Err(anyhow::anyhow!("Unknown arguments {words:?}: see dynmem-workload --help")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dynmem-workload: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn control() -> anyhow::Result<()> {
    for trouble in brace_for_hard_times() {
        eprintln!("dynmem-workload: {trouble}");
    }
    let program = std::env::current_exe().context("Cannot find this program's own file")?;
    let mut controller = Controller::new(Options { root: "/".into(), program });
    loop {
        controller.turn()?;
    }
}

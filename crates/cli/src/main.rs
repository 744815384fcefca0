//! `dynmem`: the command line.
//!
//! A line goes words → [`args`] (typed, checked) → [`commands`] (asks the
//! daemon through `dynmem-api`) → [`render`] (text or JSON). What goes wrong
//! is one sentence on standard error and an exit code, both made here. A line of
//! Hyper-V's cmdlets is first made one of ours ([`hyperv`]).

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use dynmem_api::ClientError;

use crate::{
    args::{Cli, Form},
    commands::Outcome,
    hyperv::Meaning,
    render::printable,
    usage::Usage,
};

mod args;
mod commands;
mod hyperv;
mod man;
mod render;
mod top;
mod usage;

const FAILED: u8 = 1;
const USAGE: u8 = 2; // as clap has it
const UNREACHABLE: u8 = 3;

fn main() -> ExitCode {
    let words: Vec<String> = env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let (told, lines) = match hyperv::translate(&words) {
        None => return carry_out(Cli::parse()),
        Some(Ok(Meaning::Lines { told, lines })) => (told, lines),
        Some(Ok(Meaning::Help(text))) => {
            let _ = writeln!(io::stdout(), "{text}"); // nobody is left to tell if that fails
            return ExitCode::SUCCESS;
        }
        Some(Err(sentence)) => {
            complain(&anyhow::anyhow!(sentence), USAGE, Form::among(&words));
            return ExitCode::from(USAGE);
        }
    };
    for sentence in told {
        let _ = writeln!(io::stdout(), "{sentence}"); // as above
    }
    // All of them are understood before the first is carried out.
    let whole = |line: Vec<String>| Cli::parse_from(std::iter::once("dynmem".to_owned()).chain(line));
    let lines: Vec<Cli> = lines.into_iter().map(whole).collect();
    lines.into_iter().map(carry_out).find(|code| *code != ExitCode::SUCCESS).unwrap_or(ExitCode::SUCCESS)
}

/// Carries out one line, and tells how that went.
fn carry_out(cli: Cli) -> ExitCode {
    let asked = cli.form();
    let form = *asked.as_ref().unwrap_or(&Form::Table);
    match asked.map_err(anyhow::Error::new).and_then(|form| run(cli, form)) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::SomeFailed) => ExitCode::from(FAILED),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS, // the reader has seen enough
        Err(error) => {
            let code = exit_code(&error);
            complain(&error, code, form);
            ExitCode::from(code)
        }
    }
}

fn run(cli: Cli, form: Form) -> anyhow::Result<Outcome> {
    // One thread: it starts within a millisecond, and there is little to do.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(commands::run(cli, form))
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Usage>() {
        return USAGE;
    }
    match error.downcast_ref::<ClientError>() {
        Some(error) if error.is_unreachable() => UNREACHABLE,
        _ => FAILED,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Tells what went wrong on standard error; nobody is left to tell if that
/// fails.
fn complain(error: &anyhow::Error, code: u8, form: Form) {
    let sentence = format!("{error:#}");
    let text = if form.has_structured_errors() {
        serde_json::json!({ "detail": sentence, "exit_code": code }).to_string()
    } else {
        // Several sentences are several lines.
        sentence.lines().map(printable).collect::<Vec<_>>().join("\n")
    };
    let _ = writeln!(io::stderr(), "{text}");
}

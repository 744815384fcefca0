//! Running other programs: shown before they run, an error if they fail.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// After its time limit a command gets this long to clean up.
const GRACE: Duration = Duration::from_secs(30);

/// The workspace's root folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The folder that Cargo builds into.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// `cargo`, the one that runs us, with `arguments`.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    // Cargo told us which package we are. It is not what is built now, and ring's build script would run
    // again whenever that changes.
    let is_about_us = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_about_us)) {
        command.env_remove(name);
    }
    command
}

/// This program with other `arguments`.
pub(crate) fn xtask(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(env::current_exe().context("Could not find out which program this is")?);
    command.args(arguments).current_dir(root());
    Ok(command)
}

/// Shows and runs a command. What it prints goes to stderr, because stdout is
/// for our results.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    eprintln!("$ {shown}");
    let status = command.stdout(std::io::stderr()).status().with_context(|| format!("Could not run {shown}"))?;
    check(&shown, status)
}

/// Like [`run`], but ends the command after `limit`.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Result<()> {
    let shown = show(command);
    eprintln!("$ {shown}");
    let mut child = command.stdout(std::io::stderr()).spawn().with_context(|| format!("Could not run {shown}"))?;
    let mut deadline = Instant::now() + limit;
    let mut overdue = false;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline && overdue {
            child.kill()?;
        } else if Instant::now() > deadline {
            (overdue, deadline) = (true, Instant::now() + GRACE);
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("The command has no pid")?;
            kill_process(pid, Signal::TERM)?; // lets it clean up what it started
        }
        thread::sleep(Duration::from_millis(100));
    };
    if overdue {
        bail!("{shown} did not end within {} s", limit.as_secs());
    }
    check(&shown, status)
}

/// Runs a command to its end and gives what it prints; what it complains of, if it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("Could not run {shown}"))?;
    check(&shown, output.status).with_context(|| String::from_utf8_lossy(&output.stderr).trim().to_owned())?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// True if the command runs and succeeds; nothing is shown.
pub(crate) fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let silent = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    silent.is_ok_and(|output| output.status.success())
}

fn check(shown: &str, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("{shown} failed: {status}");
    }
    Ok(())
}

fn show(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .map(|word| if word.contains(' ') { format!("'{word}'") } else { word.into() })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_fails_or_overruns_is_an_error_that_names_it() {
        let error = run(Command::new("sh").args(["-c", "exit 3"])).expect_err("exit 3").to_string();
        assert_eq!(error, "sh -c 'exit 3' failed: exit status: 3");
        let error = run_within(Command::new("sleep").arg("600"), Duration::ZERO).expect_err("overrun").to_string();
        assert_eq!(error, "sleep 600 did not end within 0 s");
    }

    #[test]
    fn a_missing_program_does_not_succeed() {
        assert!(succeeds("true", &[]));
        assert!(!succeeds("false", &[]));
        assert!(!succeeds("/nowhere/program", &[]));
    }
}

//! `cargo xtask ui`: the dashboard, from its sources in `ui/` to what the daemon
//! serves.
//!
//! ```text
//!  docs/openapi.json ──▶ ui/src/api/schema.ts ──┐
//!                        ui/src ────────────────┴──▶ ui/dist ──▶ (cargo build) dynmemd
//! ```
//! Types and `ui/dist` are kept in the repository, so that building the daemon
//! takes no Node; `--check` says whether they are what the sources make.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use crate::{build, setup, shell};

/// What to do with it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Changes nothing: fails if types or page are not what the sources make, or the first load is too large
    #[arg(long, conflicts_with = "test")]
    check: bool,
    /// Tests it, in Chromium too, with a real daemon
    #[arg(long)]
    test: bool,
}

/// Makes, checks or tests it.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.test {
        build::programs(build::Profile::Dev)?;
        return test();
    }
    prepare()?;
    if options.check {
        return check();
    }
    npm(&["run", "types"])?;
    npm(&["run", "check"])?;
    npm(&["run", "build"])
}

/// All tests of the page, with the daemon that was built last.
pub(crate) fn test() -> Result<()> {
    prepare()?;
    check()?;
    npm(&["run", "check"])?;
    npm(&["run", "unit"])?;
    setup::browser()?;
    shell::run(script(&["run", "browser"]).env("DYNMEM_PROGRAMS", build::Profile::Dev.folder()))
}

/// Node, and the packages that the page takes, at the versions of its lock file.
pub(crate) fn prepare() -> Result<()> {
    setup::node()?;
    // The packages are those of the lock file as npm installed it last.
    let installed = folder().join("node_modules/.package-lock.json");
    let is_newer =
        |path: PathBuf| Some(path.metadata().ok()?.modified().ok()? > installed.metadata().ok()?.modified().ok()?);
    if is_newer(folder().join("package-lock.json")) == Some(false) {
        return Ok(());
    }
    // Not `ci`: npm 11 refuses a lock file that names the optional packages of one platform only.
    npm(&["install", "--no-audit", "--no-fund"])
}

fn check() -> Result<()> {
    npm(&["run", "drift"])
}

fn npm(arguments: &[&str]) -> Result<()> {
    shell::run(&mut script(arguments))
}

/// npm in the page's folder. The browser is the system's: none is downloaded.
pub(crate) fn script(arguments: &[&str]) -> Command {
    let mut command = Command::new("npm");
    command.args(arguments).current_dir(folder()).env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1");
    command
}

/// Where the page's sources are.
fn folder() -> PathBuf {
    shell::root().join("ui")
}

//! `cargo xtask test`: all tests there are.
//!
//! The tests of the workspace, real guests included, run under nextest (see
//! `.config/nextest.toml`); what it does not know, the examples in the
//! documentation, run after them, and at last those of the dashboard, in a
//! browser.

use anyhow::Result;

use crate::{build, setup, shell, tools, ui};

/// What to test.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only these tests, in nextest's filter language, such as 'package(dynmem-core)' or 'test(balloon)'; none of the
    /// dashboard (`cargo xtask ui --test`)
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// Nextest's profile
    #[arg(long, default_value = "default")]
    profile: String,
}

/// Runs the tests.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::run()?;
    tools::NEXTEST.ensure()?;
    build::run(build::Profile::Dev)?;
    let mut tests = shell::cargo(&["nextest", "run", "--workspace", "--profile", &options.profile]);
    if let Some(filter) = &options.filter {
        tests.args(["--filterset", filter]);
    }
    tests.env("RUST_LIB_BACKTRACE", "0"); // an error says what it was about; a panic shows its stack
    shell::run(&mut tests)?;
    if options.filter.is_none() {
        shell::run(&mut shell::cargo(&["test", "--quiet", "--workspace", "--doc"]))?;
        ui::test()?;
    }
    Ok(())
}

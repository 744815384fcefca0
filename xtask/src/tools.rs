//! Cargo's own helpers, installed at a pinned version if they are missing.

use anyhow::Result;

use crate::shell;

/// Runs the tests, each in a process of its own.
pub(crate) const NEXTEST: Tool =
    Tool { name: "cargo-nextest", version: "0.9.143", probe: &["nextest", "--version"], minutes: 5 };
/// Guards licences, duplicates and sources.
pub(crate) const DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2", probe: &["deny", "--version"], minutes: 3 };

/// Makes a book of the manual.
pub(crate) const MDBOOK: Tool = Tool { name: "mdbook", version: "0.5.4", probe: &[], minutes: 5 };

/// A program from crates.io, most of them subcommands of cargo.
pub(crate) struct Tool {
    name: &'static str,
    version: &'static str,
    /// What to ask cargo to see whether it is there; nothing, for a program of its own.
    probe: &'static [&'static str],
    minutes: u32,
}

impl Tool {
    /// Installs the tool unless some version of it is there.
    pub(crate) fn ensure(&self) -> Result<()> {
        let there = match self.probe {
            [] => shell::succeeds(self.name, &["--version"]),
            probe => shell::cargo(probe).output().is_ok_and(|output| output.status.success()),
        };
        if there {
            return Ok(());
        }
        let Self { name, version, minutes, .. } = self;
        eprintln!("{name} is missing: installing version {version} into Cargo's folder, about {minutes} minutes");
        shell::run(&mut shell::cargo(&["install", "--locked", name, "--version", version]))
    }
}

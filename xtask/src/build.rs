//! Building what demo, tests and benches run: the daemon, the command-line
//! tool, and the guest's image.
//!
//! With `DYNMEM_PROGRAMS=FOLDER` nothing is built: the daemon and the tool in
//! that folder are used, whatever is built meanwhile. That is for long runs.

use std::{env, path::PathBuf};

use anyhow::Result;
use dynmem_vm_tests::{Binaries, GUEST_PROFILE, GUEST_TARGET, Image};

use crate::shell;

/// How to build.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to build, with every assertion: for demo and tests.
    Dev,
    /// As users run it: for measurements.
    Release,
}

impl Profile {
    /// The folder that the programs are in.
    pub(crate) fn folder(self) -> PathBuf {
        ready_made().unwrap_or_else(|| self.cargos_folder())
    }

    fn cargos_folder(self) -> PathBuf {
        shell::target_dir().join(match self {
            Self::Dev => "debug",
            Self::Release => "release",
        })
    }
}

/// Where the programs are, if none are to be built.
fn ready_made() -> Option<PathBuf> {
    env::var_os("DYNMEM_PROGRAMS").map(PathBuf::from)
}

/// Builds the programs and the image.
pub(crate) fn run(profile: Profile) -> Result<()> {
    programs(profile)?;
    image().map(drop)
}

/// Builds the daemon and the command-line tool.
pub(crate) fn programs(profile: Profile) -> Result<()> {
    if let Some(folder) = ready_made() {
        eprintln!("Nothing is built: the programs are those in {}", folder.display());
        return Ok(());
    }
    let mut build = shell::cargo(&["build", "--quiet", "--package", "dynmemd", "--package", "dynmem-cli"]);
    if profile == Profile::Release {
        build.arg("--release");
    }
    shell::run(&mut build)
}

/// Builds what a bench measures: as users run it, or, where a `quick` run is to
/// show that the bench works, as the tests have built it.
pub(crate) fn measured(quick: bool) -> Result<Binaries> {
    let profile = if quick { Profile::Dev } else { Profile::Release };
    programs(profile)?;
    Ok(Binaries::in_folder(profile.folder()))
}

/// Builds the programs that run in the guest, and its image around them.
pub(crate) fn image() -> Result<Image> {
    guest_programs()?;
    let image = dynmem_vm_tests::image(&shell::target_dir())?;
    eprintln!("Guest image: Linux {} and {}", image.release, image.initrd.display());
    Ok(image)
}

/// Where a program that runs in the guest is, once it is built.
pub(crate) fn guest_program(name: &str) -> PathBuf {
    shell::target_dir().join(GUEST_TARGET).join(GUEST_PROFILE).join(name)
}

/// Builds the programs that run in the guest.
pub(crate) fn guest_programs() -> Result<()> {
    if ready_made().is_some() {
        return Ok(());
    }
    let mut build = shell::cargo(&["build", "--quiet", "--profile", GUEST_PROFILE, "--target", GUEST_TARGET]);
    build.args(["--package", "dynmem-agent", "--package", "dynmem-workload"]);
    build.env("RUSTFLAGS", "-C target-feature=+crt-static"); // the guest has no libraries
    shell::run(&mut build)
}

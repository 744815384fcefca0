//! `cargo xtask package`: Debian packages of the host's side and of the guest's.
//!
//! ```text
//!  programs ──▶ host.rs, guest.rs: which file goes where ──▶ Tree ──▶ dynmem_0.1.0_amd64.deb
//!  packaging/, docs/ ──────────────────────────────────────┘          dynmem-agent_0.1.0_amd64.deb
//! ```
//!
//! The trees are put together here and not by debhelper or cargo-deb: half of what
//! is in them (pages, completions, links) is asked of the programs themselves, and
//! one list in Rust is less than two tools' settings. What Debian expects around
//! it, maintainer scripts above all, lies in `packaging/debian` as it is.

mod check;
mod guest;
mod host;
mod tree;

#[cfg(test)]
mod tests;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::UNIX_EPOCH,
};

use anyhow::{Context as _, Result};

use crate::{build, build::Profile, setup, shell};

/// What to do.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where the packages go [default: debian in the target folder]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Also installs, uses, upgrades, removes and purges them in a clean Debian, as root
    #[arg(long)]
    check: bool,
}

/// The programs that are packed.
pub(crate) struct Programs {
    dynmemd: PathBuf,
    dynmem: PathBuf,
    agent: PathBuf,
}

/// What all packages of one run have in common.
struct Release {
    /// As Debian writes it.
    version: String,
    /// Seconds since 1970: nothing in a package is younger, so that the same sources give the same package.
    epoch: u64,
}

/// The two packages.
pub(crate) struct Packages {
    /// For the host.
    pub(crate) host: PathBuf,
    /// For its guests.
    pub(crate) guest: PathBuf,
}

/// Builds the packages, and says where they are.
pub(crate) fn run(options: &Options) -> Result<()> {
    let packages = build(&options.out.clone().unwrap_or_else(|| shell::target_dir().join("debian")))?;
    for path in [&packages.host, &packages.guest] {
        eprintln!("{} ({} KiB)", path.display(), fs::metadata(path)?.len().div_ceil(1024));
    }
    if options.check { check::run(&packages) } else { Ok(()) }
}

/// Builds programs as users run them, and packages of them in the folder `out`.
pub(crate) fn build(out: &Path) -> Result<Packages> {
    setup::packaging()?;
    build::programs(Profile::Release)?;
    build::guest_programs()?;
    pack(&Programs::in_folder(&Profile::Release.folder()), out)
}

impl Programs {
    /// The host's programs in `folder`, and the agent where it is built.
    fn in_folder(folder: &Path) -> Self {
        Self {
            dynmemd: folder.join("dynmemd"),
            dynmem: folder.join("dynmem"),
            agent: build::guest_program("dynmem-agent"),
        }
    }
}

/// Packs programs that are built.
fn pack(programs: &Programs, out: &Path) -> Result<Packages> {
    fs::create_dir_all(out).with_context(|| format!("Could not make the folder {}", out.display()))?;
    let release = Release::of_the_sources()?;
    Ok(Packages { host: host::pack(programs, &release, out)?, guest: guest::pack(programs, &release, out)? })
}

impl Release {
    fn of_the_sources() -> Result<Self> {
        // Debian sorts 1.0~rc1 before 1.0.
        Ok(Self { version: env!("CARGO_PKG_VERSION").replace('-', "~"), epoch: epoch()? })
    }
}

/// When the sources were what they are: as told, or as the last commit says, or as
/// old as the list of changes.
fn epoch() -> Result<u64> {
    if let Ok(told) = env::var("SOURCE_DATE_EPOCH") {
        return told.parse().with_context(|| format!("SOURCE_DATE_EPOCH can't be {told:?}: it is seconds since 1970"));
    }
    let git = Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(shell::root()).output();
    let committed = git.ok().and_then(|output| String::from_utf8(output.stdout).ok()?.trim().parse().ok());
    if let Some(seconds) = committed {
        return Ok(seconds);
    }
    let changed = fs::metadata(shell::root().join("CHANGELOG.md"))?.modified()?;
    Ok(changed.duration_since(UNIX_EPOCH).context("CHANGELOG.md is older than 1970")?.as_secs())
}

//! Where the programs under test are: beside the program that tests them.
//!
//! Cargo builds a package's own programs for its tests, not another's, so
//! `cargo xtask` builds `dynmemd`, `dynmem` and the guest's image first, and a
//! test that is run without them says how to get them.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use dynmem_guest_image::{Image, Options, cache_dir};

/// The folder with `dynmemd` and `dynmem`.
#[derive(Clone, Debug)]
pub struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// The programs in `folder`.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The programs of the build that the running program is from:
    /// `target/debug` for `target/debug/xtask` and `target/debug/deps/test-…`.
    pub fn beside_this_program() -> Result<Self> {
        let program = env::current_exe().context("Could not find out which program this is")?;
        let folder = program.parent().context("This program is in no folder")?;
        let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
        Ok(Self::in_folder(folder))
    }

    /// The daemon.
    pub fn dynmemd(&self) -> Result<PathBuf> {
        self.find("dynmemd")
    }

    /// The command-line tool.
    pub fn dynmem(&self) -> Result<PathBuf> {
        self.find("dynmem")
    }

    fn find(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        if !path.is_file() {
            bail!("{} is not built: run `cargo xtask build`, or `cargo xtask test` for all at once", path.display());
        }
        Ok(path)
    }

    /// The guest's image, built from what lies in the target folder.
    pub fn image(&self) -> Result<Image> {
        let target = self.folder.parent().context("The programs' folder is in no target folder")?;
        image(target)
    }
}

/// The target triple of the programs that run in the guest.
pub const GUEST_TARGET: &str = "x86_64-unknown-linux-gnu";
/// Their build profile.
pub const GUEST_PROFILE: &str = "guest";

/// The guest's image; its programs were built below `target` before.
pub fn image(target: &Path) -> Result<Image> {
    let program = |name| target.join(GUEST_TARGET).join(GUEST_PROFILE).join(name);
    let [agent_bin, workload_bin] = ["dynmem-agent", "dynmem-workload"].map(program);
    Image::build(&Options { cache_dir: cache_dir(target), agent_bin, workload_bin })
        .context("No guest's image: run `cargo xtask image`")
}

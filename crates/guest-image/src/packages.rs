//! [`Packages`]: Debian packages in a cache folder, downloaded by `apt-get`
//! and unpacked by `dpkg-deb`, as any user and without installing anything.
//!
//! The host's own package lists decide which version is meant (its candidate,
//! so no other release's packages slip in). If the host has no lists, or lists
//! that have become stale, they are fetched into the cache folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, bail};

/// Depends on the kernel that is current.
const KERNEL_METAPACKAGE: &str = "linux-image-cloud-amd64";
const BUSYBOX_PACKAGE: &str = "busybox-static";
/// Lines of a failed program's complaint that are shown.
const COMPLAINT_LINES: usize = 4;

/// The unpacked packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packages {
    /// The folder of the kernel's.
    pub kernel: PathBuf,
    /// The folder of busybox's.
    pub busybox: PathBuf,
}

impl Packages {
    /// Those in the cache, or else fresh ones.
    pub fn get(cache: &Path) -> anyhow::Result<Self> {
        let packages = Self { kernel: cache.join("kernel"), busybox: cache.join("busybox") };
        if !packages.kernel.is_dir() {
            Apt::new(cache).fetch(&packages.kernel, |apt| {
                let metapackage = apt.show(KERNEL_METAPACKAGE)?;
                kernel_dependency(&metapackage)
                    .with_context(|| format!("The package {KERNEL_METAPACKAGE} depends on no linux-image-…"))
            })?;
        }
        if !packages.busybox.is_dir() {
            Apt::new(cache).fetch(&packages.busybox, |_| Ok(BUSYBOX_PACKAGE.to_owned()))?;
        }
        Ok(packages)
    }

    /// The program, which runs on the host too.
    pub fn busybox_program(&self) -> PathBuf {
        ["bin/busybox", "usr/bin/busybox"]
            .map(|path| self.busybox.join(path))
            .into_iter()
            .find(|path| path.is_file())
            .unwrap_or_else(|| self.busybox.join("bin/busybox"))
    }
}

/// The file at `path` in a Debian package, such as a program that is called and not
/// installed: no service starts, and nothing remains but `folder`, where the
/// package is unpacked unless it is there.
pub fn file_of_package(package: &str, path: &str, folder: &Path) -> anyhow::Result<PathBuf> {
    let file = folder.join(path);
    if !file.is_file() {
        let cache = folder.parent().context("A package is unpacked in a folder of its own")?;
        fs::create_dir_all(cache).context("Cannot make a folder for packages")?;
        Apt::new(cache).fetch(folder, |_| Ok(package.to_owned()))?;
    }
    if !file.is_file() {
        bail!("The package {package} has no {path}");
    }
    Ok(file)
}

/// The package that apt calls `NAME=VERSION`, from a metapackage's record.
fn kernel_dependency(record: &str) -> Option<String> {
    let dependencies = record.lines().find_map(|line| line.strip_prefix("Depends:"))?;
    let kernel = dependencies.split(',').map(str::trim).find(|it| it.starts_with("linux-image-"))?;
    let (name, rest) = kernel.split_once(' ').unwrap_or((kernel, ""));
    let version = rest.trim_matches(['(', ')', ' ']).strip_prefix("= ").map(str::trim);
    Some(version.map_or_else(|| name.to_owned(), |version| format!("{name}={version}")))
}

/// `apt`, with the host's package lists or lists of our own.
struct Apt {
    cache: PathBuf,
    own_lists: bool,
}

impl Apt {
    fn new(cache: &Path) -> Self {
        Self { cache: cache.to_owned(), own_lists: false }
    }

    /// Downloads and unpacks the package that `which` names to `folder`, which
    /// is there afterwards whole or not at all.
    fn fetch(mut self, folder: &Path, which: impl Fn(&Self) -> anyhow::Result<String>) -> anyhow::Result<()> {
        if self.try_fetch(folder, &which).is_ok() {
            return Ok(());
        }
        self.own_lists = true;
        let complaint = self.update()?;
        self.try_fetch(folder, &which).with_context(|| {
            let said = if complaint.is_empty() { "nothing unusual" } else { &complaint };
            format!(
                "Cannot get a Debian package, neither with this host's package lists nor with new ones: is this host \
                 a Debian one, and online? `apt-get update` said: {said}"
            )
        })
    }

    fn try_fetch(&self, folder: &Path, which: impl Fn(&Self) -> anyhow::Result<String>) -> anyhow::Result<()> {
        let package = which(self)?;
        let work = tempfile::tempdir_in(&self.cache).context("Cannot make a folder in the cache")?;
        // As root, apt would download as a user who can't write here.
        let mut download = self.command("apt-get");
        download.args(["-q", "-o", "APT::Sandbox::User=root", "download", &package]).current_dir(&work);
        run(&mut download).with_context(|| format!("Cannot download the package {package}"))?;
        let archive = fs::read_dir(&work)
            .context("Cannot read the folder of the download")?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .with_context(|| format!("apt-get says that it downloaded {package}, but there is no file"))?;
        let unpacked = work.path().join("unpacked");
        run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&unpacked))
            .with_context(|| format!("Cannot unpack the package {package}"))?;
        fs::rename(&unpacked, folder).with_context(|| format!("Cannot move the package to {}", folder.display()))
    }

    /// The record of a package's candidate version.
    fn show(&self, package: &str) -> anyhow::Result<String> {
        run(self.command("apt-cache").args(["show", "--no-all-versions", package]))
            .with_context(|| format!("The package lists have no {package}"))
    }

    /// Fetches package lists into the cache, where any user may write. What
    /// apt complained about is given back, not failed for: a source that does
    /// not answer may be one that is not needed.
    fn update(&self) -> anyhow::Result<String> {
        for folder in ["apt/lists/partial", "apt/archives/partial"] {
            fs::create_dir_all(self.cache.join(folder)).context("Cannot make a folder in the cache")?;
        }
        let mut update = self.command("apt-get");
        let output = finish(update.args(["-q", "-o", "APT::Sandbox::User=root", "update"]))?;
        Ok(last_lines(&output.stderr))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        if self.own_lists {
            let apt = self.cache.join("apt");
            command.arg("-o").arg(format!("Dir::State::lists={}", apt.join("lists").display()));
            command.arg("-o").arg(format!("Dir::Cache={}", apt.display()));
        }
        command
    }
}

/// Runs a program to its end and gives its output; its last complaints, if it
/// fails.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = finish(command)?;
    if !output.status.success() {
        bail!("{} failed: {}", command.get_program().to_string_lossy(), last_lines(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn finish(command: &mut Command) -> anyhow::Result<Output> {
    command
        .env("LC_ALL", "C")
        .output()
        .with_context(|| format!("Cannot run {}", command.get_program().to_string_lossy()))
}

fn last_lines(complaint: &[u8]) -> String {
    let complaint = String::from_utf8_lossy(complaint);
    let lines: Vec<&str> = complaint.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(COMPLAINT_LINES)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_the_one_that_the_metapackage_depends_on_in_that_version() {
        let record = "Package: linux-image-cloud-amd64\nDepends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)\n";
        assert_eq!(kernel_dependency(record).as_deref(), Some("linux-image-6.1.0-56-cloud-amd64=6.1.192-2"));
        assert_eq!(kernel_dependency("Depends: a, linux-image-7 , b").as_deref(), Some("linux-image-7"));
        assert_eq!(kernel_dependency("Depends: a (= 1)"), None);
        assert_eq!(kernel_dependency("Package: x"), None);
    }

    #[test]
    fn a_program_that_fails_is_quoted_and_one_that_is_missing_is_named() {
        let error = run(Command::new("sh").args(["-c", "echo oh no >&2; exit 3"])).expect_err("it fails");
        assert_eq!(error.to_string(), "sh failed: oh no");
        let error = run(&mut Command::new("no-such-program")).expect_err("there is none");
        assert!(error.to_string().contains("no-such-program"));
    }
}

//! [`Tree`]: a folder that becomes a package.
//!
//! Files are added where they will be installed, then [`Tree::finish`] writes what
//! dpkg wants to know of them and calls `dpkg-deb`. Everything is root's, and has
//! the mode that is named here: whoever builds it has no part in it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::Release;
use crate::shell;

/// A program's mode, and a script's.
const PROGRAM: u32 = 0o755;
/// That of anything else.
const DATA: u32 = 0o644;
/// Debian's maintainer scripts, as far as there are such.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// A package that is being put together. The folder goes with it.
pub(super) struct Tree<'r> {
    package: &'static str,
    release: &'r Release,
    folder: tempfile::TempDir,
}

impl<'r> Tree<'r> {
    /// An empty one; its scripts are in `packaging/debian/PACKAGE`.
    pub(super) fn new(package: &'static str, release: &'r Release) -> Result<Self> {
        let folder = tempfile::tempdir().context("Could not make a temporary folder")?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Self { package, release, folder })
    }

    /// Where `path`, such as `usr/bin/dynmem`, is now. The folder it is in is there.
    pub(super) fn place(&self, path: &str) -> Result<PathBuf> {
        let place = self.folder.path().join(path);
        let folder = place.parent().context("A file is in a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("Could not make {}", folder.display()))?;
        Ok(place)
    }

    /// Adds a program, without what only a debugger reads.
    pub(super) fn program(&self, path: &str, built: &Path) -> Result<()> {
        let place = self.place(path)?;
        fs::copy(built, &place).with_context(|| format!("Could not copy {}: is it built?", built.display()))?;
        let mut strip = Command::new("strip");
        shell::output(strip.args(["--strip-all", "--remove-section=.comment"]).arg(place)).map(drop)
    }

    /// Adds a file of the sources.
    pub(super) fn file(&self, path: &str, source: &str) -> Result<()> {
        let source = shell::root().join(source);
        let text = fs::read(&source).with_context(|| format!("Could not read {}", source.display()))?;
        self.text(path, &text)
    }

    /// Adds a file that is made here.
    pub(super) fn text(&self, path: &str, text: &[u8]) -> Result<()> {
        let place = self.place(path)?;
        fs::write(&place, text).with_context(|| format!("Could not write {}", place.display()))
    }

    /// Adds a link; `to` is as the link says it.
    pub(super) fn link(&self, path: &str, to: &str) -> Result<()> {
        symlink(to, self.place(path)?).with_context(|| format!("Could not make the link {path}"))
    }

    /// Compresses a file that is in it already, as Debian wants pages and lists of changes.
    pub(super) fn compress(&self, path: &str) -> Result<()> {
        shell::output(Command::new("gzip").args(["-9", "--no-name"]).arg(self.folder.path().join(path))).map(drop)
    }

    /// Adds what each package says of itself: whose it is, what has changed, what it was built with.
    pub(super) fn papers(&self, built_with: &[&str]) -> Result<()> {
        let folder = format!("usr/share/doc/{}", self.package);
        let mit = fs::read_to_string(shell::root().join("LICENSE-MIT")).context("Could not read LICENSE-MIT")?;
        let permission = mit.split_once("Permission is").map_or("", |(_, rest)| rest);
        let indented: Vec<String> = format!("Permission is{permission}")
            .lines()
            .map(|line| if line.is_empty() { " .".to_owned() } else { format!(" {line}") })
            .collect();
        let copyright = template("packaging/debian/copyright")?.replace("@MIT@", &indented.join("\n"));
        self.text(&format!("{folder}/copyright"), copyright.as_bytes())?;

        let Release { version, epoch } = self.release;
        let date = shell::output(Command::new("date").args(["--utc", "--rfc-email", "--date", &format!("@{epoch}")]))?;
        let changes = format!(
            "{} ({version}) bookworm; urgency=medium\n\n  * What is new is in CHANGELOG.md.gz beside this file.\n\n -- {}  {}",
            self.package,
            self.maintainer()?,
            date,
        );
        for (name, text) in [("changelog", changes.into_bytes()), ("built-with.txt", crates(built_with)?)] {
            let path = format!("{folder}/{name}");
            self.text(&path, &text)?;
            self.compress(&path)?;
        }
        self.file(&format!("{folder}/CHANGELOG.md"), "CHANGELOG.md")?;
        self.compress(&format!("{folder}/CHANGELOG.md"))
    }

    fn maintainer(&self) -> Result<String> {
        let control = template(&format!("packaging/debian/{}/control", self.package))?;
        let line = control.lines().find_map(|line| line.strip_prefix("Maintainer: "));
        Ok(line.context("The control file names no maintainer")?.to_owned())
    }

    /// Makes the package; `libraries` is what its programs are linked with.
    pub(super) fn finish(self, libraries: &str, out: &Path) -> Result<PathBuf> {
        let (files, kib) = self.settle()?;
        let architecture = shell::output(Command::new("dpkg").arg("--print-architecture"))?;
        let control = template(&format!("packaging/debian/{}/control", self.package))?
            .replace("@VERSION@", &self.release.version)
            .replace("@ARCHITECTURE@", architecture.trim())
            .replace("@INSTALLED_SIZE@", &kib.to_string())
            .replace("@LIBRARIES@", libraries);
        let sums = shell::output(Command::new("md5sum").args(&files).current_dir(self.folder.path()))?;
        let settings = files
            .iter()
            .filter(|file| file.starts_with("etc/"))
            .fold(String::new(), |all, file| format!("{all}/{file}\n"));
        self.text("DEBIAN/control", control.as_bytes())?;
        self.text("DEBIAN/md5sums", sums.as_bytes())?;
        if !settings.is_empty() {
            self.text("DEBIAN/conffiles", settings.as_bytes())?;
        }
        for script in SCRIPTS {
            let path = format!("DEBIAN/{script}");
            self.file(&path, &format!("packaging/debian/{}/{script}", self.package))?;
            fs::set_permissions(self.place(&path)?, fs::Permissions::from_mode(PROGRAM))?;
        }
        let package = out.join(format!("{}_{}_{}.deb", self.package, self.release.version, architecture.trim()));
        let mut build = Command::new("dpkg-deb");
        build.args(["--build", "--root-owner-group", "-Zxz"]).arg(self.folder.path()).arg(&package);
        shell::output(build.env("SOURCE_DATE_EPOCH", self.release.epoch.to_string()))?;
        Ok(package)
    }

    /// Gives everything its mode. Returns all files, sorted, and their size in KiB.
    fn settle(&self) -> Result<(Vec<String>, u64)> {
        let (mut files, mut kib, mut folders) = (Vec::new(), 0, vec![self.folder.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let (entry, kind) = entry.and_then(|entry| entry.file_type().map(|kind| (entry, kind)))?;
                let path = entry.path();
                if kind.is_symlink() {
                    continue;
                }
                let inside = path.strip_prefix(self.folder.path())?.to_string_lossy().into_owned();
                let mode = if kind.is_dir() || inside.starts_with("usr/bin/") { PROGRAM } else { DATA };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
                if kind.is_dir() {
                    folders.push(path);
                } else {
                    kib += entry.metadata()?.len().div_ceil(1024);
                    files.push(inside);
                }
            }
        }
        files.sort();
        Ok((files, kib))
    }
}

/// A text of the sources with blanks in it.
fn template(path: &str) -> Result<String> {
    let path = shell::root().join(path);
    fs::read_to_string(&path).with_context(|| format!("Could not read {}", path.display()))
}

/// The crates that are in the programs, each with its version and license.
fn crates(packages: &[&str]) -> Result<Vec<u8>> {
    let mut tree = shell::cargo(&["tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}|{l}"]);
    for package in packages {
        tree.args(["--package", package]);
    }
    let text = shell::output(&mut tree)?;
    // `anyhow v1.0.100|MIT` stays; our own have a folder behind the version, others a (*) where they come again.
    let mut lines: Vec<String> = text
        .lines()
        .filter_map(|line| line.split_once('|'))
        .filter(|(name, _)| !name.contains("(/"))
        .map(|(name, license)| {
            format!("{}, {}\n", name.trim_end_matches(" (proc-macro)"), license.trim_end_matches(" (*)"))
        })
        .collect();
    lines.sort();
    lines.dedup();
    Ok(lines.concat().into_bytes())
}

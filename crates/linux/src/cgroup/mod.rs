//! Memory cgroups: one for each VM's QEMU, so that a guest which takes back
//! ballooned pages without asking hurts itself alone.
//!
//! The life of a group, `<mount>/<parent>/vm-<name>`:
//! 1. [`Cgroups::create_group`] before QEMU starts, and
//!    [`MemoryGroup::add_process`] before it touches guest memory: the kernel
//!    charges a page to the group of whoever touches it first, and a process
//!    that moves leaves its pages behind.
//! 2. [`MemoryGroup::set_limit`] follows assigned + overhead: up *before* the
//!    balloon deflates or memory is plugged, down *after* the memory is back.
//! 3. [`MemoryGroup::usage`] is the second opinion on what the machine holds,
//!    [`MemoryGroup::events`] tells whether it ran into its limit.
//! 4. [`MemoryGroup::remove`] after QEMU has ended. A daemon that starts again
//!    finds the groups of running machines with [`Cgroups::group`], and those
//!    that nobody needs any more with [`Cgroups::group_names`].
//!
//! v2 and v1 differ in the names of files and in three rules, all in
//! `group.rs`: v2 needs the controller enabled in each parent, v2 can slow a
//! group down before it kills, v1 keeps `memsw` at or above the limit.
//!
//! Without the right to create groups (an ordinary user, no delegation) each
//! call says so, and the caller goes on without them.

mod group;

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use dynmem_units::Bytes;

pub use self::group::{GroupEvents, GroupLimit, GroupUsage, MemoryGroup};
use crate::{HostReader, ReadError, reader};

/// What the folders of machines' groups begin with.
const LEAF: &str = "vm-";
/// Groups in one folder that are listed.
const GROUPS_MAX: usize = 100_000;

/// The hierarchy that has the host's memory controller, by its mount point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cgroups {
    /// The unified hierarchy.
    V2(PathBuf),
    /// A hierarchy of the memory controller's own.
    V1(PathBuf),
    /// Neither is mounted.
    Missing,
}

/// Why a group could not be made, limited, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// The kernel refused.
    #[error("Can't {action} {}", path.display())]
    Io {
        /// What was tried: `create`, `write 5 to`, …
        action: String,
        /// The file or folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file does not say what it should.
    #[error("Can't understand {}: {expected} is missing or malformed", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
    },
    /// The limit would kill the machine.
    #[error(
        "Can't limit {} to {limit}: its processes hold {held} that can't be taken from them; shrink the guest first",
        path.display()
    )]
    BelowUsage {
        /// The group.
        path: PathBuf,
        /// What was asked.
        limit: Bytes,
        /// What can't be reclaimed.
        held: Bytes,
    },
    /// A name that would lead out of the hierarchy.
    #[error("{0:?} is not a name for memory groups: write one or more plain folder names")]
    Name(String),
    /// The host has no memory controller.
    #[error("The host has no memory cgroups: neither version 2 nor version 1 is mounted with the memory controller")]
    Missing,
}

impl HostReader {
    /// Finds the memory controller: in the unified hierarchy if it is there,
    /// else in version 1.
    pub fn cgroups(&self) -> Result<Cgroups, ReadError> {
        let mounts = self.parse("/proc/self/mountinfo", |text| Ok(parse_mounts(text)))?;
        for mount in mounts.iter().filter(|mount| mount.kind == "cgroup2") {
            let point = self.path(&mount.point);
            // A mount that can't be read is one that can't be used.
            let controllers = reader::read(&point.join("cgroup.controllers")).unwrap_or_default();
            if controllers.split_ascii_whitespace().any(|controller| controller == "memory") {
                return Ok(Cgroups::V2(point));
            }
        }
        let has_memory = |mount: &&Mount| mount.kind == "cgroup" && mount.options.split(',').any(|o| o == "memory");
        Ok(mounts.iter().find(has_memory).map_or(Cgroups::Missing, |mount| Cgroups::V1(self.path(&mount.point))))
    }
}

impl Cgroups {
    /// Creates the folder for groups at `parent`, a path relative to the
    /// mount point such as `dynmem/b1946ac9`, or takes up the one that is
    /// there. On v2 its groups get the memory controller, and so does every
    /// folder on the way. Gives the folder.
    ///
    /// Errors: [`GroupError::Missing`], [`GroupError::Name`], and
    /// [`GroupError::Io`] where this process has no right to.
    pub fn create_parent(&self, parent: &Path) -> Result<PathBuf, GroupError> {
        check_relative(parent)?;
        let mut folder = self.mount()?.to_owned();
        for step in parent.components() {
            self.enable_memory(&folder)?;
            folder.push(step);
            group::create_folder(&folder)?;
        }
        self.enable_memory(&folder)?;
        Ok(folder)
    }

    /// The folder `parent` as a group: what it holds is what all of its groups
    /// hold together. `None` where the kernel does not sum them up (version 1
    /// without hierarchy), or if there is no such folder.
    pub fn parent(&self, parent: &Path) -> Result<Option<MemoryGroup>, GroupError> {
        check_relative(parent)?;
        let folder = self.mount()?.join(parent);
        let flat = reader::read(&folder.join("memory.use_hierarchy")).is_ok_and(|text| text.trim() == "0");
        if flat || !folder.is_dir() { Ok(None) } else { self.handle(folder).map(Some) }
    }

    /// Creates the group of machine `name` in the folder `parent`, which is
    /// created as well, or takes up the one that is there.
    ///
    /// Errors: as [`Cgroups::create_parent`].
    pub fn create_group(&self, parent: &Path, name: &str) -> Result<MemoryGroup, GroupError> {
        let leaf = leaf(name)?;
        let folder = self.create_parent(parent)?.join(leaf);
        group::create_folder(&folder)?;
        self.handle(folder)
    }

    /// The group of machine `name` in the folder `parent`, if it exists.
    pub fn group(&self, parent: &Path, name: &str) -> Result<Option<MemoryGroup>, GroupError> {
        check_relative(parent)?;
        let folder = self.mount()?.join(parent).join(leaf(name)?);
        if folder.is_dir() { self.handle(folder).map(Some) } else { Ok(None) }
    }

    /// The names of the machines that have groups in the folder `parent`.
    pub fn group_names(&self, parent: &Path) -> Result<Vec<String>, GroupError> {
        check_relative(parent)?;
        let folder = self.mount()?.join(parent);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.map_err(|source| GroupError::Io { action: "read".to_owned(), path: folder, source })?,
        };
        let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let names = folders.filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix(LEAF)?.to_owned()));
        Ok(names.take(GROUPS_MAX).collect())
    }

    /// Removes the folder `parent` (its last step alone), if there is nothing
    /// in it.
    pub fn remove_parent(&self, parent: &Path) -> Result<(), GroupError> {
        check_relative(parent)?;
        group::remove_folder(&self.mount()?.join(parent))
    }

    fn mount(&self) -> Result<&Path, GroupError> {
        match self {
            Self::V2(mount) | Self::V1(mount) => Ok(mount),
            Self::Missing => Err(GroupError::Missing),
        }
    }

    fn handle(&self, folder: PathBuf) -> Result<MemoryGroup, GroupError> {
        match self {
            Self::V2(_) => Ok(MemoryGroup::v2(folder)),
            Self::V1(_) => Ok(MemoryGroup::v1(folder)),
            Self::Missing => Err(GroupError::Missing),
        }
    }

    fn enable_memory(&self, folder: &Path) -> Result<(), GroupError> {
        if matches!(self, Self::V2(_)) { group::enable_memory(folder) } else { Ok(()) }
    }
}

/// The name of a machine's folder: else a machine `memory.max` would meet a
/// file.
fn leaf(name: &str) -> Result<PathBuf, GroupError> {
    let leaf = PathBuf::from(format!("{LEAF}{name}"));
    check_relative(&leaf)?;
    Ok(leaf)
}

fn check_relative(path: &Path) -> Result<(), GroupError> {
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || path.as_os_str().is_empty() || path.to_string_lossy().contains(['\n', '\0']) {
        return Err(GroupError::Name(path.to_string_lossy().chars().take(80).collect()));
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    kind: String,
    options: String,
}

/// Lines as `35 31 0:32 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory`.
fn parse_mounts(text: &str) -> Vec<Mount> {
    let parse_line = |line: &str| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut filesystem = filesystem.split(' ');
        Some(Mount {
            point: unescape(mount.split(' ').nth(4)?).into(),
            kind: filesystem.next()?.to_owned(),
            options: filesystem.nth(1)?.to_owned(),
        })
    };
    text.lines().filter_map(parse_line).collect()
}

/// The kernel writes a space as `\040`, and so on for tab, newline, backslash.
pub(crate) fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

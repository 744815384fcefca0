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
//! 3. [`MemoryGroup::usage`] is the second opinion on what the machine holds.
//! 4. [`MemoryGroup::remove`] after QEMU has ended. A daemon that starts again
//!    finds the groups of running machines in place and takes them up with
//!    the same call that creates them.
//!
//! v2 and v1 differ in the names of files and in three rules, all in
//! `group.rs`: v2 needs the controller enabled in each parent, v2 can slow a
//! group down before it kills, v1 keeps `memsw` at or above the limit.
//!
//! Without the right to create groups (an ordinary user, no delegation) each
//! call says so, and the caller goes on without them.

mod group;

use std::{
    io,
    path::{Component, Path, PathBuf},
};

use dynmem_units::Bytes;

pub use self::group::{GroupLimit, GroupUsage, MemoryGroup};
use crate::{HostReader, ReadError, reader};

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
    /// Creates the group of machine `name` below `parent`, a path relative to
    /// the mount point such as `dynmem`, or takes up the one that is there.
    /// On v2 the memory controller is enabled in every folder on the way.
    ///
    /// Errors: [`GroupError::Missing`], [`GroupError::Name`], and
    /// [`GroupError::Io`] where this process has no right to.
    pub fn create_group(&self, parent: &Path, name: &str) -> Result<MemoryGroup, GroupError> {
        let leaf = PathBuf::from(format!("vm-{name}")); // else a machine `memory.max` would meet a file
        for path in [parent, &leaf] {
            check_relative(path)?;
        }
        let (mount, is_v2) = match self {
            Self::V2(mount) => (mount, true),
            Self::V1(mount) => (mount, false),
            Self::Missing => return Err(GroupError::Missing),
        };
        let mut folder = mount.clone();
        for step in parent.components().chain(leaf.components()) {
            if is_v2 {
                group::enable_memory(&folder)?;
            }
            folder.push(step);
            group::create_folder(&folder)?;
        }
        Ok(if is_v2 { MemoryGroup::v2(folder) } else { MemoryGroup::v1(folder) })
    }
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

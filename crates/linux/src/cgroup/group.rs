//! [`MemoryGroup`]: one group, in either version.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use dynmem_units::Bytes;

use super::GroupError;
use crate::reader;

/// One memory group. A plain handle: dropping it changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryGroup {
    folder: PathBuf,
    files: &'static Files,
}

/// How much a group may hold, in whole pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupLimit {
    /// Beyond this its processes are slowed down and their caches reclaimed.
    /// Only v2 can do so; v1 knows the hard limit alone.
    pub soft: Bytes,
    /// Beyond this the kernel kills within the group. At least `soft`.
    pub hard: Bytes,
    /// How much of it the host may swap out besides. Zero forbids it, which is
    /// the rule: the host doesn't page a running guest.
    pub swap: Bytes,
}

/// What a group holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupUsage {
    /// Everything charged to it, caches included.
    pub total: Bytes,
    /// The part that can't be taken back without swapping: anonymous memory,
    /// shared memory, and `kernel`.
    pub held: Bytes,
    /// The kernel's own memory for it: page tables (also those of a virtual
    /// machine), stacks, sockets.
    pub kernel: Bytes,
}

/// What happened to a group since it was made. The counters never go down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupEvents {
    /// How often nothing was left to reclaim under its own hard limit. Always
    /// as `oom_kills` on v1, which doesn't count it.
    pub ooms: u64,
    /// How many of its processes were killed for want of memory: its own, or
    /// the host's.
    pub oom_kills: u64,
}

/// Where the two versions keep the same thing.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    usage: &'static str,
    hard: &'static str,
    peak: &'static str,
    /// The keys of `memory.stat` that make up `held`, without the kernel's.
    held: &'static [&'static str],
    is_v2: bool,
}

static V2: Files =
    Files { usage: "memory.current", hard: "memory.max", peak: "memory.peak", held: &["anon", "shmem"], is_v2: true };

static V1: Files = Files {
    usage: "memory.usage_in_bytes",
    hard: "memory.limit_in_bytes",
    peak: "memory.max_usage_in_bytes",
    held: &["total_rss", "total_shmem"],
    is_v2: false,
};

/// The parts of the kernel's memory that can't be reclaimed, for kernels
/// before 5.18, which don't count all of it.
const V2_KERNEL_PARTS: [&str; 6] =
    ["slab_unreclaimable", "kernel_stack", "pagetables", "sec_pagetables", "percpu", "vmalloc"];
const V1_KERNEL: &str = "memory.kmem.usage_in_bytes";
const V1_WITH_SWAP: &str = "memory.memsw.limit_in_bytes";
/// Linux's own default, for groups that may swap (v1).
const SWAPPINESS: &str = "60";

impl MemoryGroup {
    pub(super) fn v2(folder: PathBuf) -> Self {
        Self { folder, files: &V2 }
    }

    pub(super) fn v1(folder: PathBuf) -> Self {
        Self { folder, files: &V1 }
    }

    /// The group's folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Moves a process into the group. Memory that it holds already stays
    /// charged to where it was.
    pub fn add_process(&self, pid: u32) -> Result<(), GroupError> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// The processes in the group.
    pub fn processes(&self) -> Result<Vec<u32>, GroupError> {
        let name = "cgroup.procs";
        let parsed: Result<_, _> = self.read(name)?.lines().map(str::parse).collect();
        parsed.map_err(|_| self.malformed(name, "a list of process ids"))
    }

    /// What the group holds now.
    pub fn usage(&self) -> Result<GroupUsage, GroupError> {
        let total = self.number(self.files.usage)?;
        let stat = self.read("memory.stat")?;
        let value = |key: &str| Bytes::new(keyed(&stat, key).unwrap_or(0));
        let kernel = if self.files.is_v2 {
            let all = value("kernel").saturating_sub(value("slab_reclaimable"));
            let parts = V2_KERNEL_PARTS.iter().map(|key| value(key)).sum::<Bytes>();
            all.max(parts).saturating_add(value("sock"))
        } else {
            self.number(V1_KERNEL).unwrap_or_default() // a kernel may be without it
        };
        let held = self.files.held.iter().map(|key| value(key)).sum::<Bytes>().saturating_add(kernel);
        Ok(GroupUsage { total, held, kernel })
    }

    /// What happened to the group.
    pub fn events(&self) -> Result<GroupEvents, GroupError> {
        if self.files.is_v2 {
            let events = self.read("memory.events")?;
            let value = |key| keyed(&events, key).unwrap_or(0);
            return Ok(GroupEvents { ooms: value("oom"), oom_kills: value("oom_kill") });
        }
        let oom_kills = keyed(&self.read("memory.oom_control")?, "oom_kill").unwrap_or(0);
        Ok(GroupEvents { ooms: oom_kills, oom_kills })
    }

    /// The most that was ever charged to it, caches included; `None` where the
    /// kernel (v2 before 5.19) doesn't know.
    pub fn peak(&self) -> Option<Bytes> {
        self.number(self.files.peak).ok()
    }

    /// Limits the group's memory and its swap. A limit below what its
    /// processes hold is refused with [`GroupError::BelowUsage`], because the
    /// kernel would kill the machine for it. If a write in the middle fails,
    /// a part of the limit may be set; setting it again is harmless.
    pub fn set_limit(&self, limit: GroupLimit) -> Result<(), GroupError> {
        let held = self.usage()?.held;
        if held > limit.hard.saturating_add(limit.swap) {
            return Err(GroupError::BelowUsage { path: self.folder.clone(), limit: limit.hard, held });
        }
        if self.files.is_v2 { self.set_limit_v2(limit) } else { self.set_limit_v1(limit) }
    }

    /// On the way down swap is allowed before memory is taken, on the way up it
    /// is forbidden after memory was given: in between the group always has
    /// the larger room.
    fn set_limit_v2(&self, limit: GroupLimit) -> Result<(), GroupError> {
        let swap = || self.write_if_there("memory.swap.max", &limit.swap.get().to_string());
        let high = || self.write("memory.high", &limit.soft.min(limit.hard).get().to_string());
        let max = || self.write(self.files.hard, &limit.hard.get().to_string());
        if limit.hard > self.hard_limit()? {
            max().and_then(|()| high()).and_then(|()| swap())
        } else {
            // The soft limit first: it reclaims caches gently.
            swap().and_then(|()| high()).and_then(|()| max())
        }
    }

    fn set_limit_v1(&self, limit: GroupLimit) -> Result<(), GroupError> {
        // With 0 the kernel swaps nothing of the group, whatever its limits.
        self.write("memory.swappiness", if limit.swap.is_zero() { "0" } else { SWAPPINESS })?;
        let both = limit.hard.saturating_add(limit.swap);
        let memory = || self.write(self.files.hard, &limit.hard.get().to_string());
        let with_swap = || self.write_if_there(V1_WITH_SWAP, &both.get().to_string());
        // Memory and swap together may never be limited below memory alone,
        // not even between two writes.
        if both >= self.hard_limit()? {
            with_swap().and_then(|()| memory())
        } else {
            memory().and_then(|()| with_swap())
        }
    }

    /// The hard limit now; [`Bytes::MAX`] or nearly so if there is none.
    pub fn hard_limit(&self) -> Result<Bytes, GroupError> {
        let text = self.read(self.files.hard)?;
        Ok(text.trim().parse().map_or(Bytes::MAX, Bytes::new)) // v2 says `max`
    }

    /// Removes the group; one that is gone already is fine. The kernel refuses
    /// while processes are in it.
    pub fn remove(&self) -> Result<(), GroupError> {
        remove_folder(&self.folder)
    }

    fn read(&self, name: &str) -> Result<String, GroupError> {
        let path = self.folder.join(name);
        reader::read(&path).map_err(|source| GroupError::Io { action: "read".to_owned(), path, source })
    }

    fn number(&self, name: &str) -> Result<Bytes, GroupError> {
        let number = self.read(name)?.trim().parse();
        number.map(Bytes::new).map_err(|_| self.malformed(name, "a number of bytes"))
    }

    fn write(&self, name: &str, value: &str) -> Result<(), GroupError> {
        write(self.folder.join(name), value)
    }

    /// For files that a kernel without swap accounting doesn't have.
    fn write_if_there(&self, name: &str, value: &str) -> Result<(), GroupError> {
        match self.write(name, value) {
            Err(GroupError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn malformed(&self, name: &str, expected: &'static str) -> GroupError {
        GroupError::Malformed { path: self.folder.join(name), expected }
    }
}

/// The number of a line such as `anon 1048576`.
fn keyed(text: &str, key: &str) -> Option<u64> {
    let (_, value) = text.lines().filter_map(|line| line.split_once(' ')).find(|(name, _)| *name == key)?;
    value.trim().parse().ok()
}

/// Lets the groups inside `folder` have the memory controller (v2).
pub(super) fn enable_memory(folder: &Path) -> Result<(), GroupError> {
    let path = folder.join("cgroup.subtree_control");
    // Read first: a folder that was delegated to us has it, and its parents
    // are not ours to write.
    let enabled = reader::read(&path).unwrap_or_default();
    if enabled.split_ascii_whitespace().any(|controller| controller == "memory") {
        return Ok(());
    }
    write(path, "+memory")
}

pub(super) fn create_folder(folder: &Path) -> Result<(), GroupError> {
    match fs::create_dir(folder) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(GroupError::Io { action: "create".to_owned(), path: folder.to_owned(), source })
        }
        _ => Ok(()),
    }
}

pub(super) fn remove_folder(folder: &Path) -> Result<(), GroupError> {
    match fs::remove_dir(folder) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(GroupError::Io { action: "remove".to_owned(), path: folder.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Never creates: a file that a cgroup doesn't have is not ours to invent.
fn write(path: PathBuf, value: &str) -> Result<(), GroupError> {
    let written =
        OpenOptions::new().write(true).truncate(true).open(&path).and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|source| GroupError::Io { action: format!("write {value} to"), path, source })
}

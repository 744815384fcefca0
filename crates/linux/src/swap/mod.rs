//! Swap files: where the part of a restarting machine's memory lies that the
//! host has not got (Smart Paging).
//!
//! The life of a file, always on a thread that may block:
//! 1. [`SwapFile::create`] reserves the room on the disk, so that nothing can
//!    run out of it later, and writes the header (`header`).
//! 2. [`SwapFile::activate`]: from here on the kernel may put pages there. It
//!    does so for whoever may swap at all: which machine that is, and how much,
//!    its memory group says ([`crate::GroupLimit`]).
//! 3. [`SwapFile::used`] follows the pages there and back.
//! 4. [`SwapFile::deactivate`] fetches back what is left, which takes as long
//!    as the disk does; then [`SwapFile::delete`].
//!
//! While a file is active the kernel lets nobody write, truncate, rename or
//! delete it, so that it can't be lost by hand. Its folder can be moved all the
//! same: therefore a [`SwapFile`] acts on its open file, not on a path.
//!
//! [`HostReader::swap_areas`] tells what is active, ours or not, and [`may_swap`]
//! whether any of this is for us.

mod call;
mod file;
mod header;

use std::{
    fs::File,
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use dynmem_units::Bytes;
use rustix::io::Errno;

pub use file::SwapFile;

use crate::{HostReader, ReadError, cgroup::unescape};

/// A swap file or partition in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapArea {
    /// The file or device, where it is now.
    pub path: PathBuf,
    /// What it holds at most.
    pub size: Bytes,
    /// What it holds.
    pub used: Bytes,
    /// The kernel fills areas of higher priority first.
    pub priority: i32,
}

/// Why a swap file could not be made, used or given up.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// Something has the file's name already, or a symbolic link does.
    #[error("Can't create {}: there is something of this name; if no machine uses it, remove it", .0.display())]
    Exists(PathBuf),
    /// The file system has not got the room, or would be left with too little.
    #[error(
        "Can't create {}: it takes {needs}, and its file system has {free} free, of which {kept} are kept free; make room, or choose a folder elsewhere",
        path.display()
    )]
    Full {
        /// The file.
        path: PathBuf,
        /// Its size.
        needs: Bytes,
        /// What is free.
        free: Bytes,
        /// What stays free for everybody else.
        kept: Bytes,
    },
    /// The file system has no swap files.
    #[error(
        "Can't swap to {}: its file system can't hold swap files (as tmpfs, NFS and overlays can't); choose a folder on ext4, XFS or Btrfs",
        path.display()
    )]
    Unsuitable {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel does not let us.
    #[error(
        "Can't swap to {}: the right to is missing (CAP_SYS_ADMIN), or as many swap files as the kernel knows are in use",
        .0.display()
    )]
    NotPermitted(PathBuf),
    /// What lies in the file finds no place in memory. It stays in use.
    #[error("Can't fetch back what is in {}: there is not enough memory for it now; try again later", .0.display())]
    NoRoom(PathBuf),
    /// Something else.
    #[error("Can't {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// What is in use can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Whether the kernel lets this process swap at all. Nothing is swapped to find
/// out: it is asked to give up a folder, and refuses either us or the folder.
pub fn may_swap() -> bool {
    let Ok(folder) = File::open("/") else { return false };
    let refused = call::swap_off(folder.as_fd()).err();
    refused.and_then(|error| Errno::from_io_error(&error)) != Some(Errno::PERM)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SwapError {
    let path = path.to_owned();
    move |source| SwapError::Io { action, path, source }
}

impl HostReader {
    /// Every swap file and partition in use.
    pub fn swap_areas(&self) -> Result<Vec<SwapArea>, ReadError> {
        self.parse("/proc/swaps", |text| parse(text).ok_or("a file, its size, use and priority"))
    }

    /// How much the kernel would rather swap than drop caches, 0–200. With 0 it
    /// swaps nothing of a group of version 2: it kills.
    pub fn swappiness(&self) -> Result<u32, ReadError> {
        self.parse("/proc/sys/vm/swappiness", |text| text.trim().parse().map_err(|_| "a number"))
    }
}

/// A heading, and lines as `/var/a\040b  file  65532  128  -2`, in KiB.
fn parse(text: &str) -> Option<Vec<SwapArea>> {
    let parse_line = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let path = PathBuf::from(unescape(fields.next()?));
        let mut fields = fields.skip(1);
        let mut kib = || Some(Bytes::KIB.scale(fields.next()?.parse().ok()?, 1));
        let (size, used) = (kib()?, kib()?);
        Some(SwapArea { path, size, used, priority: fields.next()?.parse().ok()? })
    };
    text.lines().skip(1).map(parse_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_read_with_odd_names() {
        let text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
            /dev/dm-1                               partition\t999420\t\t12\t\t-2\n\
            /vm/a\\040b/x.swap\\040(deleted)          file\t\t65532\t\t1024\t\t32767\n";
        let area = |path: &str, size, used, priority| SwapArea {
            path: path.into(),
            size: Bytes::KIB.scale(size, 1),
            used: Bytes::KIB.scale(used, 1),
            priority,
        };
        let expected = [area("/dev/dm-1", 999_420, 12, -2), area("/vm/a b/x.swap (deleted)", 65_532, 1_024, 32_767)];
        assert_eq!(parse(text), Some(expected.to_vec()));
        assert_eq!(parse("Filename Type Size Used Priority\n"), Some(Vec::new()));
        assert_eq!(parse("Filename\n/x file 12\n"), None, "torn");
    }
}

//! [`SwapFile`]: one file, from its creation to its end.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use dynmem_units::Bytes;
use rustix::{
    fs::{FallocateFlags, IFlags, OFlags, fallocate, fstatvfs, ioctl_getflags, ioctl_setflags},
    io::{Errno, retry_on_intr},
    param::page_size,
};

use super::{
    SwapError,
    call::{swap_off, swap_on},
    failed,
    header::header,
};
use crate::HostReader;

/// A swap file of ours. A plain handle: dropping it changes nothing. Every
/// call may block for as long as the disk likes.
#[derive(Debug)]
pub struct SwapFile {
    file: File,
}

impl SwapFile {
    /// Creates a file that holds `size` when it is activated, for the owner's
    /// eyes only and without holes. Its room is reserved on the disk; if there
    /// is too little, or anything else fails, nothing is left behind.
    ///
    /// Errors: [`SwapError::Exists`], [`SwapError::Full`],
    /// [`SwapError::Unsuitable`], [`SwapError::Io`].
    pub fn create(path: &Path, size: Bytes) -> Result<Self, SwapError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600).custom_flags(flags(OFlags::NOFOLLOW));
        let file = options.open(path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => SwapError::Exists(path.to_owned()),
            _ => failed("create", path)(source),
        })?;
        fill(&file, path, size).inspect_err(|_| {
            let _ = fs::remove_file(path); // why it failed says more than why it stays
        })?;
        Ok(Self { file })
    }

    /// A file that was created before; `None` if there is none.
    pub fn open(path: &Path) -> Result<Option<Self>, SwapError> {
        let mut options = OpenOptions::new();
        // Whatever else has the name must neither lead us away nor keep us waiting.
        options.read(true).custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK));
        let file = match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed("open", path))?,
        };
        let is_file = file.metadata().map_err(failed("open", path))?.is_file();
        let no_file = || io::Error::new(io::ErrorKind::InvalidInput, "it is not a file");
        if is_file { Ok(Some(Self { file })) } else { Err(failed("open", path)(no_file())) }
    }

    /// Lets the kernel swap to it, before it swaps anywhere else.
    ///
    /// Errors: [`SwapError::NotPermitted`], [`SwapError::Unsuitable`],
    /// [`SwapError::Io`].
    pub fn activate(&self) -> Result<(), SwapError> {
        swap_on(self.file.as_fd()).map_err(|source| {
            let path = self.path_for_people();
            match Errno::from_io_error(&source) {
                Some(Errno::PERM) => SwapError::NotPermitted(path),
                Some(Errno::INVAL | Errno::OPNOTSUPP) => SwapError::Unsuitable { path, source },
                _ => failed("swap to", &path)(source),
            }
        })
    }

    /// What lies in it; `None` while it is not active.
    pub fn used(&self, host: &HostReader) -> Result<Option<Bytes>, SwapError> {
        let path = self.path()?;
        let areas = host.swap_areas()?;
        Ok(areas.into_iter().find(|area| area.path == path).map(|area| area.used))
    }

    /// Fetches back what lies in it, and makes it an ordinary file again; fine
    /// if it is one. **The memory for that has to be there**: in a group that
    /// is full the kernel ends a process to make room.
    ///
    /// Errors: [`SwapError::NoRoom`] where the kernel found none: the file is
    /// still active, and what was fetched has gone back by and by.
    /// [`SwapError::NotPermitted`], [`SwapError::Io`].
    pub fn deactivate(&self) -> Result<(), SwapError> {
        let Err(source) = swap_off(self.file.as_fd()) else { return Ok(()) };
        let path = self.path_for_people();
        match Errno::from_io_error(&source) {
            Some(Errno::INVAL) => Ok(()), // not active
            Some(Errno::NOMEM) => Err(SwapError::NoRoom(path)),
            Some(Errno::PERM) => Err(SwapError::NotPermitted(path)),
            _ => Err(failed("stop swapping to", &path)(source)),
        }
    }

    /// Deletes it; fine if that was done. The kernel refuses while it is active.
    pub fn delete(self) -> Result<(), SwapError> {
        let metadata = self.file.metadata().map_err(failed("delete", &self.path_for_people()))?;
        if metadata.nlink() == 0 {
            return Ok(());
        }
        let path = self.path()?;
        fs::remove_file(&path).map_err(failed("delete", &path))
    }

    /// Where it is now.
    pub fn path(&self) -> Result<PathBuf, SwapError> {
        let link = self.link();
        fs::read_link(&link).map_err(failed("read", &link))
    }

    fn link(&self) -> PathBuf {
        use std::os::fd::AsRawFd;
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    fn path_for_people(&self) -> PathBuf {
        self.path().unwrap_or_else(|_| self.link())
    }
}

fn flags(flags: OFlags) -> i32 {
    i32::try_from((flags | OFlags::CLOEXEC).bits()).unwrap_or_default()
}

/// Makes an empty file one that the kernel can swap to.
fn fill(mut file: &File, path: &Path, size: Bytes) -> Result<(), SwapError> {
    let page = Bytes::new(page_size() as u64);
    let length = size.align_up(page).saturating_add(page); // the first one is the header
    check_room(file, path, length)?;
    // Btrfs swaps only to what it does not copy on write. Others don't know
    // the word.
    let _ = ioctl_getflags(file).and_then(|flags| ioctl_setflags(file, flags | IFlags::NOCOW));
    retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, length.get())).map_err(|errno| match errno {
        Errno::NOSPC | Errno::DQUOT => full(file, path, length),
        Errno::OPNOTSUPP => SwapError::Unsuitable { path: path.to_owned(), source: errno.into() },
        _ => failed("reserve room for", path)(errno.into()),
    })?;
    let header = header(length, page_size())
        .ok_or_else(|| failed("create", path)(io::Error::new(io::ErrorKind::FileTooLarge, "it would be too large")))?;
    file.write_all(&header).map_err(failed("write", path))
}

fn check_room(file: &File, path: &Path, length: Bytes) -> Result<(), SwapError> {
    let (free, kept) = room(file);
    if length.saturating_add(kept) > free { Err(full(file, path, length)) } else { Ok(()) }
}

fn full(file: &File, path: &Path, needs: Bytes) -> SwapError {
    let (free, kept) = room(file);
    SwapError::Full { path: path.to_owned(), needs, free, kept }
}

/// What is free on the file system, and how much of that is for others.
fn room(file: &File) -> (Bytes, Bytes) {
    let Ok(room) = fstatvfs(file) else { return (Bytes::ZERO, Bytes::ZERO) };
    let blocks = |count: u64| Bytes::new(room.f_frsize.saturating_mul(count));
    (blocks(room.f_bavail), kept_free(blocks(room.f_blocks)))
}

/// What a swap file leaves free on a file system of this size, for the logs and
/// disk images beside it: 5 %, at most 1 GiB.
fn kept_free(total: Bytes) -> Bytes {
    total.scale(1, 20).min(Bytes::from_mib(1 << 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_disk_is_for_others() {
        assert_eq!(kept_free(Bytes::from_mib(2_000)), Bytes::from_mib(100));
        assert_eq!(kept_free(Bytes::from_mib(1 << 20)), Bytes::from_mib(1 << 10), "not half a disk of a terabyte");
        let folder = tempfile::tempdir().expect("a folder");
        let file = File::create(folder.path().join("x")).expect("a file");
        let (free, kept) = room(&file);
        // The disk changes under us: not to the byte.
        let most = free.saturating_sub(kept);
        let path = folder.path().join("y");
        let error = check_room(&file, &path, most.saturating_add(kept.scale(1, 2))).expect_err("others' part");
        assert!(matches!(error, SwapError::Full { .. }), "{error:?}");
        check_room(&file, &path, most.scale(1, 2)).expect("half of what is ours to take");
    }
}

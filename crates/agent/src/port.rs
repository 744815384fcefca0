//! [`Port`]: the guest's end of a virtio-serial port.
//!
//! Always non-blocking: a blocking write to a port that nobody on the host has
//! opened hangs for ever. Such a port also reports `POLLHUP` without end, so
//! callers leave it out of their poll set while [`Port::is_connected`] is
//! false, and ask again later.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::OFlags,
};

/// The most that waits to be written: a few messages.
const MAX_PENDING_BYTES: usize = 64 << 10;

/// An open port.
#[derive(Debug)]
pub struct Port {
    file: File,
    pending: Vec<u8>,
    written: usize,
}

impl Port {
    /// The device file of the port `name`; `root` is `/` except in tests.
    /// udev makes a link by that name; without udev, sysfs knows the device.
    pub fn find(root: &Path, name: &str) -> Option<PathBuf> {
        let link = root.join("dev/virtio-ports").join(name);
        if link.exists() {
            return Some(link);
        }
        let ports = fs::read_dir(root.join("sys/class/virtio-ports")).ok()?;
        let named =
            |port: &fs::DirEntry| fs::read_to_string(port.path().join("name")).is_ok_and(|it| it.trim() == name);
        let port = ports.flatten().find(named)?;
        Some(root.join("dev").join(port.file_name()))
    }

    /// Opens a device file. Only one program can have a port open.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        Ok(Self { file, pending: Vec::with_capacity(4096), written: 0 })
    }

    /// Whether somebody on the host has the other end open. An error if the
    /// port itself is gone.
    pub fn is_connected(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.file, PollFlags::OUT)];
        poll(&mut fds, Some(&Timespec::default()))?;
        let seen = fds[0].revents();
        if seen.intersects(PollFlags::ERR | PollFlags::NVAL) {
            return Err(ErrorKind::NotConnected.into());
        }
        Ok(!seen.contains(PollFlags::HUP))
    }

    /// What to poll for: always input, and room for output if some waits.
    pub fn interest(&self) -> PollFlags {
        if self.has_pending() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN }
    }

    /// True while something waits to be written.
    pub fn has_pending(&self) -> bool {
        self.written < self.pending.len()
    }

    /// Queues a line behind those that wait. False, and nothing queued, if the
    /// host has not read for so long that 64 KiB wait already.
    pub fn queue(&mut self, line: &[u8]) -> bool {
        if !self.has_pending() {
            self.drop_pending();
        }
        let fits = self.pending.len() + line.len() <= MAX_PENDING_BYTES;
        if fits {
            self.pending.extend_from_slice(line);
        }
        fits
    }

    /// Forgets what waits: its listener is gone.
    pub fn drop_pending(&mut self) {
        self.pending.clear();
        self.written = 0;
    }

    /// Writes what waits, as far as the host takes it now.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.has_pending() {
            match self.file.write(&self.pending[self.written..]) {
                Ok(0) => return Ok(()),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.drop_pending();
        Ok(())
    }

    /// Reads what is there, at most `buffer`; 0 if there is nothing.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.file.read(buffer) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
            outcome => outcome,
        }
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_found_by_udevs_link_or_by_its_name_in_sysfs() {
        let root = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(Port::find(root.path(), "org.dynmem.agent.0"), None);
        for (port, name) in [("vport0p1", "other\n"), ("vport0p2", "org.dynmem.agent.0\n")] {
            let directory = root.path().join("sys/class/virtio-ports").join(port);
            fs::create_dir_all(&directory).expect("a directory");
            fs::write(directory.join("name"), name).expect("a file");
        }
        assert_eq!(Port::find(root.path(), "org.dynmem.agent.0"), Some(root.path().join("dev/vport0p2")));
        let links = root.path().join("dev/virtio-ports");
        fs::create_dir_all(&links).expect("a directory");
        fs::write(links.join("org.dynmem.agent.0"), "").expect("a file");
        assert_eq!(Port::find(root.path(), "org.dynmem.agent.0"), Some(links.join("org.dynmem.agent.0")));
    }

    #[test]
    fn a_listener_that_does_not_read_never_blocks_the_sender() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let path = root.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .expect("a FIFO");
        let mut port = Port::open(&path).expect("open for both directions");
        let line = [b'x'; 4096];
        let mut queued = 0;
        while port.queue(&line) {
            port.flush().expect("would block is no error");
            queued += 1;
            assert!(queued < 10_000, "the queue is bounded");
        }
        assert!(port.has_pending());
        let mut buffer = [0; 8192];
        assert!(port.read(&mut buffer).expect("readable") > 0);
        port.flush().expect("room again");
    }
}

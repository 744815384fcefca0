//! [`RunDir`]: who lies where in a machine's run-time directory.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use dynmem_units::Bytes;

/// The longest number that is read from a file.
const NUMBER_BYTES_MAX: u64 = 32;

/// A machine's run-time directory. Everything in it belongs to one process
/// and is worthless without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// The longest path of a directory whose sockets can still be named: a
    /// Unix socket's path has at most 107 bytes.
    pub const PATH_BYTES_MAX: usize = 107 - "/console.sock".len();

    /// The directory at `path`, whether it exists or not.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The machine's name: the last part of the path.
    pub fn name(&self) -> String {
        self.0.file_name().map(OsStr::to_string_lossy).unwrap_or_default().into_owned()
    }

    /// The daemon's QMP socket.
    pub fn qmp(&self) -> PathBuf {
        self.0.join("qmp.sock")
    }

    /// A second QMP socket, for other tools and people.
    pub fn monitor(&self) -> PathBuf {
        self.0.join("monitor.sock")
    }

    /// The serial console.
    pub fn console(&self) -> PathBuf {
        self.0.join("console.sock")
    }

    /// The host's end of the agent's port.
    pub fn agent(&self) -> PathBuf {
        self.0.join("agent.sock")
    }

    /// The process id, written by QEMU.
    pub fn pid_file(&self) -> PathBuf {
        self.0.join("qemu.pid")
    }

    /// Whatever QEMU said.
    pub fn log(&self) -> PathBuf {
        self.0.join("qemu.log")
    }

    /// What the machine was launched with: [`crate::MachineRecord`].
    pub fn record(&self) -> PathBuf {
        self.0.join("machine.json")
    }

    /// The definition that it was launched with.
    pub fn definition(&self) -> PathBuf {
        self.0.join("definition.json")
    }

    /// Where it is being saved: while this file is here, it stands still for
    /// that, and not because a person wanted it to.
    pub fn standing(&self) -> PathBuf {
        self.0.join("standing")
    }

    /// The most that its VM was ever to have while it runs, if that was lowered:
    /// it may still hold that much, whatever the settings say by now.
    fn former_maximum_file(&self) -> PathBuf {
        self.0.join("former-maximum")
    }

    /// Remembers a maximum (of a static VM: its startup) that is about to be lowered,
    /// whole or not at all.
    pub fn remember_maximum(&self, maximum: Bytes) -> io::Result<()> {
        let maximum = maximum.max(self.former_maximum());
        let path = self.former_maximum_file();
        let fresh = path.with_extension("new");
        fs::write(&fresh, maximum.get().to_string())?;
        File::open(&fresh)?.sync_all()?;
        fs::rename(&fresh, &path)?;
        File::open(&self.0)?.sync_all()
    }

    /// The largest maximum that was remembered; zero if none was, or what is there
    /// is no number.
    pub fn former_maximum(&self) -> Bytes {
        let read = |file: File| {
            let mut text = String::new();
            file.take(NUMBER_BYTES_MAX).read_to_string(&mut text).map(|_| text)
        };
        let text = File::open(self.former_maximum_file()).and_then(read).unwrap_or_default();
        Bytes::new(text.trim().parse().unwrap_or_default())
    }

    /// The sockets, all of them.
    pub(crate) fn sockets(&self) -> [PathBuf; 4] {
        [self.qmp(), self.monitor(), self.console(), self.agent()]
    }

    /// True if there is a log and nothing else: that was left for people to read.
    pub(crate) fn is_for_people(&self) -> bool {
        let Ok(entries) = fs::read_dir(&self.0) else { return false };
        let log = self.log();
        entries.flatten().all(|entry| entry.path() == log) && log.exists()
    }

    /// Removes the directory and what is in it; fine if it is gone.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

//! What can go wrong, in sentences that say what to do.

use std::{io, path::PathBuf, time::Duration};

use dynmem_qmp::QmpError;
use dynmem_units::Bytes;

use crate::files;

/// Why this host can't run machines.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// There is no QEMU.
    #[error("QEMU is missing: {} was not found; install it (Debian and Ubuntu: qemu-system-x86, Fedora: qemu-system-x86-core)", .0.display())]
    Missing(PathBuf),
    /// It does not run.
    #[error("QEMU ({}) does not run: {reason}", path.display())]
    Broken {
        /// The program.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
    /// It is too old.
    #[error("QEMU ({}) is version {version}: at least 7.2 is needed", path.display())]
    TooOld {
        /// The program.
        path: PathBuf,
        /// Its version.
        version: String,
    },
    /// KVM was demanded and does not work.
    #[error("KVM was asked for and can't be used here: {0}; choose accelerator \"tcg\" or \"auto\"")]
    KvmUnusable(String),
}

/// Why a machine was not started. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The definition demands KVM, which does not work.
    #[error("VM {name} asks for KVM, which can't be used here: {reason}; set accelerator to \"tcg\" or \"auto\"")]
    KvmUnusable {
        /// The VM.
        name: String,
        /// What the probe saw.
        reason: String,
    },
    /// A file that the machine needs is missing or unreadable.
    #[error("{what} {} can't be read: {source}", path.display())]
    File {
        /// `Disk`, `Kernel` …
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that the machine needs is there, but not for QEMU's user.
    #[error(
        "{what} {} can't be opened by {user}, the user that QEMU runs as: {source}; let {user} {need} it and enter the \
         directories above it (chown, or setfacl --modify u:{user}:…), or set another user in [qemu] of dynmemd's settings",
        path.display()
    )]
    NotForUser {
        /// `Disk`, `Kernel` …
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the user has to be allowed: `read`, `read and write`.
        need: &'static str,
        /// QEMU's user.
        user: String,
        /// Why.
        source: io::Error,
    },
    /// The daemon may not give up its own user for QEMU's.
    #[error(
        "Can't become {user}, the user that QEMU runs as: {source}; run dynmemd as root with CAP_SETUID and CAP_SETGID, \
         or set another user in [qemu] of its settings"
    )]
    User {
        /// QEMU's user.
        user: String,
        /// Why.
        source: io::Error,
    },
    /// No interface on a bridge could be had.
    #[error("Bridge {bridge} can't be joined: {reason}")]
    Bridge {
        /// The bridge.
        bridge: String,
        /// What was tried and said, and what to do.
        reason: String,
    },
    /// Another process serves one of the machine's sockets.
    #[error("Socket {} is in use: a machine of this name still runs; stop it first", .0.display())]
    SocketInUse(PathBuf),
    /// Another process serves the socket of the machine's display.
    #[error("VNC socket {} is in use by another process: set vnc to another path, or end what listens there", .0.display())]
    DisplayInUse(PathBuf),
    /// Something that is no socket lies where the display's socket would be.
    #[error("VNC socket {} can't be made: something else has this name; set vnc to another path, or move it away", .0.display())]
    DisplayOverFile(PathBuf),
    /// The sockets could not be named.
    #[error("Directory {} has {} bytes in its path: at most {most} fit, because sockets lie in it; choose a shorter state directory", path.display(), path.as_os_str().len())]
    PathTooLong {
        /// The run-time directory.
        path: PathBuf,
        /// The most bytes its path may have.
        most: usize,
    },
    /// The run-time directory can't be prepared, or the process not be made.
    #[error("Can't {doing} {}: {source}", path.display())]
    Io {
        /// `make directory`, `start` …
        doing: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// QEMU ended at once.
    #[error("QEMU for VM {name} ended at its start ({exit}): {log}")]
    Exited {
        /// The VM.
        name: String,
        /// How it ended.
        exit: crate::MachineExit,
        /// Its last words.
        log: String,
    },
    /// QEMU runs and does not answer.
    #[error("QEMU for VM {name} did not answer within {}s and was ended: {log}", waited.as_secs())]
    Silent {
        /// The VM.
        name: String,
        /// How long it was waited for.
        waited: Duration,
        /// Its last words.
        log: String,
    },
    /// What was saved could not be restored; it is still there.
    #[error("VM {name} can't go on from what was saved: {source}. It is still saved; try again, or discard that")]
    Restore {
        /// The VM.
        name: String,
        /// What went wrong.
        source: SaveError,
    },
    /// Nothing that could be restored is there.
    #[error("VM {name} has no saved state that can be read in {}: {reason}", path.display())]
    NotSaved {
        /// The VM.
        name: String,
        /// Where it should be.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// QEMU answered with something else than expected.
    #[error("QEMU for VM {name} could not be set up: {source}")]
    Setup {
        /// The VM.
        name: String,
        /// What it said.
        source: QmpError,
    },
}

impl LaunchError {
    /// A refusal that meets QEMU's user, and not whoever reads this.
    pub(crate) fn of_user(self, user: &str) -> Self {
        match self {
            Self::File { what, path, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                let need = match what {
                    "Disk" => "read and, unless it is read-only, write",
                    files::DISPLAY => "make",
                    _ => "read",
                };
                Self::NotForUser { what, path, need, user: user.to_owned(), source }
            }
            other => other,
        }
    }
}

/// Why a machine could not be taken over. If it runs it goes on; try again.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// It runs and does not answer.
    #[error("QEMU in {} runs as process {pid} and can't be controlled: {source}", run_dir.display())]
    Unresponsive {
        /// Its directory.
        run_dir: PathBuf,
        /// Its process.
        pid: u32,
        /// What happened.
        source: QmpError,
        /// What it was launched with, to be charged meanwhile.
        record: Box<crate::MachineRecord>,
    },
    /// Whether it runs can't be told.
    #[error("Can't {doing} {}: {source}", path.display())]
    Unclear {
        /// `read`, `find the process of`.
        doing: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// Why.
        source: io::Error,
        /// What it was launched with, if that can be read.
        record: Option<Box<crate::MachineRecord>>,
    },
    /// Nothing runs, and what was left can't be removed.
    #[error("Can't remove {}: {source}", path.display())]
    Remains {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why a machine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// QEMU did not answer, refused or is gone.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// The machine is not held before a reset.
    #[error("The machine is not held before a reset: it is {0}")]
    NotHeld(crate::RunState),
}

impl MachineError {
    /// Whether the machine's control connection is over. Its end is told by
    /// [`crate::Machine::next_event`].
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Qmp(QmpError::Closed))
    }
}

/// Why a machine was not saved, or not restored.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// It is in no state in which it can be saved.
    #[error("its machine is {0}")]
    State(crate::RunState),
    /// A file could not be made, written or read.
    #[error("can't {doing} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// QEMU gave it up.
    #[error("QEMU says: {0}")]
    Refused(String),
    /// The file itself, while it is written or read.
    #[error("the file of its memory: {0}")]
    File(io::Error),
    /// Nothing moves any more.
    #[error("after {bytes} nothing has moved for {}s", waited.as_secs())]
    Stalled {
        /// For how long.
        waited: Duration,
        /// How far it was.
        bytes: Bytes,
    },
    /// QEMU did not do what it was asked.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

impl From<QmpError> for SaveError {
    fn from(error: QmpError) -> Self {
        Self::Machine(error.into())
    }
}

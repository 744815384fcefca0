//! The files that a definition names: opened as QEMU will open them, before
//! anything is made.
//!
//! QEMU's own message about a missing file is hard to find in its log, and
//! what the daemon may read its user may not: so a thread becomes that user
//! and tries.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
    thread,
};

use dynmem_definition::VmDefinition;
use dynmem_linux::Account;
use rustix::{
    fs::OFlags,
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
};

use crate::{LaunchError, user::Identity};

/// What stands before the path of a display's socket in a message.
pub(crate) const DISPLAY: &str = "VNC socket";

/// Whether QEMU, as `user` or as we are, can open all that it will open.
pub(crate) fn check(definition: &VmDefinition, user: Option<&Account>) -> Result<(), LaunchError> {
    let look = || check_display(definition).and_then(|()| open_all(definition));
    let Some(user) = user else { return look() };
    let opened = as_user(user, || look().map_err(|error| error.of_user(&user.name)));
    opened.unwrap_or_else(|source| Err(LaunchError::User { user: user.name.clone(), source }))
}

/// Whether `user`, or we, can read and write a file.
pub(crate) fn open_as(user: Option<&Account>, path: &Path) -> io::Result<()> {
    let open = || OpenOptions::new().read(true).write(true).open(path).map(drop);
    user.map_or_else(open, |user| as_user(user, open).flatten())
}

/// Does something as another user, on a thread of its own: to the kernel, a
/// user is a thread's, and the other threads stay who they are.
fn as_user<T: Send>(user: &Account, act: impl FnOnce() -> T + Send) -> io::Result<T> {
    let identity = Identity::of(user);
    let act = || identity.take_on().map(|()| act());
    thread::scope(|scope| scope.spawn(act).join()).expect("opening files does not panic")
}

fn open_all(definition: &VmDefinition) -> Result<(), LaunchError> {
    let boot = &definition.boot;
    let whole = [("Firmware", &boot.firmware), ("Kernel", &boot.kernel), ("Initial RAM disk", &boot.initrd)];
    for (what, path) in whole {
        if let Some(path) = path {
            check_file(what, path, true)?;
        }
    }
    definition.disks.iter().try_for_each(|disk| check_file("Disk", &disk.path, disk.read_only))
}

fn check_file(what: &'static str, path: &Path, read_only: bool) -> Result<(), LaunchError> {
    // Without waiting: a pipe would keep us until somebody writes into it.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().read(true).write(!read_only).custom_flags(flags).open(path);
    let plain = opened.and_then(|file| file.metadata()).and_then(|metadata| match metadata.file_type() {
        kind if kind.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        kind if kind.is_fifo() => Err(io::Error::other("it is a pipe, not a file")),
        _ => Ok(()),
    });
    plain.map_err(|source| LaunchError::File { what, path: path.to_owned(), source })
}

/// QEMU removes whatever lies where its display's socket goes: a file, or the
/// display of another machine, which would go on without it.
fn check_display(definition: &VmDefinition) -> Result<(), LaunchError> {
    let Some(socket) = definition.vnc.as_deref().and_then(|vnc| vnc.strip_prefix("unix:")) else { return Ok(()) };
    let socket = Path::new(socket);
    match fs::symlink_metadata(socket) {
        Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
            Err(LaunchError::File { what: DISPLAY, path: socket.to_owned(), source })
        }
        Ok(metadata) if !metadata.file_type().is_socket() => Err(LaunchError::DisplayOverFile(socket.to_owned())),
        _ if is_served(socket) => Err(LaunchError::DisplayInUse(socket.to_owned())),
        _ => Ok(()),
    }
}

/// Whether a socket is somebody's. Never waits: one who listens and takes no
/// connection has a full queue.
pub(crate) fn is_served(socket: &Path) -> bool {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let knock = || {
        let asking = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&asking, &SocketAddrUnix::new(socket)?)
    };
    // Full, not for us, or of another kind: each has somebody behind it.
    matches!(knock(), Ok(()) | Err(Errno::AGAIN | Errno::ACCESS | Errno::PROTOTYPE))
}

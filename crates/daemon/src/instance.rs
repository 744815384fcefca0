//! One daemon per state directory and per socket.
//!
//! A lock (`flock`) on a file in the state directory says who owns the VMs; it
//! ends with the process, however that ends. The lock beside the socket does
//! the same for the socket, so that a stale one can be replaced without a race.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt, chown},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use dynmem_linux::HostReader;
use rustix::fs::{FlockOperation, flock};

/// The group whose members may use the socket, if it exists.
const GROUP: &str = "dynmem";

/// Why this daemon can't be the one.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Somebody else has the lock.
    #[error("Another dynmemd uses {what} {} (lock {}): stop it first, or name another {what} in the settings", path.display(), lock.display())]
    Taken {
        /// "state directory" or "socket".
        what: &'static str,
        /// What both want.
        path: PathBuf,
        /// The lock's file.
        lock: PathBuf,
    },
    /// Something that is no socket is in the socket's place.
    #[error("Could not listen on {}: there is a file that is not a socket; remove it, or set another socket", .0.display())]
    NotASocket(PathBuf),
    /// A file or directory could not be made.
    #[error("Could not {verb} {}: {source}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstanceError {
    let path = path.to_owned();
    move |source| InstanceError::Io { verb, path, source }
}

/// The right to manage what is in a state directory, while it lives.
#[derive(Debug)]
pub(crate) struct StateLock {
    _lock: File,
}

impl StateLock {
    /// Makes the directory if need be, and locks it.
    pub(crate) fn take(state_dir: &Path) -> Result<Self, InstanceError> {
        let mut builder = DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o750)
            .create(state_dir)
            .map_err(failed("create the state directory", state_dir))?;
        let lock = lock("state directory", state_dir, &state_dir.join("dynmemd.lock"))?;
        Ok(Self { _lock: lock })
    }
}

/// The API's socket, removed when dropped.
#[derive(Debug)]
pub(crate) struct ApiSocket {
    listener: UnixListener,
    path: PathBuf,
    _lock: File,
}

impl ApiSocket {
    /// Listens on `path`, in place of a socket that a dead daemon left. Mode
    /// 0660, for the group `dynmem` if there is one.
    pub(crate) fn bind(path: &Path) -> Result<Self, InstanceError> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed("create the socket's directory", parent))?;
        }
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let held = lock("socket", path, Path::new(&lock_path))?;
        match fs::symlink_metadata(path) {
            Ok(found) if !is_socket(&found) => return Err(InstanceError::NotASocket(path.to_owned())),
            Ok(_) => {
                // A daemon without our lock (another's network file system,
                // another program) may listen there all the same.
                if UnixStream::connect(path).is_ok() {
                    return Err(InstanceError::Taken {
                        what: "socket",
                        path: path.to_owned(),
                        lock: PathBuf::from(lock_path),
                    });
                }
                fs::remove_file(path).map_err(failed("remove the stale socket", path))?;
            }
            Err(_) => {} // nothing there, or bind says why not
        }
        // Nobody gets in between bind and chmod: the umask is only ours to
        // change for the moment, so bind under a name nobody knows.
        let listener = bind_privately(path)?;
        Ok(Self { listener, path: path.to_owned(), _lock: held })
    }

    /// Another handle of the listener, for a runtime.
    pub(crate) fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for ApiSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // the next daemon replaces it otherwise
    }
}

/// Binds in a directory that only we may enter, sets owner and mode, and moves
/// the socket to its place.
fn bind_privately(path: &Path) -> Result<UnixListener, InstanceError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let private = parent.join(format!(".dynmemd-{}", std::process::id()));
    let _ = fs::remove_dir_all(&private);
    DirBuilder::new().mode(0o700).create(&private).map_err(failed("create", &private))?;
    let hidden = private.join("s");
    let bound = UnixListener::bind(&hidden).map_err(failed("listen on", path)).and_then(|listener| {
        if let Ok(Some(group)) = HostReader::default().group_id(GROUP) {
            // An ordinary user who is not in the group keeps the socket to itself.
            let _ = chown(&hidden, None, Some(group));
        }
        fs::set_permissions(&hidden, Permissions::from_mode(0o660)).map_err(failed("set the mode of", path))?;
        listener.set_nonblocking(true).map_err(failed("listen on", path))?;
        fs::rename(&hidden, path).map_err(failed("move the socket to", path))?;
        Ok(listener)
    });
    let _ = fs::remove_dir_all(&private);
    bound
}

fn is_socket(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    metadata.file_type().is_socket()
}

fn lock(what: &'static str, path: &Path, lock: &Path) -> Result<File, InstanceError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(lock)
        .map_err(failed("open the lock", lock))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(InstanceError::Taken { what, path: path.to_owned(), lock: lock.to_owned() })
        }
        Err(error) => Err(failed("lock", lock)(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_has_one_owner_at_a_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = dir.path().join("state");
        let first = StateLock::take(&state).expect("nobody else");
        let error = StateLock::take(&state).expect_err("taken").to_string();
        assert!(error.starts_with("Another dynmemd uses state directory"), "{error}");
        drop(first);
        StateLock::take(&state).expect("free again");
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s.sock");
        drop(UnixListener::bind(&path).expect("a socket")); // leaves the file
        assert!(path.exists());
        let socket = ApiSocket::bind(&path).expect("nobody listens");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o660);
        assert!(matches!(ApiSocket::bind(&path), Err(InstanceError::Taken { .. })));
        drop(socket);
        assert!(!path.exists(), "removed with its owner");
        let _foreign = UnixListener::bind(&path).expect("a socket");
        assert!(matches!(ApiSocket::bind(&path), Err(InstanceError::Taken { .. })));
        let left: Vec<_> = fs::read_dir(dir.path()).expect("readable").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left.len(), 2, "the socket and its lock only: {left:?}");
    }

    #[tokio::test]
    async fn a_file_in_the_sockets_place_is_not_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s.sock");
        fs::write(&path, "precious").expect("written");
        assert!(matches!(ApiSocket::bind(&path), Err(InstanceError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).expect("still there"), "precious");
    }
}

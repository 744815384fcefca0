//! An interface on a host bridge: [`join`].
//!
//! Only an administrator may make one, so QEMU has a helper with more rights,
//! which asks `/etc/qemu/bridge.conf` whether this bridge is meant for
//! machines. The daemon runs it, and not QEMU: a sandboxed QEMU can't gain
//! rights (`-sandbox on` always sets `no_new_privs`), and so it needs to start
//! no program at all.
//!
//! ```text
//!  join() ──socketpair──▶ qemu-bridge-helper ──a tap's open file──▶ QEMU (fd=)
//! ```

use std::{
    fs::File,
    io::{IoSliceMut, Read},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::{
    cmsg_space,
    io::{FdFlags, fcntl_setfd},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg,
        socketpair,
        sockopt::{Timeout, set_socket_timeout},
    },
};

use crate::LaunchError;

/// Where distributions put it: Debian and Ubuntu, Fedora, QEMU itself.
const HELPERS: [&str; 3] =
    ["/usr/lib/qemu/qemu-bridge-helper", "/usr/libexec/qemu-bridge-helper", "/usr/local/libexec/qemu-bridge-helper"];
/// The helper takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of what it says is told.
const WORDS_BYTES_MAX: u64 = 400;

/// A new interface on `bridge`, gone with its last open file. Blocks, for
/// moments.
pub(crate) fn join(bridge: &str) -> Result<OwnedFd, LaunchError> {
    let refused = |reason: String| LaunchError::Bridge { bridge: bridge.to_owned(), reason };
    let helper = HELPERS.iter().map(Path::new).find(|path| path.exists());
    let helper = helper.ok_or_else(|| refused(format!("QEMU's bridge helper is missing: none of {HELPERS:?}")))?;
    let words = |error: rustix::io::Errno| refused(format!("can't talk to the bridge helper: {error}"));
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(words)?;
    set_socket_timeout(&ours, Timeout::Recv, Some(PATIENCE)).map_err(words)?;
    let mut child = start(helper, bridge, theirs)
        .map_err(|error| refused(format!("the bridge helper {} does not start: {error}", helper.display())))?;
    let tap = receive(&ours);
    let _ = child.kill(); // it has ended, or never will
    let said = last_words(&mut child);
    tap.ok_or_else(|| {
        refused(format!(
            "{} did not give an interface: {said}; is the bridge there, is it allowed in /etc/qemu/bridge.conf, and has \
             dynmemd the right to make interfaces (CAP_NET_ADMIN)?",
            helper.display()
        ))
    })
}

#[expect(unsafe_code, reason = "the standard library has no other way to let a child inherit an open file")]
fn start(helper: &Path, bridge: &str, socket: OwnedFd) -> std::io::Result<Child> {
    let mut command = Command::new(helper);
    command.args(["--use-vnet", &format!("--br={bridge}"), &format!("--fd={}", socket.as_raw_fd())]);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // SAFETY: one system call on a file that was opened before; nothing is
    // allocated and no lock taken.
    unsafe {
        command.pre_exec(move || Ok(fcntl_setfd(&socket, FdFlags::empty())?));
    }
    command.spawn()
}

/// The one open file that the helper sends; `None` if it ends or time runs out.
fn receive(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0; 1];
    recvmsg(socket.as_fd(), &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC).ok()?;
    ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    })
}

fn last_words(child: &mut Child) -> String {
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = File::from(OwnedFd::from(stderr)).take(WORDS_BYTES_MAX).read_to_end(&mut said); // what could be read is read
    }
    let _ = child.wait(); // reaped, however it ended
    let said = String::from_utf8_lossy(&said).trim().replace(char::is_control, " ");
    if said.is_empty() { "it said nothing".to_owned() } else { said }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_that_is_not_there_or_not_allowed_is_refused_with_the_helpers_words() {
        let error = join("dynmem-none").expect_err("no such bridge").to_string();
        assert!(error.starts_with("Bridge dynmem-none can't be joined: "), "{error}");
        assert!(!error.contains("it said nothing"), "{error}");
    }
}

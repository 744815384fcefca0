//! The program itself: its settings, its locks, its signals.

use std::{
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use dynmem_footprint::Footprint;
use rustix::process::{Pid, Signal, kill_process};

struct Folder(Footprint);

impl Folder {
    fn new() -> Self {
        Self(Footprint::new().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Settings with this state directory and this socket.
    fn settings(&self, file: &str, state: &str, socket: &str) -> PathBuf {
        let (state, socket) = (self.path(state), self.path(socket));
        let text = format!("backend = 'fake'\nstate_dir = '{}'\nsocket = '{}'\n", state.display(), socket.display());
        fs::write(self.path(file), text).expect("written");
        self.path(file)
    }
}

fn dynmemd(settings: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dynmemd"));
    command.arg("--config").arg(settings).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn refused(settings: &Path) -> String {
    let Output { status, stderr, .. } = dynmemd(settings).output().expect("it runs");
    assert_eq!(status.code(), Some(1));
    String::from_utf8(stderr).expect("text")
}

/// A daemon, ended when dropped.
struct Running(Child);

impl Running {
    fn start(settings: &Path, socket: &Path) -> Self {
        let running = Self(dynmemd(settings).spawn().expect("it runs"));
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::os::unix::net::UnixStream::connect(socket).is_err() {
            assert!(Instant::now() < deadline, "it never listened");
            std::thread::sleep(Duration::from_millis(10));
        }
        running
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).expect("small")).expect("not zero");
        kill_process(pid, signal).expect("it runs");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn settings_that_are_wrong_are_refused_with_file_line_and_rule() {
    let folder = Folder::new();
    let file = folder.path("dynmemd.toml");
    fs::write(&file, "[host]\nmemory = '2G'\nreserve = '3G'\n").expect("written");
    let said = refused(&file);
    let expected =
        format!("dynmemd: Settings file {}, line 3, column 1: Setting host.reserve can't be 3GiB", file.display());
    assert!(said.contains(&expected), "{said}");
    let said = refused(&folder.path("missing.toml"));
    assert!(said.contains("Could not read the settings file") && said.contains("missing.toml"), "{said}");
    fs::write(&file, "[host]\nmemory = '900T'\n").expect("written");
    let said = refused(&file);
    assert!(said.contains("Setting host.memory can't be 900TiB: this host has "), "{said}");
}

#[test]
fn without_a_qemu_that_is_new_enough_it_does_not_start_and_says_why() {
    let folder = Folder::new();
    let settings = folder.settings("c.toml", "state", "s.sock");
    let text = fs::read_to_string(&settings).expect("written").replace("'fake'", "'qemu'");
    fs::write(&settings, text).expect("written");
    let refused = || {
        let output = dynmemd(&settings).env("PATH", folder.path("bin")).output().expect("it runs");
        assert_eq!(output.status.code(), Some(1));
        assert!(!folder.path("s.sock").exists() && !folder.path("state").exists(), "nothing was begun");
        String::from_utf8(output.stderr).expect("text")
    };
    let said = refused();
    assert!(said.contains("QEMU is missing: qemu-system-x86_64 was not found; install it"), "{said}");

    fs::create_dir(folder.path("bin")).expect("a folder");
    let old = folder.path("bin/qemu-system-x86_64");
    fs::write(&old, "#!/bin/sh\necho 'QEMU emulator version 6.2.0 (Debian 1:6.2)'\n").expect("written");
    fs::set_permissions(&old, fs::Permissions::from_mode(0o755)).expect("ours");
    let said = refused();
    assert!(said.contains("is version 6.2.0: at least 7.2 is needed"), "{said}");
}

#[test]
fn it_tells_its_version() {
    let output = Command::new(env!("CARGO_BIN_EXE_dynmemd")).arg("--version").output().expect("it runs");
    assert_eq!(
        String::from_utf8(output.stdout).expect("text").trim(),
        format!("dynmemd {}", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn a_second_daemon_is_refused_whether_it_wants_the_state_or_the_socket() {
    let folder = Folder::new();
    let first = folder.settings("first.toml", "state", "s.sock");
    let running = Running::start(&first, &folder.path("s.sock"));
    let said = refused(&folder.settings("a.toml", "state", "other.sock"));
    assert!(said.contains("Another dynmemd uses state directory"), "{said}");
    let said = refused(&folder.settings("b.toml", "other", "s.sock"));
    assert!(said.contains("Another dynmemd uses socket"), "{said}");
    // A killed daemon leaves its socket; the next one is not hindered by it.
    running.signal(Signal::KILL);
    drop(running);
    assert!(folder.path("s.sock").exists());
    let running = Running::start(&first, &folder.path("s.sock"));
    let mode = fs::metadata(folder.path("s.sock")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    drop(running);
}

#[test]
fn sigterm_ends_it_in_order() {
    let folder = Folder::new();
    let settings = folder.settings("c.toml", "state", "s.sock");
    let mut running = Running::start(&settings, &folder.path("s.sock"));
    running.signal(Signal::TERM);
    let status = running.0.wait().expect("it ends");
    let mut said = String::new();
    running.0.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(!folder.path("s.sock").exists(), "its socket is gone");
    assert!(!said.contains('\u{1b}'), "no colours into a file: {said}");
}

#[test]
fn the_service_manager_is_told_when_it_serves() {
    let folder = Folder::new();
    let settings = folder.settings("c.toml", "state", "s.sock");
    let manager = std::os::unix::net::UnixDatagram::bind(folder.path("notify")).expect("a socket");
    manager.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
    let child = dynmemd(&settings).env("NOTIFY_SOCKET", folder.path("notify")).spawn().expect("it runs");
    let running = Running(child);
    let mut message = [0; 64];
    let length = manager.recv(&mut message).expect("it tells");
    assert_eq!(&message[..length], b"READY=1");
    std::os::unix::net::UnixStream::connect(folder.path("s.sock")).expect("and serves by then");
    drop(running);
}

#[test]
fn sighup_ends_nothing() {
    let folder = Folder::new();
    let settings = folder.settings("c.toml", "state", "s.sock");
    let mut running = Running::start(&settings, &folder.path("s.sock"));
    running.signal(Signal::HUP);
    running.signal(Signal::TERM);
    let status = running.0.wait().expect("it ends");
    assert_eq!(status.code(), Some(0), "by the second signal, in order");
}

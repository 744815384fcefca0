//! What people type and read, with the real daemon and imitated machines: each
//! transcript has a daemon of its own, with 4 GiB of which 512 MiB are the
//! host's. After a wanted change of words:
//! `TRYCMD=overwrite cargo test -p dynmem-cli --test daemon`, and read the
//! difference.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A daemon that ends, and whose folder goes, with the test.
struct Daemon {
    child: Child,
    directory: TempDir,
}

impl Daemon {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let settings = format!(
            "state_dir = \"{0}/state\"\nsocket = \"{0}/api.sock\"\nbackend = \"fake\"\naccelerator = \"tcg\"\n\
             [host]\nmemory = \"4GB\"\nreserve = \"512MB\"\n",
            directory.path().display()
        );
        let file = directory.path().join("dynmemd.toml");
        fs::write(&file, settings).expect("written");
        let mut child = Command::new(dynmemd())
            .arg("--config")
            .arg(&file)
            .env_remove("DYNMEM_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .expect("dynmemd runs");
        let log = BufReader::new(child.stderr.take().expect("piped"));
        let mut lines = log.lines().map_while(Result::ok);
        let mut said = String::new();
        while !said.contains(" started: ") {
            said = lines.next().unwrap_or_else(|| panic!("dynmemd ended; it said: {said}"));
        }
        thread::spawn(move || lines.for_each(drop)); // a full pipe would stop it
        Self { child, directory }
    }

    fn transcript(&self, name: &str) {
        trycmd::TestCases::new()
            .env("DYNMEM_SOCKET", self.directory.path().join("api.sock").to_string_lossy())
            .env("LANG", "C.UTF-8")
            .case(format!("tests/daemon/{name}.trycmd"));
    }
}

impl Daemon {
    /// Waits until so many guests run and report; the test runner's own limit
    /// ends a wait for what never comes.
    fn await_running(&self, wanted: usize) {
        let mut watch = Command::new(env!("CARGO_BIN_EXE_dynmem"))
            .args(["--json", "watch", "--interval", "0.1"])
            .env("DYNMEM_SOCKET", self.directory.path().join("api.sock"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("dynmem runs");
        let frames = BufReader::new(watch.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let running = |frame: &String| {
            let frame: serde_json::Value = serde_json::from_str(frame).expect("JSON");
            let vms = frame["vms"].as_array().expect("a list");
            vms.iter().filter(|vm| vm["state"] == "running" && vm["integration"] == "agent").count()
        };
        let came = frames.map(|frame| running(&frame)).any(|count| count == wanted);
        let _ = watch.kill(); // it may have ended by itself, and then it did not come
        let _ = watch.wait();
        assert!(came, "{wanted} guests never ran");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM); // it may have ended by itself
        let ended = self.child.wait().expect("our child");
        assert!(ended.success() || thread::panicking(), "dynmemd ended with {ended}");
    }
}

/// The daemon of this source, built like `dynmem`.
fn dynmemd() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let path = Path::new(env!("CARGO_BIN_EXE_dynmem")).with_file_name("dynmemd");
        let profile: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };
        let built = Command::new(env!("CARGO")).args(["build", "--quiet", "-p", "dynmemd"]).args(profile).status();
        assert!(built.expect("cargo runs").success(), "dynmemd is not built");
        path
    })
}

#[test]
fn vms_are_defined_and_changed_and_forgotten() {
    Daemon::start().transcript("definitions");
}

#[test]
fn vms_start_and_run_and_stop() {
    let daemon = Daemon::start();
    daemon.transcript("start");
    daemon.await_running(2);
    daemon.transcript("running");
}

#[test]
fn lines_of_hyper_vs_cmdlets_work_as_they_are() {
    Daemon::start().transcript("hyperv");
}

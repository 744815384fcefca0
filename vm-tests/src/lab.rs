//! [`Lab`]: one daemon on a private folder, and everything that runs on it.
//!
//! ```text
//! <temporary folder>/dynmemd.toml   what the daemon is told
//!                   /dynmemd.log    what it says
//!                   /dynmem.sock    its API
//!                   /state/         definitions, events, run/<vm>/ with sockets
//!                   /guests/        QEMU's: swap of the guests, their workloads' sockets
//! ```
//!
//! The daemon can be killed and started again under the same folder; dropping
//! the lab ends everything. [`Lab::finish`] ends it in order and reports what
//! the daemon should have cleaned up and did not.

use std::{
    fs::{self, File, Permissions},
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use dynmem_api::{Client, ClientError, StopMode, StopRequest, VmView};
use dynmem_footprint::{self as footprint, Footprint};
use dynmem_units::Bytes;
use rustix::process::Signal;

use crate::{
    Binaries, Monitor,
    wait::{Seen, until},
};

/// A daemon answers within a second; on a crowded machine, later.
const DAEMON_UP: Duration = Duration::from_secs(30);
/// A clean end of a daemon that leaves its guests alone.
const DAEMON_DOWN: Duration = Duration::from_secs(30);
/// How much of the daemon's log is shown when something went wrong.
const LOG_TAIL_BYTES: u64 = 4096;

/// What the daemon is told.
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// The pool.
    pub memory: Bytes,
    /// The part of the pool that is never lent.
    pub reserve: Bytes,
    /// `qemu`, or `fake` for machines without guests.
    pub backend: &'static str,
    /// `auto`, `kvm` or `tcg`.
    pub accelerator: &'static str,
    /// The user that QEMU runs as; `auto` where we are not root.
    pub qemu_user: &'static str,
    /// Where the daemon is.
    pub binaries: Binaries,
}

impl LabOptions {
    /// Real guests on a pool of `memory`, without a reserve.
    pub fn with_pool(memory: Bytes, binaries: Binaries) -> Self {
        // Whatever users this host has: QEMU is to read our folder.
        let qemu_user = if rustix::process::geteuid().is_root() { "root" } else { "auto" };
        Self { memory, reserve: Bytes::ZERO, backend: "qemu", accelerator: "auto", qemu_user, binaries }
    }
}

/// A daemon on a private folder.
#[derive(Debug)]
pub struct Lab {
    options: LabOptions,
    client: Client,
    daemon: Option<Child>,
    finished: bool,
    footprint: Footprint, // dropped last of all that matters: it ends the rest
}

impl Lab {
    /// Starts a daemon and waits until it answers.
    pub async fn start(options: LabOptions) -> Result<Self> {
        let footprint = Footprint::new().context("Could not make a temporary folder")?;
        let client = Client::new(footprint.path().join("dynmem.sock"));
        let mut lab = Self { options, client, daemon: None, finished: false, footprint };
        fs::create_dir(lab.state_dir())?;
        fs::create_dir(lab.guests_dir())?;
        lab.hand_over(&lab.guests_dir())?;
        fs::write(lab.config_path(), lab.config())?;
        lab.start_daemon().await?;
        Ok(lab)
    }

    /// The API.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Where the API is.
    pub fn socket(&self) -> PathBuf {
        self.root().join("dynmem.sock")
    }

    /// What the daemon was told.
    pub fn options(&self) -> &LabOptions {
        &self.options
    }

    /// The private folder.
    pub fn root(&self) -> &Path {
        self.footprint.path()
    }

    /// The daemon's state folder.
    pub fn state_dir(&self) -> PathBuf {
        self.root().join("state")
    }

    /// A machine's run-time folder, with its sockets.
    pub fn run_dir(&self, vm: &str) -> PathBuf {
        self.state_dir().join("run").join(vm)
    }

    /// Where QEMU makes and opens what the tests and the guests share.
    pub(crate) fn guests_dir(&self) -> PathBuf {
        self.root().join("guests")
    }

    /// Gives a file to QEMU's user, and lets it come there.
    pub fn hand_over(&self, path: &Path) -> Result<()> {
        if ["root", "auto"].contains(&self.options.qemu_user) {
            return Ok(());
        }
        fs::set_permissions(self.root(), Permissions::from_mode(0o711))?;
        let status = Command::new("chown").arg(self.options.qemu_user).arg(path).status()?;
        anyhow::ensure!(status.success(), "Could not give {} to {}", path.display(), self.options.qemu_user);
        Ok(())
    }

    /// The daemon's process.
    pub fn daemon_pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Child::id)
    }

    /// A connection to QEMU itself.
    pub async fn monitor(&self, vm: &str) -> Result<Monitor> {
        Monitor::connect(&self.run_dir(vm).join("monitor.sock")).await
    }

    /// Starts the daemon, after [`Lab::kill_daemon`] or [`Lab::stop_daemon`],
    /// and waits until it answers.
    pub async fn start_daemon(&mut self) -> Result<()> {
        self.spawn_daemon()?;
        until("the daemon's first answer", DAEMON_UP, async || {
            if let Some(status) = self.daemon.as_mut().and_then(|child| child.try_wait().ok()?) {
                bail!("dynmemd ended with {status}:\n{}", self.log_tail());
            }
            match self.client.version().await {
                Ok(_) => Ok(Seen::Ready(())),
                Err(error) => Ok(Seen::NotYet(error.to_string())),
            }
        })
        .await
    }

    /// Starts the daemon and does not wait for it.
    pub fn spawn_daemon(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new(self.options.binaries.dynmemd()?);
        command.arg("--config").arg(self.config_path()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A group of its own: Ctrl-C is ours to hear and to act upon.
        command.process_group(0);
        self.daemon = Some(command.spawn().context("Could not start dynmemd")?);
        Ok(())
    }

    /// Ends the daemon with SIGKILL, as a crash would. Guests run on.
    pub fn kill_daemon(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("No daemon runs")?;
        daemon.kill().and_then(|()| daemon.wait()).context("Could not kill dynmemd")?;
        Ok(())
    }

    /// Ends the daemon with SIGTERM and waits for it. Guests run on.
    pub async fn stop_daemon(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("No daemon runs")?;
        footprint::kill(daemon.id(), Signal::TERM);
        let ended = until("the daemon's end after SIGTERM", DAEMON_DOWN, async || {
            Ok(daemon.try_wait()?.map_or(Seen::NotYet("it runs".to_owned()), Seen::Ready))
        })
        .await;
        match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => bail!("dynmemd ended with {status} after SIGTERM:\n{}", self.log_tail()),
            Err(error) => {
                daemon.kill().and_then(|()| daemon.wait())?;
                Err(error)
            }
        }
    }

    /// Ends a machine's process with SIGKILL, as a crash of QEMU would.
    pub async fn kill_machine(&self, vm: &str) -> Result<()> {
        let pid = self.client.vm(vm).await?.pid.with_context(|| format!("{vm} has no process"))?;
        let ours = footprint::processes(self.root()).iter().any(|(ours, _)| *ours == pid);
        anyhow::ensure!(ours, "Process {pid}, which the daemon names for {vm}, is not a machine of this lab");
        footprint::kill(pid, Signal::KILL);
        Ok(())
    }

    /// Sends a signal to a machine's process, whether a daemon runs or not.
    pub fn signal_machine(&self, vm: &str, signal: Signal) -> Result<()> {
        let path = self.run_dir(vm).join("qemu.pid");
        let text = fs::read_to_string(&path).with_context(|| format!("{vm} has no process: {}", path.display()))?;
        let pid = text.trim().parse().with_context(|| format!("{} holds {text:?}", path.display()))?;
        let ours = footprint::processes(self.root()).iter().any(|(ours, _)| *ours == pid);
        anyhow::ensure!(ours, "Process {pid}, which {} names, is not a machine of this lab", path.display());
        footprint::kill(pid, signal);
        Ok(())
    }

    /// Waits until a VM is as `condition` wants it. A daemon that is down for
    /// a moment is waited for.
    pub async fn until_vm(
        &self,
        name: &str,
        what: &str,
        limit: Duration,
        condition: impl Fn(&VmView) -> bool,
    ) -> Result<VmView> {
        until(&format!("{name}: {what}"), limit, async || match self.client.vm(name).await {
            Ok(vm) if condition(&vm) => Ok(Seen::Ready(vm)),
            Ok(vm) => Ok(Seen::NotYet(summary(&vm))),
            Err(error @ ClientError::Refused(_)) => Err(error.into()),
            Err(error) => Ok(Seen::NotYet(error.to_string())),
        })
        .await
    }

    /// Switches all machines off, ends the daemon, and names what is left that
    /// should not be.
    pub async fn finish(mut self) -> Result<Vec<String>> {
        let force = StopRequest { mode: StopMode::Force, ..StopRequest::default() };
        for vm in self.client.vms().await? {
            if vm.state.is_on() {
                self.client.stop(&vm.name, &force).await.with_context(|| format!("Could not stop {}", vm.name))?;
            }
        }
        self.stop_daemon().await?;
        self.finished = true;
        Ok(self.leftovers())
    }

    /// What outlived the daemon and its machines: processes, their folders'
    /// sockets, their groups, smart paging files, and files that were never
    /// finished.
    fn leftovers(&self) -> Vec<String> {
        let processes =
            footprint::processes(self.root()).into_iter().map(|(pid, name)| format!("process {pid} ({name})"));
        let groups = footprint::groups(self.root()).into_iter().filter(|group| footprint::is_of_a_machine(group));
        let groups = groups.map(|group| format!("group {}", group.display()));
        let unfinished = files(&self.state_dir().join("vms")).filter(|path| path.extension() == Some("tmp".as_ref()));
        let unfinished = unfinished.map(|path| format!("file {}", path.display()));
        let swap = footprint::swap_files(self.root()).into_iter().map(|area| format!("swap {}", area.path.display()));
        let paging = files(&self.state_dir().join("paging")).map(|path| format!("file {}", path.display()));
        let sockets = sockets(&self.state_dir().join("run"));
        processes.chain(sockets).chain(groups).chain(unfinished).chain(swap).chain(paging).collect()
    }

    /// The end of what the daemon said.
    pub fn log_tail(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut log = File::open(self.log_path())?;
            let start = log.metadata()?.len().saturating_sub(LOG_TAIL_BYTES);
            log.seek(SeekFrom::Start(start))?;
            let mut tail = Vec::new();
            log.read_to_end(&mut tail)?;
            Ok(String::from_utf8_lossy(&tail).into_owned())
        };
        read().unwrap_or_else(|error| format!("(no log: {error})"))
    }

    fn log_path(&self) -> PathBuf {
        self.root().join("dynmemd.log")
    }

    fn config_path(&self) -> PathBuf {
        self.root().join("dynmemd.toml")
    }

    fn config(&self) -> String {
        let LabOptions { memory, reserve, backend, accelerator, qemu_user, .. } = &self.options;
        format!(
            "state_dir = '{state}'\nsocket = '{socket}'\nbackend = \"{backend}\"\naccelerator = \"{accelerator}\"\n\n\
             [qemu]\nuser = \"{qemu_user}\"\n\n[host]\nmemory = \"{memory}\"\nreserve = \"{reserve}\"\ncgroup = \"{groups}\"\n",
            groups = footprint::group_name(self.root()),
            state = self.state_dir().display(),
            socket = self.socket().display(),
        )
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.finished && !footprint::interrupted() {
            eprintln!("The lab ended early. The daemon's last words:\n{}", self.log_tail());
        }
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill().and_then(|()| daemon.wait());
        }
    }
}

/// True if a VM has its demand and its buffer. A quarter of the buffer, or
/// 8 MiB of it, may be missing: the engine does not move memory for less.
pub fn is_served(vm: &VmView) -> bool {
    let buffer = vm.target_bytes.saturating_sub(vm.demand_bytes);
    let spared = buffer.scale(1, 4).max(Bytes::from_mib(8)).min(buffer);
    vm.assigned_bytes.saturating_add(spared) >= vm.target_bytes
}

/// How a VM stands, in one line.
pub fn summary(vm: &VmView) -> String {
    let reason = vm.state_reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!(
        "{}{reason}, assigned {} MiB (ballooned {}, plugged {}), demand {} MiB, target {} MiB, integration {}, driver {:?}",
        vm.state,
        vm.assigned_bytes.mib(),
        vm.ballooned_bytes.mib(),
        vm.plugged_bytes.mib(),
        vm.demand_bytes.mib(),
        vm.target_bytes.mib(),
        vm.integration,
        vm.driver,
    )
}

/// Sockets below `folder`.
fn sockets(folder: &Path) -> Vec<String> {
    use std::os::unix::fs::FileTypeExt as _;
    let is_socket = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let found = files(folder).flat_map(|machine| files(&machine)).filter(is_socket);
    found.map(|path| format!("socket {}", path.display())).collect()
}

/// What is in `folder`.
fn files(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

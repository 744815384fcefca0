//! A machine's process, until it is QEMU.
//!
//! ```text
//!  daemon: sockets, interfaces, log, pid file, control groups ── opened here
//!     │ fork
//!     ▼ a session of its own ▶ control groups ▶ pid file ▶ QEMU's user ▶ exec
//! ```
//!
//! QEMU inherits what listens and is given no directory to make it in. So the
//! run-time directory stays the daemon's alone, and a QEMU that its guest has
//! taken over finds no file there to write and no name to replace.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{net::UnixListener, process::CommandExt},
    },
    path::Path,
    process::{Command, Stdio},
};

use rustix::io::{FdFlags, fcntl_setfd};

use crate::{
    Launch, LaunchError, MachinePlan, Qemu, RunDir,
    command_line::{Inherited, command_line},
    process::RealProcess,
    user::Identity,
};

/// Starts QEMU on a directory that was prepared for it. `taps` are the
/// interfaces on bridges, in the order of the definition's.
pub(crate) fn spawn(
    qemu: &Qemu,
    dir: &RunDir,
    launch: &Launch,
    plan: &MachinePlan,
    taps: Vec<OwnedFd>,
) -> Result<RealProcess, LaunchError> {
    let log = OpenOptions::new().create(true).append(true).open(dir.log());
    let log = log.map_err(failed("write", &dir.log()))?;
    let copy = || log.try_clone().map_err(failed("write", &dir.log()));
    let (output, mark) = (copy()?, copy()?);
    let [qmp, monitor, console, agent] = [dir.qmp(), dir.monitor(), dir.console(), dir.agent()]
        .map(|socket| UnixListener::bind(&socket).map(OwnedFd::from).map_err(failed("listen on", &socket)));
    let sockets = [qmp?, monitor?, console?, agent?];
    let inherited = Inherited {
        run_dir: dir.path(),
        mark: mark.as_raw_fd(),
        sockets: sockets.each_ref().map(AsRawFd::as_raw_fd),
        taps: taps.iter().map(AsRawFd::as_raw_fd).collect(),
    };
    let mut command = Command::new(qemu.program());
    command
        .args(command_line(&launch.definition, plan, &inherited, qemu.sandbox()))
        .current_dir(dir.path())
        .env_remove("NOTIFY_SOCKET") // the service manager's business with the daemon only
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(log);
    let groups = launch.cgroups.iter().map(|group| {
        let procs = OpenOptions::new().write(true).open(group.join("cgroup.procs"));
        procs.map_err(failed("join control group", group))
    });
    let child = Child {
        groups: groups.collect::<Result<_, _>>()?,
        pid_file: File::create(dir.pid_file()).map_err(failed("write", &dir.pid_file()))?,
        identity: qemu.user().map(Identity::of),
        inherited: sockets.into_iter().chain(taps).chain([mark.into()]).collect(),
    };
    child.act_before_exec_of(&mut command);
    RealProcess::spawn(&mut command).map_err(failed("start", qemu.program()))
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LaunchError {
    let path = path.to_owned();
    move |source| LaunchError::Io { doing, path, source }
}

/// What a child does between fork and exec, all of it opened before.
struct Child {
    groups: Vec<File>,
    pid_file: File,
    identity: Option<Identity>,
    inherited: Vec<OwnedFd>,
}

impl Child {
    fn become_qemu(&mut self) -> io::Result<()> {
        rustix::process::setsid()?;
        // While it is still the daemon's user: QEMU's has no right to them.
        self.groups.iter().try_for_each(|mut procs| procs.write_all(b"0"))?;
        writeln!(self.pid_file, "{}", rustix::process::getpid())?;
        for file in &self.inherited {
            fcntl_setfd(file, FdFlags::empty())?;
        }
        self.identity.as_ref().map_or(Ok(()), Identity::take_on)
    }

    #[expect(unsafe_code, reason = "the standard library has no other way to act between fork and exec")]
    fn act_before_exec_of(mut self, command: &mut Command) {
        // SAFETY: between fork and exec only async-signal-safe things may
        // happen. `become_qemu` makes system calls on what was opened before,
        // and neither allocates (a number is formatted in place) nor locks.
        unsafe {
            command.pre_exec(move || self.become_qemu());
        }
    }
}

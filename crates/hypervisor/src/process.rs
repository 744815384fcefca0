//! [`Process`]: a machine's process. Its end is seen through a pidfd, whether
//! it is our child or was adopted, and a child is reaped.

use std::{
    fmt, fs,
    io::{self, ErrorKind},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::Command,
    time::Duration,
};

use rustix::{
    param::clock_ticks_per_second,
    process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid},
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::fake::FakeProcess;

/// How a machine's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineExit {
    /// With this exit code; 0 is a clean end.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It was adopted: only that it is gone can be known.
    Unknown,
}

impl fmt::Display for MachineExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Unknown => f.write_str("exit code unknown"),
        }
    }
}

/// A machine's process, alive or not.
#[derive(Debug)]
pub(crate) enum Process {
    Real(RealProcess),
    Fake(FakeProcess),
}

impl Process {
    /// Waits for the end. May be dropped and called again, also after the end.
    pub(crate) async fn exited(&mut self) -> MachineExit {
        match self {
            Self::Real(process) => process.exited().await,
            Self::Fake(process) => process.exited().await,
        }
    }

    /// Ends it at once; nothing if it has ended.
    pub(crate) fn kill(&self) {
        match self {
            Self::Real(process) => process.kill(),
            Self::Fake(process) => process.kill(),
        }
    }

    /// Its number, if it has one.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Real(process) => Some(process.pid()),
            Self::Fake(_) => None,
        }
    }

    /// Processor time that it has used.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        self.pid().and_then(|pid| ProcessStat::read(pid).ok()).map(|stat| stat.cpu_time)
    }
}

/// A process of the operating system.
#[derive(Debug)]
pub(crate) struct RealProcess {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
    child: bool,
    exit: Option<MachineExit>,
}

impl RealProcess {
    /// Starts a child.
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Self> {
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        // Until it is reaped, and nobody else does that, the number is its own.
        Self::open(pid, true)
    }

    /// Takes over process `pid`, if it is the one that was started at
    /// `start_ticks` and works in `run_dir`. `None` if that one has ended.
    pub(crate) fn adopt(pid: u32, start_ticks: Option<u64>, run_dir: &Path) -> io::Result<Option<Self>> {
        let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        let process = match Self::open(number, false) {
            Ok(process) => process,
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => return Ok(None),
            Err(error) => return Err(error),
        };
        // The pidfd is open: from here on the number can't become another's
        // without the checks below seeing the other or nothing at all.
        let Ok(stat) = ProcessStat::read(pid) else { return Ok(None) };
        if stat.zombie || start_ticks.is_some_and(|ticks| ticks != stat.start_ticks) {
            return Ok(None);
        }
        let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let ours = contains(&command_line, run_dir.as_os_str().as_encoded_bytes());
        Ok(ours.then_some(process))
    }

    #[expect(unsafe_code, reason = "the runtime can't check what it registers")]
    fn open(pid: Pid, child: bool) -> io::Result<Self> {
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        // SAFETY: an `OwnedFd` is open, always gives the same descriptor, and
        // is neither replaced nor closed while the `AsyncFd` owns it.
        let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE)? };
        Ok(Self { pid, pidfd, child, exit: None })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    pub(crate) async fn exited(&mut self) -> MachineExit {
        if let Some(exit) = self.exit {
            return exit;
        }
        let _ = self.pidfd.readable().await; // an error can only mean that the runtime ends
        let exit = if self.child { self.reap() } else { MachineExit::Unknown };
        self.exit = Some(exit);
        exit
    }

    fn reap(&self) -> MachineExit {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let Ok(Some(status)) = waitid(WaitId::PidFd(self.pidfd.get_ref().as_fd()), options) else {
            return MachineExit::Unknown;
        };
        let signal = status.terminating_signal().map(MachineExit::Signal);
        status.exit_status().map(MachineExit::Code).or(signal).unwrap_or(MachineExit::Unknown)
    }

    pub(crate) fn kill(&self) {
        if self.exit.is_none() {
            let _ = pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL); // it may have ended already
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// The fields that we need of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessStat {
    pub(crate) start_ticks: u64,
    pub(crate) cpu_time: Duration,
    pub(crate) zombie: bool,
}

impl ProcessStat {
    pub(crate) fn read(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&text).ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "/proc/PID/stat is not understood"))
    }

    /// Everything after the last `)`: the program's name may hold anything.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect(); // the first is field 3, the state
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let ticks = number(14)?.checked_add(number(15)?)?;
        let cpu_time = Duration::from_millis(ticks.saturating_mul(1000) / clock_ticks_per_second().max(1));
        Some(Self { start_ticks: number(22)?, cpu_time, zombie: *fields.first()? == "Z" })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    fn sleep(seconds: &str) -> Command {
        let mut command = Command::new("sleep");
        command.arg(seconds).stdout(Stdio::null()).stderr(Stdio::null()); // a failed test's pipes must close
        command
    }

    #[tokio::test]
    async fn only_the_process_that_was_recorded_is_adopted() {
        let mut child = RealProcess::spawn(&mut sleep("60.125")).expect("a child");
        let (pid, ours) = (child.pid(), Path::new("60.125"));
        // Between fork and exec the command line is still this program's.
        while RealProcess::adopt(pid, None, ours).expect("readable").is_none() {
            tokio::task::yield_now().await;
        }
        let ticks = ProcessStat::read(pid).expect("it lives").start_ticks;
        let adopt = |ticks, dir| RealProcess::adopt(pid, Some(ticks), Path::new(dir)).expect("readable").is_some();
        assert!(adopt(ticks, "60.125"));
        assert!(!adopt(ticks + 1, "60.125"), "started at another time");
        assert!(!adopt(ticks, "/run/web01"), "works for another machine");
        child.kill();
        assert_eq!(child.exited().await, MachineExit::Signal(9));
        assert!(!adopt(ticks, "60.125"), "gone");
        assert_eq!(child.exited().await, MachineExit::Signal(9), "asked again, told again");
        for nonsense in [0, u32::MAX] {
            assert!(RealProcess::adopt(nonsense, None, ours).expect("no error").is_none());
        }
    }

    #[tokio::test]
    async fn an_adopted_process_tells_its_end_without_a_code() {
        let mut child = RealProcess::spawn(&mut sleep("60.250")).expect("a child");
        let mut adopted = RealProcess::open(child.pid, false).expect("it lives");
        adopted.kill();
        assert_eq!(adopted.exited().await, MachineExit::Unknown);
        child.exited().await; // reaps it
    }

    #[test]
    fn a_programs_name_can_not_forge_its_figures() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 100 50 0 0 0 0 0 0 777 0";
        let stat = ProcessStat::parse(&format!("42 (a) Z 9 9 (b) {fields}")).expect("understood");
        assert_eq!((stat.start_ticks, stat.zombie), (777, false));
        assert_eq!(stat.cpu_time.as_millis(), u128::from(150_000 / clock_ticks_per_second()));
        assert_eq!(ProcessStat::parse("42 (qemu) S 1 2"), None);
        assert_eq!(ProcessStat::parse(""), None);
    }
}
